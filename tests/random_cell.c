/* random_cell.c: the generator of random cells: first their text, then what is recorded of it. */
#include "random_cell.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "make.h"

/* ---- the text ---- */

enum { VALUES = 40, PARAMS = 60, LENGTH = 40 };

typedef enum role { INPUT, STATE, NEXT, LINE } role;

typedef struct value {
    char name[16], length[LENGTH]; /* a formula; two lengths are one if their texts are */
    role role;
    bool used;
} value;

typedef struct param {
    char name[12], rows[LENGTH], columns[LENGTH];
} param;

typedef struct writer {
    wg_random random;
    value value[VALUES];
    int values;
    param param[PARAMS];
    int params;
    char *at;    /* where the equations go on */
    size_t left;
    bool kinks;
    int smooth; /* 0: functions with kinks too */
} writer;

static int below(writer *w, int n) { return (int)wg_random_below(&w->random, (uint64_t)n); }
static bool chance(writer *w, double p) { return wg_random_uniform(&w->random) < p; }

static void put(writer *w, const char *format, ...) WG_PRINTF(2, 3);
static void put(writer *w, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(w->at, w->left, format, arguments);
    va_end(arguments);
    n = n < (int)w->left ? n : (int)w->left - 1;
    w->at += n;
    w->left -= (size_t)n;
}

static void add_value(writer *w, role is, const char *name, const char *length) {
    value *v = &w->value[w->values++];
    *v = (value){.role = is};
    snprintf(v->name, sizeof v->name, "%s", name);
    snprintf(v->length, sizeof v->length, "%s", length);
}

/* A value of a length (NULL: any), rather one not used yet; NULL if there is none. */
static value *pick(writer *w, const char *length) {
    value *found = NULL;
    int n = 0;
    for (int k = 0; k < w->values; k++) {
        value *v = &w->value[k];
        bool fits = length ? strcmp(v->length, length) == 0 : strcmp(v->length, "1") != 0;
        int weight = fits ? v->used ? 1 : 3 : 0;
        n += weight;
        if (weight && below(w, n) < weight)
            found = v;
    }
    if (found)
        found->used = true;
    return found;
}

/* A parameter's name: (rows) or (rows, columns); one there is already, now and then. */
static const char *parameter(writer *w, const char *rows, const char *columns) {
    for (int k = 0; k < w->params; k++)
        if (strcmp(w->param[k].rows, rows) == 0 && strcmp(w->param[k].columns, columns) == 0 && (chance(w, 0.1) || w->params == PARAMS))
            return w->param[k].name;
    param *p = &w->param[w->params < PARAMS ? w->params++ : PARAMS - 1];
    snprintf(p->name, sizeof p->name, "%c%d", *columns ? 'W' : 'b', (int)(p - w->param));
    snprintf(p->rows, sizeof p->rows, "%s", rows);
    snprintf(p->columns, sizeof p->columns, "%s", columns);
    return p->name;
}

static void expression(writer *w, const char *length, int depth);

/* W @ v, of an input, a state, or what is made of them. */
static void product(writer *w, const char *length, int depth) {
    value *v = pick(w, NULL);
    for (int k = 0; k < 4 && v->role == LINE; k++)
        v = pick(w, NULL);
    char of[LENGTH];
    memcpy(of, v->length, sizeof of);
    if (depth > 0 && chance(w, 0.3)) {
        put(w, "%s @ (%s*", parameter(w, length, of), v->name);
        expression(w, of, depth - 1);
        put(w, ")");
    } else {
        put(w, "%s @ %s", parameter(w, length, of), v->name);
    }
}

static const char *activation(writer *w) {
    static const char *const smooth[] = {"sigmoid", "sigmoid", "sigmoid", "tanh", "tanh", "tanh", "softsign", "sin", "gelu", "silu", "softplus"};
    static const char *const kinked[] = {"relu", "relu", "hard_sigmoid", "hard_tanh", "abs", "selu"};
    if (!w->smooth && chance(w, 0.4)) {
        w->kinks = true;
        return kinked[below(w, WG_LEN(kinked))];
    }
    return smooth[below(w, WG_LEN(smooth))];
}

/* sigmoid(W @ x + U @ h + p*c + b) */
static void gate(writer *w, const char *length, int depth) {
    put(w, "%s(", activation(w));
    product(w, length, depth);
    for (int k = below(w, 3); k > 0; k--) {
        put(w, " + ");
        product(w, length, depth - 1);
    }
    value *peep = chance(w, 0.2) ? pick(w, length) : NULL;
    if (peep)
        put(w, " + %s*%s", parameter(w, length, ""), peep->name);
    if (chance(w, 0.6))
        put(w, " + %s", parameter(w, length, ""));
    put(w, ")");
}

static void factor(writer *w, const char *length, int depth) {
    put(w, "(");
    expression(w, length, depth);
    put(w, ")");
}

/* A number, or a value of length 1. */
static void scalar(writer *w) {
    value *v = pick(w, NULL), *one = chance(w, 0.3) ? pick(w, "1") : NULL;
    if (one)
        put(w, "%s", one->name);
    else if (chance(w, 0.3))
        put(w, "%s", parameter(w, "1", ""));
    else if (chance(w, 0.4))
        put(w, "%s(%s)", chance(w, 0.5) ? "mean" : "0.2*sum", v->name);
    else if (chance(w, 0.5))
        put(w, "0.1*dot(%s, %s)", v->name, pick(w, v->length)->name);
    else
        put(w, "%.2f", 0.25 + wg_random_uniform(&w->random));
}

static void row_function(writer *w, const char *length, int depth) {
    static const char *const functions[] = {"layer_norm", "softmax", "rms_norm", "log_softmax", "cumsum"};
    if (strcmp(length, "1") == 0) {
        factor(w, length, depth);
        return;
    }
    bool scaled = chance(w, 0.5);
    if (scaled)
        put(w, "%s*", parameter(w, length, ""));
    put(w, "%s(", functions[below(w, chance(w, 0.7) ? 2 : WG_LEN(functions))]);
    expression(w, length, depth);
    put(w, ")");
    if (scaled)
        put(w, " + %s", parameter(w, length, ""));
}

static void combination(writer *w, const char *length, int depth) {
    switch (below(w, w->smooth ? 5 : 7)) {
    case 0: factor(w, length, depth), put(w, "*"), factor(w, length, depth); break;
    case 1: factor(w, length, depth), put(w, " + "), factor(w, length, depth - 1); break;
    case 2: factor(w, length, depth), put(w, " - "), factor(w, length, depth - 1); break;
    case 3: factor(w, length, depth), put(w, "/(2 + sigmoid"), factor(w, length, depth), put(w, ")"); break;
    case 4: scalar(w), put(w, "*"), factor(w, length, depth); break;
    case 5:
        w->kinks = true;
        put(w, chance(w, 0.5) ? "max(" : "min("), expression(w, length, depth), put(w, ", "), expression(w, length, depth), put(w, ")");
        break;
    default:
        w->kinks = true;
        put(w, "where(less("), expression(w, length, depth), put(w, ", 0.1), "), expression(w, length, depth), put(w, ", ");
        expression(w, length, depth), put(w, ")");
    }
}

static void expression(writer *w, const char *length, int depth) {
    if (depth <= 0 || chance(w, 0.25)) {
        value *v = chance(w, 0.7) ? pick(w, length) : NULL;
        if (v)
            put(w, "%s", v->name);
        else if (chance(w, 0.7))
            product(w, length, 0);
        else
            put(w, "%s", parameter(w, length, ""));
        return;
    }
    value *wide = strcmp(length, "hidden") == 0 && chance(w, 0.5) ? pick(w, "wide") : NULL;
    if (wide)
        put(w, "slice(%s, %d*hidden, hidden)", wide->name, below(w, 3));
    else if (strcmp(length, "wide") == 0 && chance(w, 0.4))
        put(w, "concat("), expression(w, "hidden", depth - 1), put(w, ", "), expression(w, "hidden", depth - 1), put(w, ", "),
            expression(w, "hidden", depth - 1), put(w, ")");
    else if (chance(w, 0.35))
        gate(w, length, depth - 1);
    else if (chance(w, 0.15))
        row_function(w, length, depth - 1);
    else if (chance(w, 0.06))
        put(w, "dropout("), expression(w, length, depth - 1), put(w, ", 0.3)");
    else if (chance(w, 0.3))
        put(w, "%s(", chance(w, 0.05) ? "stop_gradient" : activation(w)), expression(w, length, depth - 1), put(w, ")");
    else
        combination(w, length, depth - 1);
}

/* Lines that define values. */
static void write_values(writer *w) {
    static const char *const lengths[] = {"hidden", "hidden", "hidden", "hidden", "hidden", "few", "few", "wide", "input", "1"};
    for (int n = 1 + below(w, 5), k = 0; k < n; k++) {
        char name[12];
        const char *length = lengths[below(w, WG_LEN(lengths))];
        snprintf(name, sizeof name, "v%d", k);
        put(w, "%s = ", name);
        if (strcmp(length, "1") == 0)
            scalar(w), put(w, " + mean(%s)", pick(w, NULL)->name);
        else if (chance(w, 0.75))
            gate(w, length, 1);
        else
            expression(w, length, 2);
        put(w, "\n");
        add_value(w, LINE, name, length);
    }
}

static void write_next(writer *w, const value *s) {
    const char *length = s->length;
    put(w, "%s' = ", s->name);
    value *a = pick(w, length), *b = pick(w, length);
    switch (below(w, 10)) {
    case 0:
    case 1: /* if b is s, no derivative is zero for all that is summed up: rounding alone would be compared */
        put(w, "(1 - sigmoid(%s))*%s + 0.9*sigmoid(%s)*%s", a->name, b->name, a->name, s->name);
        break;
    case 2: put(w, "%s*tanh(%s)", a->name, b->name); break;
    case 3: put(w, "%s", a->name); break; /* of this step or, if a state, of the one before */
    case 4: put(w, "0.5*%s + ", s->name), gate(w, length, 1); break;
    case 5: put(w, "tanh("), expression(w, length, 3), put(w, ")"); break;
    case 6: row_function(w, length, 2); break;
    case 7: put(w, "dropout("), gate(w, length, 1), put(w, ", 0.4)"); break;
    default: gate(w, length, 1);
    }
}

/* How often a name stands in a text. */
static int occurrences(const char *text, const char *name) {
    size_t size = strlen(name);
    int n = 0;
    for (const char *at = text; (at = strstr(at, name)); at++)
        n += (at == text || !isalnum((unsigned char)at[-1])) && !isalnum((unsigned char)at[size]);
    return n;
}

/* What nothing in the lines reads is added to the last state's next value. */
static void use_the_rest(writer *w, const char *lines, const char *length) {
    for (int k = 0; k < w->values; k++) {
        value *v = &w->value[k];
        if ((v->role != INPUT && v->role != LINE) || occurrences(lines, v->name) > (v->role == LINE))
            continue;
        if (strcmp(v->length, length) == 0 || strcmp(v->length, "1") == 0)
            put(w, " + 0.3*%s", v->name);
        else
            put(w, " + %s @ %s", parameter(w, length, v->length), v->name);
    }
}

static void write_states(writer *w, char *declared, size_t size, int *states) {
    static const char *const lengths[] = {"hidden", "hidden", "hidden", "hidden", "few", "wide"};
    *states = 1 + below(w, 3);
    for (int k = 0; k < *states; k++) {
        char name[12];
        size_t at = strlen(declared);
        const char *length = k ? lengths[below(w, WG_LEN(lengths))] : "hidden";
        snprintf(name, sizeof name, "s%d", k);
        add_value(w, STATE, name, length);
        snprintf(declared + at, size - at, "state %s[%s]%s\n", name, length, chance(w, 0.2) ? " = 0.5" : "");
        if (chance(w, 0.25))
            snprintf(declared + at, size - at, "state %s[%s] = %s0\n", name, length, name);
    }
}

/* Whether a size is named anywhere. */
static bool needs(const writer *w, const char *declared, const char *lines, const char *size) {
    bool found = strstr(declared, size) || strstr(lines, size);
    for (int k = 0; k < w->params && !found; k++)
        found = strcmp(w->param[k].rows, size) == 0 || strcmp(w->param[k].columns, size) == 0;
    return found;
}

static void write_cell(writer *w, random_cell *made) {
    static const char *const few[] = {"4", "hidden + 1", "2*hidden", "input"};
    char declared[512] = "", lines[8192] = "";
    int states, first;
    bool two = chance(w, 0.3);
    w->at = lines, w->left = sizeof lines;
    w->smooth = !chance(w, 0.3);
    add_value(w, INPUT, "x", "input");
    if (two)
        add_value(w, INPUT, "u", "few");
    first = w->values;
    write_states(w, declared, sizeof declared, &states);
    write_values(w);
    for (int k = 0; k < states; k++) {
        char name[16];
        write_next(w, &w->value[first + k]);
        if (k == states - 1)
            use_the_rest(w, lines, w->value[first + k].length);
        put(w, "\n");
        snprintf(name, sizeof name, "s%d'", k);
        add_value(w, NEXT, name, w->value[first + k].length);
    }
    if (chance(w, 0.5)) {
        value *v = pick(w, NULL);
        while (v->role == INPUT)
            v = pick(w, NULL);
        put(w, "output %.*s\n", (int)strcspn(v->name, "'"), v->name);
    } else if (chance(w, 0.2)) {
        const char *a = pick(w, "hidden")->name, *b = pick(w, "hidden")->name;
        put(w, chance(w, 0.5) ? "y = concat(%s, %s)\noutput y\n" : "y = %s + %s\noutput y\n", a, b);
    }
    w->at = made->text, w->left = sizeof made->text;
    put(w, "cell random\n");
    if (two || needs(w, declared, lines, "few")) /* a size that nothing uses is a mistake */
        put(w, "size few = %s\n", few[below(w, two ? 3 : 4)]);
    if (needs(w, declared, lines, "wide"))
        put(w, "size wide = 3*hidden\n");
    put(w, "input x%s\n", two ? ", u[few]" : "");
    put(w, "%s", declared);
    for (int k = 0; k < w->params; k++)
        put(w, "param %s[%s%s%s]\n", w->param[k].name, w->param[k].rows, *w->param[k].columns ? ", " : "", w->param[k].columns);
    put(w, "%s", lines);
    made->kinks = w->kinks;
}

/* ---- what is recorded ---- */

typedef struct maker {
    writer w; /* its draws go on */
    wg_tape *tape;
    wg_dtype dtype;
    random_cell *made;
    wg_var var[RANDOM_CELL_LEAVES]; /* of the leaves that may be differentiated by */
    wg_tensor *of[RANDOM_CELL_LEAVES];
    int vars;
    int64_t steps, batch, input, hidden;
    wg_tensor *length;
    wg_var lengths;
} maker;

/* A leaf of numbers in [-scale, scale]. */
static wg_var leaf(maker *m, int rank, const int64_t *dim, double scale) {
    wg_tensor *tensor = wg_tensor_new(m->tape->memory, m->dtype, rank, dim);
    if (!tensor || m->made->leaves == RANDOM_CELL_LEAVES) {
        wg_tensor_free(tensor);
        return wg__fail(m->tape, WG_MEMORY, "random_cell", "no room for a leaf");
    }
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, (float)(scale * (2 * wg_random_uniform(&m->w.random) - 1)));
    m->made->leaf[m->made->leaves++] = tensor;
    return wg_leaf(m->tape, tensor);
}

/* The same, among what may be differentiated by. */
static wg_var variable(maker *m, int rank, const int64_t *dim, double scale) {
    wg_var x = leaf(m, rank, dim, scale);
    if (wg_valid(x)) {
        m->of[m->vars] = m->made->leaf[m->made->leaves - 1];
        m->var[m->vars++] = x;
    }
    return x;
}

static wg_var weighed(maker *m, wg_var x) {
    const wg_shape *s = wg_var_shape(x);
    if (!s)
        return x;
    return wg_sum_to(wg_mul(x, leaf(m, s->rank, s->dim, 1)), 0, NULL);
}

static void draw_lengths(maker *m) {
    m->length = wg_tensor_new(m->tape->memory, WG_I32, 1, &m->batch);
    for (int64_t i = 0; m->length && i < m->batch; i++)
        wg_tensor_set(m->length, i, (double)(chance(&m->w, 0.05) ? 0 : 1 + below(&m->w, (int)m->steps)));
    if (m->length)
        m->lengths = wg_leaf(m->tape, m->length);
}

/* What lies past a row's length is NaN. */
static void spoil_padding(maker *m, wg_tensor *x) {
    int64_t n = wg_tensor_shape(x)->dim[2];
    for (int64_t t = 0; t < m->steps; t++)
        for (int64_t row = 0; row < m->batch; row++)
            for (int64_t i = 0; i < n && t >= (int64_t)wg_tensor_get(m->length, row); i++)
                wg_tensor_set(x, (t * m->batch + row) * n + i, NAN);
}

static wg_unroll *unroll_layer(maker *m, const wg_cell *cell, int64_t input, wg_var from_below) {
    wg_named given[PARAMS + 8];
    int n = 0;
    wg_shape s;
    bool spoil = m->length && chance(&m->w, 0.5);
    for (int i = 0; i < wg_cell_inputs(cell); i++) {
        const char *name = wg_cell_input(cell, i);
        if (wg_cell_shape(cell, name, input, m->hidden, &s, NULL) != WG_OK)
            return NULL;
        bool below_it = i == 0 && wg_valid(from_below);
        wg_var x = below_it ? from_below : variable(m, 3, (const int64_t[]){m->steps, m->batch, s.dim[0]}, 1);
        if (spoil && !below_it && wg_valid(x))
            spoil_padding(m, m->of[m->vars - 1]);
        given[n++] = (wg_named){name, x};
    }
    for (int i = 0; i < wg_cell_params(cell); i++) {
        const char *name = wg_cell_param(cell, i);
        if (wg_cell_shape(cell, name, input, m->hidden, &s, NULL) != WG_OK)
            return NULL;
        given[n++] = (wg_named){name, variable(m, s.rank, s.dim, s.rank == 2 ? 1.5 / sqrt((double)s.dim[1]) : 1)};
    }
    for (int i = 0; i < wg_cell_states(cell); i++) {
        const char *name = wg_cell_state(cell, i);
        if (wg_cell_shape(cell, name, input, m->hidden, &s, NULL) == WG_OK && chance(&m->w, 0.4))
            given[n++] = (wg_named){name, variable(m, 2, (const int64_t[]){m->batch, s.dim[0]}, 1)};
    }
    wg_tensor *key = wg_key_new(m->tape->memory, (uint64_t)below(&m->w, 1000));
    wg_unroll_options options = {.lengths = m->lengths, .training = chance(&m->w, 0.7)};
    if (key && options.training)
        options.key = wg_leaf(m->tape, key);
    wg_tensor_free(key);
    return wg_unroll_new(m->tape, cell, input, m->hidden, n, given, &options);
}

static wg_var plus(wg_var a, wg_var b) { return wg_valid(a) ? wg_add(a, b) : b; }

/* A scalar that depends on the last layer, and in part on others. */
static wg_var loss_of(maker *m, const wg_cell *cell, wg_unroll *const *layer, int layers) {
    static const char *const words[] = {"all outputs", "the last output", "some steps", "cross-entropy"};
    writer *w = &m->w;
    wg_unroll *top = layer[layers - 1];
    wg_var loss = {0}, out = wg_unroll_output(top);
    int kind = below(w, 4);
    size_t at = strlen(m->made->how);
    snprintf(m->made->how + at, sizeof m->made->how - at, "; loss of %s", words[kind]);
    if (kind == 0) {
        loss = weighed(m, out);
    } else if (kind == 1) {
        loss = weighed(m, wg_slice(out, 0, m->steps - 1, 1));
    } else if (kind == 2) {
        for (int n = 1 + below(w, 3); n > 0; n--) {
            int k = below(w, wg_cell_states(cell) + 1);
            const char *name = k < wg_cell_states(cell) ? wg_cell_state(cell, k) : wg_cell_output(cell);
            wg_unroll *of = chance(w, 0.2) ? layer[0] : top;
            loss = plus(loss, weighed(m, wg_at(of, below(w, (int)m->steps), name)));
        }
    } else {
        int64_t classes = 2 + below(w, 9), n = wg_dim(out, 2), dim[2] = {m->steps, m->batch};
        wg_tensor *label = wg_tensor_new(m->tape->memory, WG_I32, 2, dim);
        for (int64_t i = 0; label && i < m->steps * m->batch; i++)
            wg_tensor_set(label, i, (double)below(w, (int)classes));
        wg_var V = variable(m, 2, (const int64_t[]){classes, n}, 1), z = wg_matmul(out, V, false, true);
        loss = wg_softmax_cross_entropy(wg_add(z, variable(m, 1, &classes, 1)), wg_leaf(m->tape, label), -1);
        wg_tensor_free(label);
    }
    for (int i = 0; i < wg_cell_states(cell) && (kind == 0 || chance(w, 0.3)); i++)
        if (chance(w, 0.5))
            loss = plus(loss, weighed(m, wg_unroll_final(layer[below(w, layers)], wg_cell_state(cell, i))));
    return loss;
}

static void output(maker *m, wg_var y) {
    if (m->made->n < RANDOM_CELL_OUTPUTS)
        m->made->y[m->made->n++] = y;
}

/* Some of the variables, by number. */
static int choose(maker *m, int most, int *chosen) {
    int n = 0;
    double p = chance(&m->w, 0.3) ? 1 : 0.1 + 0.8 * wg_random_uniform(&m->w.random);
    for (int k = 0; k < m->vars && n < most; k++)
        if (chance(&m->w, p))
            chosen[n++] = k;
    if (!n)
        chosen[n++] = below(&m->w, m->vars);
    return n;
}

/* w - r m', m' = 0.9 m + g: two stores a variable. */
static void update(maker *m, int n, const int *chosen, const wg_var *d) {
    for (int k = 0; k < n && m->made->n + 2 < RANDOM_CELL_OUTPUTS; k++) {
        const wg_shape *s = wg_var_shape(d[k]);
        if (!s)
            return;
        wg_var moment = wg_add(wg_mul(leaf(m, s->rank, s->dim, 1), wg_c(0.9)), d[k]);
        wg_tensor *held = m->made->leaf[m->made->leaves - 1];
        if (chance(&m->w, 0.5))
            output(m, wg_store(held, moment));
        output(m, wg_store(m->of[chosen[k]], wg_sub(m->var[chosen[k]], wg_mul(moment, wg_c(0.1)))));
    }
    m->made->stores = true;
}

static void differentiate(maker *m, wg_var loss) {
    int chosen[16], more[4], n = choose(m, 16, chosen);
    wg_var by[16], d[16], e[4];
    size_t at = strlen(m->made->how);
    for (int k = 0; k < n; k++)
        by[k] = m->var[chosen[k]];
    bool tangent = chance(&m->w, 0.08), second = chance(&m->w, 0.15), step = chance(&m->w, 0.15);
    snprintf(m->made->how + at, sizeof m->made->how - at, "; %d gradients%s%s%s", n, tangent ? ", a tangent" : "",
             second ? ", second derivatives" : "", step ? ", an update" : "");
    if (wg_grad(loss, n, by, d) != WG_OK)
        return;
    for (int k = 0; k < n; k++)
        output(m, d[k]);
    if (tangent) {
        const wg_shape *s = wg_var_shape(by[0]);
        wg_var v = leaf(m, s->rank, s->dim, 1), dy;
        if (wg_jvp(1, by, &v, 1, &loss, &dy) == WG_OK)
            output(m, dy);
    }
    if (second) {
        wg_var sum = {0};
        for (int k = 0; k < n && k < 3; k++)
            sum = plus(sum, weighed(m, d[k]));
        int many = choose(m, 4, more);
        for (int k = 0; k < many; k++)
            by[k] = m->var[more[k]];
        if (wg_grad(sum, many, by, e) == WG_OK)
            for (int k = 0; k < many; k++)
                output(m, e[k]);
    }
    if (step)
        update(m, n, chosen, d);
}

static void draw_sizes(maker *m) {
    writer *w = &m->w;
    m->steps = 1 + below(w, 9);
    m->batch = chance(w, 0.2) ? 1 : 1 + below(w, 40);
    m->input = chance(w, 0.1) ? 64 + below(w, 9) : 1 + below(w, 20);
    m->hidden = chance(w, 0.1) ? 64 + below(w, 9) : 1 + below(w, 20);
    if (m->hidden >= 64 && m->batch > 12)
        m->batch = chance(w, 0.3) ? m->batch : 12;
    if (chance(w, 0.05)) { /* one row, of so many steps that matrices are packed for it */
        m->batch = 1, m->steps = 24 + below(w, 8);
        m->hidden = chance(w, 0.05) ? 250 + below(w, 80) : m->hidden;
    }
}

static void record_layers(maker *m, const wg_cell *cell, int layers) {
    wg_unroll *layer[2] = {NULL, NULL};
    wg_var out = {0};
    int64_t input = m->input;
    for (int k = 0; k < layers && m->tape->status == WG_OK; k++) {
        layer[k] = unroll_layer(m, cell, input, out);
        if (!layer[k])
            break;
        out = wg_unroll_output(layer[k]);
        input = wg_dim(out, 2);
    }
    if (layer[layers - 1]) {
        wg_var loss = loss_of(m, cell, layer, layers);
        output(m, loss);
        if (chance(&m->w, 0.5))
            output(m, out);
        if (wg_valid(loss) && chance(&m->w, 0.9))
            differentiate(m, loss);
        if (m->made->stores && chance(&m->w, 0.5))
            output(m, wg_guard(loss));
    }
    wg_unroll_free(layer[0]);
    wg_unroll_free(layer[1]);
}

const char *random_cell_record(wg_tape *tape, uint64_t seed, wg_dtype dtype, random_cell *made) {
    static _Thread_local wg_error error;
    maker *m = calloc(1, sizeof *m);
    *made = (random_cell){0};
    if (!m)
        return "no memory";
    *m = (maker){.w.random.seed = seed, .tape = tape, .dtype = dtype, .made = made};
    error = (wg_error){0};
    write_cell(&m->w, made);
    wg_cell *cell = wg_cell_parse(NULL, "random.cell", made->text, strlen(made->text), 0, NULL, &error);
    if (cell) {
        int layers = chance(&m->w, 0.25) ? 2 : 1;
        draw_sizes(m);
        if (chance(&m->w, 0.2))
            draw_lengths(m);
        snprintf(made->how, sizeof made->how, "T%lld B%lld I%lld H%lld, %d layers%s", (long long)m->steps, (long long)m->batch,
                 (long long)m->input, (long long)m->hidden, layers, m->length ? ", lengths" : "");
        record_layers(m, cell, layers);
    }
    wg_cell_free(cell);
    wg_tensor_free(m->length);
    free(m);
    return error.text[0] ? error.text : tape->status != WG_OK ? wg_tape_message(tape) : made->n ? NULL : "nothing was recorded";
}

void random_cell_free(random_cell *made) {
    for (int k = 0; k < made->leaves; k++)
        wg_tensor_free(made->leaf[k]);
    *made = (random_cell){0};
}

/* ---- what was covered ---- */

static void cover_loop(random_cell_coverage *c, const wg_program *p, const wg_loop *loop, bool *several) {
    bool turned = false;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        const wg_value *v = &p->values[id];
        bool element = i->op == &wg__op_element;
        turned = turned || (element && ((const wg_element_attr *)i->attr)->step < 0);
        c->moving += element;
        c->carried += wg__is_carry(i);
        c->ending += i->op == &wg__op_ending;
        c->in_stack += v->space == WG_IN_STACK;
        c->twice += v->twice && v->space == WG_IN_TILE;
        c->regions += i->region && p->list[id - 1].region != i->region;
        c->local += v->local;
        for (uint32_t k = 0; k < i->n && i->region; k++)
            c->spread += wg__column_stride(p, wg__reads_const(i)[k]) == 0;
        c->packed += i->op == &wg__op_packed_product;
        c->paired += i->op == &wg__op_packed_product && i->n > 2;
        c->alone += i->op == &wg__op_packed_product && loop->rows == 1;
        const wg_instruction *from = i->n ? &p->list[wg__reads_const(i)[0]] : NULL;
        c->merged += i->op == &wg__op_slice && from->op->kind == WG_PRODUCT && from->loop;
        c->joined += i->op->kind == WG_PRODUCT && from->op == &wg__op_concat && from->loop;
        c->in_parts += i->op == &wg__op_concat && !v->task && v->base == id;
        c->copies += i->op == &wg__op_copy;
        c->bypassed += i->op == &wg__op_bypass;
    }
    *several = *several || loop->times > 1;
    c->rolled += loop->times > 1;
    c->backward += loop->times > 1 && turned;
    c->single += loop->times == 1;
    c->tiled += loop->rows > 0;
    c->whole += !loop->rows;
    c->ragged += loop->rows && loop->rows % loop->tile;
}

void random_cell_cover(random_cell_coverage *c, const wg_program *p) {
    bool several = false;
    c->bundled += p->bundle_count;
    for (int64_t k = 0; k < p->loop_count; k++)
        if (p->loops[k].to)
            cover_loop(c, p, &p->loops[k], &several);
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        c->drawn += i->op == &wg__op_draws;
        c->pieces += i->n > 1 && strcmp(i->op->name, "pack") == 0;
        c->stacked += i->op == &wg__op_stacked;
        c->over += i->op == &wg__op_stacked && p->values[id].over;
        c->over_parts += i->op == &wg__op_stacked && p->values[id].over && p->list[i->in[0]].op == &wg__op_concat;
        c->last += i->op == &wg__op_last;
        c->accumulated += !i->loop && (i->op->traits & WG_ADDS_TO_LAST);
        if (i->op->kind == WG_PRODUCT && !i->loop)
            for (uint32_t k = 0, made = wg__reads_const(i)[0]; k < 4 && made; k++) {
                if (p->list[made].op == &wg__op_stacked) {
                    c->before++;
                    break;
                }
                made = p->list[made].op->view ? p->list[made].in[0] : 0;
            }
    }
    c->straight += !several;
    c->cells++;
}

const char *random_cell_missing(const random_cell_coverage *c) {
#define COUNT(name, words)                                                                                                     \
    if (!c->name)                                                                                                              \
        return words;
    RANDOM_CELL_COUNTS(COUNT)
#undef COUNT
    return NULL;
}

void random_cell_print(const random_cell_coverage *c, FILE *file) {
    fprintf(file, "%lld cells:", (long long)c->cells);
#define COUNT(name, words) fprintf(file, " %lld %s;", (long long)c->name, words);
    RANDOM_CELL_COUNTS(COUNT)
#undef COUNT
    fprintf(file, "\n");
}
