/* tasks.c: the synthetic tasks as generators. Each draws one sequence; knows nothing of batches or models. */
#include "tasks.h"

#include <math.h>

static int64_t between(wg_random *random, int64_t from, int64_t to) {
    return from + (int64_t)wg_random_below(random, (uint64_t)(to - from));
}

/* x (T,2): values U[0,1) and a mark, one in each half; y: the sum of the marked. Source: Le, Jaitly & Hinton 2015. */
static void draw_adding(wg_random *random, int64_t length, double *x, double *y) {
    for (int64_t t = 0; t < length; t++) {
        x[2 * t] = wg_random_uniform(random);
        x[2 * t + 1] = 0;
    }
    int64_t first = between(random, 0, length / 2), second = between(random, length / 2, length);
    x[2 * first + 1] = x[2 * second + 1] = 1;
    *y = x[2 * first] + x[2 * second];
}

/* Answering 1: the variance of a sum of two uniform draws. */
static double baseline_adding(int64_t length) { return (void)length, 1.0 / 6; }

/* 10 of 8 symbols, T - 1 blanks, the signal, 10 blanks; y: T + 10 blanks, then the symbols. Source: Arjovsky, Shah & Bengio
 * 2016, after Hochreiter & Schmidhuber 1997. */
enum { COPIED = 10, SYMBOLS = 8, BLANK = 8, SIGNAL = 9 };

static void draw_copy(wg_random *random, int64_t length, double *x, double *y) {
    int64_t steps = length + 2 * COPIED;
    for (int64_t t = 0; t < steps; t++)
        x[t] = y[t] = BLANK;
    x[COPIED + length - 1] = SIGNAL;
    for (int64_t i = 0; i < COPIED; i++)
        x[i] = y[steps - COPIED + i] = (double)wg_random_below(random, SYMBOLS);
}

/* Blanks where they belong, then guesses among the symbols. */
static double baseline_copy(int64_t length) { return COPIED * log(SYMBOLS) / (double)(length + 2 * COPIED); }

/* Two of {A, B} = {0, 1} among four other symbols, at [T/10, 2T/10) and [5T/10, 6T/10); the class is which two, in order. Source:
 * Pascanu, Mikolov & Bengio 2013, after Hochreiter & Schmidhuber 1997. */
static void draw_order(wg_random *random, int64_t length, double *x, double *y) {
    for (int64_t t = 0; t < length; t++)
        x[t] = 2 + (double)wg_random_below(random, 4);
    int64_t first = between(random, length / 10, 2 * length / 10);
    int64_t second = between(random, 5 * length / 10, 6 * length / 10);
    x[first] = (double)wg_random_below(random, 2);
    x[second] = (double)wg_random_below(random, 2);
    *y = 2 * x[first] + x[second];
}

static double baseline_order(int64_t length) { return (void)length, log(4); }

/* Random bits; y: at every step whether the number of ones so far is odd. */
static void draw_parity(wg_random *random, int64_t length, double *x, double *y) {
    int odd = 0;
    for (int64_t t = 0; t < length; t++) {
        x[t] = (double)wg_random_below(random, 2);
        odd ^= x[t] != 0;
        y[t] = odd;
    }
}

static double baseline_parity(int64_t length) { return (void)length, log(2); }

const task tasks[TASKS] = {
    [TASK_ADDING] = {"adding", 0, 2, 1, true, false, 2, 0, 0, baseline_adding, "mse", draw_adding},
    [TASK_COPY] = {"copy", 10, 0, 9, false, true, 1, 2 * COPIED, COPIED, baseline_copy, "nats", draw_copy},
    [TASK_ORDER] = {"order", 6, 0, 4, true, true, 10, 0, 0, baseline_order, "nats", draw_order},
    [TASK_PARITY] = {"parity", 0, 1, 2, false, true, 1, 0, 0, baseline_parity, "nats", draw_parity},
};
