/* test_train.c: `wengert train` and `sample`, run as a user runs them, on tiny models. */
#include "suite.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "spawned.h"
#include "wengert.h"

typedef struct array {
    const char *name;
    wg_dtype dtype;
    int rank;
    int64_t dim[3];
} array;

static const char sentence[] = "the quick brown fox jumps over the lazy dog; the dog, being lazy, did not mind at all.\n";

/* A text of about 4000 characters in the folder; its path. */
static const char *put_text(scratch *s, char path[128]) {
    char text[4096] = "";
    for (size_t size = 0; size + sizeof sentence < sizeof text; size += sizeof sentence - 1)
        memcpy(text + size, sentence, sizeof sentence);
    snprintf(path, 128, "%s/text.txt", s->folder);
    scratch_put(path, text, strlen(text));
    return path;
}

static const char *in(const scratch *s, const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", s->folder, name);
    return path;
}

#define SMALL "--hidden", "12", "--embed", "6", "--batch", "4", "--length", "10", "--threads", "1", "--save-seconds", "0"

/* Whether two model files hold the same tensors, bit for bit, and the same training state. */
static void expect_same_models(const char *a, const char *b) {
    wg_error error = {0};
    wg_params *x = wg_params_load(NULL, a, &error), *y = wg_params_load(NULL, b, &error);
    cr_assert(x && y, "%s", error.text);
    cr_assert_eq(wg_params_count(x), wg_params_count(y));
    for (int i = 0; i < wg_params_count(x); i++) {
        const wg_tensor *p = wg_params_tensor(x, i), *q = wg_params_find(y, wg_params_name(x, i));
        cr_assert(q && wg_tensor_bytes(p) == wg_tensor_bytes(q), "%s", wg_params_name(x, i));
        cr_expect_eq(memcmp(wg_tensor_data(p), wg_tensor_data(q), wg_tensor_bytes(p)), 0, "%s differs", wg_params_name(x, i));
    }
    static const char *const keys[] = {"train.step", "train.best", "train.since_best", "vocabulary", "train.data"};
    for (int i = 0; i < 5; i++) {
        const char *p = wg_params_meta(x, keys[i]), *q = wg_params_meta(y, keys[i]);
        cr_expect((!p && !q) || (p && q && strcmp(p, q) == 0), "%s: %s, %s", keys[i], p, q);
    }
    wg_params_free(x);
    wg_params_free(y);
}

/* The log without the times in it, in place. */
static char *timeless(char *log) {
    char *to = log;
    for (const char *from = log; *from;) {
        if (strncmp(from, "\"seconds\":", 10) == 0)
            from += strcspn(from, ",}\n");
        else
            *to++ = *from++;
    }
    *to = 0;
    return log;
}

static void expect_same_logs(const char *a, const char *b) {
    size_t n, m;
    char *x = scratch_get(a, &n), *y = scratch_get(b, &m);
    cr_assert(x && y);
    cr_expect_str_eq(timeless(x), timeless(y));
    free(x);
    free(y);
}

/* Starts the program and leaves it running. */
static pid_t program_start(const char *const *args) {
    const char *argv[64] = {getenv("WENGERT_PROGRAM")};
    pid_t child;
    posix_spawn_file_actions_t actions;
    for (int n = 1; args[n - 1] && n < 63; n++)
        argv[n] = args[n - 1];
    posix_spawn_file_actions_init(&actions);
    for (int stream = 0; stream < 3; stream++)
        posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", stream ? 1 : 0, 0);
    if (posix_spawn(&child, argv[0], &actions, NULL, (char **)argv, environ) != 0)
        abort();
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

static void wait_for_file(const char *path, size_t least) {
    for (int i = 0; i < 20000; i++) {
        FILE *file = fopen(path, "rb");
        bool there = file && fseek(file, 0, SEEK_END) == 0 && (size_t)ftell(file) >= least;
        if (file)
            fclose(file);
        if (there)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static int end_of(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool good_run(const ran *r) {
    cr_expect_eq(r->status, 0, "status %d: %s", r->status, r->err);
    return r->status == 0;
}

/* ---- what a run leaves ---- */

Test(train, text_is_learnt_and_the_log_tells_every_step) {
    scratch s = scratch_new();
    char text[128], model[128], log[128];
    ran r = PROGRAM(&s, "train", put_text(&s, text), SMALL, "--steps", "120", "--validate-every", "40", "--lr", "0.01",
                    "--output", in(&s, "m.safetensors", model));
    cr_assert(good_run(&r));
    cr_expect(strstr(r.out, "bits per character"));
    cr_expect(strstr(r.out, "layer0.U_f"), "the parameters are listed");
    size_t size;
    char *lines = scratch_get(in(&s, "m.jsonl", log), &size);
    int steps = 0, validations = 0;
    double first = 0, last = 0;
    for (char *line = lines; line && *line; line = strchr(line, '\n') + 1) {
        double loss, norm, rate, time;
        char clipped[8];
        int step;
        long long sequences;
        if (sscanf(line, "{\"step\":%d,\"loss\":%lf,\"gradient_norm\":%lf,\"clipped\":%7[a-z],\"learning_rate\":%lf,"
                         "\"seconds\":%lf,\"sequences\":%lld}", &step, &loss, &norm, clipped, &rate, &time, &sequences) == 7) {
            cr_assert_eq(step, ++steps);
            cr_expect_eq(sequences, 4 * step);
            cr_expect_float_eq(rate, 0.01, 1e-12);
            cr_expect_eq(strcmp(clipped, "true") == 0, norm > 1);
            first = step == 1 ? loss : first;
            last = loss;
        } else {
            cr_expect(sscanf(line, "{\"step\":%d,\"validation_loss\":%lf,", &step, &loss) == 2, "%.80s", line);
            cr_expect_eq(step, 40 * ++validations);
        }
    }
    cr_expect_eq(steps, 120);
    cr_expect_eq(validations, 3);
    cr_expect(first > 4.5 && last < 0.75 * first, "%g to %g bits", first, last);
    free(lines);
    ran_free(&r);
    scratch_free(&s);
}

Test(train, samples_continue_a_prompt_and_follow_the_seed) {
    scratch s = scratch_new();
    char text[128], model[128];
    ran r = PROGRAM(&s, "train", put_text(&s, text), SMALL, "--steps", "20", "--output", in(&s, "m.safetensors", model));
    cr_assert(good_run(&r));
    ran_free(&r);
    ran a = PROGRAM(&s, "sample", model, "--prompt", "the dog", "--length", "40", "--seed", "3", "--threads", "1");
    ran b = PROGRAM(&s, "sample", model, "--prompt", "the dog", "--length", "40", "--seed", "3", "--threads", "1");
    ran c = PROGRAM(&s, "sample", model, "--prompt", "the dog", "--length", "40", "--seed", "4", "--threads", "1");
    cr_expect(good_run(&a));
    cr_expect_eq(strlen(a.out), 7 + 40 + 1);
    cr_expect(strncmp(a.out, "the dog", 7) == 0);
    cr_expect_str_eq(a.out, b.out);
    cr_expect(strcmp(a.out, c.out) != 0);
    ran d = PROGRAM(&s, "sample", model, "--prompt", "THE", "--threads", "1");
    cr_expect_eq(d.status, 1);
    cr_expect(ran_complains(&d, "wengert sample: ", "never saw byte 0x54"), "%s", d.err);
    ran_free(&a);
    ran_free(&b);
    ran_free(&c);
    ran_free(&d);
    scratch_free(&s);
}

Test(train, every_task_trains_and_names_its_trivial_answer) {
    static const char *const named[][3] = {
        {"adding", "mse", "0.1667"}, {"copy", "nats", "0.6931"}, {"order", "nats", "1.3863"}, {"parity", "nats", "0.6931"}};
    scratch s = scratch_new();
    char model[128];
    for (int i = 0; i < 4; i++) {
        ran r = PROGRAM(&s, "train", "--task", named[i][0], "--length", "10", "--hidden", "8", "--batch", "8", "--steps", "3",
                        "--threads", "1", "--output", in(&s, "m.safetensors", model));
        cr_expect(good_run(&r), "%s", named[i][0]);
        cr_expect(strstr(r.out, named[i][1]) && (i == 1 || strstr(r.out, named[i][2])), "%s: %s", named[i][0], r.out);
        cr_expect_eq(strstr(r.out, "accuracy") != NULL, i > 0);
        ran_free(&r);
    }
    ran r = PROGRAM(&s, "sample", model);
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert sample: ", "not a model of text"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

/* ---- going on ---- */

#define WHOLE SMALL, "--cell", "gru", "--layers", "2", "--validate-every", "7", "--patience", "100", "--schedule", "cosine", \
              "--warm-up", "5", "--decay-every", "50"

Test(train, resumed_run_has_the_weights_and_the_log_of_one_never_stopped) {
    scratch s = scratch_new();
    char text[128], a[128], b[128], la[128], lb[128];
    put_text(&s, text);
    in(&s, "a.safetensors", a);
    in(&s, "b.safetensors", b);
    ran r = PROGRAM(&s, "train", text, WHOLE, "--steps", "130", "--output", a);
    cr_assert(good_run(&r));
    ran_free(&r);
    r = PROGRAM(&s, "train", text, WHOLE, "--steps", "33", "--output", b);
    cr_assert(good_run(&r));
    ran_free(&r);
    r = PROGRAM(&s, "train", "--resume", "--steps", "91", "--threads", "1", "--output", b);
    cr_assert(good_run(&r));
    cr_expect(strstr(r.out, "going on after step 33"));
    ran_free(&r);
    r = PROGRAM(&s, "train", text, WHOLE, "--resume", "--steps", "130", "--output", b);
    cr_assert(good_run(&r));
    ran_free(&r);
    expect_same_models(a, b);
    expect_same_logs(in(&s, "a.jsonl", la), in(&s, "b.jsonl", lb));
    scratch_free(&s);
}

/* One run of `first` steps, resumed to `steps`, against one of `steps`. */
static void resumes(scratch *s, const char *const *args, const char *first, const char *steps) {
    char a[128], b[128];
    const char *whole[48], *begun[48];
    int n = 0;
    for (; args[n]; n++)
        whole[n] = begun[n] = args[n];
    const char *const more[] = {"--threads", "1", "--save-seconds", "0", "--validate-every", "6", "--steps"};
    for (int i = 0; i < 7; i++, n++)
        whole[n] = begun[n] = more[i];
    whole[n] = steps;
    begun[n] = first;
    whole[n + 1] = begun[n + 1] = "--output";
    whole[n + 2] = in(s, "a.safetensors", a);
    begun[n + 2] = in(s, "b.safetensors", b);
    whole[n + 3] = begun[n + 3] = NULL;
    ran r = program_run(s, whole);
    cr_assert(good_run(&r));
    ran_free(&r);
    r = program_run(s, begun);
    cr_assert(good_run(&r));
    ran_free(&r);
    r = PROGRAM(s, "train", "--resume", "--steps", steps, "--threads", "1", "--output", b);
    cr_assert(good_run(&r));
    ran_free(&r);
    expect_same_models(a, b);
}

static void put_arrays(const char *path, const array *list);

Test(train, draws_and_the_order_of_arrays_go_on_where_they_were) {
    static const char text[] = "cell dropping\ninput x\nstate h\nh' = tanh(W @ dropout(x, 0.3) + U @ dropout(h, 0.5) + b)\n";
    scratch s = scratch_new();
    char cell[128], data[128];
    scratch_put(in(&s, "dropping.cell", cell), text, sizeof text - 1);
    put_arrays(in(&s, "d.safetensors", data),
               (const array[]){{"x", WG_F32, 3, {40, 5, 3}}, {"y", WG_F32, 3, {40, 5, 2}}, {0}});
    resumes(&s, (const char *const[]){"train", "--data", data, "--cell", cell, "--hidden", "6", "--batch", "8", NULL}, "7", "19");
    resumes(&s, (const char *const[]){"train", "--task", "order", "--length", "12", "--cell", cell, "--hidden", "6", NULL}, "4",
            "9");
    scratch_free(&s);
}

Test(train, killed_runs_lose_no_file_and_come_to_the_same_weights) {
    scratch s = scratch_new();
    char text[128], a[128], b[128], la[128], lb[128];
    put_text(&s, text);
    in(&s, "a.safetensors", a);
    in(&s, "b.safetensors", b);
    in(&s, "b.jsonl", lb);
    ran r = PROGRAM(&s, "train", text, WHOLE, "--steps", "400", "--save-every", "3", "--output", a);
    cr_assert(good_run(&r));
    ran_free(&r);
    for (int kill_at = 0; kill_at < 6; kill_at++) {
        pid_t child = program_start((const char *const[]){"train", text, WHOLE, "--steps", "400", "--save-every", "3",
                                                          "--resume", "--output", b, NULL});
        wait_for_file(lb, (size_t)(kill_at * 5000 + kill_at * 377));
        kill(child, SIGKILL);
        end_of(child);
    }
    r = PROGRAM(&s, "train", text, WHOLE, "--steps", "400", "--save-every", "3", "--resume", "--output", b);
    cr_assert(good_run(&r));
    ran_free(&r);
    expect_same_models(a, b);
    expect_same_logs(in(&s, "a.jsonl", la), lb);
    scratch_free(&s);
}

Test(train, an_interrupt_saves_and_ends_cleanly) {
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        scratch s = scratch_new();
        char text[128], a[128], b[128], log[128];
        put_text(&s, text);
        in(&s, "a.safetensors", a);
        in(&s, "b.safetensors", b);
        pid_t child = program_start(
            (const char *const[]){"train", text, SMALL, "--steps", "100000000", "--output", b, NULL});
        wait_for_file(in(&s, "b.jsonl", log), 2000);
        kill(child, signals[i]);
        cr_expect_eq(end_of(child), 0);
        wg_params *file = wg_params_load(NULL, b, NULL);
        cr_assert(file && wg_params_meta(file, "train.step"));
        char steps[32];
        snprintf(steps, sizeof steps, "%s", wg_params_meta(file, "train.step"));
        wg_params_free(file);
        cr_expect(atoi(steps) > 5, "%s", steps);
        ran r = PROGRAM(&s, "train", text, SMALL, "--steps", steps, "--output", a);
        cr_assert(good_run(&r));
        ran_free(&r);
        expect_same_models(a, b);
        scratch_free(&s);
    }
}

Test(train, resuming_refuses_other_data_and_other_arguments) {
    scratch s = scratch_new();
    char text[128], other[128], model[128];
    put_text(&s, text);
    scratch_put(in(&s, "other.txt", other), text, 100);
    ran r = PROGRAM(&s, "train", text, SMALL, "--steps", "5", "--output", in(&s, "m.safetensors", model));
    cr_assert(good_run(&r));
    ran_free(&r);
    r = PROGRAM(&s, "train", "--resume", "--hidden", "13", "--output", model);
    cr_expect_eq(r.status, 2);
    cr_expect(ran_complains(&r, "wengert train: ", "--hidden cannot change"), "%s", r.err);
    ran_free(&r);
    char longer[4200] = "";
    memset(longer, 'e', 4100);
    scratch_put(other, longer, 4100);
    r = PROGRAM(&s, "train", other, "--resume", "--steps", "9", "--output", model);
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert train: ", "other data"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

Test(train, stops_early_and_keeps_the_best_weights) {
    scratch s = scratch_new();
    char text[128], model[128];
    ran r = PROGRAM(&s, "train", put_text(&s, text), SMALL, "--lr", "0", "--patience", "2", "--validate-every", "5", "--steps",
                    "1000", "--output", in(&s, "m.safetensors", model));
    cr_assert(good_run(&r));
    cr_expect(strstr(r.out, "stopped early: 2 validations"), "%s", r.out);
    cr_expect(strstr(r.out, "step 15 "), "%s", r.out);
    ran_free(&r);
    scratch_free(&s);
}

Test(train, weights_start_from_a_model) {
    scratch s = scratch_new();
    char text[128], a[128], b[128];
    put_text(&s, text);
    ran r = PROGRAM(&s, "train", text, SMALL, "--seed", "5", "--steps", "0", "--output", in(&s, "a.safetensors", a));
    cr_assert(good_run(&r));
    ran_free(&r);
    r = PROGRAM(&s, "train", text, "--batch", "4", "--length", "10", "--threads", "1", "--weights", a, "--steps", "0", "--output",
                in(&s, "b.safetensors", b));
    cr_assert(good_run(&r));
    ran_free(&r);
    wg_error error = {0};
    wg_model *x = wg_model_load(NULL, a, NULL, &error), *y = wg_model_load(NULL, b, NULL, &error);
    cr_assert(x && y, "%s", error.text);
    for (int i = 0; i < wg_params_count(wg_model_params(x)); i++) {
        const wg_tensor *p = wg_params_tensor(wg_model_params(x), i), *q = wg_params_tensor(wg_model_params(y), i);
        cr_expect_eq(memcmp(wg_tensor_data(p), wg_tensor_data(q), wg_tensor_bytes(p)), 0);
    }
    wg_model_free(x);
    wg_model_free(y);
    scratch_free(&s);
}

/* ---- text ---- */

Test(train, folders_are_read_and_binary_files_skipped_with_a_note) {
    scratch s = scratch_new();
    char text[128], binary[128], model[128];
    put_text(&s, text);
    scratch_put(in(&s, "picture.bin", binary), "\x89PNG\0\1\2\3", 8);
    ran r = PROGRAM(&s, "train", s.folder, SMALL, "--steps", "1", "--output", in(&s, ".hidden.safetensors", model));
    cr_expect(good_run(&r));
    cr_expect(strstr(r.err, "picture.bin is not text and was skipped"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

/* ---- arrays ---- */

/* Writes arrays of small numbers, ended by one without a name. */
static void put_arrays(const char *path, const array *list) {
    wg_params *set = wg_params_new(NULL);
    wg_random random = {.seed = 1};
    for (; list->name; list++) {
        wg_tensor *tensor = wg_tensor_new(NULL, list->dtype, list->rank, list->dim);
        bool length = strcmp(list->name, "lengths") == 0;
        for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
            wg_tensor_set(tensor, i, list->dtype == WG_I32 ? length + (double)wg_random_below(&random, 4)
                                                           : wg_random_uniform(&random));
        wg_params_add(set, list->name, tensor);
        wg_tensor_free(tensor);
    }
    cr_assert_eq(wg_params_save(set, path, NULL), WG_OK);
    wg_params_free(set);
}

#define ON_ARRAYS "--hidden", "6", "--batch", "8", "--steps", "6", "--threads", "1", "--save-seconds", "0"

static void trains_arrays(const array *list, const char *loss, const char *unit) {
    scratch s = scratch_new();
    char data[128], model[128];
    put_arrays(in(&s, "d.safetensors", data), list);
    in(&s, "m.safetensors", model);
    ran r = loss ? PROGRAM(&s, "train", "--data", data, ON_ARRAYS, "--loss", loss, "--output", model)
                 : PROGRAM(&s, "train", "--data", data, ON_ARRAYS, "--output", model);
    cr_expect(good_run(&r) && strstr(r.out, unit), "%s: %s", unit, r.out);
    ran_free(&r);
    scratch_free(&s);
}
#define TRAINS(loss, unit, ...) trains_arrays((const array[]){__VA_ARGS__, {0}}, loss, unit)

Test(train, arrays_of_every_shape_have_their_loss) {
    TRAINS(NULL, " mse", {"x", WG_F32, 3, {40, 5, 3}}, {"y", WG_F32, 3, {40, 5, 2}});
    TRAINS(NULL, " mse", {"x", WG_F64, 3, {40, 5, 3}}, {"y", WG_F64, 2, {40, 2}}, {"lengths", WG_I32, 1, {40}});
    TRAINS(NULL, " nats", {"x", WG_I32, 2, {40, 5}}, {"y", WG_I32, 2, {40, 5}}, {"mask", WG_F32, 2, {40, 5}});
    TRAINS(NULL, " nats", {"x", WG_I32, 2, {40, 5}}, {"y", WG_I32, 1, {40}}, {"lengths", WG_I32, 1, {40}});
    TRAINS("bce", " nats", {"x", WG_F32, 3, {40, 5, 3}}, {"y", WG_F32, 3, {40, 5, 1}}, {"lengths", WG_I32, 1, {40}});
    TRAINS("huber", " huber", {"x", WG_F32, 3, {40, 5, 3}}, {"y", WG_F32, 3, {40, 5, 1}}, {"mask", WG_F32, 2, {40, 5}});
    TRAINS("huber", " huber", {"x", WG_F32, 3, {40, 5, 3}}, {"y", WG_F32, 2, {40, 1}});
}

Test(train, arrays_come_from_npy_files_too) {
    scratch s = scratch_new();
    char x[128], y[128], model[128], name[2][160];
    wg_random random = {.seed = 2};
    wg_tensor *inputs = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){20, 5, 2});
    wg_tensor *targets = wg_tensor_new(NULL, WG_F32, 2, (const int64_t[]){20, 1});
    for (int64_t i = 0; i < 200; i++)
        wg_tensor_set(inputs, i, wg_random_normal(&random));
    cr_assert_eq(wg_npy_save(inputs, in(&s, "x.npy", x), NULL), WG_OK);
    cr_assert_eq(wg_npy_save(targets, in(&s, "y.npy", y), NULL), WG_OK);
    snprintf(name[0], sizeof name[0], "x=%s", x);
    snprintf(name[1], sizeof name[1], "y=%s", y);
    ran r = PROGRAM(&s, "train", "--data", name[0], "--data", name[1], ON_ARRAYS, "--output", in(&s, "m.safetensors", model));
    cr_expect(good_run(&r) && strstr(r.out, " mse"), "%s", r.out);
    ran_free(&r);
    wg_tensor_free(inputs);
    wg_tensor_free(targets);
    scratch_free(&s);
}

/* ---- bad input ---- */

static void refused(scratch *s, int status, const char *part, const char *const *args) {
    char path[128];
    ran r = program_run(s, args);
    cr_expect_eq(r.status, status, "%s: status %d", part, r.status);
    *r.out = 0; /* what was told before the failure */
    cr_expect(ran_complains(&r, "wengert train: ", part), "wanted '%s' in: %s", part, r.err);
    cr_expect_eq(access(in(s, "m.safetensors", path), F_OK), -1, "%s: a model was left", part);
    ran_free(&r);
}
#define REFUSED(s, status, part, ...) \
    refused(s, status, part, (const char *const[]){"train", "--threads", "1", "--output", model, __VA_ARGS__, NULL})

Test(train, bad_input_is_told_in_one_line) {
    scratch s = scratch_new();
    char text[128], model[128], empty[128], data[128], cell[128];
    put_text(&s, text);
    in(&s, "m.safetensors", model);
    in(&s, "d.safetensors", data);
    scratch_put(in(&s, "empty", empty), "", 0);
    scratch_put(in(&s, "bad.cell", cell), "cell bad\ninput x\nstate h\nh' = tanh(W @ x + U @ c)\n", 47);
    REFUSED(&s, 2, "nothing to train on", "--steps", "1");
    REFUSED(&s, 2, "give one of", text, "--task", "adding");
    REFUSED(&s, 2, "--task sorting", "--task", "sorting");
    REFUSED(&s, 2, "has no end", "--task", "adding", "--epochs", "2");
    REFUSED(&s, 2, "--hidden cannot be given with --weights", text, "--weights", text, "--hidden", "3");
    REFUSED(&s, 1, "nothing is held out", text, "--patience", "3", "--holdout", "0");
    REFUSED(&s, 1, "/absent/model: No such file", text, "--output", "/absent/model");
    REFUSED(&s, 1, "absent: No such file", "/absent");
    REFUSED(&s, 1, "/dev/null: this is neither", "/dev/null");
    REFUSED(&s, 1, "the text is empty", empty);
    REFUSED(&s, 1, "the text is too short", text, "--batch", "1000");
    REFUSED(&s, 1, "at least 10", "--task", "order", "--length", "9");
    REFUSED(&s, 1, "bad.cell:4", "--task", "adding", "--cell", cell);
    REFUSED(&s, 1, "text.txt", text, "--weights", text);
    REFUSED(&s, 1, "limit", text, "--memory-limit", "300K", "--hidden", "64");
    REFUSED(&s, 1, "not read yet", "--data", "arrays.npz");
    REFUSED(&s, 1, "absent.npy", "--data", "x=absent.npy", "--data", "y=absent.npy");
    put_arrays(data, (const array[]){{"x", WG_F32, 3, {9, 5, 3}}, {"y", WG_F32, 3, {9, 4, 2}}, {0}});
    REFUSED(&s, 1, "y is f32 (9,4,2)", "--data", data);
    put_arrays(data, (const array[]){{"x", WG_F32, 3, {9, 5, 3}}, {"z", WG_F32, 2, {9, 2}}, {0}});
    REFUSED(&s, 1, "called z", "--data", data);
    put_arrays(data, (const array[]){{"x", WG_F32, 3, {9, 5, 3}}, {"y", WG_F32, 2, {9, 2}}, {0}});
    REFUSED(&s, 1, "fewer than a batch", "--data", data);
    REFUSED(&s, 1, "--loss ce", "--data", data, "--loss", "ce", "--batch", "2");
    scratch_free(&s);
}

Test(train, a_loss_that_is_not_finite_names_the_step_and_the_op) {
    static const char text[] = "cell bad\ninput x\nstate h\nh' = log(W @ x + U @ h)\ninit W = 1\ninit U = -2\n";
    scratch s = scratch_new();
    char cell[128], model[128];
    in(&s, "m.safetensors", model);
    scratch_put(in(&s, "bad.cell", cell), text, sizeof text - 1);
    REFUSED(&s, 1, "training step 1: ", "--task", "adding", "--cell", cell, "--length", "5", "--hidden", "4");
    REFUSED(&s, 1, "log made NaN", "--task", "adding", "--cell", cell, "--length", "5", "--hidden", "4");
    REFUSED(&s, 1, "bad.cell:4", "--task", "adding", "--cell", cell, "--length", "5", "--hidden", "4");
    scratch_free(&s);
}

Test(train, a_loss_that_stops_being_finite_leaves_the_model_before_it) {
    scratch s = scratch_new();
    char model[128];
    ran r = PROGRAM(&s, "train", "--task", "adding", "--length", "5", "--hidden", "4", "--clip", "0", "--optimiser", "sgd", "--cell",
                    "irnn", "--lr", "1e6", "--steps", "500", "--threads", "1", "--output", in(&s, "m.safetensors", model));
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "not finite: ") && strstr(r.err, "; the model before it is in "), "%s", r.err);
    wg_model *kept = wg_model_load(NULL, model, NULL, NULL);
    cr_assert(kept != NULL);
    for (int i = 0; i < wg_params_count(wg_model_params(kept)); i++)
        cr_expect(isfinite(wg_tensor_get(wg_params_tensor(wg_model_params(kept), i), 0)));
    wg_model_free(kept);
    ran_free(&r);
    scratch_free(&s);
}

Test(train, a_full_disk_is_told_and_the_last_checkpoint_stays) {
    scratch s = scratch_new();
    char text[128], model[128], log[128];
    put_text(&s, text);
    in(&s, "m.safetensors", model);
    REFUSED(&s, 1, "/dev/full", text, SMALL, "--steps", "2", "--log", "/dev/full");
    ran r = PROGRAM(&s, "train", text, SMALL, "--steps", "3", "--output", model, "--log", in(&s, "log", log));
    cr_assert(good_run(&r));
    ran_free(&r);
    size_t size = 0, after = 0;
    char *before = scratch_get(model, &size);
    struct rlimit room, small = {4096, 4096};
    getrlimit(RLIMIT_FSIZE, &room);
    small.rlim_max = room.rlim_max;
    setenv("TMPDIR", "/dev/null", 1); /* where ThreadSanitizer would map a file of its own, whatever its size */
    setrlimit(RLIMIT_FSIZE, &small);
    r = PROGRAM(&s, "train", "--resume", "--steps", "5", "--output", model, "--threads", "1");
    setrlimit(RLIMIT_FSIZE, &room);
    unsetenv("TMPDIR");
    cr_expect_eq(r.status, 1, "%d", r.status);
    cr_expect(strstr(r.err, "wengert train: ") == r.err && strstr(r.err, "m.safetensors"), "%s", r.err);
    ran_free(&r);
    char *now = scratch_get(model, &after);
    cr_expect(size == after && memcmp(before, now, size) == 0);
    free(before);
    free(now);
    scratch_free(&s);
}

Test(train, a_model_of_a_later_format_is_refused) {
    scratch s = scratch_new();
    char text[128], model[128], later[128];
    ran r = PROGRAM(&s, "train", put_text(&s, text), SMALL, "--steps", "0", "--output", in(&s, "a.safetensors", model));
    cr_assert(good_run(&r));
    ran_free(&r);
    wg_params *file = wg_params_load(NULL, model, NULL);
    wg_params_set_meta(file, "wengert.format", "99");
    wg_params_save(file, in(&s, "later.safetensors", later), NULL);
    wg_params_free(file);
    in(&s, "m.safetensors", model);
    REFUSED(&s, 1, "format 99", text, "--weights", later);
    scratch_free(&s);
}
