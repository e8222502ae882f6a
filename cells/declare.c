/* declare.c: the declarations of a cell's text: cell cite input size const state param fixed output
 * init. Touches only the text and the names. */
#include "reader.h"

#include <string.h>

typedef void declaration(wg_reader *reader);

/* The name at `now`, in the arena, going past it; NULL if there is none. */
static const char *read_name(wg_reader *reader, wg_token *at) {
    *at = reader->parser.now;
    if (!wg__parser_expect(&reader->parser, WG_TOKEN_NAME, "a name"))
        return NULL;
    return wg__parser_string(&reader->parser, at);
}

/* [n] or [rows, cols], where one stands, of at most `most` lengths. False on failure. */
static bool read_extent(wg_reader *reader, int most, wg_extent *extent) {
    wg_parser *parser = &reader->parser;
    wg_token open = parser->now;
    extent->rank = 0;
    if (!wg__parser_accept(parser, '['))
        return parser->status == WG_OK;
    do {
        wg_token at = parser->now;
        wg_ast *length = wg__parse_expression(parser);
        if (length && parser->now.kind == WG_TOKEN_RANGE)
            wg__reader_fail(reader, WG_UNSUPPORTED, parser->now.line, parser->now.column,
                            "families of names are not supported yet");
        if (extent->rank == most)
            wg__reader_fail(reader, most == 1 ? WG_UNSUPPORTED : WG_SYNTAX, at.line, at.column,
                            most == 1
                                ? "only vectors can stand here: matrices are not supported yet"
                                : "a parameter has at most two lengths");
        if (parser->status != WG_OK)
            return false;
        const wg_formula *formula =
            wg__lang_length(reader->lang, &reader->lang->source, length, reader->error);
        int64_t value;
        if (!formula)
            return wg__reader_failed(reader, reader->error->status);
        if (wg__formula_constant(formula, &value) && value < 1)
            return wg__reader_fail(reader, WG_RANGE, length->line, length->column,
                                   "a length is at least 1") != NULL;
        extent->dim[extent->rank++] = formula;
    } while (wg__parser_accept(parser, ','));
    if (!wg__parser_expect(parser, ']', "',' or ']'"))
        return false;
    if (parser->now.kind == '[')
        wg__reader_fail(reader, WG_UNSUPPORTED, open.line, open.column,
                        "families of names are not supported yet");
    return parser->status == WG_OK;
}

static void read_cell_name(wg_reader *reader) {
    wg_token at;
    if (reader->named)
        wg__reader_fail(reader, WG_SYNTAX, reader->parser.now.line, reader->parser.now.column,
                        "a text holds one cell, and this one is called '%s'", reader->lang->name);
    else
        reader->lang->name = read_name(reader, &at);
    reader->named = true;
}

static void read_cite(wg_reader *reader) {
    wg_token at = reader->parser.now;
    if (reader->lang->cite)
        wg__reader_fail(reader, WG_SYNTAX, at.line, at.column, "a cell has one 'cite' line");
    else if (wg__parser_expect(&reader->parser, WG_TOKEN_TEXT, "a \"text\""))
        reader->lang->cite = wg__parser_string(&reader->parser, &at);
}

static bool has_inputs(const wg_lang *lang) {
    for (int i = 0; i < lang->symbols; i++)
        if (lang->symbol[i].kind == WG_SYMBOL_INPUT)
            return true;
    return false;
}

/* input x, t[1] */
static void read_inputs(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    wg_token at;
    do {
        bool first = !has_inputs(lang);
        const char *name = read_name(reader, &at);
        int symbol = name ? wg__reader_add(reader, WG_SYMBOL_INPUT, name, at.line, at.column) : -1;
        wg_extent extent;
        if (symbol < 0 || !read_extent(reader, 1, &extent))
            return;
        const wg_formula *input = lang->symbol[0].size;
        if (first && extent.rank && !wg__formula_equal(extent.dim[0], input)) {
            wg__reader_fail(reader, WG_SHAPE, at.line, at.column,
                            "the first input comes from the layer below: its length is 'input' and "
                            "cannot be given");
            return;
        }
        lang->symbol[symbol].extent = extent.rank ? extent : (wg_extent){1, {input, NULL}};
    } while (wg__parser_accept(&reader->parser, ','));
}

/* The expression that a size or const has: its own, or the one set from outside, with its source.
 */
static const wg_ast *overridden(wg_reader *reader, const char *name, const wg_ast *ast,
                                wg_source *source) {
    *source = reader->lang->source;
    for (int i = 0; i < reader->settings; i++) {
        const wg_setting *setting = &reader->setting[i];
        if (strcmp(setting->name, name) != 0)
            continue;
        const char *title = wg__reader_text(reader, "set %s", name);
        size_t size = strlen(setting->value);
        char *value = wg__arena_take(&reader->lang->arena, size + 1);
        wg_ast *new = NULL;
        if (!value)
            return wg__parser_refused(&reader->parser);
        if (!title)
            return NULL;
        memcpy(value, setting->value, size + 1);
        *source = (wg_source){title, value, size};
        wg_status status = wg__expr_parse(source, &reader->lang->arena, &new, reader->error);
        if (status != WG_OK)
            wg__reader_failed(reader, status);
        ast = new;
        reader->setting_used[i] = true;
    }
    return ast;
}

/* size hidden = input */
static void read_tie(wg_reader *reader) {
    wg_parser *parser = &reader->parser;
    wg__parser_next(parser);
    if (wg__parser_expect(parser, '=', "'='") &&
        !(wg__parser_is(parser, "input") && parser->ahead.kind == WG_TOKEN_LINE))
        wg__reader_fail(
            reader, WG_SYNTAX, parser->now.line, parser->now.column,
            "hidden is given from outside: only 'size hidden = input' can be said of it");
    wg__parser_next(parser);
}

/* size N = 2*hidden */
static void read_size(wg_reader *reader) {
    wg_token at;
    wg_source source;
    if (wg__parser_is(&reader->parser, "hidden")) {
        read_tie(reader);
        return;
    }
    const char *name = read_name(reader, &at);
    if (!name || !wg__parser_expect(&reader->parser, '=', "'='"))
        return;
    const wg_ast *ast = wg__parse_expression(&reader->parser);
    ast = ast ? overridden(reader, name, ast, &source) : NULL;
    if (!ast)
        return;
    const wg_formula *size = wg__lang_length(reader->lang, &source, ast, reader->error);
    int64_t value;
    if (!size)
        wg__reader_failed(reader, reader->error->status);
    else if (wg__formula_constant(size, &value) && value < 1)
        wg__reader_failed(reader, wg__source_error(&source, reader->error, WG_RANGE, ast->line,
                                                   ast->column, "a size is at least 1"));
    int symbol = size ? wg__reader_add(reader, WG_SYMBOL_SIZE, name, at.line, at.column) : -1;
    if (symbol >= 0)
        reader->lang->symbol[symbol].size = size;
}

/* True if the value of a number expression rests on input or hidden. */
static bool uses_size(const wg_lang *lang, const wg_ast *ast) {
    int at = ast->kind == WG_AST_NAME ? wg__lang_find(lang, ast->name) : -1;
    if (at >= 0)
        return lang->symbol[at].kind == WG_SYMBOL_SIZE ||
               lang->symbol[at].value->kind != WG_AST_NUMBER;
    for (int i = 0; i < ast->n; i++)
        if (uses_size(lang, ast->arg[i]))
            return true;
    return false;
}

/* A const's expression; one that needs no size becomes a number at once. */
static const wg_ast *settle(wg_reader *reader, const wg_source *source, const wg_ast *ast) {
    wg_lang *lang = reader->lang;
    double value;
    wg_status status = wg__lang_is_number(lang, source, ast, reader->error);
    if (status == WG_OK && uses_size(lang, ast))
        return ast;
    if (status == WG_OK)
        status = wg__lang_number(lang, source, ast, 1, 1, &value, reader->error);
    if (status != WG_OK) {
        wg__reader_failed(reader, status);
        return NULL;
    }
    wg_ast *number = wg__arena_take(&lang->arena, sizeof *number);
    if (!number)
        return wg__parser_refused(&reader->parser);
    *number = (wg_ast){.kind = WG_AST_NUMBER,
                       .line = ast->line,
                       .column = ast->column,
                       .depth = 1,
                       .value = value,
                       .symbol = -1,
                       .shape = -1};
    return number;
}

/* const dt = 0.1 */
static void read_const(wg_reader *reader) {
    wg_token at;
    wg_source source;
    const char *name = read_name(reader, &at);
    if (!name || !wg__parser_expect(&reader->parser, '=', "'='"))
        return;
    const wg_ast *ast = wg__parse_expression(&reader->parser);
    ast = ast ? overridden(reader, name, ast, &source) : NULL;
    ast = ast ? settle(reader, &source, ast) : NULL;
    int symbol = ast ? wg__reader_add(reader, WG_SYMBOL_CONST, name, at.line, at.column) : -1;
    if (symbol >= 0) {
        reader->lang->symbol[symbol].value = ast;
        reader->lang->symbol[symbol].value_source = source;
    }
}

/* The parameter of this name, new or not; -1 if it is something else. */
static int find_param(wg_reader *reader, const char *name, const wg_token *at) {
    int found = wg__lang_find(reader->lang, name);
    if (found >= 0 && reader->lang->symbol[found].kind == WG_SYMBOL_PARAM)
        return found;
    return wg__reader_add(reader, WG_SYMBOL_PARAM, name, at->line, at->column);
}

/* What a state starts from: state h = h0, or a number. */
static void read_start(wg_reader *reader, int state) {
    wg_lang *lang = reader->lang;
    wg_token at = reader->parser.now;
    const wg_ast *ast = wg__parse_expression(&reader->parser);
    if (!ast)
        return;
    int found = ast->kind == WG_AST_NAME ? wg__lang_find(lang, ast->name) : -1;
    bool param =
        ast->kind == WG_AST_NAME && (found < 0 || lang->symbol[found].kind == WG_SYMBOL_PARAM);
    if (!param) {
        wg_status status = wg__lang_is_number(lang, &lang->source, ast, reader->error);
        if (status != WG_OK)
            wg__reader_failed(reader, status);
        lang->symbol[state].start_at = ast;
        return;
    }
    int start = find_param(reader, ast->name, &at);
    if (start >= 0) {
        lang->symbol[start].used = true;
        lang->symbol[state].start = start;
    }
}

/* state h, c[N], r = r0 */
static void read_states(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    wg_token at;
    do {
        const char *name = read_name(reader, &at);
        int symbol = name ? wg__reader_add(reader, WG_SYMBOL_STATE, name, at.line, at.column) : -1;
        wg_extent extent;
        if (symbol < 0 || !read_extent(reader, 1, &extent))
            return;
        lang->symbol[symbol].extent =
            extent.rank ? extent : (wg_extent){1, {lang->symbol[1].size, NULL}};
        if (wg__parser_accept(&reader->parser, '='))
            read_start(reader, symbol);
    } while (wg__parser_accept(&reader->parser, ','));
}

/* param W[rows, cols], p[n], and the same for fixed ones, where a parameter declared before may be
 * named again. */
static void read_params_as(wg_reader *reader, bool fixed) {
    wg_lang *lang = reader->lang;
    wg_token at;
    do {
        const char *name = read_name(reader, &at);
        int symbol = name ? find_param(reader, name, &at) : -1;
        wg_extent extent;
        if (symbol < 0 || !read_extent(reader, 2, &extent))
            return;
        if ((extent.rank || !fixed) && lang->symbol[symbol].declared) {
            wg__reader_fail(reader, WG_CONFLICT, at.line, at.column,
                            "'%s' is already declared (line %d)", name, lang->symbol[symbol].line);
            return;
        }
        if (extent.rank)
            lang->symbol[symbol].extent = extent;
        if (extent.rank || !lang->symbol[symbol].declared) {
            lang->symbol[symbol].line = at.line;
            lang->symbol[symbol].column = at.column;
        }
        lang->symbol[symbol].declared |= extent.rank > 0;
        lang->symbol[symbol].fixed |= fixed;
    } while (wg__parser_accept(&reader->parser, ','));
}

static void read_params(wg_reader *reader) { read_params_as(reader, false); }
static void read_fixed(wg_reader *reader) { read_params_as(reader, true); }

static void read_output(wg_reader *reader) {
    wg_token at = reader->parser.now;
    if (reader->output.kind)
        wg__reader_fail(reader, WG_SYNTAX, at.line, at.column,
                        "a cell has one output, and line %d names it", reader->output.line);
    else if (wg__parser_expect(&reader->parser, WG_TOKEN_NAME, "the name of a value or state"))
        wg__parser_accept(&reader->parser, '\'');
    reader->output = at;
}

/* use "LIBRARY" "PROTOTYPE" …: a C function becomes a function of this text, if the caller lets it. */
static void read_use(wg_reader *reader) {
    wg_use_line use;
    wg_error why = {0};
    if (wg__use_parse(&reader->parser, &use) != WG_OK)
        return;
    if (!wg__foreign_allows(reader->lang->foreign)) {
        wg__reader_fail(reader, WG_UNSUPPORTED, use.line, use.column,
                        "the text wants to load '%.100s' for '%.200s': this is not allowed unless its caller allows it (--allow-foreign)",
                        use.binding.library, use.binding.prototype);
        return;
    }
    if (!wg_bind(reader->lang->foreign, &use.binding, &why)) {
        why.text[strcspn(why.text, "\n")] = 0; /* the line it points to is this one */
        wg__reader_fail(reader, why.status, use.line, use.column, "%.600s", why.text);
    }
}

/* init PATTERN = INITIALISER; the pattern is the characters up to '=', without blanks. (Straight after `init`, a '=' was
 * refused.) */
static void read_init(wg_reader *reader) {
    wg_parser *parser = &reader->parser;
    wg_lang *lang = reader->lang;
    wg_token pattern = parser->now;
    for (wg_token last = {0}; parser->status == WG_OK && parser->now.kind != '=';
         last = parser->now, wg__parser_next(parser)) {
        int kind = parser->now.kind;
        bool part =
            kind == WG_TOKEN_NAME || kind == WG_TOKEN_NUMBER || kind == '*' || kind == WG_TOKEN_POW;
        if (!part || (last.start && parser->now.start != last.start + last.size)) {
            wg__parser_unexpected(parser, last.start ? "'=' after the pattern"
                                                     : "a pattern of names, like b_* or U_f");
            return;
        }
        pattern.size = (size_t)(parser->now.start - pattern.start) + parser->now.size;
    }
    const char *name = parser->status == WG_OK ? wg__parser_string(parser, &pattern) : NULL;
    if (!name || !wg__parser_expect(parser, '=', "'='"))
        return;
    const wg_ast *value = wg__parse_expression(parser);
    void *list = lang->init;
    if (!value)
        return;
    if (!wg__room(lang->arena.memory, &list, lang->inits, &reader->init_room, sizeof *lang->init)) {
        wg__parser_refused(parser);
        return;
    }
    lang->init = list;
    lang->init[lang->inits++] = (wg_init_line){.pattern = name,
                                               .value = value,
                                               .source = lang->source,
                                               .line = pattern.line,
                                               .column = pattern.column};
}

/* The words that begin a line; whether they stand before the equations. Those that nothing reads
 * come later. */
static const struct {
    const char *word;
    declaration *read;
    bool first;
} words[] = {
    {"cell", read_cell_name, true}, {"cite", read_cite, false},  {"input", read_inputs, true},
    {"size", read_size, true},      {"const", read_const, true}, {"state", read_states, true},
    {"param", read_params, true},   {"fixed", read_fixed, true}, {"output", read_output, false},
    {"init", read_init, false},     {"for", NULL, false},        {"end", NULL, false},
    {"use", read_use, true},
};

bool wg__is_declaration_word(const char *name) {
    for (int i = 0; i < WG_LEN(words); i++)
        if (strcmp(words[i].word, name) == 0)
            return true;
    return false;
}

bool wg__read_declaration(wg_reader *reader) {
    wg_parser *parser = &reader->parser;
    int ahead = parser->ahead.kind;
    for (int i = 0; i < WG_LEN(words); i++) {
        if (!wg__parser_is(parser, words[i].word))
            continue;
        if (ahead == '=' || ahead == '\'' || ahead == '[')
            wg__reader_fail(reader, WG_SYNTAX, parser->now.line, parser->now.column,
                            "'%s' is a word of the language and cannot be a name", words[i].word);
        else if (words[i].first && reader->lang->equations)
            wg__reader_fail(reader, WG_SYNTAX, parser->now.line, parser->now.column,
                            "'%s' stands before the equations", words[i].word);
        else if (!words[i].read)
            wg__reader_fail(reader, WG_UNSUPPORTED, parser->now.line, parser->now.column,
                            "'%s' is not supported yet", words[i].word);
        wg__parser_next(parser);
        if (parser->status == WG_OK)
            words[i].read(reader);
        return true;
    }
    return false;
}
