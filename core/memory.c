/* memory.c: counted memory with a limit over an injectable allocator, and arenas on top of it. Touches nothing but
 * the allocator. */
#include "core.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, HUGE_PAGE = 2 << 20, HUGE_FROM = 1 << 20 };

struct wg_memory {
    wg_allocator allocator;
    size_t limit;
    _Atomic size_t used, peak, calls;
    _Atomic int refusal;
};

/* Stands before every block, in a line of its own so that the block keeps its alignment. */
typedef struct header {
    size_t bytes; /* of the block, without this header */
} header;

/* Large blocks are asked for in huge pages: a first touch of a small page costs more than the work on it. */
static void *system_allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    bool huge = bytes >= HUGE_FROM;
    if (huge)
        alignment = HUGE_PAGE;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, bytes);
    if (block && huge)
        madvise(block, bytes, MADV_HUGEPAGE); /* a hint: its failure changes nothing */
    return block;
}

static void system_release(void *user, void *block, size_t bytes) {
    (void)user;
    (void)bytes;
    free(block);
}

static const wg_allocator system_allocator = {system_allocate, system_release, NULL};

wg_memory *wg_memory_new(const wg_allocator *allocator, size_t limit) {
    wg_allocator from = allocator ? *allocator : system_allocator;
    wg_memory *memory = from.allocate(from.user, sizeof *memory, ALIGN);
    if (memory) {
        memset(memory, 0, sizeof *memory);
        memory->allocator = from;
        memory->limit = limit;
    }
    return memory;
}

void wg_memory_free(wg_memory *memory) {
    if (memory) {
        wg_allocator from = memory->allocator;
        from.release(from.user, memory, sizeof *memory);
    }
}

size_t wg_memory_used(const wg_memory *memory) { return memory ? memory->used : 0; }
size_t wg_memory_peak(const wg_memory *memory) { return memory ? memory->peak : 0; }
size_t wg_memory_calls(const wg_memory *memory) { return memory ? memory->calls : 0; }

wg_status wg_memory_status(const wg_memory *memory) {
    return memory ? (wg_status)memory->refusal : WG_OK;
}

wg_status wg__refusal(const wg_memory *memory) {
    wg_status last = wg_memory_status(memory);
    return last == WG_OK ? WG_MEMORY : last;
}

/* Counts `bytes` as live, or refuses. */
static bool charge(wg_memory *memory, size_t bytes) {
    size_t used = atomic_fetch_add(&memory->used, bytes) + bytes;
    if (memory->limit && used > memory->limit) {
        atomic_fetch_sub(&memory->used, bytes);
        memory->refusal = WG_LIMIT;
        return false;
    }
    size_t peak = memory->peak;
    while (used > peak && !atomic_compare_exchange_weak(&memory->peak, &peak, used)) {
    }
    return true;
}

void *wg__take(wg_memory *memory, size_t bytes) {
    const wg_allocator *from = memory ? &memory->allocator : &system_allocator;
    if (bytes > SIZE_MAX / 2) {
        if (memory)
            memory->refusal = WG_MEMORY;
        return NULL;
    }
    if (memory) {
        memory->calls++;
        if (!charge(memory, bytes))
            return NULL;
    }
    char *start = from->allocate(from->user, bytes + ALIGN, ALIGN);
    if (!start) {
        if (memory) {
            atomic_fetch_sub(&memory->used, bytes);
            memory->refusal = WG_MEMORY;
        }
        return NULL;
    }
    ((header *)start)->bytes = bytes;
    return start + ALIGN;
}

void *wg__take0(wg_memory *memory, size_t bytes) {
    void *block = wg__take(memory, bytes);
    if (block)
        memset(block, 0, bytes);
    return block;
}

void wg__give(wg_memory *memory, void *block) {
    if (!block)
        return;
    const wg_allocator *from = memory ? &memory->allocator : &system_allocator;
    header *start = (header *)((char *)block - ALIGN);
    size_t bytes = start->bytes;
    if (memory)
        atomic_fetch_sub(&memory->used, bytes);
    from->release(from->user, start, bytes + ALIGN);
}

void *wg__regrow(wg_memory *memory, void *block, size_t bytes) {
    size_t old = block ? ((header *)((char *)block - ALIGN))->bytes : 0;
    if (block && old >= bytes)
        return block;
    void *larger = wg__take(memory, bytes);
    if (larger && block) {
        memcpy(larger, block, old);
        wg__give(memory, block);
    }
    return larger;
}

char *wg__strndup(wg_memory *memory, const char *text, size_t size) {
    char *copy = wg__take(memory, wg__size(size, 1, 1));
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

char *wg__strdup(wg_memory *memory, const char *text) {
    return wg__strndup(memory, text, strlen(text));
}

size_t wg__size(size_t a, size_t b, size_t c) {
    size_t product, total;
    if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &total))
        return SIZE_MAX;
    return total;
}

bool wg__room(wg_memory *memory, void **array, int64_t count, int64_t *capacity, size_t size) {
    if (count < *capacity)
        return true;
    int64_t wanted = *capacity ? *capacity * 2 : 8;
    void *larger = wg__regrow(memory, *array, wg__size((size_t)wanted, size, 0));
    if (!larger)
        return false;
    *array = larger;
    *capacity = wanted;
    return true;
}

/* ---- arena ---- */

struct wg_arena_block {
    wg_arena_block *before;
    size_t base; /* arena->total when this block was begun */
    size_t used, room;
    char *bytes;
};

enum { FIRST_BLOCK = 1024, LARGEST_BLOCK = 4 << 20 };

static bool arena_grow(wg_arena *arena, size_t bytes) {
    size_t room = arena->last ? arena->last->room * 2 : FIRST_BLOCK;
    if (room > LARGEST_BLOCK)
        room = LARGEST_BLOCK;
    if (room < bytes)
        room = bytes;
    wg_arena_block *block = wg__take(arena->memory, wg__size(1, sizeof *block + ALIGN, room));
    if (!block)
        return false;
    *block = (wg_arena_block){arena->last, arena->total, 0, room, (char *)block + ALIGN};
    arena->last = block;
    return true;
}

void *wg__arena_take(wg_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 4)
        return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!arena->last || arena->last->room - arena->last->used < bytes)
        if (!arena_grow(arena, bytes))
            return NULL;
    wg_arena_block *block = arena->last;
    void *taken = block->bytes + block->used;
    block->used += bytes;
    arena->total += bytes;
    return taken;
}

void wg__arena_rewind(wg_arena *arena, size_t mark) {
    while (arena->last && arena->last->base >= mark) {
        wg_arena_block *gone = arena->last;
        arena->last = gone->before;
        wg__give(arena->memory, gone);
    }
    if (arena->last)
        arena->last->used = mark - arena->last->base;
    arena->total = mark;
}

void wg__arena_free(wg_arena *arena) {
    wg__arena_rewind(arena, 0);
}
