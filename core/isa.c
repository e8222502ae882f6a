/* isa.c: which instruction sets there are, and which this machine runs. */
#include "amx.h"
#include "isa.h"

#include <stdatomic.h>

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

bool wg_isa_runs(wg_isa isa) {
    return isa == WG_ISA_AUTO || (isa == WG_ISA_AMX ? wg__amx_runs() : wg__isa_runs((int)isa - WG_ISA_BASELINE));
}

int wg__isa_best(void) {
    static _Atomic int known = WG__ISAS; /* none yet */
    int isa = atomic_load_explicit(&known, memory_order_relaxed);
    if (isa < WG__ISAS)
        return isa;
    while (!wg__isa_runs(--isa))
        continue;
    atomic_store_explicit(&known, isa, memory_order_relaxed);
    return isa;
}

int wg__isa_within(wg_isa most) {
    int best = wg__isa_best(), lowered = (int)most - WG_ISA_BASELINE;
    return most == WG_ISA_AUTO || lowered > best || lowered < 0 ? best : lowered;
}

const char *wg__isa_name(int isa) {
    static const char *const names[] = {
#define NAME(name, needs) #name,
        WG__ISA_MAP(NAME)
#undef NAME
    };
    return names[isa];
}
