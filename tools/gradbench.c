/* gradbench.c: a tool of GradBench (https://github.com/gradbench/gradbench): it reads a message a
 * line on standard input and answers each with a line: `start`, `define` a module, `evaluate` a
 * function of it, `analysis`. Modules: hello and lstm.
 *
 *     gradbench [--threads N]                              speaks the protocol
 *     gradbench --compare LAYERS STEPS [--threads N] …     times lstm's gradient beside a plain
 * loop of its objective
 */
#include "gradbench.h"
#include "output.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <wengert/notation.h>

static int threads = 1;

static const cJSON *field(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool WG_PRINTF(2, 3) refuse(wg_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    error->status = WG_ARGUMENT;
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- hello ---- */

/* y = x^2, or its derivative. */
static bool record_hello(recorded *r, const cJSON *input, bool gradient, wg_error *error) {
    if (!cJSON_IsNumber(input))
        return refuse(error, "input: a number was wanted");
    wg_var x = recorded_leaf(r, 0, NULL, &input->valuedouble), y = square(x);
    if (gradient)
        wg_grad(y, 1, &x, &y);
    return recorded_compile(r, 1, &y, threads, error);
}

static bool record_square(recorded *r, const cJSON *input, wg_error *error) {
    return record_hello(r, input, false, error);
}
static bool record_double(recorded *r, const cJSON *input, wg_error *error) {
    return record_hello(r, input, true, error);
}

/* ---- lstm ---- */

/* An array of *rows arrays of *width numbers each; either is set if it is 0. NULL, and *error says
 * why. */
static double *read_rows(const cJSON *input, const char *key, int64_t *rows, int64_t *width,
                         wg_error *error) {
    const cJSON *list = field(input, key), *row, *item;
    int64_t found = cJSON_GetArraySize(list), at = 0;
    *rows = *rows ? *rows : found;
    *width = *width || !found ? *width : cJSON_GetArraySize(list->child);
    if (!cJSON_IsArray(list) || found != *rows || *rows == 0 || *width == 0) {
        refuse(error,
               *rows ? "input: %s: an array of %lld arrays was wanted"
                     : "input: %s: an array of arrays was wanted",
               key, (long long)*rows);
        return NULL;
    }
    double *value = allocate((size_t)(*rows * *width), sizeof *value);
    cJSON_ArrayForEach(row, list) {
        if (!cJSON_IsArray(row) || cJSON_GetArraySize(row) != *width) {
            refuse(error, "input: %s: row %lld: %lld numbers were wanted", key,
                   (long long)(at / *width), (long long)*width);
            break;
        }
        cJSON_ArrayForEach(item, row) {
            if (!cJSON_IsNumber(item))
                refuse(error, "input: %s: row %lld: not a number", key, (long long)(at / *width));
            value[at++] = item->valuedouble;
        }
    }
    if (error->status == WG_OK)
        return value;
    free(value);
    return NULL;
}

static bool read_lstm(const cJSON *input, lstm_data *data, wg_error *error) {
    int64_t rows = 0, gates = 0, three = 3;
    if (!(data->main = read_rows(input, "main_params", &rows, &gates, error)))
        return false;
    if (rows % 2 || gates % 4)
        return refuse(error,
                      "input: main_params: an even number of rows was wanted, of four parts each");
    data->layers = rows / 2;
    data->width = gates / 4;
    if (!(data->extra = read_rows(input, "extra_params", &three, &data->width, error)) ||
        !(data->state = read_rows(input, "state", &rows, &data->width, error)) ||
        !(data->sequence = read_rows(input, "sequence", &data->steps, &data->width, error)))
        return false;
    return data->steps > 1 || refuse(error, "input: sequence: at least two rows were wanted");
}

static bool record_lstm(recorded *r, const cJSON *input, bool gradient, wg_error *error) {
    lstm_data data = {0};
    bool fine = read_lstm(input, &data, error) && lstm_record(r, &data, gradient, threads, error);
    lstm_data_free(&data);
    return fine;
}

static bool record_objective(recorded *r, const cJSON *input, wg_error *error) {
    return record_lstm(r, input, false, error);
}
static bool record_jacobian(recorded *r, const cJSON *input, wg_error *error) {
    return record_lstm(r, input, true, error);
}

/* ---- functions ---- */

static const struct {
    const char *module, *name;
    bool (*record)(recorded *r, const cJSON *input, wg_error *error);
    bool number; /* the output is one, not an array */
} functions[] = {
    {"hello", "square", record_square, true},
    {"hello", "double", record_double, true},
    {"lstm", "objective", record_objective, true},
    {"lstm", "jacobian", record_jacobian, false},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static bool text_is(const cJSON *text, const char *wanted) {
    return cJSON_IsString(text) && strcmp(text->valuestring, wanted) == 0;
}

static const char *text_of(const cJSON *text) {
    return cJSON_IsString(text) ? text->valuestring : "?";
}

/* How often to run: input's min_runs (in older evals: runs) and min_seconds; once if it says
 * nothing. */
typedef struct wanted {
    double runs, seconds;
} wanted;

static bool read_wanted(const cJSON *input, wanted *w, wg_error *error) {
    const cJSON *least = field(input, "min_runs"), *runs = least ? least : field(input, "runs");
    const cJSON *time = field(input, "min_seconds");
    *w = (wanted){runs ? runs->valuedouble : 1, time ? time->valuedouble : 0};
    if ((runs && !cJSON_IsNumber(runs)) || !(w->runs >= 1))
        return refuse(error, "input: min_runs: a number of at least 1 was wanted");
    if ((time && !cJSON_IsNumber(time)) || !(w->seconds >= 0))
        return refuse(error, "input: min_seconds: a number of at least 0 was wanted");
    return true;
}

/* What one evaluation gave: values of all outputs, seconds of each run. */
typedef struct evaluation {
    recorded program;
    double prepared, *spent, *value;
    int64_t runs, values;
} evaluation;

static void keep_outputs(evaluation *e) {
    int64_t n = 0;
    for (int i = 0; i < wg_plan_output_count(e->program.plan); i++) {
        const wg_tensor *y = wg_plan_output(e->program.plan, i);
        int64_t count = wg_tensor_shape(y)->count;
        memcpy(e->value + n, wg_tensor_data(y), (size_t)count * sizeof *e->value);
        n += count;
    }
}

/* A run is the whole computation, outputs copied out; recording and compiling are its preparation.
 */
static bool evaluate(evaluation *e, int f, const cJSON *input, wg_error *error) {
    wanted w;
    if (!read_wanted(input, &w, error))
        return false;
    double start = seconds(), all = 0;
    if (!functions[f].record(&e->program, input, error))
        return false;
    e->prepared = seconds() - start;
    for (int i = 0; i < wg_plan_output_count(e->program.plan); i++)
        e->values += wg_tensor_shape(wg_plan_output(e->program.plan, i))->count;
    e->value = allocate((size_t)e->values, sizeof *e->value);
    while ((double)e->runs < w.runs || all < w.seconds) {
        start = seconds();
        if (wg_run(e->program.plan, error) != WG_OK)
            return false;
        keep_outputs(e);
        double spent = seconds() - start;
        if ((e->runs & (e->runs - 1)) == 0) /* its room doubles */
            e->spent = grow(e->spent, (size_t)(e->runs ? 2 * e->runs : 1), sizeof *e->spent);
        e->spent[e->runs++] = spent;
        all += spent;
    }
    return true;
}

static void evaluation_free(evaluation *e) {
    recorded_free(&e->program);
    free(e->spent);
    free(e->value);
}

/* ---- messages ---- */

static void put_timing(json *j, const char *name, double spent) {
    json_open(j, '{');
    json_put_text(j, "name", name);
    json_put_integer(j, "nanoseconds", (int64_t)(spent * 1e9));
    json_close(j, '}');
}

static void put_failure(json *j, const char *why) {
    json_put_bool(j, "success", false);
    json_put_text(j, "error", why);
}

static void put_evaluation(json *j, const evaluation *e, bool number) {
    json_put_bool(j, "success", true);
    json_key(j, "output");
    if (!number)
        json_open(j, '[');
    for (int64_t i = 0; i < e->values; i++)
        json_number(j, e->value[i]);
    if (!number)
        json_close(j, ']');
    json_key(j, "timings");
    json_open(j, '[');
    put_timing(j, "prepare", e->prepared);
    for (int64_t i = 0; i < e->runs; i++)
        put_timing(j, "evaluate", e->spent[i]);
    json_close(j, ']');
}

static void answer_start(json *j, const cJSON *message) {
    (void)message;
    json_put_text(j, "tool", "wengert");
}

static void answer_define(json *j, const cJSON *message) {
    const cJSON *module = field(message, "module");
    char why[256];
    for (int f = 0; f < FUNCTIONS; f++)
        if (text_is(module, functions[f].module)) {
            json_put_bool(j, "success", true);
            return;
        }
    snprintf(why, sizeof why, "there is no module '%s' here", text_of(module));
    put_failure(j, why);
}

static void answer_evaluate(json *j, const cJSON *message) {
    const cJSON *module = field(message, "module"), *function = field(message, "function");
    wg_error error = {0};
    evaluation e = {0};
    int f = 0;
    while (f < FUNCTIONS &&
           !(text_is(module, functions[f].module) && text_is(function, functions[f].name)))
        f++;
    if (f == FUNCTIONS)
        refuse(&error, "there is no function '%s' in a module '%s' here", text_of(function),
               text_of(module));
    if (f < FUNCTIONS && evaluate(&e, f, field(message, "input"), &error))
        put_evaluation(j, &e, functions[f].number);
    else
        put_failure(j, error.text[0] ? error.text : wg_status_sentence(error.status));
    evaluation_free(&e);
}

static void answer_analysis(json *j, const cJSON *message) {
    (void)j;
    (void)message;
}

static const struct {
    const char *kind;
    void (*answer)(json *j, const cJSON *message);
} kinds[] = {
    {"start", answer_start},
    {"define", answer_define},
    {"evaluate", answer_evaluate},
    {"analysis", answer_analysis},
};

/* False, having said why, if the line is no message: an answer needs its id. */
static bool answer(const char *line, int64_t number) {
    cJSON *message = cJSON_Parse(line);
    const cJSON *id = field(message, "id"), *kind = field(message, "kind");
    if (!cJSON_IsNumber(id)) {
        fprintf(stderr, "gradbench: line %lld: %s\n", (long long)number,
                message ? "a message has an id, a number" : "this is no JSON");
        cJSON_Delete(message);
        return false;
    }
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_integer(&j, "id", (int64_t)id->valuedouble);
    size_t k = 0, count = sizeof kinds / sizeof kinds[0];
    while (k < count && !text_is(kind, kinds[k].kind))
        k++;
    if (k < count)
        kinds[k].answer(&j, message);
    else
        put_failure(&j, "a message's kind is start, define, evaluate or analysis");
    json_close(&j, '}');
    json_end_line(&j);
    fflush(stdout);
    cJSON_Delete(message);
    return true;
}

static int serve(void) {
    char *line = NULL;
    size_t room = 0;
    bool fine = true;
    for (int64_t number = 1; fine && getline(&line, &room, stdin) >= 0; number++)
        fine = line[strspn(line, " \t\r\n")] == 0 || answer(line, number);
    free(line);
    return fine ? 0 : 1;
}

/* ---- the command line ---- */

static int usage(void) {
    fprintf(stderr, "usage: gradbench [--threads N]\n"
                    "       gradbench --compare LAYERS STEPS [--threads N] [--seconds S]\n"
                    "Speaks GradBench's protocol over standard input and output: modules hello and "
                    "lstm. Or times the gradient\n"
                    "of lstm beside a plain C loop that computes the objective, in batches of S "
                    "seconds (0.1). One thread unless\n"
                    "told otherwise.\n");
    return 2;
}

/* A number in [least, most]. */
static bool read_number(const char *word, double least, double most, double *number) {
    char *end;
    if (!word)
        return false;
    *number = strtod(word, &end);
    return end > word && *end == 0 && *number >= least && *number <= most;
}

/* A whole one. */
static bool read_count(const char *word, double least, double most, double *count) {
    return read_number(word, least, most, count) && (double)(int64_t)*count == *count;
}

int main(int argc, char **argv) {
    double layers = 0, steps = 0, count = 1, batch = 0.1;
    for (int i = 1; i < argc; i++) { /* argv ends with NULL */
        if (strcmp(argv[i], "--threads") == 0 && read_count(argv[i + 1], 1, 1024, &count))
            i++;
        else if (strcmp(argv[i], "--seconds") == 0 && read_number(argv[i + 1], 0, 3600, &batch))
            i++;
        else if (strcmp(argv[i], "--compare") == 0 && read_count(argv[i + 1], 1, 1024, &layers) &&
                 read_count(argv[i + 2], 2, 1 << 20, &steps))
            i += 2;
        else
            return usage();
    }
    threads = (int)count;
    return layers > 0 ? lstm_compare((int64_t)layers, (int64_t)steps, threads, batch) : serve();
}
