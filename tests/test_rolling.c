/* Which cells roll: a table of cells as text, under several losses: the compiled program does not grow with the steps, has one loop
 * forward and one back, and means what evaluation means. WENGERT_ROLLING=NAME tries one cell alone, and tells where steps at its ends are loops of their own;
 * WENGERT_ROLLING_ALL tells it of all; WENGERT_ROLLING_KIND=N, beside the first, tries one of its losses, and shows its program. */
#include "suite.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "drawn_cell.h"
#include "plan.h"
#include "print_structure.h"
#include "taped.h"

#include "wengert/notation.h"

enum { MOST = 2 * UNROLLED_NAMES + 2 }; /* a loss, and gradients of two orders */

#define HEAD "input x\nstate h\n"
#define TWO "input x\nstate h, c\n"

static const struct {
    const char *name, *text;
} cells[] = {
    {"elman", "cell c\n" HEAD "h' = tanh(W @ x + U @ h + b)\n"},
    {"lstm", "cell c\n" TWO "i = sigmoid(W_i @ x + U_i @ h + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\ng = tanh(W_g @ x + U_g @ h + b_g)\n"
             "o = sigmoid(W_o @ x + U_o @ h + b_o)\nc' = f*c + i*g\nh' = o*tanh(c')\n"},
    {"gru", "cell c\n" HEAD "r = sigmoid(W_r @ x + U_r @ h + b_r)\nz = sigmoid(W_z @ x + U_z @ h + b_z)\n"
            "n = tanh(W_n @ x + b_n + r*(U_n @ h + c_n))\nh' = (1 - z)*n + z*h\n"},
    {"minimal gated", "cell c\n" HEAD "f = sigmoid(W_f @ x + U_f @ h + b_f)\nn = tanh(W_n @ x + U_n @ (f*h) + b_n)\nh' = (1 - f)*h + f*n\n"},
    {"peepholes", "cell c\n" TWO "i = sigmoid(W_i @ x + U_i @ h + p_i*c + b_i)\nf = sigmoid(W_f @ x + U_f @ h + p_f*c)\n"
                  "c' = f*c + i*tanh(W_g @ x + U_g @ h)\no = sigmoid(W_o @ x + U_o @ h + p_o*c')\nh' = o*tanh(c')\n"},
    {"coupled gates", "cell c\n" TWO "f = sigmoid(W_f @ x + U_f @ h + b_f)\nc' = f*c + (1 - f)*tanh(W @ x + U @ h)\nh' = tanh(c')*sigmoid(V @ x)\n"},
    {"a delay", "cell c\ninput x\nstate h, d\nh' = tanh(W @ x + U @ h + V @ d)\nd' = h\n"},
    {"a delay of two", "cell c\ninput x\nstate h, d, e\nh' = tanh(W @ x + U @ h + V @ e)\nd' = h\ne' = d\n"},
    {"a delay, added", "cell c\ninput x\nstate h, d\nh' = tanh(W @ x + U @ h) + 0.5*d\nd' = h\n"},
    {"an input kept", "cell c\ninput x\nstate h, last[input]\nh' = tanh(W @ x + V @ last + U @ h)\nlast' = x\n"},
    {"a matrix for two states", "cell c\n" TWO "c' = tanh(W @ x + U @ c)\nh' = tanh(V @ c' + U @ h)\n"},
    {"a matrix used twice", "cell c\n" HEAD "a = tanh(W @ x + U @ h)\nh' = tanh(U @ a + b)\n"},
    {"tied", "cell c\ninput x\nstate h, s[input]\nh' = tanh(W @ x + W @ s + b)\ns' = tanh(R @ h')\n"},
    {"layer norm", "cell c\n" TWO "i = sigmoid(g_i*layer_norm(W_i @ x + U_i @ h) + b_i)\nf = sigmoid(g_f*layer_norm(W_f @ x + U_f @ h) + b_f)\n"
                   "c' = f*c + i*tanh(layer_norm(W @ x + U @ h))\nh' = tanh(layer_norm(c'))*sigmoid(V @ x)\n"},
    {"softmax over hidden", "cell c\n" HEAD "a = softmax(W @ x + U @ h + b)\nh' = a*h + (1 - a)*tanh(V @ x)\n"},
    {"attention over parts", "cell c\nsize wide = 3*hidden\ninput x\nstate h\nparam W[wide, input]\nv = W @ x\na = softmax(concat(dot(slice(v, 0, hidden), h), "
                             "dot(slice(v, hidden, hidden), h), dot(slice(v, 2*hidden, hidden), h)))\n"
                             "h' = tanh(slice(a, 0, 1)*slice(v, 0, hidden) + slice(a, 1, 1)*slice(v, hidden, hidden) + slice(a, 2, 1)*slice(v, 2*hidden, hidden) + U @ h)\n"},
    {"multiplicative", "cell c\n" HEAD "param W_m[hidden, input]\nm = (W_m @ x)*(U_m @ h)\nh' = tanh(W @ x + U @ m + b)\n"},
    {"second order", "cell c\n" TWO "param W[hidden, input]\nparam U[hidden, hidden]\na = W @ x\nz = U @ h\nh' = tanh(p*a*z + q*a + r*z + b)\nc' = 0.9*c + 0.1*h'*h\n"},
    {"convolution by slices", "cell c\nsize wide = hidden + 2\ninput x\nstate h[wide]\nparam W[hidden, input]\nparam k[1]\nparam l[1]\nparam m[1]\n"
                              "v = tanh(W @ x + k*slice(h, 0, hidden) + l*slice(h, 1, hidden) + m*slice(h, 2, hidden))\nh' = concat(v, slice(h, 0, 2))\n"},
    {"highway", "cell c\n" HEAD "a = tanh(W @ x + U @ h)\nt = sigmoid(W_t @ x + U_t @ h + b_t)\ns = t*a + (1 - t)*h\nt2 = sigmoid(R @ s + b)\nh' = t2*tanh(S @ s) + (1 - t2)*s\n"},
    {"residual", "cell c\n" HEAD "h' = h + 0.1*tanh(W @ x + U @ h + b)\n"},
    {"clamp and where", "cell c\n" TWO "a = W @ x + U @ h\nc' = clamp(c + a, -1, 1)\nh' = where(less(a, 0), 0.1*a, a)*tanh(c')\n"},
    {"max and relu", "cell c\n" TWO "c' = max(W @ x, U @ h)\nh' = relu(c + c')\n"},
    {"two layers", "cell c\ninput x\nstate h, g\nh' = tanh(W @ x + U @ h + b)\ng' = tanh(V @ h' + R @ g + a)\noutput g\n"},
    {"three layers of lstm", "cell c\ninput x\nstate h1, c1, h2, c2, h3, c3\n"
                             "i1 = sigmoid(W_i1 @ x + U_i1 @ h1 + b_i1)\nf1 = sigmoid(W_f1 @ x + U_f1 @ h1 + b_f1)\ng1 = tanh(W_g1 @ x + U_g1 @ h1 + b_g1)\no1 = sigmoid(W_o1 @ x + U_o1 @ h1 + b_o1)\nc1' = f1*c1 + i1*g1\nh1' = o1*tanh(c1')\n"
                             "i2 = sigmoid(W_i2 @ h1' + U_i2 @ h2 + b_i2)\nf2 = sigmoid(W_f2 @ h1' + U_f2 @ h2 + b_f2)\ng2 = tanh(W_g2 @ h1' + U_g2 @ h2 + b_g2)\no2 = sigmoid(W_o2 @ h1' + U_o2 @ h2 + b_o2)\nc2' = f2*c2 + i2*g2\nh2' = o2*tanh(c2')\n"
                             "i3 = sigmoid(W_i3 @ h2' + U_i3 @ h3 + b_i3)\nf3 = sigmoid(W_f3 @ h2' + U_f3 @ h3 + b_f3)\ng3 = tanh(W_g3 @ h2' + U_g3 @ h3 + b_g3)\no3 = sigmoid(W_o3 @ h2' + U_o3 @ h3 + b_o3)\nc3' = f3*c3 + i3*g3\nh3' = o3*tanh(c3')\n"
                             "output h3\n"},
    {"other sizes", "cell c\nsize few = hidden - 1\ninput x\nstate h, c[few]\nc' = tanh(W @ x + V @ h + R @ c)\nh' = sigmoid(P @ c' + U @ h)\n"},
    {"a scalar state", "cell c\ninput x\nstate h, s[1]\nh' = tanh(W @ x + s*(U @ h))\ns' = 0.9*s + 0.1*mean(h')\n"},
    {"a state not read by the output", "cell c\n" TWO "h' = tanh(W @ x + U @ h)\nc' = 0.5*c + V @ h'\n"},
    {"a state read one step later", "cell c\n" TWO "h' = tanh(W @ x + U @ c)\nc' = sigmoid(V @ x + R @ c)*c + h\n"},
    {"a state read through a product only", "cell c\n" TWO "h' = tanh(W @ x + U @ c)\nc' = tanh(V @ h)\n"},
    {"zoneout in mean", "cell c\n" HEAD "z = bernoulli(0.4, hidden)\nh' = z*h + (1 - z)*tanh(W @ x + U @ h)\n"},
    {"an output of its own", "cell c\n" HEAD "h' = tanh(W @ x + U @ h)\no = sigmoid(V @ h' + b)\noutput o\n"},
    {"an output of the state before", "cell c\n" HEAD "o = sigmoid(V @ h + W @ x)\nh' = tanh(W @ x + U @ h)\noutput o\n"},
    {"a learnt start", "cell c\ninput x\nstate h = h0\nstate c = 0.5\nc' = 0.5*c + tanh(W @ x + U @ h)\nh' = tanh(c')\n"},
    {"stop_gradient", "cell c\n" TWO "c' = 0.9*c + 0.1*stop_gradient(h)\nh' = tanh(W @ x + U @ h + V @ c')\n"},
    {"cumulative gates", "cell c\n" TWO "f = cumsum(softmax(W_f @ x + U_f @ h))\nc' = f*c + (1 - f)*tanh(W @ x + U @ h)\nh' = tanh(c')\n"},
    {"a product of products", "cell c\n" HEAD "param B[hidden, hidden]\nh' = tanh(A @ (B @ h) + W @ x)\n"},
    {"input gates alone", "cell c\n" HEAD "f = sigmoid(W_f @ x + b_f)\nh' = f*h + (1 - f)*(W @ x)\n"},
    {"three states in a ring", "cell c\ninput x\nstate h, c, d\nh' = tanh(W @ x + U @ d)\nc' = tanh(V @ h)\nd' = tanh(P @ c)\n"},
    {"leaky units of two speeds", "cell c\n" TWO "c' = 0.99*c + 0.01*tanh(U_c @ c + V @ h)\nh' = 0.5*h + 0.5*tanh(W @ x + U @ h + R @ c)\n"},
    {"a loss in the step", "cell c\ninput x, t[5]\nstate l[1], h\nh' = tanh(W @ x + U @ h)\nl' = l - dot(t, log_softmax(V @ h' + b))\n"},
    {"a delay of five", "cell c\ninput x\nstate h, a, b, d, e\nh' = tanh(W @ x + U @ h + V @ e)\na' = h\nb' = a\nd' = b\ne' = d\n"},
    {"a delay, and an output of it", "cell c\ninput x\nstate h, d\nparam V[hidden, input]\nparam W[hidden, hidden]\na = V @ x + W @ d\nd' = h\nh' = 0.5*tanh(a + a + h)\noutput a\n"},
    {"attention over the last three", "cell c\ninput x\nstate h, a, b\nq = W @ x\ns = softmax(concat(dot(q, h), dot(q, a), dot(q, b)))\n"
                                      "h' = tanh(q + U @ (slice(s, 0, 1)*h + slice(s, 1, 1)*a + slice(s, 2, 1)*b))\na' = h\nb' = a\n"},
    {"dropout", "cell c\n" HEAD "h' = dropout(tanh(W @ x + U @ h), 0.3)\n"},
    {"dropout of gates and zoneout", "cell c\n" TWO "z = bernoulli(0.4, hidden)\nf = dropout(sigmoid(W_f @ x + U_f @ h), 0.2)\nc' = f*c + (1 - f)*tanh(W @ x + U @ dropout(h, 0.5))\nh' = z*h + (1 - z)*tanh(c')\n"},
    {"a state in parts", "cell c\nsize q = hidden/2\ninput x\nstate h\nparam A[q, q]\nparam B[q, q]\nr = concat(A @ slice(h, 0, q), B @ slice(h, q, q))\n"
                         "z = sigmoid(W_z @ x + b_z)\nh' = z*h + (1 - z)*tanh(W @ x + r)\n"},
    {"a part of a state", "cell c\nsize m = hidden/2\ninput x\nstate h, s[m]\nparam A[m, hidden]\nk = sigmoid(A @ h + D @ s + e)\n"
                          "s' = s*k + (1 - k)*slice(h, 0, m)\nh' = tanh(W @ x + U @ h + B @ s' + b)\n"},
    {"two layers, added", "cell c\ninput x\nstate h, g\nh' = tanh(W @ x + U @ h + b)\ng' = tanh(V @ h' + R @ g + a)\ny = h' + g'\noutput y\n"},
    {"two states side by side", "cell c\nsize m = hidden/2\ninput x\nstate a[m], b[m]\na' = tanh(W @ x + U @ concat(a, b))\nb' = 0.5*b + 0.5*tanh(V @ x + R @ b)\n"
                                "y = concat(a', b')\noutput y\n"},
    {"a matrix for a state before and after", "cell c\n" TWO "c' = tanh(W @ x + U @ c)\nh' = tanh(U @ c' + U @ c + V @ h)\n"},
    {"a gate that is a state", "cell c\ninput x\nstate h, u[1] = 1\nn = tanh(W @ x + U @ h + b)\nh' = u*n + (1 - u)*h\nu' = sigmoid(dot(p, n) + q)\n"},
    {"normalised state", "cell c\n" HEAD "a = tanh(W @ x + U @ h)\nh' = a/(1 + sum(abs(a)))\n"},
};

/* Of these steps at the ends are loops of their own: the derivative's first, where the loss does not reach a state yet; of the last,
 * its last two from zero, where several products are one. */
static const char *const apart[] = {"tied",
                                    "convolution by slices",
                                    "a scalar state",
                                    "a state read one step later",
                                    "a state read through a product only",
                                    "an output of the state before",
                                    "three states in a ring",
                                    "leaky units of two speeds",
                                    "a delay, and an output of it",
                                    "two layers, added",
                                    "a gate that is a state",
                                    "attention over the last three"};

static bool is_apart(const char *name) {
    bool found = false;
    for (int k = 0; k < WG_LEN(apart); k++)
        found = found || strcmp(apart[k], name) == 0;
    return found;
}

typedef enum objective { OUTPUTS, ALL, LAST, SUM, OBJECTIVES } objective;
static const char *const objective_name[] = {"of all outputs", "of outputs and final states", "of the last output", "of the outputs' and final states' sum"};

/* What is differentiated by. */
typedef enum by { PARAMS_FROM_ZERO, EVERYTHING, PARAMS_FROM_GIVEN, BYS } by;
static const char *const by_name[] = {"by parameters, from zero", "by everything", "by parameters, from given states"};

static wg_var weighed(wg_var x, uint64_t seed) {
    const wg_shape *s = wg_var_shape(x);
    cr_assert(wg_valid(x));
    wg_tensor *tensor = taped_random(NULL, WG_F64, s->rank, s->dim, seed);
    wg_var y = sum_to(mul(x, wg_leaf(x.tape, tensor)), 0, NULL);
    wg_tensor_free(tensor);
    return y;
}

static wg_var loss_of(unrolled *u, objective o) {
    wg_var out = wg_unroll_output(u->unroll);
    wg_var loss = o == SUM ? sum_to(out, 0, NULL) : weighed(o == LAST ? slice(out, 0, u->of.steps - 1, 1) : out, 5);
    for (int k = 0; k < wg_cell_states(u->cell) && o == SUM; k++)
        loss = add(loss, sum_to(wg_unroll_final(u->unroll, wg_cell_state(u->cell, k)), 0, NULL));
    for (int k = 0; k < wg_cell_states(u->cell) && o == ALL; k++)
        loss = add(loss, weighed(wg_unroll_final(u->unroll, wg_cell_state(u->cell, k)), 6 + (uint64_t)k));
    return loss;
}

static bool is_param(const unrolled *u, const char *name) {
    bool found = false;
    for (int k = 0; k < wg_cell_params(u->cell); k++)
        found = found || strcmp(wg_cell_param(u->cell, k), name) == 0;
    return found;
}

/* A cell over some steps with its loss and gradients; returns how many outputs. */
static int record(unrolled *u, const char *text, int64_t steps, int64_t batch, objective o, by b, wg_var *y) {
    wg_var of[UNROLLED_NAMES];
    int n = 0;
    *u = unrolled_new(text, &(unrolled_sizes){.steps = steps, .batch = batch, .input = 3, .hidden = 4, .own_starts = b == PARAMS_FROM_ZERO,
                                                .training = strstr(text, "dropout"), .key = 9});
    for (int k = 0; k < u->n; k++)
        if (b == EVERYTHING || is_param(u, u->given[k].name))
            of[n++] = u->given[k].var;
    y[0] = loss_of(u, o);
    cr_assert_eq(wg_grad(y[0], n, of, y + 1), WG_OK, "%s", wg_tape_message(u->tape));
    return n + 1;
}

static void agrees(const char *what, int n, const wg_var *y) {
    wg_tensor *want[MOST];
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s: %s", what, error.text);
    cr_assert_eq(wg_eval(n, y, want, &error), WG_OK, "%s: %s", what, error.text);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s: %s", what, error.text);
    for (int i = 0; i < n; i++) {
        cr_expect(taped_close(want[i], wg_plan_output(plan, i)), "%s: output %d", what, i);
        wg_tensor_free(want[i]);
    }
    wg_plan_free(plan);
}

static structure tried(const char *name, const char *text, int64_t steps, objective o, by b, bool run, bool show) {
    unrolled u;
    wg_var y[MOST];
    char what[160];
    int n = record(&u, text, steps, 5, o, b, y);
    snprintf(what, sizeof what, "%s, %s, %s, %lld steps", name, objective_name[o], by_name[b], (long long)steps);
    structure s = structure_of(n, y, "schedule");
    if (show) {
        char *printed_text = printed(n, y, "roll");
        fprintf(stderr, "%s\n%s\n", what, printed_text);
        free(printed_text);
    }
    if (run)
        agrees(what, n, y);
    unrolled_free(&u);
    return s;
}

Test(rolling, programs_do_not_grow_with_the_steps) {
    const char *one = getenv("WENGERT_ROLLING"), *which = getenv("WENGERT_ROLLING_KIND");
    int bad = 0, all = 0;
    for (int k = 0; k < WG_LEN(cells); k++)
        for (objective o = 0; o < OBJECTIVES; o++)
            for (by b = 0; b < BYS; b++) {
                if ((one && strcmp(one, cells[k].name) != 0) || (which && atoi(which) != (int)(o * BYS + b)))
                    continue;
                structure few = tried(cells[k].name, cells[k].text, 16, o, b, false, one && which), many = tried(cells[k].name, cells[k].text, 33, o, b, true, false);
                bool same = few.instructions == many.instructions, one_each = structure_loops(&few) == 2 && count(few.loops, "16:") == 2;
                if (!same || (!one_each && (one || getenv("WENGERT_ROLLING_ALL") || !is_apart(cells[k].name))))
                    fprintf(stderr, "%s, %s, %s: %lld and %lld: %.50s | %.20s\n", cells[k].name, objective_name[o], by_name[b], (long long)few.instructions,
                            (long long)many.instructions, few.loops, many.loops);
                bad += !same || (!one_each && !is_apart(cells[k].name)), all++;
            }
    cr_expect_eq(bad, 0, "%d of %d", bad, all);
}

/* Gradients of a weighed sum of the gradients, of cells whose states are read in several ways, or later. */
Test(rolling, second_derivatives_are_right) {
    for (int k = 0; k < WG_LEN(cells); k++) {
        if (!strstr(cells[k].name, "delay") && !strstr(cells[k].name, "state"))
            continue;
        unrolled u;
        wg_var y[MOST], of[UNROLLED_NAMES], sum = {0};
        int64_t steps = 7 + k % 3;
        int n = 0, first = record(&u, cells[k].text, steps, 3, (objective)(k % OBJECTIVES), PARAMS_FROM_ZERO, y) - 1;
        for (int i = 0; i < u.n; i++)
            if (is_param(&u, u.given[i].name))
                of[n++] = u.given[i].var;
        for (int i = 0; i < first; i++)
            sum = i ? add(sum, weighed(y[1 + i], 3 + (uint64_t)i)) : weighed(y[1], 3);
        cr_assert_eq(wg_grad(sum, n, of, y + 1 + first), WG_OK, "%s: %s", cells[k].name, wg_tape_message(u.tape));
        agrees(cells[k].name, 1 + first + n, y);
        unrolled_free(&u);
    }
}

Test(rolling, any_number_of_steps_and_rows_is_right) {
    static const int64_t steps[] = {1, 2, 3, 4, 5, 7}, rows[] = {1, 17};
    for (int k = 0; k < WG_LEN(cells); k++)
        for (int t = 0; t < WG_LEN(steps); t++)
            for (int b = 0; b < BYS; b++) {
                unrolled u;
                wg_var y[MOST];
                char what[160];
                objective o = (objective)((k + t + b) % OBJECTIVES);
                int n = record(&u, cells[k].text, steps[t], rows[(k + t) % 2], o, (by)b, y);
                snprintf(what, sizeof what, "%s, %s, %s, %lld steps", cells[k].name, objective_name[o], by_name[b], (long long)steps[t]);
                agrees(what, n, y);
                unrolled_free(&u);
            }
}

/* ---- steps in C ---- */

/* tanh(E[x] + U h), where the first of x is the number of a row of E. */
static wg_status embedding_step(wg_step *step, void *user) {
    wg_var x = wg_step_get(step, "x"), h = wg_step_get(step, "h");
    const int64_t rows = wg_dim(x, 0);
    wg_var row = wg_cast(reshape(slice(x, 1, 0, 1), 1, &rows), WG_I32);
    (void)user;
    return wg_step_set(step, "h", tanh(add(gather(wg_step_get(step, "E"), row, 0), matmul(h, wg_step_get(step, "U"), false, true))));
}

/* tanh(W x + U h), stored in every step, or guarded. */
typedef struct keeping {
    wg_tensor *kept[32];
    wg_var effect[32];
    bool guards;
    int64_t now;
} keeping;

static wg_status keeping_step(wg_step *step, void *user) {
    keeping *k = user;
    wg_var h = tanh(add(matmul(wg_step_get(step, "x"), wg_step_get(step, "W"), false, true),
                        matmul(wg_step_get(step, "h"), wg_step_get(step, "U"), false, true)));
    k->effect[k->now] = k->guards ? wg_guard(square(h)) : wg_store(k->kept[k->now], square(h));
    k->now++;
    return wg_step_set(step, "h", h);
}

static unrolled unrolled_in_c(const char *declared, wg_status (*record_step)(wg_step *, void *), void *user, int64_t steps) {
    wg_error error = {0};
    unrolled u = {.of = {.steps = steps, .batch = 5, .input = 3, .hidden = 4}, .tape = wg_tape_new(NULL)};
    u.cell = wg_cell_new(NULL, declared, record_step, user, &error);
    cr_assert_not_null(u.cell, "%s", error.text);
    unrolled_give(&u, "x", true, false);
    for (int i = 0; i < wg_cell_params(u.cell); i++)
        unrolled_give(&u, wg_cell_param(u.cell, i), false, false);
    for (int64_t i = 0; i < wg_tensor_shape(u.kept[0])->count; i++)
        wg_tensor_set(u.kept[0], i, (double)(i * 7 % 4));
    u.unroll = wg_unroll_new(u.tape, u.cell, 3, 4, u.n, u.given, NULL);
    cr_assert_not_null(u.unroll, "%s", wg_tape_message(u.tape));
    return u;
}

/* The gradient of all outputs by the parameters. */
static int gradients(unrolled *u, wg_var *y) {
    wg_var of[UNROLLED_NAMES];
    for (int k = 1; k < u->n; k++)
        of[k - 1] = u->given[k].var;
    y[0] = loss_of(u, OUTPUTS);
    cr_assert_eq(wg_grad(y[0], u->n - 1, of, y + 1), WG_OK, "%s", wg_tape_message(u->tape));
    return u->n;
}

Test(rolling, steps_that_gather_roll) {
    int64_t instructions[2];
    for (int k = 0; k < 2; k++) {
        wg_var y[MOST];
        unrolled u = unrolled_in_c("cell c\ninput x\nstate h\nparam E[hidden, hidden]\nparam U[hidden, hidden]\n", embedding_step, NULL, k ? 32 : 16);
        int n = gradients(&u, y);
        structure s = structure_of(n, y, "schedule");
        cr_expect_eq(structure_loops(&s), 2, "%s", s.loops);
        cr_expect_eq(count(s.loops, k ? "32:" : "16:"), 2, "%s", s.loops);
        instructions[k] = s.instructions;
        agrees("gathers", n, y);
        unrolled_free(&u);
    }
    cr_expect_eq(instructions[0], instructions[1]);
}

Test(rolling, steps_with_stores_and_guards_roll_around_them) {
    for (int guards = 0; guards < 2; guards++) {
        keeping k = {.guards = guards};
        wg_var y[MOST];
        wg_error error = {0};
        for (int t = 0; t < 16; t++)
            k.kept[t] = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){5, 4});
        unrolled u = unrolled_in_c("cell c\ninput x\nstate h\nparam W[hidden, input]\nparam U[hidden, hidden]\n", keeping_step, &k, 16);
        int n = gradients(&u, y), outputs = n;
        for (int t = 0; t < 16; t++)
            y[outputs++] = k.effect[t];
        structure s = structure_of(outputs, y, "schedule");
        cr_expect_eq(structure_loops(&s), 2, "%s", s.loops);
        cr_expect_eq(count(s.loops, "16:"), 2, "%s", s.loops);
        wg_plan *plan = wg_compile(outputs, y, &(wg_compile_options){.validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        for (int t = 0; t < 16; t++) {
            wg_tensor *want = taped_value(square(wg_at(u.unroll, t, "h")));
            cr_expect(taped_close(want, guards ? wg_plan_output(plan, n + t) : k.kept[t]), "step %d", t);
            wg_tensor_free(want);
            wg_tensor_free(k.kept[t]);
        }
        wg_plan_free(plan);
        agrees("beside effects", n, y);
        unrolled_free(&u);
    }
}

/* ---- long tapes ---- */

/* A compilation in a thread of its own, with a small stack. */
typedef struct compilation {
    int n;
    const wg_var *y;
    const char *without;
    wg_plan *plan;
    wg_error error;
} compilation;

static void *compile_here(void *user) {
    compilation *c = user;
    c->plan = wg_compile(c->n, c->y, &(wg_compile_options){.without = c->without}, &c->error);
    return NULL;
}

static compilation compiled_on_a_small_stack(int n, const wg_var *y, const char *without) {
    compilation c = {.n = n, .y = y, .without = without};
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    cr_assert_eq(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
    cr_assert_eq(pthread_create(&thread, &attr, compile_here, &c), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    cr_assert_not_null(c.plan, "%s", c.error.text);
    return c;
}

/* A step's value through so many views, read in the step (or only after it). */
static wg_var through_views(wg_tape *tape, int64_t views, bool of_input) {
    const int64_t wide[2] = {1, 3}, long_[2] = {3, 1};
    wg_tensor *x = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 3}, 1);
    wg_var all = wg_leaf(tape, x), h = reshape(slice(all, 0, 0, 1), 2, wide), last = h;
    uint32_t unroll = tape->unrolls++;
    for (int64_t t = 0; t < 4; t++) {
        wg__step_mark(tape, unroll, t);
        wg_var now = reshape(slice(all, 0, t, 1), 2, wide);
        h = tanh(add(now, h));
        last = of_input ? now : h;
        for (int64_t k = 0; k < views && t == 3; k++)
            last = reshape(last, 2, k % 2 ? wide : long_);
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    wg_tensor_free(x);
    return add(weighed(last, 2), weighed(h, 3));
}

Test(rolling, chains_of_views_take_no_stack) {
    for (int k = 0; k < 2; k++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y = through_views(tape, 50000, k);
        wg_tensor *want = taped_value(y);
        compilation c = compiled_on_a_small_stack(1, &y, "simplify"); /* which leaves no chain */
        cr_assert_eq(wg_run(c.plan, NULL), WG_OK);
        cr_expect(taped_close(want, wg_plan_output(c.plan, 0)));
        wg_tensor_free(want);
        wg_plan_free(c.plan);
        wg_tape_free(tape);
    }
}

Test(rolling, long_sequences_take_no_stack) {
    static const char *const text = "cell c\ninput x\nstate h, d\nh' = tanh(W @ x + U @ h + 0.5*d)\nd' = h\n";
    wg_var y[MOST];
    unrolled u;
    int n = record(&u, text, 20000, 1, OUTPUTS, PARAMS_FROM_ZERO, y);
    compilation c = compiled_on_a_small_stack(n, y, NULL);
    cr_expect_lt(wg_plan_measure(c.plan).instructions, 300);
    wg_tensor *want = taped_value(y[0]);
    cr_assert_eq(wg_run(c.plan, NULL), WG_OK);
    cr_expect(taped_close(want, wg_plan_output(c.plan, 0)));
    wg_tensor_free(want);
    wg_plan_free(c.plan);
    unrolled_free(&u);
}

/* Each value side by side with all before it, of which the innermost is made last. */
Test(rolling, values_side_by_side_in_each_other_take_no_stack) {
    enum { DEEP = 1000 };
    static char text[DEEP * 80];
    unrolled u;
    wg_var y[MOST];
    char *at = text + sprintf(text, "cell c\ninput x\nstate h\nparam V[hidden, %d*hidden]\nv0 = tanh(W @ x + U @ h)\n", DEEP + 1);
    for (int k = 1; k <= DEEP; k++)
        at += sprintf(at, "v%d = sin(v%d)\n", k, k - 1);
    for (int k = 1; k <= DEEP; k++)
        at += k == 1 ? sprintf(at, "e1 = concat(v%d, v%d)\n", DEEP, DEEP - 1) : sprintf(at, "e%d = concat(e%d, v%d)\n", k, k - 1, DEEP - k);
    sprintf(at, "h' = 0.5*h + v0\ny = V @ e%d\noutput y\n", DEEP);
    int n = record(&u, text, 4, 2, OUTPUTS, PARAMS_FROM_ZERO, y);
    compilation c = compiled_on_a_small_stack(n, y, NULL);
    wg_plan_free(c.plan);
    unrolled_free(&u);
}
