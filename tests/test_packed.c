/* Products with packed right operands: exact at every size, the same bits whatever else is in the call; one row alone; what they ask memory
 * for on the way. */
#include "filled.h"

Test(packed, packed_products_agree_with_exact_sums_at_every_size) {
    const int64_t odd[] = {0, 1, 3, 16, 17, 24, 32, 48, 63, 64, 65, 129}, rows[] = {1, 2, 6, 7, 13, 64, 65};
    for (int set = 0; set < WG_LEN(sets); set++)
        for (int dtype = WG_F32; dtype <= WG_F64 && wg_isa_runs(sets[set]); dtype++)
            for (int i = 0; i < WG_LEN(rows); i++)
                for (int s = 0; s < WG_LEN(odd) * WG_LEN(odd); s++) {
                    int64_t n = odd[s % WG_LEN(odd)], k = odd[s / WG_LEN(odd)];
                    double error = packed_worst(sets[set], false, false, dtype, rows[i], n, k, (i + s) % 4, s % 2);
                    cr_assert_leq(error, 1, "set %d, %s, %lldx%lldx%lld: %g times the bound", set, wg_dtype_name(dtype),
                                  (long long)rows[i], (long long)n, (long long)k, error);
                }
}

/* ---- what a product asks memory for ---- */

/* The lines that a kernel has asked for. */
static const char *line_asked[1 << 14];
static int lines_asked;
static void note_line(const char *line) {
    cr_assert_lt(lines_asked, WG_LEN(line_asked));
    line_asked[lines_asked++] = line;
}

#define ASK(line) note_line(line)
#define ISA counted
#define BLOCK WG_LINE_BYTES
#define VECTOR 32
#define ELEMENT float
#include "packed_kernel.h"
#undef ISA
#undef BLOCK
#undef VECTOR
#define ISA counted_wide
#define BLOCK WG_BLOCK_BYTES
#define VECTOR 64
#include "packed_kernel.h"
#undef ASK
static wg__panel_kernel *const counting[] = {multiply_counted_float, multiply_counted_wide_float};

enum { ROW_STEP = 4096, ROW_LINES = 3, MOST_ROWS = 1024 };
static char rows_to_ask[MOST_ROWS * ROW_STEP];

/* No line is asked for twice, and none but ROW_LINES of each of so many rows. */
static void none_is_asked_twice(int64_t rows) {
    static int times[MOST_ROWS * ROW_LINES];
    memset(times, 0, sizeof times);
    for (int n = 0; n < lines_asked; n++) {
        const int64_t at = line_asked[n] - rows_to_ask, row = at / ROW_STEP, line = at % ROW_STEP / 64;
        cr_assert(at >= 0 && at % 64 == 0 && row < rows && line < ROW_LINES, "%lld bytes on", (long long)at);
        cr_expect_eq(times[row * ROW_LINES + line]++, 0, "line %lld of row %lld", (long long)line, (long long)row);
    }
}

/* How often what is asked for next is not the same line of the next row. */
static int turns_between_lines(void) {
    int turns = 0;
    for (int n = 0; n < lines_asked; n++)
        turns += n == 0 || line_asked[n] - line_asked[n - 1] != ROW_STEP;
    return turns;
}

/* A product, of an A that is turned or not, whose kernel is to ask for so many rows: what it makes does not depend on them. */
static void ask_for(wg__panel_kernel *kernel, int64_t m, int64_t columns, int64_t k, bool turned, int64_t rows) {
    filled a = fill(WG_F32, turned ? k : m, turned ? m : k, 1, 1), b = fill(WG_F32, k, columns, 1, 2), c = fill(WG_F32, m, columns, 1, 3),
           d = fill(WG_F32, m, columns, 1, 3);
    wg_panel p = {.m = m, .columns = columns, .k = k, .a_row = turned ? 1 : a.matrix.row, .a_column = turned ? a.matrix.row : 1,
                  .b_row = b.matrix.row, .c_row = c.matrix.row, .add = true};
    wg__panel_kernel_of(WG_F32, WG_ISA_AVX2)(&p, a.block, b.block, d.block);
    p.soon = (wg_soon){rows_to_ask, ROW_STEP, ROW_LINES, rows};
    lines_asked = 0;
    kernel(&p, a.block, b.block, c.block);
    for (int64_t n = 0; n < c.span; n++)
        cr_assert(fabsf(((float *)c.block)[n] - ((float *)d.block)[n]) <= 1e-4F);
    drop(&a), drop(&b), drop(&c), drop(&d);
    none_is_asked_twice(rows);
}

/* Of columns that are a strip and more, of one narrower strip, and of fewer than a vector, which asks for none. */
Test(packed, a_kernel_of_three_rows_or_more_asks_for_every_line_once_and_four_rows_abreast) {
    static const int64_t columns[2][4] = {{64, 80, 8, 5}, {64, 80, 16, 5}};
    for (int64_t m = 1; m <= 40; m++)
        for (int s = 0; s < 4 * 3 * 2 * 2; s++) {
            wg__panel_kernel *kernel = counting[s / 24];
            const int64_t n = columns[s / 24][s % 4], k = 40 + 130 * (s / 4 % 3), rows = (k - 32) / ROW_LINES;
            const bool turned = s / 12 % 2;
            ask_for(kernel, m, n, k, turned, rows);
            cr_expect_eq(lines_asked, m < 3 || n == 5 ? 0 : ROW_LINES * rows, "%lldx%lldx%lld: %d lines", (long long)m, (long long)n, (long long)k, lines_asked);
            if (lines_asked && rows >= 4)
                cr_expect_eq(turns_between_lines(), ROW_LINES * ((rows + 3) / 4), "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
            ask_for(kernel, m, n, k, turned, MOST_ROWS); /* of few rows of C more than there are terms for */
            cr_expect(m < 3 || n == 5 ? lines_asked == 0 : lines_asked > 0);
        }
    (void)lone_counted_float, (void)lone_counted_wide_float;
}

/* In the place of a product's own kernel: notes the rows that it is to ask for, and calls it. */
static struct {
    wg__panel_kernel *kernel;
    const char *row[64];
    int64_t lines[64];
    int rows, blocks_after;
} asked;

static void noting(const wg_panel *p, const void *a, const void *b, void *c) {
    for (int64_t row = 0; row < p->soon.rows; row++, asked.rows++) {
        cr_assert_lt(asked.rows, WG_LEN(asked.row));
        asked.row[asked.rows] = p->soon.at + row * p->soon.step;
        asked.lines[asked.rows] = p->soon.lines;
    }
    asked.blocks_after += asked.rows && !p->soon.rows && p->columns == wg__block_width(WG_F32, WG_ISA_AUTO);
    asked.kernel(p, a, b, c);
}

Test(packed, products_that_ask_for_what_comes_next_make_the_same_bits_and_ask_for_all_of_it_in_order_by_their_last_blocks) {
    static const char memory[16 * 4096];
    const wg_soon soon[] = {{memory, 4096, 64, 16}, {memory + 64, 1024, 3, 9}, {memory, 0, 1, 1}};
    const int64_t rows[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 33}, columns[] = {16, 63, 64, 80, 1024, 1100}, terms[] = {8, 33, 100, 300};
    const int whole = 16 + 9 + 1;
    int all = 0, some = 0, none = 0;
    for (int s = 0; s < WG_LEN(rows) * WG_LEN(columns) * WG_LEN(terms) * 2; s++) {
        const int64_t m = rows[s % WG_LEN(rows)], n = columns[s / WG_LEN(rows) % WG_LEN(columns)], k = terms[s / WG_LEN(rows) / WG_LEN(columns) % WG_LEN(terms)];
        const bool turned = s % 2, add = s / 2 % 2;
        filled a = fill(WG_F32, m, k, 1, 1), b = fill(WG_F32, k, n, 1, 2), c = fill(WG_F32, m, n, 1, 3), d = fill(WG_F32, m, n, 1, 3);
        void *packed = pack(WG_ISA_AUTO, WG_F32, k, n, &b.matrix, 1);
        wg_packed_product p;
        wg__packed_product_init(&p, WG_ISA_AUTO, WG_F32, m, n, k, a.matrix.row, c.matrix.row, add, false);
        wg__packed_product_let_ask(&p);
        asked.kernel = p.any, asked.rows = asked.blocks_after = 0;
        p.any = noting;
        wg__packed_multiply_asking(&p, a.block, packed, d.block, turned, soon, WG_LEN(soon));
        for (int64_t i = 0; i < m; i++) { /* row by row, which ask for nothing */
            wg_packed_product row;
            wg__packed_product_init(&row, WG_ISA_AUTO, WG_F32, 1, n, k, a.matrix.row, c.matrix.row, add, false);
            wg__packed_product_let_ask(&row);
            wg__packed_multiply(&row, (float *)a.block + i * a.matrix.row, packed, (float *)c.block + i * c.matrix.row, false);
        }
        cr_assert(memcmp(c.block, d.block, (size_t)c.span * sizeof(float)) == 0, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
        int at = 0;
        for (int i = 0; i < WG_LEN(soon); i++)
            for (int64_t row = 0; row < soon[i].rows && at < asked.rows; row++, at++) {
                cr_assert_eq(asked.row[at], soon[i].at + row * soon[i].step, "row %d", at);
                cr_assert_eq(asked.lines[at], soon[i].lines);
            }
        cr_assert_eq(at, asked.rows);
        cr_assert_eq(p.asks, m >= 3 && n >= p.width && k > 32);
        cr_assert_eq(asked.rows > 0, p.asks);
        if (asked.rows == whole)
            cr_assert_eq(asked.blocks_after, 0, "not the last blocks");
        if (p.asks && n >= 1024 && k >= 300)
            cr_assert_eq(asked.rows, whole, "%lldx%lldx%lld: %d rows", (long long)m, (long long)n, (long long)k, asked.rows);
        all += asked.rows == whole, some += p.asks && asked.rows < whole, none += !p.asks;
        free(packed);
        drop(&a), drop(&b), drop(&c), drop(&d);
    }
    cr_assert(all && some && none);
}

Test(packed, a_row_that_has_no_others_agrees_with_exact_sums_from_either_end) {
    const int64_t terms[] = {0, 1, 2, 63, 64, 127, 128, 129, 1000, 1024, 1100}, columns[] = {1, 32, 48, 64, 65, 200};
    for (int s = 0; s < WG_LEN(sets) * WG_LEN(terms) * WG_LEN(columns) * 4; s++) {
        const wg_isa set = sets[s / 4 % WG_LEN(sets)];
        if (!wg_isa_runs(set))
            continue;
        const wg_dtype dtype = s % 2 ? WG_F64 : WG_F32;
        const bool add = s / 2 % 2;
        const int64_t k = terms[s / 4 / WG_LEN(sets) % WG_LEN(terms)], n = columns[s / 4 / WG_LEN(sets) / WG_LEN(terms)];
        double error = packed_worst(set, false, true, dtype, 1, n, k, s % 4, add);
        cr_assert_leq(error, 1, "%s, %lldx%lld: %g times the bound", wg_dtype_name(dtype), (long long)k, (long long)n, error);
        filled a = fill(dtype, 1, k, 0, 1), b = fill(dtype, k, n, 2, 2), c = fill(dtype, 1, n, 0, 3), d = fill(dtype, 1, n, 0, 3), e = fill(dtype, 1, n, 0, 3);
        void *packed = pack(set, dtype, k, n, &b.matrix, 1);
        wg_packed_product p;
        wg__packed_product_init(&p, set, dtype, 1, n, k, k, n, add, false);
        wg__packed_product_alone(&p, set);
        wg__packed_multiply(&p, a.block, packed, c.block, false);
        wg__packed_multiply(&p, a.block, packed, d.block, true);
        for (int64_t j = p.blocks - 1; j >= 0; j--) {
            wg__packed_multiply_blocks(&p, a.block, packed, e.block, j + 1, j + 1); /* none */
            wg__packed_multiply_blocks(&p, a.block, packed, e.block, j, j + 1);
        }
        const size_t bytes = (size_t)n * wg_dtype_size(dtype);
        cr_assert(memcmp(c.block, d.block, bytes) == 0, "%s, %lldx%lld turned", wg_dtype_name(dtype), (long long)k, (long long)n);
        cr_assert(memcmp(c.block, e.block, bytes) == 0, "%s, %lldx%lld by blocks", wg_dtype_name(dtype), (long long)k, (long long)n);
        free(packed);
        drop(&a), drop(&b), drop(&c), drop(&d), drop(&e);
    }
}

Test(packed, a_matrix_in_pieces_is_packed_as_the_whole) {
    static const int64_t rows[][4] = {{64, 128, 64, 0}, {64, 64, 70, 0}, {192, 5, 0, 0}, {256, 256, 256, 256}};
    for (int s = 0; s < WG_LEN(rows) * WG_LEN(sets) * 2 * 2 * 2 * 2; s++) {
        const wg_isa set = sets[s / 16 % WG_LEN(sets)];
        const wg_dtype dtype = s % 2 ? WG_F64 : WG_F32;
        const bool across = s / 2 % 2;
        const int threads = 1 + s / 4 % 2, layout = s / 8 % 2 ? 2 : 0; /* rows adjacent, or columns */
        const int64_t *size = rows[s / 16 / WG_LEN(sets)], other = 100;
        int64_t all = 0;
        wg_piece piece[4];
        for (int i = 0; i < 4; i++)
            all += size[i];
        const int64_t k = across ? other : all, n = across ? all : other;
        filled b = fill(dtype, k, n, layout, 2);
        int count = 0;
        for (int64_t at = 0; count < 4 && size[count]; at += size[count++])
            piece[count] = (wg_piece){wg__corner(dtype, &b.matrix, across ? 0 : at, across ? at : 0), size[count]};
        const size_t bytes = wg__packed_bytes(dtype, k, n, false);
        char *whole = pack(set, dtype, k, n, &b.matrix, threads), *pieces = aligned_alloc(64, bytes + 64);
        memset(pieces, 0xff, bytes + 64);
        wg__pack_pieces(&(wg_team){.threads = threads, .isa = set}, dtype, k, n, count, piece, across, pieces);
        cr_assert(memcmp(whole, pieces, bytes) == 0, "case %d", s);
        for (size_t i = 0; i < 64; i++)
            cr_assert_eq((unsigned char)pieces[bytes + i], 0xff, "written past the end");
        free(whole), free(pieces);
        drop(&b);
    }
}

Test(packed, bits_of_a_row_do_not_depend_on_the_rows_in_the_call) {
    enum { M = 40 };
    const int64_t forms[][2] = {{256, 64}, {1024, 256}, {64, 1000}, {14, 14}, {100, 33}, {72, 20}, {200, 9}};
    for (int set = 0; set < WG_LEN(sets); set++)
        for (int dtype = WG_F32; dtype <= WG_F64; dtype++)
            for (int f = 0; f < WG_LEN(forms); f++) {
                int64_t n = forms[f][0], k = forms[f][1], size = (int64_t)wg_dtype_size(dtype);
                filled a = fill(dtype, M, k, 0, 1), b = fill(dtype, k, n, 2, 2), c = fill(dtype, M, n, 0, 3), d = fill(dtype, M, n, 0, 3), before = fill(dtype, M, n, 0, 3);
                void *packed = pack(sets[set], dtype, k, n, &b.matrix, 1);
                wg_packed_product all, some;
                wg__packed_product_init(&all, sets[set], dtype, M, n, k, k, n, f % 2, false);
                wg__packed_multiply(&all, a.block, packed, c.block, false);
                for (int64_t m = 1, i = 0; i < M; i += m, m = wg__min(m + 1, M - i)) {
                    wg__packed_product_init(&some, sets[set], dtype, m, n, k, k, n, f % 2, false);
                    for (int64_t j = all.blocks - 1; j >= 0; j--)
                        wg__packed_multiply_blocks(&some, (char *)a.block + i * k * size, packed, (char *)d.block + i * n * size, j, j + 1);
                    cr_assert_eq(memcmp((char *)c.block + i * n * size, (char *)d.block + i * n * size, (size_t)(m * n * size)), 0,
                                 "set %d, %s, %lldx%lld: %lld rows from %lld", set, wg_dtype_name(dtype), (long long)n,
                                 (long long)k, (long long)m, (long long)i);
                    for (int turned = 0; turned < 2; turned++) {
                        memcpy((char *)d.block + i * n * size, (char *)before.block + i * n * size, (size_t)(m * n * size));
                        wg__packed_multiply(&some, (char *)a.block + i * k * size, packed, (char *)d.block + i * n * size, turned);
                        cr_assert_eq(memcmp((char *)c.block + i * n * size, (char *)d.block + i * n * size, (size_t)(m * n * size)), 0,
                                     "set %d, %s, %lldx%lld: %lld rows from %lld, all blocks, turned %d", set, wg_dtype_name(dtype), (long long)n,
                                     (long long)k, (long long)m, (long long)i, turned);
                    }
                }
                free(packed);
                drop(&a), drop(&b), drop(&c), drop(&d), drop(&before);
            }
}

Test(packed, packing_has_the_same_bytes_from_either_order_and_any_threads) {
    const int64_t forms[][2] = {{300, 700}, {64, 128}, {17, 33}, {1, 65}, {65, 1}, {16, 16}};
    for (int dtype = WG_F32; dtype <= WG_F64; dtype++)
        for (int f = 0; f < WG_LEN(forms) * WG_LEN(sets); f++) {
            int64_t k = forms[f / WG_LEN(sets)][0], n = forms[f / WG_LEN(sets)][1];
            filled b[4];
            void *packed[4];
            for (int layout = 0; layout < 4; layout++) {
                b[layout] = fill(dtype, k, n, layout, 7);
                packed[layout] = pack(sets[f % WG_LEN(sets)], dtype, k, n, &b[layout].matrix, 1 + layout);
                cr_assert_eq(memcmp(packed[0], packed[layout], wg__packed_bytes(dtype, k, n, false)), 0, "layout %d, %lldx%lld", layout,
                             (long long)k, (long long)n);
            }
            for (int layout = 0; layout < 4; layout++)
                drop(&b[layout]), free(packed[layout]);
        }
}

Test(packed, not_a_number_and_infinity_stay_in_their_row_and_column_of_packed_products) {
    enum { M = 14, N = 83, K = 30 };
    for (int set = 0; set < WG_LEN(sets); set++) {
        static float a[M * K], b[K * N], c[M * N];
        for (int i = 0; i < M * K; i++)
            a[i] = 1;
        for (int i = 0; i < K * N; i++)
            b[i] = 0.25f;
        for (int i = 0; i < M * N; i++)
            c[i] = NAN;
        a[7 * K + 11] = INFINITY;
        b[3 * N + 20] = NAN;
        b[11 * N + 80] = 0; /* infinity times zero */
        void *packed = pack(sets[set], WG_F32, K, N, &(wg_matrix){b, N, 1}, 1);
        wg_packed_product p;
        wg__packed_product_init(&p, sets[set], WG_F32, M, N, K, K, N, false, false);
        wg__packed_multiply(&p, a, packed, c, false);
        free(packed);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                float y = c[i * N + j];
                if (j == 20 || (i == 7 && j == 80))
                    cr_assert(isnan(y), "(%d,%d) is %g", i, j, y);
                else if (i == 7)
                    cr_assert(isinf(y) && y > 0, "(%d,%d) is %g", i, j, y);
                else
                    cr_assert_eq(y, 0.25f * K - (j == 80 ? 0.25f : 0), "(%d,%d) is %g", i, j, y);
            }
    }
}
