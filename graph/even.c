/* even.c: the steps at the ends of a run become like the others. A derivative's first steps begin sums that later ones go on
 * with, its last lack what only earlier steps would read, and so do the last steps of what is differentiated: where such a step is
 * the others' program but for some instructions, these are put in. An addition whose other operand is not there adds -0, which
 * changes no value (x + -0 is x, also of -0 and NaN; of a subnormal number that was only moved so far it is zero where runs flush
 * such, see wg_run_options), or, where others add what slices of a state have brought, zeros (a -0 becomes 0); anything else is computed and
 * read by nothing. So `roll` makes one loop of all. Names add, concat, and what elements and constants are made of. */
#include "loop.h"
#include "make.h"
#include "steps.h"

#include <string.h>

/* An operand of an instruction put in. */
typedef enum source_kind {
    FROM_OLD,     /* of: old id */
    FROM_MADE,    /* of: index of what was put in */
    FROM_ELEMENT, /* element `at` of old array `of` */
    FROM_NOTHING  /* a constant, `value`: there is no such value */
} source_kind;

typedef struct source {
    source_kind kind;
    uint32_t of;
    uint32_t equal; /* FROM_MADE: old id of what that equals; 0: it is not known to be anything */
    int64_t at;
    double value;
    bool valid; /* it is what other steps would read; not: it, or what it is made of, stands for what is not there */
} source;

/* An instruction to put in before old instruction `before`. */
typedef struct missing {
    uint32_t before, next; /* next: 1 + the next before the same instruction */
    uint32_t like, step;   /* the others' instruction; the step that it stands in */
    int64_t sources;       /* the first of its operands in evener.sources */
    uint32_t made;
} missing;

/* What a step has at a position of the others' body. */
typedef struct entry {
    uint32_t id;     /* old id of an instruction of its own, or of what `made` equals; 0: none */
    uint32_t made;   /* 1 + index of what was put in; 0: nothing was */
    uint32_t array;  /* `made` equals an element: of this array; 0: no */
    int64_t element;
    bool valid, nothing; /* nothing: it is -0, or zeros */
    bool open;           /* a view of what is not there, or a sum of it: it may still be settled which constant, or value from outside, that is */
} entry;

/* A constant made before a run, for operands that are not there. */
typedef struct nothing {
    const wg_shape *shape;
    double value;
    uint32_t dtype, id;
} nothing;

enum { MOST_LOOKS = 64 }; /* for each instruction of a step, so that long steps are not compared with themselves */

typedef struct evener {
    wg_rewrite r;
    wg_steps s;
    missing *list;
    int64_t count, room;
    source *sources;
    int64_t source_count, source_room;
    entry *entries; /* of steps that were made like the others */
    int64_t entry_count, entry_room;
    nothing *constants;
    int64_t constant_count, constant_room;
    int64_t *evened;   /* by segment: 1 + its first entry; 0: it is as the others; -1: it is not */
    uint32_t *like;    /* by segment: the segment that its run is compared with */
    uint32_t *before;  /* by old id, and one more: 1 + the first missing before it */
    uint32_t *instead; /* by operand: 1 + what is read instead */
    int64_t *operands; /* by old id: the number of its first operand */
    uint32_t *alias;   /* by old id that the others read: what the step read there; */
    uint32_t *alias_of; /* 1 + the segment that this was noted for */
    bool lenient;      /* elements need not be the ones expected */
    bool without;      /* constants that the others add are not there */
    int64_t start;     /* what steps before this one made is not looked at */
    int64_t looks;     /* so many may still be taken, in this step, at what may equal something missing */
} evener;

static const wg_instruction *old(const evener *w, uint32_t id) { return &w->r.program->list[id]; }
static const wg_segment *segment_at(const evener *w, int64_t s) { return &w->s.segments[s]; }
static bool is_sum(const wg_instruction *i) { return i->op == &wg__op_add && i->dtype != WG_I32; }
static bool is_own(wg_operand_place p) { return p.sort == WG_SAME && p.at == 0; }
static bool same_run(const evener *w, int64_t a, int64_t b) {
    return a >= 0 && b >= 0 && a < w->s.count && b < w->s.count && segment_at(w, a)->run == segment_at(w, b)->run;
}

/* What segment s has at a position; false if it is not like the others. */
static bool entry_at(const evener *w, int64_t s, uint32_t position, entry *e) {
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

/* Where an operand of the others, n of instruction k, is expected to be for segment s. False if that cannot be said. */
static bool expected_place(const evener *w, int64_t s, uint32_t k, uint32_t n, wg_operand_place *p) {
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

/* Whether an operand that a step reads is what it has at a position. */
static bool is_entry(const evener *w, const entry *e, uint32_t in, const wg_segment *g) {
    wg_operand_place q = wg__place_of(&w->s, in, g);
    return e->array ? q.sort == WG_ELEMENT && q.of == e->array && q.at == e->element : e->id && e->id == in;
}

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
        if (in >= a->before || is_own(wg__place_of(&w->s, in, segment_at(w, s))))
            return false;
        *from = (source){FROM_OLD, .of = in, .valid = true};
    } else if (old(w, in)->op == &wg__op_constant) {
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
    wg_operand_place p, q = wg__place_of(&w->s, in, g);
    entry e;
    bool known = expected_place(w, s, k, n, &p);
    if (old(w, in)->shape != like->shape || old(w, in)->dtype != like->dtype)
        return false;
    if (p.sort == WG_SAME && s - p.at >= w->start)
        return entry_at(w, s - p.at, p.of, &e) && (is_entry(w, &e, in, g) || is_settled(w, s - p.at, p.of, in));
    if (p.sort == WG_OUTSIDE && old(w, p.of)->op != &wg__op_constant)
        return in == p.of;
    if (known && !w->lenient && p.sort == WG_ELEMENT)
        return q.sort == WG_ELEMENT && q.of == p.of && q.at == p.at;
    if (known && !w->lenient && p.sort == WG_OTHER)
        return entry_at(w, p.at, p.of, &e) && is_entry(w, &e, in, g);
    return !is_own(q);
}

static void note_alias(evener *w, int64_t s, uint32_t in, uint32_t k, uint32_t n) {
    uint32_t like = operand_of_others(w, s, k, n);
    w->alias[like] = in;
    w->alias_of[like] = (uint32_t)s + 1;
}

/* Whether a step's instruction is the others' at position k. */
static bool pairs(evener *w, int64_t s, uint32_t own, uint32_t k) {
    const wg_instruction *a = old(w, own);
    if (!wg__same_op(a, old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k))))
        return false;
    for (uint32_t n = 0; n < a->n; n++)
        if (!reads_alike(w, s, wg__reads_const(a)[n], k, n))
            return false;
    for (uint32_t n = 0; n < a->n; n++)
        if (!is_own(wg__place_of(&w->s, wg__reads_const(a)[n], segment_at(w, s))))
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
    bool known = expected_place(w, s, k, n, &p);
    *from = (source){.kind = FROM_NOTHING, .value = -0.0};
    bool added = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k))->op == &wg__op_add;
    if (p.sort == WG_OUTSIDE && w->without && near_end && added && old(w, p.of)->op == &wg__op_constant)
        return true;
    if (p.sort == WG_OUTSIDE)
        *from = (source){FROM_OLD, .of = p.of, .valid = true};
    else if (p.sort == WG_SAME && s - p.at >= w->start && entry_at(w, s - p.at, p.of, &e))
        *from = from_entry(&e);
    else if (p.sort == WG_SAME && s - p.at >= w->start)
        return false;
    else if (w->alias_of[like] == s + 1)
        *from = (source){FROM_OLD, .of = w->alias[like], .valid = true};
    else if (known && p.sort == WG_ELEMENT)
        *from = (source){FROM_ELEMENT, .of = p.of, .at = p.at, .valid = true};
    else if (known && p.sort == WG_OTHER && entry_at(w, p.at, p.of, &e))
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
    expected_place(w, s, k, n, &p);
    return p.sort == WG_SAME && s - p.at >= w->start && entry_at(w, s - p.at, p.of, &e) && e.nothing;
}

/* What the position of an operand's value is known to equal. */
static entry known_of(const evener *w, int64_t s, uint32_t k, uint32_t n, const source *x) {
    wg_operand_place p;
    entry e;
    expected_place(w, s, k, n, &p);
    if (x->kind == FROM_MADE && p.sort == WG_SAME && entry_at(w, s - p.at, p.of, &e))
        return (entry){.id = e.id, .array = e.array, .element = e.element};
    return equal_to(w, x);
}

/* What is added from outside to what a step makes is left out where the addition is missing: a loop's ends may choose what it is. */
static void leave_out(const evener *w, int64_t s, uint32_t k, source *from) {
    wg_operand_place p[2];
    for (uint32_t n = 0; n < 2; n++)
        expected_place(w, s, k, n, &p[n]);
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
    wg_operand_place q = wg__place_of(&w->s, in, segment_at(w, s));
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
        if (!can_be(w, s, &from[n], in[n]) || old(w, in[n])->shape != old(w, operand_of_others(w, s, k, n))->shape)
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
        if (entry_at(w, s, j - 1, &e) && !e.made && e.id && computes(w, s, k, i, from, e.id))
            return e.id;
    for (int64_t before = s - 1; before >= w->start && before >= s - WG_MOST_ENDS; before--)
        if (entry_at(w, before, k, &e) && !e.made && e.id && computes(w, s, k, i, from, e.id))
            return e.id;
    return 0;
}

/* Whether what an operand is read from stands, or can stand, before an old instruction. */
static bool precedes(const evener *w, const source *x, uint32_t before) {
    return x->kind == FROM_NOTHING || (x->kind == FROM_OLD && old(w, x->of)->op == &wg__op_constant) || (x->kind == FROM_MADE ? w->list[x->of].before <= before : x->of < before);
}

/* What has been read as nothing by what is put in stays so. */
static void close_operands(evener *w, int64_t s, uint32_t k) {
    const wg_instruction *i = old(w, wg__body_of(&w->s, segment_at(w, w->like[s]), k));
    for (uint32_t n = 0; n < i->n; n++) {
        wg_operand_place p;
        expected_place(w, s, k, n, &p);
        entry *e = p.sort == WG_SAME && s - p.at >= w->start && w->evened[s - p.at] > 0 ? &w->entries[w->evened[s - p.at] - 1 + p.of] : NULL;
        if (e && e->nothing)
            e->open = false;
    }
}

static bool put_in(evener *w, int64_t s, bool at_start, bool near_end, uint32_t k, uint32_t before, entry *e) {
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
    uint32_t equal = i->op == &wg__op_add ? 0 : equal_there(w, s, k, i, w->sources + first);
    if (!judge(w, s, at_start, k, w->sources + first, e))
        return false;
    if (equal)
        e->id = equal;
    if (at_start && i->op->view && i->n == 1 && w->sources[first].kind == FROM_NOTHING)
        e->open = true;
    close_operands(w, s, k);
    if (!wg__room(w->r.program->memory, (void **)&w->list, w->count, &w->room, sizeof *w->list))
        return !(w->r.failed = true);
    w->list[w->count++] = (missing){.before = before, .like = like, .step = old(w, segment_at(w, s)->from)->step, .sources = first};
    e->made = (uint32_t)w->count;
    return true;
}

/* ---- steps ---- */

/* Compares a step with the others: true if it is their program but for what can be put in, which then is in the list. */
static bool compare(evener *w, int64_t s, bool at_start, bool near_end) {
    const wg_segment *g = segment_at(w, s);
    const int64_t from = w->count, sources = w->source_count, entries = w->entry_count;
    uint32_t at = 0, all = segment_at(w, w->like[s])->count;
    bool good = true;
    w->evened[s] = entries + 1;
    w->looks = MOST_LOOKS * (int64_t)all;
    for (uint32_t k = 0; k < all && good; k++) {
        uint32_t own = at < g->count ? wg__body_of(&w->s, g, at) : 0;
        entry e = {.id = own, .valid = true};
        if (own && pairs(w, s, own, k))
            at++;
        else
            good = put_in(w, s, at_start, near_end, k, own ? own : g->to, &e);
        if (good && !wg__room(w->r.program->memory, (void **)&w->entries, w->entry_count, &w->entry_room, sizeof *w->entries))
            good = !(w->r.failed = true);
        if (good)
            w->entries[w->entry_count++] = e;
    }
    if (good && at == g->count)
        return true;
    w->count = from, w->source_count = sources, w->entry_count = entries;
    w->evened[s] = -1;
    return false;
}

/* A step's own instructions read what was put in where the others read that. */
static void redirect(evener *w, int64_t s) {
    for (uint32_t k = 0, all = segment_at(w, w->like[s])->count; k < all; k++) {
        entry own, e;
        if (!entry_at(w, s, k, &own) || own.made)
            continue;
        for (uint32_t n = 0; n < old(w, own.id)->n; n++) {
            wg_operand_place p;
            bool known = expected_place(w, s, k, n, &p);
            if (p.sort == WG_SAME ? s - p.at < w->start : p.sort != WG_OTHER || !known)
                continue;
            if (entry_at(w, p.sort == WG_SAME ? s - p.at : p.at, p.of, &e) && e.made && is_entry(w, &e, wg__reads_const(old(w, own.id))[n], segment_at(w, s)))
                w->instead[w->operands[own.id] + n] = e.made;
        }
    }
}

/* How many steps back the steps of a run read. */
static int64_t furthest(const evener *w, int64_t s) {
    const wg_segment *g = segment_at(w, s);
    int64_t far = 0;
    for (uint32_t k = 0; k < g->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, g, k));
        for (uint32_t n = 0; n < i->n; n++) {
            wg_operand_place p = wg__place_of(&w->s, wg__reads_const(i)[n], g);
            far = p.sort == WG_SAME ? wg__max(far, p.at) : far;
        }
    }
    return far;
}

static bool try_step(evener *w, int64_t s, bool at_start, bool near_end) {
    for (int k = 0; k < 4 && !w->r.failed; k++) {
        w->lenient = k / 2;
        w->without = k % 2;
        if (compare(w, s, at_start, near_end))
            return true;
    }
    return false;
}

/* The first steps of a run, up to `end`, where they are like the others: of those that are the latest. */
static void even_start(evener *w, int64_t first, int64_t end) {
    const int64_t from = w->count;
    w->start = first;
    for (int64_t s = first; s < end && !w->r.failed; s++) {
        if (w->evened[s] == 0 || try_step(w, s, true, s < w->start + WG_MOST_ENDS))
            continue;
        for (int64_t before = w->start; before < s; before++)
            w->evened[before] = -1;
        w->count = from;
        w->start = s + 1;
    }
    for (int64_t s = w->start, to = end + furthest(w, w->like[first]); s < to && s < w->s.count && same_run(w, s, first); s++)
        redirect(w, s);
}

/* The last ones, from `from` on. */
static void even_end(evener *w, int64_t first, int64_t from, int64_t end) {
    w->start = first;
    for (int64_t s = from; s < end && !w->r.failed; s++) {
        if (w->evened[s] == 0)
            continue;
        if (!try_step(w, s, false, s >= end - WG_MOST_ENDS))
            return;
        redirect(w, s);
    }
}

/* A run [first, end). */
static void even_run(evener *w, int64_t first, int64_t end) {
    int64_t middle = first + (end - first) / 2, low = first, high = end;
    for (int64_t s = first; s < end; s++)
        w->like[s] = (uint32_t)middle, w->evened[s] = -1;
    if (end - first < 4 || !wg__same_ops(&w->s, segment_at(w, middle), segment_at(w, middle + 1)))
        return;
    for (int64_t s = first; s < end; s++) {
        w->evened[s] = wg__same_ops(&w->s, segment_at(w, s), segment_at(w, middle)) ? 0 : -1;
        low = w->evened[s] && s < middle ? s + 1 : low;
        high = w->evened[s] && s > middle ? wg__min(high, s) : high;
    }
    if (low > first)
        even_start(w, first, low);
    if (high < end && !w->r.failed)
        even_end(w, wg__max(first, w->start), high, end);
}

/* ---- the new list ---- */

/* The constant that stands for what is not there. */
static uint32_t nothing_like(evener *w, uint32_t id, double value) {
    const wg_instruction *like = old(w, id);
    value = like->dtype == WG_I32 && value == 0 ? 0 : value;
    for (int64_t k = 0; k < w->constant_count; k++)
        if (w->constants[k].shape == like->shape && w->constants[k].dtype == like->dtype &&
            memcmp(&w->constants[k].value, &value, sizeof value) == 0)
            return w->constants[k].id;
    if (!wg__room(w->r.program->memory, (void **)&w->constants, w->constant_count, &w->constant_room, sizeof *w->constants)) {
        w->r.failed = true;
        return 0;
    }
    wg_instruction i = {.op = &wg__op_constant, .shape = like->shape, .dtype = like->dtype, .value = value};
    uint32_t made = wg__rewrite_add(&w->r, &i);
    w->r.failed = w->r.failed || !made;
    w->constants[w->constant_count++] = (nothing){like->shape, value, like->dtype, made};
    return made;
}

/* Keeps an old constant before everything else. */
static void keep_constant(evener *w, uint32_t id) {
    if (w->r.to[id] || old(w, id)->op != &wg__op_constant)
        return;
    w->r.failed = !wg__rewrite_keep(&w->r, id);
    if (!w->r.failed)
        w->r.list[w->r.to[id]].step = 0;
}

/* Constants that what is put in reads stand before everything else. */
static void make_constants(evener *w) {
    for (int64_t k = 0; k < w->count; k++) {
        const wg_instruction *like = old(w, w->list[k].like);
        for (uint32_t n = 0; n < like->n && !w->r.failed; n++) {
            const source *x = &w->sources[w->list[k].sources + n];
            if (x->kind == FROM_NOTHING)
                nothing_like(w, wg__reads_const(like)[n], x->value);
            else if (x->kind == FROM_OLD)
                keep_constant(w, x->of);
        }
    }
}

static uint32_t operand_of(evener *w, const missing *a, uint32_t n) {
    const source *from = &w->sources[a->sources + n];
    uint32_t like = wg__reads_const(old(w, a->like))[n];
    if (from->kind == FROM_OLD)
        return w->r.to[from->of];
    if (from->kind == FROM_MADE)
        return w->list[from->of].made;
    if (from->kind == FROM_NOTHING)
        return nothing_like(w, like, from->value);
    const wg_shape *s = old(w, like)->shape;
    uint32_t one = wg__make_slice(&w->r, w->r.to[from->of], 0, from->at, 1, 0);
    if (one && one != w->r.to[from->of])
        w->r.list[one].step = a->step;
    uint32_t id = wg__make_reshape(&w->r, one, s->rank, s->dim, 0);
    if (id)
        w->r.list[id].step = a->step;
    return id;
}

static void make(evener *w, missing *a) {
    const wg_instruction *like = old(w, a->like);
    wg_instruction i = *like;
    uint32_t *in = i.n > 2 ? wg__arena_take(&w->r.program->arena, i.n * sizeof *in) : i.in;
    w->r.failed = w->r.failed || !in;
    for (uint32_t n = 0; n < i.n && !w->r.failed; n++)
        in[n] = operand_of(w, a, n);
    if (w->r.failed)
        return;
    if (i.n > 2)
        i.more = in;
    i.step = a->step;
    a->made = wg__rewrite_add(&w->r, &i);
    w->r.failed = !a->made;
}

/* What was put in takes its places, so that the first stands first. */
static void settle(evener *w) {
    for (int64_t k = w->count - 1; k >= 0; k--) {
        w->list[k].next = w->before[w->list[k].before];
        w->before[w->list[k].before] = (uint32_t)k + 1;
    }
}

static bool rewrite(evener *w) {
    const wg_program *p = w->r.program;
    settle(w);
    make_constants(w);
    for (uint32_t id = 1; id <= p->count && !w->r.failed; id++) {
        for (uint32_t k = w->before[id]; k && !w->r.failed; k = w->list[k - 1].next)
            make(w, &w->list[k - 1]);
        if (id == p->count || w->r.failed)
            break;
        if (w->r.to[id]) /* a constant */
            continue;
        if (!wg__rewrite_keep(&w->r, id))
            return false;
        wg_instruction *i = &w->r.list[w->r.to[id]];
        for (uint32_t n = 0; n < i->n; n++)
            if (w->instead[w->operands[id] + n])
                wg__reads(i)[n] = w->list[w->instead[w->operands[id] + n] - 1].made;
    }
    return !w->r.failed;
}

static bool begin(evener *w, wg_program *p) {
    size_t n = (size_t)p->count;
    int64_t operands;
    w->operands = wg__number_operands(p, &operands);
    w->before = wg__take0(p->memory, wg__size(n + 1, sizeof *w->before, 0));
    w->instead = wg__take0(p->memory, wg__size((size_t)operands, sizeof *w->instead, 1));
    w->alias = wg__take0(p->memory, wg__size(n, 2 * sizeof *w->alias, 0));
    w->alias_of = w->alias ? w->alias + n : NULL;
    if (!w->operands || !w->before || !w->instead || !w->alias || !wg__steps_find(&w->s, p) || !wg__rewrite_begin(&w->r, p))
        return false;
    w->evened = wg__take0(p->memory, wg__size((size_t)w->s.count, sizeof *w->evened, 1));
    w->like = wg__take0(p->memory, wg__size((size_t)w->s.count, sizeof *w->like, 1));
    return w->evened && w->like;
}

wg_status wg__pass_even(wg_program *p, wg_error *error) {
    evener w = {.r.program = p};
    bool good = begin(&w, p);
    for (int64_t first = 0, end; good && first < w.s.count; first = end) {
        for (end = first + 1; end < w.s.count && w.s.segments[end].run == w.s.segments[first].run;)
            end++;
        w.start = first;
        even_run(&w, first, end);
    }
    good = good && !w.r.failed;
    bool changes = good && w.count;
    good = good && (!changes || rewrite(&w));
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&w.s);
    wg__rewrite_end(&w.r, good && changes);
    void *const taken[] = {w.operands, w.before, w.instead, w.alias, w.list, w.sources, w.entries, w.constants, w.evened, w.like};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    return status;
}
