/* cell.h: a cell and one step of it, as the parts of cells/ see them. */
#ifndef WG_CELL_H
#define WG_CELL_H

#include "graph.h"
#include "lang.h"

struct wg_cell {
    wg_memory *memory;
    wg_lang *lang;
    wg_status (*step)(wg_step *step, void *user); /* of a cell written in C; else NULL */
    void *user;
    char *settings; /* the sizes and consts set from outside, one NAME=VALUE a line */
};

/* A value that a C step named beside the declared ones. */
typedef struct wg_extra {
    char *name;
    uint32_t *id; /* [steps]; 0: not given in that step */
} wg_extra;

enum { WG_KNOWN_PRODUCTS = 64 };

/* A product of a step that has no name: how it is written, and the ids of its operands. */
typedef struct wg_step_product {
    const wg_ast *ast;
    uint32_t x, matrix, y;
} wg_step_product;

/* The names of one step. now[s] is symbol s: an input, parameter or value; of a state, its value before the step; next[s]
 * its value after it. A zeroed var: not yet. */
struct wg_step {
    wg_tape *tape;
    const wg_cell *cell;
    int64_t input, hidden, batch, steps, number; /* number: of the step, from 1 */
    wg_dtype dtype;
    bool training;
    wg_var key;
    wg_var *now, *next;
    wg_shape *shape;   /* by symbol: of inputs, states and parameters, for these sizes */
    double *constant;  /* by symbol: the value of a size or const; NaN: not asked for yet */
    uint32_t *origin;  /* by equation */
    wg_var *index;     /* what index(n) gave, once for every n */
    int64_t indices, index_room;
    wg_extra *extra;
    int64_t extras, extra_room;
    wg_step_product product[WG_KNOWN_PRODUCTS]; /* the last ones, in turn */
    int64_t products;                           /* in all */
};

/* Records the cell's equations for one step, or calls its C function. */
wg_status wg__step_record(wg_step *step);

/* A number in sizes and consts, for these sizes; the tape fails if it has none. */
double wg__step_number(wg_step *step, const wg_ast *ast);

#endif
