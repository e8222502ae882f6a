/* softmax, log_softmax and logsumexp, held against naive rows in long double. */
#include "suite.h"

#include "differences.h"

/* Rows of x (rows, n) by the formulas, shifted by the largest. */
static void oracle_row(const wg_tensor *x, int64_t row, int64_t n, long double *soft, long double *log_soft, long double *all) {
    long double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        long double v = wg_tensor_get(x, row * n + i);
        most = v > most || isnan(v) ? v : most;
    }
    for (int64_t i = 0; i < n; i++)
        sum += expl(wg_tensor_get(x, row * n + i) - most);
    for (int64_t i = 0; i < n; i++) {
        log_soft[i] = wg_tensor_get(x, row * n + i) - most - logl(sum);
        soft[i] = expl(log_soft[i]);
    }
    *all = isinf(most) ? most : most + logl(sum);
}

static bool near(double got, long double want, double tolerance) {
    return fabs(got - (double)want) <= tolerance * (1 + fabs((double)want)) || (isnan(got) && isnan(want)) || got == (double)want;
}

static void check_rows(wg_tape *tape, const wg_tensor *x, int64_t rows, int64_t n) {
    static long double soft[1024], log_soft[1024], all;
    wg_var leaf = wg_leaf(tape, (wg_tensor *)(uintptr_t)x);
    double tolerance = wg_tensor_dtype(x) == WG_F32 ? 2e-6 : 1e-14;
    wg_tensor *y[] = {evaluated(wg_softmax(leaf, -1), 2), evaluated(wg_log_softmax(leaf, -1), 2),
                      evaluated(wg_logsumexp(leaf, 1, (const int[]){-1}, false), 2)};
    for (int64_t r = 0; r < rows; r++) {
        oracle_row(x, r, n, soft, log_soft, &all);
        cr_assert(near(wg_tensor_get(y[2], r), all, tolerance), "logsumexp of row %ld: %.17g, not %.17g", (long)r,
                  wg_tensor_get(y[2], r), (double)all);
        for (int64_t i = 0; i < n; i++) {
            double s = wg_tensor_get(y[0], r * n + i), l = wg_tensor_get(y[1], r * n + i);
            cr_assert(near(s, soft[i], tolerance), "softmax[%ld,%ld]: %.17g, not %.17g", (long)r, (long)i, s, (double)soft[i]);
            cr_assert(near(l, log_soft[i], tolerance), "log_softmax[%ld,%ld]: %.17g, not %.17g", (long)r, (long)i, l,
                      (double)log_soft[i]);
        }
    }
    for (int k = 0; k < 3; k++)
        wg_tensor_free(y[k]);
}

Test(softmax, rows_of_every_length_agree_with_the_formulas) {
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++)
        for (int64_t n = 1; n < 1000; n += n < 40 ? 1 : 233) {
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *x = drawn(dtype, 2, (const int64_t[]){3, n}, -30, 30, (uint64_t)n);
            check_rows(tape, x, 3, n);
            wg_tensor_free(x);
            wg_tape_free(tape);
        }
}

Test(softmax, large_infinite_and_missing_numbers_are_as_documented) {
    static const double values[] = {1000, 999, -1000, 1e30, -1e30, 0, -INFINITY, 1, 2, -INFINITY, -INFINITY, -INFINITY,
                                    INFINITY, 1, 2, NAN, 1, 2, 1, 2, NAN};
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tensor *x = wg_tensor_new(NULL, dtype, 2, (const int64_t[]){7, 3});
        for (int i = 0; i < 21; i++)
            wg_tensor_set(x, i, values[i]);
        check_rows(tape, x, 7, 3);
        wg_tensor_free(x);
    }
    wg_tape_free(tape);
}

Test(softmax, nothing_has_the_logarithm_of_zero) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){3, 0}, 0, 1, 1);
    wg_tensor *y = evaluated(wg_logsumexp(x, 1, (const int[]){1}, false), 1);
    cr_assert_eq(wg_tensor_shape(y)->count, 3);
    cr_assert_eq(wg_tensor_get(y, 1), -INFINITY);
    wg_tensor_free(y);
    for (int axis = 0; axis < 2; axis++) {
        wg_tensor *empty[] = {evaluated(wg_softmax(x, axis), 1), evaluated(wg_log_softmax(x, axis), 1)};
        cr_assert_eq(wg_tensor_shape(empty[0])->count, 0);
        cr_assert_eq(wg_tensor_shape(empty[1])->dim[0], 3);
        wg_tensor_free(empty[0]);
        wg_tensor_free(empty[1]);
    }
    wg_tape_free(tape);
}

Test(softmax, a_row_of_nothing_but_minus_infinity_has_no_slope) {
    double values[] = {-INFINITY, -INFINITY, 0, -INFINITY};
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = leaf_of(tape, dtype, 2, (const int64_t[]){2, 2}, values), dx;
        wg_vjp(1, (const wg_var[]){wg_logsumexp(x, 1, (const int[]){1}, false)}, (const wg_var[]){wg_c(1)}, 1, &x, &dx);
        wg_tensor *g = evaluated(dx, 1);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(wg_tensor_get(g, i), i == 2);
        wg_tensor_free(g);
    }
    wg_tape_free(tape);
}

Test(softmax, other_axes_are_rows_of_the_permuted_array) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F64, 3, (const int64_t[]){3, 4, 5}, -2, 2, 1);
    wg_var moved = wg_permute(x, 3, (const int[]){0, 2, 1}); /* strided rows */
    static wg_var (*const ops[])(wg_var, int) = {wg_softmax, wg_log_softmax};
    for (int k = 0; k < 2; k++) {
        wg_tensor *a = evaluated(ops[k](x, 1), 1);
        wg_tensor *b = evaluated(wg_permute(ops[k](moved, 2), 3, (const int[]){0, 2, 1}), 1);
        cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
        wg_tensor_free(a);
        wg_tensor_free(b);
    }
    wg_tensor *both = evaluated(wg_logsumexp(x, 2, (const int[]){2, 0}, true), 1);
    wg_tensor *steps = evaluated(wg_logsumexp(wg_logsumexp(x, 1, (const int[]){0}, true), 1, (const int[]){2}, true), 1);
    cr_assert_eq(wg_tensor_shape(both)->rank, 3);
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(wg_tensor_get(both, i), wg_tensor_get(steps, i), 1e-14);
    wg_tensor_free(both);
    wg_tensor_free(steps);
    wg_tape_free(tape);
}

Test(softmax, results_have_the_same_bits_for_any_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = drawn_leaf(tape, dtype, 2, (const int64_t[]){301, 77}, -3, 3, 1);
        for (int axis = 0; axis < 2; axis++) {
            cr_assert(same_bits_for_any_threads(wg_softmax(x, axis)));
            cr_assert(same_bits_for_any_threads(wg_log_softmax(x, axis)));
            cr_assert(same_bits_for_any_threads(wg_logsumexp(x, 1, &axis, false)));
        }
    }
    wg_tape_free(tape);
}

Test(softmax, wrong_axes_and_types_are_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){2, 3}, 0, 1, 1);
    wg_softmax(x, 2);
    cr_assert_eq(wg_tape_status(tape), WG_RANGE);
    cr_assert_str_eq(wg_tape_message(tape), "softmax: (2,3) has no axis 2");
    wg_tape_clear(tape);
    wg_log_softmax(wg_argmax(x, 0, true), 0);
    cr_assert_eq(wg_tape_status(tape), WG_DTYPE);
    wg_tape_clear(tape);
    cr_assert(!wg_valid(wg_logsumexp(x, 2, (const int[]){0, 0}, false)));
    cr_assert_str_eq(wg_tape_message(tape), "logsumexp: axes of (2,3): 0 is given twice");
    wg_tape_free(tape);
}

Test(softmax, derivatives_agree_with_differences) {
    check_examples("softmax");
    check_examples("log_softmax");
    check_examples("logsumexp");
}
