/* tape.c: the Wengert list: nodes in chunks that never move, recorded by wg_apply, dropped by wg_tape_rewind. Knows
 * the op record and no op. */
#include "tape.h"

#include <stdio.h>
#include <string.h>

const wg_op wg__op_leaf = {.name = "leaf", .kind = WG_LEAF, .traits = WG_NO_MERGE};
const wg_op wg__op_constant = {.name = "constant", .kind = WG_LEAF};

const char wg__bare_mark;

wg_var wg_c(double value) {
    return (wg_var){(wg_tape *)(uintptr_t)&wg__bare_mark, {.value = value}};
}

bool wg_valid(wg_var x) { return wg__is_bare(x) || wg__on_tape(x); }

/* ---- the tape ---- */

static bool chunk_add(wg_tape *tape, uint64_t k);

static const char *place_of(const void *tape, int64_t i) { return ((const wg_tape *)tape)->origins[i].place; }

wg_tape *wg_tape_new(wg_memory *memory) {
    wg_tape *tape = wg__take0(memory, sizeof *tape);
    if (!tape)
        return NULL;
    tape->memory = memory;
    tape->arena.memory = tape->lasting.memory = memory;
    tape->places = (wg_lookup){.text = place_of, .owner = tape};
    tape->count = 1; /* id 0 is no node */
    wg_shape scalar = {.rank = 0, .count = 1};
    if (chunk_add(tape, 0)) {
        *wg__node(tape, 0) = (wg_node){0};
        tape->scalar = wg__intern(tape, &scalar);
    }
    if (!tape->scalar) {
        wg_tape_free(tape);
        return NULL;
    }
    return tape;
}

static void drop_leaves(wg_tape *tape, int64_t from) {
    while (tape->leaf_count && tape->leaves[tape->leaf_count - 1] >= from)
        wg_tensor_free(wg__node(tape, tape->leaves[--tape->leaf_count])->tensor);
}

void wg_tape_free(wg_tape *tape) {
    if (!tape)
        return;
    drop_leaves(tape, 0);
    for (int k = 0; k < WG_CHUNKS; k++)
        wg__give(tape->memory, tape->chunk[k]);
    wg__arena_free(&tape->arena);
    wg__arena_free(&tape->lasting);
    wg__give(tape->memory, tape->shapes);
    wg__give(tape->memory, tape->leaves);
    wg__give(tape->memory, tape->steps);
    wg__give(tape->memory, tape->origins);
    wg__give(tape->memory, tape->places.slot);
    wg__give(tape->memory, tape->spare);
    wg__give(tape->memory, tape);
}

wg_status wg_tape_status(const wg_tape *tape) { return tape->status; }
const char *wg_tape_message(const wg_tape *tape) { return tape->message; }
int64_t wg_tape_count(const wg_tape *tape) { return tape->count - 1; }

wg_mark wg_tape_mark(const wg_tape *tape) {
    return (wg_mark){tape, tape->count, tape->arena.total, tape->streams};
}

void wg_tape_clear(wg_tape *tape) {
    tape->status = WG_OK;
    tape->message[0] = 0;
}

void wg_tape_rewind(wg_tape *tape, wg_mark mark) {
    if (mark.tape != tape) {
        wg__fail(tape, WG_ARGUMENT, "rewind", "the mark is of another tape");
        return;
    }
    if (mark.nodes < 1 || mark.nodes > tape->count || mark.bytes > tape->arena.total)
        return;
    drop_leaves(tape, mark.nodes);
    while (tape->step_count && tape->steps[tape->step_count - 1].id >= mark.nodes)
        tape->step_count--;
    for (int i = 0; i < WG_CONSTANT_SLOTS; i++)
        if (tape->constants[i].id >= mark.nodes)
            tape->constants[i].shape = NULL;
    for (int i = 0; i < WG_MEMO_SLOTS; i++)
        if (tape->memo[i].id >= mark.nodes)
            tape->memo[i].op = NULL;
    wg__arena_rewind(&tape->arena, mark.bytes);
    tape->count = mark.nodes;
    tape->streams = mark.streams;
}

wg_var wg__fail(wg_tape *tape, wg_status status, const char *name, const char *format, ...) {
    if (tape && tape->status == WG_OK) {
        tape->status = status;
        size_t room = sizeof tape->message, used = 0;
        if (name)
            used = (size_t)snprintf(tape->message, room, "%s: ", name);
        va_list arguments;
        va_start(arguments, format);
        if (used < room)
            used += (size_t)vsnprintf(tape->message + used, room - used, format, arguments);
        va_end(arguments);
        const char *place = wg__origin_place(tape, tape->origin);
        if (place[0] && used < room)
            snprintf(tape->message + used, room - used, " (%s)", place);
    }
    return wg__var(tape, 0);
}

/* ---- shapes ---- */

static uint64_t hash_of(const wg_shape *shape) {
    uint64_t hash = (uint64_t)shape->rank + WG_HASH_PRIME;
    for (int i = 0; i < shape->rank; i++)
        hash = (hash ^ (uint64_t)shape->dim[i]) * 0xff51afd7ed558ccdu, hash ^= hash >> 32;
    return hash;
}

static bool shapes_grow(wg_tape *tape) {
    int64_t room = tape->shape_room ? tape->shape_room * 2 : 32;
    const wg_shape **table = wg__take0(tape->memory, wg__size((size_t)room, sizeof *table, 0));
    if (!table)
        return false;
    for (int64_t i = 0; i < tape->shape_room; i++) {
        if (!tape->shapes[i])
            continue;
        uint64_t at = wg__shape_hash(tape->shapes[i]);
        while (table[at & (uint64_t)(room - 1)])
            at++;
        table[at & (uint64_t)(room - 1)] = tape->shapes[i];
    }
    wg__give(tape->memory, tape->shapes);
    tape->shapes = table;
    tape->shape_room = room;
    return true;
}

static const wg_shape *no_memory(wg_tape *tape) {
    wg_status status = wg__refusal(tape->memory);
    wg__fail(tape, status, NULL, "%s", wg_status_sentence(status));
    return NULL;
}

const wg_shape *wg__intern(wg_tape *tape, const wg_shape *shape) {
    if (2 * tape->shape_count >= tape->shape_room && !shapes_grow(tape))
        return no_memory(tape);
    uint64_t hash = hash_of(shape), at = hash, wrap = (uint64_t)(tape->shape_room - 1);
    for (; tape->shapes[at & wrap]; at++)
        if (wg__shape_same(tape->shapes[at & wrap], shape))
            return tape->shapes[at & wrap];
    wg_kept_shape *kept = wg__arena_take(&tape->lasting, sizeof *kept);
    if (!kept)
        return no_memory(tape);
    *kept = (wg_kept_shape){hash, {.rank = shape->rank}, {.rank = shape->rank, .count = shape->count}};
    for (int i = 0; i < shape->rank; i++)
        kept->dims.dim[i] = kept->shape.dim[i] = shape->dim[i];
    tape->shapes[at & wrap] = &kept->shape;
    tape->shape_count++;
    return &kept->shape;
}

const wg_shape *wg__intern_dims(wg_tape *tape, int rank, const int64_t *dim) {
    wg_shape shape;
    if (wg__shape_set(&shape, rank, dim) == WG_OK)
        return wg__intern(tape, &shape);
    wg__fail(tape, WG_RANGE, NULL, "a size is negative or there are too many elements");
    return NULL;
}

/* ---- recording ---- */

static bool chunk_add(wg_tape *tape, uint64_t k) {
    int64_t first = ((int64_t)WG_FIRST_CHUNK << k) - WG_FIRST_CHUNK; /* its first node's id */
    wg_node *chunk = wg__take(tape->memory, ((size_t)WG_FIRST_CHUNK << k) * sizeof *chunk);
    if (!chunk)
        return false;
    tape->chunk[k] = chunk;
    tape->base[k] = (uintptr_t)chunk - (uintptr_t)first * sizeof *chunk;
    return true;
}

/* The next node, not yet counted; NULL when out of memory. */
static wg_node *next_node(wg_tape *tape) {
    uint64_t k = wg__chunk_of(tape->count);
    if (!tape->chunk[k]) {
        if (k == WG_CHUNKS - 1) {
            wg__fail(tape, WG_RANGE, NULL, "a tape holds no more than %lld nodes", (long long)tape->count - 1);
            return NULL;
        }
        if (!chunk_add(tape, k)) {
            no_memory(tape);
            return NULL;
        }
    }
    return wg__node(tape, tape->count);
}

static void *keep(wg_tape *tape, const void *bytes, size_t size) {
    void *kept = wg__arena_take(&tape->arena, size);
    if (!kept)
        no_memory(tape);
    else
        memcpy(kept, bytes, size);
    return kept;
}

wg_var wg__record(wg_tape *tape, const wg_op *op, wg_dtype dtype, const wg_shape *shape, int n,
                  const wg_var *in, const void *attr) {
    wg_node *node = next_node(tape);
    if (!node)
        return wg__var(tape, 0);
    node->op = op;
    node->shape = shape;
    node->n = (uint32_t)n;
    node->dtype = (uint32_t)dtype;
    node->origin = tape->origin;
    node->attr = NULL;
    if (attr && op->attr_size && !(node->attr = keep(tape, attr, op->attr_size)))
        return wg__var(tape, 0);
    if (n <= 2) {
        for (int i = 0; i < 2; i++)
            node->in[i] = i < n ? (uint32_t)in[i].as.id : 0;
    } else {
        uint32_t *ids = wg__arena_take(&tape->arena, (size_t)n * sizeof *ids);
        if (!ids) {
            no_memory(tape);
            return wg__var(tape, 0);
        }
        for (int i = 0; i < n; i++)
            ids[i] = (uint32_t)in[i].as.id;
        node->more = ids;
    }
    return wg__var(tape, tape->count++);
}

wg_tape *wg__tape_of(int n, const wg_var *in) {
    for (int i = 0; i < n; i++)
        if (in[i].tape && !wg__is_bare(in[i]))
            return in[i].tape;
    return NULL;
}

wg_status wg_infer_fail(wg_infer *infer, wg_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (infer->text_size)
        vsnprintf(infer->text, infer->text_size, format, arguments);
    va_end(arguments);
    return status;
}

wg_status wg_call_fail(wg_call *call, wg_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (call->text_size)
        vsnprintf(call->text, call->text_size, format, arguments);
    va_end(arguments);
    return status;
}

/* Pointwise: one type and shape for all. (Broadcasting was the builder's work.) */
static wg_status infer_alike(wg_infer *infer) {
    char a[96], b[96];
    for (int i = 0; i < infer->n; i++) {
        if (infer->in_dtype[i] != infer->in_dtype[0])
            return wg_infer_fail(infer, WG_DTYPE, "operands are %s and %s",
                                 wg_dtype_name(infer->in_dtype[0]), wg_dtype_name(infer->in_dtype[i]));
        if (!wg__shape_same(infer->in[i], infer->in[0]))
            return wg_infer_fail(infer, WG_SHAPE, "%s with %s do not broadcast",
                                 wg_shape_text(infer->in[0], a, sizeof a),
                                 wg_shape_text(infer->in[i], b, sizeof b));
    }
    if (infer->in_dtype[0] == WG_I32 && !(infer->op->traits & WG_TAKES_I32))
        return wg_infer_fail(infer, WG_DTYPE, "takes floats, not i32");
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}

wg_status wg__infer(wg_infer *infer) {
    wg_status status = infer->op->shape ? infer->op->shape(infer) : infer_alike(infer);
    if (status == WG_OK && wg__shape_set(&infer->out, infer->out.rank, infer->out.dim) != WG_OK)
        return wg_infer_fail(infer, WG_RANGE, "the result would have too many elements");
    return status;
}

/* Bare constants take the first true operand's type and become scalars. */
static bool settle_operands(wg_tape *tape, const wg_op *op, int n, const wg_var *in, wg_var *out) {
    wg_dtype dtype = 0;
    for (int i = 0; i < n; i++) {
        if (!wg_valid(in[i])) {
            wg__fail(tape, WG_ARGUMENT, op->name, "operand %d is not a valid var", i + 1);
            return false;
        }
        if (wg__is_bare(in[i]))
            continue;
        if (in[i].tape != tape) {
            wg__fail(tape, WG_ARGUMENT, op->name, "operand %d is on another tape", i + 1);
            return false;
        }
        if (!dtype)
            dtype = wg__of(in[i])->dtype;
    }
    for (int i = 0; i < n; i++) {
        out[i] = wg__is_bare(in[i]) ? wg__constant(tape, dtype, tape->scalar, in[i].as.value) : in[i];
        if (out[i].as.id == 0)
            return false;
    }
    return true;
}

/* ---- what was applied before ---- */

/* What an op makes follows from its attributes and its operands' shapes and types alone: the shape and type that its rule gave for
 * a node still on the tape are those of every node made of the same. This is looked for where there are one or two operands. */

/* The slot of such a rule's result. Of no address but the op's within this library: one program finds the same every time. */
static inline wg_memo *memo_slot(wg_tape *tape, const wg_op *op, const wg_node *a, const wg_node *b, const char *attr) {
    enum { SEEN = 32 }; /* bytes of the attributes: what is behind them is compared and not hashed */
    uint64_t hash = (uintptr_t)op - (uintptr_t)&wg__op_leaf, word;
    hash = ((hash ^ wg__shape_hash(a->shape)) * WG_HASH_PRIME) ^ wg__shape_hash(b->shape);
    const size_t size = op->attr_size < SEEN ? op->attr_size : SEEN;
    size_t at = 0;
    for (; at + sizeof word <= size; at += sizeof word) {
        memcpy(&word, attr + at, sizeof word);
        hash = (hash ^ word) * WG_HASH_PRIME;
    }
    for (; at < size; at++)
        hash = (hash ^ (unsigned char)attr[at]) * WG_HASH_PRIME;
    return &tape->memo[hash * WG_HASH_PRIME >> 56];
}

/* memcmp, for a few bytes: without a call. Of no bytes, a and b may be NULL. */
static inline bool same_bytes(const char *a, const char *b, size_t size) {
    size_t at = 0;
    for (uint64_t x, y; at + sizeof x <= size; at += sizeof x) {
        memcpy(&x, a + at, sizeof x);
        memcpy(&y, b + at, sizeof y);
        if (x != y)
            return false;
    }
    for (; at < size; at++)
        if (a[at] != b[at])
            return false;
    return true;
}

/* By the op's own rule; the operands are nodes of the tape. */
static wg_var apply_by_rule(wg_tape *tape, const wg_op *op, int n, const wg_var *in, const wg_shape *const *shapes,
                            const wg_dtype *types, const void *attr) {
    char text[512];
    text[0] = 0;
    wg_infer infer = {.op = op, .attr = attr, .n = n, .in = shapes, .in_dtype = types,
                      .text = text, .text_size = sizeof text};
    wg_status status = wg__infer(&infer);
    if (status != WG_OK)
        return wg__fail(tape, status, op->name, "%s", text[0] ? text : wg_status_sentence(status));
    const wg_shape *shape = wg__intern(tape, &infer.out);
    return shape ? wg__record(tape, op, infer.dtype, shape, n, in, attr) : wg__var(tape, 0);
}

enum { FEW = 16 };

/* What is not the usual case: everything is checked. */
static wg_var apply_any(const wg_op *op, int n, const wg_var *in, const void *attr) {
    wg_tape *tape = wg__tape_of(n, in);
    if (!tape || tape->status != WG_OK)
        return wg__var(tape, 0);
    if (op->arity >= 0 && n != op->arity)
        return wg__fail(tape, WG_ARGUMENT, op->name, "takes %d operands, was given %d", op->arity, n);
    if (op->attr_size && !attr)
        return wg__fail(tape, WG_ARGUMENT, op->name, "its attributes are missing");
    wg_var few[FEW];
    const wg_shape *few_shapes[FEW];
    wg_dtype few_types[FEW];
    wg_var *vars = few;
    const wg_shape **shapes = few_shapes;
    wg_dtype *types = few_types;
    void *many = NULL;
    if (n > FEW) {
        many = wg__take(tape->memory, wg__size((size_t)n, sizeof *vars + sizeof *shapes + sizeof *types, 0));
        if (!many) {
            no_memory(tape);
            return wg__var(tape, 0);
        }
        vars = many;
        shapes = (void *)(vars + n);
        types = (void *)(shapes + n);
    }
    wg_var y = wg__var(tape, 0);
    if (settle_operands(tape, op, n, in, vars)) {
        for (int i = 0; i < n; i++) {
            shapes[i] = wg__of(vars[i])->shape;
            types[i] = wg__of(vars[i])->dtype;
        }
        y = apply_by_rule(tape, op, n, vars, shapes, types, attr);
    }
    wg__give(tape->memory, many);
    return y;
}

wg_var wg_apply(const wg_op *op, int n, const wg_var *in, const void *attr) {
    if ((n != 1 && n != 2) || n != op->arity || (op->attr_size && !attr))
        return apply_any(op, n, in, attr);
    wg_var x = in[0], y = in[n - 1];
    if (!wg__recordable(x) || y.tape != x.tape || !wg__is_id(x.tape, y.as.id) || !wg__has_room(x.tape))
        return apply_any(op, n, in, attr);
    wg_tape *tape = x.tape;
    const wg_node *a = wg__of(x), *b = wg__of(y);
    wg_memo *memo = memo_slot(tape, op, a, b, attr);
    const uint32_t types = a->dtype | (uint32_t)b->dtype << 8;
    if (memo->op == op && memo->first == a->shape && memo->last == b->shape && memo->types == types &&
        same_bytes(memo->attr, attr, op->attr_size)) {
        wg_var again = wg__fill(tape, op, (wg_dtype)memo->dtype, memo->shape, n, (uint32_t)x.as.id, (uint32_t)y.as.id);
        wg__of(again)->attr = memo->attr;
        return again;
    }
    const wg_shape *const shapes[] = {a->shape, b->shape};
    wg_var first = apply_by_rule(tape, op, n, in, shapes, (const wg_dtype[]){a->dtype, b->dtype}, attr);
    if (first.as.id) {
        const wg_node *made = wg__of(first);
        *memo = (wg_memo){op, shapes[0], shapes[1], made->shape, op->attr_size ? made->attr : NULL, types, made->dtype, first.as.id};
    }
    return first;
}

bool wg__hold(wg_var node, wg_tensor *tensor) {
    wg_tape *tape = node.tape;
    if (!node.as.id)
        return false;
    if (!wg__room(tape->memory, (void **)&tape->leaves, tape->leaf_count, &tape->leaf_room,
                  sizeof *tape->leaves)) {
        tape->count = node.as.id;
        no_memory(tape);
        return false;
    }
    wg__of(node)->tensor = wg_tensor_retain(tensor);
    tape->leaves[tape->leaf_count++] = (uint32_t)node.as.id;
    return true;
}

wg_var wg_leaf(wg_tape *tape, wg_tensor *tensor) {
    if (!tape || tape->status != WG_OK)
        return wg__var(tape, 0);
    if (!tensor)
        return wg__fail(tape, WG_ARGUMENT, "leaf", "the tensor is NULL");
    const wg_shape *shape = wg__intern(tape, wg_tensor_shape(tensor));
    if (!shape)
        return wg__var(tape, 0);
    wg_var leaf = wg__record(tape, &wg__op_leaf, wg_tensor_dtype(tensor), shape, 0, NULL, NULL);
    return wg__hold(leaf, tensor) ? leaf : wg__var(tape, 0);
}

wg_var wg__constant_new(wg_tape *tape, wg_dtype dtype, const wg_shape *shape, double value) {
    if (dtype == WG_I32 && !(value >= INT32_MIN && value <= INT32_MAX && value == (int32_t)value))
        return wg__fail(tape, WG_RANGE, "constant", "%g is not an i32", value);
    wg_var made = wg__record(tape, &wg__op_constant, dtype, shape, 0, NULL, NULL);
    if (made.as.id) {
        wg__of(made)->value = value;
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        *wg__constant_slot(tape, dtype, shape, bits) = (wg_constant_slot){shape, bits, (uint32_t)made.as.id, (uint32_t)dtype};
    }
    return made;
}

wg_var wg_full(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim, double value) {
    wg_shape shape;
    if (!tape || tape->status != WG_OK)
        return wg__var(tape, 0);
    if (dtype < WG_F32 || dtype > WG_I32)
        return wg__fail(tape, WG_DTYPE, "full", "no such element type: %d", (int)dtype);
    if (wg__shape_set(&shape, rank, dim) != WG_OK)
        return wg__fail(tape, WG_RANGE, "full", "a size is negative or there are too many elements");
    const wg_shape *interned = wg__intern(tape, &shape);
    return interned ? wg__constant(tape, dtype, interned, value) : wg__var(tape, 0);
}

wg_var wg_like(wg_var x, double value) {
    if (!wg__on_tape(x))
        return wg__fail(wg__tape_of(1, &x), WG_ARGUMENT, "like", "the operand is not a valid var");
    if (x.tape->status != WG_OK)
        return wg__var(x.tape, 0);
    return wg__constant(x.tape, wg__of(x)->dtype, wg__of(x)->shape, value);
}

/* ---- asking a var ---- */

const wg_shape *wg_var_shape(wg_var x) { return wg__on_tape(x) ? wg__of(x)->shape : NULL; }
wg_dtype wg_var_dtype(wg_var x) { return wg__on_tape(x) ? (wg_dtype)wg__of(x)->dtype : (wg_dtype)0; }
int wg_rank(wg_var x) { return wg__on_tape(x) ? wg__of(x)->shape->rank : 0; }

int64_t wg_dim(wg_var x, int axis) {
    if (!wg__on_tape(x))
        return 0;
    const wg_shape *shape = wg__of(x)->shape;
    int at = wg__axis(axis, shape->rank);
    return at < 0 ? 0 : shape->dim[at];
}

/* ---- origins, streams, steps ---- */

uint32_t wg__origin_new(wg_tape *tape, const char *place) {
    int64_t known = wg__lookup_find(&tape->places, place);
    if (known >= 0)
        return (uint32_t)known + 1;
    if (tape->origin_count >= (1 << 24) - 1 || !wg__lookup_room(&tape->places, tape->memory) ||
        !wg__room(tape->memory, (void **)&tape->origins, tape->origin_count, &tape->origin_room,
                  sizeof *tape->origins))
        return 0;
    char *kept = wg__arena_take(&tape->lasting, strlen(place) + 1);
    if (!kept)
        return 0;
    strcpy(kept, place);
    tape->origins[tape->origin_count++].place = kept;
    wg__lookup_enter(&tape->places);
    return (uint32_t)tape->origin_count;
}

uint32_t wg__origin_set(wg_tape *tape, uint32_t origin) {
    uint32_t before = tape->origin;
    tape->origin = origin;
    return before;
}

const char *wg__origin_place(const wg_tape *tape, uint32_t origin) {
    return origin && origin <= tape->origin_count ? tape->origins[origin - 1].place : "";
}

uint64_t wg__stream(wg_tape *tape) { return ++tape->streams; }

void *wg__borrow(wg_tape *tape, size_t *bytes) {
    size_t wanted = *bytes;
    void *block = tape->spare;
    tape->spare = NULL; /* lent */
    if (block && tape->spare_bytes >= wanted) {
        *bytes = tape->spare_bytes;
    } else {
        wg__give(tape->memory, block);
        block = wg__take(tape->memory, wanted);
    }
    return block ? memset(block, 0, wanted) : NULL;
}

void wg__return(wg_tape *tape, void *block, size_t bytes) {
    if (tape->spare || !block) {
        wg__give(tape->memory, block);
        return;
    }
    tape->spare = block;
    tape->spare_bytes = bytes;
}

wg_status wg__step_mark(wg_tape *tape, uint32_t unroll, int64_t step) {
    if (!wg__room(tape->memory, (void **)&tape->steps, tape->step_count, &tape->step_room,
                  sizeof *tape->steps)) {
        no_memory(tape);
        return tape->status;
    }
    tape->steps[tape->step_count++] = (wg_step_mark){(uint32_t)tape->count, unroll, step};
    return WG_OK;
}
