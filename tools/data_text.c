/* data_text.c: text as data: bytes are tokens, and a batch is one window of B streams that run through the text side by side. */
#include "data.h"

#include "data_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One part's tokens: stream b begins at b*stride. */
typedef struct streams {
    const uint8_t *token;
    int64_t stride;
} streams;

typedef struct text {
    gathered gathered; /* the bytes, replaced by their tokens */
    streams part[PARTS];
} text;

static void release(void *own) {
    gathered_free(&((text *)own)->gathered);
    free(own);
}

/* Batch k holds steps [kT, (k+1)T) of every stream, and as labels the tokens one later. */
static void fill(const dataset *d, int which, int64_t number, minibatch *b) {
    const part *p = &d->part[which];
    const streams *s = &((const text *)d->own)->part[which];
    int32_t *x = wg_tensor_write(b->x), *y = wg_tensor_write(b->y);
    for (int64_t t = 0; t < p->steps; t++)
        for (int64_t row = 0; row < p->batch; row++) {
            const uint8_t *at = s->token + row * s->stride + number % p->count * p->steps + t;
            x[t * p->batch + row] = at[0];
            y[t * p->batch + row] = at[1];
        }
}

/* ---- vocabulary ---- */

static int count_bytes(dataset *d, const gathered *g) {
    bool seen[256] = {0};
    int n = 0;
    for (size_t i = 0; i < g->size; i++)
        seen[g->bytes[i]] = true;
    for (int byte = 0; byte < 256; byte++)
        if (seen[byte])
            d->byte_of[n++] = (uint8_t)byte;
    return n;
}

static int to_tokens(const common *c, dataset *d, gathered *g, const data_request *r) {
    int16_t token_of[256];
    int n = r->vocabulary ? vocabulary_read(r->vocabulary, d->byte_of) : count_bytes(d, g);
    if (n < 0)
        return fail(c, "%s: its vocabulary is malformed", r->from);
    memset(token_of, -1, sizeof token_of);
    for (int i = 0; i < n; i++)
        token_of[d->byte_of[i]] = (int16_t)i;
    for (size_t i = 0; i < g->size; i++) {
        if (token_of[g->bytes[i]] < 0)
            return fail(c, "%s: its vocabulary lacks byte 0x%02x, which stands in the text at place %zu", r->from,
                        g->bytes[i], i);
        g->bytes[i] = (uint8_t)token_of[g->bytes[i]];
    }
    d->vocabulary = d->outputs = n;
    return 0;
}

/* ---- parts ---- */

enum { MOST_HELD_OUT = 128 }; /* batches: enough for a steady figure */

static int split(const common *c, dataset *d, const data_request *r) {
    text *own = d->own;
    int64_t size = (int64_t)own->gathered.size, batch = r->batch ? r->batch : 32, length = r->length ? r->length : 64;
    int64_t held = (int64_t)floor((double)size * (r->holdout < 0 ? 0.05 : r->holdout));
    int64_t kept = size - held, stride = (kept - 1) / batch;
    if (size == 0)
        return fail(c, "the text is empty");
    if (stride < length)
        return fail(c, "the text is too short: %lld characters to train on, and one batch of %lld streams of %lld needs %lld "
                       "(--batch, --length)",
                    (long long)kept, (long long)batch, (long long)length, (long long)(batch * length + 1));
    d->part[TRAINED] = (part){length, batch, stride / length};
    own->part[TRAINED] = (streams){own->gathered.bytes, stride};
    int64_t window = held - 1 < length ? held - 1 : length;
    if (window < 1)
        return 0;
    int64_t rows = (held - 1) / window < batch ? (held - 1) / window : batch, run = (held - 1) / rows;
    int64_t count = run / window < MOST_HELD_OUT ? run / window : MOST_HELD_OUT;
    d->part[HELD_OUT] = (part){window, rows, count};
    own->part[HELD_OUT] = (streams){own->gathered.bytes + kept, run};
    return 0;
}

dataset *data_of_text(const common *c, const words *paths, const data_request *r) {
    dataset *d = data_new();
    text *own = d->own = allocate(1, sizeof *own);
    d->release = release;
    d->fill = fill;
    d->loss = LOSS_CE;
    d->dtype = r->dtype;
    d->carries = true;
    d->unit = "bits per character";
    d->scale = 1 / log(2);
    d->items = "characters";
    if (gather_text(c, paths, &own->gathered) != 0 || to_tokens(c, d, &own->gathered, r) != 0 || split(c, d, r) != 0) {
        data_free(d);
        return NULL;
    }
    d->items_per_batch = (double)(d->part[TRAINED].steps * d->part[TRAINED].batch);
    d->fingerprint = format_text("text %zu %016llx", own->gathered.size,
                                 (unsigned long long)hash_bytes(0xcbf29ce484222325u, own->gathered.bytes,
                                                                own->gathered.size));
    return d;
}
