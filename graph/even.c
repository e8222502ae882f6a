/* even.c: the steps at the ends of a run become like the others. A derivative's first steps begin sums that later ones go on
 * with, its last lack what only earlier steps would read, and so do the last steps of what is differentiated: where such a step is
 * the others' program but for some instructions, these are put in (missing.c), and what only it has leaves it, to stand before the run or
 * after it: a product of the initial state that others have from the step before, say. An addition whose other operand is not there adds -0, which
 * changes no value (x + -0 is x, also of -0 and NaN; of a subnormal number that was only moved so far it is zero where runs flush
 * such, see wg_run_options), or, where others add what slices of a state have brought, zeros (a -0 becomes 0); anything else is computed and
 * read by nothing. So `roll` makes one loop of all. Names add, concat, and what elements and constants are made of. */
#include "evener.h"

#include <string.h>

enum { MOST_LOOKS = 64 }; /* for each instruction of a step, so that long steps are not compared with themselves */

/* ---- steps ---- */

/* Takes an instruction out of a step, if it can stand before the run, or after it. */
static bool leave(evener *w, int64_t s, bool at_start, uint32_t own) {
    const wg_instruction *i = old(w, own);
    int64_t last = s;
    while (!at_start && same_run(w, last + 1, s))
        last++;
    const uint32_t before = at_start ? segment_at(w, w->start)->from : segment_at(w, last)->to;
    if (i->op->kind == WG_RANDOM || (i->op->traits & WG_NO_MERGE))
        return false;
    for (uint32_t n = 0; n < i->n && at_start; n++)
        if (wg__reads_const(i)[n] >= before && w->leaves[wg__reads_const(i)[n]] != BEFORE_RUN)
            return false;
    if (!wg__room(w->r.program->memory, (void **)&w->extras, w->extra_count, &w->extra_room, sizeof *w->extras))
        return !(w->r.failed = true);
    w->extras[w->extra_count++] = (extra){.id = own, .before = before};
    w->leaves[own] = at_start ? BEFORE_RUN : AFTER_RUN;
    return true;
}

/* Whether a step seems to have an instruction that the others lack, rather than to lack what they have at position k: it goes on like them
 * sooner after it. */
static bool seems_extra(const evener *w, int64_t s, uint32_t at, uint32_t k) {
    enum { FURTHEST = 16 };
    const wg_segment *g = segment_at(w, s), *like = segment_at(w, w->like[s]);
    uint32_t lacks = 1, more = 1;
    while (lacks < FURTHEST && (k + lacks >= like->count ||
                                !wg__same_op(old(w, wg__body_of(&w->s, g, at)), old(w, wg__body_of(&w->s, like, k + lacks)))))
        lacks++;
    while (more < FURTHEST && (at + more >= g->count ||
                                !wg__same_op(old(w, wg__body_of(&w->s, g, at + more)), old(w, wg__body_of(&w->s, like, k)))))
        more++;
    return more < lacks || (more == lacks && w->apart == LEAVE_FIRST);
}

/* Has the extras found last stay where they are. */
static void stay(evener *w, int64_t count) {
    while (w->extra_count > count)
        w->leaves[w->extras[--w->extra_count].id] = 0;
}

/* Whether nothing that stays in the steps from here on reads what is to stand after them. */
static bool can_stand_after(const evener *w, uint32_t from, uint32_t before) {
    for (uint32_t id = from; id < before; id++)
        for (uint32_t n = 0; n < old(w, id)->n && !w->leaves[id]; n++)
            if (w->leaves[wg__reads_const(old(w, id))[n]] == AFTER_RUN)
                return false;
    return true;
}

/* Compares a step with the others: true if it is their program but for what can be put in or leaves it, which then is in the lists. */
static bool compare(evener *w, int64_t s, bool at_start, bool near_end) {
    const wg_segment *g = segment_at(w, s);
    const int64_t from = w->count, sources = w->source_count, entries = w->entry_count, extras = w->extra_count;
    uint32_t at = 0, all = segment_at(w, w->like[s])->count;
    bool good = true;
    w->evened[s] = entries + 1;
    w->looks = MOST_LOOKS * (int64_t)all;
    for (uint32_t k = 0; k < all && good;) {
        uint32_t own = at < g->count ? wg__body_of(&w->s, g, at) : 0;
        entry e = {.id = own, .valid = true};
        const bool paired = own && wg__even_pairs(w, s, own, k), may_leave = own && !paired && w->apart != ALL_STAY;
        if ((may_leave && seems_extra(w, s, at, k) && leave(w, s, at_start, own)) ||
            (!paired && !wg__even_put_in(w, s, at_start, near_end, k, own ? own : g->to, &e) && may_leave && leave(w, s, at_start, own))) {
            at++;
            continue;
        }
        at += paired;
        good = paired || e.made;
        if (good && !wg__room(w->r.program->memory, (void **)&w->entries, w->entry_count, &w->entry_room, sizeof *w->entries))
            good = !(w->r.failed = true);
        if (good)
            w->entries[w->entry_count++] = e;
        k++;
    }
    while (good && at < g->count && w->apart != ALL_STAY && leave(w, s, at_start, wg__body_of(&w->s, g, at)))
        at++;
    good = good && at == g->count && 2 * (at - (w->extra_count - extras)) >= all; /* else it would be made twice */
    if (good && (w->extra_count == extras || at_start || can_stand_after(w, g->from, w->extras[extras].before)))
        return true;
    w->count = from, w->source_count = sources, w->entry_count = entries;
    stay(w, extras);
    w->evened[s] = -1;
    return false;
}

/* A step's own instructions read what was put in where the others read that. */
static void redirect(evener *w, int64_t s) {
    for (uint32_t k = 0, all = segment_at(w, w->like[s])->count; k < all; k++) {
        entry own, e;
        if (!wg__even_entry_at(w, s, k, &own) || own.made)
            continue;
        for (uint32_t n = 0; n < old(w, own.id)->n; n++) {
            wg_operand_place p;
            bool known = wg__even_expected_place(w, s, k, n, &p);
            if (p.sort == WG_SAME ? s - p.at < w->start : p.sort != WG_OTHER || !known)
                continue;
            if (wg__even_entry_at(w, p.sort == WG_SAME ? s - p.at : p.at, p.of, &e) && e.made && wg__even_is_entry(w, &e, wg__reads_const(old(w, own.id))[n], segment_at(w, s)))
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
    const int most = near_end;
    for (int apart = ALL_STAY; apart <= (near_end ? LEAVE_FIRST : ALL_STAY); apart++)
        for (int merged = 0; merged <= most; merged++)
            for (int lenient = 0; lenient <= 1; lenient++)
                for (int without = 0; without <= most && !w->r.failed; without++) {
                    w->apart = apart, w->merged = merged, w->lenient = lenient, w->without = without;
                    if (compare(w, s, at_start, near_end))
                        return true;
                }
    return false;
}

/* The first steps of a run, up to `end`, where they are like the others: of those that are the latest. */
static void even_start(evener *w, int64_t first, int64_t end) {
    const int64_t from = w->count, extras = w->extra_count;
    w->start = first;
    for (int64_t s = first; s < end && !w->r.failed; s++) {
        if (w->evened[s] == 0 || try_step(w, s, true, s < w->start + WG_MOST_ENDS))
            continue;
        for (int64_t before = w->start; before < s; before++)
            w->evened[before] = -1;
        w->count = from;
        stay(w, extras);
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
    for (int64_t k = w->extra_count - 1; k >= 0; k--) {
        w->extras[k].next = w->extra_before[w->extras[k].before];
        w->extra_before[w->extras[k].before] = (uint32_t)k + 1;
    }
}

/* Keeps an old instruction, which reads what was put in for it. */
static bool keep(evener *w, uint32_t id) {
    if (!wg__rewrite_keep(&w->r, id))
        return !(w->r.failed = true);
    wg_instruction *i = &w->r.list[w->r.to[id]];
    for (uint32_t n = 0; n < i->n; n++)
        if (w->instead[w->operands[id] + n])
            wg__reads(i)[n] = w->list[w->instead[w->operands[id] + n] - 1].made;
    return true;
}

/* Puts in what stands before an old instruction, of this step or of others. */
static void make_before(evener *w, uint32_t id, uint32_t step, bool own) {
    for (uint32_t k = w->before[id]; k && !w->r.failed; k = w->list[k - 1].next)
        if ((w->list[k - 1].step == step) == own)
            make(w, &w->list[k - 1]);
}

static bool rewrite(evener *w) {
    const wg_program *p = w->r.program;
    settle(w);
    make_constants(w);
    for (uint32_t id = 1; id <= p->count && !w->r.failed; id++) {
        const uint32_t step = id < p->count ? p->list[id].step : 0;
        make_before(w, id, step, false); /* what the step that ends here lacked */
        for (uint32_t k = w->extra_before[id]; k && !w->r.failed; k = w->extras[k - 1].next)
            if (keep(w, w->extras[k - 1].id))
                w->r.list[w->r.to[w->extras[k - 1].id]].step = 0;
        make_before(w, id, step, true);
        if (id < p->count && !w->r.to[id] && !w->leaves[id] && !w->r.failed) /* else it is a constant, or has left */
            keep(w, id);
    }
    return !w->r.failed;
}

static bool begin(evener *w, wg_program *p) {
    size_t n = (size_t)p->count;
    int64_t operands;
    w->operands = wg__number_operands(p, &operands);
    w->before = wg__take0(p->memory, wg__size(n + 1, 2 * sizeof *w->before, 0));
    w->leaves = wg__take0(p->memory, n);
    w->instead = wg__take0(p->memory, wg__size((size_t)operands, sizeof *w->instead, 1));
    w->alias = wg__take0(p->memory, wg__size(n, 2 * sizeof *w->alias, 0));
    w->alias_of = w->alias ? w->alias + n : NULL;
    w->extra_before = w->before ? w->before + n + 1 : NULL;
    if (!w->operands || !w->before || !w->leaves || !w->instead || !w->alias || !wg__steps_find(&w->s, p) || !wg__rewrite_begin(&w->r, p))
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
    bool changes = good && (w.count || w.extra_count);
    good = good && (!changes || rewrite(&w));
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&w.s);
    wg__rewrite_end(&w.r, good && changes);
    void *const taken[] = {w.operands, w.before, w.instead, w.alias, w.list, w.extras, w.leaves, w.sources, w.entries, w.constants, w.evened, w.like};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    return status;
}
