/* What leaves its steps to be made once for all of them: sums over the steps of several products, of what is the same in all, and of what is
 * carried from one to the next. */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "print_structure.h"

/* Lines within loops that have both words. */
static int loop_lines(const char *text, const char *word, const char *also) {
    int found = 0;
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *at = strstr(line, word), *other = strstr(line, also);
        found += strncmp(line, "  %", 3) == 0 && at && at < end && other && other < end;
    }
    return found;
}

/* A step that multiplies by one matrix several times: its gradient is a sum of as many products over all steps, and of none within a step. */
Test(time, products_of_one_matrix_within_a_step_leave_it_one_by_one) {
    static const char *const cells[] = {"cell c\ninput x\nsize hidden = input\nstate h\na = tanh(0.3*(W @ x + U @ h) + b)\nd = tanh(0.3*(U @ a) + b)\nh' = tanh(0.3*(W @ (d - a) + U @ d) + b)\n",
                                        "cell c\ninput x\nstate h, k\nh' = tanh(U @ (0.3*k + W @ x)) + 0.1*(U @ h)\nk' = tanh(0.3*(U @ h') + b*k)\n"};
    for (int k = 0; k < WG_LEN(cells); k++)
        for (int64_t steps = 1; steps <= 6; steps += 1 + 3 * (steps == 2)) {
            wg_var y[MOST];
            unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = steps, .batch = 17, .input = k ? 3 : 20, .hidden = 20});
            int n = all_gradients(&u, y);
            char *text = printed(n, y, "time"), *before = printed(n, y, "gates");
            cr_expect_eq(loop_lines(text, " = matmul ", "transpose_a"), 0, "%s", text);
            cr_expect(steps < 3 || loop_lines(before, " = matmul ", "transpose_a") >= 3, "%s", before);
            free(text);
            free(before);
            agrees(cells[k], n, y);
            unrolled_free(&u);
        }
}

/* Where the loss is the sum of the outputs, what comes down to a step's readout is the same in every step: the products and sums that are made of
 * it are, or are made with it of the sum over the steps. Nothing in the loop is the same for all rows. */
Test(time, what_is_added_up_of_what_is_the_same_in_all_steps_leaves_them) {
    static const char *const cells[] = {"cell c\ninput x\nstate h\nparam V[hidden, hidden]\nh' = tanh(W @ x + 0.3*(U @ h) + b)\nout = V @ h' + e\noutput out\n",
                                        "cell c\ninput x\nstate h\nparam V[hidden, hidden]\nh' = tanh(W @ x + 0.3*(U @ h) + b)\nout = 0.1*(V @ sin(V @ h' + d)) + e\noutput out\n",
                                        "cell c\ninput x\nstate h, n\nh' = 0.5*h + tanh(W @ x + b + d*n)\nn' = n + c\n"};
    for (int k = 0; k < WG_LEN(cells); k++)
        for (int64_t steps = 1; steps <= 6; steps += 1 + 3 * (steps == 2)) {
            wg_var y[MOST];
            unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = steps, .batch = 17, .input = 3, .hidden = 20});
            int n = with_gradients(&u, taped_sum(wg_unroll_output(u.unroll)), y);
            char *text = printed(n, y, "time"), *scheduled = printed(n, y, "schedule");
            cr_expect_eq(loop_lines(text, " = matmul ", "transpose_a"), 0, "%s", text);
            cr_expect(steps < 3 || count(scheduled, "\nloop ") == count(scheduled, " times, 17 rows in tiles"), "%s", scheduled);
            free(text);
            free(scheduled);
            agrees(cells[k], n, y);
            unrolled_free(&u);
        }
}

/* A gradient's own gradient goes through the steps once more, forwards: what its products are made of is carried from step to step, and its stack
 * is what it begins from and what is kept of all steps but the last; in pieces, where that is much. */
Test(time, products_of_what_is_carried_leave_the_steps_of_second_derivatives) {
    static const struct {
        const char *cell;
        unrolled_sizes sizes;
        int pieces; /* products of several, of which some are of the first derivative's */
    } of[] = {{"lstm", {.steps = 5, .batch = 17, .input = 3, .hidden = 12}, 0},
              {"gru", {.steps = 2, .batch = 17, .input = 3, .hidden = 12}, 0},
              {"cell c\ninput x\nstate h\nh' = tanh(0.3*(W @ x + U @ h))\n", {.steps = 6, .batch = 17, .input = 3, .hidden = 20}, 0},
              {"cell c\ninput x\nstate h, k\nh' = tanh(0.3*(W @ x + U @ h + V @ k))\nk' = h\n", {.steps = 6, .batch = 17, .input = 3, .hidden = 20}, 0},
              {"cell c\ninput x\nstate h\nh' = tanh(0.05*(W @ x + U @ h))\n", {.steps = 70, .batch = 32, .input = 3, .hidden = 64}, 2}};
    for (int k = 0; k < WG_LEN(of); k++) {
        wg_var y[MOST], again[MOST], by[UNROLLED_NAMES], product = {0};
        unrolled u = unrolled_new(of[k].cell, &of[k].sizes);
        int n = all_gradients(&u, y);
        for (int i = 1; i < n; i++)
            product = i == 1 ? weighed(y[i], 40) : add(product, weighed(y[i], 40 + (uint64_t)i));
        for (int i = 0; i < u.n; i++)
            by[i] = u.given[i].var;
        cr_assert_eq(wg_grad(product, u.n, by, again), WG_OK, "%s", wg_tape_message(u.tape));
        char *text = printed(u.n, again, "time"), *scheduled = printed(u.n, again, "schedule");
        cr_expect_eq(loop_lines(text, " = matmul ", "transpose_a"), 0, "%s", text);
        cr_expect(of[k].sizes.steps < 3 || count(scheduled, "\nloop ") == count(scheduled, " rows in tiles"), "%s", scheduled);
        cr_expect_geq(count(text, " = matmul_pieces "), of[k].pieces, "%s", text);
        free(text);
        free(scheduled);
        agrees(of[k].cell, u.n, again);
        unrolled_free(&u);
    }
}

/* Up to 31 products are added up so; of more, none leaves its step, and all is right. */
Test(time, very_many_products_of_one_matrix_stay_in_their_step) {
    for (int deep = 31; deep <= 33; deep += 1) {
        char text[4096], *end = text + sprintf(text, "cell c\ninput x\nstate h\nparam U[hidden, hidden]\nk1 = sin(h + W @ x)\n");
        for (int k = 2; k <= deep; k++)
            end += sprintf(end, "k%d = sin(0.3*(U @ k%d) + b)\n", k, k - 1);
        sprintf(end, "h' = sin(0.3*(U @ k%d))\n", deep);
        wg_var y[MOST];
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = 5, .batch = 4, .input = 3, .hidden = 6});
        int n = all_gradients(&u, y);
        char *program = printed(n, y, "time");
        cr_expect_eq(loop_lines(program, " = matmul ", "transpose_a"), deep < 32 ? 0 : deep, "%s", program);
        free(program);
        agrees(text, n, y);
        unrolled_free(&u);
    }
}
