/* pointwise_isa.c: the sets of kernels that there are. Includes core only. */
#include "pointwise.h"

const wg__kernels *wg__kernels_of(int isa) {
    static const wg__kernels *const tables[] = {
#define TABLE(name, needs) wg__kernels_##name,
        WG__ISA_MAP(TABLE)
#undef TABLE
    };
    return tables[isa];
}

const wg__kernels *wg__kernels_best(void) { return wg__kernels_of(wg__isa_best()); }
