/* test_rows.c: what ops say of their rows (wg_op.rows), held against their kernels: on rows alone they give the bits they give
 * on the whole; and no input is read whole that could be cut. Nodes come from the examples of the records, and the gradients
 * of those. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "program.h"
#include "taped.h"

enum { MOST = 48 };

/* ---- one node, its operands dense ---- */

typedef struct node {
    const wg_op *op;
    const void *attr;
    int n;
    wg_array in[MOST];
    wg_array out; /* as wg_eval has it */
} node;

static wg_infer infer_of(const node *x, const wg_array *in, const wg_shape *out, const wg_shape **shapes, wg_dtype *types) {
    for (int k = 0; k < x->n; k++) {
        shapes[k] = in[k].shape;
        types[k] = in[k].dtype;
    }
    return (wg_infer){.op = x->op, .attr = x->attr, .n = x->n, .in = shapes, .in_dtype = types, .out = *out,
                      .dtype = x->out.dtype};
}

static uint32_t mask_of(const node *x) {
    const wg_shape *shapes[MOST];
    wg_dtype types[MOST];
    wg_infer infer = infer_of(x, x->in, x->out.shape, shapes, types);
    return wg__rows_of(&infer);
}

static bool is_cut(uint32_t mask, int k) { return mask >> (k < 31 ? k : 31) & 1; }

static size_t bytes_of(const wg_shape *shape, wg_dtype dtype) { return (size_t)shape->count * wg_dtype_size(dtype); }

static size_t row_bytes(const wg_array *x) {
    return x->shape->dim[0] ? bytes_of(x->shape, x->dtype) / (size_t)x->shape->dim[0] : 0;
}

/* Whether the operand is aliased and not computed with; then how the result lies in it, its strides to be kept in `stride`. */
static bool aliases(const node *x, const wg_array *in, const wg_shape *out, int64_t *stride, wg_array *from) {
    int64_t dense[WG_MAX_RANK], offset = 0;
    *from = (wg_array){in->data, out, in->stride, in->dtype};
    if (!x->op->view)
        return x->op->kind == WG_EFFECT;
    wg__dense_strides(in->shape, dense);
    if (!x->op->view(x->attr, in->shape, in->stride ? in->stride : dense, out, stride, &offset))
        return false;
    from->stride = stride;
    from->data = (char *)in->data + offset * (int64_t)wg_dtype_size(in->dtype);
    return true;
}

/* The node's op on other operands: its alias, or its kernel. */
static wg_status run(const node *x, int threads, const wg_array *in, const wg_array *out) {
    const wg_shape *shapes[MOST];
    wg_dtype types[MOST];
    char text[256];
    wg_team team = wg__team_of(&(wg_run_options){.threads = threads});
    wg_array from;
    int64_t stride[WG_MAX_RANK];
    if (aliases(x, in, out->shape, stride, &from)) {
        wg__copy(&team, &from, out->data);
        return WG_OK;
    }
    wg_infer infer = infer_of(x, in, out->shape, shapes, types);
    size_t scratch = x->op->scratch ? x->op->scratch(&infer) : 0;
    wg_call call = {.op = x->op, .attr = x->attr, .n = x->n, .in = in, .out = *out, .team = &team, .text = text,
                    .text_size = sizeof text, .scratch = aligned_alloc(64, scratch / 64 * 64 + 64)};
    wg_status status = wg__kernel(x->op)(&call);
    free(call.scratch);
    return status;
}

/* ---- the nodes of a tape ---- */

typedef void visitor(void *user, const node *x);

/* Every node of the tape that is no leaf; false if it does not run. */
static bool visit(wg_tape *tape, visitor *see, void *user) {
    int n = (int)wg_tape_count(tape);
    wg_var *all = malloc((size_t)n * sizeof *all);
    wg_tensor **value = calloc((size_t)n, sizeof *value);
    for (int i = 0; i < n; i++)
        all[i] = wg__var(tape, i + 1);
    wg_status status = wg_eval(n, all, value, NULL);
    for (int i = 0; i < n && status == WG_OK; i++) {
        const wg_node *at = wg__of(all[i]);
        node x = {.op = at->op, .attr = at->attr, .n = (int)at->n};
        if (at->op->kind == WG_LEAF)
            continue;
        for (int k = 0; k < x.n; k++) {
            wg_tensor *in = value[wg__inputs(at)[k] - 1];
            x.in[k] = (wg_array){(void *)(uintptr_t)wg_tensor_data(in), wg_tensor_shape(in), NULL, wg_tensor_dtype(in)};
        }
        x.out = (wg_array){(void *)(uintptr_t)wg_tensor_data(value[i]), at->shape, NULL, (wg_dtype)at->dtype};
        see(user, &x);
    }
    for (int i = 0; i < n; i++)
        wg_tensor_free(value[i]);
    free(value);
    free(all);
    return status == WG_OK;
}

/* How the sizes of an example are changed: as they are; larger; all 3, so that axes look alike. */
typedef enum sizes { AS_GIVEN, LARGER, SQUARE, SIZES } sizes;

static int64_t resized(int64_t size, sizes how) {
    return size < 2 || how == AS_GIVEN ? size : how == LARGER ? 5 * size + 1 : 3;
}

typedef struct source {
    const wg_op *op;
    const wg_example *example; /* NULL: pointwise */
    const char *words;
    double low, high;
} source;

/* Records the words' leaves; returns how many. */
static int leaves(wg_tape *tape, const source *from, wg_dtype dtype, sizes how, wg_var *in) {
    wg_random random = {.seed = 7};
    const char *words = from->words;
    wg_shape shape;
    int64_t top;
    int n = 0;
    while ((words = wg__example_word(words, &shape, &top))) {
        for (int k = 0; k < shape.rank && !(top == 1000); k++) /* a key's size is its own */
            shape.dim[k] = resized(shape.dim[k], how);
        wg_tensor *tensor = wg_tensor_new(NULL, top ? WG_I32 : dtype, shape.rank, shape.dim);
        for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
            wg_tensor_set(tensor, i, top ? (double)wg_random_below(&random, (uint64_t)top)
                                         : from->low + (from->high - from->low) * wg_random_uniform(&random));
        in[n++] = wg_leaf(tape, tensor);
        wg_tensor_free(tensor);
    }
    return n;
}

/* A graph and its gradient; false if these sizes are refused. */
static bool visit_source(const source *from, wg_dtype dtype, sizes how, visitor *see, void *user) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var in[MOST], dx[MOST];
    int n = leaves(tape, from, dtype, how, in), floats = 0;
    wg_var y = from->example ? from->example->call(in) : wg__pointwise(from->op, n, in);
    bool done = wg_valid(y) && wg_tape_status(tape) == WG_OK;
    for (int k = 0; k < n; k++)
        if (wg_var_dtype(in[k]) != WG_I32)
            in[floats++] = in[k];
    if (done && wg_var_dtype(y) != WG_I32 && dtype != WG_I32)
        wg_grad(wg_sum_to(wg_mul(y, y), 0, NULL), floats, in, dx);
    wg_tape_clear(tape);
    done = done && visit(tape, see, user);
    wg_tape_free(tape);
    return done;
}

static const char *const pointwise_words[3][3] = {{"7,5", "3", "()"}, {"7,5 7,5", "7,1 5", "() 3"},
                                                  {"7,5 7,5 7,5", "5 7,1 ()", "3 3 ()"}};

static void visit_op(const wg_op *op, wg_dtype dtype, sizes how, visitor *see, void *user) {
    for (const wg_example *e = op->examples; e && e->call; e++) {
        source from = {op, e, e->inputs, e->low, e->high};
        bool done = visit_source(&from, dtype, how, see, user);
        cr_assert(done || how != AS_GIVEN, "%s of %s", op->name, e->inputs);
    }
    for (int i = 0; op->kind == WG_POINTWISE && i < 3; i++) {
        source from = {op, NULL, pointwise_words[op->arity - 1][i], op->range[0], op->range[1]};
        cr_assert(visit_source(&from, dtype, how, see, user), "%s of %s", op->name, from.words);
        if (op->traits & WG_TAKES_I32)
            cr_assert(visit_source(&from, WG_I32, how, see, user), "%s of i32", op->name);
    }
}

/* ---- rows alone against the whole ---- */

/* How a cut reads its operands. */
typedef enum layout { APART, IN_PLACE, STRIDED, LAYOUTS } layout;

/* The same elements with the first axis innermost. */
static wg_array turned(const wg_array *x, int64_t *stride) {
    int64_t step = 1, at[WG_MAX_RANK] = {0};
    size_t size = wg_dtype_size(x->dtype);
    wg_array y = *x;
    y.stride = stride;
    y.data = malloc(bytes_of(x->shape, x->dtype) + 1);
    for (int k = 0; k < x->shape->rank; k++) {
        stride[k] = step;
        step *= x->shape->dim[k];
    }
    for (int64_t i = 0; i < x->shape->count; i++) {
        int64_t to = 0;
        for (int k = 0; k < x->shape->rank; k++)
            to += at[k] * stride[k];
        memcpy((char *)y.data + (size_t)to * size, (const char *)x->data + (size_t)i * size, size);
        for (int k = x->shape->rank - 1; k >= 0 && ++at[k] == x->shape->dim[k]; k--)
            at[k] = 0;
    }
    return y;
}

static wg_shape cut_shape(const wg_shape *shape, int64_t rows) {
    wg_shape cut = *shape;
    cut.dim[0] = rows;
    wg__shape_set(&cut, cut.rank, cut.dim);
    return cut;
}

/* Bits; of products, to rounding. */
static bool agree(const node *x, const wg_shape *shape, const void *a, const void *b) {
    if (x->op->kind != WG_PRODUCT)
        return memcmp(a, b, bytes_of(shape, x->out.dtype)) == 0;
    double worst = 0, scale = 1;
    for (int64_t i = 0; i < shape->count; i++) {
        bool wide = x->out.dtype == WG_F64;
        double p = wide ? ((const double *)a)[i] : ((const float *)a)[i];
        double q = wide ? ((const double *)b)[i] : ((const float *)b)[i];
        scale = fmax(scale, fabs(p));
        worst = fmax(worst, fabs(p - q));
    }
    return worst <= scale * (x->out.dtype == WG_F64 ? 1e-13 : 1e-5);
}

/* Whether all bytes are what `place` is filled with. */
static bool untouched(const char *bytes, size_t n) {
    return n == 0 || (bytes[0] == (char)0xa5 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* Rows [a, b) from `in`, whose whole gave `whole`. */
static bool rows_agree(const node *x, uint32_t mask, layout how, const wg_array *in, const char *whole, int64_t a, int64_t b) {
    wg_shape shapes[MOST], out_shape = cut_shape(x->out.shape, b - a);
    wg_array cut[MOST];
    void *block[MOST] = {0};
    for (int k = 0; k < x->n; k++) {
        cut[k] = in[k];
        if (!is_cut(mask, k))
            continue;
        shapes[k] = cut_shape(in[k].shape, b - a);
        cut[k].shape = &shapes[k];
        cut[k].data = (char *)in[k].data + (in[k].stride ? (size_t)(a * in[k].stride[0]) * wg_dtype_size(in[k].dtype)
                                                         : (size_t)a * row_bytes(&in[k]));
        if (how == APART) { /* of its own size, so that a read beyond it is caught */
            block[k] = malloc(bytes_of(&shapes[k], in[k].dtype) + !shapes[k].count);
            memcpy(block[k], cut[k].data, bytes_of(&shapes[k], in[k].dtype));
            cut[k].data = block[k];
        }
    }
    size_t all = bytes_of(x->out.shape, x->out.dtype), row = row_bytes(&x->out);
    char *place = malloc(all + 1);
    memset(place, 0xa5, all);
    wg_array out = {place + (size_t)a * row, &out_shape, NULL, x->out.dtype};
    bool good = run(x, 1, cut, &out) == WG_OK && agree(x, &out_shape, whole + (size_t)a * row, out.data);
    good = good && untouched(place, (size_t)a * row) && untouched(place + (size_t)b * row, all - (size_t)b * row);
    for (int k = 0; k < x->n; k++)
        free(block[k]);
    free(place);
    return good;
}

/* What was compared, by op. */
typedef struct tally {
    const wg_op *op[256];
    int cut[256][2]; /* of f32 (or no float), of f64 */
    int ops;
    int64_t done;
} tally;

static int *count_of(tally *t, const wg_op *op) {
    int i = 0;
    while (i < t->ops && t->op[i] != op)
        i++;
    if (i == t->ops)
        t->op[t->ops++] = op;
    return t->cut[i];
}

static void compare_rows(void *user, const node *x) {
    tally *t = user;
    uint32_t mask = mask_of(x);
    int64_t n = mask ? x->out.shape->dim[0] : 0, stride[MOST][WG_MAX_RANK];
    size_t all = bytes_of(x->out.shape, x->out.dtype);
    char *whole = malloc(all + 1);
    count_of(t, x->op)[x->out.dtype == WG_F64 || (x->n && x->in[0].dtype == WG_F64)] += n > 1;
    for (layout how = APART; how < LAYOUTS && n > 0; how++) {
        wg_array in[MOST], out = {whole, x->out.shape, NULL, x->out.dtype};
        if (how == STRIDED && !(x->op->traits & WG_TAKES_STRIDES))
            continue;
        for (int k = 0; k < x->n; k++)
            in[k] = how == STRIDED ? turned(&x->in[k], stride[k]) : x->in[k];
        cr_assert_eq(run(x, 2, in, &out), WG_OK, "%s", x->op->name);
        cr_assert(agree(x, x->out.shape, x->out.data, whole), "%s: the whole", x->op->name);
        for (int64_t a = 0; a < n; a += n > 8 ? n / 5 : 1)
            for (int64_t b = a + 1; b <= n; b = b == n ? n + 1 : n > 8 ? wg__min(n, b + n / 2) : b + 1, t->done++)
                cr_expect(rows_agree(x, mask, how, in, whole, a, b), "%s %s, rows [%lld,%lld) of %s, layout %d",
                          wg_dtype_name(x->out.dtype), x->op->name, (long long)a, (long long)b,
                          WG_SHAPE_TEXT(x->out.shape), how);
        for (int k = 0; k < x->n && how == STRIDED; k++)
            free(in[k].data);
    }
    free(whole);
}

/* Ops whose results have no rows of their own, whatever the operands. */
static const char *const never[] = {
    "random_next", /* the step carries from word to word */
    "uniform",     /* element i is drawn by its number in the whole */
    "normal", "bernoulli"};

static bool is_never(const char *name) {
    for (int i = 0; i < WG_LEN(never); i++)
        if (strcmp(never[i], name) == 0)
            return true;
    return false;
}

Test(rows, alone_give_the_bits_of_the_whole_in_every_op) {
    tally t = {0};
    for (int type = 0; type < 2; type++)
        for (sizes how = AS_GIVEN; how < SIZES; how++)
            for (int i = 0; i < wg_op_count(); i++)
                visit_op(wg_op_list()[i].op, type ? WG_F64 : WG_F32, how, compare_rows, &t);
    int records = 0, internal = 0;
    for (int i = 0; i < wg_op_count(); i++) {
        const wg_op *op = wg_op_list()[i].op;
        if (op->kind == WG_COMPOSITE)
            continue;
        const int *cut = count_of(&t, op);
        records++;
        if (is_never(op->name))
            cr_expect(!cut[0] && !cut[1], "%s has rows", op->name);
        else
            cr_expect(cut[0] && cut[1], "%s was compared in %d and %d nodes", op->name, cut[0], cut[1]);
    }
    for (int i = 0; i < t.ops; i++) /* what only other ops record */
        if (strcmp(t.op[i]->name, "softmax_residual") == 0 || strcmp(t.op[i]->name, "label_weight") == 0)
            internal += t.cut[i][0] && t.cut[i][1];
    cr_assert(internal == 2 && records > 60 && t.done > 50000, "%d records, %d internal, %lld comparisons", records,
              internal, (long long)t.done);
}

/* ---- inputs read whole ---- */

typedef struct finding {
    char text[1024];
} finding;

/* Row r of input k anew: floats from a wide range, integers among those that are there. */
static void redraw(const wg_array *x, char *data, int64_t r, wg_random *random, int round) {
    int64_t n = x->shape->dim[0] ? x->shape->count / x->shape->dim[0] : 0;
    for (int64_t i = r * n; i < (r + 1) * n; i++) {
        double value = wg_random_normal(random) * (round ? 100 : 1);
        if (x->dtype == WG_F32)
            ((float *)data)[i] = (float)value;
        else if (x->dtype == WG_F64)
            ((double *)data)[i] = value;
        else
            ((int32_t *)data)[i] = ((const int32_t *)x->data)[wg_random_below(random, (uint64_t)x->shape->count)];
    }
}

/* Whether redrawing any row of input k changes that row of the result alone. */
static bool looks_cut(const node *x, int k) {
    wg_random random = {.seed = 11};
    wg_array in[MOST], out = x->out;
    size_t size = bytes_of(x->in[k].shape, x->in[k].dtype), all = bytes_of(x->out.shape, x->out.dtype);
    size_t row = row_bytes(&x->out);
    char *before = malloc(all + 1);
    bool looks = true;

    memcpy(in, x->in, sizeof *in * (size_t)x->n);
    in[k].data = malloc(size + 1);
    out.data = before;
    cr_assert_eq(run(x, 1, x->in, &out), WG_OK, "%s", x->op->name);
    out.data = malloc(all + 1);
    for (int64_t r = 0; r < x->out.shape->dim[0]; r++)
        for (int round = 0; round < 2 && looks; round++) {
            memcpy(in[k].data, x->in[k].data, size);
            redraw(&x->in[k], in[k].data, r, &random, round);
            cr_assert_eq(run(x, 1, in, &out), WG_OK, "%s", x->op->name);
            for (int64_t s = 0; s < x->out.shape->dim[0] && looks; s++)
                looks = s == r || memcmp(before + (size_t)s * row, (char *)out.data + (size_t)s * row, row) == 0;
        }
    free(in[k].data);
    free(out.data);
    free(before);
    return looks;
}

static void find_whole(void *user, const node *x) {
    finding *f = user;
    uint32_t mask = mask_of(x);
    int64_t rows = x->out.shape->rank > 0 ? x->out.shape->dim[0] : 0;
    for (int k = 0; k < x->n && rows > 1; k++) {
        char line[192];
        if (is_cut(mask, k) || x->in[k].shape->rank == 0 || x->in[k].shape->dim[0] != rows || !looks_cut(x, k))
            continue;
        snprintf(line, sizeof line, "%s input %d of %s\n", x->op->name, k, WG_SHAPE_TEXT(x->in[k].shape));
        if (!strstr(f->text, line))
            snprintf(f->text + strlen(f->text), sizeof f->text - strlen(f->text), "%s", line);
    }
}

Test(rows, no_input_is_read_whole_that_could_be_cut) {
    finding f = {""};
    for (sizes how = AS_GIVEN; how < SIZES; how++)
        if (how != LARGER)
            for (int i = 0; i < wg_op_count(); i++)
                visit_op(wg_op_list()[i].op, WG_F64, how, find_whole, &f);
    cr_expect_str_eq(f.text, "random_next input 0 of (4)\n", "found: %s", f.text); /* its carry is rare, but there */
}

/* ---- sizes at which kernels cut their work into blocks ---- */

static wg_var leaf_of(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim) {
    wg_tensor *tensor = taped_random(NULL, dtype, rank, dim, 5);
    wg_var leaf = wg_leaf(tape, tensor);
    wg_tensor_free(tensor);
    return leaf;
}

/* Rows of very different sizes, so that norms scale some of them. */
static wg_var spread(wg_var x) {
    const double scale[] = {1e-200, 1, 1e200, 1e-30};
    wg_dims dims = wg__dims_of(x);
    wg_tensor *tensor = wg_tensor_new(NULL, wg_var_dtype(x), dims.rank, dims.dim);
    for (int64_t i = 0, n = wg_tensor_shape(tensor)->count; i < n; i++)
        wg_tensor_set(tensor, i, scale[i * dims.dim[0] / n % WG_LEN(scale)]);
    wg_var y = wg_mul(x, wg_leaf(x.tape, tensor));
    wg_tensor_free(tensor);
    return y;
}

static void record_wide(wg_tape *tape, wg_var x, int axis) {
    wg_sum(x, 1, &axis, true);
    wg_reduce_max(x, 1, &axis, true);
    wg_reduce_min(x, 1, &axis, true);
    wg_norm(wg_var_dtype(x) == WG_F64 ? spread(x) : x, 1, &axis, true);
    wg_logsumexp(x, 1, &axis, true);
    wg_softmax(x, axis);
    wg_log_softmax(x, axis);
    wg_cumsum(x, axis);
    wg_argmax(x, axis, true);
    wg_layer_norm(x, 1e-5);
    wg_rms_norm(x, 1e-5);
    wg_norm_scale(x, 1e-5, true);
    wg_norm_project(x, wg_tanh(x), true);
    wg_tanh(wg_mul(x, wg_transpose(wg_transpose(x))));
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
}

Test(rows, alone_give_the_bits_of_the_whole_where_kernels_work_in_blocks) {
    const int64_t dims[][3] = {{3, 40001, 0}, {3, 1027, 0}, {3, 100, 701}, {30, 37, 11}};
    tally t = {0};
    for (int i = 0; i < WG_LEN(dims); i++)
        for (int type = 0; type < 2; type++) {
            wg_tape *tape = wg_tape_new(NULL);
            record_wide(tape, leaf_of(tape, type ? WG_F64 : WG_F32, dims[i][2] ? 3 : 2, dims[i]), 1);
            cr_assert(visit(tape, compare_rows, &t));
            wg_tape_free(tape);
        }
    cr_assert(t.done > 1500, "%lld", (long long)t.done);
}

/* ---- ops that passes put in; products ---- */

Test(rows, alone_give_products_to_rounding_and_copies_to_the_bit) {
    const wg_op *matmul = wg_op_find("matmul")->op, *sum = matmul->accumulate;
    tally t = {0};
    for (int type = 0; type < 2; type++) {
        wg_dtype dtype = type ? WG_F64 : WG_F32;
        wg_tape *tape = wg_tape_new(NULL);
        wg_var a = leaf_of(tape, dtype, 2, (const int64_t[]){301, 70}), b = leaf_of(tape, dtype, 2, (const int64_t[]){70, 40});
        wg_var c = leaf_of(tape, dtype, 2, (const int64_t[]){301, 40}), y = wg_matmul(a, b, false, false);
        wg_matmul(a, wg_reshape(b, 2, (const int64_t[]){40, 70}), false, true);
        wg_apply(sum, 3, (const wg_var[]){a, b, c}, wg__of(y)->attr);
        wg_var p = leaf_of(tape, dtype, 3, (const int64_t[]){9, 8, 7}), q = leaf_of(tape, dtype, 3, (const int64_t[]){9, 7, 6});
        wg_var pq = wg_matmul(p, q, false, false);
        wg_apply(sum, 3, (const wg_var[]){p, q, pq}, wg__of(pq)->attr);
        wg_apply(&wg__op_copy, 1, &p, NULL);
        cr_assert(visit(tape, compare_rows, &t), "%s", wg_tape_message(tape));
        wg_tape_free(tape);
        cr_expect(count_of(&t, matmul)[type] == 3 && count_of(&t, sum)[type] == 2 && count_of(&t, &wg__op_copy)[type] == 1);
    }
}

/* ---- the rule of each op, by cases ---- */

static uint32_t mask_of_var(wg_var y) {
    const wg_shape *shapes[MOST];
    wg_dtype types[MOST];
    cr_assert(wg_valid(y), "%s", wg_tape_message(y.tape));
    const wg_node *at = wg__of(y);
    for (uint32_t k = 0; k < at->n; k++) {
        const wg_node *in = wg__node(y.tape, wg__inputs(at)[k]);
        shapes[k] = in->shape;
        types[k] = (wg_dtype)in->dtype;
    }
    wg_infer infer = {.op = at->op, .attr = at->attr, .n = (int)at->n, .in = shapes, .in_dtype = types, .out = *at->shape,
                      .dtype = (wg_dtype)at->dtype};
    return wg__rows_of(&infer);
}

#define DIMS(...) (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}
#define LEAF(...) leaf_of(tape, WG_F32, DIMS(__VA_ARGS__))
#define WHOLE(...) leaf_of(tape, WG_I32, DIMS(__VA_ARGS__))
#define HAS(mask, y) cr_expect_eq(mask_of_var(y), mask, "%s, not %x", #y, (unsigned)mask_of_var(y))

Test(rows, of_views_are_cut_where_axis_0_is_left_alone) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var m = LEAF(4, 6), v = LEAF(4), s = wg_sum(v, 0, NULL, false);
    HAS(1, wg_reshape(m, DIMS(4, 2, 3)));
    HAS(1, wg_reshape(v, DIMS(4, 1)));
    HAS(0, wg_reshape(m, DIMS(8, 3)));
    HAS(0, wg_reshape(v, DIMS(1, 4)));
    HAS(0, wg_reshape(s, DIMS(1)));
    HAS(1, wg_permute(LEAF(4, 5, 6), 3, (const int[]){-3, 2, 1}));
    HAS(0, wg_transpose(m));
    HAS(1, wg_broadcast_to(LEAF(4, 1), DIMS(4, 6)));
    HAS(0, wg_broadcast_to(v, DIMS(4, 4))); /* row r is the whole of v */
    HAS(0, wg_broadcast_to(LEAF(1, 6), DIMS(4, 6)));
    HAS(1, wg_slice(m, 1, 2, 3));
    HAS(1, wg_slice(m, 0, 0, 4));
    HAS(0, wg_slice(m, 0, 1, 3));
    HAS(1, wg_flip(m, -1));
    HAS(0, wg_flip(m, -2));
    HAS(1, wg_stop_gradient(m));
    HAS(0, wg_stop_gradient(s));
    HAS(1, wg_guard(m));
    HAS(0, wg_guard(s));
    wg_tape_free(tape);
}

Test(rows, of_computed_values_follow_the_rule_of_the_op) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var m = LEAF(4, 6), v = LEAF(4), s = wg_sum(v, 0, NULL, false), w = LEAF(6, 4), i4 = WHOLE(4);
    HAS(0, m);
    HAS(1, wg_tanh(m));
    HAS(3, wg_add(m, wg_c(1)));
    HAS(7, wg_where(m, m, wg_c(0)));
    HAS(0, wg_tanh(s));
    HAS(1, wg_cast(m, WG_F64));
    HAS(1, wg_matmul(m, w, false, false));
    HAS(1, wg_matmul(m, m, false, true));
    HAS(0, wg_matmul(w, w, true, false)); /* a row is a column of w */
    HAS(3, wg_matmul(LEAF(4, 5, 6), LEAF(4, 5, 6), true, false));
    HAS(1, wg_softmax(m, 1));
    HAS(0, wg_softmax(v, 0));
    HAS(1, wg_logsumexp(m, 1, (const int[]){1}, false));
    HAS(0, wg_logsumexp(v, 0, NULL, false));
    HAS(0, wg_layer_norm(v, 0));
    HAS(0, wg_cumsum(v, 0));
    HAS(0, wg_argmax(v, 0, false));
    HAS(1, wg_sum_to(m, DIMS(4, 1)));
    HAS(1, wg_sum_to(LEAF(1, 6), DIMS(1, 1)));
    HAS(0, wg_sum_to(m, DIMS(1, 6)));
    HAS(0, wg_sum_to(LEAF(4, 4), DIMS(4))); /* over axis 0 */
    HAS(1, wg_norm(m, 1, (const int[]){1}, true));
    HAS(0, wg_norm(m, 1, (const int[]){0}, true));
    HAS(3, wg_concat(2, (const wg_var[]){m, m}, -1));
    HAS(0, wg_concat(2, (const wg_var[]){m, m}, 0));
    HAS(1, wg_gather(m, WHOLE(2, 2), -1));
    HAS(2, wg_gather(m, i4, 0));
    HAS(0, wg_gather(m, wg_cast(s, WG_I32), 0));
    HAS(1, wg_scatter_add(m, WHOLE(6), 1, 9));
    HAS(0, wg_scatter_add(m, i4, 0, 4));
    HAS(1, wg_one_hot(i4, 3, WG_F32));
    HAS(0, wg_one_hot(wg_cast(s, WG_I32), 3, WG_F32));
    HAS(3, wg_softmax_cross_entropy_rows(m, i4, -1));
    HAS(0, wg_softmax_cross_entropy_rows(v, wg_cast(s, WG_I32), -1));
    HAS(0, wg_random_next(i4));
    HAS(0, wg_uniform(i4, WG_F32, DIMS(4, 6), 0, 1));
    wg_tape_free(tape);
}

Test(rows, of_products_that_add_are_cut_like_the_product_and_its_sum) {
    wg_tape *tape = wg_tape_new(NULL);
    const wg_op *sum = wg_op_find("matmul")->op->accumulate;
    wg_var m = LEAF(4, 6), w = LEAF(6, 4), b = LEAF(4, 5, 6), plain = wg_matmul(m, w, false, false);
    wg_var crossed = wg_matmul(w, m, true, true), batch = wg_matmul(b, b, false, true);
    HAS(5, wg_apply(sum, 3, (const wg_var[]){m, w, plain}, wg__of(plain)->attr));
    HAS(0, wg_apply(sum, 3, (const wg_var[]){w, m, crossed}, wg__of(crossed)->attr));
    HAS(7, wg_apply(sum, 3, (const wg_var[]){b, b, batch}, wg__of(batch)->attr));
    wg_tape_free(tape);
}

/* ---- many inputs; ops of one's own ---- */

Test(rows, of_more_than_32_inputs_share_the_last_bit) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x[40];
    for (int k = 0; k < 40; k++)
        x[k] = LEAF(4, 2);
    HAS(UINT32_MAX, wg_concat(40, x, 1));
    HAS(UINT32_MAX, wg_concat(32, x, 1));
    HAS(UINT32_MAX >> 1, wg_concat(31, x, 1));
    HAS(0, wg_concat(40, x, 0));
    tally t = {0};
    cr_assert(visit(tape, compare_rows, &t));
    wg_tape_free(tape);
}

static wg_status like_first(wg_infer *infer) {
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}
static uint32_t both(const wg_infer *infer) { return infer->n > 0 ? 3 : 0; }

Test(rows, of_ops_of_ones_own_follow_their_rule_where_it_fits_the_shapes) {
    static const wg_op pointwise = {.name = "four", .arity = 4, .kind = WG_POINTWISE};
    static const wg_op silent = {.name = "silent", .arity = 2, .kind = WG_MOVE, .shape = like_first};
    static const wg_op saying = {.name = "saying", .arity = -1, .kind = WG_MOVE, .shape = like_first, .rows = both};
    wg_tape *tape = wg_tape_new(NULL);
    wg_var m = LEAF(4, 6), w = LEAF(6, 4), s = wg_sum(m, 0, NULL, false);
    HAS(15, wg_apply(&pointwise, 4, (const wg_var[]){m, m, m, m}, NULL));
    HAS(0, wg_apply(&silent, 2, (const wg_var[]){m, m}, NULL));
    HAS(3, wg_apply(&saying, 2, (const wg_var[]){m, LEAF(4)}, NULL));
    HAS(0, wg_apply(&saying, 2, (const wg_var[]){m, w}, NULL)); /* w has six rows */
    HAS(0, wg_apply(&saying, 2, (const wg_var[]){m, s}, NULL)); /* s has none */
    HAS(0, wg_apply(&saying, 2, (const wg_var[]){s, s}, NULL));
    HAS(0, wg_apply(&saying, 1, (const wg_var[]){m}, NULL)); /* there is no second */
    wg_tape_free(tape);
}
