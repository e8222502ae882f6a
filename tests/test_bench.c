/* test_bench.c: `wengert bench`: what its JSON holds and whether the products counted are those of the cell; the protocol
 * of peers; what it refuses. Nothing here looks at how long anything took. */
#include "suite.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spawned.h"

static cJSON *benched(scratch *s, const char *const *args) {
    ran r = program_run(s, args);
    cr_assert_eq(r.status, 0, "%s", r.err);
    char *end = strchr(r.out, '\n');
    cr_assert(end && !end[1], "one line was wanted: %s", r.out);
    cJSON *json = cJSON_Parse(r.out);
    cr_assert_not_null(json, "%s", r.out);
    ran_free(&r);
    return json;
}
#define BENCHED(s, ...)                                                                                                        \
    benched(s, (const char *const[]){"bench", __VA_ARGS__, "--json", "--seconds", "0", "--threads", "2", NULL})
#define SMALL "--batch", "3", "--steps", "4", "--input", "5", "--hidden", "6"

static double number(const cJSON *json, const char *key) {
    const cJSON *item = cJSON_GetObjectItem(json, key);
    cr_expect(cJSON_IsNumber(item), "there is no number %s", key);
    return cJSON_GetNumberValue(item);
}

static const char *name_of(const cJSON *json) { return cJSON_GetStringValue(cJSON_GetObjectItem(json, "workload")); }

/* Shares of all threads' time, which they make up together. */
static void expect_times(const cJSON *times) {
    static const char *const part[] = {"products", "pointwise", "packing", "other", "waiting"};
    double all = 0;
    for (int i = 0; i < 5; i++) {
        double share = number(times, part[i]);
        cr_expect(share >= 0 && share <= 1, "%s: %g", part[i], share);
        all += share;
    }
    cr_expect_float_eq(all, 1, 1e-9);
    cr_expect(number(times, "products") > 0 && number(times, "products_flops") > 0);
}

static void expect_fields(const cJSON *json) {
    cr_expect(number(json, "seconds_median") > 0);
    cr_expect(number(json, "seconds_min") > 0);
    cr_expect(number(json, "seconds_min") <= number(json, "seconds_median"));
    cr_expect(number(json, "runs") >= 7);
    cr_expect(number(json, "peak_flops") > 0);
    cr_expect(number(json, "bytes") > 0);
    cr_expect(number(json, "nodes") > 0);
}

/* Forward, and backward by both operands: three products for each of a cell's, of B T rows. */
Test(bench, flops_are_those_of_the_cells_products) {
    static const struct {
        const char *cell;
        double gates;
    } cells[] = {{"rnn", 1}, {"gru", 3}, {"lstm", 4}, {"W1", 4}, {"W4", 3}, {"W5", 1}, {"W6", 4}};
    scratch s = scratch_new();
    for (int i = 0; i < 7; i++) {
        cJSON *json = BENCHED(&s, cells[i].cell, SMALL);
        char star[16];
        snprintf(star, sizeof star, "%s%s", cells[i].cell, cells[i].cell[0] == 'W' ? "*" : "");
        cr_expect_str_eq(name_of(json), star);
        expect_fields(json);
        expect_times(cJSON_GetObjectItem(json, "times"));
        cr_expect_eq(number(json, "threads"), 2);
        cr_expect_eq(number(json, "flops"), 3 * 2 * 3 * 4 * cells[i].gates * 6 * (5 + 6));
        cJSON_Delete(json);
    }
    scratch_free(&s);
}

Test(bench, layers_read_the_output_of_the_layer_below) {
    scratch s = scratch_new();
    cJSON *json = BENCHED(&s, "rnn", SMALL, "--layers", "3", "--type", "f64");
    expect_fields(json);
    cr_expect_eq(number(json, "flops"), 3 * 2 * 3 * 4 * 6 * ((5 + 6) + 2 * (6 + 6)));
    cr_expect_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(json, "type")), "f64");
    cJSON_Delete(json);
    scratch_free(&s);
}

/* Its initial states are constants: no product takes the gradient back to them. */
Test(bench, the_character_model_is_a_whole_step) {
    scratch s = scratch_new();
    cJSON *json = BENCHED(&s, "W8", SMALL);
    expect_fields(json);
    cr_expect_eq(number(json, "flops"), 3 * 2 * 3 * 4 * (4 * 6 * (5 + 6) + 64 * 6) - 2 * 3 * 4 * 6 * 6);
    cJSON_Delete(json);
    scratch_free(&s);
}

Test(bench, a_file_of_a_custom_cell_is_measured_too) {
    static const char text[] = "cell leaky\nconst k = 0.1\ninput x\nstate h\nh' = h + k*(tanh(W @ x + U @ h) - h)\n";
    scratch s = scratch_new();
    scratch_put(scratch_path(&s, "leaky.cell"), text, sizeof text - 1);
    cJSON *json = BENCHED(&s, s.path, SMALL, "--set", "k=0.2");
    expect_fields(json);
    cr_expect_eq(number(json, "flops"), 3 * 2 * 3 * 4 * 6 * (5 + 6));
    cJSON_Delete(json);
    scratch_free(&s);
}

Test(bench, a_chain_tells_what_recording_differentiating_and_evaluating_cost_an_op) {
    scratch s = scratch_new();
    cJSON *json = BENCHED(&s, "W7", "--steps", "300");
    expect_fields(json);
    cr_expect_eq(number(json, "ops"), 300);
    cr_expect_eq(number(json, "threads"), 1);
    static const char *const stages[] = {"record_ns_per_op", "differentiate_ns_per_op", "evaluate_ns_per_op",
                                        "total_ns_per_op",  "replay_ns_per_op",        "loop_ns_per_op"};
    for (int i = 0; i < 6; i++)
        cr_expect(number(json, stages[i]) > 0);
    cJSON_Delete(json);
    scratch_free(&s);
}

Test(bench, compiling_is_measured_at_three_sizes) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "bench", "--compile", "--json");
    cr_assert_eq(r.status, 0, "%s", r.err);
    int lines = 0;
    for (char *at = r.out, *end; (end = strchr(at, '\n')); at = end + 1, lines++) {
        *end = 0;
        cJSON *json = cJSON_Parse(at);
        cr_assert_not_null(json);
        cr_expect(fabs(number(json, "nodes") / pow(10, 3 + lines) - 1) < 0.2);
        cr_expect(number(json, "record_ns_per_node") > 0 && number(json, "again_ns_per_node") > 0 && number(json, "compile_ns_per_node") > 0);
        cJSON_Delete(json);
    }
    cr_expect_eq(lines, 3);
    ran_free(&r);
    scratch_free(&s);
}

/* One line of --conditions of a pair: what is under the condition is so, and what is beside it is not. */
static void expect_pair(const cJSON *json, const char *condition, const char *workload) {
    const bool bytes = strcmp(condition, "memory") == 0;
    const double value = number(json, bytes ? "bytes" : "seconds_median"), beside = number(json, bytes ? "beside_bytes" : "beside_seconds_median");
    cr_expect_str_eq(name_of(json), workload);
    cr_expect(value > 0 && beside > 0);
    cr_expect_float_eq(number(json, "ratio") * beside / value, 1, 1e-12);
    if (bytes) {
        cr_expect_gt(value, beside, "a workspace holds what is alive");
        return;
    }
    cr_expect(number(json, "seconds_min") > 0 && number(json, "seconds_min") <= value);
    cr_expect_eq(number(json, "beside_threads"), strcmp(workload, "W7*") == 0 ? 1 : 2);
    cr_expect_eq(number(json, "threads"), strcmp(condition, "threads") == 0 ? 1 : number(json, "beside_threads"));
    if (strcmp(condition, "vanishing") == 0) {
        const bool f64 = strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(json, "type")), "f64") == 0;
        cr_expect(number(json, "gradient") >= 0 && number(json, "gradient") < 100 * (f64 ? DBL_MIN : (double)FLT_MIN));
        cr_expect_gt(number(json, "beside_gradient"), 1e-10);
    }
}

Test(bench, what_time_and_memory_depend_on_is_measured_in_pairs_and_by_size) {
    static const char *const pairs[][2] = {{"threads", "W1*"},   {"threads", "W2*"},   {"threads", "W6*"},   {"neighbour", "W1*"},
                                           {"neighbour", "W5*"}, {"vanishing", "W5*"}, {"vanishing", "W7*"}, {"memory", "W1*"}};
    static const int64_t sizes[] = {2, 32, 256, 2048, 3, 24, 192};
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "bench", "--conditions", "--json", "--seconds", "0", "--threads", "2", "--batch", "3", "--steps", "2", "--input", "5", "--hidden", "6");
    cr_assert_eq(r.status, 0, "%s", r.err);
    int lines = 0;
    for (char *at = r.out, *end; (end = strchr(at, '\n')); at = end + 1, lines++) {
        *end = 0;
        cJSON *json = cJSON_Parse(at);
        cr_assert(json && lines < 15, "%s", at);
        const char *condition = cJSON_GetStringValue(cJSON_GetObjectItem(json, "condition"));
        cr_assert_not_null(condition, "%s", at);
        const char *by = lines < 12 ? "steps" : "batch";
        cr_expect_str_eq(condition, lines < 8 ? pairs[lines][0] : lines < 12 ? "steps" : "rows");
        if (lines < 8)
            expect_pair(json, condition, pairs[lines][1]);
        else
            cr_expect(number(json, by) == (double)sizes[lines - 8] && number(json, "nodes") > 0 && number(json, "compile_seconds") > 0 && number(json, "seconds_median") > 0 && number(json, "bytes") > 0, "%s", at);
        cJSON_Delete(json);
    }
    cr_expect_eq(lines, 15);
    ran_free(&r);
    scratch_free(&s);
}

/* A peer of ours, that says what another would. */
static void put_script(scratch *s, const char *name, const char *text) {
    scratch_put(scratch_path(s, name), text, strlen(text));
    cr_assert_eq(chmod(s->path, 0700), 0);
}

static void expect_peer(const cJSON *json, const char *key, const char *version, double median) {
    const cJSON *peer = cJSON_GetObjectItem(json, key);
    cr_assert(cJSON_IsObject(peer), "%s", key);
    cr_expect_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(peer, "version")), version);
    cr_expect_eq(number(peer, "seconds_median"), median);
    cr_expect_float_eq(number(peer, "ratio") * number(json, "seconds_median"), median, 1e-12);
}

Test(bench, a_peer_is_run_in_turn_and_its_ratio_is_its_time_over_ours) {
    scratch s = scratch_new();
    put_script(&s, "python3", "#!/bin/sh\n[ \"$1\" = -c ] && [ \"$3\" = GRU ] && [ \"$8\" = 6 ] || exit 1\n"
                              "echo ready 9.9 1\nwhile read -r line; do echo 0.25; done\n");
    char *path = strdup(getenv("PATH")), longer[4096];
    snprintf(longer, sizeof longer, "%s:%s", s.folder, path);
    setenv("PATH", longer, 1);
    cJSON *json = BENCHED(&s, "gru", SMALL, "--peers");
    setenv("PATH", path, 1);
    free(path);
    expect_peer(json, "pytorch", "9.9", 0.25);
    cr_expect_null(cJSON_GetObjectItem(json, "expert"), "it was not asked for");
    cJSON_Delete(json);
    scratch_free(&s);
}

Test(bench, a_program_of_ones_own_is_a_peer_and_its_median_is_reported) {
    scratch s = scratch_new();
    put_script(&s, "step", "#!/bin/sh\n[ \"$*\" = 'LSTM 2 3 4 5 6 1 0 0' ] || exit 1\necho ready own-1 1\n"
                           "n=0\nwhile read -r line; do n=$((n + 1)); echo $n; done\n");
    cJSON *json = BENCHED(&s, "lstm", SMALL, "--expert", s.path);
    expect_peer(json, "expert", "own-1", 4); /* of 1 to 7 */
    cr_expect_null(cJSON_GetObjectItem(json, "pytorch"), "it was not asked for");
    cJSON_Delete(json);
    scratch_free(&s);
}

/* Where it is built, it stands beside the program. */
Test(bench, onednn_is_a_peer_where_its_helper_is_built) {
    char helper[4096];
    const char *program = getenv("WENGERT_PROGRAM"), *slash = strrchr(program, '/');
    snprintf(helper, sizeof helper, "%.*s/onednn_peer", slash ? (int)(slash - program) : 1, slash ? program : ".");
    bool built = access(helper, X_OK) == 0;
    scratch s = scratch_new();
    const char *const cells[] = {"rnn", "gru", "lstm", "W6"};
    for (int i = 0; i < 4; i++) {
        cJSON *json = BENCHED(&s, cells[i], SMALL, "--peers");
        const cJSON *peer = cJSON_GetObjectItem(json, "onednn");
        cr_assert_not_null(peer, "it was asked for");
        if (cJSON_IsNull(peer))
            cr_expect(!built || i == 3, "%s: the helper does not answer", cells[i]);
        else
            cr_expect(i < 3 && number(peer, "seconds_median") > 0 && number(peer, "ratio") > 0);
        cJSON_Delete(json);
    }
    scratch_free(&s);
}

static void expect_in_table(scratch *s, const char *program, const char *part) {
    ran r = PROGRAM(s, "bench", "rnn", SMALL, "--seconds", "0", "--threads", "1", "--expert", program);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_not_null(strstr(r.out, part), "wanted '%s' in: %s", part, r.out);
    cr_expect_null(strstr(r.out, "0.00\n"), "a figure of nothing: %s", r.out);
    ran_free(&r);
}

Test(bench, the_table_says_which_peer_is_missing_and_why) {
    scratch s = scratch_new();
    expect_in_table(&s, scratch_path(&s, "absent"), "did not start");
    put_script(&s, "other", "#!/bin/sh\necho cannot\n");
    expect_in_table(&s, s.path, "has no such layer");
    put_script(&s, "dying", "#!/bin/sh\necho ready 1 1\nread -r line\necho 0.5\n");
    expect_in_table(&s, s.path, "stopped");
    put_script(&s, "mad", "#!/bin/sh\necho hello\nwhile read -r line; do echo 1; done\n");
    expect_in_table(&s, s.path, "did not start");
    scratch_free(&s);
}

Test(bench, products_alone_have_the_sizes_of_the_cells) {
    static const double want[4][3] = {{3, 6, 24}, {3, 24, 6}, {12, 5, 24}, {24, 12, 6}};
    scratch s = scratch_new();
    cJSON *json = BENCHED(&s, "lstm", SMALL);
    const cJSON *list = cJSON_GetObjectItem(json, "products");
    cr_assert_eq(cJSON_GetArraySize(list), 4);
    for (int i = 0; i < 4; i++) {
        const cJSON *product = cJSON_GetArrayItem(list, i);
        cr_expect_eq(number(product, "m"), want[i][0]);
        cr_expect_eq(number(product, "k"), want[i][1]);
        cr_expect_eq(number(product, "n"), want[i][2]);
        cr_expect(number(product, "flops") > 0);
    }
    cJSON_Delete(json);
    scratch_free(&s);
}

Test(bench, the_heaviest_kernels_are_printed_as_the_program_is) {
    scratch s = scratch_new();
    ran r = program_run(&s, (const char *const[]){"bench", "lstm", SMALL, "--seconds", "0", "--kernels", "3", NULL});
    cr_expect_eq(r.status, 0, "%s", r.err);
    const char *list = strstr(r.out, "the heaviest kernels");
    cr_assert_not_null(list, "%s", r.out);
    int lines = 0;
    double before = INFINITY;
    for (const char *at = strchr(list, '\n') + 1; strncmp(at, "  ", 2) == 0 && strchr(at, '%'); at = strchr(at, '\n') + 1) {
        double ms = strtod(at, NULL);
        cr_expect(ms <= before, "%s", list);
        cr_expect_not_null(strstr(at, "= "), "%s", list);
        before = ms;
        lines++;
    }
    cr_expect_eq(lines, 3, "%s", r.out);
    ran_free(&r);
    scratch_free(&s);
}

static void refused(int status, const char *part, const char *const *args) {
    scratch s = scratch_new();
    ran r = program_run(&s, args);
    cr_expect_eq(r.status, status, "%s: status %d", part, r.status);
    cr_expect(ran_complains(&r, "wengert bench: ", part), "wanted '%s' in: %s", part, r.err);
    ran_free(&r);
    scratch_free(&s);
}
#define REFUSED(status, part, ...) refused(status, part, (const char *const[]){"bench", __VA_ARGS__, NULL})

Test(bench, refuses_what_it_cannot_measure_in_one_line) {
    REFUSED(1, "no cell 'W9'", "W9");
    REFUSED(1, "no cell 'lstn'", "lstn");
    REFUSED(2, "--runs 3", "rnn", "--runs", "3");
    REFUSED(2, "--type f16", "rnn", "--type", "f16");
    REFUSED(2, "--hidden 0", "rnn", "--hidden", "0");
    REFUSED(2, "stand without", "W1", "--conditions");
    REFUSED(2, "stand without", "--compile", "--conditions");
    REFUSED(2, "stand without", "--foreign", "--peers");
    REFUSED(1, "k", "rnn", "--set", "k=1", "--steps", "2");
}

Test(bench, the_bridge_to_c_is_measured) {
    static const char *const told[] = {"closure of libffi", "beside wg_run", "other arrays", "beside wg_run", "other arrays", "beside wg_run",
                                       "other arrays", "through libffi", "libffi's own calls", "doubles alone", "op of arrays", "NaN"};
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "bench", "--foreign", "--json", "--seconds", "0");
    cr_assert_eq(r.status, 0, "%s", r.err);
    int lines = 0;
    for (char *at = r.out, *end; (end = strchr(at, '\n')); at = end + 1, lines++) {
        *end = 0;
        cJSON *json = cJSON_Parse(at);
        cr_assert_not_null(json);
        cr_assert_lt(lines, 12);
        const char *what = cJSON_GetStringValue(cJSON_GetObjectItem(json, "comparison"));
        cr_expect(what && strstr(what, told[lines]), "%s", at);
        cr_expect(number(json, "elements") > 0 && number(json, "plain_ns") > 0 && number(json, "bridged_ns") > 0, "%s", at);
        cJSON_Delete(json);
    }
    cr_expect_eq(lines, 12);
    ran_free(&r);
    scratch_free(&s);
}
