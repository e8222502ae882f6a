/* missing.c: what a step at an end of a run reads and lacks beside the others: for the pass `even`. */
#include "evener.h"

#include <string.h>

bool wg__even_entry_at(const evener *w, int64_t s, uint32_t position, entry *e) {
    if (w->evened[s] < 0)
        return false;
    *e = w->evened[s] ? w->entries[w->evened[s] - 1 + position] : (entry){.id = wg__body_of(&w->s, segment_at(w, s), position), .valid = true};
    return true;
}

/* ---- operands of a step, expected from what the others read ---- */

/* Operand n of the others' instruction k. */
static uint32_t operand_of_others(const evener *w, int64_t s, uint32_t k, uint32_t n) {
    return wg__reads_const(old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k)))[n];
}

bool wg__even_expected_place(const evener *w, int64_t s, uint32_t k, uint32_t n, wg_operand_place *p) {
    int64_t like = w->like[s];
    const wg_segment *g = segment_at(w, like);
    *p = wg__place_of(&w->s, wg__reads_const(old(w, wg__body_of(&w->s, g, k)))[n], g);
    if (p->sort == WG_SAME && w->evened[like - p->at]) { /* of a step unlike the others: its positions say nothing */
        p->sort = WG_OTHER;
        return false;
    }
    if (p->sort == WG_OUTSIDE || p->sort == WG_SAME)
        return true;
    wg_operand_place q = wg__place_of(&w->s, wg__reads_const(old(w, wg__body_of(&w->s, g + 1, k)))[n], g + 1);
    int64_t from = p->at;
    if (q.sort != p->sort || q.of != p->of)
        return false;
    p->at += (q.at - p->at) * (s - like);
    if (p->sort == WG_ELEMENT)
        return p->at >= 0 && p->at < old(w, p->of)->shape->dim[0];
    return same_run(w, from, p->at) && w->evened[from] == 0 && w->evened[p->at] >= 0;
}

bool wg__even_is_entry(const evener *w, const entry *e, uint32_t in, const wg_segment *g) {
    wg_operand_place q = place_seen(w, in, g);
    return e->array ? q.sort == WG_ELEMENT && q.of == e->array && q.at == e->element : e->id && e->id == in;
}

static bool same_number(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

/* Where others read a view of what they carry, the first step reads a constant: views of constants are such. Where they read a sum of that
 * and of what is not there, it reads what they carry from the beginning on. */
static bool is_settled(evener *w, int64_t s, uint32_t position, uint32_t in) {
    entry *e = w->evened[s] > 0 ? &w->entries[w->evened[s] - 1 + position] : NULL;
    if (!e || !e->open)
        return false;
    const missing *a = &w->list[e->made - 1];
    source *from = &w->sources[a->sources];
    if (is_sum(old(w, a->like))) {
        from += from->kind != FROM_NOTHING;
        if (in >= a->before || is_own(place_seen(w, in, segment_at(w, s))))
            return false;
        *from = (source){FROM_OLD, .of = in, .valid = true};
    } else if (old(w, in)->op == &wg__op_constant && (from->kind == FROM_NOTHING || same_number(old(w, from->of)->value, old(w, in)->value))) {
        from->value = old(w, in)->value;
    } else {
        return false;
    }
    e->id = in;
    e->valid = true;
    e->open = e->nothing = false;
    return true;
}

/* Whether operand `in` of a step's instruction is what the others read there. */
static bool reads_alike(evener *w, int64_t s, uint32_t in, uint32_t k, uint32_t n) {
    const wg_segment *g = segment_at(w, s);
    const wg_instruction *like = old(w, operand_of_others(w, s, k, n));
    wg_operand_place p, q = place_seen(w, in, g);
    entry e;
    bool known = wg__even_expected_place(w, s, k, n, &p);
    if (old(w, in)->shape != like->shape || old(w, in)->dtype != like->dtype)
        return false;
    if (p.sort == WG_SAME && s - p.at >= w->start)
        return wg__even_entry_at(w, s - p.at, p.of, &e) && (wg__even_is_entry(w, &e, in, g) || is_settled(w, s - p.at, p.of, in));
    if (p.sort == WG_OUTSIDE && old(w, p.of)->op != &wg__op_constant)
        return in == p.of;
    if (known && !w->lenient && p.sort == WG_ELEMENT)
        return q.sort == WG_ELEMENT && q.of == p.of && q.at == p.at;
    if (known && !w->lenient && p.sort == WG_OTHER)
        return wg__even_entry_at(w, p.at, p.of, &e) && wg__even_is_entry(w, &e, in, g);
    return !is_own(q);
}

static void note_alias(evener *w, int64_t s, uint32_t in, uint32_t k, uint32_t n) {
    uint32_t like = operand_of_others(w, s, k, n);
    w->alias[like] = in;
    w->alias_of[like] = (uint32_t)s + 1;
}

bool wg__even_pairs(evener *w, int64_t s, uint32_t own, uint32_t k) {
    const wg_instruction *a = old(w, own);
    if (!wg__same_op(a, old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k))))
        return false;
    for (uint32_t n = 0; n < a->n; n++)
        if (!reads_alike(w, s, wg__reads_const(a)[n], k, n))
            return false;
    for (uint32_t n = 0; n < a->n; n++)
        if (!is_own(place_seen(w, wg__reads_const(a)[n], segment_at(w, s))))
            note_alias(w, s, wg__reads_const(a)[n], k, n);
    return true;
}

/* ---- what is missing ---- */

static source from_entry(const entry *e) {
    return e->made ? (source){FROM_MADE, .of = e->made - 1, .equal = e->id, .valid = e->valid} : (source){FROM_OLD, .of = e->id, .valid = e->valid};
}

/* What a step would read at operand n of its missing instruction k. False if nothing can stand for it. */
static bool source_of(const evener *w, int64_t s, bool near_end, uint32_t k, uint32_t n, source *from) {
    uint32_t like = operand_of_others(w, s, k, n);
    wg_operand_place p;
    entry e;
    bool known = wg__even_expected_place(w, s, k, n, &p);
    *from = (source){.kind = FROM_NOTHING, .value = -0.0};
    bool added = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k))->op == &wg__op_add;
    if (p.sort == WG_OUTSIDE && w->without && near_end && added && old(w, p.of)->op == &wg__op_constant)
        return true;
    if (p.sort == WG_OUTSIDE)
        *from = (source){FROM_OLD, .of = p.of, .valid = true};
    else if (p.sort == WG_SAME && s - p.at >= w->start && wg__even_entry_at(w, s - p.at, p.of, &e))
        *from = from_entry(&e);
    else if (p.sort == WG_SAME && s - p.at >= w->start)
        return false;
    else if (w->alias_of[like] == s + 1)
        *from = (source){FROM_OLD, .of = w->alias[like], .valid = true};
    else if (known && p.sort == WG_ELEMENT)
        *from = (source){FROM_ELEMENT, .of = p.of, .at = p.at, .valid = true};
    else if (known && p.sort == WG_OTHER && wg__even_entry_at(w, p.at, p.of, &e))
        *from = from_entry(&e);
    return from->kind != FROM_NOTHING || p.sort == WG_SAME || near_end; /* loops carry what is before them, and their ends have choices */
}

/* What an addition of one operand and of nothing equals. */
static entry equal_to(const evener *w, const source *x) {
    if (x->kind == FROM_ELEMENT)
        return (entry){.array = x->of, .element = x->at};
    if (x->kind == FROM_OLD && w->s.array[x->of])
        return (entry){.array = w->s.array[x->of], .element = w->s.element[x->of]};
    if (x->kind == FROM_OLD)
        return (entry){.id = x->of};
    return (entry){0};
}

static bool is_nothing(const evener *w, int64_t s, uint32_t k, uint32_t n) {
    wg_operand_place p;
    entry e;
    wg__even_expected_place(w, s, k, n, &p);
    return p.sort == WG_SAME && s - p.at >= w->start && wg__even_entry_at(w, s - p.at, p.of, &e) && e.nothing;
}

/* What the position of an operand's value is known to equal. */
static entry known_of(const evener *w, int64_t s, uint32_t k, uint32_t n, const source *x) {
    wg_operand_place p;
    entry e;
    wg__even_expected_place(w, s, k, n, &p);
    if (x->kind == FROM_MADE && p.sort == WG_SAME && wg__even_entry_at(w, s - p.at, p.of, &e))
        return (entry){.id = e.id, .array = e.array, .element = e.element};
    return equal_to(w, x);
}

/* What is added from outside to what a step makes is left out where the addition is missing: a loop's ends may choose what it is. */
static void leave_out(const evener *w, int64_t s, uint32_t k, source *from) {
    wg_operand_place p[2];
    for (uint32_t n = 0; n < 2; n++)
        wg__even_expected_place(w, s, k, n, &p[n]);
    for (int n = 0; n < 2; n++) {
        bool outside = p[n].sort == WG_ELEMENT || p[n].sort == WG_OTHER || (p[n].sort == WG_OUTSIDE && old(w, p[n].of)->op == &wg__op_constant);
        if (outside && p[1 - n].sort == WG_SAME && from[1 - n].valid)
            from[n] = (source){.kind = FROM_NOTHING, .value = -0.0};
    }
}

/* Whether it is the adjoint of what is read in slices, of which none is there: zeros fill it up. */
static bool are_no_columns(const evener *w, int64_t s, uint32_t k, const source *from) {
    const wg_instruction *i = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k));
    bool none = i->op == &wg__op_concat && i->dtype != WG_I32, any = false;
    for (uint32_t n = 0; n < i->n && none; n++) {
        const bool absent = from[n].kind == FROM_NOTHING || is_nothing(w, s, k, n);
        const wg_instruction *zeros = from[n].kind == FROM_OLD ? old(w, from[n].of) : NULL;
        none = absent || (zeros && zeros->op == &wg__op_constant && zeros->value == 0);
        any = any || absent;
    }
    return none && any;
}

/* What is known of a missing instruction. False if its step cannot be made like the others. */
static bool judge(const evener *w, int64_t s, bool at_start, uint32_t k, source *from, entry *e) {
    const wg_instruction *i = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k));
    bool valid = true;
    for (uint32_t n = 0; n < i->n; n++)
        valid = valid && from[n].valid;
    *e = (entry){.valid = valid};
    if (are_no_columns(w, s, k, from)) {
        *e = (entry){.valid = true, .nothing = true};
        return true;
    }
    if (!is_sum(i))
        return true;
    bool absent[2], nothing_there[2];
    for (int n = 0; n < 2; n++) {
        nothing_there[n] = is_nothing(w, s, k, (uint32_t)n);
        absent[n] = from[n].kind == FROM_NOTHING || nothing_there[n];
        if (!absent[n] && !from[n].valid)
            return !at_start; /* a derivative that is not there would be added */
    }
    if (!absent[0] && !absent[1])
        return true;
    if (absent[0] && absent[1]) {
        *e = (entry){.valid = true, .nothing = true, .open = at_start && (from[0].kind == FROM_NOTHING || from[1].kind == FROM_NOTHING)};
        return true;
    }
    uint32_t n = absent[0];
    *e = known_of(w, s, k, n, &from[n]);
    e->valid = true;
    return true;
}

/* Ops whose kernels may refuse what they read are left alone, and what is not to be computed twice. */
static bool can_be_put_in(const wg_instruction *i) {
    return i->op->kind != WG_INDEX && i->op->kind != WG_RANDOM && i->op->kind != WG_EFFECT && !(i->op->traits & WG_NO_MERGE);
}

/* Whether an operand of an instruction put in can be operand `in` of one that is there. */
static bool can_be(const evener *w, int64_t s, const source *from, uint32_t in) {
    wg_operand_place q = place_seen(w, in, segment_at(w, s));
    if (from->kind == FROM_OLD)
        return from->of == in;
    if (from->kind == FROM_ELEMENT)
        return q.sort == WG_ELEMENT && q.of == from->of && q.at == from->at;
    if (from->kind == FROM_MADE)
        return from->equal == in;
    return q.sort != WG_SAME; /* there is nothing: it can be anything from before */
}

/* Whether an instruction that is there computes what is missing at position k; then what is not there is settled to be what it reads. */
static bool computes(const evener *w, int64_t s, uint32_t k, const wg_instruction *i, source *from, uint32_t id) {
    const uint32_t *in = wg__reads_const(old(w, id));
    if (!wg__same_op(old(w, id), i))
        return false;
    for (uint32_t n = 0; n < i->n; n++)
        if (!can_be(w, s, &from[n], in[n]) || old(w, in[n])->shape != old(w, operand_of_others(w, s, k, n))->shape ||
            old(w, in[n])->dtype != old(w, operand_of_others(w, s, k, n))->dtype)
            return false;
    for (uint32_t n = 0; n < i->n; n++)
        if (from[n].kind == FROM_NOTHING)
            from[n] = (source){FROM_OLD, .of = in[n], .valid = true};
    return true;
}

/* An instruction that is there, in the step or at the same position of the ones before, and computes the same, since states that begin
 * alike do: what is missing is another of it. 0: there is none. */
static uint32_t equal_there(evener *w, int64_t s, uint32_t k, const wg_instruction *i, source *from) {
    entry e;
    for (uint32_t j = k; j > 0 && w->looks > 0; j--, w->looks--)
        if (wg__even_entry_at(w, s, j - 1, &e) && !e.made && e.id && computes(w, s, k, i, from, e.id))
            return e.id;
    for (int64_t before = s - 1; before >= w->start && before >= s - WG_MOST_ENDS; before--)
        if (wg__even_entry_at(w, before, k, &e) && !e.made && e.id && computes(w, s, k, i, from, e.id))
            return e.id;
    return 0;
}

/* Whether what an operand is read from stands, or can stand, before an old instruction. */
static bool precedes(const evener *w, const source *x, uint32_t before) {
    return x->kind == FROM_NOTHING || (x->kind == FROM_OLD && w->leaves[x->of] == BEFORE_RUN) || (x->kind == FROM_OLD && old(w, x->of)->op == &wg__op_constant) || (x->kind == FROM_MADE ? w->list[x->of].before <= before : x->of < before);
}

/* What has been read as nothing by what is put in stays so. */
static void close_operands(evener *w, int64_t s, uint32_t k) {
    const wg_instruction *i = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k));
    for (uint32_t n = 0; n < i->n; n++) {
        wg_operand_place p;
        wg__even_expected_place(w, s, k, n, &p);
        entry *e = p.sort == WG_SAME && s - p.at >= w->start && w->evened[s - p.at] > 0 ? &w->entries[w->evened[s - p.at] - 1 + p.of] : NULL;
        if (e && e->nothing)
            e->open = false;
    }
}

bool wg__even_put_in(evener *w, int64_t s, bool at_start, bool near_end, uint32_t k, uint32_t before, entry *e) {
    uint32_t like = wg__body_of(&w->s, segment_at(w, w->like[s]), k);
    const wg_instruction *i = old(w, like);
    int64_t first = w->source_count;
    if (!can_be_put_in(i))
        return false;
    for (uint32_t n = 0; n < i->n; n++) {
        if (!wg__room(w->r.program->memory, (void **)&w->sources, w->source_count, &w->source_room, sizeof *w->sources))
            return !(w->r.failed = true);
        source *from = &w->sources[w->source_count++];
        if (!source_of(w, s, near_end, k, n, from) || !precedes(w, from, before))
            return false;
    }
    if (near_end && is_sum(i))
        leave_out(w, s, k, w->sources + first);
    uint32_t equal = i->op == &wg__op_add && !w->merged ? 0 : equal_there(w, s, k, i, w->sources + first);
    if (!judge(w, s, at_start, k, w->sources + first, e))
        return false;
    if (equal)
        e->id = equal;
    const source *of = &w->sources[first];
    if (at_start && i->op->view && i->n == 1 && (of->kind == FROM_NOTHING || (of->kind == FROM_OLD && old(w, of->of)->op == &wg__op_constant)))
        e->open = true;
    close_operands(w, s, k);
    if (!wg__room(w->r.program->memory, (void **)&w->list, w->count, &w->room, sizeof *w->list))
        return !(w->r.failed = true);
    w->list[w->count++] = (missing){.before = before, .like = like, .step = old(w, segment_at(w, s)->from)->step, .sources = first};
    e->made = (uint32_t)w->count;
    return true;
}
