/* amx.h: products of f32 by a matrix unit that multiplies bf16 (AMX): every number is split into three, whose sum it is. Core only.
 *
 * A normal f32 below 2^30 is x1 + x2 + x3 exactly, with 8 bits of its significand in each. Of the nine products of the parts of two
 * numbers the six largest are added up, in f32; the others are below 2^-24 of x y together. So a sum of many terms is more exact than a
 * chain of multiply-adds in f32, for fewer sums are rounded; a product alone may be off by some 5 times 2^-24, where that is off by one.
 * Callers have subnormals flushed to zero: the unit does not read them. A row of A or a block of B that holds a number of 2^30 or more, an
 * infinity or a NaN is multiplied in f32, by the kernels of packed.h.
 * Source: Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations".
 *
 * k is cut into pieces; an element of C begins as it was, where it is added to, and takes one sum for each. So its bits follow
 * from its row of A, its block of B, and where k is cut; where the product is turned (wg__amx_turns), from its column of B and its block
 * of rows of A. */
#ifndef WG_AMX_H
#define WG_AMX_H

#include "gemm.h"

/* Whether this machine has the unit, this build uses it, and the system lets this process: the first call asks it to, and its answer stays.
 * Nothing below may be called where it does not. */
bool wg__amx_runs(void);

/* The columns of a block of B. */
enum { WG_AMX_BLOCK = 64 };

/* B (k x n) in parts, block after block; wg__amx_bytes is SIZE_MAX if it overflows. packed: aligned to 64. The second packs blocks
 * [from, to). */
size_t wg__amx_bytes(int64_t k, int64_t n);
void wg__amx_pack_blocks(int64_t k, int64_t n, const wg_matrix *b, void *packed, int64_t from, int64_t to);

/* C = A B, or C = C + A B where `add`, of the columns of blocks [from, to), the last first where `turned`: A is m x k and C m x n, their
 * rows a_row and c_row elements apart and columns adjacent. k is cut alike in all calls. */
typedef struct wg_amx_product {
    int64_t m, n, k, a_row, c_row;
    bool add;
} wg_amx_product;
void wg__amx_multiply(const wg_amx_product *p, const float *a, const void *packed, float *c, int64_t from, int64_t to, bool turned);

/* The whole of g, of f32 and with k above 0, on this thread. Takes WG_AMX_STACK bytes of the stack. */
void wg__amx_gemm(const wg_gemm *g);
enum { WG_AMX_STACK = 544 * 1024 };

/* Whether C^T = B^T A^T is made instead: where the terms of k lie apart in both operands, the one whose rows are split is transposed on the
 * way, and had better be the smaller. */
bool wg__amx_turns(const wg_gemm *g);

#endif
