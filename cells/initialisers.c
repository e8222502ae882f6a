/* initialisers.c: init lines to an initialiser for every parameter: patterns, the table of kinds,
 * the default rule, the schemes of other libraries. Touches only the checked tree. */
#include "initialisers.h"

#include "reader.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int least, most;
    bool matrix;
} kinds[] = {
#define ROW(name, least, most, matrix) {#name, least, most, matrix},
    WG_INIT_MAP(ROW)
#undef ROW
};

/* ---- patterns
 * ------------------------------------------------------------------------------------------- */

/* `*` stands for any characters. Linear in the product of the lengths: one star is reconsidered at
 * a time. */
static bool matches(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == 0;
}

/* ---- one line
 * -------------------------------------------------------------------------------------------- */

static int find_kind(const char *name) {
    for (int i = 0; i < WG_INIT_NAMED; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    return -1;
}

/* A kind with its arguments. */
static wg_status read_kind(wg_lang *lang, const wg_init_line *line, const wg_ast *ast, int kind,
                           wg_initialiser *out, wg_error *error) {
    const wg_source *source = &line->source;
    if (ast->n < kinds[kind].least || ast->n > kinds[kind].most)
        return wg__source_error(
            source, error, WG_SYNTAX, ast->line, ast->column,
            kinds[kind].least == kinds[kind].most ? "'%s' takes %d argument%s, not %d"
                                                  : "'%s' takes from %d to 2 arguments%s, not %d",
            ast->name, kinds[kind].least,
            kinds[kind].most == 1 || kinds[kind].least < kinds[kind].most ? "" : "s", ast->n);
    out->kind = (wg_init_kind)kind;
    out->n = ast->n;
    for (int i = 0; i < ast->n; i++) {
        wg_status status = wg__lang_is_number(lang, source, ast->arg[i], error);
        if (status != WG_OK)
            return status;
        out->arg[i] = ast->arg[i];
    }
    return WG_OK;
}

static int find_param(const wg_lang *lang, const wg_ast *ast) {
    int at = ast->kind == WG_AST_NAME ? wg__lang_find(lang, ast->name) : -1;
    return at >= 0 && lang->symbol[at].kind == WG_SYMBOL_PARAM ? at : -1;
}

/* The right side of an init line. */
static wg_status read_value(wg_lang *lang, const wg_init_line *line, wg_initialiser *out,
                            wg_error *error) {
    const wg_ast *ast = line->value;
    *out = (wg_initialiser){.source = line->source, .line = line->line, .of = -1};
    bool named = ast->kind == WG_AST_NAME || ast->kind == WG_AST_CALL;
    int kind = named ? find_kind(ast->name) : -1;
    if (kind >= 0)
        return read_kind(lang, line, ast, kind, out, error);
    out->of = ast->kind == WG_AST_NEGATE ? find_param(lang, ast->arg[0]) : -1;
    if (out->of >= 0) {
        out->kind = WG_INIT_NEGATIVE;
        return WG_OK;
    }
    if (named && wg__lang_find(lang, ast->name) < 0)
        return wg__source_error(&line->source, error, WG_NOT_FOUND, ast->line, ast->column,
                                "there is no initialiser '%s'", ast->name);
    out->kind = WG_INIT_NUMBER;
    out->n = 1;
    out->arg[0] = ast;
    return wg__lang_is_number(lang, &line->source, ast, error);
}

/* Sets the initialiser of every parameter that the line's pattern matches. */
static wg_status apply_line(wg_inits *inits, const wg_init_line *line, bool outside,
                            wg_error *error) {
    wg_lang *lang = inits->lang;
    wg_initialiser value;
    wg_status status = read_value(lang, line, &value, error);
    if (status != WG_OK)
        return status;
    bool matched = false;
    value.outside = outside;
    value.line = outside ? 0 : line->line;
    for (int i = 0; i < lang->params; i++)
        if (matches(line->pattern, lang->symbol[lang->param[i]].name)) {
            inits->of[i] = value;
            matched = true;
        }
    if (matched)
        return WG_OK;
    return wg__source_error(&line->source, error, WG_NOT_FOUND, line->line, line->column,
                            "no parameter of cell %s matches '%s'", lang->name, line->pattern);
}

/* ---- the default rule and the schemes
 * -------------------------------------------------------------------- */

typedef enum scheme { DEFAULT, FAN_IN, PYTORCH, KERAS, FLAX } scheme;

static const char *const schemes[] = {"", "fan_in", "pytorch", "keras", "flax"};

static bool is_square(const wg_symbol *symbol) {
    return symbol->extent.rank == 2 &&
           wg__formula_equal(symbol->extent.dim[0], symbol->extent.dim[1]);
}

static wg_init_kind choose(const wg_symbol *symbol, const wg_use *use, scheme from) {
    bool recurrent = use->on_state && is_square(symbol);
    if (from == FAN_IN)
        return WG_INIT_FAN_IN;
    if (from == PYTORCH)
        return WG_INIT_PYTORCH;
    if (symbol->extent.rank == 2 && from == KERAS)
        return recurrent ? WG_INIT_KERAS_STATE : WG_INIT_KERAS_INPUT;
    if (symbol->extent.rank == 2 && from == FLAX)
        return recurrent ? WG_INIT_orthogonal : WG_INIT_FLAX;
    if (symbol->extent.rank == 2)
        return recurrent ? WG_INIT_orthogonal : WG_INIT_glorot_uniform;
    if (from == KERAS && strcmp(symbol->name, "b_f") == 0)
        return WG_INIT_ones; /* Keras' unit_forget_bias */
    return use->factor ? WG_INIT_NONE : WG_INIT_zeros;
}

/* Keras draws the matrices of all gates as one: counts those of a kind and size, and where this one
 * stands. */
static void count_parts(wg_inits *inits, int param) {
    const wg_lang *lang = inits->lang;
    wg_initialiser *own = &inits->of[param];
    own->part = own->parts = 0;
    for (int i = 0; i < lang->params; i++)
        if (inits->of[i].kind == own->kind &&
            wg__extent_equal(&lang->symbol[lang->param[i]].extent,
                             &lang->symbol[lang->param[param]].extent)) {
            own->part += i < param;
            own->parts++;
        }
}

static void apply_scheme(wg_inits *inits, const wg_use *use, scheme from) {
    const wg_lang *lang = inits->lang;
    for (int i = 0; i < lang->params; i++) {
        int at = lang->param[i], products = use[at].products;
        bool bias = lang->symbol[at].extent.rank == 1 && use[at].added && !use[at].factor;
        inits->of[i] = (wg_initialiser){.kind = choose(&lang->symbol[at], &use[at], from),
                                        .of = -1,
                                        .outside = from != DEFAULT,
                                        .draws = bias && products > 1 ? 2 : 1};
    }
    for (int i = 0; i < lang->params; i++)
        count_parts(inits, i);
}

/* ---- all lines
 * --------------------------------------------------------------------------------------------- */

/* "PATTERN=INITIALISER" from outside. */
static wg_status read_outside(wg_inits *inits, const char *text, wg_init_line *line,
                              wg_error *error) {
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : 0;
    char shown[100];
    if (!equals)
        return wg_error_set(error, WG_SYNTAX,
                            "init %s: neither PATTERN=INITIALISER nor one of pytorch, keras, flax",
                            wg__quote(text, shown, sizeof shown));
    while (size && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        size--;
    char *pattern = wg__arena_take(&inits->arena, size + 1);
    if (!pattern)
        return wg_error_set(error, wg__refusal(inits->arena.memory), "init: %s",
                            wg_status_sentence(wg__refusal(inits->arena.memory)));
    memcpy(pattern, text, size);
    pattern[size] = 0;
    *line = (wg_init_line){.pattern = pattern,
                           .source = {"init", equals + 1, strlen(equals + 1)},
                           .line = 1,
                           .column = 1};
    wg_ast *ast;
    wg_status status = wg__expr_parse(&line->source, &inits->arena, &ast, error);
    line->value = ast;
    return status;
}

static wg_status apply_outside(wg_inits *inits, const wg_use *use, const char *text,
                               wg_error *error) {
    for (int i = 1; i < WG_LEN(schemes); i++)
        if (strcmp(schemes[i], text) == 0) {
            apply_scheme(inits, use, (scheme)i);
            return WG_OK;
        }
    size_t size = strlen(text) + 1;
    char *copy = wg__arena_take(&inits->arena, size);
    wg_init_line line;
    if (!copy)
        return wg_error_set(error, wg__refusal(inits->arena.memory), "init: %s",
                            wg_status_sentence(wg__refusal(inits->arena.memory)));
    memcpy(copy, text, size);
    wg_status status = read_outside(inits, copy, &line, error);
    return status == WG_OK ? apply_line(inits, &line, true, error) : status;
}

/* The place of an initialiser: its line, or the parameter's where there is none. */
static wg_status wrong(const wg_inits *inits, int param, wg_error *error, const char *message) {
    const wg_initialiser *own = &inits->of[param];
    const wg_symbol *symbol = &inits->lang->symbol[inits->lang->param[param]];
    if (own->outside && own->n)
        return wg__source_error(&own->source, error, WG_RANGE, own->arg[0]->line,
                                own->arg[0]->column, "%s ('%s')", message, symbol->name);
    return wg__source_error(&inits->lang->source, error, WG_RANGE,
                            own->line ? own->line : symbol->line, own->line ? 1 : symbol->column,
                            "%s ('%s')", message, symbol->name);
}

/* The last matches: do they fit their parameters? */
static wg_status check_fit(const wg_inits *inits, int param, wg_error *error) {
    const wg_lang *lang = inits->lang;
    const wg_initialiser *own = &inits->of[param];
    const wg_symbol *symbol = &lang->symbol[lang->param[param]];
    if (own->kind < WG_INIT_NAMED && kinds[own->kind].matrix && symbol->extent.rank != 2)
        return wrong(inits, param, error, "this initialiser is for matrices only");
    if (own->kind == WG_INIT_spectral && !is_square(symbol))
        return wrong(inits, param, error, "a spectral radius is of square matrices only");
    for (int steps = 0; own->kind == WG_INIT_NEGATIVE; steps++) {
        const wg_symbol *other = &lang->symbol[own->of];
        if (!wg__extent_equal(&symbol->extent, &other->extent))
            return wrong(inits, param, error, "the negative of a parameter of another shape");
        if (steps > lang->params)
            return wrong(inits, param, error, "parameters that are each the negative of the other");
        own = &inits->of[wg__lang_param(lang, own->of)];
    }
    return WG_OK;
}

static wg_status fill(wg_inits *inits, int lines, const char *const *line, wg_error *error) {
    wg_lang *lang = inits->lang;
    const wg_use *use = wg__param_uses(lang, &inits->arena);
    inits->of = wg__arena_take(&inits->arena, ((size_t)lang->params + 1) * sizeof *inits->of);
    if (!use || !inits->of) {
        wg_status refusal = wg__refusal(inits->arena.memory);
        return wg_error_set(error, refusal, "%s: %s", lang->source.name,
                            wg_status_sentence(refusal));
    }
    apply_scheme(inits, use, DEFAULT);
    wg_status status = WG_OK;
    for (int i = 0; i < lang->inits && status == WG_OK; i++)
        status = apply_line(inits, &lang->init[i], false, error);
    for (int i = 0; i < lines && status == WG_OK; i++)
        status = apply_outside(inits, use, line[i], error);
    for (int i = 0; i < lang->params && status == WG_OK; i++)
        status = check_fit(inits, i, error);
    return status;
}

wg_inits *wg__inits_new(wg_memory *memory, wg_lang *lang, int lines, const char *const *line,
                        wg_error *error) {
    wg_inits *inits = wg__take0(memory, sizeof *inits);
    if (!inits) {
        wg_error_set(error, wg__refusal(memory), "%s: %s", lang->source.name,
                     wg_status_sentence(wg__refusal(memory)));
        return NULL;
    }
    inits->arena.memory = memory;
    inits->lang = lang;
    if (fill(inits, lines, line, error) == WG_OK)
        return inits;
    wg__inits_free(inits);
    return NULL;
}

void wg__inits_free(wg_inits *inits) {
    if (inits) {
        wg_memory *memory = inits->arena.memory;
        wg__arena_free(&inits->arena);
        wg__give(memory, inits);
    }
}

void wg__check_inits(wg_reader *reader) {
    wg_inits *inits =
        wg__inits_new(reader->lang->arena.memory, reader->lang, 0, NULL, reader->error);
    if (!inits)
        wg__reader_failed(reader, reader->error->status);
    wg__inits_free(inits);
}

wg_status wg__inits_complete(const wg_inits *inits, wg_error *error) {
    const wg_lang *lang = inits->lang;
    for (int i = 0; i < lang->params; i++) {
        const wg_symbol *symbol = &lang->symbol[lang->param[i]];
        if (inits->of[i].kind == WG_INIT_NONE)
            return wg__source_error(
                &lang->source, error, WG_NOT_FOUND, symbol->line, symbol->column,
                "'%s' is a factor, which has no default: add a line 'init %s = …'", symbol->name,
                symbol->name);
    }
    return WG_OK;
}

/* ---- text
 * -------------------------------------------------------------------------------------------------
 */

char *wg__inits_text(const wg_inits *inits, int param, char *text, size_t size) {
    const wg_initialiser *own = &inits->of[param];
    char a[100] = "", b[100] = "";
    if (own->n > 0)
        wg__ast_text(own->arg[0], a, sizeof a);
    if (own->n > 1)
        wg__ast_text(own->arg[1], b, sizeof b);
    switch (own->kind) {
    case WG_INIT_NUMBER: snprintf(text, size, "%s", a); break;
    case WG_INIT_NEGATIVE: snprintf(text, size, "-%s", inits->lang->symbol[own->of].name); break;
    case WG_INIT_NONE: snprintf(text, size, "none: give an init line"); break;
    case WG_INIT_FAN_IN: snprintf(text, size, "normal, variance 1/fan_in"); break;
    case WG_INIT_PYTORCH: snprintf(text, size, "pytorch"); break;
    case WG_INIT_FLAX: snprintf(text, size, "flax"); break;
    case WG_INIT_KERAS_INPUT:
    case WG_INIT_KERAS_STATE: snprintf(text, size, "keras"); break;
    default:
        snprintf(text, size,
                 own->n == 2   ? "%s(%s, %s)"
                 : own->n == 1 ? "%s(%s)"
                               : "%s",
                 kinds[own->kind].name, a, b);
    }
    return text;
}

/* ---- values
 * ------------------------------------------------------------------------------------------------
 */

/* FNV-1a, so that a parameter's values follow from its name and not from its place. */
static uint64_t hash(const char *name) {
    uint64_t h = 14695981039346656037u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

/* Draws for one parameter what its initialiser, found through negatives, says. */
static wg_status draw(const wg_inits *inits, int param, const wg_shape *shape, int64_t input,
                      int64_t hidden, wg_random random, wg_drawing *drawing, wg_error *error) {
    const wg_lang *lang = inits->lang;
    const wg_initialiser *own = &inits->of[param];
    bool joint = own->kind == WG_INIT_KERAS_STATE;
    *drawing = (wg_drawing){.kind = own->kind,
                            .rank = shape->rank,
                            .rows = shape->rank ? shape->dim[0] : 1,
                            .columns = shape->rank == 2 ? shape->dim[1] : 1,
                            .n = own->n,
                            .draws = own->draws,
                            .part = own->part,
                            .parts = own->parts,
                            .hidden = hidden,
                            .random = random,
                            .memory = inits->arena.memory,
                            .value = drawing->value};
    drawing->random.stream += joint ? 0 : hash(lang->symbol[lang->param[param]].name);
    for (int i = 0; i < own->n; i++) {
        wg_status status = wg__lang_number(lang, &own->source, own->arg[i], input, hidden,
                                           &drawing->arg[i], error);
        if (status != WG_OK)
            return status;
    }
    wg_status status = WG_OK;
    const char *why = wg__draw(drawing, &status);
    if (why)
        return wrong(inits, param, error, why);
    return status == WG_OK ? WG_OK
                           : wg_error_set(error, status, "%s: %s", lang->source.name,
                                          wg_status_sentence(status));
}

wg_status wg__inits_draw(const wg_inits *inits, int param, int64_t input, int64_t hidden,
                         uint64_t seed, uint64_t layer, wg_tensor *tensor, wg_error *error) {
    const wg_lang *lang = inits->lang;
    double sign = 1;
    wg_shape shape;
    wg_drawing drawing = {0};
    wg_random random = {.seed = seed, .stream = layer * 0x9E3779B97F4A7C15u};
    wg_status status = wg__lang_shape(lang, lang->param[param], input, hidden, &shape, error);
    if (status != WG_OK)
        return status;
    if (!wg__shape_same(&shape, wg_tensor_shape(tensor)) || wg_tensor_dtype(tensor) == WG_I32)
        return wg_error_set(error, WG_SHAPE,
                            "%s: '%s' cannot be drawn into a tensor of another shape or type",
                            lang->source.name, lang->symbol[lang->param[param]].name);
    for (; inits->of[param].kind == WG_INIT_NEGATIVE; sign = -sign)
        param = wg__lang_param(lang, inits->of[param].of);
    drawing.value = wg__take(inits->arena.memory, wg__size((size_t)shape.count, sizeof(double), 8));
    status = drawing.value ? draw(inits, param, &shape, input, hidden, random, &drawing, error)
                           : wg_error_set(error, wg__refusal(inits->arena.memory), "%s: %s",
                                          lang->source.name,
                                          wg_status_sentence(wg__refusal(inits->arena.memory)));
    void *data = status == WG_OK ? wg_tensor_write(tensor) : NULL;
    bool single = wg_tensor_dtype(tensor) == WG_F32;
    for (int64_t i = 0; data && i < shape.count; i++)
        if (single)
            ((float *)data)[i] = (float)(sign * drawing.value[i]);
        else
            ((double *)data)[i] = sign * drawing.value[i];
    wg__give(inits->arena.memory, drawing.value);
    return status;
}
