/* Pairs: several pointwise ops in one kernel, against their ops one by one. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "ops.h"
#include "pairs.h"

extern const wg_op wg__op_add, wg__op_sub, wg__op_mul, wg__op_square, wg__op_max;

enum { PAIRED = 300 };

/* What stands at i of operand k: all kinds of numbers. */
static double pair_number(int type, int k, int i) {
    static const double odd[] = {0, -0.0, 1, -1, INFINITY, -INFINITY, NAN, 1e30, -1e38, 3e-39, 1e-38, 0.1};
    uint64_t bits = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u + (uint64_t)k * 0xbf58476d1ce4e5b9u;
    bits ^= bits >> 29;
    return bits % 5 == 0 ? odd[bits / 5 % WG_LEN(odd)] : (double)(bits >> 40) / 0x1p23 - 1 + (type ? 1e-12 : 0);
}

static void apply(const wg_op *op, int type, int isa, int n, const void *a, const void *b, void *y) {
    wg__map_for(op, type, isa)(n, (const void *const[]){a, b}, y);
}

static void fill(double x[4][PAIRED], int type, int operands, int n) {
    for (int k = 0; k < operands; k++)
        for (int i = 0; i < n; i++) {
            if (type)
                x[k][i] = pair_number(type, k, i);
            else
                ((float *)x[k])[i] = (float)pair_number(type, k, i);
        }
}

static bool same_bits(int type, int n, const void *want, const void *got) {
    for (int i = 0; i < n; i++) {
        double a = type ? ((const double *)want)[i] : ((const float *)want)[i], b = type ? ((const double *)got)[i] : ((const float *)got)[i];
        if (!(isnan(a) && isnan(b)) && memcmp(&a, &b, sizeof a) != 0)
            return false;
    }
    return true;
}

/* One pair on n elements, its result in a place of its own or over operand `over`, against its ops one by one. */
static bool pair_is_right(const wg__pair *p, int type, int isa, int n, int over) {
    static const wg_op *const ops[] = {&wg__op_add, &wg__op_sub, &wg__op_mul, &wg__op_tanh_partial, &wg__op_sigmoid_partial};
    _Alignas(64) double x[4][PAIRED], left[PAIRED], right[PAIRED], want[PAIRED], got[PAIRED];
    const int operands = p->kind == WG__PAIR_BOTH ? 4 : 3;
    const void *in[4] = {x[0], x[1], x[2], x[3]};
    fill(x, type, operands, n);
    apply(ops[p->g], type, isa, n, x[0], x[1], left);
    if (p->kind == WG__PAIR_BOTH)
        apply(ops[p->h], type, isa, n, x[2], x[3], right);
    const void *other = p->kind == WG__PAIR_BOTH ? (const void *)right : (const void *)x[2];
    bool turned = p->kind == WG__PAIR_RIGHT;
    apply(ops[p->f], type, isa, n, turned ? other : left, turned ? left : other, want);
    void *out = over < 0 ? got : x[over];
    wg__pair_map(p, type, (wg_isa)(isa + WG_ISA_BASELINE))(n, in, out);
    return same_bits(type, n, want, out);
}

static const int sizes[] = {1, 7, 16, 31, 256, PAIRED};

Test(pairs, kernels_have_the_bits_of_their_ops_one_by_one) {
    int compared = 0;
    for (int isa = 0; isa < WG__ISAS; isa++)
        for (int code = 0; code < 2 * 3 * 27 && wg__isa_runs(isa); code++) {
            int type = code % 2, form = code / 2;
            wg__pair p = {.kind = (uint8_t)(1 + form / 27), .f = (uint8_t)(form % 3), .g = (uint8_t)(form / 3 % 3), .h = (uint8_t)(form / 9 % 3)};
            for (int s = 0; s < WG_LEN(sizes); s++)
                for (int over = -1; over < (p.kind == WG__PAIR_BOTH ? 4 : 3); over++, compared++)
                    cr_assert(pair_is_right(&p, type, isa, sizes[s], over), "%s, kind %d, ops %d %d %d, type %d, %d elements, over %d", wg__isa_name(isa),
                              p.kind, p.f, p.g, p.h, type, sizes[s], over);
        }
    cr_assert_gt(compared, 0);
    cr_assert_eq(wg__pair_op_of(&wg__op_add), WG__PAIR_ADD);
    cr_assert_eq(wg__pair_op_of(&wg__op_sub), WG__PAIR_SUB);
    cr_assert_eq(wg__pair_op_of(&wg__op_mul), WG__PAIR_MUL);
    cr_assert_eq(wg__pair_op_of(&wg__op_square), WG__PAIR_MUL);
    cr_assert_eq(wg__pair_op_of(&wg__op_max), WG__PAIR_NONE);
}

Test(pairs, partial_derivatives_have_the_bits_of_their_ops_alone_and_in_products) {
    _Alignas(64) double x[4][PAIRED], one[PAIRED], between[PAIRED], want[PAIRED], got[PAIRED];
    int compared = 0;
    for (int isa = 0; isa < WG__ISAS; isa++)
        for (int code = 0; code < 2 * 2 * WG_LEN(sizes) && wg__isa_runs(isa); code++) {
            const int type = code % 2, tanh = code / 2 % 2, n = sizes[code / 4];
            for (int i = 0; i < n; i++)
                if (type)
                    one[i] = 1;
                else
                    ((float *)one)[i] = 1;
            fill(x, type, 1, n);
            apply(tanh ? &wg__op_square : &wg__op_sub, type, isa, n, tanh ? x[0] : one, x[0], between);
            apply(tanh ? &wg__op_sub : &wg__op_mul, type, isa, n, tanh ? one : x[0], between, want);
            apply(tanh ? &wg__op_tanh_partial : &wg__op_sigmoid_partial, type, isa, n, x[0], NULL, got);
            cr_assert(same_bits(type, n, want, got), "%s, tanh %d, type %d, %d elements", wg__isa_name(isa), tanh, type, n);
            for (int g = WG__PAIR_ADD; g <= WG__PAIR_OPS; g++, compared++) {
                wg__pair p = {.kind = WG__PAIR_BOTH, .f = WG__PAIR_MUL, .g = (uint8_t)g, .h = tanh ? WG__PAIR_TANH : WG__PAIR_SIGMOID};
                if (g == WG__PAIR_OPS)
                    p.kind = WG__PAIR_LEFT, p.g = p.h;
                for (int over = -1; over < (p.kind == WG__PAIR_BOTH ? 3 : 1); over++)
                    cr_assert(pair_is_right(&p, type, isa, n, over), "%s, tanh %d, times %d, type %d, %d elements, over %d", wg__isa_name(isa), tanh, g, type, n, over);
            }
        }
    cr_assert_gt(compared, 0);
    cr_assert_eq(wg__pair_op_of(&wg__op_tanh_partial), WG__PAIR_TANH);
    cr_assert_eq(wg__pair_op_of(&wg__op_sigmoid_partial), WG__PAIR_SIGMOID);
}

static const char *const functions[] = {
#define MAP1(op, ...) #op,
#define MAP2(op, ...)
#define MAP3(op, ...)
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"
};

/* One function of a sum of so many operands, as a pair is. */
static bool sum_is_right(const wg_op *op, int operands, int type, int isa, int n, int over) {
    _Alignas(64) double x[4][PAIRED], sum[PAIRED], want[PAIRED], got[PAIRED];
    fill(x, type, operands, n);
    apply(&wg__op_add, type, isa, n, x[0], x[1], sum);
    if (operands == 3)
        apply(&wg__op_add, type, isa, n, sum, x[2], sum);
    apply(op, type, isa, n, sum, NULL, want);
    void *out = over < 0 ? got : x[over];
    wg__map_of_sum(op, operands, type, isa)(n, (const void *const[]){x[0], x[1], x[2]}, out);
    return same_bits(type, n, want, out);
}

Test(pairs, functions_of_sums_have_the_bits_of_their_ops_one_by_one) {
    int compared = 0;
    for (int f = 0; f < WG_LEN(functions); f++) {
        const wg_op *op = wg_op_find(functions[f])->op;
        for (int isa = 0; isa < WG__ISAS; isa++)
            for (int code = 0; code < 2 * 2 * WG_LEN(sizes) && wg__isa_runs(isa) && wg__map_of_sum(op, 2, 0, isa); code++)
                for (int over = -1; over < 2 + code / 2 % 2; over++, compared++)
                    cr_assert(sum_is_right(op, 2 + code / 2 % 2, code % 2, isa, sizes[code / 4], over), "%s of a sum of %d, %s, type %d, %d elements, over %d",
                              functions[f], 2 + code / 2 % 2, wg__isa_name(isa), code % 2, sizes[code / 4], over);
    }
    cr_assert_gt(compared, 1000);
    cr_assert_null(wg__map_of_sum(&wg__op_square, 2, 0, 0), "arithmetic alone has none");
    cr_assert_null(wg__map_of_sum(wg_op_find("pow")->op, 2, 0, 0), "nor what has two operands");
    cr_assert_null(wg__map_of_sum(&wg__op_tanh_partial, 2, 0, 0));
}
