/* even.c: the steps at the ends of a run become like the others. A derivative's first step begins sums that later ones go on
 * with, and its last lacks what only later steps would be given: where such a step is the others' program but for additions,
 * they are put in, of -0, which changes no value (x + -0 is x, also of -0 and NaN). So `roll` makes one loop of all. Names
 * add, and constants. */
#include "loop.h"
#include "steps.h"

extern const wg_op wg__op_add;

/* An addition to put in before old instruction `before`: of -0 and old value `of` (or of another addition). */
typedef struct addition {
    uint32_t before, next; /* next: 1 + the next before the same instruction */
    uint32_t of, of_added; /* of_added: 1 + the addition that it adds to instead; 0: none */
    uint32_t like, step;   /* the others' addition; the step that it stands in */
    int slot;              /* the operand that `of` is */
    uint32_t made;
} addition;

typedef struct evener {
    wg_rewrite r;
    wg_steps s;
    addition *list;
    int64_t count, room;
    uint32_t *before;  /* by old id, and one more: 1 + the first addition before it */
    uint32_t *instead; /* by operand: 1 + the addition read instead */
    int64_t *operands; /* by old id: the number of its first operand */
    uint32_t *map;     /* of the step compared: by the others' position, its own id (of an addition: what that adds to) */
    uint32_t *added;   /* beside it: 1 + the addition; 0: none */
} evener;

static const wg_instruction *old(const evener *w, uint32_t id) { return &w->r.program->list[id]; }

static bool is_own(wg_operand_place p) { return p.sort == WG_SAME && p.at == 0; }

/* Whether a step's instruction is the others', and reads of its own step what that does. */
static bool pairs(const evener *w, const wg_segment *g, uint32_t own, const wg_segment *like, uint32_t other) {
    const wg_instruction *a = old(w, own), *b = old(w, other);
    if (!wg__same_op(a, b))
        return false;
    for (uint32_t k = 0; k < a->n; k++) {
        uint32_t in = wg__reads_const(a)[k];
        wg_operand_place p = wg__place_of(&w->s, wg__reads_const(b)[k], like), q = wg__place_of(&w->s, in, g);
        if (is_own(p) ? w->map[p.of] != in : is_own(q))
            return false;
    }
    return true;
}

/* Which operand of an addition is made in its own step, if just one is; else -1. */
static int own_operand(const evener *w, const wg_segment *like, uint32_t id) {
    const wg_instruction *i = old(w, id);
    if (i->op != &wg__op_add || i->dtype == WG_I32)
        return -1;
    bool first = is_own(wg__place_of(&w->s, i->in[0], like)), second = is_own(wg__place_of(&w->s, i->in[1], like));
    return first == second ? -1 : second;
}

/* Compares a step with another: true if it is that but for additions, which are then in the list. */
static bool compare(evener *w, const wg_segment *g, const wg_segment *like) {
    const int64_t from = w->count;
    uint32_t at = 0;
    for (uint32_t k = 0; k < like->count; k++) {
        uint32_t other = wg__body_of(&w->s, like, k), own = at < g->count ? wg__body_of(&w->s, g, at) : 0;
        w->added[k] = 0;
        if (own && pairs(w, g, own, like, other)) {
            w->map[k] = own;
            at++;
            continue;
        }
        int slot = own_operand(w, like, other);
        if (slot < 0 || !wg__room(w->r.program->memory, (void **)&w->list, w->count, &w->room, sizeof *w->list)) {
            w->r.failed = w->r.failed || slot >= 0;
            w->count = from;
            return false;
        }
        uint32_t of = wg__place_of(&w->s, old(w, other)->in[slot], like).of;
        w->list[w->count++] = (addition){.before = own ? own : g->to, .of = w->map[of], .of_added = w->added[of], .like = other,
                                         .step = old(w, g->from)->step, .slot = slot};
        w->map[k] = w->map[of];
        w->added[k] = (uint32_t)w->count;
    }
    if (at == g->count && w->count > from)
        return true;
    w->count = from;
    return false;
}

/* The step's readers of what was added to read the addition where the others do. */
static void redirect(evener *w, const wg_segment *g, const wg_segment *like) {
    uint32_t at = 0;
    for (uint32_t k = 0; k < like->count; k++) {
        if (w->added[k])
            continue;
        uint32_t own = wg__body_of(&w->s, g, at++), other = wg__body_of(&w->s, like, k);
        for (uint32_t n = 0; n < old(w, own)->n; n++) {
            wg_operand_place p = wg__place_of(&w->s, wg__reads_const(old(w, other))[n], like);
            if (is_own(p) && w->added[p.of])
                w->instead[w->operands[own] + n] = w->added[p.of];
        }
    }
}

/* So do the readers in the step after: what they read of the step before is what the step after them reads of theirs. */
static void redirect_next(evener *w, const wg_segment *next, const wg_segment *after) {
    for (uint32_t k = 0; k < next->count; k++) {
        uint32_t own = wg__body_of(&w->s, next, k), other = wg__body_of(&w->s, after, k);
        for (uint32_t n = 0; n < old(w, own)->n; n++) {
            wg_operand_place p = wg__place_of(&w->s, wg__reads_const(old(w, other))[n], after);
            if (p.sort == WG_SAME && p.at == 1 && w->added[p.of] && wg__reads_const(old(w, own))[n] == w->map[p.of])
                w->instead[w->operands[own] + n] = w->added[p.of];
        }
    }
}

/* The additions of a step just compared take their places. */
static void settle(evener *w, int64_t from) {
    for (int64_t k = w->count - 1; k >= from; k--) { /* so that the first stands first */
        w->list[k].next = w->before[w->list[k].before];
        w->before[w->list[k].before] = (uint32_t)k + 1;
    }
}

/* Both ends of a run [first, end). */
static void even_run(evener *w, int64_t first, int64_t end) {
    const wg_segment *g = &w->s.segments[first];
    if (end - first < 4 || !wg__same_ops(&w->s, g + 1, g + 2))
        return;
    int64_t from = w->count;
    if (!wg__same_ops(&w->s, g, g + 1) && compare(w, g, g + 1)) {
        redirect(w, g, g + 1);
        redirect_next(w, g + 1, g + 2);
        settle(w, from);
    }
    const wg_segment *last = &w->s.segments[end - 1];
    from = w->count;
    if (!w->r.failed && !wg__same_ops(&w->s, last, g + 1) && compare(w, last, g + 1)) {
        redirect(w, last, g + 1);
        settle(w, from);
    }
}

/* ---- the new list ---- */

static void make(evener *w, addition *a) {
    const wg_instruction *like = old(w, a->like);
    wg_instruction zero = {.op = &wg__op_constant, .shape = like->shape, .dtype = like->dtype, .value = -0.0, .step = a->step};
    wg_instruction sum = {.op = like->op, .shape = like->shape, .dtype = like->dtype, .n = 2, .origin = like->origin, .step = a->step};
    uint32_t none = wg__rewrite_add(&w->r, &zero);
    sum.in[a->slot] = a->of_added ? w->list[a->of_added - 1].made : w->r.to[a->of];
    sum.in[1 - a->slot] = none;
    a->made = none ? wg__rewrite_add(&w->r, &sum) : 0;
    w->r.failed = w->r.failed || !a->made;
}

static bool rewrite(evener *w) {
    const wg_program *p = w->r.program;
    for (uint32_t id = 1; id <= p->count && !w->r.failed; id++) {
        for (uint32_t k = w->before[id]; k && !w->r.failed; k = w->list[k - 1].next)
            make(w, &w->list[k - 1]);
        if (id == p->count || w->r.failed)
            break;
        if (!wg__rewrite_keep(&w->r, id))
            return false;
        wg_instruction *i = &w->r.list[w->r.to[id]];
        for (uint32_t n = 0; n < i->n; n++)
            if (w->instead[w->operands[id] + n])
                wg__reads(i)[n] = w->list[w->instead[w->operands[id] + n] - 1].made;
    }
    return !w->r.failed;
}

static bool begin(evener *w, const wg_program *p) {
    size_t n = (size_t)p->count;
    int64_t operands = 0;
    w->operands = wg__take(p->memory, wg__size(n, sizeof *w->operands, 0));
    for (int64_t id = 0; w->operands && id < p->count; id++) {
        w->operands[id] = operands;
        operands += id ? p->list[id].n : 0;
    }
    w->before = wg__take0(p->memory, wg__size(n + 1, sizeof *w->before, 0));
    w->instead = wg__take0(p->memory, wg__size((size_t)operands, sizeof *w->instead, 1));
    w->map = wg__take(p->memory, wg__size(n, 2 * sizeof *w->map, 0));
    w->added = w->map ? w->map + n : NULL;
    return w->operands && w->before && w->instead && w->map && wg__steps_find(&w->s, p) && wg__rewrite_begin(&w->r, w->r.program);
}

wg_status wg__pass_even(wg_program *p, wg_error *error) {
    evener w = {.r.program = p};
    bool good = begin(&w, p);
    for (int64_t first = 0, end; good && first < w.s.count; first = end) {
        for (end = first + 1; end < w.s.count && w.s.segments[end].run == w.s.segments[first].run;)
            end++;
        even_run(&w, first, end);
    }
    good = good && !w.r.failed;
    bool changes = good && w.count;
    good = good && (!changes || rewrite(&w));
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&w.s);
    wg__rewrite_end(&w.r, good && changes);
    void *const taken[] = {w.operands, w.before, w.instead, w.map, w.list};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    return status;
}
