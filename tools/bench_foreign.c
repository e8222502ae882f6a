/* bench_foreign.c: what the bridge to C costs: a plan called as a C function beside wg_run_in, and C functions as ops beside plain loops
 * that call them. Each measurement is the least of many; those compared are taken by turns. */
#include "bench.h"

#include <ffi.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The least of many short batches is steadier than that of few long ones. */
enum { LARGE = 1 << 18, BATCHES_A_RUN = 4, SHORTER = 10 };

/* One comparison: two ways to do the same. */
typedef struct comparison {
    const char *what;
    int64_t elements; /* that a call handles */
    void (*plain)(void *user), (*bridged)(void *user);
    void *user;
    bool each; /* told by the element, not by the call */
} comparison;

/* ---- a plan as a C function ---- */

typedef struct objective {
    wg_tape *tape;
    wg_tensor *point;
    wg_plan *plan;
    wg_function *function;
    double (*call)(long n, const double *x, double *g);
    int64_t n;
    wg_tensor *arrays, *x[2], *g[2]; /* the caller's, which lie in the first */
    wg_workspace *space[2]; /* of runs on the one x and on the other */
    unsigned turn;
    double sum; /* so that nothing is left out */
} objective;

static void run_in(objective *o, unsigned which) {
    wg_run_in(o->plan, o->space[which], NULL, NULL);
    o->sum += *(const double *)wg_tensor_data(wg_workspace_output(o->space[which], 0));
}

static void call_on(objective *o, unsigned which) {
    o->sum += o->call(o->n, wg_tensor_data(o->x[which]), wg_tensor_write(o->g[which]));
}

static void run_plan(void *user) { run_in(user, 0); }
static void call_plan(void *user) { call_on(user, 0); }

/* With other arrays than the time before. */
static void run_plan_by_turns(void *user) { run_in(user, ((objective *)user)->turn++ & 1); }
static void call_plan_by_turns(void *user) { call_on(user, ((objective *)user)->turn++ & 1); }

/* The caller's arrays, no two at the same place of a page: what is written would delay what is read a little further on in another. */
static bool make_arrays(const common *c, objective *o) {
    enum { PAGE = 512 };
    const int64_t apart = (o->n + PAGE - 1) / PAGE * PAGE + PAGE / 4, all = 4 * apart;
    double *at = (o->arrays = wg_tensor_new(c->memory, WG_F64, 1, &all)) ? wg_tensor_write(o->arrays) : NULL;
    for (int i = 0; at && i < 4; i++, at += apart)
        *(i < 2 ? &o->x[i] : &o->g[i - 2]) = wg_tensor_wrap(c->memory, WG_F64, 1, &o->n, at, NULL, NULL);
    return o->x[0] && o->x[1] && o->g[0] && o->g[1];
}

/* The sum of squares of n numbers, and its gradient. */
static int objective_make(const common *c, objective *o, int64_t n) {
    wg_error error = {0};
    *o = (objective){.tape = wg_tape_new(c->memory), .point = wg_tensor_new(c->memory, WG_F64, 1, &n), .n = n};
    if (!o->tape || !o->point || !make_arrays(c, o))
        return fail_memory(c);
    wg_var x = wg_leaf(o->tape, o->point), g, y = wg_sum(wg_square(x), 0, NULL, false);
    wg_run_options run = c->run;
    run.threads = 1;
    if (wg_grad(y, 1, &x, &g) != WG_OK)
        return fail(c, "%s", wg_tape_message(o->tape));
    o->plan = wg_compile(2, (const wg_var[]){y, g}, &(wg_compile_options){.run = run}, &error);
    if (o->plan)
        o->function = wg_plan_function(o->plan, "double (*)(long n: size, const double *x: point, double *g: gradient): value",
                                       &(wg_function_options){.n = 1, .leaf = &o->point, .run = run}, &error);
    if (!o->function)
        return fail_error(c, &error);
    for (int i = 0; i < 2; i++) {
        if (!(o->space[i] = wg_workspace_new(o->plan)))
            return fail_memory(c);
        if (wg_workspace_rebind(o->space[i], o->point, o->x[i], &error) != WG_OK)
            return fail_error(c, &error);
    }
    o->call = (double (*)(long, const double *, double *))wg_function_pointer(o->function);
    return 0;
}

static void objective_free(objective *o) {
    wg_function_free(o->function);
    for (int i = 0; i < 2; i++) {
        wg_workspace_free(o->space[i]);
        wg_tensor_free(o->x[i]);
        wg_tensor_free(o->g[i]);
    }
    wg_plan_free(o->plan);
    wg_tensor_free(o->arrays);
    wg_tensor_free(o->point);
    wg_tape_free(o->tape);
}

/* ---- a C function as an op ---- */

static double (*volatile called)(double, int);
static double halves(double x, int n) { return x * 0.5 + n; }
static double half(double x) { return x * 0.5; }
static double (*volatile called_alone)(double) = half;
static void all_halves(long n, const double *x, double *y) {
    for (long i = 0; i < n; i++)
        y[i] = x[i] * 0.5;
}
static void (*volatile called_on_all)(long, const double *, double *) = all_halves;

typedef struct mapped {
    wg_tape *tape;
    wg_tensor *x, *y;
    wg_foreign *foreign;
    wg_plan *plan;
} mapped;

static void loop_two(void *user) {
    const mapped *m = user;
    const double *x = wg_tensor_data(m->x);
    double *y = wg_tensor_write(m->y);
    for (int64_t i = 0; i < LARGE; i++)
        y[i] = called(x[i], 3);
}

static void loop_one(void *user) {
    const mapped *m = user;
    const double *x = wg_tensor_data(m->x);
    double *y = wg_tensor_write(m->y);
    for (int64_t i = 0; i < LARGE; i++)
        y[i] = called_alone(x[i]);
}

static void loop_ffi(void *user) {
    const mapped *m = user;
    const double *x = wg_tensor_data(m->x);
    double *y = wg_tensor_write(m->y), at;
    int n = 3;
    ffi_cif cif;
    ffi_type *types[] = {&ffi_type_double, &ffi_type_sint32};
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 2, &ffi_type_double, types) != FFI_OK)
        return;
    for (int64_t i = 0; i < LARGE; i++) {
        at = x[i];
        ffi_call(&cif, (void (*)(void))halves, &y[i], (void *[]){&at, &n});
    }
}

static void call_all(void *user) {
    const mapped *m = user;
    called_on_all(LARGE, wg_tensor_data(m->x), wg_tensor_write(m->y));
}

static void run_op(void *user) { wg_run(((mapped *)user)->plan, NULL); }

static int mapped_make(const common *c, mapped *m, const wg_binding *binding) {
    const int64_t n = LARGE;
    wg_error error = {0};
    *m = (mapped){.tape = wg_tape_new(c->memory), .x = wg_tensor_new(c->memory, WG_F64, 1, &n), .y = wg_tensor_new(c->memory, WG_F64, 1, &n),
                  .foreign = wg_foreign_new(c->memory, NULL)};
    if (!m->tape || !m->x || !m->y || !m->foreign)
        return fail_memory(c);
    wg_tensor_fill(m->x, 0.75);
    const wg_op *op = wg_bind(m->foreign, binding, &error);
    if (!op)
        return fail_error(c, &error);
    wg_var x = wg_leaf(m->tape, m->x), y = wg_call_op(op, 1, &x);
    wg_run_options run = c->run;
    run.threads = 1;
    m->plan = wg_valid(y) ? wg_compile(1, &y, &(wg_compile_options){.run = run}, &error) : NULL;
    return m->plan ? 0 : fail(c, "%s%s", wg_tape_message(m->tape), error.text);
}

static void mapped_free(mapped *m) {
    wg_plan_free(m->plan);
    wg_foreign_free(m->foreign);
    wg_tensor_free(m->x);
    wg_tensor_free(m->y);
    wg_tape_free(m->tape);
}

/* ---- what libffi itself takes ---- */

typedef struct empty_closure {
    ffi_cif cif;
    ffi_type *types[3];
    ffi_closure *closure;
    double (*volatile call)(long n, const double *x, double *g);
    double (*volatile direct)(long n, const double *x, double *g);
} empty_closure;

static void give_one(ffi_cif *cif, void *result, void **arguments, void *user) {
    (void)cif, (void)arguments, (void)user;
    *(double *)result = 1;
}

static double one(long n, const double *x, double *g) {
    (void)n, (void)x, (void)g;
    return 1;
}

static void call_closure(void *user) { ((empty_closure *)user)->call(0, NULL, NULL); }
static void call_direct(void *user) { ((empty_closure *)user)->direct(0, NULL, NULL); }

/* ---- measuring ---- */

static double calls_take(const comparison *c, void (*way)(void *user), int64_t calls) {
    double begun = seconds();
    for (int64_t i = 0; i < calls; i++)
        way(c->user);
    return (seconds() - begun) / (double)calls;
}

static void compare(const bench_arguments *a, table *t, const comparison *c) {
    double plain = INFINITY, bridged = INFINITY, length = a->seconds / SHORTER;
    int64_t calls = 1;
    while (calls_take(c, c->bridged, calls) * (double)calls < fmax(length / 2, 1e-5)) /* more than a clock's step */
        calls *= 2;
    for (int64_t round = 0; round < BATCHES_A_RUN * a->runs; round++) {
        plain = fmin(plain, calls_take(c, c->plain, calls));
        bridged = fmin(bridged, calls_take(c, c->bridged, calls));
    }
    double unit = c->each ? 1e9 / (double)c->elements : 1e9;
    if (a->common.json) {
        json j = {.file = stdout};
        json_open(&j, '{');
        json_put_text(&j, "comparison", c->what);
        json_put_integer(&j, "elements", c->elements);
        json_put_text(&j, "of", c->each ? "element" : "call");
        json_put_number(&j, "plain_ns", plain * unit);
        json_put_number(&j, "bridged_ns", bridged * unit);
        json_close(&j, '}');
        json_end_line(&j);
        return;
    }
    table_cell(t, "%s", c->what);
    table_cell(t, "%lld", (long long)c->elements);
    table_cell(t, "%.2f", plain * unit);
    table_cell(t, "%.2f", bridged * unit);
    table_cell(t, "%.2f", (bridged - plain) * unit);
    table_cell(t, c->each ? "an element" : "a call");
}

/* A yardstick: where this is slow, so is all that follows. */
static int compare_closure(const bench_arguments *a, table *t) {
    empty_closure e = {.types = {&ffi_type_slong, &ffi_type_pointer, &ffi_type_pointer}, .direct = one};
    void *code;
    e.closure = ffi_closure_alloc(sizeof *e.closure, &code);
    if (!e.closure || ffi_prep_cif(&e.cif, FFI_DEFAULT_ABI, 3, &ffi_type_double, e.types) != FFI_OK ||
        ffi_prep_closure_loc(e.closure, &e.cif, give_one, NULL, code) != FFI_OK) {
        ffi_closure_free(e.closure);
        return fail(&a->common, "libffi makes no closure here");
    }
    e.call = (double (*)(long, const double *, double *))code;
    compare(a, t, &(comparison){"a closure of libffi that does nothing", 1, call_direct, call_closure, &e, false});
    ffi_closure_free(e.closure);
    return 0;
}

static int compare_objectives(const bench_arguments *a, table *t) {
    int status = 0;
    for (int64_t n = 1; n <= 1000000 && status == 0; n *= 1000) {
        objective o;
        status = objective_make(&a->common, &o, n);
        if (status == 0) {
            compare(a, t, &(comparison){"a plan as a C function beside wg_run", n, run_plan, call_plan, &o, false});
            compare(a, t, &(comparison){"the same, other arrays at each call", n, run_plan_by_turns, call_plan_by_turns, &o, false});
        }
        if (status == 0 && !isfinite(o.sum))
            status = fail(&a->common, "the sum is not finite");
        objective_free(&o);
    }
    return status;
}

static int compare_op(const bench_arguments *a, table *t, const char *what, const wg_binding *binding, void (*plain)(void *user)) {
    mapped m;
    int status = mapped_make(&a->common, &m, binding);
    if (status == 0)
        compare(a, t, &(comparison){what, LARGE, plain, run_op, &m, true});
    if (status == 0 && memcmp(wg_tensor_data(m.y), wg_tensor_data(wg_plan_output(m.plan, 0)), LARGE * sizeof(double)) != 0)
        status = fail(&a->common, "%s: the op does not give what the loop gives", what);
    mapped_free(&m);
    return status;
}

int bench_foreign(const bench_arguments *a) {
    static const char *const head[] = {"", "elements", "plain ns", "bridged ns", "more ns", ""};
    table t = table_begin(6);
    for (int i = 0; i < 6; i++)
        table_cell(&t, "%s", head[i]);
    called = halves;
    const wg_binding through = {.prototype = "double halves(double x, int n = 3)", .function = (void (*)(void))halves};
    const wg_binding direct = {.prototype = "double half(double x)", .function = (void (*)(void))half};
    const wg_binding array = {.prototype = "void all_halves(long n, const double *x, double *y)", .function = (void (*)(void))all_halves};
    wg_binding unchecked = array;
    unchecked.nan = true;
    int status = compare_closure(a, &t);
    if (status == 0)
        status = compare_objectives(a, &t);
    if (status == 0)
        status = compare_op(a, &t, "an op of a number through libffi beside a loop", &through, loop_two);
    if (status == 0)
        status = compare_op(a, &t, "the same beside a loop of libffi's own calls", &through, loop_ffi);
    if (status == 0)
        status = compare_op(a, &t, "an op of doubles alone beside a loop", &direct, loop_one);
    if (status == 0)
        status = compare_op(a, &t, "an op of arrays beside one call", &array, call_all);
    if (status == 0)
        status = compare_op(a, &t, "the same where NaN is a value", &unchecked, call_all);
    table_print(&t, status || a->common.json ? NULL : stdout);
    return status;
}
