/* Loops of compiled programs: which structure cells come to, whatever their words; that what does not roll is right too; failures,
 * memory and modes inside loops. */
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beside.h"
#include "failing.h"
#include "print_structure.h"

/* ---- plans beside evaluation ---- */

static structure tried(const char *what, const char *cell, const unrolled_sizes *sizes) {
    wg_var y[MOST];
    unrolled u = unrolled_new(cell, sizes);
    int n = all_gradients(&u, y);
    structure s = structure_of(n, y, "schedule");
    agrees(what, n, y);
    unrolled_free(&u);
    return s;
}

static const unrolled_sizes eight = {.steps = 8, .batch = 5, .input = 3, .hidden = 4};

Test(loop, cells_of_the_zoo_are_one_loop_forward_and_one_back_with_weight_gradients_outside) {
    /* products: before the first loop of x and the weights; after the last of what the weights' gradients sum, and x's */
    static const struct {
        const char *cell, *loops;
        int outside;
    } want[] = {{"rnn", "8:1 8:1", 4}, {"irnn", "8:1 8:1", 4}, {"lstm", "8:1 8:1", 4}, {"gru", "8:1 8:1", 5}, {"gru_v1", "8:2 8:2", 5}};
    for (int k = 0; k < WG_LEN(want); k++) {
        structure s = tried(want[k].cell, want[k].cell, &eight);
        cr_expect_str_eq(s.loops, want[k].loops, "%s: %s", want[k].cell, s.loops);
        cr_expect_eq(s.outside, want[k].outside, "%s: %d products outside", want[k].cell, s.outside);
    }
}

/* Every cotangent is the constant 1: the last step back, to the initial states, lacks it. */
Test(loop, a_loss_that_weighs_all_alike_is_one_loop_each_way_too) {
    static const char *const cells[] = {"rnn", "irnn", "lstm", "gru", "gru_v1"};
    for (int k = 0; k < WG_LEN(cells); k++) {
        wg_var y[MOST];
        unrolled u = unrolled_new(cells[k], &eight);
        wg_var loss = taped_sum(wg_unroll_output(u.unroll));
        for (int s = 0; s < wg_cell_states(u.cell); s++)
            loss = add(loss, taped_sum(wg_unroll_final(u.unroll, wg_cell_state(u.cell, s))));
        int n = with_gradients(&u, loss, y);
        structure s = structure_of(n, y, "schedule");
        cr_expect_str_eq(s.loops, strcmp(cells[k], "gru_v1") == 0 ? "8:2 8:2" : "8:1 8:1", "%s: %s", cells[k], s.loops);
        agrees(cells[k], n, y);
        unrolled_free(&u);
    }
}

/* As much as op by op; a first or last step that is made like the others may add a little. */
Test(loop, merged_products_compute_nothing_that_was_not_asked_for) {
    static const char *const cells[] = {"rnn", "irnn", "lstm", "gru", "gru_v1"};
    for (int k = 0; k < WG_LEN(cells); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = 32, .batch = 4, .input = 12, .hidden = 16});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, NULL, &error), *plain = wg_compile(n, y, &(wg_compile_options){.without = "even,roll,gates,time"}, &error);
        cr_assert(plan && plain, "%s", error.text);
        double all = wg_plan_measure(plan).flops, least = wg_plan_measure(plain).flops;
        cr_expect_leq(all, 1.05 * least, "%s: %g, not %g", cells[k], all, least);
        wg_plan_free(plan);
        wg_plan_free(plain);
        unrolled_free(&u);
    }
}

Test(loop, every_pass_can_be_seen_at_work) {
    wg_var y[MOST];
    unrolled u = unrolled_new("lstm", &eight);
    int n = all_gradients(&u, y);
    char *text = printed(n, y, "roll");
    cr_expect_eq(count(text, "\nloop "), 2, "%s", text);
    free(text);
    structure rolled = structure_of(n, y, "roll"), merged = structure_of(n, y, "gates"), lifted = structure_of(n, y, "time");
    cr_expect_str_eq(merged.loops, "8:2 8:10", "W x and U h are one each, W' d and U' d too; eight weight gradients: %s", merged.loops);
    cr_expect_str_eq(lifted.loops, "8:1 8:1", "%s", lifted.loops);
    cr_expect_neq(strcmp(rolled.loops, merged.loops), 0);
    text = printed(n, y, "fuse");
    cr_expect_gt(count(text, "  region "), 10);
    free(text);
    text = printed(n, y, "schedule");
    cr_expect_eq(count(text, ", 5 rows in tiles of 3 "), 2, "%s", text);
    free(text);
    unrolled_free(&u);
}

/* What is kept of a step is a number a row, not the row that it is made of. */
Test(loop, a_small_result_that_only_the_derivative_reads_is_made_in_the_step_forward) {
    wg_var y[MOST];
    unrolled u = unrolled_new("cell c\ninput x\nstate h\nh' = tanh(a*layer_norm(W @ x + U @ h) + b)\n", &(unrolled_sizes){.steps = 8, .batch = 5, .input = 3, .hidden = 40});
    int n = all_gradients(&u, y);
    char *text = printed(n, y, "schedule");
    cr_expect_eq(count(text, " = norm_scale "), 1, "%s", text);
    cr_expect(strstr(text, " = norm_scale ") < strstr(text, "\nloop 2"), "%s", text);
    cr_expect_eq(count(text, " = stacked f64(8,5,1)"), 1, "%s", text);
    free(text);
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, NULL, &error), *plain = wg_compile(n, y, &(wg_compile_options){.without = "early"}, &error);
    cr_assert(plan && plain, "%s", error.text);
    cr_expect_lt(wg_plan_measure(plan).live_bytes + 7 * 5 * 40 * sizeof(double), wg_plan_measure(plain).live_bytes);
    wg_plan_free(plan);
    wg_plan_free(plain);
    agrees("layer_norm", n, y);
    unrolled_free(&u);
}

/* The states before each step, which the gradient of U is a product with, are the first and all but the last of the others: of many, no
 * copy puts them together. */
Test(loop, many_states_are_not_put_together_for_a_product) {
    static const char *const cells[] = {"cell c\ninput x\nstate h\nh' = tanh(W @ x + 0.3*(U @ h) + b)\n", "lstm"}; /* of one matrix, and of more */
    for (int k = 0; k < 4; k++) {
        const int64_t steps = k % 2 ? 70 : 60;
        wg_var y[MOST];
        unrolled u = unrolled_new(cells[k / 2], &(unrolled_sizes){.steps = steps, .batch = 32, .input = 3, .hidden = 64});
        int n = all_gradients(&u, y);
        char *text = printed(n, y, "schedule");
        cr_expect_eq(count(text, " = matmul_pieces "), steps > 64, "%s", text);
        cr_expect_eq(count(text, " = concat f64(60,32,64)"), steps <= 64, "%s", text);
        cr_expect_eq(count(text, " = concat f64(70,"), 0, "%s", text);
        cr_expect_eq(count(text, " = add_rows ") > 0, k >= 2, "biases' gradients, of many gates: %s", text);
        free(text);
        if (k < 2) /* with these draws an LSTM's gradients explode over so many steps: no two ways agree */
            agrees(cells[k / 2], n, y);
        unrolled_free(&u);
    }
    /* Gates' gradients side by side, of which some columns are multiplied. */
    wg_var y[MOST];
    unrolled u = unrolled_new("cell c\ninput x\nstate h\nk = 0.3*h\nr = sigmoid(W_r @ x + U_r @ k)\nz = sigmoid(W_z @ x + U_z @ k)\n"
                              "h' = (1 - z)*tanh(W_n @ x + r*(U_n @ k + b)) + 0.3*(z*k)\n",
                     &(unrolled_sizes){.steps = 70, .batch = 32, .input = 3, .hidden = 64});
    agrees("a reset gate", all_gradients(&u, y), y);
    unrolled_free(&u);
    u = unrolled_new("cell c\ninput x\nstate h, p, q\np' = h\nq' = p\nh' = tanh(W @ x + 0.02*(U @ h + V @ p + Z @ q))\n",
                     &(unrolled_sizes){.steps = 70, .batch = 64, .input = 3, .hidden = 32});
    int n = all_gradients(&u, y);
    char *text = printed(n, y, "schedule");
    cr_expect_eq(count(text, " = matmul_pieces "), 3, "before p's own stack, which is h's, stand two states; before h's and q's one: %s", text);
    free(text);
    agrees("states of two and three steps before", n, y);
    unrolled_free(&u);
    /* Two to eight pieces are added up; two states have nine and ten, and are copied; one has a stack of its own, less its first state. */
    u = unrolled_new("cell c\ninput x\nstate h, a, b, c, d, e, f, g, i, j\na' = h\nb' = a\nc' = b\nd' = c\ne' = d\nf' = e\ng' = f\ni' = g\nj' = i\n"
                     "h' = tanh(W @ x + 0.02*(U @ h + U_a @ a + U_b @ b + U_c @ c + U_d @ d + U_e @ e + U_f @ f + U_g @ g + U_i @ i + U_j @ j))\n",
                     &(unrolled_sizes){.steps = 70, .batch = 64, .input = 3, .hidden = 32});
    n = all_gradients(&u, y);
    text = printed(n, y, "schedule");
    cr_expect_eq(count(text, " = matmul_pieces "), 8, "%s", text);
    free(text);
    agrees("states of many steps before", n, y);
    unrolled_free(&u);
}

/* The derivative reads a gate z, and 1 - z, which it makes of z. What its products read (r*h, of r and h, which it reads too), what is
 * asked for, and what is made of what is made again, is kept. */
Test(loop, what_is_cheap_is_made_again_for_the_derivative_and_not_kept) {
    static const struct {
        const char *cell;
        int64_t spared; /* values a step */
        int again;      /* differences in the derivative's loop */
    } want[] = {{"gru", 1, 1}, {"gru_v1", 1, 1}, {"cell c\ninput x\nstate h\nz = sigmoid(W @ x + U @ h)\nd = 1 - z\nh' = z*h + d*tanh(V @ x)\noutput d\n", 0, 0},
                {"cell c\ninput x\nstate h\nz = sigmoid(W @ x + U @ h)\nh' = z*h + (1 - z)*(1 - z)*tanh(V @ x)\n", 1, 1}};
    for (int k = 0; k < WG_LEN(want); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(want[k].cell, &(unrolled_sizes){.steps = 8, .batch = 5, .input = 40, .hidden = 40});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, NULL, &error), *kept = wg_compile(n, y, &(wg_compile_options){.without = "again"}, &error);
        cr_assert(plan && kept, "%s", error.text);
        cr_expect_geq(wg_plan_measure(kept).live_bytes, wg_plan_measure(plan).live_bytes + (size_t)(want[k].spared * 7 * 5 * 40 * 8), "%s: %zu of %zu",
                      want[k].cell, wg_plan_measure(plan).live_bytes, wg_plan_measure(kept).live_bytes);
        char *with = printed(n, y, "again"), *without = printed(n, y, "even");
        cr_expect_eq(count(with, " = sub "), count(without, " = sub ") + 8 * want[k].again, "%s: %s", want[k].cell, with);
        cr_expect_eq(count(with, " = mul "), count(without, " = mul "), "%s: %s", want[k].cell, with);
        free(with);
        free(without);
        wg_plan_free(plan);
        wg_plan_free(kept);
        agrees(want[k].cell, n, y);
        unrolled_free(&u);
    }
    wg_var y[MOST];
    unrolled u = unrolled_new("gru", &(unrolled_sizes){.steps = 1, .batch = 5, .input = 40, .hidden = 40});
    int n = all_gradients(&u, y);
    char *with = printed(n, y, "again"), *without = printed(n, y, "even");
    cr_expect_eq(count(with, " = sub "), count(without, " = sub "), "nothing is kept of a step alone: %s", with);
    free(with);
    free(without);
    unrolled_free(&u);
}

/* A norm of the state before, of what is made once for all steps, of the input: no step falls out of its loop for it. */
Test(loop, small_results_move_only_where_all_steps_give_them_away) {
    static const char *const cells[] = {"cell c\ninput x\nstate h\nh' = tanh(U @ layer_norm(h) + W @ x)\n",
                                        "cell c\ninput x\nstate h\nh' = tanh(W @ x + layer_norm(b*d) * (U @ h))\n",
                                        "cell c\ninput x\nstate h\nh' = tanh(W @ layer_norm(x) + U @ h)\n",
                                        "cell c\ninput x\nstate h, c\nc' = layer_norm(c + W @ x + U @ h)\nh' = tanh(layer_norm(layer_norm(c')*h))\n"};
    for (int k = 0; k < WG_LEN(cells); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = 8, .batch = 5, .input = 16, .hidden = 24});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, NULL, &error), *plain = wg_compile(n, y, &(wg_compile_options){.without = "early"}, &error);
        cr_assert(plan && plain, "%s", error.text);
        char *text = printed_plan(plan), *without = printed_plan(plain);
        cr_expect_leq(count(text, "\nloop "), count(without, "\nloop "), "%s: %s", cells[k], text);
        cr_expect_leq(count(text, ", 8 times, 5 rows in tiles"), 2);
        cr_expect_geq(count(text, ", 8 times, 5 rows in tiles"), count(without, ", 8 times, 5 rows in tiles"), "%s: %s", cells[k], text);
        free(text);
        free(without);
        wg_plan_free(plan);
        wg_plan_free(plain);
        agrees(cells[k], n, y);
        unrolled_free(&u);
    }
}

/* ---- other words for the same ---- */

#define HEAD "cell c\ninput x\nstate h, c\n"

static const char *const plainly = HEAD "i = sigmoid(W_i @ x + U_i @ h + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\n"
                                        "g = tanh(W_g @ x + U_g @ h + b_g)\no = sigmoid(W_o @ x + U_o @ h + b_o)\n"
                                        "c' = f*c + i*g\nh' = o*tanh(c')\n";

Test(loop, a_cell_in_other_words_has_the_same_structure) {
    static const struct {
        const char *what, *text;
        int apart; /* by how many instructions it may differ */
    } same[] = {
        {"renamed", "cell d\ninput in\nstate out, mem\ni = sigmoid(A1 @ in + B1 @ out + k1)\nf = sigmoid(A2 @ in + B2 @ out + k2)\n"
                    "g = tanh(A3 @ in + B3 @ out + k3)\no = sigmoid(A4 @ in + B4 @ out + k4)\nmem' = f*mem + i*g\nout' = o*tanh(mem')\n", 0},
        {"reordered", HEAD "g = tanh(b_g + U_g @ h + W_g @ x)\no = sigmoid(U_o @ h + W_o @ x + b_o)\nf = sigmoid(W_f @ x + b_f + U_f @ h)\n"
                           "i = sigmoid(W_i @ x + U_i @ h + b_i)\nc' = i*g + c*f\nh' = tanh(c')*o\n", 40},
        {"split", HEAD "wi = W_i @ x\nui = U_i @ h\nsi = wi + ui\ni = sigmoid(si + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\npg = W_g @ x + U_g @ h\n"
                       "g = tanh(pg + b_g)\no = sigmoid(W_o @ x + U_o @ h + b_o)\nkept = f*c\nnew = i*g\nc' = kept + new\nt = tanh(c')\nh' = o*t\n", 0},
        {"one gate more", HEAD "i = sigmoid(W_i @ x + U_i @ h + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\ng = tanh(W_g @ x + U_g @ h + b_g)\n"
                               "e = sigmoid(W_e @ x + U_e @ h + b_e)\no = sigmoid(W_o @ x + U_o @ h + b_o)\nc' = f*c + i*g*e\nh' = o*tanh(c')\n", 60},
        {"softsign for tanh", HEAD "i = sigmoid(W_i @ x + U_i @ h + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\ng = softsign(W_g @ x + U_g @ h + b_g)\n"
                                   "o = sigmoid(W_o @ x + U_o @ h + b_o)\nc' = f*c + i*g\nh' = o*softsign(c')\n", 60}};
    structure want = tried("plainly", plainly, &eight);
    for (int k = 0; k < WG_LEN(same); k++) {
        structure s = tried(same[k].what, same[k].text, &eight);
        cr_expect_str_eq(s.loops, want.loops, "%s: %s", same[k].what, s.loops);
        cr_expect_eq(s.outside, want.outside, "%s: %d products outside", same[k].what, s.outside);
        cr_expect_leq(labs((long)(s.instructions - want.instructions)), same[k].apart, "%s: %lld instructions, not %lld", same[k].what,
                      (long long)s.instructions, (long long)want.instructions);
    }
}

Test(loop, cells_with_rows_and_parts_roll_too) {
    static const char *const cells[][2] = {
        {"layer norm", HEAD "a = layer_norm(W @ x + U @ h)\nc' = sigmoid(a + p*c)*c + tanh(V @ x)\nh' = tanh(c' + a)\n"},
        {"softmax", HEAD "a = softmax(W @ x + U @ h)\nc' = a*c\nh' = tanh(P @ c')\n"},
        {"wide gates", "cell c\nsize wide = 3*hidden\ninput x\nstate h\nparam W[wide, input]\nparam U[wide, hidden]\na = W @ x + U @ h\n"
                       "h' = tanh(slice(a, 0, hidden))*sigmoid(slice(a, hidden, hidden)) + slice(a, 2*hidden, hidden)\n"},
        {"concat", "cell c\ninput x\nstate h\nparam W[hidden, input + hidden]\nh' = tanh(W @ concat(x, h))\n"},
        {"reset", "cell c\ninput x\nstate h\nr = sigmoid(W @ x + U @ h)\nh' = tanh(V @ (r*h) + R @ x) - 0.1*h\n"},
        {"states that read each other", HEAD "h' = tanh(W @ x + U @ c)\nc' = tanh(V @ h)\n"},
        {"three in a ring", "cell c\ninput x\nstate h, c, d\nh' = tanh(W @ x + U @ d)\nc' = tanh(V @ h)\nd' = tanh(P @ c)\n"},
        {"a state that leaks", HEAD "h' = tanh(W @ x + U @ h)\nc' = 0.5*c + sigmoid(V @ h')\n"},
        {"peepholes", HEAD "i = sigmoid(W_i @ x + U_i @ h + p_i*c)\nc' = (1 - i)*c + i*tanh(W @ x + U @ h)\nh' = sigmoid(U_o @ h + p_o*c')*tanh(c')\n"}};
    for (int k = 0; k < WG_LEN(cells); k++) {
        structure s = tried(cells[k][0], cells[k][1], &eight);
        cr_expect_eq(count(s.loops, "8:"), 2, "%s: %s", cells[k][0], s.loops);
        cr_expect_eq(count(s.loops, ":"), 2, "%s: %s", cells[k][0], s.loops);
    }
}

/* ---- sizes ---- */

Test(loop, any_number_of_steps_and_rows_is_right) {
    static const char *const cells[] = {"rnn", "lstm", "gru"};
    static const int64_t rows[] = {1, 2, 16, 17, 33};
    for (int64_t steps = 1; steps <= 6; steps++)
        for (int k = 0; k < WG_LEN(cells); k++)
            for (int b = 0; b < WG_LEN(rows); b++) {
                char what[80];
                snprintf(what, sizeof what, "%s over %lld steps of %lld rows", cells[k], (long long)steps, (long long)rows[b]);
                structure s = tried(what, cells[k], &(unrolled_sizes){.steps = steps, .batch = rows[b], .input = 3, .hidden = 4});
                if (steps >= 5) {
                    char want[32];
                    snprintf(want, sizeof want, "%lld:1 %lld:1", (long long)steps, (long long)steps);
                    cr_expect_str_eq(s.loops, want, "%s: %s", what, s.loops);
                }
            }
}

Test(loop, programs_do_not_grow_with_steps_and_compiling_is_linear_in_them) {
    int64_t instructions[2];
    size_t peak[2], calls[2];
    for (int k = 0; k < 2; k++) {
        wg_var y[MOST];
        unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = k ? 2000 : 500, .batch = 2, .input = 2, .hidden = 3});
        int n = all_gradients(&u, y);
        wg_memory *memory = wg_memory_new(NULL, 0), *own = u.tape->memory;
        wg_error error = {0};
        u.tape->memory = memory; /* what is counted is the compiler's */
        wg_plan *plan = wg_compile(n, y, NULL, &error);
        u.tape->memory = own;
        cr_assert_not_null(plan, "%s", error.text);
        instructions[k] = wg_plan_measure(plan).instructions;
        peak[k] = wg_memory_peak(memory), calls[k] = wg_memory_calls(memory);
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
        wg_tensor *want = taped_value(y[0]);
        cr_expect(taped_close(want, wg_plan_output(plan, 0)));
        wg_tensor_free(want);
        wg_plan_free(plan);
        cr_assert_eq(wg_memory_used(memory), 0);
        wg_memory_free(memory);
        unrolled_free(&u);
    }
    cr_expect_eq(instructions[0], instructions[1], "%lld and %lld", (long long)instructions[0], (long long)instructions[1]);
    cr_expect_lt(peak[1], 5 * peak[0], "%zu bytes after %zu", peak[1], peak[0]);
    cr_expect_lt(calls[1], calls[0] + 64, "%zu blocks after %zu", calls[1], calls[0]);
}

/* ---- steps that are not all alike ---- */

typedef struct odd_one {
    int64_t at, now;
    wg_tensor *kept; /* where not NULL, a step stores h there */
    wg_var *store;
} odd_one;

/* tanh(W x + U h), and at one step something else besides. */
static wg_status odd_step(wg_step *step, void *user) {
    odd_one *o = user;
    wg_var h = wg_step_get(step, "h"), a = add(matmul(wg_step_get(step, "x"), wg_step_get(step, "W"), false, true),
                                               matmul(h, wg_step_get(step, "U"), false, true));
    if (o->now == o->at && o->kept)
        *o->store = wg_store(o->kept, square(h));
    else if (o->now == o->at)
        a = mul(a, cos(h));
    o->now++;
    return wg_step_set(step, "h", tanh(a));
}

static unrolled odd_unroll(odd_one *o, wg_cell **cell, int64_t steps) {
    unrolled u = unrolled_step(&(unrolled_sizes){.steps = steps, .batch = 5, .input = 3, .hidden = 4}, odd_step, o);
    *cell = u.cell;
    return u;
}

Test(loop, a_step_with_an_op_of_its_own_stands_between_loops) {
    for (int64_t at = 0; at < 12; at++) {
        odd_one o = {.at = at};
        wg_cell *cell;
        wg_var y[MOST];
        char what[40], want[80];
        unrolled u = odd_unroll(&o, &cell, 12);
        int n = all_gradients(&u, y);
        snprintf(what, sizeof what, "op in step %lld", (long long)at);
        agrees(what, n, y);
        structure s = structure_of(1, y, "roll");
        if (at == 5) {
            snprintf(want, sizeof want, "5:2 1:2 6:2");
            cr_expect_str_eq(s.loops, want, "%s", s.loops);
        }
        unrolled_free(&u);
    }
}

Test(loop, stores_in_steps_are_made) {
    for (int64_t at = 0; at < 9; at += 4) {
        wg_var store = {0}, y[MOST];
        wg_tensor *kept = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){5, 4});
        odd_one o = {.at = at, .kept = kept, .store = &store};
        wg_cell *cell;
        wg_error error = {0};
        unrolled u = odd_unroll(&o, &cell, 9);
        int n = all_gradients(&u, y);
        y[n] = square(wg_at(u.unroll, at - 1, "h"));
        wg_tensor *want = taped_value(y[n]);
        y[n++] = store;
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_expect(taped_close(want, kept), "store in step %lld", (long long)at);
        wg_tensor *loss = taped_value(y[0]);
        cr_expect(taped_close(loss, wg_plan_output(plan, 0)));
        wg_tensor_free(loss);
        wg_tensor_free(want);
        wg_plan_free(plan);
        wg_tensor_free(kept);
        unrolled_free(&u);
    }
}

Test(loop, values_are_read_in_the_middle) {
    static const int64_t at[] = {-1, 0, 1, 3, 6, 7};
    for (int k = 0; k < WG_LEN(at); k++) {
        wg_var y[MOST];
        char what[40];
        unrolled u = unrolled_new("lstm", &eight);
        wg_var loss = add(weighed(wg_at(u.unroll, at[k], "h"), 3), weighed(wg_at(u.unroll, wg__max(at[k] / 2, 0), "f"), 4));
        int n = with_gradients(&u, loss, y);
        y[n++] = wg_at(u.unroll, at[k], "c");
        y[n++] = wg_unroll_all(u.unroll, "i");
        snprintf(what, sizeof what, "h at %lld", (long long)at[k]);
        agrees(what, n, y);
        unrolled_free(&u);
    }
}

Test(loop, draws_in_steps_are_evaluation_s) {
    static const char *const text = "cell c\ninput x\nstate h\na = dropout(tanh(W @ x + U @ h), 0.3)\nz = bernoulli(0.4, hidden)\nh' = z*h + (1 - z)*a\n";
    wg_var y[MOST];
    unrolled_sizes sizes = eight;
    sizes.training = true, sizes.key = 9;
    unrolled u = unrolled_new(text, &sizes);
    int n = all_gradients(&u, y);
    agrees("dropout", n, y);
    unrolled_free(&u);
    structure s = tried("their means", text, &eight);
    cr_expect_str_eq(s.loops, "8:1 8:1", "%s", s.loops);
}

Test(loop, padding_of_nan_touches_nothing) {
    static const int32_t lengths[] = {8, 1, 0, 5, 7};
    static const char *const cells[] = {"rnn", "lstm", "gru"};
    for (int k = 0; k < WG_LEN(cells); k++) {
        wg_var y[MOST];
        unrolled_sizes sizes = eight;
        sizes.lengths = lengths;
        unrolled u = unrolled_new(cells[k], &sizes);
        int n = all_gradients(&u, y);
        for (int64_t t = 0; t < 8; t++)
            for (int64_t b = 0; b < 5; b++)
                for (int64_t i = 0; i < 3 && t >= lengths[b]; i++)
                    wg_tensor_set(u.kept[0], (t * 5 + b) * 3 + i, NAN);
        agrees(cells[k], n, y);
        wg_tensor *value[MOST];
        cr_assert_eq(wg_eval(n, y, value, NULL), WG_OK);
        for (int i = 0; i < n; i++) {
            for (int64_t e = 0; e < wg_tensor_shape(value[i])->count; e++)
                cr_assert(isfinite(wg_tensor_get(value[i], e)), "%s, output %d", cells[k], i);
            wg_tensor_free(value[i]);
        }
        structure s = structure_of(n, y, "schedule");
        cr_expect(strncmp(s.loops, "8:1 8:", 6) == 0 && count(s.loops, ":") == 2, "%s: %s", cells[k], s.loops);
        unrolled_free(&u);
    }
}

/* ---- what fails ---- */

/* h <- tanh(row index[t] of the table + h), recorded as line 7 of a.cell. */
static wg_var gathers(wg_tape *tape, wg_tensor *index, wg_var table, wg_var h) {
    int64_t steps = wg_tensor_shape(index)->dim[0], rows = wg_tensor_shape(index)->dim[1];
    wg_var all = wg_leaf(tape, index);
    uint32_t line = wg__origin_new(tape, "a.cell:7"), unroll = tape->unrolls++;
    for (int64_t t = 0; t < steps; t++) {
        wg__step_mark(tape, unroll, t);
        wg_var now = reshape(slice(all, 0, t, 1), 1, &rows);
        wg__origin_set(tape, line);
        h = tanh(add(gather(table, now, 0), h));
        wg__origin_set(tape, 0);
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    return h;
}

Test(loop, a_failing_kernel_names_its_line_and_leaves_the_plan_usable) {
    const int64_t steps = 7, rows = 20;
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *index = wg_tensor_new(NULL, WG_I32, 2, (const int64_t[]){steps, rows});
    wg_var table, h, y[2];
    wg_error error = {0};
    leaf_of(tape, 2, (const int64_t[]){6, 4}, 1, &table);
    leaf_of(tape, 2, (const int64_t[]){rows, 4}, 2, &h);
    for (int64_t i = 0; i < steps * rows; i++)
        wg_tensor_set(index, i, (double)(i * 7 % 6));
    y[0] = gathers(tape, index, table, h);
    cr_assert_eq(wg_grad(weighed(y[0], 3), 1, &table, &y[1]), WG_OK, "%s", wg_tape_message(tape));
    structure s = structure_of(1, y, "schedule");
    cr_expect_str_eq(s.loops, "7:0", "%s", s.loops);
    agrees("gathers", 2, y);
    wg_plan *plan = wg_compile(2, y, &(wg_compile_options){.run.threads = 2}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_tensor *want = taped_value(y[0]);
    for (int64_t at = 0; at < steps * rows; at += 23) {
        for (int threads = 1; threads <= 2; threads++) {
            double before = wg_tensor_get(index, at);
            error = (wg_error){0};
            wg_tensor_set(index, at, 6);
            cr_expect_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads}, &error), WG_RANGE, "%s", error.text);
            cr_expect_not_null(strstr(error.text, "gather"), "%s", error.text);
            cr_expect_not_null(strstr(error.text, "a.cell:7"), "%s", error.text);
            char place[40];
            snprintf(place, sizeof place, "position %d lies", (int)(at % rows));
            cr_expect_not_null(strstr(error.text, place), "%s: %s", place, error.text);
            wg_tensor_set(index, at, before);
            cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads}, &error), WG_OK, "%s", error.text);
            cr_expect(taped_close(want, wg_plan_output(plan, 0)));
        }
    }
    wg_tensor_free(want);
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(index);
}

static void survives(const char *text, const unrolled_sizes *sizes, int64_t least) {
    wg_var y[MOST];
    unrolled u = unrolled_new(text, sizes);
    int n = all_gradients(&u, y);
    wg_memory *own = u.tape->memory;
    wg_tensor *want = taped_value(y[1]);
    long k = 0;
    for (bool done = false; !done;) {
        failing f;
        wg_error error = {0};
        wg_memory *memory = failing_memory(&f, ++k);
        u.tape->memory = memory;
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true, .run.threads = 2, .far_bytes = 1}, &error);
        wg_workspace *more = plan ? wg_workspace_new(plan) : NULL;
        u.tape->memory = own;
        done = !failing_failed(&f);
        cr_assert((plan && more) || !done, "nothing was refused, yet: %s", error.text);
        cr_assert(plan || error.status == WG_MEMORY, "%s, refusal %ld: %s", text, k, error.text);
        if (plan) {
            cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
            cr_assert(taped_close(want, wg_plan_output(plan, 1)));
        }
        wg_workspace_free(more);
        wg_plan_free(plan);
        cr_assert_eq(f.live, 0, "%s, refusal %ld leaks", text, k);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, least, "%s: %ld allocations", text, k);
    wg_tensor_free(want);
    unrolled_free(&u);
}

Test(loop, every_failing_allocation_is_survived) {
    survives("cell c\nsize wide = 2*hidden\ninput x\nstate h = h0\nparam W[wide, input]\nparam U[wide, hidden]\na = W @ x + U @ h + b\n"
             "r = sigmoid(slice(a, 0, hidden))\nh' = tanh(P @ (r*h) + layer_norm(slice(a, hidden, hidden)))\n",
             &(unrolled_sizes){.steps = 6, .batch = 3, .input = 2, .hidden = 2}, 150);
}

/* Regions of several steps; gates made again; states that are not put together for a product. A state that is read at a third keeps
 * gradients from growing. */
Test(loop, every_failing_allocation_of_large_programs_is_survived) {
    static const char *const cells[] = {"cell c\ninput x\nstate h\nh' = tanh(W @ x + U @ (0.3*h) + b)\n",
                                        "cell c\ninput x\nstate h\nk = 0.3*h\nr = sigmoid(W_r @ x + U_r @ k + b_r)\nz = sigmoid(W_z @ x + U_z @ k + b_z)\n"
                                        "n = tanh(W_n @ x + r*(U_n @ k + d))\nh' = (1 - z)*n + z*h\n",
                                        "cell c\ninput x\nstate h\nk = 0.3*h\nr = sigmoid(W_r @ x + U_r @ k + b_r)\nz = sigmoid(W_z @ x + U_z @ k + b_z)\n"
                                        "n = tanh(W_n @ x + U_n @ (r*k))\nh' = (1 - z)*n + z*h\n"};
    for (int k = 0; k < WG_LEN(cells); k++)
        survives(cells[k], &(unrolled_sizes){.steps = 10, .batch = 330, .input = 1, .hidden = 40}, 150);
    survives("gru", &(unrolled_sizes){.steps = 6, .batch = 3, .input = 3, .hidden = 4}, 150);
    survives("cell c\ninput x\nstate h, c\nk = 0.1*h\nd = 0.1*c\nh' = U @ k + (U @ d + W @ x) + (V @ d + V @ k)\nc' = Z @ k + W @ x + k + d\n",
             &(unrolled_sizes){.steps = 6, .batch = 32, .input = 3, .hidden = 20}, 150);
}

Test(loop, a_number_that_a_region_reads_often_is_repeated_once) {
    static const char *const cells[] = {"cell c\ninput x\nstate h\nparam a[1]\nh' = tanh(a*h + W @ x)\n",
                                        "cell c\ninput x\nstate h\nparam a[1]\nh' = tanh(a*(a*(a*(a*(a*h)))) + W @ x)\n"};
    size_t bytes[2];
    for (int k = 0; k < 2; k++) {
        unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = 6, .batch = 3, .input = 4, .hidden = 4});
        wg_var y = wg_unroll_output(u.unroll);
        agrees(cells[k], 1, &y);
        wg_plan *plan = wg_compile(1, &y, NULL, NULL);
        bytes[k] = plan->lane_bytes;
        wg_plan_free(plan);
        unrolled_free(&u);
    }
    cr_expect_lt(bytes[1], bytes[0] + 256 * sizeof(double), "%zu bytes, and %zu with four uses more", bytes[0], bytes[1]);
}

Test(loop, a_run_allocates_nothing) {
    wg_var y[MOST];
    unrolled u = unrolled_new("lstm", &eight);
    int n = all_gradients(&u, y);
    wg_memory *memory = wg_memory_new(NULL, 0), *own = u.tape->memory;
    u.tape->memory = memory;
    wg_plan *plan = wg_compile(n, y, NULL, NULL);
    u.tape->memory = own;
    cr_assert_not_null(plan);
    size_t calls = wg_memory_calls(memory), used = wg_memory_used(memory);
    for (int k = 0; k < 5; k++)
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
    cr_expect_eq(wg_memory_calls(memory), calls);
    cr_expect_eq(wg_memory_used(memory), used);
    wg_plan_free(plan);
    wg_memory_free(memory);
    unrolled_free(&u);
}

/* ---- how it runs ---- */

Test(loop, products_of_whole_iterations_have_the_same_bits_on_any_number_of_threads) {
    wg_error error = {0};
    wg_var y[MOST];
    unrolled u = unrolled_step(&(unrolled_sizes){.steps = 6, .batch = 64, .input = 3, .hidden = 150}, centred_step, NULL);
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    int whole = 0;
    for (int64_t id = 1; id < plan->program->count; id++) {
        const wg_instruction *i = &plan->program->list[id];
        whole += strcmp(i->op->name, "packed_product") == 0 && i->loop && plan->program->loops[i->loop - 1].rows == 0;
    }
    cr_expect_eq(whole, 2, "forward and back: %d", whole);
    wg_plan_free(plan);
    agrees("centred", n, y);
    unrolled_free(&u);
}

Test(loop, a_forked_child_runs_loops_with_the_same_bits) {
    wg_var y[MOST];
    unrolled u = unrolled_new("gru", &(unrolled_sizes){.steps = 8, .batch = 40, .input = 3, .hidden = 4});
    int n = all_gradients(&u, y), status = 0;
    wg_tensor *before[MOST];
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = 4}, NULL);
    cr_assert_eq(wg_run(plan, NULL), WG_OK);
    for (int i = 0; i < n; i++)
        before[i] = wg_tensor_copy(NULL, wg_plan_output(plan, i));
    pid_t child = fork();
    if (child == 0) {
        bool same = wg_run(plan, NULL) == WG_OK;
        for (int i = 0; i < n; i++)
            same = same && memcmp(wg_tensor_data(before[i]), wg_tensor_data(wg_plan_output(plan, i)), wg_tensor_bytes(before[i])) == 0;
        _exit(same ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    cr_assert_eq(wg_run(plan, NULL), WG_OK, "the parent goes on");
    for (int i = 0; i < n; i++)
        wg_tensor_free(before[i]);
    wg_plan_free(plan);
    unrolled_free(&u);
}

/* A sum that begins with an element of a leaf, which the first step hands on as it is, and in a plan with the addition of -0. */
Test(loop, subnormals_that_are_only_moved_stay_or_are_zero_and_nothing_else_differs) {
    enum { T = 6, B = 4, N = 3 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){T, B, N});
    for (int64_t i = 0; i < T * B * N; i++)
        wg_tensor_set(t, i, (i % 2 ? -1 : 1) * (i % 3 ? 1e-310 : 1e-3) * (double)(i + 1));
    wg_var x = wg_leaf(tape, t), sum = x, all[T];
    for (int64_t k = 0; k < T; k++) {
        wg__step_mark(tape, 3, k);
        wg_var now = wg_reshape(slice(x, 0, k, 1), 2, (const int64_t[]){B, N});
        sum = k ? add(now, sum) : now;
        all[k] = wg_concat(2, (const wg_var[]){sum, sum}, 1);
    }
    wg__step_mark(tape, 3, WG_NO_STEP);
    wg_var y = wg_stack(T, all, 0);
    structure s = structure_of(1, &y, "roll");
    cr_expect_str_eq(s.loops, "6:0", "%s", s.loops);
    for (int keep = 0; keep < 2; keep++) {
        wg_run_options run = {.keep_subnormals = keep};
        wg_plan *plan = wg_compile(1, &y, &(wg_compile_options){.run = run}, NULL);
        wg_tensor *want;
        cr_assert_eq(wg_eval_with(&run, 1, &y, &want, NULL), WG_OK);
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
        for (int64_t i = 0; i < wg_tensor_shape(want)->count; i++) {
            double w = wg_tensor_get(want, i), g = wg_tensor_get(wg_plan_output(plan, 0), i);
            bool flushed = !keep && fpclassify(w) == FP_SUBNORMAL && g == 0;
            cr_expect((w == g || flushed) && signbit(w) == signbit(g), "%g, not %g, at %lld", g, w, (long long)i);
        }
        wg_tensor_free(want);
        wg_plan_free(plan);
    }
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(loop, subnormals_are_flushed_or_kept_on_every_thread) {
    static const char *const text = "cell c\ninput x\nstate h\nh' = 0.001*h*cos(W @ x)\n";
    wg_var y;
    unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = 6, .batch = 40, .input = 4, .hidden = 4});
    wg_tensor_fill(u.kept[0], 0);
    wg_tensor_fill(u.kept[u.n - 1], 1e-300); /* h */
    y = wg_unroll_output(u.unroll);
    structure s = structure_of(1, &y, "schedule");
    cr_expect_str_eq(s.loops, "6:0", "%s", s.loops);
    wg_plan *plan = wg_compile(1, &y, &(wg_compile_options){.run.threads = 4}, NULL);
    for (int threads = 1; threads <= 4; threads++)
        for (int keep = 0; keep < 2; keep++) {
            cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads, .keep_subnormals = keep}, NULL), WG_OK);
            for (int64_t i = 0; i < 6 * 160; i++) {
                double h = wg_tensor_get(wg_plan_output(plan, 0), i), want = 1e-300 * pow(1e-3, (double)(i / 160 + 1));
                bool normal = i / 160 < 2;
                cr_assert(keep || normal ? fabs(h - want) <= 1e-12 * want + 5e-324 : h == 0, "%g at step %lld, not %g", h, (long long)(i / 160), want);
            }
        }
    wg_plan_free(plan);
    unrolled_free(&u);
}

/* ---- where the time goes ---- */

Test(loop, a_profile_parts_the_time_of_all_threads_and_names_the_kernels) {
    wg_var y[MOST];
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 16, .batch = 40, .input = 16, .hidden = 32});
    int n = all_gradients(&u, y);
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    wg_tensor *want = wg_tensor_copy(NULL, wg_plan_output(plan, n - 1));
    int64_t count = wg_plan_measure(plan).instructions + 1;
    for (int threads = 1; threads <= 3; threads++) {
        wg_profile p = {.kernel = calloc((size_t)count, sizeof(double))};
        double kind[WG_COMPOSITE + 1] = {0}, all = 0;
        for (int k = 0; k < 3; k++)
            cr_assert_eq(wg_run_profiled(plan, NULL, &(wg_run_options){.threads = threads}, &p, &error), WG_OK, "%s", error.text);
        for (int64_t id = 1; id < count; id++) {
            kind[plan->program->list[id].op->kind] += p.kernel[id];
            all += p.kernel[id];
        }
        cr_expect_eq(p.runs, 3);
        cr_expect_eq(p.threads, threads);
        cr_expect_gt(p.products, 0);
        cr_expect_gt(p.pointwise, 0);
        cr_expect_gt(p.packing, 0);
        cr_expect_gt(p.other, 0);
        cr_expect_float_eq(kind[WG_PRODUCT], p.products, 1e-9 * all);
        cr_expect_leq(kind[WG_POINTWISE], p.pointwise * (1 + 1e-9), "those on scalars have no number");
        cr_expect_float_eq(kind[WG_REDUCTION], p.other, 1e-9 * all);
        cr_expect_geq(p.packing, kind[WG_MOVE], "outputs are copied too");
        cr_expect_geq(p.waiting, 0, "%d threads for %g s worked %g s", threads, p.seconds, all);
        free(p.kernel);
    }
    cr_expect_eq(memcmp(wg_tensor_data(want), wg_tensor_data(wg_plan_output(plan, n - 1)), wg_tensor_bytes(want)), 0);
    wg_tensor_free(want);
    wg_plan_free(plan);
    unrolled_free(&u);
}
