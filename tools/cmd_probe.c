/* cmd_probe.c: `wengert probe`: the gradient laboratory; of it, the norms of every state's gradient over time. */
#include "outfile.h"
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"length", "T", OPTION_INTEGER, FIELD(probe_arguments, length), "200", 1, 1 << 20, .help = "Steps."},
    {"batch", "B", OPTION_INTEGER, FIELD(probe_arguments, batch), "32", 1, 1 << 20, .help = "Rows."},
    {"hidden", "N", OPTION_INTEGER, FIELD(probe_arguments, hidden), "128", 1, 1 << 20, .help = "Hidden size of a cell."},
    {"input", "N", OPTION_INTEGER, FIELD(probe_arguments, input), "1", 1, 1 << 20, .help = "Input size of a cell."},
    {"seeds", "K", OPTION_INTEGER, FIELD(probe_arguments, seeds), "5", 1, 1 << 20,
     .help = "Times that parameters, input and loss are drawn anew."},
    {"seed", "N", OPTION_INTEGER, FIELD(probe_arguments, seed), "0", 0, 4503599627370496.0, .help = "The first of them."},
    {"type", "TYPE", OPTION_CHOICE, FIELD(probe_arguments, type), "f64", .choices = "f64|f32",
     .help = "What is computed with; a model has its own."},
    {"drive", "WHAT", OPTION_TEXT, FIELD(probe_arguments, drive), "normal(1)",
     .help = "The input: normal(DEVIATION), zero, or arrays x [T,B,n] (tokens: [T,B]) from FILE.safetensors or FILE.npy. A "
             "model that reads tokens is given uniformly drawn ones."},
    {"loss", "WHAT", OPTION_CHOICE, FIELD(probe_arguments, loss), "last", .choices = "last|sum",
     .help = "Of each row a random linear functional of unit norm: of its last output, or of the sum of its outputs."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(probe_arguments, set),
     .help = "Set a size or const of the cell; values split by commas are compared, all combinations of them."},
    {"init", "LINE", OPTION_INIT, FIELD(probe_arguments, init),
     .help = "Add a line PATTERN=INITIALISER to the cell's own, or take the scheme of pytorch, keras or flax."},
    {"only", "NAMES", OPTION_LIST, FIELD(probe_arguments, only), .help = "What to measure: norms."},
    {"out", "DIR", OPTION_TEXT, FIELD(probe_arguments, out), .help = "The folder for norms.csv, norms.svg and probe.json."},
    {0},
};

static int check_only(const probe_arguments *a) {
    static const char *const later[] = {"flow", "jacobian", "lyapunov", "gates", "hessian", "estimators"};
    for (int i = 0; i < a->only.count; i++) {
        bool known = strcmp(a->only.word[i], "norms") == 0;
        for (size_t k = 0; k < sizeof later / sizeof later[0]; k++)
            if (strcmp(a->only.word[i], later[k]) == 0)
                return fail(&a->common, "--only %s: this is not measured yet; norms are", later[k]);
        if (!known)
            return misuse(&a->common, "--only %s: there is no such measurement (norms)", a->only.word[i]);
    }
    return 0;
}

/* ---- variants ---- */

static int choices_of(const char *value) {
    int count = 1;
    for (; *value; value++)
        count += *value == ',';
    return count;
}

static char *choice_of(const char *value, int k) {
    for (; k; k--)
        value += strcspn(value, ",") + 1;
    return format_text("%.*s", (int)strcspn(value, ","), value);
}

/* The number-th combination: the last setting changes fastest. */
static void choose_settings(const settings *from, int number, variant *v) {
    v->set.setting = allocate((size_t)from->count, sizeof *v->set.setting);
    v->set.count = from->count;
    v->label = copy_text("");
    for (int i = from->count - 1; i >= 0; i--) {
        int n = choices_of(from->setting[i].value);
        char *value = choice_of(from->setting[i].value, number % n);
        v->set.setting[i] = (wg_setting){from->setting[i].name, value};
        number /= n;
        char *label = format_text("%s=%s%s%s", from->setting[i].name, value, *v->label ? " " : "", v->label);
        free(v->label);
        v->label = label;
    }
}

static int add_variants(report *r, const char *name) {
    enum { MOST = 64 };
    const settings *set = &r->a->set;
    int64_t combinations = 1;
    for (int i = 0; i < set->count && combinations <= MOST; i++)
        combinations *= choices_of(set->setting[i].value);
    if (combinations > MOST)
        return fail(&r->a->common, "--set: these are more than %d combinations", MOST);
    for (int k = 0; k < combinations; k++) {
        r->variant = grow(r->variant, (size_t)r->variants + 1, sizeof *r->variant);
        variant *v = &r->variant[r->variants++];
        *v = (variant){.name = name};
        choose_settings(set, k, v);
        if (subject_load(&r->a->common, name, &v->set, &v->subject) != 0)
            return 1;
        if (k == 0)
            subject_warn(&r->a->common, &v->subject);
    }
    return 0;
}

static void free_report(report *r) {
    for (int i = 0; i < r->count; i++) {
        free(r->series[i].state);
        free(r->series[i].median);
        free(r->series[i].low);
        free(r->series[i].high);
    }
    for (int i = 0; i < r->variants; i++) {
        variant *v = &r->variant[i];
        for (int k = 0; k < v->set.count; k++)
            free((char *)v->set.setting[k].value);
        free(v->set.setting);
        free(v->label);
        subject_free(&v->subject);
    }
    free(r->series);
    free(r->variant);
}

/* ---- the summary ---- */

static void print_table(const report *r) {
    table t = table_begin(6);
    const char *const head[] = {"cell", "setting", "state", "log10 at 1", "log10 at T", "a step"};
    for (int i = 0; i < 6; i++)
        table_cell(&t, "%s", head[i]);
    for (int i = 0; i < r->count; i++) {
        const series *s = &r->series[i];
        table_cell(&t, "%s", s->of->name);
        table_cell(&t, "%s", s->of->label);
        table_cell(&t, "%s", s->state);
        table_cell(&t, "%.3f", s->median[0]);
        table_cell(&t, "%.3f", s->median[s->steps - 1]);
        table_cell(&t, "%+.5f", series_slope(s));
    }
    puts("norms of each state's gradient: medians over rows and seeds");
    table_print(&t, stdout);
    if (r->a->out)
        printf("written to %s\n", r->a->out);
}

static void print_json(const report *r) {
    json j = {.file = stdout};
    for (int i = 0; i < r->count; i++) {
        const series *s = &r->series[i];
        json_open(&j, '{');
        json_put_text(&j, "cell", s->of->name);
        json_put_text(&j, "setting", s->of->label);
        json_put_text(&j, "state", s->state);
        json_put_integer(&j, "steps", s->steps);
        json_put_number(&j, "log10_first", s->median[0]);
        json_put_number(&j, "log10_last", s->median[s->steps - 1]);
        json_put_number(&j, "log10_per_step", series_slope(s));
        json_close(&j, '}');
        json_end_line(&j);
    }
}

static int run(void *arguments) {
    const probe_arguments *a = arguments;
    report r = {.a = a};
    int status = check_only(a);
    if (status == 0 && a->out)
        status = folder_make(&a->common, a->out);
    for (int i = 0; i < a->common.word.count && status == 0; i++)
        status = add_variants(&r, a->common.word.word[i]);
    progress p = progress_begin();
    for (int i = 0; i < r.variants && status == 0; i++)
        status = measure_norms(&r, &r.variant[i], &p);
    progress_end(&p);
    if (status == 0 && a->out)
        status = write_report(&r);
    if (status == 0)
        a->common.json ? print_json(&r) : print_table(&r);
    free_report(&r);
    return status;
}

const subcommand probe_subcommand = {
    .name = "probe",
    .usage = "CELL|MODEL…",
    .summary = "the gradient laboratory: how gradients vanish or explode over time",
    .details =
        "Unrolls each cell (of the zoo, or a file) or trained model over T steps and differentiates a loss of each row by every "
        "state after every step. Prints log10 of the gradients' 2-norms (medians over rows and seeds) and their change a step.\n"
        "\n"
        "With --out, norms.csv has a row for each cell, setting, state and step (from 1): cell,setting,state,step,"
        "log10_median,log10_q05,log10_q95: the median and the 5 and 95 % quantiles, over rows and seeds, of log10 of the norm "
        "(-inf for zero). Where a norm leaves the type's range, the backward pass is run again from a loss scaled up by a power of two, so "
        "that f32 reaches some 70 decades down, f64 600. probe.json holds the command, versions, sizes, seeds and the cells' texts; norms.svg compares all of "
        "them in one picture, drawn by gnuplot where it is installed.\n"
        "\n"
        "  wengert probe rnn lstm gru --length 200 --out gradients\n"
        "  wengert probe my.cell --set g=0.8,1,1.2 --drive zero --out sweep\n"
        "  wengert probe model.safetensors --loss sum",
    .options = options,
    .groups = TAKES_JSON | TAKES_RUN | TAKES_FOREIGN,
    .least_words = 1,
    .most_words = -1,
    .size = sizeof(probe_arguments),
    .run = run,
};
