/* gates.c: in a loop, products of one left operand with several matrices from outside become one product with the matrices
 * side by side; and products that are only added up become one product of their left operands side by side with the
 * matrices under each other. Changes the order of sums, nothing else. Names matmul, whose products these are, and add. */
#include "known.h"
#include "loop.h"
#include "make.h"

#include <string.h>

enum { MOST_MEMBERS = 64 };

/* Products that become one: neighbours in `members`, old ids. */
typedef struct group {
    uint32_t first, count;
    uint32_t loop;
    uint32_t sum;  /* the old sum that they are all the products of; 0: they share their left operand */
    uint32_t made; /* the new product */
    uint32_t matrix;
    uint32_t host; /* of a sum: another, whose left operands have among them, side by side, all of this one's or all but one; 1 + index; 0: none */
    uint32_t from; /* there: the first of these */
    uint32_t odd, odd_matrix; /* here: the one that is not there, the first or the last; `count`: none */
    int64_t next;  /* the next of its loop: 1 + index */
} group;

/* Values side by side, made once. */
typedef struct joined {
    const uint32_t *of; /* old ids */
    uint32_t count, made, loop;
    int axis;
} joined;

typedef struct merger {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *reads;
    uint32_t *members;
    uint32_t member_count;
    uint32_t *group_of; /* by old id of a product or of a sum: 1 + its group; 0: none */
    bool *inner;        /* by old id: a sum that is part of another */
    bool *kept;         /* by old id: what is made of it is stacked and read by nothing else, so that it may leave the loop (time.c) */
    uint32_t *chain;    /* by old id of a left operand: the last candidate that reads it; by candidate: the one before */
    group *groups;
    int64_t group_count, group_room;
    int64_t *of_loop; /* by number: 1 + the first group */
    joined *joints;
    int64_t joint_room;
    wg_known known; /* of joints */
} merger;

static bool transposed_b(const wg_instruction *i) { return ((const wg_matmul_attr *)i->attr)->b; }

/* A product of a loop's rows with a matrix from outside. */
static bool is_candidate(const merger *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    if (i->op != &wg__op_matmul || !i->loop || i->shape->rank != 2 || i->shape->count == 0 || ((const wg_matmul_attr *)i->attr)->a)
        return false;
    const wg_instruction *a = &m->p->list[i->in[0]], *b = &m->p->list[i->in[1]];
    return a->loop && !b->loop && a->shape->count > 0;
}

static void add_group(merger *m, group g) {
    if (!wg__room(m->p->memory, (void **)&m->groups, m->group_count, &m->group_room, sizeof *m->groups)) {
        m->r.failed = true;
        return;
    }
    g.next = m->of_loop[g.loop];
    m->groups[m->group_count++] = g;
    m->of_loop[g.loop] = m->group_count;
    for (uint32_t k = 0; k < g.count; k++)
        m->group_of[m->members[g.first + k]] = (uint32_t)m->group_count;
    if (g.sum)
        m->group_of[g.sum] = (uint32_t)m->group_count;
}

/* ---- finding ---- */

/* Members stand in the order of their matrices, forward and backward alike: what is side by side in the same order can be joined
 * once, and lie in one place (join.c). */
static void add_member(merger *m, group *g, uint32_t product) {
    uint32_t at = g->first + g->count++, matrix = m->p->list[product].in[1];
    for (; at > g->first && m->p->list[m->members[at - 1]].in[1] > matrix; at--)
        m->members[at] = m->members[at - 1];
    m->members[at] = product;
}

/* Whether pointwise ops can write a value of the loop among others side by side: one makes it, or several its columns. */
static bool is_written(const merger *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    bool written = wg__is_side_by_side(i) && i->n <= MOST_MEMBERS;
    for (uint32_t k = 0; k < i->n && written; k++)
        written = m->p->list[wg__reads_const(i)[k]].op->kind == WG_POINTWISE;
    return written || i->op->kind == WG_POINTWISE;
}

/* Takes the products that a sum adds up, through the sums in it: those of what pointwise ops make in this very iteration. */
static void take_products(merger *m, uint32_t sum, group *g) {
    const wg_instruction *s = &m->p->list[sum];
    for (int k = 0; k < 2; k++) {
        uint32_t in = s->in[k];
        const wg_instruction *i = &m->p->list[in];
        if (i->op == &wg__op_add && i->loop == s->loop && m->reads[in] == 1) {
            m->inner[in] = true;
            take_products(m, in, g);
        } else if (is_candidate(m, in) && is_written(m, i->in[0]) && m->reads[in] == 1 && g->count < MOST_MEMBERS &&
                   (g->count == 0 || transposed_b(i) == transposed_b(&m->p->list[m->members[g->first]]))) {
            add_member(m, g, in);
        }
    }
}

/* Sums of two products or more, from the last: a sum that is part of another is seen with that. A sum is as deep as its text
 * makes it, so long ones are left alone. */
static void find_sums(merger *m) {
    uint32_t *depth = wg__take0(m->p->memory, wg__size((size_t)m->p->count, sizeof *depth, 0));
    if (!depth) {
        m->r.failed = true;
        return;
    }
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *i = &m->p->list[id];
        for (int k = 0; k < 2 && i->op == &wg__op_add; k++)
            depth[id] = (uint32_t)wg__max(depth[id], depth[i->in[k]] + 1);
    }
    for (uint32_t id = (uint32_t)m->p->count - 1; id > 0 && !m->r.failed; id--) {
        const wg_instruction *i = &m->p->list[id];
        if (i->op != &wg__op_add || !i->loop || m->inner[id] || depth[id] > MOST_MEMBERS)
            continue;
        group g = {.first = m->member_count, .loop = i->loop, .sum = id};
        take_products(m, id, &g);
        if (g.count < 2)
            continue;
        m->member_count += g.count;
        add_group(m, g);
    }
    wg__give(m->p->memory, depth);
}

/* Products left over that read one left operand in one way, and stay in the loop or leave it together. */
static void find_readers(merger *m) {
    uint32_t *last = m->chain, *before = m->chain + m->p->count;
    for (uint32_t id = 1; id < m->p->count; id++)
        if (m->p->list[id].op == &wg__op_stacked)
            m->kept[m->p->list[id].in[0]] = m->reads[m->p->list[id].in[0]] == 1;
    for (uint32_t id = 1; id < m->p->count; id++)
        if (is_candidate(m, id) && !m->group_of[id]) {
            before[id] = last[m->p->list[id].in[0]];
            last[m->p->list[id].in[0]] = id;
        }
    for (uint32_t id = (uint32_t)m->p->count - 1; id > 0 && !m->r.failed; id--) {
        if (!is_candidate(m, id) || m->group_of[id])
            continue;
        group g = {.first = m->member_count, .loop = m->p->list[id].loop};
        for (uint32_t other = id; other && g.count < MOST_MEMBERS; other = before[other])
            if (!m->group_of[other] && m->kept[other] == m->kept[id] && transposed_b(&m->p->list[other]) == transposed_b(&m->p->list[id]))
                add_member(m, &g, other);
        if (g.count < 2)
            continue;
        m->member_count += g.count;
        add_group(m, g);
    }
}

static uint32_t left_of(const merger *m, const group *g, uint32_t k) { return m->p->list[m->members[g->first + k]].in[0]; }

/* Whether `count` left operands of g, from number k on, stand in h from `at` on. */
static bool stand_in(const merger *m, const group *g, uint32_t k, uint32_t count, const group *h, uint32_t at) {
    for (uint32_t i = 0; i < count; i++)
        if (at + i >= h->count || left_of(m, g, k + i) != left_of(m, h, at + i))
            return false;
    return true;
}

/* Whether the left operands of h, whose sum is kept, hold all of g's, or all but the first or the last, and are made before g's sum. */
static bool can_host(const merger *m, const group *h, group *g) {
    if (!h->sum || !m->kept[h->sum] || h->loop != g->loop)
        return false;
    for (uint32_t k = 0; k < h->count; k++)
        if (left_of(m, h, k) >= g->sum)
            return false;
    for (uint32_t at = 0; at < h->count; at++)
        if (stand_in(m, g, 0, g->count, h, at)) {
            g->odd = g->count, g->from = at;
            return h->count > g->count; /* else they are the same */
        }
    if (g->count < 3)
        return false;
    for (uint32_t at = 0; at < h->count; at++)
        for (uint32_t odd = 0; odd < g->count; odd += g->count - 1)
            if (stand_in(m, g, odd == 0, g->count - 1, h, at)) {
                g->odd = odd, g->from = at;
                return true;
            }
    return false;
}

/* Whether the products of a sum gain by standing apart: packed they are made as one anyway (pack.c). */
static bool may_stand_apart(const merger *m, const group *g) {
    const int64_t rows = m->p->list[g->sum].shape->dim[0];
    return !m->kept[g->sum] && rows > 1 && rows * m->p->loops[g->loop - 1].times >= WG_PACKED_ROWS;
}

/* What two sums would have side by side, but for one operand, stands so once: for the one that is kept. */
static void find_hosts(merger *m) {
    enum { MOST_TRIES = 16 }; /* for each, so that many sums cost no more than their number */
    for (int64_t i = 0; i < m->group_count; i++) {
        group *g = &m->groups[i];
        if (!g->sum || !may_stand_apart(m, g))
            continue;
        int tries = 0;
        for (int64_t k = m->of_loop[g->loop]; k && !g->host && tries < MOST_TRIES; k = m->groups[k - 1].next, tries++)
            if (k != i + 1 && can_host(m, &m->groups[k - 1], g))
                g->host = (uint32_t)k;
    }
}

/* ---- making ---- */

static uint64_t hash_of(const joined *j) {
    uint64_t hash = wg__mix((uint64_t)j->axis, j->loop);
    for (uint32_t k = 0; k < j->count; k++)
        hash = wg__mix(hash, j->of[k]);
    return hash;
}

static bool same_parts(const joined *a, const joined *b) {
    return a->count == b->count && a->axis == b->axis && a->loop == b->loop && memcmp(a->of, b->of, a->count * sizeof *a->of) == 0;
}

/* Operand `which` of a group's products, joined along an axis; in a loop, or before it (0). */
static uint32_t joint_of(merger *m, const group *g, int which, int axis, uint32_t loop) {
    uint32_t *of = wg__arena_take(&m->r.program->arena, 2 * g->count * sizeof *of), *now = of + g->count;
    if (!of)
        return !(m->r.failed = true);
    for (uint32_t k = 0; k < g->count; k++) {
        of[k] = m->p->list[m->members[g->first + k]].in[which];
        now[k] = m->r.to[of[k]];
    }
    joined j = {.of = of, .count = g->count, .loop = loop, .axis = axis};
    uint64_t hash = hash_of(&j), probe = 0;
    for (int64_t k; (k = wg__known_next(&m->known, hash, &probe)) >= 0;)
        if (same_parts(&m->joints[k], &j))
            return m->joints[k].made;
    if (!wg__room(m->p->memory, (void **)&m->joints, m->known.count, &m->joint_room, sizeof *m->joints))
        return !(m->r.failed = true);
    j.made = wg__make_concat(&m->r, g->count, now, axis, loop);
    m->joints[m->known.count] = j;
    m->r.failed = m->r.failed || !wg__known_enter(&m->known, hash);
    return j.made;
}

/* The axis of the matrices along which they are joined. */
static int joined_axis(const merger *m, const group *g) {
    bool t = transposed_b(&m->p->list[m->members[g->first]]);
    return g->sum ? t : !t;
}

/* The columns of left operands [from, to) of a group. */
static int64_t columns_of(const merger *m, const group *g, uint32_t from, uint32_t to) {
    int64_t columns = 0;
    for (uint32_t k = from; k < to; k++)
        columns += m->p->list[left_of(m, g, k)].shape->dim[1];
    return columns;
}

/* The product of what stands in the host, and that of the odd operand. */
static uint32_t product_by_host(merger *m, const group *g, const wg_instruction *first) {
    const group *h = &m->groups[g->host - 1];
    const int64_t at = columns_of(m, h, 0, g->from), count = columns_of(m, h, g->from, g->from + g->count - (g->odd < g->count));
    const bool t = transposed_b(first);
    uint32_t all = joint_of(m, h, 0, 1, g->loop), some = wg__make_slice(&m->r, all, 1, at, count, g->loop);
    uint32_t one = wg__make_matmul(&m->r, some, g->matrix, false, t, g->loop, first->origin);
    if (g->odd == g->count)
        return one;
    uint32_t other = wg__make_matmul(&m->r, m->r.to[left_of(m, g, g->odd)], g->odd_matrix, false, t, g->loop, first->origin);
    return wg__make_add(&m->r, one, other, g->loop, first->origin);
}

static uint32_t product_of(merger *m, group *g) {
    const wg_instruction *first = &m->p->list[m->members[g->first]];
    if (g->host)
        return product_by_host(m, g, first);
    uint32_t a = g->sum ? joint_of(m, g, 0, 1, g->loop) : m->r.to[first->in[0]];
    return wg__make_matmul(&m->r, a, g->matrix, false, transposed_b(first), g->loop, first->origin);
}

/* A sum without the products of its group; 0 if nothing is left. */
static uint32_t rest_of(merger *m, uint32_t sum, uint32_t number) {
    const wg_instruction *s = &m->p->list[sum];
    uint32_t part[2];
    for (int k = 0; k < 2; k++) {
        uint32_t in = s->in[k];
        bool deeper = m->p->list[in].op == &wg__op_add && m->inner[in] && m->reads[in] == 1 && m->p->list[in].loop == s->loop;
        part[k] = deeper ? rest_of(m, in, number) : m->group_of[in] == number ? 0 : m->r.to[in];
    }
    return part[0] && part[1] ? wg__make_add(&m->r, part[0], part[1], s->loop, s->origin) : part[0] ? part[0] : part[1];
}

/* The new index of an old instruction. */
static uint32_t rewritten(merger *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    const wg_slice_attr *s = i->attr; /* of a slice */
    uint32_t number = m->group_of[id];
    if (!number && i->op == &wg__op_slice && m->group_of[i->in[0]]) /* of a slice that is now one of a product of several */
        return wg__make_slice(&m->r, m->r.to[i->in[0]], wg__axis((int)s->axis, i->shape->rank), s->from, s->count, i->loop);
    if (!number)
        return wg__rewrite_keep(&m->r, id);
    group *g = &m->groups[number - 1];
    if (g->sum == id) {
        uint32_t product = product_of(m, g), rest = rest_of(m, id, number);
        return rest ? wg__make_add(&m->r, rest, product, g->loop, m->p->list[id].origin) : product;
    }
    if (g->sum)
        return wg__rewrite_keep(&m->r, id); /* dead, unless the sum is */
    if (!g->made)
        g->made = product_of(m, g);
    int64_t from = 0;
    for (uint32_t k = 0; m->members[g->first + k] != id; k++)
        from += m->p->list[m->members[g->first + k]].shape->dim[1];
    return wg__make_slice(&m->r, g->made, 1, from, m->p->list[id].shape->dim[1], g->loop);
}

/* The matrices of a group, joined; those of one that has a host without the odd operand's. */
static void make_matrices(merger *m, group *g) {
    const int axis = joined_axis(m, g);
    uint32_t all = joint_of(m, g, 1, axis, 0);
    g->matrix = all;
    if (!g->host || g->odd == g->count || m->r.failed)
        return;
    const int64_t odd = columns_of(m, g, g->odd, g->odd + 1), rest = columns_of(m, g, 0, g->count) - odd;
    g->matrix = wg__make_slice(&m->r, all, axis, g->odd ? 0 : odd, rest, 0);
    g->odd_matrix = wg__make_slice(&m->r, all, axis, g->odd ? rest : 0, odd, 0);
}

static void enter_loop(merger *m, uint32_t loop) {
    for (int64_t k = m->of_loop[loop]; k && !m->r.failed; k = m->groups[k - 1].next)
        make_matrices(m, &m->groups[k - 1]);
}

wg_status wg__pass_gates(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    merger m = {.r.program = p, .p = p, .known.memory = p->memory};
    m.reads = wg__count_reads(p);
    m.members = wg__take(p->memory, wg__size(n, sizeof *m.members, 0));
    m.group_of = wg__take0(p->memory, wg__size(n, sizeof *m.group_of, 0));
    m.inner = wg__take0(p->memory, wg__size(n, 2, 0));
    m.chain = wg__take0(p->memory, wg__size(n, 2 * sizeof *m.chain, 0));
    m.of_loop = wg__take0(p->memory, wg__size((size_t)p->loop_count + 1, sizeof *m.of_loop, 0));
    bool good = m.of_loop && m.reads && m.members && m.group_of && m.inner && m.chain && wg__rewrite_begin(&m.r, p);
    if (good) {
        m.kept = m.inner + n;
        find_sums(&m);
    }
    if (good && !m.r.failed)
        find_readers(&m);
    if (good && !m.r.failed)
        find_hosts(&m);
    for (uint32_t id = 1; good && !m.r.failed && id < p->count; id++) {
        if (p->list[id].loop && p->loops[p->list[id].loop - 1].from == id)
            enter_loop(&m, p->list[id].loop);
        good = (m.r.to[id] = rewritten(&m, id));
    }
    good = good && !m.r.failed;
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good);
    void *const taken[] = {m.reads, m.members, m.group_of, m.inner, m.chain, m.groups, m.joints, m.of_loop};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    wg__known_free(&m.known);
    return status == WG_OK ? wg__prune(p, error) : status;
}
