/* pairs.h: kernels of two or more pointwise ops in one, so that what is between them stays in registers: sums, differences and products of
 * each other; products with a partial derivative of tanh or sigmoid; functions of sums. Their bits are those of the ops one after the other,
 * but for the sign of a NaN: no multiply-add is fused. Includes core only. */
#ifndef WG_PAIRS_H
#define WG_PAIRS_H

#include "pointwise.h"

/* Those up to WG__PAIR_OPS have two operands; the partial derivatives one, which stands for both. */
typedef enum wg__pair_op {
    WG__PAIR_ADD, WG__PAIR_SUB, WG__PAIR_MUL, WG__PAIR_OPS,
    WG__PAIR_TANH = WG__PAIR_OPS, WG__PAIR_SIGMOID, WG__PAIR_INNER, WG__PAIR_NONE = WG__PAIR_INNER
} wg__pair_op;

/* Of operands a, b, c, d: WG__PAIR_LEFT f(g(a, b), c); WG__PAIR_RIGHT f(c, g(a, b)); WG__PAIR_BOTH f(g(a, b), h(c, d)). Of a function, of
 * another op then (wg__map_of_sum): WG__PAIR_SUM of a + b; or of (a + b) + c, where there are three operands. Partial derivatives are only
 * multiplied: they are the g of WG__PAIR_LEFT or the h of WG__PAIR_BOTH, and the other is none. */
typedef enum wg__pair_kind { WG__PAIR_PLAIN, WG__PAIR_LEFT, WG__PAIR_RIGHT, WG__PAIR_BOTH, WG__PAIR_SUM } wg__pair_kind;
typedef struct wg__pair {
    uint8_t kind, f, g, h; /* WG__PAIR_PLAIN: no pair */
} wg__pair;

/* What an op is in a pair; WG__PAIR_NONE: nothing. square counts as the product of its operand with itself. */
wg__pair_op wg__pair_op_of(const wg_op *op);
static inline bool wg__pair_is_partial(wg__pair_op op) { return op == WG__PAIR_TANH || op == WG__PAIR_SIGMOID; }

/* The kernel for a type (0 and 1: f32, f64), in a run that may use `most` at most. */
wg__map *wg__pair_map(const wg__pair *pair, int type, wg_isa most);

/* The kernel of a partial derivative alone. */
wg__map *wg__partial_map(wg__pair_op partial, int type, int isa);

/* One set's. */
typedef struct wg__pairs {
    wg__map *left[WG__PAIR_OPS][WG__PAIR_INNER][2], *right[WG__PAIR_OPS][WG__PAIR_OPS][2], *both[WG__PAIR_OPS][WG__PAIR_OPS][WG__PAIR_INNER][2];
    wg__map *partial[WG__PAIR_INNER - WG__PAIR_OPS][2]; /* alone */
} wg__pairs;
#define WG__PAIRS_TABLE(name, needs) extern const wg__pairs wg__pairs_##name;
WG__ISA_MAP(WG__PAIRS_TABLE)
#undef WG__PAIRS_TABLE

#endif
