/* cmd_check.c: `wengert check`: derivatives of the ops, or of cells, against differences, first and
 * second order. */
#include "subject.h"
#include "unrolled.h"

#include <stdlib.h>
#include <string.h>

typedef struct check_arguments {
    common common;
    int64_t steps, batch, input, hidden, seed, order;
    words ops;
    bool zoo;
    settings set;
} check_arguments;

static const option options[] = {
    {"ops", "NAMES", OPTION_LIST, FIELD(check_arguments, ops), .help = "Check these ops only."},
    {"zoo", NULL, OPTION_FLAG, FIELD(check_arguments, zoo),
     .help = "Check every cell of the zoo, too."},
    {"order", "N", OPTION_INTEGER, FIELD(check_arguments, order), "2", .least = 1, .most = 2,
     .help = "The highest order of derivative."},
    {"steps", "T", OPTION_INTEGER, FIELD(check_arguments, steps), "3", .least = 1, .most = 1000,
     .help = "Steps to unroll a cell."},
    {"batch", "B", OPTION_INTEGER, FIELD(check_arguments, batch), "2", .least = 1, .most = 1000,
     .help = "Rows."},
    {"input", "N", OPTION_INTEGER, FIELD(check_arguments, input), .least = 1, .most = 1000,
     .help = "The length of a cell's input; by default small, and other than the hidden size where "
             "the cell allows it."},
    {"hidden", "N", OPTION_INTEGER, FIELD(check_arguments, hidden), .least = 1, .most = 1000,
     .help = "A cell's hidden size; by default small."},
    {"seed", "N", OPTION_INTEGER, FIELD(check_arguments, seed), "1", .least = 0,
     .most = 9007199254740992.0, .help = "Of the points and of the cotangents."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(check_arguments, set),
     .help = "Set a size or const of the cell."},
    {0},
};

/* What was found of one op or cell. */
typedef struct finding {
    const char *name;
    int done, failed;
    double first, second, forward; /* the worst errors; -1: not compared */
} finding;

/* All of them, and how they are told. */
typedef struct findings {
    const check_arguments *a;
    const common *c;
    finding now;
    int done, failed; /* comparisons, in all */
    wg_error first;   /* the first failure */
    table table;
    json json;
    progress progress;
} findings;

static void receive(void *user, const wg_check_result *r) {
    finding *now = &((findings *)user)->now;
    double *worst = strcmp(r->kind, "first order") == 0 ? &now->first
                    : strcmp(r->kind, "second order") == 0 || strcmp(r->kind, "mixed modes") == 0
                        ? &now->second
                    : strcmp(r->kind, "forward") == 0 ? &now->forward
                                                      : NULL;
    now->done++;
    now->failed += !r->passed;
    if (worst && !(r->error <= *worst))
        *worst = r->error;
}

static void cell_error(table *t, double error) {
    if (error < 0)
        table_cell(t, "-");
    else
        table_cell(t, "%.1e", error);
}

static void put_error(json *j, const char *key, double error) {
    if (error >= 0 || error != error)
        json_put_number(j, key, error);
}

static void tell(findings *f, const char *kind) {
    const finding *now = &f->now;
    f->done += now->done;
    f->failed += now->failed;
    if (!f->c->json) {
        table_cell(&f->table, "%s", now->name);
        table_cell(&f->table, "%d", now->done);
        cell_error(&f->table, now->first);
        cell_error(&f->table, now->forward);
        cell_error(&f->table, now->second);
        table_cell(&f->table, now->failed ? "%d WRONG" : "ok", now->failed);
        return;
    }
    json_open(&f->json, '{');
    json_put_text(&f->json, kind, now->name);
    json_put_bool(&f->json, "passed", now->failed == 0);
    json_put_integer(&f->json, "comparisons", now->done);
    json_put_integer(&f->json, "failed", now->failed);
    put_error(&f->json, "first_order", now->first);
    put_error(&f->json, "forward", now->forward);
    put_error(&f->json, "second_order", now->second);
    json_close(&f->json, '}');
    json_end_line(&f->json);
}

static void begin(findings *f, const char *name) {
    f->now = (finding){.name = name, .first = -1, .second = -1, .forward = -1};
    progress_show(&f->progress, false, "%s: %d comparisons so far", name, f->done);
}

static wg_check_options how(findings *f) {
    return (wg_check_options){
        .order = (int)f->a->order, .seed = (uint64_t)f->a->seed, .report = receive, .user = f};
}

/* A check that does not hold is counted and the next one made; what keeps one from being made at
 * all ends the run. */
static int judge(findings *f, const char *kind, wg_status status, const wg_error *error) {
    if (status != WG_OK && f->now.failed == 0)
        return fail(f->c, "%s: %s", f->now.name, error->text);
    if (status != WG_OK)
        wg_error_set(&f->first, status, "%s: %s", f->now.name, error->text);
    tell(f, kind);
    return 0;
}

/* ---- ops ---- */

static int check_record(findings *f, const wg_op *op) {
    wg_error error = {0};
    const wg_check_options options_now = how(f);
    begin(f, op->name);
    return judge(f, "op", wg_check_op(&options_now, f->c->memory, op, &error), &error);
}

static int check_op(findings *f, const wg_op_entry *op) {
    return op->op == NULL || op->op->kind == WG_EFFECT ? 0 : check_record(f, op->op);
}

/* The C functions that were bound. */
static int check_foreign(findings *f) {
    int status = 0;
    for (int i = 0; i < wg_foreign_count(f->c->foreign) && status == 0; i++)
        status = check_record(f, wg_foreign_op(f->c->foreign, i));
    return status;
}

static const char *op_name_at(const void *user, int i) {
    return ((const wg_op_entry *)user)[i].name;
}

static int check_ops(findings *f) {
    int status = 0;
    for (int i = 0; i < f->a->ops.count && status == 0; i++) {
        const char *name = f->a->ops.word[i];
        const wg_op_entry *op = wg_op_find(name);
        const char *near = op ? NULL : nearest_name(name, wg_op_count(), op_name_at, wg_op_list());
        status = op ? check_op(f, op)
                    : fail(f->c, "there is no op '%s'%s%s%s", name, near ? "; did you mean " : "",
                           near ? near : "", near ? "?" : "");
    }
    for (int i = 0; f->a->ops.count == 0 && i < wg_op_count() && status == 0; i++)
        status = check_op(f, &wg_op_list()[i]);
    return status;
}

/* ---- cells ---- */

typedef struct cell_graph {
    const wg_cell *cell;
    const unrolled_sizes *sizes;
    const wg_params *arrays;
} cell_graph;

static wg_var flat(wg_var x) { return wg_reshape(x, 1, (const int64_t[]){-1}); }

/* The output sequence and every final state, end to end: random cotangents reach all of them. */
static wg_var record(void *user, const wg_var *x) {
    const cell_graph *g = user;
    int n = wg_params_count(g->arrays), states = wg_cell_states(g->cell);
    wg_named *given = allocate((size_t)n, sizeof *given);
    wg_var *part = allocate((size_t)states + 1, sizeof *part), all = {0};
    for (int i = 0; i < n; i++)
        given[i] = (wg_named){wg_params_name(g->arrays, i), x[i]};
    wg_unroll *u =
        wg_unroll_new(x[0].tape, g->cell, g->sizes->input, g->sizes->hidden, n, given, NULL);
    if (u) {
        part[0] = flat(wg_unroll_output(u));
        for (int i = 0; i < states; i++)
            part[i + 1] = flat(wg_unroll_final(u, wg_cell_state(g->cell, i)));
        all = wg_concat(states + 1, part, 0);
    }
    wg_unroll_free(u);
    free(part);
    free(given);
    return all;
}

static bool fit(const wg_cell *cell, int64_t input, int64_t hidden) {
    wg_shape shape;
    bool good = true;
    for (int i = 0; i < wg_cell_params(cell) && good; i++)
        good = wg_cell_shape(cell, wg_cell_param(cell, i), input, hidden, &shape, NULL) == WG_OK;
    for (int i = 0; i < wg_cell_states(cell) && good; i++)
        good = wg_cell_shape(cell, wg_cell_state(cell, i), input, hidden, &shape, NULL) == WG_OK;
    return good;
}

/* The first small sizes that the cell's formulas allow; different ones first, since equal sizes
 * hide mistakes. */
static void choose_sizes(const check_arguments *a, const wg_cell *cell, unrolled_sizes *s) {
    static const int64_t size[][2] = {{2, 3}, {2, 4}, {3, 6}, {3, 8},  {3, 3},
                                      {4, 4}, {6, 6}, {8, 8}, {2, 16}, {16, 16}};
    *s = (unrolled_sizes){a->steps, a->batch, 2, 3, WG_F64, false};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        int64_t input = a->input ? a->input : size[i][0],
                hidden = a->hidden ? a->hidden : size[i][1];
        if (!fit(cell, input, hidden))
            continue;
        s->input = input;
        s->hidden = hidden;
        return;
    }
}

static int check_cell(findings *f, const char *name) {
    unrolled_sizes sizes;
    wg_error error = {0};
    wg_cell *cell = cell_load(f->c, name, &f->a->set);
    if (!cell)
        return 1;
    choose_sizes(f->a, cell, &sizes);
    wg_params *arrays = unrolled_arrays(f->c, cell, &sizes, (uint64_t)f->a->seed);
    int n = arrays ? wg_params_count(arrays) : 0, status = arrays ? 0 : 1;
    wg_tensor **x = allocate((size_t)n, sizeof *x);
    for (int i = 0; i < n; i++)
        x[i] = wg_params_tensor(arrays, i);
    const wg_check_options options_now = how(f);
    begin(f, name);
    if (status == 0)
        status = judge(f, "cell",
                       wg_check_grad(&options_now, f->c->memory, record,
                                     &(cell_graph){cell, &sizes, arrays}, n, x, &error),
                       &error);
    free(x);
    wg_params_free(arrays);
    wg_cell_free(cell);
    return status;
}

static int check_all(findings *f) {
    int status = 0, cells = f->c->word.count, bound = f->c->use.count;
    if (f->a->ops.count || (!cells && !bound))
        status = check_ops(f);
    for (int i = 0; i < cells && status == 0; i++)
        status = check_cell(f, f->c->word.word[i]);
    if (status == 0) /* after the cells, whose `use` lines bind more */
        status = check_foreign(f);
    for (int i = 0; f->a->zoo && i < wg_zoo_count() && status == 0; i++)
        status = check_cell(f, wg_zoo_name(i));
    return status;
}

static int run(void *arguments) {
    const check_arguments *a = arguments;
    findings f = {.a = a,
                  .c = &a->common,
                  .table = table_begin(6),
                  .json = {.file = stdout},
                  .progress = progress_begin()};
    static const char *const head[] = {"",        "comparisons",  "first order",
                                       "forward", "second order", ""};
    for (int i = 0; i < 6; i++)
        table_cell(&f.table, "%s", head[i]);
    int status = check_all(&f);
    progress_end(&f.progress);
    table_print(&f.table, f.c->json || status ? NULL : stdout);
    if (status == 0 && f.failed)
        status =
            fail(f.c, "%d of %d comparisons failed; the first: %s", f.failed, f.done, f.first.text);
    return status;
}

const subcommand check_subcommand = {
    .name = "check",
    .usage = "[CELL…]",
    .summary = "derivatives of every op, or of cells, against differences",
    .details =
        "Compares, at random points in f64, the gradients of every op (or of the cells named, over "
        "all outputs, final "
        "states, inputs, initial states and parameters) with central differences; forward with "
        "reverse mode; and the "
        "derivatives of the gradients in the same ways. Ops are also compared in f32 and i32, and "
        "on strided, empty and "
        "broadcast inputs. Parameters of cells are drawn N(0, 1/fan_in), since zeros hide "
        "mistakes. Prints the worst "
        "errors, relative to the largest element of the array (at least 1); 1e-6 is allowed. C functions "
        "(of --use, and of the cells' own lines) are checked like ops, at points in the range their line gives with `on`, "
        "else in [-2,2].",
    .options = options,
    .groups = TAKES_JSON | TAKES_MEMORY | TAKES_FOREIGN,
    .most_words = -1,
    .size = sizeof(check_arguments),
    .run = run,
};
