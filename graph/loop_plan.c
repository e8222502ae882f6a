/* loop_plan.c: makes of a loop the lists that its runs walk. */
#include "loop_plan.h"

#include "loop.h"
#include "make.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of all iterations of a value from where it is no longer in a cache when it is read. */
enum { FAR = 1 << 20 };

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

static uint32_t new_slot(maker *m, const uint32_t *memo, wg_loop_slot s) {
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
    wg_loop_slot s = {.shift = v->shift * size, .row = cut ? row_stride(p, id) : 0};
    if (base->space == WG_CARRIED) {
        const wg_instruction *c = &p->list[v->base];
        if (!wg__is_carry(c)) {
            s.kind = WG_SLOT_ENDING;
            s.when = ((const wg_ending_attr *)c->attr)->at;
            s.next = slot_for(m, c->in[0], true);
            s.first = slot_for(m, c->in[1], true);
            *memo = m->failed ? 0 : new_slot(m, memo, s) + 1;
            return *memo - 1;
        }
        s.kind = WG_SLOT_CARRIED;
        s.first = slot_for(m, c->in[0], true);
        *memo = new_slot(m, memo, s) + 1; /* before what comes next, which may lead back here */
        uint32_t next = slot_for(m, c->in[1], true);
        if (!m->failed)
            m->plan->slots[*memo - 1].next = next;
        return *memo - 1;
    }
    if (base->space == WG_IN_TILE) {
        s.kind = WG_SLOT_TILE;
        s.shift += (int64_t)base->offset;
        s.in_strip = base->in_strip;
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

static wg_loop_operand operand_for(maker *m, uint32_t id, bool cut) {
    const wg_loop *loop = m->plan->loop;
    const wg_shape *shape = m->program->list[id].shape;
    wg_loop_operand o = {slot_for(m, id, cut), {shape, shape, shape, shape, shape}};
    if (!cut || !loop->rows)
        return o;
    const int64_t last = (loop->rows - 1) % loop->tile + 1, strip = loop->strip ? loop->strip : loop->tile;
    const int64_t rows[WG_CUTS] = {loop->tile, last, strip, (loop->tile - 1) % strip + 1, (last - 1) % strip + 1};
    for (wg_cut k = 0; k < WG_CUTS; k++)
        o.shape[k] = cut_shape(m, shape, rows[k]);
    return o;
}

/* Whether `a` makes the result of b beside its own. */
static bool makes_beside(const wg_instruction *a, const wg_instruction *b) {
    const size_t size = b->op->attr_size;
    if (a->op->beside != b->op || a->n != b->n || a->op->attr_size != size || (size && memcmp(a->attr, b->attr, size) != 0))
        return false;
    return memcmp(wg__reads_const(a), wg__reads_const(b), a->n * sizeof *a->in) == 0;
}

/* Lets one of the last kernel and this one make both results, if it can: what they read and write is live at both. */
static bool join_last(wg_loop_plan *l, wg_loop_kernel k) {
    const wg_instruction *list = l->program->list;
    wg_loop_kernel *last = l->kernel_count ? &l->kernels[l->kernel_count - 1] : NULL;
    if (!last || last->region || last->beside_id)
        return false;
    if (makes_beside(&list[k.id], &list[last->id]))
        k.beside_id = last->id, k.beside = last->out, *last = k;
    else if (makes_beside(&list[last->id], &list[k.id]))
        last->beside_id = k.id, last->beside = k.out;
    return last->beside_id;
}

static void add_kernel(maker *m, uint32_t id) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    const wg_instruction *i = &p->list[id];
    uint32_t mask = l->loop->rows ? wg__instruction_rows(p, i) : 0;
    m->failed = m->failed || (l->loop->rows && i->n && !mask); /* `schedule` had one: out of memory */
    wg_loop_kernel k = {.id = id, .n = i->n, .in = (uint32_t)l->operand_count};
    for (uint32_t n = 0; n < i->n; n++)
        l->operands[l->operand_count++] = operand_for(m, wg__reads_const(i)[n], wg__is_cut(mask, n));
    k.out = (uint32_t)l->operand_count;
    l->operands[l->operand_count++] = operand_for(m, id, l->loop->rows);
    l->most_operands = i->n > l->most_operands ? i->n : l->most_operands;
    if (i->op == &wg__op_packed_product)
        k.product = 2 * l->products + 1, l->products += i->n / 2;
    size_t scratch = wg__program_scratch(p, i);
    m->failed = m->failed || scratch == SIZE_MAX;
    l->scratch = scratch > l->scratch ? scratch : l->scratch;
    if (!join_last(l, k))
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
static uint32_t spread_block(maker *m, blocks *b, uint32_t number, wg_loop_region *g) {
    wg_loop_plan *l = m->plan;
    wg_loop_slot *s = &l->slots[number];
    if (s->spread_in != l->region_count + 1) {
        s->spread_in = (uint32_t)l->region_count + 1;
        s->block = b->most++;
        l->spreads[l->spread_count++] = (wg_loop_repeated){number, s->block};
        g->spreads++;
    }
    return s->block;
}

static wg_loop_reference reference_to(maker *m, blocks *b, uint32_t id, const uint32_t *block_of, wg_loop_region *g) {
    const wg_program *p = m->program;
    const wg_loop *loop = m->plan->loop;
    if (id >= loop->from && id < loop->to && p->values[id].local)
        return (wg_loop_reference){.in_block = true, .block = block_of[id - loop->from]};
    wg_loop_reference r = {.slot = slot_for(m, id, true)};
    if (m->failed)
        return r;
    r.row = m->plan->slots[r.slot].row;
    r.step = m->plan->slots[r.slot].step;
    r.in_block = r.spread = wg__column_stride(p, id) == 0 && g->columns > 1;
    if (r.spread)
        r.block = spread_block(m, b, r.slot, g);
    else
        g->flat = g->flat && r.row == g->columns * size_of(p, id);
    return r;
}

/* Whether rows of a slot come from far away. */
static bool is_far(const wg_loop_plan *l, const wg_loop_slot *s) {
    return s->kind == WG_SLOT_OUTSIDE && s->row != 0 && llabs(s->step) >= FAR / l->loop->times;
}

/* Whether a region's operand comes from far away, and no step before this one has asked for it. */
static bool asks_first(const wg_loop_plan *l, const wg_loop_region *g, const wg_loop_reference *r) {
    if (r->in_block || !is_far(l, &l->slots[r->slot]))
        return false;
    for (const wg_loop_step *s = l->steps + g->first; s < l->steps + l->step_count; s++)
        for (uint32_t k = 0; k <= s->n; k++)
            if (s->ahead >> k & 1 && l->references[s->refers + k].slot == r->slot)
                return false;
    return true;
}

/* How many of a step's references, of which its result's is the last, are worth asking for: what goes past the caches had better not be in them. */
static uint32_t wanted_of(const wg_loop_step *s) { return s->op == &wg__op_bypass ? s->n : s->n + 1u; }

/* ---- a region's steps: an instruction, or a pair (pairs.h) of one with its operands ---- */

/* The instructions of a loop's regions, by id less the loop's first. */
typedef struct steps {
    uint32_t *block_of; /* of what is local */
    uint32_t *into;     /* the instruction in whose step it is made; 0: it has a step of its own */
    uint32_t *reads;    /* of what is local */
    uint32_t *ends;     /* the instruction of the step that reads it last */
    uint32_t *writer;   /* of the region's, from the first on: those that write to memory */
    uint32_t *written;  /* how many of those stand before it */
    blocks blocks;
} steps;

enum { MOST_WRITERS = 16, MOST_OWNERS = 16 };

/* The buffer that a value lies in, as the first that has it; 0: one or another, or it has had too many owners to look for. */
static uint32_t buffer_of(const wg_program *p, uint32_t id) {
    uint32_t base = p->values[id].base, owners = 0;
    if (p->values[base].space == WG_CARRIED)
        return 0;
    base = p->values[base].space == WG_IN_STACK ? p->values[p->values[base].index].base : base;
    while (p->values[base].over && owners++ < MOST_OWNERS)
        base = p->values[base].over;
    return p->values[base].over ? 0 : base;
}

/* Whether one's memory may be the other's, both being of one shape and row by row. */
static bool may_share(const wg_program *p, uint32_t a, uint32_t b) {
    const wg_value *v = &p->values[a], *w = &p->values[b];
    uint32_t at = buffer_of(p, a), with = buffer_of(p, b);
    if (at && with && at != with)
        return false;
    int64_t row = row_stride(p, a) / size_of(p, a), width = p->list[a].shape->count / p->list[a].shape->dim[0];
    if (!at || !with || row <= width || row != row_stride(p, b) / size_of(p, b))
        return true;
    int64_t from = v->shift % row, other = w->shift % row; /* columns of what lies side by side */
    return from < 0 || other < 0 || from + width > row || other + width > row || (from < other + width && other < from + width);
}

/* Whether what `id` reads in memory is still there when `later` runs. */
static bool outlasts(const maker *m, const steps *q, uint32_t id, uint32_t later) {
    const wg_program *p = m->program;
    const uint32_t first = m->plan->loop->from, from = q->written[id - first], to = q->written[later - first];
    if (to - from > MOST_WRITERS)
        return false;
    for (uint32_t k = 0; k < p->list[id].n; k++)
        for (uint32_t w = from, in = wg__reads_const(&p->list[id])[k]; w < to; w++)
            if ((in < first || in >= m->plan->loop->to || !p->values[in].local) && may_share(p, in, q->writer[w]))
                return false;
    return true;
}

/* Whether value `in` can be made in the step of `id`: no other reads it, and what it is made of is still there. */
static bool absorbs(const maker *m, const steps *q, uint32_t id, uint32_t in, uint32_t from) {
    const wg_program *p = m->program;
    return in >= from && in < id && p->values[in].local && q->reads[in - m->plan->loop->from] == 1 && outlasts(m, q, in, id);
}

/* Which operands of a sum, difference or product can be made in its step: how many. Partial derivatives are only multiplied, and not by each
 * other. */
static uint32_t absorbable(const maker *m, const steps *q, uint32_t id, uint32_t from, uint32_t take[2]) {
    const wg_instruction *i = &m->program->list[id];
    const wg__pair_op outer = i->n == 2 ? wg__pair_op_of(i->op) : WG__PAIR_NONE;
    bool partial = false;
    uint32_t n = 0;
    for (uint32_t k = 0; k < 2 && outer != WG__PAIR_NONE; k++) {
        const wg__pair_op inner = wg__pair_op_of(m->program->list[i->in[k]].op);
        if (inner == WG__PAIR_NONE || (wg__pair_is_partial(inner) && (partial || outer != WG__PAIR_MUL)) || !absorbs(m, q, id, i->in[k], from))
            continue;
        take[n++] = i->in[k];
        partial = partial || wg__pair_is_partial(inner);
    }
    return n;
}

/* But what could make two operands itself has a step of its own. */
static void absorb_operands(const maker *m, steps *q, uint32_t id, uint32_t from) {
    uint32_t take[2], own[2], n = absorbable(m, q, id, from, take);
    for (uint32_t k = 0; k < n; k++)
        if (absorbable(m, q, take[k], from, own) < 2)
            q->into[take[k] - m->plan->loop->from] = id;
}

/* A function's operand that is a sum, and one of that sum's operands that is a sum: unless two others would have been made in the sum's step. */
static void absorb_sum(const maker *m, steps *q, uint32_t id, uint32_t from) {
    const wg_program *p = m->program;
    const uint32_t first = m->plan->loop->from, sum = p->list[id].in[0];
    uint32_t own[2], inner = 0;
    if (!wg__map_of_sum(p->list[id].op, 2, (int)p->list[id].dtype - WG_F32, 0) || p->list[sum].op != &wg__op_add || !absorbs(m, q, id, sum, from))
        return;
    const uint32_t n = absorbable(m, q, sum, from, own);
    for (uint32_t k = 0; k < n && !inner; k++)
        if (p->list[own[k]].op == &wg__op_add && absorbs(m, q, id, own[k], from))
            inner = own[k];
    if (n == 2 && !inner)
        return;
    q->into[sum - first] = id;
    if (inner)
        q->into[inner - first] = id;
}

/* Finds the pairs of the region [from, to), from its end: what is made in another's step makes nothing in its own. */
static void find_pairs(const maker *m, steps *q, uint32_t from, uint32_t to) {
    const wg_program *p = m->program;
    const uint32_t first = m->plan->loop->from;
    uint32_t writers = 0;
    for (uint32_t id = from; id < to; id++) {
        q->into[id - first] = q->reads[id - first] = 0;
        q->ends[id - first] = id;
        q->written[id - first] = writers;
        if (!p->values[id].local)
            q->writer[writers++] = id;
        for (uint32_t k = 0; k < p->list[id].n; k++)
            if (wg__reads_const(&p->list[id])[k] >= from && wg__reads_const(&p->list[id])[k] < id)
                q->reads[wg__reads_const(&p->list[id])[k] - first]++;
    }
    for (uint32_t id = to; id-- > from;) {
        const wg_instruction *i = &p->list[id];
        if (q->into[id - first])
            continue;
        if (i->n == 2 && wg__pair_op_of(i->op) != WG__PAIR_NONE)
            absorb_operands(m, q, id, from);
        else if (i->n == 1)
            absorb_sum(m, q, id, from);
    }
    for (uint32_t id = from; id < to; id++)
        for (uint32_t k = 0; k < p->list[id].n; k++) {
            uint32_t in = wg__reads_const(&p->list[id])[k], when = q->into[id - first] ? q->into[id - first] : id;
            if (in >= from && in < id && when > q->ends[in - first])
                q->ends[in - first] = when;
        }
}

/* Whether value `in` is made in the step of `id`. */
static bool is_within(const maker *m, const steps *q, uint32_t id, uint32_t in) {
    const wg_loop *loop = m->plan->loop;
    return in >= loop->from && in < loop->to && m->program->values[in].local && q->into[in - loop->from] == id;
}

/* Operands of a function of a sum that its step makes: those of the sum's own sum first. */
static uint32_t operands_of_sum(const maker *m, const steps *q, uint32_t id, uint32_t operand[WG_STEP_OPERANDS]) {
    const wg_instruction *sum = &m->program->list[m->program->list[id].in[0]];
    for (uint32_t k = 0; k < 2; k++)
        if (is_within(m, q, id, sum->in[k])) {
            const wg_instruction *part = &m->program->list[sum->in[k]];
            operand[0] = part->in[0], operand[1] = part->in[1], operand[2] = sum->in[1 - k];
            return 3;
        }
    operand[0] = sum->in[0], operand[1] = sum->in[1];
    return 2;
}

/* The operands of a step, and what it does with them. */
static uint32_t operands_of(const maker *m, const steps *q, uint32_t id, wg__pair *pair, uint32_t operand[WG_STEP_OPERANDS]) {
    const wg_program *p = m->program;
    const wg_instruction *i = &p->list[id];
    uint32_t n = 0, inner[2] = {0};
    *pair = (wg__pair){0};
    if (i->n == 1 && is_within(m, q, id, i->in[0])) {
        pair->kind = WG__PAIR_SUM;
        return operands_of_sum(m, q, id, operand);
    }
    for (uint32_t k = 0; k < i->n && i->n == 2; k++)
        inner[k] = is_within(m, q, id, i->in[k]) ? i->in[k] : 0;
    if (inner[0] && inner[1] && wg__pair_is_partial(wg__pair_op_of(p->list[inner[0]].op))) /* a product: the partial derivative comes last */
        inner[0] = i->in[1], inner[1] = i->in[0];
    for (uint32_t k = 0; k < 2 && (inner[0] || inner[1]); k++) {
        if (!inner[k])
            continue;
        const wg_instruction *part = &p->list[inner[k]];
        operand[n++] = part->in[0];
        operand[n++] = part->in[part->n - 1]; /* of one operand: that */
        *(n == 2 ? &pair->g : &pair->h) = (uint8_t)wg__pair_op_of(part->op);
    }
    if (n) {
        pair->kind = n == 4 ? WG__PAIR_BOTH : inner[0] || wg__pair_is_partial(pair->g) ? WG__PAIR_LEFT : WG__PAIR_RIGHT;
        pair->f = (uint8_t)wg__pair_op_of(i->op);
        if (n == 2)
            operand[n++] = i->in[inner[0] ? 1 : 0];
        return n;
    }
    for (; n < i->n; n++)
        operand[n] = wg__reads_const(i)[n];
    return n;
}

/* What it adds to is its first operand, the last of a pair's (operands_of). */
static void fold_rows(wg_loop_plan *l, wg_loop_step *s, wg_loop_region *g) {
    s->sum = (uint16_t)(s->pair.kind ? s->n : 1);
    l->sums[l->sum_count++] = (uint32_t)(s - l->steps);
    g->sums++;
    g->flat = false;
}

static void add_step(maker *m, steps *q, uint32_t id, wg_loop_region *g) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    const uint32_t first = l->loop->from;
    uint32_t operand[WG_STEP_OPERANDS];
    blocks *b = &q->blocks;
    wg_loop_step *s = &l->steps[l->step_count];
    *s = (wg_loop_step){.op = p->list[id].op, .refers = (uint32_t)l->reference_count};
    s->n = (uint16_t)operands_of(m, q, id, &s->pair, operand);
    wg_loop_reference *r = l->references + s->refers;
    l->step_count++;
    l->reference_count += s->n + 1;
    for (uint32_t k = 0; k < s->n; k++)
        r[k] = reference_to(m, b, operand[k], q->block_of, g);
    for (uint32_t k = 0; k < s->n; k++) { /* a block that is read last here is free again: the result may take it */
        bool once = true;
        for (uint32_t j = 0; j < k; j++)
            once = once && operand[j] != operand[k];
        if (r[k].in_block && !r[k].spread && q->ends[operand[k] - first] == id && once)
            b->free[b->free_count++] = r[k].block;
    }
    if (p->values[id].local)
        q->block_of[id - first] = take_block(b);
    r[s->n] = reference_to(m, b, id, q->block_of, g);
    if (wg__folds_rows(l->loop, &p->list[id]))
        fold_rows(l, s, g);
    if (p->values[id].local && q->ends[id - first] == id) /* never read */
        b->free[b->free_count++] = r[s->n].block;
    for (uint32_t k = 0; k < wanted_of(s) && !m->failed; k++)
        if (asks_first(l, g, &r[k]))
            s->ahead |= (uint16_t)(1u << k);
}

static void add_movings(wg_loop_plan *l, wg_loop_region *g) {
    const int64_t last = (g->columns - 1) / WG_REGION_BLOCK * WG_REGION_BLOCK * (int64_t)wg_dtype_size(g->dtype);
    for (uint32_t k = g->refers; k < l->reference_count; k++) {
        const wg_loop_reference *r = &l->references[k];
        if (r->in_block)
            continue;
        l->movings[l->moving_count++] = (wg_loop_moving){k, r->slot, l->slots[r->slot].in_strip ? 0 : r->row, r->row - last};
        g->movings++;
    }
}

/* The region that begins at `from`; returns one past it. Blocks for operands that are repeated stay theirs. */
static uint32_t add_region(maker *m, uint32_t from, steps *q) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    const wg_shape *shape = p->list[from].shape;
    wg_loop_region g = {.first = (uint32_t)l->step_count, .first_spread = (uint32_t)l->spread_count,
                        .refers = (uint32_t)l->reference_count, .first_moving = (uint32_t)l->moving_count,
                        .first_sum = (uint32_t)l->sum_count, .dtype = p->list[from].dtype, .columns = shape->count / shape->dim[0], .flat = true};
    uint32_t to = from;
    while (to < l->loop->to && p->list[to].region == p->list[from].region)
        to++;
    q->blocks.free_count = q->blocks.most = 0;
    find_pairs(m, q, from, to);
    for (uint32_t id = from; id < to && !m->failed; id++)
        if (!q->into[id - l->loop->from])
            add_step(m, q, id, &g);
    g.count = (uint32_t)l->step_count - g.first;
    g.instructions = to - from;
    g.flat = g.flat && !g.spreads;
    g.once = l->loop->rows == 1 && g.columns <= WG_REGION_BLOCK && !g.sums;
    if (m->failed)
        return to;
    add_movings(l, &g);
    l->blocks = q->blocks.most > l->blocks ? q->blocks.most : l->blocks;
    l->regions[l->region_count++] = g;
    l->kernels[l->kernel_count++] = (wg_loop_kernel){.id = from, .region = (uint32_t)l->region_count};
    return to;
}

static void add_kernels(maker *m) {
    wg_program *p = m->program;
    const wg_loop *loop = m->plan->loop;
    size_t n = loop->to - loop->from;
    uint32_t *room = wg__take(p->memory, wg__size(n, (WG_STEP_OPERANDS + 7) * sizeof *room, 1));
    steps q = {.block_of = room};
    m->failed = m->failed || !room;
    if (room)
        q.into = room + n, q.reads = q.into + n, q.ends = q.reads + n, q.writer = q.ends + n, q.written = q.writer + n, q.blocks.free = q.written + n;
    for (uint32_t id = loop->from; id < loop->to && !m->failed;) {
        if (p->list[id].region) {
            id = add_region(m, id, &q);
            continue;
        }
        if (p->values[id].task)
            add_kernel(m, id);
        id++;
    }
    wg__give(p->memory, room);
}

/* ---- what products ask for ---- */

/* Where a slot is in the first iteration: in the arena, or in a buffer. */
static int64_t place_of(const wg_loop_plan *l, const wg_loop_slot *s, uint32_t *buffer) {
    const wg_program *p = l->program;
    const wg_value *v = &p->values[s->value], *base = &p->values[v->base];
    *buffer = base->space == WG_IN_ARENA ? 0 : v->base + 1;
    return s->shift + v->shift * size_of(p, s->value) + (base->space == WG_IN_ARENA ? (int64_t)base->offset : 0);
}

/* Whether two slots, both of a kind that is asked for, are the same place in every iteration. */
static bool same_place(const wg_loop_plan *l, uint32_t a, uint32_t b) {
    const wg_loop_slot *s = &l->slots[a], *t = &l->slots[b];
    uint32_t buffer, other;
    if (a == b)
        return true;
    if (s->kind != t->kind || s->kind != WG_SLOT_OUTSIDE || s->row != t->row || s->step != t->step)
        return false;
    return place_of(l, s, &buffer) == place_of(l, t, &other) && buffer == other;
}

/* An `ending` is asked for where it is but in one iteration; what is carried, where it is known to be. */
static void add_ask(wg_loop_plan *l, wg_loop_kernel *product, const wg_loop_reference *r, const wg_loop_region *g, bool later) {
    const wg_loop_slot *s = &l->slots[r->slot];
    const bool ending = s->kind == WG_SLOT_ENDING && s->shift == 0, carried = s->kind == WG_SLOT_CARRIED && !later;
    const uint32_t slot = ending ? s->next : r->slot;
    if (r->in_block || product->asks == WG_MOST_ASKS || !is_far(l, &l->slots[ending || carried ? s->next : slot]))
        return;
    for (uint32_t k = product->first_ask; k < l->ask_count; k++)
        if (l->asks[k].later == later && same_place(l, l->asks[k].slot, slot))
            return;
    const int64_t bytes = g->columns * (int64_t)wg_dtype_size(g->dtype);
    l->asks[l->ask_count++] = (wg_loop_ask){slot, later, (bytes + WG_LINE_BYTES - 1) / WG_LINE_BYTES};
    product->asks++;
}

/* Every product asks for what the regions up to the next one will read, and write other than past the caches; the last, for those before the first.
 * That of one row asks for nothing (LEAST_ROWS, core/packed.c). */
static void add_asks(wg_loop_plan *l) {
    for (int64_t k = 0; k < l->kernel_count && l->loop->rows > 1; k++) {
        wg_loop_kernel *product = &l->kernels[k];
        product->first_ask = (uint32_t)l->ask_count;
        for (int64_t n = k + 1; product->product && n < k + l->kernel_count; n++) {
            const wg_loop_kernel *then = &l->kernels[n % l->kernel_count];
            if (then->product)
                break;
            if (!then->region)
                continue;
            const wg_loop_region *g = &l->regions[then->region - 1];
            for (const wg_loop_step *s = l->steps + g->first, *end = s + g->count; s < end; s++)
                for (uint32_t o = 0; o < wanted_of(s); o++)
                    add_ask(l, product, &l->references[s->refers + o], g, n >= l->kernel_count);
        }
    }
}

int64_t wg__loop_asks(const wg_loop_plan *l, const wg_loop_kernel *product, char *const *at, int64_t t, int64_t rows, wg_soon *soon) {
    int64_t count = 0;
    for (const wg_loop_ask *q = l->asks + product->first_ask, *end = q + product->asks; q < end; q++) {
        const wg_loop_slot *s = &l->slots[q->slot];
        if (!q->later || t + 1 < l->loop->times)
            soon[count++] = (wg_soon){at[q->slot] + (q->later ? s->step : 0), s->row, q->lines, rows};
    }
    return count;
}

/* Which kernels a strip runs through. */
static void find_strips(wg_loop_plan *l) {
    for (int64_t k = 0, end; k < l->kernel_count; k = end) {
        const uint32_t until = l->loop->strip ? wg__together(l->program, l->loop, l->kernels[k].id) : 0;
        for (end = k + 1; end < l->kernel_count && l->kernels[end].id < until;)
            end++;
        for (int64_t of = k; of < end; of++)
            l->kernels[of].until = (uint32_t)end;
    }
}

/* What `last` takes out of the loop. */
static void add_results(maker *m) {
    wg_program *p = m->program;
    wg_loop_plan *l = m->plan;
    for (uint32_t id = l->loop->edges; id; id = p->values[id].edge) {
        const wg_instruction *i = &p->list[id];
        if (i->op != &wg__op_last)
            continue;
        l->results[l->result_count++] = (wg_loop_result){slot_for(m, i->in[0], l->loop->rows), slot_for(m, id, l->loop->rows), id,
                                                         wg__folds_rows(l->loop, &p->list[i->in[0]])};
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
    l->sums = wg__take(p->memory, wg__size((size_t)kernels, sizeof *l->sums, 1));
    l->references = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->references, 1));
    l->movings = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->movings, 1));
    l->kept = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->kept, 1));
    l->asks = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->asks, 1));
    l->spreads = wg__take(p->memory, wg__size((size_t)operands, sizeof *l->spreads, 1));
    return l->regions && l->steps && l->sums && l->references && l->movings && l->kept && l->asks && l->spreads && l->kernels && l->operands && l->results;
}

static wg_move move_of(const wg_loop_slot *s) {
    if (s->kind == WG_SLOT_CARRIED)
        return WG_MOVE_CARRIED;
    if (s->kind == WG_SLOT_ENDING)
        return WG_MOVE_ENDING;
    return s->twice ? WG_MOVE_TWICE : s->step ? WG_MOVE_STEP : WG_MOVES;
}

/* Calls itself as slot_for does. */
static void need(wg_loop_plan *l, uint32_t slot) {
    wg_loop_slot *s = &l->slots[slot];
    if (s->needed)
        return;
    s->needed = true;
    if (s->kind == WG_SLOT_CARRIED || s->kind == WG_SLOT_ENDING)
        need(l, s->next);
    if (s->kind == WG_SLOT_ENDING)
        need(l, s->first);
}

/* Notes the references of a region whose addresses are kept: those that move by a step; or else the others, which follow a slot. */
static void keep_references(wg_loop_plan *l, const wg_loop_region *g, bool stepping) {
    for (const wg_loop_moving *v = l->movings + g->first_moving, *end = v + g->movings; v < end; v++) {
        const wg_loop_slot *s = &l->slots[v->slot];
        const wg_move how = move_of(s);
        if (how == WG_MOVES || (how == WG_MOVE_STEP) != stepping)
            continue;
        l->kept[l->kept_count++] = (wg_loop_kept){v->reference, v->slot, s->step};
        if (!stepping)
            need(l, v->slot);
    }
}

static void find_kept(wg_loop_plan *l) {
    for (int stepping = 1; stepping >= 0; stepping--) {
        for (int64_t g = 0; g < l->region_count; g++)
            if (l->regions[g].once)
                keep_references(l, &l->regions[g], stepping);
        l->kept_stepping = stepping ? l->kept_count : l->kept_stepping;
    }
}

/* The slots that are read other than through kept references. */
static void find_needed(wg_loop_plan *l) {
    for (int64_t g = 0; g < l->region_count; g++) {
        const wg_loop_region *r = &l->regions[g];
        for (uint32_t k = 0; k < r->movings && !r->once; k++)
            need(l, l->movings[r->first_moving + k].slot);
    }
    for (int64_t k = 0; k < l->spread_count; k++)
        need(l, l->spreads[k].slot);
    for (int64_t k = 0; k < l->ask_count; k++)
        need(l, l->asks[k].slot);
    for (int64_t k = 0; k < l->operand_count; k++)
        need(l, l->operands[k].slot);
    for (int64_t k = 0; k < l->result_count; k++)
        need(l, l->results[k].slot), need(l, l->results[k].to);
}

static void sort_moves(maker *m) {
    wg_loop_plan *l = m->plan;
    int64_t count = 0;
    l->moved = wg__take(m->program->memory, wg__size((size_t)l->slot_count, sizeof *l->moved, 1));
    m->failed = !l->moved;
    for (wg_move how = 0; how < WG_MOVES && l->moved; l->moved_until[how++] = count)
        for (uint32_t s = 0; s < l->slot_count; s++)
            if (l->slots[s].needed && move_of(&l->slots[s]) == how)
                l->moved[count++] = s;
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
    if (!m.failed)
        find_strips(l), add_asks(l), find_kept(l), find_needed(l), sort_moves(&m);
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
    wg__give(memory, l->moved);
    wg__give(memory, l->kernels);
    wg__give(memory, l->operands);
    wg__give(memory, l->results);
    wg__give(memory, l->regions);
    wg__give(memory, l->steps);
    wg__give(memory, l->sums);
    wg__give(memory, l->references);
    wg__give(memory, l->movings);
    wg__give(memory, l->kept);
    wg__give(memory, l->asks);
    wg__give(memory, l->spreads);
    wg__give(memory, l);
}
