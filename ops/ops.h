/* ops.h: what the families of ops share: the builder that broadcasts, and helpers for rules. Includes core only. */
#ifndef WG_OPS_H
#define WG_OPS_H

#include "tape.h"

/* Records a pointwise op: broadcasts the operands to one shape (views), then applies it. */
wg_var wg__pointwise(const wg_op *op, int n, const wg_var *in);
/* The same of bare constants alone: a bare constant, worked out at once in double. op: one with a map for f64; n: 1 to 3. */
wg_var wg__pointwise_number(const wg_op *op, int n, const wg_var *in);

/* Of an array with so many elements or rows, cut by rows as the result is: how many come before those of the call. */
static inline int64_t wg__before(const wg_call *call, int64_t count) {
    return call->before ? call->before * (count / call->out.shape->dim[0]) : 0;
}

/* The kernel of every pointwise op: blocks of any strides through op->map. */
wg_status wg__pointwise_run(wg_call *call);

/* An op's kernel: its own; of a pointwise op without one, the walk through its map; else one that fails. */
typedef wg_status wg__kernel_run(wg_call *call);
wg_status wg__no_kernel(wg_call *call);
static inline wg__kernel_run *wg__kernel(const wg_op *op) {
    return op->run ? op->run : op->kind == WG_POINTWISE ? wg__pointwise_run : wg__no_kernel;
}

/* Which inputs are cut along with rows of the result (wg_op.rows), the rule for pointwise ops applied. 0 too where an op's
 * own rule names an input that has not the result's rows. */
uint32_t wg__rows_of(const wg_infer *infer);
/* Rules that records share. */
uint32_t wg__rows_all(const wg_infer *infer);              /* every input, if the result has an axis */
uint32_t wg__rows_before_last(const wg_infer *infer);      /* the same along in[0]'s last axis, if that is not its first */
uint32_t wg__rows_beside(const wg_infer *infer, int axis); /* the same along this axis of the result */
uint32_t wg__rows_kept(const wg_infer *infer);             /* one input, if axis 0 keeps its size: row-major order is kept */
uint32_t wg__rows_aligned(const wg_infer *infer);          /* the same if the rank is kept too: axis k stays axis k */

/* Copies an array of any strides to dense memory in row-major order. */
void wg__copy(const wg_team *team, const wg_array *from, void *to);

/* The shape two operands broadcast to, by NumPy's rule; false if they do not. */
bool wg__broadcast(const wg_shape *a, const wg_shape *b, wg_shape *out);

/* Whether x broadcasts to just this shape. */
bool wg__broadcasts(const wg_shape *x, const wg_shape *to);

/* x with the (interned) shape given: broadcast, summed, or its elements in another form; x itself if it has it already. */
wg_var wg__broadcast_to(wg_var x, const wg_shape *shape);
wg_var wg__sum_to(wg_var x, const wg_shape *shape);
wg_var wg__reshape(wg_var x, const wg_shape *shape);

/* The shape of out (rank, dim), for attributes. */
wg_dims wg__dims(int rank, const int64_t *dim);
wg_dims wg__dims_of(wg_var x);

/* For wg_op.describe, of attributes that are a wg_dims, and that are an int: the axis. */
void wg__describe_dims(const void *attr, char *text, size_t size);
void wg__describe_axis(const void *attr, char *text, size_t size);

/* The attributes of matmul: which operands are read transposed. */
typedef struct wg_matmul_attr {
    uint32_t a, b;
} wg_matmul_attr;
/* The attributes of slice. */
typedef struct wg_slice_attr {
    int64_t axis, from, count;
} wg_slice_attr;
/* Whether an op makes one matrix, the sum of products of matrices (WG_MOST_PRODUCTS at most); and those of a call of one, for schedules of
 * their own (wg__tiles_of): how many. */
struct wg_gemm;
bool wg__is_products(const wg_op *op, const wg_shape *out);
int wg__products_of(const wg_call *call, struct wg_gemm *g);


/* Made by a pass: what a draw gives with several streams, `apart` from each other, along a new first axis. */
extern const wg_op wg__op_draws;
/* Whether b's attributes are a's, of this draw, with another stream; and how far that is from a's. */
bool wg__draws_apart(const wg_op *draw, const void *a, const void *b, int64_t *apart);
/* Fills attributes of wg__op_draws (its attr_size bytes): `times` draws, of which the first has the attributes given. */
void wg__draws_set(void *attr, const wg_op *draw, const void *first, int64_t apart, int64_t times);

/* Made by a pass: a + b, of which only the sum of all rows is wanted: rows may be added up in groups on the way. */
extern const wg_op wg__op_add_rows;

/* Made by a pass, in loops: x, written past the caches (core/nontemporal.c). */
extern const wg_op wg__op_bypass;
/* Made by a pass, in loops, of floats: 1 - y^2 and y (1 - y), with the bits of their ops one by one, but for the sign of a NaN. */
extern const wg_op wg__op_tanh_partial, wg__op_sigmoid_partial;

/* x as an operand whose shape a builder may read: false (and the tape's failure set) if x is invalid or bare. */
bool wg__operand(wg_var x, const char *name);

#endif
