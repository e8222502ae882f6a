/* fuse.c: in a loop, pointwise instructions of one shape and type that can run back to back become a region: a run walks it block
 * by block, and what only the region reads never reaches memory. Instructions are reordered for that: what waits for the same
 * other computations stands together; and what is made of one array, and read by later regions alone, stands with its readers: to
 * read the array again costs less than to keep what was made of it. */
#include "known.h"
#include "loop.h"
#include "ops.h"

#include <string.h>

typedef struct fuser {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *stage;  /* by old id: the stage in which it runs; within it, pointwise ones come last */
    uint32_t *order;  /* a loop's ids, sorted */
    uint32_t *counts;
    wg_known known;    /* of domains: of one shape and type; the ids of one stage form a list for each */
    uint32_t *sample;  /* by domain: an instruction of it */
    uint32_t *first, *last; /* by domain: of its list in this stage; first 0: none */
    uint32_t *next;    /* by old id */
    uint32_t *reads, *until, *source; /* by old id: how often it is read; how late it may be made; the one array that it is made of, if it is */
    uint32_t regions;
} fuser;

/* Whether it can be part of a region. */
static bool joins(const wg_instruction *i) {
    return i->op->kind == WG_POINTWISE && i->n <= 3 && i->dtype != WG_I32 && i->op->map[i->dtype - WG_F32] && i->shape->rank >= 1 &&
           i->shape->count > 0 && wg__kernel(i->op) == wg__pointwise_run;
}

static bool same_domain(const wg_instruction *a, const wg_instruction *b) { return a->shape == b->shape && a->dtype == b->dtype; }

/* Whether a region that makes `id` can make it of `in` at once. */
static bool feeds(const fuser *f, uint32_t in, uint32_t id) { return joins(&f->p->list[id]) && same_domain(&f->p->list[in], &f->p->list[id]); }

/* The stage of everything in a loop. A view of what a region makes can only be read once the region is done. */
static uint32_t find_stages(fuser *f, const wg_loop *loop) {
    uint32_t most = 0;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &f->p->list[id];
        uint32_t stage = 0;
        for (uint32_t k = 0; k < i->n; k++) {
            uint32_t in = wg__reads_const(i)[k];
            if (f->p->list[in].loop != i->loop || wg__reads_back(i, k))
                continue;
            const wg_instruction *from = &f->p->list[in];
            uint32_t from_stage = f->stage[in] + (joins(from) && !feeds(f, in, id));
            stage = from_stage > stage ? from_stage : stage;
        }
        f->stage[id] = stage;
        most = stage > most ? stage : most;
    }
    return most;
}

/* Counts reads; what is read outside its loop, or in the next iteration, is kept anyway. */
static void count_reads(fuser *f) {
    for (uint32_t id = 1; id < f->p->count; id++)
        f->until[id] = UINT32_MAX;
    for (uint32_t id = 1; id < f->p->count; id++)
        for (uint32_t k = 0; k < f->p->list[id].n; k++) {
            uint32_t in = wg__reads_const(&f->p->list[id])[k];
            f->reads[in]++;
            if (f->p->list[in].loop != f->p->list[id].loop || wg__reads_back(&f->p->list[id], k))
                f->until[in] = 0;
        }
}

/* How late what an instruction reads may be made for it. */
static void note_reads(fuser *f, uint32_t id) {
    const wg_instruction *i = &f->p->list[id];
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k];
        f->until[in] = feeds(f, in, id) ? (uint32_t)wg__min(f->until[in], f->stage[id]) : 0;
    }
}

/* The array of its loop that an instruction and those that only it reads are made of; 0: of none or of several. */
static uint32_t find_source(fuser *f, uint32_t id) {
    const wg_instruction *i = &f->p->list[id];
    uint32_t source = 0;
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k], of = in;
        if (f->p->list[in].loop != i->loop)
            continue;
        if (joins(&f->p->list[in]) && f->reads[in] == 1 && f->source[in])
            of = f->source[in];
        if (source && source != of)
            return 0;
        source = of;
    }
    return source;
}

/* Whether it is of a region and kept. It can lie side by side with others where only its own region reads it (join.c). */
static bool is_kept(const fuser *f, uint32_t id) { return joins(&f->p->list[id]) && f->until[id] == 0; }

/* Moves what is made of one array to the first stage that reads it. */
static void sink(fuser *f, const wg_loop *loop) {
    for (uint32_t id = loop->from; id < loop->to; id++)
        f->source[id] = joins(&f->p->list[id]) ? find_source(f, id) : 0;
    for (uint32_t id = loop->to; id-- > loop->from; note_reads(f, id))
        if (f->source[id] && !is_kept(f, f->source[id]) && f->until[id] != UINT32_MAX && f->until[id] > f->stage[id])
            f->stage[id] = f->until[id];
}

/* By stage, and in each what is no part of a region before what is: both in their old order. */
static void sort_loop(fuser *f, const wg_loop *loop, uint32_t most) {
    uint32_t *count = f->counts;
    memset(count, 0, (2 * (size_t)most + 3) * sizeof *count);
    for (uint32_t id = loop->from; id < loop->to; id++)
        count[2 * f->stage[id] + joins(&f->p->list[id]) + 1]++;
    for (uint32_t k = 1; k < 2 * most + 3; k++)
        count[k] += count[k - 1];
    for (uint32_t id = loop->from; id < loop->to; id++)
        f->order[count[2 * f->stage[id] + joins(&f->p->list[id])]++] = id;
}

/* The number of an instruction's domain; -1 when out of memory. */
static int64_t domain_of(fuser *f, uint32_t id) {
    const wg_instruction *i = &f->p->list[id];
    uint64_t hash = wg__mix(i->dtype, (uintptr_t)i->shape), probe = 0;
    for (int64_t k; (k = wg__known_next(&f->known, hash, &probe)) >= 0;)
        if (same_domain(&f->p->list[f->sample[k]], i))
            return k;
    f->sample[f->known.count] = id;
    return wg__known_enter(&f->known, hash) ? f->known.count - 1 : -1;
}

/* Puts the members of one stage's regions, order[from, to), domain by domain as they first come, and numbers them. */
static bool add_regions(fuser *f, uint32_t from, uint32_t to) {
    uint32_t count = 0, *heads = f->order + from; /* what was read there is in a list */
    for (uint32_t k = from; k < to; k++) {
        uint32_t id = f->order[k];
        int64_t domain = domain_of(f, id);
        if (domain < 0)
            return false;
        f->next[id] = 0;
        if (f->first[domain])
            f->next[f->last[domain]] = id;
        else
            heads[count++] = f->first[domain] = id;
        f->last[domain] = id;
    }
    for (uint32_t k = 0; k < count; k++) {
        f->regions++;
        f->first[domain_of(f, heads[k])] = 0;
        for (uint32_t id = heads[k]; id; id = f->next[id]) {
            if (!wg__rewrite_keep(&f->r, id))
                return false;
            f->r.list[f->r.to[id]].region = f->regions;
        }
    }
    return true;
}

static bool fuse_loop(fuser *f, const wg_loop *loop) {
    uint32_t most = find_stages(f, loop), n = loop->to - loop->from;
    sink(f, loop);
    sort_loop(f, loop, most);
    for (uint32_t k = 0; k < n;) {
        uint32_t end = k;
        if (!joins(&f->p->list[f->order[k]])) {
            if (!wg__rewrite_keep(&f->r, f->order[k++]))
                return false;
            continue;
        }
        while (end < n && joins(&f->p->list[f->order[end]]) && f->stage[f->order[end]] == f->stage[f->order[k]])
            end++;
        if (!add_regions(f, k, end))
            return false;
        k = end;
    }
    return true;
}

wg_status wg__pass_fuse(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    fuser f = {.r.program = p, .p = p, .known.memory = p->memory};
    f.stage = wg__take0(p->memory, wg__size(n, 11 * sizeof *f.stage, 16 * sizeof *f.stage));
    bool good = f.stage && wg__rewrite_begin(&f.r, p);
    if (good)
        f.order = f.stage + n, f.sample = f.order + n, f.first = f.sample + n, f.last = f.first + n, f.next = f.last + n;
    if (good)
        f.reads = f.next + n, f.until = f.reads + n, f.source = f.until + n, f.counts = f.source + n, count_reads(&f);
    for (uint32_t id = 1; good && id < p->count;) {
        const wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        good = loop ? fuse_loop(&f, loop) : wg__rewrite_keep(&f.r, id);
        id = loop ? loop->to : id + 1;
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&f.r, good);
    wg__give(p->memory, f.stage);
    wg__known_free(&f.known);
    return status;
}
