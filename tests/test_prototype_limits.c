/* Prototypes of C functions: how much there may be of everything, memory that runs out, numbers of every type. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing.h"
#include "parsed.h"

/* ---- limits ---- */

/* "HEAD PIECE PIECE … TAIL", where "%d" in a piece is its number; `between` stands between pieces. */
static char *many(const char *head, int n, const char *piece, const char *between, const char *tail) {
    size_t room = strlen(head) + strlen(tail) + (size_t)n * (strlen(piece) + strlen(between) + 12) + 1;
    char *text = malloc(room), *at = stpcpy(text, head);
    for (int i = 0; i < n; i++) {
        const char *digits = strstr(piece, "%d");
        int before = digits ? (int)(digits - piece) : (int)strlen(piece);
        at += sprintf(at, "%s%.*s", i ? between : "", before, piece);
        at += digits ? sprintf(at, "%d%s", i, digits + 2) : 0;
    }
    strcpy(at, tail);
    return text;
}

/* Takes the text if message is NULL, else fails with WG_RANGE at the place. Frees the text. */
static void limit(char *text, const char *column, const char *message) {
    char start[200];
    parsed r = parse(text);
    snprintf(start, sizeof start, "p:1:%s: %s\n", column, message ? message : "");
    cr_expect_eq(r.status, message ? WG_RANGE : WG_OK, "%.60s: %s", text, r.error.text);
    cr_expect_eq(r.p == NULL, message != NULL);
    cr_expect(!message || strncmp(r.error.text, start, strlen(start)) == 0, "%.60s: %s", text, r.error.text);
    wg__arena_free(&r.arena);
    free(text);
}

static void limit_of(const char *text, const char *column, const char *message) { limit(strdup(text), column, message); }

Test(prototype_limits, parameters_and_fields_are_at_most_64) {
    const char *const fields = "a struct has at most 64 fields";
    limit(many("int f(", 64, "int", ",", ")"), "", NULL);
    limit(many("int f(", 64, "double x%d", ", ", ")"), "", NULL);
    limit(many("int f(", 65, "int", ",", ")"), "263", "a function has at most 64 parameters");
    limit(many("int f(", 500, "int", ",", ")"), "263", "a function has at most 64 parameters");
    limit(many("int f(struct {", 64, "int a%d;", "", "} x)"), "", NULL);
    limit(many("int f(struct {int ", 64, "a%d", ",", ";} x)"), "", NULL);
    limit(many("int f(struct {", 65, "int a%d;", "", "} x)"), "521", fields);
    limit(many("int f(struct {int ", 65, "a%d", ",", ";} x)"), "265", fields);
}

Test(prototype_limits, structs_stand_in_each_other_at_most_8_deep) {
    const char *const deep = "structs stand in each other deeper than 8";
    limit(many("int f(", 8, "struct {", "", "int a;} a;} a;} a;} a;} a;} a;} a;} x)"), "", NULL);
    limit(many("int f(", 9, "struct {", "", "int a;} a;} a;} a;} a;} a;} a;} a;} a;} x)"), "71", deep);
    limit(many("int f(", 1500, "struct {", "", ")"), "71", deep);
    limit(many("int f(struct {", 9, "struct {int a;} a%d;", "", "} x)"), "", NULL);
}

Test(prototype_limits, a_type_has_at_most_8_stars) {
    limit_of("int f(int ********x)", "", NULL);
    limit_of("int f(int *const*restrict* * * * * *x)", "", NULL);
    limit_of("int f(int *********x)", "19", "a type has at most 8 '*'");
    limit_of("int f(int * **** ****x)", "20", "a type has at most 8 '*'");
    limit(many("int f(int ", 16000, "*", "", "x)"), "19", "a type has at most 8 '*'");
    limit_of("int f(struct {int *x, ********y, *********z;} x)", "42", "a type has at most 8 '*'");
}

Test(prototype_limits, a_struct_has_at_most_256_scalars) {
    const char *const scalars = "a struct has 1 to 256 numbers";
    limit_of("int f(struct {char a[256];} x)", "", NULL);
    limit_of("int f(struct {char a[16][16];} x)", "", NULL);
    limit_of("int f(struct {struct {char a[100]; void *p[28];} a[2];} x)", "", NULL);
    limit_of("int f(struct {struct {char a[256];} *a, *b[255];} x)", "", NULL);
    limit_of("int f(struct {char a[257];} x)", "22", scalars);
    limit_of("int f(struct {char a[0];} x)", "22", scalars);
    limit_of("int f(struct {char a[16][17];} x)", "26", scalars);
    limit_of("int f(struct {char a[9007199254740992];} x)", "22", scalars);
    limit_of("int f(struct {char a[256]; double b;} x)", "28", scalars);
    limit_of("int f(struct {struct {char a[100]; void *p[29];} a[2];} x)", "15", scalars);
    limit_of("int f(struct {struct {char a[256];} a[256];} x)", "15", scalars);
}

Test(prototype_limits, a_text_has_at_most_16384_bytes) {
    for (int bytes = WG_PROTOTYPE_SIZE; bytes <= WG_PROTOTYPE_SIZE + 1; bytes++) {
        char *text = many("int f(int n)", bytes - 12, " ", "", "");
        parsed r = parse(text);
        cr_assert_eq(strlen(text), (size_t)bytes);
        cr_assert_eq(r.status, bytes > WG_PROTOTYPE_SIZE ? WG_RANGE : WG_OK);
        cr_assert_str_eq(r.error.text, bytes > WG_PROTOTYPE_SIZE ? "p: a prototype has at most 16384 bytes" : "");
        cr_assert_eq(r.p == NULL, bytes > WG_PROTOTYPE_SIZE);
        wg__arena_free(&r.arena);
        free(text);
    }
}

Test(prototype_limits, an_array_has_at_most_8_lengths) {
    limit(many("int f(int x", 8, "[n]", "", ")"), "", NULL);
    limit(many("int f(int x", 9, "[n]", "", ")"), "12", "an array has at most 8 lengths");
    limit(many("int f(struct {int x", 90, "[1]", "", ";} x)"), "", NULL);
}

Test(prototype_limits, names_and_lengths_keep_the_limits_of_expressions) {
    char *text = many("int f(int ", WG_EXPR_NAME, "x", "", ")");
    limit(text, "", NULL);
    text = many("int f(int ", WG_EXPR_NAME + 1, "x", "", ")");
    parsed r = parse(text);
    cr_assert_eq(r.status, WG_SYNTAX);
    cr_assert(strncmp(r.error.text, "p:1:11: this name is longer than 100 characters\n", 48) == 0, "%s", r.error.text);
    wg__arena_free(&r.arena);
    free(text);
    limit(many("int f(int x[n", 240, " + n", "", "])"), "", NULL);
    text = many("int f(int x[n", 300, " + n", "", "])");
    r = parse(text);
    cr_assert_eq(r.status, WG_SYNTAX);
    cr_assert_not_null(strstr(r.error.text, "this expression is nested deeper than 250"), "%s", r.error.text);
    wg__arena_free(&r.arena);
    free(text);
}

/* ---- memory ---- */

static const char all_forms[] = "const struct t {double re: value 1, *im[2]; struct {bool on;} in;} *(*name)(int n: size, "
                                "const double x[2*n + 1][m]: state 3, unsigned long *const *list = NULL, float eps = -1e-3, "
                                "struct {char c[3];} by): value";

/* Blocks of an arena double, so a few hundred bytes taken before move what it is that fails. */
static bool fails_at(long k, size_t before) {
    failing f;
    wg_memory *memory = failing_memory(&f, 0);
    wg_arena arena = {.memory = memory};
    wg_source source = {"p", all_forms, strlen(all_forms)};
    wg_error error = {0};
    const wg_prototype *p = (const wg_prototype *)&source;
    cr_assert(before == 0 || wg__arena_take(&arena, before));
    f.fail = f.calls + k;
    wg_status status = wg__prototype_parse(&source, &arena, &p, &error);
    bool failed = failing_failed(&f);
    cr_assert_eq(status, failed ? WG_MEMORY : WG_OK, "%ld, %zu: %s", k, before, error.text);
    cr_assert_eq(error.status, status);
    cr_assert_eq(p == NULL, failed);
    cr_assert(!failed || strncmp(error.text, "p: ", 3) == 0, "%s", error.text);
    wg__arena_free(&arena);
    f.fail = 0;
    wg_memory_free(memory);
    cr_assert_eq(f.live, -1); /* the memory itself, which was not counted */
    return failed;
}

Test(prototype_limits, any_allocation_may_fail) {
    for (size_t before = 0; before < 1 << 17; before += before < 1 << 15 ? 16 : 1024)
        for (long k = 1; fails_at(k, before);)
            k++;
}

Test(prototype_limits, a_limit_of_memory_is_kept) {
    parsed r = {0};
    wg_source source = {"p", all_forms, strlen(all_forms)};
    r.arena.memory = wg_memory_new(NULL, 4096);
    r.status = wg__prototype_parse(&source, &r.arena, &r.p, &r.error);
    cr_assert_eq(r.status, WG_LIMIT);
    cr_assert_eq(r.error.status, WG_LIMIT);
    cr_assert_null(r.p);
    wg__arena_free(&r.arena);
    cr_assert_eq(wg_memory_used(r.arena.memory), 0);
    wg_memory_free(r.arena.memory);
}

Test(prototype_limits, an_error_is_told_only_to_those_who_ask) {
    parsed r = {0};
    const char *const texts[] = {"double f(", "double f(...)", "int f(int *********x)"};
    const wg_status statuses[] = {WG_SYNTAX, WG_UNSUPPORTED, WG_RANGE};
    for (int i = 0; i < WG_LEN(texts); i++) {
        wg_source source = {"p", texts[i], strlen(texts[i])};
        cr_assert_eq(wg__prototype_parse(&source, &r.arena, &r.p, NULL), statuses[i]);
        cr_assert_null(r.p);
        wg__arena_free(&r.arena);
    }
}

/* ---- numbers ---- */

/* Sets the value in a room of another content and gets it back; the bytes behind stay. */
static void sets(const wg_ctype *type, double value, bool good) {
    unsigned char room[16], before[16];
    memset(room, 0xA5, sizeof room);
    memcpy(before, room, sizeof room);
    bool done = wg__ctype_set(type, room, value);
    cr_expect_eq(done, good, "%zu bytes, %s: %.17g", type->size, type->is_signed ? "signed" : "unsigned", value);
    cr_expect_arr_eq(room + type->size, before, sizeof room - type->size);
    if (!done)
        cr_expect_arr_eq(room, before, sizeof room);
    else
        cr_expect_eq(wg__ctype_get(type, room), value, "%.17g became %.17g", value, wg__ctype_get(type, room));
}

static void sets_whole_numbers(const char *name, double least, double most) {
    char text[60];
    snprintf(text, sizeof text, "%s f()", name);
    parsed r = accept(text);
    const wg_ctype *type = r.p->result.type;
    double beyond = nextafter(most, INFINITY) > most + 1 ? nextafter(most, INFINITY) : most + 1;
    double below = nextafter(least, -INFINITY) < least - 1 ? nextafter(least, -INFINITY) : least - 1;
    const double good[] = {least, most, 0, -0.0, 1};
    const double bad[] = {beyond, below, NAN, INFINITY, -INFINITY, 0.5, -0.5, 1e-300, 1e300, -1e300, least - 0.5};
    for (int i = 0; i < WG_LEN(good); i++)
        sets(type, good[i], true);
    for (int i = 0; i < WG_LEN(bad); i++)
        if (bad[i] != least) /* a half below a large number is that number */
            sets(type, bad[i], false);
    sets(type, -1, least < 0);
    wg__arena_free(&r.arena);
}

Test(prototype_limits, integers_take_just_their_values) {
    sets_whole_numbers("bool", 0, 1);
    sets_whole_numbers("int8_t", -128, 127);
    sets_whole_numbers("uint8_t", 0, 255);
    sets_whole_numbers("int16_t", -32768, 32767);
    sets_whole_numbers("uint16_t", 0, 65535);
    sets_whole_numbers("int32_t", -2147483648.0, 2147483647);
    sets_whole_numbers("uint32_t", 0, 4294967295.0);
    sets_whole_numbers("int64_t", -0x1p63, 0x1p63 - 1024);
    sets_whole_numbers("uint64_t", 0, 0x1p64 - 2048);
}

Test(prototype_limits, integers_are_read_to_their_limits) {
#define GETS(ctype, number)                                                                                                                \
    do {                                                                                                                                   \
        ctype x_ = (ctype)(number);                                                                                                        \
        parsed r_ = accept(#ctype " f()");                                                                                                 \
        cr_expect_eq(wg__ctype_get(r_.p->result.type, &x_), (double)x_, #ctype);                                                           \
        wg__arena_free(&r_.arena);                                                                                                         \
    } while (0)
    GETS(bool, 1);
    GETS(char, -1);
    GETS(int8_t, INT8_MIN);
    GETS(uint8_t, UINT8_MAX);
    GETS(int16_t, INT16_MIN);
    GETS(uint16_t, UINT16_MAX);
    GETS(int32_t, INT32_MIN);
    GETS(uint32_t, UINT32_MAX);
    GETS(int64_t, INT64_MIN);
    GETS(int64_t, INT64_MAX);
    GETS(uint64_t, UINT64_MAX);
    GETS(float, 0.1);
    GETS(double, 0.1);
}

Test(prototype_limits, reals_take_every_value_and_nothing_else_is_a_number) {
    parsed r = accept("struct {int a;} f(float a, double b, void *c)");
    const double values[] = {0, -0.0, 0.5, -1.5, INFINITY, -INFINITY};
    for (int i = 0; i < WG_LEN(values); i++) {
        sets(r.p->parameter[0].type, values[i], true);
        sets(r.p->parameter[1].type, values[i], true);
    }
    sets(r.p->parameter[1].type, 1e300, true);
    float x = 0;
    double y = 0;
    cr_assert(wg__ctype_set(r.p->parameter[0].type, &x, 0.1) && wg__ctype_set(r.p->parameter[1].type, &y, NAN));
    cr_assert_eq(x, 0.1f);
    cr_assert(isnan(wg__ctype_get(r.p->parameter[1].type, &y)));
    cr_assert(wg__ctype_set(r.p->parameter[0].type, &x, NAN));
    cr_assert(isnan(wg__ctype_get(r.p->parameter[0].type, &x)));
    sets(r.p->parameter[2].type, 0, false);
    sets(r.p->result.type, 0, false);
    wg__arena_free(&r.arena);
}
