/* random.c: Philox, the sequences of wg_random, and the element-indexed fills that random kernels call. Pure functions
 * of their arguments: nothing here holds state. */
#include "core.h"

#include <math.h>
#include <string.h>

/* The multipliers of a round and the Weyl increments of the key, from the paper. */
enum { ROUNDS = 10 };
static const uint32_t MULTIPLY[2] = {0xD2511F53, 0xCD9E8D57};
static const uint32_t WEYL[2] = {0x9E3779B9, 0xBB67AE85};

void wg_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)MULTIPLY[0] * c0;
        uint64_t p1 = (uint64_t)MULTIPLY[1] * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Block `index` of nonce `high` under `key`. */
static void block_of(const uint32_t key[2], uint64_t index, uint64_t high, uint32_t out[4]) {
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)high,
                                 (uint32_t)(high >> 32)};
    wg_philox(counter, key, out);
}

static uint64_t join(const uint32_t word[2]) { return (uint64_t)word[1] << 32 | word[0]; }

static double uniform53(const uint32_t word[2]) { return (double)(join(word) >> 11) * 0x1p-53; }

/* Two independent normals from one uniform in (0,1] and one in [0,1). Source: Box & Muller 1958. */
static void box_muller(double open, double turn, double out[2]) {
    double radius = sqrt(-2 * log(open)), angle = 6.283185307179586 * turn;
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

static void normal53(const uint32_t word[4], double out[2]) {
    box_muller(uniform53(word) + 0x1p-53, uniform53(word + 2), out);
}

/* ---- sequences: draw number `at` is block `at` of the stream, keyed by the seed ---- */

static void next_block(wg_random *random, uint32_t out[4]) {
    const uint32_t key[2] = {(uint32_t)random->seed, (uint32_t)(random->seed >> 32)};
    block_of(key, random->at++, random->stream, out);
}

uint32_t wg_random_bits(wg_random *random) {
    uint32_t word[4];
    next_block(random, word);
    return word[0];
}

double wg_random_uniform(wg_random *random) {
    uint32_t word[4];
    next_block(random, word);
    return uniform53(word);
}

double wg_random_normal(wg_random *random) {
    uint32_t word[4];
    double pair[2];
    next_block(random, word);
    normal53(word, pair);
    return pair[0];
}

/* floor(r n / 2^64) for a 64-bit r; redrawn when the low half falls in the 2^64 mod n values that would give some
 * results one chance more. Source: Lemire 2019. */
uint64_t wg_random_below(wg_random *random, uint64_t n) {
    if (n == 0)
        return 0;
    uint64_t surplus = (0 - n) % n;
    for (;;) {
        uint32_t word[4];
        next_block(random, word);
        unsigned __int128 product = (unsigned __int128)join(word) * n;
        if ((uint64_t)product >= surplus)
            return (uint64_t)(product >> 64);
    }
}

/* ---- fills: element i is a function of (key, stream, step, i) alone ---- */

/* Stream and step need the whole counter, so they first make a key and a nonce of their own; the elements then count
 * blocks under those. */
typedef struct source {
    uint32_t key[2];
    uint64_t nonce;
} source;

static source source_of(const uint32_t key[2], uint64_t stream, uint64_t step) {
    uint32_t word[4];
    block_of(key, step, stream, word);
    return (source){{word[0], word[1]}, join(word + 2)};
}

/* Blocks [first, first + LANES) at once, word by word: out[w][lane]. The same rounds as wg_philox, laid out so that a
 * compiler runs the lanes side by side; a test compares the two. */
enum { LANES = 16 };

static void lanes(const source *s, uint64_t first, uint32_t out[4][LANES]) {
    uint32_t *c0 = out[0], *c1 = out[1], *c2 = out[2], *c3 = out[3];
    uint32_t k0 = s->key[0], k1 = s->key[1];
    for (int j = 0; j < LANES; j++) {
        c0[j] = (uint32_t)(first + (uint64_t)j);
        c1[j] = (uint32_t)((first + (uint64_t)j) >> 32);
        c2[j] = (uint32_t)s->nonce;
        c3[j] = (uint32_t)(s->nonce >> 32);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int j = 0; j < LANES; j++) {
            uint64_t p0 = (uint64_t)MULTIPLY[0] * c0[j];
            uint64_t p1 = (uint64_t)MULTIPLY[1] * c2[j];
            c0[j] = (uint32_t)(p1 >> 32) ^ c1[j] ^ k0;
            c1[j] = (uint32_t)p1;
            c2[j] = (uint32_t)(p0 >> 32) ^ c3[j] ^ k1;
            c3[j] = (uint32_t)p0;
        }
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
}

/* Defines a fill of T whose block of four words gives `per` elements by the statement `give`, which reads word[] and
 * sets value[]. A range may begin and end inside a block. */
#define FILL(name, T, per, give)                                                                   \
    void name(const uint32_t key[2], uint64_t stream, uint64_t step, int64_t from, int64_t to,     \
              T *out) {                                                                            \
        source s = source_of(key, stream, step);                                                   \
        uint32_t words[4][LANES];                                                                  \
        T values[LANES * (per)];                                                                   \
        for (int64_t block = from / (per); block * (per) < to; block += LANES) {                   \
            int64_t base = block * (per);                                                          \
            int used = (int)wg__min(LANES, (to - base + (per) - 1) / (per));                       \
            lanes(&s, (uint64_t)block, words);                                                     \
            for (int j = 0; j < used; j++) {                                                       \
                const uint32_t word[4] = {words[0][j], words[1][j], words[2][j], words[3][j]};     \
                T *value = values + j * (per);                                                     \
                give;                                                                              \
            }                                                                                      \
            int64_t first = wg__max(from, base), end = wg__min(to, base + used * (per));           \
            if (first < end)                                                                       \
                memcpy(out + (first - from), values + (first - base), (size_t)(end - first) * sizeof(T)); \
        }                                                                                          \
    }

static void uniform4(const uint32_t word[4], float value[4]) {
    for (int i = 0; i < 4; i++)
        value[i] = (float)(word[i] >> 8) * 0x1p-24f;
}

static void uniform2(const uint32_t word[4], double value[2]) {
    value[0] = uniform53(word);
    value[1] = uniform53(word + 2);
}

static void normal4(const uint32_t word[4], float value[4]) {
    for (int i = 0; i < 4; i += 2) {
        double pair[2];
        box_muller((word[i] + 1.0) * 0x1p-32, word[i + 1] * 0x1p-32, pair);
        value[i] = (float)pair[0];
        value[i + 1] = (float)pair[1];
    }
}

FILL(wg__random_uniform_f32, float, 4, uniform4(word, value))
FILL(wg__random_uniform_f64, double, 2, uniform2(word, value))
FILL(wg__random_normal_f32, float, 4, normal4(word, value))
FILL(wg__random_normal_f64, double, 2, normal53(word, value))

/* ---- keys ---- */

wg_tensor *wg_key_new(wg_memory *memory, uint64_t seed) {
    wg_tensor *key = wg_tensor_new(memory, WG_I32, 1, (const int64_t[]){4});
    const uint32_t word[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0};
    if (key)
        memcpy(wg_tensor_write(key), word, sizeof word);
    return key;
}
