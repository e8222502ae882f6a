/* zoo.h: the texts of the cells in cells/zoo, embedded at build time by embed.py. */
#ifndef WG_ZOO_H
#define WG_ZOO_H

#include <stddef.h>

typedef struct wg_zoo_cell {
    const char *name, *text; /* "lstm", and the file's contents */
    size_t size;
} wg_zoo_cell;

extern const wg_zoo_cell wg__zoo[]; /* by name */
extern const int wg__zoo_count;

#endif
