/* The losses, held against their formulas in long double. */
#include "suite.h"

#include "differences.h"

static long double cross_entropy(const wg_tensor *x, int64_t row, int64_t n, int64_t label) {
    long double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmaxl(most, wg_tensor_get(x, row * n + i));
    for (int64_t i = 0; i < n; i++)
        sum += expl(wg_tensor_get(x, row * n + i) - most);
    return most + logl(sum) - wg_tensor_get(x, row * n + label);
}

Test(loss, cross_entropy_is_the_mean_over_rows_that_count) {
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++)
        for (int ignore = -1; ignore < 3; ignore++) {
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *x = drawn(dtype, 3, (const int64_t[]){5, 8, 37}, -9, 9, 1);
            wg_tensor *label = drawn(WG_I32, 2, (const int64_t[]){5, 8}, 0, 37, 2);
            for (int i = 0; i < 6; i++)
                wg_tensor_set(label, i * 3, i % 3);
            wg_var logits = wg_leaf(tape, x), labels = wg_leaf(tape, label);
            wg_tensor *rows = evaluated(wg_softmax_cross_entropy_rows(logits, labels, ignore), 2);
            long double sum = 0;
            int counted = 0;
            for (int64_t r = 0; r < 40; r++) {
                int64_t at = (int64_t)wg_tensor_get(label, r);
                long double want = at == ignore ? 0 : cross_entropy(x, r, 37, at);
                cr_assert_float_eq(wg_tensor_get(rows, r), (double)want, dtype == WG_F32 ? 4e-6 : 1e-13);
                sum += want;
                counted += at != ignore;
            }
            cr_assert(ignore < 0 || counted < 40);
            cr_assert_float_eq(first_value(wg_softmax_cross_entropy(logits, labels, ignore)), (double)(sum / counted),
                               dtype == WG_F32 ? 2e-6 : 1e-13);
            wg_tensor_free(rows);
            wg_tensor_free(x);
            wg_tensor_free(label);
            wg_tape_free(tape);
        }
}

Test(loss, the_derivative_of_cross_entropy_is_softmax_less_the_label) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F64, 2, (const int64_t[]){6, 5}, -9, 9, 1), dx;
    wg_var label = leaf_of(tape, WG_I32, 1, (const int64_t[]){6}, (const double[]){0, 4, -7, 2, 2, -7});
    wg_grad(wg_softmax_cross_entropy(x, label, -7), 1, &x, &dx);
    wg_tensor *g = evaluated(dx, 1), *a = evaluated(wg_softmax(x, 1), 1);
    static const int y[] = {0, 4, -1, 2, 2, -1};
    for (int r = 0; r < 6; r++)
        for (int j = 0; j < 5; j++) {
            double want = y[r] < 0 ? 0 : (wg_tensor_get(a, r * 5 + j) - (y[r] == j)) / 4;
            cr_assert_float_eq(wg_tensor_get(g, r * 5 + j), want, 1e-15);
        }
    wg_tensor_free(g);
    wg_tensor_free(a);
    wg_tape_free(tape);
}

Test(loss, cross_entropy_is_stable_for_large_logits) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = leaf_of(tape, WG_F32, 2, (const int64_t[]){2, 3}, (const double[]){1e30, 0, -1e30, 0, -INFINITY, -50});
    wg_var label = leaf_of(tape, WG_I32, 1, (const int64_t[]){2}, (const double[]){0, 2});
    wg_tensor *y = evaluated(wg_softmax_cross_entropy_rows(x, label, -1), 1);
    cr_assert_eq(wg_tensor_get(y, 0), 0);
    cr_assert_float_eq(wg_tensor_get(y, 1), 50, 1e-5);
    wg_tensor_free(y);
    wg_var none = wg_softmax_cross_entropy(x, wg_full(tape, WG_I32, 1, (const int64_t[]){2}, -1), -1);
    cr_assert(isnan(first_value(none)), "the mean of nothing");
    wg_tape_free(tape);
}

Test(loss, labels_that_do_not_fit_are_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){3, 5}, 0, 1, 1), dx;
    wg_var bad = leaf_of(tape, WG_I32, 1, (const int64_t[]){3}, (const double[]){0, 5, 1});
    wg_var loss = wg_softmax_cross_entropy(x, bad, -1);
    wg_error error = run_error(loss);
    cr_assert_eq(error.status, WG_RANGE);
    cr_assert_str_eq(error.text, "softmax_cross_entropy_rows: label 5 at position 1 lies outside [0, 5)");
    wg_grad(loss, 1, &x, &dx);
    error = run_error(dx);
    cr_assert_eq(error.status, WG_RANGE, "the derivative alone finds it too");
    error = run_error(wg_softmax_cross_entropy(x, wg_neg(bad), 0));
    cr_assert_str_eq(error.text, "softmax_cross_entropy_rows: label -5 at position 1 lies outside [0, 5)");
    wg_softmax_cross_entropy(x, wg_argmax(x, 0, false), -1);
    cr_assert_eq(wg_tape_status(tape), WG_SHAPE);
    cr_assert_str_eq(wg_tape_message(tape), "softmax_cross_entropy_rows: labels of (5) for logits of (3,5): not one a row");
    wg_tape_clear(tape);
    wg_softmax_cross_entropy(x, wg_sum(x, 1, (const int[]){1}, false), -1);
    cr_assert_eq(wg_tape_status(tape), WG_DTYPE);
    wg_tape_free(tape);
}

Test(loss, means_agree_with_their_formulas) {
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *x = drawn(dtype, 2, (const int64_t[]){7, 9}, -30, 30, 1), *t = drawn(dtype, 2, (const int64_t[]){7, 9}, 0, 1, 2);
        long double sigmoid = 0, squares = 0, huber = 0;
        for (int64_t i = 0; i < 63; i++) {
            long double v = wg_tensor_get(x, i), p = wg_tensor_get(t, i), d = v - p;
            sigmoid += (p * log1pl(expl(-v)) + (1 - p) * log1pl(expl(v))) / 63;
            squares += d * d / 63;
            huber += (fabsl(d) <= 2.5L ? d * d / 2 : 2.5L * (fabsl(d) - 1.25L)) / 63;
        }
        wg_var a = wg_leaf(tape, x), b = wg_leaf(tape, t);
        double tolerance = dtype == WG_F32 ? 1e-5 : 1e-13;
        cr_assert_float_eq(first_value(wg_sigmoid_cross_entropy(a, b)), (double)sigmoid, tolerance);
        cr_assert_float_eq(first_value(wg_mse(a, b)), (double)squares, tolerance * 100);
        cr_assert_float_eq(first_value(wg_huber(a, b, 2.5)), (double)huber, tolerance);
        wg_tensor_free(x);
        wg_tensor_free(t);
        wg_tape_free(tape);
    }
}

Test(loss, sigmoid_cross_entropy_neither_overflows_nor_vanishes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = wg_full(tape, WG_F64, 0, NULL, 400), one = wg_c(1);
    cr_assert_float_eq(first_value(wg_sigmoid_cross_entropy(x, one)) * exp(400), 1, 1e-12);
    cr_assert_eq(first_value(wg_sigmoid_cross_entropy(wg_neg(x), one)), 400);
    cr_assert_eq(first_value(wg_sigmoid_cross_entropy(x, wg_c(0))), 400);
    wg_tape_free(tape);
}

Test(loss, shapes_that_would_broadcast_silently_are_refused) {
    static wg_var (*const losses[])(wg_var, wg_var) = {wg_mse, wg_sigmoid_cross_entropy};
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){3, 1}, 0, 1, 1), t = wg_reshape(x, 1, (const int64_t[]){3});
    for (int k = 0; k < 2; k++) {
        cr_assert(!wg_valid(losses[k](x, t)));
        cr_assert_eq(wg_tape_status(tape), WG_SHAPE);
        cr_assert(strstr(wg_tape_message(tape), "(3,1) with targets of (3)"), "%s", wg_tape_message(tape));
        wg_tape_clear(tape);
    }
    cr_assert(!wg_valid(wg_huber(x, x, 0)));
    cr_assert_str_eq(wg_tape_message(tape), "huber: delta is 0, not a positive number");
    wg_tape_clear(tape);
    cr_assert(!wg_valid(wg_huber(x, x, NAN)));
    wg_tape_free(tape);
}

Test(loss, results_have_the_same_bits_for_any_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = drawn_leaf(tape, dtype, 2, (const int64_t[]){999, 33}, -3, 3, 1), dx;
        wg_var label = drawn_leaf(tape, WG_I32, 1, (const int64_t[]){999}, 0, 33, 2);
        wg_var loss = wg_softmax_cross_entropy(x, label, 3);
        cr_assert_eq(wg_grad(loss, 1, &x, &dx), WG_OK);
        cr_assert(same_bits_for_any_threads(loss));
        cr_assert(same_bits_for_any_threads(dx));
        cr_assert(same_bits_for_any_threads(wg_mse(x, wg_c(0))));
    }
    wg_tape_free(tape);
}

Test(loss, derivatives_agree_with_differences) {
    check_examples("softmax_cross_entropy_rows");
    check_examples("softmax_cross_entropy");
    check_examples("sigmoid_cross_entropy");
    check_examples("mse");
    check_examples("huber");
}

Test(loss, an_operand_that_is_a_number_is_refused_by_name) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var target = drawn_leaf(tape, WG_F64, 1, (const int64_t[]){3}, 0, 1, 1);
    cr_assert(!wg_valid(wg_mse(wg_c(1), target)));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    cr_assert_str_eq(wg_tape_message(tape), "mse: an operand is not a valid var");
    wg_tape_clear(tape);
    cr_assert(!wg_valid(wg_stack(2, (const wg_var[]){target, wg_c(1)}, 0)));
    cr_assert_str_eq(wg_tape_message(tape), "stack: operand 2 is not a valid var");
    wg_tape_free(tape);
}

/* Rows beyond the end of a sequence hold whatever they hold. */
Test(loss, what_is_ignored_touches_no_derivative_of_second_order) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 2}, (const double[]){1, 2, NAN, INFINITY}), dx, ddx;
    wg_var label = leaf_of(tape, WG_I32, 1, (const int64_t[]){2}, (const double[]){1, -1});
    wg_grad(wg_softmax_cross_entropy(x, label, -1), 1, &x, &dx);
    cr_assert_eq(wg_grad(wg_sum(wg_square(dx), 0, NULL, false), 1, &x, &ddx), WG_OK, "%s", wg_tape_message(tape));
    wg_tensor *first = evaluated(dx, 1), *second = evaluated(ddx, 1);
    cr_assert(wg_tensor_get(second, 0) != 0 && isfinite(wg_tensor_get(second, 0)));
    for (int i = 2; i < 4; i++) {
        cr_assert_eq(wg_tensor_get(first, i), 0);
        cr_assert_eq(wg_tensor_get(second, i), 0);
    }
    wg_tensor_free(first);
    wg_tensor_free(second);
    wg_tape_free(tape);
}
