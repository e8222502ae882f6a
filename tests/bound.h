/* bound.h: C functions bound as ops: some, and how suites bind them. */
#ifndef WG_BOUND_H
#define WG_BOUND_H

#include "suite.h"

#include "foreign.h"

#define FUNCTION(f) ((void (*)(void))(f))

static inline void scan(long n, const double *x, double *y) {
    double sum = 0;
    for (long i = 0; i < n; i++)
        y[i] = sum += x[i];
}
static inline void scan_vjp(long n, const double *gy, double *gx) {
    double sum = 0;
    for (long i = n - 1; i >= 0; i--)
        gx[i] = sum += gy[i];
}

static inline double norm2(int n, const double *x) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}
static inline void norm2_slope(int n, const double *x, double *d) {
    for (int i = 0; i < n; i++)
        d[i] = 2 * x[i];
}

static inline void widen(int n, const int *x, double *y) {
    for (int i = 0; i < 2 * n + 1; i++)
        y[i] = i < n ? x[i] : -1;
}
static inline double four(double a, double b, double c, double d) { return a + 10 * b + 100 * c + 1000 * d; }
typedef struct complex_pair {
    double re, im;
} complex_pair;
static inline complex_pair times(complex_pair a, complex_pair b) { return (complex_pair){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

static inline wg_foreign *foreign(void) {
    wg_foreign *made = wg_foreign_new(NULL, NULL);
    cr_assert_not_null(made);
    return made;
}

static inline const wg_op *bound(wg_foreign *to, wg_binding b) {
    wg_error error = {0};
    const wg_op *op = wg_bind(to, &b, &error);
    cr_assert_not_null(op, "%s", error.text);
    return op;
}

#endif
