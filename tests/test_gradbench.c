/* test_gradbench.c: `gradbench`: the shape of the protocol's answers; the objective of lstm against a plain loop, and its gradient
 * against central differences of that loop; what it makes of messages that are none. */
#include "suite.h"

#include <cjson/cJSON.h>
#include <math.h>

#include "gradbench.h"
#include "spawned.h"

/* Runs the program on a text and gives its exit status and streams. */
static ran answered(scratch *s, const char *text) {
    char input[128];
    snprintf(input, sizeof input, "%s/messages", s->folder);
    scratch_put(input, text, strlen(text));
    ran r = program_run_with(s, getenv("GRADBENCH_PROGRAM"), input, (const char *const[]){NULL});
    remove(input);
    return r;
}

/* The one answer to one message. */
static cJSON *answer_to(const char *message) {
    scratch s = scratch_new();
    ran r = answered(&s, message);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect_str_eq(r.err, "");
    char *end = strchr(r.out, '\n');
    cr_expect(end && !end[1], "one line was wanted: %s", r.out);
    cJSON *json = cJSON_Parse(r.out);
    cr_assert_not_null(json, "%s", r.out);
    ran_free(&r);
    scratch_free(&s);
    return json;
}

static const cJSON *field(const cJSON *json, const char *key) { return cJSON_GetObjectItemCaseSensitive(json, key); }
static double number(const cJSON *json, const char *key) { return cJSON_GetNumberValue(field(json, key)); }

/* ---- the protocol ---- */

Test(gradbench, every_message_has_one_answer_with_its_id) {
    scratch s = scratch_new();
    ran r = answered(&s, "{\"id\":0,\"kind\":\"start\",\"eval\":\"hello\"}\n"
                         "{\"id\":1,\"kind\":\"define\",\"module\":\"hello\"}\n"
                         "\n"
                         "{\"id\":2,\"kind\":\"evaluate\",\"module\":\"hello\",\"function\":\"square\",\"input\":3}\n"
                         "{\"id\":3,\"kind\":\"analysis\",\"of\":2,\"valid\":true}\n"
                         "{\"id\":40,\"kind\":\"define\",\"module\":\"lstm\"}");
    static const int ids[] = {0, 1, 2, 3, 40};
    cr_expect_eq(r.status, 0, "%s", r.err);
    int lines = 0;
    for (char *at = r.out, *end; (end = strchr(at, '\n')); at = end + 1, lines++) {
        *end = 0;
        cJSON *json = cJSON_Parse(at);
        cr_assert(json && lines < 5, "%s", at);
        cr_expect_eq(number(json, "id"), ids[lines]);
        cr_expect_eq(cJSON_IsTrue(field(json, "success")), lines == 1 || lines == 2 || lines == 4);
        if (lines == 0)
            cr_expect_str_eq(cJSON_GetStringValue(field(json, "tool")), "wengert");
        cJSON_Delete(json);
    }
    cr_expect_eq(lines, 5);
    ran_free(&r);
    scratch_free(&s);
}

Test(gradbench, hello_squares_and_doubles_by_differentiating_the_square) {
    static const double x[] = {0, 1, -2.5, 1e100};
    for (int i = 0; i < 4; i++)
        for (int derivative = 0; derivative < 2; derivative++) {
            char message[256];
            snprintf(message, sizeof message,
                     "{\"id\":7,\"kind\":\"evaluate\",\"module\":\"hello\",\"function\":\"%s\",\"input\":%.17g}\n",
                     derivative ? "double" : "square", x[i]);
            cJSON *json = answer_to(message);
            cr_expect(cJSON_IsTrue(field(json, "success")));
            cr_expect_eq(number(json, "output"), derivative ? 2 * x[i] : x[i] * x[i]);
            cr_expect(cJSON_GetArraySize(field(json, "timings")) == 2); /* prepare, evaluate */
            cJSON_Delete(json);
        }
}

static void expect_failure(const char *message, const char *part) {
    cJSON *json = answer_to(message);
    const char *error = cJSON_GetStringValue(field(json, "error"));
    cr_expect(cJSON_IsFalse(field(json, "success")), "%s", message);
    cr_expect(error && strstr(error, part), "wanted '%s' in: %s", part, error ? error : "nothing");
    cr_expect_null(field(json, "output"));
    cr_expect_eq(number(json, "id"), 5);
    cJSON_Delete(json);
}
#define EVALUATE(module, function, input)                                                                                      \
    "{\"id\":5,\"kind\":\"evaluate\",\"module\":\"" module "\",\"function\":\"" function "\",\"input\":" input "}\n"
#define LSTM(main, extra, state, sequence)                                                                                     \
    EVALUATE("lstm", "jacobian",                                                                                               \
             "{\"main_params\":" main ",\"extra_params\":" extra ",\"state\":" state ",\"sequence\":" sequence "}")

Test(gradbench, what_it_cannot_do_is_answered_with_the_reason) {
    expect_failure("{\"id\":5,\"kind\":\"define\",\"module\":\"gmm\"}\n", "no module 'gmm'");
    expect_failure("{\"id\":5,\"kind\":\"define\"}\n", "no module");
    expect_failure("{\"id\":5,\"kind\":\"end\"}\n", "kind is start");
    expect_failure("{\"id\":5}\n", "kind is start");
    expect_failure(EVALUATE("lstm", "hessian", "{}"), "no function 'hessian' in a module 'lstm'");
    expect_failure(EVALUATE("hello", "objective", "1"), "no function 'objective' in a module 'hello'");
    expect_failure("{\"id\":5,\"kind\":\"evaluate\"}\n", "no function");
    expect_failure(EVALUATE("hello", "square", "\"one\""), "a number was wanted");
    expect_failure(EVALUATE("lstm", "jacobian", "{}"), "main_params");
    expect_failure(EVALUATE("lstm", "objective", "{\"min_runs\":0}"), "min_runs");
    expect_failure(EVALUATE("lstm", "objective", "{\"min_seconds\":\"1\"}"), "min_seconds");
}

Test(gradbench, data_of_other_shapes_is_refused_by_name) {
    expect_failure(LSTM("[[1,2,3,4]]", "[]", "[]", "[]"), "main_params");
    expect_failure(LSTM("[[1,2,3],[1,2,3]]", "[]", "[]", "[]"), "main_params");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3]]", "[]", "[]", "[]"), "main_params: row 1");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,null]]", "[]", "[]", "[]"), "main_params: row 1: not a number");
    expect_failure(LSTM("[[1,2,3,4],5]", "[]", "[]", "[]"), "main_params: row 1");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,4]]", "[[1],[2]]", "[]", "[]"), "extra_params: an array of 3");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,4]]", "[[1],[2],[3]]", "[[1]]", "[]"), "state: an array of 2");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,4]]", "[[1],[2],[3]]", "[[1],[2]]", "[]"), "sequence");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,4]]", "[[1],[2],[3]]", "[[1],[2]]", "[[1]]"), "sequence: at least two");
    expect_failure(LSTM("[[1,2,3,4],[1,2,3,4]]", "[[1],[2],[3]]", "[[1],[2]]", "[[1],[1,2]]"), "sequence: row 1");
}

static void expect_complaint(const char *text, const char *part) {
    scratch s = scratch_new();
    ran r = answered(&s, text);
    cr_expect_eq(r.status, 1, "%s: status %d", text, r.status);
    cr_expect(ran_complains(&r, "gradbench: line 1: ", part), "wanted '%s' in: %s", part, r.err);
    ran_free(&r);
    scratch_free(&s);
}

Test(gradbench, what_is_no_message_ends_it_with_the_line_and_the_reason) {
    expect_complaint("hello\n", "no JSON");
    expect_complaint("{\"id\":1,\"kind\":\"start\"\n", "no JSON");
    expect_complaint("{\"id\":1,\"kind\":\"sta", "no JSON");
    expect_complaint("\"\\ud800\"\n", "no JSON");
    expect_complaint("[]\n", "an id");
    expect_complaint("{\"id\":\"one\",\"kind\":\"start\"}\n", "an id");
    expect_complaint("null\n", "an id");
}

/* ---- lstm ---- */

static double *drawn(wg_random *random, int64_t count) {
    double *value = calloc((size_t)count, sizeof *value);
    for (int64_t i = 0; i < count; i++)
        value[i] = wg_random_normal(random);
    return value;
}

static lstm_data drawn_data(int64_t layers, int64_t steps, int64_t width) {
    wg_random random = {.seed = (uint64_t)(100 * layers + steps)};
    return (lstm_data){layers, steps, width, drawn(&random, 8 * layers * width), drawn(&random, 3 * width),
                       drawn(&random, 2 * layers * width), drawn(&random, steps * width)};
}

static void drawn_free(lstm_data *d) {
    free(d->main);
    free(d->extra);
    free(d->state);
    free(d->sequence);
}

static size_t put_rows(char *text, const char *key, int64_t rows, int64_t width, const double *value) {
    char *at = text + sprintf(text, "\"%s\":[", key);
    for (int64_t i = 0; i < rows * width; i++)
        at += sprintf(at, "%s%.17g%s", i % width ? "," : i ? ",[" : "[", value[i], i % width == width - 1 ? "]" : "");
    return (size_t)(at + sprintf(at, "],") - text);
}

static cJSON *evaluated(const lstm_data *d, const char *function, const char *more) {
    int64_t numbers = (10 * d->layers + 3 + d->steps) * d->width;
    char *text = malloc((size_t)numbers * 32 + 1024), *at = text;
    at += sprintf(at, "{\"id\":1,\"kind\":\"evaluate\",\"module\":\"lstm\",\"function\":\"%s\",\"input\":{", function);
    at += put_rows(at, "main_params", 2 * d->layers, 4 * d->width, d->main);
    at += put_rows(at, "extra_params", 3, d->width, d->extra);
    at += put_rows(at, "state", 2 * d->layers, d->width, d->state);
    at += put_rows(at, "sequence", d->steps, d->width, d->sequence);
    sprintf(at, "%s},\"description\":\"drawn\"}\n", more);
    cJSON *json = answer_to(text);
    cr_assert(cJSON_IsTrue(field(json, "success")), "%s", cJSON_GetStringValue(field(json, "error")));
    free(text);
    return json;
}

static const int64_t sizes[][3] = {{1, 2, 1}, {1, 9, 3}, {2, 40, 14}, {3, 17, 5}}; /* layers, steps, width */

Test(gradbench, lstm_objective_is_that_of_a_plain_loop) {
    for (int i = 0; i < 4; i++) {
        lstm_data d = drawn_data(sizes[i][0], sizes[i][1], sizes[i][2]);
        cJSON *json = evaluated(&d, "objective", "\"min_runs\":1,\"min_seconds\":0");
        double loop = lstm_loop(&d);
        cr_expect(fabs(loop) > 1e-3);
        cr_expect_float_eq(number(json, "output"), loop, 1e-13 * fmax(1, fabs(loop)));
        cJSON_Delete(json);
        drawn_free(&d);
    }
}

/* The order of the answer is that of main_params, then extra_params. */
Test(gradbench, lstm_jacobian_is_the_slope_of_a_plain_loop) {
    const double h = 1e-4;
    for (int i = 0; i < 4; i++) {
        lstm_data d = drawn_data(sizes[i][0], sizes[i][1], sizes[i][2]);
        cJSON *json = evaluated(&d, "jacobian", "\"runs\":1");
        const cJSON *item, *output = field(json, "output");
        int64_t main = 8 * d.layers * d.width, k = 0;
        cr_assert_eq(cJSON_GetArraySize(output), main + 3 * d.width);
        double largest = 0;
        cJSON_ArrayForEach(item, output) {
            double *at = k < main ? d.main + k : d.extra + (k - main), kept = *at, slope = 0;
            static const double weight[4] = {1, -8, 8, -1}; /* to the fourth order in h */
            for (int side = 0; side < 4; side++) {
                *at = kept + h * (side < 2 ? side - 2 : side - 1);
                slope += weight[side] * lstm_loop(&d) / (12 * h);
            }
            *at = kept;
            cr_expect_float_eq(cJSON_GetNumberValue(item), slope, 1e-10, "element %d: %g, not %g", (int)k,
                               cJSON_GetNumberValue(item), slope);
            largest = fmax(largest, fabs(slope));
            k++;
        }
        cr_expect(largest > 1e-3);
        cJSON_Delete(json);
        drawn_free(&d);
    }
}

Test(gradbench, every_run_asked_for_has_a_timing) {
    static const struct {
        const char *more;
        int least;
    } asked[] = {{"\"min_runs\":3,\"min_seconds\":0", 3}, {"\"runs\":5", 5}, {"\"min_runs\":2,\"min_seconds\":0.01", 2}};
    lstm_data d = drawn_data(1, 12, 4);
    for (int i = 0; i < 3; i++) {
        cJSON *json = evaluated(&d, "jacobian", asked[i].more);
        const cJSON *timing;
        int evaluations = 0, preparations = 0;
        double nanoseconds = 0;
        cJSON_ArrayForEach(timing, field(json, "timings")) {
            const char *name = cJSON_GetStringValue(field(timing, "name"));
            bool run = name && strcmp(name, "evaluate") == 0;
            evaluations += run;
            preparations += name && strcmp(name, "prepare") == 0;
            nanoseconds += run ? number(timing, "nanoseconds") : 0;
        }
        cr_expect_eq(preparations, 1);
        cr_expect(i == 2 ? nanoseconds + evaluations >= 0.01e9 : evaluations == asked[i].least, "%d runs", evaluations);
        cr_expect(evaluations >= asked[i].least);
        cJSON_Delete(json);
    }
    drawn_free(&d);
}

/* ---- --compare ---- */

Test(gradbench, compare_prints_the_gradients_time_over_the_loops) {
    scratch s = scratch_new();
    ran r = program_run_with(&s, getenv("GRADBENCH_PROGRAM"), "/dev/null", (const char *const[]){"--compare", "2", "30", "--seconds", "0", NULL});
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "2 layers, a sequence of 30,") && strstr(r.out, "jacobian") && strstr(r.out, "times the loop"), "%s", r.out);
    ran_free(&r);
    r = program_run_with(&s, getenv("GRADBENCH_PROGRAM"), "/dev/null", (const char *const[]){"--compare", "1", "x", NULL});
    cr_expect_eq(r.status, 2);
    cr_expect(strncmp(r.err, "usage: ", 7) == 0);
    ran_free(&r);
    scratch_free(&s);
}
