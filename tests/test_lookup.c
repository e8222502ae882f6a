/* Texts found by what they say: all of many, the first of equals, none that is not there. */
#include "suite.h"

#include <stdio.h>

#include "core.h"

enum { MANY = 5000 };

static char kept[MANY][8];

static const char *text_of(const void *owner, int64_t i) { return ((const char(*)[8])owner)[i]; }

static void enter(wg_lookup *lookup, int number) {
    snprintf(kept[lookup->count], sizeof kept[0], "n%d", number);
    cr_assert(wg__lookup_room(lookup, NULL));
    wg__lookup_enter(lookup);
}

Test(lookup, every_text_is_found_whatever_came_after_it) {
    wg_lookup lookup = {.text = text_of, .owner = kept};
    char text[8];
    cr_assert_eq(wg__lookup_find(&lookup, "n0"), -1);
    for (int i = 0; i < MANY - 1; i++)
        enter(&lookup, i);
    enter(&lookup, 7);
    for (int i = 0; i < MANY - 1; i++) {
        snprintf(text, sizeof text, "n%d", i);
        cr_assert_eq(wg__lookup_find(&lookup, text), i);
    }
    cr_assert_eq(wg__lookup_find(&lookup, "n"), -1);
    cr_assert_eq(wg__lookup_find(&lookup, "n4999"), -1);
    wg__give(NULL, lookup.slot);
}
