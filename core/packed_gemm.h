/* packed_gemm.h: a tile of a product by the kernels of packed.h. Core only. */
#ifndef WG_PACKED_GEMM_H
#define WG_PACKED_GEMM_H

#include "packed.h"

/* The whole of g on this thread, by LIBXSMM's kernels where `xsmm` and it has them, of wide blocks alone; past: what of C is written once, in
 * whole lines, goes past the caches, if its kernels can do that. Takes WG_TILE_BYTES of the stack. Memory is asked for the beginning of
 * `then`, which is likely to be next, or empty. */
void wg__gemm_packed(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *then);
enum { WG_TILE_BYTES = 448 * 1024 };

#endif
