/* make.c: instructions that passes make, see make.h. */
#include "make.h"

#include "loop.h"

#include <string.h>

static uint32_t failed(wg_rewrite *r) {
    r->failed = true;
    return 0;
}

uint32_t wg__make(wg_rewrite *r, const wg_op *op, const void *attr, uint32_t n, const uint32_t *in, uint32_t loop, uint32_t origin) {
    wg_program *p = r->program;
    const wg_shape *few_shapes[8], **shapes = few_shapes;
    wg_dtype few_types[8], *types = few_types;
    void *many = NULL;
    for (uint32_t k = 0; k < n; k++)
        if (!in[k])
            return failed(r);
    if (n > 8) {
        many = wg__take(p->memory, wg__size(n, sizeof *shapes + sizeof *types, 0));
        if (!many)
            return failed(r);
        shapes = many;
        types = (void *)(shapes + n);
    }
    for (uint32_t k = 0; k < n; k++) {
        shapes[k] = r->list[in[k]].shape;
        types[k] = (wg_dtype)r->list[in[k]].dtype;
    }
    wg_infer infer = {.op = op, .attr = attr, .n = (int)n, .in = shapes, .in_dtype = types};
    bool fits = wg__infer(&infer) == WG_OK;
    wg__give(p->memory, many);
    wg_instruction i = {.op = op, .shape = fits ? wg__program_shape(p, &infer.out) : NULL, .n = n, .dtype = infer.dtype,
                        .loop = loop, .origin = origin};
    uint32_t *more = n > 2 ? wg__arena_take(&p->arena, n * sizeof *more) : i.in;
    void *kept = op->attr_size ? wg__arena_take(&p->arena, op->attr_size) : NULL;
    if (!i.shape || !more || (op->attr_size && !kept))
        return failed(r);
    if (kept)
        memcpy(kept, attr, op->attr_size);
    i.attr = kept;
    memcpy(more, in, n * sizeof *in);
    if (n > 2)
        i.more = more;
    uint32_t made = wg__rewrite_add(r, &i);
    return made ? made : failed(r);
}

uint32_t wg__make_slice(wg_rewrite *r, uint32_t x, int axis, int64_t from, int64_t count, uint32_t loop) {
    const wg_instruction *i = x ? &r->list[x] : NULL;
    if (i && from == 0 && count == i->shape->dim[axis])
        return x;
    const wg_slice_attr *inner = i && i->op == &wg__op_slice && i->loop == loop ? i->attr : NULL;
    if (inner && wg__axis((int)inner->axis, i->shape->rank) == axis) /* of a slice: of what that is of */
        return wg__make_slice(r, i->in[0], axis, inner->from + from, count, loop);
    return wg__make(r, &wg__op_slice, &(wg_slice_attr){axis, from, count}, 1, &x, loop, x ? r->list[x].origin : 0);
}

uint32_t wg__make_reshape(wg_rewrite *r, uint32_t x, int rank, const int64_t *dim, uint32_t loop) {
    wg_dims dims = wg__dims(rank, dim);
    return wg__make(r, &wg__op_reshape, &dims, 1, &x, loop, x ? r->list[x].origin : 0);
}

uint32_t wg__make_concat(wg_rewrite *r, uint32_t n, const uint32_t *x, int axis, uint32_t loop) {
    return n == 1 ? x[0] : wg__make(r, &wg__op_concat, &axis, n, x, loop, x[0] ? r->list[x[0]].origin : 0);
}

uint32_t wg__make_matmul(wg_rewrite *r, uint32_t a, uint32_t b, bool transpose_a, bool transpose_b, uint32_t loop, uint32_t origin) {
    return wg__make(r, &wg__op_matmul, &(wg_matmul_attr){transpose_a, transpose_b}, 2, (const uint32_t[]){a, b}, loop, origin);
}

uint32_t wg__make_add(wg_rewrite *r, uint32_t a, uint32_t b, uint32_t loop, uint32_t origin) {
    if (!a || !b)
        return failed(r);
    wg_instruction i = {.op = &wg__op_add, .shape = r->list[a].shape, .n = 2, .dtype = r->list[a].dtype, .in = {a, b},
                        .loop = loop, .origin = origin};
    uint32_t made = wg__rewrite_add(r, &i);
    return made ? made : failed(r);
}

uint32_t wg__make_element(wg_rewrite *r, uint32_t array, int64_t from, int64_t step, uint32_t loop) {
    return wg__make(r, &wg__op_element, &(wg_element_attr){.from = from, .step = step}, 1, &array, loop, array ? r->list[array].origin : 0);
}

uint32_t wg__make_stacked(wg_rewrite *r, uint32_t value, int64_t times, bool backward) {
    return wg__make(r, &wg__op_stacked, &(wg_stacked_attr){times, backward}, 1, &value, 0, value ? r->list[value].origin : 0);
}

uint32_t *wg__count_reads(const wg_program *p) {
    uint32_t *reads = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *reads, 0));
    for (int64_t id = 1; reads && id < p->count; id++)
        for (uint32_t k = 0; k < p->list[id].n; k++)
            reads[wg__reads_const(&p->list[id])[k]]++;
    for (int i = 0; reads && i < p->output_count; i++)
        reads[p->outputs[i]]++;
    return reads;
}

int64_t *wg__number_operands(const wg_program *p, int64_t *total) {
    int64_t *first = wg__take(p->memory, wg__size((size_t)p->count, sizeof *first, 0));
    *total = 0;
    for (int64_t id = 0; first && id < p->count; id++) {
        first[id] = *total;
        *total += id ? p->list[id].n : 0;
    }
    return first;
}
