/* C functions in cells and models: use lines, what may load them, what is logged. */
#include "taped.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bound.h"
#include "failing.h"

static char logged[4][300];
static int log_count;
static void keep_log(void *user, const char *text) {
    (void)user;
    snprintf(logged[log_count++ % 4], sizeof logged[0], "%s", text);
}

static wg_foreign *allowing(bool allow) {
    return wg_foreign_new(NULL, &(wg_foreign_options){.allow = allow, .log = keep_log});
}

static const char cell_text[] = "cell waves\n"
                                "use \"libm.so.6\" \"double j0(double)\" as J0 with derivative -J1(x)\n"
                                "use \"libm.so.6\" \"double j1(double)\" as J1 with derivative J0(x) - J1(x)/x on 0.5..3\n"
                                "input x\nstate h\nz = W @ x + U @ h + b\nh' = J0(z)*tanh(z) + J0(0.5)\n";

static wg_cell *cell_of(wg_foreign *f, const char *text, wg_error *error) {
    return wg_cell_parse_with(NULL, "t.cell", text, strlen(text), &(wg_cell_options){.foreign = f}, error);
}

Test(foreign_cells, a_use_line_is_read_only_where_the_caller_allows_it_and_what_it_loads_is_logged) {
    wg_foreign *none = allowing(false), *all = allowing(true);
    wg_error error = {0};
    cr_assert_null(cell_of(NULL, cell_text, &error));
    cr_assert_eq(error.status, WG_UNSUPPORTED);
    cr_assert_null(cell_of(none, cell_text, &(wg_error){0}));
    cr_assert_eq(log_count, 0);
    error.text[strcspn(error.text, "\n")] = 0;
    cr_assert_str_eq(error.text, "t.cell:2:5: the text wants to load 'libm.so.6' for 'double j0(double)': this is not allowed unless its caller "
                                 "allows it (--allow-foreign)");
    error = (wg_error){0};
    wg_cell *cell = cell_of(all, cell_text, &error), *again = cell_of(all, cell_text, &error);
    cr_assert(cell && again, "%s", error.text);
    cr_assert_eq(log_count, 2);
    cr_assert_str_eq(logged[0], "libm.so.6: double j0(double) as J0");
    cr_assert_eq(wg_foreign_count(all), 2, "the same again is the same");
    cr_assert_null(cell_of(all, "cell t\nuse \"libm.so.6\" \"double y0(double)\" as J0\ninput x\nstate h\nh' = W @ x\n", &error));
    error.text[strcspn(error.text, "\n")] = 0;
    cr_assert_str_eq(error.text, "t.cell:2:5: use: there is an op J0 already");
    cr_assert_eq(error.status, WG_CONFLICT);
    cr_assert_null(cell_of(all, "cell t\nuse \"libm.so.6\" \"double y0(double)\" as Y0 with derivative -Y1(x)\ninput x\nstate h\nh' = W @ x\n", &(wg_error){0}));
    cr_assert_null(wg_foreign_find(all, "Y0"), "what a refused text has bound is forgotten");
    wg_cell *other = cell_of(all, "cell t\ninput x\nstate h\nh' = J1(W @ x)\n", &(wg_error){0});
    cr_assert_not_null(other);
    wg_cell_free(other);
    wg_cell_free(cell), wg_cell_free(again);
    wg_foreign_free(none), wg_foreign_free(all);
}

static void no_cell(const char *text, wg_status status, const char *line) {
    wg_foreign *f = allowing(true);
    wg_error error = {0};
    cr_assert_null(cell_of(f, text, &error), "%s", text);
    error.text[strcspn(error.text, "\n")] = 0;
    cr_expect_str_eq(error.text, line);
    cr_expect_eq(error.status, status, "%s", error.text);
    wg_foreign_free(f);
}

#define USING(line) "cell t\n" line "\ninput x\nstate h\nh' = f(W @ x)\n"

Test(foreign_cells, use_lines_that_are_wrong_say_where) {
    no_cell(USING("use libm"), WG_SYNTAX, "t.cell:2:5: expected a library in quotes, not 'libm'");
    no_cell(USING("use \"libm.so.6\""), WG_SYNTAX, "t.cell:2:16: expected a prototype in quotes, not the end of the line");
    no_cell(USING("use \"libm.so.6\" \"double j0(doble)\""), WG_SYNTAX,
            "t.cell:2:5: prototype:1:11: there is no type 'doble': known are C's own numbers, size_t and the like, int32_t and the like, and structs "
            "whose fields are written out");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as"), WG_SYNTAX, "t.cell:2:39: expected a name, not the end of the line");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f with x"), WG_SYNTAX, "t.cell:2:47: expected 'derivative' or 'vjp', not 'x'");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f with derivative"), WG_SYNTAX,
            "t.cell:2:57: expected a name, a number or '(', not the end of the line");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f with vjp x"), WG_SYNTAX, "t.cell:2:51: expected a prototype, not 'x'");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f on 1"), WG_SYNTAX, "t.cell:2:46: expected '..', not the end of the line");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f on -x..2"), WG_SYNTAX, "t.cell:2:46: expected a number, not 'x'");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f after x"), WG_SYNTAX, "t.cell:2:48: expected the name of a function, not 'x'");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f 3"), WG_SYNTAX,
            "t.cell:2:42: expected as, with, on, serial, nan, after or the end of the line, not '3'");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as f with derivative g(x)"), WG_NOT_FOUND,
            "t.cell: use: the derivative of f calls g, which is not bound");
    no_cell(USING("use \"libm.so.6\" \"double j0(double)\" as g"), WG_NOT_FOUND, "t.cell:5:6: there is no function 'f'");
    no_cell("cell t\nuse \"libm.so.6\" \"double j0(double)\" as f\ninput x\nstate h\nh' = f(W @ x, h)\n", WG_SYNTAX,
            "t.cell:5:6: 'f' takes 1 argument, not 2");
    no_cell("cell t\nuse \"libm.so.6\" \"double j0(double)\" as f\ninput x\nstate f\nf' = W @ x\n", WG_SYNTAX,
            "t.cell:4:7: 'f' is a function and cannot be a name");
    wg_foreign *f = allowing(false);
    wg_error error = {0};
    cr_assert_null(wg_bind_text(f, "\"libm.so.6\" \"double j0(double)\" as J\n3", &error));
    error.text[strcspn(error.text, "\n")] = 0;
    cr_assert_str_eq(error.text, "use:2:1: expected the end, not '3'");
    const wg_op *op = wg_bind_text(f, "\"libm.so.6\" \"double j0(double)\" as J with derivative \"double j1(double)\" on -1..2.5 serial nan", &(wg_error){0});
    cr_assert_not_null(op, "the caller's own line needs no leave");
    cr_assert(op->range[0] == -1 && op->range[1] == 2.5);
    cr_assert(wg__bound_of(op)->serial && wg__bound_of(op)->nan);
    wg_foreign_free(f);
}

/* The gradient of sum(output^2) by its parameters and inputs, from plans on several threads, is what evaluation gives. */
static void unrolls(const wg_cell *cell, int64_t steps, int64_t input, int64_t hidden) {
    enum { B = 5, MOST = 8 };
    wg_error error = {0};
    wg_params *p = wg_cell_draw(NULL, cell, WG_F64, input, hidden, &(wg_draw){.check = true, .seed = 2}, &error);
    cr_assert_not_null(p, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_named given[MOST];
    wg_var leaf[MOST], y[MOST + 1];
    wg_tensor *x = taped_random(NULL, WG_F64, 3, (const int64_t[]){steps, B, input}, 4);
    int n = wg_params_count(p);
    for (int i = 0; i < n; i++)
        given[i] = (wg_named){wg_params_name(p, i), leaf[i] = wg_leaf(tape, wg_params_tensor(p, i))};
    given[n] = (wg_named){"x", leaf[n] = wg_leaf(tape, x)};
    wg_unroll *u = wg_unroll_new(tape, cell, input, hidden, n + 1, given, NULL);
    cr_assert_not_null(u, "%s", wg_tape_message(tape));
    y[n + 1] = wg_sum_to(wg_square(wg_unroll_output(u)), 0, NULL);
    cr_assert_eq(wg_grad(y[n + 1], n + 1, leaf, y), WG_OK, "%s", wg_tape_message(tape));
    wg_tensor *want[MOST + 1];
    cr_assert_eq(wg_eval(n + 2, y, want, &error), WG_OK, "%s", error.text);
    for (int threads = 1; threads <= 4; threads++) {
        wg_plan *plan = wg_compile(n + 2, y, &(wg_compile_options){.run.threads = threads, .validate = true}, &error);
        cr_assert_not_null(plan, "%s", error.text);
        cr_assert_eq(wg_run(plan, &error), WG_OK, "%s", error.text);
        for (int i = 0; i < n + 2; i++)
            cr_assert(taped_close(want[i], wg_plan_output(plan, i)), "output %d on %d threads", i, threads);
        wg_plan_free(plan);
    }
    for (int i = 0; i < n + 2; i++)
        wg_tensor_free(want[i]);
    wg_unroll_free(u);
    wg_tensor_free(x);
    wg_params_free(p);
    wg_tape_free(tape);
}

Test(foreign_cells, cells_with_c_functions_unroll_differentiate_and_compile) {
    wg_foreign *f = allowing(true);
    wg_error error = {0};
    wg_cell *cell = cell_of(f, cell_text, &error);
    cr_assert_not_null(cell, "%s", error.text);
    unrolls(cell, 9, 2, 3);
    wg_cell_free(cell);
    bound(f, (wg_binding){.prototype = "void scan(long n, const double *x, double *y)", .function = FUNCTION(scan), .name = "running",
                          .vjp = "void scan_vjp(long n, const double *gy, double *gx)", .vjp_function = FUNCTION(scan_vjp)});
    bound(f, (wg_binding){.prototype = "double norm2(int n, const double *x)", .function = FUNCTION(norm2), .derivative = "2*x"});
    bound(f, (wg_binding){.prototype = "double four(double a, double b, double c, double d)", .function = FUNCTION(four), .derivative = "1, 10, 100, 1000"});
    bound(f, (wg_binding){.prototype = "struct {double re, im;} times(struct {double re, im;} a, struct {double re, im;} b)", .function = FUNCTION(times)});
    bound(f, (wg_binding){.prototype = "void widen(int n = 3, const int x[n], double y[2*n + 1])", .function = FUNCTION(widen), .name = "seven"});
    const char *text = "cell arrays\ninput x\nstate h\nz = W @ x + U @ h + b\ns = slice(z, 0, 1)\n"
                       "h' = tanh(running(z)) + norm2(z)/100 + four(s, 1, s, 2)/1000\n";
    error = (wg_error){0};
    cell = cell_of(f, text, &error);
    cr_assert_not_null(cell, "%s", error.text);
    unrolls(cell, 6, 2, 3);
    wg_cell_free(cell);
    cell = cell_of(f, "cell long_number\ninput x\nstate h\nz = W @ x\nh' = z*four(z, 1, 2, 3)\n", &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){2, 1, 2}), *w = wg_tensor_new(NULL, WG_F64, 2, (const int64_t[]){3, 2});
    const wg_named given[] = {{"x", wg_leaf(tape, x)}, {"W", wg_leaf(tape, w)}};
    cr_assert_null(wg_unroll_new(tape, cell, 2, 3, 2, given, NULL));
    cr_assert_not_null(strstr(wg_tape_message(tape), "four: an operand that is a number to the function is longer than 1"), "%s", wg_tape_message(tape));
    wg_tensor_free(x), wg_tensor_free(w);
    wg_tape_free(tape);
    wg_cell_free(cell);
    no_cell("cell t\nuse \"libm.so.6\" \"void f(int n, const double x[n], double y[n + 1])\" as f after \"tzset\"\ninput x\nstate h\nh' = f(W @ x)\n",
            WG_NOT_FOUND, "t.cell:2:5: use: /lib/x86_64-linux-gnu/libm.so.6: undefined symbol: f");
    bound(f, (wg_binding){.prototype = "void scan(long n, const double x[n], double y[n + 1])", .function = FUNCTION(scan), .name = "one_more"});
    error = (wg_error){0};
    cr_assert_null(cell_of(f, "cell t\ninput x\nstate h\nh' = one_more(W @ x)\n", &error));
    error.text[strcspn(error.text, "\n")] = 0;
    cr_assert_str_eq(error.text, "t.cell:4:6: no operand is as long as what this function makes: this is not supported in cells yet");
    no_cell("cell t\nuse \"libopenblas.so.0\" \"void cblas_dgemv(int o = 101, int t = 111, int m, int n, double a = 1, const double A[m][n], int lda = 3, const double x[n], int i = 1, double b = 0, double y[m], int k = 1)\" as f\ninput x\nstate h\nh' = f(U @ h, x)\n",
            WG_UNSUPPORTED, "t.cell:5:6: a C function of matrices is not supported in cells yet");
    wg_foreign_free(f);
}

Test(foreign_cells, cells_with_c_functions_are_read_whatever_memory_there_is) {
    const char *text = "cell t\ninput x\nstate h\nz = W @ x\nh' = norm2(z)*h + norm2(U @ h)\n";
    wg_foreign *f = allowing(false);
    wg_error error = {0};
    bound(f, (wg_binding){.prototype = "double norm2(int n, const double *x)", .function = FUNCTION(norm2), .derivative = "2*x"});
    cr_assert_null(cell_of(f, "cell t\ninput x\nstate h\nh' = h + norm2(x + h)\n", &error));
    cr_assert_eq(error.status, WG_SHAPE, "%s", error.text);
    bool reached = true;
    for (long k = 1; reached; k++) {
        failing failed;
        wg_memory *memory = failing_memory(&failed, k);
        error = (wg_error){0};
        wg_cell *cell = wg_cell_parse_with(memory, "t.cell", text, strlen(text), &(wg_cell_options){.foreign = f}, &error);
        reached = failing_failed(&failed);
        cr_assert_eq(cell == NULL, reached, "allocation %ld: %s", k, error.text);
        cr_assert_eq(error.status, reached ? WG_MEMORY : WG_OK);
        wg_cell_free(cell);
        cr_assert_eq(failed.live, 0);
        wg_memory_free(memory);
    }
    wg_foreign_free(f);
}

Test(foreign_cells, models_with_c_functions_are_saved_and_loaded_where_that_is_allowed) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/wengert_foreign_%ld.safetensors", (long)getpid());
    wg_foreign *f = allowing(true), *no = allowing(false);
    wg_error error = {0};
    wg_cell *cell = cell_of(f, cell_text, &error);
    wg_model *model = wg_model_new(NULL, cell, &(wg_model_options){.input = 2, .hidden = 3, .layers = 1, .dtype = WG_F32}, NULL, &error);
    cr_assert_not_null(model, "%s", error.text);
    cr_assert_eq(wg_model_save(model, NULL, path, &error), WG_OK, "%s", error.text);
    cr_assert_null(wg_model_load(NULL, path, NULL, &(wg_error){0}));
    cr_assert_null(wg_model_load_with(NULL, path, no, NULL, &error));
    cr_assert_eq(error.status, WG_UNSUPPORTED, "%s", error.text);
    cr_assert_not_null(strstr(error.text, "wants to load 'libm.so.6'"), "%s", error.text);
    error = (wg_error){0};
    wg_model *loaded = wg_model_load_with(NULL, path, f, NULL, &error);
    cr_assert_not_null(loaded, "%s", error.text);
    unrolls(wg_model_cell(loaded), 4, 2, 3);
    remove(path);
    wg_model_free(model), wg_model_free(loaded);
    wg_foreign_free(f), wg_foreign_free(no);
}

/* tzset reads TZ each time that it is called. */
Test(foreign_cells, a_function_named_by_after_is_called_before_and_once) {
    wg_foreign *f = foreign();
    setenv("TZ", "ABC-3", 1);
    bound(f, (wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "b"});
    cr_assert_neq(timezone, -3 * 3600L);
    bound(f, (wg_binding){.prototype = "double cos(double)", .library = "libm.so.6", .name = "c", .after = "tzset"});
    cr_assert_eq(timezone, -3 * 3600L);
    setenv("TZ", "ABC-5", 1);
    bound(f, (wg_binding){.prototype = "double sin(double)", .library = "libm.so.6", .name = "d", .after = "tzset"});
    cr_assert_eq(timezone, -3 * 3600L);
    unsetenv("TZ");
    tzset();
    wg_foreign_free(f);
}
