/* registry.c: the table of built-in ops, read from ops.def. */
#include "ops.h"

#include <string.h>

#define OP(family, name, arguments, doc) extern const wg_op wg__op_##name;
#include "wengert/ops.def"
#undef OP

static const wg_op_entry entries[] = {
#define OP(family, name, arguments, doc) {#name, #family, #arguments, doc, &wg__op_##name},
#include "wengert/ops.def"
#undef OP
};

int wg_op_count(void) { return WG_LEN(entries); }
const wg_op_entry *wg_op_list(void) { return entries; }

const wg_op_entry *wg_op_find(const char *name) {
    for (int i = 0; i < WG_LEN(entries); i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}
