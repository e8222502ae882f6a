/* layout.c: how every value is stored: views become strides into their base's buffer, and a strided operand is copied to
 * dense memory, once, where an op cannot read it. Then when each buffer is read last. */
#include "program.h"

#include <string.h>

static wg_status copy_shape(wg_infer *infer) {
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}

static wg_status copy_run(wg_call *call) {
    wg__copy(call->team, &call->in[0], call->out.data);
    return WG_OK;
}

const wg_op wg__op_copy = {.name = "copy", .arity = 1, .kind = WG_MOVE, .traits = WG_TAKES_STRIDES | WG_IS_LINEAR,
                           .shape = copy_shape, .run = copy_run, .rows = wg__rows_all};

static const int64_t no_strides[WG_MAX_RANK];

typedef struct layout {
    wg_rewrite r;
    uint32_t *dense; /* by old index: the dense copy, if one was made */
} layout;

static bool value_room(wg_program *p, int64_t id) {
    return wg__room(p->memory, (void **)&p->values, id, &p->value_room, sizeof *p->values);
}

/* The strides and offset of a view of the (new) value `from`; false if its strides do not allow one. */
static bool view_strides(const wg_instruction *i, const wg_instruction *from, const wg_value *in, int64_t *stride,
                         int64_t *offset) {
    int64_t dense[WG_MAX_RANK];
    wg__dense_strides(from->shape, dense);
    return i->op->view(i->attr, from->shape, in->stride ? in->stride : dense, i->shape, stride, offset);
}

/* The alias, if the input's strides allow one. Clears *memory when out of it. */
static bool view(layout *l, uint32_t id, wg_value *v, bool *memory) {
    wg_program *p = l->r.program;
    const wg_instruction *i = &l->r.list[id], *from = &l->r.list[i->in[0]];
    const wg_value *in = &p->values[i->in[0]];
    int64_t dense[WG_MAX_RANK], stride[WG_MAX_RANK] = {0}, offset = 0;
    if (!view_strides(i, from, in, stride, &offset))
        return false;
    wg__dense_strides(i->shape, dense);
    *v = (wg_value){.base = in->base, .shift = in->shift + offset};
    if (i->shape->count > 0 && memcmp(stride, dense, sizeof *stride * (size_t)i->shape->rank) != 0) {
        int64_t *kept = wg__arena_take(&p->arena, sizeof stride);
        if (!kept)
            return *memory = false;
        memcpy(kept, stride, sizeof stride);
        v->stride = kept;
    }
    return true;
}

/* Decides one instruction of the new list, whose inputs are decided. */
static bool decide(layout *l, uint32_t id) {
    wg_program *p = l->r.program;
    const wg_instruction *i = &l->r.list[id];
    bool memory = value_room(p, id);
    if (!memory)
        return false;
    wg_value v = {.base = id, .last = id};
    if (i->op->kind == WG_LEAF && i->slot)
        v.space = WG_IN_TENSOR, v.index = i->slot - 1;
    else if (i->op->kind == WG_LEAF)
        v.space = WG_IN_CONSTANTS, v.stride = i->shape->count == 1 ? NULL : no_strides;
    else if (i->op->kind == WG_EFFECT)
        v = (wg_value){.base = p->values[i->in[0]].base, .shift = p->values[i->in[0]].shift,
                       .stride = p->values[i->in[0]].stride};
    else if (i->op->view)
        view(l, id, &v, &memory);
    p->values[id] = v;
    return memory;
}

/* The dense copy of old instruction `id`, whose new index is known; 0 when out of memory. */
static uint32_t dense_copy(layout *l, uint32_t id) {
    if (l->dense[id])
        return l->dense[id];
    const wg_instruction *from = &l->r.list[l->r.to[id]];
    wg_instruction copy = {.op = &wg__op_copy, .shape = from->shape, .in = {l->r.to[id]}, .n = 1, .dtype = from->dtype,
                           .origin = from->origin, .step = from->step};
    uint32_t made = wg__rewrite_add(&l->r, &copy);
    if (made && decide(l, made))
        return l->dense[id] = made;
    return 0;
}

/* Whether the operands must be dense: the kernel cannot read strides, and is called, for it is no view of its operand. */
static bool wants_dense(const layout *l, const wg_instruction *i) {
    int64_t stride[WG_MAX_RANK], offset;
    if (i->op->kind == WG_EFFECT || (i->op->traits & WG_TAKES_STRIDES))
        return false;
    uint32_t from = i->op->view ? l->r.to[i->in[0]] : 0;
    return !from || !view_strides(i, &l->r.list[from], &l->r.program->values[from], stride, &offset);
}

/* The new index of an operand, dense if it must be; 0 when out of memory. */
static uint32_t operand(layout *l, uint32_t old, bool dense) {
    uint32_t now = l->r.to[old];
    return dense && l->r.program->values[now].stride ? dense_copy(l, old) : now;
}

static bool lay_out(layout *l, int64_t id) {
    wg_instruction i = l->r.program->list[id];
    uint32_t *in = wg__reads(&i);
    bool dense = wants_dense(l, &i);
    for (uint32_t k = 0; k < i.n; k++)
        if (!(in[k] = operand(l, in[k], dense)))
            return false;
    l->r.to[id] = wg__rewrite_add(&l->r, &i);
    return l->r.to[id] && decide(l, l->r.to[id]);
}

static void note_last_reads(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        if (!wg__computes(p, id))
            continue;
        const uint32_t *in = wg__reads(&p->list[id]);
        for (uint32_t k = 0; k < p->list[id].n; k++)
            p->values[p->values[in[k]].base].last = id;
    }
    for (int i = 0; i < p->output_count; i++)
        p->values[p->values[p->outputs[i]].base].last = WG_AT_END;
}

wg_status wg__pass_layout(wg_program *p, wg_error *error) {
    layout l = {.r.program = p, .dense = wg__take0(p->memory, wg__size((size_t)p->count, sizeof(uint32_t), 0))};
    bool done = l.dense && wg__rewrite_begin(&l.r, p) && value_room(p, 0);
    if (done)
        p->values[0] = (wg_value){0};
    for (int64_t id = 1; done && id < p->count; id++)
        done = lay_out(&l, id);
    wg_status status = done ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&l.r, done);
    wg__give(p->memory, l.dense);
    if (done)
        note_last_reads(p);
    return status;
}
