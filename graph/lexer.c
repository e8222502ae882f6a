/* lexer.c: characters to tokens with two of look-ahead; which lines go on; numbers in any locale.
 * Touches only core. */
#include "expr.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(int c) { return c >= '0' && c <= '9'; }
static bool is_letter(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void *fail(wg_parser *parser, wg_status status, int line, int column, const char *format, va_list arguments) {
    if (parser->status == WG_OK) {
        char message[512];
        vsnprintf(message, sizeof message, format, arguments);
        parser->status = wg__source_error(parser->source, parser->error, status, line, column, "%s", message);
        parser->now = parser->ahead =
            (wg_token){.kind = WG_TOKEN_END, .line = line, .column = column};
    }
    return NULL;
}

void *wg__parser_fail(wg_parser *parser, int line, int column, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail(parser, WG_SYNTAX, line, column, format, arguments);
    va_end(arguments);
    return NULL;
}

void *wg__parser_fail_as(wg_parser *parser, wg_status status, int line, int column, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fail(parser, status, line, column, format, arguments);
    va_end(arguments);
    return NULL;
}

void *wg__parser_refused(wg_parser *parser) {
    if (parser->status == WG_OK) {
        wg_status status = wg__refusal(parser->arena->memory);
        parser->status = wg_error_set(parser->error, status, "%s: %s", parser->source->name,
                                      wg_status_sentence(status));
        parser->now = parser->ahead = (wg_token){.kind = WG_TOKEN_END, .line = 1, .column = 1};
    }
    return NULL;
}

bool wg__number(const char *text, size_t size, double *value) {
    char digits[400];
    if (size == 0 || size >= sizeof digits)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!is_digit(text[i]) && !(text[i] && strchr(".eE+-", text[i])))
            return false;
    memcpy(digits, text, size);
    digits[size] = 0;
    locale_t plain = newlocale(LC_ALL_MASK, "C", NULL);
    if (!plain)
        return false;
    char *end;
    *value = strtod_l(digits, &end, plain);
    freelocale(plain);
    return end == digits + size && isfinite(*value);
}

/* ---- characters
 * ------------------------------------------------------------------------------------ */

static int peek(const wg_parser *parser, size_t offset) {
    size_t left = (size_t)(parser->source->text + parser->source->size - parser->at);
    return offset < left ? (unsigned char)parser->at[offset] : -1;
}

/* Goes past one byte; continuation bytes of UTF-8 do not count as columns. */
static void step(wg_parser *parser) {
    unsigned char c = (unsigned char)*parser->at++;
    if (c == '\n') {
        parser->line++;
        parser->column = 1;
    } else if ((c & 0xC0) != 0x80) {
        parser->column++;
    }
}

/* A line goes on after these. */
static bool continues(int kind) {
    return kind == WG_TOKEN_POW || kind == WG_TOKEN_RANGE ||
           (kind < WG_TOKEN_END && kind > 0 && strchr("+-*/@=,", kind));
}

/* Goes past blanks and comments, and past line ends where the line goes on or nothing stands on it.
 * True if it stopped at a line end that counts, or at the end of a text whose last line has none.
 */
static bool skip_blanks(wg_parser *parser) {
    for (int c; (c = peek(parser, 0)) >= 0;) {
        if (c == '#') {
            while ((c = peek(parser, 0)) >= 0 && c != '\n')
                step(parser);
        } else if (c == '\n') {
            if (!parser->lineless && !parser->brackets && parser->last != WG_TOKEN_LINE && !continues(parser->last))
                return true;
            step(parser);
        } else if (c == ' ' || c == '\t' || c == '\r') {
            step(parser);
        } else {
            return false;
        }
    }
    return !parser->lineless && parser->last != WG_TOKEN_LINE && !continues(parser->last);
}

/* ---- tokens
 * ---------------------------------------------------------------------------------------- */

static void lex_number(wg_parser *parser, wg_token *token) {
    while (is_digit(peek(parser, 0)))
        step(parser);
    if (peek(parser, 0) == '.' && peek(parser, 1) != '.' && !is_letter(peek(parser, 1))) {
        step(parser);
        while (is_digit(peek(parser, 0)))
            step(parser);
    }
    int sign = peek(parser, 1) == '+' || peek(parser, 1) == '-';
    if ((peek(parser, 0) == 'e' || peek(parser, 0) == 'E') &&
        is_digit(peek(parser, 1 + (size_t)sign))) {
        for (step(parser); sign > 0; sign--)
            step(parser);
        while (is_digit(peek(parser, 0)))
            step(parser);
    }
    token->kind = WG_TOKEN_NUMBER;
    token->size = (size_t)(parser->at - token->start);
    if (is_letter(peek(parser, 0)))
        wg__parser_fail(parser, parser->line, parser->column,
                        "a name cannot follow a number directly: write a '*' between them");
    else if (!wg__number(token->start, token->size, &token->value))
        wg__parser_fail(parser, token->line, token->column, "this number is too large or too long");
}

static void lex_name(wg_parser *parser, wg_token *token) {
    while (is_letter(peek(parser, 0)) || is_digit(peek(parser, 0)))
        step(parser);
    token->kind = WG_TOKEN_NAME;
    token->size = (size_t)(parser->at - token->start);
    if (token->size > WG_EXPR_NAME)
        wg__parser_fail(parser, token->line, token->column,
                        "this name is longer than %d characters", WG_EXPR_NAME);
}

static void lex_text(wg_parser *parser, wg_token *token) {
    int c;
    step(parser);
    token->kind = WG_TOKEN_TEXT;
    token->start = parser->at;
    while ((c = peek(parser, 0)) >= 0 && c != '"' && c != '\n')
        step(parser);
    token->size = (size_t)(parser->at - token->start);
    if (c != '"')
        wg__parser_fail(parser, token->line, token->column, "this text has no closing '\"'");
    else
        step(parser);
}

static void open_bracket(wg_parser *parser, const wg_token *token) {
    if (parser->brackets == WG_EXPR_DEPTH)
        wg__parser_fail(parser, token->line, token->column, "brackets are nested deeper than %d",
                        WG_EXPR_DEPTH);
    else
        parser->bracket[parser->brackets++] = *token;
}

static void close_bracket(wg_parser *parser, const wg_token *token) {
    const wg_token *open = parser->brackets ? &parser->bracket[parser->brackets - 1] : NULL;
    if (!open)
        wg__parser_fail(parser, token->line, token->column, "this '%c' closes nothing",
                        token->kind);
    else if ((open->kind == '(') != (token->kind == ')'))
        wg__parser_fail(parser, token->line, token->column,
                        "this '%c' cannot close the '%c' at %d:%d", token->kind, open->kind,
                        open->line, open->column);
    else
        parser->brackets--;
}

static void lex_symbol(wg_parser *parser, wg_token *token) {
    int c = peek(parser, 0), after = peek(parser, 1);
    int wide =
        c == '*' && after == '*'   ? WG_TOKEN_POW
        : c == '.' && after == '.' ? WG_TOKEN_RANGE
        : c == '.' && after == 'T' && !is_letter(peek(parser, 2)) && !is_digit(peek(parser, 2))
            ? WG_TOKEN_TRANSPOSE
            : 0;
    token->kind = wide ? wide : c;
    token->size = wide ? 2 : 1;
    bool known = c && (strchr("+-*/@=,()[]'", c) || (parser->more && strchr(parser->more, c)));
    if (!wide && !known) {
        if (c > 32 && c < 127)
            wg__parser_fail(parser, token->line, token->column, "'%c' has no meaning here", c);
        else
            wg__parser_fail(parser, token->line, token->column,
                            "the byte 0x%02X has no meaning outside comments and \"texts\"",
                            (unsigned)c);
        return;
    }
    for (size_t i = 0; i < token->size; i++)
        step(parser);
    if (c == '(' || c == '[')
        open_bracket(parser, token);
    else if (c == ')' || c == ']')
        close_bracket(parser, token);
}

static void lex_end(wg_parser *parser, wg_token *token) {
    token->kind = WG_TOKEN_END;
    if (continues(parser->last)) { /* what is missing is missed there */
        token->line = parser->last_line;
        token->column = parser->last_column;
    }
    if (parser->brackets) {
        const wg_token *open = &parser->bracket[parser->brackets - 1];
        wg__parser_fail(parser, open->line, open->column, "this '%c' is never closed", open->kind);
    }
}

static wg_token lex(wg_parser *parser) {
    bool line = skip_blanks(parser);
    wg_token token = {WG_TOKEN_LINE, parser->line, parser->column, parser->at, 0, 0};
    int c = peek(parser, 0);
    if (line && !parser->brackets)
        token.kind = WG_TOKEN_LINE;
    else if (c < 0)
        lex_end(parser, &token);
    else if (is_digit(c) || (c == '.' && is_digit(peek(parser, 1))))
        lex_number(parser, &token);
    else if (is_letter(c))
        lex_name(parser, &token);
    else if (c == '"')
        lex_text(parser, &token);
    else
        lex_symbol(parser, &token);
    parser->last = token.kind;
    parser->last_line = parser->line;
    parser->last_column = parser->column;
    return parser->status == WG_OK ? token : parser->now;
}

static void begin(wg_parser *parser, const wg_source *source) {
    parser->source = source;
    parser->at = source->text;
    parser->line = parser->column = 1;
    parser->last = WG_TOKEN_LINE;
    if (source->size >= 3 && memcmp(source->text, "\xEF\xBB\xBF", 3) == 0)
        parser->at += 3; /* a byte order mark */
    parser->now = lex(parser);
    if (parser->status == WG_OK)
        parser->ahead = lex(parser);
}

void wg__parser_begin(wg_parser *parser, const wg_source *source, wg_arena *arena, wg_error *error) {
    *parser = (wg_parser){.arena = arena, .error = error};
    begin(parser, source);
}

void wg__parser_begin_lineless(wg_parser *parser, const wg_source *source, wg_arena *arena, const char *more, wg_error *error) {
    *parser = (wg_parser){.arena = arena, .error = error, .more = more, .lineless = true};
    begin(parser, source);
}

void wg__parser_next(wg_parser *parser) {
    if (parser->status == WG_OK) {
        parser->now = parser->ahead;
        wg_token token = lex(parser);
        if (parser->status == WG_OK)
            parser->ahead = token;
    }
}

bool wg__parser_accept(wg_parser *parser, int kind) {
    bool is = parser->now.kind == kind;
    if (is && kind != WG_TOKEN_END)
        wg__parser_next(parser);
    return is;
}

bool wg__parser_expect(wg_parser *parser, int kind, const char *what) {
    if (wg__parser_accept(parser, kind))
        return true;
    wg__parser_unexpected(parser, what);
    return false;
}

bool wg__parser_is(const wg_parser *parser, const char *word) {
    return parser->now.kind == WG_TOKEN_NAME && parser->now.size == strlen(word) &&
           memcmp(parser->now.start, word, parser->now.size) == 0;
}

void *wg__parser_unexpected(wg_parser *parser, const char *what) {
    const wg_token *now = &parser->now;
    if (now->kind == WG_TOKEN_END || now->kind == WG_TOKEN_LINE)
        return wg__parser_fail(parser, now->line, now->column, "expected %s, not the end of the %s",
                               what, now->kind == WG_TOKEN_END ? "text" : "line");
    if (now->kind == WG_TOKEN_TEXT)
        return wg__parser_fail(parser, now->line, now->column, "expected %s, not a \"text\"", what);
    return wg__parser_fail(parser, now->line, now->column, "expected %s, not '%.*s'", what,
                           now->size > 40 ? 40 : (int)now->size, now->start);
}

char *wg__parser_string(wg_parser *parser, const wg_token *token) {
    char *text = wg__arena_take(parser->arena, token->size + 1);
    if (!text)
        return wg__parser_refused(parser);
    memcpy(text, token->start, token->size);
    text[token->size] = 0;
    return text;
}
