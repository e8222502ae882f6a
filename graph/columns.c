/* columns.c: in loops, what is read in slices of its last axis is computed slice by slice, and what is computed of values side by side is
 * computed beside them: gates that a cell takes out of one sum then run in one region with what is made of them, and lie where gates with
 * names of their own would. Changes no value. Names the ops that it is about: slice, concat and sum_to; and constant, which has no inside. */
#include "foreign.h"
#include "known.h"
#include "loop.h"
#include "make.h"
#include "ops.h"

#include <string.h>

enum { MOST_PIECES = 16 };

/* A value in pieces along its last axis: piece k has columns [at[k], at[k + 1]). */
typedef struct pieces {
    uint32_t count; /* of pieces; 0: it stays whole */
    int64_t at[MOST_PIECES + 1];
    uint32_t made[MOST_PIECES]; /* new ids */
} pieces;

/* What has been made of a new value: columns of it, in this loop or (0) outside; or a stack. Columns of a value from outside are made before
 * the loops that read them. */
typedef struct derived {
    enum { COLUMNS, STACK, STACK_BACKWARD } kind;
    uint32_t of, made, loop;
    int64_t from, count;
} derived;

typedef struct cutter {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *number;   /* by old id of a loop's value: 1 + its pieces; 0: none */
    bool *whole;        /* by old id: something reads it whole; */
    bool *beside;       /* it is made of what is side by side, or in pieces for that reason: in pieces it is, whatever reads it */
    uint32_t *unlike;   /* by old id of a carry: 1 + how many of its readers are in no such pieces as it would be in; 0: it is not looked at */
    pieces *all;
    int64_t count, room;
    derived *derived;
    int64_t derived_room;
    wg_known known; /* of those */
} cutter;

static const wg_instruction *old(const cutter *m, uint32_t id) { return &m->p->list[id]; }
static int64_t columns(const wg_instruction *i) { return i->shape->dim[i->shape->rank - 1]; }

/* Its pieces; NULL if it is whole. */
static pieces *pieces_of(const cutter *m, uint32_t id) {
    pieces *p = m->number[id] ? &m->all[m->number[id] - 1] : NULL;
    return p && p->count ? p : NULL;
}

/* Whether an op works along its last axis in one place, and so on any columns alone. */
static bool goes_by_columns(const cutter *m, const wg_instruction *i) {
    if (!i->loop || i->shape->rank < 1 || columns(i) < 2 || wg__bound_of(i->op))
        return false;
    if (i->op == &wg__op_sum_to)
        return columns(old(m, i->in[0])) == columns(i);
    bool same = i->op->kind == WG_POINTWISE;
    for (uint32_t k = 0; k < i->n && same; k++)
        same = old(m, wg__reads_const(i)[k])->shape == i->shape;
    return same;
}

/* Whether it takes columns of a value of its own loop, and which. */
static bool takes_columns(const cutter *m, const wg_instruction *i, const wg_slice_attr **taken) {
    *taken = i->op == &wg__op_slice ? i->attr : NULL;
    return *taken && i->loop && i->loop == old(m, i->in[0])->loop && wg__axis((int)(*taken)->axis, i->shape->rank) == i->shape->rank - 1;
}

/* Whether it puts values side by side that ops of its loop work out by columns. */
static bool joins_columns(const cutter *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    bool joins = wg__is_side_by_side(i) && i->n <= MOST_PIECES;
    for (uint32_t k = 0; k < i->n && joins; k++) {
        const wg_instruction *part = old(m, wg__reads_const(i)[k]);
        joins = part->op->kind == WG_POINTWISE && part->loop == i->loop && columns(part) > 0;
    }
    return joins;
}

/* ---- finding ---- */

/* Cuts a value before a column. One that would be cut into too many pieces stays whole from then on. */
static bool cut(cutter *m, uint32_t id, int64_t column) {
    if (!m->number[id]) {
        if (!wg__room(m->p->memory, (void **)&m->all, m->count, &m->room, sizeof *m->all))
            return !(m->r.failed = true);
        m->all[m->count++] = (pieces){.count = 1, .at = {0, columns(old(m, id))}};
        m->number[id] = (uint32_t)m->count;
    }
    pieces *p = &m->all[m->number[id] - 1];
    uint32_t k = 0;
    while (k <= p->count && p->at[k] < column)
        k++;
    if (!p->count || p->at[k] == column)
        return p->count;
    if (p->count == MOST_PIECES) {
        p->count = 0;
        return false;
    }
    for (uint32_t j = ++p->count; j > k; j--)
        p->at[j] = p->at[j - 1];
    p->at[k] = column;
    return true;
}

/* Cuts a value where another is cut. The list of pieces may move meanwhile. */
static void cut_like(cutter *m, uint32_t id, uint32_t other) {
    for (uint32_t k = 1; pieces_of(m, other) && k < pieces_of(m, other)->count; k++)
        if (!cut(m, id, pieces_of(m, other)->at[k]))
            return;
}

/* What is computed of values side by side, or in pieces. */
static void find_made(cutter *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *i = old(m, id);
        for (uint32_t k = 0; k < i->n && goes_by_columns(m, i); k++) {
            const uint32_t in = wg__reads_const(i)[k];
            const wg_instruction *c = old(m, in);
            cut_like(m, id, in);
            int64_t at = 0;
            for (uint32_t part = 0; joins_columns(m, in) && part + 1 < c->n; part++)
                cut(m, id, at += columns(old(m, wg__reads_const(c)[part])));
        }
        m->beside[id] = m->number[id];
    }
}

/* What is read in columns alone, from the last reader to the first: stacks of it may want it whole, they are made of what it is in pieces. */
static void find_read(cutter *m) {
    const wg_slice_attr *s;
    for (uint32_t id = (uint32_t)m->p->count - 1; id > 0; id--) {
        const wg_instruction *i = old(m, id);
        if (m->whole[id] && !m->beside[id])
            m->number[id] = 0;
        const bool taken = i->loop && takes_columns(m, i, &s) && goes_by_columns(m, old(m, i->in[0])), apart = pieces_of(m, id) && !taken;
        if (taken) {
            cut(m, i->in[0], s->from);
            cut(m, i->in[0], s->from + s->count);
        }
        for (uint32_t k = 0; k < i->n && i->loop && !taken; k++) {
            const uint32_t in = wg__reads_const(i)[k];
            if (apart && goes_by_columns(m, old(m, in)) && old(m, in)->loop == i->loop && old(m, in)->op->kind == WG_POINTWISE)
                cut_like(m, in, id);
            else
                m->whole[in] = true;
        }
    }
}

/* Whether it is elements of a stack of a loop's value, and for every iteration. */
static bool is_kept(const cutter *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    const wg_element_attr *e = i->op == &wg__op_element ? i->attr : NULL;
    return e && old(m, i->in[0])->op == &wg__op_stacked && !e->late && !e->fewer;
}

/* What is kept of something in pieces is so, too. */
static void find_kept(cutter *m) {
    for (uint32_t id = 1; id < m->p->count; id++)
        if (is_kept(m, id))
            cut_like(m, id, old(m, old(m, id)->in[0])->in[0]);
}

static bool same_pieces(const pieces *a, const pieces *b) {
    bool same = a && b && a->count == b->count;
    for (uint32_t k = 1; same && k < a->count; k++)
        same = a->at[k] == b->at[k];
    return same;
}

/* What is carried in pieces by all that reads it is carried so. */
static void find_carried(cutter *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *i = old(m, id);
        if (wg__is_carry(i) && i->shape->rank >= 1 && pieces_of(m, i->in[1]) && old(m, i->in[1])->loop == i->loop)
            m->unlike[id] = 1;
        for (uint32_t k = 0; k < i->n; k++) {
            const uint32_t in = wg__reads_const(i)[k];
            if (m->unlike[in] && !wg__reads_back(i, k) && !same_pieces(pieces_of(m, id), pieces_of(m, old(m, in)->in[1])))
                m->unlike[in]++;
        }
    }
    for (uint32_t id = 1; id < m->p->count; id++)
        if (m->unlike[id] == 1 && !m->number[id])
            cut_like(m, id, old(m, id)->in[1]);
}

/* ---- making ---- */

/* What has been made so of a value before, with `made`; if nothing, then a new entry, whose `made` is 0. NULL when out of memory. */
static derived *derived_of(cutter *m, derived like) {
    uint64_t hash = wg__mix(wg__mix(wg__mix(wg__mix(like.kind, like.of), (uint64_t)like.from), (uint64_t)like.count), like.loop), probe = 0;
    for (int64_t k; (k = wg__known_next(&m->known, hash, &probe)) >= 0;) {
        derived *d = &m->derived[k];
        if (d->kind == like.kind && d->of == like.of && d->from == like.from && d->count == like.count && d->loop == like.loop)
            return d;
    }
    const int64_t at = m->known.count;
    if (!wg__room(m->p->memory, (void **)&m->derived, at, &m->derived_room, sizeof *m->derived) || !wg__known_enter(&m->known, hash)) {
        m->r.failed = true;
        return NULL;
    }
    m->derived[at] = like;
    return &m->derived[at];
}

/* A constant of so many columns. */
static uint32_t narrower(cutter *m, const wg_instruction *constant, int64_t count) {
    wg_instruction i = *constant;
    int64_t dim[WG_MAX_RANK];
    wg_shape shape;
    memcpy(dim, i.shape->dim, sizeof dim);
    dim[i.shape->rank - 1] = count;
    wg__shape_set(&shape, i.shape->rank, dim);
    i.shape = wg__program_shape(m->r.program, &shape);
    return i.shape ? wg__rewrite_add(&m->r, &i) : 0;
}

/* Columns of a new value, of this loop or (0) of none. */
static uint32_t slice_of(cutter *m, uint32_t of, int64_t from, int64_t count, uint32_t loop) {
    const bool constant = of && m->r.list[of].op == &wg__op_constant; /* the columns of which are all the same */
    derived *d = m->r.failed ? NULL : derived_of(m, (derived){.of = of, .from = constant ? 0 : from, .count = count, .loop = loop});
    if (d && !d->made)
        d->made = constant ? narrower(m, &m->r.list[of], count) : wg__make_slice(&m->r, of, m->r.list[of].shape->rank - 1, from, count, loop);
    m->r.failed = m->r.failed || !d->made;
    return m->r.failed ? 0 : d->made;
}

/* The stack of a new value. */
static uint32_t stack_of(cutter *m, uint32_t of, const wg_stacked_attr *a) {
    derived *d = m->r.failed ? NULL : derived_of(m, (derived){.kind = a->backward ? STACK_BACKWARD : STACK, .of = of});
    if (d && !d->made)
        d->made = wg__make_stacked(&m->r, of, a->times, a->backward);
    return m->r.failed ? 0 : d->made;
}

static void enter_loop(cutter *m, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const pieces *p = is_kept(m, id) ? NULL : pieces_of(m, id);
        for (uint32_t k = 0; p && k < old(m, id)->n; k++)
            for (uint32_t j = 0; j < p->count; j++)
                if (!old(m, wg__reads_const(old(m, id))[k])->loop)
                    slice_of(m, m->r.to[wg__reads_const(old(m, id))[k]], p->at[j], p->at[j + 1] - p->at[j], 0);
    }
}

/* Columns of a value. */
static uint32_t columns_of(cutter *m, uint32_t id, int64_t from, int64_t count) {
    const wg_instruction *i = old(m, id);
    const pieces *p = pieces_of(m, id);
    for (uint32_t k = 0; p && k < p->count; k++)
        if (p->at[k] <= from && from + count <= p->at[k + 1])
            return slice_of(m, p->made[k], from - p->at[k], count, i->loop);
    int64_t at = 0;
    for (uint32_t k = 0; !p && joins_columns(m, id) && k < i->n; k++) {
        const uint32_t part = wg__reads_const(i)[k];
        if (at <= from && from + count <= at + columns(old(m, part)))
            return columns_of(m, part, from - at, count);
        at += columns(old(m, part));
    }
    return slice_of(m, m->r.to[id], from, count, i->loop);
}

/* One piece of what an instruction computes. */
static uint32_t piece_of(cutter *m, uint32_t id, int64_t from, int64_t count) {
    const wg_instruction *i = old(m, id);
    uint32_t *in = wg__arena_take(&m->r.program->arena, (i->n + 1) * sizeof *in);
    if (!in)
        return !(m->r.failed = true);
    for (uint32_t k = 0; k < i->n; k++)
        in[k] = wg__is_carry(i) && k == 1 ? 0 : columns_of(m, wg__reads_const(i)[k], from, count);
    if (m->r.failed)
        return 0;
    if (wg__is_carry(i)) {
        wg_instruction carry = *i;
        carry.shape = m->r.list[in[0]].shape;
        carry.in[0] = in[0], carry.in[1] = 0; /* until that is made */
        return wg__rewrite_add(&m->r, &carry);
    }
    wg_dims to = wg__dims(i->shape->rank, i->shape->dim);
    to.dim[i->shape->rank - 1] = count;
    return wg__make(&m->r, i->op, i->op == &wg__op_sum_to ? &to : i->attr, i->n, in, i->loop, i->origin);
}

/* Elements of a stack of what is in pieces, piece by piece. */
static uint32_t kept_in_pieces(cutter *m, uint32_t id, pieces *p) {
    const wg_instruction *i = old(m, id);
    const pieces *source = pieces_of(m, old(m, i->in[0])->in[0]);
    for (uint32_t k = 0; k < p->count && !m->r.failed; k++) {
        const uint32_t all = stack_of(m, source->made[k], old(m, i->in[0])->attr);
        p->made[k] = m->r.failed ? 0 : wg__make(&m->r, &wg__op_element, i->attr, 1, &all, i->loop, i->origin);
    }
    return m->r.failed ? 0 : wg__rewrite_keep(&m->r, id);
}

/* All pieces, and side by side what reads it whole: that is dead if nothing does. */
static uint32_t in_pieces(cutter *m, uint32_t id, pieces *p) {
    for (uint32_t k = 0; k < p->count && !m->r.failed; k++) {
        p->made[k] = piece_of(m, id, p->at[k], p->at[k + 1] - p->at[k]);
        m->r.failed = m->r.failed || !p->made[k];
    }
    return m->r.failed ? 0 : wg__make_concat(&m->r, p->count, p->made, old(m, id)->shape->rank - 1, old(m, id)->loop);
}

/* What the carries of a loop read back. */
static void leave_loop(cutter *m, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const pieces *p = wg__is_carry(old(m, id)) ? pieces_of(m, id) : NULL;
        for (uint32_t k = 0; p && k < p->count; k++)
            m->r.list[p->made[k]].in[1] = pieces_of(m, old(m, id)->in[1])->made[k];
    }
}

/* The last of what is carried in pieces. */
static uint32_t last_of(cutter *m, uint32_t id, const pieces *p) {
    uint32_t last[MOST_PIECES];
    for (uint32_t k = 0; k < p->count; k++)
        last[k] = wg__make(&m->r, &wg__op_last, NULL, 1, &p->made[k], 0, old(m, id)->origin);
    return m->r.failed ? 0 : wg__make_concat(&m->r, p->count, last, old(m, id)->shape->rank - 1, 0);
}

static uint32_t rewritten(cutter *m, uint32_t id, const bool *carried) {
    const wg_instruction *i = old(m, id);
    const wg_slice_attr *s;
    pieces *p = pieces_of(m, id);
    if (p)
        return is_kept(m, id) ? kept_in_pieces(m, id, p) : in_pieces(m, id, p);
    if (takes_columns(m, i, &s) && pieces_of(m, i->in[0]))
        return columns_of(m, i->in[0], s->from, s->count);
    if (i->op == &wg__op_stacked) { /* piece by piece, for who reads elements of it so */
        p = pieces_of(m, i->in[0]);
        for (uint32_t k = 0; p && k < p->count && !m->r.failed; k++)
            stack_of(m, p->made[k], i->attr);
        return stack_of(m, m->r.to[i->in[0]], i->attr);
    }
    if (i->op == &wg__op_last && carried[i->in[0]])
        return last_of(m, id, pieces_of(m, i->in[0]));
    return wg__rewrite_keep(&m->r, id);
}

static bool rewrite(cutter *m) {
    bool *carried = m->whole; /* anew: by old id: carries carry it in pieces */
    for (uint32_t id = 0; id < m->p->count; id++)
        carried[id] = false;
    for (uint32_t id = 1; id < m->p->count; id++)
        if (wg__is_carry(old(m, id)) && pieces_of(m, id))
            carried[old(m, id)->in[1]] = true;
    if (!wg__rewrite_begin(&m->r, m->r.program))
        return false;
    for (uint32_t id = 1; id < m->p->count && !m->r.failed; id++) {
        const wg_loop *loop = old(m, id)->loop ? &m->p->loops[old(m, id)->loop - 1] : NULL;
        if (loop && loop->from == id)
            enter_loop(m, loop);
        m->r.to[id] = m->r.failed ? 0 : rewritten(m, id, carried);
        m->r.failed = m->r.failed || !m->r.to[id];
        if (!m->r.failed && loop && loop->to == id + 1)
            leave_loop(m, loop);
    }
    return !m->r.failed;
}

wg_status wg__pass_columns(wg_program *p, wg_error *error) {
    const size_t n = (size_t)p->count;
    cutter m = {.r.program = p, .p = p, .known.memory = p->memory};
    m.number = wg__take0(p->memory, wg__size(n, 2 * sizeof *m.number, 0));
    m.whole = wg__take0(p->memory, wg__size(n, 2 * sizeof *m.whole, 0));
    bool good = m.number && m.whole;
    if (good) {
        m.unlike = m.number + n, m.beside = m.whole + n;
        for (uint32_t id = 1; id < p->count; id++)
            if (wg__is_carry(old(&m, id)))
                m.whole[old(&m, id)->in[1]] = true;
        find_made(&m);
        find_read(&m);
        find_kept(&m);
        find_carried(&m);
        good = !m.r.failed && (m.count == 0 || rewrite(&m));
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good && m.count > 0);
    wg__give(p->memory, m.number);
    wg__give(p->memory, m.whole);
    wg__give(p->memory, m.all);
    wg__give(p->memory, m.derived);
    wg__known_free(&m.known);
    return status == WG_OK && good && m.count ? wg__prune(p, error) : status;
}
