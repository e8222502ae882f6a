/* make.h: instructions that several passes put into a program, with their shapes. Every call returns the new index, or 0 and
 * notes in r->failed that memory is out. Includes the program. */
#ifndef WG_MAKE_H
#define WG_MAKE_H

#include "program.h"

extern const wg_op wg__op_add, wg__op_concat, wg__op_matmul, wg__op_matmul_pieces, wg__op_reshape, wg__op_slice, wg__op_sum_to;

/* Whether values of a loop stand side by side in it. */
static inline bool wg__is_side_by_side(const wg_instruction *i) {
    return i->op == &wg__op_concat && i->loop && wg__axis(*(const int *)i->attr, i->shape->rank) == i->shape->rank - 1;
}

/* in: indices in the new list. loop: where it stands; 0: in none. */
uint32_t wg__make(wg_rewrite *r, const wg_op *op, const void *attr, uint32_t n, const uint32_t *in, uint32_t loop, uint32_t origin);

uint32_t wg__make_slice(wg_rewrite *r, uint32_t x, int axis, int64_t from, int64_t count, uint32_t loop);
uint32_t wg__make_reshape(wg_rewrite *r, uint32_t x, int rank, const int64_t *dim, uint32_t loop);
uint32_t wg__make_concat(wg_rewrite *r, uint32_t n, const uint32_t *x, int axis, uint32_t loop);
uint32_t wg__make_matmul(wg_rewrite *r, uint32_t a, uint32_t b, bool transpose_a, bool transpose_b, uint32_t loop, uint32_t origin);
uint32_t wg__make_add(wg_rewrite *r, uint32_t a, uint32_t b, uint32_t loop, uint32_t origin);
uint32_t wg__make_element(wg_rewrite *r, uint32_t array, int64_t from, int64_t step, uint32_t loop);
uint32_t wg__make_stacked(wg_rewrite *r, uint32_t value, int64_t times, bool backward);

/* How often every value is read, by instructions and as an output. NULL when out of memory. */
uint32_t *wg__count_reads(const wg_program *program);

/* By id, the number of its first operand, where the operands of all instructions are numbered through from 0; and how many there
 * are. NULL when out of memory. */
int64_t *wg__number_operands(const wg_program *program, int64_t *total);

#endif
