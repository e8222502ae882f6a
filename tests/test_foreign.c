/* C functions as ops: what they compute, their derivatives, what is refused and why, in plans. */
#include "taped.h"

#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bound.h"
#include "failing.h"

/* ---- functions of this file ---- */

static double twice_d(double x) { return 2 * x; }
static double blend(double a, double b, double c) { return a * b + c; }
static float cube_f(float x) { return x * x * x; }
static float three_x2_f(float x) { return 3 * x * x; }
static double power_of(int n, double x) {
    double y = 1;
    for (; n > 0; n--)
        y *= x;
    return y;
}
static int sign_of(double x) { return x < 0 ? -1 : x > 0; }
static double shifted(double x, int16_t by, void *nothing) { return nothing ? 0 : x + by; }
static double scaled_by(double x, void *by) { return x * *(double *)by; }
static double scaled_slope(double x, void *by) { return 0 * x + *(double *)by; }
static double inverse(double x) { return x == 0 ? (double)NAN : 1 / x; }
static double inverse_slope(double x) { return -1 / (x * x); }
static double smallest_half(double x) { return x + (double)(DBL_MIN * 0.5 != 0 && DBL_MIN * x / 2 > 0); }

static void squares(const float *x, float *y, unsigned short n) {
    for (unsigned k = 0; k < n; k++)
        y[k] = x[k] * x[k];
}
static int affine(const double *a, double scale, size_t m, int8_t n, const double *x, double *y) {
    for (size_t i = 0; i < m; i++) {
        y[i] = 0;
        for (int j = 0; j < n; j++)
            y[i] += scale * a[i * (size_t)n + (size_t)j] * x[j];
    }
    return scale > 100 ? 7 : 0;
}
static void affine_vjp(const double *a, double scale, size_t m, int8_t n, const double *x, const double *y, const double *gy, double *ga,
                       double *gscale, double *gx) {
    *gscale = 0;
    memset(gx, 0, sizeof *gx * (size_t)n);
    for (size_t i = 0; i < m; i++) {
        *gscale += gy[i] * y[i] / scale;
        for (int j = 0; j < n; j++) {
            ga[i * (size_t)n + (size_t)j] = gy[i] * scale * x[j];
            gx[j] += gy[i] * scale * a[i * (size_t)n + (size_t)j];
        }
    }
}
typedef struct mixed {
    int32_t n;
    double x[2];
    float y;
} mixed;
static mixed turn(mixed m) { return (mixed){m.n + 1, {m.x[1], m.x[0]}, -m.y}; }
static void pairs(int n, const complex_pair *x, complex_pair *y) {
    for (int i = 0; i < n; i++)
        y[i] = (complex_pair){x[i].im, x[i].re};
}
static double g_of_product(double x, double y, double result, double gresult) { return x == 0 ? 0 : gresult * result / x * (y == y); }
static double product(double x, double y) { return x * y; }

static void scaled(long n, const double *x, double s, double *y) {
    for (long i = 0; i < n; i++)
        y[i] = s * x[i];
}
static double scaled_sum(long n, const double *x, double s) {
    double sum = 0;
    for (long i = 0; i < n; i++)
        sum += s * x[i];
    return sum;
}
static void two_vjp(long n, const double *gy, double *gx, double *gw) {
    for (long i = 0; i < n; i++)
        gx[i] = gw[i] = gy[i];
}
static void two(long n, const double *x, const double *w, double *y) {
    for (long i = 0; i < n; i++)
        y[i] = x[i] + w[i];
}

static void indices(int n, const float *x, int *y) {
    for (int i = 0; i < n; i++)
        y[i] = (int)x[i] + i;
}
static int longest(const double *x, int n) { return x[0] > 0 ? n : -n; }
static void split_sum(int m, int n, const double *a, const double *x, double *y) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            y[i * n + j] = a[i * n + j] + x[j];
}
static void broken(int n, const double *x, double *y) {
    for (int i = 0; i < n; i++)
        y[i] = x[i] < 0 ? (double)NAN : x[i];
}
static void thirds(int n, const double *x, int k, double *y) {
    for (int i = 0; i < k; i++)
        y[i] = i < n ? x[i] : 0;
}

static void scaled_vjp(long n, const double *x, double s, const double *gy, double *gx, double *gs) {
    *gs = 0;
    for (long i = 0; i < n; i++) {
        gx[i] = s * gy[i];
        *gs += x[i] * gy[i];
    }
}
static void scaled_sum_vjp(long n, const double *x, double s, const double *gy, double *gx, double *gs) {
    *gs = 0;
    for (long i = 0; i < n; i++) {
        gx[i] = s * *gy;
        *gs += x[i] * *gy;
    }
}

/* ---- what tests share ---- */

static wg_tensor *values(wg_dtype dtype, int rank, const int64_t *dim, const double *value) {
    wg_tensor *t = wg_tensor_new(NULL, dtype, rank, dim);
    for (int64_t i = 0; i < wg_tensor_shape(t)->count; i++)
        wg_tensor_set(t, i, value[i]);
    return t;
}

static wg_var leaf_of(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim, const double *value) {
    wg_tensor *t = values(dtype, rank, dim, value);
    wg_var x = wg_leaf(tape, t);
    wg_tensor_free(t);
    return x;
}

static wg_var vector(wg_tape *tape, int64_t n, const double *value) { return leaf_of(tape, WG_F64, 1, &n, value); }

/* y's elements are those given, and a plan's too, on any number of threads. */
static void expect(wg_var y, int64_t n, const double *value) {
    cr_assert(wg_valid(y), "%s", wg_tape_message(y.tape));
    wg_tensor *out = taped_value(y);
    wg_error error = {0};
    cr_assert_eq(wg_tensor_shape(out)->count, n);
    for (int64_t i = 0; i < n; i++)
        cr_assert_float_eq(wg_tensor_get(out, i), value[i], 1e-12, "element %lld: %.17g, not %.17g", (long long)i, wg_tensor_get(out, i), value[i]);
    for (int threads = 1; threads <= 3; threads++) {
        wg_plan *plan = wg_compile(1, &y, &(wg_compile_options){.run.threads = threads, .validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(memcmp(wg_tensor_data(wg_plan_output(plan, 0)), wg_tensor_data(out), wg_tensor_bytes(out)), 0);
        wg_plan_free(plan);
    }
    wg_tensor_free(out);
}

static void fails_to_run(wg_var y, wg_status status, const char *text) {
    cr_assert(wg_valid(y), "%s", wg_tape_message(y.tape));
    for (int threads = 1; threads <= 4; threads += 3) {
        wg_tensor *out = NULL;
        wg_error error = {0};
        cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = threads}, 1, &y, &out, &error), status, "%s", error.text);
        cr_assert_str_eq(error.text, text);
        error = (wg_error){0};
        wg_plan *plan = wg_compile(1, &y, &(wg_compile_options){.run.threads = threads}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), status, "%s", error.text);
        cr_assert_str_eq(error.text, text);
        wg_plan_free(plan);
    }
}

static void complain(void *user, const wg_check_result *r) {
    ++*(int *)user;
    cr_expect(r->passed, "%s \"%s\", %s: error %g: %s", r->name, r->example, r->kind, r->error, r->text);
}

/* Its derivatives are right. */
static void check(const wg_op *op) {
    int done = 0;
    wg_error error = {0};
    cr_assert_eq(wg_check_op(&(wg_check_options){.seed = 3, .report = complain, .user = &done}, NULL, op, &error), WG_OK, "%s", error.text);
    cr_assert_gt(done, 4, "%s", op->name);
}

static void refused(wg_binding b, wg_status status, const char *text) {
    wg_foreign *f = foreign();
    wg_error error = {0};
    cr_assert_null(wg_bind(f, &b, &error), "%s", b.prototype);
    cr_assert_str_eq(error.text, text);
    cr_assert_eq(error.status, status, "%s", error.text);
    cr_assert_eq(wg_foreign_count(f), 0);
    wg_foreign_free(f);
}

/* ---- element by element ---- */

Test(foreign, functions_of_doubles_are_pointwise_ops_that_broadcast) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *one = bound(f, (wg_binding){.prototype = "double twice_d(double)", .function = FUNCTION(twice_d), .derivative = "2"});
    const wg_op *three = bound(f, (wg_binding){.prototype = "double blend(double a, double b, double c)", .function = FUNCTION(blend),
                                               .derivative = "b, a, 1"});
    wg_var x = vector(tape, 3, (const double[]){1, -2, 0.5}), column = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 1}, (const double[]){10, 20});
    expect(wg_call_op(one, 1, &x), 3, (const double[]){2, -4, 1});
    expect(wg_call_op(three, 3, (const wg_var[]){x, column, wg_c(1)}), 6, (const double[]){11, -19, 6, 21, -39, 11});
    wg_var single = leaf_of(tape, WG_F32, 0, NULL, (const double[]){3}), y = wg_call_op(one, 1, &single);
    cr_assert_eq(wg_var_dtype(y), WG_F32);
    expect(y, 1, (const double[]){6});
    wg_var none = leaf_of(tape, WG_F64, 2, (const int64_t[]){0, 3}, NULL);
    expect(wg_call_op(one, 1, &none), 0, NULL);
    check(one);
    check(three);
    cr_assert_eq(wg_foreign_find(f, "blend"), three);
    cr_assert_eq(wg_foreign_op(f, 0), one);
    cr_assert_null(wg_foreign_op(f, 2));
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, numbers_of_other_types_are_converted_and_fixed_parameters_are_no_operands) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *cube = bound(f, (wg_binding){.prototype = "float cube_f(float)", .function = FUNCTION(cube_f), .derivative = "3*x**2"});
    const wg_op *power = bound(f, (wg_binding){.prototype = "double power_of(int n, double x)", .function = FUNCTION(power_of),
                                               .derivative = "n*power_of(n - 1, x)", .from = 1, .to = 4});
    const wg_op *sign = bound(f, (wg_binding){.prototype = "int sign_of(double)", .function = FUNCTION(sign_of)});
    const wg_op *shift = bound(f, (wg_binding){.prototype = "double shifted(double x, int16_t by = -3, void *nothing = NULL)",
                                               .function = FUNCTION(shifted), .derivative = "1"});
    wg_var x = vector(tape, 3, (const double[]){1, -2, 0.5});
    expect(wg_call_op(cube, 1, &x), 3, (const double[]){1, -8, 0.125});
    expect(wg_call_op(power, 2, (const wg_var[]){wg_c(2), x}), 3, (const double[]){1, 4, 0.25});
    expect(wg_call_op(sign, 1, &x), 3, (const double[]){1, -1, 1});
    expect(wg_call_op(shift, 1, &x), 3, (const double[]){-2, -5, -2.5});
    fails_to_run(wg_call_op(power, 2, (const wg_var[]){x, x}), WG_RANGE, "power_of: n is 0.5, no value of 'int' (element 2)");
    check(cube);
    check(power);
    check(shift);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, a_pointer_of_the_user_is_handed_on) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    double by = 3;
    const wg_op *op = bound(f, (wg_binding){.prototype = "double scaled_by(double x, void *by: user)", .function = FUNCTION(scaled_by), .user = &by,
                                            .derivative = "double scaled_slope(double x, void *by: user)",
                                            .derivative_function = FUNCTION(scaled_slope)});
    wg_var x = vector(tape, 2, (const double[]){1, -2});
    expect(wg_call_op(op, 1, &x), 2, (const double[]){3, -6});
    check(op);
    by = 5;
    expect(wg_call_op(op, 1, &x), 2, (const double[]){5, -10});
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, nan_made_of_numbers_is_an_error_that_names_the_first_element) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    enum { MANY = 9000 };
    double *x = calloc(MANY, sizeof *x);
    for (int i = 0; i < MANY; i++)
        x[i] = i == 4321 || i == 8000 ? 0 : 1 + i;
    const wg_op *strict = bound(f, (wg_binding){.prototype = "double inverse(double)", .function = FUNCTION(inverse)});
    const wg_op *loose = bound(f, (wg_binding){.prototype = "double inverse(double)", .function = FUNCTION(inverse), .name = "loose", .nan = true});
    wg_var v = vector(tape, MANY, x), y;
    fails_to_run(wg_call_op(strict, 1, &v), WG_NONFINITE, "inverse: inverse(0) is NaN (element 4321)");
    y = wg_call_op(loose, 1, &v);
    wg_tensor *out = taped_value(y);
    cr_assert(isnan(wg_tensor_get(out, 4321)) && wg_tensor_get(out, 1) == 0.5);
    wg_var through = wg_call_op(strict, 1, &y), found = vector(tape, 1, (const double[]){(double)NAN});
    cr_assert(isnan(taped_number(wg_call_op(strict, 1, &found))), "NaN of NaN is no failure");
    cr_assert(wg_valid(through));
    wg_nonfinite where;
    wg_error error = {0};
    cr_assert_eq(wg_find_nonfinite(1, &y, &where, &error), WG_NONFINITE);
    cr_assert_str_eq(where.op, "loose");
    wg_tensor_free(out);
    free(x);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, numbers_below_the_normal_range_are_exact_inside_and_the_mode_is_as_before_after) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "double smallest_half(double)", .function = FUNCTION(smallest_half)});
    wg_var x = vector(tape, 2, (const double[]){1, 0.25});
    expect(wg_call_op(op, 1, &x), 2, (const double[]){2, 1.25});
    volatile double tiny = DBL_MIN;
    cr_assert_gt(tiny / 2, 0);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

/* ---- arrays ---- */

Test(foreign, functions_of_arrays_are_called_for_each_row) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *sums = bound(f, (wg_binding){.prototype = "void scan(long n, const double *x, double *y)", .function = FUNCTION(scan),
                                              .vjp = "void scan_vjp(long n, const double *gy, double *gx)", .vjp_function = FUNCTION(scan_vjp)});
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 3}, (const double[]){1, 2, 3, 10, 20, 30});
    expect(wg_call_op(sums, 1, &x), 6, (const double[]){1, 3, 6, 10, 30, 60});
    wg_var narrow = leaf_of(tape, WG_F32, 1, (const int64_t[]){2}, (const double[]){5, 6}), y = wg_call_op(sums, 1, &narrow);
    cr_assert_eq(wg_var_dtype(y), WG_F32, "cast, and back");
    expect(y, 2, (const double[]){5, 11});
    const wg_op *squared = bound(f, (wg_binding){.prototype = "void squares(const float *x, float *y, unsigned short n)",
                                                 .function = FUNCTION(squares), .derivative = "2*x"});
    expect(wg_call_op(squared, 1, &narrow), 2, (const double[]){25, 36});
    check(sums);
    check(squared);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

static const char affine_text[] = "int affine(const double a[m][n], double scale, size_t m, int8_t n, const double x[n], double y[m])";

static const wg_op *bind_affine(wg_foreign *f) {
    return bound(f, (wg_binding){.prototype = affine_text, .function = FUNCTION(affine),
                                 .vjp = "void affine_vjp(const double a[m][n], double scale, size_t m, int8_t n, const double x[n], const double y[m], "
                                        "const double gy[m], double ga[m][n], double *gscale, double gx[n])",
                                 .vjp_function = FUNCTION(affine_vjp), .from = 1, .to = 2});
}

Test(foreign, sizes_are_tied_to_names_and_rows_broadcast) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bind_affine(f);
    wg_var a = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 3}, (const double[]){1, 2, 3, 4, 5, 6});
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 3}, (const double[]){1, 0, 0, 0, 1, 1});
    expect(wg_call_op(op, 3, (const wg_var[]){a, wg_c(2), x}), 4, (const double[]){2, 8, 10, 22});
    fails_to_run(wg_call_op(op, 3, (const wg_var[]){a, wg_c(200), x}), WG_ARGUMENT, "affine: the function returned 7 (row 0)");
    check(op);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, lengths_are_expressions_and_arrays_of_int_are_i32) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "void widen(int n, const int x[n], double y[2*n + 1])", .function = FUNCTION(widen)});
    wg_var x = leaf_of(tape, WG_I32, 1, (const int64_t[]){2}, (const double[]){7, 8});
    expect(wg_call_op(op, 1, &x), 5, (const double[]){7, 8, -1, -1, -1});
    const wg_op *norm = bound(f, (wg_binding){.prototype = "double norm2(int n, const double *x)", .function = FUNCTION(norm2), .derivative = "2*x"});
    const wg_op *other = bound(f, (wg_binding){.prototype = "double norm2(int n, const double *x)", .function = FUNCTION(norm2), .name = "other",
                                               .derivative = "void norm2_slope(int n, const double *x, double *d)",
                                               .derivative_function = FUNCTION(norm2_slope)});
    wg_var z = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 2}, (const double[]){1, 2, 3, 4});
    expect(wg_call_op(norm, 1, &z), 2, (const double[]){5, 25});
    check(norm);
    check(other);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, structs_by_value_and_behind_pointers_are_a_last_axis) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "struct {double re, im;} times(struct {double re, im;} a, struct {double re, im;} b)",
                                            .function = FUNCTION(times)});
    wg_var a = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 2}, (const double[]){1, 2, 0, 1}), b = vector(tape, 2, (const double[]){3, 4});
    expect(wg_call_op(op, 2, (const wg_var[]){a, b}), 4, (const double[]){-5, 10, -4, 3});
    const wg_op *mix = bound(f, (wg_binding){.prototype = "struct {int32_t n; double x[2]; float y;} turn(struct {int32_t n; double x[2]; float y;} m)",
                                             .function = FUNCTION(turn)});
    wg_var m = vector(tape, 4, (const double[]){3, 1.5, 2.5, 0.25}), bad = vector(tape, 4, (const double[]){3.5, 1, 2, 0});
    expect(wg_call_op(mix, 1, &m), 4, (const double[]){4, 2.5, 1.5, -0.25});
    fails_to_run(wg_call_op(mix, 1, &bad), WG_RANGE, "turn: m holds what its type does not (row 0)");
    const wg_op *swap = bound(f, (wg_binding){.prototype = "void pairs(int n, const struct {double re, im;} x[n], struct {double re, im;} y[n])",
                                              .function = FUNCTION(pairs)});
    expect(wg_call_op(swap, 1, &a), 4, (const double[]){2, 1, 1, 0});
    const wg_op *sum = bound(f, (wg_binding){.prototype = "double four(double a, double b, double c, double d)", .function = FUNCTION(four),
                                             .derivative = "1, 10, 100, 1000"});
    expect(wg_call_op(sum, 4, (const wg_var[]){b, wg_c(1), wg_c(2), b}), 2, (const double[]){3213, 4214});
    check(sum);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, results_are_of_the_type_that_is_written_and_nan_of_numbers_names_its_row) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "void indices(int n, const float *x, int *y)", .function = FUNCTION(indices)});
    const wg_op *sign = bound(f, (wg_binding){.prototype = "int longest(const double *x, int n)", .function = FUNCTION(longest)});
    const wg_op *bad = bound(f, (wg_binding){.prototype = "void broken(int n, const double *x, double *y)", .function = FUNCTION(broken)});
    const wg_op *third = bound(f, (wg_binding){.prototype = "void thirds(int n, const double x[n], int k = 3, double y[k*(2 - 1)])",
                                               .function = FUNCTION(thirds)});
    const wg_op *two_numbers = bound(f, (wg_binding){.prototype = "double atan2(double a, double b)", .library = "libm.so.6", .name = "angle"});
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 2}, (const double[]){1, 2, -3, 4}), y = wg_call_op(op, 1, &x);
    cr_assert_eq(wg_var_dtype(y), WG_I32);
    expect(y, 4, (const double[]){1, 3, -3, 5});
    expect(wg_call_op(sign, 1, &x), 2, (const double[]){2, -2});
    expect(wg_call_op(third, 1, &x), 6, (const double[]){1, 2, 0, -3, 4, 0});
    expect(wg_call_op(two_numbers, 2, (const wg_var[]){wg_c(0), x}), 4, (const double[]){0, 0, 3.14159265358979323846, 0});
    fails_to_run(wg_call_op(bad, 1, &x), WG_NONFINITE, "broken: made NaN of numbers (row 1)");
    wg_var nan = vector(tape, 2, (const double[]){-1, (double)NAN});
    cr_assert(isnan(taped_number(wg_call_op(bad, 1, &nan))), "NaN of NaN is no failure");
    wg_tape_free(tape);
    wg_foreign_free(f);
}

/* ---- derivatives ---- */

Test(foreign, a_derivative_that_is_a_c_function_is_opaque_and_none_is_an_error_that_names_the_op) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "double inverse(double)", .function = FUNCTION(inverse), .name = "recip",
                                            .derivative = "double inverse_slope(double)", .derivative_function = FUNCTION(inverse_slope),
                                            .from = 0.5, .to = 2});
    const wg_op *bare = bound(f, (wg_binding){.prototype = "double twice_d(double)", .function = FUNCTION(twice_d)});
    const wg_op *of_float = bound(f, (wg_binding){.prototype = "float cube_f(float)", .function = FUNCTION(cube_f),
                                                  .derivative = "float three_x2_f(float)", .derivative_function = FUNCTION(three_x2_f)});
    check(op);
    check(of_float);
    wg_var x = vector(tape, 1, (const double[]){2}), d, dd;
    wg_var y = wg_sum_to(wg_call_op(op, 1, &x), 0, NULL);
    cr_assert_eq(wg_grad(y, 1, &x, &d), WG_OK, "%s", wg_tape_message(tape));
    expect(d, 1, (const double[]){-0.25});
    cr_assert_eq(wg_grad(wg_sum_to(d, 0, NULL), 1, &x, &dd), WG_DERIVATIVE);
    cr_assert_str_eq(wg_tape_message(tape), "recip.derivative: its derivative cannot be differentiated again");
    wg_tape_clear(tape);
    cr_assert_eq(wg_grad(wg_sum_to(wg_call_op(bare, 1, &x), 0, NULL), 1, &x, &d), WG_DERIVATIVE);
    cr_assert_str_eq(wg_tape_message(tape), "twice_d: this op has no derivative");
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, a_vjp_of_a_pointwise_function_reads_its_operands_its_result_and_the_cotangent) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "double twice_d(double x)", .function = FUNCTION(twice_d), .name = "double_it",
                                            .vjp = "double four(double x = 0, double gy, double c = 0, double d = 0)",
                                            .vjp_function = FUNCTION(four)});
    wg_var x = vector(tape, 2, (const double[]){3, 5}), d;
    cr_assert_eq(wg_grad(wg_sum_to(wg_call_op(op, 1, &x), 0, NULL), 1, &x, &d), WG_OK, "%s", wg_tape_message(tape));
    expect(d, 2, (const double[]){10, 10});
    refused((wg_binding){.prototype = "double product(double x, double y)", .function = FUNCTION(product),
                         .vjp = "double g_of_product(double x, double y, double result, double gresult)", .vjp_function = FUNCTION(g_of_product)},
            WG_ARGUMENT, "use: vjp makes a value, which is g and the name of no float operand of product");
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, derivatives_call_functions_bound_later_and_are_found_to_be_incomplete) {
    wg_foreign *f = foreign();
    wg_error error = {0};
    const wg_op *sine = bound(f, (wg_binding){.prototype = "double sin(double)", .library = "libm.so.6", .name = "Sin", .derivative = "Cos(x)"});
    cr_assert_eq(wg__foreign_complete(f, 0, &error), WG_NOT_FOUND);
    cr_assert_str_eq(error.text, "use: the derivative of Sin calls Cos, which is not bound");
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = vector(tape, 1, (const double[]){2}), d;
    cr_assert_eq(wg_grad(wg_sum_to(wg_call_op(sine, 1, &x), 0, NULL), 1, &x, &d), WG_NOT_FOUND);
    cr_assert_str_eq(wg_tape_message(tape), "Sin: its derivative calls Cos, which is not bound");
    wg_tape_free(tape);
    const wg_op *cosine = wg_bind_text(f, "\"libm.so.6\" \"double cos(double)\" as Cos with derivative -Sin(x)", &(wg_error){0});
    cr_assert_not_null(cosine);
    cr_assert_eq(wg__foreign_complete(f, 0, &(wg_error){0}), WG_OK);
    check(sine);
    check(cosine);
    wg_foreign_free(f);
}

Test(foreign, a_number_beside_arrays_belongs_to_its_row_in_derivatives_too) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "void scaled(long n, const double x[n], double s, double y[n])", .function = FUNCTION(scaled),
                                            .derivative = "s, x"});
    const wg_op *sum = bound(f, (wg_binding){.prototype = "double scaled_sum(long n, const double x[n], double s)", .function = FUNCTION(scaled_sum),
                                             .derivative = "s, l1(x)"});
    const wg_op *plain = bound(f, (wg_binding){.prototype = "double scaled_sum(long n, const double x[n], double s = 1)", .name = "plain",
                                               .function = FUNCTION(scaled_sum), .derivative = "1"});
    bound(f, (wg_binding){.prototype = "double scaled_sum(long n, const double x[n], double s = 1)", .name = "l1", .function = FUNCTION(scaled_sum),
                          .derivative = "1"});
    check(op);
    check(sum);
    check(plain);
    wg_var x = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 2}, (const double[]){1, 2, 3, 4}), s = vector(tape, 2, (const double[]){5, 6}), d[2];
    wg_var y = wg_sum_to(wg_call_op(op, 2, (const wg_var[]){x, s}), 0, NULL);
    cr_assert_eq(wg_grad(y, 2, (const wg_var[]){x, s}, d), WG_OK, "%s", wg_tape_message(tape));
    expect(d[0], 4, (const double[]){5, 5, 6, 6});
    expect(d[1], 2, (const double[]){3, 7});
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, a_derivative_may_call_a_function_of_numbers_and_hold_a_comment) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    wg_error error = {0};
    const wg_op *op = wg_bind_text(f, "\"libm.so.6\" \"double sinh(double)\" as Sh with derivative Ch(x)*Ch(0) # not a, b", &error);
    cr_assert_not_null(op, "%s", error.text);
    cr_assert_not_null(wg_bind_text(f, "\"libm.so.6\" \"double cosh(double)\" as Ch with derivative Sh(x)", &error), "%s", error.text);
    check(op);
    const wg_op *jn = bound(f, (wg_binding){.prototype = "double jn(int n, double x)", .library = "libm.so.6", .name = "Jn"});
    wg_var n = leaf_of(tape, WG_I32, 1, (const int64_t[]){2}, (const double[]){0, 1}), x = vector(tape, 2, (const double[]){0, 0});
    expect(wg_call_op(jn, 2, (const wg_var[]){n, x}), 2, (const double[]){1, 0});
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, derivatives_that_do_not_fit_say_so_when_they_are_wanted) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const char *text = "void split_sum(int m, int n, const double a[m][n], const double x[n], double y[m][n])";
    const wg_op *by_both = bound(f, (wg_binding){.prototype = text, .function = FUNCTION(split_sum), .derivative = "1, 1"});
    const wg_op *by_first = bound(f, (wg_binding){.prototype = "void thirds(int n, const double x[n], int k = 3, double y[k])",
                                                  .function = FUNCTION(thirds), .derivative = "1"});
    const wg_op *wrong = bound(f, (wg_binding){.prototype = "double norm2(int n, const double *x)", .function = FUNCTION(norm2), .derivative = "padded(x)"});
    const wg_op *arity = bound(f, (wg_binding){.prototype = "double twice_d(double)", .function = FUNCTION(twice_d), .derivative = "twice_d(x, x)"});
    const wg_op *number = bound(f, (wg_binding){.prototype = "double twice_d(double)", .function = FUNCTION(twice_d), .name = "number", .derivative = "sqrt(4)"});
    bound(f, (wg_binding){.prototype = "void thirds(int n, const double x[n], int k = 3, double y[k])", .function = FUNCTION(thirds), .name = "padded"});
    wg_var a = wg_full(tape, WG_F64, 3, (const int64_t[]){2, 2, 2}, 1), x = vector(tape, 2, (const double[]){1, 2}), d;
    const struct {
        wg_var y, by;
        wg_status status;
        const char *text;
    } cases[] = {
        {wg_call_op(by_both, 2, (const wg_var[]){a, x}), x, WG_DERIVATIVE, "split_sum: a derivative of elements is known, but x has not the result's axes"},
        {wg_call_op(by_first, 1, &x), x, WG_DERIVATIVE, "thirds: a derivative of elements is known, but x is not of the result's shape"},
        {wg_call_op(wrong, 1, &x), x, WG_DERIVATIVE, "norm2: its derivative by x is (3), not (2)"},
        {wg_call_op(arity, 1, &x), x, WG_ARGUMENT, "twice_d: its derivative calls twice_d with 2 operands"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wg_var loss = wg_sum_to(cases[i].y, 0, NULL), t = wg_like(cases[i].by, 1), out;
        cr_assert_eq(wg_grad(loss, 1, &cases[i].by, &d), cases[i].status);
        cr_assert_str_eq(wg_tape_message(tape), cases[i].text);
        wg_tape_clear(tape);
        cr_assert_eq(wg_jvp(1, &cases[i].by, &t, 1, &loss, &out), cases[i].status);
        cr_assert_str_eq(wg_tape_message(tape), cases[i].text);
        wg_tape_clear(tape);
    }
    check(number);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, a_vjp_writes_every_cotangent_once_and_of_its_operands_size) {
    const char *text = "void two(long n, const double x[n], const double w[n], double y[n])";
    refused((wg_binding){.prototype = text, .function = FUNCTION(two), .vjp = "void v(long n, const double gy[n], double gx[n])",
                         .vjp_function = FUNCTION(scan_vjp)},
            WG_ARGUMENT, "use: vjp writes no gw");
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *good = bound(f, (wg_binding){.prototype = text, .function = FUNCTION(two), .vjp_function = FUNCTION(two_vjp),
                                              .vjp = "void v(long n, const double gy[n], double gx[n], double gw[n])"});
    const wg_op *long_one = bound(f, (wg_binding){.prototype = text, .function = FUNCTION(two), .vjp_function = FUNCTION(two_vjp), .name = "long_one",
                                                  .vjp = "void v(long n, const double gy[n], double gx[n + 1], double gw[n])"});
    check(good);
    wg_var x = vector(tape, 2, (const double[]){1, 2}), d;
    cr_assert_eq(wg_grad(wg_sum_to(wg_call_op(long_one, 2, (const wg_var[]){x, x}), 0, NULL), 1, &x, &d), WG_SHAPE);
    cr_assert_str_eq(wg_tape_message(tape), "long_one.vjp: gx has 3 elements, x 2");
    wg_tape_free(tape);
    wg_foreign_free(f);
}

Test(foreign, a_pointer_without_brackets_in_a_vjp_is_a_number_where_its_operand_is_one) {
    wg_foreign *f = foreign();
    check(bound(f, (wg_binding){.prototype = "void scaled(long n, const double *x, double s, double *y)", .function = FUNCTION(scaled),
                                .vjp = "void v(long n, const double *x, double s, const double *gy, double *gx, double *gs)",
                                .vjp_function = FUNCTION(scaled_vjp)}));
    check(bound(f, (wg_binding){.prototype = "double scaled_sum(long n, const double *x, double s)", .function = FUNCTION(scaled_sum),
                                .vjp = "void v(long n, const double *x, double s, const double *gy, double *gx, double *gs)",
                                .vjp_function = FUNCTION(scaled_sum_vjp)}));
    wg_foreign_free(f);
}

Test(foreign, binding_again_with_anything_else_is_a_conflict) {
    wg_foreign *f = foreign();
    const wg_binding first = {.prototype = "double cube(double)", .function = FUNCTION(twice_d)};
    const wg_op *op = bound(f, first);
    cr_assert_eq(bound(f, first), op);
    wg_binding other[] = {first, first, first, first};
    other[0].serial = true, other[1].nan = true, other[2].function = FUNCTION(inverse), other[3].derivative = "2";
    for (int i = 0; i < 4; i++) {
        wg_error error = {0};
        cr_assert_null(wg_bind(f, &other[i], &error));
        cr_assert_str_eq(error.text, "use: there is an op cube already");
    }
    refused((wg_binding){.prototype = "double cube(double)", .function = FUNCTION(twice_d), .from = 2, .to = 1}, WG_RANGE, "use: from 2 to 1 is no range");
    wg_foreign_free(f);
}

/* ---- threads ---- */

static atomic_int inside, most_inside;

static double crowd(double x) {
    int now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);
    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now))
        continue;
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    atomic_fetch_sub(&inside, 1);
    return x;
}

Test(foreign, serial_functions_are_called_by_one_thread_at_a_time) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bound(f, (wg_binding){.prototype = "double crowd(double)", .function = FUNCTION(crowd), .serial = true});
    const wg_op *free_op = bound(f, (wg_binding){.prototype = "double crowd(double)", .function = FUNCTION(crowd), .name = "at_once"});
    double many[4096] = {0};
    wg_var x = vector(tape, 4096, many), y = wg_call_op(op, 1, &x), z = wg_call_op(free_op, 1, &x);
    wg_tensor *out = NULL;
    cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = 4}, 1, &y, &out, NULL), WG_OK);
    cr_assert_eq(atomic_load(&most_inside), 1);
    wg_tensor_free(out);
    cr_assert_eq(wg_eval_with(&(wg_run_options){.threads = 4}, 1, &z, &out, NULL), WG_OK);
    cr_assert_gt(atomic_load(&most_inside), 1, "the test could not have failed");
    wg_tensor_free(out);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

/* A serial function that calls back a plan, which calls a serial function too; and that plan called from outside at the same time. */
static double (*back)(double);
static double calls_back(double x) { return back(x); }

static void *call_back_often(void *user) {
    double *sum = user;
    for (int k = 0; k < 300; k++)
        *sum += back(k);
    return NULL;
}

Test(foreign, serial_functions_that_call_back_wait_for_nobody_who_waits_for_them) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_error error = {0};
    const wg_op *inner = bound(f, (wg_binding){.prototype = "double twice_d(double)", .function = FUNCTION(twice_d), .serial = true});
    const wg_op *outer = bound(f, (wg_binding){.prototype = "double calls_back(double)", .function = FUNCTION(calls_back), .serial = true});
    wg_var x = wg_leaf(tape, leaf), doubled = wg_call_op(inner, 1, &x), y = wg_call_op(outer, 1, &x);
    wg_plan *plan = wg_compile(1, &doubled, NULL, &error);
    wg_function *function = wg_plan_function(plan, "double g(double x: point): value",
                                             &(wg_function_options){.n = 1, .leaf = &leaf, .most = 1, .run.threads = 3}, &error);
    cr_assert_not_null(function, "%s", error.text);
    back = (double (*)(double))wg_function_pointer(function);
    pthread_t thread;
    double sum = 0;
    pthread_create(&thread, NULL, call_back_often, &sum);
    for (int k = 0; k < 300; k++) {
        wg_tensor_set(leaf, 0, k);
        cr_assert_eq(taped_number(y), 2.0 * k);
    }
    pthread_join(thread, NULL);
    cr_assert_eq(sum, 300 * 299);
    cr_assert_eq(wg_function_free(function), WG_OK);
    wg_plan_free(plan);
    wg_tensor_free(leaf);
    wg_tape_free(tape);
    wg_foreign_free(f);
}

/* ---- what is refused ---- */

Test(foreign, what_cannot_be_bound_says_why) {
    refused((wg_binding){.library = "libm.so.6"}, WG_ARGUMENT, "use: there is no prototype");
    refused((wg_binding){.prototype = "double no_such_function_here(double)", .library = "libm.so.6", .name = "f"}, WG_NOT_FOUND,
            "use: /lib/x86_64-linux-gnu/libm.so.6: undefined symbol: no_such_function_here");
    refused((wg_binding){.prototype = "double f(double)", .library = "libno_such_library.so.1"}, WG_NOT_FOUND,
            "use: libno_such_library.so.1: cannot open shared object file: No such file or directory");
    refused((wg_binding){.prototype = "double sin(double)", .library = "libm.so.6"}, WG_CONFLICT, "use: there is an op sin already");
    refused((wg_binding){.prototype = "double sin(double)", .library = "libm.so.6", .name = "2x"}, WG_ARGUMENT, "use: '2x' is not a name");
    refused((wg_binding){.prototype = "double sin(double)", .library = "libm.so.6", .name = ""}, WG_ARGUMENT, "use: '' is not a name");
    refused((wg_binding){.prototype = "double sin(double)", .library = "libm.so.6", .name = "a-b"}, WG_ARGUMENT, "use: 'a-b' is not a name");
    refused((wg_binding){.prototype = "double (*)(double)", .library = "libm.so.6"}, WG_ARGUMENT,
            "use: 'double (*)(double)' has no name, and none is given");
    refused((wg_binding){.prototype = "double (*)(double)", .library = "libm.so.6", .name = "f"}, WG_ARGUMENT,
            "use: 'double (*)(double)' has no name to look for");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .after = "no_such_start"}, WG_NOT_FOUND,
            "use: /lib/x86_64-linux-gnu/libm.so.6: undefined symbol: no_such_start");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "1", .vjp = "double g(double gy)"},
            WG_ARGUMENT, "use: a derivative or a vjp, not both");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "1, 2"}, WG_ARGUMENT,
            "use: 2 derivatives for the 1 float operand of f");
    refused((wg_binding){.prototype = "double atan2(double, double)", .library = "libm.so.6", .name = "f", .derivative = "x"}, WG_ARGUMENT,
            "use: 1 derivative for the 2 float operands of f");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "t"}, WG_NOT_FOUND,
            "derivative:1:1: t is no operand of f\n    t\n    ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "2*x'"}, WG_UNSUPPORTED,
            "derivative:1:4: ''' has no meaning in a derivative\n    2*x'\n       ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "sin(x, x)"}, WG_ARGUMENT,
            "derivative:1:1: sin is no pointwise op of 2 operands\n    sin(x, x)\n    ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "softmax(x)"}, WG_ARGUMENT,
            "derivative:1:1: softmax is no pointwise op of 1 operand\n    softmax(x)\n    ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "(x"}, WG_SYNTAX,
            "derivative:1:1: this '(' is never closed\n    (x\n    ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "double g(doble)"}, WG_SYNTAX,
            "prototype:1:10: there is no type 'doble': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose "
            "fields are written out\n    double g(doble)\n             ^");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .derivative = "double atan2(double, double)"},
            WG_ARGUMENT, "use: the derivative 'double atan2(double, double)' does not take what f takes");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .vjp = "double sin(double z)"}, WG_ARGUMENT,
            "use: vjp reads z, which is no operand of f, nor gy or y");
    refused((wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "f", .vjp = "double nothing_of_that(double gy)"},
            WG_NOT_FOUND, "use: /lib/x86_64-linux-gnu/libm.so.6: undefined symbol: nothing_of_that");
}

/* The first line of what refused a prototype. */
static void unfit(const char *prototype, wg_status status, const char *line) {
    wg_foreign *f = foreign();
    wg_error error = {0};
    cr_assert_null(wg_bind(f, &(wg_binding){.prototype = prototype, .function = FUNCTION(twice_d)}, &error), "%s", prototype);
    error.text[strcspn(error.text, "\n")] = 0;
    cr_assert_str_eq(error.text, line);
    cr_assert_eq(error.status, status, "%s", error.text);
    wg_foreign_free(f);
}

Test(foreign, prototypes_that_are_no_op_say_why) {
    unfit("void f(double)", WG_ARGUMENT, "prototype:1:1: it neither returns nor writes anything: what it may write to is not const");
    unfit("double f(double x: user)", WG_SYNTAX, "prototype:1:10: roles are for plans as functions, but for `user` of a pointer");
    unfit("double f(double *x: point)", WG_SYNTAX, "prototype:1:10: roles are for plans as functions, but for `user` of a pointer");
    unfit("double f(void)", WG_ARGUMENT, "prototype:1:1: it has no operand");
    unfit("double *f(double)", WG_UNSUPPORTED, "prototype:1:1: a pointer that is returned is no result");
    unfit("double f(double x, double *y)", WG_UNSUPPORTED, "prototype:1:1: an op has one result: this returns a value and writes an array");
    unfit("void f(double x, double *y, double *z)", WG_UNSUPPORTED, "prototype:1:29: an op has one result: this writes a second array");
    unfit("double f(void *p)", WG_UNSUPPORTED, "prototype:1:10: an array of 'void' is no operand: of float, double and int are, or a pointer with '= NULL'");
    unfit("double f(const char *p)", WG_UNSUPPORTED,
          "prototype:1:10: an array of 'const char' is no operand: of float, double and int are, or a pointer with '= NULL'");
    unfit("double f(const double **p)", WG_UNSUPPORTED, "prototype:1:10: an array of 'const double *' is no operand");
    unfit("double f(int n, int m, const double *x)", WG_ARGUMENT, "prototype:1:24: which integer is its length? write it in brackets behind the name");
    unfit("double f(int n, const double x[k])", WG_NOT_FOUND, "prototype:1:17: the length k is no integer among the parameters");
    unfit("double f(double n, const double x[n])", WG_NOT_FOUND, "prototype:1:20: the length n is no integer among the parameters");
    unfit("double f(int n, const double x[])", WG_ARGUMENT, "prototype:1:17: brackets say a length here: [n]");
    unfit("void f(int n, double x, double y[n])", WG_ARGUMENT, "prototype:1:8: no operand says how large this is: give it a value");
    unfit("double f(double, double x)", WG_ARGUMENT, "prototype:1:10: this parameter needs a name");
    unfit("double f(struct {double *p;} s)", WG_UNSUPPORTED, "prototype:1:10: a struct with pointers in it is no operand");
    unfit("double f(const struct {double a; float b;} *s)", WG_UNSUPPORTED,
          "prototype:1:10: the numbers of a struct behind a pointer must be of one type");
    unfit("double f(int a, const struct {double a;} s[a][a][a][a][a][a][a][a])", WG_RANGE, "prototype:1:17: more than 8 axes");
    unfit("double f(double a, double b, double c, double d, double e, double f, double g, double h, double i, double j, double k, double l, "
          "double m, double n, double o, double p, double q)",
          WG_RANGE, "prototype:1:170: more than 16 operands or results");
    unfit("double f(double, double, double, double, double, double, double)", WG_ARGUMENT, "prototype:1:58: this parameter needs a name");
    unfit("double f(struct {struct {char c; double d;} a[128];} x, struct {struct {char c; double d;} a[128];} y, struct {struct {char c; double d;} "
          "a[128];} z, struct {struct {char c; double d;} a[128];} u, struct {struct {char c; double d;} a[128];} v, struct {struct {char c; double "
          "d;} a[128];} w, struct {struct {char c; double d;} a[128];} s, struct {struct {char c; double d;} a[128];} t, struct {char c;} q)",
          WG_RANGE, "prototype:1:1: its structs are larger than 16384 bytes together");
}

/* What recording says of operands that do not fit. */
static void misfit(wg_var y, wg_status status, const char *text) {
    wg_tape *tape = y.tape;
    cr_assert(!wg_valid(y));
    cr_assert_str_eq(wg_tape_message(tape), text);
    cr_assert_eq(wg_tape_status(tape), status);
    wg_tape_clear(tape);
}

Test(foreign, operands_that_do_not_fit_say_why) {
    wg_foreign *f = foreign();
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *op = bind_affine(f), *sums = bound(f, (wg_binding){.prototype = "void scan(int8_t n, const double *x, double *y)", .function = FUNCTION(scan)});
    const wg_op *wide = bound(f, (wg_binding){.prototype = "void widen(int n, const int x[n], double y[n - 3])", .function = FUNCTION(widen)});
    wg_var a = leaf_of(tape, WG_F64, 2, (const int64_t[]){2, 3}, (const double[]){1, 2, 3, 4, 5, 6}), x = vector(tape, 2, (const double[]){1, 2});
    wg_var whole = leaf_of(tape, WG_I32, 1, (const int64_t[]){3}, (const double[]){1, 2, 3}), rows = wg_full(tape, WG_F64, 3, (const int64_t[]){4, 2, 3}, 1);
    wg_var two = wg_full(tape, WG_F64, 2, (const int64_t[]){3, 3}, 1), long_one = wg_full(tape, WG_F64, 1, (const int64_t[]){200}, 1);
    wg_var number = wg_full(tape, WG_F64, 0, NULL, 1), eight = wg_full(tape, WG_F64, 8, (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 3}, 1);
    misfit(wg_call_op(op, 3, (const wg_var[]){a, wg_c(1), x}), WG_SHAPE, "affine: x is (2), the function takes (3)");
    misfit(wg_call_op(op, 3, (const wg_var[]){a, wg_c(1), whole}), WG_DTYPE, "affine: x is i32, 'const double *' takes f64");
    misfit(wg_call_op(op, 3, (const wg_var[]){x, wg_c(1), x}), WG_SHAPE, "affine: a is (2), the function takes 2 axes");
    misfit(wg_call_op(op, 3, (const wg_var[]){rows, wg_c(1), two}), WG_SHAPE, "affine: the rows of x are (3), those before (4)");
    misfit(wg_call_op(op, 3, (const wg_var[]){a, wg_c(1), wg_c(1)}), WG_ARGUMENT, "affine: x is an array, not a number");
    misfit(wg_call_op(op, 3, (const wg_var[]){a, wg_c(1), (wg_var){0}}), WG_ARGUMENT, "affine: operand 3 is not a valid var");
    misfit(wg_call_op(op, 2, (const wg_var[]){a, x}), WG_ARGUMENT, "affine: takes 3 operands, was given 2");
    misfit(wg_apply(op, 3, (const wg_var[]){rows, number, two}, NULL), WG_SHAPE, "affine: a is (4,2,3) and scale is (): they have not the same rows");
    misfit(wg_call_op(sums, 1, &long_one), WG_RANGE, "scan: n is 200: more than its type holds");
    misfit(wg_call_op(wide, 1, (const wg_var[]){leaf_of(tape, WG_I32, 1, (const int64_t[]){2}, (const double[]){1, 2})}), WG_RANGE,
           "widen: a length of the result is negative or too large");
    const wg_op *huge = bound(f, (wg_binding){.prototype = "void widen(int n, const int x[n], double y[n*9007199254740992*9007199254740992])", .function = FUNCTION(widen),
                                              .name = "huge"});
    const wg_op *fixed = bound(f, (wg_binding){.prototype = "void widen(uint64_t k = 10000000000000000000, int n = 1, const int x[n - 3], double y[n])",
                                               .function = FUNCTION(widen), .name = "fixed"});
    misfit(wg_call_op(huge, 1, &whole), WG_RANGE, "huge: a length of the result is negative or too large");
    misfit(wg_call_op(fixed, 1, &whole), WG_RANGE, "fixed: a length of x is negative or too large");
    misfit(wg_call_op(sums, 1, &number), WG_SHAPE, "scan: x is (), the function takes 1 axes");
    misfit(wg_call_op(op, 3, (const wg_var[]){eight, wg_c(1), x}), WG_SHAPE, "affine: x is (1,1,1,1,1,1,2), the function takes (3)");
    wg_tape_free(tape);
    wg_foreign_free(f);
}

/* ---- memory ---- */

static wg_status bind_and_record(wg_memory *memory) {
    wg_foreign *f = wg_foreign_new(memory, NULL);
    wg_tape *tape = wg_tape_new(memory);
    wg_error error = {0};
    if (!f || !tape) {
        wg_foreign_free(f);
        wg_tape_free(tape);
        return WG_MEMORY;
    }
    const wg_op *j0 = wg_bind_text(f, "\"libm.so.6\" \"double j0(double)\" as J0 with derivative -J1(x) after \"tzset\"", &error);
    const wg_op *j1 = j0 ? wg_bind(f, &(wg_binding){.prototype = "double j1(double)", .library = "libm.so.6", .name = "J1",
                                                    .derivative = "double jn_slope(double)", .derivative_function = FUNCTION(twice_d)}, &error) : NULL;
    const wg_op *sums = j1 ? wg_bind(f, &(wg_binding){.prototype = "void scan(long n, const double *x, double *y)", .function = FUNCTION(scan),
                                                      .vjp = "void scan_vjp(long n, const double *gy, double *gx)", .vjp_function = FUNCTION(scan_vjp)}, &error)
                           : NULL;
    const wg_op *pair = sums ? wg_bind(f, &(wg_binding){.prototype = "struct {double re, im;} times(struct {double re, im;} a, struct {double re, im;} b)",
                                                        .function = FUNCTION(times)}, &error) : NULL;
    wg_status status = pair ? WG_OK : error.status;
    cr_assert(pair || status == WG_MEMORY, "%s", error.text);
    wg_tensor *t = pair ? wg_tensor_new(memory, WG_F64, 1, (const int64_t[]){2}) : NULL, *out[2] = {0};
    if (t) {
        wg_var x = wg_leaf(tape, t), d, y = wg_sum_to(wg_call_op(sums, 1, (const wg_var[]){wg_call_op(j0, 1, &x)}), 0, NULL);
        status = wg_grad(y, 1, &x, &d);
        if (status == WG_OK)
            status = wg_eval(2, (const wg_var[]){d, wg_call_op(pair, 2, (const wg_var[]){x, d})}, out, &error);
    } else if (pair) {
        status = WG_MEMORY;
    }
    wg_tensor_free(out[0]), wg_tensor_free(out[1]), wg_tensor_free(t);
    wg_tape_free(tape);
    wg_foreign_free(f);
    return status;
}

Test(foreign, running_out_of_memory_is_survived_wherever_it_happens) {
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_status status = bind_and_record(memory);
        reached = failing_failed(&f);
        /* A view without memory for its strides is copied instead, and all is well. */
        cr_assert(status == WG_OK || (reached && status == WG_MEMORY), "allocation %ld: %s", k, wg_status_name(status));
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        wg_memory_free(memory);
        cr_assert_lt(k, 10000);
    }
}
