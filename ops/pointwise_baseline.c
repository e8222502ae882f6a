/* pointwise_baseline.c: the kernels of the pointwise ops for processors with what every processor of the family has. Includes core only. */
#include "pointwise.h"
#include "vmath.h"

#define ISA baseline
#define VECTOR 16
#include "pointwise_maps.h"
#include "pairs_maps.h"
#include "sums_kernels.h"
