/* early.c: what a derivative's step makes of values of a forward step alone, and is much smaller than they are, is made there, right
 * after the last of them: the scale of a normalised row, say. Then that is kept for the step back, not what it is made of. Changes no
 * value. */
#include "steps.h"

/* How many times smaller. */
enum { SMALLER = 8 };

typedef struct mover {
    wg_rewrite r;
    wg_steps s;
    uint32_t *after;       /* by old id: the operand after which it is made instead; 0: it stays */
    uint32_t *first, *next; /* by old id: what is made after it, and then */
    uint32_t *last;
} mover;

static const wg_instruction *old(const mover *m, uint32_t id) { return &m->r.program->list[id]; }

/* Where a value is made, by old id. */
static uint32_t place_of(const mover *m, uint32_t id) { return m->after[id] ? m->after[id] : id; }

/* The operand of a step of another run after which an instruction is made; 0: it stays. */
static uint32_t better_place(const mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    const wg_segment *own = m->s.in_segment[id] ? &m->s.segments[m->s.in_segment[id] - 1] : NULL;
    uint32_t at = 0;
    bool smaller = false;
    if (!own || i->op->kind != WG_REDUCTION)
        return 0;
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k];
        at = place_of(m, in) > at ? place_of(m, in) : at;
        smaller = smaller || wg__instruction_bytes(i) <= wg__instruction_bytes(old(m, in)) / SMALLER;
    }
    return smaller && m->s.in_segment[at] && m->s.segments[m->s.in_segment[at] - 1].run != own->run ? at : 0;
}

static bool find(mover *m) {
    bool any = false;
    for (uint32_t id = 1; id < m->r.program->count; id++) {
        uint32_t at = better_place(m, id);
        if (!at)
            continue;
        m->after[id] = at;
        any = true;
        *(m->first[at] ? &m->next[m->last[at]] : &m->first[at]) = id;
        m->last[at] = id;
    }
    return any;
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
    m.after = wg__take0(p->memory, wg__size(n, 4 * sizeof *m.after, 0));
    bool good = m.after && wg__steps_find(&m.s, p), any = false;
    if (good) {
        m.first = m.after + n, m.next = m.first + n, m.last = m.next + n;
        any = find(&m);
        good = !any || (wg__rewrite_begin(&m.r, p) && rewrite(&m));
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&m.s);
    wg__rewrite_end(&m.r, good && any);
    wg__give(p->memory, m.after);
    return status;
}
