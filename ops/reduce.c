/* reduce.c: sums, products, extremes, norms and scans along axes. Their loops are stamped by fold.h; axes are numbered
 * from 0, or from the end by negative numbers. */
#include "sums.h"

#include <math.h>

/* The operand checked, and the axes a builder was given. */
#define AXES(name)                                                                                 \
    wg_axes to;                                                                                    \
    if (!wg__axes(x, name, n_axes, axes, &to))                                                     \
        return wg__var(wg__tape_of(1, &x), 0);

/* A result that has its reduced axes as 1, with them or without. */
static wg_var settled(wg_var y, const wg_axes *to, bool keepdims) {
    return keepdims || to->left.rank == to->kept.rank ? y : wg_reshape(y, to->left.rank, to->left.dim);
}

static size_t fold_scratch(const wg_infer *q) { return wg__fold_scratch(q->in[0], &q->out); }

static wg_status fold_run(const wg_folder *folder, const wg_call *call) {
    wg__fold(folder, call->team, &call->in[0], &call->out, call->scratch);
    return WG_OK;
}

/* ---- sum_to, sum, mean ---- */

static wg_status sum_to_run(wg_call *call) { return fold_run(&wg__sums_of(call->team->isa)->sum, call); }

static void sum_to_vjp(const wg_rule *r, wg_var *dx) {
    dx[0] = wg__broadcast_to(r->g, wg_var_shape(r->in[0]));
}

static wg_var sum_to_example(const wg_var *in) { return wg_sum_to(in[0], 2, (const int64_t[]){3, 1}); }
static wg_var sum_all_example(const wg_var *in) { return wg_sum_to(in[0], 0, NULL); }
static wg_var sum_ends_example(const wg_var *in) { return wg_sum_to(in[0], 3, (const int64_t[]){1, 3, 1}); }
static const wg_example sum_to_examples[] = {{"2,3,4", -2, 2, sum_to_example},
                                             {"2,3", -2, 2, sum_all_example},
                                             {"2,3,4", -2, 2, sum_ends_example},
                                             {"1,3,1", -2, 2, sum_ends_example},
                                             {0}};

const wg_op wg__op_sum_to = {.name = "sum_to", .arity = 1, .kind = WG_REDUCTION, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(wg_dims), .shape = wg__fold_shape, .run = sum_to_run, .scratch = fold_scratch,
    .rows = wg__rows_aligned, .vjp = sum_to_vjp, .examples = sum_to_examples, .describe = wg__describe_dims};

wg_var wg_sum_to(wg_var x, int rank, const int64_t *dim) {
    wg_dims to = wg__dims(rank, dim);
    return wg_apply(&wg__op_sum_to, 1, &x, &to);
}

wg_var wg__sum_to(wg_var x, const wg_shape *shape) {
    if (wg_var_shape(x) == shape)
        return x;
    return wg__recordable(x) && wg__of(x)->dtype != WG_I32 && wg__broadcasts(shape, wg__of(x)->shape)
               ? wg__record_to(&wg__op_sum_to, x, shape)
               : wg_sum_to(x, shape->rank, shape->dim);
}

/* Examples over all axes, the first, the last two, the ends with keepdims; of every rank down to a scalar. */
#define AXES_EXAMPLES(op, low, high)                                                               \
    static wg_var op##_all(const wg_var *in) { return wg_##op(in[0], 0, NULL, false); }            \
    static wg_var op##_first(const wg_var *in) { return wg_##op(in[0], 1, (const int[]){0}, false); } \
    static wg_var op##_last(const wg_var *in) { return wg_##op(in[0], 2, (const int[]){-1, 1}, false); } \
    static wg_var op##_ends(const wg_var *in) { return wg_##op(in[0], 2, (const int[]){0, 2}, true); } \
    static const wg_example op##_examples[] = {                                                    \
        {"2,3", low, high, op##_all}, {"()", low, high, op##_all},   {"3,2", low, high, op##_first}, \
        {"5", low, high, op##_first}, {"2,3,4", low, high, op##_last}, {"2,3,2", low, high, op##_ends}, \
        {"1,3,1", low, high, op##_ends}, {0}};

AXES_EXAMPLES(sum, -2, 2)
const wg_op wg__op_sum = {.name = "sum", .arity = 1, .kind = WG_COMPOSITE, .examples = sum_examples};

wg_var wg_sum(wg_var x, int n_axes, const int *axes, bool keepdims) {
    AXES("sum")
    return settled(wg_sum_to(x, to.kept.rank, to.kept.dim), &to, keepdims);
}

AXES_EXAMPLES(mean, -2, 2)
const wg_op wg__op_mean = {.name = "mean", .arity = 1, .kind = WG_COMPOSITE, .examples = mean_examples};

wg_var wg_mean(wg_var x, int n_axes, const int *axes, bool keepdims) {
    AXES("mean")
    double count = 1;
    for (int k = 0; k < to.kept.rank; k++)
        count *= to.gone[k] ? (double)wg_dim(x, k) : 1;
    return settled(wg_div(wg_sum_to(x, to.kept.rank, to.kept.dim), wg_c(count)), &to, keepdims);
}

/* ---- reduce_max, reduce_min ---- */

#define LARGER(a, b) ((((b) > (a)) | ((b) != (b))) ? (b) : (a)) /* | and not ||: no jumps */
#define SMALLER(a, b) ((((b) < (a)) | ((b) != (b))) ? (b) : (a))
WG_FOLDER(max, -(double)INFINITY, LARGER, LARGER, NULL)
WG_FOLDER(min, (double)INFINITY, SMALLER, SMALLER, NULL)

static wg_status extreme_shape(wg_infer *q) {
    char text[96];
    wg_status status = wg__fold_shape(q);
    if (status == WG_OK && q->in[0]->count == 0 && q->out.count > 0)
        return wg_infer_fail(q, WG_RANGE, "an axis of %s that goes is empty", wg_shape_text(q->in[0], text, sizeof text));
    return status;
}

static wg_status max_run(wg_call *call) { return fold_run(&max_folder, call); }
static wg_status min_run(wg_call *call) { return fold_run(&min_folder, call); }

/* Places that hold the extreme value share g evenly. */
static void extreme_vjp(const wg_rule *r, wg_var *dx) {
    const wg_shape *shape = wg_var_shape(r->in[0]), *kept = wg_var_shape(r->y);
    wg_var held = wg_equal(r->in[0], wg__broadcast_to(r->y, shape));
    wg_var count = wg_sum_to(held, kept->rank, kept->dim);
    dx[0] = wg_mul(held, wg__broadcast_to(wg_div(r->g, count), shape));
}

AXES_EXAMPLES(reduce_max, -2, 2)
AXES_EXAMPLES(reduce_min, -2, 2)

#define EXTREME(op, kernel)                                                                        \
    const wg_op wg__op_##op = {.name = #op, .arity = 1, .kind = WG_REDUCTION,                      \
        .attr_size = sizeof(wg_dims), .shape = extreme_shape, .run = kernel, .scratch = fold_scratch, \
        .rows = wg__rows_aligned, .vjp = extreme_vjp, .examples = op##_examples,                   \
        .describe = wg__describe_dims};                                                            \
    wg_var wg_##op(wg_var x, int n_axes, const int *axes, bool keepdims) {                         \
        AXES(#op)                                                                                  \
        return settled(wg_apply(&wg__op_##op, 1, &x, &to.kept), &to, keepdims);                    \
    }
EXTREME(reduce_max, max_run)
EXTREME(reduce_min, min_run)

/* ---- prod: a tree of products, whose derivatives are therefore right at zeros, of any order ---- */

static wg_var product_along(wg_var x, int axis) {
    wg_dims dims = wg__dims_of(x);
    int64_t n = dims.dim[axis];
    dims.dim[axis] = 1;
    if (n == 0)
        return wg_full(x.tape, wg_var_dtype(x), dims.rank, dims.dim, 1);
    wg_var rest = {0};
    for (; n > 1; n /= 2) {
        wg_var low = wg_slice(x, axis, 0, n / 2), high = wg_slice(x, axis, n / 2, n / 2);
        if (n % 2) {
            wg_var odd = wg_slice(x, axis, n - 1, 1);
            rest = rest.tape ? wg_mul(rest, odd) : odd;
        }
        x = wg_mul(low, high);
    }
    return rest.tape ? wg_mul(x, rest) : x;
}

AXES_EXAMPLES(prod, 0.5, 2)
const wg_op wg__op_prod = {.name = "prod", .arity = 1, .kind = WG_COMPOSITE, .examples = prod_examples};

wg_var wg_prod(wg_var x, int n_axes, const int *axes, bool keepdims) {
    AXES("prod")
    for (int k = 0; k < to.kept.rank && wg_valid(x); k++)
        if (to.gone[k])
            x = product_along(x, k);
    return settled(x, &to, keepdims);
}

/* ---- norm ---- */

#define SQUARES(a, x) ((a) + (x) * (x))
#define DOWN 0x1p-600
#define SQUARES_DOWN(a, x) ((a) + ((x) * DOWN) * ((x) * DOWN))
#define SQUARES_UP(a, x) ((a) + ((x) / DOWN) * ((x) / DOWN))
static double root_down(double a) { return sqrt(a) / DOWN; }
static double root_up(double a) { return sqrt(a) * DOWN; }
WG_FOLDER(norm, 0.0, SQUARES, WG_FOLD_PLUS, sqrt)
WG_FOLDER(big, 0.0, SQUARES_DOWN, WG_FOLD_PLUS, root_down)
WG_FOLDER(small, 0.0, SQUARES_UP, WG_FOLD_PLUS, root_up)

static size_t norm_scratch(const wg_infer *q) {
    return wg__size((size_t)q->out.count, sizeof(double), wg__fold_scratch(q->in[0], &q->out) + 64);
}

/* Where the squares of f64 leave its range, again with scaled values. (Those of f32 do not leave f64's.) */
static wg_status norm_run(wg_call *call) {
    int64_t count = call->out.shape->count;
    double *again = call->scratch;
    void *parts = again + (count + 7) / 8 * 8;
    wg__fold(&norm_folder, call->team, &call->in[0], &call->out, parts);
    if (call->out.dtype == WG_F32)
        return WG_OK;
    double *y = call->out.data;
    for (int pass = 0; pass < 2; pass++) {
        wg_array scaled = call->out;
        bool leaves = false;
        for (int64_t i = 0; i < count && !leaves; i++)
            leaves = pass == 0 ? isinf(y[i]) : y[i] < 1e-140;
        if (!leaves)
            continue;
        scaled.data = again;
        wg__fold(pass == 0 ? &big_folder : &small_folder, call->team, &call->in[0], &scaled, parts);
        for (int64_t i = 0; i < count; i++)
            if (pass == 0 ? isinf(y[i]) : y[i] < 1e-140)
                y[i] = again[i];
    }
    return WG_OK;
}

/* x g/y; where y is 0, so is the derivative, of any order. */
static void norm_vjp(const wg_rule *r, wg_var *dx) {
    wg_var zero = wg_equal(r->y, wg_c(0)), some = wg_sub(wg_c(1), zero);
    wg_var factor = wg_div(wg_mul(r->g, some), wg_add(r->y, zero));
    dx[0] = wg_mul(r->in[0], wg__broadcast_to(factor, wg_var_shape(r->in[0])));
}

AXES_EXAMPLES(norm, 0.5, 2)
const wg_op wg__op_norm = {.name = "norm", .arity = 1, .kind = WG_REDUCTION, .attr_size = sizeof(wg_dims),
    .shape = wg__fold_shape, .run = norm_run, .scratch = norm_scratch, .rows = wg__rows_aligned, .vjp = norm_vjp,
    .examples = norm_examples, .describe = wg__describe_dims};

wg_var wg_norm(wg_var x, int n_axes, const int *axes, bool keepdims) {
    AXES("norm")
    return settled(wg_apply(&wg__op_norm, 1, &x, &to.kept), &to, keepdims);
}

/* ---- along the last axis: cumsum, argmax ---- */

/* A kernel's rows; results of argmax are indices. */
typedef struct rows {
    const void *x;
    void *y;
    int64_t width;
    bool is_f64, reverse;
} rows;

static void by_rows(const wg_call *call, bool reverse, void (*work)(void *, int64_t, int64_t)) {
    const wg_shape *shape = call->in[0].shape;
    rows r = {call->in[0].data, call->out.data, shape->dim[shape->rank - 1], call->in[0].dtype == WG_F64, reverse};
    if (shape->count)
        wg__rows(call->team, shape->count / r.width, wg__max(1, 16 * 1024 / r.width), work, &r);
}

static wg_status last_axis_shape(wg_infer *q) {
    if (q->in[0]->rank == 0)
        return wg_infer_fail(q, WG_SHAPE, "a scalar has no axis");
    q->out = *q->in[0];
    q->dtype = q->in_dtype[0];
    return wg__takes_floats(q);
}

#define RUNNING(T)                                                                                 \
    static void running_##T(int64_t n, bool reverse, const T *x, T *y) {                           \
        double sum = 0;                                                                            \
        for (int64_t k = 0; k < n; k++) {                                                          \
            int64_t i = reverse ? n - 1 - k : k;                                                   \
            y[i] = (T)(sum += (double)x[i]);                                                       \
        }                                                                                          \
    }
RUNNING(float)
RUNNING(double)

static void cumsum_rows(void *user, int64_t from, int64_t to) {
    const rows *r = user;
    for (int64_t at = from * r->width; at < to * r->width; at += r->width) {
        if (r->is_f64)
            running_double(r->width, r->reverse, (const double *)r->x + at, (double *)r->y + at);
        else
            running_float(r->width, r->reverse, (const float *)r->x + at, (float *)r->y + at);
    }
}

static wg_status cumsum_run(wg_call *call) {
    by_rows(call, *(const bool *)call->attr, cumsum_rows);
    return WG_OK;
}

/* The sum from the other end. */
static void cumsum_vjp(const wg_rule *r, wg_var *dx) {
    bool other = !*(const bool *)r->attr;
    dx[0] = wg_apply(r->op, 1, &r->g, &other);
}

static wg_var cumsum_last(const wg_var *in) { return wg_cumsum(in[0], -1); }
static wg_var cumsum_first(const wg_var *in) { return wg_cumsum(in[0], 0); }
static const wg_example cumsum_examples[] = {{"2,3,4", -2, 2, cumsum_last},
                                             {"3,2", -2, 2, cumsum_first},
                                             {"4", -2, 2, cumsum_first},
                                             {"2,1", -2, 2, cumsum_last},
                                             {0}};

const wg_op wg__op_cumsum = {.name = "cumsum", .arity = 1, .kind = WG_REDUCTION, .traits = WG_IS_LINEAR,
    .attr_size = sizeof(bool), .shape = last_axis_shape, .run = cumsum_run, .rows = wg__rows_before_last, 
    .vjp = cumsum_vjp, .examples = cumsum_examples};

/* One axis of x, from 0 to rank-1, or -1 with the tape's failure set. */
static int one_axis(wg_var x, const char *name, int axis) {
    wg_axes to;
    return wg__axes(x, name, 1, &axis, &to) ? wg__axis(axis, wg_rank(x)) : -1;
}

wg_var wg_cumsum(wg_var x, int axis) {
    bool reverse = false;
    if ((axis = one_axis(x, "cumsum", axis)) < 0)
        return wg__var(wg__tape_of(1, &x), 0);
    wg_var last = wg__axis_to_end(x, axis);
    return wg__axis_from_end(wg_apply(&wg__op_cumsum, 1, &last, &reverse), axis);
}

static wg_status argmax_shape(wg_infer *q) {
    char text[96];
    wg_status status = last_axis_shape(q);
    if (status != WG_OK)
        return status;
    int64_t width = q->in[0]->dim[q->in[0]->rank - 1];
    if (width == 0 || width > INT32_MAX)
        return wg_infer_fail(q, WG_RANGE, "the axis has %lld elements: %s", (long long)width,
                             wg_shape_text(q->in[0], text, sizeof text));
    q->out.rank--;
    q->dtype = WG_I32;
    return WG_OK;
}

/* The first place of the largest value, or of a NaN. */
#define FIRST_OF(T)                                                                                \
    static int32_t first_of_##T(int64_t n, const T *x, double largest) {                           \
        int32_t i = 0;                                                                             \
        if (largest != largest)                                                                    \
            while (i < n - 1 && x[i] == x[i])                                                      \
                i++;                                                                               \
        else                                                                                       \
            while (i < n - 1 && (double)x[i] != largest)                                           \
                i++;                                                                               \
        return i;                                                                                  \
    }
FIRST_OF(float)
FIRST_OF(double)

static void argmax_rows(void *user, int64_t from, int64_t to) {
    const rows *r = user;
    for (int64_t k = from; k < to; k++) {
        int32_t *y = (int32_t *)r->y + k;
        if (r->is_f64) {
            const double *x = (const double *)r->x + k * r->width;
            *y = first_of_double(r->width, x, max_run_double(r->width, x, max_folder.start));
        } else {
            const float *x = (const float *)r->x + k * r->width;
            *y = first_of_float(r->width, x, max_run_float(r->width, x, max_folder.start));
        }
    }
}

static wg_status argmax_run(wg_call *call) {
    by_rows(call, false, argmax_rows);
    return WG_OK;
}

static wg_var argmax_last(const wg_var *in) { return wg_argmax(in[0], -1, false); }
static wg_var argmax_first(const wg_var *in) { return wg_argmax(in[0], 0, true); }
static const wg_example argmax_examples[] = {
    {"2,3", -2, 2, argmax_last}, {"3,2", -2, 2, argmax_first}, {"1", -2, 2, argmax_last}, {0}};

const wg_op wg__op_argmax = {.name = "argmax", .arity = 1, .kind = WG_REDUCTION, .traits = WG_IS_ZERO,
    .shape = argmax_shape, .run = argmax_run, .rows = wg__rows_before_last, 
    .examples = argmax_examples};

wg_var wg_argmax(wg_var x, int axis, bool keepdims) {
    wg_axes to;
    if (!wg__axes(x, "argmax", 1, &axis, &to))
        return wg__var(wg__tape_of(1, &x), 0);
    wg_var last = wg__axis_to_end(x, wg__axis(axis, wg_rank(x)));
    wg_var y = wg_apply(&wg__op_argmax, 1, &last, NULL);
    return keepdims ? wg_reshape(y, to.kept.rank, to.kept.dim) : y;
}
