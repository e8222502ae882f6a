/* print_structure.h: what tests of loops share: the structure of a compiled program, read from how it is printed. */
#ifndef WG_PRINT_STRUCTURE_H
#define WG_PRINT_STRUCTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"
#include "tape.h"

static inline void append(void *user, const char *text, size_t size) {
    char **all = user;
    size_t have = *all ? strlen(*all) : 0;
    *all = realloc(*all, have + size + 1);
    memcpy(*all + have, text, size);
    (*all)[have + size] = 0;
}

/* As it is for two threads, on any machine. */
static inline char *printed(int n, const wg_var *y, const char *after) {
    char *text = NULL;
    wg_error error = {0};
    cr_assert_eq(wg_print(n, y, &(wg_print_options){.after = after, .threads = 2}, append, &text, &error), WG_OK, "%s", error.text);
    return text;
}

static inline char *printed_plan(const wg_plan *plan) {
    char *text = NULL;
    cr_assert_eq(wg_plan_print(plan, NULL, append, &text), WG_OK);
    return text;
}

static inline int count(const char *text, const char *words) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, words)); at++)
        n++;
    return n;
}

typedef struct structure {
    char loops[512]; /* "8:1 8:2": times, and products in it */
    int outside;     /* products in no loop */
    int64_t instructions;
} structure;

static inline structure structure_of(int n, const wg_var *y, const char *after) {
    structure s = {0};
    char *text = printed(n, y, after);
    int products = -1;
    size_t at = 0;
    for (char *next, *line = text; line && *line; line = next) {
        long number, times;
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        bool inside = strncmp(line, "  %", 3) == 0, product = strstr(line, " = matmul") || strstr(line, " = packed_product");
        s.instructions += inside || *line == '%';
        if (!inside && products >= 0) {
            at += (size_t)snprintf(s.loops + at, sizeof s.loops - at, ":%d", products);
            products = -1;
        }
        if (sscanf(line, "loop %ld, %ld times", &number, &times) == 2) {
            at += (size_t)snprintf(s.loops + at, sizeof s.loops - at, "%s%ld", at ? " " : "", times);
            products = 0;
        }
        products += inside && product;
        s.outside += !inside && product;
    }
    free(text);
    return s;
}

static inline int structure_loops(const structure *s) { return count(s->loops, ":"); }

#endif
