/* Logistic regression by NLopt (L-BFGS): the mean cross-entropy of 5000 points and its gradient are one compiled graph. */
#include <math.h>
#include <nlopt.h>
#include <stdio.h>

#include "wengert.h"
#include "wengert/notation.h"

enum { POINTS = 5000, FEATURES = 5 };

int main(void) {
    const double truth[FEATURES] = {1, -2, 0.5, 0, 3};
    wg_random random = {.seed = 1};
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){POINTS, FEATURES}), *label = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){POINTS});
    for (int i = 0; i < POINTS; i++) {
        double score = 0, feature;
        for (int j = 0; j < FEATURES; j++) {
            wg_tensor_set(x, i * FEATURES + j, feature = wg_random_normal(&random));
            score += truth[j] * feature;
        }
        wg_tensor_set(label, i, wg_random_uniform(&random) < 1 / (1 + exp(-score)));
    }
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *weights = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){FEATURES});
    wg_var w = wg_leaf(tape, weights), z = matmul(wg_leaf(tape, x), w, false, false), gradient;
    wg_var loss = wg_mean(wg_sigmoid_cross_entropy(z, wg_leaf(tape, label)), 0, NULL, false);
    wg_grad(loss, 1, &w, &gradient);
    wg_plan *plan = wg_compile(2, (const wg_var[]){loss, gradient}, NULL, NULL);
    wg_function *f = wg_plan_function(plan, "double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value",
                                      &(wg_function_options){.n = 1, .leaf = &weights}, NULL);
    nlopt_opt optimiser = nlopt_create(NLOPT_LD_LBFGS, FEATURES);
    nlopt_set_min_objective(optimiser, (nlopt_func)wg_function_pointer(f), NULL);
    nlopt_set_xtol_rel(optimiser, 1e-10);
    double found[FEATURES] = {0}, least = 0;
    nlopt_optimize(optimiser, found, &least);
    printf("loss %.6f at (%.3f, %.3f, %.3f, %.3f, %.3f); the labels were drawn with (1, -2, 0.5, 0, 3)\n", least, found[0], found[1], found[2], found[3], found[4]);
    nlopt_destroy(optimiser), wg_function_free(f), wg_plan_free(plan), wg_tensor_free(weights), wg_tensor_free(x), wg_tensor_free(label);
    return wg_tape_free(tape), fabs(found[1] + 2) < 0.3 && fabs(found[4] - 3) < 0.3 ? 0 : 1;
}
