/* inplace.c: results that take over the buffer of what they are made of, where that is read for the last time. */
#include "loop.h"

extern const wg_op wg__op_concat;

/* ---- outside loops: a pointwise result takes over an operand of its own size. The kernel reads each element before it writes it, so
 * any dense operand with the same elements in the same places will do. An op that adds to its last operand takes over that one ---- */

/* Whether instruction id may write over base b, read as operand `at`: b dies here, has id's size, and is read only element
 * for element. */
static bool may_take(const wg_program *p, uint32_t id, uint32_t at, uint32_t b) {
    const wg_instruction *i = &p->list[id];
    if (!wg__computes(p, b) || p->values[b].base != b || p->values[b].last != id || i->dtype != p->list[b].dtype ||
        wg__instruction_bytes(i) != wg__instruction_bytes(&p->list[b]))
        return false;
    const uint32_t *in = wg__reads_const(i);
    for (uint32_t k = 0; k < i->n; k++) {
        const wg_value *v = &p->values[in[k]];
        bool same = i->op->kind == WG_POINTWISE || k == at;
        if (v->base == b && (v->stride || v->shift || !same))
            return false;
    }
    return true;
}

static void take_operand(wg_program *p, uint32_t id) {
    const wg_instruction *i = &p->list[id];
    bool pointwise = wg__kernel(i->op) == wg__pointwise_run;
    if (!wg__computes(p, id) || (!pointwise && !(i->op->traits & WG_ADDS_TO_LAST)))
        return;
    for (uint32_t k = pointwise ? 0 : i->n - 1; k < i->n && !p->values[id].over; k++) {
        uint32_t b = p->values[wg__reads_const(i)[k]].base;
        if (may_take(p, id, k, b))
            p->values[id].over = b;
    }
}

/* ---- loops: a stack takes over an array whose elements the loop reads one by one in the stack's order ---- */

/* Columns [from, from + count) of a step's rows. */
typedef struct columns {
    int64_t from, count;
} columns;

static bool overlap(columns a, columns b) { return a.from < b.from + b.count && b.from < a.from + a.count; }

/* Whether instruction `reader` has read its columns of a step before `writer` writes to `to`. Rows run block by block in a
 * region, through all its instructions. */
static bool reads_first(const wg_program *p, uint32_t reader, columns from, uint32_t writer, columns to) {
    if (!overlap(from, to))
        return true;
    const wg_instruction *r = &p->list[reader], *w = &p->list[writer];
    if (r->op->kind == WG_POINTWISE && w->op->kind == WG_POINTWISE && from.from == to.from && from.count == to.count)
        return reader <= writer;
    return reader < writer && !(r->region && r->region == w->region);
}

static bool is_side_by_side(const wg_instruction *i) { return i->op == &wg__op_concat && wg__axis(*(const int *)i->attr, 2) == 1; }

/* Whether a part of `v` is made by itself: to be put there, or (after schedule) there. */
static bool is_made_there(const wg_program *p, uint32_t part, uint32_t v) {
    return p->values[part].task && (p->values[part].base == part || p->values[part].base == v);
}

/* The same for all that writes value `v`, which is stacked over an array: itself, or what is put side by side in it, but for columns of
 * that array, which lie there. */
static bool reads_before(const wg_program *p, uint32_t reader, columns from, uint32_t v, uint32_t array) {
    const wg_instruction *i = &p->list[v];
    int64_t at = 0;
    if (!is_side_by_side(i))
        return reads_first(p, reader, from, v, (columns){0, i->shape->dim[1]});
    for (uint32_t k = 0; k < i->n; k++) {
        uint32_t part = wg__reads_const(i)[k];
        columns to = {at, p->list[part].shape->dim[1]};
        if (p->values[part].base != array && !reads_first(p, reader, from, is_made_there(p, part, v) ? part : v, to))
            return false;
        at += to.count;
    }
    return true;
}

/* The columns of a step's rows of `width` that a value is, whose first step begins at `start`; false if it is anything else. */
static bool columns_of(const wg_program *p, uint32_t id, int64_t start, int64_t rows, int64_t width, columns *c) {
    const wg_shape *shape = p->list[id].shape;
    const wg_value *v = &p->values[id];
    *c = (columns){v->shift - start, shape->rank == 2 ? shape->dim[1] : 0};
    int64_t row = v->stride ? v->stride[0] : c->count, column = v->stride ? v->stride[1] : 1;
    return shape->rank == 2 && shape->dim[0] == rows && c->from >= 0 && c->from + c->count <= width &&
           (row == width || rows == 1) && (column == 1 || c->count == 1);
}

/* An array's elements, read in the order of a stack: where the first begins, and how much further on the next does. */
typedef struct in_order {
    int64_t start, step;
} in_order;

static in_order order_of(const wg_program *p, uint32_t stack) {
    const wg_instruction *s = &p->list[stack];
    const int64_t count = p->list[s->in[0]].shape->count, times = p->loops[p->list[s->in[0]].loop - 1].times;
    return ((const wg_stacked_attr *)s->attr)->backward ? (in_order){(times - 1) * count, -count} : (in_order){0, count};
}

/* Whether a value is columns of an array's element, in the order of this stack; which. */
static bool are_columns_of(const wg_program *p, uint32_t id, uint32_t array, uint32_t stack, columns *c) {
    const uint32_t v = p->list[stack].in[0];
    const in_order e = order_of(p, stack);
    return p->values[id].base == array && (p->values[id].step == e.step || p->loops[p->list[v].loop - 1].times == 1) &&
           columns_of(p, id, e.start, p->list[v].shape->dim[0], p->list[v].shape->dim[1], c);
}

bool wg__stands_there(const wg_program *p, uint32_t stack, uint32_t array, uint32_t part, int64_t column) {
    columns c;
    return are_columns_of(p, part, array, stack, &c) && c.from == column;
}

/* The column where operand k of what is put side by side begins. */
static int64_t column_of(const wg_program *p, const wg_instruction *i, uint32_t k) {
    int64_t at = 0;
    for (uint32_t j = 0; j < k; j++)
        at += p->list[wg__reads_const(i)[j]].shape->dim[1];
    return at;
}

/* Whether what makes some rows reads those of operand k alone: tiles of rows run all their iterations one after the other, or at once. */
static bool reads_by_rows(const wg_program *p, const wg_instruction *i, uint32_t k) {
    return i->op->kind == WG_POINTWISE || wg__is_cut(wg__instruction_rows(p, i), k);
}

bool wg__stacks_over(const wg_program *p, uint32_t stack, uint32_t array) {
    const wg_instruction *s = &p->list[stack];
    uint32_t v = s->in[0];
    const wg_shape *shape = p->list[v].shape;
    const wg_loop *loop = &p->loops[p->list[v].loop - 1];
    if (!wg__buffered(p, array) || array >= loop->from || p->values[array].last != loop->to - 1 || p->list[array].dtype != s->dtype ||
        wg__instruction_bytes(&p->list[array]) != wg__instruction_bytes(s) || shape->rank != 2 || shape->count == 0)
        return false;
    for (uint32_t id = loop->from; id < loop->to; id++) {
        const wg_instruction *i = &p->list[id];
        for (uint32_t k = 0; k < i->n && (p->values[id].task || wg__is_choice(i)); k++) {
            uint32_t in = wg__reads_const(i)[k];
            columns c;
            if (p->values[in].base != array)
                continue;
            if (wg__is_choice(i) || !reads_by_rows(p, i, k) || !are_columns_of(p, in, array, stack, &c) || /* who reads a choice reads the array then */
                !(id == v && is_side_by_side(i) ? c.from == column_of(p, i, k) : reads_before(p, id, c, v, array)))
                return false;
        }
    }
    return true;
}

/* The arrays that a loop reads by elements are tried for each of its stacks: few for each, and few in all, for each try walks the
 * loop. `elements`: room for as many as the loop has instructions. */
static void take_arrays(wg_program *p, const wg_loop *loop, bool *taken, uint32_t *elements) {
    enum { MOST_TRIES = 8, MOST_WALKS = 64 };
    uint32_t count = 0;
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (p->list[id].op == &wg__op_element)
            elements[count++] = id;
    int64_t walk = loop->to - loop->from, left = MOST_WALKS * walk;
    for (uint32_t stack = loop->edges; stack; stack = p->values[stack].edge) {
        int tries = p->list[stack].op == &wg__op_stacked ? 0 : MOST_TRIES;
        for (uint32_t k = 0; k < count && tries < MOST_TRIES && left > 0 && !p->values[stack].over; k++, left--) {
            uint32_t array = p->values[elements[k]].base;
            if (taken[array] || wg__instruction_bytes(&p->list[array]) != wg__instruction_bytes(&p->list[stack]))
                continue;
            tries++;
            left -= walk;
            if (wg__stacks_over(p, stack, array))
                p->values[stack].over = array, taken[array] = true;
        }
    }
}

wg_status wg__pass_inplace(wg_program *p, wg_error *error) {
    bool *taken = wg__take0(p->memory, (size_t)p->count);
    uint32_t *elements = wg__take(p->memory, wg__size((size_t)p->count, sizeof *elements, 0));
    bool good = taken && elements;
    for (uint32_t id = 1; good && id < p->count; id++)
        take_operand(p, id);
    for (int64_t k = 0; good && k < p->loop_count; k++)
        if (p->loops[k].to)
            take_arrays(p, &p->loops[k], taken, elements);
    wg__give(p->memory, taken);
    wg__give(p->memory, elements);
    return good ? WG_OK : wg__program_no_memory(p, error);
}
