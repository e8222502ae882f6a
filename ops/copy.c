/* copy.c: copying an array of any strides to dense memory, through the walk of the pointwise ops. */
#include "ops.h"

#include <string.h>

static void move4(int64_t n, const void *const *in, void *out) { memcpy(out, in[0], 4 * (size_t)n); }
static void move8(int64_t n, const void *const *in, void *out) { memcpy(out, in[0], 8 * (size_t)n); }

static const wg_op copier = {.name = "copy", .arity = 1, .kind = WG_POINTWISE, .map = {move4, move8, move4}};

void wg__copy(const wg_team *team, const wg_array *from, void *to) {
    wg_call call = {.op = &copier, .n = 1, .in = from, .team = (wg_team *)team,
                    .out = {.data = to, .shape = from->shape, .dtype = from->dtype}};
    wg__pointwise_run(&call);
}

/* ---- the same past the caches: what a loop keeps of a step (graph/bypass.c) ---- */

static void bypass4(int64_t n, const void *const *in, void *out) { wg__bypass(out, in[0], 4 * (size_t)n); }
static void bypass8(int64_t n, const void *const *in, void *out) { wg__bypass(out, in[0], 8 * (size_t)n); }

const wg_op wg__op_bypass = {.name = "bypass", .arity = 1, .kind = WG_POINTWISE, .traits = WG_TAKES_STRIDES | WG_IS_LINEAR, .map = {bypass4, bypass8}};
