/* again.c: a sum, difference or product that steps of one run make and steps of another read, and that is made of nothing but what those
 * read anyway, is made again there: in a derivative the 1 - z of a gate. It need not be kept for them then, which costs more than making
 * it. Changes no value. Names one op, constant, which costs nothing to read; what is cheap it asks of pairs.h. */
#include "known.h"
#include "pairs.h"
#include "steps.h"

typedef struct maker {
    wg_rewrite r;
    wg_steps s;
    bool *kept;        /* by old id: something outside of all steps reads it */
    uint32_t *read;    /* by old id: 1 + the segment looked at last that reads it; */
    uint32_t *whole;   /* and of those whose reader is no pointwise op of its shape */
    uint32_t *made_in; /* by old id: 1 + the last segment that it was made again in; */
    uint32_t *made;    /* and the new id there */
    uint64_t *sign;    /* by segment: of what is made again in it, and of where it is read */
    bool *stays;       /* by run: its steps would no longer be alike */
} maker;

static const wg_instruction *old(const maker *m, uint32_t id) { return &m->r.program->list[id]; }

static void find_kept(maker *m) {
    const wg_program *p = m->r.program;
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t k = 0; k < p->list[id].n && !wg__in_body(&m->s, id); k++)
            m->kept[wg__reads_const(&p->list[id])[k]] = true;
    for (int i = 0; i < p->output_count; i++)
        m->kept[p->outputs[i]] = true;
}

/* What a step reads, and how. */
static void look_at(maker *m, int64_t segment) {
    const wg_segment *g = &m->s.segments[segment];
    for (uint32_t b = 0; b < g->count; b++) {
        const wg_instruction *i = old(m, wg__body_of(&m->s, g, b));
        for (uint32_t k = 0; k < i->n; k++) {
            uint32_t in = wg__reads_const(i)[k];
            m->read[in] = (uint32_t)segment + 1;
            if (i->op->kind != WG_POINTWISE || i->shape != old(m, in)->shape)
                m->whole[in] = (uint32_t)segment + 1;
        }
    }
}

/* Whether the step looked at makes a value again. */
static bool makes_again(const maker *m, int64_t segment, uint32_t id) {
    const wg_instruction *i = old(m, id);
    const wg_segment *reader = &m->s.segments[segment];
    if (!wg__in_body(&m->s, id) || m->s.segments[m->s.in_segment[id] - 1].run == reader->run || m->kept[id] ||
        m->whole[id] == (uint32_t)segment + 1 || wg__pair_op_of(i->op) == WG__PAIR_NONE || m->s.run_length[reader->run] == 1 || m->stays[reader->run])
        return false;
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k];
        if (old(m, in)->op != &wg__op_constant && m->read[in] != (uint32_t)segment + 1)
            return false;
    }
    return true;
}

/* What each step makes again. False if there is nothing. */
static bool count_all(maker *m) {
    bool any = false;
    for (int64_t s = 0; s < m->s.count; s++) {
        const wg_segment *g = &m->s.segments[s];
        look_at(m, s);
        for (uint32_t b = 0; b < g->count; b++) {
            const wg_instruction *i = old(m, wg__body_of(&m->s, g, b));
            for (uint32_t k = 0; k < i->n; k++) {
                uint32_t in = wg__reads_const(i)[k];
                if (m->made_in[in] == (uint32_t)s + 1 || !makes_again(m, s, in))
                    continue;
                m->made_in[in] = (uint32_t)s + 1;
                m->sign[s] = wg__mix(wg__mix(m->sign[s], m->s.position[in]), b);
                any = true;
            }
        }
    }
    return any;
}

/* A run whose steps would make different things again makes none. */
static void find_unlike(maker *m) {
    for (int64_t s = 1; s < m->s.count; s++)
        if (m->s.segments[s].run == m->s.segments[s - 1].run && m->sign[s] != m->sign[s - 1])
            m->stays[m->s.segments[s].run] = true;
    for (uint32_t id = 1; id < m->r.program->count; id++)
        m->made_in[id] = m->read[id] = m->whole[id] = 0;
}

/* The new id by which a step reads a value. */
static uint32_t seen_from(const maker *m, int64_t segment, uint32_t id) {
    return m->made_in[id] == (uint32_t)segment + 1 ? m->made[id] : m->r.to[id];
}

/* What of an instruction's operands is not yet made again in its step, is: in order, since one may be made of another. */
static bool make_operands(maker *m, int64_t segment, uint32_t reader) {
    for (uint32_t k = 0; k < old(m, reader)->n; k++) {
        uint32_t id = wg__reads_const(old(m, reader))[k];
        if (m->made_in[id] == (uint32_t)segment + 1 || !makes_again(m, segment, id))
            continue;
        wg_instruction copy = *old(m, id);
        for (uint32_t j = 0; j < copy.n; j++)
            copy.in[j] = seen_from(m, segment, copy.in[j]);
        copy.step = old(m, reader)->step;
        m->made[id] = wg__rewrite_add(&m->r, &copy);
        m->made_in[id] = (uint32_t)segment + 1;
        if (!m->made[id])
            return false;
    }
    return true;
}

static bool rewrite(maker *m) {
    int64_t now = -1;
    for (uint32_t id = 1; id < m->r.program->count; id++) {
        if (!wg__in_body(&m->s, id)) {
            if (!wg__rewrite_keep(&m->r, id))
                return false;
            continue;
        }
        int64_t segment = m->s.in_segment[id] - 1;
        if (segment != now)
            look_at(m, now = segment);
        if (!make_operands(m, segment, id) || !wg__rewrite_keep(&m->r, id))
            return false;
        wg_instruction *kept = &m->r.list[m->r.to[id]];
        for (uint32_t k = 0; k < kept->n; k++)
            wg__reads(kept)[k] = seen_from(m, segment, wg__reads_const(old(m, id))[k]);
    }
    return true;
}

wg_status wg__pass_again(wg_program *p, wg_error *error) {
    maker m = {.r.program = p};
    size_t n = (size_t)p->count;
    m.read = wg__take0(p->memory, wg__size(n, 4 * sizeof *m.read, 0));
    m.kept = wg__take0(p->memory, wg__size(n, sizeof *m.kept, 0));
    bool good = m.read && m.kept && wg__steps_find(&m.s, p), any = false;
    if (good) {
        m.whole = m.read + n, m.made_in = m.whole + n, m.made = m.made_in + n;
        m.sign = wg__take0(p->memory, wg__size((size_t)m.s.count, sizeof *m.sign, 1));
        m.stays = wg__take0(p->memory, wg__size((size_t)m.s.count, sizeof *m.stays, 1));
        good = m.sign && m.stays;
    }
    if (good) {
        find_kept(&m);
        any = count_all(&m);
        if (any)
            find_unlike(&m);
        good = !any || (wg__rewrite_begin(&m.r, p) && rewrite(&m));
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&m.s);
    wg__rewrite_end(&m.r, good && any);
    void *const taken[] = {m.read, m.kept, m.sign, m.stays};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    return status;
}
