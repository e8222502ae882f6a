/* train_loop.c: runs training steps until something ends them: their number, the time, early stopping, a signal. */
#include "train.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- signals: the one thing that is global, as signals are ---- */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) { interrupted = signal; }

/* A second signal ends the program at once: the checkpoint is safe at any moment. */
static void catch_signals(void) {
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* then writing fails, and says so */
}

/* ---- one step ---- */

static double scalar_of(const recorded *r, int i) { return wg_tensor_get(wg_plan_output(r->plan, i), 0); }

static void zero_states(recorded *r) {
    for (int i = 0; r->states && i < wg_params_count(r->states); i++)
        wg_tensor_fill(wg_params_tensor(r->states, i), 0);
}

/* Nothing was stored, so evaluating again meets what made it; and the model of the step before is worth keeping. */
static int not_finite(training *t, recorded *r) {
    const wg_var y[2] = {r->loss, r->norm};
    wg_nonfinite found = {0};
    long long step = (long long)t->books.step;
    bool known = wg_find_nonfinite(2, y, &found, NULL) == WG_NONFINITE;
    bool saved = step > 0 && checkpoint_save(t) == 0;
    fail(t->c, "training step %lld: the loss or its gradient is not finite%s%s%s%s", step + 1, known ? ": " : "",
         known ? found.text : "", saved ? "; the model before it is in " : "", saved ? t->a->output : "");
    return 1;
}

static int run_step(training *t, double *loss, double *norm, double *rate) {
    recorded *r = &t->part[TRAINED];
    const part *p = &t->data->part[TRAINED];
    wg_error error = {0};
    if (t->data->carries && t->books.step % p->count == 0)
        zero_states(r);
    t->data->fill(t->data, TRAINED, t->books.step, &r->batch);
    wg_status status = wg_run(r->plan, &error);
    if (status == WG_NONFINITE)
        return not_finite(t, r);
    if (status != WG_OK)
        return fail(t->c, "training step %lld: %s", (long long)t->books.step + 1, error.text);
    *loss = scalar_of(r, OUT_LOSS) * t->data->scale;
    *norm = scalar_of(r, OUT_NORM);
    *rate = scalar_of(r, OUT_RATE);
    return 0;
}

/* ---- validation ---- */

double validation_loss(training *t, int *status) {
    recorded *r = &t->part[HELD_OUT];
    int64_t count = t->data->part[HELD_OUT].count;
    double loss = 0, accuracy = 0;
    wg_error error = {0};
    zero_states(r);
    for (int64_t k = 0; k < count; k++) {
        t->data->fill(t->data, HELD_OUT, k, &r->batch);
        if (wg_run(r->plan, &error) != WG_OK) {
            *status = fail(t->c, "validation after step %lld: %s", (long long)t->books.step, error.text);
            return NAN;
        }
        loss += scalar_of(r, OUT_LOSS);
        accuracy += t->data->loss == LOSS_CE ? scalar_of(r, OUT_ACCURACY) : 0;
    }
    t->last_accuracy = t->data->loss == LOSS_CE ? accuracy / (double)count : NAN;
    return t->last_valid = loss / (double)count * t->data->scale;
}

static void report(const training *t) {
    char valid[64] = "", accuracy[64] = "", baseline[64] = "";
    if (t->c->json)
        return;
    if (!isnan(t->last_valid))
        snprintf(valid, sizeof valid, "  validation %.4f", t->last_valid);
    if (!isnan(t->last_accuracy))
        snprintf(accuracy, sizeof accuracy, "  accuracy %.1f %%", 100 * t->last_accuracy);
    if (!isnan(t->data->baseline))
        snprintf(baseline, sizeof baseline, "  (trivial answer %.4f)", t->data->baseline);
    printf("step %lld  loss %.4f%s %s%s%s\n", (long long)t->books.step, t->last_loss, valid, t->data->unit, baseline,
           accuracy);
    fflush(stdout);
}

static void copy_params(const wg_params *from, wg_params *to) {
    for (int i = 0; i < wg_params_count(to); i++) {
        wg_tensor *tensor = wg_params_tensor(to, i);
        memcpy(wg_tensor_write(tensor), wg_tensor_data(wg_params_tensor(from, i)), wg_tensor_bytes(tensor));
    }
}

/* A validation that counts: at a step that follows from the arguments alone. */
static int validate(training *t, bool counts) {
    int status = 0;
    if (t->data->part[HELD_OUT].count == 0)
        return 0;
    double loss = validation_loss(t, &status);
    if (status != 0)
        return status;
    if (counts) {
        bool better = loss < t->books.best;
        t->books.since_best = better ? 0 : t->books.since_best + 1;
        if (better)
            t->books.best = loss;
        if (better && t->best)
            copy_params(wg_model_params(t->model), t->best);
    }
    return log_validation(t, loss, t->last_accuracy);
}

/* ---- the run ---- */

typedef struct run_of {
    progress progress;
    double began, saved, earlier; /* clocks; seconds spent by earlier runs */
    int64_t first, last;          /* steps */
    double smooth;                /* running mean of the loss */
} run_of;

static int64_t last_step(const training *t) {
    int64_t count = t->data->part[TRAINED].count, most = INT64_MAX;
    if (t->a->steps >= 0)
        most = t->a->steps;
    if (t->a->epochs > 0 && count && t->a->epochs < most / count)
        most = t->a->epochs * count;
    return most;
}

static void show(training *t, run_of *r) {
    double spent = seconds() - r->began, done = (double)(t->books.step - r->first);
    double left = done > 0 ? spent / done * (double)(r->last - t->books.step) : 0;
    if (t->a->seconds > 0 && (t->a->seconds - spent < left || done == 0))
        left = t->a->seconds - spent;
    left = left > 0 ? left : 0;
    progress_show(&r->progress, false, "step %lld  %.4f %s  %.0f %s per second  %d:%02d left", (long long)t->books.step,
                  r->smooth, t->data->unit, spent > 0 ? done * t->data->items_per_batch / spent : 0, t->data->items,
                  (int)(left / 60), (int)left % 60);
}

static bool ended(const training *t, const run_of *r) {
    bool stale = t->a->patience > 0 && t->books.since_best >= t->a->patience;
    bool late = t->a->seconds > 0 && seconds() - r->began >= t->a->seconds;
    return interrupted || stale || late || t->books.step >= r->last;
}

static int save_when_due(training *t, run_of *r) {
    bool by_step = t->a->save_every > 0 && t->books.step % t->a->save_every == 0;
    bool by_time = t->a->save_seconds > 0 && seconds() - r->saved >= t->a->save_seconds;
    if (!by_step && !by_time)
        return 0;
    int status = checkpoint_save(t);
    r->saved = seconds();
    return status;
}

static int next_step(training *t, run_of *r) {
    double loss, norm, rate;
    int status = run_step(t, &loss, &norm, &rate);
    if (status != 0)
        return status;
    t->books.step++;
    t->books.seconds = r->earlier + seconds() - r->began;
    t->last_loss = loss;
    r->smooth = isnan(r->smooth) ? loss : 0.95 * r->smooth + 0.05 * loss;
    status = log_step(t, loss, norm, rate);
    if (status == 0 && t->books.step % t->a->validate_every == 0) {
        status = validate(t, true);
        progress_end(&r->progress);
        r->progress = progress_begin();
        if (status == 0)
            report(t);
    }
    show(t, r);
    return status == 0 ? save_when_due(t, r) : status;
}

static int finish(training *t, run_of *r) {
    bool stale = t->a->patience > 0 && t->books.since_best >= t->a->patience;
    bool told = t->books.step % t->a->validate_every == 0 && !isnan(t->last_valid);
    if (stale && t->best && isfinite(t->books.best))
        copy_params(t->best, wg_model_params(t->model));
    int status = checkpoint_save(t);
    if (status == 0 && !interrupted && (!told || stale))
        status = validate(t, false);
    if (status != 0)
        return status;
    if (!interrupted && !told && !isnan(t->last_loss))
        report(t);
    if (interrupted && !t->c->json)
        printf("stopped after step %lld; --resume goes on from there\n", (long long)t->books.step);
    else if (stale && !t->c->json)
        printf("stopped early: %lld validations without an improvement; these are the best weights, %.4f %s\n",
               (long long)t->books.since_best, t->books.best, t->data->unit);
    (void)r;
    return 0;
}

int train_loop(training *t) {
    double now = seconds();
    run_of r = {progress_begin(), now, now, t->books.seconds, t->books.step, last_step(t), NAN};
    int status = 0;
    catch_signals();
    while (status == 0 && !ended(t, &r))
        status = next_step(t, &r);
    progress_end(&r.progress);
    return status == 0 ? finish(t, &r) : status;
}
