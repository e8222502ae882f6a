/* Instruction sets: every one this machine runs, forced on both executors: each computes with the kernels of that set, and
 * all agree to rounding. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "ops.h"
#include "pointwise.h"
#include "taped.h"
#include "wengert/notation.h"

enum { N = 333, SCALARS = 40, OUTPUTS = 5 };

static const wg_isa sets[] = {WG_ISA_AUTO, WG_ISA_BASELINE, WG_ISA_AVX2, WG_ISA_AVX512};

/* What kernels of vector maths lie behind: pointwise arrays, single elements, softmax, the rows of a cross-entropy. */
static void graph(wg_tape *tape, wg_tensor *from, wg_var *y) {
    wg_var x = wg_leaf(tape, from), scalars[SCALARS];
    for (int i = 0; i < SCALARS; i++)
        scalars[i] = tanh(reshape(slice(x, 0, i, 1), 0, NULL));
    wg_tensor *labels = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){3});
    y[0] = tanh(x);
    y[1] = stack(SCALARS, scalars, 0);
    y[2] = log_softmax(reshape(x, 2, ((const int64_t[]){3, 111})), -1);
    y[3] = logsumexp(x, 0, NULL, false);
    wg_var loss = softmax_cross_entropy(reshape(x, 2, ((const int64_t[]){3, 111})), wg_leaf(tape, labels), -1);
    wg_grad(loss, 1, &x, &y[4]);
    wg_tensor_free(labels);
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
}

/* tanh of the tensor by the set's own kernel. */
static void directly(wg_isa isa, const wg_tensor *x, void *out) {
    int set = isa == WG_ISA_AUTO ? wg__isa_best() : (int)isa - WG_ISA_BASELINE;
    unsigned mode = wg__float_mode_enter(false);
    wg__map_for(wg_op_find("tanh")->op, wg_tensor_dtype(x) == WG_F64, set)(
        N, (const void *const[]){wg_tensor_data(x)}, out);
    wg__float_mode_leave(mode);
}

static double farthest(const wg_tensor *a, const wg_tensor *b) {
    double worst = 0;
    for (int64_t i = 0; i < wg_tensor_shape(a)->count; i++)
        worst = fmax(worst, fabs(wg_tensor_get(a, i) - wg_tensor_get(b, i)));
    return worst;
}

static void check(const wg_tensor *x, wg_plan *plan, wg_isa isa, const wg_var *y, wg_tensor *const *usual) {
    wg_tensor *out[OUTPUTS];
    wg_error error = {0};
    char want[N * 8];
    size_t size = wg_dtype_size(wg_tensor_dtype(x));
    wg_run_options options = {.isa = isa};
    cr_assert_eq(wg_eval_with(&options, OUTPUTS, y, out, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &options, &error), WG_OK, "%s", error.text);
    directly(isa, x, want);
    cr_expect(memcmp(wg_tensor_data(out[0]), want, N * size) == 0, "arrays, set %d", isa);
    cr_expect(memcmp(wg_tensor_data(out[1]), want, SCALARS * size) == 0, "single elements, set %d", isa);
    for (int i = 0; i < OUTPUTS; i++) {
        const wg_tensor *planned = wg_plan_output(plan, i);
        cr_expect(memcmp(wg_tensor_data(planned), wg_tensor_data(out[i]), wg_tensor_bytes(planned)) == 0,
                  "plan and evaluation, output %d, set %d", i, isa);
        cr_expect(farthest(out[i], usual[i]) <= (size == 4 ? 4e-6 : 1e-14), "output %d, set %d: %g off", i, isa,
                  farthest(out[i], usual[i]));
        wg_tensor_free(out[i]);
    }
}

Test(pointwise_isa, every_set_runs_its_own_kernels_in_both_executors) {
    for (wg_dtype type = WG_F32; type <= WG_F64; type++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *x = taped_random(NULL, type, 1, (const int64_t[]){N}, 5), *usual[OUTPUTS];
        wg_var y[OUTPUTS];
        wg_error error = {0};
        graph(tape, x, y);
        cr_assert_eq(wg_eval(OUTPUTS, y, usual, &error), WG_OK, "%s", error.text);
        wg_plan *plan = wg_compile(OUTPUTS, y, NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        for (int turn = 0; turn < 2; turn++) /* one workspace, from set to set */
            for (int i = 0; i < WG_LEN(sets); i++)
                if (wg_isa_runs(sets[i]))
                    check(x, plan, sets[i], y, usual);
        for (int i = 0; i < OUTPUTS; i++)
            wg_tensor_free(usual[i]);
        wg_plan_free(plan);
        wg_tape_free(tape);
        wg_tensor_free(x);
    }
}

Test(pointwise_isa, a_set_that_does_not_run_here_lowers_nothing) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = taped_random(NULL, WG_F32, 1, (const int64_t[]){N}, 6), *most = NULL, *best = NULL;
    wg_var y = tanh(wg_leaf(tape, x));
    cr_assert(wg_isa_runs(WG_ISA_AUTO) && wg_isa_runs(WG_ISA_BASELINE));
    cr_assert(!wg_isa_runs((wg_isa)99));
    cr_assert_eq(wg_eval_with(&(wg_run_options){.isa = WG_ISA_AVX512}, 1, &y, &most, NULL), WG_OK);
    cr_assert_eq(wg_eval(1, &y, &best, NULL), WG_OK);
    cr_assert(memcmp(wg_tensor_data(most), wg_tensor_data(best), wg_tensor_bytes(best)) == 0);
    wg_tensor_free(most);
    wg_tensor_free(best);
    wg_tensor_free(x);
    wg_tape_free(tape);
}

Test(pointwise_isa, the_best_set_is_the_last_that_runs_and_each_has_a_name) {
    static const char *const names[] = {"baseline", "haswell", "skylake_avx512"};
    int best = wg__isa_best();
    cr_assert(wg__isa_runs(best));
    for (int isa = 0; isa < WG__ISAS; isa++) {
        cr_expect_str_eq(wg__isa_name(isa), names[isa]);
        cr_expect(isa <= best || !wg__isa_runs(isa), "%s runs", names[isa]);
    }
    cr_expect_eq(wg__kernels_best(), wg__kernels_of(best));
}

Test(pointwise_isa, sums_that_a_pass_makes_are_those_of_the_set) {
    const wg_op *add = wg_op_find("add")->op;
    for (int set = 0; set <= (int)wg__isa_best(); set++)
        for (int type = 0; type < 2; type++)
            cr_expect_eq(wg__map_for(&wg__op_add_rows, type, set), wg__map_for(add, type, set), "set %d", set);
}
