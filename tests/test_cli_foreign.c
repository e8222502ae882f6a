/* The program and C functions: --use, `use` lines, --allow-foreign, models that want them. GSL's functions are those of Debian's libgsl27. */
#include "suite.h"

#include "spawned.h"
#include "wengert.h"

static const char bessel[] = "cell bessel\n"
                             "use \"libgsl.so.27\" \"double gsl_sf_bessel_J0(double)\" as J0 with derivative -J1(x) after \"gsl_set_error_handler_off\"\n"
                             "use \"libgsl.so.27\" \"double gsl_sf_bessel_J1(double)\" as J1 with derivative J0(x) - J1(x)/x on 0.5..8\n"
                             "input x\nstate h\nz = W @ x + U @ h + b\nh' = J0(z)*tanh(z)\n";

enum { PATH = 600 };

static void cell_file(scratch *s, char path[PATH]) {
    snprintf(path, PATH, "%s", scratch_path(s, "bessel.cell"));
    scratch_put(path, bessel, sizeof bessel - 1);
}

#define J0 "\"libm.so.6\" \"double j0(double)\" as J0 with derivative -J1(x)"
#define J1 "\"libm.so.6\" \"double j1(double)\" as J1 with derivative J0(x) - J1(x)/x on 0.5..3"

Test(cli_foreign, functions_given_on_the_command_line_are_checked_and_told) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "check", "--use", J0, "--use", J1);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "J0") && strstr(r.out, "J1") && !strstr(r.out, "tanh"), "%s", r.out);
    cr_expect(strstr(r.err, "loading libm.so.6: double j0(double) as J0"), "%s", r.err);
    ran_free(&r);
    r = PROGRAM(&s, "check", "--use", "\"libm.so.6\" \"double j0(double)\" as J0 with derivative \"double j1(double)\"");
    cr_expect_eq(r.status, 1, "the derivative has the wrong sign");
    cr_expect(strstr(r.err, "J0") && strstr(r.err, "first order"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

/* told: what is to be loaded was told before. */
static void refused(bool told, const char *part, const char *line) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "check", "--use", line);
    cr_expect_eq(r.status, 1);
    char *end = told ? strchr(r.err, '\n') : r.err - 1;
    cr_expect(!told || strncmp(r.err, "wengert check: note: loading lib", 32) == 0, "%s", r.err);
    cr_expect(end && strncmp(end + 1, "wengert check: ", 15) == 0 && strstr(end + 1, part) && !strchr(strchr(end + 1, '\n') + 1, '\n'),
              "wanted '%s' in: %s", part, r.err);
    ran_free(&r);
    scratch_free(&s);
}

Test(cli_foreign, what_cannot_be_loaded_is_told_on_one_line_more) {
    refused(true, "undefined symbol: j00", "\"libm.so.6\" \"double j00(double)\" as J");
    refused(true, "cannot open shared object file", "\"libnot_there.so\" \"double j0(double)\" as J");
    refused(false, "there is no type 'doble'", "\"libm.so.6\" \"double j0(doble)\" as J");
    refused(false, "expected a library in quotes", "libm");
    refused(false, "there is an op tanh already", "\"libm.so.6\" \"double tanh(double)\"");
}

Test(cli_foreign, a_cell_that_wants_to_load_is_refused_unless_it_is_allowed) {
    scratch s = scratch_new();
    char path[PATH];
    cell_file(&s, path);
    const char *const commands[] = {"check", "graph", "cells"};
    for (int i = 0; i < 3; i++) {
        ran r = PROGRAM(&s, commands[i], path);
        cr_expect_eq(r.status, 1);
        cr_expect(strstr(r.err, "bessel.cell:2:5: the text wants to load 'libgsl.so.27' for 'double gsl_sf_bessel_J0(double)'"), "%s", r.err);
        cr_expect(strstr(r.err, "--allow-foreign") && !strstr(r.err, "loading"), "%s", r.err);
        ran_free(&r);
        r = PROGRAM(&s, commands[i], path, "--allow-foreign");
        cr_expect_eq(r.status, 0, "%s", r.err);
        cr_expect(strstr(r.err, "loading libgsl.so.27: double gsl_sf_bessel_J0(double) as J0"), "%s", r.err);
        ran_free(&r);
    }
    scratch_sweep(&s, 1);
    scratch_free(&s);
}

/* The number behind the last `"validation_loss":` of a log. */
static double last_validation(const char *log) {
    double loss = -1;
    for (const char *at = log; (at = strstr(at, "\"validation_loss\":")); at++)
        sscanf(at, "\"validation_loss\":%lf", &loss);
    return loss;
}

Test(cli_foreign, a_cell_with_a_special_function_trains_and_its_model_is_loaded_where_that_is_allowed) {
    scratch s = scratch_new();
    char path[PATH], model[PATH], *log;
    size_t size;
    cell_file(&s, path);
    snprintf(model, sizeof model, "%s", scratch_path(&s, "m.safetensors"));
    ran r = PROGRAM(&s, "train", "--task", "adding", "--length", "10", "--cell", path, "--hidden", "32", "--batch", "20", "--steps", "1500", "--lr",
                    "0.005", "--allow-foreign", "--output", model);
    cr_expect_eq(r.status, 0, "%s", r.err);
    ran_free(&r);
    log = scratch_get(scratch_path(&s, "m.jsonl"), &size);
    double loss = last_validation(log);
    cr_expect(loss > 0 && loss < 0.05, "mean squared error %g: the trivial answer has 0.167", loss);
    free(log);
    r = PROGRAM(&s, "graph", model);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "wants to load 'libgsl.so.27'"), "%s", r.err);
    ran_free(&r);
    r = PROGRAM(&s, "graph", model, "--allow-foreign");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "J0"), "%.200s", r.out);
    ran_free(&r);
    scratch_sweep(&s, 1);
    scratch_free(&s);
}
