/* bench_foreign.c: what the bridge to C costs: a plan called as a C function beside wg_run_in, and C functions as ops beside plain loops
 * that call them. Each measurement is the least of many; those compared are taken by turns. */
#include "bench.h"

#include <ffi.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 25, LARGE = 1 << 18 };

/* One comparison: two ways to do the same, so often in a round. */
typedef struct comparison {
    const char *what;
    int64_t elements; /* that a call handles */
    int64_t calls;    /* in a round */
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
    wg_tensor *array[2]; /* the caller's: */
    double *x, *g;
    double sum; /* so that nothing is left out */
} objective;

static void run_plan(void *user) {
    objective *o = user;
    wg_run(o->plan, NULL);
    o->sum += *(const double *)wg_tensor_data(wg_plan_output(o->plan, 0));
}

static void call_plan(void *user) {
    objective *o = user;
    o->sum += o->call(o->n, o->x, o->g);
}

/* The sum of squares of n numbers, and its gradient. */
static int objective_make(const common *c, objective *o, int64_t n) {
    wg_error error = {0};
    *o = (objective){.tape = wg_tape_new(c->memory), .point = wg_tensor_new(c->memory, WG_F64, 1, &n), .n = n,
                     .array = {wg_tensor_new(c->memory, WG_F64, 1, &n), wg_tensor_new(c->memory, WG_F64, 1, &n)}};
    if (!o->tape || !o->point || !o->array[0] || !o->array[1])
        return fail_memory(c);
    o->x = wg_tensor_write(o->array[0]);
    o->g = wg_tensor_write(o->array[1]);
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
    o->call = (double (*)(long, const double *, double *))wg_function_pointer(o->function);
    return 0;
}

static void objective_free(objective *o) {
    wg_function_free(o->function);
    wg_plan_free(o->plan);
    wg_tensor_free(o->point);
    wg_tape_free(o->tape);
    wg_tensor_free(o->array[0]);
    wg_tensor_free(o->array[1]);
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

/* ---- measuring ---- */

static double least(double before, const comparison *c, void (*way)(void *user)) {
    double begun = seconds();
    for (int64_t i = 0; i < c->calls; i++)
        way(c->user);
    double spent = (seconds() - begun) / (double)c->calls;
    return spent < before ? spent : before;
}

static void compare(const bench_arguments *a, table *t, const comparison *c) {
    double plain = INFINITY, bridged = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        plain = least(plain, c, c->plain);
        bridged = least(bridged, c, c->bridged);
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

static int compare_objectives(const bench_arguments *a, table *t) {
    int status = 0;
    for (int64_t n = 1; n <= 1000000 && status == 0; n *= 1000) {
        objective o;
        status = objective_make(&a->common, &o, n);
        if (status == 0)
            compare(a, t, &(comparison){"a plan as a C function beside wg_run", n, n == 1 ? 20000 : n == 1000 ? 4000 : 20, run_plan, call_plan, &o, false});
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
        compare(a, t, &(comparison){what, LARGE, 4, plain, run_op, &m, true});
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
    int status = compare_objectives(a, &t);
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
