/* pairs_maps.h: stamps the kernels of pairs.h. Included after pointwise_maps.h, whose loop it uses, where that is. */
#include "pairs.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif

#define PAIR_KERNEL(name, T, last, value)                                                                                      \
    static void name(int64_t n_, const void *const *in_, void *out_) {                                                         \
        const T *a_ = in_[0], *b_ = in_[1], *c_ = in_[2], *d_ = in_[last];                                                     \
        T *y_ = out_;                                                                                                          \
        LOOP {                                                                                                                 \
            const T a = a_[i_], b = b_[i_], c = c_[i_], d = d_[i_];                                                            \
            (void)b, (void)d;                                                                                                  \
            y_[i_] = value;                                                                                                    \
        }                                                                                                                      \
    }

/* Every op f, with every g, with every h: an op is its name and its sign. */
#define EACH_F(X) X(ADD, +) X(SUB, -) X(MUL, *)
#define EACH_G(X, f, F) X(f, F, ADD, +) X(f, F, SUB, -) X(f, F, MUL, *)
#define EACH_H(X, f, F, g, G) X(f, F, g, G, ADD, +) X(f, F, g, G, SUB, -) X(f, F, g, G, MUL, *)

#define BOTH_KERNELS(f, F, g, G, h, H)                                                                                         \
    PAIR_KERNEL(both_##f##g##h##_float, float, 3, (a G b)F(c H d))                                                             \
    PAIR_KERNEL(both_##f##g##h##_double, double, 3, (a G b)F(c H d))
#define SIDE_KERNELS(f, F, g, G)                                                                                               \
    PAIR_KERNEL(left_##f##g##_float, float, 2, (a G b)F c)                                                                     \
    PAIR_KERNEL(left_##f##g##_double, double, 2, (a G b)F c)                                                                   \
    PAIR_KERNEL(right_##f##g##_float, float, 2, c F(a G b))                                                                    \
    PAIR_KERNEL(right_##f##g##_double, double, 2, c F(a G b))                                                                  \
    EACH_H(BOTH_KERNELS, f, F, g, G)
#define KERNELS_OF(f, F) EACH_G(SIDE_KERNELS, f, F)
EACH_F(KERNELS_OF)

/* Partial derivatives, by their operand: alone, times another, and times every g of two others. */
#define TANH_PARTIAL(y) (1 - (y) * (y))
#define SIGMOID_PARTIAL(y) ((y) * (1 - (y)))
#define EACH_PARTIAL(X) X(TANH) X(SIGMOID)
#define PARTIAL_ALONE(T, h)                                                                                                    \
    static void alone_##h##_##T(int64_t n_, const void *const *in_, void *out_) {                                              \
        const T *a_ = in_[0];                                                                                                  \
        T *y_ = out_;                                                                                                          \
        LOOP y_[i_] = h##_PARTIAL(a_[i_]);                                                                                     \
    }
#define PARTIAL_KERNELS(h)                                                                                                     \
    PARTIAL_ALONE(float, h)                                                                                                    \
    PARTIAL_ALONE(double, h)                                                                                                   \
    PAIR_KERNEL(left_MUL##h##_float, float, 2, h##_PARTIAL(a) * c)                                                             \
    PAIR_KERNEL(left_MUL##h##_double, double, 2, h##_PARTIAL(a) * c)                                                           \
    EACH_G(TIMES_PARTIAL, h, *)
#define TIMES_PARTIAL(h, F, g, G)                                                                                              \
    PAIR_KERNEL(both_MUL##g##h##_float, float, 3, (a G b)F h##_PARTIAL(c))                                                     \
    PAIR_KERNEL(both_MUL##g##h##_double, double, 3, (a G b)F h##_PARTIAL(c))
EACH_PARTIAL(PARTIAL_KERNELS)

#define BOTH_ENTRY(f, F, g, G, h, H) [WG__PAIR_##h] = {both_##f##g##h##_float, both_##f##g##h##_double},
#define LEFT_ENTRY(f, F, g, G) [WG__PAIR_##g] = {left_##f##g##_float, left_##f##g##_double},
#define RIGHT_ENTRY(f, F, g, G) [WG__PAIR_##g] = {right_##f##g##_float, right_##f##g##_double},
#define BOTH_ENTRIES(f, F, g, G) [WG__PAIR_##g] = {EACH_H(BOTH_ENTRY, f, F, g, G) BOTH_PARTIALS_##f(g)},
#define PARTIAL_ENTRY(h) [WG__PAIR_##h - WG__PAIR_OPS] = {alone_##h##_float, alone_##h##_double},
#define LEFT_ROW(f, F) [WG__PAIR_##f] = {EACH_G(LEFT_ENTRY, f, F) LEFT_PARTIALS_##f},
#define LEFT_PARTIALS_ADD
#define LEFT_PARTIALS_SUB
#define LEFT_PARTIALS_MUL LEFT_ENTRY(MUL, *, TANH, ) LEFT_ENTRY(MUL, *, SIGMOID, )
#define BOTH_PARTIALS_ADD(g)
#define BOTH_PARTIALS_SUB(g)
#define BOTH_PARTIALS_MUL(g) BOTH_ENTRY(MUL, *, g, , TANH, ) BOTH_ENTRY(MUL, *, g, , SIGMOID, )
#define RIGHT_ROW(f, F) [WG__PAIR_##f] = {EACH_G(RIGHT_ENTRY, f, F)},
#define BOTH_ROW(f, F) [WG__PAIR_##f] = {EACH_G(BOTH_ENTRIES, f, F)},
#define PAIRS_NAME(isa) PAIRS_NAMED(isa)
#define PAIRS_NAMED(isa) wg__pairs_##isa
const wg__pairs PAIRS_NAME(ISA) = {.left = {EACH_F(LEFT_ROW)}, .right = {EACH_F(RIGHT_ROW)}, .both = {EACH_F(BOTH_ROW)},
                                    .partial = {EACH_PARTIAL(PARTIAL_ENTRY)}};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
