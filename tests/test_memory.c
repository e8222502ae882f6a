/* Memory: counting, limits, arenas. */
#include "suite.h"

#include "core.h"

Test(memory, limit_refuses_and_counts_stay_true) {
    wg_memory *memory = wg_memory_new(NULL, 1000);
    void *first = wg__take(memory, 600);
    cr_assert_not_null(first);
    cr_assert_null(wg__take(memory, 600));
    cr_assert_eq(wg_memory_status(memory), WG_LIMIT);
    cr_assert_eq(wg_memory_used(memory), 600);
    wg__give(memory, first);
    cr_assert_eq(wg_memory_used(memory), 0);
    cr_assert_eq(wg_memory_peak(memory), 600);
    wg_memory_free(memory);
}

Test(memory, arena_rewinds_to_its_mark_and_gives_all_back) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_arena arena = {.memory = memory};
    char *kept = wg__arena_take(&arena, 100);
    kept[0] = 'k';
    size_t mark = arena.total;
    for (int i = 0; i < 1000; i++)
        cr_assert_not_null(wg__arena_take(&arena, 1000));
    wg__arena_rewind(&arena, mark);
    cr_assert_eq(arena.total, mark);
    cr_assert_eq(kept[0], 'k');
    cr_assert_eq((char *)wg__arena_take(&arena, 16), kept + 112);
    wg__arena_free(&arena);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}
