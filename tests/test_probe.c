/* test_probe.c: `wengert probe`: norms of gradients over time against closed forms of linear cells and differences of a
 * network written out by hand, its files, and what it refuses. */
#include "suite.h"

#include <cjson/cJSON.h>
#include <math.h>

#include "spawned.h"
#include "wengert.h"

/* h' = a h + x, and a second state that is read through the first. */
static const char linear[] = "cell linear\nconst a = 0.5\nsize hidden = input\ninput x\nstate h\nh' = a*h + x\n";
static const char chained[] = "cell chained\nsize hidden = input\ninput x\nstate h, c\nc' = 0.5*c + x\nh' = 2*c'\n";

enum { COLUMNS = 7, STEP = 3, MEDIAN, LOW, HIGH };

/* The column of the row of norms.csv that begins "CELL,SETTING,STATE,STEP,"; NaN if there is none, or it is nan. */
static double csv_at(const char *csv, const char *start, int column) {
    const char *at = strstr(csv, start);
    if (!at || at[-1] != '\n')
        return NAN;
    for (; column; column--)
        at = strchr(at, ',') + 1;
    return strtod(at, NULL);
}

static char *file_of(const scratch *s, const char *name) {
    char path[256];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    char *text = scratch_get(path, &size);
    cr_assert_not_null(text, "there is no %s", name);
    return text;
}

static void put_cell(scratch *s, const char *name, const char *text) {
    scratch_put(scratch_path(s, name), text, strlen(text));
}

/* A probe that has to succeed; its norms.csv. */
static char *probed(scratch *s, const char *const *args) {
    ran r = program_run(s, args);
    cr_assert_eq(r.status, 0, "%s", r.err);
    ran_free(&r);
    return file_of(s, "norms.csv");
}
#define PROBED(s, ...) probed(s, (const char *const[]){"probe", __VA_ARGS__, NULL})

Test(probe, norms_of_a_linear_cell_fall_as_its_powers) {
    static const char *const types[] = {"f64", "f32"};
    scratch s = scratch_new();
    put_cell(&s, "linear.cell", linear);
    char cell[512];
    snprintf(cell, sizeof cell, "%s", scratch_path(&s, "linear.cell"));
    for (int k = 0; k < 2; k++) {
        char *csv = PROBED(&s, cell, "--length", "12", "--input", "3", "--hidden", "3", "--batch", "4", "--seeds", "2", "--type",
                           types[k], "--out", s.folder);
        cr_expect(strncmp(csv, "cell,setting,state,step,log10_median,log10_q05,log10_q95\n", 57) == 0);
        int rows = -1;
        for (const char *at = csv; *at; at++)
            rows += *at == '\n';
        cr_expect_eq(rows, 12);
        for (int t = 1; t <= 12; t++) {
            char start[600];
            snprintf(start, sizeof start, "%s,,h,%d,", cell, t);
            for (int column = MEDIAN; column < COLUMNS; column++)
                cr_expect_float_eq(csv_at(csv, start, column), (12 - t) * log10(0.5), k ? 1e-6 : 1e-9);
        }
        free(csv);
    }
    scratch_free(&s);
}

/* 0.5^199 lies far below the least f32, 0.03^239 below the least f64. */
Test(probe, norms_go_on_where_the_type_ends) {
    static const char *const run[][3] = {{"f32", "200", "a=0.5"}, {"f64", "240", "a=0.03"}};
    static const double log_norm[] = {199 * -0.30102999566398120, 239 * -1.5228787452803376}; /* log10 of 0.5, 0.03 */
    scratch s = scratch_new();
    put_cell(&s, "linear.cell", linear);
    char cell[512], start[600];
    snprintf(cell, sizeof cell, "%s", scratch_path(&s, "linear.cell"));
    for (int k = 0; k < 2; k++) {
        char *csv = PROBED(&s, cell, "--type", run[k][0], "--length", run[k][1], "--set", run[k][2], "--input", "3", "--hidden", "3",
                           "--batch", "2", "--seeds", "1", "--out", s.folder);
        snprintf(start, sizeof start, "%s,%s,h,1,", cell, run[k][2]);
        cr_expect_float_eq(csv_at(csv, start, MEDIAN), log_norm[k], 1e-4);
        free(csv);
    }
    scratch_free(&s);
}

Test(probe, every_state_is_differentiated_and_a_zero_is_minus_infinity) {
    scratch s = scratch_new();
    put_cell(&s, "chained.cell", chained);
    char cell[512], start[600];
    snprintf(cell, sizeof cell, "%s", scratch_path(&s, "chained.cell"));
    char *csv = PROBED(&s, cell, "--length", "6", "--input", "2", "--hidden", "2", "--batch", "3", "--seeds", "1", "--out",
                       s.folder);
    for (int t = 1; t <= 6; t++) {
        snprintf(start, sizeof start, "%s,,c,%d,", cell, t);
        cr_expect_float_eq(csv_at(csv, start, MEDIAN), log10(2) + (6 - t) * log10(0.5), 1e-9);
        snprintf(start, sizeof start, "%s,,h,%d,", cell, t);
        double h = csv_at(csv, start, MEDIAN);
        cr_expect(t == 6 ? fabs(h) < 1e-9 : isinf(h) && h < 0, "step %d: %g", t, h);
    }
    free(csv);
    scratch_free(&s);
}

Test(probe, a_swept_const_gives_a_line_each_and_the_summed_loss_a_geometric_series) {
    static const double values[] = {0.5, 0.25};
    scratch s = scratch_new();
    put_cell(&s, "linear.cell", linear);
    char cell[512], start[600];
    snprintf(cell, sizeof cell, "%s", scratch_path(&s, "linear.cell"));
    char *csv = PROBED(&s, cell, "--length", "5", "--input", "2", "--hidden", "2", "--batch", "2", "--seeds", "1", "--loss", "sum",
                       "--set", "a=0.5,0.25", "--drive", "zero", "--out", s.folder);
    for (int k = 0; k < 2; k++)
        for (int t = 1; t <= 5; t++) {
            double sum = 0;
            for (int later = t; later <= 5; later++)
                sum += pow(values[k], later - t);
            snprintf(start, sizeof start, "%s,a=%g,h,%d,", cell, values[k], t);
            cr_expect_float_eq(csv_at(csv, start, MEDIAN), log10(sum), 1e-9);
        }
    free(csv);
    scratch_free(&s);
}

/* ---- a network written out by hand ---- */

enum { T = 7, B = 3, I = 2, H = 4 };

static double weight(const wg_model *model, const char *name, int i) {
    return wg_tensor_get(wg_params_find(wg_model_params(model), name), i);
}

static void run_steps(const wg_model *model, const wg_tensor *x, int row, int from, int to, double *h) {
    for (int t = from; t < to; t++) {
        double next[H];
        for (int i = 0; i < H; i++) {
            next[i] = weight(model, "layer0.b", i);
            for (int k = 0; k < I; k++)
                next[i] += weight(model, "layer0.W", i * I + k) * wg_tensor_get(x, (t * B + row) * I + k);
            for (int k = 0; k < H; k++)
                next[i] += weight(model, "layer0.U", i * H + k) * h[k];
        }
        for (int i = 0; i < H; i++)
            h[i] = tanh(next[i]);
    }
}

/* The last output of a row, run on from state h after `step` steps. */
static double last_output(const wg_model *model, const wg_tensor *x, int row, int step, const double *start) {
    double h[H], y = weight(model, "output.b", 0);
    memcpy(h, start, sizeof h);
    run_steps(model, x, row, step, T, h);
    for (int i = 0; i < H; i++)
        y += weight(model, "output.W", i) * h[i];
    return y;
}

/* log10 of |dy_T/dh_t| by central differences. */
static double difference(const wg_model *model, const wg_tensor *x, int row, int step) {
    double h[H] = {0}, sum = 0;
    const double e = 1e-5;
    run_steps(model, x, row, 0, step, h);
    for (int i = 0; i < H; i++) {
        double kept = h[i];
        h[i] = kept + e;
        double up = last_output(model, x, row, step, h);
        h[i] = kept - e;
        double down = last_output(model, x, row, step, h);
        h[i] = kept;
        sum += (up - down) / (2 * e) * ((up - down) / (2 * e));
    }
    return 0.5 * log10(sum);
}

static int by_value(const void *a, const void *b) {
    double u = *(const double *)a, v = *(const double *)b;
    return (u > v) - (u < v);
}

/* With one output the random functional of unit norm is its sign, so that norms are those of the output's own gradient. */
Test(probe, norms_of_a_trained_network_are_those_of_differences) {
    scratch s = scratch_new();
    wg_error error = {0};
    const wg_draw draw = {.seed = 5, .lines = 1, .line = (const char *[]){"b=normal(0.3)"}};
    wg_model *model = wg_model_new(NULL, wg_cell_load(NULL, "rnn", 0, NULL, &error),
                                   &(wg_model_options){.input = I, .hidden = H, .layers = 1, .outputs = 1, .dtype = WG_F64},
                                   &draw, &error);
    cr_assert_not_null(model, "%s", error.text);
    char path[512], data[512];
    snprintf(path, sizeof path, "%s", scratch_path(&s, "model.safetensors"));
    snprintf(data, sizeof data, "%s", scratch_path(&s, "x.npy"));
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){T, B, I});
    wg_random random = {.seed = 8};
    for (int i = 0; i < T * B * I; i++)
        wg_tensor_set(x, i, wg_random_normal(&random));
    cr_assert_eq(wg_model_save(model, NULL, path, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg_npy_save(x, data, &error), WG_OK, "%s", error.text);
    char *csv = PROBED(&s, path, "--drive", data, "--seeds", "1", "--out", s.folder);
    for (int t = 1; t <= T; t++) {
        double norm[B];
        char start[600];
        for (int row = 0; row < B; row++)
            norm[row] = difference(model, x, row, t);
        qsort(norm, B, sizeof *norm, by_value);
        snprintf(start, sizeof start, "%s,,layer0.h,%d,", path, t);
        cr_expect_float_eq(csv_at(csv, start, MEDIAN), norm[1], 1e-6);
        cr_expect_float_eq(csv_at(csv, start, LOW), norm[0] + 0.1 * (norm[1] - norm[0]), 1e-6);
        cr_expect_float_eq(csv_at(csv, start, HIGH), norm[1] + 0.9 * (norm[2] - norm[1]), 1e-6);
    }
    free(csv);
    wg_tensor_free(x);
    wg_model_free(model);
    scratch_free(&s);
}

/* ---- files ---- */

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
    return text ? text : "";
}

Test(probe, json_tells_the_command_the_versions_the_seeds_and_the_cells) {
    scratch s = scratch_new();
    free(PROBED(&s, "rnn", "lstm", "--length", "4", "--hidden", "3", "--batch", "2", "--seeds", "2", "--seed", "7", "--only", "norms",
                "--out", s.folder));
    char *text = file_of(&s, "probe.json");
    cJSON *json = cJSON_Parse(text);
    cr_assert_not_null(json);
    cr_expect_str_eq(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "command"), 1)), "probe");
    cr_expect(*text_of(json, "version") && *text_of(json, "compiler"));
    cr_expect_str_eq(text_of(json, "type"), "f64");
    cr_expect_eq(cJSON_GetNumberValue(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "seeds"), 1)), 8);
    const cJSON *cells = cJSON_GetObjectItem(json, "cells");
    cr_assert_eq(cJSON_GetArraySize(cells), 2);
    cr_expect_str_eq(text_of(cJSON_GetArrayItem(cells, 1), "text"), wg_zoo_text("lstm"));
    bool listed = cJSON_GetArraySize(cJSON_GetObjectItem(json, "files")) == 2;
    size_t size;
    char *picture = scratch_get(scratch_path(&s, "norms.svg"), &size);
    cr_expect_eq(listed, picture != NULL);
    if (picture)
        cr_expect(strstr(picture, "<svg") && strstr(picture, "lstm: c"));
    cr_expect_eq(scratch_sweep(&s, 0), 2 + listed);
    free(picture);
    cJSON_Delete(json);
    free(text);
    scratch_free(&s);
}

Test(probe, without_gnuplot_the_data_are_written_and_a_note_says_so) {
    scratch s = scratch_new();
    char *path = strdup(getenv("PATH"));
    setenv("PATH", s.folder, 1);
    ran r = PROGRAM(&s, "probe", "rnn", "--length", "3", "--hidden", "2", "--batch", "2", "--seeds", "1", "--out", s.folder);
    setenv("PATH", path, 1);
    free(path);
    cr_expect_eq(r.status, 0);
    cr_expect(strstr(r.err, "note: gnuplot is not installed"), "%s", r.err);
    cr_expect_eq(scratch_sweep(&s, 0), 2);
    ran_free(&r);
    scratch_free(&s);
}

Test(probe, standard_output_has_an_object_a_line) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "probe", "lstm", "--length", "4", "--hidden", "3", "--batch", "2", "--seeds", "1", "--json");
    cr_assert_eq(r.status, 0, "%s", r.err);
    char *end = strchr(r.out, '\n');
    cr_assert_not_null(end);
    *end = 0;
    cJSON *json = cJSON_Parse(r.out);
    cr_assert_not_null(json);
    cr_expect_str_eq(text_of(json, "state"), "h");
    cr_expect_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "steps")), 4);
    cr_expect_float_eq(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "log10_last")), 0, 1e-9);
    cJSON_Delete(json);
    ran_free(&r);
    scratch_free(&s);
}

/* ---- what it refuses ---- */

static void refused(int status, const char *part, const char *const *args) {
    scratch s = scratch_new();
    ran r = program_run(&s, args);
    cr_expect_eq(r.status, status, "%s: status %d", part, r.status);
    cr_expect(ran_complains(&r, "wengert probe: ", part), "wanted '%s' in: %s", part, r.err);
    ran_free(&r);
    scratch_free(&s);
}
#define REFUSED(status, part, ...) refused(status, part, (const char *const[]){"probe", __VA_ARGS__, NULL})

Test(probe, refuses_what_it_cannot_do_in_one_line) {
    REFUSED(1, "not measured yet", "rnn", "--only", "norms,flow");
    REFUSED(2, "no such measurement", "rnn", "--only", "flows");
    REFUSED(2, "this is not normal(DEVIATION)", "rnn", "--drive", "normal(one)");
    REFUSED(2, "this is not normal(DEVIATION)", "rnn", "--drive", "normal(1)2)");
    REFUSED(2, "--length 0", "rnn", "--length", "0");
    REFUSED(2, "more arguments", "--length", "3");
    REFUSED(1, "no cell 'rnnn'", "rnnn");
    REFUSED(1, "more than 64 combinations", "rnn", "--set", "a=1,2,3,4,5,6,7,8,9", "--set", "b=1,2,3,4,5,6,7,8");
    REFUSED(1, "/dev/null/g", "rnn", "--out", "/dev/null/g");
    REFUSED(1, "missing.npy", "rnn", "--drive", "missing.npy");
}
