/* unrolled.h: a cell recorded over some steps with drawn parameters and made-up arrays, for
 * subcommands that look at a graph rather than at its values. */
#ifndef WG_TOOLS_UNROLLED_H
#define WG_TOOLS_UNROLLED_H

#include "output.h"

typedef struct unrolled_sizes {
    int64_t steps, batch, input, hidden;
    wg_dtype dtype;
    bool gradient; /* of the sum of the outputs and final states, by all that follows */
} unrolled_sizes;

typedef struct unrolled {
    wg_tape *tape;
    wg_params *arrays; /* inputs, initial states, parameters, by name */
    wg_unroll *unroll;
    int outputs;
    wg_var *output; /* the output, final states; then the gradients */
} unrolled;

/* Inputs and initial states N(0, 1), parameters N(0, 1/fan_in), from the seed. NULL, having said
 * what is wrong. */
wg_params *unrolled_arrays(const common *c, const wg_cell *cell, const unrolled_sizes *sizes,
                           uint64_t seed);
/* The graph of such arrays. Returns 0, or 1 having said what is wrong; free
 * it in either case. */
int unrolled_make(const common *c, const wg_cell *cell, const unrolled_sizes *sizes, uint64_t seed,
                  unrolled *u);
void unrolled_free(unrolled *u);

#endif
