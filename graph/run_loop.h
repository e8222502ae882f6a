/* run_loop.h: loops of a plan: what is settled once, and a run. Includes the plan. */
#ifndef WG_RUN_LOOP_H
#define WG_RUN_LOOP_H

#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>

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

/* The same in parts, for schedules of their own. Between begin and end each lane runs once, on any thread. */
typedef struct wg_loop_run {
    const wg_loop_plan *plan;
    wg_workspace *workspace;
    int lanes;
    int shares; /* in which an iteration is shared, if it is */
    char *scratch;
    size_t lane_bytes;
    bool tells;       /* lanes say how far they are */
    atomic_bool is_vain; /* a tile has failed: what reads what the loop makes need not be made */
    wg_status status; /* of the first tile that failed, and what it says */
    int64_t failed_row;
    pthread_mutex_t lock;
    uint32_t failed;
    char text[512];
} wg_loop_run;
/* Whether a lane is one thread's work, which needs no other thread. */
bool wg__loop_runs_in_lanes(const wg_loop_plan *plan);
/* The lanes of a run, of so many at most. */
int wg__loop_lanes(const wg_loop_plan *plan, const wg_workspace *workspace, int most);
void wg__loop_begin(wg_loop_run *run, const wg_loop_plan *plan, wg_workspace *workspace, int lanes, char *scratch, size_t lane_bytes,
                    bool tells);
void wg__loop_lane(wg_loop_run *run, int64_t number);
/* How many iterations have been made of all rows, where lanes tell; what those made may be read then. */
int64_t wg__loop_made(const wg_loop_run *run);
wg_status wg__loop_end(wg_loop_run *run, uint32_t *failed);

#endif
