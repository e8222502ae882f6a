/* prune.c: dead code: what no output needs is dropped. Passes end with it. */
#include "program.h"

/* Notes what is needed and was not known to be. */
static void need(bool *live, uint32_t *list, int64_t *count, uint32_t id) {
    if (!live[id])
        list[(*count)++] = id;
    live[id] = true;
}

wg_status wg__prune(wg_program *p, wg_error *error) {
    bool *live = wg__take0(p->memory, (size_t)p->count);
    uint32_t *list = wg__take(p->memory, wg__size((size_t)p->count, sizeof *list, 0));
    int64_t count = 0;
    wg_rewrite r = {.program = p};
    bool done = live && list && wg__rewrite_begin(&r, p);
    for (int i = 0; done && i < p->output_count; i++)
        need(live, list, &count, p->outputs[i]);
    while (done && count) {
        const wg_instruction *i = &p->list[list[--count]];
        for (uint32_t k = 0; k < i->n; k++)
            need(live, list, &count, wg__reads_const(i)[k]);
    }
    for (int64_t id = 1; done && id < p->count; id++)
        done = !live[id] || wg__rewrite_keep(&r, id);
    wg_status status = done ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&r, done);
    wg__give(p->memory, live);
    wg__give(p->memory, list);
    return status;
}
