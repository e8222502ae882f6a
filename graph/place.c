/* place.c: lifetimes to offsets in one arena. Buffers are placed in the order of time, each into the free block that fits
 * best, once forward and once backward; the tighter of the two is kept. O(n log n). */
#include "blocks.h"

#include <stdlib.h>

enum { LARGE = 64 }; /* a line */

/* A buffer: a base and all that take it over in turn. */
typedef struct buffer {
    uint32_t from, to; /* written first, read last */
    size_t bytes;      /* 0: nothing to place here */
    size_t offset;
} buffer;

typedef struct placing {
    wg_program *program;
    buffer *buffers;        /* by root */
    uint32_t *root;         /* by base: the first of those that take over one buffer */
    uint32_t *begin, *end;  /* by time: the first buffer written or read last there, then through the next ones */
    uint32_t *begin_next, *end_next;
    size_t *trial; /* offsets tried */
} placing;

/* Buffers are placed in regions by size, so that all in one are aligned alike: single f32, less than a line, lines. */
static const size_t units[] = {4, 8, LARGE};

static int class_of(size_t bytes) { return bytes <= 4 ? 0 : bytes < LARGE ? 1 : 2; }

static size_t rounded(size_t bytes) {
    size_t unit = units[class_of(bytes)];
    return (bytes + unit - 1) / unit * unit;
}

/* Places the buffers of a class in one direction of time into q->trial; the region's size, or SIZE_MAX when out of
 * memory. */
static size_t try_direction(placing *q, int class, bool backward) {
    wg_program *p = q->program;
    wg_blocks b = {.by_place.memory = p->memory, .by_size.memory = p->memory};
    const uint32_t *starts = backward ? q->end : q->begin, *start_next = backward ? q->end_next : q->begin_next;
    const uint32_t *stops = backward ? q->begin : q->end, *stop_next = backward ? q->begin_next : q->end_next;
    bool good = true;
    for (int64_t k = 1; good && k < p->count; k++) {
        int64_t now = backward ? p->count - k : k;
        for (uint32_t id = starts[now]; good && id; id = start_next[id])
            if (class_of(q->buffers[id].bytes) == class)
                good = wg__blocks_take(&b, rounded(q->buffers[id].bytes), &q->trial[id]);
        for (uint32_t id = stops[now]; good && id; id = stop_next[id])
            if (class_of(q->buffers[id].bytes) == class)
                good = wg__blocks_give(&b, q->trial[id], rounded(q->buffers[id].bytes));
    }
    wg__blocks_free(&b);
    return good ? b.most : SIZE_MAX;
}

/* The better of the two directions, behind what is placed already. */
static bool place_region(placing *q, int class) {
    wg_program *p = q->program;
    size_t best = SIZE_MAX, at = (p->arena_bytes + LARGE - 1) / LARGE * LARGE;
    for (int backward = 0; backward < 2; backward++) {
        size_t bytes = try_direction(q, class, backward);
        if (bytes == SIZE_MAX)
            return false;
        for (uint32_t id = 1; bytes < best && id < p->count; id++)
            if (q->buffers[id].bytes && class_of(q->buffers[id].bytes) == class)
                q->buffers[id].offset = at + q->trial[id];
        best = bytes < best ? bytes : best;
    }
    p->arena_bytes = at + best;
    return true;
}

/* ---- what there is to place ---- */

/* Outputs that are a whole computed buffer are computed straight into their tensors. */
static void place_outputs(placing *q) {
    wg_program *p = q->program;
    for (int i = 0; i < p->output_count; i++) {
        uint32_t id = p->outputs[i];
        const wg_value *v = &p->values[id];
        wg_value *base = &p->values[v->base];
        if (wg__buffered(p, v->base) && !v->stride && !v->shift && base->space == WG_NOWHERE &&
            wg__instruction_bytes(&p->list[id]) == wg__instruction_bytes(&p->list[v->base])) {
            base->space = WG_IN_OUTPUT;
            base->index = (uint32_t)i;
        }
    }
}

/* An output that lies in a buffer: where it begins, in elements; -1: it is strided there. */
typedef struct piece {
    uint32_t base;
    int64_t from, count;
} piece;

static int by_place(const void *one, const void *other) {
    const piece *a = one, *b = other;
    if (a->base != b->base)
        return a->base < b->base ? -1 : 1;
    return a->from != b->from ? (a->from < b->from ? -1 : 1) : a->count < b->count ? -1 : a->count > b->count;
}

/* Whether these are all of a buffer, side by side, and each begins on a line. */
static bool make_whole(const wg_program *p, const piece *from, const piece *to) {
    const size_t size = wg_dtype_size((wg_dtype)p->list[from->base].dtype);
    int64_t filled = 0;
    for (const piece *o = from; o < to; o++) {
        if (o->from != filled || (size_t)filled * size % LARGE)
            return false;
        filled += o->count;
    }
    return filled == p->list[from->base].shape->count;
}

/* A buffer that is made of outputs, the gradients of several matrices that one product makes, say, is computed where they lie: in one tensor,
 * a bundle, of which theirs are parts. False when out of memory. */
static bool join_outputs(placing *q) {
    wg_program *p = q->program;
    piece *pieces = wg__take(p->memory, wg__size((size_t)p->output_count, sizeof *pieces, 0));
    int count = 0;
    wg__give(p->memory, p->bundles);
    p->bundle_count = 0;
    p->bundles = wg__take(p->memory, wg__size((size_t)p->output_count, sizeof *p->bundles, 0));
    for (int i = 0; pieces && i < p->output_count; i++) {
        const wg_value *v = &p->values[p->outputs[i]];
        if (wg__buffered(p, v->base) && p->values[v->base].space == WG_NOWHERE)
            pieces[count++] = (piece){v->base, v->stride ? -1 : v->shift, p->list[p->outputs[i]].shape->count};
    }
    if (pieces)
        qsort(pieces, (size_t)count, sizeof *pieces, by_place);
    for (int k = 0, end; p->bundles && k < count; k = end) {
        for (end = k + 1; end < count && pieces[end].base == pieces[k].base;)
            end++;
        if (!make_whole(p, pieces + k, pieces + end))
            continue;
        wg_value *base = &p->values[pieces[k].base];
        base->space = WG_IN_OUTPUT;
        base->index = (uint32_t)(p->output_count + p->bundle_count);
        p->bundles[p->bundle_count++] = pieces[k].base;
    }
    wg__give(p->memory, pieces);
    return pieces && p->bundles;
}

/* Joins what takes over one buffer; a buffer is an output's if its last base is. */
static void find_buffers(placing *q) {
    wg_program *p = q->program;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_value *v = &p->values[id];
        if (!wg__buffered(p, id))
            continue;
        uint32_t root = q->root[id] = v->over ? q->root[v->over] : id;
        buffer *f = &q->buffers[root];
        if (root == id)
            *f = (buffer){.from = wg__written_from(p, id), .bytes = wg__instruction_bytes(&p->list[id])};
        f->to = v->last == WG_AT_END ? (uint32_t)p->count - 1 : v->last;
    }
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_value *v = &p->values[id];
        if (wg__buffered(p, id) && v->space == WG_IN_OUTPUT)
            q->buffers[q->root[id]].bytes = 0;
        if (wg__buffered(p, id) && v->space == WG_IN_OUTPUT)
            p->values[q->root[id]].space = WG_IN_OUTPUT, p->values[q->root[id]].index = v->index;
    }
}

static void list_times(placing *q) {
    wg_program *p = q->program;
    for (uint32_t id = (uint32_t)p->count - 1; id > 0; id--) {
        const buffer *f = &q->buffers[id];
        if (!f->bytes)
            continue;
        q->begin_next[id] = q->begin[f->from], q->begin[f->from] = id;
        q->end_next[id] = q->end[f->to], q->end[f->to] = id;
    }
    size_t live = 0;
    for (uint32_t now = 1; now < p->count; now++) {
        for (uint32_t id = q->begin[now]; id; id = q->begin_next[id])
            live += q->buffers[id].bytes;
        p->live_bytes = live > p->live_bytes ? live : p->live_bytes;
        for (uint32_t id = q->end[now]; id; id = q->end_next[id])
            live -= q->buffers[id].bytes;
    }
}

static bool place_scratch(wg_program *p) {
    size_t most = 0;
    for (int64_t id = 1; id < p->count; id++) {
        size_t bytes = p->values[id].task ? wg__program_scratch(p, &p->list[id]) : 0;
        most = bytes > most ? bytes : most;
    }
    p->scratch_at = (p->arena_bytes + LARGE - 1) / LARGE * LARGE;
    if (most > SIZE_MAX / 2 - p->scratch_at)
        return false;
    p->arena_bytes = most ? p->scratch_at + most : p->arena_bytes;
    return true;
}

static void write_places(placing *q) {
    wg_program *p = q->program;
    for (int64_t id = 1; id < p->count; id++) {
        wg_value *v = &p->values[id];
        if (v->base != id || v->space == WG_IN_TENSOR || p->list[id].loop)
            continue;
        if (v->space == WG_IN_CONSTANTS) {
            v->offset = p->constant_bytes;
            p->constant_bytes += 8;
            continue;
        }
        const wg_value *root = &p->values[q->root[id]];
        v->space = root->space == WG_IN_OUTPUT ? WG_IN_OUTPUT : WG_IN_ARENA;
        v->index = root->index;
        v->offset = q->buffers[q->root[id]].offset;
    }
}

wg_status wg__pass_place(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    placing q = {.program = p};
    q.buffers = wg__take0(p->memory, wg__size(n, sizeof *q.buffers, 0));
    q.trial = wg__take0(p->memory, wg__size(n, sizeof *q.trial, 0));
    q.root = wg__take0(p->memory, wg__size(n, 5 * sizeof *q.root, 0));
    bool good = q.buffers && q.trial && q.root;
    if (good) {
        q.begin = q.root + n, q.end = q.begin + n, q.begin_next = q.end + n, q.end_next = q.begin_next + n;
        p->arena_bytes = p->live_bytes = p->constant_bytes = 0;
        place_outputs(&q);
        good = join_outputs(&q);
    }
    if (good) {
        find_buffers(&q);
        list_times(&q);
        good = place_region(&q, 0) && place_region(&q, 1) && place_region(&q, 2) && place_scratch(p);
    }
    if (good)
        write_places(&q);
    p->placed = good;
    wg__give(p->memory, q.buffers);
    wg__give(p->memory, q.trial);
    wg__give(p->memory, q.root);
    return good ? WG_OK : wg__program_no_memory(p, error);
}
