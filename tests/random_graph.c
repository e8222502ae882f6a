/* random_graph.c: the generator of random graphs, driven by the records in the list of ops. */
#include "random_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { POOL = 256, MOST_INPUTS = 16, MOST_ELEMENTS = 6000 };

/* The floats recorded so far, and the draws. */
typedef struct maker {
    wg_tape *tape;
    wg_random random;
    wg_dtype dtype;
    random_coverage *coverage;
    wg_var pool[POOL];
    int count;
    wg_var leaf[POOL];
    int leaves;
} maker;

static int below(maker *m, int n) { return (int)wg_random_below(&m->random, (uint64_t)n); }
static bool chance(maker *m, double p) { return wg_random_uniform(&m->random) < p; }
static wg_var any(maker *m) { return m->pool[below(m, m->count)]; }

static bool alive(maker *m, wg_var x) {
    if (wg__on_tape(x) && m->tape->status == WG_OK)
        return true;
    wg_status status = m->tape->status; /* a call that did not fit: forget it, unless memory ran out */
    if (status != WG_MEMORY && status != WG_LIMIT)
        wg_tape_clear(m->tape);
    return false;
}

static wg_var keep(maker *m, wg_var x) {
    if (alive(m, x) && wg_var_dtype(x) == m->dtype && wg_var_shape(x)->count <= MOST_ELEMENTS) {
        if (m->count < POOL)
            m->pool[m->count++] = x;
        else
            m->pool[below(m, POOL)] = x;
    }
    return x;
}

/* ---- leaves ---- */

static wg_var leaf(maker *m, wg_dtype dtype, int rank, const int64_t *dim, double low, double high) {
    wg_tensor *tensor = wg_tensor_new(m->tape->memory, dtype, rank, dim);
    if (!tensor)
        return wg__fail(m->tape, WG_MEMORY, "random_graph", "no memory for a leaf");
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++) {
        double value = low + (high - low) * wg_random_uniform(&m->random);
        wg_tensor_set(tensor, i, dtype == WG_I32 ? floor(value) : (float)value);
    }
    wg_var x = wg_leaf(m->tape, tensor);
    wg_tensor_free(tensor);
    if (dtype != WG_I32 && m->leaves < POOL)
        m->leaf[m->leaves++] = x;
    return x;
}

static void first_leaves(maker *m) {
    static const int64_t sizes[] = {1, 2, 3, 3, 4, 5, 7, 8, 17};
    for (int k = 0; k < 4; k++) {
        int64_t dim[WG_MAX_RANK];
        int rank = chance(m, 0.05) ? WG_MAX_RANK : below(m, 4);
        for (int i = 0; i < rank; i++)
            dim[i] = rank == WG_MAX_RANK ? 1 + below(m, 2) : sizes[below(m, WG_LEN(sizes))];
        if (rank && chance(m, 0.04))
            dim[below(m, rank)] = 0;
        if (k == 0 && chance(m, 0.15))
            rank = 2, dim[0] = 33, dim[1] = 97;
        keep(m, leaf(m, m->dtype, rank, dim, -2, 2));
    }
}

/* ---- making operands fit ---- */

/* x's elements, repeated or cut, under another shape. */
static wg_var adapt(maker *m, wg_var x, const wg_shape *to) {
    const wg_shape *from = wg_var_shape(x);
    wg_shape both;
    if (wg__shape_same(from, to))
        return x;
    if (wg__broadcast(from, to, &both) && wg__shape_same(&both, to) && chance(m, 0.8))
        return wg_broadcast_to(x, to->rank, to->dim);
    if (from->count == 0)
        return leaf(m, m->dtype, to->rank, to->dim, -2, 2);
    wg_var flat = wg_reshape(x, 1, (const int64_t[]){-1});
    while (wg_valid(flat) && wg_dim(flat, 0) < to->count)
        flat = wg_concat(2, (const wg_var[]){flat, flat}, 0);
    if (wg_dim(flat, 0) > to->count)
        flat = wg_slice(flat, 0, (int64_t)wg_random_below(&m->random, (uint64_t)(wg_dim(flat, 0) - to->count)),
                        to->count);
    return wg_reshape(flat, to->rank, to->dim);
}

/* Brings values into [low, high], smoothly; now and then leaves them as they are. */
static wg_var tame(maker *m, wg_var x, double low, double high) {
    if (chance(m, low > -1 || high < 1 ? 0.1 : 0.8))
        return x;
    return wg_add(wg_mul(wg_sigmoid(x), wg_c((float)(high - low))), wg_c((float)low));
}

static wg_var operand(maker *m, const wg_shape *shape, double low, double high) {
    if (chance(m, 0.15))
        return leaf(m, m->dtype, shape->rank, shape->dim, low, high);
    return tame(m, adapt(m, any(m), shape), low, high);
}

/* A shape that broadcasts to x's. */
static wg_shape smaller(maker *m, wg_var x) {
    const wg_shape *shape = wg_var_shape(x);
    int64_t dim[WG_MAX_RANK];
    int skip = shape->rank && chance(m, 0.4) ? below(m, shape->rank + 1) : 0;
    for (int k = skip; k < shape->rank; k++)
        dim[k - skip] = chance(m, 0.25) ? 1 : shape->dim[k];
    wg_shape out;
    wg__shape_set(&out, shape->rank - skip, dim);
    return out;
}

/* ---- steps of growth ---- */

static wg_var grow_pointwise(maker *m, const wg_op *op) {
    wg_var in[3];
    wg_var x = any(m);
    int whole = below(m, op->arity);
    for (int k = 0; k < op->arity; k++) {
        wg_shape shape = k == whole ? *wg_var_shape(x) : smaller(m, x);
        if (k != whole && chance(m, 0.2))
            in[k] = wg_c((float)(op->range[0] + (op->range[1] - op->range[0]) * wg_random_uniform(&m->random)));
        else
            in[k] = k == whole ? tame(m, x, op->range[0], op->range[1])
                               : operand(m, &shape, op->range[0], op->range[1]);
    }
    return wg__pointwise(op, op->arity, in);
}

static wg_var grow_example(maker *m, const wg_op *op) {
    int examples = 0, n = 0;
    while (op->examples[examples].call)
        examples++;
    if (!examples)
        return (wg_var){0};
    const wg_example *example = &op->examples[below(m, examples)];
    wg_var in[MOST_INPUTS] = {{0}};
    wg_shape shape;
    int64_t top;
    for (const char *at = example->inputs; n < MOST_INPUTS && (at = wg__example_word(at, &shape, &top)); n++)
        in[n] = top > 0 ? leaf(m, WG_I32, shape.rank, shape.dim, 0, (double)top)
                        : operand(m, &shape, example->low, example->high);
    return alive(m, wg_like(m->pool[0], 0)) ? example->call(in) : (wg_var){0};
}

static wg_var grow_view(maker *m) {
    wg_var x = any(m);
    const wg_shape *shape = wg_var_shape(x);
    int rank = shape->rank, axis[WG_MAX_RANK];
    if (rank == 0)
        return wg_reshape(x, 2, (const int64_t[]){1, 1});
    int k = below(m, rank);
    switch (below(m, 4)) {
    case 0: {
        int64_t from = (int64_t)wg_random_below(&m->random, (uint64_t)shape->dim[k] + 1);
        return wg_slice(x, k, from, (int64_t)wg_random_below(&m->random, (uint64_t)(shape->dim[k] - from) + 1));
    }
    case 1:
        for (int i = 0; i < rank; i++)
            axis[i] = (i + k) % rank;
        return wg_permute(x, rank, axis);
    case 2: return rank > 1 ? wg_transpose(x) : wg_reshape(x, 2, (const int64_t[]){1, shape->dim[0]});
    default: {
        wg_shape to = smaller(m, x);
        return wg_sum_to(x, to.rank, to.dim);
    }
    }
}

/* What the steps of a recurrence read and pass on: states h and c, (rows,width) each, and the narrower s. */
typedef struct recurrence {
    int kind;
    wg_var w, u, v, down, up; /* (width), (width,width) twice, (width,narrow), (narrow,width) */
    wg_var h, c, s;
    wg_var key; /* of draws */
} recurrence;

/* One step; returns its output. */
static wg_var recur(recurrence *r, wg_var now) {
    wg_var gate = wg_sigmoid(wg_add(wg_mul(r->h, r->w), now));
    switch (r->kind) {
    case 0: return r->h = wg_add(wg_tanh(wg_mul(r->h, now)), gate);
    case 1: return r->h = wg_add(wg_tanh(wg_mul(gate, now)), gate);
    case 2: return r->h = wg_add(wg_mul(gate, r->h), wg_mul(wg_sub(wg_c(1), gate), wg_tanh(wg_mul(gate, now))));
    case 3: return r->h = wg_add(wg_tanh(wg_add(wg_mul(now, gate), wg_matmul(r->h, r->u, false, false))), gate);
    case 4: { /* two gates of products with h, and a state beside it that is read after its next value is made */
        wg_var before = r->c;
        gate = wg_sigmoid(wg_add(wg_matmul(r->h, r->u, false, false), now));
        r->c = wg_add(wg_mul(gate, before), wg_tanh(wg_add(wg_matmul(r->h, r->v, false, false), now)));
        r->h = wg_mul(wg_sub(wg_tanh(r->c), wg_mul(before, r->w)), wg_sigmoid(now));
        return wg_add(wg_matmul(r->h, r->u, false, true), r->c);
    }
    case 5: /* a draw in every step */
        return r->h = wg_dropout(wg_tanh(wg_add(wg_mul(gate, r->h), now)), 0.4, r->key);
    case 6: { /* h of two steps before */
        wg_var before = r->c;
        r->c = r->h;
        return r->h = wg_tanh(wg_add(wg_mul(gate, before), wg_matmul(r->h, r->u, false, false)));
    }
    case 7: { /* a number for each row */
        const int64_t one[] = {wg_dim(r->h, 0), 1};
        return r->h = wg_tanh(wg_add(wg_mul(gate, wg_sigmoid(wg_sum_to(wg_mul(r->h, now), 2, one))), now));
    }
    case 8: { /* a sum of what stands side by side, read in halves */
        const int64_t width = wg_dim(now, 1);
        wg_var sum = wg_tanh(wg_add(wg_concat(2, (const wg_var[]){wg_mul(gate, now), r->h}, 1), wg_concat(2, (const wg_var[]){r->c, gate}, 1)));
        return r->h = wg_sub(wg_mul(wg_slice(sum, 1, 0, width), r->w), wg_slice(sum, 1, width, width));
    }
    default: /* states of two widths, the narrow one before the other */
        r->s = wg_tanh(wg_add(r->s, wg_matmul(wg_mul(r->h, now), r->down, false, false)));
        return r->h = wg_sub(wg_matmul(wg_sigmoid(r->s), r->up, false, false), wg_mul(gate, r->h));
    }
}

/* A recurrence over slices of one leaf: the same few ops at every step. */
static wg_var grow_recurrence(maker *m) {
    int64_t steps = 2 + below(m, 7), rows = 1 + below(m, 8), width = chance(m, 0.2) ? 9 : 1 + below(m, 6), narrow = 1 + below(m, (int)width);
    wg_var x = leaf(m, m->dtype, 3, (const int64_t[]){steps, rows, width}, -2, 2), all[8];
    recurrence r = {.kind = below(m, 10)};
    r.h = leaf(m, m->dtype, 2, (const int64_t[]){rows, width}, -1, 1);
    r.c = leaf(m, m->dtype, 2, (const int64_t[]){rows, width}, -1, 1);
    r.s = leaf(m, m->dtype, 2, (const int64_t[]){rows, narrow}, -1, 1);
    r.w = leaf(m, m->dtype, 1, (const int64_t[]){width}, -1, 1);
    r.u = leaf(m, m->dtype, 2, (const int64_t[]){width, width}, -1, 1);
    r.v = leaf(m, m->dtype, 2, (const int64_t[]){width, width}, -1, 1);
    r.down = leaf(m, m->dtype, 2, (const int64_t[]){width, narrow}, -1, 1);
    r.up = leaf(m, m->dtype, 2, (const int64_t[]){narrow, width}, -1, 1);
    wg_tensor *key = wg_key_new(NULL, (uint64_t)below(m, 1000));
    r.key = wg_leaf(m->tape, key);
    wg_tensor_free(key);
    uint32_t unroll = ++m->tape->unrolls;
    for (int64_t t = 0; t < steps; t++) {
        wg__step_mark(m->tape, unroll, t);
        wg_var now = wg_reshape(wg_slice(x, 0, t, 1), 2, (const int64_t[]){rows, width});
        all[t] = recur(&r, now);
    }
    if (chance(m, 0.8)) /* else what follows counts as of the last step */
        wg__step_mark(m->tape, unroll, WG_NO_STEP);
    if (m->coverage)
        m->coverage->recurrences++;
    return chance(m, 0.5) ? all[steps - 1] : wg_concat((int)steps, all, below(m, 2));
}

/* Gradients or tangents of what there is, as further outputs. */
static int differentiate(maker *m, int n, wg_var *out) {
    if (!alive(m, wg_like(out[0], 0)) || !chance(m, 0.6))
        return n;
    wg_var wrt[3], d[3], loss = wg_sum_to(out[below(m, n)], 0, NULL);
    int count = (int)wg__min(3, m->leaves);
    for (int k = 0; k < count; k++)
        wrt[k] = m->leaf[below(m, m->leaves)];
    bool forward = chance(m, 0.3);
    wg_status status = forward ? wg_jvp(1, wrt, (const wg_var[]){wg_c(1)}, 1, out, d)
                               : wg_grad(loss, count, wrt, d);
    count = forward ? 1 : count;
    if (status == WG_OK && chance(m, 0.25)) /* second order */
        status = wg_grad(wg_sum_to(d[0], 0, NULL), 1, wrt, d);
    if (status != WG_OK || !alive(m, d[0])) {
        alive(m, (wg_var){0});
        return n;
    }
    if (m->coverage && forward)
        m->coverage->tangents++;
    else if (m->coverage)
        m->coverage->gradients++;
    for (int k = 0; k < count && n < RANDOM_OUTPUTS; k++)
        out[n++] = d[k];
    return n;
}

static void count_nodes(maker *m, int64_t from) {
    random_coverage *c = m->coverage;
    const wg_op_entry *list = wg_op_list();
    for (int64_t id = from; id < m->tape->count; id++) {
        const wg_node *node = wg__node(m->tape, id);
        for (int k = 0; k < wg_op_count() && k < RANDOM_OPS; k++)
            c->op[k] += list[k].op == node->op;
        c->nodes++;
        c->rank[node->shape->rank]++;
        c->empty += node->shape->count == 0;
        c->single += node->shape->count == 1;
        c->large += node->shape->count > 2048;
        bool view = node->op->kind == WG_VIEW;
        c->broadcast += view && node->shape->count > wg__node(m->tape, node->in[0])->shape->count;
        c->strided += view && node->shape->count <= wg__node(m->tape, node->in[0])->shape->count;
    }
    c->graphs++;
}

static wg_var grow(maker *m) {
    int k = below(m, wg_op_count());
    const wg_op *op = wg_op_list()[k].op;
    wg_var y;
    if (chance(m, 0.15))
        return grow_view(m);
    if (chance(m, 0.04))
        return grow_recurrence(m);
    if (op->kind == WG_EFFECT)
        return (wg_var){0};
    if (op->examples)
        y = grow_example(m, op);
    else if (op->kind == WG_POINTWISE && op->arity >= 1 && op->arity <= 3 && !op->attr_size)
        y = grow_pointwise(m, op);
    else
        return (wg_var){0};
    if (m->coverage && k < RANDOM_OPS && op->kind == WG_COMPOSITE && wg__on_tape(y))
        m->coverage->op[k]++;
    return y;
}

int random_graph(wg_tape *tape, uint64_t seed, wg_dtype dtype, int size, wg_var *out, random_coverage *coverage) {
    maker *m = calloc(1, sizeof *m);
    int64_t from = tape->count;
    int n = 0;
    if (!m)
        return 0;
    m->tape = tape, m->random.seed = seed, m->dtype = dtype, m->coverage = coverage;
    first_leaves(m);
    for (int k = 0; k < size && m->count; k++) {
        wg_var y = grow(m);
        if (alive(m, y) && wg_var_dtype(y) == WG_I32 && n < 2)
            out[n++] = y;
        else
            keep(m, y);
    }
    int wanted = n + 1 + below(m, 3);
    for (; m->count && n < wanted; n++) /* the newest, mostly */
        out[n] = m->pool[m->count - 1 - (int)wg__min(below(m, 4) * below(m, 3), m->count - 1)];
    int first = 0;
    while (first < n && wg_var_dtype(out[first]) == WG_I32)
        first++;
    if (first < n)
        n = first + differentiate(m, n - first, out + first);
    if (coverage)
        count_nodes(m, from);
    if (tape->status != WG_OK)
        n = 0;
    free(m);
    return n;
}

/* ---- what was covered ---- */

const char *random_graph_missing(const random_coverage *coverage) {
    const wg_op_entry *list = wg_op_list();
    for (int k = 0; k < wg_op_count() && k < RANDOM_OPS; k++)
        if (!coverage->op[k] && list[k].op->kind != WG_EFFECT)
            return list[k].name;
    return NULL;
}

void random_graph_print(const random_coverage *c, FILE *file) {
    fprintf(file, "%lld graphs, %lld nodes; gradients %lld, tangents %lld, recurrences %lld, with NaN or Inf %lld\n",
            (long long)c->graphs, (long long)c->nodes, (long long)c->gradients, (long long)c->tangents,
            (long long)c->recurrences, (long long)c->nonfinite);
    fprintf(file, "empty %lld, single %lld, large %lld, broadcasts %lld, strided views %lld; by rank",
            (long long)c->empty, (long long)c->single, (long long)c->large, (long long)c->broadcast,
            (long long)c->strided);
    for (int k = 0; k <= WG_MAX_RANK; k++)
        fprintf(file, " %lld", (long long)c->rank[k]);
    fprintf(file, "\n");
    for (int k = 0; k < wg_op_count() && k < RANDOM_OPS; k++)
        fprintf(file, "%s %lld%s", wg_op_list()[k].name, (long long)c->op[k], k + 1 < wg_op_count() ? ", " : "\n");
}

/* ---- the rule ---- */

bool random_graph_agree(const wg_tensor *exact, const wg_tensor *plain, const wg_tensor *got, char *text,
                        size_t size) {
    const wg_shape *shape = wg_tensor_shape(exact);
    double largest = 0, error = 0, allowed = 0;
    text[0] = 0;
    if (!wg__shape_same(shape, wg_tensor_shape(got)) || wg_tensor_dtype(plain) != wg_tensor_dtype(got)) {
        snprintf(text, size, "another shape or type");
        return false;
    }
    for (int64_t i = 0; i < shape->count; i++) {
        double e = wg_tensor_get(exact, i), p = wg_tensor_get(plain, i), g = wg_tensor_get(got, i);
        if (!isfinite(p) || !isfinite(g)) {
            if (p == g || (isnan(p) && isnan(g)))
                continue;
            snprintf(text, size, "element %lld is %g, by wg_eval %g", (long long)i, g, p);
            return false;
        }
        if (!isfinite(e))
            continue;
        largest = fmax(largest, fabs(e));
        allowed = fmax(allowed, fabs(p - e));
        error = fmax(error, fabs(g - e));
    }
    allowed = 4 * allowed + (wg_tensor_dtype(got) == WG_F32 ? 1e-6 : 1e-14) * largest;
    if (error <= allowed)
        return true;
    snprintf(text, size, "error %g, allowed %g (largest element %g)", error, allowed, largest);
    return false;
}
