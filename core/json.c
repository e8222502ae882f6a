/* json.c: a grammar check in front of cJSON, which is lenient (control characters, odd numbers, cut strings) and
 * tells no failed allocation from bad text. What passes here and then fails there was short of memory. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 16, LONGEST_NUMBER = 40, MOST_VALUES = 1 << 22 /* of cJSON's 64 bytes and more */ };

typedef struct scan {
    const char *text;
    size_t size, at;
    size_t values, strings; /* what cJSON will allocate */
    wg_json_numbers numbers;
    const char *why;
} scan;

static bool stop(scan *s, const char *why) {
    s->why = why;
    return false;
}

/* The next byte, or -1 at the end. */
static int peek(const scan *s) { return s->at < s->size ? (unsigned char)s->text[s->at] : -1; }

static bool take(scan *s, int byte) {
    bool there = peek(s) == byte;
    s->at += there;
    return there;
}

static void space(scan *s) {
    while (take(s, ' ') || take(s, '\n') || take(s, '\r') || take(s, '\t')) {
    }
}

static bool digits(scan *s) {
    size_t first = s->at;
    while (peek(s) >= '0' && peek(s) <= '9')
        s->at++;
    return s->at > first;
}

static bool number(scan *s) {
    size_t first = s->at;
    bool good = s->numbers == WG__JSON_ANY ? (take(s, '-'), true) : peek(s) != '-';
    bool zero = peek(s) == '0';
    size_t lead = s->at;
    good = good && digits(s) && !(zero && s->at > lead + 1);
    if (good && s->numbers == WG__JSON_ANY) {
        good = !take(s, '.') || digits(s);
        if (good && (take(s, 'e') || take(s, 'E'))) {
            if (!take(s, '-'))
                take(s, '+');
            good = digits(s);
        }
    }
    if (good && s->numbers == WG__JSON_WHOLE && peek(s) != -1 && strchr(".eE", peek(s)))
        good = false;
    if (good && s->at - first <= LONGEST_NUMBER)
        return true;
    s->at = first;
    return stop(s, s->numbers == WG__JSON_WHOLE ? "a number that is not whole and plain"
                                                : "a malformed number");
}

/* The four digits of \uXXXX, or -1. */
static int hex4(scan *s) {
    int value = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int c = peek(s);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool escape(scan *s) {
    int c = peek(s);
    if (c == -1 || !strchr("\"\\/bfnrtu", c) || c == 0)
        return stop(s, "an unknown escape in a string");
    s->at++;
    if (c != 'u')
        return true;
    int unit = hex4(s);
    if (unit == 0)
        return stop(s, "a string that holds the character 0");
    if (unit >= 0xD800 && unit < 0xDC00) {
        int low = take(s, '\\') && take(s, 'u') ? hex4(s) : -1;
        return (low >= 0xDC00 && low < 0xE000) || stop(s, "half of a surrogate pair");
    }
    return (unit > 0 && !(unit >= 0xDC00 && unit < 0xE000)) || stop(s, "a malformed \\u escape");
}

static bool string(scan *s) {
    if (!take(s, '"'))
        return stop(s, "no string where one belongs");
    s->strings++;
    while (!take(s, '"')) {
        uint32_t point = 0;
        if (take(s, '\\')) {
            if (!escape(s))
                return false;
            continue;
        }
        int length = wg__utf8_next(s->text + s->at, s->size - s->at, &point);
        if (!length)
            return stop(s, s->at < s->size ? "a byte that is not UTF-8" : "an unfinished string");
        if (point < 0x20)
            return stop(s, "a control character in a string");
        s->at += (size_t)length;
    }
    return true;
}

static bool word(scan *s, const char *wanted) {
    size_t length = strlen(wanted);
    if (s->size - s->at < length || memcmp(s->text + s->at, wanted, length) != 0)
        return stop(s, "no JSON value where one belongs");
    s->at += length;
    return true;
}

static bool value(scan *s, int level);

/* An object or an array, from behind its opening bracket. */
static bool members(scan *s, int level, bool keyed) {
    char close = keyed ? '}' : ']';
    space(s);
    if (take(s, close))
        return true;
    for (;;) {
        space(s);
        if (keyed) {
            if (!string(s))
                return false;
            space(s);
            if (!take(s, ':'))
                return stop(s, "no colon after a key");
        }
        if (!value(s, level))
            return false;
        if (take(s, close))
            return true;
        if (!take(s, ','))
            return stop(s, keyed ? "neither , nor } after a member" : "neither , nor ] after an item");
    }
}

/* A value and the space around it. */
static bool value(scan *s, int level) {
    if (++s->values > MOST_VALUES)
        return stop(s, "more than 4,194,304 values");
    space(s);
    bool good;
    switch (peek(s)) {
    case '{':
    case '[':
        if (level >= LEVELS)
            return stop(s, "more than 16 levels of brackets");
        s->at++;
        good = members(s, level + 1, s->text[s->at - 1] == '{');
        break;
    case '"': good = string(s); break;
    case 't': good = word(s, "true"); break;
    case 'f': good = word(s, "false"); break;
    case 'n': good = word(s, "null"); break;
    case '-':
    case '0' ... '9': good = number(s); break;
    default: good = stop(s, "no JSON value where one belongs");
    }
    space(s);
    return good;
}

wg_status wg__json_open(wg_json *json, wg_memory *memory, const char *text, size_t size,
                        wg_json_numbers numbers, const char **why, size_t *place) {
    enum { OVERHEAD = 32 }; /* of one block of the C library, rounded up */
    scan s = {.text = text, .size = size, .numbers = numbers};
    *json = (wg_json){0};
    bool good = value(&s, 0) && (s.at == size || stop(&s, "something after the value"));
    *why = s.why;
    *place = s.at;
    if (!good)
        return WG_FORMAT;
    size_t cost = wg__size(s.values, sizeof(cJSON) + OVERHEAD, wg__size(s.strings, OVERHEAD, size));
    json->held = wg__take(memory, cost);
    if (json->held)
        json->root = cJSON_ParseWithLength(text, size);
    if (json->root)
        return WG_OK;
    wg_status status = json->held ? WG_MEMORY : wg__refusal(memory);
    wg__json_close(json, memory);
    return status;
}

void wg__json_close(wg_json *json, wg_memory *memory) {
    cJSON_Delete(json->root);
    wg__give(memory, json->held);
    *json = (wg_json){0};
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

wg_status wg__json_duplicate(wg_memory *memory, const cJSON *object, const char **key) {
    size_t count = 0, used = 0;
    *key = NULL;
    for (const cJSON *item = object->child; item; item = item->next)
        count++;
    const char **keys = wg__take(memory, wg__size(count, sizeof *keys, 0));
    if (!keys)
        return wg__refusal(memory);
    for (const cJSON *item = object->child; item; item = item->next)
        keys[used++] = item->string;
    qsort(keys, count, sizeof *keys, by_text);
    for (size_t i = 1; i < count; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            *key = keys[i];
    wg__give(memory, keys);
    return WG_OK;
}
