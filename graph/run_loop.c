/* run_loop.c: runs the loops of a plan. Every value that a loop's kernels read or write is a slot, whose address is kept for
 * the current iteration and moved on after each; kernels are called on the rows of one tile. */
#include "run_loop.h"

#include "gemm.h"
#include "loop.h"
#include "pointwise.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Where a value is found in an iteration. */
typedef enum slot_kind {
    SLOT_OUTSIDE, /* in a buffer of the workspace, a tensor or a constant, `step` bytes further in each iteration */
    SLOT_TILE,    /* in the lane's scratch */
    SLOT_CARRIED, /* where slot `first` is before the first iteration; then where slot `next` was in the one before */
    SLOT_ENDING   /* where slot `next` is; in iteration `when`, where slot `first` is */
} slot_kind;

typedef struct slot {
    slot_kind kind;
    uint32_t value;      /* SLOT_OUTSIDE: its address is that of this value */
    int64_t shift;       /* bytes, after that */
    int64_t row;         /* bytes from one row to the next; 0: the same for all rows */
    int64_t step;        /* bytes from one iteration to the next */
    int64_t when;
    int64_t twice;       /* SLOT_TILE: bytes between the places of even and odd iterations, or 0 */
    uint32_t first, next;
    uint32_t spread_in, block; /* 1 + the region that had it repeated last, and in which block */
    size_t memo; /* where wg__loop_plan_new noted it */
} slot;

/* A kernel called with its operands cut to the rows of a tile; or a region; or a product with a packed matrix. */
typedef struct kernel {
    uint32_t id; /* instruction */
    uint32_t region;  /* 1 + index; 0: none */
    uint32_t product; /* 1 + index into the lane's products; 0: none */
    uint32_t n;
    uint32_t in; /* its operands begin at this index of `operands` */
    uint32_t out;
} kernel;

/* What an instruction of a region reads or writes for a block: a block of the lane's, or a slot, a row and a column further on. */
typedef struct reference {
    bool is_slot;
    bool spread; /* a slot's one element of the row, repeated in a block of the lane's: `block` */
    uint32_t slot, block;
} reference;

/* A slot's one element of the row and the block that it is repeated in. */
typedef struct repeated {
    uint32_t slot, block;
} repeated;

typedef struct step {
    const wg_op *op;
    uint16_t n, ahead; /* ahead: bit k: operand k is asked of memory a block before it is read (3: the result) */
    uint32_t map;      /* index into the lane's maps */
    reference in[3], out;
} step;

/* Pointwise instructions that are run block by block. */
typedef struct region {
    uint32_t first, count; /* of the plan's steps */
    wg_dtype dtype;
    int64_t columns;  /* elements of a row */
    bool flat;        /* rows lie one after the other in every operand: they are walked as one */
    uint32_t first_spread, spreads; /* of the plan's: what is repeated, for every row */
} region;

/* An array of a kernel's: its slot; its shape for a whole tile and for the last, smaller one. */
typedef struct operand {
    uint32_t slot;
    const wg_shape *shape[2];
} operand;

/* Copied out of the loop after the last iteration. */
typedef struct result {
    uint32_t slot, to, id; /* from slot to slot; the instruction */
} result;

struct wg_loop_plan {
    const wg_program *program;
    const wg_loop *loop;
    slot *slots;
    int64_t slot_count;
    kernel *kernels;
    int64_t kernel_count;
    operand *operands;
    int64_t operand_count;
    result *results;
    int64_t result_count;
    region *regions;
    int64_t region_count;
    step *steps;
    int64_t step_count;
    repeated *spreads;
    int64_t spread_count;
    uint32_t products, blocks; /* that a lane needs */
    uint32_t most_operands;
    size_t scratch; /* of the kernels */
};

/* BLOCK: elements. FAR: bytes of all iterations of a value from where it is no longer in a cache when it is read. */
enum { BLOCK = 256, FAR = 1 << 20 };

/* ---- making ---- */

typedef struct maker {
    wg_program *program;
    wg_loop_plan *plan;
    uint32_t *slot_of; /* by value, read whole and cut by rows: 1 + slot */
    int64_t slot_room;
    bool failed;
} maker;

static int64_t size_of(const wg_program *p, uint32_t id) { return (int64_t)wg_dtype_size((wg_dtype)p->list[id].dtype); }

static int64_t row_stride(const wg_program *p, uint32_t id) {
    int64_t dense[WG_MAX_RANK];
    if (p->list[id].shape->rank == 0)
        return 0;
    wg__dense_strides(p->list[id].shape, dense);
    return (p->values[id].stride ? p->values[id].stride : dense)[0] * size_of(p, id);
}

static uint32_t new_slot(maker *m, const uint32_t *memo, slot s) {
    wg_loop_plan *l = m->plan;
    s.memo = (size_t)(memo - m->slot_of);
    if (!wg__room(m->program->memory, (void **)&l->slots, l->slot_count, &m->slot_room, sizeof *l->slots)) {
        m->failed = true;
        return 0;
    }
    l->slots[l->slot_count] = s;
    return (uint32_t)l->slot_count++;
}

/* The slot of a value, cut by rows or whole. Calls itself a few times at most: what a carry brings is no carry (`layout` copies
 * such), what an `ending` chooses from comes from outside or is one of 2 * WG_MOST_ENDS such choices (`roll`). */
static uint32_t slot_for(maker *m, uint32_t id, bool cut) {
    wg_program *p = m->program;
    uint32_t *memo = &m->slot_of[2 * (size_t)id + cut];
    const wg_value *v = &p->values[id], *base = &p->values[v->base];
    if (*memo || m->failed)
        return *memo - 1;
    int64_t size = size_of(p, id);
    slot s = {.shift = v->shift * size, .row = cut ? row_stride(p, id) : 0};
    if (base->space == WG_CARRIED) {
        const wg_instruction *c = &p->list[v->base];
        if (!wg__is_carry(c)) {
            s.kind = SLOT_ENDING;
            s.when = ((const wg_ending_attr *)c->attr)->at;
            s.next = slot_for(m, c->in[0], true);
            s.first = slot_for(m, c->in[1], true);
            *memo = m->failed ? 0 : new_slot(m, memo, s) + 1;
            return *memo - 1;
        }
        s.kind = SLOT_CARRIED;
        s.first = slot_for(m, c->in[0], true);
        *memo = new_slot(m, memo, s) + 1; /* before what comes next, which may lead back here */
        uint32_t next = slot_for(m, c->in[1], true);
        if (!m->failed)
            m->plan->slots[*memo - 1].next = next;
        return *memo - 1;
    }
    if (base->space == WG_IN_TILE) {
        s.kind = SLOT_TILE;
        s.shift += (int64_t)base->offset;
        s.twice = base->twice ? (int64_t)wg__tile_place(p, m->plan->loop, v->base) : 0;
    } else if (base->space == WG_IN_STACK) {
        const wg_stacked_attr *a = p->list[base->index].attr;
        int64_t bytes = (int64_t)wg__instruction_bytes(&p->list[v->base]);
        s.value = base->index;
        s.shift += a->backward ? (a->times - 1) * bytes : 0;
        s.step = a->backward ? -bytes : bytes;
    } else {
        s.value = id;
        s.shift = 0;
        s.step = v->step * size;
    }
    *memo = new_slot(m, memo, s) + 1;
    return *memo - 1;
}

static const wg_shape *cut_shape(maker *m, const wg_shape *whole, int64_t rows) {
    int64_t dim[WG_MAX_RANK];
    wg_shape shape;
    memcpy(dim, whole->dim, sizeof dim);
    dim[0] = rows;
    const wg_shape *made = wg__shape_set(&shape, whole->rank, dim) == WG_OK ? wg__program_shape(m->program, &shape) : NULL;
    m->failed = m->failed || !made;
    return made;
}

static operand operand_for(maker *m, uint32_t id, bool cut) {
    const wg_loop *loop = m->plan->loop;
    const wg_shape *shape = m->program->list[id].shape;
    operand o = {slot_for(m, id, cut), {shape, shape}};
    if (cut && loop->rows) {
        int64_t rest = loop->rows % loop->tile;
        o.shape[0] = cut_shape(m, shape, loop->tile);
        o.shape[1] = rest ? cut_shape(m, shape, rest) : o.shape[0];
    }
    return o;
}

static void add_kernel(maker *m, uint32_t id) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    const wg_instruction *i = &p->list[id];
    uint32_t mask = l->loop->rows ? wg__instruction_rows(p, i) : 0;
    m->failed = m->failed || (l->loop->rows && i->n && !mask); /* `schedule` had one: out of memory */
    kernel k = {.id = id, .n = i->n, .in = (uint32_t)l->operand_count};
    for (uint32_t n = 0; n < i->n; n++)
        l->operands[l->operand_count++] = operand_for(m, wg__reads_const(i)[n], wg__is_cut(mask, n));
    k.out = (uint32_t)l->operand_count;
    l->operands[l->operand_count++] = operand_for(m, id, l->loop->rows);
    l->most_operands = i->n > l->most_operands ? i->n : l->most_operands;
    if (i->op == &wg__op_packed_product)
        k.product = 2 * l->products++ + 1;
    size_t scratch = wg__program_scratch(p, i);
    m->failed = m->failed || scratch == SIZE_MAX;
    l->scratch = scratch > l->scratch ? scratch : l->scratch;
    l->kernels[l->kernel_count++] = k;
}

/* ---- regions ---- */

/* Blocks of a lane that values of a region take in turn. */
typedef struct blocks {
    uint32_t *free;
    uint32_t free_count, most;
} blocks;

static uint32_t take_block(blocks *b) { return b->free_count ? b->free[--b->free_count] : b->most++; }

/* The block in which a region has a slot repeated. It is filled before all steps: no block that a step has had. */
static uint32_t spread_block(maker *m, blocks *b, uint32_t number, region *g) {
    wg_loop_plan *l = m->plan;
    slot *s = &l->slots[number];
    if (s->spread_in != l->region_count + 1) {
        s->spread_in = (uint32_t)l->region_count + 1;
        s->block = b->most++;
        l->spreads[l->spread_count++] = (repeated){number, s->block};
        g->spreads++;
    }
    return s->block;
}

static reference reference_to(maker *m, blocks *b, uint32_t id, const uint32_t *block_of, region *g) {
    const wg_program *p = m->program;
    const wg_loop *loop = m->plan->loop;
    if (id >= loop->from && id < loop->to && p->values[id].local)
        return (reference){.block = block_of[id - loop->from]};
    reference r = {.is_slot = true, .slot = slot_for(m, id, true)};
    if (m->failed)
        return r;
    r.spread = wg__column_stride(p, id) == 0 && g->columns > 1;
    if (r.spread)
        r.block = spread_block(m, b, r.slot, g);
    else
        g->flat = g->flat && m->plan->slots[r.slot].row == g->columns * size_of(p, id);
    return r;
}

/* Whether a region's operand comes from far away, and no step before this one has asked for it. */
static bool is_far(const wg_loop_plan *l, const region *g, const reference *r) {
    const slot *t = &l->slots[r->slot];
    if (!r->is_slot || r->spread || t->kind != SLOT_OUTSIDE || t->row == 0 || llabs(t->step) < FAR / l->loop->times)
        return false;
    for (const step *s = l->steps + g->first; s < l->steps + l->step_count; s++)
        for (uint32_t k = 0; k < 4; k++)
            if (s->ahead >> k & 1 && (k == 3 ? s->out : s->in[k]).slot == r->slot)
                return false;
    return true;
}

/* The region that begins at `from`; returns one past it. Blocks for operands that are repeated stay theirs. */
static uint32_t add_region(maker *m, uint32_t from, uint32_t *block_of, blocks *b) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    const wg_shape *shape = p->list[from].shape;
    region g = {.first = (uint32_t)l->step_count, .first_spread = (uint32_t)l->spread_count, .dtype = p->list[from].dtype, .columns = shape->count / shape->dim[0], .flat = true};
    uint32_t to = from;
    b->free_count = b->most = 0;
    for (; to < l->loop->to && p->list[to].region == p->list[from].region && !m->failed; to++) {
        const wg_instruction *i = &p->list[to];
        step *s = &l->steps[l->step_count];
        *s = (step){.op = i->op, .n = (uint16_t)i->n, .map = (uint32_t)l->step_count};
        l->step_count++;
        for (uint32_t k = 0; k < i->n; k++)
            s->in[k] = reference_to(m, b, wg__reads_const(i)[k], block_of, &g);
        for (uint32_t k = 0; k < i->n; k++) { /* a block that is read last here is free again: the result may take it */
            uint32_t in = wg__reads_const(i)[k];
            bool once = true;
            for (uint32_t j = 0; j < k; j++)
                once = once && wg__reads_const(i)[j] != in;
            if (!s->in[k].is_slot && p->values[in].last == to && once)
                b->free[b->free_count++] = s->in[k].block;
        }
        if (p->values[to].local)
            block_of[to - l->loop->from] = take_block(b);
        s->out = reference_to(m, b, to, block_of, &g);
        if (p->values[to].local && p->values[to].last == to) /* never read */
            b->free[b->free_count++] = s->out.block;
        for (uint32_t k = 0; k < 4 && !m->failed; k++)
            if ((k == 3 || k < s->n) && is_far(l, &g, k == 3 ? &s->out : &s->in[k]))
                s->ahead |= (uint16_t)(1u << k);
    }
    g.count = (uint32_t)l->step_count - g.first;
    g.flat = g.flat && !g.spreads;
    l->blocks = b->most > l->blocks ? b->most : l->blocks;
    l->regions[l->region_count++] = g;
    l->kernels[l->kernel_count++] = (kernel){.id = from, .region = (uint32_t)l->region_count};
    return to;
}

static void add_kernels(maker *m) {
    wg_program *p = m->program;
    const wg_loop *loop = m->plan->loop;
    size_t n = loop->to - loop->from;
    uint32_t *block_of = wg__take(p->memory, wg__size(n, 5 * sizeof *block_of, 1));
    blocks b = {.free = block_of ? block_of + n : NULL};
    m->failed = m->failed || !block_of;
    for (uint32_t id = loop->from; id < loop->to && !m->failed;) {
        if (p->list[id].region) {
            id = add_region(m, id, block_of, &b);
            continue;
        }
        if (p->values[id].task)
            add_kernel(m, id);
        id++;
    }
    wg__give(p->memory, block_of);
}

/* What `last` takes out of the loop. */
static void add_results(maker *m) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    for (uint32_t id = l->loop->edges; id; id = p->values[id].edge) {
        const wg_instruction *i = &p->list[id];
        if (i->op != &wg__op_last)
            continue;
        l->results[l->result_count++] = (result){slot_for(m, i->in[0], l->loop->rows), slot_for(m, id, l->loop->rows), id};
    }
}

static bool make_room(maker *m) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    int64_t kernels = 0, operands = 0, results = 0;
    for (uint32_t id = l->loop->from; id < l->loop->to; id++)
        if (p->values[id].task)
            kernels++, operands += p->list[id].n + 1;
    for (uint32_t id = l->loop->edges; id; id = p->values[id].edge)
        results++;
    l->kernels = wg__take(p->memory, wg__size((size_t)kernels, sizeof *l->kernels, 1));
    l->operands = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->operands, 1));
    l->results = wg__take(p->memory, wg__size((size_t)results, sizeof *l->results, 1));
    l->regions = wg__take(p->memory, wg__size((size_t)kernels, sizeof *l->regions, 1));
    l->steps = wg__take(p->memory, wg__size((size_t)kernels, sizeof *l->steps, 1));
    l->spreads = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->spreads, 1));
    return l->regions && l->steps && l->spreads && l->kernels && l->operands && l->results;
}

wg_loop_plan *wg__loop_plan_new(wg_program *p, const wg_loop *loop, uint32_t *memo) {
    wg_loop_plan *l = wg__take0(p->memory, sizeof *l);
    maker m = {.program = p, .plan = l, .slot_of = memo};
    if (!l)
        return NULL;
    l->program = p;
    l->loop = loop;
    m.failed = !make_room(&m);
    if (!m.failed)
        add_kernels(&m);
    if (!m.failed)
        add_results(&m);
    for (int64_t s = 0; s < l->slot_count; s++)
        memo[l->slots[s].memo] = 0;
    if (!m.failed)
        return l;
    wg__loop_plan_free(p->memory, l);
    return NULL;
}

void wg__loop_plan_free(wg_memory *memory, wg_loop_plan *l) {
    if (!l)
        return;
    wg__give(memory, l->slots);
    wg__give(memory, l->kernels);
    wg__give(memory, l->operands);
    wg__give(memory, l->results);
    wg__give(memory, l->regions);
    wg__give(memory, l->steps);
    wg__give(memory, l->spreads);
    wg__give(memory, l);
}

/* ---- running ---- */

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* A lane's memory: the tile's scratch, the kernels', addresses of slots (twice), a kernel's arrays, the regions' blocks and
 * maps, the products, for tiles of both sizes, and the seconds of each kernel. */
size_t wg__loop_lane_bytes(const wg_loop_plan *l) {
    return lines(l->loop->scratch) + lines(l->scratch) + 2 * lines((size_t)l->slot_count * sizeof(char *)) +
           lines(l->most_operands * sizeof(wg_array)) + (size_t)l->blocks * BLOCK * sizeof(double) +
           lines((size_t)l->step_count * sizeof(wg__map *)) + lines(2 * l->products * sizeof(wg_packed_product)) +
           lines((size_t)l->kernel_count * sizeof(double));
}

typedef struct run {
    const wg_loop_plan *plan;
    wg_workspace *workspace;
    int lanes;
    char *scratch;
    size_t lane_bytes;
    wg_status status; /* of the first lane that failed, and what it says */
    int failed_lane;
    pthread_mutex_t lock;
    uint32_t failed;
    char text[512];
} run;

typedef struct lane {
    run *run;
    int number;
    wg_team team;
    char *tile, *scratch;
    char **at, **start; /* of every slot: in this iteration; in the first, of row 0 */
    wg_array *arrays;
    char *blocks;
    wg__map **maps;
    wg_packed_product *products;
    double *spent; /* by kernel; NULL: nobody asks */
    double begun;
    char text[512];
} lane;

static lane lane_of(run *r, int number, wg_team team) {
    const wg_loop_plan *l = r->plan;
    char *at = r->scratch + (size_t)number * r->lane_bytes;
    size_t slots = lines((size_t)l->slot_count * sizeof(char *));
    lane n = {.run = r, .number = number, .team = team, .tile = at};
    n.scratch = at += lines(l->loop->scratch);
    n.at = (void *)(at += lines(l->scratch));
    n.start = (void *)(at += slots);
    n.arrays = (void *)(at += slots);
    n.blocks = at += lines(l->most_operands * sizeof(wg_array));
    n.maps = (void *)(at += (size_t)l->blocks * BLOCK * sizeof(double));
    n.products = (void *)(at += lines((size_t)l->step_count * sizeof(wg__map *)));
    if (r->workspace->profile) {
        n.spent = (void *)(at + lines(2 * l->products * sizeof(wg_packed_product)));
        memset(n.spent, 0, (size_t)l->kernel_count * sizeof *n.spent);
    }
    for (int64_t g = 0; g < l->region_count; g++)
        for (uint32_t s = l->regions[g].first; s < l->regions[g].first + l->regions[g].count; s++)
            n.maps[s] = wg__map_of(l->steps[s].op, (int)l->regions[g].dtype - WG_F32, team.isa);
    return n;
}

static void find_starts(lane *n) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t s = 0; s < l->slot_count; s++) {
        const slot *t = &l->slots[s];
        if (t->kind == SLOT_OUTSIDE)
            n->start[s] = (char *)wg__address(n->run->workspace, t->value) + t->shift;
        else if (t->kind == SLOT_TILE)
            n->start[s] = n->tile + t->shift;
    }
}

/* The addresses of the first iteration, for a tile that begins with this row. */
static void first_iteration(lane *n, int64_t row) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t s = 0; s < l->slot_count; s++) {
        const slot *t = &l->slots[s];
        if (t->kind == SLOT_CARRIED)
            n->at[s] = n->at[t->first] + t->shift;
        else if (t->kind == SLOT_ENDING)
            n->at[s] = n->at[t->when == 0 ? t->first : t->next] + t->shift;
        else
            n->at[s] = n->start[s] + (t->kind == SLOT_OUTSIDE ? row * t->row : 0);
    }
}

static void next_iteration(lane *n, int64_t t) {
    const wg_loop_plan *l = n->run->plan;
    char **before = n->start; /* what carried slots become: they have no start */
    for (int64_t s = 0; s < l->slot_count; s++)
        if (l->slots[s].kind == SLOT_CARRIED)
            before[s] = n->at[l->slots[s].next] + l->slots[s].shift;
    for (int64_t s = 0; s < l->slot_count; s++) {
        const slot *o = &l->slots[s];
        if (o->kind == SLOT_CARRIED)
            n->at[s] = before[s];
        else if (o->kind == SLOT_ENDING) /* after those that it chooses from */
            n->at[s] = n->at[t == o->when ? o->first : o->next] + o->shift;
        else if (o->twice)
            n->at[s] = n->start[s] + (t & 1) * o->twice;
        else
            n->at[s] += o->step;
    }
}

static wg_array array_of(const lane *n, const operand *o, uint32_t id, int size) {
    const wg_program *p = n->run->plan->program;
    return (wg_array){n->at[o->slot], o->shape[size], p->values[id].stride, (wg_dtype)p->list[id].dtype};
}

static inline char *block_at(const lane *n, uint32_t block) { return n->blocks + (size_t)block * BLOCK * sizeof(double); }

/* One element, repeated. */
static void spread(char *to, const char *from, size_t size, int64_t count) {
    if (size == 4) {
        uint32_t x;
        memcpy(&x, from, sizeof x);
        for (int64_t i = 0; i < count; i++)
            ((uint32_t *)to)[i] = x;
    } else {
        uint64_t x;
        memcpy(&x, from, sizeof x);
        for (int64_t i = 0; i < count; i++)
            ((uint64_t *)to)[i] = x;
    }
}

/* The blocks of operands that are one element of the row. */
static void spread_row(const lane *n, const region *g, int64_t row, size_t size) {
    const wg_loop_plan *l = n->run->plan;
    for (const repeated *r = l->spreads + g->first_spread, *end = r + g->spreads; r < end; r++)
        if (row == 0 || l->slots[r->slot].row)
            spread(block_at(n, r->block), n->at[r->slot] + row * l->slots[r->slot].row, size, wg__min(BLOCK, g->columns));
}

static inline char *found(const lane *n, const reference *r, const slot *slots, int64_t row, int64_t byte) {
    return r->is_slot && !r->spread ? n->at[r->slot] + row * slots[r->slot].row + byte : block_at(n, r->block);
}

/* Asks memory for what a step will read and write in the next block: further on in the row, in the next row, or in the next iteration. */
static void ask_ahead(const lane *n, const step *s, int64_t row, int64_t byte, int64_t bytes, bool same_row, bool last_row) {
    const wg_loop_plan *l = n->run->plan;
    for (uint32_t k = 0; k < 4; k++) {
        const reference *r = k == 3 ? &s->out : &s->in[k];
        if (!(s->ahead >> k & 1))
            continue;
        const slot *t = &l->slots[r->slot];
        const char *next = n->at[r->slot] + (same_row ? row * t->row + byte + bytes : last_row ? t->step : (row + 1) * t->row);
        for (int64_t at = 0; at < bytes; at += 64)
            k == 3 ? __builtin_prefetch(next + at, 1) : __builtin_prefetch(next + at);
    }
}

static void run_region(const lane *n, const region *g, int64_t rows) {
    const wg_loop_plan *l = n->run->plan;
    const slot *slots = l->slots;
    const size_t size = wg_dtype_size(g->dtype);
    int64_t columns = g->flat ? rows * g->columns : g->columns;
    rows = g->flat ? 1 : rows;
    for (int64_t row = 0; row < rows; row++) {
        if (g->spreads)
            spread_row(n, g, row, size);
        for (int64_t from = 0; from < columns; from += BLOCK) {
            int64_t count = wg__min(BLOCK, columns - from), byte = from * (int64_t)size;
            for (const step *s = l->steps + g->first, *end = s + g->count; s < end; s++) {
                const void *in[3];
                if (s->ahead)
                    ask_ahead(n, s, row, byte, count * (int64_t)size, from + BLOCK < columns, row + 1 == rows);
                for (uint32_t k = 0; k < s->n; k++)
                    in[k] = found(n, &s->in[k], slots, row, byte);
                n->maps[s->map](count, in, found(n, &s->out, slots, row, byte));
            }
        }
    }
}

/* In iteration t. size: 0 for a whole tile, 1 for the last. */
static wg_status run_kernel(lane *n, const kernel *k, int64_t t, int size, int64_t rows) {
    const wg_loop_plan *l = n->run->plan;
    if (k->region) {
        run_region(n, &l->regions[k->region - 1], rows);
        return WG_OK;
    }
    const wg_instruction *i = &l->program->list[k->id];
    if (k->product && l->loop->rows) {
        const operand *o = &l->operands[k->in];
        wg__packed_multiply(&n->products[k->product - 1 + (uint32_t)size], n->at[o[0].slot], n->at[o[1].slot],
                            n->at[l->operands[k->out].slot], t % 2);
        return WG_OK;
    }
    for (uint32_t a = 0; a < k->n; a++)
        n->arrays[a] = array_of(n, &l->operands[k->in + a], wg__reads_const(i)[a], size);
    wg_call call = {.op = i->op, .attr = i->attr, .n = (int)k->n, .in = n->arrays,
                    .out = array_of(n, &l->operands[k->out], k->id, size), .scratch = n->scratch, .team = &n->team,
                    .text = n->text, .text_size = sizeof n->text};
    return wg__kernel(i->op)(&call);
}

/* The products as a tile's kernels will want them. */
static void prepare_products(lane *n) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t k = 0; k < l->kernel_count && l->loop->rows; k++)
        for (int size = 0; l->kernels[k].product && size < 2; size++) {
            const kernel *of = &l->kernels[k];
            const wg_instruction *i = &l->program->list[of->id];
            wg_array in = array_of(n, &l->operands[of->in], i->in[0], size);
            wg_call call = {.op = i->op, .attr = i->attr, .in = &in, .out = array_of(n, &l->operands[of->out], of->id, size), .team = &n->team};
            wg__packed_call_init(&n->products[of->product - 1 + (uint32_t)size], &call);
        }
}

static void note_failure(const lane *n, wg_status status, uint32_t id) {
    run *r = n->run;
    pthread_mutex_lock(&r->lock);
    if (r->status == WG_OK || n->number < r->failed_lane) {
        r->status = status;
        r->failed_lane = n->number;
        r->failed = id;
        memcpy(r->text, n->text, sizeof r->text);
    }
    pthread_mutex_unlock(&r->lock);
}

/* The time since the last call is kernel k's. */
static void note_time(lane *n, int64_t k) {
    double now = wg__seconds();
    n->spent[k] += now - n->begun;
    n->begun = now;
}

static void tell_times(const lane *n) {
    const wg_loop_plan *l = n->run->plan;
    pthread_mutex_lock(&n->run->lock);
    for (int64_t k = 0; k < l->kernel_count; k++)
        wg__profile_add(n->run->workspace->profile, l->program, l->kernels[k].id, n->spent[k]);
    pthread_mutex_unlock(&n->run->lock);
}

/* What is read after the loop, for the rows of this tile. */
static void take_results(const lane *n, int64_t rows) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t k = 0; k < l->result_count; k++) {
        const result *r = &l->results[k];
        size_t bytes = wg__instruction_bytes(&l->program->list[r->id]);
        bytes = l->loop->rows ? bytes / (size_t)l->loop->rows * (size_t)rows : bytes;
        if (bytes)
            memcpy(n->at[r->to], n->at[r->slot], bytes);
    }
}

/* All iterations of one tile. */
static bool run_tile(lane *n, int64_t row, int64_t rows) {
    const wg_loop_plan *l = n->run->plan;
    int size = l->loop->rows && rows < l->loop->tile;
    first_iteration(n, row);
    for (int64_t t = 0; t < l->loop->times; t++) {
        if (t)
            next_iteration(n, t);
        if (n->spent)
            n->begun = wg__seconds();
        for (int64_t k = 0; k < l->kernel_count; k++) {
            wg_status status = run_kernel(n, &l->kernels[k], t, size, rows);
            if (n->spent)
                note_time(n, k);
            if (status != WG_OK) {
                note_failure(n, status, l->kernels[k].id);
                return false;
            }
        }
    }
    take_results(n, rows);
    return true;
}

static void run_lanes(void *user, int64_t from, int64_t to) {
    run *r = user;
    const wg_loop *loop = r->plan->loop;
    const wg_team *team = &r->workspace->team;
    for (int64_t number = from; number < to; number++) {
        wg_team own = *team;
        own.threads = loop->rows ? 1 : team->threads;
        own.pool = loop->rows ? NULL : team->pool;
        lane n = lane_of(r, (int)number, own);
        n.text[0] = 0;
        find_starts(&n);
        prepare_products(&n);
        if (!loop->rows)
            run_tile(&n, 0, 0);
        for (int64_t row = number * loop->tile; row < loop->rows; row += r->lanes * loop->tile)
            if (!run_tile(&n, row, wg__min(loop->tile, loop->rows - row)))
                break;
        if (n.spent)
            tell_times(&n);
    }
}

wg_status wg__loop_run(const wg_loop_plan *l, wg_workspace *w, int lanes, char *scratch, size_t lane_bytes, uint32_t *failed) {
    const wg_loop *loop = l->loop;
    int64_t tiles = loop->rows ? (loop->rows + loop->tile - 1) / loop->tile : 1;
    run r = {.plan = l, .workspace = w, .lanes = (int)wg__min(wg__min(lanes, w->team.threads), tiles), .scratch = scratch,
             .lane_bytes = lane_bytes, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (r.lanes <= 1)
        r.lanes = 1, run_lanes(&r, 0, 1);
    else
        wg__rows(&w->team, r.lanes, 1, run_lanes, &r);
    if (r.status != WG_OK) {
        *failed = r.failed;
        memcpy(w->text, r.text, sizeof w->text);
    }
    return r.status;
}
