/* isa.h: the instruction sets that kernels are compiled for, and which this machine runs. Core only. */
#ifndef WG_ISA_H
#define WG_ISA_H

#include "core.h"

/* Compiled instruction sets, worst first: the names they are known by, and what they need. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WG__ISA_MAP(X)                                                                             \
    X(baseline, true)                                                                              \
    X(haswell, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&                  \
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))                \
    X(skylake_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&   \
                          __builtin_cpu_supports("avx512dq") &&                                    \
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
#else
#define WG__ISA_MAP(X) X(baseline, true)
#endif

enum {
#define WG__ISA_ENUM(name, needs) WG__ISA_##name,
    WG__ISA_MAP(WG__ISA_ENUM)
#undef WG__ISA_ENUM
        WG__ISAS
};

/* Numbered as in wg_isa, from WG_ISA_BASELINE on; WG_ISA_AMX, which is of products alone (amx.h), is none of them. Whether this machine
 * runs it; the best one that it does; the best of those up to `most`; and the name. */
bool wg__isa_runs(int isa);
int wg__isa_best(void);
int wg__isa_within(wg_isa most);
const char *wg__isa_name(int isa);

#endif
