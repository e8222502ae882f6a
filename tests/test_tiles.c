/* How the rows of a loop are shared by threads: in tiles; or, of few rows by large matrices, within each iteration. */
#include "suite.h"

#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "print_structure.h"

static const char norm_cell[] = "cell c\ninput x\nstate h, c\n"
                                "i = sigmoid(a_i*layer_norm(W_i @ x + U_i @ h + p_i*c) + d_i)\n"
                                "f = sigmoid(a_f*layer_norm(W_f @ x + U_f @ h + b_f) + d_f)\n"
                                "c' = f*c + i*tanh(W_g @ x + U_g @ h + b_g)\n"
                                "h' = softmax(W_o @ x + U_o @ h + p_o*c')*tanh(c')\n";

/* Both loops say `wanted` when made for so many threads. */
static void is_scheduled(const char *cell, const unrolled_sizes *sizes, int threads, const char *wanted) {
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
    cr_expect_eq(count(text, wanted), 2, "%s: %s", size, text);
    free(text);
    wg_plan_free(plan);
    unrolled_free(&u);
}

Test(tiles, rows_go_in_as_many_tiles_of_one_size_for_each_thread) {
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 2, ", 32 rows in tiles of 16 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 1, ", 32 rows in tiles of 16 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 5, ", 32 rows in tiles of 7 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 3, .hidden = 4}, 64, ", 32 rows in tiles of 4 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 4}, 2, ", 100 rows in tiles of 25 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 4}, 8, ", 100 rows in tiles of 13 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 5, .input = 3, .hidden = 4}, 8, ", 5 rows in tiles of 3 ");
    is_scheduled("lstm", &(unrolled_sizes){.steps = 8, .batch = 1, .input = 3, .hidden = 4}, 8, ", 1 rows in tiles of 1 ");
}

static const unrolled_sizes one_row = {.steps = 24, .batch = 1, .input = 3, .hidden = 200},
                            few_rows = {.steps = 8, .batch = 9, .input = 3, .hidden = 272};

Test(tiles, few_rows_by_large_matrices_are_shared_within_an_iteration) {
    is_scheduled("lstm", &one_row, 2, ", 1 rows together, each time shared by threads");
    is_scheduled(norm_cell, &few_rows, 2, ", 9 rows together, each time shared by threads");
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
    all_agree("lstm", &one_row);
    all_agree("gru", &(unrolled_sizes){.steps = 24, .batch = 1, .input = 3, .hidden = 240});
    all_agree("lstm", &few_rows);
    all_agree(norm_cell, &few_rows);
    all_agree("rnn", &(unrolled_sizes){.steps = 8, .batch = 3, .input = 3, .hidden = 530});
    all_agree("lstm", &(unrolled_sizes){.steps = 8, .batch = 100, .input = 3, .hidden = 70});
    all_agree(norm_cell, &(unrolled_sizes){.steps = 8, .batch = 33, .input = 3, .hidden = 70});
}
