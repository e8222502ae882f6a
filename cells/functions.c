/* functions.c: the functions of the cell language: those that are no pointwise op, in a table; the
 * pointwise ones from the list of ops. Touches the list of ops only. */
#include "lang.h"

#include <limits.h>
#include <string.h>

/* clang-format off */
static const wg_function table[] = {
    {"softmax", WG_FUNCTION_SAME, 1, 1, 1},
    {"log_softmax", WG_FUNCTION_SAME, 1, 1, 1},
    {"layer_norm", WG_FUNCTION_SAME, 1, 1, 1},
    {"rms_norm", WG_FUNCTION_SAME, 1, 1, 1},
    {"cumsum", WG_FUNCTION_SAME, 1, 1, 1},
    {"stop_gradient", WG_FUNCTION_SAME, 1, 1, 1},
    {"concat", WG_FUNCTION_CONCAT, 1, -1, INT_MAX},
    {"sum", WG_FUNCTION_REDUCE, 1, 1, 1},
    {"mean", WG_FUNCTION_REDUCE, 1, 1, 1},
    {"dot", WG_FUNCTION_DOT, 2, 2, 2},
    {"slice", WG_FUNCTION_SLICE, 3, 3, 1},
    {"dropout", WG_FUNCTION_DROPOUT, 2, 2, 1},
    {"bernoulli", WG_FUNCTION_BERNOULLI, 2, 2, 0},
    {"index", WG_FUNCTION_INDEX, 1, 1, 0},
    {"outer", WG_FUNCTION_LATER, 2, 2, 2},
    {"diag", WG_FUNCTION_LATER, 1, 1, 1},
    {"diagonal", WG_FUNCTION_LATER, 1, 1, 1},
    {"eye", WG_FUNCTION_LATER, 1, 1, 1},
    {"zeros", WG_FUNCTION_LATER, 1, 2, 2},
    {"ones", WG_FUNCTION_LATER, 1, 2, 2},
    {"reshape", WG_FUNCTION_LATER, 2, 3, 3},
};
/* clang-format on */

int wg__function_find(const char *name) {
    for (int i = 0; i < WG_LEN(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return i;
    const wg_op_entry *entry = wg_op_find(name);
    if (entry && entry->op->kind == WG_POINTWISE)
        return WG_LEN(table) + (int)(entry - wg_op_list());
    return -1;
}

/* The number of parameters in a C prototype's list, "(wg_var x, double slope)". */
static int count_arguments(const char *arguments) {
    int n = 1;
    for (; *arguments; arguments++)
        n += *arguments == ',';
    return n;
}

wg_function wg__function_at(int number) {
    if (number < WG_LEN(table))
        return table[number];
    const wg_op_entry *entry = &wg_op_list()[number - WG_LEN(table)];
    int n = count_arguments(entry->arguments);
    return (wg_function){entry->name, WG_FUNCTION_POINTWISE, n, n, entry->op->arity};
}
