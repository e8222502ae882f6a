/* pointwise.h: the kernels of the pointwise ops, one set for each instruction set they are compiled for. Includes core
 * only. */
#ifndef WG_POINTWISE_H
#define WG_POINTWISE_H

#include "isa.h"

/* n elements, dense; out may be one of the inputs. An element's bits do not depend on where it stands, nor on n; but for the
 * sign of a NaN made of several. */
typedef void wg__map(int64_t n, const void *const *in, void *out);

/* Of the row selu. Source: Klambauer et al. 2017. */
#define SELU_SCALE 1.0507009873554804934193349852946
#define SELU_ALPHA 1.6732632423543772848170429916717
/* Of the row silu: e^-48. */
#define E_48 1.4251640827409352e-21

/* The number of every row. */
enum {
#define MAP1(op, ...) WG__ROW_##op,
#define MAP2(op, ...) WG__ROW_##op,
#define MAP3(op, ...) WG__ROW_##op,
#include "pointwise_rows.def"
#include "pointwise_rows_end.h"
    WG__ROWS
};

/* f32, f64, i32 (NULL if there is none). of_sum: of a function of vector maths that has one operand: it of a + b, and of (a + b) + c; for
 * f32 and f64. */
typedef struct wg__kernels {
    wg__map *map[3], *of_sum[2][2];
} wg__kernels;

#define WG__ISA_TABLE(name, needs) extern const wg__kernels wg__kernels_##name[WG__ROWS];
WG__ISA_MAP(WG__ISA_TABLE)
#undef WG__ISA_TABLE

const wg__kernels *wg__kernels_of(int isa);
const wg__kernels *wg__kernels_best(void);

/* A pointwise op's kernel for a type (0 to 2: f32, f64, i32) and an instruction set; of an op that is not built in, its own. */
wg__map *wg__map_for(const wg_op *op, int type, int isa);
/* Of a sum of two or three operands; NULL if there is none. */
wg__map *wg__map_of_sum(const wg_op *op, int operands, int type, int isa);
/* The first for a run that may use `most` at most. */
static inline wg__map *wg__map_of(const wg_op *op, int type, wg_isa most) { return wg__map_for(op, type, wg__isa_within(most)); }

#endif
