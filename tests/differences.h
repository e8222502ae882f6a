/* differences.h: tensors of random numbers, values of vars, and the examples of an op's record held against central
 * differences: first and second order, and forward against reverse mode. */
#ifndef WG_DIFFERENCES_H
#define WG_DIFFERENCES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tape.h"

static inline wg_tensor *drawn(wg_dtype dtype, int rank, const int64_t *dim, double low, double high, uint64_t seed) {
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, rank, dim);
    wg_random random = {.seed = seed};
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, dtype == WG_I32 ? (double)wg_random_below(&random, (uint64_t)high)
                                                 : low + (high - low) * wg_random_uniform(&random));
    return tensor;
}

/* A leaf of random numbers that the tape alone holds. */
static inline wg_var drawn_leaf(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim, double low, double high,
                                uint64_t seed) {
    wg_tensor *tensor = drawn(dtype, rank, dim, low, high, seed);
    wg_var leaf = wg_leaf(tape, tensor);
    wg_tensor_free(tensor);
    return leaf;
}

/* A leaf of the numbers given. */
static inline wg_var leaf_of(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim, const double *values) {
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, rank, dim);
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, values[i]);
    wg_var leaf = wg_leaf(tape, tensor);
    wg_tensor_free(tensor);
    return leaf;
}

/* y's value; the test fails if there is none. */
static inline wg_tensor *evaluated(wg_var y, int threads) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    wg_run_options options = {.threads = threads, .keep_subnormals = true};
    wg_status status = wg_eval_with(&options, 1, &y, &out, &error);
    cr_assert(status == WG_OK, "%s", error.text);
    return out;
}

static inline double first_value(wg_var y) {
    wg_tensor *out = evaluated(y, 1);
    double value = wg_tensor_get(out, 0);
    wg_tensor_free(out);
    return value;
}

/* The status and message of a run that fails. */
static inline wg_error run_error(wg_var y) {
    wg_error error = {0};
    wg_tensor *out = NULL;
    wg_eval(1, &y, &out, &error);
    wg_tensor_free(out);
    return error;
}

/* Whether y has the same bits for 1, 2, 3, 4 and 8 threads. */
static inline bool same_bits_for_any_threads(wg_var y) {
    wg_tensor *one = evaluated(y, 1);
    bool same = true;
    for (int threads = 2; threads <= 8; threads += threads < 4 ? 1 : 4) {
        wg_tensor *many = evaluated(y, threads);
        same = same && memcmp(wg_tensor_data(one), wg_tensor_data(many), wg_tensor_bytes(one)) == 0;
        wg_tensor_free(many);
    }
    wg_tensor_free(one);
    return same;
}

enum { MOST_INPUTS = 8 };

/* One example with its inputs drawn: the function of h along the direction. */
typedef struct example_case {
    wg_tape *tape;
    int n, floats;
    wg_tensor *input[MOST_INPUTS], *start[MOST_INPUTS], *way[MOST_INPUTS];
    wg_var in[MOST_INPUTS], x[MOST_INPUTS], v[MOST_INPUTS];
} example_case;

/* One word of wg_example.inputs. */
static inline void draw_input(example_case *c, const char *word, const wg_example *e) {
    int64_t dim[WG_MAX_RANK];
    int rank = 0;
    double high = e->high;
    wg_dtype dtype = word[0] == 'i' ? WG_I32 : WG_F64;
    if (dtype == WG_I32) {
        high = atof(word + 1);
        word = strchr(word, ':') + 1;
    }
    for (char *end; *word && *word != '('; word = *end ? end + 1 : end)
        dim[rank++] = strtol(word, &end, 10);
    wg_tensor *t = drawn(dtype, rank, dim, e->low, high, (uint64_t)c->n + 1);
    c->input[c->n] = t;
    c->in[c->n] = wg_leaf(c->tape, t);
    if (dtype == WG_F64) {
        c->start[c->floats] = wg_tensor_copy(NULL, t);
        c->way[c->floats] = drawn(dtype, rank, dim, -1, 1, (uint64_t)c->n + 100);
        c->v[c->floats] = wg_leaf(c->tape, c->way[c->floats]);
        c->x[c->floats++] = c->in[c->n];
    }
    c->n++;
}

static inline double value_at(example_case *c, wg_var s, double h) {
    for (int k = 0, f = 0; k < c->n; k++) {
        if (wg_tensor_dtype(c->input[k]) != WG_F64)
            continue;
        for (int64_t i = 0; i < wg_tensor_shape(c->input[k])->count; i++)
            wg_tensor_set(c->input[k], i, wg_tensor_get(c->start[f], i) + h * wg_tensor_get(c->way[f], i));
        f++;
    }
    return first_value(s);
}

static inline wg_var total(wg_var x) { return wg_sum_to(x, 0, NULL); }

/* The slope of s along the direction, in ops; and its check against differences. */
static inline wg_var slope_of(example_case *c, wg_var s, const char *name, int example, int order) {
    wg_var g[MOST_INPUTS], slope = wg_like(s, 0);
    wg_status status = wg_grad(s, c->floats, c->x, g);
    cr_assert(status == WG_OK, "%s", wg_tape_message(c->tape));
    for (int f = 0; f < c->floats; f++)
        slope = wg_add(slope, total(wg_mul(g[f], c->v[f])));
    double h = 1e-4, by_tape = value_at(c, slope, 0);
    double by_steps = (8 * (value_at(c, s, h) - value_at(c, s, -h)) - (value_at(c, s, 2 * h) - value_at(c, s, -2 * h))) /
                      (12 * h);
    value_at(c, s, 0);
    cr_expect(fabs(by_tape - by_steps) <= 1e-7 * (1 + fabs(by_steps)),
              "%s, example %d, order %d: %.12g, by differences %.12g", name, example, order, by_tape, by_steps);
    return slope;
}

static inline void check_example(const wg_op *op, int example) {
    const wg_example *e = &op->examples[example];
    example_case c = {.tape = wg_tape_new(NULL)};
    char words[128], *next = words;
    strcpy(words, e->inputs);
    for (char *word; (word = strsep(&next, " "));)
        draw_input(&c, word, e);
    wg_var y = e->call(c.in);
    cr_assert(wg_valid(y), "%s", wg_tape_message(c.tape));
    if (c.floats && wg_var_dtype(y) != WG_I32) {
        const wg_shape *shape = wg_var_shape(y);
        wg_var u = drawn_leaf(c.tape, WG_F64, shape->rank, shape->dim, -1, 1, 7), forward;
        wg_var s = total(wg_mul(u, y));
        wg_var slope = slope_of(&c, s, op->name, example, 1);
        wg_status status = wg_jvp(c.floats, c.x, c.v, 1, &s, &forward);
        cr_assert(status == WG_OK, "%s", wg_tape_message(c.tape));
        double a = first_value(slope), b = first_value(forward);
        cr_expect(fabs(a - b) <= 1e-10 * (1 + fabs(a)), "%s, example %d: reverse %.15g, forward %.15g", op->name, example,
                  a, b);
        slope_of(&c, slope, op->name, example, 2);
    }
    for (int k = 0; k < c.n; k++)
        wg_tensor_free(c.input[k]);
    for (int f = 0; f < c.floats; f++) {
        wg_tensor_free(c.start[f]);
        wg_tensor_free(c.way[f]);
    }
    wg_tape_free(c.tape);
}

/* All examples of a built-in op. */
static inline void check_examples(const char *name) {
    const wg_op_entry *entry = wg_op_find(name);
    cr_assert(entry && entry->op->examples && entry->op->examples[0].call, "%s has no examples", name);
    for (int k = 0; entry->op->examples[k].call; k++)
        check_example(entry->op, k);
}

#endif
