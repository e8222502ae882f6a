/* pointwise_maps.h: stamps the kernels of the pointwise ops from their rows, for f32, f64 and i32. The file that includes it
 * names the instruction set (ISA, and the bytes of its vectors, VECTOR) and has switched the compiler to it.
 *
 * Kinds A and I are arithmetic, which gives an element the same bits in a vector and alone. A function of vector maths does
 * not: so kernels of kind F call it on whole vectors only, and what is left over is padded in a buffer. */

#include <string.h>

enum { FLOATS = VECTOR / 4, DOUBLES = VECTOR / 8 };

/* Iterations are independent even where out is one of the inputs. clang would warn of every loop over libm. */
#ifdef __clang__
#define LOOP for (int64_t i_ = 0; i_ < n_; i_++)
#else
#define LOOP _Pragma("omp simd") for (int64_t i_ = 0; i_ < n_; i_++)
#endif
#define OPEN(T_, S_)                                                                               \
    typedef T_ T;                                                                                  \
    S_ *y_ = out_;
#define READ(S_, name, k) const S_ *name##_ = in_[k];
#define TAKE(name) const T name = (T)name##_[i_];

/* T_: the type computed in; S_: the type stored. */
#define BODY1(T_, S_, count, value)                                                                \
    (int64_t n_, const void *const *in_, void *out_) {                                             \
        OPEN(T_, S_)                                                                               \
        READ(S_, x, 0)                                                                             \
        n_ = count;                                                                                \
        LOOP {                                                                                     \
            TAKE(x)                                                                                \
            y_[i_] = (S_)(value);                                                                  \
        }                                                                                          \
    }
#define BODY2(T_, S_, count, value)                                                                \
    (int64_t n_, const void *const *in_, void *out_) {                                             \
        OPEN(T_, S_)                                                                               \
        READ(S_, a, 0)                                                                             \
        READ(S_, b, 1)                                                                             \
        n_ = count;                                                                                \
        LOOP {                                                                                     \
            TAKE(a)                                                                                \
            TAKE(b)                                                                                \
            y_[i_] = (S_)(value);                                                                  \
        }                                                                                          \
    }
#define BODY3(T_, S_, count, value)                                                                \
    (int64_t n_, const void *const *in_, void *out_) {                                             \
        OPEN(T_, S_)                                                                               \
        READ(S_, a, 0)                                                                             \
        READ(S_, b, 1)                                                                             \
        READ(S_, c, 2)                                                                             \
        n_ = count;                                                                                \
        LOOP {                                                                                     \
            TAKE(a)                                                                                \
            TAKE(b)                                                                                \
            TAKE(c)                                                                                \
            y_[i_] = (S_)(value);                                                                  \
        }                                                                                          \
    }

/* Whole vectors through `whole`; the rest, padded with its last element, through it too. A single element is spread by one
 * store, as bits: a vector load after stores of its parts would wait for them (13 ns a call, not 30). */
#define PADDED(T, BITS, WIDTH)                                                                     \
    typedef BITS T##s __attribute__((vector_size(VECTOR)));                                        \
    static void padded_##T(wg__map *whole, int operands, int64_t n, const void *const *in,         \
                           void *out) {                                                            \
        int64_t done = n & ~(int64_t)(WIDTH - 1), rest = n - done;                                 \
        _Alignas(64) T x[3][WIDTH], y[WIDTH];                                                      \
        if (done)                                                                                  \
            whole(done, in, out);                                                                  \
        if (!rest)                                                                                 \
            return;                                                                                \
        for (int k = 0; k < operands; k++) {                                                       \
            const T *from = (const T *)in[k] + done;                                               \
            BITS last;                                                                             \
            memcpy(&last, from + rest - 1, sizeof last);                                           \
            const T##s spread = last - (T##s){0};                                                  \
            memcpy(x[k], &spread, sizeof spread);                                                  \
            if (rest > 1)                                                                          \
                memcpy(x[k], from, (size_t)rest * sizeof(T));                                      \
        }                                                                                          \
        whole(WIDTH, (const void *const[]){x[0], x[1], x[2]}, y);                                  \
        if (rest > 1)                                                                              \
            memcpy((T *)out + done, y, (size_t)rest * sizeof(T));                                  \
        else                                                                                       \
            ((T *)out)[done] = y[0];                                                               \
    }
PADDED(float, uint32_t, FLOATS)
PADDED(double, uint64_t, DOUBLES)

/* The count of a whole kernel is known to be a multiple of the vector: it has no loop for what is left over. */
#define WHOLE(operands, op, T, WIDTH, value)                                                       \
    static __attribute__((noinline)) void whole_##op##_##T BODY##operands(                         \
        T, T, n_ & ~(int64_t)(WIDTH - 1), value)                                                   \
    static void op##_##T(int64_t n, const void *const *in, void *out) {                            \
        padded_##T(whole_##op##_##T, operands, n, in, out);                                        \
    }
#define FLOAT_F(operands, op, value)                                                               \
    WHOLE(operands, op, float, FLOATS, value)                                                      \
    WHOLE(operands, op, double, DOUBLES, value)                                                    \
    OF_SUMS_##operands(op, value)
/* The same of sums, by kernels of their own: WHOLE's with x a sum. */
#define BODY_OF2(T_, S_, count, value) BODY2(T_, S_, count, ({ const T x = a + b; value; }))
#define BODY_OF3(T_, S_, count, value) BODY3(T_, S_, count, ({ const T x = a + b + c; value; }))
#define OF_SUM(operands, op, T, WIDTH, value)                                                      \
    static __attribute__((noinline)) void whole_##op##_of##operands##_##T BODY_OF##operands(       \
        T, T, n_ & ~(int64_t)(WIDTH - 1), value)                                                   \
    static void op##_of##operands##_##T(int64_t n, const void *const *in, void *out) {             \
        padded_##T(whole_##op##_of##operands##_##T, operands, n, in, out);                         \
    }
#define OF_SUMS_1(op, value)                                                                       \
    OF_SUM(2, op, float, FLOATS, value)                                                            \
    OF_SUM(2, op, double, DOUBLES, value)                                                          \
    OF_SUM(3, op, float, FLOATS, value)                                                            \
    OF_SUM(3, op, double, DOUBLES, value)
#define OF_SUMS_2(op, value)
#define OF_SUMS_3(op, value)
/* A single element, as chains of scalars have, goes past the loop for vectors and those for what they leave over. */
#define EACH(operands, op, name, T, S, value)                                                      \
    static inline void one_##op##_##name BODY##operands(T, S, 1, value)                            \
    static __attribute__((noinline)) void some_##op##_##name BODY##operands(T, S, n_, value)       \
    static void op##_##name(int64_t n, const void *const *in, void *out) {                         \
        if (n == 1)                                                                                \
            one_##op##_##name(n, in, out);                                                         \
        else                                                                                       \
            some_##op##_##name(n, in, out);                                                        \
    }
#define FLOAT_A(operands, op, value)                                                               \
    EACH(operands, op, float, float, float, value)                                                 \
    EACH(operands, op, double, double, double, value)
/* Computed in 64 bits, so that nothing overflows, and wrapped. */
#define FLOAT_I(operands, op, value)                                                               \
    FLOAT_A(operands, op, value)                                                                   \
    static void op##_int BODY##operands(int64_t, int32_t, n_, value)
#define FLOAT_Z FLOAT_I
#define FLOAT_S FLOAT_I

#define MAP1(op, kind, value, ...) FLOAT_##kind(1, op, value)
#define MAP2(op, kind, value, ...) FLOAT_##kind(2, op, value)
#define MAP3(op, kind, value, ...) FLOAT_##kind(3, op, value)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"

#define TABLE_F(op, operands) {{op##_float, op##_double, NULL}, TABLE_OF_SUMS_##operands(op)},
#define TABLE_OF_SUMS_1(op) {{op##_of2_float, op##_of2_double}, {op##_of3_float, op##_of3_double}}
#define TABLE_OF_SUMS_2(op) {{NULL}}
#define TABLE_OF_SUMS_3(op) {{NULL}}
#define TABLE_A(op, operands) {{op##_float, op##_double, NULL}, {{NULL}}},
#define TABLE_I(op, operands) {{op##_float, op##_double, op##_int}, {{NULL}}},
#define TABLE_Z TABLE_I
#define TABLE_S TABLE_I
#define MAP1(op, kind, ...) TABLE_##kind(op, 1)
#define MAP2(op, kind, ...) TABLE_##kind(op, 2)
#define MAP3(op, kind, ...) TABLE_##kind(op, 3)
#define NAME(isa) NAMED(isa)
#define NAMED(isa) wg__kernels_##isa
const wg__kernels NAME(ISA)[WG__ROWS] = {
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"
};
