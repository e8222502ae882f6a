/* xsmm.h: kernels that LIBXSMM makes when asked, where the build has it. Core only. */
#ifndef WG_XSMM_H
#define WG_XSMM_H

#include "packed.h"

/* Whether LIBXSMM makes kernels here that use at most `most`. The first call starts LIBXSMM: milliseconds. */
bool wg__xsmm_serves(wg_isa most);

/* The kernel for p's form, as wide as a block, called as kernel(b, a, c); NULL if there is none: then packed.h's does the same.
 * Made once in a process (some 30 us), found again in less than 0.2 us. */
typedef void wg__xsmm_kernel(const void *b, const void *a, void *c);
wg__xsmm_kernel *wg__xsmm_kernel_of(wg_dtype dtype, wg_isa most, const wg_panel *p);

#endif
