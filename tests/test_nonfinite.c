/* Who made the first NaN or Inf. */
#include "taped.h"

#include <string.h>

#include "failing.h"
#include "wengert/notation.h"

/* Steps of h = log(h - x_t), each from line 9 of a cell; x_t takes h below zero in one row at step `bad`, from 1. */
static wg_var unrolled(wg_tape *tape, wg_tensor *x, wg_tensor *start) {
    wg_var in = wg_leaf(tape, x), h = wg_leaf(tape, start);
    uint32_t unroll = ++tape->unrolls, line = wg__origin_new(tape, "odd.cell:9");
    for (int t = 0; t < 20; t++) {
        wg__step_mark(tape, unroll, t);
        wg__origin_set(tape, line);
        wg_var now = reshape(slice(in, 0, t, 1), 2, ((const int64_t[]){4, 6}));
        h = log(sub(add(square(h), 3), now));
        wg__origin_set(tape, 0);
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    return taped_sum(square(h));
}

Test(nonfinite, op_step_line_and_element_are_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){20, 4, 6});
    wg_tensor *start = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){4, 6});
    wg_var y = unrolled(tape, x, start);
    wg_nonfinite found;
    wg_error error = {0};
    cr_assert_eq(wg_find_nonfinite(1, &y, &found, &error), WG_OK);
    wg_tensor_set(x, (16 * 4 + 3) * 6 + 5, 1000);
    cr_assert_eq(wg_find_nonfinite(1, &y, &found, &error), WG_NONFINITE);
    cr_assert_str_eq(error.text, "log made NaN at step 17 (odd.cell:9), element (3,5)");
    cr_assert_str_eq(found.text, error.text);
    cr_assert_eq(found.step, 17);
    cr_assert_eq(found.element, 23);
    cr_assert(isnan(found.value));
    wg_tape_free(tape);
    wg_tensor_free(x);
    wg_tensor_free(start);
}

Test(nonfinite, derivative_of_a_step_is_told_from_the_step) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){20, 4, 6});
    wg_tensor *start = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){4, 6});
    wg_var leaf = wg_leaf(tape, x), h = wg_leaf(tape, start), dh;
    uint32_t unroll = ++tape->unrolls, line = wg__origin_new(tape, "odd.cell:4");
    (void)leaf;
    for (int t = 0; t < 5; t++) {
        wg__step_mark(tape, unroll, t);
        wg__origin_set(tape, t == 2 ? line : 0);
        h = t == 2 ? sqrt(h) : tanh(h); /* at 0: finite, with an infinite slope */
        wg__origin_set(tape, 0);
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    wg_var first = wg__var(tape, 2), y[2] = {h, {0}};
    wg_grad(taped_sum(h), 1, &first, &dh);
    y[1] = dh;
    wg_nonfinite found;
    cr_assert_eq(wg_find_nonfinite(1, y, &found, NULL), WG_OK);
    cr_assert_eq(wg_find_nonfinite(2, y, &found, NULL), WG_NONFINITE);
    cr_assert_eq(found.step, 3, "%s", found.text);
    cr_assert(found.adjoint);
    cr_assert_str_eq(found.place, "odd.cell:4");
    cr_assert_not_null(strstr(found.text, "made Inf in the derivative of step 3 (odd.cell:4), element (0,0)"), "%s",
                       found.text);
    wg_tape_free(tape);
    wg_tensor_free(x);
    wg_tensor_free(start);
}

Test(nonfinite, trouble_that_never_reaches_the_output_is_no_trouble) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F32, 0);
    wg_var x = wg_leaf(tape, t), hidden = inv(x), y[2] = {exp(neg(square(hidden))), exp(add(x, 200))};
    wg_nonfinite found;
    cr_assert_eq(wg_find_nonfinite(1, y, &found, NULL), WG_OK, "inv made Inf, but y is 0");
    cr_assert_eq(wg_find_nonfinite(2, y, &found, NULL), WG_NONFINITE);
    cr_assert_str_eq(found.text, "exp made Inf, element ()");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(nonfinite, leaf_that_holds_it_is_given) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1);
    wg_var x = wg_leaf(tape, t), y = taped_sum(tanh(transpose(x)));
    wg_tensor_set(t, 4, NAN);
    wg_nonfinite found;
    cr_assert_eq(wg_find_nonfinite(1, &y, &found, NULL), WG_NONFINITE);
    cr_assert_str_eq(found.text, "an input of shape (2,3) holds NaN, element (1,1)");
    cr_assert_eq(found.tensor, t);
    wg_tensor_set(t, 4, INFINITY);
    wg_var difference = sub(x, x); /* Inf - Inf: the op's doing */
    cr_assert_eq(wg_find_nonfinite(1, &difference, &found, NULL), WG_NONFINITE);
    cr_assert_str_eq(found.text, "sub made NaN, element (1,1)");
    wg_var shifted = add(x, -INFINITY);
    wg_tensor_set(t, 4, 0);
    cr_assert_eq(wg_find_nonfinite(1, &shifted, &found, NULL), WG_NONFINITE);
    cr_assert_str_eq(found.text, "a constant of shape (2,3) holds -Inf, element (0,0)");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(nonfinite, stores_do_nothing_and_refusals_are_survived) {
    long k;
    wg_status status = WG_MEMORY;
    for (k = 1; status != WG_NONFINITE; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        wg_tape *tape = wg_tape_new(memory);
        wg_tensor *t = taped_scalar(memory, WG_F64, -1);
        wg_var y[2] = {wg_store(t, log(wg_leaf(tape, t))), {0}};
        y[1] = wg_guard(y[0]);
        f.calls = 0;
        f.fail = k;
        wg_nonfinite found;
        status = wg_find_nonfinite(2, y, &found, NULL);
        cr_assert(status == WG_MEMORY || status == WG_NONFINITE, "%s", wg_status_name(status));
        cr_assert_eq(wg_tensor_get(t, 0), -1);
        wg_tape_free(tape);
        wg_tensor_free(t);
        cr_assert_eq(wg_memory_used(memory), 0);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 2);
}
