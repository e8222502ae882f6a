/* cmd_bench.c: `wengert bench`: times the standard workloads, or any cell, beside the machine's own limits and, if
 * asked, its peers, in one run. */
#include "bench.h"

#include <math.h>
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
     .help = "Run PyTorch and oneDNN's recurrent primitives in turn with ours, where they are installed, and print ratios "
             "(a peer's time over ours)."},
    {"expert", "PROGRAM", OPTION_TEXT, FIELD(bench_arguments, expert),
     .help = "Run this program in turn too: one more peer, which speaks the peers' protocol."},
    {"kernels", "N", OPTION_INTEGER, FIELD(bench_arguments, kernels), "0", 0, 1 << 20,
     .help = "Print the N kernels that take most time, as `wengert graph` prints them."},
    {"compile", NULL, OPTION_FLAG, FIELD(bench_arguments, compile),
     .help = "Measure recording and compiling instead, of an LSTM unrolled to about 10^3, 10^4 and 10^5 nodes: on a new tape, and again "
             "on one that was rewound."},
    {"conditions", NULL, OPTION_FLAG, FIELD(bench_arguments, conditions),
     .help = "Measure instead what time and memory depend on beside the workload: threads, memory alive, gradients that vanish, a busy "
             "process on one of the processors; then how they grow with steps and rows, from those given on. Sizes given are the "
             "standard workloads' too."},
    {"foreign", NULL, OPTION_FLAG, FIELD(bench_arguments, foreign),
     .help = "Measure the bridge to C instead, on one thread: a plan called as a C function beside wg_run, and C functions as ops "
             "beside plain loops that call them; each the least of four times N batches of a tenth of S."},
    {0},
};

/* What is found out about one workload. */
typedef struct result {
    timing ours;
    peer peers[PEERS];
    int threads, products;
    double peak, peak_parts; /* the second: 0 where no product is made in parts */
    product product[PRODUCTS];
    profile profile;
} result;

/* The tables that are printed: our own figures, where the time goes, the peers' figures, the machine's. */
typedef struct tables {
    table ours, times, peers, limits;
} tables;

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

static void start_peers(const work *k, result *r) {
    const bench_arguments *a = k->a;
    for (int i = 0; i < PEERS; i++)
        if (i == PEER_EXPERT ? a->expert != NULL : a->peers) {
            peer_start(&r->peers[i], (peer_kind)i, k, r->threads);
            r->peers[i].spent = allocate((size_t)a->runs, sizeof(double));
        }
}

/* Beside peers. */
static void let_sleep(const bench_arguments *a) {
    if (a->peers || a->expert)
        work_pause();
}

static void run_peer(const bench_arguments *a, peer *p, int64_t batch) {
    if (!p->on)
        return;
    let_sleep(a);
    if (isnan(p->spent[batch] = peer_run(p))) {
        p->absent = "stopped";
        peer_stop(p);
    }
}

static void finish_peers(const work *k, result *r) {
    for (int i = 0; i < PEERS; i++) {
        peer *p = &r->peers[i];
        if (p->on)
            p->time = timing_of(p->spent, k->a->runs, 0);
        else if (p->key && k->a->common.json)
            note(&k->a->common, "%s: %s %s", k->w->name, p->name, p->absent);
    }
}

/* What the machine can do, before and after: the larger figures count. */
static void measure_limits(const work *k, result *r) {
    r->peak = fmax(r->peak, peak_flops(r->threads, k->dtype));
    r->peak_parts = fmax(r->peak_parts, peak_parts_flops(&k->a->common.run, r->threads, k->dtype));
    r->products = products_measure(k, r->threads, r->product);
}

/* Who comes at place k of n in this round, where in every other one they come the other way round, but for the last: nobody follows himself,
 * and of three or more nobody always follows the same. */
static int turn_at(int64_t round, int n, int k) { return round % 2 == 0 || k == n - 1 ? k : n - 2 - k; }

/* One batch of ours and one of every peer that is on. */
static int measure_round(work *k, result *r, int64_t round, int64_t repeats, double *ours) {
    int on[PEERS + 1] = {0}, count = 1, status = 0; /* 0: ours; else 1 + a peer */
    for (int p = 0; p < PEERS; p++)
        if (r->peers[p].on)
            on[count++] = p + 1;
    for (int n = 0; n < count && status == 0; n++) {
        const int who = on[turn_at(round, count, n)];
        if (who > 0) {
            run_peer(k->a, &r->peers[who - 1], round);
            continue;
        }
        let_sleep(k->a);
        status = work_batch(k, repeats, ours);
    }
    return status;
}

/* Batches of ours and the peers' by turns, after all are warm. */
static int measure(work *k, result *r) {
    const bench_arguments *a = k->a;
    double *ours = allocate((size_t)a->runs, sizeof *ours);
    int64_t repeats;
    int status = work_warm(k, &repeats);
    if (status == 0) {
        measure_limits(k, r);
        start_peers(k, r);
    }
    for (int64_t i = 0; i < a->runs && status == 0; i++)
        status = measure_round(k, r, i, repeats, &ours[i]);
    let_sleep(a);
    r->profile.wanted = a->runs;
    status = status ? status : profile_measure(k, &r->profile);
    if (status == 0) {
        finish_peers(k, r);
        measure_limits(k, r);
        r->ours = timing_of(ours, a->runs, repeats);
    }
    free(ours);
    return status;
}

static void result_free(result *r) {
    profile_free(&r->profile);
    for (int i = 0; i < PEERS; i++) {
        peer_stop(&r->peers[i]);
        free(r->peers[i].spent);
    }
}

/* ---- printing ---- */

static void print_json_products(json *j, const result *r) {
    json_key(j, "products");
    json_open(j, '[');
    for (int i = 0; i < r->products; i++) {
        const product *p = &r->product[i];
        json_open(j, '{');
        json_put_text(j, "what", p->what);
        json_put_integer(j, "m", p->m);
        json_put_integer(j, "k", p->k);
        json_put_integer(j, "n", p->n);
        json_put_number(j, "flops", p->flops);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* What the table of times has, in its order. */
typedef struct part {
    const char *name;
    double share;
} part;
enum { PARTS = 5 };

static void parts_of(const result *r, part part_of[PARTS]) {
    const wg_profile *sum = &r->profile.sum;
    const struct part parts[PARTS] = {{"products", sum->products}, {"pointwise", sum->pointwise}, {"packing", sum->packing},
                                      {"other", sum->other}, {"waiting", sum->waiting}};
    for (int i = 0; i < PARTS; i++)
        part_of[i] = (part){parts[i].name, profile_share(&r->profile, parts[i].share)};
}

static void print_json_times(json *j, const work *k, const result *r) {
    part parts[PARTS];
    parts_of(r, parts);
    json_key(j, "times");
    json_open(j, '{');
    for (int i = 0; i < PARTS; i++)
        json_put_number(j, parts[i].name, parts[i].share);
    json_put_number(j, "products_flops", profile_products(k, &r->profile));
    json_close(j, '}');
}

/* Nothing of a peer that was not asked for, null for one that is not there. */
static void print_json_peer(json *j, const peer *p, double ours) {
    if (!p->key)
        return;
    json_key(j, p->key);
    if (!p->on) {
        json_text(j, NULL);
        return;
    }
    json_open(j, '{');
    json_put_text(j, "version", p->version);
    json_put_number(j, "seconds_median", p->time.median);
    json_put_number(j, "seconds_min", p->time.least);
    json_put_number(j, "ratio", p->time.median / ours);
    json_close(j, '}');
}

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
    json_put_number(&j, "peak_parts_flops", r->peak_parts);
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
    print_json_products(&j, r);
    print_json_times(&j, k, r);
    for (int i = 0; i < PEERS; i++)
        print_json_peer(&j, &r->peers[i], r->ours.median);
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
}

enum { COLUMNS = 10, TIME_COLUMNS = 3 + PARTS, PEER_COLUMNS = 7, LIMIT_COLUMNS = 5 + PRODUCTS };

static void add_words(table *t, int n, const char *const *word) {
    for (int i = 0; i < n; i++)
        table_cell(t, "%s", word[i]);
}

static tables tables_begin(void) {
    static const char *const ours[COLUMNS] = {"workload", "threads", "ms median", "ms least", "GFLOP/s",
                                              "of peak",  "MB",      "record ms", "grad ms",  "compile ms"};
    static const char *const peers[PEER_COLUMNS] = {"peer",     "version", "workload", "ms median",
                                                    "ms least", "ours",    "ratio"};
    static const char *const times[TIME_COLUMNS] = {"where the time goes", "threads", "products", "pointwise", "packing",
                                                    "other", "waiting", "GFLOP/s in products"};
    static const char *const limits[5] = {"limits, GFLOP/s", "threads", "reached", "multiply-add", "in bf16 parts"};
    tables t = {table_begin(COLUMNS), table_begin(TIME_COLUMNS), table_begin(PEER_COLUMNS), table_begin(LIMIT_COLUMNS)};
    add_words(&t.ours, COLUMNS, ours);
    add_words(&t.times, TIME_COLUMNS, times);
    add_words(&t.peers, PEER_COLUMNS, peers);
    add_words(&t.limits, 5, limits);
    for (int i = 0; i < PRODUCTS; i++)
        table_cell(&t.limits, i ? "" : "the best product alone");
    return t;
}

/* Those that have a row beside the head. */
static void tables_print(tables *t, bool print) {
    table *const each[] = {&t->ours, &t->times, &t->peers, &t->limits};
    bool before = false;
    for (int i = 0; i < 4; i++) {
        bool show = print && each[i]->cells > each[i]->columns;
        if (show && before)
            putchar('\n');
        before = before || show;
        table_print(each[i], show ? stdout : NULL);
    }
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
}

static void add_times(table *t, const work *k, const result *r) {
    part parts[PARTS];
    parts_of(r, parts);
    table_cell(t, "%s %s", k->w->name, k->w->what);
    table_cell(t, "%d", r->profile.sum.threads);
    for (int i = 0; i < PARTS; i++)
        table_cell(t, "%.1f %%", 100 * parts[i].share);
    table_cell(t, "%.1f", profile_products(k, &r->profile) / 1e9);
}

static void add_peer(table *t, const work *k, const result *r, const peer *p) {
    table_cell(t, "%s", p->name);
    table_cell(t, "%s", p->on ? p->version : "-");
    table_cell(t, "%s %s", k->w->name, k->w->what);
    if (!p->on) {
        table_cell(t, "%s", p->absent);
        for (int i = 4; i < PEER_COLUMNS; i++)
            table_cell(t, "%s", "");
        return;
    }
    table_cell(t, "%.3f", p->time.median * 1e3);
    table_cell(t, "%.3f", p->time.least * 1e3);
    table_cell(t, "%.3f", r->ours.median * 1e3);
    table_cell(t, "%.2f", p->time.median / r->ours.median);
}

static void add_limits(table *t, const work *k, const result *r) {
    table_cell(t, "%s %s", k->w->name, k->w->what);
    table_cell(t, "%d", r->threads);
    table_cell(t, "%.1f", k->flops / r->ours.median / 1e9);
    table_cell(t, "%.1f", r->peak / 1e9);
    table_cell(t, r->peak_parts > 0 ? "%.1f" : "-", r->peak_parts / 1e9);
    for (int i = 0; i < PRODUCTS; i++) {
        const product *p = &r->product[i];
        if (i < r->products)
            table_cell(t, "%s %lldx%lldx%lld: %.1f", p->what, (long long)p->m, (long long)p->k, (long long)p->n,
                       p->flops / 1e9);
        else
            table_cell(t, "%s", "");
    }
}

static void add_rows(tables *t, const work *k, const result *r) {
    add_row(&t->ours, k, r);
    add_times(&t->times, k, r);
    for (int i = 0; i < PEERS; i++)
        if (r->peers[i].key)
            add_peer(&t->peers, k, r, &r->peers[i]);
    add_limits(&t->limits, k, r);
}

/* ---- choosing ---- */

static int bench_one(const bench_arguments *a, const workload *w, tables *t) {
    if (w->kind == WORK_CHAIN)
        return bench_chain(a, w);
    work k;
    result r = {.threads = workload_threads(a, w)};
    int status = work_make(&k, a, w, r.threads);
    status = status ? status : measure(&k, &r);
    if (status == 0)
        a->common.json ? print_json(&k, &r) : add_rows(t, &k, &r);
    if (status == 0 && a->kernels && !a->common.json)
        profile_print_kernels(&k, &r.profile, a->kernels);
    result_free(&r);
    work_free(&k);
    return status;
}

static int bench_word(const bench_arguments *a, const char *word, tables *t) {
    workload w;
    char *name = workload_given(a, word, &w);
    int status = bench_one(a, &w, t);
    free(name);
    return status;
}

static int run(void *arguments) {
    const bench_arguments *a = arguments;
    const words *word = &a->common.word;
    int status = 0;
    if (a->compile + a->conditions + a->foreign > 1 ||
        ((a->compile || a->conditions || a->foreign) && (word->count || a->peers || a->expert || a->kernels)))
        return misuse(&a->common, "--compile, --conditions and --foreign stand without workloads, peers, --kernels and each other");
    if (a->compile)
        return bench_compile(a);
    if (a->conditions)
        return bench_conditions(a);
    if (a->foreign)
        return bench_foreign(a);
    tables t = tables_begin();
    progress p = progress_begin();
    int count = word->count ? word->count : bench_workload_count;
    for (int i = 0; i < count && status == 0; i++) {
        const char *name = word->count ? word->word[i] : bench_workloads[i].name;
        progress_show(&p, true, "%s", name);
        status = bench_word(a, name, &t);
    }
    progress_end(&p);
    tables_print(&t, status == 0 && !a->common.json);
    return status;
}

const subcommand bench_subcommand = {
    .name = "bench",
    .usage = "[CELL…]",
    .summary = "times the standard workloads, or any cell",
    .details =
        "Forward and backward with the gradients of all weights, of x and of the initial states, in steady state: every run begins "
        "after one element of every weight and of x was changed. Sizes given are those of a cell; those of a standard workload are its "
        "own, and if others are given, its name gets a star. GFLOP/s counts the products recorded. Where the time goes is measured in further runs with a clock between kernels: matrix products; what is pointwise; packing and copying; other ops; threads that wait. The machine's limits are measured in the "
        "same run, on as many threads: a multiply-add loop, where products of f32 are made of bf16 (--isa amx) a loop of such products, and this library's products alone, at the sizes m x k x n of one step's "
        "(forward and backward) and of all steps' (from the input, and of a weight's gradient, of at most 16,384 rows). Without names, all standard workloads:\n"
        "\n"
        "  W1 LSTM, W4 GRU, W5 tanh RNN, W6 LSTM with layer norm and peepholes: batch 32, 64 steps, input 128, hidden 256\n"
        "  W2 LSTM: batch 64, 128 steps, 512, 512; W3 LSTM: one row, 100 steps, 32, 64, one thread\n"
        "  W7 a chain of 100,000 scalar ops recorded, differentiated and evaluated, and replayed by a plan: ns an op\n"
        "  W8 a character model's whole step: embedding 64x128, LSTM 256, linear, cross-entropy, SGD\n"
        "\n"
        "--json prints one object a line: workload, threads, seconds_median, seconds_min (of one run), runs (batches measured), "
        "flops (of a run's products), peak_flops (a second), peak_parts_flops (of products made of bf16; or 0), bytes (of the plan's workspace), products (those alone: m, k, n, flops a second), "
        "times (shares of all threads' time: products, pointwise, packing, other, waiting; products_flops: a second of the first), "
        "pytorch, onednn, expert (of each that was asked for: version, seconds_median, seconds_min, ratio; or null), and more.\n"
        "\n"
        "--conditions --json prints an object for each pair: condition (threads, neighbour, vanishing, memory), workload, seconds_median, "
        "seconds_min, threads and, if they vanish, gradient (the largest element of that by the initial state), under the condition; each "
        "again after beside_, without it; their ratio; for memory, bytes (of the workspace) and beside_bytes (alive at once). Then one for "
        "each size of an LSTM on one thread: condition (steps, of one row, input 4, hidden 8; rows, of 16 steps), seconds_median, bytes, "
        "nodes, compile_seconds. All have type, batch, steps, input, hidden and layers.\n"
        "\n"
        "A program given as --expert is started as PROGRAM KIND THREADS BATCH STEPS INPUT HIDDEN LAYERS VOCABULARY SECONDS, KIND being "
        "LSTM, GRU, RNN, norm_peephole or characters. It prints 'ready VERSION COUNT' when it is warm, or 'cannot'; then, for each line it "
        "reads, the seconds of one run, averaged over COUNT runs, which take about SECONDS.\n"
        "\n"
        "  wengert bench W1 W5 --threads 2 --peers\n"
        "  wengert bench W1 --steps 4096 --batch 8\n"
        "  wengert bench my.cell --hidden 128 --steps 100",
    .options = options,
    .groups = TAKES_JSON | TAKES_RUN | TAKES_FOREIGN,
    .most_words = -1,
    .size = sizeof(bench_arguments),
    .run = run,
};
