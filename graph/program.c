/* program.c: a program from the part of a tape that the outputs need, and the rewriting that passes share. Decides nothing:
 * the meaning is the tape's. */
#include "known.h"
#include "loop.h"

#include "effect.h"

#include <string.h>

wg_status wg__program_no_memory(const wg_program *program, wg_error *error) {
    wg_status status = wg__refusal(program->memory);
    return wg_error_set(error, status, "compile: %s", wg_status_sentence(status));
}

/* ---- shapes ---- */

static uint64_t shape_hash(const wg_shape *shape) {
    uint64_t hash = (uint64_t)shape->rank + 0x9e3779b97f4a7c15u;
    for (int i = 0; i < shape->rank; i++)
        hash = wg__mix(hash, (uint64_t)shape->dim[i]);
    return hash;
}

static bool shapes_grow(wg_program *p) {
    int64_t room = p->shape_room ? p->shape_room * 2 : 32;
    const wg_shape **table = wg__take0(p->memory, wg__size((size_t)room, sizeof *table, 0));
    if (!table)
        return false;
    for (int64_t i = 0; i < p->shape_room; i++) {
        if (!p->shapes[i])
            continue;
        uint64_t at = shape_hash(p->shapes[i]);
        while (table[at & (uint64_t)(room - 1)])
            at++;
        table[at & (uint64_t)(room - 1)] = p->shapes[i];
    }
    wg__give(p->memory, p->shapes);
    p->shapes = table;
    p->shape_room = room;
    return true;
}

const wg_shape *wg__program_shape(wg_program *p, const wg_shape *shape) {
    if (2 * p->shape_count >= p->shape_room && !shapes_grow(p))
        return NULL;
    uint64_t at = shape_hash(shape), wrap = (uint64_t)(p->shape_room - 1);
    for (; p->shapes[at & wrap]; at++)
        if (wg__shape_same(p->shapes[at & wrap], shape))
            return p->shapes[at & wrap];
    wg_shape *kept = wg__arena_take(&p->arena, sizeof *kept);
    if (!kept)
        return NULL;
    *kept = *shape;
    p->shapes[at & wrap] = kept;
    p->shape_count++;
    return kept;
}

/* ---- from the tape ---- */

enum { SHAPE_CACHE = 64 };

typedef struct tensor_slot {
    const wg_tensor *tensor;
    uint32_t slot, leaf; /* leaf: the instruction that reads it, if there is one */
} tensor_slot;

typedef struct build {
    wg_program *program;
    const wg_tape *tape;
    int64_t high;
    uint32_t *to;       /* by the tape's id: 0 unreachable, else the instruction */
    uint32_t *origins;  /* by the tape's origin: the program's */
    tensor_slot *table; /* open-addressed */
    int64_t table_room;
    int64_t mark; /* the last step mark passed */
    struct {
        const wg_shape *from, *to;
    } cache[SHAPE_CACHE];
} build;

static tensor_slot *slot_place(tensor_slot *table, int64_t room, const wg_tensor *tensor) {
    uint64_t at = wg__mix(0, (uint64_t)(uintptr_t)tensor), wrap = (uint64_t)(room - 1);
    while (table[at & wrap].tensor && table[at & wrap].tensor != tensor)
        at++;
    return &table[at & wrap];
}

static bool table_grow(build *b) {
    int64_t room = b->table_room ? b->table_room * 2 : 32;
    tensor_slot *table = wg__take0(b->program->memory, wg__size((size_t)room, sizeof *table, 0));
    if (!table)
        return false;
    for (int64_t i = 0; i < b->table_room; i++)
        if (b->table[i].tensor)
            *slot_place(table, room, b->table[i].tensor) = b->table[i];
    wg__give(b->program->memory, b->table);
    b->table = table;
    b->table_room = room;
    return true;
}

/* The entry of a tensor, which the program now holds; NULL when out of memory. */
static tensor_slot *slot_of(build *b, wg_tensor *tensor) {
    wg_program *p = b->program;
    if (2 * p->tensor_count >= b->table_room && !table_grow(b))
        return NULL;
    tensor_slot *at = slot_place(b->table, b->table_room, tensor);
    if (!at->tensor) {
        if (!wg__room(p->memory, (void **)&p->tensors, p->tensor_count, &p->tensor_room, sizeof *p->tensors))
            return NULL;
        p->tensors[p->tensor_count++] = wg_tensor_retain(tensor);
        *at = (tensor_slot){tensor, (uint32_t)p->tensor_count, 0};
    }
    return at;
}

static const wg_shape *shape_of(build *b, const wg_shape *from) {
    unsigned at = (unsigned)((uintptr_t)from / sizeof *from) % SHAPE_CACHE;
    if (b->cache[at].from != from) {
        const wg_shape *to = wg__program_shape(b->program, from);
        if (!to)
            return NULL;
        b->cache[at].from = from;
        b->cache[at].to = to;
    }
    return b->cache[at].to;
}

/* The program's copy of where a node was recorded; 0 when unknown (or out of memory: places are only for messages). */
static uint32_t origin_of(build *b, uint32_t origin) {
    wg_program *p = b->program;
    if (!origin || !b->origins)
        return 0;
    if (b->origins[origin])
        return b->origins[origin];
    const char *place = wg__origin_place(b->tape, origin);
    size_t size = strlen(place) + 1;
    char *kept = wg__arena_take(&p->arena, size);
    if (!kept || !wg__room(p->memory, (void **)&p->origins, p->origin_count, &p->origin_room, sizeof *p->origins))
        return 0;
    memcpy(kept, place, size);
    p->origins[p->origin_count] = kept;
    return b->origins[origin] = (uint32_t)p->origin_count++;
}

/* Which step of which unroll a node belongs to. Ids come in ascending order. */
static bool step_of(build *b, int64_t id, uint32_t *step) {
    wg_program *p = b->program;
    bool moved = false;
    for (; b->mark < b->tape->step_count && b->tape->steps[b->mark].id <= id; b->mark++)
        moved = true;
    const wg_step_mark *mark = b->mark ? &b->tape->steps[b->mark - 1] : NULL;
    if (!mark || mark->step == WG_NO_STEP) {
        *step = 0;
        return true;
    }
    if (moved) {
        if (!wg__room(p->memory, (void **)&p->steps, p->step_count, &p->step_room, sizeof *p->steps))
            return false;
        p->steps[p->step_count++] = (wg_program_step){mark->unroll, mark->step};
    }
    *step = (uint32_t)p->step_count - 1;
    return true;
}

static bool copy_inputs(build *b, const wg_node *node, wg_instruction *to) {
    const uint32_t *in = wg__inputs(node);
    if (node->n > 2) {
        to->more = wg__arena_take(&b->program->arena, node->n * sizeof *to->more);
        if (!to->more)
            return false;
    }
    for (uint32_t k = 0; k < node->n; k++)
        wg__reads(to)[k] = b->to[in[k]];
    return true;
}

static bool copy_attr(build *b, const wg_node *node, wg_instruction *to) {
    if (node->op == &wg__op_constant) {
        to->value = node->value;
        return true;
    }
    to->attr = NULL;
    if (!node->attr || !node->op->attr_size || to->slot)
        return true;
    void *kept = wg__arena_take(&b->program->arena, node->op->attr_size);
    if (kept)
        memcpy(kept, node->attr, node->op->attr_size);
    to->attr = kept;
    return kept;
}

/* Copies one node; every tensor is read by one leaf only, since all reads of a run see the same contents. */
static bool copy_node(build *b, int64_t id) {
    wg_program *p = b->program;
    const wg_node *node = wg__node(b->tape, id);
    wg_instruction *to = &p->list[p->count];
    *to = (wg_instruction){.op = node->op, .n = node->n, .dtype = node->dtype};
    if (node->op == &wg__op_leaf || node->op == &wg__op_store) {
        tensor_slot *slot = slot_of(b, node->tensor);
        if (!slot)
            return false;
        if (node->op == &wg__op_leaf && slot->leaf) {
            b->to[id] = slot->leaf;
            return true;
        }
        if (node->op == &wg__op_leaf)
            slot->leaf = (uint32_t)p->count;
        to->slot = slot->slot;
    }
    to->origin = origin_of(b, node->origin);
    if (!(to->shape = shape_of(b, node->shape)) || !step_of(b, id, &to->step) || !copy_attr(b, node, to) ||
        !copy_inputs(b, node, to))
        return false;
    b->to[id] = (uint32_t)p->count++;
    return true;
}

/* Marks what is reachable; returns how much it is. */
static int64_t reach(build *b, int n, const wg_var *y) {
    int64_t count = 0;
    for (int i = 0; i < n; i++)
        b->to[y[i].as.id] = 1;
    for (int64_t id = b->high; id > 0; id--) {
        if (!b->to[id])
            continue;
        count++;
        const wg_node *node = wg__node(b->tape, id);
        for (uint32_t k = 0; k < node->n; k++)
            b->to[wg__inputs(node)[k]] = 1;
    }
    return count;
}

static wg_status copy_all(build *b, int n, const wg_var *y, wg_error *error) {
    wg_program *p = b->program;
    b->to = wg__take0(p->memory, wg__size((size_t)b->high + 1, sizeof *b->to, 0));
    b->origins = wg__take0(p->memory, wg__size((size_t)b->tape->origin_count + 1, sizeof *b->origins, 0));
    p->outputs = wg__take(p->memory, wg__size((size_t)n, sizeof *p->outputs, 0));
    if (!b->to || !b->origins || !p->outputs)
        return wg__program_no_memory(p, error);
    int64_t count = reach(b, n, y);
    p->list = wg__take(p->memory, wg__size((size_t)count + 1, sizeof *p->list, 0));
    if (!p->list || !wg__room(p->memory, (void **)&p->origins, 0, &p->origin_room, sizeof *p->origins) ||
        !wg__room(p->memory, (void **)&p->steps, 0, &p->step_room, sizeof *p->steps))
        return wg__program_no_memory(p, error);
    memset(&p->list[0], 0, sizeof p->list[0]);
    p->count = p->origin_count = p->step_count = 1;
    p->origins[0] = "";
    p->steps[0] = (wg_program_step){0};
    for (int64_t id = 1; id <= b->high; id++)
        if (b->to[id] && !copy_node(b, id))
            return wg__program_no_memory(p, error);
    for (int i = 0; i < n; i++)
        p->outputs[i] = b->to[y[i].as.id];
    p->output_count = n;
    return WG_OK;
}

wg_program *wg__program_new(wg_memory *memory, int n, const wg_var *y, wg_error *error) {
    build b = {.tape = wg__tape_of(n, y)};
    for (int i = 0; i < n; i++) {
        if (!b.tape || !wg_valid(y[i]) || wg__is_bare(y[i]) || y[i].tape != b.tape) {
            wg_error_set(error, WG_ARGUMENT, "compile: output %d is not a var of the tape", i + 1);
            return NULL;
        }
        b.high = wg__max(b.high, y[i].as.id);
    }
    wg_program *p = n > 0 && b.tape->status == WG_OK ? wg__take0(memory, sizeof *p) : NULL;
    if (!p) {
        if (n <= 0)
            wg_error_set(error, WG_ARGUMENT, "compile: there are no outputs");
        else if (b.tape->status != WG_OK)
            wg_error_set(error, b.tape->status, "%s", b.tape->message);
        else
            wg_error_set(error, wg__refusal(memory), "compile: %s", wg_status_sentence(wg__refusal(memory)));
        return NULL;
    }
    b.program = p;
    p->memory = p->arena.memory = memory;
    p->after = "record";
    wg_status status = copy_all(&b, n, y, error);
    wg__give(memory, b.to);
    wg__give(memory, b.origins);
    wg__give(memory, b.table);
    if (status == WG_OK)
        return p;
    wg__program_free(p);
    return NULL;
}

void wg__program_free(wg_program *p) {
    if (!p)
        return;
    for (int64_t i = 0; i < p->tensor_count; i++)
        wg_tensor_free(p->tensors[i]);
    wg__give(p->memory, p->list);
    wg__give(p->memory, p->outputs);
    wg__give(p->memory, p->bundles);
    wg__give(p->memory, p->tensors);
    wg__give(p->memory, p->shapes);
    wg__give(p->memory, p->origins);
    wg__give(p->memory, p->steps);
    wg__give(p->memory, p->values);
    wg__give(p->memory, p->loops);
    wg__arena_free(&p->arena);
    wg__give(p->memory, p);
}

enum { FEW = 16 };

size_t wg__program_scratch(const wg_program *p, const wg_instruction *i) {
    const wg_shape *few_shapes[FEW], **shapes = few_shapes;
    wg_dtype few_types[FEW], *types = few_types;
    void *many = NULL;
    if (!i->op->scratch)
        return 0;
    if (i->n > FEW) {
        many = wg__take(p->memory, wg__size(i->n, sizeof *shapes + sizeof *types, 0));
        if (!many)
            return SIZE_MAX;
        shapes = many;
        types = (void *)(shapes + i->n);
    }
    for (uint32_t k = 0; k < i->n; k++) {
        shapes[k] = p->list[wg__reads_const(i)[k]].shape;
        types[k] = (wg_dtype)p->list[wg__reads_const(i)[k]].dtype;
    }
    wg_infer infer = {.op = i->op, .attr = i->attr, .n = (int)i->n, .in = shapes, .in_dtype = types,
                      .out = *i->shape, .dtype = (wg_dtype)i->dtype};
    size_t bytes = i->op->scratch(&infer);
    wg__give(p->memory, many);
    return bytes;
}

/* ---- rewriting ---- */

bool wg__rewrite_begin(wg_rewrite *r, wg_program *p) {
    *r = (wg_rewrite){.program = p, .count = 1, .room = p->count};
    r->list = wg__take(p->memory, wg__size((size_t)p->count, sizeof *r->list, 0));
    r->to = wg__take0(p->memory, wg__size((size_t)p->count, sizeof *r->to, 0));
    if (r->list)
        r->list[0] = p->list[0];
    return r->list && r->to;
}

uint32_t wg__rewrite_add(wg_rewrite *r, const wg_instruction *instruction) {
    if (!wg__room(r->program->memory, (void **)&r->list, r->count, &r->room, sizeof *r->list))
        return 0;
    r->list[r->count] = *instruction;
    return (uint32_t)r->count++;
}

uint32_t wg__rewrite_keep(wg_rewrite *r, int64_t id) {
    const wg_program *p = r->program;
    bool carry = wg__is_carry(&p->list[id]);
    if (carry && !wg__room(p->memory, (void **)&r->carries, r->carry_count, &r->carry_room, sizeof *r->carries))
        return 0;
    uint32_t made = wg__rewrite_add(r, &p->list[id]);
    if (!made)
        return 0;
    wg_instruction *i = &r->list[made];
    uint32_t *in = i->n > 2 ? wg__arena_take(&r->program->arena, i->n * sizeof *in) : i->in;
    if (!in)
        return 0;
    for (uint32_t k = 0; k < i->n; k++) { /* the old list stays as it is */
        uint32_t old = wg__reads_const(&p->list[id])[k];
        in[k] = wg__reads_back(i, k) ? old : r->to[old];
    }
    if (i->n > 2)
        i->more = in;
    if (carry)
        r->carries[r->carry_count++] = made;
    return r->to[id] = made;
}

/* Where every loop's instructions now are; a loop may have lost them all. */
static void find_loops(wg_program *p) {
    for (int64_t k = 0; k < p->loop_count; k++)
        p->loops[k].from = p->loops[k].to = 0;
    for (uint32_t id = 1; id < p->count; id++) {
        wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        if (loop && !loop->to)
            loop->from = id;
        if (loop)
            loop->to = id + 1;
    }
}

void wg__rewrite_end(wg_rewrite *r, bool done) {
    wg_program *p = r->program;
    if (done) {
        for (int64_t k = 0; k < r->carry_count; k++)
            r->list[r->carries[k]].in[1] = r->to[r->list[r->carries[k]].in[1]];
        for (int i = 0; i < p->output_count; i++)
            p->outputs[i] = r->to[p->outputs[i]];
        wg__give(p->memory, p->list);
        p->list = r->list;
        p->count = r->count;
        find_loops(p);
    } else {
        wg__give(p->memory, r->list);
    }
    wg__give(p->memory, r->to);
    wg__give(p->memory, r->carries);
    *r = (wg_rewrite){0};
}

/* ---- loops ---- */

bool wg__reads_back(const wg_instruction *i, uint32_t k) { return wg__is_carry(i) && k == 1; }

uint32_t wg__written_from(const wg_program *p, uint32_t id) {
    const wg_instruction *i = &p->list[id];
    return i->op->kind == WG_CONTROL ? p->loops[p->list[i->in[0]].loop - 1].from : id;
}

uint32_t wg__loop_new(wg_program *p, int64_t times) {
    if (!wg__room(p->memory, (void **)&p->loops, p->loop_count, &p->loop_room, sizeof *p->loops))
        return 0;
    p->loops[p->loop_count++] = (wg_loop){.times = times};
    return (uint32_t)p->loop_count;
}
