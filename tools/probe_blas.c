/* probe_blas.c: asked by the build: does this OpenBLAS link and multiply, and is it the OpenMP build? Exit status: 0 yes,
 * 3 a product is wrong, 10 it is the serial build, 11 it has threads of its own. Stands alone. */
#include <cblas.h>

int main(void) {
    double a[4] = {1, 2, 3, 4}, c[4] = {0};
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 2, 2, 1, a, 2, a, 2, 0, c, 2);
    if (c[3] != 22)
        return 3;
    return openblas_get_parallel() == OPENBLAS_OPENMP ? 0 : 10 + openblas_get_parallel();
}
