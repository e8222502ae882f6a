/* parsed.h: prototypes parsed, and beside what they should be. */
#ifndef WG_PARSED_H
#define WG_PARSED_H

#include "suite.h"

#include <stdio.h>
#include <string.h>

#include "prototype.h"

typedef struct parsed {
    wg_arena arena;
    const wg_prototype *p;
    wg_error error;
    wg_status status;
} parsed;

static inline parsed parse(const char *text) {
    parsed r = {0};
    wg_source source = {"p", text, strlen(text)};
    r.status = wg__prototype_parse(&source, &r.arena, &r.p, &r.error);
    return r;
}

static inline parsed accept(const char *text) {
    parsed r = parse(text);
    cr_assert_eq(r.status, WG_OK, "%s: %s", text, r.error.text);
    cr_assert_not_null(r.p);
    cr_assert_eq(r.error.status, WG_OK);
    return r;
}

/* The whole error is "p:PLACE: MESSAGE", the line, and a caret below its column. */
static inline void fails(wg_status status, const char *text, const char *place, const char *message) {
    int line = 1, column = 1;
    char whole[1024];
    const char *start = text;
    parsed r = parse(text);
    sscanf(place, "%d:%d", &line, &column);
    for (int i = 1; i < line; i++)
        start = strchr(start, '\n') + 1;
    snprintf(whole, sizeof whole, "p:%s: %s\n    %.*s\n    %*s", place, message, (int)strcspn(start, "\n"), start, column, "^");
    cr_expect_str_eq(r.error.text, whole, "%s:\n%s\nnot\n%s", text, r.error.text, whole);
    cr_expect_eq(r.status, status, "%s: %d", text, r.status);
    cr_expect_eq(r.error.status, status);
    cr_expect_null(r.p);
    wg__arena_free(&r.arena);
}

/* What the type of a prototype's result is called. */
static inline void named(const char *type, const char *name) {
    char text[200], whole[300];
    snprintf(whole, sizeof whole, "%s f()", type);
    parsed r = accept(whole);
    wg__ctype_text(r.p->result.type, text, sizeof text);
    cr_expect_str_eq(text, name, "%s is called %s, not %s", type, text, name);
    wg__arena_free(&r.arena);
}

static inline bool same(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

/* A parameter's type as text, its name, its role and the role's number. */
static inline void has(const wg_slot *slot, const char *type, const char *name, const char *role, int64_t number) {
    char text[200];
    wg__ctype_text(slot->type, text, sizeof text);
    cr_expect_str_eq(text, type, "%s, not %s", text, type);
    cr_expect(same(slot->name, name), "%s: %s", type, slot->name ? slot->name : "unnamed");
    cr_expect(same(slot->role, role), "%s: %s", type, slot->role ? slot->role : "no role");
    cr_expect_eq(slot->number, number);
}

#endif
