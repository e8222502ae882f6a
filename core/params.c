/* params.c: the ordered set of named tensors with string metadata. Touches tensors and memory; files are elsewhere. */
#include "core.h"

#include <string.h>

typedef struct entry {
    char *name;
    wg_tensor *tensor;
    bool fixed;
} entry;

typedef struct note {
    char *key, *value;
} note;

struct wg_params {
    wg_memory *memory;
    wg_lookup names, keys;
    entry *entries;
    note *notes;
    int64_t count, room;
    int64_t note_count, note_room;
};

static const char *name_of(const void *params, int64_t i) { return ((const wg_params *)params)->entries[i].name; }
static const char *key_of(const void *params, int64_t i) { return ((const wg_params *)params)->notes[i].key; }

wg_params *wg_params_new(wg_memory *memory) {
    wg_params *params = wg__take0(memory, sizeof *params);
    if (!params)
        return NULL;
    params->memory = memory;
    params->names = (wg_lookup){.text = name_of, .owner = params};
    params->keys = (wg_lookup){.text = key_of, .owner = params};
    return params;
}

void wg_params_free(wg_params *params) {
    if (!params)
        return;
    for (int64_t i = 0; i < params->count; i++) {
        wg__give(params->memory, params->entries[i].name);
        wg_tensor_free(params->entries[i].tensor);
    }
    for (int64_t i = 0; i < params->note_count; i++) {
        wg__give(params->memory, params->notes[i].key);
        wg__give(params->memory, params->notes[i].value);
    }
    wg__give(params->memory, params->names.slot);
    wg__give(params->memory, params->keys.slot);
    wg__give(params->memory, params->entries);
    wg__give(params->memory, params->notes);
    wg__give(params->memory, params);
}

wg_memory *wg__params_memory(const wg_params *params) { return params->memory; }

static bool valid(const char *text) {
    size_t size = text ? strlen(text) : 0;
    return text && wg__utf8_check(text, size) == size;
}

/* ---- tensors ---- */

int wg_params_count(const wg_params *params) { return (int)params->count; }

static entry *at(const wg_params *params, int i) {
    return i >= 0 && i < params->count ? &params->entries[i] : NULL;
}

const char *wg_params_name(const wg_params *params, int i) {
    return at(params, i) ? at(params, i)->name : NULL;
}

wg_tensor *wg_params_tensor(const wg_params *params, int i) {
    return at(params, i) ? at(params, i)->tensor : NULL;
}

wg_tensor *wg_params_find(const wg_params *params, const char *name) {
    int64_t i = name ? wg__lookup_find(&params->names, name) : -1;
    return i < 0 ? NULL : params->entries[i].tensor;
}

bool wg_params_fixed(const wg_params *params, int i) {
    return at(params, i) && at(params, i)->fixed;
}

void wg_params_set_fixed(wg_params *params, int i, bool fixed) {
    if (at(params, i))
        at(params, i)->fixed = fixed;
}

wg_status wg__params_push(wg_params *params, const char *name, wg_tensor *tensor) {
    wg_memory *memory = params->memory;
    void *entries = params->entries;
    if (params->count >= INT32_MAX)
        return WG_RANGE;
    bool room = wg__lookup_room(&params->names, memory) &&
                wg__room(memory, &entries, params->count, &params->room, sizeof(entry));
    params->entries = entries;
    char *copy = room ? wg__strdup(memory, name) : NULL;
    if (!copy)
        return wg__refusal(memory);
    params->entries[params->count++] = (entry){copy, wg_tensor_retain(tensor), false};
    wg__lookup_enter(&params->names);
    return WG_OK;
}

wg_status wg_params_add(wg_params *params, const char *name, wg_tensor *tensor) {
    if (!tensor || !valid(name) || !name[0])
        return WG_ARGUMENT;
    return wg_params_find(params, name) ? WG_CONFLICT : wg__params_push(params, name, tensor);
}

/* ---- metadata ---- */

static note *note_find(const wg_params *params, const char *key) {
    int64_t i = key ? wg__lookup_find(&params->keys, key) : -1;
    return i < 0 ? NULL : &params->notes[i];
}

int wg_params_meta_count(const wg_params *params) { return (int)params->note_count; }

const char *wg_params_meta_key(const wg_params *params, int i) {
    return i >= 0 && i < params->note_count ? params->notes[i].key : NULL;
}

const char *wg_params_meta(const wg_params *params, const char *key) {
    const note *found = note_find(params, key);
    return found ? found->value : NULL;
}

wg_status wg__params_push_meta(wg_params *params, const char *key, const char *value) {
    wg_memory *memory = params->memory;
    void *notes = params->notes;
    if (params->note_count >= INT32_MAX)
        return WG_RANGE;
    bool room = wg__lookup_room(&params->keys, memory) &&
                wg__room(memory, &notes, params->note_count, &params->note_room, sizeof(note));
    params->notes = notes;
    note made = {room ? wg__strdup(memory, key) : NULL, room ? wg__strdup(memory, value) : NULL};
    if (!made.key || !made.value) {
        wg__give(memory, made.key);
        wg__give(memory, made.value);
        return wg__refusal(memory);
    }
    params->notes[params->note_count++] = made;
    wg__lookup_enter(&params->keys);
    return WG_OK;
}

wg_status wg_params_set_meta(wg_params *params, const char *key, const char *value) {
    if (!valid(key) || !valid(value))
        return WG_ARGUMENT;
    note *old = note_find(params, key);
    if (!old)
        return wg__params_push_meta(params, key, value);
    char *copy = wg__strdup(params->memory, value);
    if (!copy)
        return wg__refusal(params->memory);
    wg__give(params->memory, old->value);
    old->value = copy;
    return WG_OK;
}
