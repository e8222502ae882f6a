/* packed_baseline.c: the kernels of matrix products for processors with what every processor of the family has. Core only. */
#include "packed.h"

#include <string.h>

#define ISA baseline
#define BLOCK WG_BLOCK_BYTES
#define VECTOR 16
#define ELEMENT float
#include "packed_kernel.h"
#undef ELEMENT
#define ELEMENT double
#include "packed_kernel.h"

const wg__panel_kernels wg__panel_kernels_baseline = {BLOCK, {multiply_baseline_float, multiply_baseline_double},
    {lone_baseline_float, lone_baseline_double}};
