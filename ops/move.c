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

/* One operand's part of every row [.., axis, ..] of the result. */
typedef struct strip {
    const wg_array *from;
    const int64_t *stride; /* of `from`, in elements */
    int axis;
    wg_shape block; /* the axes from `axis` on */
    bool dense;     /* so lie the elements of a block */
    char *to;
    size_t row; /* bytes from block to block of the result */
} strip;

/* Where block `number` begins, in elements. */
static int64_t block_at(const strip *s, int64_t number) {
    int64_t at = 0;
    for (int k = s->axis - 1; k >= 0; k--) {
        int64_t n = s->from->shape->dim[k];
        at += number % n * s->stride[k];
        number /= n;
    }
    return at;
}

static void copy_blocks(void *user, int64_t from, int64_t to) {
    const strip *s = user;
    size_t size = wg_dtype_size(s->from->dtype);
    for (int64_t o = from; o < to; o++) {
        char *at = (char *)s->from->data + block_at(s, o) * (int64_t)size, *out = s->to + (size_t)o * s->row;
        const wg_array block = {at, &s->block, s->stride + s->axis, s->from->dtype};
        if (s->dense)
            memcpy(out, at, (size_t)s->block.count * size);
        else
            wg__copy(&(wg_team){.threads = 1}, &block, out);
    }
}

/* Bytes that a thread copies at once. */
enum { CHUNK = 1 << 15 };

static wg_status concat_run(wg_call *call) {
    const wg_shape *shape = call->out.shape;
    int axis = wg__axis(*(const int *)call->attr, shape->rank);
    size_t size = wg_dtype_size(call->out.dtype), row = (size_t)(sizes_after(shape, axis) * shape->dim[axis]) * size;
    int64_t outer = sizes_before(shape, axis);
    char *to = call->out.data;
    for (int i = 0; i < call->n; i++) {
        const wg_array *from = &call->in[i];
        int64_t dense[WG_MAX_RANK];
        wg__dense_strides(from->shape, dense);
        strip s = {.from = from, .stride = from->stride ? from->stride : dense, .axis = axis, .dense = true, .to = to, .row = row};
        wg__shape_set(&s.block, shape->rank - axis, from->shape->dim + axis); /* part of a shape that there is */
        for (int k = axis; k < shape->rank; k++)
            s.dense = s.dense && (from->shape->dim[k] == 1 || s.stride[k] == dense[k]);
        size_t part = (size_t)s.block.count * size;
        if (part && outer == 1)
            wg__copy(call->team, from, to);
        else if (part)
            wg__rows(call->team, outer, 1 + CHUNK / (int64_t)part, copy_blocks, &s);
        to += part;
    }
    return WG_OK;
}

static uint32_t concat_rows(const wg_infer *q) { return wg__rows_beside(q, *(const int *)q->attr); }

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

const wg_op wg__op_concat = {.name = "concat", .arity = -1, .kind = WG_MOVE, .traits = WG_IS_LINEAR | WG_TAKES_STRIDES,
    .attr_size = sizeof(int), .shape = concat_shape, .run = concat_run, .rows = concat_rows,
    .vjp = concat_vjp, .examples = concat_examples, .describe = wg__describe_axis};

wg_var wg_concat(int n, const wg_var *x, int axis) { return wg_apply(&wg__op_concat, n, x, &axis); }

/* ---- stack: operands with a new axis, side by side ---- */

static wg_var stack_first(const wg_var *in) { return wg_stack(2, in, 0); }
static wg_var stack_last(const wg_var *in) { return wg_stack(3, in, -1); }
static const wg_example stack_examples[] = {{"2,3 2,3", -2, 2, stack_first},
                                            {"() ()", -2, 2, stack_first},
                                            {"2 2 2", -2, 2, stack_last},
                                            {"2,1 2,1 2,1", -2, 2, stack_last},
                                            {0}};

const wg_op wg__op_stack = {.name = "stack", .arity = -1, .kind = WG_COMPOSITE, .examples = stack_examples};

/* x with an axis of size 1 put in. */
static wg_var with_axis(wg_var x, int axis) {
    wg_dims from = wg__dims_of(x), to = {.rank = from.rank + 1}; /* one too many is for reshape to say */
    for (int k = 0; k < from.rank && k < WG_MAX_RANK - 1; k++)
        to.dim[k < axis ? k : k + 1] = from.dim[k];
    if (axis < WG_MAX_RANK)
        to.dim[axis] = 1;
    return wg_reshape(x, to.rank, to.dim);
}

wg_var wg_stack(int n, const wg_var *x, int axis) {
    wg_tape *tape = wg__tape_of(n, x);
    char a[96], b[96];
    for (int i = 0; i < n; i++)
        if (!wg__operand(x[i], "stack"))
            return wg__fail(tape, WG_ARGUMENT, "stack", "operand %d is not a valid var", i + 1);
    int at = n ? wg__axis(axis, wg_rank(x[0]) + 1) : 0;
    if (n && at < 0)
        return wg__fail(tape, WG_RANGE, "stack", "no place %d for an axis in %s", axis,
                        wg_shape_text(wg_var_shape(x[0]), a, sizeof a));
    for (int i = 1; i < n; i++)
        if (!wg__shape_same(wg_var_shape(x[i]), wg_var_shape(x[0])))
            return wg__fail(tape, WG_SHAPE, "stack", "%s and %s differ", wg_shape_text(wg_var_shape(x[0]), a, sizeof a),
                            wg_shape_text(wg_var_shape(x[i]), b, sizeof b));
    wg_var *rows = tape ? wg__take(tape->memory, wg__size((size_t)n, sizeof *rows, 0)) : NULL;
    if (!rows)
        return tape ? wg__fail(tape, wg__refusal(tape->memory), "stack", "no memory for its operands") : (wg_var){0};
    const wg_shape *row = NULL; /* of all, once it is kept */
    for (int i = 0; i < n; i++) {
        rows[i] = row && x[i].tape == tape ? wg__reshape(x[i], row) : with_axis(x[i], at);
        row = wg_var_shape(rows[i]);
    }
    wg_var y = wg_concat(n, rows, at);
    wg__give(tape->memory, rows);
    return y;
}

/* ---- pad: constants on both sides ---- */

static wg_var pad_last(const wg_var *in) { return wg_pad(in[0], -1, 1, 2, 0.5); }
static wg_var pad_first(const wg_var *in) { return wg_pad(in[0], 0, 0, 1, 0); }
static wg_var pad_none(const wg_var *in) { return wg_pad(in[0], 0, 0, 0, 0); }
static const wg_example pad_examples[] = {
    {"2,3", -2, 2, pad_last}, {"2,1", -2, 2, pad_first}, {"2", -2, 2, pad_none}, {0}};

const wg_op wg__op_pad = {.name = "pad", .arity = 1, .kind = WG_COMPOSITE, .examples = pad_examples};

wg_var wg_pad(wg_var x, int axis, int64_t before, int64_t after, double value) {
    if (!wg__operand(x, "pad"))
        return wg__var(wg__tape_of(1, &x), 0);
    char text[96];
    wg_dims dims = wg__dims_of(x);
    int at = wg__axis(axis, dims.rank);
    wg_shape_text(wg_var_shape(x), text, sizeof text);
    if (at < 0)
        return wg__fail(x.tape, WG_RANGE, "pad", "%s has no axis %d", text, axis);
    if (before < 0 || after < 0)
        return wg__fail(x.tape, WG_RANGE, "pad", "%lld before and %lld after axis %d of %s", (long long)before,
                        (long long)after, axis, text);
    wg_var parts[3];
    int n = 0;
    if ((dims.dim[at] = before))
        parts[n++] = wg_full(x.tape, wg_var_dtype(x), dims.rank, dims.dim, value);
    parts[n++] = x;
    if ((dims.dim[at] = after))
        parts[n++] = wg_full(x.tape, wg_var_dtype(x), dims.rank, dims.dim, value);
    return n == 1 ? x : wg_concat(n, parts, at);
}
