/* effect.c: store and guard: ops that stand for their operand and do something when a run is over. */
#include "effect.h"

#include "ops.h"

static void effect_vjp(const wg_rule *r, wg_var *dx) { dx[0] = r->g; }

/* The tensor says what fits, and only wg_store gives one: recorded any other way it is refused. The validator, which
 * has looked at the tensor, comes with the answer. */
static wg_status store_shape(wg_infer *infer) {
    if (!infer->dtype)
        return wg_infer_fail(infer, WG_ARGUMENT, "is recorded by wg_store, which takes the tensor");
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}

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
    .shape = store_shape, .rows = wg__rows_all, .vjp = effect_vjp, .examples = store_examples};
const wg_op wg__op_guard = {.name = "guard", .arity = 1, .kind = WG_EFFECT, .traits = WG_NO_MERGE,
    .rows = wg__rows_all, .vjp = effect_vjp, .examples = guard_examples};

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

/* The place in an open-addressed table of 1 + index into y where this store's tensor is or would be. */
static int *place_of(int *table, size_t room, const wg_var *y, const wg_tensor *tensor) {
    size_t at = (size_t)(((uintptr_t)tensor >> 4) * 0x9e3779b97f4a7c15u >> 16);
    while (table[at & (room - 1)] && wg__of(y[table[at & (room - 1)] - 1])->tensor != tensor)
        at++;
    return &table[at & (room - 1)];
}

wg_status wg__check_stores(int n, const wg_var *y, wg_error *error) {
    size_t stores = 0, room = 4;
    for (int i = 0; i < n; i++)
        stores += wg__of(y[i])->op == &wg__op_store;
    if (stores < 2)
        return WG_OK;
    while (room < 2 * stores)
        room *= 2;
    wg_memory *memory = y[0].tape->memory;
    int *table = wg__take0(memory, wg__size(room, sizeof *table, 0));
    wg_status status = table ? WG_OK : wg__refusal(memory);
    if (!table)
        wg_error_set(error, status, "store: %s", wg_status_sentence(status));
    for (int i = 0; i < n && status == WG_OK; i++) {
        if (wg__of(y[i])->op != &wg__op_store)
            continue;
        int *place = place_of(table, room, y, wg__of(y[i])->tensor);
        if (*place && y[*place - 1].as.id != y[i].as.id)
            status = wg_error_set(error, WG_CONFLICT, "store: outputs %d and %d store to one tensor", *place, i + 1);
        else
            *place = i + 1;
    }
    wg__give(memory, table);
    return status;
}
