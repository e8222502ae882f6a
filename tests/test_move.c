/* concat, stack and pad, held against naive loops. */
#include "suite.h"

#include "differences.h"

/* Element (before, at, after) of a tensor seen around an axis. */
static double around(const wg_tensor *x, int axis, int64_t before, int64_t at, int64_t after) {
    const wg_shape *shape = wg_tensor_shape(x);
    int64_t inner = 1;
    for (int k = axis + 1; k < shape->rank; k++)
        inner *= shape->dim[k];
    return wg_tensor_get(x, (before * shape->dim[axis] + at) * inner + after);
}

Test(move, concat_agrees_with_a_naive_loop) {
    static const int64_t sizes[] = {2, 0, 1, 40, 3};
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++)
        for (int axis = -3; axis < 3; axis++) {
            int at = axis < 0 ? axis + 3 : axis;
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *part[5];
            wg_var in[5];
            int64_t before = 1, after = 1;
            for (int k = 0; k < 5; k++) {
                int64_t dim[] = {3, 2, 4};
                dim[at] = sizes[k];
                part[k] = drawn(dtype, 3, dim, -9, 9, (uint64_t)k + 1);
                in[k] = wg_leaf(tape, part[k]);
                before = at == 0 ? 1 : at == 1 ? 3 : 6;
                after = at == 0 ? 8 : at == 1 ? 4 : 1;
            }
            wg_tensor *y = evaluated(wg_concat(5, in, axis), 2);
            cr_assert_eq(wg_tensor_shape(y)->dim[at], 46);
            for (int64_t b = 0; b < before; b++)
                for (int64_t a = 0; a < after; a++)
                    for (int64_t k = 0, place = 0; k < 5; k++)
                        for (int64_t i = 0; i < sizes[k]; i++, place++)
                            cr_assert_eq(around(y, at, b, place, a), around(part[k], at, b, i, a));
            for (int k = 0; k < 5; k++)
                wg_tensor_free(part[k]);
            wg_tensor_free(y);
            wg_tape_free(tape);
        }
}

Test(move, concat_of_many_and_of_strided_operands) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = drawn(WG_F64, 2, (const int64_t[]){50, 40}, -1, 1, 1);
    wg_var row[40], leaf = wg_leaf(tape, x);
    for (int k = 0; k < 40; k++) /* columns, which are strided, and a repeated number among them */
        row[k] = k == 7 ? wg_full(tape, WG_F64, 2, (const int64_t[]){1, 50}, 5) : wg_transpose(wg_slice(leaf, 1, k, 1));
    wg_var y = wg_concat(40, row, 0);
    wg_tensor *t = evaluated(y, 1);
    for (int k = 0; k < 40; k++)
        for (int i = 0; i < 50; i++)
            cr_assert_eq(wg_tensor_get(t, k * 50 + i), k == 7 ? 5 : wg_tensor_get(x, i * 40 + k));
    cr_assert(same_bits_for_any_threads(y));
    wg_tensor_free(t);
    wg_tensor_free(x);
    wg_tape_free(tape);
}

Test(move, stack_puts_a_new_axis_anywhere) {
    wg_tape *tape = wg_tape_new(NULL);
    for (int axis = -3; axis < 3; axis++) {
        int at = axis < 0 ? axis + 3 : axis;
        wg_tensor *part[2] = {drawn(WG_F32, 2, (const int64_t[]){3, 4}, -1, 1, 1), drawn(WG_F32, 2, (const int64_t[]){3, 4}, -1, 1, 2)};
        wg_tensor *y = evaluated(wg_stack(2, (const wg_var[]){wg_leaf(tape, part[0]), wg_leaf(tape, part[1])}, axis), 1);
        cr_assert_eq(wg_tensor_shape(y)->rank, 3);
        cr_assert_eq(wg_tensor_shape(y)->dim[at], 2);
        for (int64_t i = 0; i < 12; i++)
            for (int k = 0; k < 2; k++) {
                int64_t inner = at == 0 ? 12 : at == 1 ? 4 : 1;
                cr_assert_eq(around(y, at, i / inner, k, i % inner), wg_tensor_get(part[k], i));
            }
        wg_tensor_free(part[0]);
        wg_tensor_free(part[1]);
        wg_tensor_free(y);
    }
    wg_tape_free(tape);
}

Test(move, pad_puts_the_value_around) {
    wg_tape *tape = wg_tape_new(NULL);
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++)
        for (int64_t before = 0; before < 3; before++)
            for (int64_t after = 0; after < 3; after++)
                for (int axis = 0; axis < 2; axis++) {
                    wg_tensor *x = drawn(dtype, 2, (const int64_t[]){3, 4}, -9, 9, 1);
                    wg_tensor *y = evaluated(wg_pad(wg_leaf(tape, x), axis - 2, before, after, -7), 1);
                    int64_t size = axis ? 4 : 3, others = 12 / size;
                    cr_assert_eq(wg_tensor_shape(y)->dim[axis], size + before + after);
                    for (int64_t o = 0; o < others; o++)
                        for (int64_t i = 0; i < size + before + after; i++) {
                            bool inside = i >= before && i < before + size;
                            int64_t b = axis ? o : 0, a = axis ? 0 : o;
                            cr_assert_eq(around(y, axis, b, i, a), inside ? around(x, axis, b, i - before, a) : -7);
                        }
                    wg_tensor_free(x);
                    wg_tensor_free(y);
                }
    wg_tape_free(tape);
}

Test(move, what_does_not_fit_is_named) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = drawn_leaf(tape, WG_F32, 2, (const int64_t[]){2, 3}, 0, 1, 1), t = wg_transpose(x), i = wg_argmax(x, 1, true);
    wg_var deep = wg_reshape(x, 8, (const int64_t[]){1, 1, 1, 1, 1, 1, 2, 3});
    static const char *const texts[] = {"concat: (2,3) has no axis 2", "concat: (2,3) and (3,2) differ beside axis 0",
                                        "concat: operands are f32 and i32", "stack: (2,3) and (3,2) differ",
                                        "stack: no place 3 for an axis in (2,3)", "reshape: at most 8 axes, not 9",
                                        "pad: (2,3) has no axis 2", "pad: -1 before and 0 after axis 0 of (2,3)",
                                        "concat: the result would have too many elements"};
    for (int k = 0; k < WG_LEN(texts); k++) {
        wg_var y = k == 0   ? wg_concat(2, (const wg_var[]){x, x}, 2)
                   : k == 1 ? wg_concat(2, (const wg_var[]){x, t}, 0)
                   : k == 2 ? wg_concat(2, (const wg_var[]){x, i}, 1)
                   : k == 3 ? wg_stack(2, (const wg_var[]){x, t}, 0)
                   : k == 4 ? wg_stack(2, (const wg_var[]){x, x}, 3)
                   : k == 5 ? wg_stack(2, (const wg_var[]){deep, deep}, 0)
                   : k == 6 ? wg_pad(x, 2, 1, 1, 0)
                   : k == 7 ? wg_pad(x, 0, -1, 0, 0)
                            : wg_pad(wg_full(tape, WG_F32, 1, (const int64_t[]){INT64_MAX / 8}, 0), 0, INT64_MAX / 8, INT64_MAX, 0);
        cr_assert(!wg_valid(y));
        if (k < 8)
            cr_assert_str_eq(wg_tape_message(tape), texts[k]);
        cr_assert_neq(wg_tape_status(tape), WG_OK);
        wg_tape_clear(tape);
    }
    cr_assert(!wg_valid(wg_stack(0, NULL, 0)));
    cr_assert(!wg_valid(wg_concat(0, NULL, 0)));
    cr_assert(!wg_valid(wg_stack(2, (const wg_var[]){x, {0}}, 0)));
    cr_assert(!wg_valid(wg_pad((wg_var){0}, 0, 1, 1, 0)));
    wg_tape_free(tape);
}

Test(move, derivatives_agree_with_differences) {
    check_examples("concat");
    check_examples("stack");
    check_examples("pad");
}
