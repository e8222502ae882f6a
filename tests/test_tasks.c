/* test_tasks.c: the synthetic tasks: what each sequence holds, and how places and classes are spread. */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tasks.h"

enum { T = 40, DRAWS = 4000 };

static void draw(int which, uint64_t seed, double *x, double *y) {
    wg_random random = {.seed = seed};
    tasks[which].draw(&random, T, x, y);
}

Test(tasks, adding_marks_one_value_in_each_half_and_asks_for_their_sum) {
    int first[T / 2] = {0}, second[T / 2] = {0};
    double error = 0, mean = 0;
    for (uint64_t k = 0; k < DRAWS; k++) {
        double x[2 * T], y, sum = 0;
        int marks[2] = {0, 0};
        draw(TASK_ADDING, k, x, &y);
        for (int t = 0; t < T; t++) {
            cr_assert(x[2 * t] >= 0 && x[2 * t] < 1);
            cr_assert(x[2 * t + 1] == 0 || x[2 * t + 1] == 1);
            mean += x[2 * t] / (T * (double)DRAWS);
            sum += x[2 * t] * x[2 * t + 1];
            marks[t >= T / 2] += x[2 * t + 1] != 0;
            if (x[2 * t + 1] != 0)
                (t < T / 2 ? first : second)[t % (T / 2)]++;
        }
        cr_assert(marks[0] == 1 && marks[1] == 1);
        cr_assert_float_eq(y, sum, 1e-15);
        error += (y - 1) * (y - 1) / DRAWS;
    }
    cr_expect_float_eq(mean, 0.5, 0.01);
    cr_expect_float_eq(error, tasks[TASK_ADDING].baseline(T), 0.012, "answering 1 gets %g", error);
    for (int t = 0; t < T / 2; t++) /* each place has its share, within 5 standard deviations */
        cr_expect(abs(first[t] - 200) < 70 && abs(second[t] - 200) < 70, "place %d: %d, %d", t, first[t], second[t]);
}

Test(tasks, copy_asks_for_ten_symbols_after_the_signal) {
    int seen[8] = {0};
    for (uint64_t k = 0; k < DRAWS; k++) {
        double x[T + 20], y[T + 20];
        draw(TASK_COPY, k, x, y);
        for (int t = 0; t < T + 20; t++) {
            double wanted = t < 10 ? x[t] : t == T + 9 ? 9 : 8;
            cr_assert(x[t] == wanted && (t >= 10 || (x[t] >= 0 && x[t] < 8)), "x[%d] = %g", t, x[t]);
            cr_assert(y[t] == (t < T + 10 ? 8 : x[t - T - 10]), "y[%d] = %g", t, y[t]);
            if (t < 10)
                seen[(int)x[t]]++;
        }
    }
    for (int i = 0; i < 8; i++)
        cr_expect(abs(seen[i] - 10 * DRAWS / 8) < 5 * 67, "symbol %d: %d", i, seen[i]);
    cr_expect_float_eq(tasks[TASK_COPY].baseline(T), 10 * log(8) / (T + 20), 1e-12);
    cr_expect_eq(tasks[TASK_COPY].scored, 10);
}

Test(tasks, order_hides_two_of_two_symbols_and_asks_which) {
    int classes[4] = {0}, first[T] = {0}, second[T] = {0};
    for (uint64_t k = 0; k < DRAWS; k++) {
        double x[T], y;
        int told[2] = {-1, -1}, n = 0;
        draw(TASK_ORDER, k, x, &y);
        for (int t = 0; t < T; t++) {
            cr_assert(x[t] >= 0 && x[t] < 6);
            if (x[t] >= 2)
                continue;
            cr_assert(n < 2);
            (n ? second : first)[t]++;
            told[n++] = (int)x[t];
        }
        cr_assert_eq(n, 2);
        cr_assert_eq((int)y, 2 * told[0] + told[1]);
        classes[(int)y]++;
    }
    for (int t = 0; t < T; t++) {
        cr_expect_eq(first[t] > 0, t >= T / 10 && t < 2 * T / 10, "first at %d: %d", t, first[t]);
        cr_expect_eq(second[t] > 0, t >= 5 * T / 10 && t < 6 * T / 10, "second at %d: %d", t, second[t]);
    }
    for (int i = 0; i < 4; i++)
        cr_expect(abs(classes[i] - DRAWS / 4) < 5 * 28, "class %d: %d", i, classes[i]);
}

Test(tasks, parity_is_whether_the_ones_so_far_are_odd) {
    int ones = 0;
    for (uint64_t k = 0; k < 200; k++) {
        double x[T], y[T];
        int sum = 0;
        draw(TASK_PARITY, k, x, y);
        for (int t = 0; t < T; t++) {
            cr_assert(x[t] == 0 || x[t] == 1);
            sum += (int)x[t];
            cr_assert_eq((int)y[t], sum % 2);
        }
        ones += sum;
    }
    cr_expect(abs(ones - 100 * T) < 5 * 45, "%d ones", ones);
}

Test(tasks, sequences_follow_from_the_seed_alone) {
    for (int which = 0; which < TASKS; which++) {
        double a[2 * T + 40], b[2 * T + 40], c[2 * T + 40], y[T + 20];
        draw(which, 7, a, y);
        draw(which, 7, b, y);
        draw(which, 8, c, y);
        size_t size = sizeof(double) * (size_t)(T * (which == TASK_ADDING ? 2 : 1));
        cr_expect_eq(memcmp(a, b, size), 0, "%s", tasks[which].name);
        cr_expect_neq(memcmp(a, c, size), 0, "%s", tasks[which].name);
    }
}
