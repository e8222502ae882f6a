/* plot.h: pictures of lines with bands, as SVG, drawn by gnuplot where it is installed. */
#ifndef WG_TOOLS_PLOT_H
#define WG_TOOLS_PLOT_H

#include "output.h"

/* A line and the band around it over x = first, first + 1, …; a value may be infinite or NaN: there the line is broken. */
typedef struct plot_line {
    char *title;
    int64_t first, count;
    const double *value, *low, *high; /* low and high: NULL for no band */
} plot_line;

typedef struct plot {
    const char *title, *x, *y;
    int lines;
    const plot_line *line;
} plot;

/* Writes the picture to folder/name. Where gnuplot is missing or refuses, a note says so and that is no failure: *drawn is
 * false. Returns 0, or 1 having said what is wrong. */
int plot_draw(const common *c, const plot *p, const char *folder, const char *name, bool *drawn);

#endif
