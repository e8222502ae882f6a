/* pointwise_haswell.c: the kernels of the pointwise ops for processors with AVX2 and FMA. Includes core only. */
#include "pointwise.h"
#include "vmath.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=haswell")
#define ISA haswell
#define VECTOR 32
#include "pointwise_maps.h"
#include "pairs_maps.h"
#include "sums_kernels.h"
#endif
