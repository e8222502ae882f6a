/* The cache of plans: what it finds again, what it tells apart, what it forgets, and failures. */
#include "suite.h"

#include <string.h>

#include "failing.h"
#include "taped.h"
#include "wengert/notation.h"

/* sum(tanh(x W)^2) with x, W given, and its gradient by W: y[0..2). */
static void step(wg_tape *tape, wg_tensor *x, wg_tensor *w, double factor, wg_var *y) {
    wg_var v = wg_leaf(tape, w);
    y[0] = mul(sum_to(square(tanh(wg_matmul(wg_leaf(tape, x), v, false, false))), 0, NULL), factor);
    wg_grad(y[0], 1, &v, &y[1]);
}

Test(plan_cache, finds_a_structure_again_and_binds_its_tensors) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_plan_cache *cache = wg_plan_cache_new(NULL, &(wg_compile_options){.validate = true}, 3);
    wg_mark mark = wg_tape_mark(tape);
    wg_error error = {0};
    for (int round = 0; round < 12; round++) {
        int rows = 2 + round % 3; /* three structures */
        wg_tensor *x = taped_random(NULL, WG_F64, 2, (const int64_t[]){rows, 4}, (uint64_t)round);
        wg_tensor *w = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, (uint64_t)round + 100), *out[2];
        wg_var y[2];
        step(tape, x, w, 2, y);
        wg_plan *plan = wg_plan_cache_get(cache, 2, y, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_eval(2, y, out, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < 2; i++)
            cr_assert(memcmp(wg_tensor_data(out[i]), wg_tensor_data(wg_plan_output(plan, i)), wg_tensor_bytes(out[i])) == 0);
        taped_free(2, out);
        wg_tape_rewind(tape, mark);
        wg_tensor_free(x);
        wg_tensor_free(w);
    }
    cr_assert_eq(wg_plan_cache_compiled(cache), 3);
    wg_plan_cache_free(cache);
    wg_tape_free(tape);
}

Test(plan_cache, tells_structures_apart) {
    wg_tape *tape[4];
    wg_plan_cache *cache = wg_plan_cache_new(NULL, NULL, 2);
    wg_tensor *a = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 1), *b = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 2);
    wg_var y[5][2];
    for (int i = 0; i < 4; i++)
        tape[i] = wg_tape_new(NULL);
    step(tape[0], a, b, 2, y[0]);
    step(tape[1], a, a, 2, y[1]); /* one tensor twice */
    step(tape[2], a, b, 3, y[2]); /* another constant */
    step(tape[3], b, a, 2, y[3]); /* as the first */
    y[4][0] = y[0][1], y[4][1] = y[0][0]; /* outputs exchanged */
    wg_plan *first = wg_plan_cache_get(cache, 2, y[0], NULL);
    cr_assert_eq(wg_plan_cache_get(cache, 2, y[3], NULL), first);
    cr_assert_eq(wg_plan_cache_compiled(cache), 1);
    for (int i = 1; i < 5; i++)
        cr_assert_not_null(wg_plan_cache_get(cache, 2, y[i], NULL));
    cr_assert_eq(wg_plan_cache_compiled(cache), 5, "and the oldest was forgotten");
    wg_plan_cache_free(cache);
    for (int i = 0; i < 4; i++)
        wg_tape_free(tape[i]);
    wg_tensor_free(a);
    wg_tensor_free(b);
}

/* Four times tanh, the first in step `first` or in none, the others in steps 1, 2, 3 of an unroll. */
static wg_var stepped(wg_tape *tape, wg_tensor *a, uint32_t unroll, int64_t first) {
    wg_var x = wg_leaf(tape, a);
    for (int64_t t = 0; t < 4; t++) {
        if (t || first != WG_NO_STEP)
            wg__step_mark(tape, unroll, t ? t : first);
        x = tanh(x);
    }
    wg__step_mark(tape, unroll, WG_NO_STEP);
    return x;
}

Test(plan_cache, tells_a_first_step_from_none_and_not_one_unroll_from_another) {
    static const struct {
        uint32_t unroll;
        int64_t first;
        int compiled; /* by then */
    } asked[] = {{0, 0, 1}, {1, 0, 1}, {7, 0, 1}, {1, WG_NO_STEP, 2}, {0, WG_NO_STEP, 2}, {1, 0, 2}};
    wg_plan_cache *cache = wg_plan_cache_new(NULL, NULL, 4);
    wg_tensor *a = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 1);
    for (int i = 0; i < WG_LEN(asked); i++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y = stepped(tape, a, asked[i].unroll, asked[i].first);
        cr_assert_not_null(wg_plan_cache_get(cache, 1, &y, NULL));
        cr_expect_eq(wg_plan_cache_compiled(cache), asked[i].compiled, "%d: %d compiled", i, (int)wg_plan_cache_compiled(cache));
        wg_tape_free(tape);
    }
    wg_plan_cache_free(cache);
    wg_tensor_free(a);
}

Test(plan_cache, forgets_what_was_not_asked_for_longest) {
    wg_tape *tape = wg_tape_new(NULL);
    char without[] = "inplace,simplify";
    wg_plan_cache *cache = wg_plan_cache_new(NULL, &(wg_compile_options){.without = without}, 3);
    wg_tensor *a = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 1);
    wg_var y[5][2];
    memset(without, 'x', sizeof without - 1); /* the cache has its own */
    for (int i = 0; i < 5; i++)
        step(tape, a, a, i + 2, y[i]);
    /* which is asked for, and how many were compiled by then */
    static const int asked[][2] = {{0, 1}, {1, 2}, {2, 3}, {0, 3}, {3, 4}, {0, 4}, {2, 4}, {1, 5}, {2, 5}, {0, 5}, {3, 6}, {2, 6}};
    for (int i = 0; i < WG_LEN(asked); i++) {
        wg_error error = {0};
        wg_tensor *out[2];
        wg_plan *plan = wg_plan_cache_get(cache, 2, y[asked[i][0]], &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_plan_cache_compiled(cache), asked[i][1], "at %d", i);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        cr_assert_eq(wg_eval(2, y[asked[i][0]], out, &error), WG_OK, "%s", error.text);
        for (int k = 0; k < 2; k++)
            cr_assert_eq(memcmp(wg_tensor_data(out[k]), wg_tensor_data(wg_plan_output(plan, k)), wg_tensor_bytes(out[k])), 0);
        taped_free(2, out);
    }
    wg_plan_cache_free(cache);
    wg_plan_cache_free(NULL);
    wg_tape_free(tape);
    wg_tensor_free(a);
}

Test(plan_cache, fails_as_compiling_does_and_goes_on) {
    wg_tape *tape = wg_tape_new(NULL), *other = wg_tape_new(NULL);
    wg_plan_cache *cache = wg_plan_cache_new(NULL, &(wg_compile_options){.without = "nonsense"}, 0);
    wg_tensor *a = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 1);
    wg_var y[2], mixed[2];
    step(tape, a, a, 2, y);
    mixed[0] = y[0], mixed[1] = wg_leaf(other, a);
    for (int i = 0; i < 2; i++) {
        wg_error error = {0}, plain = {0};
        cr_assert_null(wg_plan_cache_get(cache, 2, y, &error));
        cr_assert_null(wg_compile(2, y, &(wg_compile_options){.without = "nonsense"}, &plain));
        cr_assert_eq(error.status, WG_NOT_FOUND);
        cr_assert_str_eq(error.text, plain.text);
        error = (wg_error){0};
        cr_assert_null(wg_plan_cache_get(cache, 2, mixed, &error));
        cr_assert_eq(error.status, WG_ARGUMENT, "%s", error.text);
    }
    cr_assert_eq(wg_plan_cache_compiled(cache), 0);
    wg_plan_cache_free(cache);
    wg_tape_free(tape);
    wg_tape_free(other);
    wg_tensor_free(a);
}

/* A cache of one plan in a loop of two structures; each asked for twice. */
static wg_status loop(wg_memory *memory, wg_tensor *a, wg_tensor *b) {
    wg_error error = {0};
    wg_plan_cache *cache = wg_plan_cache_new(memory, &(wg_compile_options){.without = "simplify", .validate = true}, 1);
    wg_tape *tape = wg_tape_new(memory);
    wg_status status = cache && tape ? WG_OK : WG_MEMORY;
    wg_mark mark = tape ? wg_tape_mark(tape) : (wg_mark){0};
    for (int round = 0; round < 4 && status == WG_OK; round++) {
        wg_var y[2];
        step(tape, round % 2 ? a : b, b, 2 + round / 2, y);
        status = wg_tape_status(tape);
        wg_plan *plan = status == WG_OK ? wg_plan_cache_get(cache, 2, y, &error) : NULL;
        if (status == WG_OK)
            status = !plan ? error.status : wg_run(plan, &error);
        if (status == WG_OK)
            cr_assert_neq(wg_tensor_get(wg_plan_output(plan, 0), 0), 0);
        wg_tape_rewind(tape, mark);
    }
    wg_plan_cache_free(cache);
    wg_tape_free(tape);
    return status;
}

Test(plan_cache, survives_any_allocation_that_fails) {
    wg_tensor *a = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 1), *b = taped_random(NULL, WG_F64, 2, (const int64_t[]){4, 4}, 2);
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_status status = loop(memory, a, b);
        reached = failing_failed(&f);
        cr_assert_eq(status, reached ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, wg_status_sentence(status));
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        f.fail = 0;
        wg_memory_free(memory);
    }
    wg_tensor_free(a);
    wg_tensor_free(b);
}
