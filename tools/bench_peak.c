/* bench_peak.c: how many multiplications and additions a second the machine does now: independent chains of multiply-adds in
 * registers, on every thread at once, in the widest vectors there are. */
#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum { TIMES = 1 << 16, ROUNDS = 5 };

/* CHAINS chains of vectors x = x a + b, which stay where they are (x = 1, a = 1 - b); the sum is what came of them. The
 * constants come from outside, so that nothing can be known before. */
#define LOOP(name, attribute, type, bytes, chains)                                                                             \
    attribute static double name(const volatile double *constant, int64_t *flops) {                                            \
        typedef type vector __attribute__((vector_size(bytes)));                                                               \
        enum { LANES = bytes / sizeof(type) };                                                                                 \
        vector x[chains], a = {0}, b = {0};                                                                                    \
        a += (type)constant[0];                                                                                                \
        b += (type)constant[1];                                                                                                \
        for (int k = 0; k < chains; k++)                                                                                       \
            x[k] = a + b + (type)constant[2] * (type)k;                                                                        \
        for (int t = 0; t < TIMES; t++)                                                                                        \
            for (int k = 0; k < chains; k++)                                                                                   \
                x[k] = x[k] * a + b;                                                                                           \
        double sum = 0;                                                                                                        \
        for (int k = 0; k < chains; k++)                                                                                       \
            for (int i = 0; i < (int)LANES; i++)                                                                               \
                sum += (double)x[k][i];                                                                                        \
        *flops = (int64_t)2 * TIMES * chains * LANES;                                                                          \
        return sum;                                                                                                            \
    }

#if defined(__x86_64__)
LOOP(widest_float, __attribute__((target("avx512f"))), float, 64, 12)
LOOP(widest_double, __attribute__((target("avx512f"))), double, 64, 12)
LOOP(wide_float, __attribute__((target("avx2,fma"))), float, 32, 12)
LOOP(wide_double, __attribute__((target("avx2,fma"))), double, 32, 12)
#endif
LOOP(plain_float, , float, 16, 10)
LOOP(plain_double, , double, 16, 10)

/* The matrix unit's products of bf16, six of which stand for one of f32: on registers alone, of numbers that are not zero. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
__attribute__((target("amx-tile,amx-bf16"))) static double in_parts(const volatile double *constant, int64_t *flops) {
    enum { SIDE = 16, PRODUCTS_OF_PARTS = 6 };
    struct {
        _Alignas(64) uint8_t palette;
        uint8_t unused[15];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    _Alignas(64) uint16_t x[2 * SIDE * SIDE];
    _Alignas(64) float y[SIDE * SIDE];
    for (int i = 0; i < 8; i++)
        shape.row_bytes[i] = 64, shape.rows[i] = SIDE;
    for (int i = 0; i < 2 * SIDE * SIDE; i++)
        x[i] = (uint16_t)(0x3f00 + (int)(constant[0] * 2) * i % 251);
    __asm__ volatile("" : : "r"(&shape), "r"(x) : "memory"); /* the intrinsics do not say what they read */
    _tile_loadconfig(&shape);
    _tile_loadd(4, x, 64);
    _tile_loadd(5, x, 64);
    _tile_loadd(6, x, 64);
    _tile_loadd(7, x, 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int t = 0; t < TIMES / 16; t++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, y, 64);
    _tile_release();
    *flops = (int64_t)2 * 4 * (TIMES / 16) * SIDE * SIDE * (2 * SIDE) / PRODUCTS_OF_PARTS;
    return (double)y[0];
}
enum { HAS_PARTS = 1 };
#else
static double in_parts(const volatile double *constant, int64_t *flops) {
    *flops = 0;
    return constant[0];
}
enum { HAS_PARTS = 0 };
#endif

typedef double loop(const volatile double *constant, int64_t *flops);

static loop *choose(wg_dtype dtype) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return dtype == WG_F32 ? widest_float : widest_double;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return dtype == WG_F32 ? wide_float : wide_double;
#endif
    return dtype == WG_F32 ? plain_float : plain_double;
}

typedef struct lane {
    pthread_t thread;
    pthread_barrier_t *together;
    loop *loop;
    volatile double constant[3];
    double sum, seconds[ROUNDS];
    int64_t flops;
} lane;

static void *run_lane(void *user) {
    lane *l = user;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(l->together);
        double start = seconds();
        for (int k = 0; k < 8; k++)
            l->sum += l->loop(l->constant, &l->flops);
        l->seconds[round] = seconds() - start;
    }
    return NULL;
}

/* The best of some rounds: in each, what all threads did in the time of the slowest. */
static double peak_of(loop *which, int threads) {
    pthread_barrier_t together;
    lane *all = allocate((size_t)threads, sizeof *all);
    double best = 0;
    int running = 1;
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        all[i] = (lane){.together = &together, .loop = which, .constant = {0.5, 0.5, 0}};
    for (; running < threads; running++)
        if (pthread_create(&all[running].thread, NULL, run_lane, &all[running]) != 0) {
            fprintf(stderr, "wengert: cannot start %d threads\n", threads);
            exit(1);
        }
    run_lane(&all[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(all[i].thread, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        double slowest = 0;
        for (int i = 0; i < threads; i++)
            slowest = fmax(slowest, all[i].seconds[round]);
        best = fmax(best, 8.0 * (double)all[0].flops * threads / slowest);
    }
    pthread_barrier_destroy(&together);
    free(all);
    return best;
}

double peak_flops(int threads, wg_dtype dtype) { return peak_of(choose(dtype), threads); }

double peak_parts_flops(const wg_run_options *run, int threads, wg_dtype dtype) {
    bool served = HAS_PARTS && dtype == WG_F32 && !run->keep_subnormals && (run->isa == WG_ISA_AUTO || run->isa >= WG_ISA_AMX);
    return served && wg_isa_runs(WG_ISA_AMX) ? peak_of(in_parts, threads) : 0;
}
