/* Plans: compiled programs against wg_eval, what they hold, what they cost. */
#include "suite.h"

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "drawn_cell.h"
#include "failing.h"
#include "plan.h"
#include "random_graph.h"
#include "recurrence.h"
#include "taped.h"
#include "wengert/notation.h"

enum { MOST = 8 };

/* Every output of the plan has the bits that wg_eval gives, run for run. */
static void agrees(int n, const wg_var *y, const char *without) {
    wg_error error = {0};
    wg_tensor *out[MOST];
    wg_compile_options options = {.without = without, .validate = true};
    wg_plan *plan = wg_compile(n, y, &options, &error);
    cr_assert_not_null(plan, "%s", error.text);
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_eval(n, y, out, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < n; i++) {
            const wg_tensor *got = wg_plan_output(plan, i);
            cr_assert_eq(wg_tensor_bytes(got), wg_tensor_bytes(out[i]));
            cr_assert(memcmp(wg_tensor_data(got), wg_tensor_data(out[i]), wg_tensor_bytes(got)) == 0,
                      "output %d differs in round %d without %s", i, round, without ? without : "nothing");
            wg_tensor_free(out[i]);
        }
    }
    wg_plan_free(plan);
}

static const char *const subsets[] = {NULL, "simplify", "roll", "inplace", "simplify,roll,inplace", "inplace,roll", "accumulate"};

static void agrees_in_every_way(int n, const wg_var *y) {
    for (size_t i = 0; i < sizeof subsets / sizeof *subsets; i++)
        agrees(n, y, subsets[i]);
}

/* A small network that uses views, broadcasts, slices, sums, and its gradient: y[0..6). */
static int network(wg_tape *tape, wg_tensor *a, wg_tensor *b, wg_var *y) {
    wg_var x = wg_leaf(tape, a), w = wg_leaf(tape, b), s = x, loss, wrt[2] = {x, w};
    for (int t = 0; t < 4; t++) {
        wg_var gate = sigmoid(mul(s, slice(w, 0, t, 1)));
        wg_var turned = transpose(reshape(s, 2, ((const int64_t[]){6, 4})));
        s = add(mul(gate, tanh(s)), mul(sub(1, gate), reshape(mul(turned, turned), 2, ((const int64_t[]){4, 6}))));
    }
    loss = sum_to(square(s), 0, NULL);
    y[0] = loss, y[1] = s, y[2] = transpose(s), y[3] = x;
    wg_grad(loss, 2, wrt, y + 4);
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
    return 6;
}

Test(plan, agrees_with_evaluation_bit_for_bit_with_any_passes) {
    for (int type = WG_F32; type <= WG_F64; type++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *a = taped_random(NULL, type, 2, (const int64_t[]){4, 6}, 1), *b = taped_random(NULL, type, 2, (const int64_t[]){4, 6}, 2);
        wg_var y[MOST];
        agrees_in_every_way(network(tape, a, b, y), y);
        wg_tape_free(tape);
        wg_tensor_free(a);
        wg_tensor_free(b);
    }
}

Test(plan, takes_scalars_empty_arrays_and_bare_views_as_outputs) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F64, 0, NULL, 1), *none = taped_random(NULL, WG_F64, 2, (const int64_t[]){0, 3}, 1);
    wg_var x = wg_leaf(tape, a), e = wg_leaf(tape, none);
    wg_var y[MOST] = {x, x, mul(x, x), broadcast_to(x, 2, ((const int64_t[]){2, 2})), tanh(e), sum_to(e, 1, ((const int64_t[]){3})),
                      wg_full(tape, WG_F32, 1, (const int64_t[]){5}, 0.1), add(mul(x, x), 1)};
    agrees_in_every_way(8, y);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(none);
}

Test(plan, outlives_its_tape_and_reads_current_contents) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F64, 1, (const int64_t[]){3}, 1);
    wg_var y = sum_to(mul(wg_leaf(tape, a), 2), 0, NULL);
    wg_error error = {0};
    wg_plan *plan = wg_compile(1, &y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_tape_free(tape);
    for (int k = 0; k < 3; k++) {
        wg_tensor_fill(a, k);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_tensor_get(wg_plan_output(plan, 0), 0), 6 * k);
    }
    wg_tensor_free(a); /* the plan still holds it */
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    wg_plan_free(plan);
}

/* ---- against evaluation on random graphs ---- */

typedef struct made {
    wg_tape *tape;
    wg_var y[RANDOM_OUTPUTS];
    int n;
} made;

static made make(uint64_t seed, wg_dtype dtype) {
    made m = {.tape = wg_tape_new(NULL)};
    m.n = random_graph(m.tape, seed, dtype, 16, m.y, NULL);
    cr_assert_gt(m.n, 0);
    return m;
}

/* One graph as a plan, by the rule of the header, with these passes left out and this many threads. */
static void one_graph(uint64_t seed, wg_dtype dtype, const char *without, int threads) {
    char text[512] = "";
    wg_error error = {0};
    wg_tensor *exact[RANDOM_OUTPUTS], *single[RANDOM_OUTPUTS];
    made d = make(seed, WG_F64), m = make(seed, dtype);
    wg_status status = wg_eval(d.n, d.y, exact, &error);
    if (status == WG_OK)
        status = wg_eval(m.n, m.y, single, &error);
    wg_compile_options options = {.without = without, .validate = true, .run.threads = threads};
    wg_plan *plan = wg_compile(m.n, m.y, &options, &error);
    cr_assert_not_null(plan, "seed %llu: %s", (unsigned long long)seed, error.text);
    wg_tape_free(m.tape);
    cr_assert_eq(status, WG_OK, "seed %llu: %s", (unsigned long long)seed, error.text);
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(wg_run(plan, &error), WG_OK, "seed %llu: %s", (unsigned long long)seed, error.text);
        for (int i = 0; i < m.n; i++)
            cr_expect(random_graph_agree(exact[i], single[i], wg_plan_output(plan, i), text, sizeof text),
                      "seed %llu, output %d, round %d, without %s: %s", (unsigned long long)seed, i, round,
                      without ? without : "nothing", text);
    }
    wg_plan_free(plan);
    wg_tape_free(d.tape);
    taped_free(m.n, exact);
    taped_free(m.n, single);
}

Test(plan, agrees_with_evaluation_on_random_graphs_in_f32) {
    for (uint64_t seed = 1; seed <= 1000; seed++)
        one_graph(seed, WG_F32, subsets[seed % (sizeof subsets / sizeof *subsets)], 1 + (int)(seed % 3));
}

Test(plan, agrees_with_evaluation_on_random_graphs_in_f64) {
    for (uint64_t seed = 10001; seed <= 11000; seed++)
        one_graph(seed, WG_F64, subsets[seed % (sizeof subsets / sizeof *subsets)], 1 + (int)(seed % 3));
}

/* ---- stores and guards ---- */

static wg_tensor *number(double value) { return taped_scalar(NULL, WG_F64, value); }

Test(plan, stores_see_the_values_at_the_start_and_commit_together) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = number(1), *b = number(2), *c = number(0);
    wg_var x = wg_leaf(tape, a), z = wg_leaf(tape, b);
    wg_var y[] = {wg_store(a, z), wg_store(b, x), wg_store(c, reshape(x, 0, NULL)), add(x, z)};
    wg_plan *plan = wg_compile(4, y, NULL, NULL);
    wg_tape_free(tape);
    for (int k = 0; k < 3; k++) {
        double first = wg_tensor_get(a, 0), second = wg_tensor_get(b, 0);
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
        cr_assert_eq(wg_tensor_get(a, 0), second);
        cr_assert_eq(wg_tensor_get(b, 0), first);
        cr_assert_eq(wg_tensor_get(c, 0), first);
        cr_assert_eq(wg_tensor_get(wg_plan_output(plan, 3), 0), 3);
    }
    wg_plan_free(plan);
    wg_tensor_free(a);
    wg_tensor_free(b);
    wg_tensor_free(c);
}

Test(plan, failed_guard_stores_nothing) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = number(1), *b = number(1);
    wg_var x = wg_leaf(tape, a);
    wg_var y[] = {wg_store(b, add(x, wg_leaf(tape, b))), wg_guard(log(x))};
    wg_error error = {0};
    wg_plan *plan = wg_compile(2, y, NULL, &error);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_tensor_get(b, 0), 2);
    uint64_t version = wg_tensor_version(b);
    for (int k = 0; k < 2; k++) {
        wg_tensor_set(a, 0, k ? NAN : 0);
        cr_assert_eq(wg_run(plan, NULL), WG_NONFINITE);
        cr_assert_eq(wg_tensor_get(b, 0), 2);
        cr_assert_eq(wg_tensor_version(b), version);
    }
    wg_tensor_set(a, 0, 2);
    cr_assert_eq(wg_run(plan, NULL), WG_OK, "a run after a failed one is a run like any other");
    cr_assert_eq(wg_tensor_get(b, 0), 4);
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

Test(plan, says_what_cannot_be_compiled) {
    wg_tape *tape = wg_tape_new(NULL), *other = wg_tape_new(NULL);
    wg_tensor *a = number(1);
    wg_var x = wg_leaf(tape, a), y[] = {wg_store(a, x), wg_store(a, neg(x))}, far[] = {x, wg_leaf(other, a)}, bare = wg_c(1);
    wg_error error = {0};
    cr_assert_null(wg_compile(2, y, NULL, &error));
    cr_assert_eq(error.status, WG_CONFLICT, "%s", error.text);
    error = (wg_error){0};
    cr_assert_null(wg_compile(2, far, NULL, &error));
    cr_assert_eq(error.status, WG_ARGUMENT, "%s", error.text);
    error = (wg_error){0};
    cr_assert_null(wg_compile(1, &bare, NULL, &error));
    cr_assert_eq(error.status, WG_ARGUMENT, "%s", error.text);
    cr_assert_null(wg_compile(0, NULL, NULL, NULL));
    error = (wg_error){0};
    cr_assert_null(wg_compile(1, &x, &(wg_compile_options){.without = "inplace,no such\npass"}, &error));
    cr_assert_eq(error.status, WG_NOT_FOUND, "%s", error.text);
    cr_assert_str_eq(error.text, "compile: there is no pass 'no such\\x0Apass'");
    error = (wg_error){0};
    cr_assert_null(wg_compile(1, &x, &(wg_compile_options){.without = "place"}, &error));
    cr_assert_eq(error.status, WG_ARGUMENT, "%s", error.text);
    wg_slice(x, 0, 0, 1);
    error = (wg_error){0};
    cr_assert_null(wg_compile(1, &x, NULL, &error));
    cr_assert_eq(error.status, wg_tape_status(tape), "the tape's own failure: %s", error.text);
    wg_tape_free(tape);
    wg_tape_free(other);
    wg_tensor_free(a);
}

/* ---- what a run and a compilation take ---- */

Test(plan, run_allocates_nothing) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *a = taped_random(memory, WG_F32, 2, (const int64_t[]){4, 6}, 1), *b = taped_random(memory, WG_F32, 2, (const int64_t[]){4, 6}, 2);
    wg_var y[MOST];
    int n = network(tape, a, b, y);
    wg_plan *plan = wg_compile(n, y, NULL, NULL);
    wg_tape_free(tape);
    size_t calls = wg_memory_calls(memory), used = wg_memory_used(memory);
    for (int k = 0; k < 10; k++)
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
    cr_assert_eq(wg_memory_calls(memory), calls);
    cr_assert_eq(wg_memory_used(memory), used);
    wg_plan_free(plan);
    wg_tensor_free(a);
    wg_tensor_free(b);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

Test(plan, survives_every_refused_allocation) {
    long k = 0;
    bool done = false;
    while (!done) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        wg_tape *tape = wg_tape_new(memory);
        wg_tensor *a = taped_random(NULL, WG_F32, 2, (const int64_t[]){4, 6}, 1), *b = taped_random(NULL, WG_F32, 2, (const int64_t[]){4, 6}, 2);
        wg_var y[MOST];
        wg_error error = {0};
        int n = network(tape, a, b, y);
        long live = f.live;
        f.calls = 0, f.fail = ++k;
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
        wg_workspace *more = plan ? wg_workspace_new(plan) : NULL;
        done = !failing_failed(&f);
        cr_assert((plan && more) || !done, "nothing was refused, yet: %s", error.text);
        cr_assert(plan || error.status == WG_MEMORY, "refusal %ld: %s", k, error.text);
        if (plan)
            cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        wg_workspace_free(more);
        wg_plan_free(plan);
        cr_assert_eq(f.live, live, "refusal %ld leaks", k);
        wg_tape_free(tape);
        wg_tensor_free(a);
        wg_tensor_free(b);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30);
}

/* A chain of scalar ops and its gradient. */
static wg_plan *chain(wg_memory *memory, int64_t ops, wg_tensor *a, wg_error *error) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_var x = wg_leaf(tape, a), y[2] = {x};
    for (int64_t i = 0; i < ops; i += 4)
        y[0] = add(mul(tanh(add(y[0], 0.6)), -0.016771), 1.0927326);
    wg_grad(y[0], 1, &x, &y[1]);
    tape->memory = memory; /* what is counted is the compiler's */
    wg_plan *plan = wg_compile(2, y, NULL, error);
    tape->memory = NULL;
    wg_tape_free(tape);
    return plan;
}

Test(plan, memory_and_calls_of_a_compilation_are_linear_in_the_tape) {
    size_t peak[3], calls[3];
    int64_t ops[3] = {1000, 10000, 100000};
    for (int k = 0; k < 3; k++) {
        wg_memory *memory = wg_memory_new(NULL, 0);
        wg_tensor *a = number(0.3);
        wg_error error = {0};
        wg_plan *plan = chain(memory, ops[k], a, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        peak[k] = wg_memory_peak(memory);
        calls[k] = wg_memory_calls(memory);
        wg_plan_free(plan);
        wg_tensor_free(a);
        wg_memory_free(memory);
    }
    cr_expect_lt(peak[1], 14 * peak[0], "%zu bytes after %zu", peak[1], peak[0]);
    cr_expect_lt(peak[2], 14 * peak[1], "%zu bytes after %zu", peak[2], peak[1]);
    cr_expect_lt(calls[2], 2 * calls[1], "blocks grow geometrically");
}

/* Parts of 3, 0, 1, 2 and 0 elements side by side: slice [from, to) is one of them, or is not. */
Test(plan, slice_that_is_one_of_several_parts_gives_way_to_it) {
    static const int64_t size[] = {3, 0, 1, 2, 0}, first[] = {0, 3, 3, 4, 6};
    for (int64_t from = 0; from < 6; from++)
        for (int64_t to = from + 1; to <= 6; to++) {
            wg_tape *tape = wg_tape_new(NULL);
            wg_var part[WG_LEN(size)];
            bool whole = false;
            for (int k = 0; k < WG_LEN(size); k++) {
                wg_tensor *t = taped_random(NULL, WG_F32, 1, &size[k], 7 + (uint64_t)k);
                part[k] = wg_leaf(tape, t);
                wg_tensor_free(t);
                whole = whole || (from == first[k] && to == first[k] + size[k]);
            }
            wg_var y = tanh(slice(concat(WG_LEN(size), part, 0), 0, from, to - from));
            wg_program *p = wg__compile(NULL, "simplify", 1, &y, NULL);
            cr_assert_eq(wg__validate(p, NULL), WG_OK);
            bool joined = false;
            for (int64_t id = 1; id < p->count; id++)
                joined = joined || strcmp(p->list[id].op->name, "concat") == 0;
            cr_expect_eq(joined, !whole, "[%lld, %lld)", (long long)from, (long long)to);
            wg__program_free(p);
            agrees(1, &y, NULL);
            wg_tape_free(tape);
        }
}

/* Where values are so large that their alignment does not count. */
Test(plan, workspace_is_close_to_what_is_live_at_once) {
    size_t arena = 0, live = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        made m = make(seed, WG_F32);
        wg_plan *plan = wg_compile(m.n, m.y, NULL, NULL);
        wg_plan_size size = wg_plan_measure(plan);
        cr_assert_leq(size.live_bytes, size.workspace_bytes);
        if (size.live_bytes >= 8192) {
            arena += plan->program->scratch_at;
            live += size.live_bytes;
        }
        wg_plan_free(plan);
        wg_tape_free(m.tape);
    }
    cr_assert_gt(live, 100000);
    cr_expect_leq((double)arena, 1.15 * (double)live, "%zu bytes for %zu live", arena, live);
}

/* The bytes that new tensors like the outputs take. */
static size_t outputs_like(wg_memory *memory, const wg_plan *plan) {
    size_t before = wg_memory_used(memory), bytes = 0;
    for (int i = 0; i < wg_plan_output_count(plan); i++) {
        const wg_tensor *y = wg_plan_output(plan, i);
        wg_tensor *t = wg_tensor_new(memory, wg_tensor_dtype(y), wg_tensor_shape(y)->rank, wg_tensor_shape(y)->dim);
        bytes += wg_memory_used(memory) - before;
        wg_tensor_free(t);
    }
    return bytes;
}

Test(plan, measure_says_what_a_workspace_takes_of_it_a_lane_for_each_thread) {
    size_t bytes[2], without_lanes[2];
    for (int k = 0; k < 2; k++) {
        unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 6, .batch = 40, .input = 3, .hidden = 20});
        wg_memory *memory = wg_memory_new(NULL, 0), *own = u.tape->memory;
        wg_var y[2] = {wg_unroll_output(u.unroll), sum_to(exp(wg_unroll_output(u.unroll)), 0, NULL)};
        u.tape->memory = memory;
        wg_plan *plan = wg_compile(2, y, &(wg_compile_options){.run.threads = k ? 4 : 1}, NULL);
        u.tape->memory = own;
        cr_assert_gt(plan->lane_bytes, 1000);
        size_t before = wg_memory_used(memory), outputs = outputs_like(memory, plan);
        wg_workspace *w = wg_workspace_new(plan);
        cr_assert_eq(wg_run_in(plan, w, NULL, NULL), WG_OK);
        bytes[k] = wg_plan_measure(plan).workspace_bytes;
        cr_expect_eq(wg_memory_used(memory) - before, bytes[k] + outputs, "%zu bytes, of them %zu of outputs; %zu said",
                     wg_memory_used(memory) - before, outputs, bytes[k]);
        without_lanes[k] = bytes[k] - (k ? 4 : 1) * plan->lane_bytes;
        wg_workspace_free(w);
        wg_plan_free(plan);
        wg_memory_free(memory);
        unrolled_free(&u);
    }
    cr_expect_eq(without_lanes[0], without_lanes[1], "%zu and %zu", without_lanes[0], without_lanes[1]);
}

Test(plan, workspace_of_an_unrolled_recurrence_is_linear_and_tight) {
    size_t bytes[2];
    for (int k = 0; k < 2; k++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y[4];
        recurrence(tape, WG_F32, 32 << k, false, y);
        wg_plan *plan = wg_compile(4, y, NULL, NULL);
        wg_plan_size size = wg_plan_measure(plan);
        cr_expect_leq((double)plan->program->scratch_at, 1.15 * (double)size.live_bytes, "%zu bytes for %zu live",
                      plan->program->scratch_at, size.live_bytes);
        bytes[k] = size.workspace_bytes;
        wg_plan_free(plan);
        wg_tape_free(tape);
    }
    cr_expect_leq(bytes[1], 2 * bytes[0] + 65536, "%zu bytes for twice the steps of %zu", bytes[1], bytes[0]);
}

/* ---- threads and workspaces ---- */

Test(plan, gives_the_same_bits_on_any_number_of_threads) {
    static const int threads[] = {1, 2, 3, 4, 8};
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = taped_random(NULL, WG_F32, 2, (const int64_t[]){300, 200}, 1), *b = taped_random(NULL, WG_F32, 2, (const int64_t[]){200, 170}, 2);
    wg_var x = wg_leaf(tape, a), w = wg_leaf(tape, b), wrt[2] = {x, w}, y[3];
    wg_var h = tanh(wg_matmul(sigmoid(x), w, false, false));
    y[0] = sum_to(square(wg_matmul(h, w, false, true)), 0, NULL);
    wg_grad(y[0], 2, wrt, y + 1);
    wg_error error = {0};
    wg_plan *plan = wg_compile(3, y, NULL, &error);
    cr_assert_not_null(plan, "%s", error.text);
    wg_tensor *first[3] = {0};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        wg_run_options options = {.threads = threads[t]};
        cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &options, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < 3; i++) {
            const wg_tensor *got = wg_plan_output(plan, i);
            if (!first[i])
                first[i] = wg_tensor_copy(NULL, got);
            cr_expect(memcmp(wg_tensor_data(first[i]), wg_tensor_data(got), wg_tensor_bytes(got)) == 0,
                      "output %d on %d threads", i, threads[t]);
        }
    }
    taped_free(3, first);
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

typedef struct caller {
    const wg_plan *plan;
    wg_workspace *workspace;
    double factor;
    int wrong;
} caller;

static void *call_often(void *user) {
    caller *c = user;
    wg_run_options options = {.threads = 1};
    for (int k = 0; k < 200; k++) {
        if (wg_run_in(c->plan, c->workspace, &options, NULL) != WG_OK)
            c->wrong++;
        for (int64_t i = 0; i < 64; i++)
            c->wrong += wg_tensor_get(wg_workspace_output(c->workspace, 0), i) != c->factor * c->factor + (double)i;
    }
    return NULL;
}

Test(plan, several_threads_run_one_plan_each_in_its_workspace) {
    enum { CALLERS = 4 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = number(1), *own[CALLERS], *ramp = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){64});
    for (int i = 0; i < 64; i++)
        wg_tensor_set(ramp, i, i);
    wg_var x = wg_leaf(tape, a), y = add(mul(x, x), wg_leaf(tape, ramp));
    wg_plan *plan = wg_compile(1, &y, NULL, NULL);
    wg_tape_free(tape);
    caller callers[CALLERS];
    pthread_t threads[CALLERS];
    for (int k = 0; k < CALLERS; k++) {
        wg_error error = {0};
        own[k] = number(k + 2);
        callers[k] = (caller){plan, wg_workspace_new(plan), k + 2, 0};
        cr_assert_eq(wg_workspace_rebind(callers[k].workspace, a, own[k], &error), WG_OK, "%s", error.text);
        cr_assert_eq(pthread_create(&threads[k], NULL, call_often, &callers[k]), 0);
    }
    for (int k = 0; k < CALLERS; k++) {
        pthread_join(threads[k], NULL);
        cr_expect_eq(callers[k].wrong, 0);
        wg_workspace_free(callers[k].workspace);
        wg_tensor_free(own[k]);
    }
    wg_plan_free(plan);
    wg_tensor_free(a);
    wg_tensor_free(ramp);
}

Test(plan, rebinding_checks_what_it_is_given) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = number(1), *b = number(2), *c = number(3), *f = wg_tensor_new(NULL, WG_F32, 0, NULL);
    wg_tensor *v = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){1});
    wg_var x = wg_leaf(tape, a);
    wg_var y[] = {wg_store(a, add(x, 1)), wg_store(b, reshape(x, 0, NULL)), wg_store(b, x), x};
    wg_plan *plan = wg_compile(2, y, NULL, NULL), *other = wg_compile(1, y + 3, NULL, NULL);
    wg_workspace *w = wg_plan_workspace(plan);
    cr_assert_eq(wg_workspace_rebind(w, c, a, NULL), WG_NOT_FOUND);
    cr_assert_eq(wg_workspace_rebind(w, a, f, NULL), WG_DTYPE);
    cr_assert_eq(wg_workspace_rebind(w, a, v, NULL), WG_SHAPE);
    cr_assert_eq(wg_workspace_rebind(w, a, b, NULL), WG_CONFLICT);
    cr_assert_eq(wg_workspace_rebind(w, a, NULL, NULL), WG_ARGUMENT);
    cr_assert_eq(wg_run_in(other, w, NULL, NULL), WG_ARGUMENT);
    cr_assert_eq(wg_workspace_rebind(w, a, c, NULL), WG_OK);
    cr_assert_eq(wg_run(plan, NULL), WG_OK);
    cr_assert_eq(wg_tensor_get(a, 0), 1);
    cr_assert_eq(wg_tensor_get(c, 0), 4);
    cr_assert_eq(wg_tensor_get(b, 0), 3);
    wg_plan_free(plan);
    wg_plan_free(other);
    wg_tape_free(tape);
    wg_tensor *all[] = {a, b, c, f, v};
    taped_free(5, all);
}

/* ---- ops of one's own, and operands of every kind ---- */

/* A view of one's own that can only be taken of dense operands, and whose kernel reads no strides. */
static wg_status mirror_shape(wg_infer *infer) {
    infer->out = *infer->in[0];
    infer->dtype = infer->in_dtype[0];
    return WG_OK;
}
static bool never_view(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                       int64_t *out_stride, int64_t *offset) {
    (void)attr, (void)in, (void)in_stride, (void)out, (void)out_stride, (void)offset;
    return false;
}
static wg_status mirror_run(wg_call *call) {
    const double *from = call->in[0].data;
    double *to = call->out.data;
    for (int64_t i = 0; i < call->out.shape->count; i++)
        to[i] = from[call->out.shape->count - 1 - i];
    return WG_OK;
}
static const wg_op mirror = {.name = "mirror", .arity = 1, .kind = WG_VIEW, .shape = mirror_shape, .run = mirror_run,
                             .view = never_view};

Test(plan, gives_a_view_that_reads_no_strides_dense_operands) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){3, 4}, 1);
    wg_var turned = transpose(wg_leaf(tape, t)), y[2] = {wg_apply(&mirror, 1, &turned, NULL), turned};
    agrees_in_every_way(2, y);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

static void halves(int64_t n, const void *const *in, void *out) {
    for (int64_t i = 0; i < n; i++)
        ((float *)out)[i] = ((const float *)in[0])[i] / 2;
}
static const wg_op half = {.name = "half", .arity = 1, .kind = WG_POINTWISE, .map = {halves}};
static const wg_op four = {.name = "four", .arity = 4, .kind = WG_POINTWISE, .map = {halves}};
static const wg_op no_way = {.name = "no_way", .arity = 1, .kind = WG_MOVE, .shape = mirror_shape};

static int regions_seen, team_seen;

static wg_status look_around(wg_call *call) {
    regions_seen = omp_in_parallel();
    team_seen = omp_get_num_threads();
    memcpy(call->out.data, call->in[0].data, (size_t)call->out.shape->count * sizeof(double));
    return WG_OK;
}

static const wg_op looking = {.name = "looking", .arity = 1, .kind = WG_MOVE, .shape = taped_as_it_is, .run = look_around};

Test(plan, kernel_of_ones_own_is_called_in_the_region_of_a_run_with_several_threads) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 1, (const int64_t[]){300000}, 1); /* enough to share */
    wg_var x = wg_leaf(tape, t), y = wg_apply(&looking, 1, &x, NULL);
    wg_plan *plan = wg_compile(1, &y, NULL, NULL);
    for (int threads = 1; threads <= 3; threads++) {
        cr_assert_eq(wg_run_in(plan, wg_plan_workspace(plan), &(wg_run_options){.threads = threads}, NULL), WG_OK);
        cr_expect_eq(regions_seen, threads > 1);
        cr_expect_eq(team_seen, threads);
    }
    wg_tensor_free(taped_value(y));
    cr_expect_eq(regions_seen, 0, "evaluation opens none around a kernel");
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(plan, pointwise_op_of_ones_own_needs_only_its_map) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){3, 4}, 1);
    wg_var x = wg_leaf(tape, t), y = wg_apply(&half, 1, &x, NULL), turned = transpose(x), z[] = {y, wg_apply(&half, 1, &turned, NULL)};
    agrees_in_every_way(2, z);
    cr_assert_eq(taped_distance(y, mul(x, 0.5)), 0);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(plan, op_that_cannot_be_run_says_so) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *f32 = wg_tensor_new(NULL, WG_F32, 1, (const int64_t[]){5}), *f64 = wg_tensor_new(NULL, WG_F64, 1, (const int64_t[]){5});
    wg_var x = wg_leaf(tape, f32), z = wg_leaf(tape, f64), y[] = {wg_apply(&no_way, 1, &x, NULL), wg_apply(&half, 1, &z, NULL), wg_apply(&four, 4, (const wg_var[]){x, x, x, x}, NULL)};
    static const wg_status says[] = {WG_UNSUPPORTED, WG_DTYPE, WG_UNSUPPORTED};
    for (int i = 0; i < 3; i++) {
        wg_error error = {0}, again = {0};
        wg_tensor *out;
        wg_plan *plan = wg_compile(1, &y[i], NULL, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), says[i], "%s", error.text);
        cr_assert_eq(wg_eval(1, &y[i], &out, &again), error.status);
        cr_assert_str_eq(error.text, again.text);
        wg_plan_free(plan);
    }
    wg_tape_free(tape);
    wg_tensor_free(f32);
    wg_tensor_free(f64);
}

/* What a plan computes of y[0..n), against evaluation; f64. */
static void same_as_evaluation(int n, const wg_var *y, const char *what) {
    wg_tensor *out[8];
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s: %s", what, error.text);
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s: %s", what, error.text);
    cr_assert_eq(wg_eval(n, y, out, &error), WG_OK, "%s: %s", what, error.text);
    for (int i = 0; i < n; i++) {
        for (int64_t k = 0; k < wg_tensor_shape(out[i])->count; k++)
            cr_expect_lt(fabs(wg_tensor_get(out[i], k) - wg_tensor_get(wg_plan_output(plan, i), k)), 1e-10, "%s: output %d, element %lld",
                         what, i, (long long)k);
        wg_tensor_free(out[i]);
    }
    wg_plan_free(plan);
}

/* A guarded value has the strides of what is guarded: here of a transpose, whose columns are not adjacent. */
Test(plan, loops_multiply_what_is_guarded_as_evaluation_does) {
    enum { T = 6, B = 30, N = 4 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *tensor[4] = {taped_random(NULL, WG_F64, 3, (const int64_t[]){2 * T, N, B}, 1), taped_random(NULL, WG_F64, 2, (const int64_t[]){N, N}, 2),
                            taped_random(NULL, WG_F64, 2, (const int64_t[]){B, N}, 3), taped_random(NULL, WG_F64, 2, (const int64_t[]){N, B}, 4)};
    wg_var w = wg_leaf(tape, tensor[1]), h = wg_leaf(tape, tensor[2]), y[2];
    wg_var columns = wg_guard(transpose(wg_leaf(tape, tensor[0]))), one = wg_guard(transpose(wg_leaf(tape, tensor[3])));
    for (int t = 0; t < T; t++) { /* every other one: the products stay in the loop */
        wg__step_mark(tape, 7, t);
        h = tanh(add(wg_matmul(wg_reshape(slice(columns, 0, 2 * t, 1), 2, (const int64_t[]){B, N}), w, false, false), h));
    }
    y[0] = h;
    wg__step_mark(tape, 8, 0); /* a loop of one iteration, with all from outside */
    y[1] = tanh(wg_matmul(one, w, false, false));
    wg__step_mark(tape, 8, WG_NO_STEP);
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
    for (int k = 0; k < 2; k++)
        same_as_evaluation(1, &y[k], k ? "one step" : "steps");
    wg_tape_free(tape);
    for (int k = 0; k < 4; k++)
        wg_tensor_free(tensor[k]);
}

Test(plan, loops_read_columns_reversed_steps_parts_of_rank_3_and_two_steps_back_as_evaluation_does) {
    enum { T = 6, B = 30, N = 4 };
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *tensor[5] = {taped_random(NULL, WG_F64, 3, (const int64_t[]){B, N, T}, 1), taped_random(NULL, WG_F64, 2, (const int64_t[]){N, N}, 2),
                            taped_random(NULL, WG_F64, 3, (const int64_t[]){T, B, N}, 3), taped_random(NULL, WG_F64, 2, (const int64_t[]){B, N}, 4),
                            taped_random(NULL, WG_F64, 3, (const int64_t[]){T, B, 2 * N}, 5)};
    wg_var columns = wg_leaf(tape, tensor[0]), w = wg_leaf(tape, tensor[1]), x = wg_leaf(tape, tensor[2]), start = wg_leaf(tape, tensor[3]);
    wg_var wide = wg_leaf(tape, tensor[4]), h = start, g = start, before = start, sum = wg_like(w, 0), all[T], d = start, y[5];
    wg_var r = wg_reshape(wide, 4, (const int64_t[]){T, B, 2, N}), q = wg_reshape(slice(r, 0, 0, 1), 3, (const int64_t[]){B, 2, N});
    for (int t = 0; t < T; t++) {
        wg__step_mark(tape, 7, t);
        wg_var column = wg_reshape(slice(columns, 2, t, 1), 2, (const int64_t[]){B, N});
        wg_var back = wg_reshape(slice(x, 0, T - 1 - t, 1), 2, (const int64_t[]){B, N});
        h = tanh(add(wg_matmul(column, w, false, false), h));
        g = tanh(add(wg_matmul(g, w, false, false), back));
        sum = add(sum, wg_matmul(back, g, true, false));
        all[t] = g;
        wg_var now = wg_reshape(d, 2, (const int64_t[]){B, N}); /* read one step later still */
        d = tanh(add(mul(before, 0.5), back));
        before = now;
        wg_var part = wg_reshape(slice(r, 0, t, 1), 3, (const int64_t[]){B, 2, N});
        q = wg_softmax(slice(wg_concat(2, (const wg_var[]){tanh(add(q, part)), wg_sin(mul(q, part))}, 2), 2, 1, N), 2);
    }
    wg__step_mark(tape, 7, WG_NO_STEP);
    y[0] = h, y[1] = sum, y[2] = wg_stack(T, all, 0), y[3] = d, y[4] = q;
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
    same_as_evaluation(5, y, "all");
    for (int k = 0; k < 5; k++)
        same_as_evaluation(1, &y[k], "one");
    wg_tape_free(tape);
    for (int k = 0; k < 5; k++)
        wg_tensor_free(tensor[k]);
}
