/* notation.h: the short names record what the long ones do, take numbers on either side, and leave ordinary numeric code as
 * it was. */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "wengert.h"

/* Before the header: what the C library says. */
static double library_values(double x, double y) {
    return exp(x) + expm1(x) + log(x) + log1p(x) + sqrt(x) + sin(x) + cos(x) + tanh(x) + erf(x) + floor(x) + abs(-3) +
           pow(x, y) + atan2(x, y) + hypot(x, y);
}

#include "wengert/notation.h"

static double with_notation(double x, double y) {
    return exp(x) + expm1(x) + log(x) + log1p(x) + sqrt(x) + sin(x) + cos(x) + tanh(x) + erf(x) + floor(x) + abs(-3) +
           pow(x, y) + atan2(x, y) + hypot(x, y);
}

static double value_of(wg_var y) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    wg_eval(1, &y, &out, &error);
    cr_assert_not_null(out, "%s", error.text);
    double value = wg_tensor_get(out, 0);
    wg_tensor_free(out);
    return value;
}

static wg_tensor *scalar(double value) {
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_tensor_set(t, 0, value);
    return t;
}

Test(notation, ordinary_numeric_code_means_what_it_meant) {
    cr_assert_eq(library_values(0.75, 1.5), with_notation(0.75, 1.5));
    cr_assert_eq(exp(log(exp(log(2.)))), (exp)((log)((exp)((log)(2.)))), "names nest");
    float f = 2;
    int i = 3;
    cr_assert_eq(pow(f, i), 8);
    cr_assert_eq(abs(i - 5), 2);
    cr_assert_eq(floor(f / i), 0);
    double (*function)(double) = tanh;
    cr_assert_eq(function(0), 0);
    cr_assert_eq(sizeof exp(1.0), sizeof(double));
    cr_assert_eq(sizeof abs(1), sizeof(int));
}

Test(notation, numbers_stand_on_either_side) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = scalar(3);
    wg_var x = wg_leaf(tape, t);
    cr_assert_eq(value_of(sub(1, x)), -2);
    cr_assert_eq(value_of(sub(x, 1)), 2);
    cr_assert_eq(value_of(sub(x, 0.5f)), 2.5);
    cr_assert_eq(value_of(div(6L, x)), 2);
    cr_assert_eq(value_of(add(x, (short)2)), 5);
    cr_assert_eq(value_of(mul(x, (unsigned char)2)), 6);
    cr_assert_eq(value_of(max(x, 7ULL)), 7);
    cr_assert_eq(value_of(min((bool)1, x)), 1);
    cr_assert_eq(value_of(clamp(x, -1, 2.5)), 2.5);
    cr_assert_eq(value_of(where(greater(x, 2), 10, x)), 10);
    cr_assert_eq(value_of(where(greater(x, 4), 10, x)), 3);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(notation, names_of_the_c_library_record_for_vars) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = scalar(0.75), *u = scalar(1.5);
    wg_var x = wg_leaf(tape, t), y = wg_leaf(tape, u);
    const wg_var sum = add(add(add(add(exp(x), expm1(x)), add(log(x), log1p(x))), add(add(sqrt(x), sin(x)), add(cos(x), tanh(x)))),
                           add(add(add(erf(x), floor(x)), abs(-3)), add(pow(x, y), add(atan2(x, y), hypot(x, y)))));
    cr_assert_float_eq(value_of(sum), library_values(0.75, 1.5), 1e-13);
    cr_assert_float_eq(value_of(pow(x, 2)), 0.5625, 1e-15);
    cr_assert_float_eq(value_of(pow(2, x)), (pow)(2, 0.75), 1e-15);
    cr_assert_float_eq(value_of(atan2(1, x)), (atan2)(1, 0.75), 1e-15);
    cr_assert_float_eq(value_of(atan2(x, 1.0f)), (atan2)(0.75, 1), 1e-15);
    cr_assert_float_eq(value_of(hypot(3, mul(4, div(x, x)))), 5, 1e-14);
    cr_assert_float_eq(value_of(abs(sub(0, x))), 0.75, 0);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(u);
}

Test(notation, short_names_record_the_same_nodes_as_long_ones) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){2, 3});
    wg_var x = wg_leaf(tape, t);
    int64_t before = wg_tape_count(tape);
    wg_var y = mul(x, tanh(transpose(reshape(x, 2, ((const int64_t[]){3, 2})))));
    int64_t between = wg_tape_count(tape);
    wg_var z = wg_mul(x, wg_tanh(wg_transpose(wg_reshape(x, 2, (const int64_t[]){3, 2}))));
    cr_assert(wg_valid(y) && wg_valid(z));
    cr_assert_eq(wg_tape_count(tape) - between, between - before, "an operand is recorded once");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

/* Operands are written out by the macros, but evaluated once. */
Test(notation, operands_are_evaluated_once) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = scalar(2);
    wg_var x[] = {wg_leaf(tape, t), wg_leaf(tape, t), wg_leaf(tape, t)};
    int i = 0, j = 0;
    double numbers[] = {5, 6, 7};
    cr_assert_eq(value_of(add(x[i++], numbers[j++])), 7);
    cr_assert_eq(value_of(pow(x[i++], numbers[j++])), 64);
    cr_assert_eq(value_of(tanh(x[i++])), tanh(2.));
    cr_assert_eq(i, 3);
    cr_assert_eq(j, 2);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(notation, an_op_of_numbers_alone_is_an_invalid_var) {
    cr_assert(!wg_valid(add(1, 2)));
    cr_assert(!wg_valid(max(1, 2)));
}
