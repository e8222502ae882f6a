/* unrolled.c: records a cell over some steps, and its gradient. */
#include "unrolled.h"

#include <stdlib.h>
#include <string.h>

static int add_drawn(const common *c, wg_params *arrays, const char *name, wg_dtype dtype, int rank,
                     const int64_t *dim, wg_random *random) {
    wg_tensor *tensor = wg_tensor_new(c->memory, dtype, rank, dim);
    if (!tensor)
        return fail(c, "no memory for %s", name);
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, wg_random_normal(random));
    wg_status status = wg_params_add(arrays, name, tensor);
    wg_tensor_free(tensor);
    return status == WG_OK ? 0 : fail(c, "%s: %s", name, wg_status_sentence(status));
}

/* Inputs are (T,B,n), states (B,n). */
static int add_arrays(const common *c, const wg_cell *cell, const unrolled_sizes *s, uint64_t seed,
                      wg_params *arrays) {
    wg_random random = {.seed = seed, .stream = UINT32_MAX};
    int inputs = wg_cell_inputs(cell), status = 0;
    for (int i = 0; i < inputs + wg_cell_states(cell) && status == 0; i++) {
        const char *name = i < inputs ? wg_cell_input(cell, i) : wg_cell_state(cell, i - inputs);
        wg_shape shape;
        wg_error error = {0};
        if (wg_cell_shape(cell, name, s->input, s->hidden, &shape, &error) != WG_OK)
            return fail_error(c, &error);
        const int64_t dim[3] = {s->steps, s->batch, shape.dim[0]};
        status = add_drawn(c, arrays, name, s->dtype, i < inputs ? 3 : 2,
                           i < inputs ? dim : dim + 1, &random);
    }
    return status;
}

static int add_params(const common *c, const wg_cell *cell, const unrolled_sizes *s, uint64_t seed,
                      wg_params *arrays) {
    wg_error error = {0};
    const wg_draw draw = {.seed = seed, .check = true};
    wg_params *drawn = wg_cell_draw(c->memory, cell, s->dtype, s->input, s->hidden, &draw, &error);
    wg_status status = drawn ? WG_OK : error.status;
    for (int i = 0; drawn && i < wg_params_count(drawn) && status == WG_OK; i++)
        status = wg_params_add(arrays, wg_params_name(drawn, i), wg_params_tensor(drawn, i));
    wg_params_free(drawn);
    if (status != WG_OK)
        wg_error_set(&error, status, "%s", wg_status_sentence(status));
    return status == WG_OK ? 0 : fail_error(c, &error);
}

static int record(const common *c, const wg_cell *cell, const unrolled_sizes *s, unrolled *u) {
    int n = wg_params_count(u->arrays), states = wg_cell_states(cell);
    wg_named *given = allocate((size_t)n, sizeof *given);
    wg_var *leaf = allocate((size_t)n, sizeof *leaf),
           *one = allocate((size_t)states + 1, sizeof *one);
    for (int i = 0; i < n; i++)
        given[i] = (wg_named){wg_params_name(u->arrays, i),
                              leaf[i] = wg_leaf(u->tape, wg_params_tensor(u->arrays, i))};
    u->unroll = wg_unroll_new(u->tape, cell, s->input, s->hidden, n, given, NULL);
    u->output = allocate((size_t)(1 + states + n), sizeof *u->output);
    for (int i = 0; u->unroll && i <= states; i++) {
        u->output[u->outputs++] = i ? wg_unroll_final(u->unroll, wg_cell_state(cell, i - 1))
                                    : wg_unroll_output(u->unroll);
        one[i] = wg_c(1);
    }
    if (u->unroll && s->gradient) {
        wg_vjp(u->outputs, u->output, one, n, leaf, u->output + u->outputs);
        u->outputs += n;
    }
    free(given);
    free(leaf);
    free(one);
    return wg_tape_status(u->tape) == WG_OK ? 0 : fail(c, "%s", wg_tape_message(u->tape));
}

wg_params *unrolled_arrays(const common *c, const wg_cell *cell, const unrolled_sizes *sizes,
                           uint64_t seed) {
    wg_params *arrays = wg_params_new(c->memory);
    int status = arrays ? add_arrays(c, cell, sizes, seed, arrays) : fail_memory(c);
    if (status == 0)
        status = add_params(c, cell, sizes, seed, arrays);
    if (status == 0)
        return arrays;
    wg_params_free(arrays);
    return NULL;
}

int unrolled_make(const common *c, const wg_cell *cell, const unrolled_sizes *sizes, uint64_t seed,
                  unrolled *u) {
    *u = (unrolled){.arrays = unrolled_arrays(c, cell, sizes, seed)};
    if (!u->arrays)
        return 1;
    u->tape = wg_tape_new(c->memory);
    return u->tape ? record(c, cell, sizes, u) : fail_memory(c);
}

void unrolled_free(unrolled *u) {
    wg_unroll_free(u->unroll);
    wg_tape_free(u->tape);
    wg_params_free(u->arrays);
    free(u->output);
    *u = (unrolled){0};
}
