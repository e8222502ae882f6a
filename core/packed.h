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

/* The bytes of a whole block's row of B, for sets that have no narrower ones of their own (wg__panel_kernels.block); rows of narrower blocks are
 * whole lines. */
enum { WG_BLOCK_BYTES = 256 };

/* x from its element (i,j) on. */
static inline wg_matrix wg__corner(wg_dtype dtype, const wg_matrix *x, int64_t i, int64_t j) {
    int64_t size = (int64_t)wg_dtype_size(dtype);
    return (wg_matrix){(char *)x->data + (i * x->row + j * x->column) * size, x->row, x->column};
}

/* C = A B, or C = C + A B where `add`. A is m x k of any strides, or in slivers; C m x columns with column stride 1. B is k x columns, its
 * rows b_row apart, of which the columns rounded up to a line's may be read. */
typedef struct wg_panel {
    int64_t m, columns, k;
    int64_t a_row, a_column, b_row, c_row;
    bool add;
    bool past; /* C's rows are whole lines, and go past the caches: only kernels of AVX-512 do so */
    bool slivers; /* A is in slivers (wg__slivers_copy), a_row is 1, a_column WG_SLIVER: only kernels of narrow blocks read them */
    wg_soon soon;
} wg_panel;
typedef void wg__panel_kernel(const wg_panel *p, const void *a, const void *b, void *c);

/* One set's kernels, for f32 and f64. block: the bytes of a whole block's row. Kernels that have a part of a row's columns in registers at once read
 * that part of each, with gaps that leave most of the first cache unused: AVX2's have blocks of their own, a line wide; the baseline's, which every
 * processor in use has better than, are the wide ones that LIBXSMM's kernels take too. */
typedef struct wg__panel_kernels {
    int block;
    wg__panel_kernel *multiply[2];
    wg__lone_kernel *lone[2];
} wg__panel_kernels;
#define WG__PANEL_TABLE(name, needs) extern const wg__panel_kernels wg__panel_kernels_##name;
WG__ISA_MAP(WG__PANEL_TABLE)
#undef WG__PANEL_TABLE
const wg__panel_kernels *wg__panel_kernels_of(wg_isa most);
wg__panel_kernel *wg__panel_kernel_of(wg_dtype dtype, wg_isa most);

/* The columns of a whole block for a set, and whether they are fewer than others'. */
int64_t wg__block_width(wg_dtype dtype, wg_isa most);
static inline bool wg__is_narrow(wg_dtype dtype, wg_isa most) { return wg__block_width(dtype, most) < wg__packed_width(dtype); }

/* Rows for which neither operand is copied for kernels of narrow blocks. */
enum { WG_FEW_ROWS = 12 };

/* Whether kernels read a product's A where it lies: others had better be copied. So had more columns than WAYS that are a multiple of 4096 bytes
 * apart, of which a cache holds so few at once: they are in each other's place. Kernels of narrow blocks read A often: all but adjacent rows that are
 * read by FEW blocks, or are few, had better be near each other. */
static inline bool wg__lies_ready(const wg_gemm *g) {
    enum { WAYS = 8, FEW = 4 };
    if (wg__is_narrow(g->dtype, g->isa))
        return g->a.column == 1 && (g->m <= WG_FEW_ROWS || g->n <= FEW * wg__block_width(g->dtype, g->isa));
    const bool apart = g->a.column == 0 || g->a.column * (int64_t)wg_dtype_size(g->dtype) % 4096 != 0;
    return g->a.column == 1 || (g->a.row == 1 && (apart || g->k <= WAYS));
}

/* The elements from one row of a block of so many columns to the next: whole lines. */
int64_t wg__packed_row(wg_dtype dtype, int64_t columns);

/* Slivers of x's rows: WG_SLIVER of them, which kernels multiply at once, or what is left, column by column; then the next. Of its k columns,
 * [from, to) are written. */
enum { WG_SLIVER = 6 };
void wg__slivers_copy(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t k, int64_t from, int64_t to, void *out);

/* out[i*width + j] = x(i,j), for i < rows and j < columns; then zeros up to out[i*width + filled]. */
void wg__panel_copy(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t columns, int64_t filled, int64_t width,
                    void *out);

#endif
