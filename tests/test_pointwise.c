/* The pointwise ops: their values against naive loops in long double, at the edges and in the middle, for every compiled
 * instruction set; the same bits wherever an element stands; their conventions at kinks. */
#include "suite.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pointwise.h"

typedef long double wide;

/* ---- the oracles ---- */

typedef struct oracle {
    const char *name;
    double ulp[2], tail;
    wide (*value)(const wide *in);
} oracle;

/* What is less is a zero to sums: the least normal number, where subnormals are flushed. */
static double vanishing;

/* The remainder of truncated division made that of floored division. */
static wide floored(wide r, wide b) {
    if (r == 0 || (r < 0) == (b < 0))
        return r;
    return fabsl(r) < vanishing ? b : r + b;
}

#define ORACLE(op, f32, f64, tail, value)                                                          \
    static wide op##_oracle(const wide *in) {                                                      \
        const wide x = in[0], a = in[0], b = in[1], c = in[2];                                     \
        (void)x, (void)a, (void)b, (void)c;                                                        \
        return value;                                                                              \
    }
#include "oracle.h"
#undef ORACLE
static const oracle oracles[] = {
#define ORACLE(op, f32, f64, tail, value) {#op, {f32, f64}, tail, op##_oracle},
#include "oracle.h"
#undef ORACLE
};

static const oracle *oracle_of(const char *name) {
    for (int i = 0; i < WG_LEN(oracles); i++)
        if (strcmp(oracles[i].name, name) == 0)
            return &oracles[i];
    return NULL;
}

Test(pointwise, every_op_has_an_oracle_and_every_oracle_an_op) {
    int ops = 0;
    for (int i = 0; i < wg_op_count(); i++) {
        const wg_op_entry *entry = &wg_op_list()[i];
        bool pointwise = entry->op->kind == WG_POINTWISE;
        cr_expect(!pointwise || oracle_of(entry->name), "%s has no oracle", entry->name);
        ops += pointwise;
    }
    for (int i = 0; i < WG_LEN(oracles); i++)
        cr_expect(wg_op_find(oracles[i].name), "there is no op %s", oracles[i].name);
    cr_expect_eq(ops, WG_LEN(oracles));
}

/* ---- elements of a type: 0 f32, 1 f64, 2 i32 ---- */

static void put(void *array, int type, int64_t i, double value) {
    if (type == 0)
        ((float *)array)[i] = (float)value;
    else if (type == 1)
        ((double *)array)[i] = value;
    else
        ((int32_t *)array)[i] = (int32_t)value;
}

static double get(const void *array, int type, int64_t i) {
    return type == 0   ? (double)((const float *)array)[i]
           : type == 1 ? ((const double *)array)[i]
                       : ((const int32_t *)array)[i];
}

static double least_normal(int type) { return type == 0 ? (double)FLT_MIN : DBL_MIN; }
static double greatest(int type) { return type == 0 ? (double)FLT_MAX : DBL_MAX; }

/* The distance between neighbouring numbers of the type around x. */
static double unit(int type, wide x) {
    int digits = type == 0 ? FLT_MANT_DIG : DBL_MANT_DIG, least = type == 0 ? FLT_MIN_EXP : DBL_MIN_EXP;
    int exponent = x == 0 ? least : ilogbl(x) + 1;
    return ldexp(1, (exponent < least ? least : exponent) - digits);
}

/* How far `got` is off, in units in the last place; infinite where it is wrong in kind. Signs of zero count; where
 * subnormals are flushed neither they nor the signs do. What passes through subnormals on the way may lose some. */
static double off_by(int type, bool keep, wide want, double got) {
    enum { ON_THE_WAY = 1024 };
    double rounded = type == 0 ? (double)(float)want : (double)want; /* this cast may overflow: then to infinity */
    double lost = ON_THE_WAY * (keep ? unit(type, 0) : least_normal(type));
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0 : INFINITY;
    if (rounded == got)
        return !keep || signbit(rounded) == signbit(got) ? 0 : INFINITY;
    if (isinf(rounded) || isinf(got)) /* on the edge of the range rounding may go either way */
        return (want > 0) == (got > 0) && fabsl(want) > 0.999999L * greatest(type) && fabs(got) > 0.999999 * greatest(type)
                   ? 0
                   : INFINITY;
    double error = (double)fabsl((wide)got - want);
    return error <= lost && fabsl(want) < 1e4 * lost ? 0 : error / unit(type, want);
}

/* ---- points: edges and kinks, then random ones ---- */

static const double edges[] = {
    0.0, INFINITY, NAN, 1, 0.5, 2, 3, 6, 1e-30, 1e30, 1e-38, 1e-40, 1e-45, FLT_MIN, FLT_MAX, 1e-310, 5e-324, DBL_MIN,
    DBL_MAX, 0.999999940395355225, 1.00000011920928955, 2.9999998, 3.0000002, 1e-4, 1e-8, 20, 40, 87.5, 88.8, 90, 100,
    103.9, 700, 709.9, 745.2, 1000, 12345.678, 16777217, 1e15, 2147483647, 0.70710678, 8, 26.6, 3.14159265358979};

/* Where a kernel has been wrong: squares, remainders and exponentials that are subnormal or overflow on the way. */
static const double found[][3] = {
    {3.7838730886384694e-20, 4.6242839381013999e-19, 0},    {1.0542249532161266e-19, -2.1879043524301222e-19, 0},
    {-1.4794827325055804e-18, -7.093543755969543e-25, 0},   {1.0579226444246947e-19, -2.3523669867573294e-19, 0},
    {-6.7475320907972271e-153, 5.310627584105109e-164, 0},  {-1.284970204019471e-188, 5.1483118544225006e-151, 0},
    {-1.4584527193180824e-154, -3.0958463921278762e-154, 0}, {-1.3956906033241227e-154, 4.4717191429871243e-154, 0},
    {1.1e19, 2.3e19, 0},                                    {2.4e38, -2.4e38, 0},
    {9e153, -1.2e154, 0},                                   {1.27e308, 1.27e308, 0},
    {-0.14220099151134491, 1.9437007155642507e-35, 0},      {9.9999999999999694e-311, -1.7299255090073024e-298, 0},
    {2.2250515473902577e-308, -9.8492063175292857e-301, 0}, {-89.999946594238281, 1, 0},
    {-91.189697265625, 1, 0},                               {-103.5, 1, 0},
    {-718.46458008589025, 1, 0},                            {-730.18671522638851, 1, 0}};

enum { EDGES = WG_LEN(edges), SIGNED = 2 * EDGES, RANDOM = 4000 };

static double edge(int i) { return i < EDGES ? edges[i] : -edges[i - EDGES]; }

/* A number of any exponent that the type has. */
static double of_any_exponent(wg_random *random, int type) {
    int digits = type == 0 ? FLT_MANT_DIG : DBL_MANT_DIG, most = type == 0 ? FLT_MAX_EXP : DBL_MAX_EXP;
    int least = (type == 0 ? FLT_MIN_EXP : DBL_MIN_EXP) - digits;
    double u = 2 * wg_random_uniform(random) - 1;
    return ldexp(u, least + (int)wg_random_below(random, (uint64_t)(most - least)));
}

static double some(wg_random *random, int type) {
    double u = 2 * wg_random_uniform(random) - 1;
    switch (wg_random_below(random, 6)) {
    case 0:
        return u;
    case 1:
        return 10 * u;
    case 2:
        return floor(20 * u) / 2;
    case 3:
        return (type == 0 ? 120 : 800) * u; /* as far out as exponentials reach */
    case 4:
        return of_any_exponent(random, type);
    default:
        return copysign(pow(10, 30 * (2 * wg_random_uniform(random) - 1)), u);
    }
}

/* Random operands; every other time the second is no more than 2^60 times the first or smaller, most often near. */
static void draw(wg_random *random, int type, double *x) {
    for (int k = 0; k < 3; k++)
        x[k] = some(random, type);
    if (wg_random_below(random, 2)) {
        double u = 4 * wg_random_uniform(random) - 2;
        x[1] = ldexp(x[0] * (2 * wg_random_uniform(random) - 1), (int)(60 * u * u * u / 8));
    }
}

static void put_all(void **in, int type, int64_t i, double a, double b, double c) {
    put(in[0], type, i, a);
    put(in[1], type, i, b);
    put(in[2], type, i, c);
}

/* Fills the operands of the op: every edge, pair or (of every fifth) triple of edges, then points found, then random ones. */
static int64_t fill(int operands, int type, void **in) {
    int step = operands == 3 ? 5 : 1;
    int64_t n = 0;
    double x[3];
    wg_random random = {.seed = 7, .stream = (uint64_t)operands};
    for (int a = 0; a < SIGNED; a += step)
        for (int b = 0; b < (operands > 1 ? SIGNED : 1); b += step)
            for (int c = 0; c < (operands > 2 ? SIGNED : 1); c += step)
                put_all(in, type, n++, edge(a), edge(b), edge(c));
    for (int i = 0; i < WG_LEN(found); i++)
        put_all(in, type, n++, found[i][0], found[i][1], found[i][2]);
    for (int i = 0; i < RANDOM; i++) {
        draw(&random, type, x);
        put_all(in, type, n++, x[0], x[1], x[2]);
    }
    return n;
}

enum { MOST = (SIGNED * SIGNED + WG_LEN(found) + RANDOM + 7) / 8 * 8 }; /* whole cache lines */

/* How far the op is off at these operands, less what it may. Where subnormals are flushed a function may see each of them
 * as a zero or as it is. */
static double beyond(const oracle *o, int operands, int type, bool keep, const double *x, double got, wide *want) {
    double least = INFINITY;
    for (int zeros = 0; zeros < (keep ? 1 : 1 << operands); zeros++) {
        wide seen[3];
        for (int k = 0; k < 3; k++)
            seen[k] = zeros >> k & 1 && fabs(x[k]) < least_normal(type) ? copysign(0, x[k]) : x[k];
        *want = o->value(seen);
        double off = off_by(type, keep, *want, got);
        if (operands > 1 && got == 0 && *want == 0) /* of two zeros either is the greater */
            off = 0;
        double allowed = o->ulp[type] + (o->tail && isfinite(x[0]) ? o->tail * x[0] * x[0] : 0);
        if (off - allowed < least)
            least = off - allowed;
    }
    return least;
}

/* One op, type, instruction set and mode against its oracle. */
static void compare(const wg_op *op, int type, int isa, bool keep, void **in, void *out) {
    const oracle *o = oracle_of(op->name);
    int64_t n = fill(op->arity, type, in);
    vanishing = keep ? 0 : least_normal(type);
    unsigned mode = wg__float_mode_enter(keep);
    wg__map_for(op, type, isa)(n, (const void *const *)in, out);
    wg__float_mode_leave(mode);
    for (int64_t i = 0; i < n; i++) {
        const double x[] = {get(in[0], type, i), get(in[1], type, i), get(in[2], type, i)}, got = get(out, type, i);
        wide want;
        double worse = beyond(o, op->arity, type, keep, x, got, &want);
        if (!(worse <= 0)) {
            cr_expect(false, "%s, %s, %s, %s subnormals: of (%.17g, %.17g, %.17g) is %.17g, not %.17Lg: %g ulp too far",
                      op->name, type ? "f64" : "f32", wg__isa_name(isa), keep ? "with" : "without", x[0], x[1], x[2], got,
                      want, worse);
            return;
        }
    }
}

/* Every pointwise op, with room for its operands and result. */
static void every_op(void (*body)(const wg_op *op, void **in, void *out)) {
    void *room[4];
    for (int k = 0; k < 4; k++)
        cr_assert_not_null(room[k] = aligned_alloc(64, MOST * 8));
    for (int i = 0; i < wg_op_count(); i++)
        if (wg_op_list()[i].op->kind == WG_POINTWISE)
            body(wg_op_list()[i].op, room, room[3]);
    for (int k = 0; k < 4; k++)
        free(room[k]);
}

static void compare_all(const wg_op *op, void **in, void *out) {
    for (int isa = 0; isa < WG__ISAS; isa++)
        for (int type = 0; type < 2 && wg__isa_runs(isa); type++)
            for (int keep = 0; keep < 2; keep++)
                compare(op, type, isa, keep, in, out);
}

Test(pointwise, values_agree_with_naive_loops_at_edges_and_random_points) { every_op(compare_all); }

/* i32: exact, and wrapped to 32 bits. */
static void compare_integers(const wg_op *op, void **in, void *out) {
    static const int32_t some_integers[] = {0, 1, -1, 2, 7, -8, 46341, -65536, INT32_MAX, INT32_MIN};
    enum { N = WG_LEN(some_integers) };
    cr_expect_eq((op->traits & WG_TAKES_I32) != 0, op->map[2] != NULL, "%s", op->name);
    if (!op->map[2])
        return;
    int64_t n = N * N * N;
    for (int64_t i = 0; i < n; i++) {
        put(in[0], 2, i, some_integers[i % N]);
        put(in[1], 2, i, some_integers[i / N % N]);
        put(in[2], 2, i, some_integers[i / N / N]);
    }
    for (int isa = 0; isa < WG__ISAS; isa++) {
        if (!wg__isa_runs(isa))
            continue;
        wg__map_for(op, 2, isa)(n, (const void *const *)in, out);
        for (int64_t i = 0; i < n; i++) {
            const wide x[] = {(wide)get(in[0], 2, i), (wide)get(in[1], 2, i), (wide)get(in[2], 2, i)};
            int32_t want = (int32_t)(uint32_t)(int64_t)oracle_of(op->name)->value(x);
            cr_assert_eq(((int32_t *)out)[i], want, "%s of (%Lg, %Lg, %Lg)", op->name, x[0], x[1], x[2]);
        }
    }
}

Test(pointwise, integers_are_exact_and_wrap) { every_op(compare_integers); }

/* ---- the same bits wherever an element stands ---- */

static const size_t width[] = {4, 8};

/* Whether n elements are the same to the bit. One made of several NaNs need only be one: the sign and the rest of it are
 * those of either (IEEE 754, 6.2.3), and a compiler orders the operands of a sum or a product as it likes. */
static bool same_bits(int type, int64_t n, const bool *of_nans, const void *a, const void *b) {
    size_t w = width[type];
    for (int64_t i = 0; i < n; i++)
        if (memcmp((const char *)a + (size_t)i * w, (const char *)b + (size_t)i * w, w) != 0 &&
            !(of_nans[i] && isnan(get(a, type, i)) && isnan(get(b, type, i))))
            return false;
    return true;
}

/* Every stretch of up to 40 elements from every start gives what the whole gives, in place too. */
static void split(const wg_op *op, int type, int isa, bool keep, void **in, void *out) {
    enum { N = 75, LONGEST = 40 };
    size_t w = width[type];
    _Alignas(8) char piece[LONGEST * 8];
    bool of_nans[N];
    wg_random random = {.seed = 3};
    for (int64_t i = 0; i < N; i++) {
        int nans = 0;
        for (int k = 0; k < 3; k++) {
            put(in[k], type, i,
                i % 5 == 0   ? edge((int)wg_random_below(&random, SIGNED))
                : i % 7 == 0 ? (wg_random_below(&random, 2) ? NAN : -NAN)
                             : some(&random, type));
            nans += k < op->arity && isnan(get(in[k], type, i));
        }
        of_nans[i] = nans > 1;
    }
    wg__map *map = wg__map_for(op, type, isa);
    unsigned mode = wg__float_mode_enter(keep);
    map(N, (const void *const *)in, out);
    bool same = true;
    for (int64_t n = 1; n <= LONGEST && same; n++)
        for (int64_t from = 0; from + n <= N && same; from++) {
            const void *const part[] = {(char *)in[0] + (size_t)from * w, (char *)in[1] + (size_t)from * w,
                                        (char *)in[2] + (size_t)from * w};
            map(n, part, piece);
            same = same_bits(type, n, of_nans + from, piece, (char *)out + (size_t)from * w);
            memcpy(piece, part[0], (size_t)n * w);
            map(n, (const void *const[]){piece, part[1], part[2]}, piece);
            same = same && same_bits(type, n, of_nans + from, piece, (char *)out + (size_t)from * w);
        }
    wg__float_mode_leave(mode);
    cr_expect(same, "%s, %s, %s, %s subnormals", op->name, type ? "f64" : "f32", wg__isa_name(isa), keep ? "with" : "without");
}

static void split_all(const wg_op *op, void **in, void *out) {
    for (int isa = 0; isa < WG__ISAS; isa++)
        for (int type = 0; type < 2 && wg__isa_runs(isa); type++)
            for (int keep = 0; keep < 2; keep++)
                split(op, type, isa, keep, in, out);
}

Test(pointwise, an_element_has_the_same_bits_wherever_it_stands) { every_op(split_all); }

Test(pointwise, the_best_instruction_set_is_what_a_record_runs) {
    cr_assert(wg__isa_runs(wg__isa_best()));
    cr_assert(wg__isa_runs(WG__ISA_baseline));
    for (int isa = wg__isa_best() + 1; isa < WG__ISAS; isa++)
        cr_assert(!wg__isa_runs(isa));
    const wg_op *op = wg_op_find("tanh")->op;
    float x[] = {0.3f}, recorded, best;
    op->map[0](1, (const void *const[]){x}, &recorded);
    wg__map_for(op, 0, wg__isa_best())(1, (const void *const[]){x}, &best);
    cr_assert_eq(recorded, best);
}

/* Where a built-in op was found is noted by its address: one of the user's at every place, some of which share its note. */
Test(pointwise, an_op_that_is_not_built_in_has_its_own_kernel) {
    const wg_op *op = wg_op_find("tanh")->op;
    enum { PLACES = 2048, STEP = 64 };
    char *room = aligned_alloc(STEP, (PLACES + (sizeof *op + STEP - 1) / STEP) * STEP);
    for (int at = 0; at < PLACES; at++) {
        wg_op *own = memcpy(room + at * STEP, op, sizeof *op);
        cr_assert(wg__map_for(op, 1, WG__ISA_baseline) != own->map[1]);
        for (int times = 0; times < 2; times++)
            cr_assert(wg__map_for(own, 1, WG__ISA_baseline) == own->map[1], "place %d", at);
    }
    free(room);
}

/* ---- shapes ---- */

static wg_tensor *numbers(wg_dtype dtype, const wg_shape *shape, uint64_t seed) {
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, shape->rank, shape->dim);
    wg_random random = {.seed = seed};
    for (int64_t i = 0; i < shape->count; i++)
        wg_tensor_set(tensor, i, (double)wg_random_below(&random, 100) - 50);
    return tensor;
}

static wg_tensor *run(wg_var y, int threads) {
    wg_tensor *out = NULL;
    wg_error error = {0};
    wg_run_options options = {.threads = threads};
    wg_eval_with(&options, 1, &y, &out, &error);
    cr_assert_not_null(out, "%s", error.text);
    return out;
}

/* The element of an array of this shape that NumPy's rule gives for an index into the broadcast shape. */
static int64_t element(const wg_shape *shape, const wg_shape *whole, const int64_t *index) {
    int64_t at = 0;
    for (int k = 0; k < shape->rank; k++)
        at = at * shape->dim[k] + (shape->dim[k] == 1 ? 0 : index[k + whole->rank - shape->rank]);
    return at;
}

static bool naive_broadcast(int n, const wg_shape *shapes, wg_shape *whole) {
    memset(whole, 0, sizeof *whole);
    whole->count = 1;
    for (int i = 0; i < n; i++)
        whole->rank = shapes[i].rank > whole->rank ? shapes[i].rank : whole->rank;
    for (int k = 0; k < whole->rank; k++) {
        whole->dim[k] = 1;
        for (int i = 0; i < n; i++) {
            int axis = k - whole->rank + shapes[i].rank;
            if (axis < 0 || shapes[i].dim[axis] == 1)
                continue;
            if (whole->dim[k] != 1 && whole->dim[k] != shapes[i].dim[axis])
                return false;
            whole->dim[k] = shapes[i].dim[axis];
        }
        whole->count *= whole->dim[k];
    }
    return true;
}

static void next(int64_t *index, const wg_shape *shape) {
    for (int k = shape->rank - 1; k >= 0 && ++index[k] == shape->dim[k]; k--)
        index[k] = 0;
}

/* a - b, or where(a, b, c), of these shapes. */
static void broadcast(int n, const wg_shape *shapes, wg_dtype dtype) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x[3] = {0};
    wg_var in[3];
    wg_shape whole;
    for (int i = 0; i < n; i++) {
        x[i] = numbers(dtype, &shapes[i], (uint64_t)i + 1);
        in[i] = wg_leaf(tape, x[i]);
    }
    wg_var y = n == 2 ? wg_sub(in[0], in[1]) : wg_where(in[0], in[1], in[2]);
    if (!naive_broadcast(n, shapes, &whole)) {
        cr_expect(!wg_valid(y));
        cr_expect_eq(wg_tape_status(tape), WG_SHAPE);
    } else {
        wg_tensor *out = run(y, 1);
        const wg_shape *got = wg_tensor_shape(out);
        cr_assert(got->rank == whole.rank && got->count == whole.count &&
                  memcmp(got->dim, whole.dim, sizeof *whole.dim * (size_t)whole.rank) == 0);
        int64_t index[WG_MAX_RANK] = {0};
        for (int64_t i = 0; i < whole.count; i++, next(index, &whole)) {
            double v[3] = {0};
            for (int k = 0; k < n; k++)
                v[k] = wg_tensor_get(x[k], element(&shapes[k], &whole, index));
            cr_assert_eq(wg_tensor_get(out, i), n == 2 ? v[0] - v[1] : v[0] != 0 ? v[1] : v[2]);
        }
        wg_tensor_free(out);
    }
    for (int i = 0; i < n; i++)
        wg_tensor_free(x[i]);
    wg_tape_free(tape);
}

static const wg_shape shapes[] = {
    {0, 1, {0}},         {1, 1, {1}},          {1, 4, {4}},          {1, 0, {0}},          {2, 4, {1, 4}},
    {2, 3, {3, 1}},      {2, 12, {3, 4}},      {2, 0, {0, 4}},       {2, 0, {3, 0}},       {3, 24, {2, 3, 4}},
    {3, 2, {2, 1, 1}},   {3, 6, {2, 3, 1}},    {3, 8, {2, 1, 4}},    {3, 12, {1, 3, 4}},   {4, 40, {5, 2, 1, 4}},
    {8, 24, {1, 2, 1, 3, 1, 1, 1, 4}}};

Test(pointwise, two_operands_of_all_shapes_broadcast_as_a_naive_loop) {
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++)
        for (int a = 0; a < WG_LEN(shapes); a++)
            for (int b = 0; b < WG_LEN(shapes); b++)
                broadcast(2, (const wg_shape[]){shapes[a], shapes[b]}, dtype);
}

Test(pointwise, three_operands_of_all_shapes_broadcast_as_a_naive_loop) {
    for (int a = 0; a < WG_LEN(shapes); a++)
        for (int b = 0; b < WG_LEN(shapes); b++)
            for (int c = 0; c < WG_LEN(shapes); c++)
                broadcast(3, (const wg_shape[]){shapes[a], shapes[b], shapes[c]}, 1 + (unsigned)(a + b + c) % 3);
}

Test(pointwise, bare_constants_take_the_other_type_and_alone_are_no_operands) {
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t = numbers(dtype, &shapes[6], 1);
        wg_var x = wg_leaf(tape, t);
        wg_tensor *out = run(wg_clamp(wg_sub(wg_c(7), x), wg_c(-20), wg_c(30)), 1);
        cr_assert_eq(wg_tensor_dtype(out), dtype);
        for (int i = 0; i < 12; i++)
            cr_assert_eq(wg_tensor_get(out, i), fmin(fmax(7 - wg_tensor_get(t, i), -20), 30));
        wg_tensor_free(out);
        wg_tensor_free(t);
        wg_tape_free(tape);
    }
    cr_assert(!wg_valid(wg_add(wg_c(1), wg_c(2))));
}

/* Operands seen through a permutation, a slice and a repeated axis, against indices computed one by one. */
Test(pointwise, strided_operands_agree_with_a_naive_loop) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const wg_shape source = {3, 9 * 7 * 5, {9, 7, 5}};
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++)
        for (int o = 0; o < 6; o++)
            for (int axis = 0; axis < 3; axis++) {
                wg_tape *tape = wg_tape_new(NULL);
                wg_tensor *t = numbers(dtype, &source, 5);
                wg_var x = wg_permute(wg_leaf(tape, t), 3, orders[o]);
                wg_var part = wg_slice(x, axis, 1, 3), row = wg_slice(part, 1, 0, 1);
                wg_var repeated = wg_broadcast_to(row, 3, wg_var_shape(part)->dim);
                wg_tensor *out = run(wg_sub(part, wg_mul(repeated, wg_c(2))), 1);
                const wg_shape *shape = wg_tensor_shape(out);
                int64_t at[3] = {0};
                for (int64_t i = 0; i < shape->count; i++, next(at, shape)) {
                    int64_t from[2] = {0, 0}, place[2][3];
                    for (int k = 0; k < 3; k++) {
                        place[0][orders[o][k]] = at[k] + (k == axis);
                        place[1][orders[o][k]] = (k == 1 ? 0 : at[k]) + (k == axis);
                    }
                    for (int v = 0; v < 2; v++)
                        for (int k = 0; k < 3; k++)
                            from[v] = from[v] * source.dim[k] + place[v][k];
                    cr_assert_eq(wg_tensor_get(out, i), wg_tensor_get(t, from[0]) - 2 * wg_tensor_get(t, from[1]));
                }
                wg_tensor_free(out);
                wg_tensor_free(t);
                wg_tape_free(tape);
            }
}

Test(pointwise, the_number_of_threads_changes_no_bit) {
    const wg_shape big = {2, 333 * 301, {333, 301}}, row = {1, 301, {301}};
    for (wg_dtype dtype = WG_F32; dtype <= WG_F64; dtype++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *t = numbers(dtype, &big, 1), *u = numbers(dtype, &row, 2);
        wg_var x = wg_mul(wg_leaf(tape, t), wg_c(0.0317)), turned = wg_transpose(wg_add(x, wg_leaf(tape, u)));
        wg_var y = wg_add(wg_tanh(x), wg_transpose(wg_silu(turned)));
        wg_tensor *one = run(y, 1), *three = run(y, 3);
        cr_assert_arr_eq(wg_tensor_data(one), wg_tensor_data(three), wg_tensor_bytes(one));
        wg_tensor_free(one);
        wg_tensor_free(three);
        wg_tensor_free(t);
        wg_tensor_free(u);
        wg_tape_free(tape);
    }
}

/* ---- derivatives at kinks and edges: conventions ---- */

/* The derivatives of one op by its operands at one point, and its value. */
typedef struct slopes {
    double d[3];
} slopes;

static slopes slopes_at(const char *name, wg_dtype dtype, double a, double b, double c) {
    const wg_op *op = wg_op_find(name)->op;
    wg_tape *tape = wg_tape_new(NULL);
    const double at[] = {a, b, c};
    wg_tensor *x[3];
    wg_var in[3], d[3];
    slopes s = {{0}};
    for (int k = 0; k < 3; k++) {
        x[k] = wg_tensor_new(NULL, dtype, 0, NULL);
        wg_tensor_set(x[k], 0, at[k]);
        in[k] = wg_leaf(tape, x[k]);
    }
    cr_assert_eq(wg_grad(wg_apply(op, op->arity, in, NULL), op->arity, in, d), WG_OK, "%s", wg_tape_message(tape));
    for (int k = 0; k < op->arity; k++) {
        wg_tensor *out = run(d[k], 1);
        s.d[k] = wg_tensor_get(out, 0);
        wg_tensor_free(out);
    }
    for (int k = 0; k < 3; k++)
        wg_tensor_free(x[k]);
    wg_tape_free(tape);
    return s;
}

static double slope(const char *name, double x) { return slopes_at(name, WG_F64, x, 0, 0).d[0]; }

Test(pointwise, kinks_have_the_documented_derivatives) {
    cr_expect_eq(slope("abs", 0), 0);
    cr_expect_eq(slope("abs", NAN), 0);
    cr_expect_eq(slope("relu", 0), 0);
    cr_expect_eq(slope("hard_tanh", 1), 0);
    cr_expect_eq(slope("hard_tanh", -1), 0);
    cr_expect_eq(slope("hard_tanh", 0.99), 1);
    cr_expect_eq(slope("hard_sigmoid", 3), 0);
    cr_expect_eq(slope("hard_sigmoid", -3), 0);
    cr_expect_eq(slope("hard_sigmoid", 2.99), 1. / 6);
    cr_expect_float_eq(slope("selu", 0), SELU_SCALE * SELU_ALPHA, 1e-15);
    cr_expect_eq(slopes_at("leaky_relu", WG_F64, 0, 0.3, 0).d[0], 0.3);
    cr_expect_eq(slopes_at("elu", WG_F64, 0, 0.3, 0).d[0], 0.3);
    cr_expect(isinf(slope("sqrt", 0)));
    for (int k = 0; k < 2; k++) {
        cr_expect_eq(slopes_at("max", WG_F64, 2, 2, 0).d[k], 0.5);
        cr_expect_eq(slopes_at("min", WG_F64, 2, 2, 0).d[k], 0.5);
        cr_expect_eq(slopes_at("max", WG_F64, 2, 3, 0).d[k], k);
        cr_expect_eq(slopes_at("min", WG_F64, 2, 3, 0).d[k], 1 - k);
    }
}

Test(pointwise, clamp_gives_x_the_derivative_at_its_bounds) {
    static const double points[][6] = {/* x, low, high; derivatives */
                                       {0, 0, 1, 1, 0, 0}, {1, 0, 1, 1, 0, 0},  {0.5, 0, 1, 1, 0, 0}, {-1, 0, 1, 0, 1, 0},
                                       {2, 0, 1, 0, 0, 1}, {0, 2, 1, 0, 0, 1},  {3, 2, 1, 0, 0, 1},
                                       {1, 2, 1, 0, 0, 1}};
    for (int i = 0; i < WG_LEN(points); i++) {
        const double *p = points[i];
        slopes s = slopes_at("clamp", WG_F64, p[0], p[1], p[2]);
        for (int k = 0; k < 3; k++)
            cr_expect_eq(s.d[k], p[3 + k], "point %d, operand %d: %g", i, k, s.d[k]);
        wg_tape *tape = wg_tape_new(NULL); /* the same with bounds that are constants */
        wg_tensor *at = wg_tensor_new(NULL, WG_F64, 0, NULL);
        wg_tensor_set(at, 0, p[0]);
        wg_var x = wg_leaf(tape, at), dx;
        wg_grad(wg_clamp(x, wg_c(p[1]), wg_c(p[2])), 1, &x, &dx);
        wg_tensor *out = run(dx, 1);
        cr_expect_eq(wg_tensor_get(out, 0), p[3], "point %d, constant bounds", i);
        wg_tensor_free(out);
        wg_tensor_free(at);
        wg_tape_free(tape);
    }
}

Test(pointwise, pow_has_derivatives_at_zero) {
    cr_expect_eq(slopes_at("pow", WG_F64, 0, 0, 0).d[0], 0);
    cr_expect_eq(slopes_at("pow", WG_F64, 0, 0, 0).d[1], 0);
    cr_expect_eq(slopes_at("pow", WG_F64, 0, 1, 0).d[0], 1);
    cr_expect_eq(slopes_at("pow", WG_F64, 0, 2, 0).d[0], 0);
    cr_expect_eq(slopes_at("pow", WG_F64, 0, 2, 0).d[1], 0);
    cr_expect_eq(slopes_at("pow", WG_F64, -2, 3, 0).d[0], 12);
    cr_expect(isnan(slopes_at("pow", WG_F64, -2, 3, 0).d[1]));
    cr_expect_eq(slopes_at("pow", WG_F64, 0, -1, 0).d[0], -INFINITY);
    cr_expect_eq(slopes_at("pow", WG_F64, 0, -1, 0).d[1], -INFINITY);
}

Test(pointwise, what_where_does_not_select_touches_no_derivative) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){2}), *m = wg_tensor_copy(NULL, t);
    wg_tensor_set(m, 0, 1);
    wg_var x = wg_leaf(tape, t), mask = wg_leaf(tape, m), dx, dy;
    /* At 1 the cotangent is NaN: 0 * inf. */
    wg_var y = wg_where(mask, x, wg_c(5)), bad = wg_log(wg_where(mask, wg_c(1), wg_c(-1)));
    cr_assert_eq(wg_vjp(1, &y, &bad, 1, &x, &dx), WG_OK);
    cr_assert_eq(wg_jvp(1, &x, &bad, 1, &y, &dy), WG_OK);
    wg_tensor *of_bad = run(bad, 1), *reverse = run(dx, 1), *forward = run(dy, 1);
    cr_assert(isnan(wg_tensor_get(of_bad, 1)), "the cotangent is not NaN where it should be");
    cr_assert_eq(wg_tensor_get(reverse, 1), 0);
    cr_assert_eq(wg_tensor_get(forward, 1), 0);
    wg_tensor_free(of_bad);
    wg_tensor_free(reverse);
    wg_tensor_free(forward);
    wg_tensor_free(t);
    wg_tensor_free(m);
    wg_tape_free(tape);
}

Test(pointwise, conditions_and_steps_have_the_derivative_zero) {
    static const char *const steps[] = {"sign", "floor", "less", "greater", "equal"};
    for (int i = 0; i < WG_LEN(steps); i++) {
        cr_expect(wg_op_find(steps[i])->op->traits & WG_IS_ZERO, "%s", steps[i]);
        cr_expect_eq(slopes_at(steps[i], WG_F64, 0.7, 0.7, 0).d[0], 0);
    }
    cr_expect_eq(slopes_at("where", WG_F64, 0.7, 3, 4).d[0], 0);
}

/* Far out, f32 agrees with f64: no intermediate overflows, vanishes or becomes NaN. */
Test(pointwise, derivatives_in_f32_agree_with_f64_far_out) {
    static const double far[] = {1e-30, 1e-10, 1e-3, 1, 12, 30, 80, 110, 1e4, 1e10};
    for (int i = 0; i < wg_op_count(); i++) {
        const wg_op *op = wg_op_list()[i].op;
        for (int p = 0; p < 2 * WG_LEN(far) && op->kind == WG_POINTWISE; p++) {
            double x = (double)(float)(p % 2 ? -far[p / 2] : far[p / 2]), other = op == wg_op_find("pow")->op ? 1.5 : x / 2;
            slopes s = slopes_at(op->name, WG_F32, x, other, x), d = slopes_at(op->name, WG_F64, x, other, x);
            for (int k = 0; k < op->arity; k++) {
                bool same = isnan(d.d[k]) ? isnan(s.d[k]) : fabs(s.d[k] - d.d[k]) <= 1e-4 * fabs(d.d[k]) + 1e-6;
                bool beyond = fabs(d.d[k]) > (double)FLT_MAX && isinf(s.d[k]);
                cr_expect(same || beyond, "%s by operand %d at %g: %g in f32, %g in f64", op->name, k, x, s.d[k], d.d[k]);
            }
        }
    }
}
