/* Prototypes of C functions as text: types, parameters, lengths, values and roles; errors with their place. */
#include "suite.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing.h"
#include "prototype.h"

static wg_arena arena;

static const wg_prototype *parsed(const char *text) {
    const wg_prototype *p = NULL;
    wg_error error = {0};
    wg_status status = wg__prototype_parse(&(wg_source){"p", text, strlen(text)}, &arena, &p, &error);
    cr_assert_eq(status, WG_OK, "%s", error.text);
    cr_assert_not_null(p);
    return p;
}

static void done(void) { wg__arena_free(&arena); }

/* The first line of the message. */
static void refused(const char *text, wg_status status, const char *line) {
    const wg_prototype *p = NULL;
    wg_error error = {0};
    cr_expect_eq(wg__prototype_parse(&(wg_source){"p", text, strlen(text)}, &arena, &p, &error), status, "%s: %s", text, error.text);
    error.text[strcspn(error.text, "\n")] = 0;
    cr_expect_str_eq(error.text, line);
    cr_expect_null(p);
    done();
}

static void is_type(const char *text, wg_ctype_kind kind, size_t size, bool is_signed, const char *name) {
    char whole[200], shown[100];
    snprintf(whole, sizeof whole, "void f(%s x)", text);
    const wg_ctype *type = parsed(whole)->parameter[0].type;
    cr_expect_eq(type->kind, kind, "%s", text);
    cr_expect_eq(type->size, size, "%s", text);
    cr_expect_eq(type->is_signed, is_signed, "%s", text);
    cr_expect_eq(type->ffi->size, size, "%s", text);
    cr_expect_str_eq(wg__ctype_text(type, shown, sizeof shown), name);
    done();
}

Test(prototype, every_number_of_c_is_a_type_in_any_order_of_its_words) {
    is_type("char", WG_CTYPE_INTEGER, 1, true, "char");
    is_type("signed char", WG_CTYPE_INTEGER, 1, true, "char");
    is_type("unsigned char", WG_CTYPE_INTEGER, 1, false, "unsigned char");
    is_type("char unsigned", WG_CTYPE_INTEGER, 1, false, "unsigned char");
    is_type("short", WG_CTYPE_INTEGER, sizeof(short), true, "short");
    is_type("short int", WG_CTYPE_INTEGER, sizeof(short), true, "short");
    is_type("int unsigned short", WG_CTYPE_INTEGER, sizeof(short), false, "unsigned short");
    is_type("int", WG_CTYPE_INTEGER, sizeof(int), true, "int");
    is_type("signed", WG_CTYPE_INTEGER, sizeof(int), true, "int");
    is_type("unsigned", WG_CTYPE_INTEGER, sizeof(int), false, "unsigned");
    is_type("long", WG_CTYPE_INTEGER, sizeof(long), true, "long");
    is_type("long unsigned int", WG_CTYPE_INTEGER, sizeof(long), false, "unsigned long");
    is_type("long long", WG_CTYPE_INTEGER, sizeof(long long), true, "long");
    is_type("long int long unsigned", WG_CTYPE_INTEGER, sizeof(long long), false, "unsigned long");
    is_type("bool", WG_CTYPE_INTEGER, 1, false, "bool");
    is_type("_Bool", WG_CTYPE_INTEGER, 1, false, "bool");
    is_type("int8_t", WG_CTYPE_INTEGER, 1, true, "char");
    is_type("uint8_t", WG_CTYPE_INTEGER, 1, false, "unsigned char");
    is_type("int16_t", WG_CTYPE_INTEGER, 2, true, "short");
    is_type("uint16_t", WG_CTYPE_INTEGER, 2, false, "unsigned short");
    is_type("int32_t", WG_CTYPE_INTEGER, 4, true, "int");
    is_type("uint32_t", WG_CTYPE_INTEGER, 4, false, "unsigned");
    is_type("int64_t", WG_CTYPE_INTEGER, 8, true, "long");
    is_type("uint64_t", WG_CTYPE_INTEGER, 8, false, "unsigned long");
    is_type("size_t", WG_CTYPE_INTEGER, sizeof(size_t), false, "unsigned long");
    is_type("ssize_t", WG_CTYPE_INTEGER, sizeof(size_t), true, "long");
    is_type("ptrdiff_t", WG_CTYPE_INTEGER, sizeof(ptrdiff_t), true, "long");
    is_type("intptr_t", WG_CTYPE_INTEGER, sizeof(void *), true, "long");
    is_type("uintptr_t", WG_CTYPE_INTEGER, sizeof(void *), false, "unsigned long");
    is_type("float", WG_CTYPE_FLOAT, sizeof(float), true, "float");
    is_type("const double", WG_CTYPE_DOUBLE, sizeof(double), true, "const double");
    is_type("double const", WG_CTYPE_DOUBLE, sizeof(double), true, "const double");
    is_type("void *", WG_CTYPE_POINTER, sizeof(void *), false, "void *");
    is_type("const char *restrict", WG_CTYPE_POINTER, sizeof(void *), false, "const char *");
    is_type("double **", WG_CTYPE_POINTER, sizeof(void *), false, "double **");
    is_type("const double *const *__restrict", WG_CTYPE_POINTER, sizeof(void *), false, "const double **");
}

Test(prototype, parameters_have_names_lengths_values_and_roles) {
    const wg_prototype *p = parsed("int scan(long n, const double x[2*n + 1][n - 1], double y[],\n    int by = -3, void *data = NULL,\n"
                                   "  float *g: gradient, size_t: size 2): status ;");
    cr_assert_str_eq(p->name, "scan");
    cr_assert_eq(p->parameters, 7);
    const wg_slot *s = p->parameter;
    cr_assert(s[0].lengths == 0 && !s[0].fixed && !s[0].role && s[0].number == -1);
    char text[40];
    cr_assert_eq(s[1].lengths, 2);
    cr_assert(s[1].type->kind == WG_CTYPE_POINTER && s[1].type->is_const && s[1].type->to->kind == WG_CTYPE_DOUBLE);
    cr_assert_str_eq(wg__ast_text(s[1].length[0], text, sizeof text), "2*n + 1");
    cr_assert_str_eq(wg__ast_text(s[1].length[1], text, sizeof text), "n - 1");
    cr_assert(s[2].lengths == 1 && !s[2].length[0] && !s[2].type->is_const);
    cr_assert(s[3].fixed && s[3].value == -3 && s[3].line == 2 && s[3].column == 5);
    cr_assert(s[4].fixed && s[4].value == 0);
    cr_assert_str_eq(s[5].role, "gradient");
    cr_assert(!s[6].name && s[6].number == 2);
    cr_assert_str_eq(s[6].role, "size");
    cr_assert_str_eq(p->result.role, "status");
    cr_assert_eq(p->ffi[1], &ffi_type_pointer);
    done();
    cr_assert_null(parsed("double (*)(double)")->name);
    cr_assert_str_eq(parsed("double (*called)(double)")->name, "called");
    cr_assert_eq(parsed("void f(void)")->parameters, 0);
    cr_assert_eq(parsed("void f()")->parameters, 0);
    done();
}

typedef struct inner {
    char c;
    double d[3];
} inner;
typedef struct outer {
    int16_t a, b;
    inner in[2];
    float *p;
    uint8_t last;
} outer;

static double sum_of(outer o) { return o.a + 10 * o.b + o.in[1].d[2] + o.last + (o.p ? (double)*o.p : 0); }

Test(prototype, structs_lie_as_the_compiler_lays_them_and_are_passed_by_value) {
    const wg_prototype *p = parsed("double sum_of(struct outer {int16_t a, b; struct {char c; double d[3];} in[2]; float *p: point; uint8_t last;} o)");
    const wg_ctype *type = p->parameter[0].type;
    cr_assert_eq(type->size, sizeof(outer));
    cr_assert_eq(type->fields, 5);
    const size_t at[] = {offsetof(outer, a), offsetof(outer, b), offsetof(outer, in), offsetof(outer, p), offsetof(outer, last)};
    for (int i = 0; i < 5; i++)
        cr_assert_eq(type->field[i].offset, at[i], "field %d", i);
    cr_assert_str_eq(type->field[3].role, "point");
    const wg_ctype *in = type->field[2].type;
    cr_assert(in->count == 2 && in->size == sizeof(inner) && in->field[1].offset == offsetof(inner, d) && in->field[1].type->count == 3);
    char text[100];
    cr_assert_str_eq(wg__ctype_text(type, text, sizeof text), "struct {short; short; struct {char; double[3];}[2]; float *; unsigned char;}");
    cr_assert_str_eq(wg__ctype_text(type, text, 12), "struct {sho");
    ffi_cif cif;
    cr_assert_eq(ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 1, p->result.type->ffi, p->ffi), FFI_OK);
    float f = 0.5f;
    outer o = {1, 2, {{'x', {1, 2, 3}}, {'y', {4, 5, 6}}}, &f, 7};
    double y = 0;
    ffi_call(&cif, (void (*)(void))sum_of, &y, (void *[]){&o});
    cr_assert_eq(y, 34.5);
    done();
}

Test(prototype, what_is_no_prototype_says_where) {
    refused("", WG_SYNTAX, "p:1:1: expected a type, not the end of the text");
    refused("double", WG_SYNTAX, "p:1:7: expected the name of the function, not the end of the text");
    refused("double f", WG_SYNTAX, "p:1:9: expected '(' and the parameters, not the end of the text");
    refused("double f(double", WG_SYNTAX, "p:1:9: this '(' is never closed");
    refused("double f(double) x", WG_SYNTAX, "p:1:18: expected the end, not 'x'");
    refused("double f(double x y)", WG_SYNTAX, "p:1:19: expected ',' or ')', not 'y'");
    refused("double (f)(double)", WG_SYNTAX, "p:1:9: expected '*' and the name of the function, not 'f'");
    refused("double (*f(double)", WG_SYNTAX, "p:1:11: expected ')', not '('");
    refused("double f(doble x)", WG_SYNTAX,
            "p:1:10: there is no type 'doble': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose fields are written "
            "out");
    refused("double f(double int)", WG_SYNTAX, "p:1:17: 'int' is a word of C and no name");
    refused("double double(int)", WG_SYNTAX, "p:1:8: 'double' is a word of C and no name");
    refused("double f(struct {int size_t;} s)", WG_SYNTAX, "p:1:22: 'size_t' is a word of C and no name");
    refused("double f(3)", WG_SYNTAX, "p:1:10: expected a type, not '3'");
    refused("double f(int x, double x)", WG_SYNTAX, "p:1:24: there are two of the name x");
    refused("double f(void x)", WG_SYNTAX, "p:1:10: nothing is of type void");
    refused("double f(int, void)", WG_SYNTAX, "p:1:15: nothing is of type void");
    refused("double f(short long x)", WG_SYNTAX, "p:1:10: these words together are no type of C");
    refused("double f(unsigned signed x)", WG_SYNTAX, "p:1:10: these words together are no type of C");
    refused("double f(char int x)", WG_SYNTAX, "p:1:10: these words together are no type of C");
    refused("double f(long long long x)", WG_SYNTAX, "p:1:10: these words together are no type of C");
    refused("double f(int n, double x[n/2])", WG_SYNTAX, "p:1:27: a length is made of names, whole numbers, + - and *");
    refused("double f(int n, double x[1.5])", WG_SYNTAX, "p:1:26: a length is made of names, whole numbers, + - and *");
    refused("double f(int n, double x[n*(2 + sin(n))])", WG_SYNTAX, "p:1:33: a length is made of names, whole numbers, + - and *");
    refused("double f(int n, double x[n][])", WG_SYNTAX, "p:1:29: only the first length of an array may be left out");
    refused("double f(int n, double x[n)", WG_SYNTAX, "p:1:27: this ')' cannot close the '[' at 1:25");
    refused("double f(int n, double x[n n])", WG_SYNTAX, "p:1:28: expected ']', not 'n'");
    refused("double f(unsigned char n = 256)", WG_SYNTAX, "p:1:28: this is no value of its type");
    refused("double f(int n = 1.5)", WG_SYNTAX, "p:1:18: this is no value of its type");
    refused("double f(struct {int a;} n = 1)", WG_SYNTAX, "p:1:30: this is no value of its type");
    refused("double f(int n = x)", WG_SYNTAX, "p:1:18: expected a number, not 'x'");
    refused("double f(void *p = 0)", WG_SYNTAX, "p:1:20: expected NULL, not '0'");
    refused("double f(int n: )", WG_SYNTAX, "p:1:17: expected the name of a role, not ')'");
    refused("double f(int n: in 1.5)", WG_SYNTAX, "p:1:20: this is no whole number, or too large");
    refused("double f(struct {int;} s)", WG_SYNTAX, "p:1:21: expected the name of a field, not ';'");
    refused("double f(struct {int a} s)", WG_SYNTAX, "p:1:23: expected ';', not '}'");
    refused("double f(struct {int a, a;} s)", WG_SYNTAX, "p:1:25: there are two of the name a");
    refused("double f(struct {void a;} s)", WG_SYNTAX, "p:1:18: nothing is of type void");
    refused("double f(struct {doble a;} s)", WG_SYNTAX,
            "p:1:18: there is no type 'doble': known are C's own numbers, size_t and the like, int32_t and the like, and structs whose fields are written "
            "out");
    refused("double f(struct {int a[n];} s)", WG_SYNTAX, "p:1:24: expected a whole number, not 'n'");
    refused("double f(int x) $", WG_SYNTAX, "p:1:17: '$' has no meaning here");
}

Test(prototype, what_is_not_supported_is_called_by_its_name) {
    refused("int printf(const char *format, ...)", WG_UNSUPPORTED, "p:1:32: functions of a varying number of arguments ('...') are not supported");
    refused("long double f(double)", WG_UNSUPPORTED, "p:1:1: long double is not supported: ops are f32 and f64");
    refused("double f(union u x)", WG_UNSUPPORTED, "p:1:10: 'union' is not supported");
    refused("double f(enum u x)", WG_UNSUPPORTED, "p:1:10: 'enum' is not supported");
    refused("double f(volatile int x)", WG_UNSUPPORTED, "p:1:10: 'volatile' is not supported");
    refused("_Complex f(double x)", WG_UNSUPPORTED, "p:1:1: '_Complex' is not supported");
    refused("double f(double g(double))", WG_UNSUPPORTED, "p:1:18: a parameter that is a function is not supported");
    refused("double f(double (*g)(double))", WG_UNSUPPORTED, "p:1:17: a parameter that is a function is not supported");
    refused("double f(struct point p)", WG_UNSUPPORTED, "p:1:10: a struct is written with its fields: struct {double re, im;}");
    refused("double f(struct {} p)", WG_UNSUPPORTED, "p:1:10: a struct without fields is not supported");
    refused("double f(struct {int a: 3;} p)", WG_UNSUPPORTED, "p:1:23: bit fields are not supported");
    refused("double f(struct {int (*a)(int);} p)", WG_UNSUPPORTED, "p:1:22: a function in a struct is not supported");
    refused("double f(int n, double *x[n])", WG_UNSUPPORTED, "p:1:26: an array of pointers is not supported");
}

/* `piece` so often, between two texts. */
static void many(const char *before, const char *piece, int times, const char *after, wg_status status, const char *line) {
    size_t size = strlen(before) + (size_t)times * strlen(piece) + strlen(after) + 1;
    char *text = malloc(size), *at = text + sprintf(text, "%s", before);
    for (int i = 0; i < times; i++)
        at += sprintf(at, "%s", piece);
    strcpy(at, after);
    if (status == WG_OK)
        parsed(text), done();
    else
        refused(text, status, line);
    free(text);
}

Test(prototype, every_length_of_a_text_has_a_limit) {
    many("void f(int", ", int", 63, ")", WG_OK, NULL);
    many("void f(int", ", int", 64, ")", WG_RANGE, "p:1:328: a function has at most 64 parameters");
    many("void f(int n, int x", "[n]", 8, ")", WG_OK, NULL);
    many("void f(int n, int x", "[n]", 9, ")", WG_RANGE, "p:1:20: an array has at most 8 lengths");
    many("void f(double ", "*", 8, "x)", WG_OK, NULL);
    many("void f(double ", "*", 9, "x)", WG_RANGE, "p:1:23: a type has at most 8 stars");
    many("void f(", "struct {", 9, "int a;} x)", WG_RANGE, "p:1:72: structs stand in each other deeper than 8");
    refused("void f(struct {int a[257];} x)", WG_RANGE, "p:1:22: a struct has 1 to 256 numbers");
    refused("void f(struct {int a[0];} x)", WG_RANGE, "p:1:22: a struct has 1 to 256 numbers");
    refused("void f(struct {int a[16][17];} x)", WG_RANGE, "p:1:26: a struct has 1 to 256 numbers");
    refused("void f(struct {int a[200]; int b[57];} x)", WG_RANGE, "p:1:28: a struct has 1 to 256 numbers");
    refused("void f(struct {struct {int a[16];} b[17];} x)", WG_RANGE, "p:1:16: a struct has 1 to 256 numbers");
    many("void f(int n", " ", WG_PROTOTYPE_SIZE, ")", WG_RANGE, "p: a prototype has at most 16384 bytes");
    char fields[1000] = "void f(struct {int a0", *at = fields + strlen(fields);
    for (int i = 1; i <= 64; i++)
        at += sprintf(at, ", a%d", i);
    strcpy(at, ";} x)");
    refused(fields, WG_RANGE, "p:1:330: a struct has at most 64 fields");
}

/* A value is set and read back, or refused. */
static void holds(const char *name, double value, bool fits) {
    char text[100];
    _Alignas(16) unsigned char room[16];
    memset(room, 0xAA, sizeof room);
    snprintf(text, sizeof text, "void f(%s x)", name);
    const wg_ctype *type = parsed(text)->parameter[0].type;
    cr_expect_eq(wg__ctype_set(type, room, value), fits, "%s %g", name, value);
    if (fits)
        cr_expect(wg__ctype_get(type, room) == value, "%s %g: %g", name, value, wg__ctype_get(type, room));
    cr_expect_eq(room[type->size], 0xAA, "%s: written beyond", name);
    done();
}

Test(prototype, numbers_are_set_only_where_a_type_holds_them) {
    const struct {
        const char *name;
        double least, most;
    } whole[] = {{"int8_t", -128, 127},     {"uint8_t", 0, 255},        {"int16_t", -32768, 32767}, {"uint16_t", 0, 65535},
                 {"int32_t", INT_MIN, INT_MAX}, {"uint32_t", 0, UINT_MAX}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        holds(whole[i].name, whole[i].least, true), holds(whole[i].name, whole[i].most, true);
        holds(whole[i].name, whole[i].least - 1, false), holds(whole[i].name, whole[i].most + 1, false);
        holds(whole[i].name, 0.5, false), holds(whole[i].name, (double)NAN, false), holds(whole[i].name, (double)INFINITY, false);
    }
    holds("int64_t", -0x1p63, true), holds("int64_t", 0x1p63, false), holds("int64_t", 0x1p62, true);
    holds("uint64_t", 0x1p63, true), holds("uint64_t", 0x1p64, false), holds("uint64_t", -1, false);
    holds("bool", 1, true), holds("bool", 2, false), holds("bool", -1, false), holds("bool", 0.5, false);
    holds("float", 0.5, true), holds("double", DBL_MAX, true), holds("double", -0.1, true);
    holds("void *", 0, false);
}

Test(prototype, running_out_of_memory_is_survived_wherever_it_happens) {
    const char *text = "struct {int a[2]; struct {double b;} c;} f(const double x[n], int n = 3, struct {float *p: point; char c;} *s, void *v = NULL): value";
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_arena own = {.memory = memory};
        const wg_prototype *p = NULL;
        wg_error error = {0};
        wg_status status = wg__prototype_parse(&(wg_source){"p", text, strlen(text)}, &own, &p, &error);
        reached = failing_failed(&f);
        cr_assert_eq(status, reached ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, error.text);
        cr_assert_eq(p == NULL, reached);
        wg__arena_free(&own);
        cr_assert_eq(f.live, 0);
        wg_memory_free(memory);
        cr_assert_lt(k, 1000);
    }
}
