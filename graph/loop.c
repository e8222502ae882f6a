/* loop.c: the records of the ops at the edges of a loop. They compute nothing themselves: `layout` makes of them where a
 * loop reads and writes. Includes the program. */
#include "loop.h"

#include <stdio.h>
#include <string.h>

static wg_status element_shape(wg_infer *q) {
    const wg_shape *from = q->in[0];
    if (from->rank < 1)
        return wg_infer_fail(q, WG_SHAPE, "a scalar has no elements along an axis");
    q->dtype = q->in_dtype[0];
    return wg__shape_set(&q->out, from->rank - 1, from->dim + 1);
}

/* As in the first iteration. */
static bool element_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                         int64_t *out_stride, int64_t *offset) {
    const wg_element_attr *e = attr;
    (void)in;
    memcpy(out_stride, in_stride + 1, sizeof *in_stride * (size_t)out->rank);
    *offset = e->from * in_stride[0];
    return true;
}

static void element_describe(const void *attr, char *text, size_t size) {
    const wg_element_attr *e = attr;
    int n = snprintf(text, size, "from=%lld step=%lld", (long long)e->from, (long long)e->step);
    if (e->late && n < (int)size)
        n += snprintf(text + n, size - (size_t)n, " late=%lld", (long long)e->late);
    if (e->fewer && n < (int)size)
        snprintf(text + n, size - (size_t)n, " fewer=%lld", (long long)e->fewer);
}

const wg_op wg__op_element = {.name = "element", .arity = 1, .kind = WG_VIEW, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(wg_element_attr), .shape = element_shape, .view = element_view, .describe = element_describe};

static wg_status same_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    for (int k = 1; k < q->n; k++)
        if (q->in_dtype[k] != q->dtype || !wg__shape_same(q->in[k], &q->out))
            return wg_infer_fail(q, WG_SHAPE, "%s and %s", WG_SHAPE_TEXT(&q->out), WG_SHAPE_TEXT(q->in[k]));
    return WG_OK;
}

const wg_op wg__op_carry = {.name = "carry", .arity = 2, .kind = WG_CONTROL, .traits = WG_NO_MERGE | WG_TAKES_STRIDES,
    .shape = same_shape};

static void ending_describe(const void *attr, char *text, size_t size) {
    snprintf(text, size, "at=%lld", (long long)((const wg_ending_attr *)attr)->at);
}

const wg_op wg__op_ending = {.name = "ending", .arity = 2, .kind = WG_CONTROL, .traits = WG_NO_MERGE | WG_TAKES_STRIDES,
    .attr_size = sizeof(wg_ending_attr), .shape = same_shape, .describe = ending_describe};

const wg_op wg__op_last = {.name = "last", .arity = 1, .kind = WG_CONTROL, .traits = WG_TAKES_STRIDES, .shape = same_shape};

static wg_status stacked_shape(wg_infer *q) {
    const wg_stacked_attr *s = q->attr;
    int64_t dim[WG_MAX_RANK + 1] = {s->times};
    for (int k = 0; k < q->in[0]->rank; k++)
        dim[k + 1] = q->in[0]->dim[k];
    if (q->in[0]->rank == WG_MAX_RANK)
        return wg_infer_fail(q, WG_RANGE, "no room for one axis more");
    q->dtype = q->in_dtype[0];
    return wg__shape_set(&q->out, q->in[0]->rank + 1, dim);
}

static void stacked_describe(const void *attr, char *text, size_t size) {
    const wg_stacked_attr *s = attr;
    snprintf(text, size, "times=%lld%s", (long long)s->times, s->backward ? " backward" : "");
}

const wg_op wg__op_stacked = {.name = "stacked", .arity = 1, .kind = WG_CONTROL, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(wg_stacked_attr), .shape = stacked_shape, .describe = stacked_describe};
