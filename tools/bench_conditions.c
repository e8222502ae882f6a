/* bench_conditions.c: what time and memory depend on beside the workload: threads, a busy neighbour, gradients that vanish, what is alive;
 * and how they grow with steps and rows. What is compared runs by turns, in the same minute. */
#include "bench.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- a busy neighbour ---- */

/* Whether this process has gone to the last processor that it may use. */
static bool move_to_last(void) {
    cpu_set_t mine, last;
    size_t at = CPU_SETSIZE;
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return false;
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        at = CPU_ISSET(i, &mine) ? i : at;
    CPU_ZERO(&last);
    if (at < CPU_SETSIZE)
        CPU_SET(at, &last);
    return sched_setaffinity(0, sizeof last, &last) == 0;
}

/* A process that wants the last processor all the time from when it is continued, and ends with this one. It is stopped. -1: none. */
static pid_t neighbour_start(void) {
    const pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0); /* who stops and continues this process does not continue that one */
        if (getppid() != parent || !move_to_last() || raise(SIGSTOP) != 0)
            _exit(1);
        for (volatile unsigned spun = 0;;)
            spun = spun + 1;
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
    return child > 0 && WIFSTOPPED(status) ? child : -1;
}

/* Whether it had any time. */
static bool neighbour_end(pid_t child) {
    struct rusage use;
    kill(child, SIGKILL);
    return wait4(child, NULL, 0, &use) == child && use.ru_utime.tv_sec + use.ru_utime.tv_usec > 0;
}

/* ---- two by turns ---- */

/* One of two that are compared. */
typedef struct side {
    work *k;
    pid_t neighbour; /* that is busy meanwhile; or 0 */
    int64_t repeats;
    timing time;
} side;

static int side_run(const side *s, double *spent) {
    work_pause();
    if (s->neighbour) {
        kill(s->neighbour, SIGCONT);
        nanosleep(&(struct timespec){.tv_nsec = 2 * 1000 * 1000}, NULL); /* until it is there */
    }
    int status = work_batch(s->k, s->repeats, spent);
    if (s->neighbour)
        kill(s->neighbour, SIGSTOP);
    return status;
}

static int sides_measure(const bench_arguments *a, side *s, int sides) {
    double *spent[2] = {0};
    int status = 0;
    for (int i = 0; i < sides; i++) {
        spent[i] = allocate((size_t)a->runs, sizeof(double));
        status = status ? status : work_warm(s[i].k, &s[i].repeats);
    }
    for (int64_t n = 0; n < sides * a->runs && status == 0; n++)
        status = side_run(&s[n % sides], &spent[n % sides][n / sides]);
    for (int i = 0; i < sides; i++) {
        if (status == 0)
            s[i].time = timing_of(spent[i], a->runs, s[i].repeats);
        free(spent[i]);
    }
    return status;
}

/* ---- what is compared ---- */

typedef enum condition_kind { THREADS, NEIGHBOUR, VANISHING, CHAIN, ALIVE } condition_kind;
static const struct {
    condition_kind kind;
    const char *workload, *key, *what;
} conditions[] = {
    {THREADS, "W1", "threads", "one thread"},
    {THREADS, "W2", "threads", "one thread"},
    {THREADS, "W6", "threads", "one thread"},
    {NEIGHBOUR, "W1", "neighbour", "a busy process on the last processor"},
    {NEIGHBOUR, "W5", "neighbour", "a busy process on the last processor"},
    {VANISHING, "W5", "vanishing", "gradients that underflow"},
    {CHAIN, "W7", "vanishing", "gradients that underflow"},
    {ALIVE, "W1", "memory", "the workspace, beside what is alive"},
};
enum { CONDITIONS = sizeof conditions / sizeof conditions[0] };

/* Gradients of this size are below the normal range where a factor is less than one. */
static double least_normal(wg_dtype dtype) { return dtype == WG_F32 ? (double)FLT_MIN : DBL_MIN; }

/* The chain's plan; its derivative begins from `seed`. */
static int make_chain(work *k, const bench_arguments *a, const workload *w, double seed) {
    wg_error error = {0};
    *k = (work){.a = a, .w = w, .run = a->common.run, .dtype = a->type == 0 ? WG_F32 : WG_F64, .tape = wg_tape_new(a->common.memory)};
    k->run.threads = 1;
    k->arrays = wg_params_new(a->common.memory);
    wg_tensor *start = wg_tensor_new(a->common.memory, k->dtype, 0, NULL), *first = wg_tensor_new(a->common.memory, k->dtype, 0, NULL);
    bool made = k->tape && k->arrays && start && first;
    if (made) {
        wg_tensor_set(start, 0, chain_start);
        wg_tensor_set(first, 0, seed);
        wg_var x = wg_leaf(k->tape, start), dy = wg_leaf(k->tape, first), y[2] = {chain_record(x, w->steps)};
        wg_vjp(1, y, &dy, 1, &x, &y[1]);
        k->plan = wg_compile(2, y, &(wg_compile_options){.run = k->run}, &error);
    }
    wg_tensor_free(start);
    wg_tensor_free(first);
    return k->plan ? 0 : made ? fail_error(&a->common, &error) : fail_memory(&a->common);
}

/* Outputs are weighed by so many times what was drawn. */
static void weigh(work *k, double scale) {
    wg_tensor *cotangent = wg_params_find(k->arrays, "cotangent");
    for (int64_t i = 0; i < wg_tensor_shape(cotangent)->count; i++)
        wg_tensor_set(cotangent, i, scale * wg_tensor_get(cotangent, i));
}

/* The side under the condition is the first. */
static int make_side(work *k, const bench_arguments *a, const workload *w, condition_kind kind, bool first) {
    if (kind == CHAIN)
        return make_chain(k, a, w, first ? least_normal(a->type == 0 ? WG_F32 : WG_F64) : 1);
    int status = work_make(k, a, w, kind == THREADS && first ? 1 : workload_threads(a, w));
    if (kind == VANISHING && status == 0)
        weigh(k, first ? least_normal(k->dtype) : 1);
    return status;
}

/* The largest element of the gradient by the initial state, which follows the output and, of a cell, the gradient by x. */
static double gradient_of(const work *k, condition_kind kind) {
    const wg_tensor *gradient = wg_plan_output(k->plan, kind == CHAIN ? 1 : 2);
    double largest = 0;
    for (int64_t i = 0; i < wg_tensor_shape(gradient)->count && !isnan(largest); i++)
        if (!(fabs(wg_tensor_get(gradient, i)) <= largest)) /* or is NaN, which then is the answer */
            largest = fabs(wg_tensor_get(gradient, i));
    return largest;
}

/* ---- printing ---- */

/* What was measured; a chain has steps alone. */
static void put_sizes(json *j, const work *k) {
    const workload *w = k->w;
    const char *const key[] = {"batch", "steps", "input", "hidden", "layers"};
    const int64_t size[] = {w->batch, w->steps, w->input, w->hidden, w->layers};
    json_put_text(j, "type", wg_dtype_name(k->dtype));
    for (int i = 0; i < 5; i++)
        if (size[i])
            json_put_integer(j, key[i], size[i]);
}

static void add_pair(const bench_arguments *a, table *t, int which, const side s[2]) {
    const condition_kind kind = conditions[which].kind;
    const workload *w = s[0].k->w;
    const wg_plan_size size = wg_plan_measure(s[0].k->plan);
    const bool bytes = kind == ALIVE;
    const double value[2] = {bytes ? (double)size.workspace_bytes : s[0].time.median, bytes ? (double)size.live_bytes : s[1].time.median};
    table_cell(t, "%s", conditions[which].what);
    table_cell(t, "%s %s", w->name, w->what);
    table_cell(t, "%d", s[!bytes].k->run.threads);
    for (int i = 0; i < 2; i++)
        table_cell(t, bytes ? "%.1f MB" : "%.3f ms", value[i] * (bytes ? 1e-6 : 1e3));
    table_cell(t, "%.2f", value[0] / value[1]);
    if (!a->common.json)
        return;
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "condition", conditions[which].key);
    json_put_text(&j, "workload", w->name);
    put_sizes(&j, s[0].k);
    for (int i = 0; i < 2; i++) {
        static const char *const keys[][2] = {{"bytes", "beside_bytes"}, {"seconds_median", "beside_seconds_median"}, {"seconds_min", "beside_seconds_min"},
                                              {"threads", "beside_threads"}, {"gradient", "beside_gradient"}};
        json_put_number(&j, keys[!bytes][i], value[i]);
        if (bytes)
            continue;
        json_put_number(&j, keys[2][i], s[i].time.least);
        json_put_integer(&j, keys[3][i], s[i].k->run.threads);
        if (kind == VANISHING || kind == CHAIN)
            json_put_number(&j, keys[4][i], gradient_of(s[i].k, kind));
    }
    json_put_number(&j, "ratio", value[0] / value[1]);
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

static int measure_pair(const bench_arguments *a, int which, table *t) {
    const condition_kind kind = conditions[which].kind;
    workload w;
    work k[2] = {0};
    char *name = workload_given(a, conditions[which].workload, &w);
    side s[2] = {{.k = &k[0]}, {.k = &k[1]}};
    int status = 0;
    if (kind == THREADS && workload_threads(a, &w) == 1) { /* which is all there are */
        free(name);
        return 0;
    }
    if (kind == NEIGHBOUR && (s[0].neighbour = neighbour_start()) < 0) /* before there are arrays, which it would share */
        status = fail(&a->common, "cannot keep a processor busy");
    status = status ? status : make_side(&k[0], a, &w, kind, true);
    if (kind != ALIVE) {
        status = status ? status : make_side(&k[1], a, &w, kind, false);
        status = status ? status : sides_measure(a, s, 2);
    }
    if (s[0].neighbour > 0 && !neighbour_end(s[0].neighbour) && status == 0)
        status = fail(&a->common, "the busy process had no time");
    if (status == 0)
        add_pair(a, t, which, s);
    work_free(&k[0]);
    work_free(&k[1]);
    free(name);
    return status;
}

static int measure_pairs(const bench_arguments *a, progress *p) {
    static const char *const head[] = {"condition", "workload", "threads", "median", "without", "ratio"};
    table t = table_begin(6);
    int status = 0;
    for (int i = 0; i < 6; i++)
        table_cell(&t, "%s", head[i]);
    for (int i = 0; i < CONDITIONS && status == 0; i++) {
        progress_show(p, true, "%s: %s", conditions[i].workload, conditions[i].what);
        status = measure_pair(a, i, &t);
    }
    progress_end(p);
    table_print(&t, status == 0 && !a->common.json ? stdout : NULL);
    return status;
}

/* ---- growth ---- */

static void add_size(const bench_arguments *a, table *t, const char *key, int64_t size, const work *k, const timing *time) {
    const double bytes = (double)wg_plan_measure(k->plan).workspace_bytes;
    table_cell(t, "%s", key);
    table_cell(t, "%lld", (long long)size);
    table_cell(t, "B%lld T%lld I%lld H%lld", (long long)k->w->batch, (long long)k->w->steps, (long long)k->w->input, (long long)k->w->hidden);
    table_cell(t, "%.3f", time->median * 1e6 / (double)size);
    table_cell(t, "%.3f", bytes * 1e-3 / (double)size);
    table_cell(t, "%lld", (long long)k->nodes);
    table_cell(t, "%.3f", k->compile_seconds * 1e6 / (double)k->nodes);
    if (!a->common.json)
        return;
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "condition", key);
    put_sizes(&j, k);
    json_put_number(&j, "seconds_median", time->median);
    json_put_integer(&j, "bytes", (int64_t)bytes);
    json_put_integer(&j, "nodes", k->nodes);
    json_put_number(&j, "compile_seconds", k->compile_seconds);
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

/* An LSTM on one thread. */
static int measure_size(const bench_arguments *a, const char *key, int64_t size, const workload *w, table *t) {
    work k = {0};
    side s = {.k = &k};
    int status = work_make(&k, a, w, 1);
    status = status ? status : sides_measure(a, &s, 1);
    if (status == 0)
        add_size(a, t, key, size, &k, &s.time);
    work_free(&k);
    return status;
}

/* From the steps given to 1,024 times as many, of so small a cell that the tape is what is large; from the rows given to 64 times as many. */
static int measure_growth(const bench_arguments *a, progress *p) {
    static const char *const head[] = {"LSTM, one thread, by", "how many", "sizes", "us each", "KB each", "nodes", "us a node to compile"};
    table t = table_begin(7);
    int status = 0;
    for (int i = 0; i < 7; i++)
        table_cell(&t, "%s", head[i]);
    for (int64_t times = 1; times <= 1024 && status == 0; times *= times < 16 ? 16 : 8) {
        const workload w = {"steps", "LSTM", WORK_CELL, "lstm", NULL, 1, a->steps * times, 4, 8, a->layers, 0, 1, NULL};
        progress_show(p, true, "%lld steps", (long long)w.steps);
        status = measure_size(a, "steps", w.steps, &w, &t);
    }
    for (int64_t times = 1; times <= 64 && status == 0; times *= 8) {
        const workload w = {"rows", "LSTM", WORK_CELL, "lstm", NULL, a->batch * times, 16, a->input, a->hidden, a->layers, 0, 1, NULL};
        progress_show(p, true, "%lld rows", (long long)w.batch);
        status = measure_size(a, "rows", w.batch, &w, &t);
    }
    progress_end(p);
    if (status == 0 && !a->common.json)
        putchar('\n');
    table_print(&t, status == 0 && !a->common.json ? stdout : NULL);
    return status;
}

int bench_conditions(const bench_arguments *a) {
    progress p = progress_begin();
    int status = measure_pairs(a, &p);
    return status ? status : measure_growth(a, &p);
}
