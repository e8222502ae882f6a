/* Views: the same elements under other indices, held against naive loops over chains of views; the adjoint of slices. */
#include "suite.h"

#include "differences.h"
#include "failing.h"

/* ---- an array whose elements are looked up one by one, beside the var it stands for ---- */

typedef struct naive {
    int rank;
    int64_t dim[WG_MAX_RANK], count;
    double *value;
} naive;

static naive naive_new(int rank, const int64_t *dim) {
    naive a = {.rank = rank, .count = 1};
    for (int k = 0; k < rank; k++)
        a.count *= a.dim[k] = dim[k];
    a.value = calloc((size_t)a.count + 1, sizeof *a.value);
    return a;
}

/* The index of an element by its row-major number, and back. */
static void index_of(const naive *a, int64_t at, int64_t *index) {
    for (int k = a->rank - 1; k >= 0; k--) {
        index[k] = at % a->dim[k];
        at /= a->dim[k];
    }
}

static int64_t place_of(const naive *a, const int64_t *index) {
    int64_t at = 0;
    for (int k = 0; k < a->rank; k++)
        at = at * a->dim[k] + index[k];
    return at;
}

static void replace(naive *a, naive with) {
    free(a->value);
    *a = with;
}

static void naive_reshape(naive *a, int rank, const int64_t *dim) {
    naive to = naive_new(rank, dim);
    memcpy(to.value, a->value, (size_t)a->count * sizeof *a->value);
    replace(a, to);
}

static void naive_permute(naive *a, const int *axis) {
    int64_t dim[WG_MAX_RANK], index[WG_MAX_RANK], from[WG_MAX_RANK];
    for (int k = 0; k < a->rank; k++)
        dim[k] = a->dim[axis[k]];
    naive to = naive_new(a->rank, dim);
    for (int64_t i = 0; i < to.count; i++) {
        index_of(&to, i, index);
        for (int k = 0; k < a->rank; k++)
            from[axis[k]] = index[k];
        to.value[i] = a->value[place_of(a, from)];
    }
    replace(a, to);
}

/* Elements first, first+step, … of an axis. */
static void naive_pick(naive *a, int axis, int64_t first, int64_t step, int64_t count) {
    int64_t dim[WG_MAX_RANK], index[WG_MAX_RANK];
    memcpy(dim, a->dim, sizeof dim);
    dim[axis] = count;
    naive to = naive_new(a->rank, dim);
    for (int64_t i = 0; i < to.count; i++) {
        index_of(&to, i, index);
        index[axis] = first + step * index[axis];
        to.value[i] = a->value[place_of(a, index)];
    }
    replace(a, to);
}

/* ---- chains of random views ---- */

static int64_t below(wg_random *r, int64_t n) { return (int64_t)wg_random_below(r, (uint64_t)n); }

/* A random shape of the same number of elements: its prime factors dealt out over random axes. */
static int random_shape(wg_random *r, int64_t count, int64_t *dim) {
    int rank = 1 + (int)below(r, 5);
    for (int k = 0; k < rank; k++)
        dim[k] = 1;
    if (count == 0) {
        dim[below(r, rank)] = 0;
        return rank;
    }
    for (int64_t factor = 2; count > 1; factor++)
        for (; count % factor == 0; count /= factor)
            dim[below(r, rank)] *= factor;
    return rank;
}

/* One random view of x, and the same done to a. */
static wg_var random_view(wg_random *r, wg_var x, naive *a) {
    int64_t dim[WG_MAX_RANK];
    int axis = a->rank ? (int)below(r, a->rank) : 0, order[WG_MAX_RANK];
    switch (below(r, a->rank ? 5 : 1)) {
    case 0: {
        int rank = random_shape(r, a->count, dim);
        naive_reshape(a, rank, dim);
        return wg_reshape(x, rank, dim);
    }
    case 1:
        for (int k = 0; k < a->rank; k++) {
            int j = (int)below(r, k + 1);
            order[k] = order[j];
            order[j] = k;
        }
        naive_permute(a, order);
        return wg_permute(x, a->rank, order);
    case 2: {
        int64_t from = below(r, a->dim[axis] + 1), count = a->dim[axis] - from;
        if (count > 1)
            count -= below(r, 2);
        naive_pick(a, axis, from, 1, count);
        return wg_slice(x, axis - (below(r, 2) ? a->rank : 0), from, count);
    }
    case 3:
        naive_pick(a, axis, a->dim[axis] - 1, -1, a->dim[axis]);
        return wg_flip(x, axis);
    default:
        if (a->count > 300 || a->rank > 5)
            return x;
        dim[0] = 1 + below(r, 3);
        memcpy(dim + 1, a->dim, sizeof *dim * (size_t)a->rank);
        naive_reshape(a, a->rank + 1, (const int64_t[]){1, a->dim[0], a->dim[1], a->dim[2], a->dim[3], a->dim[4]});
        naive_pick(a, 0, 0, 0, dim[0]);
        return wg_broadcast_to(x, a->rank, dim);
    }
}

Test(view, chains_of_random_views_agree_with_naive_loops) {
    static const int64_t starts[][4] = {{6, 4, 5, 2}, {12, 1, 2, 3}, {3, 3, 3, 3}, {1, 1, 1, 1}, {2, 0, 3, 1}, {8, 9, 1, 1}};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        wg_random r = {.seed = seed};
        const int64_t *start = starts[seed % WG_LEN(starts)];
        wg_dtype dtype = (wg_dtype)(WG_F32 + seed % 3);
        naive a = naive_new(4, start);
        wg_tape *tape = wg_tape_new(NULL);
        for (int64_t i = 0; i < a.count; i++)
            a.value[i] = (double)i;
        wg_var x = leaf_of(tape, dtype, 4, start, a.value);
        int length = 1 + (int)below(&r, 6);
        for (int k = 0; k < length; k++)
            x = random_view(&r, x, &a);
        wg_tensor *y = evaluated(x, 1), *negative = evaluated(wg_neg(x), 1);
        cr_assert_eq(wg_tensor_shape(y)->count, a.count);
        cr_assert_eq(wg_tensor_shape(y)->rank, a.rank);
        for (int64_t i = 0; i < a.count; i++) {
            cr_assert_eq(wg_tensor_get(y, i), a.value[i], "seed %lu, element %ld", (unsigned long)seed, (long)i);
            cr_assert_eq(wg_tensor_get(negative, i), -a.value[i], "seed %lu, element %ld", (unsigned long)seed, (long)i);
        }
        wg_tensor_free(y);
        wg_tensor_free(negative);
        free(a.value);
        wg_tape_free(tape);
    }
}

Test(view, a_long_axis_is_walked_backwards) {
    enum { LONG = 5000 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = drawn(WG_F32, 2, (const int64_t[]){3, LONG}, -1, 1, 1);
    wg_var y = wg_neg(wg_flip(wg_leaf(tape, x), 1));
    wg_tensor *t = evaluated(y, 1);
    for (int64_t i = 0; i < 3 * LONG; i++)
        cr_assert_eq(wg_tensor_get(t, i), -wg_tensor_get(x, i / LONG * LONG + LONG - 1 - i % LONG));
    cr_assert(same_bits_for_any_threads(y));
    wg_tensor_free(t);
    wg_tensor_free(x);
    wg_tape_free(tape);
}

Test(view, a_reshape_that_strides_can_express_copies_nothing) {
    const wg_op *reshape = wg_op_find("reshape")->op;
    int64_t out_stride[WG_MAX_RANK], offset;
    /* (4,6) with rows 8 apart: (2,2,3,2) is a view of it, (24) is not. */
    wg_shape in, split, flat;
    wg__shape_set(&in, 2, (const int64_t[]){4, 6});
    wg__shape_set(&split, 4, (const int64_t[]){2, 2, 3, 2});
    wg__shape_set(&flat, 1, (const int64_t[]){24});
    cr_assert(reshape->view(NULL, &in, (const int64_t[]){8, 1}, &split, out_stride, &offset));
    static const int64_t expected[] = {16, 8, 2, 1};
    for (int k = 0; k < 4; k++)
        cr_assert_eq(out_stride[k], expected[k]);
    cr_assert_not(reshape->view(NULL, &in, (const int64_t[]){8, 1}, &flat, out_stride, &offset));
    cr_assert(reshape->view(NULL, &in, (const int64_t[]){-6, -1}, &flat, out_stride, &offset), "reversed in both axes");
    cr_assert_eq(out_stride[0], -1);
    cr_assert(reshape->view(NULL, &in, (const int64_t[]){0, 0}, &flat, out_stride, &offset), "one element repeated");
    cr_assert_eq(out_stride[0], 0);
}

/* ---- the adjoint of slices ---- */

typedef struct read {
    int axis;
    int64_t from, count;
} read;

/* The gradient of a sum of weighted slices, against adding up the weights place by place. */
static void check_slices(int n, const read *reads) {
    int64_t dim[] = {7, 5};
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F64, 2, dim, -1, 1, 1), sum = wg_like(wg_sum_to(x, 0, NULL), 0), g;
    double expected[35] = {0};
    for (int k = 0; k < n; k++) {
        wg_var part = wg_slice(x, reads[k].axis, reads[k].from, reads[k].count);
        const wg_shape *shape = wg_var_shape(part);
        wg_tensor *weight = drawn(WG_F64, 2, shape->dim, -1, 1, (uint64_t)k);
        for (int64_t i = 0; i < shape->count; i++) {
            int64_t row = i / shape->dim[1], column = i % shape->dim[1];
            *(reads[k].axis ? &column : &row) += reads[k].from;
            expected[row * 5 + column] += wg_tensor_get(weight, i);
        }
        sum = wg_add(sum, wg_sum_to(wg_mul(part, wg_leaf(tape, weight)), 0, NULL));
        wg_tensor_free(weight);
    }
    cr_assert_eq(wg_grad(sum, 1, &x, &g), WG_OK, "%s", wg_tape_message(tape));
    wg_tensor *y = evaluated(g, 1);
    for (int i = 0; i < 35; i++)
        cr_assert_float_eq(wg_tensor_get(y, i), expected[i], 1e-14, "element %d", i);
    wg_tensor_free(y);
    wg_tape_free(tape);
}

Test(view, the_adjoint_of_slices_is_right_however_they_lie) {
    static const struct {
        int n;
        read reads[6];
    } some[] = {{1, {{0, 2, 3}}},
                {1, {{1, 0, 5}}},
                {1, {{0, 3, 0}}},
                {2, {{0, 0, 3}, {0, 3, 4}}},
                {3, {{0, 0, 2}, {0, 4, 1}, {0, 6, 1}}},
                {3, {{0, 1, 3}, {0, 1, 3}, {0, 1, 3}}},
                {3, {{0, 0, 4}, {0, 2, 3}, {0, 3, 4}}},
                {4, {{0, 0, 7}, {0, 0, 1}, {0, 3, 1}, {0, 6, 1}}},
                {4, {{0, 1, 5}, {0, 2, 3}, {0, 3, 1}, {0, 0, 7}}},
                {4, {{1, 1, 2}, {0, 1, 3}, {1, 0, 5}, {0, 0, 7}}},
                {5, {{1, 1, 0}, {0, 1, 0}, {1, 1, 1}, {0, 7, 0}, {0, 0, 0}}}};
    for (int k = 0; k < WG_LEN(some); k++)
        check_slices(some[k].n, some[k].reads);
    for (uint64_t seed = 0; seed < 500; seed++) {
        wg_random r = {.seed = seed};
        read reads[12];
        int n = 1 + (int)below(&r, 12);
        for (int k = 0; k < n; k++) {
            reads[k].axis = (int)below(&r, 2);
            int64_t size = reads[k].axis ? 5 : 7;
            reads[k].from = below(&r, size + 1);
            reads[k].count = below(&r, size - reads[k].from + 1);
        }
        check_slices(n, reads);
    }
}

/* What the gradient of T steps costs that each read `width` rows of one array, `step` rows on. */
static void gradient_of_slices(int64_t T, int64_t width, int64_t step, int64_t *nodes, int64_t *elements) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F64, 2, (const int64_t[]){T * step + width, 3}, -1, 1, 1), sum = wg_c(0), g;
    for (int64_t t = 0; t < T; t++)
        sum = wg_add(sum, wg_sum_to(wg_square(wg_slice(x, 0, t * step, width)), 0, NULL));
    int64_t before = wg_tape_count(tape);
    cr_assert_eq(wg_grad(sum, 1, &x, &g), WG_OK);
    *nodes = wg_tape_count(tape) - before;
    *elements = 0;
    for (int64_t id = before + 1; id < tape->count; id++)
        if (wg__node(tape, id)->op->kind != WG_LEAF && wg__node(tape, id)->op->kind != WG_VIEW)
            *elements += wg__node(tape, id)->shape->count;
    wg_tape_free(tape);
}

Test(view, the_adjoint_of_many_slices_costs_what_they_read) {
    for (int64_t width = 1; width <= 4; width++)
        for (int64_t step = 1; step <= 3; step++) {
            int64_t nodes[3], elements[3];
            for (int k = 0; k < 3; k++)
                gradient_of_slices(120 << k, width, step, &nodes[k], &elements[k]);
            cr_assert_leq(nodes[2], 2 * nodes[1]);
            cr_assert_leq(nodes[1], 2 * nodes[0]);
            cr_assert_leq(elements[2], 2 * elements[1]);
            cr_assert_leq(elements[1], 2 * elements[0]);
            cr_assert_leq(elements[2], 480 * 3 * (width + step) * 8, "no dense array a reader: %ld", (long)elements[2]);
        }
}

/* ---- split, and what fails ---- */

Test(view, split_gives_neighbouring_slices) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){2, 6}, -1, 1, 1), part[3];
    for (int equal = 0; equal < 2; equal++) {
        cr_assert(wg_valid(wg_split(x, -1, 3, equal ? NULL : (const int64_t[]){1, 0, 5}, part)));
        wg_tensor *a = evaluated(wg_concat(3, part, 1), 1), *b = evaluated(x, 1);
        cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
        cr_assert_eq(wg_dim(part[1], 1), equal ? 2 : 0);
        wg_tensor_free(a);
        wg_tensor_free(b);
    }
    wg_tape_free(tape);
}

Test(view, what_does_not_fit_is_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){2, 6}, -1, 1, 1), part[4];
    static const struct {
        wg_status status;
        const char *text;
    } failures[] = {{WG_SHAPE, "reshape: (2,6) has 12 elements, the new shape 10"},
                    {WG_SHAPE, "reshape: size -3 of axis 1 is not a size"},
                    {WG_RANGE, "reshape: at most 8 axes, not 9"},
                    {WG_SHAPE, "permute: axis 0 is out of range or twice"},
                    {WG_SHAPE, "permute: 1 axes given for (2,6)"},
                    {WG_SHAPE, "transpose: the operand has fewer than two axes"},
                    {WG_SHAPE, "broadcast_to: (2,6) does not broadcast to (4,6)"},
                    {WG_RANGE, "slice: 5 elements from 2 on lie outside axis 1 of (2,6)"},
                    {WG_RANGE, "slice: (2,6) has no axis -3"},
                    {WG_RANGE, "slice: 9223372036854775807 elements from 9223372036854775807 on lie outside axis 0 of (2,6)"},
                    {WG_RANGE, "flip: (2,6) has no axis 2"},
                    {WG_SHAPE, "split: axis 1 of (2,6) in 4 equal parts"},
                    {WG_SHAPE, "split: part 2, of size 3, does not fit axis 1 of (2,6)"},
                    {WG_SHAPE, "split: the parts of axis 1 of (2,6) add up to 5"},
                    {WG_RANGE, "split: (2,6) has no axis 7"}};
    for (int k = 0; k < WG_LEN(failures); k++) {
        const int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 2, 6};
        wg_var y = k == 0    ? wg_reshape(x, 2, (const int64_t[]){2, 5})
                   : k == 1  ? wg_reshape(x, 2, (const int64_t[]){-1, -3})
                   : k == 2  ? wg_reshape(x, 9, nine)
                   : k == 3  ? wg_permute(x, 2, (const int[]){0, 0})
                   : k == 4  ? wg_permute(x, 1, (const int[]){0})
                   : k == 5  ? wg_transpose(wg_reshape(x, 1, (const int64_t[]){12}))
                   : k == 6  ? wg_broadcast_to(x, 2, (const int64_t[]){4, 6})
                   : k == 7  ? wg_slice(x, 1, 2, 5)
                   : k == 8  ? wg_slice(x, -3, 0, 1)
                   : k == 9  ? wg_slice(x, 0, INT64_MAX, INT64_MAX)
                   : k == 10 ? wg_flip(x, 2)
                   : k == 11 ? wg_split(x, 1, 4, NULL, part)
                   : k == 12 ? wg_split(x, 1, 2, (const int64_t[]){4, 3}, part)
                   : k == 13 ? wg_split(x, 1, 2, (const int64_t[]){4, 1}, part)
                             : wg_split(x, 7, 2, NULL, part);
        cr_assert(!wg_valid(y));
        cr_assert_str_eq(wg_tape_message(tape), failures[k].text);
        cr_assert_eq(wg_tape_status(tape), failures[k].status);
        wg_tape_clear(tape);
    }
    cr_assert(!wg_valid(wg_split((wg_var){0}, 0, 2, NULL, part)));
    cr_assert(!wg_valid(part[1]));
    wg_tape_free(tape);
}

Test(view, derivatives_agree_with_differences) {
    static const char *const ops[] = {"reshape", "permute", "transpose", "broadcast_to", "slice", "split", "flip"};
    for (int k = 0; k < WG_LEN(ops); k++)
        check_examples(ops[k]);
}

/* ---- memory ---- */

/* Slices, gathers, stacks and their adjoints, recorded and run; the status. */
static wg_status record_and_run(wg_memory *memory, wg_tensor *x, wg_tensor *index) {
    wg_tape *tape = wg_tape_new(memory);
    if (!tape)
        return WG_MEMORY;
    wg_var leaf = wg_leaf(tape, x), part[3], g;
    wg_split(leaf, 0, 3, NULL, part);
    wg_var rows = wg_stack(3, part, 1), picked = wg_gather(leaf, wg_leaf(tape, index), 0);
    wg_var sum = wg_add(wg_norm(wg_flip(rows, 0), 0, NULL, false), wg_prod(wg_gather(picked, wg_leaf(tape, index), 1), 0, NULL, false));
    sum = wg_add(sum, wg_logsumexp(wg_mul(wg_slice(leaf, 0, 1, 3), wg_slice(leaf, 0, 2, 3)), 0, NULL, false));
    wg_tensor *out = NULL;
    wg_status status = wg_grad(sum, 1, &leaf, &g);
    cr_expect_eq(status, wg_tape_status(tape));
    if (status == WG_OK)
        status = wg_eval(1, &g, &out, NULL);
    cr_expect(status == WG_OK ? out != NULL : out == NULL);
    wg_tensor_free(out);
    wg_tape_free(tape);
    return status;
}

Test(view, running_out_of_memory_is_survived_wherever_it_happens) {
    wg_tensor *x = drawn(WG_F64, 2, (const int64_t[]){6, 40}, 0.5, 1, 1), *index = drawn(WG_I32, 1, (const int64_t[]){5}, 0, 6, 1);
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_status status = record_and_run(memory, x, index);
        reached = failing_failed(&f);
        /* A view without memory for its strides is copied instead, and all is well. */
        cr_assert(status == WG_OK || (reached && status == WG_MEMORY), "allocation %ld: %d", k, status);
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        wg_memory_free(memory);
        cr_assert_lt(k, 10000);
    }
    wg_tensor_free(x);
    wg_tensor_free(index);
}

Test(view, a_broadcast_to_its_own_shape_passes_the_gradient_on) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = drawn(WG_F64, 2, (const int64_t[]){2, 3}, 0.5, 1, 1);
    wg_var leaf = wg_leaf(tape, x), g;
    wg_var wide = wg_broadcast_to(leaf, 2, (const int64_t[]){2, 3});
    cr_assert_eq(wg_grad(wg_sum(wg_square(wide), 0, NULL, false), 1, &leaf, &g), WG_OK, "%s", wg_tape_message(tape));
    wg_tensor *out = NULL;
    cr_assert_eq(wg_eval(1, &g, &out, NULL), WG_OK);
    for (int64_t i = 0; i < 6; i++)
        cr_assert_float_eq(wg_tensor_get(out, i), 2 * wg_tensor_get(x, i), 1e-15);
    wg_tensor_free(out), wg_tensor_free(x);
    wg_tape_free(tape);
}
