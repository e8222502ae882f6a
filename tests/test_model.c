/* Models: layers, files that carry them, and update rules. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "failing.h"
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

/* ---- files: what they carry, and refusals ---- */

Test(model, settings_are_carried_into_files_however_many_and_back) {
    enum { MANY = 100 };
    static const char text[] = "cell s\nconst k = 1\nsize N = hidden\nstate h[N]\nfixed F\nh' = tanh(k*(W @ x) + F @ h)\n";
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "model.safetensors");
    wg_error error = {0};
    wg_setting setting[MANY];
    for (int i = 0; i < MANY; i++) /* the last one counts */
        setting[i] = i % 2 ? (wg_setting){"k", i == MANY - 1 ? "3/2" : "7"} : (wg_setting){"N", i == MANY - 2 ? "hidden + 2" : "3"};
    wg_cell *cell = wg_cell_parse(NULL, "s.cell", text, strlen(text), MANY, setting, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_model *model = wg_model_new(NULL, cell, &characters, &(wg_draw){.check = true}, &error);
    cr_assert_not_null(model, "%s", error.text);
    cr_assert_eq(wg_model_save(model, NULL, path, &error), WG_OK, "%s", error.text);
    wg_model *again = wg_model_load(NULL, path, NULL, &error);
    cr_assert_not_null(again, "%s", error.text);
    wg_shape shape;
    wg_cell_shape(wg_model_cell(again), "h", 3, 4, &shape, NULL);
    cr_assert_eq(shape.dim[0], 6);
    wg_tensor *a = output_of(model), *b = output_of(again);
    cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
    for (int i = 0; i < wg_params_count(wg_model_params(again)); i++)
        cr_assert_eq(wg_params_fixed(wg_model_params(again), i), strstr(wg_params_name(wg_model_params(again), i), ".F") != NULL);
    wg_tensor_free(a);
    wg_tensor_free(b);
    wg_model_free(model);
    wg_model_free(again);
    scratch_free(&folder);
}

Test(model, what_the_caller_adds_may_not_take_the_models_names) {
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "model.safetensors");
    wg_model *model = make("rnn", &characters, 5);
    wg_params *tensors = wg_params_new(NULL), *notes = wg_params_new(NULL);
    wg_tensor *extra = wg_tensor_new(NULL, WG_F64, 0, NULL);
    wg_error error = {0}, second = {0};
    wg_params_add(tensors, "layer1.U", extra);
    wg_params_set_meta(notes, "wengert.mine", "1");
    cr_assert_eq(wg_model_save(model, tensors, path, &error), WG_CONFLICT);
    cr_assert(strstr(error.text, "layer1.U"), "%s", error.text);
    cr_assert_eq(wg_model_save(model, notes, path, &second), WG_CONFLICT);
    cr_assert(strstr(second.text, "wengert.mine"), "%s", second.text);
    cr_assert_eq(scratch_sweep(&folder, 0), 0, "nothing was written");
    wg_tensor_free(extra);
    wg_params_free(tensors);
    wg_params_free(notes);
    wg_model_free(model);
    scratch_free(&folder);
}

Test(model, states_start_where_the_cell_says) {
    static const char text[] = "cell s\nstate h = h0, c = 0.25, d\nh' = tanh(W @ x + h)\nc' = h + c\nd' = h + d\ninit h0 = uniform(1)\n";
    wg_error error = {0};
    wg_model *model = wg_model_new(NULL, wg_cell_parse(NULL, "s.cell", text, strlen(text), 0, NULL, &error), &characters, NULL, &error);
    cr_assert_not_null(model, "%s", error.text);
    wg_params *states = wg_model_states(model, 3);
    cr_assert_eq(wg_params_count(states), 6);
    for (int layer = 0; layer < 2; layer++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d.h0", layer);
        const wg_tensor *start = wg_params_find(wg_model_params(model), name);
        for (int i = 0; i < 12; i++) {
            snprintf(name, sizeof name, "layer%d.h", layer);
            cr_assert_eq(wg_tensor_get(wg_params_find(states, name), i), wg_tensor_get(start, i % 4));
            snprintf(name, sizeof name, "layer%d.c", layer);
            cr_assert_eq(wg_tensor_get(wg_params_find(states, name), i), 0.25);
            snprintf(name, sizeof name, "layer%d.d", layer);
            cr_assert_eq(wg_tensor_get(wg_params_find(states, name), i), 0);
        }
    }
    wg_params_free(states);
    cr_assert_null(wg_model_states(model, -1));
    wg_model_free(model);
}

Test(model, a_pass_that_fails_leaves_nothing_on_the_tape) {
    wg_model *model = make("lstm", &characters, 5);
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = tokens(5, 2, 7), *bad = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){5, 2});
    wg_params *states = wg_model_states(model, 3); /* not the batch of x */
    wg_var good = wg_leaf(tape, x), wrong = wg_leaf(tape, bad);
    wg_forward pass;
    cr_assert_eq(wg_model_record(model, tape, wrong, NULL, NULL, &pass), WG_DTYPE, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_tape_count(tape), 2);
    wg_tape_clear(tape);
    cr_assert_eq(wg_model_record(model, tape, good, states, NULL, &pass), WG_SHAPE, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_tape_count(tape), 2);
    cr_assert_eq(tape->step_count, 0);
    cr_assert_null(pass.layer);
    wg_tape_clear(tape);
    cr_assert_eq(wg_model_record(model, tape, good, NULL, NULL, &pass), WG_OK, "%s", wg_tape_message(tape));
    wg_forward_free(&pass);
    wg_params_free(states);
    wg_tensor_free(x);
    wg_tensor_free(bad);
    wg_tape_free(tape);
    wg_model_free(model);
}

Test(model, every_failing_allocation_of_making_saving_and_reading_is_survived) {
    scratch folder = scratch_new();
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path(&folder, "model.safetensors"));
    wg_model_options tiny = characters;
    tiny.layers = 1;
    wg_model *safe = make("rnn", &tiny, 1);
    cr_assert_eq(wg_model_save(safe, NULL, path, NULL), WG_OK);
    bool failed = true;
    long k = 0;
    failing f;
    while (failed) {
        wg_memory *memory = failing_memory(&f, ++k);
        wg_error error = {0};
        wg_params *more = NULL;
        wg_model *model = NULL, *again = NULL;
        wg_cell *cell = wg_cell_load(memory, "rnn", 0, NULL, &error);
        if (cell)
            model = wg_model_new(memory, cell, &tiny, &(wg_draw){.seed = 1}, &error);
        if (model && wg_model_save(model, NULL, path, &error) == WG_OK)
            again = wg_model_load(memory, path, &more, &error);
        failed = failing_failed(&f);
        cr_assert_eq(again == NULL, failed, "allocation %ld", k);
        cr_assert_eq(error.status, failed ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, error.text);
        wg_params_free(more);
        wg_model_free(again);
        wg_model_free(model);
        cr_assert_eq(f.live, 0, "allocation %ld leaks", k);
        wg_memory_free(memory);
        again = wg_model_load(NULL, path, NULL, &error); /* the file is there, old or new */
        cr_assert_not_null(again);
        wg_model_free(again);
        cr_assert_eq(scratch_sweep(&folder, 0), 1, "allocation %ld leaves a file behind", k);
    }
    cr_assert_gt(k, 60);
    wg_model_free(safe);
    scratch_free(&folder);
}

/* ---- optimisers: what they leave alone, refusals ---- */

Test(optimiser, fixed_parameters_and_integers_are_never_touched) {
    for (wg_method method = WG_SGD; method <= WG_ADAGRAD; method++) {
        wg_params *params = wg_params_new(NULL);
        wg_tensor *w[3];
        for (int i = 0; i < 3; i++) {
            const char name[] = {"wfi"[i], 0};
            w[i] = wg_tensor_new(NULL, i == 2 ? WG_I32 : WG_F32, 1, (const int64_t[]){2});
            wg_tensor_fill(w[i], 3);
            wg_params_add(params, name, w[i]);
        }
        wg_params_set_fixed(params, 1, true);
        wg_optimiser_options o = wg_optimiser_defaults(method);
        o.weight_decay = 0.1;
        wg_optimiser *optimiser = wg_optimiser_new(NULL, &o, params, NULL);
        cr_assert_null(wg_params_find(wg_optimiser_state(optimiser), "f.m"));
        wg_tape *tape = wg_tape_new(NULL);
        wg_var weight[3], gradient[3] = {{0}}, loss;
        for (int i = 0; i < 3; i++)
            weight[i] = wg_leaf(tape, w[i]);
        loss = wg_sum(wg_mul(wg_square(weight[0]), weight[1]), 0, NULL, false);
        cr_assert_eq(wg_grad(loss, 1, weight, gradient), WG_OK);
        wg_update update;
        cr_assert_eq(wg_optimiser_record(optimiser, loss, weight, gradient, &update), WG_OK, "%s", wg_tape_message(tape));
        wg_plan *plan = wg_compile(update.n, update.store, NULL, NULL);
        uint64_t version = wg_tensor_version(w[1]);
        for (int i = 0; i < 3; i++)
            cr_assert_eq(wg_run(plan, NULL), WG_OK);
        cr_assert_neq(wg_tensor_get(w[0], 0), 3);
        cr_assert_eq(wg_tensor_get(w[1], 0), 3);
        cr_assert_eq(wg_tensor_version(w[1]), version);
        cr_assert_eq(wg_tensor_get(w[2], 1), 3);
        wg_plan_free(plan);
        wg_update_free(&update);
        wg_tape_free(tape);
        wg_optimiser_free(optimiser);
        wg_params_free(params);
        for (int i = 0; i < 3; i++)
            wg_tensor_free(w[i]);
    }
}

Test(optimiser, numbers_out_of_range_are_named) {
    wg_params *params = wg_params_new(NULL);
    const wg_optimiser_options good = wg_optimiser_defaults(WG_ADAM);
    wg_optimiser_options bad[6] = {good, good, good, good, good, good};
    static const char *const name[] = {"rate", "beta2", "every", "clip_norm", "warm_up", "no such method"};
    bad[0].rate = NAN;
    bad[1].beta2 = 1;
    bad[2].schedule = WG_COSINE;
    bad[2].every = 0;
    bad[3].clip_norm = -1;
    bad[4].warm_up = INFINITY;
    bad[5].method = (wg_method)99;
    for (int i = 0; i < WG_LEN(bad); i++) {
        wg_error error = {0};
        cr_assert_null(wg_optimiser_new(NULL, &bad[i], params, &error), "%s", name[i]);
        cr_assert(strstr(error.text, name[i]), "%s", error.text);
    }
    wg_params_free(params);
}

/* One training step of a weight with a long name; false if memory was refused. */
static bool train_once(wg_memory *memory, wg_tensor *w, wg_status *status) {
    char name[900];
    memset(name, 'w', sizeof name - 1);
    name[sizeof name - 1] = 0;
    wg_error error = {0};
    wg_optimiser_options o = wg_optimiser_defaults(WG_ADAMW);
    o.clip_norm = 1;
    o.schedule = WG_COSINE;
    o.every = 10;
    wg_params *params = wg_params_new(memory);
    *status = params ? wg_params_add(params, name, w) : wg_memory_status(memory);
    wg_optimiser *optimiser = *status == WG_OK ? wg_optimiser_new(memory, &o, params, &error) : NULL;
    wg_tape *tape = optimiser ? wg_tape_new(memory) : NULL;
    wg_update update = {0};
    wg_plan *plan = NULL;
    *status = tape ? WG_OK : wg_memory_status(memory);
    if (tape) {
        wg_var leaf = wg_leaf(tape, w), loss = wg_sum(wg_square(leaf), 0, NULL, false), g = {0};
        wg_grad(loss, 1, &leaf, &g);
        *status = wg_optimiser_record(optimiser, loss, &leaf, &g, &update);
        plan = *status == WG_OK ? wg_compile(update.n, update.store, NULL, &error) : NULL;
        *status = *status != WG_OK ? *status : plan ? wg_run(plan, &error) : error.status;
        cr_assert((*status == WG_OK) == (plan != NULL));
    }
    wg_plan_free(plan);
    wg_update_free(&update);
    wg_tape_free(tape);
    wg_optimiser_free(optimiser);
    wg_params_free(params);
    return *status == WG_OK;
}

Test(optimiser, every_failing_allocation_is_survived_and_no_weight_is_half_updated) {
    bool failed = true;
    failing f;
    long k = 0;
    while (failed) {
        wg_memory *memory = failing_memory(&f, ++k);
        wg_tensor *w = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){3});
        wg_tensor_fill(w, 2);
        wg_status status;
        bool done = train_once(memory, w, &status);
        failed = failing_failed(&f);
        cr_assert(done || status == WG_MEMORY, "allocation %ld: %s", k, wg_status_name(status));
        cr_assert(done || failed);
        for (int i = 0; i < 3; i++)
            cr_assert(done ? wg_tensor_get(w, i) < 2 : wg_tensor_get(w, i) == 2);
        cr_assert_eq(f.live, 0, "allocation %ld leaks", k);
        wg_tensor_free(w);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30);
}

Test(model, a_bad_size_of_any_layer_is_told_by_its_place) {
    static const struct {
        const char *text;
        int64_t hidden;
        int layers;
        const char *words;
    } says[] = {
        /* of a state that no parameter's size rests on */
        {"cell s\nstate h, c[hidden/2]\nh' = tanh(W @ x + mean(c)*h)\nc' = 0.5*c\n", 5, 1, "s.cell:2:10: 'c' has length hidden/2"},
        /* of the second layer only, whose input is the first one's output */
        {"cell s\nstate h\nh' = tanh(W @ x + V @ index(input/8))\n", 4, 2, "s.cell:3:19: 'V' has length input/8"},
        /* a number to start from */
        {"cell s\nstate h, c = 1/(hidden - 5)\nh' = tanh(W @ x + c)\nc' = c\n", 5, 1, "s.cell:2:15: this is not a finite number"},
    };
    for (int i = 0; i < (int)(sizeof says / sizeof *says); i++)
        for (int good = 0; good < 2; good++) {
            wg_error error = {0};
            wg_model_options sizes = {.input = 8, .hidden = good ? 8 : says[i].hidden, .layers = says[i].layers, .dtype = WG_F64};
            wg_cell *cell = wg_cell_parse(NULL, "s.cell", says[i].text, strlen(says[i].text), 0, NULL, &error);
            wg_model *model = wg_model_new(NULL, cell, &sizes, NULL, &error);
            cr_assert_eq(error.status, good ? WG_OK : WG_RANGE, "%d: %s", i, error.text);
            cr_assert_eq(model != NULL, good);
            cr_assert(good || strncmp(error.text, says[i].words, strlen(says[i].words)) == 0, "%s", error.text);
            wg_params *states = good ? wg_model_states(model, 2) : NULL;
            cr_assert_eq(states != NULL, good);
            wg_params_free(states);
            wg_model_free(model);
        }
}
