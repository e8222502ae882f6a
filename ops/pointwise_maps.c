/* pointwise_maps.c: the kernels of the pointwise ops, stamped from their rows for f32, f64 and i32: dense blocks in,
 * dense block out. */
#include <stdint.h>

#include <math.h>
#include <stdlib.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define STAMP1(map, T, value)                                                                       \
    void map(int64_t n, const void *const *in, void *out) {                            \
        const T *restrict x_ = in[0];                                                              \
        T *restrict y_ = out;                                                                      \
        for (int64_t i_ = 0; i_ < n; i_++) {                                                       \
            const T x = x_[i_];                                                                    \
            y_[i_] = (T)(value);                                                                   \
        }                                                                                          \
    }
#define STAMP2(map, T, value)                                                                       \
    void map(int64_t n, const void *const *in, void *out) {                            \
        const T *restrict a_ = in[0], *restrict b_ = in[1];                                        \
        T *restrict y_ = out;                                                                      \
        for (int64_t i_ = 0; i_ < n; i_++) {                                                       \
            const T a = a_[i_], b = b_[i_];                                                        \
            y_[i_] = (T)(value);                                                                   \
        }                                                                                          \
    }
#define STAMP3(map, T, value)                                                                       \
    void map(int64_t n, const void *const *in, void *out) {                            \
        const T *restrict a_ = in[0], *restrict b_ = in[1], *restrict c_ = in[2];                  \
        T *restrict y_ = out;                                                                      \
        for (int64_t i_ = 0; i_ < n; i_++) {                                                       \
            const T a = a_[i_], b = b_[i_], c = c_[i_];                                            \
            y_[i_] = (T)(value);                                                                   \
        }                                                                                          \
    }

/* f64 */
#define MAP1(op, value, dx, low, high) STAMP1(wg__map_##op##_double, double, value)
#define MAP1I(op, value, dx, low, high) STAMP1(wg__map_##op##_double, double, value)
#define MAP2(op, value, da, db, low, high) STAMP2(wg__map_##op##_double, double, value)
#define MAP2I(op, value, da, db, low, high) STAMP2(wg__map_##op##_double, double, value)
#define MAP3(op, value, da, db, dc, low, high) STAMP3(wg__map_##op##_double, double, value)
#define MAP3I(op, value, da, db, dc, low, high) STAMP3(wg__map_##op##_double, double, value)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"

/* i32: the rows marked I */
#define MAP1(op, value, dx, low, high)
#define MAP1I(op, value, dx, low, high) STAMP1(wg__map_##op##_int32_t, int32_t, value)
#define MAP2(op, value, da, db, low, high)
#define MAP2I(op, value, da, db, low, high) STAMP2(wg__map_##op##_int32_t, int32_t, value)
#define MAP3(op, value, da, db, dc, low, high)
#define MAP3I(op, value, da, db, dc, low, high) STAMP3(wg__map_##op##_int32_t, int32_t, value)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"

/* f32: libm's f functions under the names the rows use */
#define exp expf
#define log logf
#define tanh tanhf
#define MAP1(op, value, dx, low, high) STAMP1(wg__map_##op##_float, float, value)
#define MAP1I(op, value, dx, low, high) STAMP1(wg__map_##op##_float, float, value)
#define MAP2(op, value, da, db, low, high) STAMP2(wg__map_##op##_float, float, value)
#define MAP2I(op, value, da, db, low, high) STAMP2(wg__map_##op##_float, float, value)
#define MAP3(op, value, da, db, dc, low, high) STAMP3(wg__map_##op##_float, float, value)
#define MAP3I(op, value, da, db, dc, low, high) STAMP3(wg__map_##op##_float, float, value)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"
#undef exp
#undef log
#undef tanh
