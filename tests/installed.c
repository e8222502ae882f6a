/* installed.c: a user's program: only the public header, built by installed.sh against what was installed. Records
 * y = x tanh x and its derivative, and holds the derivative against a difference. Then multiplies matrices on one thread,
 * and holds the time of the whole process against that thread's own: a BLAS with threads of its own would show. */
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <wengert.h>

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 1;
}

/* x tanh x and its derivative at `at`, through the tape; NaN where something fails. */
static double value_at(double at, double *slope) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, 0, NULL), *out[2] = {NULL, NULL};
    wg_error error = {WG_OK, ""};
    double value = NAN;
    *slope = NAN;
    if (tape && tensor) {
        wg_tensor_fill(tensor, at);
        wg_var x = wg_leaf(tape, tensor), y[2];
        y[0] = wg_mul(x, wg_tanh(x));
        wg_grad(y[0], 1, &x, &y[1]);
        if (wg_eval(2, y, out, &error) == WG_OK) {
            value = wg_tensor_get(out[0], 0);
            *slope = wg_tensor_get(out[1], 0);
        } else {
            fprintf(stderr, "%s\n", error.text);
        }
    }
    wg_tensor_free(out[0]);
    wg_tensor_free(out[1]);
    wg_tensor_free(tensor);
    wg_tape_free(tape);
    return value;
}

static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The time of the process beside that of this thread, while this thread multiplies; 0 where something fails. */
static double process_over_thread(void) {
    int64_t dim[] = {400, 400};
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, 2, dim);
    wg_run_options options = {.threads = 1};
    double ratio = 0;
    if (tape && tensor) {
        wg_tensor_fill(tensor, 0.01);
        wg_var x = wg_leaf(tape, tensor), y = x;
        for (int i = 0; i < 20; i++)
            y = wg_matmul(y, x, false, true);
        wg_tensor *out = NULL;
        double process = seconds(CLOCK_PROCESS_CPUTIME_ID), thread = seconds(CLOCK_THREAD_CPUTIME_ID);
        if (wg_eval_with(&options, 1, &y, &out, NULL) == WG_OK) {
            process = seconds(CLOCK_PROCESS_CPUTIME_ID) - process;
            thread = seconds(CLOCK_THREAD_CPUTIME_ID) - thread;
            ratio = process / thread;
        }
        wg_tensor_free(out);
    }
    wg_tensor_free(tensor);
    wg_tape_free(tape);
    return ratio;
}

int main(void) {
    double slope, unused, step = 1e-4;
    double value = value_at(0.7, &slope);
    double difference = (value_at(0.7 + step, &unused) - value_at(0.7 - step, &unused)) / (2 * step);
    if (!(fabs(value - 0.7 * tanh(0.7)) < 1e-12))
        return fail("the value is wrong");
    if (!(fabs(slope - difference) < 1e-7))
        return fail("the derivative is not the difference's");
    double ratio = process_over_thread();
    if (!(ratio > 0.9 && ratio < 1.2))
        return fail("a product on one thread kept others busy");
    printf("%.6f, slope %.6f; products on one thread take %.2f of its time\n", value, slope, ratio);
    return 0;
}
