/* pairs.c: which ops go together in one kernel, and the kernels for a run. */
#include "pairs.h"
#include "ops.h"

extern const wg_op wg__op_add, wg__op_sub, wg__op_mul, wg__op_square;

wg__pair_op wg__pair_op_of(const wg_op *op) {
    if (op == &wg__op_add || op == &wg__op_add_rows)
        return WG__PAIR_ADD;
    if (op == &wg__op_tanh_partial || op == &wg__op_sigmoid_partial)
        return op == &wg__op_tanh_partial ? WG__PAIR_TANH : WG__PAIR_SIGMOID;
    return op == &wg__op_sub ? WG__PAIR_SUB : op == &wg__op_mul || op == &wg__op_square ? WG__PAIR_MUL : WG__PAIR_NONE;
}

static const wg__pairs *pairs_of(int isa) {
    static const wg__pairs *const tables[] = {
#define TABLE(name, needs) &wg__pairs_##name,
        WG__ISA_MAP(TABLE)
#undef TABLE
    };
    return tables[isa];
}

wg__map *wg__pair_map(const wg__pair *pair, int type, wg_isa most) {
    const wg__pairs *t = pairs_of(wg__isa_within(most));
    return pair->kind == WG__PAIR_LEFT ? t->left[pair->f][pair->g][type]
         : pair->kind == WG__PAIR_RIGHT ? t->right[pair->f][pair->g][type] : t->both[pair->f][pair->g][pair->h][type];
}

wg__map *wg__partial_map(wg__pair_op partial, int type, int isa) { return pairs_of(isa)->partial[partial - WG__PAIR_OPS][type]; }
