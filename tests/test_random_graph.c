/* The generator of random graphs: the same in both types, evaluable, with every op in it. */
#include "random_graph.h"

#include "taped.h"

/* Evaluates a graph of one type; returns the number of outputs. */
static int values_of(uint64_t seed, wg_dtype dtype, wg_tensor **value, int64_t *nodes, random_coverage *coverage) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var out[RANDOM_OUTPUTS];
    wg_error error = {0};
    int n = random_graph(tape, seed, dtype, 12, out, coverage);
    cr_assert_gt(n, 0, "seed %llu: %s", (unsigned long long)seed, wg_tape_message(tape));
    cr_assert_eq(wg_eval(n, out, value, &error), WG_OK, "seed %llu: %s", (unsigned long long)seed, error.text);
    *nodes = wg_tape_count(tape);
    wg_tape_free(tape);
    return n;
}

Test(random_graph, one_seed_is_one_graph_in_both_types) {
    random_coverage coverage = {0};
    int apart = 0, arrays = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        wg_tensor *exact[RANDOM_OUTPUTS], *single[RANDOM_OUTPUTS], *again[RANDOM_OUTPUTS];
        int64_t nodes[3];
        char text[200];
        int n = values_of(seed, WG_F64, exact, &nodes[0], &coverage);
        cr_assert_eq(values_of(seed, WG_F32, single, &nodes[1], NULL), n);
        cr_assert_eq(values_of(seed, WG_F32, again, &nodes[2], NULL), n);
        cr_assert_eq(nodes[1], nodes[2], "recording does not repeat itself");
        for (int k = 0; k < n; k++) {
            cr_expect(random_graph_agree(exact[k], single[k], again[k], text, sizeof text), "%s", text);
            /* the types agree but for rounding, which a kink or a pole may blow up */
            wg_tensor *coarse = wg_tensor_new(NULL, WG_F64, wg_tensor_shape(exact[k])->rank, wg_tensor_shape(exact[k])->dim);
            bool finite = true;
            double worst = 0, scale = 1;
            for (int64_t i = 0; i < wg_tensor_shape(coarse)->count; i++) {
                double e = wg_tensor_get(exact[k], i), s = wg_tensor_get(single[k], i);
                finite = finite && isfinite(e) && isfinite(s);
                scale = fmax(scale, fabs(e));
                worst = fmax(worst, fabs(e - s));
            }
            coverage.nonfinite += !finite;
            arrays++;
            apart += finite && worst > 1e-3 * scale;
            wg_tensor_free(coarse);
            wg_tensor_free(exact[k]);
            wg_tensor_free(single[k]);
            wg_tensor_free(again[k]);
        }
    }
    cr_expect_lt(apart, arrays / 20, "%d of %d arrays differ between f32 and f64", apart, arrays);
    cr_expect_lt(coverage.nonfinite, arrays / 5, "too many overflow");
    cr_expect_null(random_graph_missing(&coverage), "no graph has the op %s", random_graph_missing(&coverage));
    cr_expect_gt(coverage.empty, 0);
    cr_expect_gt(coverage.large, 0);
    cr_expect_gt(coverage.rank[8], 0);
    cr_expect_gt(coverage.gradients, 50);
    cr_expect_gt(coverage.tangents, 10);
    cr_expect_gt(coverage.recurrences, 50);
    random_graph_print(&coverage, stderr);
}

Test(random_graph, rule_sees_a_wrong_element_and_a_missing_nan) {
    wg_tensor *exact = taped_random(NULL, WG_F64, 1, (const int64_t[]){4}, 1);
    wg_tensor *plain = wg_tensor_copy(NULL, exact), *got = wg_tensor_copy(NULL, exact);
    char text[200];
    cr_assert(random_graph_agree(exact, plain, got, text, sizeof text));
    wg_tensor_set(got, 2, wg_tensor_get(exact, 2) + 1e-9);
    cr_assert(!random_graph_agree(exact, plain, got, text, sizeof text));
    wg_tensor_set(plain, 2, wg_tensor_get(exact, 2) + 1e-9);
    cr_assert(random_graph_agree(exact, plain, got, text, sizeof text));
    wg_tensor_set(plain, 3, NAN);
    cr_assert(!random_graph_agree(exact, plain, got, text, sizeof text));
    wg_tensor_set(got, 3, NAN);
    cr_assert(random_graph_agree(exact, plain, got, text, sizeof text));
    wg_tensor_free(exact);
    wg_tensor_free(plain);
    wg_tensor_free(got);
}

/* <u, J v> and <J^T u, v> of a whole graph, over all its leaves. */
static bool transposes_agree(uint64_t seed) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var out[RANDOM_OUTPUTS], x[64], v[64], u[RANDOM_OUTPUTS], d[64], dy[RANDOM_OUTPUTS];
    int n = random_graph(tape, seed, WG_F64, 12, out, NULL), leaves = 0, m = 0;
    double forward = 0, reverse = 0;
    wg_tensor *made[64 + RANDOM_OUTPUTS];
    int tensors = 0;
    for (int64_t id = 1; id < tape->count && leaves < 64; id++)
        if (wg__node(tape, id)->op == &wg__op_leaf && wg__node(tape, id)->dtype == WG_F64)
            x[leaves++] = wg__var(tape, id);
    for (int k = 0; k < n; k++)
        if (wg_var_dtype(out[k]) == WG_F64)
            out[m++] = out[k];
    for (int k = 0; k < leaves + m; k++) {
        wg_var like = k < leaves ? x[k] : out[k - leaves];
        made[tensors] = taped_random(NULL, WG_F64, wg_rank(like), wg_var_shape(like)->dim, seed * 100 + (uint64_t)k);
        *(k < leaves ? &v[k] : &u[k - leaves]) = wg_leaf(tape, made[tensors++]);
    }
    bool finite = false;
    wg_status status = wg_vjp(m, out, u, leaves, x, d);
    if (status == WG_OK)
        status = wg_jvp(leaves, x, v, m, out, dy);
    cr_assert_eq(status, WG_OK, "seed %llu: %s", (unsigned long long)seed, wg_tape_message(tape));
    double scale = 1;
    for (int k = 0; k < leaves; k++) {
        double term = taped_number(taped_sum(wg_mul(d[k], v[k])));
        reverse += term, scale += fabs(term);
    }
    for (int k = 0; k < m; k++) {
        double term = taped_number(taped_sum(wg_mul(u[k], dy[k])));
        forward += term, scale += fabs(term);
    }
    finite = isfinite(forward) && isfinite(reverse);
    if (finite)
        cr_expect_lt(fabs(forward - reverse), 1e-8 * scale, "seed %llu: %.12g forward, %.12g in reverse",
                     (unsigned long long)seed, forward, reverse);
    wg_tape_free(tape);
    for (int k = 0; k < tensors; k++)
        wg_tensor_free(made[k]);
    return finite;
}

Test(random_graph, forward_mode_is_the_transpose_of_reverse_mode) {
    int compared = 0;
    for (uint64_t seed = 1000; seed < 1150; seed++)
        compared += transposes_agree(seed);
    cr_expect_gt(compared, 100, "only %d of 150 graphs are finite", compared);
}
