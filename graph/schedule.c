/* schedule.c: who runs what of a loop. Where every value of a loop has the same rows and none needs of another but its own
 * (as the ops' records say), the loop runs in tiles of rows, all iterations of a tile together, so that threads share it
 * without a barrier. The tile follows from the number of rows alone. What a tile keeps to itself is placed in its
 * scratch. */
#include "blocks.h"
#include "loop.h"

enum { MOST_TILE = 16, FEW_TILES = 2, LINE = 64 };

static bool in_loop(const wg_program *p, uint32_t value) { return p->list[p->values[value].base].loop != 0; }

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
    uint32_t mask = wg__is_carry(i) ? UINT32_MAX : wg__instruction_rows(p, i);
    for (uint32_t k = 0; k < i->n; k++)
        if (in_loop(p, wg__reads_const(i)[k]) && !wg__is_cut(mask, k))
            return false;
    return mask || !i->n;
}

/* The rows on which a loop can run in tiles; 0: it cannot. */
static int64_t rows_of_loop(const wg_program *p, const wg_loop *loop) {
    int64_t rows = 0;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        bool outside = !p->values[id].task && !in_loop(p, id); /* a view of something outside */
        if (outside)
            continue;
        if (!rows && i->shape->rank > 0)
            rows = i->shape->dim[0];
        if (rows < 1 || !keeps_rows(p, i, rows))
            return 0;
    }
    return rows;
}

static int64_t tile_of(int64_t rows) {
    int64_t tile = (rows + FEW_TILES - 1) / FEW_TILES;
    return wg__min(tile, MOST_TILE);
}

/* Bytes of a value in one tile (or, where an iteration runs whole, all of it). */
static size_t tile_bytes(const wg_program *p, const wg_loop *loop, uint32_t id) {
    size_t bytes = wg__instruction_bytes(&p->list[id]);
    return loop->rows ? bytes / (size_t)loop->rows * (size_t)loop->tile : bytes;
}

static size_t lines(size_t bytes) { return (bytes + LINE) / LINE * LINE; }

static bool is_private(const wg_program *p, uint32_t id) { return p->values[id].task && p->values[id].space == WG_NOWHERE; }

static bool take_place(wg_program *p, const wg_loop *loop, wg_blocks *free, uint32_t id) {
    p->values[id].space = WG_IN_TILE;
    return wg__blocks_take(free, lines(tile_bytes(p, loop, id)) << p->values[id].twice, &p->values[id].offset);
}

/* Places what a tile keeps to itself. What the next iteration reads stays all along; the rest in the order of one iteration. */
static bool place_tile(wg_program *p, wg_loop *loop) {
    size_t n = loop->to - loop->from;
    uint32_t *dies = wg__take0(p->memory, wg__size(n, 2 * sizeof *dies, 1)), *next = dies + n;
    wg_blocks free = {.by_place.memory = p->memory, .by_size.memory = p->memory};
    bool good = dies;
    for (uint32_t id = loop->from; good && id < loop->to; id++)
        if (is_private(p, id) && p->values[id].twice)
            good = take_place(p, loop, &free, id);
    for (uint32_t id = loop->from; good && id < loop->to; id++) {
        if (is_private(p, id)) {
            uint32_t last = p->values[id].last - loop->from;
            good = take_place(p, loop, &free, id);
            next[id - loop->from] = dies[last];
            dies[last] = id;
        }
        for (uint32_t dead = dies[id - loop->from]; good && dead; dead = next[dead - loop->from])
            good = wg__blocks_give(&free, p->values[dead].offset, lines(tile_bytes(p, loop, dead)));
    }
    loop->scratch = free.most;
    wg__blocks_free(&free);
    wg__give(p->memory, dies);
    return good;
}

wg_status wg__pass_schedule(wg_program *p, wg_error *error) {
    bool good = true;
    for (int64_t k = 0; good && k < p->loop_count; k++) {
        wg_loop *loop = &p->loops[k];
        loop->rows = loop->to ? rows_of_loop(p, loop) : 0;
        loop->tile = loop->rows ? tile_of(loop->rows) : 0;
        good = place_tile(p, loop);
    }
    return good ? WG_OK : wg__program_no_memory(p, error);
}
