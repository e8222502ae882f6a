/* matmul, outer, dot: values against long double sums, shapes, views, errors, derivatives' consistency. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "tape.h"

static wg_tensor *drawn(wg_dtype dtype, int rank, const int64_t *dim, uint64_t stream) {
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, rank, dim);
    wg_random random = {.seed = 5, .stream = stream};
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, 2 * wg_random_uniform(&random) - 1);
    return tensor;
}

static wg_tensor *value(wg_var y) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    cr_assert_eq(wg_eval(1, &y, &out, &error), WG_OK, "%s", error.text);
    return out;
}

/* One case: the shapes of op's operands as stored, and the shape expected; batches must be equal or one. */
typedef struct product_case {
    int a_rank, b_rank, y_rank;
    int64_t a[4], b[4], y[4];
    bool ta, tb;
} product_case;

static const product_case cases[] = {
    {2, 2, 2, {3, 4}, {4, 5}, {3, 5}, false, false},
    {2, 2, 2, {4, 3}, {4, 5}, {3, 5}, true, false},
    {2, 2, 2, {3, 4}, {5, 4}, {3, 5}, false, true},
    {2, 2, 2, {4, 3}, {5, 4}, {3, 5}, true, true},
    {3, 2, 3, {2, 3, 4}, {4, 5}, {2, 3, 5}, false, false},
    {3, 2, 3, {2, 4, 3}, {4, 5}, {2, 3, 5}, true, false},
    {3, 2, 3, {2, 3, 4}, {5, 4}, {2, 3, 5}, false, true},
    {2, 3, 3, {3, 4}, {2, 4, 5}, {2, 3, 5}, false, false},
    {3, 3, 3, {2, 3, 4}, {2, 4, 5}, {2, 3, 5}, false, false},
    {3, 3, 3, {2, 3, 4}, {1, 4, 5}, {2, 3, 5}, false, false},
    {4, 3, 4, {6, 1, 3, 4}, {2, 5, 4}, {6, 2, 3, 5}, false, true},
    {1, 2, 1, {4}, {4, 5}, {5}, true, false},
    {2, 1, 1, {3, 4}, {4}, {3}, false, true},
    {1, 1, 0, {4}, {4}, {0}, false, false},
    {3, 1, 2, {2, 3, 4}, {4}, {2, 3}, false, false},
    {1, 3, 2, {4}, {2, 4, 5}, {2, 5}, false, false},
    {2, 2, 2, {1, 1}, {1, 1}, {1, 1}, false, false},
    {2, 2, 2, {0, 4}, {4, 5}, {0, 5}, false, false},
    {2, 2, 2, {3, 0}, {0, 5}, {3, 5}, false, false},
    {3, 2, 3, {0, 3, 4}, {4, 5}, {0, 3, 5}, false, false},
    {3, 3, 3, {70, 40, 40}, {70, 40, 40}, {70, 40, 40}, false, true},
    {2, 2, 2, {150, 90}, {200, 90}, {150, 200}, false, true},
};

/* Element (i,j) of matrix number `batch` of op(x), whose batch axes broadcast to the result's. */
static double element(const wg_tensor *x, bool transposed, bool left, const wg_shape *batch, int64_t at, int64_t i,
                      int64_t j) {
    const wg_shape *s = wg_tensor_shape(x);
    if (s->rank == 1)
        return wg_tensor_get(x, left ? j : i);
    int64_t index = 0, scale = 1;
    for (int k = 1; k <= batch->rank; k++) { /* from the last batch axis */
        int64_t here = at % batch->dim[batch->rank - k];
        at /= batch->dim[batch->rank - k];
        if (k + 2 > s->rank)
            continue;
        int64_t size = s->dim[s->rank - 2 - k];
        index += (size == 1 ? 0 : here) * scale;
        scale *= size;
    }
    int64_t rows = s->dim[s->rank - 2], columns = s->dim[s->rank - 1];
    return wg_tensor_get(x, index * rows * columns + (transposed ? j * columns + i : i * columns + j));
}

static void check_case(const product_case *c, wg_dtype dtype) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = drawn(dtype, c->a_rank, c->a, 1), *b = drawn(dtype, c->b_rank, c->b, 2);
    wg_var y = wg_matmul(wg_leaf(tape, a), wg_leaf(tape, b), c->ta, c->tb);
    cr_assert(wg_valid(y), "%s", wg_tape_message(tape));
    wg_tensor *out = value(y);
    const wg_shape *s = wg_tensor_shape(out);
    cr_assert_eq(s->rank, c->y_rank);
    for (int k = 0; k < s->rank; k++)
        cr_assert_eq(s->dim[k], c->y[k]);
    bool row = c->a_rank == 1, column = c->b_rank == 1;
    int64_t m = row ? 1 : c->a[c->a_rank - (c->ta ? 1 : 2)], n = column ? 1 : c->b[c->b_rank - (c->tb ? 2 : 1)];
    int64_t inner = row ? c->a[0] : c->a[c->a_rank - (c->ta ? 2 : 1)];
    wg_shape batch = {.rank = s->rank - !row - !column};
    memcpy(batch.dim, s->dim, sizeof batch.dim);
    double eps = dtype == WG_F32 ? 1e-5 : 1e-13;
    for (int64_t at = 0; at < s->count; at++) {
        long double sum = 0;
        for (int64_t k = 0; k < inner; k++)
            sum += (long double)element(a, c->ta, true, &batch, at / (m * n), at / n % m, k) *
                   element(b, c->tb, false, &batch, at / (m * n), k, at % n);
        cr_assert_float_eq(wg_tensor_get(out, at), (double)sum, eps, "case %d, element %d", (int)(c - cases), (int)at);
    }
    wg_tensor_free(out), wg_tensor_free(a), wg_tensor_free(b);
    wg_tape_free(tape);
}

Test(product, matmul_agrees_with_exact_sums_for_every_rank_flag_and_batch) {
    for (int i = 0; i < WG_LEN(cases); i++)
        for (int dtype = WG_F32; dtype <= WG_F64; dtype++)
            check_case(&cases[i], dtype);
}

static void expect_same(wg_var x, wg_var y, double eps) {
    wg_tensor *a = value(x), *b = value(y);
    cr_assert_eq(wg_tensor_shape(a)->count, wg_tensor_shape(b)->count);
    for (int64_t i = 0; i < wg_tensor_shape(a)->count; i++)
        cr_assert_float_eq(wg_tensor_get(a, i), wg_tensor_get(b, i), eps, "element %d", (int)i);
    wg_tensor_free(a), wg_tensor_free(b);
}

Test(product, operands_may_be_views_of_any_strides) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = drawn(WG_F64, 4, (const int64_t[]){3, 4, 5, 6}, 1), *u = drawn(WG_F64, 2, (const int64_t[]){6, 5}, 2);
    wg_var x = wg_leaf(tape, t), w = wg_leaf(tape, u);
    const int order[][4] = {{0, 1, 2, 3}, {1, 0, 2, 3}, {2, 1, 0, 3}, {0, 2, 1, 3}, {3, 0, 1, 2}, {0, 3, 2, 1}};
    for (int i = 0; i < WG_LEN(order); i++) {
        wg_var view = wg_permute(x, 4, order[i]);
        wg_tensor *dense = value(view);
        wg_tensor *column = drawn(WG_F64, 1, (const int64_t[]){wg_dim(view, 3)}, 3);
        wg_var same = wg_leaf(tape, dense), right = wg_leaf(tape, column);
        expect_same(wg_matmul(view, right, false, false), wg_matmul(same, right, false, false), 1e-13);
        expect_same(wg_matmul(view, view, false, true), wg_matmul(same, same, false, true), 1e-13);
        expect_same(wg_matmul(view, view, true, false), wg_matmul(same, same, true, false), 1e-13);
        wg_var part = wg_slice(view, 3, 1, 2), whole = wg_slice(same, 3, 1, 2);
        expect_same(wg_matmul(part, part, false, true), wg_matmul(whole, whole, false, true), 1e-13);
        wg_tensor_free(dense), wg_tensor_free(column);
    }
    wg_var row = wg_slice(w, 0, 2, 1), rows = wg_broadcast_to(row, 2, (const int64_t[]){6, 5});
    wg_var ones = wg_like(w, 1);
    expect_same(wg_matmul(rows, ones, false, true), wg_matmul(wg_mul(rows, wg_like(w, 1)), ones, false, true), 1e-13);
    wg_tape_free(tape);
    wg_tensor_free(t), wg_tensor_free(u);
}

Test(product, flags_equal_transposes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = drawn(WG_F32, 3, (const int64_t[]){3, 4, 5}, 1), *u = drawn(WG_F32, 3, (const int64_t[]){3, 5, 4}, 2);
    wg_var a = wg_leaf(tape, t), b = wg_leaf(tape, u);
    expect_same(wg_matmul(a, a, true, false), wg_matmul(wg_transpose(a), a, false, false), 1e-6);
    expect_same(wg_matmul(a, b, true, true), wg_matmul(wg_transpose(a), wg_transpose(b), false, false), 1e-6);
    expect_same(wg_matmul(a, a, false, true), wg_matmul(a, wg_transpose(a), false, false), 1e-6);
    wg_tape_free(tape);
    wg_tensor_free(t), wg_tensor_free(u);
}

Test(product, gradient_of_a_shared_matrix_is_one_product_and_no_sum) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = drawn(WG_F64, 3, (const int64_t[]){7, 3, 4}, 1), *u = drawn(WG_F64, 2, (const int64_t[]){5, 4}, 2);
    wg_var x = wg_leaf(tape, t), w = wg_leaf(tape, u), y = wg_matmul(x, w, false, true), dw;
    int64_t before = wg_tape_count(tape);
    wg_var g = wg_like(y, 1);
    cr_assert_eq(wg_vjp(1, &y, &g, 1, &w, &dw), WG_OK, "%s", wg_tape_message(tape));
    int products = 0, reductions = 0;
    for (int64_t id = before + 1; id <= wg_tape_count(tape); id++) {
        products += wg__node(tape, id)->op->kind == WG_PRODUCT;
        reductions += wg__node(tape, id)->op->kind == WG_REDUCTION;
    }
    cr_assert_eq(products, 1);
    cr_assert_eq(reductions, 0);
    wg_tape_free(tape);
    wg_tensor_free(t), wg_tensor_free(u);
}

/* <u, J v> = <J^T u, v> and the same once more through the gradient. */
static void check_modes(int flags) {
    wg_tape *tape = wg_tape_new(NULL);
    bool ta = flags & 1, tb = flags & 2;
    wg_tensor *t[4] = {drawn(WG_F64, 3, ta ? (const int64_t[]){2, 4, 3} : (const int64_t[]){2, 3, 4}, 1),
                       drawn(WG_F64, 3, tb ? (const int64_t[]){1, 5, 4} : (const int64_t[]){1, 4, 5}, 2),
                       NULL, NULL};
    for (int i = 0; i < 2; i++)
        t[2 + i] = drawn(WG_F64, 3, wg_tensor_shape(t[i])->dim, (uint64_t)i + 3);
    wg_var x[2], v[2], d[2], dd[2], jv, zero = wg_c(0), sum = zero, second = zero;
    for (int i = 0; i < 2; i++)
        x[i] = wg_leaf(tape, t[i]), v[i] = wg_leaf(tape, t[2 + i]);
    wg_var y = wg_matmul(x[0], x[1], ta, tb), s = wg_sum_to(wg_square(y), 0, NULL);
    cr_assert_eq(wg_grad(s, 2, x, d), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_jvp(2, x, v, 1, &s, &jv), WG_OK, "%s", wg_tape_message(tape));
    for (int i = 0; i < 2; i++)
        sum = wg_add(sum, wg_sum_to(wg_mul(d[i], v[i]), 0, NULL));
    expect_same(jv, sum, 1e-11);
    wg_var jv2;
    cr_assert_eq(wg_grad(sum, 2, x, dd), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_jvp(2, x, v, 1, &sum, &jv2), WG_OK, "%s", wg_tape_message(tape));
    for (int i = 0; i < 2; i++)
        second = wg_add(second, wg_sum_to(wg_mul(dd[i], v[i]), 0, NULL));
    expect_same(jv2, second, 1e-10);
    wg_tape_free(tape);
    for (int i = 0; i < 4; i++)
        wg_tensor_free(t[i]);
}

Test(product, forward_and_reverse_modes_agree_at_first_and_second_order) {
    for (int flags = 0; flags < 4; flags++)
        check_modes(flags);
}

static void expect_failure(wg_tape *tape, wg_var y, wg_status status, const char *message) {
    cr_assert(!wg_valid(y));
    cr_assert_eq(wg_tape_status(tape), status);
    cr_assert_str_eq(wg_tape_message(tape), message);
    wg_tape_clear(tape);
}

Test(product, what_does_not_fit_is_refused_with_both_shapes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var a = wg_full(tape, WG_F32, 2, (const int64_t[]){4, 3}, 1), b = wg_full(tape, WG_F32, 2, (const int64_t[]){7, 5}, 1);
    wg_var c = wg_full(tape, WG_F32, 3, (const int64_t[]){2, 3, 4}, 1), d = wg_full(tape, WG_F32, 3, (const int64_t[]){3, 4, 3}, 1);
    wg_var s = wg_full(tape, WG_F32, 0, NULL, 1), e = wg_full(tape, WG_F64, 2, (const int64_t[]){3, 4}, 1);
    wg_var i = wg_full(tape, WG_I32, 2, (const int64_t[]){3, 4}, 1), v = wg_full(tape, WG_F32, 1, (const int64_t[]){6}, 1);
    expect_failure(tape, wg_matmul(a, b, false, false), WG_SHAPE, "matmul: (4,3) by (7,5): inner sizes 3 and 7 differ");
    expect_failure(tape, wg_matmul(a, b, true, true), WG_SHAPE, "matmul: (4,3) by (7,5): inner sizes 4 and 5 differ");
    expect_failure(tape, wg_matmul(c, b, false, false), WG_SHAPE, "matmul: (2,3,4) by (7,5): inner sizes 4 and 7 differ");
    expect_failure(tape, wg_matmul(c, v, false, false), WG_SHAPE, "matmul: (2,3,4) by (6): inner sizes 4 and 6 differ");
    expect_failure(tape, wg_matmul(c, d, false, false), WG_SHAPE, "matmul: (2,3,4) by (3,4,3): the batch sizes do not broadcast");
    expect_failure(tape, wg_matmul(s, b, false, false), WG_SHAPE, "matmul: () is a scalar");
    expect_failure(tape, wg_matmul(a, e, false, false), WG_DTYPE, "matmul: operands are f32 and f64");
    expect_failure(tape, wg_matmul(i, i, false, true), WG_DTYPE, "matmul: operands are i32 and i32");
    expect_failure(tape, wg_matmul(a, wg_c(2), false, true), WG_ARGUMENT, "matmul: an operand is not a valid var");
    expect_failure(tape, wg_matmul((wg_var){0}, a, false, true), WG_ARGUMENT, "matmul: an operand is not a valid var");
    expect_failure(tape, wg_outer(s, v), WG_SHAPE, "outer: an operand has no axis, or too many");
    expect_failure(tape, wg_outer(v, wg_c(1)), WG_ARGUMENT, "outer: an operand is not a valid var");
    expect_failure(tape, wg_dot(a, v), WG_SHAPE, "dot: (4,3) with (6): the last sizes differ");
    expect_failure(tape, wg_dot(a, (wg_var){0}), WG_ARGUMENT, "dot: an operand is not a valid var");
    const int64_t wide[] = {1 << 20, 1 << 20, 1, 1}, tall[] = {1, 1, 1 << 20, 1};
    expect_failure(tape, wg_matmul(wg_full(tape, WG_F32, 4, wide, 1), wg_full(tape, WG_F32, 4, tall, 1), false, true),
                   WG_RANGE, "matmul: the result would have too many elements");
    wg_tape_free(tape);
}

Test(product, outer_and_dot_are_products_of_elements_and_their_sum) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = drawn(WG_F64, 2, (const int64_t[]){2, 3}, 1), *u = drawn(WG_F64, 2, (const int64_t[]){2, 3}, 2);
    wg_tensor *outer = value(wg_outer(wg_leaf(tape, t), wg_leaf(tape, u)));
    wg_tensor *dot = value(wg_dot(wg_leaf(tape, t), wg_leaf(tape, u)));
    cr_assert_eq(wg_tensor_shape(outer)->rank, 3);
    cr_assert_eq(wg_tensor_shape(dot)->rank, 1);
    for (int b = 0; b < 2; b++) {
        long double sum = 0;
        for (int i = 0; i < 3; i++) {
            sum += (long double)wg_tensor_get(t, b * 3 + i) * wg_tensor_get(u, b * 3 + i);
            for (int j = 0; j < 3; j++)
                cr_assert_eq(wg_tensor_get(outer, b * 9 + i * 3 + j), wg_tensor_get(t, b * 3 + i) * wg_tensor_get(u, b * 3 + j));
        }
        cr_assert_float_eq(wg_tensor_get(dot, b), (double)sum, 1e-14);
    }
    wg_tensor_free(outer), wg_tensor_free(dot), wg_tensor_free(t), wg_tensor_free(u);
    wg_tape_free(tape);
}

Test(product, bits_do_not_depend_on_the_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = drawn(WG_F32, 3, (const int64_t[]){64, 33, 50}, 1), *u = drawn(WG_F32, 3, (const int64_t[]){64, 50, 41}, 2);
    wg_var a = wg_leaf(tape, t), b = wg_leaf(tape, u);
    wg_var y[2] = {wg_matmul(a, b, false, false), wg_matmul(a, wg_reshape(wg_slice(b, 0, 0, 1), 2, (const int64_t[]){50, 41}), false, false)};
    wg_tensor *first[2], *out[2];
    for (int threads = 1; threads <= 8; threads += threads < 4 ? 1 : 4) {
        wg_error error = {0};
        cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = threads}, 2, y, out, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < 2; i++) {
            if (threads == 1)
                first[i] = wg_tensor_retain(out[i]);
            cr_assert_eq(memcmp(wg_tensor_data(out[i]), wg_tensor_data(first[i]), wg_tensor_bytes(out[i])), 0, "%d threads", threads);
            wg_tensor_free(out[i]);
        }
    }
    wg_tensor_free(first[0]), wg_tensor_free(first[1]), wg_tensor_free(t), wg_tensor_free(u);
    wg_tape_free(tape);
}
