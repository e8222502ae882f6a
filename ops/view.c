/* view.c: ops whose result is the same elements under other indices: aliases, nothing is computed or copied where the
 * input's strides allow it. */
#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

wg_dims wg__dims(int rank, const int64_t *dim) {
    wg_dims dims = {.rank = rank};
    for (int i = 0; i < rank && i < WG_MAX_RANK; i++)
        dims.dim[i] = dim[i];
    return dims;
}

wg_dims wg__dims_of(wg_var x) {
    const wg_shape *shape = wg_var_shape(x);
    return shape ? wg__dims(shape->rank, shape->dim) : (wg_dims){0};
}

static void write_list(const char *name, int n, const int64_t *values, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "%s=(", name);
    for (int k = 0; k < n && used < size; k++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", k ? "," : "", (long long)values[k]);
    if (used < size)
        snprintf(text + used, size - used, ")");
}

void wg__describe_dims(const void *attr, char *text, size_t size) {
    const wg_dims *dims = attr;
    write_list("to", dims->rank, dims->dim, text, size);
}

void wg__describe_axis(const void *attr, char *text, size_t size) {
    snprintf(text, size, "axis=%d", *(const int *)attr);
}

bool wg__operand(wg_var x, const char *name) {
    if (wg_valid(x) && !wg__is_bare(x))
        return x.tape->status == WG_OK;
    if (x.tape && !wg__is_bare(x) && x.tape->status == WG_OK)
        wg__fail(x.tape, WG_ARGUMENT, name, "the operand is not a valid var");
    return false;
}

/* What builders return when an operand will not do. */
#define REQUIRE(x, name)                                                                           \
    if (!wg__operand(x, name))                                                                     \
        return wg__var(wg__tape_of(1, &x), 0);

/* ---- reshape ---- */

static wg_status reshape_shape(wg_infer *q) {
    const wg_dims *to = q->attr;
    char text[96];
    int64_t known = 1;
    int open = -1;
    if (to->rank < 0 || to->rank > WG_MAX_RANK)
        return wg_infer_fail(q, WG_RANGE, "at most %d axes, not %d", WG_MAX_RANK, to->rank);
    for (int i = 0; i < to->rank; i++) {
        q->out.dim[i] = to->dim[i];
        if (to->dim[i] == -1 && open < 0)
            open = i;
        else if (to->dim[i] < 0 || __builtin_mul_overflow(known, to->dim[i], &known))
            return wg_infer_fail(q, WG_SHAPE, "size %lld of axis %d is not a size", (long long)to->dim[i], i);
    }
    q->out.rank = to->rank;
    q->dtype = q->in_dtype[0];
    int64_t count = q->in[0]->count;
    if (open >= 0 && known > 0 && count % known == 0)
        q->out.dim[open] = count / known;
    else if (open >= 0 || known != count)
        return wg_infer_fail(q, WG_SHAPE, "%s has %lld elements, the new shape %lld",
                             wg_shape_text(q->in[0], text, sizeof text), (long long)count, (long long)known);
    return WG_OK;
}

/* Walks both shapes from the last axis: an axis of the result must lie inside one stretch of the input. */
static bool reshape_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                         int64_t *out_stride, int64_t *offset) {
    (void)attr;
    *offset = 0;
    int i = in->rank - 1, k = out->rank - 1;
    if (in->count == 0) {
        wg__dense_strides(out, out_stride);
        return true;
    }
    while (k >= 0) {
        while (i >= 0 && in->dim[i] == 1)
            i--;
        int64_t stretch = 1, step = i >= 0 ? in_stride[i] : 1, next = step;
        if (i >= 0) { /* the longest run of input axes that are one stretch */
            stretch = in->dim[i];
            next = step * in->dim[i];
            for (i--; i >= 0 && (in->dim[i] == 1 || in_stride[i] == next); i--) {
                stretch *= in->dim[i];
                if (in->dim[i] != 1)
                    next = in_stride[i] * in->dim[i];
            }
        }
        int64_t used = 1;
        for (; k >= 0 && used * out->dim[k] <= stretch; k--) {
            out_stride[k] = step * used;
            used *= out->dim[k];
        }
        if (used != stretch)
            return false;
    }
    return true;
}

static void reshape_vjp(const wg_rule *r, wg_var *dx) { dx[0] = wg__reshape(r->g, wg__of(r->in[0])->shape); }

static wg_status copy_run(wg_call *call);

static wg_var reshape_example(const wg_var *in) { return wg_reshape(in[0], 2, (const int64_t[]){6, -1}); }
static const wg_example reshape_examples[] = {{"2,3,4", -2, 2, reshape_example}, {0}};

const wg_op wg__op_reshape = {.name = "reshape", .arity = 1, .kind = WG_VIEW,
    .traits = WG_IS_LINEAR | WG_TAKES_STRIDES, .attr_size = sizeof(wg_dims), .shape = reshape_shape,
    .run = copy_run, .rows = wg__rows_kept, .view = reshape_view, .vjp = reshape_vjp, .examples = reshape_examples,
    .describe = wg__describe_dims};

wg_var wg_reshape(wg_var x, int rank, const int64_t *dim) {
    wg_dims to = wg__dims(rank, dim);
    return wg_apply(&wg__op_reshape, 1, &x, &to);
}

wg_var wg__reshape(wg_var x, const wg_shape *shape) {
    if (wg_var_shape(x) == shape)
        return x;
    return wg__recordable(x) && wg__of(x)->shape->count == shape->count ? wg__record_to(&wg__op_reshape, x, shape)
                                                                        : wg_reshape(x, shape->rank, shape->dim);
}

/* ---- permute ---- */

typedef struct permute_attr {
    int rank;
    int axis[WG_MAX_RANK];
} permute_attr;

static wg_status permute_shape(wg_infer *q) {
    const permute_attr *p = q->attr;
    bool seen[WG_MAX_RANK] = {0};
    char text[96];
    if (p->rank != q->in[0]->rank)
        return wg_infer_fail(q, WG_SHAPE, "%d axes given for %s", p->rank,
                             wg_shape_text(q->in[0], text, sizeof text));
    q->out.rank = p->rank;
    q->dtype = q->in_dtype[0];
    for (int k = 0; k < p->rank; k++) {
        int axis = wg__axis(p->axis[k], p->rank);
        if (axis < 0 || seen[axis])
            return wg_infer_fail(q, WG_SHAPE, "axis %d is out of range or twice", p->axis[k]);
        seen[axis] = true;
        q->out.dim[k] = q->in[0]->dim[axis];
    }
    return WG_OK;
}

static bool permute_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                         int64_t *out_stride, int64_t *offset) {
    const permute_attr *p = attr;
    (void)out;
    *offset = 0;
    for (int k = 0; k < p->rank; k++)
        out_stride[k] = in_stride[wg__axis(p->axis[k], in->rank)];
    return true;
}

static uint32_t permute_rows(const wg_infer *q) {
    const permute_attr *p = q->attr;
    return p->rank > 0 && wg__axis(p->axis[0], p->rank) == 0;
}

static void permute_vjp(const wg_rule *r, wg_var *dx) {
    const permute_attr *p = r->attr;
    int back[WG_MAX_RANK];
    for (int k = 0; k < p->rank; k++)
        back[wg__axis(p->axis[k], p->rank)] = k;
    dx[0] = wg_permute(r->g, p->rank, back);
}

static wg_var permute_example(const wg_var *in) { return wg_permute(in[0], 3, (const int[]){2, 0, -2}); }
static const wg_example permute_examples[] = {{"2,3,4", -2, 2, permute_example}, {0}};

static void permute_describe(const void *attr, char *text, size_t size) {
    const permute_attr *p = attr;
    int64_t axis[WG_MAX_RANK];
    for (int k = 0; k < p->rank; k++)
        axis[k] = p->axis[k];
    write_list("axes", p->rank, axis, text, size);
}

const wg_op wg__op_permute = {.name = "permute", .arity = 1, .kind = WG_VIEW,
    .traits = WG_IS_LINEAR | WG_TAKES_STRIDES, .attr_size = sizeof(permute_attr), .shape = permute_shape,
    .run = copy_run, .rows = permute_rows, .view = permute_view, .vjp = permute_vjp, .examples = permute_examples,
    .describe = permute_describe};

wg_var wg_permute(wg_var x, int rank, const int *axis) {
    permute_attr p = {.rank = rank};
    for (int k = 0; k < rank && k < WG_MAX_RANK; k++)
        p.axis[k] = axis[k];
    return wg_apply(&wg__op_permute, 1, &x, &p);
}

/* ---- transpose: a permutation ---- */

static wg_var transpose_example(const wg_var *in) { return wg_transpose(in[0]); }
static const wg_example transpose_examples[] = {
    {"2,3,4", -2, 2, transpose_example}, {"3,1", -2, 2, transpose_example}, {0}};

const wg_op wg__op_transpose = {.name = "transpose", .arity = 1, .kind = WG_COMPOSITE,
    .examples = transpose_examples};

wg_var wg_transpose(wg_var x) {
    REQUIRE(x, "transpose")
    int axis[WG_MAX_RANK], rank = wg_rank(x);
    if (rank < 2)
        return wg__fail(x.tape, WG_SHAPE, "transpose", "the operand has fewer than two axes");
    for (int k = 0; k < rank; k++)
        axis[k] = k;
    axis[rank - 1] = rank - 2;
    axis[rank - 2] = rank - 1;
    return wg_permute(x, rank, axis);
}

/* ---- broadcast_to ---- */

static wg_status broadcast_shape(wg_infer *q) {
    const wg_dims *to = q->attr;
    wg_shape target, both;
    char a[96], b[96];
    if (wg__shape_set(&target, to->rank, to->dim) != WG_OK)
        return wg_infer_fail(q, WG_RANGE, "a size is out of range");
    if (!wg__broadcast(q->in[0], &target, &both) || !wg__shape_same(&both, &target))
        return wg_infer_fail(q, WG_SHAPE, "%s does not broadcast to %s",
                             wg_shape_text(q->in[0], a, sizeof a), wg_shape_text(&target, b, sizeof b));
    q->out = target;
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static bool broadcast_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                           int64_t *out_stride, int64_t *offset) {
    (void)attr;
    *offset = 0;
    int added = out->rank - in->rank;
    for (int k = 0; k < out->rank; k++)
        out_stride[k] = k < added || in->dim[k - added] != out->dim[k] ? 0 : in_stride[k - added];
    return true;
}

static void broadcast_vjp(const wg_rule *r, wg_var *dx) { dx[0] = wg__sum_to(r->g, wg__of(r->in[0])->shape); }

static wg_var broadcast_example(const wg_var *in) {
    return wg_broadcast_to(in[0], 3, (const int64_t[]){2, 3, 4});
}
static const wg_example broadcast_examples[] = {{"3,1", -2, 2, broadcast_example},
                                                {"4", -2, 2, broadcast_example},
                                                {"()", -2, 2, broadcast_example},
                                                {0}};

const wg_op wg__op_broadcast_to = {.name = "broadcast_to", .arity = 1, .kind = WG_VIEW,
    .traits = WG_IS_LINEAR | WG_TAKES_STRIDES, .attr_size = sizeof(wg_dims), .shape = broadcast_shape,
    .run = copy_run, .rows = wg__rows_aligned, .view = broadcast_view, .vjp = broadcast_vjp,
    .examples = broadcast_examples, .describe = wg__describe_dims};

wg_var wg_broadcast_to(wg_var x, int rank, const int64_t *dim) {
    wg_dims to = wg__dims(rank, dim);
    return wg_apply(&wg__op_broadcast_to, 1, &x, &to);
}

wg_var wg__broadcast_to(wg_var x, const wg_shape *shape) {
    if (wg_var_shape(x) == shape)
        return x;
    return wg__recordable(x) && wg__broadcasts(wg__of(x)->shape, shape) ? wg__record_to(&wg__op_broadcast_to, x, shape)
                                                                        : wg_broadcast_to(x, shape->rank, shape->dim);
}

/* ---- slice ---- */

static wg_status slice_shape(wg_infer *q) {
    const wg_slice_attr *s = q->attr;
    int axis = wg__axis((int)s->axis, q->in[0]->rank);
    if (axis < 0)
        return wg_infer_fail(q, WG_RANGE, "%s has no axis %d", WG_SHAPE_TEXT(q->in[0]), (int)s->axis);
    if (s->from < 0 || s->count < 0 || s->from > q->in[0]->dim[axis] - s->count)
        return wg_infer_fail(q, WG_RANGE, "%lld elements from %lld on lie outside axis %d of %s", (long long)s->count,
                             (long long)s->from, axis, WG_SHAPE_TEXT(q->in[0]));
    q->out = *q->in[0];
    q->out.dim[axis] = s->count;
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static bool slice_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                       int64_t *out_stride, int64_t *offset) {
    const wg_slice_attr *s = attr;
    memcpy(out_stride, in_stride, sizeof *in_stride * (size_t)out->rank);
    *offset = s->from * in_stride[wg__axis(s->axis, in->rank)];
    return true;
}

/* A reader's part of the adjoint. */
typedef struct piece {
    int axis;
    bool placed;
    int64_t from, count;
    wg_var g;
} piece;

static int by_place(const void *a, const void *b) {
    const piece *p = a, *q = b;
    if (p->axis != q->axis)
        return p->axis < q->axis ? -1 : 1;
    if (p->from != q->from)
        return p->from < q->from ? -1 : 1;
    return p->count < q->count ? -1 : p->count > q->count;
}

/* Adds up pieces that cover the same place; returns how many are left. */
static int merge_equal(int n, piece *pieces) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept && by_place(&pieces[kept - 1], &pieces[i]) == 0)
            pieces[kept - 1].g = wg_add(pieces[kept - 1].g, pieces[i].g);
        else
            pieces[kept++] = pieces[i];
    }
    return kept;
}

/* Zeros of x's shape but n along an axis. */
static wg_var zeros_along(wg_var x, int axis, int64_t n) {
    wg_dims gap = wg__dims_of(x);
    gap.dim[axis] = n;
    return wg_full(x.tape, wg_var_dtype(x), gap.rank, gap.dim, 0);
}

static wg_var side_by_side(int n, const wg_var *parts, int axis) { return n == 1 ? parts[0] : wg_concat(n, parts, axis); }

/* The places [low, high) of an axis, which n overlapping pieces cover: layers of pieces that do not overlap, side by side
 * with zeros in the gaps, added up. parts has room for 2n+1. */
static wg_var overlapping(wg_var x, int n, piece *pieces, int64_t low, int64_t high, wg_var *parts) {
    int axis = pieces[0].axis, left = n;
    wg_var sum = {0};
    while (left) {
        int64_t at = low;
        int count = 0;
        for (int i = 0; i < n; i++) {
            if (pieces[i].placed || pieces[i].from < at)
                continue;
            if (pieces[i].from > at)
                parts[count++] = zeros_along(x, axis, pieces[i].from - at);
            parts[count++] = pieces[i].g;
            pieces[i].placed = true;
            left--;
            at = pieces[i].from + pieces[i].count;
        }
        if (high > at)
            parts[count++] = zeros_along(x, axis, high - at);
        wg_var layer = side_by_side(count, parts, axis);
        sum = sum.tape ? wg_add(sum, layer) : layer;
    }
    return sum;
}

/* The adjoint from the pieces along one axis, in order of place: stretches of overlapping pieces, and zeros between.
 * parts and scratch have room for 2n+1. */
static wg_var along_axis(wg_var x, int n, piece *pieces, wg_var *parts, wg_var *scratch) {
    int axis = pieces[0].axis, count = 0;
    int64_t at = 0, size = wg_dim(x, axis);
    for (int i = 0, next; i < n; i = next) {
        int64_t low = pieces[i].from, high = low + pieces[i].count;
        for (next = i + 1; next < n && pieces[next].from < high; next++)
            high = wg__max(high, pieces[next].from + pieces[next].count);
        if (low > at)
            parts[count++] = zeros_along(x, axis, low - at);
        parts[count++] = next == i + 1 ? pieces[i].g : overlapping(x, next - i, pieces + i, low, high, scratch);
        at = high;
    }
    if (size > at)
        parts[count++] = zeros_along(x, axis, size - at);
    return side_by_side(count, parts, axis);
}

/* The pieces in order of axis and place, those of one place added up, empty ones dropped; how many there are. */
static int pieces_of(wg_var x, int n, const wg_rule *readers, piece *pieces) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        const wg_slice_attr *s = readers[i].attr;
        if (wg_var_shape(readers[i].g)->count)
            pieces[kept++] = (piece){wg__axis(s->axis, wg_rank(x)), false, s->from, s->count, readers[i].g};
    }
    qsort(pieces, (size_t)kept, sizeof *pieces, by_place);
    return merge_equal(kept, pieces);
}

/* The adjoint of a value read in n slices, built once: cost linear in its size, not in size times n. */
static wg_var slice_collect(wg_var x, int n, const wg_rule *readers) {
    wg_memory *memory = x.tape->memory;
    piece *pieces = wg__take(memory, wg__size((size_t)n, sizeof *pieces, 0));
    wg_var *parts = wg__take(memory, wg__size((size_t)n, 4 * sizeof *parts, 2 * sizeof *parts)), sum = {0};
    if (pieces && parts) {
        int count = pieces_of(x, n, readers, pieces);
        for (int i = 0, next; i < count; i = next) {
            for (next = i + 1; next < count && pieces[next].axis == pieces[i].axis;)
                next++;
            wg_var part = along_axis(x, next - i, pieces + i, parts, parts + 2 * n + 1);
            sum = sum.tape ? wg_add(sum, part) : part;
        }
    } else {
        sum = wg__fail(x.tape, wg__refusal(memory), "slice", "no memory for its adjoint");
    }
    wg__give(memory, pieces);
    wg__give(memory, parts);
    return sum;
}

static wg_var slice_example(const wg_var *in) { return wg_slice(in[0], 1, 1, 2); }
static wg_var slice_overlap_example(const wg_var *in) {
    return wg_mul(wg_slice(in[0], -1, 0, 3), wg_slice(in[0], -1, 1, 3));
}
static const wg_example slice_examples[] = {
    {"2,4", -2, 2, slice_example}, {"2,4", -2, 2, slice_overlap_example}, {0}};

static void slice_describe(const void *attr, char *text, size_t size) {
    const wg_slice_attr *s = attr;
    snprintf(text, size, "axis=%lld from=%lld count=%lld", (long long)s->axis, (long long)s->from, (long long)s->count);
}

const wg_op wg__op_slice = {.name = "slice", .arity = 1, .kind = WG_VIEW,
    .traits = WG_IS_LINEAR | WG_TAKES_STRIDES, .attr_size = sizeof(wg_slice_attr), .shape = slice_shape,
    .run = copy_run, .rows = wg__rows_kept, .view = slice_view, .collect = slice_collect, .examples = slice_examples,
    .describe = slice_describe};

wg_var wg_slice(wg_var x, int axis, int64_t from, int64_t count) {
    wg_slice_attr s = {axis, from, count};
    return wg_apply(&wg__op_slice, 1, &x, &s);
}

/* ---- split: slices ---- */

static wg_var split_example(const wg_var *in) {
    wg_var part[3];
    wg_split(in[0], -1, 3, NULL, part);
    return wg_mul(part[0], wg_add(part[1], part[2]));
}
static wg_var split_sizes_example(const wg_var *in) {
    wg_var part[3];
    wg_split(in[0], 0, 3, (const int64_t[]){1, 2, 1}, part);
    return wg_mul(part[0], wg_mul(part[1], part[2]));
}
static const wg_example split_examples[] = {
    {"2,6", -2, 2, split_example}, {"3", -2, 2, split_example}, {"4,1", -2, 2, split_sizes_example}, {0}};

const wg_op wg__op_split = {.name = "split", .arity = 1, .kind = WG_COMPOSITE, .examples = split_examples};

wg_var wg_split(wg_var x, int axis, int n, const int64_t *size, wg_var *out) {
    wg_var none = wg__var(wg__tape_of(1, &x), 0);
    char text[96];
    for (int i = 0; i < n; i++)
        out[i] = none;
    REQUIRE(x, "split")
    int64_t whole = wg_dim(x, axis), at = 0;
    wg_shape_text(wg_var_shape(x), text, sizeof text);
    if (wg__axis(axis, wg_rank(x)) < 0)
        return wg__fail(x.tape, WG_RANGE, "split", "%s has no axis %d", text, axis);
    if (n < 1 || (!size && whole % n))
        return wg__fail(x.tape, WG_SHAPE, "split", "axis %d of %s in %d equal parts", axis, text, n);
    for (int i = 0; i < n; i++) {
        int64_t count = size ? size[i] : whole / n;
        if (count < 0 || count > whole - at)
            return wg__fail(x.tape, WG_SHAPE, "split", "part %d, of size %lld, does not fit axis %d of %s", i + 1,
                            (long long)count, axis, text);
        out[i] = wg_slice(x, axis, at, count);
        at += count;
    }
    if (at != whole)
        return wg__fail(x.tape, WG_SHAPE, "split", "the parts of axis %d of %s add up to %lld", axis, text,
                        (long long)at);
    return out[0];
}

/* ---- flip ---- */

static wg_status flip_shape(wg_infer *q) {
    char text[96];
    if (wg__axis(*(const int *)q->attr, q->in[0]->rank) < 0)
        return wg_infer_fail(q, WG_RANGE, "%s has no axis %d", wg_shape_text(q->in[0], text, sizeof text),
                             *(const int *)q->attr);
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

static bool flip_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                      int64_t *out_stride, int64_t *offset) {
    int axis = wg__axis(*(const int *)attr, in->rank);
    memcpy(out_stride, in_stride, sizeof *in_stride * (size_t)out->rank);
    *offset = in->count ? (in->dim[axis] - 1) * in_stride[axis] : 0;
    out_stride[axis] = -in_stride[axis];
    return true;
}

static uint32_t flip_rows(const wg_infer *q) { return wg__rows_beside(q, *(const int *)q->attr); }

static void flip_vjp(const wg_rule *r, wg_var *dx) { dx[0] = wg_flip(r->g, *(const int *)r->attr); }

static wg_var flip_first(const wg_var *in) { return wg_flip(in[0], 0); }
static wg_var flip_last(const wg_var *in) { return wg_flip(in[0], -1); }
static const wg_example flip_examples[] = {{"3,2", -2, 2, flip_first},
                                           {"2,3,4", -2, 2, flip_last},
                                           {"1", -2, 2, flip_last},
                                           {0}};

const wg_op wg__op_flip = {.name = "flip", .arity = 1, .kind = WG_VIEW, .traits = WG_IS_LINEAR | WG_TAKES_STRIDES,
    .attr_size = sizeof(int), .shape = flip_shape, .run = copy_run, .rows = flip_rows, .view = flip_view,
    .vjp = flip_vjp, .examples = flip_examples, .describe = wg__describe_axis};

wg_var wg_flip(wg_var x, int axis) { return wg_apply(&wg__op_flip, 1, &x, &axis); }

/* ---- copying, for an input that no strides can alias ---- */

static wg_status copy_run(wg_call *call) {
    /* Only reshape of a strided input comes here: the elements in row-major order are the result. */
    wg_array from = call->in[0], to = call->out;
    to.shape = from.shape;
    wg__copy(call->team, &from, to.data);
    return WG_OK;
}
