/* validate.c: checks of tapes and of programs: that every node is what its op's own rule makes of its inputs; and, by
 * following which value lies where, that every read finds what was written for it. Changes nothing. */
#include "loop.h"

#include "effect.h"

#include <stdio.h>
#include <string.h>

extern const wg_op wg__op_concat;

enum { FEW = 16 };

/* A node of a tape or of a program, as far as both have it. */
typedef struct entry {
    const wg_op *op;
    const void *attr;
    const wg_tensor *tensor;
    const wg_shape *shape;
    wg_dtype dtype;
    uint32_t n;
    const uint32_t *in;
} entry;

/* What is checked: the entries of a tape or of a program. */
typedef struct subject {
    const wg_tape *tape;
    const wg_program *program;
    wg_memory *memory;
    wg_error *error;
} subject;

static bool holds_tensor(const wg_op *op) { return op == &wg__op_leaf || op == &wg__op_store; }

static entry tape_entry(const wg_tape *tape, int64_t id) {
    const wg_node *node = wg__node(tape, id);
    entry e = {.op = node->op, .shape = node->shape, .dtype = (wg_dtype)node->dtype, .n = node->n, .in = wg__inputs(node)};
    if (node->op && holds_tensor(node->op))
        e.tensor = node->tensor;
    else if (node->op && node->op != &wg__op_constant)
        e.attr = node->attr;
    return e;
}

static entry program_entry(const wg_program *p, int64_t id) {
    const wg_instruction *i = &p->list[id];
    entry e = {.op = i->op, .shape = i->shape, .dtype = (wg_dtype)i->dtype, .n = i->n, .in = wg__reads_const(i)};
    if (i->op && holds_tensor(i->op))
        e.tensor = i->slot && i->slot <= p->tensor_count ? p->tensors[i->slot - 1] : NULL;
    else if (i->op && i->op != &wg__op_constant)
        e.attr = i->attr;
    return e;
}

static entry entry_of(const subject *s, int64_t id) {
    return s->tape ? tape_entry(s->tape, id) : program_entry(s->program, id);
}

static wg_status wrong(const subject *s, wg_status status, int64_t id, const char *format, ...) WG_PRINTF(4, 5);
static wg_status wrong(const subject *s, wg_status status, int64_t id, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    entry e = id ? entry_of(s, id) : (entry){0};
    return wg_error_set(s->error, status, "%s: %%%lld %s: %s", s->tape ? "tape" : s->program->after, (long long)id,
                        e.op && e.op->name ? e.op->name : "", text);
}

/* ---- each entry by itself ---- */

static bool reads_back(const subject *s, int64_t id, uint32_t k) {
    return s->program && wg__reads_back(&s->program->list[id], k) && wg__reads_const(&s->program->list[id])[k] < s->program->count;
}

static wg_status check_entry(const subject *s, int64_t id, const entry *e) {
    if (!e->op || !e->op->name || !e->shape || e->dtype < WG_F32 || e->dtype > WG_I32)
        return wrong(s, WG_ARGUMENT, id, "it has no op, shape or type");
    if (e->op->kind == WG_LEAF ? e->n != 0 : e->op->arity >= 0 ? e->n != (uint32_t)e->op->arity : e->n == 0)
        return wrong(s, WG_ARGUMENT, id, "it has %u operands, not %d", e->n, e->op->arity);
    for (uint32_t k = 0; k < e->n; k++)
        if (e->in[k] == 0 || (e->in[k] >= id && !reads_back(s, id, k)))
            return wrong(s, WG_CONFLICT, id, "it reads %%%u, which does not precede it", e->in[k]);
    if (holds_tensor(e->op) && !e->tensor)
        return wrong(s, WG_ARGUMENT, id, "it has no tensor");
    if (e->op->attr_size && !holds_tensor(e->op) && !e->attr)
        return wrong(s, WG_ARGUMENT, id, "its attributes are missing");
    return WG_OK;
}

/* The op's own rule, applied again, gives the shape and type noted. */
static wg_status check_rule(const subject *s, int64_t id, const entry *e, const wg_shape **shapes, wg_dtype *types) {
    char text[512] = "", a[96], b[96];
    for (uint32_t k = 0; k < e->n; k++) {
        entry from = entry_of(s, e->in[k]);
        shapes[k] = from.shape;
        types[k] = from.dtype;
    }
    wg_infer infer = {.op = e->op, .attr = e->attr, .n = (int)e->n, .in = shapes, .in_dtype = types,
                      .text = text, .text_size = sizeof text};
    if (e->tensor)
        infer.out = *wg_tensor_shape(e->tensor), infer.dtype = wg_tensor_dtype(e->tensor);
    if (e->op->kind == WG_LEAF && !e->tensor)
        return WG_OK; /* a constant has any */
    wg_status status = e->op->kind == WG_LEAF ? WG_OK : wg__infer(&infer);
    if (status != WG_OK)
        return wrong(s, status, id, "%s", text[0] ? text : wg_status_sentence(status));
    if (infer.dtype != e->dtype)
        return wrong(s, WG_DTYPE, id, "it is %s, not %s", wg_dtype_name(infer.dtype), wg_dtype_name(e->dtype));
    if (!wg__shape_same(&infer.out, e->shape))
        return wrong(s, WG_SHAPE, id, "it is %s, not %s", wg_shape_text(&infer.out, a, sizeof a),
                     wg_shape_text(e->shape, b, sizeof b));
    if (e->tensor && !wg__shape_same(wg_tensor_shape(e->tensor), e->shape))
        return wrong(s, WG_SHAPE, id, "its tensor is %s", wg_shape_text(wg_tensor_shape(e->tensor), a, sizeof a));
    return WG_OK;
}

static wg_status check(const subject *s, int64_t id) {
    const wg_shape *few_shapes[FEW], **shapes = few_shapes;
    wg_dtype few_types[FEW], *types = few_types;
    void *many = NULL;
    entry e = entry_of(s, id);
    wg_status status = check_entry(s, id, &e);
    if (status != WG_OK)
        return status;
    if (e.n > FEW) {
        many = wg__take(s->memory, wg__size(e.n, sizeof *shapes + sizeof *types, 0));
        if (!many)
            return wrong(s, wg__refusal(s->memory), id, "no memory to check it");
        shapes = many;
        types = (void *)(shapes + e.n);
    }
    status = check_rule(s, id, &e, shapes, types);
    wg__give(s->memory, many);
    return status;
}

wg_status wg_tape_validate(const wg_tape *tape, wg_error *error) {
    subject s = {.tape = tape, .memory = tape->memory, .error = error};
    wg_status status = WG_OK;
    for (int64_t id = 1; id < tape->count && status == WG_OK; id++)
        status = check(&s, id);
    return status;
}

/* ---- loops ---- */

static int64_t times_of(const wg_program *p, const wg_instruction *i) { return i->loop ? p->loops[i->loop - 1].times : 0; }

/* A loop's instructions stand together. */
static wg_status check_extent(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    uint32_t before = p->list[id - 1].loop;
    if (i->loop > p->loop_count || (i->loop && (id < p->loops[i->loop - 1].from || id >= p->loops[i->loop - 1].to)))
        return wrong(s, WG_CONFLICT, id, "it is in loop %u, which is not here", i->loop);
    if (before && i->loop != before && p->loops[before - 1].to != id)
        return wrong(s, WG_CONFLICT, id, "it stands between the instructions of loop %u", before);
    if (i->loop && i->loop != before && p->loops[i->loop - 1].from != id)
        return wrong(s, WG_CONFLICT, id, "it is not where loop %u begins", i->loop);
    if (i->loop && times_of(p, i) < 1)
        return wrong(s, WG_RANGE, id, "loop %u runs %lld times", i->loop, (long long)times_of(p, i));
    if (i->loop && (wg__is_edge(i) || i->op->kind == WG_EFFECT))
        return wrong(s, WG_CONFLICT, id, "it stands in loop %u, but belongs outside of any", i->loop);
    if (!i->loop && (wg__is_choice(i) || i->op == &wg__op_element))
        return wrong(s, WG_CONFLICT, id, "it goes by iterations, outside of a loop");
    return WG_OK;
}

/* Whether operand k comes from where it may: what is in a loop reads of that loop or of none, and is read from outside by `stacked`
 * and `last` only; an array, and what is read in single iterations, is from outside. */
static bool may_read(const wg_program *p, const wg_instruction *i, uint32_t k) {
    uint32_t of = p->list[wg__reads_const(i)[k]].loop;
    if (wg__is_edge(i))
        return of;
    if (wg__reads_back(i, k))
        return of == i->loop;
    bool outside = wg__is_carry(i) || i->op == &wg__op_element || (i->op == &wg__op_ending && k == 1);
    return !of || (of == i->loop && !outside);
}

static wg_status check_element(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    const wg_element_attr *e = i->attr;
    int64_t times = times_of(p, i), n = p->list[i->in[0]].shape->dim[0];
    int64_t first = e->from + e->step * e->late, last = e->from + e->step * (times - 1 - e->fewer);
    if (e->late < 0 || e->fewer < 0 || (e->late + e->fewer < times && (first < 0 || first >= n || last < 0 || last >= n)))
        return wrong(s, WG_RANGE, id, "it reads outside its array");
    return WG_OK;
}

/* What chooses by iteration chooses from an element, from outside or from such a choice, and there is an iteration `at`. */
static wg_status check_ending(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id], *usual = &p->list[i->in[0]];
    int64_t at = ((const wg_ending_attr *)i->attr)->at;
    if (at < 0 || at >= times_of(p, i))
        return wrong(s, WG_RANGE, id, "there is no iteration %lld", (long long)at);
    if (usual->loop && usual->op != &wg__op_element && usual->op != &wg__op_ending)
        return wrong(s, WG_CONFLICT, id, "it chooses %%%u, which is neither an element nor from outside", i->in[0]);
    return WG_OK;
}

/* The iterations for which an element is missing are all given by the choices on the way to a reader. */
static wg_status check_missing(const subject *s, int64_t id, uint32_t value) {
    const wg_program *p = s->program;
    uint32_t element = value;
    while (p->list[element].op == &wg__op_ending)
        element = p->list[element].in[0];
    const wg_element_attr *e = p->list[element].op == &wg__op_element ? p->list[element].attr : NULL;
    int64_t times = times_of(p, &p->list[element]);
    for (int64_t k = 0; e && k < e->late + e->fewer; k++) {
        int64_t t = k < e->late ? k : times - 1 - (k - e->late);
        uint32_t choice = value;
        while (choice != element && ((const wg_ending_attr *)p->list[choice].attr)->at != t)
            choice = p->list[choice].in[0];
        if (choice == element)
            return wrong(s, WG_RANGE, id, "there is no element %%%u in iteration %lld for it", element, (long long)t);
    }
    return WG_OK;
}

/* stacked: by id: the `stacked` of a value, once seen. */
static wg_status check_loop(const subject *s, int64_t id, uint32_t *stacked) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    wg_status status = check_extent(s, id);
    for (uint32_t k = 0; k < i->n && status == WG_OK; k++) {
        uint32_t in = wg__reads_const(i)[k];
        if (!may_read(p, i, k))
            return wrong(s, WG_CONFLICT, id, "it reads %%%u of loop %u", in, p->list[in].loop);
        if (i->op != &wg__op_ending && !wg__reads_back(i, k))
            status = check_missing(s, id, in);
    }
    if (status != WG_OK)
        return status;
    if (i->op == &wg__op_element)
        return check_element(s, id);
    if (i->op == &wg__op_ending)
        return check_ending(s, id);
    if (i->op != &wg__op_stacked)
        return WG_OK;
    if (((const wg_stacked_attr *)i->attr)->times != times_of(p, &p->list[i->in[0]]))
        return wrong(s, WG_CONFLICT, id, "it stacks another number of iterations");
    if (stacked[i->in[0]])
        return wrong(s, WG_CONFLICT, id, "it stacks %%%u, as %%%u does", i->in[0], stacked[i->in[0]]);
    stacked[i->in[0]] = (uint32_t)id;
    return WG_OK;
}

/* ---- layout ---- */

/* The elements that a value touches, in all iterations if it is in a loop, lie within its base's buffer. */
static bool within_base(const wg_program *p, int64_t id) {
    const wg_value *v = &p->values[id], *base = &p->values[v->base];
    const wg_shape *shape = p->list[id].shape;
    int64_t dense[WG_MAX_RANK], low = v->shift, high = v->shift, times = p->list[id].loop ? p->loops[p->list[id].loop - 1].times : 1;
    int64_t late = 0, fewer = 0;
    if (p->list[id].op == &wg__op_element)
        late = ((const wg_element_attr *)p->list[id].attr)->late, fewer = ((const wg_element_attr *)p->list[id].attr)->fewer;
    if (late + fewer >= times)
        return true; /* nothing is read */
    low += wg__min(late * v->step, (times - 1 - fewer) * v->step);
    high += wg__max(late * v->step, (times - 1 - fewer) * v->step);
    int64_t room = base->space == WG_IN_CONSTANTS ? 1 : p->list[v->base].shape->count;
    wg__dense_strides(shape, dense);
    for (int k = 0; k < shape->rank && shape->count; k++) {
        int64_t reach = (shape->dim[k] - 1) * (v->stride ? v->stride : dense)[k];
        low += reach < 0 ? reach : 0;
        high += reach > 0 ? reach : 0;
    }
    return shape->count == 0 || (low >= 0 && high < room);
}

/* A view's strides are what its op makes of its input's. */
static bool view_agrees(const wg_program *p, int64_t id) {
    const wg_instruction *i = &p->list[id], *from = &p->list[wg__reads_const(i)[0]];
    const wg_value *v = &p->values[id], *in = &p->values[wg__reads_const(i)[0]];
    int64_t dense[WG_MAX_RANK], stride[WG_MAX_RANK], offset = 0;
    int64_t step = i->op == &wg__op_element ? ((const wg_element_attr *)i->attr)->step : 0;
    if (v->base != in->base)
        return false;
    wg__dense_strides(from->shape, dense);
    if (i->op->kind == WG_EFFECT)
        return v->shift == in->shift && v->stride == in->stride;
    if (!i->op->view || !i->op->view(i->attr, from->shape, in->stride ? in->stride : dense, i->shape, stride, &offset))
        return false;
    if (v->step != in->step + (step ? step * (in->stride ? in->stride : dense)[0] : 0))
        return false;
    wg__dense_strides(i->shape, dense);
    return v->shift == in->shift + offset &&
           (i->shape->count == 0 || memcmp(stride, v->stride ? v->stride : dense, sizeof *stride * (size_t)i->shape->rank) == 0);
}

/* What is put side by side by nobody lies there: each part where the whole has it, or as columns of the array that the stack of it is over. */
static wg_status check_side_by_side(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    const wg_value *v = &p->values[id];
    const uint32_t array = v->space == WG_IN_STACK ? p->values[v->index].over : 0;
    int64_t at = 0, dense[WG_MAX_RANK];
    wg__dense_strides(i->shape, dense);
    for (uint32_t k = 0; k < i->n; k++) {
        const uint32_t part = wg__reads_const(i)[k];
        const wg_value *own = &p->values[part];
        const bool within = own->base == id && own->shift == at && own->stride &&
                            memcmp(own->stride, dense, sizeof *dense * (size_t)i->shape->rank) == 0;
        if (!within && !(array && wg__stands_there(p, v->index, array, part, at)))
            return wrong(s, WG_CONFLICT, id, "nothing puts %%%u into its place", part);
        at += p->list[part].shape->dim[i->shape->rank - 1];
    }
    return WG_OK;
}

static wg_status check_layout(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    const wg_value *v = &p->values[id];
    bool part = i->loop && v->task && v->base != id; /* made in its place beside others */
    if (v->base == 0 || v->base >= p->count || (part ? p->list[v->base].loop != i->loop : v->base > id && p->list[v->base].loop != i->loop) ||
        p->values[v->base].base != v->base)
        return wrong(s, WG_CONFLICT, id, "its base %%%u is no buffer made before it", v->base);
    if (p->list[v->base].dtype != i->dtype)
        return wrong(s, WG_DTYPE, id, "its base %%%u is of another type", v->base);
    if (v->base != id && !part && !view_agrees(p, id))
        return wrong(s, WG_CONFLICT, id, "its strides are not what its op makes of its operand's");
    if (!within_base(p, id))
        return wrong(s, WG_RANGE, id, "it reaches outside the buffer of %%%u", v->base);
    if (!v->task)
        return i->op == &wg__op_concat && i->loop ? check_side_by_side(s, id) : WG_OK;
    if (!part && (v->stride || v->shift))
        return wrong(s, WG_CONFLICT, id, "its result is not dense");
    for (uint32_t k = 0; k < i->n; k++)
        if (!wg__takes(i->op, p->list[wg__reads_const(i)[k]].shape, p->values[wg__reads_const(i)[k]].stride))
            return wrong(s, WG_CONFLICT, id, "operand %%%u is strided, and its op takes none such", wg__reads_const(i)[k]);
    return WG_OK;
}

/* ---- places: the program is followed, noting which buffer each stretch of memory holds ---- */

typedef struct region {
    uint64_t space, from, bytes; /* space: 0 the arena, 1 + i output i, or behind them a bundle */
} region;

static region region_of(const wg_program *p, uint32_t base) {
    const wg_value *v = &p->values[base];
    return (region){v->space == WG_IN_OUTPUT ? 1 + (uint64_t)v->index : 0, v->offset, wg__instruction_bytes(&p->list[base])};
}

static bool overlap(region a, region b) {
    return a.space == b.space && a.bytes && b.bytes && a.from < b.from + b.bytes && b.from < a.from + a.bytes;
}

/* The buffer that now holds a byte of this region; NULL if none. */
static const wg_ordered_node *holder(const wg_ordered *held, region r) {
    const wg_ordered_node *node = wg__ordered_before(held, r.space, r.from + r.bytes);
    return node && overlap(r, (region){node->high, node->low, node->length}) ? node : NULL;
}

/* Whether a stack of this loop has taken the place of an array that the loop consumes, and may. */
static bool takes_over_in(const wg_program *p, uint32_t stack, uint32_t array, uint32_t loop) {
    const wg_instruction *s = &p->list[stack];
    return loop && s->op == &wg__op_stacked && p->list[s->in[0]].loop == loop && p->values[stack].over == array &&
           wg__stacks_over(p, stack, array);
}

static wg_status check_read(const subject *s, const wg_ordered *held, int64_t id, uint32_t value) {
    const wg_program *p = s->program;
    uint32_t base = p->values[value].base;
    const wg_value *v = &p->values[base];
    if (v->space == WG_IN_TENSOR)
        return v->index < p->tensor_count ? WG_OK : wrong(s, WG_RANGE, id, "it reads a tensor that is not there");
    if (v->space == WG_IN_CONSTANTS)
        return v->offset + 8 <= p->constant_bytes ? WG_OK : wrong(s, WG_RANGE, id, "it reads outside the constants");
    region r = region_of(p, base);
    if (r.bytes == 0)
        return WG_OK;
    const wg_ordered_node *node = holder(held, r);
    if (node && takes_over_in(p, node->owner, base, p->list[id].loop))
        return WG_OK;
    if (!node)
        return wrong(s, WG_CONFLICT, id, "it reads %%%u before it is computed", base);
    if (node->owner != base || node->low != r.from || node->length != r.bytes)
        return wrong(s, WG_CONFLICT, id, "it reads %%%u, whose place %%%u has taken", base, node->owner);
    return WG_OK;
}

/* A result may lie over an operand only where it takes it over, element for element. */
static wg_status check_over(const subject *s, int64_t id) {
    const wg_program *p = s->program;
    const wg_instruction *i = &p->list[id];
    if (i->op->kind == WG_CONTROL)
        return WG_OK;
    region r = region_of(p, (uint32_t)id);
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t in = wg__reads_const(i)[k], base = p->values[in].base;
        if (p->values[base].space == WG_IN_TENSOR || p->values[base].space == WG_IN_CONSTANTS ||
            !overlap(r, region_of(p, base)))
            continue;
        region q = region_of(p, base);
        bool may = wg__kernel(i->op) == wg__pointwise_run || ((i->op->traits & WG_ADDS_TO_LAST) && k == i->n - 1);
        if (p->values[id].over != base || !may || p->values[in].stride || p->values[in].shift ||
            r.from != q.from || r.bytes != q.bytes || i->dtype != p->list[base].dtype)
            return wrong(s, WG_CONFLICT, id, "it writes over its operand %%%u while reading it", in);
    }
    return WG_OK;
}

static bool fits_output(const wg_program *p, uint32_t index, uint64_t bytes) {
    const uint32_t bundle = index - (uint32_t)p->output_count;
    if (index < (uint32_t)p->output_count)
        return bytes == wg__instruction_bytes(&p->list[p->outputs[index]]);
    return bundle < (uint32_t)p->bundle_count && bytes == wg__instruction_bytes(&p->list[p->bundles[bundle]]);
}

/* What lies in a bundle is an output's tensor, and so dense and on lines. */
static wg_status check_part(const subject *s, uint32_t id) {
    const wg_program *p = s->program;
    const wg_value *v = &p->values[id], *base = &p->values[v->base];
    if (wg__in_bundle(p, base) && (v->stride || v->shift * (int64_t)wg_dtype_size((wg_dtype)p->list[id].dtype) % WG_LINE_BYTES))
        return wrong(s, WG_RANGE, id, "it is no part of bundle %u", base->index - (uint32_t)p->output_count);
    return WG_OK;
}

static wg_status check_write(const subject *s, wg_ordered *held, int64_t id, size_t limit) {
    const wg_program *p = s->program;
    const wg_value *v = &p->values[id];
    region r = region_of(p, (uint32_t)id);
    size_t unit = r.bytes <= 4 ? 4 : r.bytes < 64 ? 8 : 64;
    if (v->space != WG_IN_ARENA && v->space != WG_IN_OUTPUT)
        return wrong(s, WG_CONFLICT, id, "its result has no place");
    if (r.space == 0 && (r.from % unit || r.from + r.bytes > limit))
        return wrong(s, WG_RANGE, id, "its place [%llu, %llu) is outside the arena or not aligned",
                     (unsigned long long)r.from, (unsigned long long)(r.from + r.bytes));
    if (r.space && !fits_output(p, v->index, r.bytes))
        return wrong(s, WG_RANGE, id, "it is no size for output %u (of %d, then bundles)", v->index, p->output_count);
    wg_status status = check_over(s, id);
    if (status != WG_OK || r.bytes == 0)
        return status;
    for (const wg_ordered_node *node; (node = holder(held, r));)
        wg__ordered_remove(held, node->high, node->low);
    if (!wg__ordered_insert(held, r.space, r.from, r.bytes, (uint32_t)id))
        return wrong(s, wg__refusal(s->memory), id, "no memory to check it");
    return WG_OK;
}

/* A loop writes to the buffers of its edges from its first iteration on. */
static wg_status check_edges(const subject *s, wg_ordered *held, uint32_t loop) {
    const wg_program *p = s->program;
    wg_status status = WG_OK;
    for (uint32_t id = p->loops[loop - 1].edges; id && status == WG_OK; id = p->values[id].edge)
        status = check_write(s, held, id, p->scratch_at);
    return status;
}

static wg_status check_places(const subject *s) {
    const wg_program *p = s->program;
    wg_ordered held = {.memory = s->memory};
    wg_status status = WG_OK;
    for (int64_t id = 1; id < p->count && status == WG_OK; id++) {
        const wg_instruction *i = &p->list[id];
        if (i->loop && p->loops[i->loop - 1].from == id)
            status = check_edges(s, &held, i->loop);
        for (uint32_t k = 0; k < i->n && i->loop && status == WG_OK; k++)
            if (!p->list[p->values[wg__reads_const(i)[k]].base].loop)
                status = check_read(s, &held, id, wg__reads_const(i)[k]);
        if (!wg__computes(p, id))
            continue;
        for (uint32_t k = 0; k < i->n && status == WG_OK; k++)
            status = check_read(s, &held, id, wg__reads_const(i)[k]);
        size_t scratch = wg__program_scratch(p, i);
        if (status == WG_OK && scratch && (scratch > p->arena_bytes || p->scratch_at > p->arena_bytes - scratch))
            status = wrong(s, WG_RANGE, id, "its scratch is outside the arena");
        if (status == WG_OK)
            status = check_write(s, &held, id, p->scratch_at);
    }
    for (int k = 0; k < p->output_count && status == WG_OK; k++)
        if ((status = check_read(s, &held, p->outputs[k], p->outputs[k])) == WG_OK)
            status = check_part(s, p->outputs[k]);
    wg__ordered_free(&held);
    return status;
}

/* ---- places in the tile of a loop: two iterations are followed in the same way ---- */

typedef struct tile {
    const subject *s;
    const wg_loop *loop;
    wg_ordered held;
    int round;         /* 1 or 2 */
    int *written;      /* by id less the loop's first: the last round in which the buffer was written */
    uint32_t from, to; /* the instructions that run block by block together, or one */
} tile;

/* Whether it is a buffer of this loop that has a place in the tile. */
static bool in_tile(const tile *t, uint32_t base) {
    return base >= t->loop->from && base < t->loop->to && t->s->program->values[base].space == WG_IN_TILE;
}

static region tile_region(const tile *t, uint32_t base) {
    const wg_value *v = &t->s->program->values[base];
    return (region){0, v->offset, (uint64_t)wg__tile_place(t->s->program, t->loop, base) << v->twice};
}

static wg_status hold(tile *t, uint32_t id, uint32_t base) {
    region r = tile_region(t, base);
    const wg_ordered_node *node = holder(&t->held, r);
    t->written[base - t->loop->from] = t->round;
    if (node && node->owner == base)
        return WG_OK;
    if (r.from % 64 || r.from + r.bytes > t->loop->scratch)
        return wrong(t->s, WG_RANGE, id, "its place [%llu, %llu) is outside the tile or not aligned", (unsigned long long)r.from,
                     (unsigned long long)(r.from + r.bytes));
    for (; node; node = holder(&t->held, r))
        wg__ordered_remove(&t->held, node->high, node->low);
    if (!wg__ordered_insert(&t->held, 0, r.from, r.bytes, base))
        return wrong(t->s, wg__refusal(t->s->memory), id, "no memory to check it");
    return WG_OK;
}

/* Of a carry it is what was made in the iteration before; that is still there if it has two places, if it is not made yet, or if it
 * is being made by the reader, element for element. */
static wg_status check_tile_read(const tile *t, uint32_t id, uint32_t value) {
    const wg_program *p = t->s->program;
    uint32_t base = p->values[value].base;
    bool carried = wg__is_carry(&p->list[base]);
    if (carried && t->round == 1)
        return WG_OK; /* from outside */
    base = carried ? p->values[p->list[base].in[1]].base : base;
    if (!in_tile(t, base))
        return WG_OK;
    if (p->values[base].in_strip && (carried || base < t->from || base >= t->to))
        return wrong(t->s, WG_CONFLICT, id, "it reads %%%u, of which a strip alone has a place", base);
    const wg_ordered_node *node = holder(&t->held, tile_region(t, base));
    if (!node || node->owner != base)
        return wrong(t->s, WG_CONFLICT, id, "it reads %%%u, whose place in the tile %%%u has taken", base, node ? node->owner : 0);
    bool within = base >= t->from && base < t->to;
    bool ended = id != base && (p->list[id].region == 0 || p->list[id].region != p->list[base].region);
    bool together = within && (ended ? id < base : p->list[id].op->kind == WG_POINTWISE && wg__is_carry(&p->list[value]) && id <= base);
    if (carried && !p->values[base].twice && t->written[base - t->loop->from] == t->round && !together)
        return wrong(t->s, WG_CONFLICT, id, "it reads %%%u of the iteration before, which this one has written over", base);
    return WG_OK;
}

/* Reads of what runs together; `all`, or only those of what others have made. */
static wg_status check_tile_reads(const tile *t, bool all) {
    const wg_program *p = t->s->program;
    wg_status status = WG_OK;
    for (uint32_t id = t->from; id < t->to; id++)
        for (uint32_t k = 0; k < p->list[id].n && p->values[id].task && status == WG_OK; k++) {
            uint32_t in = wg__reads_const(&p->list[id])[k];
            bool own = in >= t->from && in < t->to; /* perhaps a part of what stands side by side after it */
            if (all || !own)
                status = check_tile_read(t, id, in);
        }
    return status;
}

static wg_status check_iteration(tile *t) {
    const wg_program *p = t->s->program;
    wg_status status = WG_OK;
    for (t->from = t->loop->from; t->from < t->loop->to && status == WG_OK; t->from = t->to) {
        t->to = wg__together(p, t->loop, t->from);
        status = check_tile_reads(t, false);
        for (uint32_t id = t->from; id < t->to && status == WG_OK; id++)
            if (p->values[id].task && !p->values[id].local && in_tile(t, p->values[id].base))
                status = hold(t, id, p->values[id].base);
        if (status == WG_OK)
            status = check_tile_reads(t, true);
    }
    return status;
}

static wg_status check_tile(const subject *s, const wg_loop *loop) {
    const wg_program *p = s->program;
    tile t = {.s = s, .loop = loop, .held.memory = s->memory};
    wg_status status = WG_OK;
    if (loop->strip && (loop->rows == 0 || loop->shared || loop->strip % WG_FOLD_ROWS))
        return wrong(s, WG_RANGE, loop->from, "strips of %lld rows, in a loop that is not cut so", (long long)loop->strip);
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (p->values[id].in_strip && (!loop->strip || p->list[id].op->kind == WG_PRODUCT))
            return wrong(s, WG_CONFLICT, id, "a strip alone has a place, and it is not made in strips");
    t.written = wg__take0(s->memory, wg__size(loop->to - loop->from, sizeof *t.written, 0));
    if (!t.written)
        return wrong(s, wg__refusal(s->memory), loop->from, "no memory to check it");
    for (uint32_t id = loop->from; id < loop->to && status == WG_OK; id++)
        if (p->values[id].carried && in_tile(&t, id)) /* all along */
            status = hold(&t, id, id);
    for (t.round = 1; t.round <= 2 && status == WG_OK; t.round++)
        status = check_iteration(&t);
    for (uint32_t id = loop->edges; id && status == WG_OK; id = p->values[id].edge)
        if (p->list[id].op == &wg__op_last && !wg__is_carry(&p->list[p->values[p->list[id].in[0]].base]))
            status = check_tile_read(&t, id, p->list[id].in[0]);
    wg__ordered_free(&t.held);
    wg__give(s->memory, t.written);
    return status;
}

wg_status wg__validate(const wg_program *p, wg_error *error) {
    subject s = {.program = p, .memory = p->memory, .error = error};
    uint32_t *stacked = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *stacked, 0));
    wg_status status = stacked ? WG_OK : wrong(&s, wg__refusal(p->memory), 0, "no memory to check it");
    for (int64_t id = 1; id < p->count && status == WG_OK; id++) {
        status = check(&s, id);
        if (status == WG_OK)
            status = check_loop(&s, id, stacked);
        if (status == WG_OK && p->values)
            status = check_layout(&s, id);
    }
    wg__give(p->memory, stacked);
    for (int64_t id = 1; id < p->count && status == WG_OK; id++)
        if (wg__is_carry(&p->list[id])) /* what stands behind it has been looked at by now */
            status = check_missing(&s, id, p->list[id].in[1]);
    for (int i = 0; i < p->output_count && status == WG_OK; i++) {
        if (p->outputs[i] == 0 || p->outputs[i] >= p->count)
            status = wrong(&s, WG_RANGE, 0, "output %d is no instruction", i + 1);
        else if (p->list[p->outputs[i]].loop)
            status = wrong(&s, WG_CONFLICT, p->outputs[i], "output %d is in loop %u", i + 1, p->list[p->outputs[i]].loop);
    }
    if (status == WG_OK && p->placed)
        status = check_places(&s);
    for (int64_t k = 0; k < p->loop_count && p->placed && status == WG_OK; k++)
        if (p->loops[k].to)
            status = check_tile(&s, &p->loops[k]);
    return status;
}
