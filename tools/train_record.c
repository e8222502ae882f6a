/* train_record.c: records a network over a batch with its loss, and compiles it: the training step, forward to update, is one
 * plan, and validation another. */
#include "train.h"

#include <stdlib.h>
#include <string.h>

void recorded_free(recorded *r) {
    wg_plan_free(r->plan);
    wg_forward_free(&r->forward);
    batch_free(&r->batch);
    wg_params_free(r->states);
    wg_tape_free(r->tape);
    free(r->out);
    *r = (recorded){0};
}

static int tape_failed(const training *t, const recorded *r) {
    wg_status status = r->tape ? wg_tape_status(r->tape) : WG_MEMORY;
    const char *message = r->tape ? wg_tape_message(r->tape) : "";
    return fail(t->c, "%s", *message ? message : wg_status_sentence(status));
}

static int no_memory(const training *t) {
    wg_status status = wg_memory_status(t->c->memory);
    return fail(t->c, "%s", wg_status_sentence(status == WG_OK ? WG_MEMORY : status));
}

static void add_output(recorded *r, wg_var y) {
    r->out = grow(r->out, (size_t)r->n + 1, sizeof *r->out);
    r->out[r->n++] = y;
}

/* ---- losses ---- */

/* (T,B,m) at the last step of each row: (B,m). */
static wg_var at_last(const dataset *d, wg_var y, wg_var weight) {
    const int64_t flat[2] = {wg_dim(y, 1), wg_dim(y, 2)}, column[3] = {wg_dim(y, 0), wg_dim(y, 1), 1};
    if (d->weighs)
        return wg_sum(wg_mul(y, wg_reshape(weight, 3, column)), 1, (const int[]){0}, false);
    return wg_reshape(wg_slice(y, 0, wg_dim(y, 0) - 1, 1), 2, flat);
}

/* Of each element, before the mean over outputs. */
static wg_var element_loss(loss_kind kind, wg_var y, wg_var target) {
    if (kind == LOSS_BCE)
        return wg_sub(wg_softplus(y), wg_mul(y, target));
    wg_var d = wg_sub(y, target), square = wg_square(d);
    if (kind == LOSS_MSE)
        return square;
    wg_var size = wg_abs(d);
    return wg_where(wg_less(size, wg_c(1)), wg_mul(wg_c(0.5), square), wg_sub(size, wg_c(0.5)));
}

/* The mean over steps that weigh. */
static wg_var weighted(wg_var rows, wg_var weight) {
    return wg_div(wg_sum(wg_mul(rows, weight), 0, NULL, false), wg_max(wg_sum(weight, 0, NULL, false), wg_c(1e-30)));
}

static wg_var loss_of(const dataset *d, wg_var y, wg_var target, wg_var weight) {
    bool rows = d->weighs && !d->last;
    if (rows)
        return weighted(d->loss == LOSS_CE ? wg_softmax_cross_entropy_rows(y, target, -1)
                                           : wg_mean(element_loss(d->loss, y, target), 1, (const int[]){-1}, false),
                        weight);
    switch (d->loss) {
    case LOSS_CE: return wg_softmax_cross_entropy(y, target, -1);
    case LOSS_MSE: return wg_mse(y, target);
    case LOSS_HUBER: return wg_huber(y, target, 1);
    case LOSS_BCE: return wg_sigmoid_cross_entropy(y, target);
    }
    return (wg_var){0};
}

/* The share of right labels, among the steps that are scored. */
static wg_var accuracy_of(const dataset *d, wg_var y, wg_var label, wg_var weight) {
    wg_var right = wg_cast(wg_equal(wg_argmax(y, -1, false), label), d->dtype);
    if (d->weighs && !d->last)
        return weighted(right, weight);
    if (!d->last && d->scored_from)
        right = wg_slice(right, 0, d->scored_from, wg_dim(right, 0) - d->scored_from);
    return wg_mean(right, 0, NULL, false);
}

/* ---- the network ---- */

static int record_network(training *t, int which, bool training_mode) {
    const dataset *d = t->data;
    recorded *r = &t->part[which];
    r->tape = wg_tape_new(t->c->memory);
    if (!r->tape || !batch_new(t->c->memory, d, which, &r->batch))
        return no_memory(t);
    if (d->carries && !(r->states = wg_model_states(t->model, d->part[which].batch)))
        return no_memory(t);
    wg_unroll_options options = {.training = training_mode};
    if (training_mode)
        options.key = wg_leaf(r->tape, t->key);
    if (r->batch.lengths)
        options.lengths = wg_leaf(r->tape, r->batch.lengths);
    wg_var x = wg_leaf(r->tape, r->batch.x), target = wg_leaf(r->tape, r->batch.y), weight = {0};
    if (r->batch.weight)
        weight = wg_leaf(r->tape, r->batch.weight);
    if (wg_model_record(t->model, r->tape, x, r->states, &options, &r->forward) != WG_OK)
        return tape_failed(t, r);
    wg_var y = d->last ? at_last(d, r->forward.output, weight) : r->forward.output;
    r->loss = loss_of(d, y, target, weight);
    add_output(r, r->loss);
    if (which == HELD_OUT && d->loss == LOSS_CE)
        add_output(r, accuracy_of(d, y, target, weight));
    return wg_tape_status(r->tape) == WG_OK ? 0 : tape_failed(t, r);
}

/* The final states become the next batch's initial ones. */
static void carry_states(training *t, recorded *r) {
    const wg_cell *cell = wg_model_cell(t->model);
    for (int layer = 0; r->states && layer < r->forward.layers; layer++)
        for (int i = 0; i < wg_cell_states(cell); i++) {
            char name[256];
            snprintf(name, sizeof name, "layer%d.%s", layer, wg_cell_state(cell, i));
            add_output(r, wg_store(wg_params_find(r->states, name),
                                   wg_unroll_final(r->forward.layer[layer], wg_cell_state(cell, i))));
        }
}

static int compile(training *t, recorded *r) {
    wg_error error = {0};
    wg_compile_options options = {.run = t->c->run};
    if (wg_tape_status(r->tape) != WG_OK)
        return tape_failed(t, r);
    r->plan = wg_compile(r->n, r->out, &options, &error);
    return r->plan ? 0 : fail_error(t->c, &error);
}

/* Gradients of all parameters, by BPTT; and the update. Fixed parameters are differentiated too, which dead code
 * elimination undoes. */
static int record_update(training *t, recorded *r) {
    int n = r->forward.weights;
    wg_var *gradient = allocate((size_t)n, sizeof *gradient);
    wg_update update = {0};
    wg_status status = wg_grad(r->loss, n, r->forward.weight, gradient);
    if (status == WG_OK)
        status = wg_optimiser_record(t->optimiser, r->loss, r->forward.weight, gradient, &update);
    free(gradient);
    if (status != WG_OK)
        return tape_failed(t, r);
    r->norm = update.norm;
    r->rate = update.rate;
    add_output(r, update.norm);
    add_output(r, update.rate);
    for (int i = 0; i < update.n; i++)
        add_output(r, update.store[i]);
    wg_update_free(&update);
    return 0;
}

int record_training(training *t) {
    recorded *r = &t->part[TRAINED];
    int status = record_network(t, TRAINED, true);
    if (status == 0)
        status = record_update(t, r);
    if (status != 0)
        return status;
    carry_states(t, r);
    add_output(r, wg_store(t->key, wg_random_next(wg_leaf(r->tape, t->key))));
    return compile(t, r);
}

int record_validation(training *t) {
    recorded *r = &t->part[HELD_OUT];
    if (t->data->part[HELD_OUT].count == 0)
        return 0;
    int status = record_network(t, HELD_OUT, false);
    if (status != 0)
        return status;
    carry_states(t, r);
    return compile(t, r);
}
