/* gradbench_compare.c: `gradbench --compare`: the time of the gradient over that of the plain loop
 * of the objective, on data drawn as GradBench's was, in one run by turns. */
#include "gradbench.h"
#include "output.h"

#include <math.h>
#include <stdlib.h>

enum { WIDTH = 14, BATCHES = 15, LOOP, OBJECTIVE, JACOBIAN, TIMED };
static const char *const name[TIMED] = {
    [LOOP] = "loop", [OBJECTIVE] = "objective", [JACOBIAN] = "jacobian"};
static const char *const what[TIMED] = {[LOOP] = "the objective as a plain C loop",
                                        [OBJECTIVE] = "the objective, recorded and compiled",
                                        [JACOBIAN] = "its gradient, recorded and compiled"};

/* Parameters and states even in [0,1), a sequence of bits. */
static double *draw(wg_random *random, int64_t count, bool bits) {
    double *value = allocate((size_t)count, sizeof *value);
    for (int64_t i = 0; i < count; i++)
        value[i] = bits ? (double)wg_random_below(random, 2) : wg_random_uniform(random);
    return value;
}

static lstm_data draw_data(int64_t layers, int64_t steps) {
    wg_random random = {.seed = 1};
    lstm_data data = {.layers = layers, .steps = steps, .width = WIDTH};
    data.main = draw(&random, 8 * layers * WIDTH, false);
    data.extra = draw(&random, 3 * WIDTH, false);
    data.state = draw(&random, 2 * layers * WIDTH, false);
    data.sequence = draw(&random, steps * WIDTH, true);
    return data;
}

/* Seconds of a run, the mean of `repeats`; negative if one failed. */
static double run(const lstm_data *data, recorded *r, int64_t repeats) {
    double start = seconds(), sum = 0;
    for (int64_t i = 0; i < repeats; i++)
        if (!r)
            sum += lstm_loop(data);
        else if (wg_run(r->plan, NULL) != WG_OK)
            return -1;
    return isfinite(sum) ? (seconds() - start) / (double)repeats
                         : -1; /* so that the loop cannot go */
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* By turns, after all are warm. spent[i] is sorted. */
static bool measure(const lstm_data *data, recorded *objective, recorded *jacobian, double batch,
                    double spent[TIMED][BATCHES]) {
    recorded *const of[TIMED] = {[OBJECTIVE] = objective, [JACOBIAN] = jacobian};
    int64_t repeats[TIMED];
    bool ran = true;
    for (int i = LOOP; i < TIMED; i++) {
        double one = run(data, of[i], 2);
        one = run(data, of[i], 1);
        repeats[i] = one > 0 && one < batch ? (int64_t)(batch / one) : 1;
    }
    for (int k = 0; k < BATCHES; k++)
        for (int i = LOOP; i < TIMED; i++)
            ran = ran && (spent[i][k] = run(data, of[i], repeats[i])) > 0;
    for (int i = LOOP; i < TIMED; i++)
        qsort(spent[i], BATCHES, sizeof(double), by_value);
    return ran;
}

static int report(const lstm_data *data, int threads, double spent[TIMED][BATCHES]) {
    printf("GradBench's lstm, %lld layers, a sequence of %lld, %d units, f64, threads: %d; ms, "
           "median (least) of %d\n",
           (long long)data->layers, (long long)data->steps, WIDTH, threads, BATCHES);
    for (int i = LOOP; i < TIMED; i++)
        printf("  %-10s %9.3f (%.3f)  %5.2f times the loop  %s\n", name[i],
               spent[i][BATCHES / 2] * 1e3, spent[i][0] * 1e3,
               spent[i][BATCHES / 2] / spent[LOOP][BATCHES / 2], what[i]);
    return 0;
}

int lstm_compare(int64_t layers, int64_t steps, int threads, double batch) {
    lstm_data data = draw_data(layers, steps);
    recorded objective = {0}, jacobian = {0};
    wg_error error = {0};
    double spent[TIMED][BATCHES];
    bool fine = lstm_record(&objective, &data, false, threads, &error) &&
                lstm_record(&jacobian, &data, true, threads, &error) &&
                wg_run(objective.plan, &error) == WG_OK && wg_run(jacobian.plan, &error) == WG_OK;
    double loop = lstm_loop(&data),
           ours = fine ? wg_tensor_get(wg_plan_output(objective.plan, 0), 0) : NAN;
    int status = 1;
    if (!fine)
        fprintf(stderr, "gradbench: %s\n", error.text);
    else if (!(fabs(ours - loop) <= 1e-10 * fabs(loop)))
        fprintf(stderr, "gradbench: the objective is %.17g, by the loop %.17g\n", ours, loop);
    else if (measure(&data, &objective, &jacobian, batch, spent))
        status = report(&data, threads, spent);
    else
        fprintf(stderr, "gradbench: a run failed\n");
    recorded_free(&objective);
    recorded_free(&jacobian);
    lstm_data_free(&data);
    return status;
}
