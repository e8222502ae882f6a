/* bench_work.c: the standard workloads, and a workload made: its tape recorded, differentiated and compiled, its products
 * counted, and its runs, each after every weight and the input were written to. */
#include "bench.h"

#include "bench_cells.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const workload bench_workloads[] = {
    {"W1", "LSTM", WORK_CELL, "lstm", NULL, 32, 64, 128, 256, 1, 0, 0, "LSTM"},
    {"W2", "LSTM, large", WORK_CELL, "lstm", NULL, 64, 128, 512, 512, 1, 0, 0, "LSTM"},
    {"W3", "LSTM, one row", WORK_CELL, "lstm", NULL, 1, 100, 32, 64, 1, 0, 1, "LSTM"},
    {"W4", "GRU, reset after", WORK_CELL, "gru", NULL, 32, 64, 128, 256, 1, 0, 0, "GRU"},
    {"W5", "tanh RNN", WORK_CELL, "rnn", NULL, 32, 64, 128, 256, 1, 0, 0, "RNN"},
    {"W6", "LSTM, layer norm, peepholes", WORK_CELL, NULL, norm_peephole_text, 32, 64, 128, 256, 1, 0, 0, "norm_peephole"},
    {"W7", "chain of 100,000 scalars", WORK_CHAIN, NULL, NULL, 0, 100000, 0, 0, 0, 0, 1, NULL},
    {"W8", "character model, with SGD", WORK_CHARACTERS, "lstm", NULL, 32, 64, 128, 256, 1, 64, 0, "characters"},
};
const int bench_workload_count = sizeof bench_workloads / sizeof bench_workloads[0];

const workload *workload_find(const char *name) {
    for (int i = 0; i < bench_workload_count; i++)
        if (strcmp(bench_workloads[i].name, name) == 0)
            return &bench_workloads[i];
    return NULL;
}

int workload_threads(const bench_arguments *a, const workload *w) {
    cpu_set_t set;
    if (a->common.threads > 0)
        return (int)a->common.threads;
    if (w->threads)
        return w->threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

/* Peers have layers of these. */
static const char *peer_of(const char *cell) {
    static const char *const known[][2] = {{"rnn", "RNN"}, {"lstm", "LSTM"}, {"gru", "GRU"}};
    for (int i = 0; i < 3; i++)
        if (strcmp(cell, known[i][0]) == 0)
            return known[i][1];
    return NULL;
}

/* Sizes from the command line are a cell's, and take the place of a standard workload's, whose name then has a star. */
char *workload_given(const bench_arguments *a, const char *name, workload *w) {
    static const char *const sizes[] = {"batch", "steps", "input", "hidden", "layers"};
    const workload *standard = workload_find(name);
    *w = standard ? *standard
                  : (workload){name, "", WORK_CELL, name, NULL, a->batch, a->steps, a->input, a->hidden, a->layers, 0, 0, peer_of(name)};
    int64_t *const size[] = {&w->batch, &w->steps, &w->input, &w->hidden, &w->layers};
    const int64_t given[] = {a->batch, a->steps, a->input, a->hidden, a->layers};
    bool changed = false;
    for (int i = 0; i < 5; i++)
        if (standard && *size[i] && option_given(&a->common, sizes[i]) && *size[i] != given[i]) { /* a chain has steps alone */
            *size[i] = given[i];
            changed = true;
        }
    char *called = format_text("%s%s", name, changed ? "*" : "");
    w->name = called;
    return called;
}

static const common *common_of(const work *k) { return &k->a->common; }

static int no_memory(const work *k) { return fail(common_of(k), "%s: %s", k->w->name, wg_status_sentence(WG_MEMORY)); }

/* ---- arrays ---- */

/* A new leaf's tensor under a name: N(0,1), or whole numbers below `kinds`. */
static wg_tensor *add_array(work *k, const char *name, int rank, const int64_t *dim, double deviation, int64_t kinds) {
    wg_random random = {.seed = 1, .stream = (uint64_t)wg_params_count(k->arrays)};
    wg_tensor *x = wg_tensor_new(common_of(k)->memory, kinds ? WG_I32 : k->dtype, rank, dim);
    for (int64_t i = 0; x && deviation + (double)kinds > 0 && i < wg_tensor_shape(x)->count; i++)
        wg_tensor_set(x, i, kinds ? (double)wg_random_below(&random, (uint64_t)kinds) : deviation * wg_random_normal(&random));
    if (!x || wg_params_add(k->arrays, name, x) != WG_OK) {
        wg_tensor_free(x);
        no_memory(k);
        return NULL;
    }
    wg_tensor_free(x);
    return x;
}

static void will_touch(work *k, wg_tensor *tensor) {
    k->touch = grow(k->touch, (size_t)k->touched + 1, sizeof *k->touch);
    k->touch[k->touched++] = tensor;
}

/* ---- layers of a cell ---- */

/* What is differentiated by. */
typedef struct leaves {
    int count;
    wg_var *var;
} leaves;

static wg_var add_leaf(work *k, leaves *l, wg_tensor *tensor) {
    l->var = grow(l->var, (size_t)l->count + 1, sizeof *l->var);
    return l->var[l->count++] = wg_leaf(k->tape, tensor);
}

/* Inputs (T,B,n), the first from the layer below; initial states (B,n) of zeros; parameters. Returns how many, or -1. */
static int bind_layer(work *k, int layer, int64_t input, wg_var x, const wg_params *params, wg_named *given, leaves *wrt) {
    int n = 0, inputs = wg_cell_inputs(k->cell);
    for (int i = 0; i < inputs + wg_cell_states(k->cell); i++) {
        const char *name = i < inputs ? wg_cell_input(k->cell, i) : wg_cell_state(k->cell, i - inputs);
        char full[256];
        wg_shape shape;
        wg_error error = {0};
        if (i == 0 && x.tape) {
            given[n++] = (wg_named){name, x};
            continue;
        }
        if (wg_cell_shape(k->cell, name, input, k->w->hidden, &shape, &error) != WG_OK) {
            fail_error(common_of(k), &error);
            return -1;
        }
        const int64_t dim[3] = {k->w->steps, k->w->batch, shape.dim[0]};
        snprintf(full, sizeof full, "layer%d.%s", layer, name);
        wg_tensor *tensor = add_array(k, full, i < inputs ? 3 : 2, i < inputs ? dim : dim + 1, i < inputs, 0);
        if (!tensor)
            return -1;
        if (i < inputs)
            will_touch(k, tensor);
        given[n++] = (wg_named){name, add_leaf(k, wrt, tensor)};
    }
    for (int i = 0; i < wg_params_count(params); i++) {
        will_touch(k, wg_params_tensor(params, i));
        given[n++] = (wg_named){wg_params_name(params, i), add_leaf(k, wrt, wg_params_tensor(params, i))};
    }
    return n;
}

/* The output (T,B,n) of a layer upon x (zeroed: the first); invalid on failure. The tape keeps the tensors of its leaves. */
static wg_var record_layer(work *k, int layer, wg_var x, leaves *wrt) {
    const common *c = common_of(k);
    wg_error error = {0};
    int64_t input = x.tape ? wg_dim(x, 2) : k->w->input;
    const wg_draw draw = {.seed = 1, .layer = (uint64_t)layer, .check = true};
    wg_params *params = wg_cell_draw(c->memory, k->cell, k->dtype, input, k->w->hidden, &draw, &error);
    if (!params) {
        fail_error(c, &error);
        return (wg_var){0};
    }
    wg_named *given = allocate((size_t)(wg_cell_inputs(k->cell) + wg_cell_states(k->cell) + wg_params_count(params)),
                               sizeof *given);
    int n = bind_layer(k, layer, input, x, params, given, wrt);
    double start = seconds();
    wg_unroll *u = n < 0 ? NULL : wg_unroll_new(k->tape, k->cell, input, k->w->hidden, n, given, NULL);
    k->record_seconds += seconds() - start;
    wg_var y = u ? wg_unroll_output(u) : (wg_var){0};
    if (n >= 0 && !u)
        fail(c, "%s: %s", k->w->name, wg_tape_message(k->tape));
    wg_unroll_free(u);
    wg_params_free(params);
    free(given);
    return y;
}

/* ---- compiling ---- */

/* The products of what was recorded, before any pass, read from its printed form as it comes, an instruction a line: of
 * each its last two sizes are kept (1 for those it has not). Instructions are numbered from 1. */
typedef struct counter {
    char *line;
    size_t size, room;
    int64_t count, space;
    double (*sizes)[2];
    double flops;
} counter;

/* 2 M N K of a product (..,M,N): K is what its first operand has beside M. */
static double product_flops(const cJSON *shape, const double *made, const double *left) {
    const cJSON *size;
    double flops = 2 * (left[0] == made[0] ? left[1] : left[0]);
    cJSON_ArrayForEach(size, shape) flops *= cJSON_GetNumberValue(size);
    return flops;
}

static void count_line(counter *c) {
    cJSON *i = cJSON_ParseWithLength(c->line, c->size); /* what follows the object does not matter */
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(i, "shape");
    const char *op = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(i, "op"));
    if (op && cJSON_IsArray(shape)) {
        if (c->count == c->space)
            c->sizes = grow(c->sizes, (size_t)(c->space = 2 * c->space + 64), sizeof *c->sizes);
        double *made = c->sizes[c->count++];
        for (int axis = 0; axis < 2; axis++) {
            const cJSON *size = cJSON_GetArrayItem(shape, cJSON_GetArraySize(shape) - 2 + axis);
            made[axis] = size ? cJSON_GetNumberValue(size) : 1;
        }
        const wg_op_entry *entry = wg_op_find(op);
        const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(i, "inputs");
        if (entry && entry->op->kind == WG_PRODUCT)
            c->flops += product_flops(shape, made, c->sizes[(int64_t)cJSON_GetNumberValue(cJSON_GetArrayItem(inputs, 0)) - 1]);
    }
    cJSON_Delete(i);
    c->size = 0;
}

static void count_text(void *user, const char *bytes, size_t size) {
    counter *c = user;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            count_line(c);
            continue;
        }
        if (c->size == c->room)
            c->line = grow(c->line, c->room = 2 * c->room + 256, 1);
        c->line[c->size++] = bytes[i];
    }
}

static double count_products(int n, const wg_var *y) {
    counter c = {0};
    const wg_print_options o = {.format = WG_PRINT_JSON};
    bool printed = wg_print(n, y, &o, count_text, &c, NULL) == WG_OK;
    free(c.line);
    free(c.sizes);
    return printed ? c.flops : NAN;
}

static int compile(work *k, int n, const wg_var *y) {
    wg_error error = {0};
    if (wg_tape_status(k->tape) != WG_OK)
        return fail(common_of(k), "%s: %s", k->w->name, wg_tape_message(k->tape));
    k->nodes = wg_tape_count(k->tape);
    if (k->lent)
        return 0;
    k->flops = k->a->compile || k->a->conditions ? 0 : count_products(n, y);
    double start = seconds();
    k->plan = wg_compile(n, y, &(wg_compile_options){.run = k->run}, &error);
    k->compile_seconds = seconds() - start;
    return k->plan ? 0 : fail_error(common_of(k), &error);
}

/* ---- making ---- */

static int make_cell(work *k) {
    const common *c = common_of(k);
    const workload *w = k->w;
    wg_error error = {0};
    k->cell = w->text ? wg_cell_parse(c->memory, w->name, w->text, strlen(w->text), 0, NULL, &error)
                      : cell_load(c, w->cell, &k->a->set);
    if (!k->cell)
        return w->text ? fail_error(c, &error) : 1;
    leaves wrt = {0};
    wg_var x = {0};
    for (int layer = 0; layer < w->layers && (layer == 0 || x.tape); layer++)
        x = record_layer(k, layer, x, &wrt);
    wg_tensor *cotangent = x.tape ? add_array(k, "cotangent", 3, wg_var_shape(x)->dim, 1, 0) : NULL;
    int status = cotangent ? 0 : 1;
    wg_var *y = allocate((size_t)wrt.count + 1, sizeof *y);
    if (status == 0) {
        y[0] = x;
        wg_var dy = wg_leaf(k->tape, cotangent);
        double start = seconds();
        wg_vjp(1, &x, &dy, wrt.count, wrt.var, y + 1);
        k->grad_seconds = seconds() - start;
        status = compile(k, wrt.count + 1, y);
    }
    free(y);
    free(wrt.var);
    return status;
}

/* Loss, gradients and update of a model that was recorded. */
static int record_step(work *k, wg_forward *f, wg_var label) {
    wg_error error = {0};
    wg_optimiser_options o = wg_optimiser_defaults(WG_SGD);
    o.rate = 1e-6;
    wg_params *params = wg_model_params(k->model);
    if (!(k->optimiser = wg_optimiser_new(common_of(k)->memory, &o, params, &error)))
        return fail_error(common_of(k), &error);
    wg_update update = {0};
    wg_var *gradient = allocate((size_t)f->weights, sizeof *gradient);
    wg_var loss = wg_softmax_cross_entropy(f->output, label, -1);
    double start = seconds();
    wg_grad(loss, f->weights, f->weight, gradient);
    k->grad_seconds = seconds() - start;
    wg_optimiser_record(k->optimiser, loss, f->weight, gradient, &update);
    wg_var *y = allocate((size_t)update.n + 1, sizeof *y);
    y[0] = loss;
    for (int i = 0; i < update.n; i++)
        y[i + 1] = update.store[i];
    int status = compile(k, update.n + 1, y);
    wg_update_free(&update);
    free(gradient);
    free(y);
    return status;
}

static int make_characters(work *k) {
    const workload *w = k->w;
    const int64_t dim[2] = {w->steps, w->batch};
    wg_error error = {0};
    wg_cell *cell = cell_load(common_of(k), w->cell, NULL);
    const wg_model_options o = {.vocabulary = w->vocabulary, .embed = w->input, .hidden = w->hidden, .layers = (int)w->layers,
                                .outputs = w->vocabulary, .dtype = k->dtype};
    if (!cell)
        return 1;
    if (!(k->model = wg_model_new(common_of(k)->memory, cell, &o, &(wg_draw){.seed = 1}, &error)))
        return fail_error(common_of(k), &error);
    wg_tensor *x = add_array(k, "x", 2, dim, 0, w->vocabulary), *label = add_array(k, "label", 2, dim, 0, w->vocabulary);
    if (!x || !label)
        return 1;
    will_touch(k, x);
    for (int i = 0; i < wg_params_count(wg_model_params(k->model)); i++)
        will_touch(k, wg_params_tensor(wg_model_params(k->model), i));
    wg_forward f;
    double start = seconds();
    if (wg_model_record(k->model, k->tape, wg_leaf(k->tape, x), NULL, NULL, &f) != WG_OK)
        return fail(common_of(k), "%s: %s", w->name, wg_tape_message(k->tape));
    k->record_seconds = seconds() - start;
    int status = record_step(k, &f, wg_leaf(k->tape, label));
    wg_forward_free(&f);
    return status;
}

int work_make_on(work *k, const bench_arguments *a, const workload *w, int threads, wg_tape *tape) {
    *k = (work){.a = a, .w = w, .run = a->common.run, .dtype = a->type == 0 ? WG_F32 : WG_F64};
    k->run.threads = threads;
    k->arrays = wg_params_new(a->common.memory);
    k->lent = tape;
    k->tape = tape ? tape : wg_tape_new(a->common.memory);
    if (!k->arrays || !k->tape)
        return no_memory(k);
    return w->kind == WORK_CELL ? make_cell(k) : make_characters(k);
}

int work_make(work *k, const bench_arguments *a, const workload *w, int threads) {
    return work_make_on(k, a, w, threads, NULL);
}

void work_free(work *k) {
    wg_plan_free(k->plan);
    wg_optimiser_free(k->optimiser);
    if (!k->lent)
        wg_tape_free(k->tape);
    wg_params_free(k->arrays);
    wg_model_free(k->model);
    wg_cell_free(k->cell);
    free(k->touch);
    *k = (work){0};
}

/* ---- running ---- */

/* Back and forth, so that values stay what they are. */
static void touch(wg_tensor *tensor, int64_t run) {
    int64_t count = wg_tensor_shape(tensor)->count, i = count ? (run / 2) % count : 0;
    double change = run % 2 ? -1 : 1;
    if (count == 0)
        return;
    if (wg_tensor_dtype(tensor) == WG_I32)
        wg_tensor_set(tensor, i, fabs(wg_tensor_get(tensor, i) - 1));
    else
        wg_tensor_set(tensor, i, wg_tensor_get(tensor, i) + change / 1024);
}

static void touch_all(work *k) {
    for (int i = 0; i < k->touched; i++)
        touch(k->touch[i], k->runs);
    k->runs++;
}

int work_run(work *k) {
    wg_error error = {0};
    touch_all(k);
    return wg_run(k->plan, &error) == WG_OK ? 0 : fail_error(common_of(k), &error);
}

void work_pause(void) { nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL); }

int work_batch(work *k, int64_t repeats, double *spent) {
    double start = seconds();
    for (int64_t i = 0; i < repeats; i++)
        if (work_run(k) != 0)
            return 1;
    *spent = (seconds() - start) / (double)repeats;
    return 0;
}

int work_warm(work *k, int64_t *repeats) {
    double one = 1;
    int status = work_batch(k, 2, &one);
    status = status ? status : work_batch(k, 1, &one);
    *repeats = k->a->seconds > one ? (int64_t)(k->a->seconds / one) : 1;
    return status;
}

int work_run_profiled(work *k, wg_profile *sum) {
    wg_error error = {0};
    touch_all(k);
    return wg_run_profiled(k->plan, NULL, NULL, sum, &error) == WG_OK ? 0 : fail_error(common_of(k), &error);
}
