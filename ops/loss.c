/* loss.c: what models are trained to make small. Their derivatives follow from the ops they are recorded as; only the
 * cross-entropy of a softmax has kernels of its own, for speed and because -ln softmax must not be taken as written. */
#include <math.h>
#include <string.h>

#include "fold.h"
#include "softmax.h"

/* ---- labels ---- */

static wg_status labels_shape(wg_infer *q) {
    const wg_shape *x = q->in[0], *label = q->in[1];
    char a[96], b[96];
    if (q->in_dtype[1] != WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "labels are i32, not %s", wg_dtype_name(q->in_dtype[1]));
    bool fits = x->rank == label->rank + 1;
    for (int k = 0; k < label->rank && fits; k++)
        fits = x->dim[k] == label->dim[k];
    if (!fits)
        return wg_infer_fail(q, WG_SHAPE, "labels of %s for logits of %s: not one a row", wg_shape_text(label, b, sizeof b),
                             wg_shape_text(x, a, sizeof a));
    q->dtype = q->in_dtype[0];
    return wg__takes_floats(q);
}

typedef struct labelled {
    wg__row_maths maths;
    int32_t ignore;
    int64_t width, rows;
    const int32_t *label;
    const char *x;
    char *y;
} labelled;

/* The rows of a call (logits, labels), every label checked. */
static wg_status labelled_of(wg_call *call, labelled *l) {
    const wg_shape *shape = call->in[0].shape;
    *l = (labelled){wg__row_maths_of(call), *(const int32_t *)call->attr, shape->dim[shape->rank - 1],
                    call->in[1].shape->count, call->in[1].data, call->in[0].data, call->out.data};
    for (int64_t i = 0; i < l->rows; i++)
        if (l->label[i] != l->ignore && (l->label[i] < 0 || l->label[i] >= l->width))
            return wg_call_fail(call, WG_RANGE, "label %d at position %lld lies outside [0, %lld)", l->label[i],
                                (long long)(wg__before(call, l->rows) + i), (long long)l->width);
    return WG_OK;
}

static wg_status by_rows(wg_call *call, void (*work)(void *, int64_t, int64_t)) {
    labelled l;
    wg_status status = labelled_of(call, &l);
    if (status == WG_OK)
        wg__rows(call->team, l.rows, wg__max(1, 4 * 1024 / wg__max(1, l.width)), work, &l);
    return status;
}

static double at(int type, const void *x, int64_t i) {
    return type ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void put(int type, void *y, int64_t i, double value) {
    if (type)
        ((double *)y)[i] = value;
    else
        ((float *)y)[i] = (float)value;
}

/* ---- the weight of a label: 0 if it is ignored, else 1 ---- */

typedef struct weight_attr {
    int32_t ignore;
    wg_dtype dtype;
} weight_attr;

static wg_status weight_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = ((const weight_attr *)q->attr)->dtype;
    return WG_OK;
}

static wg_status weight_run(wg_call *call) {
    const weight_attr *p = call->attr;
    const int32_t *label = call->in[0].data;
    for (int64_t i = 0; i < call->out.shape->count; i++)
        put(p->dtype == WG_F64, call->out.data, i, label[i] != p->ignore);
    return WG_OK;
}

static const wg_op label_weight = {.name = "label_weight", .arity = 1, .kind = WG_INDEX, .traits = WG_IS_ZERO,
    .attr_size = sizeof(weight_attr), .shape = weight_shape, .run = weight_run,
    .rows = wg__rows_all};

static wg_var weight_of(wg_var label, int32_t ignore, wg_dtype dtype) {
    weight_attr p = {ignore, dtype};
    return wg_apply(&label_weight, 1, &label, &p);
}

/* x's shape with the last axis of size 1, for what is one number a row. */
static wg_var beside_rows(wg_var v, wg_var x) {
    wg_dims to = wg__dims_of(x);
    to.dim[to.rank - 1] = 1;
    return wg_reshape(v, to.rank, to.dim);
}

/* ---- the derivative of a row's cross-entropy: a - 1{y = j}, a = softmax(x); zeros where the label is ignored ---- */

static wg_status residual_shape(wg_infer *q) {
    q->out = *q->in[0];
    return labels_shape(q);
}

static void residual_rows(void *user, int64_t from, int64_t to) {
    const labelled *l = user;
    size_t row = (size_t)l->width * (l->maths.type ? 8 : 4);
    for (int64_t k = from; k < to; k++) {
        char *y = l->y + (size_t)k * row;
        if (l->label[k] == l->ignore) {
            memset(y, 0, row);
            continue;
        }
        wg__row_softmax(l->maths, l->width, l->x + (size_t)k * row, y);
        put(l->maths.type, y, l->label[k], at(l->maths.type, y, l->label[k]) - 1);
    }
}

static wg_status residual_run(wg_call *call) { return by_rows(call, residual_rows); }

/* a (g - sum of g a), where a counts. */
static void residual_vjp(const wg_rule *r, wg_var *dx) {
    wg_var x = r->in[0], weight = weight_of(r->in[1], *(const int32_t *)r->attr, wg_var_dtype(x));
    wg_var a = wg_where(beside_rows(weight, x), wg_softmax(x, -1), wg_c(0));
    wg_dims to = wg__dims_of(x);
    to.dim[to.rank - 1] = 1;
    dx[0] = wg_mul(a, wg_sub(r->g, wg_sum_to(wg_mul(r->g, a), to.rank, to.dim)));
}

static const wg_op residual = {.name = "softmax_residual", .arity = 2, .kind = WG_REDUCTION,
    .attr_size = sizeof(int32_t), .shape = residual_shape, .run = residual_run, .rows = wg__rows_before_last, 
    .vjp = residual_vjp};

/* ---- softmax_cross_entropy_rows ---- */

static wg_status cross_shape(wg_infer *q) {
    q->out = *q->in[1];
    return labels_shape(q);
}

static void cross_rows(void *user, int64_t from, int64_t to) {
    const labelled *l = user;
    size_t row = (size_t)l->width * (l->maths.type ? 8 : 4);
    for (int64_t k = from; k < to; k++) {
        const char *x = l->x + (size_t)k * row;
        double most, loss = 0;
        if (l->label[k] != l->ignore) {
            double log_sum = wg__row_log_sum(l->maths, l->width, x, &most);
            loss = (most - at(l->maths.type, x, l->label[k])) + log_sum;
        }
        put(l->maths.type, l->y, k, loss);
    }
}

static wg_status cross_run(wg_call *call) { return by_rows(call, cross_rows); }

static void cross_vjp(const wg_rule *r, wg_var *dx) {
    if (r->need[0])
        dx[0] = wg_mul(wg_apply(&residual, 2, r->in, r->attr), beside_rows(r->g, r->in[0]));
}

static wg_var cross_rows_all(const wg_var *in) { return wg_softmax_cross_entropy_rows(in[0], in[1], -1); }
static wg_var cross_rows_some(const wg_var *in) { return wg_softmax_cross_entropy_rows(in[0], in[1], 1); }
static const wg_example cross_rows_examples[] = {{"2,5 i5:2", -2, 2, cross_rows_all},
                                                 {"2,3,4 i4:2,3", -2, 2, cross_rows_some},
                                                 {"4 i4:()", -2, 2, cross_rows_all},
                                                 {"2,1 i1:2", -2, 2, cross_rows_all},
                                                 {0}};

const wg_op wg__op_softmax_cross_entropy_rows = {.name = "softmax_cross_entropy_rows", .arity = 2,
    .kind = WG_REDUCTION, .attr_size = sizeof(int32_t), .shape = cross_shape, .run = cross_run, .rows = wg__rows_before_last, 
    .vjp = cross_vjp, .examples = cross_rows_examples};

wg_var wg_softmax_cross_entropy_rows(wg_var logits, wg_var label, int ignore) {
    int32_t kept = ignore;
    return wg_apply(&wg__op_softmax_cross_entropy_rows, 2, (const wg_var[]){logits, label}, &kept);
}

/* ---- softmax_cross_entropy ---- */

static wg_var cross_all(const wg_var *in) { return wg_softmax_cross_entropy(in[0], in[1], -100); }
static wg_var cross_some(const wg_var *in) { return wg_softmax_cross_entropy(in[0], in[1], 1); }
static const wg_example cross_examples[] = {{"3,5 i5:3", -2, 2, cross_all},
                                            {"2,3,4 i4:2,3", -2, 2, cross_some},
                                            {"4 i4:()", -2, 2, cross_all},
                                            {0}};

const wg_op wg__op_softmax_cross_entropy = {.name = "softmax_cross_entropy", .arity = 2, .kind = WG_COMPOSITE,
    .examples = cross_examples};

wg_var wg_softmax_cross_entropy(wg_var logits, wg_var label, int ignore) {
    wg_var rows = wg_softmax_cross_entropy_rows(logits, label, ignore);
    if (!wg_valid(rows))
        return rows;
    wg_var counted = wg_sum_to(weight_of(label, ignore, wg_var_dtype(rows)), 0, NULL);
    return wg_div(wg_sum_to(rows, 0, NULL), counted);
}

/* ---- means over all elements: sigmoid_cross_entropy, mse, huber ---- */

/* Both operands of one shape (a bare constant has any), so that no slip broadcasts silently. */
static bool alike(wg_var x, wg_var target, const char *name) {
    char a[96], b[96];
    if (!wg__operand(x, name) || (!wg__is_bare(target) && !wg__operand(target, name))) {
        wg__fail(wg__tape_of(2, (const wg_var[]){x, target}), WG_ARGUMENT, name, "an operand is not a valid var");
        return false;
    }
    if (wg__is_bare(target) || wg__shape_same(wg_var_shape(x), wg_var_shape(target)))
        return true;
    wg__fail(x.tape, WG_SHAPE, name, "%s with targets of %s", wg_shape_text(wg_var_shape(x), a, sizeof a),
             wg_shape_text(wg_var_shape(target), b, sizeof b));
    return false;
}

#define ALIKE(name)                                                                                \
    if (!alike(x, target, name))                                                                   \
        return wg__var(wg__tape_of(2, (const wg_var[]){x, target}), 0);                            \
    if (wg__is_bare(target))                                                                       \
        target = wg_like(x, target.as.value);

static wg_var sigmoid_cross_example(const wg_var *in) {
    return wg_sigmoid_cross_entropy(wg_mul(wg_c(4), in[0]), in[1]);
}
static wg_var sigmoid_cross_constant(const wg_var *in) { return wg_sigmoid_cross_entropy(in[0], wg_c(1)); }
static const wg_example sigmoid_cross_examples[] = {
    {"2,3 2,3", 0, 1, sigmoid_cross_example}, {"3", -2, 2, sigmoid_cross_constant}, {0}};

const wg_op wg__op_sigmoid_cross_entropy = {.name = "sigmoid_cross_entropy", .arity = 2, .kind = WG_COMPOSITE,
    .examples = sigmoid_cross_examples};

wg_var wg_sigmoid_cross_entropy(wg_var x, wg_var target) {
    ALIKE("sigmoid_cross_entropy")
    wg_var for_one = wg_mul(target, wg_softplus(wg_neg(x)));
    wg_var for_zero = wg_mul(wg_sub(wg_c(1), target), wg_softplus(x));
    return wg_mean(wg_add(for_one, for_zero), 0, NULL, false);
}

static wg_var mse_example(const wg_var *in) { return wg_mse(in[0], in[1]); }
static wg_var mse_constant(const wg_var *in) { return wg_mse(in[0], wg_c(0.5)); }
static const wg_example mse_examples[] = {
    {"2,3 2,3", -2, 2, mse_example}, {"() ()", -2, 2, mse_example}, {"2,1", -2, 2, mse_constant}, {0}};

const wg_op wg__op_mse = {.name = "mse", .arity = 2, .kind = WG_COMPOSITE, .examples = mse_examples};

wg_var wg_mse(wg_var x, wg_var target) {
    ALIKE("mse")
    return wg_mean(wg_square(wg_sub(x, target)), 0, NULL, false);
}

static wg_var huber_example(const wg_var *in) { return wg_huber(in[0], in[1], 0.7); }
static wg_var huber_far(const wg_var *in) { return wg_huber(in[0], wg_c(-10), 2); }
static const wg_example huber_examples[] = {
    {"3,4 3,4", -2, 2, huber_example}, {"() ()", -2, 2, huber_example}, {"3", -2, 2, huber_far}, {0}};

const wg_op wg__op_huber = {.name = "huber", .arity = 2, .kind = WG_COMPOSITE, .examples = huber_examples};

/* With c = clamp(d): c (d - c/2) is d^2/2 inside and delta (|d| - delta/2) outside. */
wg_var wg_huber(wg_var x, wg_var target, double delta) {
    ALIKE("huber")
    if (!(delta > 0) || isinf(delta))
        return wg__fail(x.tape, WG_RANGE, "huber", "delta is %g, not a positive number", delta);
    wg_var d = wg_sub(x, target), c = wg_clamp(d, wg_c(-delta), wg_c(delta));
    return wg_mean(wg_mul(c, wg_sub(d, wg_mul(wg_c(0.5), c))), 0, NULL, false);
}
