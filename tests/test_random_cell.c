/* Compiled plans of random cells against evaluation. WENGERT_RANDOM_CELLS sets how many cells are tried, WENGERT_RANDOM_CELL
 * (a seed) has one tried alone, and shown. */
#include "suite.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plan.h"
#include "random_cell.h"
#include "random_graph.h"
#include "taped.h"

enum { MOST = RANDOM_CELL_OUTPUTS + RANDOM_CELL_LEAVES };

/* What an executor made: its outputs, and, where it stores, the leaves as they are after it. */
typedef struct values {
    wg_status status;
    int n;
    wg_tensor *of[MOST];
} values;

static void free_values(values *v) {
    for (int k = 0; k < v->n; k++)
        wg_tensor_free(v->of[k]);
    *v = (values){0};
}

static void add_leaves(values *v, const random_cell *cell) {
    for (int k = 0; k < cell->leaves && cell->stores; k++)
        v->of[v->n++] = wg_tensor_copy(NULL, cell->leaf[k]);
}

/* The leaves as they were before anything ran. */
typedef struct start {
    int n;
    wg_tensor *of[RANDOM_CELL_LEAVES];
} start;

static start start_of(const random_cell *cell) {
    start s = {.n = cell->leaves};
    for (int k = 0; k < s.n; k++)
        s.of[k] = wg_tensor_copy(NULL, cell->leaf[k]);
    return s;
}

static void restore(const start *s, random_cell *cell) {
    for (int k = 0; k < s->n && cell->stores; k++)
        memcpy(wg_tensor_write(cell->leaf[k]), wg_tensor_data(s->of[k]), wg_tensor_bytes(s->of[k]));
}

static void free_start(start *s) {
    for (int k = 0; k < s->n; k++)
        wg_tensor_free(s->of[k]);
}

static values evaluated(random_cell *cell, const start *s, const wg_run_options *options) {
    values v = {.n = cell->n};
    restore(s, cell);
    v.status = wg_eval_with(options, cell->n, cell->y, v.of, NULL);
    v.n = v.status == WG_OK ? v.n : 0;
    if (v.status == WG_OK)
        add_leaves(&v, cell);
    return v;
}

static values run(wg_plan *plan, random_cell *cell, const start *s, const wg_run_options *options) {
    values v = {0};
    restore(s, cell);
    v.status = wg_run_in(plan, wg_plan_workspace(plan), options, NULL);
    for (int k = 0; k < cell->n && v.status == WG_OK; k++)
        v.of[v.n++] = wg_tensor_copy(NULL, wg_plan_output(plan, k));
    if (v.status == WG_OK)
        add_leaves(&v, cell);
    return v;
}

/* Bits, but for which NaN it is. */
static bool same_bits(const values *a, const values *b) {
    bool same = a->status == b->status && a->n == b->n;
    for (int k = 0; k < a->n && same; k++)
        same = wg_tensor_bytes(a->of[k]) == wg_tensor_bytes(b->of[k]) &&
               memcmp(wg_tensor_data(a->of[k]), wg_tensor_data(b->of[k]), wg_tensor_bytes(a->of[k])) == 0;
    return same;
}

/* Evaluation with every float of the leaves moved by a unit in the last place: how far results are from certain. */
static values shaken(random_cell *cell, const start *s, wg_isa isa, wg_random *random) {
    values v = {.n = cell->n};
    for (int k = 0; k < s->n; k++) {
        double unit = wg_tensor_dtype(s->of[k]) == WG_F32 ? 0x1p-23 : 0x1p-52;
        for (int64_t i = 0; i < wg_tensor_shape(s->of[k])->count; i++)
            wg_tensor_set(cell->leaf[k], i, wg_tensor_get(s->of[k], i) * (1 + (wg_random_below(random, 2) ? unit : -unit)));
    }
    v.status = wg_eval_with(&(wg_run_options){.isa = isa}, cell->n, cell->y, v.of, NULL);
    v.n = v.status == WG_OK ? v.n : 0;
    if (v.status == WG_OK)
        add_leaves(&v, cell);
    for (int k = 0; k < s->n; k++)
        memcpy(wg_tensor_write(cell->leaf[k]), wg_tensor_data(s->of[k]), wg_tensor_bytes(s->of[k]));
    return v;
}

static double distance(const wg_tensor *a, const wg_tensor *b) {
    double worst = 0;
    for (int64_t i = 0; i < wg_tensor_shape(a)->count; i++) {
        double d = fabs(wg_tensor_get(a, i) - wg_tensor_get(b, i));
        worst = isfinite(d) ? fmax(worst, d) : worst;
    }
    return worst;
}

static int64_t doubtful; /* arrays to which the rule was applied with errors of shaken evaluations */

static double largest_of(const wg_tensor *a) {
    double largest = 0;
    for (int64_t i = 0; i < wg_tensor_shape(a)->count; i++)
        if (isfinite(wg_tensor_get(a, i)))
            largest = fmax(largest, fabs(wg_tensor_get(a, i)));
    return largest;
}

/* The rule for one array, where evaluation's own error is too small by luck (a sum of terms that cancel): it is taken from
 * evaluations that are shaken. */
static bool agree_when_shaken(const values *exact, const values *got, int at, random_cell *cell, const start *s, wg_isa isa, char *text, size_t size) {
    wg_random random = {.seed = 11};
    const wg_tensor *e = exact->of[at], *g = got->of[at];
    double allowed = 0, largest = largest_of(e), error = distance(e, g);
    for (int k = 0; k < 12; k++) {
        values v = shaken(cell, s, isa, &random);
        if (v.status == WG_OK)
            allowed = fmax(allowed, distance(e, v.of[at]));
        free_values(&v);
    }
    for (int k = 0; allowed == 0 && largest == 0 && k < exact->n; k++) /* terms that always cancel: how large they are the other arrays tell */
        if (wg_tensor_dtype(exact->of[k]) != WG_I32)
            allowed = fmax(allowed, (wg_tensor_dtype(g) == WG_F32 ? 1e-5 : 1e-13) * largest_of(exact->of[k]));
    allowed = 4 * allowed + (wg_tensor_dtype(g) == WG_F32 ? 1e-6 : 1e-14) * largest;
    snprintf(text, size, "error %g, allowed %g (largest element %g)", error, allowed, largest);
    doubtful++;
    return error <= allowed;
}

static bool agree(const values *exact, const values *plain, const values *got, random_cell *cell, const start *s, wg_isa isa, char *text, size_t size) {
    if (got->status != plain->status || got->n != plain->n) {
        snprintf(text, size, "%s instead of %s", wg_status_name(got->status), wg_status_name(plain->status));
        return false;
    }
    for (int k = 0; k < got->n; k++) {
        int at = snprintf(text, size, "output %d: ", k);
        if (random_graph_agree(exact->of[k], plain->of[k], got->of[k], text + at, size - (size_t)at))
            continue;
        if (strncmp(text + at, "error", 5) != 0 || !agree_when_shaken(exact, got, k, cell, s, isa, text + at, size - (size_t)at))
            return false;
    }
    return true;
}

/* ---- one cell ---- */

typedef struct trial {
    uint64_t seed;
    wg_random random;
    wg_dtype dtype;
    char without[256];
    wg_compile_options options;
} trial;

static trial draw_trial(uint64_t seed, bool kinks) {
    trial t = {.seed = seed, .random.seed = seed ^ 0x5eed};
    static const int threads[] = {8, 8, 8, 1, 2, 3, 4};
    t.dtype = wg_random_uniform(&t.random) < (kinks ? 0.1 : 0.6) ? WG_F32 : WG_F64;
    t.options.run.threads = threads[wg_random_below(&t.random, WG_LEN(threads))];
    t.options.validate = true;
    t.options.far_bytes = wg_random_uniform(&t.random) < 0.5;
    bool all = wg_random_uniform(&t.random) < 0.4;
    for (int i = 0; wg_pass_name(i); i++)
        if (!wg__passes[i].needed && !all && wg_random_uniform(&t.random) < 0.25) {
            size_t at = strlen(t.without);
            snprintf(t.without + at, sizeof t.without - at, "%s%s", at ? "," : "", wg_pass_name(i));
        }
    return t;
}

/* What is wrong, in text; false if nothing. */
static bool wrong(const trial *t, wg_plan *plan, random_cell *cell, const start *s, const values *exact, const values *plain, char *text,
                  size_t size) {
    static const int threads[] = {2, 3, 4, 8};
    values one = run(plan, cell, s, &(wg_run_options){.threads = 1});
    char what[200] = "";
    bool good = (cell->kinks && t->dtype == WG_F32) || agree(exact, plain, &one, cell, s, WG_ISA_AUTO, what, sizeof what);
    snprintf(text, size, "%s", what);
    for (size_t k = 0; k < WG_LEN(threads) && good; k++) {
        values more = run(plan, cell, s, &(wg_run_options){.threads = threads[k]});
        good = same_bits(&one, &more);
        snprintf(text, size, "other bits on %d threads", threads[k]);
        free_values(&more);
    }
    for (wg_isa isa = WG_ISA_BASELINE; isa <= WG_ISA_AVX512 && good; isa++) {
        const wg_run_options few = {.threads = 1, .isa = isa}, many = {.threads = 3, .isa = isa};
        if (!wg_isa_runs(isa) || (cell->kinks && t->dtype == WG_F32))
            continue;
        values a = run(plan, cell, s, &few), b = run(plan, cell, s, &many), own = evaluated(cell, s, &few);
        good = agree(exact, &own, &a, cell, s, isa, what, sizeof what);
        snprintf(text, size, "%s", what);
        if (good && !same_bits(&a, &b))
            good = false, snprintf(text, size, "other bits on 3 threads");
        size_t at = strlen(text);
        snprintf(text + at, size - at, " (instruction set %d)", (int)isa);
        free_values(&a);
        free_values(&b);
        free_values(&own);
    }
    free_values(&one);
    return !good;
}

static void to_stderr(void *user, const char *text, size_t size) {
    (void)user;
    fwrite(text, 1, size, stderr);
}

static volatile uint64_t trying;

static void on_signal(int number) {
    char text[80];
    int n = snprintf(text, sizeof text, "random cell %llu: signal %d\n", (unsigned long long)trying, number);
    (void)!write(2, text, (size_t)n);
    signal(number, SIG_DFL);
    raise(number);
}

/* Tries one cell; false if it is wrong. */
static bool try_cell(uint64_t seed, bool show, random_cell_coverage *coverage) {
    char text[2048] = "";
    wg_error error = {0};
    random_cell fine = {0}, coarse = {0};
    wg_tape *tape64 = wg_tape_new(NULL), *tape32 = wg_tape_new(NULL);
    trying = seed;
    const char *failed = random_cell_record(tape64, seed, WG_F64, &fine);
    if (show)
        fprintf(stderr, "%s%s\n", fine.text, fine.how);
    if (!failed)
        failed = random_cell_record(tape32, seed, WG_F32, &coarse);
    cr_expect_null(failed, "cell %llu: %s\n%s", (unsigned long long)seed, failed, fine.text);
    bool good = !failed;
    if (good) {
        trial t = draw_trial(seed, fine.kinks);
        t.options.without = t.without;
        random_cell *cell = t.dtype == WG_F32 ? &coarse : &fine;
        start s64 = start_of(&fine), s32 = start_of(&coarse);
        values exact = evaluated(&fine, &s64, NULL), single = evaluated(&coarse, &s32, NULL);
        wg_plan *plan = wg_compile(cell->n, cell->y, &t.options, &error);
        good = plan;
        snprintf(text, sizeof text, "%s", error.text);
        if (plan)
            good = exact.status != single.status ||
                   !wrong(&t, plan, cell, t.dtype == WG_F32 ? &s32 : &s64, &exact, t.dtype == WG_F32 ? &single : &exact, text, sizeof text);
        cr_expect(good, "cell %llu, %s, %s without '%s' on %d threads: %s", (unsigned long long)seed, fine.how, wg_dtype_name(t.dtype),
                  t.without, t.options.run.threads, text);
        if (show)
            fprintf(stderr, "%s without '%s'\n", wg_dtype_name(t.dtype), t.without);
        if (plan && show)
            wg_plan_print(plan, NULL, to_stderr, NULL);
        if (plan)
            random_cell_cover(coverage, plan->program);
        wg_plan_free(plan);
        free_values(&exact);
        free_values(&single);
        free_start(&s64);
        free_start(&s32);
    }
    random_cell_free(&fine);
    random_cell_free(&coarse);
    wg_tape_free(tape64);
    wg_tape_free(tape32);
    return good;
}

/* The loops of a program, and the bytes alive in it at once. */
static void weigh(const random_cell *cell, const char *without, int64_t *loops, size_t *bytes) {
    const wg_compile_options options = {.without = without, .run.threads = 1};
    wg_error error = {0};
    wg_program *p = wg__compile(&options, "schedule", cell->n, cell->y, &error);
    cr_assert(p, "%s", error.text);
    *loops = 0;
    for (int64_t k = 0; k < p->loop_count; k++)
        *loops += p->loops[k].to > p->loops[k].from;
    *bytes = p->live_bytes;
    wg__program_free(p);
}

/* Now and then what is kept goes side by side with other values over an array (join.c), and what is left alone without it does not. */
Test(random_cell, what_is_made_again_saves_memory_and_parts_no_steps) {
    int less = 0, more = 0, cells = 750;
    for (int seed = 1; seed <= cells; seed++) {
        random_cell cell = {0};
        wg_tape *tape = wg_tape_new(NULL);
        int64_t loops[2];
        size_t bytes[2];
        cr_assert_null(random_cell_record(tape, (uint64_t)seed, WG_F64, &cell));
        weigh(&cell, "", &loops[0], &bytes[0]);
        weigh(&cell, "again", &loops[1], &bytes[1]);
        cr_expect_leq(loops[0], loops[1], "cell %d: %lld loops, %lld without", seed, (long long)loops[0], (long long)loops[1]);
        less += bytes[0] < bytes[1];
        more += bytes[0] > bytes[1];
        random_cell_free(&cell);
        wg_tape_free(tape);
    }
    cr_expect(less > cells / 50 && more <= cells / 500, "%d of %d cells have less, %d more", less, cells, more);
}

Test(random_cell, plans_mean_what_evaluation_means) {
    const char *count = getenv("WENGERT_RANDOM_CELLS"), *one = getenv("WENGERT_RANDOM_CELL");
    int64_t cells = count ? strtoll(count, NULL, 10) : 300, bad = 0;
    random_cell_coverage coverage = {0};
    if (one) {
        cr_assert(try_cell(strtoull(one, NULL, 10), true, &coverage));
        return;
    }
    signal(SIGSEGV, on_signal);
    signal(SIGABRT, on_signal);
    for (int64_t seed = 1; seed <= cells && bad < 20; seed++)
        bad += !try_cell((uint64_t)seed, false, &coverage);
    random_cell_print(&coverage, stderr);
    fprintf(stderr, "%lld arrays with the errors of shaken evaluations\n", (long long)doubtful);
    cr_expect_null(random_cell_missing(&coverage), "no program has %s", random_cell_missing(&coverage));
    cr_assert_eq(bad, 0);
}
