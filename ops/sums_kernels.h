/* sums_kernels.h: the table of sums.h for one instruction set. Included by each pointwise_ISA.c, which defines ISA
 * and VECTOR, after pointwise_maps.h. Ops only. */
#include "sums.h"

#include <math.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
WG_FOLD_KERNELS(sum, float, 0.0, WG_FOLD_PLUS, WG_FOLD_PLUS)
WG_FOLD_KERNELS(sum, double, 0.0, WG_FOLD_PLUS, WG_FOLD_PLUS)

static void sum_join(int64_t n, const double *restrict b, double *restrict a) {
    for (int64_t i = 0; i < n; i++)
        a[i] += b[i];
}

/* Half way to the largest f32, by its exponent. */
#define FAR 0x1p64

/* The lanes of a sum, in vectors as wide as the set has them; written so because what GCC makes of an array of lanes is joined one by
 * one, and reads numbers of f32 that it has to move between vectors first. */
enum { VECTORS = WG_FOLD_LANES / DOUBLES };
typedef double lane_vector __attribute__((vector_size(VECTOR)));
typedef double lane_pair __attribute__((vector_size(16)));
typedef struct lanes {
    lane_vector at[VECTORS];
} lanes;

#define EACH_VECTOR _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)

/* By halves, as WG_FOLD_LANES_OF. */
static inline __attribute__((always_inline)) double lanes_joined(lanes l) {
    union {
        lane_vector all;
        lane_pair pair[DOUBLES / 2];
    } left;
    _Pragma("GCC unroll 4") for (int half = VECTORS / 2; half; half /= 2)
        _Pragma("GCC unroll 4") for (int v = 0; v < half; v++)
            l.at[v] += l.at[v + half];
    left.all = l.at[0];
    _Pragma("GCC unroll 4") for (int half = DOUBLES / 4; half; half /= 2)
        _Pragma("GCC unroll 4") for (int k = 0; k < half; k++)
            left.pair[k] += left.pair[k + half];
    return left.pair[0][0] + left.pair[0][1];
}

/* Numbers in double. GCC converts the halves of eight apart and puts them together, where one instruction does. */
#if VECTOR == 64
#include <immintrin.h>
#define CONVERTED_float(x) ((lane_vector)_mm512_cvtps_pd(_mm256_loadu_ps(x)))
#else
#define CONVERTED_float(x) __builtin_convertvector(*(const across_float *)(x), lane_vector)
#endif
#define CONVERTED_double(x) ((lane_vector)*(const across_double *)(x))

#define ROWS(T)                                                                                                                \
    typedef T across_##T __attribute__((vector_size(DOUBLES * sizeof(T)), aligned(sizeof(T)), may_alias));                      \
    static double squares_##T(int64_t n, const T *x, double m) {                                                               \
        lanes all = {0};                                                                                                       \
        double sum = 0;                                                                                                        \
        int64_t i = 0;                                                                                                         \
        for (; i + WG_FOLD_LANES <= n; i += WG_FOLD_LANES)                                                                     \
            EACH_VECTOR {                                                                                                      \
                const lane_vector at = CONVERTED_##T(x + i + v * DOUBLES) - m;                                                  \
                all.at[v] += at * at;                                                                                          \
            }                                                                                                                  \
        for (; i < n; i++)                                                                                                     \
            sum += ((double)x[i] - m) * ((double)x[i] - m);                                                                    \
        return sum + lanes_joined(all);                                                                                        \
    }                                                                                                                          \
    /* The sums of x - shift and of (x - shift) (y - shift). Inlined, so that x is read once where it is y too. */             \
    static inline __attribute__((always_inline)) void two_sums_##T(int64_t n, const T *x, const T *y, double shift, double *sum,\
                                                                   double *product) {                                          \
        lanes all = {0}, both = {0};                                                                                           \
        int64_t i = 0;                                                                                                         \
        *sum = *product = 0;                                                                                                   \
        for (; i + WG_FOLD_LANES <= n; i += WG_FOLD_LANES)                                                                     \
            EACH_VECTOR {                                                                                                      \
                const lane_vector at = CONVERTED_##T(x + i + v * DOUBLES) - shift;                                              \
                all.at[v] += at;                                                                                               \
                both.at[v] += at * (CONVERTED_##T(y + i + v * DOUBLES) - shift);                                                \
            }                                                                                                                  \
        for (; i < n; i++) {                                                                                                   \
            *sum += (double)x[i] - shift;                                                                                      \
            *product += ((double)x[i] - shift) * ((double)y[i] - shift);                                                       \
        }                                                                                                                      \
        *sum += lanes_joined(all);                                                                                             \
        *product += lanes_joined(both);                                                                                        \
    }                                                                                                                          \
    /* Of f32 in one sweep, about the first: its own square is part of n times the variance, so that the difference loses no more than\
     * log2(n) of a double's bits. */                                                                                          \
    static double scale_##T(int64_t n, const void *from, double eps, bool centred, double *m) {                                \
        const T *x = from;                                                                                                     \
        const double first = centred && n ? (double)x[0] : 0, each = 1 / (double)n;                                            \
        double sum, product;                                                                                                   \
        if (sizeof(T) == sizeof(double)) {                                                                                     \
            *m = centred ? sum_run_##T(n, x, 0) / (double)n : 0;                                                               \
            return 1 / sqrt(squares_##T(n, x, *m) / (double)n + eps);                                                          \
        }                                                                                                                      \
        two_sums_##T(n, x, x, first, &sum, &product);                                                                          \
        double rest = centred ? sum * each : 0, variance = product * each - rest * rest;                                       \
        *m = first + rest;                                                                                                     \
        return 1 / sqrt((variance < 0 ? 0 : variance) + eps);                                                                  \
    }                                                                                                                          \
    /* Of f32 in f32, but where a number on the way might leave it: the mean is taken off in two parts. */                   \
    static void apply_##T(int64_t n, const void *from, double m, double scale, void *to) {                                     \
        const T *x = from;                                                                                                     \
        T *y = to;                                                                                                             \
        if (sizeof(T) == sizeof(float) && fabs(m) < FAR && scale < FAR && scale > 1 / FAR) {                                   \
            const T large = (T)m, small = (T)(m - (double)large), by = (T)scale;                                               \
            for (int64_t i = 0; i < n; i++)                                                                                    \
                y[i] = ((x[i] - large) - small) * by;                                                                          \
            return;                                                                                                            \
        }                                                                                                                      \
        for (int64_t i = 0; i < n; i++)                                                                                        \
            y[i] = (T)(((double)x[i] - m) * scale);                                                                            \
    }
ROWS(float)
ROWS(double)

#define PROJECT(T)                                                                                                             \
    static void project_##T(int64_t n, const void *in_g, const void *in_y, bool centred, void *to) {                           \
        const T *g = in_g, *y = in_y;                                                                                          \
        T *restrict out = to;                                                                                                  \
        double sum, product;                                                                                                   \
        two_sums_##T(n, g, y, 0, &sum, &product);                                                                              \
        const T m = centred ? (T)(sum / (double)n) : 0, share = (T)(product / (double)n);                                      \
        if (centred)                                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                                    \
                out[i] = g[i] - y[i] * share - m;                                                                              \
        else                                                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                                                    \
                out[i] = g[i] - y[i] * share;                                                                                  \
    }
PROJECT(float)
PROJECT(double)

const wg__sums PASTE(wg__sums, ISA) = {
    {0.0, {sum_run_float, sum_run_double}, {sum_rows_float, sum_rows_double}, sum_join, NULL},
    {scale_float, scale_double}, {apply_float, apply_double}, {project_float, project_double}};
