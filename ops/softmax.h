/* softmax.h: one row of exponentials, as softmax and the losses on it share it. Core only. */
#ifndef WG_SOFTMAX_H
#define WG_SOFTMAX_H

#include "core.h"

/* The type of a call's rows (0: f32, 1: f64), and the exponential for it that the run may use. */
typedef struct wg__row_maths {
    int type;
    void (*exps)(int64_t n, const void *const *in, void *out);
} wg__row_maths;
wg__row_maths wg__row_maths_of(const wg_call *call);

/* The largest of n elements (NaN if there is one, -Inf if n = 0) into *most; returns ln of the sum of e^(x - most). */
double wg__row_log_sum(wg__row_maths maths, int64_t n, const void *x, double *most);
/* y = e^x / (the sum of e^x). */
void wg__row_softmax(wg__row_maths maths, int64_t n, const void *x, void *y);

#endif
