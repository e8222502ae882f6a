/* softmax.c: logsumexp, softmax and log_softmax: rows of exponentials, shifted by their largest so that none overflows.
 * The records work on the last axis; the builders bring other axes there. */
#include "softmax.h"

#include <float.h>
#include <math.h>

#include "fold.h"
#include "pointwise.h"

extern const wg_op wg__op_exp;

/* ---- one row ---- */

enum { BLOCK = 256, LANES = 16 };

/* The exponentials come from the kernel of exp, a block at a time; sums are of LANES parts, in double. */
#define ROW(T)                                                                                     \
    static T largest_##T(int64_t n, const T *x) {                                                  \
        T lane[LANES], most = -(T)INFINITY;                                                        \
        int64_t i = 0;                                                                             \
        for (int l = 0; l < LANES; l++)                                                            \
            lane[l] = most;                                                                        \
        for (; i + LANES <= n; i += LANES)                                                         \
            _Pragma("omp simd") for (int l = 0; l < LANES; l++)                                    \
                lane[l] = ((x[i + l] > lane[l]) | (x[i + l] != x[i + l])) ? x[i + l] : lane[l];    \
        for (; i < n; i++)                                                                         \
            most = ((x[i] > most) | (x[i] != x[i])) ? x[i] : most;                                   \
        for (int l = 0; l < LANES; l++)                                                            \
            most = ((lane[l] > most) | (lane[l] != lane[l])) ? lane[l] : most;                       \
        return most;                                                                               \
    }                                                                                              \
    static double total_##T(int64_t n, const T *x) {                                               \
        double lane[LANES] = {0}, sum = 0;                                                         \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= n; i += LANES)                                                         \
            _Pragma("omp simd") for (int l = 0; l < LANES; l++)                                    \
                lane[l] += (double)x[i + l];                                                       \
        for (; i < n; i++)                                                                         \
            sum += (double)x[i];                                                                   \
        for (int half = LANES / 2; half; half /= 2)                                                \
            for (int l = 0; l < half; l++)                                                         \
                lane[l] += lane[l + half];                                                         \
        return sum + lane[0];                                                                      \
    }                                                                                              \
    /* y = e^(x - most), n of a block; y may be x. Returns their sum. */                           \
    static double exponentials_##T(wg__map *exps, int64_t n, const T *x, T most, T *y) {           \
        const void *in = y;                                                                        \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = x[i] - most;                                                                    \
        exps(n, &in, y);                                                                           \
        return total_##T(n, y);                                                                    \
    }                                                                                              \
    static double log_sum_##T(wg__map *exps, int64_t n, const T *x, double *most) {                \
        T block[BLOCK], m = largest_##T(n, x);                                                     \
        double sum = 0;                                                                            \
        for (int64_t i = 0; i < n; i += BLOCK)                                                     \
            sum += exponentials_##T(exps, wg__min(BLOCK, n - i), x + i, m, block);                 \
        *most = (double)m;                                                                         \
        return log(sum);                                                                           \
    }                                                                                              \
    static void softmax_##T(wg__map *exps, int64_t n, const T *x, T *y) {                          \
        T m = largest_##T(n, x);                                                                   \
        double sum = 0;                                                                            \
        for (int64_t i = 0; i < n; i += BLOCK)                                                     \
            sum += exponentials_##T(exps, wg__min(BLOCK, n - i), x + i, m, y + i);                 \
        const T scale = (T)(1 / sum);                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] *= scale;                                                                         \
    }                                                                                              \
    static void log_softmax_##T(wg__map *exps, int64_t n, const T *x, T *y) {                      \
        double most;                                                                               \
        const T rest = (T)log_sum_##T(exps, n, x, &most), m = (T)most;                             \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = (x[i] - m) - rest;                                                              \
    }
ROW(float)
ROW(double)

wg__row_maths wg__row_maths_of(const wg_call *call) {
    int type = call->in[0].dtype == WG_F64;
    return (wg__row_maths){type, wg__map_of(&wg__op_exp, type, call->team->isa)};
}

double wg__row_log_sum(wg__row_maths m, int64_t n, const void *x, double *most) {
    return m.type ? log_sum_double(m.exps, n, x, most) : log_sum_float(m.exps, n, x, most);
}

void wg__row_softmax(wg__row_maths m, int64_t n, const void *x, void *y) {
    if (m.type)
        softmax_double(m.exps, n, x, y);
    else
        softmax_float(m.exps, n, x, y);
}

/* ---- rows of an array ---- */

typedef struct rows {
    wg__row_maths maths;
    int64_t width, step; /* bytes from row to row of x */
    const char *x;
    char *y;
} rows;

static wg_status by_rows(const wg_call *call, int64_t count, void (*work)(void *, int64_t, int64_t)) {
    const wg_shape *shape = call->in[0].shape;
    rows r = {.maths = wg__row_maths_of(call), .width = shape->dim[shape->rank - 1], .x = call->in[0].data, .y = call->out.data};
    wg__row_step(shape, call->in[0].stride, &r.step);
    r.step *= (int64_t)wg_dtype_size(call->in[0].dtype);
    wg__rows(call->team, count, wg__max(1, 4 * 1024 / wg__max(1, r.width)), work, &r);
    return WG_OK;
}

static wg_status row_shape(wg_infer *q) {
    if (q->in[0]->rank == 0)
        return wg_infer_fail(q, WG_SHAPE, "a scalar has no axis");
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return wg__takes_floats(q);
}

/* The shape of x with its last axis of size 1. */
static wg_dims narrow(wg_var x) {
    wg_dims dims = wg__dims_of(x);
    dims.dim[dims.rank - 1] = 1;
    return dims;
}

static wg_var along(const wg_op *op, wg_var x, int axis) {
    wg_axes to;
    if (!wg__axes(x, op->name, 1, &axis, &to))
        return wg__var(wg__tape_of(1, &x), 0);
    axis = wg__axis(axis, wg_rank(x));
    wg_var last = wg__axis_to_end(x, axis);
    return wg__axis_from_end(wg_apply(op, 1, &last, NULL), axis);
}

/* ---- softmax ---- */

static void softmax_rows(void *user, int64_t from, int64_t to) {
    const rows *r = user;
    int64_t row = r->width * (r->maths.type ? 8 : 4);
    for (int64_t k = from; k < to; k++)
        wg__row_softmax(r->maths, r->width, r->x + k * r->step, r->y + k * row);
}

static wg_status softmax_run(wg_call *call) {
    int64_t count = call->out.shape->count;
    return count ? by_rows(call, count / call->out.shape->dim[call->out.shape->rank - 1], softmax_rows) : WG_OK;
}

/* y (g - sum of g y) */
static void softmax_vjp(const wg_rule *r, wg_var *dx) {
    wg_dims to = narrow(r->y);
    dx[0] = wg_mul(r->y, wg_sub(r->g, wg_sum_to(wg_mul(r->g, r->y), to.rank, to.dim)));
}

#define ROW_EXAMPLES(op)                                                                           \
    static wg_var op##_last(const wg_var *in) { return wg_##op(in[0], -1); }                       \
    static wg_var op##_first(const wg_var *in) { return wg_##op(in[0], 0); }                       \
    static const wg_example op##_examples[] = {{"2,3,4", -2, 2, op##_last}, {"3,2", -2, 2, op##_first}, \
                                               {"2,1", -2, 2, op##_last},   {"5", -2, 2, op##_first},   \
                                               {0}};

ROW_EXAMPLES(softmax)
const wg_op wg__op_softmax = {.name = "softmax", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS, .shape = row_shape,
    .run = softmax_run, .rows = wg__rows_before_last, .vjp = softmax_vjp, .examples = softmax_examples};

wg_var wg_softmax(wg_var x, int axis) { return along(&wg__op_softmax, x, axis); }

/* ---- log_softmax ---- */

static void log_softmax_rows(void *user, int64_t from, int64_t to) {
    const rows *r = user;
    for (int64_t k = from; k < to; k++) {
        const void *x = r->x + k * r->step;
        if (r->maths.type)
            log_softmax_double(r->maths.exps, r->width, x, (double *)r->y + k * r->width);
        else
            log_softmax_float(r->maths.exps, r->width, x, (float *)r->y + k * r->width);
    }
}

static wg_status log_softmax_run(wg_call *call) {
    int64_t count = call->out.shape->count;
    return count ? by_rows(call, count / call->out.shape->dim[call->out.shape->rank - 1], log_softmax_rows) : WG_OK;
}

/* g - e^y (sum of g) */
static void log_softmax_vjp(const wg_rule *r, wg_var *dx) {
    wg_dims to = narrow(r->y);
    dx[0] = wg_sub(r->g, wg_mul(wg_exp(r->y), wg_sum_to(r->g, to.rank, to.dim)));
}

ROW_EXAMPLES(log_softmax)
const wg_op wg__op_log_softmax = {.name = "log_softmax", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS, .shape = row_shape,
    .run = log_softmax_run, .rows = wg__rows_before_last, .vjp = log_softmax_vjp,
    .examples = log_softmax_examples};

wg_var wg_log_softmax(wg_var x, int axis) { return along(&wg__op_log_softmax, x, axis); }

/* ---- logsumexp ---- */

static wg_status logsumexp_shape(wg_infer *q) {
    wg_status status = row_shape(q);
    q->out.rank--;
    return status;
}

static void logsumexp_rows(void *user, int64_t from, int64_t to) {
    const rows *r = user;
    for (int64_t k = from; k < to; k++) {
        double most, log_sum = wg__row_log_sum(r->maths, r->width, r->x + k * r->step, &most);
        double value = isinf(most) ? most : most + log_sum;
        if (r->maths.type)
            ((double *)r->y)[k] = value;
        else
            ((float *)r->y)[k] = (float)value;
    }
}

static wg_status logsumexp_run(wg_call *call) { return by_rows(call, call->out.shape->count, logsumexp_rows); }

/* g e^(x - y); zeros in a row of -Inf alone. */
static void logsumexp_vjp(const wg_rule *r, wg_var *dx) {
    wg_dims to = narrow(r->in[0]);
    double lowest = wg_var_dtype(r->y) == WG_F32 ? -FLT_MAX : -DBL_MAX;
    wg_var y = wg_reshape(wg_max(r->y, wg_c(lowest)), to.rank, to.dim);
    dx[0] = wg_mul(wg_exp(wg_sub(r->in[0], y)), wg_reshape(r->g, to.rank, to.dim));
}

static wg_var logsumexp_all(const wg_var *in) { return wg_logsumexp(in[0], 0, NULL, false); }
static wg_var logsumexp_first(const wg_var *in) { return wg_logsumexp(in[0], 1, (const int[]){0}, true); }
static wg_var logsumexp_ends(const wg_var *in) { return wg_logsumexp(in[0], 2, (const int[]){-1, 0}, false); }
static const wg_example logsumexp_examples[] = {{"2,3", -2, 2, logsumexp_all},
                                                {"()", -2, 2, logsumexp_all},
                                                {"3,2", -2, 2, logsumexp_first},
                                                {"2,3,2", -2, 2, logsumexp_ends},
                                                {"1,3,1", -2, 2, logsumexp_ends},
                                                {0}};

const wg_op wg__op_logsumexp = {.name = "logsumexp", .arity = 1, .kind = WG_REDUCTION, .traits = WG_TAKES_ROWS, .shape = logsumexp_shape,
    .run = logsumexp_run, .rows = wg__rows_before_last, .vjp = logsumexp_vjp,
    .examples = logsumexp_examples};

wg_var wg_logsumexp(wg_var x, int n_axes, const int *axes, bool keepdims) {
    wg_axes to;
    if (!wg__axes(x, "logsumexp", n_axes, axes, &to))
        return wg__var(wg__tape_of(1, &x), 0);
    int order[WG_MAX_RANK], n = 0, rank = wg_rank(x);
    wg_dims flat = to.left;
    int64_t width = 1;
    for (int k = 0; k < rank; k++)
        if (!to.gone[k])
            order[n++] = k;
    for (int k = 0; k < rank; k++)
        if (to.gone[k]) {
            order[n++] = k;
            width *= wg_dim(x, k);
        }
    flat.dim[flat.rank++] = width;
    wg_var last = wg_reshape(wg_permute(x, rank, order), flat.rank, flat.dim);
    wg_var y = wg_apply(&wg__op_logsumexp, 1, &last, NULL);
    return keepdims ? wg_reshape(y, to.kept.rank, to.kept.dim) : y;
}
