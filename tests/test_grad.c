/* Derivatives recorded on the tape: reverse, forward, of any order, and how they fail. */
#include "taped.h"

#include <string.h>

#include "wengert/notation.h"

/* Seven-point central difference of order 6 of f at x. */
static double slope(double (*f)(double), double x) {
    double h = 0.02;
    return (45 * (f(x + h) - f(x - h)) - 9 * (f(x + 2 * h) - f(x - 2 * h)) + f(x + 3 * h) - f(x - 3 * h)) / (60 * h);
}

/* The 4th derivative of tanh(tanh(x) x) by wg_grad, at x. */
static double fourth(double at) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, at);
    wg_var x = wg_leaf(tape, t), y = tanh(mul(tanh(x), x));
    for (int k = 0; k < 4; k++)
        cr_assert_eq(wg_grad(y, 1, &x, &y), WG_OK, "%s", wg_tape_message(tape));
    double value = taped_number(y);
    wg_tape_free(tape);
    wg_tensor_free(t);
    return value;
}

Test(grad, fifth_derivative_agrees_with_differences_of_the_fourth) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 0.4);
    wg_var x = wg_leaf(tape, t), y = tanh(mul(tanh(x), x)), one = wg_like(x, 1);
    for (int k = 0; k < 5; k++) /* both modes in turn */
        cr_assert_eq(k % 2 ? wg_jvp(1, &x, &one, 1, &y, &y) : wg_grad(y, 1, &x, &y), WG_OK, "%s",
                     wg_tape_message(tape));
    cr_assert_float_eq(taped_number(y), slope(fourth, 0.4), 1e-5);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(grad, several_outputs_with_cotangents_add_up) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){3, 4}, 1);
    wg_tensor *s = taped_random(NULL, WG_F64, 2, (const int64_t[]){3, 4}, 2);
    wg_var x = wg_leaf(tape, t), c = wg_leaf(tape, s), y[2] = {tanh(x), square(x)}, both, apart[2], sum;
    cr_assert_eq(wg_vjp(2, y, (const wg_var[]){c, wg_c(3)}, 1, &x, &both), WG_OK);
    cr_assert_eq(wg_grad(taped_sum(mul(c, y[0])), 1, &x, &apart[0]), WG_OK);
    cr_assert_eq(wg_grad(taped_sum(mul(3, y[1])), 1, &x, &apart[1]), WG_OK);
    sum = add(apart[0], apart[1]);
    cr_assert_lt(taped_distance(both, sum), 1e-14);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(s);
}

Test(grad, intermediates_duplicates_and_i32_may_be_asked_for) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){4}, 1);
    wg_tensor *k = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){2});
    wg_var x = wg_leaf(tape, t), h = tanh(x), i = wg_leaf(tape, k), y = taped_sum(mul(square(h), x)), late = exp(y);
    wg_var wrt[6] = {x, h, i, h, y, late}, out[6], full;
    cr_assert_eq(wg_grad(y, 6, wrt, out), WG_OK, "%s", wg_tape_message(tape));
    /* y = h^2 x: by h alone 2 h x; by x through both paths h^2 + (2 h x) tanh'(x) */
    cr_assert_lt(taped_distance(out[1], mul(mul(2, h), x)), 1e-14);
    cr_assert_lt(taped_distance(out[3], out[1]), 1e-300);
    wg_vjp(1, &h, &out[1], 1, &x, &full);
    cr_assert_lt(taped_distance(out[0], add(square(h), full)), 1e-14);
    cr_assert_eq(wg_var_dtype(out[2]), WG_I32);
    cr_assert_eq(wg_dim(out[2], 0), 2);
    cr_assert_eq(taped_number(out[2]), 0);
    cr_assert_eq(taped_number(out[4]), 1);
    cr_assert_eq(taped_number(out[5]), 0, "recorded after y");
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(k);
}

Test(grad, unreachable_inputs_give_zeros_of_their_shape) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){2, 3}, 1);
    wg_var x = wg_leaf(tape, t), other = wg_leaf(tape, t), y = taped_sum(tanh(x)), dx, dy;
    cr_assert_eq(wg_grad(y, 1, &other, &dx), WG_OK);
    cr_assert_eq(wg_var_dtype(dx), WG_F32);
    cr_assert_eq(wg_dim(dx, 1), 3);
    cr_assert_lt(taped_distance(dx, wg_like(x, 0)), 1e-300);
    cr_assert_eq(wg_jvp(1, &other, &x, 1, &y, &dy), WG_OK);
    cr_assert_eq(taped_number(dy), 0);
    wg_var step = greater(x, 0); /* its derivative is zero */
    cr_assert_eq(wg_vjp(1, &step, (const wg_var[]){wg_c(1)}, 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_lt(taped_distance(dx, wg_like(x, 0)), 1e-300);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(grad, diamonds_cost_one_pass_not_one_for_every_path) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t), y = x, dx;
    for (int k = 0; k < 60; k++)
        y = add(y, y); /* 2^60 paths */
    cr_assert_eq(wg_grad(y, 1, &x, &dx), WG_OK);
    cr_assert_eq(taped_number(dx), ldexp(1, 60));
    cr_assert_lt(wg_tape_count(tape), 200);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(grad, jvp_through_an_input_that_depends_on_another_is_the_adjoint_of_vjp) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){5}, 3);
    wg_tensor *u = taped_random(NULL, WG_F64, 1, (const int64_t[]){5}, 4);
    wg_var x = wg_leaf(tape, t), h = tanh(x), y = mul(exp(h), x);
    wg_var wrt[2] = {x, h}, tangent[2] = {wg_leaf(tape, u), square(x)}, c = neg(x), dy, d[2];
    cr_assert_eq(wg_jvp(2, wrt, tangent, 1, &y, &dy), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_vjp(1, &y, &c, 2, wrt, d), WG_OK, "%s", wg_tape_message(tape));
    double forward = taped_number(taped_sum(mul(c, dy)));
    double reverse = taped_number(taped_sum(add(mul(d[0], tangent[0]), mul(d[1], tangent[1]))));
    cr_assert_float_eq(forward, reverse, 1e-12);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(u);
}

/* ---- failures ---- */

static void forget(int64_t n, const void *const *in, void *out) { memcpy(out, in[0], 8 * (size_t)n); }
static wg_status copy_double(wg_call *call) {
    forget(call->out.shape->count, (const void *const[]){call->in[0].data}, call->out.data);
    return WG_OK;
}
static wg_status keep_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}
static const wg_op rough = {.name = "rough", .arity = 1, .kind = WG_MOVE, .shape = keep_shape, .run = copy_double};
static const wg_op opaque = {.name = "opaque", .arity = 1, .kind = WG_MOVE, .traits = WG_IS_OPAQUE,
                             .shape = keep_shape, .run = copy_double};
static void through_opaque(const wg_rule *r, wg_var *dx) {
    dx[0] = wg_mul(r->g, wg_apply(&opaque, 1, r->in, NULL));
}
static const wg_op foreign = {.name = "foreign", .arity = 1, .kind = WG_MOVE, .shape = keep_shape,
                              .run = copy_double, .vjp = through_opaque};

Test(grad, missing_derivative_names_the_op_and_its_place) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t), dx;
    wg__origin_set(tape, wg__origin_new(tape, "odd.cell:3"));
    wg_var y = wg_apply(&rough, 1, &x, NULL);
    wg__origin_set(tape, 0);
    cr_assert_eq(wg_grad(square(y), 1, &x, &dx), WG_DERIVATIVE);
    cr_assert(!wg_valid(dx));
    cr_assert_str_eq(wg_tape_message(tape), "rough: this op has no derivative (odd.cell:3)");
    wg_tape_clear(tape);
    cr_assert_eq(wg_jvp(1, &x, &x, 1, &y, &dx), WG_DERIVATIVE);
    wg_tape_clear(tape);
    wg_var z = wg_apply(&foreign, 1, &x, NULL);
    cr_assert_eq(wg_grad(z, 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_grad(dx, 1, &x, &dx), WG_DERIVATIVE);
    cr_assert_str_eq(wg_tape_message(tape), "opaque: its derivative cannot be differentiated again");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(grad, bad_seeds_are_refused_by_number_and_shape) {
    wg_tape *tape = wg_tape_new(NULL), *elsewhere = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){3}, 1), *s = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t), y = tanh(x), scalar = wg_leaf(tape, s), out, none = {0};
    cr_assert_eq(wg_vjp(1, &y, &none, 1, &x, &out), WG_ARGUMENT, "a zeroed cotangent is not a zero");
    cr_assert_str_eq(wg_tape_message(tape), "vjp: cotangent 1 is not a var of this tape");
    wg_tape_clear(tape);
    cr_assert_eq(wg_vjp(1, &y, &scalar, 1, &x, &out), WG_SHAPE);
    cr_assert_str_eq(wg_tape_message(tape), "vjp: cotangent 1 is f64 (), what it belongs to f64 (3)");
    wg_tape_clear(tape);
    wg_var foreigner = wg_leaf(elsewhere, t);
    cr_assert_eq(wg_jvp(1, &x, &foreigner, 1, &y, &out), WG_ARGUMENT);
    wg_tape_clear(tape);
    cr_assert_eq(wg_grad(y, 1, &x, &out), WG_SHAPE);
    cr_assert(!wg_valid(out));
    wg_tape_clear(tape);
    cr_assert_eq(wg_grad(scalar, 1, &none, &out), WG_ARGUMENT);
    wg_tape_clear(tape);
    wg_tensor *k = taped_scalar(NULL, WG_I32, 1);
    cr_assert_eq(wg_grad(wg_leaf(tape, k), 1, &x, &out), WG_DTYPE);
    wg_tape_free(tape);
    wg_tape_free(elsewhere);
    wg_tensor_free(t);
    wg_tensor_free(s);
    wg_tensor_free(k);
}

static void wrong_shape(const wg_rule *r, wg_var *dx) { dx[0] = wg_sum_to(r->g, 0, NULL); }
static const wg_op crooked = {.name = "crooked", .arity = 1, .kind = WG_MOVE, .shape = keep_shape,
                              .run = copy_double, .vjp = wrong_shape};

Test(grad, rule_of_another_shape_is_refused_by_name) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){3}, 1);
    wg_var x = wg_leaf(tape, t), dx;
    cr_assert_eq(wg_grad(taped_sum(wg_apply(&crooked, 1, &x, NULL)), 1, &x, &dx), WG_SHAPE);
    cr_assert_str_eq(wg_tape_message(tape), "crooked: its derivative has another shape or type than its operand");
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(grad, derivatives_pass_through_stores_and_guards) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 0.5), *kept = taped_scalar(NULL, WG_F64, 0);
    wg_var x = wg_leaf(tape, t), y = wg_guard(wg_store(kept, tanh(x))), dx, dy, plain;
    cr_assert_eq(wg_grad(y, 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_jvp(1, &x, (const wg_var[]){wg_c(1)}, 1, &y, &dy), WG_OK, "%s", wg_tape_message(tape));
    wg_grad(tanh(x), 1, &x, &plain);
    cr_assert_eq(taped_number(dx), taped_number(plain));
    cr_assert_eq(taped_number(dy), taped_number(plain));
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(kept);
}

/* ---- cost ---- */

typedef wg_var graph_of(wg_var x, int n);

static wg_var chain(wg_var x, int n) {
    wg_var y = x;
    for (int k = 0; k < n; k++)
        y = add(mul(tanh(y), 0.5), x);
    return y;
}

static wg_var slices(wg_var x, int n) {
    wg_var h = wg_like(slice(x, 0, 0, 1), 0);
    for (int k = 0; k < n; k++)
        h = tanh(add(h, slice(x, 0, k % wg_dim(x, 0), 1)));
    return h;
}

static wg_var windows(wg_var x, int n) {
    wg_var h = wg_like(slice(x, 0, 0, 3), 0);
    for (int k = 0; k < n; k++)
        h = tanh(add(h, slice(x, 0, k % (wg_dim(x, 0) - 2), 3)));
    return h;
}

static wg_var gathers(wg_var x, int n) {
    wg_tensor *k = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){3});
    wg_var index = wg_leaf(x.tape, k), h = wg_like(slice(x, 0, 0, 3), 0);
    wg_tensor_free(k);
    for (int t = 0; t < n; t++)
        h = tanh(add(h, wg_gather(x, index, 0)));
    return h;
}

static wg_var long_concat(wg_var x, int n) {
    wg_var parts[400];
    for (int k = 0; k < n; k++)
        parts[k] = tanh(x);
    return square(wg_concat(n, parts, 0));
}

Test(grad, nodes_recorded_grow_linearly) {
    graph_of *graphs[] = {chain, slices, windows, gathers, long_concat};
    const char *names[] = {"chain", "slices", "windows", "gathers", "concat"};
    for (int g = 0; g < 5; g++) {
        int64_t cost[2];
        for (int twice = 0; twice < 2; twice++) {
            wg_tape *tape = wg_tape_new(NULL);
            wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){twice ? 400 : 200, 2}, 1);
            wg_var x = wg_leaf(tape, t), y = taped_sum(graphs[g](x, twice ? 400 : 200)), dx, d2;
            int64_t before = wg_tape_count(tape);
            cr_assert_eq(wg_grad(y, 1, &x, &dx), WG_OK, "%s", wg_tape_message(tape));
            cr_assert_eq(wg_grad(taped_sum(square(dx)), 1, &x, &d2), WG_OK, "%s", wg_tape_message(tape));
            cost[twice] = wg_tape_count(tape) - before;
            wg_tape_free(tape);
            wg_tensor_free(t);
        }
        cr_expect_lt((double)cost[1], 2.1 * (double)cost[0], "%s: %lld nodes, then %lld", names[g],
                     (long long)cost[0], (long long)cost[1]);
    }
}

Test(grad, long_concats_have_derivatives_in_both_modes) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t[40];
    wg_var x[40], tangent[40], d[40], y, dy, pairs = wg_c(0);
    for (int k = 0; k < 40; k++) {
        t[k] = taped_random(NULL, WG_F64, 2, (const int64_t[]){1 + k % 3, 2}, (uint64_t)k);
        x[k] = wg_leaf(tape, t[k]);
        tangent[k] = k % 5 ? neg(tanh(x[k])) : wg_c(2);
    }
    y = square(wg_concat(40, x, 0));
    wg_var c = exp(y);
    cr_assert_eq(wg_vjp(1, &y, &c, 40, x, d), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_eq(wg_jvp(40, x, tangent, 1, &y, &dy), WG_OK, "%s", wg_tape_message(tape));
    for (int k = 0; k < 40; k++)
        pairs = add(pairs, taped_sum(mul(d[k], tangent[k])));
    double forward = taped_number(taped_sum(mul(c, dy)));
    cr_assert_float_eq(forward, taped_number(pairs), 1e-10 * fabs(forward));
    wg_tape_free(tape);
    for (int k = 0; k < 40; k++)
        wg_tensor_free(t[k]);
}

/* y = x times the number of rows k says, read by a collecting rule alone: no vjp, no trait. */
static wg_status scaled_shape(wg_infer *infer) {
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}
static wg_status scaled_run(wg_call *call) {
    for (int64_t i = 0; i < call->out.shape->count; i++)
        ((double *)call->out.data)[i] = ((const double *)call->in[0].data)[i] * ((const int32_t *)call->in[1].data)[0];
    return WG_OK;
}
static const wg_op scaled_by;
static wg_var scaled_collect(wg_var x, int n, const wg_rule *readers) {
    wg_var sum = wg_like(x, 0);
    for (int i = 0; i < n; i++)
        sum = add(sum, wg_apply(&scaled_by, 2, (const wg_var[]){readers[i].g, readers[i].in[1]}, NULL));
    return sum;
}
static const wg_op scaled_by = {.name = "scaled_by", .arity = 2, .kind = WG_INDEX, .shape = scaled_shape, .run = scaled_run,
                                .collect = scaled_collect};

Test(grad, op_that_only_collects_has_a_forward_mode) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){4}, 1), *k = wg_tensor_new(NULL, WG_I32, 0, NULL);
    wg_tensor_set(k, 0, 3);
    wg_var x = wg_leaf(tape, t), v = exp(x), y = wg_apply(&scaled_by, 2, (const wg_var[]){x, wg_leaf(tape, k)}, NULL), dy;
    cr_assert_eq(wg_jvp(1, &x, &v, 1, &y, &dy), WG_OK, "%s", wg_tape_message(tape));
    cr_assert_lt(taped_distance(dy, mul(3, v)), 1e-14);
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(k);
}

/* The step of the tape's mark before a node; INT64_MIN if it has none. */
static int64_t step_at(const wg_tape *tape, int64_t id) {
    int64_t step = INT64_MIN;
    for (int64_t i = 0; i < tape->step_count && tape->steps[i].id <= id; i++)
        step = tape->steps[i].step;
    return step;
}

Test(grad, forward_mode_keeps_step_marks) {
    enum { T = 5 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){4}, 1);
    wg_var x = wg_leaf(tape, t), h[T + 1] = {x}, dh[T + 1];
    uint32_t unroll = ++tape->unrolls;
    for (int k = 0; k < T; k++) {
        wg__step_mark(tape, unroll, k);
        h[k + 1] = wg_softmax(tanh(h[k]), 0); /* softmax: forward mode by way of its reverse rule */
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    wg_var one = wg_like(x, 1);
    cr_assert_eq(wg_jvp(1, &x, &one, T, h + 1, dh + 1), WG_OK, "%s", wg_tape_message(tape));
    for (int k = 0; k < T; k++)
        cr_expect_eq(step_at(tape, dh[k + 1].as.id), k, "the tangent of step %d stands in step %lld", k,
                     (long long)step_at(tape, dh[k + 1].as.id));
    cr_expect_eq(step_at(tape, wg_tape_count(tape)), T - 1);
    cr_expect_eq(step_at(tape, add(one, 2).as.id), WG_NO_STEP, "the last step has an end");
    wg_tape_free(tape);
    wg_tensor_free(t);
}
