/* probe_blas.c: asked by the build: does OpenBLAS link, and would it start threads of its own? Exit status: its kind,
 * 0 serial, 1 its own threads, 2 OpenMP; 3 when a product is wrong. Stands alone. */
#include <cblas.h>

int main(void) {
    double a[4] = {1, 2, 3, 4}, c[4] = {0};
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 2, 2, 1, a, 2, a, 2, 0, c, 2);
    return c[3] == 22 ? openblas_get_parallel() : 3;
}
