/* formula.h: lengths as formulas in `input`, `hidden` and whole numbers: exact, in an arena, equal
 * by formula and never by the numbers of one data set. Includes only core. */
#ifndef WG_FORMULA_H
#define WG_FORMULA_H

#include "core.h"

/* A quotient of two polynomials in input and hidden with whole coefficients; immutable. */
typedef struct wg_formula wg_formula;

typedef enum wg_length { WG_LENGTH_INPUT, WG_LENGTH_HIDDEN } wg_length;

/* Each returns NULL when refused memory, and a bad formula when a coefficient, the degree or the
 * number of terms overflows, or on division by zero. NULL operands give NULL, bad ones bad. */
bool wg__formula_bad(const wg_formula *formula);
const wg_formula *wg__formula_number(wg_arena *arena, int64_t value);
const wg_formula *wg__formula_length(wg_arena *arena, wg_length length);
const wg_formula *wg__formula_add(wg_arena *arena, const wg_formula *a, const wg_formula *b);
const wg_formula *wg__formula_sub(wg_arena *arena, const wg_formula *a, const wg_formula *b);
const wg_formula *wg__formula_mul(wg_arena *arena, const wg_formula *a, const wg_formula *b);
const wg_formula *wg__formula_div(wg_arena *arena, const wg_formula *a, const wg_formula *b);

bool wg__formula_equal(const wg_formula *a, const wg_formula *b);
/* True if the formula is a whole number, whatever input and hidden are. */
bool wg__formula_constant(const wg_formula *formula, int64_t *value);
bool wg__formula_one(const wg_formula *formula); /* is the number 1 */
bool wg__formula_uses(const wg_formula *formula, wg_length length);
/* The value for given numbers; WG_RANGE if it is not whole, overflows or divides by zero. */
wg_status wg__formula_value(const wg_formula *formula, int64_t input, int64_t hidden,
                            int64_t *value);
/* "2*hidden", "input/2", "(hidden + 1)/2", cut to `size` bytes; returns text. */
char *wg__formula_text(const wg_formula *formula, char *text, size_t size);

#endif
