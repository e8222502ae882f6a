/* plan_cache.c: plans by the structure of what they compute, for define-by-run loops: the same ops on the same shapes find
 * the plan made before, with its leaves bound to the tensors now named. */
#include "plan.h"

#include <string.h>

enum { USUAL_MOST = 64 };

typedef struct cached {
    uint64_t hash;
    char *key;
    size_t size;
    wg_plan *plan;
    uint64_t used; /* when it was asked for last */
} cached;

struct wg_plan_cache {
    wg_memory *memory;
    wg_compile_options options;
    char *without;
    cached *entries;
    int count, most;
    uint64_t now;
    int64_t compiled;
};

/* A key under construction: everything about a program that decides what its plan does, but not which tensors it reads. */
typedef struct key {
    wg_memory *memory;
    char *bytes;
    size_t size, room;
    bool failed;
} key;

static void add(key *k, const void *bytes, size_t size) {
    if (k->failed || size == 0)
        return;
    if (k->size + size > k->room) {
        size_t room = 2 * (k->size + size) + 1024;
        char *larger = wg__regrow(k->memory, k->bytes, room);
        if (!larger) {
            k->failed = true;
            return;
        }
        k->bytes = larger;
        k->room = room;
    }
    memcpy(k->bytes + k->size, bytes, size);
    k->size += size;
}

static void add_instruction(key *k, const wg_program *p, int64_t id) {
    const wg_instruction *i = &p->list[id];
    uint32_t head[4] = {i->n, i->slot, i->dtype, (uint32_t)i->shape->rank};
    add(k, &i->op, sizeof i->op);
    add(k, head, sizeof head);
    add(k, i->shape->dim, sizeof *i->shape->dim * (size_t)i->shape->rank);
    add(k, wg__reads_const(i), i->n * sizeof(uint32_t));
    if (i->op == &wg__op_constant)
        add(k, &i->value, sizeof i->value);
    else if (i->attr)
        add(k, i->attr, i->op->attr_size);
    int64_t step[3] = {i->step, p->steps[i->step].step, /* an unroll's number is of its tape, not of the structure */
                       i->step > 1 && p->steps[i->step].unroll == p->steps[i->step - 1].unroll};
    add(k, step, sizeof step);
}

static key key_of(const wg_program *p) {
    key k = {.memory = p->memory};
    for (int64_t id = 1; id < p->count; id++)
        add_instruction(&k, p, id);
    add(&k, p->outputs, (size_t)p->output_count * sizeof *p->outputs);
    return k;
}

static uint64_t hash_of(const key *k) {
    uint64_t hash = k->size, word;
    for (size_t at = 0; at < k->size; at += sizeof word) {
        word = 0;
        memcpy(&word, k->bytes + at, k->size - at < sizeof word ? k->size - at : sizeof word);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash;
}

wg_plan_cache *wg_plan_cache_new(wg_memory *memory, const wg_compile_options *options, int most) {
    wg_plan_cache *c = wg__take0(memory, sizeof *c);
    if (!c)
        return NULL;
    c->memory = memory;
    c->most = most > 0 ? most : USUAL_MOST;
    c->options = options ? *options : (wg_compile_options){0};
    c->entries = wg__take0(memory, wg__size((size_t)c->most, sizeof *c->entries, 0));
    if (c->options.without)
        c->options.without = c->without = wg__strdup(memory, c->options.without);
    if (c->entries && (c->without || !options || !options->without))
        return c;
    wg_plan_cache_free(c);
    return NULL;
}

static void forget(wg_plan_cache *c, cached *e) {
    wg_memory *memory = e->plan ? e->plan->memory : NULL;
    wg__give(memory, e->key);
    wg_plan_free(e->plan);
    *e = c->entries[--c->count];
}

void wg_plan_cache_free(wg_plan_cache *c) {
    if (!c)
        return;
    while (c->count)
        forget(c, &c->entries[c->count - 1]);
    wg__give(c->memory, c->entries);
    wg__give(c->memory, c->without);
    wg__give(c->memory, c);
}

int64_t wg_plan_cache_compiled(const wg_plan_cache *c) { return c->compiled; }

static cached *find(wg_plan_cache *c, uint64_t hash, const key *k) {
    for (int i = 0; i < c->count; i++) {
        cached *e = &c->entries[i];
        if (e->hash == hash && e->size == k->size && memcmp(e->key, k->bytes, k->size) == 0)
            return e;
    }
    return NULL;
}

/* Compiles the program, which it takes over, as the key it takes over; the plan longest not asked for makes room. */
static cached *keep(wg_plan_cache *c, wg_program *p, uint64_t hash, key *k, wg_error *error) {
    wg_plan *plan = NULL;
    if (wg__run_passes(p, &c->options, NULL, error) == WG_OK)
        plan = wg__plan_new(p, &c->options.run, error);
    else
        wg__program_free(p);
    if (!plan) {
        wg__give(k->memory, k->bytes);
        return NULL;
    }
    if (c->count == c->most) {
        cached *oldest = c->entries;
        for (int i = 1; i < c->count; i++)
            if (c->entries[i].used < oldest->used)
                oldest = &c->entries[i];
        forget(c, oldest);
    }
    c->compiled++;
    c->entries[c->count] = (cached){.hash = hash, .key = k->bytes, .size = k->size, .plan = plan};
    return &c->entries[c->count++];
}

wg_plan *wg_plan_cache_get(wg_plan_cache *c, int n, const wg_var *y, wg_error *error) {
    wg_program *p = wg__compile(NULL, "record", n, y, error);
    if (!p)
        return NULL;
    key k = key_of(p);
    if (k.failed) {
        wg__program_no_memory(p, error);
        wg__give(k.memory, k.bytes);
        wg__program_free(p);
        return NULL;
    }
    uint64_t hash = hash_of(&k);
    cached *e = find(c, hash, &k);
    if (e) {
        /* Equal keys: as many tensors, of the same types and shapes, and as different from each other. */
        for (int64_t s = 0; s < p->tensor_count; s++)
            wg__bind(e->plan->own, s, p->tensors[s]);
        wg__give(k.memory, k.bytes);
        wg__program_free(p);
    } else if (!(e = keep(c, p, hash, &k, error))) {
        return NULL;
    }
    e->used = ++c->now;
    return e->plan;
}
