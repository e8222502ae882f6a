/* The validator: accepts what the library makes, and names each fault that is planted. */
#include "drawn_cell.h"
#include "random_graph.h"

#include <string.h>

#include "effect.h"
#include "loop.h"
#include "wengert/notation.h"

/* A program with views, an in-place result and several buffers, after the pass `after`. */
static wg_program *sample(wg_tensor **held, const char *after) {
    wg_tape *tape = wg_tape_new(NULL);
    *held = taped_random(NULL, WG_F32, 2, (const int64_t[]){8, 16}, 1);
    wg_var x = wg_leaf(tape, *held), a = tanh(x), b = exp(x), c = mul(a, transpose(reshape(b, 2, ((const int64_t[]){16, 8}))));
    wg_var y[2] = {sum_to(add(c, b), 0, NULL), concat(2, ((wg_var[]){a, slice(c, 1, 3, 8)}), 1)};
    wg_error error = {0};
    wg_program *p = wg__compile(NULL, after, 2, y, &error);
    cr_assert_not_null(p, "%s", error.text);
    cr_assert_eq(wg__validate(p, &error), WG_OK, "%s", error.text);
    wg_tape_free(tape);
    return p;
}

/* The first instruction of this op from `from` on. */
static uint32_t find(const wg_program *p, const char *op, uint32_t from) {
    for (uint32_t id = from; id < p->count; id++)
        if (strcmp(p->list[id].op->name, op) == 0)
            return id;
    cr_assert(0, "no %s", op);
    return 0;
}

/* The program is found wrong, in words that contain `word`. */
static void caught(const wg_program *p, wg_status status, const char *word) {
    wg_error error = {0};
    cr_assert_eq(wg__validate(p, &error), status, "%s instead of %s: %s", wg_status_name(error.status),
                 wg_status_name(status), error.text);
    cr_assert(strstr(error.text, word), "'%s' does not say '%s'", error.text, word);
}

#define PLANT(after, fault, status, word)                                                          \
    do {                                                                                           \
        wg_tensor *held;                                                                           \
        wg_program *p = sample(&held, after);                                                      \
        fault;                                                                                     \
        caught(p, status, word);                                                                   \
        wg__program_free(p);                                                                       \
        wg_tensor_free(held);                                                                      \
    } while (0)

Test(validate, catches_faults_of_structure) {
    const wg_shape wrong = {.rank = 1, .count = 5, .dim = {5}};
    PLANT("record", p->list[find(p, "tanh", 1)].shape = &wrong, WG_SHAPE, "(8,16), not (5)");
    PLANT("record", p->list[find(p, "tanh", 1)].dtype = WG_F64, WG_DTYPE, "f32, not f64");
    PLANT("record", p->list[find(p, "leaf", 1)].shape = &wrong, WG_SHAPE, "it is (8,16), not (5)");
    PLANT("record", p->list[find(p, "tanh", 1)].in[0] = find(p, "mul", 1), WG_CONFLICT, "does not precede");
    PLANT("record", p->list[find(p, "tanh", 1)].in[0] = 0, WG_CONFLICT, "does not precede");
    PLANT("record", p->list[find(p, "reshape", 1)].attr = NULL, WG_ARGUMENT, "attributes");
    PLANT("record", p->list[find(p, "mul", 1)].n = 1, WG_ARGUMENT, "operands");
    PLANT("record", p->list[find(p, "leaf", 1)].slot = 9, WG_ARGUMENT, "tensor");
    PLANT("record", p->list[find(p, "tanh", 1)].op = NULL, WG_ARGUMENT, "no op");
    PLANT("simplify", p->outputs[1] = (uint32_t)p->count, WG_RANGE, "output 2");
}

Test(validate, catches_faults_of_layout) {
    PLANT("layout", p->values[find(p, "reshape", 1)].shift = 1, WG_CONFLICT, "strides are not");
    PLANT("layout", p->values[find(p, "permute", 1)].stride = NULL, WG_CONFLICT, "strides are not");
    PLANT("layout", p->values[find(p, "slice", 1)].base = find(p, "tanh", 1), WG_CONFLICT, "strides are not");
    PLANT("layout", p->values[find(p, "mul", 1)].shift = 64, WG_RANGE, "outside the buffer");
    PLANT("layout", p->list[find(p, "sum_to", 1)].in[0] = find(p, "permute", 1), WG_CONFLICT, "is strided");
}

Test(validate, catches_faults_of_placement) {
    /* two buffers alive together in one place */
    PLANT("place", p->values[find(p, "exp", 1)].offset = p->values[find(p, "tanh", 1)].offset, WG_CONFLICT, "has taken");
    PLANT("place", p->values[find(p, "exp", 1)].offset += 64, WG_CONFLICT, "");
    PLANT("place", p->values[find(p, "exp", 1)].offset = p->arena_bytes, WG_RANGE, "outside the arena");
    PLANT("place", p->values[find(p, "exp", 1)].offset += 4, WG_RANGE, "aligned");
    PLANT("place", p->values[find(p, "exp", 1)].space = WG_NOWHERE, WG_CONFLICT, "no place");
    PLANT("place", p->values[find(p, "exp", 1)].space = WG_IN_OUTPUT, WG_RANGE, "output 0");
    PLANT("place", p->values[find(p, "leaf", 1)].index = 7, WG_RANGE, "tensor that is not there");
}

/* A result that takes over an operand which is read again, or through a view. */
Test(validate, catches_a_buffer_taken_over_too_early) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){8, 8}, 1);
    wg_var a = exp(wg_leaf(tape, t)), b = tanh(a), c = mul(a, b), y = sum_to(mul(c, transpose(c)), 0, NULL);
    wg_program *p = wg__compile(NULL, "layout", 1, &y, NULL);
    uint32_t early = find(p, "tanh", 1), late = find(p, "mul", find(p, "mul", 1) + 1);
    wg__pass_inplace(p, NULL);
    cr_assert_eq(p->values[early].over, 0);
    cr_assert_eq(p->values[late].over, 0, "an operand is also read transposed");
    p->values[early].over = p->list[early].in[0];
    wg__pass_place(p, NULL);
    caught(p, WG_CONFLICT, "has taken");
    p->values[early].over = 0;
    p->values[late].over = p->values[p->list[late].in[0]].base;
    wg__pass_place(p, NULL);
    caught(p, WG_CONFLICT, "while reading it");
    wg__program_free(p);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

/* ---- loops ---- */

/* A recurrence, 6 steps of 4 rows; with its gradient by everything there are elements, carries, endings, stacks, last values. */
static wg_program *recurrence(const char *cell, bool gradient, const char *after) {
    unrolled u = unrolled_new(cell, &(unrolled_sizes){.steps = 6, .batch = 4, .input = 3, .hidden = 5});
    wg_var y[UNROLLED_NAMES], by[UNROLLED_NAMES];
    wg_error error = {0};
    for (int k = 0; k < u.n; k++)
        by[k] = u.given[k].var;
    y[0] = sum_to(square(wg_unroll_output(u.unroll)), 0, NULL);
    cr_assert_eq(wg_grad(y[0], u.n, by, y + 1), WG_OK);
    wg_program *p = wg__compile(NULL, after, gradient ? u.n + 1 : 1, y, &error);
    cr_assert_not_null(p, "%s", error.text);
    cr_assert_eq(wg__validate(p, &error), WG_OK, "%s", error.text);
    unrolled_free(&u);
    return p;
}

/* The first instruction of this op in a loop. */
static uint32_t inner(const wg_program *p, const char *op) {
    uint32_t id = find(p, op, 1);
    while (!p->list[id].loop)
        id = find(p, op, id + 1);
    return id;
}

/* The element of an ending. */
static uint32_t chosen(const wg_program *p) {
    uint32_t id = inner(p, "ending");
    while (p->list[id].op == &wg__op_ending)
        id = p->list[id].in[0];
    cr_assert_eq(p->list[id].op, &wg__op_element);
    return id;
}

static void *changed(wg_program *p, uint32_t id) {
    void *attr = wg__arena_take(&p->arena, p->list[id].op->attr_size);
    memcpy(attr, p->list[id].attr, p->list[id].op->attr_size);
    p->list[id].attr = attr;
    return attr;
}

#define PLANT_IN_LOOP(after, fault, status, word)                                                  \
    do {                                                                                           \
        wg_program *p = recurrence("lstm", true, after);                                                 \
        fault;                                                                                     \
        caught(p, status, word);                                                                   \
        wg__program_free(p);                                                                       \
    } while (0)

Test(validate, catches_faults_of_loops) {
    const wg_shape wrong = {.rank = 2, .count = 20, .dim = {5, 4}};
    /* where instructions stand */
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].loop = 9, WG_CONFLICT, "not here");
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].loop = 0, WG_CONFLICT, "stands between");
    PLANT_IN_LOOP("roll", p->loops[0].from--, WG_CONFLICT, "is not where loop 1 begins");
    PLANT_IN_LOOP("roll", p->loops[0].to++, WG_CONFLICT, "stands between");
    PLANT_IN_LOOP("roll", p->loops[0].times = 0, WG_RANGE, "0 times");
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].op = &wg__op_guard, WG_CONFLICT, "outside of any");
    /* what they read */
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].in[0] = inner(p, "tanh") + 1, WG_CONFLICT, "does not precede");
    PLANT_IN_LOOP("roll", p->list[find(p, "stacked", 1)].in[0] = 1, WG_CONFLICT, "of loop 0");
    PLANT_IN_LOOP("roll", p->list[find(p, "sum_to", p->loops[0].to)].in[0] = inner(p, "tanh"), WG_CONFLICT, "of loop 1");
    PLANT_IN_LOOP("roll", p->outputs[2] = inner(p, "tanh"), WG_CONFLICT, "output 3 is in loop");
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].shape = &wrong, WG_SHAPE, "not (5,4)");
    PLANT_IN_LOOP("roll", p->list[inner(p, "tanh")].dtype = WG_F32, WG_DTYPE, "f64, not f32");
    /* carries */
    PLANT_IN_LOOP("roll", p->list[inner(p, "carry")].in[1] = inner(p, "element"), WG_SHAPE, "(4,5) and (4,3)");
    PLANT_IN_LOOP("roll", p->list[inner(p, "carry")].in[1] = p->list[inner(p, "carry")].in[0], WG_CONFLICT, "of loop 0");
    PLANT_IN_LOOP("roll", p->list[inner(p, "carry") + 1].in[0] = inner(p, "carry"), WG_CONFLICT, "of loop 1");
    /* elements, and what is chosen in their place */
    PLANT_IN_LOOP("roll", ((wg_element_attr *)changed(p, inner(p, "element")))->from++, WG_RANGE, "outside its array");
    PLANT_IN_LOOP("roll", ((wg_element_attr *)changed(p, inner(p, "element")))->step = 2, WG_RANGE, "outside its array");
    PLANT_IN_LOOP("roll", ((wg_element_attr *)changed(p, chosen(p)))->late++, WG_RANGE, "there is no element");
    PLANT_IN_LOOP("roll", ((wg_ending_attr *)changed(p, inner(p, "ending")))->at = 6, WG_RANGE, "no iteration 6");
    PLANT_IN_LOOP("roll", ((wg_ending_attr *)changed(p, inner(p, "ending")))->at = 2, WG_RANGE, "there is no element");
    PLANT_IN_LOOP("roll", p->list[inner(p, "ending")].in[1] = chosen(p), WG_CONFLICT, "it reads");
    /* stacks */
    PLANT_IN_LOOP("roll", ((wg_stacked_attr *)changed(p, find(p, "stacked", 1)))->times = 5, WG_SHAPE, "(5,4,5)");
    PLANT_IN_LOOP("roll", p->list[find(p, "stacked", find(p, "stacked", 1) + 1)].in[0] = p->list[find(p, "stacked", 1)].in[0], WG_CONFLICT, "it stacks");
    /* storage */
    PLANT_IN_LOOP("layout", p->values[inner(p, "slice")].shift++, WG_CONFLICT, "strides are not");
    PLANT_IN_LOOP("layout", p->values[inner(p, "element")].step *= 2, WG_CONFLICT, "strides are not");
    PLANT_IN_LOOP("layout", p->values[inner(p, "tanh")].shift = 1, WG_RANGE, "outside the buffer");
    PLANT_IN_LOOP("layout", p->values[inner(p, "tanh")].base = 0, WG_CONFLICT, "no buffer");
}

/* A buffer with a place in a tile, from the last loop on: the first that is carried, or the first that is not. */
static uint32_t tiled(const wg_program *p, bool carried) {
    uint32_t id = p->loops[p->loop_count - 1].from;
    while (id < p->count && (p->values[id].space != WG_IN_TILE || p->values[id].base != id || p->values[id].carried != carried))
        id++;
    cr_assert_lt(id, p->count);
    return id;
}

Test(validate, catches_faults_of_places_in_tiles) {
    /* h is read after h', which nothing stacks */
    static const char *const late = "cell c\ninput x\nstate h, c\noutput c\nh' = tanh(W @ x + U @ h)\nc' = tanh(V @ h' + h) + c\n";
    static const char *const in_strips = "cell c\ninput x\nstate h, c\noutput c\nh' = tanh(W @ x + U @ h)\nc' = h*h'\n";
    PLANT_IN_LOOP("schedule", p->values[tiled(p, false)].offset += 1, WG_RANGE, "not aligned");
    PLANT_IN_LOOP("schedule", p->values[tiled(p, true)].offset = p->loops[p->loop_count - 1].scratch, WG_RANGE, "outside the tile");
    PLANT_IN_LOOP("schedule", p->values[tiled(p, false)].offset = p->values[tiled(p, true)].offset, WG_CONFLICT, "in the tile");
    PLANT_IN_LOOP("schedule", p->values[tiled(p, false)].in_strip = true, WG_CONFLICT, "not made in strips");
    PLANT_IN_LOOP("schedule", p->loops[p->loop_count - 1].strip = 3, WG_RANGE, "strips of 3 rows");
    for (int k = 0; k < 2; k++) {
        wg_program *p = recurrence(k ? in_strips : late, false, "schedule");
        int twice = 0;
        for (uint32_t id = 1; id < p->count && k; id++)
            if (strcmp(p->list[id].op->name, "mul") == 0)
                p->list[id].region = 0; /* as if it were a kernel, in strips of so many rows */
        for (int64_t loop = 0; loop < p->loop_count; loop++)
            p->loops[loop].strip = k * WG_FOLD_ROWS;
        for (uint32_t id = 1; id < p->count; id++)
            if (p->values[id].space == WG_IN_TILE && p->values[id].twice)
                p->values[id].twice = false, twice++;
        cr_assert_gt(twice, 0);
        caught(p, WG_CONFLICT, "written over");
        for (uint32_t id = 1; id < p->count && k; id++)
            p->values[id].in_strip = p->values[id].space == WG_IN_TILE && p->values[id].carried;
        if (k)
            caught(p, WG_CONFLICT, "a strip alone");
        wg__program_free(p);
    }
}

Test(validate, accepts_random_tapes_and_catches_a_damaged_one) {
    wg_error error = {0};
    for (uint64_t seed = 1; seed <= 200; seed++) {
        wg_tape *tape = wg_tape_new(NULL);
        wg_var y[RANDOM_OUTPUTS];
        random_graph(tape, seed, WG_F32, 16, y, NULL);
        cr_assert_eq(wg_tape_validate(tape, &error), WG_OK, "seed %llu: %s", (unsigned long long)seed, error.text);
        wg_node *last = wg__node(tape, wg_tape_count(tape));
        if (last->n) {
            uint32_t *in = last->n <= 2 ? last->in : (uint32_t *)(uintptr_t)last->more;
            in[last->n - 1] = (uint32_t)wg_tape_count(tape);
            cr_assert_eq(wg_tape_validate(tape, NULL), WG_CONFLICT);
        }
        wg_tape_free(tape);
    }
}

Test(validate, ordered_set_agrees_with_a_plain_list) {
    enum { KEYS = 97 };
    wg_ordered set = {0};
    bool there[KEYS] = {0};
    wg_random random = {.seed = 5};
    for (int round = 0; round < 5000; round++) {
        uint64_t key = wg_random_below(&random, KEYS), ask = wg_random_below(&random, KEYS);
        if (there[key])
            wg__ordered_remove(&set, key / 10, key % 10);
        else
            cr_assert(wg__ordered_insert(&set, key / 10, key % 10, 1, (uint32_t)key));
        there[key] = !there[key];
        int64_t after = (int64_t)ask, before = (int64_t)ask - 1;
        while (after < KEYS && !there[after])
            after++;
        while (before >= 0 && !there[before])
            before--;
        const wg_ordered_node *a = wg__ordered_at_or_after(&set, ask / 10, ask % 10), *b = wg__ordered_before(&set, ask / 10, ask % 10);
        cr_assert_eq(a ? (int64_t)a->owner : KEYS, after);
        cr_assert_eq(b ? (int64_t)b->owner : -1, before);
    }
    wg__ordered_free(&set);
}
