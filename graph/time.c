/* time.c: what a loop does not need to do step by step is done once for all steps. A product of elements of an outside array with an
 * outside matrix is made before the loop, unless it is quicker in the sums of one that stays there; a product that only the stack of a
 * loop's values wants is made after it, of the stack of its left operand; and a sum over steps of products A^T B, or of sums over rows,
 * several a step or one, is for each one product of the stacks of A and B, or one sum of a stack. Changes the order of sums, nothing else; where an
 * operand is the same in all steps, also what is summed first.
 * Names the ops that it is about: matmul, sum_to, add and mul; and concat, whose parts are found again in its stack. */
#include "added.h"
#include "known.h"
#include "loop.h"
#include "make.h"
#include "ops.h"

#include "amx.h"
#include "gemm.h"

#include <math.h>
#include <string.h>

extern const wg_op wg__op_mul;

/* The product over all steps and rows of neighbours that stand side by side, `count` columns from `from` on, with another value: made
 * once for all of them. */
typedef struct whole {
    uint32_t right, made;
    int64_t from, count;
} whole;

typedef struct mover {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *reads;
    bool *backward;    /* by loop, less 1: it reads elements from the last to the first */
    uint32_t *joint;   /* by old id of a loop's value: the concat along the last axis, of the same loop, that it is part of; of several
                          the first whose stack is wanted, or else the first */
    uint32_t *by_left, *before; /* by old id: the last product over rows with this left operand; of a product: the one before */
    wg_known known;    /* of products over rows, by their operands: numbers in `products` */
    uint32_t *products;
    uint32_t *place;   /* by old id of a part of a joint: which operand it is of that, the first time; */
    int64_t *begin;    /* and the column where it begins */
    uint32_t *whole_of; /* by old id of a product: 1 + its whole */
    bool *kept;        /* by old id: it is stacked anyway */
    uint32_t *adder;   /* by old id of a sum over rows that a loop adds up (add_rows): not 0; then, new ids: before the loop what it
                          begins from, after it the sum over steps */
    bool *stacked;     /* by old id of a joint: its stack is wanted: some product of it is made after the loop */
    uint32_t *made[2]; /* by old id: the new stack of a loop's value, made or kept here; forward, backward */
    uint32_t *sums;    /* by old id: the sum over all steps and rows of what stands side by side */
    whole *wholes;     /* products of the same */
    int64_t whole_count, whole_room;
    wg_added added; /* products that could come before the loop with those that cannot, whose sums they are then made in */
} mover;

static const wg_instruction *old(const mover *m, uint32_t id) { return &m->p->list[id]; }
static const wg_loop *loop_of(const mover *m, uint32_t id) { return &m->p->loops[old(m, id)->loop - 1]; }
static wg_matmul_attr flags(const wg_instruction *i) { return *(const wg_matmul_attr *)i->attr; }

static bool is_product(const mover *m, uint32_t id) {
    return old(m, id)->op == &wg__op_matmul && old(m, id)->shape->rank == 2 && old(m, id)->loop && old(m, id)->shape->count > 0;
}

/* A sum over rows: nothing of the first axis is left. */
static bool sums_rows(const mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    if (i->op != &wg__op_sum_to || !i->loop)
        return false;
    const wg_shape *from = old(m, i->in[0])->shape;
    return from->rank >= 1 && from->count > 0 && (i->shape->rank < from->rank || (i->shape->dim[0] == 1 && from->dim[0] != 1));
}

/* A product over rows, or a sum of them. */
static bool over_rows(const mover *m, uint32_t id) {
    return (is_product(m, id) && flags(old(m, id)).a && !flags(old(m, id)).b) || sums_rows(m, id);
}

/* ---- stacks ---- */

/* All iterations of a loop's value, (times, ...), as an instruction outside. */
static uint32_t stack_of(mover *m, uint32_t id, bool backward);

/* The outermost joint, of those that a value is in, whose stack is wanted, and the column where it begins there; 0: there is none, or only
 * further out. */
static uint32_t stacked_joint(const mover *m, uint32_t id, int64_t *from) {
    enum { FURTHEST = 8 };
    uint32_t found = 0, joint = m->joint[id], part = id;
    int64_t at = 0;
    for (int k = 0; k < FURTHEST && joint; k++, part = joint, joint = m->joint[joint]) {
        at += m->begin[part];
        if (m->stacked[joint])
            found = joint, *from = at;
    }
    return found;
}

/* The stack of a joint, as one. */
static uint32_t joint_stack(mover *m, uint32_t joint, bool backward) {
    uint32_t *memo = &m->made[backward][joint];
    return *memo ? *memo : (*memo = wg__make_stacked(&m->r, m->r.to[joint], loop_of(m, joint)->times, backward));
}

enum { MOST_ENDS = 32 };

/* The stack of elements that are something else in some of the first and last iterations, as parts along its first axis: those, and
 * slices of the array. How many; 0 if the elements are no such slices. */
static uint32_t ended_parts(mover *m, uint32_t id, bool backward, uint32_t parts[MOST_ENDS + 1]) {
    const wg_shape *s = old(m, id)->shape;
    int64_t times = loop_of(m, id)->times, dim[WG_MAX_RANK + 1] = {1};
    uint32_t end[MOST_ENDS], element = id, n = 0;
    int64_t at[MOST_ENDS], ends = 0;
    for (; old(m, element)->op == &wg__op_ending && ends < MOST_ENDS; element = old(m, element)->in[0], ends++)
        end[ends] = old(m, element)->in[1], at[ends] = ((const wg_ending_attr *)old(m, element)->attr)->at;
    const wg_element_attr *e = old(m, element)->op == &wg__op_element ? old(m, element)->attr : NULL;
    if (!e || (backward ? -e->step : e->step) != 1 || e->late + e->fewer != ends || ends >= times)
        return 0;
    memcpy(dim + 1, s->dim, sizeof *dim * (size_t)s->rank);
    for (int64_t t = 0; t < times; t++) { /* in the order of the stack */
        int64_t now = backward ? times - 1 - t : t, k = 0, rest = times - ends;
        while (k < ends && at[k] != now)
            k++;
        if (k < ends) {
            parts[n++] = wg__make_reshape(&m->r, m->r.to[end[k]], s->rank + 1, dim, 0);
            continue;
        }
        parts[n++] = wg__make_slice(&m->r, m->r.to[old(m, element)->in[0]], 0, e->from + now * e->step, rest, 0);
        t += rest - 1;
    }
    return n;
}

/* Whether the stack of a carry can be put together: what it carries is computed in the loop. */
static bool is_state(const mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    return wg__is_carry(i) && old(m, i->in[1])->loop == i->loop && !wg__is_carry(old(m, i->in[1])) && loop_of(m, id)->times > 1;
}

/* The stack of such a carry, as the two parts that it has: what the first iteration begins from, and all but the last of what is carried. */
static uint32_t carried_parts(mover *m, uint32_t id, bool backward, uint32_t parts[MOST_ENDS + 1]) {
    const wg_instruction *i = old(m, id);
    const int64_t times = loop_of(m, id)->times;
    int64_t dim[WG_MAX_RANK + 1] = {1};
    memcpy(dim + 1, i->shape->dim, sizeof *dim * (size_t)i->shape->rank);
    const uint32_t all = stack_of(m, i->in[1], backward), first = wg__make_reshape(&m->r, m->r.to[i->in[0]], i->shape->rank + 1, dim, 0);
    parts[backward ? 1 : 0] = first;
    parts[backward ? 0 : 1] = wg__make_slice(&m->r, all, 0, backward ? 1 : 0, times - 1, 0);
    return 2;
}

/* The parts that a stack is put together of; how many, or 0: it is made as one. */
static uint32_t parts_of_stack(mover *m, uint32_t id, bool backward, uint32_t parts[MOST_ENDS + 1]) {
    return old(m, id)->op == &wg__op_ending ? ended_parts(m, id, backward, parts) : is_state(m, id) ? carried_parts(m, id, backward, parts) : 0;
}

static uint32_t stack_of(mover *m, uint32_t id, bool backward) {
    uint32_t *memo = &m->made[backward][id];
    int64_t times = loop_of(m, id)->times;
    if (*memo)
        return *memo;
    const wg_instruction *now = &m->r.list[m->r.to[id]]; /* a product of elements that came before the loop is one now */
    if (now->op == &wg__op_element) {
        const wg_element_attr *e = now->attr;
        int64_t step = backward ? -e->step : e->step;
        if (times == 1 || step == 1)
            return *memo = wg__make_slice(&m->r, now->in[0], 0, backward ? e->from - (times - 1) : e->from, times, 0);
    }
    uint32_t parts[MOST_ENDS + 1], n = parts_of_stack(m, id, backward, parts);
    if (n)
        return *memo = wg__make_concat(&m->r, n, parts, 0, 0);
    int64_t from; /* a part of what stands side by side is part of the stack of that */
    const uint32_t joint = stacked_joint(m, id, &from);
    if (joint) {
        const int last = old(m, id)->shape->rank; /* of the stack */
        return *memo = wg__make_slice(&m->r, joint_stack(m, joint, backward), last, from, old(m, id)->shape->dim[last - 1], 0);
    }
    return *memo = wg__make_stacked(&m->r, m->r.to[id], times, backward);
}

/* The stack as a matrix, (times * rows, ...). */
static uint32_t matrix_of(mover *m, uint32_t id, bool backward) {
    const wg_shape *s = old(m, id)->shape;
    if (!old(m, id)->loop)
        return m->r.to[id]; /* of the one iteration there is */
    uint32_t all = stack_of(m, id, backward);
    return wg__make_reshape(&m->r, all, 2, (const int64_t[]){loop_of(m, id)->times * s->dim[0], s->dim[1]}, 0);
}

/* Which way a loop's values are stacked: as some already are, so that none is stacked both ways; else as the elements that it
 * reads lie. */
static bool is_backward(const mover *m, uint32_t id) { return m->backward[old(m, id)->loop - 1]; }

/* ---- before the loop ---- */

/* Rows of a step, and bytes of matrices, from and up to which a product of a step's input is quicker in the step. */
enum { MANY_ROWS = 32, HELD_BYTES = 1 << 19 };

/* Whether a product of the loop needs nothing of the loop: its rows are elements of an outside array, in order. */
static bool comes_before(const mover *m, uint32_t id) {
    if (!is_product(m, id) || flags(old(m, id)).a || old(m, old(m, id)->in[1])->loop)
        return false;
    const wg_instruction *a = old(m, old(m, id)->in[0]);
    if (a->op != &wg__op_element || old(m, a->in[0])->loop)
        return false;
    int64_t step = ((const wg_element_attr *)a->attr)->step;
    return loop_of(m, id)->times == 1 || step == 1 || step == -1;
}

/* The products of all iterations, (times, rows, columns). */
static uint32_t before_loop(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id), *a = old(m, i->in[0]);
    const wg_element_attr *e = a->attr;
    int64_t times = loop_of(m, id)->times, low = e->step < 0 ? e->from - (times - 1) : e->from;
    const int64_t flat[2] = {times * a->shape->dim[0], a->shape->dim[1]}, full[3] = {times, i->shape->dim[0], i->shape->dim[1]};
    uint32_t x = wg__make_slice(&m->r, m->r.to[a->in[0]], 0, low, times, 0);
    x = wg__make_reshape(&m->r, x, 2, flat, 0);
    x = wg__make_matmul(&m->r, x, m->r.to[i->in[1]], false, flags(i).b, 0, i->origin);
    return wg__make_reshape(&m->r, x, 3, full, 0);
}

/* Whether products of elements had better be made in the sums of the loop's own products that they are added to (pack.c): the loop has
 * the rows for it, and a cache next to a thread holds all matrices that it multiplies by. */
static bool are_made_within(const mover *m, const wg_loop *loop) {
    double bytes = 0;
    for (uint32_t id = loop->from; id < loop->to; id++)
        if (is_product(m, id) && !flags(old(m, id)).a)
            bytes += old(m, id)->shape->dim[0] >= MANY_ROWS ? (double)wg__instruction_bytes(old(m, old(m, id)->in[1])) : INFINITY;
    return bytes <= HELD_BYTES;
}

static void enter_loop(mover *m, const wg_loop *loop) {
    const bool within = are_made_within(m, loop);
    for (uint32_t id = loop->from; id < loop->to && !m->r.failed; id++)
        if (comes_before(m, id) && !(within && m->added.partner[id]))
            m->r.to[id] = before_loop(m, id); /* its element takes its place when the loop is made */
}

static uint32_t element_of(mover *m, uint32_t id) {
    const wg_element_attr *e = old(m, old(m, id)->in[0])->attr;
    int64_t times = loop_of(m, id)->times;
    return wg__make_element(&m->r, m->r.to[id], e->step < 0 ? times - 1 : 0, e->step < 0 ? -1 : 1, old(m, id)->loop);
}

/* ---- after the loop ---- */

/* stacked(A W) = stacked(A) W */
static uint32_t product_after(mover *m, uint32_t id, bool backward) {
    const wg_instruction *i = old(m, id);
    uint32_t a = matrix_of(m, i->in[0], backward);
    uint32_t y = wg__make_matmul(&m->r, a, m->r.to[i->in[1]], false, flags(i).b, 0, i->origin);
    return wg__make_reshape(&m->r, y, 3, (const int64_t[]){loop_of(m, id)->times, i->shape->dim[0], i->shape->dim[1]}, 0);
}

static bool waits_for_nothing(const mover *m, uint32_t id) {
    return is_product(m, id) && m->reads[id] == 1 && !flags(old(m, id)).a && !old(m, old(m, id)->in[1])->loop &&
           old(m, old(m, id)->in[0])->loop && !comes_before(m, id);
}

/* A stack in pieces is not put together for a product, if it has so many bytes. */
enum { WORTH_BYTES = 1 << 20 };

/* A^T B of all steps and rows: a is the matrix A (new id), B the stack of `right`. */
static uint32_t product_of_rows(mover *m, uint32_t a, uint32_t right, bool backward, uint32_t origin) {
    const wg_instruction *b = old(m, right);
    uint32_t piece[MOST_ENDS + 1], n = 0, in[1 + WG_MOST_PRODUCTS] = {a};
    if (m->r.failed)
        return 0;
    if (b->loop && !m->made[backward][right] && (double)loop_of(m, right)->times * (double)wg__instruction_bytes(b) >= WORTH_BYTES)
        n = parts_of_stack(m, right, backward, piece);
    if (n < 2 || n > WG_MOST_PRODUCTS || m->r.failed)
        return wg__make_matmul(&m->r, a, matrix_of(m, right, backward), true, false, 0, origin);
    for (uint32_t k = 0; k < n && !m->r.failed; k++) {
        const wg_shape *s = m->r.list[piece[k]].shape;
        in[1 + k] = wg__make_reshape(&m->r, piece[k], 2, (const int64_t[]){s->dim[0] * s->dim[1], s->dim[2]}, 0);
    }
    return m->r.failed ? 0 : wg__make(&m->r, &wg__op_matmul_pieces, NULL, 1 + n, in, 0, origin);
}

static uint64_t hash_of(uint32_t left, uint32_t right) { return wg__mix(wg__mix(0, left), right); }

/* The product of a joint's part with `right` over rows; 0 if none is wanted. */
static uint32_t wanted(const mover *m, uint32_t joint, uint32_t part, uint32_t right) {
    uint64_t hash = hash_of(part, right), probe = 0;
    if (m->joint[part] != joint)
        return 0;
    for (int64_t k; (k = wg__known_next(&m->known, hash, &probe)) >= 0;)
        if (old(m, m->products[k])->in[0] == part && old(m, m->products[k])->in[1] == right)
            return m->products[k];
    return 0;
}

/* Takes operand k of a joint into a whole, if its product with the whole's right operand is wanted. */
static bool take_neighbour(mover *m, uint32_t joint, uint32_t k, whole *w) {
    uint32_t part = wg__reads_const(old(m, joint))[k], product = wanted(m, joint, part, w->right);
    if (!product)
        return false;
    w->count += old(m, part)->shape->dim[1];
    if (m->place[part] == k) /* not again, further on */
        m->whole_of[product] = (uint32_t)m->whole_count + 1;
    return true;
}

/* The whole of a product: the columns of the joint, around those of its left operand, whose products with the same right
 * operand are wanted. */
static whole whole_around(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t joint = m->joint[i->in[0]], low = m->place[i->in[0]], high = low + 1;
    whole w = {.right = i->in[1], .from = m->begin[i->in[0]]};
    while (low > 0 && take_neighbour(m, joint, low - 1, &w))
        low--;
    w.from -= w.count;
    w.count += i->shape->dim[0];
    while (high < old(m, joint)->n && take_neighbour(m, joint, high, &w))
        high++;
    m->whole_of[id] = (uint32_t)m->whole_count + 1;
    return w;
}

/* A^T B of all steps and rows, where A stands side by side with others: with its neighbours', their product is one, of which
 * this is some rows. */
static uint32_t part_of_product(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t joint = m->joint[i->in[0]];
    if (!m->whole_of[id]) {
        bool backward = is_backward(m, id);
        if (!wg__room(m->p->memory, (void **)&m->wholes, m->whole_count, &m->whole_room, sizeof *m->wholes))
            return !(m->r.failed = true);
        whole w = whole_around(m, id);
        bool alone = w.count == i->shape->dim[0] && w.count < old(m, joint)->shape->dim[1];
        uint32_t a = matrix_of(m, alone ? i->in[0] : joint, backward);
        if (!alone)
            a = wg__make_slice(&m->r, a, 1, w.from, w.count, 0);
        w.made = product_of_rows(m, a, w.right, backward, i->origin);
        m->wholes[m->whole_count++] = w;
    }
    const whole *w = &m->wholes[m->whole_of[id] - 1];
    return wg__make_slice(&m->r, w->made, 0, m->begin[i->in[0]] - w->from, i->shape->dim[0], 0);
}

/* The same of a sum over rows, into one axis. `from`: the column of the joint where what is summed begins. */
static uint32_t part_of_sum(mover *m, uint32_t id, uint32_t joint, int64_t from) {
    const wg_instruction *i = old(m, id);
    int64_t columns = old(m, joint)->shape->dim[1];
    if (!m->sums[joint]) {
        uint32_t all = matrix_of(m, joint, is_backward(m, id));
        wg_dims to = wg__dims(1, &columns);
        m->sums[joint] = wg__make(&m->r, &wg__op_sum_to, &to, 1, &all, 0, i->origin);
    }
    return wg__make_slice(&m->r, m->sums[joint], 0, from, i->shape->dim[0], 0);
}

/* The sum over rows of what the loop has added up over the steps. */
static uint32_t sum_of_rows(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t all = wg__make(&m->r, &wg__op_last, NULL, 1, &m->adder[id], 0, i->origin);
    wg_dims to = wg__dims(i->shape->rank, i->shape->dim);
    return wg__make(&m->r, &wg__op_sum_to, &to, 1, &all, 0, i->origin);
}

/* Of a product over rows one of whose operands is the same in all iterations: the sum over them is that of the other. */
static uint32_t product_of_sum(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t in[2];
    for (int k = 0; k < 2; k++) {
        const wg_shape *s = old(m, i->in[k])->shape;
        wg_dims to = wg__dims(s->rank, s->dim);
        in[k] = old(m, i->in[k])->loop ? stack_of(m, i->in[k], is_backward(m, id)) : m->r.to[i->in[k]];
        if (old(m, i->in[k])->loop)
            in[k] = wg__make(&m->r, &wg__op_sum_to, &to, 1, &in[k], 0, i->origin);
    }
    return wg__make_matmul(&m->r, in[0], in[1], true, false, 0, i->origin);
}

/* What is the same in so many iterations, as often. */
static uint32_t multiple(mover *m, uint32_t id, int64_t times) {
    const wg_instruction *i = old(m, id), number = {.op = &wg__op_constant, .shape = i->shape, .dtype = i->dtype, .value = (double)times};
    uint32_t in[2] = {m->r.to[id], wg__rewrite_add(&m->r, &number)};
    return wg__make(&m->r, &wg__op_mul, NULL, 2, in, 0, i->origin);
}

/* The sum over all iterations and rows. */
static uint32_t sum_after(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    bool backward = is_backward(m, id);
    if (i->op == &wg__op_matmul && loop_of(m, id)->times > 1 && (!old(m, i->in[0])->loop || !old(m, i->in[1])->loop))
        return product_of_sum(m, id);
    if (m->adder[id])
        return sum_of_rows(m, id);
    if (m->joint[i->in[0]] && i->op == &wg__op_matmul)
        return part_of_product(m, id);
    const wg_shape *x = old(m, i->in[0])->shape;
    int64_t from;
    const uint32_t joint = stacked_joint(m, i->in[0], &from);
    if (joint && i->shape->rank == 1 && x->rank == 2 && i->shape->dim[0] == x->dim[1])
        return part_of_sum(m, id, joint, from);
    if (i->op == &wg__op_sum_to) {
        wg_dims to = wg__dims(i->shape->rank, i->shape->dim);
        uint32_t all = stack_of(m, i->in[0], backward);
        if (i->shape->rank == x->rank) { /* an axis of size 1 is left: over the steps too */
            int64_t dim[WG_MAX_RANK + 1] = {loop_of(m, id)->times * x->dim[0]};
            memcpy(dim + 1, x->dim + 1, sizeof *dim * (size_t)(i->shape->rank - 1));
            all = wg__make_reshape(&m->r, all, i->shape->rank, dim, 0);
        }
        return wg__make(&m->r, &wg__op_sum_to, &to, 1, &all, 0, i->origin);
    }
    return product_of_rows(m, matrix_of(m, i->in[0], backward), i->in[1], backward, i->origin);
}

/* Whether the operands' stacks can be made: they are of the loop, or it has one iteration, or one of a product's is the same in all. */
static bool stackable(const mover *m, uint32_t part) {
    const wg_instruction *i = old(m, part);
    bool once = i->op == &wg__op_matmul && loop_of(m, part)->times == 1;
    uint32_t outside = 0;
    for (uint32_t k = 0; k < i->n; k++) {
        if (old(m, i->in[k])->shape->rank + 1 > WG_MAX_RANK || (wg__is_carry(old(m, i->in[k])) && !is_state(m, i->in[k])))
            return false;
        outside += !old(m, i->in[k])->loop && !once;
    }
    return outside == 0 || (outside == 1 && i->op == &wg__op_matmul);
}

/* Sums over the rows of what the iteration before has made: of no stack, but the loop may add them up itself. */
static bool sums_carry(const mover *m, uint32_t id) { return sums_rows(m, id) && wg__is_carry(old(m, old(m, id)->in[0])) && loop_of(m, id)->times > 1; }

enum { MOST_TERMS = 32 }; /* fewer than so many */

/* What the last iteration of a value is the sum of, as old ids: in every iteration so many sums or products over rows, which nothing else
 * reads, or values that are the same in all; and what is added to them from outside (0: nothing). */
typedef struct sum_of_steps {
    uint32_t term[MOST_TERMS], start;
    int terms;
} sum_of_steps;

/* Takes what is added up to `id`, which is a term itself or more, by at most so many additions one after the other; false if it is anything
 * else. */
static bool take_terms(const mover *m, uint32_t root, uint32_t id, int additions, sum_of_steps *sum) {
    const wg_instruction *i = old(m, id);
    const bool once = loop_of(m, root)->times == 1, own = i->loop == old(m, root)->loop;
    if (own && over_rows(m, id) && m->reads[id] == 1 && (once || id != root)) {
        sum->term[sum->terms++] = id;
        return (stackable(m, id) || sums_carry(m, id)) && sum->terms < MOST_TERMS;
    }
    if (!i->loop && !once) {
        sum->term[sum->terms++] = id;
        return sum->terms < MOST_TERMS;
    }
    if (own && i->op == &wg__op_add && (id == root || m->reads[id] == 1))
        return additions > 0 && take_terms(m, root, i->in[0], additions - 1, sum) && take_terms(m, root, i->in[1], additions - 1, sum);
    bool carried = own && wg__is_carry(i) && i->in[1] == root && m->reads[id] == 1 && m->reads[root] == 2;
    if (sum->start || (!carried && (i->loop || !once)))
        return false;
    sum->start = carried ? i->in[0] : id;
    return true;
}

static bool is_sum_of_steps(const mover *m, uint32_t id, sum_of_steps *sum) {
    const bool once = loop_of(m, id)->times == 1;
    *sum = (sum_of_steps){0};
    return (m->reads[id] == 1 || !once) && take_terms(m, id, id, MOST_TERMS, sum) && sum->terms && (sum->start || once);
}

/* The constant -0: x + -0 is x, whatever x is. */
static bool adds_nothing(const wg_instruction *i) {
    return i->op == &wg__op_constant && i->value == 0 && signbit(i->value);
}

/* ---- sums that a loop adds up itself: what nothing else wants stacked is not, but added to the same rows of the step before; and what is
 * stacked anyway is, where the stack, or that of what stands side by side with it, is so large that reading it again costs more. Not of very
 * many steps in f32, in which the sums are made: sum_to makes them in f64 ---- */

enum { MOST_SUMMED = 256 };

static bool is_joint_kept(const mover *m, uint32_t joint) { return joint && (m->stacked[joint] || m->kept[joint]); }

static bool costs_to_read_again(const mover *m, uint32_t id) {
    const wg_instruction *x = old(m, id), *all = is_joint_kept(m, m->joint[id]) ? old(m, m->joint[id]) : x;
    const int64_t times = loop_of(m, id)->times;
    return (double)times * (double)wg__instruction_bytes(all) >= (double)m->p->far_bytes && (x->dtype == WG_F64 || times <= MOST_SUMMED) &&
           wg__may_fold(x, x->shape->dim[0]);
}

static void find_kept(mover *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *i = old(m, id);
        if (i->op == &wg__op_stacked)
            m->kept[waits_for_nothing(m, i->in[0]) ? old(m, i->in[0])->in[0] : i->in[0]] = true;
        for (int k = 0; k < 2 && over_rows(m, id) && i->op == &wg__op_matmul; k++)
            m->kept[i->in[k]] = m->kept[is_state(m, i->in[k]) ? old(m, i->in[k])->in[1] : i->in[k]] = true;
    }
}

static void find_adders(mover *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        uint32_t v = old(m, id)->in[0];
        sum_of_steps sum;
        if (old(m, id)->op != &wg__op_last || loop_of(m, v)->times == 1 || !is_sum_of_steps(m, v, &sum))
            continue;
        for (int k = 0; k < sum.terms; k++) {
            uint32_t term = sum.term[k], x = old(m, term)->in[0];
            if (!sums_rows(m, term) || (old(m, x)->op->kind != WG_POINTWISE && !sums_carry(m, term)))
                continue;
            bool kept = m->kept[x] || is_joint_kept(m, m->joint[x]);
            if (!kept || !stackable(m, term) || costs_to_read_again(m, x))
                m->adder[term] = term;
        }
    }
}

/* What sums begin from, one for those of one shape that stand next to each other. */
static void begin_sums(mover *m, const wg_loop *loop) {
    uint32_t made = 0;
    for (uint32_t id = loop->from; id < loop->to && !m->r.failed; id++) {
        if (!m->adder[id])
            continue;
        const wg_instruction *x = old(m, old(m, id)->in[0]);
        const wg_instruction none = {.op = &wg__op_constant, .shape = x->shape, .dtype = x->dtype, .value = -0.0};
        if (!made || m->r.list[made].shape != x->shape || m->r.list[made].dtype != x->dtype)
            made = wg__rewrite_add(&m->r, &none);
        m->adder[id] = made;
        m->r.failed = !made;
    }
}

/* At the end of a loop: what it adds up. */
static void leave_loop(mover *m, const wg_loop *loop, uint32_t number) {
    for (uint32_t id = loop->from; id < loop->to && !m->r.failed; id++) {
        if (!m->adder[id])
            continue;
        const wg_instruction *x = &m->r.list[m->r.to[old(m, id)->in[0]]];
        wg_instruction carry = {.op = &wg__op_carry, .shape = x->shape, .n = 2, .dtype = x->dtype, .loop = number,
                                .origin = old(m, id)->origin, .in = {m->adder[id], 0}};
        uint32_t made = wg__rewrite_add(&m->r, &carry);
        wg_instruction sum = {.op = &wg__op_add_rows, .shape = carry.shape, .n = 2, .dtype = carry.dtype, .loop = number,
                              .origin = carry.origin, .in = {made, m->r.to[old(m, id)->in[0]]}};
        m->adder[id] = made ? wg__rewrite_add(&m->r, &sum) : 0;
        m->r.failed = m->r.failed || !m->adder[id];
        if (!m->r.failed)
            m->r.list[made].in[1] = m->adder[id];
    }
}

static uint32_t edge_of(mover *m, uint32_t id) {
    const wg_instruction *i = old(m, id);
    uint32_t v = i->in[0];
    sum_of_steps sum;
    if (i->op == &wg__op_stacked) {
        bool backward = ((const wg_stacked_attr *)i->attr)->backward;
        if (waits_for_nothing(m, v))
            return product_after(m, v, backward);
        return stack_of(m, v, backward);
    }
    if (loop_of(m, v)->times == 1 && waits_for_nothing(m, v))
        return wg__make_reshape(&m->r, product_after(m, v, false), 2, i->shape->dim, 0);
    if (!is_sum_of_steps(m, v, &sum))
        return wg__rewrite_keep(&m->r, id);
    uint32_t all = sum.start && !adds_nothing(old(m, sum.start)) ? m->r.to[sum.start] : 0;
    for (int k = 0; k < sum.terms && !m->r.failed; k++) {
        uint32_t term = old(m, sum.term[k])->loop ? sum_after(m, sum.term[k]) : multiple(m, sum.term[k], loop_of(m, v)->times);
        all = all && term ? wg__make_add(&m->r, all, term, 0, i->origin) : term;
    }
    return all;
}

/* ---- the pass ---- */

/* The stacks of joints that are wanted by products of them that are made after the loop. */
static void find_stacked(mover *m) {
    for (uint32_t id = 1; id < m->p->count; id++)
        if (old(m, id)->op == &wg__op_stacked && waits_for_nothing(m, old(m, id)->in[0]))
            m->stacked[old(m, old(m, id)->in[0])->in[0]] = true;
}

static void note_joint(mover *m, uint32_t id) {
    const wg_instruction *c = old(m, id);
    int64_t at = 0;
    for (uint32_t k = 0; k < c->n; k++) {
        uint32_t part = wg__reads_const(c)[k];
        if (old(m, part)->loop == c->loop && (!m->joint[part] || (m->stacked[id] && !m->stacked[m->joint[part]])))
            m->joint[part] = id, m->place[part] = k, m->begin[part] = at;
        at += old(m, part)->shape->dim[c->shape->rank - 1];
    }
}

/* And those that products over rows of all their parts want. */
static void find_whole(mover *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *c = old(m, id);
        bool joint = c->op == &wg__op_concat && c->loop && m->joint[wg__reads_const(c)[0]] == id;
        for (uint32_t first = joint ? m->by_left[wg__reads_const(c)[0]] : 0; first && !m->stacked[id]; first = m->before[first]) {
            bool all = true;
            for (uint32_t k = 1; k < c->n && all; k++)
                all = wanted(m, id, wg__reads_const(c)[k], old(m, first)->in[1]);
            m->stacked[id] = all;
        }
    }
}

static void find_edges(mover *m) {
    for (uint32_t id = 1; id < m->p->count; id++) {
        const wg_instruction *i = old(m, id);
        if (i->op == &wg__op_element && ((const wg_element_attr *)i->attr)->step < 0)
            m->backward[i->loop - 1] = true;
        if (i->op == &wg__op_stacked) /* after the loop's own instructions */
            m->backward[old(m, i->in[0])->loop - 1] = ((const wg_stacked_attr *)i->attr)->backward;
        if (wg__is_side_by_side(i))
            note_joint(m, id);
        if (over_rows(m, id) && i->op == &wg__op_matmul) {
            m->before[id] = m->by_left[i->in[0]];
            m->by_left[i->in[0]] = id;
            m->products[m->known.count] = id;
            m->r.failed = m->r.failed || !wg__known_enter(&m->known, hash_of(i->in[0], i->in[1]));
        }
    }
}

/* Whether `pack` can do with a product of the loop by an outside matrix as it is: no view is its left operand, or that of which it is an
 * element. */
static bool is_plain(const mover *m, uint32_t id) {
    if (!is_product(m, id) || flags(old(m, id)).a || old(m, old(m, id)->in[1])->loop)
        return false;
    uint32_t a = old(m, id)->in[0];
    a = old(m, a)->op == &wg__op_element ? old(m, a)->in[0] : a;
    return !old(m, a)->op->view && old(m, a)->shape->count > 0;
}

/* None that may be made in parts: those of all steps are so much quicker then. */
static bool find_added(mover *m) {
    const bool parts = m->p->parts && wg__amx_runs();
    uint8_t *mark = wg__take0(m->p->memory, (size_t)m->p->count);
    for (uint32_t id = 1; mark && id < m->p->count; id++)
        if (is_plain(m, id) && !(parts && old(m, id)->dtype == WG_F32))
            mark[id] = comes_before(m, id) ? WG_ADDED_ONE : WG_ADDED_OTHER;
    const bool good = mark && wg__added_find(&m->added, m->p, m->reads, mark);
    wg__give(m->p->memory, mark);
    return good;
}

wg_status wg__pass_time(wg_program *p, wg_error *error) {
    size_t n = (size_t)p->count;
    mover m = {.r.program = p, .p = p, .known.memory = p->memory};
    m.reads = wg__count_reads(p);
    m.joint = wg__take0(p->memory, wg__size(n, 10 * sizeof *m.joint, 0));
    m.begin = wg__take(p->memory, wg__size(n, sizeof *m.begin, 0));
    m.stacked = wg__take0(p->memory, wg__size(n, 2, 0));
    m.backward = wg__take0(p->memory, (size_t)p->loop_count + 1);
    bool good = m.reads && m.joint && m.begin && m.stacked && m.backward && wg__rewrite_begin(&m.r, p);
    if (good) {
        m.kept = m.stacked + n;
        m.made[0] = m.joint + n, m.made[1] = m.made[0] + n, m.sums = m.made[1] + n;
        m.by_left = m.sums + n, m.before = m.by_left + n, m.adder = m.before + n, m.products = m.adder + n, m.place = m.products + n, m.whole_of = m.place + n;
        find_stacked(&m);
        find_edges(&m);
        find_whole(&m);
        find_kept(&m);
        find_adders(&m);
        good = find_added(&m);
    }
    for (uint32_t id = 1; good && !m.r.failed && id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        const wg_loop *loop = i->loop ? &p->loops[i->loop - 1] : NULL;
        if (loop && loop->from == id) {
            enter_loop(&m, loop);
            begin_sums(&m, loop);
        }
        if (m.r.to[id])
            m.r.to[id] = element_of(&m, id);
        else if (i->op == &wg__op_stacked || i->op == &wg__op_last)
            good = (m.r.to[id] = edge_of(&m, id));
        else
            good = wg__rewrite_keep(&m.r, id);
        if (good && loop && loop->to == id + 1)
            leave_loop(&m, loop, i->loop);
    }
    good = good && !m.r.failed;
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good);
    wg__added_free(&m.added, p);
    wg__give(p->memory, m.reads);
    wg__give(p->memory, m.joint);
    wg__give(p->memory, m.backward);
    wg__give(p->memory, m.wholes);
    wg__give(p->memory, m.begin);
    wg__known_free(&m.known);
    wg__give(p->memory, m.stacked);
    return status == WG_OK ? wg__prune(p, error) : status;
}
