/* roll.c: steps that are the same program become one loop. The steps of an unroll, and of its derivatives, are marked on the
 * tape; where steps are equal but for operands that move along by a constant (element t of an array, a value of the step
 * before, step t of another loop), one body is kept, with the moving operands made explicit. What is the same in all steps
 * goes before the loop. Steps that fit no neighbour are loops of one iteration. Names one op, concat, whose operands are the
 * steps of a sequence. */
#include "loop.h"
#include "steps.h"

#include <string.h>

extern const wg_op wg__op_concat, wg__op_slice, wg__op_reshape;

/* Segments [first, end) as one loop. */
typedef struct rolled {
    uint32_t first, end;
    uint32_t number;   /* in the program */
    uint32_t made;     /* the new indices of its body, from roller.made */
} rolled;

/* What waits to be made for readers outside of loops: from its operand `next` on it is not known what it waits for. */
typedef struct waiting {
    uint32_t id, next;
} waiting;

typedef wg_segment segment;
typedef wg_operand_place place;

/* An operand of a step at an end of a loop that is something else than where the pattern says. */
typedef struct special {
    int64_t slot, segment;
    uint32_t id;   /* old */
    uint32_t next; /* 1 + index of the one of the slot noted before */
} special;

typedef struct roller {
    wg_rewrite r;
    wg_steps s;
    rolled *loops;
    int64_t loop_count, loop_room;
    uint32_t *made;       /* new ids of the loops' bodies */
    int64_t made_count;
    uint32_t *stacked;    /* like made: the new id of `stacked`, once there is one */
    uint32_t *last;       /* like made: of `last` */
    uint32_t *outer;      /* by old id: the new id that stands for it outside its loop */
    place *pattern;       /* of the loop being made: a place for every operand of its body */
    uint32_t *init;       /* beside it: old id of what the first iteration reads, where that is carried */
    uint32_t *special;    /* beside it: 1 + index of the latest operand that does not follow it; 0: there is none */
    special *specials;    /* of the loop being made */
    int64_t special_count, special_room;
    int64_t slots;
    waiting *waiting;
    int64_t waiting_count, waiting_room;
    bool failed;
} roller;

static const wg_instruction *old(const roller *w, uint32_t id) { return &w->r.program->list[id]; }

/* The place that a reader at a step expects of a pattern learnt `steps` before. */
static place expected(place p, int64_t steps) {
    if (p.sort == WG_ELEMENT || p.sort == WG_OTHER)
        p.at += p.step * steps;
    return p;
}

/* Whether operand `id` of a reader is what the pattern says. What is of another run must be in one loop with that. */
static bool is_at(const roller *w, uint32_t id, const segment *reader, place p, int64_t steps) {
    if (p.sort == WG_OUTSIDE)
        return id == p.of;
    place is = wg__place_of(&w->s, id, reader), want = expected(p, steps);
    return is.sort == want.sort && is.of == want.of && is.at == want.at &&
           (p.sort != WG_OTHER || w->s.segments[is.at].loop == w->s.segments[p.at].loop);
}

/* Learns from two neighbouring steps how operands move; places are as the first sees them. */
static bool learn(roller *w, const segment *a, const segment *b) {
    int64_t slot = 0;
    for (uint32_t k = 0; k < a->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, a, k)), *j = old(w, wg__body_of(&w->s, b, k));
        for (uint32_t n = 0; n < i->n; n++, slot++) {
            uint32_t x = wg__reads_const(i)[n], y = wg__reads_const(j)[n];
            place p = wg__place_of(&w->s, x, a), q = wg__place_of(&w->s, y, b);
            if (x == y && p.sort != WG_SAME)
                p = q = (place){WG_OUTSIDE, x, 0, 0};
            if (p.sort != q.sort || p.of != q.of || (p.sort == WG_SAME && (p.at != q.at || p.at > 1)))
                return false;
            if (p.sort == WG_OTHER && w->s.segments[p.at].loop != w->s.segments[q.at].loop)
                return false;
            p.step = q.at - p.at;
            w->pattern[slot] = p;
            w->init[slot] = w->special[slot] = 0;
        }
    }
    w->slots = slot;
    return true;
}

/* Whether a step, `steps` after the one learnt from, is as expected. */
static bool fits(const roller *w, const segment *g, int64_t steps) {
    int64_t slot = 0;
    for (uint32_t k = 0; k < g->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, g, k));
        for (uint32_t n = 0; n < i->n; n++, slot++)
            if (!is_at(w, wg__reads_const(i)[n], g, w->pattern[slot], steps))
                return false;
    }
    return true;
}

/* Notes an operand that does not follow the pattern, but may be chosen by iteration: where others move along, or are constant. */
static bool note_special(roller *w, int64_t slot, const segment *g, uint32_t in, uint32_t like) {
    place p = w->pattern[slot], q = wg__place_of(&w->s, in, g);
    bool may = p.sort == WG_ELEMENT || p.sort == WG_OTHER || (p.sort == WG_OUTSIDE && old(w, p.of)->op == &wg__op_constant);
    if (!may || q.sort == WG_SAME || old(w, in)->shape != old(w, like)->shape || old(w, in)->dtype != old(w, like)->dtype)
        return false;
    if (!wg__room(w->r.program->memory, (void **)&w->specials, w->special_count, &w->special_room, sizeof *w->specials))
        return !(w->failed = true);
    w->specials[w->special_count++] = (special){slot, g - w->s.segments, in, w->special[slot]};
    w->special[slot] = (uint32_t)w->special_count;
    return true;
}

static void drop_specials(roller *w, int64_t count) {
    for (; w->special_count > count; w->special_count--) {
        const special *s = &w->specials[w->special_count - 1];
        w->special[s->slot] = s->next;
    }
}

/* Whether a step, `steps` after the one learnt from (or before), can be one of the ends of the loop: it may read something else where
 * that can be chosen; and, as the first iteration, anything made before where others read of the step before. Notes what. */
static bool fits_as_end(roller *w, const segment *g, int64_t steps, bool first) {
    int64_t slot = 0, had = w->special_count;
    for (uint32_t k = 0; k < g->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, g, k)), *learnt = old(w, wg__body_of(&w->s, g - steps, k));
        for (uint32_t n = 0; n < i->n; n++, slot++) {
            uint32_t in = wg__reads_const(i)[n], like = wg__reads_const(learnt)[n];
            place p = wg__place_of(&w->s, in, g), q = w->pattern[slot];
            bool carried = first && q.sort == WG_SAME && q.at == 1;
            bool fits = carried ? !(p.sort == WG_SAME && p.at == 0) && old(w, in)->shape == old(w, like)->shape && old(w, in)->dtype == old(w, like)->dtype
                                : is_at(w, in, g, q, steps) || note_special(w, slot, g, in, like);
            if (carried)
                w->init[slot] = in;
            if (!fits) {
                drop_specials(w, had);
                return false;
            }
        }
    }
    return true;
}

/* The pattern of one step alone: everything it does not make itself is as it is. */
static void single(roller *w, const segment *g) {
    int64_t slot = 0;
    for (uint32_t k = 0; k < g->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, g, k));
        for (uint32_t n = 0; n < i->n; n++, slot++) {
            uint32_t in = wg__reads_const(i)[n];
            place p = wg__place_of(&w->s, in, g);
            w->init[slot] = w->special[slot] = 0;
            w->pattern[slot] = p.sort == WG_ELEMENT || (p.sort == WG_SAME && p.at == 0) ? p : (place){WG_OUTSIDE, in, 0, 0};
        }
    }
    w->slots = slot;
}

/* ---- values seen from outside ---- */

static uint32_t checked(roller *w, uint32_t id) {
    w->failed = w->failed || !id;
    return id;
}

static void *keep(roller *w, const void *bytes, size_t size) {
    void *kept = wg__arena_take(&w->r.program->arena, size);
    if (kept)
        memcpy(kept, bytes, size);
    else
        w->failed = true;
    return kept;
}

static const wg_shape *shape_with(roller *w, int64_t first, const wg_shape *rest) {
    int64_t dim[WG_MAX_RANK + 1] = {first};
    wg_shape shape;
    memcpy(dim + 1, rest->dim, sizeof *dim * (size_t)rest->rank);
    if (rest->rank == WG_MAX_RANK || wg__shape_set(&shape, rest->rank + 1, dim) != WG_OK)
        return NULL;
    return wg__program_shape(w->r.program, &shape);
}

/* All iterations of instruction `k` of a loop's body: of derivatives the last first, so that time goes up. */
static uint32_t stacked_of(roller *w, const rolled *l, uint32_t k) {
    uint32_t *memo = &w->stacked[l->made + k];
    if (*memo)
        return *memo;
    const wg_instruction *v = &w->r.list[w->made[l->made + k]];
    int64_t times = l->end - l->first;
    wg_stacked_attr attr = {times, w->s.segments[l->first].step < 0};
    wg_instruction i = {.op = &wg__op_stacked, .shape = shape_with(w, times, v->shape), .n = 1, .dtype = v->dtype,
                        .in = {w->made[l->made + k]}, .origin = v->origin, .attr = keep(w, &attr, sizeof attr)};
    if (!i.shape)
        w->failed = true;
    return *memo = w->failed ? 0 : checked(w, wg__rewrite_add(&w->r, &i));
}

static int64_t index_in_stack(const roller *w, const rolled *l, int64_t segment_index) {
    int64_t iteration = segment_index - l->first;
    return w->s.segments[l->first].step < 0 ? (int64_t)l->end - l->first - 1 - iteration : iteration;
}

static uint32_t add_slice(roller *w, uint32_t array, int64_t from, int64_t count) {
    const wg_instruction *a = &w->r.list[array];
    const int64_t attr[3] = {0, from, count};
    wg_shape shape = *a->shape;
    if (from == 0 && count == shape.dim[0])
        return array;
    shape.dim[0] = count;
    wg__shape_set(&shape, shape.rank, shape.dim);
    wg_instruction i = {.op = &wg__op_slice, .shape = wg__program_shape(w->r.program, &shape), .n = 1, .dtype = a->dtype,
                        .in = {array}, .attr = keep(w, attr, sizeof attr)};
    return i.shape && i.attr ? checked(w, wg__rewrite_add(&w->r, &i)) : checked(w, 0);
}

static uint32_t add_reshape(roller *w, uint32_t value, const wg_shape *shape) {
    wg_dims dims = wg__dims(shape->rank, shape->dim);
    wg_instruction i = {.op = &wg__op_reshape, .shape = shape, .n = 1, .dtype = w->r.list[value].dtype, .in = {value},
                        .attr = keep(w, &dims, sizeof dims)};
    return i.attr ? checked(w, wg__rewrite_add(&w->r, &i)) : checked(w, 0);
}

/* A value of a loop at one iteration, for readers outside it. */
static uint32_t picked(roller *w, uint32_t id) {
    int64_t at = w->s.in_segment[id] - 1;
    const rolled *l = &w->loops[w->s.segments[at].loop - 1];
    uint32_t k = w->s.position[id];
    if (at + 1 == (int64_t)l->end && !w->stacked[l->made + k]) {
        const wg_instruction *v = &w->r.list[w->made[l->made + k]];
        wg_instruction i = {.op = &wg__op_last, .shape = v->shape, .n = 1, .dtype = v->dtype, .in = {w->made[l->made + k]},
                            .origin = v->origin};
        uint32_t *memo = &w->last[l->made + k];
        return *memo ? *memo : (*memo = checked(w, wg__rewrite_add(&w->r, &i)));
    }
    uint32_t all = stacked_of(w, l, k);
    if (w->failed)
        return 0;
    uint32_t one = add_slice(w, all, index_in_stack(w, l, at), 1);
    return w->failed ? 0 : add_reshape(w, one, old(w, id)->shape);
}

static uint32_t outside(roller *w, uint32_t id);

/* An operand of a concat as one of a sequence: iteration `at` of a loop's value, or element `at` of an array outside. */
typedef struct part {
    const rolled *of; /* NULL: of the array */
    uint32_t position, array;
    int64_t at;
    bool flat; /* its first axis is the value's own; else one more, of size 1 */
} part;

static bool is_iteration(const roller *w, uint32_t id, part *made) {
    if (!wg__in_body(&w->s, id))
        return false;
    int64_t number = w->s.in_segment[id] - 1;
    const rolled *of = &w->loops[w->s.segments[number].loop - 1];
    made->of = of;
    made->position = w->s.position[id];
    made->at = index_in_stack(w, of, number);
    return true;
}

static bool part_of(const roller *w, uint32_t id, part *made) {
    const wg_instruction *i = old(w, id);
    const wg_shape *s = i->shape;
    *made = (part){0};
    const wg_shape *v = i->op == &wg__op_reshape ? old(w, i->in[0])->shape : NULL;
    bool one_more = v && s->rank == v->rank + 1 && s->dim[0] == 1 && memcmp(s->dim + 1, v->dim, sizeof *s->dim * (size_t)v->rank) == 0;
    if (one_more && is_iteration(w, i->in[0], made))
        return true;
    made->flat = true;
    if (!w->s.array[id])
        return s->rank > 0 && is_iteration(w, id, made);
    made->array = w->s.array[id];
    made->at = w->s.element[id];
    return s->rank > 0;
}

static bool follows(const part *first, const part *next, int64_t count) {
    return next->of == first->of && next->position == first->position && next->array == first->array && next->flat == first->flat &&
           next->at == first->at + count;
}

/* The longest run of a concat's operands, from `k` on, that are neighbouring iterations of one value, or neighbouring elements of one
 * array: how many, and the slice of its stack, or of the array. */
static uint32_t neighbours(roller *w, const wg_instruction *c, uint32_t k, uint32_t *count) {
    const uint32_t *in = wg__reads_const(c);
    part first, next;
    *count = part_of(w, in[k], &first);
    while (*count && k + *count < c->n && part_of(w, in[k + *count], &next) && follows(&first, &next, *count))
        ++*count;
    if (*count < 2)
        return *count = 0;
    uint32_t all = first.of ? stacked_of(w, first.of, first.position) : outside(w, first.array);
    uint32_t made = w->failed ? 0 : add_slice(w, all, first.at, *count);
    if (w->failed || !first.flat)
        return made;
    wg_shape shape = *old(w, in[k])->shape;
    shape.dim[0] *= *count;
    wg__shape_set(&shape, shape.rank, shape.dim);
    const wg_shape *kept = wg__program_shape(w->r.program, &shape);
    return kept ? add_reshape(w, made, kept) : checked(w, 0);
}

/* Whether it is made in a loop, and no view of that. */
static bool is_picked(const roller *w, uint32_t id) { return wg__in_body(&w->s, id) && !old(w, id)->op->view; }

/* A concat along the first axis: stretches of steps are slices of stacks. 0 if there is none. */
static uint32_t joined(roller *w, uint32_t id) {
    wg_instruction c = *old(w, id);
    int64_t axis = c.op == &wg__op_concat ? *(const int *)c.attr : -1;
    if (axis != 0 || c.n < 2)
        return 0;
    uint32_t *parts = wg__take(w->r.program->memory, c.n * sizeof *parts), n = 0;
    bool any = false;
    w->failed = w->failed || !parts;
    for (uint32_t k = 0, count; k < c.n && !w->failed;) {
        uint32_t slice = neighbours(w, &c, k, &count);
        any = any || count;
        parts[n++] = count ? slice : outside(w, wg__reads_const(&c)[k]);
        k += count ? count : 1;
    }
    uint32_t made = 0;
    if (any && !w->failed && n == 1) {
        made = parts[0];
    } else if (any && !w->failed) {
        c.n = n;
        uint32_t *in = n > 2 ? keep(w, parts, n * sizeof *parts) : c.in;
        if (n > 2)
            c.more = in;
        else
            memcpy(c.in, parts, n * sizeof *parts);
        c.step = c.loop = 0;
        made = w->failed ? 0 : checked(w, wg__rewrite_add(&w->r, &c));
    }
    wg__give(w->r.program->memory, parts);
    return made;
}

/* Makes it; everything that it waits for is made. */
static void make_outside(roller *w, uint32_t id) {
    if (is_picked(w, id)) {
        w->outer[id] = picked(w, id);
        return;
    }
    uint32_t made = joined(w, id);
    if (!made && !w->failed) {
        wg_instruction i = *old(w, id);
        uint32_t few[2], *in = few;
        if (i.n > 2)
            in = wg__arena_take(&w->r.program->arena, i.n * sizeof *in);
        w->failed = w->failed || !in;
        for (uint32_t k = 0; k < i.n && !w->failed; k++)
            in[k] = outside(w, wg__reads_const(old(w, id))[k]);
        if (w->failed)
            return;
        if (i.n > 2)
            i.more = in;
        else
            memcpy(i.in, in, i.n * sizeof *in);
        i.step = 0;
        made = checked(w, wg__rewrite_add(&w->r, &i));
    }
    w->outer[id] = made;
}

/* What is still to be made before it, from its operand *next on; 0 if nothing. What is picked from a loop, and the parts of a
 * sequence, wait for nothing. */
static uint32_t waits_for(const roller *w, uint32_t id, uint32_t *next) {
    const wg_instruction *i = old(w, id);
    for (; !is_picked(w, id) && *next < i->n; ++*next) {
        uint32_t in = wg__reads_const(i)[*next];
        if (w->s.array[in] && !w->outer[w->s.array[in]])
            return w->s.array[in];
        bool raised = old(w, in)->op == &wg__op_reshape && is_picked(w, old(w, in)->in[0]);
        if (!w->outer[in] && !is_picked(w, in) && !raised)
            return in;
    }
    return 0;
}

/* The new index of an old value for readers that are in no loop; made when first asked for. 0 on failure. Chains of values that wait
 * for each other may be as long as a tape: they are listed, not called. */
static uint32_t outside(roller *w, uint32_t id) {
    const int64_t base = w->waiting_count;
    for (uint32_t now = id; !w->failed && !w->outer[id];) {
        if (now && !wg__room(w->r.program->memory, (void **)&w->waiting, w->waiting_count, &w->waiting_room, sizeof *w->waiting))
            return checked(w, 0);
        if (now)
            w->waiting[w->waiting_count++] = (waiting){now, 0};
        waiting *last = &w->waiting[w->waiting_count - 1];
        now = waits_for(w, last->id, &last->next);
        if (now)
            continue;
        uint32_t ready = last->id;
        if (!w->outer[ready])
            make_outside(w, ready);
        w->waiting_count--;
    }
    w->waiting_count = base;
    return w->outer[id];
}

/* ---- making a loop ---- */

/* The stack that holds a value's iterations in segments [low, high], and where `low` is in it; 0 if no one stack does. */
static uint32_t stack_over(roller *w, uint32_t position, int64_t low, int64_t high, int64_t *from, int64_t *step) {
    const uint32_t number = w->s.segments[low].loop;
    const rolled *l = number ? &w->loops[number - 1] : NULL;
    if (!l || high >= l->end)
        return 0;
    *from = index_in_stack(w, l, low);
    *step = w->s.segments[l->first].step < 0 ? -1 : 1;
    return stacked_of(w, l, position);
}

/* The array and element that iteration 0 of an operand reads: of an outside array, or of another loop's stack. */
static uint32_t array_of(roller *w, place p, int64_t first, int64_t times, wg_element_attr *e) {
    int64_t begin = first + e->late * p.step, end = first + (times - 1 - e->fewer) * p.step, from = 0, step = 1;
    e->from = first;
    e->step = p.step;
    if (p.sort == WG_ELEMENT)
        return outside(w, p.of);
    uint32_t all = stack_over(w, p.of, wg__min(begin, end), wg__max(begin, end), &from, &step);
    e->from = from + (first - wg__min(begin, end)) * step;
    e->step = p.step * step;
    return all;
}

static bool is_special(const roller *w, int64_t slot, int64_t number) {
    uint32_t s = w->special[slot];
    while (s && w->specials[s - 1].segment != number)
        s = w->specials[s - 1].next;
    return s;
}

/* In how many iterations, from the first on and from the last back, a slot's operand does not follow the pattern. */
static wg_element_attr ends_of(const roller *w, int64_t slot, int64_t first, int64_t end) {
    wg_element_attr e = {0};
    while (e.late < end - first && is_special(w, slot, first + e.late))
        e.late++;
    while (e.late + e.fewer < end - first && is_special(w, slot, end - 1 - e.fewer))
        e.fewer++;
    return e;
}

typedef struct entry {
    uint32_t of, id; /* what it stands for, and the instruction made */
    wg_element_attr at;
} entry;

/* Instructions at the loop's head, each made once. */
typedef struct head {
    entry *list;
    int64_t count, room;
    uint32_t *table; /* open-addressed: 1 + index into the list */
    uint64_t size;   /* of the table, a power of two */
} head;

static uint64_t hash_of(uint32_t of, wg_element_attr at) {
    uint64_t hash = of + 0x9e3779b97f4a7c15u;
    const int64_t words[] = {at.from, at.step, at.late, at.fewer};
    for (int k = 0; k < WG_LEN(words); k++)
        hash = (hash ^ (uint64_t)words[k]) * 0xff51afd7ed558ccdu, hash ^= hash >> 32;
    return hash;
}

/* The place in the table of what there is of these, or would be. */
static uint32_t *head_place(const head *h, uint32_t of, wg_element_attr at) {
    for (uint64_t hash = hash_of(of, at);; hash++) {
        uint32_t *found = &h->table[hash & (h->size - 1)];
        const entry *e = *found ? &h->list[*found - 1] : NULL;
        if (!e || (e->of == of && e->at.from == at.from && e->at.step == at.step && e->at.late == at.late && e->at.fewer == at.fewer))
            return found;
    }
}

static bool head_grow(roller *w, head *h) {
    uint64_t size = h->size ? 2 * h->size : 16;
    uint32_t *table = wg__take0(w->r.program->memory, wg__size((size_t)size, sizeof *table, 0));
    if (!table)
        return false;
    wg__give(w->r.program->memory, h->table);
    h->table = table;
    h->size = size;
    for (int64_t k = 0; k < h->count; k++)
        *head_place(h, h->list[k].of, h->list[k].at) = (uint32_t)k + 1;
    return true;
}

static void head_free(roller *w, head *h) {
    wg__give(w->r.program->memory, h->list);
    wg__give(w->r.program->memory, h->table);
}

static uint32_t add_head(roller *w, head *h, uint32_t of, wg_element_attr at, const wg_instruction *i) {
    if (2 * (uint64_t)h->count >= h->size && !head_grow(w, h))
        return checked(w, 0);
    uint32_t *found = head_place(h, of, at);
    if (*found)
        return h->list[*found - 1].id;
    if (!wg__room(w->r.program->memory, (void **)&h->list, h->count, &h->room, sizeof *h->list))
        return checked(w, 0);
    uint32_t id = checked(w, wg__rewrite_add(&w->r, i));
    h->list[h->count++] = (entry){of, id, at};
    *found = (uint32_t)h->count;
    return id;
}

static uint32_t add_element(roller *w, head *h, uint32_t array, wg_element_attr at, uint32_t loop, uint32_t origin) {
    const wg_shape *whole = w->r.list[array].shape;
    wg_shape one;
    wg__shape_set(&one, whole->rank - 1, whole->dim + 1);
    wg_instruction i = {.op = &wg__op_element, .shape = wg__program_shape(w->r.program, &one), .n = 1,
                        .dtype = w->r.list[array].dtype, .in = {array}, .loop = loop, .origin = origin,
                        .attr = keep(w, &at, sizeof at)};
    return i.shape && i.attr ? add_head(w, h, array, at, &i) : checked(w, 0);
}

static uint32_t add_ending(roller *w, head *h, uint32_t element, uint32_t other, int64_t at, uint32_t loop) {
    const wg_instruction *e = &w->r.list[element];
    wg_ending_attr attr = {at};
    wg_instruction i = {.op = &wg__op_ending, .shape = e->shape, .n = 2, .dtype = e->dtype, .in = {element, other}, .loop = loop,
                        .attr = keep(w, &attr, sizeof attr)};
    return i.attr ? add_head(w, h, element, (wg_element_attr){.from = other, .step = at}, &i) : checked(w, 0);
}

/* A slot's operand, chosen by iteration. */
static uint32_t add_endings(roller *w, head *h, int64_t slot, uint32_t usual, int64_t first, uint32_t loop) {
    for (uint32_t s = w->special[slot]; s && !w->failed; s = w->specials[s - 1].next)
        usual = add_ending(w, h, usual, w->outer[w->specials[s - 1].id], w->specials[s - 1].segment - first, loop);
    return usual;
}

/* Everything the loop reads from outside is made before it. */
static void prepare(roller *w, int64_t first, int64_t end, int64_t shift, uint32_t *outer) {
    for (int64_t slot = 0; slot < w->slots && !w->failed; slot++) {
        place p = w->pattern[slot];
        wg_element_attr e = ends_of(w, slot, first, end);
        if (p.sort == WG_OUTSIDE)
            outer[slot] = outside(w, p.of);
        else if (p.sort == WG_SAME)
            outer[slot] = p.at ? outside(w, w->init[slot]) : 0;
        else
            outer[slot] = array_of(w, p, p.at + p.step * shift, end - first, &e);
    }
    for (int64_t s = 0; s < w->special_count && !w->failed; s++)
        outside(w, w->specials[s].id);
}

/* The loop of segments [first, end), whose pattern is as segment first - shift sees it. */
static void make_loop(roller *w, int64_t first, int64_t end, int64_t shift) {
    wg_program *p = w->r.program;
    const segment *g = &w->s.segments[first];
    uint32_t *outer = wg__take0(p->memory, wg__size((size_t)w->slots, sizeof *outer, 1));
    w->failed = w->failed || !outer || !wg__room(p->memory, (void **)&w->loops, w->loop_count, &w->loop_room, sizeof *w->loops);
    if (w->failed) {
        wg__give(p->memory, outer);
        return;
    }
    prepare(w, first, end, shift, outer);
    rolled *l = &w->loops[w->loop_count];
    *l = (rolled){(uint32_t)first, (uint32_t)end, w->failed ? 0 : checked(w, wg__loop_new(p, end - first)), (uint32_t)w->made_count};
    head carries = {0}, elements = {0}, endings = {0};
    int64_t slot = 0;
    for (int64_t s = 0; s < w->slots && !w->failed; s++) { /* carries and elements stand first */
        place q = w->pattern[s];
        wg_element_attr e = ends_of(w, s, first, end);
        if (q.sort == WG_SAME && q.at == 1) {
            const wg_instruction *start = &w->r.list[outer[s]];
            wg_instruction i = {.op = &wg__op_carry, .shape = start->shape, .n = 2, .dtype = start->dtype,
                                .in = {outer[s], q.of}, .loop = l->number, .origin = start->origin};
            outer[s] = add_head(w, &carries, q.of, (wg_element_attr){.from = outer[s]}, &i);
        } else if (q.sort == WG_ELEMENT || q.sort == WG_OTHER) {
            uint32_t array = array_of(w, q, q.at + q.step * shift, end - first, &e);
            if (!w->failed)
                outer[s] = add_element(w, &elements, array, e, l->number, 0);
        }
        if (q.sort != WG_SAME && !w->failed)
            outer[s] = add_endings(w, &endings, s, outer[s], first, l->number);
    }
    for (uint32_t k = 0; k < g->count && !w->failed; k++) {
        wg_instruction i = *old(w, wg__body_of(&w->s, g, k));
        uint32_t few[2], *in = i.n > 2 ? wg__arena_take(&p->arena, i.n * sizeof *in) : few;
        w->failed = w->failed || !in;
        for (uint32_t n = 0; n < i.n && !w->failed; n++, slot++)
            in[n] = w->pattern[slot].sort == WG_SAME && w->pattern[slot].at == 0 ? w->made[l->made + w->pattern[slot].of]
                                                                               : outer[slot];
        if (w->failed)
            break;
        if (i.n > 2)
            i.more = in;
        else
            memcpy(i.in, few, i.n * sizeof *in);
        i.loop = l->number;
        if (end - first > 1)
            i.step = 0;
        w->made[w->made_count++] = checked(w, wg__rewrite_add(&w->r, &i));
    }
    for (int64_t k = 0; k < carries.count && !w->failed; k++)
        w->r.list[carries.list[k].id].in[1] = w->made[l->made + carries.list[k].of];
    for (int64_t s = first; s < end; s++)
        w->s.segments[s].loop = (uint32_t)w->loop_count + 1;
    w->loop_count++;
    wg__give(p->memory, outer);
    head_free(w, &carries);
    head_free(w, &elements);
    head_free(w, &endings);
}

static bool same_ops(const roller *w, int64_t a, int64_t b) { return wg__same_ops(&w->s, &w->s.segments[a], &w->s.segments[b]); }

/* Whether the steps from `first` on, before the one learnt from, can be a loop's first. */
static bool begins(roller *w, int64_t first, int64_t learnt) {
    for (int64_t s = first; s < learnt; s++)
        if (!same_ops(w, s, learnt) || !fits_as_end(w, &w->s.segments[s], s - learnt, s == first))
            return false;
    return true;
}

/* Where the loop that begins with segment `first` of its run ends, and the segment that sees its pattern. */
static int64_t longest(roller *w, int64_t first, int64_t end, int64_t *learnt) {
    segment *g = w->s.segments;
    for (int64_t at = first + 1; at <= first + WG_MOST_ENDS && at + 1 < end && !w->failed; at++) {
        drop_specials(w, 0);
        if (!same_ops(w, first, at) || !same_ops(w, at, at + 1) || !learn(w, g + at, g + at + 1) || !begins(w, first, at))
            continue;
        int64_t to = at + 2;
        while (to < end && same_ops(w, at, to) && fits(w, g + to, to - at))
            to++;
        for (int64_t last = to + WG_MOST_ENDS; to < wg__min(last, end) && same_ops(w, at, to) && fits_as_end(w, g + to, to - at, false);)
            to++;
        *learnt = at;
        return to;
    }
    drop_specials(w, 0);
    single(w, g + first);
    *learnt = first;
    return first + 1;
}

/* All loops of one run. What is the same in all steps comes first. */
static void roll_run(roller *w, int64_t first, int64_t end) {
    for (uint32_t id = w->s.segments[first].from; id < w->s.segments[end - 1].to; id++)
        if (w->s.in_segment[id] && w->s.position[id] == WG_IN_NO_BODY && !w->s.array[id] && old(w, id)->op->kind != WG_EFFECT)
            outside(w, id);
    for (int64_t at = first; at < end && !w->failed;) {
        int64_t learnt, to = longest(w, at, end, &learnt);
        if (w->s.segments[at].count)
            make_loop(w, at, to, at - learnt);
        else
            to = at + 1;
        at = to;
    }
}

static bool begin(roller *w, wg_program *p) {
    size_t n = (size_t)p->count;
    int64_t operands = 0;
    for (uint32_t id = 1; id < p->count; id++)
        operands += p->list[id].n;
    w->made = wg__take0(p->memory, wg__size(n, sizeof *w->made, 0));
    w->stacked = wg__take0(p->memory, wg__size(n, sizeof *w->stacked, 0));
    w->last = wg__take0(p->memory, wg__size(n, sizeof *w->last, 0));
    w->outer = wg__take0(p->memory, wg__size(n, sizeof *w->outer, 0));
    w->pattern = wg__take(p->memory, wg__size((size_t)operands, sizeof *w->pattern, 1));
    w->init = wg__take(p->memory, wg__size((size_t)operands + 1, 2 * sizeof *w->init, 0));
    w->special = w->init ? w->init + operands + 1 : NULL;
    return w->made && w->stacked && w->last && w->outer && w->pattern && w->init && wg__rewrite_begin(&w->r, p) &&
           wg__steps_find(&w->s, p);
}

static void end(roller *w, wg_program *p) {
    void *const taken[] = {w->made, w->stacked, w->last, w->outer, w->pattern, w->init, w->loops, w->waiting, w->specials};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    wg__steps_free(&w->s);
}

wg_status wg__pass_roll(wg_program *p, wg_error *error) {
    roller w = {.r.program = p};
    bool good = begin(&w, p);
    for (uint32_t id = 1; good && !w.failed && id < p->count; id++) {
        int64_t s = (int64_t)w.s.in_segment[id] - 1;
        if (s >= 0 && !w.s.segments[s].loop && w.s.segments[s].count && w.s.position[id] != WG_IN_NO_BODY) {
            int64_t to = s + 1;
            while (to < w.s.count && w.s.segments[to].run == w.s.segments[s].run)
                to++;
            roll_run(&w, s, to);
        }
        /* What only picks from a body waits until it is asked for. */
        bool picks = w.s.array[id] || (p->list[id].op->view && wg__in_body(&w.s, p->list[id].in[0]));
        if (w.s.position[id] == WG_IN_NO_BODY && !picks)
            outside(&w, id);
    }
    for (int i = 0; good && !w.failed && i < p->output_count; i++)
        w.r.to[p->outputs[i]] = outside(&w, p->outputs[i]);
    good = good && !w.failed;
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&w.r, good);
    end(&w, p);
    return status == WG_OK ? wg__prune(p, error) : status;
}
