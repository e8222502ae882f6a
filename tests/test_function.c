/* Plans as C functions: every role and type, what is refused, the floating-point mode; results against wg_eval. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "called.h"

/* ---- what optimisers call ---- */

Test(function, value_and_gradient_are_those_of_evaluation_wherever_the_arrays_lie) {
    static const int64_t sizes[] = {2, 5, 8, 300, 20000};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        int64_t n = sizes[k];
        subject s = valley(WG_F64, n);
        objective *f = (objective *)FUNCTION(&s, OBJECTIVE);
        void *block[4];
        double *x[2] = {odd_doubles(n, &block[0]), odd_doubles(n, &block[1])};
        double *g[2] = {odd_doubles(n, &block[2]), odd_doubles(n, &block[3])};
        for (int round = 0; round < 6; round++) {
            double *at = x[round % 2], *gradient = round == 2 ? NULL : g[round / 2 % 2];
            draw(at, n, 100 + (uint64_t)round);
            memset(g[0], 0, (size_t)n * 8);
            memset(g[1], 0, (size_t)n * 8);
            double value = f((unsigned)n, at, gradient, &s);
            CALLED(&s);
            cr_assert(is_value(&s, 0, at, &value), "%lld elements, round %d", (long long)n, round);
            cr_assert(!gradient || is_value(&s, 1, at, gradient), "%lld elements, round %d", (long long)n, round);
            for (int j = 0; j < 2; j++)
                cr_assert(g[j] == gradient || (g[j][0] == 0 && g[j][n - 1] == 0), "an array of an earlier call is written");
        }
        for (int j = 0; j < 4; j++)
            free(block[j]);
        end(&s);
    }
}

Test(function, calls_leave_the_leaves_and_the_plans_own_run_alone) {
    enum { N = 500 };
    subject s = valley(WG_F64, N);
    objective *f = (objective *)FUNCTION(&s, OBJECTIVE);
    double x[N], g[N];
    draw(x, N, 5);
    cr_assert_eq(wg_run(s.plan, NULL), WG_OK);
    wg_tensor *leaf = wg_tensor_copy(NULL, s.leaf[0]), *gradient = wg_tensor_copy(NULL, wg_plan_output(s.plan, 1));
    f(N, x, g, NULL);
    cr_assert(same_bits(wg_tensor_data(s.leaf[0]), leaf));
    cr_assert(same_bits(wg_tensor_data(wg_plan_output(s.plan, 1)), gradient));
    cr_assert_not(same_bits(g, gradient));
    cr_assert_eq(wg_run(s.plan, NULL), WG_OK);
    cr_assert(same_bits(wg_tensor_data(wg_plan_output(s.plan, 1)), gradient));
    wg_tensor_free(leaf);
    wg_tensor_free(gradient);
    end(&s);
}

Test(function, array_may_be_read_and_written_in_one_place) {
    enum { N = 200 };
    subject s = valley(WG_F64, N);
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *x: point, double *g: gradient)");
    for (int shift = 0; shift < 3; shift++) {
        double x[N], room[N + 2];
        draw(x, N, 7);
        memcpy(room, x, sizeof x);
        f(room, room + shift);
        CALLED(&s);
        cr_expect(is_value(&s, 1, x, room + shift), "%d elements further on", shift);
    }
    end(&s);
}

Test(function, two_outputs_may_be_asked_for_in_one_place) {
    enum { N = 100 };
    subject s = begin();
    s.y[1] = mul(row(&s, WG_F64, N), 3), s.y[0] = exp(s.y[1]), s.outputs = 2; /* the later parameter's is made first */
    void (*f)(const double *, double *, double *) = (__typeof__(f))FUNCTION(
        &s, "void (*)(const double *: point, double *: out 0, double *: out 1)");
    double at[N], a[N];
    draw(at, N, 3);
    f(at, a, a);
    CALLED(&s);
    cr_assert(is_value(&s, 1, at, a), "the later parameter's stays");
    end(&s);
}

Test(function, not_a_number_and_infinity_pass_through) {
    subject s = valley(WG_F64, 3);
    objective *f = (objective *)FUNCTION(&s, OBJECTIVE);
    double x[3] = {NAN, 1, 2}, g[3];
    cr_expect(isnan(f(3, x, g, NULL)) && isnan(g[0]) && isnan(g[1]) && g[2] == 2 * (2 - 1) + 2 * (2 - 1), "%g", g[2]);
    CALLED(&s);
    x[0] = INFINITY;
    cr_expect_eq(f(3, x, g, NULL), INFINITY);
    CALLED(&s);
    end(&s);
}

/* ---- types ---- */

/* y = 3 x by numbers of each type, which hold it exactly. */
#define NUMBER_TYPE(type, text, value)                                                                                               \
    for (int dtype = WG_F32; dtype <= WG_I32; dtype++) {                                                                             \
        subject s = begin();                                                                                                         \
        s.y[0] = mul(leaf(&s, (wg_dtype)dtype, 0, NULL), 3), s.outputs = 1;                                                          \
        type (*f)(type) = (__typeof__(f))FUNCTION(&s, text " (*)(" text " x: point): value");                                        \
        type got = f((type)(value));                                                                                                 \
        CALLED(&s);                                                                                                                  \
        cr_expect_eq(got, (type)(3 * (value)), "%s: %g", text, (double)got);                                                         \
        end(&s);                                                                                                                     \
    }

Test(function, numbers_of_every_c_type_are_converted) {
    NUMBER_TYPE(float, "float", -1e6)
    NUMBER_TYPE(double, "double", 12345)
    NUMBER_TYPE(signed char, "signed char", -42)
    NUMBER_TYPE(unsigned char, "unsigned char", 85)
    NUMBER_TYPE(short, "short", -10000)
    NUMBER_TYPE(unsigned short, "unsigned short", 20000)
    NUMBER_TYPE(int, "int", -5000000)
    NUMBER_TYPE(unsigned, "unsigned int", 5000000)
    NUMBER_TYPE(long, "long", -5000000)
    NUMBER_TYPE(unsigned long, "unsigned long", 5000000)
    NUMBER_TYPE(long long, "long long", -5000000)
    NUMBER_TYPE(size_t, "size_t", 5000000)
    NUMBER_TYPE(int8_t, "int8_t", -42)
    NUMBER_TYPE(uint64_t, "uint64_t", 5000000)
}

/* Not every libffi widens what it is given, and no caller in C can tell: what is handed to it. */
Test(function, small_integers_are_handed_over_as_whole_registers) {
    static const struct {
        const char *type;
        double value;
        int64_t whole;
    } cases[] = {
        {"int8_t", -42, -42}, {"int16_t", -300, -300},  {"int32_t", -70000, -70000},     {"uint8_t", 200, 200}, {"uint16_t", 60000, 60000},
        {"bool", 1, 1},       {"char", -1, -1},         {"uint32_t", 4e9, 4000000000},   {"int64_t", -5, -5},   {"int8_t", 500, -1},
        {"bool", 7, 1},       {"uint16_t", -1, 0xffff}, {"uint32_t", NAN, 0xffffffff},
    };
    for (int k = 0; k < WG_LEN(cases); k++) {
        char text[64];
        subject s = begin();
        s.y[0] = scalar(&s), s.outputs = 1;
        snprintf(text, sizeof text, "%s (*)(double x: point): value", cases[k].type);
        FUNCTION(&s, text, .most = 1);
        double x = cases[k].value;
        void *arguments[] = {&x};
        ffi_arg word = (ffi_arg)0x5555555555555555;
        wg__function_called(&s.f->cif, &word, arguments, s.f);
        cr_expect_eq((int64_t)word, cases[k].whole, "%s: %llx", cases[k].type, (unsigned long long)word);
        snprintf(text, sizeof text, "%s (*)(double x: user): status", cases[k].type);
        FUNCTION(&s, text, .most = 1);
        word = (ffi_arg)0x5555555555555555;
        wg__function_called(&s.f->cif, &word, arguments, s.f);
        cr_expect_eq((int64_t)word, 0, "%s: %llx", cases[k].type, (unsigned long long)word);
        end(&s);
    }
}

Test(function, numbers_too_large_for_their_type_fail_the_call) {
    subject s = begin();
    s.y[0] = mul(scalar(&s), 2), s.outputs = 1;
    signed char (*narrow)(double) = (__typeof__(narrow))FUNCTION(&s, "signed char (*)(double x: point): value");
    cr_expect_eq(narrow(-20), -40);
    CALLED(&s);
    cr_expect_eq(narrow(64), -1);
    failed_with(&s, WG_RANGE, "the result");
    cr_expect_eq(narrow(0.25), -1);
    failed_with(&s, WG_RANGE, "0.5");
    unsigned short (*natural)(double) = (__typeof__(natural))FUNCTION(&s, "unsigned short (*)(double x: point): value");
    cr_expect_eq(natural(3), 6);
    cr_expect_eq(natural(-1), 65535);
    failed_with(&s, WG_RANGE, "-2");
    cr_expect_eq(natural(NAN), 65535);
    failed_with(&s, WG_RANGE, "nan");
    end(&s);
    s = begin();
    s.y[0] = leaf(&s, WG_I32, 0, NULL), s.outputs = 1;
    double (*whole)(double) = (__typeof__(whole))FUNCTION(&s, "double (*)(double x: point): value");
    cr_expect_eq(whole(-7), -7);
    CALLED(&s);
    cr_expect(isnan(whole(1.5)));
    failed_with(&s, WG_RANGE, "x: 1.5 is no i32");
    cr_expect(isnan(whole(3e9)));
    failed_with(&s, WG_RANGE, "no i32");
    end(&s);
}

Test(function, arrays_of_float_and_int_are_taken_as_they_are) {
    enum { N = 60 };
    subject s = begin();
    wg_var x = row(&s, WG_F32, N), i = row(&s, WG_I32, N);
    s.y[0] = mul(x, exp(x)), s.y[1] = add(mul(i, i), 1), s.outputs = 2;
    int (*f)(const float *, const int *, float *, int *) = (__typeof__(f))FUNCTION(
        &s, "int f(const float x[]: in 0, const int *i: in 1, float *y: out 0, int32_t *j: out 1): status");
    float a[N], b[N];
    int p[N], q[N];
    for (int k = 0; k < N; k++)
        a[k] = (float)k / 7, p[k] = 3 * k - 50;
    cr_assert_eq(f(a, p, b, q), 0);
    CALLED(&s);
    cr_assert(is_value(&s, 0, a, b));
    for (int k = 0; k < N; k++)
        cr_assert_eq(q[k], p[k] * p[k] + 1);
    end(&s);
}

typedef struct complex_number {
    double dat[2];
} complex_number;

/* z^2 of (re, im). */
Test(function, structs_go_by_value_both_ways) {
    subject s = begin();
    wg_var z = row(&s, WG_F64, 2), re = slice(z, 0, 0, 1), im = slice(z, 0, 1, 1);
    wg_var part[2] = {sub(square(re), square(im)), mul(2, mul(re, im))};
    s.y[0] = concat(2, part, 0), s.outputs = 1;
    complex_number (*f)(complex_number) = (__typeof__(f))FUNCTION(
        &s, "struct {double dat[2]: value;} (*)(struct {double dat[2]: point;} z)");
    complex_number w = f((complex_number){{1, 2}});
    CALLED(&s);
    cr_assert(w.dat[0] == -3 && w.dat[1] == 4);
    end(&s);
    s = begin();
    wg_var a = scalar(&s), b = scalar(&s);
    s.y[0] = add(a, b), s.y[1] = mul(a, b), s.outputs = 2;
    typedef struct { char tag; float a; long b; } two;
    typedef struct { int sum; double product; } result;
    result (*g)(two) = (__typeof__(g))FUNCTION(
        &s, "struct {int sum: value; double product: out 1;} (*)(struct {char tag; float a: in 0; long b: in 1;} x)");
    result got = g((two){'t', 2.5f, 4});
    cr_assert(isnan(got.product));
    cr_assert_eq(got.sum, -1);
    failed_with(&s, WG_RANGE, "the result.sum");
    got = g((two){'t', 3, 4});
    CALLED(&s);
    cr_assert(got.product == 12 && got.sum == 7);
    end(&s);
}

typedef struct vector {
    size_t size, stride;
    double *data;
    void *block;
    int owner;
} vector;
/* As gsl_multimin's fdf. */
Test(function, structs_behind_pointers_are_looked_into) {
    enum { N = 40 };
    subject s = valley(WG_F64, N);
    void (*f)(const vector *, void *, double *, vector *) = (__typeof__(f))FUNCTION(
        &s, "void (*)(const " VECTOR " *x, void *params, double *f: value, " VECTOR_OUT " *g)");
    double at[N], g[2 * N], value;
    draw(at, N, 11);
    vector x = {N, 1, at, NULL, 0}, y = {N, 1, g, NULL, 0};
    f(&x, NULL, &value, &y);
    CALLED(&s);
    cr_assert(is_value(&s, 0, at, &value) && is_value(&s, 1, at, g));
    x.size = N - 1;
    f(&x, NULL, &value, &y);
    failed_with(&s, WG_SHAPE, "x.size: 39 elements, where leaf 0 has 40");
    x.size = N, x.stride = 2;
    f(&x, NULL, &value, &y);
    cr_assert(isnan(value) && isnan(g[0]) && isnan(g[N - 1]));
    failed_with(&s, WG_ARGUMENT, "x.stride: a stride of 2, not 1");
    x.stride = 1, x.data = NULL;
    f(&x, NULL, &value, &y);
    failed_with(&s, WG_ARGUMENT, "x.data: a pointer is NULL");
    f(NULL, NULL, &value, &y);
    failed_with(&s, WG_ARGUMENT, "x.size: a pointer is NULL");
    x.data = at, y.size = 7;
    memset(g, 0, sizeof g);
    f(&x, NULL, &value, &y);
    failed_with(&s, WG_SHAPE, "g.size: 7 elements, where output 1 has 40");
    cr_assert(isnan(g[6]) && g[7] == 0, "a failed call writes no further than the array is said to go");
    y.size = N, y.stride = 2;
    memset(g, 0, sizeof g);
    f(&x, NULL, &value, &y);
    failed_with(&s, WG_ARGUMENT, "g.stride: a stride of 2, not 1");
    cr_assert(isnan(g[0]) && g[1] == 0 && isnan(g[2]) && isnan(g[2 * N - 2]) && g[2 * N - 1] == 0, "nor in between");
    y.stride = 1, y.data = NULL;
    f(&x, NULL, &value, &y);
    CALLED(&s);
    f(&x, NULL, NULL, &y);
    CALLED(&s);
    end(&s);
}

/* Fortran gives all by pointers. */
Test(function, sizes_and_numbers_may_lie_behind_pointers) {
    subject s = valley(WG_F64, 3);
    void (*f)(const int *, const double *, double *) = (__typeof__(f))FUNCTION(
        &s, "void (*)(const int *n: size 0, const double *x: in 0, double *f: out 0)");
    double x[3] = {1, 2, 3}, value = 0;
    int n = 3;
    f(&n, x, &value);
    CALLED(&s);
    cr_assert_eq(value, 1 + 1 + 0 + 1 + 4);
    n = 2;
    f(&n, x, &value);
    cr_assert(isnan(value));
    failed_with(&s, WG_SHAPE, "n: 2 elements");
    end(&s);
}

/* ---- prototypes that do not fit ---- */

typedef struct refusal {
    const char *prototype;
    wg_status status;
    const char *line; /* the message's first, behind the text's name */
} refusal;

static const refusal refusals[] = {
    {"double (*)(const double *x: place): value", WG_SYNTAX,
     "1:12: there is no role 'place': point, in K, value, gradient, out K, size, size K, count, count K, stride, user, status"},
    {"double (*)(const double *x: in): value", WG_SYNTAX, "1:12: the role 'in' wants a number: 'in 0'"},
    {"double (*)(const double *x: point 1): value", WG_SYNTAX, "1:12: the role 'point' has no number"},
    {"double (*)(const double *x: in 7): value", WG_NOT_FOUND, "1:12: there is no leaf 7: 3 were given"},
    {"double (*)(const double *x: in 2): value", WG_NOT_FOUND, "1:12: the plan does not read leaf 2"},
    {"double (*)(const double *x: point): out 9", WG_NOT_FOUND, "1:1: there is no output 9: the plan has 4"},
    {"double (*)(long n: size 3, const double *x: point): value", WG_NOT_FOUND, "1:12: there is no leaf 3: 3 were given"},
    {"double (*)(const float *x: point): value", WG_DTYPE, "1:12: leaf 0 is f64, an array of double: it cannot be 'const float *'"},
    {"double (*)(const int *x: point): value", WG_DTYPE, "1:12: leaf 0 is f64, an array of double: it cannot be 'const int *'"},
    {"double (*)(const void *x: point): value", WG_DTYPE, "1:12: leaf 0 is f64, an array of double: it cannot be 'const void *'"},
    {"double (*)(double **x: point): value", WG_DTYPE, "1:12: leaf 0 is f64, an array of double: it cannot be 'double **'"},
    {"double (*)(const unsigned *x: in 1): value", WG_DTYPE, "1:12: leaf 1 is i32, an array of int: it cannot be 'const unsigned *'"},
    {"double (*)(const long *x: in 1): value", WG_DTYPE, "1:12: leaf 1 is i32, an array of int: it cannot be 'const long *'"},
    {"double (*)(const double *x: point, float *g: gradient): value", WG_DTYPE,
     "1:36: output 1 is f64, an array of double: it cannot be 'float *'"},
    {"double (*)(double x: point): value", WG_SHAPE, "1:12: leaf 0 has 3 elements, not 1"},
    {"double (*)(struct {double x[4]: point;} x): value", WG_SHAPE, "1:27: leaf 0 has 3 elements, not 4"},
    {"double (*)(const double *x: point): gradient", WG_SHAPE, "1:1: output 1 has 3 elements, not 1"},
    {"double (*)(const double *x: point, const double *g: gradient)", WG_ARGUMENT, "1:36: an output cannot be written here: it is const"},
    {"double (*)(const double *x: point, double g: out 0)", WG_ARGUMENT,
     "1:36: an output cannot be written here: it is passed by value or const"},
    {"double (*)(const double *x: point, struct {double g[3]: gradient;} g)", WG_ARGUMENT,
     "1:51: an output cannot be written here: it is passed by value or const"},
    {"double (*)(const double *x: point, const struct {double g: value;} *g)", WG_ARGUMENT,
     "1:57: an output cannot be written here: it is passed by value or const"},
    {"double (*)(const double *x: point, struct {const struct {double g: value;} s;} *g)", WG_ARGUMENT,
     "1:65: an output cannot be written here: it is passed by value or const"},
    {"double (*)(const double *x: point, const double *again: in 0): value", WG_CONFLICT, "1:36: x is leaf 0 already"},
    {"double (*)(const double *x: point, double *y: value): value", WG_CONFLICT, "1:36: the result is output 0 already"},
    {"double (*)(const double *x: point, double *y: gradient, double *z: out 1)", WG_CONFLICT, "1:57: y is output 1 already"},
    {"double (*)(double n: size, const double *x: point): value", WG_DTYPE, "1:12: 'double' is no integer, as a size is"},
    {"double (*)(const double *n: size, const double *x: point): value", WG_DTYPE, "1:12: 'const double *' is no integer, as a size is"},
    {"double (*)(int s: status, const double *x: point): value", WG_ARGUMENT, "1:12: 'status' is what is returned, a number"},
    {"double (*)(const double *x: point): size", WG_ARGUMENT, "1:1: what is returned cannot be 'size'"},
    {"double (*)(const double *x: point): user", WG_ARGUMENT, "1:1: what is returned cannot be 'user'"},
    {"double (*)(const double *x: point): point", WG_ARGUMENT, "1:1: what is returned cannot be 'point'"},
    {"double *(*)(const double *x: point): gradient", WG_UNSUPPORTED,
     "1:1: what a pointer that is returned leads to has no place: roles are for numbers and structs"},
    {"struct {double x;} (*)(const double *x: point)", WG_UNSUPPORTED, "1:1: a struct without roles in its fields is returned"},
    {"struct {double y: value; double *g: gradient;} (*)(const double *x: point)", WG_UNSUPPORTED,
     "1:34: what a pointer that is returned leads to has no place: roles are for numbers and structs"},
    {"struct {struct {double y: value;} *s;} (*)(const double *x: point)", WG_UNSUPPORTED,
     "1:24: what a pointer that is returned leads to has no place: roles are for numbers and structs"},
    {"void *(*)(const double *x: point): status", WG_UNSUPPORTED,
     "1:1: what a pointer that is returned leads to has no place: roles are for numbers and structs"},
    {"double (*)(struct {const double *x: point;} **x): value", WG_UNSUPPORTED,
     "1:12: roles in arrays of structs, and behind more than one pointer, are not read"},
    {"double (*)(struct {struct {double *x: point;} s[2];} x): value", WG_UNSUPPORTED,
     "1:47: roles in arrays of structs, and behind more than one pointer, are not read"},
    {"double (*)(const double *x: point, int one = 1): value", WG_SYNTAX,
     "1:36: a value is for functions that are called; here the caller gives it"},
    {"double (*)(const double *x: point, ): value", WG_SYNTAX, "1:36: expected a type, not ')'"},
    {"double (*)(const double *x: point, double *s: in 3): value", WG_CONFLICT,
     "1:36: the plan stores to leaf 3, so it cannot be an argument"},
};

Test(function, prototypes_that_do_not_fit_are_refused_with_the_place) {
    for (int k = 0; k < WG_LEN(refusals); k++) {
        const refusal *r = &refusals[k];
        bool stores = strstr(r->line, "stores");
        subject s = valley(WG_F64, 3);
        wg_var i = row(&s, WG_I32, 4);
        row(&s, WG_F64, 3); /* not read */
        s.y[2] = add(i, 1);
        s.y[3] = stores ? wg_store(s.leaf[3] = taped_scalar(NULL, WG_F64, 1), s.y[0]) : square(s.x[0]);
        s.leaves += stores;
        s.outputs = 4;
        compile(&s);
        wg_error error = {0};
        const wg_function_options options = {.n = s.leaves, .leaf = s.leaf};
        cr_assert_null(wg_plan_function(s.plan, r->prototype, &options, &error), "%s", r->prototype);
        cr_expect_eq(error.status, r->status, "%s: %s", r->prototype, error.text);
        error.text[strcspn(error.text, "\n")] = 0;
        cr_assert_eq(strncmp(error.text, "prototype:", 10), 0, "%s", error.text);
        cr_expect_str_eq(error.text + 10, r->line);
        cr_assert_null(wg_plan_function(s.plan, r->prototype, &options, NULL));
        end(&s);
    }
}

Test(function, options_that_are_wrong_are_refused) {
    subject s = valley(WG_F64, 3);
    compile(&s);
    wg_tensor *none = NULL;
    const wg_function_options wrong[] = {{.n = -1}, {.n = 1}, {.n = 1, .leaf = &none}, {.n = 1, .leaf = s.leaf, .most = -1}};
    for (int k = 0; k < WG_LEN(wrong); k++) {
        wg_error error = {0};
        cr_expect_null(wg_plan_function(s.plan, OBJECTIVE, &wrong[k], &error));
        cr_expect_eq(error.status, WG_ARGUMENT, "options %d", k);
        cr_expect_str_eq(error.text, "a plan's C function: no prototype, a leaf that is NULL, or a negative number", "options %d", k);
    }
    wg_error error = {0};
    cr_expect_null(wg_plan_function(s.plan, NULL, NULL, &error));
    cr_expect_eq(error.status, WG_ARGUMENT);
    end(&s);
}

Test(function, runs_on_one_thread_unless_told_otherwise) {
    subject s = valley(WG_F64, 3);
    wg_error error = {0};
    for (int threads = 0; threads < 4; threads++) {
        FUNCTION(&s, OBJECTIVE, .run.threads = threads);
        cr_expect_eq(s.f->options.run.threads, threads ? threads : 1);
    }
    wg_function *f = wg_plan_function(s.plan, "void (*)(void)", NULL, &error);
    cr_assert_not_null(f, "%s", error.text);
    wg_function_pointer(f)();
    cr_assert_eq(wg_function_status(f, &error), WG_OK, "%s", error.text);
    wg_function_free(f);
    end(&s);
}

Test(function, array_without_elements_may_be_null) {
    subject s = begin();
    s.y[0] = taped_sum(row(&s, WG_F64, 0)), s.outputs = 1;
    double (*f)(int, const double *) = (__typeof__(f))FUNCTION(&s, "double (*)(int n: size, const double *x: point): value");
    cr_assert_eq(f(0, NULL), 0);
    CALLED(&s);
    end(&s);
}

Test(function, truth_is_zero_or_one) {
    subject s = begin();
    s.y[0] = scalar(&s), s.outputs = 1;
    bool (*f)(double) = (__typeof__(f))FUNCTION(&s, "bool (*)(double x: point): value");
    for (int k = 0; k < 3; k++) {
        bool got = f(k);
        unsigned char byte;
        memcpy(&byte, &got, 1);
        cr_expect_eq(byte, k > 0);
        if (k == 2)
            failed_with(&s, WG_RANGE, "2");
        CALLED(&s);
    }
    end(&s);
}

/* What has no role: passed by, and zeros where it is returned. */
Test(function, what_has_no_role_is_passed_by) {
    subject s = begin();
    s.y[0] = exp(scalar(&s)), s.outputs = 1;
    double y = 0;
    void *(*f)(void *, const char *, double, short, double *) = (__typeof__(f))FUNCTION(
        &s, "void *(*)(void *, const char *name, double x: point, short, double *y: value)");
    cr_assert_null(f(&s, "name", 2, 3, &y));
    CALLED(&s);
    cr_assert(is_value(&s, 0, &(double){2}, &y));
    typedef struct { long a, b; double y; long c; } result;
    result (*g)(double) = (__typeof__(g))FUNCTION(&s, "struct {long a; long b; double y: value; long c;} (*)(double x: point)");
    result got;
    memset(&got, 0xff, sizeof got);
    got = g(2);
    cr_assert(got.a == 0 && got.b == 0 && got.c == 0 && got.y == y);
    end(&s);
}

/* ---- the floating-point mode ---- */

Test(function, hosts_subnormals_stay_what_they_are) {
    volatile double tiny = 1e-310;
    for (int keep = 0; keep < 2; keep++) {
        subject s = begin();
        s.y[0] = mul(scalar(&s), 0.5), s.outputs = 1;
        map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .run.keep_subnormals = keep);
        double got = f(tiny);
#if defined(__SSE__)
        cr_expect_eq(got, keep ? tiny / 2 : 0);
#else
        cr_expect(got == tiny / 2 || got == 0);
#endif
        cr_expect_gt(tiny / 2, 0);
        end(&s);
    }
#if defined(__SSE__)
    subject s = guarded(30);
    double (*f)(const double *) = (__typeof__(f))FUNCTION(&s, "double (*)(const double *x: point): value");
    double x[30] = {-1};
    unsigned before = _mm_getcsr();
    cr_expect(isnan(f(x)));
    cr_expect_eq(_mm_getcsr() & 0x8040, before & 0x8040, "also after a failed call");
    end(&s);
#endif
}
