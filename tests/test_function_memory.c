/* Plans as C functions: where what they read and write may lie; results against wg_eval or the plan's own runs. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "called.h"
#include "drawn_cell.h"
#include "random_graph.h"

/* ---- products and loops ---- */

Test(function_memory, weights_are_read_anew_at_each_call) {
    enum { M = 40, K = 70, N = 90, WEIGHTS = K * N };
    static double w[WEIGHTS], y[M * N];
    subject s = begin();
    wg_var weight = leaf(&s, WG_F64, 2, (const int64_t[]){K, N}), x = leaf(&s, WG_F64, 2, (const int64_t[]){M, K});
    s.y[0] = matmul(x, weight, false, false), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *w: point, double *y: value)");
    for (int round = 0; round < 4; round++) {
        draw(w, WEIGHTS, 40 + (uint64_t)round);
        f(w, y);
        CALLED(&s);
        cr_assert(is_value(&s, 0, w, y), "round %d", round);
    }
    end(&s);
}

/* An LSTM's loss and its gradient by the recurrent weights of a gate, which loops read: against the plan's own runs. */
static void call_lstm(int threads) {
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 12, .batch = 24, .input = 5, .hidden = 16});
    wg_tensor *leaf = NULL;
    wg_var weight = {0}, y[3];
    for (int k = 0; k < u.n && !leaf; k++)
        if (wg_tensor_shape(u.kept[k])->rank == 2 && wg_tensor_shape(u.kept[k])->dim[0] == 16 && wg_tensor_shape(u.kept[k])->dim[1] == 16)
            leaf = u.kept[k], weight = u.given[k].var;
    cr_assert_not_null(leaf);
    y[0] = taped_sum(square(wg_unroll_output(u.unroll)));
    wg_grad(y[0], 1, &weight, &y[1]);
    y[2] = wg_unroll_output(u.unroll);
    wg_error error = {0};
    wg_plan *plan = wg_compile(3, y, &(wg_compile_options){.validate = true, .run.threads = 3}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    int loops = 0, packs = 0;
    for (int64_t k = 0; k < plan->program->loop_count; k++)
        loops += plan->program->loops[k].to > 0;
    for (int64_t k = 1; k < plan->program->count; k++)
        packs += strcmp(plan->program->list[k].op->name, "packed_product") == 0;
    cr_assert(loops > 0 && packs > 0);
    wg_function *f = wg_plan_function(plan, "double (*)(const double *w: point, double *g: gradient, double *h: out 2): value",
                                      &(wg_function_options){.n = 1, .leaf = &leaf, .run.threads = threads}, &error);
    cr_assert_not_null(f, "%s", error.text);
    double (*call)(const double *, double *, double *) = (double (*)(const double *, double *, double *))wg_function_pointer(f);
    for (int round = 0; round < 4; round++) {
        enum { WEIGHTS = 16 * 16 };
        double w[2][WEIGHTS], g[2][WEIGHTS], *h = malloc(sizeof *h * 12 * 24 * 16);
        draw(w[round % 2], WEIGHTS, 60 + (uint64_t)round);
        double value = call(w[round % 2], g[round % 2], round == 1 ? NULL : h);
        cr_assert_eq(wg_function_status(f, &error), WG_OK, "%s", error.text);
        memcpy(wg_tensor_write(leaf), w[round % 2], sizeof w[0]);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert(same_bits(&value, wg_plan_output(plan, 0)));
        cr_assert(same_bits(g[round % 2], wg_plan_output(plan, 1)));
        cr_assert(round == 1 || same_bits(h, wg_plan_output(plan, 2)));
        free(h);
    }
    wg_function_free(f);
    wg_plan_free(plan);
    unrolled_free(&u);
}

Test(function_memory, loops_read_and_write_where_the_call_says) {
    call_lstm(1);
    call_lstm(3);
}

/* Many uses of a large array outside loops: it is bound, and each use moves. */
Test(function_memory, every_use_follows_an_array_to_another_place) {
    enum { N = 4000, PARTS = 40 };
    static double x[2][N], y[2][N];
    subject s = begin();
    wg_var all = row(&s, WG_F64, N), part[PARTS];
    for (int k = 0; k < PARTS; k++) {
        part[k] = slice(all, 0, (int64_t)k * (N / PARTS), N / PARTS);
        part[k] = k % 3 ? tanh(mul(part[k], k)) : wg_cumsum(part[k], 0);
    }
    s.y[0] = add(concat(PARTS, part, 0), all), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *x: point, double *y: value)");
    cr_assert_gt(wg__slot_uses(s.plan, 0), PARTS / 2);
    for (int round = 0; round < 6; round++) {
        double *in = x[round % 2], *out = y[round / 2 % 2];
        draw(in, N, 80 + (uint64_t)round);
        f(in, out);
        CALLED(&s);
        cr_assert(is_value(&s, 0, in, out), "round %d", round);
    }
    end(&s);
}

/* ---- what moves under it, on random plans ---- */

/* A workspace whose leaves and outputs all lie elsewhere: at `block`, 8 bytes off a line. */
static void move_all(const wg_plan *plan, wg_workspace *w, char **leaf, char **output) {
    const wg_program *p = plan->program;
    for (int64_t k = 0; k < p->tensor_count; k++) {
        size_t bytes = wg_tensor_bytes(p->tensors[k]);
        leaf[k] = calloc(1, bytes + 128);
        memcpy(leaf[k] + 8, wg_tensor_data(p->tensors[k]), bytes);
        uint64_t version = wg_tensor_version(w->bound[k]);
        wg__bind_data(w, k, leaf[k] + 8);
        cr_expect_gt(wg_tensor_version(w->bound[k]), version, "what is kept of its contents is out of date");
    }
    for (int i = 0; i < p->output_count; i++) {
        output[i] = calloc(1, wg_tensor_bytes(wg_plan_output(plan, i)) + 128);
        wg__output_data(w, i, output[i] + 8);
    }
}

static void bind_wrappers(const wg_plan *plan, wg_workspace *w) {
    const wg_program *p = plan->program;
    for (int64_t k = 0; k < p->tensor_count; k++) {
        const wg_shape *shape = wg_tensor_shape(p->tensors[k]);
        wg_tensor *own = wg_tensor_wrap(NULL, wg_tensor_dtype(p->tensors[k]), shape->rank, shape->dim,
                                        (void *)(uintptr_t)wg_tensor_data(p->tensors[k]), NULL, NULL);
        wg__bind(w, k, own);
        wg_tensor_free(own);
    }
}

Test(function_memory, leaves_and_outputs_of_any_plan_may_lie_anywhere) {
    for (uint64_t seed = 1; seed <= 300; seed++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y[RANDOM_OUTPUTS];
        int n = random_graph(tape, seed, seed % 2 ? WG_F64 : WG_F32, 16, y, NULL);
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.without = seed % 3 ? NULL : "inplace"}, NULL);
        wg_workspace *w = wg_workspace_new(plan);
        char **leaf = calloc((size_t)plan->program->tensor_count + 1, sizeof *leaf), *output[RANDOM_OUTPUTS] = {0};
        cr_assert_eq(wg_run(plan, NULL), WG_OK);
        bind_wrappers(plan, w);
        for (int round = 0; round < 2; round++) {
            move_all(plan, w, leaf, output);
            cr_assert_eq(wg_run_in(plan, w, NULL, NULL), WG_OK);
            for (int i = 0; i < n; i++) {
                bool same = output[i] && same_bits(output[i] + 8, wg_plan_output(plan, i));
                cr_expect(same, "seed %llu, output %d, round %d", (unsigned long long)seed, i, round);
                free(output[i]);
            }
            for (int64_t k = 0; k < plan->program->tensor_count; k++)
                free(leaf[k]);
        }
        free(leaf);
        wg_workspace_free(w);
        wg_plan_free(plan);
        wg_tape_free(tape);
    }
}

/* ---- arrays that lie over each other ---- */

Test(function_memory, output_may_lie_where_a_leaf_without_a_role_lies) {
    enum { N = 60 };
    subject s = begin();
    wg_var x = leaf(&s, WG_F64, 2, (const int64_t[]){N, N}), w = leaf(&s, WG_F64, 2, (const int64_t[]){N, N});
    s.y[0] = matmul(x, w, false, false), s.outputs = 1;
    void (*f)(const double *, double *) = (__typeof__(f))FUNCTION(&s, "void (*)(const double *x: point, double *y: value)");
    double at[N * N];
    draw(at, N * N, 9);
    for (int round = 0; round < 2; round++) {
        wg_tensor *want = evaluated(&s, 0, at);
        f(at, wg_tensor_write(s.leaf[1]));
        CALLED(&s);
        cr_assert(same_bits(wg_tensor_data(s.leaf[1]), want), "round %d", round);
        wg_tensor_free(want);
    }
    end(&s);
}

Test(function_memory, later_of_two_outputs_stays_however_large_they_are) {
    enum { N = 300 };
    static const char *const types[] = {"void (*)(const double *: point, double *: out 0, double *: out 1)",
                                        "void (*)(const double *: point, double *: out 1, double *: out 0)"};
    subject s = valley(WG_F64, N); /* one number, which is copied, and an array, which is bound */
    for (int order = 0; order < 2; order++) {
        void (*f)(const double *, double *, double *) = (__typeof__(f))FUNCTION(&s, types[order]);
        double x[N], room[N], value;
        draw(x, N, 13);
        f(x, order ? room : room + 7, order ? room + 7 : room);
        CALLED(&s);
        value = room[7];
        wg_tensor *want = evaluated(&s, 1, x);
        cr_expect(order ? is_value(&s, 0, x, &value) : value == wg_tensor_get(want, 7), "order %d: %g", order, value);
        room[7] = wg_tensor_get(want, 7);
        cr_expect(same_bits(room, want), "order %d", order);
        wg_tensor_free(want);
    }
    end(&s);
}

/* Bound and copied alike, at no more than 4 bytes. */
Test(function_memory, outputs_that_are_views_leaves_or_given_twice_are_written_where_the_call_says) {
    static const int64_t sizes[] = {1, 3, 700};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        const int64_t n = sizes[k], dim[2] = {n, 2};
        const size_t bytes = (size_t)n * 2 * sizeof(float);
        subject s = begin();
        wg_var x = leaf(&s, WG_F32, 2, dim);
        s.y[0] = tanh(mul(x, 2)), s.y[1] = transpose(s.y[0]), s.y[2] = x, s.y[3] = s.y[0], s.outputs = 4;
        void (*f)(const float *, float *, float *, float *, float *) = (__typeof__(f))FUNCTION(
            &s, "void (*)(const float *x: point, float *a: out 0, float *b: out 1, float *c: out 2, float *d: out 3)");
        char *block[5];
        float *at[5];
        for (int i = 0; i < 5; i++) {
            block[i] = aligned_alloc(64, (bytes + 4 + 63) / 64 * 64);
            at[i] = (float *)(void *)(block[i] + 4);
        }
        for (int64_t i = 0; i < 2 * n; i++)
            at[0][i] = (float)i / 100 - 1;
        for (int without = 0; without <= 4; without++) { /* of outputs 0 to 3; 4: none is NULL */
            float *to[4];
            for (int i = 0; i < 4; i++)
                to[i] = i == without ? NULL : memset(at[i + 1], 0, bytes);
            f(at[0], to[0], to[1], to[2], to[3]);
            CALLED(&s);
            for (int i = 0; i < 4; i++)
                cr_expect(!to[i] || is_value(&s, i, at[0], to[i]), "%lld rows, output %d without %d", (long long)n, i, without);
        }
        for (int i = 0; i < 5; i++)
            free(block[i]);
        end(&s);
    }
}

Test(function_memory, leaves_without_a_role_are_read_as_they_are_at_each_call) {
    subject s = begin();
    wg_var x = scalar(&s), k = scalar(&s);
    s.y[0] = mul(x, k), s.outputs = 1;
    map *f = (map *)FUNCTION(&s, "double (*)(double x: point): value");
    for (int round = 1; round < 4; round++) {
        wg_tensor_set(s.leaf[1], 0, round);
        cr_assert_eq(f(5), 5 * round);
        CALLED(&s);
    }
    end(&s);
}

/* ---- all weights of a cell ---- */

/* A struct with one pointer for each of n arrays: "struct {double *a0: out 1; …}". */
static void pointers_text(char *text, size_t size, int n, const char *type, const char *role, int from) {
    size_t used = (size_t)snprintf(text, size, "struct {");
    for (int k = 0; k < n; k++)
        used += (size_t)snprintf(text + used, size - used, "%s *a%d: %s %d; ", type, k, role, from + k);
    snprintf(text + used, size - used, "}");
}

enum { WEIGHTS_MOST = 16, WEIGHT_SIZE = 256 };

typedef struct trained {
    unrolled u;
    int n, first; /* weights, and where they begin among what is given */
    wg_var y[WEIGHTS_MOST + 1];
    wg_plan *plan;
    wg_function *f;
} trained;

static trained trained_new(int threads) {
    trained t = {.u = unrolled_new("lstm", &(unrolled_sizes){.steps = 10, .batch = 12, .input = 6, .hidden = 16})};
    char in[1024], out[1024], type[2200];
    wg_error error = {0};
    wg_var w[WEIGHTS_MOST];
    t.first = wg_cell_inputs(t.u.cell), t.n = wg_cell_params(t.u.cell);
    cr_assert(t.n > 8 && t.n <= WEIGHTS_MOST);
    for (int k = 0; k < t.n; k++)
        w[k] = t.u.given[t.first + k].var;
    t.y[0] = taped_sum(square(wg_unroll_output(t.u.unroll)));
    cr_assert_eq(wg_grad(t.y[0], t.n, w, t.y + 1), WG_OK);
    t.plan = wg_compile(t.n + 1, t.y, &(wg_compile_options){.validate = true, .run.threads = threads}, &error);
    cr_assert_not_null(t.plan, "%s", error.text);
    pointers_text(in, sizeof in, t.n, "const double", "in", 0);
    pointers_text(out, sizeof out, t.n, "double", "out", 1);
    snprintf(type, sizeof type, "double (*)(const %s *w, const %s *g): value", in, out);
    t.f = wg_plan_function(t.plan, type, &(wg_function_options){.n = t.n, .leaf = t.u.kept + t.first, .run.threads = threads}, &error);
    cr_assert_not_null(t.f, "%s", error.text);
    return t;
}

static void trained_free(trained *t) {
    cr_expect_eq(wg_function_free(t->f), WG_OK);
    wg_plan_free(t->plan);
    unrolled_free(&t->u);
}

/* The weights lie where they lay, changed, as an optimiser changes them. */
static void train(int threads) {
    static double w[WEIGHTS_MOST][WEIGHT_SIZE], g[WEIGHTS_MOST][WEIGHT_SIZE];
    trained t = trained_new(threads);
    const double *at[WEIGHTS_MOST];
    double *to[WEIGHTS_MOST];
    double (*f)(const double **, double **) = (__typeof__(f))wg_function_pointer(t.f);
    for (int round = 0; round < 4; round++) {
        wg_tensor *want[WEIGHTS_MOST + 1];
        wg_error error = {0};
        for (int k = 0; k < t.n; k++) {
            wg_tensor *leaf = t.u.kept[t.first + k];
            cr_assert_leq(wg_tensor_bytes(leaf), sizeof w[k]);
            draw(w[k], WEIGHT_SIZE, (uint64_t)(100 * round + k));
            memcpy(wg_tensor_write(leaf), w[k], wg_tensor_bytes(leaf));
            at[k] = w[k], to[k] = g[k];
        }
        cr_assert_eq(wg_eval(t.n + 1, t.y, want, &error), WG_OK, "%s", error.text);
        for (int k = 0; k < t.n; k++)
            wg_tensor_fill(t.u.kept[t.first + k], NAN); /* not what is read */
        double value = f(at, to);
        cr_assert_eq(wg_function_status(t.f, &error), WG_OK, "%s", error.text);
        cr_expect_float_eq(value, wg_tensor_get(want[0], 0), 1e-12 * fabs(value), "round %d", round);
        for (int k = 0; k < t.n; k++) {
            const wg_shape *shape = wg_tensor_shape(want[k + 1]);
            wg_tensor *got = wg_tensor_wrap(NULL, WG_F64, shape->rank, shape->dim, g[k], NULL, NULL);
            cr_expect(taped_close(want[k + 1], got), "round %d: the gradient of %s", round, t.u.given[t.first + k].name);
            wg_tensor_free(got);
        }
        for (int k = 0; k <= t.n; k++)
            wg_tensor_free(want[k]);
    }
    trained_free(&t);
}

Test(function_memory, gradients_of_all_weights_follow_weights_that_change_in_place) {
    train(1);
    train(2);
}

Test(function_memory, parts_of_one_result_go_where_the_caller_wants_them) {
    for (int64_t rows = 16; rows <= 4096; rows *= 16) { /* few that are copied, and many that are not */
        subject s = begin();
        wg_var a = leaf(&s, WG_F32, 2, (const int64_t[]){rows, 4}), b = leaf(&s, WG_F32, 2, (const int64_t[]){4, 16}), y = wg_matmul(a, b, false, false);
        s.y[0] = slice(y, 0, 0, rows / 2), s.y[1] = slice(y, 0, rows / 2, rows / 2), s.outputs = 2;
        void (*f)(const float *, float *, float *) = (__typeof__(f))FUNCTION(&s, "void (*)(const float *a: in 0, float *x: out 0, float *y: out 1)");
        const char *first = wg_tensor_data(wg_plan_output(s.plan, 0));
        cr_assert_eq(first + wg_tensor_bytes(wg_plan_output(s.plan, 0)), wg_tensor_data(wg_plan_output(s.plan, 1)), "computed apart");
        const size_t bytes = (size_t)rows / 2 * 16 * sizeof(float);
        float *x[2] = {aligned_alloc(64, bytes), aligned_alloc(64, bytes)};
        for (int round = 0; round < 3; round++) {
            f(wg_tensor_data(s.leaf[0]), x[round % 2], x[1 - round % 2]);
            CALLED(&s);
            for (int k = 0; k < 2; k++) {
                wg_tensor *now = taped_value(s.y[k]);
                cr_assert(same_bytes(x[(round + k) % 2], wg_tensor_data(now), bytes), "%lld rows, round %d, output %d", (long long)rows, round, k);
                wg_tensor_free(now);
            }
            wg_tensor_set(s.leaf[0], round, round + 5);
        }
        free(x[0]), free(x[1]);
        end(&s);
    }
}
