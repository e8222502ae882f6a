/* relay.c: what steps read of two or more steps back is handed on from step to step, by additions of -0 (x + -0 is x, also of -0
 * and NaN), so that steps read of the step before alone, which is what loops carry. Where the derivative reads the same values, it
 * reads what was handed on too. Names add, and constants. */
#include "known.h"
#include "loop.h"
#include "make.h"
#include "steps.h"

enum { FURTHEST = 64 }; /* steps back; what is read of further back stays as it is */

/* A value handed on in every step of a run: what instruction `of` of the body was `back` steps before. */
typedef struct relay {
    uint32_t of;
    int64_t back;
    uint32_t from; /* 1 + the relay that it reads of the step before, which is one step less back; 0: `of` itself */
    uint32_t init; /* old id: what it is in the first step; 0: nothing, so the first steps have none */
    uint32_t none; /* new id: the -0 that is added */
    uint32_t run;
} relay;

/* A run of segments [first, end), its relays, and where those of its segments were made. */
typedef struct run {
    int64_t first, end, like; /* like: a segment as most are; -1: there is none */
    int64_t relays, relay_end;
    int64_t made; /* of relay k in segment s: relayer.made[made + (s - first) * (relay_end - relays) + k - relays] */
} run;

/* An operand to be read from a relay instead. */
typedef struct reading {
    uint32_t relay; /* 1 + the relay; 0: none */
    uint32_t segment;
} reading;

typedef struct relayer {
    wg_rewrite r;
    wg_steps s;
    run *runs;
    int64_t run_count, run_room;
    relay *relays;
    int64_t relay_count, relay_room;
    wg_known known; /* of relays, by run and what they hand on */
    uint32_t *made;
    int64_t *operands; /* by old id: the number of its first operand */
    reading *instead;  /* by operand */
    uint32_t *run_of;  /* by segment */
    bool *alike;       /* by segment: it is as most of its run are */
    uint32_t *slot;    /* of a run's body: 1 + the relay that an operand is read from, by the operand's number in the body */
} relayer;

static const wg_instruction *old(const relayer *w, uint32_t id) { return &w->r.program->list[id]; }
static const run *run_at(const relayer *w, int64_t segment) { return &w->runs[w->run_of[segment]]; }

/* ---- runs ---- */

static bool find_runs(relayer *w) {
    for (int64_t first = 0, end; first < w->s.count; first = end) {
        for (end = first + 1; end < w->s.count && w->s.segments[end].run == w->s.segments[first].run;)
            end++;
        if (!wg__room(w->r.program->memory, (void **)&w->runs, w->run_count, &w->run_room, sizeof *w->runs))
            return false;
        int64_t middle = first + (end - first) / 2;
        bool alike = end - first >= 4 && w->s.segments[middle].count && wg__same_ops(&w->s, &w->s.segments[middle], &w->s.segments[middle - 1]);
        for (int64_t s = first; s < end; s++) {
            w->run_of[s] = (uint32_t)w->run_count;
            w->alike[s] = alike && wg__same_ops(&w->s, &w->s.segments[s], &w->s.segments[middle]);
        }
        w->runs[w->run_count++] = (run){.first = first, .end = end, .like = alike ? middle : -1};
    }
    return true;
}

/* ---- what is handed on ---- */

/* What the segment `at` of a run reads at operand n of instruction k, if it is as most are and that is made before the run; else 0. */
static uint32_t read_from_before(const relayer *w, const run *r, int64_t at, uint32_t k, uint32_t n) {
    const wg_segment *g = &w->s.segments[at];
    if (!w->alike[at])
        return 0;
    uint32_t id = wg__reads_const(old(w, wg__body_of(&w->s, g, k)))[n];
    return id < w->s.segments[r->first].from ? id : 0;
}

static uint64_t hash_of(uint32_t number, uint32_t of, int64_t back) {
    return wg__mix(wg__mix(wg__mix(0, number), of), (uint64_t)back);
}

static uint32_t relay_for(relayer *w, const run *r, relay want) {
    want.run = (uint32_t)(r - w->runs);
    uint64_t hash = hash_of(want.run, want.of, want.back), probe = 0;
    for (int64_t k; (k = wg__known_next(&w->known, hash, &probe)) >= 0;) {
        const relay *had = &w->relays[k];
        if (had->run == want.run && had->of == want.of && had->back == want.back && had->from == want.from && had->init == want.init)
            return (uint32_t)k + 1;
    }
    if (!wg__known_enter(&w->known, hash) || !wg__room(w->r.program->memory, (void **)&w->relays, w->relay_count, &w->relay_room, sizeof *w->relays)) {
        w->r.failed = true;
        return 0;
    }
    w->relays[w->relay_count++] = want;
    return (uint32_t)w->relay_count;
}

/* The relay that an operand, `back` steps back, is read from: of what was one step less back in the step before. */
static uint32_t chain_for(relayer *w, const run *r, uint32_t k, uint32_t n, uint32_t of, int64_t back) {
    bool known = true;
    for (int64_t d = 1; d < back && known; d++)
        known = read_from_before(w, r, r->first + back - d, k, n);
    uint32_t at = 0;
    for (int64_t d = 1; d < back && !w->r.failed; d++)
        at = relay_for(w, r, (relay){.of = of, .back = d, .from = at, .init = known ? read_from_before(w, r, r->first + back - d, k, n) : 0});
    return at;
}

/* The first relay of the same value, whatever it is in the first steps; 0 if there is none. */
static uint32_t any_relay(const relayer *w, const run *r, uint32_t of, int64_t back) {
    uint32_t number = (uint32_t)(r - w->runs);
    uint64_t hash = hash_of(number, of, back), probe = 0;
    int64_t first = -1;
    for (int64_t k; (k = wg__known_next(&w->known, hash, &probe)) >= 0;) {
        const relay *v = &w->relays[k];
        if (v->run == number && v->of == of && v->back == back && (first < 0 || k < first))
            first = k;
    }
    return (uint32_t)(first + 1);
}

/* What a chain of relays is in the first step but for the latest `less` of them; 0 if nothing. */
static uint32_t init_of(const relayer *w, uint32_t relay_number, int64_t back) {
    while (relay_number && w->relays[relay_number - 1].back > back)
        relay_number = w->relays[relay_number - 1].from;
    return relay_number ? w->relays[relay_number - 1].init : 0;
}

static bool is_made(const relayer *w, const run *r, uint32_t number, int64_t segment) {
    const relay *v = &w->relays[number - 1];
    int64_t made_in = segment - v->back;
    return segment >= r->first && segment < r->end && (made_in < r->first ? v->init != 0 : w->alike[made_in]);
}

static void read_instead(relayer *w, const run *r, uint32_t id, uint32_t n, uint32_t number, int64_t segment) {
    if (number && is_made(w, r, number, segment))
        w->instead[w->operands[id] + n] = (reading){number, (uint32_t)segment};
}

/* Whether operand `in` of a step's instruction is what a relay hands on from segment `at` of its run back, which is the step's or of
 * the same time: that or, in the first steps, what the relay begins with. */
static bool is_handed_on(const relayer *w, const run *r, uint32_t number, int64_t at, uint32_t in) {
    const relay *v = &w->relays[number - 1];
    int64_t source = at - v->back - 1;
    if (source < r->first)
        return in == init_of(w, number, r->first - source);
    return wg__in_body(&w->s, in) && w->s.in_segment[in] - 1 == source && w->s.position[in] == v->of;
}

/* The steps of a run read of the step before what was handed on. */
static void redirect_own(relayer *w, const run *r) {
    for (int64_t s = r->first + 1; s < r->end; s++) {
        const wg_segment *g = &w->s.segments[s];
        bool alike = w->alike[s];
        uint32_t slot = 0;
        for (uint32_t k = 0; k < g->count; k++) {
            uint32_t id = wg__body_of(&w->s, g, k);
            for (uint32_t n = 0; n < old(w, id)->n; n++, slot++) {
                wg_operand_place p = wg__place_of(&w->s, wg__reads_const(old(w, id))[n], g);
                bool far = p.sort == WG_SAME && p.at > 1;
                uint32_t number = alike ? w->slot[slot] : far ? any_relay(w, r, p.of, p.at - 1) : 0;
                if (number && is_handed_on(w, r, number, s, wg__reads_const(old(w, id))[n]))
                    read_instead(w, r, id, n, number, s - 1);
            }
        }
    }
}

static void find_relays(relayer *w, run *r) {
    r->relays = w->relay_count;
    const wg_segment *like = r->like < 0 ? NULL : &w->s.segments[r->like];
    uint32_t slot = 0;
    for (uint32_t k = 0; like && k < like->count && !w->r.failed; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, like, k));
        for (uint32_t n = 0; n < i->n; n++) {
            wg_operand_place p = wg__place_of(&w->s, wg__reads_const(i)[n], like);
            bool far = p.sort == WG_SAME && p.at > 1 && p.at <= FURTHEST && w->alike[r->like - p.at];
            w->slot[slot++] = far ? chain_for(w, r, k, n, p.of, p.at) : 0;
        }
    }
    r->relay_end = w->relay_count;
    if (r->relay_end > r->relays && !w->r.failed)
        redirect_own(w, r);
}

/* ---- readers in other runs ---- */

static int64_t time_of(const wg_segment *g) { return g->step < 0 ? ~g->step : g->step; }

/* The segment of a run that is of the same time as another's; -1 if none. */
static int64_t same_time(const relayer *w, const run *r, const wg_segment *g) {
    const wg_segment *first = &w->s.segments[r->first];
    int64_t apart = first->step < 0 ? time_of(first) - time_of(g) : time_of(g) - time_of(first);
    return first->unroll == g->unroll && apart >= 0 && apart < r->end - r->first ? r->first + apart : -1;
}

/* The relay of another run from which an operand of most steps is read; 0: none. */
static uint32_t relay_elsewhere(const relayer *w, const wg_segment *g, uint32_t id) {
    wg_operand_place p = wg__place_of(&w->s, id, g);
    const run *r = p.sort == WG_OTHER ? run_at(w, p.at) : NULL;
    int64_t at = r && r->relay_end > r->relays ? same_time(w, r, g) : -1;
    return at - p.at > 1 && at < g - w->s.segments && w->alike[p.at] ? any_relay(w, r, p.of, at - p.at - 1) : 0;
}

static void redirect_others(relayer *w, const run *r) {
    const wg_segment *like = r->like < 0 ? NULL : &w->s.segments[r->like];
    bool any = false;
    uint32_t slot = 0;
    for (uint32_t k = 0; like && k < like->count; k++) {
        const wg_instruction *i = old(w, wg__body_of(&w->s, like, k));
        for (uint32_t n = 0; n < i->n; n++) {
            w->slot[slot] = relay_elsewhere(w, like, wg__reads_const(i)[n]);
            any = any || w->slot[slot++];
        }
    }
    for (int64_t s = r->first; any && s < r->end; s++) {
        const wg_segment *g = &w->s.segments[s];
        bool alike = w->alike[s];
        slot = 0;
        for (uint32_t k = 0; k < g->count; k++) {
            uint32_t id = wg__body_of(&w->s, g, k);
            for (uint32_t n = 0; n < old(w, id)->n; n++, slot++) {
                uint32_t in = wg__reads_const(old(w, id))[n], number = alike ? w->slot[slot] : relay_elsewhere(w, g, in);
                if (!number)
                    continue;
                const run *of = &w->runs[w->relays[number - 1].run];
                int64_t at = same_time(w, of, g);
                if (at > of->first && is_handed_on(w, of, number, at, in))
                    read_instead(w, of, id, n, number, at - 1);
            }
        }
    }
}

/* ---- the new list ---- */

static uint32_t *made_at(const relayer *w, const run *r, uint32_t number, int64_t segment) {
    return &w->made[r->made + (segment - r->first) * (r->relay_end - r->relays) + number - 1 - r->relays];
}

/* One for all steps stands before them. */
static void make_constants(relayer *w, const run *r) {
    for (int64_t k = r->relays; k < r->relay_end; k++) {
        relay *v = &w->relays[k];
        const wg_instruction *x = old(w, wg__body_of(&w->s, &w->s.segments[r->like], v->of));
        wg_instruction none = {.op = &wg__op_constant, .shape = x->shape, .dtype = x->dtype, .value = x->dtype == WG_I32 ? 0 : -0.0};
        v->none = wg__rewrite_add(&w->r, &none);
        w->r.failed = w->r.failed || !v->none;
    }
}

/* The relays of a segment, which begins. */
static void make(relayer *w, int64_t segment) {
    const run *r = run_at(w, segment);
    const wg_segment *g = &w->s.segments[segment];
    uint32_t step = old(w, g->from)->step;
    if (segment == r->first)
        make_constants(w, r);
    for (int64_t k = r->relays; k < r->relay_end && !w->r.failed; k++) {
        const relay *v = &w->relays[k];
        if (!is_made(w, r, (uint32_t)k + 1, segment))
            continue;
        uint32_t of = segment == r->first ? w->r.to[v->init]
                      : v->from           ? *made_at(w, r, v->from, segment - 1)
                                          : w->r.to[wg__body_of(&w->s, g - 1, v->of)];
        const wg_instruction *x = &w->r.list[of];
        wg_instruction sum = {.op = &wg__op_add, .shape = x->shape, .dtype = x->dtype, .n = 2, .origin = x->origin, .step = step};
        sum.in[0] = of;
        sum.in[1] = v->none;
        uint32_t id = wg__rewrite_add(&w->r, &sum);
        w->r.failed = w->r.failed || !id;
        *made_at(w, r, (uint32_t)k + 1, segment) = id;
    }
}

static bool rewrite(relayer *w) {
    const wg_program *p = w->r.program;
    for (uint32_t id = 1; id < p->count && !w->r.failed; id++) {
        uint32_t s = w->s.in_segment[id];
        if (s && w->s.segments[s - 1].from == id)
            make(w, s - 1);
        if (w->r.failed || !wg__rewrite_keep(&w->r, id))
            return false;
        wg_instruction *i = &w->r.list[w->r.to[id]];
        for (uint32_t n = 0; n < i->n; n++) {
            reading from = w->instead[w->operands[id] + n];
            if (from.relay)
                wg__reads(i)[n] = *made_at(w, run_at(w, from.segment), from.relay, from.segment);
        }
    }
    return !w->r.failed;
}

static bool begin(relayer *w, wg_program *p) {
    int64_t operands;
    w->operands = wg__number_operands(p, &operands);
    w->instead = wg__take0(p->memory, wg__size((size_t)operands, sizeof *w->instead, 1));
    w->slot = wg__take(p->memory, wg__size((size_t)operands, sizeof *w->slot, 1));
    if (!w->operands || !w->instead || !w->slot || !wg__steps_find(&w->s, p) || !wg__rewrite_begin(&w->r, p))
        return false;
    w->run_of = wg__take(p->memory, wg__size((size_t)w->s.count, sizeof *w->run_of, 1));
    w->alike = wg__take(p->memory, wg__size((size_t)w->s.count, sizeof *w->alike, 1));
    return w->run_of && w->alike && find_runs(w);
}

/* Room for what is made: relays by segment. */
static bool make_room(relayer *w) {
    int64_t all = 0;
    for (int64_t k = 0; k < w->run_count; k++) {
        run *r = &w->runs[k];
        r->made = all;
        all += (r->end - r->first) * (r->relay_end - r->relays);
    }
    w->made = wg__take0(w->r.program->memory, wg__size((size_t)all, sizeof *w->made, 1));
    return w->made;
}

wg_status wg__pass_relay(wg_program *p, wg_error *error) {
    relayer w = {.r.program = p, .known.memory = p->memory};
    bool good = begin(&w, p);
    for (int64_t k = 0; good && !w.r.failed && k < w.run_count; k++)
        find_relays(&w, &w.runs[k]);
    for (int64_t k = 0; good && !w.r.failed && w.relay_count && k < w.run_count; k++)
        redirect_others(&w, &w.runs[k]);
    good = good && !w.r.failed;
    bool changes = good && w.relay_count;
    good = good && (!changes || (make_room(&w) && rewrite(&w)));
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__steps_free(&w.s);
    wg__rewrite_end(&w.r, good && changes);
    wg__known_free(&w.known);
    void *const taken[] = {w.runs, w.relays, w.made, w.operands, w.instead, w.run_of, w.alike, w.slot};
    for (int k = 0; k < WG_LEN(taken); k++)
        wg__give(p->memory, taken[k]);
    return status;
}
