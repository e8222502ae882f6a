/* status.c: the names and sentences of every status, and the error that carries a place. Touches nothing. */
#include "core.h"

#include <stdio.h>

static const struct {
    const char *name, *sentence;
} table[] = {
#define ROW(name, sentence) {"WG_" #name, sentence},
    WG_STATUS_MAP(ROW)
#undef ROW
};

static bool known(wg_status status) { return (unsigned)status < sizeof table / sizeof table[0]; }

const char *wg_status_name(wg_status status) {
    return known(status) ? table[status].name : "WG_?";
}

const char *wg_status_sentence(wg_status status) {
    return known(status) ? table[status].sentence : "a status this library does not know";
}

wg_status wg_error_set(wg_error *error, wg_status status, const char *format, ...) {
    if (error && error->status == WG_OK) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
        error->status = status;
    }
    return status;
}
