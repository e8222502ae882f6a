/* bypass.c: what threads keep of each step in a large stack goes there past the caches, by an op of its own; the step itself has the value in
 * its tile. When a run writes a stack, other cores hold what the run before left in it, of which they have made products of all steps, and a
 * store to such a line waits until they have given it up. Changes no value. */
#include "loop.h"
#include "ops.h"

#include "amx.h"

#include <string.h>

/* Bytes of a row that has whole lines enough. */
enum { LEAST_ROW = 256 };

/* Whether the stack of value i is large, and so are its rows. Not in f32 where a machine makes products in parts: those would wait for memory. */
static bool is_worth_it(const wg_program *p, const wg_instruction *i, const wg_instruction *stack) {
    return i->region && i->shape->dim[0] > 1 && wg__instruction_bytes(stack) >= (size_t)p->far_bytes &&
           wg__instruction_bytes(i) / (size_t)i->shape->dim[0] >= (size_t)wg__min(LEAST_ROW, p->far_bytes) &&
           !(i->dtype == WG_F32 && p->parts && wg__amx_runs());
}

/* Marks values that go past the caches, by id, in loops of which several threads have tiles; false if there are none. */
static bool find(const wg_program *p, bool *past) {
    bool any = false;
    for (uint32_t id = 1; id < p->count && p->threads > 1; id++) {
        const wg_instruction *i = &p->list[id];
        if (i->op == &wg__op_stacked && is_worth_it(p, &p->list[i->in[0]], i))
            any = past[i->in[0]] = true;
    }
    for (int64_t k = 0; k < p->loop_count && any; k++)
        if (wg__rows_of_loop(p, &p->loops[k]) < 2)
            memset(past + p->loops[k].from, 0, p->loops[k].to - p->loops[k].from);
    return any;
}

static bool rewrite(wg_rewrite *r, const bool *past) {
    const wg_program *p = r->program;
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        uint32_t made = wg__rewrite_keep(r, id);
        if (made && past[id]) {
            const wg_instruction copy = {.op = &wg__op_bypass, .shape = i->shape, .n = 1, .dtype = i->dtype, .origin = i->origin,
                                         .loop = i->loop, .region = i->region, .in = {made}};
            made = wg__rewrite_add(r, &copy);
        }
        if (!made)
            return false;
        if (i->op == &wg__op_stacked && past[i->in[0]]) /* the copy stands behind what it is of */
            r->list[made].in[0]++;
    }
    return true;
}

wg_status wg__pass_bypass(wg_program *p, wg_error *error) {
    bool *past = wg__take0(p->memory, (size_t)p->count);
    wg_rewrite r;
    bool good = past;
    if (past && find(p, past)) {
        good = wg__rewrite_begin(&r, p) && rewrite(&r, past);
        wg__rewrite_end(&r, good);
    }
    wg__give(p->memory, past);
    return good ? WG_OK : wg__program_no_memory(p, error);
}
