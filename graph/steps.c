/* steps.c: the steps of unrolls, see steps.h. Changes nothing. */
#include "steps.h"

#include <string.h>

static const wg_instruction *old(const wg_steps *w, uint32_t id) { return &w->program->list[id]; }

/* ---- segments and their bodies ---- */

static bool find_segments(wg_steps *w) {
    const wg_program *p = w->program;
    for (uint32_t id = 1; id < p->count; id++) {
        uint32_t step = p->list[id].step;
        if (!step)
            continue;
        wg_segment *last = w->count ? &w->segments[w->count - 1] : NULL;
        if (!last || p->list[last->from].step != step || last->to != id) {
            if (!wg__room(p->memory, (void **)&w->segments, w->count, &w->room, sizeof *w->segments))
                return false;
            wg_segment s = {.from = id, .unroll = p->steps[step].unroll, .step = p->steps[step].step};
            last = w->count ? &w->segments[w->count - 1] : NULL;
            bool follows = last && last->to == id && last->unroll == s.unroll && last->step + 1 == s.step;
            s.run = last ? last->run + !follows : 0;
            w->segments[w->count++] = s;
        }
        w->segments[w->count - 1].to = id + 1;
        w->in_segment[id] = (uint32_t)w->count;
    }
    w->run_length = wg__take0(p->memory, wg__size((size_t)w->count, sizeof *w->run_length, 1));
    for (int64_t s = 0; w->run_length && s < w->count; s++)
        w->run_length[w->segments[s].run]++;
    return w->run_length;
}

/* Whether a view's elements lie side by side in its operand's, and where they begin. */
static bool lies_dense(const wg_steps *w, uint32_t id, int64_t *offset) {
    const wg_instruction *v = old(w, id);
    int64_t in[WG_MAX_RANK], out[WG_MAX_RANK], dense[WG_MAX_RANK];
    if (!v->op->view || v->n != 1 || v->shape->count == 0)
        return false;
    const wg_instruction *from = old(w, v->in[0]);
    wg__dense_strides(from->shape, in);
    wg__dense_strides(v->shape, dense);
    *offset = 0;
    if (!v->op->view(v->attr, from->shape, in, v->shape, out, offset))
        return false;
    for (int k = 0; k < v->shape->rank; k++)
        if (v->shape->dim[k] != 1 && out[k] != dense[k])
            return false;
    return true;
}

/* Where a value's elements begin in those of another. */
typedef struct origin {
    uint32_t root; /* what is no dense view of something; 0: not known yet */
    int64_t offset;
} origin;

/* Notes that a view is one element, along the first axis, of an array that is in no body, if it is. */
static void note_if_element(wg_steps *w, uint32_t id, uint32_t at, int64_t offset) {
    const wg_shape *one = old(w, id)->shape, *whole = old(w, at)->shape;
    bool fits = whole->rank == one->rank + 1 && offset % one->count == 0;
    for (int k = 0; k < one->rank && fits; k++)
        fits = whole->dim[k + 1] == one->dim[k];
    if (fits && (!w->in_segment[at] || w->array[at] || old(w, at)->n == 0)) {
        w->array[id] = at;
        w->element[id] = offset / one->count;
    }
}

enum { NEAR = 8 }; /* views of views that are looked at one by one: tapes may have long chains of them */

/* Of the arrays that a view is an element of, the furthest is noted (a slice of one element is an array too): of those near, or the
 * one that all of them are views of. */
static void note_element(wg_steps *w, uint32_t id, origin *of) {
    int64_t offset = 0, more;
    of[id] = (origin){.root = id};
    if (!lies_dense(w, id, &more))
        return;
    uint32_t from = old(w, id)->in[0];
    origin before = of[from].root ? of[from] : (origin){.root = from};
    of[id] = (origin){before.root, before.offset + more};
    uint32_t at = id;
    for (int k = 0; k < NEAR && lies_dense(w, at, &more); k++) {
        offset += more;
        at = old(w, at)->in[0];
        note_if_element(w, id, at, offset);
    }
    note_if_element(w, id, of[id].root, of[id].offset);
}

/* What is known of a value while looking for what is the same in all steps. */
typedef struct sharing {
    bool before;  /* it reads nothing made in a step, but what is so itself */
    bool wanted;  /* read by what is shared */
    bool read;    /* read at all */
    bool solid;   /* read otherwise than on the way to an element */
    bool shared;
    uint32_t readers, reader; /* in how many other steps of its run it is read; the last of them that was counted */
} sharing;

/* Whether most steps of its run read it: what the steps make anew is read by few, however far they look back. */
static bool read_by_most(const wg_steps *w, uint32_t id, const sharing *s) {
    return s->readers > 1 && 2 * (int64_t)s->readers >= w->run_length[w->segments[w->in_segment[id] - 1].run] - 1;
}

/* Whether it is, or is only read on the way to, an element. */
static bool is_loose(const wg_steps *w, uint32_t id, const sharing *s) {
    return w->array[id] || (old(w, id)->op->view && s->before && s->read && !s->solid);
}

static bool is_shared(const wg_steps *w, uint32_t id, const sharing *s) {
    const wg_instruction *i = old(w, id);
    if (!w->in_segment[id] || i->n == 0)
        return s->before;
    return s->before && (is_loose(w, id, s) || s->wanted || read_by_most(w, id, s));
}

/* Finds what is the same in all steps: made in one step of things from before, and read in most others of the run, or by what
 * is; and views from before that are only read on the way to elements. All of s is zeroed. */
static void find_shared(const wg_steps *w, sharing *s) {
    const wg_program *p = w->program;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        s[id].before = i->op->kind != WG_RANDOM;
        for (uint32_t k = 0; k < i->n; k++)
            s[id].before = s[id].before && s[wg__reads_const(i)[k]].before;
        s[id].before = s[id].before || !w->in_segment[id];
    }
    for (int i = 0; i < p->output_count; i++)
        s[p->outputs[i]].solid = true;
    for (uint32_t id = (uint32_t)p->count - 1; id > 0; id--) {
        const wg_instruction *i = &p->list[id];
        s[id].shared = is_shared(w, id, &s[id]);
        bool loose = is_loose(w, id, &s[id]), steps = w->in_segment[id];
        for (uint32_t k = 0; k < i->n; k++) {
            uint32_t in = wg__reads_const(i)[k];
            bool same_run = steps && w->in_segment[in] && w->in_segment[id] != w->in_segment[in] &&
                            w->segments[w->in_segment[id] - 1].run == w->segments[w->in_segment[in] - 1].run;
            s[in].read = true;
            s[in].solid = s[in].solid || !loose;
            s[in].wanted = s[in].wanted || (steps && s[id].shared);
            if (same_run && s[in].reader != w->in_segment[id])
                s[in].readers++, s[in].reader = w->in_segment[id];
        }
    }
}

static bool has_effect(const wg_steps *w, uint32_t id) { return old(w, id)->op->kind == WG_EFFECT; }

/* Stores and guards stay outside of loops, so runs where steps read what they give are not rolled; nor are those with values that have
 * no room for one axis more, the steps'. */
static void find_plain(wg_steps *w) {
    for (uint32_t id = 1; id < w->program->count; id++) {
        bool plain = old(w, id)->shape->rank == WG_MAX_RANK;
        for (uint32_t k = 0; k < old(w, id)->n; k++) {
            uint32_t in = wg__reads_const(old(w, id))[k], s = w->in_segment[in];
            if (w->in_segment[id] && s && has_effect(w, in))
                w->segments[s - 1].plain = plain = true;
        }
        if (w->in_segment[id] && plain)
            w->segments[w->in_segment[id] - 1].plain = true;
    }
    for (int64_t s = 1; s < w->count; s++)
        if (w->segments[s].run == w->segments[s - 1].run)
            w->segments[s].plain = w->segments[s].plain || w->segments[s - 1].plain;
    for (int64_t s = w->count - 1; s > 0; s--)
        if (w->segments[s].run == w->segments[s - 1].run)
            w->segments[s - 1].plain = w->segments[s].plain;
}

/* What of a step is its body: not what is the same in all steps, nor what only picks elements, nor effects. */
static bool find_bodies(wg_steps *w) {
    const wg_program *p = w->program;
    sharing *shared = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *shared, 0));
    origin *of = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *of, 0));
    if (!shared || !of) {
        wg__give(p->memory, shared);
        wg__give(p->memory, of);
        return false;
    }
    uint32_t filled = 0;
    int64_t s = -1;
    for (uint32_t id = 1; id < p->count; id++)
        if (p->list[id].op->view)
            note_element(w, id, of);
    find_shared(w, shared);
    for (uint32_t id = 1; id < p->count; id++) {
        if (!w->in_segment[id])
            continue;
        if (w->in_segment[id] - 1 != s) {
            s = w->in_segment[id] - 1;
            w->segments[s].first = filled;
        }
        wg_segment *g = &w->segments[s];
        if (g->plain || shared[id].shared || w->array[id] || has_effect(w, id))
            continue;
        w->position[id] = g->count++;
        w->body[filled++] = id;
    }
    wg__give(p->memory, shared);
    wg__give(p->memory, of);
    return true;
}

/* ---- operands ---- */

wg_operand_place wg__place_of(const wg_steps *w, uint32_t id, const wg_segment *reader) {
    if (w->array[id])
        return (wg_operand_place){WG_ELEMENT, w->array[id], w->element[id], 0};
    if (!wg__in_body(w, id))
        return (wg_operand_place){WG_OUTSIDE, id, 0, 0};
    const wg_segment *g = &w->segments[w->in_segment[id] - 1];
    if (g->run == reader->run)
        return (wg_operand_place){WG_SAME, w->position[id], reader - g, 0};
    return (wg_operand_place){WG_OTHER, w->position[id], g - w->segments, 0};
}

/* ---- equal steps ---- */

bool wg__same_op(const wg_instruction *a, const wg_instruction *b) {
    if (a->op != b->op || a->shape != b->shape || a->dtype != b->dtype || a->n != b->n || !a->attr != !b->attr ||
        a->op->kind == WG_RANDOM || (a->op->traits & WG_NO_MERGE))
        return false;
    return !a->attr || !a->op->attr_size || memcmp(a->attr, b->attr, a->op->attr_size) == 0;
}

/* The two steps have the same ops in the same order. */
bool wg__same_ops(const wg_steps *w, const wg_segment *a, const wg_segment *b) {
    if (a->count != b->count)
        return false;
    for (uint32_t k = 0; k < a->count; k++)
        if (!wg__same_op(old(w, wg__body_of(w, a, k)), old(w, wg__body_of(w, b, k))))
            return false;
    return true;
}

bool wg__steps_find(wg_steps *w, const wg_program *p) {
    size_t n = (size_t)p->count;
    w->program = p;
    w->in_segment = wg__take0(p->memory, wg__size(n, sizeof *w->in_segment, 0));
    w->position = wg__take(p->memory, wg__size(n, sizeof *w->position, 0));
    w->body = wg__take0(p->memory, wg__size(n, sizeof *w->body, 0));
    w->array = wg__take0(p->memory, wg__size(n, sizeof *w->array, 0));
    w->element = wg__take0(p->memory, wg__size(n, sizeof *w->element, 0));
    if (!w->in_segment || !w->position || !w->body || !w->array || !w->element)
        return false;
    memset(w->position, 0xff, n * sizeof *w->position);
    if (!find_segments(w))
        return false;
    find_plain(w);
    return find_bodies(w);
}

void wg__steps_free(wg_steps *w) {
    void *const taken[] = {w->in_segment, w->position, w->body, w->array, w->element, w->segments, w->run_length};
    for (int k = 0; w->program && k < WG_LEN(taken); k++)
        wg__give(w->program->memory, taken[k]);
}
