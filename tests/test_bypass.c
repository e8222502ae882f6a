/* What threads keep of a loop's steps goes past the caches where it is much: the same bytes, and nothing beside them. */
#include "beside.h"
#include "gemm.h"
#include "loop.h"
#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>

Test(bypass, whole_lines_and_what_is_none_are_copied_and_nothing_else) {
    _Alignas(WG_LINE_BYTES) static char from[512], to[512];
    for (int k = 0; k < WG_LEN(from); k++)
        from[k] = (char)(k % 127 + 1);
    for (int at = 0; at < 2 * WG_LINE_BYTES; at++)
        for (int source = 0; source < 20; source += 3)
            for (int size = 0; size < 260; size++) {
                memset(to, 0, sizeof to);
                wg__bypass(to + at, from + source, (size_t)size);
                wg__bypass_fence();
                bool right = memcmp(to + at, from + source, (size_t)size) == 0;
                for (int k = 0; k < WG_LEN(to) && right; k++)
                    right = (k >= at && k < at + size) || to[k] == 0;
                cr_assert(right, "%d bytes from %d to %d", size, source, at);
            }
}

/* ---- what another thread that learns of it reads ---- */

enum { HANDED = 1 << 16, TURNS = 2000 };
typedef struct handing {
    _Alignas(WG_LINE_BYTES) char to[HANDED], from[HANDED];
    atomic_int given, taken;
    int stale;
} handing;

static void *take(void *user) {
    handing *h = user;
    for (int turn = 1; turn <= TURNS; turn++) {
        while (atomic_load_explicit(&h->given, memory_order_acquire) != turn)
            ;
        for (int k = HANDED - 1024; k < HANDED; k += WG_LINE_BYTES)
            h->stale += ((volatile char *)h->to)[k] != (char)turn;
        for (int k = 0; k < HANDED; k += WG_LINE_BYTES) /* into this core's cache */
            (void)((volatile char *)h->to)[k];
        atomic_store_explicit(&h->taken, turn, memory_order_release);
    }
    return NULL;
}

static void write_chunk(void *user, int64_t from, int64_t to) {
    handing *h = user;
    wg__bypass(h->to + from, h->from + from, (size_t)(to - from));
}

/* By wg__rows, on one thread and on two, none of whose own ways of waiting is the reader's. */
Test(bypass, what_rows_have_written_is_there_once_they_are_done) {
    static handing h;
    for (int threads = 1; threads <= 2; threads++) {
        pthread_t reader;
        h.given = h.taken = 0;
        cr_assert_eq(pthread_create(&reader, NULL, take, &h), 0);
        for (int turn = 1; turn <= TURNS; turn++) {
            memset(h.from, turn, sizeof h.from);
            wg__rows(&(wg_team){.threads = threads}, HANDED, HANDED / threads, write_chunk, &h);
            atomic_store_explicit(&h.given, turn, memory_order_release);
            while (atomic_load_explicit(&h.taken, memory_order_acquire) != turn)
                ;
        }
        pthread_join(reader, NULL);
        cr_expect_eq(h.stale, 0, "on %d threads: %d", threads, h.stale);
    }
}

/* ---- products ---- */

/* C of 2 MiB and more, whose rows are whole lines or not, of terms that are added up at once or not. */
Test(bypass, large_products_have_the_bits_that_one_thread_makes_and_write_nothing_else) {
    static const struct {
        int64_t m, n, k, row, shift;
        double beta;
    } sizes[] = {{2100, 256, 70, 256, 0, 0}, {2100, 256, 320, 272, 0, 0}, {1100, 528, 321, 528, 0, 0}, {1100, 528, 1025, 528, 0, 0}, {2100, 260, 30, 260, 0, 0}, {1100, 500, 33, 512, 0, 0},
                 {2100, 256, 70, 256, 0, 1}, {2100, 256, 70, 260, 0, 0}, {2100, 256, 70, 256, 1, 0}, {1030, 1040, 12, 1040, 0, 0}};
    for (int k = 0; k < 2 * WG_LEN(sizes); k++) {
        const wg_dtype dtype = k % 2 ? WG_F64 : WG_F32;
        const int64_t m = sizes[k / 2].m / (dtype == WG_F64 && sizes[k / 2].m > 1030 ? 2 : 1), n = sizes[k / 2].n, terms = sizes[k / 2].k, row = sizes[k / 2].row, size = (int64_t)wg_dtype_size(dtype);
        wg_tensor *a = taped_random(NULL, dtype, 2, (const int64_t[]){m, terms}, 1), *b = taped_random(NULL, dtype, 2, (const int64_t[]){terms, n}, 2);
        const size_t bytes = (size_t)((m * row + 64) * size / 64 * 64);
        char *c[2] = {aligned_alloc(64, bytes), aligned_alloc(64, bytes)};
        for (wg_isa isa = WG_ISA_BASELINE; isa <= WG_ISA_AVX512; isa++) {
            for (int threads = 1; threads <= 2; threads++) {
                memset(c[threads - 1], 1, bytes);
                wg__gemm(&(wg_team){.threads = threads, .isa = isa}, &(wg_gemm){.dtype = dtype, .m = m, .n = n, .k = terms, .alpha = 1, .beta = sizes[k / 2].beta,
                    .a = {(void *)wg_tensor_data(a), terms, 1}, .b = {(void *)wg_tensor_data(b), n, 1}, .c = {c[threads - 1] + sizes[k / 2].shift * size, row, 1}});
            }
            cr_expect(memcmp(c[0], c[1], bytes) == 0, "case %d, set %d", k, isa);
        }
        free(c[0]);
        free(c[1]);
        wg_tensor_free(a);
        wg_tensor_free(b);
    }
}

/* How many values go past the caches. */
static int passed(const wg_plan *plan) {
    const wg_program *p = plan->program;
    int count = 0;
    for (uint32_t id = 1; id < p->count; id++) {
        const bool stack = p->list[id].op == &wg__op_stacked && p->list[p->list[id].in[0]].op == &wg__op_bypass;
        cr_expect(!stack || (p->list[p->list[id].in[0]].region && p->list[p->list[id].in[0]].region == p->list[p->list[p->list[id].in[0]].in[0]].region),
                  "in the region of what it is of");
        count += stack;
    }
    return count;
}

static const char *const lstm = "cell c\ninput x\nstate h, c\ni = sigmoid(Wi @ x + Ui @ (0.3*h) + bi)\nf = sigmoid(Wf @ x + Uf @ (0.3*h))\n"
                                "g = tanh(Wg @ x + Ug @ (0.3*h))\nc' = f*c + i*g\nh' = tanh(c')*sigmoid(Wo @ x + h)\n";

Test(bypass, large_stacks_that_several_threads_write) {
    static const char *const text = "cell c\ninput x\nstate h\nh' = tanh(W @ x + U @ h + b)\n";
    static const struct {
        int64_t steps, batch, hidden, far;
        int threads, passed;
    } sizes[] = {
        {64, 32, 128, 0, 2, 2}, {63, 32, 128, 0, 2, 0}, {64, 32, 128, 0, 1, 0}, {64, 32, 128, 0, 8, 2}, /* of h, and of its derivative: 2 MiB */
        {16, 1, 3, 1, 2, 0}, {1100, 32, 31, 0, 2, 0}, /* one row; rows of 248 bytes */
        {16, 8, 3, 1, 2, 2}, {16, 8, 32, 16 * 8 * 32 * 8, 2, 2}, {16, 8, 32, 16 * 8 * 32 * 8 + 1, 2, 0}};
    for (int k = 0; k < WG_LEN(sizes); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(text, &(unrolled_sizes){.steps = sizes[k].steps, .batch = sizes[k].batch, .input = 2, .hidden = sizes[k].hidden});
        int n = all_gradients(&u, y);
        wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = sizes[k].threads, .far_bytes = sizes[k].far, .validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_expect_eq(passed(plan), sizes[k].passed, "case %d: %d", k, passed(plan));
        wg_plan_free(plan);
        unrolled_free(&u);
    }
}

/* Rows of whole lines and others, tiles of several rows, loops of one row; f64, in which no product is made in parts. */
Test(bypass, no_bit_depends_on_it) {
    static const int64_t hidden[] = {1, 3, 8, 24, 33, 64, 300}, batch[] = {1, 2, 5, 32};
    int count = 0;
    for (int k = 0; k < WG_LEN(hidden) * WG_LEN(batch); k++) {
        wg_var y[MOST];
        wg_error error = {0};
        unrolled u = unrolled_new(lstm, &(unrolled_sizes){.steps = 5, .batch = batch[k % WG_LEN(batch)], .input = 3, .hidden = hidden[k / WG_LEN(batch)]});
        int n = all_gradients(&u, y);
        for (int made_for = 2; made_for <= 8; made_for += 3) {
            wg_compile_options options = {.run.threads = made_for, .far_bytes = 1, .validate = true};
            wg_plan *with = wg_compile(n, y, &options, &error);
            options.without = "bypass";
            wg_plan *plain = wg_compile(n, y, &options, &error);
            cr_assert(with && plain, "%s", error.text);
            cr_expect_eq(passed(plain), 0);
            cr_expect_eq(wg__program_flops(with->program), wg__program_flops(plain->program));
            count += passed(with);
            cr_assert_eq(wg_run(plain, &error), WG_OK, "%s", error.text); /* whose bits depend on no number of threads either: test_tiles */
            for (int threads = 1; threads <= 8; threads++) {
                const wg_run_options run = {.threads = threads};
                cr_assert_eq(wg_run_in(with, wg_plan_workspace(with), &run, &error), WG_OK, "%s", error.text);
                for (int i = 0; i < n; i++)
                    cr_expect(memcmp(wg_tensor_data(wg_plan_output(with, i)), wg_tensor_data(wg_plan_output(plain, i)),
                                     wg_tensor_bytes(wg_plan_output(with, i))) == 0,
                              "case %d, output %d on %d threads", k, i, threads);
            }
            wg_plan_free(with);
            wg_plan_free(plain);
        }
        unrolled_free(&u);
    }
    cr_expect_geq(count, 3 * 3 * 21, "%d", count);
}

/* Steps of whole batches, which run op by op. */
Test(bypass, loops_without_tiles_keep_as_they_did) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_step(&(unrolled_sizes){.steps = 12, .batch = 8, .input = 3, .hidden = 16}, centred_step, NULL);
    int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.run.threads = 2, .far_bytes = 1}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    int bypasses = 0, loops = 0;
    for (uint32_t id = 1; id < plan->program->count; id++)
        bypasses += plan->program->list[id].op == &wg__op_bypass;
    for (int64_t k = 0; k < plan->program->loop_count; k++)
        loops += plan->program->loops[k].times > 1 && plan->program->loops[k].rows == 0;
    cr_expect(loops > 0 && bypasses == 0, "%d loops, %d", loops, bypasses);
    wg_plan_free(plan);
    agrees("centred", n, y);
    unrolled_free(&u);
}

Test(bypass, a_limit_below_zero_is_refused) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new(lstm, &(unrolled_sizes){.steps = 2, .batch = 2, .input = 2, .hidden = 2});
    int n = all_gradients(&u, y);
    cr_expect_null(wg_compile(n, y, &(wg_compile_options){.far_bytes = -1}, &error));
    cr_expect_eq(error.status, WG_ARGUMENT);
    cr_expect_str_eq(error.text, "compile: far_bytes is -1");
    unrolled_free(&u);
}
