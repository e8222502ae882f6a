/* cmd_cells.c: `wengert cells`: the zoo, and what a cell's text means: equations, shapes, reasons,
 * initialisers, cost. */
#include "listing.h"
#include "subject.h"
#include "unrolled.h"

#include <stdlib.h>
#include <string.h>

typedef struct cells_arguments {
    common common;
    int64_t input, hidden;
    int dtype;
    settings set;
    initial init;
} cells_arguments;

static const option options[] = {
    {"input", "N", OPTION_INTEGER, FIELD(cells_arguments, input), "64", .least = 1, .most = 1 << 20,
     .help = "The length of the input, for sizes and cost."},
    {"hidden", "N", OPTION_INTEGER, FIELD(cells_arguments, hidden), "256", .least = 1,
     .most = 1 << 20, .help = "The hidden size, for sizes and cost."},
    {"type", "TYPE", OPTION_CHOICE, FIELD(cells_arguments, dtype), "f32", .choices = "f32|f64",
     .help = "The type, for bytes."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(cells_arguments, set),
     .help = "Set a size or const of the cell."},
    {"init", "LINE", OPTION_INIT, FIELD(cells_arguments, init),
     .help = "Add a line PATTERN=INITIALISER, or a library's scheme (pytorch, keras, flax), to the "
             "cell's own."},
    {0},
};

/* ---- the zoo ---- */

static int list_zoo(const common *c) {
    table t = table_begin(2);
    json j = {.file = stdout};
    if (c->json)
        json_open(&j, '[');
    for (int i = 0; i < wg_zoo_count(); i++) {
        wg_cell *cell = cell_load(c, wg_zoo_name(i), NULL);
        if (!cell)
            return 1;
        table_cell(&t, "%s", wg_zoo_name(i));
        table_cell(&t, "%s", wg_cell_cite(cell));
        if (c->json) {
            json_open(&j, '{');
            json_put_text(&j, "name", wg_zoo_name(i));
            json_put_text(&j, "cite", wg_cell_cite(cell));
            json_close(&j, '}');
        }
        wg_cell_free(cell);
    }
    if (c->json) {
        json_close(&j, ']');
        json_end_line(&j);
    }
    table_print(&t, c->json ? NULL : stdout);
    return 0;
}

/* ---- one cell ---- */

typedef struct cost {
    int64_t parameters;
    size_t bytes;       /* of the parameters */
    double flops, both; /* of one step of one row: forward; forward and backward */
    double traffic;
} cost;

static int measure(const cells_arguments *a, const wg_cell *cell, bool gradient, wg_plan_size *size,
                   cost *out) {
    const common *c = &a->common;
    const unrolled_sizes sizes = {1, 1, a->input, a->hidden, a->dtype ? WG_F64 : WG_F32, gradient};
    unrolled u;
    wg_error error = {0};
    int status = unrolled_make(c, cell, &sizes, 0, &u);
    wg_plan *plan = status == 0 ? wg_compile(u.outputs, u.output, NULL, &error) : NULL;
    if (status == 0 && !plan)
        status = fail_error(c, &error);
    if (plan)
        *size = wg_plan_measure(plan);
    out->parameters = 0;
    out->bytes = 0;
    for (int i = 0; plan && i < wg_params_count(u.arrays); i++)
        if (cell_role(cell, wg_params_name(u.arrays, i)) == ROLE_PARAM) {
            out->parameters += wg_tensor_shape(wg_params_tensor(u.arrays, i))->count;
            out->bytes += wg_tensor_bytes(wg_params_tensor(u.arrays, i));
        }
    wg_plan_free(plan);
    unrolled_free(&u);
    return status;
}

static int measure_all(const cells_arguments *a, const wg_cell *cell, cost *out) {
    wg_plan_size size = {0};
    int status = measure(a, cell, false, &size, out);
    out->flops = size.flops;
    out->traffic = size.traffic;
    if (status == 0)
        status = measure(a, cell, true, &size, out);
    out->both = size.flops;
    return status;
}

static int print_text(const cells_arguments *a, const wg_cell *cell, const wg_draw *draw) {
    const common *c = &a->common;
    const char *text = wg_cell_text(cell);
    cost all;
    int status = measure_all(a, cell, &all);
    if (status)
        return status;
    printf("%s%s\nparameters (numbers: input %lld, hidden %lld)\n", text,
           *text && text[strlen(text) - 1] != '\n' ? "\n" : "", (long long)a->input,
           (long long)a->hidden);
    status = list_params(c, cell, draw, a->input, a->hidden, stdout);
    if (status)
        return status;
    puts("\ninputs, states and values of a row");
    status = list_names(c, cell, stdout);
    printf("\noutput: %s\n", wg_cell_output(cell));
    printf("%lld parameters, %zu bytes; a step of a row: %.0f flops forward, %.0f with all "
           "gradients; %.0f bytes read and "
           "written forward\n",
           (long long)all.parameters, all.bytes, all.flops, all.both, all.traffic);
    return status;
}

typedef struct describing {
    json *j;
    const cells_arguments *a;
    const wg_cell *cell;
} describing;

static void json_entry(void *user, const wg_cell_entry *e) {
    const describing *d = user;
    wg_shape shape;
    json_open(d->j, '{');
    json_put_text(d->j, "name", e->name);
    json_put_text(d->j, "kind", e->kind);
    json_put_integer(d->j, "line", e->line);
    if (*e->shape) {
        json_put_text(d->j, "shape", e->shape);
        if (wg_cell_shape(d->cell, e->name, d->a->input, d->a->hidden, &shape, NULL) == WG_OK) {
            json_key(d->j, "sizes");
            json_shape(d->j, &shape);
        }
    }
    if (strcmp(e->kind, "param") == 0 || strcmp(e->kind, "fixed") == 0) {
        json_put_text(d->j, "reason", e->reason);
        json_put_bool(d->j, "assumed", e->assumed);
        json_put_text(d->j, "initialiser", e->initialiser);
    }
    json_close(d->j, '}');
}

static int print_json(const cells_arguments *a, const wg_cell *cell, const wg_draw *draw) {
    json j = {.file = stdout};
    cost all;
    wg_error error = {0};
    int status = measure_all(a, cell, &all);
    if (status)
        return status;
    json_open(&j, '{');
    json_put_text(&j, "name", wg_cell_name(cell));
    json_put_text(&j, "cite", wg_cell_cite(cell));
    json_put_text(&j, "text", wg_cell_text(cell));
    json_put_text(&j, "output", wg_cell_output(cell));
    json_put_integer(&j, "input", a->input);
    json_put_integer(&j, "hidden", a->hidden);
    json_key(&j, "names");
    json_open(&j, '[');
    if (wg_cell_describe(a->common.memory, cell, draw, json_entry, &(describing){&j, a, cell},
                         &error) != WG_OK)
        return fail_error(&a->common, &error);
    json_close(&j, ']');
    json_put_integer(&j, "parameters", all.parameters);
    json_put_integer(&j, "parameter_bytes", (int64_t)all.bytes);
    json_put_number(&j, "flops", all.flops);
    json_put_number(&j, "flops_with_gradients", all.both);
    json_put_number(&j, "bytes", all.traffic);
    json_close(&j, '}');
    json_end_line(&j);
    return 0;
}

static void show_nothing(void *user, const wg_cell_entry *entry) {
    (void)user;
    (void)entry;
}

static int run(void *arguments) {
    const cells_arguments *a = arguments;
    const common *c = &a->common;
    if (!c->word.count)
        return list_zoo(c);
    wg_cell *cell = cell_load(c, c->word.word[0], &a->set);
    if (!cell)
        return 1;
    const wg_draw draw = {.lines = a->init.line.count, .line = a->init.line.word};
    wg_error error = {0};
    int status = 0;
    /* A line that fits no parameter is told before anything is printed. */
    if (wg_cell_describe(c->memory, cell, &draw, show_nothing, NULL, &error) != WG_OK)
        status = fail_error(c, &error);
    if (status == 0)
        status = c->json ? print_json(a, cell, &draw) : print_text(a, cell, &draw);
    if (status == 0)
        subject_warn(c, &(subject){.cell = cell});
    wg_cell_free(cell);
    return status;
}

const subcommand cells_subcommand = {
    .name = "cells",
    .usage = "[NAME|FILE]",
    .summary = "the cells of the zoo; of a cell: shapes, initialisers, cost",
    .details = "Lists the cells that come with the library; or prints what is known of one, or of "
               "a cell file: its text, every "
               "parameter with its shape, the reason for it and its initialiser, every other name, "
               "sizes and cost.\n"
               "\n"
               "A flop is one addition, multiplication or value of a function; a product over K "
               "counts 2 K for each element.",
    .options = options,
    .groups = TAKES_JSON | TAKES_MEMORY | TAKES_FOREIGN,
    .most_words = 1,
    .size = sizeof(cells_arguments),
    .run = run,
};
