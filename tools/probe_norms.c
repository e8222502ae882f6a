/* probe_norms.c: the norms of dL/ds_t for every state s and step t of a variant: one unroll, one wg_vjp with respect to all
 * its states, one plan, run for every seed. Rows of a batch do not touch each other, so the gradient of the sum of the
 * rows' losses holds, row by row, the gradient of each row's own. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One state of one layer. */
typedef struct watched {
    char *name;
    const wg_unroll *unroll;
    const char *state;
    int first; /* of its wg_var, one a step, among those differentiated by */
} watched;

typedef struct lab {
    const probe_arguments *a;
    const common *c;
    const variant *v;
    const wg_cell *cell;
    wg_dtype dtype;
    int64_t steps, batch, input, hidden;
    double deviation; /* of a normal drive */
    wg_params *arrays; /* of the drive's file; or NULL */
    wg_params *inputs; /* the leaves' tensors, rewritten for every seed */
    wg_params *params; /* of a cell: the same */
    wg_tensor *functional; /* (B,n), unit rows */
    wg_tape *tape;
    wg_unroll *unroll;  /* of a cell */
    wg_forward forward; /* of a model */
    wg_var output;      /* (T,B,n) */
    int states, n;
    watched *state;
    wg_plan *plan;
    double **norm; /* [n], each [seeds * B]: log10 */
} lab;

static bool reads_tokens(const lab *l) { return l->v->subject.model && wg_model_sizes(l->v->subject.model)->vocabulary > 0; }

static int no_memory(const lab *l) { return fail(l->c, "%s: %s", l->v->name, wg_status_sentence(WG_MEMORY)); }

static int tape_failed(const lab *l) { return fail(l->c, "%s: %s", l->v->name, wg_tape_message(l->tape)); }

/* ---- the drive ---- */

/* normal(DEVIATION), zero, or arrays in a file. */
static int read_drive(lab *l) {
    const char *text = l->a->drive;
    if (strcmp(text, "zero") == 0)
        return 0;
    if (strncmp(text, "normal(", 7) == 0) {
        char *end;
        l->deviation = strtod(text + 7, &end);
        bool good = end > text + 7 && strcmp(end, ")") == 0 && isfinite(l->deviation) && l->deviation >= 0;
        return good ? 0 : misuse(l->c, "--drive %s: this is not normal(DEVIATION)", text);
    }
    size_t size = strlen(text);
    bool bare = size > 4 && strcmp(text + size - 4, ".npy") == 0 && !strchr(text, '=');
    char *named = bare ? format_text("%s=%s", wg_cell_input(l->cell, 0), text) : copy_text(text);
    l->arrays = arrays_load(l->c, &(words){1, (const char *[]){named}});
    free(named);
    return l->arrays ? 0 : 1;
}

/* Steps and rows of what is in the file, unless the command line says otherwise, which must then agree. */
static int match_length(const lab *l, const char *name, int64_t found, const char *asked, int64_t *size, bool first) {
    if (found == *size)
        return 0;
    if (!first || option_given(l->c, asked))
        return fail(l->c, "%s: %s has %lld where --%s says %lld", l->a->drive, name, (long long)found, asked, (long long)*size);
    *size = found;
    return 0;
}

static int check_arrays(lab *l) {
    for (int i = 0; l->arrays && i < wg_cell_inputs(l->cell); i++) {
        const char *name = wg_cell_input(l->cell, i);
        const wg_tensor *x = wg_params_find(l->arrays, name);
        const wg_shape *shape = x ? wg_tensor_shape(x) : NULL;
        char text[128];
        if (!x)
            return fail(l->c, "%s has no array %s, which %s reads", l->a->drive, name, l->v->name);
        if ((wg_tensor_dtype(x) == WG_I32) != reads_tokens(l))
            return fail(l->c, "%s: %s has to hold %s", l->a->drive, name, reads_tokens(l) ? "whole numbers" : "floats");
        if (shape->rank != (reads_tokens(l) ? 2 : 3) || shape->count == 0)
            return fail(l->c, "%s: %s has shape %s, and needs %s", l->a->drive, name, wg_shape_text(shape, text, sizeof text),
                        reads_tokens(l) ? "(steps, batch)" : "(steps, batch, size)");
        if (match_length(l, name, shape->dim[0], "length", &l->steps, i == 0) ||
            match_length(l, name, shape->dim[1], "batch", &l->batch, i == 0))
            return 1;
        if (i == 0 && !l->v->subject.model && match_length(l, name, shape->dim[2], "input", &l->input, true))
            return 1;
    }
    return 0;
}

static wg_tensor *make_input(lab *l, const char *name) {
    wg_shape shape = {.rank = 1};
    wg_error error = {0};
    if (reads_tokens(l))
        return wg_tensor_new(l->c->memory, WG_I32, 2, (const int64_t[]){l->steps, l->batch});
    if (wg_cell_shape(l->cell, name, l->input, l->hidden, &shape, &error) != WG_OK) {
        fail_error(l->c, &error);
        return NULL;
    }
    return wg_tensor_new(l->c->memory, l->dtype, 3, (const int64_t[]){l->steps, l->batch, shape.dim[0]});
}

static int make_inputs(lab *l) {
    l->inputs = wg_params_new(l->c->memory);
    for (int i = 0; l->inputs && i < wg_cell_inputs(l->cell); i++) {
        wg_tensor *x = make_input(l, wg_cell_input(l->cell, i));
        wg_status status = x ? wg_params_add(l->inputs, wg_cell_input(l->cell, i), x) : WG_MEMORY;
        wg_tensor_free(x);
        if (status != WG_OK)
            return no_memory(l);
    }
    return l->inputs ? 0 : no_memory(l);
}

/* A seed's own input; what is in a file is the same for all. */
static int fill_input(lab *l, int i, uint64_t seed) {
    wg_tensor *x = wg_params_tensor(l->inputs, i);
    const wg_tensor *given = l->arrays ? wg_params_find(l->arrays, wg_params_name(l->inputs, i)) : NULL;
    char has[128], wants[128];
    if (given && memcmp(wg_tensor_shape(given)->dim, wg_tensor_shape(x)->dim,
                        sizeof(int64_t) * (size_t)wg_tensor_shape(x)->rank) != 0)
        return fail(l->c, "%s: %s has shape %s, and %s reads %s", l->a->drive, wg_params_name(l->inputs, i),
                    wg_shape_text(wg_tensor_shape(given), has, sizeof has), l->v->name,
                    wg_shape_text(wg_tensor_shape(x), wants, sizeof wants));
    wg_random random = {.seed = seed, .stream = 0x70726f6265 + (uint64_t)i};
    int64_t kinds = reads_tokens(l) ? wg_model_sizes(l->v->subject.model)->vocabulary : 0;
    for (int64_t k = 0; k < wg_tensor_shape(x)->count; k++) {
        double value = given                ? wg_tensor_get(given, k)
                       : l->deviation == 0  ? 0
                       : kinds              ? (double)wg_random_below(&random, (uint64_t)kinds)
                                            : l->deviation * wg_random_normal(&random);
        wg_tensor_set(x, k, value);
    }
    return 0;
}

/* The weights of the loss: for each row a direction drawn uniformly, times 2^power. */
static void fill_functional(lab *l, uint64_t seed, int power) {
    int64_t n = wg_tensor_shape(l->functional)->dim[1];
    wg_random random = {.seed = seed, .stream = 0x66756e6374};
    for (int64_t b = 0; b < l->batch; b++) {
        double *row = allocate((size_t)n, sizeof *row), sum = 0;
        for (int64_t k = 0; k < n; k++) {
            row[k] = wg_random_normal(&random);
            sum += row[k] * row[k];
        }
        for (int64_t k = 0; k < n; k++)
            wg_tensor_set(l->functional, b * n + k, ldexp(row[k] / sqrt(sum), power));
        free(row);
    }
}

/* ---- recording ---- */

static wg_params *draw_params(const lab *l, uint64_t seed) {
    wg_error error = {0};
    const wg_draw draw = {.seed = seed, .lines = l->a->init.line.count, .line = l->a->init.line.word};
    wg_params *params = wg_cell_draw(l->c->memory, l->cell, l->dtype, l->input, l->hidden, &draw, &error);
    if (!params)
        fail_error(l->c, &error);
    return params;
}

static void watch(lab *l, char *name, const wg_unroll *unroll, const char *state) {
    const wg_shape *shape = wg_var_shape(wg_at(unroll, 0, state));
    if (!shape || shape->rank != 2 || shape->dim[0] != l->batch) {
        note(l->c, "%s: state %s does not depend on the row, and has no gradient for each", l->v->name, name);
        free(name);
        return;
    }
    l->state = grow(l->state, (size_t)l->states + 1, sizeof *l->state);
    l->state[l->states++] = (watched){name, unroll, state, l->n};
    l->n += (int)l->steps;
}

static int record_cell(lab *l) {
    if (!(l->params = draw_params(l, (uint64_t)l->a->seed)))
        return 1;
    int inputs = wg_cell_inputs(l->cell), n = inputs + wg_params_count(l->params);
    wg_named *given = allocate((size_t)n, sizeof *given);
    for (int i = 0; i < n; i++) {
        const wg_params *from = i < inputs ? l->inputs : l->params;
        int k = i < inputs ? i : i - inputs;
        given[i] = (wg_named){wg_params_name(from, k), wg_leaf(l->tape, wg_params_tensor(from, k))};
    }
    l->unroll = wg_unroll_new(l->tape, l->cell, l->input, l->hidden, n, given, NULL);
    free(given);
    if (!l->unroll)
        return tape_failed(l);
    for (int i = 0; i < wg_cell_states(l->cell); i++)
        watch(l, copy_text(wg_cell_state(l->cell, i)), l->unroll, wg_cell_state(l->cell, i));
    l->output = wg_unroll_output(l->unroll);
    return 0;
}

static int record_model(lab *l) {
    wg_var x = wg_leaf(l->tape, wg_params_tensor(l->inputs, 0));
    if (wg_model_record(l->v->subject.model, l->tape, x, NULL, NULL, &l->forward) != WG_OK)
        return tape_failed(l);
    for (int k = 0; k < l->forward.layers; k++)
        for (int i = 0; i < wg_cell_states(l->cell); i++)
            watch(l, format_text("layer%d.%s", k, wg_cell_state(l->cell, i)), l->forward.layer[k], wg_cell_state(l->cell, i));
    l->output = l->forward.output;
    return 0;
}

/* L, row by row: <r, y_T>, or <r, y_1 + … + y_T>. What is differentiated, and by which cotangent. */
static wg_var loss_output(lab *l, wg_var *cotangent) {
    const wg_shape *all = wg_var_shape(l->output);
    *cotangent = wg_leaf(l->tape, l->functional);
    if (l->a->loss == LOSS_SUM) {
        *cotangent = wg_broadcast_to(*cotangent, 3, all->dim);
        return l->output;
    }
    wg_var last = l->unroll ? wg_at(l->unroll, l->steps - 1, wg_cell_output(l->cell)) : (wg_var){0};
    const wg_shape *shape = wg_valid(last) ? wg_var_shape(last) : NULL;
    if (shape && shape->rank == 2 && shape->dim[0] == l->batch)
        return last;
    return wg_reshape(wg_slice(l->output, 0, l->steps - 1, 1), 2, all->dim + 1);
}

static int differentiate(lab *l) {
    wg_error error = {0};
    l->functional = wg_tensor_new(l->c->memory, l->dtype, 2, wg_var_shape(l->output)->dim + 1);
    wg_var *state = allocate((size_t)l->n, sizeof *state), *gradient = allocate((size_t)l->n, sizeof *gradient);
    for (int i = 0; i < l->states; i++)
        for (int64_t t = 0; t < l->steps; t++)
            state[l->state[i].first + t] = wg_at(l->state[i].unroll, t, l->state[i].state);
    wg_var cotangent, y = {0};
    wg_status status = WG_MEMORY;
    if (l->functional) {
        y = loss_output(l, &cotangent);
        status = wg_vjp(1, &y, &cotangent, l->n, state, gradient);
    }
    if (status == WG_OK) {
        l->plan = wg_compile(l->n, gradient, &(wg_compile_options){.run = l->c->run}, &error);
        status = l->plan ? WG_OK : WG_ARGUMENT;
    }
    free(state);
    free(gradient);
    if (l->functional && !l->plan && wg_tape_status(l->tape) == WG_OK)
        return fail_error(l->c, &error);
    return status == WG_OK ? 0 : l->functional ? tape_failed(l) : no_memory(l);
}

static int prepare(lab *l) {
    const wg_model *model = l->v->subject.model;
    l->dtype = model ? wg_model_sizes(model)->dtype : l->a->type == 0 ? WG_F64 : WG_F32;
    l->input = model ? wg_model_sizes(model)->input : l->a->input;
    l->hidden = model ? wg_model_sizes(model)->hidden : l->a->hidden;
    int status = read_drive(l);
    status = status ? status : check_arrays(l);
    status = status ? status : make_inputs(l);
    if (status)
        return status;
    if ((double)l->steps * (double)(wg_cell_states(l->cell) * (model ? wg_model_sizes(model)->layers : 1)) > 1e8)
        return fail(l->c, "%s: %lld steps are more than can be watched", l->v->name, (long long)l->steps);
    if (!(l->tape = wg_tape_new(l->c->memory)))
        return no_memory(l);
    status = model ? record_model(l) : record_cell(l);
    if (status == 0 && l->n == 0)
        status = fail(l->c, "%s has no state to watch", l->v->name);
    return status ? status : differentiate(l);
}

/* ---- measuring ---- */

/* log10 of the 2-norm, of numbers whose squares may leave the range. */
static double log_norm(const wg_tensor *x, int64_t from, int64_t n) {
    double most = 0, sum = 0;
    for (int64_t k = 0; k < n; k++) {
        double value = fabs(wg_tensor_get(x, from + k));
        if (isnan(value))
            return NAN;
        most = fmax(most, value);
    }
    if (most == 0 || isinf(most))
        return log10(most);
    for (int64_t k = 0; k < n; k++) {
        double part = wg_tensor_get(x, from + k) / most;
        sum += part * part;
    }
    return log10(most) + 0.5 * log10(sum);
}

/* The least log10 that is trusted: below, elements of the gradient were flushed to zero. */
static double least_trusted(const lab *l) { return log10(l->dtype == WG_F32 ? 0x1p-126 : 0x1p-1022) + 6; }

/* One run with a loss of 2^power. Gradients are linear in it: what was too small in the run before is read from this one. */
static int run_scaled(lab *l, int64_t number, int power) {
    wg_error error = {0};
    fill_functional(l, (uint64_t)(l->a->seed + number), power);
    if (wg_run(l->plan, &error) != WG_OK)
        return fail_error(l->c, &error);
    for (int i = 0; i < l->n; i++) {
        const wg_tensor *gradient = wg_plan_output(l->plan, i);
        int64_t n = wg_tensor_shape(gradient)->dim[1];
        for (int64_t b = 0; b < l->batch; b++) {
            double *norm = &l->norm[i][number * l->batch + b];
            if (power != 0 && *norm >= least_trusted(l))
                continue;
            double now = log_norm(gradient, b * n, n);
            if (power == 0 || isfinite(now))
                *norm = now - power * log10(2);
        }
    }
    return 0;
}

/* By how many powers of two the loss may grow without overflow, if some norm was too small; else 0. */
static int needed_power(const lab *l, int64_t number) {
    double most = -INFINITY, least = INFINITY;
    for (int i = 0; i < l->n; i++)
        for (int64_t b = 0; b < l->batch; b++) {
            double norm = l->norm[i][number * l->batch + b];
            most = fmax(most, norm);
            least = fmin(least, norm);
        }
    int room = l->dtype == WG_F32 ? 116 : 1012;
    return isfinite(most) && least < least_trusted(l) ? room - (int)ceil(most / log10(2)) : 0;
}

static int run_seed(lab *l, int64_t number) {
    uint64_t seed = (uint64_t)(l->a->seed + number);
    int status = 0;
    wg_params *drawn = l->params ? draw_params(l, seed) : NULL;
    if (l->params && !drawn)
        return 1;
    for (int i = 0; drawn && i < wg_params_count(drawn); i++) {
        wg_tensor *tensor = wg_params_tensor(l->params, i);
        memcpy(wg_tensor_write(tensor), wg_tensor_data(wg_params_tensor(drawn, i)), wg_tensor_bytes(tensor));
    }
    wg_params_free(drawn);
    for (int i = 0; i < wg_params_count(l->inputs) && status == 0; i++)
        status = fill_input(l, i, seed);
    if (status)
        return status;
    status = run_scaled(l, number, 0);
    int power = status ? 0 : needed_power(l, number);
    return power > 0 ? run_scaled(l, number, power) : status;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

/* Of sorted values, with linear interpolation between neighbours. */
static double quantile(const double *sorted, int64_t n, double q) {
    double at = q * (double)(n - 1);
    int64_t k = (int64_t)at;
    double part = at - (double)k;
    if (part == 0 || k + 1 >= n || sorted[k] == sorted[k + 1])
        return sorted[k];
    return (1 - part) * sorted[k] + part * sorted[k + 1];
}

static void add_series(report *r, const lab *l, const watched *w) {
    int64_t n = l->a->seeds * l->batch;
    size_t steps = (size_t)l->steps;
    series s = {.of = l->v, .state = copy_text(w->name), .steps = l->steps, .median = allocate(steps, sizeof(double)),
                .low = allocate(steps, sizeof(double)), .high = allocate(steps, sizeof(double))};
    for (int64_t t = 0; t < l->steps; t++) {
        double *norm = l->norm[w->first + t];
        qsort(norm, (size_t)n, sizeof *norm, by_value);
        s.median[t] = quantile(norm, n, 0.5);
        s.low[t] = quantile(norm, n, 0.05);
        s.high[t] = quantile(norm, n, 0.95);
    }
    r->series = grow(r->series, (size_t)r->count + 1, sizeof *r->series);
    r->series[r->count++] = s;
}

static void free_lab(lab *l) {
    for (int i = 0; l->norm && i < l->n; i++)
        free(l->norm[i]);
    free(l->norm);
    for (int i = 0; i < l->states; i++)
        free(l->state[i].name);
    free(l->state);
    wg_plan_free(l->plan);
    wg_unroll_free(l->unroll);
    if (l->forward.layer)
        wg_forward_free(&l->forward);
    wg_tape_free(l->tape);
    wg_tensor_free(l->functional);
    wg_params_free(l->arrays);
    wg_params_free(l->inputs);
    wg_params_free(l->params);
}

int measure_norms(report *r, const variant *v, progress *p) {
    const probe_arguments *a = r->a;
    lab l = {.a = a, .c = &a->common, .v = v, .cell = subject_cell(&v->subject), .steps = a->length, .batch = a->batch};
    int status = prepare(&l);
    if (status == 0) {
        l.norm = allocate((size_t)l.n, sizeof *l.norm);
        for (int i = 0; i < l.n; i++)
            l.norm[i] = allocate((size_t)(a->seeds * l.batch), sizeof(double));
    }
    for (int64_t k = 0; k < a->seeds && status == 0; k++) {
        progress_show(p, k == 0, "%s %s: seed %lld of %lld", v->name, v->label, (long long)k + 1, (long long)a->seeds);
        status = run_seed(&l, k);
    }
    for (int i = 0; i < l.states && status == 0; i++)
        add_series(r, &l, &l.state[i]);
    free_lab(&l);
    return status;
}

double series_slope(const series *s) {
    double n = 0, mean_t = 0, mean_y = 0, up = 0, down = 0;
    for (int64_t t = 0; t < s->steps; t++)
        if (isfinite(s->median[t])) {
            n++;
            mean_t += ((double)t - mean_t) / n;
            mean_y += (s->median[t] - mean_y) / n;
        }
    for (int64_t t = 0; t < s->steps; t++)
        if (isfinite(s->median[t])) {
            up += ((double)t - mean_t) * (s->median[t] - mean_y);
            down += ((double)t - mean_t) * ((double)t - mean_t);
        }
    return n > 1 ? up / down : NAN;
}
