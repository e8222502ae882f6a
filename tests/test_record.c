/* Recorded steps: published cells against the same equations in plain loops, every function of the language, derivatives of
 * first and second order, and texts that say one thing in several ways. */
#include "drawn_cell.h"

enum { T = 5, B = 3, I = 3, H = 4 };

static const unrolled_sizes sizes = {.steps = T, .batch = B, .input = I, .hidden = H};

static double sig(double x) { return 1 / (1 + exp(-x)); }

/* ---- published cells in plain loops ---- */

/* One row's vectors, by what is drawn for the names; no tree, no tape. */
typedef struct naive {
    const unrolled *u;
    int t, row;
    double h[H], c[H];
} naive;

static void begin(naive *n, const unrolled *u, int row) {
    *n = (naive){.u = u, .row = row};
    for (int k = 0; k < H; k++) {
        n->h[k] = unrolled_drawn(u, "h")[row * H + k];
        n->c[k] = wg_cell_states(u->cell) > 1 ? unrolled_drawn(u, "c")[row * H + k] : 0;
    }
}

/* (W x_t)_i and (U v)_i */
static double of_x(const naive *n, const char *W, int i) {
    const double *w = unrolled_drawn(n->u, W), *x = unrolled_drawn(n->u, "x") + (n->t * B + n->row) * I;
    double sum = 0;
    for (int k = 0; k < I; k++)
        sum += w[i * I + k] * x[k];
    return sum;
}

static double of_v(const naive *n, const char *U, const double *v, int i) {
    const double *w = unrolled_drawn(n->u, U);
    double sum = 0;
    for (int k = 0; k < H; k++)
        sum += w[i * H + k] * v[k];
    return sum;
}

static double bias(const naive *n, const char *b, int i) { return unrolled_drawn(n->u, b)[i]; }

static void lstm(naive *n) {
    double c[H], h[H];
    for (int k = 0; k < H; k++) {
        double i = sig(of_x(n, "W_i", k) + of_v(n, "U_i", n->h, k) + bias(n, "b_i", k));
        double f = sig(of_x(n, "W_f", k) + of_v(n, "U_f", n->h, k) + bias(n, "b_f", k));
        double g = tanh(of_x(n, "W_g", k) + of_v(n, "U_g", n->h, k) + bias(n, "b_g", k));
        double o = sig(of_x(n, "W_o", k) + of_v(n, "U_o", n->h, k) + bias(n, "b_o", k));
        c[k] = f * n->c[k] + i * g;
        h[k] = o * tanh(c[k]);
    }
    memcpy(n->c, c, sizeof c);
    memcpy(n->h, h, sizeof h);
}

static void gru(naive *n) {
    double h[H];
    for (int k = 0; k < H; k++) {
        double r = sig(of_x(n, "W_r", k) + of_v(n, "U_r", n->h, k) + bias(n, "b_r", k));
        double z = sig(of_x(n, "W_z", k) + of_v(n, "U_z", n->h, k) + bias(n, "b_z", k));
        double new = tanh(of_x(n, "W_n", k) + bias(n, "b_n", k) + r * (of_v(n, "U_n", n->h, k) + bias(n, "c_n", k)));
        h[k] = (1 - z) * new + z *n->h[k];
    }
    memcpy(n->h, h, sizeof h);
}

static void gru_v1(naive *n) {
    double h[H], rh[H];
    for (int k = 0; k < H; k++)
        rh[k] = n->h[k] * sig(of_x(n, "W_r", k) + of_v(n, "U_r", n->h, k) + bias(n, "b_r", k));
    for (int k = 0; k < H; k++) {
        double z = sig(of_x(n, "W_z", k) + of_v(n, "U_z", n->h, k) + bias(n, "b_z", k));
        double new = tanh(of_x(n, "W_n", k) + of_v(n, "U_n", rh, k) + bias(n, "b_n", k));
        h[k] = z * n->h[k] + (1 - z) * new;
    }
    memcpy(n->h, h, sizeof h);
}

static void normalise(const double *v, double *out) {
    double mean = 0, square = 0;
    for (int k = 0; k < H; k++)
        mean += v[k] / H;
    for (int k = 0; k < H; k++)
        square += (v[k] - mean) * (v[k] - mean) / H;
    for (int k = 0; k < H; k++)
        out[k] = (v[k] - mean) / sqrt(square + 1e-5);
}

static const char layered_text[] =
    "cell layered\ninput x\nstate h, c\n"
    "i = sigmoid(g_i*layer_norm(W_i @ x + U_i @ h) + b_i + p_i*c)\n"
    "f = sigmoid(g_f*layer_norm(W_f @ x + U_f @ h) + b_f + p_f*c)\n"
    "c' = f*c + i*tanh(g_z*layer_norm(W_z @ x + U_z @ h) + b_z)\n"
    "o = sigmoid(g_o*layer_norm(W_o @ x + U_o @ h) + b_o + p_o*c')\n"
    "h' = o*tanh(layer_norm(c'))\n";

static void gate(const naive *n, char which, double *out) {
    char name[] = {0, '_', which, 0}, W[] = {'W', '_', which, 0}, U[] = {'U', '_', which, 0};
    double v[H], normal[H];
    for (int k = 0; k < H; k++)
        v[k] = of_x(n, W, k) + of_v(n, U, n->h, k);
    normalise(v, normal);
    for (int k = 0; k < H; k++) {
        name[0] = 'g';
        out[k] = bias(n, name, k) * normal[k];
        name[0] = 'b';
        out[k] += bias(n, name, k);
    }
}

static void layered(naive *n) {
    double i[H], f[H], z[H], o[H], c[H];
    gate(n, 'i', i);
    gate(n, 'f', f);
    gate(n, 'z', z);
    gate(n, 'o', o);
    for (int k = 0; k < H; k++) {
        double in = sig(i[k] + bias(n, "p_i", k) * n->c[k]), keep = sig(f[k] + bias(n, "p_f", k) * n->c[k]);
        c[k] = keep * n->c[k] + in * tanh(z[k]);
        o[k] = sig(o[k] + bias(n, "p_o", k) * c[k]);
    }
    memcpy(n->c, c, sizeof c);
    normalise(n->c, n->h);
    for (int k = 0; k < H; k++)
        n->h[k] = o[k] * tanh(n->h[k]);
}

static void compare_with_loops(const char *text, void (*step)(naive *n)) {
    static const int32_t lengths[B] = {T, 0, 2};
    for (int cut = 0; cut < 2; cut++) {
        unrolled_sizes of = sizes;
        of.lengths = cut ? lengths : NULL;
        unrolled u = unrolled_new(text, &of);
        wg_tensor *y = taped_value(wg_unroll_output(u.unroll)), *last = taped_value(wg_unroll_final(u.unroll, "h"));
        cr_assert_eq(wg_tensor_shape(y)->count, T * B * H);
        for (int row = 0; row < B; row++) {
            naive n;
            begin(&n, &u, row);
            for (n.t = 0; n.t < T; n.t++) {
                bool live = !cut || n.t < lengths[row];
                if (live)
                    step(&n);
                for (int k = 0; k < H; k++)
                    cr_assert_float_eq(wg_tensor_get(y, (n.t * B + row) * H + k), live ? n.h[k] : 0, 1e-12,
                                       "%s, step %d, row %d, unit %d", wg_cell_name(u.cell), n.t, row, k);
            }
            for (int k = 0; k < H; k++)
                cr_assert_float_eq(wg_tensor_get(last, row * H + k), n.h[k], 1e-12);
        }
        wg_tensor_free(y);
        wg_tensor_free(last);
        unrolled_free(&u);
    }
}

Test(record, published_cells_are_what_plain_loops_compute) {
    compare_with_loops("lstm", lstm);
    compare_with_loops("gru", gru);
    compare_with_loops("gru_v1", gru_v1);
    compare_with_loops(layered_text, layered);
}

/* ---- every function ---- */

static const char functions_text[] =
    "cell all\ninput x, t[1]\nsize N = 2*hidden\nconst k = 0.5\nstate h = h0, s[N] = 0.25\n"
    "a = W @ x + U @ h + b\n"
    "p = softmax(a)\n"
    "l = log_softmax(a)\n"
    "q = layer_norm(a)\n"
    "r = rms_norm(a)\n"
    "c = cumsum(a)\n"
    "e = concat(a, p)\n"
    "d = slice(e, 1, hidden)\n"
    "m = sum(a) + mean(p)*dot(a, b)\n"
    "w = where(less(a, 0), -a**2, k/N)\n"
    "z = clamp(a, -k, k)\n"
    "v = mod(a, 0.7) + floor(a)\n"
    "i = index(hidden)/hidden\n"
    "j = dropout(a, 0.3) + bernoulli(0.25, hidden)\n"
    "two = 2\n"
    "g = concat(two, t, b)\n"
    "h' = tanh(0.1*(p + l + q + r + c + d + m*w + z + v + i + j) + t*sum(g)) + stop_gradient(a)/10\n"
    "s' = max(e, s) - min(s, two*k)/10\n"
    "init b = normal(1)\n";

typedef struct line_check {
    const unrolled *u;
    int t, row;
} line_check;

static void line_is(const line_check *at, const char *name, const double *want, int n) {
    wg_tensor *all = unrolled_all(at->u, name);
    cr_assert_eq(wg_tensor_shape(all)->rank, 3);
    cr_assert_eq(wg_tensor_shape(all)->dim[1], B);
    cr_assert_eq(wg_tensor_shape(all)->dim[2], n, "%s has length %d", name, (int)wg_tensor_shape(all)->dim[2]);
    for (int k = 0; k < n; k++)
        cr_assert_float_eq(wg_tensor_get(all, (at->t * B + at->row) * n + k), want[k], 1e-11, "%s[%d], step %d, row %d: %g, not %g",
                           name, k, at->t, at->row, wg_tensor_get(all, (at->t * B + at->row) * n + k), want[k]);
    wg_tensor_free(all);
}

/* One step of functions_text, by hand; h and s are advanced. */
static void functions_step(const line_check *at, double *h, double *s) {
    const naive n = {.u = at->u, .t = at->t, .row = at->row};
    const double *b = unrolled_drawn(at->u, "b"), t = unrolled_drawn(at->u, "t")[at->t * B + at->row];
    double a[H], p[H], l[H], q[H], r[H], c[H], e[2 * H], d[H], w[H], z[H], v[H], i[H], j[H], g[H + 2];
    double top = -INFINITY, total = 0, square = 0, run = 0, sum = 0, product = 0, all = 2 + t;
    for (int k = 0; k < H; k++) {
        a[k] = of_x(&n, "W", k) + of_v(&n, "U", h, k) + b[k];
        top = fmax(top, a[k]);
        square += a[k] * a[k] / H;
        sum += a[k];
        product += a[k] * b[k];
        all += b[k];
    }
    for (int k = 0; k < H; k++)
        total += exp(a[k] - top);
    normalise(a, q);
    for (int k = 0; k < H; k++) {
        p[k] = exp(a[k] - top) / total;
        l[k] = a[k] - top - log(total);
        r[k] = a[k] / sqrt(square + 1e-5);
        c[k] = run += a[k];
        e[k] = a[k];
        e[H + k] = p[k];
        w[k] = a[k] < 0 ? -a[k] * a[k] : 0.5 / (2 * H);
        z[k] = fmin(fmax(a[k], -0.5), 0.5);
        v[k] = a[k] - 0.7 * floor(a[k] / 0.7) + floor(a[k]);
        i[k] = (double)k / H;
        j[k] = a[k] + 0.25;
    }
    const double m = sum + 1.0 / H * product;
    for (int k = 0; k < H; k++) {
        d[k] = e[1 + k];
        g[2 + k] = b[k];
        h[k] = tanh(0.1 * (p[k] + l[k] + q[k] + r[k] + c[k] + d[k] + m * w[k] + z[k] + v[k] + i[k] + j[k]) + t * all) +
               a[k] / 10;
    }
    g[0] = 2;
    g[1] = t;
    for (int k = 0; k < 2 * H; k++)
        s[k] = fmax(e[k], s[k]) - fmin(s[k], 1) / 10;
    const struct {
        const char *name;
        const double *value;
        int n;
    } lines[] = {{"a", a, H}, {"p", p, H}, {"l", l, H}, {"q", q, H}, {"r", r, H}, {"c", c, H}, {"e", e, 2 * H},
                 {"d", d, H}, {"m", &m, 1}, {"w", w, H}, {"z", z, H}, {"v", v, H}, {"i", i, H}, {"j", j, H},
                 {"g", g, H + 2}, {"two", g, 1}, {"h", h, H}, {"s", s, 2 * H}};
    for (int line = 0; line < WG_LEN(lines); line++)
        line_is(at, lines[line].name, lines[line].value, lines[line].n);
}

Test(record, every_function_of_the_language_is_what_plain_loops_compute) {
    unrolled_sizes of = sizes;
    of.own_starts = true;
    unrolled u = unrolled_new(functions_text, &of);
    for (int row = 0; row < B; row++) {
        double h[H], s[2 * H];
        for (int k = 0; k < H; k++) {
            h[k] = unrolled_drawn(&u, "h0")[k];
            s[k] = s[H + k] = 0.25;
        }
        for (int t = 0; t < T; t++)
            functions_step(&(line_check){&u, t, row}, h, s);
    }
    unrolled_free(&u);
}

/* ---- derivatives ---- */

typedef struct derived {
    const char *text;
    unrolled_sizes of;
    unrolled u; /* its cell and names */
} derived;

/* The outputs plus, in their first element, every final state. */
static wg_var whole(void *user, const wg_var *x) {
    const derived *d = user;
    wg_named given[UNROLLED_NAMES];
    wg_tape *tape = x[0].tape;
    for (int i = 0; i < d->u.n; i++)
        given[i] = (wg_named){d->u.given[i].name, x[i]};
    wg_unroll_options options = unrolled_options(&d->u, tape);
    wg_unroll *unroll = wg_unroll_new(tape, d->u.cell, d->of.input, d->of.hidden, d->u.n, given, &options);
    if (!unroll)
        return (wg_var){tape, {.id = 0}};
    wg_var y = wg_unroll_output(unroll);
    for (int i = 0; i < wg_cell_states(d->u.cell); i++)
        y = wg_add(y, taped_sum(wg_sin(wg_unroll_final(unroll, wg_cell_state(d->u.cell, i)))));
    wg_unroll_free(unroll);
    return y;
}

static void check_derivatives(const char *text, unrolled_sizes of) {
    wg_error error = {0};
    derived d = {.text = text, .of = of, .u = unrolled_new(text, &of)};
    cr_assert_eq(wg_check_grad(NULL, NULL, whole, &d, d.u.n, d.u.kept, &error), WG_OK, "%s: %s", wg_cell_name(d.u.cell),
                 error.text);
    unrolled_free(&d.u);
}

static const int32_t some_lengths[2] = {3, 1};
static const unrolled_sizes small = {.steps = 3, .batch = 2, .input = 2, .hidden = 2}, one = {.steps = 1, .batch = 1, .input = 1, .hidden = 1, .own_starts = true};

Test(record, derivatives_of_every_cell_of_the_zoo_hold_to_second_order) {
    for (int z = 0; z < wg_zoo_count(); z++) {
        unrolled_sizes cut = small;
        cut.lengths = some_lengths;
        check_derivatives(wg_zoo_name(z), small);
        check_derivatives(wg_zoo_name(z), cut);
        check_derivatives(wg_zoo_name(z), one);
    }
}

Test(record, derivatives_of_every_function_of_the_language_hold_to_second_order) {
    static const char smooth[] = /* functions_text without its jumps and without stop_gradient */
        "cell all\ninput x, t[1]\nsize N = 2*hidden\nconst k = 0.5\nstate h = h0, s[N] = 0.25\n"
        "a = W @ x + U @ h + b\n"
        "e = concat(a, softmax(a))\n"
        "d = slice(e, 1, hidden) + cumsum(a) + log_softmax(a)\n"
        "m = sum(a) + mean(a)*dot(a, b)\n"
        "w = where(less(a, 0), -a**2, k/N) + clamp(a, -k, k) + index(hidden)\n"
        "h' = tanh(0.1*(layer_norm(a) + rms_norm(d) + d + m*w + bernoulli(0.5, hidden)) + t*sum(concat(2, t, b)))\n"
        "s' = max(e, s) - min(s, k)/10\n";
    unrolled_sizes of = small, drawn = small;
    of.own_starts = true;
    of.lengths = some_lengths;
    drawn.training = true;
    drawn.key = 5;
    check_derivatives(smooth, of);
    check_derivatives(smooth, small);
    check_derivatives(smooth, drawn);
    check_derivatives("cell d\nstate h\nh' = tanh(W @ dropout(x, 0.4) + U @ dropout(h, 0.4))\n", drawn);
}

Test(record, stop_gradient_stops_it) {
    unrolled u = unrolled_new("cell s\nstate h\nh' = tanh(stop_gradient(W @ x) + U @ h)\n", &sizes);
    wg_var g[2], wrt[2] = {u.given[1].var, u.given[2].var};
    cr_assert_eq(wg_grad(taped_sum(wg_unroll_output(u.unroll)), 2, wrt, g), WG_OK);
    cr_assert_eq(taped_number(taped_sum(wg_abs(g[0]))), 0);
    cr_assert_neq(taped_number(taped_sum(wg_abs(g[1]))), 0);
    unrolled_free(&u);
}

/* ---- one cell, several texts ---- */

/* Outputs of both are the same bits. */
static void same_results(const char *a, const char *b, const char *const (*alias)[2]) {
    unrolled_sizes renamed = sizes;
    renamed.alias = alias;
    unrolled u = unrolled_new(a, &sizes), v = unrolled_new(b, &renamed);
    wg_tensor *y = taped_value(wg_unroll_output(u.unroll)), *z = taped_value(wg_unroll_output(v.unroll));
    cr_assert_eq(wg_tensor_bytes(y), wg_tensor_bytes(z));
    cr_assert_eq(memcmp(wg_tensor_data(y), wg_tensor_data(z), wg_tensor_bytes(y)), 0, "%s", b);
    wg_tensor_free(y);
    wg_tensor_free(z);
    unrolled_free(&u);
    unrolled_free(&v);
}

Test(record, renaming_reordering_and_splitting_lines_change_nothing) {
    static const char *const renamed[][2] = {{"A", "W_r"}, {"C", "U_r"}, {"q", "b_r"}, {"data", "x"}, {"state1", "h"}, {0}};
    static const char first[] = "cell m\nstate h\nr = sigmoid(W_r @ x + U_r @ h + b_r)\nn = tanh(W_n @ x + r*(U_n @ h))\n"
                                "h' = (1 - r)*n + r*h\n";
    same_results(first,
                 "cell other\ninput data\nstate state1\ngate = sigmoid(A @ data + C @ state1 + q)\n"
                 "new = tanh(W_n @ data + gate*(U_n @ state1))\nstate1' = (1 - gate)*new + gate*state1\n",
                 renamed);
    same_results(first,
                 "cell split\ninput x\nstate h\nu = U_n @ h\nwx = W_r @ x\nuh = U_r @ h\nsum1 = wx + uh\n"
                 "r = sigmoid(sum1 + b_r)\nn = tanh(W_n @ x + r*u)\nold = r*h\nleft = 1 - r\nh' = left*n + old\noutput h\n",
                 NULL);
    same_results(first,
                 "cell order # a comment\nparam b_r[hidden], W_n[hidden, input]\nstate h\ncarry = U_n @ h\n"
                 "r = sigmoid(W_r @ x +\n  U_r @ h + (\n b_r))\nn = tanh(W_n @ x + r*carry)\nh' = ((1 - r)*n) + (r*h)\n",
                 NULL);
}

static int products(const unrolled *u) {
    int found = 0;
    for (int64_t id = 1; id < wg_tape_count(u->tape); id++)
        found += strcmp(wg__node(u->tape, id)->op->name, "matmul") == 0;
    return found;
}

/* As often as it is written; but those with a name are apart, so that derivatives by a name are its own, and so are those of states that are
 * equal in one step alone. */
Test(record, a_product_that_is_written_again_is_the_same) {
    static const struct {
        const char *text;
        int products; /* a step */
    } cells[] = {{"cell m\nstate h\nh' = tanh(a*(W @ x)*(U @ h) + p*(W @ x) + (U @ h))\n", 2},
                 {"cell m\nstate h\nk = W @ x\nh' = tanh(W @ x + k + U @ h + W @ x)\n", 3},
                 {"cell m\nstate h\nr = sigmoid(W @ x + U @ h)\nh' = tanh(W @ (2*x) + U @ (r*h) + (W @ x)*r + W @ (2*x))\n", 5},
                 {"cell m\nstate h, k\nh' = tanh(W @ x + U @ h + U @ k)\nk' = tanh(U @ h)\n", 3}};
    for (int k = 0; k < WG_LEN(cells); k++) {
        unrolled_sizes drawn = sizes;
        drawn.own_starts = k == 3;
        unrolled u = unrolled_new(cells[k].text, &drawn);
        cr_expect_eq(products(&u), T * cells[k].products, "%s: %d", cells[k].text, products(&u));
        unrolled_free(&u);
    }
    same_results("cell m\nstate h\nh' = tanh((W @ x)*(U @ h) + W @ x)\n", "cell m\nstate h\nk = W @ x\nh' = tanh(k*(U @ h) + k)\n", NULL);
    static const char *const named[] = {"cell m\nstate h\nk = W @ x\nh' = 0.5*k + (W @ x) + U @ h\n",
                                        "cell m\nstate h\nk = dropout(W @ x, 0.5)\nh' = 0.5*k + (W @ x) + U @ h\n",
                                        "cell m\nstate h\nq = tanh(W @ x)\nk = dropout(dropout(W @ x, 0.5), 0)\nh' = 0.5*k + (W @ x) + U @ h + q\n"};
    for (int k = 0; k < WG_LEN(named); k++) {
        unrolled u = unrolled_new(named[k], &sizes);
        wg_var by = wg_at(u.unroll, T - 1, "k"), g;
        cr_assert_eq(wg_grad(taped_sum(wg_at(u.unroll, T - 1, "h")), 1, &by, &g), WG_OK, "%s", wg_tape_message(u.tape));
        cr_expect_eq(taped_number(taped_sum(g)), 0.5 * B * H, "%s", named[k]);
        unrolled_free(&u);
    }
}

Test(record, an_added_term_of_zero_changes_nothing_and_another_function_does) {
    same_results("cell a\nstate h\nh' = tanh(W @ x + U @ h)\n", "cell a\nconst k = 0\nstate h\nh' = tanh(W @ x + U @ h + k)\n",
                 NULL);
    unrolled u = unrolled_new("cell a\nstate h\nh' = tanh(W @ x + U @ h)\n", &sizes),
             v = unrolled_new("cell a\nstate h\nh' = softsign(W @ x + U @ h)\n", &sizes);
    wg_tensor *y = taped_value(wg_at(u.unroll, 0, "h")), *z = taped_value(wg_at(v.unroll, 0, "h"));
    for (int64_t i = 0; i < wg_tensor_shape(y)->count; i++) { /* both of the same argument */
        double a = atanh(wg_tensor_get(y, i)), s = wg_tensor_get(z, i);
        cr_assert_float_eq(s, a / (1 + fabs(a)), 1e-12);
    }
    wg_tensor_free(y);
    wg_tensor_free(z);
    unrolled_free(&u);
    unrolled_free(&v);
}

/* ---- shapes ---- */

static void output_is(const char *text, const unrolled_sizes *of, int64_t n, double first) {
    unrolled u = unrolled_new(text, of);
    wg_tensor *y = taped_value(wg_unroll_output(u.unroll));
    const int64_t want[3] = {of->steps, of->batch, n};
    cr_assert_eq(wg_tensor_shape(y)->rank, 3);
    for (int k = 0; k < 3; k++)
        cr_assert_eq(wg_tensor_shape(y)->dim[k], want[k], "%s: axis %d is %d", text, k, (int)wg_tensor_shape(y)->dim[k]);
    for (int64_t i = 0; i < wg_tensor_shape(y)->count && !isnan(first); i++)
        cr_assert_float_eq(wg_tensor_get(y, i), first, 1e-14, "%s", text);
    wg_tensor_free(y);
    unrolled_free(&u);
}

Test(record, outputs_that_are_numbers_or_depend_on_no_row_have_every_row) {
    output_is("cell n\nstate h\nh' = tanh(W @ x)\na = 1 + 2\ny = a*2\noutput y\n", &sizes, 1, 6);
    output_is("cell n\nstate h\nh' = tanh(W @ x)\ny = 2\noutput y\n", &sizes, 1, 2);
    output_is("cell n\nparam b[hidden]\nstate h\nh' = tanh(W @ x)\nq = 0*b + index(hidden)*0 + 4\noutput q\n", &sizes, H, 4);
    output_is("cell n\nparam b[3]\nstate h\nh' = tanh(W @ x)\ny = 0*b + 5\noutput y\n", &sizes, 3, 5);
    output_is("cell n\nstate h\nh' = tanh(W @ x)\ny = sum(h)\noutput y\n", &sizes, 1, NAN);
    output_is("cell n\nstate h = 0.5, c[3] = 2\nh' = h + 0*(W @ x)\nc' = c\noutput c\n",
              &(unrolled_sizes){.steps = T, .batch = B, .input = I, .hidden = H, .own_starts = true}, 3, 2);
    output_is("cell n\nparam a[1]\nstate h\nh' = 0*a + 3 + 0*(W @ x)\n", &sizes, H, 3);
    output_is("cell n\nstate h\nh' = 7 + 0*(W @ x)\n", &sizes, H, 7);
}

Test(record, a_cell_may_have_no_state) {
    unrolled u = unrolled_new("cell f\ny = W @ x\noutput y\n", &sizes);
    wg_tensor *y = taped_value(wg_unroll_output(u.unroll));
    naive n = {.u = &u};
    for (n.t = 0; n.t < T; n.t++)
        for (n.row = 0; n.row < B; n.row++)
            for (int k = 0; k < H; k++)
                cr_assert_float_eq(wg_tensor_get(y, (n.t * B + n.row) * H + k), of_x(&n, "W", k), 1e-13);
    wg_tensor_free(y);
    unrolled_free(&u);
}

Test(record, numbers_are_worked_out_before_anything_is_recorded) {
    unrolled u = unrolled_new("cell n\nconst k = 3\nstate h\na = k/sqrt(hidden) + less(1, 2) - 2**-k\nh' = W @ x + a\n", &sizes);
    wg_tensor *a = taped_value(wg_at(u.unroll, 0, "a"));
    cr_assert_eq(wg_tensor_shape(a)->count, 1);
    cr_assert_eq(wg_tensor_get(a, 0), 3 / 2.0 + 1 - 0.125);
    cr_assert_eq(wg_at(u.unroll, 0, "a").as.id, wg_at(u.unroll, T - 1, "a").as.id, "one constant for all steps");
    wg_tensor_free(a);
    unrolled_free(&u);
}

Test(record, empty_and_single_sizes_are_sizes_like_others) {
    for (int z = 0; z < wg_zoo_count(); z++)
        for (int steps = 0; steps < 2; steps++)
            for (int batch = 0; batch < 2; batch++)
                output_is(wg_zoo_name(z), &(unrolled_sizes){.steps = steps, .batch = batch, .input = 1, .hidden = 1}, 1, NAN);
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 0, .batch = B, .input = I, .hidden = H});
    wg_tensor *last = taped_value(wg_unroll_final(u.unroll, "c")), *gate = unrolled_all(&u, "i");
    cr_assert_eq(memcmp(wg_tensor_data(last), unrolled_drawn(&u, "c"), wg_tensor_bytes(last)), 0);
    cr_assert_eq(wg_tensor_shape(gate)->dim[0], 0);
    cr_assert_eq(wg_tensor_shape(gate)->dim[2], H);
    wg_tensor_free(last);
    wg_tensor_free(gate);
    unrolled_free(&u);
}

Test(record, a_concat_may_have_any_number_of_arguments) {
    char text[2000] = "cell wide\nstate h[80]\nh' = tanh(W @ x)\nv = concat(x";
    for (int i = 0; i < 79; i++)
        strcat(text, ", sum(h)");
    strcat(text, ")\ny = sum(v)\noutput y\n");
    output_is(text, &sizes, 1, NAN);
}

Test(record, probabilities_are_checked_even_where_nothing_is_drawn) {
    static const char *const bad[] = {"cell b\nstate h\nh' = dropout(W @ x, 1)\n", "cell b\nstate h\nh' = bernoulli(1.5, hidden)*(W @ x)\n",
                                      "cell b\nstate h\nh' = dropout(W @ x, -0.1)\n"};
    for (int i = 0; i < WG_LEN(bad); i++) {
        wg_cell *cell = wg_cell_parse(NULL, "bad.cell", bad[i], strlen(bad[i]), 0, NULL, NULL);
        cr_assert_not_null(cell);
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *x = taped_random(NULL, WG_F32, 3, (const int64_t[]){2, 2, 2}, 1), *W = taped_random(NULL, WG_F32, 2, (const int64_t[]){2, 2}, 2);
        wg_named given[] = {{"x", wg_leaf(tape, x)}, {"W", wg_leaf(tape, W)}};
        cr_assert_null(wg_unroll_new(tape, cell, 2, 2, 2, given, NULL));
        cr_assert_eq(wg_tape_status(tape), WG_RANGE);
        cr_assert(strstr(wg_tape_message(tape), "(bad.cell:3)"), "%s", wg_tape_message(tape));
        wg_tape_free(tape);
        wg_tensor_free(x);
        wg_tensor_free(W);
        wg_cell_free(cell);
    }
}

/* ---- draws ---- */

enum { DRAWS = 64 };

static unrolled drawn_masks(uint64_t key) {
    return unrolled_new("cell d\nstate h\nparam V[64, input]\nz = bernoulli(0.25, 64)\nd = dropout(0*(V @ x) + 1, 0.5)\n"
                        "h' = tanh(W @ x) + 0*sum(z) + 0*sum(d)\n",
                        &(unrolled_sizes){.steps = T, .batch = 8, .input = I, .hidden = H, .training = true, .key = key});
}

/* How many elements of two steps agree. */
static int64_t agreeing(const wg_tensor *a, int64_t s, const wg_tensor *b, int64_t t) {
    int64_t n = 8 * DRAWS, same = 0;
    for (int64_t i = 0; i < n; i++)
        same += wg_tensor_get(a, s * n + i) == wg_tensor_get(b, t * n + i);
    return same;
}

Test(record, masks_differ_between_steps_and_follow_from_the_key_alone) {
    unrolled first = drawn_masks(5), again = drawn_masks(5), other = drawn_masks(6);
    static const char *const name[] = {"z", "d"};
    static const double mean[] = {0.25, 0.5}, value[] = {1, 2};
    for (int k = 0; k < 2; k++) {
        const int64_t n = 8 * DRAWS;
        const double p = mean[k], alike = p * p + (1 - p) * (1 - p);
        wg_tensor *a = unrolled_all(&first, name[k]), *b = unrolled_all(&again, name[k]), *c = unrolled_all(&other, name[k]);
        cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
        double ones = 0;
        for (int64_t i = 0; i < T * n; i++) {
            cr_assert(wg_tensor_get(a, i) == 0 || wg_tensor_get(a, i) == value[k], "%g", wg_tensor_get(a, i));
            ones += wg_tensor_get(a, i) != 0;
        }
        cr_assert_lt(fabs(ones / (double)(T * n) - p), 5 * sqrt(p * (1 - p) / (double)(T * n)));
        for (int64_t s = 0; s < T; s++)
            for (int64_t t = 0; t < T; t++) { /* unlike steps, and unlike keys, agree as chance has it */
                double spread = 5 * sqrt(alike * (1 - alike) / (double)n), off = (double)agreeing(a, s, c, t) / (double)n - alike;
                cr_assert_lt(fabs(off), spread, "%s: steps %d and %d of two keys", name[k], (int)s, (int)t);
                off = (double)agreeing(a, s, a, t) / (double)n - alike;
                cr_assert(s == t || fabs(off) < spread, "%s: steps %d and %d", name[k], (int)s, (int)t);
            }
        wg_tensor_free(a);
        wg_tensor_free(b);
        wg_tensor_free(c);
    }
    unrolled_free(&first);
    unrolled_free(&again);
    unrolled_free(&other);
}

Test(record, a_key_has_its_seed_in_two_words_and_begins_at_step_zero) {
    wg_tensor *key = wg_key_new(NULL, 0xFEDCBA9876543210u);
    const uint32_t want[4] = {0x76543210u, 0xFEDCBA98u, 0, 0};
    cr_assert_eq(wg_tensor_dtype(key), WG_I32);
    cr_assert_eq(wg_tensor_bytes(key), sizeof want);
    cr_assert_eq(memcmp(wg_tensor_data(key), want, sizeof want), 0);
    wg_tensor_free(key);
}
