/* failing.h: an allocator whose k-th call fails, and which counts what is alive, for tests that fail every allocation
 * in turn. */
#ifndef WG_FAILING_H
#define WG_FAILING_H

#include <stdbool.h>
#include <stdlib.h>

#include "wengert.h"

typedef struct failing {
    long calls; /* made so far */
    long fail;  /* the call, counted from 1, that fails; 0 for none */
    long live;  /* blocks not yet released */
} failing;

static inline void *failing_allocate(void *user, size_t bytes, size_t alignment) {
    failing *f = user;
    if (++f->calls == f->fail)
        return NULL;
    void *block = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    f->live += block != NULL;
    return block;
}

static inline void failing_release(void *user, void *block, size_t bytes) {
    (void)bytes;
    ((failing *)user)->live--;
    free(block);
}

/* A memory whose k-th allocation from now on fails (k from 1; 0: none does). The memory itself is not counted. */
static inline wg_memory *failing_memory(failing *f, long k) {
    *f = (failing){0};
    wg_allocator allocator = {failing_allocate, failing_release, f};
    wg_memory *memory = wg_memory_new(&allocator, 0);
    *f = (failing){.fail = k};
    return memory;
}

/* Whether the failing call was reached. */
static inline bool failing_failed(const failing *f) { return f->fail && f->calls >= f->fail; }

#endif
