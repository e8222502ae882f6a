/* bypass.c: what threads keep of each step in a large stack goes there past the caches, by an op of its own; the step itself has the value in
 * its tile. When a run writes a stack, other cores hold what the run before left in it, of which they have made products of all steps, and a
 * store to such a line waits until they have given it up. Changes no value. Names no op but its own. */
#include "loop.h"
#include "make.h"

#include "amx.h"

/* Whether several threads write the stack of value i, and it is large. Not where products are made in parts, which would wait for memory. */
static bool is_worth_it(const wg_program *p, const wg_instruction *i, const wg_instruction *stack) {
    return i->region && i->shape->dim[0] > 1 && wg__instruction_bytes(stack) >= (size_t)p->far_bytes &&
           !(i->dtype == WG_F32 && p->parts && wg__amx_runs());
}

/* The values that go past the caches, by id. */
static void find(const wg_program *p, bool *past) {
    for (uint32_t id = 1; id < p->count && p->threads > 1; id++)
        if (p->list[id].op == &wg__op_stacked && is_worth_it(p, &p->list[p->list[id].in[0]], &p->list[id]))
            past[p->list[id].in[0]] = true;
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
    wg_rewrite r = {0};
    bool *past = wg__take0(p->memory, (size_t)p->count);
    bool good = past && wg__rewrite_begin(&r, p);
    if (good) {
        find(p, past);
        good = rewrite(&r, past);
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    if (past)
        wg__rewrite_end(&r, good);
    wg__give(p->memory, past);
    return status;
}
