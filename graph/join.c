/* join.c: what a loop keeps of every step goes side by side into one array, where it can take the place of an array that the
 * loop reads for the last time: an LSTM's gates over the products that they are made of. `inplace` then lets it do so. Memory is
 * read and written in the same places, and less of it. What is kept of the array itself stays where it is in it. What is kept for a loop that
 * stacks side by side as much again, a derivative's gradients of gates, goes side by side for that to take its place. */
#include "loop.h"
#include "make.h"

enum { MOST_MEMBERS = 64 };

/* Values of a loop that are stacked, each over columns of an element of an outside array, or those columns; together they fill it. */
typedef struct group {
    uint32_t member[MOST_MEMBERS]; /* in order of columns */
    uint32_t count, loop, element;
    bool backward;
    bool changed;             /* a member is more than its columns: else the array stays as it is */
    uint32_t joined, stacked; /* new: the concat, and its stack; 0: not yet made */
    int64_t next;             /* of the same loop: 1 + index */
} group;

/* What is known of a value. */
typedef struct fact {
    uint32_t last;  /* the last instruction that reads it */
    uint32_t stack; /* of a loop's value: the one `stacked` of it; 0: none, or it may not be moved */
    uint32_t group, column; /* of a member: 1 + its group; the first of its columns */
    uint32_t slices, next;  /* of an element: the last slice of it; of a slice: the one before; 0: none */
    uint32_t source; /* the slice that it was last seen to be made of */
    bool apart;     /* read by more than neighbours in regions (of a value of a loop), or by more than elements (of a stack) */
    bool twice;     /* it has two stacks */
    bool stands;    /* its stack is an array over which others go side by side, or in which they stand */
} fact;

typedef struct joiner {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *reads;
    fact *facts;
    group *groups;
    int64_t group_count, group_room;
    int64_t *of_loop; /* by number: 1 + the first group */
    int64_t looks;    /* at values that might be members: so many may still be taken */
} joiner;

/* ---- finding ---- */

static bool in_region(const wg_instruction *i) { return i->op->kind == WG_POINTWISE && i->region; }

static void note_reads(joiner *m) {
    const wg_program *p = m->p;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        const wg_element_attr *e = i->attr;
        if (i->loop && i->op == &wg__op_slice)
            m->facts[id].next = m->facts[i->in[0]].slices, m->facts[i->in[0]].slices = id;
        for (uint32_t k = 0; k < i->n; k++) {
            uint32_t in = wg__reads_const(i)[k];
            fact *f = &m->facts[in];
            const wg_instruction *from = &p->list[in];
            f->last = id;
            if (from->op == &wg__op_stacked)
                f->apart = f->apart || i->op != &wg__op_element || e->late || e->fewer;
            else if (from->op == &wg__op_element && i->op == &wg__op_ending) /* which chooses among elements alone */
                m->facts[from->in[0]].apart = true;
            else if (i->op == &wg__op_stacked)
                f->twice = f->stack != 0, f->stack = id;
            else
                f->apart = f->apart || !in_region(i) || (in_region(from) && from->region != i->region);
        }
    }
    for (int i = 0; i < p->output_count; i++)
        m->facts[p->outputs[i]].apart = true;
}

/* Whether an element is of an array that nothing else reads, in the order of steps or in the reverse. */
static bool consumes(const joiner *m, const wg_instruction *element, bool *backward) {
    const wg_element_attr *e = element->attr;
    uint32_t array = element->in[0];
    int64_t times = m->p->loops[element->loop - 1].times;
    *backward = e->step == -1;
    if (e->late || e->fewer || e->from != (*backward ? times - 1 : 0) || (e->step != 1 && e->step != -1) || m->p->list[array].shape->dim[0] != times)
        return false;
    while (m->reads[array] == 1 && m->p->list[array].op == &wg__op_reshape)
        array = m->p->list[array].in[0];
    const wg_instruction *made = &m->p->list[array];
    return m->reads[array] == 1 && made->op->kind != WG_LEAF && made->op->kind != WG_EFFECT && !made->op->view;
}

static bool is_backward(const joiner *m, uint32_t stack) { return ((const wg_stacked_attr *)m->p->list[stack].attr)->backward; }

/* Whether a value is stacked alone, and that in this order. */
static bool is_stacked(const joiner *m, uint32_t id, bool backward) {
    const fact *f = &m->facts[id];
    return f->stack && !f->twice && !f->group && !f->stands && !m->facts[f->stack].apart &&
           is_backward(m, f->stack) == backward;
}

/* Whether a value is so, and could lie over columns of that shape. */
static bool could_lie_over(const joiner *m, uint32_t id, const wg_instruction *columns, bool backward) {
    const wg_instruction *i = &m->p->list[id];
    return in_region(i) && i->shape == columns->shape && i->dtype == columns->dtype && !m->facts[id].apart && is_stacked(m, id, backward);
}

/* The first value after the last read of `slice` that could lie over it and is made of it; if there is none, the first that could.
 * What is made of a gate's product is the gate: the derivative's value of the same columns reads it before all else, and so can lie
 * over it in turn. */
static uint32_t member_over(joiner *m, const wg_loop *loop, uint32_t slice, bool backward) {
    const wg_instruction *columns = &m->p->list[slice];
    uint32_t first = 0;
    m->facts[slice].source = slice;
    for (uint32_t id = slice + 1; id < loop->to && m->looks > 0; id++) {
        const wg_instruction *i = &m->p->list[id];
        bool made = false;
        m->looks -= 1 + i->n;
        for (uint32_t k = 0; k < i->n && !made; k++)
            made = m->facts[wg__reads_const(i)[k]].source == slice;
        if (made)
            m->facts[id].source = slice;
        if (id < m->facts[slice].last || (first && !made) || !could_lie_over(m, id, columns, backward))
            continue;
        if (made)
            return id;
        first = id;
    }
    return first;
}

/* A slice's member: itself, if it is kept; or what lies over it. 0: none. */
static uint32_t member_of(joiner *m, const wg_loop *loop, uint32_t slice, bool backward) {
    return is_stacked(m, slice, backward) ? slice : member_over(m, loop, slice, backward);
}

/* Slices of one element as members of a group; false if they do not fill it, or one is not kept and has nothing to lie over it. */
static bool fill(joiner *m, uint32_t element, group *g) {
    const wg_program *p = m->p;
    const wg_loop *loop = &p->loops[g->loop - 1];
    uint32_t part[MOST_MEMBERS], count = 0;
    for (uint32_t id = m->facts[element].slices; id && count < MOST_MEMBERS; id = m->facts[id].next) {
        uint32_t at = count++;
        for (; at > 0 && ((const wg_slice_attr *)p->list[part[at - 1]].attr)->from > ((const wg_slice_attr *)p->list[id].attr)->from; at--)
            part[at] = part[at - 1];
        part[at] = id;
    }
    if (count < 2 || count != m->reads[element])
        return false;
    int64_t column = 0;
    for (uint32_t k = 0; k < count; k++) {
        const wg_slice_attr *a = p->list[part[k]].attr;
        uint32_t member = a->axis == 1 && a->from == column ? member_of(m, loop, part[k], g->backward) : 0;
        if (!member)
            break;
        g->changed = g->changed || member != part[k];
        m->facts[member].group = (uint32_t)m->group_count + 1;
        m->facts[member].column = (uint32_t)column;
        g->member[g->count++] = member;
        column += a->count;
    }
    /* Unchanged, the array stands for the stack: not if it is itself a part of what stands side by side. */
    const wg_instruction *array = &p->list[p->list[element].in[0]];
    const bool moved = array->op == &wg__op_stacked && m->facts[array->in[0]].group;
    if (g->count == count && column == p->list[element].shape->dim[1] && (g->changed || !moved))
        return true;
    for (uint32_t k = 0; k < g->count; k++)
        m->facts[g->member[k]].group = 0;
    return false;
}

static bool add_group(joiner *m, group g) {
    if (!wg__room(m->p->memory, (void **)&m->groups, m->group_count, &m->group_room, sizeof *m->groups))
        return false;
    g.next = m->of_loop[g.loop];
    m->groups[m->group_count++] = g;
    m->of_loop[g.loop] = m->group_count;
    return true;
}

/* The value of another loop whose stack an element is of, in the order of a stack that goes backward or not, if this loop alone reads that.
 * 0: there is none. */
static uint32_t kept_value(const joiner *m, uint32_t element, bool backward) {
    const wg_instruction *i = &m->p->list[element];
    const wg_element_attr *e = i->op == &wg__op_element && i->loop ? i->attr : NULL;
    if (!e || e->step != (backward ? -1 : 1) || m->p->list[i->in[0]].op != &wg__op_stacked)
        return 0;
    const bool all = m->p->list[i->in[0]].shape->dim[0] == m->p->loops[i->loop - 1].times;
    return all && m->p->list[m->facts[i->in[0]].last].loop == i->loop ? m->p->list[i->in[0]].in[0] : 0;
}

/* What a part of a value of this loop, that is side by side and stacked, can lie over of what another keeps: of that which is read before
 * it is made, what is read last. 0: nothing, or it stands side by side already, over an array. */
static uint32_t member_under(joiner *m, const wg_loop *loop, uint32_t part, bool backward, const group *g) {
    uint32_t best = 0, last = 0;
    for (uint32_t id = loop->from; id < part && m->looks > 0; id++, m->looks--) {
        const uint32_t v = kept_value(m, id, backward), read = m->facts[id].last;
        const int64_t number = v ? m->facts[v].group : 0;
        if (!v || !read || read > part || !in_region(&m->p->list[read]))
            continue;
        if (number && number <= m->group_count)
            return 0;
        if (read >= last && (g->count == 0 || m->p->list[v].loop == g->loop) &&
            could_lie_over(m, v, &m->p->list[part], g->count ? g->backward : is_backward(m, m->facts[v].stack)))
            best = v, last = read;
    }
    return best;
}

/* What a loop stacks side by side could lie over what another keeps for it, if that stood side by side in turn. */
static bool find_under(joiner *m, uint32_t stack) {
    const wg_program *p = m->p;
    const wg_instruction *c = &p->list[p->list[stack].in[0]];
    group g = {.changed = true};
    int64_t column = 0;
    bool all = wg__is_side_by_side(c) && c->shape->rank == 2 && c->shape->count > 0 && c->n <= MOST_MEMBERS;
    for (uint32_t k = 0; k < c->n && all; k++) {
        const uint32_t part = wg__reads_const(c)[k];
        const uint32_t v = in_region(&p->list[part]) ? member_under(m, &p->loops[c->loop - 1], part, is_backward(m, stack), &g) : 0;
        all = v && p->list[v].loop != c->loop;
        if (!all)
            break;
        g.loop = p->list[v].loop;
        g.backward = is_backward(m, m->facts[v].stack);
        g.member[g.count++] = v;
        m->facts[v].group = (uint32_t)m->group_count + 1;
        m->facts[v].column = (uint32_t)column;
        column += p->list[v].shape->dim[1];
    }
    if (all && g.count > 1)
        return add_group(m, g);
    for (uint32_t k = 0; k < g.count; k++)
        m->facts[g.member[k]].group = 0;
    return true;
}

static bool find_groups(joiner *m) {
    const wg_program *p = m->p;
    m->looks = MOST_MEMBERS * p->count;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        group g = {.loop = i->loop, .element = id};
        if (i->op != &wg__op_element || i->shape->rank != 2 || i->shape->count == 0 || !consumes(m, i, &g.backward) || !fill(m, id, &g))
            continue;
        if (!add_group(m, g))
            return false;
        if (p->list[i->in[0]].op == &wg__op_stacked)
            m->facts[p->list[i->in[0]].in[0]].stands = true;
    }
    for (uint32_t id = 1; id < p->count; id++)
        if (p->list[id].op == &wg__op_stacked && !find_under(m, id))
            return false;
    return true;
}

/* ---- making ---- */

/* The group of a stack; NULL if it stays. */
static group *group_of(const joiner *m, uint32_t stack) {
    const wg_instruction *i = &m->p->list[stack];
    uint32_t number = i->op == &wg__op_stacked ? m->facts[i->in[0]].group : 0;
    return number ? &m->groups[number - 1] : NULL;
}

enum { DEEPEST = 8 };

/* What stands side by side in a value, through all that does so in that, as new ids; false if it is too much, or too deep. */
static bool take_parts(const joiner *m, uint32_t id, int depth, uint32_t *now, uint32_t *count) {
    const wg_instruction *c = &m->p->list[id];
    for (uint32_t k = 0; k < c->n; k++) {
        const uint32_t part = wg__reads_const(c)[k];
        const bool deeper = wg__is_side_by_side(&m->p->list[part]);
        if (deeper ? depth == DEEPEST || !take_parts(m, part, depth + 1, now, count) : *count == MOST_MEMBERS)
            return false;
        if (!deeper)
            now[(*count)++] = m->r.to[part];
    }
    return true;
}

static bool is_nested(const joiner *m, uint32_t id) {
    const wg_instruction *c = &m->p->list[id];
    bool nested = false;
    for (uint32_t k = 0; k < c->n && wg__is_side_by_side(c); k++)
        nested = nested || wg__is_side_by_side(&m->p->list[wg__reads_const(c)[k]]);
    return nested;
}

static uint32_t rewritten(joiner *m, uint32_t id) {
    const wg_program *p = m->p;
    uint32_t now[MOST_MEMBERS], count = 0;
    if (is_nested(m, id) && take_parts(m, id, 0, now, &count)) /* each is put there once, not first beside some of the others */
        return wg__make_concat(&m->r, count, now, p->list[id].shape->rank - 1, p->list[id].loop);
    const wg_instruction *i = &p->list[id];
    group *g = group_of(m, id);
    if (g) {
        if (!g->stacked) /* the array that is as it was lies in the order of the stack */
            g->stacked = g->changed ? wg__make_stacked(&m->r, g->joined, p->loops[g->loop - 1].times, g->backward) : m->r.to[p->list[g->element].in[0]];
        return g->stacked;
    }
    g = i->op == &wg__op_element ? group_of(m, i->in[0]) : NULL;
    if (!g)
        return wg__rewrite_keep(&m->r, id);
    const wg_element_attr *e = i->attr;
    uint32_t whole = wg__make_element(&m->r, g->stacked, e->from, e->step, i->loop);
    return wg__make_slice(&m->r, whole, 1, m->facts[p->list[i->in[0]].in[0]].column, i->shape->dim[1], i->loop);
}

/* At the end of a loop: its groups side by side. */
static void leave_loop(joiner *m, uint32_t loop) {
    for (int64_t k = m->of_loop[loop]; k && !m->r.failed; k = m->groups[k - 1].next) {
        group *g = &m->groups[k - 1];
        uint32_t now[MOST_MEMBERS];
        if (!g->changed)
            continue;
        for (uint32_t n = 0; n < g->count; n++)
            now[n] = m->r.to[g->member[n]];
        g->joined = wg__make_concat(&m->r, g->count, now, 1, loop);
    }
}

wg_status wg__pass_join(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    joiner m = {.r.program = p, .p = p};
    m.reads = wg__count_reads(p);
    m.facts = wg__take0(p->memory, wg__size(n, sizeof *m.facts, 0));
    m.of_loop = wg__take0(p->memory, wg__size((size_t)p->loop_count + 1, sizeof *m.of_loop, 0));
    bool good = m.reads && m.facts && m.of_loop && wg__rewrite_begin(&m.r, p);
    if (good) {
        note_reads(&m);
        good = find_groups(&m);
    }
    for (uint32_t id = 1; good && id < p->count; id++) {
        uint32_t loop = p->list[id].loop;
        good = (m.r.to[id] = rewritten(&m, id));
        if (good && loop && p->loops[loop - 1].to == id + 1)
            leave_loop(&m, loop);
        good = good && !m.r.failed;
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good);
    wg__give(p->memory, m.reads);
    wg__give(p->memory, m.facts);
    wg__give(p->memory, m.groups);
    wg__give(p->memory, m.of_loop);
    return status == WG_OK ? wg__prune(p, error) : status;
}
