/* output.c: errors, JSON, tables and the progress line, for every subcommand. */
#include "output.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- messages ---- */

/* The library shows a place in a text as three lines: the message, the line, a caret below it. A
 * terminal gets them so; elsewhere a message is one line, with the caret put into the line it
 * points at. */
static void fold_caret(char *text, size_t size) {
    char *line = strchr(text, '\n'), *below = line ? strchr(line + 1, '\n') : NULL;
    size_t place = below ? strcspn(below + 1, "^") : 0;
    if (!below || below[1 + place] != '^' || below[2 + place] || place > (size_t)(below - line - 1))
        return;
    char *shown = format_text("%.*s^%.*s", (int)place, line + 1,
                              (int)((size_t)(below - line - 1) - place), line + 1 + place);
    snprintf(line, size - (size_t)(line - text), ": %s", shown + strspn(shown, " \t"));
    free(shown);
}

/* Control characters, which names may hold, become blanks. */
static void say(const common *c, const char *kind, const char *format, va_list arguments) {
    bool terminal = isatty(STDERR_FILENO);
    char text[2048];
    vsnprintf(text, sizeof text, format, arguments);
    if (!terminal)
        fold_caret(text, sizeof text);
    for (char *at = text; *at; at++)
        if (((unsigned char)*at < 32 || *at == 127) && !(terminal && *at == '\n'))
            *at = ' ';
    fflush(stdout);
    fprintf(stderr, "wengert %s: %s%s\n", c->command->name, kind, text);
}

int fail(const common *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(c, "", format, arguments);
    va_end(arguments);
    return 1;
}

int misuse(const common *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(c, "", format, arguments);
    va_end(arguments);
    return 2;
}

void note(const common *c, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(c, "note: ", format, arguments);
    va_end(arguments);
}

int fail_error(const common *c, const wg_error *error) {
    return fail(c, "%s", error->text[0] ? error->text : wg_status_sentence(error->status));
}

int fail_memory(const common *c) {
    wg_status status = c->memory ? wg_memory_status(c->memory) : WG_OK;
    return fail(c, "%s", wg_status_sentence(status == WG_OK ? WG_MEMORY : status));
}

/* ---- memory ---- */

void *grow(void *block, size_t count, size_t size) {
    void *room = size && count > SIZE_MAX / size ? NULL : realloc(block, count * size + 1);
    if (room)
        return room;
    fprintf(stderr, "wengert: %s\n", wg_status_sentence(WG_MEMORY));
    exit(1);
}

void *allocate(size_t count, size_t size) {
    void *block = grow(NULL, count, size);
    memset(block, 0, count * size);
    return block;
}

char *copy_text(const char *text) { return format_text("%s", text); }

char *format_text(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = allocate((size_t)(size < 0 ? 0 : size) + 1, 1);
    if (size > 0)
        vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return text;
}

/* ---- JSON ---- */

/* What stands between this value and the one before. */
static void separate(json *j) {
    if (!j->keyed && j->depth && j->some[j->depth - 1])
        fputc(',', j->file);
    if (j->depth)
        j->some[j->depth - 1] = true;
    j->keyed = false;
}

/* The bytes of the UTF-8 character that begins here; 0 if none does. */
static int character(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    int size = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;
    for (int i = 1; i < size; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) || (*c == 0xf0 && c[1] < 0x90) ||
        (*c == 0xf4 && c[1] > 0x8f))
        return 0;
    return size;
}

static void put_string(json *j, const char *text) {
    fputc('"', j->file);
    for (int size; *text; text += size ? size : 1) {
        size = character(text);
        if (size == 0)
            fputs("\xef\xbf\xbd", j->file);
        else if (*text == '"' || *text == '\\')
            fprintf(j->file, "\\%c", *text);
        else if (*text == '\n')
            fputs("\\n", j->file);
        else if ((unsigned char)*text < 32 || *text == 127)
            fprintf(j->file, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fwrite(text, 1, (size_t)size, j->file);
    }
    fputc('"', j->file);
}

void json_key(json *j, const char *key) {
    separate(j);
    put_string(j, key);
    fputc(':', j->file);
    j->keyed = true;
}

void json_open(json *j, char bracket) {
    separate(j);
    fputc(bracket, j->file);
    if (j->depth < JSON_DEPTH)
        j->some[j->depth++] = false;
}

void json_close(json *j, char bracket) {
    fputc(bracket, j->file);
    if (j->depth)
        j->depth--;
}

void json_text(json *j, const char *text) {
    separate(j);
    if (text)
        put_string(j, text);
    else
        fputs("null", j->file);
}

void json_number(json *j, double value) {
    char text[40];
    separate(j);
    if (!isfinite(value)) {
        fputs("null", j->file);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, j->file);
}

void json_integer(json *j, int64_t value) {
    separate(j);
    fprintf(j->file, "%lld", (long long)value);
}

void json_bool(json *j, bool value) {
    separate(j);
    fputs(value ? "true" : "false", j->file);
}

void json_shape(json *j, const wg_shape *shape) {
    json_open(j, '[');
    for (int axis = 0; axis < shape->rank; axis++)
        json_integer(j, shape->dim[axis]);
    json_close(j, ']');
}

void json_end_line(json *j) {
    fputc('\n', j->file);
    *j = (json){.file = j->file};
}

void json_put_text(json *j, const char *key, const char *text) {
    json_key(j, key);
    json_text(j, text);
}

void json_put_number(json *j, const char *key, double value) {
    json_key(j, key);
    json_number(j, value);
}

void json_put_integer(json *j, const char *key, int64_t value) {
    json_key(j, key);
    json_integer(j, value);
}

void json_put_bool(json *j, const char *key, bool value) {
    json_key(j, key);
    json_bool(j, value);
}

/* ---- tables ---- */

table table_begin(int columns) { return (table){.columns = columns}; }

void table_cell(table *t, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    t->cell = grow(t->cell, (size_t)t->cells + 1, sizeof *t->cell);
    t->cell[t->cells++] = copy_text(text);
}

/* The columns a UTF-8 text takes, as far as one can tell: one a character. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

void table_print(table *t, FILE *file) {
    int *width = allocate((size_t)t->columns, sizeof *width);
    for (int i = 0; i < t->cells; i++)
        if (width_of(t->cell[i]) > width[i % t->columns])
            width[i % t->columns] = width_of(t->cell[i]);
    for (int i = 0; i < t->cells; i++) {
        bool last = i % t->columns == t->columns - 1;
        if (file)
            fprintf(file, "  %s%*s", t->cell[i],
                    last ? 0 : width[i % t->columns] - width_of(t->cell[i]), last ? "\n" : "");
        free(t->cell[i]);
    }
    free(width);
    free(t->cell);
    *t = (table){.columns = t->columns};
}

/* ---- paragraphs ---- */

static void print_paragraph(FILE *file, const char *text, size_t size, int indent, int width) {
    int column = 0;
    for (size_t at = 0; at < size;) {
        int word = 0, columns = 0;
        for (; at + (size_t)word < size && text[at + (size_t)word] != ' '; word++)
            columns += (text[at + (size_t)word] & 0xc0) != 0x80;
        if (column && column + 1 + columns > width) {
            fputc('\n', file);
            column = 0;
        }
        fprintf(file, "%*s%.*s", column ? 1 : indent, "", word, text + at);
        column += columns + (column ? 1 : indent);
        for (at += (size_t)word; at < size && text[at] == ' ';)
            at++;
    }
    fputc('\n', file);
}

void print_wrapped(FILE *file, const char *text, int indent, int width) {
    while (*text) {
        size_t size = strcspn(text, "\n");
        if (*text == ' ')
            fprintf(file, "%*s%.*s\n", indent, "", (int)size, text);
        else
            print_paragraph(file, text, size, indent, width);
        text += size + (text[size] == '\n');
    }
}

/* ---- progress ---- */

double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

progress progress_begin(void) { return (progress){.on = isatty(STDERR_FILENO) != 0}; }

void progress_show(progress *p, bool now, const char *format, ...) {
    double time = seconds();
    if (!p->on || (!now && time - p->last < 0.1))
        return;
    p->last = time;
    fputc('\r', stderr);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\x1b[K", stderr);
    fflush(stderr);
}

void progress_end(progress *p) {
    if (p->on && p->last > 0)
        fputs("\r\x1b[K", stderr);
    *p = (progress){0};
}
