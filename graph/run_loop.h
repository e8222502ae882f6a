/* run_loop.h: loops of a plan: what is settled once, and a run. Includes the plan. */
#ifndef WG_RUN_LOOP_H
#define WG_RUN_LOOP_H

#include "plan.h"

/* The loop as lists that a run walks. memo: twice as long as the program's list, zeroed, and so again after. NULL when out
 * of memory. */
typedef struct wg_loop_plan wg_loop_plan;
wg_loop_plan *wg__loop_plan_new(wg_program *program, const wg_loop *loop, uint32_t *memo);
void wg__loop_plan_free(wg_memory *memory, wg_loop_plan *plan);

/* Bytes of scratch that each lane (a thread's share) of a run needs. */
size_t wg__loop_lane_bytes(const wg_loop_plan *plan);

/* Runs it in `lanes` lanes at most, whose scratch lies at `scratch`, `lane_bytes` apart. On failure *failed is the
 * instruction, and the workspace's text says why. */
wg_status wg__loop_run(const wg_loop_plan *plan, wg_workspace *workspace, int lanes, char *scratch, size_t lane_bytes,
                       uint32_t *failed);

#endif
