/* stretch.h: stretches of tasks through which the threads of a run pass without waiting for each other where they need not. Includes the
 * plan. */
#ifndef WG_STRETCH_H
#define WG_STRETCH_H

#include "plan.h"

/* A task of a stretch: a loop, which is the first; a product in tiles; or a small kernel. */
typedef struct wg_stretch_phase {
    int64_t task;   /* of the plan */
    uint32_t id;    /* the instruction; the loop's number */
    bool is_loop, is_product;
    uint32_t after; /* bit k: phase k writes or reads what this one does, and one of them writes it */
    /* Rows of a product that need of the loop so many rows of its stack alone, an iteration's, may be made before it is over. 0: none may. */
    int64_t each;
    bool backward; /* the last iteration's come first */
} wg_stretch_phase;

/* Tasks [first, first + count) of a plan; phases in the order in which threads look for work. */
typedef struct wg_stretch {
    int64_t first;
    int count;
    wg_stretch_phase phase[WG_MOST_PHASES];
} wg_stretch;

/* Finds those of a plan whose loops are made. False when out of memory. */
bool wg__stretches_find(wg_plan *plan);

/* Runs one on the threads that stand by. On failure *failed is the instruction, and the workspace's text says why. */
wg_status wg__stretch_run(wg_workspace *workspace, const wg_stretch *stretch, uint32_t *failed);

#endif
