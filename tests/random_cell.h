/* random_cell.h: random recurrent cells as text, unrolled, with a loss and derivatives, for comparing executors; and what their
 * compiled programs contained. Uses the public header and program.h. */
#ifndef WG_RANDOM_CELL_H
#define WG_RANDOM_CELL_H

#include <stdio.h>

#include "program.h"

enum { RANDOM_CELL_OUTPUTS = 24, RANDOM_CELL_LEAVES = 96 };

/* A cell and what was recorded of it. */
typedef struct random_cell {
    char text[12288];
    char how[512];  /* sizes, loss, what is differentiated: one line */
    bool kinks;     /* it compares numbers: results jump where rounding decides */
    bool stores;    /* a run changes tensors */
    int n;
    wg_var y[RANDOM_CELL_OUTPUTS];
    int leaves;
    wg_tensor *leaf[RANDOM_CELL_LEAVES]; /* held: everything it reads */
} random_cell;

/* Records the cell of a seed on a new tape: 1 or 2 layers over T steps, a loss, gradients by some parameters, inputs and initial
 * states; now and then second derivatives, tangents, updates. All floats are of `dtype`; one seed gives the same text, and the
 * same leaf values (f32 numbers), in both. NULL, or what went wrong. Free it either way. */
const char *random_cell_record(wg_tape *tape, uint64_t seed, wg_dtype dtype, random_cell *made);
void random_cell_free(random_cell *made);

#define RANDOM_CELL_COUNTS(_)                                                                                                  \
    _(rolled, "loops of several steps") _(backward, "of them backward") _(single, "loops of one step")                         \
    _(straight, "cells left without a loop of several steps") _(tiled, "loops in tiles of rows")                               \
    _(whole, "loops whose steps run whole") _(ragged, "loops with a smaller last tile") _(carried, "carries") _(ending, "endings")                  \
    _(moving, "elements of outside arrays") _(stacked, "stacks") _(in_stack, "values made in their stack")                     \
    _(drawn, "draws of all steps") _(last, "values taken from the last step") _(twice, "values with two places") _(regions, "regions")                        \
    _(local, "values that stay in their region") _(spread, "operands of a region that are one element a row")                  \
    _(packed, "packed products") _(paired, "of them of two pairs of operands") _(alone, "of them of one row") _(pieces, "matrices packed of pieces") _(bundled, "results made of outputs") _(merged, "slices of merged products") _(joined, "products of operands side by side")         \
    _(in_parts, "concats made in parts") _(before, "products of all steps at once, before or after a loop")                    \
    _(accumulated, "products added to a sum") _(copies, "dense copies in loops")                          \
    _(bypassed, "values kept past the caches") _(over, "stacks that take over an array") _(over_parts, "of them made of parts")

/* How many of each the programs looked at contained. Zero it first. */
typedef struct random_cell_coverage {
    int64_t cells;
#define COUNT(name, words) int64_t name;
    RANDOM_CELL_COUNTS(COUNT)
#undef COUNT
} random_cell_coverage;

void random_cell_cover(random_cell_coverage *coverage, const wg_program *program);
/* What was in none of them; NULL if nothing. */
const char *random_cell_missing(const random_cell_coverage *coverage);
void random_cell_print(const random_cell_coverage *coverage, FILE *file);

#endif
