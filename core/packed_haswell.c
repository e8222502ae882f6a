/* packed_haswell.c: the kernels of matrix products for processors with AVX2 and FMA. Core only. */
#include "packed.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
/* Multiply-adds are fused by an optimising compiler alone, and must be in every build: see packed.h. */
#pragma GCC optimize("O3,align-loops=64")
#pragma GCC target("arch=haswell")
#define ISA haswell
#define BLOCK WG_LINE_BYTES
#define VECTOR 32
#define ELEMENT float
#include "packed_kernel.h"
#undef ELEMENT
#define ELEMENT double
#include "packed_kernel.h"

const wg__panel_kernels wg__panel_kernels_haswell = {BLOCK, {multiply_haswell_float, multiply_haswell_double},
    {lone_haswell_float, lone_haswell_double}};
#endif
