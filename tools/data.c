/* data.c: what all sources of data share: making and freeing, the tensors of a batch, vocabularies as text. */
#include "data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

dataset *data_new(void) {
    dataset *d = allocate(1, sizeof *d);
    d->baseline = NAN;
    d->scale = 1;
    return d;
}

void data_free(dataset *d) {
    if (!d)
        return;
    if (d->release)
        d->release(d->own);
    free(d->fingerprint);
    free(d);
}

static wg_tensor *target_new(wg_memory *memory, const dataset *d, int64_t steps, int64_t rows) {
    const int64_t dim[3] = {steps, rows, d->outputs};
    bool labels = d->loss == LOSS_CE;
    return wg_tensor_new(memory, labels ? WG_I32 : d->dtype, 3 - d->last - labels, dim + d->last);
}

bool batch_new(wg_memory *memory, const dataset *d, int which, minibatch *b) {
    const part *p = &d->part[which];
    const int64_t dim[3] = {p->steps, p->batch, d->input};
    *b = (minibatch){.x = wg_tensor_new(memory, d->vocabulary ? WG_I32 : d->dtype, d->vocabulary ? 2 : 3, dim),
                 .y = target_new(memory, d, p->steps, p->batch)};
    if (d->weighs)
        b->weight = wg_tensor_new(memory, d->dtype, 2, dim);
    if (d->measures)
        b->lengths = wg_tensor_new(memory, WG_I32, 1, dim + 1);
    bool good = b->x && b->y && (b->weight || !d->weighs) && (b->lengths || !d->measures);
    if (!good)
        batch_free(b);
    return good;
}

void batch_free(minibatch *b) {
    wg_tensor_free(b->x);
    wg_tensor_free(b->y);
    wg_tensor_free(b->weight);
    wg_tensor_free(b->lengths);
    *b = (minibatch){0};
}

void vocabulary_write(const dataset *d, char text[513]) {
    for (int64_t i = 0; i < d->vocabulary && i < 256; i++)
        snprintf(text + 2 * i, 3, "%02x", d->byte_of[i]);
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

int vocabulary_read(const char *text, uint8_t byte_of[256]) {
    bool seen[256] = {0};
    int n = 0;
    for (; text[2 * n]; n++) {
        int high = digit(text[2 * n]), low = high < 0 ? -1 : digit(text[2 * n + 1]);
        if (low < 0 || n == 256 || seen[high * 16 + low])
            return -1;
        byte_of[n] = (uint8_t)(high * 16 + low);
        seen[byte_of[n]] = true;
    }
    return n ? n : -1;
}

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}
