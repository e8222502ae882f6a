/* sizes.c: what stands for a number outside equations: lengths as formulas, consts, and both when
 * input and hidden are known. Touches only the checked tree. */
#include "lang.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_STEPS = 100000 }; /* of arithmetic: consts of consts of consts can double each time */

static const char *const what[] = {"an input", "a size",      "a const",
                                   "a state",  "a parameter", "a value"};

/* A name of a size or const, marked as used; -1, with an error, if it is none. */
static int find_number(const wg_lang *lang, const wg_source *source, const wg_ast *ast,
                       wg_error *error) {
    int at = wg__lang_find(lang, ast->name);
    if (at < 0)
        wg__source_error(source, error, WG_SYNTAX, ast->line, ast->column,
                         "'%s' is no size or const declared so far", ast->name);
    else if (lang->symbol[at].kind != WG_SYMBOL_SIZE && lang->symbol[at].kind != WG_SYMBOL_CONST)
        wg__source_error(source, error, WG_SYNTAX, ast->line, ast->column,
                         "'%s' is %s: only sizes, consts and numbers can stand here", ast->name,
                         what[lang->symbol[at].kind]);
    else
        return at;
    return -1;
}

/* ---- lengths
 * ---------------------------------------------------------------------------------------- */

static const wg_formula *refuse(const wg_source *source, const wg_ast *ast, wg_error *error) {
    wg__source_error(source, error, WG_SYNTAX, ast->line, ast->column,
                     "a length is made of sizes and whole numbers with + - * /");
    return NULL;
}

static const wg_formula *whole(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                               double value, wg_error *error) {
    if (value != floor(value) || fabs(value) > 1e15)
        return refuse(source, ast, error);
    return wg__formula_number(&lang->arena, (int64_t)value);
}

static const wg_formula *named_length(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                                      wg_error *error) {
    int at = find_number(lang, source, ast, error);
    if (at < 0)
        return NULL;
    wg_symbol *symbol = &lang->symbol[at];
    symbol->used = true;
    if (symbol->kind == WG_SYMBOL_SIZE)
        return symbol->size;
    if (symbol->value->kind == WG_AST_NUMBER)
        return whole(lang, source, ast, symbol->value->value, error);
    return refuse(source, ast, error);
}

typedef const wg_formula *operation(wg_arena *arena, const wg_formula *a, const wg_formula *b);

static operation *operation_of(wg_ast_kind kind) {
    switch (kind) {
    case WG_AST_ADD: return wg__formula_add;
    case WG_AST_NEGATE:
    case WG_AST_SUB: return wg__formula_sub;
    case WG_AST_MUL: return wg__formula_mul;
    case WG_AST_DIV: return wg__formula_div;
    default: return NULL;
    }
}

static const wg_formula *length(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                                wg_error *error) {
    operation *op = operation_of(ast->kind);
    if (ast->kind == WG_AST_NUMBER)
        return whole(lang, source, ast, ast->value, error);
    if (ast->kind == WG_AST_NAME)
        return named_length(lang, source, ast, error);
    if (!op)
        return refuse(source, ast, error);
    bool one = ast->kind == WG_AST_NEGATE;
    const wg_formula *a =
        one ? wg__formula_number(&lang->arena, 0) : length(lang, source, ast->arg[0], error);
    const wg_formula *b = length(lang, source, ast->arg[one ? 0 : 1], error);
    const wg_formula *result = op(&lang->arena, a, b);
    if (result && wg__formula_bad(result)) {
        wg__source_error(source, error, WG_RANGE, ast->line, ast->column,
                         "this length divides by zero or is too large a formula");
        return NULL;
    }
    return result;
}

const wg_formula *wg__lang_length(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                                  wg_error *error) {
    wg_error own = {0};
    error = error ? error : &own;
    const wg_formula *result = length(lang, source, ast, error);
    if (!result && error->status == WG_OK) {
        wg_status status = wg__refusal(lang->arena.memory);
        wg_error_set(error, status, "%s: %s", source->name, wg_status_sentence(status));
    }
    return error->status == WG_OK ? result : NULL;
}

/* ---- numbers
 * ---------------------------------------------------------------------------------------- */

static double square(double x) { return x * x; }
static double inverse(double x) { return 1 / x; }
static double reciprocal_root(double x) { return 1 / sqrt(x); }

static const struct {
    const char *name;
    double (*one)(double);
    double (*two)(double, double);
} functions[] = {
    {"sqrt", sqrt, NULL},
    {"exp", exp, NULL},
    {"log", log, NULL},
    {"abs", fabs, NULL},
    {"tanh", tanh, NULL},
    {"sin", sin, NULL},
    {"cos", cos, NULL},
    {"square", square, NULL},
    {"inv", inverse, NULL},
    {"floor", floor, NULL},
    {"rsqrt", reciprocal_root, NULL},
    {"expm1", expm1, NULL},
    {"log1p", log1p, NULL},
    {"min", NULL, fmin},
    {"max", NULL, fmax},
    {"pow", NULL, pow},
};

/* The row of a call in the table above, or -1. */
static int find_function(const wg_ast *ast) {
    for (int i = 0; i < WG_LEN(functions); i++)
        if (strcmp(functions[i].name, ast->name) == 0 && ast->n == (functions[i].one ? 1 : 2))
            return i;
    return -1;
}

static bool is_arithmetic(const wg_ast *ast) {
    return operation_of(ast->kind) || ast->kind == WG_AST_POW ||
           (ast->kind == WG_AST_CALL && find_function(ast) >= 0);
}

wg_status wg__lang_is_number(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                             wg_error *error) {
    if (ast->kind == WG_AST_NUMBER)
        return WG_OK;
    if (ast->kind == WG_AST_NAME) {
        int at = find_number(lang, source, ast, error);
        if (at >= 0)
            lang->symbol[at].used = true;
        return at >= 0 ? WG_OK : WG_SYNTAX;
    }
    if (!is_arithmetic(ast))
        return wg__source_error(source, error, WG_SYNTAX, ast->line, ast->column,
                                "only arithmetic on numbers, sizes and consts can stand here");
    for (int i = 0; i < ast->n; i++) {
        wg_status status = wg__lang_is_number(lang, source, ast->arg[i], error);
        if (status != WG_OK)
            return status;
    }
    return WG_OK;
}

/* What an evaluation needs. */
typedef struct evaluation {
    const wg_lang *lang;
    int64_t input, hidden;
    int steps;
    wg_error *error;
} evaluation;

static wg_status evaluate(evaluation *e, const wg_source *source, const wg_ast *ast, double *value);

static wg_status evaluate_size(evaluation *e, const wg_symbol *symbol, int64_t *value) {
    char text[128];
    if (wg__formula_value(symbol->size, e->input, e->hidden, value) == WG_OK)
        return WG_OK;
    return wg__source_error(&e->lang->source, e->error, WG_RANGE, symbol->line, symbol->column,
                            "size '%s' = %s is not a whole number for input %lld and hidden %lld",
                            symbol->name, wg__formula_text(symbol->size, text, sizeof text),
                            (long long)e->input, (long long)e->hidden);
}

static wg_status evaluate_name(evaluation *e, const wg_ast *ast, double *value) {
    const wg_symbol *symbol = &e->lang->symbol[wg__lang_find(e->lang, ast->name)];
    if (symbol->kind == WG_SYMBOL_CONST)
        return evaluate(e, &symbol->value_source, symbol->value, value);
    int64_t size = 0;
    wg_status status = evaluate_size(e, symbol, &size);
    *value = (double)size;
    return status;
}

static double apply(const wg_ast *ast, const double *x) {
    switch (ast->kind) {
    case WG_AST_ADD: return x[0] + x[1];
    case WG_AST_SUB: return x[0] - x[1];
    case WG_AST_MUL: return x[0] * x[1];
    case WG_AST_DIV: return x[0] / x[1];
    case WG_AST_POW: return pow(x[0], x[1]);
    case WG_AST_NEGATE: return -x[0];
    default: break;
    }
    int at = find_function(ast);
    return functions[at].one ? functions[at].one(x[0]) : functions[at].two(x[0], x[1]);
}

static wg_status evaluate(evaluation *e, const wg_source *source, const wg_ast *ast,
                          double *value) {
    *value = ast->value;
    if (e->steps++ > MOST_STEPS)
        return wg__source_error(source, e->error, WG_RANGE, ast->line, ast->column,
                                "the value of this takes too much arithmetic");
    if (ast->kind == WG_AST_NUMBER)
        return WG_OK;
    if (ast->kind == WG_AST_NAME)
        return evaluate_name(e, ast, value);
    double x[2] = {0};
    for (int i = 0; i < ast->n; i++) {
        wg_status status = evaluate(e, source, ast->arg[i], &x[i]);
        if (status != WG_OK)
            return status;
    }
    *value = apply(ast, x);
    if (isfinite(*value))
        return WG_OK;
    return wg__source_error(source, e->error, WG_RANGE, ast->line, ast->column,
                            "this is not a finite number");
}

wg_status wg__lang_number(const wg_lang *lang, const wg_source *source, const wg_ast *ast,
                          int64_t input, int64_t hidden, double *value, wg_error *error) {
    evaluation e = {lang, input, hidden, 0, error};
    return evaluate(&e, source, ast, value);
}

/* ---- sizes in numbers
 * --------------------------------------------------------------------------------- */

static wg_status check_tie(const wg_lang *lang, int64_t input, int64_t hidden, wg_error *error) {
    if (!lang->tied || input == hidden)
        return WG_OK;
    return wg_error_set(error, WG_SHAPE,
                        "%s: cell %s ties hidden to input, but hidden is %lld and input %lld",
                        lang->source.name, lang->name, (long long)hidden, (long long)input);
}

wg_status wg__lang_shape(const wg_lang *lang, int symbol, int64_t input, int64_t hidden,
                         wg_shape *shape, wg_error *error) {
    const wg_symbol *s = &lang->symbol[symbol];
    int64_t dim[2] = {0};
    char text[128];
    wg_status status = check_tie(lang, input, hidden, error);
    if (status != WG_OK)
        return status;
    for (int i = 0; i < s->extent.rank; i++) {
        const wg_formula *length = s->extent.dim[i];
        bool good = wg__formula_value(length, input, hidden, &dim[i]) == WG_OK;
        if (!good || dim[i] < 1)
            return wg__source_error(
                &lang->source, error, WG_RANGE, s->line, s->column,
                "'%s' has length %s, which is %s for input %lld and hidden %lld", s->name,
                wg__formula_text(length, text, sizeof text),
                good ? "less than 1" : "not a whole number", (long long)input, (long long)hidden);
    }
    status = wg__shape_set(shape, s->extent.rank, dim);
    if (status != WG_OK)
        return wg__source_error(&lang->source, error, status, s->line, s->column,
                                "'%s' is too large for input %lld and hidden %lld", s->name,
                                (long long)input, (long long)hidden);
    return WG_OK;
}

wg_status wg__lang_check_sizes(const wg_lang *lang, int64_t input, int64_t hidden,
                               wg_error *error) {
    evaluation e = {lang, input, hidden, 0, error};
    wg_status status = WG_OK;
    wg_shape shape;
    int64_t size;
    double start;
    for (int i = 0; i < lang->symbols && status == WG_OK; i++) {
        const wg_symbol *symbol = &lang->symbol[i];
        status = symbol->kind == WG_SYMBOL_SIZE
                     ? evaluate_size(&e, symbol, &size)
                     : wg__lang_shape(lang, i, input, hidden, &shape, error);
        if (status == WG_OK && symbol->start_at)
            status = wg__lang_number(lang, &lang->source, symbol->start_at, input, hidden, &start, error);
    }
    return status;
}
