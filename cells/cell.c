/* cell.c: a cell as users hold it: from text, a file, the zoo or a C function; what it declares; its parameters drawn. */
#include "cell.h"

#include "initialisers.h"
#include "zoo.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST_NAME = 160 }; /* of a file, in bytes */

/* NAME=VALUE lines of the settings, so that a model file can repeat them. */
static char *settings_text(wg_memory *memory, int n, const wg_setting *setting) {
    size_t size = 1;
    for (int i = 0; i < n; i++)
        size += strlen(setting[i].name) + strlen(setting[i].value) + 2;
    char *text = wg__take(memory, size), *at = text;
    if (text)
        *text = 0;
    for (int i = 0; i < n && text; i++)
        at += sprintf(at, "%s=%s\n", setting[i].name, setting[i].value);
    return text;
}

/* Takes over a parsed text. */
static wg_cell *adopt(wg_memory *memory, wg_lang *lang, int settings, const wg_setting *setting, wg_error *error) {
    if (!lang)
        return NULL;
    wg_cell *cell = wg__take0(memory, sizeof *cell);
    char *lines = settings_text(memory, settings, setting);
    if (!cell || !lines) {
        wg__lang_free(lang);
        wg__give(memory, lines);
        wg__give(memory, cell);
        wg_error_set(error, wg__refusal(memory), "cell: %s", wg_status_sentence(wg__refusal(memory)));
        return NULL;
    }
    *cell = (wg_cell){.memory = memory, .lang = lang, .settings = lines};
    return cell;
}

/* Settings are kept as lines, so each must be one. */
static wg_status check_settings(const char *name, int n, const wg_setting *setting, wg_error *error) {
    char shown[80];
    for (int i = 0; i < n; i++)
        for (const unsigned char *c = (const unsigned char *)setting[i].value; *c; c++)
            if (*c < ' ' || *c == 127)
                return wg_error_set(error, WG_SYNTAX, "%s: what %s is set to is not one line of text", name,
                                    wg__quote(setting[i].name, shown, sizeof shown));
    return WG_OK;
}

/* Whether a file's name can stand in messages, and in the metadata of a model, as it is. */
static bool presentable(const char *name) {
    size_t size = strlen(name);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127)
            return false;
    return size > 0 && size <= LONGEST_NAME && wg__utf8_check(name, size) == size;
}

wg_cell *wg_cell_parse(wg_memory *memory, const char *name, const char *text, size_t size, int settings,
                       const wg_setting *setting, wg_error *error) {
    return wg_cell_parse_with(memory, name, text, size, &(wg_cell_options){settings, setting, NULL}, error);
}

wg_cell *wg_cell_parse_with(wg_memory *memory, const char *name, const char *text, size_t size, const wg_cell_options *options,
                            wg_error *error) {
    char shown[LONGEST_NAME];
    if (!presentable(name))
        name = wg__quote(name, shown, sizeof shown);
    if (check_settings(name, options->settings, options->setting, error) != WG_OK)
        return NULL;
    wg_lang *lang = wg__lang_parse(memory, name, text, size, options, error);
    return adopt(memory, lang, options->settings, options->setting, error);
}

wg_cell *wg_cell_new(wg_memory *memory, const char *declarations, wg_status (*step)(wg_step *step, void *user),
                     void *user, wg_error *error) {
    wg_lang *lang = wg__lang_declare(memory, "declarations", declarations, strlen(declarations), error);
    wg_cell *cell = adopt(memory, lang, 0, NULL, error);
    if (cell) {
        cell->step = step;
        cell->user = user;
    }
    return cell;
}

wg_cell *wg_cell_load(wg_memory *memory, const char *path, int settings, const wg_setting *setting,
                      wg_error *error) {
    return wg_cell_load_with(memory, path, &(wg_cell_options){settings, setting, NULL}, error);
}

wg_cell *wg_cell_load_with(wg_memory *memory, const char *path, const wg_cell_options *options, wg_error *error) {
    const char *known = wg_zoo_text(path);
    if (known) {
        char name[128];
        snprintf(name, sizeof name, "%s.cell", path);
        return wg_cell_parse_with(memory, name, known, strlen(known), options, error);
    }
    size_t size;
    char *text = wg__file_read(memory, path, &size, error);
    if (!text)
        return NULL;
    const char *slash = strrchr(path, '/');
    wg_cell *cell = wg_cell_parse_with(memory, slash ? slash + 1 : path, text, size, options, error);
    wg__give(memory, text);
    return cell;
}

void wg_cell_free(wg_cell *cell) {
    if (cell) {
        wg__lang_free(cell->lang);
        wg__give(cell->memory, cell->settings);
        wg__give(cell->memory, cell);
    }
}

/* ---- what it declares ---- */

const char *wg_cell_name(const wg_cell *cell) { return cell->lang->name; }
const char *wg_cell_cite(const wg_cell *cell) { return cell->lang->cite ? cell->lang->cite : ""; }
const char *wg_cell_text(const wg_cell *cell) { return cell->lang->source.text; }
int wg_cell_inputs(const wg_cell *cell) { return cell->lang->inputs; }
int wg_cell_states(const wg_cell *cell) { return cell->lang->states; }
int wg_cell_params(const wg_cell *cell) { return cell->lang->params; }

static const char *name_at(const wg_cell *cell, const int *list, int n, int i) {
    return i >= 0 && i < n ? cell->lang->symbol[list[i]].name : NULL;
}

const char *wg_cell_input(const wg_cell *cell, int i) {
    return name_at(cell, cell->lang->input, cell->lang->inputs, i);
}
const char *wg_cell_state(const wg_cell *cell, int i) {
    return name_at(cell, cell->lang->state, cell->lang->states, i);
}
const char *wg_cell_param(const wg_cell *cell, int i) {
    return name_at(cell, cell->lang->param, cell->lang->params, i);
}
const char *wg_cell_output(const wg_cell *cell) { return cell->lang->symbol[cell->lang->output].name; }
int wg_cell_warnings(const wg_cell *cell) { return (int)cell->lang->warnings; }
const char *wg_cell_warning(const wg_cell *cell, int i) {
    return i >= 0 && i < cell->lang->warnings ? cell->lang->warning[i].text : NULL;
}

wg_status wg_cell_shape(const wg_cell *cell, const char *name, int64_t input, int64_t hidden, wg_shape *shape,
                        wg_error *error) {
    int symbol = wg__lang_find(cell->lang, name);
    if (symbol < 0)
        return wg_error_set(error, WG_NOT_FOUND, "%s: it has no name %.100s", wg_cell_name(cell), name);
    return wg__lang_shape(cell->lang, symbol, input, hidden, shape, error);
}

/* ---- parameters ---- */

static wg_status draw_one(wg_params *params, const wg_cell *cell, const wg_inits *inits, int i, wg_dtype dtype,
                          int64_t input, int64_t hidden, const wg_draw *draw, wg_error *error) {
    const wg_symbol *symbol = &cell->lang->symbol[cell->lang->param[i]];
    wg_shape shape;
    wg_status status = wg__lang_shape(cell->lang, cell->lang->param[i], input, hidden, &shape, error);
    if (status != WG_OK)
        return status;
    wg_tensor *tensor = wg_tensor_new(wg__params_memory(params), dtype, shape.rank, shape.dim);
    if (!tensor)
        return wg_error_set(error, wg__refusal(wg__params_memory(params)), "%s: no memory for %s", wg_cell_name(cell),
                            symbol->name);
    status = wg__inits_draw(inits, i, input, hidden, draw->seed, draw->layer, tensor, error);
    if (status == WG_OK && (status = wg_params_add(params, symbol->name, tensor)) != WG_OK)
        wg_error_set(error, status, "%s: %s: %s", wg_cell_name(cell), symbol->name, wg_status_sentence(status));
    wg_tensor_free(tensor);
    if (status == WG_OK)
        wg_params_set_fixed(params, i, symbol->fixed);
    return status;
}

wg_params *wg_cell_draw(wg_memory *memory, const wg_cell *cell, wg_dtype dtype, int64_t input, int64_t hidden,
                        const wg_draw *draw, wg_error *error) {
    static const wg_draw plain;
    static const char *const check_line[] = {"fan_in"};
    if (!draw)
        draw = &plain;
    wg_inits *inits = wg__inits_new(memory, cell->lang, draw->check ? 1 : draw->lines,
                                    draw->check ? check_line : draw->line, error);
    wg_params *params = inits ? wg_params_new(memory) : NULL;
    wg_status status = params ? wg__inits_complete(inits, error) : WG_MEMORY;
    if (inits && !params)
        wg_error_set(error, wg__refusal(memory), "%s: no memory for its parameters", wg_cell_name(cell));
    for (int i = 0; i < cell->lang->params && status == WG_OK; i++)
        status = draw_one(params, cell, inits, i, dtype, input, hidden, draw, error);
    wg__inits_free(inits);
    if (status != WG_OK) {
        wg_params_free(params);
        return NULL;
    }
    return params;
}

/* ---- the zoo ---- */

int wg_zoo_count(void) { return wg__zoo_count; }

const char *wg_zoo_name(int i) { return i >= 0 && i < wg__zoo_count ? wg__zoo[i].name : NULL; }

const char *wg_zoo_text(const char *name) {
    for (int i = 0; i < wg__zoo_count; i++)
        if (strcmp(wg__zoo[i].name, name) == 0)
            return wg__zoo[i].text;
    return NULL;
}
