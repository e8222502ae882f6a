/* text.c: UTF-8, hostile text inside a one-line message, and text that grows. Touches nothing but memory. */
#include "core.h"

#include <stdio.h>
#include <string.h>

/* Lead byte, continuation bytes and smallest code point of each length. */
static const struct {
    unsigned char mask, lead;
    uint32_t least;
} lengths[] = {{0x80, 0x00, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};

int wg__utf8_next(const char *text, size_t size, uint32_t *point) {
    const unsigned char *byte = (const unsigned char *)text;
    for (int more = 0; size > 0 && more < WG_LEN(lengths); more++) {
        if ((byte[0] & lengths[more].mask) != lengths[more].lead)
            continue;
        uint32_t value = byte[0] & (unsigned char)~lengths[more].mask;
        if (size <= (size_t)more)
            return 0;
        for (int i = 1; i <= more; i++) {
            if ((byte[i] & 0xC0) != 0x80)
                return 0;
            value = value << 6 | (byte[i] & 0x3F);
        }
        bool surrogate = value >= 0xD800 && value < 0xE000;
        if (value < lengths[more].least || value > 0x10FFFF || surrogate)
            return 0;
        *point = value;
        return more + 1;
    }
    return 0;
}

size_t wg__utf8_check(const char *text, size_t size) {
    size_t at = 0;
    while (at < size) {
        uint32_t point;
        int length = wg__utf8_next(text + at, size - at, &point);
        if (!length)
            break;
        at += (size_t)length;
    }
    return at;
}

/* Writes one character of `text` as it may stand in a message; returns how many bytes of it were read. */
static size_t show(const char *text, size_t left, char piece[8]) {
    uint32_t point = 0;
    int length = wg__utf8_next(text, left, &point);
    /* control characters, and the marks that turn the direction or break the line */
    bool control = point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 ||
                   point == 0x2029 || (point >= 0x202A && point <= 0x202E) ||
                   (point >= 0x2066 && point <= 0x2069);
    if (length && !control) {
        memcpy(piece, text, (size_t)length);
        piece[length] = 0;
        return (size_t)length;
    }
    snprintf(piece, 8, "\\x%02X", (unsigned char)text[0]);
    return 1;
}

char *wg__quote(const char *text, char *out, size_t size) {
    static const char tail[] = "…'";
    size_t left = strlen(text), used = 0;
    out[used++] = '\'';
    while (left) {
        char piece[8];
        size_t read = show(text, left, piece), wrote = strlen(piece);
        if (used + wrote + sizeof tail > size) {
            memcpy(out + used, tail, sizeof tail);
            return out;
        }
        memcpy(out + used, piece, wrote);
        used += wrote, text += read, left -= read;
    }
    memcpy(out + used, "'", 2);
    return out;
}

/* ---- text that grows ---- */

void wg__text_bytes(wg_text *text, const char *bytes, size_t size) {
    size_t needed = wg__size(text->used, 1, wg__size(size, 1, 1));
    if (!text->refused && needed > text->room) {
        size_t room = needed > text->room * 2 ? needed : text->room * 2;
        char *larger = wg__regrow(text->memory, text->text, room);
        if (!larger) {
            text->refused = true;
            return;
        }
        text->text = larger;
        text->room = room;
    }
    if (text->refused)
        return;
    if (size)
        memcpy(text->text + text->used, bytes, size);
    text->used += size;
    text->text[text->used] = 0;
}

void wg__text_add(wg_text *text, const char *format, ...) {
    char piece[256], *bytes = piece;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    if (length >= (int)sizeof piece) {
        bytes = wg__take(text->memory, (size_t)length + 1);
        if (bytes)
            vsnprintf(bytes, (size_t)length + 1, format, again);
        else
            text->refused = true;
    }
    if (bytes && length > 0)
        wg__text_bytes(text, bytes, (size_t)length);
    if (bytes != piece)
        wg__give(text->memory, bytes);
    va_end(again);
    va_end(arguments);
}

void wg__text_json(wg_text *text, const char *string) {
    wg__text_bytes(text, "\"", 1);
    for (; *string; string++) {
        if (*string == '"' || *string == '\\')
            wg__text_add(text, "\\%c", *string);
        else if ((unsigned char)*string < 0x20)
            wg__text_add(text, "\\u%04x", (unsigned)*string);
        else
            wg__text_bytes(text, string, 1);
    }
    wg__text_bytes(text, "\"", 1);
}
