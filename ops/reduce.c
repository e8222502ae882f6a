/* reduce.c: sums and other reductions along axes. */
#include "ops.h"

/* ---- sum_to ---- */

static wg_status sum_to_shape(wg_infer *q) {
    const wg_dims *to = q->attr;
    wg_shape target, both;
    char a[96], b[96];
    if (wg__shape_set(&target, to->rank, to->dim) != WG_OK)
        return wg_infer_fail(q, WG_RANGE, "a size is out of range");
    if (!wg__broadcast(q->in[0], &target, &both) || !wg__shape_same(&both, q->in[0]))
        return wg_infer_fail(q, WG_SHAPE, "%s is not a broadcast of %s", wg_shape_text(q->in[0], a, sizeof a),
                             wg_shape_text(&target, b, sizeof b));
    q->out = target;
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

/* Adds every element of x (dense) into the place its index has in the result. */
#define SUM_TO(T)                                                                                  \
    static void sum_to_##T(const wg_shape *shape, const int64_t *stride, const T *x, T *out) {     \
        int64_t index[WG_MAX_RANK] = {0}, last = shape->rank - 1;                                  \
        int64_t width = shape->rank ? shape->dim[last] : 1, step = shape->rank ? stride[last] : 0; \
        for (int64_t at = 0; at < shape->count; at += width) {                                     \
            T *row = out;                                                                          \
            for (int64_t k = 0; k < last; k++)                                                     \
                row += index[k] * stride[k];                                                       \
            if (step == 0) {                                                                       \
                T sum = 0;                                                                         \
                for (int64_t i = 0; i < width; i++)                                                \
                    sum += x[at + i];                                                              \
                *row += sum;                                                                       \
            } else {                                                                               \
                for (int64_t i = 0; i < width; i++)                                                \
                    row[i] += x[at + i];                                                           \
            }                                                                                      \
            for (int64_t k = last - 1; k >= 0 && ++index[k] == shape->dim[k]; k--)                 \
                index[k] = 0;                                                                      \
        }                                                                                          \
    }
SUM_TO(float)
SUM_TO(double)

static wg_status sum_to_run(wg_call *call) {
    const wg_shape *from = call->in[0].shape, *to = call->out.shape;
    int64_t stride[WG_MAX_RANK], dense[WG_MAX_RANK];
    wg__dense_strides(to, dense);
    for (int k = 0; k < from->rank; k++) {
        int j = k - (from->rank - to->rank);
        stride[k] = j < 0 || to->dim[j] != from->dim[k] ? 0 : dense[j];
    }
    __builtin_memset(call->out.data, 0, (size_t)to->count * wg_dtype_size(call->out.dtype));
    if (from->count == 0)
        return WG_OK;
    if (call->out.dtype == WG_F32)
        sum_to_float(from, stride, call->in[0].data, call->out.data);
    else
        sum_to_double(from, stride, call->in[0].data, call->out.data);
    return WG_OK;
}

static void sum_to_vjp(const wg_rule *r, wg_var *dx) {
    dx[0] = wg__broadcast_to(r->g, wg_var_shape(r->in[0]));
}

static wg_var sum_to_example(const wg_var *in) { return wg_sum_to(in[0], 2, (const int64_t[]){3, 1}); }
static wg_var sum_all_example(const wg_var *in) { return wg_sum_to(in[0], 0, NULL); }
static const wg_example sum_to_examples[] = {
    {"2,3,4", -2, 2, sum_to_example}, {"2,3", -2, 2, sum_all_example}, {0}};

const wg_op wg__op_sum_to = {.name = "sum_to", .arity = 1, .kind = WG_REDUCTION, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(wg_dims), .shape = sum_to_shape, .run = sum_to_run, .vjp = sum_to_vjp,
    .examples = sum_to_examples};

wg_var wg_sum_to(wg_var x, int rank, const int64_t *dim) {
    wg_dims to = wg__dims(rank, dim);
    return wg_apply(&wg__op_sum_to, 1, &x, &to);
}
