/* Strict JSON: what the standard allows passes, what cJSON alone would let through does not. */
#include "suite.h"

#include "failing.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

static wg_status reads(const char *text, size_t size, wg_json_numbers numbers) {
    wg_json json;
    const char *why = NULL;
    size_t place = 0;
    wg_status status = wg__json_open(&json, NULL, text, size, numbers, &why, &place);
    cr_assert_eq(status == WG_OK, why == NULL, "%s: %s", text, why ? why : "no reason");
    cr_assert_leq(place, size);
    wg__json_close(&json, NULL);
    return status;
}

Test(json, what_the_standard_allows_is_read) {
    static const char *good[] = {"{}", "[]", " [ 1 , 2 ] ", "0", "-0", "1.5e-3", "2E+5", "true", "false",
                                 "null", "\"\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
                                 "\"\\ud83d\\ude00\"", "{\"a\":{\"b\":[]}}\n", "\"\x7F\"", "\"é\"",
                                 "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]"};
    for (int i = 0; i < WG_LEN(good); i++)
        cr_assert_eq(reads(good[i], strlen(good[i]), WG__JSON_ANY), WG_OK, "%s", good[i]);
}

Test(json, what_the_standard_forbids_is_refused) {
    static const char *bad[] = {"", " ", "{", "}", "[1,]", "[,1]", "{\"a\":1,}", "{\"a\"}", "{a:1}", "[1 2]",
                                "01", "-", "+1", "1.", ".5", "1e", "0x10", "NaN", "Infinity", "-Infinity",
                                "nul", "True", "\"", "\"\\\"", "\"\n\"", "\"\t\"", "\"\\x\"", "\"\\u12\"",
                                "\"\\u0000\"", "\"\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\u0041\"",
                                "\"\\udc00\"", "\"\x80\"", "\"\xC3\"", "\"\xED\xA0\x80\"", "'a'", "1 2",
                                "{} {}", "\xEF\xBB\xBF{}", "[\v1]", "/**/1", "\"a\" x",
                                "12345678901234567890123456789012345678901"};
    for (int i = 0; i < WG_LEN(bad); i++)
        cr_assert_eq(reads(bad[i], strlen(bad[i]), WG__JSON_ANY), WG_FORMAT, "%s", bad[i]);
    cr_assert_eq(reads("[1]\0", 4, WG__JSON_ANY), WG_FORMAT);
    cr_assert_eq(reads("\"a\0b\"", 5, WG__JSON_ANY), WG_FORMAT);
}

Test(json, whole_numbers_are_digits_alone) {
    static const char *bad[] = {"-1", "-0", "1.0", "1e2", "1E2", "00"};
    for (int i = 0; i < WG_LEN(bad); i++)
        cr_assert_eq(reads(bad[i], strlen(bad[i]), WG__JSON_WHOLE), WG_FORMAT, "%s", bad[i]);
    cr_assert_eq(reads("[0,10,9007199254740991]", 23, WG__JSON_WHOLE), WG_OK);
}

Test(json, depth_is_limited) {
    static char deep[100000];
    memset(deep, '[', sizeof deep);
    cr_assert_eq(reads(deep, sizeof deep, WG__JSON_ANY), WG_FORMAT);
    memset(deep, ']', sizeof deep);
    memset(deep, '[', 17);
    cr_assert_eq(reads(deep, 34, WG__JSON_ANY), WG_FORMAT);
    memset(deep, ']', sizeof deep);
    memset(deep, '[', 16);
    cr_assert_eq(reads(deep, 32, WG__JSON_ANY), WG_OK);
}

Test(json, the_number_of_values_is_limited) {
    enum { SIZE = 2 * ((1 << 22) + 1) };
    char *many = calloc(1, SIZE + 1);
    for (int i = 0; i < SIZE; i += 2)
        memcpy(many + i, ",1", 2);
    many[0] = '[', many[SIZE - 1] = ']';
    cr_assert_eq(reads(many, SIZE, WG__JSON_ANY), WG_FORMAT);
    free(many);
}

Test(json, the_tree_is_charged_to_the_memory) {
    static char many[20001];
    for (int i = 0; i < 10000; i++)
        memcpy(many + 2 * i, ",1", 2);
    many[0] = '[', many[20000] = ']';
    wg_memory *memory = wg_memory_new(NULL, 500000); /* 10,001 nodes take more */
    wg_json json;
    const char *why;
    size_t place;
    cr_assert_eq(wg__json_open(&json, memory, many, sizeof many, WG__JSON_ANY, &why, &place), WG_LIMIT);
    cr_assert_null(why);
    cr_assert_null(json.root);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

/* cJSON takes its nodes from the C library; here, for this process, from an allocator that fails. */
static long calls_left, blocks;

static void *meagre_malloc(size_t size) {
    if (calls_left-- == 0)
        return NULL;
    blocks++;
    return malloc(size);
}

static void meagre_free(void *block) {
    blocks -= block != NULL;
    free(block);
}

Test(json, a_refusal_inside_the_parser_is_one_of_memory) {
    static const char text[] = "{\"a\":[1,{\"b\":\"c\"},null],\"d\":\"\\u00e9\"}";
    cJSON_Hooks hooks = {meagre_malloc, meagre_free};
    cJSON_InitHooks(&hooks);
    wg_status status = WG_MEMORY;
    long k = 0;
    for (; status != WG_OK; k++) {
        wg_json json;
        const char *why;
        size_t place;
        calls_left = k;
        blocks = 0;
        status = wg__json_open(&json, NULL, text, sizeof text - 1, WG__JSON_ANY, &why, &place);
        cr_assert_null(why);
        cr_assert_eq(json.root != NULL, status == WG_OK);
        cr_assert(status == WG_OK || status == WG_MEMORY);
        wg__json_close(&json, NULL);
        cr_assert_eq(blocks, 0, "call %ld leaks", k);
    }
    cJSON_InitHooks(NULL);
    cr_assert_gt(k, 10);
}

Test(json, a_key_that_stands_twice_is_found) {
    static const char *texts[] = {"{\"a\":1,\"b\":2,\"A\":3}", "{\"a\":1,\"b\":2,\"a\":3}",
                                  "{\"b\":1,\"\\u0062\":2}", "{}"};
    static const char *twice[] = {NULL, "a", "b", NULL};
    for (int i = 0; i < WG_LEN(texts); i++) {
        wg_json json;
        const char *why, *key;
        size_t place;
        cr_assert_eq(wg__json_open(&json, NULL, texts[i], strlen(texts[i]), WG__JSON_ANY, &why, &place),
                     WG_OK);
        cr_assert_eq(wg__json_duplicate(NULL, json.root, &key), WG_OK);
        cr_assert_eq(key == NULL, twice[i] == NULL);
        if (key)
            cr_assert_str_eq(key, twice[i]);
        wg__json_close(&json, NULL);
    }
}
