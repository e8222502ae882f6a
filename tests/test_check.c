/* Every op in the list against the generated checks; and wrong ops that each check must catch. */
#include "taped.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "failing.h"
#include "wengert/notation.h"

/* ---- every op ---- */

static void complain(void *user, const wg_check_line *line) {
    (void)user;
    cr_expect(line->passed, "%s \"%s\", %s: error %g: %s", line->name, line->example, wg__check_label(line->kind),
              line->error, line->text);
}

/* Every op by one kind of check. */
static void check_all(wg_check_kind kind) {
    for (int k = 0; k < wg_op_count(); k++) {
        wg_check check = {.seed = 1, .kinds = 1u << WG_CHECK_RECORD | 1u << kind, .report = complain};
        cr_assert_eq(wg__check_op(&check, wg_op_list()[k].op), WG_OK);
        cr_expect_gt(check.done, 0, "%s was not checked", wg_op_list()[k].name);
    }
}

Test(check, first_derivatives_of_every_op_agree_with_differences) { check_all(WG_CHECK_FIRST); }
Test(check, second_derivatives_of_every_op_agree_with_differences) { check_all(WG_CHECK_SECOND); }
Test(check, forward_mode_is_the_transpose_of_reverse_mode_for_every_op) { check_all(WG_CHECK_FORWARD); }
Test(check, every_mix_of_modes_gives_the_same_second_derivative) { check_all(WG_CHECK_MIXED); }
Test(check, f32_agrees_with_f64_for_every_op) { check_all(WG_CHECK_F32); }
Test(check, i32_agrees_with_f64_for_every_op_that_takes_it) { check_all(WG_CHECK_I32); }
Test(check, strided_inputs_change_nothing_for_any_op) { check_all(WG_CHECK_STRIDED); }

Test(check, every_op_has_an_example_its_own_name_and_a_text) {
    for (int k = 0; k < wg_op_count(); k++) {
        const wg_op_entry *entry = &wg_op_list()[k];
        cr_expect_str_eq(entry->op->name, entry->name);
        cr_expect_gt(strlen(entry->doc), 3, "%s", entry->name);
        for (const wg_example *e = entry->op->examples; e && e->call; e++) {
            wg_shape shape;
            int64_t top;
            for (const char *at = e->inputs; (at = wg__example_word(at, &shape, &top));)
                cr_expect(top > 0 || e->low < e->high, "%s draws floats from nothing", entry->name);
        }
    }
}

/* ---- planted faults: y = sin x made wrong in one way each ---- */

#define SINE(T, call)                                                                              \
    static void sine_##T(int64_t n, const void *const *in, void *out) {                            \
        for (int64_t i = 0; i < n; i++)                                                            \
            ((T *)out)[i] = call(((const T *)in[0])[i]);                                           \
    }
SINE(double, (sin))
SINE(float, (sinf))
static void sine_coarse(int64_t n, const void *const *in, void *out) {
    for (int64_t i = 0; i < n; i++)
        ((float *)out)[i] = 1.001f * sinf(((const float *)in[0])[i]);
}
SINE(int32_t, 1 +)

static wg_status one_double(wg_call *call) {
    sine_double(call->out.shape->count, (const void *const[]){call->in[0].data}, call->out.data);
    return WG_OK;
}
static wg_status keep_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

/* cos x = sin(x + pi/2) */
static const wg_op good;
static wg_var cosine(wg_var x) {
    wg_var shifted = wg_add(x, wg_c(1.5707963267948966));
    return wg_apply(&good, 1, &shifted, NULL);
}
#define PARTIAL(name, expression)                                                                  \
    static void name(const wg_var *in, wg_var y, const bool *need, wg_var *d) {                    \
        wg_var x = in[0];                                                                          \
        (void)x, (void)y, (void)need;                                                              \
        d[0] = expression;                                                                         \
    }
PARTIAL(right, cosine(x))
PARTIAL(wrong, wg_mul(cosine(x), wg_c(1.0001)))
PARTIAL(none, wg_c(0))
static const wg_op flat; /* sine's values; says that its derivative is zero */
static wg_var flat_cosine(wg_var x) {
    wg_var shifted = wg_add(x, wg_c(1.5707963267948966));
    return wg_apply(&flat, 1, &shifted, NULL);
}
PARTIAL(right_once, flat_cosine(x))

#define MAPS .map = {sine_float, sine_double, sine_int32_t}
#define SINE_OP .name = "sine", .arity = 1, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES, .run = wg__pointwise_run, \
                .range = {-2, 2}
static const wg_op good = {SINE_OP, MAPS, .partial = right};
static const wg_op flat = {SINE_OP, MAPS, .partial = none};
static const wg_op wrong_first = {SINE_OP, MAPS, .partial = wrong};
static const wg_op wrong_second = {SINE_OP, MAPS, .partial = right_once};
static const wg_op wrong_zero = {.name = "sine", .arity = 1, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES | WG_IS_ZERO,
                                 .run = wg__pointwise_run, .range = {-2, 2}, MAPS};
static const wg_op wrong_f32 = {SINE_OP, .map = {sine_coarse, sine_double, NULL}, .partial = right};
static const wg_op wrong_i32 = {.name = "sine", .arity = 1, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES | WG_TAKES_I32,
                                .run = wg__pointwise_run, .range = {-2, 2}, MAPS, .partial = right};

static void vjp_right(const wg_rule *r, wg_var *dx) { dx[0] = wg_mul(r->g, cosine(r->in[0])); }
static void vjp_shape(const wg_rule *r, wg_var *dx) { dx[0] = wg_sum_to(wg_mul(r->g, cosine(r->in[0])), 0, NULL); }
static wg_var jvp_wrong(const wg_rule *r, const wg_var *dx) { return wg_mul(dx[0], wg_mul(wg_c(1.001), cosine(r->in[0]))); }
static wg_var call_jvp(const wg_var *in);
static wg_var call_shape(const wg_var *in);
static wg_var call_strides(const wg_var *in);
static wg_var call_missing(const wg_var *in);
#define DENSE_OP .name = "sine", .arity = 1, .kind = WG_MOVE, .shape = keep_shape, .run = one_double
static const wg_example example_jvp[] = {{"2,3", -2, 2, call_jvp}, {0}};
static const wg_example example_shape[] = {{"2,3", -2, 2, call_shape}, {0}};
static const wg_example example_strides[] = {{"2,3", -2, 2, call_strides}, {0}};
static const wg_example example_missing[] = {{"2,3", -2, 2, call_missing}, {0}};
static const wg_op wrong_jvp = {DENSE_OP, .vjp = vjp_right, .jvp = jvp_wrong, .examples = example_jvp};
static const wg_op wrong_shape = {DENSE_OP, .vjp = vjp_shape, .examples = example_shape};
static const wg_op wrong_strides = {DENSE_OP, .traits = WG_TAKES_STRIDES, .vjp = vjp_right, .examples = example_strides};
static const wg_op missing = {DENSE_OP, .examples = example_missing};
static wg_var call_jvp(const wg_var *in) { return wg_apply(&wrong_jvp, 1, in, NULL); }
static wg_var call_shape(const wg_var *in) { return wg_apply(&wrong_shape, 1, in, NULL); }
static wg_var call_strides(const wg_var *in) { return wg_apply(&wrong_strides, 1, in, NULL); }
static wg_var call_missing(const wg_var *in) { return wg_apply(&missing, 1, in, NULL); }
static const wg_op unused = {DENSE_OP, .vjp = vjp_right};

static void count_failures(void *user, const wg_check_line *line) { ((int *)user)[line->kind] += !line->passed; }

/* The op fails this kind; and, if given, passes another. */
static void caught(const wg_op *op, wg_check_kind by, int passes) {
    int failures[WG_CHECK_KINDS] = {0};
    /* The kernels of ops with examples are for f64 only. */
    wg_check check = {.seed = 3, .report = count_failures, .user = failures};
    if (op->examples)
        check.kinds = ~(1u << WG_CHECK_F32);
    cr_assert_eq(wg__check_op(&check, op), WG_OK);
    cr_expect_gt(failures[by], 0, "%s was not seen", wg__check_label(by));
    if (passes >= 0)
        cr_expect_eq(failures[passes], 0, "%s fails without cause", wg__check_label((wg_check_kind)passes));
}

Test(check, right_op_passes_every_check) {
    wg_check check = {.seed = 3, .report = complain};
    cr_assert_eq(wg__check_op(&check, &good), WG_OK);
    cr_assert_eq(check.failed, 0);
    cr_assert_gt(check.done, 30);
}
Test(check, wrong_partial_is_caught_at_first_order) { caught(&wrong_first, WG_CHECK_FIRST, WG_CHECK_FORWARD); }
Test(check, wrong_partial_of_a_partial_is_caught_at_second_order) {
    caught(&wrong_second, WG_CHECK_SECOND, WG_CHECK_FIRST);
}
Test(check, op_wrongly_declared_constant_is_caught) { caught(&wrong_zero, WG_CHECK_FIRST, WG_CHECK_F32); }
Test(check, wrong_forward_rule_is_caught) { caught(&wrong_jvp, WG_CHECK_FORWARD, WG_CHECK_FIRST); }
Test(check, wrong_forward_rule_is_caught_in_mixed_modes) { caught(&wrong_jvp, WG_CHECK_MIXED, WG_CHECK_SECOND); }
Test(check, derivative_of_another_shape_is_caught) { caught(&wrong_shape, WG_CHECK_FIRST, -1); }
Test(check, missing_derivative_is_caught) { caught(&missing, WG_CHECK_FIRST, -1); }
Test(check, f32_kernel_that_is_off_is_caught) { caught(&wrong_f32, WG_CHECK_F32, WG_CHECK_FIRST); }
Test(check, i32_kernel_that_is_off_is_caught) { caught(&wrong_i32, WG_CHECK_I32, WG_CHECK_FIRST); }
Test(check, kernel_that_ignores_strides_is_caught) { caught(&wrong_strides, WG_CHECK_STRIDED, WG_CHECK_FIRST); }
Test(check, op_without_an_example_is_caught) { caught(&unused, WG_CHECK_RECORD, -1); }

/* ---- the public call ---- */

static wg_var cell(void *user, const wg_var *x) {
    const wg_op *op = user;
    wg_var h = mul(tanh(mul(x[0], x[1])), x[0]);
    return wg_apply(op, 1, &h, NULL);
}
static wg_var bad_graph(void *user, const wg_var *x) {
    (void)user;
    return add(slice(x[0], 0, 0, 2), x[1]);
}

Test(check, users_graph_is_checked_and_its_wrong_element_named) {
    wg_error error = {0};
    wg_tensor *x[2] = {taped_random(NULL, WG_F32, 2, (const int64_t[]){2, 3}, 1),
                       taped_random(NULL, WG_F64, 1, (const int64_t[]){3}, 2)};
    cr_assert_eq(wg_check_grad(NULL, NULL, cell, (void *)(uintptr_t)&good, 2, x, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_check_grad(NULL, NULL, cell, (void *)(uintptr_t)&wrong_first, 2, x, &error), WG_DERIVATIVE);
    cr_assert_eq(strncmp(error.text, "check, first order: the derivative by input 1, element (", 56), 0, "%s", error.text);
    wg_check_options first = {.order = 1}, both = {.order = 2}, third = {.order = 3};
    void *once = (void *)(uintptr_t)&wrong_second;
    cr_assert_eq(wg_check_grad(&first, NULL, cell, once, 2, x, NULL), WG_OK);
    cr_assert_eq(wg_check_grad(&both, NULL, cell, once, 2, x, NULL), WG_DERIVATIVE);
    cr_assert_eq(wg_check_grad(&third, NULL, cell, once, 2, x, NULL), WG_ARGUMENT);
    wg_error shapes = {0};
    cr_assert_eq(wg_check_grad(NULL, NULL, bad_graph, NULL, 2, (wg_tensor *[]){x[1], x[0]}, &shapes), WG_SHAPE, "%s",
                 shapes.text);
    wg_tensor_free(x[0]);
    wg_tensor_free(x[1]);
}

Test(check, refused_memory_is_told_from_a_wrong_derivative) {
    wg_tensor *x[2] = {taped_random(NULL, WG_F64, 1, (const int64_t[]){1}, 1),
                       taped_random(NULL, WG_F64, 1, (const int64_t[]){1}, 2)};
    wg_status status = WG_MEMORY;
    long k;
    for (k = 1; status != WG_OK && k < 5000; k += 1 + k / 40) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        status = wg_check_grad(NULL, memory, cell, (void *)(uintptr_t)&good, 2, x, NULL);
        cr_assert(status == WG_OK || status == WG_MEMORY, "allocation %ld: %s", k, wg_status_name(status));
        cr_assert_eq(f.live, 0, "allocation %ld leaked", k);
        if (!failing_failed(&f))
            cr_assert_eq(status, WG_OK);
        wg_memory_free(memory);
    }
    cr_assert_eq(status, WG_OK);
    cr_assert_gt(k, 20);
    wg_tensor_free(x[0]);
    wg_tensor_free(x[1]);
}
