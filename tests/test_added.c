/* Products of a loop that are added to each other become one, and that of a step's input is made in the step where that is quicker. */
#include <stdio.h>

#include "beside.h"
#include "loop.h"
#include "make.h"

/* What the first loop of a plan of a cell and its gradient has, beside what comes before it. */
typedef struct counted {
    int pairs, single; /* packed products */
    int before;        /* products */
    int of_states;     /* pairs that have no product of an input */
} counted;

static counted count(const wg_plan *plan) {
    const wg_program *p = plan->program;
    counted c = {0};
    for (uint32_t id = 1; id < p->loops[0].to; id++) {
        const wg_instruction *i = &p->list[id];
        const bool pair = i->op == &wg__op_packed_product && i->n == 4;
        c.pairs += pair;
        c.of_states += pair && p->list[i->more[0]].op != &wg__op_element && p->list[i->more[2]].op != &wg__op_element;
        c.single += i->op == &wg__op_packed_product && i->n == 2;
        c.before += i->op == &wg__op_matmul;
    }
    return c;
}

/* And that it gives what evaluation gives, with the same bits on any threads. */
static void has(const char *cell, const unrolled_sizes *sizes, counted want) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new(cell, sizes);
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    const counted got = count(plan);
    cr_expect(got.pairs == want.pairs && got.single == want.single && got.before == want.before && got.of_states == want.of_states,
              "%s: %d pairs, %d of states, %d single, %d before", cell, got.pairs, got.of_states, got.single, got.before);
    wg_plan_free(plan);
    agrees(cell, n, y);
    unrolled_free(&u);
}

static const unrolled_sizes many_rows = {.steps = 5, .batch = 32, .input = 7, .hidden = 40};

Test(added, an_inputs_product_is_made_in_the_sums_of_the_states) {
    static const char *const sum[] = {"W @ x + U @ h", "W @ x + U @ h + b", "(W @ x + b) + (U @ h + d)", "b + (U @ h + W @ x)", "(b + d*x2) + W @ x + 0.5*h + U @ h"};
    for (int k = 0; k < WG_LEN(sum); k++) {
        char text[200];
        snprintf(text, sizeof text, "cell c\ninput x\nstate h, x2\nx2' = 0.5*x2\nh' = tanh(%s)\n", sum[k]);
        has(text, &many_rows, (counted){.pairs = 1});
    }
}

Test(added, products_of_two_states_become_one) {
    has("cell c\ninput x\nstate h, c\nc' = 0.9*c + 0.1*h\nh' = tanh(W @ x + U @ h + V @ c)\n", &many_rows, (counted){.pairs = 1, .single = 1});
    has("cell c\ninput x\nstate h, c\nc' = 0.9*c + 0.1*h\nh' = tanh(U @ h + V @ c + W @ x)\n", &many_rows, (counted){.pairs = 1, .single = 1});
    has("cell c\ninput x\nstate h, c\nc' = 0.9*c + 0.1*h\nh' = tanh(W @ x) + 0.2*sin(U @ h + V @ c)\n", &many_rows, (counted){.pairs = 1, .before = 1, .of_states = 1});
}

Test(added, a_product_that_is_read_elsewhere_too_is_not_made_so) {
    has("cell c\ninput x\nstate h\na = W @ x\nh' = tanh(a + U @ h) + 0.1*a\n", &many_rows, (counted){.single = 1, .before = 1});
    has("cell c\ninput x\nstate h\na = U @ h\nh' = tanh(W @ x + a) + 0.1*sin(a)\n", &many_rows, (counted){.single = 1, .before = 1});
}

Test(added, inputs_products_come_before_the_loop_where_that_is_quicker) {
    const char *const rnn = "cell c\ninput x\nstate h\nh' = tanh(W @ x + U @ h + b)\n";
    const counted before = {.single = 1, .before = 1};
    has(rnn, &(unrolled_sizes){.steps = 5, .batch = 31, .input = 7, .hidden = 40}, before);
    has(rnn, &(unrolled_sizes){.steps = 2, .batch = 32, .input = 7, .hidden = 256}, before); /* 8 * 256 * 263 bytes */
    has(rnn, &(unrolled_sizes){.steps = 2, .batch = 32, .input = 7, .hidden = 250}, (counted){.pairs = 1});
    has("lstm", &many_rows, before);
}

Test(added, sums_of_very_many_terms_are_left_alone) {
    enum { TERMS = 200 };
    char text[64 + 8 * TERMS] = "cell c\ninput x\nstate h\nh' = tanh(W @ x + (U @ h + (h";
    for (int k = 0; k < TERMS; k++)
        strcat(text, k % 2 ? " + (h" : " + h"); /* and deep */
    strcat(text, "))");
    for (int k = 0; k < TERMS / 2; k++)
        strcat(text, ")");
    strcat(text, ")\n");
    has(text, &(unrolled_sizes){.steps = 2, .batch = 32, .input = 3, .hidden = 4}, (counted){.single = 1, .before = 1});
}

/* What a reset gate scales is made by a matrix of its own: all else that a GRU's derivative multiplies stands side by side once, for the
 * gradient of the input. The odd operand last, and first, and none; one row, and few iterations. */
Test(added, what_stands_side_by_side_for_one_product_serves_another) {
    static const char *const first = "cell c\ninput x\nstate h\nu = U_a @ h\nr = sigmoid(W_r @ x + U_r @ h)\nz = sigmoid(W_z @ x + U_z @ h)\n"
                                     "h' = (1 - z)*tanh(W_a @ x + r*u) + z*h\n";
    static const struct {
        const char *cell;
        int64_t steps, batch;
        int concats, products; /* in the loop back */
    } want[] = {{"gru", 6, 32, 1, 1}, {first, 6, 33, 1, 1}, {"gru", 3, 5, 2, 1}, {"gru", 30, 1, 2, 1}, {"lstm", 6, 32, 1, 1}, {"gru_v1", 6, 32, 1, 2}, {"gru_v1", 3, 5, 2, 2}};
    for (int k = 0; k < WG_LEN(want); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(want[k].cell, &(unrolled_sizes){.steps = want[k].steps, .batch = want[k].batch, .input = 7, .hidden = 40});
        int n = all_gradients(&u, y), concats = 0, products = 0;
        wg_plan *plan = wg_compile(n, y, NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        const wg_loop *back = &plan->program->loops[1];
        for (uint32_t id = back->from; id < back->to; id++) {
            concats += plan->program->list[id].op == &wg__op_concat;
            products += plan->program->list[id].op->kind == WG_PRODUCT;
        }
        cr_expect(concats == want[k].concats && products == want[k].products, "%d: %d concats, %d products", k, concats, products);
        wg_plan_free(plan);
        if (want[k].steps < 10) /* over more these gradients explode */
            agrees(want[k].cell, n, y);
        unrolled_free(&u);
    }
    /* What a sum finds in another's does not begin with its first operand; and is made of what comes later. */
    static const char *const hosted[] = {
        "cell c\ninput x\nstate h, c, d\na = sigmoid(Wa @ x + Ua @ h + Va @ c)\nb = sigmoid(Wb @ x + Ub @ h + Vb @ c + Zb @ d)\n"
        "e = tanh(We @ x + b*(Ue @ h) + Ve @ c)\nf = tanh(Wf @ x + Uf @ h + a*(Vf @ c) + Zf @ d)\nc' = a*c + (1 - a)*e\nd' = 0.5*d + b*f\n"
        "h' = b*tanh(c') + 0.2*f\n",
        "cell c\ninput x\nstate h\nr = sigmoid(W_r @ x)\nz = sigmoid(W_z @ x + U_z @ h)\nq = tanh(W_q @ x + U_q @ h)\nh' = (1 - z)*q*r + z*h\n",
        ("cell c\ninput x\nstate h, c\nu = U @ h\na = sigmoid(W @ x + U @ h + U @ c)\nb = sigmoid(W @ x + U @ h + V @ c)\n"
         "e = tanh(W @ x + b*u + V @ c)\nc' = a*c + (1 - a)*e\nh' = b*tanh(c') + 0.2*e*a\n")};
    for (int k = 0; k < WG_LEN(hosted); k++) {
        wg_var y[MOST];
        unrolled u = unrolled_new(hosted[k], &(unrolled_sizes){.steps = 4, .batch = 32, .input = 3, .hidden = 20});
        int n = all_gradients(&u, y);
        agrees(hosted[k], n, y);
        unrolled_free(&u);
    }
}

Test(added, the_pass_may_be_left_out) {
    static const char *const without[] = {NULL, "time", "pack"};
    double flops[3];
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("rnn", &many_rows);
    int n = all_gradients(&u, y);
    wg_tensor *want[MOST];
    cr_assert_eq(wg_eval(n, y, want, &error), WG_OK);
    for (int k = 0; k < 3; k++) {
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true, .without = without[k]}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        const counted got = count(plan);
        cr_expect_eq(got.pairs, k < 2);
        flops[k] = wg_plan_measure(plan).flops;
        cr_assert_eq(wg_run(plan, &error), WG_OK);
        for (int i = 0; i < n; i++)
            cr_expect(taped_close(want[i], wg_plan_output(plan, i)), "%d", i);
        wg_plan_free(plan);
    }
    cr_expect_eq(flops[2] - flops[0], 5 * 32 * 40, "a pair saves an addition: %g, %g", flops[0], flops[2]);
    for (int i = 0; i < n; i++)
        wg_tensor_free(want[i]);
    unrolled_free(&u);
}

/* The product of a view leaves the loop: it may not be packed as it is. */
Test(added, an_input_that_is_a_view_is_multiplied_before_the_loop) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("rnn", &many_rows);
    for (int i = 0; i < u.n; i++)
        if (strcmp(u.given[i].name, "x") == 0)
            u.given[i].var = wg_broadcast_to(wg_slice(u.given[i].var, 2, 0, 1), 3, ((const int64_t[]){5, 32, 7}));
    wg_unroll *unroll = wg_unroll_new(u.tape, u.cell, 7, 40, u.n, u.given, NULL);
    cr_assert_not_null(unroll, "%s", wg_tape_message(u.tape));
    y[0] = wg_unroll_output(unroll);
    wg_plan *plan = wg_compile(1, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    const counted got = count(plan);
    cr_expect(got.pairs == 0 && got.single == 1 && got.before == 1, "%d pairs, %d single, %d before", got.pairs, got.single, got.before);
    wg_plan_free(plan);
    agrees("a view", 1, y);
    wg_unroll_free(unroll);
    unrolled_free(&u);
}
