/* train.h: a training run: its arguments, what is recorded for it, its bookkeeping, its checkpoints. */
#ifndef WG_TOOLS_TRAIN_H
#define WG_TOOLS_TRAIN_H

#include "data.h"

typedef struct train_arguments {
    common common;
    /* the model */
    const char *cell, *weights;
    settings set;
    initial init;
    int64_t hidden, layers, embed;
    int type;
    /* the data */
    const char *task, *valid, *loss;
    words data;
    int64_t batch, length, data_seed;
    double holdout;
    /* the optimiser */
    int optimiser, schedule;
    double lr, momentum, weight_decay, clip, clip_value, warm_up, decay_every, decay_factor, lr_last;
    bool nesterov;
    /* the run */
    int64_t seed, steps, epochs, patience, validate_every, save_every;
    double seconds, save_seconds;
    const char *output, *log;
    bool resume;
} train_arguments;

/* A network recorded over one part's batches, and its plan. */
typedef struct recorded {
    wg_tape *tape;
    wg_forward forward;
    minibatch batch;
    wg_params *states; /* carried; NULL: the cells' own starts */
    wg_var loss, norm, rate;
    wg_plan *plan;
    int n;       /* outputs of the plan */
    wg_var *out;
} recorded;

/* The places of a plan's outputs. Training: stores follow. */
enum { OUT_LOSS, OUT_NORM, OUT_RATE, OUT_STORES, OUT_ACCURACY = OUT_NORM };

/* Bookkeeping that a checkpoint holds. */
typedef struct books {
    int64_t step;      /* updates done */
    double seconds;    /* spent on them */
    double best;       /* least validation loss, in the unit; before any: infinite */
    int64_t since_best; /* validations since then */
    int64_t log_bytes;
} books;

typedef struct training {
    const train_arguments *a;
    const common *c;
    dataset *data;
    wg_model *model;
    wg_optimiser *optimiser;
    wg_tensor *key; /* of random draws: i32 (4) */
    wg_params *best; /* copies of the best parameters, with --patience; else NULL */
    recorded part[PARTS];
    books books;
    char *arguments; /* the command line, as a checkpoint keeps it */
    char *log_path;
    FILE *log;
    double last_loss, last_valid, last_accuracy; /* in the unit; NaN: none yet */
} training;

/* train_record.c: record the training step, forward to update, and the validation; each one plan. Return an exit status. */
int record_training(training *t);
int record_validation(training *t);
void recorded_free(recorded *r);

/* train_loop.c */
int train_loop(training *t);
double validation_loss(training *t, int *status); /* in the unit */

/* train_log.c: one JSON object a line, cut back to the checkpoint on resuming. */
int log_open(training *t, bool go_on);
int log_step(training *t, double loss, double norm, double rate);
int log_validation(training *t, double loss, double accuracy);
int log_close(training *t);

/* checkpoint.c: a checkpoint is the model file, with what training needs to go on beside the model. */
int checkpoint_save(training *t);
/* Restores all but the model itself from what its file held beside it. */
int checkpoint_restore(training *t, const wg_params *more);
/* A command line as text without blanks inside words, and back; *count words, freed as one block. */
char *arguments_write(int argc, char **argv);
char **arguments_read(const char *text, int *count);

extern const char checkpoint_arguments[], checkpoint_vocabulary[];

#endif
