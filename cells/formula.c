/* formula.c: quotients of polynomials in input and hidden with whole coefficients, exact and
 * checked. Touches only core.
 *
 * A formula is kept reduced as far as it shows: no common whole factor, no common power, a positive
 * leading coefficient below, and a polynomial where the division has no rest. Equality multiplies
 * out, so it does not rest on the reduction. */
#include "formula.h"

#include <stdio.h>
#include <string.h>

typedef __int128 wide;

enum { TERMS = 16, DEGREE = 15, WORK = TERMS * TERMS }; /* a product of two formulas fits in WORK */
static const int64_t LARGEST =
    (int64_t)1 << 53; /* of a coefficient: products of two sums of them fit in `wide` */

/* coefficient * input**power[0] * hidden**power[1] */
typedef struct term {
    wide coefficient;
    int power[2];
} term;

/* The sum of its terms, highest first, none zero. */
typedef struct sum {
    int n;
    term term[WORK];
} sum;

struct wg_formula {
    int n[2]; /* terms above and below the line */
    term term[];
};

/* What overflow and division by zero give. */
static const wg_formula bad_formula = {{0, 0}};

bool wg__formula_bad(const wg_formula *formula) { return formula == &bad_formula; }

/* ---- polynomials
 * ---------------------------------------------------------------------------------- */

/* The order of terms: by degree, then by input's power. */
static int compare(const term *a, const term *b) {
    int degree = (a->power[0] + a->power[1]) - (b->power[0] + b->power[1]);
    return degree ? degree : a->power[0] - b->power[0];
}

/* Adds one term; false when there is no room. */
static bool add_term(sum *to, wide coefficient, int input, int hidden) {
    term new = {coefficient, {input, hidden}};
    int at = 0;
    while (at < to->n && compare(&to->term[at], &new) > 0)
        at++;
    if (at < to->n && compare(&to->term[at], &new) == 0) {
        to->term[at].coefficient += coefficient;
        if (to->term[at].coefficient == 0)
            memmove(&to->term[at], &to->term[at + 1], (size_t)(--to->n - at) * sizeof new);
    } else if (coefficient != 0) {
        if (to->n == WORK)
            return false;
        memmove(&to->term[at + 1], &to->term[at], (size_t)(to->n++ - at) * sizeof new);
        to->term[at] = new;
    }
    return true;
}

/* to += sign * a * b */
static bool add_product(sum *to, int sign, int n, const term *a, int m, const term *b) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            if (!add_term(to, sign * a[i].coefficient * b[j].coefficient,
                          a[i].power[0] + b[j].power[0], a[i].power[1] + b[j].power[1]))
                return false;
    return true;
}

static wide gcd(wide a, wide b) {
    for (a = a < 0 ? -a : a, b = b < 0 ? -b : b; b;) {
        wide rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Divides both by their common whole factor and powers; makes the leading coefficient below
 * positive. */
static void reduce(sum *above, sum *below) {
    wide common = 0;
    int power[2] = {DEGREE * 4, DEGREE * 4};
    sum *part[2] = {above, below};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < part[k]->n; i++) {
            common = gcd(common, part[k]->term[i].coefficient);
            for (int v = 0; v < 2; v++)
                power[v] = (int)wg__min(power[v], part[k]->term[i].power[v]);
        }
    if (below->term[0].coefficient < 0)
        common = -common;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < part[k]->n; i++) {
            part[k]->term[i].coefficient /= common;
            for (int v = 0; v < 2; v++)
                part[k]->term[i].power[v] -= power[v];
        }
}

/* The quotient, if `above` is a multiple of `below` with whole coefficients that stay in bounds. */
static bool divide(const sum *above, const sum *below, sum *quotient) {
    sum rest = *above;
    const term *lead = &below->term[0];
    quotient->n = 0;
    while (rest.n) {
        term t = rest.term[0];
        int input = t.power[0] - lead->power[0], hidden = t.power[1] - lead->power[1];
        wide c = t.coefficient / lead->coefficient;
        if (c * lead->coefficient != t.coefficient || input < 0 || hidden < 0 || c > LARGEST ||
            c < -LARGEST || quotient->n == TERMS || !add_term(quotient, c, input, hidden))
            return false;
        term step = {c, {input, hidden}};
        add_product(&rest, -1, 1, &step, below->n, below->term); /* fits: each of TERMS steps adds TERMS - 2 at most */
    }
    return true;
}

/* ---- formulas
 * -------------------------------------------------------------------------------------- */

static bool fits(const sum *part) {
    for (int i = 0; i < part->n; i++) {
        const term *t = &part->term[i];
        if (t->coefficient > LARGEST || t->coefficient < -LARGEST || t->power[0] > DEGREE ||
            t->power[1] > DEGREE)
            return false;
    }
    return part->n <= TERMS;
}

/* above/below, reduced, in the arena. */
static const wg_formula *make(wg_arena *arena, sum *above, sum *below) {
    sum quotient;
    if (below->n == 0)
        return &bad_formula;
    reduce(above, below);
    if (below->n > 1 && fits(above) && fits(below) && divide(above, below, &quotient)) {
        *above = quotient;
        below->n = 0;
        add_term(below, 1, 0, 0);
    }
    if (!fits(above) || !fits(below))
        return &bad_formula;
    size_t n = (size_t)(above->n + below->n);
    wg_formula *formula = wg__arena_take(arena, sizeof *formula + n * sizeof(term));
    if (!formula)
        return NULL;
    formula->n[0] = above->n;
    formula->n[1] = below->n;
    memcpy(formula->term, above->term, (size_t)above->n * sizeof(term));
    memcpy(formula->term + above->n, below->term, (size_t)below->n * sizeof(term));
    return formula;
}

static const term *above(const wg_formula *a) { return a->term; }
static const term *below(const wg_formula *a) { return a->term + a->n[0]; }

static const wg_formula *single(wg_arena *arena, int64_t coefficient, int input, int hidden) {
    sum top = {0}, bottom = {0};
    if (coefficient > LARGEST || coefficient < -LARGEST)
        return &bad_formula;
    add_term(&top, coefficient, input, hidden);
    add_term(&bottom, 1, 0, 0);
    return make(arena, &top, &bottom);
}

const wg_formula *wg__formula_number(wg_arena *arena, int64_t value) {
    return single(arena, value, 0, 0);
}

const wg_formula *wg__formula_length(wg_arena *arena, wg_length length) {
    return single(arena, 1, length == WG_LENGTH_INPUT, length == WG_LENGTH_HIDDEN);
}

/* What an operation on these gives before it is tried: NULL, bad, or neither (then a). */
static const wg_formula *operands(const wg_formula *a, const wg_formula *b) {
    return !a || !b ? NULL : wg__formula_bad(b) ? b : a;
}

static bool usable(const wg_formula *a) { return a && !wg__formula_bad(a); }

/* a/b + sign*c/d = (a*d + sign*c*b) / (b*d) */
static const wg_formula *plus(wg_arena *arena, const wg_formula *a, int sign, const wg_formula *c) {
    sum top = {0}, bottom = {0};
    if (!usable(operands(a, c)))
        return operands(a, c);
    if (!add_product(&top, 1, a->n[0], above(a), c->n[1], below(c)) ||
        !add_product(&top, sign, c->n[0], above(c), a->n[1], below(a)))
        return &bad_formula;
    add_product(&bottom, 1, a->n[1], below(a), c->n[1], below(c));
    return make(arena, &top, &bottom);
}

const wg_formula *wg__formula_add(wg_arena *arena, const wg_formula *a, const wg_formula *b) {
    return plus(arena, a, 1, b);
}

const wg_formula *wg__formula_sub(wg_arena *arena, const wg_formula *a, const wg_formula *b) {
    return plus(arena, a, -1, b);
}

const wg_formula *wg__formula_mul(wg_arena *arena, const wg_formula *a, const wg_formula *b) {
    sum top = {0}, bottom = {0};
    if (!usable(operands(a, b)))
        return operands(a, b);
    add_product(&top, 1, a->n[0], above(a), b->n[0], above(b));
    add_product(&bottom, 1, a->n[1], below(a), b->n[1], below(b));
    return make(arena, &top, &bottom);
}

const wg_formula *wg__formula_div(wg_arena *arena, const wg_formula *a, const wg_formula *b) {
    sum top = {0}, bottom = {0};
    if (!usable(operands(a, b)))
        return operands(a, b);
    add_product(&top, 1, a->n[0], above(a), b->n[1], below(b));
    add_product(&bottom, 1, a->n[1], below(a), b->n[0], above(b));
    return make(arena, &top, &bottom);
}

bool wg__formula_equal(const wg_formula *a, const wg_formula *b) {
    sum difference = {0};
    return a == b || (add_product(&difference, 1, a->n[0], above(a), b->n[1], below(b)) &&
                      add_product(&difference, -1, b->n[0], above(b), a->n[1], below(a)) &&
                      difference.n == 0);
}

bool wg__formula_constant(const wg_formula *formula, int64_t *value) {
    const term *bottom = below(formula);
    if (formula->n[1] != 1 || bottom->coefficient != 1 || bottom->power[0] || bottom->power[1])
        return false;
    if (formula->n[0] > 1 ||
        (formula->n[0] && (formula->term[0].power[0] || formula->term[0].power[1])))
        return false;
    *value = formula->n[0] ? (int64_t)formula->term[0].coefficient : 0;
    return true;
}

bool wg__formula_one(const wg_formula *formula) {
    int64_t value;
    return wg__formula_constant(formula, &value) && value == 1;
}

bool wg__formula_uses(const wg_formula *formula, wg_length length) {
    int which = length == WG_LENGTH_INPUT ? 0 : 1;
    for (int i = 0; i < formula->n[0] + formula->n[1]; i++)
        if (formula->term[i].power[which])
            return true;
    return false;
}

/* The value of a polynomial; false if it overflows. */
static bool evaluate(int n, const term *terms, const int64_t length[2], wide *value) {
    *value = 0;
    for (int i = 0; i < n; i++) {
        wide product = terms[i].coefficient;
        for (int v = 0; v < 2; v++)
            for (int k = 0; k < terms[i].power[v]; k++)
                if (__builtin_mul_overflow(product, (wide)length[v], &product))
                    return false;
        if (__builtin_add_overflow(*value, product, value))
            return false;
    }
    return true;
}

wg_status wg__formula_value(const wg_formula *formula, int64_t input, int64_t hidden,
                            int64_t *value) {
    const int64_t length[2] = {input, hidden};
    wide top, bottom;
    if (!evaluate(formula->n[0], above(formula), length, &top) ||
        !evaluate(formula->n[1], below(formula), length, &bottom) || bottom == 0 ||
        top % bottom != 0)
        return WG_RANGE;
    wide whole = top / bottom;
    if (whole > INT64_MAX || whole < INT64_MIN)
        return WG_RANGE;
    *value = (int64_t)whole;
    return WG_OK;
}

/* ---- text
 * ------------------------------------------------------------------------------------------- */

typedef struct writer {
    char *text;
    size_t size, at;
} writer;

static void put(writer *out, const char *text) {
    size_t n = strlen(text), left = out->size - out->at - 1;
    n = n < left ? n : left;
    memcpy(out->text + out->at, text, n);
    out->text[out->at += n] = 0;
}

/* One term without its sign; returns the number of factors written. */
static int put_term(writer *out, const term *t) {
    static const char *const names[2] = {"input", "hidden"};
    int factors = 0;
    wide size = t->coefficient < 0 ? -t->coefficient : t->coefficient;
    if (size != 1 || t->power[0] + t->power[1] == 0) {
        char digits[32];
        snprintf(digits, sizeof digits, "%lld", (long long)size);
        put(out, digits);
        factors++;
    }
    for (int v = 0; v < 2; v++)
        for (int k = 0; k < t->power[v]; k++) {
            put(out, factors++ ? "*" : "");
            put(out, names[v]);
        }
    return factors;
}

/* A polynomial that is not 0; in brackets if it has more terms, or more factors, than allowed. */
static void put_sum(writer *out, int n, const term *terms, bool product_needs_brackets) {
    size_t start = out->at;
    int factors = 1;
    for (int i = 0; i < n; i++) {
        put(out, i                          ? (terms[i].coefficient < 0 ? " - " : " + ")
                 : terms[i].coefficient < 0 ? "-"
                                            : "");
        factors = put_term(out, &terms[i]);
    }
    if (n <= 1 && !(product_needs_brackets && factors > 1))
        return;
    put(out, "))"); /* the first makes room for the opening one */
    if (out->at == out->size - 1)
        return; /* cut: leave it as it is */
    memmove(out->text + start + 1, out->text + start, out->at - start - 2);
    out->text[start] = '(';
}

char *wg__formula_text(const wg_formula *formula, char *text, size_t size) {
    writer out = {text, size, 0};
    const term *bottom = below(formula);
    bool whole =
        formula->n[1] == 1 && bottom->coefficient == 1 && !bottom->power[0] && !bottom->power[1];
    text[0] = 0;
    if (whole) {
        for (int i = 0; i < formula->n[0]; i++) {
            const term *t = &above(formula)[i];
            put(&out, i ? (t->coefficient < 0 ? " - " : " + ") : t->coefficient < 0 ? "-" : "");
            put_term(&out, t);
        }
        put(&out, formula->n[0] ? "" : "0");
        return text;
    }
    put_sum(&out, formula->n[0], above(formula), false);
    put(&out, "/");
    put_sum(&out, formula->n[1], bottom, true);
    return text;
}
