/* Casts between element types, and stop_gradient. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "taped.h"

Test(cast, every_pair_of_types_keeps_what_the_result_can_hold) {
    const double values[] = {0, 1, -1, 3, 100, -70000};
    for (wg_dtype from = WG_F32; from <= WG_I32; from++)
        for (wg_dtype to = WG_F32; to <= WG_I32; to++) {
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *t = wg_tensor_new(NULL, from, 2, (const int64_t[]){2, 3});
            for (int i = 0; i < 6; i++)
                wg_tensor_set(t, i, values[i]);
            wg_tensor *y = taped_value(wg_cast(wg_transpose(wg_leaf(tape, t)), to));
            cr_assert_eq(wg_tensor_dtype(y), to);
            cr_assert_eq(wg_tensor_shape(y)->dim[0], 3);
            for (int i = 0; i < 6; i++)
                cr_assert_eq(wg_tensor_get(y, i), values[i % 2 * 3 + i / 2], "%s to %s", wg_dtype_name(from), wg_dtype_name(to));
            wg_tensor_free(t), wg_tensor_free(y);
            wg_tape_free(tape);
        }
}

Test(cast, whole_numbers_are_cut_toward_zero_and_saturate) {
    wg_tape *tape = wg_tape_new(NULL);
    const double in[] = {2.9, -2.9, 1e30, -1e30, INFINITY, -INFINITY, NAN, 2147483646.5, -0.5};
    const int32_t expected[] = {2, -2, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 0, 2147483646, 0};
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){9});
    memcpy(wg_tensor_write(t), in, sizeof in);
    wg_tensor *y = taped_value(wg_cast(wg_leaf(tape, t), WG_I32));
    cr_assert_eq(memcmp(wg_tensor_data(y), expected, sizeof expected), 0);
    wg_tensor_free(t), wg_tensor_free(y);
    wg_tape_free(tape);
}

Test(cast, derivative_comes_back_in_the_operands_type_and_ends_at_whole_numbers) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F32, 1.5);
    wg_var x = wg_leaf(tape, t), d[2], wide = wg_cast(x, WG_F64);
    wg_var whole = wg_mul(wg_cast(wg_cast(x, WG_I32), WG_F32), x), tangent;
    cr_assert_eq(wg_grad(wg_square(wide), 1, &x, &d[0]), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_grad(whole, 1, &x, &d[1]), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_var_dtype(d[0]), WG_F32);
    cr_assert_eq(taped_number(d[0]), 3);
    cr_assert_eq(taped_number(d[1]), 1, "only through the factor that is not cut");
    wg_var one = wg_like(x, 1);
    cr_assert_eq(wg_jvp(1, &x, &one, 1, &wide, &tangent), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_var_dtype(tangent), WG_F64);
    cr_assert_eq(taped_number(tangent), 1);
    wg_tensor_free(t);
    wg_tape_free(tape);
}

Test(cast, same_type_is_the_var_itself_and_no_type_is_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = wg_full(tape, WG_F32, 0, NULL, 1);
    cr_assert_eq(wg_cast(x, WG_F32).as.id, x.as.id);
    cr_assert(!wg_valid(wg_cast(x, (wg_dtype)7)));
    cr_assert_str_eq(wg_tape_message(tape), "cast: no such element type: 7");
    wg_tape_free(tape);
}

Test(cast, stop_gradient_is_an_alias_without_a_derivative) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1);
    wg_var x = wg_leaf(tape, t), d, tangent, one = wg_like(x, 1);
    wg_var turned = wg_transpose(x), still = wg_stop_gradient(turned), y = wg_sum_to(wg_mul(turned, still), 0, NULL);
    wg_tensor *a = taped_value(still), *b = taped_value(turned);
    cr_assert_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0);
    cr_assert_eq(wg_grad(y, 1, &x, &d), WG_OK);
    wg_tensor *g = taped_value(d);
    cr_assert_eq(memcmp(wg_tensor_data(g), wg_tensor_data(t), wg_tensor_bytes(g)), 0, "x times a constant x");
    cr_assert_eq(wg_jvp(1, &x, &one, 1, &still, &tangent), WG_OK);
    cr_assert_eq(taped_number(tangent), 0);
    wg_tensor_free(a), wg_tensor_free(b), wg_tensor_free(g), wg_tensor_free(t);
    wg_tape_free(tape);
}

/* wg_cast never records it, but a record may be applied by hand. */
Test(cast, recorded_to_the_same_type_it_is_a_copy) {
    const wg_op *op = wg_op_find("cast")->op;
    for (int32_t dtype = WG_F32; dtype <= WG_I32; dtype++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t = taped_random(NULL, (wg_dtype)dtype, 2, (const int64_t[]){3, 7}, 1);
        for (int64_t i = 0; i < 21 && dtype == WG_I32; i++)
            wg_tensor_set(t, i, (double)(1 - i) * 100000007);
        wg_var x = wg_leaf(tape, t), y = wg_apply(op, 1, &x, &dtype);
        wg_tensor *out = taped_value(y);
        cr_assert_neq(y.as.id, x.as.id);
        cr_assert_eq((int32_t)wg_tensor_dtype(out), dtype);
        cr_assert_eq(memcmp(wg_tensor_data(out), wg_tensor_data(t), wg_tensor_bytes(t)), 0);
        wg_tensor_free(out);
        wg_tensor_free(t);
        wg_tape_free(tape);
    }
}
