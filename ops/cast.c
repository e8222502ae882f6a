/* cast.c: a value handed on under other terms: as another element type, or without its derivative. */
#include "ops.h"

#include <string.h>

/* ---- cast ---- */

static wg_status cast_shape(wg_infer *q) {
    const int32_t *dtype = q->attr;
    if (*dtype < WG_F32 || *dtype > WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "no such element type: %d", (int)*dtype);
    q->out = *q->in[0];
    q->dtype = (wg_dtype)*dtype;
    return WG_OK;
}

enum { GRAIN = 16 * 1024 };

typedef struct job {
    const void *in;
    void *out;
} job;

#define SAME(T, x) (T)(x)
#define WHOLE(T, x) wg__to_i32((double)(x))
#define CAST(A, B, convert)                                                                        \
    static void A##_to_##B(void *user, int64_t from, int64_t to) {                                 \
        const A *x = ((const job *)user)->in;                                                      \
        B *y = ((const job *)user)->out;                                                           \
        for (int64_t i = from; i < to; i++)                                                        \
            y[i] = convert(B, x[i]);                                                               \
    }
CAST(float, float, SAME)
CAST(float, double, SAME)
CAST(float, int32_t, WHOLE)
CAST(double, float, SAME)
CAST(double, double, SAME)
CAST(double, int32_t, WHOLE)
CAST(int32_t, float, SAME)
CAST(int32_t, double, SAME)
CAST(int32_t, int32_t, SAME)

/* By the two types, in the order of wg_dtype. */
static void (*const casts[3][3])(void *, int64_t, int64_t) = {
    {float_to_float, float_to_double, float_to_int32_t},
    {double_to_float, double_to_double, double_to_int32_t},
    {int32_t_to_float, int32_t_to_double, int32_t_to_int32_t}};

static wg_status cast_run(wg_call *call) {
    job j = {call->in[0].data, call->out.data};
    wg__rows(call->team, call->out.shape->count, GRAIN,
             casts[call->in[0].dtype - WG_F32][call->out.dtype - WG_F32], &j);
    return WG_OK;
}

extern const wg_op wg__op_cast;

static void cast_vjp(const wg_rule *r, wg_var *dx) { dx[0] = wg_cast(r->g, wg_var_dtype(r->in[0])); }

static wg_var record_cast(wg_var x, wg_dtype dtype) {
    int32_t attr = (int32_t)dtype;
    return wg_apply(&wg__op_cast, 1, &x, &attr);
}

/* There and back, recorded for either type: the values of both survive. */
static wg_var wider_example(const wg_var *in) { return record_cast(record_cast(in[0], WG_F64), wg_var_dtype(in[0])); }
static wg_var whole_example(const wg_var *in) {
    wg_dtype dtype = wg_var_dtype(in[0]);
    return wg_mul(in[0], wg_add(wg_cast(in[1], dtype), wg_cast(wg_cast(in[0], WG_I32), dtype)));
}
static const wg_example cast_examples[] = {
    {"2,3", -2, 2, wider_example}, {"2,3 i5:2,3", 0.1, 0.9, whole_example}, {0}};

const wg_op wg__op_cast = {.name = "cast", .arity = 1, .kind = WG_MOVE, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(int32_t), .shape = cast_shape, .run = cast_run, .rows = wg__rows_all, .vjp = cast_vjp,
    .examples = cast_examples};

wg_var wg_cast(wg_var x, wg_dtype dtype) {
    if (wg__operand(x, "cast") && wg_var_dtype(x) == dtype)
        return x;
    return record_cast(x, dtype);
}

/* ---- stop_gradient ---- */

static wg_status stop_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static bool stop_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                      int64_t *out_stride, int64_t *offset) {
    (void)attr, (void)in;
    memcpy(out_stride, in_stride, sizeof *in_stride * (size_t)out->rank);
    *offset = 0;
    return true;
}

/* Of something whose derivative is zero anyway: of all else, differences and the tape must disagree. */
static wg_var stop_example(const wg_var *in) { return wg_mul(in[0], wg_stop_gradient(wg_less(in[0], in[1]))); }
static const wg_example stop_examples[] = {{"2,3 2,3", -2, 2, stop_example}, {0}};

const wg_op wg__op_stop_gradient = {.name = "stop_gradient", .arity = 1, .kind = WG_VIEW,
    .traits = WG_IS_ZERO | WG_TAKES_STRIDES, .shape = stop_shape, .rows = wg__rows_all, .view = stop_view,
    .examples = stop_examples};

wg_var wg_stop_gradient(wg_var x) { return wg_apply(&wg__op_stop_gradient, 1, &x, NULL); }
