/* output.h: how the program speaks: errors on one line, JSON, tables of text, the progress line. */
#ifndef WG_TOOLS_OUTPUT_H
#define WG_TOOLS_OUTPUT_H

#include "options.h"

#include <stdio.h>

/* One line on standard error: "wengert SUBCOMMAND: message". fail returns 1, misuse 2: what main
 * returns. */
int fail(const common *c, const char *format, ...) WG_PRINTF(2, 3);
int misuse(const common *c, const char *format, ...) WG_PRINTF(2, 3);
/* The same from a library's error. */
int fail_error(const common *c, const wg_error *error);
/* The same for memory that was refused: none left, or the limit reached. */
int fail_memory(const common *c);
/* A line that is no failure: "wengert SUBCOMMAND: note: message". */
void note(const common *c, const char *format, ...) WG_PRINTF(2, 3);

/* Memory of the program itself; it ends with a message when there is none. */
void *allocate(size_t count, size_t size); /* zeroed */
void *grow(void *block, size_t count, size_t size);
char *copy_text(const char *text);
char *format_text(const char *format, ...) WG_PRINTF(1, 2);

/* ---- JSON, written to a stream as it is made ----------------------------------------------------
 */
enum { JSON_DEPTH = 16 };
typedef struct json {
    FILE *file;
    int depth;
    bool some[JSON_DEPTH]; /* whether the level has an element yet */
    bool keyed;            /* a key was just written */
} json;

void json_key(json *j, const char *key);
void json_open(json *j, char bracket);     /* '{' or '[' */
void json_close(json *j, char bracket);    /* '}' or ']' */
void json_text(json *j, const char *text); /* NULL: null; bytes that are not UTF-8 become U+FFFD */
void json_number(json *j, double value); /* shortest that reads back the same; null unless finite */
void json_integer(json *j, int64_t value);
void json_bool(json *j, bool value);
void json_shape(json *j, const wg_shape *shape);
void json_end_line(json *j); /* after the outermost value */
/* "key": value */
void json_put_text(json *j, const char *key, const char *text);
void json_put_number(json *j, const char *key, double value);
void json_put_integer(json *j, const char *key, int64_t value);
void json_put_bool(json *j, const char *key, bool value);

/* ---- tables of text
 * ------------------------------------------------------------------------------- */
typedef struct table {
    int columns, cells;
    char **cell;
} table;

/* Adds a row: one text a column, the number of columns fixed by table_begin. */
table table_begin(int columns);
void table_cell(table *t, const char *format, ...) WG_PRINTF(2, 3);
/* Prints it with columns aligned, two blanks before each row (to NULL: not), and frees it. */
void table_print(table *t, FILE *file);

/* Prints text broken at `width` columns, every line begun by `indent` blanks. A line of the text
 * that begins with a blank is printed as it is. */
void print_wrapped(FILE *file, const char *text, int indent, int width);

/* ---- progress
 * -------------------------------------------------------------------------------------- */
typedef struct progress {
    bool on;     /* standard error is a terminal */
    double last; /* when it was last written, in seconds */
} progress;
progress progress_begin(void);
/* Rewrites the line, at most ten times a second (`now`: in any case). */
void progress_show(progress *p, bool now, const char *format, ...) WG_PRINTF(3, 4);
void progress_end(progress *p); /* clears it */
double seconds(void);           /* a clock that never goes back */

#endif
