/* Lengths as formulas: exact arithmetic, equality by formula, values, text. */
#include "suite.h"

#include <string.h>

#include "failing.h"
#include "formula.h"

static wg_arena arena;

static const wg_formula *number(int64_t value) { return wg__formula_number(&arena, value); }
static const wg_formula *input(void) { return wg__formula_length(&arena, WG_LENGTH_INPUT); }
static const wg_formula *hidden(void) { return wg__formula_length(&arena, WG_LENGTH_HIDDEN); }
static const wg_formula *add(const wg_formula *a, const wg_formula *b) {
    return wg__formula_add(&arena, a, b);
}
static const wg_formula *sub(const wg_formula *a, const wg_formula *b) {
    return wg__formula_sub(&arena, a, b);
}
static const wg_formula *mul(const wg_formula *a, const wg_formula *b) {
    return wg__formula_mul(&arena, a, b);
}
static const wg_formula *ratio(const wg_formula *a, const wg_formula *b) {
    return wg__formula_div(&arena, a, b);
}

static void reads(const wg_formula *a, const char *text) {
    char out[200];
    cr_assert_not_null(a, "%s is refused", text);
    cr_assert_str_eq(wg__formula_text(a, out, sizeof out), text);
}

Test(formula, prints_in_one_form) {
    reads(number(0), "0");
    reads(number(-3), "-3");
    reads(mul(number(2), hidden()), "2*hidden");
    reads(mul(hidden(), number(2)), "2*hidden");
    reads(ratio(input(), number(2)), "input/2");
    reads(ratio(mul(number(2), input()), number(4)), "input/2");
    reads(ratio(add(hidden(), number(1)), number(2)), "(hidden + 1)/2");
    reads(sub(hidden(), number(1)), "hidden - 1");
    reads(sub(number(1), hidden()), "-hidden + 1");
    reads(add(hidden(), input()), "input + hidden");
    reads(ratio(number(1), mul(number(2), hidden())), "1/(2*hidden)");
    reads(ratio(number(6), number(-4)), "-3/2");
    reads(mul(hidden(), mul(hidden(), input())), "input*hidden*hidden");
    reads(ratio(number(1), add(input(), hidden())), "1/(input + hidden)");
}

Test(formula, reduces_what_divides) {
    reads(ratio(mul(hidden(), input()), hidden()), "input");
    reads(sub(hidden(), hidden()), "0");
    reads(ratio(sub(mul(hidden(), hidden()), number(1)), sub(hidden(), number(1))), "hidden + 1");
    reads(add(ratio(hidden(), number(2)), ratio(hidden(), number(2))), "hidden");
}

Test(formula, equality_is_of_formulas_not_numbers) {
    cr_assert(wg__formula_equal(add(hidden(), hidden()), mul(number(2), hidden())));
    cr_assert(!wg__formula_equal(hidden(), input()));
    cr_assert(!wg__formula_equal(hidden(), number(1)));
    cr_assert(!wg__formula_equal(ratio(hidden(), number(2)), hidden()));
    const wg_formula *a = add(hidden(), number(1)), *b = add(input(), number(2));
    const wg_formula *c = add(input(), number(3));
    cr_assert(wg__formula_equal(ratio(mul(a, b), mul(a, c)), ratio(b, c)));
    cr_assert(!wg__formula_equal(ratio(mul(a, b), mul(a, c)), ratio(c, b)));
}

Test(formula, constants_and_ones_are_recognised) {
    int64_t value = 7;
    cr_assert(wg__formula_constant(number(5), &value));
    cr_assert_eq(value, 5);
    cr_assert(wg__formula_constant(sub(hidden(), hidden()), &value));
    cr_assert_eq(value, 0);
    cr_assert(!wg__formula_constant(hidden(), &value));
    cr_assert(!wg__formula_constant(ratio(number(1), number(2)), &value));
    cr_assert(wg__formula_one(ratio(input(), input())));
    cr_assert(!wg__formula_one(input()));
    cr_assert(wg__formula_uses(ratio(number(1), input()), WG_LENGTH_INPUT));
    cr_assert(!wg__formula_uses(ratio(number(1), input()), WG_LENGTH_HIDDEN));
}

Test(formula, values_are_whole_or_refused) {
    int64_t value;
    cr_assert_eq(wg__formula_value(ratio(add(hidden(), input()), number(2)), 3, 5, &value), WG_OK);
    cr_assert_eq(value, 4);
    cr_assert_eq(wg__formula_value(ratio(hidden(), number(2)), 3, 5, &value), WG_RANGE);
    cr_assert_eq(wg__formula_value(ratio(number(1), sub(hidden(), number(5))), 3, 5, &value),
                 WG_RANGE);
    const wg_formula *power = hidden();
    for (int i = 0; i < 3; i++)
        power = mul(power, power);
    cr_assert_eq(wg__formula_value(power, 1, 100, &value), WG_OK);
    cr_assert_eq(value, 10000000000000000);
    cr_assert_eq(wg__formula_value(power, 1, 1000, &value), WG_RANGE);
    cr_assert_eq(wg__formula_value(power, 1, INT64_MAX, &value), WG_RANGE);
    const wg_formula *both = add(input(), hidden()), *square = mul(both, both);
    cr_assert_eq(wg__formula_value(square, 3, 4, &value), WG_OK);
    cr_assert_eq(value, 49);
    cr_assert_eq(wg__formula_value(square, INT64_MAX, INT64_MAX, &value), WG_RANGE,
                 "each term fits in 128 bits, their sum does not");
}

Test(formula, overflow_and_division_by_zero_are_bad) {
    const wg_formula *large = number((int64_t)1 << 50), *power = hidden(), *many = number(1);
    cr_assert(wg__formula_bad(mul(large, large)));
    cr_assert(wg__formula_bad(number(INT64_MAX)));
    cr_assert(wg__formula_bad(number(INT64_MIN)));
    cr_assert(wg__formula_bad(ratio(hidden(), number(0))));
    cr_assert(wg__formula_bad(ratio(hidden(), sub(input(), input()))));
    for (int i = 0; i < 3; i++)
        power = mul(power, power);
    cr_assert(wg__formula_bad(mul(power, power)));
    cr_assert_null(add(NULL, hidden()));
    for (int i = 0; i < 10; i++)
        many = mul(many, add(add(hidden(), input()), number(1)));
    cr_assert(wg__formula_bad(many));
}

/* 1 + a + … + a**15: as many terms as a formula may have. */
static const wg_formula *longest(const wg_formula *a) {
    const wg_formula *sum = number(1);
    for (int i = 0; i < 15; i++)
        sum = add(mul(sum, a), number(1));
    return sum;
}

Test(formula, products_of_the_longest_fit_and_sums_of_them_are_bad) {
    const wg_formula *wide = longest(input()), *tall = longest(hidden()), *power = input();
    int64_t value;
    cr_assert_eq(wg__formula_value(wide, 2, 1, &value), WG_OK);
    cr_assert_eq(value, 65535);
    cr_assert(wg__formula_bad(mul(wide, tall)), "256 terms");
    reads(ratio(mul(wide, hidden()), wide), "hidden");
    for (int i = 0; i < 14; i++)
        power = mul(power, input());
    /* 256 terms of the one product and another of the other */
    cr_assert(wg__formula_bad(add(ratio(wide, input()), ratio(power, tall))));
    cr_assert(wg__formula_bad(sub(ratio(power, tall), ratio(wide, input()))));
}

Test(formula, what_was_refused_stays_refused_and_what_is_bad_stays_bad) {
    const wg_formula *bad = ratio(hidden(), number(0));
    cr_assert_null(sub(hidden(), NULL));
    cr_assert_null(mul(NULL, hidden()));
    cr_assert_null(ratio(hidden(), NULL));
    cr_assert_null(ratio(NULL, bad));
    cr_assert(wg__formula_bad(add(bad, hidden())));
    cr_assert(wg__formula_bad(mul(hidden(), bad)));
    cr_assert(wg__formula_bad(ratio(bad, hidden())));
}

Test(formula, text_is_cut_to_size) {
    char out[8];
    const wg_formula *a = ratio(add(hidden(), input()), add(hidden(), number(1)));
    for (size_t size = 1; size <= sizeof out; size++)
        cr_assert_lt(strlen(wg__formula_text(a, out, size)), size);
}

Test(formula, refused_memory_gives_nothing) {
    failing f;
    wg_memory *memory = failing_memory(&f, 1);
    wg_arena poor = {.memory = memory};
    cr_assert_null(wg__formula_number(&poor, 3));
    wg__arena_free(&poor);
    wg_memory_free(memory);
}
