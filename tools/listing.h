/* listing.h: a cell's parameters for people: what `cells` prints of a cell, and `train` once, so
 * that a slip in a name is seen. */
#ifndef WG_TOOLS_LISTING_H
#define WG_TOOLS_LISTING_H

#include "output.h"

/* Every parameter with its shape (as a formula, and in numbers if hidden > 0), initialiser, line
 * and reason. draw may be NULL. Returns 0, or 1 having said what is wrong. */
int list_params(const common *c, const wg_cell *cell, const wg_draw *draw, int64_t input,
                int64_t hidden, FILE *file);
/* The same of inputs, states and values: name, shape, line. */
int list_names(const common *c, const wg_cell *cell, FILE *file);

#endif
