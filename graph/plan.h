/* plan.h: a plan and its workspaces, as the library's own parts see them. Includes the program. */
#ifndef WG_PLAN_H
#define WG_PLAN_H

#include "profile.h"

struct wg_plan {
    wg_memory *memory;
    wg_program *program;
    wg_run_options run;
    int64_t task_count, call_count, array_count;
    struct wg_loop_plan **loops; /* by number, less 1; NULL: nothing is left of it */
    size_t lane_bytes;           /* of loops, for each lane */
    bool small;                  /* runs on one thread */
    int lanes;
    double *constants;      /* 8 bytes each, of any type */
    size_t *uses;           /* where in a workspace's tables stand the addresses that lie in a tensor or an output: by slot, then by output, then by bundle */
    int64_t *use_from;      /* of each, and one more */
    bool *stored;           /* by slot: a store goes there */
    struct wg_stretch *stretches; /* in the order of their tasks (stretch.c) */
    int64_t stretch_count;
    wg_workspace *own;
};

/* One kernel to run, or a loop. A pointwise kernel on scalars is called straight away. */
typedef struct wg_task {
    void (*map)(int64_t n, const void *const *in, void *out); /* for the workspace's team */
    union {
        struct {
            const void *in[3];
            void *out;
        };
        struct {
            wg_call *call; /* NULL: a loop */
            uint32_t id;   /* the instruction; the loop's number */
        };
    };
} wg_task;

struct wg_workspace {
    const wg_plan *plan;
    char *arena;
    wg_task *tasks;      /* the tables: behind them the calls, behind those the arrays that they read */
    wg_tensor **bound;   /* by slot: held */
    wg_tensor **outputs; /* and behind them the bundles, of which some are parts */
    wg_team team;
    wg_profile *profile; /* of the run that goes on; NULL: nobody asks */
    char *lanes;         /* the scratch of loops */
    char text[512];
};

/* Where a value lies in this workspace; for a loop's, that comes from outside, in the first iteration. */
void *wg__address(const wg_workspace *workspace, uint32_t id);

/* The plan of a finished program, which it takes over, even when it fails. */
wg_plan *wg__plan_new(wg_program *program, const wg_run_options *run, wg_error *error);
/* Binds a slot to a tensor that is known to fit. */
void wg__bind(wg_workspace *workspace, int64_t slot, wg_tensor *other);
/* The tensor bound to a slot, which must be this workspace's alone, and output i: they lie at `data` from now on, another for each run
 * if need be. Costs nothing but a look where that is as it was, else some nanoseconds a use; a part of a bundle is copied there by each run. */
void wg__bind_data(wg_workspace *workspace, int64_t slot, void *data);
void wg__output_data(wg_workspace *workspace, int i, void *data);
/* How many uses those are; in loops there are none. */
int64_t wg__slot_uses(const wg_plan *plan, int64_t slot);
int64_t wg__output_uses(const wg_plan *plan, int i);
/* wg_workspace_rebind by the slot's index. */
wg_status wg__rebind(wg_workspace *workspace, int64_t slot, wg_tensor *other, wg_error *error);

static inline bool wg__is_scalar_map(const wg_instruction *i) {
    return i->op->kind == WG_POINTWISE && i->shape->count == 1 && i->n <= 3 && i->op->map[i->dtype - WG_F32];
}

/* Whether a loop runs here. */
static inline bool wg__begins_loop(const wg_program *p, int64_t id) { return p->list[id].loop && p->loops[p->list[id].loop - 1].from == id; }

/* cost.c: what the program computes and moves in a run: see wg_plan_size. */
double wg__program_flops(const wg_program *program);
double wg__program_traffic(const wg_program *program);

#endif
