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

/* The names of one step. now[s] is symbol s: an input, parameter or value; of a state, its value before the step; next[s]
 * its value after it. A zeroed var: not yet. */
struct wg_step {
    wg_tape *tape;
    const wg_cell *cell;
    int64_t input, hidden, batch, number; /* number: of the step, from 1 */
    wg_dtype dtype;
    bool training;
    wg_var key;
    wg_var *now, *next;
    uint32_t *origin;  /* by equation */
    wg_named *extra;   /* values a C step named beside the declared ones */
    int64_t extras, extra_room;
};

/* Records the cell's equations for one step, or calls its C function. */
wg_status wg__step_record(wg_step *step);

/* A number in sizes and consts, for these sizes; the tape fails if it has none. */
double wg__step_number(wg_step *step, const wg_ast *ast);

#endif
