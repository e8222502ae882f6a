/* Rosenbrock's function of 100 numbers, minimised by GSL (BFGS): value and gradient are one compiled graph, handed over as the three C
 * functions that gsl_multimin wants. */
#include <gsl/gsl_multimin.h>
#include <stdio.h>
#include <stdlib.h>

#include "wengert.h"
#include "wengert/notation.h"

enum { N = 100 };
static void (*function_of(const wg_plan *plan, wg_tensor *point, const char *prototype))(void) {
    wg_error error = {0};
    wg_function *f = wg_plan_function(plan, prototype, &(wg_function_options){.n = 1, .leaf = &point}, &error);
    return f ? wg_function_pointer(f) : (puts(error.text), exit(1), NULL);
}

int main(void) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *point = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){N});
    wg_var x = wg_leaf(tape, point), a = wg_slice(x, 0, 0, N - 1), b = wg_slice(x, 0, 1, N - 1), gradient;
    wg_var value = wg_sum(add(mul(100, square(sub(b, square(a)))), square(sub(1, a))), 0, NULL, false);
    wg_grad(value, 1, &x, &gradient);
    wg_plan *plan = wg_compile(2, (const wg_var[]){value, gradient}, NULL, NULL);
#define X "const struct {size_t size: size; size_t stride: stride; double *data: point; void *block; int owner;} *x, void *params: user"
#define G "struct {size_t size: size; size_t stride: stride; double *data: gradient; void *block; int owner;} *g"
    gsl_multimin_function_fdf f = {(double (*)(const gsl_vector *, void *))function_of(plan, point, "double f(" X "): value"),
                                   (void (*)(const gsl_vector *, void *, gsl_vector *))function_of(plan, point, "void df(" X ", " G ")"),
                                   (void (*)(const gsl_vector *, void *, double *, gsl_vector *))function_of(plan, point, "void fdf(" X ", double *y: value, " G ")"),
                                   N, NULL};
    gsl_vector *start = gsl_vector_alloc(N);
    gsl_vector_set_all(start, -1);
    gsl_multimin_fdfminimizer *s = gsl_multimin_fdfminimizer_alloc(gsl_multimin_fdfminimizer_vector_bfgs2, N);
    gsl_multimin_fdfminimizer_set(s, &f, start, 0.01, 0.1);
    int steps = 0;
    while (++steps < 2000 && gsl_multimin_fdfminimizer_iterate(s) == GSL_SUCCESS && gsl_multimin_test_gradient(s->gradient, 1e-8) == GSL_CONTINUE)
        continue;
    printf("%d steps: f = %.3g, x[0] = %.9f, x[99] = %.9f\n", steps, s->f, gsl_vector_get(s->x, 0), gsl_vector_get(s->x, N - 1));
    return s->f < 1e-12 ? 0 : 1;
}
