/* Rosenbrock's function of 100 numbers, minimised by GSL (BFGS): value and gradient are one compiled graph, handed over as the three C
 * functions that gsl_multimin wants. */
#include <gsl/gsl_multimin.h>
#include <stdio.h>

#include "wengert.h"
#include "wengert/notation.h"

enum { N = 100 };
#define X "const struct {size_t size: size; size_t stride: stride; double *data: point; void *block; int owner;} *x, void *params: user"
#define G "struct {size_t size: size; size_t stride: stride; double *data: gradient; void *block; int owner;} *g"
static const char *const types[] = {"double f(" X "): value", "void df(" X ", " G ")", "void fdf(" X ", double *y: value, " G ")"};

int main(void) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *point = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){N});
    wg_var x = wg_leaf(tape, point), a = wg_slice(x, 0, 0, N - 1), b = wg_slice(x, 0, 1, N - 1), gradient;
    wg_var value = wg_sum(add(mul(100, square(sub(b, square(a)))), square(sub(1, a))), 0, NULL, false);
    wg_grad(value, 1, &x, &gradient);
    wg_plan *plan = wg_compile(2, (const wg_var[]){value, gradient}, NULL, NULL);
    wg_function *f[3];
    for (int i = 0; i < 3; i++)
        f[i] = wg_plan_function(plan, types[i], &(wg_function_options){.n = 1, .leaf = &point}, NULL);
    gsl_multimin_function_fdf all = {(double (*)(const gsl_vector *, void *))wg_function_pointer(f[0]),
                                     (void (*)(const gsl_vector *, void *, gsl_vector *))wg_function_pointer(f[1]),
                                     (void (*)(const gsl_vector *, void *, double *, gsl_vector *))wg_function_pointer(f[2]), N, NULL};
    gsl_vector *start = gsl_vector_alloc(N);
    gsl_vector_set_all(start, -1);
    gsl_multimin_fdfminimizer *s = gsl_multimin_fdfminimizer_alloc(gsl_multimin_fdfminimizer_vector_bfgs2, N);
    int steps = 0, status = gsl_multimin_fdfminimizer_set(s, &all, start, 0.01, 0.1);
    while (++steps < 2000 && status == GSL_SUCCESS && gsl_multimin_test_gradient(s->gradient, 1e-8) == GSL_CONTINUE)
        status = gsl_multimin_fdfminimizer_iterate(s);
    double least = s->f;
    printf("%d steps: f = %.3g, x[0] = %.9f, x[99] = %.9f\n", steps, least, gsl_vector_get(s->x, 0), gsl_vector_get(s->x, N - 1));
    gsl_multimin_fdfminimizer_free(s), gsl_vector_free(start), wg_function_free(f[0]), wg_function_free(f[1]), wg_function_free(f[2]);
    return wg_plan_free(plan), wg_tensor_free(point), wg_tape_free(tape), least < 1e-12 ? 0 : 1;
}
