/* test_cli_run.c: `wengert run` against loops over long double: outputs, final states, lengths with
 * NaN beyond them, initial states, saved lines; gradients against differences of those loops. And
 * what it refuses. */
#include "suite.h"

#include "spawned.h"
#include "wengert.h"

#include <math.h>

enum { T = 4, B = 3, N = 2, H = 3, MOST = 24, ROOM = T * B * H };

/* An array of a problem: given to the program, or a result of the loop. */
typedef struct array {
    char name[16];
    int rank;
    int64_t dim[3];
    int count;
    bool result;
    long double value[ROOM];
} array;

typedef struct problem {
    const char *cell;
    int arrays;
    array array[MOST];
    bool short_rows;
    int length[B];
} problem;

static array *find(problem *p, const char *name) {
    for (int i = 0; i < p->arrays; i++)
        if (strcmp(p->array[i].name, name) == 0)
            return &p->array[i];
    return NULL;
}

static array *add(problem *p, const char *name, bool result, int rank, int64_t a, int64_t b,
                  int64_t c) {
    array *x = &p->array[p->arrays++];
    *x = (array){.rank = rank,
                 .dim = {a, b, c},
                 .count = (int)(a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1)),
                 .result = result};
    snprintf(x->name, sizeof x->name, "%s", name);
    return x;
}

static void add_drawn(problem *p, wg_random *random, const char *name, int rank, int64_t a,
                      int64_t b, int64_t c) {
    array *x = add(p, name, false, rank, a, b, c);
    for (int i = 0; i < x->count; i++)
        x->value[i] = wg_random_normal(random);
}

/* ---- the loops ---- */

static long double at(problem *p, const char *name, int i) {
    array *x = find(p, name);
    return x ? x->value[i] : 0;
}

static long double sigmoid(long double x) { return 1 / (1 + expl(-x)); }

/* (W_g x + b_g)[k] and (U_g h)[k] of row b at step t. */
static long double from_input(problem *p, const char *gate, int t, int b, int k) {
    char name[16];
    snprintf(name, sizeof name, "b%s", gate);
    long double sum = at(p, name, k);
    snprintf(name, sizeof name, "W%s", gate);
    for (int j = 0; j < N; j++)
        sum += at(p, name, k * N + j) * at(p, "x", (t * B + b) * N + j);
    return sum;
}

static long double from_state(problem *p, const char *gate, const long double *h, int k) {
    char name[16];
    snprintf(name, sizeof name, "U%s", gate);
    long double sum = 0;
    for (int j = 0; j < H; j++)
        sum += at(p, name, k * H + j) * h[j];
    return sum;
}

/* One unit of one step: the new h; c is changed in place. What is added to the LSTM's input gate
 * serves its differences. */
static long double unit(problem *p, int t, int b, int k, const long double *h, long double *c) {
    if (strcmp(p->cell, "rnn") == 0)
        return tanhl(from_input(p, "", t, b, k) + from_state(p, "", h, k));
    if (strcmp(p->cell, "gru") == 0) {
        long double r = sigmoid(from_input(p, "_r", t, b, k) + from_state(p, "_r", h, k));
        long double z = sigmoid(from_input(p, "_z", t, b, k) + from_state(p, "_z", h, k));
        long double n =
            tanhl(from_input(p, "_n", t, b, k) + r * (from_state(p, "_n", h, k) + at(p, "c_n", k)));
        return (1 - z) * n + z * h[k];
    }
    int place = (t * B + b) * H + k;
    long double i =
        sigmoid(from_input(p, "_i", t, b, k) + from_state(p, "_i", h, k)) + at(p, "i.add", place);
    long double f = sigmoid(from_input(p, "_f", t, b, k) + from_state(p, "_f", h, k));
    long double g = tanhl(from_input(p, "_g", t, b, k) + from_state(p, "_g", h, k));
    long double o = sigmoid(from_input(p, "_o", t, b, k) + from_state(p, "_o", h, k));
    if (find(p, "i.all"))
        find(p, "i.all")->value[place] = i;
    *c = f * *c + i * g;
    return o * tanhl(*c);
}

static void loop(problem *p) {
    array *y = find(p, "y"), *last_h = find(p, "h.final"), *last_c = find(p, "c.final");
    for (int i = 0; i < ROOM; i++)
        y->value[i] = 0;
    for (int b = 0; b < B; b++) {
        long double h[H], c[H], next[H];
        for (int k = 0; k < H; k++) {
            h[k] = at(p, "h", b * H + k);
            c[k] = at(p, "c", b * H + k);
        }
        for (int t = 0; t < p->length[b]; t++) {
            for (int k = 0; k < H; k++)
                next[k] = unit(p, t, b, k, h, &c[k]);
            for (int k = 0; k < H; k++)
                y->value[(t * B + b) * H + k] = h[k] = next[k];
        }
        for (int k = 0; k < H; k++) {
            last_h->value[b * H + k] = h[k];
            if (last_c)
                last_c->value[b * H + k] = c[k];
        }
    }
}

static long double times(problem *p, const char *result, const char *cotangent) {
    array *r = find(p, result), *g = find(p, cotangent);
    long double sum = 0;
    for (int i = 0; r && g && i < r->count; i++)
        if (r->value[i] != 0) /* beyond a row's length the cotangent is NaN */
            sum += r->value[i] * g->value[i];
    return sum;
}

static long double loss(problem *p) {
    loop(p);
    return times(p, "y", "y.grad") + times(p, "h.final", "h.grad") + times(p, "c.final", "c.grad") +
           times(p, "i.all", "i.all.grad");
}

/* ---- the problem ---- */

static void make(problem *p, const char *cell, const char *const *gate, bool states,
                 bool short_rows) {
    static const int some[B] = {2, 4, 1};
    wg_random random = {.seed = 7};
    char name[16];
    *p = (problem){.cell = cell, .short_rows = short_rows};
    add_drawn(p, &random, "x", 3, T, B, N);
    for (; *gate; gate++) {
        snprintf(name, sizeof name, "W%s", *gate);
        add_drawn(p, &random, name, 2, H, N, 0);
        snprintf(name, sizeof name, "U%s", *gate);
        add_drawn(p, &random, name, 2, H, H, 0);
        snprintf(name, sizeof name, "b%s", *gate);
        add_drawn(p, &random, name, 1, H, 0, 0);
    }
    bool lstm = strcmp(cell, "lstm") == 0;
    if (strcmp(cell, "gru") == 0)
        add_drawn(p, &random, "c_n", 1, H, 0, 0);
    if (states)
        add_drawn(p, &random, "h", 2, B, H, 0);
    if (states && lstm)
        add_drawn(p, &random, "c", 2, B, H, 0);
    add_drawn(p, &random, "y.grad", 3, T, B, H);
    add_drawn(p, &random, "h.grad", 2, B, H, 0);
    add(p, "y", true, 3, T, B, H);
    add(p, "h.final", true, 2, B, H, 0);
    if (lstm) {
        add_drawn(p, &random, "c.grad", 2, B, H, 0);
        add_drawn(p, &random, "i.all.grad", 3, T, B, H);
        add(p, "c.final", true, 2, B, H, 0);
        add(p, "i.all", true, 3, T, B, H);
        add(p, "i.add", true, 3, T, B, H);
    }
    for (int b = 0; b < B; b++)
        p->length[b] = short_rows ? some[b] : T;
}

static bool beyond(const problem *p, const array *x, int i) {
    int64_t width = x->dim[2];
    return x->rank == 3 && i / width / B >= p->length[i / width % B];
}

static void write_problem(problem *p, const char *path) {
    wg_params *file = wg_params_new(NULL);
    for (int i = 0; i < p->arrays; i++) {
        array *x = &p->array[i];
        if (x->result)
            continue;
        wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, x->rank, x->dim);
        for (int k = 0; k < x->count; k++)
            wg_tensor_set(tensor, k, beyond(p, x, k) ? (double)NAN : (double)x->value[k]);
        wg_params_add(file, x->name, tensor);
        wg_tensor_free(tensor);
    }
    if (p->short_rows) {
        wg_tensor *lengths = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){B});
        for (int b = 0; b < B; b++)
            wg_tensor_set(lengths, b, p->length[b]);
        wg_params_add(file, "lengths", lengths);
        wg_tensor_free(lengths);
    }
    cr_assert_eq(wg_params_save(file, path, NULL), WG_OK);
    wg_params_free(file);
}

/* ---- comparing ---- */

static void same_values(problem *p, const wg_params *file, const char *result, const char *name) {
    array *want = find(p, result);
    const wg_tensor *is = wg_params_find(file, name);
    cr_assert_not_null(is, "%s: no %s was written", p->cell, name);
    cr_assert_eq(wg_tensor_shape(is)->count, want->count);
    for (int i = 0; i < want->count; i++) {
        long double expected = beyond(p, want, i) ? 0 : want->value[i];
        cr_assert(fabsl(wg_tensor_get(is, i) - expected) < 1e-14L,
                  "%s: %s[%d] is %.17g, not %.17Lg", p->cell, name, i, wg_tensor_get(is, i),
                  expected);
    }
}

/* d loss / d array[i], by central differences of the loop, extrapolated once. */
static long double slope(problem *p, array *x, int i) {
    long double kept = x->value[i], step = 1e-3L, difference[2];
    for (int half = 0; half < 2; half++, step /= 2) {
        x->value[i] = kept + step;
        long double up = loss(p);
        x->value[i] = kept - step;
        difference[half] = (up - loss(p)) / (2 * step);
    }
    x->value[i] = kept;
    return (4 * difference[1] - difference[0]) / 3;
}

static void same_slopes(problem *p, const wg_params *file, const char *array_name,
                        const char *name) {
    char full[24];
    snprintf(full, sizeof full, "%s.grad", name);
    const wg_tensor *is = wg_params_find(file, full);
    array *x = find(p, array_name);
    cr_assert_not_null(is, "%s: no %s was written", p->cell, full);
    cr_assert_eq(wg_tensor_shape(is)->count, x->count);
    for (int i = 0; i < x->count; i++) {
        long double want = beyond(p, x, i) ? 0 : slope(p, x, i);
        cr_assert(fabsl(wg_tensor_get(is, i) - want) < 1e-9L * (1 + fabsl(want)),
                  "%s: %s[%d] is %.17g, not %.17Lg", p->cell, full, i, wg_tensor_get(is, i), want);
    }
}

static void agrees(const char *cell, const char *const *gates, bool states, bool short_rows) {
    scratch s = scratch_new();
    static problem p;
    char in[512], out[512];
    make(&p, cell, gates, states, short_rows);
    snprintf(in, sizeof in, "%s/in.safetensors", s.folder);
    snprintf(out, sizeof out, "%s/out.safetensors", s.folder);
    write_problem(&p, in);
    bool lstm = strcmp(cell, "lstm") == 0;
    const char *args[] = {"run", cell, "--input", in, "--output", out, lstm ? "--save" : NULL,
                          "i",   NULL};
    ran r = program_run(&s, args);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_str_eq(r.err, "");
    ran_free(&r);
    wg_params *file = wg_params_load(NULL, out, NULL);
    cr_assert_not_null(file);
    loop(&p);
    same_values(&p, file, "y", "y");
    same_values(&p, file, "h.final", "h");
    if (lstm) {
        same_values(&p, file, "c.final", "c");
        same_values(&p, file, "i.all", "i.all");
        same_slopes(&p, file, "i.add", "i.all");
    }
    for (int i = 0; i < p.arrays; i++)
        if (!p.array[i].result && !strstr(p.array[i].name, ".grad"))
            same_slopes(&p, file, p.array[i].name, p.array[i].name);
    wg_params_free(file);
    scratch_free(&s);
}

static const char *const of_rnn[] = {"", NULL}, *const of_gru[] = {"_r", "_z", "_n", NULL},
                         *const of_lstm[] = {"_i", "_f", "_g", "_o", NULL};

Test(cli_run, rnn_agrees_with_a_loop_and_its_differences) {
    agrees("rnn", of_rnn, false, false);
    agrees("rnn", of_rnn, true, true);
}

Test(cli_run, gru_agrees_with_a_loop_and_its_differences) {
    agrees("gru", of_gru, true, false);
    agrees("gru", of_gru, true, true);
}

Test(cli_run, lstm_agrees_with_a_loop_and_its_differences_from_zero_states) {
    agrees("lstm", of_lstm, false, false);
}

Test(cli_run, lstm_agrees_with_a_loop_and_its_differences_with_states_and_padding) {
    agrees("lstm", of_lstm, true, false);
    agrees("lstm", of_lstm, true, true);
}

/* ---- sizes, draws, npy ---- */

typedef struct files {
    scratch s;
    char in[512], out[512];
} files;

static files files_new(void) {
    files f = {.s = scratch_new()};
    snprintf(f.in, sizeof f.in, "%s/in.safetensors", f.s.folder);
    snprintf(f.out, sizeof f.out, "%s/out.safetensors", f.s.folder);
    return f;
}

static void put(wg_params *file, const char *name, wg_dtype dtype, int rank, const int64_t *dim,
                double value) {
    wg_tensor *tensor = wg_tensor_new(NULL, dtype, rank, dim);
    wg_tensor_fill(tensor, value);
    cr_assert_eq(wg_params_add(file, name, tensor), WG_OK);
    wg_tensor_free(tensor);
}

static void put_x(files *f, wg_dtype dtype) {
    wg_params *file = wg_params_new(NULL);
    put(file, "x", dtype, 3, (const int64_t[]){T, B, N}, 0.5);
    cr_assert_eq(wg_params_save(file, f->in, NULL), WG_OK);
    wg_params_free(file);
}

Test(cli_run, missing_parameters_are_drawn_alike_for_one_seed_and_the_type_follows_the_file) {
    files f = files_new();
    double first[3];
    put_x(&f, WG_F32);
    for (int i = 0; i < 3; i++) {
        ran r = PROGRAM(&f.s, "run", "lstm", "--input", f.in, "--hidden", "5", "--output", f.out,
                        "--init", "--seed", i < 2 ? "1" : "2");
        cr_assert_eq(r.status, 0, "%s", r.err);
        ran_free(&r);
        wg_params *file = wg_params_load(NULL, f.out, NULL);
        cr_assert_eq(wg_params_count(file), 3, "y, h, c");
        const wg_tensor *y = wg_params_find(file, "y");
        cr_assert_eq(wg_tensor_dtype(y), WG_F32);
        cr_assert_eq(wg_tensor_shape(y)->dim[2], 5);
        first[i] = wg_tensor_get(y, 0);
        wg_params_free(file);
    }
    cr_expect_eq(first[0], first[1]);
    cr_expect_neq(first[0], first[2]);
    scratch_free(&f.s);
}

Test(cli_run, an_init_line_sets_what_is_drawn_and_npy_files_are_read_by_name) {
    files f = files_new();
    char x[600];
    snprintf(x, sizeof x, "x=%s/x.npy", f.s.folder);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){2, 1, 1});
    wg_tensor_fill(tensor, 1);
    cr_assert_eq(wg_npy_save(tensor, x + 2, NULL), WG_OK);
    wg_tensor_free(tensor);
    ran r = PROGRAM(&f.s, "run", "rnn", "--input", x, "--hidden=2", "--output", f.out, "--init",
                    "*=0.5", "--init", "U=0");
    cr_assert_eq(r.status, 0, "%s", r.err);
    wg_params *file = wg_params_load(NULL, f.out, NULL);
    cr_expect_float_eq(wg_tensor_get(wg_params_find(file, "y"), 3), tanh(1.0), 1e-15);
    wg_params_free(file);
    ran_free(&r);
    scratch_free(&f.s);
}

Test(cli_run, saved_lines_beyond_a_length_are_zero_and_doubled_names_are_written_once) {
    files f = files_new();
    wg_params *file = wg_params_new(NULL);
    put(file, "x", WG_F64, 3, (const int64_t[]){T, B, N}, 0.5);
    put(file, "lengths", WG_I32, 1, (const int64_t[]){B}, 2);
    cr_assert_eq(wg_params_save(file, f.in, NULL), WG_OK);
    wg_params_free(file);
    ran r = PROGRAM(&f.s, "run", "lstm", "--input", f.in, "--hidden", "2", "--output", f.out,
                    "--init", "--save", "f,c", "--save", "f");
    cr_assert_eq(r.status, 0, "%s", r.err);
    file = wg_params_load(NULL, f.out, NULL);
    cr_assert_eq(wg_params_count(file), 5);
    const wg_tensor *gate = wg_params_find(file, "f.all");
    cr_expect_gt(wg_tensor_get(gate, 1 * B * 2), 0);
    cr_expect_eq(wg_tensor_get(gate, 2 * B * 2), 0);
    wg_params_free(file);
    ran_free(&r);
    scratch_free(&f.s);
}

/* ---- what it refuses: exit status 1, one line, no file ---- */

static void refused(files *f, const char *part, const char *const *args) {
    ran r = program_run(&f->s, args);
    cr_expect_eq(r.status, 1, "%s: status %d: %s", part, r.status, r.err);
    cr_expect(ran_complains(&r, "wengert run: ", part), "wanted '%s' in: %s", part, r.err);
    cr_expect_neq(access(f->out, F_OK), 0, "%s: a file was written", part);
    ran_free(&r);
}
#define REFUSED(f, part, ...) refused(f, part, (const char *const[]){"run", __VA_ARGS__, NULL})
#define FILES "--input", f.in, "--output", f.out

typedef struct wanted {
    const char *name;
    wg_dtype dtype;
    int rank;
    int64_t dim[3];
    double value;
} wanted;

static void put_arrays(files *f, int n, const wanted *w) {
    wg_params *file = wg_params_new(NULL);
    for (int i = 0; i < n; i++)
        put(file, w[i].name, w[i].dtype, w[i].rank, w[i].dim, w[i].value);
    cr_assert_eq(wg_params_save(file, f->in, NULL), WG_OK);
    wg_params_free(file);
}
#define PUT(f, ...)                                                                                \
    put_arrays(f, (int)(sizeof((wanted[]){__VA_ARGS__}) / sizeof(wanted)), (wanted[]){__VA_ARGS__})

Test(cli_run, names_that_do_not_fit_are_listed) {
    files f = files_new();
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"W", WG_F64, 2, {H, N}, 1}, {"V", WG_F64, 1, {H}, 1},
        {"i.all.grad", WG_F64, 1, {1}, 1});
    REFUSED(&f, "unknown arrays: V, i.all.grad; missing arrays: U, b", "rnn", FILES);
    REFUSED(&f, "did you mean lstm?", "lstmm", FILES);
    REFUSED(&f, "no/such.cell", "no/such.cell", FILES);
    REFUSED(&f, "cannot read", "rnn", "--input", "no/such.safetensors", "--output", f.out);
    REFUSED(&f, "x=x.npy", "rnn", "--input", "x.npy", "--output", f.out);
    REFUSED(&f, "x was given already", "rnn", "--input", f.in, FILES);
    scratch_free(&f.s);
}

Test(cli_run, shapes_and_types_that_do_not_fit_are_told) {
    files f = files_new();
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"W", WG_F64, 2, {H, N}, 1},
        {"U", WG_F64, 2, {H, H}, 1}, {"b", WG_F64, 1, {H + 1}, 1});
    REFUSED(&f, "b has shape (4), not (3)", "rnn", FILES);
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"W", WG_F32, 2, {H, N}, 1});
    REFUSED(&f, "x is f64 and W is f32", "rnn", FILES, "--init");
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"W", WG_I32, 2, {H, N}, 1});
    REFUSED(&f, "W holds whole numbers", "rnn", FILES, "--init");
    PUT(&f, {"x", WG_F64, 2, {T, N}, 1});
    REFUSED(&f, "three axes", "rnn", FILES, "--init");
    put_x(&f, WG_F64);
    REFUSED(&f, "--hidden N", "rnn", FILES, "--init");
    REFUSED(&f, "no such state, line or input", "rnn", FILES, "--init", "--hidden", "2", "--save",
            "q");
    REFUSED(&f, "memory", "rnn", FILES, "--init", "--hidden", "2000", "--memory-limit", "1M");
    scratch_free(&f.s);
}

Test(cli_run, lengths_and_cotangents_that_do_not_fit_are_told) {
    files f = files_new();
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"lengths", WG_I32, 1, {B}, T + 1});
    REFUSED(&f, "not between 0 and 4", "rnn", FILES, "--init", "--hidden", "2");
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"lengths", WG_I32, 1, {B + 1}, T});
    REFUSED(&f, "lengths has shape (4), not (3)", "rnn", FILES, "--init", "--hidden", "2");
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"lengths", WG_F64, 1, {B}, T});
    REFUSED(&f, "lengths holds floats", "rnn", FILES, "--init", "--hidden", "2");
    PUT(&f, {"x", WG_F64, 3, {T, B, N}, 1}, {"y.grad", WG_F64, 3, {T, B, 9}, T});
    REFUSED(&f, "y.grad has shape (4,3,9), not (4,3,2)", "rnn", FILES, "--init", "--hidden", "2");
    scratch_free(&f.s);
}

Test(cli_run, what_cannot_be_written_is_told_and_leaves_nothing) {
    files f = files_new();
    put_x(&f, WG_F64);
    ran r = PROGRAM(&f.s, "run", "rnn", "--input", f.in, "--init", "--hidden", "2", "--output",
                    "/no/such/folder/out");
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert run: ", "/no/such/folder"), "%s", r.err);
    ran_free(&r);
    r = PROGRAM(&f.s, "run", "rnn", "--input", f.in, "--init", "--hidden", "2", "--output",
                "/dev/full");
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert run: ", "/dev/full"), "%s", r.err);
    ran_free(&r);
    cr_expect_eq(scratch_sweep(&f.s, 0), 1, "only the input is there");
    scratch_free(&f.s);
}

/* ---- models ---- */

/* Saves a model of one LSTM layer, and its parameters and the arrays under both namings. */
static void put_model(files *f, const char *model_path, const char *model_in) {
    const wg_model_options o = {.input = N, .hidden = H, .layers = 1, .dtype = WG_F64};
    const wg_draw draw = {.seed = 3, .check = true};
    wg_model *model =
        wg_model_new(NULL, wg_cell_load(NULL, "lstm", 0, NULL, NULL), &o, &draw, NULL);
    wg_params *own = wg_params_new(NULL), *as_cell = wg_params_new(NULL),
              *params = wg_model_params(model);
    cr_assert_eq(wg_model_save(model, NULL, model_path, NULL), WG_OK);
    for (int i = 0; i < wg_params_count(params); i++)
        wg_params_add(as_cell, strchr(wg_params_name(params, i), '.') + 1,
                      wg_params_tensor(params, i));
    for (int k = 0; k < 2; k++) {
        wg_params *file = k ? as_cell : own;
        put(file, "x", WG_F64, 3, (const int64_t[]){T, B, N}, 0.7);
        put(file, "y.grad", WG_F64, 3, (const int64_t[]){T, B, H}, 1.5);
        put(file, k ? "c" : "layer0.c", WG_F64, 2, (const int64_t[]){B, H}, 0.3);
        put(file, k ? "h.grad" : "layer0.h.grad", WG_F64, 2, (const int64_t[]){B, H}, -0.3);
        put(file, "lengths", WG_I32, 1, (const int64_t[]){B}, T - 1);
        cr_assert_eq(wg_params_save(file, k ? f->in : model_in, NULL), WG_OK);
        wg_params_free(file);
    }
    wg_model_free(model);
}

Test(cli_run, a_model_of_one_layer_is_its_cell) {
    files f = files_new();
    char model[512], model_in[512], model_out[512];
    snprintf(model, sizeof model, "%s/model.safetensors", f.s.folder);
    snprintf(model_in, sizeof model_in, "%s/model_in.safetensors", f.s.folder);
    snprintf(model_out, sizeof model_out, "%s/model_out.safetensors", f.s.folder);
    put_model(&f, model, model_in);
    ran one = PROGRAM(&f.s, "run", model, "--input", model_in, "--output", model_out, "--save",
                      "layer0.f");
    ran two = PROGRAM(&f.s, "run", "lstm", "--input", f.in, "--output", f.out, "--save", "f");
    cr_assert_eq(one.status, 0, "%s", one.err);
    cr_assert_eq(two.status, 0, "%s", two.err);
    wg_params *of_model = wg_params_load(NULL, model_out, NULL),
              *of_cell = wg_params_load(NULL, f.out, NULL);
    cr_assert_eq(wg_params_count(of_model), wg_params_count(of_cell));
    for (int i = 0; i < wg_params_count(of_model); i++) {
        const char *name = wg_params_name(of_model, i);
        const wg_tensor *a = wg_params_tensor(of_model, i);
        const wg_tensor *b =
            wg_params_find(of_cell, strncmp(name, "layer0.", 7) == 0 ? name + 7 : name);
        cr_assert_not_null(b, "%s", name);
        cr_assert_eq(wg_tensor_bytes(a), wg_tensor_bytes(b));
        cr_expect_eq(memcmp(wg_tensor_data(a), wg_tensor_data(b), wg_tensor_bytes(a)), 0, "%s",
                     name);
    }
    wg_params_free(of_model);
    wg_params_free(of_cell);
    ran_free(&one);
    ran_free(&two);
    scratch_free(&f.s);
}

/* Dropout draws with --training alone, alike for one seed. */
Test(cli_run, training_draws_from_the_seed) {
    static const char cell[] =
        "cell own\ninput x\nstate h\nh' = dropout(tanh(W @ x + U @ h), 0.5)\n";
    files f = files_new();
    char path[512];
    double first[4];
    put_x(&f, WG_F64);
    snprintf(path, sizeof path, "%s/own.cell", f.s.folder);
    scratch_put(path, cell, sizeof cell - 1);
    for (int i = 0; i < 4; i++) {
        ran r = PROGRAM(&f.s, "run", path, "--input", f.in, "--hidden", "16", "--output", f.out,
                        "--init", "*=0.1", "--seed", i == 3 ? "2" : "1",
                        i ? "--training" : "--keep-subnormals");
        cr_assert_eq(r.status, 0, "%s", r.err);
        ran_free(&r);
        wg_params *file = wg_params_load(NULL, f.out, NULL);
        const wg_tensor *y = wg_params_find(file, "y");
        first[i] = 0;
        for (int k = 0; k < 48; k++)
            first[i] += (k + 1) * wg_tensor_get(y, k);
        wg_params_free(file);
    }
    cr_expect_neq(first[0], first[1]);
    cr_expect_eq(first[1], first[2]);
    cr_expect_neq(first[1], first[3]);
    scratch_free(&f.s);
}
