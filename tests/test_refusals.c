/* Cells as they are used: what each function of the cell language means; what steps, unrolls and models refuse; and
 * that cells, unrolls and models survive any allocation that fails. */
#include "make.h"
#include "suite.h"

#include <string.h>

#include "failing.h"
#include "scratch.h"
#include "wengert.h"

enum { T = 2, B = 2, I = 3 };
#define DIM(...) (int)(sizeof((const int64_t[]){__VA_ARGS__}) / 8), (const int64_t[]){__VA_ARGS__}

static wg_tensor *drawn(uint64_t seed, wg_dtype dtype, int rank, const int64_t *dim) {
    wg_random random = {.seed = seed};
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, rank, dim);
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, wg_random_normal(&random));
    return tensor;
}

static wg_cell *cell_of(const char *text) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_parse(NULL, "test", text, strlen(text), 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    return cell;
}

/* A tape with an input x (T,B,I), and a key to draw with. */
typedef struct bench {
    wg_tape *tape;
    wg_tensor *x, *key;
    wg_named given[4];
} bench;

static bench bench_new(void) {
    bench b = {.tape = wg_tape_new(NULL), .x = drawn(1, WG_F64, DIM(T, B, I)), .key = wg_tensor_new(NULL, WG_I32, DIM(4))};
    for (int i = 0; i < 4; i++)
        wg_tensor_set(b.key, i, i + 1);
    b.given[0] = (wg_named){"x", wg_leaf(b.tape, b.x)};
    return b;
}

static void bench_free(bench *b) {
    wg_tensor_free(b->x);
    wg_tensor_free(b->key);
    wg_tape_free(b->tape);
}

/* ---- functions ---- */

static const char every_function[] = "cell all\ninput x\nstate h[input]\n"
                                     "a = softmax(x)\nb = log_softmax(x)\nc = layer_norm(x)\nd = rms_norm(x)\n"
                                     "e = cumsum(x)\nf = stop_gradient(x)\ng = concat(x, 2, index(2))\n"
                                     "i = sum(x)\nj = mean(x)\nk = dot(x, a)\nl = slice(x, 1, 2)\nm = index(input)\n"
                                     "n = dropout(x, 0.5)\no = bernoulli(0.25, input)\np = max(2, 1)\nq = concat(2, index(2))\n"
                                     "h' = a + b + c + d + e + f + m + n + o + i*j*k*p + sum(g) + sum(l) + sum(q)\n";

static void expect_same(wg_var y, wg_var want, const char *name) {
    wg_tensor *out[2];
    const wg_var both[2] = {y, want};
    wg_error error = {0};
    cr_assert(wg_valid(y) && wg_valid(want), "%s: %s", name, wg_tape_message(y.tape));
    cr_assert_eq(wg_eval(2, both, out, &error), WG_OK, "%s: %s", name, error.text);
    cr_assert_eq(wg_tensor_bytes(out[0]), wg_tensor_bytes(out[1]), "%s", name);
    cr_expect_eq(memcmp(wg_tensor_data(out[0]), wg_tensor_data(out[1]), wg_tensor_bytes(out[0])), 0, "%s", name);
    wg_tensor_free(out[0]);
    wg_tensor_free(out[1]);
}

static wg_var counting(wg_tape *tape, int64_t n) { return wg_cumsum(wg_full(tape, WG_F64, 1, &n, 1), 0); }

Test(refusals, functions_of_the_language_are_the_ops_of_their_names) {
    bench b = bench_new();
    wg_cell *cell = cell_of(every_function);
    wg_unroll *u = wg_unroll_new(b.tape, cell, I, I, 1, b.given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(b.tape));
    const int last[1] = {-1};
    for (int64_t t = 0; t < wg_unroll_steps(u); t++) {
        wg_var x = wg_at(u, t, "x");
        wg_var two = wg_full(b.tape, WG_F64, DIM(B, 1), 2), half = wg_sub(counting(b.tape, 2), wg_c(1));
        const wg_var part[3] = {x, two, wg_broadcast_to(half, DIM(B, 2))};
        const wg_var want[] = {wg_softmax(x, -1), wg_log_softmax(x, -1), wg_layer_norm(x, 1e-5), wg_rms_norm(x, 1e-5), wg_cumsum(x, -1),
                               x, wg_concat(3, part, 1), (wg_var){0}, wg_sum(x, 1, last, true), wg_mean(x, 1, last, true),
                               wg_sum(wg_mul(x, wg_softmax(x, -1)), 1, last, true), wg_slice(x, 1, 1, 2),
                               wg_sub(counting(b.tape, I), wg_c(1)), x, wg_full(b.tape, WG_F64, DIM(B, I), 0.25),
                               wg_full(b.tape, WG_F64, DIM(1), 2)};
        for (int k = 0; k < (int)(sizeof want / sizeof *want); k++) {
            const char name[2] = {(char)('a' + k), 0};
            if (k != 'h' - 'a')
                expect_same(wg_at(u, t, name), want[k], name);
        }
    }
    wg_unroll_free(u);
    wg_cell_free(cell);
    bench_free(&b);
}

Test(refusals, training_draws_with_the_key_it_is_given) {
    bench b = bench_new();
    wg_cell *cell = cell_of(every_function);
    cr_assert_null(wg_unroll_new(b.tape, cell, I, I, 1, b.given, &(wg_unroll_options){.training = true}));
    cr_assert(strstr(wg_tape_message(b.tape), "key"), "%s", wg_tape_message(b.tape));
    wg_tape_clear(b.tape);
    const wg_unroll_options options = {.training = true, .key = wg_leaf(b.tape, b.key)};
    wg_unroll *u = wg_unroll_new(b.tape, cell, I, I, 1, b.given, &options);
    cr_assert_not_null(u, "%s", wg_tape_message(b.tape));
    wg_tensor *out[3];
    const wg_var y[3] = {wg_unroll_all(u, "n"), wg_unroll_all(u, "o"), b.given[0].var};
    cr_assert_eq(wg_eval(3, y, out, NULL), WG_OK, "%s", wg_tape_message(b.tape));
    int dropped = 0;
    for (int64_t i = 0; i < T * B * I; i++) {
        double n = wg_tensor_get(out[0], i), o = wg_tensor_get(out[1], i), x = wg_tensor_get(out[2], i);
        cr_expect(n == 0 || n == 2 * x, "%g of %g", n, x);
        cr_expect(o == 0 || o == 1, "%g", o);
        dropped += n == 0;
    }
    cr_expect(dropped > 0 && dropped < T * B * I, "%d", dropped);
    for (int i = 0; i < 3; i++)
        wg_tensor_free(out[i]);
    wg_unroll_free(u);
    wg_cell_free(cell);
    bench_free(&b);
}

/* ---- what is refused ---- */

/* Recording `text` or what `given` gives must fail with these words; the tape is as new afterwards. */
static void refuse(bench *b, const wg_cell *cell, int n, const wg_named *given, const wg_unroll_options *options, wg_status status,
                   const char *words) {
    cr_assert_null(wg_unroll_new(b->tape, cell, I, I, n, given, options), "%s", words);
    cr_expect_eq(wg_tape_status(b->tape), status, "%s: %s", words, wg_tape_message(b->tape));
    cr_expect(strstr(wg_tape_message(b->tape), words), "%s: %s", words, wg_tape_message(b->tape));
    wg_tape_clear(b->tape);
}

Test(refusals, what_an_unroll_is_given_must_fit) {
    bench b = bench_new();
    wg_cell *cell = cell_of("cell c\ninput x\nstate h[input]\nh' = tanh(x + h)\n");
    wg_cell *two = cell_of("cell d\ninput x, z\nstate h[input]\nh' = x + z + h\n");
    wg_tensor *flat = drawn(2, WG_F64, DIM(B, I)), *single = drawn(2, WG_F32, DIM(T, B, I)), *whole = wg_tensor_new(NULL, WG_I32, DIM(T, B, I));
    wg_var x = b.given[0].var, bad = wg_leaf(b.tape, flat);
    refuse(&b, cell, 1, &(wg_named){"x", {0}}, NULL, WG_ARGUMENT, "x is not a valid var");
    refuse(&b, cell, 1, &(wg_named){"x", wg_leaf(b.tape, whole)}, NULL, WG_DTYPE, "x is i32");
    refuse(&b, cell, 1, &(wg_named){"x", bad}, NULL, WG_SHAPE, "x must have three axes");
    refuse(&b, two, 2, (const wg_named[]){{"x", x}, {"z", wg_leaf(b.tape, single)}}, NULL, WG_DTYPE, "z is f32");
    refuse(&b, cell, 1, b.given, &(wg_unroll_options){.lengths = bad}, WG_SHAPE, "lengths must be i32");
    wg_tensor_free(flat), wg_tensor_free(single), wg_tensor_free(whole);
    wg_cell_free(two);
    wg_cell_free(cell);
    bench_free(&b);
}

static wg_status careless(wg_step *s, void *user) {
    switch (*(int *)user) {
    case 0: wg_step_get(s, "nobody"); break;
    case 1: wg_step_set(s, "x", wg_step_get(s, "x")); break;
    case 2: return WG_RANGE;
    case 3:
        wg_step_set(s, "more", wg_full(wg_step_tape(s), WG_F64, DIM(I), 3));
        break;
    }
    return wg_step_set(s, "h", wg_step_get(s, "x"));
}

Test(refusals, a_careless_step_in_c_is_told) {
    static const struct {
        wg_status status;
        const char *words;
    } says[] = {{WG_NOT_FOUND, "nobody"}, {WG_CONFLICT, "x is declared and not a state"}, {WG_RANGE, "its step function failed"}};
    bench b = bench_new();
    int which;
    wg_cell *cell = wg_cell_new(NULL, "cell c\ninput x\nstate h[input]\n", careless, &which, NULL);
    cr_assert_not_null(cell);
    for (which = 0; which < 3; which++)
        refuse(&b, cell, 1, b.given, NULL, says[which].status, says[which].words);
    wg_unroll *u = wg_unroll_new(b.tape, cell, I, I, 1, b.given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(b.tape));
    cr_expect_eq(wg_dim(wg_unroll_all(u, "more"), 1), B, "a value without a batch is the same for every row");
    cr_expect(!wg_valid(wg_unroll_final(u, "x")), "x is no state");
    cr_expect(!wg_valid(wg_unroll_all(u, "nothing")));
    cr_expect_eq(wg_tape_status(b.tape), WG_NOT_FOUND);
    wg_unroll_free(u);
    wg_cell_free(cell);
    bench_free(&b);
}

Test(refusals, a_number_that_is_none_for_these_sizes_is_told) {
    bench b = bench_new();
    wg_cell *cell = cell_of("cell c\nconst k = 1/(input - 3)\nstate h[input]\nh' = h + k*x\n");
    refuse(&b, cell, 1, b.given, NULL, WG_RANGE, "test:2:12: this is not a finite number");
    cr_assert_null(wg_unroll_new(b.tape, cell, I + 1, I + 1, 1, b.given, NULL), "x is of other sizes");
    wg_cell_free(cell);
    bench_free(&b);
}

Test(refusals, an_unroll_of_no_steps_knows_its_names) {
    bench b = bench_new();
    wg_cell *cell = cell_of("cell c\ninput x\nstate h[input]\nh' = tanh(x + w*h)\n");
    wg_tensor *none = wg_tensor_new(NULL, WG_F64, DIM(0, B, I)), *w = drawn(3, WG_F64, DIM(I));
    const wg_named given[] = {{"x", wg_leaf(b.tape, none)}, {"w", wg_leaf(b.tape, w)}};
    wg_unroll *u = wg_unroll_new(b.tape, cell, I, I, 2, given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(b.tape));
    wg_var all = wg_unroll_all(u, "h");
    cr_assert_eq(wg_rank(all), 3);
    cr_assert_eq(wg_dim(all, 0), 0);
    const char *const strange[] = {"nobody", "w"};
    for (int i = 0; i < 2; i++) {
        cr_assert(!wg_valid(wg_unroll_all(u, strange[i])));
        cr_assert_eq(wg_tape_status(b.tape), WG_NOT_FOUND);
        cr_assert(strstr(wg_tape_message(b.tape), "it has no state, input or line"), "%s", wg_tape_message(b.tape));
        cr_assert(!wg_valid(wg_unroll_all(u, "h")), "a tape that has failed gives nothing");
        wg_tape_clear(b.tape);
    }
    cr_assert(wg_valid(wg_unroll_all(u, "h")));
    wg_unroll_free(u);
    wg_tensor_free(none);
    wg_tensor_free(w);
    wg_cell_free(cell);
    bench_free(&b);
}

/* Gives a number and an array beside the state, under names that are new. */
static wg_status generous(wg_step *s, void *user) {
    (void)user;
    for (char name[] = "a"; *name <= 'j'; (*name)++)
        wg_step_set(s, name, wg_c(*name));
    wg_step_set(s, "twice", wg_mul(wg_step_get(s, "x"), wg_c(2)));
    return wg_step_set(s, "h", wg_step_get(s, "x"));
}

static wg_status unrolled(wg_memory *memory, const wg_cell *cell, wg_tensor *x, const char *name) {
    wg_tape *tape = wg_tape_new(memory);
    if (!tape)
        return WG_MEMORY;
    wg_unroll *u = wg_unroll_new(tape, cell, I, I, 1, &(wg_named){"x", wg_leaf(tape, x)}, NULL);
    wg_var all = u ? wg_unroll_all(u, name) : (wg_var){0};
    wg_status status = wg_tape_status(tape);
    cr_assert_eq(status == WG_OK, wg_valid(all));
    cr_assert_eq(status == WG_OK, u && wg_rank(all) == 3);
    wg_unroll_free(u);
    wg_tape_free(tape);
    return status;
}

Test(refusals, unrolls_survive_any_allocation_that_fails) {
    static char wide[1200] = "cell wide\ninput x\nstate h[input]\nh' = h + index(input) + sum(concat(x";
    for (int i = 0; i < 70; i++)
        strcat(wide, ", x, 1");
    strcat(wide, "))\n");
    bench b = bench_new();
    const struct {
        wg_cell *cell;
        const char *name;
    } cells[] = {{cell_of(wide), "h"}, {wg_cell_new(NULL, "cell c\ninput x\nstate h[input]\n", generous, NULL, NULL), "twice"}};
    for (int i = 0; i < 2; i++) {
        bool reached = true;
        for (long k = 1; reached; k++) {
            failing f;
            wg_memory *memory = failing_memory(&f, k);
            wg_status status = unrolled(memory, cells[i].cell, b.x, cells[i].name);
            reached = failing_failed(&f);
            /* What finds no memory to note the places of lines records on without them. */
            cr_assert(status == WG_OK || (reached && status == WG_MEMORY), "%d, allocation %ld: %s", i, k, wg_status_sentence(status));
            cr_assert_eq(f.live, 0, "%d, allocation %ld", i, k);
            f.fail = 0;
            wg_memory_free(memory);
        }
        wg_cell_free(cells[i].cell);
    }
    bench_free(&b);
}

Test(refusals, questions_about_names_a_cell_has_not_are_refused) {
    wg_cell *cell = cell_of("cell c\ninput x\nstate h[input]\ngate = x + gat\nh' = gate + h\n");
    wg_shape shape;
    wg_error error = {0};
    cr_expect_eq(wg_cell_shape(cell, "nobody", I, I, &shape, &error), WG_NOT_FOUND);
    cr_expect(strstr(error.text, "nobody"), "%s", error.text);
    cr_assert_eq(wg_cell_warnings(cell), 1);
    cr_expect(strstr(wg_cell_warning(cell, 0), "gat"), "%s", wg_cell_warning(cell, 0));
    cr_expect_null(wg_cell_warning(cell, 1));
    cr_expect_null(wg_cell_warning(cell, -1));
    wg_cell_free(cell);
}

Test(refusals, models_are_of_floats_and_cells_of_one_input) {
    wg_error error = {0};
    wg_model_options sizes = {.input = 2, .hidden = 3, .layers = 1, .dtype = WG_I32};
    cr_expect_null(wg_model_new(NULL, cell_of("cell c\ninput x\nstate h\nh' = tanh(W @ x + h)\n"), &sizes, NULL, &error));
    cr_expect_eq(error.status, WG_DTYPE);
    error = (wg_error){0};
    sizes.dtype = WG_F64;
    cr_expect_null(wg_model_new(NULL, cell_of("cell d\ninput x, z\nstate h[input]\nh' = x + z + h\n"), &sizes, NULL, &error));
    cr_expect_eq(error.status, WG_UNSUPPORTED);
    cr_expect(strstr(error.text, "2 inputs"), "%s", error.text);
}

/* ---- memory ---- */

static const char large_cell[] = "cell big\ncite \"c\"\ninput x\nsize N = 2*hidden\nconst k = sqrt(N)\nstate h = h0, c[N] = 0.5\n"
                                 "param V[N, hidden]\ngate = sigmoid(W @ x + V_1 @ concat(h, index(2)) + b)\n"
                                 "c' = c*k + V @ h\nh' = gate*h + slice(c', 0, hidden)\ninit W* = orthogonal(1)\ninit b = normal(1/k)\n"
                                 "init h0 = zeros\n";

/* Made, described, saved, read, recorded with lengths, differentiated; the first failure. */
static wg_status live(wg_memory *memory, const char *path, const wg_tensor *x, wg_tensor *length) {
    wg_error error = {0};
    wg_params *more = NULL, *states = NULL;
    wg_forward pass = {0};
    wg_model_options sizes = {.input = I, .hidden = 2, .layers = 2, .outputs = 2, .dtype = WG_F64};
    wg_cell *cell = wg_cell_parse(memory, "big", large_cell, strlen(large_cell), 1, &(wg_setting){"k", "2"}, &error);
    if (!cell)
        return error.status;
    wg_model *model = wg_model_new(memory, cell, &sizes, NULL, &error), *again = NULL;
    wg_status status = model ? wg_model_save(model, NULL, path, &error) : error.status;
    if (status == WG_OK && !(again = wg_model_load(memory, path, &more, &error)))
        status = error.status;
    wg_tape *tape = status == WG_OK ? wg_tape_new(memory) : NULL;
    if (status == WG_OK && (!tape || !(states = wg_model_states(again, B))))
        status = WG_MEMORY;
    if (status == WG_OK) {
        const wg_unroll_options options = {.lengths = wg_leaf(tape, length)};
        status = wg_model_record(again, tape, wg_leaf(tape, (wg_tensor *)x), states, &options, &pass);
        if (status == WG_OK) {
            wg_unroll_all(pass.layer[1], "gate");
            status = wg_tape_status(tape);
            wg_forward_free(&pass);
        }
    }
    wg_params_free(states);
    wg_params_free(more);
    wg_tape_free(tape);
    wg_model_free(again);
    wg_model_free(model);
    return status;
}

Test(refusals, a_model_survives_any_allocation_that_fails) {
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "m.safetensors");
    wg_tensor *x = drawn(1, WG_F64, DIM(T, B, I)), *length = wg_tensor_new(NULL, WG_I32, DIM(B));
    wg_tensor_set(length, 0, 1);
    wg_tensor_set(length, 1, 2);
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_status status = live(memory, path, x, length);
        reached = failing_failed(&f);
        /* What finds no memory to note the places of lines records on without them. */
        cr_assert(status == WG_OK || (reached && status == WG_MEMORY), "allocation %ld: %s", k, wg_status_sentence(status));
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        f.fail = 0;
        wg_memory_free(memory);
    }
    wg_tensor_free(x);
    wg_tensor_free(length);
    scratch_free(&folder);
}

/* ---- ops ---- */

/* The failure that `y` made must have this status and these words; the tape is as new afterwards. */
static void failed_op(bench *b, wg_var y, wg_status status, const char *words) {
    cr_expect(!wg_valid(y), "%s", words);
    cr_expect_eq(wg_tape_status(b->tape), status, "%s: %s", words, wg_tape_message(b->tape));
    cr_expect(strstr(wg_tape_message(b->tape), words), "%s: %s", words, wg_tape_message(b->tape));
    wg_tape_clear(b->tape);
}

static wg_var applied(const char *name, wg_var first, wg_var second, int n) {
    static const char zeros[64];
    const wg_var in[2] = {first, second};
    const wg_op_entry *entry = wg_op_find(name);
    cr_assert_not_null(entry, "%s", name);
    return wg_apply(entry->op, n, in, zeros);
}

Test(refusals, ops_applied_by_their_records_check_their_operands) {
    bench b = bench_new();
    wg_var x = b.given[0].var, scalar = wg_sum(x, 0, NULL, false), row = wg_slice(x, 0, 0, 1), matrix = wg_reshape(row, DIM(B, I));
    failed_op(&b, applied("softmax", scalar, x, 1), WG_SHAPE, "a scalar has no axis");
    failed_op(&b, applied("cumsum", scalar, x, 1), WG_SHAPE, "a scalar has no axis");
    failed_op(&b, applied("argmax", scalar, x, 1), WG_SHAPE, "a scalar has no axis");
    failed_op(&b, applied("matmul", x, matrix, 2), WG_SHAPE, "the same rank");
    failed_op(&b, applied("matmul", x, wg_full(b.tape, WG_F64, DIM(T + 1, I, B), 1), 2), WG_SHAPE, "batch sizes differ");
    failed_op(&b, wg_argmax(x, 9, false), WG_RANGE, "argmax");
    failed_op(&b, wg_reshape((wg_var){.tape = b.tape}, DIM(1)), WG_ARGUMENT, "not a valid var");
    failed_op(&b, wg_store(b.key, x), WG_SHAPE, "into a tensor of i32 (4)");
    failed_op(&b, wg_store(NULL, x), WG_SHAPE, "NULL");
    failed_op(&b, wg_transpose((wg_var){.tape = b.tape}), WG_ARGUMENT, "transpose: the operand is not a valid var");
    failed_op(&b, wg_broadcast_to(x, DIM(T, -1, I)), WG_RANGE, "a size is out of range");
    failed_op(&b, wg_sum_to(x, DIM(-1)), WG_RANGE, "a size is out of range");
    failed_op(&b, wg_scatter_add(x, x, 0, 3), WG_DTYPE, "i32");
    failed_op(&b, wg_dot(matrix, wg_full(b.tape, WG_F64, DIM(B + 1, I), 1)), WG_SHAPE, "do not broadcast");
    wg_var wide = wg_full(b.tape, WG_F64, DIM(0, (int64_t)1 << 58), 1);
    wg_var many[33];
    for (int i = 0; i < 33; i++)
        many[i] = wide;
    failed_op(&b, wg_concat(33, many, 1), WG_RANGE, "too many elements");
    bench_free(&b);
}

Test(refusals, products_that_are_added_to_a_sum_must_fit_it) {
    bench b = bench_new();
    const wg_op *adds = wg_op_find("matmul")->op->accumulate;
    const wg_var x = wg_full(b.tape, WG_F64, DIM(B, I), 2), y = wg_full(b.tape, WG_F64, DIM(I, T), 3);
    const wg_var sums[] = {wg_full(b.tape, WG_F32, DIM(B, T), 1), wg_full(b.tape, WG_F64, DIM(T, T + 1), 1), wg_full(b.tape, WG_F64, DIM(B, T), 1)};
    static const char flags[64];
    cr_assert(adds && adds->attr_size <= sizeof flags);
    failed_op(&b, wg_apply(adds, 3, (const wg_var[]){x, y, sums[0]}, flags), WG_DTYPE, "a product of f64 and a sum of f32");
    failed_op(&b, wg_apply(adds, 3, (const wg_var[]){x, y, sums[1]}, flags), WG_SHAPE, "a product (2,2) and a sum (2,3)");
    failed_op(&b, wg_apply(adds, 3, (const wg_var[]){x, x, sums[2]}, flags), WG_SHAPE, "");
    expect_same(wg_apply(adds, 3, (const wg_var[]){x, y, sums[2]}, flags), wg_full(b.tape, WG_F64, DIM(B, T), 19), "matmul_add");
    bench_free(&b);
}

Test(refusals, pieces_of_an_operand_must_fit_the_other) {
    bench b = bench_new();
    const wg_var a = wg_full(b.tape, WG_F64, DIM(5, 3), 2), two = wg_full(b.tape, WG_F64, DIM(2, 4), 3), three = wg_full(b.tape, WG_F64, DIM(3, 4), 5);
    const wg_op *op = &wg__op_matmul_pieces;
    failed_op(&b, wg_apply(op, 3, (const wg_var[]){a, two, two}, NULL), WG_SHAPE, "(5,3) by 2 pieces of 4 rows");
    failed_op(&b, wg_apply(op, 3, (const wg_var[]){a, two, wg_full(b.tape, WG_F64, DIM(3, 5), 1)}, NULL), WG_SHAPE, "by a piece (3,5)");
    failed_op(&b, wg_apply(op, 3, (const wg_var[]){a, two, wg_full(b.tape, WG_F32, DIM(3, 4), 1)}, NULL), WG_SHAPE, "of f64 by a piece");
    failed_op(&b, wg_apply(op, 2, (const wg_var[]){wg_full(b.tape, WG_F64, DIM(5), 1), two}, NULL), WG_SHAPE, "(5)");
    failed_op(&b, wg_apply(op, 1, (const wg_var[]){a}, NULL), WG_SHAPE, "0 pieces");
    wg_var many[10] = {wg_full(b.tape, WG_F64, DIM(18, 3), 1)};
    for (int i = 1; i < 10; i++)
        many[i] = two;
    failed_op(&b, wg_apply(op, 10, many, NULL), WG_SHAPE, "9 pieces");
    expect_same(wg_apply(op, 3, (const wg_var[]){a, two, three}, NULL), wg_full(b.tape, WG_F64, DIM(3, 4), 42), "matmul_pieces");
    bench_free(&b);
}

/* Broadcasts, constants, a normalisation and what differentiating it takes: d[0..2). */
static wg_status derived(wg_tape *tape, wg_tensor *row, wg_tensor *column, wg_var *d) {
    const wg_var x[2] = {wg_leaf(tape, row), wg_leaf(tape, column)};
    wg_var both = wg_mul(wg_add(x[0], x[1]), wg_c(3)), less = wg_sub(wg_c(2), both);
    wg_var y = wg_sum_to(wg_mul(wg_layer_norm(both, 1e-3), wg_rms_norm(less, 1e-3)), 0, NULL);
    return wg_grad(y, 2, x, d);
}

/* The tape's block of nodes is full at every node in turn, the table of its shapes at every shape, and then what they grow by
 * is refused. */
Test(refusals, derivatives_survive_any_allocation_that_fails_at_any_node) {
    enum { BLOCK = 1024, NODES = 130 };
    wg_tensor *row = drawn(1, WG_F64, DIM(1, 3)), *column = drawn(2, WG_F64, DIM(5, 1)), *want[2], *got[2];
    wg_tape *plain = wg_tape_new(NULL);
    wg_var d[2];
    cr_assert_eq(derived(plain, row, column, d), WG_OK);
    cr_assert_lt(wg_tape_count(plain), NODES);
    cr_assert_eq(wg_eval(2, d, want, NULL), WG_OK);
    for (int left = 0; left < NODES; left++) {
        bool reached = true;
        for (long k = 1; reached; k++) {
            failing f;
            wg_memory *memory = failing_memory(&f, 0);
            wg_tape *tape = wg_tape_new(memory);
            wg_var x = wg_full(tape, WG_F64, 0, NULL, 1);
            for (int shape = 0; shape < left % 32; shape++)
                wg_full(tape, WG_F64, DIM(100 + shape), 1);
            while (wg_tape_count(tape) < BLOCK - left)
                x = wg_square(x);
            f.calls = 0, f.fail = k;
            wg_status status = derived(tape, row, column, d);
            reached = failing_failed(&f);
            f.fail = 0;
            cr_assert_eq(status, reached ? WG_MEMORY : WG_OK, "%d nodes left, allocation %ld: %s", left, k, wg_tape_message(tape));
            cr_assert_eq(wg_tape_status(tape), status);
            for (int i = 0; i < 2 && status == WG_OK; i++) {
                cr_assert_eq(wg_eval(1, &d[i], &got[i], NULL), WG_OK);
                cr_assert_eq(memcmp(wg_tensor_data(got[i]), wg_tensor_data(want[i]), wg_tensor_bytes(want[i])), 0);
                wg_tensor_free(got[i]);
            }
            wg_tape_free(tape);
            cr_assert_eq(f.live, 0, "%d nodes left, allocation %ld", left, k);
            wg_memory_free(memory);
        }
    }
    wg_tape_free(plain);
    wg_tensor *all[] = {row, column, want[0], want[1]};
    for (int i = 0; i < 4; i++)
        wg_tensor_free(all[i]);
}

/* ---- shapes and initialisers ---- */

static void count_entry(void *user, const wg_cell_entry *entry) { *(int *)user += entry->name && entry->kind[0]; }

/* Many terms, products, unions of open lengths and concatenations, so that inference works hard. */
static const char tangled[] = "cell tangled\ninput x, z[3]\nsize N = 2*hidden + 1\nsize M = 4\nstate h, c[N], d[M], e\n"
                              "param a, b, k[N]\np = a + b\nq = p*a\ng = concat(h, c, d, 1)\nr = concat(q, h)\n"
                              "s = W @ g + sum(r) + U @ concat(x, z)\nh' = tanh(s) + 0*e\nc' = k*c + sum(x)\n"
                              "d' = slice(concat(d, z), 1, M)\ne' = h' - e\ninit W* = orthogonal(1)\ninit U = uniform(-1, 1)\n";

Test(refusals, inference_survives_any_allocation_that_fails) {
    static const char *const schemes[] = {"pytorch", "flax", "keras"};
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_error error = {0};
        int entries = 0;
        wg_cell *cell = wg_cell_parse(memory, "tangled", tangled, strlen(tangled), 0, NULL, &error);
        for (int i = 0; i < 3 && cell && error.status == WG_OK; i++)
            wg_cell_describe(memory, cell, &(wg_draw){.lines = 1, .line = schemes + i}, count_entry, &entries, &error);
        wg_cell_free(cell);
        reached = failing_failed(&f);
        cr_assert_eq(error.status, reached ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, error.text);
        cr_assert(reached || entries > 3 * 10, "%d", entries);
        cr_assert_eq(f.live, 0, "allocation %ld", k);
        f.fail = 0;
        wg_memory_free(memory);
    }
}

/* Everything that takes memory while a text is read. */
static const char hungry[] =
    "cell hungry\ncite \"c\"\ninput x, z[3]\nsize N = 2*hidden + 1\nconst k = sqrt(2)\n"
    "state h = h0, c[N] = 0.5*k, s[1]\nparam A[hidden, input], B[N, 2], C[2, input], D[2, 3]\n"
    "g = concat(h, index(2), z)\nq = r + x\nm = sum(q) + dot(z, t) + mean(slice(x, 0, 1))\n"
    "s' = tanh(s + u + v*m)\n"
    "h' = h*s' + A @ x + sum(W @ g) + sum(B @ (C @ x + D @ z)) + gat + sum(o*concat(p, e))\n"
    "c' = -c + slice(concat(c, c), N, N) + bernoulli(0.5, N)\ngate = h'\noutput gate\ninit * = normal(k)\n"
    "init e = -p\n";

/* The same in a few bytes. */
static const char modest[] = "cell modest\ninput x\nparam A[hidden, input], B[2, hidden], C[3, 2], D[4, 3]\nsize N = 4\nconst k = 2\n"
                             "const j = 2*k\nconst i = j + 1\nstate h\nc = D @ C @ B @ h\nh' = A @ x + sum(c) + sum(index(N))*i\n";

/* Reads the text with `pad` more bytes in a comment and `signs` more nodes in an equation; every allocation
 * fails once, and each such failure is told and leaves nothing behind. */
static void starve(const char *text, int pad, int signs) {
    static char longer[8192];
    static const wg_setting set[] = {{"N", "2*hidden + 3"}, {"k", "1.5"}};
    bool reached = true;
    snprintf(longer, sizeof longer, "%s# %*s\n", text, pad, "");
    if (signs) {
        char *at = strstr(longer, "-c + ");
        memmove(at + signs, at, strlen(at) + 1);
        memset(at, '-', (size_t)signs);
    }
    for (long k = 1; reached; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_error error = {0};
        wg_cell *cell = wg_cell_parse(memory, "hungry", longer, strlen(longer), 2, set, &error);
        reached = failing_failed(&f);
        cr_assert_eq(cell == NULL, reached, "%d bytes, %d signs, allocation %ld: %s", pad, signs, k, error.text);
        cr_assert_eq(error.status, reached ? WG_MEMORY : WG_OK, "%d bytes, %d signs, allocation %ld: %s", pad, signs, k, error.text);
        wg_cell_free(cell);
        cr_assert_eq(f.live, 0, "%d bytes, %d signs, allocation %ld", pad, signs, k);
        f.fail = 0;
        wg_memory_free(memory);
    }
}

/* The arena's blocks end elsewhere with each length of the text, and arrays are full at other nodes. */
Test(refusals, texts_of_any_length_survive_any_allocation_that_fails) {
    for (int pad = 0; pad < 4096; pad += 16)
        starve(hungry, pad, 0);
    for (int pad = 0; pad < 1024; pad += 16)
        starve(modest, pad, 0);
}

Test(refusals, texts_of_any_number_of_nodes_survive_any_allocation_that_fails) {
    for (int signs = 0; signs < 64; signs++)
        starve(hungry, signs % 2 * 24, signs);
}

/* Where there is no memory to find a text's fault, that is told instead. */
Test(refusals, a_faulty_text_survives_any_allocation_that_fails) {
    for (int signs = 0; signs < 20; signs++) {
        char text[200];
        bool reached = true;
        sprintf(text, "cell c\ninput x\nstate h\nk = -%.*s1\nh' = h*k + hidden @ x\n", signs, "--------------------");
        for (long k = 1; reached; k++) {
            failing f;
            wg_memory *memory = failing_memory(&f, k);
            wg_error error = {0};
            cr_assert_null(wg_cell_parse(memory, "c", text, strlen(text), 0, NULL, &error));
            reached = failing_failed(&f);
            cr_assert_eq(error.status, reached ? WG_MEMORY : WG_SHAPE, "%d signs, allocation %ld: %s", signs, k, error.text);
            cr_assert_eq(f.live, 0);
            f.fail = 0;
            wg_memory_free(memory);
        }
    }
}

Test(refusals, texts_that_do_not_fit_are_told_where) {
    static const struct {
        const char *text;
        wg_status status;
        const char *words;
    } says[] = {
        {"cell c\ninput x\nstate h\nparam W[hidden, 2]\nh' = sum(concat(W, x)) + h\n", WG_UNSUPPORTED, "matrix"},
        {"cell c\ninput x, z[3]\nstate h[5]\nh' = concat(z, z) + sum(x)\n", WG_SHAPE, "concat"},
        {"cell c\ninput x\nsize N = sum(2)\nstate h[N]\nh' = h + sum(x)\n", WG_SYNTAX, ""},
        {"cell c\ninput x, z[2]\nstate h[3]\nv = z + sum(x)\nh' = v\n", WG_SHAPE, "h' has shape [3]"},
    };
    for (int i = 0; i < (int)(sizeof says / sizeof *says); i++) {
        wg_error error = {0};
        cr_expect_null(wg_cell_parse(NULL, "c", says[i].text, strlen(says[i].text), 0, NULL, &error), "%d", i);
        cr_expect_eq(error.status, says[i].status, "%d: %s", i, error.text);
        cr_expect(strstr(error.text, says[i].words), "%d: %s", i, error.text);
    }
}
