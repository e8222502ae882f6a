/* How the rows of a loop are shared by threads: in tiles; or, of few rows by large matrices, within each iteration. */
#include "suite.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "loop.h"
#include "loop_plan.h"
#include "ops.h"
#include "print_structure.h"

static const char norm_cell[] = "cell c\ninput x\nstate h, c\n"
                                "i = sigmoid(a_i*layer_norm(W_i @ x + U_i @ h + p_i*c) + d_i)\n"
                                "f = sigmoid(a_f*layer_norm(W_f @ x + U_f @ h + b_f) + d_f)\n"
                                "c' = f*c + i*tanh(W_g @ x + U_g @ h + b_g)\n"
                                "h' = softmax(W_o @ x + U_o @ h + p_o*c')*tanh(c')\n";

/* Of one row over many steps: an LSTM's gradients would grow with the steps, and what is rounded with them. */
static const char calm_cell[] = "cell c\ninput x\nstate h, c\n"
                                "i = sigmoid(W_i @ x + 0.1*(U_i @ h) + b_i)\n"
                                "f = sigmoid(W_f @ x + 0.1*(U_f @ h) + b_f)\n"
                                "c' = f*c + i*tanh(W_g @ x + 0.1*(U_g @ h))\n"
                                "h' = tanh(c' + 0.1*(U_o @ (i*h)))\n";

/* One region of many instructions, whose rows lie one after the other in every operand. */
static const char flat_cell[] = "cell c\ninput x\nstate h\n"
                                "h' = sin(cos(sin(cos(sin(cos(sin(U @ h + V @ x))))))) + cos(sin(cos(sin(cos(h)))))\n";

/* Of the loop forward and the one back so many say `wanted` when made for so many threads. */
static void loops_say(int loops, const char *cell, const unrolled_sizes *sizes, int threads, const char *wanted) {
    wg_var y[MOST];
    wg_error error = {0};
    char size[64];
    snprintf(size, sizeof size, "%lld rows, hidden %lld, %d threads", (long long)sizes->batch, (long long)sizes->hidden, threads);
    unrolled u = unrolled_new(cell, sizes);
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = threads}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    char *text = printed_plan(plan);
    cr_expect_eq(count(text, "\nloop "), 2, "%s", text);
    cr_expect_eq(count(text, wanted), loops, "%s: %s", size, text);
    free(text);
    wg_plan_free(plan);
    unrolled_free(&u);
}

static void is_scheduled(const char *cell, const unrolled_sizes *sizes, int threads, const char *wanted) {
    loops_say(2, cell, sizes, threads, wanted);
}

Test(tiles, rows_go_in_as_many_tiles_of_one_size_for_each_thread) {
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 2, ", 32 rows in tiles of 16 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 1, ", 32 rows in tiles of 32 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 5, ", 32 rows in tiles of 7 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 64, ", 32 rows in tiles of 4 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 4}, 2, ", 100 rows in tiles of 25 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 4}, 8, ", 100 rows in tiles of 13 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 5, .input = 3, .hidden = 4}, 8, ", 5 rows in tiles of 3 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 1, .input = 3, .hidden = 4}, 8, ", 1 rows in tiles of 1 ");
}

Test(tiles, tile_that_would_fill_a_cache_beside_the_matrices_is_smaller) {
    const unrolled_sizes sizes = {.steps = 8, .batch = 32, .input = 3, .hidden = 176};
    is_scheduled("lstm", &sizes, 1, ", 32 rows in tiles of 32 ");
    loops_say(1, norm_cell, &sizes, 1, ", 32 rows in tiles of 16 ");
    is_scheduled(norm_cell, &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 272}, 1, ", 32 rows in tiles of 32 "); /* the matrices alone do */
}

Test(tiles, plan_of_a_cache_is_cut_as_one_that_is_compiled_and_a_program_is_printed_for_as_many_threads) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 4});
    int n = all_gradients(&u, y);
    const wg_compile_options options = {.run.threads = 8};
    wg_plan *plan = wg_compile(n, y, &options, &error);
    wg_plan_cache *cache = wg_plan_cache_new(NULL, &options, 1);
    wg_plan *cached = wg_plan_cache_get(cache, n, y, &error);
    cr_assert(plan && cached, "%s", error.text);
    char *want = printed_plan(plan), *got = printed_plan(cached), *text = NULL;
    cr_expect(strstr(want, "in tiles of 13 "));
    cr_expect_str_eq(got, want);
    cr_expect_eq(wg_plan_measure(cached).workspace_bytes, wg_plan_measure(plan).workspace_bytes);
    cr_assert_eq(wg_print(n, y, &(wg_print_options){.after = "schedule", .threads = 3}, append, &text, &error), WG_OK);
    cr_expect(strstr(text, "in tiles of 17 "), "%s", text);
    free(want);
    free(got);
    free(text);
    wg_plan_free(plan);
    wg_plan_cache_free(cache);
    unrolled_free(&u);
}

static const unrolled_sizes one_row = {.steps = 24, .batch = 1, .input = 3, .hidden = 200},
                            few_rows = {.steps = 5, .batch = 9, .input = 3, .hidden = 272};

Test(tiles, few_rows_by_large_matrices_are_shared_within_an_iteration) {
    is_scheduled("lstm", &one_row, 2, ", 1 rows together, each time shared by threads");
    is_scheduled(calm_cell, &one_row, 2, ", 1 rows together, each time shared by threads");
    is_scheduled(norm_cell, &few_rows, 2, ", 9 rows together, each time shared by threads");
    is_scheduled("rnn", &(unrolled_sizes){.steps = 8, .batch = 3, .input = 3, .hidden = 530}, 2, ", 3 rows together, each time shared by threads");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 2, .input = 3, .hidden = 200}, 2, ", 2 rows in tiles of 1 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 17, .input = 3, .hidden = 272}, 2, ", 17 rows in tiles of 9 ");
}

static void all_agree(const char *cell, const unrolled_sizes *sizes) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new(cell, sizes);
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    cr_assert(plan && !plan->small, "it runs on one thread, and shares nothing: %s", error.text);
    wg_plan_free(plan);
    agrees(cell, n, y);
    unrolled_free(&u);
}

Test(tiles, results_are_the_same_bits_however_rows_are_shared) {
    all_agree(calm_cell, &one_row);
    all_agree("lstm", &few_rows);
    all_agree(norm_cell, &few_rows);
    all_agree(flat_cell, &(unrolled_sizes){.steps = 5, .batch = 9, .input = 3, .hidden = 540});
    all_agree("rnn", &(unrolled_sizes){.steps = 8, .batch = 3, .input = 3, .hidden = 530}); /* fewer rows than threads */
    all_agree("lstm", &(unrolled_sizes){.steps = 5, .batch = 100, .input = 3, .hidden = 70});
    for (int64_t batch = 1; batch <= 3; batch++) /* tiles of one row, which is the only one or not */
        all_agree(calm_cell, &(unrolled_sizes){.steps = 25, .batch = batch, .input = 3, .hidden = 64});
    all_agree(calm_cell, &(unrolled_sizes){.steps = 25, .batch = 1, .input = 3, .hidden = 300}); /* of several blocks */
    all_agree(norm_cell, &(unrolled_sizes){.steps = 5, .batch = 33, .input = 3, .hidden = 70});
    all_agree(norm_cell, &(unrolled_sizes){.steps = 5, .batch = 32, .input = 3, .hidden = 176});
}

/* ---- strips: rows that run through all that stands between two products before the next rows do ---- */

/* Buffers that have a place for the rows of a strip, when made for two threads. */
static int has_strips(const char *cell, const unrolled_sizes *sizes) {
    int count = 0;
    unrolled u = unrolled_new(cell, sizes);
    wg_error error = {0};
    wg_var y[MOST];
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (uint32_t id = 1; id < plan->program->count; id++)
        count += plan->program->values[id].in_strip;
    wg_plan_free(plan);
    unrolled_free(&u);
    return count;
}

Test(tiles, kernels_between_regions_run_in_strips_where_a_tile_outgrows_the_nearest_cache) {
    static const unrolled_sizes wide = {.steps = 8, .batch = 32, .input = 3, .hidden = 176};
    is_scheduled(norm_cell, &wide, 2, ", in strips of 8:");
    loops_say(0, norm_cell, &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 8}, 2, ", in strips");
    loops_say(0, norm_cell, &(unrolled_sizes){.steps = 8, .batch = 8, .input = 3, .hidden = 256}, 2, ", in strips"); /* tiles of 4 rows */
    loops_say(0, "lstm", &wide, 2, ", in strips"); /* one region between products */
    loops_say(0, norm_cell, &few_rows, 2, ", in strips"); /* threads share its iterations */
    cr_expect_geq(has_strips(norm_cell, &wide), 6); /* what norms read and their gradients make, and softmax */
}

/* Of tiles of 17, 11, 9 and 25 rows on two threads, of which the last is smaller, and of others: the last strips have 1 to 8 rows. */
Test(tiles, strips_of_every_length_agree) {
    static const char *const cells[] = {norm_cell,
                                        "cell c\ninput x\nstate h, c\nc' = cumsum(h)*0.01 + 0.5*layer_norm(c)\nh' = tanh(W @ x + U @ softmax(c')) + 0.1*c\n",
                                        "cell c\ninput x\nstate h\ns = softmax(0.1*(U @ h) + W @ x)\n"
                                        "h' = 0.1*tanh(log_softmax(s + b))*layer_norm(s + 0.1*h) + 0.3*rms_norm(0.3*h + V @ x)\n"};
    static const int64_t rows[] = {33, 21, 18, 50};
    for (int k = 0; k < WG_LEN(cells); k++)
        for (int r = 0; r < WG_LEN(rows); r++) {
            const unrolled_sizes sizes = {.steps = 5, .batch = rows[r], .input = 3, .hidden = r % 2 ? 100 : 136};
            cr_expect(has_strips(cells[k], &sizes), "cell %d, %lld rows", k, (long long)rows[r]);
            all_agree(cells[k], &sizes);
        }
}

/* ---- regions ---- */

/* i*(1 - i) waits for nothing, and what reads it for the norm's derivative: it is made there, of i alone. */
Test(tiles, what_is_made_of_one_array_stands_with_what_reads_it) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("cell c\ninput x\nstate h, c\ni = sigmoid(W @ x + U @ h)\nc' = 0.9*c + i\nh' = i*layer_norm(c')\n",
                              &(unrolled_sizes){.steps = 6, .batch = 16, .input = 3, .hidden = 20});
    int n = all_gradients(&u, y), slopes = 0;
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    const wg_program *p = plan->program;
    for (uint32_t id = 1, loop = 0; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        if (strcmp(i->op->name, "sigmoid_partial") == 0 && i->region)
            loop = i->loop, slopes++;
        if (!loop || i->loop != loop || !i->region || (strcmp(i->op->name, "mul") != 0 && strcmp(i->op->name, "sigmoid_partial") != 0))
            continue;
        cr_expect(p->values[id].space != WG_IN_TILE || p->values[id].carried, "%%%u is kept for a later region", id);
    }
    cr_expect_gt(slopes, 0);
    wg_plan_free(plan);
    unrolled_free(&u);
    all_agree("cell c\ninput x\nstate h, c\ni = sigmoid(W @ x + U @ h)\nc' = 0.9*c + i\nh' = i*layer_norm(c')\n",
              &(unrolled_sizes){.steps = 6, .batch = 16, .input = 3, .hidden = 20});
}

/* ---- what kernels see, and which failure is told ---- */

static atomic_int team_seen;

static wg_status look_around(wg_call *call) {
    team_seen = call->team->threads;
    memcpy(call->out.data, call->in[0].data, (size_t)call->out.shape->count * sizeof(double));
    return WG_OK;
}

static const wg_op looking = {.name = "looking", .arity = 1, .kind = WG_REDUCTION, .shape = taped_as_it_is, .run = look_around, .rows = wg__rows_all};

enum { TIMES = 6 };

/* h = op(tanh(h w) + x_t) with h (rows, columns), six times. x: the tensor of all x. */
static wg_var recurrence(wg_tape *tape, const wg_op *op, int64_t rows, int64_t columns, wg_tensor **x) {
    wg_var all, w, h;
    const int64_t shape[] = {rows, columns};
    *x = leaf_of(tape, 3, (const int64_t[]){TIMES, rows, columns}, 1, &all);
    leaf_of(tape, 2, (const int64_t[]){columns, columns}, 2, &w);
    leaf_of(tape, 2, shape, 3, &h);
    for (int t = 0; t < TIMES; t++) {
        wg__step_mark(tape, 0, t);
        wg_var e = add(tanh(wg_matmul(h, w, false, false)), reshape(slice(all, 0, t, 1), 2, shape));
        h = wg_apply(op, 1, &e, NULL);
    }
    return h;
}

/* On two threads. */
static int threads_of_a_kernel(int64_t rows, int64_t columns) {
    wg_error error = {0};
    wg_tensor *x;
    wg_tape *tape = wg_tape_new(NULL);
    wg_var h = recurrence(tape, &looking, rows, columns, &x);
    wg_plan *plan = wg_compile(1, &h, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert(plan && !plan->small, "%s", error.text);
    team_seen = 0;
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    wg_plan_free(plan);
    wg_tape_free(tape);
    return team_seen;
}

Test(tiles, kernels_have_all_threads_in_an_iteration_that_is_shared_and_one_in_a_tile) {
    cr_expect_eq(threads_of_a_kernel(9, 540), 2);
    cr_expect_eq(threads_of_a_kernel(32, 540), 1);
    cr_expect_eq(threads_of_a_kernel(9, 200), 1);
}

Test(tiles, time_of_an_iteration_that_is_shared_is_that_of_all_threads) {
    wg_error error = {0};
    wg_tensor *x;
    wg_tape *tape = wg_tape_new(NULL);
    wg_var h = recurrence(tape, &looking, 9, 540, &x);
    wg_plan *plan = wg_compile(1, &h, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_profile p = {0};
    for (int k = 0; k < 5; k++)
        cr_assert_eq(wg_run_profiled(plan, NULL, NULL, &p, &error), WG_OK, "%s", error.text);
    double parts = p.products + p.pointwise + p.packing + p.other + p.waiting;
    cr_expect(p.products > 0 && p.pointwise > 0 && p.other > 0 && p.waiting > -1e-9, "%g %g %g %g", p.products, p.pointwise, p.other, p.waiting);
    cr_expect(fabs(parts / (p.threads * p.seconds) - 1) < 1e-6, "%g of %g", parts, p.threads * p.seconds);
    wg_plan_free(plan);
    wg_tape_free(tape);
}

static double at_most_100(double x) { return x > 100 ? NAN : x; }

Test(tiles, of_failures_in_several_tiles_the_first_rows_is_told_on_any_number_of_threads) {
    enum { ROWS = 100, COLUMNS = 4 };
    static const int64_t place[][2] = {{3, 28}, {1, 55}, {0, 82}, {0, 97}}; /* time and row: the later the row, the earlier the time */
    wg_error error = {0};
    wg_foreign *foreign = wg_foreign_new(NULL, NULL);
    const wg_op *op = wg_bind(foreign, &(wg_binding){.prototype = "double at_most_100(double)", .function = (void (*)(void))at_most_100}, &error);
    cr_assert_not_null(op, "%s", error.text);
    wg_tensor *x;
    wg_tape *tape = wg_tape_new(NULL);
    wg_var h = recurrence(tape, op, ROWS, COLUMNS, &x);
    for (int k = 0; k < WG_LEN(place); k++)
        wg_tensor_set(x, (place[k][0] * ROWS + place[k][1]) * COLUMNS, 1000 + k);
    wg_plan *plan = wg_compile(1, &h, &(wg_compile_options){.run.threads = 4}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    plan->small = false;
    for (int threads = 1; threads <= 4; threads++) {
        error = (wg_error){0};
        cr_assert_eq(wg_run_in(plan, plan->own, &(wg_run_options){.threads = threads}, &error), WG_NONFINITE);
        cr_expect(strstr(error.text, "at_most_100(1000."), "%d threads: %s", threads, error.text);
        cr_expect(strstr(error.text, "element 112"), "row 28, the fourth of the second tile, %d threads: %s", threads, error.text);
    }
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_foreign_free(foreign);
}

static double at_least_minus_100(double x) { return x < -100 ? NAN : x; }

/* h = least(most(tanh(h w) + x_t)), both of C, of two tiles with two strips: in the second tile rows 18, of its first strip, and 29, of its
 * second, hold these numbers at the third time. */
static void tells_strips(double at_18, double at_29, const char *kernel, const char *place) {
    enum { ROWS = 32, COLUMNS = 200 };
    static const int64_t shape[] = {ROWS, COLUMNS};
    wg_error error = {0};
    wg_foreign *foreign = wg_foreign_new(NULL, NULL);
    const wg_op *most = wg_bind(foreign, &(wg_binding){.prototype = "double at_most_100(double)", .function = (void (*)(void))at_most_100}, &error);
    const wg_op *least = wg_bind(foreign, &(wg_binding){.prototype = "double at_least_minus_100(double)", .function = (void (*)(void))at_least_minus_100}, &error);
    cr_assert(most && least, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_var all, w, h;
    wg_tensor *x = leaf_of(tape, 3, (const int64_t[]){TIMES, ROWS, COLUMNS}, 1, &all);
    leaf_of(tape, 2, (const int64_t[]){COLUMNS, COLUMNS}, 2, &w);
    leaf_of(tape, 2, shape, 3, &h);
    for (int t = 0; t < TIMES; t++) {
        wg__step_mark(tape, 0, t);
        wg_var e = add(tanh(wg_matmul(h, w, false, false)), reshape(slice(all, 0, t, 1), 2, shape));
        e = wg_apply(most, 1, &e, NULL);
        h = wg_apply(least, 1, &e, NULL);
    }
    wg_tensor_set(x, (2 * ROWS + 18) * COLUMNS, at_18);
    wg_tensor_set(x, (2 * ROWS + 29) * COLUMNS, at_29);
    wg_plan *plan = wg_compile(1, &h, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert(plan && plan->program->loop_count == 1 && plan->program->loops[0].strip, "%s", error.text);
    for (int threads = 1; threads <= 2; threads++) {
        error = (wg_error){0};
        cr_assert_eq(wg_run_in(plan, plan->own, &(wg_run_options){.threads = threads}, &error), WG_NONFINITE);
        cr_expect(strstr(error.text, kernel) && strstr(error.text, place), "%d threads: %s", threads, error.text);
    }
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_foreign_free(foreign);
}

Test(tiles, of_failures_in_several_strips_the_first_kernels_is_told) {
    tells_strips(-1000, 1000, "at_most_100(", "element 5800"); /* the strip of `least`'s runs first */
    tells_strips(1000, 1000, "at_most_100(", "element 3600");
    tells_strips(1000, -1000, "at_most_100(", "element 3600");
    tells_strips(-1000, -1000, "at_least_minus_100(", "element 3600");
}

static double root_of_first(int n, const double *x) { return n ? sqrt(x[0] + 2) : 0; }

static double whole(short n) { return n; }

enum { ROW_COLUMNS = 6 };

/* What fails where x is -9e9, or the label -9. */
typedef struct failing {
    wg_var (*record)(const wg_op *op, wg_var now, wg_var label); /* of (32,6) and (32): one number a row, or 6 */
    const char *prototype;
    void (*function)(void);
    wg_status status;
    const char *told;
} failing;

static wg_var call_it(const wg_op *op, wg_var now, wg_var label) { return (void)label, wg_call_op(op, 1, &now); }
static wg_var lose(const wg_op *op, wg_var now, wg_var label) { return (void)op, wg_softmax_cross_entropy_rows(now, label, -1); }

/* h = tanh(h w + x_t) + what is made of x_t's rows, where row 29 of the third time fails. */
static void tells_row_29(const failing *of) {
    enum { ROWS = 32, COLUMNS = ROW_COLUMNS };
    static const int64_t shape[] = {ROWS, COLUMNS}, column[] = {ROWS, 1};
    wg_error error = {0};
    wg_foreign *foreign = wg_foreign_new(NULL, NULL);
    const wg_op *op = of->prototype ? wg_bind(foreign, &(wg_binding){.prototype = of->prototype, .function = of->function}, &error) : NULL;
    cr_assert(op || !of->prototype, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *label = wg_tensor_new(NULL, WG_I32, 2, (const int64_t[]){TIMES, ROWS});
    wg_var all, w, h, labels;
    wg_tensor *x = leaf_of(tape, 3, (const int64_t[]){TIMES, ROWS, COLUMNS}, 1, &all);
    leaf_of(tape, 2, (const int64_t[]){COLUMNS, COLUMNS}, 2, &w);
    leaf_of(tape, 2, shape, 3, &h);
    for (int64_t i = 0; i < TIMES * ROWS; i++)
        wg_tensor_set(label, i, (double)(i % COLUMNS));
    for (int64_t i = 0; i < TIMES * ROWS * COLUMNS; i++)
        wg_tensor_set(x, i, (double)(i % 2));
    wg_tensor_set(op ? x : label, (2 * ROWS + 29) * (op ? COLUMNS : 1), op ? -9e9 : -9);
    labels = wg_leaf(tape, label);
    for (int t = 0; t < TIMES; t++) {
        wg__step_mark(tape, 0, t);
        wg_var now = add(mul(h, 0), reshape(slice(all, 0, t, 1), 2, shape)); /* of h: it stays in the loop */
        wg_var made = of->record(op, now, reshape(slice(labels, 0, t, 1), 1, shape));
        h = add(tanh(wg_matmul(h, w, false, false)), wg_var_shape(made)->rank == 1 ? reshape(made, 2, column) : made);
    }
    wg_plan *plan = wg_compile(1, &h, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert(plan && plan->program->loop_count == 1 && plan->program->loops[0].tile == 16, "%s: %s", of->told, error.text);
    cr_expect_eq(wg_run(plan, &error), of->status, "%s", error.text);
    cr_expect(strstr(error.text, of->told), "%s, not %s", error.text, of->told);
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(label);
    wg_foreign_free(foreign);
}

Test(tiles, rows_that_fail_are_told_by_their_place_in_the_whole) {
    tells_row_29(&(failing){call_it, "double root_of_first(int n, const double x[n])", (void (*)(void))root_of_first, WG_NONFINITE, "(row 29)"});
    tells_row_29(&(failing){call_it, "double whole(short n)", (void (*)(void))whole, WG_RANGE, "(element 174)"});
    tells_row_29(&(failing){lose, NULL, NULL, WG_RANGE, "label -9 at position 29 lies"});
}

/* Of an LSTM's gradient: 22 pointwise instructions in one region; where gates' gradients lie over the gates, what reads a gate has to run
 * before its gradient is there, and so has a step of its own. */
Test(tiles, results_that_one_other_instruction_reads_are_made_in_its_step) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 8, .batch = 16, .input = 3, .hidden = 20});
    int n = all_gradients(&u, y), pairs = 0, sums = 0, partials = 0, instructions = 0;
    int64_t steps = 0;
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int64_t k = 0; k < plan->program->loop_count; k++)
        for (int64_t s = 0; plan->loops[k] && s < plan->loops[k]->step_count; s++) {
            const wg__pair *pair = &plan->loops[k]->steps[s].pair;
            pairs += pair->kind != WG__PAIR_PLAIN, steps++;
            sums += pair->kind == WG__PAIR_SUM && plan->loops[k]->steps[s].n == 3;
            partials += pair->kind && (wg__pair_is_partial(pair->g) || wg__pair_is_partial(pair->h));
        }
    for (uint32_t id = 1; id < plan->program->count; id++)
        instructions += plan->program->list[id].region != 0;
    cr_expect_geq(pairs, 10, "%d", pairs);
    cr_expect_eq(sums, 4, "%d gates are functions of their sums", sums);
    cr_expect_geq(partials, 4, "%d of their derivatives", partials);
    cr_expect_leq(steps, instructions - pairs);
    wg_plan_free(plan);
    all_agree("lstm", &(unrolled_sizes){.steps = 8, .batch = 16, .input = 3, .hidden = 20});
    /* Partial derivatives by each other, in sums, and of sums; sums in sums on either side. */
    all_agree("cell c\ninput x\nstate h, c\ns = sigmoid(b + (W @ x + U @ h))\nt = tanh(0.3*c)\nd = s*(1 - s)*(1 - square(t))\ne = (1 - square(t)) - (1 - s)*s\n"
              "h' = silu(0.5*d + (0.2*e + s))\nc' = exp(0.1*h + 0.1*c)*0.1 + tanh((s - d) + (1 - square(d + e)))\n",
              &(unrolled_sizes){.steps = 8, .batch = 16, .input = 3, .hidden = 20});
    unrolled_free(&u);
}

/* Forwards alone, where nothing else reads them: two partial derivatives multiplied by each other, of which one is made in the product's
 * step; and one that stands before what it is multiplied by. */
Test(tiles, a_partial_derivative_is_made_in_a_product_with_anything_but_another) {
    wg_error error = {0};
    unrolled u = unrolled_new("cell c\ninput x\nstate h, c\ns = sigmoid(W @ x + U @ h)\nt = tanh(V @ x + Y @ c)\n"
                              "h' = s*(1 - s)*(1 - square(t))\nc' = (1 - square(s))*(t - h)\n",
                              &(unrolled_sizes){.steps = 6, .batch = 32, .input = 3, .hidden = 64});
    wg_var y = wg_unroll_output(u.unroll);
    int before = 0, by_each_other = 0;
    wg_plan *plan = wg_compile(1, &y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int64_t k = 0; k < plan->program->loop_count; k++)
        for (int64_t s = 0; plan->loops[k] && s < plan->loops[k]->step_count; s++) {
            const wg__pair *pair = &plan->loops[k]->steps[s].pair;
            before += pair->kind == WG__PAIR_BOTH && wg__pair_is_partial(pair->h) && pair->g == WG__PAIR_SUB;
            by_each_other += pair->kind == WG__PAIR_LEFT && wg__pair_is_partial(pair->g);
        }
    cr_expect(before == 1 && by_each_other == 1, "%d and %d", before, by_each_other);
    wg_plan_free(plan);
    agrees("partial derivatives", 1, &y);
    unrolled_free(&u);
}

/* What was carried here has one place, which the next is made in before the end of the step: what reads it cannot wait for its reader. */
Test(tiles, what_reads_a_carried_value_runs_before_the_next_takes_its_place) {
    static const char *const texts[] = {"cell c\ninput x\nstate h\nparam b[hidden]\nparam W[hidden,input]\np = h*b\n"
                                        "h' = tanh(W @ x + b) + 0.5*h\ny = h' - p\noutput y\n",
                                        "cell c\ninput x\nstate h\nparam W[hidden,input]\np = h - 0.25\n"
                                        "h' = sin(W @ x + h)\ny = p*sin(h')\noutput y\n"};
    for (int k = 0; k < WG_LEN(texts); k++) {
        unrolled u = unrolled_new(texts[k], &(unrolled_sizes){.steps = 6, .batch = 5, .input = 3, .hidden = 300});
        const wg_var y[2] = {wg_unroll_output(u.unroll), wg_unroll_final(u.unroll, "h")};
        agrees(texts[k], 2, y); /* with no gradients, which would keep every h */
        unrolled_free(&u);
    }
}

/* ---- two results of one kernel ---- */

/* A norm and the factor that it scales by; user: which of them is recorded first, centred or not. */
static wg_status norm_step(wg_step *step, void *user) {
    const int kind = *(const int *)user;
    wg_var x = add(matmul(wg_step_get(step, "x"), wg_step_get(step, "W"), false, true), matmul(wg_step_get(step, "h"), wg_step_get(step, "U"), false, true));
    wg_var scale = {0}, norm, of = kind & 8 ? sin(x) : x;
    if (kind & 1)
        scale = norm_scale(of, 0.1, kind & 2);
    norm = kind & 2 ? layer_norm(x, 0.1) : rms_norm(x, 0.1);
    if (!(kind & 1))
        scale = norm_scale(of, kind & 4 ? 0.2 : 0.1, kind & 2);
    const wg_shape *s = wg_var_shape(norm);
    return wg_step_set(step, "h", tanh(mul(norm, broadcast_to(scale, s->rank, s->dim))));
}

Test(tiles, a_norm_and_its_scale_are_made_by_one_kernel_in_either_order) {
    for (int kind = 0; kind < 12; kind++) {
        wg_error error = {0};
        wg_var y[MOST];
        unrolled u = unrolled_step(&(unrolled_sizes){.steps = 6, .batch = 7, .input = 3, .hidden = 40}, norm_step, &kind);
        y[0] = weighed(wg_unroll_output(u.unroll), 5);
        agrees("forward", 1, y);
        wg_plan *plan = wg_compile(1, y, NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        int both = 0;
        for (int k = 0; k < plan->program->loop_count; k++)
            for (int64_t n = 0; n < plan->loops[k]->kernel_count; n++)
                both += plan->loops[k]->kernels[n].beside_id != 0;
        cr_expect_eq(both, kind < 8 && (kind & 5) != 4, "kind %d: %d", kind, both); /* another eps or operand is another factor */
        wg_plan_free(plan);
        int n = all_gradients(&u, y);
        agrees("back", n, y);
        unrolled_free(&u);
    }
}

/* ---- what products ask memory for ---- */

/* An LSTM's forward step: four gates, each in the place of what it is made of, the cell's state and the one before, its tanh, and h. Backward:
 * what comes down for h, after the product; before it, so that it is the next iteration's, the tanh, the state before, and gates, in whose
 * place their gradients are. Of few rows, gates alone are more than a cache holds. */
Test(tiles, products_ask_once_for_everything_far_away_that_regions_up_to_the_next_one_read_or_write) {
    static const char *const text = "cell lstm\ninput x\nstate h, c\ni = sigmoid(Wi @ x + Ui @ h + bi)\nf = sigmoid(Wf @ x + Uf @ h + bf)\n"
                                    "g = tanh(Wg @ x + Ug @ h + bg)\no = sigmoid(Wo @ x + Uo @ h + bo)\nc' = f*c + i*g\nh' = o*tanh(c')\n";
    for (int few = 0; few < 2; few++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = 64, .batch = few ? 4 : 32, .input = 8, .hidden = 128});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run = {.threads = 2}}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        int products = 0;
        for (int k = 0; k < plan->program->loop_count; k++) {
            const wg_loop_plan *l = plan->loops[k];
            for (const wg_loop_kernel *of = l->kernels; of < l->kernels + l->kernel_count; of++) {
                if (!of->product)
                    continue;
                const bool backward = of->id != l->kernels[0].id;
                uint32_t later = 0;
                products++;
                static char memory[1 << 20];
                char *at[256];
                wg_soon soon[WG_MOST_ASKS];
                cr_assert_leq(l->slot_count, WG_LEN(at));
                for (int64_t slot = 0; slot < l->slot_count; slot++)
                    at[slot] = memory + (1 << 19) + 64 * slot;
                cr_expect_eq(wg__loop_asks(l, of, at, 3, 5, soon), of->asks);
                for (uint32_t q = 0; q < of->asks; q++) {
                    const wg_loop_ask *ask = &l->asks[of->first_ask + q];
                    const wg_loop_slot *slot = &l->slots[ask->slot];
                    later += ask->later;
                    cr_expect_eq(soon[q].at, at[ask->slot] + (ask->later ? slot->step : 0));
                    cr_expect(!ask->later || slot->step < 0, "the derivative goes back");
                    cr_expect_eq(soon[q].step, slot->row);
                    cr_expect_eq(soon[q].rows, 5);
                    cr_expect_eq(soon[q].lines, 128 * 8 / 64);
                }
                cr_expect_eq(wg__loop_asks(l, of, at, 63, 5, soon), of->asks - later, "there is no next iteration");
                cr_expect_eq(of->asks, few || !backward ? 4 : 7, "loop %d: %u", k, of->asks); /* what is kept goes past the caches */
                cr_expect_eq(later, !backward ? 0 : few ? 4 : 6, "loop %d: %u in the next iteration", k, later);
            }
        }
        cr_expect_eq(products, 2);
        wg_plan_free(plan);
        unrolled_free(&u);
    }
}

/* More gates than a product asks for. */
Test(tiles, what_a_product_cannot_ask_for_is_left_out) {
    char text[4096], *end = text;
    wg_var y[MOST];
    wg_error error = {0};
    end += sprintf(end, "cell c\ninput x\nstate h\np = W @ x\n");
    for (int k = 0; k < 38; k++)
        end += sprintf(end, "a%d = sigmoid(p + 0.0%d*h)\n", k, k + 10);
    end += sprintf(end, "h' = tanh(0.1*(U @ h) + 0.01*(a0");
    for (int k = 1; k < 38; k++)
        end += sprintf(end, " + a%d", k);
    sprintf(end, "))\n");
    unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = 64, .batch = 33, .input = 3, .hidden = 64});
    int n = all_gradients(&u, y), full = 0;
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run = {.threads = 2}}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int k = 0; k < plan->program->loop_count; k++)
        for (const wg_loop_kernel *of = plan->loops[k]->kernels; of < plan->loops[k]->kernels + plan->loops[k]->kernel_count; of++)
            full += of->asks == WG_MOST_ASKS;
    cr_expect_gt(full, 0);
    wg_plan_free(plan);
    agrees("many gates", n, y);
    unrolled_free(&u);
}

/* ---- sums over rows that a loop adds up in groups of rows ---- */

/* Steps that keep sums of groups; of loops in tiles, whether all have whole groups. */
static int folded(const wg_plan *plan, bool *whole) {
    int steps = 0;
    for (int64_t k = 0; k < plan->program->loop_count; k++) {
        const wg_loop_plan *l = plan->loops[k];
        int before = steps;
        for (int64_t s = 0; l && s < l->step_count; s++)
            steps += l->steps[s].sum != 0;
        *whole = *whole && (steps == before || l->loop->tile % WG_FOLD_ROWS == 0);
    }
    return steps;
}

/* Peepholes and gains: of some the gradient is a product's sum (a pair), of one of what is there anyway. */
Test(tiles, gradients_of_vectors_are_added_up_in_groups_of_rows_with_the_same_bits_for_any_tiles) {
    static const char *const text = "cell c\ninput x\nstate h, c\ns = tanh(W @ x + U @ h + p*c + b)\nc' = 0.9*c + a*s + d\nh' = sigmoid(c')*s\n";
    static const struct {
        int64_t batch, hidden;
        int folded;
    } sizes[] = {{32, 64, 3}, {64, 70, 3}, {96, 268, 3}, {33, 64, 0}, {16, 64, 0}, {32, 63, 0}};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = 5, .batch = sizes[k].batch, .input = 3, .hidden = sizes[k].hidden});
        int n = all_gradients(&u, y);
        wg_tensor *want[MOST], *first[MOST] = {0};
        cr_assert_eq(wg_eval(n, y, want, &error), WG_OK, "%s", error.text);
        for (int made_for = 1; made_for <= 8; made_for++) {
            bool whole = true;
            wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run = {.threads = made_for}}, &error);
            cr_assert_not_null(plan, "%s", error.text);
            int steps = folded(plan, &whole);
            cr_expect_eq(steps, sizes[k].folded, "B%lld H%lld: %d", (long long)sizes[k].batch, (long long)sizes[k].hidden, steps);
            cr_expect(whole, "B%lld on %d threads", (long long)sizes[k].batch, made_for);
            wg_plan_free(plan);
            plan_agrees(text, n, y, made_for, want, first);
        }
        for (int i = 0; i < n; i++) {
            wg_tensor_free(want[i]);
            wg_tensor_free(first[i]);
        }
        unrolled_free(&u);
    }
}

/* Biases, whose gradients are sums of what is kept for other gradients: of two gates side by side, which are 2 MB in 64 steps. */
Test(tiles, what_is_kept_of_very_many_steps_is_added_up_as_it_is_made) {
    static const char *const text = "cell c\ninput x\nstate h\nz = sigmoid(W_z @ x + U_z @ (0.3*h) + b_z)\n"
                                    "h' = z*(0.3*h) + (1 - z)*tanh(W @ x + U @ (0.3*h) + b)\n";
    static const struct {
        int64_t steps, batch;
        int folded;
    } sizes[] = {{64, 32, 2}, {63, 32, 0}, {125, 17, 0}};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        bool whole = true;
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = sizes[k].steps, .batch = sizes[k].batch, .input = 3, .hidden = 64});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_expect_eq(folded(plan, &whole), sizes[k].folded, "%lld steps of %lld rows", (long long)sizes[k].steps, (long long)sizes[k].batch);
        wg_plan_free(plan);
        agrees(text, n, y);
        unrolled_free(&u);
    }
}

/* Vectors that stand in sums, products, functions and norms, beside states and alone; loops of one, two and more iterations. */
Test(tiles, vectors_in_every_place_have_gradients_that_agree) {
    static const char *const in[] = {"p*h", "p*c", "p*h*c", "b", "p*sin(h) + b", "(p + h)*b"}, *const keep[] = {"0.9", "q", "sigmoid(q*s)", "(q - c)"},
               *const add[] = {"a*s", "s", "a*layer_norm(s)"}, *const out[] = {"sigmoid(c')*s", "tanh(r*c')", "r*c' + s*d"};
    static const int64_t steps[] = {1, 2, 3, 6}, hidden[] = {64, 65, 100};
    int sums = 0;
    for (int k = 0; k < 36; k++) {
        char text[300];
        wg_var y[MOST];
        wg_error error = {0};
        bool whole = true;
        snprintf(text, sizeof text, "cell c\ninput x\nstate h, c\ns = tanh(W @ x + U @ (0.3*h) + %s)\nc' = %s*c + %s\nh' = %s\n", in[k % 6], keep[k / 6 % 4],
                 add[k / 12], out[(k / 6 + k) % 3]);
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = steps[(k + k / 4) % 4], .batch = k % 5 ? 32 : 64, .input = 3, .hidden = hidden[k % 3]});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        sums += folded(plan, &whole);
        wg_plan_free(plan);
        agrees(text, n, y);
        unrolled_free(&u);
    }
    cr_expect_gt(sums, 24, "%d", sums);
    all_agree("cell c\ninput x\nsize N = 2*hidden\nstate h, c[N]\nparam q[N]\nc' = 0.9*c*q + tanh(V @ h)\nh' = tanh(W @ x + U @ c + p*h)\n",
              &(unrolled_sizes){.steps = 5, .batch = 32, .input = 3, .hidden = 64}); /* sums of two shapes */
}
