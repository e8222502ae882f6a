/* Fuzzes prototypes and `use` lines: a text is read, or refused with its place; what is read, libffi can call, and has operands or is
 * said to be no op. Nothing is loaded: the functions are given. */
#include "fuzz.h"

#include "foreign.h"

#include <string.h>

enum { LIMIT = 1 << 24 };

long fuzz_accepted;

const fuzz_text fuzz_seeds[] = {
    FUZZ("double gsl_sf_bessel_Jn(int n, double x)"),
    FUZZ("int scan(long n, const double x[n], double y[2*n + 1], unsigned mode = 0, void *context = NULL)"),
    FUZZ("struct {double dat[2];} gsl_complex_exp(struct {double dat[2];} z)"),
    FUZZ("double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value"),
    FUZZ("int f(const struct {size_t size: size; size_t stride; double *data: point;} *x, float *y: out 3): status;"),
    FUZZ("\"libm.so.6\" \"double j0(double)\" as J0 with derivative -J1(x), \"double f(double)\" on -1..2.5 serial nan after \"tzset\""),
    {0}};

const fuzz_text fuzz_words[] = {FUZZ("unsigned "), FUZZ("long "),  FUZZ("const "),  FUZZ("struct {"), FUZZ("double "),  FUZZ("float *"), FUZZ("int32_t "),
                                FUZZ("[n]"),       FUZZ("[2*n+1]"), FUZZ(" = NULL"), FUZZ("(*)"),      FUZZ(": value"), FUZZ(": in 1"), FUZZ("..."),
                                FUZZ("[256]"),     FUZZ("};"),    FUZZ("void"),    FUZZ("\""),       FUZZ("\n"),      FUZZ("**"),     {0}};

static double nothing(void) { return 0; }

static void check_type(const wg_ctype *type) {
    char text[60];
    wg__ctype_text(type, text, sizeof text);
    FUZZ_LAW(strlen(text) < sizeof text);
    FUZZ_LAW(type->ffi && type->count >= 1 && type->count <= WG_PROTOTYPE_SCALARS);
    for (int i = 0; i < type->fields; i++)
        check_type(type->field[i].type);
}

static void check_prototype(const wg_prototype *p) {
    ffi_cif cif;
    FUZZ_LAW(p->parameters <= WG_PROTOTYPE_PARAMETERS);
    for (int i = 0; i < p->parameters; i++)
        check_type(p->parameter[i].type);
    FUZZ_LAW(ffi_prep_cif(&cif, FFI_DEFAULT_ABI, (unsigned)p->parameters, p->result.type->ffi, p->ffi) == FFI_OK);
}

/* As an op: bound, or refused with a reason. */
static void check_op(wg_memory *memory, const char *text) {
    wg_foreign *foreign = wg_foreign_new(memory, NULL);
    wg_error error = {0};
    if (!foreign)
        return;
    wg_binding binding = {.prototype = text, .function = (void (*)(void))nothing, .name = "fuzzed"};
    const wg_op *op = wg_bind(foreign, &binding, &error);
    FUZZ_LAW((op != NULL) == (error.status == WG_OK));
    FUZZ_LAW(op || error.text[0]);
    FUZZ_LAW(!op || (op->arity >= 1 && op->arity <= WG_PORTS));
    char words[256];
    if (op)
        wg__bound_words(wg__bound_of(op), 1, words, sizeof words);
    wg_foreign_free(foreign);
}

static void check_line(wg_memory *memory, const wg_source *source) {
    wg_arena arena = {.memory = memory};
    wg_error error = {0};
    wg_parser parser;
    wg_use_line use;
    wg__parser_begin(&parser, source, &arena, &error);
    wg_status status = parser.status == WG_OK ? wg__use_parse(&parser, &use) : parser.status;
    FUZZ_LAW(status == error.status);
    FUZZ_LAW(status != WG_OK || (use.binding.library && use.binding.prototype));
    fuzz_accepted += status == WG_OK;
    wg__arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    wg_memory *memory = wg_memory_new(NULL, LIMIT);
    if (!memory)
        return 0;
    const wg_source source = {"fuzz", (const char *)data, size};
    wg_arena arena = {.memory = memory};
    wg_error error = {0};
    const wg_prototype *prototype = NULL;
    wg_status status = wg__prototype_parse(&source, &arena, &prototype, &error);
    FUZZ_LAW((prototype != NULL) == (status == WG_OK) && status == error.status);
    FUZZ_LAW(prototype || strncmp(error.text, "fuzz:", 5) == 0);
    if (prototype)
        fuzz_accepted++, check_prototype(prototype);
    wg__arena_free(&arena);
    char *text = wg__strndup(memory, (const char *)data, size);
    if (text)
        check_op(memory, text);
    wg__give(memory, text);
    check_line(memory, &source);
    FUZZ_LAW(wg_memory_used(memory) == 0);
    wg_memory_free(memory);
    return 0;
}
