/* check_report.c: the checks as users call them: of a graph and of an op, each comparison shown,
 * the first failure kept. */
#include "check.h"

/* Where comparisons go: the caller's function, and the first failure. */
typedef struct desk {
    const wg_check_options *options;
    bool named; /* several ops or examples: messages say which */
    wg_error first;
} desk;

static void receive(void *user, const wg_check_line *line) {
    desk *d = user;
    const wg_check_result result = {line->name,  line->example, wg__check_label(line->kind),
                                    line->error, line->passed,  line->text ? line->text : ""};
    if (d->options->report)
        d->options->report(d->options->user, &result);
    if (line->passed)
        return;
    if (d->named)
        wg_error_set(&d->first, line->status, "check, %s (%s), %s: %s", line->name, line->example,
                     wg__check_label(line->kind), line->text);
    else
        wg_error_set(&d->first, line->status, "check, %s: %s", wg__check_label(line->kind),
                     line->text);
}

static unsigned kinds_of(const wg_check_options *options, unsigned all) {
    return options->order == 1 ? all & ~(1u << WG_CHECK_SECOND | 1u << WG_CHECK_MIXED) : all;
}

static wg_status finish(const desk *d, wg_status status, wg_error *error) {
    if (status != WG_OK)
        return wg_error_set(error, status, "check: %s", wg_status_sentence(status));
    return d->first.status == WG_OK ? WG_OK
                                    : wg_error_set(error, d->first.status, "%s", d->first.text);
}

static const wg_check_options defaults;

wg_status wg_check_grad(const wg_check_options *options, wg_memory *memory, wg_check_graph *graph,
                        void *user, int n, wg_tensor *const *x, wg_error *error) {
    const unsigned kinds = 1u << WG_CHECK_RECORD | 1u << WG_CHECK_FIRST | 1u << WG_CHECK_FORWARD |
                           1u << WG_CHECK_SECOND | 1u << WG_CHECK_MIXED;
    desk d = {options ? options : &defaults, false, {0}};
    if (d.options->order < 0 || d.options->order > 2 || n < 0)
        return wg_error_set(error, WG_ARGUMENT, "check: the order is 1 or 2, not %d",
                            d.options->order);
    wg_check check = {.memory = memory,
                      .seed = d.options->seed,
                      .tolerance = d.options->tolerance,
                      .kinds = kinds_of(d.options, kinds),
                      .report = receive,
                      .user = &d};
    const wg_check_case at = {
        .name = "graph", .example = "", .graph = graph, .user = user, .n = n, .x = x};
    wg_status status = wg__check_graph(&check, &at);
    return finish(&d, status, error);
}

wg_status wg_check_op(const wg_check_options *options, wg_memory *memory, const wg_op *op,
                      wg_error *error) {
    desk d = {options ? options : &defaults, true, {0}};
    if (d.options->order < 0 || d.options->order > 2)
        return wg_error_set(error, WG_ARGUMENT, "check: the order is 1 or 2, not %d",
                            d.options->order);
    wg_check check = {.memory = memory,
                      .seed = d.options->seed,
                      .tolerance = d.options->tolerance,
                      .kinds = kinds_of(d.options, (1u << WG_CHECK_KINDS) - 1),
                      .report = receive,
                      .user = &d};
    wg_status status = wg__check_op(&check, op);
    return finish(&d, status, error);
}
