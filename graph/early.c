/* early.c: a row's small result that steps of one run make of what a step of another made, and that is much smaller than that, is made
 * there, right after the last of its operands: in a derivative the scale of a normalised row, say. What it is made of need not be kept
 * for it then. Changes no value. */
#include "foreign.h"
#include "steps.h"

#include <string.h>

/* How many times smaller; how often runs are looked at again without those whose steps would no longer be alike. */
enum { SMALLER = 8, ROUNDS = 4 };

typedef struct mover {
    wg_rewrite r;
    wg_steps s;
    uint32_t *after;        /* by old id: the operand after which it is made instead; 0: it stays */
    uint32_t *first, *next; /* by old id: what is made after it, and then */
    uint32_t *last;
    int64_t *moved; /* by segment: how many of its instructions */
    bool *stays;    /* by run */
} mover;

static const wg_instruction *old(const mover *m, uint32_t id) { return &m->r.program->list[id]; }
static const wg_segment *segment_of(const mover *m, uint32_t id) { return &m->s.segments[m->s.in_segment[id] - 1]; }

/* Where a value is made, by old id. */
static uint32_t place_of(const mover *m, uint32_t id) { return m->after[id] ? m->after[id] : id; }

/* The operand of a step of another run after which an instruction is made; 0: it stays. */
static uint32_t better_place(const mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t at = 0, mask;
    bool smaller = false;
    if (!wg__in_body(&m->s, id) || i->op->kind != WG_REDUCTION || wg__bound_of(i->op) || m->stays[segment_of(m, id)->run])
        return 0;
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k];
        at = place_of(m, in) > at ? place_of(m, in) : at;
        smaller = smaller || wg__instruction_bytes(i) <= wg__instruction_bytes(old(m, in)) / SMALLER;
    }
    if (!smaller || !wg__in_body(&m->s, at) || segment_of(m, at)->run == segment_of(m, id)->run)
        return 0;
    mask = wg__instruction_rows(m->r.program, i); /* that loop still runs in tiles of rows */
    for (uint32_t k = 0; k < i->n; k++)
        if (wg__in_body(&m->s, wg__reads_const(i)[k]) && !wg__is_cut(mask, k))
            return 0;
    return at;
}

/* Whether all steps of every run give away as many. Else the run keeps its own. */
static bool are_alike(mover *m) {
    bool alike = true;
    for (int64_t s = 1; s < m->s.count; s++)
        if (m->s.segments[s].run == m->s.segments[s - 1].run && m->moved[s] != m->moved[s - 1])
            alike = !(m->stays[m->s.segments[s].run] = true);
    return alike;
}

static void note(mover *m, uint32_t id, uint32_t at) {
    m->after[id] = at;
    *(m->first[at] ? &m->next[m->last[at]] : &m->first[at]) = id;
    m->last[at] = id;
    m->moved[m->s.in_segment[id] - 1]++;
}

/* Whether there is any to be moved. */
static bool find(mover *m) {
    size_t n = (size_t)m->r.program->count;
    for (int round = 0; round < ROUNDS; round++) {
        bool any = false;
        memset(m->after, 0, n * sizeof *m->after);
        memset(m->first, 0, n * sizeof *m->first);
        memset(m->next, 0, n * sizeof *m->next);
        memset(m->moved, 0, (size_t)m->s.count * sizeof *m->moved);
        for (uint32_t id = 1; id < m->r.program->count; id++) {
            uint32_t at = better_place(m, id);
            if (at)
                note(m, id, at);
            any = any || at;
        }
        if (!any || are_alike(m))
            return any;
    }
    return false;
}

static bool rewrite(mover *m) {
    for (uint32_t id = 1; id < m->r.program->count; id++) {
        if (m->after[id])
            continue;
        if (!wg__rewrite_keep(&m->r, id))
            return false;
        for (uint32_t moved = m->first[id]; moved; moved = m->next[moved]) {
            uint32_t made = wg__rewrite_keep(&m->r, moved);
            if (!made)
                return false;
            m->r.list[made].step = old(m, id)->step;
        }
    }
    return true;
}

wg_status wg__pass_early(wg_program *p, wg_error *error) {
    mover m = {.r.program = p};
    size_t n = (size_t)p->count;
    m.after = wg__take(p->memory, wg__size(n, 4 * sizeof *m.after, 0));
    bool good = m.after && wg__steps_find(&m.s, p), any = false;
    if (good) {
        m.first = m.after + n, m.next = m.first + n, m.last = m.next + n;
        m.moved = wg__take(p->memory, wg__size((size_t)m.s.count, sizeof *m.moved, 1));
        m.stays = wg__take0(p->memory, wg__size((size_t)m.s.count, sizeof *m.stays, 1));
        good = m.moved && m.stays;
    }
    if (good) {
        any = find(&m);
        good = !any || (wg__rewrite_begin(&m.r, p) && rewrite(&m));
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&m.s);
    wg__rewrite_end(&m.r, good && any);
    wg__give(p->memory, m.after);
    wg__give(p->memory, m.moved);
    wg__give(p->memory, m.stays);
    return status;
}
