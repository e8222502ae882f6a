/* test_blas.c: the OpenBLAS found here, as the library uses it: called by several OpenMP threads at once, each with one
 * product of its own. The serial build has no locks: it hands one work buffer to two threads, and some products are
 * wrong. */
#include "suite.h"

#include "core.h"

#include <cblas.h>
#include <stdlib.h>

enum { SIZE = 100, THREADS = 4, ROUNDS = 200 };

static void multiply(const double *a, const double *b, double *c) {
    int threads = wg__alone_enter();
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SIZE, SIZE, SIZE, 1, a, SIZE, b, SIZE, 0, c, SIZE);
    wg__alone_leave(threads);
}

/* The number of products, of ROUNDS, that differ from `right` times `scale`: powers of two, so no rounding. */
static int count_wrong(const double *a, const double *b, const double *right, double scale) {
    double *scaled = malloc(sizeof(double[2][SIZE * SIZE])), *c = scaled + SIZE * SIZE;
    if (!scaled)
        return ROUNDS;
    int wrong = 0;
    for (int i = 0; i < SIZE * SIZE; i++)
        scaled[i] = scale * a[i];
    for (int round = 0; round < ROUNDS; round++) {
        multiply(scaled, b, c);
        int i = 0;
        while (i < SIZE * SIZE && c[i] == scale * right[i])
            i++;
        wrong += i < SIZE * SIZE;
    }
    free(scaled);
    return wrong;
}

Test(blas, products_by_several_threads_at_once_are_right) {
    static double a[SIZE * SIZE], b[SIZE * SIZE], right[SIZE * SIZE];
    for (int i = 0; i < SIZE * SIZE; i++) {
        a[i] = (i * 7919 % 1009) / 1009.0 - 0.5;
        b[i] = (i * 6007 % 997) / 997.0 - 0.5;
    }
    multiply(a, b, right);
    cr_assert_neq(right[SIZE], 0);
    int wrong = 0;
#pragma omp parallel for num_threads(THREADS) schedule(static, 1) reduction(+ : wrong)
    for (int k = 0; k < THREADS; k++)
        wrong += count_wrong(a, b, right, (double)(1 << k));
    cr_assert_eq(wrong, 0, "%d of %d products are wrong", wrong, THREADS * ROUNDS);
}
