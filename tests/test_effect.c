/* Stores: what may be stored together, and how it is refused. */
#include "taped.h"

#include <string.h>

#include "wengert/notation.h"

Test(effect, one_store_named_twice_is_one_store_and_a_clash_among_many_is_found) {
    enum { MANY = 200 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t[MANY], *out[MANY + 1];
    wg_var y[MANY + 1];
    wg_error error = {0};
    for (int i = 0; i < MANY; i++) {
        t[i] = taped_scalar(NULL, WG_F64, i);
        y[i] = wg_store(t[i], add(wg_leaf(tape, t[i]), 1));
    }
    y[MANY] = y[7];
    wg_plan *plan = wg_compile(MANY + 1, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_eval(MANY + 1, y, out, &error), WG_OK, "%s", error.text);
    for (int i = 0; i < MANY; i++)
        cr_expect_eq(wg_tensor_get(t[i], 0), i + 2);
    y[MANY] = wg_store(t[11], y[3]);
    cr_assert_null(wg_compile(MANY + 1, y, NULL, &error));
    cr_assert_str_eq(error.text, "store: outputs 12 and 201 store to one tensor");
    for (int i = 0; i < MANY; i++)
        wg_tensor_free(t[i]), wg_tensor_free(out[i]);
    wg_tensor_free(out[MANY]);
    wg_plan_free(plan);
    wg_tape_free(tape);
}

Test(effect, store_recorded_without_its_tensor_is_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t);
    cr_assert_not(wg_valid(wg_apply(wg_op_find("store")->op, 1, &x, NULL)));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT, "%s", wg_tape_message(tape));
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(effect, outputs_that_are_stored_guarded_repeated_or_leaves_are_what_evaluation_gives) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F32, 2, (const int64_t[]){3, 4}, 1), *start = wg_tensor_copy(NULL, a);
    wg_tensor *b = wg_tensor_new(NULL, WG_F32, 2, (const int64_t[]){4, 3}), *none = wg_tensor_new(NULL, WG_F32, 2, (const int64_t[]){0, 4});
    wg_tensor *k = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){3});
    wg_var x = wg_leaf(tape, a), sum = add(x, 1), stored = wg_store(a, sum), turned = transpose(sum), i = wg_leaf(tape, k);
    wg_var y[] = {stored, sum, x, x, wg_guard(sum), wg_store(b, turned), turned, wg_argmax(square(stored), 1, false), add(i, 2), i,
                  wg_store(k, add(i, 1)), wg_leaf(tape, none), wg_store(none, mul(wg_leaf(tape, none), 2)), wg_like(x, 3)};
    enum { N = sizeof y / sizeof *y };
    wg_tensor *out[N];
    wg_error error = {0};
    cr_assert_eq(wg_eval(N, y, out, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_tensor_get(a, 5), wg_tensor_get(out[1], 5));
    cr_assert_eq(wg_tensor_get(k, 1), 1);
    wg_plan *plan = wg_compile(N, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    memcpy(wg_tensor_write(a), wg_tensor_data(start), wg_tensor_bytes(a));
    wg_tensor_fill(b, 0);
    wg_tensor_fill(k, 0);
    wg_tensor *other = wg_tensor_copy(NULL, start);
    cr_assert_eq(wg_workspace_rebind(wg_plan_workspace(plan), a, other, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    for (int j = 0; j < N; j++)
        cr_expect(memcmp(wg_tensor_data(out[j]), wg_tensor_data(wg_plan_output(plan, j)), wg_tensor_bytes(out[j])) == 0,
                  "output %d", j);
    cr_expect(memcmp(wg_tensor_data(other), wg_tensor_data(out[1]), wg_tensor_bytes(other)) == 0, "the bound tensor was stored to");
    cr_expect(memcmp(wg_tensor_data(a), wg_tensor_data(start), wg_tensor_bytes(a)) == 0, "the tape's own was not");
    cr_expect(memcmp(wg_tensor_data(b), wg_tensor_data(out[6]), wg_tensor_bytes(b)) == 0);
    cr_expect_eq(wg_tensor_get(k, 1), 1);
    for (int j = 0; j < N; j++)
        wg_tensor_free(out[j]);
    wg_tensor *held[] = {a, start, b, none, k, other};
    for (size_t j = 0; j < sizeof held / sizeof *held; j++)
        wg_tensor_free(held[j]);
    wg_plan_free(plan);
    wg_tape_free(tape);
}

Test(effect, output_of_a_workspace_is_not_read_by_its_own_runs) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F32, 1, (const int64_t[]){4}, 1);
    wg_var x = wg_leaf(tape, a), y = add(exp(x), x);
    wg_plan *plan = wg_compile(1, &y, NULL, NULL);
    wg_tensor *own = (wg_tensor *)(uintptr_t)wg_plan_output(plan, 0);
    cr_assert_eq(wg_workspace_rebind(wg_plan_workspace(plan), a, own, NULL), WG_CONFLICT);
    wg_workspace *second = wg_workspace_new(plan);
    cr_assert_eq(wg_workspace_rebind(second, a, own, NULL), WG_OK, "another workspace may read it");
    wg_workspace_free(second);
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(a);
}
