/* Prototypes of C functions: every type and its layout against C's own, every role, value and length, every refusal with its place. */
#include "suite.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "parsed.h"

/* ---- prototypes ---- */

Test(prototype, a_number_to_a_number) {
    parsed r = accept("double gsl_sf_bessel_J0(double)");
    cr_assert_str_eq(r.p->name, "gsl_sf_bessel_J0");
    has(&r.p->result, "double", NULL, NULL, -1);
    cr_assert_eq(r.p->result.type->kind, WG_CTYPE_DOUBLE);
    cr_assert_eq(r.p->result.type->size, sizeof(double));
    cr_assert_eq(r.p->parameters, 1);
    has(&r.p->parameter[0], "double", NULL, NULL, -1);
    cr_assert_eq(r.p->ffi[0], &ffi_type_double);
    cr_assert_eq(r.p->result.type->ffi, &ffi_type_double);
    cr_assert_not(r.p->parameter[0].fixed);
    cr_assert_eq(r.p->result.line, 1);
    cr_assert_eq(r.p->result.column, 1);
    cr_assert_eq(r.p->parameter[0].column, 25);
    wg__arena_free(&r.arena);
    r = accept("double gsl_sf_bessel_Jn(int n, double x)");
    cr_assert_eq(r.p->parameters, 2);
    has(&r.p->parameter[0], "int", "n", NULL, -1);
    has(&r.p->parameter[1], "double", "x", NULL, -1);
    cr_assert_eq(r.p->ffi[0], &ffi_type_sint32);
    cr_assert_eq(r.p->parameter[1].column, 32);
    wg__arena_free(&r.arena);
}

Test(prototype, arrays_with_lengths_and_fixed_values) {
    parsed r = accept("void scan(long n, const double x[n], double y[n])");
    cr_assert_eq(r.p->result.type->kind, WG_CTYPE_VOID);
    cr_assert_eq(r.p->result.type->size, 0);
    cr_assert_eq(r.p->result.type->ffi, &ffi_type_void);
    has(&r.p->parameter[0], "long", "n", NULL, -1);
    has(&r.p->parameter[1], "const double *", "x", NULL, -1);
    has(&r.p->parameter[2], "double *", "y", NULL, -1);
    cr_assert(r.p->parameter[1].type->is_const && !r.p->parameter[2].type->is_const);
    cr_assert_eq(r.p->parameter[2].lengths, 1);
    cr_assert_str_eq(r.p->parameter[2].length[0]->name, "n");
    cr_assert_eq(r.p->ffi[2], &ffi_type_pointer);
    wg__arena_free(&r.arena);
    r = accept("double cblas_ddot(int n, const double x[n], int incx = 1, const double y[n], int incy = 1)");
    cr_assert_eq(r.p->parameters, 5);
    cr_assert(r.p->parameter[2].fixed && r.p->parameter[4].fixed && !r.p->parameter[3].fixed);
    cr_assert_eq(r.p->parameter[4].value, 1);
    wg__arena_free(&r.arena);
}

Test(prototype, structs_by_value_and_by_pointer) {
    parsed r = accept("struct {double dat[2];} gsl_complex_exp(struct {double dat[2];} z)");
    has(&r.p->result, "struct {double[2];}", NULL, NULL, -1);
    has(&r.p->parameter[0], "struct {double[2];}", "z", NULL, -1);
    cr_assert_eq(r.p->ffi[0]->size, 16);
    cr_assert_eq(r.p->parameter[0].type->field[0].type->count, 2);
    wg__arena_free(&r.arena);
    r = accept("int f(const struct {size_t size: size; size_t stride; double *data: point;} *x, double *y: value): status");
    has(&r.p->result, "int", NULL, "status", -1);
    has(&r.p->parameter[0], "const struct {unsigned long; unsigned long; double *;} *", "x", NULL, -1);
    has(&r.p->parameter[1], "double *", "y", "value", -1);
    const wg_ctype *type = r.p->parameter[0].type;
    cr_assert(type->is_const && type->to->is_const);
    has(&type->to->field[0], "unsigned long", "size", "size", -1);
    has(&type->to->field[1], "unsigned long", "stride", NULL, -1);
    has(&type->to->field[2], "double *", "data", "point", -1);
    cr_assert_eq(type->to->field[2].offset, 16);
    wg__arena_free(&r.arena);
}

Test(prototype, pointers_to_functions) {
    parsed r = accept("double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value");
    cr_assert_null(r.p->name);
    has(&r.p->result, "double", NULL, "value", -1);
    has(&r.p->parameter[0], "unsigned", "n", "size", -1);
    has(&r.p->parameter[1], "const double *", "x", "point", -1);
    has(&r.p->parameter[2], "double *", "grad", "gradient", -1);
    has(&r.p->parameter[3], "void *", "data", "user", -1);
    wg__arena_free(&r.arena);
    r = accept("float * ( * step ) ( ) ;");
    cr_assert_str_eq(r.p->name, "step");
    has(&r.p->result, "float *", NULL, NULL, -1);
    cr_assert_eq(r.p->parameters, 0);
    wg__arena_free(&r.arena);
}

Test(prototype, no_parameters_are_void_or_nothing) {
    const char *const forms[] = {"int f(void)", "int f()", "int f ( void ) ;", "int f(\n)", "void f(void): status"};
    for (int i = 0; i < WG_LEN(forms); i++) {
        parsed r = accept(forms[i]);
        cr_assert_eq(r.p->parameters, 0, "%s", forms[i]);
        cr_assert_str_eq(r.p->name, "f");
        wg__arena_free(&r.arena);
    }
}

Test(prototype, lines_end_anywhere_and_comments_are_blanks) {
    parsed r = accept("\xEF\xBB\xBF# of a library\n\ndouble\nf\n(\r\n  int\n\tn # how many\n  ,\n"
                      "  const\n double\n *\n x\n:\nstate\n1\n)\n:\nvalue\n;\n\n");
    cr_assert_eq(r.p->parameters, 2);
    has(&r.p->parameter[0], "int", "n", NULL, -1);
    has(&r.p->parameter[1], "const double *", "x", "state", 1);
    has(&r.p->result, "double", NULL, "value", -1);
    cr_assert_eq(r.p->result.line, 3);
    cr_assert_eq(r.p->parameter[0].line, 6);
    cr_assert_eq(r.p->parameter[0].column, 3);
    cr_assert_eq(r.p->parameter[1].line, 9);
    wg__arena_free(&r.arena);
    r = accept("struct {\n  double\n    re,\n    im;\n} f(struct\n{\nfloat x\n[\n2\n]\n;\n}\n*\nz)");
    cr_assert_eq(r.p->result.type->field[1].line, 4);
    cr_assert_eq(r.p->result.type->field[1].column, 5);
    wg__arena_free(&r.arena);
}

Test(prototype, the_tree_needs_no_source) {
    char text[] = "double f(struct {double *re: part 1;} *x, const double m[rows][3*cols + 1]: in)";
    parsed r = accept(text);
    memset(text, '?', sizeof text - 1);
    char length[40];
    cr_assert_str_eq(r.p->name, "f");
    has(&r.p->parameter[0].type->to->field[0], "double *", "re", "part", 1);
    has(&r.p->parameter[1], "const double *", "m", "in", -1);
    cr_assert_str_eq(wg__ast_text(r.p->parameter[1].length[1], length, sizeof length), "3*cols + 1");
    wg__arena_free(&r.arena);
}

/* ---- integers ---- */

/* What C calls its integers; a plain char counts as signed. */
#define PAIR(words, type) {"signed " words, sizeof(type), true}, {"unsigned " words, sizeof(type), false}
#define TRIPLE(words, type) {words, sizeof(type), true}, PAIR(words, type)
static const struct {
    const char *words;
    size_t size;
    bool is_signed;
} integers[] = {TRIPLE("char", char),       TRIPLE("short", short),     TRIPLE("short int", short),     TRIPLE("int", int),
                PAIR("", int),              TRIPLE("long", long),       TRIPLE("long int", long),       TRIPLE("long long", long long),
                TRIPLE("long long int", long long)};

/* How often each word stands in it, as a number. */
static long bag(const char *text) {
    static const char *const words[] = {"char", "short", "int", "long", "signed", "unsigned"};
    long sum = 0;
    while (*text) {
        size_t size = strcspn(text, " ");
        long worth = 1;
        for (int i = 0; i < 6; i++, worth *= 10)
            sum += size == strlen(words[i]) && memcmp(text, words[i], size) == 0 ? worth : 0;
        text += size + (text[size] == ' ');
    }
    return sum;
}

/* The index of the type these words are in some order, or -1. */
static int meant(const char *text) {
    for (int i = 0; i < WG_LEN(integers); i++)
        if (bag(text) == bag(integers[i].words))
            return i;
    return -1;
}

static void check_words(const char *words) {
    char text[100];
    int type = meant(words);
    snprintf(text, sizeof text, "void f(%s x)", words);
    if (type < 0) {
        fails(WG_SYNTAX, text, "1:8", "these words together are no type of C");
        return;
    }
    parsed r = accept(text);
    const wg_ctype *t = r.p->parameter[0].type;
    cr_assert_eq(t->kind, WG_CTYPE_INTEGER);
    cr_assert_eq(t->size, integers[type].size, "%s", words);
    cr_assert_eq(t->is_signed, integers[type].is_signed, "%s", words);
    cr_assert_eq(t->ffi->size, t->size);
    wg__arena_free(&r.arena);
}

Test(prototype, words_of_integers_stand_in_every_order_and_only_those_of_c) {
    static const char *const words[] = {"char", "short", "int", "long", "signed", "unsigned"};
    for (int n = 1, all = 6; n <= 5; n++, all *= 6)
        for (int k = 0; k < all; k++) {
            char text[60] = "";
            for (int i = 0, left = k; i < n; i++, left /= 6)
                strcat(strcat(text, i ? " " : ""), words[left % 6]);
            check_words(text);
        }
}

Test(prototype, integers_of_the_headers_have_their_sizes) {
#define ROW(type) {#type, sizeof(type), (type)-1 < (type)1}
    const struct {
        const char *name;
        size_t size;
        bool is_signed;
    } rows[] = {ROW(bool),    ROW(_Bool),    ROW(size_t),   ROW(ssize_t),  ROW(ptrdiff_t), ROW(intptr_t), ROW(uintptr_t), ROW(int8_t),
                ROW(int16_t), ROW(int32_t),  ROW(int64_t),  ROW(uint8_t),  ROW(uint16_t),  ROW(uint32_t), ROW(uint64_t)};
#undef ROW
    for (int i = 0; i < WG_LEN(rows); i++) {
        char text[60];
        snprintf(text, sizeof text, "%s f(const %s *x)", rows[i].name, rows[i].name);
        parsed r = accept(text);
        const wg_ctype *t = r.p->result.type;
        cr_expect_eq(t->kind, WG_CTYPE_INTEGER);
        cr_expect_eq(t->size, rows[i].size, "%s", rows[i].name);
        cr_expect_eq(t->is_signed, rows[i].is_signed, "%s", rows[i].name);
        cr_expect_eq(t->is_bool, i < 2, "%s", rows[i].name);
        cr_expect_eq(t->ffi->size, t->size);
        cr_expect_eq(r.p->parameter[0].type->to->size, rows[i].size);
        wg__arena_free(&r.arena);
    }
}

Test(prototype, libffi_is_told_size_and_sign) {
    parsed r = accept("float f(int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, bool, float, double, void *)");
    ffi_type *const types[] = {&ffi_type_sint8,  &ffi_type_sint16, &ffi_type_sint32, &ffi_type_sint64, &ffi_type_uint8,  &ffi_type_uint16,
                               &ffi_type_uint32, &ffi_type_uint64, &ffi_type_uint8,  &ffi_type_float,  &ffi_type_double, &ffi_type_pointer};
    cr_assert_eq(r.p->parameters, WG_LEN(types));
    for (int i = 0; i < WG_LEN(types); i++)
        cr_expect_eq(r.p->ffi[i], types[i], "%d", i);
    cr_assert_eq(r.p->result.type->kind, WG_CTYPE_FLOAT);
    wg__arena_free(&r.arena);
}

/* ---- pointers and qualifiers ---- */

Test(prototype, const_is_what_a_pointer_points_to) {
    const struct {
        const char *type;
        int stars;
        int constant; /* bit k: the pointer of k + 1 stars points to what is const; -1: no pointer, but const */
    } rows[] = {{"double", 0, 0},
                {"const double", 0, -1},
                {"double const", 0, -1},
                {"const double const", 0, -1},
                {"double *", 1, 0},
                {"const double *", 1, 1},
                {"double const *", 1, 1},
                {"double *const", 1, 0},
                {"double *restrict", 1, 0},
                {"restrict const double *__restrict const restrict", 1, 1},
                {"const double **", 2, 1},
                {"double **const", 2, 0},
                {"double *const *", 2, 2},
                {"const double *const *", 2, 3},
                {"const double *const restrict *const", 2, 3},
                {"double * *", 2, 0},
                {"double ***", 3, 0},
                {"const double ***", 3, 1},
                {"double *const **", 3, 2},
                {"double **const *", 3, 4},
                {"double *restrict **const *const", 4, 8}};
    for (int i = 0; i < WG_LEN(rows); i++) {
        char text[100];
        snprintf(text, sizeof text, "void f(%s x)", rows[i].type);
        parsed r = accept(text);
        const wg_ctype *t = r.p->parameter[0].type;
        cr_assert_str_eq(r.p->parameter[0].name, "x");
        for (int star = rows[i].stars; star > 0; star--, t = t->to) {
            cr_assert_eq(t->kind, WG_CTYPE_POINTER, "%s", rows[i].type);
            cr_assert_eq(t->size, sizeof(void *));
            cr_expect_eq(t->is_const, rows[i].constant >> (star - 1) & 1, "%s, star %d", rows[i].type, star);
        }
        cr_assert_eq(t->kind, WG_CTYPE_DOUBLE, "%s", rows[i].type);
        cr_expect_eq(t->is_const, rows[i].constant & 1, "%s", rows[i].type);
        wg__arena_free(&r.arena);
    }
}

/* ---- structs ---- */

typedef struct point {
    double re, im;
} point;

typedef struct mixed {
    char c;
    point p[2];
    int n;
    const double *at, **rows, scale;
    float f[3];
    short s;
    struct {
        bool on;
        long long m[2][3];
        struct {
            unsigned char last;
        } deep[5];
    } in;
    uint8_t tail;
} mixed;

static const char mixed_text[] = "struct mixed {char c; struct point {double re, im;} p[2]; int n: size 3; const double *at, **rows, "
                                 "scale; float f[3]; short s; struct {bool on; long long m[2][3]; struct {unsigned char last;} deep[5];} "
                                 "in: state; uint8_t tail;}";

Test(prototype, structs_lie_as_c_lays_them_out) {
    char text[400];
    snprintf(text, sizeof text, "void f(const %s *x)", mixed_text);
    parsed r = accept(text);
    const wg_ctype *t = r.p->parameter[0].type->to;
#define ROW(name, count) {#name, offsetof(mixed, name), sizeof(((mixed *)0)->name), count}
    const struct {
        const char *name;
        size_t offset, size;
        int64_t count;
    } rows[] = {ROW(c, 1),     ROW(p, 2), ROW(n, 1), ROW(at, 1), ROW(rows, 1), ROW(scale, 1),
                ROW(f, 3),     ROW(s, 1), ROW(in, 1), ROW(tail, 1)};
    cr_assert_eq(t->kind, WG_CTYPE_STRUCT);
    cr_assert_eq(t->size, sizeof(mixed));
    cr_assert_eq(t->ffi->size, sizeof(mixed));
    cr_assert_eq(t->ffi->alignment, _Alignof(mixed));
    cr_assert_eq(t->fields, WG_LEN(rows));
    for (int i = 0; i < t->fields; i++) {
        cr_expect_str_eq(t->field[i].name, rows[i].name);
        cr_expect_eq(t->field[i].offset, rows[i].offset, "%s", rows[i].name);
        cr_expect_eq(t->field[i].type->count, rows[i].count, "%s", rows[i].name);
        cr_expect_eq(t->field[i].type->size * (size_t)rows[i].count, rows[i].size, "%s", rows[i].name);
        cr_expect_eq(t->field[i].lengths, 0);
    }
    const wg_ctype *in = t->field[8].type;
    cr_assert_eq(in->field[1].offset, offsetof(mixed, in.m) - offsetof(mixed, in));
    cr_assert_eq(in->field[1].type->count, 6);
    cr_assert_eq(in->field[2].offset, offsetof(mixed, in.deep) - offsetof(mixed, in));
    has(&t->field[2], "int", "n", "size", 3);
    has(&t->field[8], "struct {bool; long[6]; struct {unsigned char;}[5];}", "in", "state", -1);
    wg__arena_free(&r.arena);
}

Test(prototype, stars_belong_to_one_field_of_a_line) {
    parsed r = accept("void f(struct {const double *a, b, **c, *const d; void *e, *const *g;} x)");
    const wg_ctype *t = r.p->parameter[0].type;
    const char *const types[] = {"const double *", "const double", "const double **", "const double *", "void *", "void *const *"};
    cr_assert_eq(t->fields, WG_LEN(types));
    for (int i = 0; i < t->fields; i++)
        has(&t->field[i], types[i], (const char *const[]){"a", "b", "c", "d", "e", "g"}[i], NULL, -1);
    wg__arena_free(&r.arena);
}

static point turned(mixed m, point by, int8_t times, const point *more) {
    point z = {m.p[1].re * by.re - m.p[1].im * by.im, m.p[1].re * by.im + m.p[1].im * by.re};
    double scale = times * m.scale + m.at[1] + (double)m.f[2] + (double)m.in.m[1][2] + m.in.deep[4].last + m.tail;
    return (point){z.re * scale + more[1].re, z.im * scale + more[1].im};
}

Test(prototype, libffi_calls_with_structs_by_value) {
    char text[400];
    snprintf(text, sizeof text,
             "struct {double re, im;} turned(%s m, struct {double dat[2];} by, int8_t times, const struct {double x; double y;} more[2])",
             mixed_text);
    parsed r = accept(text);
    double at[2] = {0, 10};
    mixed m = {.p = {{0, 0}, {1, 2}}, .at = at, .scale = 100, .f = {0, 0, 0.5f}, .tail = 250};
    m.in.m[1][2] = 7;
    m.in.deep[4].last = 200;
    point by = {3, -1}, more[2] = {{0, 0}, {0.25, -0.25}}, out, expected = turned(m, by, -3, more);
    const point *pointer = more;
    int8_t times = -3;
    ffi_cif cif;
    cr_assert_eq(ffi_prep_cif(&cif, FFI_DEFAULT_ABI, (unsigned)r.p->parameters, r.p->result.type->ffi, r.p->ffi), FFI_OK);
    ffi_call(&cif, FFI_FN(turned), &out, (void *[]){&m, &by, &times, &pointer});
    cr_assert_eq(out.re, expected.re);
    cr_assert_eq(out.im, expected.im);
    cr_assert_eq(out.im, 5 * 167.5 - 0.25);
    wg__arena_free(&r.arena);
}

/* ---- roles, values, lengths ---- */

Test(prototype, roles_have_numbers_or_not) {
    parsed r = accept("int f(int: size, double x: point 0, double *: gradient 12, double y[n]: out 9007199254740992, long k = 3: size 2)"
                      ": status 7;");
    has(&r.p->parameter[0], "int", NULL, "size", -1);
    has(&r.p->parameter[1], "double", "x", "point", 0);
    has(&r.p->parameter[2], "double *", NULL, "gradient", 12);
    has(&r.p->parameter[3], "double *", "y", "out", 9007199254740992);
    has(&r.p->parameter[4], "long", "k", "size", 2);
    has(&r.p->result, "int", NULL, "status", 7);
    wg__arena_free(&r.arena);
    r = accept("struct {double re: value 1, im[2]: value 2, none;} f(struct {void *user: user; int n: const;} *x: int)");
    has(&r.p->result.type->field[0], "double", "re", "value", 1);
    has(&r.p->result.type->field[1], "double", "im", "value", 2);
    has(&r.p->result.type->field[2], "double", "none", NULL, -1);
    has(&r.p->parameter[0].type->to->field[0], "void *", "user", "user", -1);
    has(&r.p->parameter[0].type->to->field[1], "int", "n", "const", -1);
    has(&r.p->parameter[0], "struct {void *; int;} *", "x", "int", -1);
    wg__arena_free(&r.arena);
}

static void fixed(const char *parameter, double value) {
    char text[100];
    snprintf(text, sizeof text, "void f(%s)", parameter);
    parsed r = accept(text);
    cr_expect(r.p->parameter[0].fixed, "%s", parameter);
    cr_expect_eq(r.p->parameter[0].value, value, "%s: %.17g", parameter, r.p->parameter[0].value);
    wg__arena_free(&r.arena);
}

static void no_value(const char *parameter, const char *place) {
    char text[100];
    snprintf(text, sizeof text, "void f(%s)", parameter);
    fails(WG_SYNTAX, text, place, "this is no value of its type");
}

Test(prototype, values_are_fixed_within_their_types) {
    fixed("int n = 1", 1);
    fixed("int = -1", -1);
    fixed("int n=-0", 0);
    fixed("int8_t n = -128", -128);
    fixed("uint8_t n = 255", 255);
    fixed("char n = 1.27e2", 127);
    fixed("long n = -9223372036854775808", -0x1p63);
    fixed("unsigned long n = 18446744073709549568", 18446744073709549568.0);
    fixed("bool b = 1", 1);
    fixed("double x = -2.5e-3", -2.5e-3);
    fixed("double x = 1e308", 1e308);
    fixed("float x = 0.1", 0.1);
    fixed("float x = -3.4028234e38", -3.4028234e38);
    fixed("const void *p = NULL", 0);
    fixed("double *const *p = NULL", 0);
    fixed("double x[3] = NULL", 0);
    no_value("int n = 0.5", "1:16");
    no_value("int n = 2147483648", "1:16");
    no_value("int n = - 2147483649", "1:16");
    no_value("unsigned n = -1", "1:21");
    no_value("uint8_t n = 256", "1:20");
    no_value("int8_t n = -129", "1:19");
    no_value("long n = 9223372036854775808", "1:17");
    no_value("unsigned long n = 18446744073709551616", "1:26");
    no_value("bool b = 2", "1:17");
    no_value("_Bool b = -1", "1:18");
    no_value("float x = 1e39", "1:18");
    no_value("float x = -3.5e38", "1:18");
    no_value("struct {int a;} n = 1", "1:28");
}

static void lengths(const char *parameter, int n, ...) {
    char text[200], length[60];
    snprintf(text, sizeof text, "void f(%s)", parameter);
    parsed r = accept(text);
    const wg_slot *slot = &r.p->parameter[0];
    cr_assert_eq(slot->lengths, n, "%s has %d", parameter, slot->lengths);
    cr_assert_eq(slot->type->kind, WG_CTYPE_POINTER);
    va_list list;
    va_start(list, n);
    for (int i = 0; i < n; i++) {
        const char *expected = va_arg(list, const char *);
        cr_assert_eq(slot->length[i] == NULL, expected == NULL, "%s", parameter);
        if (expected)
            cr_assert_str_eq(wg__ast_text(slot->length[i], length, sizeof length), expected);
    }
    va_end(list);
    wg__arena_free(&r.arena);
}

Test(prototype, lengths_are_sums_and_products_of_names) {
    lengths("double *x", 0);
    lengths("double x[n]", 1, "n");
    lengths("double x[2*n+1]", 1, "2*n + 1");
    lengths("const float a[m][n]", 2, "m", "n");
    lengths("float []", 1, NULL);
    lengths("long x[][n - 1]", 2, NULL, "n - 1");
    lengths("bool x[9007199254740992]", 1, "9.00719925474099e+15");
    lengths("struct {double re, im;} x[3*(n + m)][\n2\n]", 2, "3*(n + m)", "2");
    lengths("double x[a][b][c][d][e][f][g][h]", 8, "a", "b", "c", "d", "e", "f", "g", "h");
}

/* ---- refusals ---- */

Test(prototype, what_is_no_prototype_is_refused_with_its_place) {
    const struct {
        const char *text, *place, *message;
    } rows[] = {
        {"", "1:1", "expected a type, not the end of the text"},
        {"# nothing\n\n", "3:1", "expected a type, not the end of the text"},
        {"(", "1:1", "this '(' is never closed"},
        {"7 f()", "1:1", "expected a type, not '7'"},
        {"\"double\" f()", "1:1", "expected a type, not a \"text\""},
        {"const", "1:6", "expected a type, not the end of the text"},
        {"complx f()", "1:1",
         "there is no type 'complx': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose fields are "
         "written out"},
        {"double", "1:7", "expected the name of the function, not the end of the text"},
        {"double *", "1:9", "expected the name of the function, not the end of the text"},
        {"double 3()", "1:8", "expected the name of the function, not '3'"},
        {"double (f)(int)", "1:9", "expected '*' and the name of the function, not 'f'"},
        {"double (**f)(int)", "1:9", "expected '*' and the name of the function, not '**'"},
        {"double (*f(int))", "1:11", "expected ')', not '('"},
        {"double (*3)(int)", "1:10", "expected ')', not '3'"},
        {"double int(int)", "1:1", "these words together are no type of C"},
        {"double *int(int)", "1:9", "'int' is a word of C's types and no name"},
        {"double f", "1:9", "expected '(' and the parameters, not the end of the text"},
        {"double f;", "1:9", "expected '(' and the parameters, not ';'"},
        {"double f(int", "1:9", "this '(' is never closed"},
        {"double f(int]", "1:13", "this ']' cannot close the '(' at 1:9"},
        {"double f(int) int", "1:15", "expected the end, not 'int'"},
        {"double f(int); int g();", "1:16", "expected the end, not 'int'"},
        {"double f(int);;", "1:15", "expected the end, not ';'"},
        {"double f(int,)", "1:14", "expected a type, not ')'"},
        {"double f(,)", "1:10", "expected a type, not ','"},
        {"double f(int a int b)", "1:16", "expected ',' or ')', not 'int'"},
        {"double f(int a; int b)", "1:15", "expected ',' or ')', not ';'"},
        {"double f(void, int)", "1:10", "nothing is of type void"},
        {"double f(int, const void)", "1:15", "nothing is of type void"},
        {"double f(void x)", "1:10", "nothing is of type void"},
        {"double f(void x[3])", "1:10", "nothing is of type void"},
        {"double f(\n  int n,\n  int n)", "3:7", "there are two of the name n"},
        {"double f(int $n)", "1:14", "'$' has no meaning here"},
        {"double f(int n & 1)", "1:16", "'&' has no meaning here"},
        {"double f(\xC3\xA9)", "1:10", "the byte 0xC3 has no meaning outside comments and \"texts\""},
        {"double f(int n: )", "1:17", "expected the name of a role, not ')'"},
        {"double f(int n): 3", "1:18", "expected the name of a role, not '3'"},
        {"double f(int n:", "1:9", "this '(' is never closed"},
        {"double f():", "1:12", "expected the name of a role, not the end of the text"},
        {"double f(int n: size 1.5)", "1:22", "this is no whole number, or too large"},
        {"double f(int n: size 1e300)", "1:22", "this is no whole number, or too large"},
        {"double f(int n: size 9007199254740994)", "1:22", "this is no whole number, or too large"},
        {"double f(int n: size -1)", "1:22", "expected ',' or ')', not '-'"},
        {"double f(int n = )", "1:18", "expected a number, not ')'"},
        {"double f(int n = m)", "1:18", "expected a number, not 'm'"},
        {"double f(int n = NULL)", "1:18", "expected a number, not 'NULL'"},
        {"double f(int n = --1)", "1:19", "expected a number, not '-'"},
        {"double f(int n = 0x10)", "1:19", "a name cannot follow a number directly: write a '*' between them"},
        {"double f(double x = 1e999)", "1:21", "this number is too large or too long"},
        {"double f(int *n = 0)", "1:19", "expected NULL, not '0'"},
        {"double f(double x[2n])", "1:20", "a name cannot follow a number directly: write a '*' between them"},
        {"double f(double x[n/2])", "1:20", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[-n])", "1:19", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[1 + 0.5])", "1:23", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[n*9007199254740994])", "1:21", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[2*min(m, n)])", "1:21", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[n**2])", "1:20", "a length is made of names, whole numbers, + - and *"},
        {"double f(double x[n)", "1:20", "this ')' cannot close the '[' at 1:18"},
        {"double f(double x[n m])", "1:21", "expected ']', not 'm'"},
        {"double f(double x[*])", "1:19", "expected a name, a number or '(', not '*'"},
        {"double f(double x[n][])", "1:22", "only the first length of an array may be left out"},
        {"double f(struct {double;} x)", "1:24", "expected the name of a field, not ';'"},
        {"double f(struct {double x} y)", "1:26", "expected ';', not '}'"},
        {"double f(struct {double x; y)", "1:28",
         "there is no type 'y': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose fields are written "
         "out"},
        {"double f(struct {double x;)", "1:27", "expected a type, not ')'"},
        {"struct {double x;", "1:18", "expected a type, not the end of the text"},
        {"double f(struct {double x, ;} y)", "1:28", "expected the name of a field, not ';'"},
        {"double f(struct {double x; int x;} y)", "1:32", "there are two of the name x"},
        {"double f(struct {double x, x;} y)", "1:28", "there are two of the name x"},
        {"double f(struct {void x;} y)", "1:18", "nothing is of type void"},
        {"double f(struct {void *x, y;} y)", "1:18", "nothing is of type void"},
        {"double f(struct {double x[n];} y)", "1:27", "expected a whole number, not 'n'"},
        {"double f(struct {double x[];} y)", "1:27", "expected a whole number, not ']'"},
        {"double f(struct {double x[1.5];} y)", "1:27", "this is no whole number, or too large"},
        {"double f(struct {double x[2 3];} y)", "1:29", "expected ']', not '3'"},
        {"double f(struct {double x: 'a';} y)", "1:28", "expected the name of a role, not '''"},
        {"double f(struct {double *long;} y)", "1:26", "'long' is a word of C's types and no name"},
        {"double f(struct {double x = 1;} y)", "1:27", "expected ';', not '='"},
        {"double f(unsigned double x)", "1:10", "these words together are no type of C"},
        {"double f(unsigned int32_t)", "1:10", "these words together are no type of C"},
        {"double f(const float double x)", "1:16", "these words together are no type of C"},
        {"double f(int const long x)", "1:10", "these words together are no type of C"},
        {"double f(struct {int a;} struct b)", "1:10", "these words together are no type of C"},
        {"double f(double restrict x)", "1:10", "these words together are no type of C"},
        {"double f(double *struct)", "1:18", "'struct' is a word of C's types and no name"},
        {"double f(double *size_t)", "1:18", "'size_t' is a word of C's types and no name"},
    };
    for (int i = 0; i < WG_LEN(rows); i++)
        fails(WG_SYNTAX, rows[i].text, rows[i].place, rows[i].message);
}

Test(prototype, what_is_not_supported_is_called_by_its_name) {
    const struct {
        const char *text, *place, *message;
    } rows[] = {
        {"int printf(const char *format, ...)", "1:32", "functions of a varying number of arguments ('...') are not supported"},
        {"int f(...)", "1:7", "functions of a varying number of arguments ('...') are not supported"},
        {"double f(union {int a; float b;} x)", "1:10", "'union' is not supported"},
        {"enum {A} f(void)", "1:1", "'enum' is not supported"},
        {"double f(volatile int *x)", "1:10", "'volatile' is not supported"},
        {"double f(int volatile *x)", "1:14", "'volatile' is not supported"},
        {"double f(int *volatile x)", "1:15", "'volatile' is not supported"},
        {"double f(_Atomic int *x)", "1:10", "'_Atomic' is not supported"},
        {"double f(_Complex double z)", "1:10", "'_Complex' is not supported"},
        {"double f(double _Complex z)", "1:17", "'_Complex' is not supported"},
        {"double f(double _Complex)", "1:17", "'_Complex' is not supported"},
        {"double complex cexp(double complex z)", "1:8", "'complex' is not supported"},
        {"float f(float const _Imaginary *z)", "1:21", "'_Imaginary' is not supported"},
        {"long double expl(double x)", "1:1", "long double is not supported: ops are f32 and f64"},
        {"void f(long double *x)", "1:8", "long double is not supported: ops are f32 and f64"},
        {"void f(double long x)", "1:8", "long double is not supported: ops are f32 and f64"},
        {"void f(int n, const double const long *x)", "1:21", "long double is not supported: ops are f32 and f64"},
        {"double f(struct vector x)", "1:10", "a struct is written with its fields: struct {double re, im;}"},
        {"double f(const struct *x)", "1:16", "a struct is written with its fields: struct {double re, im;}"},
        {"struct", "1:1", "a struct is written with its fields: struct {double re, im;}"},
        {"double f(struct {} x)", "1:10", "a struct without fields is not supported"},
        {"double f(struct {int a: 3; int b: 5;} x)", "1:23", "bit fields are not supported"},
        {"double f(struct {int a; int : 3;} x)", "1:29", "bit fields are not supported"},
        {"double f(struct {double (*call)(double, void *); void *with;} *x)", "1:25", "a function in a struct is not supported"},
        {"double f(struct {double call(double);} *x)", "1:29", "a function in a struct is not supported"},
        {"double f(double (*call)(double), double x)", "1:17", "a parameter that is a function is not supported"},
        {"double f(double call(double), double x)", "1:21", "a parameter that is a function is not supported"},
        {"double f(void (double))", "1:15", "a parameter that is a function is not supported"},
        {"double f(double *x[n])", "1:19", "an array of pointers is not supported"},
        {"double f(void *x[])", "1:17", "an array of pointers is not supported"},
        {"double[3] f(int n)", "1:7", "an array cannot be returned"},
        {"double f(int n)[3]", "1:16", "an array cannot be returned"},
    };
    for (int i = 0; i < WG_LEN(rows); i++)
        fails(WG_UNSUPPORTED, rows[i].text, rows[i].place, rows[i].message);
}

/* ---- what a type is called ---- */

Test(prototype, types_are_called_as_c_writes_them) {
    named("void", "void");
    named("double", "double");
    named("float const", "const float");
    named("void *", "void *");
    named("const void*", "const void *");
    named("const double *restrict", "const double *");
    named("double**", "double **");
    named("const double **", "const double **");
    named("double *const *", "double *const *");
    named("const double *const ***", "const double *const ***");
    named("signed char", "char");
    named("uint8_t", "unsigned char");
    named("_Bool", "bool");
    named("const bool *", "const bool *");
    named("short int", "short");
    named("unsigned short", "unsigned short");
    named("signed", "int");
    named("unsigned int", "unsigned");
    named("int64_t", "long");
    named("size_t", "unsigned long");
    named("struct {double re, im;}", "struct {double; double;}");
    named("const struct complex {float z[2];} *", "const struct {float[2];} *");
    named("struct {const struct {int *a; char b[2][3];} *x[2]; long y;} **", "struct {const struct {int *; char[6];} *[2]; long;} **");
}

Test(prototype, what_a_type_is_called_is_cut_to_its_room) {
    static const char whole[] = "const struct {double[2]; unsigned *const *;} *";
    parsed r = accept("const struct {double x[2]; unsigned *const *y;} *f()");
    for (size_t size = 0; size <= sizeof whole + 1; size++) {
        char text[sizeof whole + 2], cut[sizeof whole + 2];
        memset(text, '!', sizeof text);
        cr_assert_eq(wg__ctype_text(r.p->result.type, text, size), text);
        snprintf(cut, sizeof cut, "%.*s", (int)size - 1, size ? whole : "");
        cr_assert(size == 0 || strcmp(text, cut) == 0, "%zu: %s, not %s", size, text, cut);
        cr_assert(size > sizeof whole || text[size] == '!', "%zu", size);
    }
    wg__arena_free(&r.arena);
}
