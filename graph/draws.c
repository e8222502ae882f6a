/* draws.c: random draws at one place of all steps of an unroll, which differ in their stream alone, are made at once before the first
 * of them; the steps read their elements of that. What each draws does not change: it follows from key, stream and element. */
#include "make.h"
#include "steps.h"

#include <string.h>

/* Draws of consecutive segments: the latest, and how far the next one's stream is. */
typedef struct series {
    uint32_t first, last; /* old ids */
    int64_t segment;      /* of the last */
    int64_t apart, times;
    uint32_t made; /* new id of all of them */
} series;

typedef struct drawer {
    wg_rewrite r;
    wg_steps s;
    series *list;
    int64_t count, room;
    uint32_t *of; /* by old id of a draw: 1 + its series */
    int64_t *at;  /* beside it: which of it */
    uint32_t *run_from; /* by run: old id of its first instruction */
} drawer;

static const wg_instruction *old(const drawer *w, uint32_t id) { return &w->r.program->list[id]; }

static uint32_t run_of(const drawer *w, uint32_t id) { return w->s.segments[w->s.in_segment[id] - 1].run; }

/* Whether an instruction is a draw in a step, with a key from before its run. */
static bool is_draw(const drawer *w, uint32_t id) {
    const wg_instruction *i = old(w, id);
    return w->s.in_segment[id] && i->op->kind == WG_RANDOM && i->n == 1 && i->attr && i->shape->rank < WG_MAX_RANK &&
           i->in[0] < w->run_from[run_of(w, id)];
}

/* Whether a draw goes on with a series. */
static bool goes_on(const drawer *w, const series *s, uint32_t id) {
    const wg_instruction *a = old(w, s->last), *b = old(w, id);
    int64_t apart, segment = (int64_t)w->s.in_segment[id] - 1;
    return segment == s->segment + 1 && w->s.segments[segment].run == w->s.segments[s->segment].run && a->op == b->op &&
           a->shape == b->shape && a->dtype == b->dtype && a->in[0] == b->in[0] && wg__draws_apart(a->op, a->attr, b->attr, &apart) &&
           (s->times == 1 || apart == s->apart);
}

static void add(drawer *w, series *s, uint32_t id) {
    if (s->times == 1)
        wg__draws_apart(old(w, id)->op, old(w, s->last)->attr, old(w, id)->attr, &s->apart);
    s->last = id;
    s->segment++;
    w->of[id] = (uint32_t)(s - w->list) + 1;
    w->at[id] = s->times++;
}

/* Sorts draws into series. Those of a step are, in order, the ones of the step before: `from` is the first series of that. */
static bool find_series(drawer *w) {
    int64_t from = 0, next = 0, segment = -1;
    for (uint32_t id = 1; id < w->r.program->count; id++) {
        if (!is_draw(w, id))
            continue;
        if ((int64_t)w->s.in_segment[id] - 1 != segment) {
            segment = (int64_t)w->s.in_segment[id] - 1;
            while (from < w->count && w->list[from].segment < segment - 1)
                from++;
            next = from;
        }
        if (next < w->count && goes_on(w, &w->list[next], id)) {
            add(w, &w->list[next++], id);
            continue;
        }
        if (!wg__room(w->r.program->memory, (void **)&w->list, w->count, &w->room, sizeof *w->list))
            return false;
        w->of[id] = (uint32_t)w->count + 1;
        w->list[w->count++] = (series){.first = id, .last = id, .segment = segment, .times = 1};
    }
    return true;
}

/* ---- the new list ---- */

static void make_all(drawer *w, series *s) {
    const wg_instruction *first = old(w, s->first);
    int64_t attr[64];
    uint32_t key = w->r.to[first->in[0]];
    wg__draws_set(attr, first->op, first->attr, s->apart, s->times);
    s->made = wg__make(&w->r, &wg__op_draws, attr, 1, &key, 0, first->origin);
}

/* One of them, in its step. */
static void make_one(drawer *w, const series *s, uint32_t id) {
    const wg_instruction *i = old(w, id);
    uint32_t slice = wg__make_slice(&w->r, s->made, 0, w->at[id], 1, 0), one = wg__make_reshape(&w->r, slice, i->shape->rank, i->shape->dim, 0);
    if (w->r.failed)
        return;
    w->r.list[slice].step = w->r.list[one].step = i->step;
    w->r.to[id] = one;
}

/* The series of a run stand before it, in no step. */
static void begin_run(drawer *w, uint32_t run, int64_t *next) {
    for (; *next < w->count && run_of(w, w->list[*next].first) == run && !w->r.failed; ++*next)
        if (w->list[*next].times > 1)
            make_all(w, &w->list[*next]);
}

static bool rewrite(drawer *w) {
    int64_t next = 0;
    for (uint32_t id = 1; id < w->r.program->count && !w->r.failed; id++) {
        if (w->s.in_segment[id] && w->run_from[run_of(w, id)] == id)
            begin_run(w, run_of(w, id), &next);
        if (w->r.failed)
            return false;
        const series *of = w->of[id] ? &w->list[w->of[id] - 1] : NULL;
        if (of && of->times > 1)
            make_one(w, of, id);
        else if (!wg__rewrite_keep(&w->r, id))
            return false;
    }
    return !w->r.failed;
}

static bool begin(drawer *w, wg_program *p) {
    size_t n = (size_t)p->count;
    w->of = wg__take0(p->memory, wg__size(n, sizeof *w->of, 0));
    w->at = wg__take0(p->memory, wg__size(n, sizeof *w->at, 0));
    if (!w->of || !w->at || !wg__steps_find(&w->s, p) || !wg__rewrite_begin(&w->r, p))
        return false;
    w->run_from = wg__take(p->memory, wg__size((size_t)w->s.count, sizeof *w->run_from, 1));
    for (int64_t s = w->s.count - 1; s >= 0 && w->run_from; s--)
        w->run_from[w->s.segments[s].run] = w->s.segments[s].from;
    return w->run_from;
}

wg_status wg__pass_draws(wg_program *p, wg_error *error) {
    drawer w = {.r.program = p};
    bool good = begin(&w, p) && find_series(&w), changes = false;
    for (int64_t k = 0; k < w.count; k++)
        changes = changes || w.list[k].times > 1;
    good = good && (!changes || rewrite(&w));
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&w.s);
    wg__rewrite_end(&w.r, good && changes);
    wg__give(p->memory, w.of);
    wg__give(p->memory, w.at);
    wg__give(p->memory, w.list);
    wg__give(p->memory, w.run_from);
    return status;
}
