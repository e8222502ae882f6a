/* schedule.c: who runs what of a loop. Where every value of a loop has the same rows and none needs of another but its own (as the ops'
 * records say), the loop runs in tiles of rows, all iterations of a tile together, so that threads share it without a barrier. The tile
 * follows from the number of rows and of threads, and from what a cache holds; no bit of a result follows from the threads. What a tile
 * keeps to itself is placed in its scratch. */
#include "blocks.h"
#include "loop.h"
#include "ops.h"

#include <math.h>

extern const wg_op wg__op_concat;

enum { MOST_TILE = 32, LEAST_TILE = 4, FEW_TILES = 2, LINE = 64, MOST_PARTS = 256 };
/* Rows, and bytes of the matrices, from where an iteration is shared. */
enum { SHARED_ROWS = 16, SHARED_BYTES = 2 << 20, ONE_ROW_BYTES = 1 << 19 };
/* What a loop may have of a cache next to a thread, and the rows of a tile that it is made smaller to at most for that. */
enum { CACHE_BYTES = 3 << 19, LEAST_MOST = 8 };
/* Rows of a strip, whole groups of those that are added up; and what a tile keeps to itself from where strips gain: as much as the nearest
 * cache holds. */
enum { STRIP_ROWS = 2 * WG_FOLD_ROWS, STRIP_BYTES = 1 << 15 };

/* Whether a value lies in a buffer of its loop: it is no part of an outside array. Before layout views are thought to be views. */
static bool in_loop(const wg_program *p, uint32_t value) {
    while (!p->values && p->list[value].loop && p->list[value].op->view)
        value = p->list[value].in[0];
    return p->list[p->values ? p->values[value].base : value].loop != 0;
}

uint32_t wg__instruction_rows(const wg_program *p, const wg_instruction *i) {
    const wg_shape *few_shapes[16], **shapes = few_shapes;
    wg_dtype few_types[16], *types = few_types;
    void *many = NULL;
    if (i->n > 16) {
        many = wg__take(p->memory, wg__size(i->n, sizeof *shapes + sizeof *types, 0));
        if (!many)
            return 0;
        shapes = many;
        types = (void *)(shapes + i->n);
    }
    for (uint32_t k = 0; k < i->n; k++) {
        shapes[k] = p->list[wg__reads_const(i)[k]].shape;
        types[k] = (wg_dtype)p->list[wg__reads_const(i)[k]].dtype;
    }
    wg_infer infer = {.op = i->op, .attr = i->attr, .n = (int)i->n, .in = shapes, .in_dtype = types, .out = *i->shape,
                      .dtype = (wg_dtype)i->dtype};
    uint32_t mask = wg__rows_of(&infer);
    wg__give(p->memory, many);
    return mask;
}

bool wg__is_cut(uint32_t mask, uint32_t operand) { return mask >> (operand < 31 ? operand : 31) & 1; }

/* Whether what an instruction reads of its own loop it reads row by row. */
static bool keeps_rows(const wg_program *p, const wg_instruction *i, int64_t rows) {
    if (i->shape->rank < 1 || i->shape->dim[0] != rows)
        return false;
    uint32_t mask = wg__is_choice(i) ? UINT32_MAX : wg__instruction_rows(p, i);
    for (uint32_t k = 0; k < i->n; k++)
        if (in_loop(p, wg__reads_const(i)[k]) && !wg__is_cut(mask, k))
            return false;
    return mask || !i->n;
}

int64_t wg__rows_of_loop(const wg_program *p, const wg_loop *loop) {
    int64_t rows = 0;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        bool task = p->values && p->values[id].task;
        if (!task && !in_loop(p, id)) /* a view of something outside */
            continue;
        if (!rows && i->shape->rank > 0)
            rows = i->shape->dim[0];
        if (rows < 1 || !keeps_rows(p, i, rows))
            return 0;
    }
    return rows;
}

static int64_t part_of(int64_t n, int64_t parts) { return (n + parts - 1) / parts; }

/* Whether no bit of a row depends on how many rows a tile has: a product's kernel is chosen by its rows too, unless it is packed. */
static bool is_made_row_by_row(const wg_program *p, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (p->list[id].op->kind == WG_PRODUCT && p->list[id].op != &wg__op_packed_product)
            return false;
    return true;
}

/* Rows that common numbers of threads cut into groups; a row's bytes from which walking them one by one costs nothing. */
enum { FOLDED_ROWS = 32, FOLDED_BYTES = 512 };
_Static_assert((int)SHARED_ROWS < (int)FOLDED_ROWS, "no threads share the rows of a group");

bool wg__may_fold(const wg_instruction *i, int64_t rows) {
    return rows > 0 && rows % FOLDED_ROWS == 0 && i->shape->count / rows * (int64_t)wg_dtype_size((wg_dtype)i->dtype) >= FOLDED_BYTES;
}

bool wg__folds_rows(const wg_loop *loop, const wg_instruction *i) {
    return i->op == &wg__op_add_rows && i->region && wg__may_fold(i, loop->rows);
}

static bool folds(const wg_program *p, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (wg__folds_rows(loop, &p->list[id]))
            return true;
    return false;
}

/* As many tiles for each thread, and of a few rows at least while each has one; no more than need be for one thread, which reads every
 * matrix for each. Where bits depend on the tile, two: they must not depend on threads. most: rows of a tile. */
static int64_t tile_of(const wg_program *p, const wg_loop *loop, int64_t most) {
    int64_t rows = loop->rows, lanes = p->threads == 1 ? 1 : wg__max(FEW_TILES, wg__min(p->threads, rows / LEAST_TILE));
    if (!is_made_row_by_row(p, loop))
        lanes = FEW_TILES;
    const int64_t tile = part_of(rows, lanes * part_of(rows, lanes * most));
    return folds(p, loop) ? part_of(tile, WG_FOLD_ROWS) * WG_FOLD_ROWS : tile;
}

/* Of the matrices that an iteration multiplies by, as often as it does. */
static double matrix_bytes(const wg_program *p, const wg_loop *loop) {
    double bytes = 0;
    for (uint32_t id = loop->from; id < loop->to; id++)
        for (uint32_t k = 1; k < p->list[id].n && p->list[id].op == &wg__op_packed_product; k += 2)
            bytes += (double)wg__instruction_bytes(&p->list[wg__reads_const(&p->list[id])[k]]);
    return bytes;
}

/* Whether a loop of few rows had better be shared within each iteration: one row cannot be shared otherwise; and of matrices that no
 * cache next to a thread holds each thread reads a part then, where rows would have every thread read all. */
static bool is_shared(const wg_loop *loop, double matrices) {
    return matrices > (loop->rows == 1 ? ONE_ROW_BYTES : loop->rows <= SHARED_ROWS ? SHARED_BYTES : INFINITY);
}

size_t wg__tile_place(const wg_program *p, const wg_loop *loop, uint32_t id) {
    size_t bytes = wg__instruction_bytes(&p->list[id]);
    bytes = loop->rows ? bytes / (size_t)loop->rows * (size_t)(p->values[id].in_strip ? loop->strip : loop->tile) : bytes;
    return (bytes + LINE) / LINE * LINE;
}

/* The buffer that an instruction writes, if it is the tile's own and has no place yet; else 0. */
static uint32_t private_buffer(const wg_program *p, uint32_t id) {
    uint32_t base = p->values[id].base;
    return p->values[id].task && !p->values[id].local && p->values[base].space == WG_NOWHERE ? base : 0;
}

static bool take_place(wg_program *p, const wg_loop *loop, wg_blocks *free, uint32_t id) {
    p->values[id].space = WG_IN_TILE;
    return wg__blocks_take(free, wg__tile_place(p, loop, id) << p->values[id].twice, &p->values[id].offset);
}

uint32_t wg__together(const wg_program *p, const wg_loop *loop, uint32_t from) {
    uint32_t to = from + 1;
    if (loop->strip && p->list[from].op->kind != WG_PRODUCT)
        while (to < loop->to && p->list[to].op->kind != WG_PRODUCT)
            to++;
    else
        while (p->list[from].region && to < loop->to && p->list[to].region == p->list[from].region)
            to++;
    return to;
}

/* Places what a tile keeps to itself. What the next iteration reads stays all along; the rest in the order of one iteration, where what
 * runs together is one step: its blocks, or strips, read and write everything in turn. */
static bool place_tile(wg_program *p, wg_loop *loop) {
    size_t n = loop->to - loop->from;
    uint32_t *dies = wg__take0(p->memory, wg__size(n, 2 * sizeof *dies, 1)), *next = dies + n;
    wg_blocks free = {.by_place.memory = p->memory, .by_size.memory = p->memory};
    bool good = dies;
    for (uint32_t id = loop->from; good && id < loop->to; id++)
        if (private_buffer(p, id) && p->values[id].carried)
            good = take_place(p, loop, &free, id);
    for (uint32_t from = loop->from, to; good && from < loop->to; from = to) {
        to = wg__together(p, loop, from);
        for (uint32_t id = from; good && id < to; id++) {
            uint32_t made = private_buffer(p, id);
            if (!made)
                continue;
            uint32_t last = p->values[made].last - loop->from;
            good = take_place(p, loop, &free, made);
            next[made - loop->from] = dies[last];
            dies[last] = made;
        }
        for (uint32_t id = from; good && id < to; id++)
            for (uint32_t dead = dies[id - loop->from]; good && dead; dead = next[dead - loop->from])
                good = wg__blocks_give(&free, p->values[dead].offset, wg__tile_place(p, loop, dead));
    }
    loop->scratch = free.most;
    wg__blocks_free(&free);
    wg__give(p->memory, dies);
    return good;
}

/* ---- regions ---- */

int wg__column_stride(const wg_program *p, uint32_t id) {
    const wg_shape *shape = p->list[id].shape;
    const int64_t *stride = p->values[id].stride;
    int64_t size = 1;
    bool dense = true, same = true;
    for (int k = shape->rank - 1; k > 0 && stride; k--) {
        dense = dense && (shape->dim[k] == 1 || stride[k] == size);
        same = same && (shape->dim[k] == 1 || stride[k] == 0);
        size *= shape->dim[k];
    }
    return dense ? 1 : same ? 0 : -1;
}

/* A region with an operand whose columns lie in no order is no region. */
static void drop_irregular(wg_program *p, const wg_loop *loop) {
    for (uint32_t from = loop->from, to; from < loop->to; from = to) {
        uint32_t region = p->list[from].region;
        bool regular = loop->rows;
        for (to = from; to < loop->to && p->list[to].region == region; to++)
            for (uint32_t k = 0; region && k < p->list[to].n; k++)
                regular = regular && wg__column_stride(p, wg__reads_const(&p->list[to])[k]) >= 0;
        for (uint32_t id = from; id < to && !regular; id++)
            p->list[id].region = 0;
    }
}

/* How often a loop's values are read, by id less the loop's first. */
typedef struct loop_reads {
    uint32_t *all; /* of the buffer */
    uint32_t *own; /* as they are, by their own region */
    uint32_t *put; /* as they are, to be put side by side with others, which reads strides */
} loop_reads;

static void count_loop_reads(const wg_program *p, const wg_loop *loop, loop_reads *reads) {
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        for (uint32_t k = 0; k < i->n; k++) {
            uint32_t in = wg__reads_const(i)[k], base = p->values[in].base;
            if (base < loop->from || base >= loop->to)
                continue;
            reads->all[base - loop->from]++;
            reads->own[base - loop->from] += base == in && i->region && i->region == p->list[base].region;
            reads->put[base - loop->from] += base == in && i->op == &wg__op_concat;
        }
    }
    for (uint32_t id = loop->edges; id; id = p->values[id].edge)
        reads->all[p->values[p->list[id].in[0]].base - loop->from]++;
}

/* Whether a part of a concat is there already: columns of the array that its stack takes over (wg__stacks_over). */
static bool lies_there(const wg_program *p, uint32_t concat, uint32_t part) {
    const wg_value *c = &p->values[concat];
    return c->space == WG_IN_STACK && p->values[c->index].over && p->values[c->index].over == p->values[part].base;
}

/* Whether all other parts of a concat can be made in their places in it. */
static bool parts_fit(const wg_program *p, const wg_loop *loop, uint32_t id, const loop_reads *reads) {
    const wg_instruction *c = &p->list[id];
    bool flat = c->shape->rank >= 2 && c->shape->count == c->shape->dim[0] * c->shape->dim[c->shape->rank - 1];
    if (c->op != &wg__op_concat || !p->values[id].task || !flat || wg__axis(*(const int *)c->attr, c->shape->rank) != c->shape->rank - 1 ||
        p->values[id].carried || c->n > MOST_PARTS)
        return false;
    for (uint32_t k = 0; k < c->n; k++) {
        uint32_t part = wg__reads_const(c)[k], at = part - loop->from;
        const wg_value *v = &p->values[part];
        if (lies_there(p, id, part))
            continue;
        if (part < loop->from || part >= loop->to || !v->task || v->base != part || !p->list[part].region || v->space != WG_NOWHERE ||
            v->carried || reads->all[at] != reads->own[at] + reads->put[at])
            return false;
        for (uint32_t j = 0; j < k; j++)
            if (wg__reads_const(c)[j] == part)
                return false;
    }
    return true;
}

/* What a region makes to be put side by side is made there: its parts are views of the concat, which then has nothing to do. Of
 * several that want a part, one that is stacked has it. */
static bool join_parts(wg_program *p, const wg_loop *loop, const loop_reads *reads) {
    for (int kept = 1; kept >= 0; kept--)
        for (uint32_t id = loop->from; id < loop->to; id++) {
            const wg_instruction *c = &p->list[id];
            if ((p->values[id].space == WG_IN_STACK) != kept || !parts_fit(p, loop, id, reads))
                continue;
            int64_t *stride = wg__arena_take(&p->arena, WG_MAX_RANK * sizeof *stride), at = 0;
            if (!stride)
                return false;
            wg__dense_strides(c->shape, stride);
            for (uint32_t k = 0; k < c->n; k++) {
                const uint32_t part = wg__reads_const(c)[k];
                wg_value *v = &p->values[part];
                if (!lies_there(p, id, part)) {
                    v->base = id;
                    v->shift = at;
                    v->stride = stride;
                    p->values[id].last = v->last > p->values[id].last ? v->last : p->values[id].last;
                }
                at += p->list[part].shape->dim[c->shape->rank - 1];
            }
            p->values[id].task = false;
        }
    return true;
}

static void find_locals(wg_program *p, const wg_loop *loop, const loop_reads *reads) {
    for (uint32_t id = loop->from; id < loop->to; id++) {
        wg_value *v = &p->values[id];
        v->local = v->task && v->base == id && v->space == WG_NOWHERE && p->list[id].region && !v->carried &&
                   reads->all[id - loop->from] == reads->own[id - loop->from];
    }
}

/* Whether instruction id, which reads a carry as operand `in`, has read every place of it before `next`, which is carried to it, is made
 * there: its kernel has ended; or it is of the same region, or the kernel itself, and reads the element that is written next. */
static bool reads_in_time(const wg_program *p, uint32_t id, uint32_t in, uint32_t next) {
    const wg_instruction *i = &p->list[id], *n = &p->list[next];
    bool together = id == next || (i->region && i->region == n->region);
    if (!together)
        return id < next;
    return id <= next && i->op->kind == WG_POINTWISE && wg__is_carry(&p->list[in]);
}

/* What the next iteration reads has two places, unless one will do. */
static void choose_places(wg_program *p, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        p->values[id].twice = p->values[id].carried && p->list[id].op->kind != WG_POINTWISE;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        for (uint32_t k = 0; k < i->n && (p->values[id].task || wg__is_choice(i)); k++) {
            uint32_t in = wg__reads_const(i)[k], carry = p->values[in].base;
            if (carry < loop->from || carry >= loop->to || !wg__is_carry(&p->list[carry]))
                continue;
            uint32_t next = p->list[carry].in[1], base = p->values[next].base;
            if (next != base || wg__is_choice(i) || !reads_in_time(p, id, in, next))
                p->values[base].twice = true;
        }
    }
}

static bool settle_regions(wg_program *p, const wg_loop *loop) {
    size_t n = loop->to - loop->from;
    loop_reads reads = {.all = wg__take0(p->memory, wg__size(n, 3 * sizeof *reads.all, 1))};
    if (!reads.all)
        return false;
    reads.own = reads.all + n, reads.put = reads.own + n;
    drop_irregular(p, loop);
    choose_places(p, loop);
    count_loop_reads(p, loop, &reads);
    bool good = join_parts(p, loop, &reads);
    find_locals(p, loop, &reads);
    wg__give(p->memory, reads.all);
    return good;
}

/* ---- strips ---- */

/* Whether a kernel other than products is called on rows. */
static bool has_calls(const wg_program *p, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (p->values[id].task && !p->list[id].region && p->list[id].op->kind != WG_PRODUCT)
            return true;
    return false;
}

/* Decides on strips, and what needs a place for one alone: what is written and read between the same two products. False when out of
 * memory. */
static bool cut_strips(wg_program *p, wg_loop *loop) {
    uint32_t *group = wg__take0(p->memory, wg__size(loop->to - loop->from, sizeof *group, 1)), now = 1;
    loop->strip = STRIP_ROWS;
    for (uint32_t id = loop->from; id < loop->to; id++)
        p->values[id].in_strip = private_buffer(p, id) == id && !p->values[id].carried && p->list[id].op->kind != WG_PRODUCT;
    for (uint32_t from = loop->from, to; from < loop->to && group; from = to, now++) {
        to = wg__together(p, loop, from);
        for (uint32_t id = from; id < to; id++)
            for (uint32_t k = 0; k <= p->list[id].n && p->values[id].task; k++) {
                uint32_t base = p->values[k == p->list[id].n ? id : wg__reads_const(&p->list[id])[k]].base;
                if (base < loop->from || base >= loop->to)
                    continue;
                uint32_t *of = &group[base - loop->from];
                *of = *of ? *of : now;
                p->values[base].in_strip = p->values[base].in_strip && *of == now;
            }
    }
    for (uint32_t id = loop->edges; id; id = p->values[id].edge)
        p->values[p->values[p->list[id].in[0]].base].in_strip = false;
    wg__give(p->memory, group);
    return group;
}

static void take_places_back(wg_program *p, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (p->values[id].space == WG_IN_TILE)
            p->values[id].space = WG_NOWHERE;
}

/* A tile that with the matrices fits into a cache next to a thread, if a smaller one does. */
static bool choose_tile(wg_program *p, wg_loop *loop) {
    const double matrices = matrix_bytes(p, loop);
    loop->shared = loop->rows && is_shared(loop, matrices);
    loop->tile = loop->shared ? loop->rows : loop->rows ? tile_of(p, loop, MOST_TILE) : 0;
    if (!place_tile(p, loop))
        return false;
    if (!loop->rows || loop->shared)
        return true;
    const double row = (double)loop->scratch / (double)loop->tile, room = CACHE_BYTES - matrices;
    for (int64_t most = MOST_TILE / 2; most >= LEAST_MOST && (double)loop->tile * row > room; most /= 2)
        if ((double)tile_of(p, loop, LEAST_MOST) * row <= room)
            loop->tile = tile_of(p, loop, most);
    take_places_back(p, loop);
    if (loop->tile > STRIP_ROWS && (double)loop->tile * row > STRIP_BYTES && has_calls(p, loop) && !cut_strips(p, loop))
        return false;
    return place_tile(p, loop);
}

wg_status wg__pass_schedule(wg_program *p, wg_error *error) {
    bool good = true;
    for (int64_t k = 0; good && k < p->loop_count; k++) {
        wg_loop *loop = &p->loops[k];
        if (!loop->to)
            continue;
        loop->rows = wg__rows_of_loop(p, loop);
        good = settle_regions(p, loop) && choose_tile(p, loop);
    }
    return good ? WG_OK : wg__program_no_memory(p, error);
}
