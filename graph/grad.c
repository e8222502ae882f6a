/* grad.c: reverse and forward derivatives, recorded on the tape they differentiate. Reads the op record; names no op
 * but add and mul, which the chain rule itself consists of. */
#include "graph.h"

#include <string.h>

extern const wg_op wg__op_add, wg__op_mul;

/* A reader whose op assembles the adjoint itself: the reader's id, its cotangent, the next in the list. */
typedef struct reader {
    uint32_t id, g, next;
} reader;

static const uint32_t NONE = UINT32_MAX; /* no id: a tape ends long before */

/* One sweep over the ids [low, high]; all arrays are indexed by id - low. */
typedef struct sweep {
    wg_tape *tape;
    int64_t low, high;
    uint32_t *adjoint; /* id of the cotangent (reverse) or tangent (forward) so far; or NONE; 0: does not depend on an input */
    size_t bytes;      /* of adjoint */
    uint32_t *readers; /* reverse: head of the list of collected readers, 1 + index into pool; NULL until needed */
    reader *pool;
    int64_t pool_count, pool_room;
    bool unmarked; /* a sweep within a sweep, whose step marks are the outer one's */
} sweep;

static wg_status out_of_memory(wg_tape *tape, const char *what) {
    wg__fail(tape, wg__refusal(tape->memory), what, "no memory for the sweep");
    return tape->status;
}

static void sweep_free(sweep *s) {
    wg__return(s->tape, s->adjoint, s->bytes);
    wg__give(s->tape->memory, s->readers);
    wg__give(s->tape->memory, s->pool);
}

static bool is_float(const wg_node *node) { return node->dtype != WG_I32; }

static bool in_sweep(const sweep *s, uint32_t id) { return id >= s->low && s->adjoint[id - s->low]; }

/* Checks the operands, finds the range, marks what depends on x. */
static wg_status sweep_start(sweep *s, const char *what, int n, const wg_var *x, int m, const wg_var *y) {
    s->low = INT64_MAX;
    for (int i = 0; i < n + m; i++) {
        wg_var v = i < n ? x[i] : y[i - n];
        if (!wg_valid(v) || wg__is_bare(v) || v.tape != s->tape) {
            wg__fail(s->tape, WG_ARGUMENT, what, "%s %d is not a var of this tape", i < n ? "input" : "output",
                     i < n ? i + 1 : i - n + 1);
            return s->tape->status;
        }
        if (i < n)
            s->low = wg__min(s->low, v.as.id);
        else
            s->high = wg__max(s->high, v.as.id);
    }
    if (s->low > s->high)
        return WG_OK; /* nothing depends on anything */
    size_t range = (size_t)(s->high - s->low + 1);
    s->bytes = range * sizeof *s->adjoint;
    s->adjoint = wg__borrow(s->tape, &s->bytes);
    if (!s->adjoint)
        return out_of_memory(s->tape, what);
    for (int i = 0; i < n; i++)
        if (x[i].as.id <= s->high && is_float(wg__of(x[i])))
            s->adjoint[x[i].as.id - s->low] = NONE;
    for (int64_t id = s->low; id <= s->high; id++) {
        const wg_node *node = wg__node(s->tape, id);
        __builtin_prefetch(node + WG_AHEAD);
        const uint32_t *in = wg__inputs(node);
        bool any = false;
        for (uint32_t k = 0; k < node->n && !any; k++)
            any = in_sweep(s, in[k]);
        if (any && is_float(node) && !(node->op->traits & WG_IS_ZERO))
            s->adjoint[id - s->low] = NONE;
    }
    return WG_OK;
}

/* The cotangents of y, or tangents of x: vars of this tape like what they belong to, or bare constants. */
static wg_status check_seeds(wg_tape *tape, const char *what, const char *kind, int n, const wg_var *of,
                             const wg_var *seed) {
    char a[96], b[96];
    for (int i = 0; i < n && tape->status == WG_OK; i++) {
        if (wg__is_bare(seed[i]))
            continue;
        if (!wg__on_tape(seed[i]) || seed[i].tape != tape) {
            wg__fail(tape, WG_ARGUMENT, what, "%s %d is not a var of this tape", kind, i + 1);
            break;
        }
        const wg_node *want = wg__of(of[i]), *got = wg__of(seed[i]);
        if (want->shape != got->shape || want->dtype != got->dtype)
            wg__fail(tape, WG_SHAPE, what, "%s %d is %s %s, what it belongs to %s %s", kind, i + 1,
                     wg_dtype_name((wg_dtype)got->dtype), wg_shape_text(got->shape, a, sizeof a),
                     wg_dtype_name((wg_dtype)want->dtype), wg_shape_text(want->shape, b, sizeof b));
    }
    return tape->status;
}

static wg_var accumulate(wg_var sum, wg_var more) { return sum.tape ? wg_add(sum, more) : more; }

static bool is_id(uint32_t adjoint) { return adjoint && adjoint != NONE; }
static wg_var var_or_none(wg_tape *tape, uint32_t id) { return is_id(id) ? wg__var(tape, id) : (wg_var){0}; }

static bool alike(const wg_node *a, const wg_node *b) { return a->shape == b->shape && a->dtype == b->dtype; }

/* g times a number. */
static wg_var scaled_by(wg_var g, double c) {
    return c == 1 ? g : c == 0 ? (wg_var){0} : c == -1 ? wg_neg(g) : wg_mul(g, wg_c(c));
}

/* g, a float of the tape, times a partial derivative; a zeroed var for zero. */
static inline wg_var scaled(wg_var g, wg_var partial) {
    if (partial.tape == g.tape && wg__recordable(partial) && alike(wg__of(g), wg__of(partial)))
        return wg__record_small(g.tape, &wg__op_mul, (wg_dtype)wg__of(g)->dtype, wg__of(g)->shape, 2, g, partial);
    return wg__is_bare(partial) ? scaled_by(g, partial.as.value) : partial.tape ? wg_mul(g, partial) : partial;
}

/* ---- rules ---- */

enum { FEW = 16, USUAL = 3 };

/* A rule's operands, on the stack for all but long concats. */
typedef struct operands {
    wg_var few_in[FEW], few_out[FEW];
    bool few_need[FEW];
    wg_var *in, *out;
    bool *need;
    void *many;
} operands;

static bool operands_take(operands *o, sweep *s, const wg_node *node) {
    o->in = o->few_in, o->out = o->few_out, o->need = o->few_need, o->many = NULL;
    if (node->n > FEW) {
        o->many = wg__take(s->tape->memory, (size_t)node->n * (2 * sizeof(wg_var) + sizeof(bool)));
        if (!o->many)
            return false;
        o->in = o->many;
        o->out = o->in + node->n;
        o->need = (bool *)(o->out + node->n);
    }
    const uint32_t *in = wg__inputs(node);
    for (uint32_t k = 0; k < node->n; k++) {
        o->in[k] = wg__var(s->tape, in[k]);
        o->out[k] = (wg_var){0};
        o->need[k] = in_sweep(s, in[k]);
    }
    return true;
}

static wg_rule rule_of(const sweep *s, int64_t id, const operands *o, wg_var g) {
    const wg_node *node = wg__node(s->tape, id);
    return (wg_rule){.tape = s->tape, .op = node->op, .attr = node->op->attr_size ? node->attr : NULL,
                     .n = (int)node->n, .in = o->in, .y = wg__var(s->tape, id), .g = g, .need = o->need};
}

static void no_derivative(const wg_rule *r) {
    wg__fail(r->tape, WG_DERIVATIVE, r->op->name, "%s",
             r->op->traits & WG_IS_OPAQUE ? "its derivative cannot be differentiated again"
                                          : "this op has no derivative");
}

/* Contributions of g to the inputs' adjoints, into o->out. */
static void contributions(const wg_rule *r, operands *o) {
    if (r->op->partial) {
        r->op->partial(r->in, r->y, r->need, o->out);
        for (int k = 0; k < r->n; k++)
            if (r->need[k])
                o->out[k] = scaled(r->g, o->out[k]);
    } else if (r->op->vjp) {
        r->op->vjp(r, o->out);
    } else {
        no_derivative(r);
    }
}

/* ---- reverse ---- */

static bool add_reader(sweep *s, uint32_t input, int64_t id, wg_var g) {
    wg_memory *memory = s->tape->memory;
    if (!s->readers) {
        s->readers = wg__take0(memory, (size_t)(s->high - s->low + 1) * sizeof *s->readers);
        if (!s->readers)
            return false;
    }
    if (!wg__room(memory, (void **)&s->pool, s->pool_count, &s->pool_room, sizeof *s->pool))
        return false;
    uint32_t *head = &s->readers[input - s->low];
    s->pool[s->pool_count] = (reader){(uint32_t)id, (uint32_t)g.as.id, *head};
    *head = (uint32_t)++s->pool_count;
    return true;
}

/* A part that is no var like the input: a zero, a bare constant, or a failure. */
static wg_var settled(sweep *s, uint32_t input, wg_var part, const wg_op *op) {
    const wg_node *want = wg__node(s->tape, input);
    if (wg__is_bare(part))
        return wg__constant(s->tape, (wg_dtype)want->dtype, want->shape, part.as.value);
    if (part.tape)
        wg__fail(s->tape, WG_SHAPE, op->name, "its derivative has another shape or type than its operand");
    return (wg_var){0};
}

/* Adds a part to an input's adjoint. */
static inline void add_contribution(sweep *s, uint32_t input, wg_var part, const wg_op *op) {
    wg_tape *tape = s->tape;
    const wg_node *want = wg__node(tape, input);
    uint32_t *adjoint = &s->adjoint[input - s->low];
    if (part.tape != tape || !alike(wg__of(part), want))
        part = settled(s, input, part, op);
    if (part.as.id == 0)
        return;
    if (*adjoint != NONE)
        part = wg__record_small(tape, &wg__op_add, (wg_dtype)want->dtype, want->shape, 2, wg__var(tape, *adjoint), part);
    *adjoint = (uint32_t)part.as.id;
}

/* Readers of one value by one op that collects: fills rules, calls the op once. */
static wg_var collect_group(sweep *s, int64_t id, const wg_op *op, int n) {
    wg_memory *memory = s->tape->memory;
    int arity = 0;
    for (uint32_t at = s->readers[id - s->low]; at; at = s->pool[at - 1].next)
        if (wg__node(s->tape, s->pool[at - 1].id)->op == op)
            arity = (int)wg__max(arity, wg__node(s->tape, s->pool[at - 1].id)->n);
    wg_rule *rules = wg__take(memory, wg__size((size_t)n, sizeof *rules, 0));
    wg_var *in = wg__take(memory, wg__size((size_t)n, (size_t)arity * sizeof *in, 0));
    wg_var sum = {0};
    if (rules && in) {
        int k = 0;
        for (uint32_t at = s->readers[id - s->low]; at; at = s->pool[at - 1].next) {
            const reader *r = &s->pool[at - 1];
            const wg_node *node = wg__node(s->tape, r->id);
            if (node->op != op)
                continue;
            wg_var *operand = in + (size_t)k * (size_t)arity;
            for (uint32_t j = 0; j < node->n; j++)
                operand[j] = wg__var(s->tape, wg__inputs(node)[j]);
            rules[k] = (wg_rule){.tape = s->tape, .op = op, .attr = op->attr_size ? node->attr : NULL,
                                 .n = (int)node->n, .in = operand, .y = wg__var(s->tape, r->id), .g = wg__var(s->tape, r->g)};
            k++;
        }
        sum = op->collect(wg__var(s->tape, id), n, rules);
    } else {
        out_of_memory(s->tape, op->name);
    }
    wg__give(memory, rules);
    wg__give(memory, in);
    return sum;
}

/* Adds what the collecting readers of a value give to its adjoint: one group an op. */
static void collect_readers(sweep *s, int64_t id) {
    const wg_op *done[FEW];
    int groups = 0;
    for (uint32_t at = s->readers[id - s->low]; at && s->tape->status == WG_OK; at = s->pool[at - 1].next) {
        const wg_op *op = wg__node(s->tape, s->pool[at - 1].id)->op;
        bool seen = false;
        for (int k = 0; k < groups; k++)
            seen = seen || done[k] == op;
        if (seen)
            continue;
        if (groups == FEW) {
            wg__fail(s->tape, WG_UNSUPPORTED, op->name, "a value is read by more than %d collecting ops", FEW);
            return;
        }
        done[groups++] = op;
        int n = 0;
        for (uint32_t k = s->readers[id - s->low]; k; k = s->pool[k - 1].next)
            n += wg__node(s->tape, s->pool[k - 1].id)->op == op;
        add_contribution(s, (uint32_t)id, collect_group(s, id, op, n), op);
    }
}

/* Passes g on to what the node reads. The arrays have room for its operands; d is zeroed. */
static inline __attribute__((always_inline)) void reverse_node(sweep *s, const wg_node *node, int64_t id, wg_var g, wg_var *in,
                                                               wg_var *d, bool *need) {
    const wg_op *op = node->op;
    const uint32_t *ids = wg__inputs(node);
    int n = (int)node->n;
    bool any = false;
    for (int k = 0; k < n; k++) {
        in[k] = wg__var(s->tape, ids[k]);
        any |= need[k] = in_sweep(s, ids[k]);
    }
    if (op->collect && need[0]) {
        if (!add_reader(s, ids[0], id, g))
            out_of_memory(s->tape, op->name);
        any = need[0] = false;
        for (int k = 1; k < n; k++)
            any |= need[k];
    }
    if (!any)
        return;
    wg_var y = wg__var(s->tape, id);
    if (op->partial) {
        op->partial(in, y, need, d);
        for (int k = 0; k < n; k++)
            if (need[k])
                add_contribution(s, ids[k], scaled(g, d[k]), op);
        return;
    }
    const wg_rule rule = {s->tape, op, op->attr_size ? node->attr : NULL, n, in, y, g, need};
    if (op->vjp)
        op->vjp(&rule, d);
    else
        no_derivative(&rule);
    for (int k = 0; k < n; k++)
        if (need[k])
            add_contribution(s, ids[k], d[k], op);
}

/* Of few operands: the usual node. */
static void reverse_few(sweep *s, const wg_node *node, int64_t id, wg_var g) {
    wg_var in[USUAL], d[USUAL] = {0};
    bool need[USUAL];
    reverse_node(s, node, id, g, in, d, need);
}

static void reverse_many(sweep *s, const wg_node *node, int64_t id, wg_var g) {
    operands o;
    if (operands_take(&o, s, node))
        reverse_node(s, node, id, g, o.in, o.out, o.need);
    else
        out_of_memory(s->tape, node->op->name);
    wg__give(s->tape->memory, o.many);
}

/* Keeps step boundaries: the adjoint of step t is marked as step ~t of the same unroll, that of what is in no step as in
 * none. */
static void mark_step(sweep *s, int64_t id, int64_t *at, int64_t end) {
    int64_t before = *at;
    while (*at >= 0 && (*at == end || s->tape->steps[*at].id > id))
        (*at)--;
    if (*at == before)
        return;
    wg_step_mark mark = *at >= 0 ? s->tape->steps[*at] : (wg_step_mark){.step = WG_NO_STEP};
    wg__step_mark(s->tape, mark.unroll, mark.step == WG_NO_STEP ? WG_NO_STEP : ~mark.step);
}

/* What follows a sweep is in no step. */
static void end_steps(wg_tape *tape, int64_t marks_before) {
    if (tape->step_count > marks_before && tape->status == WG_OK && tape->steps[tape->step_count - 1].step != WG_NO_STEP)
        wg__step_mark(tape, tape->steps[tape->step_count - 1].unroll, WG_NO_STEP);
}

static wg_status reverse(sweep *s, int m, const wg_var *y, const wg_var *cotangent) {
    wg_tape *tape = s->tape;
    for (int j = 0; j < m && tape->status == WG_OK; j++)
        if (in_sweep(s, (uint32_t)y[j].as.id))
            add_contribution(s, (uint32_t)y[j].as.id, cotangent[j], &wg__op_constant);
    uint32_t origin = tape->origin;
    int64_t step = s->unmarked ? 0 : tape->step_count;
    const int64_t marks = tape->step_count;
    while (step > 0 && tape->steps[step - 1].id > s->high)
        step--;
    const int64_t end = step;
    int64_t boundary = end ? INT64_MAX : 0; /* the first node of the step that the sweep is in */
    for (int64_t id = s->high; id >= s->low && tape->status == WG_OK; id--) {
        int64_t at = id - s->low;
        if (!s->adjoint[at])
            continue;
        const wg_node *node = wg__node(tape, id);
        __builtin_prefetch(node - WG_AHEAD);
        tape->origin = node->origin;
        if (id < boundary) { /* first: what collects the readers of a value is of the value's step, not of theirs */
            mark_step(s, id, &step, end);
            boundary = step >= 0 ? tape->steps[step].id : 0;
        }
        if (s->readers && s->readers[at])
            collect_readers(s, id);
        if (s->adjoint[at] == NONE || tape->status != WG_OK)
            continue;
        wg_var g = wg__var(tape, s->adjoint[at]);
        if (node->n <= USUAL)
            reverse_few(s, node, id, g);
        else
            reverse_many(s, node, id, g);
    }
    end_steps(tape, marks);
    tape->origin = origin;
    return tape->status;
}

static wg_status zeros_where_none(sweep *s, int n, const wg_var *of, const uint32_t *found, wg_var *out) {
    for (int i = 0; i < n; i++) {
        out[i] = found && of[i].as.id >= s->low && of[i].as.id <= s->high && is_id(found[of[i].as.id - s->low])
                     ? wg__var(s->tape, found[of[i].as.id - s->low])
                     : wg_like(of[i], 0);
    }
    return s->tape->status;
}

/* What a failed call leaves in out; returns the tape's status. */
static wg_status none(wg_tape *tape, int n, wg_var *out) {
    for (int i = 0; i < n; i++)
        out[i] = wg__var(tape, 0);
    return tape ? tape->status : WG_ARGUMENT;
}

static wg_status pull_back(bool unmarked, int m, const wg_var *y, const wg_var *cotangent, int n, const wg_var *wrt,
                           wg_var *out) {
    wg_tape *tape = wg__tape_of(m, y);
    if (!tape || tape->status != WG_OK)
        return none(tape, n, out);
    sweep s = {.tape = tape, .unmarked = unmarked};
    wg_status status = sweep_start(&s, "vjp", n, wrt, m, y);
    if (status == WG_OK)
        status = check_seeds(tape, "vjp", "cotangent", m, y, cotangent);
    if (status == WG_OK && s.adjoint)
        status = reverse(&s, m, y, cotangent);
    if (status == WG_OK)
        status = zeros_where_none(&s, n, wrt, s.adjoint, out);
    sweep_free(&s);
    return status == WG_OK ? status : none(tape, n, out);
}

wg_status wg_vjp(int m, const wg_var *y, const wg_var *cotangent, int n, const wg_var *wrt, wg_var *out) {
    return pull_back(false, m, y, cotangent, n, wrt, out);
}

wg_status wg_grad(wg_var y, int n, const wg_var *wrt, wg_var *out) {
    const wg_shape *shape = wg_var_shape(y);
    char text[96];
    if (shape && shape->count != 1) {
        wg__fail(y.tape, WG_SHAPE, "grad", "y has shape %s, not one element", wg_shape_text(shape, text, sizeof text));
        return none(y.tape, n, out);
    }
    if (shape && wg_var_dtype(y) == WG_I32) {
        wg__fail(y.tape, WG_DTYPE, "grad", "y is i32, not a float");
        return none(y.tape, n, out);
    }
    return wg_vjp(1, &y, (const wg_var[]){wg_c(1)}, n, wrt, out);
}

/* ---- forward ---- */

/* What g gives to the operands of one node, as if it were all that reads them. */
static void pull_alone(const wg_rule *r, operands *o) {
    bool collects = r->op->collect && r->need[0], others = !collects;
    wg_var first = collects ? r->op->collect(r->in[0], 1, r) : (wg_var){0};
    for (int k = 1; k < r->n; k++)
        others = others || r->need[k];
    if (collects)
        o->need[0] = false;
    if (others)
        contributions(r, o);
    if (collects)
        o->out[0] = first, o->need[0] = true;
}

/* J t from the reverse rule alone: w(u) = J^T u is linear in u, and its own reverse derivative at t is J t. */
static wg_var forward_by_reverse(wg_rule *r, operands *o, const wg_var *tangent) {
    wg_tape *tape = r->tape;
    wg_var u = wg__record(tape, &wg__op_constant, wg_var_dtype(r->y), wg_var_shape(r->y), 0, NULL, NULL);
    if (!u.as.id)
        return u;
    wg__of(u)->value = 0;
    r->g = u;
    pull_alone(r, o);
    wg_var parts[FEW], tangents[FEW], sum = {0};
    int m = 0;
    for (int k = 0; k < r->n; k++) {
        if (!r->need[k] || !o->out[k].tape || wg__is_bare(o->out[k]) || tape->status != WG_OK)
            continue; /* linear in u: a bare constant can only be zero */
        parts[m] = o->out[k];
        tangents[m++] = tangent[k];
        if (m == FEW || k == r->n - 1) {
            wg_var part;
            pull_back(true, m, parts, tangents, 1, &u, &part);
            sum = accumulate(sum, part);
            m = 0;
        }
    }
    if (m) {
        wg_var part;
        pull_back(true, m, parts, tangents, 1, &u, &part);
        sum = accumulate(sum, part);
    }
    return sum;
}

/* The op itself on the tangents: all at once if linear, one at a time if linear in each. */
static wg_var forward_linear(const wg_rule *r, const wg_var *tangent, operands *o) {
    wg_var sum = {0};
    bool together = r->op->traits & WG_IS_LINEAR;
    for (int k = 0; k < r->n; k++)
        o->out[k] = !together || wg_var_dtype(r->in[k]) == WG_I32 ? r->in[k]
                    : r->need[k]                                 ? tangent[k]
                                                                 : wg_like(r->in[k], 0);
    if (together)
        return wg_apply(r->op, r->n, o->out, r->attr);
    for (int k = 0; k < r->n; k++) {
        if (!r->need[k])
            continue;
        o->out[k] = tangent[k];
        sum = accumulate(sum, wg_apply(r->op, r->n, o->out, r->attr));
        o->out[k] = r->in[k];
    }
    return sum;
}

static wg_var forward_pointwise(const wg_rule *r, const wg_var *tangent, operands *o) {
    wg_var sum = {0};
    r->op->partial(r->in, r->y, r->need, o->out);
    for (int k = 0; k < r->n; k++) {
        wg_var part = r->need[k] ? scaled(tangent[k], o->out[k]) : (wg_var){0};
        if (part.tape)
            sum = accumulate(sum, part);
    }
    return sum;
}

static void forward_node(sweep *s, int64_t id) {
    const wg_node *node = wg__node(s->tape, id);
    operands o, t;
    if (!operands_take(&o, s, node)) {
        out_of_memory(s->tape, node->op->name);
        return;
    }
    if (!operands_take(&t, s, node)) {
        wg__give(s->tape->memory, o.many);
        out_of_memory(s->tape, node->op->name);
        return;
    }
    bool any = false;
    for (uint32_t k = 0; k < node->n; k++) {
        uint32_t id_in = wg__inputs(node)[k];
        t.in[k] = o.need[k] ? var_or_none(s->tape, s->adjoint[id_in - s->low]) : (wg_var){0};
        o.need[k] = t.in[k].tape != NULL;
        any = any || o.need[k];
    }
    wg_rule rule = rule_of(s, id, &o, (wg_var){0});
    wg_var tangent = {0};
    if (!any)
        ;
    else if (node->op->jvp)
        tangent = node->op->jvp(&rule, t.in);
    else if (node->op->partial)
        tangent = forward_pointwise(&rule, t.in, &o);
    else if (node->op->traits & (WG_IS_LINEAR | WG_IS_MULTILINEAR))
        tangent = forward_linear(&rule, t.in, &o);
    else
        tangent = forward_by_reverse(&rule, &o, t.in);
    if (tangent.tape)
        add_contribution(s, (uint32_t)id, tangent, rule.op);
    wg__give(s->tape->memory, o.many);
    wg__give(s->tape->memory, t.many);
}

/* Of what depends on x, keeps what some y depends on. */
static wg_status keep_reached(sweep *s, int m, const wg_var *y) {
    size_t range = (size_t)(s->high - s->low + 1);
    bool *reached = wg__take0(s->tape->memory, range);
    if (!reached)
        return out_of_memory(s->tape, "jvp");
    for (int j = 0; j < m; j++)
        if (y[j].as.id >= s->low)
            reached[y[j].as.id - s->low] = true;
    for (int64_t id = s->high; id >= s->low; id--) {
        if (!reached[id - s->low])
            s->adjoint[id - s->low] = 0;
        bool wanted = s->adjoint[id - s->low];
        const wg_node *node = wg__node(s->tape, id);
        for (uint32_t k = 0; k < node->n && wanted; k++)
            if (wg__inputs(node)[k] >= s->low)
                reached[wg__inputs(node)[k] - s->low] = true;
    }
    wg__give(s->tape->memory, reached);
    return WG_OK;
}

/* Keeps step boundaries: the tangents of a step are marked as it is. `at` counts the marks passed. */
static void mark_tangents(wg_tape *tape, int64_t id, int64_t *at, int64_t end) {
    int64_t before = *at;
    while (*at < end && tape->steps[*at].id <= id)
        ++*at;
    if (*at != before)
        wg__step_mark(tape, tape->steps[*at - 1].unroll, tape->steps[*at - 1].step);
}

static wg_status forward(sweep *s, int n, const wg_var *x, const wg_var *tangent, int m, const wg_var *y) {
    wg_tape *tape = s->tape;
    wg_status status = keep_reached(s, m, y);
    for (int i = 0; i < n && status == WG_OK; i++) {
        if (x[i].as.id <= s->high && in_sweep(s, (uint32_t)x[i].as.id))
            add_contribution(s, (uint32_t)x[i].as.id, tangent[i], &wg__op_constant);
        status = tape->status;
    }
    uint32_t origin = tape->origin;
    const int64_t end = tape->step_count;
    int64_t step = 0;
    for (int64_t id = s->low; id <= s->high && tape->status == WG_OK; id++) {
        if (!s->adjoint[id - s->low])
            continue;
        tape->origin = wg__node(tape, id)->origin;
        mark_tangents(tape, id, &step, end);
        forward_node(s, id);
    }
    end_steps(tape, end);
    tape->origin = origin;
    return tape->status;
}

wg_status wg_jvp(int n, const wg_var *x, const wg_var *tangent, int m, const wg_var *y, wg_var *out) {
    wg_tape *tape = wg__tape_of(m, y);
    if (!tape || tape->status != WG_OK)
        return none(tape, m, out);
    sweep s = {.tape = tape};
    wg_status status = sweep_start(&s, "jvp", n, x, m, y);
    if (status == WG_OK)
        status = check_seeds(tape, "jvp", "tangent", n, x, tangent);
    if (status == WG_OK && s.adjoint)
        status = forward(&s, n, x, tangent, m, y);
    if (status == WG_OK)
        status = zeros_where_none(&s, m, y, s.adjoint, out);
    sweep_free(&s);
    return status == WG_OK ? status : none(tape, m, out);
}
