/* packed.h: the kernels under matrix products: one panel of B, as wide as a block, by any number of rows of A. Stamped for
 * each instruction set (packed_kernel.h), or made by LIBXSMM (xsmm.c). Core only.
 *
 * Every kernel adds an element's terms in one chain, from the first to the last of k, starting from 0 or from C. So the bits of
 * an element of C depend on its row of A and its column of B alone: not on the other rows and columns in the call, nor on
 * where k is cut; and all kernels that fuse multiply-adds agree, but for the sign of a NaN made of several. But `lone`: a row
 * that has no others. */
#ifndef WG_PACKED_H
#define WG_PACKED_H

#include "gemm.h"
#include "isa.h"

/* The bytes of a whole block's row of B; rows of narrower ones are whole lines. */
enum { WG_BLOCK_BYTES = 256 };

/* x from its element (i,j) on. */
static inline wg_matrix wg__corner(wg_dtype dtype, const wg_matrix *x, int64_t i, int64_t j) {
    int64_t size = (int64_t)wg_dtype_size(dtype);
    return (wg_matrix){(char *)x->data + (i * x->row + j * x->column) * size, x->row, x->column};
}

/* Whether kernels read a product's A where it lies: others had better be copied. So had more columns than WAYS that are a multiple of 4096 bytes
 * apart, of which a cache holds so few at once: they are in each other's place. */
static inline bool wg__lies_ready(const wg_gemm *g) {
    enum { WAYS = 8 };
    const bool apart = g->a.column == 0 || g->a.column * (int64_t)wg_dtype_size(g->dtype) % 4096 != 0;
    return g->a.column == 1 || (g->a.row == 1 && (apart || g->k <= WAYS));
}

/* C = A B, or C = C + A B where `add`. A is m x k of any strides, C m x columns with column stride 1. B is k x columns, its
 * rows b_row apart, of which the columns rounded up to a line's may be read. */
typedef struct wg_panel {
    int64_t m, columns, k;
    int64_t a_row, a_column, b_row, c_row;
    bool add;
    bool past; /* C's rows are whole lines, and go past the caches: only kernels of AVX-512 do so */
    wg_soon soon;
} wg_panel;
typedef void wg__panel_kernel(const wg_panel *p, const void *a, const void *b, void *c);

/* One set's kernels, for f32 and f64. */
typedef struct wg__panel_kernels {
    wg__panel_kernel *multiply[2];
    wg__lone_kernel *lone[2];
} wg__panel_kernels;
#define WG__PANEL_TABLE(name, needs) extern const wg__panel_kernels wg__panel_kernels_##name;
WG__ISA_MAP(WG__PANEL_TABLE)
#undef WG__PANEL_TABLE
const wg__panel_kernels *wg__panel_kernels_of(wg_isa most);
wg__panel_kernel *wg__panel_kernel_of(wg_dtype dtype, wg_isa most);

/* The elements from one row of a block of so many columns to the next: whole lines. */
int64_t wg__packed_row(wg_dtype dtype, int64_t columns);

/* out[i*width + j] = x(i,j), for i < rows and j < columns; then zeros up to out[i*width + filled]. */
void wg__panel_copy(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t columns, int64_t filled, int64_t width,
                    void *out);

#endif
