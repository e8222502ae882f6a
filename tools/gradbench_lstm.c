/* gradbench_lstm.c: the objective of GradBench's lstm eval recorded on a tape, a layer a cell
 * unrolled, differentiated and compiled. No derivative is written here. */
#include "gradbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wengert/notation.h>

/* Everything is as long as the input: h too. */
static const char cell_text[] = "cell diagonal\n"
                                "cite \"Srajer, Kukelova & Fitzgibbon, A Benchmark of Selected "
                                "Algorithmic Differentiation Tools, 2018\"\n"
                                "input x\n"
                                "state h[input], c[input]\n"
                                "f  = sigmoid(w_f*x + b_f)\n"
                                "i  = sigmoid(w_i*h + b_i)\n"
                                "o  = sigmoid(w_o*x + b_o)\n"
                                "g  = tanh(w_g*h + b_g)\n"
                                "c' = f*c + i*g\n"
                                "h' = o*tanh(c')\n";

/* In the order of the data. */
static const char *const parameter[2][4] = {{"w_f", "w_i", "w_o", "w_g"},
                                            {"b_f", "b_i", "b_o", "b_g"}};

void lstm_data_free(lstm_data *data) {
    free(data->main);
    free(data->extra);
    free(data->state);
    free(data->sequence);
    *data = (lstm_data){0};
}

/* ---- a function compiled ---- */

wg_var recorded_leaf(recorded *r, int rank, const int64_t *dim, const double *value) {
    if (!r->tape)
        r->tape = wg_tape_new(NULL);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, rank, dim);
    if (!r->tape || !tensor || r->leaves == RECORDED_LEAVES) {
        wg_tensor_free(tensor);
        return (wg_var){0};
    }
    memcpy(wg_tensor_write(tensor), value, (size_t)wg_tensor_shape(tensor)->count * sizeof *value);
    r->leaf[r->leaves++] = tensor;
    return wg_leaf(r->tape, tensor);
}

bool recorded_compile(recorded *r, int n, const wg_var *y, int threads, wg_error *error) {
    if (!r->tape || wg_tape_status(r->tape) != WG_OK) {
        *error = (wg_error){.status = r->tape ? wg_tape_status(r->tape) : WG_MEMORY};
        snprintf(error->text, sizeof error->text, "%s",
                 r->tape ? wg_tape_message(r->tape) : wg_status_sentence(WG_MEMORY));
        return false;
    }
    r->plan = wg_compile(n, y, &(wg_compile_options){.run = {.threads = threads}}, error);
    return r->plan != NULL;
}

void recorded_free(recorded *r) {
    wg_plan_free(r->plan);
    wg_tape_free(r->tape);
    for (int i = 0; i < r->leaves; i++)
        wg_tensor_free(r->leaf[i]);
    *r = (recorded){0};
}

/* ---- recording ---- */

/* Row k of a leaf (rows, d), as (d). */
static wg_var row(wg_var leaf, int64_t k) {
    const int64_t dim[1] = {wg_dim(leaf, -1)};
    return reshape(slice(leaf, 0, k, 1), 1, dim);
}

/* Rows [from, from + count) of a leaf (rows, d), as (count,1,d): a batch of one row. */
static wg_var rows(wg_var leaf, int64_t from, int64_t count) {
    const int64_t dim[3] = {count, 1, wg_dim(leaf, -1)};
    return reshape(slice(leaf, 0, from, count), 3, dim);
}

/* x (T,1,d) through layer l. main (8 layers, d), state (2 layers, d). Returns h of all steps
 * (T,1,d). */
static wg_var record_layer(wg_tape *tape, const wg_cell *cell, wg_var x, wg_var main, wg_var state,
                           int64_t l) {
    int64_t d = wg_dim(x, -1);
    wg_named given[11] = {
        {"x", x}, {"h", slice(state, 0, 2 * l, 1)}, {"c", slice(state, 0, 2 * l + 1, 1)}};
    for (int k = 0; k < 8; k++)
        given[3 + k] = (wg_named){parameter[k / 4][k % 4], row(main, 8 * l + k)};
    wg_unroll *u = wg_unroll_new(tape, cell, d, d, 11, given, NULL);
    wg_var y = u ? wg_unroll_output(u) : (wg_var){0};
    wg_unroll_free(u);
    return y;
}

/* -(1/(T d)) sum over t and j of next (y - ln(2 + sum over k of e^y)). y, next: (T,1,d). */
static wg_var record_loss(wg_var y, wg_var next) {
    wg_var norm = log(add(sum(exp(y), 1, (const int[]){-1}, true), 2));
    return neg(mean(mul(next, sub(y, norm)), 0, NULL, false));
}

bool lstm_record(recorded *r, const lstm_data *data, bool gradient, int threads, wg_error *error) {
    const int64_t d = data->width, T = data->steps - 1;
    wg_var main = recorded_leaf(r, 2, (const int64_t[]){8 * data->layers, d}, data->main);
    wg_var extra = recorded_leaf(r, 2, (const int64_t[]){3, d}, data->extra);
    wg_var state = recorded_leaf(r, 2, (const int64_t[]){2 * data->layers, d}, data->state);
    wg_var sequence = recorded_leaf(r, 2, (const int64_t[]){data->steps, d}, data->sequence);
    wg_cell *cell =
        wg_cell_parse(NULL, "diagonal", cell_text, sizeof cell_text - 1, 0, NULL, error);
    if (!cell)
        return false;
    wg_var x = mul(rows(sequence, 0, T), row(extra, 0)), y[2];
    for (int64_t l = 0; l < data->layers; l++)
        x = record_layer(r->tape, cell, x, main, state, l);
    wg_var loss = record_loss(add(mul(x, row(extra, 1)), row(extra, 2)), rows(sequence, 1, T));
    wg_cell_free(cell);
    if (!gradient)
        return recorded_compile(r, 1, &loss, threads, error);
    wg_grad(loss, 2, (const wg_var[]){main, extra}, y);
    return recorded_compile(r, 2, y, threads, error);
}
