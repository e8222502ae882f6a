/* softmax.h: one row of exponentials, as softmax and the losses on it share it. type: 0 for f32, 1 for f64. Core only. */
#ifndef WG_SOFTMAX_H
#define WG_SOFTMAX_H

#include "core.h"

/* The largest of n elements (NaN if there is one, -Inf if n = 0) into *most; returns ln of the sum of e^(x - most). */
double wg__row_log_sum(int type, int64_t n, const void *x, double *most);
/* y = e^x / (the sum of e^x). */
void wg__row_softmax(int type, int64_t n, const void *x, void *y);

#endif
