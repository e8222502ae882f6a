/* Stores: what may be stored together, and how it is refused. */
#include "taped.h"

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
