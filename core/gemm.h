/* gemm.h: the seam to matrix products: one contract, several engines behind it. Core only.
 *
 * The unit of arithmetic is a tile of the result whose shape follows from the sizes alone; threads are handed whole
 * tiles, so the bits of a result never depend on their number.
 *
 * A place is kept here for packed operands: an operand that is read again and again (a weight, until its tensor's
 * version changes) will be packed once into an engine's own layout and named by a handle in place of `data`; the
 * tiles stay the same. */
#ifndef WG_GEMM_H
#define WG_GEMM_H

#include "core.h"

/* Element (i,j) is data[i*row + j*column]. A transpose exchanges the strides. */
typedef struct wg_matrix {
    void *data;
    int64_t row, column;
} wg_matrix;

/* C = alpha A B + beta C, where A is m x k, B is k x n, C is m x n with column stride 1 and apart from A and B. With
 * beta 0, C is only written: what it held, a NaN too, is gone. With k 0, A B is zero. */
typedef struct wg_gemm {
    wg_dtype dtype; /* f32 or f64 */
    int64_t m, n, k;
    wg_matrix a, b, c;
    double alpha, beta;
} wg_gemm;

typedef enum wg_engine {
    WG_ENGINE_BY_SIZE, /* the choice of every caller but tests */
    WG_ENGINE_PLAIN,   /* three loops: the reference, and the quickest for tiny products */
    WG_ENGINE_CBLAS    /* a serial CBLAS, one tile a call; strides it cannot read are packed block by block */
} wg_engine;

/* The whole product; shared between the team's threads when it is large enough to gain. */
void wg__gemm(const wg_team *team, const wg_gemm *g);
void wg__gemm_by(wg_engine engine, const wg_team *team, const wg_gemm *g);

/* For schedules of their own: the number of tiles, and tiles [from, to) on this thread. Every tile once, in any order,
 * by any threads, gives the same bits as wg__gemm. */
int64_t wg__gemm_tiles(const wg_gemm *g);
void wg__gemm_run(const wg_gemm *g, int64_t from, int64_t to);

/* Multiply-add pairs, as an amount of work; saturates. */
int64_t wg__gemm_work(const wg_gemm *g);

/* Products with less work than this gain nothing from a second thread. */
enum { WG_GEMM_SHARE = 1 << 20 };

#endif
