/* Plans whose products are made in bf16 parts, where the machine makes such: right, and the same bits whatever runs them. */
#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "print_structure.h"
#include "random_graph.h"

/* A row's gradients neither grow nor vanish; products of several kinds. */
static const char norm_cell[] = "cell c\ninput x\nstate h, c\n"
                                "i = sigmoid(layer_norm(W_i @ x + U_i @ h))\n"
                                "f = sigmoid(layer_norm(W_f @ x + U_f @ h + b_f))\n"
                                "c' = f*c + i*tanh(W_g @ x + U_g @ (i*h))\n"
                                "h' = sigmoid(W_o @ x + V_o @ c')*tanh(c')\n";
static const char *const cells[] = {"rnn", "lstm", "gru", norm_cell};

/* Half the sum of squares of the outputs, and the final states' sums; and their gradients by everything given. */
static int squares(unrolled *u, wg_var *y) {
    wg_var loss = mul(0.5, sum_to(square(wg_unroll_output(u->unroll)), 0, NULL));
    for (int k = 0; k < wg_cell_states(u->cell); k++)
        loss = add(loss, sum_to(wg_unroll_final(u->unroll, wg_cell_state(u->cell, k)), 0, NULL));
    return with_gradients(u, loss, y);
}

typedef struct pair {
    unrolled exact, single;
    int n;
    wg_var y[MOST], z[MOST];
} pair;

/* A cell in f32; and in f64, of the same numbers. change: NULL, or what else to do to what is given before. */
static pair pair_of(const char *cell, unrolled_sizes sizes, void (*change)(unrolled *u)) {
    pair p;
    sizes.rounded = true;
    p.exact = unrolled_new(cell, &sizes);
    sizes.rounded = false;
    sizes.single = true;
    p.single = unrolled_new(cell, &sizes);
    if (change)
        change(&p.exact), change(&p.single);
    p.n = squares(&p.exact, p.z);
    cr_assert_eq(squares(&p.single, p.y), p.n);
    return p;
}

static void pair_free(pair *p) {
    unrolled_free(&p->exact);
    unrolled_free(&p->single);
}

static wg_plan *plan_of(const pair *p, wg_run_options run) {
    wg_error error = {0};
    wg_plan *plan = wg_compile(p->n, p->y, &(wg_compile_options){.validate = true, .run = run}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    return plan;
}

static void runs(wg_plan *plan, wg_run_options run) {
    wg_error error = {0};
    cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &run, &error), WG_OK, "%s", error.text);
}

static int parts_in(const wg_plan *plan) {
    char *text = printed_plan(plan);
    int n = count(text, " parts\"");
    free(text);
    return n;
}

/* By the rule of random_graph.h, and the same bits on any number of threads, whatever number the plan was made for. */
static void right_and_the_same(const char *what, const pair *p) {
    wg_tensor *exact[MOST], *plain[MOST], *first[MOST] = {0};
    char text[512];
    cr_assert_eq(wg_eval(p->n, p->z, exact, NULL), WG_OK);
    cr_assert_eq(wg_eval_with(&(wg_run_options){.isa = WG_ISA_AVX512}, p->n, p->y, plain, NULL), WG_OK);
    for (int made_for = 1; made_for <= 8; made_for *= 2) {
        wg_plan *plan = plan_of(p, (wg_run_options){.threads = made_for});
        for (int threads = 1; threads <= 8; threads += threads < 4 ? 1 : 4) {
            runs(plan, (wg_run_options){.threads = threads});
            for (int i = 0; i < p->n; i++) {
                const wg_tensor *got = wg_plan_output(plan, i);
                cr_expect(random_graph_agree(exact[i], plain[i], got, text, sizeof text), "%s: output %d: %s", what, i, text);
                first[i] = first[i] ? first[i] : wg_tensor_copy(NULL, got);
                cr_expect(memcmp(wg_tensor_data(first[i]), wg_tensor_data(got), wg_tensor_bytes(got)) == 0,
                          "%s: bits of output %d on %d threads, made for %d", what, i, threads, made_for);
            }
        }
        cr_expect_eq(parts_in(plan) > 0, wg_isa_runs(WG_ISA_AMX), "%s", what);
        wg_plan_free(plan);
    }
    taped_free(p->n, exact), taped_free(p->n, plain), taped_free(p->n, first);
}

static const unrolled_sizes sizes = {.steps = 5, .batch = 37, .input = 70, .hidden = 80};

Test(parts, plans_of_products_in_parts_are_right_and_the_same_on_any_threads) {
    for (int k = 0; k < WG_LEN(cells); k++)
        for (int wide = 0; wide < 2; wide++) {
            unrolled_sizes of = sizes;
            of.hidden = wide ? 136 : 80;
            of.batch = wide ? 16 : 37;
            pair p = pair_of(cells[k], of, NULL);
            right_and_the_same(cells[k], &p);
            pair_free(&p);
        }
}

/* Numbers that parts cannot hold, in a weight and in one row of an initial state. */
static void make_large(unrolled *u) {
    for (int k = 0; k < u->n; k++) {
        if (strcmp(u->given[k].name, "U_g") == 0)
            wg_tensor_set(u->kept[k], 80 * 3 + 5, 0x1p33);
        if (strcmp(u->given[k].name, "c") == 0)
            wg_tensor_set(u->kept[k], 80 * 7 + 1, 0x1p40);
        if (strcmp(u->given[k].name, "h") == 0)
            wg_tensor_set(u->kept[k], 80 * 9 + 1, -0x1p35);
    }
}

static void make_not_finite(unrolled *u) {
    for (int k = 0; k < u->n; k++)
        if (strcmp(u->given[k].name, "c") == 0) {
            wg_tensor_set(u->kept[k], 80 * 7 + 1, INFINITY);
            wg_tensor_set(u->kept[k], 80 * 30 + 1, NAN);
        }
}

Test(parts, plans_multiply_what_parts_cannot_hold) {
    pair large = pair_of("lstm", sizes, make_large), infinite = pair_of("lstm", sizes, make_not_finite);
    right_and_the_same("large", &large);
    right_and_the_same("not finite", &infinite);
    pair_free(&large);
    pair_free(&infinite);
}

/* A run that may not use the unit gives the bits of a plan that never might, however the plan was made. */
Test(parts, a_run_without_them_gives_the_bits_of_a_plan_without_them) {
    pair p = pair_of("lstm", sizes, NULL);
    const wg_run_options ways[] = {{.threads = 2, .isa = WG_ISA_AVX512}, {.threads = 2, .keep_subnormals = true}, {.threads = 2, .isa = WG_ISA_AMX}};
    wg_plan *with = plan_of(&p, (wg_run_options){.threads = 2});
    for (int way = 0; way < WG_LEN(ways); way++) {
        wg_plan *without = plan_of(&p, ways[way]);
        cr_expect_eq(parts_in(without) > 0, way == 2 && wg_isa_runs(WG_ISA_AMX));
        runs(with, ways[way]);
        runs(without, ways[way]);
        for (int i = 0; i < p.n; i++)
            cr_expect(memcmp(wg_tensor_data(wg_plan_output(with, i)), wg_tensor_data(wg_plan_output(without, i)),
                             wg_tensor_bytes(wg_plan_output(with, i))) == 0, "way %d, output %d", way, i);
        runs(without, (wg_run_options){.threads = 1}); /* there may be no room for parts: then without */
        wg_plan_free(without);
    }
    wg_plan_free(with);
    pair_free(&p);
}

Test(parts, few_rows_small_matrices_and_f64_are_multiplied_whole) {
    const unrolled_sizes whole[] = {{.steps = 5, .batch = 15, .input = 70, .hidden = 80, .single = true},
                                    {.steps = 5, .batch = 37, .input = 70, .hidden = 60, .single = true},
                                    {.steps = 5, .batch = 37, .input = 70, .hidden = 80}};
    for (int k = 0; k < WG_LEN(whole); k++) {
        pair p = {.single = unrolled_new("rnn", &whole[k])};
        p.n = squares(&p.single, p.y);
        wg_plan *plan = plan_of(&p, (wg_run_options){.threads = 2});
        cr_expect_eq(parts_in(plan), 0, "%d", k);
        wg_plan_free(plan);
        unrolled_free(&p.single);
    }
}

/* Two loops that multiply by one matrix, one of so few rows that it wants it whole. */
Test(parts, a_matrix_can_be_packed_both_ways_in_one_plan) {
    unrolled_sizes of = sizes;
    pair p = pair_of("rnn", of, NULL);
    wg_unroll *few[2] = {0};
    for (int k = 0; k < 2; k++) { /* the weights are those of the first unroll */
        unrolled *u = k ? &p.single : &p.exact;
        wg_named given[UNROLLED_NAMES];
        for (int i = 0; i < u->n; i++) {
            given[i] = u->given[i];
            if (strcmp(given[i].name, "x") == 0)
                given[i].var = wg_slice(given[i].var, 1, 0, 9);
            if (strcmp(given[i].name, "h") == 0)
                given[i].var = wg_slice(given[i].var, 0, 0, 9);
        }
        few[k] = wg_unroll_new(u->tape, u->cell, of.input, of.hidden, u->n, given, NULL);
        cr_assert_not_null(few[k], "%s", wg_tape_message(u->tape));
        (k ? p.y : p.z)[p.n] = wg_unroll_output(few[k]);
    }
    p.n++;
    right_and_the_same("both", &p);
    wg_plan *plan = plan_of(&p, (wg_run_options){.threads = 2});
    char *text = printed_plan(plan);
    if (wg_isa_runs(WG_ISA_AMX))
        cr_expect(count(text, " = packed_product ") > count(text, "parts\"  tile") && strstr(text, "transpose\"") && strstr(text, "transpose parts\""), "%s", text);
    free(text);
    wg_plan_free(plan);
    wg_unroll_free(few[0]);
    wg_unroll_free(few[1]);
    pair_free(&p);
}
