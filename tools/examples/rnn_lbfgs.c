/* A small tanh network fitted by liblbfgs: one step ahead of a sine whose frequency it must find. All weights are one vector. */
#include <lbfgs.h>
#include <stdio.h>

#include "wengert.h"
#include "wengert/notation.h"

enum { T = 40, H = 4, SIZE = H + H * H + H + H + 1 };
/* The next numbers of the vector, in a shape of their own. */
static wg_var take(wg_var all, int64_t *at, int rank, const int64_t *dim) {
    int64_t count = rank == 2 ? dim[0] * dim[1] : dim[0], from = *at;
    *at += count;
    return reshape(wg_slice(all, 0, from, count), rank, dim);
}

int main(void) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *point = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){SIZE});
    wg_var all = wg_leaf(tape, point), gradient, loss = wg_full(tape, WG_F64, 0, NULL, 0);
    int64_t at = 0;
    wg_var W = take(all, &at, 1, (const int64_t[]){H}), U = take(all, &at, 2, (const int64_t[]){H, H}), b = take(all, &at, 1, (const int64_t[]){H});
    wg_var v = take(all, &at, 1, (const int64_t[]){H}), c = take(all, &at, 1, (const int64_t[]){1}), h = wg_like(b, 0);
    for (int t = 0; t < T; t++) {
        h = tanh(add(add(mul(W, sin(0.5 * t)), matmul(U, h, false, false)), b));
        loss = add(loss, wg_sum(square(sub(add(wg_dot(v, h), c), sin(0.5 * (t + 1)))), 0, NULL, false));
    }
    wg_grad(loss, 1, &all, &gradient);
    wg_plan *plan = wg_compile(2, (const wg_var[]){loss, gradient}, NULL, NULL);
    wg_function *f = wg_plan_function(plan, "double evaluate(void *instance: user, const double *x: point, double *g: gradient, int n: size, double step): value",
                                      &(wg_function_options){.n = 1, .leaf = &point}, NULL);
    lbfgsfloatval_t *x = lbfgs_malloc(SIZE), least = 0;
    for (int i = 0; i < SIZE; i++)
        x[i] = 0.7 * (sin)(7.0 * i);
    int why = lbfgs(SIZE, x, &least, (lbfgs_evaluate_t)wg_function_pointer(f), NULL, NULL, NULL);
    printf("squared error over %d steps: %.3g (liblbfgs ended with %d)\n", T, least, why);
    lbfgs_free(x), wg_function_free(f), wg_plan_free(plan), wg_tensor_free(point), wg_tape_free(tape);
    return why == LBFGS_SUCCESS && least < 1e-2 ? 0 : 1;
}
