/* lang.c: reads a cell's text line by line: equations here, declarations in declare.c; then names,
 * shapes and initialisers are checked. Touches only the text. */
#include "reader.h"

#include <stdio.h>
#include <string.h>

/* ---- the reader
 * -------------------------------------------------------------------------------------- */

void *wg__reader_fail(wg_reader *reader, wg_status status, int line, int column, const char *format,
                      ...) {
    if (reader->parser.status != WG_OK)
        return NULL;
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    wg__parser_fail(&reader->parser, line, column, "%s", message);
    reader->parser.status = status;
    reader->error->status = status;
    return NULL;
}

bool wg__reader_failed(wg_reader *reader, wg_status status) {
    if (reader->parser.status == WG_OK)
        reader->parser.status = status;
    reader->parser.now = reader->parser.ahead = (wg_token){.kind = WG_TOKEN_END};
    return false;
}

static char *format_text(wg_reader *reader, const char *format, va_list arguments) {
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    size_t size = strlen(text) + 1;
    char *copy = wg__arena_take(&reader->lang->arena, size);
    if (!copy)
        return wg__parser_refused(&reader->parser);
    return memcpy(copy, text, size);
}

char *wg__reader_text(wg_reader *reader, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = format_text(reader, format, arguments);
    va_end(arguments);
    return text;
}

/* wg__room over an array of the cell. */
static bool room(wg_reader *reader, void *array, int64_t count, int64_t *capacity, size_t size) {
    void *block;
    memcpy(&block, array, sizeof block);
    if (!wg__room(reader->lang->arena.memory, &block, count, capacity, size))
        return wg__parser_refused(&reader->parser) != NULL;
    memcpy(array, &block, sizeof block);
    return true;
}

void wg__reader_warn(wg_reader *reader, int line, int column, const char *format, ...) {
    wg_lang *lang = reader->lang;
    va_list arguments;
    va_start(arguments, format);
    const char *message = format_text(reader, format, arguments);
    va_end(arguments);
    const char *text = message ? wg__reader_text(reader, "%.200s:%d:%d: %s", lang->source.name,
                                                 line, column, message)
                               : NULL;
    if (text &&
        room(reader, &lang->warning, lang->warnings, &reader->warning_room, sizeof *lang->warning))
        lang->warning[lang->warnings++] = (wg_warning){line, column, text};
}

const char *wg__symbol_what(wg_symbol_kind kind) {
    static const char *const what[] = {
        [WG_SYMBOL_INPUT] = "an input",    [WG_SYMBOL_SIZE] = "a size",
        [WG_SYMBOL_CONST] = "a const",     [WG_SYMBOL_STATE] = "a state",
        [WG_SYMBOL_PARAM] = "a parameter", [WG_SYMBOL_VALUE] = "a value"};
    return what[kind];
}

static const char *name_of(const void *lang, int64_t i) { return ((const wg_lang *)lang)->symbol[i].name; }

int wg__lang_find(const wg_lang *lang, const char *name) { return (int)wg__lookup_find(&lang->names, name); }

int wg__lang_param(const wg_lang *lang, int symbol) {
    int at = 0;
    while (lang->param[at] != symbol)
        at++;
    return at;
}

/* Adds a symbol with a new name; -1, with an error, when refused. */
static int push_symbol(wg_reader *reader, const wg_symbol *symbol) {
    wg_lang *lang = reader->lang;
    if (!room(reader, &lang->symbol, lang->symbols, &reader->symbol_room, sizeof *lang->symbol))
        return -1;
    if (!wg__lookup_room(&lang->names, lang->arena.memory)) {
        wg__parser_refused(&reader->parser);
        return -1;
    }
    lang->symbol[lang->symbols++] = *symbol;
    wg__lookup_enter(&lang->names);
    return (int)lang->symbols - 1;
}

/* Why a name cannot be given to anything; NULL if it can. */
static const char *reserved(const wg_lang *lang, const char *name) {
    if (wg__is_declaration_word(name))
        return "a word of the language";
    if (wg__function_find(lang->foreign, name) >= 0)
        return "a function";
    if (strcmp(name, "lengths") == 0)
        return "the array of sequence lengths";
    return NULL;
}

int wg__reader_add(wg_reader *reader, wg_symbol_kind kind, const char *name, int line, int column) {
    wg_lang *lang = reader->lang;
    int found = wg__lang_find(lang, name);
    const char *why = reserved(lang, name);
    if (found >= 0 && lang->symbol[found].line == 0)
        wg__reader_fail(reader, WG_CONFLICT, line, column,
                        "'%s' is a length of every cell and cannot be a name", name);
    else if (found >= 0)
        wg__reader_fail(reader, WG_CONFLICT, line, column, "'%s' is already %s (line %d)", name,
                        wg__symbol_what(lang->symbol[found].kind), lang->symbol[found].line);
    else if (why)
        wg__reader_fail(reader, WG_SYNTAX, line, column, "'%s' is %s and cannot be a name", name,
                        why);
    else if (lang->symbols == WG_LANG_NAMES)
        wg__reader_fail(reader, WG_LIMIT, line, column, "a cell has at most %d names",
                        WG_LANG_NAMES);
    if (reader->parser.status != WG_OK)
        return -1;
    return push_symbol(reader, &(wg_symbol){.kind = kind, .name = name, .line = line, .column = column, .equation = -1,
                                          .start = -1});
}

/* ---- equations
 * ----------------------------------------------------------------------------------------- */

/* The symbol that an equation for `name` defines, or -1. */
static int define(wg_reader *reader, const wg_token *at, const char *name, bool next) {
    wg_lang *lang = reader->lang;
    int found = wg__lang_find(lang, name);
    wg_symbol *symbol = found >= 0 ? &lang->symbol[found] : NULL;
    bool state = symbol && symbol->kind == WG_SYMBOL_STATE;
    if (next && !state) {
        wg__reader_fail(reader, WG_SYNTAX, at->line, at->column,
                        "'%s' is no state: only a state has a next value", name);
        return -1;
    }
    if (state && !next) {
        wg__reader_fail(reader, WG_SYNTAX, at->line, at->column,
                        "'%s' is a state: its next value is written %s' = …", name, name);
        return -1;
    }
    if (!next)
        return wg__reader_add(reader, WG_SYMBOL_VALUE, name, at->line, at->column);
    if (symbol->equation >= 0) {
        wg__reader_fail(reader, WG_CONFLICT, at->line, at->column,
                        "%s' is already defined (line %d)", name,
                        lang->equation[symbol->equation].line);
        return -1;
    }
    return found;
}

/* name = expression, or name' = expression */
static void read_equation(wg_reader *reader) {
    wg_parser *parser = &reader->parser;
    wg_lang *lang = reader->lang;
    wg_token at = parser->now;
    if (at.kind != WG_TOKEN_NAME) {
        wg__parser_unexpected(parser, "a declaration or an equation");
        return;
    }
    const char *name = wg__parser_string(parser, &at);
    wg__parser_next(parser);
    if (parser->now.kind == '[') {
        wg__reader_fail(reader, WG_UNSUPPORTED, parser->now.line, parser->now.column,
                        "indexed names are not supported yet");
        return;
    }
    bool next = wg__parser_accept(parser, '\'');
    if (!name || !wg__parser_expect(parser, '=', next ? "'='" : "'=' or a prime and '='"))
        return;
    int symbol = define(reader, &at, name, next);
    wg_ast *value = symbol >= 0 ? wg__parse_expression(parser) : NULL;
    if (!value || !room(reader, &lang->equation, lang->equations, &reader->equation_room,
                        sizeof *lang->equation))
        return;
    lang->symbol[symbol].equation = (int)lang->equations;
    lang->equation[lang->equations++] = (wg_equation){symbol, next, value, at.line, at.column};
}

static void read_lines(wg_reader *reader) {
    wg_parser *parser = &reader->parser;
    while (parser->status == WG_OK && parser->now.kind != WG_TOKEN_END) {
        if (!reader->named && !wg__parser_is(parser, "cell")) {
            wg__reader_fail(reader, WG_SYNTAX, parser->now.line, parser->now.column,
                            "the first line of a cell is 'cell NAME'");
            return;
        }
        if (wg__read_declaration(reader))
            ;
        else if (reader->declares)
            wg__parser_unexpected(parser, "a declaration (the equations of this cell are a C function)");
        else
            read_equation(reader);
        if (parser->status == WG_OK && parser->now.kind != WG_TOKEN_LINE)
            wg__parser_unexpected(parser, "an operator or the end of the line");
        wg__parser_accept(parser, WG_TOKEN_LINE);
    }
    if (parser->status == WG_OK && !reader->named)
        wg__reader_fail(reader, WG_SYNTAX, 1, 1, "the first line of a cell is 'cell NAME'");
}

/* ---- the whole text
 * ---------------------------------------------------------------------------------- */

/* True if a line says size hidden = …: known before any length is read. Errors are left for the
 * reading itself. */
static bool find_tie(const wg_source *source, wg_memory *memory) {
    wg_parser parser;
    wg_arena arena = {.memory = memory};
    bool start = true, tied = false;
    wg__parser_begin(&parser, source, &arena, NULL);
    while (parser.status == WG_OK && parser.now.kind != WG_TOKEN_END && !tied) {
        bool size = start && wg__parser_is(&parser, "size");
        start = parser.now.kind == WG_TOKEN_LINE;
        wg__parser_next(&parser);
        tied = size && wg__parser_is(&parser, "hidden");
    }
    wg__arena_free(&arena);
    return tied;
}

/* input and hidden, which every cell has. */
static bool add_lengths(wg_reader *reader) {
    static const struct {
        const char *name;
        wg_length length;
    } lengths[] = {{"input", WG_LENGTH_INPUT}, {"hidden", WG_LENGTH_HIDDEN}};
    wg_lang *lang = reader->lang;
    for (int i = 0; i < 2; i++) {
        const wg_formula *size =
            wg__formula_length(&lang->arena, lang->tied ? WG_LENGTH_INPUT : lengths[i].length);
        if (!size)
            return wg__parser_refused(&reader->parser) != NULL;
        const wg_symbol length = {.kind = WG_SYMBOL_SIZE, .name = lengths[i].name, .equation = -1, .start = -1,
                                  .used = true, .size = size};
        if (push_symbol(reader, &length) < 0)
            return false;
    }
    return true;
}

static bool has_kind(const wg_lang *lang, wg_symbol_kind kind) {
    for (int i = 0; i < lang->symbols; i++)
        if (lang->symbol[i].kind == kind)
            return true;
    return false;
}

/* The input x, unless inputs are declared. */
static void default_input(wg_reader *reader) {
    if (reader->parser.status != WG_OK || has_kind(reader->lang, WG_SYMBOL_INPUT))
        return;
    int at = wg__reader_add(reader, WG_SYMBOL_INPUT, "x", 1, 1);
    if (at >= 0)
        reader->lang->symbol[at].extent = (wg_extent){1, {reader->lang->symbol[0].size, NULL}};
}

/* What the cell gives to the layer above. */
static void find_output(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    const wg_token *at = &reader->output;
    for (int i = 0; i < lang->symbols && lang->output < 0 && !at->kind; i++)
        if (lang->symbol[i].kind == WG_SYMBOL_STATE)
            lang->output = i;
    if (at->kind) {
        const char *name = wg__parser_string(&reader->parser, at);
        lang->output = name ? wg__lang_find(lang, name) : -1;
        wg_symbol_kind kind = lang->output >= 0 ? lang->symbol[lang->output].kind : WG_SYMBOL_PARAM;
        if (name && kind != WG_SYMBOL_STATE && kind != WG_SYMBOL_VALUE)
            wg__reader_fail(reader, WG_NOT_FOUND, at->line, at->column,
                            "the output is a value or a state, and '%s' is neither", name);
    } else if (lang->output < 0) {
        wg__reader_fail(reader, WG_SYNTAX, 1, 1, "a cell without a state needs an 'output' line");
    }
    if (reader->parser.status == WG_OK && lang->output >= 0)
        lang->symbol[lang->output].used = true;
}

/* `y` is the name of the output in files: only the output itself may be called so. */
static void check_y(wg_reader *reader) {
    int at = wg__lang_find(reader->lang, "y");
    if (at >= 0 && at != reader->lang->output)
        wg__reader_fail(reader, WG_SYNTAX, reader->lang->symbol[at].line,
                        reader->lang->symbol[at].column,
                        "'y' names the output in files: only a value or state that is the output "
                        "can be called so");
}

/* The indices of all symbols of a kind. */
static void list_kind(wg_reader *reader, wg_symbol_kind kind, int *count, int **list) {
    wg_lang *lang = reader->lang;
    *list = wg__arena_take(&lang->arena, (size_t)(lang->symbols + 1) * sizeof **list);
    if (!*list) {
        wg__parser_refused(&reader->parser);
        return;
    }
    for (int i = 0; i < lang->symbols; i++)
        if (lang->symbol[i].kind == kind)
            (*list)[(*count)++] = i;
}

static void list_names(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    list_kind(reader, WG_SYMBOL_INPUT, &lang->inputs, &lang->input);
    list_kind(reader, WG_SYMBOL_STATE, &lang->states, &lang->state);
    list_kind(reader, WG_SYMBOL_PARAM, &lang->params, &lang->param);
}

static void check_settings(wg_reader *reader) {
    for (int i = 0; i < reader->settings && reader->parser.status == WG_OK; i++)
        if (!reader->setting_used[i]) {
            char name[80];
            wg_status status = wg_error_set(reader->error, WG_NOT_FOUND,
                                            "%s: cell %s has no size or const %s to set",
                                            reader->lang->source.name, reader->lang->name,
                                            wg__quote(reader->setting[i].name, name, sizeof name));
            wg__reader_failed(reader, status);
        }
}

/* Functions that derivatives of C functions call may stand below them. */
static void check_uses(wg_reader *reader) {
    wg_error why = {0};
    if (wg__foreign_complete(reader->lang->foreign, reader->first_use, &why) != WG_OK)
        wg__reader_failed(reader, wg_error_set(reader->error, why.status, "%s: %s", reader->lang->source.name, why.text));
}

static void read_cell(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    lang->tied = find_tie(&lang->source, lang->arena.memory);
    wg__parser_begin(&reader->parser, &lang->source, &lang->arena, reader->error);
    if (!add_lengths(reader))
        return;
    void (*const stages[])(wg_reader *) = {
        read_lines,        check_uses,    default_input, check_settings,   find_output,     check_y,
        wg__resolve_names, list_names,    wg__infer_shapes, wg__check_inits, wg__check_used};
    for (int i = 0; i < WG_LEN(stages) && reader->parser.status == WG_OK; i++)
        stages[i](reader);
}

/* The text must be something that a model file can carry. */
static wg_status check_bytes(const wg_source *source, wg_error *error) {
    if (source->size > WG_LANG_SIZE)
        return wg_error_set(error, WG_LIMIT, "%s: a cell's text has at most %d bytes", source->name,
                            WG_LANG_SIZE);
    const char *zero = memchr(source->text, 0, source->size);
    size_t bad = zero ? (size_t)(zero - source->text) : wg__utf8_check(source->text, source->size);
    if (bad == source->size)
        return WG_OK;
    int line = 1, column = 1;
    for (size_t i = 0; i < bad; i++) {
        column = source->text[i] == '\n' ? 1 : column + ((source->text[i] & 0xC0) != 0x80);
        line += source->text[i] == '\n';
    }
    return wg__source_error(source, error, WG_SYNTAX, line, column,
                            "the byte 0x%02X is not text (UTF-8)",
                            (unsigned char)source->text[bad]);
}

static wg_lang *new_lang(wg_memory *memory, const wg_source *source) {
    wg_lang *lang = wg__take0(memory, sizeof *lang);
    if (!lang)
        return NULL;
    lang->arena.memory = memory;
    lang->names = (wg_lookup){.text = name_of, .owner = lang};
    lang->output = -1;
    size_t name = strlen(source->name) + 1;
    char *copy = wg__arena_take(&lang->arena, name + source->size + 1);
    if (!copy) {
        wg__lang_free(lang);
        return NULL;
    }
    memcpy(copy, source->name, name);
    memcpy(copy + name, source->text, source->size);
    copy[name + source->size] = 0;
    lang->source = (wg_source){copy, copy + name, source->size};
    return lang;
}

static wg_lang *parse(wg_memory *memory, const char *name, const char *text, size_t size, bool declares,
                      const wg_cell_options *options, wg_error *error) {
    const wg_cell_options given = options ? *options : (wg_cell_options){0};
    wg_source source = {name, text, size};
    wg_error own = {0}; /* the caller's may hold an earlier failure */
    if (check_bytes(&source, &own) != WG_OK) {
        wg_error_set(error, own.status, "%s", own.text);
        return NULL;
    }
    const int64_t bound = wg__foreign_mark(given.foreign);
    wg_lang *lang = new_lang(memory, &source);
    bool *used = lang ? wg__take0(memory, (size_t)given.settings + 1) : NULL;
    wg_reader *reader = used ? wg__take0(memory, sizeof *reader) : NULL;
    wg_status status = WG_OK;
    if (reader) {
        reader->lang = lang;
        lang->foreign = given.foreign;
        reader->first_use = wg_foreign_count(given.foreign);
        reader->declares = declares;
        reader->error = &own;
        reader->settings = given.settings;
        reader->setting = given.setting;
        reader->setting_used = used;
        read_cell(reader);
        status = reader->parser.status;
    } else {
        status = wg_error_set(&own, wg__refusal(memory), "%s: %s", name,
                              wg_status_sentence(wg__refusal(memory)));
    }
    wg__give(memory, reader);
    wg__give(memory, used);
    if (status == WG_OK)
        return lang;
    wg__foreign_forget(given.foreign, bound); /* what a text that is refused has bound is no function of the next */
    wg_error_set(error, own.status, "%s", own.text);
    wg__lang_free(lang);
    return NULL;
}

wg_lang *wg__lang_parse(wg_memory *memory, const char *name, const char *text, size_t size,
                        const wg_cell_options *options, wg_error *error) {
    return parse(memory, name, text, size, false, options, error);
}

wg_lang *wg__lang_declare(wg_memory *memory, const char *name, const char *text, size_t size, wg_error *error) {
    return parse(memory, name, text, size, true, NULL, error);
}

void wg__lang_free(wg_lang *lang) {
    if (lang) {
        wg_memory *memory = lang->arena.memory;
        wg__give(memory, lang->names.slot);
        wg__give(memory, lang->symbol);
        wg__give(memory, lang->equation);
        wg__give(memory, lang->init);
        wg__give(memory, lang->warning);
        wg__give(memory, lang->extent);
        wg__arena_free(&lang->arena);
        wg__give(memory, lang);
    }
}

/* ---- extents
 * ------------------------------------------------------------------------------------------- */

const wg_extent *wg__lang_extent(const wg_lang *lang, const wg_ast *ast) {
    return ast->shape >= 0 ? &lang->extent[ast->shape] : NULL;
}

bool wg__extent_one(const wg_extent *extent) {
    return extent->rank == 0 || (extent->rank == 1 && wg__formula_one(extent->dim[0]));
}

bool wg__extent_equal(const wg_extent *a, const wg_extent *b) {
    bool equal = a->rank == b->rank;
    for (int i = 0; i < a->rank && equal; i++)
        equal = wg__formula_equal(a->dim[i], b->dim[i]);
    return equal;
}

char *wg__extent_text(const wg_extent *extent, char *text, size_t size) {
    char dim[2][100] = {"", ""};
    for (int i = 0; i < 2 && i < extent->rank; i++)
        if (extent->dim[i])
            wg__formula_text(extent->dim[i], dim[i], sizeof dim[i]);
        else
            strcpy(dim[i], "?"); /* not known yet */
    if (extent->rank == 0)
        snprintf(text, size, "number");
    else
        snprintf(text, size, extent->rank == 1 ? "[%s]" : "[%s, %s]", dim[0], dim[1]);
    return text;
}
