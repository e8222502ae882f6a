/* data.h: what a model is trained on: text, a synthetic task, or arrays. Every batch is a function of its number, so that a
 * resumed run needs nothing but the number to go on. */
#ifndef WG_TOOLS_DATA_H
#define WG_TOOLS_DATA_H

#include "output.h"

typedef enum loss_kind { LOSS_MSE, LOSS_HUBER, LOSS_CE, LOSS_BCE } loss_kind;

/* The tensors that a recorded network reads. y: (T,B) i32, (B) i32, (T,B,m) or (B,m). weight (T,B) weighs steps; for a loss at
 * the last step it is 1 there, else 0. lengths: (B) i32. The last two may be NULL. */
typedef struct minibatch {
    wg_tensor *x, *y, *weight, *lengths;
} minibatch;

/* The two parts of the data. */
enum { TRAINED, HELD_OUT, PARTS };

typedef struct part {
    int64_t steps, batch; /* T and B of a batch */
    int64_t count;        /* batches in an epoch; 0: there is no end (TRAINED), or nothing is held out */
} part;

typedef struct dataset dataset;
struct dataset {
    part part[PARTS];
    int64_t vocabulary; /* > 0: x is tokens (T,B); else it is (T,B,input) */
    int64_t input, outputs;
    wg_dtype dtype;
    loss_kind loss;
    bool last;      /* the loss is of the last step only */
    bool carries;   /* batch k goes on where k - 1 ended, within an epoch: states are carried */
    bool weighs, measures; /* batches have weights, lengths */
    int64_t scored_from;   /* steps before this do not count for the accuracy */
    const char *unit;      /* "bits per character" */
    double scale;          /* from the loss as recorded to the unit */
    double baseline;       /* what the trivial answer gets, in the unit; NaN: unknown */
    const char *items;     /* what is counted as progress: "characters", "sequences" */
    double items_per_batch;
    char *fingerprint;     /* of the data's contents and shape: a resumed run has to see the same */
    uint8_t byte_of[256];  /* of text: the byte of each token */
    void *own;
    void (*fill)(const dataset *d, int part, int64_t number, minibatch *b);
    void (*release)(void *own);
};

/* How data is asked for. Zero: the source's own default. */
typedef struct data_request {
    int64_t batch, length;
    double holdout;     /* negative: the default */
    uint64_t seed;      /* of the order */
    uint64_t data_seed; /* of generated data */
    wg_dtype dtype;
    const char *vocabulary; /* of a model that text has to fit, in hexadecimal; NULL: what occurs */
    const char *from;       /* that model's file */
} data_request;

/* Each says on standard error what is wrong, and returns NULL. */
dataset *data_of_text(const common *c, const words *paths, const data_request *request);
dataset *data_of_task(const common *c, int task, const data_request *request);
/* files: one .safetensors, or x=FILE.npy y=FILE.npy …. loss: -1 for what y's shape says. */
dataset *data_of_arrays(const common *c, const words *files, const char *valid, int loss, const data_request *request);
dataset *data_new(void);
void data_free(dataset *d);

/* Tensors for one part's batches. False when out of memory. */
bool batch_new(wg_memory *memory, const dataset *d, int part, minibatch *b);
void batch_free(minibatch *b);

/* The tokens' bytes in hexadecimal, as a model file keeps them; and back: how many, or -1. */
void vocabulary_write(const dataset *d, char text[513]);
int vocabulary_read(const char *text, uint8_t byte_of[256]);

/* Element i of an array of floats. */
static inline void put_float(void *data, wg_dtype dtype, int64_t i, double value) {
    if (dtype == WG_F64)
        ((double *)data)[i] = value;
    else
        ((float *)data)[i] = (float)value;
}

/* A hash of bytes, to tell data apart: FNV-1a, 64 bits. Source: Fowler, Noll & Vo. */
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size);

#endif
