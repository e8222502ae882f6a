/* cmd_graph.c: `wengert graph`: prints what a cell or model records, or the program made of it, as
 * text, DOT or JSON. */
#include "subject.h"
#include "unrolled.h"

#include <stdlib.h>
#include <string.h>

typedef struct graph_arguments {
    common common;
    int64_t steps, batch, input, hidden, threads;
    int dtype, format;
    bool gradient;
    const char *after, *without;
    settings set;
} graph_arguments;

static const option options[] = {
    {"steps", "T", OPTION_INTEGER, FIELD(graph_arguments, steps), "2", .least = 1, .most = 1 << 20,
     .help = "Steps to unroll."},
    {"batch", "B", OPTION_INTEGER, FIELD(graph_arguments, batch), "1", .least = 1, .most = 1 << 20,
     .help = "Rows."},
    {"input", "N", OPTION_INTEGER, FIELD(graph_arguments, input), "2", .least = 1, .most = 1 << 20,
     .help = "The length of a cell's input."},
    {"hidden", "N", OPTION_INTEGER, FIELD(graph_arguments, hidden), "3", .least = 1,
     .most = 1 << 20, .help = "A cell's hidden size."},
    {"type", "TYPE", OPTION_CHOICE, FIELD(graph_arguments, dtype), "f32", .choices = "f32|f64",
     .help = "A cell's type."},
    {"grad", NULL, OPTION_FLAG, FIELD(graph_arguments, gradient),
     .help = "Also record the gradient of the sum of the outputs and final states, by every array "
             "(of a model: by its "
             "parameters)."},
    {"format", "FORMAT", OPTION_CHOICE, FIELD(graph_arguments, format), "text",
     .choices = "text|dot|json", .help = "How to print; dot is Graphviz's."},
    {"after", "PASS", OPTION_TEXT, FIELD(graph_arguments, after), "record",
     .help = "Print the program as it is after this pass of the compiler; record: what the tape "
             "holds; place: with the memory "
             "map."},
    {"without", "PASSES", OPTION_TEXT, FIELD(graph_arguments, without),
     .help = "Leave these passes out, split by commas."},
    {"threads", "N", OPTION_INTEGER, FIELD(graph_arguments, threads), "0", .least = 0, .most = 1 << 16,
     .help = "Threads that the program is made for; 0: as many as the machine has."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(graph_arguments, set),
     .help = "Set a size or const of the cell."},
    {0},
};

static void write_out(void *user, const char *text, size_t size) {
    (void)user;
    fwrite(text, 1, size, stdout);
}

static int print(const graph_arguments *a, int n, const wg_var *y, const wg_params *names) {
    const wg_print_format format[] = {WG_PRINT_TEXT, WG_PRINT_DOT, WG_PRINT_JSON};
    const wg_print_options how = {.format = a->common.json ? WG_PRINT_JSON : format[a->format],
                                  .after = a->after,
                                  .without = a->without,
                                  .names = names,
                                  .threads = (int)a->threads};
    wg_error error = {0};
    if (wg_print(n, y, &how, write_out, NULL, &error) != WG_OK)
        return fail_error(&a->common, &error);
    return 0;
}

static int graph_of_cell(const graph_arguments *a, const wg_cell *cell) {
    const unrolled_sizes sizes = {
        a->steps, a->batch, a->input, a->hidden, a->dtype ? WG_F64 : WG_F32, a->gradient};
    unrolled u;
    int status = unrolled_make(&a->common, cell, &sizes, 0, &u);
    if (status == 0)
        status = print(a, u.outputs, u.output, u.arrays);
    unrolled_free(&u);
    return status;
}

/* ---- models ---- */

/* The leaves by name: x, states from zero, parameters. */
static wg_params *model_arrays(const graph_arguments *a, const wg_model *model) {
    const wg_model_options *o = wg_model_sizes(model);
    const int64_t dim[3] = {a->steps, a->batch, o->input};
    wg_params *arrays = wg_model_states(model, a->batch), *params = wg_model_params(model);
    wg_tensor *x = wg_tensor_new(a->common.memory, o->vocabulary ? WG_I32 : o->dtype,
                                 o->vocabulary ? 2 : 3, dim);
    bool good =
        arrays && x && wg_params_add(arrays, wg_cell_input(wg_model_cell(model), 0), x) == WG_OK;
    for (int i = 0; good && i < wg_params_count(params); i++)
        good =
            wg_params_add(arrays, wg_params_name(params, i), wg_params_tensor(params, i)) == WG_OK;
    wg_tensor_free(x);
    if (good)
        return arrays;
    wg_params_free(arrays);
    return NULL;
}

static int record_model(const graph_arguments *a, const wg_model *model, const wg_params *arrays,
                        wg_tape *tape, wg_forward *forward) {
    wg_var x = wg_leaf(tape, wg_params_find(arrays, wg_cell_input(wg_model_cell(model), 0)));
    if (wg_model_record(model, tape, x, arrays, NULL, forward) != WG_OK)
        return fail(&a->common, "%s", wg_tape_message(tape));
    wg_var *y = allocate((size_t)forward->weights + 1, sizeof *y), one = wg_c(1);
    int n = 1, status = 0;
    y[0] = forward->output;
    if (a->gradient && wg_vjp(1, y, &one, forward->weights, forward->weight, y + 1) == WG_OK)
        n += forward->weights;
    if (wg_tape_status(tape) != WG_OK)
        status = fail(&a->common, "%s", wg_tape_message(tape));
    else
        status = print(a, n, y, arrays);
    free(y);
    wg_forward_free(forward);
    return status;
}

static int graph_of_model(const graph_arguments *a, const wg_model *model) {
    wg_forward forward = {0};
    wg_params *arrays = model_arrays(a, model);
    wg_tape *tape = wg_tape_new(a->common.memory);
    int status =
        arrays && tape ? record_model(a, model, arrays, tape, &forward) : fail_memory(&a->common);
    wg_tape_free(tape);
    wg_params_free(arrays);
    return status;
}

static int run(void *arguments) {
    const graph_arguments *a = arguments;
    subject s;
    int status = subject_load(&a->common, a->common.word.word[0], &a->set, &s);
    if (status)
        return status;
    status = s.model ? graph_of_model(a, s.model) : graph_of_cell(a, s.cell);
    if (status == 0)
        subject_warn(&a->common, &s);
    subject_free(&s);
    return status;
}

const subcommand graph_subcommand = {
    .name = "graph",
    .usage = "CELL|MODEL",
    .summary = "prints the tape of a cell or model, or the program made of it",
    .details = "Unrolls a cell or model over a few steps and prints what is recorded, one op a "
               "line with its shape and inputs, or "
               "the program after any pass of the compiler; after the last passes with how values "
               "are stored, where, and how "
               "long they live.\n"
               "\n"
               "  wengert graph rnn --grad --after place\n"
               "  wengert graph lstm --steps 3 --format dot | dot -Tsvg > lstm.svg",
    .options = options,
    .groups = TAKES_JSON | TAKES_MEMORY | TAKES_FOREIGN,
    .least_words = 1,
    .most_words = 1,
    .size = sizeof(graph_arguments),
    .run = run,
};
