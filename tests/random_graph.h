/* random_graph.h: random small graphs made from the records of ops.def, for comparing executors; the rule by which their
 * results are compared; what the graphs covered. Uses the public header, tape.h and ops.h. */
#ifndef WG_RANDOM_GRAPH_H
#define WG_RANDOM_GRAPH_H

#include <stdio.h>

#include "ops.h"

enum { RANDOM_OUTPUTS = 8, RANDOM_OPS = 512 };

/* What the graphs made so far contain. Zero it first. */
typedef struct random_coverage {
    int64_t op[RANDOM_OPS];         /* by index in wg_op_list: recorded nodes, and calls of composites */
    int64_t rank[WG_MAX_RANK + 1];  /* nodes of each rank */
    int64_t empty, single, large;   /* nodes with no element, with one, with more than 2048 */
    int64_t broadcast, strided;     /* views that repeat, views that exchange axes or slice */
    int64_t graphs, nodes, gradients, tangents, recurrences, nonfinite;
} random_coverage;

/* Records a random graph of about `size` ops on the tape and writes its outputs (1 to RANDOM_OUTPUTS vars) to out; returns
 * how many. All floats are of `dtype`: one seed gives the same graph with the same leaf values (f32 numbers) in
 * f32 and f64, provided the tape is new. Contains every op of the list that is not an effect: pointwise ones on
 * broadcast operands, others by their examples, random views, unrolled recurrences with step marks, gradients (one in two
 * graphs) and tangents. Values overflow in a few. coverage may be NULL. Returns 0 only when out of memory. */
int random_graph(wg_tape *tape, uint64_t seed, wg_dtype dtype, int size, wg_var *out, random_coverage *coverage);

/* An op of the list that the graphs never had; NULL if they had all. */
const char *random_graph_missing(const random_coverage *coverage);
void random_graph_print(const random_coverage *coverage, FILE *file);

/* The rule: per array, in the maximum norm, the error of `got` against `exact` (the f64 value by wg_eval) is at most 4 times
 * that of `plain` (by wg_eval in got's type) plus 1e-6 (f32) or 1e-14 (f64) of the largest magnitude; NaN and Inf stand
 * where they stand in `plain`. False: says why in text. */
bool random_graph_agree(const wg_tensor *exact, const wg_tensor *plain, const wg_tensor *got, char *text,
                        size_t size);

#endif
