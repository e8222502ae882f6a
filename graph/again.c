/* again.c: a sum, difference or product that steps of one run make and steps of others read, and that is made of nothing but what those
 * read anyway, is made again there: in a derivative the 1 - z of a gate. It need not be kept for them then, which costs more than making
 * it. Changes no value. Names one op, constant, which costs nothing to read; what is cheap it asks of pairs.h. */
#include "known.h"
#include "pairs.h"
#include "steps.h"

/* How often runs are looked at again without those whose steps would no longer be alike. */
enum { ROUNDS = 4 };

typedef struct maker {
    wg_rewrite r;
    wg_steps s;
    bool *kept;        /* by old id: it has to be kept all the same, for a reader that cannot make it again; */
    bool *wanted;      /* steps of another run read it; */
    bool *again;       /* those make it again */
    uint32_t *read;    /* by old id: 1 + the segment looked at last that reads it; */
    uint32_t *whole;   /* and of those that more than pointwise ops of it read */
    uint32_t *made_in; /* by old id: 1 + the last segment that it was made again in; */
    uint32_t *made;    /* and the new id there */
    uint64_t *sign;    /* by segment: of what is made again in it, and of where it is read */
    bool *stays;       /* by run: its steps would no longer be alike */
} maker;

static const wg_instruction *old(const maker *m, uint32_t id) { return &m->r.program->list[id]; }

/* What a step reads, and how. */
static void look_at(maker *m, int64_t segment) {
    const wg_segment *g = &m->s.segments[segment];
    for (uint32_t b = 0; b < g->count; b++) {
        const wg_instruction *i = old(m, wg__body_of(&m->s, g, b));
        for (uint32_t k = 0; k < i->n; k++) {
            m->read[wg__reads_const(i)[k]] = (uint32_t)segment + 1;
            if (i->op->kind != WG_POINTWISE)
                m->whole[wg__reads_const(i)[k]] = (uint32_t)segment + 1;
        }
    }
}

/* Whether a value is made by a step of another run than this one's. */
static bool is_of_another(const maker *m, int64_t segment, uint32_t id) {
    return wg__in_body(&m->s, id) && m->s.segments[m->s.in_segment[id] - 1].run != m->s.segments[segment].run;
}

/* Whether the step looked at could make again what it reads. */
static bool can_make(const maker *m, int64_t segment, uint32_t id) {
    const wg_instruction *i = old(m, id);
    const uint32_t run = m->s.segments[segment].run;
    if (wg__pair_op_of(i->op) == WG__PAIR_NONE || m->whole[id] == (uint32_t)segment + 1 || m->s.run_length[run] == 1 || m->stays[run])
        return false;
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k];
        if (old(m, in)->op != &wg__op_constant && m->read[in] != (uint32_t)segment + 1)
            return false;
    }
    return true;
}

/* What all its readers in other runs can make again of what is not itself made again. False if there is nothing. */
static bool find(maker *m) {
    const wg_program *p = m->r.program;
    bool any = false;
    for (uint32_t id = 1; id < p->count; id++) {
        m->read[id] = m->whole[id] = 0;
        for (uint32_t k = 0; k < p->list[id].n && !wg__in_body(&m->s, id); k++)
            m->kept[wg__reads_const(&p->list[id])[k]] = true;
    }
    for (int i = 0; i < p->output_count; i++)
        m->kept[p->outputs[i]] = true;
    for (int64_t s = 0; s < m->s.count; s++) {
        const wg_segment *g = &m->s.segments[s];
        look_at(m, s);
        for (uint32_t b = 0; b < g->count; b++) {
            const wg_instruction *i = old(m, wg__body_of(&m->s, g, b));
            for (uint32_t k = 0; k < i->n; k++)
                if (is_of_another(m, s, wg__reads_const(i)[k]))
                    *(can_make(m, s, wg__reads_const(i)[k]) ? &m->wanted[wg__reads_const(i)[k]] : &m->kept[wg__reads_const(i)[k]]) = true;
        }
    }
    for (uint32_t id = 1; id < p->count; id++) {
        m->again[id] = m->wanted[id] && !m->kept[id];
        for (uint32_t k = 0; k < p->list[id].n && m->again[id]; k++)
            m->again[id] = !m->again[wg__reads_const(&p->list[id])[k]];
        any = any || m->again[id];
    }
    return any;
}

static bool makes_again(const maker *m, int64_t segment, uint32_t id) { return m->again[id] && is_of_another(m, segment, id); }

/* Whether all steps of every run would make the same again. Else the run makes nothing. */
static bool are_alike(maker *m) {
    bool alike = true;
    for (int64_t s = 0; s < m->s.count; s++) {
        const wg_segment *g = &m->s.segments[s];
        m->sign[s] = 0;
        for (uint32_t b = 0; b < g->count; b++) {
            const wg_instruction *i = old(m, wg__body_of(&m->s, g, b));
            for (uint32_t k = 0; k < i->n; k++) {
                uint32_t in = wg__reads_const(i)[k];
                if (makes_again(m, s, in))
                    m->sign[s] = wg__mix(wg__mix(m->sign[s], m->s.position[in]), wg__mix(b, m->s.segments[m->s.in_segment[in] - 1].run));
            }
        }
        if (s > 0 && m->s.segments[s - 1].run == g->run && m->sign[s] != m->sign[s - 1])
            alike = !(m->stays[g->run] = true);
    }
    return alike;
}

static bool settle(maker *m) {
    for (int round = 0; round < ROUNDS; round++) {
        if (!find(m))
            return false;
        if (are_alike(m))
            return true;
    }
    return false;
}

/* The new id by which a step reads a value. */
static uint32_t seen_from(const maker *m, int64_t segment, uint32_t id) {
    return m->made_in[id] == (uint32_t)segment + 1 ? m->made[id] : m->r.to[id];
}

/* What of an instruction's operands is not yet made again in its step, is. */
static bool make_operands(maker *m, int64_t segment, uint32_t reader) {
    for (uint32_t k = 0; k < old(m, reader)->n; k++) {
        uint32_t id = wg__reads_const(old(m, reader))[k];
        if (m->made_in[id] == (uint32_t)segment + 1 || !makes_again(m, segment, id))
            continue;
        wg_instruction copy = *old(m, id);
        for (uint32_t j = 0; j < copy.n; j++)
            copy.in[j] = m->r.to[copy.in[j]];
        copy.step = old(m, reader)->step;
        m->made[id] = wg__rewrite_add(&m->r, &copy);
        m->made_in[id] = (uint32_t)segment + 1;
        if (!m->made[id])
            return false;
    }
    return true;
}

static bool rewrite(maker *m) {
    for (uint32_t id = 1; id < m->r.program->count; id++) {
        const bool inside = wg__in_body(&m->s, id);
        const int64_t segment = inside ? m->s.in_segment[id] - 1 : 0;
        if ((inside && !make_operands(m, segment, id)) || !wg__rewrite_keep(&m->r, id))
            return false;
        wg_instruction *kept = &m->r.list[m->r.to[id]];
        for (uint32_t k = 0; k < kept->n && inside; k++)
            wg__reads(kept)[k] = seen_from(m, segment, wg__reads_const(old(m, id))[k]);
    }
    return true;
}

wg_status wg__pass_again(wg_program *p, wg_error *error) {
    maker m = {.r.program = p};
    size_t n = (size_t)p->count;
    m.read = wg__take0(p->memory, wg__size(n, 4 * sizeof *m.read, 0));
    m.kept = wg__take0(p->memory, wg__size(n, 3 * sizeof *m.kept, 0));
    bool good = m.read && m.kept && wg__steps_find(&m.s, p), any = false;
    if (good) {
        m.whole = m.read + n, m.made_in = m.whole + n, m.made = m.made_in + n;
        m.wanted = m.kept + n, m.again = m.wanted + n;
        m.sign = wg__take0(p->memory, wg__size((size_t)m.s.count, sizeof *m.sign, 1));
        m.stays = wg__take0(p->memory, wg__size((size_t)m.s.count, sizeof *m.stays, 1));
        good = m.sign && m.stays;
    }
    if (good) {
        any = settle(&m);
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
