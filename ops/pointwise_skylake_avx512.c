/* pointwise_skylake_avx512.c: the kernels of the pointwise ops for processors with AVX-512. Includes core only. */
#include "pointwise.h"
#include "vmath.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=skylake-avx512")
#define ISA skylake_avx512
#define VECTOR 64
#include "pointwise_maps.h"
#include "pairs_maps.h"
#include "sums_kernels.h"
#endif
