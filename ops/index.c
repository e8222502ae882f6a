/* index.c: ops that read or write places given by integers. An index is checked when the op runs: a bad one is an error
 * that names it, never a read outside. */
#include "ops.h"

#include <string.h>

typedef struct index_attr {
    int axis;
    int unused;   /* attributes are compared byte by byte: no padding */
    int64_t size; /* scatter_add: of the axis made */
} index_attr;

/* x as [before, size, after] around an axis, and `count` indices into it. */
typedef struct places {
    int64_t before, size, after, count;
    const int32_t *index;
    const char *from;
    char *to;
    size_t width; /* bytes of an element */
} places;

static int64_t product(const wg_shape *shape, int from, int to) {
    int64_t n = 1;
    for (int k = from; k < to; k++)
        n *= shape->dim[k];
    return n;
}

/* before: indices of the whole that come before these. */
static wg_status check_indices(wg_call *call, const wg_array *index, int64_t before, int64_t size) {
    const int32_t *at = index->data;
    int32_t lowest = 0, highest = -1;
    for (int64_t i = 0; i < index->shape->count; i++) {
        lowest = at[i] < lowest ? at[i] : lowest;
        highest = at[i] > highest ? at[i] : highest;
    }
    if (lowest >= 0 && highest < size)
        return WG_OK;
    int64_t i = 0;
    while (at[i] >= 0 && at[i] < size)
        i++;
    return wg_call_fail(call, WG_RANGE, "index %d at position %lld lies outside [0, %lld)", at[i],
                        (long long)(before + i), (long long)size);
}

static wg_status takes_index(wg_infer *q, int i) {
    return q->in_dtype[i] == WG_I32 ? WG_OK
                                    : wg_infer_fail(q, WG_DTYPE, "indices are i32, not %s", wg_dtype_name(q->in_dtype[i]));
}

/* The shape `like` with axes [axis, axis + gone) replaced by n others. */
static wg_status replaced(wg_infer *q, const wg_shape *like, int axis, int gone, int n, const int64_t *dim) {
    int rank = like->rank - gone + n;
    if (rank > WG_MAX_RANK)
        return wg_infer_fail(q, WG_RANGE, "the result would have more than %d axes", WG_MAX_RANK);
    q->out.rank = rank;
    for (int k = 0; k < rank; k++)
        q->out.dim[k] = k < axis ? like->dim[k] : k < axis + n ? dim[k - axis] : like->dim[k - n + gone];
    return WG_OK;
}

/* ---- gather ---- */

static wg_status gather_shape(wg_infer *q) {
    const index_attr *p = q->attr;
    char text[96];
    int axis = wg__axis(p->axis, q->in[0]->rank);
    if (axis < 0)
        return wg_infer_fail(q, WG_RANGE, "%s has no axis %d", wg_shape_text(q->in[0], text, sizeof text), p->axis);
    wg_status status = takes_index(q, 1);
    q->dtype = q->in_dtype[0];
    return status != WG_OK ? status : replaced(q, q->in[0], axis, 1, q->in[1]->rank, q->in[1]->dim);
}

/* Rows [from, to) of the result's before × count. */
static void gather_rows(void *user, int64_t from, int64_t to) {
    const places *p = user;
    size_t row = (size_t)p->after * p->width;
    for (int64_t k = from; k < to; k++) {
        const char *x = p->from + (size_t)(k / p->count * p->size + p->index[k % p->count]) * row;
        if (row == 4) /* a number each: no call */
            memcpy(p->to + (size_t)k * 4, x, 4);
        else if (row == 8)
            memcpy(p->to + (size_t)k * 8, x, 8);
        else
            memcpy(p->to + (size_t)k * row, x, row);
    }
}

static wg_status gather_run(wg_call *call) {
    const wg_shape *shape = call->in[0].shape;
    int axis = wg__axis(((const index_attr *)call->attr)->axis, shape->rank);
    places p = {product(shape, 0, axis), shape->dim[axis], product(shape, axis + 1, shape->rank),
                call->in[1].shape->count, call->in[1].data, call->in[0].data, call->out.data,
                wg_dtype_size(call->out.dtype)};
    wg_status status = check_indices(call, &call->in[1], wg__before(call, p.count), p.size); /* along another axis the first rows fail as all do */
    if (status == WG_OK && call->out.shape->count)
        wg__rows(call->team, p.before * p.count, wg__max(1, 16 * 1024 / p.after), gather_rows, &p);
    return status;
}

/* Of x and the index, the one whose axis comes first in the result. */
static uint32_t gather_rows_of(const wg_infer *q) {
    int axis = wg__axis(((const index_attr *)q->attr)->axis, q->in[0]->rank);
    return axis > 0 ? 1 : q->in[1]->rank > 0 ? 2 : 0;
}

/* A cotangent and its indices with the index axes made one: [before…, count, after…]. */
static wg_var flat_index(wg_var g, int axis, const wg_shape *index) {
    wg_dims from = wg__dims_of(g), to = {.rank = from.rank - index->rank + 1};
    for (int k = 0; k < to.rank; k++)
        to.dim[k] = k < axis ? from.dim[k] : k == axis ? index->count : from.dim[k + index->rank - 1];
    return wg_reshape(g, to.rank, to.dim);
}

/* The adjoint of a value read along one axis by some of the n readers: one scatter_add. parts: room for 2n. */
static wg_var scatter_axis(wg_var x, int axis, int n, const wg_rule *readers, wg_var *parts) {
    wg_var *g = parts, *index = parts + n;
    int count = 0;
    for (int i = 0; i < n; i++) {
        const index_attr *p = readers[i].attr;
        const wg_shape *shape = wg_var_shape(readers[i].in[1]);
        if (wg__axis(p->axis, wg_rank(x)) != axis)
            continue;
        g[count] = flat_index(readers[i].g, axis, shape);
        index[count++] = wg_reshape(readers[i].in[1], 1, &shape->count);
    }
    if (count == 0)
        return (wg_var){0};
    wg_var all = count == 1 ? g[0] : wg_concat(count, g, axis);
    return wg_scatter_add(all, count == 1 ? index[0] : wg_concat(count, index, 0), axis, wg_dim(x, axis));
}

/* Cost linear in what was read, plus one array of x's size an axis: not one a reader. */
static wg_var gather_collect(wg_var x, int n, const wg_rule *readers) {
    wg_memory *memory = x.tape->memory;
    wg_var *parts = wg__take(memory, wg__size((size_t)n, 2 * sizeof *parts, 0)), sum = {0};
    if (!parts)
        return wg__fail(x.tape, wg__refusal(memory), "gather", "no memory for its adjoint");
    for (int axis = 0; axis < wg_rank(x); axis++) {
        wg_var part = scatter_axis(x, axis, n, readers, parts);
        if (part.tape)
            sum = sum.tape ? wg_add(sum, part) : part;
    }
    wg__give(memory, parts);
    return sum;
}

static wg_var gather_rows_example(const wg_var *in) { return wg_gather(in[0], in[1], 0); }
static wg_var gather_last_example(const wg_var *in) { return wg_gather(in[0], in[1], -1); }
static wg_var gather_twice_example(const wg_var *in) {
    return wg_mul(wg_gather(in[0], in[1], 0), wg_sum_to(wg_gather(in[0], in[2], 1), 2, (const int64_t[]){1, 2}));
}
static const wg_example gather_examples[] = {{"4,3 i4:5", -2, 2, gather_rows_example},
                                             {"4,3 i4:2,2", -2, 2, gather_rows_example},
                                             {"2,3 i3:4", -2, 2, gather_last_example},
                                             {"3 i3:()", -2, 2, gather_last_example},
                                             {"3,2 i3:4 i2:2", -2, 2, gather_twice_example},
                                             {0}};

const wg_op wg__op_gather = {.name = "gather", .arity = 2, .kind = WG_INDEX, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(index_attr), .shape = gather_shape, .run = gather_run, .rows = gather_rows_of,
    .collect = gather_collect, .examples = gather_examples, .describe = wg__describe_axis};

wg_var wg_gather(wg_var x, wg_var index, int axis) {
    index_attr p = {.axis = axis};
    return wg_apply(&wg__op_gather, 2, (const wg_var[]){x, index}, &p);
}

/* ---- scatter_add ---- */

static wg_status scatter_shape(wg_infer *q) {
    const index_attr *p = q->attr;
    const wg_shape *values = q->in[0], *index = q->in[1];
    char a[96], b[96];
    int rank = values->rank - index->rank + 1, axis = wg__axis(p->axis, rank);
    wg_status status = takes_index(q, 1);
    if (status != WG_OK)
        return status;
    if (axis < 0)
        return wg_infer_fail(q, WG_RANGE, "%s with indices of %s has no axis %d", wg_shape_text(values, a, sizeof a),
                             wg_shape_text(index, b, sizeof b), p->axis);
    if (p->size < 0)
        return wg_infer_fail(q, WG_RANGE, "size %lld is negative", (long long)p->size);
    if (q->in_dtype[0] == WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "takes floats, not i32");
    for (int k = 0; k < index->rank; k++)
        if (values->dim[axis + k] != index->dim[k])
            return wg_infer_fail(q, WG_SHAPE, "%s does not hold indices of %s from axis %d on",
                                 wg_shape_text(values, a, sizeof a), wg_shape_text(index, b, sizeof b), axis);
    q->dtype = q->in_dtype[0];
    return replaced(q, values, axis, index->rank, 1, &p->size);
}

enum { COLUMNS = 64 };

/* Columns [c, c+n) of all places: each element's sum in the order of the indices, whoever adds it up. */
#define SCATTER(T)                                                                                 \
    static void scatter_##T(const places *p, int64_t before, int64_t c, int64_t n) {               \
        T *to = (T *)p->to + before * p->size * p->after + c;                                      \
        const T *from = (const T *)p->from + before * p->count * p->after + c;                     \
        for (int64_t k = 0; k < p->count; k++) {                                                   \
            T *restrict y = to + p->index[k] * p->after;                                           \
            const T *restrict x = from + k * p->after;                                             \
            for (int64_t i = 0; i < n; i++)                                                        \
                y[i] += x[i];                                                                      \
        }                                                                                          \
    }
SCATTER(float)
SCATTER(double)

static void scatter_tasks(void *user, int64_t from, int64_t to) {
    const places *p = user;
    int64_t chunks = (p->after + COLUMNS - 1) / COLUMNS;
    for (int64_t task = from; task < to; task++) {
        int64_t c = task % chunks * COLUMNS, n = wg__min(COLUMNS, p->after - c);
        if (p->width == sizeof(float))
            scatter_float(p, task / chunks, c, n);
        else
            scatter_double(p, task / chunks, c, n);
    }
}

static wg_status scatter_run(wg_call *call) {
    const wg_shape *out = call->out.shape, *index = call->in[1].shape;
    int axis = wg__axis(((const index_attr *)call->attr)->axis, out->rank);
    places p = {product(out, 0, axis), out->dim[axis], product(out, axis + 1, out->rank), index->count,
                call->in[1].data, call->in[0].data, call->out.data, wg_dtype_size(call->out.dtype)};
    wg_status status = check_indices(call, &call->in[1], 0, p.size); /* rows do not cut the indices */
    memset(call->out.data, 0, (size_t)out->count * p.width);
    if (status == WG_OK && call->in[0].shape->count) {
        int64_t chunks = (p.after + COLUMNS - 1) / COLUMNS, task = p.count * wg__min(p.after, COLUMNS);
        wg__rows(call->team, p.before * chunks, wg__max(1, 8 * 1024 / task), scatter_tasks, &p);
    }
    return status;
}

static uint32_t scatter_rows_of(const wg_infer *q) {
    return wg__axis(((const index_attr *)q->attr)->axis, q->out.rank) > 0;
}

static void scatter_vjp(const wg_rule *r, wg_var *dx) {
    if (r->need[0])
        dx[0] = wg_gather(r->g, r->in[1], ((const index_attr *)r->attr)->axis);
}

static wg_var scatter_rows_example(const wg_var *in) { return wg_scatter_add(in[0], in[1], 0, 5); }
static wg_var scatter_last_example(const wg_var *in) { return wg_scatter_add(in[0], in[1], -1, 4); }
static const wg_example scatter_add_examples[] = {{"4,3 i5:4", -2, 2, scatter_rows_example},
                                                  {"2,2,3 i5:2,2", -2, 2, scatter_rows_example},
                                                  {"2,3 i4:3", -2, 2, scatter_last_example},
                                                  {"2 i4:()", -2, 2, scatter_last_example},
                                                  {0}};

const wg_op wg__op_scatter_add = {.name = "scatter_add", .arity = 2, .kind = WG_INDEX, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(index_attr), .shape = scatter_shape, .run = scatter_run, .rows = scatter_rows_of,
    .vjp = scatter_vjp, .examples = scatter_add_examples, .describe = wg__describe_axis};

wg_var wg_scatter_add(wg_var values, wg_var index, int axis, int64_t size) {
    index_attr p = {.axis = axis, .size = size};
    return wg_apply(&wg__op_scatter_add, 2, (const wg_var[]){values, index}, &p);
}

/* ---- one_hot ---- */

typedef struct one_hot_attr {
    int64_t size;
    wg_dtype dtype;
    int unused; /* no padding */
} one_hot_attr;

static wg_status one_hot_shape(wg_infer *q) {
    const one_hot_attr *p = q->attr;
    wg_status status = takes_index(q, 0);
    if (p->size < 0)
        return wg_infer_fail(q, WG_RANGE, "size %lld is negative", (long long)p->size);
    if (p->dtype < WG_F32 || p->dtype > WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "no such element type: %d", (int)p->dtype);
    q->dtype = p->dtype;
    return status != WG_OK ? status : replaced(q, q->in[0], q->in[0]->rank, 0, 1, &p->size);
}

static wg_status one_hot_run(wg_call *call) {
    const one_hot_attr *p = call->attr;
    const int32_t *at = call->in[0].data;
    wg_status status = check_indices(call, &call->in[0], wg__before(call, call->in[0].shape->count), p->size);
    memset(call->out.data, 0, (size_t)call->out.shape->count * wg_dtype_size(p->dtype));
    for (int64_t i = 0; i < call->in[0].shape->count && status == WG_OK; i++) {
        int64_t k = i * p->size + at[i];
        if (p->dtype == WG_F32)
            ((float *)call->out.data)[k] = 1;
        else if (p->dtype == WG_F64)
            ((double *)call->out.data)[k] = 1;
        else
            ((int32_t *)call->out.data)[k] = 1;
    }
    return status;
}

static uint32_t one_hot_rows_of(const wg_infer *q) { return q->in[0]->rank > 0; }

static wg_var one_hot_example(const wg_var *in) { return wg_mul(wg_one_hot(in[0], 4, wg_var_dtype(in[1])), in[1]); }
static const wg_example one_hot_examples[] = {
    {"i4:3 3,4", -2, 2, one_hot_example}, {"i4:2,1 2,1,4", -2, 2, one_hot_example}, {0}};

const wg_op wg__op_one_hot = {.name = "one_hot", .arity = 1, .kind = WG_INDEX, .traits = WG_IS_ZERO,
    .attr_size = sizeof(one_hot_attr), .shape = one_hot_shape, .run = one_hot_run, .rows = one_hot_rows_of,
    .examples = one_hot_examples};

wg_var wg_one_hot(wg_var index, int64_t size, wg_dtype dtype) {
    one_hot_attr p = {.size = size, .dtype = dtype};
    return wg_apply(&wg__op_one_hot, 1, &index, &p);
}
