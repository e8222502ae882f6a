/* Plans as C functions: every role and type, threads, nesting, failures; results against wg_eval or the plan's own runs. */
#include "suite.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "drawn_cell.h"
#include "failing.h"
#include "function.h"
#include "random_graph.h"
#include "taped.h"
#include "wengert/notation.h"

enum { MOST = 4 };

/* A graph, its plan and that as a function. */
typedef struct subject {
    wg_tape *tape;
    wg_tensor *leaf[MOST];
    wg_var x[MOST], y[MOST];
    int leaves, outputs;
    wg_plan *plan;
    wg_function *f;
} subject;

static subject begin(void) { return (subject){.tape = wg_tape_new(NULL)}; }

/* A leaf of small numbers, which no call uses. */
static wg_var leaf(subject *s, wg_dtype dtype, int rank, const int64_t *dim) {
    s->leaf[s->leaves] = taped_random(NULL, dtype, rank, dim, 1 + (uint64_t)s->leaves);
    s->x[s->leaves] = wg_leaf(s->tape, s->leaf[s->leaves]);
    return s->x[s->leaves++];
}
static wg_var row(subject *s, wg_dtype dtype, int64_t n) { return leaf(s, dtype, 1, &n); }
static wg_var scalar(subject *s) { return leaf(s, WG_F64, 0, NULL); }

static void compile(subject *s) {
    wg_error error = {0};
    cr_assert_eq(wg_tape_status(s->tape), WG_OK, "%s", wg_tape_message(s->tape));
    s->plan = wg_compile(s->outputs, s->y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(s->plan, "%s", error.text);
}

static void (*function_of(subject *s, const char *prototype, wg_function_options options))(void) {
    wg_error error = {0};
    options.n = s->leaves;
    options.leaf = s->leaf;
    if (!s->plan)
        compile(s);
    wg_function_free(s->f);
    s->f = wg_plan_function(s->plan, prototype, &options, &error);
    cr_assert_not_null(s->f, "%s: %s", prototype, error.text);
    return wg_function_pointer(s->f);
}
#define FUNCTION(s, prototype, ...) function_of(s, prototype, (wg_function_options){__VA_ARGS__})

static void end(subject *s) {
    cr_expect_eq(wg_function_free(s->f), WG_OK);
    wg_plan_free(s->plan);
    wg_tape_free(s->tape);
    for (int k = 0; k < s->leaves; k++)
        wg_tensor_free(s->leaf[k]);
}

/* The call before was good. */
#define CALLED(s)                                                                                                                    \
    do {                                                                                                                             \
        wg_error error_ = {0};                                                                                                       \
        cr_assert_eq(wg_function_status((s)->f, &error_), WG_OK, "%s", error_.text);                                                 \
    } while (0)

/* It failed with this status, and its message has these words; the next look finds nothing. */
static void failed_with(subject *s, wg_status status, const char *words) {
    wg_error error = {0};
    cr_assert_eq(wg_function_status(s->f, &error), status, "%s", error.text);
    cr_assert_eq(error.status, status);
    cr_assert(strstr(error.text, words), "'%s' is not in: %s", words, error.text);
    cr_assert_eq(wg_function_status(s->f, NULL), WG_OK);
}

static bool same_bytes(const void *a, const void *b, size_t bytes) { return memcmp(a, b, bytes) == 0; }
static bool same_bits(const void *got, const wg_tensor *want) { return same_bytes(got, wg_tensor_data(want), wg_tensor_bytes(want)); }

/* y[i] by wg_eval with these contents of leaf 0. */
static wg_tensor *evaluated(subject *s, int i, const void *x) {
    wg_tensor *out = NULL, *before = wg_tensor_copy(NULL, s->leaf[0]);
    wg_error error = {0};
    size_t bytes = wg_tensor_bytes(before);
    memcpy(wg_tensor_write(s->leaf[0]), x, bytes);
    cr_assert_eq(wg_eval(1, &s->y[i], &out, &error), WG_OK, "%s", error.text);
    memcpy(wg_tensor_write(s->leaf[0]), wg_tensor_data(before), bytes);
    wg_tensor_free(before);
    return out;
}

/* Whether an array has the bits that wg_eval gives output i at x. */
static bool is_value(subject *s, int i, const void *x, const void *got) {
    wg_tensor *want = evaluated(s, i, x);
    bool same = same_bits(got, want);
    wg_tensor_free(want);
    return same;
}

/* sum (x[i+1] - x[i]^2)^2 + sum (x[i] - 1)^2, and its gradient. */
static subject valley(wg_dtype dtype, int64_t n) {
    subject s = begin();
    wg_var x = row(&s, dtype, n);
    wg_var bend = sub(slice(x, 0, 1, n - 1), square(slice(x, 0, 0, n - 1)));
    s.y[0] = add(taped_sum(square(bend)), taped_sum(square(sub(x, 1))));
    wg_grad(s.y[0], 1, &x, &s.y[1]);
    s.outputs = 2;
    return s;
}

static void draw(double *x, int64_t n, uint64_t seed) {
    wg_random random = {.seed = seed};
    for (int64_t i = 0; i < n; i++)
        x[i] = wg_random_normal(&random);
}

/* Memory for doubles that is aligned to 8 bytes and no more. */
static double *odd_doubles(int64_t n, void **block) {
    *block = aligned_alloc(64, (size_t)(n + 8) / 8 * 64 + 64);
    return (double *)*block + 1;
}

/* ---- what optimisers call ---- */

typedef double objective(unsigned n, const double *x, double *gradient, void *data);
static const char objective_type[] =
    "double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value";

Test(function, value_and_gradient_are_those_of_evaluation_wherever_the_arrays_lie) {
    static const int64_t sizes[] = {2, 5, 8, 300, 20000};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        int64_t n = sizes[k];
        subject s = valley(WG_F64, n);
        objective *f = (objective *)FUNCTION(&s, objective_type);
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
    objective *f = (objective *)FUNCTION(&s, objective_type);
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
    objective *f = (objective *)FUNCTION(&s, objective_type);
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
#define VECTOR "struct {size_t size: size; size_t stride: stride; double *data: point; void *block; int owner;}"
#define VECTOR_OUT "struct {size_t size: count 1; size_t stride: stride; double *data: gradient; void *block; int owner;}"

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

/* ---- as callbacks ---- */

Test(function, plan_is_the_comparator_of_qsort) {
    enum { N = 500 };
    subject s = begin();
    wg_var a = scalar(&s), b = scalar(&s);
    s.y[0] = sub(abs(a), abs(b)), s.outputs = 1;
    s.y[0] = sub(wg_greater(s.y[0], wg_c(0)), wg_less(s.y[0], wg_c(0)));
    int (*f)(const void *, const void *) = (__typeof__(f))FUNCTION(&s, "int (*)(const double *a: in 0, const double *b: in 1): value");
    double x[N];
    draw(x, N, 2);
    qsort(x, N, sizeof *x, f);
    CALLED(&s);
    for (int k = 1; k < N; k++)
        cr_assert_leq(fabs(x[k - 1]), fabs(x[k]));
    end(&s);
}

/* An op that hands each element to whatever its attribute points to. */
typedef struct hand {
    double (*to)(void *user, double x);
    void *user;
} hand;

static wg_status hand_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static wg_status hand_run(wg_call *call) {
    const hand *h = *(const hand *const *)call->attr;
    for (int64_t i = 0; i < call->out.shape->count; i++)
        ((double *)call->out.data)[i] = h->to(h->user, ((const double *)call->in[0].data)[i]);
    return WG_OK;
}

static const wg_op hand_op = {.name = "hand", .arity = 1, .kind = WG_REDUCTION, .attr_size = sizeof(hand *), .shape = hand_shape,
                              .run = hand_run};

static wg_var handed(wg_var x, const hand *h) { return wg_apply(&hand_op, 1, &x, &h); }

typedef double map(double);

static double through(void *user, double x) { return (*(map **)user)(x); }

Test(function, functions_are_called_inside_each_other) {
    subject inner = begin(), outer = begin();
    inner.y[0] = exp(scalar(&inner)), inner.outputs = 1;
    map *f = (map *)FUNCTION(&inner, "double (*)(double x: point): value", .most = 1), *g;
    const hand h = {through, &f};
    wg_var x = scalar(&outer);
    outer.y[0] = add(handed(mul(x, 2), &h), x), outer.outputs = 1;
    g = (map *)FUNCTION(&outer, "double (*)(double x: point): value", .most = 1);
    for (int k = 0; k < 5; k++) {
        double direct = f(2 * (0.1 * k)), got = g(0.1 * k);
        cr_assert_eq(got, direct + 0.1 * k);
    }
    CALLED(&inner);
    CALLED(&outer);
    end(&outer);
    end(&inner);
}

/* x + f(x - 1), 0 from 0 down. */
static double sum_down(void *user, double x) { return x <= 0 ? 0 : x + (*(map **)user)(x - 1); }

Test(function, function_calls_itself_as_deep_as_there_may_be_calls) {
    for (int most = 0; most <= 5; most++) {
        map *f = NULL;
        const hand h = {sum_down, &f};
        subject s = begin();
        s.y[0] = mul(1, handed(scalar(&s), &h)), s.outputs = 1;
        f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .most = most);
        for (int depth = 0; depth < 8; depth++) {
            double got = f(depth);
            if (most == 0 || depth < most) {
                cr_assert_eq(2 * got, depth * (depth + 1));
                CALLED(&s);
            } else {
                cr_assert(isnan(got));
                failed_with(&s, WG_CONFLICT, "inside its own call");
            }
        }
        end(&s);
    }
}

/* f calls g, which calls f. */
Test(function, function_is_not_waited_for_by_what_it_calls) {
    map *f = NULL, *g = NULL;
    const hand to_g = {through, &g}, to_f = {sum_down, &f};
    subject a = begin(), b = begin();
    a.y[0] = handed(scalar(&a), &to_g), a.outputs = 1;
    b.y[0] = handed(scalar(&b), &to_f), b.outputs = 1;
    f = (map *)FUNCTION(&a, "double (*)(double x: point): value", .most = 2);
    g = (map *)FUNCTION(&b, "double (*)(double x: point): value");
    cr_assert_eq(f(1), 1);
    CALLED(&a);
    cr_assert(isnan(f(2)));
    failed_with(&a, WG_CONFLICT, "no more than 2 may go on at once");
    CALLED(&b);
    end(&a);
    end(&b);
}

static double free_inside(void *user, double x) { return x + wg_function_free(*(wg_function **)user); }

Test(function, function_is_not_freed_inside_its_own_call) {
    wg_function *itself = NULL;
    const hand h = {free_inside, &itself};
    subject s = begin();
    s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value");
    itself = s.f;
    cr_assert_eq(f(100), 100 + WG_CONFLICT);
    cr_assert_eq(f(200), 200 + WG_CONFLICT, "and is as it was");
    CALLED(&s);
    end(&s);
    cr_assert_eq(wg_function_free(NULL), WG_OK);
}

/* ---- threads ---- */

enum { THREADS = 8, CALLS = 300, ELEMENTS = 50, ALL = CALLS * ELEMENTS };

typedef struct caller {
    objective *f;
    const double *x, *value, *gradient; /* CALLS of each */
    atomic_int *wrong;
} caller;

static void *call_often(void *user) {
    const caller *c = user;
    double g[ELEMENTS];
    for (int64_t k = 0; k < CALLS; k++) {
        double value = c->f(ELEMENTS, c->x + k * ELEMENTS, k % 3 ? g : NULL, NULL);
        bool same = same_bytes(&value, c->value + k, sizeof value);
        same = same && (k % 3 == 0 || same_bytes(g, c->gradient + k * ELEMENTS, sizeof g));
        atomic_fetch_add(c->wrong, !same);
    }
    return NULL;
}

Test(function, eight_threads_call_at_once_however_many_may) {
    static double x[ALL], value[CALLS], gradient[ALL];
    static const int most[] = {0, 1, 3};
    subject s = valley(WG_F64, ELEMENTS);
    draw(x, ALL, 21);
    for (int64_t k = 0; k < CALLS; k++) {
        wg_tensor *y = evaluated(&s, 0, x + k * ELEMENTS), *g = evaluated(&s, 1, x + k * ELEMENTS);
        value[k] = wg_tensor_get(y, 0);
        memcpy(gradient + k * ELEMENTS, wg_tensor_data(g), wg_tensor_bytes(g));
        wg_tensor_free(y);
        wg_tensor_free(g);
    }
    for (int m = 0; m < WG_LEN(most); m++) {
        objective *f = (objective *)FUNCTION(&s, objective_type, .most = most[m]);
        atomic_int wrong = 0;
        pthread_t thread[THREADS];
        caller c = {f, x, value, gradient, &wrong};
        for (int t = 0; t < THREADS; t++)
            cr_assert_eq(pthread_create(&thread[t], NULL, call_often, &c), 0);
        for (int t = 0; t < THREADS; t++)
            pthread_join(thread[t], NULL);
        cr_expect_eq(wrong, 0, "%d calls differ, at most %d at once", wrong, most[m]);
        CALLED(&s);
        cr_expect(most[m] == 0 || s.f->seats.made <= most[m]);
        cr_expect_gt(s.f->seats.spare, WG_SPARE_CLOSED, "calls go by the short way again");
    }
    end(&s);
}

/* How many calls are in the op at once, and the most there ever were. */
typedef struct crowd {
    atomic_int now, most, passed;
    atomic_bool open; /* until then none leaves */
} crowd;

static double enter(void *user, double x) {
    crowd *c = user;
    int now = atomic_fetch_add(&c->now, 1) + 1;
    for (int most = c->most; now > most && !atomic_compare_exchange_weak(&c->most, &most, now);)
        ;
    while (!c->open)
        usleep(100);
    atomic_fetch_sub(&c->now, 1);
    atomic_fetch_add(&c->passed, 1);
    return x;
}

static void *call_once(void *f) {
    ((map *)(void (*)(void))f)(1);
    return NULL;
}

static void start(pthread_t *thread, void *(*body)(void *), void *user) { cr_assert_eq(pthread_create(thread, NULL, body, user), 0); }

static void await(atomic_int *what, int value) {
    for (int k = 0; *what != value && k < 100000; k++)
        usleep(100);
    cr_assert_eq(*what, value);
}

Test(function, no_more_calls_go_on_than_may_and_as_many_as_may) {
    for (int most = 0; most <= 3; most++) {
        crowd c = {0};
        const hand h = {enter, &c};
        pthread_t thread[5];
        subject s = begin();
        s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
        map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .most = most);
        for (int t = 0; t < 5; t++)
            start(&thread[t], call_once, (void *)(uintptr_t)f);
        await(&c.now, most ? most : 5);
        usleep(5000);
        cr_expect_eq(c.now, most ? most : 5);
        c.open = true;
        for (int t = 0; t < 5; t++)
            pthread_join(thread[t], NULL);
        cr_expect_eq(c.passed, 5);
        cr_expect_eq(c.most, most ? most : 5);
        end(&s);
    }
}

static void await_waiting(wg_function *f, int64_t many) {
    int64_t waiting = -1;
    for (int k = 0; waiting != many && k < 50000; k++) {
        pthread_mutex_lock(&f->seats.lock);
        waiting = f->seats.waiting;
        pthread_mutex_unlock(&f->seats.lock);
        usleep(100);
    }
    cr_assert_eq(waiting, many);
}

typedef struct freeing {
    wg_function *f;
    atomic_int done;
} freeing;

static void *free_it(void *user) {
    freeing *g = user;
    int status = (int)wg_function_free(g->f);
    g->done = 1 + status;
    return NULL;
}

/* At most two run, a third waits for them. */
static void free_during(int callers) {
    crowd c = {0};
    const hand h = {enter, &c};
    pthread_t calls[3], other;
    subject s = begin();
    s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .most = 2);
    for (int t = 0; t < callers; t++)
        start(&calls[t], call_once, (void *)(uintptr_t)f);
    await(&c.now, callers < 2 ? callers : 2);
    await_waiting(s.f, callers > 2);
    freeing g = {.f = s.f};
    start(&other, free_it, &g);
    usleep(20000);
    cr_expect_eq(g.done, 0, "freed with %d calls", callers);
    c.open = true;
    pthread_join(other, NULL);
    cr_expect_eq(g.done, 1);
    cr_expect_eq(c.passed, callers);
    for (int t = 0; t < callers; t++)
        pthread_join(calls[t], NULL);
    s.f = NULL;
    end(&s);
}

Test(function, free_waits_for_calls_on_other_threads) {
    for (int callers = 1; callers <= 3; callers++)
        free_during(callers);
}

static double pass(void *user, double x) { return enter(user, x); }

static void stay(void *user, const wg_error *error) {
    (void)error;
    enter(user, 0);
}

/* One call has the only workspace, the next is refused another and stays in its callback. */
Test(function, free_waits_for_calls_that_fail_for_want_of_a_workspace) {
    crowd first = {0}, second = {0};
    const hand h = {pass, &first};
    pthread_t calls[2], other;
    failing memory_of;
    wg_memory *memory = failing_memory(&memory_of, 0);
    subject s = {.tape = wg_tape_new(memory)};
    s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .failed = stay, .user = &second);
    start(&calls[0], call_once, (void *)(uintptr_t)f);
    await(&first.now, 1);
    memory_of.fail = memory_of.calls + 1;
    start(&calls[1], call_once, (void *)(uintptr_t)f);
    await(&second.now, 1);
    first.open = true;
    pthread_join(calls[0], NULL);
    freeing g = {.f = s.f};
    start(&other, free_it, &g);
    usleep(20000);
    cr_expect_eq(g.done, 0);
    second.open = true;
    pthread_join(calls[1], NULL);
    pthread_join(other, NULL);
    cr_expect_eq(g.done, 1);
    s.f = NULL;
    end(&s);
    cr_expect_eq(memory_of.live, 0);
    wg_memory_free(memory);
}

/* ---- stores ---- */

static void *step_often(void *f) {
    for (int k = 0; k < CALLS; k++)
        ((void (*)(void))f)();
    return NULL;
}

Test(function, plan_with_stores_takes_one_call_at_a_time) {
    subject s = begin();
    wg_var x = scalar(&s);
    s.y[0] = wg_store(s.leaf[0], add(x, 1)), s.outputs = 1;
    wg_tensor_set(s.leaf[0], 0, 0);
    void (*f)(void) = FUNCTION(&s, "void step(void)", .most = 5);
    pthread_t thread[4];
    for (int t = 0; t < 4; t++)
        start(&thread[t], step_often, (void *)(uintptr_t)f);
    for (int t = 0; t < 4; t++)
        pthread_join(thread[t], NULL);
    cr_assert_eq(wg_tensor_get(s.leaf[0], 0), 4 * CALLS);
    cr_assert_eq(s.f->seats.made, 1);
    end(&s);
}

Test(function, call_of_a_plan_with_stores_waits_for_the_one_under_way) {
    crowd c = {0};
    const hand h = {enter, &c};
    pthread_t thread[2];
    subject s = begin();
    s.y[0] = handed(scalar(&s), &h), s.y[1] = wg_store(s.leaf[1] = taped_scalar(NULL, WG_F64, 0), s.y[0]);
    s.leaves = 2, s.outputs = 2;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .most = 5);
    for (int t = 0; t < 2; t++)
        start(&thread[t], call_once, (void *)(uintptr_t)f);
    await_waiting(s.f, 1);
    usleep(5000);
    cr_expect_leq(c.now, 1);
    c.open = true;
    for (int t = 0; t < 2; t++)
        pthread_join(thread[t], NULL);
    cr_expect(c.passed == 2 && c.most == 1);
    cr_expect_eq(wg_tensor_get(s.leaf[1], 0), 1);
    end(&s);
}

/* ---- failures ---- */

/* log x, guarded; and numbers of every kind that depend on it. */
static subject guarded(int64_t n) {
    subject s = begin();
    wg_var x = row(&s, WG_F64, n);
    s.y[0] = wg_guard(taped_sum(log(x))), s.y[1] = mul(x, 2), s.y[2] = cast(mul(x, 3), WG_I32), s.outputs = 3;
    return s;
}

static void note(void *user, const wg_error *error) { *(wg_error *)user = *error; }

Test(function, failed_call_returns_nan_and_fills_its_outputs) {
    enum { N = 30 };
    subject s = guarded(N);
    wg_error told = {0};
    double (*f)(const double *, double *, int *) = (__typeof__(f))FUNCTION(
        &s, "double (*)(const double *x: point, double *y: out 1, int *i: out 2): value", .failed = note, .user = &told);
    double x[N], y[N];
    int i[N];
    for (int k = 0; k < N; k++)
        x[k] = 1 + k;
    cr_assert(isfinite(f(x, y, i)) && y[1] == 4 && i[1] == 6);
    cr_assert_eq(told.status, WG_OK);
    x[4] = -1;
    cr_assert(isnan(f(x, y, i)));
    for (int k = 0; k < N; k++)
        cr_assert(isnan(y[k]) && i[k] == INT32_MIN);
    cr_assert_eq(told.status, WG_NONFINITE);
    x[4] = 1;
    cr_assert(isfinite(f(x, y, i)) && y[4] == 2 && i[4] == 3, "a failed call does not touch the next");
    f(NULL, y, i);
    cr_assert_eq(told.status, WG_ARGUMENT, "the callback hears of every failure");
    failed_with(&s, WG_NONFINITE, "guard"); /* status tells of the first */
    long (*g)(const double *) = (__typeof__(g))FUNCTION(&s, "long (*)(const double *x: point): status");
    cr_assert_eq(g(x), 0);
    x[0] = -1;
    cr_assert_eq(g(x), 1);
    failed_with(&s, WG_NONFINITE, "guard");
    end(&s);
}

Test(function, wrong_size_fails_and_overruns_nothing) {
    subject s = valley(WG_F64, 30);
    objective *f = (objective *)FUNCTION(&s, objective_type);
    double x[30] = {0}, g[30] = {0};
    cr_assert(isnan(f(3, x, g, NULL)));
    failed_with(&s, WG_SHAPE, "n: 3 elements, where leaf 0 has 30");
    cr_assert(isnan(g[2]) && g[3] == 0);
    cr_assert(isnan(f(31, x, g, NULL)));
    cr_assert(isnan(g[29]));
    failed_with(&s, WG_SHAPE, "31");
    cr_assert(isnan(f(31, x, NULL, NULL)));
    failed_with(&s, WG_SHAPE, "31");
    double (*signed_size)(int, const double *, double *) = (__typeof__(signed_size))FUNCTION(
        &s, "double (*)(int: size, const double *: point, double *: gradient): value");
    g[0] = 0;
    cr_assert(isnan(signed_size(-1, x, g)) && g[0] == 0);
    failed_with(&s, WG_SHAPE, "parameter 1: -1 elements");
    end(&s);
}

Test(function, array_that_is_not_aligned_to_its_elements_fails_the_call) {
    enum { N = 30 };
    subject s = valley(WG_F64, N);
    double (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "double (*)(const double *x: point, double *g: gradient): value");
    double room[N + 1], x[N], g[N + 1];
    draw(x, N, 4);
    cr_assert(isnan(f((double *)(void *)((char *)room + 4), g)));
    failed_with(&s, WG_ARGUMENT, "x: the array is not aligned");
    f(x, (double *)(void *)((char *)g + 4)); /* is copied there */
    CALLED(&s);
    cr_assert(is_value(&s, 1, x, (char *)g + 4));
    end(&s);
}

Test(function, second_workspace_that_is_refused_fails_the_call_alone) {
    failing memory_of;
    wg_memory *memory = failing_memory(&memory_of, 0);
    map *f = NULL;
    const hand h = {sum_down, &f};
    subject s = {.tape = wg_tape_new(memory)};
    s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
    f = (map *)FUNCTION(&s, "double (*)(double x: point): value");
    cr_assert_eq(f(0), 0);
    memory_of.fail = memory_of.calls + 1;
    cr_assert(isnan(f(1)));
    failed_with(&s, WG_MEMORY, "no workspace");
    cr_assert_eq(f(1), 1);
    CALLED(&s);
    end(&s);
    cr_assert_eq(memory_of.live, 0);
    wg_memory_free(memory);
}

Test(function, survives_every_refused_allocation) {
    bool done = false;
    long k = 0;
    while (!done) {
        failing memory_of;
        wg_memory *memory = failing_memory(&memory_of, 0);
        subject s = valley(WG_F64, 30);
        wg_error error = {0};
        s.tape->memory = memory; /* the plan's */
        compile(&s);
        s.tape->memory = NULL;
        long live = memory_of.live;
        memory_of.calls = 0, memory_of.fail = ++k;
        s.f = wg_plan_function(s.plan, "double (*)(const " VECTOR " *x, double *g: gradient): value",
                               &(wg_function_options){.n = 1, .leaf = s.leaf}, &error);
        done = !failing_failed(&memory_of);
        cr_assert(s.f || !done, "nothing was refused, yet: %s", error.text);
        cr_assert(s.f || error.status == WG_MEMORY, "refusal %ld: %s", k, error.text);
        wg_function_free(s.f);
        s.f = NULL;
        cr_assert_eq(memory_of.live, live, "refusal %ld leaks", k);
        end(&s);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 8);
}

static void *no_closure(size_t size, void **code) {
    (void)size, (void)code;
    return NULL;
}

Test(function, system_without_executable_closures_is_said_so) {
    subject s = valley(WG_F64, 3);
    wg_error error = {0};
    void *(*usual)(size_t, void **) = wg__closure_alloc;
    compile(&s);
    wg__closure_alloc = no_closure;
    cr_assert_null(wg_plan_function(s.plan, objective_type, &(wg_function_options){.n = 1, .leaf = s.leaf}, &error));
    wg__closure_alloc = usual;
    cr_assert_eq(error.status, WG_UNSUPPORTED);
    cr_assert_str_eq(error.text, "a plan's C function: the system allows no executable closures");
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
        cr_expect_null(wg_plan_function(s.plan, objective_type, &wrong[k], &error));
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
        FUNCTION(&s, objective_type, .run.threads = threads);
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

/* ---- products and loops ---- */

Test(function, weights_are_read_anew_at_each_call) {
    enum { M = 40, K = 70, N = 90, WEIGHTS = K * N };
    static double w[WEIGHTS], y[M * N];
    subject s = begin();
    wg_var weight = leaf(&s, WG_F64, 2, (const int64_t[]){K, N}), x = leaf(&s, WG_F64, 2, (const int64_t[]){M, K});
    s.y[0] = matmul(x, weight, false, false), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *w: point, double *y: value)");
    for (int round = 0; round < 4; round++) {
        draw(w, WEIGHTS, 40 + (uint64_t)round);
        f(w, y);
        CALLED(&s);
        cr_assert(is_value(&s, 0, w, y), "round %d", round);
    }
    end(&s);
}

/* An LSTM's loss and its gradient by the recurrent weights of a gate, which loops read: against the plan's own runs. */
static void call_lstm(int threads) {
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 12, .batch = 24, .input = 5, .hidden = 16});
    wg_tensor *leaf = NULL;
    wg_var weight = {0}, y[3];
    for (int k = 0; k < u.n && !leaf; k++)
        if (wg_tensor_shape(u.kept[k])->rank == 2 && wg_tensor_shape(u.kept[k])->dim[0] == 16 && wg_tensor_shape(u.kept[k])->dim[1] == 16)
            leaf = u.kept[k], weight = u.given[k].var;
    cr_assert_not_null(leaf);
    y[0] = taped_sum(square(wg_unroll_output(u.unroll)));
    wg_grad(y[0], 1, &weight, &y[1]);
    y[2] = wg_unroll_output(u.unroll);
    wg_error error = {0};
    wg_plan *plan = wg_compile(3, y, &(wg_compile_options){.validate = true, .run.threads = 3}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    int loops = 0, packs = 0;
    for (int64_t k = 0; k < plan->program->loop_count; k++)
        loops += plan->program->loops[k].to > 0;
    for (int64_t k = 1; k < plan->program->count; k++)
        packs += strcmp(plan->program->list[k].op->name, "packed_product") == 0;
    cr_assert(loops > 0 && packs > 0);
    wg_function *f = wg_plan_function(plan, "double (*)(const double *w: point, double *g: gradient, double *h: out 2): value",
                                      &(wg_function_options){.n = 1, .leaf = &leaf, .run.threads = threads}, &error);
    cr_assert_not_null(f, "%s", error.text);
    double (*call)(const double *, double *, double *) = (double (*)(const double *, double *, double *))wg_function_pointer(f);
    for (int round = 0; round < 4; round++) {
        enum { WEIGHTS = 16 * 16 };
        double w[2][WEIGHTS], g[2][WEIGHTS], *h = malloc(sizeof *h * 12 * 24 * 16);
        draw(w[round % 2], WEIGHTS, 60 + (uint64_t)round);
        double value = call(w[round % 2], g[round % 2], round == 1 ? NULL : h);
        cr_assert_eq(wg_function_status(f, &error), WG_OK, "%s", error.text);
        memcpy(wg_tensor_write(leaf), w[round % 2], sizeof w[0]);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert(same_bits(&value, wg_plan_output(plan, 0)));
        cr_assert(same_bits(g[round % 2], wg_plan_output(plan, 1)));
        cr_assert(round == 1 || same_bits(h, wg_plan_output(plan, 2)));
        free(h);
    }
    wg_function_free(f);
    wg_plan_free(plan);
    unrolled_free(&u);
}

Test(function, loops_read_and_write_where_the_call_says) {
    call_lstm(1);
    call_lstm(3);
}

/* Many uses of a large array outside loops: it is bound, and each use moves. */
Test(function, every_use_follows_an_array_to_another_place) {
    enum { N = 4000, PARTS = 40 };
    static double x[2][N], y[2][N];
    subject s = begin();
    wg_var all = row(&s, WG_F64, N), part[PARTS];
    for (int k = 0; k < PARTS; k++) {
        part[k] = slice(all, 0, (int64_t)k * (N / PARTS), N / PARTS);
        part[k] = k % 3 ? tanh(mul(part[k], k)) : wg_cumsum(part[k], 0);
    }
    s.y[0] = add(concat(PARTS, part, 0), all), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *x: point, double *y: value)");
    cr_assert_gt(wg__slot_uses(s.plan, 0), PARTS / 2);
    for (int round = 0; round < 6; round++) {
        double *in = x[round % 2], *out = y[round / 2 % 2];
        draw(in, N, 80 + (uint64_t)round);
        f(in, out);
        CALLED(&s);
        cr_assert(is_value(&s, 0, in, out), "round %d", round);
    }
    end(&s);
}

/* ---- what moves under it, on random plans ---- */

/* A workspace whose leaves and outputs all lie elsewhere: at `block`, 8 bytes off a line. */
static void move_all(const wg_plan *plan, wg_workspace *w, char **leaf, char **output) {
    const wg_program *p = plan->program;
    for (int64_t k = 0; k < p->tensor_count; k++) {
        size_t bytes = wg_tensor_bytes(p->tensors[k]);
        leaf[k] = calloc(1, bytes + 128);
        memcpy(leaf[k] + 8, wg_tensor_data(p->tensors[k]), bytes);
        uint64_t version = wg_tensor_version(w->bound[k]);
        wg__bind_data(w, k, leaf[k] + 8);
        cr_expect_gt(wg_tensor_version(w->bound[k]), version, "what is kept of its contents is out of date");
    }
    for (int i = 0; i < p->output_count; i++) {
        output[i] = calloc(1, wg_tensor_bytes(wg_plan_output(plan, i)) + 128);
        wg__output_data(w, i, output[i] + 8);
    }
}

static void bind_wrappers(const wg_plan *plan, wg_workspace *w) {
    const wg_program *p = plan->program;
    for (int64_t k = 0; k < p->tensor_count; k++) {
        const wg_shape *shape = wg_tensor_shape(p->tensors[k]);
        wg_tensor *own = wg_tensor_wrap(NULL, wg_tensor_dtype(p->tensors[k]), shape->rank, shape->dim,
                                        (void *)(uintptr_t)wg_tensor_data(p->tensors[k]), NULL, NULL);
        wg__bind(w, k, own);
        wg_tensor_free(own);
    }
}

Test(function, leaves_and_outputs_of_any_plan_may_lie_anywhere) {
    for (uint64_t seed = 1; seed <= 300; seed++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y[RANDOM_OUTPUTS];
        int n = random_graph(tape, seed, seed % 2 ? WG_F64 : WG_F32, 16, y, NULL);
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.without = seed % 3 ? NULL : "inplace"}, NULL);
        wg_workspace *w = wg_workspace_new(plan);
        char **leaf = calloc((size_t)plan->program->tensor_count + 1, sizeof *leaf), *output[RANDOM_OUTPUTS] = {0};
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
        bind_wrappers(plan, w);
        for (int round = 0; round < 2; round++) {
            move_all(plan, w, leaf, output);
            cr_assert_eq(wg_run_in(plan, w, NULL, NULL), WG_OK);
            for (int i = 0; i < n; i++) {
                bool same = output[i] && same_bits(output[i] + 8, wg_plan_output(plan, i));
                cr_expect(same, "seed %llu, output %d, round %d", (unsigned long long)seed, i, round);
                free(output[i]);
            }
            for (int64_t k = 0; k < plan->program->tensor_count; k++)
                free(leaf[k]);
        }
        free(leaf);
        wg_workspace_free(w);
        wg_plan_free(plan);
        wg_tape_free(tape);
    }
}

/* ---- arrays that lie over each other ---- */

Test(function, output_may_lie_where_a_leaf_without_a_role_lies) {
    enum { N = 60 };
    subject s = begin();
    wg_var x = leaf(&s, WG_F64, 2, (const int64_t[]){N, N}), w = leaf(&s, WG_F64, 2, (const int64_t[]){N, N});
    s.y[0] = matmul(x, w, false, false), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *x: point, double *y: value)");
    double at[N * N];
    draw(at, N * N, 9);
    for (int round = 0; round < 2; round++) {
        wg_tensor *want = evaluated(&s, 0, at);
        f(at, wg_tensor_write(s.leaf[1]));
        CALLED(&s);
        cr_assert(same_bits(wg_tensor_data(s.leaf[1]), want), "round %d", round);
        wg_tensor_free(want);
    }
    end(&s);
}

Test(function, later_of_two_outputs_stays_however_large_they_are) {
    enum { N = 300 };
    static const char *const types[] = {"void (*)(const double *: point, double *: out 0, double *: out 1)",
                                        "void (*)(const double *: point, double *: out 1, double *: out 0)"};
    subject s = valley(WG_F64, N); /* one number, which is copied, and an array, which is bound */
    for (int order = 0; order < 2; order++) {
        void (*f)(const double *, double *, double *) = (__typeof__(f))FUNCTION(&s, types[order]);
        double x[N], room[N], value;
        draw(x, N, 13);
        f(x, order ? room : room + 7, order ? room + 7 : room);
        CALLED(&s);
        value = room[7];
        wg_tensor *want = evaluated(&s, 1, x);
        cr_expect(order ? is_value(&s, 0, x, &value) : value == wg_tensor_get(want, 7), "order %d: %g", order, value);
        room[7] = wg_tensor_get(want, 7);
        cr_expect(same_bits(room, want), "order %d", order);
        wg_tensor_free(want);
    }
    end(&s);
}

/* Bound and copied alike, at no more than 4 bytes. */
Test(function, outputs_that_are_views_leaves_or_given_twice_are_written_where_the_call_says) {
    static const int64_t sizes[] = {1, 3, 700};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        const int64_t n = sizes[k], dim[2] = {n, 2};
        const size_t bytes = (size_t)n * 2 * sizeof(float);
        subject s = begin();
        wg_var x = leaf(&s, WG_F32, 2, dim);
        s.y[0] = tanh(mul(x, 2)), s.y[1] = transpose(s.y[0]), s.y[2] = x, s.y[3] = s.y[0], s.outputs = 4;
        void (*f)(const float *, float *, float *, float *, float *) = (__typeof__(f))FUNCTION(
            &s, "void (*)(const float *x: point, float *a: out 0, float *b: out 1, float *c: out 2, float *d: out 3)");
        char *block[5];
        float *at[5];
        for (int i = 0; i < 5; i++) {
            block[i] = aligned_alloc(64, (bytes + 4 + 63) / 64 * 64);
            at[i] = (float *)(void *)(block[i] + 4);
        }
        for (int64_t i = 0; i < 2 * n; i++)
            at[0][i] = (float)i / 100 - 1;
        for (int without = 0; without <= 4; without++) { /* of outputs 0 to 3; 4: none is NULL */
            float *to[4];
            for (int i = 0; i < 4; i++)
                to[i] = i == without ? NULL : memset(at[i + 1], 0, bytes);
            f(at[0], to[0], to[1], to[2], to[3]);
            CALLED(&s);
            for (int i = 0; i < 4; i++)
                cr_expect(!to[i] || is_value(&s, i, at[0], to[i]), "%lld rows, output %d without %d", (long long)n, i, without);
        }
        for (int i = 0; i < 5; i++)
            free(block[i]);
        end(&s);
    }
}

Test(function, leaves_without_a_role_are_read_as_they_are_at_each_call) {
    subject s = begin();
    wg_var x = scalar(&s), k = scalar(&s);
    s.y[0] = mul(x, k), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value");
    for (int round = 1; round < 4; round++) {
        wg_tensor_set(s.leaf[1], 0, round);
        cr_assert_eq(f(5), 5 * round);
        CALLED(&s);
    }
    end(&s);
}

/* ---- more failures ---- */

typedef struct strided {
    int64_t stride;
    double *data;
} strided;

Test(function, failed_call_writes_nothing_by_a_stride_that_leads_nowhere) {
    enum { N = 4, AROUND = 8 };
    static const int64_t strides[] = {-1, -2, 0, INT64_MAX, INT64_MIN, INT64_MAX / 16};
    static const char *const types[] = {"void (*)(const double *x: point, struct {int64_t stride: stride; double *data: gradient;} *g)",
                                        "void (*)(const double *x: point, struct {uint64_t stride: stride; double *data: gradient;} *g)"};
    subject s = valley(WG_F64, N);
    for (int k = 0; k < 2 * WG_LEN(strides); k++) {
        void (*f)(const double *, strided *) = (__typeof__(f))FUNCTION(&s, types[k % 2]);
        double x[N] = {1, 2, 3, 4}, room[AROUND + N + AROUND] = {0};
        strided g = {strides[k / 2], room + AROUND};
        f(x, &g);
        failed_with(&s, WG_ARGUMENT, "g.stride: a stride of ");
        for (int i = 0; i < WG_LEN(room); i++)
            cr_expect(i == AROUND ? isnan(room[i]) : room[i] == 0, "stride %lld: %g at %d", (long long)g.stride, room[i], i - AROUND);
    }
    end(&s);
}

static wg_status broken_run(wg_call *call) {
    double x = *(const double *)call->in[0].data;
    *(double *)call->out.data = x;
    return x < 0 ? wg_call_fail(call, WG_RANGE, "%g is below zero", x) : WG_OK;
}

static const wg_op broken_op = {.name = "broken", .arity = 1, .kind = WG_REDUCTION, .shape = hand_shape, .run = broken_run};

Test(function, op_that_fails_fails_the_call_and_nothing_else) {
    subject s = begin();
    wg_var x = scalar(&s), state = scalar(&s);
    s.y[0] = mul(wg_apply(&broken_op, 1, &x, NULL), 2), s.y[1] = wg_store(s.leaf[1], add(state, 1)), s.outputs = 2;
    wg_tensor_set(s.leaf[1], 0, 0);
    wg_error told = {0};
    int (*f)(double, double *, double *) = (__typeof__(f))FUNCTION(
        &s, "int (*)(double x: point, double *y: value, double *count: out 1): status", .failed = note, .user = &told);
    double y = 0, count = 0;
    cr_assert_eq(f(3, &y, &count), 0);
    cr_assert(y == 6 && count == 1 && wg_tensor_get(s.leaf[1], 0) == 1, "%g %g", y, count);
    for (int round = 1; round < 3; round++) {
        cr_assert_eq(f(-round, &y, &count), 1);
        cr_assert(isnan(y) && isnan(count));
        cr_assert_eq(wg_tensor_get(s.leaf[1], 0), 1, "a call that fails stores nothing");
    }
    cr_assert_str_eq(told.text, "broken: -2 is below zero");
    cr_assert_eq(told.status, WG_RANGE);
    failed_with(&s, WG_RANGE, "broken: -1 is below zero");
    cr_assert_eq(f(4, NULL, &count), 0);
    cr_assert_eq(count, 2);
    cr_assert_eq(wg_tensor_get(s.leaf[1], 0), 2);
    end(&s);
}

typedef struct asking {
    wg_function *f;
    wg_status freed, status;
} asking;

static void ask(void *user, const wg_error *error) {
    asking *a = user;
    wg_error first = {0};
    a->freed = wg_function_free(a->f);
    a->status = wg_function_status(a->f, &first);
    cr_expect_str_eq(first.text, error->text);
}

Test(function, callback_may_ask_for_the_status_and_may_not_free) {
    subject s = guarded(3);
    asking a = {0};
    double (*f)(const double *) = (__typeof__(f))FUNCTION(&s, "double (*)(const double *x: point): value", .failed = ask, .user = &a);
    a.f = s.f;
    cr_assert(isnan(f((const double[]){1, -1, 1})));
    cr_assert_eq(a.freed, WG_CONFLICT);
    cr_assert_eq(a.status, WG_NONFINITE);
    CALLED(&s); /* it was read */
    cr_assert(isfinite(f((const double[]){1, 1, 1})));
    end(&s);
}

Test(function, call_inside_a_call_survives_every_refused_allocation) {
    failing memory_of;
    wg_memory *memory = failing_memory(&memory_of, 0);
    map *f = NULL;
    const hand h = {sum_down, &f};
    subject s = {.tape = wg_tape_new(memory)};
    s.y[0] = mul(1, handed(scalar(&s), &h)), s.outputs = 1;
    f = (map *)FUNCTION(&s, "double (*)(double x: point): value");
    const long live = memory_of.live;
    long k = 1;
    for (;; k++) {
        memory_of.calls = 0, memory_of.fail = k;
        double got = f(1);
        if (!failing_failed(&memory_of)) {
            cr_assert_eq(got, 1);
            break;
        }
        cr_assert(isnan(got));
        failed_with(&s, WG_MEMORY, "no workspace for the call: the system has no more memory to give");
        cr_assert_eq(memory_of.live, live, "refusal %ld leaks", k);
        cr_assert_eq(s.f->seats.made, 1);
    }
    cr_assert_gt(k, 5);
    CALLED(&s);
    end(&s);
    cr_assert_eq(memory_of.live, 0);
    wg_memory_free(memory);
}

/* An allocator that, once armed, keeps the next request until it is opened, and then refuses it. */
typedef struct gate {
    atomic_bool armed;
    atomic_int kept, open;
} gate;

static void *gate_allocate(void *user, size_t bytes, size_t alignment) {
    gate *g = user;
    if (!atomic_exchange(&g->armed, false))
        return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    g->kept = 1;
    while (!g->open)
        usleep(100);
    return NULL;
}

static void gate_release(void *user, void *block, size_t bytes) {
    (void)user, (void)bytes;
    free(block);
}

/* A failed call that stays until the one that waited for it is under way, or seconds have gone by. */
typedef struct patience {
    crowd *others;
    atomic_int seen;
} patience;

static void wait_for_the_other(void *user, const wg_error *error) {
    patience *p = user;
    (void)error;
    for (int k = 0; p->others->now < 2 && k < 30000; k++)
        usleep(100);
    p->seen = p->others->now;
}

Test(function, call_that_is_refused_a_workspace_lets_another_try) {
    gate g = {0};
    crowd c = {0};
    patience p = {.others = &c};
    const hand h = {enter, &c};
    pthread_t calls[3];
    wg_memory *memory = wg_memory_new(&(wg_allocator){gate_allocate, gate_release, &g}, 0);
    subject s = {.tape = wg_tape_new(memory)};
    s.y[0] = handed(scalar(&s), &h), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value", .most = 2, .failed = wait_for_the_other, .user = &p);
    start(&calls[0], call_once, (void *)(uintptr_t)f); /* has the first workspace */
    await(&c.now, 1);
    g.armed = true;
    start(&calls[1], call_once, (void *)(uintptr_t)f); /* is making the second */
    await(&g.kept, 1);
    start(&calls[2], call_once, (void *)(uintptr_t)f); /* waits for either */
    await_waiting(s.f, 2);
    usleep(5000);
    g.open = 1;
    pthread_join(calls[1], NULL);
    cr_expect_eq(p.seen, 2, "the waiting call slept on beside a workspace that may be made");
    c.open = true;
    pthread_join(calls[0], NULL);
    pthread_join(calls[2], NULL);
    cr_expect_eq(c.passed, 2);
    failed_with(&s, WG_MEMORY, "no workspace");
    end(&s);
    wg_memory_free(memory);
}

/* ---- all weights of a cell ---- */

/* A struct with one pointer for each of n arrays: "struct {double *a0: out 1; …}". */
static void pointers_text(char *text, size_t size, int n, const char *type, const char *role, int from) {
    size_t used = (size_t)snprintf(text, size, "struct {");
    for (int k = 0; k < n; k++)
        used += (size_t)snprintf(text + used, size - used, "%s *a%d: %s %d; ", type, k, role, from + k);
    snprintf(text + used, size - used, "}");
}

enum { WEIGHTS_MOST = 16, WEIGHT_SIZE = 256 };

typedef struct trained {
    unrolled u;
    int n, first; /* weights, and where they begin among what is given */
    wg_var y[WEIGHTS_MOST + 1];
    wg_plan *plan;
    wg_function *f;
} trained;

static trained trained_new(int threads) {
    trained t = {.u = unrolled_new("lstm", &(unrolled_sizes){.steps = 10, .batch = 12, .input = 6, .hidden = 16})};
    char in[1024], out[1024], type[2200];
    wg_error error = {0};
    wg_var w[WEIGHTS_MOST];
    t.first = wg_cell_inputs(t.u.cell), t.n = wg_cell_params(t.u.cell);
    cr_assert(t.n > 8 && t.n <= WEIGHTS_MOST);
    for (int k = 0; k < t.n; k++)
        w[k] = t.u.given[t.first + k].var;
    t.y[0] = taped_sum(square(wg_unroll_output(t.u.unroll)));
    cr_assert_eq(wg_grad(t.y[0], t.n, w, t.y + 1), WG_OK);
    t.plan = wg_compile(t.n + 1, t.y, &(wg_compile_options){.validate = true, .run.threads = threads}, &error);
    cr_assert_not_null(t.plan, "%s", error.text);
    pointers_text(in, sizeof in, t.n, "const double", "in", 0);
    pointers_text(out, sizeof out, t.n, "double", "out", 1);
    snprintf(type, sizeof type, "double (*)(const %s *w, const %s *g): value", in, out);
    t.f = wg_plan_function(t.plan, type, &(wg_function_options){.n = t.n, .leaf = t.u.kept + t.first, .run.threads = threads}, &error);
    cr_assert_not_null(t.f, "%s", error.text);
    return t;
}

static void trained_free(trained *t) {
    cr_expect_eq(wg_function_free(t->f), WG_OK);
    wg_plan_free(t->plan);
    unrolled_free(&t->u);
}

/* The weights lie where they lay, changed, as an optimiser changes them. */
static void train(int threads) {
    static double w[WEIGHTS_MOST][WEIGHT_SIZE], g[WEIGHTS_MOST][WEIGHT_SIZE];
    trained t = trained_new(threads);
    const double *at[WEIGHTS_MOST];
    double *to[WEIGHTS_MOST];
    double (*f)(const double **, double **) = (__typeof__(f))wg_function_pointer(t.f);
    for (int round = 0; round < 4; round++) {
        wg_tensor *want[WEIGHTS_MOST + 1];
        wg_error error = {0};
        for (int k = 0; k < t.n; k++) {
            wg_tensor *leaf = t.u.kept[t.first + k];
            cr_assert_leq(wg_tensor_bytes(leaf), sizeof w[k]);
            draw(w[k], WEIGHT_SIZE, (uint64_t)(100 * round + k));
            memcpy(wg_tensor_write(leaf), w[k], wg_tensor_bytes(leaf));
            at[k] = w[k], to[k] = g[k];
        }
        cr_assert_eq(wg_eval(t.n + 1, t.y, want, &error), WG_OK, "%s", error.text);
        for (int k = 0; k < t.n; k++)
            wg_tensor_fill(t.u.kept[t.first + k], NAN); /* not what is read */
        double value = f(at, to);
        cr_assert_eq(wg_function_status(t.f, &error), WG_OK, "%s", error.text);
        cr_expect_float_eq(value, wg_tensor_get(want[0], 0), 1e-12 * fabs(value), "round %d", round);
        for (int k = 0; k < t.n; k++) {
            const wg_shape *shape = wg_tensor_shape(want[k + 1]);
            wg_tensor *got = wg_tensor_wrap(NULL, WG_F64, shape->rank, shape->dim, g[k], NULL, NULL);
            cr_expect(taped_close(want[k + 1], got), "round %d: the gradient of %s", round, t.u.given[t.first + k].name);
            wg_tensor_free(got);
        }
        for (int k = 0; k <= t.n; k++)
            wg_tensor_free(want[k]);
    }
    trained_free(&t);
}

Test(function, gradients_of_all_weights_follow_weights_that_change_in_place) {
    train(1);
    train(2);
}
