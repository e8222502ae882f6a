/* fold.h: reducing dense arrays over any axes with accumulators of double, the loops stamped from one expression; and
 * what the builders of reductions share. Includes core only. */
#ifndef WG_FOLD_H
#define WG_FOLD_H

#include "ops.h"

/* A way to reduce: kernels for f32 and f64. */
typedef struct wg_folder {
    double start;
    double (*run[2])(int64_t n, const void *x, double a); /* a, folded with n neighbours */
    /* a[i], folded with x[i], x[stride+i], … over `rows` rows */
    void (*rows[2])(int64_t rows, int64_t stride, int64_t width, const void *x, double *a);
    void (*join)(int64_t n, const double *b, double *a); /* a[i] and b[i], two parts of one sum, into a[i] */
    double (*finish)(double a);                          /* NULL: the result is a */
} wg_folder;

enum { WG_FOLD_LANES = 16 };

#define WG_FOLD_PLUS(a, b) ((a) + (b))

/* lane[0] = all lanes joined, by halves: every loop of a known length, so that none is left. */
#define WG_FOLD_HALF(lane, JOIN, half)                                                             \
    for (int l = 0; l < (half); l++)                                                               \
        (lane)[l] = JOIN((lane)[l], (lane)[l + (half)]);
#define WG_FOLD_LANES_OF(lane, JOIN)                                                               \
    WG_FOLD_HALF(lane, JOIN, 8)                                                                    \
    WG_FOLD_HALF(lane, JOIN, 4) WG_FOLD_HALF(lane, JOIN, 2) WG_FOLD_HALF(lane, JOIN, 1)
_Static_assert(WG_FOLD_LANES == 16, "halves");

/* The kernels of one type. STEP(a, x) and JOIN(a, b) are macros. Lanes and rows have a fixed order: the bits follow
 * from the shape alone. */
#define WG_FOLD_KERNELS(name, T, start, STEP, JOIN)                                                \
    static double name##_run_##T(int64_t n, const void *from, double a) {                          \
        const T *x = from;                                                                         \
        int64_t i = 0;                                                                             \
        if (n >= WG_FOLD_LANES) {                                                                  \
            double lane[WG_FOLD_LANES];                                                            \
            for (int l = 0; l < WG_FOLD_LANES; l++)                                                \
                lane[l] = start;                                                                   \
            for (; i + WG_FOLD_LANES <= n; i += WG_FOLD_LANES) {                                   \
                _Pragma("omp simd") for (int l = 0; l < WG_FOLD_LANES; l++)                                            \
                    lane[l] = STEP(lane[l], (double)x[i + l]);                                     \
            }                                                                                      \
            WG_FOLD_LANES_OF(lane, JOIN)                                                           \
            a = JOIN(a, lane[0]);                                                                  \
        }                                                                                          \
        for (; i < n; i++)                                                                         \
            a = STEP(a, (double)x[i]);                                                             \
        return a;                                                                                  \
    }                                                                                              \
    static void name##_rows_##T(int64_t rows, int64_t stride, int64_t width, const void *from,     \
                                double *restrict a) {                                              \
        const T *restrict x = from;                                                                \
        for (; rows >= 4; rows -= 4, x += 4 * stride) {                                            \
            const T *restrict x1 = x + stride, *restrict x2 = x1 + stride, *restrict x3 = x2 + stride; \
            for (int64_t i = 0; i < width; i++)                                                    \
                a[i] = STEP(STEP(STEP(STEP(a[i], (double)x[i]), (double)x1[i]), (double)x2[i]),    \
                            (double)x3[i]);                                                        \
        }                                                                                          \
        for (; rows > 0; rows--, x += stride)                                                      \
            for (int64_t i = 0; i < width; i++)                                                    \
                a[i] = STEP(a[i], (double)x[i]);                                                   \
    }

#define WG_FOLDER(name, begin, STEP, JOIN, end)                                                    \
    WG_FOLD_KERNELS(name, float, begin, STEP, JOIN)                                                \
    WG_FOLD_KERNELS(name, double, begin, STEP, JOIN)                                               \
    static void name##_join(int64_t n, const double *restrict b, double *restrict a) {             \
        for (int64_t i = 0; i < n; i++)                                                            \
            a[i] = JOIN(a[i], b[i]);                                                               \
    }                                                                                              \
    static const wg_folder name##_folder = {begin, {name##_run_float, name##_run_double},          \
                                            {name##_rows_float, name##_rows_double}, name##_join, end};

/* Reduces `in` (dense) to `out` (dense), whose axes, from the last, have in's size or 1. The work is cut into blocks
 * that follow from the shapes alone; their parts are joined pairwise. scratch: wg__fold_scratch bytes. */
void wg__fold(const wg_folder *folder, const wg_team *team, const wg_array *in, const wg_array *out, void *scratch);
size_t wg__fold_scratch(const wg_shape *in, const wg_shape *out);

/* The shape rule of reductions whose attribute is the shape they reduce to (wg_dims). */
wg_status wg__fold_shape(wg_infer *infer);
/* Fails with WG_DTYPE unless the first operand is a float. */
wg_status wg__takes_floats(wg_infer *infer);

/* Which axes go (n = 0: all), each in [0, rank). kept: x's shape with 1 in their place; left: without them. False, and
 * the tape's failure set, if x is no operand or an axis is out of range or twice. */
typedef struct wg_axes {
    bool gone[WG_MAX_RANK];
    wg_dims kept, left;
} wg_axes;
bool wg__axes(wg_var x, const char *name, int n, const int *axes, wg_axes *out);

/* x with this axis moved to the end, and back (views). The axis is in [0, rank). */
wg_var wg__axis_to_end(wg_var x, int axis);
wg_var wg__axis_from_end(wg_var x, int axis);

#endif
