/* packed_skylake_avx512.c: the kernels of matrix products for processors with AVX-512. Core only. */
#include "packed.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
/* Multiply-adds are fused by an optimising compiler alone, and must be in every build: see packed.h. */
#pragma GCC optimize("O3")
#pragma GCC target("arch=skylake-avx512")
#define STORE_PAST(to, x) __builtin_ia32_movntps512((float *)(to), (float __attribute__((vector_size(64))))(x))
#define ISA skylake_avx512
#define BLOCK WG_BLOCK_BYTES
#define VECTOR 64
#define ELEMENT float
#include "packed_kernel.h"
#undef ELEMENT
#define ELEMENT double
#include "packed_kernel.h"

const wg__panel_kernels wg__panel_kernels_skylake_avx512 = {BLOCK, {multiply_skylake_avx512_float, multiply_skylake_avx512_double},
    {lone_skylake_avx512_float, lone_skylake_avx512_double}};
#endif
