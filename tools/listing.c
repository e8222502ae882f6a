/* listing.c: tables of a cell's names. */
#include "listing.h"

#include <string.h>

typedef struct listing {
    table table;
    const wg_cell *cell;
    int64_t input, hidden;
    bool assumed;
} listing;

static bool is_param(const wg_cell_entry *e) {
    return strcmp(e->kind, "param") == 0 || strcmp(e->kind, "fixed") == 0;
}

static void show_param(void *user, const wg_cell_entry *e) {
    listing *l = user;
    wg_shape shape;
    char numbers[96] = "";
    if (!is_param(e))
        return;
    if (l->hidden > 0 &&
        wg_cell_shape(l->cell, e->name, l->input, l->hidden, &shape, NULL) == WG_OK)
        wg_shape_text(&shape, numbers, sizeof numbers);
    table_cell(&l->table, "%s%s", e->name, strcmp(e->kind, "fixed") == 0 ? " (fixed)" : "");
    table_cell(&l->table, "%s%s", e->shape, e->assumed ? " *" : "");
    table_cell(&l->table, "%s", numbers);
    table_cell(&l->table, "%s", e->initialiser);
    table_cell(&l->table, "line %d", e->line);
    table_cell(&l->table, "%s", e->reason);
    l->assumed = l->assumed || e->assumed;
}

int list_params(const common *c, const wg_cell *cell, const wg_draw *draw, int64_t input,
                int64_t hidden, FILE *file) {
    listing l = {table_begin(6), cell, input, hidden, false};
    wg_error error = {0};
    if (wg_cell_describe(c->memory, cell, draw, show_param, &l, &error) != WG_OK)
        return fail_error(c, &error);
    table_print(&l.table, file);
    if (l.assumed)
        fprintf(file, "  * a length is `hidden` because nothing says otherwise\n");
    return 0;
}

static void show_name(void *user, const wg_cell_entry *e) {
    listing *l = user;
    if (is_param(e) || strcmp(e->kind, "size") == 0 || strcmp(e->kind, "const") == 0)
        return;
    table_cell(&l->table, "%s", e->name);
    table_cell(&l->table, "%s", e->kind);
    table_cell(&l->table, "%s", e->shape);
    table_cell(&l->table, "line %d", e->line);
}

int list_names(const common *c, const wg_cell *cell, FILE *file) {
    listing l = {table_begin(4), cell, 0, 0, false};
    wg_error error = {0};
    if (wg_cell_describe(c->memory, cell, NULL, show_name, &l, &error) != WG_OK)
        return fail_error(c, &error);
    table_print(&l.table, file);
    return 0;
}
