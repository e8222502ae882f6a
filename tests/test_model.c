/* Models: layers, files that carry them, and update rules. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "scratch.h"
#include "tape.h"

static wg_model *make(const char *cell_name, const wg_model_options *sizes, uint64_t seed) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(NULL, cell_name, 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_model *model = wg_model_new(NULL, cell, sizes, &(wg_draw){.seed = seed}, &error);
    cr_assert_not_null(model, "%s", error.text);
    return model;
}

static const wg_model_options characters = {
    .vocabulary = 7, .embed = 3, .hidden = 4, .layers = 2, .outputs = 7, .dtype = WG_F64};

static wg_tensor *tokens(int64_t T, int64_t B, int64_t vocabulary) {
    wg_tensor *x = wg_tensor_new(NULL, WG_I32, 2, (const int64_t[]){T, B});
    for (int64_t i = 0; i < T * B; i++)
        wg_tensor_set(x, i, (double)((i * 5 + i / 3) % vocabulary));
    return x;
}

/* The model's output for fixed tokens. */
static wg_tensor *output_of(const wg_model *model) {
    wg_error error = {0};
    wg_tensor *x = tokens(5, 2, 7), *out = NULL;
    wg_tape *tape = wg_tape_new(NULL);
    wg_forward pass;
    cr_assert_eq(wg_model_record(model, tape, wg_leaf(tape, x), NULL, NULL, &pass), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_eval(1, &pass.output, &out, &error), WG_OK, "%s", error.text);
    wg_forward_free(&pass);
    wg_tape_free(tape);
    wg_tensor_free(x);
    return out;
}

Test(model, a_saved_model_reads_back_to_the_same_function) {
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "model.safetensors");
    wg_error error = {0};
    wg_model *model = make("gru", &characters, 5);
    wg_params *more = wg_params_new(NULL), *back = NULL;
    wg_tensor *extra = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_tensor_set(extra, 0, 42);
    wg_params_add(more, "optimiser.step", extra);
    wg_params_set_meta(more, "vocabulary", "abc");
    cr_assert_eq(wg_model_save(model, more, path, &error), WG_OK, "%s", error.text);
    wg_model *again = wg_model_load(NULL, path, &back, &error);
    cr_assert_not_null(again, "%s", error.text);
    cr_assert_str_eq(wg_cell_text(wg_model_cell(again)), wg_cell_text(wg_model_cell(model)));
    cr_assert_eq(wg_tensor_get(wg_params_find(back, "optimiser.step"), 0), 42);
    cr_assert_str_eq(wg_params_meta(back, "vocabulary"), "abc");
    wg_tensor *a = output_of(model), *b = output_of(again);
    cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
    wg_tensor_free(a);
    wg_tensor_free(b);
    wg_tensor_free(extra);
    wg_params_free(more);
    wg_params_free(back);
    wg_model_free(model);
    wg_model_free(again);
    scratch_free(&folder);
}

/* A model file with one metadata key or tensor changed must be refused with a sentence that names the file. */
Test(model, a_model_file_that_lies_is_refused) {
    static const struct {
        const char *key, *value, *says;
        wg_status status;
    } lies[] = {
        {"wengert.format", "2", "format 2", WG_VERSION},
        {"wengert.format", "one", "wengert.format", WG_FORMAT},
        {"wengert.hidden", "5", "layer0", WG_FORMAT},
        {"wengert.hidden", "-5", "wengert.hidden", WG_FORMAT},
        {"wengert.layers", "3", "layer2", WG_FORMAT},
        {"wengert.layers", "99999999", "layers", WG_FORMAT},
        {"wengert.outputs", "8", "output.W", WG_FORMAT},
        {"wengert.dtype", "f32", "f32", WG_FORMAT},
        {"wengert.cell", "cell x\n", "", WG_SYNTAX},
    };
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "model.safetensors");
    wg_model *model = make("lstm", &characters, 5);
    for (int i = 0; i < WG_LEN(lies); i++) {
        wg_error error = {0};
        cr_assert_eq(wg_model_save(model, NULL, path, &error), WG_OK, "%s", error.text);
        wg_params *file = wg_params_load(NULL, path, &error);
        cr_assert_not_null(file, "%s", error.text);
        wg_params_set_meta(file, lies[i].key, lies[i].value);
        cr_assert_eq(wg_params_save(file, path, &error), WG_OK, "%s", error.text);
        wg_params_free(file);
        cr_assert_null(wg_model_load(NULL, path, NULL, &error), "%s = %s", lies[i].key, lies[i].value);
        cr_assert_eq(error.status, lies[i].status, "%s = %s: %s", lies[i].key, lies[i].value, error.text);
        cr_assert(strstr(error.text, lies[i].says), "%s", error.text);
    }
    wg_model_free(model);
    scratch_free(&folder);
}

Test(model, sizes_and_cells_that_do_not_fit_are_refused) {
    wg_error error = {0};
    wg_model_options both = characters, no_layers = characters;
    both.input = 3;
    no_layers.layers = 0;
    cr_assert_null(wg_model_new(NULL, wg_cell_load(NULL, "rnn", 0, NULL, NULL), &both, NULL, &error));
    cr_assert_eq(error.status, WG_ARGUMENT);
    error = (wg_error){0};
    cr_assert_null(wg_model_new(NULL, wg_cell_load(NULL, "rnn", 0, NULL, NULL), &no_layers, NULL, &error));
    cr_assert_eq(error.status, WG_RANGE);
    error = (wg_error){0};
    cr_assert_null(wg_model_new(NULL, NULL, &characters, NULL, &error), "no cell");
}

/* ---- update rules, against the same rules in plain C ---- */

enum { N = 3, UPDATES = 20 };

typedef struct trial {
    wg_optimiser_options options;
    double w[N], a[N], b[N]; /* weights and slots by hand */
} trial;

/* The gradient of 0.5 sum k w_k^2, k = 1, 2, 3. */
static double slope(int k, double w) { return (k + 1) * w; }

static double rate_by_hand(const wg_optimiser_options *o, int k) {
    double r = o->rate;
    if (o->schedule == WG_STEP)
        r *= pow(o->factor, floor(k / o->every));
    if (o->schedule == WG_COSINE)
        r = o->rate_last + (o->rate - o->rate_last) / 2 * (1 + cos(3.14159265358979323846 * fmin(k / o->every, 1)));
    return o->warm_up > 0 ? r * fmin(1, (k + 1) / o->warm_up) : r;
}

static void update_by_hand(trial *t, int k) {
    const wg_optimiser_options *o = &t->options;
    double g[N], norm = 0, r = rate_by_hand(o, k);
    for (int i = 0; i < N; i++) {
        g[i] = slope(i, t->w[i]);
        norm += g[i] * g[i];
    }
    for (int i = 0; i < N; i++) {
        if (o->clip_norm > 0)
            g[i] *= fmin(1, o->clip_norm / (sqrt(norm) + 1e-6));
        if (o->clip_value > 0)
            g[i] = fmax(-o->clip_value, fmin(o->clip_value, g[i]));
        if (o->method == WG_ADAMW)
            t->w[i] *= 1 - r * o->weight_decay;
        else
            g[i] += o->weight_decay * t->w[i];
        switch (o->method) {
        case WG_SGD:
            t->a[i] = o->momentum * t->a[i] + g[i];
            t->w[i] -= r * (o->nesterov ? g[i] + o->momentum * t->a[i] : t->a[i]);
            break;
        case WG_ADAM:
        case WG_ADAMW:
            t->a[i] = o->beta1 * t->a[i] + (1 - o->beta1) * g[i];
            t->b[i] = o->beta2 * t->b[i] + (1 - o->beta2) * g[i] * g[i];
            t->w[i] -= r / (1 - pow(o->beta1, k + 1)) * t->a[i] /
                       (sqrt(t->b[i]) / sqrt(1 - pow(o->beta2, k + 1)) + o->epsilon);
            break;
        case WG_RMSPROP:
            t->a[i] = o->decay * t->a[i] + (1 - o->decay) * g[i] * g[i];
            t->w[i] -= r * g[i] / (sqrt(t->a[i]) + o->epsilon);
            break;
        case WG_ADAGRAD:
            t->a[i] += g[i] * g[i];
            t->w[i] -= r * g[i] / (sqrt(t->a[i]) + o->epsilon);
            break;
        }
    }
}

static void check_trial(trial *t, const char *name) {
    wg_error error = {0};
    wg_tensor *w = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){N});
    wg_tensor *k = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){N});
    for (int i = 0; i < N; i++) {
        wg_tensor_set(w, i, t->w[i] = 1.5 - i);
        wg_tensor_set(k, i, i + 1);
    }
    wg_params *params = wg_params_new(NULL);
    wg_params_add(params, "w", w);
    wg_optimiser *optimiser = wg_optimiser_new(NULL, &t->options, params, &error);
    cr_assert_not_null(optimiser, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_var leaf = wg_leaf(tape, w), loss, g, out[16];
    loss = wg_mul(wg_sum(wg_mul(wg_leaf(tape, k), wg_square(leaf)), 0, NULL, false), wg_c(0.5));
    wg_grad(loss, 1, &leaf, &g);
    wg_update update;
    cr_assert_eq(wg_optimiser_record(optimiser, loss, &leaf, &g, &update), WG_OK, "%s", wg_tape_message(tape));
    memcpy(out, update.store, (size_t)update.n * sizeof *out);
    wg_plan *plan = wg_compile(update.n, out, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int step = 0; step < UPDATES; step++) {
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        update_by_hand(t, step);
        for (int i = 0; i < N; i++)
            cr_assert_float_eq(wg_tensor_get(w, i), t->w[i], 1e-12, "%s, update %d, weight %d: %.17g, by hand %.17g", name,
                               step, i, wg_tensor_get(w, i), t->w[i]);
    }
    cr_assert_eq(wg_tensor_get(wg_params_find(wg_optimiser_state(optimiser), "step"), 0), UPDATES);
    wg_plan_free(plan);
    wg_update_free(&update);
    wg_optimiser_free(optimiser);
    wg_tape_free(tape);
    wg_params_free(params);
    wg_tensor_free(w);
    wg_tensor_free(k);
}

Test(optimiser, every_method_updates_as_its_formula_says) {
    static const char *const name[] = {"sgd", "adam", "adamw", "rmsprop", "adagrad"};
    for (wg_method method = WG_SGD; method <= WG_ADAGRAD; method++) {
        trial plain = {.options = wg_optimiser_defaults(method)}, decayed = plain;
        check_trial(&plain, name[method]);
        decayed.options.weight_decay = 0.1;
        check_trial(&decayed, name[method]);
    }
    trial momentum = {.options = wg_optimiser_defaults(WG_SGD)}, nesterov;
    momentum.options.momentum = 0.9;
    nesterov = momentum;
    nesterov.options.nesterov = true;
    check_trial(&momentum, "momentum");
    check_trial(&nesterov, "nesterov");
}

Test(optimiser, clipping_and_schedules_follow_their_formulas) {
    trial t = {.options = wg_optimiser_defaults(WG_SGD)};
    t.options.clip_norm = 0.7;
    trial by_value = t, steps = t, cosine = t;
    check_trial(&t, "clip by norm");
    by_value.options.clip_value = 0.3;
    by_value.options.clip_norm = 0;
    check_trial(&by_value, "clip by value");
    steps.options.schedule = WG_STEP;
    steps.options.every = 4;
    steps.options.warm_up = 3;
    check_trial(&steps, "steps with warm-up");
    cosine.options.schedule = WG_COSINE;
    cosine.options.every = 12;
    cosine.options.rate_last = 1e-3;
    check_trial(&cosine, "cosine");
}

Test(optimiser, a_loss_that_is_not_finite_changes_nothing) {
    wg_error error = {0};
    wg_tensor *w = wg_tensor_new(NULL, WG_F32, 0, NULL);
    wg_tensor_set(w, 0, -1);
    wg_params *params = wg_params_new(NULL);
    wg_params_add(params, "w", w);
    wg_optimiser_options adam = wg_optimiser_defaults(WG_ADAM);
    wg_optimiser *optimiser = wg_optimiser_new(NULL, &adam, params, &error);
    wg_tape *tape = wg_tape_new(NULL);
    wg_var leaf = wg_leaf(tape, w), loss = wg_log(leaf), g;
    wg_grad(loss, 1, &leaf, &g);
    wg_update update;
    cr_assert_eq(wg_optimiser_record(optimiser, loss, &leaf, &g, &update), WG_OK);
    wg_plan *plan = wg_compile(update.n, update.store, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    cr_assert_eq(wg_run(plan, &error), WG_NONFINITE);
    cr_assert_eq(wg_tensor_get(w, 0), -1);
    cr_assert_eq(wg_tensor_get(wg_params_find(wg_optimiser_state(optimiser), "step"), 0), 0);
    wg_plan_free(plan);
    wg_update_free(&update);
    wg_optimiser_free(optimiser);
    wg_tape_free(tape);
    wg_params_free(params);
    wg_tensor_free(w);
}
