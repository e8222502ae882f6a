/* Random draws as ops: their statistics, what they depend on and what not, dropout, errors. Seeds are fixed. */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "taped.h"

static wg_tensor *key(int32_t seed, int32_t step) {
    wg_tensor *tensor = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){4});
    int32_t *word = wg_tensor_write(tensor);
    word[0] = seed, word[1] = -seed, word[2] = step;
    return tensor;
}

enum { MANY = 40000 };
static const int64_t many[] = {MANY};

static double mean_of(const wg_tensor *x, int power, double about) {
    long double sum = 0;
    int64_t n = wg_tensor_shape(x)->count;
    for (int64_t i = 0; i < n; i++)
        sum += pow(wg_tensor_get(x, i) - about, power);
    return (double)(sum / (long double)n);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double uniform_share(double x) { return (x - 2) / 3; }
static double normal_share(double x) { return 0.5 * erfc(-(x - 1) / (2 * sqrt(2))); }

/* The largest distance between the draws' distribution and the given one, times sqrt(n): above 1.95 once in a thousand. */
static double kolmogorov(const wg_tensor *x, double (*share)(double)) {
    static double sorted[MANY];
    double most = 0;
    for (int i = 0; i < MANY; i++)
        sorted[i] = wg_tensor_get(x, i);
    qsort(sorted, MANY, sizeof *sorted, ascending);
    for (int i = 0; i < MANY; i++) {
        double f = share(sorted[i]);
        most = fmax(most, fmax(fabs(f - (double)i / MANY), fabs(f - (double)(i + 1) / MANY)));
    }
    return most * sqrt(MANY);
}

Test(stochastic, uniform_draws_fill_their_interval_evenly) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(7, 3);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tensor *x = taped_value(wg_uniform(wg_leaf(tape, k), dtype, 1, many, 2, 5));
        cr_assert_eq(wg_tensor_dtype(x), dtype);
        for (int i = 0; i < MANY; i++)
            cr_assert(wg_tensor_get(x, i) >= 2 && wg_tensor_get(x, i) < 5);
        cr_assert_lt(kolmogorov(x, uniform_share), 1.95);
        cr_assert_float_eq(mean_of(x, 1, 0), 3.5, 4 * sqrt(0.75 / MANY));
        cr_assert_float_eq(mean_of(x, 2, 3.5), 0.75, 0.02);
        wg_tensor_free(x);
    }
    wg_tensor *same = taped_value(wg_uniform(wg_leaf(tape, k), WG_F32, 1, (const int64_t[]){3}, 2, 2));
    cr_assert_eq(wg_tensor_get(same, 1), 2);
    /* Between neighbours there is only one value below the upper end. */
    double up = nextafterf(1, 2);
    wg_tensor *narrow = taped_value(wg_uniform(wg_leaf(tape, k), WG_F32, 1, many, 1, up));
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(wg_tensor_get(narrow, i), 1);
    wg_tensor_free(same), wg_tensor_free(narrow), wg_tensor_free(k);
    wg_tape_free(tape);
}

Test(stochastic, normal_draws_have_the_distribution_asked_for) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(11, 0);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tensor *x = taped_value(wg_normal(wg_leaf(tape, k), dtype, 1, many, 1, 2));
        cr_assert_lt(kolmogorov(x, normal_share), 1.95);
        cr_assert_float_eq(mean_of(x, 1, 0), 1, 4 * 2 / sqrt(MANY));
        cr_assert_float_eq(mean_of(x, 2, 1), 4, 4 * 4 * sqrt(2.0 / MANY));
        cr_assert_float_eq(mean_of(x, 4, 1), 3 * 16, 4 * 16 * sqrt(96.0 / MANY));
        wg_tensor_free(x);
    }
    wg_tensor *flat = taped_value(wg_normal(wg_leaf(tape, k), WG_F32, 1, (const int64_t[]){3}, -1, 0));
    cr_assert_eq(wg_tensor_get(flat, 2), -1);
    wg_tensor_free(flat), wg_tensor_free(k);
    wg_tape_free(tape);
}

Test(stochastic, bernoulli_draws_ones_as_often_as_asked_and_alike_in_both_types) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tape *other = wg_tape_new(NULL);
    wg_tensor *k = key(5, 1);
    const double p[] = {0, 0.1, 0.5, 0.9, 1};
    for (int i = 0; i < WG_LEN(p); i++) {
        wg_tensor *x = taped_value(wg_bernoulli(wg_leaf(tape, k), WG_F32, 1, many, p[i]));
        wg_tensor *y = taped_value(wg_bernoulli(wg_leaf(other, k), WG_F64, 1, many, p[i]));
        for (int j = 0; j < MANY; j++) {
            cr_assert(wg_tensor_get(x, j) == 0 || wg_tensor_get(x, j) == 1);
            cr_assert_eq(wg_tensor_get(x, j), wg_tensor_get(y, j));
        }
        cr_assert_float_eq(mean_of(x, 1, 0), p[i], 4 * sqrt(p[i] * (1 - p[i]) / MANY));
        wg_tensor_free(x), wg_tensor_free(y);
    }
    wg_tensor_free(k);
    wg_tape_free(tape), wg_tape_free(other);
}

/* The share of equal elements. */
static double alike(wg_tensor *a, wg_tensor *b) {
    int64_t same = 0, n = wg_tensor_shape(a)->count;
    for (int64_t i = 0; i < n; i++)
        same += wg_tensor_get(a, i) == wg_tensor_get(b, i);
    wg_tensor_free(a), wg_tensor_free(b);
    return (double)same / (double)n;
}

Test(stochastic, draws_follow_key_step_and_node_and_nothing_else) {
    wg_tape *tape = wg_tape_new(NULL), *again = wg_tape_new(NULL);
    wg_tensor *k = key(5, 1), *step = key(5, 2), *seed = key(6, 1);
    wg_var x = wg_uniform(wg_leaf(tape, k), WG_F64, 1, many, 0, 1), y = wg_uniform(wg_leaf(tape, k), WG_F64, 1, many, 0, 1);
    wg_var z = wg_uniform(wg_leaf(again, k), WG_F64, 2, (const int64_t[]){100, MANY / 100}, 0, 1);
    cr_assert_eq(alike(taped_value(x), taped_value(x)), 1, "a node repeats");
    cr_assert_eq(alike(taped_value(x), taped_value(z)), 1, "the same recording repeats, in any shape");
    cr_assert_lt(alike(taped_value(x), taped_value(y)), 0.01, "two nodes differ");
    wg_tape *late = wg_tape_new(NULL);
    wg_var s = wg_uniform(wg_leaf(late, step), WG_F64, 1, many, 0, 1);
    cr_assert_lt(alike(taped_value(x), taped_value(s)), 0.01, "steps differ");
    wg_tape_clear(late);
    wg_tape *sown = wg_tape_new(NULL);
    wg_var t = wg_uniform(wg_leaf(sown, seed), WG_F64, 1, many, 0, 1);
    cr_assert_lt(alike(taped_value(x), taped_value(t)), 0.01, "seeds differ");
    wg_tensor_free(k), wg_tensor_free(step), wg_tensor_free(seed);
    wg_tape_free(tape), wg_tape_free(again), wg_tape_free(late), wg_tape_free(sown);
}

Test(stochastic, bits_do_not_depend_on_the_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(5, 1), *out[4], *first[4];
    wg_var leaf = wg_leaf(tape, k);
    wg_var y[4] = {wg_uniform(leaf, WG_F32, 1, many, 0, 1), wg_normal(leaf, WG_F64, 1, many, 0, 1),
                   wg_bernoulli(leaf, WG_F64, 1, many, 0.3), wg_normal(leaf, WG_F32, 1, many, 0, 1)};
    for (int threads = 1; threads <= 8; threads += threads < 4 ? 1 : 4) {
        cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = threads}, 4, y, out, NULL), WG_OK);
        for (int i = 0; i < 4; i++) {
            if (threads == 1)
                first[i] = wg_tensor_retain(out[i]);
            cr_assert_eq(memcmp(wg_tensor_data(out[i]), wg_tensor_data(first[i]), wg_tensor_bytes(out[i])), 0);
            wg_tensor_free(out[i]);
        }
    }
    for (int i = 0; i < 4; i++)
        wg_tensor_free(first[i]);
    wg_tensor_free(k);
    wg_tape_free(tape);
}

Test(stochastic, dropout_keeps_the_mean_and_shares_its_mask_with_the_gradient) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(5, 1), *ones = wg_tensor_new(NULL, WG_F32, 1, many);
    wg_tensor_fill(ones, 3);
    wg_var x = wg_leaf(tape, ones), y = wg_dropout(x, 0.25, wg_leaf(tape, k)), d;
    wg_var sum = wg_sum_to(y, 0, NULL);
    cr_assert_eq(wg_grad(sum, 1, &x, &d), WG_OK, "%s", wg_tape_message(tape));
    wg_tensor *out[2];
    cr_assert_eq(wg_eval(2, (const wg_var[]){y, d}, out, NULL), WG_OK);
    for (int i = 0; i < MANY; i++) {
        double value = wg_tensor_get(out[0], i);
        cr_assert(value == 0 || fabs(value - 4) < 1e-6, "%g", value);
        cr_assert_eq(value, (double)((float)wg_tensor_get(out[1], i) * 3));
    }
    cr_assert_float_eq(mean_of(out[0], 1, 0), 3, 4 * 4 * sqrt(0.25 * 0.75 / MANY));
    wg_tensor *all = taped_value(wg_dropout(x, 0, wg_leaf(tape, k)));
    cr_assert_eq(alike(all, wg_tensor_retain(ones)), 1, "p = 0 drops nothing");
    wg_tensor_free(out[0]), wg_tensor_free(out[1]), wg_tensor_free(k), wg_tensor_free(ones);
    wg_tape_free(tape);
}

Test(stochastic, next_key_carries_into_the_high_word_and_stores_advance_it) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(9, -1), *out;
    wg_var leaf = wg_leaf(tape, k), advance = wg_store(k, wg_random_next(leaf));
    wg_var draw = wg_uniform(leaf, WG_F64, 1, (const int64_t[]){8}, 0, 1);
    double before = taped_number(draw);
    cr_assert_eq(wg_eval(1, &advance, &out, NULL), WG_OK);
    const int32_t expected[] = {9, -9, 0, 1};
    cr_assert_eq(memcmp(wg_tensor_data(k), expected, sizeof expected), 0);
    cr_assert_neq(taped_number(draw), before);
    wg_tensor_free(out), wg_tensor_free(k);
    wg_tape_free(tape);
}

Test(stochastic, draws_have_a_zero_derivative) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *k = key(5, 1), *t = taped_scalar(NULL, WG_F64, 2);
    wg_var x = wg_leaf(tape, t), d;
    wg_var y = wg_mul(x, wg_normal(wg_leaf(tape, k), WG_F64, 0, NULL, 0, 1));
    cr_assert_eq(wg_grad(y, 1, &x, &d), WG_OK);
    cr_assert_float_eq(taped_number(d) * 2, taped_number(y), 1e-15);
    wg_tensor_free(k), wg_tensor_free(t);
    wg_tape_free(tape);
}

Test(stochastic, what_is_not_a_distribution_or_key_is_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var k = wg_full(tape, WG_I32, 1, (const int64_t[]){4}, 1), x = wg_full(tape, WG_F32, 1, (const int64_t[]){4}, 1);
    wg_var wide = wg_full(tape, WG_I32, 1, (const int64_t[]){5}, 1);
    const int64_t three[] = {3}, bad[] = {-1};
    enum { CASES = 15 };
    for (int i = 0; i < CASES; i++) {
        const struct {
            wg_var y;
            wg_status status;
            const char *message;
        } got[CASES] = {
            [0] = {i == 0 ? wg_uniform(k, WG_F32, 1, three, 2, 1) : x, WG_RANGE, "uniform: [2, 1) is not an interval"},
            [1] = {i == 1 ? wg_uniform(k, WG_F32, 1, three, NAN, 1) : x, WG_RANGE, "uniform: [nan, 1) is not an interval"},
            [2] = {i == 2 ? wg_normal(k, WG_F32, 1, three, 0, -1) : x, WG_RANGE, "normal: mean 0 and deviation -1 do not make a distribution"},
            [3] = {i == 3 ? wg_bernoulli(k, WG_F32, 1, three, 1.5) : x, WG_RANGE, "bernoulli: p is 1.5, not a probability in [0,1]"},
            [4] = {i == 4 ? wg_bernoulli(k, WG_F32, 1, three, NAN) : x, WG_RANGE, "bernoulli: p is nan, not a probability in [0,1]"},
            [5] = {i == 5 ? wg_uniform(x, WG_F32, 1, three, 0, 1) : x, WG_DTYPE, "uniform: the key is f32, not i32"},
            [6] = {i == 6 ? wg_normal(wide, WG_F32, 1, three, 0, 1) : x, WG_SHAPE, "normal: the key is (5), not (4)"},
            [7] = {i == 7 ? wg_uniform(k, WG_I32, 1, three, 0, 1) : x, WG_DTYPE, "uniform: draws are f32 or f64"},
            [8] = {i == 8 ? wg_uniform(k, WG_F64, 1, bad, 0, 1) : x, WG_RANGE, "uniform: a size is negative or there are too many elements or axes"},
            [9] = {i == 9 ? wg_dropout(x, 1, k) : x, WG_RANGE, "dropout: p is 1, not in [0,1)"},
            [10] = {i == 10 ? wg_dropout(x, -0.5, k) : x, WG_RANGE, "dropout: p is -0.5, not in [0,1)"},
            [11] = {i == 11 ? wg_dropout(x, 0.5, (wg_var){0}) : x, WG_ARGUMENT, "dropout: an operand is not a valid var"},
            [12] = {i == 12 ? wg_dropout(k, 0.5, k) : x, WG_DTYPE, "bernoulli: draws are f32 or f64"},
            [13] = {i == 13 ? wg_random_next(wide) : x, WG_SHAPE, "random_next: the key is (5), not (4)"},
            [14] = {i == 14 ? wg_random_next(x) : x, WG_DTYPE, "random_next: the key is f32, not i32"},
        };
        cr_assert(!wg_valid(got[i].y), "case %d", i);
        cr_assert_eq(wg_tape_status(tape), got[i].status, "case %d", i);
        cr_assert_str_eq(wg_tape_message(tape), got[i].message);
        wg_tape_clear(tape);
    }
    wg_tape_free(tape);
}

/* What the pass `draws` asks for. */
static wg_status recorded_draws(wg_tape *tape, wg_var k, wg_var one, int64_t times) {
    int64_t attr[64];
    wg__draws_set(attr, wg__of(one)->op, wg__of(one)->attr, 1, times);
    wg_var all = wg_apply(&wg__op_draws, 1, &k, attr);
    cr_assert_eq(wg_valid(all), wg_tape_status(tape) == WG_OK);
    return wg_tape_status(tape);
}

Test(stochastic, draws_made_at_once_have_the_key_and_the_room_that_each_would_need) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var k = wg_full(tape, WG_I32, 1, (const int64_t[]){4}, 1), x = wg_full(tape, WG_F32, 1, (const int64_t[]){4}, 1);
    wg_var small = wg_uniform(k, WG_F32, 1, (const int64_t[]){3}, 0, 1);
    wg_var deep = wg_normal(k, WG_F32, WG_MAX_RANK, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 2}, 0, 1);
    cr_assert_eq(recorded_draws(tape, k, small, 5), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(recorded_draws(tape, x, small, 5), WG_DTYPE);
    cr_assert_str_eq(wg_tape_message(tape), "draws: the key is f32, not i32");
    wg_tape_clear(tape);
    cr_assert_eq(recorded_draws(tape, k, deep, 5), WG_RANGE);
    cr_assert_str_eq(wg_tape_message(tape), "draws: no room for one axis more");
    wg_tape_free(tape);
}

Test(stochastic, only_draws_whose_attributes_are_known_lie_apart) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var k = wg_full(tape, WG_I32, 1, (const int64_t[]){4}, 1);
    wg_var a = wg_uniform(k, WG_F32, 1, (const int64_t[]){3}, 0, 1), b = wg_uniform(k, WG_F32, 1, (const int64_t[]){3}, 0, 1);
    int64_t apart = 0;
    cr_assert(wg__draws_apart(wg__of(a)->op, wg__of(a)->attr, wg__of(b)->attr, &apart));
    cr_assert_eq(apart, 1);
    wg_op foreign = *wg__of(a)->op;
    foreign.name = "foreign";
    cr_assert_not(wg__draws_apart(&foreign, wg__of(a)->attr, wg__of(b)->attr, &apart));
    wg_tape_free(tape);
}
