/* The plain executor: strides, memory, failures, threads; and everything recorded survives any refused allocation. */
#include "taped.h"

#include <pthread.h>
#include <string.h>

#include "failing.h"
#include "graph.h"
#include "wengert/notation.h"

Test(eval, views_of_views_read_the_right_elements) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){4, 5, 6});
    for (int64_t i = 0; i < 120; i++)
        wg_tensor_set(t, i, (double)i);
    wg_var x = wg_leaf(tape, t);
    wg_var y = slice(permute(slice(x, 1, 1, 3), 3, ((const int[]){2, 0, 1})), 0, 2, 2); /* y[i,j,k] = x[j,k+1,i+2] */
    wg_tensor *got = taped_value(y), *twice = taped_value(mul(transpose(y), 2));
    wg_tensor *flat = taped_value(reshape(y, 2, ((const int64_t[]){2, 12})));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 3; k++) {
                double want = (double)((j * 5 + k + 1) * 6 + i + 2);
                cr_assert_eq(wg_tensor_get(got, (i * 4 + j) * 3 + k), want);
                cr_assert_eq(wg_tensor_get(flat, (i * 4 + j) * 3 + k), want);
                cr_assert_eq(wg_tensor_get(twice, (i * 3 + k) * 4 + j), 2 * want);
            }
    wg_tensor_free(got);
    wg_tensor_free(twice);
    wg_tensor_free(flat);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(eval, eight_axes_are_walked) {
    const int64_t dim[8] = {2, 1, 3, 1, 2, 2, 1, 3}, column[8] = {1, 1, 3, 1, 1, 2, 1, 1};
    const int back[8] = {7, 6, 5, 4, 3, 2, 1, 0};
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F64, 8, dim, 1), *b = taped_random(NULL, WG_F64, 8, column, 2);
    wg_var x = wg_leaf(tape, a), y = wg_leaf(tape, b);
    wg_var there = permute(add(permute(x, 8, back), permute(y, 8, back)), 8, back);
    cr_assert_eq(taped_distance(there, add(x, y)), 0);
    wg_var sums = wg_sum_to(add(x, y), 8, column);
    cr_assert_lt(taped_distance(taped_sum(sums), taped_sum(add(x, y))), 1e-13);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

Test(eval, values_are_dropped_when_nobody_reads_them_any_more) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *t = taped_random(memory, WG_F64, 1, (const int64_t[]){1000}, 1);
    wg_var x = wg_leaf(tape, t), y = x;
    for (int k = 0; k < 10000; k++)
        y = tanh(reshape(add(y, x), 1, ((const int64_t[]){-1})));
    size_t recorded = wg_memory_used(memory);
    wg_tensor_free(taped_value(y));
    cr_assert_eq(wg_memory_used(memory), recorded);
    size_t walk = 30001 * 64; /* what is noted of each node, and a few vectors */
    cr_assert_lt(wg_memory_peak(memory) - recorded, walk + 10 * 8000);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_memory_free(memory);
}

Test(eval, wrapped_and_empty_tensors_are_read) {
    wg_tape *tape = wg_tape_new(NULL);
    double mine[3] = {1, 2, 3};
    wg_tensor *t = wg_tensor_wrap(NULL, WG_F64, 1, (const int64_t[]){3}, mine, NULL, NULL);
    wg_tensor *e = wg_tensor_wrap(NULL, WG_F64, 2, (const int64_t[]){0, 3}, NULL, NULL, NULL);
    wg_var x = wg_leaf(tape, t), empty = wg_leaf(tape, e), y = add(x, empty), dx;
    cr_assert_eq(wg_dim(y, 0), 0);
    wg_tensor_free(taped_value(permute(y, 2, ((const int[]){1, 0}))));
    cr_assert_eq(wg_grad(taped_sum(mul(y, y)), 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(taped_distance(dx, wg_like(x, 0)), 0);
    wg_var stored = wg_store(e, mul(empty, 2));
    wg_tensor_free(taped_value(stored));
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(e);
}

Test(eval, bad_outputs_are_refused) {
    wg_tape *tape = wg_tape_new(NULL), *other = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1), *out[2];
    wg_error error = {0};
    wg_var x = wg_leaf(tape, t), far = wg_leaf(other, t);
    cr_assert_eq(wg_eval(2, (const wg_var[]){x, far}, out, &error), WG_ARGUMENT);
    cr_assert_str_eq(error.text, "eval: output 2 is not a var of this tape");
    cr_assert_null(out[0]);
    cr_assert_eq(wg_eval(1, (const wg_var[]){wg_c(1)}, out, NULL), WG_ARGUMENT);
    cr_assert_eq(wg_eval(1, &x, NULL, NULL), WG_ARGUMENT);
    add(x, slice(x, 0, 0, 1));
    cr_assert_eq(wg_eval(1, &x, out, &error), WG_RANGE, "a failed tape does not run");
    wg_tape_free(tape);
    wg_tape_free(other);
    wg_tensor_free(t);
}

Test(eval, var_of_a_failure_that_was_cleared_fails_again) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t), bad = slice(x, 0, 0, 1);
    wg_tape_clear(tape);
    cr_assert(!wg_valid(add(x, bad)));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    cr_assert_str_eq(wg_tape_message(tape), "add: operand 2 is not a valid var");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

static wg_status same(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}
static const wg_op hollow = {.name = "hollow", .arity = 1, .kind = WG_MOVE, .shape = same};
static const wg_op described = {.name = "described", .arity = 1, .kind = WG_MOVE, .shape = same, .attr_size = 4};

Test(eval, ops_without_a_kernel_or_attributes_fail_by_name) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1), *out;
    wg_error error = {0};
    wg_var x = wg_leaf(tape, t), y = wg_apply(&hollow, 1, &x, NULL);
    cr_assert_eq(wg_eval(1, &y, &out, &error), WG_UNSUPPORTED);
    cr_assert_eq(strncmp(error.text, "hollow: ", 8), 0, "%s", error.text);
    cr_assert(!wg_valid(wg_apply(&described, 1, &x, NULL)));
    cr_assert_eq(wg_tape_status(tape), WG_ARGUMENT);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(eval, constants_that_are_no_i32_are_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_I32, 7);
    wg_var x = wg_leaf(tape, t);
    cr_assert_eq(taped_number(add(x, -3)), 4);
    const double bad[] = {0.5, 1e30, -1e30, NAN, INFINITY};
    for (int k = 0; k < WG_LEN(bad); k++) {
        cr_assert(!wg_valid(add(x, bad[k])));
        cr_assert_eq(wg_tape_status(tape), WG_RANGE);
        wg_tape_clear(tape);
    }
    wg_tape_free(tape);
    wg_tensor_free(t);
}

static size_t scratch_of_all(const wg_infer *q) {
    size_t bytes = 0;
    for (int k = 0; k < q->n; k++)
        bytes += (size_t)q->in[k]->count * wg_dtype_size(q->in_dtype[k]);
    return bytes;
}
static wg_status sum_through_scratch(wg_call *call) {
    double *copies = call->scratch;
    for (int k = 0; k < call->n; k++)
        copies[k] = *(const double *)call->in[k].data;
    *(double *)call->out.data = 0;
    for (int k = 0; k < call->n; k++)
        *(double *)call->out.data += copies[k];
    return WG_OK;
}
static const wg_op adder = {.name = "adder", .arity = -1, .kind = WG_REDUCTION, .shape = same,
                            .run = sum_through_scratch, .scratch = scratch_of_all};

Test(eval, scratch_is_asked_for_with_every_operand) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1.5);
    wg_var x[50];
    for (int k = 0; k < 50; k++)
        x[k] = wg_leaf(tape, t);
    cr_assert_eq(taped_number(wg_apply(&adder, 50, x, NULL)), 75);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

/* ---- threads ---- */

static void *train_alone(void *user) {
    double *result = user;
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){40, 1000}, 5);
    wg_var x = wg_leaf(tape, t), y = x, dx;
    for (int k = 0; k < 20; k++)
        y = tanh(add(y, slice(x, 0, k, 1)));
    wg_grad(taped_sum(y), 1, &x, &dx);
    wg_tensor *out = NULL;
    wg_var sum = taped_sum(dx);
    if (wg_eval(1, &sum, &out, NULL) == WG_OK)
        *result = wg_tensor_get(out, 0);
    wg_tensor_free(out);
    wg_tape_free(tape);
    wg_tensor_free(t);
    return NULL;
}

Test(eval, tapes_of_different_threads_do_not_meet) {
    pthread_t thread[4];
    double result[4] = {0}, alone = 0;
    train_alone(&alone);
    for (int k = 0; k < 4; k++)
        cr_assert_eq(pthread_create(&thread[k], NULL, train_alone, &result[k]), 0);
    for (int k = 0; k < 4; k++) {
        pthread_join(thread[k], NULL);
        cr_expect_eq(result[k], alone);
    }
    cr_assert_neq(alone, 0);
}

/* ---- every allocation fails once ---- */

typedef struct trial {
    wg_tape *tape;
    wg_tensor *w, *x, *kept;
    bool done;
} trial;

/* Records, differentiates both ways, evaluates, stores. */
static wg_status attempt(trial *r) {
    wg_var w = wg_leaf(r->tape, r->w), x = wg_leaf(r->tape, r->x), parts[24], h = x, dw, dy;
    for (int t = 0; t < 24; t++) {
        h = tanh(add(mul(h, w), slice(transpose(x), 0, t % 30, 1)));
        parts[t] = slice(h, 0, 0, 1);
    }
    wg_var all = wg_concat(24, parts, 0), loss = taped_sum(square(all)), out[3];
    wg_grad(loss, 1, &w, &dw);
    wg_var tangent = exp(w);
    wg_jvp(1, &w, &tangent, 1, &dw, &dy);
    out[0] = loss;
    out[1] = dy;
    out[2] = wg_store(r->kept, sub(w, mul(dw, 0.01)));
    if (wg_tape_status(r->tape) != WG_OK)
        return wg_tape_status(r->tape);
    wg_tensor *value[3];
    wg_status status = wg_eval(3, out, value, NULL);
    for (int k = 0; k < 3; k++)
        wg_tensor_free(value[k]);
    r->done = status == WG_OK;
    return status;
}

Test(eval, every_refused_allocation_is_survived_and_loses_nothing) {
    long k = 0;
    bool done = false;
    while (!done) {
        k++;
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        trial r = {.tape = wg_tape_new(memory)};
        r.w = taped_random(memory, WG_F64, 1, (const int64_t[]){30}, 1);
        r.x = taped_random(memory, WG_F64, 2, (const int64_t[]){30, 30}, 2);
        r.kept = wg_tensor_copy(memory, r.w);
        wg_tensor *before = wg_tensor_copy(memory, r.w);
        size_t used = wg_memory_used(memory);
        wg_mark mark = wg_tape_mark(r.tape);
        f.calls = 0;
        f.fail = k;
        wg_status status = attempt(&r);
        f.fail = 0;
        done = r.done;
        cr_assert(done || status == WG_MEMORY, "allocation %ld: %s", k, wg_status_name(status));
        if (!done) {
            cr_assert_eq(memcmp(wg_tensor_data(r.kept), wg_tensor_data(before), 240), 0, "allocation %ld", k);
            wg_tape_clear(r.tape);
            wg_tape_rewind(r.tape, mark);
            cr_assert_eq(attempt(&r), WG_OK, "after allocation %ld: %s", k, wg_tape_message(r.tape));
        }
        cr_assert_eq(memcmp(wg_tensor_data(r.w), wg_tensor_data(before), 240), 0);
        cr_assert_neq(memcmp(wg_tensor_data(r.kept), wg_tensor_data(before), 240), 0);
        cr_assert_geq(wg_memory_used(memory), used);
        wg_tape_free(r.tape);
        wg_tensor_free(r.w);
        wg_tensor_free(r.x);
        wg_tensor_free(r.kept);
        wg_tensor_free(before);
        cr_assert_eq(wg_memory_used(memory), 0, "allocation %ld leaked", k);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30, "only %ld allocations were tried", k);
}
