/* bench_tape.c: what the tape itself costs: W7, a chain of scalar ops recorded, differentiated and evaluated again and
 * again, and replayed by a plan beside a loop written by hand; and recording and compiling a recurrence of a thousand to a hundred thousand nodes. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- W7 ---- */

/* TOTAL: of those before it. REPLAY: the same values and derivative by a compiled plan. LOOP: by a loop written by hand. */
enum { RECORD, DIFFERENTIATE, EVALUATE, TOTAL, REPLAY, LOOP, STAGES };
static const char *const stage_name[STAGES] = {"record", "differentiate", "evaluate", "total", "replay", "loop"};

typedef struct chain {
    const bench_arguments *a;
    const workload *w;
    wg_memory *memory;
    wg_tape *tape; /* wound back to `mark` before each pass */
    wg_mark mark;
    wg_tensor *start;
    wg_plan *plan;
    double compile_seconds;
    float *value; /* (ops + 1), of the loop */
} chain;

const double chain_start = 0.6;
static const float addend = -0.016771f, factor = 1.0927326f;

/* Of x_0, by turns tanh(x), x - 0.016771, 1.0927326 x: it goes to 0.3, where the slope of three is 1, so that neither
 * values nor derivatives vanish. */
wg_var chain_record(wg_var x, int64_t ops) {
    for (int64_t i = 0; i < ops; i++)
        x = i % 3 == 0 ? wg_tanh(x) : i % 3 == 1 ? wg_add(x, wg_c((double)addend)) : wg_mul(x, wg_c((double)factor));
    return x;
}

/* dx_n/dx_0; x_n is the last value. */
static float chain_by_hand(float *x, int64_t ops) {
    float slope = 1;
    x[0] = (float)chain_start;
    for (int64_t i = 0; i < ops; i++)
        x[i + 1] = i % 3 == 0 ? tanhf(x[i]) : i % 3 == 1 ? x[i] + addend : x[i] * factor;
    for (int64_t i = ops; i-- > 0;)
        slope *= i % 3 == 0 ? 1 - x[i + 1] * x[i + 1] : i % 3 == 1 ? 1 : factor;
    return slope;
}

/* Every op's rounding scales the slope a little: what is near is its logarithm. */
static bool is_near(double a, double b) { return fabs(log(a) - log(b)) <= 1e-2 * (1 + fabs(log(b))); }

static int replay(chain *c, double *spent) {
    wg_error error = {0};
    double start = seconds();
    if (wg_run(c->plan, &error) != WG_OK)
        return fail_error(&c->a->common, &error);
    spent[REPLAY] = seconds() - start;
    start = seconds();
    double slope = (double)chain_by_hand(c->value, c->w->steps);
    spent[LOOP] = seconds() - start;
    double ours = wg_tensor_get(wg_plan_output(c->plan, 1), 0);
    return is_near(ours, slope) ? 0 : fail(&c->a->common, "%s: the derivative is %g, by hand %g", c->w->name, ours, slope);
}

/* One pass; the seconds of each stage. The first compiles. */
static int run_chain(chain *c, double *spent) {
    const common *m = &c->a->common;
    wg_error error = {0};
    wg_tensor *out[2];
    wg_var y[2];
    wg_run_options run = m->run;
    run.threads = 1;
    wg_tape_rewind(c->tape, c->mark);
    wg_tensor_set(c->start, 0, chain_start);
    double at[TOTAL + 1];
    at[0] = seconds();
    wg_var x = wg_leaf(c->tape, c->start);
    y[0] = chain_record(x, c->w->steps);
    at[1] = seconds();
    if (wg_grad(y[0], 1, &x, &y[1]) != WG_OK)
        return fail(m, "%s: %s", c->w->name, wg_tape_message(c->tape));
    at[2] = seconds();
    if (wg_eval_with(&run, 2, y, out, &error) != WG_OK)
        return fail_error(m, &error);
    at[3] = seconds();
    for (int i = 0; i < TOTAL; i++)
        spent[i] = at[i + 1] - at[i];
    spent[TOTAL] = at[3] - at[0];
    wg_tensor_free(out[0]);
    wg_tensor_free(out[1]);
    double start = seconds();
    if (!c->plan && !(c->plan = wg_compile(2, y, &(wg_compile_options){.run = run}, &error)))
        return fail_error(m, &error);
    c->compile_seconds = c->compile_seconds > 0 ? c->compile_seconds : seconds() - start;
    return replay(c, spent);
}

static void print_chain(const chain *c, const timing *t, double peak, int64_t nodes) {
    double ns = 1e9 / (double)c->w->steps;
    if (!c->a->common.json) {
        printf("%s %s, one thread, ns an op: median (least) of %lld\n", c->w->name, c->w->what, (long long)t[0].runs);
        for (int i = 0; i < STAGES; i++)
            printf("  %-14s %8.2f  (%.2f)\n", stage_name[i], t[i].median * ns, t[i].least * ns);
        printf("  %-14s %8.2f  once\n", "compile", c->compile_seconds * ns);
        return;
    }
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "workload", c->w->name);
    json_put_integer(&j, "threads", 1);
    json_put_number(&j, "seconds_median", t[TOTAL].median);
    json_put_number(&j, "seconds_min", t[TOTAL].least);
    json_put_integer(&j, "runs", t[TOTAL].runs);
    json_put_number(&j, "flops", 0);
    json_put_number(&j, "peak_flops", peak);
    json_put_integer(&j, "bytes", (int64_t)wg_memory_peak(c->memory));
    json_put_integer(&j, "ops", c->w->steps);
    json_put_integer(&j, "nodes", nodes);
    for (int i = 0; i < STAGES; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_ns_per_op", stage_name[i]);
        json_put_number(&j, key, t[i].median * ns);
    }
    json_put_number(&j, "compile_seconds", c->compile_seconds);
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

int bench_chain(const bench_arguments *a, const workload *w) {
    int64_t runs = a->runs;
    double *spent[STAGES], one[STAGES];
    chain c = {.a = a, .w = w, .memory = wg_memory_new(NULL, (size_t)a->common.memory_limit)};
    c.tape = c.memory ? wg_tape_new(c.memory) : NULL;
    c.start = c.tape ? wg_tensor_new(c.memory, WG_F32, 0, NULL) : NULL;
    c.value = allocate((size_t)w->steps + 1, sizeof *c.value);
    int status = c.start ? 0 : fail(&a->common, "%s: %s", w->name, wg_status_sentence(WG_MEMORY));
    for (int i = 0; i < STAGES; i++)
        spent[i] = allocate((size_t)runs, sizeof *spent[i]);
    c.mark = c.start ? wg_tape_mark(c.tape) : (wg_mark){0};
    for (int64_t k = -2; k < runs && status == 0; k++) { /* two to warm up */
        status = run_chain(&c, one);
        for (int i = 0; i < STAGES && k >= 0; i++)
            spent[i][k] = one[i];
    }
    if (status == 0) {
        timing t[STAGES];
        for (int i = 0; i < STAGES; i++)
            t[i] = timing_of(spent[i], runs, 1);
        print_chain(&c, t, peak_flops(1, WG_F32), wg_tape_count(c.tape));
    }
    for (int i = 0; i < STAGES; i++)
        free(spent[i]);
    free(c.value);
    wg_plan_free(c.plan);
    wg_tensor_free(c.start);
    wg_tape_free(c.tape);
    wg_memory_free(c.memory);
    return status;
}

/* ---- recording and compiling ---- */

enum { RECORDING, GRADIENT, COMPILING, AGAIN, COSTS };
static const char *const cost_name[COSTS] = {"record", "differentiate", "compile", "again"};

/* Over passes, the seconds of each cost of one tape of about `nodes` nodes, which are forward and backward; AGAIN: to record and
 * differentiate once more on a tape that was rewound, as a training loop does. */
static int measure_compile(const bench_arguments *a, int64_t nodes, int64_t *found, timing *cost) {
    workload w = {"recurrence", "LSTM", WORK_CELL, "lstm", NULL, 1, 8, 4, 8, 1, 0, 1, NULL};
    double *spent[COSTS];
    for (int i = 0; i < COSTS; i++)
        spent[i] = allocate((size_t)a->runs, sizeof *spent[i]);
    work k;
    int status = work_make(&k, a, &w, 1);
    if (status == 0)
        w.steps = nodes * w.steps / k.nodes > 1 ? nodes * w.steps / k.nodes : 1;
    work_free(&k);
    for (int64_t i = 0; i < a->runs && status == 0; i++) {
        status = work_make(&k, a, &w, 1);
        spent[RECORDING][i] = k.record_seconds;
        spent[GRADIENT][i] = k.grad_seconds;
        spent[COMPILING][i] = k.compile_seconds;
        *found = k.nodes;
        work_free(&k);
    }
    wg_tape *tape = wg_tape_new(a->common.memory);
    const wg_mark mark = wg_tape_mark(tape);
    for (int64_t i = -1; i < a->runs && status == 0; i++) { /* the first takes the memory */
        status = work_make_on(&k, a, &w, 1, tape);
        if (i >= 0)
            spent[AGAIN][i] = k.record_seconds + k.grad_seconds;
        work_free(&k);
        wg_tape_rewind(tape, mark);
    }
    wg_tape_free(tape);
    for (int i = 0; i < COSTS; i++) {
        cost[i] = timing_of(spent[i], a->runs, 1);
        free(spent[i]);
    }
    return status;
}

static void json_compile(int64_t nodes, const timing *cost) {
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "workload", "compile");
    json_put_integer(&j, "nodes", nodes);
    json_put_integer(&j, "runs", cost[0].runs);
    for (int i = 0; i < COSTS; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_seconds_median", cost_name[i]);
        json_put_number(&j, key, cost[i].median);
        snprintf(key, sizeof key, "%s_seconds_min", cost_name[i]);
        json_put_number(&j, key, cost[i].least);
    }
    double made = cost[RECORDING].median + cost[GRADIENT].median;
    json_put_number(&j, "record_ns_per_node", made * 1e9 / (double)nodes);
    json_put_number(&j, "again_ns_per_node", cost[AGAIN].median * 1e9 / (double)nodes);
    json_put_number(&j, "compile_ns_per_node", cost[COMPILING].median * 1e9 / (double)nodes);
    json_close(&j, '}');
    json_end_line(&j);
}

int bench_compile(const bench_arguments *a) {
    static const char *const head[] = {"nodes", "record ms", "differentiate ms", "compile ms", "record ns a node", "again ns a node", "compile ns a node"};
    table t = table_begin(7);
    for (int i = 0; i < 7; i++)
        table_cell(&t, "%s", head[i]);
    int status = 0;
    for (int64_t nodes = 1000; nodes <= 100000 && status == 0; nodes *= 10) {
        timing cost[COSTS];
        int64_t found = 1;
        status = measure_compile(a, nodes, &found, cost);
        if (status == 0 && a->common.json)
            json_compile(found, cost);
        table_cell(&t, "%lld", (long long)found);
        for (int i = 0; i < AGAIN; i++)
            table_cell(&t, "%.3f", cost[i].median * 1e3);
        table_cell(&t, "%.1f", (cost[RECORDING].median + cost[GRADIENT].median) * 1e9 / (double)found);
        table_cell(&t, "%.1f", cost[AGAIN].median * 1e9 / (double)found);
        table_cell(&t, "%.1f", cost[COMPILING].median * 1e9 / (double)found);
    }
    table_print(&t, status || a->common.json ? NULL : stdout);
    return status;
}
