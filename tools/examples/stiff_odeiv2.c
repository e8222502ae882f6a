/* Robertson's reactions, a stiff system, by GSL's BDF method: its right side and its Jacobian are compiled graphs. */
#include <gsl/gsl_errno.h>
#include <gsl/gsl_odeiv2.h>
#include <math.h>
#include <stdio.h>

#include "wengert.h"
#include "wengert/notation.h"

int main(void) {
    const int64_t three = 3, nine[] = {3, 3};
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *state = wg_tensor_new(NULL, WG_F64, 1, &three);
    wg_var y = wg_leaf(tape, state), row[3], a = mul(0.04, wg_slice(y, 0, 0, 1));
    wg_var b = mul(1e4, mul(wg_slice(y, 0, 1, 1), wg_slice(y, 0, 2, 1))), c = mul(3e7, square(wg_slice(y, 0, 1, 1)));
    wg_var rate[3] = {sub(b, a), sub(sub(a, b), c), c};
    for (int i = 0; i < 3; i++)
        wg_grad(reshape(rate[i], 0, NULL), 1, &y, &row[i]);
    wg_var right = wg_concat(3, rate, 0), jacobian = reshape(wg_concat(3, row, 0), 2, nine), still = wg_like(y, 0);
    wg_error error = {0};
    wg_plan *f = wg_compile(1, &right, NULL, &error), *j = wg_compile(2, (const wg_var[]){jacobian, still}, NULL, &error);
    const wg_function_options options = {.n = 1, .leaf = &state};
    wg_function *right_side = wg_plan_function(f, "int f(double t, const double y[3]: point, double dydt[3]: value, void *params: user): status", &options, &error);
    wg_function *slope = wg_plan_function(j, "int j(double t, const double y[3]: point, double *dfdy: out 0, double dfdt[3]: out 1, void *params: user): status",
                                          &options, &error);
    gsl_odeiv2_system system = {(int (*)(double, const double *, double *, void *))wg_function_pointer(right_side),
                                (int (*)(double, const double *, double *, double *, void *))wg_function_pointer(slope), 3, NULL};
    gsl_odeiv2_driver *driver = gsl_odeiv2_driver_alloc_y_new(&system, gsl_odeiv2_step_msbdf, 1e-6, 1e-10, 1e-8);
    double t = 0, now[3] = {1, 0, 0};
    int status = gsl_odeiv2_driver_apply(driver, &t, 40, now);
    printf("at t = %g: %.6f %.4e %.6f (published: 0.7158 9.1855e-06 0.2842)\n", t, now[0], now[1], now[2]);
    gsl_odeiv2_driver_free(driver), wg_function_free(right_side), wg_function_free(slope), wg_plan_free(f), wg_plan_free(j);
    wg_tensor_free(state), wg_tape_free(tape);
    return status == GSL_SUCCESS && fabs(now[0] - 0.7158) < 1e-4 && fabs(now[1] - 9.1855e-6) < 1e-9 ? 0 : 1;
}
