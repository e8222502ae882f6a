/* Cells as they are used: what each function of the cell language means; what steps, unrolls and models refuse; and
 * that cells, unrolls and models survive any allocation that fails. */
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
    bench_free(&b);
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
