/* gradbench.h: what the parts of `gradbench` share: the data of GradBench's lstm eval, its
 * objective as a plan of this library's, and as a plain loop. */
#ifndef WG_TOOLS_GRADBENCH_H
#define WG_TOOLS_GRADBENCH_H

#include "wengert.h"

/* The eval's data, d = width: row-major, in the order of its messages. Gates are f, i, o, g. */
typedef struct lstm_data {
    int64_t layers, steps, width; /* steps counts the rows of the sequence: one more than are run */
    double *main;     /* (2 layers, 4, d): of each layer the gates' weights, then their biases */
    double *extra;    /* (3, d): weights of the input, weights of the output, its bias */
    double *state;    /* (2 layers, d): of each layer h, then c */
    double *sequence; /* (steps, d) */
} lstm_data;
void lstm_data_free(lstm_data *data);

/* The objective (gradbench_loop.c). With a_t = row t of the sequence, for each t below steps - 1,
 * from x = a_t * in:
 *
 *     every layer:  f = sigmoid(x w_f + b_f)   i = sigmoid(h w_i + b_i)   o = sigmoid(x w_o + b_o)
 * g = tanh(h w_g + b_g) c = f c + i g   h = o tanh(c)   x = h y = x out + bias;   sum over j of
 * a_{t+1,j} (y_j - ln(2 + sum over k of e^y_k)),
 *
 * summed over t, divided by -(steps - 1) d. Source: Microsoft's ADBench (Srajer, Kukelova &
 * Fitzgibbon 2018), as GradBench has it. */
double lstm_loop(const lstm_data *data);

/* A function compiled: its outputs are the plan's, one after the other. */
enum { RECORDED_LEAVES = 4 };
typedef struct recorded {
    wg_tape *tape;
    wg_plan *plan;
    int leaves;
    wg_tensor *leaf[RECORDED_LEAVES];
} recorded;
/* A new leaf of f64 with these values; invalid if there is no memory. */
wg_var recorded_leaf(recorded *r, int rank, const int64_t *dim, const double *value);
/* Compiles y[0..n). Returns r->plan != NULL; else *error says why. */
bool recorded_compile(recorded *r, int n, const wg_var *y, int threads, wg_error *error);
void recorded_free(recorded *r);

/* The objective as one number, or its gradient: by `main`, then by `extra`, row-major. */
bool lstm_record(recorded *r, const lstm_data *data, bool gradient, int threads, wg_error *error);

/* Times the plan's objective and gradient beside the loop, in batches of so many seconds (of one
 * run at least), and prints what was measured. Returns an exit status. */
int lstm_compare(int64_t layers, int64_t steps, int threads, double batch);

#endif
