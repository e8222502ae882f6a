/* Matrix products: every engine against long double sums, at all transposes, odd strides, sizes and thread counts. */
#include "packed_gemm.h"
#include "filled.h"

#include "amx.h"

#include <sys/mman.h>
#include <unistd.h>

static wg_isa most_isa = WG_ISA_AUTO; /* of what `worst` runs */

/* The largest |C - exact| over the rounding that sum may have made; and whether the gaps of C are untouched. */
static double worst(wg_engine engine, wg_dtype dtype, int64_t m, int64_t n, int64_t k, int la, int lb, int lc,
                    double alpha, double beta, int threads) {
    filled a = fill_between(dtype, m, k, la, 1, NAN), b = fill_between(dtype, k, n, lb, 2, NAN), c = fill(dtype, m, n, lc, 3); /* what lies between is not read */
    wg_gemm g = {dtype, m, n, k, a.matrix, b.matrix, c.matrix, alpha, beta, WG_ISA_AUTO};
    wg_team team = {.threads = threads, .keep_subnormals = true, .isa = most_isa};
    double eps = dtype == WG_F32 ? 0x1p-24 : 0x1p-53, most = 0, touched = 0;
    wg__gemm_by(engine, &team, &g);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            long double sum = 0, size = 0;
            for (int64_t p = 0; p < k; p++) {
                long double term = (long double)a.exact[i * k + p] * b.exact[p * n + j];
                sum += term;
                size += fabsl(term);
            }
            long double exact = alpha * sum + (beta == 0 ? 0 : beta * (long double)c.exact[i * n + j]);
            long double bound = eps * ((long double)(k + 4) * fabs(alpha) * size + 4 * fabsl(exact) +
                                       4 * fabs(beta * c.exact[i * n + j])) + 1e-300;
            int64_t at = i * c.matrix.row + j;
            most = fmax(most, (double)(fabsl(get(dtype, c.block, at) - exact) / bound));
            put(dtype, c.block, at, 0);
        }
    for (int64_t at = 0; at < c.span; at++)
        touched += get(dtype, c.block, at) != 0;
    drop(&a), drop(&b), drop(&c);
    return touched ? INFINITY : most;
}

static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {1, 300, 9}, {130, 1, 65}, {33, 257, 70}, {129, 129, 3}, {64, 64, 64}};

Test(gemm, engines_agree_with_exact_sums_at_every_layout) {
    for (int engine = WG_ENGINE_BY_SIZE; engine < WG_ENGINES; engine++)
        for (int s = 0; s < WG_LEN(sizes); s++)
            for (int layouts = 0; layouts < 50; layouts++)
                for (int dtype = WG_F32; dtype <= WG_F64; dtype++) {
                    double error = worst(engine, dtype, sizes[s][0], sizes[s][1], sizes[s][2], layouts % 5,
                                         layouts / 5 % 5, layouts / 25, 1, 0, 1);
                    cr_assert_leq(error, 1, "engine %d, size %d, layouts %d, %s: %g times the bound", engine, s,
                                  layouts, wg_dtype_name(dtype), error);
                }
}

static int64_t tiles_of(wg_isa set, const wg_gemm *g) {
    wg_tiles tiles;
    wg__tiles_of(&tiles, &(wg_team){.threads = 1, .isa = set}, 1, g);
    return tiles.down * tiles.across;
}

/* Rows, columns or neither are more than 256 of a tile: what is copied of B serves all rows, of A all columns. For narrow blocks both are, but
 * for an A that few of them read. */
Test(gemm, tiles_of_large_products_are_longer_where_an_operand_is_copied) {
    static const struct {
        int a, b, tiles;
    } want[] = {{0, 0, 7 * 6}, {0, 2, 2 * 6}, {2, 0, 7 * 6}, {2, 2, 7 * 6}, {3, 0, 7 * 3}, {3, 2, 7 * 3}};
    filled tall = fill(WG_F32, 5000, 7, 0, 1), few = fill(WG_F32, 7, 64, 0, 2);
    for (int set = 0; set < WG_LEN(sets); set++)
        cr_expect_eq(tiles_of(sets[set], &(wg_gemm){WG_F32, 5000, 64, 7, tall.matrix, few.matrix, {0}, 1, 0, sets[set]}),
                     wg__is_narrow(WG_F32, sets[set]) ? 10 : 20, "set %d", set);
    drop(&tall), drop(&few);
    for (int k = 0; k < WG_LEN(want); k++) {
        filled a = fill(WG_F32, 1540, 7, want[k].a, 1), b = fill(WG_F32, 7, 1300, want[k].b, 2);
        for (int set = 0; set < WG_LEN(sets); set++) {
            const wg_gemm g = {WG_F32, 1540, 1300, 7, a.matrix, b.matrix, {0}, 1, 0, sets[set]};
            cr_expect_eq(tiles_of(sets[set], &g), wg__is_narrow(WG_F32, sets[set]) ? 7 * 3 : want[k].tiles, "%d, set %d", k, set);
        }
        drop(&a), drop(&b);
        for (int threads = 1; threads <= 3; threads += 2) {
            double error = worst(WG_ENGINE_PACKED, WG_F32, 1540, 1300, 7, want[k].a, want[k].b, 1, 1, threads - 1, threads);
            cr_expect_leq(error, 1, "%d, %d threads: %g", k, threads, error);
        }
    }
}

/* More rows than are copied of A together; whatever is said to be next. */
Test(gemm, a_tile_of_packed_panels_may_have_any_rows) {
    for (int s = 0; s < 4 * WG_LEN(sets); s++) {
        const int layout = s % 4;
        if (!wg_isa_runs(sets[s / 4]))
            continue;
        filled a = fill(WG_F32, 600, 530, layout, 1), b = fill(WG_F32, 530, 70, 0, 2), c = fill(WG_F32, 600, 70, 1, 3);
        const wg_gemm g = {WG_F32, 600, 70, 530, a.matrix, b.matrix, c.matrix, 1, 0, sets[s / 4]};
        wg__gemm_packed(false, false, &g, &g);
        double worst = 0;
        for (int64_t i = 0; i < 600 * 70; i++) {
            double want = 0;
            for (int64_t q = 0; q < 530; q++)
                want += a.exact[i / 70 * 530 + q] * b.exact[q * 70 + i % 70];
            worst = fmax(worst, fabs(want - get(WG_F32, c.block, i / 70 * c.matrix.row + i % 70)));
        }
        cr_expect_leq(worst, 1e-3, "layout %d, set %d: %g", layout, s / 4, worst);
        drop(&a), drop(&b), drop(&c);
    }
}

/* Around the lengths at which k is cut, with operands that are copied and that are not. */
Test(gemm, a_long_k_may_be_one_piece_or_several) {
    static const int64_t k[] = {161, 256, 257, 321, 500, 512, 513, 1024, 1025}, n[] = {64, 70};
    for (int s = 0; s < 2 * WG_LEN(k) * WG_LEN(n); s++)
        for (int layouts = 0; layouts < 16 * WG_LEN(sets); layouts++) {
            most_isa = sets[layouts / 16];
            if ((most_isa != WG_ISA_AUTO && !wg_isa_runs(most_isa)) || (layouts + layouts / 16 + s / 2) % 2)
                continue; /* half of the layouts with each set */
            const int64_t terms = k[s / 2 / WG_LEN(n)], columns = n[s / 2 % WG_LEN(n)], rows = s % 3 ? 7 : 13;
            const wg_dtype dtype = (s / 4 + layouts / 4) % 2 ? WG_F64 : WG_F32;
            const double error = worst(s % 2 ? WG_ENGINE_XSMM : WG_ENGINE_PACKED, dtype, rows, columns, terms, layouts % 4, layouts / 4 % 4, 1, 1, s % 3, 1);
            cr_expect_leq(error, 1, "%lld columns, %lld terms, layouts %d: %g", (long long)columns, (long long)terms, layouts, error);
        }
    most_isa = WG_ISA_AUTO;
}

Test(gemm, alpha_scales_and_beta_accumulates) {
    const double factor[] = {0, 1, -1, 0.5};
    for (int engine = WG_ENGINE_PLAIN; engine < WG_ENGINES; engine++)
        for (int f = 0; f < 16; f++)
            for (int layout = 0; layout < 4; layout += 3) {
                cr_assert_leq(worst(engine, WG_F64, 33, 140, 70, layout, 2, 1, factor[f % 4], factor[f / 4], 1), 1);
                cr_assert_leq(worst(engine, WG_F32, 33, 140, 70, 2, layout, 1, factor[f % 4], factor[f / 4], 1), 1);
            }
}

Test(gemm, empty_inner_axis_scales_the_result_and_empty_results_are_left_alone) {
    for (int engine = WG_ENGINE_BY_SIZE; engine < WG_ENGINES; engine++) {
        cr_assert_leq(worst(engine, WG_F32, 3, 200, 0, 0, 0, 0, 1, 0, 2), 1, "k = 0 writes zeros");
        cr_assert_leq(worst(engine, WG_F32, 3, 200, 0, 0, 0, 1, 1, 0.5, 2), 1, "k = 0 with beta");
        cr_assert_leq(worst(engine, WG_F64, 0, 4, 3, 0, 0, 0, 1, 0, 2), 1);
        cr_assert_leq(worst(engine, WG_F64, 4, 0, 3, 0, 0, 0, 1, 0, 2), 1);
        cr_assert_leq(worst(engine, WG_F64, 0, 0, 0, 0, 0, 0, 1, 0, 2), 1);
    }
}

Test(gemm, nan_and_infinity_reach_their_row_and_column_and_no_other) {
    enum { M = 40, N = 50, K = 30 };
    for (int engine = WG_ENGINE_PLAIN; engine < WG_ENGINES; engine++)
        for (int gaps = 1; gaps <= 2; gaps++) {
            static float a[M * K * 2], b[K * N], c[M * N];
            for (int i = 0; i < M * K * 2; i++)
                a[i] = 1;
            for (int i = 0; i < K * N; i++)
                b[i] = 0.25f;
            for (int i = 0; i < M * N; i++)
                c[i] = NAN;
            a[(7 * K + 11) * gaps] = INFINITY;
            b[3 * N + 20] = NAN;
            b[11 * N + 9] = 0; /* infinity times zero */
            wg_gemm g = {WG_F32, M, N, K, {a, K * gaps, gaps}, {b, N, 1}, {c, N, 1}, 1, 0, WG_ISA_AUTO};
            wg__gemm_by(engine, &(wg_team){.threads = 1}, &g);
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                    float y = c[i * N + j];
                    if (j == 20 || (i == 7 && j == 9))
                        cr_assert(isnan(y), "(%d,%d) is %g", i, j, y);
                    else if (i == 7)
                        cr_assert(isinf(y) && y > 0, "(%d,%d) is %g", i, j, y);
                    else
                        cr_assert_eq(y, 0.25f * K - (j == 9 ? 0.25f : 0), "(%d,%d) is %g", i, j, y);
                }
        }
}

/* Of few terms and of many, by any kernels, in tiles and without; the same bits on any threads. */
Test(gemm, products_are_added_up_where_they_are_made) {
    static const int64_t sides[][2] = {{3, 2}, {96, 130}, {300, 270}}, deep[][3] = {{32, 700, 1}, {5, 3, 0}, {200, 130, 400}};
    for (int s = 0; s < 2 * 3 * 3; s++) {
        const int64_t m = sides[s % 3][0], n = sides[s % 3][1];
        const wg_dtype dtype = s < 9 ? WG_F32 : WG_F64;
        filled c = fill(dtype, m, n, 1, 9), a[3], b[3];
        wg_gemm g[3];
        void *first = calloc((size_t)c.span, 8);
        for (int k = 0; k < 3; k++) {
            const int64_t terms = deep[s / 3 % 3][k];
            a[k] = fill(dtype, m, terms, k == 1 ? 0 : 2, (uint64_t)k), b[k] = fill(dtype, terms, n, k, 3 + (uint64_t)k);
            g[k] = (wg_gemm){dtype, m, n, terms, a[k].matrix, b[k].matrix, c.matrix, 1, k > 0, WG_ISA_AUTO};
        }
        for (int threads = 1; threads <= 3; threads++) {
            memset(c.block, 0xff, (size_t)c.span * 8);
            wg__gemm_sum(&(wg_team){.threads = threads}, 3, g);
            if (threads == 1)
                memcpy(first, c.block, (size_t)c.span * 8);
            cr_expect_eq(memcmp(first, c.block, (size_t)c.span * 8), 0, "%d threads", threads);
        }
        double worst = 0;
        for (int64_t i = 0; i < m * n; i++) {
            double want = 0, got = get(dtype, c.block, i / n * c.matrix.row + i % n);
            for (int k = 0; k < 3; k++)
                for (int64_t q = 0, terms = g[k].k; q < terms; q++)
                    want += a[k].exact[i / n * terms + q] * b[k].exact[q * n + i % n];
            worst = fmax(worst, isnan(got) ? INFINITY : fabs(got - want));
        }
        cr_expect_leq(worst, dtype == WG_F32 ? 2e-3 : 1e-11, "%lld x %lld, %d: %g", (long long)m, (long long)n, s, worst);
        for (int k = 0; k < 3; k++)
            drop(&a[k]), drop(&b[k]);
        drop(&c);
        free(first);
    }
}

Test(gemm, bits_do_not_depend_on_the_number_of_threads) {
    const int64_t big[][3] = {{32, 1024, 256}, {300, 260, 70}, {257, 129, 200}, {600, 300, 210}};
    for (int s = 0; s < WG_LEN(big); s++)
        for (int dtype = WG_F32; dtype <= WG_F64; dtype++) {
            int64_t m = big[s][0], n = big[s][1], k = big[s][2];
            filled a = fill(dtype, m, k, 0, 1), b = fill(dtype, k, n, s % 2 ? 0 : 2, 2), c = fill(dtype, m, n, 0, 3);
            void *first = calloc((size_t)c.span, 8);
            wg_gemm g = {dtype, m, n, k, a.matrix, b.matrix, c.matrix, 1, 0, WG_ISA_AUTO};
            cr_assert_gt(tiles_of(WG_ISA_AUTO, &g), 1);
            for (int threads = 1; threads <= 8; threads += threads < 4 ? 1 : 4) {
                memset(c.block, 0xff, (size_t)c.span * 8);
                wg__gemm(&(wg_team){.threads = threads}, &g);
                if (threads == 1)
                    memcpy(first, c.block, (size_t)c.span * 8);
                cr_assert_eq(memcmp(first, c.block, (size_t)c.span * 8), 0, "%d threads", threads);
            }
            for (int64_t rows = 1000; rows > 3; rows /= 8) {
                wg_tiles tiles;
                memset(c.block, 0xff, (size_t)c.span * 8);
                wg__tiles_of(&tiles, &(wg_team){.threads = 1}, 1, &g);
                const int64_t before = tiles.rows, least = wg__is_narrow(dtype, WG_ISA_AUTO) ? 192 : 0;
                wg__tiles_cut(&tiles, rows);
                if (dtype == WG_F64 && wg__isa_within(WG_ISA_AUTO) > 0) /* f32 may be made in parts, which are not cut */
                    cr_expect_eq(tiles.rows, b.matrix.column == 1 ? wg__min(before, wg__max(rows, least)) : before, "%d rows of %d", (int)tiles.rows, (int)before);
                cr_expect_eq(tiles.down, (m + tiles.rows - 1) / tiles.rows);
                for (int64_t tile = tiles.down * tiles.across - 1; tile >= 0; tile--)
                    wg__tiles_run(&tiles, tile, tile + 1, tile + 1);
                cr_assert_eq(memcmp(first, c.block, (size_t)c.span * 8), 0, "tiles of %d rows at most, one by one, backwards", (int)rows);
            }
            free(first);
            drop(&a), drop(&b), drop(&c);
        }
}

Test(gemm, every_instruction_set_agrees_with_exact_sums_at_odd_sizes) {
    const int64_t odd[] = {0, 1, 3, 17, 32, 48, 63, 64, 65, 129};
    enum { N = WG_LEN(odd) };
    for (int set = 0; set < WG_LEN(sets); set++) {
        if (!wg_isa_runs(sets[set]))
            continue;
        most_isa = sets[set];
        for (int s = 0; s < N * N * N; s++) {
            int64_t m = odd[s % N], n = odd[s / N % N], k = odd[s / N / N];
            wg_engine engine = s % 3 == 0 ? WG_ENGINE_BY_SIZE : s % 3 == 1 ? WG_ENGINE_PACKED : WG_ENGINE_XSMM;
            wg_dtype dtype = (s / 3) % 2 ? WG_F32 : WG_F64;
            double error = worst(engine, dtype, m, n, k, s % 5, s / 5 % 5, s / 7 % 2, 1, s / 2 % 2, 1 + s % 2);
            cr_assert_leq(error, 1, "set %d, engine %d, %s, %lldx%lldx%lld: %g times the bound", set, (int)engine,
                          wg_dtype_name(dtype), (long long)m, (long long)n, (long long)k, error);
        }
    }
    most_isa = WG_ISA_AUTO;
}

/* What kernels that fuse have to make of what `fill` draws, whose numbers no layout changes. */
static void chain(wg_dtype dtype, int64_t m, int64_t n, int64_t k, void *out) {
    filled a = fill(dtype, m, k, 0, 1), b = fill(dtype, k, n, 0, 2);
    for (int64_t at = 0; at < m * n; at++) {
        double sum = 0;
        for (int64_t q = 0; q < k; q++) {
            const double x = a.exact[at / n * k + q], y = b.exact[q * n + at % n];
            sum = dtype == WG_F32 ? (double)fmaf((float)x, (float)y, (float)sum) : fma(x, y, sum);
        }
        put(dtype, out, at, sum);
    }
    drop(&a), drop(&b);
}

/* One chain of multiply-adds an element, in the order of k: whoever runs it, whatever the order that A and B lie in. */
Test(gemm, kernels_that_fuse_agree_in_every_bit) {
    const int64_t forms[][3] = {{70, 200, 500}, {300, 64, 1030}, {7, 128, 33}};
    int compared = 0;
    for (int f = 0; f < WG_LEN(forms) * 2; f++) {
        const int dtype = f % 2 ? WG_F64 : WG_F32;
        const int64_t m = forms[f / 2][0], n = forms[f / 2][1], k = forms[f / 2][2];
        void *first = calloc((size_t)(m * n), 8);
        bool known = wg_isa_runs(WG_ISA_AVX2); /* the compiler's own kernels of the baseline do not fuse, LIBXSMM's may */
        if (known)
            chain(dtype, m, n, k, first);
        for (int layouts = 0; layouts < 16; layouts++) {
            filled a = fill(dtype, m, k, layouts % 4, 1), b = fill(dtype, k, n, layouts / 4, 2), c = fill(dtype, m, n, 0, 3);
            wg_gemm g = {dtype, m, n, k, a.matrix, b.matrix, c.matrix, 1, 0, WG_ISA_AUTO};
            const size_t bytes = (size_t)(m * n) * wg_dtype_size(dtype);
            for (int way = 0; way < (wg_isa_runs(WG_ISA_AVX2) ? 4 : 1); way++) {
                wg_isa isa = way == 1 ? WG_ISA_AVX2 : WG_ISA_AUTO;
                memset(c.block, 0xff, (size_t)c.span * 8);
                wg__gemm_by(way < 2 ? WG_ENGINE_PACKED : WG_ENGINE_XSMM, &(wg_team){.threads = way == 3 ? 3 : 1, .isa = isa}, &g);
                if (!known)
                    memcpy(first, c.block, bytes);
                compared += known;
                known = true;
                cr_assert_eq(memcmp(first, c.block, bytes), 0, "form %d, layouts %d, %s, way %d", f, layouts, wg_dtype_name(dtype), way);
            }
            drop(&a), drop(&b), drop(&c);
        }
        free(first);
    }
    cr_assert_gt(compared, 0);
}

/* ---- products in bf16 parts, where the machine makes them ---- */

Test(gemm, products_in_parts_agree_with_exact_sums_at_every_size) {
    const int64_t odd[] = {0, 1, 17, 63, 64, 65, 129, 600}, rows[] = {1, 15, 16, 17, 32, 33, 48, 150};
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    for (int i = 0; i < WG_LEN(rows); i++)
        for (int s = 0; s < WG_LEN(odd) * WG_LEN(odd); s++) {
            int64_t n = odd[s % WG_LEN(odd)], k = odd[s / WG_LEN(odd)];
            double error = packed_worst(WG_ISA_AUTO, true, false, WG_F32, rows[i], n, k, (i + s) % 4, s % 2);
            cr_assert_leq(error, 1, "packed %lldx%lldx%lld: %g times the bound", (long long)rows[i], (long long)n, (long long)k, error);
            error = worst(WG_ENGINE_AMX, WG_F32, rows[i], n, k, s % 5, (i + s) % 5, i % 2, 0.5, s % 3 - 1, 1 + s % 2);
            cr_assert_leq(error, 1, "whole %lldx%lldx%lld: %g times the bound", (long long)rows[i], (long long)n, (long long)k, error);
        }
}

/* The parts of a number are that number: times one, it is what it was. */
Test(gemm, parts_add_up_to_every_normal_number) {
    enum { M = 40, K = 96 };
    static float a[M * K], unit[K * K], c[M * K];
    uint64_t state = 11;
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    for (int i = 0; i < K; i++)
        unit[i * K + i] = 1;
    void *packed = pack_as(WG_ISA_AUTO, true, WG_F32, K, K, &(wg_matrix){unit, K, 1}, 1);
    wg_packed_product p;
    wg__packed_product_init(&p, WG_ISA_AUTO, WG_F32, M, K, K, K, K, false, true);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < M * K; i++) {
            draw(&state);
            uint32_t exponent = 1 + (uint32_t)(state >> 40) % (127 + 29), bits = (uint32_t)(state >> 20 & 0x7fffff) | exponent << 23 | (uint32_t)(state >> 63) << 31;
            bits |= i % 7 == 0 ? 0x7fffff : i % 7 == 1 ? 0x7f8000 : 0; /* all ones, and halves to be rounded */
            memcpy(&a[i], &bits, sizeof bits);
        }
        wg__packed_multiply(&p, a, packed, c, false);
        cr_assert_eq(memcmp(a, c, sizeof a), 0, "packed, round %d", round);
        wg__gemm_by(WG_ENGINE_AMX, &(wg_team){.threads = 1}, &(wg_gemm){WG_F32, M, K, K, {a, K, 1}, {unit, K, 1}, {c, K, 1}, 1, 0, WG_ISA_AUTO});
        cr_assert_eq(memcmp(a, c, sizeof a), 0, "whole, round %d", round);
    }
    free(packed);
}

/* alpha is no power of two, nor near one; rows and blocks in parts and whole, either way round. */
Test(gemm, alpha_scales_products_in_parts_however_small_it_is) {
    enum { M = 70, N = 130, K = 80 };
    static const double alphas[] = {0.7, -3, 1e-30, 1e25};
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    for (int which = 0; which < WG_LEN(alphas); which++)
        for (int form = 0; form < 6; form++) {
            int64_t m = form % 2 ? N : M, n = form % 2 ? M : N;
            filled a = fill(WG_F32, m, K, form / 2 == 1 ? 2 : 0, 1), b = fill(WG_F32, K, n, form / 2 == 2 ? 2 : 0, 2), c = fill(WG_F32, m, n, 0, 3), d = fill(WG_F32, m, n, 0, 3);
            ((float *)a.block)[5] = 0x1p31f;
            ((float *)b.block)[n + 3] = -0x1p32f;
            wg_gemm g = {WG_F32, m, n, K, a.matrix, b.matrix, c.matrix, alphas[which], 0, WG_ISA_AUTO};
            wg__gemm_by(WG_ENGINE_AMX, &(wg_team){.threads = 1}, &g);
            g.c = d.matrix;
            wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 1}, &g);
            for (int64_t i = 0; i < m * n; i++) {
                double x = ((float *)d.block)[i], y = ((float *)c.block)[i];
                cr_assert_leq(fabs(x - y), 1e-5 * (fabs(x) + fabs(alphas[which]) * K), "alpha %g, form %d, element %lld: %g, not %g", alphas[which], form, (long long)i, y, x);
            }
            drop(&a), drop(&b), drop(&c), drop(&d);
        }
}

/* Beyond the first piece of k, which a block that is not in parts has elsewhere; and of more rows than are split at once. */
Test(gemm, long_products_in_parts_read_large_blocks_where_they_are) {
    enum { M = 300, N = 70, K = 1100 };
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    filled a = fill(WG_F32, M, K, 0, 1), b = fill(WG_F32, K, N, 0, 2), c = fill(WG_F32, M, N, 0, 3), d = fill(WG_F32, M, N, 0, 3);
    ((float *)b.block)[900 * N + 7] = 0x1p31f;
    ((float *)a.block)[200 * K + 1050] = 0x1p31f;
    wg_gemm g = {WG_F32, M, N, K, a.matrix, b.matrix, c.matrix, 1, 0, WG_ISA_AUTO};
    wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 1}, &g);
    for (int way = 0; way < 2; way++) {
        wg_packed_product p;
        void *packed = pack_as(WG_ISA_AUTO, true, WG_F32, K, N, &b.matrix, 1);
        wg__packed_product_init(&p, WG_ISA_AUTO, WG_F32, M, N, K, K, N, false, true);
        g.c = d.matrix;
        if (way)
            wg__amx_gemm(&g);
        else
            wg__packed_multiply(&p, a.block, packed, d.block, false);
        for (int64_t i = 0; i < M; i++)
            for (int64_t j = 0; j < N; j++) {
                double x = ((float *)c.block)[i * N + j], y = ((float *)d.block)[i * N + j], large = j < 64 || i == 200 ? 0x1p33 : 1e3;
                cr_assert_leq(fabs(x - y), 1e-6 * large, "way %d, (%lld,%lld): %g, not %g", way, (long long)i, (long long)j, y, x);
            }
        free(packed);
    }
    drop(&a), drop(&b), drop(&c), drop(&d);
}

Test(gemm, sizes_of_packed_matrices_that_overflow_are_told) {
    for (int parts = 0; parts < 2; parts++)
        if (!parts || wg_isa_runs(WG_ISA_AMX)) {
            cr_expect_eq(wg__packed_bytes(WG_F32, INT64_MAX / 2, INT64_MAX / 2, parts), SIZE_MAX);
            cr_expect_eq(wg__packed_bytes(WG_F32, INT64_MAX / 64, 65, parts), SIZE_MAX);
            cr_expect_neq(wg__packed_bytes(WG_F32, 1000, 1000, parts), SIZE_MAX);
        }
}

/* What parts cannot hold (2^30 and more, infinity, NaN) is multiplied as it is, row by row and block by block; nothing else changes. */
Test(gemm, large_numbers_leave_other_rows_and_blocks_of_a_product_in_parts_alone) {
    enum { M = 50, N = 150, K = 100 };
    static const float large[] = {0x1p30f, -0x1p31f, 3e38f, INFINITY, -INFINITY, NAN};
    static float a[M * K], b[K * N], plain[M * N], before[M * N], c[M * N];
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    for (int which = 0; which < WG_LEN(large); which++)
        for (int where = 0; where < 3; where++) { /* a row of A; a block of B; both */
            uint64_t state = 5;
            for (int i = 0; i < M * K; i++)
                a[i] = (float)draw(&state);
            for (int i = 0; i < K * N; i++)
                b[i] = (float)draw(&state);
            for (int way = 0; way < 2; way++) {
                wg_packed_product p;
                wg_gemm g = {WG_F32, M, N, K, {a, K, 1}, {b, N, 1}, {c, N, 1}, 1, 0, WG_ISA_AUTO};
                for (int after = 0; after < 2; after++) {
                    a[37 * K + 99] = after && where != 1 ? large[which] : 0.5f;
                    b[60 * N + 70] = after && where != 0 ? large[which] : 0.5f;
                    if (way) {
                        wg__gemm_by(WG_ENGINE_AMX, &(wg_team){.threads = 1}, &g);
                    } else {
                        void *packed = pack_as(WG_ISA_AUTO, true, WG_F32, K, N, &g.b, 1);
                        wg__packed_product_init(&p, WG_ISA_AUTO, WG_F32, M, N, K, K, N, false, true);
                        wg__packed_multiply(&p, a, packed, c, true);
                        free(packed);
                    }
                    if (!after)
                        memcpy(before, c, sizeof c);
                }
                g.c.data = plain;
                wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 1}, &g);
                for (int i = 0; i < M; i++)
                    for (int j = 0; j < N; j++) {
                        bool touched = (where != 1 && i == 37) || (where != 0 && j >= 64 && j < 128);
                        float y = c[i * N + j], x = touched ? plain[i * N + j] : before[i * N + j];
                        cr_assert(x == y || (isnan(x) && isnan(y)), "%g, place %d, way %d: (%d,%d) is %g, not %g", large[which], where, way, i, j, y, x);
                    }
            }
        }
}

Test(gemm, bits_of_a_row_in_parts_do_not_depend_on_the_rows_in_the_call_nor_on_threads) {
    enum { M = 140, N = 200, K = 700 };
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    filled a = fill(WG_F32, M, K, 0, 1), b = fill(WG_F32, K, N, 2, 2), c = fill(WG_F32, M, N, 0, 3), d = fill(WG_F32, M, N, 0, 3);
    void *packed = pack_as(WG_ISA_AUTO, true, WG_F32, K, N, &b.matrix, 1), *again = pack_as(WG_ISA_AUTO, true, WG_F32, K, N, &b.matrix, 3);
    wg_packed_product all, some;
    cr_assert_eq(memcmp(packed, again, wg__packed_bytes(WG_F32, K, N, true)), 0);
    wg__packed_product_init(&all, WG_ISA_AUTO, WG_F32, M, N, K, K, N, true, true);
    wg__packed_multiply(&all, a.block, packed, c.block, false);
    for (int64_t m = 1, i = 0; i < M; i += m, m = wg__min(m + 3, M - i)) {
        wg__packed_product_init(&some, WG_ISA_AUTO, WG_F32, m, N, K, K, N, true, true);
        for (int64_t j = 0; j < all.blocks; j++)
            wg__packed_multiply_blocks(&some, (float *)a.block + i * K, packed, (float *)d.block + i * N, j, j + 1);
    }
    cr_assert_eq(memcmp(c.block, d.block, sizeof(float) * M * N), 0);
    drop(&a), drop(&b), drop(&c), drop(&d);
    free(packed), free(again);
    const int64_t big[][3] = {{700, 300, 600}, {300, 700, 80}, {256, 128, 300}};
    for (int s = 0; s < WG_LEN(big); s++)
        for (int layouts = 0; layouts < 9; layouts++) {
            int64_t m = big[s][0], n = big[s][1], k = big[s][2];
            a = fill(WG_F32, m, k, layouts % 3, 1), b = fill(WG_F32, k, n, layouts / 3, 2), c = fill(WG_F32, m, n, 0, 3), d = fill(WG_F32, m, n, 0, 3);
            wg_gemm g = {WG_F32, m, n, k, a.matrix, b.matrix, c.matrix, 1, 1, WG_ISA_AUTO};
            wg__gemm(&(wg_team){.threads = 1}, &g);
            g.c = d.matrix;
            wg__gemm(&(wg_team){.threads = 3}, &g);
            cr_assert_eq(memcmp(c.block, d.block, sizeof(float) * (size_t)(m * n)), 0, "size %d, layouts %d", s, layouts);
            drop(&a), drop(&b), drop(&c), drop(&d);
        }
}

/* A product that may be made in parts is, by its size, and not where subnormals are kept or the set is another. */
Test(gemm, parts_serve_large_products_of_f32_alone) {
    enum { S = 128 };
    if (!wg_isa_runs(WG_ISA_AMX))
        return;
    filled a = fill(WG_F32, S, S, 0, 1), b = fill(WG_F32, S, S, 0, 2), c = fill(WG_F32, S, S, 0, 3), parts = fill(WG_F32, S, S, 0, 3), packed = fill(WG_F32, S, S, 0, 3);
    wg_gemm g = {WG_F32, S, S, S, a.matrix, b.matrix, parts.matrix, 1, 0, WG_ISA_AUTO};
    wg__gemm_by(WG_ENGINE_AMX, &(wg_team){.threads = 1}, &g);
    g.c = packed.matrix;
    wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 1}, &g);
    cr_assert_neq(memcmp(parts.block, packed.block, sizeof(float) * S * S), 0, "two ways of rounding");
    const wg_team teams[] = {{.threads = 1}, {.threads = 1, .isa = WG_ISA_AMX}, {.threads = 1, .isa = WG_ISA_AVX512}, {.threads = 1, .keep_subnormals = true},
                             {.threads = 1, .isa = WG_ISA_AMX, .keep_subnormals = true}};
    g.c = c.matrix;
    for (int t = 0; t < WG_LEN(teams); t++) {
        wg__gemm(&teams[t], &g);
        cr_expect_eq(wg__parts_serve(&teams[t]), t < 2, "team %d", t);
        cr_expect_eq(memcmp(c.block, (t < 2 ? parts : packed).block, sizeof(float) * S * S), 0, "team %d", t);
    }
    for (int side = 0; side < 3; side++) { /* of too few rows, columns or terms */
        const int64_t few = WG_PARTS_SIDE - 1, m = side == 0 ? few : S, n = side == 1 ? few : S, k = side == 2 ? WG_PARTS_DEEP - 1 : S;
        g = (wg_gemm){WG_F32, m, n, k, {a.block, S, 1}, {b.block, S, 1}, {c.block, S, 1}, 1, 0, WG_ISA_AUTO};
        wg__gemm(&teams[0], &g);
        g.c.data = packed.block;
        wg__gemm_by(WG_ENGINE_PACKED, &teams[0], &g);
        cr_expect_eq(memcmp(c.block, packed.block, sizeof(float) * (size_t)((m - 1) * S + n)), 0, "side %d", side);
    }
    drop(&a), drop(&b), drop(&c), drop(&parts), drop(&packed);
}

/* B ends where memory does: reading past it would be the end of this test. */
Test(gemm, a_right_operand_is_not_read_past_its_end) {
    const int64_t columns[] = {1, 15, 16, 17, 48, 63, 64, 65, 79, 80, 129}, page = sysconf(_SC_PAGESIZE), room = 16 * page;
    char *pages = mmap(NULL, (size_t)(room + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(pages != MAP_FAILED && mprotect(pages + room, (size_t)page, PROT_NONE) == 0);
    for (int s = 0; s < WG_LEN(sets) * WG_LEN(columns) * 2 * 3; s++) {
        const wg_isa set = sets[s % WG_LEN(sets)];
        if (!wg_isa_runs(set))
            continue;
        const int64_t n = columns[s / WG_LEN(sets) % WG_LEN(columns)], rest = s / WG_LEN(sets) / WG_LEN(columns), k = 33;
        const int64_t m = rest / 2 == 0 ? 1 : rest / 2 == 1 ? 7 : 40;
        const wg_dtype dtype = rest % 2 ? WG_F64 : WG_F32;
        const int64_t bytes = k * n * (int64_t)wg_dtype_size(dtype);
        filled a = fill(dtype, m, k, 0, 1), b = fill(dtype, k, n, 0, 2), c = fill(dtype, m, n, 0, 3), d = fill(dtype, m, n, 0, 3);
        memcpy(pages + room - bytes, b.block, (size_t)bytes);
        for (wg_engine engine = WG_ENGINE_PACKED; engine <= WG_ENGINE_XSMM; engine++) {
            wg_gemm g = {dtype, m, n, k, a.matrix, b.matrix, c.matrix, 1, 0, WG_ISA_AUTO};
            wg__gemm_by(engine, &(wg_team){.threads = 1, .isa = set}, &g);
            g.b.data = pages + room - bytes, g.c = d.matrix;
            wg__gemm_by(engine, &(wg_team){.threads = 1, .isa = set}, &g);
            cr_assert(memcmp(c.block, d.block, (size_t)(m * n) * wg_dtype_size(dtype)) == 0, "%lldx%lld", (long long)m, (long long)n);
        }
        drop(&a), drop(&b), drop(&c), drop(&d);
    }
    munmap(pages, (size_t)(room + page));
}

/* A's columns, so many elements apart, are copied where that is a multiple of 4096 bytes. */
static filled columns_apart(wg_dtype dtype, int64_t rows, int64_t columns, int64_t apart) {
    filled f = {.matrix = {.row = 1, .column = apart}};
    uint64_t seed = 5;
    f.block = calloc((size_t)(columns * apart + rows), 8);
    f.matrix.data = f.block;
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < apart; i++) /* what lies between is not read */
            put(dtype, f.block, j * apart + i, i < rows ? draw(&seed) : NAN);
    return f;
}

Test(gemm, columns_that_a_cache_holds_few_of_give_the_bits_of_others) {
    const int64_t rows[] = {1, 7, 256, 300}, across[] = {16, 70, 200}, terms[] = {5, 40, 700};
    for (int s = 0; s < WG_LEN(sets) * WG_LEN(rows) * WG_LEN(across) * WG_LEN(terms); s++) {
        const wg_isa set = sets[s % WG_LEN(sets)];
        if (!wg_isa_runs(set))
            continue;
        const int64_t m = rows[s / WG_LEN(sets) % WG_LEN(rows)], n = across[s / WG_LEN(sets) / WG_LEN(rows) % WG_LEN(across)];
        const int64_t k = terms[s / WG_LEN(sets) / WG_LEN(rows) / WG_LEN(across)];
        for (int dtype = WG_F32; dtype <= WG_F64; dtype++) {
            filled a = columns_apart(dtype, m, k, 1024), e = columns_apart(dtype, m, k, 1032);
            filled b = fill(dtype, k, n, 1, 2), c = fill(dtype, m, n, 0, 3), d = fill(dtype, m, n, 0, 3);
            wg_gemm g = {dtype, m, n, k, a.matrix, b.matrix, c.matrix, 1, 1, WG_ISA_AUTO};
            wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 2, .isa = set}, &g);
            g.a = e.matrix, g.c = d.matrix;
            wg__gemm_by(WG_ENGINE_PACKED, &(wg_team){.threads = 2, .isa = set}, &g);
            cr_assert(memcmp(c.block, d.block, (size_t)(m * n) * wg_dtype_size(dtype)) == 0, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
            drop(&a), drop(&b), drop(&c), drop(&d), drop(&e);
        }
    }
}

/* So many that tiles are longer; and in a sum, of which one product's are copied. */
Test(gemm, copied_columns_of_long_tiles_and_in_sums_give_the_bits_of_others) {
    enum { M = 1000, N = 1000, K = 24 };
    for (int threads = 1; threads <= 2; threads++) {
        const wg_team team = {.threads = threads};
        filled a = columns_apart(WG_F32, M, K, 1024), e = columns_apart(WG_F32, M, K, 1032);
        filled b = fill(WG_F32, K, N, 0, 2), c = fill(WG_F32, M, N, 0, 3), d = fill(WG_F32, M, N, 0, 3);
        wg_gemm g[2] = {{WG_F32, M, N, K, a.matrix, b.matrix, c.matrix, 1, 0, WG_ISA_AUTO}};
        wg__gemm_by(WG_ENGINE_PACKED, &team, &g[0]);
        g[0].a = e.matrix, g[0].c = d.matrix;
        wg__gemm_by(WG_ENGINE_PACKED, &team, &g[0]);
        cr_assert(memcmp(c.block, d.block, M * N * sizeof(float)) == 0);
        g[1] = g[0], g[1].beta = 1;
        wg__gemm_sum(&team, 2, g); /* both lie, where blocks are wide */
        g[0].a = a.matrix, g[0].c = g[1].c = c.matrix;
        wg__gemm_sum(&team, 2, g); /* one is copied */
        double most = 0;
        for (int64_t i = 0; i < M * N; i++)
            most = fmax(most, fabs(get(WG_F32, c.block, i) - get(WG_F32, d.block, i)));
        cr_assert_leq(most, WG__ISAS > 1 ? 0 : 1e-3, "%g", most); /* the engine chosen may be another, which fuses sums where ours do not */
        drop(&a), drop(&b), drop(&c), drop(&d), drop(&e);
    }
}
