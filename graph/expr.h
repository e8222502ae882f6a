/* expr.h: expressions as text: the lexer, the parser by recursive descent, and the syntax tree, in
 * an arena. Knows nothing of cells: they and foreign derivatives share it. Includes only core and
 * source.h. */
#ifndef WG_EXPR_H
#define WG_EXPR_H

#include "source.h"

/* The deepest tree and the deepest nesting; the longest name. */
enum { WG_EXPR_DEPTH = 250, WG_EXPR_NAME = 100 };

/* Every kind of node: the op that computes it ("" if none does), how it is written. */
#define WG_AST_MAP(X)                                                                              \
    X(NUMBER, "", "number") /* value */                                                            \
    X(NAME, "", "name")     /* name */                                                             \
    X(NEXT, "", "'")        /* arg[0]: what is primed */                                           \
    X(TRANSPOSE, "", ".T")  /* arg[0] */                                                           \
    X(NEGATE, "neg", "-")   /* arg[0] */                                                           \
    X(ADD, "add", "+")      /* arg[0] + arg[1], and so on */                                       \
    X(SUB, "sub", "-")                                                                             \
    X(MUL, "mul", "*")                                                                             \
    X(DIV, "div", "/")                                                                             \
    X(POW, "pow", "**")                                                                            \
    X(MATMUL, "", "@")                                                                             \
    X(CALL, "", "call") /* name(arg[0], …, arg[n-1]) */                                          \
    X(INDEX, "", "[ ]") /* arg[0][arg[1], …, arg[n-1]] */                                        \
    X(RANGE, "", "..")  /* arg[0]..arg[1], in an index */                                          \
    X(BINDING, "", "=") /* name = arg[0]..arg[1], an argument of a call */

typedef enum wg_ast_kind {
#define WG_AST_ENUM(name, op, spelling) WG_AST_##name,
    WG_AST_MAP(WG_AST_ENUM)
#undef WG_AST_ENUM
} wg_ast_kind;

/* A node. Its place is that of the operator for an operator (the bracket for an index), else of its
 * first character. */
typedef struct wg_ast wg_ast;
struct wg_ast {
    wg_ast_kind kind;
    int line, column; /* from 1 */
    int depth;        /* of the tree from here down: at most WG_EXPR_DEPTH */
    int n;
    wg_ast **arg;
    const char *name;  /* NAME, CALL, BINDING: zero-terminated */
    double value;      /* NUMBER: finite, not negative */
    int symbol, shape; /* for the tree's owner: -1 until it sets them */
};

const char *wg__ast_op(wg_ast_kind kind);       /* "add" for WG_AST_ADD; "" if no op */
const char *wg__ast_spelling(wg_ast_kind kind); /* "+" */
/* Writes the expression, fully determined but with few brackets, cut to `size` bytes; returns text.
 */
char *wg__ast_text(const wg_ast *ast, char *text, size_t size);

/* ---- the lexer, for languages around expressions
 * ------------------------------------------------- */

/* One-character tokens are their characters: + - * / @ = , ( ) [ ] ' and those of wg_parser.more */
enum {
    WG_TOKEN_END = 256, /* of the text, again and again; also after an error */
    WG_TOKEN_LINE,      /* the end of a line that does not go on; empty lines give none */
    WG_TOKEN_NUMBER,
    WG_TOKEN_NAME,
    WG_TOKEN_TEXT,     /* "…": start and size are of the inside */
    WG_TOKEN_POW,      /* ** */
    WG_TOKEN_RANGE,    /* .. */
    WG_TOKEN_TRANSPOSE /* .T */
};

typedef struct wg_token {
    int kind, line, column;
    const char *start; /* in the source */
    size_t size;
    double value; /* of a number */
} wg_token;

/* A reader of one text. A line goes on while a bracket is open, or if it ends in an operator, = or
 * a comma. # starts a comment. `now` and `ahead` are the two tokens of look-ahead. The first error
 * stops it: status is set, `now` and `ahead` are WG_TOKEN_END. */
typedef struct wg_parser {
    const wg_source *source;
    wg_arena *arena; /* of nodes and names */
    wg_error *error;
    wg_status status;
    wg_token now, ahead;
    const char *more; /* further one-character tokens of a language around; NULL: none */
    bool lineless;    /* line ends are blanks */
    /* private */
    const char *at;
    int line, column, nesting, last, last_line, last_column,
        brackets; /* last_: where the last token ends */
    wg_token bracket[WG_EXPR_DEPTH];
} wg_parser;

void wg__parser_begin(wg_parser *parser, const wg_source *source, wg_arena *arena, wg_error *error);
/* The same for a language without lines, in which the characters of `more` are tokens too. */
void wg__parser_begin_lineless(wg_parser *parser, const wg_source *source, wg_arena *arena, const char *more, wg_error *error);
void wg__parser_next(wg_parser *parser);
/* If `now` is of this kind, goes past it. */
bool wg__parser_accept(wg_parser *parser, int kind);
/* The same, but anything else is an error: "expected WHAT, not …". */
bool wg__parser_expect(wg_parser *parser, int kind, const char *what);
bool wg__parser_is(const wg_parser *parser, const char *word); /* `now` is this name */
/* Fails at a place; returns NULL. */
void *wg__parser_fail(wg_parser *parser, int line, int column, const char *format, ...)
    WG_PRINTF(4, 5);
/* The same with another status than WG_SYNTAX. */
void *wg__parser_fail_as(wg_parser *parser, wg_status status, int line, int column, const char *format, ...)
    WG_PRINTF(5, 6);
/* Fails at `now` with "expected WHAT, not …"; returns NULL. */
void *wg__parser_unexpected(wg_parser *parser, const char *what);
/* Fails for want of memory; returns NULL. */
void *wg__parser_refused(wg_parser *parser);
/* A token's characters as a string in the arena, or NULL. */
char *wg__parser_string(wg_parser *parser, const wg_token *token);

/* One expression from `now` on; NULL on failure. Tightest first: ( ), call, index, ' and .T; ** (to
 * the right; -x**2 is
 * -(x**2), x**-2 is allowed); @ (to the right; its right side may start with -); unary -; * /; + -.
 */
wg_ast *wg__parse_expression(wg_parser *parser);

/* A whole text that is one expression. */
wg_status wg__expr_parse(const wg_source *source, wg_arena *arena, wg_ast **ast, wg_error *error);

/* A finite decimal number, the whole of `text`, whatever the locale. */
bool wg__number(const char *text, size_t size, double *value);

#endif
