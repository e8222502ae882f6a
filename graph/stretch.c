/* stretch.c: a loop and the products and small sums after it, or products in a row, as one stretch of work. Two threads seldom finish
 * their shares of a task at the same time; here who is early goes on with what does not need the others' shares: another product, or rows
 * of one whose iterations all have made. No bit depends on the order. */
#include "stretch.h"

#include "gemm.h"
#include "loop.h"
#include "make.h"
#include "run_loop.h"

#include <string.h>

/* A kernel that reads and writes so much at most is one thread's work. EVEN_ROWS: of tiles of what comes last, so that threads end together. */
enum { SMALL_BYTES = 1 << 20, EVEN_ROWS = 96 };

/* ---- which tasks need not wait for which ---- */

/* Part of where values lie. */
typedef struct span {
    uint32_t space, index;
    size_t from, to;
} span;

static span span_of(const wg_program *p, uint32_t id) {
    const uint32_t base = p->values[id].base;
    const wg_value *v = &p->values[base];
    if (v->space == WG_IN_ARENA)
        return (span){WG_IN_ARENA, 0, v->offset, v->offset + wg__instruction_bytes(&p->list[base])};
    return (span){v->space, v->index, 0, SIZE_MAX};
}

static span scratch_of(const wg_program *p, uint32_t id) {
    const size_t bytes = wg__program_scratch(p, &p->list[id]);
    return (span){WG_IN_ARENA, 0, p->scratch_at, bytes < SIZE_MAX - p->scratch_at ? p->scratch_at + bytes : SIZE_MAX};
}

/* Whether a task may write there: tensors are as they were until a run's end. */
static bool is_memory(const span *s) { return (s->space == WG_IN_ARENA || s->space == WG_IN_OUTPUT) && s->from < s->to; }

static bool meet(span a, span b) {
    return is_memory(&a) && is_memory(&b) && a.space == b.space && a.index == b.index && a.from < b.to && b.from < a.to;
}

/* Whether instruction id writes what another task reads or writes there; or, if that writes it, reads it, but as its operand `but` (-1:
 * whichever). */
static bool touches(const wg_program *p, uint32_t id, int but, span there, bool written) {
    const wg_instruction *i = &p->list[id];
    if (!is_memory(&there))
        return false;
    if (meet(span_of(p, id), there) || meet(scratch_of(p, id), there))
        return true;
    for (uint32_t k = 0; written && k < i->n; k++)
        if ((int)k != but && meet(span_of(p, wg__reads_const(i)[k]), there))
            return true;
    return false;
}

static bool instructions_conflict(const wg_program *p, uint32_t one, uint32_t other) {
    const wg_instruction *i = &p->list[one];
    for (uint32_t k = 0; k < i->n; k++)
        if (touches(p, other, -1, span_of(p, wg__reads_const(i)[k]), false))
            return true;
    return touches(p, other, -1, span_of(p, one), true) || touches(p, other, -1, scratch_of(p, one), true);
}

/* But for what instruction id reads as its operand `but`. */
static bool loop_conflicts(const wg_program *p, const wg_loop *loop, uint32_t id, int but) {
    for (uint32_t edge = loop->edges; edge; edge = p->values[edge].edge)
        if (touches(p, id, but, span_of(p, edge), true))
            return true;
    for (uint32_t at = loop->from; at < loop->to; at++) {
        const wg_instruction *i = &p->list[at];
        for (uint32_t k = 0; k < i->n; k++)
            if (p->list[wg__reads_const(i)[k]].loop != p->list[at].loop && touches(p, id, but, span_of(p, wg__reads_const(i)[k]), false))
                return true;
        if (p->values[at].task && touches(p, id, but, span_of(p, at), true))
            return true; /* not of views, of what the loop only reads */
    }
    return false;
}

/* ---- stretches of a plan ---- */

/* Whether rows of a product follow, one by one, from rows of the loop's stack: then notes how many belong to an iteration. */
static void find_early(const wg_program *p, uint32_t number, wg_stretch_phase *s) {
    const wg_instruction *i = &p->list[s->id];
    const uint32_t a = wg__reads_const(i)[0], base = p->values[a].base;
    const wg_instruction *stack = &p->list[base], *x = &p->list[a];
    const wg_loop *loop = &p->loops[number - 1];
    if (wg__instruction_rows(p, i) != 1 || stack->op != &wg__op_stacked || p->list[stack->in[0]].loop != number || x->shape->rank != 2 ||
        stack->shape->rank < 2 || stack->shape->dim[1] != loop->rows)
        return;
    const int64_t rows = loop->times * loop->rows, width = rows > 0 ? stack->shape->count / rows : 0, *stride = p->values[a].stride;
    const int64_t down = stride ? stride[0] : x->shape->dim[1], across = stride ? stride[1] : 1, first = p->values[a].shift;
    if (x->shape->dim[0] != rows || down != width || across < 0 || first < 0 || first + across * (x->shape->dim[1] - 1) >= width)
        return;
    if (loop_conflicts(p, loop, s->id, 0))
        return;
    s->each = loop->rows;
    s->backward = ((const wg_stacked_attr *)stack->attr)->backward;
}

/* One of the kernels that cannot fail, on little. */
static bool is_small(const wg_program *p, uint32_t id) {
    const wg_instruction *i = &p->list[id];
    const bool is_map = i->op->kind == WG_POINTWISE && i->n <= 3 && i->op->map[i->dtype - WG_F32] && !wg__is_scalar_map(i);
    size_t bytes = wg__instruction_bytes(i);
    if (!is_map && i->op != &wg__op_sum_to && i->op != &wg__op_concat && i->op != &wg__op_copy)
        return false;
    for (uint32_t k = 0; k < i->n; k++)
        bytes += wg__instruction_bytes(&p->list[wg__reads_const(i)[k]]);
    return bytes <= SMALL_BYTES;
}

static bool is_product(const wg_program *p, uint32_t id) {
    const wg_instruction *i = &p->list[id];
    const uint32_t *in = wg__reads_const(i);
    return wg__is_products(i->op, i->shape) && i->shape->count > 0 &&
           (double)p->list[in[0]].shape->count * (double)i->shape->dim[1] >= WG_GEMM_SHARE;
}

/* Those that may begin early come last: meanwhile they are what there is to do while others are in the loop, in the end what threads share
 * evenly. */
static void order_phases(wg_stretch *s) {
    wg_stretch_phase sorted[WG_MOST_PHASES];
    int to[WG_MOST_PHASES], count = 0;
    for (int early = 0; early < 2; early++)
        for (int k = 0; k < s->count; k++)
            if ((s->phase[k].each > 0) == early)
                to[k] = count, sorted[count++] = s->phase[k];
    for (int k = 0; k < count; k++) {
        uint32_t after = 0;
        for (int before = 0; before < count; before++)
            after |= (sorted[k].after >> before & 1) << to[before];
        sorted[k].after = after;
    }
    memcpy(s->phase, sorted, (size_t)count * sizeof *sorted);
}

typedef struct finder {
    wg_plan *plan;
    int64_t room;
    wg_stretch open;
    bool failed;
} finder;

/* Keeps what has been found, if threads gain. */
static void close_stretch(finder *f) {
    wg_stretch *s = &f->open;
    int products = 0, loops = 0;
    for (int k = 0; k < s->count; k++)
        products += s->phase[k].is_product, loops += s->phase[k].is_loop;
    if (products && products + loops > 1 && !f->failed) {
        f->failed = !wg__room(f->plan->memory, (void **)&f->plan->stretches, f->plan->stretch_count, &f->room, sizeof *s);
        order_phases(s);
        if (!f->failed)
            f->plan->stretches[f->plan->stretch_count++] = *s;
    }
    s->count = 0;
}

static void add_task(finder *f, int64_t task, wg_stretch_phase phase) {
    const wg_program *p = f->plan->program;
    wg_stretch *s = &f->open;
    if (phase.is_loop || s->count == WG_MOST_PHASES)
        close_stretch(f);
    if (s->count == 0)
        s->first = task;
    const bool follows = s->count > 0 && s->phase[0].is_loop;
    for (int k = 0; k < s->count; k++)
        if (s->phase[k].is_loop ? loop_conflicts(p, &p->loops[s->phase[k].id - 1], phase.id, -1) : instructions_conflict(p, s->phase[k].id, phase.id))
            phase.after |= UINT32_C(1) << k;
    phase.task = task;
    if (follows && phase.is_product && phase.after == 1)
        find_early(p, s->phase[0].id, &phase);
    s->phase[s->count++] = phase;
}

bool wg__stretches_find(wg_plan *plan) {
    const wg_program *p = plan->program;
    finder f = {.plan = plan};
    int64_t task = 0;
    for (uint32_t id = 1; id < p->count && !f.failed; id++) {
        if (wg__begins_loop(p, id)) {
            if (wg__loop_runs_in_lanes(plan->loops[p->list[id].loop - 1]))
                add_task(&f, task, (wg_stretch_phase){.id = p->list[id].loop, .is_loop = true});
            else
                close_stretch(&f);
            task++;
        }
        if (!wg__computes(p, id))
            continue;
        if (is_product(p, id))
            add_task(&f, task, (wg_stretch_phase){.id = id, .is_product = true});
        else if (is_small(p, id) && f.open.count > 0)
            add_task(&f, task, (wg_stretch_phase){.id = id});
        else
            close_stretch(&f);
        task++;
    }
    close_stretch(&f);
    return !f.failed;
}

/* ---- a run ---- */

typedef struct stretch_run stretch_run;

typedef struct phase_run {
    const wg_stretch_phase *of;
    stretch_run *run;
    wg_tiles tiles; /* of a product */
} phase_run;

struct stretch_run {
    wg_workspace *workspace;
    wg_team alone; /* of small kernels */
    bool in_loop;  /* the loop runs in the stretch */
    wg_loop_run loop;
    int64_t times; /* its iterations */
    phase_run phase[WG_MOST_PHASES];
};

static void run_lane(void *user, int64_t chunk) {
    const phase_run *r = user;
    wg__loop_lane(&r->run->loop, chunk);
}

static bool is_vain(const stretch_run *s) { return s->in_loop && atomic_load(&s->loop.is_vain); }

static void run_small(void *user, int64_t chunk) {
    phase_run *r = user;
    wg_call call = *r->run->workspace->tasks[r->of->task].call;
    (void)chunk;
    if (is_vain(r->run))
        return;
    call.team = &r->run->alone;
    wg__kernel(call.op)(&call); /* never fails: see is_small */
}

/* The tile that a chunk is: of those that may begin early the loop's first first. */
static int64_t tile_of(const phase_run *r, int64_t chunk) {
    const wg_tiles *t = &r->tiles;
    if (!r->of->each)
        return chunk;
    const int64_t row = chunk / t->across, column = chunk % t->across;
    return (r->of->backward ? t->down - 1 - row : row) + column * t->down;
}

static void run_product(void *user, int64_t chunk) {
    const phase_run *r = user;
    const int64_t tile = tile_of(r, chunk), all = r->tiles.down * r->tiles.across;
    if (is_vain(r->run))
        return;
    wg__tiles_run(&r->tiles, tile, tile + 1, chunk + r->tiles.turns < all ? tile_of(r, chunk + r->tiles.turns) : all);
}

/* Whether all iterations that a chunk reads have been made of all rows. */
static bool is_made(void *user, int64_t chunk) {
    const phase_run *r = user;
    const int64_t first = tile_of(r, chunk) % r->tiles.down * r->tiles.rows, past = wg__min(first + r->tiles.rows, r->tiles.g[0].m);
    const int64_t wanted = r->of->backward ? r->run->times - first / r->of->each : (past - 1) / r->of->each + 1;
    return wg__loop_made(&r->run->loop) >= wanted;
}

/* Its tiles, if it has any; returns how many chunks it has. */
static int64_t cut_phase(stretch_run *s, phase_run *r, bool last) {
    wg_workspace *w = s->workspace;
    if (!r->of->is_product)
        return r->of->is_loop ? wg__loop_lanes(w->plan->loops[r->of->id - 1], w, w->plan->lanes) : 1;
    wg_gemm g[WG_MOST_PRODUCTS];
    const int count = wg__products_of(w->tasks[r->of->task].call, g);
    wg__tiles_of(&r->tiles, &w->team, count, g);
    if (last || r->of->each)
        wg__tiles_cut(&r->tiles, EVEN_ROWS);
    return r->tiles.down * r->tiles.across;
}

wg_status wg__stretch_run(wg_workspace *w, const wg_stretch *of, uint32_t *failed) {
    const wg_plan *plan = w->plan;
    stretch_run s;
    wg_phase phase[WG_MOST_PHASES];
    bool early = false;
    s.workspace = w;
    s.alone = w->team;
    s.alone.threads = 1, s.alone.pool = NULL;
    for (int k = 0; k < of->count; k++)
        early = early || of->phase[k].each;
    const bool loops = of->phase[0].is_loop;
    s.times = loops ? plan->program->loops[of->phase[0].id - 1].times : 0;
    s.in_loop = loops && wg__loop_lanes(plan->loops[of->phase[0].id - 1], w, plan->lanes) >= w->team.threads;
    if (loops && !s.in_loop) { /* not all threads have a lane: the others sleep through it */
        wg_status status = wg__loop_run(plan->loops[of->phase[0].id - 1], w, plan->lanes, w->lanes, plan->lane_bytes, failed);
        if (status != WG_OK)
            return status;
    } else if (s.in_loop)
        wg__loop_begin(&s.loop, plan->loops[of->phase[0].id - 1], w, plan->lanes, w->lanes, plan->lane_bytes, early);
    for (int k = 0; k < of->count; k++) {
        const wg_stretch_phase *p = &of->phase[k];
        phase_run *r = &s.phase[k];
        r->of = p, r->run = &s;
        phase[k] = (wg_phase){.n = cut_phase(&s, r, k + 1 == of->count), .user = r, .after = p->after, .early = p->each ? is_made : NULL,
                              .work = p->is_loop ? run_lane : p->is_product ? run_product : run_small};
    }
    if (loops && !s.in_loop)
        phase[0].n = 0;
    wg__phases(&w->team, of->count, phase);
    for (int k = 0; w->profile && k < of->count; k++)
        if (!of->phase[k].is_loop) /* a loop has noted its own */
            wg__profile_add(w->profile, plan->program, of->phase[k].id, phase[k].seconds);
    return s.in_loop ? wg__loop_end(&s.loop, failed) : WG_OK;
}
