/* filled.h: what tests of matrix products share: matrices of any layout that know what they hold, and packed ones. */
#ifndef WG_FILLED_H
#define WG_FILLED_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "packed.h"
#include "suite.h"

/* A matrix of either type with elements far enough apart that no engine may touch what lies between. */
typedef struct filled {
    wg_matrix matrix;
    double *exact; /* rows x columns */
    void *block;
    int64_t span;
} filled;

static inline double draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 33) / 4294967296.0 * 4 - 1;
}

static inline void put(wg_dtype dtype, void *block, int64_t at, double value) {
    if (dtype == WG_F32)
        ((float *)block)[at] = (float)value;
    else
        ((double *)block)[at] = value;
}

static inline double get(wg_dtype dtype, const void *block, int64_t at) {
    return dtype == WG_F32 ? (double)((const float *)block)[at] : ((const double *)block)[at];
}

/* layout 0: rows; 1: rows apart; 2: columns adjacent (a transpose); 3: gaps both ways; 4: one row repeated. */
static inline filled fill_between(wg_dtype dtype, int64_t rows, int64_t columns, int layout, uint64_t seed, double between) {
    filled f = {.matrix.row = columns, .matrix.column = 1};
    if (layout == 1)
        f.matrix.row = columns + 3;
    else if (layout == 2)
        f.matrix.row = 1, f.matrix.column = rows + 2;
    else if (layout == 3)
        f.matrix.row = 2 * columns + 5, f.matrix.column = 2;
    else if (layout == 4)
        f.matrix.row = 0;
    f.span = rows * f.matrix.row + columns * f.matrix.column + 1;
    f.block = calloc((size_t)f.span, 8);
    f.exact = calloc((size_t)(rows * columns) + 1, sizeof *f.exact);
    f.matrix.data = f.block;
    for (int64_t at = 0; at < f.span && between != 0; at++)
        put(dtype, f.block, at, between);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int64_t at = i * f.matrix.row + j * f.matrix.column;
            if (layout != 4 || i == 0)
                put(dtype, f.block, at, draw(&seed));
            f.exact[i * columns + j] = get(dtype, f.block, at);
        }
    return f;
}

static inline filled fill(wg_dtype dtype, int64_t rows, int64_t columns, int layout, uint64_t seed) {
    return fill_between(dtype, rows, columns, layout, seed, 0);
}

static inline void drop(filled *f) {
    free(f->block);
    free(f->exact);
}

/* Every set there may be; those that the machine lacks run as the best that it has: long tests leave them out (wg_isa_runs). */
static const wg_isa sets[] = {WG_ISA_AUTO, WG_ISA_BASELINE, WG_ISA_AVX2, WG_ISA_AVX512, WG_ISA_AMX};

static inline void *pack_as(wg_isa isa, bool parts, wg_dtype dtype, int64_t k, int64_t n, const wg_matrix *b, int threads) {
    size_t bytes = wg__packed_bytes(dtype, k, n, parts);
    void *packed = aligned_alloc(64, bytes + 64);
    memset(packed, 0xff, bytes + 64);
    wg__pack(&(wg_team){.threads = threads, .isa = isa}, dtype, k, n, b, parts, packed);
    for (size_t i = 0; i < 64; i++)
        cr_assert_eq(((unsigned char *)packed)[bytes + i], 0xff, "written past the end");
    return packed;
}

static inline void *pack(wg_isa isa, wg_dtype dtype, int64_t k, int64_t n, const wg_matrix *b, int threads) {
    return pack_as(isa, false, dtype, k, n, b, threads);
}

/* As `worst`, of a packed product; C holds NaN where it is only written. alone: of a row that has no others. */
static inline double packed_worst(wg_isa isa, bool parts, bool alone, wg_dtype dtype, int64_t m, int64_t n, int64_t k, int lb, bool add) {
    filled a = fill(dtype, m, k, 1, 1), b = fill(dtype, k, n, lb, 2), c = fill(dtype, m, n, 1, 3);
    void *packed = pack_as(isa, parts, dtype, k, n, &b.matrix, 1);
    wg_packed_product p;
    double eps = dtype == WG_F32 ? 0x1p-24 : 0x1p-53, most = 0, touched = 0;
    for (int64_t i = 0; i < m && !add; i++)
        for (int64_t j = 0; j < n; j++)
            put(dtype, c.block, i * c.matrix.row + j, NAN);
    wg__packed_product_init(&p, isa, dtype, m, n, k, a.matrix.row, c.matrix.row, add, parts);
    if (alone)
        wg__packed_product_alone(&p, isa);
    wg__packed_multiply(&p, a.block, packed, c.block, false);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            long double sum = 0, size = 0, before = add ? c.exact[i * n + j] : 0;
            for (int64_t q = 0; q < k; q++) {
                long double term = (long double)a.exact[i * k + q] * b.exact[q * n + j];
                sum += term;
                size += fabsl(term);
            }
            double got = get(dtype, c.block, i * c.matrix.row + j);
            long double bound = eps * ((long double)(k + 4) * (size + fabsl(before))) + 1e-300;
            double error = (double)(fabsl(got - (sum + before)) / bound);
            most = isnan(error) ? INFINITY : fmax(most, error);
            put(dtype, c.block, i * c.matrix.row + j, 0);
        }
    for (int64_t at = 0; at < c.span; at++)
        touched += get(dtype, c.block, at) != 0;
    drop(&a), drop(&b), drop(&c);
    free(packed);
    return touched ? INFINITY : most;
}

#endif
