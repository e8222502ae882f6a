/* normalise.c: rows brought to one scale: layer_norm and rms_norm along the last axis, without an affine part, and the
 * factor they scale by and the projection, which their derivatives need. Derivatives are made of the four and pointwise ops. */
#include "sums.h"

#include <math.h>

typedef struct norm_attr {
    double eps;
    int64_t centred; /* the mean is taken out first: layer_norm */
} norm_attr;

/* ---- shapes ---- */

static wg_status norm_shape(wg_infer *q) {
    const norm_attr *n = q->attr;
    char text[96];
    if (q->in_dtype[0] == WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "the operand is i32");
    if (q->in[0]->rank == 0)
        return wg_infer_fail(q, WG_SHAPE, "%s has no axis", wg_shape_text(q->in[0], text, sizeof text));
    if (!(n->eps >= 0 && isfinite(n->eps)))
        return wg_infer_fail(q, WG_RANGE, "eps is %g, not a number from 0 up", n->eps);
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static wg_status scale_shape(wg_infer *q) {
    wg_status status = norm_shape(q);
    if (status == WG_OK)
        q->out.dim[q->out.rank - 1] = 1;
    return status;
}

static wg_status project_shape(wg_infer *q) {
    char a[96], b[96];
    if (q->in_dtype[0] == WG_I32 || q->in_dtype[0] != q->in_dtype[1])
        return wg_infer_fail(q, WG_DTYPE, "%s and %s", wg_dtype_name(q->in_dtype[0]), wg_dtype_name(q->in_dtype[1]));
    if (q->in[0]->rank == 0 || !wg__shape_same(q->in[0], q->in[1]))
        return wg_infer_fail(q, WG_SHAPE, "%s and %s", wg_shape_text(q->in[0], a, sizeof a), wg_shape_text(q->in[1], b, sizeof b));
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

/* ---- kernels ---- */

enum { GRAIN = 16 * 1024 }; /* elements a chunk */

typedef struct rows {
    const void *attr; /* norm_attr; of a projection: whether it is centred */
    const wg__sums *sums;
    int type; /* 0: f32, 1: f64 */
    int64_t width, size;
    const char *x, *y; /* y: of a projection */
    int64_t x_step, y_step; /* bytes from row to row */
    char *out, *scales; /* scales: where a norm's are wanted too, or NULL */
} rows;

static void put_scale(const rows *q, char *to, int64_t row, double scale) {
    if (q->type == 0)
        ((float *)to)[row] = (float)scale;
    else
        ((double *)to)[row] = scale;
}

static void norm_rows(void *user, int64_t from, int64_t to) {
    const rows *q = user;
    const norm_attr *attr = q->attr;
    for (int64_t row = from; row < to; row++) {
        const char *x = q->x + row * q->x_step;
        double m, scale = q->sums->scale[q->type](q->width, x, attr->eps, attr->centred, &m);
        if (q->scales)
            put_scale(q, q->scales, row, scale);
        q->sums->apply[q->type](q->width, x, m, scale, q->out + row * q->width * q->size);
    }
}

static void scale_rows(void *user, int64_t from, int64_t to) {
    const rows *q = user;
    const norm_attr *attr = q->attr;
    for (int64_t row = from; row < to; row++) {
        double m, scale = q->sums->scale[q->type](q->width, q->x + row * q->x_step, attr->eps, attr->centred, &m);
        put_scale(q, q->out, row, scale);
    }
}

static void project_rows(void *user, int64_t from, int64_t to) {
    const rows *q = user;
    for (int64_t row = from; row < to; row++) {
        q->sums->project[q->type](q->width, q->x + row * q->x_step, q->y + row * q->y_step, *(const bool *)q->attr, q->out + row * q->width * q->size);
    }
}

static int64_t step_of(const wg_array *x) {
    int64_t step;
    wg__row_step(x->shape, x->stride, &step);
    return step * (int64_t)wg_dtype_size(x->dtype);
}

static wg_status run_rows(wg_call *call, void (*work)(void *, int64_t, int64_t)) {
    const wg_shape *shape = call->in[0].shape;
    int64_t width = shape->dim[shape->rank - 1], count = 1;
    for (int k = 0; k < shape->rank - 1; k++)
        count *= shape->dim[k];
    rows q = {.attr = call->attr, .sums = wg__sums_of(call->team->isa), .type = call->out.dtype == WG_F64, .width = width,
              .size = (int64_t)wg_dtype_size(call->out.dtype), .x = call->in[0].data, .out = call->out.data, .scales = call->beside.data};
    q.x_step = step_of(&call->in[0]);
    if (call->n > 1)
        q.y = call->in[1].data, q.y_step = step_of(&call->in[1]);
    wg__rows(call->team, call->out.shape->count ? count : 0, wg__max(1, GRAIN / wg__max(1, width)), work, &q);
    return WG_OK;
}

static wg_status norm_run(wg_call *call) { return run_rows(call, norm_rows); }
static wg_status scale_run(wg_call *call) { return run_rows(call, scale_rows); }
static wg_status project_run(wg_call *call) { return run_rows(call, project_rows); }

/* ---- derivatives ---- */

/* The mean along the last axis, which stays with size 1. */
static wg_var row_mean(wg_var x) {
    wg_dims dims = wg__dims_of(x);
    if (!dims.rank) /* invalid */
        return x;
    double n = (double)dims.dim[dims.rank - 1];
    dims.dim[dims.rank - 1] = 1;
    return wg_mul(wg_sum_to(x, dims.rank, dims.dim), wg_c(n > 0 ? 1 / n : 0));
}

/* The Jacobian of y = (x - m) r is symmetric: r (I - 1 1^T/n - y y^T/n); the middle part only if centred. */
static wg_var norm_jacobian(const wg_rule *rule, wg_var g) {
    const norm_attr *attr = rule->attr;
    return wg_mul(wg_norm_scale(rule->in[0], attr->eps, attr->centred), wg_norm_project(g, rule->y, attr->centred));
}

static void norm_vjp(const wg_rule *rule, wg_var *dx) { dx[0] = norm_jacobian(rule, rule->g); }
static wg_var norm_jvp(const wg_rule *rule, const wg_var *dx) { return norm_jacobian(rule, dx[0]); }

/* dr/dx = -r^2 y / n, where y is the normalised row. */
static void scale_vjp(const wg_rule *rule, wg_var *dx) {
    const norm_attr *attr = rule->attr;
    wg_var x = rule->in[0];
    wg_var y = attr->centred ? wg_layer_norm(x, attr->eps) : wg_rms_norm(x, attr->eps);
    double n = (double)wg_dim(x, -1);
    dx[0] = wg_mul(wg_mul(wg_mul(rule->g, wg_square(rule->y)), wg_c(n > 0 ? -1 / n : 0)), y);
}

/* Linear in g, and symmetric. In y: that of -y mean(g y). */
static void project_vjp(const wg_rule *rule, wg_var *dx) {
    wg_var g = rule->in[0], y = rule->in[1];
    if (rule->need[0])
        dx[0] = wg_norm_project(rule->g, y, *(const bool *)rule->attr);
    if (rule->need[1])
        dx[1] = wg_neg(wg_add(wg_mul(g, row_mean(wg_mul(rule->g, y))), wg_mul(rule->g, row_mean(wg_mul(g, y)))));
}

/* ---- records ---- */

static wg_var layer_example(const wg_var *in) { return wg_layer_norm(in[0], 1e-5); }
static wg_var layer_eps_example(const wg_var *in) { return wg_layer_norm(in[0], 0.5); }
static wg_var rms_example(const wg_var *in) { return wg_rms_norm(in[0], 1e-5); }
static wg_var rms_eps_example(const wg_var *in) { return wg_rms_norm(in[0], 0.5); }
static wg_var centred_example(const wg_var *in) { return wg_norm_scale(in[0], 1e-3, true); }
static wg_var plain_example(const wg_var *in) { return wg_norm_scale(in[0], 1e-3, false); }

static wg_var centred_projection(const wg_var *in) { return wg_norm_project(in[0], in[1], true); }
static wg_var plain_projection(const wg_var *in) { return wg_norm_project(in[0], in[1], false); }

static const wg_example layer_examples[] = {{"3,5", -2, 2, layer_example}, {"2,3,4", -2, 2, layer_eps_example},
                                            {"4", -2, 2, layer_eps_example}, {"3,1", -2, 2, layer_eps_example}, {0}};
static const wg_example rms_examples[] = {{"3,5", -2, 2, rms_example}, {"2,3,4", -2, 2, rms_eps_example},
                                          {"4", -2, 2, rms_eps_example}, {"3,1", -2, 2, rms_eps_example}, {0}};
static const wg_example scale_examples[] = {{"3,5", -2, 2, centred_example}, {"2,3", 0.5, 2, plain_example}, {0}};
static const wg_example project_examples[] = {{"3,5 3,5", -2, 2, centred_projection}, {"2,3,4 2,3,4", -2, 2, plain_projection},
                                              {"4 4", -2, 2, centred_projection}, {"3,1 3,1", -2, 2, centred_projection}, {0}};

const wg_op wg__op_norm_scale = {.name = "norm_scale", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS,
    .attr_size = sizeof(norm_attr), .shape = scale_shape, .run = scale_run, .rows = wg__rows_before_last, .vjp = scale_vjp,
    .examples = scale_examples};

const wg_op wg__op_layer_norm = {.name = "layer_norm", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS,
    .attr_size = sizeof(norm_attr), .shape = norm_shape, .run = norm_run, .rows = wg__rows_before_last, .vjp = norm_vjp,
    .jvp = norm_jvp, .beside = &wg__op_norm_scale, .examples = layer_examples};

const wg_op wg__op_rms_norm = {.name = "rms_norm", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS,
    .attr_size = sizeof(norm_attr), .shape = norm_shape, .run = norm_run, .rows = wg__rows_before_last, .vjp = norm_vjp,
    .jvp = norm_jvp, .beside = &wg__op_norm_scale, .examples = rms_examples};

const wg_op wg__op_norm_project = {.name = "norm_project", .arity = 2, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS,
    .attr_size = sizeof(bool), .shape = project_shape, .run = project_run, .rows = wg__rows_before_last, .vjp = project_vjp,
    .examples = project_examples};

wg_var wg_layer_norm(wg_var x, double eps) {
    return wg_apply(&wg__op_layer_norm, 1, &x, &(norm_attr){eps, true});
}

wg_var wg_rms_norm(wg_var x, double eps) { return wg_apply(&wg__op_rms_norm, 1, &x, &(norm_attr){eps, false}); }

wg_var wg_norm_scale(wg_var x, double eps, bool centred) {
    return wg_apply(&wg__op_norm_scale, 1, &x, &(norm_attr){eps, centred});
}

wg_var wg_norm_project(wg_var g, wg_var y, bool centred) {
    return wg_apply(&wg__op_norm_project, 2, (const wg_var[]){g, y}, &centred);
}
