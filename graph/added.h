/* added.h: pairs of products of a loop that are only added to each other, and the sums that do so. Two passes ask: such a pair can be
 * made in one go. Includes the program. */
#ifndef WG_ADDED_H
#define WG_ADDED_H

#include "program.h"

typedef struct wg_added {
    uint32_t *partner; /* by id of a product: the other of its pair; 0: it is in none */
    uint32_t *first;   /* by id of a sum that adds a pair: one of it; 0: no such sum */
    uint32_t *within;  /* by id of an addition that is part of such a sum: that sum */
} wg_added;

/* Marks of products: those that make one side of a pair, or the other, or any; 0: in none. Of several pairs one of unlike marks is taken. */
enum { WG_ADDED_ONE = 1, WG_ADDED_OTHER = 2, WG_ADDED_ANY = 3 };

/* Finds one pair a sum. reads, mark: by id. False when out of memory. Free it in either case. */
bool wg__added_find(wg_added *added, const wg_program *program, const uint32_t *reads, const uint8_t *mark);
void wg__added_free(wg_added *added, const wg_program *program);

#endif
