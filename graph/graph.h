/* graph.h: what is done to a tape, as the library's own parts see it. Includes ops and core. */
#ifndef WG_GRAPH_H
#define WG_GRAPH_H

#include "ops.h"

/* Evaluation that shows every value as it is computed (dense or strided). Stops early when watch returns false.
 * With a watch, out may be NULL: then nothing is kept or stored; one that stops early must have it so. */
typedef bool wg_watch(void *user, const wg_tape *tape, int64_t id, const wg_array *value);
wg_status wg__eval(const wg_run_options *options, int n, const wg_var *y, wg_tensor **out, wg_watch *watch,
                   void *user, wg_error *error);

/* Whether every element is finite. */
bool wg__finite(const wg_array *value);
/* The first NaN, or else the first infinite element: its flat index, and itself in *found; -1 if there is none. */
int64_t wg__nonfinite_element(const wg_array *value, double *found);

#endif
