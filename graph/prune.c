/* prune.c: dead code: what no output needs is dropped. */
#include "program.h"

wg_status wg__pass_prune(wg_program *p, wg_error *error) {
    bool *live = wg__take0(p->memory, (size_t)p->count);
    wg_rewrite r = {.program = p};
    bool done = live && wg__rewrite_begin(&r, p);
    for (int i = 0; done && i < p->output_count; i++)
        live[p->outputs[i]] = true;
    for (int64_t id = p->count - 1; done && id > 0; id--)
        for (uint32_t k = 0; live[id] && k < p->list[id].n; k++)
            live[wg__reads(&p->list[id])[k]] = true;
    for (int64_t id = 1; done && id < p->count; id++)
        done = !live[id] || wg__rewrite_keep(&r, id);
    wg_status status = done ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&r, done);
    wg__give(p->memory, live);
    return status;
}
