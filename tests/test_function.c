/* Plans as C functions: every role and type, several threads, nesting, release, failures. */
#include "taped.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "failing.h"
#include "function.h"
#include "wengert/notation.h"

/* sum of x^3 and its gradient, over n numbers. */
typedef struct cubes {
    wg_tape *tape;
    wg_tensor *point;
    wg_plan *plan;
} cubes;

static cubes cubes_of(wg_memory *memory, wg_dtype dtype, int64_t n) {
    cubes c = {.tape = wg_tape_new(memory), .point = wg_tensor_new(memory, dtype, 1, &n)};
    wg_var x = wg_leaf(c.tape, c.point), d, y = wg_sum(mul(square(x), x), 0, NULL, false);
    cr_assert_eq(wg_grad(y, 1, &x, &d), WG_OK);
    wg_error error = {0};
    c.plan = wg_compile(2, (const wg_var[]){y, d}, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(c.plan, "%s", error.text);
    return c;
}

static void cubes_free(cubes *c) {
    wg_plan_free(c->plan);
    wg_tensor_free(c->point);
    wg_tape_free(c->tape);
}

static wg_function *made(const wg_plan *plan, const char *prototype, int n, wg_tensor *const *leaf) {
    wg_error error = {0};
    wg_function *f = wg_plan_function(plan, prototype, &(wg_function_options){.n = n, .leaf = leaf}, &error);
    cr_assert_not_null(f, "%s", error.text);
    return f;
}

static void freed(wg_function *f) { cr_assert_eq(wg_function_free(f), WG_OK); }

/* The function's pointer as one of this type. */
#define AS(type, f) ((type)wg_function_pointer(f))

typedef double objective(unsigned n, const double *x, double *grad, void *data);
static const char objective_text[] = "double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value";

Test(function, a_plan_is_an_objective_with_its_gradient) {
    cubes c = cubes_of(NULL, WG_F64, 3);
    wg_function *f = made(c.plan, objective_text, 1, &c.point);
    objective *call = AS(objective *, f);
    double x[3] = {1, 2, 3}, g[3] = {0};
    cr_assert_eq(call(3, x, g, NULL), 36);
    cr_assert(g[0] == 3 && g[1] == 12 && g[2] == 27);
    x[0] = -1;
    cr_assert_eq(call(3, x, NULL, NULL), 34, "a NULL is not written");
    cr_assert_eq(g[0], 3);
    double other[3] = {0};
    cr_assert_eq(call(3, x, other, &c), 34);
    cr_assert(other[2] == 27 && g[2] == 27);
    wg_tensor_fill(c.point, 2);
    cr_assert_eq(wg_run(c.plan, NULL), WG_OK);
    cr_assert_eq(wg_tensor_get(wg_plan_output(c.plan, 0), 0), 24, "the plan's own workspace is as it was");
    cr_assert_eq(wg_function_status(f, NULL), WG_OK);
    freed(f);
    freed(NULL);
    cubes_free(&c);
}

Test(function, arrays_may_lie_anywhere_their_elements_may) {
    cubes c = cubes_of(NULL, WG_F32, 37);
    wg_function *f = made(c.plan, "float f(const float *x: in 0, float *g: out 1): out 0", 1, &c.point);
    float *block = malloc(200 * sizeof *block), *x = block + 1, *g = block + 101, sum = 0;
    for (int i = 0; i < 37; i++)
        x[i] = (float)i / 8, sum += x[i] * x[i] * x[i];
    float y = AS(float (*)(const float *, float *), f)(x, g);
    cr_assert_float_eq(y, sum, 1e-3);
    for (int i = 0; i < 37; i++)
        cr_assert_float_eq(g[i], 3 * x[i] * x[i], 1e-5);
    free(block);
    freed(f);
    cubes_free(&c);
}

/* A number squared, less 3, returned and taken as each type of C. */
#define NUMBERS(X)                                                                                                             \
    X(char, "char", -2, 1) X(int8_t, "int8_t", -2, 1) X(uint8_t, "uint8_t", 15, 222) X(int16_t, "short", 100, 9997)            \
    X(uint16_t, "unsigned short", 200, 39997) X(int, "int", 1, -2) X(unsigned, "unsigned", 40000, 1599999997)                  \
    X(long, "long", 100000, 9999999997) X(size_t, "size_t", 3, 6) X(long long, "long long", -3, 6) X(float, "float", 0.5f, -2.75f) \
    X(double, "double", 1.5, -0.75)

#define NUMBER_CASE(type, name, given, wanted)                                                                                 \
    {                                                                                                                          \
        wg_function *f = made(plan, name " f(" name " x: point): value", 1, &leaf);                                            \
        cr_expect_eq(AS(type(*)(type), f)(given), wanted, "%s", name);                                                        \
        freed(f);                                                                                                              \
    }

Test(function, numbers_of_every_type_are_taken_and_returned) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_var y = sub(square(wg_leaf(tape, leaf)), 3);
    wg_plan *plan = wg_compile(1, &y, NULL, NULL);
    NUMBERS(NUMBER_CASE)
    wg_function *f = made(plan, "signed char f(double x: point): value", 1, &leaf);
    cr_assert_eq(AS(signed char (*)(double), f)(100), -1, "what does not fit is -1");
    freed(f);
    f = made(plan, "unsigned f(double x: point): value", 1, &leaf);
    cr_assert_eq(AS(unsigned (*)(double), f)(1), 0);
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(leaf);
    wg_tape_free(tape);
}

Test(function, leaves_of_f32_and_i32_take_numbers_and_what_does_not_fit_fails) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf[2] = {wg_tensor_new(NULL, WG_F32, 0, NULL), wg_tensor_new(NULL, WG_I32, 0, NULL)};
    wg_var y[2] = {mul(wg_leaf(tape, leaf[0]), 2), add(wg_leaf(tape, leaf[1]), 1)};
    wg_plan *plan = wg_compile(2, y, NULL, NULL);
    wg_function *f = made(plan, "int f(double a: in 0, double b: in 1, float *y: out 0, int *z: out 1): status", 2, leaf);
    int (*call)(double, double, float *, int *) = AS(int (*)(double, double, float *, int *), f);
    float a = 0;
    int b = 0;
    cr_assert_eq(call(1.5, 7, &a, &b), 0);
    cr_assert(a == 3 && b == 8);
    cr_assert_eq(call(1.5, 7.5, &a, &b), 1);
    cr_assert(isnan(a) && b == INT32_MIN, "what a failed call leaves");
    wg_error error = {0};
    cr_assert_eq(wg_function_status(f, &error), WG_RANGE);
    cr_assert_str_eq(error.text, "function: b is 7.5, not an i32");
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(leaf[0]), wg_tensor_free(leaf[1]);
    wg_tape_free(tape);
}

typedef struct block_vector {
    size_t size, stride;
    double *data;
    void *block;
    int owner;
} block_vector;
#define VECTOR "struct {size_t size: size; size_t stride: stride; double *data: "

Test(function, structs_are_looked_into) {
    cubes c = cubes_of(NULL, WG_F64, 2);
    wg_function *f = made(c.plan, "double f(const " VECTOR "point; void *block; int owner;} *x, void *data, " VECTOR "gradient; void *block; int owner;} *g): value",
                          1, &c.point);
    double (*call)(const block_vector *, void *, block_vector *) = AS(double (*)(const block_vector *, void *, block_vector *), f);
    double x[4] = {1, 2, 3, 4}, g[2];
    block_vector from = {2, 1, x, NULL, 0}, to = {2, 1, g, NULL, 0};
    cr_assert_eq(call(&from, NULL, &to), 9);
    cr_assert(g[0] == 3 && g[1] == 12);
    wg_error error = {0};
    from.stride = 2;
    cr_assert(isnan(call(&from, NULL, &to)) && isnan(g[0]) && isnan(g[1]));
    cr_assert_eq(wg_function_status(f, &error), WG_UNSUPPORTED);
    cr_assert_str_eq(error.text, "function: stride is 2: arrays are read where they lie, without gaps");
    from.stride = 1, from.size = 3;
    error = (wg_error){0};
    cr_assert(isnan(call(&from, NULL, &to)));
    cr_assert(isnan(call(NULL, NULL, &to)));
    cr_assert_eq(wg_function_status(f, &error), WG_SHAPE, "the first is kept");
    cr_assert_str_eq(error.text, "function: size is 3, the leaf has 2 elements");
    cr_assert_eq(wg_function_status(f, NULL), WG_OK, "and forgotten when it was read");
    cr_assert(isnan(call(NULL, NULL, &to)));
    error = (wg_error){0};
    cr_assert_eq(wg_function_status(f, &error), WG_ARGUMENT);
    cr_assert_str_eq(error.text, "function: the struct with size is NULL");
    from = (block_vector){2, 1, NULL, NULL, 0};
    cr_assert(isnan(call(&from, NULL, &to)));
    error = (wg_error){0};
    cr_assert_eq(wg_function_status(f, &error), WG_ARGUMENT);
    cr_assert_str_eq(error.text, "function: data is NULL");
    freed(f);
    f = made(c.plan, "double f(struct {int n; struct {const double *x: point;} in;} s): value", 1, &c.point);
    struct by_value {
        int n;
        struct {
            const double *x;
        } in;
    } s = {7, {x}};
    cr_assert_eq(AS(double (*)(struct by_value), f)(s), 9);
    freed(f);
    cubes_free(&c);
}

Test(function, qsort_takes_a_plan_as_its_comparator) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf[2] = {wg_tensor_new(NULL, WG_F64, 0, NULL), wg_tensor_new(NULL, WG_F64, 0, NULL)};
    wg_var a = abs(wg_leaf(tape, leaf[0])), b = abs(wg_leaf(tape, leaf[1])), y = sub(greater(a, b), less(a, b));
    wg_plan *plan = wg_compile(1, &y, NULL, NULL);
    wg_function *f = made(plan, "int (*)(const double *a: in 0, const double *b: in 1): value", 2, leaf);
    double list[] = {3, -1, 2, -5, 0.5};
    qsort(list, 5, sizeof *list, AS(int (*)(const void *, const void *), f));
    const double sorted[] = {0.5, -1, 2, 3, -5};
    cr_assert_eq(memcmp(list, sorted, sizeof list), 0);
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(leaf[0]), wg_tensor_free(leaf[1]);
    wg_tape_free(tape);
}

Test(function, outputs_that_are_views_leaves_or_given_twice_are_written_where_the_caller_says) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf[2] = {taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1), taped_scalar(NULL, WG_F64, 5)};
    wg_tensor *unread = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){4});
    wg_var x = wg_leaf(tape, leaf[0]), k = wg_leaf(tape, leaf[1]), y = mul(x, k);
    wg_plan *plan = wg_compile(4, (const wg_var[]){y, transpose(y), x, y}, NULL, NULL);
    wg_tensor *named[] = {leaf[0], unread};
    wg_function *f = made(plan, "int f(const double x[2][3]: in 0, double *a: out 0, double *b: out 1, double *c: out 2, double *d: out 3, double *z: in 1): status",
                          2, named);
    double in[6] = {1, 2, 3, 4, 5, 6}, a[6], b[6], c[6], d[6], z[4];
    cr_assert_eq(AS(int (*)(const double *, double *, double *, double *, double *, double *), f)(in, a, b, c, d, z), 0);
    for (int i = 0; i < 6; i++)
        cr_assert(a[i] == 5 * in[i] && d[i] == a[i] && c[i] == in[i] && b[i] == 5 * in[(i % 2) * 3 + i / 2], "element %d", i);
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(leaf[0]), wg_tensor_free(leaf[1]), wg_tensor_free(unread);
    wg_tape_free(tape);
}

Test(function, a_plan_with_stores_stores_and_a_guard_fails_the_call) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *count = taped_scalar(NULL, WG_F64, 0), *point = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){2});
    wg_var n = wg_leaf(tape, count), x = wg_leaf(tape, point);
    wg_plan *plan = wg_compile(3, (const wg_var[]){mul(x, add(n, 1)), wg_store(count, add(n, 1)), wg_guard(wg_sum(x, 0, NULL, false))}, NULL, NULL);
    wg_function *f = made(plan, "int f(const double *x: point, double *y: value): status", 1, &point);
    int (*call)(const double *, double *) = AS(int (*)(const double *, double *), f);
    double y[2], bad[2] = {1, (double)NAN};
    cr_assert(call((const double[]){1, 2}, y) == 0 && y[1] == 2);
    cr_assert(call((const double[]){1, 2}, y) == 0 && y[1] == 4);
    cr_assert_eq(call(bad, y), 1);
    cr_assert_eq(wg_tensor_get(count, 0), 2, "a failed call stores nothing");
    wg_error error = {0};
    cr_assert_eq(wg_function_status(f, &error), WG_NONFINITE, "%s", error.text);
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(count), wg_tensor_free(point);
    wg_tape_free(tape);
}

/* ---- calls inside calls ---- */

static double (*inner_call)(double);
static wg_function *inner_function;
static wg_status inner_status;

static wg_status calls_run(wg_call *call) {
    *(double *)call->out.data = inner_call(*(const double *)call->in[0].data);
    inner_status = wg_function_free(inner_function);
    return WG_OK;
}
static wg_status calls_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}
static const wg_op calls_op = {.name = "calls", .arity = 1, .kind = WG_REDUCTION, .run = calls_run, .shape = calls_shape};

static wg_plan *calling_plan(wg_tape *tape, wg_tensor *leaf) {
    wg_var x = wg_leaf(tape, leaf), y = add(wg_apply(&calls_op, 1, &x, NULL), 1);
    wg_error error = {0};
    wg_plan *plan = wg_compile(1, &y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    return plan;
}

static double half_until_small(double x);
static double (*again)(double);
static double half_until_small(double x) { return x < 1 ? 0 : again(x / 2); }

Test(function, a_function_is_called_from_an_op_of_another_plan_and_from_inside_itself) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_plan *plan = calling_plan(tape, leaf);
    wg_function *f = made(plan, "double f(double x: point): value", 1, &leaf);
    inner_function = f;
    again = AS(double (*)(double), f);
    inner_call = half_until_small;
    cr_assert_eq(again(20), 6, "once for 20, 10, 5, 2.5, 1.25 and 0.625");
    cr_assert_eq(inner_status, WG_CONFLICT, "not to be freed inside a call of its own");
    cr_assert_eq(wg_function_status(f, NULL), WG_OK);
    freed(f);
    wg_error error = {0};
    f = wg_plan_function(plan, "double f(double x: point): value", &(wg_function_options){.n = 1, .leaf = &leaf, .most = 2}, &error);
    inner_function = f;
    again = AS(double (*)(double), f);
    cr_assert(isnan(again(20)), "a third call inside two would wait for ever");
    cr_assert_eq(wg_function_status(f, &error), WG_CONFLICT);
    cr_assert_str_eq(error.text, "function: called from inside itself, and all 2 calls that it may be in are under way");
    cr_assert_eq(again(1.5), 2, "and all is well after that");
    freed(f);
    wg_plan_free(plan);
    wg_tensor_free(leaf);
    wg_tape_free(tape);
}

/* ---- threads ---- */

enum { THREADS = 8, CALLS = 300, SIZE = 50 };

typedef struct caller {
    objective *call;
    int number, wrong;
} caller;

static void *call_often(void *user) {
    caller *c = user;
    double x[SIZE], g[SIZE], want;
    for (int k = 0; k < CALLS; k++) {
        want = 0;
        for (int i = 0; i < SIZE; i++)
            x[i] = (i + k) % 7 + c->number, want += x[i] * x[i] * x[i];
        c->wrong += c->call(SIZE, x, k % 3 ? g : NULL, NULL) != want;
        for (int i = 0; i < SIZE && k % 3; i++)
            c->wrong += g[i] != 3 * x[i] * x[i];
    }
    return NULL;
}

Test(function, several_threads_call_one_function_at_once) {
    cubes c = cubes_of(NULL, WG_F64, SIZE);
    for (int most = 0; most <= 3; most++) {
        wg_error error = {0};
        wg_function *f = wg_plan_function(c.plan, objective_text, &(wg_function_options){.n = 1, .leaf = &c.point, .most = most}, &error);
        cr_assert_not_null(f, "%s", error.text);
        pthread_t thread[THREADS];
        caller of[THREADS];
        for (int i = 0; i < THREADS; i++) {
            of[i] = (caller){AS(objective *, f), i, 0};
            pthread_create(&thread[i], NULL, call_often, &of[i]);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(thread[i], NULL);
            cr_assert_eq(of[i].wrong, 0, "thread %d, %d at once", i, most);
        }
        freed(f);
    }
    cubes_free(&c);
}

static atomic_int begun, ended;
static double slow(double x) {
    atomic_store(&begun, 1);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    atomic_store(&ended, 1);
    return x;
}
static void *call_once(void *user) {
    double (*call)(double) = *(double (**)(double))user;
    call(1);
    return NULL;
}

Test(function, freeing_waits_for_calls_on_other_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *leaf = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_plan *plan = calling_plan(tape, leaf);
    wg_function *f = made(plan, "double f(double x: point): value", 1, &leaf);
    inner_function = f;
    inner_call = slow;
    double (*call)(double) = AS(double (*)(double), f);
    pthread_t thread;
    pthread_create(&thread, NULL, call_once, &call);
    while (!atomic_load(&begun))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    freed(f);
    cr_assert_eq(atomic_load(&ended), 1);
    pthread_join(thread, NULL);
    wg_plan_free(plan);
    wg_tensor_free(leaf);
    wg_tape_free(tape);
}

/* ---- larger plans ---- */

Test(function, gradients_of_an_unrolled_cell_follow_weights_that_change_in_place) {
    enum { T = 7, B = 6, I = 5, H = 20 };
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(NULL, "lstm", 0, NULL, &error);
    wg_params *p = wg_cell_draw(NULL, cell, WG_F64, I, H, &(wg_draw){.seed = 3}, &error);
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = taped_random(NULL, WG_F64, 3, (const int64_t[]){T, B, I}, 5), *u_f = wg_params_find(p, "U_f");
    wg_named given[20];
    wg_var weight = {0};
    int n = wg_params_count(p);
    for (int i = 0; i < n; i++) {
        given[i] = (wg_named){wg_params_name(p, i), wg_leaf(tape, wg_params_tensor(p, i))};
        if (wg_params_tensor(p, i) == u_f)
            weight = given[i].var;
    }
    given[n] = (wg_named){"x", wg_leaf(tape, x)};
    wg_unroll *u = wg_unroll_new(tape, cell, I, H, n + 1, given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(tape));
    wg_var loss = wg_sum(square(wg_unroll_output(u)), 0, NULL, false), d;
    cr_assert_eq(wg_grad(loss, 1, &weight, &d), WG_OK);
    wg_plan *plan = wg_compile(2, (const wg_var[]){loss, d}, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_function *f = made(plan, objective_text, 1, &u_f);
    double *own = calloc(H * H, sizeof *own), *g = calloc(H * H, sizeof *g);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < H * H; i++)
            wg_tensor_set(u_f, i, own[i] = sin(i + round) / 4);
        wg_tensor *want[2];
        cr_assert_eq(wg_eval(2, (const wg_var[]){loss, d}, want, &error), WG_OK);
        wg_tensor_fill(u_f, 100); /* not what is to be read */
        double y = AS(objective *, f)(H * H, own, g, NULL);
        cr_assert_float_eq(y, wg_tensor_get(want[0], 0), 1e-12 * fabs(y));
        for (int i = 0; i < H * H; i++)
            cr_assert_float_eq(g[i], wg_tensor_get(want[1], i), 1e-12, "round %d, element %d", round, i);
        wg_tensor_free(want[0]), wg_tensor_free(want[1]);
    }
    free(own), free(g);
    freed(f);
    wg_plan_free(plan);
    wg_unroll_free(u);
    wg_tensor_free(x);
    wg_params_free(p);
    wg_tape_free(tape);
    wg_cell_free(cell);
}

/* ---- what is refused ---- */

static void refused(const wg_plan *plan, int n, wg_tensor *const *leaf, const char *prototype, wg_status status, const char *line) {
    wg_error error = {0};
    cr_expect_null(wg_plan_function(plan, prototype, &(wg_function_options){.n = n, .leaf = leaf}, &error), "%s", prototype);
    error.text[strcspn(error.text, "\n")] = 0;
    cr_expect_str_eq(error.text, line);
    cr_expect_eq(error.status, status, "%s", error.text);
}

Test(function, what_cannot_be_such_a_function_says_where) {
    cubes c = cubes_of(NULL, WG_F64, 3);
    wg_tensor *const leaf[] = {c.point};
#define REFUSED(text, status, line) refused(c.plan, 1, leaf, text, status, line)
    REFUSED("double f(double *x: spot): value", WG_SYNTAX,
            "prototype:1:10: there is no role spot: known are point, in K, value, gradient, out K, size, stride, user and status");
    REFUSED("double f(double *x: in): value", WG_SYNTAX, "prototype:1:10: the role in needs a number: which of them");
    REFUSED("double f(double *x: point 1): value", WG_SYNTAX, "prototype:1:10: the role point takes no number");
    REFUSED("double f(double *x: in 1): value", WG_NOT_FOUND, "prototype:1:10: there is no leaf 1: there are 1");
    REFUSED("double f(int n: size 2): value", WG_NOT_FOUND, "prototype:1:10: there is no leaf 2: there are 1");
    REFUSED("double f(double *x: out 2): value", WG_NOT_FOUND, "prototype:1:10: there is no output 2: there are 2");
    REFUSED("double f(double *x: point, double *y: in 0): value", WG_CONFLICT, "prototype:1:28: two parameters have this role");
    REFUSED("double f(double *x: out 1, double *y: gradient): value", WG_CONFLICT, "prototype:1:28: two parameters have this role");
    REFUSED("double f(double *x)", WG_ARGUMENT, "prototype:1:1: what is returned? say ': value' or ': status' behind the parameters");
    REFUSED("double f(double *x): point", WG_ARGUMENT, "prototype:1:1: what is returned is a value or a status");
    REFUSED("double f(int x: status): value", WG_ARGUMENT, "prototype:1:10: a status is returned");
    REFUSED("double f(double *x): status", WG_DTYPE, "prototype:1:1: a size, a stride and a status are integers");
    REFUSED("double f(double n: size): value", WG_DTYPE, "prototype:1:10: a size, a stride and a status are integers");
    REFUSED("double *f(double *x: point): value", WG_UNSUPPORTED, "prototype:1:1: only numbers can be returned");
    REFUSED("double f(double *x): gradient", WG_SHAPE, "prototype:1:1: a number in the place of (3)");
    REFUSED("double f(double x: point): value", WG_SHAPE, "prototype:1:10: a number in the place of (3)");
    REFUSED("double f(float *x: point): value", WG_DTYPE, "prototype:1:10: 'float *' in the place of f64");
    REFUSED("double f(unsigned *x: point): value", WG_DTYPE, "prototype:1:10: 'unsigned *' in the place of f64");
    REFUSED("double f(struct {int a;} x: point): value", WG_DTYPE, "prototype:1:10: 'struct {int;}' is no array and no number");
    REFUSED("double f(const double *g: gradient): value", WG_ARGUMENT, "prototype:1:10: what is const cannot be written");
    REFUSED("double f(double y: value): value", WG_ARGUMENT, "prototype:1:10: a result is written through a pointer, or returned");
    REFUSED("double f(struct {double x[3]: point;} *s): value", WG_UNSUPPORTED, "prototype:1:25: an array inside of a struct has no role");
    REFUSED("double f(double *x: point): valu", WG_SYNTAX,
            "prototype:1:1: there is no role valu: known are point, in K, value, gradient, out K, size, stride, user and status");
    REFUSED("double f(doble *x)", WG_SYNTAX,
            "prototype:1:10: there is no type 'doble': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose fields "
            "are written out");
    refused(c.plan, 1, (wg_tensor *const[]){NULL}, "double f(void): value", WG_ARGUMENT, "function: leaf 0 is NULL");
    cubes_free(&c);
}

static void *no_closure(size_t size, void **code) {
    (void)size, (void)code;
    return NULL;
}

Test(function, a_system_without_executable_closures_says_so) {
    cubes c = cubes_of(NULL, WG_F64, 3);
    void *(*real)(size_t, void **) = wg__closure_alloc;
    wg__closure_alloc = no_closure;
    refused(c.plan, 1, &c.point, objective_text, WG_UNSUPPORTED, "function: the system allows no functions made at run time (executable closures)");
    wg__closure_alloc = real;
    cubes_free(&c);
}

/* ---- failures ---- */

static void tell(void *user, const wg_error *error) { *(wg_error *)user = *error; }

Test(function, a_call_that_fails_tells_its_caller) {
    cubes c = cubes_of(NULL, WG_F64, 3);
    wg_error told = {0}, error = {0};
    wg_function *f = wg_plan_function(c.plan, objective_text,
                                      &(wg_function_options){.n = 1, .leaf = &c.point, .failed = tell, .user = &told}, &error);
    cr_assert_not_null(f, "%s", error.text);
    double x[3] = {1, 2, 3}, g[3] = {1, 1, 1};
    cr_assert(isnan(AS(objective *, f)(4, x, g, NULL)));
    cr_assert_str_eq(told.text, "function: n is 4, the leaf has 3 elements");
    cr_assert(isnan(g[0]) && isnan(g[2]));
    cr_assert_eq(AS(objective *, f)(3, x, g, NULL), 36);
    freed(f);
    cubes_free(&c);
}

static wg_status make_and_call(wg_memory *memory, const cubes *c) {
    (void)memory;
    wg_error error = {0};
    wg_function *f = wg_plan_function(c->plan, objective_text, &(wg_function_options){.n = 1, .leaf = &c->point}, &error);
    if (!f)
        return error.status;
    double x[3] = {1, 2, 3}, g[3];
    double y = AS(objective *, f)(3, x, g, NULL);
    wg_status status = wg_function_status(f, &error);
    cr_assert(status == WG_OK ? y == 36 : isnan(y));
    freed(f);
    return status;
}

Test(function, running_out_of_memory_is_survived_wherever_it_happens) {
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        cubes c = cubes_of(memory, WG_F64, 3);
        f.fail = f.calls + k;
        wg_status status = make_and_call(memory, &c);
        reached = failing_failed(&f);
        cr_assert_eq(status, reached ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, wg_status_name(status));
        cubes_free(&c);
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        wg_memory_free(memory);
        cr_assert_lt(k, 1000);
    }
}

/* A second workspace is wanted while the first is in use, and there is no memory for it. */
static failing *starved;
static double starve(double x) {
    starved->fail = starved->calls + 1;
    return again(x);
}

Test(function, a_call_without_memory_for_its_workspace_fails_alone) {
    failing f;
    wg_memory *memory = failing_memory(&f, 0);
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *leaf = wg_tensor_new(memory, WG_F64, 0, NULL);
    wg_plan *plan = calling_plan(tape, leaf);
    wg_function *function = made(plan, "double f(double x: point): value", 1, &leaf);
    inner_function = function;
    again = AS(double (*)(double), function);
    inner_call = starve;
    starved = &f;
    cr_assert(isnan(again(1)));
    wg_error error = {0};
    cr_assert_eq(wg_function_status(function, &error), WG_MEMORY);
    inner_call = half_until_small;
    cr_assert_eq(again(1.5), 2);
    freed(function);
    wg_plan_free(plan);
    wg_tensor_free(leaf);
    wg_tape_free(tape);
    cr_assert_eq(f.live, 0);
    wg_memory_free(memory);
}
