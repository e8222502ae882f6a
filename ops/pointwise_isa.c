/* pointwise_isa.c: which sets of kernels there are, and which this machine runs. Includes core only. */
#include "pointwise.h"

bool wg__isa_runs(int isa) {
    switch (isa) {
#define RUNS(name, needs)                                                                          \
    case WG__ISA_##name:                                                                           \
        return needs;
        WG__ISA_MAP(RUNS)
#undef RUNS
    }
    return false;
}

bool wg_isa_runs(wg_isa isa) { return isa == WG_ISA_AUTO || wg__isa_runs((int)isa - WG_ISA_BASELINE); }

int wg__isa_best(void) {
    int isa = WG__ISAS - 1;
    while (!wg__isa_runs(isa))
        isa--;
    return isa;
}

const char *wg__isa_name(int isa) {
    static const char *const names[] = {
#define NAME(name, needs) #name,
        WG__ISA_MAP(NAME)
#undef NAME
    };
    return names[isa];
}

const wg__kernels *wg__kernels_of(int isa) {
    static const wg__kernels *const tables[] = {
#define TABLE(name, needs) wg__kernels_##name,
        WG__ISA_MAP(TABLE)
#undef TABLE
    };
    return tables[isa];
}

const wg__kernels *wg__kernels_best(void) { return wg__kernels_of(wg__isa_best()); }
