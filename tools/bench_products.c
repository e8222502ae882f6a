/* bench_products.c: how fast the machine's products are at a workload's sizes: each alone in a plan
 * of the public interface, in the layouts it may be computed in, the best of which counts. */
#include "bench.h"

#include <math.h>
#include <string.h>

enum { MOST_ROWS = 16384, LEAST_RUNS = 3 };

/* A cell's matrices by what they multiply: how many rows all that read the input have, and all that
 * read a state. */
typedef struct rows {
    int64_t input, state;
} rows;

static void add_entry(void *user, const wg_cell_entry *e) {
    rows *r = user;
    if (strcmp(e->kind, "param") == 0 && strcmp(e->shape, "[hidden, input]") == 0)
        r->input++;
    else if (strcmp(e->kind, "param") == 0 && strcmp(e->shape, "[hidden, hidden]") == 0)
        r->state++;
}

static rows rows_of(const work *k) {
    rows r = {0};
    const wg_cell *cell = k->model ? wg_model_cell(k->model) : k->cell;
    if (wg_cell_describe(k->a->common.memory, cell, NULL, add_entry, &r, NULL) != WG_OK)
        return (rows){0};
    return (rows){r.input * k->w->hidden, r.state * k->w->hidden};
}

/* The least seconds of a run, over about as long as a quarter batch lasts; NaN if there is no such
 * plan. */
static double least_of(const work *k, wg_plan *plan) {
    double least = NAN, begun = seconds();
    if (!plan || wg_run(plan, NULL) != WG_OK)
        return NAN;
    for (int i = 0; i < LEAST_RUNS || seconds() - begun < k->a->seconds / 4; i++) {
        double start = seconds();
        wg_run(plan, NULL);
        least = fmin(least, seconds() - start);
    }
    return least;
}

/* Numbers with all their digits: of 0 and 0.5, a processor takes less power, and so runs faster. */
static void draw(wg_tensor *t) {
    uint64_t state = 1;
    for (int64_t i = 0; i < wg_tensor_shape(t)->count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        wg_tensor_set(t, i, (double)(state >> 40) / 0x1p24 - 0.5);
    }
}

/* Either operand as it is or stored the other way round. */
static double time_product(const work *k, int threads, const product *p, bool across_a,
                           bool across_b) {
    wg_memory *memory = k->a->common.memory;
    const int64_t a[2] = {across_a ? p->k : p->m, across_a ? p->m : p->k},
                  b[2] = {across_b ? p->n : p->k, across_b ? p->k : p->n};
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *left = wg_tensor_new(memory, k->dtype, 2, a),
              *right = wg_tensor_new(memory, k->dtype, 2, b);
    wg_plan *plan = NULL;
    wg_run_options run = k->run;
    run.threads = threads;
    if (tape && left && right) {
        draw(left);
        draw(right);
        wg_var y = wg_matmul(wg_leaf(tape, left), wg_leaf(tape, right), across_a, across_b);
        plan = wg_compile(1, &y, &(wg_compile_options){.run = run}, NULL);
    }
    double least = least_of(k, plan);
    wg_plan_free(plan);
    wg_tensor_free(left);
    wg_tensor_free(right);
    wg_tape_free(tape);
    return least;
}

int products_measure(const work *k, int threads, product p[PRODUCTS]) {
    const rows r = rows_of(k);
    const int64_t B = k->w->batch, H = k->w->hidden,
                  all = B * k->w->steps < MOST_ROWS ? B * k->w->steps : MOST_ROWS;
    const product wanted[PRODUCTS] = {
        {"forward", B, H, r.state, 0},            /* h U^T of a step */
        {"backward", B, r.state, H, 0},           /* dgates U of a step */
        {"inputs", all, k->w->input, r.input, 0}, /* x W^T of all steps */
        {"gradient", r.state, all, H, 0},         /* dgates^T h of all steps */
    };
    if (r.input == 0 || r.state == 0)
        return 0;
    for (int i = 0; i < PRODUCTS; i++) {
        double best = p[i].flops,
               flops = 2.0 * (double)wanted[i].m * (double)wanted[i].k * (double)wanted[i].n;
        p[i] = wanted[i];
        /* Both operands of the gradient lie by rows of steps; it may be made the other way round.
         */
        bool gradient = i == PRODUCTS - 1;
        const product turned = {wanted[i].what, wanted[i].n, wanted[i].k, wanted[i].m, 0};
        for (int other = 0; other < 2; other++)
            best = fmax(best, flops / (gradient ? time_product(k, threads, other ? &turned : &p[i],
                                                               true, false)
                                                : time_product(k, threads, &p[i], false, other)));
        p[i].flops = best;
    }
    return PRODUCTS;
}
