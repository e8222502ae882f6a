/* test_accumulate.c: products that add to products: which do, and that others do not. */
#include "suite.h"

#include "failing.h"
#include "plan.h"
#include "random_graph.h"
#include "recurrence.h"

Test(accumulate, sums_weight_gradients_over_steps_in_one_buffer) {
    wg_tape *tape = wg_tape_new(NULL), *fine = wg_tape_new(NULL);
    wg_tensor *exact[4], *single[4];
    wg_var y[4], z[4];
    char text[512] = "";
    recurrence(tape, WG_F32, 32, false, y);
    recurrence(fine, WG_F64, 32, false, z);
    cr_assert_eq(wg_eval(4, y, single, NULL), WG_OK);
    cr_assert_eq(wg_eval(4, z, exact, NULL), WG_OK);
    wg_plan *plain = wg_compile(4, y, &(wg_compile_options){.validate = true, .without = "accumulate"}, NULL);
    cr_assert(plain && wg_run(plain, NULL) == WG_OK);
    for (int i = 0; i < 4; i++) /* the pass alone adds in another order */
        cr_expect_arr_eq(wg_tensor_data(single[i]), wg_tensor_data(wg_plan_output(plain, i)), wg_tensor_bytes(single[i]), "output %d", i);
    wg_plan_free(plain);
    wg_plan *plan = wg_compile(4, y, &(wg_compile_options){.validate = true}, NULL);
    cr_assert(plan && wg_run(plan, NULL) == WG_OK);
    for (int i = 0; i < 4; i++)
        cr_expect(random_graph_agree(exact[i], single[i], wg_plan_output(plan, i), text, sizeof text), "output %d: %s", i, text);
    const wg_program *p = plan->program;
    int taken_over = 0, in_output = 0;
    for (int64_t id = 1; id < p->count; id++) {
        bool adds = p->list[id].op->traits & WG_ADDS_TO_LAST;
        taken_over += adds && p->values[id].over;
        in_output += adds && p->values[id].space == WG_IN_OUTPUT;
    }
    cr_expect_eq(taken_over, 2 * 31 + 32, "of two weights, inside the steps; not of the states, where what is not a product stands first");
    cr_expect_eq(in_output, 31 + 31, "straight into the outputs");
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tape_free(fine);
    taped_free(4, exact);
    taped_free(4, single);
}

/* The gradient of the squares, which stands first in the sum, is added to the products' sum at last. */
Test(accumulate, products_find_each_other_past_what_is_none) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var y[4];
    wg_tensor *want[4];
    int adds = 0;
    recurrence(tape, WG_F64, 32, true, y);
    wg_plan *plan = wg_compile(4, y, &(wg_compile_options){.validate = true}, NULL);
    cr_assert(plan && wg_run(plan, NULL) == WG_OK);
    cr_assert_eq(wg_eval(4, y, want, NULL), WG_OK);
    for (int i = 0; i < 4; i++)
        cr_expect(taped_close(want[i], wg_plan_output(plan, i)), "output %d", i);
    taped_free(4, want);
    for (int64_t id = 1; id < plan->program->count; id++)
        adds += (plan->program->list[id].op->traits & WG_ADDS_TO_LAST) != 0;
    cr_expect_eq(adds, 2 * 31 + 32, "of two weights, inside the steps: %d", adds);
    wg_plan_free(plan);
    wg_tape_free(tape);
}

/* Each of 3,000 terms added to it would be rounded as it is. */
Test(accumulate, terms_of_a_product_are_not_added_one_by_one_to_something_larger) {
    static const int64_t sizes[3][2] = {{20, 3000}, {3000, 30}, {20, 30}};
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *exact[1], *single[1];
    wg_var y[WG_F64 + 1];
    char text[512] = "";
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var leaf[3];
        for (int i = 0; i < 3; i++) {
            wg_tensor *t = taped_random(NULL, dtype, 2, sizes[i], (uint64_t)i + 1);
            for (int64_t k = 0; k < wg_tensor_shape(t)->count; k++)
                wg_tensor_set(t, k, (float)wg_tensor_get(t, k));
            leaf[i] = wg_leaf(tape, t);
            wg_tensor_free(t);
        }
        y[dtype] = add(mul(leaf[2], 4096), wg_matmul(leaf[0], leaf[1], false, false));
    }
    cr_assert_eq(wg_eval(1, &y[WG_F32], single, NULL), WG_OK);
    cr_assert_eq(wg_eval(1, &y[WG_F64], exact, NULL), WG_OK);
    wg_plan *plan = wg_compile(1, &y[WG_F32], &(wg_compile_options){.validate = true}, NULL);
    cr_assert(plan && wg_run(plan, NULL) == WG_OK);
    cr_expect(random_graph_agree(exact[0], single[0], wg_plan_output(plan, 0), text, sizeof text), "%s", text);
    wg_plan_free(plan);
    wg_tape_free(tape);
    taped_free(1, exact);
    taped_free(1, single);
}

Test(accumulate, survives_every_refused_allocation) {
    long k = 0;
    for (bool done = false; !done;) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        wg_tape *tape = wg_tape_new(memory);
        wg_var y[4];
        wg_error error = {0};
        recurrence(tape, WG_F64, 12, true, y);
        const long live = f.live;
        f.calls = 0, f.fail = ++k;
        wg_plan *plan = wg_compile(4, y, &(wg_compile_options){.validate = true}, &error);
        done = !failing_failed(&f);
        cr_assert(plan || (!done && error.status == WG_MEMORY), "refusal %ld: %s", k, error.text);
        wg_plan_free(plan);
        cr_assert_eq(f.live, live, "refusal %ld leaks", k);
        wg_tape_free(tape);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30);
}
