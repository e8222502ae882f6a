/* check.c: a recorded graph's derivatives against differences, against each other, in both types, on strided inputs.
 * Works through the public calls on tapes of its own. */
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *label, *sentence;
} kinds[] = {
#define ROW(name, label, sentence) {label, sentence},
    WG_CHECK_MAP(ROW)
#undef ROW
};
const char *wg__check_label(wg_check_kind kind) { return kinds[kind].label; }
const char *wg__check_sentence(wg_check_kind kind) { return kinds[kind].sentence; }

/* How the inputs lie in memory. */
typedef enum layout { DENSE, PERMUTED, REPEATED } layout;

/* One recording of the graph: y, a cotangent u, J^T u. */
typedef struct bench {
    wg_check *check;
    const wg_check_case *at;
    wg_tape *tape;
    wg_tensor **leaf; /* what x reads */
    wg_var *x;        /* the inputs: leaves, or views of them */
    wg_var *v;        /* a direction for each float input; zeroed for the others */
    wg_var *g;        /* J^T u by input; not for i32 */
    wg_var *list;     /* room for lists of the float inputs */
    wg_var y, u;
} bench;

/* What a comparison has found so far. */
typedef struct verdict {
    double worst;
    bool passed;
    char text[512];
} verdict;

static bool refused(wg_status status) { return status == WG_MEMORY || status == WG_LIMIT; }

static bool wants(const wg_check *check, wg_check_kind kind) {
    return !check->kinds || (check->kinds >> kind & 1);
}

void wg__check_line(wg_check *check, const wg_check_case *at, wg_check_kind kind, double error, wg_status status,
                    const char *text) {
    wg_check_line line = {at->name, at->example, kind, error, status == WG_OK, status, text};
    check->done++;
    check->failed += !line.passed;
    if (check->report)
        check->report(check->user, &line);
}

static void report(const bench *b, wg_check_kind kind, const verdict *found) {
    wg__check_line(b->check, b->at, kind, found->worst, found->passed ? WG_OK : WG_DERIVATIVE, found->text);
}

static wg_status memory_status(const bench *b) { return wg__refusal(b->check->memory); }

static const wg_run_options alone = {.threads = 1, .keep_subnormals = true};

/* ---- recording ---- */

static bool is_float(wg_var x) { return wg__on_tape(x) && wg_var_dtype(x) != WG_I32; }

/* A leaf of normal draws, f32 numbers, like x. */
static wg_var drawn_like(const bench *b, wg_var x, uint64_t stream) {
    const wg_shape *shape = wg_var_shape(x);
    if (!shape)
        return (wg_var){0};
    wg_random random = {.seed = b->check->seed, .stream = stream};
    wg_tensor *tensor = wg_tensor_new(b->check->memory, wg_var_dtype(x), shape->rank, shape->dim);
    if (!tensor)
        return wg__fail(b->tape, memory_status(b), "check", "no memory for a direction");
    for (int64_t i = 0; i < shape->count; i++)
        wg_tensor_set(tensor, i, (float)wg_random_normal(&random));
    wg_var leaf = wg_leaf(b->tape, tensor);
    wg_tensor_free(tensor);
    return leaf;
}

/* The place in the leaf of element i of a PERMUTED input: axes in reverse, then an axis of 3 of which 1 is read. */
static int64_t permuted_place(const wg_shape *shape, int64_t i) {
    int64_t place = 0, stride = shape->rank < WG_MAX_RANK ? 3 : 1;
    int64_t index[WG_MAX_RANK];
    for (int k = shape->rank - 1; k >= 0; k--) {
        index[k] = i % shape->dim[k];
        i /= shape->dim[k];
    }
    for (int k = 0; k < shape->rank; k++) {
        place += index[k] * stride;
        stride *= shape->dim[k];
    }
    return place + (shape->rank < WG_MAX_RANK);
}

/* The view that undoes it. */
static wg_var permuted_view(wg_var leaf, const wg_shape *shape) {
    int64_t back[WG_MAX_RANK] = {0};
    int axis[WG_MAX_RANK] = {0}, rank = shape->rank;
    for (int k = 0; k < rank; k++) {
        back[k] = shape->dim[rank - 1 - k];
        axis[k] = rank - 1 - k;
    }
    if (rank < WG_MAX_RANK)
        leaf = wg_reshape(wg_slice(leaf, -1, 1, 1), rank, back);
    return wg_permute(leaf, rank, axis);
}

/* The value of element i of input `from` where REPEATED (and its dense twin) has it: that of row 0. */
static double repeated_value(const wg_tensor *from, int64_t i) {
    const wg_shape *shape = wg_tensor_shape(from);
    return wg_tensor_get(from, shape->rank ? i % (shape->count / shape->dim[0]) : i);
}

static wg_tensor *leaf_tensor(const bench *b, const wg_tensor *from, wg_dtype dtype, layout how) {
    wg_shape shape = *wg_tensor_shape(from);
    if (how == PERMUTED) {
        int64_t dim[WG_MAX_RANK];
        int rank = 0;
        for (int k = shape.rank - 1; k >= 0; k--)
            dim[rank++] = shape.dim[k];
        if (rank < WG_MAX_RANK)
            dim[rank++] = 3;
        wg__shape_set(&shape, rank, dim);
    } else if (how == REPEATED && shape.rank && shape.dim[0] > 1) {
        shape.dim[0] = 1;
    }
    wg_tensor *tensor = wg_tensor_new(b->check->memory, dtype, shape.rank, shape.dim);
    if (!tensor)
        return NULL;
    if (how == PERMUTED) /* what must not be read */
        wg_tensor_fill(tensor, dtype == WG_I32 ? INT32_MIN : (double)NAN);
    int64_t count = how == REPEATED ? wg_tensor_shape(tensor)->count : wg_tensor_shape(from)->count;
    for (int64_t i = 0; i < count; i++)
        wg_tensor_set(tensor, how == PERMUTED ? permuted_place(wg_tensor_shape(from), i) : i,
                      wg_tensor_get(from, i));
    return tensor;
}

/* Records the inputs. `twice`: every row of an input is its first. */
static void record_inputs(bench *b, wg_dtype dtype, layout how, bool twice) {
    for (int i = 0; i < b->at->n; i++) {
        const wg_tensor *from = b->at->x[i];
        const wg_shape *shape = wg_tensor_shape(from);
        bool integers = wg_tensor_dtype(from) == WG_I32;
        b->leaf[i] = leaf_tensor(b, from, integers ? WG_I32 : dtype, how);
        if (!b->leaf[i]) {
            wg__fail(b->tape, memory_status(b), "check", "no memory for an input");
            return;
        }
        if (twice && how == DENSE)
            for (int64_t k = 0; k < shape->count; k++)
                wg_tensor_set(b->leaf[i], k, repeated_value(from, k));
        b->x[i] = wg_leaf(b->tape, b->leaf[i]);
        if (how == PERMUTED)
            b->x[i] = permuted_view(b->x[i], shape);
        else if (how == REPEATED)
            b->x[i] = wg_broadcast_to(b->x[i], shape->rank, shape->dim);
    }
}

static void bench_finish(bench *b) {
    for (int i = 0; i < b->at->n && b->leaf; i++)
        wg_tensor_free(b->leaf[i]);
    wg_tape_free(b->tape);
    wg__give(b->check->memory, b->leaf);
    wg__give(b->check->memory, b->x);
}

/* Gathers what belongs to the float inputs into b->list; returns how many. */
static int gather_floats(const bench *b, const wg_var *from) {
    int m = 0;
    for (int i = 0; i < b->at->n; i++)
        if (is_float(b->x[i]))
            b->list[m++] = from[i];
    return m;
}

static void spread_floats(const bench *b, const wg_var *list, wg_var *to) {
    int m = 0;
    for (int i = 0; i < b->at->n; i++)
        if (is_float(b->x[i]))
            to[i] = list[m++];
}

/* J^T u of y, by input, into out. */
static void pull_back(bench *b, wg_var y, wg_var u, wg_var *out) {
    int m = gather_floats(b, b->x);
    if (m)
        wg_vjp(1, &y, &u, m, b->list, b->list);
    spread_floats(b, b->list, out);
}

/* J v of y. */
static wg_var push_forward(bench *b, wg_var y) {
    wg_var *tangent = b->list + b->at->n, dy = {0};
    int m = gather_floats(b, b->v);
    memcpy(tangent, b->list, (size_t)m * sizeof *tangent);
    gather_floats(b, b->x);
    wg_jvp(m, b->list, tangent, 1, &y, &dy);
    return dy;
}

/* <a, b> summed over the float inputs. */
static wg_var inner(const bench *b, const wg_var *p, const wg_var *q) {
    wg_var sum = {0};
    for (int i = 0; i < b->at->n; i++) {
        if (!is_float(b->x[i]))
            continue;
        wg_var term = wg_sum_to(wg_mul(p[i], q[i]), 0, NULL);
        sum = sum.tape ? wg_add(sum, term) : term;
    }
    return sum;
}

static wg_var inner_one(wg_var p, wg_var q) { return wg_sum_to(wg_mul(p, q), 0, NULL); }

/* Records inputs and graph; then u and the directions if the result is float. The tape's status says whether it worked. */
static wg_status bench_start(bench *b, wg_check *check, const wg_check_case *at, wg_dtype dtype, layout how,
                             bool twice) {
    size_t n = (size_t)at->n;
    *b = (bench){.check = check, .at = at, .tape = wg_tape_new(check->memory)};
    b->leaf = wg__take0(check->memory, wg__size(n, sizeof *b->leaf, 1));
    b->x = wg__take0(check->memory, wg__size(n, 5 * sizeof *b->x, 1));
    if (!b->tape || !b->leaf || !b->x)
        return memory_status(b);
    b->v = b->x + n, b->g = b->v + n, b->list = b->g + n;
    record_inputs(b, dtype, how, twice);
    if (b->tape->status == WG_OK)
        b->y = at->graph(at->user, b->x);
    if (b->tape->status == WG_OK && !wg__on_tape(b->y))
        wg__fail(b->tape, WG_ARGUMENT, at->name, "the graph returns no var of this tape");
    b->u = is_float(b->y) ? drawn_like(b, b->y, 1) : (wg_var){0};
    for (int i = 0; i < at->n; i++)
        b->v[i] = is_float(b->x[i]) ? drawn_like(b, b->x[i], (uint64_t)i + 2) : (wg_var){0};
    return refused(b->tape->status) ? b->tape->status : WG_OK;
}

/* ---- values ---- */

static wg_status value_of(wg_var y, wg_tensor **out, wg_error *error) {
    *out = NULL;
    return wg_eval_with(&alone, 1, &y, out, error);
}

static wg_status number_of(wg_var y, double *number, wg_error *error) {
    wg_tensor *out;
    wg_status status = value_of(y, &out, error);
    *number = status == WG_OK ? wg_tensor_get(out, 0) : (double)NAN;
    wg_tensor_free(out);
    return status;
}

static double largest(const wg_tensor *tensor) {
    double most = 1;
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        most = fmax(most, fabs(wg_tensor_get(tensor, i)));
    return most;
}

/* "(0,2)" */
static void place_text(const wg_shape *shape, int64_t i, char *text, size_t size) {
    wg_shape place = *shape;
    for (int k = shape->rank - 1; k >= 0; k--) {
        place.dim[k] = i % shape->dim[k];
        i /= shape->dim[k];
    }
    wg_shape_text(&place, text, size);
}

/* |got - want| against allowed, both relative to scale. */
static void judge(verdict *found, const char *what, int input, const wg_shape *shape, int64_t i, double got,
                  double want, double scale, double allowed, const char *by, const char *against) {
    double error = got == want || (isnan(got) && isnan(want)) ? 0 : fabs(got - want) / scale;
    if (found->passed && !(error <= allowed)) {
        char place[160], which[32] = "";
        place_text(shape, i, place, sizeof place);
        if (input >= 0)
            snprintf(which, sizeof which, " by input %d", input + 1);
        found->passed = false;
        snprintf(found->text, sizeof found->text, "%s%s, element %s: %.10g %s, %.10g %s", what, which, place, got,
                 by, want, against);
    }
    if (!(error <= found->worst))
        found->worst = error;
}

static void compare_tensors(verdict *found, const char *what, int input, const wg_tensor *got,
                            const wg_tensor *want, double tolerance, const char *by, const char *against) {
    const wg_shape *shape = wg_tensor_shape(want);
    if (!wg__shape_same(shape, wg_tensor_shape(got))) {
        found->passed = false;
        snprintf(found->text, sizeof found->text, "%s has another shape %s than %s", what, by, against);
        return;
    }
    double scale = largest(want);
    for (int64_t i = 0; i < shape->count; i++)
        judge(found, what, input, shape, i, wg_tensor_get(got, i), wg_tensor_get(want, i), isfinite(scale) ? scale : 1,
              tolerance, by, against);
}

/* Evaluates both and compares. */
static wg_status compare_vars(verdict *found, const char *what, int input, wg_var p, wg_var q,
                              double tolerance, const char *by, const char *against) {
    wg_tensor *got, *want = NULL;
    wg_error error = {0};
    wg_status status = value_of(p, &got, &error);
    if (status == WG_OK)
        status = value_of(q, &want, &error);
    if (status == WG_OK)
        compare_tensors(found, what, input, got, want, tolerance, by, against);
    else if (!refused(status)) {
        found->passed = false;
        snprintf(found->text, sizeof found->text, "%.500s", error.text);
    }
    wg_tensor_free(got);
    wg_tensor_free(want);
    return refused(status) ? status : WG_OK;
}

/* A tape that failed while a check was recorded. Clears it; a refusal is returned. */
static wg_status recording_failed(bench *b, wg_check_kind kind) {
    wg_status status = b->tape->status;
    if (!refused(status))
        wg__check_line(b->check, b->at, kind, INFINITY, status, b->tape->message);
    wg_tape_clear(b->tape);
    return refused(status) ? status : WG_OK;
}

/* ---- differences ---- */

enum { ROWS = 10 };

/* ds/dx_i by central differences, extrapolated to step 0, with the error that is estimated for it: the best entry of Ridders'
 * table over halved steps. Steps whose values are not finite do not count. */
static wg_status difference(wg_var s, wg_tensor *x, int64_t i, double *slope, double *error) {
    double table[ROWS][ROWS], at = wg_tensor_get(x, i), step = 0.0625 * fmax(1, fabs(at));
    wg_status status = WG_OK;
    int first = 0;
    *slope = NAN, *error = INFINITY;
    for (int j = 0; j < ROWS && status == WG_OK; j++, step /= 2) {
        double up, down;
        wg_tensor_set(x, i, at + step);
        status = number_of(s, &up, NULL);
        wg_tensor_set(x, i, at - step);
        if (status == WG_OK)
            status = number_of(s, &down, NULL);
        if (status != WG_OK || !isfinite(up) || !isfinite(down)) {
            first = j + 1;
            continue;
        }
        double noise = DBL_EPSILON * (1 + fmax(fabs(up), fabs(down))) / step, power = 1;
        table[j][0] = (up - down) / (2 * step);
        for (int k = 1; k <= j - first; k++) {
            power *= 4;
            table[j][k] = (power * table[j][k - 1] - table[j - 1][k - 1]) / (power - 1);
            double doubt = noise + fmax(fabs(table[j][k] - table[j][k - 1]), fabs(table[j][k] - table[j - 1][k - 1]));
            if (doubt < *error)
                *error = doubt, *slope = table[j][k];
        }
        if (*error < 1e-10 * (1 + fabs(*slope)))
            break;
    }
    wg_tensor_set(x, i, at);
    return refused(status) ? status : WG_OK;
}

/* Compares gradients (by input) of the number s with its differences. */
static wg_status against_differences(bench *b, wg_check_kind kind, wg_var s, const wg_var *gradient) {
    verdict found = {.passed = true};
    double tolerance = b->check->tolerance > 0 ? b->check->tolerance : b->check->rough ? 1e-2 : 1e-6;
    wg_status status = WG_OK;
    for (int i = 0; i < b->at->n && status == WG_OK; i++) {
        wg_tensor *g;
        wg_error error = {0};
        if (!is_float(b->x[i]))
            continue;
        status = value_of(gradient[i], &g, &error);
        if (status != WG_OK && !refused(status)) {
            wg__check_line(b->check, b->at, kind, INFINITY, status, error.text);
            return WG_OK;
        }
        double scale = status == WG_OK ? largest(g) : 1;
        for (int64_t k = 0; status == WG_OK && k < wg_tensor_shape(b->leaf[i])->count; k++) {
            double slope, doubt;
            status = difference(s, b->leaf[i], k, &slope, &doubt);
            /* A difference that does not settle says nothing: it is not let pass. */
            judge(&found, kind == WG_CHECK_FIRST ? "the derivative" : "the derivative of the gradient", i,
                  wg_tensor_shape(g), k, wg_tensor_get(g, k), slope, scale,
                  doubt > 1e-3 * scale ? -1 : tolerance + 4 * doubt / scale, "by the rule", "by differences");
        }
        wg_tensor_free(g);
    }
    if (status == WG_OK)
        report(b, kind, &found);
    return status;
}

/* ---- the checks of one recording ---- */

/* How close two modes come that add in different orders. */
static double agreement(const wg_check *check) { return check->rough ? 1e-4 : 1e-9; }

/* <u, J v> and <J^T u, v>: relative to the sizes of the terms. */
static wg_status check_forward(bench *b) {
    verdict found = {.passed = true};
    wg_var dy = push_forward(b, b->y);
    wg_var pair[2] = {inner_one(b->u, dy), inner(b, b->g, b->v)};
    if (b->tape->status != WG_OK)
        return recording_failed(b, WG_CHECK_FORWARD);
    double value = 0; /* the mean of no elements is NaN, and so is its tangent: nothing to compare */
    wg_status status = number_of(inner_one(b->u, b->y), &value, NULL);
    if (status == WG_OK && isfinite(value))
        status = compare_vars(&found, "the product of u, J and v", -1, pair[0], pair[1], agreement(b->check), "in forward mode",
                              "in reverse");
    if (status == WG_OK)
        report(b, WG_CHECK_FORWARD, &found);
    return refused(status) ? status : WG_OK;
}

/* H v three ways: hv is reverse over reverse. */
static wg_status check_mixed(bench *b, const wg_var *hv) {
    verdict found = {.passed = true};
    wg_status status = WG_OK;
    wg_var *mixed = wg__take0(b->check->memory, wg__size((size_t)b->at->n, sizeof *mixed, 1));
    if (!mixed)
        return memory_status(b);
    for (int turn = 0; turn < 2 && status == WG_OK && b->tape->status == WG_OK; turn++) {
        if (turn == 0)
            for (int i = 0; i < b->at->n; i++)
                mixed[i] = is_float(b->x[i]) ? push_forward(b, b->g[i]) : (wg_var){0};
        else
            pull_back(b, inner_one(b->u, push_forward(b, b->y)), wg_c(1), mixed);
        for (int i = 0; i < b->at->n && status == WG_OK && b->tape->status == WG_OK; i++)
            if (is_float(b->x[i]))
                status = compare_vars(&found, "the second derivative", i, mixed[i], hv[i], agreement(b->check),
                                      turn ? "in reverse over forward" : "in forward over reverse", "in reverse twice");
    }
    wg__give(b->check->memory, mixed);
    if (status != WG_OK)
        return status;
    if (b->tape->status != WG_OK)
        return recording_failed(b, WG_CHECK_MIXED);
    report(b, WG_CHECK_MIXED, &found);
    return WG_OK;
}

static wg_status check_second(bench *b) {
    wg_var *hv = wg__take0(b->check->memory, wg__size((size_t)b->at->n, sizeof *hv, 1));
    wg_status status = hv ? WG_OK : memory_status(b);
    if (status == WG_OK) {
        wg_var s = inner(b, b->g, b->v);
        pull_back(b, s, wg_c(1), hv);
        if (b->tape->status != WG_OK)
            status = recording_failed(b, WG_CHECK_SECOND);
        else {
            if (wants(b->check, WG_CHECK_SECOND))
                status = against_differences(b, WG_CHECK_SECOND, s, hv);
            if (status == WG_OK && wants(b->check, WG_CHECK_MIXED))
                status = check_mixed(b, hv);
        }
    }
    wg__give(b->check->memory, hv);
    return status;
}

/* Values and first derivatives of two recordings. */
static wg_status compare_benches(wg_check_kind kind, bench *got, bench *want, double of_value, double of_gradient,
                                 const char *by, const char *against) {
    verdict found = {.passed = true};
    if (got->tape->status != WG_OK)
        return recording_failed(got, kind);
    wg_status status = compare_vars(&found, "the value", -1, got->y, want->y, of_value, by, against);
    for (int i = 0; i < got->at->n && status == WG_OK && is_float(want->y); i++)
        if (is_float(want->x[i]))
            status = compare_vars(&found, "the derivative", i, got->g[i], want->g[i], of_gradient, by, against);
    if (status == WG_OK)
        report(got, kind, &found);
    return status;
}

static bool has_random(const wg_tape *tape) {
    for (int64_t id = 1; id < tape->count; id++)
        if (wg__node(tape, id)->op->kind == WG_RANDOM)
            return true;
    return false;
}

/* The same graph recorded another way, against `want`. */
static wg_status check_other(wg_check_kind kind, bench *want, wg_dtype dtype, layout how, bool twice,
                             const char *by, const char *against) {
    bench b;
    bool single = dtype == WG_F32;
    wg_status status = bench_start(&b, want->check, want->at, dtype, how, twice);
    if (status == WG_OK) {
        if (is_float(b.y))
            pull_back(&b, b.y, b.u, b.g);
        status = compare_benches(kind, &b, want, single ? 2e-5 : 1e-12, single ? 2e-4 : 1e-11, by, against);
    }
    bench_finish(&b);
    return status;
}

static wg_status check_layouts(bench *b) {
    bench same;
    wg_status status = check_other(WG_CHECK_STRIDED, b, WG_F64, PERMUTED, false, "of permuted views", "of dense inputs");
    if (status != WG_OK)
        return status;
    status = bench_start(&same, b->check, b->at, WG_F64, DENSE, true);
    if (status == WG_OK && is_float(same.y))
        pull_back(&same, same.y, same.u, same.g);
    if (status == WG_OK && same.tape->status == WG_OK) /* some graphs refuse repeated rows, such as a permutation's */
        status = check_other(WG_CHECK_STRIDED, &same, WG_F64, REPEATED, true, "of repeating views", "of dense inputs");
    bench_finish(&same);
    return status;
}

/* Everything that takes a float result. */
static wg_status check_derivatives(bench *b) {
    wg_status status = WG_OK;
    pull_back(b, b->y, b->u, b->g);
    if (b->tape->status != WG_OK)
        return recording_failed(b, WG_CHECK_FIRST);
    if (!gather_floats(b, b->x))
        return WG_OK; /* nothing to differentiate by */
    if (wants(b->check, WG_CHECK_FIRST))
        status = against_differences(b, WG_CHECK_FIRST, inner_one(b->u, b->y), b->g);
    if (status == WG_OK && wants(b->check, WG_CHECK_FORWARD))
        status = check_forward(b);
    if (status == WG_OK && (wants(b->check, WG_CHECK_SECOND) || wants(b->check, WG_CHECK_MIXED)))
        status = check_second(b);
    if (status == WG_OK && wants(b->check, WG_CHECK_F32) && !has_random(b->tape))
        status = check_other(WG_CHECK_F32, b, WG_F32, DENSE, false, "in f32", "in f64");
    return status;
}

/* Whether the graph records and runs at all; false where it need not. Reports. */
static bool records(bench *b, wg_status *status) {
    wg_error error = {0};
    wg_tensor *value = NULL;
    *status = b->tape->status;
    if (*status != WG_OK)
        wg_error_set(&error, *status, "%s", b->tape->message);
    else
        *status = value_of(b->y, &value, &error);
    wg_tensor_free(value);
    bool worked = *status == WG_OK;
    if (refused(*status))
        return false;
    *status = WG_OK;
    if (worked || !b->at->optional)
        wg__check_line(b->check, b->at, WG_CHECK_RECORD, worked ? 0 : INFINITY, error.status, error.text);
    return worked;
}

wg_status wg__check_graph(wg_check *check, const wg_check_case *at) {
    bench b;
    wg_status status = bench_start(&b, check, at, WG_F64, DENSE, false);
    if (status == WG_OK && records(&b, &status)) {
        if (is_float(b.y))
            status = check_derivatives(&b);
        if (status == WG_OK && wants(check, WG_CHECK_STRIDED) && b.tape->status == WG_OK)
            status = check_layouts(&b);
    }
    bench_finish(&b);
    return status;
}
