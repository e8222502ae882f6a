/* json.h: strict reading of hostile JSON into cJSON's tree. */
#ifndef WG_JSON_H
#define WG_JSON_H

#include "core.h"

#include <cjson/cJSON.h>

typedef struct wg_json {
    cJSON *root;
    void *held; /* what the tree costs, charged to the memory although cJSON takes it from the C library */
} wg_json;

/* Numbers: any that JSON allows, or digits alone. */
typedef enum wg_json_numbers { WG__JSON_ANY, WG__JSON_WHOLE } wg_json_numbers;

/* Reads one value and nothing after it but space. Stricter than cJSON: UTF-8, escapes, numbers and white space as the
 * standard has them (RFC 8259), 16 levels, 2^22 values, no character 0. Duplicate keys pass (see wg__json_duplicate). On failure
 * *why says what is wrong, at byte *place: WG_FORMAT; or a refusal of memory, with *why NULL. */
wg_status wg__json_open(wg_json *json, wg_memory *memory, const char *text, size_t size,
                        wg_json_numbers numbers, const char **why, size_t *place);
void wg__json_close(wg_json *json, wg_memory *memory);

/* *key: a key that stands twice in the object, or NULL. Fails on refusal of memory only. */
wg_status wg__json_duplicate(wg_memory *memory, const cJSON *object, const char **key);

#endif
