/* model_file.c: models in safetensors files: parameters as tensors, everything else in the metadata. Reading treats the
 * file as hostile: every size is checked against the tensors. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The format this library writes, and the highest it reads. */
enum { FORMAT_VERSION = 1 };

/* The whole numbers of a model, by the key they have in the metadata. */
static const struct {
    const char *key;
    size_t offset;
    bool is_int;
} numbers[] = {
    {"wengert.vocabulary", offsetof(wg_model_options, vocabulary), false},
    {"wengert.embed", offsetof(wg_model_options, embed), false},
    {"wengert.input", offsetof(wg_model_options, input), false},
    {"wengert.hidden", offsetof(wg_model_options, hidden), false},
    {"wengert.layers", offsetof(wg_model_options, layers), true},
    {"wengert.outputs", offsetof(wg_model_options, outputs), false},
};
static const char format_key[] = "wengert.format", cell_key[] = "wengert.cell", name_key[] = "wengert.cell.name",
                  settings_key[] = "wengert.cell.set", dtype_key[] = "wengert.dtype";

static bool own_key(const char *key) { return strncmp(key, "wengert.", 8) == 0; }

static wg_status put_meta(const wg_model *model, wg_params *file) {
    char text[64];
    wg_status status = WG_OK;
    snprintf(text, sizeof text, "%d", FORMAT_VERSION);
    const char *const pairs[][2] = {{format_key, text},
                                    {cell_key, wg_cell_text(model->cell)},
                                    {name_key, model->cell->lang->source.name},
                                    {settings_key, model->cell->settings ? model->cell->settings : ""},
                                    {dtype_key, wg_dtype_name(model->options.dtype)}};
    for (int i = 0; i < WG_LEN(pairs) && status == WG_OK; i++)
        status = wg_params_set_meta(file, pairs[i][0], pairs[i][1]);
    for (int i = 0; i < WG_LEN(numbers) && status == WG_OK; i++) {
        const char *at = (const char *)&model->options + numbers[i].offset;
        long long value = numbers[i].is_int ? *(const int *)at : *(const int64_t *)at;
        snprintf(text, sizeof text, "%lld", value);
        status = wg_params_set_meta(file, numbers[i].key, text);
    }
    return status;
}

static wg_status put_tensors(wg_params *file, const wg_params *from, const char **name) {
    wg_status status = WG_OK;
    for (int i = 0; from && i < wg_params_count(from) && status == WG_OK; i++)
        status = wg_params_add(file, *name = wg_params_name(from, i), wg_params_tensor(from, i));
    return status;
}

static wg_status put_notes(wg_params *file, const wg_params *from, const char **key) {
    wg_status status = WG_OK;
    for (int i = 0; from && i < wg_params_meta_count(from) && status == WG_OK; i++) {
        *key = wg_params_meta_key(from, i);
        status = own_key(*key) ? WG_CONFLICT : wg_params_set_meta(file, *key, wg_params_meta(from, *key));
    }
    return status;
}

wg_status wg_model_save(const wg_model *model, const wg_params *more, const char *path, wg_error *error) {
    wg_params *file = wg_params_new(model->memory);
    const char *name = "model";
    wg_status status = file ? put_tensors(file, model->params, &name) : wg__refusal(model->memory);
    if (status == WG_OK)
        status = put_tensors(file, more, &name);
    if (status == WG_OK)
        status = put_notes(file, more, &name);
    if (status == WG_OK) {
        name = "model";
        status = put_meta(model, file);
    }
    if (status != WG_OK)
        wg_error_set(error, status, "%.300s: %.200s: %s", path, name, wg_status_sentence(status));
    else
        status = wg_params_save(file, path, error);
    wg_params_free(file);
    return status;
}

/* ---- reading ---- */

static const char *need_meta(const wg_params *file, const char *key, const char *path, wg_error *error) {
    const char *value = wg_params_meta(file, key);
    if (!value)
        wg_error_set(error, WG_FORMAT, "%s: not a model: its metadata has no %s", path, key);
    return value;
}

static wg_status whole_number(const char *text, const char *key, const char *path, int64_t *value, wg_error *error) {
    int64_t number = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 10; digits++)
        number = number * 10 + (text[digits] - '0');
    if (digits == 0 || text[digits] || number > INT32_MAX)
        return wg_error_set(error, WG_FORMAT, "%s: %s is not a size", path, key);
    *value = number;
    return WG_OK;
}

static wg_status read_options(const wg_params *file, const char *path, wg_model_options *o, wg_error *error) {
    int64_t version = 0;
    const char *text = need_meta(file, format_key, path, error);
    if (!text || whole_number(text, format_key, path, &version, error) != WG_OK)
        return WG_FORMAT;
    if (version < 1 || version > FORMAT_VERSION)
        return wg_error_set(error, WG_VERSION, "%s: a model of format %s, and this library reads 1 to %d", path, text,
                            FORMAT_VERSION);
    for (int i = 0; i < WG_LEN(numbers); i++) {
        int64_t value = 0;
        text = need_meta(file, numbers[i].key, path, error);
        if (!text || whole_number(text, numbers[i].key, path, &value, error) != WG_OK)
            return WG_FORMAT;
        char *at = (char *)o + numbers[i].offset;
        if (numbers[i].is_int)
            *(int *)at = (int)value;
        else
            *(int64_t *)at = value;
    }
    text = need_meta(file, dtype_key, path, error);
    if (!text)
        return WG_FORMAT;
    o->dtype = strcmp(text, wg_dtype_name(WG_F64)) == 0 ? WG_F64 : WG_F32;
    if (strcmp(text, wg_dtype_name(o->dtype)) != 0)
        return wg_error_set(error, WG_FORMAT, "%s: %s is neither f32 nor f64", path, dtype_key);
    if (o->layers > 1000)
        return wg_error_set(error, WG_FORMAT, "%s: %d layers are too many", path, o->layers);
    return WG_OK;
}

/* NAME=VALUE lines, cut in place; setting: room for every line. -1 if a line is not of that form. */
static int read_settings(char *text, wg_setting *setting) {
    int n = 0;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n'), *equals = strchr(line, '=');
        if (!end || !equals || equals > end)
            return -1;
        *end = *equals = 0;
        setting[n++] = (wg_setting){line, equals + 1};
        line = end + 1;
    }
    return n;
}

static size_t count_lines(const char *text) {
    size_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static wg_cell *read_cell(wg_memory *memory, const wg_params *file, const char *path, wg_foreign *foreign, wg_error *error) {
    const char *text = need_meta(file, cell_key, path, error), *name = need_meta(file, name_key, path, error);
    const char *lines = need_meta(file, settings_key, path, error);
    if (!text || !name || !lines)
        return NULL;
    char *copy = wg__strdup(memory, lines);
    wg_setting *setting = wg__take(memory, wg__size(count_lines(lines), sizeof *setting, 1));
    wg_cell *cell = NULL;
    int n = copy && setting ? read_settings(copy, setting) : 0;
    if (!copy || !setting)
        wg_error_set(error, wg__refusal(memory), "%s: %s", path, wg_status_sentence(wg__refusal(memory)));
    else if (n < 0)
        wg_error_set(error, WG_FORMAT, "%s: %s is not lines of NAME=VALUE", path, settings_key);
    else
        cell = wg_cell_parse_with(memory, name, text, strlen(text), &(wg_cell_options){n, setting, foreign}, error);
    wg__give(memory, copy);
    wg__give(memory, setting);
    return cell;
}

static wg_status take_param(wg_model *model, const wg_params *file, const char *name, int rank, const int64_t *dim,
                            bool fixed, const char *path, wg_error *error) {
    wg_tensor *tensor = wg_params_find(file, name);
    wg_shape want;
    char a[96], b[96];
    if (!tensor)
        return wg_error_set(error, WG_FORMAT, "%s: the model's parameter %s is missing", path, name);
    if (wg__shape_set(&want, rank, dim) != WG_OK || !wg__shape_same(&want, wg_tensor_shape(tensor)) ||
        wg_tensor_dtype(tensor) != model->options.dtype)
        return wg_error_set(error, WG_FORMAT, "%s: parameter %s is %s %s, not %s %s", path, name,
                            wg_dtype_name(wg_tensor_dtype(tensor)),
                            wg_shape_text(wg_tensor_shape(tensor), a, sizeof a), wg_dtype_name(model->options.dtype),
                            wg_shape_text(&want, b, sizeof b));
    wg_status status = wg_params_add(model->params, name, tensor);
    if (status != WG_OK)
        return wg_error_set(error, status, "%s: %s", path, wg_status_sentence(status));
    wg_params_set_fixed(model->params, wg_params_count(model->params) - 1, fixed);
    return WG_OK;
}

static wg_status take_layer(wg_model *model, int layer, const wg_params *file, const char *path, wg_error *error) {
    const wg_lang *lang = model->cell->lang;
    wg_status status = WG_OK;
    for (int i = 0; i < lang->params && status == WG_OK; i++) {
        const wg_symbol *symbol = &lang->symbol[lang->param[i]];
        wg_layer_name name;
        wg_shape shape;
        status = wg__lang_shape(lang, lang->param[i], wg__model_input(model, layer), model->options.hidden, &shape, error);
        if (status == WG_OK)
            status = take_param(model, file, wg__layer_name(&name, layer, symbol->name), shape.rank, shape.dim,
                                symbol->fixed, path, error);
    }
    return status;
}

static wg_status take_params(wg_model *model, const wg_params *file, const char *path, wg_error *error) {
    const wg_model_options *o = &model->options;
    wg_status status = WG_OK;
    if (o->vocabulary && o->embed)
        status = take_param(model, file, "embedding", 2, (const int64_t[]){o->vocabulary, o->embed}, false, path, error);
    for (int layer = 0; layer < o->layers && status == WG_OK; layer++)
        status = take_layer(model, layer, file, path, error);
    if (o->outputs && status == WG_OK)
        status = take_param(model, file, "output.W", 2, (const int64_t[]){o->outputs, model->width}, false, path, error);
    if (o->outputs && status == WG_OK)
        status = take_param(model, file, "output.b", 1, &o->outputs, false, path, error);
    return status;
}

/* What the file holds beside the model. */
static wg_params *rest_of(const wg_model *model, const wg_params *file) {
    wg_params *rest = wg_params_new(model->memory);
    wg_status status = rest ? WG_OK : WG_MEMORY;
    for (int i = 0; i < wg_params_count(file) && status == WG_OK; i++)
        if (!wg_params_find(model->params, wg_params_name(file, i)))
            status = wg_params_add(rest, wg_params_name(file, i), wg_params_tensor(file, i));
    for (int i = 0; i < wg_params_meta_count(file) && status == WG_OK; i++)
        if (!own_key(wg_params_meta_key(file, i)))
            status = wg_params_set_meta(rest, wg_params_meta_key(file, i),
                                        wg_params_meta(file, wg_params_meta_key(file, i)));
    if (status != WG_OK) {
        wg_params_free(rest);
        return NULL;
    }
    return rest;
}

/* Takes `file`, which may be NULL: then *error says why. */
static wg_model *from_params(wg_memory *memory, wg_params *file, const char *path, wg_foreign *foreign, wg_params **more,
                             wg_error *error) {
    wg_model_options options = {0};
    wg_model *model = NULL;
    wg_params *rest = NULL;
    bool good = false;
    if (more)
        *more = NULL;
    if (file && read_options(file, path, &options, error) == WG_OK) {
        wg_cell *cell = read_cell(memory, file, path, foreign, error);
        if (cell)
            model = wg__model_empty(memory, cell, &options, error);
        good = model && take_params(model, file, path, error) == WG_OK;
    }
    if (good && more && !(rest = rest_of(model, file))) {
        wg_error_set(error, wg__refusal(memory), "%s: %s", path, wg_status_sentence(wg__refusal(memory)));
        good = false;
    }
    wg_params_free(file);
    if (!good) {
        wg_model_free(model);
        return NULL;
    }
    if (more)
        *more = rest;
    return model;
}

/* Passes a failure on, with the file it is in. The caller's error may hold an earlier one. */
static wg_model *told(wg_model *model, const char *path, const wg_error *own, wg_error *error) {
    bool named = strncmp(own->text, path, strlen(path)) == 0;
    if (!model)
        wg_error_set(error, own->status, "%.300s%s%s", named ? "" : path, named ? "" : ": ", own->text);
    return model;
}

wg_model *wg__model_parse(wg_memory *memory, const void *bytes, size_t size, const char *name, wg_params **more,
                          wg_error *error) {
    wg_error own = {0};
    wg_params *file = wg_params_parse(memory, bytes, size, name, &own);
    return told(from_params(memory, file, name, NULL, more, &own), name, &own, error);
}

wg_model *wg_model_load(wg_memory *memory, const char *path, wg_params **more, wg_error *error) {
    return wg_model_load_with(memory, path, NULL, more, error);
}

wg_model *wg_model_load_with(wg_memory *memory, const char *path, wg_foreign *foreign, wg_params **more, wg_error *error) {
    wg_error own = {0};
    wg_params *file = wg_params_load(memory, path, &own);
    return told(from_params(memory, file, path, foreign, more, &own), path, &own, error);
}
