/* loop.h: the ops that stand at the edges of a loop in a program; passes make them. Includes the program. */
#ifndef WG_LOOP_H
#define WG_LOOP_H

#include "program.h"

/* In a loop: element `from + step * iteration` of an outside array, along its first axis. late, fewer: how many iterations at the
 * start and at the end there may be none for, where `ending` alone reads it. */
typedef struct wg_element_attr {
    int64_t from, step, late, fewer;
} wg_element_attr;
extern const wg_op wg__op_element;

/* In a loop: the first operand (from outside) in the first iteration, later what the second (of the same loop, and the
 * only kind of operand that may stand behind its reader) was in the iteration before. */
extern const wg_op wg__op_carry;

/* In a loop: the first operand (an element, a value from outside, or such a choice), but in iteration `at`, one of the last or the first, the second, from
 * outside. */
typedef struct wg_ending_attr {
    int64_t at;
} wg_ending_attr;
extern const wg_op wg__op_ending;

/* After a loop: what the operand was in all iterations, along a new first axis; in the last iteration. */
typedef struct wg_stacked_attr {
    int64_t times, backward; /* backward: the last iteration comes first */
} wg_stacked_attr;
extern const wg_op wg__op_stacked, wg__op_last;

/* In a loop: the first operand times the second, which is packed (pack.c), and to it may be added the third times the fourth, likewise;
 * and one of these products of a call of it, as its kernel would make it at each call: the second adds to the first. alone: of a loop
 * of one row in all. */
enum { WG_MOST_TERMS = 2 };
enum { WG_PACKED_ROWS = 24 }; /* rows times iterations from which packing gains */
extern const wg_op wg__op_packed_product;
struct wg_packed_product;
void wg__packed_call_init(struct wg_packed_product *product, const wg_call *call, int term, bool alone);

/* Whether a loop over rows adds up groups of WG_FOLD_ROWS rows: a tile has whole groups, of which it keeps the sums alone. That a loop
 * does so must not depend on its tiles, which follow from the threads. may_fold: whether one of so many rows would do it with i. */
enum { WG_FOLD_SHIFT = 2, WG_FOLD_ROWS = 1 << WG_FOLD_SHIFT };
bool wg__may_fold(const wg_instruction *i, int64_t rows);
bool wg__folds_rows(const wg_loop *loop, const wg_instruction *i);

static inline bool wg__is_edge(const wg_instruction *i) { return i->op == &wg__op_stacked || i->op == &wg__op_last; }
/* In a loop, one of its operands, by iteration. */
static inline bool wg__is_choice(const wg_instruction *i) { return i->op == &wg__op_carry || i->op == &wg__op_ending; }
static inline bool wg__is_carry(const wg_instruction *i) { return i->op == &wg__op_carry; }

#endif
