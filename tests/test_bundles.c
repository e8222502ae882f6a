/* Outputs that are parts of one result: computed where they lie, side by side; or copied, where they do not make a whole of it. */
#include "suite.h"

#include <string.h>

#include "beside.h"
#include "failing.h"

enum { ROWS = 48, COLUMNS = 16, PARTS = 3 };

static wg_tensor *matrix(wg_memory *memory, int64_t rows, uint64_t seed) {
    return taped_random(memory, WG_F32, 2, (const int64_t[]){rows, 20}, seed);
}

/* a b^T, of ROWS rows. */
static wg_var product(wg_tape *tape, wg_tensor *a, wg_tensor *b) { return wg_matmul(wg_leaf(tape, a), wg_leaf(tape, b), false, true); }

/* The rows of the product in three parts, of which `order` says which comes first. */
static void parts(wg_var y, const int order[PARTS], wg_var part[PARTS]) {
    static const int64_t from[PARTS + 1] = {0, 8, 32, ROWS};
    for (int k = 0; k < PARTS; k++)
        part[k] = slice(y, 0, from[order[k]], from[order[k] + 1] - from[order[k]]);
}

static void runs_as_evaluated(wg_plan *plan, int n, const wg_var *y) {
    wg_error error = {0};
    wg_tensor *out[8];
    cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_eval(n, y, out, &error), WG_OK, "%s", error.text);
    for (int i = 0; i < n; i++) {
        const wg_tensor *got = wg_plan_output(plan, i);
        cr_assert_eq(wg_tensor_bytes(got), wg_tensor_bytes(out[i]));
        cr_assert(memcmp(wg_tensor_data(got), wg_tensor_data(out[i]), wg_tensor_bytes(got)) == 0, "output %d of %d", i, n);
        wg_tensor_free(out[i]);
    }
}

static const char *begins(const wg_plan *plan, int i) { return wg_tensor_data(wg_plan_output(plan, i)); }
static const char *ends(const wg_plan *plan, int i) { return begins(plan, i) + wg_tensor_bytes(wg_plan_output(plan, i)); }

/* Whether outputs lie in one block, in this order. */
static bool side_by_side(const wg_plan *plan, int n, const int order[]) {
    for (int k = 1; k < n; k++)
        if (begins(plan, order[k]) != ends(plan, order[k - 1]))
            return false;
    return true;
}

Test(bundles, parts_that_make_a_whole_are_computed_where_they_lie_in_any_order) {
    static const int orders[][PARTS] = {{0, 1, 2}, {2, 0, 1}, {1, 2, 0}, {2, 1, 0}};
    for (int o = 0; o < WG_LEN(orders); o++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_tensor *a = matrix(NULL, ROWS, 1), *b = matrix(NULL, COLUMNS, 2);
        wg_var y[PARTS];
        int at[PARTS];
        wg_error error = {0};
        parts(product(tape, a, b), orders[o], y);
        wg_plan *plan = wg_compile(PARTS, y, &(wg_compile_options){.validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        for (int k = 0; k < PARTS; k++)
            at[orders[o][k]] = k;
        cr_assert(side_by_side(plan, PARTS, at), "order %d", o);
        cr_assert_eq(wg_plan_measure(plan).output_bytes, ROWS * COLUMNS * sizeof(float));
        runs_as_evaluated(plan, PARTS, y);
        wg_tensor_set(a, 0, 3); /* and again */
        runs_as_evaluated(plan, PARTS, y);
        wg_workspace *other = wg_workspace_new(plan);
        cr_assert_eq(wg_run_in(plan, other, NULL, NULL), WG_OK);
        for (int k = 0; k < PARTS; k++) {
            const wg_tensor *one = wg_workspace_output(other, k), *two = wg_plan_output(plan, k);
            cr_assert_neq(wg_tensor_data(one), wg_tensor_data(two));
            cr_assert(memcmp(wg_tensor_data(one), wg_tensor_data(two), wg_tensor_bytes(two)) == 0);
        }
        wg_workspace_free(other);
        wg_plan_free(plan);
        wg_tape_free(tape);
        wg_tensor_free(a), wg_tensor_free(b);
    }
}

/* Outputs of which none may change when another is written to. */
static void stay_apart(int n, const wg_var *y, const char *what) {
    wg_error error = {0};
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s: %s", what, error.text);
    for (int i = 0; i < n; i++) {
        cr_assert_eq((uintptr_t)begins(plan, i) % 64, 0, "%s: output %d is not aligned", what, i);
        for (int j = 0; j < i; j++)
            cr_assert(ends(plan, j) <= begins(plan, i) || ends(plan, i) <= begins(plan, j), "%s: outputs %d and %d overlap", what, j, i);
    }
    runs_as_evaluated(plan, n, y);
    wg_plan_free(plan);
}

Test(bundles, other_parts_have_memory_of_their_own) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = matrix(NULL, ROWS, 1), *b = matrix(NULL, COLUMNS, 2), *c = matrix(NULL, 3, 3);
    wg_var y = product(tape, a, b), z = product(tape, a, c);
    stay_apart(3, (const wg_var[]){y, slice(y, 0, 0, 8), slice(y, 0, 8, 40)}, "a whole and its parts");
    stay_apart(2, (const wg_var[]){slice(y, 0, 0, 32), slice(y, 0, 16, 32)}, "parts that overlap");
    stay_apart(3, (const wg_var[]){slice(y, 0, 0, 8), slice(y, 0, 0, 8), slice(y, 0, 8, 40)}, "one part given twice");
    stay_apart(2, (const wg_var[]){slice(y, 0, 0, 8), slice(y, 0, 16, 32)}, "a gap");
    stay_apart(1, (const wg_var[]){slice(y, 0, 8, 40)}, "the end alone");
    stay_apart(2, (const wg_var[]){slice(y, 1, 0, 8), slice(y, 1, 8, 8)}, "columns");
    stay_apart(2, (const wg_var[]){transpose(slice(y, 0, 0, 8)), slice(y, 0, 8, 40)}, "a part turned");
    stay_apart(2, (const wg_var[]){slice(z, 0, 0, 1), slice(z, 0, 1, 47)}, "a part that begins on no line");
    wg_tape_free(tape);
    wg_tensor_free(a), wg_tensor_free(b), wg_tensor_free(c);
}

Test(bundles, a_part_outlives_the_plan_and_the_other_parts) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_tape *tape = wg_tape_new(memory);
    wg_tensor *a = matrix(memory, ROWS, 1), *b = matrix(memory, COLUMNS, 2);
    wg_var y[PARTS];
    parts(product(tape, a, b), (const int[]){0, 1, 2}, y);
    wg_plan *plan = wg_compile(PARTS, y, NULL, NULL);
    cr_assert_eq(wg_run(plan, NULL), WG_OK);
    wg_tensor *kept = wg_tensor_retain((wg_tensor *)(uintptr_t)wg_plan_output(plan, 1)), *now = taped_value(y[1]);
    wg_plan_free(plan);
    cr_assert(memcmp(wg_tensor_data(kept), wg_tensor_data(now), wg_tensor_bytes(now)) == 0);
    wg_tensor_free(kept), wg_tensor_free(now);
    wg_tape_free(tape);
    wg_tensor_free(a), wg_tensor_free(b);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

Test(bundles, gradients_of_gates_that_one_product_makes_are_parts) {
    wg_var y[MOST];
    wg_error error = {0};
    unrolled u = unrolled_new("lstm", &(unrolled_sizes){.steps = 8, .batch = 4, .input = 16, .hidden = 32});
    const int n = all_gradients(&u, y);
    wg_plan *plan = wg_compile(n, y, &(wg_compile_options){.validate = true}, &error);
    cr_assert_not_null(plan, "%s", error.text);
    int followed = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            followed += begins(plan, j) == ends(plan, i);
    cr_assert_eq(followed, 9, "of four gates three times, W's, U's and b's: %d", followed);
    wg_plan_free(plan);
    unrolled_free(&u);
}

Test(bundles, a_result_in_the_place_of_another_size_or_form_is_refused) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *a = matrix(NULL, ROWS, 1), *b = matrix(NULL, COLUMNS, 2);
    wg_var y[PARTS + 1];
    wg_error error = {0};
    parts(product(tape, a, b), (const int[]){0, 1, 2}, y);
    y[PARTS] = square(slice(y[0], 0, 0, 1));
    wg_program *p = wg__compile(NULL, "place", PARTS + 1, y, &error);
    cr_assert(p && p->bundle_count == 1, "%s", error.text);
    uint32_t *index = &p->values[p->bundles[0]].index;
    cr_assert_eq(*index, PARTS + 1);
    cr_assert_eq(wg__validate(p, &error), WG_OK, "%s", error.text);
    for (uint32_t wrong = 0; wrong <= PARTS + 2; wrong++)
        if (wrong != PARTS + 1) { /* an output's, or beyond the last bundle */
            error = (wg_error){0};
            *index = wrong;
            cr_assert_eq(wg__validate(p, &error), WG_RANGE, "%u", wrong);
            cr_assert(strstr(error.text, "no size for output"), "%s", error.text);
        }
    wg__program_free(p);
    y[0] = slice(product(tape, a, b), 1, 0, COLUMNS / 2);
    p = wg__compile(NULL, "place", 1, y, &error);
    cr_assert(p && p->bundle_count == 0);
    wg_value *base = &p->values[p->values[p->outputs[0]].base];
    base->space = WG_IN_OUTPUT, base->index = 1;
    p->bundles[p->bundle_count++] = p->values[p->outputs[0]].base;
    error = (wg_error){0};
    cr_assert_eq(wg__validate(p, &error), WG_RANGE);
    cr_assert(strstr(error.text, "no part of bundle 0"), "%s", error.text);
    wg__program_free(p);
    wg_tape_free(tape);
    wg_tensor_free(a), wg_tensor_free(b);
}

Test(bundles, survive_every_refused_allocation) {
    long k = 0;
    for (bool done = false; !done;) {
        failing f;
        wg_memory *memory = failing_memory(&f, 0);
        wg_tape *tape = wg_tape_new(memory);
        wg_tensor *a = matrix(NULL, ROWS, 1), *b = matrix(NULL, COLUMNS, 2);
        wg_var y[PARTS];
        wg_error error = {0};
        parts(product(tape, a, b), (const int[]){1, 0, 2}, y);
        long live = f.live;
        f.calls = 0, f.fail = ++k;
        wg_plan *plan = wg_compile(PARTS, y, NULL, &error);
        done = !failing_failed(&f);
        cr_assert(done ? plan != NULL : plan == NULL && error.status == WG_MEMORY, "refusal %ld: %s", k, error.text);
        if (plan)
            cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        wg_plan_free(plan);
        cr_assert_eq(f.live, live, "refusal %ld leaks", k);
        wg_tape_free(tape);
        wg_tensor_free(a), wg_tensor_free(b);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30);
}
