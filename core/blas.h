/* blas.h: CBLAS on the calling thread alone. Every call of CBLAS or LAPACK stands between wg__blas_enter and
 * wg__blas_leave: OpenBLAS's OpenMP build then starts no threads and has no shared state but a locked list of buffers, so
 * any number of threads may call it at once, and a product's bits do not depend on how many threads there are. */
#ifndef WG_BLAS_H
#define WG_BLAS_H

#include <cblas.h>
#include <omp.h>

/* Returns what wg__blas_leave gives back. Changes OpenMP's setting for this thread only. */
static inline int wg__blas_enter(void) {
    int threads = omp_get_max_threads();
    if (threads != 1)
        omp_set_num_threads(1);
    return threads;
}

static inline void wg__blas_leave(int threads) {
    if (threads != 1)
        omp_set_num_threads(threads);
}

#endif
