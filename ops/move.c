/* move.c: ops that copy elements to other places. */
#include "ops.h"

#include <string.h>

/* Arrays seen as [outer, axis, inner] around one axis. */
static int64_t sizes_before(const wg_shape *shape, int axis) {
    int64_t n = 1;
    for (int k = 0; k < axis; k++)
        n *= shape->dim[k];
    return n;
}

static int64_t sizes_after(const wg_shape *shape, int axis) {
    int64_t n = 1;
    for (int k = axis + 1; k < shape->rank; k++)
        n *= shape->dim[k];
    return n;
}

/* ---- concat ---- */

static wg_status concat_shape(wg_infer *q) {
    int axis = wg__axis(*(const int *)q->attr, q->in[0]->rank);
    char a[96], b[96];
    if (axis < 0)
        return wg_infer_fail(q, WG_RANGE, "%s has no axis %d", wg_shape_text(q->in[0], a, sizeof a),
                             *(const int *)q->attr);
    int64_t total = 0;
    for (int i = 0; i < q->n; i++) {
        wg_shape like = *q->in[i];
        if (q->in_dtype[i] != q->in_dtype[0])
            return wg_infer_fail(q, WG_DTYPE, "operands are %s and %s", wg_dtype_name(q->in_dtype[0]),
                                 wg_dtype_name(q->in_dtype[i]));
        bool fits = like.rank == q->in[0]->rank;
        for (int k = 0; k < like.rank && fits; k++)
            fits = k == axis || like.dim[k] == q->in[0]->dim[k];
        if (!fits)
            return wg_infer_fail(q, WG_SHAPE, "%s and %s differ beside axis %d",
                                 wg_shape_text(q->in[0], a, sizeof a), wg_shape_text(q->in[i], b, sizeof b), axis);
        if (__builtin_add_overflow(total, like.dim[axis], &total))
            return wg_infer_fail(q, WG_RANGE, "the result would have too many elements");
    }
    q->out = *q->in[0];
    q->out.dim[axis] = total;
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static wg_status concat_run(wg_call *call) {
    const wg_shape *shape = call->out.shape;
    int axis = wg__axis(*(const int *)call->attr, shape->rank);
    size_t size = wg_dtype_size(call->out.dtype);
    int64_t outer = sizes_before(shape, axis), inner = sizes_after(shape, axis);
    size_t row = (size_t)(inner * shape->dim[axis]) * size, at = 0;
    for (int i = 0; i < call->n; i++) {
        size_t part = (size_t)(inner * call->in[i].shape->dim[axis]) * size;
        for (int64_t o = 0; o < outer && part; o++)
            memcpy((char *)call->out.data + (size_t)o * row + at,
                   (const char *)call->in[i].data + (size_t)o * part, part);
        at += part;
    }
    return WG_OK;
}

static void concat_vjp(const wg_rule *r, wg_var *dx) {
    int axis = wg__axis(*(const int *)r->attr, wg_rank(r->y));
    int64_t at = 0;
    for (int i = 0; i < r->n; i++) {
        int64_t count = wg_dim(r->in[i], axis);
        if (r->need[i])
            dx[i] = wg_slice(r->g, axis, at, count);
        at += count;
    }
}

static wg_var concat_example(const wg_var *in) { return wg_concat(3, in, 1); }
static const wg_example concat_examples[] = {{"2,3 2,1 2,4", -2, 2, concat_example}, {0}};

const wg_op wg__op_concat = {.name = "concat", .arity = -1, .kind = WG_MOVE, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(int), .shape = concat_shape, .run = concat_run, .vjp = concat_vjp,
    .examples = concat_examples};

wg_var wg_concat(int n, const wg_var *x, int axis) { return wg_apply(&wg__op_concat, n, x, &axis); }
