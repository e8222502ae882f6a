/* Plans as C functions: calls from many threads, inside each other, with stores, and calls that fail. */
#include "suite.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "called.h"
#include "failing.h"

/* ---- as callbacks ---- */

Test(function_calls, plan_is_the_comparator_of_qsort) {
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

static double through(void *user, double x) { return (*(map **)user)(x); }

Test(function_calls, functions_are_called_inside_each_other) {
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

Test(function_calls, function_calls_itself_as_deep_as_there_may_be_calls) {
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
Test(function_calls, function_is_not_waited_for_by_what_it_calls) {
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

Test(function_calls, function_is_not_freed_inside_its_own_call) {
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

Test(function_calls, eight_threads_call_at_once_however_many_may) {
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
        objective *f = (objective *)FUNCTION(&s, OBJECTIVE, .most = most[m]);
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

Test(function_calls, no_more_calls_go_on_than_may_and_as_many_as_may) {
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

Test(function_calls, free_waits_for_calls_on_other_threads) {
    for (int callers = 1; callers <= 3; callers++)
        free_during(callers);
}

static double pass(void *user, double x) { return enter(user, x); }

static void stay(void *user, const wg_error *error) {
    (void)error;
    enter(user, 0);
}

/* One call has the only workspace, the next is refused another and stays in its callback. */
Test(function_calls, free_waits_for_calls_that_fail_for_want_of_a_workspace) {
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

Test(function_calls, plan_with_stores_takes_one_call_at_a_time) {
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

Test(function_calls, call_of_a_plan_with_stores_waits_for_the_one_under_way) {
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

Test(function_calls, failed_call_returns_nan_and_fills_its_outputs) {
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

Test(function_calls, wrong_size_fails_and_overruns_nothing) {
    subject s = valley(WG_F64, 30);
    objective *f = (objective *)FUNCTION(&s, OBJECTIVE);
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

Test(function_calls, array_that_is_not_aligned_to_its_elements_fails_the_call) {
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

Test(function_calls, second_workspace_that_is_refused_fails_the_call_alone) {
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

Test(function_calls, survives_every_refused_allocation) {
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

Test(function_calls, system_without_executable_closures_is_said_so) {
    subject s = valley(WG_F64, 3);
    wg_error error = {0};
    void *(*usual)(size_t, void **) = wg__closure_alloc;
    compile(&s);
    wg__closure_alloc = no_closure;
    cr_assert_null(wg_plan_function(s.plan, OBJECTIVE, &(wg_function_options){.n = 1, .leaf = s.leaf}, &error));
    wg__closure_alloc = usual;
    cr_assert_eq(error.status, WG_UNSUPPORTED);
    cr_assert_str_eq(error.text, "a plan's C function: the system allows no executable closures");
    end(&s);
}

/* ---- more failures ---- */

typedef struct strided {
    int64_t stride;
    double *data;
} strided;

Test(function_calls, failed_call_writes_nothing_by_a_stride_that_leads_nowhere) {
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

Test(function_calls, op_that_fails_fails_the_call_and_nothing_else) {
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

Test(function_calls, callback_may_ask_for_the_status_and_may_not_free) {
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

Test(function_calls, call_inside_a_call_survives_every_refused_allocation) {
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

Test(function_calls, call_that_is_refused_a_workspace_lets_another_try) {
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
