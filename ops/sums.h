/* sums.h: the kernels of sums and of rows brought to one scale, one table for each instruction set. Ops only. */
#ifndef WG_SUMS_H
#define WG_SUMS_H

#include "fold.h"
#include "isa.h"

/* Of rows of f32 and f64: the mean, in m (0 if not `centred`), and 1/sqrt(mean (x - m)^2 + eps), the scale; (x - m) scale; and
 * g - y mean(g y), if `centred` less mean(g) too. Sums are in double, in an order that follows from n alone. */
typedef struct wg__sums {
    wg_folder sum;
    double (*scale[2])(int64_t n, const void *x, double eps, bool centred, double *m);
    void (*apply[2])(int64_t n, const void *x, double m, double scale, void *y);
    void (*project[2])(int64_t n, const void *g, const void *y, bool centred, void *out);
} wg__sums;
#define WG__SUMS_TABLE(name, needs) extern const wg__sums wg__sums_##name;
WG__ISA_MAP(WG__SUMS_TABLE)
#undef WG__SUMS_TABLE

static inline const wg__sums *wg__sums_of(wg_isa most) {
    static const wg__sums *const tables[] = {
#define WG__SUMS_TABLE(name, needs) &wg__sums_##name,
        WG__ISA_MAP(WG__SUMS_TABLE)
#undef WG__SUMS_TABLE
    };
    return tables[wg__isa_within(most)];
}

#endif
