/* pairs.h: kernels of two or three sums, differences and products of pointwise operands in one, so that what is between them stays in
 * registers. Their bits are those of the ops one after the other, but for the sign of a NaN: no multiply-add is fused. Includes core only. */
#ifndef WG_PAIRS_H
#define WG_PAIRS_H

#include "pointwise.h"

typedef enum wg__pair_op { WG__PAIR_ADD, WG__PAIR_SUB, WG__PAIR_MUL, WG__PAIR_OPS, WG__PAIR_NONE = WG__PAIR_OPS } wg__pair_op;

/* Of operands a, b, c, d: WG__PAIR_LEFT f(g(a, b), c); WG__PAIR_RIGHT f(c, g(a, b)); WG__PAIR_BOTH f(g(a, b), h(c, d)). */
typedef enum wg__pair_kind { WG__PAIR_PLAIN, WG__PAIR_LEFT, WG__PAIR_RIGHT, WG__PAIR_BOTH } wg__pair_kind;
typedef struct wg__pair {
    uint8_t kind, f, g, h; /* WG__PAIR_PLAIN: no pair */
} wg__pair;

/* What an op is in a pair; WG__PAIR_NONE: nothing. square counts as the product of its operand with itself. */
wg__pair_op wg__pair_op_of(const wg_op *op);

/* The kernel for a type (0 and 1: f32, f64), in a run that may use `most` at most. */
wg__map *wg__pair_map(const wg__pair *pair, int type, wg_isa most);

/* One set's. */
typedef struct wg__pairs {
    wg__map *left[WG__PAIR_OPS][WG__PAIR_OPS][2], *right[WG__PAIR_OPS][WG__PAIR_OPS][2], *both[WG__PAIR_OPS][WG__PAIR_OPS][WG__PAIR_OPS][2];
} wg__pairs;
#define WG__PAIRS_TABLE(name, needs) extern const wg__pairs wg__pairs_##name;
WG__ISA_MAP(WG__PAIRS_TABLE)
#undef WG__PAIRS_TABLE

#endif
