/* gradbench_loop.c: the objective of GradBench's lstm eval as a C programmer would write it,
 * compiled with -O3 -march=native: what the gradient's time is compared with. */
#include "gradbench.h"
#include "output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One step of one layer: x (d) in; h and c (d) are replaced. */
static void cell(int64_t d, const double *w, const double *b, const double *x, double *h,
                 double *c) {
    for (int64_t j = 0; j < d; j++) {
        double f = sigmoid(x[j] * w[j] + b[j]);
        double i = sigmoid(h[j] * w[d + j] + b[d + j]);
        double o = sigmoid(x[j] * w[2 * d + j] + b[2 * d + j]);
        double g = tanh(h[j] * w[3 * d + j] + b[3 * d + j]);
        c[j] = f * c[j] + i * g;
        h[j] = o * tanh(c[j]);
    }
}

double lstm_loop(const lstm_data *data) {
    const int64_t d = data->width;
    const double *in = data->extra, *out = in + d, *bias = out + d;
    double total = 0, *state = allocate((size_t)(2 * data->layers * d), sizeof *state),
           *y = allocate((size_t)d, sizeof *y);
    memcpy(state, data->state, (size_t)(2 * data->layers * d) * sizeof *state);
    for (int64_t t = 0; t + 1 < data->steps; t++) {
        const double *a = data->sequence + t * d, *next = a + d, *x = y;
        for (int64_t j = 0; j < d; j++)
            y[j] = a[j] * in[j];
        for (int64_t l = 0; l < data->layers; l++) {
            const double *w = data->main + 8 * l * d;
            double *h = state + 2 * l * d;
            cell(d, w, w + 4 * d, x, h, h + d);
            x = h;
        }
        double sum = 2;
        for (int64_t j = 0; j < d; j++) {
            y[j] = x[j] * out[j] + bias[j];
            sum += exp(y[j]);
        }
        double norm = log(sum);
        for (int64_t j = 0; j < d; j++)
            total += next[j] * (y[j] - norm);
    }
    free(state);
    free(y);
    return -total / (double)((data->steps - 1) * d);
}
