/* effect.c: store and guard: ops that stand for their operand and do something when a run is over. */
#include "effect.h"

#include "ops.h"

static void effect_vjp(const wg_rule *r, wg_var *dx) { dx[0] = r->g; }

static wg_var store_example(const wg_var *in) {
    const wg_shape *shape = wg_var_shape(in[0]);
    wg_tensor *tensor = wg_tensor_new(NULL, wg_var_dtype(in[0]), shape->rank, shape->dim);
    wg_var y = wg_store(tensor, in[0]);
    wg_tensor_free(tensor); /* the node holds it */
    return y;
}
static wg_var guard_example(const wg_var *in) { return wg_guard(in[0]); }
static const wg_example store_examples[] = {{"2,3", -2, 2, store_example}, {0}};
static const wg_example guard_examples[] = {{"2,3", -2, 2, guard_example}, {0}};

const wg_op wg__op_store = {.name = "store", .arity = 1, .kind = WG_EFFECT, .traits = WG_NO_MERGE | WG_TAKES_I32,
    .vjp = effect_vjp, .examples = store_examples};
const wg_op wg__op_guard = {.name = "guard", .arity = 1, .kind = WG_EFFECT, .traits = WG_NO_MERGE,
    .vjp = effect_vjp, .examples = guard_examples};

wg_var wg_store(wg_tensor *tensor, wg_var value) {
    wg_tape *tape = wg__tape_of(1, &value);
    char a[96], b[96];
    if (!wg__operand(value, "store"))
        return wg__var(tape, 0);
    const wg_node *node = wg__of(value);
    if (!tensor || wg_tensor_dtype(tensor) != (wg_dtype)node->dtype ||
        !wg__shape_same(wg_tensor_shape(tensor), node->shape))
        return wg__fail(tape, WG_SHAPE, "store", "%s %s into a tensor of %s %s",
                        wg_dtype_name((wg_dtype)node->dtype), wg_shape_text(node->shape, a, sizeof a),
                        tensor ? wg_dtype_name(wg_tensor_dtype(tensor)) : "NULL",
                        tensor ? wg_shape_text(wg_tensor_shape(tensor), b, sizeof b) : "");
    wg_var store = wg__record(tape, &wg__op_store, (wg_dtype)node->dtype, node->shape, 1, &value, NULL);
    wg__hold(store, tensor);
    return wg_valid(store) ? store : wg__var(tape, 0);
}

wg_var wg_guard(wg_var value) { return wg_apply(&wg__op_guard, 1, &value, NULL); }

wg_status wg__check_stores(int n, const wg_var *y, wg_error *error) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (wg__of(y[i])->op == &wg__op_store && wg__of(y[k])->op == &wg__op_store &&
                wg__of(y[i])->tensor == wg__of(y[k])->tensor)
                return wg_error_set(error, WG_CONFLICT, "store: outputs %d and %d store to one tensor", k + 1, i + 1);
    return WG_OK;
}
