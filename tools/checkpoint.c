/* checkpoint.c: a checkpoint is the model file itself, written to a temporary name and renamed, with the optimiser's and the
 * carried states, the random key and the books beside the model. */
#include "train.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char checkpoint_arguments[] = "train.arguments", checkpoint_vocabulary[] = "vocabulary";
static const char data_key[] = "train.data", unit_key[] = "train.unit", loss_key[] = "train.loss";

/* The books' numbers, by the key they have in the metadata. */
static const struct {
    const char *key;
    size_t offset;
    bool whole;
} numbers[] = {
    {"train.step", offsetof(books, step), true},
    {"train.seconds", offsetof(books, seconds), false},
    {"train.best", offsetof(books, best), false},
    {"train.since_best", offsetof(books, since_best), true},
    {"train.log_bytes", offsetof(books, log_bytes), true},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

/* What is kept beside the model: sets of tensors, each under a prefix. */
enum { KEPT = 4 };
typedef struct kept {
    const char *prefix;
    wg_params *of;
} kept;

static void list_kept(training *t, wg_params *key, kept list[KEPT]) {
    list[0] = (kept){"optimiser.", wg_optimiser_state(t->optimiser)};
    list[1] = (kept){"state.", t->part[TRAINED].states};
    list[2] = (kept){"best.", t->best};
    list[3] = (kept){"random.", key};
}

/* ---- words without blanks ---- */

char *arguments_write(int argc, char **argv) {
    size_t size = 1;
    for (int i = 0; i < argc; i++)
        size += 3 * strlen(argv[i]) + 1;
    char *text = allocate(size, 1), *at = text;
    for (int i = 0; i < argc; i++) {
        for (const unsigned char *c = (const unsigned char *)argv[i]; *c; c++)
            at += snprintf(at, 4, *c > 32 && *c < 127 && *c != '%' ? "%c" : "%%%02x", *c);
        *at++ = ' ';
    }
    return text;
}

static int hex(char c) { return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

char **arguments_read(const char *text, int *count) {
    size_t size = strlen(text);
    char **argv = allocate(1, (size + 1) * sizeof *argv + size + 1);
    char *to = (char *)(argv + size + 1);
    for (*count = 0; *text; *to++ = 0, text += *text == ' ') {
        argv[(*count)++] = to;
        for (; *text && *text != ' '; text++) {
            bool escaped = *text == '%' && hex(text[1]) >= 0 && hex(text[2]) >= 0;
            *to++ = escaped ? (char)(hex(text[1]) * 16 + hex(text[2])) : *text;
            text += escaped ? 2 : 0;
        }
    }
    return argv;
}

/* ---- writing ---- */

static wg_status keep_tensors(wg_params *more, const kept *k) {
    wg_status status = WG_OK;
    for (int i = 0; k->of && i < wg_params_count(k->of) && status == WG_OK; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s%s", k->prefix, wg_params_name(k->of, i));
        status = wg_params_add(more, name, wg_params_tensor(k->of, i));
    }
    return status;
}

static wg_status keep_texts(const training *t, wg_params *more) {
    char text[513] = "";
    wg_status status = wg_params_set_meta(more, checkpoint_arguments, t->arguments);
    if (status == WG_OK)
        status = wg_params_set_meta(more, data_key, t->data->fingerprint);
    if (status == WG_OK)
        status = wg_params_set_meta(more, unit_key, t->data->unit);
    if (status == WG_OK && t->data->carries) {
        vocabulary_write(t->data, text);
        status = wg_params_set_meta(more, checkpoint_vocabulary, text);
    }
    if (status == WG_OK && isfinite(t->last_valid)) {
        snprintf(text, sizeof text, "%.6g", t->last_valid);
        status = wg_params_set_meta(more, loss_key, text);
    }
    for (int i = 0; i < NUMBERS && status == WG_OK; i++) {
        const char *at = (const char *)&t->books + numbers[i].offset;
        if (numbers[i].whole)
            snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
        else
            snprintf(text, sizeof text, "%.17g", *(const double *)at);
        status = wg_params_set_meta(more, numbers[i].key, text);
    }
    return status;
}

static wg_params *key_set(const training *t) {
    wg_params *set = wg_params_new(t->c->memory);
    if (set && wg_params_add(set, "key", t->key) == WG_OK)
        return set;
    wg_params_free(set);
    return NULL;
}

int checkpoint_save(training *t) {
    wg_error error = {0};
    kept list[KEPT];
    wg_params *key = key_set(t), *more = wg_params_new(t->c->memory);
    wg_status status = key && more ? keep_texts(t, more) : WG_MEMORY;
    list_kept(t, key, list);
    for (int i = 0; i < KEPT && status == WG_OK; i++)
        status = keep_tensors(more, &list[i]);
    if (t->log && fsync(fileno(t->log)) != 0)
        clearerr(t->log); /* a pipe or a device: nothing to wait for */
    if (status == WG_OK)
        status = wg_model_save(t->model, more, t->a->output, &error);
    else
        wg_error_set(&error, status, "%s: %s", t->a->output, wg_status_sentence(status));
    wg_params_free(more);
    wg_params_free(key);
    return status == WG_OK ? 0 : fail_error(t->c, &error);
}

/* ---- reading ---- */

static int bad_file(const training *t, const char *what) {
    return fail(t->c, "%s: no training can go on from it: %s", t->a->output, what);
}

static int restore_tensors(training *t, const wg_params *more, const kept *k) {
    for (int i = 0; k->of && i < wg_params_count(k->of); i++) {
        char name[512];
        wg_tensor *to = wg_params_tensor(k->of, i);
        snprintf(name, sizeof name, "%s%s", k->prefix, wg_params_name(k->of, i));
        const wg_tensor *from = wg_params_find(more, name);
        if (!from || wg_tensor_dtype(from) != wg_tensor_dtype(to) ||
            wg_tensor_shape(from)->rank != wg_tensor_shape(to)->rank || wg_tensor_bytes(from) != wg_tensor_bytes(to))
            return fail(t->c, "%s: no training can go on from it: the array %s is %s", t->a->output, name,
                        from ? "of another shape or type" : "missing");
        memcpy(wg_tensor_write(to), wg_tensor_data(from), wg_tensor_bytes(to));
    }
    return 0;
}

static int restore_books(training *t, const wg_params *more) {
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = wg_params_meta(more, numbers[i].key);
        char *at = (char *)&t->books + numbers[i].offset, *end;
        if (!text || !*text)
            return bad_file(t, "its metadata is not a training run's");
        if (numbers[i].whole)
            *(int64_t *)at = strtoll(text, &end, 10);
        else
            *(double *)at = strtod(text, &end);
        if (*end || (numbers[i].whole && *(int64_t *)at < 0))
            return bad_file(t, "its metadata is malformed");
    }
    return 0;
}

int checkpoint_restore(training *t, const wg_params *more) {
    const char *seen = wg_params_meta(more, data_key);
    kept list[KEPT];
    if (!seen || strcmp(seen, t->data->fingerprint) != 0)
        return bad_file(t, "it was trained on other data");
    wg_params *key = key_set(t);
    if (!key)
        return fail(t->c, "%s", wg_status_sentence(WG_MEMORY));
    int status = restore_books(t, more);
    list_kept(t, key, list);
    for (int i = 0; i < KEPT && status == 0; i++)
        status = restore_tensors(t, more, &list[i]);
    wg_params_free(key);
    return status;
}
