/* The tape: recording, failing, rewinding; evaluation and derivatives on it. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "taped.h"
#include "wengert/notation.h"

static wg_tensor *values(int rank, const int64_t *dim, double first, double step) {
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, rank, dim);
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, first + step * (double)i);
    return tensor;
}

static double scalar_of(wg_var y) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    cr_assert_eq(wg_eval(1, &y, &out, &error), WG_OK, "%s", error.text);
    double value = wg_tensor_get(out, 0);
    wg_tensor_free(out);
    return value;
}

Test(tape, failed_op_names_op_and_shapes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = values(2, (const int64_t[]){4, 3}, 0, 1), *b = values(2, (const int64_t[]){4, 2}, 0, 1);
    wg_var sum = add(wg_leaf(tape, a), wg_leaf(tape, b));
    cr_assert(!wg_valid(sum));
    cr_assert_eq(wg_tape_status(tape), WG_SHAPE);
    cr_assert_str_eq(wg_tape_message(tape), "add: (4,3) with (4,2) do not broadcast");
    cr_assert(!wg_valid(tanh(sum)), "a failed var passes on silently");
    cr_assert_str_eq(wg_tape_message(tape), "add: (4,3) with (4,2) do not broadcast");
    wg_tape_clear(tape);
    wg_var zeroed = {0};
    cr_assert(!wg_valid(add(wg_leaf(tape, a), zeroed)));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

Test(tape, gradient_of_any_order_agrees_with_the_closed_form_of_a_cube) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = values(0, NULL, 1.5, 0);
    wg_var x = wg_leaf(tape, t), y = mul(x, square(x)), d1, d2, d3, d4;
    wg_grad(y, 1, &x, &d1);
    wg_grad(d1, 1, &x, &d2);
    wg_grad(d2, 1, &x, &d3);
    wg_grad(d3, 1, &x, &d4);
    cr_assert_float_eq(scalar_of(d1), 3 * 1.5 * 1.5, 1e-12);
    cr_assert_float_eq(scalar_of(d2), 6 * 1.5, 1e-12);
    cr_assert_float_eq(scalar_of(d3), 6, 1e-12);
    cr_assert_float_eq(scalar_of(d4), 0, 1e-12);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(tape, forward_and_reverse_agree_through_slices_and_broadcasts) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = values(2, (const int64_t[]){3, 4}, -1, 0.17), *u = values(2, (const int64_t[]){3, 4}, 0.3, -0.1);
    wg_var x = wg_leaf(tape, t), sum = wg_c(0), dx, dy;
    for (int i = 0; i < 3; i++) {
        wg_var row = reshape(slice(x, 0, i, 1), 1, ((const int64_t[]){4}));
        sum = add(sum, sum_to(mul(tanh(row), transpose(x).tape ? slice(x, 0, (i + 1) % 3, 1) : row), 0, NULL));
    }
    cr_assert_eq(wg_grad(sum, 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
    wg_var tangent = wg_leaf(tape, u);
    cr_assert_eq(wg_jvp(1, &x, &tangent, 1, &sum, &dy), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_float_eq(scalar_of(sum_to(mul(dx, tangent), 0, NULL)), scalar_of(dy), 1e-12);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(u);
}

Test(tape, rewinding_a_loop_takes_no_more_memory) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *t = wg_tensor_new(memory, WG_F64, 0, NULL);
    wg_var x = wg_leaf(tape, t);
    wg_mark mark = wg_tape_mark(tape);
    size_t used = 0;
    for (int i = 0; i < 50; i++) {
        wg_var y = x;
        for (int k = 0; k < 1000; k++)
            y = wg_reshape(add(y, wg_leaf(tape, t)), 0, NULL);
        wg_tape_rewind(tape, mark);
        if (i == 1)
            used = wg_memory_used(memory);
    }
    cr_assert_eq(wg_memory_used(memory), used);
    cr_assert_eq(wg_tape_count(tape), 1);
    wg_tape_free(tape);
    wg_tensor_free(t);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

Test(tape, stores_read_the_values_at_the_start_of_the_run) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = values(0, NULL, 1, 0), *b = values(0, NULL, 2, 0);
    wg_var swap[2] = {wg_store(a, wg_leaf(tape, b)), wg_store(b, wg_leaf(tape, a))};
    wg_tensor *out[2];
    wg_error error = {0};
    cr_assert_eq(wg_eval(2, swap, out, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_tensor_get(a, 0), 2);
    cr_assert_eq(wg_tensor_get(b, 0), 1);
    wg_tensor_free(out[0]);
    wg_tensor_free(out[1]);
    wg_var bad[2] = {wg_store(a, mul(wg_leaf(tape, a), 3)), wg_guard(log(wg_like(wg_leaf(tape, a), -1)))};
    cr_assert_eq(wg_eval(2, bad, out, NULL), WG_NONFINITE);
    cr_assert_eq(wg_tensor_get(a, 0), 2, "nothing was stored");
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

Test(tape, constant_dropped_by_a_rewind_is_recorded_anew) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t), kept = wg_like(x, 5);
    wg_mark mark = wg_tape_mark(tape);
    wg_var dropped = wg_like(x, 7), taken;
    wg_tape_rewind(tape, mark);
    taken = wg_exp(x);
    cr_assert_eq(taken.as.id, dropped.as.id, "another node has its id");
    cr_assert_eq(taped_number(wg_like(x, 7)), 7);
    cr_assert_eq(wg_like(x, 5).as.id, kept.as.id, "one recorded before the mark is there still");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(tape, a_mark_of_another_tape_drops_nothing) {
    wg_tape *tape = wg_tape_new(NULL), *other = wg_tape_new(NULL);
    wg_tensor *t = values(0, NULL, 2, 0);
    wg_mark mark = wg_tape_mark(other);
    wg_var y = square(wg_leaf(tape, t));
    wg_tape_rewind(tape, mark);
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    cr_assert_str_eq(wg_tape_message(tape), "rewind: the mark is of another tape");
    wg_tape_clear(tape);
    cr_assert_eq(wg_tape_count(tape), 2);
    cr_assert_eq(scalar_of(y), 4);
    wg_tape_free(tape);
    wg_tape_free(other);
    wg_tensor_free(t);
}

Test(tape, a_place_named_again_takes_no_more_memory) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_tape *tape = wg_tape_new(memory);
    uint32_t first = wg__origin_new(tape, "a.cell:1"), second = wg__origin_new(tape, "a.cell:2");
    size_t used = wg_memory_used(memory);
    for (int i = 0; i < 10000; i++) {
        cr_assert_eq(wg__origin_new(tape, "a.cell:1"), first);
        cr_assert_eq(wg__origin_new(tape, "a.cell:2"), second);
    }
    cr_assert_str_eq(wg__origin_place(tape, second), "a.cell:2");
    cr_assert_eq(wg_memory_used(memory), used);
    wg_tape_free(tape);
    wg_memory_free(memory);
}

/* Leaves bytes of its own where the next call's locals will be. */
static void __attribute__((noinline)) dirty(int byte) {
    volatile char bytes[4096];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)byte;
}

static wg_var attributed(int i, wg_var x, wg_var index) {
    switch (i) {
    case 0: return wg_slice(x, 1, 1, 2);
    case 1: return wg_reshape(x, 1, (const int64_t[]){6});
    case 2: return wg_gather(x, index, 0);
    case 3: return wg_scatter_add(x, index, 0, 5);
    case 4: return wg_one_hot(index, 4, WG_F64);
    case 5: return wg_sum_to(x, 0, NULL);
    case 6: return wg_permute(x, 2, (const int[]){1, 0});
    case 7: return wg_layer_norm(x, 1e-5);
    default: return wg_matmul(x, x, true, false);
    }
}

/* Passes and the plan cache compare them so. */
Test(tape, attributes_of_equal_calls_are_equal_bytes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = values(2, (const int64_t[]){2, 3}, 1, 1), *at = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){2});
    wg_var x = wg_leaf(tape, t), index = wg_leaf(tape, at), y[2];
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 2; k++) {
            dirty(k ? 0x5A : 0xA5);
            y[k] = attributed(i, x, index);
        }
        cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
        const wg_node *a = wg__of(y[0]), *b = wg__of(y[1]);
        cr_expect(memcmp(a->attr, b->attr, a->op->attr_size) == 0, "%s", a->op->name);
    }
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(at);
}

Test(tape, a_full_tape_says_so) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = values(0, NULL, 2, 0);
    wg_var x = wg_leaf(tape, t);
    int64_t count = tape->count;
    tape->count = ((int64_t)WG_FIRST_CHUNK << (WG_CHUNKS - 1)) - WG_FIRST_CHUNK; /* as if all of them were there */
    cr_assert(!wg_valid(square(x)));
    cr_assert_eq(wg_tape_status(tape), WG_RANGE);
    cr_assert_str_eq(wg_tape_message(tape), "a tape holds no more than 1073740799 nodes");
    tape->count = count;
    wg_tape_clear(tape);
    cr_assert_eq(scalar_of(square(x)), 4);
    wg_tape_free(tape);
    wg_tensor_free(t);
}
