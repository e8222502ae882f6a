/* Random numbers: Philox against its published vectors, sequences, and fills under any split. */
#include "suite.h"

#include "core.h"

#include <stdlib.h>
#include <string.h>

/* The known-answer vectors for philox4x32 with 10 rounds, published with Random123 (Salmon et al. 2011). */
static const struct {
    uint32_t counter[4], key[2], out[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

Test(random, philox_gives_its_published_answers) {
    for (int i = 0; i < WG_LEN(known); i++) {
        uint32_t out[4];
        wg_philox(known[i].counter, known[i].key, out);
        cr_assert(memcmp(out, known[i].out, sizeof out) == 0, "vector %d", i);
    }
}

Test(random, a_draw_is_known_by_its_number) {
    wg_random run = {.seed = 7, .stream = 3};
    double tenth = 0;
    for (int i = 0; i <= 10; i++)
        tenth = wg_random_uniform(&run);
    wg_random jump = {.seed = 7, .stream = 3, .at = 10};
    cr_assert_eq(wg_random_uniform(&jump), tenth);
    cr_assert_eq(jump.at, 11);
    wg_random other = {.seed = 7, .stream = 4, .at = 10};
    cr_assert_neq(wg_random_uniform(&other), tenth);
    wg_random seeded = {.seed = 8, .stream = 3, .at = 10};
    cr_assert_neq(wg_random_uniform(&seeded), tenth);
}

Test(random, high_bits_of_seed_stream_and_number_count) {
    wg_random low = {1, 1, 1}, seed = {1 | 1ull << 40, 1, 1}, stream = {1, 1 | 1ull << 40, 1},
              at = {1, 1, 1 | 1ull << 40};
    uint32_t bits = wg_random_bits(&low);
    cr_assert_neq(wg_random_bits(&seed), bits);
    cr_assert_neq(wg_random_bits(&stream), bits);
    cr_assert_neq(wg_random_bits(&at), bits);
}

/* Mean, variance, third and fourth moment of n values. */
static void moments(int n, const double *x, double m[4]) {
    memset(m, 0, 4 * sizeof *m);
    for (int i = 0; i < n; i++)
        m[0] += x[i] / n;
    for (int i = 0; i < n; i++) {
        double d = x[i] - m[0];
        m[1] += d * d / n;
        m[2] += d * d * d / n;
        m[3] += d * d * d * d / n;
    }
}

enum { DRAWS = 100000 };

/* Bounds are five standard errors or more of each moment at 100,000 draws. */
static void check_uniform(const double *x) {
    double m[4];
    for (int i = 0; i < DRAWS; i++)
        cr_assert(x[i] >= 0 && x[i] < 1);
    moments(DRAWS, x, m);
    cr_assert_float_eq(m[0], 0.5, 0.005);
    cr_assert_float_eq(m[1], 1 / 12.0, 0.0015);
    cr_assert_float_eq(m[3], 1 / 80.0, 0.0005);
}

static void check_normal(const double *x) {
    double m[4];
    moments(DRAWS, x, m);
    cr_assert_float_eq(m[0], 0, 0.016);
    cr_assert_float_eq(m[1], 1, 0.023);
    cr_assert_float_eq(m[2], 0, 0.065);
    cr_assert_float_eq(m[3], 3, 0.16);
}

Test(random, sequences_have_the_moments_they_should) {
    static double x[DRAWS];
    wg_random random = {.seed = 1};
    for (int i = 0; i < DRAWS; i++)
        x[i] = wg_random_uniform(&random);
    check_uniform(x);
    for (int i = 0; i < DRAWS; i++)
        x[i] = wg_random_normal(&random);
    check_normal(x);
}

Test(random, below_is_even_and_in_range) {
    wg_random random = {.seed = 5};
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t draw = wg_random_below(&random, 7);
        cr_assert_lt(draw, 7);
        count[draw]++;
    }
    for (int i = 0; i < 7; i++)
        cr_assert(abs(count[i] - 10000) < 500, "%d came %d times", i, count[i]);
    cr_assert_eq(wg_random_below(&random, 0), 0);
    cr_assert_eq(wg_random_below(&random, 1), 0);
}

/* With n = 3 * 2^62, floor(r n / 2^64) without redrawing would favour every third value: the share of multiples of
 * three would be one half instead of one third. */
Test(random, below_has_no_bias_at_large_n) {
    wg_random random = {.seed = 6};
    int threes = 0;
    for (int i = 0; i < 30000; i++)
        threes += wg_random_below(&random, 3ull << 62) % 3 == 0;
    cr_assert(abs(threes - 10000) < 500, "%d of 30000", threes);
    cr_assert_gt(random.at, 35000);
}

enum { N = 103 };
static const uint32_t key[2] = {11, 22};

/* Fills [0,N) in one go and in pieces of every size: the bits must agree. */
#define SPLIT_TEST(kind, T)                                                                        \
    Test(random, kind##_fill_is_the_same_under_any_split) {                                        \
        T whole[N], parts[N];                                                                      \
        wg__random_##kind(key, 5, 9, 0, N, whole);                                                 \
        for (int piece = 1; piece <= N; piece++) {                                                 \
            memset(parts, 0xff, sizeof parts);                                                     \
            for (int from = 0; from < N; from += piece)                                            \
                wg__random_##kind(key, 5, 9, from, from + piece < N ? from + piece : N, parts + from); \
            cr_assert(memcmp(whole, parts, sizeof whole) == 0, "pieces of %d", piece);             \
        }                                                                                          \
        wg__random_##kind(key, 5, 10, 0, N, parts);                                                \
        cr_assert(memcmp(whole, parts, sizeof whole) != 0, "the step does not count");             \
        wg__random_##kind(key, 6, 9, 0, N, parts);                                                 \
        cr_assert(memcmp(whole, parts, sizeof whole) != 0, "the stream does not count");           \
        wg__random_##kind((const uint32_t[2]){11, 23}, 5, 9, 0, N, parts);                         \
        cr_assert(memcmp(whole, parts, sizeof whole) != 0, "the key does not count");              \
        T before = parts[7];                                                                       \
        wg__random_##kind(key, 5, 9, 7, 7, parts + 7);                                             \
        cr_assert(memcmp(&before, &parts[7], sizeof before) == 0, "an empty range writes");        \
    }
SPLIT_TEST(uniform_f32, float)
SPLIT_TEST(uniform_f64, double)
SPLIT_TEST(normal_f32, float)
SPLIT_TEST(normal_f64, double)

/* A fill by the definition, one block after another with wg_philox: under the key and nonce that (stream, step) make. */
Test(random, fills_are_philox_of_the_block_number) {
    enum { FROM = 37, TO = 301 };
    const uint64_t stream = 5ull << 33 | 1, step = 9ull << 35 | 3;
    const uint32_t lead[4] = {(uint32_t)step, (uint32_t)(step >> 32), (uint32_t)stream,
                              (uint32_t)(stream >> 32)};
    uint32_t made[4];
    float f[TO];
    double d[TO];
    wg_philox(lead, key, made);
    wg__random_uniform_f32(key, stream, step, FROM, TO, f + FROM);
    wg__random_uniform_f64(key, stream, step, FROM, TO, d + FROM);
    for (int i = FROM; i < TO; i++) {
        uint32_t four[4], two[4];
        wg_philox((const uint32_t[4]){(uint32_t)i / 4, 0, made[2], made[3]}, made, four);
        wg_philox((const uint32_t[4]){(uint32_t)i / 2, 0, made[2], made[3]}, made, two);
        cr_assert_eq(f[i], (float)(four[i % 4] >> 8) / 16777216.0f, "element %d", i);
        uint64_t bits = (uint64_t)two[i % 2 * 2 + 1] << 32 | two[i % 2 * 2];
        cr_assert_eq(d[i], (double)(bits >> 11) / 9007199254740992.0, "element %d", i);
    }
}

Test(random, fills_have_the_moments_they_should) {
    static double x[DRAWS];
    static float f[DRAWS];
    wg__random_uniform_f64(key, 1, 2, 0, DRAWS, x);
    check_uniform(x);
    wg__random_normal_f64(key, 1, 2, 0, DRAWS, x);
    check_normal(x);
    wg__random_uniform_f32(key, 1, 2, 0, DRAWS, f);
    for (int i = 0; i < DRAWS; i++)
        x[i] = f[i];
    check_uniform(x);
    wg__random_normal_f32(key, 1, 2, 0, DRAWS, f);
    for (int i = 0; i < DRAWS; i++)
        x[i] = f[i];
    check_normal(x);
}
