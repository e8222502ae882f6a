/* pairs.c: which ops go together in one kernel, and the kernels for a run. */
#include "pairs.h"
#include "ops.h"

extern const wg_op wg__op_add, wg__op_sub, wg__op_mul, wg__op_square;

wg__pair_op wg__pair_op_of(const wg_op *op) {
    if (op == &wg__op_add || op == &wg__op_add_rows)
        return WG__PAIR_ADD;
    return op == &wg__op_sub ? WG__PAIR_SUB : op == &wg__op_mul || op == &wg__op_square ? WG__PAIR_MUL : WG__PAIR_NONE;
}

wg__map *wg__pair_map(const wg__pair *pair, int type, wg_isa most) {
    static const wg__pairs *const tables[] = {
#define TABLE(name, needs) &wg__pairs_##name,
        WG__ISA_MAP(TABLE)
#undef TABLE
    };
    const wg__pairs *t = tables[wg__isa_within(most)];
    return pair->kind == WG__PAIR_LEFT ? t->left[pair->f][pair->g][type]
         : pair->kind == WG__PAIR_RIGHT ? t->right[pair->f][pair->g][type] : t->both[pair->f][pair->g][pair->h][type];
}
