/* cmd_sample.c: `wengert sample`: writes text from a trained model, a character at a time; the state is carried through a plan of
 * one step. */
#include "data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sample_arguments {
    common common;
    const char *prompt;
    double temperature;
    int64_t seed, length;
} sample_arguments;

static const option options[] = {
    {"prompt", "TEXT", OPTION_TEXT, FIELD(sample_arguments, prompt), .help = "Text to go on from."},
    {"temperature", "T", OPTION_NUMBER, FIELD(sample_arguments, temperature), "1", 0, 100,
     .help = "Divides the logits: below 1 the text is safer, above wilder; 0: always the likeliest character."},
    {"seed", "N", OPTION_INTEGER, FIELD(sample_arguments, seed), "0", 0, 9e15, .help = "Seed of the draws."},
    {"length", "N", OPTION_INTEGER, FIELD(sample_arguments, length), "500", 0, 9e15, .help = "Characters to write."},
    {0},
};

/* A model of text, and its one recorded step. */
typedef struct writer {
    const sample_arguments *a;
    wg_model *model;
    wg_params *more, *states;
    uint8_t byte_of[256];
    int tokens;
    wg_tape *tape;
    wg_tensor *x; /* (1,1) i32 */
    wg_forward forward;
    wg_plan *plan;
} writer;

static void writer_free(writer *w) {
    wg_plan_free(w->plan);
    wg_forward_free(&w->forward);
    wg_tensor_free(w->x);
    wg_params_free(w->states);
    wg_tape_free(w->tape);
    wg_params_free(w->more);
    wg_model_free(w->model);
}

static int open_model(writer *w, const char *path) {
    const common *c = &w->a->common;
    wg_error error = {0};
    w->model = wg_model_load_with(c->memory, path, c->foreign, &w->more, &error);
    if (!w->model)
        return fail_error(c, &error);
    const char *text = wg_params_meta(w->more, "vocabulary");
    const wg_model_options *o = wg_model_sizes(w->model);
    if (!text || !o->vocabulary)
        return fail(c, "%s: this is not a model of text: it has no vocabulary", path);
    w->tokens = vocabulary_read(text, w->byte_of);
    if (w->tokens < 0 || w->tokens != o->vocabulary || w->tokens != o->outputs)
        return fail(c, "%s: its vocabulary does not fit its sizes", path);
    return 0;
}

static int record(writer *w) {
    const common *c = &w->a->common;
    const wg_cell *cell = wg_model_cell(w->model);
    wg_error error = {0};
    wg_compile_options how = {.run = c->run};
    w->tape = wg_tape_new(c->memory);
    w->x = wg_tensor_new(c->memory, WG_I32, 2, (const int64_t[]){1, 1});
    w->states = wg_model_states(w->model, 1);
    if (!w->tape || !w->x || !w->states)
        return fail(c, "%s", wg_status_sentence(c->memory ? wg_memory_status(c->memory) : WG_MEMORY));
    if (wg_model_record(w->model, w->tape, wg_leaf(w->tape, w->x), w->states, NULL, &w->forward) != WG_OK)
        return fail(c, "%s", wg_tape_message(w->tape));
    int states = wg_cell_states(cell), n = 0;
    wg_var *out = allocate((size_t)(1 + w->forward.layers * states), sizeof *out);
    out[n++] = w->forward.output;
    for (int layer = 0; layer < w->forward.layers; layer++)
        for (int i = 0; i < states; i++) {
            char name[256];
            snprintf(name, sizeof name, "layer%d.%s", layer, wg_cell_state(cell, i));
            out[n++] = wg_store(wg_params_find(w->states, name),
                                wg_unroll_final(w->forward.layer[layer], wg_cell_state(cell, i)));
        }
    w->plan = wg_compile(n, out, &how, &error);
    free(out);
    return w->plan ? 0 : fail_error(c, &error);
}

/* Reads one token: then the plan's output holds the logits of the next. */
static int read_token(writer *w, int token) {
    wg_error error = {0};
    wg_tensor_set(w->x, 0, token);
    return wg_run(w->plan, &error) == WG_OK ? 0 : fail_error(&w->a->common, &error);
}

/* A token drawn from softmax(logits / temperature); -1 if the logits are not finite. */
static int draw_token(const writer *w, wg_random *random) {
    const wg_tensor *logits = wg_plan_output(w->plan, 0);
    double weight[256], sum = 0;
    int best = 0;
    for (int i = 0; i < w->tokens; i++) {
        if (!isfinite(wg_tensor_get(logits, i)))
            return -1;
        if (wg_tensor_get(logits, i) > wg_tensor_get(logits, best))
            best = i;
    }
    if (w->a->temperature == 0)
        return best;
    for (int i = 0; i < w->tokens; i++)
        sum += weight[i] = exp((wg_tensor_get(logits, i) - wg_tensor_get(logits, best)) / w->a->temperature);
    double left = wg_random_uniform(random) * sum;
    for (int i = 0; i < w->tokens; i++)
        if ((left -= weight[i]) < 0)
            return i;
    return best;
}

static int token_of(const writer *w, uint8_t byte) {
    for (int i = 0; i < w->tokens; i++)
        if (w->byte_of[i] == byte)
            return i;
    return -1;
}

/* Reads the prompt, or a line's end where there is none. */
static int read_prompt(writer *w) {
    const char *prompt = w->a->prompt;
    int status = 0;
    if (!prompt || !*prompt) {
        int line = token_of(w, '\n');
        return read_token(w, line < 0 ? 0 : line);
    }
    for (size_t i = 0; prompt[i] && status == 0; i++) {
        int token = token_of(w, (uint8_t)prompt[i]);
        status = token >= 0 ? read_token(w, token)
                            : fail(&w->a->common, "--prompt: the model never saw byte 0x%02x, at place %zu",
                                   (uint8_t)prompt[i], i);
    }
    return status;
}

static int write_text(writer *w) {
    wg_random random = {.seed = (uint64_t)w->a->seed};
    int status = read_prompt(w);
    if (status != 0)
        return status;
    fputs(w->a->prompt ? w->a->prompt : "", stdout);
    for (int64_t i = 0; i < w->a->length && status == 0 && !ferror(stdout); i++) {
        int token = draw_token(w, &random);
        if (token < 0)
            return fail(&w->a->common, "the model's output is not finite after %lld characters", (long long)i);
        putchar(w->byte_of[token]);
        status = read_token(w, token);
    }
    putchar('\n');
    return status;
}

static int run(void *arguments) {
    writer w = {.a = arguments};
    int status = open_model(&w, w.a->common.word.word[0]);
    if (status == 0)
        status = record(&w);
    if (status == 0)
        status = write_text(&w);
    writer_free(&w);
    return status;
}

const subcommand sample_subcommand = {
    .name = "sample",
    .usage = "MODEL",
    .summary = "write text from a trained model",
    .details = "Writes text from a model that `wengert train` made of text: each character is drawn from what the model expects "
               "after all before it.",
    .options = options,
    .groups = TAKES_RUN | TAKES_FOREIGN,
    .least_words = 1,
    .most_words = 1,
    .size = sizeof(sample_arguments),
    .run = run,
};
