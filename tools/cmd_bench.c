/* cmd_bench.c: `wengert bench`: times the standard workloads, or any cell, beside the machine's own multiply-add peak and,
 * if asked, PyTorch, in one run. */
#include "bench.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"batch", "B", OPTION_INTEGER, FIELD(bench_arguments, batch), "32", 1, 1 << 24, .help = "Rows."},
    {"steps", "T", OPTION_INTEGER, FIELD(bench_arguments, steps), "64", 1, 1 << 24, .help = "Steps."},
    {"input", "N", OPTION_INTEGER, FIELD(bench_arguments, input), "128", 1, 1 << 24, .help = "Input size."},
    {"hidden", "N", OPTION_INTEGER, FIELD(bench_arguments, hidden), "256", 1, 1 << 24, .help = "Hidden size."},
    {"layers", "N", OPTION_INTEGER, FIELD(bench_arguments, layers), "1", 1, 1024, .help = "Layers."},
    {"type", "TYPE", OPTION_CHOICE, FIELD(bench_arguments, type), "f32", .choices = "f32|f64", .help = "What is computed with."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(bench_arguments, set), .help = "Set a size or const of a cell."},
    {"runs", "N", OPTION_INTEGER, FIELD(bench_arguments, runs), "7", 7, 1 << 20, .help = "Batches of runs to take the median of."},
    {"seconds", "S", OPTION_NUMBER, FIELD(bench_arguments, seconds), "0.2", 0, 3600,
     .help = "How long a batch lasts: it has as many runs as fit, and at least one."},
    {"peers", NULL, OPTION_FLAG, FIELD(bench_arguments, peers),
     .help = "Run PyTorch in turn, where it is installed, and print ratios (PyTorch's time over ours)."},
    {"compile", NULL, OPTION_FLAG, FIELD(bench_arguments, compile),
     .help = "Measure recording and compiling instead, of an LSTM unrolled to about 10^3, 10^4 and 10^5 nodes."},
    {0},
};

/* One line of the results. */
typedef struct result {
    timing ours, peer;
    peer who;
    int threads;
    double peak;
} result;

/* ---- measuring ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

timing timing_of(double *spent, int64_t runs, int64_t repeats) {
    qsort(spent, (size_t)runs, sizeof *spent, by_value);
    double median = runs % 2 ? spent[runs / 2] : (spent[runs / 2 - 1] + spent[runs / 2]) / 2;
    return (timing){runs, repeats, median, spent[0]};
}

static int run_batch(work *k, int64_t repeats, double *spent) {
    double start = seconds();
    for (int64_t i = 0; i < repeats; i++)
        if (work_run(k) != 0)
            return 1;
    *spent = (seconds() - start) / (double)repeats;
    return 0;
}

/* Batches of ours and the peer's by turns, after both are warm. */
static int measure(work *k, result *r) {
    const bench_arguments *a = k->a;
    double *ours = allocate((size_t)a->runs, sizeof *ours), *peers = allocate((size_t)a->runs, sizeof *peers), one = 1;
    int status = run_batch(k, 2, &one);
    status = status ? status : run_batch(k, 1, &one);
    int64_t repeats = a->seconds > one ? (int64_t)(a->seconds / one) : 1;
    r->peak = peak_flops(r->threads, k->dtype);
    if (a->peers && k->w->peer && k->dtype == WG_F32 && status == 0)
        peer_start(&r->who, k, r->threads, a->seconds);
    for (int64_t i = 0; i < a->runs && status == 0; i++) {
        status = run_batch(k, repeats, &ours[i]);
        if (r->who.on && isnan(peers[i] = peer_run(&r->who))) {
            note(&a->common, "%s: PyTorch stopped", k->w->name);
            peer_stop(&r->who);
        }
    }
    r->peak = fmax(r->peak, peak_flops(r->threads, k->dtype));
    r->ours = timing_of(ours, a->runs, repeats);
    if (r->who.on)
        r->peer = timing_of(peers, a->runs, 0);
    free(ours);
    free(peers);
    return status;
}

/* ---- printing ---- */

static void print_json(const work *k, const result *r) {
    wg_plan_size size = wg_plan_measure(k->plan);
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "workload", k->w->name);
    json_put_integer(&j, "threads", r->threads);
    json_put_number(&j, "seconds_median", r->ours.median);
    json_put_number(&j, "seconds_min", r->ours.least);
    json_put_integer(&j, "runs", r->ours.runs);
    json_put_number(&j, "flops", k->flops);
    json_put_number(&j, "peak_flops", r->peak);
    json_put_integer(&j, "bytes", (int64_t)size.workspace_bytes);
    json_put_integer(&j, "repeats", r->ours.repeats);
    json_put_text(&j, "type", wg_dtype_name(k->dtype));
    json_put_integer(&j, "batch", k->w->batch);
    json_put_integer(&j, "steps", k->w->steps);
    json_put_integer(&j, "input", k->w->input);
    json_put_integer(&j, "hidden", k->w->hidden);
    json_put_integer(&j, "layers", k->w->layers);
    json_put_integer(&j, "nodes", k->nodes);
    json_put_integer(&j, "kernels", size.kernels);
    json_put_number(&j, "record_seconds", k->record_seconds);
    json_put_number(&j, "grad_seconds", k->grad_seconds);
    json_put_number(&j, "compile_seconds", k->compile_seconds);
    if (r->who.on) {
        json_key(&j, "pytorch");
        json_open(&j, '{');
        json_put_text(&j, "version", r->who.version);
        json_put_number(&j, "seconds_median", r->peer.median);
        json_put_number(&j, "seconds_min", r->peer.least);
        json_put_number(&j, "ratio", r->peer.median / r->ours.median);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

enum { COLUMNS = 12 };

static void add_head(table *t) {
    static const char *const head[COLUMNS] = {"workload", "threads",   "ms median", "ms least",     "GFLOP/s", "of peak",
                                              "MB",       "record ms", "grad ms",   "compile ms", "PyTorch ms", "ratio"};
    for (int i = 0; i < COLUMNS; i++)
        table_cell(t, "%s", head[i]);
}

static void add_row(table *t, const work *k, const result *r) {
    double rate = k->flops / r->ours.median;
    table_cell(t, "%s %s", k->w->name, k->w->what);
    table_cell(t, "%d", r->threads);
    table_cell(t, "%.3f", r->ours.median * 1e3);
    table_cell(t, "%.3f", r->ours.least * 1e3);
    table_cell(t, "%.1f", rate / 1e9);
    table_cell(t, "%.0f %%", 100 * rate / r->peak);
    table_cell(t, "%.1f", (double)wg_plan_measure(k->plan).workspace_bytes / 1e6);
    table_cell(t, "%.2f", k->record_seconds * 1e3);
    table_cell(t, "%.2f", k->grad_seconds * 1e3);
    table_cell(t, "%.2f", k->compile_seconds * 1e3);
    for (int i = 0; i < 2; i++) {
        if (r->who.on)
            table_cell(t, "%.*f", i ? 2 : 3, i ? r->peer.median / r->ours.median : r->peer.median * 1e3);
        else
            table_cell(t, "%s", "");
    }
}

/* ---- choosing ---- */

/* As many as --threads says; else what the workload is meant for, or the processors this process may use. */
static int threads_of(const bench_arguments *a, const workload *w) {
    cpu_set_t set;
    if (a->common.threads > 0)
        return (int)a->common.threads;
    if (w->threads)
        return w->threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

/* PyTorch has layers of these. */
static const char *peer_of(const char *cell) {
    static const char *const known[][2] = {{"rnn", "RNN"}, {"lstm", "LSTM"}, {"gru", "GRU"}};
    for (int i = 0; i < 3; i++)
        if (strcmp(cell, known[i][0]) == 0)
            return known[i][1];
    return NULL;
}

static int bench_one(const bench_arguments *a, const workload *w, table *t) {
    if (w->kind == WORK_CHAIN)
        return bench_chain(a, w);
    work k;
    result r = {.threads = threads_of(a, w)};
    int status = work_make(&k, a, w, r.threads);
    status = status ? status : measure(&k, &r);
    if (status == 0 && a->peers && w->peer && k.dtype == WG_F32 && !r.who.on)
        note(&a->common, "%s: PyTorch was not found", w->name);
    if (status == 0)
        a->common.json ? print_json(&k, &r) : add_row(t, &k, &r);
    peer_stop(&r.who);
    work_free(&k);
    return status;
}

/* Sizes from the command line are a cell's, and take the place of a standard workload's, whose name then has a star. */
static int bench_word(const bench_arguments *a, const char *word, table *t) {
    static const char *const sizes[] = {"batch", "steps", "input", "hidden", "layers"};
    const workload *standard = workload_find(word);
    workload w = {word, "", WORK_CELL, word, NULL, a->batch, a->steps, a->input, a->hidden, a->layers, 0, 0, peer_of(word)};
    bool changed = false;
    if (standard)
        w = *standard;
    int64_t *const size[] = {&w.batch, &w.steps, &w.input, &w.hidden, &w.layers};
    const int64_t given[] = {a->batch, a->steps, a->input, a->hidden, a->layers};
    for (int i = 0; i < 5; i++)
        if (standard && option_given(&a->common, sizes[i]) && *size[i] != given[i]) {
            *size[i] = given[i];
            changed = true;
        }
    char *name = format_text("%s%s", w.name, changed ? "*" : "");
    w.name = name;
    int status = bench_one(a, &w, t);
    free(name);
    return status;
}

static int run(void *arguments) {
    const bench_arguments *a = arguments;
    const words *word = &a->common.word;
    table t = table_begin(COLUMNS);
    int status = 0;
    if (a->compile)
        return bench_compile(a);
    add_head(&t);
    progress p = progress_begin();
    int count = word->count ? word->count : bench_workload_count;
    for (int i = 0; i < count && status == 0; i++) {
        const char *name = word->count ? word->word[i] : bench_workloads[i].name;
        progress_show(&p, true, "%s", name);
        status = bench_word(a, name, &t);
    }
    progress_end(&p);
    table_print(&t, status || a->common.json || t.cells == COLUMNS ? NULL : stdout);
    return status;
}

const subcommand bench_subcommand = {
    .name = "bench",
    .usage = "[CELL…]",
    .summary = "times the standard workloads, or any cell",
    .details =
        "Forward and backward with the gradients of all weights, of x and of the initial states, in steady state: every run begins "
        "after one element of every weight and of x was changed. Sizes given are those of a cell; those of a standard workload are its "
        "own, and if others are given, its name gets a star. GFLOP/s counts the products recorded; the peak is a "
        "multiply-add loop's on as many threads, measured in the same run. Without names, all standard workloads:\n"
        "\n"
        "  W1 LSTM, W4 GRU, W5 tanh RNN, W6 LSTM with layer norm and peepholes: batch 32, 64 steps, input 128, hidden 256\n"
        "  W2 LSTM: batch 64, 128 steps, 512, 512; W3 LSTM: one row, 100 steps, 32, 64, one thread\n"
        "  W7 a chain of 100,000 scalar ops recorded, differentiated and evaluated: ns an op\n"
        "  W8 a character model's whole step: embedding 64x128, LSTM 256, linear, cross-entropy, SGD\n"
        "\n"
        "--json prints one object a line: workload, threads, seconds_median, seconds_min (of one run), runs (batches measured), "
        "flops (of a run's products), peak_flops (a second), bytes (of the plan's workspace), and more.\n"
        "\n"
        "  wengert bench W1 W5 --threads 2 --peers\n"
        "  wengert bench my.cell --hidden 128 --steps 100",
    .options = options,
    .groups = TAKES_JSON | TAKES_RUN,
    .most_words = -1,
    .size = sizeof(bench_arguments),
    .run = run,
};
