/* fold.c: reducing dense arrays over any axes: the axes merged to a few groups, the work cut into blocks that follow
 * from the shapes alone, the parts of one sum joined pairwise. Knows no op. */
#include "fold.h"

#include <string.h>

enum {
    CHUNK = 512,         /* neighbouring results at a time */
    BLOCK = 32 * 1024,   /* elements folded one after another into one part */
    GRAIN = 32 * 1024    /* elements worth a thread's while */
};

typedef struct group {
    int64_t size, stride;
    bool goes;
} group;

/* The array as [outer groups…, run, width]: `run` is the innermost axis that goes, `width` what stays after it. */
typedef struct plan {
    const wg_folder *folder;
    int type; /* 0: f32, 1: f64 */
    const char *in;
    char *out;
    double *parts; /* [items][blocks][width] */
    int outer;
    group group[WG_MAX_RANK];
    int64_t width, run;
    int64_t items, repeats;   /* outer results, and runs that each is the sum of */
    int64_t block, blocks, chunks;
} plan;

/* Axes of size 1 dropped, neighbours of one kind merged; the last group is first. */
static int merged(const wg_shape *in, const wg_shape *out, group *groups) {
    int n = 0;
    int64_t stride = 1;
    for (int k = in->rank - 1; k >= 0; k--) {
        int j = k - (in->rank - out->rank);
        bool goes = j < 0 || out->dim[j] != in->dim[k];
        if (in->dim[k] == 1)
            continue;
        if (n && groups[n - 1].goes == goes)
            groups[n - 1].size *= in->dim[k];
        else
            groups[n++] = (group){in->dim[k], stride, goes};
        stride *= in->dim[k];
    }
    return n;
}

/* Fills what follows from the shapes; of the groups only those that there are, as small folds are many. */
static void lay_out(plan *p, const wg_shape *in, const wg_shape *out) {
    group groups[WG_MAX_RANK];
    int n = merged(in, out, groups), at = 0;
    p->width = at < n && !groups[at].goes ? groups[at++].size : 1;
    p->run = at < n ? groups[at++].size : 1;
    p->items = p->repeats = 1;
    p->outer = 0;
    for (; at < n; at++) {
        p->group[p->outer++] = groups[at];
        if (groups[at].goes)
            p->repeats *= groups[at].size;
        else
            p->items *= groups[at].size;
    }
    p->block = wg__max(1, BLOCK / wg__max(1, wg__min(p->width, CHUNK)));
    p->blocks = wg__max(1, (p->run * p->repeats + p->block - 1) / p->block);
    p->chunks = (p->width + CHUNK - 1) / CHUNK;
}

static void emit(const plan *p, int64_t at, int64_t n, const double *a) {
    double (*finish)(double) = p->folder->finish;
    for (int64_t i = 0; i < n; i++) {
        double value = finish ? finish(a[i]) : a[i];
        if (p->type == 0)
            ((float *)p->out)[at + i] = (float)value;
        else
            ((double *)p->out)[at + i] = value;
    }
}

/* Where the run begins that is number `repeat` of those that add up to `item`. */
static int64_t offset_of(const plan *p, int64_t item, int64_t repeat) {
    int64_t offset = 0;
    for (int k = 0; k < p->outer; k++) {
        const group *g = &p->group[k];
        int64_t *rest = g->goes ? &repeat : &item;
        if (k == p->outer - 1) /* the usual case, short rows: no division */
            return offset + *rest * g->stride;
        offset += *rest % g->size * g->stride;
        *rest /= g->size;
    }
    return offset;
}

/* Rows [from, to) of an item, n columns from c on, into a. */
static void fold_rows(const plan *p, int64_t item, int64_t from, int64_t to, int64_t c, int64_t n, double *a) {
    const wg_folder *f = p->folder;
    size_t size = p->type == 0 ? sizeof(float) : sizeof(double);
    for (int64_t i = 0; i < n; i++)
        a[i] = f->start;
    while (from < to) {
        int64_t repeat = p->repeats == 1 ? 0 : from / p->run;
        int64_t inner = from - repeat * p->run, rows = wg__min(p->run - inner, to - from);
        const char *x = p->in + (size_t)(offset_of(p, item, repeat) + inner * p->width + c) * size;
        if (p->width == 1)
            a[0] = f->run[p->type](rows, x, a[0]);
        else
            f->rows[p->type](rows, p->width, n, x, a);
        from += rows;
    }
}

static void fold_tasks(void *user, int64_t from, int64_t to) {
    const plan *p = user;
    double local[CHUNK];
    for (int64_t task = from; task < to; task++) {
        int64_t c = 0, block = 0, item = task;
        if (p->chunks * p->blocks > 1) {
            c = task % p->chunks * CHUNK;
            block = task / p->chunks % p->blocks;
            item = task / p->chunks / p->blocks;
        }
        int64_t n = wg__min(CHUNK, p->width - c);
        double *a = p->blocks == 1 ? local : p->parts + (item * p->blocks + block) * p->width + c;
        int64_t first = block * p->block;
        fold_rows(p, item, first, wg__min(first + p->block, p->run * p->repeats), c, n, a);
        if (p->blocks == 1)
            emit(p, item * p->width + c, n, a);
    }
}

/* The parts of an item's columns, pairwise. */
static void join_tasks(void *user, int64_t from, int64_t to) {
    const plan *p = user;
    for (int64_t task = from; task < to; task++) {
        int64_t c = task % p->chunks * CHUNK, n = wg__min(CHUNK, p->width - c), item = task / p->chunks;
        double *parts = p->parts + item * p->blocks * p->width + c;
        for (int64_t step = 1; step < p->blocks; step *= 2)
            for (int64_t k = 0; k + step < p->blocks; k += 2 * step)
                p->folder->join(n, parts + (k + step) * p->width, parts + k * p->width);
        emit(p, item * p->width + c, n, parts);
    }
}

size_t wg__fold_scratch(const wg_shape *in, const wg_shape *out) {
    plan p;
    lay_out(&p, in, out);
    return p.blocks == 1 ? 0 : wg__size((size_t)(p.items * p.blocks), (size_t)p.width * sizeof(double), 0);
}

void wg__fold(const wg_folder *folder, const wg_team *team, const wg_array *in, const wg_array *out, void *scratch) {
    if (out->shape->count == 0)
        return;
    plan p;
    lay_out(&p, in->shape, out->shape);
    p.folder = folder;
    p.type = in->dtype == WG_F32 ? 0 : 1;
    p.in = in->data, p.out = out->data, p.parts = scratch;
    int64_t task = wg__max(1, wg__min(p.block, p.run * p.repeats) * wg__min(p.width, CHUNK));
    wg__rows(team, p.items * p.blocks * p.chunks, wg__max(1, GRAIN / task), fold_tasks, &p);
    if (p.blocks > 1)
        wg__rows(team, p.items * p.chunks, wg__max(1, GRAIN / (p.blocks * wg__min(p.width, CHUNK))), join_tasks, &p);
}

/* ---- shapes and axes ---- */

wg_status wg__takes_floats(wg_infer *q) {
    return q->in_dtype[0] == WG_I32 ? wg_infer_fail(q, WG_DTYPE, "takes floats, not i32") : WG_OK;
}

wg_status wg__fold_shape(wg_infer *q) {
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
    return wg__takes_floats(q);
}

bool wg__axes(wg_var x, const char *name, int n, const int *axes, wg_axes *out) {
    if (!wg__operand(x, name))
        return false;
    int rank = wg_rank(x);
    *out = (wg_axes){.kept = wg__dims_of(x)};
    for (int i = 0; i < n; i++) {
        int axis = wg__axis(axes[i], rank);
        if (axis < 0 || out->gone[axis]) {
            wg__fail(x.tape, axis < 0 ? WG_RANGE : WG_ARGUMENT, name,
                     axis < 0 ? "%s has no axis %d" : "axes of %s: %d is given twice",
                     WG_SHAPE_TEXT(wg_var_shape(x)), axes[i]);
            return false;
        }
        out->gone[axis] = true;
    }
    for (int k = 0; k < rank; k++) {
        out->gone[k] = out->gone[k] || n <= 0;
        if (out->gone[k])
            out->kept.dim[k] = 1;
        else
            out->left.dim[out->left.rank++] = out->kept.dim[k];
    }
    return true;
}

wg_var wg__axis_to_end(wg_var x, int axis) {
    int order[WG_MAX_RANK], rank = wg_rank(x), n = 0;
    if (axis == rank - 1)
        return x;
    for (int k = 0; k < rank; k++)
        if (k != axis)
            order[n++] = k;
    order[n] = axis;
    return wg_permute(x, rank, order);
}

wg_var wg__axis_from_end(wg_var x, int axis) {
    int order[WG_MAX_RANK], rank = wg_rank(x);
    if (axis == rank - 1)
        return x;
    for (int k = 0; k < rank; k++)
        order[k] = k < axis ? k : k == axis ? rank - 1 : k - 1;
    return wg_permute(x, rank, order);
}
