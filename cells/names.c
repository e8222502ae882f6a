/* names.c: says of every name in every equation what it is, finds the parameters, and checks that
 * nothing is used before its line or defined in vain. Touches only the tree and the names. */
#include "reader.h"

#include <string.h>

/* ---- near misses
 * --------------------------------------------------------------------------------------- */

/* True if one letter put in, taken out or changed makes a into b. */
static bool one_edit(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return (*a && *b && strcmp(a + 1, b + 1) == 0) || (*a && strcmp(a + 1, b) == 0) ||
           (*b && strcmp(a, b + 1) == 0);
}

/* Names of one or two letters are one edit from each other by nature (`b` and `x`, `U` and `Uh`).
 */
static bool looks_like(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    return n >= 2 && m >= 2 && n + m > 4 && one_edit(a, b);
}

static void warn_near_misses(wg_reader *reader) {
    const wg_lang *lang = reader->lang;
    for (int i = 0; i < lang->symbols; i++) {
        const wg_symbol *free = &lang->symbol[i];
        if (free->kind != WG_SYMBOL_PARAM || free->declared || free->fixed)
            continue;
        for (int k = 0; k < lang->symbols; k++) {
            const wg_symbol *other = &lang->symbol[k];
            if (other->kind != WG_SYMBOL_PARAM && looks_like(free->name, other->name))
                wg__reader_warn(reader, free->line, free->column,
                                "'%s' becomes a parameter; is '%s' (%s) meant?", free->name,
                                other->name, wg__symbol_what(other->kind));
        }
    }
}

/* ---- names in equations
 * -------------------------------------------------------------------------------- */

static void resolve(wg_reader *reader, wg_ast *ast, int equation);

static void not_yet(wg_reader *reader, const wg_ast *ast, const char *what) {
    wg__reader_fail(reader, WG_UNSUPPORTED, ast->line, ast->column, "%s not supported yet", what);
}

/* A free name is a parameter. */
static void add_free(wg_reader *reader, wg_ast *ast) {
    if (strcmp(ast->name, "step") == 0)
        not_yet(reader, ast, "the number of the step is");
    else if (strcmp(ast->name, "y") == 0)
        wg__reader_fail(reader, WG_SYNTAX, ast->line, ast->column,
                        "'y' names the output in files and cannot be a parameter");
    else
        ast->symbol = wg__reader_add(reader, WG_SYMBOL_PARAM, ast->name, ast->line, ast->column);
    if (ast->symbol >= 0)
        reader->lang->symbol[ast->symbol].used = true;
}

/* Fails if a value, or a state's next value, is used in or before the line that defines it. */
static void check_order(wg_reader *reader, const wg_ast *ast, const wg_symbol *symbol,
                        int equation) {
    const char *prime = symbol->kind == WG_SYMBOL_STATE ? "'" : "";
    if (symbol->equation < 0)
        wg__reader_fail(reader, WG_NOT_FOUND, ast->line, ast->column, "%s%s is never defined",
                        symbol->name, prime);
    else if (symbol->equation >= equation)
        wg__reader_fail(
            reader, WG_SYNTAX, ast->line, ast->column,
            "%s%s is used before its line (line %d): it can be used from the next line on",
            symbol->name, prime, reader->lang->equation[symbol->equation].line);
}

static void resolve_name(wg_reader *reader, wg_ast *ast, int equation) {
    int at = wg__lang_find(reader->lang, ast->name);
    if (at < 0) {
        add_free(reader, ast);
        return;
    }
    wg_symbol *symbol = &reader->lang->symbol[at];
    if (symbol->kind == WG_SYMBOL_VALUE)
        check_order(reader, ast, symbol, equation);
    symbol->used = true;
    ast->symbol = at;
}

/* h' */
static void resolve_next(wg_reader *reader, wg_ast *ast, int equation) {
    wg_ast *name = ast->arg[0];
    if (name->kind == WG_AST_INDEX) {
        not_yet(reader, name, "indexed names are");
        return;
    }
    int at = name->kind == WG_AST_NAME ? wg__lang_find(reader->lang, name->name) : -1;
    if (at < 0 || reader->lang->symbol[at].kind != WG_SYMBOL_STATE) {
        wg__reader_fail(reader, WG_SYNTAX, ast->line, ast->column,
                        "only a state has a next value (a transpose is written .T)");
        return;
    }
    check_order(reader, ast, &reader->lang->symbol[at], equation);
    name->symbol = ast->symbol = at;
}

/* An argument that is a number or a length: names in it are sizes and consts. */
static void resolve_number(wg_reader *reader, wg_ast *ast, bool length) {
    wg_lang *lang = reader->lang;
    wg_status status = length ? wg__lang_length(lang, &lang->source, ast, reader->error)
                                    ? WG_OK
                                    : reader->error->status
                              : wg__lang_is_number(lang, &lang->source, ast, reader->error);
    if (status != WG_OK)
        wg__reader_failed(reader, status);
}

/* What argument i of a function is: 'v'alue, 'n'umber, 'l'ength. */
static char argument_kind(const wg_cell_function *function, int i) {
    switch (function->kind) {
    case WG_FUNCTION_SLICE: return i ? 'l' : 'v';
    case WG_FUNCTION_DROPOUT: return i ? 'n' : 'v';
    case WG_FUNCTION_BERNOULLI: return i ? 'l' : 'n';
    case WG_FUNCTION_INDEX: return 'l';
    default: return i < function->values ? 'v' : 'n';
    }
}

static bool check_call(wg_reader *reader, const wg_ast *ast, const wg_cell_function *function) {
    if (ast->symbol < 0) {
        int param = wg__lang_find(reader->lang, ast->name);
        wg__reader_fail(reader, WG_NOT_FOUND, ast->line, ast->column, "there is no function '%s'%s",
                        ast->name, param >= 0 ? " (a product is written with * or @)" : "");
    } else if (function->kind == WG_FUNCTION_LATER) {
        wg__reader_fail(reader, WG_UNSUPPORTED, ast->line, ast->column, "'%s' is not supported yet",
                        ast->name);
    } else if (ast->n && ast->arg[0]->kind == WG_AST_BINDING) {
        not_yet(reader, ast->arg[0], "a running index is");
    } else if (ast->n < function->least || (function->most >= 0 && ast->n > function->most)) {
        bool exact = function->least == function->most;
        wg__reader_fail(reader, WG_SYNTAX, ast->line, ast->column,
                        "'%s' takes %s%d argument%s, not %d", ast->name, exact ? "" : "at least ",
                        function->least, function->least == 1 ? "" : "s", ast->n);
    }
    return reader->parser.status == WG_OK;
}

static void resolve_call(wg_reader *reader, wg_ast *ast, int equation) {
    wg_cell_function function = {0};
    ast->symbol = wg__function_find(reader->lang->foreign, ast->name);
    if (ast->symbol >= 0)
        function = wg__function_at(reader->lang->foreign, ast->symbol);
    if (!check_call(reader, ast, &function))
        return;
    for (int i = 0; i < ast->n && reader->parser.status == WG_OK; i++) {
        char kind = argument_kind(&function, i);
        if (kind == 'v')
            resolve(reader, ast->arg[i], equation);
        else
            resolve_number(reader, ast->arg[i], kind == 'l');
    }
}

static void resolve(wg_reader *reader, wg_ast *ast, int equation) {
    switch (ast->kind) {
    case WG_AST_NAME: resolve_name(reader, ast, equation); return;
    case WG_AST_NEXT: resolve_next(reader, ast, equation); return;
    case WG_AST_CALL: resolve_call(reader, ast, equation); return;
    case WG_AST_TRANSPOSE: not_yet(reader, ast, "a transpose is"); return;
    case WG_AST_INDEX: not_yet(reader, ast, "an index is"); return;
    case WG_AST_RANGE:
    case WG_AST_BINDING: not_yet(reader, ast, "a running index is"); return;
    default:
        if (wg__ast_op(ast->kind)[0])
            ast->symbol = wg__function_find(NULL, wg__ast_op(ast->kind));
        for (int i = 0; i < ast->n && reader->parser.status == WG_OK; i++)
            resolve(reader, ast->arg[i], equation);
    }
}

void wg__resolve_names(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    for (int i = 0; i < lang->equations && reader->parser.status == WG_OK; i++)
        resolve(reader, lang->equation[i].value, i);
    for (int i = 0; i < lang->symbols && reader->parser.status == WG_OK; i++) {
        const wg_symbol *symbol = &lang->symbol[i];
        if (symbol->kind == WG_SYMBOL_STATE && symbol->equation < 0 && !reader->declares)
            wg__reader_fail(reader, WG_NOT_FOUND, symbol->line, symbol->column,
                            "state '%s' has no next value: %s' = … is missing", symbol->name,
                            symbol->name);
    }
    if (reader->parser.status == WG_OK)
        warn_near_misses(reader);
}

void wg__check_used(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    for (int i = 0; i < lang->symbols && reader->parser.status == WG_OK && !reader->declares; i++) {
        const wg_symbol *symbol = &lang->symbol[i];
        if (symbol->used)
            continue;
        if (symbol->kind == WG_SYMBOL_STATE)
            wg__reader_warn(reader, symbol->line, symbol->column, "state '%s' is never used",
                            symbol->name);
        else
            wg__reader_fail(reader, WG_SYNTAX, symbol->line, symbol->column,
                            "'%s' is %s that nothing uses", symbol->name,
                            wg__symbol_what(symbol->kind));
    }
}
