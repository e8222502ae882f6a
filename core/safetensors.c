/* safetensors.c: named tensors to and from the safetensors format: eight bytes of header length, a JSON header, and the
 * data, which the tensors cover without a gap. Touches files through file.c and JSON through json.c only. */
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_LIMIT 100000000 /* bytes, the format's own */
#define META "__metadata__"

enum { PREFIX = 8, DATA_ALIGN = 64 };

/* One tensor as the header describes it. Offsets are into the data. */
typedef struct item {
    const char *name;
    const wg_element *element;
    wg_shape shape;
    uint64_t begin, end;
} item;

typedef struct reader {
    wg_memory *memory;
    const char *path; /* or what stands for it in messages */
    wg_error *error;
    const unsigned char *header, *data;
    size_t header_size, data_size;
    wg_json json;
    item *items; /* in the header's order */
    size_t count;
} reader;

WG_PRINTF(3, 4)
static wg_status bad(reader *r, wg_status status, const char *format, ...) {
    char reason[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return wg__file_error(r->error, status, "read", r->path, "%s", reason);
}

WG_PRINTF(4, 5)
static wg_status bad_tensor(reader *r, wg_status status, const char *name, const char *format, ...) {
    char quoted[200], reason[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return bad(r, status, "tensor %s: %s", wg__quote(name, quoted, sizeof quoted), reason);
}

static wg_status refused(reader *r) {
    return wg__file_refused(r->error, r->memory, "read", r->path);
}

/* ---- the header ---- */

/* Finds header and data. */
static wg_status split(reader *r, const unsigned char *byte, size_t size) {
    uint64_t length = 0;
    if (size < PREFIX)
        return bad(r, WG_FORMAT, "%zu bytes are too few for a safetensors file", size);
    for (int i = 0; i < PREFIX; i++)
        length |= (uint64_t)byte[i] << (8 * i);
    if (length > HEADER_LIMIT)
        return bad(r, WG_FORMAT, "its header length, %" PRIu64 ", is beyond the format's limit of %d",
                   length, HEADER_LIMIT);
    if (length > size - PREFIX)
        return bad(r, WG_FORMAT, "its header should have %" PRIu64 " bytes, but only %zu follow",
                   length, size - PREFIX);
    r->header = byte + PREFIX;
    r->header_size = (size_t)length;
    r->data = r->header + length;
    r->data_size = size - PREFIX - (size_t)length;
    if (length == 0 || r->header[0] != '{')
        return bad(r, WG_FORMAT, "its header does not begin with {");
    return WG_OK;
}

static wg_status parse_header(reader *r) {
    const char *why, *twice;
    size_t place;
    wg_status status = wg__json_open(&r->json, r->memory, (const char *)r->header, r->header_size,
                                     WG__JSON_WHOLE, &why, &place);
    if (status != WG_OK)
        return why ? bad(r, status, "its header has %s (byte %zu)", why, place + PREFIX)
                   : wg__file_error(r->error, status, "read", r->path, "%s",
                                    wg_status_sentence(status));
    if (wg__json_duplicate(r->memory, r->json.root, &twice) != WG_OK)
        return refused(r);
    return twice ? bad_tensor(r, WG_FORMAT, twice, "the name stands twice in the header") : WG_OK;
}

/* A number of the header: the check of its digits is done; beyond 2^53 a double is not exact. */
static bool whole(const cJSON *number, uint64_t *value) {
    if (!cJSON_IsNumber(number) || !(number->valuedouble <= 0x1p53 - 1))
        return false;
    *value = (uint64_t)number->valuedouble;
    return true;
}

/* The members of a tensor's object: exactly these, once each. */
static wg_status members(reader *r, const cJSON *object, const cJSON *found[3]) {
    static const char *const names[3] = {"dtype", "shape", "data_offsets"};
    char quoted[64];
    if (!cJSON_IsObject(object))
        return bad_tensor(r, WG_FORMAT, object->string, "its description is no object");
    for (const cJSON *member = object->child; member; member = member->next) {
        int k = 0;
        while (k < 3 && strcmp(member->string, names[k]) != 0)
            k++;
        if (k == 3 || found[k])
            return bad_tensor(r, WG_FORMAT, object->string, "%s key %s in its description",
                              k == 3 ? "an unknown" : "a second",
                              wg__quote(member->string, quoted, sizeof quoted));
        found[k] = member;
    }
    for (int k = 0; k < 3; k++)
        if (!found[k])
            return bad_tensor(r, WG_FORMAT, object->string, "its description has no %s", names[k]);
    return WG_OK;
}

static wg_status read_dtype(reader *r, const cJSON *dtype, item *it) {
    char quoted[64];
    if (!cJSON_IsString(dtype))
        return bad_tensor(r, WG_FORMAT, it->name, "its dtype is no string");
    it->element = wg__element_named(dtype->valuestring);
    if (!it->element)
        return bad_tensor(r, WG_DTYPE, it->name,
                          "its dtype %s is not read (F64, F32, F16, BF16, I32 and I64 are)",
                          wg__quote(dtype->valuestring, quoted, sizeof quoted));
    return WG_OK;
}

static wg_status read_shape(reader *r, const cJSON *shape, item *it) {
    int64_t dim[WG_MAX_RANK];
    int rank = 0;
    if (!cJSON_IsArray(shape))
        return bad_tensor(r, WG_FORMAT, it->name, "its shape is no array");
    for (const cJSON *size = shape->child; size; size = size->next) {
        uint64_t value;
        if (rank == WG_MAX_RANK)
            return bad_tensor(r, WG_FORMAT, it->name, "its shape has more than %d axes", WG_MAX_RANK);
        if (!whole(size, &value))
            return bad_tensor(r, WG_FORMAT, it->name, "size %d of its shape is no whole number",
                              rank + 1);
        dim[rank++] = (int64_t)value;
    }
    if (wg__shape_set(&it->shape, rank, dim) != WG_OK)
        return bad_tensor(r, WG_FORMAT, it->name, "its shape has too many elements");
    return WG_OK;
}

static wg_status read_offsets(reader *r, const cJSON *offsets, item *it) {
    const cJSON *first = cJSON_IsArray(offsets) ? offsets->child : NULL;
    const cJSON *second = first ? first->next : NULL;
    if (!second || second->next || !whole(first, &it->begin) || !whole(second, &it->end))
        return bad_tensor(r, WG_FORMAT, it->name, "its data_offsets are not two whole numbers");
    if (it->begin > it->end || it->end > r->data_size)
        return bad_tensor(r, WG_FORMAT, it->name,
                          "its data_offsets [%" PRIu64 ",%" PRIu64 "] are not within %zu bytes of data",
                          it->begin, it->end, r->data_size);
    uint64_t wanted = (uint64_t)it->shape.count * (uint64_t)it->element->size; /* count < 2^59 */
    if (wanted != it->end - it->begin)
        return bad_tensor(r, WG_FORMAT, it->name,
                          "its shape and dtype need %" PRIu64 " bytes, its data_offsets give %" PRIu64,
                          wanted, it->end - it->begin);
    return WG_OK;
}

static wg_status read_items(reader *r) {
    size_t count = (size_t)cJSON_GetArraySize(r->json.root);
    r->items = wg__take(r->memory, wg__size(count, sizeof *r->items, 0));
    if (!r->items)
        return refused(r);
    for (const cJSON *object = r->json.root->child; object; object = object->next) {
        if (strcmp(object->string, META) == 0)
            continue;
        item *it = &r->items[r->count++];
        *it = (item){.name = object->string};
        const cJSON *found[3] = {0};
        wg_status status = members(r, object, found);
        if (status == WG_OK && !it->name[0])
            status = bad(r, WG_FORMAT, "a tensor's name is empty");
        if (status == WG_OK)
            status = read_dtype(r, found[0], it);
        if (status == WG_OK)
            status = read_shape(r, found[1], it);
        if (status == WG_OK)
            status = read_offsets(r, found[2], it);
        if (status != WG_OK)
            return status;
    }
    return WG_OK;
}

static int by_offset(const void *a, const void *b) {
    const item *x = *(const item *const *)a, *y = *(const item *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

/* Sorted by offset, every tensor must begin where the one before ended, and the last end with the data. */
static wg_status check_cover(reader *r) {
    const item **sorted = wg__take(r->memory, wg__size(r->count, sizeof *sorted, 0));
    if (!sorted)
        return refused(r);
    for (size_t i = 0; i < r->count; i++)
        sorted[i] = &r->items[i];
    qsort(sorted, r->count, sizeof *sorted, by_offset);
    uint64_t end = 0;
    wg_status status = WG_OK;
    for (size_t i = 0; i < r->count && status == WG_OK; i++) {
        if (sorted[i]->begin != end)
            status = bad_tensor(r, WG_FORMAT, sorted[i]->name,
                                "its data %s the tensor before it (byte %" PRIu64 ", not %" PRIu64 ")",
                                sorted[i]->begin < end ? "overlap" : "leave a hole after",
                                sorted[i]->begin, end);
        end = sorted[i]->end;
    }
    if (status == WG_OK && end != r->data_size)
        status = bad(r, WG_FORMAT, "the last %" PRIu64 " bytes of data belong to no tensor",
                     (uint64_t)r->data_size - end);
    wg__give(r->memory, sorted);
    return status;
}

/* ---- the contents ---- */

static wg_status add_tensor(reader *r, const item *it, wg_params *params) {
    wg_tensor *tensor =
        wg_tensor_new(r->memory, it->element->dtype, it->shape.rank, it->shape.dim);
    if (!tensor)
        return refused(r);
    wg_status status = WG_OK;
    int64_t misfit = wg__element_decode(it->element, false, it->shape.count, r->data + it->begin,
                                        wg_tensor_write(tensor));
    if (misfit >= 0)
        status = bad_tensor(r, WG_RANGE, it->name, "element %" PRId64 " does not fit in 32 bits",
                            misfit);
    else if (wg__params_push(params, it->name, tensor) != WG_OK)
        status = refused(r);
    wg_tensor_free(tensor);
    return status;
}

static wg_status add_meta(reader *r, wg_params *params) {
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(r->json.root, META);
    const char *twice;
    char quoted[200];
    if (!meta)
        return WG_OK;
    if (!cJSON_IsObject(meta))
        return bad(r, WG_FORMAT, "its " META " is no object");
    if (wg__json_duplicate(r->memory, meta, &twice) != WG_OK)
        return refused(r);
    if (twice)
        return bad(r, WG_FORMAT, "the key %s stands twice in its " META,
                   wg__quote(twice, quoted, sizeof quoted));
    for (const cJSON *note = meta->child; note; note = note->next) {
        if (!cJSON_IsString(note))
            return bad(r, WG_FORMAT, "the value of %s in its " META " is no string",
                       wg__quote(note->string, quoted, sizeof quoted));
        if (wg__params_push_meta(params, note->string, note->valuestring) != WG_OK)
            return refused(r);
    }
    return WG_OK;
}

static wg_status read_contents(reader *r, wg_params *params) {
    wg_status status = read_items(r);
    if (status == WG_OK)
        status = check_cover(r);
    if (status == WG_OK)
        status = add_meta(r, params);
    for (size_t i = 0; i < r->count && status == WG_OK; i++)
        status = add_tensor(r, &r->items[i], params);
    return status;
}

wg_params *wg_params_parse(wg_memory *memory, const void *bytes, size_t size, const char *name,
                           wg_error *error) {
    reader r = {.memory = memory, .path = name, .error = error};
    wg_params *params = NULL;
    wg_status status = split(&r, bytes, size);
    if (status == WG_OK)
        status = parse_header(&r);
    if (status == WG_OK) {
        params = wg_params_new(memory);
        status = params ? read_contents(&r, params) : refused(&r);
    }
    wg__give(memory, r.items);
    wg__json_close(&r.json, memory);
    if (status == WG_OK)
        return params;
    wg_params_free(params);
    return NULL;
}

wg_params *wg_params_load(wg_memory *memory, const char *path, wg_error *error) {
    size_t size;
    char *bytes = wg__file_read(memory, path, &size, error);
    wg_params *params = bytes ? wg_params_parse(memory, bytes, size, path, error) : NULL;
    wg__give(memory, bytes);
    return params;
}

/* ---- writing ---- */

static const char *file_name(wg_dtype dtype) {
    return dtype == WG_F64 ? "F64" : dtype == WG_F32 ? "F32" : "I32";
}

static void describe(wg_text *text, const wg_params *params, int i, uint64_t begin) {
    const wg_tensor *tensor = wg_params_tensor(params, i);
    const wg_shape *shape = wg_tensor_shape(tensor);
    wg__text_json(text, wg_params_name(params, i));
    wg__text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", file_name(wg_tensor_dtype(tensor)));
    for (int k = 0; k < shape->rank; k++)
        wg__text_add(text, "%s%" PRId64, k ? "," : "", shape->dim[k]);
    wg__text_add(text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin,
                 begin + wg_tensor_bytes(tensor));
}

/* The header, behind room for its length: tensors in the set's order. begin: their offsets. Padded with spaces so that
 * the data begin on a boundary. */
static void write_header(wg_text *text, const wg_params *params, const uint64_t *begin) {
    int notes = wg_params_meta_count(params), count = wg_params_count(params);
    wg__text_bytes(text, "\0\0\0\0\0\0\0\0{", PREFIX + 1);
    for (int i = 0; i < notes; i++) {
        const char *key = wg_params_meta_key(params, i);
        wg__text_add(text, i ? "," : "\"" META "\":{");
        wg__text_json(text, key);
        wg__text_add(text, ":");
        wg__text_json(text, wg_params_meta(params, key));
    }
    if (notes)
        wg__text_add(text, count ? "}," : "}");
    for (int i = 0; i < count; i++) {
        wg__text_add(text, i ? "," : "");
        describe(text, params, i, begin[i]);
    }
    wg__text_add(text, "}");
    while (text->used % DATA_ALIGN && !text->refused)
        wg__text_add(text, " ");
    for (int i = 0; i < PREFIX && !text->refused; i++)
        text->text[i] = (char)((uint64_t)(text->used - PREFIX) >> (8 * i));
}

/* Places eight-byte elements before four-byte ones, so that each lies on its own boundary although no gap is allowed.
 * Fills offsets and the parts to write, from parts[1] on. */
static void place(const wg_params *params, uint64_t *begin, wg_part *parts) {
    uint64_t end = 0;
    int placed = 0;
    for (size_t width = 8; width >= 4; width /= 2)
        for (int i = 0; i < wg_params_count(params); i++) {
            const wg_tensor *tensor = wg_params_tensor(params, i);
            if (wg_dtype_size(wg_tensor_dtype(tensor)) != width)
                continue;
            begin[i] = end;
            parts[++placed] = (wg_part){wg_tensor_data(tensor), wg_tensor_bytes(tensor)};
            end += wg_tensor_bytes(tensor);
        }
}

wg_status wg_params_save(const wg_params *params, const char *path, wg_error *error) {
    wg_memory *memory = wg__params_memory(params);
    size_t count = (size_t)wg_params_count(params);
    if (wg_params_find(params, META))
        return wg__file_error(error, WG_ARGUMENT, "write", path, "a tensor is called " META);
    uint64_t *begin = wg__take(memory, wg__size(count, sizeof *begin, 0));
    wg_part *parts = wg__take(memory, wg__size(count + 1, sizeof *parts, 0));
    wg_text header = {.memory = memory};
    wg_status status;
    if (begin && parts) {
        place(params, begin, parts);
        write_header(&header, params, begin);
    }
    if (!begin || !parts || header.refused)
        status = wg__file_refused(error, memory, "write", path);
    else if (header.used - PREFIX > HEADER_LIMIT)
        status = wg__file_error(error, WG_RANGE, "write", path,
                                "names and metadata exceed the format's %d bytes", HEADER_LIMIT);
    else {
        parts[0] = (wg_part){header.text, header.used};
        status = wg__file_write(path, (int)count + 1, parts, error);
    }
    wg__give(memory, begin);
    wg__give(memory, parts);
    wg__give(memory, header.text);
    return status;
}
