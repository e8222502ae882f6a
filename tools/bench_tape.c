/* bench_tape.c: what the tape itself costs: W7, a chain of scalar ops recorded, differentiated and evaluated again and
 * again; and recording and compiling a recurrence of a thousand to a hundred thousand nodes. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* ---- W7 ---- */

enum { RECORD, DIFFERENTIATE, EVALUATE, TOTAL, STAGES };
static const char *const stage_name[STAGES] = {"record", "differentiate", "evaluate", "total"};

/* x_0 = 0.6; then by turns tanh(x), x - 0.016771, 1.0927326 x: it goes to 0.3, where the slope of three is 1, so that neither
 * values nor derivatives vanish. */
static wg_var record_chain(wg_var x, int64_t ops) {
    for (int64_t i = 0; i < ops; i++)
        x = i % 3 == 0 ? wg_tanh(x) : i % 3 == 1 ? wg_add(x, wg_c(-0.016771)) : wg_mul(x, wg_c(1.0927326));
    return x;
}

/* One pass on a tape that is wound back before it; the seconds of each stage. */
static int run_chain(const bench_arguments *a, wg_tape *tape, wg_mark mark, wg_tensor *start, int64_t ops, double *spent) {
    wg_error error = {0};
    wg_tensor *out[2];
    wg_var y[2];
    wg_run_options run = a->common.run;
    run.threads = 1;
    wg_tape_rewind(tape, mark);
    wg_tensor_set(start, 0, 0.6);
    double at[STAGES];
    at[0] = seconds();
    wg_var x = wg_leaf(tape, start);
    y[0] = record_chain(x, ops);
    at[1] = seconds();
    if (wg_grad(y[0], 1, &x, &y[1]) != WG_OK)
        return fail(&a->common, "W7: %s", wg_tape_message(tape));
    at[2] = seconds();
    if (wg_eval_with(&run, 2, y, out, &error) != WG_OK)
        return fail_error(&a->common, &error);
    at[3] = seconds();
    for (int i = 0; i < TOTAL; i++)
        spent[i] = at[i + 1] - at[i];
    spent[TOTAL] = at[3] - at[0];
    wg_tensor_free(out[0]);
    wg_tensor_free(out[1]);
    return 0;
}

static void print_chain(const bench_arguments *a, const workload *w, const timing *t, double peak, int64_t nodes, size_t bytes) {
    double ns = 1e9 / (double)w->steps;
    if (!a->common.json) {
        printf("%s %s, one thread, ns an op: median (least) of %lld\n", w->name, w->what, (long long)t[0].runs);
        for (int i = 0; i < STAGES; i++)
            printf("  %-14s %8.2f  (%.2f)\n", stage_name[i], t[i].median * ns, t[i].least * ns);
        return;
    }
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "workload", w->name);
    json_put_integer(&j, "threads", 1);
    json_put_number(&j, "seconds_median", t[TOTAL].median);
    json_put_number(&j, "seconds_min", t[TOTAL].least);
    json_put_integer(&j, "runs", t[TOTAL].runs);
    json_put_number(&j, "flops", 0);
    json_put_number(&j, "peak_flops", peak);
    json_put_integer(&j, "bytes", (int64_t)bytes);
    json_put_integer(&j, "ops", w->steps);
    json_put_integer(&j, "nodes", nodes);
    for (int i = 0; i < STAGES; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s_ns_per_op", stage_name[i]);
        json_put_number(&j, key, t[i].median * ns);
    }
    json_close(&j, '}');
    json_end_line(&j);
}

int bench_chain(const bench_arguments *a, const workload *w) {
    int64_t runs = a->runs, done = 0;
    double *spent[STAGES], one[STAGES];
    wg_memory *memory = wg_memory_new(NULL, (size_t)a->common.memory_limit);
    wg_tape *tape = memory ? wg_tape_new(memory) : NULL;
    wg_tensor *start = tape ? wg_tensor_new(memory, WG_F32, 0, NULL) : NULL;
    int status = start ? 0 : fail(&a->common, "%s: %s", w->name, wg_status_sentence(WG_MEMORY));
    for (int i = 0; i < STAGES; i++)
        spent[i] = allocate((size_t)runs, sizeof *spent[i]);
    wg_mark mark = start ? wg_tape_mark(tape) : (wg_mark){0};
    for (int64_t k = -2; k < runs && status == 0; k++) { /* two to warm up */
        status = run_chain(a, tape, mark, start, w->steps, one);
        for (int i = 0; i < STAGES && k >= 0; i++)
            spent[i][k] = one[i];
        done += k >= 0;
    }
    if (status == 0) {
        timing t[STAGES];
        for (int i = 0; i < STAGES; i++)
            t[i] = timing_of(spent[i], done, 1);
        print_chain(a, w, t, peak_flops(1, WG_F32), wg_tape_count(tape), wg_memory_peak(memory));
    }
    for (int i = 0; i < STAGES; i++)
        free(spent[i]);
    wg_tensor_free(start);
    wg_tape_free(tape);
    wg_memory_free(memory);
    return status;
}

/* ---- recording and compiling ---- */

enum { RECORDING, GRADIENT, COMPILING, COSTS };
static const char *const cost_name[COSTS] = {"record", "differentiate", "compile"};

/* Over passes, the seconds of each cost of one tape of about `nodes` nodes, which are forward and backward. */
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
    json_put_number(&j, "compile_ns_per_node", cost[COMPILING].median * 1e9 / (double)nodes);
    json_close(&j, '}');
    json_end_line(&j);
}

int bench_compile(const bench_arguments *a) {
    static const char *const head[] = {"nodes", "record ms", "differentiate ms", "compile ms", "record ns a node", "compile ns a node"};
    table t = table_begin(6);
    for (int i = 0; i < 6; i++)
        table_cell(&t, "%s", head[i]);
    int status = 0;
    for (int64_t nodes = 1000; nodes <= 100000 && status == 0; nodes *= 10) {
        timing cost[COSTS];
        int64_t found = 1;
        status = measure_compile(a, nodes, &found, cost);
        if (status == 0 && a->common.json)
            json_compile(found, cost);
        table_cell(&t, "%lld", (long long)found);
        for (int i = 0; i < COSTS; i++)
            table_cell(&t, "%.3f", cost[i].median * 1e3);
        table_cell(&t, "%.1f", (cost[RECORDING].median + cost[GRADIENT].median) * 1e9 / (double)found);
        table_cell(&t, "%.1f", cost[COMPILING].median * 1e9 / (double)found);
    }
    table_print(&t, status || a->common.json ? NULL : stdout);
    return status;
}
