/* product.c: sums of products over a shared axis: matmul, and outer and dot in terms of other ops. The builder brings
 * operands to one rank and one set of batch sizes by views; the arithmetic itself is behind gemm.h. */
#include "gemm.h"
#include "ops.h"

#include <stdio.h>

typedef wg_matmul_attr matmul_attr;

/* ---- shapes ---- */

/* Of op(x), the last two axes; a vector is a row on the left and a column on the right. */
typedef struct sides {
    int64_t rows, columns;
} sides;

static sides sides_of(const wg_shape *x, bool transposed, bool left) {
    int64_t last = x->dim[x->rank - 1];
    if (x->rank == 1)
        return left ? (sides){1, last} : (sides){last, 1};
    int64_t before = x->dim[x->rank - 2];
    return transposed ? (sides){last, before} : (sides){before, last};
}

static wg_status matmul_shape(wg_infer *q) {
    const matmul_attr *t = q->attr;
    const wg_shape *a = q->in[0], *b = q->in[1];
    if (q->in_dtype[0] != q->in_dtype[1] || q->in_dtype[0] == WG_I32)
        return wg_infer_fail(q, WG_DTYPE, "operands are %s and %s", wg_dtype_name(q->in_dtype[0]),
                             wg_dtype_name(q->in_dtype[1]));
    if (a->rank < 2 || a->rank != b->rank)
        return wg_infer_fail(q, WG_SHAPE, "%s by %s: both need the same rank, two or more", WG_SHAPE_TEXT(a),
                             WG_SHAPE_TEXT(b));
    sides x = sides_of(a, t->a, true), y = sides_of(b, t->b, false);
    if (x.columns != y.rows)
        return wg_infer_fail(q, WG_SHAPE, "%s by %s: inner sizes %lld and %lld differ", WG_SHAPE_TEXT(a),
                             WG_SHAPE_TEXT(b), (long long)x.columns, (long long)y.rows);
    q->out = *a;
    for (int k = 0; k < a->rank - 2; k++)
        if (a->dim[k] != b->dim[k])
            return wg_infer_fail(q, WG_SHAPE, "%s by %s: the batch sizes differ", WG_SHAPE_TEXT(a), WG_SHAPE_TEXT(b));
    q->out.dim[a->rank - 2] = x.rows;
    q->out.dim[a->rank - 1] = y.columns;
    q->dtype = q->in_dtype[0];
    return WG_OK;
}

/* ---- the kernel ---- */

/* All products of a call: their common form, and the strides of the batch axes. */
typedef struct products {
    wg_gemm one;
    const wg_team *team;
    int rank;
    const int64_t *dim;
    int64_t step[3][WG_MAX_RANK]; /* of a, b and the result */
} products;

static wg_matrix matrix_of(const wg_array *x, bool transposed, int64_t *step) {
    int64_t dense[WG_MAX_RANK];
    int rank = x->shape->rank;
    wg__dense_strides(x->shape, dense);
    const int64_t *stride = x->stride ? x->stride : dense;
    for (int k = 0; k < rank - 2; k++)
        step[k] = stride[k];
    wg_matrix m = {x->data, stride[rank - 2], stride[rank - 1]};
    return transposed ? (wg_matrix){x->data, m.column, m.row} : m;
}

static void run_products(void *user, int64_t from, int64_t to) {
    const products *b = user;
    int64_t size = (int64_t)wg_dtype_size(b->one.dtype);
    for (int64_t at = from; at < to; at++) {
        int64_t rest = at, offset[3] = {0};
        for (int k = b->rank - 1; k >= 0; k--) {
            for (int i = 0; i < 3; i++)
                offset[i] += rest % b->dim[k] * b->step[i][k];
            rest /= b->dim[k];
        }
        wg_gemm g = b->one;
        g.a.data = (char *)g.a.data + offset[0] * size;
        g.b.data = (char *)g.b.data + offset[1] * size;
        g.c.data = (char *)g.c.data + offset[2] * size;
        wg__gemm(b->team, &g);
    }
}

/* The first of out = A B + beta out, and the steps to the others. */
static wg_gemm first_of(const wg_call *call, double beta, int64_t step[3][WG_MAX_RANK]) {
    const matmul_attr *t = call->attr;
    const wg_shape *out = call->out.shape;
    return (wg_gemm){.dtype = call->out.dtype, .m = out->dim[out->rank - 2], .n = out->dim[out->rank - 1],
                     .k = sides_of(call->in[0].shape, t->a, true).columns, .a = matrix_of(&call->in[0], t->a, step[0]),
                     .b = matrix_of(&call->in[1], t->b, step[1]), .c = matrix_of(&call->out, false, step[2]), .alpha = 1, .beta = beta};
}

/* out = A B + beta out */
static wg_status multiply(wg_call *call, double beta) {
    const wg_shape *out = call->out.shape;
    if (out->count == 0)
        return WG_OK;
    products b = {.rank = out->rank - 2, .dim = out->dim, .team = call->team};
    b.one = first_of(call, beta, b.step);
    int64_t count = out->count / (b.one.m * b.one.n), work = wg__gemm_work(&b.one);
    if (count == 1 || work >= 4 * WG_GEMM_SHARE) { /* each is shared in tiles */
        run_products(&b, 0, count);
    } else {
        b.team = &(wg_team){.threads = 1, .keep_subnormals = call->team->keep_subnormals, .isa = call->team->isa};
        wg__rows(call->team, count, wg__max(1, WG_GEMM_SHARE / 2 / work), run_products, &b);
    }
    return WG_OK;
}

static wg_status matmul_run(wg_call *call) { return multiply(call, 0); }

/* ---- A B + C, for passes: in the buffer of C where that may be overwritten ---- */

static wg_status matmul_add_shape(wg_infer *q) {
    char a[96], b[96];
    wg_status status = matmul_shape(q);
    if (status == WG_OK)
        status = wg__shape_set(&q->out, q->out.rank, q->out.dim);
    if (status == WG_OK && q->in_dtype[2] != q->dtype)
        return wg_infer_fail(q, WG_DTYPE, "a product of %s and a sum of %s", wg_dtype_name(q->dtype),
                             wg_dtype_name(q->in_dtype[2]));
    if (status == WG_OK && !wg__shape_same(&q->out, q->in[2]))
        return wg_infer_fail(q, WG_SHAPE, "a product %s and a sum %s", wg_shape_text(&q->out, a, sizeof a),
                             wg_shape_text(q->in[2], b, sizeof b));
    return status;
}

static wg_status matmul_add_run(wg_call *call) {
    if (call->in[2].data != call->out.data)
        wg__copy(call->team, &call->in[2], call->out.data);
    return multiply(call, 1);
}

/* Rows of op(a) make rows of the product; of a batch both operands are cut. */
static uint32_t matmul_rows(const wg_infer *q) {
    const matmul_attr *t = q->attr;
    uint32_t all = wg__rows_all(q);
    return q->out.rank > 2 ? all : t->a ? 0 : all & ~UINT32_C(2);
}

static void matmul_describe(const void *attr, char *text, size_t size) {
    const matmul_attr *t = attr;
    snprintf(text, size, "%s%s%s", t->a ? "transpose_a" : "", t->a && t->b ? " " : "", t->b ? "transpose_b" : "");
}

static const wg_op matmul_add = {.name = "matmul_add", .arity = 3, .kind = WG_PRODUCT,
    .traits = WG_TAKES_STRIDES | WG_ADDS_TO_LAST, .attr_size = sizeof(matmul_attr), .shape = matmul_add_shape,
    .run = matmul_add_run, .rows = matmul_rows, .describe = matmul_describe};

/* ---- A^T B, for passes, where B is in pieces, rows after rows: operands are A and the pieces ---- */

static wg_status matmul_pieces_shape(wg_infer *q) {
    const wg_shape *a = q->in[0];
    int64_t rows = 0;
    q->dtype = q->in_dtype[0];
    for (int i = 1; i < q->n; i++) {
        if (a->rank != 2 || q->in[i]->rank != 2 || q->in[i]->dim[1] != q->in[1]->dim[1] || q->in_dtype[i] != q->dtype)
            return wg_infer_fail(q, WG_SHAPE, "%s of %s by a piece %s", WG_SHAPE_TEXT(a), wg_dtype_name(q->dtype), WG_SHAPE_TEXT(q->in[i]));
        rows += q->in[i]->dim[0];
    }
    if (q->n < 2 || q->n > 1 + WG_MOST_PRODUCTS || rows != a->dim[0])
        return wg_infer_fail(q, WG_SHAPE, "%s by %d pieces of %lld rows", WG_SHAPE_TEXT(a), q->n - 1, (long long)rows);
    return wg__shape_set(&q->out, 2, (const int64_t[]){a->dim[1], q->in[1]->dim[1]});
}

/* The products that it is the sum of. */
static void pieces_of(const wg_call *call, wg_gemm *g) {
    const int64_t *out = call->out.shape->dim, size = (int64_t)wg_dtype_size(call->out.dtype);
    wg_matrix a = matrix_of(&call->in[0], true, NULL);
    for (int i = 1; i < call->n; i++) {
        const int64_t k = call->in[i].shape->dim[0];
        g[i - 1] = (wg_gemm){.dtype = call->out.dtype, .m = out[0], .n = out[1], .k = k, .a = a, .b = matrix_of(&call->in[i], false, NULL),
                             .c = matrix_of(&call->out, false, NULL), .alpha = 1, .beta = i > 1};
        a.data = (char *)a.data + k * a.column * size;
    }
}

static wg_status matmul_pieces_run(wg_call *call) {
    wg_gemm g[WG_MOST_PRODUCTS];
    if (call->out.shape->count == 0)
        return WG_OK;
    pieces_of(call, g);
    wg__gemm_sum(call->team, call->n - 1, g);
    return WG_OK;
}

const wg_op wg__op_matmul_pieces = {.name = "matmul_pieces", .arity = -1, .kind = WG_PRODUCT, .traits = WG_TAKES_STRIDES,
    .shape = matmul_pieces_shape, .run = matmul_pieces_run};

/* ---- derivative: products again, with the flags in place of transposes ---- */

static wg_var product(wg_var a, wg_var b, bool transpose_a, bool transpose_b);

/* y = A B: dA = g B^T and dB = A^T g; of an operand read transposed, the transpose of that. */
static void matmul_vjp(const wg_rule *r, wg_var *dx) {
    const matmul_attr *t = r->attr;
    wg_var a = r->in[0], b = r->in[1];
    if (r->need[0])
        dx[0] = t->a ? product(b, r->g, t->b, true) : product(r->g, b, false, !t->b);
    if (r->need[1])
        dx[1] = t->b ? product(r->g, a, true, t->a) : product(a, r->g, !t->a, false);
}

static wg_var nn_example(const wg_var *in) { return wg_matmul(in[0], in[1], false, false); }
static wg_var tn_example(const wg_var *in) { return wg_matmul(in[0], in[1], true, false); }
static wg_var nt_example(const wg_var *in) { return wg_matmul(in[0], in[1], false, true); }
static wg_var tt_example(const wg_var *in) { return wg_matmul(in[0], in[1], true, true); }
static const wg_example matmul_examples[] = {
    {"2,3 3,4", -2, 2, nn_example},     {"3,2 3,4", -2, 2, tn_example},     {"2,3 4,3", -2, 2, nt_example},
    {"3,2 4,3", -2, 2, tt_example},     {"2,2,3 3,4", -2, 2, nn_example},   {"2,3,2 3,4", -2, 2, tn_example},
    {"2,3 2,4,3", -2, 2, nt_example},   {"2,1,2,3 3,3,2", -2, 2, nn_example}, {"3 3,2", -2, 2, nn_example},
    {"2,3,4 4", -2, 2, nn_example},     {"3 3", -2, 2, nn_example},         {"1,1 1,1", -2, 2, tt_example},
    {0}};

const wg_op wg__op_matmul = {.name = "matmul", .arity = 2, .kind = WG_PRODUCT,
    .traits = WG_IS_MULTILINEAR | WG_TAKES_STRIDES, .attr_size = sizeof(matmul_attr), .shape = matmul_shape,
    .run = matmul_run, .rows = matmul_rows, .vjp = matmul_vjp, .accumulate = &matmul_add, .examples = matmul_examples,
    .describe = matmul_describe};

bool wg__is_products(const wg_op *op, const wg_shape *out) { return (op == &wg__op_matmul || op == &wg__op_matmul_pieces) && out->rank == 2; }

int wg__products_of(const wg_call *call, struct wg_gemm *g) {
    if (call->op == &wg__op_matmul_pieces) {
        pieces_of(call, g);
        return call->n - 1;
    }
    *g = first_of(call, 0, (int64_t[3][WG_MAX_RANK]){0});
    return 1;
}

static wg_var product(wg_var a, wg_var b, bool transpose_a, bool transpose_b) {
    static const matmul_attr forms[2][2] = {{{0, 0}, {0, 1}}, {{1, 0}, {1, 1}}};
    return wg_apply(&wg__op_matmul, 2, (const wg_var[]){a, b}, &forms[transpose_a][transpose_b]);
}

/* ---- the builder ---- */

/* Whether both operands' shapes may be read; else the tape has its failure. */
static bool operands(wg_var a, wg_var b, const char *name) {
    if (wg__operand(a, name) && wg__operand(b, name))
        return true;
    wg__fail(wg__tape_of(2, (const wg_var[]){a, b}), WG_ARGUMENT, name, "an operand is not a valid var");
    return false;
}

static wg_var none(wg_var a, wg_var b) { return wg__var(wg__tape_of(2, (const wg_var[]){a, b}), 0); }

/* The batch axes of both, broadcast; false, with the tape's failure set, if the shapes do not fit. */
static bool batch_axes(const wg_shape *a, const wg_shape *b, sides x, sides y, wg_tape *tape, wg_shape *out) {
    wg_shape left = {.rank = a->rank > 2 ? a->rank - 2 : 0}, right = {.rank = b->rank > 2 ? b->rank - 2 : 0};
    if (x.columns != y.rows) {
        wg__fail(tape, WG_SHAPE, "matmul", "%s by %s: inner sizes %lld and %lld differ", WG_SHAPE_TEXT(a),
                 WG_SHAPE_TEXT(b), (long long)x.columns, (long long)y.rows);
        return false;
    }
    wg__shape_set(&left, left.rank, a->dim);
    wg__shape_set(&right, right.rank, b->dim);
    if (wg__broadcast(&left, &right, out))
        return true;
    wg__fail(tape, WG_SHAPE, "matmul", "%s by %s: the batch sizes do not broadcast", WG_SHAPE_TEXT(a),
             WG_SHAPE_TEXT(b));
    return false;
}

/* x as matrices with these batch axes. */
static wg_var as_batch(wg_var x, bool left, const wg_shape *batch) {
    wg_dims dims = wg__dims(batch->rank + 2, (const int64_t[WG_MAX_RANK]){0});
    for (int k = 0; k < batch->rank; k++)
        dims.dim[k] = batch->dim[k];
    int64_t last = wg_dim(x, -1);
    if (wg_rank(x) == 1) {
        dims.dim[dims.rank - 2] = left ? 1 : last;
        dims.dim[dims.rank - 1] = left ? last : 1;
        x = wg_reshape(x, 2, dims.dim + dims.rank - 2);
    } else {
        dims.dim[dims.rank - 2] = wg_dim(x, -2);
        dims.dim[dims.rank - 1] = last;
    }
    wg_shape shape;
    if (wg__shape_set(&shape, dims.rank, dims.dim) != WG_OK)
        return wg__fail(x.tape, WG_RANGE, "matmul", "the result would have too many elements");
    return wg_var_shape(x) && wg__shape_same(wg_var_shape(x), &shape) ? x : wg_broadcast_to(x, dims.rank, dims.dim);
}

/* One matrix B for every A: the rows of all A under each other make one product. */
static wg_var stacked(wg_var a, wg_var b, bool transpose_b) {
    int64_t inner = wg_dim(a, -1), rows = 1;
    wg_dims out = wg__dims_of(a);
    for (int k = 0; k < out.rank - 1; k++)
        rows *= out.dim[k];
    wg_var y = product(wg_reshape(a, 2, (const int64_t[]){rows, inner}), b, false, transpose_b);
    out.dim[out.rank - 1] = wg_dim(y, -1);
    return wg_reshape(y, out.rank, out.dim);
}

wg_var wg_matmul(wg_var a, wg_var b, bool transpose_a, bool transpose_b) {
    if (wg__recordable(a) && wg__recordable(b) && wg__of(a)->shape->rank == 2 && wg__of(b)->shape->rank == 2)
        return product(a, b, transpose_a, transpose_b); /* the usual case */
    if (!operands(a, b, "matmul"))
        return none(a, b);
    const wg_shape *s = wg_var_shape(a), *t = wg_var_shape(b);
    wg_shape batch;
    char text[96];
    if (s->rank == 0 || t->rank == 0)
        return wg__fail(a.tape, WG_SHAPE, "matmul", "%s is a scalar", wg_shape_text(s->rank ? t : s, text, sizeof text));
    transpose_a = transpose_a && s->rank > 1;
    transpose_b = transpose_b && t->rank > 1;
    sides x = sides_of(s, transpose_a, true), y = sides_of(t, transpose_b, false);
    if (!batch_axes(s, t, x, y, a.tape, &batch))
        return wg__var(a.tape, 0);
    if (t->rank == 2 && s->rank > 2 && !transpose_a)
        return stacked(a, b, transpose_b);
    wg_var z = product(as_batch(a, true, &batch), as_batch(b, false, &batch), transpose_a, transpose_b);
    if (s->rank > 1 && t->rank > 1)
        return z;
    wg_dims out = wg__dims(batch.rank, batch.dim);
    if (s->rank > 1)
        out.dim[out.rank++] = x.rows;
    if (t->rank > 1)
        out.dim[out.rank++] = y.columns;
    return wg_reshape(z, out.rank, out.dim);
}

/* ---- outer and dot ---- */

static wg_var outer_example(const wg_var *in) { return wg_outer(in[0], in[1]); }
static const wg_example outer_examples[] = {
    {"3 4", -2, 2, outer_example}, {"2,3 2,2", -2, 2, outer_example}, {"2,3 2", -2, 2, outer_example}, {0}};

const wg_op wg__op_outer = {.name = "outer", .arity = 2, .kind = WG_COMPOSITE, .examples = outer_examples};

wg_var wg_outer(wg_var u, wg_var v) {
    if (!operands(u, v, "outer"))
        return none(u, v);
    wg_dims row = wg__dims_of(v), column = wg__dims_of(u);
    if (row.rank == 0 || column.rank == 0 || row.rank == WG_MAX_RANK || column.rank == WG_MAX_RANK)
        return wg__fail(u.tape, WG_SHAPE, "outer", "an operand has no axis, or too many");
    column.dim[column.rank++] = 1;
    row.dim[row.rank] = row.dim[row.rank - 1];
    row.dim[row.rank++ - 1] = 1;
    return wg_matmul(wg_reshape(u, column.rank, column.dim), wg_reshape(v, row.rank, row.dim), false, false);
}

static wg_var dot_example(const wg_var *in) { return wg_dot(in[0], in[1]); }
static const wg_example dot_examples[] = {
    {"3 3", -2, 2, dot_example}, {"2,3 2,3", -2, 2, dot_example}, {"2,3 3", -2, 2, dot_example}, {0}};

const wg_op wg__op_dot = {.name = "dot", .arity = 2, .kind = WG_COMPOSITE, .examples = dot_examples};

wg_var wg_dot(wg_var u, wg_var v) {
    if (!operands(u, v, "dot"))
        return none(u, v);
    const wg_shape *s = wg_var_shape(u), *t = wg_var_shape(v);
    char a[96], b[96];
    if (s->rank == 0 || t->rank == 0 || s->dim[s->rank - 1] != t->dim[t->rank - 1])
        return wg__fail(u.tape, WG_SHAPE, "dot", "%s with %s: the last sizes differ", wg_shape_text(s, a, sizeof a),
                        wg_shape_text(t, b, sizeof b));
    wg_var y = wg_mul(u, v);
    wg_dims out = wg__dims_of(y);
    if (!wg_valid(y))
        return y;
    out.dim[out.rank - 1] = 1;
    return wg_reshape(wg_sum_to(y, out.rank, out.dim), out.rank - 1, out.dim);
}

/* ---- linear: a product as cells write it ---- */

static wg_var linear_example(const wg_var *in) { return wg_linear(in[0], in[1]); }
static const wg_example linear_examples[] = {
    {"4,3 5,3", -2, 2, linear_example}, {"2,4,3 5,3", -2, 2, linear_example}, {"3 5,3", -2, 2, linear_example}, {0}};

const wg_op wg__op_linear = {.name = "linear", .arity = 2, .kind = WG_COMPOSITE, .examples = linear_examples};

wg_var wg_linear(wg_var x, wg_var W) { return wg_matmul(x, W, false, true); }
