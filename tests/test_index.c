/* gather, scatter_add and one_hot, held against naive loops; the adjoint of many readers built once. */
#include "suite.h"

#include "differences.h"

/* Shapes as [before, size, after] with an index of one or two axes put in place of `size`. */
static const struct {
    int rank, axis, index_rank;
    int64_t dim[4], index_dim[2];
} cases[] = {{1, 0, 1, {5}, {7}},          {2, 0, 1, {6, 3}, {4}},       {2, 0, 2, {6, 33}, {4, 5}}, {2, -1, 1, {3, 5}, {2}},
             {3, 1, 2, {2, 4, 3}, {3, 2}}, {3, -3, 0, {4, 2, 2}, {0}},   {2, 1, 0, {1, 1}, {0}},     {3, 1, 1, {2, 3, 1}, {300}},
             {2, 0, 1, {3, 2}, {0}},       {2, 0, 1, {900, 70}, {2000}}, {3, 2, 2, {2, 0, 3}, {2, 2}}};

typedef struct sizes {
    int64_t before, size, after, count;
} sizes;

static sizes sizes_of(int k) {
    sizes s = {1, 1, 1, 1};
    int axis = cases[k].axis < 0 ? cases[k].axis + cases[k].rank : cases[k].axis;
    for (int i = 0; i < cases[k].rank; i++)
        *(i < axis ? &s.before : i == axis ? &s.size : &s.after) *= cases[k].dim[i];
    for (int i = 0; i < cases[k].index_rank; i++)
        s.count *= cases[k].index_dim[i];
    return s;
}

Test(index, gather_agrees_with_a_naive_loop) {
    for (int k = 0; k < WG_LEN(cases); k++)
        for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++) {
            sizes s = sizes_of(k);
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *x = drawn(dtype, cases[k].rank, cases[k].dim, -9, 9, 1);
            wg_tensor *index = drawn(WG_I32, cases[k].index_rank, cases[k].index_dim, 0, (double)s.size, 2);
            wg_tensor *y = evaluated(wg_gather(wg_leaf(tape, x), wg_leaf(tape, index), cases[k].axis), 2);
            cr_assert_eq(wg_tensor_shape(y)->rank, cases[k].rank - 1 + cases[k].index_rank);
            cr_assert_eq(wg_tensor_shape(y)->count, s.before * s.count * s.after);
            for (int64_t b = 0; b < s.before; b++)
                for (int64_t i = 0; i < s.count; i++)
                    for (int64_t a = 0; a < s.after; a++) {
                        int64_t from = (int64_t)wg_tensor_get(index, i);
                        cr_assert_eq(wg_tensor_get(y, (b * s.count + i) * s.after + a),
                                     wg_tensor_get(x, (b * s.size + from) * s.after + a));
                    }
            wg_tensor_free(x);
            wg_tensor_free(index);
            wg_tensor_free(y);
            wg_tape_free(tape);
        }
}

Test(index, scatter_add_agrees_with_a_naive_loop) {
    for (int k = 0; k < WG_LEN(cases); k++)
        for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
            sizes s = sizes_of(k);
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *index = drawn(WG_I32, cases[k].index_rank, cases[k].index_dim, 0, (double)s.size, 2);
            wg_tensor *like = drawn(dtype, cases[k].rank, cases[k].dim, -1, 1, 1);
            wg_var at = wg_leaf(tape, index), shaped = wg_gather(wg_leaf(tape, like), at, cases[k].axis);
            wg_tensor *x = drawn(dtype, wg_rank(shaped), wg_var_shape(shaped)->dim, -1, 1, 3);
            wg_tensor *y = evaluated(wg_scatter_add(wg_leaf(tape, x), at, cases[k].axis, s.size), 2);
            cr_assert(wg__shape_same(wg_tensor_shape(y), wg_tensor_shape(like)));
            long double *sum = calloc((size_t)wg_tensor_shape(y)->count + 1, sizeof *sum);
            for (int64_t i = 0; i < wg_tensor_shape(x)->count; i++) {
                int64_t a = i % s.after, from = i / s.after % s.count, b = i / s.after / s.count;
                sum[(b * s.size + (int64_t)wg_tensor_get(index, from)) * s.after + a] += wg_tensor_get(x, i);
            }
            for (int64_t i = 0; i < wg_tensor_shape(y)->count; i++)
                cr_assert_float_eq(wg_tensor_get(y, i), (double)sum[i], dtype == WG_F32 ? 1e-5 : 1e-14);
            free(sum);
            wg_tensor_free(x);
            wg_tensor_free(y);
            wg_tensor_free(index);
            wg_tensor_free(like);
            wg_tape_free(tape);
        }
}

Test(index, one_hot_marks_one_place_a_row) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *index = drawn(WG_I32, 2, (const int64_t[]){3, 4}, 0, 5, 1);
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++) {
        wg_tensor *y = evaluated(wg_one_hot(wg_leaf(tape, index), 5, dtype), 1);
        cr_assert_eq(wg_tensor_dtype(y), dtype);
        cr_assert_eq(wg_tensor_shape(y)->rank, 3);
        for (int64_t i = 0; i < 60; i++)
            cr_assert_eq(wg_tensor_get(y, i), wg_tensor_get(index, i / 5) == i % 5);
        wg_tensor_free(y);
    }
    wg_tensor_free(index);
    wg_tape_free(tape);
}

Test(index, a_bad_index_is_named_with_its_place) {
    static const struct {
        double index[3];
        const char *text;
    } bad[] = {{{0, 1, 4}, "index 4 at position 2 lies outside [0, 4)"},
               {{-1, 9, 2}, "index -1 at position 0 lies outside [0, 4)"},
               {{0, 2147483647, -2147483648.0}, "index 2147483647 at position 1 lies outside [0, 4)"}};
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){4, 3}, 0, 1, 1);
    for (int k = 0; k < WG_LEN(bad); k++) {
        wg_var index = leaf_of(tape, WG_I32, 1, (const int64_t[]){3}, bad[k].index);
        wg_var readers[] = {wg_gather(x, index, 0), wg_scatter_add(wg_slice(x, 0, 0, 3), index, 0, 4), wg_one_hot(index, 4, WG_F32)};
        for (int r = 0; r < 3; r++) {
            wg_error error = run_error(readers[r]);
            cr_assert_eq(error.status, WG_RANGE);
            cr_assert(strstr(error.text, bad[k].text), "%s", error.text);
        }
    }
    wg_tape_free(tape);
}

Test(index, shapes_and_types_that_do_not_fit_are_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){4, 3}, 0, 1, 1);
    wg_var index = drawn_leaf(tape, WG_I32, 2, (const int64_t[]){4, 2}, 0, 3, 1);
    static const char *const texts[] = {"gather: (4,3) has no axis 2", "gather: indices are i32, not f32",
                                        "scatter_add: (4,3) does not hold indices of (4,2) from axis 0 on",
                                        "scatter_add: size -1 is negative", "scatter_add: takes floats, not i32",
                                        "scatter_add: (4,3) with indices of (4,2) has no axis 1",
                                        "one_hot: indices are i32, not f32", "one_hot: size -2 is negative",
                                        "one_hot: no such element type: 9"};
    for (int k = 0; k < WG_LEN(texts); k++) {
        wg_var y = k == 0   ? wg_gather(x, index, 2)
                   : k == 1 ? wg_gather(x, x, 0)
                   : k == 2 ? wg_scatter_add(x, index, 0, 3)
                   : k == 3 ? wg_scatter_add(x, wg_argmax(x, 1, false), 0, -1)
                   : k == 4 ? wg_scatter_add(index, index, 0, 3)
                   : k == 5 ? wg_scatter_add(x, index, 1, 3)
                   : k == 6 ? wg_one_hot(x, 3, WG_F32)
                   : k == 7 ? wg_one_hot(index, -2, WG_F32)
                            : wg_one_hot(index, 3, (wg_dtype)9);
        cr_assert(!wg_valid(y));
        cr_assert_str_eq(wg_tape_message(tape), texts[k]);
        wg_tape_clear(tape);
    }
    wg_var deep = wg_reshape(index, 8, (const int64_t[]){1, 1, 1, 1, 1, 1, 4, 2});
    cr_assert(!wg_valid(wg_gather(x, deep, 0)));
    cr_assert_str_eq(wg_tape_message(tape), "gather: the result would have more than 8 axes");
    wg_tape_free(tape);
}

/* Elements of all nodes recorded after `from`. */
static int64_t elements_since(const wg_tape *tape, int64_t from) {
    int64_t sum = 0;
    for (int64_t id = from + 1; id < tape->count; id++)
        if (wg__node(tape, id)->op->kind != WG_LEAF && wg__node(tape, id)->op->kind != WG_VIEW)
            sum += wg__node(tape, id)->shape->count;
    return sum;
}

/* What the gradient of T gathers from one table costs. */
static void gradient_of_gathers(int64_t T, int64_t *nodes, int64_t *elements) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var table = drawn_leaf(tape, WG_F64, 2, (const int64_t[]){1000, 4}, -1, 1, 1), sum = wg_c(0), g;
    for (int64_t t = 0; t < T; t++) {
        wg_var index = drawn_leaf(tape, WG_I32, 1, (const int64_t[]){3}, 0, 1000, (uint64_t)t);
        sum = wg_add(sum, wg_sum(wg_square(wg_gather(table, index, 0)), 0, NULL, false));
    }
    int64_t before = wg_tape_count(tape);
    cr_assert_eq(wg_grad(sum, 1, &table, &g), WG_OK);
    *nodes = wg_tape_count(tape) - before;
    *elements = elements_since(tape, before);
    int scatters = 0;
    for (int64_t id = before + 1; id < tape->count; id++)
        scatters += wg__node(tape, id)->op == wg_op_find("scatter_add")->op;
    cr_assert_eq(scatters, 1, "one for all readers");
    wg_tape_free(tape);
}

Test(index, the_adjoint_of_many_readers_costs_what_they_read) {
    int64_t nodes[3], elements[3];
    for (int k = 0; k < 3; k++)
        gradient_of_gathers(100 << k, &nodes[k], &elements[k]);
    cr_assert_eq(nodes[2] - nodes[1], 2 * (nodes[1] - nodes[0]), "linear in the readers");
    cr_assert_eq(elements[2] - elements[1], 2 * (elements[1] - elements[0]));
    cr_assert_lt(elements[2], 400 * 3 * 4 * 20 + 4 * 1000 * 4, "no dense array a reader");
}

Test(index, results_have_the_same_bits_for_any_number_of_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_var x = drawn_leaf(tape, dtype, 2, (const int64_t[]){3000, 150}, -1, 1, 1), dx;
        wg_var index = drawn_leaf(tape, WG_I32, 1, (const int64_t[]){5000}, 0, 150, 2);
        wg_var y = wg_gather(x, index, 1);
        cr_assert(same_bits_for_any_threads(wg_slice(y, 1, 0, 200)));
        wg_var rows = wg_gather(x, wg_slice(index, 0, 0, 900), 0);
        wg_grad(wg_sum(wg_square(rows), 0, NULL, false), 1, &x, &dx);
        cr_assert(same_bits_for_any_threads(dx));
    }
    wg_tape_free(tape);
}

Test(index, derivatives_agree_with_differences) {
    check_examples("gather");
    check_examples("scatter_add");
    check_examples("one_hot");
}
