/* source.h: a text with a name, and errors that point into it: FILE:LINE:COL: message, the line, a
 * caret. Includes only core. */
#ifndef WG_SOURCE_H
#define WG_SOURCE_H

#include "core.h"

/* A text being read. Not owned; need not end in a zero. */
typedef struct wg_source {
    const char *name; /* of the file, for messages */
    const char *text;
    size_t size;
} wg_source;

/* Sets *error (may be NULL) to "NAME:LINE:COLUMN: message", the source line and a caret line, and
 * returns `status`. Lines and columns count from 1, columns in characters; column 0 points at the
 * whole line. */
wg_status wg__source_error(const wg_source *source, wg_error *error, wg_status status, int line,
                           int column, const char *format, ...) WG_PRINTF(6, 7);

#endif
