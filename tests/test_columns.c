/* Gates that a cell slices out of one sum run as gates with names of their own do. */
#include <stdio.h>

#include "beside.h"
#include "loop.h"

extern const wg_op wg__op_concat, wg__op_slice, wg__op_tanh;

#define NAMED                                                                                                                        \
    "cell named\ninput x\nstate h, c\ni = sigmoid(W_i @ x + U_i @ h + b_i)\nf = sigmoid(W_f @ x + U_f @ h + b_f)\n"              \
    "o = sigmoid(W_o @ x + U_o @ h + b_o)\ng = tanh(W_g @ x + U_g @ h + b_g)\nc' = f*c + i*g\nh' = o*tanh(c')\n"

/* One sum, whose columns are the gates; and one of those that sigmoid is taken of. */
#define SLICED                                                                                                                       \
    "cell sliced\ninput x\nstate h, c\nparam W[4*hidden, input]\nparam U[4*hidden, hidden]\na = W @ x + U @ h + b\n"               \
    "i = sigmoid(slice(a, 0, hidden))\nf = sigmoid(slice(a, hidden, hidden))\no = sigmoid(slice(a, 2*hidden, hidden))\n"          \
    "g = tanh(slice(a, 3*hidden, hidden))\nc' = f*c + i*g\nh' = o*tanh(c')\n"
#define THREE                                                                                                                        \
    "cell three\ninput x\nstate h, c\nparam W[3*hidden, input]\nparam U[3*hidden, hidden]\na = sigmoid(W @ x + U @ h + b)\n"       \
    "g = tanh(W_g @ x + U_g @ h + b_g)\nc' = slice(a, hidden, hidden)*c + slice(a, 0, hidden)*g\nh' = slice(a, 2*hidden, hidden)*tanh(c')\n"

/* What a plan's loops do. */
typedef struct counted {
    int regions, carries, put; /* put: values that are put side by side by a kernel of its own */
    size_t bytes;
} counted;

static counted count(const char *cell) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new(cell, &(unrolled_sizes){.steps = 8, .batch = 32, .input = 64, .hidden = 80});
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true, .far_bytes = 1 << 30}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    const wg_program *p = plan->program;
    counted c = {.bytes = p->arena_bytes};
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        c.regions += i->loop && i->region && p->list[id - 1].region != i->region;
        c.carries += wg__is_carry(i);
        c.put += i->loop && i->op == &wg__op_concat && p->values[id].task;
    }
    wg_plan_free(plan);
    unrolled_free(&u);
    return c;
}

Test(columns, gates_sliced_out_of_a_sum_run_as_gates_with_names) {
    const counted named = count(NAMED), cells[] = {count(SLICED), count(THREE)};
    cr_assert_eq(named.put, 0);
    for (int k = 0; k < WG_LEN(cells); k++) {
        cr_expect_eq(cells[k].regions, named.regions, "%d: %d regions, not %d", k, cells[k].regions, named.regions);
        cr_expect_eq(cells[k].carries, named.carries, "%d: %d carries, not %d", k, cells[k].carries, named.carries);
        cr_expect_eq(cells[k].put, 0);
        cr_expect_leq(cells[k].bytes, named.bytes + named.bytes / 50, "%d: %zu bytes, not %zu", k, cells[k].bytes, named.bytes);
    }
}

/* The program of a cell's gradients after `columns`. */
static wg_program *after_columns(const char *cell, unrolled *u) {
    wg_var y[MOST];
    wg_error error = {0};
    *u = unrolled_new(cell, &(unrolled_sizes){.steps = 6, .batch = 17, .input = 5, .hidden = 12});
    int n = all_gradients(u, y);
    agrees(cell, n, y);
    wg_program *p = wg__compile(&(wg_compile_options){.validate = true}, "columns", n, y, &error);
    cr_assert_not_null(p, "%s", error.text);
    return p;
}

/* How many instructions of the first loop are this op, of so many columns. */
static int made(const char *cell, const wg_op *op, int64_t columns) {
    unrolled u;
    wg_program *p = after_columns(cell, &u);
    int n = 0;
    for (uint32_t id = p->loops[0].from; id < p->loops[0].to; id++)
        n += p->list[id].op == op && p->list[id].shape->dim[p->list[id].shape->rank - 1] == columns;
    wg__program_free(p);
    unrolled_free(&u);
    return n;
}

#define WIDE "cell c\ninput x\nstate h\nparam W[3*hidden, input]\nparam U[3*hidden, hidden]\na = tanh(W @ x + U @ h)\n"

Test(columns, what_is_read_in_columns_alone_is_computed_in_columns) {
    cr_expect_eq(made(WIDE "h' = 0.5*slice(a, 0, hidden)*slice(a, hidden, hidden) + 0.1*slice(a, 2*hidden, hidden)\n", &wg__op_tanh, 12), 3);
    cr_expect_eq(made(WIDE "b = a*0.5\nh' = slice(b, 0, hidden)*slice(b, hidden, hidden)\n", &wg__op_tanh, 12), 3, "read by what is");
}

/* Slices that share columns, and leave some out. */
Test(columns, overlapping_slices_are_read_out_of_their_common_pieces) {
    cr_expect_eq(made(WIDE "h' = 0.5*slice(a, 3, hidden)*slice(a, 8, hidden) + 0.1*slice(a, hidden, hidden)\n", &wg__op_tanh, 5), 2);
}

Test(columns, what_something_reads_whole_is_computed_whole) {
    cr_expect_eq(made(WIDE "h' = 0.5*slice(a, 0, hidden)*slice(a, hidden, hidden) + 0.1*(V @ a)\n", &wg__op_tanh, 36), 1, "by a product");
    cr_expect_eq(made(WIDE "h' = 0.5*slice(a, 0, hidden)*slice(a, hidden, hidden) + 0.1*slice(layer_norm(a), 0, hidden)\n", &wg__op_tanh, 36), 1, "by a norm");
    cr_expect_eq(made("cell c\ninput x\nstate h, s[3*hidden]\nparam W[3*hidden, input]\ns' = tanh(W @ x + 0.5*s)\n"
                      "h' = 0.5*slice(s, 0, hidden)*h + slice(s', hidden, hidden)\n", &wg__op_tanh, 36), 1, "by the next step");
}

/* In 18 pieces; in 12. */
Test(columns, what_would_fall_into_too_many_pieces_stays_whole) {
    char text[1024] = WIDE "h' = 0.1*(";
    for (int k = 0; k < 18; k++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%ssum(slice(a, %d, 2))", k ? " + " : "", 2 * k);
    strcat(text, ") + 0.5*h\n");
    cr_expect_eq(made(text, &wg__op_tanh, 36), 1);
    snprintf(text, sizeof text, WIDE "h' = 0.1*(");
    for (int k = 0; k < 12; k++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%ssum(slice(a, %d, 3))", k ? " + " : "", 3 * k);
    strcat(text, ") + 0.5*h\n");
    cr_expect_eq(made(text, &wg__op_tanh, 3), 12);
}

Test(columns, what_is_made_of_values_side_by_side_is_made_beside_them) {
    cr_expect_eq(made("cell c\ninput x\nstate h\nparam V[hidden, 2*hidden]\nr = sigmoid(W @ x + U @ h)\ne = concat(r*h, 1 - r)\nh' = V @ tanh(e) + 0.5*h\n", &wg__op_tanh, 12), 2);
    cr_expect_eq(made("cell c\ninput x\nstate h\nparam V[hidden, 2*hidden]\nparam W[hidden, input]\ne = concat(W @ x, U @ h)\nh' = V @ tanh(e) + 0.5*h\n", &wg__op_tanh, 24), 1, "of products");
}

/* A state that is a sum of what stands side by side; one of which columns are read too. Second derivatives by all. */
Test(columns, what_is_carried_in_columns_is_right) {
    static const char *const cells[] = {
        "cell c\ninput x\nstate h, s[2*hidden]\nr = tanh(W @ x + U @ h)\ns' = s + concat(0.1*r, r*h)\nh' = tanh(0.3*h + r + b)\n",
        "cell c\ninput x\nstate h, s[2*hidden]\nr = tanh(W @ x + U @ h)\ns' = 0.5*s + concat(0.1*r, r*h)\nh' = tanh(0.3*h + r + slice(s, 3, hidden))\n",
        "cell c\ninput x\nstate h, s[2*hidden], t[2*hidden]\nr = tanh(W @ x + U @ h)\nt' = 0.5*s\ns' = 0.5*t + concat(0.1*r, r*h)\nh' = tanh(0.3*h + r)\n", SLICED, THREE};
    for (int k = 0; k < WG_LEN(cells); k++) {
        wg_var y[MOST], z[MOST];
        unrolled u = unrolled_new(cells[k], &(unrolled_sizes){.steps = 5, .batch = 17, .input = 5, .hidden = 12});
        int n = all_gradients(&u, y);
        agrees(cells[k], n, y);
        wg_var again = weighed(y[1], 3);
        for (int i = 2; i < n; i++)
            again = add(again, weighed(y[i], (uint64_t)i));
        n = with_gradients(&u, again, z);
        agrees(cells[k], n, z);
        unrolled_free(&u);
    }
}
