/* nonfinite.c: which op made the first NaN or Inf, by watching an evaluation. Reads node origins and step marks. */
#include "graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t wg__nonfinite_element(const wg_array *array, double *found) {
    int64_t index[WG_MAX_RANK] = {0}, dense[WG_MAX_RANK], first = -1;
    wg__dense_strides(array->shape, dense);
    const int64_t *stride = array->stride ? array->stride : dense;
    for (int64_t i = 0; i < array->shape->count && array->dtype != WG_I32; i++) {
        int64_t at = 0;
        for (int k = 0; k < array->shape->rank; k++)
            at += index[k] * stride[k];
        double value = array->dtype == WG_F32 ? (double)((const float *)array->data)[at] : ((const double *)array->data)[at];
        if (isnan(value) || (isinf(value) && first < 0)) {
            first = i;
            *found = value;
            if (isnan(value))
                break;
        }
        for (int k = array->shape->rank - 1; k >= 0 && ++index[k] == array->shape->dim[k]; k--)
            index[k] = 0;
    }
    return first;
}

bool wg__finite(const wg_array *array) {
    double value;
    return wg__nonfinite_element(array, &value) < 0;
}

/* What is known of a value that is not finite: the node its trouble came from (0: it is finite), and whether it holds a NaN. */
typedef struct trouble {
    uint32_t from;
    bool nan;
} trouble;

typedef struct search {
    trouble *nodes; /* by id */
    /* the second walk */
    int64_t culprit, element;
    double value;
} search;

static bool is_leaf(const wg_tape *tape, int64_t id) { return wg__node(tape, id)->op->kind == WG_LEAF; }

/* The first walk: passes troubles on from operands to results. */
static bool trace(void *user, const wg_tape *tape, int64_t id, const wg_array *array) {
    search *s = user;
    double value;
    if (wg__nonfinite_element(array, &value) < 0)
        return true;
    const wg_node *node = wg__node(tape, id);
    trouble mine = {(uint32_t)id, isnan(value)};
    bool nan_before = false;
    uint32_t earliest = 0;
    for (uint32_t k = 0; k < node->n; k++) {
        trouble before = s->nodes[wg__inputs(node)[k]];
        if (!before.from)
            continue;
        nan_before = nan_before || before.nan;
        bool better = !earliest || (is_leaf(tape, earliest) && !is_leaf(tape, before.from)) ||
                      (is_leaf(tape, earliest) == is_leaf(tape, before.from) && before.from < earliest);
        if (better)
            earliest = before.from;
    }
    if (earliest && !(is_leaf(tape, earliest) && mine.nan && !nan_before))
        mine.from = earliest;
    s->nodes[id] = mine;
    return true;
}

/* The second walk: stops at the culprit. */
static bool look(void *user, const wg_tape *tape, int64_t id, const wg_array *array) {
    search *s = user;
    (void)tape;
    if (id != s->culprit)
        return true;
    s->element = wg__nonfinite_element(array, &s->value);
    return false;
}

/* The step that holds the node. */
static void find_step(const wg_tape *tape, int64_t id, wg_nonfinite *found) {
    const wg_step_mark *marks = tape->steps;
    int64_t i = tape->step_count - 1;
    while (i >= 0 && marks[i].id > id)
        i--;
    if (i < 0 || marks[i].step == WG_NO_STEP)
        return;
    found->adjoint = marks[i].step < 0;
    found->step = (found->adjoint ? ~marks[i].step : marks[i].step) + 1;
}

static void describe(const wg_tape *tape, const search *s, wg_nonfinite *found) {
    const wg_node *node = wg__node(tape, s->culprit);
    wg_shape place = *node->shape;
    char where[WG_MAX_RANK * 24], step[64] = "", shape[WG_MAX_RANK * 24];
    const char *what = isnan(s->value) ? "NaN" : s->value > 0 ? "Inf" : "-Inf";
    int64_t rest = s->element;
    for (int k = place.rank - 1; k >= 0; k--) {
        place.dim[k] = rest % node->shape->dim[k];
        rest /= node->shape->dim[k];
    }
    wg_shape_text(&place, where, sizeof where);
    wg_shape_text(node->shape, shape, sizeof shape);
    *found = (wg_nonfinite){.var = wg__var((wg_tape *)(uintptr_t)tape, s->culprit), .op = node->op->name,
                            .tensor = node->op == &wg__op_leaf ? node->tensor : NULL,
                            .place = wg__origin_place(tape, node->origin), .element = s->element, .value = s->value};
    if (node->op->kind == WG_LEAF) {
        snprintf(found->text, sizeof found->text, "%s of shape %s holds %s, element %s",
                 found->tensor ? "an input" : "a constant", shape, what, where);
        return;
    }
    find_step(tape, s->culprit, found);
    if (found->step)
        snprintf(step, sizeof step, " %s step %lld", found->adjoint ? "in the derivative of" : "at", (long long)found->step);
    snprintf(found->text, sizeof found->text, "%s made %s%s%s%.200s%s, element %s", found->op, what, step,
             found->place[0] ? " (" : "", found->place, found->place[0] ? ")" : "", where);
}

wg_status wg_find_nonfinite(int n, const wg_var *y, wg_nonfinite *found, wg_error *error) {
    wg_tape *tape = wg__tape_of(n, y);
    search s = {0};
    wg_nonfinite own;
    found = found ? found : &own;
    memset(found, 0, sizeof *found);
    if (!tape)
        return wg_error_set(error, WG_ARGUMENT, "find_nonfinite: no output is a var of a tape");
    s.nodes = wg__take0(tape->memory, wg__size((size_t)tape->count, sizeof *s.nodes, 0));
    if (!s.nodes) {
        wg_status status = wg__refusal(tape->memory);
        return wg_error_set(error, status, "find_nonfinite: %s", wg_status_sentence(status));
    }
    wg_status status = wg__eval(NULL, n, y, NULL, trace, &s, error);
    for (int i = 0; i < n && status == WG_OK; i++) {
        uint32_t from = s.nodes[y[i].as.id].from;
        if (from && (!s.culprit || from < s.culprit))
            s.culprit = from;
    }
    if (status == WG_OK && s.culprit) {
        s.element = -1;
        status = wg__eval(NULL, n, y, NULL, look, &s, error);
        if (status == WG_OK) {
            describe(tape, &s, found);
            status = wg_error_set(error, WG_NONFINITE, "%s", found->text);
        }
    }
    wg__give(tape->memory, s.nodes);
    return status;
}
