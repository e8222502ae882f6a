/* stochastic.c: reproducible random draws as ops. Element i of a draw follows from the key's seed and step, the node's own
 * stream number and i alone: from no thread, no order and no other draw. A draw is one node, which forward and backward
 * computations read alike. */
#include "ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the key: (4) i32: seed low, seed high, step low, step high ---- */

typedef struct key {
    uint32_t seed[2];
    uint64_t step;
} key;

static key key_of(const wg_array *x) {
    uint32_t word[4];
    memcpy(word, x->data, sizeof word);
    return (key){{word[0], word[1]}, (uint64_t)word[3] << 32 | word[2]};
}

static wg_status key_fits(wg_infer *q) {
    char text[96];
    if (q->in_dtype[0] != WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "the key is %s, not i32", wg_dtype_name(q->in_dtype[0]));
    if (q->in[0]->rank != 1 || q->in[0]->dim[0] != 4)
        return wg_infer_fail(q, WG_SHAPE, "the key is %s, not (4)", wg_shape_text(q->in[0], text, sizeof text));
    return WG_OK;
}

static wg_status next_shape(wg_infer *q) {
    q->out = *q->in[0];
    q->dtype = WG_I32;
    return key_fits(q);
}

static wg_status next_run(wg_call *call) {
    key k = key_of(&call->in[0]);
    k.step++;
    const uint32_t word[4] = {k.seed[0], k.seed[1], (uint32_t)k.step, (uint32_t)(k.step >> 32)};
    memcpy(call->out.data, word, sizeof word);
    return WG_OK;
}

static wg_var next_example(const wg_var *in) { return wg_random_next(in[0]); }
static const wg_example next_examples[] = {{"i1000:4", 0, 0, next_example}, {0}};

const wg_op wg__op_random_next = {.name = "random_next", .arity = 1, .kind = WG_RANDOM, .traits = WG_IS_ZERO,
    .shape = next_shape, .run = next_run, .examples = next_examples};

wg_var wg_random_next(wg_var x) { return wg_apply(&wg__op_random_next, 1, &x, NULL); }

/* ---- draws ---- */

typedef struct draw_attr {
    uint64_t stream;
    double p[2]; /* low and high; mean and deviation; probability and the value then drawn */
    wg_dims dims;
    wg_dtype dtype;
} draw_attr;

static wg_status draw_shape(wg_infer *q) {
    const draw_attr *d = q->attr;
    q->dtype = d->dtype;
    if (d->dtype != WG_F32 && d->dtype != WG_F64)
        return wg_infer_fail(q, WG_DTYPE, "draws are f32 or f64");
    if (wg__shape_set(&q->out, d->dims.rank, d->dims.dim) != WG_OK)
        return wg_infer_fail(q, WG_RANGE, "a size is negative or there are too many elements or axes");
    return key_fits(q);
}

static wg_status uniform_shape(wg_infer *q) {
    const double *p = ((const draw_attr *)q->attr)->p;
    if (!(isfinite(p[0]) && isfinite(p[1]) && isfinite(p[1] - p[0]) && p[0] <= p[1]))
        return wg_infer_fail(q, WG_RANGE, "[%g, %g) is not an interval", p[0], p[1]);
    return draw_shape(q);
}

static wg_status normal_shape(wg_infer *q) {
    const double *p = ((const draw_attr *)q->attr)->p;
    if (!(isfinite(p[0]) && isfinite(p[1]) && p[1] >= 0))
        return wg_infer_fail(q, WG_RANGE, "mean %g and deviation %g do not make a distribution", p[0], p[1]);
    return draw_shape(q);
}

static wg_status bernoulli_shape(wg_infer *q) {
    const double *p = ((const draw_attr *)q->attr)->p;
    if (!(p[0] >= 0 && p[0] <= 1))
        return wg_infer_fail(q, WG_RANGE, "p is %g, not a probability in [0,1]", p[0]);
    return draw_shape(q);
}

enum { GRAIN = 4096, BLOCK = 512 };

typedef struct draw {
    key key;
    const draw_attr *attr;
    void *out;
} draw;

/* Low + (high - low) u, kept below high where that rounds up. */
#define UNIFORM(T, fill, below)                                                                    \
    static void uniform_##T(void *user, int64_t from, int64_t to) {                                \
        const draw *d = user;                                                                      \
        T *y = d->out;                                                                             \
        const T low = (T)d->attr->p[0], high = (T)d->attr->p[1], top = below(high, low);           \
        const double width = d->attr->p[1] - d->attr->p[0];                                        \
        fill(d->key.seed, d->attr->stream, d->key.step, from, to, y + from);                       \
        for (int64_t i = from; i < to; i++) {                                                      \
            T value = (T)(d->attr->p[0] + width * y[i]);                                           \
            y[i] = value < high ? value : top;                                                     \
        }                                                                                          \
    }
UNIFORM(float, wg__random_uniform_f32, nextafterf)
UNIFORM(double, wg__random_uniform_f64, nextafter)

#define NORMAL(T, fill)                                                                            \
    static void normal_##T(void *user, int64_t from, int64_t to) {                                 \
        const draw *d = user;                                                                      \
        T *y = d->out;                                                                             \
        fill(d->key.seed, d->attr->stream, d->key.step, from, to, y + from);                       \
        for (int64_t i = from; i < to; i++)                                                        \
            y[i] = (T)(d->attr->p[0] + d->attr->p[1] * y[i]);                                      \
    }
NORMAL(float, wg__random_normal_f32)
NORMAL(double, wg__random_normal_f64)

/* 24 bits decide for both types, so that a mask is the same in f32 and f64. */
#define BERNOULLI(T)                                                                               \
    static void bernoulli_##T(void *user, int64_t from, int64_t to) {                              \
        const draw *d = user;                                                                      \
        const T one = (T)d->attr->p[1];                                                            \
        float u[BLOCK];                                                                            \
        for (int64_t at = from; at < to; at += BLOCK) {                                            \
            int64_t n = wg__min(BLOCK, to - at);                                                   \
            wg__random_uniform_f32(d->key.seed, d->attr->stream, d->key.step, at, at + n, u);      \
            for (int64_t i = 0; i < n; i++)                                                        \
                ((T *)d->out)[at + i] = u[i] < d->attr->p[0] ? one : 0;                            \
        }                                                                                          \
    }
BERNOULLI(float)
BERNOULLI(double)

static wg_status run_draw(wg_call *call, void (*f32)(void *, int64_t, int64_t), void (*f64)(void *, int64_t, int64_t)) {
    draw d = {key_of(&call->in[0]), call->attr, call->out.data};
    wg__rows(call->team, call->out.shape->count, GRAIN, call->out.dtype == WG_F32 ? f32 : f64, &d);
    return WG_OK;
}

static wg_status uniform_run(wg_call *call) { return run_draw(call, uniform_float, uniform_double); }
static wg_status normal_run(wg_call *call) { return run_draw(call, normal_float, normal_double); }
static wg_status bernoulli_run(wg_call *call) { return run_draw(call, bernoulli_float, bernoulli_double); }

/* Draws of x's type and shape, times x: so that there is something to differentiate. */
static wg_var uniform_example(const wg_var *in) {
    wg_dims dims = wg__dims_of(in[0]);
    return wg_mul(in[0], wg_uniform(in[1], wg_var_dtype(in[0]), dims.rank, dims.dim, -1, 2));
}
static wg_var normal_example(const wg_var *in) {
    wg_dims dims = wg__dims_of(in[0]);
    return wg_mul(in[0], wg_normal(in[1], wg_var_dtype(in[0]), dims.rank, dims.dim, 1, 2));
}
static wg_var bernoulli_example(const wg_var *in) {
    wg_dims dims = wg__dims_of(in[0]);
    return wg_mul(in[0], wg_bernoulli(in[1], wg_var_dtype(in[0]), dims.rank, dims.dim, 0.4));
}
static const wg_example uniform_examples[] = {{"3,4 i1000:4", -2, 2, uniform_example}, {0}};
static const wg_example normal_examples[] = {{"5 i1000:4", -2, 2, normal_example}, {0}};
static const wg_example bernoulli_examples[] = {{"3,4 i1000:4", -2, 2, bernoulli_example}, {0}};

#define DRAW(op, rule, kernel, cases)                                                              \
    {.name = op, .arity = 1, .kind = WG_RANDOM, .traits = WG_IS_ZERO | WG_NO_MERGE,                \
     .attr_size = sizeof(draw_attr), .shape = rule, .run = kernel, .examples = cases}
const wg_op wg__op_uniform = DRAW("uniform", uniform_shape, uniform_run, uniform_examples);
const wg_op wg__op_normal = DRAW("normal", normal_shape, normal_run, normal_examples);
const wg_op wg__op_bernoulli = DRAW("bernoulli", bernoulli_shape, bernoulli_run, bernoulli_examples);

static wg_var drawn(const wg_op *op, wg_var k, wg_dtype dtype, int rank, const int64_t *dim, double p0, double p1) {
    draw_attr d;
    memset(&d, 0, sizeof d); /* attributes are compared as bytes */
    d.p[0] = p0, d.p[1] = p1;
    d.dtype = dtype;
    d.dims = wg__dims(rank, dim);
    if (wg__operand(k, op->name))
        d.stream = wg__stream(k.tape);
    return wg_apply(op, 1, &k, &d);
}

wg_var wg_uniform(wg_var k, wg_dtype dtype, int rank, const int64_t *dim, double low, double high) {
    return drawn(&wg__op_uniform, k, dtype, rank, dim, low, high);
}

wg_var wg_normal(wg_var k, wg_dtype dtype, int rank, const int64_t *dim, double mean, double deviation) {
    return drawn(&wg__op_normal, k, dtype, rank, dim, mean, deviation);
}

wg_var wg_bernoulli(wg_var k, wg_dtype dtype, int rank, const int64_t *dim, double p) {
    return drawn(&wg__op_bernoulli, k, dtype, rank, dim, p, 1);
}

/* ---- many draws at once ---- */

typedef struct draws_attr {
    const wg_op *draw;
    draw_attr first;
    int64_t apart, times;
} draws_attr;

bool wg__draws_apart(const wg_op *op, const void *a, const void *b, int64_t *apart) {
    if (op != &wg__op_uniform && op != &wg__op_normal && op != &wg__op_bernoulli)
        return false; /* its attributes are its own */
    draw_attr one = *(const draw_attr *)a, other = *(const draw_attr *)b;
    *apart = (int64_t)(other.stream - one.stream);
    other.stream = one.stream;
    return memcmp(&one, &other, sizeof one) == 0;
}

void wg__draws_set(void *attr, const wg_op *op, const void *first, int64_t apart, int64_t times) {
    draws_attr d;
    memset(&d, 0, sizeof d);
    d.draw = op;
    d.first = *(const draw_attr *)first;
    d.apart = apart;
    d.times = times;
    memcpy(attr, &d, sizeof d);
}

static wg_status draws_shape(wg_infer *q) {
    const draws_attr *d = q->attr;
    int64_t dim[WG_MAX_RANK + 1] = {d->times};
    wg_infer one = *q;
    one.op = d->draw;
    one.attr = &d->first;
    wg_status status = d->draw->shape(&one);
    if (status != WG_OK)
        return status;
    if (one.out.rank == WG_MAX_RANK)
        return wg_infer_fail(q, WG_RANGE, "no room for one axis more");
    memcpy(dim + 1, one.out.dim, sizeof *dim * (size_t)one.out.rank);
    q->dtype = one.dtype;
    return wg__shape_set(&q->out, one.out.rank + 1, dim);
}

/* Draws [from, to) of a call. */
static void draws_range(void *user, int64_t from, int64_t to) {
    const wg_call *all = user;
    const draws_attr *d = all->attr;
    wg_team alone = {.threads = 1};
    draw_attr own = d->first;
    wg_shape shape;
    wg__shape_set(&shape, all->out.shape->rank - 1, all->out.shape->dim + 1);
    wg_call call = *all;
    call.op = d->draw;
    call.attr = &own;
    call.out.shape = &shape;
    call.team = &alone;
    for (int64_t t = from; t < to; t++) {
        own.stream = d->first.stream + (uint64_t)(t * d->apart);
        call.out.data = (char *)all->out.data + (size_t)(t * shape.count) * wg_dtype_size(all->out.dtype);
        d->draw->run(&call);
    }
}

static wg_status draws_run(wg_call *call) {
    const draws_attr *d = call->attr;
    int64_t each = d->times ? call->out.shape->count / d->times : 0;
    if (each)
        wg__rows(call->team, d->times, (GRAIN + each - 1) / each, draws_range, call);
    return WG_OK;
}

static void draws_describe(const void *attr, char *text, size_t size) {
    const draws_attr *d = attr;
    snprintf(text, size, "%s times=%lld", d->draw->name, (long long)d->times);
}

const wg_op wg__op_draws = {.name = "draws", .arity = 1, .kind = WG_RANDOM, .traits = WG_IS_ZERO | WG_NO_MERGE,
    .attr_size = sizeof(draws_attr), .shape = draws_shape, .run = draws_run, .describe = draws_describe};

/* ---- dropout ---- */

static wg_var dropout_example(const wg_var *in) { return wg_dropout(in[0], 0.4, in[1]); }
static const wg_example dropout_examples[] = {{"4,5 i1000:4", -2, 2, dropout_example}, {0}};

const wg_op wg__op_dropout = {.name = "dropout", .arity = 2, .kind = WG_COMPOSITE, .examples = dropout_examples};

wg_var wg_dropout(wg_var x, double p, wg_var k) {
    wg_tape *tape = wg__tape_of(2, (const wg_var[]){x, k});
    if (!wg__operand(x, "dropout") || !wg__operand(k, "dropout"))
        return wg__fail(tape, WG_ARGUMENT, "dropout", "an operand is not a valid var");
    if (!(p >= 0 && p < 1))
        return wg__fail(tape, WG_RANGE, "dropout", "p is %g, not in [0,1)", p);
    wg_dims dims = wg__dims_of(x);
    return wg_mul(x, drawn(&wg__op_bernoulli, k, wg_var_dtype(x), dims.rank, dims.dim, 1 - p, 1 / (1 - p)));
}
