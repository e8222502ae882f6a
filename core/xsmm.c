/* xsmm.c: the only file that calls LIBXSMM, for wide blocks. Its matrices are column-major, so that its A is our B, and its m our columns. */
#include "xsmm.h"

#if WG_HAVE_LIBXSMM

#include <libxsmm.h>

/* Kernels address rows by 32-bit offsets. */
enum { FARTHEST = 1 << 20 };

bool wg__xsmm_serves(wg_isa most) {
    int target = libxsmm_get_target_archid();
    wg_isa needs = target >= LIBXSMM_X86_AVX512 ? WG_ISA_AVX512 : WG_ISA_AVX2;
    return target >= LIBXSMM_X86_AVX2 && target <= LIBXSMM_X86_ALLFEAT && (most == WG_ISA_AUTO || most >= needs);
}

wg__xsmm_kernel *wg__xsmm_kernel_of(wg_dtype dtype, wg_isa most, const wg_panel *p) {
    bool turned = p->a_column != 1; /* A^T lies in rows */
    int64_t a_ld = turned ? p->a_column : p->a_row;
    if ((turned && p->a_row != 1) || a_ld < (turned ? p->m : p->k) || p->b_row < p->columns || p->c_row < p->columns ||
        a_ld > FARTHEST || p->b_row > FARTHEST || p->c_row > FARTHEST || p->m < 1 || p->k < 1 || p->m > FARTHEST ||
        p->k > FARTHEST || p->columns != wg__packed_width(dtype) || !wg__xsmm_serves(most))
        return NULL;
    const int m = (int)p->columns, n = (int)p->m, k = (int)p->k, lda = (int)p->b_row, ldb = (int)a_ld, ldc = (int)p->c_row;
    const int flags = turned ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE, prefetch = LIBXSMM_PREFETCH_NONE;
    /* Its kernels take more arguments where they prefetch: these do not. */
    if (dtype == WG_F32) {
        const float alpha = 1, beta = p->add;
        return (wg__xsmm_kernel *)libxsmm_smmdispatch(m, n, k, &lda, &ldb, &ldc, &alpha, &beta, &flags, &prefetch);
    }
    const double alpha = 1, beta = p->add;
    return (wg__xsmm_kernel *)libxsmm_dmmdispatch(m, n, k, &lda, &ldb, &ldc, &alpha, &beta, &flags, &prefetch);
}

#else

bool wg__xsmm_serves(wg_isa most) { return (void)most, false; }
wg__xsmm_kernel *wg__xsmm_kernel_of(wg_dtype dtype, wg_isa most, const wg_panel *p) {
    return (void)dtype, (void)most, (void)p, NULL;
}

#endif
