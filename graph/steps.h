/* steps.h: the steps of a program's unrolls and of their derivatives, as they are marked on the tape: which instructions are each
 * one's body, and what their operands are, seen from there. Includes the program. */
#ifndef WG_STEPS_H
#define WG_STEPS_H

#include "program.h"

/* One step: instructions [from, to) of the list, of which `count` belong to its body. */
typedef struct wg_segment {
    uint32_t from, to;
    uint32_t unroll;
    int64_t step;
    uint32_t first, count; /* in wg_steps.body */
    uint32_t run;          /* segments of one run follow each other, by one step each */
    bool plain;            /* its run stays as it is */
    uint32_t loop;         /* for `roll`: 1 + the loop that it became */
} wg_segment;

/* What an operand is, seen from its reader. */
typedef enum wg_sort {
    WG_OUTSIDE, /* value `of`, the same in all steps */
    WG_SAME,    /* instruction `of` of the body, `at` steps back */
    WG_ELEMENT, /* element `at` of array `of` */
    WG_OTHER    /* instruction `of` of the body of segment `at`, which is in another run */
} wg_sort;

typedef struct wg_operand_place {
    wg_sort sort;
    uint32_t of;
    int64_t at;
    int64_t step; /* by which `at` moves from one step to the next */
} wg_operand_place;

#define WG_IN_NO_BODY UINT32_MAX

/* Steps at each end of a loop that may read other things than the rest, chosen by iteration. */
enum { WG_MOST_ENDS = 16 };

typedef struct wg_steps {
    const wg_program *program;
    wg_segment *segments;
    int64_t count, room;
    int64_t *run_length;  /* by run: how many segments */
    uint32_t *in_segment; /* by id: 1 + its segment; 0: none */
    uint32_t *position;   /* by id: in its segment's body, or WG_IN_NO_BODY */
    uint32_t *body;       /* ids, segment by segment */
    uint32_t *array;      /* by id: of a view that is one element of an outside array: that array; else 0 */
    int64_t *element;     /* by id: which element */
} wg_steps;

/* Finds them; false when out of memory. Free them in either case. */
bool wg__steps_find(wg_steps *steps, const wg_program *program);
void wg__steps_free(wg_steps *steps);

static inline bool wg__in_body(const wg_steps *s, uint32_t id) { return s->in_segment[id] && s->position[id] != WG_IN_NO_BODY; }
static inline uint32_t wg__body_of(const wg_steps *s, const wg_segment *g, uint32_t k) { return s->body[g->first + k]; }
wg_operand_place wg__place_of(const wg_steps *steps, uint32_t id, const wg_segment *reader);

/* Whether two instructions are the same op with the same attributes and result; whether two steps are, in the same order. */
bool wg__same_op(const wg_instruction *a, const wg_instruction *b);
bool wg__same_ops(const wg_steps *steps, const wg_segment *a, const wg_segment *b);

#endif
