/* Initialisers: lines and patterns, defaults, the drawn values, the schemes of other libraries. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "failing.h"
#include "initialisers.h"

#define LSTM                                                                                       \
    "cell lstm\nstate h, c\ni  = sigmoid(W_i @ x + U_i @ h + b_i)\nf  = sigmoid(W_f @ x + U_f @ "  \
    "h + b_f)\n"                                                                                   \
    "g  = tanh(W_g @ x + U_g @ h + b_g)\no  = sigmoid(W_o @ x + U_o @ h + b_o)\nc' = f*c + "       \
    "i*g\nh' = o*tanh(c')\n"
#define RNN "cell t\nstate h\nh' = tanh(W @ x + U @ h + b)\n"

typedef struct cell {
    wg_lang *lang;
    wg_inits *inits;
} cell;

static cell make(const char *text, int lines, const char *const *line) {
    wg_error error = {0};
    cell c = {.lang = wg__lang_parse(NULL, "t.cell", text, strlen(text), NULL, &error)};
    cr_assert_not_null(c.lang, "%s", error.text);
    c.inits = wg__inits_new(NULL, c.lang, lines, line, &error);
    cr_assert_not_null(c.inits, "%s", error.text);
    return c;
}

static void drop(cell *c) {
    wg__inits_free(c->inits);
    wg__lang_free(c->lang);
}

static int place(const cell *c, const char *name) {
    for (int i = 0; i < c->lang->params; i++)
        if (strcmp(c->lang->symbol[c->lang->param[i]].name, name) == 0)
            return i;
    cr_assert(0, "no %s", name);
    return -1;
}

/* wanted: "W orthogonal; b zeros" */
static void gives(const char *text, const char *line, const char *wanted) {
    char list[600], shown[100];
    cell c = make(text, line != NULL, &line);
    snprintf(list, sizeof list, "%s;", wanted);
    for (char *at = list, *end; (end = strchr(at, ';')); at = end + 1) {
        char name[40];
        int skip;
        *end = 0;
        sscanf(at, " %39s%n", name, &skip);
        wg__inits_text(c.inits, place(&c, name), shown, sizeof shown);
        cr_assert_str_eq(shown, at + skip + 1, "%s has %s, not%s", name, shown, at + skip);
    }
    drop(&c);
}

static wg_tensor *draw_with(const char *text, const char *line, const char *name, int64_t input,
                            int64_t hidden, uint64_t seed, uint64_t layer, wg_error *error) {
    cell c = make(text, line != NULL, &line);
    wg_shape shape;
    int at = place(&c, name);
    cr_assert_eq(wg__lang_shape(c.lang, c.lang->param[at], input, hidden, &shape, error), WG_OK,
                 "%s", error->text);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, shape.rank, shape.dim);
    if (wg__inits_draw(c.inits, at, input, hidden, seed, layer, tensor, error) != WG_OK) {
        wg_tensor_free(tensor);
        tensor = NULL;
    }
    drop(&c);
    return tensor;
}

static wg_tensor *draw(const char *text, const char *line, const char *name, int64_t input,
                       int64_t hidden) {
    wg_error error = {0};
    wg_tensor *tensor = draw_with(text, line, name, input, hidden, 7, 0, &error);
    cr_assert_not_null(tensor, "%s", error.text);
    return tensor;
}

static void bad_line(const char *text, const char *line, const char *words) {
    wg_error error = {0};
    wg_lang *lang = wg__lang_parse(NULL, "t.cell", text, strlen(text), NULL, &error);
    cr_assert_not_null(lang, "%s", error.text);
    cr_assert_null(wg__inits_new(NULL, lang, 1, &line, &error), "%s is accepted", line);
    cr_assert_not_null(strstr(error.text, words), "no '%s' in %s", words, error.text);
    wg__lang_free(lang);
}

static void bad_text(const char *text, const char *start, const char *words) {
    wg_error error = {0};
    cr_assert_null(wg__lang_parse(NULL, "t.cell", text, strlen(text), NULL, &error),
                   "accepted:\n%s", text);
    cr_assert(strncmp(error.text, start, strlen(start)) == 0, "wanted %s, got %s", start,
              error.text);
    cr_assert_not_null(strstr(error.text, words), "no '%s' in %s", words, error.text);
}

/* Mean, deviation and extremes over all elements. */
typedef struct moments {
    double mean, deviation, low, high;
} moments;

static moments measure(const wg_tensor *tensor) {
    int64_t n = wg_tensor_shape(tensor)->count;
    moments m = {0, 0, INFINITY, -INFINITY};
    for (int64_t i = 0; i < n; i++) {
        double value = wg_tensor_get(tensor, i);
        m.mean += value / (double)n;
        m.low = fmin(m.low, value);
        m.high = fmax(m.high, value);
    }
    for (int64_t i = 0; i < n; i++)
        m.deviation += pow(wg_tensor_get(tensor, i) - m.mean, 2) / (double)n;
    m.deviation = sqrt(m.deviation);
    return m;
}

/* Draws W [hidden, input] and checks its deviation and bounds. */
static void spread(const char *line, double deviation, double low, double high) {
    wg_tensor *w = draw(RNN, line, "W", 200, 100);
    moments m = measure(w);
    cr_assert_float_eq(m.deviation / deviation, 1, 0.03, "%s: %g, not %g", line, m.deviation,
                       deviation);
    cr_assert_lt(fabs(m.mean - (low + high) / 2), 0.05 * deviation, "%s: mean %g", line, m.mean);
    cr_assert(m.low >= low && m.high <= high, "%s: from %g to %g", line, m.low, m.high);
    cr_assert(high > 1e200 ||
                  (m.low < low + 0.01 * (high - low) && m.high > high - 0.01 * (high - low)),
              "%s", line);
    wg_tensor_free(w);
}

Test(initialisers, defaults_follow_the_use) {
    gives(LSTM "init b_f = 1\n", NULL, "W_i glorot_uniform; U_i orthogonal; b_i zeros; b_f 1");
    gives("cell t\nstate h = h0\nh' = tanh(W @ x + U @ h + V @ (2*h) - b)\nz = A @ h' + B @ "
          "x\noutput z\n",
          NULL, "h0 zeros; U orthogonal; V orthogonal; b zeros; A orthogonal; B glorot_uniform");
    gives("cell t\nsize N = 2*hidden\nstate h, c[N]\nh' = tanh(W @ x + U @ c)\nc' = tanh(V @ c)\n",
          NULL, "U glorot_uniform; V orthogonal");
    gives("cell t\nsize hidden = input\nstate h\nz = A @ x\nh' = z + U @ (x + h)\n", NULL,
          "A glorot_uniform; U orthogonal");
    gives("cell t\nstate h\nh' = g*h + W @ x - a*(x_2 + h)\n", NULL,
          "g none: give an init line; a none: give an init line; x_2 zeros");
}

Test(initialisers, a_factor_without_a_line_is_named_when_a_model_is_made) {
    const char *line = "g=0.5";
    wg_error error = {0};
    cell c = make("cell t\nstate h\nh' = g*h + W @ x\n", 0, NULL);
    cr_assert_eq(wg__inits_complete(c.inits, &error), WG_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "t.cell:3:6: 'g' is a factor"), "%s", error.text);
    drop(&c);
    c = make("cell t\nstate h\nh' = g*h + W @ x\n", 1, &line);
    error = (wg_error){0};
    cr_assert_eq(wg__inits_complete(c.inits, &error), WG_OK);
    drop(&c);
}

Test(initialisers, the_last_match_wins) {
    gives(LSTM "init * = normal(0.1)\ninit b_* = 0\ninit b_f = chrono(100)\ninit b_i = -b_f\n",
          NULL, "W_o normal(0.1); b_g 0; b_f chrono(100); b_i -b_f");
    gives(LSTM "init b_f = 1\n", "U_*=orthogonal(1.2)",
          "U_i orthogonal(1.2); U_o orthogonal(1.2); W_i glorot_uniform; b_f 1");
    gives(LSTM "init b_f = 1\n", "*_f = ones", "b_f ones; W_f ones; U_f ones; b_i zeros");
    gives(LSTM "init b_f = 1\n", "pytorch", "b_f pytorch; W_f pytorch");
    gives(LSTM "init *_*f = 1\n", NULL, "b_f 1; W_f 1; b_i zeros");
}

Test(initialisers, bad_lines_tell_their_place) {
    bad_text(RNN "init q = 1\n", "t.cell:4:6: ", "no parameter");
    bad_text(RNN "init b = foo\n", "t.cell:4:10: ", "no initialiser 'foo'");
    bad_text(RNN "init b = foo(1)\n", "t.cell:4:10: ", "no initialiser 'foo'");
    bad_text(RNN "init b = normal\n", "t.cell:4:10: ", "takes 1 argument, not 0");
    bad_text(RNN "init b = uniform(1, 2, 3)\n", "t.cell:4:10: ", "from 1 to 2 arguments, not 3");
    bad_text(RNN "init b = normal(q)\n", "t.cell:4:17: ", "no size or const");
    bad_text(RNN "init b = normal(W)\n", "t.cell:4:17: ", "a parameter");
    bad_text(RNN "init b = orthogonal\n", "t.cell:4:1: ", "matrices only");
    bad_text(RNN "init b = -W\n", "t.cell:4:1: ", "another shape");
    bad_text(RNN "init W = spectral(1, 1)\n", "t.cell:4:1: ", "square");
    bad_text(RNN "init b = -b\n", "t.cell:4:1: ", "negative of the other");
    bad_text(RNN "init = 3\n", "t.cell:4:1: ", "cannot be a name");
    bad_text(RNN "init b * = 3\n", "t.cell:4:8: ", "'=' after the pattern");
    bad_text(RNN "init b\n", "t.cell:4:7: ", "'='");
    bad_text(RNN "init b = 2*h\n", "t.cell:4:12: ", "a state");
    bad_line(RNN, "q=1", "no parameter of cell t matches 'q'");
    bad_line(RNN, "nonsense", "neither PATTERN=INITIALISER");
    bad_line(RNN, "b=", "init:1:1: expected");
    bad_line(RNN, "b=1 2", "init:1:3: ");
    bad_line(RNN, "b=orthogonal", "matrices only");
    bad_line(RNN, "*=orthogonal(2)", "matrices only");
}

Test(initialisers, arguments_are_checked_when_numbers_are_known) {
    const char *const lines[] = {
        "W=normal(1/(input - 2))", "W=log_uniform(0, 1)", "W=sparse(0, 1)",
        "W=sparse(1.5, 1)",        "W=chrono(1)",         "W=uniform(1, 0)",
        "U=spectral(1, 0.0001)"};
    for (int i = 0; i < WG_LEN(lines); i++) {
        wg_error error = {0};
        wg_tensor *w = draw_with(RNN, lines[i], lines[i][0] == 'W' ? "W" : "U", 2, 3, 7, 0, &error);
        cr_assert_null(w, "%s", lines[i]);
        cr_assert_eq(error.status, WG_RANGE, "%s: %s", lines[i], error.text);
    }
}

Test(initialisers, draws_have_the_moments_they_promise) {
    spread("W=uniform(2)", 2 / sqrt(3), -2, 2);
    spread("W=uniform(1, 3)", 1 / sqrt(3), 1, 3);
    spread("W=normal(0.5)", 0.5, -1e300, 1e300);
    spread("W=glorot_uniform", sqrt(2.0 / 300), -sqrt(6.0 / 300), sqrt(6.0 / 300));
    spread("W=glorot_normal", sqrt(2.0 / 300), -1e300, 1e300);
    spread("W=he_uniform", sqrt(2.0 / 200), -sqrt(6.0 / 200), sqrt(6.0 / 200));
    spread("W=he_normal", sqrt(2.0 / 200), -1e300, 1e300);
    spread("W=lecun_normal", sqrt(1.0 / 200), -1e300, 1e300);
    spread("W=sparse(0.25, 2)", 1, -1e300, 1e300);
    spread("W=normal(2/sqrt(hidden))", 0.2, -1e300, 1e300);
    gives(RNN, "fan_in", "W normal, variance 1/fan_in; b normal, variance 1/fan_in");
    spread("fan_in", sqrt(1.0 / 200), -1e300, 1e300);
    spread("pytorch", 0.1 / sqrt(3), -0.1, 0.1);
    spread("flax", sqrt(1.0 / 200), -2 * sqrt(1.0 / 200) / 0.8796, 2 * sqrt(1.0 / 200) / 0.8796);
    spread("keras", sqrt(2.0 / 300), -sqrt(6.0 / 300), sqrt(6.0 / 300));
}

Test(initialisers, simple_ones_are_exact) {
    const struct {
        const char *line;
        double first, last;
    } rows[] = {{"b=zeros", 0, 0},          {"b=ones", 1, 1},           {"b=-2.5", -2.5, -2.5},
                {"b=1/hidden", 0.25, 0.25}, {"b=linspace(1, 2)", 1, 2}, {"b=hidden", 4, 4}};
    for (int i = 0; i < WG_LEN(rows); i++) {
        wg_tensor *b = draw(RNN, rows[i].line, "b", 3, 4);
        cr_assert_eq(wg_tensor_get(b, 0), rows[i].first, "%s", rows[i].line);
        cr_assert_eq(wg_tensor_get(b, 3), rows[i].last, "%s", rows[i].line);
        wg_tensor_free(b);
    }
    wg_tensor *w = draw(RNN, "W=identity(0.5)", "W", 3, 4);
    for (int i = 0; i < 12; i++)
        cr_assert_eq(wg_tensor_get(w, i), i / 3 == i % 3 ? 0.5 : 0);
    wg_tensor_free(w);
}

Test(initialisers, log_uniform_and_chrono_are_uniform_in_their_scale) {
    wg_tensor *w = draw(RNN, "W=log_uniform(0.001, 1000)", "W", 100, 100);
    int64_t below = 0, n = wg_tensor_shape(w)->count;
    for (int64_t i = 0; i < n; i++)
        below += wg_tensor_get(w, i) < 1;
    cr_assert_float_eq((double)below / (double)n, 0.5, 0.03);
    wg_tensor_free(w);
    w = draw(RNN, "W=chrono(101)", "W", 100, 100);
    moments m = measure(w);
    cr_assert(m.low >= 0 && m.high <= log(100));
    double mean = 0;
    for (int64_t i = 0; i < n; i++)
        mean += exp(wg_tensor_get(w, i)) / (double)n;
    cr_assert_float_eq(mean, 50.5, 1.5);
    wg_tensor_free(w);
}

/* The largest distance of W W^T (rows) or W^T W (columns) from gain^2 times the identity. */
static double skew(const wg_tensor *w, double gain, bool columns) {
    int64_t rows = wg_tensor_shape(w)->dim[0], cols = wg_tensor_shape(w)->dim[1],
            n = columns ? cols : rows;
    double worst = 0;
    for (int64_t a = 0; a < n; a++)
        for (int64_t b = 0; b <= a; b++) {
            double dot = 0;
            for (int64_t k = 0; k < (columns ? rows : cols); k++)
                dot += columns ? wg_tensor_get(w, k * cols + a) * wg_tensor_get(w, k * cols + b)
                               : wg_tensor_get(w, a * cols + k) * wg_tensor_get(w, b * cols + k);
            worst = fmax(worst, fabs(dot - (a == b ? gain * gain : 0)));
        }
    return worst;
}

Test(initialisers, orthogonal_is_orthogonal_tall_wide_and_square) {
    wg_tensor *u = draw(RNN, "U=orthogonal(1.5)", "U", 3, 40);
    cr_assert_lt(skew(u, 1.5, false), 1e-12);
    cr_assert_lt(skew(u, 1.5, true), 1e-12);
    wg_tensor_free(u);
    u = draw(RNN, "W=orthogonal", "W", 7, 30);
    cr_assert_lt(skew(u, 1, true), 1e-12);
    wg_tensor_free(u);
    u = draw(RNN, "W=orthogonal", "W", 30, 7);
    cr_assert_lt(skew(u, 1, false), 1e-12);
    wg_tensor_free(u);
}

Test(initialisers, orthogonal_is_haar_distributed) {
    double trace = 0, square = 0, corner = 0;
    int n = 2000;
    for (int i = 0; i < n; i++) {
        wg_error error = {0};
        wg_tensor *u = draw_with(RNN, NULL, "U", 1, 3, (uint64_t)i, 0, &error);
        double t = wg_tensor_get(u, 0) + wg_tensor_get(u, 4) + wg_tensor_get(u, 8);
        trace += t / n;
        square += t * t / n;
        corner += wg_tensor_get(u, 0) / n;
        wg_tensor_free(u);
    }
    /* of O(n), E tr = 0 and E tr^2 = 1; a QR without the signs has a negative trace */
    cr_assert_lt(fabs(trace), 0.1);
    cr_assert_float_eq(square, 1, 0.15);
    cr_assert_lt(fabs(corner), 0.06);
}

Test(initialisers, spectral_has_its_radius) {
    wg_tensor *u = draw(RNN, "U=spectral(0.9, 0.3)", "U", 1, 30);
    /* the growth of |U^k v| over many steps */
    double v[30], w[30], logs = 0;
    int zeros = 0;
    for (int i = 0; i < 30; i++)
        v[i] = 1 + i % 7;
    for (int k = 0; k < 4000; k++) {
        double norm = 0;
        for (int i = 0; i < 30; i++) {
            w[i] = 0;
            for (int j = 0; j < 30; j++)
                w[i] += wg_tensor_get(u, i * 30 + j) * v[j];
            norm += w[i] * w[i];
        }
        norm = sqrt(norm);
        logs += k >= 1000 ? log(norm) / 3000 : 0;
        for (int i = 0; i < 30; i++)
            v[i] = w[i] / norm;
    }
    for (int i = 0; i < 900; i++)
        zeros += wg_tensor_get(u, i) == 0;
    cr_assert_float_eq(exp(logs), 0.9, 0.005);
    cr_assert(zeros > 550 && zeros < 710);
    wg_tensor_free(u);
}

static bool same(const wg_tensor *a, const wg_tensor *b, double sign) {
    for (int64_t i = 0; i < wg_tensor_shape(a)->count; i++)
        if (wg_tensor_get(a, i) != sign * wg_tensor_get(b, i))
            return false;
    return true;
}

Test(initialisers, values_follow_seed_layer_and_name) {
    wg_error error = {0};
    const char *moved = "cell t\nstate h\nu = V @ x\nh' = tanh(b + U @ h + W @ x) + u\n";
    wg_tensor *first = draw(RNN, NULL, "W", 5, 6), *again = draw(moved, NULL, "W", 5, 6);
    wg_tensor *other = draw_with(RNN, NULL, "W", 5, 6, 8, 0, &error),
              *above = draw_with(RNN, NULL, "W", 5, 6, 7, 1, &error);
    cr_assert(same(first, again, 1));
    cr_assert(!same(first, other, 1));
    cr_assert(!same(first, above, 1));
    wg_tensor_free(first);
    wg_tensor_free(again);
    wg_tensor_free(other);
    wg_tensor_free(above);
}

Test(initialisers, a_negative_is_the_others_values) {
    const char *text = LSTM "init b_f = chrono(50)\ninit b_i = -b_f\ninit b_g = -b_i\n";
    wg_tensor *f = draw(text, NULL, "b_f", 3, 20), *i = draw(text, NULL, "b_i", 3, 20),
              *g = draw(text, NULL, "b_g", 3, 20);
    cr_assert(same(i, f, -1));
    cr_assert(same(g, f, 1));
    cr_assert_lt(wg_tensor_get(i, 0), 0);
    wg_tensor_free(f);
    wg_tensor_free(i);
    wg_tensor_free(g);
}

Test(initialisers, pytorchs_two_biases_are_added) {
    wg_tensor *b = draw(RNN, "pytorch", "b", 3, 10000);
    cr_assert_float_eq(measure(b).deviation, 0.01 * sqrt(2.0 / 3), 0.0003);
    cr_assert_gt(measure(b).high, 0.015);
    wg_tensor_free(b);
    b = draw("cell gru\nstate h\nn = tanh(W_n @ x + b_n + h*(U_n @ h + c_n))\nh' = n\n", "pytorch",
             "b_n", 3, 10000);
    cr_assert_float_eq(measure(b).deviation, 0.01 / sqrt(3), 0.0003);
    wg_tensor_free(b);
}

Test(initialisers, keras_draws_the_gates_as_one) {
    const char *const names[] = {"U_i", "U_f", "U_g", "U_o"};
    int n = 12;
    double gram[12][12] = {{0}};
    for (int g = 0; g < 4; g++) {
        wg_tensor *u = draw(LSTM, "keras", names[g], 5, n);
        for (int a = 0; a < n; a++)
            for (int b = 0; b < n; b++)
                for (int k = 0; k < n; k++)
                    gram[a][b] += wg_tensor_get(u, k * n + a) * wg_tensor_get(u, k * n + b);
        cr_assert_gt(skew(u, 1, true), 0.1); /* not orthogonal alone */
        wg_tensor_free(u);
    }
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++)
            cr_assert_float_eq(gram[a][b], a == b, 1e-12);
    wg_tensor *w = draw(LSTM, "keras", "W_i", 200, 100);
    cr_assert_lt(measure(w).high, sqrt(6.0 / 600));
    cr_assert_gt(measure(w).high, 0.98 * sqrt(6.0 / 600));
    wg_tensor_free(w);
    gives(LSTM, "keras", "b_f ones; b_i zeros");
    gives(LSTM, "flax", "b_f zeros; U_i orthogonal; W_i flax");
}

Test(initialisers, any_allocation_may_fail) {
    const char *text = LSTM "init b_f = chrono(50)\n";
    const char *const lines[] = {"pytorch", "U_i=orthogonal"};
    wg_error first = {0};
    for (long k = 1;; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        wg_lang *lang = wg__lang_parse(memory, "t", text, strlen(text), NULL, &first);
        wg_tensor *u = wg_tensor_new(memory, WG_F32, 2, (int64_t[]){9, 9});
        wg_error error = {0};
        f.calls = 0;
        f.fail = k;
        wg_inits *inits = wg__inits_new(memory, lang, 2, lines, &error);
        wg_status status = inits ? wg__inits_draw(inits, 1, 4, 9, 1, 0, u, &error) : error.status;
        bool failed = failing_failed(&f);
        cr_assert_eq(status, failed ? WG_MEMORY : WG_OK, "%s", error.text);
        wg__inits_free(inits);
        wg_tensor_free(u);
        wg__lang_free(lang);
        cr_assert_eq(f.live, 0);
        f.fail = 0;
        wg_memory_free(memory);
        if (!failed)
            break;
    }
}

/* A line from outside, with more and more blanks before its =, so that every block of the arena ends at every place. */
Test(initialisers, a_line_of_any_length_survives_any_allocation_that_fails) {
    enum { BLANKS = 2200 };
    char line[BLANKS + 40];
    const char *const lines[] = {line};
    for (int blanks = 0; blanks < BLANKS; blanks += 16) {
        sprintf(line, "U*%*s=orthogonal(1.5)", blanks, "");
        bool failed = true;
        for (long k = 1; failed; k++) {
            failing f;
            wg_memory *memory = failing_memory(&f, 0);
            wg_error error = {0};
            wg_lang *lang = wg__lang_parse(NULL, "t", RNN, strlen(RNN), NULL, &error);
            f.fail = k;
            wg_inits *inits = wg__inits_new(memory, lang, 1, lines, &error);
            failed = failing_failed(&f);
            cr_assert_eq(inits == NULL, failed, "%d blanks, allocation %ld: %s", blanks, k, error.text);
            cr_assert_eq(error.status, failed ? WG_MEMORY : WG_OK, "%d blanks, allocation %ld: %s", blanks, k, error.text);
            char shown[40];
            cr_assert(failed || strcmp(wg__inits_text(inits, 1, shown, sizeof shown), "orthogonal(1.5)") == 0);
            wg__inits_free(inits);
            wg__lang_free(lang);
            cr_assert_eq(f.live, 0);
            f.fail = 0;
            wg_memory_free(memory);
        }
    }
}

Test(initialisers, matrices_that_lapack_cannot_count_are_refused_before_work) {
    wg_status status = WG_OK;
    const wg_init_kind kinds[] = {WG_INIT_orthogonal, WG_INIT_spectral};
    for (int i = 0; i < 2; i++) {
        wg_drawing drawing = {.kind = kinds[i], .rank = 2, .rows = (int64_t)1 << 26, .columns = (int64_t)1 << 26, .n = 2,
                              .arg = {1, 0.5}, .parts = 1}; /* no room for its values */
        const char *why = wg__draw(&drawing, &status);
        cr_assert(why && strstr(why, "this matrix is too large"), "%s", why);
        cr_assert_eq(status, WG_OK);
    }
}

Test(initialisers, a_spectral_radius_needs_memory_and_a_density) {
    double value[9] = {0};
    wg_drawing drawing = {.kind = WG_INIT_spectral, .rank = 2, .rows = 3, .columns = 3, .n = 2, .arg = {0.9, 1}, .value = value};
    wg_status status = WG_OK;
    failing f;
    drawing.memory = failing_memory(&f, 1);
    cr_assert_null(wg__draw(&drawing, &status));
    cr_assert_eq(status, WG_MEMORY);
    drawing.kind = WG_INIT_orthogonal;
    drawing.parts = 1;
    status = WG_OK;
    f.calls = 0;
    cr_assert_null(wg__draw(&drawing, &status));
    cr_assert_eq(status, WG_MEMORY);
    cr_assert_eq(f.live, 0);
    f.fail = 0;
    wg_memory_free(drawing.memory);
    drawing.memory = NULL;
    drawing.kind = WG_INIT_spectral;
    for (int i = 0; i < 3; i++) {
        drawing.arg[1] = (const double[]){0, 1.5, NAN}[i];
        const char *why = wg__draw(&drawing, &status);
        cr_assert(why && strstr(why, "a density lies above 0"), "%s", why);
    }
}

Test(initialisers, a_tensor_to_draw_into_must_fit) {
    const char *text = "cell t\nsize N = hidden/2\nstate h[N]\nh' = tanh(W @ x + h)\n";
    const int64_t dim[2] = {4, 3};
    cell c = make(text, 0, NULL);
    wg_tensor *fits = wg_tensor_new(NULL, WG_F32, 2, dim), *flat = wg_tensor_new(NULL, WG_F32, 1, dim),
              *whole = wg_tensor_new(NULL, WG_I32, 2, dim);
    wg_error error = {0};
    cr_assert_eq(wg__inits_draw(c.inits, 0, 3, 8, 1, 0, fits, &error), WG_OK, "%s", error.text);
    cr_assert_neq(wg_tensor_get(fits, 0), 0);
    uint64_t version = wg_tensor_version(fits);
    cr_assert_eq(wg__inits_draw(c.inits, 0, 3, 7, 1, 0, fits, &error), WG_RANGE);
    cr_assert(strstr(error.text, "'W' has length hidden/2, which is not a whole number"), "%s", error.text);
    for (int i = 0; i < 2; i++) {
        error = (wg_error){0};
        cr_assert_eq(wg__inits_draw(c.inits, 0, 3, 8, 1, 0, i ? whole : flat, &error), WG_SHAPE);
        cr_assert(strstr(error.text, "'W' cannot be drawn into a tensor of another shape or type"), "%s", error.text);
    }
    cr_assert_eq(wg_tensor_version(fits), version);
    wg_tensor_free(fits);
    wg_tensor_free(flat);
    wg_tensor_free(whole);
    drop(&c);
}
