/* functions.c: the functions of the cell language: those that are no pointwise op, in a table; the
 * pointwise ones from the list of ops. Touches the ops only. */
#include "lang.h"

#include <limits.h>
#include <string.h>

enum { LAST = -1 };
static const int last_axis[1] = {LAST};

static wg_var softmax(wg_var v) { return wg_softmax(v, LAST); }
static wg_var log_softmax(wg_var v) { return wg_log_softmax(v, LAST); }
static wg_var layer_norm(wg_var v) { return wg_layer_norm(v, 1e-5); }
static wg_var rms_norm(wg_var v) { return wg_rms_norm(v, 1e-5); }
static wg_var cumsum(wg_var v) { return wg_cumsum(v, LAST); }
static wg_var sum(wg_var v) { return wg_sum(v, 1, last_axis, true); }
static wg_var mean(wg_var v) { return wg_mean(v, 1, last_axis, true); }

/* clang-format off */
static const wg_cell_function table[] = {
    {"softmax", WG_FUNCTION_SAME, 1, 1, 1, softmax},
    {"log_softmax", WG_FUNCTION_SAME, 1, 1, 1, log_softmax},
    {"layer_norm", WG_FUNCTION_SAME, 1, 1, 1, layer_norm},
    {"rms_norm", WG_FUNCTION_SAME, 1, 1, 1, rms_norm},
    {"cumsum", WG_FUNCTION_SAME, 1, 1, 1, cumsum},
    {"stop_gradient", WG_FUNCTION_SAME, 1, 1, 1, wg_stop_gradient},
    {"concat", WG_FUNCTION_CONCAT, 1, -1, INT_MAX, NULL},
    {"sum", WG_FUNCTION_REDUCE, 1, 1, 1, sum},
    {"mean", WG_FUNCTION_REDUCE, 1, 1, 1, mean},
    {"dot", WG_FUNCTION_DOT, 2, 2, 2, NULL},
    {"slice", WG_FUNCTION_SLICE, 3, 3, 1, NULL},
    {"dropout", WG_FUNCTION_DROPOUT, 2, 2, 1, NULL},
    {"bernoulli", WG_FUNCTION_BERNOULLI, 2, 2, 0, NULL},
    {"index", WG_FUNCTION_INDEX, 1, 1, 0, NULL},
    {"outer", WG_FUNCTION_LATER, 2, 2, 2, NULL},
    {"diag", WG_FUNCTION_LATER, 1, 1, 1, NULL},
    {"diagonal", WG_FUNCTION_LATER, 1, 1, 1, NULL},
    {"eye", WG_FUNCTION_LATER, 1, 1, 1, NULL},
    {"zeros", WG_FUNCTION_LATER, 1, 2, 2, NULL},
    {"ones", WG_FUNCTION_LATER, 1, 2, 2, NULL},
    {"reshape", WG_FUNCTION_LATER, 2, 3, 3, NULL},
};
/* clang-format on */

/* C functions are numbered behind the ops. */
static int first_foreign(void) { return WG_LEN(table) + wg_op_count(); }

int wg__function_find(const wg_foreign *foreign, const char *name) {
    for (int i = 0; i < WG_LEN(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return i;
    const wg_op_entry *entry = wg_op_find(name);
    if (entry && entry->op->kind == WG_POINTWISE)
        return WG_LEN(table) + (int)(entry - wg_op_list());
    const wg_op *op = wg_foreign_find(foreign, name);
    for (int i = 0; op; i++)
        if (wg_foreign_op(foreign, i) == op)
            return first_foreign() + i;
    return -1;
}

/* The number of parameters in a C prototype's list, "(wg_var x, double slope)". */
static int count_arguments(const char *arguments) {
    int n = 1;
    for (; *arguments; arguments++)
        n += *arguments == ',';
    return n;
}

wg_cell_function wg__function_at(const wg_foreign *foreign, int number) {
    if (number < WG_LEN(table))
        return table[number];
    if (number >= first_foreign()) {
        const wg_op *op = wg_foreign_op(foreign, number - first_foreign());
        wg_function_kind kind = op->kind == WG_POINTWISE ? WG_FUNCTION_POINTWISE : WG_FUNCTION_FOREIGN;
        return (wg_cell_function){op->name, kind, op->arity, op->arity, op->arity, NULL};
    }
    const wg_op_entry *entry = &wg_op_list()[number - WG_LEN(table)];
    int n = count_arguments(entry->arguments);
    return (wg_cell_function){entry->name, WG_FUNCTION_POINTWISE, n, n, entry->op->arity, NULL};
}

const wg_op *wg__function_op(const wg_foreign *foreign, int number) {
    return number < WG_LEN(table)     ? NULL
           : number < first_foreign() ? wg_op_list()[number - WG_LEN(table)].op
                                      : wg_foreign_op(foreign, number - first_foreign());
}

const wg_cell_function *wg__function_row(int number) { return &table[number]; }
