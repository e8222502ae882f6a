/* reader.h: what the parts that build a checked cell share: lang.c, declare.c, names.c, shapes.c,
 * initialisers.c. */
#ifndef WG_READER_H
#define WG_READER_H

#include "lang.h"

typedef struct wg_reader {
    wg_lang *lang;
    wg_parser parser; /* its status is the reader's */
    wg_error *error;
    int settings;
    const wg_setting *setting;
    bool *setting_used;
    int first_use; /* C functions that were bound before */
    int64_t symbol_room, equation_room, init_room, warning_room;
    bool named;      /* the cell line was read */
    bool declares;   /* the text has declarations only: the equations are a C function */
    wg_token output; /* of the output line; kind 0 if there was none */
} wg_reader;

/* Fails at a place of the cell's text; returns NULL. */
void *wg__reader_fail(wg_reader *reader, wg_status status, int line, int column, const char *format,
                      ...) WG_PRINTF(5, 6);
/* Takes over the failure that a call left in reader->error; returns false. */
bool wg__reader_failed(wg_reader *reader, wg_status status);
void wg__reader_warn(wg_reader *reader, int line, int column, const char *format, ...)
    WG_PRINTF(4, 5);
/* A new symbol's index; -1, with an error, if the name is taken, reserved, or one too many. */
int wg__reader_add(wg_reader *reader, wg_symbol_kind kind, const char *name, int line, int column);
const char *wg__symbol_what(wg_symbol_kind kind); /* "a state" */
char *wg__reader_text(wg_reader *reader, const char *format, ...)
    WG_PRINTF(2, 3); /* in the arena */

/* declare.c: if a declaration stands at `now`, reads it. */
bool wg__read_declaration(wg_reader *reader);
bool wg__is_declaration_word(const char *name);
/* names.c: says of every name in every equation what it is. */
void wg__resolve_names(wg_reader *reader);
void wg__check_used(wg_reader *reader);
/* shapes.c: says of every node and every name what its shape is. */
void wg__infer_shapes(wg_reader *reader);
/* initialisers.c: checks the text's init lines. */
void wg__check_inits(wg_reader *reader);

#endif
