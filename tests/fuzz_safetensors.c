/* Fuzzes wg_params_parse. An input is a file; or, if it begins with a !, a header (to the last newline) and its data,
 * to which the true length is put, so that mutations of the header are not all lost to the length. */
#include "fuzz.h"

#include "core.h"

#include <string.h>

enum { LIMIT = 1 << 20 };

long fuzz_accepted;

const fuzz_text fuzz_seeds[] = {
    FUZZ("\x02\0\0\0\0\0\0\0{}"),
    FUZZ("\x36\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}abcd"),
    FUZZ("!{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}\nabcd"),
    FUZZ("!{\"__metadata__\":{\"k\":\"v\\n\\u00e9\",\"step\":\"12\"},"
         "\"W_i\":{\"dtype\":\"F64\",\"shape\":[2,1],\"data_offsets\":[0,16]},"
         "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]}}  \n"
         "0123456789012345\x07\0\0\0\0\0\0\0"),
    FUZZ("!{\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]},"
         "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,1,1,1,1,1,1,2],\"data_offsets\":[0,4]},"
         "\"e\":{\"dtype\":\"I32\",\"shape\":[0,3],\"data_offsets\":[8,8]}}\nabcdefgh"),
    {0}};

const fuzz_text fuzz_words[] = {FUZZ("\"dtype\":"),
                                FUZZ("\"shape\":"),
                                FUZZ("\"data_offsets\":"),
                                FUZZ("\"__metadata__\":{}"),
                                FUZZ("\"F32\""),
                                FUZZ("\"I64\""),
                                FUZZ("[0,4]"),
                                FUZZ("[4,8]"),
                                FUZZ("[]"),
                                FUZZ("{}"),
                                FUZZ("[[[[[[[[[[[[[[[["),
                                FUZZ("null"),
                                FUZZ("\\u0000"),
                                FUZZ("\\ud800"),
                                FUZZ("\\ud83d\\ude00"),
                                FUZZ("\xF0\x9F\x98\x80"),
                                FUZZ("\xED\xA0\x80"),
                                FUZZ("!"),
                                FUZZ("\n"),
                                FUZZ("\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"),
                                {0}};

static void check_set(const wg_params *params) {
    for (int i = 0; i < wg_params_count(params); i++) {
        const char *name = wg_params_name(params, i);
        const wg_tensor *tensor = wg_params_tensor(params, i);
        FUZZ_LAW(name[0] && wg__utf8_check(name, strlen(name)) == strlen(name));
        FUZZ_LAW(wg_params_find(params, name) == tensor);
        volatile double sink = wg_tensor_get(tensor, wg_tensor_shape(tensor)->count - 1);
        (void)sink;
    }
    for (int i = 0; i < wg_params_meta_count(params); i++)
        FUZZ_LAW(wg_params_meta(params, wg_params_meta_key(params, i)));
}

static void parse(const void *data, size_t size) {
    wg_memory *memory = wg_memory_new(NULL, LIMIT);
    wg_error error = {0};
    if (!memory)
        return;
    wg_params *params = wg_params_parse(memory, data, size, "fuzz", &error);
    FUZZ_LAW((params != NULL) == (error.status == WG_OK));
    if (params)
        fuzz_accepted++, check_set(params);
    else
        FUZZ_LAW(error.text[0] && !strpbrk(error.text, "\n\r"));
    wg_params_free(params);
    FUZZ_LAW(wg_memory_used(memory) == 0);
    wg_memory_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || data[0] != '!') {
        parse(data, size);
        return 0;
    }
    const uint8_t *line = memrchr(data, '\n', size);
    size_t header = line ? (size_t)(line - data) - 1 : size - 1, rest = line ? size - header - 2 : 0;
    uint8_t *file = malloc(8 + header + rest);
    if (!file)
        return 0;
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)header >> (8 * i));
    memcpy(file + 8, data + 1, header);
    if (rest)
        memcpy(file + 8 + header, line + 1, rest);
    parse(file, 8 + header + rest);
    free(file);
    return 0;
}
