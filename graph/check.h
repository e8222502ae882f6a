/* check.h: derivatives checked against differences: of any recorded graph, and of an op from its record alone. What
 * `wengert check` and the tests run. Includes graph.h only. */
#ifndef WG_CHECK_H
#define WG_CHECK_H

#include "graph.h"

/* What is checked, of each example. */
#define WG_CHECK_MAP(X)                                                                            \
    X(RECORD, "recording", "the graph records and runs, and the op has an example")                \
    X(FIRST, "first order", "J^T u, in reverse, against central differences of <u, y>")            \
    X(SECOND, "second order", "the gradient of <v, J^T u> against central differences of it")      \
    X(FORWARD, "forward", "<u, J v> in forward mode equals <J^T u, v>")                            \
    X(MIXED, "mixed modes", "forward over reverse, and reverse over forward, equal reverse twice") \
    X(F32, "f32", "values and gradients in f32 against those in f64")                              \
    X(I32, "i32", "values in i32 equal those in f64, where the op takes i32")                      \
    X(STRIDED, "strided", "inputs that are permuted, sliced or repeated views change nothing")

typedef enum wg_check_kind {
#define WG_CHECK_ENUM(name, label, sentence) WG_CHECK_##name,
    WG_CHECK_MAP(WG_CHECK_ENUM)
#undef WG_CHECK_ENUM
    WG_CHECK_KINDS
} wg_check_kind;
const char *wg__check_label(wg_check_kind kind);
const char *wg__check_sentence(wg_check_kind kind);

/* One comparison. */
typedef struct wg_check_line {
    const char *name;    /* of the op or graph */
    const char *example; /* the inputs, as in wg_example; "c" is a bare constant */
    wg_check_kind kind;
    double error; /* the worst, relative to the largest element of its array (at least 1) */
    bool passed;
    wg_status status; /* if it failed: WG_DERIVATIVE, or what recording or running gave */
    const char *text; /* and where and what */
} wg_check_line;

/* How to check, and how many comparisons were made. Zeroed but for what is wanted. Points are drawn from `seed`: a point
 * lies within 1e-4 of a kink with a probability of that order, so a fixed seed that passes goes on passing. */
typedef struct wg_check {
    wg_memory *memory;
    uint64_t seed;
    double tolerance; /* of derivatives against differences; 0: 1e-6 */
    unsigned kinds;   /* bit k: do kind k; 0: all */
    bool rough;       /* what is checked computes in f32 whatever it is given: 1e-2 then */
    void (*report)(void *user, const wg_check_line *line); /* of every comparison; may be NULL */
    void *user;
    int64_t done, failed;
} wg_check;

/* A graph at a point: floats of x are f64 (copied, not changed). `optional`: a graph that refuses these shapes is passed
 * over. WG_OK even if comparisons fail; else WG_MEMORY or WG_LIMIT. */
typedef struct wg_check_case {
    const char *name, *example;
    wg_check_graph *graph;
    void *user;
    int n;
    wg_tensor *const *x;
    bool optional;
} wg_check_case;
wg_status wg__check_graph(wg_check *check, const wg_check_case *at);

/* Counts and reports one comparison. */
void wg__check_line(wg_check *check, const wg_check_case *at, wg_check_kind kind, double error, wg_status status,
                    const char *text);

/* Everything that follows from an op's record: its examples, and those with sizes made 0 and 1; pointwise ops on every
 * pattern of broadcasting, from their range. An op without either fails. */
wg_status wg__check_op(wg_check *check, const wg_op *op);

/* Reads one word of an example's inputs: "3,4", "i5:3", "()" or "c" (a bare constant). Returns what follows; NULL at the end. top:
 * the bound of integers, 0 for floats, -1 for a bare constant. */
const char *wg__example_word(const char *at, wg_shape *shape, int64_t *top);

#endif
