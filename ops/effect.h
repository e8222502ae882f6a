/* effect.h: the two ops that do something besides having a value. Includes core only. */
#ifndef WG_EFFECT_H
#define WG_EFFECT_H

#include "tape.h"

extern const wg_op wg__op_store, wg__op_guard;

/* WG_CONFLICT if two stores among y go to one tensor (one store may be named twice); WG_MEMORY, WG_LIMIT. */
wg_status wg__check_stores(int n, const wg_var *y, wg_error *error);

#endif
