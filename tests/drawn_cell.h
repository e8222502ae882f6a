/* drawn_cell.h: what tests of cells share: a cell unrolled on a tape of its own, everything it reads drawn from its name. */
#ifndef WG_DRAWN_CELL_H
#define WG_DRAWN_CELL_H

#include <string.h>

#include "cell.h"
#include "taped.h"

enum { UNROLLED_NAMES = 64 };

/* How to unroll. Zeroed fields: f64, no lengths, no key, every initial state given. */
typedef struct unrolled_sizes {
    int64_t steps, batch, input, hidden;
    const int32_t *lengths;       /* [batch] */
    const char *const (*alias)[2]; /* {name, the name it is drawn as}, ended by NULL */
    bool own_starts;              /* states are not given: the cell's own starts */
    bool training;
    uint64_t key; /* the seed, in training */
    bool single;  /* f32 */
    bool rounded; /* f64, of numbers that f32 holds: what `single` draws */
} unrolled_sizes;

typedef struct unrolled {
    unrolled_sizes of;
    wg_cell *cell;
    wg_tape *tape;
    wg_unroll *unroll;
    int n;
    wg_named given[UNROLLED_NAMES];
    wg_tensor *kept[UNROLLED_NAMES];
} unrolled;

/* Normal draws that follow from the name alone, for matrices and vectors divided by the root of their last size. */
static inline wg_tensor *unrolled_draw(const unrolled_sizes *of, const char *name, int rank, const int64_t *dim) {
    for (int i = 0; of->alias && of->alias[i][0]; i++)
        if (strcmp(of->alias[i][0], name) == 0) {
            name = of->alias[i][1];
            break;
        }
    uint64_t seed = 7;
    for (const char *c = name; *c; c++)
        seed = seed * 131 + (unsigned char)*c;
    wg_tensor *tensor = taped_random(NULL, of->single ? WG_F32 : WG_F64, rank, dim, seed);
    for (int64_t i = 0; of->rounded && i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, (double)(float)wg_tensor_get(tensor, i));
    return tensor;
}

static inline void unrolled_give(unrolled *u, const char *name, bool sequence, bool state) {
    wg_shape shape;
    wg_error error = {0};
    cr_assert_eq(wg_cell_shape(u->cell, name, u->of.input, u->of.hidden, &shape, &error), WG_OK, "%s", error.text);
    int64_t dim[3] = {u->of.steps, u->of.batch, shape.dim[0]};
    wg_tensor *tensor = sequence ? unrolled_draw(&u->of, name, 3, dim)
                        : state  ? unrolled_draw(&u->of, name, 2, dim + 1)
                                 : unrolled_draw(&u->of, name, shape.rank, shape.dim);
    u->kept[u->n] = tensor;
    u->given[u->n++] = (wg_named){name, wg_leaf(u->tape, tensor)};
}

static inline wg_unroll_options unrolled_options(const unrolled *u, wg_tape *tape) {
    wg_unroll_options options = {.training = u->of.training};
    if (u->of.training) {
        wg_tensor *key = wg_key_new(NULL, u->of.key);
        options.key = wg_leaf(tape, key);
        wg_tensor_free(key);
    }
    if (u->of.lengths) {
        wg_tensor *length = wg_tensor_new(NULL, WG_I32, 1, &u->of.batch);
        for (int64_t i = 0; i < u->of.batch; i++)
            wg_tensor_set(length, i, u->of.lengths[i]);
        options.lengths = wg_leaf(tape, length);
        wg_tensor_free(length);
    }
    return options;
}

/* text: a cell's text, or the name of one of the zoo. */
static inline unrolled unrolled_new(const char *text, const unrolled_sizes *of) {
    wg_error error = {0};
    unrolled u = {.of = *of, .tape = wg_tape_new(NULL)};
    u.cell = strchr(text, '\n') ? wg_cell_parse(NULL, "test.cell", text, strlen(text), 0, NULL, &error)
                                : wg_cell_load(NULL, text, 0, NULL, &error);
    cr_assert_not_null(u.cell, "%s", error.text);
    for (int i = 0; i < wg_cell_inputs(u.cell); i++)
        unrolled_give(&u, wg_cell_input(u.cell, i), true, false);
    for (int i = 0; i < wg_cell_params(u.cell); i++)
        unrolled_give(&u, wg_cell_param(u.cell, i), false, false);
    for (int i = 0; i < wg_cell_states(u.cell) && !of->own_starts; i++)
        unrolled_give(&u, wg_cell_state(u.cell, i), false, true);
    wg_unroll_options options = unrolled_options(&u, u.tape);
    u.unroll = wg_unroll_new(u.tape, u.cell, of->input, of->hidden, u.n, u.given, &options);
    cr_assert_not_null(u.unroll, "%s", wg_tape_message(u.tape));
    return u;
}

static inline void unrolled_free(unrolled *u) {
    for (int i = 0; i < u->n; i++)
        wg_tensor_free(u->kept[i]);
    wg_unroll_free(u->unroll);
    wg_tape_free(u->tape);
    wg_cell_free(u->cell);
}

/* What was drawn for a name. */
static inline const double *unrolled_drawn(const unrolled *u, const char *name) {
    for (int i = 0; i < u->n; i++)
        if (strcmp(u->given[i].name, name) == 0)
            return wg_tensor_data(u->kept[i]);
    cr_assert(false, "%s was not given", name);
    return NULL;
}

/* All steps of a name, (T,B,n). */
static inline wg_tensor *unrolled_all(const unrolled *u, const char *name) {
    wg_var all = wg_unroll_all(u->unroll, name);
    cr_assert(wg_valid(all), "%s", wg_tape_message(u->tape));
    return taped_value(all);
}

#endif
