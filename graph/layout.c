/* layout.c: how every value is stored: views become strides into their base's buffer, and a strided operand is copied to
 * dense memory, once, where an op cannot read it. Then when each buffer is read last. */
#include "loop.h"

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
    uint32_t *edge;  /* by old index of a loop's value that is stacked or read last: the new one that is so */
    bool *asked;     /* by old index: it is */
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

static int64_t first_stride(const wg_instruction *i, const wg_value *v) {
    int64_t dense[WG_MAX_RANK];
    wg__dense_strides(i->shape, dense);
    return (v->stride ? v->stride : dense)[0];
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
    *v = (wg_value){.base = in->base, .shift = in->shift + offset, .step = in->step};
    if (i->op == &wg__op_element)
        v->step += ((const wg_element_attr *)i->attr)->step * first_stride(from, in);
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
    wg_value v = {.base = id, .last = id, .task = true};
    if (i->op->kind == WG_LEAF && i->slot)
        v.space = WG_IN_TENSOR, v.index = i->slot - 1, v.task = false;
    else if (i->op->kind == WG_LEAF)
        v.space = WG_IN_CONSTANTS, v.stride = i->shape->count == 1 ? NULL : no_strides, v.task = false;
    else if (i->op->kind == WG_CONTROL)
        v.space = wg__is_choice(i) ? WG_CARRIED : WG_NOWHERE, v.task = false;
    else if (i->op->kind == WG_EFFECT)
        v = (wg_value){.base = p->values[i->in[0]].base, .shift = p->values[i->in[0]].shift,
                       .stride = p->values[i->in[0]].stride};
    else if (i->op->view)
        view(l, id, &v, &memory);
    p->values[id] = v;
    return memory;
}

/* A dense copy of a new value, in a loop (or 0); 0 when out of memory. */
static uint32_t copy_of(layout *l, uint32_t now, uint32_t loop) {
    const wg_instruction *from = &l->r.list[now];
    wg_instruction copy = {.op = &wg__op_copy, .shape = from->shape, .in = {now}, .n = 1, .dtype = from->dtype,
                           .origin = from->origin, .step = from->step, .loop = loop};
    uint32_t made = wg__rewrite_add(&l->r, &copy);
    return made && decide(l, made) ? made : 0;
}

/* The dense copy of old instruction `id`, whose new index is known, for a reader in this loop; 0 when out of memory. */
static uint32_t dense_copy(layout *l, uint32_t id, uint32_t loop) {
    if (!l->dense[id] || (l->r.list[l->dense[id]].loop && l->r.list[l->dense[id]].loop != loop))
        l->dense[id] = copy_of(l, l->r.to[id], loop);
    return l->dense[id];
}

/* Whether the operands must be dense: the kernel cannot read strides, and is called, for it is no view of its operand. */
static bool wants_dense(const layout *l, const wg_instruction *i) {
    int64_t stride[WG_MAX_RANK], offset;
    if (i->op->kind == WG_EFFECT || (i->op->traits & WG_TAKES_STRIDES))
        return false;
    uint32_t from = i->op->view ? l->r.to[i->in[0]] : 0;
    return !from || !view_strides(i, &l->r.list[from], &l->r.program->values[from], stride, &offset);
}

/* Whether an instruction that must have dense operands can do with this new one: it has dense rows alone, and they are enough. */
static bool reads_as_it_is(const layout *l, const wg_instruction *i, uint32_t now) {
    const int64_t *stride = l->r.program->values[now].stride;
    return !stride || (i->op->traits & WG_TAKES_ROWS && wg__takes(i->op, l->r.list[now].shape, stride));
}

/* The new index of an instruction's operand, dense if it must be; 0 when out of memory. */
static uint32_t operand(layout *l, const wg_instruction *i, uint32_t old, bool dense, uint32_t loop) {
    uint32_t now = l->r.to[old];
    return dense && !reads_as_it_is(l, i, now) ? dense_copy(l, old, loop) : now;
}

/* Whether what it reads must be dense because it is one of several in its place, by iteration. */
static bool is_chosen(const wg_instruction *i) {
    const wg_element_attr *e = i->op == &wg__op_element ? i->attr : NULL;
    return wg__is_choice(i) || (e && (e->late || e->fewer));
}

static bool lay_out(layout *l, int64_t id) {
    wg_instruction i = l->r.program->list[id];
    uint32_t *in = wg__reads(&i);
    bool dense = wants_dense(l, &i) || is_chosen(&i);
    if (wg__is_edge(&i)) {
        in[0] = l->edge[in[0]];
    } else {
        for (uint32_t k = 0; k < i.n; k++)
            if (!wg__reads_back(&i, k) && !(in[k] = operand(l, &i, in[k], dense, i.loop)))
                return false;
    }
    l->r.to[id] = wg__rewrite_add(&l->r, &i);
    return l->r.to[id] && decide(l, l->r.to[id]);
}

/* Before a loop: dense copies of what it reads from outside and cannot read as it is, and of what it carries in. */
static bool enter_loop(layout *l, const wg_loop *loop) {
    const wg_program *p = l->r.program;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        bool dense = is_chosen(i) || (!i->op->view && i->op->kind != WG_CONTROL && wants_dense(l, i));
        for (uint32_t k = 0; k < i->n && dense; k++) {
            uint32_t in = wg__reads_const(i)[k];
            if (!p->list[in].loop && !wg__reads_back(i, k) && !reads_as_it_is(l, i, l->r.to[in]) && !dense_copy(l, in, 0))
                return false;
        }
    }
    return true;
}

/* After a loop's own instructions: what the next iteration reads is dense; what is stacked or read last is computed, each by a
 * kernel of its own. */
static bool leave_loop(layout *l, const wg_loop *loop) {
    const wg_program *p = l->r.program;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        uint32_t number = i->loop;
        if (l->asked[id])
            l->edge[id] = p->values[l->r.to[id]].task ? l->r.to[id] : copy_of(l, l->r.to[id], number);
        if (l->asked[id] && !l->edge[id])
            return false;
        if (!wg__is_carry(i))
            continue;
        uint32_t next = operand(l, i, i->in[1], true, number);
        if (next && wg__is_carry(&l->r.list[p->values[next].base])) /* what that reads moves on at the same time */
            next = copy_of(l, next, number);
        if (!next)
            return false;
        l->r.list[l->r.to[id]].in[1] = next;
    }
    return true;
}

static void read_until(wg_program *p, uint32_t value, uint32_t reader) {
    wg_value *base = &p->values[p->values[value].base];
    uint32_t loop = p->list[reader].loop;
    bool inside = p->list[p->values[value].base].loop;
    uint32_t last = loop && !inside ? p->loops[loop - 1].to - 1 : reader;
    base->last = last > base->last ? last : base->last;
}

static void note_last_reads(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        wg_instruction *i = &p->list[id];
        if (wg__is_edge(i)) {
            wg_value *v = &p->values[i->in[0]];
            p->values[v->base].last = p->loops[p->list[i->in[0]].loop - 1].to - 1;
            wg_loop *loop = &p->loops[p->list[i->in[0]].loop - 1];
            p->values[id].edge = loop->edges;
            loop->edges = id;
            if (i->op == &wg__op_stacked)
                v->space = WG_IN_STACK, v->index = id;
        }
        if (!p->values[id].task && !wg__is_choice(i))
            continue;
        for (uint32_t k = 0; k < i->n; k++)
            read_until(p, wg__reads(i)[k], wg__reads_back(i, k) ? p->loops[i->loop - 1].to - 1 : id);
        if (wg__is_carry(i))
            p->values[p->values[i->in[1]].base].carried = true;
    }
    for (int i = 0; i < p->output_count; i++)
        p->values[p->values[p->outputs[i]].base].last = WG_AT_END;
}

wg_status wg__pass_layout(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    layout l = {.r.program = p, .dense = wg__take0(p->memory, wg__size(n, 2 * sizeof(uint32_t), 0)),
                .asked = wg__take0(p->memory, n)};
    bool done = l.dense && l.asked && wg__rewrite_begin(&l.r, p) && value_room(p, 0);
    if (done) {
        l.edge = l.dense + n;
        p->values[0] = (wg_value){0};
    }
    for (int64_t id = 1; done && id < p->count; id++)
        if (wg__is_edge(&p->list[id]))
            l.asked[p->list[id].in[0]] = true;
    for (uint32_t id = 1; done && id < p->count; id++) {
        const wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        if (loop && loop->from == id)
            done = enter_loop(&l, loop);
        done = done && lay_out(&l, id);
        if (done && loop && loop->to == id + 1)
            done = leave_loop(&l, loop);
    }
    wg_status status = done ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&l.r, done);
    wg__give(p->memory, l.dense);
    wg__give(p->memory, l.asked);
    if (done)
        note_last_reads(p);
    return status;
}
