/* Unrolled cells: backpropagation through time against the lecture's formulas, lengths, handles, cells in C. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "failing.h"
#include "drawn_cell.h"

#include "wengert/notation.h"

enum { T = 6, B = 2, I = 3, H = 4, V = 5 };

static wg_tensor *drawn(wg_random *random, int rank, const int64_t *dim, double scale) {
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, rank, dim);
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, scale * wg_random_normal(random));
    return tensor;
}

#define DIM(...) WG_LEN(((const int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__}

static double at(const wg_tensor *x, int64_t i) { return wg_tensor_get(x, i); }

/* The lecture's network on one tape: tanh units, softmax outputs, cost summed over steps and rows. */
typedef struct lecture {
    wg_tensor *x, *W, *U, *b, *Wo, *bo, *label;
    wg_tensor *cost, *grad[5]; /* of W, U, b, Wo, bo, by wg_grad */
} lecture;

static void run_lecture(lecture *l) {
    wg_random random = {.seed = 3};
    wg_error error = {0};
    l->x = drawn(&random, DIM(T, B, I), 1);
    l->W = drawn(&random, DIM(H, I), 0.7);
    l->U = drawn(&random, DIM(H, H), 0.7);
    l->b = drawn(&random, DIM(H), 0.3);
    l->Wo = drawn(&random, DIM(V, H), 0.9);
    l->bo = drawn(&random, DIM(V), 0.3);
    l->label = wg_tensor_new(NULL, WG_I32, DIM(T, B));
    for (int i = 0; i < T * B; i++)
        wg_tensor_set(l->label, i, (double)wg_random_below(&random, V));
    wg_cell *cell = wg_cell_load(NULL, "rnn", 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_var w[5] = {wg_leaf(tape, l->W), wg_leaf(tape, l->U), wg_leaf(tape, l->b), wg_leaf(tape, l->Wo),
                   wg_leaf(tape, l->bo)};
    const wg_named given[] = {{"x", wg_leaf(tape, l->x)}, {"W", w[0]}, {"U", w[1]}, {"b", w[2]}};
    wg_unroll *unroll = wg_unroll_new(tape, cell, I, H, 4, given, NULL);
    cr_assert_not_null(unroll, "%s", wg_tape_message(tape));
    wg_var z = add(matmul(wg_unroll_output(unroll), w[3], false, true), w[4]);
    wg_var cost = mul((double)(T * B), softmax_cross_entropy(z, wg_leaf(tape, l->label), -1)), y[6];
    cr_assert_eq(wg_grad(cost, 5, w, y), WG_OK, "%s", wg_tape_message(tape));
    y[5] = cost;
    wg_tensor *out[6];
    cr_assert_eq(wg_eval(6, y, out, &error), WG_OK, "%s", error.text);
    memcpy(l->grad, out, sizeof l->grad);
    l->cost = out[5];
    wg_unroll_free(unroll);
    wg_tape_free(tape);
    wg_cell_free(cell);
}

static void free_lecture(lecture *l) {
    wg_tensor *all[] = {l->x, l->W, l->U, l->b, l->Wo, l->bo, l->label, l->cost};
    for (int i = 0; i < WG_LEN(all); i++)
        wg_tensor_free(all[i]);
    for (int i = 0; i < 5; i++)
        wg_tensor_free(l->grad[i]);
}

/* dC_t/dz = a - 1{y=j}; back through h_t = tanh(W x_t + U h_{t-1} + b), written out by hand for one row. */
static double lecture_row(const lecture *l, int row, double dW[H][I], double dU[H][H], double db[H], double dWo[V][H],
                          double dbo[V]) {
    double h[T + 1][H] = {{0}}, dz[T][V], back[H] = {0}, cost = 0;
    for (int t = 0; t < T; t++) {
        double z[V], sum = 0;
        for (int i = 0; i < H; i++) {
            double s = at(l->b, i);
            for (int k = 0; k < I; k++)
                s += at(l->W, i * I + k) * at(l->x, (t * B + row) * I + k);
            for (int k = 0; k < H; k++)
                s += at(l->U, i * H + k) * h[t][k];
            h[t + 1][i] = (tanh)(s);
        }
        for (int j = 0; j < V; j++) {
            z[j] = at(l->bo, j);
            for (int k = 0; k < H; k++)
                z[j] += at(l->Wo, j * H + k) * h[t + 1][k];
            sum += (exp)(z[j]);
        }
        int label = (int)at(l->label, t * B + row);
        cost -= z[label] - (log)(sum);
        for (int j = 0; j < V; j++)
            dz[t][j] = (exp)(z[j]) / sum - (j == label);
    }
    for (int t = T - 1; t >= 0; t--) {
        double ds[H];
        for (int i = 0; i < H; i++) {
            double dh = back[i];
            for (int j = 0; j < V; j++)
                dh += at(l->Wo, j * H + i) * dz[t][j];
            ds[i] = dh * (1 - h[t + 1][i] * h[t + 1][i]);
        }
        for (int i = 0; i < H; i++) {
            db[i] += ds[i];
            back[i] = 0;
            for (int k = 0; k < I; k++)
                dW[i][k] += ds[i] * at(l->x, (t * B + row) * I + k);
            for (int k = 0; k < H; k++) {
                dU[i][k] += ds[i] * h[t][k];
                back[i] += at(l->U, k * H + i) * ds[k];
            }
        }
        for (int j = 0; j < V; j++) {
            dbo[j] += dz[t][j];
            for (int k = 0; k < H; k++)
                dWo[j][k] += dz[t][j] * h[t + 1][k];
        }
    }
    return cost;
}

Test(unroll, bptt_equals_the_lectures_formulas_for_the_tanh_network) {
    lecture l = {0};
    double dW[H][I] = {{0}}, dU[H][H] = {{0}}, db[H] = {0}, dWo[V][H] = {{0}}, dbo[V] = {0}, cost = 0;
    run_lecture(&l);
    for (int row = 0; row < B; row++)
        cost += lecture_row(&l, row, dW, dU, db, dWo, dbo);
    cr_assert_float_eq(at(l.cost, 0), cost, 1e-12 * cost);
    const double *hand[5] = {dW[0], dU[0], db, dWo[0], dbo};
    for (int g = 0; g < 5; g++)
        for (int64_t i = 0; i < wg_tensor_shape(l.grad[g])->count; i++)
            cr_assert_float_eq(at(l.grad[g], i), hand[g][i], 1e-12, "gradient %d, element %d: %g, by hand %g", g, (int)i,
                               at(l.grad[g], i), hand[g][i]);
    free_lecture(&l);
}

/* A cell's parameters, inputs of T steps, all drawn; returns the leaves as given. */
static int draw_all(wg_tape *tape, const wg_cell *cell, wg_random *random, wg_named *given, wg_tensor **kept) {
    int n = 0;
    for (int k = 0; k < wg_cell_inputs(cell) + wg_cell_params(cell) + wg_cell_states(cell); k++) {
        int p = k - wg_cell_inputs(cell), s = p - wg_cell_params(cell);
        const char *name = p < 0 ? wg_cell_input(cell, k) : s < 0 ? wg_cell_param(cell, p) : wg_cell_state(cell, s);
        wg_shape shape;
        cr_assert_eq(wg_cell_shape(cell, name, I, H, &shape, NULL), WG_OK);
        int64_t dim[3] = {T, B, shape.dim[0]};
        if (p >= 0 && s < 0)
            kept[n] = drawn(random, shape.rank, shape.dim, 0.5);
        else
            kept[n] = p < 0 ? drawn(random, 3, dim, 1) : drawn(random, 2, dim + 1, 0.5);
        given[n] = (wg_named){name, wg_leaf(tape, kept[n])};
        n++;
    }
    return n;
}

Test(unroll, padding_beyond_a_length_touches_nothing_even_if_it_is_nan) {
    for (int z = 0; z < wg_zoo_count(); z++) {
        wg_error error = {0};
        wg_cell *cell = wg_cell_load(NULL, wg_zoo_name(z), 0, NULL, &error);
        cr_assert_not_null(cell, "%s", error.text);
        wg_random random = {.seed = 5};
        wg_tape *tape = wg_tape_new(NULL);
        wg_named given[64];
        wg_tensor *kept[64], *length = wg_tensor_new(NULL, WG_I32, DIM(B)), *out[2][64];
        int n = draw_all(tape, cell, &random, given, kept);
        wg_tensor_set(length, 0, T);
        wg_tensor_set(length, 1, 2);
        for (int dirty = 0; dirty < 2; dirty++) {
            for (int t = 2; t < T; t++)
                for (int i = 0; i < I; i++)
                    wg_tensor_set(kept[0], (t * B + 1) * I + i, dirty ? NAN : 0);
            wg_unroll *unroll = wg_unroll_new(tape, cell, I, H, n, given,
                                              &(wg_unroll_options){.lengths = wg_leaf(tape, length)});
            cr_assert_not_null(unroll, "%s", wg_tape_message(tape));
            wg_var y[65] = {wg_unroll_output(unroll)}, wrt[64], total = sum(square(y[0]), 0, NULL, false);
            for (int i = 0; i < n; i++)
                wrt[i] = given[i].var;
            cr_assert_eq(wg_grad(total, n, wrt, y + 1), WG_OK, "%s", wg_tape_message(tape));
            cr_assert_eq(wg_eval(n + 1, y, out[dirty], &error), WG_OK, "%s", error.text);
            wg_unroll_free(unroll);
        }
        for (int k = 0; k <= n; k++) {
            cr_assert_eq(memcmp(wg_tensor_data(out[0][k]), wg_tensor_data(out[1][k]), wg_tensor_bytes(out[0][k])), 0,
                         "%s: array %d depends on the padding", wg_zoo_name(z), k);
            for (int64_t i = 0; i < wg_tensor_shape(out[0][k])->count; i++)
                cr_assert(isfinite(at(out[0][k], i)));
            wg_tensor_free(out[0][k]);
            wg_tensor_free(out[1][k]);
        }
        for (int i = 0; i < n; i++)
            wg_tensor_free(kept[i]);
        wg_tensor_free(length);
        wg_tape_free(tape);
        wg_cell_free(cell);
    }
}

Test(unroll, handles_reach_into_steps_and_can_be_differentiated) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(NULL, "lstm", 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_random random = {.seed = 7};
    wg_tape *tape = wg_tape_new(NULL);
    wg_named given[64];
    wg_tensor *kept[64], *out[3];
    int n = draw_all(tape, cell, &random, given, kept);
    wg_unroll *unroll = wg_unroll_new(tape, cell, I, H, n, given, NULL);
    cr_assert_not_null(unroll, "%s", wg_tape_message(tape));
    wg_var c3 = wg_at(unroll, 3, "c"), f4 = wg_at(unroll, 4, "f"), last = wg_unroll_final(unroll, "c"), dc[2];
    /* c_5 = f_5*c_4 + i_5*g_5: through c alone dc_4/dc_3 is diag(f_4) plus what goes through h */
    wg_var y = sum(wg_at(unroll, 4, "c"), 0, NULL, false);
    const wg_var wrt[2] = {c3, f4};
    cr_assert_eq(wg_grad(y, 2, wrt, dc), WG_OK, "%s", wg_tape_message(tape));
    const wg_var outs[3] = {dc[1], c3, last};
    cr_assert_eq(wg_eval(3, outs, out, &error), WG_OK, "%s", error.text);
    for (int i = 0; i < B * H; i++) /* d sum(c_4) / d f_4 = c_3 */
        cr_assert_float_eq(at(out[0], i), at(out[1], i), 1e-14);
    cr_assert(!wg_valid(wg_at(unroll, T, "c")));
    cr_assert(!wg_valid(wg_at(unroll, 0, "nothing")));
    cr_assert(wg_valid(wg_at(unroll, -1, "h")));
    for (int i = 0; i < 3; i++)
        wg_tensor_free(out[i]);
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_unroll_free(unroll);
    wg_tape_free(tape);
    wg_cell_free(cell);
}

Test(unroll, what_is_missing_or_misshapen_is_named) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(NULL, "gru", 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_random random = {.seed = 1};
    wg_tensor *x = drawn(&random, DIM(T, B, I), 1);
    wg_named given[1] = {{"x", wg_leaf(tape, x)}};
    cr_assert_null(wg_unroll_new(tape, cell, I, H, 1, given, NULL));
    cr_assert_eq(wg_tape_status(tape), WG_NOT_FOUND);
    for (int i = 0; i < wg_cell_params(cell); i++)
        cr_assert(strstr(wg_tape_message(tape), wg_cell_param(cell, i)), "%s", wg_tape_message(tape));
    wg_tape_clear(tape);
    given[0].name = "nobody";
    cr_assert_null(wg_unroll_new(tape, cell, I, H, 1, given, NULL));
    cr_assert(strstr(wg_tape_message(tape), "nobody"), "%s", wg_tape_message(tape));
    wg_tape_free(tape);
    wg_tensor_free(x);
    wg_cell_free(cell);
}

/* The lstm's equations again, in C. */
static wg_status lstm_step(wg_step *s, void *user) {
    static const char gates[] = "ifgo";
    wg_var x = wg_step_get(s, "x"), h = wg_step_get(s, "h"), a[4];
    (*(int *)user)++;
    for (int k = 0; k < 4; k++) {
        const char W[] = {'W', '_', gates[k], 0}, U[] = {'U', '_', gates[k], 0}, b[] = {'b', '_', gates[k], 0};
        a[k] = add(add(linear(x, wg_step_get(s, W)), linear(h, wg_step_get(s, U))), wg_step_get(s, b));
    }
    wg_var i = sigmoid(a[0]), f = sigmoid(a[1]), g = tanh(a[2]), o = sigmoid(a[3]);
    wg_var c = add(mul(f, wg_step_get(s, "c")), mul(i, g));
    wg_step_set(s, "forget", f);
    wg_step_set(s, "c", c);
    return wg_step_set(s, "h", mul(o, tanh(c)));
}

static const char lstm_declarations[] = "cell mine\ninput x\nstate h, c\n"
                                        "param W_i[hidden, input], U_i[hidden, hidden], b_i[hidden]\n"
                                        "param W_f[hidden, input], U_f[hidden, hidden], b_f[hidden]\n"
                                        "param W_g[hidden, input], U_g[hidden, hidden], b_g[hidden]\n"
                                        "param W_o[hidden, input], U_o[hidden, hidden], b_o[hidden]\n";

/* Values and gradients of a cell with what is given under its names. */
static void outputs_of(const wg_cell *cell, wg_tensor **out) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_random random = {.seed = 11};
    wg_named given[16];
    wg_tensor *kept[16];
    wg_var wrt[16], y[16];
    int n = draw_all(tape, cell, &random, given, kept);
    wg_unroll *unroll = wg_unroll_new(tape, cell, I, H, n, given, NULL);
    cr_assert_not_null(unroll, "%s", wg_tape_message(tape));
    y[0] = wg_unroll_output(unroll);
    for (int i = 0; i < n; i++)
        wrt[i] = given[i].var;
    wg_grad(sum(square(y[0]), 0, NULL, false), n, wrt, y + 1);
    cr_assert_eq(wg_eval(n + 1, y, out, NULL), WG_OK);
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_unroll_free(unroll);
    wg_tape_free(tape);
}

Test(unroll, a_cell_in_c_is_equal_to_the_same_cell_as_text) {
    wg_error error = {0};
    int calls = 0;
    wg_tensor *text[16], *in_c[16];
    wg_cell *cell = wg_cell_load(NULL, "lstm", 0, NULL, &error);
    wg_cell *mine = wg_cell_new(NULL, lstm_declarations, lstm_step, &calls, &error);
    cr_assert_not_null(mine, "%s", error.text);
    int n = 1 + wg_cell_inputs(mine) + wg_cell_params(mine) + wg_cell_states(mine);
    cr_assert_eq(wg_cell_params(mine), wg_cell_params(cell));
    for (int i = 0; i < wg_cell_params(cell); i++)
        cr_assert_str_eq(wg_cell_param(mine, i), wg_cell_param(cell, i), "the declarations follow the text");
    outputs_of(cell, text);
    outputs_of(mine, in_c);
    cr_assert_eq(calls, T);
    for (int k = 0; k < n; k++) {
        for (int64_t i = 0; i < wg_tensor_shape(text[k])->count; i++)
            cr_assert_float_eq(at(text[k], i), at(in_c[k], i), 1e-14);
        wg_tensor_free(text[k]);
        wg_tensor_free(in_c[k]);
    }
    wg_cell_free(mine);
    wg_cell_free(cell);
}

static wg_status forgetful_step(wg_step *s, void *user) {
    (void)user;
    return wg_step_set(s, "h", wg_step_get(s, "h"));
}

Test(unroll, a_cell_in_c_must_give_every_state_its_next_value) {
    wg_error error = {0};
    cr_assert_null(wg_cell_new(NULL, "cell bad\nstate h\nh' = h\n", forgetful_step, NULL, &error));
    cr_assert_eq(error.status, WG_SYNTAX);
    wg_cell *cell = wg_cell_new(NULL, "cell bad\ninput x\nstate h, c\n", forgetful_step, NULL, NULL);
    cr_assert_not_null(cell);
    wg_tape *tape = wg_tape_new(NULL);
    wg_named given[8];
    wg_tensor *kept[8];
    wg_random random = {.seed = 1};
    int n = draw_all(tape, cell, &random, given, kept);
    cr_assert_null(wg_unroll_new(tape, cell, I, H, n, given, NULL));
    cr_assert(strstr(wg_tape_message(tape), "state c"), "%s", wg_tape_message(tape));
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_tape_free(tape);
    wg_cell_free(cell);
}

/* Nodes that the derivative of the gradient of an LSTM over `steps` adds to the tape, by either mode. */
static int64_t second_derivative_nodes(int64_t steps, bool forward) {
    wg_error error = {0};
    wg_tape *tape = wg_tape_new(NULL);
    wg_cell *cell = wg_cell_load(NULL, "lstm", 0, NULL, &error);
    wg_params *params = wg_cell_draw(NULL, cell, WG_F64, I, H, &(wg_draw){.check = true}, &error);
    cr_assert_not_null(params, "%s", error.text);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, DIM(steps, B, I));
    wg_named given[32];
    wg_var w[32], tangent[32], d[32], second[32], norm = wg_c(0);
    int n = wg_params_count(params);
    for (int i = 0; i < n; i++) {
        w[i] = wg_leaf(tape, wg_params_tensor(params, i));
        tangent[i] = wg_like(w[i], 1);
        given[i] = (wg_named){wg_params_name(params, i), w[i]};
    }
    given[n] = (wg_named){"x", wg_leaf(tape, x)};
    wg_unroll *unroll = wg_unroll_new(tape, cell, I, H, n + 1, given, NULL);
    cr_assert_not_null(unroll, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_grad(wg_sum(square(wg_unroll_output(unroll)), 0, NULL, false), n, w, d), WG_OK);
    for (int i = 0; i < n; i++)
        norm = add(norm, wg_sum(square(d[i]), 0, NULL, false));
    int64_t before = wg_tape_count(tape);
    cr_assert_eq(forward ? wg_jvp(n, w, tangent, 1, &norm, second) : wg_grad(norm, n, w, second), WG_OK, "%s",
                 wg_tape_message(tape));
    int64_t nodes = wg_tape_count(tape) - before;
    wg_unroll_free(unroll);
    wg_tape_free(tape);
    wg_tensor_free(x);
    wg_params_free(params);
    wg_cell_free(cell);
    return nodes;
}

Test(unroll, second_derivatives_of_an_lstm_are_linear_in_its_length) {
    for (int forward = 0; forward < 2; forward++) {
        int64_t at10 = second_derivative_nodes(10, forward), at20 = second_derivative_nodes(20, forward);
        cr_expect_eq(second_derivative_nodes(40, forward) - at20, 2 * (at20 - at10), "%s mode", forward ? "forward" : "reverse");
    }
}

/* ---- what a step in C may do wrong ---- */

/* What the next step function does at which step, from 1. */
typedef struct mischief {
    int at, step;
    char kind;
    wg_tape *other;
} mischief;

static wg_status mischievous_step(wg_step *s, void *user) {
    mischief *m = user;
    wg_var h = wg_step_get(s, "h"), x = wg_step_get(s, "x");
    char name[8] = "extra";
    bool now = ++m->step == m->at;
    if (now && m->kind == 'n')
        return WG_OK;
    if (now && m->kind == 'f')
        return WG_RANGE;
    if (now && m->kind == 'g')
        wg_step_get(s, "nothing");
    if (now && m->kind == 't')
        return wg_step_set(s, "h", wg_full(m->other, WG_F64, 2, (const int64_t[]){B, H}, 0));
    if (now && m->kind == 'i')
        return wg_step_set(s, "h", wg_full(wg_step_tape(s), WG_I32, 2, (const int64_t[]){B, H}, 0));
    if (now && m->kind == 'x')
        return wg_step_set(s, "x", x);
    if (now && m->kind == 's')
        return wg_step_set(s, "h", x);
    if (m->step >= m->at && m->kind == 'e')
        wg_step_set(s, name, m->step == m->at ? wg_c(2.5) : h);
    memset(name, 'z', sizeof name - 1); /* the caller's name need not last */
    return wg_step_set(s, "h", tanh(h));
}

static wg_unroll *unroll_mischief(mischief *m, wg_tape *tape, wg_cell **cell) {
    *cell = wg_cell_new(NULL, "cell bad\ninput x\nstate h\n", mischievous_step, m, NULL);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, DIM(T, B, I));
    wg_named given[] = {{"x", wg_leaf(tape, x)}};
    wg_tensor_free(x);
    return wg_unroll_new(tape, *cell, I, H, 1, given, NULL);
}

Test(unroll, what_a_step_in_c_does_wrong_is_told_with_its_step_and_leaves_nothing_behind) {
    static const struct {
        char kind;
        wg_status status;
        const char *text;
    } rows[] = {{'n', WG_ARGUMENT, "step 3 gave state h no next value"}, {'f', WG_RANGE, "failed at step 3"},
                {'g', WG_NOT_FOUND, "nothing"}, {'t', WG_ARGUMENT, "step 3 gave for h"}, {'i', WG_DTYPE, "i32"},
                {'x', WG_CONFLICT, "x is declared"}, {'s', WG_SHAPE, "broadcast_to"}};
    for (int i = 0; i < WG_LEN(rows); i++) {
        wg_tape *tape = wg_tape_new(NULL);
        mischief m = {.at = 3, .kind = rows[i].kind, .other = wg_tape_new(NULL)};
        wg_cell *cell;
        int64_t streams = (int64_t)tape->streams;
        cr_assert_null(unroll_mischief(&m, tape, &cell), "%c", rows[i].kind);
        cr_assert_eq(wg_tape_status(tape), rows[i].status, "%c: %s", rows[i].kind, wg_tape_message(tape));
        cr_assert(strstr(wg_tape_message(tape), rows[i].text), "%s", wg_tape_message(tape));
        cr_assert_eq(wg_tape_count(tape), 1, "x alone is left");
        cr_assert_eq(tape->step_count, 0);
        cr_assert_eq(tape->origin, 0);
        cr_assert_eq((int64_t)tape->streams, streams);
        wg_tape_clear(tape);
        cr_assert_float_eq(taped_number(wg_exp(wg_full(tape, WG_F64, 0, NULL, 0))), 1, 1e-15);
        wg_cell_free(cell);
        wg_tape_free(m.other);
        wg_tape_free(tape);
    }
}

Test(unroll, a_name_that_a_step_in_c_gives_may_begin_at_any_step) {
    wg_tape *tape = wg_tape_new(NULL);
    mischief m = {.at = 3, .kind = 'e'};
    wg_cell *cell;
    wg_unroll *u = unroll_mischief(&m, tape, &cell);
    cr_assert_not_null(u, "%s", wg_tape_message(tape));
    cr_assert(!wg_valid(wg_at(u, 0, "extra")));
    cr_assert(!wg_valid(wg_at(u, 1, "extra")));
    cr_assert_eq(taped_number(wg_at(u, 2, "extra")), 2.5);
    cr_assert_eq(wg_at(u, 3, "extra").as.id, wg_at(u, 2, "h").as.id);
    cr_assert(!wg_valid(wg_unroll_all(u, "extra")));
    cr_assert(strstr(wg_tape_message(tape), "extra at step 1"), "%s", wg_tape_message(tape));
    wg_unroll_free(u);
    wg_cell_free(cell);
    wg_tape_free(tape);
}

/* ---- the tape ---- */

Test(unroll, a_failure_in_a_line_names_the_line_and_later_work_is_sound) {
    const char *text = "cell c\nstate h\na = W @ x\nh' = tanh(dropout(a, 0.5))\n";
    wg_cell *cell = wg_cell_parse(NULL, "c.cell", text, strlen(text), 0, NULL, NULL);
    wg_tape *tape = wg_tape_new(NULL);
    wg_named given[8];
    wg_tensor *kept[8];
    wg_random random = {.seed = 1};
    int n = draw_all(tape, cell, &random, given, kept);
    int64_t count = wg_tape_count(tape);
    cr_assert_null(wg_unroll_new(tape, cell, I, H, n, given, &(wg_unroll_options){.training = true}));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    cr_assert(strstr(wg_tape_message(tape), "(c.cell:4)"), "%s", wg_tape_message(tape));
    cr_assert_eq(wg_tape_count(tape), count);
    wg_tape_clear(tape);
    wg_unroll *u = wg_unroll_new(tape, cell, I, H, n, given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(tape));
    cr_assert_eq(tape->step_count, T + 1);
    cr_assert_eq(wg_tape_validate(tape, NULL), WG_OK);
    wg_unroll_free(u);
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_tape_free(tape);
    wg_cell_free(cell);
}

Test(unroll, recording_again_and_again_keeps_no_more_on_the_tape) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(memory, "lstm", 0, NULL, &error);
    wg_tape *tape = wg_tape_new(memory);
    wg_named given[32];
    wg_tensor *kept[32];
    wg_random random = {.seed = 1};
    int n = draw_all(tape, cell, &random, given, kept);
    wg_mark mark = wg_tape_mark(tape);
    size_t used = 0;
    for (int round = 0; round < 40; round++) {
        wg_unroll *u = wg_unroll_new(tape, cell, I, H, n, given, NULL);
        cr_assert_not_null(u);
        wg_unroll_free(u);
        wg_tape_rewind(tape, mark);
        used = round ? used : wg_memory_used(memory);
        cr_assert_eq(wg_memory_used(memory), used, "round %d", round);
        cr_assert_eq(tape->origin_count, 6);
    }
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_tape_free(tape);
    wg_cell_free(cell);
    wg_memory_free(memory);
}

Test(unroll, the_number_of_allocations_does_not_grow_with_the_steps) {
    size_t calls[2];
    for (int k = 0; k < 2; k++) {
        wg_memory *memory = wg_memory_new(NULL, 0);
        const char *text = "cell c\nconst k = 2\nstate h\n"
                           "h' = tanh(k*softmax(W @ x + h) + sum(slice(concat(h, x), 1, hidden)) + index(hidden))\n";
        wg_cell *cell = wg_cell_parse(memory, "c", text, strlen(text), 0, NULL, NULL);
        wg_tape *tape = wg_tape_new(memory);
        wg_tensor *x = wg_tensor_new(NULL, WG_F32, DIM(k ? 24 : 8, B, I)), *W = wg_tensor_new(NULL, WG_F32, DIM(H, I));
        wg_named given[] = {{"x", wg_leaf(tape, x)}, {"W", wg_leaf(tape, W)}};
        calls[k] = wg_memory_calls(memory);
        wg_unroll *u = wg_unroll_new(tape, cell, I, H, 2, given, NULL);
        cr_assert_not_null(u, "%s", wg_tape_message(tape));
        calls[k] = wg_memory_calls(memory) - calls[k];
        wg_unroll_free(u);
        wg_tensor_free(x);
        wg_tensor_free(W);
        wg_tape_free(tape);
        wg_cell_free(cell);
        wg_memory_free(memory);
    }
    cr_assert_leq(calls[1], calls[0] + 8, "%zu for 8 steps, %zu for 24", calls[0], calls[1]);
}

Test(unroll, what_is_given_twice_or_is_no_var_is_refused) {
    wg_cell *cell = wg_cell_load(NULL, "rnn", 0, NULL, NULL);
    wg_tape *tape = wg_tape_new(NULL), *other = wg_tape_new(NULL);
    wg_named given[9];
    wg_tensor *kept[8];
    wg_random random = {.seed = 1};
    int n = draw_all(tape, cell, &random, given, kept);
    const struct {
        wg_named more;
        wg_status status;
    } rows[] = {{{"W", given[1].var}, WG_CONFLICT}, {{"x", given[0].var}, WG_CONFLICT}, {{NULL, given[0].var}, WG_NOT_FOUND},
                {{"hidden", given[0].var}, WG_NOT_FOUND}, {{"h", wg_leaf(other, kept[0])}, WG_ARGUMENT},
                {{"h", wg_c(0)}, WG_ARGUMENT}, {{"h", given[0].var}, WG_SHAPE}};
    for (int i = 0; i < WG_LEN(rows); i++) {
        given[n - 1] = rows[i].more; /* in the place of h */
        cr_assert_null(wg_unroll_new(tape, cell, I, H, n, given, NULL), "row %d", i);
        cr_assert_eq(wg_tape_status(tape), rows[i].status, "row %d: %s", i, wg_tape_message(tape));
        wg_tape_clear(tape);
    }
    cr_assert_null(wg_unroll_new(tape, cell, 0, H, n - 1, given, NULL));
    cr_assert_eq(wg_tape_status(tape), WG_RANGE, "%s", wg_tape_message(tape));
    for (int i = 0; i < n; i++)
        wg_tensor_free(kept[i]);
    wg_tape_free(tape);
    wg_tape_free(other);
    wg_cell_free(cell);
}

/* ---- running out of memory ---- */

/* Everything from a text to gradients, with a memory that may refuse; then the same again on the same tape. */
static bool whole_run(wg_memory *memory, const char *text, wg_tensor *x, wg_status *status) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_parse(memory, "c", text, strlen(text), 1, &(wg_setting){"k", "1+1"}, &error);
    wg_params *params = cell ? wg_cell_draw(memory, cell, WG_F64, I, H, &(wg_draw){.check = true}, &error) : NULL;
    wg_tape *tape = params ? wg_tape_new(memory) : NULL;
    wg_var wrt[8], y[9], all;
    wg_tensor *out[9] = {0};
    wg_named given[8];
    int n = 0;
    *status = params && !tape ? wg_memory_status(memory) : error.status;
    if (!tape)
        goto done;
    given[n++] = (wg_named){"x", wg_leaf(tape, x)};
    for (int i = 0; i < wg_params_count(params); i++)
        given[n++] = (wg_named){wg_params_name(params, i), wg_leaf(tape, wg_params_tensor(params, i))};
    for (int i = 0; i < n; i++)
        wrt[i] = given[i].var;
    wg_tensor *key = wg_key_new(NULL, 1);
    wg_unroll *u = wg_unroll_new(tape, cell, I, H, n, given, &(wg_unroll_options){.training = true, .key = wg_leaf(tape, key)});
    wg_tensor_free(key);
    if (u) {
        y[0] = taped_sum(wg_square(wg_unroll_output(u)));
        all = wg_unroll_all(u, "a");
        wg_grad(wg_add(y[0], taped_sum(all)), n, wrt, y + 1);
    }
    *status = wg_tape_status(tape);
    if (*status == WG_OK)
        *status = wg_eval(n + 1, y, out, NULL);
    for (int i = 0; i <= n; i++)
        wg_tensor_free(out[i]);
    wg_unroll_free(u);
done:
    wg_tape_free(tape);
    wg_params_free(params);
    wg_cell_free(cell);
    return *status == WG_OK;
}

Test(unroll, every_failing_allocation_is_survived_from_the_text_to_the_gradient) {
    const char *text = "cell c\nstate h = h0\nconst k = 3\na = dropout(layer_norm(W @ x + U @ h), 0.2)\n"
                       "h' = tanh(concat(slice(a, 0, 2), slice(a, 2, hidden - 2)) + index(hidden)/k)\ninit h0 = 1\n";
    wg_tensor *x = taped_random(NULL, WG_F64, DIM(T, B, I), 3);
    long reached = 0;
    failing f;
    for (bool failed = true; failed;) {
        wg_status status;
        wg_memory *memory = failing_memory(&f, ++reached);
        cr_assert_not_null(memory);
        bool done = whole_run(memory, text, x, &status);
        failed = failing_failed(&f);
        cr_assert(done || failed, "%s", wg_status_name(status)); /* a refused alias is a copy: done after all */
        cr_assert(done || status == WG_MEMORY, "allocation %ld: %s", reached, wg_status_name(status));
        cr_assert_eq(f.live, 0, "allocation %ld leaks %ld blocks", reached, f.live);
        wg_memory_free(memory);
    }
    cr_assert_gt(reached, 60);
    wg_tensor_free(x);
}

Test(unroll, a_refused_unroll_loses_nothing_of_the_tape) {
    wg_cell *cell = wg_cell_load(NULL, "gru", 0, NULL, NULL);
    wg_random random = {.seed = 2};
    failing f;
    bool failed = true;
    for (long k = 1; failed; k++) {
        wg_memory *memory = failing_memory(&f, 0);
        wg_tape *tape = wg_tape_new(memory);
        wg_named given[16];
        wg_tensor *kept[16];
        int n = draw_all(tape, cell, &random, given, kept);
        wg_var before = wg_exp(given[0].var);
        int64_t count = wg_tape_count(tape);
        f.fail = f.calls + k;
        wg_unroll *u = wg_unroll_new(tape, cell, I, H, n, given, NULL);
        failed = failing_failed(&f);
        f.fail = 0;
        cr_assert_eq(u == NULL, failed, "allocation %ld", k);
        if (failed) {
            cr_assert_eq(wg_tape_status(tape), WG_MEMORY, "%s", wg_tape_message(tape));
            cr_assert_eq(wg_tape_count(tape), count);
            cr_assert_eq(tape->step_count, 0);
            wg_tape_clear(tape);
            u = wg_unroll_new(tape, cell, I, H, n, given, NULL);
        }
        cr_assert_not_null(u, "%s", wg_tape_message(tape));
        cr_assert_eq(wg_tape_validate(tape, NULL), WG_OK);
        cr_assert_float_eq(taped_number(before), exp(at(kept[0], 0)), 1e-12);
        wg_unroll_free(u);
        for (int i = 0; i < n; i++)
            wg_tensor_free(kept[i]);
        wg_tape_free(tape);
        wg_memory_free(memory);
    }
    wg_cell_free(cell);
}
