/* Row normalisation: values against long double, kinds of rows, errors, agreement of the two modes. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "taped.h"

/* The row normalised, and the factor, as defined. */
static long double exact_row(int64_t n, const double *x, double eps, bool centred, long double *y) {
    long double mean = 0, variance = 0;
    for (int64_t i = 0; i < n && centred; i++)
        mean += x[i] / (long double)n;
    for (int64_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (long double)n;
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrtl(variance + eps);
    return 1 / sqrtl(variance + eps);
}

static wg_var normalised(wg_var x, double eps, bool centred) {
    return centred ? wg_layer_norm(x, eps) : wg_rms_norm(x, eps);
}

static void check_rows(wg_dtype dtype, int rank, const int64_t *dim, double eps, bool centred, double shift) {
    enum { WIDEST = 1000 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, dtype, rank, dim, 3);
    const wg_shape *shape = wg_tensor_shape(t);
    int64_t n = dim[rank - 1];
    for (int64_t i = 0; i < shape->count; i++)
        wg_tensor_set(t, i, wg_tensor_get(t, i) + shift);
    wg_var x = wg_leaf(tape, t);
    wg_tensor *y = taped_value(normalised(x, eps, centred)), *r = taped_value(wg_norm_scale(x, eps, centred));
    cr_assert_eq(wg_tensor_shape(y)->count, shape->count);
    cr_assert_eq(wg_tensor_shape(r)->dim[rank - 1], 1);
    double row[WIDEST], tolerance = (dtype == WG_F32 ? 3e-7 : 1e-15) * (1 + fabs(shift) * 4);
    long double exact[WIDEST];
    for (int64_t at = 0; n && at < shape->count / n; at++) {
        for (int64_t i = 0; i < n; i++)
            row[i] = wg_tensor_get(t, at * n + i);
        long double factor = exact_row(n, row, eps, centred, exact);
        cr_assert_float_eq(wg_tensor_get(r, at), (double)factor, tolerance * (double)factor);
        for (int64_t i = 0; i < n; i++)
            cr_assert_float_eq(wg_tensor_get(y, at * n + i), (double)exact[i], tolerance * (1 + (double)fabsl(exact[i])));
    }
    wg_tensor_free(t), wg_tensor_free(y), wg_tensor_free(r);
    wg_tape_free(tape);
}

Test(normalise, rows_have_the_values_of_the_definition) {
    const struct {
        int rank;
        int64_t dim[4];
    } shapes[] = {{1, {7}}, {2, {3, 5}}, {3, {2, 3, 4}}, {2, {4, 1}}, {2, {3, 1000}}, {2, {4, 15}}, {2, {4, 16}}, {2, {3, 31}}, {2, {0, 3}}, {2, {3, 0}}, {1, {0}}};
    const double eps[] = {1e-5, 0.5, 1e-3};
    for (int s = 0; s < WG_LEN(shapes); s++)
        for (int e = 0; e < WG_LEN(eps); e++)
            for (int k = 0; k < 8; k++)
                check_rows(k & 1 ? WG_F32 : WG_F64, shapes[s].rank, shapes[s].dim, eps[e], k & 2, k & 4 ? 100 : 0);
}

Test(normalise, equal_elements_give_zeros_and_nan_stays_in_its_row) {
    wg_tape *tape = wg_tape_new(NULL);
    const float data[] = {3, 3, 3, 1, NAN, 2, 0, 0, 0, 1, INFINITY, 2};
    wg_tensor *t = wg_tensor_new(NULL, WG_F32, 2, (const int64_t[]){4, 3});
    memcpy(wg_tensor_write(t), data, sizeof data);
    wg_tensor *y = taped_value(wg_layer_norm(wg_leaf(tape, t), 1e-5)), *z = taped_value(wg_rms_norm(wg_leaf(tape, t), 1e-5));
    for (int i = 0; i < 12; i++) {
        bool ill = i / 3 == 1 || i / 3 == 3;
        cr_assert_eq(isnan(wg_tensor_get(y, i)) != 0, ill, "layer_norm %d", i);
        if (!ill)
            cr_assert_eq(wg_tensor_get(y, i), 0);
        if (i / 3 == 1)
            cr_assert(isnan(wg_tensor_get(z, i)));
        if (i / 3 == 2)
            cr_assert_eq(wg_tensor_get(z, i), 0);
    }
    wg_tensor_free(t), wg_tensor_free(y), wg_tensor_free(z);
    wg_tape_free(tape);
}

/* Wherever it stands among those that are added up side by side, or left over. */
Test(normalise, what_is_not_a_number_fills_its_row_and_no_other) {
    enum { N = 37 };
    static const int at[] = {0, 1, 15, 16, 31, 32, 36};
    for (int k = 0; k < WG_LEN(at) * 4; k++) {
        const wg_dtype dtype = k & 1 ? WG_F64 : WG_F32;
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t = taped_random(NULL, dtype, 2, (const int64_t[]){3, N}, 1);
        wg_tensor_set(t, N + at[k / 4], k & 2 ? INFINITY : NAN);
        wg_tensor *y = taped_value(wg_layer_norm(wg_leaf(tape, t), 1e-5)), *p = taped_value(wg_norm_project(wg_leaf(tape, t), wg_leaf(tape, t), true));
        for (int i = 0; i < 3 * N; i++) {
            cr_expect_eq(isnan(wg_tensor_get(y, i)) != 0, i / N == 1, "norm %d, NaN at %d", i, at[k / 4]);
            cr_expect_eq(!isfinite(wg_tensor_get(p, i)), i / N == 1, "projection %d, NaN at %d", i, at[k / 4]);
        }
        wg_tensor_free(t), wg_tensor_free(y), wg_tensor_free(p);
        wg_tape_free(tape);
    }
}

extern const wg_op wg__op_layer_norm, wg__op_rms_norm, wg__op_norm_scale, wg__op_norm_project, wg__op_softmax, wg__op_log_softmax, wg__op_logsumexp,
    wg__op_cumsum;

/* ---- operands that are strided: rows are read where they lie, if each is dense and as far behind the one before ---- */

static const int64_t block_dim[] = {3, 4, 6};

/* Views of x (3,4,6): how they lie, and what is wanted of wg__row_step; -1: no. */
static const struct view {
    const char *what;
    int rank;
    int64_t dim[4], stride[4], step;
} views[] = {{"dense", 3, {3, 4, 6}, {24, 6, 1}, 6},
             {"columns", 3, {3, 4, 3}, {24, 6, 1}, 6},
             {"one column", 3, {3, 4, 1}, {24, 6, 1}, 6},
             {"rows of the middle axis", 3, {3, 2, 6}, {24, 6, 1}, -1},
             {"one row of the middle axis", 3, {3, 1, 6}, {24, 6, 1}, 24},
             {"every other row", 2, {6, 6}, {12, 1}, 12},
             {"rows from the last", 2, {12, 6}, {-6, 1}, -6},
             {"one row again and again", 2, {4, 6}, {0, 1}, 0},
             {"one row again and again, twice", 3, {2, 4, 6}, {6, 0, 1}, -1},
             {"turned", 2, {6, 12}, {1, 6}, -1},
             {"a row alone", 1, {6}, {1}, 6},
             {"columns from the last", 2, {12, 6}, {6, -1}, -1},
             {"one column again and again", 2, {4, 6}, {0, 0}, -1},
             {"every other column", 2, {12, 3}, {6, 2}, -1}};

Test(normalise, distance_of_dense_rows_is_found) {
    for (int k = 0; k < WG_LEN(views); k++) {
        wg_shape shape;
        int64_t step;
        cr_assert_eq(wg__shape_set(&shape, views[k].rank, views[k].dim), WG_OK);
        bool found = wg__row_step(&shape, views[k].stride, &step);
        cr_expect(found == (views[k].step != -1) && (!found || step == views[k].step), "%s: %d, %lld", views[k].what, found, (long long)step);
    }
    wg_shape scalar;
    int64_t step;
    cr_assert_eq(wg__shape_set(&scalar, 0, NULL), WG_OK);
    cr_expect(wg__row_step(&scalar, NULL, &step) && step == 1);
}

/* What the kernel of an op makes of strided operands, and of the same numbers dense. */
static void reads_rows_where_they_lie(const wg_op *op, const void *attr, const struct view *v, wg_dtype dtype) {
    wg_tensor *all = taped_random(NULL, dtype, 3, block_dim, 5);
    const size_t size = wg_dtype_size(dtype);
    char dense[72 * 8], from_dense[72 * 8] = {0}, from_view[72 * 8] = {0};
    const char *first = (const char *)wg_tensor_data(all) + (v->stride[0] < 0 ? 66 * size : 0);
    wg_shape in, out;
    cr_assert_eq(wg__shape_set(&in, v->rank, v->dim), WG_OK);
    for (int64_t i = 0; i < in.count; i++) {
        int64_t at = 0, rest = i;
        for (int k = in.rank - 1; k >= 0; rest /= in.dim[k], k--)
            at += rest % in.dim[k] * v->stride[k];
        memcpy(dense + (size_t)i * size, first + at * (int64_t)size, size);
    }
    const wg_shape *shapes[2] = {&in, &in};
    wg_dtype types[2] = {dtype, dtype};
    wg_infer infer = {.op = op, .attr = attr, .n = op->arity, .in = shapes, .in_dtype = types};
    cr_assert_eq(wg__infer(&infer), WG_OK);
    cr_assert_eq(wg__shape_set(&out, infer.out.rank, infer.out.dim), WG_OK);
    wg_team alone = wg__team_of(&(wg_run_options){.threads = 1});
    for (int k = 0; k < 2; k++) {
        wg_array operand = {k ? (char *)first : dense, &in, k ? v->stride : NULL, dtype}, operands[2] = {operand, operand};
        wg_call call = {.op = op, .attr = attr, .n = op->arity, .in = operands, .out = {k ? from_view : from_dense, &out, NULL, dtype}, .team = &alone};
        cr_assert_eq(op->run(&call), WG_OK);
    }
    cr_expect_eq(memcmp(from_dense, from_view, (size_t)out.count * size), 0, "%s of %s", op->name, v->what);
    wg_tensor_free(all);
}

Test(normalise, rows_are_read_where_they_lie) {
    const struct {
        double eps;
        int64_t centred;
    } norm = {0.1, 1};
    const bool centred = true;
    const struct {
        const wg_op *op;
        const void *attr;
    } readers[] = {{&wg__op_layer_norm, &norm}, {&wg__op_rms_norm, &norm}, {&wg__op_norm_scale, &norm}, {&wg__op_norm_project, &centred},
                   {&wg__op_softmax, NULL},     {&wg__op_log_softmax, NULL}, {&wg__op_logsumexp, NULL}};
    for (int r = 0; r < WG_LEN(readers); r++)
        for (int k = 0; k < WG_LEN(views); k++) {
            wg_shape shape;
            cr_assert_eq(wg__shape_set(&shape, views[k].rank, views[k].dim), WG_OK);
            cr_expect_eq(wg__takes(readers[r].op, &shape, views[k].stride), views[k].step != -1, "%s of %s", readers[r].op->name, views[k].what);
            for (int type = 0; type < 2 && views[k].step != -1; type++)
                reads_rows_where_they_lie(readers[r].op, readers[r].attr, &views[k], type ? WG_F32 : WG_F64);
        }
    cr_expect(!wg__takes(&wg__op_cumsum, &(wg_shape){.rank = 2, .dim = {2, 2}, .count = 4}, (const int64_t[]){3, 1}));
}

Test(normalise, operand_may_be_strided) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){5, 4}, 3);
    wg_var turned = wg_transpose(wg_leaf(tape, t));
    wg_tensor *dense = taped_value(turned);
    wg_tensor *a = taped_value(wg_layer_norm(turned, 0.1)), *b = taped_value(wg_layer_norm(wg_leaf(tape, dense), 0.1));
    cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
    wg_tensor_free(t), wg_tensor_free(dense), wg_tensor_free(a), wg_tensor_free(b);
    wg_tape_free(tape);
}

static wg_var inner(wg_var a, wg_var b) { return wg_sum_to(wg_mul(a, b), 0, NULL); }

Test(normalise, forward_and_reverse_modes_agree_to_the_third_order) {
    for (int kind = 0; kind < 4; kind++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t[3];
        for (int i = 0; i < 3; i++)
            t[i] = taped_random(NULL, WG_F64, 2, (const int64_t[]){3, 4}, 5 + (uint64_t)i);
        wg_var x = wg_leaf(tape, t[0]), v = wg_leaf(tape, t[1]), w = wg_leaf(tape, t[2]), g, jv;
        wg_var y = kind < 2 ? normalised(x, 0.1, kind) : wg_norm_scale(x, 0.1, kind == 3);
        wg_var s = inner(wg_square(y), kind < 2 ? w : wg_like(y, 1));
        for (int order = 1; order <= 3; order++) {
            cr_assert_eq(wg_grad(s, 1, &x, &g), WG_OK, "%s", wg_tape_message(tape));
            cr_assert_eq(wg_jvp(1, &x, &v, 1, &s, &jv), WG_OK, "%s", wg_tape_message(tape));
            double forward = taped_number(jv), reverse = taped_number(s = inner(g, v));
            cr_assert_float_eq(forward, reverse, 1e-10 * (1 + fabs(forward)), "kind %d, order %d", kind, order);
        }
        wg_tape_free(tape);
        for (int i = 0; i < 3; i++)
            wg_tensor_free(t[i]);
    }
}

/* f32 goes by one sweep about the first element. */
Test(normalise, rows_far_from_zero_or_whose_first_lies_far_off_lose_nothing) {
    enum { N = 200 };
    static const double units[] = {1e30, 1e15, 1e18, 1e21, 1e-17, 1e-25, 1e38};
    for (int kind = 0; kind < 3 + WG_LEN(units); kind++) {
        const double eps = kind < 3 ? 1e-5 : 0;
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t = wg_tensor_new(NULL, WG_F32, 1, (const int64_t[]){N});
        double row[N];
        for (int i = 0; i < N; i++) {
            row[i] = kind == 0 ? 1e6 + (i * 7 % 13) * 0.0625 : kind == 1 ? (i ? (i * 7 % 13) * 0.0625 : 1e6) : kind == 2 ? 3e4 : units[kind - 3] * (kind == 9 ? i == 50 ? -3 : 3 : 1 + i % 3); /* the last: further from the mean than an f32 reaches */
            wg_tensor_set(t, i, row[i]);
            row[i] = wg_tensor_get(t, i);
        }
        long double exact[N], factor = exact_row(N, row, eps, true, exact);
        wg_tensor *y = taped_value(wg_layer_norm(wg_leaf(tape, t), eps)), *r = taped_value(wg_norm_scale(wg_leaf(tape, t), eps, true));
        cr_expect_float_eq(wg_tensor_get(r, 0) / (double)factor, 1, 1e-6, "kind %d: %g", kind, wg_tensor_get(r, 0));
        for (int i = 0; i < N; i++)
            cr_expect_float_eq(wg_tensor_get(y, i), (double)exact[i], 1e-6 * (1 + (double)fabsl(exact[i])), "kind %d", kind);
        wg_tensor_free(t), wg_tensor_free(y), wg_tensor_free(r);
        wg_tape_free(tape);
    }
}

Test(normalise, projection_is_what_its_definition_says) {
    static const int64_t widths[] = {37, 15, 32, 47};
    for (int k = 0; k < 16; k++) {
        const int64_t width = widths[k / 4];
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *g = taped_random(NULL, k & 1 ? WG_F32 : WG_F64, 2, (const int64_t[]){3, width}, 1), *y = taped_random(NULL, k & 1 ? WG_F32 : WG_F64, 2, (const int64_t[]){3, width}, 2);
        wg_tensor *out = taped_value(wg_norm_project(wg_leaf(tape, g), wg_leaf(tape, y), k & 2));
        for (int row = 0; row < 3; row++) {
            long double m = 0, share = 0;
            for (int64_t i = row * width; i < (row + 1) * width; i++) {
                m += wg_tensor_get(g, i) / (long double)width;
                share += (long double)wg_tensor_get(g, i) * wg_tensor_get(y, i) / (long double)width;
            }
            for (int64_t i = row * width; i < (row + 1) * width; i++)
                cr_assert_float_eq(wg_tensor_get(out, i), (double)(wg_tensor_get(g, i) - wg_tensor_get(y, i) * share - (k & 2 ? m : 0)), k & 1 ? 1e-6 : 1e-14);
        }
        wg_tensor_free(g), wg_tensor_free(y), wg_tensor_free(out);
        wg_tape_free(tape);
    }
}

Test(normalise, what_does_not_fit_is_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var scalar = wg_full(tape, WG_F32, 0, NULL, 1), x = wg_full(tape, WG_F32, 1, (const int64_t[]){3}, 1);
    wg_var whole = wg_full(tape, WG_I32, 1, (const int64_t[]){3}, 1);
    const struct {
        wg_var x;
        double eps;
        wg_status status;
        const char *message;
    } bad[] = {{scalar, 1, WG_SHAPE, "layer_norm: () has no axis"},
               {whole, 1, WG_DTYPE, "layer_norm: the operand is i32"},
               {x, -1, WG_RANGE, "layer_norm: eps is -1, not a number from 0 up"},
               {x, INFINITY, WG_RANGE, "layer_norm: eps is inf, not a number from 0 up"}};
    for (int i = 0; i < WG_LEN(bad); i++) {
        cr_assert(!wg_valid(wg_layer_norm(bad[i].x, bad[i].eps)));
        cr_assert_eq(wg_tape_status(tape), bad[i].status);
        cr_assert_str_eq(wg_tape_message(tape), bad[i].message);
        wg_tape_clear(tape);
        cr_assert(!wg_valid(wg_norm_scale(bad[i].x, bad[i].eps, true)));
        cr_assert_eq(wg_tape_status(tape), bad[i].status);
        wg_tape_clear(tape);
    }
    const struct {
        wg_var y;
        wg_status status;
        const char *message;
    } unlike[] = {{wg_full(tape, WG_F32, 1, (const int64_t[]){4}, 1), WG_SHAPE, "norm_project: (3) and (4)"},
                  {scalar, WG_SHAPE, "norm_project: (3) and ()"},
                  {whole, WG_DTYPE, "norm_project: f32 and i32"}};
    for (int i = 0; i < WG_LEN(unlike); i++) {
        cr_assert(!wg_valid(wg_norm_project(x, unlike[i].y, true)));
        cr_assert_eq(wg_tape_status(tape), unlike[i].status);
        cr_expect_str_eq(wg_tape_message(tape), unlike[i].message);
        wg_tape_clear(tape);
    }
    wg_tape_free(tape);
}

Test(normalise, bits_do_not_depend_on_the_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){300, 200}, 3), *out, *first = NULL;
    wg_var y = wg_layer_norm(wg_leaf(tape, t), 1e-5);
    for (int threads = 1; threads <= 8; threads += threads < 4 ? 1 : 4) {
        cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = threads}, 1, &y, &out, NULL), WG_OK);
        if (!first)
            first = wg_tensor_retain(out);
        cr_assert_eq(memcmp(wg_tensor_data(out), wg_tensor_data(first), wg_tensor_bytes(out)), 0, "%d threads", threads);
        wg_tensor_free(out);
    }
    wg_tensor_free(first), wg_tensor_free(t);
    wg_tape_free(tape);
}
