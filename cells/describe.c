/* describe.c: what a cell's text says and inference found, for people: every name with its shape,
 * the reason and its initialiser. Reads the checked tree. */
#include "cell.h"

#include "initialisers.h"

#include <stdio.h>
#include <string.h>

static const char *kind_name(const wg_symbol *s) {
    static const char *const name[] = {
        [WG_SYMBOL_INPUT] = "input", [WG_SYMBOL_SIZE] = "size",   [WG_SYMBOL_CONST] = "const",
        [WG_SYMBOL_STATE] = "state", [WG_SYMBOL_PARAM] = "param", [WG_SYMBOL_VALUE] = "value"};
    return s->kind == WG_SYMBOL_PARAM && s->fixed ? "fixed" : name[s->kind];
}

static void fill(const wg_lang *lang, const wg_inits *inits, int symbol, wg_cell_entry *entry) {
    const wg_symbol *s = &lang->symbol[symbol];
    *entry = (wg_cell_entry){.name = s->name, .kind = kind_name(s), .line = s->line};
    if (s->kind != WG_SYMBOL_SIZE && s->kind != WG_SYMBOL_CONST)
        wg__extent_text(&s->extent, entry->shape, sizeof entry->shape);
    if (s->kind != WG_SYMBOL_PARAM)
        return;
    entry->assumed = s->hidden[0] || s->hidden[1];
    snprintf(entry->reason, sizeof entry->reason, "%s", s->reason ? s->reason : "");
    wg__inits_text(inits, wg__lang_param(lang, symbol), entry->initialiser,
                   sizeof entry->initialiser);
}

wg_status wg_cell_describe(wg_memory *memory, const wg_cell *cell, const wg_draw *draw,
                           void (*show)(void *user, const wg_cell_entry *entry), void *user,
                           wg_error *error) {
    wg_error own = {0};
    wg_inits *inits =
        wg__inits_new(memory, cell->lang, draw ? draw->lines : 0, draw ? draw->line : NULL, &own);
    if (!inits)
        return wg_error_set(error, own.status, "%s", own.text);
    for (int symbol = 0; symbol < cell->lang->symbols; symbol++) {
        wg_cell_entry entry;
        fill(cell->lang, inits, symbol, &entry);
        if (entry.line > 0)
            show(user, &entry);
    }
    wg__inits_free(inits);
    return WG_OK;
}
