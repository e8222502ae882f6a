/* expr.c: expressions by recursive descent, and their text. Knows nothing of cells; touches only
 * core and the lexer. */
#include "expr.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *op, *spelling;
} kinds[] = {
#define ROW(name, op, spelling) {op, spelling},
    WG_AST_MAP(ROW)
#undef ROW
};

const char *wg__ast_op(wg_ast_kind kind) { return kinds[kind].op; }
const char *wg__ast_spelling(wg_ast_kind kind) { return kinds[kind].spelling; }

/* ---- nodes
 * ------------------------------------------------------------------------------------------ */

/* A node over n arguments (copied), or NULL: refused, too deep, or an argument is NULL because it
 * failed. */
static wg_ast *node(wg_parser *parser, wg_ast_kind kind, const wg_token *at, int n,
                    wg_ast *const *arg) {
    int depth = 0;
    for (int i = 0; i < n; i++) {
        if (!arg[i])
            return NULL;
        if (arg[i]->depth > depth)
            depth = arg[i]->depth;
    }
    if (depth >= WG_EXPR_DEPTH)
        return wg__parser_fail(parser, at->line, at->column,
                               "this expression is nested deeper than %d: give parts of it names",
                               WG_EXPR_DEPTH);
    wg_ast *ast = wg__arena_take(parser->arena, sizeof *ast);
    wg_ast **copy = n ? wg__arena_take(parser->arena, (size_t)n * sizeof *copy) : NULL;
    if (!ast || (n && !copy))
        return wg__parser_refused(parser);
    *ast = (wg_ast){.kind = kind,
                    .line = at->line,
                    .column = at->column,
                    .depth = depth + 1,
                    .n = n,
                    .arg = copy,
                    .symbol = -1,
                    .shape = -1};
    if (n)
        memcpy(copy, arg, (size_t)n * sizeof *copy);
    return ast;
}

static wg_ast *unary(wg_parser *parser, wg_ast_kind kind, const wg_token *at, wg_ast *x) {
    return node(parser, kind, at, 1, &x);
}

static wg_ast *binary(wg_parser *parser, wg_ast_kind kind, const wg_token *at, wg_ast *x,
                      wg_ast *y) {
    return node(parser, kind, at, 2, (wg_ast *[]){x, y});
}

/* Counts one level of recursion; false, with an error, when there are too many. */
static bool enter(wg_parser *parser) {
    if (++parser->nesting <= 2 * WG_EXPR_DEPTH) /* an expression and its sign count one each */
        return true;
    wg__parser_fail(parser, parser->now.line, parser->now.column,
                    "this expression is nested deeper than %d: give parts of it names",
                    WG_EXPR_DEPTH);
    return false;
}

/* ---- the grammar, loosest last
 * --------------------------------------------------------------------- */

typedef wg_ast *rule(wg_parser *parser);

static rule parse_power, parse_unary;

/* expression, or a..b where a range may stand */
static wg_ast *parse_range(wg_parser *parser) {
    wg_ast *from = wg__parse_expression(parser);
    wg_token at = parser->now;
    if (!from || !wg__parser_accept(parser, WG_TOKEN_RANGE))
        return from;
    return binary(parser, WG_AST_RANGE, &at, from, wg__parse_expression(parser));
}

/* expression, or NAME = a..b */
static wg_ast *parse_argument(wg_parser *parser) {
    if (parser->now.kind != WG_TOKEN_NAME || parser->ahead.kind != '=')
        return wg__parse_expression(parser);
    wg_token name = parser->now;
    wg__parser_next(parser);
    wg__parser_next(parser);
    wg_ast *from = wg__parse_expression(parser);
    if (!from || !wg__parser_expect(parser, WG_TOKEN_RANGE, "'..'"))
        return NULL;
    wg_ast *ast = binary(parser, WG_AST_BINDING, &name, from, wg__parse_expression(parser));
    if (ast && !(ast->name = wg__parser_string(parser, &name)))
        return NULL;
    return ast;
}

/* The rest of a bracketed list: items up to the closing bracket, as a node whose first arguments
 * are given. */
static wg_ast *parse_list(wg_parser *parser, wg_ast_kind kind, const wg_token *at, wg_ast *first,
                          rule *item, int close) {
    int64_t n = 0, capacity = 0;
    void *list = NULL;
    wg_memory *memory = parser->arena->memory;
    wg_ast *ast = NULL, *next = first;
    if (!first)
        next = parser->now.kind == close ? NULL : item(parser);
    while (next) {
        if (!wg__room(memory, &list, n, &capacity, sizeof next)) {
            wg__parser_refused(parser);
            break;
        }
        ((wg_ast **)list)[n++] = next;
        bool more = (first && n == 1) || wg__parser_accept(parser, ',');
        next = more ? item(parser) : NULL;
    }
    if (parser->status == WG_OK &&
        wg__parser_expect(parser, close, close == ')' ? "',' or ')'" : "',' or ']'"))
        ast = node(parser, kind, at, (int)n, list);
    wg__give(memory, list);
    return ast;
}

static wg_ast *parse_call(wg_parser *parser) {
    wg_token name = parser->now;
    wg__parser_next(parser);
    wg__parser_next(parser);
    wg_ast *ast = parse_list(parser, WG_AST_CALL, &name, NULL, parse_argument, ')');
    if (ast && !(ast->name = wg__parser_string(parser, &name)))
        return NULL;
    return ast;
}

static wg_ast *parse_primary(wg_parser *parser) {
    wg_token at = parser->now;
    wg_ast *ast = NULL;
    if (at.kind == WG_TOKEN_NAME && parser->ahead.kind == '(')
        return parse_call(parser);
    if (at.kind == WG_TOKEN_NUMBER || at.kind == WG_TOKEN_NAME) {
        wg__parser_next(parser);
        bool named = at.kind == WG_TOKEN_NAME;
        ast = node(parser, named ? WG_AST_NAME : WG_AST_NUMBER, &at, 0, NULL);
        if (ast && named && !(ast->name = wg__parser_string(parser, &at)))
            return NULL;
        if (ast)
            ast->value = at.value;
        return ast;
    }
    if (!wg__parser_accept(parser, '('))
        return wg__parser_unexpected(parser, "a name, a number or '('");
    ast = wg__parse_expression(parser);
    return ast && wg__parser_expect(parser, ')', "an operator or ')'") ? ast : NULL;
}

static wg_ast *parse_postfix(wg_parser *parser) {
    wg_ast *ast = parse_primary(parser);
    while (ast) {
        wg_token at = parser->now;
        if (wg__parser_accept(parser, '['))
            ast = parse_list(parser, WG_AST_INDEX, &at, ast, parse_range, ']');
        else if (wg__parser_accept(parser, '\''))
            ast = unary(parser, WG_AST_NEXT, &at, ast);
        else if (wg__parser_accept(parser, WG_TOKEN_TRANSPOSE))
            ast = unary(parser, WG_AST_TRANSPOSE, &at, ast);
        else
            break;
    }
    return ast;
}

/* -x, or `inner`: what may stand to the right of ** and @. */
static wg_ast *parse_signed(wg_parser *parser, rule *inner) {
    wg_token at = parser->now;
    wg_ast *ast = NULL;
    if (enter(parser))
        ast = wg__parser_accept(parser, '-')
                  ? unary(parser, WG_AST_NEGATE, &at, parse_signed(parser, inner))
                  : inner(parser);
    parser->nesting--;
    return ast;
}

static wg_ast *parse_power(wg_parser *parser) {
    wg_ast *ast = parse_postfix(parser);
    wg_token at = parser->now;
    if (!ast || !wg__parser_accept(parser, WG_TOKEN_POW))
        return ast;
    return binary(parser, WG_AST_POW, &at, ast, parse_signed(parser, parse_power));
}

static wg_ast *parse_product(wg_parser *parser) {
    wg_ast *ast = parse_power(parser);
    wg_token at = parser->now;
    if (!ast || !wg__parser_accept(parser, '@'))
        return ast;
    return binary(parser, WG_AST_MATMUL, &at, ast, parse_signed(parser, parse_product));
}

static wg_ast *parse_unary(wg_parser *parser) { return parse_signed(parser, parse_product); }

static wg_ast *parse_term(wg_parser *parser) {
    wg_ast *ast = parse_unary(parser);
    while (ast && (parser->now.kind == '*' || parser->now.kind == '/')) {
        wg_token at = parser->now;
        wg__parser_next(parser);
        ast =
            binary(parser, at.kind == '*' ? WG_AST_MUL : WG_AST_DIV, &at, ast, parse_unary(parser));
    }
    return ast;
}

wg_ast *wg__parse_expression(wg_parser *parser) {
    wg_ast *ast = enter(parser) ? parse_term(parser) : NULL;
    while (ast && (parser->now.kind == '+' || parser->now.kind == '-')) {
        wg_token at = parser->now;
        wg__parser_next(parser);
        ast =
            binary(parser, at.kind == '+' ? WG_AST_ADD : WG_AST_SUB, &at, ast, parse_term(parser));
    }
    parser->nesting--;
    return parser->status == WG_OK ? ast : NULL;
}

wg_status wg__expr_parse(const wg_source *source, wg_arena *arena, wg_ast **ast, wg_error *error) {
    wg_parser parser;
    wg__parser_begin(&parser, source, arena, error);
    *ast = wg__parse_expression(&parser);
    if (*ast && wg__parser_accept(&parser, WG_TOKEN_LINE) && parser.status == WG_OK)
        wg__parser_expect(&parser, WG_TOKEN_END, "the end");
    else if (*ast)
        wg__parser_unexpected(&parser, "an operator or the end");
    if (parser.status != WG_OK)
        *ast = NULL;
    return parser.status;
}

/* ---- back to text
 * ----------------------------------------------------------------------------------- */

typedef struct writer {
    char *text;
    size_t size, at;
} writer;

static void put(writer *out, const char *format, ...) WG_PRINTF(2, 3);

static void put(writer *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(out->text + out->at, out->size - out->at, format, arguments);
    va_end(arguments);
    size_t left = out->size - out->at - 1;
    out->at += n < 0 ? 0 : (size_t)n < left ? (size_t)n : left;
}

/* How tightly a kind binds. */
static int binding(wg_ast_kind kind) {
    switch (kind) {
    case WG_AST_ADD:
    case WG_AST_SUB: return 1;
    case WG_AST_MUL:
    case WG_AST_DIV: return 2;
    case WG_AST_NEGATE: return 3;
    case WG_AST_MATMUL: return 4;
    case WG_AST_POW: return 5;
    default: return 6;
    }
}

static void print(writer *out, const wg_ast *ast, int least);

static void print_list(writer *out, const wg_ast *ast, int from) {
    for (int i = from; i < ast->n; i++) {
        put(out, i > from ? ", " : "");
        print(out, ast->arg[i], 0);
    }
}

static void print_binary(writer *out, const wg_ast *ast) {
    int own = binding(ast->kind);
    bool to_the_right = ast->kind == WG_AST_POW || ast->kind == WG_AST_MATMUL;
    print(out, ast->arg[0], to_the_right ? own + 1 : own);
    put(out, own == 1 || ast->kind == WG_AST_MATMUL ? " %s " : "%s", wg__ast_spelling(ast->kind));
    print(out, ast->arg[1], to_the_right ? own : own + 1);
}

static void print_node(writer *out, const wg_ast *ast) {
    switch (ast->kind) {
    case WG_AST_NUMBER: put(out, "%.15g", ast->value); break;
    case WG_AST_NAME: put(out, "%s", ast->name); break;
    case WG_AST_NEXT:
    case WG_AST_TRANSPOSE:
        print(out, ast->arg[0], 6);
        put(out, "%s", wg__ast_spelling(ast->kind));
        break;
    case WG_AST_NEGATE:
        put(out, "-");
        print(out, ast->arg[0], 3);
        break;
    case WG_AST_CALL:
        put(out, "%s(", ast->name);
        print_list(out, ast, 0);
        put(out, ")");
        break;
    case WG_AST_INDEX:
        print(out, ast->arg[0], 6);
        put(out, "[");
        print_list(out, ast, 1);
        put(out, "]");
        break;
    case WG_AST_RANGE:
    case WG_AST_BINDING:
        put(out, ast->kind == WG_AST_BINDING ? "%s = " : "%s", ast->name ? ast->name : "");
        print(out, ast->arg[0], 0);
        put(out, "..");
        print(out, ast->arg[1], 0);
        break;
    default: print_binary(out, ast);
    }
}

static void print(writer *out, const wg_ast *ast, int least) {
    bool bracket = binding(ast->kind) < least;
    put(out, bracket ? "(" : "");
    print_node(out, ast);
    put(out, bracket ? ")" : "");
}

char *wg__ast_text(const wg_ast *ast, char *text, size_t size) {
    writer out = {text, size, 0};
    text[0] = 0;
    print(&out, ast, 0);
    return text;
}
