/* called.h: a graph, its plan and that as a C function, and calls of it beside evaluation. */
#ifndef WG_CALLED_H
#define WG_CALLED_H

#include "suite.h"

#include <string.h>

#include "function.h"
#include "taped.h"
#include "wengert/notation.h"

enum { MOST = 4 };

/* A graph, its plan and that as a function. */
typedef struct subject {
    wg_tape *tape;
    wg_tensor *leaf[MOST];
    wg_var x[MOST], y[MOST];
    int leaves, outputs;
    wg_plan *plan;
    wg_function *f;
} subject;

static inline subject begin(void) { return (subject){.tape = wg_tape_new(NULL)}; }

/* A leaf of small numbers, which no call uses. */
static inline wg_var leaf(subject *s, wg_dtype dtype, int rank, const int64_t *dim) {
    s->leaf[s->leaves] = taped_random(NULL, dtype, rank, dim, 1 + (uint64_t)s->leaves);
    s->x[s->leaves] = wg_leaf(s->tape, s->leaf[s->leaves]);
    return s->x[s->leaves++];
}
static inline wg_var row(subject *s, wg_dtype dtype, int64_t n) { return leaf(s, dtype, 1, &n); }
static inline wg_var scalar(subject *s) { return leaf(s, WG_F64, 0, NULL); }

static inline void compile(subject *s) {
    wg_error error = {0};
    cr_assert_eq(wg_tape_status(s->tape), WG_OK, "%s", wg_tape_message(s->tape));
    s->plan = wg_compile(s->outputs, s->y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(s->plan, "%s", error.text);
}

static inline void (*function_of(subject *s, const char *prototype, wg_function_options options))(void) {
    wg_error error = {0};
    options.n = s->leaves;
    options.leaf = s->leaf;
    if (!s->plan)
        compile(s);
    wg_function_free(s->f);
    s->f = wg_plan_function(s->plan, prototype, &options, &error);
    cr_assert_not_null(s->f, "%s: %s", prototype, error.text);
    return wg_function_pointer(s->f);
}
#define FUNCTION(s, prototype, ...) function_of(s, prototype, (wg_function_options){__VA_ARGS__})

static inline void end(subject *s) {
    cr_expect_eq(wg_function_free(s->f), WG_OK);
    wg_plan_free(s->plan);
    wg_tape_free(s->tape);
    for (int k = 0; k < s->leaves; k++)
        wg_tensor_free(s->leaf[k]);
}

/* The call before was good. */
#define CALLED(s)                                                                                                                    \
    do {                                                                                                                             \
        wg_error error_ = {0};                                                                                                       \
        cr_assert_eq(wg_function_status((s)->f, &error_), WG_OK, "%s", error_.text);                                                 \
    } while (0)

/* It failed with this status, and its message has these words; the next look finds nothing. */
static inline void failed_with(subject *s, wg_status status, const char *words) {
    wg_error error = {0};
    cr_assert_eq(wg_function_status(s->f, &error), status, "%s", error.text);
    cr_assert_eq(error.status, status);
    cr_assert(strstr(error.text, words), "'%s' is not in: %s", words, error.text);
    cr_assert_eq(wg_function_status(s->f, NULL), WG_OK);
}

static inline bool same_bytes(const void *a, const void *b, size_t bytes) { return memcmp(a, b, bytes) == 0; }
static inline bool same_bits(const void *got, const wg_tensor *want) { return same_bytes(got, wg_tensor_data(want), wg_tensor_bytes(want)); }

/* y[i] by wg_eval with these contents of leaf 0. */
static inline wg_tensor *evaluated(subject *s, int i, const void *x) {
    wg_tensor *out = NULL, *before = wg_tensor_copy(NULL, s->leaf[0]);
    wg_error error = {0};
    size_t bytes = wg_tensor_bytes(before);
    memcpy(wg_tensor_write(s->leaf[0]), x, bytes);
    cr_assert_eq(wg_eval(1, &s->y[i], &out, &error), WG_OK, "%s", error.text);
    memcpy(wg_tensor_write(s->leaf[0]), wg_tensor_data(before), bytes);
    wg_tensor_free(before);
    return out;
}

/* Whether an array has the bits that wg_eval gives output i at x. */
static inline bool is_value(subject *s, int i, const void *x, const void *got) {
    wg_tensor *want = evaluated(s, i, x);
    bool same = same_bits(got, want);
    wg_tensor_free(want);
    return same;
}

/* sum (x[i+1] - x[i]^2)^2 + sum (x[i] - 1)^2, and its gradient. */
static inline subject valley(wg_dtype dtype, int64_t n) {
    subject s = begin();
    wg_var x = row(&s, dtype, n);
    wg_var bend = sub(slice(x, 0, 1, n - 1), square(slice(x, 0, 0, n - 1)));
    s.y[0] = add(taped_sum(square(bend)), taped_sum(square(sub(x, 1))));
    wg_grad(s.y[0], 1, &x, &s.y[1]);
    s.outputs = 2;
    return s;
}

static inline void draw(double *x, int64_t n, uint64_t seed) {
    wg_random random = {.seed = seed};
    for (int64_t i = 0; i < n; i++)
        x[i] = wg_random_normal(&random);
}

/* Memory for doubles that is aligned to 8 bytes and no more. */
static inline double *odd_doubles(int64_t n, void **block) {
    *block = aligned_alloc(64, (size_t)(n + 8) / 8 * 64 + 64);
    return (double *)*block + 1;
}

typedef double map(double);

/* A GSL vector: read, or written. */
#define VECTOR "struct {size_t size: size; size_t stride: stride; double *data: point; void *block; int owner;}"
#define VECTOR_OUT "struct {size_t size: count 1; size_t stride: stride; double *data: gradient; void *block; int owner;}"

/* What optimisers call. */
typedef double objective(unsigned n, const double *x, double *gradient, void *data);
#define OBJECTIVE \
    "double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value"

/* log x, guarded; and numbers of every kind that depend on it. */
static inline subject guarded(int64_t n) {
    subject s = begin();
    wg_var x = row(&s, WG_F64, n);
    s.y[0] = wg_guard(taped_sum(log(x))), s.y[1] = mul(x, 2), s.y[2] = cast(mul(x, 3), WG_I32), s.outputs = 3;
    return s;
}

static inline void note(void *user, const wg_error *error) { *(wg_error *)user = *error; }

#endif
