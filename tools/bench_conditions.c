/* bench_conditions.c: what time and memory depend on beside the workload: threads, what is alive, gradients that vanish, a busy neighbour,
 * steps and rows. What is compared runs by turns, in the same minute. */
#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* One of two that are compared. */
typedef struct side {
    work *k;
    bool disturbed; /* by a process that is always busy */
    double *spent;
    int64_t repeats;
    timing time;
} side;

/* ---- a busy neighbour ---- */

/* A process that wants the last of this one's processors all the time, and ends with this one. Its number, or -1. */
static pid_t neighbour_start(void) {
    pid_t child = fork();
    if (child != 0)
        return child;
    cpu_set_t mine, last;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CPU_ZERO(&last);
    if (sched_getaffinity(0, sizeof mine, &mine) == 0)
        for (size_t i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &mine)) {
                CPU_ZERO(&last);
                CPU_SET(i, &last);
            }
    sched_setaffinity(0, sizeof last, &last);
    for (volatile unsigned spun = 0;;)
        spun = spun + 1;
}

static void neighbour_stop(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* ---- two by turns ---- */

static int side_run(side *s, int64_t batch) {
    pid_t child = s->disturbed ? neighbour_start() : 0;
    if (child < 0)
        return fail(&s->k->a->common, "cannot start a process");
    int status = work_batch(s->k, s->repeats, &s->spent[batch]);
    if (child > 0)
        neighbour_stop(child);
    return status;
}

static int sides_measure(const bench_arguments *a, side s[2]) {
    int status = 0;
    for (int i = 0; i < 2; i++) {
        s[i].spent = allocate((size_t)a->runs, sizeof(double));
        status = status ? status : work_warm(s[i].k, &s[i].repeats);
    }
    for (int64_t n = 0; n < 2 * a->runs && status == 0; n++)
        status = side_run(&s[n % 2], n / 2);
    for (int i = 0; i < 2; i++) {
        if (status == 0)
            s[i].time = timing_of(s[i].spent, a->runs, s[i].repeats);
        free(s[i].spent);
    }
    return status;
}

/* ---- what is compared ---- */

/* A chain's plan, which multiplies by `factor`. */
static int make_chain(work *k, const bench_arguments *a, const workload *w, double factor) {
    wg_error error = {0};
    *k = (work){.a = a, .w = w, .run = a->common.run, .dtype = WG_F32, .tape = wg_tape_new(a->common.memory)};
    k->run.threads = 1;
    wg_tensor *start = wg_tensor_new(a->common.memory, k->dtype, 0, NULL);
    if (!k->tape || !start) {
        wg_tensor_free(start);
        return fail_memory(&a->common);
    }
    wg_tensor_set(start, 0, 0.6);
    wg_var x = wg_leaf(k->tape, start), y[2] = {chain_record(x, w->steps, factor)};
    wg_tensor_free(start);
    if (wg_grad(y[0], 1, &x, &y[1]) != WG_OK)
        return fail(&a->common, "%s: %s", w->name, wg_tape_message(k->tape));
    k->plan = wg_compile(2, y, &(wg_compile_options){.run = k->run}, &error);
    return k->plan ? 0 : fail_error(&a->common, &error);
}

/* Only the last step's output is weighed, and weights are scaled: what comes back shrinks at every step. */
static void weigh_last(work *k, double scale) {
    wg_tensor *cotangent = wg_params_find(k->arrays, "cotangent");
    const int64_t count = wg_tensor_shape(cotangent)->count, last = count - count / k->w->steps;
    for (int64_t i = 0; i < last; i++)
        wg_tensor_set(cotangent, i, 0);
    for (int i = 0; i < k->touched; i++)
        if (wg_tensor_shape(k->touch[i])->rank < 3) /* a weight */
            for (int64_t j = 0; j < wg_tensor_shape(k->touch[i])->count; j++)
                wg_tensor_set(k->touch[i], j, scale * wg_tensor_get(k->touch[i], j));
}

typedef enum condition_kind { THREADS, VANISHING, CHAIN, NEIGHBOUR, ALIVE } condition_kind;
static const struct {
    condition_kind kind;
    const char *workload, *key, *what;
} conditions[] = {
    {THREADS, "W1", "threads", "on one thread, beside all"},
    {THREADS, "W2", "threads", "on one thread, beside all"},
    {THREADS, "W6", "threads", "on one thread, beside all"},
    {NEIGHBOUR, "W1", "neighbour", "with a busy process on one processor, beside none"},
    {NEIGHBOUR, "W5", "neighbour", "with a busy process on one processor, beside none"},
    {VANISHING, "W5", "vanishing", "gradients vanish, beside those that do not"},
    {CHAIN, "W7", "vanishing", "gradients vanish, beside those that do not"},
    {ALIVE, "W1", "memory", "the workspace, beside what is alive at once"},
};
enum { CONDITIONS = sizeof conditions / sizeof conditions[0] };

/* k[0] under the condition, k[1] beside it. */
static int make_sides(work k[2], const bench_arguments *a, const workload *w, condition_kind kind) {
    const int threads = workload_threads(a, w);
    int status = 0;
    for (int i = 0; i < 2 && status == 0; i++) {
        if (kind == CHAIN)
            status = make_chain(&k[i], a, w, i ? chain_factor() : chain_factor() / 2);
        else
            status = work_make(&k[i], a, w, kind == THREADS && i == 0 ? 1 : threads);
        if (kind == VANISHING && status == 0)
            weigh_last(&k[i], i ? 1 : 1e-3);
    }
    return status;
}

/* ---- printing ---- */

static void add_condition(const bench_arguments *a, table *t, int which, const workload *w, const double value[2]) {
    const bool bytes = conditions[which].kind == ALIVE;
    table_cell(t, "%s", conditions[which].what);
    table_cell(t, "%s %s", w->name, w->what);
    for (int i = 0; i < 2; i++)
        table_cell(t, bytes ? "%.1f MB" : "%.3f ms", value[i] * (bytes ? 1e-6 : 1e3));
    table_cell(t, "%.2f", value[0] / value[1]);
    if (!a->common.json)
        return;
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "condition", conditions[which].key);
    json_put_text(&j, "workload", w->name);
    json_put_number(&j, bytes ? "bytes" : "seconds_median", value[0]);
    json_put_number(&j, bytes ? "beside_bytes" : "beside_seconds_median", value[1]);
    json_put_number(&j, "ratio", value[0] / value[1]);
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

static int measure_condition(const bench_arguments *a, int which, table *t) {
    const condition_kind kind = conditions[which].kind;
    workload w;
    work k[2] = {0};
    char *name = workload_given(a, conditions[which].workload, &w);
    int status = make_sides(k, a, &w, kind);
    side s[2] = {{.k = &k[0], .disturbed = kind == NEIGHBOUR}, {.k = &k[1]}};
    if (status == 0 && kind != ALIVE)
        status = sides_measure(a, s);
    if (status == 0) {
        const wg_plan_size size = wg_plan_measure(k[0].plan);
        const double bytes[2] = {(double)size.workspace_bytes, (double)size.live_bytes};
        add_condition(a, t, which, &w, kind == ALIVE ? bytes : (double[]){s[0].time.median, s[1].time.median});
    }
    work_free(&k[0]);
    work_free(&k[1]);
    free(name);
    return status;
}

/* ---- growth ---- */

/* What compiling takes a node and pass; of steps, not of rows, which leave the program as it is. */
static double compile_cost(const work *k) {
    int passes = 0;
    while (wg_pass_name(passes))
        passes++;
    return k->compile_seconds / (double)k->nodes / passes;
}

static void add_size(const bench_arguments *a, table *t, const char *key, int64_t size, const work *k, const timing *time) {
    const bool steps = strcmp(key, "steps") == 0;
    const double bytes = (double)wg_plan_measure(k->plan).workspace_bytes;
    table_cell(t, "%s", key);
    table_cell(t, "%lld", (long long)size);
    table_cell(t, "%.3f", time->median * 1e6 / (double)size);
    table_cell(t, "%.3f", bytes * 1e-3 / (double)size);
    table_cell(t, "%lld", (long long)k->nodes);
    table_cell(t, steps ? "%.3f" : "-", compile_cost(k) * 1e6);
    if (!a->common.json)
        return;
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "condition", key);
    json_put_integer(&j, key, size);
    json_put_number(&j, "seconds_median", time->median);
    json_put_integer(&j, "bytes", (int64_t)bytes);
    json_put_integer(&j, "nodes", k->nodes);
    json_put_number(&j, "compile_seconds", k->compile_seconds);
    if (steps)
        json_put_number(&j, "compile_seconds_per_node_and_pass", compile_cost(k));
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

static int measure_size(const bench_arguments *a, const char *key, int64_t size, const workload *w, table *t) {
    work k = {0};
    side s = {.k = &k, .spent = allocate((size_t)a->runs, sizeof(double))};
    int status = work_make(&k, a, w, 1);
    status = status ? status : work_warm(&k, &s.repeats);
    for (int64_t i = 0; i < a->runs && status == 0; i++)
        status = side_run(&s, i);
    if (status == 0) {
        s.time = timing_of(s.spent, a->runs, s.repeats);
        add_size(a, t, key, size, &k, &s.time);
    }
    free(s.spent);
    work_free(&k);
    return status;
}

/* From the steps given, 64, to 1,024 times as many; from the rows, 32, to 64 times as many. */
static int measure_growth(const bench_arguments *a, table *t) {
    int status = 0;
    for (int64_t times = 1; times <= 1024 && status == 0; times *= times < 16 ? 16 : 8) {
        const workload w = {"steps", "LSTM", WORK_CELL, "lstm", NULL, 1, a->steps * times, 4, 8, 1, 0, 1, NULL};
        status = measure_size(a, "steps", w.steps, &w, t);
    }
    for (int64_t times = 1; times <= 64 && status == 0; times *= 8) {
        const workload w = {"rows", "LSTM", WORK_CELL, "lstm", NULL, a->batch * times, a->steps / 4 + 1, a->input, a->hidden, 1, 0, 1, NULL};
        status = measure_size(a, "rows", w.batch, &w, t);
    }
    return status;
}

int bench_conditions(const bench_arguments *a) {
    static const char *const head[] = {"condition", "workload", "median", "beside", "ratio"};
    static const char *const growth[] = {"LSTM by", "how many", "us each", "KB each", "nodes", "us a node and pass to compile"};
    table t = table_begin(5), g = table_begin(6);
    for (int i = 0; i < 5; i++)
        table_cell(&t, "%s", head[i]);
    for (int i = 0; i < 6; i++)
        table_cell(&g, "%s", growth[i]);
    int status = 0;
    progress p = progress_begin();
    for (int i = 0; i < CONDITIONS && status == 0; i++) {
        progress_show(&p, true, "%s %s", conditions[i].workload, conditions[i].what);
        status = measure_condition(a, i, &t);
    }
    progress_show(&p, true, "steps and rows");
    status = status ? status : measure_growth(a, &g);
    progress_end(&p);
    const bool print = status == 0 && !a->common.json;
    table_print(&t, print ? stdout : NULL);
    if (print)
        putchar('\n');
    table_print(&g, print ? stdout : NULL);
    return status;
}
