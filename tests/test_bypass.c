/* What threads keep of a loop's steps goes past the caches where it is much: the same bytes, and nothing beside them. */
#include "beside.h"
#include "loop.h"

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
        {16, 1, 3, 1, 2, 0}, {16, 8, 3, 1, 2, 2}, {16, 8, 3, 16 * 8 * 3 * 8, 2, 2}, {16, 8, 3, 16 * 8 * 3 * 8 + 1, 2, 0}};
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
            count += passed(with);
            for (int threads = 1; threads <= 8; threads++) {
                const wg_run_options run = {.threads = threads};
                cr_assert_eq(wg_run_in(with, wg_plan_workspace(with), &run, &error), WG_OK, "%s", error.text);
                cr_assert_eq(wg_run_in(plain, wg_plan_workspace(plain), &run, &error), WG_OK, "%s", error.text);
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
