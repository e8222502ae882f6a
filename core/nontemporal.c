/* nontemporal.c: copies that go past the caches, to memory that another thread's cache may hold and that none will read soon. Storing to such a
 * line as usual waits until the other core has given it up; these stores wait for nobody. (ARCHITECTURE.md, "Past the caches", has figures.) */
#include "core.h"

#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

void wg__bypass(void *to, const void *from, size_t bytes) {
#if defined(__SSE2__)
    const size_t before = wg__min(-(uintptr_t)to % WG_LINE_BYTES, bytes), whole = (bytes - before) / WG_LINE_BYTES * WG_LINE_BYTES;
    memcpy(to, from, before);
    char *line = (char *)to + before;
    const char *x = (const char *)from + before;
    for (size_t k = 0; k < whole; k += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(line + k), _mm_loadu_si128((const __m128i *)(x + k)));
    memcpy(line + whole, x + whole, bytes - before - whole);
#else
    memcpy(to, from, bytes);
#endif
}

void wg__bypass_fence(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
