/* Sums, products, extremes, norms and scans along axes, held against naive loops. */
#include "suite.h"

#include "differences.h"

/* ---- the oracle: a naive reduction in long double ---- */

typedef enum what { SUM, MEAN, MAX, MIN, PROD, NORM, WHATS } what;
static const char *const names[] = {"sum", "mean", "reduce_max", "reduce_min", "prod", "norm"};

static wg_var reduced(what op, wg_var x, int n, const int *axes, bool keepdims) {
    static wg_var (*const build[])(wg_var, int, const int *, bool) = {wg_sum,        wg_mean, wg_reduce_max,
                                                                      wg_reduce_min, wg_prod, wg_norm};
    return build[op](x, n, axes, keepdims);
}

static long double fold(what op, long double a, long double x) {
    switch (op) {
    case SUM:
    case MEAN:
        return a + x;
    case MAX:
        return x > a || isnan(x) ? x : a;
    case MIN:
        return x < a || isnan(x) ? x : a;
    case PROD:
        return a * x;
    default:
        return a + x * x;
    }
}

/* Reduces the axes of the mask; out has room for every result, which keep their order. */
static void oracle(what op, const wg_tensor *x, unsigned mask, long double *out) {
    const wg_shape *shape = wg_tensor_shape(x);
    int64_t results = 1, each = 1;
    for (int k = 0; k < shape->rank; k++)
        *(mask >> k & 1 ? &each : &results) *= shape->dim[k];
    for (int64_t i = 0; i < results; i++)
        out[i] = op == PROD ? 1 : op == MAX ? -INFINITY : op == MIN ? INFINITY : 0;
    for (int64_t i = 0; i < shape->count; i++) {
        int64_t at = 0, rest = i, stride = 1;
        for (int k = shape->rank - 1; k >= 0; k--) {
            if (!(mask >> k & 1)) {
                at += rest % shape->dim[k] * stride;
                stride *= shape->dim[k];
            }
            rest /= shape->dim[k];
        }
        out[at] = fold(op, out[at], wg_tensor_get(x, i));
    }
    for (int64_t i = 0; i < results; i++)
        out[i] = op == MEAN ? out[i] / each : op == NORM ? sqrtl(out[i]) : out[i];
}

static void check_against_oracle(what op, const wg_tensor *x, wg_var leaf, unsigned mask, double tolerance) {
    static long double expected[1 << 16];
    const wg_shape *shape = wg_tensor_shape(x);
    int axes[WG_MAX_RANK], n = 0;
    for (int k = 0; k < shape->rank; k++)
        if (mask >> k & 1)
            axes[n++] = k % 2 ? k : k - shape->rank;
    if (n == 0)
        return;
    wg_tensor *y = evaluated(reduced(op, leaf, n, axes, mask & 1), 2);
    cr_assert_eq(wg_tensor_shape(y)->rank, mask & 1 ? shape->rank : shape->rank - n);
    oracle(op, x, mask, expected);
    for (int64_t i = 0; i < wg_tensor_shape(y)->count; i++) {
        double got = wg_tensor_get(y, i), want = (double)expected[i];
        char text[96];
        cr_assert(fabs(got - want) <= tolerance * (1 + fabs(want)) || (isnan(got) && isnan(want)) || got == want,
                  "%s of %s, axes %x, result %ld: %.17g, not %.17g", names[op],
                  wg_shape_text(shape, text, sizeof text), mask, (long)i, got, want);
    }
    wg_tensor_free(y);
}

static const struct {
    int rank;
    int64_t dim[5];
} shapes[] = {{1, {1}},          {1, {17}},         {1, {70000}},       {2, {3, 5}},        {2, {1, 7}},
              {2, {7, 1}},       {2, {300, 700}},   {2, {1000, 3}},     {3, {2, 3, 4}},     {3, {4, 1, 3}},
              {3, {33, 17, 40}}, {4, {2, 3, 4, 5}}, {4, {30, 2, 31, 3}}, {5, {2, 1, 3, 2, 2}}};

Test(reduce, every_choice_of_axes_agrees_with_a_naive_loop) {
    for (int op = 0; op < WHATS; op++)
        for (int s = 0; s < WG_LEN(shapes); s++)
            for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
                bool gentle = op == PROD;
                wg_tape *tape = wg_tape_new(NULL);
                wg_tensor *x = drawn(dtype, shapes[s].rank, shapes[s].dim, gentle ? 0.999 : -2, gentle ? 1.001 : 2, 3);
                wg_var leaf = wg_leaf(tape, x);
                for (unsigned mask = 1; mask < 1u << shapes[s].rank; mask++)
                    check_against_oracle((what)op, x, leaf, mask, dtype == WG_F32 ? (gentle ? 2e-4 : 1e-6) : 1e-12);
                wg_tape_free(tape);
                wg_tensor_free(x);
            }
}

Test(reduce, no_axes_means_all_axes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F64, 2, (const int64_t[]){3, 4}, -1, 1, 1);
    for (int op = 0; op < WHATS; op++) {
        wg_var all = reduced((what)op, x, 0, NULL, false), both = reduced((what)op, x, 2, (const int[]){1, 0}, false);
        cr_assert_eq(wg_rank(all), 0);
        cr_assert_eq(first_value(all), first_value(both));
        cr_assert_eq(wg_rank(reduced((what)op, x, 0, NULL, true)), 2);
    }
    wg_tape_free(tape);
}

Test(reduce, strided_operands_give_what_dense_ones_give) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = drawn(WG_F64, 3, (const int64_t[]){5, 6, 7}, -2, 2, 1);
    wg_var view = wg_flip(wg_permute(wg_slice(wg_leaf(tape, x), 1, 1, 4), 3, (const int[]){2, 0, 1}), 1);
    wg_tensor *dense = evaluated(view, 1);
    for (int op = 0; op < WHATS; op++)
        for (unsigned mask = 1; mask < 8; mask++)
            check_against_oracle((what)op, dense, view, mask, 1e-12);
    wg_tensor_free(dense);
    wg_tensor_free(x);
    wg_tape_free(tape);
}

Test(reduce, results_have_the_same_bits_for_any_number_of_threads) {
    static const int axes[][2] = {{0}, {1}, {2}, {0, 2}, {0, 1}};
    static const int counts[] = {1, 1, 1, 2, 2};
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = drawn_leaf(tape, dtype, 3, (const int64_t[]){61, 70, 83}, -2, 2, 1);
        for (int op = 0; op < WHATS; op++) {
            cr_assert(same_bits_for_any_threads(reduced((what)op, x, 0, NULL, false)), "%s", names[op]);
            for (int k = 0; k < WG_LEN(axes); k++)
                cr_assert(same_bits_for_any_threads(reduced((what)op, x, counts[k], axes[k], false)), "%s", names[op]);
        }
        for (int axis = 0; axis < 3; axis++) {
            cr_assert(same_bits_for_any_threads(wg_cumsum(x, axis)));
            cr_assert(same_bits_for_any_threads(wg_argmax(x, axis, false)));
        }
    }
    wg_tape_free(tape);
}

Test(reduce, a_million_numbers_add_up_to_the_last_digits) {
    wg_tape *tape = wg_tape_new(NULL);
    int64_t n = 1000000;
    wg_tensor *x = drawn(WG_F32, 1, &n, 0, 1, 1);
    long double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += wg_tensor_get(x, i);
    wg_var leaf = wg_leaf(tape, x);
    for (int columns = 1; columns <= 1000; columns *= 10) {
        wg_var shaped = wg_reshape(leaf, 2, (const int64_t[]){n / columns, columns});
        wg_var y = wg_sum(wg_sum(shaped, 1, (const int[]){0}, false), 0, NULL, false);
        cr_assert_float_eq(first_value(y), (double)sum, 1e-6 * (double)sum);
    }
    wg_tensor_fill(x, 0.1);
    cr_assert_float_eq(first_value(wg_sum(leaf, 0, NULL, false)), 1e6 * (double)0.1f, 0.1);
    wg_tape_free(tape);
    wg_tensor_free(x);
}

Test(reduce, nothing_gives_the_neutral_element_or_an_error) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){0, 3}, 0, 1, 1), none = wg_reshape(x, 2, (const int64_t[]){3, 0});
    const int first = 0;
    for (int column = 0; column < 2; column++) {
        wg_var v = column ? wg_permute(none, 2, (const int[]){1, 0}) : x;
        wg_tensor *y[] = {evaluated(wg_sum(v, 1, &first, false), 1), evaluated(wg_prod(v, 1, &first, false), 1),
                          evaluated(wg_mean(v, 1, &first, false), 1), evaluated(wg_norm(v, 1, &first, false), 1)};
        cr_assert_eq(wg_tensor_shape(y[0])->count, 3);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(wg_tensor_get(y[0], i), 0);
            cr_assert_eq(wg_tensor_get(y[1], i), 1);
            cr_assert(isnan(wg_tensor_get(y[2], i)));
            cr_assert_eq(wg_tensor_get(y[3], i), 0);
        }
        for (int k = 0; k < 4; k++)
            wg_tensor_free(y[k]);
    }
    cr_assert(wg_valid(wg_reduce_max(x, 1, (const int[]){1}, false)), "no result is asked of nothing");
    wg_tensor *empty = evaluated(wg_reduce_max(x, 1, (const int[]){1}, false), 1);
    cr_assert_eq(wg_tensor_shape(empty)->count, 0);
    wg_tensor_free(empty);
    cr_assert(!wg_valid(wg_reduce_max(x, 1, &first, false)));
    cr_assert_eq(wg_tape_status(tape), WG_RANGE);
    cr_assert_str_eq(wg_tape_message(tape), "reduce_max: an axis of (0,3) that goes is empty");
    wg_tape_clear(tape);
    cr_assert(!wg_valid(wg_argmax(x, 0, false)));
    cr_assert_str_eq(wg_tape_message(tape), "argmax: the axis has 0 elements: (3,0)");
    wg_tape_free(tape);
}

Test(reduce, wrong_axes_and_types_are_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){2, 3}, 0, 1, 1), i = wg_argmax(x, 0, false);
    wg_sum(x, 1, (const int[]){2}, false);
    cr_assert_eq(wg_tape_status(tape), WG_RANGE);
    cr_assert_str_eq(wg_tape_message(tape), "sum: (2,3) has no axis 2");
    wg_tape_clear(tape);
    wg_mean(x, 2, (const int[]){1, -1}, false);
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    cr_assert_str_eq(wg_tape_message(tape), "mean: axes of (2,3): -1 is given twice");
    wg_tape_clear(tape);
    wg_sum(i, 0, NULL, false);
    cr_assert_eq(wg_tape_status(tape), WG_DTYPE);
    cr_assert_str_eq(wg_tape_message(tape), "sum_to: takes floats, not i32");
    wg_tape_clear(tape);
    cr_assert(!wg_valid(wg_norm((wg_var){0}, 0, NULL, false)));
    cr_assert(!wg_valid(wg_cumsum(wg_sum(x, 0, NULL, false), 0)));
    cr_assert_str_eq(wg_tape_message(tape), "cumsum: () has no axis 0");
    cr_assert(!wg_valid(wg_sum(x, 0, NULL, false)), "the first failure stands");
    wg_tape_free(tape);
}

Test(reduce, nan_and_infinity_go_through) {
    double values[] = {1, NAN, 3, -INFINITY, INFINITY, 2, -INFINITY, -INFINITY, -INFINITY};
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tensor *x = wg_tensor_new(NULL, dtype, 2, (const int64_t[]){3, 3});
        for (int i = 0; i < 9; i++)
            wg_tensor_set(x, i, values[i]);
        for (int op = 0; op < WHATS; op++)
            for (unsigned mask = 1; mask < 4; mask++)
                check_against_oracle((what)op, x, wg_leaf(tape, x), mask, 1e-12);
        wg_tensor_free(x);
    }
    double long_row[100] = {0};
    for (int at = 0; at < 100; at += 33) { /* wherever it stands among the lanes */
        long_row[at] = NAN;
        wg_var x = leaf_of(tape, WG_F32, 1, (const int64_t[]){100}, long_row);
        cr_assert(isnan(first_value(wg_reduce_max(x, 0, NULL, false))));
        cr_assert(isnan(first_value(wg_reduce_min(x, 0, NULL, false))));
        cr_assert_eq(first_value(wg_argmax(x, 0, false)), at);
        long_row[at] = 0;
    }
    wg_tape_free(tape);
}

Test(reduce, the_norm_neither_overflows_nor_vanishes) {
    wg_tape *tape = wg_tape_new(NULL);
    static const double scales[] = {1e-300, 1e-160, 1, 1e160, 1e300};
    for (int k = 0; k < WG_LEN(scales); k++) {
        double values[] = {3 * scales[k], 4 * scales[k], 0, 0, 5 * scales[k], 12 * scales[k]};
        wg_tensor *y = evaluated(wg_norm(leaf_of(tape, WG_F64, 2, (const int64_t[]){3, 2}, values), 1, (const int[]){1}, false), 1);
        cr_assert_float_eq(wg_tensor_get(y, 0) / scales[k], 5, 1e-14);
        cr_assert_eq(wg_tensor_get(y, 1), 0);
        cr_assert_float_eq(wg_tensor_get(y, 2) / scales[k], 13, 1e-14);
        wg_tensor_free(y);
    }
    double small[] = {3e-30, 4e-30}, big[] = {3e30, 4e30};
    cr_assert_float_eq(first_value(wg_norm(leaf_of(tape, WG_F32, 1, (const int64_t[]){2}, small), 0, NULL, false)) / 1e-30, 5, 1e-5);
    cr_assert_float_eq(first_value(wg_norm(leaf_of(tape, WG_F32, 1, (const int64_t[]){2}, big), 0, NULL, false)) / 1e30, 5, 1e-5);
    wg_tape_free(tape);
}

/* The gradient of y by x, the k-th element. */
static double slope_at(wg_var y, wg_var x, int64_t k) {
    wg_var dx;
    cr_assert_eq(wg_grad(y, 1, &x, &dx), WG_OK, "%s", wg_tape_message(y.tape));
    wg_tensor *t = evaluated(dx, 1);
    double value = wg_tensor_get(t, k);
    wg_tensor_free(t);
    return value;
}

Test(reduce, equal_extremes_share_the_derivative) {
    double values[] = {1, 3, 3, 2, 3, 0};
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 3}, values);
    wg_var y = wg_reduce_max(x, 0, NULL, false);
    cr_assert_float_eq(slope_at(y, x, 1), 1.0 / 3, 1e-15);
    cr_assert_float_eq(slope_at(y, x, 4), 1.0 / 3, 1e-15);
    cr_assert_eq(slope_at(y, x, 0), 0);
    wg_var least = wg_sum(wg_reduce_min(x, 1, (const int[]){0}, false), 0, NULL, false);
    cr_assert_eq(slope_at(least, x, 0), 1);
    cr_assert_eq(slope_at(least, x, 1), 0.5);
    cr_assert_eq(slope_at(least, x, 4), 0.5);
    cr_assert_eq(slope_at(least, x, 5), 1);
    wg_tape_free(tape);
}

Test(reduce, the_norm_is_flat_at_zero_at_any_order) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = leaf_of(tape, WG_F64, 1, (const int64_t[]){3}, (const double[]){0, 0, 0}), dx;
    wg_var y = wg_norm(x, 0, NULL, false);
    wg_grad(y, 1, &x, &dx);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(slope_at(y, x, i), 0);
        cr_assert_eq(slope_at(wg_sum(dx, 0, NULL, false), x, i), 0);
    }
    wg_tape_free(tape);
}

Test(reduce, products_with_zeros_have_right_derivatives) {
    double values[] = {2, 0, 3, 5, 0, 7, 11};
    for (int64_t n = 2; n <= 7; n++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var x = leaf_of(tape, WG_F64, 1, &n, values), y = wg_prod(x, 0, NULL, false), dx;
        wg_grad(y, 1, &x, &dx);
        for (int64_t i = 0; i < n; i++) {
            double others = 1, beside[7];
            for (int64_t k = 0; k < n; k++)
                others *= k == i ? 1 : values[k];
            cr_assert_eq(slope_at(y, x, i), others);
            for (int64_t j = 0; j < n; j++) {
                beside[j] = j != i;
                for (int64_t k = 0; k < n; k++)
                    beside[j] *= k == i || k == j ? 1 : values[k];
                cr_assert_eq(slope_at(wg_slice(dx, 0, i, 1), x, j), beside[j]);
            }
        }
        wg_tape_free(tape);
    }
}

Test(reduce, running_sums_agree_with_a_naive_loop) {
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++)
        for (int axis = -3; axis < 3; axis++) {
            int64_t dim[] = {4, 50, 3};
            int at = axis < 0 ? axis + 3 : axis;
            int64_t inner = at == 0 ? 150 : at == 1 ? 3 : 1;
            wg_tensor *x = drawn(dtype, 3, dim, -1, 1, 5), *y = evaluated(wg_cumsum(wg_leaf(tape, x), axis), 1);
            for (int64_t i = 0; i < 600; i++) {
                long double sum = 0;
                for (int64_t k = i / inner % dim[at], j = i; k >= 0; k--, j -= inner)
                    sum += wg_tensor_get(x, j);
                cr_assert_float_eq(wg_tensor_get(y, i), (double)sum, dtype == WG_F32 ? 1e-6 : 1e-14);
            }
            wg_tensor_free(x);
            wg_tensor_free(y);
        }
    wg_tape_free(tape);
}

Test(reduce, argmax_is_the_first_of_the_largest) {
    wg_tape *tape = wg_tape_new(NULL);
    double values[] = {1, 5, 5, -INFINITY, -INFINITY, -INFINITY, 2, NAN, NAN, 4, 4, 4};
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = leaf_of(tape, dtype, 2, (const int64_t[]){4, 3}, values);
        wg_tensor *rows = evaluated(wg_argmax(x, -1, true), 1), *columns = evaluated(wg_argmax(x, 0, false), 1);
        static const int by_row[] = {1, 0, 1, 0}, by_column[] = {3, 2, 2};
        cr_assert_eq(wg_tensor_dtype(rows), WG_I32);
        cr_assert_eq(wg_tensor_shape(rows)->dim[1], 1);
        cr_assert_eq(wg_tensor_shape(columns)->rank, 1);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(wg_tensor_get(rows, i), by_row[i]);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(wg_tensor_get(columns, i), by_column[i]);
        wg_tensor_free(rows);
        wg_tensor_free(columns);
    }
    wg_tape_free(tape);
}

Test(reduce, derivatives_agree_with_differences) {
    static const char *const ops[] = {"sum_to", "sum", "mean", "reduce_max", "reduce_min", "prod", "norm", "cumsum"};
    for (int k = 0; k < WG_LEN(ops); k++)
        check_examples(ops[k]);
}
