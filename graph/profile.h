/* profile.h: where the time of a run goes. Includes the program. */
#ifndef WG_PROFILE_H
#define WG_PROFILE_H

#include "program.h"

/* Adds the seconds of an instruction's kernel to its part, and to its own. */
static inline void wg__profile_add(wg_profile *profile, const wg_program *program, uint32_t id, double seconds) {
    switch ((int)program->list[id].op->kind) {
    case WG_PRODUCT: profile->products += seconds; break;
    case WG_POINTWISE: profile->pointwise += seconds; break;
    case WG_MOVE:
    case WG_VIEW: profile->packing += seconds; break;
    default: profile->other += seconds;
    }
    if (profile->kernel)
        profile->kernel[id] += seconds;
}

/* The seconds since *begun, which becomes now, of all threads that were at work; the meter begins anew. */
static inline double wg__profile_worked(wg_meter *meter, double *begun) {
    double now = wg__seconds(), spent = now - *begun - meter->waited + meter->helped;
    *begun = now;
    *meter = (wg_meter){0};
    return spent;
}

#endif
