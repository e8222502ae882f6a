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
        const wg_instruction *stacked = p->list[id].op == &wg__op_stacked ? &p->list[p->list[id].in[0]] : NULL;
        c.copies += stacked && stacked->op == &wg__op_copy && !p->list[p->values[stacked->in[0]].base].loop;
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

/* Gates of a product of x and the state side by side, which no array of products holds; where a product reads one of
 * them, all stay apart. */
Test(join, gradients_lie_over_gates_that_are_kept_side_by_side_for_them) {
#define GATES "cell c\ninput x\nstate h, c\nparam W[3*hidden, input + hidden]\na = W @ concat(x, h) + b\n" \
              "i = sigmoid(slice(a, 0, hidden))\nf = sigmoid(slice(a, hidden, hidden))\ng = tanh(slice(a, 2*hidden, hidden))\n"
    has(GATES "c' = f*c + i*g\nh' = tanh(c')\n", (counted){.joined = 1, .single = 1});
    has(GATES "c' = f*c + V @ i\nh' = tanh(c')*g\n", (counted){.single = 3});
}

/* What is added to an array's element lies over it. */
Test(join, a_sum_lies_over_the_product_that_it_is_made_of) {
    has("cell l\ninput x\nstate h\nh' = 0.9*h + W @ x\n", (counted){.single = 1});
    has("cell l\ninput x\nstate h\nz = sigmoid(V @ h)\nh' = z*h + W @ x\n", (counted){.single = 2});
}

/* Parts of a product the other way round, one of them twice, or one changed: in their own place they are not, and are copied. */
Test(join, parts_that_stand_elsewhere_than_in_the_array_are_right) {
    static const char *const cells[] = {
        ("cell c\ninput x\nstate h\nparam W[2*hidden, input]\nq = W @ x\ne = concat(slice(q, hidden, hidden), slice(q, 0, hidden))\n"
         "h' = tanh(h + slice(e, 0, hidden)*slice(e, hidden, hidden)*h)\n"),
        "cell c\ninput x\nstate h\na = W @ x\nb = V @ x\ne = concat(b, a)\nh' = tanh(h + 0.1*a*h + b*h*sum(e))\n",
        "cell c\ninput x\nstate h\na = W @ x\nb = V @ x\ne = concat(a, a)\nh' = tanh(h + 0.1*a*h + b*h*sum(e))\n",
        "cell c\ninput x\nstate h\na = W @ x\nb = V @ x\ne = concat(a, tanh(b))\nh' = tanh(h + 0.1*a*h + b*h*sum(e))\n"};
    for (int k = 0; k < WG_LEN(cells); k++) {
        unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = 6, .batch = 17, .input = 5, .hidden = 6});
        const wg_var y[2] = {weighed(tanh(wg_unroll_all(u.unroll, "e")), 5), weighed(wg_unroll_output(u.unroll), 5)};
        agrees(cells[k], 2, y);
        unrolled_free(&u);
    }
}

/* tanh of the halves of p and q, by powers of s. */
static wg_status halves_step(wg_step *step, void *user) {
    const int64_t half = *(const int64_t *)user;
    wg_var s = wg_step_get(step, "s"), by[4] = {s, mul(s, s), mul(s, mul(s, s)), sin(s)}, sum = {0};
    for (int k = 0; k < 4; k++) {
        wg_var part = mul(wg_slice(wg_step_get(step, k < 2 ? "p" : "q"), 1, k % 2 * half, half), by[k]);
        sum = k ? add(sum, part) : part;
    }
    return wg_step_set(step, "s", tanh(sum));
}

/* What one loop keeps side by side, over its products of x, a second one reads by halves, and keeps. */
Test(join, what_another_loop_keeps_of_what_one_has_put_side_by_side_is_its_own_part) {
    int64_t half = 6;
    wg_error error = {0};
    unrolled u = unrolled_new("cell a\ninput x\nstate h\na = tanh(W @ x + v*h)\nb = tanh(V @ x + u*h)\nh' = a*0.5 + b*h\n",
                              &(unrolled_sizes){.steps = 7, .batch = 17, .input = 5, .hidden = 12});
    wg_cell *cell = wg_cell_new(NULL, "cell b\ninput p[input], q[input]\nstate s\n", halves_step, &half, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_var first, y[2];
    leaf_of(u.tape, 2, (const int64_t[]){17, 6}, 77, &first);
    const wg_named given[3] = {{"p", wg_unroll_all(u.unroll, "a")}, {"q", wg_unroll_all(u.unroll, "b")}, {"s", first}};
    wg_unroll *second = wg_unroll_new(u.tape, cell, 12, half, 3, given, NULL);
    cr_assert_not_null(second, "%s", wg_tape_message(u.tape));
    y[0] = weighed(wg_unroll_output(second), 5);
    cr_assert_eq(wg_grad(y[0], 1, &first, &y[1]), WG_OK);
    agrees("halves", 2, y);
    wg_unroll_free(second);
    wg_cell_free(cell);
    unrolled_free(&u);
}

/* Attention over the batch: two products read what x was multiplied to in all its rows. */
static wg_status batch_step(wg_step *step, void *user) {
    wg_var x = wg_step_get(step, "x"), h = wg_step_get(step, "h"), k = matmul(x, wg_step_get(step, "W"), false, true);
    wg_var a = softmax(matmul(h, k, false, true), -1);
    (void)user;
    return wg_step_set(step, "h", tanh(add(matmul(h, wg_step_get(step, "U"), false, true), matmul(a, k, false, false))));
}

/* The same, and of rows that are picked. */
static wg_status picking_step(wg_step *step, void *user) {
    wg_var x = wg_step_get(step, "x"), h = wg_step_get(step, "h"), k = matmul(x, wg_step_get(step, "W"), false, true);
    const int64_t rows = wg_dim(x, 0);
    wg_var index = wg_cast(reshape(slice(mod(mul(x, 50), (double)rows), 1, 0, 1), 1, &rows), WG_I32);
    (void)user;
    return wg_step_set(step, "h", tanh(add(matmul(h, wg_step_get(step, "U"), false, true), gather(k, index, 0))));
}

/* Over what a kernel reads in all rows nothing may lie: the rows of another tile are not read yet. */
Test(join, nothing_lies_over_what_is_read_in_all_rows) {
    static wg_status (*const steps[])(wg_step *, void *) = {batch_step, picking_step};
    static const int64_t rows[] = {2, 17, 32};
    for (int k = 0; k < WG_LEN(steps); k++)
        for (int b = 0; b < WG_LEN(rows); b++) {
            wg_var y[MOST];
            unrolled u = unrolled_step(&(unrolled_sizes){.steps = 4, .batch = rows[b], .input = 3, .hidden = 8}, steps[k], NULL);
            y[0] = weighed(wg_unroll_output(u.unroll), 5);
            agrees("forward", 1, y);
            int n = all_gradients(&u, y);
            agrees("back", n, y);
            unrolled_free(&u);
        }
}

/* Loops by hand: one keeps a (and what u is); one back reads the halves of a, which a third loop wants, and puts what it makes of u beside
 * something else; or reads of another array in one step what it reads of u in the others. */
static int three_loops(wg_tape *tape, bool halves, wg_var *y) {
    enum { STEPS = 40, ROWS = 4, WIDTH = 8 };
    wg_var x, u, g, r, k, m, a[STEPS], o[STEPS], p[STEPS][2], c[STEPS];
    leaf_of(tape, 3, (const int64_t[]){STEPS, ROWS, 2 * WIDTH}, 1, &x);
    leaf_of(tape, 2, (const int64_t[]){ROWS, 2 * WIDTH}, 2, &u);
    leaf_of(tape, 2, (const int64_t[]){ROWS, WIDTH}, 3, &g);
    leaf_of(tape, 2, (const int64_t[]){ROWS, WIDTH}, 4, &r);
    leaf_of(tape, 2, (const int64_t[]){ROWS, 4 * WIDTH}, 5, &k);
    leaf_of(tape, 2, (const int64_t[]){2 * WIDTH, 2 * WIDTH}, 6, &m);
    wg_var other = reshape(slice(x, 0, 3, 1), 2, ((const int64_t[]){ROWS, 2 * WIDTH}));
    for (int t = 0; t < STEPS; t++) {
        wg__step_mark(tape, 7, t);
        wg_var now = reshape(slice(x, 0, t, 1), 2, ((const int64_t[]){ROWS, 2 * WIDTH}));
        u = tanh(add(mul(matmul(u, m, false, false), 0.1), now));
        a[t] = sin(mul(u, now)), o[t] = sin(mul(u, 0.7));
    }
    for (int t = STEPS - 1; t >= 0; t--) {
        wg__step_mark(tape, 8, ~(int64_t)t);
        p[t][0] = slice(a[t], 1, 0, WIDTH), p[t][1] = slice(a[t], 1, WIDTH, WIDTH);
        g = tanh(add(mul(g, 0.5), halves ? mul(p[t][0], p[t][1]) : slice(other, 1, 0, WIDTH)));
        wg_var s = sin(!halves && t == STEPS - 2 ? other : o[t]), beside[2] = {s, tanh(mul(halves ? s : a[t], 1.3))};
        c[t] = wg_concat(2, beside, 1);
    }
    for (int t = 0; t < STEPS; t++) {
        wg__step_mark(tape, 9, t);
        r = tanh(add(mul(r, 0.5), halves ? add(mul(p[t][0], 0.3), mul(p[t][1], r)) : mul(r, 0.1)));
        k = tanh(add(mul(k, 0.5), c[t]));
    }
    wg__step_mark(tape, 9, WG_NO_STEP);
    y[0] = r, y[1] = k, y[2] = g;
    return 3;
}

Test(join, what_stands_for_a_stack_or_is_chosen_by_iteration_goes_nowhere) {
    for (int halves = 1; halves >= 0; halves--) {
        wg_var y[3];
        wg_tape *tape = wg_tape_new(NULL);
        int n = three_loops(tape, halves, y);
        agrees(halves ? "halves" : "chosen", n, y);
        wg_tape_free(tape);
    }
}
