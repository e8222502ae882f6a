/* data_task.c: a synthetic task as data: batch k is drawn from the data's seed and k alone, and never comes twice. */
#include "data.h"

#include "tasks.h"

#include <stdlib.h>

typedef struct drawn {
    const task *task;
    int64_t length;
    uint64_t seed;
    double *x, *y; /* one sequence */
} drawn;

static void release(void *own) {
    drawn *o = own;
    free(o->x);
    free(o->y);
    free(o);
}

/* Element (t, row, i) of a batch's array. */
static void put(wg_tensor *tensor, void *data, int64_t at, double value) {
    if (wg_tensor_dtype(tensor) == WG_I32)
        ((int32_t *)data)[at] = (int32_t)value;
    else
        put_float(data, wg_tensor_dtype(tensor), at, value);
}

static void fill(const dataset *d, int which, int64_t number, minibatch *b) {
    const drawn *o = d->own;
    const part *p = &d->part[which];
    int64_t width = d->vocabulary ? 1 : d->input, targets = d->last ? 1 : p->steps;
    wg_random random = {.seed = o->seed, .stream = (uint64_t)number * PARTS + (uint64_t)which};
    void *x = wg_tensor_write(b->x), *y = wg_tensor_write(b->y);
    for (int64_t row = 0; row < p->batch; row++) {
        o->task->draw(&random, o->length, o->x, o->y);
        for (int64_t t = 0; t < p->steps; t++)
            for (int64_t i = 0; i < width; i++)
                put(b->x, x, (t * p->batch + row) * width + i, o->x[t * width + i]);
        for (int64_t t = 0; t < targets; t++)
            put(b->y, y, t * p->batch + row, o->y[t]);
    }
}

enum { HELD_OUT_SEQUENCES = 1000 };

dataset *data_of_task(const common *c, int which, const data_request *r) {
    const task *t = &tasks[which];
    int64_t length = r->length ? r->length : 100, batch = r->batch ? r->batch : 32;
    if (length < t->shortest) {
        fail(c, "--length %lld: the task %s needs at least %lld", (long long)length, t->name, (long long)t->shortest);
        return NULL;
    }
    dataset *d = data_new();
    drawn *o = d->own = allocate(1, sizeof *o);
    int64_t steps = length + t->extra;
    *o = (drawn){t, length, r->data_seed, allocate((size_t)steps * 2, sizeof(double)),
                 allocate((size_t)steps, sizeof(double))};
    d->release = release;
    d->fill = fill;
    d->vocabulary = t->vocabulary;
    d->input = t->input;
    d->outputs = t->outputs;
    d->dtype = r->dtype;
    d->loss = t->classes ? LOSS_CE : LOSS_MSE;
    d->last = t->last;
    d->scored_from = t->scored ? steps - t->scored : 0;
    d->unit = t->unit;
    d->baseline = t->baseline(length);
    d->items = "sequences";
    d->items_per_batch = (double)batch;
    d->part[TRAINED] = (part){steps, batch, 0};
    d->part[HELD_OUT] = (part){steps, batch, (HELD_OUT_SEQUENCES + batch - 1) / batch};
    d->fingerprint = format_text("task %s %lld %llu", t->name, (long long)length, (unsigned long long)r->data_seed);
    return d;
}
