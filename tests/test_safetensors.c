/* Safetensors: files made by hand, sound and malformed, are read or refused; what is saved is read back by a reader
 * that shares nothing with ours. */
#include "suite.h"

#include "core.h"
#include "failing.h"
#include "scratch.h"

#include <math.h>

/* A file from a header and data, with its true header length. */
typedef struct made {
    unsigned char byte[4096];
    size_t size;
} made;

static made make(const char *header, const void *data, size_t size) {
    made f = {.size = 8 + strlen(header) + size};
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++)
        f.byte[i] = (unsigned char)(length >> (8 * i));
    memcpy(f.byte + 8, header, length);
    if (size)
        memcpy(f.byte + 8 + length, data, size);
    return f;
}

static wg_params *parse(const made *f, wg_error *error) {
    *error = (wg_error){0};
    return wg_params_parse(NULL, f->byte, f->size, "x", error);
}

static const unsigned char bytes[64] = {0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0}; /* 1.0f, -2.0f, zeros */

static wg_params *reads(const char *header, size_t size) {
    made f = make(header, bytes, size);
    wg_error error;
    wg_params *params = parse(&f, &error);
    cr_assert_not_null(params, "%s: %s", header, error.text);
    cr_assert_eq(error.status, WG_OK);
    return params;
}

static void refuses(const char *header, size_t size, wg_status status, const char *reason) {
    made f = make(header, bytes, size);
    wg_error error;
    cr_assert_null(parse(&f, &error), "%s was read", header);
    cr_assert_eq(error.status, status, "%s: %s", header, error.text);
    cr_assert_eq(strncmp(error.text, "cannot read 'x': ", 17), 0, "%s", error.text);
    cr_assert_not_null(strstr(error.text, reason), "'%s' does not say: %s", error.text, reason);
    cr_assert_null(strpbrk(error.text, "\n\r"), "%s", error.text);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

Test(safetensors, a_file_made_by_hand_is_read) {
    wg_params *params = reads("{" T("w", "F32", "[2,1]", "[0,8]") "}   ", 8);
    cr_assert_eq(wg_params_count(params), 1);
    wg_tensor *w = wg_params_find(params, "w");
    cr_assert_eq(wg_tensor_dtype(w), WG_F32);
    cr_assert_eq(wg_tensor_shape(w)->rank, 2);
    cr_assert_eq(wg_tensor_shape(w)->dim[0], 2);
    cr_assert_eq(wg_tensor_shape(w)->dim[1], 1);
    cr_assert_eq(wg_tensor_get(w, 0), 1.0);
    cr_assert_eq(wg_tensor_get(w, 1), -2.0);
    wg_params_free(params);
}

Test(safetensors, order_of_keys_members_and_data_is_free) {
    wg_params *params = reads("{\"b\":{\"data_offsets\":[4,8],\"shape\":[],\"dtype\":\"F32\"},"
                              "\"__metadata__\":{\"k\":\"v\\n\\u00e9\",\"\":\"\"}," T("a", "F32", "[1]",
                                                                                    "[0,4]") "}",
                              8);
    cr_assert_str_eq(wg_params_name(params, 0), "b");
    cr_assert_str_eq(wg_params_name(params, 1), "a");
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "b"), 0), -2.0);
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "a"), 0), 1.0);
    cr_assert_eq(wg_params_meta_count(params), 2);
    cr_assert_str_eq(wg_params_meta(params, "k"), "v\n\xC3\xA9");
    wg_params_free(params);
}

Test(safetensors, nothing_and_empty_tensors_are_sound) {
    wg_params *params = reads("{}", 0);
    cr_assert_eq(wg_params_count(params), 0);
    wg_params_free(params);
    params = reads("{" T("e", "F64", "[0,3]", "[4,4]") "," T("a", "F32", "[1]", "[0,4]") "," T(
                       "z", "I32", "[0]", "[0,0]") "," T("b", "F32", "[1]", "[4,8]") "}",
                   8);
    cr_assert_eq(wg_params_count(params), 4);
    cr_assert_eq(wg_tensor_shape(wg_params_find(params, "e"))->count, 0);
    wg_params_free(params);
}

static wg_params *reads_data(const char *header, const void *data, size_t size) {
    made f = make(header, data, size);
    wg_error error;
    wg_params *params = parse(&f, &error);
    cr_assert_not_null(params, "%s", error.text);
    return params;
}

Test(safetensors, half_types_are_widened) {
    static const unsigned char data[] = {0x00, 0x3C, 0x00, 0xC0, 0x01, 0x00, 0xFF, 0x03, 0xFF, 0x7B,
                                         0x00, 0x7C, 0x00, 0x80, 0x00, 0x7E, 0x00, 0x04, 0x80, 0x3F};
    static const double wanted[] = {1, -2, 0x1p-24, 1023 * 0x1p-24, 65504, INFINITY, -0.0, NAN, 0x1p-14};
    wg_params *params =
        reads_data("{" T("h", "F16", "[9]", "[0,18]") "," T("b", "BF16", "[]", "[18,20]") "}", data, 20);
    wg_tensor *h = wg_params_find(params, "h");
    cr_assert_eq(wg_tensor_dtype(h), WG_F32);
    for (int i = 0; i < WG_LEN(wanted); i++) {
        double value = wg_tensor_get(h, i);
        cr_assert(isnan(wanted[i]) ? isnan(value) : value == wanted[i], "element %d is %g", i, value);
        cr_assert(isnan(value) || signbit(value) == signbit(wanted[i]), "sign of element %d", i);
    }
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "b"), 0), 1.0);
    wg_params_free(params);
}

Test(safetensors, wide_integers_are_narrowed_or_refused) {
    static const unsigned char data[] = {0xFF, 0xFF, 0xFF, 0x7F, 0,    0,    0,    0,
                                         0,    0,    0,    0x80, 0xFF, 0xFF, 0xFF, 0xFF,
                                         0,    0,    0,    0x80, 0,    0,    0,    0};
    wg_params *params = reads_data("{" T("n", "I64", "[2]", "[0,16]") "}", data, 16);
    wg_tensor *n = wg_params_find(params, "n");
    cr_assert_eq(wg_tensor_dtype(n), WG_I32);
    cr_assert_eq(wg_tensor_get(n, 0), 2147483647.0);
    cr_assert_eq(wg_tensor_get(n, 1), -2147483648.0);
    wg_params_free(params);
    made f = make("{" T("n", "I64", "[3]", "[0,24]") "}", data, 24);
    wg_error error;
    cr_assert_null(parse(&f, &error));
    cr_assert_eq(error.status, WG_RANGE);
    cr_assert_str_eq(error.text, "cannot read 'x': tensor 'n': element 2 does not fit in 32 bits");
}

Test(safetensors, other_types_are_named) {
    static const char *types[] = {"U8", "I8", "BOOL", "I16", "U32", "U64", "F8_E4M3", "f32", "", "X"};
    for (int i = 0; i < WG_LEN(types); i++) {
        char header[200], reason[64];
        snprintf(header, sizeof header, "{" T("w", "%s", "[8]", "[0,8]") "}", types[i]);
        snprintf(reason, sizeof reason, "tensor 'w': its dtype '%s' is not read", types[i]);
        refuses(header, 8, WG_DTYPE, reason);
    }
}

Test(safetensors, every_truncation_is_refused) {
    made whole = make("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F64", "[]", "[4,12]") "}", bytes, 12);
    for (size_t size = 0; size < whole.size; size++) {
        /* a block of the exact size, so that a read beyond it shows under a sanitizer */
        unsigned char *cut = malloc(size ? size : 1);
        memcpy(cut, whole.byte, size);
        wg_error error = {0};
        cr_assert_null(wg_params_parse(NULL, cut, size, "x", &error), "cut to %zu", size);
        cr_assert_eq(error.status, WG_FORMAT);
        free(cut);
    }
}

Test(safetensors, header_lengths_that_lie_are_refused) {
    static const struct {
        unsigned char length[8];
        const char *reason;
    } rows[] = {{{0}, "does not begin with {"},
                {{1}, "(byte 9)"},
                {{54}, "something after the value"},
                {{58}, "header should have"},
                {{0, 0xE1, 0xF5, 0x05}, "header should have"},  /* 100,000,000 */
                {{1, 0xE1, 0xF5, 0x05}, "beyond the format's limit"},
                {{255, 255, 255, 255, 255, 255, 255, 255}, "beyond the format's limit"},
                {{0, 0, 0, 0, 0, 0, 0, 0x80}, "beyond the format's limit"}};
    made f = make("{" T("a", "F32", "[]", "[0,4]") "}", bytes, 4);
    cr_assert_eq(f.size, 65);
    for (int i = 0; i < WG_LEN(rows); i++) {
        memcpy(f.byte, rows[i].length, 8);
        wg_error error;
        cr_assert_null(parse(&f, &error));
        cr_assert_eq(error.status, WG_FORMAT);
        cr_assert_not_null(strstr(error.text, rows[i].reason), "row %d: %s", i, error.text);
    }
}

Test(safetensors, a_header_must_be_strict_json) {
    refuses(" {}", 0, WG_FORMAT, "does not begin with {");
    refuses("[]", 0, WG_FORMAT, "does not begin with {");
    refuses("\xEF\xBB\xBF{}", 0, WG_FORMAT, "does not begin with {");
    refuses("{} {}", 0, WG_FORMAT, "something after the value (byte 11)");
    refuses("{\"a\xC3(\":1}", 0, WG_FORMAT, "not UTF-8 (byte 11)");
    refuses("{\"a\\u0000\":1}", 0, WG_FORMAT, "the character 0");
    refuses("{" T("a", "F32", "[1]", "[0,4]") ",}", 4, WG_FORMAT, "no string where one belongs");
    refuses("{" T("a", "F32", "[NaN]", "[0,4]") "}", 4, WG_FORMAT, "no JSON value");
    refuses("{" T("a", "F32", "[-1]", "[0,4]") "}", 4, WG_FORMAT, "not whole and plain");
    refuses("{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, WG_FORMAT, "not whole and plain");
    refuses("{" T("a", "F32", "[1e0]", "[0,4]") "}", 4, WG_FORMAT, "not whole and plain");
    refuses("{" T("a", "F32", "[1]", "[0,4.5]") "}", 4, WG_FORMAT, "not whole and plain");
    refuses("{" T("a", "F32", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "[0,4]") "}", 4, WG_FORMAT,
            "16 levels");
}

Test(safetensors, names_and_keys_stand_once) {
    refuses("{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, WG_FORMAT,
            "tensor 'a': the name stands twice");
    refuses("{" T("a", "F32", "[1]", "[0,4]") "," T("\\u0061", "F32", "[1]", "[4,8]") "}", 8, WG_FORMAT,
            "tensor 'a': the name stands twice");
    refuses("{\"__metadata__\":{},\"__metadata__\":{}}", 0, WG_FORMAT, "stands twice");
    refuses("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, WG_FORMAT, "the key 'k' stands twice");
    refuses("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
            WG_FORMAT, "a second key 'dtype'");
    refuses("{\"a\":{\"dtype\":\"F32\",\"more\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, WG_FORMAT,
            "an unknown key 'more'");
    refuses("{" T("", "F32", "[1]", "[0,4]") "}", 4, WG_FORMAT, "name is empty");
    refuses("{" T("a\\n\\u001b", "U8", "[1]", "[0,4]") "}", 4, WG_DTYPE, "tensor 'a\\x0A\\x1B'");
}

Test(safetensors, descriptions_must_be_whole) {
    refuses("{\"a\":1}", 0, WG_FORMAT, "no object");
    refuses("{\"a\":{}}", 0, WG_FORMAT, "has no dtype");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, WG_FORMAT, "has no data_offsets");
    refuses("{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4, WG_FORMAT, "no string");
    refuses("{" T("a", "F32", "1", "[0,4]") "}", 4, WG_FORMAT, "shape is no array");
    refuses("{" T("a", "F32", "{\"x\":1}", "[0,4]") "}", 4, WG_FORMAT, "shape is no array");
    refuses("{" T("a", "F32", "[\"1\"]", "[0,4]") "}", 4, WG_FORMAT, "size 1 of its shape");
    refuses("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, WG_FORMAT, "more than 8 axes");
    refuses("{" T("a", "F32", "[1]", "[0]") "}", 4, WG_FORMAT, "not two whole numbers");
    refuses("{" T("a", "F32", "[1]", "[0,4,8]") "}", 4, WG_FORMAT, "not two whole numbers");
    refuses("{" T("a", "F32", "[1]", "[0,null]") "}", 4, WG_FORMAT, "not two whole numbers");
    refuses("{" T("a", "F32", "[1]", "4") "}", 4, WG_FORMAT, "not two whole numbers");
    refuses("{\"__metadata__\":[]}", 0, WG_FORMAT, "no object");
    refuses("{\"__metadata__\":{\"k\":1}}", 0, WG_FORMAT, "the value of 'k'");
}

Test(safetensors, sizes_that_lie_are_refused) {
    refuses("{" T("a", "F32", "[2]", "[0,4]") "}", 4, WG_FORMAT, "need 8 bytes, its data_offsets give 4");
    refuses("{" T("a", "F32", "[1]", "[0,8]") "}", 8, WG_FORMAT, "need 4 bytes");
    refuses("{" T("a", "F32", "[1]", "[4,0]") "}", 4, WG_FORMAT, "not within 4 bytes");
    refuses("{" T("a", "F32", "[2]", "[0,8]") "}", 4, WG_FORMAT, "not within 4 bytes");
    refuses("{" T("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, WG_FORMAT, "too many");
    refuses("{" T("a", "F32", "[4611686018427387904,4]", "[0,0]") "}", 0, WG_FORMAT, "no whole number");
    refuses("{" T("a", "F32", "[0,9007199254740991,9007199254740991]", "[0,0]") "}", 0, WG_FORMAT,
            "too many");
    refuses("{" T("a", "F32", "[9007199254740993]", "[0,4]") "}", 4, WG_FORMAT, "no whole number");
    refuses("{" T("a", "F32", "[1]", "[18446744073709551612,18446744073709551616]") "}", 4, WG_FORMAT,
            "not two whole numbers");
    refuses("{" T("a", "F32", "[99999999999999999999999999999999999999999]", "[0,4]") "}", 4, WG_FORMAT,
            "not whole and plain");
}

Test(safetensors, data_are_covered_once_and_wholly) {
    refuses("{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12, WG_FORMAT,
            "tensor 'b': its data overlap");
    refuses("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4, WG_FORMAT,
            "overlap");
    refuses("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 12, WG_FORMAT,
            "tensor 'b': its data leave a hole");
    refuses("{" T("a", "F32", "[1]", "[4,8]") "}", 8, WG_FORMAT, "tensor 'a': its data leave a hole");
    refuses("{" T("a", "F32", "[1]", "[0,4]") "}", 8, WG_FORMAT, "last 4 bytes of data belong to no");
    refuses("{}", 1, WG_FORMAT, "last 1 bytes");
}

/* ---- saving, and a reader of its own ---- */

static uint64_t little(const unsigned char *at, int size) {
    uint64_t value = 0;
    while (size--)
        value = value << 8 | at[size];
    return value;
}

/* Finds `"name":{"dtype":"D","shape":[…],"data_offsets":[B,E]}` by searching the text, and gives the data. */
static const unsigned char *find(const unsigned char *file, const char *name, const char *dtype,
                                 const char *shape, uint64_t *size) {
    char wanted[256];
    uint64_t length = little(file, 8);
    snprintf(wanted, sizeof wanted, "\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[", name,
             dtype, shape);
    const char *found = memmem(file + 8, length, wanted, strlen(wanted));
    unsigned long long begin, end;
    cr_assert_not_null(found, "no %s in %.*s", wanted, (int)length, file + 8);
    cr_assert_eq(sscanf(found + strlen(wanted), "%llu,%llu]}", &begin, &end), 2);
    *size = end - begin;
    return file + 8 + length + begin;
}

static wg_params *sample(wg_memory *memory) {
    wg_params *params = wg_params_new(memory);
    static const struct {
        const char *name;
        wg_dtype dtype;
        int rank;
        int64_t dim[3];
    } rows[] = {{"W_i", WG_F32, 2, {3, 1}}, {"state", WG_F64, 0, {0}}, {"n[2]", WG_I32, 1, {2}},
                {"none", WG_F32, 3, {2, 0, 5}}, {"q\"\\\n\xC3\xA9", WG_F64, 1, {2}}};
    for (int i = 0; params && i < WG_LEN(rows); i++) {
        wg_tensor *tensor = wg_tensor_new(memory, rows[i].dtype, rows[i].rank, rows[i].dim);
        for (int64_t k = 0; tensor && k < wg_tensor_shape(tensor)->count; k++)
            wg_tensor_set(tensor, k, rows[i].dtype == WG_I32 ? -70000 * (k + 1) : 0.1 * (i + 1) - k);
        if (!tensor || wg_params_add(params, rows[i].name, tensor) != WG_OK)
            wg_params_free(params), params = NULL;
        wg_tensor_free(tensor);
    }
    if (params && (wg_params_set_meta(params, "cell", "h' = tanh(x)\n\t\"q\" \\ \xC3\xA9\x01") != WG_OK ||
                   wg_params_set_meta(params, "empty", "") != WG_OK))
        wg_params_free(params), params = NULL;
    return params;
}

Test(safetensors, what_is_saved_is_true_to_the_format) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "m.safetensors");
    wg_params *params = sample(NULL);
    wg_error error = {0};
    cr_assert_eq(wg_params_save(params, path, &error), WG_OK, "%s", error.text);
    size_t size;
    unsigned char *file = (unsigned char *)scratch_get(path, &size);
    uint64_t length = little(file, 8), bytes_of;
    cr_assert_eq((8 + length) % 8, 0);
    cr_assert_eq(file[8], '{');
    cr_assert_eq(8 + length + 12 + 8 + 8 + 16, size);
    const char *meta = "{\"__metadata__\":{\"cell\":\"h' = tanh(x)\\u000a\\u0009\\\"q\\\" \\\\ "
                       "\xC3\xA9\\u0001\",\"empty\":\"\"},\"W_i\"";
    cr_assert_eq(memcmp(file + 8, meta, strlen(meta)), 0, "%.*s", (int)length, file + 8);
    const unsigned char *w = find(file, "W_i", "F32", "[3,1]", &bytes_of);
    cr_assert_eq(bytes_of, 12);
    for (int k = 0; k < 3; k++) {
        uint32_t bits = (uint32_t)little(w + 4 * k, 4);
        float value;
        memcpy(&value, &bits, 4);
        cr_assert_eq(value, (float)(0.1 - k));
    }
    const unsigned char *state = find(file, "state", "F64", "[]", &bytes_of);
    uint64_t bits = little(state, 8);
    double value;
    memcpy(&value, &bits, 8);
    cr_assert_eq(bytes_of, 8);
    cr_assert_eq(value, 0.2);
    cr_assert_eq((state - file) % 8, 0, "eight-byte elements are not aligned");
    const unsigned char *n = find(file, "n[2]", "I32", "[2]", &bytes_of);
    cr_assert_eq((int32_t)little(n, 4), -70000);
    cr_assert_eq((int32_t)little(n + 4, 4), -140000);
    find(file, "none", "F32", "[2,0,5]", &bytes_of);
    cr_assert_eq(bytes_of, 0);
    find(file, "q\\\"\\\\\\u000a\xC3\xA9", "F64", "[2]", &bytes_of);
    cr_assert_eq(bytes_of, 16);
    free(file);
    wg_params_free(params);
    scratch_free(&s);
}

static void same(const wg_params *a, const wg_params *b) {
    cr_assert_eq(wg_params_count(a), wg_params_count(b));
    for (int i = 0; i < wg_params_count(a); i++) {
        const wg_tensor *x = wg_params_tensor(a, i), *y = wg_params_tensor(b, i);
        cr_assert_str_eq(wg_params_name(a, i), wg_params_name(b, i));
        cr_assert_eq(wg_tensor_dtype(x), wg_tensor_dtype(y));
        cr_assert(wg__shape_same(wg_tensor_shape(x), wg_tensor_shape(y)));
        cr_assert_eq(memcmp(wg_tensor_data(x), wg_tensor_data(y), wg_tensor_bytes(x)), 0);
    }
    cr_assert_eq(wg_params_meta_count(a), wg_params_meta_count(b));
    for (int i = 0; i < wg_params_meta_count(a); i++) {
        const char *key = wg_params_meta_key(a, i);
        cr_assert_str_eq(key, wg_params_meta_key(b, i));
        cr_assert_str_eq(wg_params_meta(a, key), wg_params_meta(b, key));
    }
}

Test(safetensors, what_is_saved_is_loaded_the_same_in_the_same_order) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "m.safetensors");
    wg_params *params = sample(NULL);
    wg_error error = {0};
    wg_params_save(params, path, &error);
    wg_params *loaded = wg_params_load(NULL, path, &error);
    cr_assert_not_null(loaded, "%s", error.text);
    same(params, loaded);
    wg_params_free(loaded);
    wg_params *none = wg_params_new(NULL);
    cr_assert_eq(wg_params_save(none, path, &error), WG_OK);
    loaded = wg_params_load(NULL, path, &error);
    same(none, loaded);
    wg_params_free(loaded);
    wg_params_set_meta(none, "only", "metadata");
    cr_assert_eq(wg_params_save(none, path, &error), WG_OK);
    loaded = wg_params_load(NULL, path, &error);
    same(none, loaded);
    wg_params_free(loaded);
    wg_params_free(none);
    wg_params_free(params);
    scratch_free(&s);
}

Test(safetensors, the_reserved_name_is_not_saved) {
    wg_params *params = wg_params_new(NULL);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F32, 0, NULL);
    wg_params_add(params, "__metadata__", tensor);
    wg_error error = {0};
    cr_assert_eq(wg_params_save(params, "/nowhere/x", &error), WG_ARGUMENT);
    cr_assert_str_eq(error.text, "cannot write '/nowhere/x': a tensor is called __metadata__");
    wg_tensor_free(tensor);
    wg_params_free(params);
}

Test(safetensors, a_file_that_is_not_there_is_named) {
    wg_error error = {0};
    cr_assert_null(wg_params_load(NULL, "/nowhere/m.safetensors", &error));
    cr_assert_eq(error.status, WG_IO);
    cr_assert_str_eq(error.text,
                     "cannot read '/nowhere/m.safetensors': No such file or directory");
}

Test(safetensors, many_tensors_are_read_in_little_time_and_memory) {
    enum { MANY = 30000 };
    wg_text text = {0};
    for (int i = 0; i < MANY; i++)
        wg__text_add(&text, "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                     i ? "," : "{", i);
    wg__text_add(&text, "}");
    char *file = calloc(1, text.used + 8);
    for (int i = 0; i < 8; i++)
        file[i] = (char)(text.used >> (8 * i));
    memcpy(file + 8, text.text, text.used);
    wg_error error = {0};
    wg_params *params = wg_params_parse(NULL, file, text.used + 8, "x", &error);
    cr_assert_not_null(params, "%s", error.text);
    cr_assert_eq(wg_params_count(params), MANY);
    wg_params_free(params);
    wg_memory *memory = wg_memory_new(NULL, 4 * text.used);
    cr_assert_null(wg_params_parse(memory, file, text.used + 8, "x", &error));
    cr_assert_eq(error.status, WG_LIMIT);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
    free(file);
    wg__give(NULL, text.text);
}

Test(safetensors, every_allocation_may_fail) {
    scratch s = scratch_new();
    char path[512];
    strcpy(path, scratch_path(&s, "m"));
    bool done = false;
    for (long k = 1; !done; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_params *params = sample(memory), *loaded = NULL;
        wg_error error = {0};
        scratch_put(path, "old", 3);
        bool saved = params && wg_params_save(params, path, &error) == WG_OK;
        size_t size = 0;
        char *now = scratch_get(path, &size);
        cr_assert_eq(size == 3, !saved, "a failed save has changed the file");
        free(now);
        if (saved)
            loaded = wg_params_load(memory, path, &error);
        done = loaded != NULL;
        cr_assert_eq(done, !failing_failed(&f), "call %ld", k);
        if (params && !done)
            cr_assert_eq(error.status, WG_MEMORY, "call %ld: %s", k, error.text);
        if (done)
            same(params, loaded);
        wg_params_free(params);
        wg_params_free(loaded);
        cr_assert_eq(f.live, 0, "call %ld leaks", k);
        cr_assert_eq(scratch_sweep(&s, 0), 1);
        wg_memory_free(memory);
    }
    scratch_free(&s);
}
