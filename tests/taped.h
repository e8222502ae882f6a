/* taped.h: what tests of tapes share: tensors with known or random contents, values of vars, and comparisons. */
#ifndef WG_TAPED_H
#define WG_TAPED_H

#include <math.h>

#include "suite.h"
#include "tape.h"

/* A tensor of normal draws from a seed. */
static inline wg_tensor *taped_random(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim,
                                      uint64_t seed) {
    wg_random random = {.seed = seed};
    wg_tensor *tensor = wg_tensor_new(memory, dtype, rank, dim);
    for (int64_t i = 0; tensor && i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, wg_random_normal(&random));
    return tensor;
}

static inline wg_tensor *taped_scalar(wg_memory *memory, wg_dtype dtype, double value) {
    wg_tensor *tensor = wg_tensor_new(memory, dtype, 0, NULL);
    if (tensor)
        wg_tensor_set(tensor, 0, value);
    return tensor;
}

/* The value of a var; the test fails if it has none. */
static inline wg_tensor *taped_value(wg_var y) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    cr_assert_eq(wg_eval(1, &y, &out, &error), WG_OK, "%s", error.text);
    return out;
}

/* Its first element. */
static inline double taped_number(wg_var y) {
    wg_tensor *out = taped_value(y);
    double value = wg_tensor_get(out, 0);
    wg_tensor_free(out);
    return value;
}

/* Whether two f64 arrays are the same but for rounding, by the largest element. A scalar is a loss, whose terms, of about 1, may cancel.
 * NaN agrees with NaN. */
static inline bool taped_close(const wg_tensor *want, const wg_tensor *got) {
    double worst = 0, scale = wg_tensor_shape(want)->rank ? 0 : 1;
    for (int64_t i = 0; i < wg_tensor_shape(want)->count; i++) {
        double w = wg_tensor_get(want, i), g = wg_tensor_get(got, i);
        if (isnan(w) && isnan(g))
            continue;
        worst = fmax(worst, isnan(w - g) ? INFINITY : fabs(w - g));
        scale = fmax(scale, fabs(w));
    }
    return worst <= 1e-12 * scale + 1e-300;
}

/* The shape rule of an op of a test whose result is like its operand. */
static inline wg_status taped_as_it_is(wg_infer *infer) {
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}

static inline wg_var taped_sum(wg_var x) { return wg_sum_to(x, 0, NULL); }

/* The largest difference of two values, relative to the largest element (at least 1). NaN agrees with NaN. */
static inline double taped_distance(wg_var a, wg_var b) {
    wg_tensor *p = taped_value(a), *q = taped_value(b);
    double worst = 0, scale = 1;
    cr_assert(wg__shape_same(wg_tensor_shape(p), wg_tensor_shape(q)));
    for (int64_t i = 0; i < wg_tensor_shape(p)->count; i++) {
        double x = wg_tensor_get(p, i), y = wg_tensor_get(q, i);
        if (isfinite(x))
            scale = fmax(scale, fabs(x));
        if (!(x == y) && !(isnan(x) && isnan(y)))
            worst = fmax(worst, isnan(x - y) ? INFINITY : fabs(x - y));
    }
    wg_tensor_free(p);
    wg_tensor_free(q);
    return worst / scale;
}

static inline void taped_free(int n, wg_tensor **tensors) {
    for (int i = 0; i < n; i++)
        wg_tensor_free(tensors[i]);
}

#endif
