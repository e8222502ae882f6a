/* beside.h: gradients of unrolled cells, and plans beside evaluation. */
#ifndef WG_TESTS_BESIDE_H
#define WG_TESTS_BESIDE_H

#include <string.h>

#include "drawn_cell.h"
#include "plan.h"
#include "taped.h"

#include "wengert/notation.h"

enum { MOST = 40 };

static inline wg_tensor *leaf_of(wg_tape *tape, int rank, const int64_t *dim, uint64_t seed, wg_var *leaf) {
    wg_tensor *tensor = taped_random(NULL, WG_F64, rank, dim, seed);
    *leaf = wg_leaf(tape, tensor);
    wg_tensor_free(tensor);
    return tensor;
}

/* The sum of x times drawn numbers. */
static inline wg_var weighed(wg_var x, uint64_t seed) {
    wg_var c;
    const wg_shape *s = wg_var_shape(x);
    cr_assert(wg_valid(x));
    leaf_of(x.tape, s->rank, s->dim, seed, &c);
    return sum_to(mul(x, c), 0, NULL);
}

/* A cell whose step a C function records of x, h, W and U, unrolled. */
static inline unrolled unrolled_step(const unrolled_sizes *of, wg_status (*step)(wg_step *step, void *user), void *user) {
    static const char *const text = "cell own\ninput x\nstate h\nparam W[hidden, input]\nparam U[hidden, hidden]\n";
    wg_error error = {0};
    unrolled u = {.of = *of, .tape = wg_tape_new(NULL)};
    u.cell = wg_cell_new(NULL, text, step, user, &error);
    cr_assert_not_null(u.cell, "%s", error.text);
    unrolled_give(&u, "x", true, false);
    unrolled_give(&u, "W", false, false);
    unrolled_give(&u, "U", false, false);
    unrolled_give(&u, "h", false, true);
    u.unroll = wg_unroll_new(u.tape, u.cell, of->input, of->hidden, u.n, u.given, NULL);
    cr_assert_not_null(u.unroll, "%s", wg_tape_message(u.tape));
    return u;
}

/* tanh(W x + U h), less its mean over the batch: rows that depend on each other. */
static inline wg_status centred_step(wg_step *step, void *user) {
    (void)user;
    wg_var h = tanh(add(matmul(wg_step_get(step, "x"), wg_step_get(step, "W"), false, true),
                        matmul(wg_step_get(step, "h"), wg_step_get(step, "U"), false, true)));
    const wg_shape *s = wg_var_shape(h);
    wg_var mean = mul(sum_to(h, 2, ((const int64_t[]){1, s->dim[1]})), 1 / (double)s->dim[0]);
    return wg_step_set(step, "h", sub(h, broadcast_to(mean, 2, s->dim)));
}

/* A loss, and its gradient by everything given: y[0 .. 1 + n). */
static inline int with_gradients(unrolled *u, wg_var loss, wg_var *y) {
    wg_var by[UNROLLED_NAMES];
    for (int k = 0; k < u->n; k++)
        by[k] = u->given[k].var;
    y[0] = loss;
    cr_assert_eq(wg_grad(loss, u->n, by, y + 1), WG_OK, "%s", wg_tape_message(u->tape));
    return u->n + 1;
}

/* Of all outputs and final states. */
static inline int all_gradients(unrolled *u, wg_var *y) {
    wg_var loss = weighed(wg_unroll_output(u->unroll), 5);
    for (int k = 0; k < wg_cell_states(u->cell); k++)
        loss = add(loss, weighed(wg_unroll_final(u->unroll, wg_cell_state(u->cell, k)), 6 + (uint64_t)k));
    return with_gradients(u, loss, y);
}

/* A plan made for so many threads gives what evaluation gave; and the bits that are in `first`, or are kept there, on 1, 2, 3, 4 and 8
 * threads; one made for two, on any number up to there. */
static inline void plan_agrees(const char *what, int n, const wg_var *y, int made_for, wg_tensor *const *want, wg_tensor **first) {
    static const int threads[] = {1, 2, 3, 4, 8, 5, 6, 7};
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true, .run = {.threads = made_for}}, &error);
    cr_assert_not_null(plan, "%s: %s", what, error.text);
    for (int k = 0; k < (made_for == 2 ? 8 : 5); k++) {
        cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads[k]}, &error), WG_OK, "%s: %s", what, error.text);
        for (int i = 0; i < n; i++) {
            const wg_tensor *got = wg_plan_output(plan, i);
            if (!first[i]) { /* the others have its bits */
                first[i] = wg_tensor_copy(NULL, got);
                cr_expect(taped_close(want[i], got), "%s: output %d on %d threads", what, i, threads[k]);
            }
            cr_expect(memcmp(wg_tensor_data(first[i]), wg_tensor_data(got), wg_tensor_bytes(got)) == 0,
                      "%s: bits of output %d on %d threads, made for %d", what, i, threads[k], made_for);
        }
    }
    wg_plan_free(plan);
}

/* The plan gives what evaluation gives, and the same bits on any number of threads, whatever number it was made for. */
static inline void agrees(const char *what, int n, const wg_var *y) {
    wg_tensor *want[MOST], *first[MOST] = {0};
    wg_error error = {0};
    cr_assert_eq(wg_eval(n, y, want, &error), WG_OK, "%s: %s", what, error.text);
    for (int made_for = 1; made_for <= 8; made_for *= 2)
        plan_agrees(what, n, y, made_for, want, first);
    for (int i = 0; i < n; i++) {
        wg_tensor_free(want[i]);
        wg_tensor_free(first[i]);
    }
}

#endif
