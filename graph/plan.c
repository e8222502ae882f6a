/* plan.c: a plan: the program as a flat list of kernels to call, with every address settled, one list a workspace. A run
 * walks the list and allocates nothing. */
#include "run_loop.h"
#include "stretch.h"

#include "effect.h"
#include "graph.h"
#include "pointwise.h"

#include <string.h>

/* Below, a run gains nothing from a second thread. */
#define FEW_FLOPS 4e5

static wg_status no_memory(const wg_plan *plan, wg_error *error) {
    return wg__program_no_memory(plan->program, error);
}

/* ---- the plan ---- */

static void keep_constants(wg_plan *plan) {
    const wg_program *p = plan->program;
    for (int64_t id = 1; id < p->count; id++) {
        if (p->values[id].base != id || p->values[id].space != WG_IN_CONSTANTS)
            continue;
        void *at = (char *)plan->constants + p->values[id].offset;
        double value = p->list[id].value;
        if (p->list[id].dtype == WG_F32)
            *(float *)at = (float)value;
        else if (p->list[id].dtype == WG_F64)
            *(double *)at = value;
        else
            *(int32_t *)at = (int32_t)value;
    }
}

/* The movable place that a value lies in: a slot, or behind them an output, or a bundle; or -1. */
static int64_t place_of(const wg_program *p, uint32_t id) {
    const wg_value *base = &p->values[p->values[id].base];
    return base->space == WG_IN_TENSOR ? (int64_t)base->index : base->space == WG_IN_OUTPUT ? p->tensor_count + base->index : -1;
}

static int64_t place_count(const wg_program *p) { return p->tensor_count + p->output_count + p->bundle_count; }

/* Where the kernels of an instruction stand in a workspace's tables; and what stands in them before. */
typedef struct spot {
    int64_t task, call, array;
} spot;

static void step_over(const wg_program *p, uint32_t id, spot *at) {
    const wg_instruction *i = &p->list[id];
    at->task++;
    if (!wg__is_scalar_map(i))
        at->call++, at->array += i->n;
}

/* Where operand k of an instruction stands in the tables of a workspace, or with k = n its result: so many bytes from their begin. */
static size_t use_offset(const wg_plan *plan, const wg_instruction *i, const spot *at, uint32_t k) {
    const size_t calls = (size_t)plan->task_count * sizeof(wg_task), arrays = calls + (size_t)plan->call_count * sizeof(wg_call);
    if (wg__is_scalar_map(i))
        return (size_t)at->task * sizeof(wg_task) + (k < i->n ? offsetof(wg_task, in) + k * sizeof(void *) : offsetof(wg_task, out));
    return k < i->n ? arrays + (size_t)(at->array + k) * sizeof(wg_array) + offsetof(wg_array, data)
                    : calls + (size_t)at->call * sizeof(wg_call) + offsetof(wg_call, out.data);
}

static uint32_t read_or_written(const wg_program *p, uint32_t id, uint32_t k) {
    const wg_instruction *i = &p->list[id];
    return k < i->n ? wg__reads_const(i)[k] : id;
}

static void count_uses(wg_plan *plan, uint32_t id) {
    const wg_program *p = plan->program;
    for (uint32_t k = 0; k <= p->list[id].n; k++)
        plan->use_from[place_of(p, read_or_written(p, id, k)) + 1]++; /* of what does not move too, before the first */
}

static void note_uses(wg_plan *plan, uint32_t id, const spot *at, int64_t *fill) {
    const wg_program *p = plan->program;
    for (uint32_t k = 0; k <= p->list[id].n; k++) {
        int64_t place = place_of(p, read_or_written(p, id, k));
        if (place >= 0)
            plan->uses[fill[place]++] = use_offset(plan, &p->list[id], at, k);
    }
}

/* Counts what a workspace will need, and sorts the uses of tensors and outputs by place. */
static bool count_tasks(wg_plan *plan) {
    const wg_program *p = plan->program;
    const int64_t places = place_count(p);
    spot at = {0};
    int64_t *fill = wg__take(plan->memory, wg__size((size_t)places, sizeof *fill, 0));
    plan->use_from = wg__take0(plan->memory, wg__size((size_t)places + 1, sizeof *plan->use_from, 0));
    if (!fill || !plan->use_from) {
        wg__give(plan->memory, fill);
        return false;
    }
    for (uint32_t id = 1; id < p->count; id++) {
        at.task += wg__begins_loop(p, id);
        if (wg__computes(p, id))
            count_uses(plan, id), step_over(p, id, &at);
    }
    plan->task_count = at.task, plan->call_count = at.call, plan->array_count = at.array;
    plan->use_from[0] = 0;
    for (int64_t k = 0; k < places; k++)
        fill[k] = plan->use_from[k], plan->use_from[k + 1] += plan->use_from[k];
    plan->uses = wg__take(plan->memory, wg__size((size_t)plan->use_from[places], sizeof *plan->uses, 0));
    at = (spot){0};
    for (uint32_t id = 1; plan->uses && id < p->count; id++) {
        at.task += wg__begins_loop(p, id);
        if (wg__computes(p, id))
            note_uses(plan, id, &at, fill), step_over(p, id, &at);
    }
    wg__give(plan->memory, fill);
    return plan->uses;
}

static bool make_loops(wg_plan *plan) {
    wg_program *p = plan->program;
    uint32_t *memo = wg__take0(plan->memory, wg__size((size_t)p->count, 2 * sizeof *memo, 0));
    plan->loops = wg__take0(plan->memory, wg__size((size_t)p->loop_count, sizeof(wg_loop_plan *), 1));
    bool good = memo && plan->loops;
    for (int64_t k = 0; good && k < p->loop_count; k++) {
        if (p->loops[k].to == 0)
            continue;
        plan->loops[k] = wg__loop_plan_new(p, &p->loops[k], memo);
        good = plan->loops[k];
        size_t bytes = good ? wg__loop_lane_bytes(plan->loops[k]) : 0;
        plan->lane_bytes = bytes > plan->lane_bytes ? bytes : plan->lane_bytes;
    }
    plan->lanes = p->threads;
    wg__give(plan->memory, memo);
    return good;
}

static bool note_stores(wg_plan *plan) {
    const wg_program *p = plan->program;
    plan->stored = wg__take0(plan->memory, (size_t)p->tensor_count + 1);
    for (int i = 0; plan->stored && i < p->output_count; i++)
        if (p->list[p->outputs[i]].op == &wg__op_store)
            plan->stored[p->list[p->outputs[i]].slot - 1] = true;
    return plan->stored;
}

wg_plan *wg__plan_new(wg_program *program, const wg_run_options *run, wg_error *error) {
    wg_plan *plan = wg__take0(program->memory, sizeof *plan);
    if (!plan) {
        wg__program_no_memory(program, error);
        wg__program_free(program);
        return NULL;
    }
    plan->memory = program->memory;
    plan->program = program;
    plan->run = run ? *run : (wg_run_options){0};
    plan->small = wg__program_flops(program) + wg__program_traffic(program) / 8 < FEW_FLOPS;
    plan->constants = wg__take0(plan->memory, program->constant_bytes);
    if (plan->constants && count_tasks(plan) && note_stores(plan) && make_loops(plan) && wg__stretches_find(plan)) {
        keep_constants(plan);
        plan->own = wg_workspace_new(plan);
    }
    if (plan->own)
        return plan;
    no_memory(plan, error);
    wg_plan_free(plan);
    return NULL;
}

wg_plan *wg_compile(int n, const wg_var *y, const wg_compile_options *options, wg_error *error) {
    wg_program *program = wg__compile(options, NULL, n, y, error);
    return program ? wg__plan_new(program, options ? &options->run : NULL, error) : NULL;
}

void wg_plan_free(wg_plan *plan) {
    if (!plan)
        return;
    wg_workspace_free(plan->own);
    for (int64_t k = 0; plan->loops && k < plan->program->loop_count; k++)
        wg__loop_plan_free(plan->memory, plan->loops[k]);
    wg__give(plan->memory, plan->loops);
    wg__program_free(plan->program);
    wg__give(plan->memory, plan->constants);
    wg__give(plan->memory, plan->uses);
    wg__give(plan->memory, plan->use_from);
    wg__give(plan->memory, plan->stored);
    wg__give(plan->memory, plan->stretches);
    wg__give(plan->memory, plan);
}

/* ---- the workspace ---- */

void *wg__address(const wg_workspace *w, uint32_t id) {
    const wg_program *p = w->plan->program;
    const wg_value *v = &p->values[id], *base = &p->values[v->base];
    char *start = NULL;
    switch ((wg_space)base->space) {
    case WG_IN_TENSOR: start = (char *)(uintptr_t)wg_tensor_data(w->bound[base->index]); break;
    case WG_IN_CONSTANTS: start = (char *)w->plan->constants + base->offset; break;
    case WG_IN_ARENA: start = w->arena + base->offset; break;
    case WG_IN_OUTPUT: start = (char *)(uintptr_t)wg_tensor_data(w->outputs[base->index]); break;
    case WG_NOWHERE:
    case WG_IN_STACK:
    case WG_IN_TILE:
    case WG_CARRIED: break;
    }
    return start + v->shift * (int64_t)wg_dtype_size((wg_dtype)p->list[id].dtype);
}

static wg_array array_of(const wg_workspace *w, uint32_t id) {
    const wg_program *p = w->plan->program;
    return (wg_array){wg__address(w, id), p->list[id].shape, p->values[id].stride, (wg_dtype)p->list[id].dtype};
}

static void settle_call(wg_workspace *w, uint32_t id, wg_call *call, wg_array *in) {
    const wg_program *p = w->plan->program;
    const wg_instruction *i = &p->list[id];
    for (uint32_t k = 0; k < i->n; k++)
        in[k] = array_of(w, wg__reads_const(i)[k]);
    *call = (wg_call){.op = i->op, .attr = i->attr, .n = (int)i->n, .in = in, .out = array_of(w, id),
                      .scratch = w->arena + p->scratch_at, .team = &w->team, .text = w->text,
                      .text_size = sizeof w->text};
}

/* Every address of every kernel. */
static void settle(wg_workspace *w) {
    const wg_program *p = w->plan->program;
    wg_task *task = w->tasks;
    wg_call *call = (wg_call *)(w->tasks + w->plan->task_count);
    wg_array *in = (wg_array *)(call + w->plan->call_count);
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        if (wg__begins_loop(p, id))
            *task++ = (wg_task){.call = NULL, .id = i->loop};
        if (!wg__computes(p, id))
            continue;
        if (wg__is_scalar_map(i)) {
            task->map = wg__map_of(i->op, (int)i->dtype - WG_F32, w->team.isa);
            for (uint32_t k = 0; k < i->n; k++)
                task->in[k] = wg__address(w, wg__reads_const(i)[k]);
            task->out = wg__address(w, id);
        } else {
            task->map = NULL;
            task->call = call;
            task->id = id;
            settle_call(w, id, call++, in);
            in += i->n;
        }
        task++;
    }
}

static void leave_bundle(void *bundle, void *data) {
    (void)data;
    wg_tensor_free(bundle);
}

/* Part of a bundle, which it keeps; or a tensor of its own. */
static wg_tensor *new_output(const wg_workspace *w, uint32_t id) {
    const wg_program *p = w->plan->program;
    const wg_instruction *y = &p->list[id];
    const wg_value *base = &p->values[p->values[id].base];
    if (!wg__in_bundle(p, base))
        return wg_tensor_new(p->memory, (wg_dtype)y->dtype, y->shape->rank, y->shape->dim);
    wg_tensor *bundle = w->outputs[base->index];
    wg_tensor *part = wg_tensor_wrap(p->memory, (wg_dtype)y->dtype, y->shape->rank, y->shape->dim, wg__address(w, id), leave_bundle, bundle);
    if (part)
        wg_tensor_retain(bundle);
    return part;
}

static bool take_tensors(wg_workspace *w) {
    const wg_program *p = w->plan->program;
    for (int64_t s = 0; s < p->tensor_count; s++)
        w->bound[s] = wg_tensor_retain(p->tensors[s]);
    for (int k = 0; k < p->bundle_count; k++) {
        const wg_instruction *y = &p->list[p->bundles[k]];
        w->outputs[p->output_count + k] = wg_tensor_new(p->memory, (wg_dtype)y->dtype, y->shape->rank, y->shape->dim);
        if (!w->outputs[p->output_count + k])
            return false;
    }
    for (int i = 0; i < p->output_count; i++)
        if (!(w->outputs[i] = new_output(w, p->outputs[i])))
            return false;
    return true;
}

/* What a workspace is made of, besides its outputs; the first few need not begin as zeros. */
enum { ARENA, LANES, TABLES, BOUND, OUTPUTS, PIECES, FIRST_ZEROED = TABLES };

static void sizes_of(const wg_plan *plan, size_t bytes[PIECES]) {
    const wg_program *p = plan->program;
    bytes[ARENA] = wg__size(p->arena_bytes, 1, 64);
    bytes[LANES] = wg__size((size_t)plan->lanes, plan->lane_bytes, 64);
    bytes[TABLES] = wg__size((size_t)plan->array_count, sizeof(wg_array), 0);
    bytes[TABLES] = wg__size((size_t)plan->call_count, sizeof(wg_call), bytes[TABLES]);
    bytes[TABLES] = wg__size((size_t)plan->task_count, sizeof(wg_task), bytes[TABLES]);
    bytes[BOUND] = wg__size((size_t)p->tensor_count, sizeof(wg_tensor *), 0);
    bytes[OUTPUTS] = wg__size((size_t)(p->output_count + p->bundle_count), sizeof(wg_tensor *), 0);
}

static size_t workspace_bytes(const wg_plan *plan) {
    size_t bytes[PIECES], sum = sizeof(wg_workspace);
    sizes_of(plan, bytes);
    for (int i = 0; i < PIECES; i++)
        sum += bytes[i];
    return sum;
}

wg_workspace *wg_workspace_new(const wg_plan *plan) {
    size_t bytes[PIECES];
    void *piece[PIECES];
    wg_workspace *w = wg__take0(plan->memory, sizeof *w);
    bool good = w;
    if (!w)
        return NULL;
    w->plan = plan;
    sizes_of(plan, bytes);
    for (int i = 0; i < PIECES; i++) {
        piece[i] = good ? (i < FIRST_ZEROED ? wg__take : wg__take0)(plan->memory, bytes[i]) : NULL;
        good = piece[i];
    }
    w->arena = piece[ARENA], w->lanes = piece[LANES], w->tasks = piece[TABLES], w->bound = piece[BOUND];
    w->outputs = piece[OUTPUTS];
    if (good && take_tensors(w)) {
        settle(w);
        return w;
    }
    wg_workspace_free(w);
    return NULL;
}

void wg_workspace_free(wg_workspace *w) {
    if (!w)
        return;
    const wg_plan *plan = w->plan;
    for (int64_t s = 0; w->bound && s < plan->program->tensor_count; s++)
        wg_tensor_free(w->bound[s]);
    for (int i = 0; w->outputs && i < plan->program->output_count + plan->program->bundle_count; i++)
        wg_tensor_free(w->outputs[i]);
    wg__give(plan->memory, w->arena);
    wg__give(plan->memory, w->lanes);
    wg__give(plan->memory, w->tasks);
    wg__give(plan->memory, w->bound);
    wg__give(plan->memory, w->outputs);
    wg__give(plan->memory, w);
}

static wg_status may_bind(const wg_workspace *w, int64_t slot, const wg_tensor *other, wg_error *error) {
    const wg_tensor *now = w->bound[slot];
    char a[96], b[96];
    if (wg_tensor_dtype(other) != wg_tensor_dtype(now))
        return wg_error_set(error, WG_DTYPE, "rebind: %s in the place of %s", wg_dtype_name(wg_tensor_dtype(other)),
                            wg_dtype_name(wg_tensor_dtype(now)));
    if (!wg__shape_same(wg_tensor_shape(other), wg_tensor_shape(now)))
        return wg_error_set(error, WG_SHAPE, "rebind: %s in the place of %s",
                            wg_shape_text(wg_tensor_shape(other), a, sizeof a),
                            wg_shape_text(wg_tensor_shape(now), b, sizeof b));
    for (int i = 0; i < w->plan->program->output_count; i++)
        if (w->outputs[i] == other)
            return wg_error_set(error, WG_CONFLICT, "rebind: the tensor is output %d of the workspace, which a run writes to", i + 1);
    for (int64_t s = 0; w->plan->stored[slot] && s < w->plan->program->tensor_count; s++)
        if (s != slot && w->plan->stored[s] && w->bound[s] == other)
            return wg_error_set(error, WG_CONFLICT, "rebind: two stores would go to one tensor");
    return WG_OK;
}

/* A place lies so many bytes further on. */
static void move_uses(wg_workspace *w, int64_t place, intptr_t by) {
    const wg_plan *plan = w->plan;
    char *tables = (char *)w->tasks;
    for (const size_t *use = plan->uses + plan->use_from[place], *end = plan->uses + plan->use_from[place + 1]; use < end; use++) {
        uintptr_t at;
        memcpy(&at, tables + *use, sizeof at);
        at += (uintptr_t)by;
        memcpy(tables + *use, &at, sizeof at);
    }
}

void wg__bind(wg_workspace *w, int64_t slot, wg_tensor *other) {
    if (w->bound[slot] == other)
        return;
    wg_tensor *before = w->bound[slot];
    intptr_t by = (intptr_t)wg_tensor_data(other) - (intptr_t)wg_tensor_data(before);
    w->bound[slot] = wg_tensor_retain(other);
    wg_tensor_free(before);
    move_uses(w, slot, by);
}

static void point(wg_workspace *w, wg_tensor *tensor, int64_t place, void *data) {
    intptr_t by = wg__tensor_point(tensor, data);
    if (by)
        move_uses(w, place, by);
}

void wg__bind_data(wg_workspace *w, int64_t slot, void *data) { point(w, w->bound[slot], slot, data); }
void wg__output_data(wg_workspace *w, int i, void *data) { point(w, w->outputs[i], w->plan->program->tensor_count + i, data); }

int64_t wg__slot_uses(const wg_plan *plan, int64_t slot) { return plan->use_from[slot + 1] - plan->use_from[slot]; }
int64_t wg__output_uses(const wg_plan *plan, int i) { return wg__slot_uses(plan, plan->program->tensor_count + i); }

wg_status wg__rebind(wg_workspace *w, int64_t slot, wg_tensor *other, wg_error *error) {
    wg_status status = may_bind(w, slot, other, error);
    if (status == WG_OK)
        wg__bind(w, slot, other);
    return status;
}

wg_status wg_workspace_rebind(wg_workspace *w, const wg_tensor *tensor, wg_tensor *other, wg_error *error) {
    const wg_program *p = w->plan->program;
    for (int64_t s = 0; s < p->tensor_count; s++)
        if (p->tensors[s] == tensor)
            return other ? wg__rebind(w, s, other, error)
                         : wg_error_set(error, WG_ARGUMENT, "rebind: the tensor is NULL");
    return wg_error_set(error, WG_NOT_FOUND, "rebind: the plan does not read that tensor");
}

/* ---- a run ---- */

static wg_status task_failed(const wg_workspace *w, uint32_t id, wg_status status, wg_error *error) {
    const wg_program *p = w->plan->program;
    const char *place = p->origins[p->list[id].origin];
    return wg_error_set(error, status, "%s: %s%s%s%s", p->list[id].op->name,
                        w->text[0] ? w->text : wg_status_sentence(status), place[0] ? " (" : "", place,
                        place[0] ? ")" : "");
}

/* A kernel or a loop; *id becomes the instruction that failed. */
static wg_status run_task(wg_workspace *w, const wg_task *task, uint32_t *id) {
    const wg_plan *plan = w->plan;
    *id = task->id;
    return task->call ? wg__kernel(task->call->op)(task->call)
                      : wg__loop_run(plan->loops[*id - 1], w, plan->lanes, w->lanes, plan->lane_bytes, id);
}

/* A kernel or a loop, or the stretch that begins with it, if one does and there are threads for it: *task becomes the next one. */
static wg_status run_next(wg_workspace *w, const wg_task **task, const wg_stretch **stretch, uint32_t *id) {
    const wg_stretch *s = *stretch;
    if (s < w->plan->stretches + w->plan->stretch_count && *task == w->tasks + s->first) {
        ++*stretch;
        if (w->team.pool) {
            *task += s->count;
            return wg__stretch_run(w, s, id);
        }
    }
    return run_task(w, (*task)++, id);
}

static wg_status run_tasks(wg_workspace *w, wg_error *error) {
    const wg_task *end = w->tasks + w->plan->task_count;
    const wg_stretch *stretch = w->plan->stretches;
    for (const wg_task *task = w->tasks; task < end;) {
        if (task->map) {
            task->map(1, task->in, task->out);
            task++;
            continue;
        }
        uint32_t id;
        wg_status status = run_next(w, &task, &stretch, &id);
        if (status != WG_OK)
            return task_failed(w, id, status, error);
    }
    return WG_OK;
}

/* The same with a clock. Kernels on scalars are measured in rows of neighbours. */
static wg_status run_tasks_profiled(wg_workspace *w, wg_error *error) {
    const wg_task *end = w->tasks + w->plan->task_count;
    const wg_stretch *stretch = w->plan->stretches;
    double begun = wg__seconds();
    for (const wg_task *task = w->tasks; task < end;) {
        if (task->map) {
            for (; task < end && task->map; task++)
                task->map(1, task->in, task->out);
            w->profile->pointwise += wg__profile_worked(w->team.meter, &begun);
            continue;
        }
        uint32_t id;
        const wg_task *first = task;
        wg_status status = run_next(w, &task, &stretch, &id);
        if (status != WG_OK)
            return task_failed(w, id, status, error);
        double spent = wg__profile_worked(w->team.meter, &begun);
        if (first->call && task == first + 1) /* loops and stretches have noted their own */
            wg__profile_add(w->profile, w->plan->program, id, spent);
    }
    return WG_OK;
}

/* Outputs that are not computed in their place: views, leaves, one value given twice, and part of a bundle where the caller has given it
 * another place. All before any store. */
static void finish_outputs(wg_workspace *w) {
    const wg_program *p = w->plan->program;
    for (int i = 0; i < p->output_count; i++) {
        const wg_array from = array_of(w, p->outputs[i]);
        void *to = wg_tensor_write(w->outputs[i]);
        if (from.data != to)
            wg__copy(&w->team, &from, to);
    }
}

/* Guards first; then the stores, from the outputs, so that no store reads what another has written. */
static wg_status commit(wg_workspace *w, wg_error *error) {
    const wg_program *p = w->plan->program;
    for (int i = 0; i < p->output_count; i++) {
        wg_array value = {(void *)(uintptr_t)wg_tensor_data(w->outputs[i]), wg_tensor_shape(w->outputs[i]), NULL,
                          wg_tensor_dtype(w->outputs[i])};
        if (p->list[p->outputs[i]].op == &wg__op_guard && !wg__finite(&value))
            return wg_error_set(error, WG_NONFINITE, "guard: a guarded value is NaN or infinite");
    }
    for (int i = 0; i < p->output_count; i++)
        if (p->list[p->outputs[i]].op == &wg__op_store)
            memcpy(wg_tensor_write(w->bound[p->list[p->outputs[i]].slot - 1]), wg_tensor_data(w->outputs[i]),
                   wg_tensor_bytes(w->outputs[i]));
    return WG_OK;
}

/* What a run does on the threads that it has. */
typedef struct job {
    wg_workspace *workspace;
    wg_error *error;
    wg_status status;
} job;

static void run_job(void *user) {
    job *j = user;
    wg_workspace *w = j->workspace;
    j->status = w->profile ? run_tasks_profiled(w, j->error) : run_tasks(w, j->error);
    double begun = w->profile ? wg__seconds() : 0;
    if (j->status == WG_OK) {
        finish_outputs(w);
        j->status = commit(w, j->error);
    }
    if (w->profile)
        w->profile->packing += wg__profile_worked(w->team.meter, &begun);
}

wg_status wg_run_in(const wg_plan *plan, wg_workspace *w, const wg_run_options *options, wg_error *error) {
    if (w->plan != plan)
        return wg_error_set(error, WG_ARGUMENT, "run: the workspace is another plan's");
    options = options ? options : &plan->run;
    wg_isa settled = w->team.isa;
    w->team = wg__team_of(options);
    w->team.threads = plan->small ? 1 : w->team.threads;
    if (w->team.isa != settled)
        settle(w); /* the addresses are as they were; the scalar kernels are others */
    w->text[0] = 0;
    wg_meter meter = {0};
    w->team.meter = w->profile ? &meter : NULL;
    unsigned mode = wg__float_mode_enter(w->team.keep_subnormals);
    job j = {.workspace = w, .error = error};
    wg__stand_by(&w->team, run_job, &j);
    wg__float_mode_leave(mode);
    w->team.meter = NULL;
    return j.status;
}

static double at_work(const wg_profile *p) { return p->products + p->pointwise + p->packing + p->other; }

wg_status wg_run_profiled(const wg_plan *plan, wg_workspace *w, const wg_run_options *options, wg_profile *profile,
                          wg_error *error) {
    double begun = wg__seconds(), before = at_work(profile);
    w = w ? w : plan->own;
    w->profile = profile;
    wg_status status = wg_run_in(plan, w, options, error);
    w->profile = NULL;
    double spent = wg__seconds() - begun;
    profile->runs++;
    profile->threads = (int)wg__max(profile->threads, w->team.threads);
    profile->seconds += spent;
    profile->waiting += w->team.threads * spent - (at_work(profile) - before);
    return status;
}

wg_status wg_run(wg_plan *plan, wg_error *error) { return wg_run_in(plan, plan->own, NULL, error); }

const wg_tensor *wg_workspace_output(const wg_workspace *w, int i) {
    return i >= 0 && i < w->plan->program->output_count ? w->outputs[i] : NULL;
}

const wg_tensor *wg_plan_output(const wg_plan *plan, int i) { return wg_workspace_output(plan->own, i); }
int wg_plan_output_count(const wg_plan *plan) { return plan->program->output_count; }
wg_workspace *wg_plan_workspace(wg_plan *plan) { return plan->own; }

wg_plan_size wg_plan_measure(const wg_plan *plan) {
    const wg_program *p = plan->program;
    wg_plan_size size = {p->count - 1, plan->task_count, workspace_bytes(plan), p->live_bytes, 0,
                         wg__program_flops(p), wg__program_traffic(p)};
    for (int i = 0; i < p->output_count; i++)
        size.output_bytes += wg_tensor_bytes(plan->own->outputs[i]);
    return size;
}
