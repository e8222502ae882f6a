/* Plans: compiled programs against wg_eval, what they hold, what they cost. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "failing.h"
#include "plan.h"
#include "tape.h"
#include "wengert/notation.h"

enum { MOST = 8 };

static wg_tensor *drawn(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim, uint64_t seed) {
    wg_tensor *tensor = wg_tensor_new(memory, dtype, rank, dim);
    wg_random random = {.seed = seed};
    for (int64_t i = 0; tensor && i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, wg_random_normal(&random));
    return tensor;
}

/* Every output of the plan has the bits that wg_eval gives, run for run. */
static void agrees(int n, const wg_var *y, const char *without) {
    wg_error error = {0};
    wg_tensor *out[MOST];
    wg_compile_options options = {.without = without, .validate = true};
    wg_plan *plan = wg_compile(n, y, &options, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_eval(n, y, out, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < n; i++) {
            const wg_tensor *got = wg_plan_output(plan, i);
            cr_assert_eq(wg_tensor_bytes(got), wg_tensor_bytes(out[i]));
            cr_assert(memcmp(wg_tensor_data(got), wg_tensor_data(out[i]), wg_tensor_bytes(got)) == 0,
                      "output %d differs in round %d without %s", i, round, without ? without : "nothing");
            wg_tensor_free(out[i]);
        }
    }
    wg_plan_free(plan);
}

static const char *const subsets[] = {NULL, "simplify", "prune", "inplace", "simplify,prune,inplace", "inplace,prune"};

static void agrees_in_every_way(int n, const wg_var *y) {
    for (size_t i = 0; i < sizeof subsets / sizeof *subsets; i++)
        agrees(n, y, subsets[i]);
}

/* A small network that uses views, broadcasts, slices, sums, and its gradient: y[0..6). */
static int network(wg_tape *tape, wg_tensor *a, wg_tensor *b, wg_var *y) {
    wg_var x = wg_leaf(tape, a), w = wg_leaf(tape, b), s = x, loss, wrt[2] = {x, w};
    for (int t = 0; t < 4; t++) {
        wg_var gate = sigmoid(mul(s, slice(w, 0, t, 1)));
        wg_var turned = transpose(reshape(s, 2, ((const int64_t[]){6, 4})));
        s = add(mul(gate, tanh(s)), mul(sub(1, gate), reshape(mul(turned, turned), 2, ((const int64_t[]){4, 6}))));
    }
    loss = sum_to(square(s), 0, NULL);
    y[0] = loss, y[1] = s, y[2] = transpose(s), y[3] = x;
    wg_grad(loss, 2, wrt, y + 4);
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
    return 6;
}

Test(plan, agrees_with_evaluation_bit_for_bit_with_any_passes) {
    for (int type = WG_F32; type <= WG_F64; type++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *a = drawn(NULL, type, 2, (const int64_t[]){4, 6}, 1), *b = drawn(NULL, type, 2, (const int64_t[]){4, 6}, 2);
        wg_var y[MOST];
        agrees_in_every_way(network(tape, a, b, y), y);
        wg_tape_free(tape);
        wg_tensor_free(a);
        wg_tensor_free(b);
    }
}

Test(plan, takes_scalars_empty_arrays_and_bare_views_as_outputs) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = drawn(NULL, WG_F64, 0, NULL, 1), *none = drawn(NULL, WG_F64, 2, (const int64_t[]){0, 3}, 1);
    wg_var x = wg_leaf(tape, a), e = wg_leaf(tape, none);
    wg_var y[MOST] = {x, x, mul(x, x), broadcast_to(x, 2, ((const int64_t[]){2, 2})), tanh(e), sum_to(e, 1, ((const int64_t[]){3})),
                      wg_full(tape, WG_F32, 1, (const int64_t[]){5}, 0.1), add(mul(x, x), 1)};
    agrees_in_every_way(8, y);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(none);
}

Test(plan, outlives_its_tape_and_reads_current_contents) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = drawn(NULL, WG_F64, 1, (const int64_t[]){3}, 1);
    wg_var y = sum_to(mul(wg_leaf(tape, a), 2), 0, NULL);
    wg_error error = {0};
    wg_plan *plan = wg_compile(1, &y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_tape_free(tape);
    for (int k = 0; k < 3; k++) {
        wg_tensor_fill(a, k);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_tensor_get(wg_plan_output(plan, 0), 0), 6 * k);
    }
    wg_tensor_free(a); /* the plan still holds it */
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    wg_plan_free(plan);
}
