/* What a loop keeps side by side lies over the products that it is made of, and what the derivative makes of it over that; what it keeps of
 * the products themselves stays among them. */
#include "beside.h"
#include "loop.h"

extern const wg_op wg__op_concat, wg__op_copy;

/* Stacks over another array: of values that stand side by side, and of single ones; and of copies of what an array holds. */
typedef struct counted {
    int joined, single, copies;
} counted;

static counted count(const wg_plan *plan) {
    const wg_program *p = plan->program;
    counted c = {0};
    for (uint32_t id = 1; id < p->count; id++) {
        const bool over = p->list[id].op == &wg__op_stacked && p->values[id].over, joined = over && p->list[p->list[id].in[0]].op == &wg__op_concat;
        c.joined += joined;
        c.single += over && !joined;
        c.copies += p->list[id].op == &wg__op_stacked && p->list[p->list[id].in[0]].op == &wg__op_copy;
    }
    return c;
}

static void has(const char *cell, counted want) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new(cell, &(unrolled_sizes){.steps = 6, .batch = 16, .input = 7, .hidden = 40});
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    const counted got = count(plan);
    cr_expect(got.joined == want.joined && got.single == want.single && got.copies == want.copies, "%s: %d joined, %d single, %d copies", cell,
              got.joined, got.single, got.copies);
    wg_plan_free(plan);
    agrees(cell, n, y);
    unrolled_free(&u);
}

/* A GRU's candidate lies over its product of x, though what the reset gate scales could too: of that the derivative reads after it has made
 * the candidate's gradient. */
Test(join, gates_lie_over_the_products_they_are_made_of_and_their_gradients_over_them) {
    has("lstm", (counted){.joined = 2});
    has("gru", (counted){.joined = 2, .single = 1});
    has("gru_v1", (counted){.joined = 2});
}

/* Of q's product only the new state is made, which is an output. */
Test(join, another_value_lies_over_a_product_of_which_nothing_that_is_kept_is_made) {
    has("cell f\ninput x\nstate h\nq = W_q @ x + b_q\nr = sigmoid(W_r @ x + U_r @ h)\ns = tanh(U @ h)\nh' = 0.5*s*r + 0.1*q\n", (counted){.joined = 1});
}

/* The derivative reads what x was multiplied to: by what is made of two of the parts, beside what lies over them (a simple recurrent unit); of
 * all parts; of the only one; beside a part that a norm reads. */
Test(join, what_is_kept_of_the_products_of_x_stays_where_it_is) {
    has("cell s\ninput x\nstate h, c\nf = sigmoid(W_f @ x + v_f*c + b_f)\nr = sigmoid(W_r @ x + v_r*c + b_r)\nc' = f*c + (1 - f)*(W @ x)\n"
        "h' = r*c' + (1 - r)*(W_x @ x)\n", (counted){.joined = 2});
    has("cell m\ninput x\nstate h, c\ni = sigmoid((W_i @ x)*(V_i*h) + W_i @ x + V_i*h)\nc' = 0.9*c + i*tanh((W_g @ x)*(V_g*c) + W_g @ x)\nh' = tanh(c')\n",
        (counted){0});
    has("cell o\ninput x\nstate h\nh' = tanh(a*(W @ x)*(v*h) + p*(W @ x) + q*h)\n", (counted){.single = 1});
    has("cell n\ninput x\nstate h\nz = sigmoid(g*layer_norm(W_z @ x) + U_z @ h)\nh' = z*h + (1 - z)*(W @ x)*tanh(h)\n", (counted){.joined = 2, .single = 1});
}
