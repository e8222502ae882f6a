/* eval.c: the plain executor: walks the tape op by op, with no optimisation but dropping what is no longer read. It is
 * the meaning that compiled plans are tested against. */
#include "graph.h"

#include "effect.h"
#include "pointwise.h"

#include <stdio.h>
#include <string.h>

/* A value during the walk. Big ones are blocks of their own, dropped after the last use; small ones lie in an arena, single
 * elements here. */
typedef struct value {
    char *data;
    double single;
    const int64_t *stride; /* NULL: dense */
    uint32_t uses;         /* reads to come, of the value and of its views */
    uint32_t base;         /* whose block the data lies in; 0: nobody's to drop */
} value;

enum { SMALL = 512, FEW = 16 };

static const int64_t no_strides[WG_MAX_RANK];

typedef struct walk {
    wg_tape *tape;
    int64_t high;
    value *values; /* by id */
    wg_arena arena;
    wg_team team;
    int isa; /* the instruction set of the team's kernels */
    wg_error *error;
    char *scratch;
    size_t scratch_room;
    wg_array *many; /* operands of long ops */
    uint32_t many_room;
    char text[512];
} walk;

static value *value_of(const walk *w, int64_t id) { return &w->values[id]; }

static wg_status no_memory(const walk *w, const char *name) {
    wg_status status = wg__refusal(w->tape->memory);
    return wg_error_set(w->error, status, "%s: %s", name, wg_status_sentence(status));
}

static wg_array array_of(const walk *w, int64_t id) {
    const wg_node *node = wg__node(w->tape, id);
    const value *v = value_of(w, id);
    return (wg_array){v->data, node->shape, v->stride, (wg_dtype)node->dtype};
}

/* Counts the reads of everything the outputs need. */
static wg_status plan_walk(walk *w, int n, const wg_var *y) {
    w->high = 0;
    for (int i = 0; i < n; i++) {
        if (!wg_valid(y[i]) || wg__is_bare(y[i]) || y[i].tape != w->tape)
            return wg_error_set(w->error, WG_ARGUMENT, "eval: output %d is not a var of this tape", i + 1);
        w->high = wg__max(w->high, y[i].as.id);
    }
    size_t count = (size_t)(w->high + 1);
    value *values = w->values = wg__take0(w->tape->memory, wg__size(count, sizeof *w->values, 0));
    if (!values)
        return no_memory(w, "eval");
    for (int i = 0; i < n; i++)
        values[y[i].as.id].uses++;
    for (int64_t id = w->high; id > 0; id--) {
        if (!values[id].uses)
            continue;
        const wg_node *node = wg__node(w->tape, id);
        if (node->n <= 2) { /* the operand that a unary op lacks is 0, which is no value */
            values[node->in[0]].uses++;
            values[node->in[1]].uses++;
            continue;
        }
        for (uint32_t k = 0; k < node->n; k++)
            values[node->more[k]].uses++;
    }
    return WG_OK;
}

static wg_status room_for(walk *w, int64_t id, const wg_node *node) {
    value *v = value_of(w, id);
    size_t bytes = (size_t)node->shape->count * wg_dtype_size((wg_dtype)node->dtype);
    if (bytes <= SMALL) {
        v->data = wg__arena_take(&w->arena, bytes);
    } else {
        v->data = wg__take(w->tape->memory, bytes);
        v->base = v->data ? (uint32_t)id : 0;
    }
    return v->data ? WG_OK : no_memory(w, node->op->name);
}

/* One read of a value less; a value nobody reads any more is dropped, and its base read once less in turn. */
static inline void release(walk *w, int64_t id) {
    while (id) {
        value *v = value_of(w, id);
        if (--v->uses || !v->base)
            return;
        int64_t base = v->base;
        v->base = 0;
        if (base == id) {
            wg__give(w->tape->memory, v->data);
            return;
        }
        id = base;
    }
}

static void hold_base(walk *w, int64_t id, int64_t of) {
    value *from = value_of(w, of);
    value_of(w, id)->base = from->base ? (uint32_t)of : 0;
    if (from->base)
        from->uses++;
}

/* Whether two sets of strides lead to the same places. */
static bool same_walk(const wg_shape *shape, const int64_t *a, const int64_t *b) {
    for (int k = 0; k < shape->rank && shape->count > 0; k++)
        if (shape->dim[k] > 1 && a[k] != b[k])
            return false;
    return true;
}

/* The alias, if the input's strides allow one. */
static bool view_node(walk *w, int64_t id, const wg_node *node) {
    int64_t dense[WG_MAX_RANK], stride[WG_MAX_RANK], offset = 0;
    wg_array in = array_of(w, node->in[0]);
    wg__dense_strides(in.shape, dense);
    if (!node->op->view(node->attr, in.shape, in.stride ? in.stride : dense, node->shape, stride, &offset))
        return false;
    wg__dense_strides(node->shape, dense);
    value *v = value_of(w, id);
    v->stride = NULL;
    if (!same_walk(node->shape, stride, dense)) {
        int64_t *kept = wg__arena_take(&w->arena, sizeof stride);
        if (!kept)
            return false;
        memcpy(kept, stride, sizeof stride);
        v->stride = kept;
    }
    v->data = (char *)in.data + offset * (int64_t)wg_dtype_size(in.dtype);
    hold_base(w, id, node->in[0]);
    return true;
}

/* A dense copy of a strided operand, in memory that lives until the end of the op. */
static wg_status densify(walk *w, wg_array *array, const char *name) {
    size_t bytes = (size_t)array->shape->count * wg_dtype_size(array->dtype);
    void *dense = wg__take(w->tape->memory, bytes);
    if (!dense)
        return no_memory(w, name);
    wg__copy(&w->team, array, dense);
    array->data = dense;
    array->stride = NULL;
    return WG_OK;
}

/* The bytes of scratch the op asks for; SIZE_MAX when there is no memory to ask with. */
static size_t scratch_bytes(const walk *w, const wg_call *call) {
    const wg_shape *few_shapes[FEW], **shapes = few_shapes;
    wg_dtype few_types[FEW], *types = few_types;
    void *many = NULL;
    if (call->n > FEW) {
        many = wg__take(w->tape->memory, wg__size((size_t)call->n, sizeof *shapes + sizeof *types, 0));
        if (!many)
            return SIZE_MAX;
        shapes = many;
        types = (void *)(shapes + call->n);
    }
    for (int k = 0; k < call->n; k++) {
        shapes[k] = call->in[k].shape;
        types[k] = call->in[k].dtype;
    }
    wg_infer infer = {.op = call->op, .attr = call->attr, .n = call->n, .in = shapes, .in_dtype = types,
                      .out = *call->out.shape, .dtype = call->out.dtype};
    size_t bytes = call->op->scratch(&infer);
    wg__give(w->tape->memory, many);
    return bytes;
}

static wg_status take_scratch(walk *w, wg_call *call) {
    if (!call->op->scratch)
        return WG_OK;
    size_t bytes = scratch_bytes(w, call);
    if (bytes > w->scratch_room) {
        wg__give(w->tape->memory, w->scratch);
        w->scratch = wg__take(w->tape->memory, bytes);
        w->scratch_room = w->scratch ? bytes : 0;
        if (!w->scratch)
            return no_memory(w, call->op->name);
    }
    call->scratch = w->scratch;
    return WG_OK;
}

static wg_status call_failed(walk *w, const wg_node *node, wg_status status) {
    const char *place = wg__origin_place(w->tape, node->origin);
    return wg_error_set(w->error, status, "%s: %s%s%s%s", node->op->name,
                        w->text[0] ? w->text : wg_status_sentence(status), place[0] ? " (" : "", place,
                        place[0] ? ")" : "");
}

static wg_status run_kernel(walk *w, int64_t id, const wg_node *node, wg_array *in) {
    wg_status status = room_for(w, id, node);
    for (uint32_t k = 0; k < node->n; k++) {
        int64_t from = wg__inputs(node)[k];
        in[k] = array_of(w, from);
        if (status == WG_OK && !wg__takes(node->op, in[k].shape, in[k].stride))
            status = densify(w, &in[k], node->op->name);
    }
    wg_call call = {.op = node->op, .attr = node->attr, .n = (int)node->n, .in = in, .team = &w->team,
                    .text = w->text, .text_size = sizeof w->text};
    call.out = array_of(w, id);
    if (status == WG_OK)
        status = take_scratch(w, &call);
    if (status == WG_OK && (status = wg__kernel(node->op)(&call)) != WG_OK)
        call_failed(w, node, status);
    for (uint32_t k = 0; k < node->n; k++) /* what densify made */
        if (in[k].data != value_of(w, wg__inputs(node)[k])->data)
            wg__give(w->tape->memory, in[k].data);
    return status;
}

static wg_status leaf_node(walk *w, int64_t id, const wg_node *node) {
    value *v = value_of(w, id);
    if (node->op == &wg__op_leaf) {
        v->data = (char *)(uintptr_t)wg_tensor_data(node->tensor);
        return WG_OK;
    }
    v->data = (char *)&v->single;
    if (node->dtype == WG_F32)
        *(float *)v->data = (float)node->value;
    else if (node->dtype == WG_F64)
        *(double *)v->data = node->value;
    else
        *(int32_t *)v->data = (int32_t)node->value;
    v->stride = node->shape->count == 1 ? NULL : no_strides;
    return WG_OK;
}

static wg_array *operands_room(walk *w, uint32_t n) {
    if (n > w->many_room) {
        wg__give(w->tape->memory, w->many);
        w->many = wg__take(w->tape->memory, wg__size(n, sizeof *w->many, 0));
        w->many_room = w->many ? n : 0;
    }
    return w->many;
}

/* A pointwise op on single elements: no strides matter, no threads, no call record. False if it is none. */
static inline bool run_single(const walk *w, int64_t id, const wg_node *node) {
    if (node->op->kind != WG_POINTWISE || node->shape->count != 1 || node->n > 2)
        return false;
    wg__map *map = wg__map_for(node->op, (int)node->dtype - WG_F32, w->isa);
    if (!map)
        return false;
    const void *in[2] = {value_of(w, node->in[0])->data, value_of(w, node->in[1])->data};
    value *v = value_of(w, id);
    v->data = (char *)&v->single;
    map(1, in, v->data);
    return true;
}

static wg_status run_node(walk *w, int64_t id, const wg_node *node) {
    if (node->op->kind == WG_LEAF)
        return leaf_node(w, id, node);
    if (node->op->kind == WG_EFFECT) { /* the value itself; what it does comes last */
        value *v = value_of(w, id), *from = value_of(w, node->in[0]);
        v->data = from->data, v->stride = from->stride;
        hold_base(w, id, node->in[0]);
        return WG_OK;
    }
    if (node->op->view && view_node(w, id, node))
        return WG_OK;
    wg_array few[FEW], *in = node->n <= FEW ? few : operands_room(w, node->n);
    return in ? run_kernel(w, id, node, in) : no_memory(w, node->op->name);
}

static wg_status walk_all(walk *w, wg_watch *watch, void *user) {
    for (int64_t id = 1; id <= w->high; id++) {
        if (!value_of(w, id)->uses)
            continue;
        const wg_node *node = wg__node(w->tape, id);
        wg_status status = run_single(w, id, node) ? WG_OK : run_node(w, id, node);
        if (status != WG_OK)
            return status;
        if (watch) {
            wg_array seen = array_of(w, id);
            if (!watch(user, w->tape, id, &seen))
                return WG_OK;
        }
        const uint32_t *in = wg__inputs(node);
        for (uint32_t k = 0; k < node->n; k++)
            release(w, in[k]);
    }
    return WG_OK;
}

static wg_status copy_out(walk *w, wg_var y, wg_tensor **out) {
    wg_array from = array_of(w, y.as.id);
    *out = wg_tensor_new(w->tape->memory, from.dtype, from.shape->rank, from.shape->dim);
    if (!*out)
        return no_memory(w, "eval");
    wg__copy(&w->team, &from, wg_tensor_write(*out));
    return WG_OK;
}

/* Guards first; then the stores, from the copies in out: so that no store reads what another has written. */
static wg_status effects(walk *w, int n, const wg_var *y, wg_tensor **out) {
    for (int i = 0; i < n; i++) {
        const wg_node *node = wg__of(y[i]);
        wg_array guarded = array_of(w, y[i].as.id);
        if (node->op == &wg__op_guard && !wg__finite(&guarded))
            return wg_error_set(w->error, WG_NONFINITE, "guard: a guarded value is NaN or infinite");
    }
    wg_status status = wg__check_stores(n, y, w->error);
    for (int i = 0; i < n && status == WG_OK; i++)
        if (wg__of(y[i])->op == &wg__op_store && wg_tensor_bytes(out[i]) > 0)
            memcpy(wg_tensor_write(wg__of(y[i])->tensor), wg_tensor_data(out[i]), wg_tensor_bytes(out[i]));
    return status;
}

static void walk_free(walk *w) {
    for (int64_t id = 1; w->values && id <= w->high; id++) /* what an early end left */
        if (w->values[id].base == id)
            wg__give(w->tape->memory, value_of(w, id)->data);
    wg__give(w->tape->memory, w->values);
    wg__give(w->tape->memory, w->scratch);
    wg__give(w->tape->memory, w->many);
    wg__arena_free(&w->arena);
}

wg_status wg__eval(const wg_run_options *options, int n, const wg_var *y, wg_tensor **out, wg_watch *watch,
                   void *user, wg_error *error) {
    wg_tape *tape = wg__tape_of(n, y);
    for (int i = 0; i < n && out; i++)
        out[i] = NULL;
    if (!tape)
        return wg_error_set(error, WG_ARGUMENT, "eval: no output is a var of a tape");
    if (tape->status != WG_OK)
        return wg_error_set(error, tape->status, "%s", tape->message);
    if (!out && !watch)
        return wg_error_set(error, WG_ARGUMENT, "eval: there is no place for the results");
    walk w = {.tape = tape, .arena.memory = tape->memory, .error = error};
    w.team = wg__team_of(options);
    w.isa = wg__isa_within(w.team.isa);
    unsigned mode = wg__float_mode_enter(w.team.keep_subnormals);
    wg_status status = plan_walk(&w, n, y);
    if (status == WG_OK)
        status = walk_all(&w, watch, user);
    for (int i = 0; i < n && out && status == WG_OK; i++)
        status = copy_out(&w, y[i], &out[i]);
    if (status == WG_OK && out)
        status = effects(&w, n, y, out);
    wg__float_mode_leave(mode);
    walk_free(&w);
    for (int i = 0; i < n && out && status != WG_OK; i++) {
        wg_tensor_free(out[i]);
        out[i] = NULL;
    }
    return status;
}

wg_status wg_eval_with(const wg_run_options *options, int n, const wg_var *y, wg_tensor **out, wg_error *error) {
    return wg__eval(options, n, y, out, NULL, NULL, error);
}

wg_status wg_eval(int n, const wg_var *y, wg_tensor **out, wg_error *error) {
    return wg__eval(NULL, n, y, out, NULL, NULL, error);
}
