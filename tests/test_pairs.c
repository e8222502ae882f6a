/* Pairs: two or three sums, differences and products in one kernel, against their ops one by one. */
#include "suite.h"

#include <math.h>
#include <string.h>

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

/* One pair on n elements, its result in a place of its own or over operand `over`, against its ops one by one. */
static bool pair_is_right(const wg__pair *p, int type, int isa, int n, int over) {
    static const wg_op *const ops[] = {&wg__op_add, &wg__op_sub, &wg__op_mul};
    _Alignas(64) double x[4][PAIRED], left[PAIRED], right[PAIRED], want[PAIRED], got[PAIRED];
    const int operands = p->kind == WG__PAIR_BOTH ? 4 : 3;
    const void *in[4] = {x[0], x[1], x[2], x[3]};
    for (int k = 0; k < operands; k++)
        for (int i = 0; i < n; i++) {
            if (type)
                x[k][i] = pair_number(type, k, i);
            else
                ((float *)x[k])[i] = (float)pair_number(type, k, i);
        }
    apply(ops[p->g], type, isa, n, x[0], x[1], left);
    if (p->kind == WG__PAIR_BOTH)
        apply(ops[p->h], type, isa, n, x[2], x[3], right);
    const void *other = p->kind == WG__PAIR_BOTH ? (const void *)right : (const void *)x[2];
    bool turned = p->kind == WG__PAIR_RIGHT;
    apply(ops[p->f], type, isa, n, turned ? other : left, turned ? left : other, want);
    void *out = over < 0 ? got : x[over];
    wg__pair_map(p, type, (wg_isa)(isa + WG_ISA_BASELINE))(n, in, out);
    for (int i = 0; i < n; i++) {
        double a = type ? want[i] : ((float *)want)[i], b = type ? ((double *)out)[i] : ((float *)out)[i];
        if (!(isnan(a) && isnan(b)) && memcmp(&a, &b, sizeof a) != 0)
            return false;
    }
    return true;
}

Test(pairs, kernels_have_the_bits_of_their_ops_one_by_one) {
    static const int sizes[] = {1, 7, 16, 31, 256, PAIRED};
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
