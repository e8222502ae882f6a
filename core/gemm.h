/* gemm.h: the seam to matrix products: one contract, several engines behind it. Core only.
 *
 * The unit of arithmetic is a tile of the result whose shape follows from the product and the set alone; threads are handed whole
 * tiles, so the bits of a result never depend on their number.
 *
 * A right operand that is read again and again (a weight, until its tensor's version changes) is packed once; products with
 * it then cost no packing, and may have few rows. */
#ifndef WG_GEMM_H
#define WG_GEMM_H

#include "core.h"

struct wg_panel; /* packed.h */

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
    wg_isa isa; /* the most that kernels use; wg__gemm takes its team's */
} wg_gemm;

typedef enum wg_engine {
    WG_ENGINE_BY_SIZE, /* the choice of every caller but tests */
    WG_ENGINE_PLAIN,   /* three loops: the reference, and the quickest for tiny products */
    WG_ENGINE_CBLAS,   /* a serial CBLAS, one tile a call; strides it cannot read are packed block by block */
    WG_ENGINE_PACKED,  /* packed panels by the kernels compiled for the instruction set */
    WG_ENGINE_XSMM,    /* the same by LIBXSMM's kernels, where it has them and the set's blocks are wide (not AVX2's) */
    WG_ENGINE_AMX,     /* in bf16 parts (amx.h), if it is of f32 and the machine can; else packed panels */
    WG_ENGINES
} wg_engine;

/* The whole product; shared between the team's threads when it is large enough to gain. */
void wg__gemm(const wg_team *team, const wg_gemm *g);
void wg__gemm_by(wg_engine engine, const wg_team *team, const wg_gemm *g);

/* The sum of so many products of one m, n, dtype and C: the first has the beta, the others 1; each thread adds up tiles. */
enum { WG_MOST_PRODUCTS = 8 };
void wg__gemm_sum(const wg_team *team, int count, const wg_gemm *g);

/* The same as tiles, for schedules of their own. Every tile once, in any order, by any threads, gives the same bits as wg__gemm_sum. */
typedef struct wg_tiles {
    wg_engine engine;
    wg_gemm g[WG_MOST_PRODUCTS];
    int count;             /* of the products */
    int turns;             /* threads that take tiles by turns */
    int64_t rows, columns; /* of a tile */
    int64_t down, across;  /* tiles: number t is in row t % down and column t / down of them */
    bool shared;           /* threads gain from sharing it */
    bool past;             /* C, which the threads share and is large, goes past their caches where a kernel can do that */
} wg_tiles;
void wg__tiles_of(wg_tiles *tiles, const wg_team *team, int count, const wg_gemm *g);
/* Lets tiles have so many rows at most, where smaller ones cost little: B is read where it lies, and a cache next to a thread holds what a
 * tile reads of it; or as few as it is worth copying B for. */
void wg__tiles_cut(wg_tiles *tiles, int64_t rows);
/* Tiles [from, to) on this thread. `then`: the tile that it is likely to make after these. */
void wg__tiles_run(const wg_tiles *tiles, int64_t from, int64_t to, int64_t then);

/* Whether a run of this team may make products of f32 in parts (amx.h): its set allows it, and subnormals need not be kept. And whether the
 * machine does, too: that asks the system to let it. Products of fewer rows or columns than
 * WG_PARTS_SIDE, or fewer terms than WG_PARTS_DEEP, are not made so, but with a packed operand: splitting the numbers takes what it
 * gains. */
bool wg__parts_allowed(const wg_team *team);
bool wg__parts_serve(const wg_team *team);
enum { WG_PARTS_SIDE = 80, WG_PARTS_DEEP = 128 };

/* Multiply-add pairs, as an amount of work; saturates. */
int64_t wg__gemm_work(const wg_gemm *g);

/* Products with less work than this gain nothing from a second thread. */
enum { WG_GEMM_SHARE = 1 << 20 };

/* ---- a right operand packed once, for many products of few rows each --------------------------------------------
 *
 * The packed form of B (k x n) is blocks of columns, one after the other, whose width is the set's that packs it, wg__packed_width or a divisor;
 * in a block, its k rows. The last block is as wide as what is left of n, rounded up to 64 bytes, and zero beyond n. It follows from dtype, k, n
 * and the set alone, its size from the first three. dtype: f32 or f64. Or B is packed in parts, of f32 and where that serves: then it takes half as
 * much again. */
int64_t wg__packed_width(wg_dtype dtype);
size_t wg__packed_bytes(wg_dtype dtype, int64_t k, int64_t n, bool parts); /* SIZE_MAX if it overflows */

/* Packs B, whose strides are any. `packed`: wg__packed_bytes, aligned to 64, not overlapping B. Large work is shared between the team's
 * threads. */
void wg__pack(const wg_team *team, wg_dtype dtype, int64_t k, int64_t n, const wg_matrix *b, bool parts, void *packed);
/* Of pieces, not in parts: so many rows of each, one under the other; or, `across`, so many columns, side by side, a multiple of
 * wg__packed_width of each but the last. */
typedef struct wg_piece {
    wg_matrix b;
    int64_t size;
} wg_piece;
void wg__pack_pieces(const wg_team *team, wg_dtype dtype, int64_t k, int64_t n, int count, const wg_piece *piece, bool across, void *packed);
enum { WG_PACK_SHARE = 1 << 17 }; /* bytes: less gains nothing from a second thread */

/* What will be read next, asked of memory on the way: so many lines from each of so many rows, `step` bytes apart. */
typedef struct wg_soon {
    const char *at;
    int64_t step, lines, rows;
} wg_soon;

/* C = A B, or C = C + A B where `add`, of a row by so many whole blocks, the last first if `turned`. */
typedef void wg__lone_kernel(int64_t k, int64_t blocks, bool add, bool turned, const void *a, const void *packed, void *c);

/* What the products of one form have in common: made once, read by any threads at once. Owns nothing. */
typedef struct wg_packed_product {
    wg_dtype dtype;
    bool add, parts;
    int64_t m, n, k, a_row, c_row;
    int64_t width, blocks; /* columns of a whole block; and how many there are, whole or not */
    void (*whole)(const void *b, const void *a, void *c); /* LIBXSMM's kernel for blocks of full width, or NULL */
    void (*any)(const struct wg_panel *p, const void *a, const void *b, void *c);
    wg__lone_kernel *lone; /* for whole blocks and a row that has no others, or NULL */
    bool asks; /* memory, for what wg__packed_multiply_asking is given */
} wg_packed_product;

/* C = A B, or C = C + A B if `add`: A is m x k and C m x n, their rows a_row and c_row elements apart and columns adjacent; m
 * 1 or more. Kernels use at most the instruction set `most`, which was that of the team that packed B. parts: B is packed in parts,
 * where wg__parts_serve. */
void wg__packed_product_init(wg_packed_product *p, wg_isa most, wg_dtype dtype, int64_t m, int64_t n, int64_t k, int64_t a_row,
                             int64_t c_row, bool add, bool parts);

/* For a row that has no others, in any call: its sums may be made in several chains, quicker than those of a row among others, and with
 * other bits. m: 1. */
void wg__packed_product_alone(wg_packed_product *p, wg_isa most);

/* The product, or its columns of blocks [from, to), on this thread alone. turned: the last blocks first; by turns, a matrix that is read
 * again and again begins with what is still in the cache. C lies apart from A. The bits of a row of C depend on
 * that row of A, on B, its form, on `most` and on whether it is alone: not on m, on the other rows, nor on the blocks in the call; but for
 * the sign of a NaN made of several. Without `add`, C is only written. */
void wg__packed_multiply(const wg_packed_product *p, const void *a, const void *packed, void *c, bool turned);
void wg__packed_multiply_blocks(const wg_packed_product *p, const void *a, const void *packed, void *c, int64_t from,
                                int64_t to);

/* Lets a product ask memory on its way for what will be read next (wg__packed_multiply_asking), if it can: its blocks are then all made by
 * the kernels that do, in any call and with any m: LIBXSMM's fuse multiply-adds where a compiler's may not. */
void wg__packed_product_let_ask(wg_packed_product *p);

/* wg__packed_multiply, whose last blocks ask for so many things, in their order, each of 1 row and line or more. They are a hint: what there
 * are too few columns or terms for is left out, and other products ask for none. No bit depends on it. */
void wg__packed_multiply_asking(const wg_packed_product *p, const void *a, const void *packed, void *c, bool turned, const wg_soon *soon,
                                int64_t count);

#endif
