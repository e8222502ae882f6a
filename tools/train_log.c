/* train_log.c: the log of a training run, one JSON object a line. On resuming it is cut back to the checkpoint. */
#include "train.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static int log_failed(const training *t) { return fail(t->c, "%s: %s", t->log_path, strerror(errno)); }

int log_open(training *t, bool go_on) {
    if (!t->log_path)
        return 0;
    t->log = go_on ? fopen(t->log_path, "r+b") : NULL;
    if (!t->log)
        t->log = fopen(t->log_path, "wb");
    if (!t->log)
        return log_failed(t);
    if (!go_on)
        return 0;
    if (fseeko(t->log, 0, SEEK_END) != 0)
        return log_failed(t);
    if (ftello(t->log) < t->books.log_bytes)
        note(t->c, "%s is shorter than when the checkpoint was written", t->log_path);
    else if (ftruncate(fileno(t->log), t->books.log_bytes) != 0 || fseeko(t->log, 0, SEEK_END) != 0)
        return log_failed(t);
    return 0;
}

/* Lines go out whole, so that the log can be followed. */
static int end_line(training *t, json *j) {
    json_close(j, '}');
    json_end_line(j);
    if (fflush(t->log) != 0 || ferror(t->log))
        return log_failed(t);
    t->books.log_bytes = ftello(t->log);
    return 0;
}

int log_step(training *t, double loss, double norm, double rate) {
    if (!t->log)
        return 0;
    json j = {.file = t->log};
    json_open(&j, '{');
    json_put_integer(&j, "step", t->books.step);
    json_put_number(&j, "loss", loss);
    json_put_number(&j, "gradient_norm", norm);
    json_put_bool(&j, "clipped", t->a->clip > 0 && norm > t->a->clip);
    json_put_number(&j, "learning_rate", rate);
    json_put_number(&j, "seconds", t->books.seconds);
    json_put_integer(&j, "sequences", t->books.step * t->data->part[TRAINED].batch);
    return end_line(t, &j);
}

int log_validation(training *t, double loss, double accuracy) {
    if (!t->log)
        return 0;
    json j = {.file = t->log};
    json_open(&j, '{');
    json_put_integer(&j, "step", t->books.step);
    json_put_number(&j, "validation_loss", loss);
    if (!isnan(accuracy))
        json_put_number(&j, "accuracy", accuracy);
    json_put_number(&j, "seconds", t->books.seconds);
    return end_line(t, &j);
}

int log_close(training *t) {
    FILE *log = t->log;
    t->log = NULL;
    return log && fclose(log) != 0 ? log_failed(t) : 0;
}
