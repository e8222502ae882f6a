/* Stretches of tasks without waits between: phases, what may run beside what, and that no bit depends on their order. */
#include "suite.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "beside.h"
#include "failing.h"
#include "loop.h"
#include "stretch.h"

/* ---- phases ---- */

enum { PHASES = 7, CHUNKS = 23 };

typedef struct drawn_phase {
    struct drawn *all;
    int number;
    atomic_int begun[CHUNKS], done;
} drawn_phase;

typedef struct drawn {
    wg_team team;
    wg_phase phase[PHASES];
    drawn_phase of[PHASES];
    atomic_int wrong; /* chunks that began before what they come after was over */
} drawn;

static void note_chunk(void *user, int64_t chunk) {
    drawn_phase *d = user;
    for (int k = 0; k < PHASES; k++)
        if (d->all->phase[d->number].after >> k & 1 && atomic_load(&d->all->of[k].done) < d->all->phase[k].n)
            atomic_fetch_add(&d->all->wrong, 1);
    for (volatile int spin = 0; spin < 500; spin++)
        ;
    atomic_fetch_add(&d->begun[chunk], 1);
    atomic_fetch_add(&d->done, 1);
}

static void run_drawn(void *user) {
    drawn *d = user;
    wg__phases(&d->team, PHASES, d->phase);
}

/* Each phase comes after some of those that a drawn order has before it; some have no chunks. */
static void draw_phases(drawn *d, uint64_t seed) {
    int order[PHASES] = {0};
    for (int k = 0; k < PHASES; k++) {
        int other = (int)((seed >> (4 * k) & 15) % (uint64_t)(k + 1));
        order[k] = order[other];
        order[other] = k;
    }
    memset(d->of, 0, sizeof d->of);
    for (int k = 0; k < PHASES; k++) {
        drawn_phase *of = &d->of[order[k]];
        uint32_t after = 0;
        for (int before = 0; before < k; before++)
            after |= (uint32_t)((seed >> (28 + 5 * before + k)) & 1) << order[before];
        of->all = d, of->number = order[k];
        d->phase[order[k]] = (wg_phase){.n = (int64_t)(seed >> (2 * k) & 3) * CHUNKS / 3, .work = note_chunk, .user = of, .after = after};
    }
}

Test(stretch, a_chunk_is_made_once_and_after_the_phases_that_its_own_comes_after) {
    for (uint64_t k = 1; k < 60; k++)
        for (int threads = 1; threads <= 5; threads += 2) {
            drawn d = {.team = {.threads = threads}};
            draw_phases(&d, k * UINT64_C(0x9e3779b97f4a7c15));
            if (k % 2)
                wg__stand_by(&d.team, run_drawn, &d);
            else
                run_drawn(&d);
            cr_expect_eq(atomic_load(&d.wrong), 0, "order %d, %d threads", (int)k, threads);
            for (int p = 0; p < PHASES; p++)
                for (int c = 0; c < CHUNKS; c++)
                    cr_expect_eq(atomic_load(&d.of[p].begun[c]), c < d.phase[p].n, "order %d, %d threads, phase %d, chunk %d", (int)k, threads, p, c);
        }
}

/* Two phases, a chunk each of the first two threads, that wait for each other. */
typedef struct meeting {
    wg_team team;
    wg_phase phase[2];
    atomic_int began[2], may;
} meeting;

static void wait_for_second(void *user, int64_t chunk) {
    meeting *m = user;
    (void)chunk;
    atomic_store(&m->began[0], 1);
    atomic_store(&m->may, 1);
    for (double begun = wg__seconds(); !atomic_load(&m->began[1]) && wg__seconds() < begun + 30;) /* OpenMP may give one thread: a failure */
        wg__relax(INT32_MAX);
}

static void second(void *user, int64_t chunk) {
    meeting *m = user;
    (void)chunk;
    atomic_store(&m->began[1], 1);
}

static bool may_begin(void *user, int64_t chunk) {
    meeting *m = user;
    (void)chunk;
    return atomic_load(&m->may);
}

static void hold_meeting(void *user) {
    meeting *m = user;
    wg__phases(&m->team, 2, m->phase);
}

static void meets(uint32_t after, bool (*early)(void *user, int64_t chunk)) {
    meeting m = {.team = {.threads = 2}};
    m.phase[0] = (wg_phase){.n = 1, .work = wait_for_second, .user = &m};
    m.phase[1] = (wg_phase){.n = 1, .work = second, .user = &m, .after = after, .early = early};
    wg__stand_by(&m.team, hold_meeting, &m);
    cr_expect(atomic_load(&m.began[0]) && atomic_load(&m.began[1]));
}

Test(stretch, a_phase_that_comes_after_none_begins_while_another_goes_on) { meets(0, NULL); }
Test(stretch, a_chunk_that_may_begin_early_does) { meets(1, may_begin); }

static void work_some(void *user, int64_t chunk) {
    volatile double *x = user;
    for (int k = 0; k < 100000; k++)
        x[chunk] = x[chunk] * 0.5 + 1;
}

Test(stretch, seconds_of_a_phase_are_those_of_its_chunks) {
    volatile double x[2] = {0};
    wg_meter meter = {0};
    wg_team team = {.threads = 1, .meter = &meter};
    wg_phase phase[2] = {{.n = 2, .work = work_some, .user = (void *)(uintptr_t)x}, {.n = 0, .work = work_some, .seconds = 5}};
    double begun = wg__seconds();
    wg__phases(&team, 2, phase);
    double spent = wg__seconds() - begun;
    cr_expect(phase[0].seconds > 0 && phase[0].seconds <= spent, "%g of %g", phase[0].seconds, spent);
    cr_expect_eq(phase[1].seconds, 0);
}

/* ---- which tasks are in one stretch ---- */

static const unrolled_sizes sizes = {.steps = 6, .batch = 48, .input = 64, .hidden = 64};
/* Tiles that no iteration ends with, columns of several tiles, rows that lanes share unevenly; and of f32. */
static const unrolled_sizes uneven = {.steps = 7, .batch = 50, .input = 300, .hidden = 70},
                            single = {.steps = 9, .batch = 37, .input = 90, .hidden = 100, .single = true};

static wg_plan *compiled(int n, const wg_var *y) {
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true, .run = {.threads = 2}}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    return plan;
}

static const char *name_of(const wg_plan *plan, const wg_stretch_phase *p) { return p->is_loop ? "loop" : plan->program->list[p->id].op->name; }

Test(stretch, of_an_lstm_is_the_loop_back_with_all_that_follows) {
    wg_var y[MOST];
    unrolled u = unrolled_new("lstm", &sizes);
    wg_plan *plan = compiled(all_gradients(&u, y), y);
    cr_assert_gt(plan->stretch_count, 0);
    const wg_stretch *s = &plan->stretches[plan->stretch_count - 1];
    int products = 0, early = 0, free_ones = 0;
    cr_expect(s->phase[0].is_loop && s->phase[0].id == 2 && s->phase[0].after == 0);
    cr_expect_eq(s->first + s->count, plan->task_count, "tasks %d to %d of %d", (int)s->first, (int)s->first + s->count, (int)plan->task_count);
    for (int k = 1; k < s->count; k++) {
        const wg_stretch_phase *p = &s->phase[k];
        products += p->is_product;
        early += p->each > 0;
        cr_expect(p->each == 0 || (p->each == sizes.batch && p->backward && k == s->count - 1), "phase %d, %s", k, name_of(plan, p));
        cr_expect(!p->is_product || p->after, "phase %d, %s", k, name_of(plan, p));
        free_ones += p->is_product && p->after == 1;
    }
    cr_expect_eq(products, 3);
    cr_expect_geq(free_ones, 2, "products of what the loop made wait for no other");
    cr_expect_eq(early, 1, "x's gradient needs rows of the gates' alone");
    wg_plan_free(plan);
    unrolled_free(&u);
}

enum { SIDE = 160 };

static wg_var matrix(wg_tape *tape, uint64_t seed) {
    wg_var leaf;
    leaf_of(tape, 2, (const int64_t[]){SIDE, SIDE}, seed, &leaf);
    return leaf;
}

/* a b, (a b) c, a c, and the first and third of sines, whose place is another's later. */
static int record_products(wg_tape *tape, wg_var *y) {
    wg_var a = matrix(tape, 1), b = matrix(tape, 2), c = matrix(tape, 3), t = sin(a);
    wg_var ab = matmul(a, b, false, false), abc = matmul(ab, c, false, false), tb = matmul(t, b, false, false), tt = matmul(tb, tb, false, false);
    y[0] = matmul(abc, matmul(tt, c, false, false), false, false);
    y[1] = matmul(a, c, false, false);
    return 2;
}

Test(stretch, a_product_comes_after_those_that_it_reads_and_after_those_that_read_what_it_writes_over) {
    wg_var y[2];
    wg_tape *tape = wg_tape_new(NULL);
    int n = record_products(tape, y), chained = 0, over = 0;
    wg_plan *plan = compiled(n, y);
    const wg_program *p = plan->program;
    cr_assert_eq(plan->stretch_count, 1);
    const wg_stretch *s = plan->stretches;
    cr_assert_eq(s->count, 7, "%d", s->count);
    for (int k = 0; k < s->count; k++)
        for (int before = 0; before < k; before++) {
            const uint32_t *in = wg__reads_const(&p->list[s->phase[k].id]), *of = wg__reads_const(&p->list[s->phase[before].id]);
            const wg_value *to = &p->values[s->phase[k].id];
            const bool reads = in[0] == s->phase[before].id || in[1] == s->phase[before].id;
            bool writes_over = false;
            for (int i = 0; i < 2; i++)
                writes_over = writes_over || (to->space == WG_IN_ARENA && p->values[of[i]].space == WG_IN_ARENA && p->values[of[i]].offset == to->offset);
            const bool waits = s->phase[k].after >> before & 1;
            cr_expect(waits || !(reads || writes_over), "%%%d after %%%d", (int)s->phase[k].id, (int)s->phase[before].id);
            chained += reads, over += writes_over && !reads;
        }
    cr_expect_eq(s->phase[0].after, 0);
    cr_expect_gt(chained, 3);
    cr_expect_gt(over, 0, "none has another's place");
    cr_expect_eq(s->phase[6].after, 0, "a c reads and writes what nothing else writes");
    wg_plan_free(plan);
    wg_tape_free(tape);
}

/* The loop back of tanh units reads all states: a readout's gradient, which reads them too, waits for none of it. */
Test(stretch, a_product_does_not_wait_for_what_only_reads_the_same) {
    wg_var y[MOST];
    unrolled u = unrolled_new("rnn", &sizes);
    wg_var h = reshape(wg_unroll_output(u.unroll), 2, ((const int64_t[]){sizes.steps * sizes.batch, sizes.hidden})), v;
    leaf_of(u.tape, 2, (const int64_t[]){sizes.hidden, sizes.hidden}, 9, &v);
    const int n = with_gradients(&u, weighed(matmul(h, v, false, false), 5), y);
    cr_assert_eq(wg_grad(y[0], 1, &v, &y[n]), WG_OK);
    wg_plan *plan = compiled(n + 1, y);
    const wg_stretch *s = &plan->stretches[plan->stretch_count - 1];
    int free_ones = 0;
    cr_assert(s->phase[0].is_loop && s->phase[0].id == 2);
    for (int k = 1; k < s->count; k++)
        free_ones += s->phase[k].is_product && !(s->phase[k].after & 1);
    cr_expect_eq(free_ones, 1);
    wg_plan_free(plan);
    unrolled_free(&u);
}

/* ---- what fails ---- */

static double at_most(double x) { return x > 1e6 ? NAN : x; }

static wg_status limited_step(wg_step *step, void *limit) {
    wg_var x = add(matmul(wg_step_get(step, "x"), wg_step_get(step, "W"), false, true), matmul(wg_step_get(step, "h"), wg_step_get(step, "U"), false, true));
    return wg_step_set(step, "h", tanh(wg_call_op(limit, 1, &x)));
}

static wg_tensor *given_as(const unrolled *u, const char *name) {
    for (int k = 0; k < u->n; k++)
        if (strcmp(u->given[k].name, name) == 0)
            return u->kept[k];
    return NULL;
}

/* The first row fails in the fifth iteration, in which the last one has other numbers than in the run before. */
Test(stretch, products_of_what_a_failed_loop_would_have_made_are_not_made) {
    wg_error error = {0};
    wg_foreign *foreign = wg_foreign_new(NULL, NULL);
    const wg_op *limit = wg_bind(foreign, &(wg_binding){.prototype = "double at_most(double x)", .function = (void (*)(void))at_most}, &error);
    cr_assert_not_null(limit, "%s", error.text);
    unrolled u = unrolled_step(&sizes, limited_step, (void *)(uintptr_t)limit);
    wg_var h = reshape(wg_unroll_output(u.unroll), 2, ((const int64_t[]){sizes.steps * sizes.batch, sizes.hidden})), v;
    leaf_of(u.tape, 2, (const int64_t[]){sizes.hidden, sizes.hidden}, 9, &v);
    wg_var y = matmul(h, v, false, false);
    wg_plan *plan = compiled(1, &y);
    cr_assert(plan->stretch_count == 1 && plan->stretches[0].phase[0].is_loop);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    wg_tensor *before = wg_tensor_copy(NULL, wg_plan_output(plan, 0)), *x = given_as(&u, "x");
    const int64_t fifth = 4 * sizes.batch * sizes.input;
    wg_tensor_set(x, fifth, 1e12);
    wg_tensor_set(x, fifth + 1, -1e12);
    wg_tensor_set(x, fifth + (sizes.batch - 1) * sizes.input, 0.75);
    for (int threads = 1; threads <= 2; threads++) {
        error = (wg_error){0};
        cr_expect_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads}, &error), WG_NONFINITE, "%s", error.text);
        cr_expect_not_null(strstr(error.text, "at_most"), "%s", error.text);
        cr_expect(threads == 1 || memcmp(wg_tensor_data(before), wg_tensor_data(wg_plan_output(plan, 0)), wg_tensor_bytes(before)) == 0);
    }
    wg_tensor_set(x, fifth, 0.5);
    wg_tensor_set(x, fifth + 1, 0.5);
    cr_expect_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    cr_expect(memcmp(wg_tensor_data(before), wg_tensor_data(wg_plan_output(plan, 0)), wg_tensor_bytes(before)) != 0, "what is not made could be told");
    wg_tensor_free(before);
    wg_plan_free(plan);
    unrolled_free(&u);
    wg_foreign_free(foreign);
}

/* ---- no bit depends on the order ---- */

static const char norm_cell[] = "cell c\ninput x\nstate h, c\n"
                                "i = sigmoid(a_i*layer_norm(W_i @ x + U_i @ h + p_i*c) + d_i)\n"
                                "f = sigmoid(W_f @ x + U_f @ h + b_f)\n"
                                "c' = f*c + i*tanh(W_g @ x + U_g @ h)\n"
                                "h' = softmax(W_o @ x + U_o @ h)*tanh(c')\n";

/* Looks for work from the last phase on. */
static void turn_round(wg_stretch *s) {
    wg_stretch turned = *s;
    for (int k = 0; k < s->count; k++) {
        turned.phase[k] = s->phase[s->count - 1 - k];
        turned.phase[k].after = 0;
        for (int before = 0; before < s->count; before++)
            turned.phase[k].after |= (s->phase[s->count - 1 - k].after >> before & 1) << (s->count - 1 - before);
    }
    *s = turned;
}

/* Fills arena and outputs with NaN, so that what a run before has left there is not taken for what this one has to make. */
static void forget_all(wg_plan *plan) {
    memset(wg_plan_workspace(plan)->arena, 0xff, plan->program->arena_bytes);
    for (int i = 0; i < wg_plan_output_count(plan); i++)
        memset((void *)(uintptr_t)wg_tensor_data(wg_plan_output(plan, i)), 0xff, wg_tensor_bytes(wg_plan_output(plan, i)));
}

/* Outputs whose bits on several threads are not those on one, in so many runs with phases in another order. */
static int outputs_that_differ(wg_plan *plan, int runs) {
    wg_tensor *want[MOST];
    wg_error error = {0};
    int differ = 0, n = wg_plan_output_count(plan);
    cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = 1}, &error), WG_OK, "%s", error.text);
    for (int i = 0; i < n; i++)
        want[i] = wg_tensor_copy(NULL, wg_plan_output(plan, i));
    for (int run = 0; run < runs; run++) {
        forget_all(plan);
        cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = 2 + run % 2}, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < n; i++)
            differ += memcmp(wg_tensor_data(want[i]), wg_tensor_data(wg_plan_output(plan, i)), wg_tensor_bytes(want[i])) != 0;
    }
    for (int i = 0; i < n; i++)
        wg_tensor_free(want[i]);
    return differ;
}

/* Loops stay first, as a run expects them: what follows is turned. */
static void turn_all(wg_plan *plan) {
    for (int64_t k = 0; k < plan->stretch_count; k++) {
        wg_stretch *s = &plan->stretches[k];
        if (!s->phase[0].is_loop) {
            turn_round(s);
            continue;
        }
        wg_stretch rest = {.count = s->count - 1};
        uint32_t after_loop[WG_MOST_PHASES];
        for (int i = 1; i < s->count; i++)
            after_loop[i - 1] = s->phase[i].after & 1;
        for (int i = 1; i < s->count; i++)
            rest.phase[i - 1] = s->phase[i], rest.phase[i - 1].after >>= 1;
        turn_round(&rest);
        for (int i = 1; i < s->count; i++) {
            s->phase[i] = rest.phase[i - 1];
            s->phase[i].after = rest.phase[i - 1].after << 1 | after_loop[s->count - 1 - i];
        }
    }
}

Test(stretch, results_are_the_same_bits_in_any_order_that_phases_allow) {
    static const char *const cells[] = {"lstm", "gru", "gru_v1", "rnn", norm_cell};
    static const unrolled_sizes *const of[] = {&sizes, &uneven, &single};
    int early = 0;
    for (int k = 0; k < WG_LEN(cells) * WG_LEN(of); k++) {
        wg_var y[MOST];
        unrolled u = unrolled_new(cells[k % WG_LEN(cells)], of[k / WG_LEN(cells)]);
        wg_var h = wg_unroll_output(u.unroll), v;
        const int64_t hidden = u.of.hidden;
        leaf_of(u.tape, 2, (const int64_t[]){hidden, hidden}, 9, &v);
        int n = 0;
        if (u.of.single)
            n = with_gradients(&u, sum_to(mul(h, h), 0, NULL), y);
        else { /* a readout too: a stack of the loop forward is early */
            y[0] = matmul(reshape(h, 2, ((const int64_t[]){u.of.steps * u.of.batch, hidden})), v, false, false);
            n = 1 + with_gradients(&u, add(weighed(y[0], 5), weighed(wg_unroll_final(u.unroll, wg_cell_state(u.cell, 0)), 6)), y + 1);
        }
        wg_plan *plan = compiled(n, y);
        cr_expect_gt(plan->stretch_count, 0, "%s", cells[k % WG_LEN(cells)]);
        for (int64_t s = 0; s < plan->stretch_count; s++)
            for (int i = 0; i < plan->stretches[s].count; i++)
                early |= plan->stretches[s].phase[i].each ? 1 << plan->stretches[s].phase[i].backward : 0;
        cr_expect_eq(outputs_that_differ(plan, 6), 0, "%s, case %d", cells[k % WG_LEN(cells)], k);
        turn_all(plan);
        cr_expect_eq(outputs_that_differ(plan, 6), 0, "%s, case %d, turned round", cells[k % WG_LEN(cells)], k);
        wg_plan_free(plan);
        unrolled_free(&u);
    }
    cr_expect_eq(early, 3, "stacks forward and backward");
}

/* On one thread, so that the fault is the order alone. */
Test(stretch, products_that_wait_for_none_show_where_they_had_to) {
    wg_var y[2];
    uint32_t failed;
    wg_tape *tape = wg_tape_new(NULL);
    int n = record_products(tape, y), differ = 0;
    wg_plan *plan = compiled(n, y);
    wg_workspace *w = wg_plan_workspace(plan);
    cr_expect_eq(outputs_that_differ(plan, 6), 0);
    turn_all(plan);
    cr_expect_eq(outputs_that_differ(plan, 6), 0, "turned round");
    for (int k = 0; k < plan->stretches[0].count; k++)
        plan->stretches[0].phase[k].after = 0;
    wg_tensor *want = wg_tensor_copy(NULL, wg_plan_output(plan, 0));
    w->team = (wg_team){.threads = 1};
    for (int run = 0; run < 2; run++) {
        cr_assert_eq(wg__stretch_run(w, plan->stretches, &failed), WG_OK);
        differ += memcmp(wg_tensor_data(want), wg_tensor_data(wg_plan_output(plan, 0)), wg_tensor_bytes(want)) != 0;
    }
    cr_expect_gt(differ, 0, "a fault that this suite must see");
    wg_tensor_free(want);
    wg_plan_free(plan);
    wg_tape_free(tape);
}

Test(stretch, every_failing_allocation_of_a_program_that_has_one_is_survived) {
    wg_var y[MOST];
    unrolled u = unrolled_new("cell c\ninput x\nstate h\nh' = tanh(0.1*(W @ x + U @ h) + b)\n", &(unrolled_sizes){.steps = 8, .batch = 32, .input = 90, .hidden = 90});
    int n = all_gradients(&u, y);
    wg_memory *own = u.tape->memory;
    wg_tensor *want = taped_value(y[1]);
    bool refused = true;
    int64_t stretches = 0;
    for (long k = 1; refused; k++) {
        failing f;
        wg_error error = {0};
        wg_memory *memory = failing_memory(&f, k);
        u.tape->memory = memory;
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = 2}, &error);
        u.tape->memory = own;
        refused = failing_failed(&f);
        cr_assert(plan || (refused && error.status == WG_MEMORY), "refusal %ld: %s", k, error.text);
        if (plan) {
            cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
            cr_assert(taped_close(want, wg_plan_output(plan, 1)), "refusal %ld", k);
            stretches = plan->stretch_count;
        }
        wg_plan_free(plan);
        cr_assert_eq(f.live, 0, "refusal %ld leaks", k);
        wg_memory_free(memory);
    }
    cr_expect_gt(stretches, 0, "it has none");
    wg_tensor_free(want);
    unrolled_free(&u);
}
