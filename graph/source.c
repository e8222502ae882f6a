/* source.c: errors that point into a text. Touches only core. */
#include "source.h"

#include <stdio.h>
#include <string.h>

enum {
    SHOWN = 120,
    BEFORE = 80
}; /* bytes of a line that a message shows, and of those before the caret */

/* The bytes of a line, counted from 1, without its end. */
static const char *find_line(const wg_source *source, int line, size_t *size) {
    const char *at = source->text, *end = source->text + source->size;
    for (; line > 1 && at < end; line--) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        at = stop ? stop + 1 : end;
    }
    const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    *size = (size_t)((stop ? stop : end) - at);
    while (*size && at[*size - 1] == '\r')
        --*size;
    return at;
}

/* The offset of a column's first byte, within the line or at its end. */
static size_t find_column(const char *line, size_t size, int column) {
    uint32_t point;
    size_t at = 0;
    for (; column > 1 && at < size; column--) {
        int bytes = wg__utf8_next(line + at, size - at, &point);
        at += bytes > 0 ? (size_t)bytes : 1;
    }
    return at;
}

/* Copies a piece of a line: control characters and broken UTF-8 become spaces or '?', so that the
 * message stays a clean line. With `blank`, every character becomes a space. */
static size_t copy_line(char *out, const char *line, size_t from, size_t to, bool blank) {
    uint32_t point;
    size_t n = 0;
    for (size_t at = from; at < to;) {
        int bytes = wg__utf8_next(line + at, to - at, &point);
        unsigned char c = (unsigned char)line[at];
        if (bytes > 1 && !blank) {
            memcpy(out + n, line + at, (size_t)bytes);
            n += (size_t)bytes;
        } else {
            out[n++] = blank || c < 32 || c == 127 ? ' ' : bytes < 1 ? '?' : (char)c;
        }
        at += bytes > 0 ? (size_t)bytes : 1;
    }
    return n;
}

wg_status wg__source_error(const wg_source *source, wg_error *error, wg_status status, int line,
                           int column, const char *format, ...) {
    if (!error || error->status != WG_OK)
        return status;
    char message[512], shown[SHOWN + 8], blank[SHOWN + 8];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t size, from = 0;
    const char *text = find_line(source, line, &size);
    size_t caret = find_column(text, size, column);
    if (caret > BEFORE)
        for (from = caret - BEFORE; from < caret && ((unsigned char)text[from] & 0xC0) == 0x80;)
            from++;
    size_t to = size - from > SHOWN ? from + SHOWN : size;
    while (to < size && to > caret && ((unsigned char)text[to] & 0xC0) == 0x80)
        to--;
    shown[copy_line(shown, text, from, to, false)] = 0;
    blank[copy_line(blank, text, from, caret, true)] = 0;
    return wg_error_set(error, status, "%.200s:%d:%d: %s\n    %s\n    %s^", source->name, line,
                        column > 0 ? column : 1, message, shown, blank);
}
