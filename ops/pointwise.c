/* pointwise.c: the records of the pointwise ops, read from their rows; the builder that broadcasts; the kernel that
 * walks arrays of any strides in dense blocks. */
#include "ops.h"
#include "pairs.h"

#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include "wengert/notation.h"

/* ---- partial derivatives too long for a row ---- */

/* x to the power of a number that is known. */
static wg_var power(wg_var x, double c) {
    return c == 1 ? x : c == 2 ? square(x) : c == -1 ? inv(x) : pow(x, c);
}

static bool is_constant(wg_var x) { return wg__of(x)->op == &wg__op_constant; }

/* b a^(b-1), and 0 where a = b = 0. */
static wg_var pow_by_base(wg_var a, wg_var b) {
    if (!is_constant(b))
        return mul(b, pow(add(a, mul(equal(a, 0), equal(b, 0))), sub(b, 1)));
    double c = wg__of(b)->value;
    return c == 0 || c == 1 ? wg_c(c) : mul(c, power(a, c - 1));
}

/* a^b ln a, and 0 where a = 0 and b >= 0. */
static wg_var pow_by_exponent(wg_var a, wg_var b, wg_var y) {
    if (is_constant(a) && wg__of(a)->value > 0)
        return mul(y, log(wg__of(a)->value));
    return mul(y, log(add(a, greater(equal(a, 0), less(b, 0)))));
}

/* 1 where low <= a <= high, y being a so clamped. */
static wg_var inside(wg_var a, wg_var low, wg_var high, wg_var y) {
    if (is_constant(low) && is_constant(high) && wg__of(low)->value <= wg__of(high)->value)
        return equal(a, y);
    return equal(max(a, low), min(a, high));
}

/* 1 where a is preferred to b by max, a half where they are equal. */
static wg_var preference(wg_var a, wg_var b) { return add(greater(a, b), mul(0.5, equal(a, b))); }

/* x / h^2 without overflow or underflow of the square. */
static wg_var over_square(wg_var x, wg_var h) { return div(div(x, h), h); }

/* s + y (1 - s), s = sigmoid(x), y = x s. */
static wg_var silu_slope(wg_var x, wg_var y) {
    wg_var s = sigmoid(x);
    return add(s, mul(y, sub(1, s)));
}

/* where selects derivatives as it selects values. */
static void where_vjp(const wg_rule *r, wg_var *dx) {
    if (r->need[1])
        dx[1] = where(r->in[0], r->g, 0);
    if (r->need[2])
        dx[2] = where(r->in[0], 0, r->g);
}

static wg_var where_jvp(const wg_rule *r, const wg_var *dx) {
    if (!dx[1].tape && !dx[2].tape)
        return (wg_var){0};
    return where(r->in[0], dx[1].tape ? dx[1] : wg_c(0), dx[2].tape ? dx[2] : wg_c(0));
}

/* ---- the records ---- */

#define PARTIAL(i, expression)                                                                     \
    if (need[i])                                                                                   \
        d[i] = WG_VAR(expression);
#define PARTIALS(op)                                                                               \
    static void op##_partial(const wg_var *in, wg_var y, const bool *need, wg_var *d)
#define RULE1(op, dx)                                                                              \
    PARTIALS(op) {                                                                                 \
        wg_var x = in[0];                                                                          \
        (void)x, (void)y;                                                                          \
        PARTIAL(0, dx)                                                                             \
    }
#define RULE2(op, da, db)                                                                          \
    PARTIALS(op) {                                                                                 \
        wg_var a = in[0], b = in[1];                                                               \
        (void)a, (void)b, (void)y;                                                                 \
        PARTIAL(0, da)                                                                             \
        PARTIAL(1, db)                                                                             \
    }
#define RULE3(op, da, db, dc)                                                                      \
    PARTIALS(op) {                                                                                 \
        wg_var a = in[0], b = in[1], c = in[2];                                                    \
        (void)a, (void)b, (void)c, (void)y;                                                        \
        PARTIAL(0, da)                                                                             \
        PARTIAL(1, db)                                                                             \
        PARTIAL(2, dc)                                                                             \
    }

/* What the kinds of rows.def mean for a record: its rule, its kernel for i32, its traits. */
#define RULE_F(operands, op, ...) RULE##operands(op, __VA_ARGS__)
#define RULE_A RULE_F
#define RULE_I RULE_F
#define RULE_Z(operands, op, ...)
#define RULE_S(operands, op, ...)
#define DERIVED_F(op) .partial = op##_partial
#define DERIVED_A DERIVED_F
#define DERIVED_I DERIVED_F
#define DERIVED_Z(op) .partial = NULL
#define DERIVED_S(op) .vjp = op##_vjp, .jvp = op##_jvp
#define INTEGER_F(op)
#define INTEGER_A(op)
#define INTEGER_I(op) BEST(op, int32_t, 2)
#define INTEGER_Z INTEGER_I
#define INTEGER_S INTEGER_I
#define MAP_F(op) op##_float, op##_double
#define MAP_A MAP_F
#define MAP_I(op) op##_float, op##_double, op##_int32_t
#define MAP_Z MAP_I
#define MAP_S MAP_I
enum {
    TRAITS_F = WG_TAKES_STRIDES,
    TRAITS_A = TRAITS_F,
    TRAITS_I = TRAITS_F | WG_TAKES_I32,
    TRAITS_Z = TRAITS_I | WG_IS_ZERO,
    TRAITS_S = TRAITS_I
};

/* The kernel of the best instruction set there is. */
#define BEST(op, T, type)                                                                          \
    static void op##_##T(int64_t n, const void *const *in, void *out) {                            \
        wg__kernels_best()[WG__ROW_##op].map[type](n, in, out);                                    \
    }
#define RECORD(operands, op, sort, low, high)                                                      \
    BEST(op, float, 0)                                                                             \
    BEST(op, double, 1)                                                                            \
    INTEGER_##sort(op)                                                                             \
    const wg_op wg__op_##op = {.name = #op,                                                        \
                               .arity = operands,                                                  \
                               .kind = WG_POINTWISE,                                               \
                               .traits = TRAITS_##sort,                                            \
                               .run = wg__pointwise_run,                                           \
                               .map = {MAP_##sort(op)},                                            \
                               DERIVED_##sort(op),                                                 \
                               .range = {low, high}};
/* The usual operands, floats of one shape and type, are recorded at once: this is what recording costs. All others go
 * through any_pointwise; and so does a node that needs room or a constant first, so that these builders call nothing else. */
static wg_var any_pointwise(const wg_op *op, int n, const wg_var *in);
static __attribute__((noinline)) wg_var any1(const wg_op *op, wg_var x) { return any_pointwise(op, 1, &x); }

/* Floats of one type, one of which broadcasts to the other's shape: a bias. */
static __attribute__((noinline)) wg_var any2(const wg_op *op, wg_var a, wg_var b) {
    if (a.tape == b.tape && wg__recordable(a) && wg__recordable(b) && wg__of(a)->dtype == wg__of(b)->dtype && wg__of(a)->dtype != WG_I32) {
        const wg_shape *first = wg__of(a)->shape, *second = wg__of(b)->shape;
        bool right = wg__broadcasts(second, first);
        if (right || wg__broadcasts(first, second)) {
            const wg_shape *shape = right ? first : second;
            wg_var x = wg__broadcast_to(a, shape), y = wg__broadcast_to(b, shape);
            return wg__recordable(x) && wg__recordable(y) ? wg__record_small(a.tape, op, (wg_dtype)wg__of(a)->dtype, shape, 2, x, y) : wg__var(a.tape, 0);
        }
    }
    return any_pointwise(op, 2, (const wg_var[]){a, b});
}

static inline wg_var build1(const wg_op *op, wg_var x) {
    if (wg__recordable(x) && wg__has_room(x.tape)) {
        const wg_node *node = wg__of(x);
        if (node->dtype != WG_I32)
            return wg__fill(x.tape, op, (wg_dtype)node->dtype, node->shape, 1, (uint32_t)x.as.id, 0);
    }
    return any1(op, x);
}

/* x with a bare constant on its right or (other way round) its left. */
static wg_var with_number(const wg_op *op, wg_var x, wg_var c, bool other_way) {
    if (wg__recordable(x) && wg__has_room(x.tape)) {
        const wg_node *node = wg__of(x);
        uint32_t id = wg__constant_known(x.tape, (wg_dtype)node->dtype, node->shape, c.as.value), to = (uint32_t)x.as.id;
        if (node->dtype != WG_I32 && id)
            return wg__fill(x.tape, op, (wg_dtype)node->dtype, node->shape, 2, other_way ? id : to, other_way ? to : id);
    }
    return other_way ? any2(op, c, x) : any2(op, x, c);
}

static inline wg_var build2(const wg_op *op, wg_var a, wg_var b) {
    if (wg__is_bare(b))
        return with_number(op, a, b, false);
    if (wg__is_bare(a))
        return with_number(op, b, a, true);
    if (a.tape == b.tape && wg__recordable(a) && wg__is_id(a.tape, b.as.id) && wg__has_room(a.tape)) {
        const wg_node *first = wg__of(a), *second = wg__of(b);
        if (first->dtype != WG_I32 && first->dtype == second->dtype && first->shape == second->shape)
            return wg__fill(a.tape, op, (wg_dtype)first->dtype, first->shape, 2, (uint32_t)a.as.id, (uint32_t)b.as.id);
    }
    return any2(op, a, b);
}

#define BUILD1(op)                                                                                 \
    wg_var wg_##op(wg_var x) { return build1(&wg__op_##op, x); }
#define BUILD2(op)                                                                                 \
    wg_var wg_##op(wg_var a, wg_var b) {                                                           \
        return build2(&wg__op_##op, a, b);                                                         \
    }
#define BUILD3(op)                                                                                 \
    wg_var wg_##op(wg_var a, wg_var b, wg_var c) {                                                 \
        return wg__pointwise(&wg__op_##op, 3, (const wg_var[]){a, b, c});                          \
    }
#define MAP1(op, kind, value, dx, low, high)                                                       \
    RULE_##kind(1, op, dx) RECORD(1, op, kind, low, high) BUILD1(op)
#define MAP2(op, kind, value, da, db, low, high)                                                   \
    RULE_##kind(2, op, da, db) RECORD(2, op, kind, low, high) BUILD2(op)
#define MAP3(op, kind, value, da, db, dc, low, high)                                               \
    RULE_##kind(3, op, da, db, dc) RECORD(3, op, kind, low, high) BUILD3(op)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"

/* ---- kernels by instruction set ---- */

static const wg_op *const rows[WG__ROWS] = {
#define MAP1(op, ...) &wg__op_##op,
#define MAP2(op, ...) &wg__op_##op,
#define MAP3(op, ...) &wg__op_##op,
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"
};

/* The row of an op, or WG__ROWS. Where it was found is noted by its address, and so is the last op that has none: evaluation asks for
 * every node. A note may be another op's, and is looked at closely. */
static int row_of(const wg_op *op) {
    enum { NOTES = 1024 }; /* an op takes some lines of memory, and those of the rows lie together */
    _Static_assert(sizeof *op >= 64, "no two of them share a note");
    _Static_assert(WG__ROWS <= UCHAR_MAX, "a row's number fits");
    static _Atomic unsigned char noted[NOTES];
    static const wg_op *_Atomic without;
    _Atomic unsigned char *note = &noted[(uintptr_t)op / 64 % NOTES];
    int row = atomic_load_explicit(note, memory_order_relaxed);
    if (rows[row] == op)
        return row;
    if (atomic_load_explicit(&without, memory_order_relaxed) == op)
        return WG__ROWS;
    for (row = 0; row < WG__ROWS && rows[row] != op; row++)
        continue;
    if (row < WG__ROWS)
        atomic_store_explicit(note, (unsigned char)row, memory_order_relaxed);
    else
        atomic_store_explicit(&without, op, memory_order_relaxed);
    return row;
}

wg__map *wg__map_for(const wg_op *op, int type, int isa) {
    int row = row_of(op == &wg__op_add_rows ? &wg__op_add : op);
    if (row == WG__ROWS && wg__pair_is_partial(wg__pair_op_of(op)))
        return wg__partial_map(wg__pair_op_of(op), type, isa);
    return row < WG__ROWS ? wg__kernels_of(isa)[row].map[type] : op->map[type];
}

wg__map *wg__map_of_sum(const wg_op *op, int operands, int type, int isa) {
    int row = row_of(op);
    return row < WG__ROWS ? wg__kernels_of(isa)[row].of_sum[operands - 2][type] : NULL;
}

/* ---- the builder ---- */

bool wg__broadcast(const wg_shape *a, const wg_shape *b, wg_shape *out) {
    int rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t dim[WG_MAX_RANK];
    for (int i = 1; i <= rank; i++) { /* from the last axis */
        int64_t m = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t n = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (m != n && m != 1 && n != 1)
            return false;
        dim[rank - i] = m == 1 ? n : m;
    }
    return wg__shape_set(out, rank, dim) == WG_OK;
}

bool wg__broadcasts(const wg_shape *x, const wg_shape *to) {
    if (x->rank > to->rank)
        return false;
    const int64_t *dim = to->dim + (to->rank - x->rank);
    for (int i = 0; i < x->rank; i++)
        if (x->dim[i] != dim[i] && x->dim[i] != 1)
            return false;
    return true;
}

/* The slow path: some shapes differ, or an operand is a bare constant. */
static wg_var broadcast_apply(const wg_op *op, int n, const wg_var *in) {
    wg_tape *tape = wg__tape_of(n, in);
    const wg_shape *shape = NULL;
    wg_dtype dtype = 0;
    bool same = true; /* the operands' types */
    wg_var out[3] = {0};
    for (int i = 0; i < n; i++) {
        if (wg__is_bare(in[i]))
            continue;
        if (in[i].tape != tape || !wg__recordable(in[i]))
            return wg_apply(op, n, in, NULL); /* which says what is wrong */
        const wg_node *node = wg__of(in[i]);
        wg_shape both;
        if (!dtype)
            dtype = node->dtype;
        same = same && dtype == (wg_dtype)node->dtype;
        if (!shape || wg__broadcasts(shape, node->shape))
            shape = node->shape;
        else if (wg__broadcasts(node->shape, shape))
            continue;
        else if (!wg__broadcast(shape, node->shape, &both))
            return wg_apply(op, n, in, NULL);
        else if (!(shape = wg__intern(tape, &both)))
            return wg__var(tape, 0);
    }
    for (int i = 0; i < n; i++)
        out[i] = wg__is_bare(in[i]) ? wg__constant(tape, dtype, shape, in[i].as.value)
                                    : wg__broadcast_to(in[i], shape);
    if (n == 2 && same && dtype != WG_I32 && tape->status == WG_OK) /* the usual case */
        return wg__record_small(tape, op, dtype, shape, 2, out[0], out[1]);
    return wg_apply(op, n, out, NULL);
}

/* Whether an operand is of the first one's shape and type; or a bare constant, which is made so. */
static inline bool alike(wg_tape *tape, const wg_node *first, wg_var *x) {
    if (wg__is_bare(*x))
        *x = wg__constant(tape, (wg_dtype)first->dtype, first->shape, x->as.value);
    if (x->tape != tape || !wg__on_tape(*x))
        return false;
    const wg_node *node = wg__of(*x);
    return node->shape == first->shape && node->dtype == first->dtype;
}

static wg_var any_pointwise(const wg_op *op, int n, const wg_var *in) {
    int lead = 0; /* the first operand that is no bare constant */
    while (lead < n - 1 && wg__is_bare(in[lead]))
        lead++;
    wg_tape *tape = in[lead].tape;
    if (wg__on_tape(in[lead]) && tape->status == WG_OK) {
        const wg_node *first = wg__of(in[lead]);
        wg_var same[3];
        bool usual = first->dtype != WG_I32;
        for (int i = 0; i < n && usual; i++) {
            same[i] = in[i];
            usual = i == lead || alike(tape, first, &same[i]);
        }
        if (usual && tape->status == WG_OK)
            return n <= 2 ? wg__record_small(tape, op, (wg_dtype)first->dtype, first->shape, n, same[0], same[n - 1])
                          : wg__record(tape, op, (wg_dtype)first->dtype, first->shape, n, same, NULL);
    }
    return wg__tape_of(n, in) ? broadcast_apply(op, n, in) : (wg_var){0};
}

wg_var wg__pointwise(const wg_op *op, int n, const wg_var *in) {
    return n == 1 ? build1(op, in[0]) : n == 2 ? build2(op, in[0], in[1]) : any_pointwise(op, n, in);
}

wg_var wg__pointwise_number(const wg_op *op, int n, const wg_var *in) {
    double x[3], y = 0;
    const void *operand[3];
    for (int i = 0; i < n; i++) {
        x[i] = in[i].as.value;
        operand[i] = &x[i];
    }
    op->map[WG_F64 - WG_F32](1, operand, &y);
    return wg_c(y);
}

/* ---- the kernel ---- */

enum { BLOCK = 1024, MOST_OPERANDS = 3, GRAIN = 16 * 1024 };

/* A walk over the collapsed axes: the last one is handled in blocks. */
typedef struct walk {
    wg__map *map;
    int n, rank;
    size_t size; /* of an element */
    int64_t dim[WG_MAX_RANK];
    int64_t stride[MOST_OPERANDS][WG_MAX_RANK];
    const char *in[MOST_OPERANDS];
    char *out;
} walk;

/* Merges neighbouring axes that every operand walks as one. */
static void collapse(walk *w, const wg_call *call) {
    const wg_shape *shape = call->out.shape;
    int64_t dense[WG_MAX_RANK];
    wg__dense_strides(shape, dense);
    w->rank = 0;
    for (int k = 0; k < shape->rank; k++) {
        if (shape->dim[k] == 1)
            continue;
        bool merges = w->rank > 0;
        for (int i = 0; i < w->n && merges; i++) {
            const int64_t *s = call->in[i].stride ? call->in[i].stride : dense;
            merges = w->stride[i][w->rank - 1] == s[k] * shape->dim[k];
        }
        int at = merges ? w->rank - 1 : w->rank++;
        w->dim[at] = merges ? w->dim[at] * shape->dim[k] : shape->dim[k];
        for (int i = 0; i < w->n; i++)
            w->stride[i][at] = (call->in[i].stride ? call->in[i].stride : dense)[k];
    }
    if (w->rank == 0) {
        w->dim[0] = 1;
        for (int i = 0; i < w->n; i++)
            w->stride[i][0] = 1;
        w->rank = 1;
    }
}

static void gather4(uint32_t *to, const uint32_t *from, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i * stride];
}

static void gather8(uint64_t *to, const uint64_t *from, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i * stride];
}

/* One stretch of the last axis: n elements from these addresses. */
static void stretch(const walk *w, const char *const *from, char *out, int64_t n) {
    _Alignas(64) char buffer[MOST_OPERANDS][BLOCK * 8];
    const void *in[MOST_OPERANDS] = {0};
    int last = w->rank - 1;
    bool filled[MOST_OPERANDS] = {0};
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t count = wg__min(BLOCK, n - at);
        for (int i = 0; i < w->n; i++) {
            int64_t s = w->stride[i][last];
            const char *start = from[i] + at * s * (int64_t)w->size;
            in[i] = start;
            if (s == 1)
                continue;
            in[i] = buffer[i];
            if (filled[i]) /* a repeated element: the buffer holds it already */
                continue;
            if (w->size == 4)
                gather4((void *)buffer[i], (const void *)start, s, count);
            else
                gather8((void *)buffer[i], (const void *)start, s, count);
            filled[i] = s == 0;
        }
        w->map(count, in, out + (size_t)at * w->size);
    }
}

/* Elements [from, to) of the result, in row-major order. */
static void walk_range(void *user, int64_t from, int64_t to) {
    const walk *w = user;
    int last = w->rank - 1;
    int64_t index[WG_MAX_RANK], rest = from;
    for (int k = last; k >= 0; k--) {
        index[k] = rest % w->dim[k];
        rest /= w->dim[k];
    }
    while (from < to) {
        const char *in[MOST_OPERANDS];
        for (int i = 0; i < w->n; i++) {
            int64_t offset = 0;
            for (int k = 0; k <= last; k++)
                offset += index[k] * w->stride[i][k];
            in[i] = w->in[i] + offset * (int64_t)w->size;
        }
        int64_t n = wg__min(w->dim[last] - index[last], to - from);
        stretch(w, in, w->out + (size_t)from * w->size, n);
        from += n;
        index[last] = 0;
        for (int k = last - 1; k >= 0 && ++index[k] == w->dim[k]; k--)
            index[k] = 0;
    }
}

wg_status wg__no_kernel(wg_call *call) { return wg_call_fail(call, WG_UNSUPPORTED, "this op cannot be run"); }

wg_status wg__pointwise_run(wg_call *call) {
    int64_t count = call->out.shape->count;
    if (call->n < 1 || call->n > MOST_OPERANDS)
        return wg_call_fail(call, WG_UNSUPPORTED, "a pointwise op has 1 to %d operands, not %d", MOST_OPERANDS, call->n);
    if (!call->op->map[call->out.dtype - WG_F32])
        return wg_call_fail(call, WG_DTYPE, "there is no kernel for %s", wg_dtype_name(call->out.dtype));
    if (count == 0)
        return WG_OK;
    walk w = {.map = wg__map_of(call->op, call->out.dtype - WG_F32, call->team->isa), .n = call->n,
              .size = wg_dtype_size(call->out.dtype), .out = call->out.data};
    for (int i = 0; i < call->n; i++)
        w.in[i] = call->in[i].data;
    if (count == 1) {
        w.map(1, (const void *const *)w.in, w.out);
        return WG_OK;
    }
    collapse(&w, call);
    wg__rows(call->team, count, GRAIN, walk_range, &w);
    return WG_OK;
}

/* ---- a sum of which only the sum of all rows is wanted ---- */

static void add_rows_float(int64_t n, const void *const *in, void *out) { wg__op_add.map[0](n, in, out); }
static void add_rows_double(int64_t n, const void *const *in, void *out) { wg__op_add.map[WG_F64 - WG_F32](n, in, out); }
const wg_op wg__op_add_rows = {.name = "add_rows", .arity = 2, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES,
                                .map = {add_rows_float, add_rows_double}};

/* ---- partial derivatives (partials.c) ---- */

#define MADE(op, which)                                                                                                        \
    static void op##_float(int64_t n, const void *const *in, void *out) { wg__partial_map(which, 0, 0)(n, in, out); }          \
    static void op##_double(int64_t n, const void *const *in, void *out) { wg__partial_map(which, 1, 0)(n, in, out); }         \
    const wg_op wg__op_##op = {.name = #op, .arity = 1, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES, .map = {op##_float, op##_double}};
MADE(tanh_partial, WG__PAIR_TANH)
MADE(sigmoid_partial, WG__PAIR_SIGMOID)
