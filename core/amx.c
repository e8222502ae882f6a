/* amx.c: see amx.h. The only file that knows the unit's instructions. */
#include "amx.h"
#include "packed.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#pragma GCC optimize("O3")
#pragma GCC target("arch=skylake-avx512,amx-tile,amx-bf16")
#include <immintrin.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A register of the unit has SIDE rows of SIDE 32-bit numbers, or of as many pairs of bf16: ROW bytes. CHUNK: the terms that one
 * instruction adds up. A number is PARTS bf16; a register of first parts is followed by one of second ones, and so on: of a chunk of
 * SIDE rows of A, LEFT bytes; of a block of B, whose ACROSS registers of one part stand together, RIGHT. */
enum { SIDE = 16, CHUNK = 2 * SIDE, PARTS = 3, REGISTER = 1024, ROW = 64, ACROSS = WG_AMX_BLOCK / SIDE };
enum { LEFT = PARTS * REGISTER, RIGHT = ACROSS * PARTS * REGISTER };

/* The pieces of k, of whole products and of those with a packed B; and the rows of A that are in parts at once, of either. */
enum { DEEP = 256, ROWS = 256, PACKED_DEEP = 512, PACKED_ROWS = ROWS * DEEP / PACKED_DEEP };
enum { LEFT_BYTES = ROWS / SIDE * (DEEP / CHUNK) * LEFT, RIGHT_BYTES = DEEP / CHUNK * RIGHT };
/* Beside them lie the sums of two times SIDE rows, twice, and a chunk of a block. */
_Static_assert(LEFT_BYTES + RIGHT_BYTES + (4 * SIDE + CHUNK) * WG_AMX_BLOCK * 4 + 4096 <= WG_AMX_STACK, "panels");

/* ---- whether it is there ---- */

bool wg__amx_runs(void) {
    enum { UNKNOWN, NO, YES };
    enum { ASK = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, for the registers' contents */
    static _Atomic int known;
    int is = atomic_load_explicit(&known, memory_order_relaxed), before = UNKNOWN;
    if (is == UNKNOWN) {
        bool has = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && wg__isa_best() == WG__ISA_skylake_avx512;
        is = has && syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0 ? YES : NO;
        if (!atomic_compare_exchange_strong(&known, &before, is)) /* another thread asked too: one answer, for good */
            is = before;
    }
    return is == YES;
}

/* The shape of the registers, as the unit reads it. */
typedef struct shape {
    _Alignas(64) uint8_t palette;
    uint8_t start, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} shape;
_Static_assert(sizeof(shape) == 64, "as the unit has it");

/* Registers 0 to 6 have that many rows, 7 has all. The intrinsics do not tell the compiler what they read. */
static void enter(int64_t rows) {
    shape s = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        s.row_bytes[i] = ROW;
        s.rows[i] = (uint8_t)(i == 7 ? SIDE : rows);
    }
    __asm__ volatile("" : : "r"(&s) : "memory");
    _tile_loadconfig(&s);
}

static void leave(void) { _tile_release(); }

static int64_t blocks_of(int64_t n) { return n / WG_AMX_BLOCK + (n % WG_AMX_BLOCK != 0); }
static int64_t chunks_of(int64_t k) { return k / CHUNK + (k % CHUNK != 0); }

/* ---- parts ---- */

/* Numbers are scaled so that the last part of the least normal one is normal; then LARGE is 2^30. */
#define SCALE 0x1p24f
#define UNSCALE 0x1p-48f /* of a product */
enum { LARGE = (127 + 30) << 23 };

/* A square transposed. */
static inline __attribute__((always_inline)) void turn(__m512 x[SIDE]) {
    __m512 y[SIDE];
    for (int i = 0; i < SIDE; i += 4)
        for (int h = 0; h < 2; h++) {
            y[i + h] = h ? _mm512_unpackhi_ps(x[i], x[i + 1]) : _mm512_unpacklo_ps(x[i], x[i + 1]);
            y[i + 2 + h] = h ? _mm512_unpackhi_ps(x[i + 2], x[i + 3]) : _mm512_unpacklo_ps(x[i + 2], x[i + 3]);
        }
    for (int i = 0; i < SIDE; i += 4)
        for (int h = 0; h < 2; h++) {
            __m512d low = _mm512_castps_pd(y[i + h]), high = _mm512_castps_pd(y[i + 2 + h]);
            x[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            x[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int i = 0; i < 4; i++) {
        __m512 a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88), b = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd);
        __m512 c = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88), d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
        y[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        y[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        y[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        y[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    memcpy(x, y, sizeof y);
}

static inline __mmask16 first(int64_t n) { return n >= SIDE ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

/* out[r][c] = x(i+r,j+c), and zero where that is outside of rows x columns. */
static inline __attribute__((always_inline)) void load(const wg_matrix *x, int64_t i, int64_t j, int64_t rows, int64_t columns, __m512 out[SIDE]) {
    const float *at = (const float *)x->data + i * x->row + j * x->column;
    if (x->column == 1) {
        __mmask16 mask = first(columns - j);
        for (int r = 0; r < SIDE; r++)
            out[r] = i + r < rows ? _mm512_maskz_loadu_ps(mask, at + r * x->row) : _mm512_setzero_ps();
    } else if (x->row == 1) {
        __mmask16 mask = first(rows - i);
        for (int c = 0; c < SIDE; c++)
            out[c] = j + c < columns ? _mm512_maskz_loadu_ps(mask, at + c * x->column) : _mm512_setzero_ps();
        turn(out);
    } else {
        float y[SIDE][SIDE] = {{0}};
        for (int r = 0; r < SIDE && i + r < rows; r++)
            for (int c = 0; c < SIDE && j + c < columns; c++)
                y[r][c] = at[r * x->row + c * x->column];
        for (int r = 0; r < SIDE; r++)
            out[r] = _mm512_loadu_ps(y[r]);
    }
}

/* Parts of the pairs (x,y): x the lower half of 32 bits. most: the largest magnitudes, as bits. */
static inline __attribute__((always_inline)) void split(__m512 x, __m512 y, __m512i *most, char *out, int64_t step) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xffff0000), size = _mm512_set1_epi32(0x7fffffff);
    *most = _mm512_max_epu32(*most, _mm512_and_si512(_mm512_castps_si512(x), size));
    *most = _mm512_max_epu32(*most, _mm512_and_si512(_mm512_castps_si512(y), size));
    x = _mm512_mul_ps(x, _mm512_set1_ps(SCALE));
    y = _mm512_mul_ps(y, _mm512_set1_ps(SCALE));
    for (int part = 0; part < PARTS - 1; part++, out += step) {
        __m512i p = _mm512_add_epi32(_mm512_castps_si512(x), half), q = _mm512_add_epi32(_mm512_castps_si512(y), half);
        _mm512_store_si512(out, _mm512_ternarylogic_epi32(_mm512_srli_epi32(p, 16), q, upper, 0xf8)); /* p | (q & upper) */
        x = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(p, upper)));
        y = _mm512_sub_ps(y, _mm512_castsi512_ps(_mm512_and_si512(q, upper)));
    }
    _mm512_store_si512(out, _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(x), 16), _mm512_castps_si512(y)));
}

static bool is_large(__m512i most) { return _mm512_cmpge_epu32_mask(most, _mm512_set1_epi32(LARGE)) != 0; }

/* SIDE rows of A from row i on, of all its columns; those that are not there are zero. By bits, which are large. */
static __attribute__((noinline)) unsigned split_rows(const wg_matrix *a, int64_t i, int64_t rows, int64_t k, char *out) {
    __m512i most[SIDE] = {{0}};
    unsigned large = 0;
    for (int r = 0; r < SIDE && a->column == 1; r++) {
        const float *row = (const float *)a->data + (i + r) * a->row;
        for (int64_t q = 0; q < k; q += CHUNK) {
            __mmask16 left = i + r < rows ? first(k - q) : 0, right = i + r < rows ? first(k - q - SIDE) : 0;
            split(_mm512_maskz_loadu_ps(left, row + q), _mm512_maskz_loadu_ps(right, row + q + SIDE), &most[r],
                  out + q / CHUNK * LEFT + r * ROW, REGISTER);
        }
    }
    for (int64_t q = 0; q < k && a->column != 1; q += CHUNK) {
        __m512 x[SIDE], y[SIDE];
        load(a, i, q, rows, k, x);
        load(a, i, q + SIDE, rows, k, y);
        for (int r = 0; r < SIDE; r++)
            split(x[r], y[r], &most[r], out + q / CHUNK * LEFT + r * ROW, REGISTER);
    }
    for (int r = 0; r < SIDE; r++)
        large |= (unsigned)is_large(most[r]) << r;
    return large;
}

/* A chunk of a block of B, of `wide` columns, from its row q on. */
static inline __attribute__((always_inline)) void split_chunk(const wg_matrix *b, int64_t q, int64_t j, int64_t wide, int64_t k,
                                                              __m512i *most, char *out) {
    if (b->column == 1) {
        for (int r = 0; r < SIDE; r++) {
            const float *upper = (const float *)b->data + (q + r) * b->row + j, *lower = upper + SIDE * b->row;
            for (int64_t c = 0; c < wide; c += SIDE) {
                __mmask16 left = q + r < k ? first(wide - c) : 0, right = q + r + SIDE < k ? first(wide - c) : 0;
                split(_mm512_maskz_loadu_ps(left, upper + c), _mm512_maskz_loadu_ps(right, lower + c), most, out + c / SIDE * REGISTER + r * ROW,
                      ACROSS * REGISTER);
            }
        }
        return;
    }
    for (int64_t c = 0; c < wide; c += SIDE) {
        __m512 x[SIDE], y[SIDE];
        load(b, q, j + c, k, j + wide, x);
        load(b, q + SIDE, j + c, k, j + wide, y);
        for (int r = 0; r < SIDE; r++)
            split(x[r], y[r], most, out + c / SIDE * REGISTER + r * ROW, ACROSS * REGISTER);
    }
}

/* A block of B from column j on, or its numbers as they are if one is large. */
static __attribute__((noinline)) bool split_block(const wg_matrix *b, int64_t j, int64_t columns, int64_t k, char *out) {
    __m512i most = _mm512_setzero_si512();
    const int64_t wide = wg__min(WG_AMX_BLOCK, columns - j);
    for (int64_t q = 0; q < k; q += CHUNK)
        split_chunk(b, q, j, wide, k, &most, out + q / CHUNK * RIGHT);
    if (!is_large(most))
        return false;
    wg_matrix part = wg__corner(WG_F32, b, 0, j);
    wg__panel_copy(WG_F32, &part, k, wide, WG_AMX_BLOCK, WG_AMX_BLOCK, out);
    return true;
}

/* ---- what memory is asked for ahead: rows of a block of B that will be split, some with each chunk that is multiplied ---- */

typedef struct soon {
    const char *at;
    int64_t step, bytes, rows, each; /* rows `step` bytes apart: as many as are left, and go with each chunk */
} soon;

/* Of a matrix that lies row by row or column by column. */
static soon soon_of(const wg_matrix *x, int64_t rows, int64_t columns, int64_t chunks) {
    const bool turned = x->column != 1;
    const int64_t n = (x->column != 1 && x->row != 1) || rows <= 0 || columns <= 0 ? 0 : turned ? columns : rows;
    return (soon){x->data, (turned ? x->column : x->row) * 4, (turned ? rows : columns) * 4, n, (n + chunks - 1) / chunks};
}

static inline void ask(soon *s) {
    for (int64_t r = 0; r < s->each && s->rows > 0; r++, s->rows--, s->at += s->step)
        for (int64_t at = 0; at < s->bytes; at += 64)
            _mm_prefetch(s->at + at, _MM_HINT_T1);
}

/* ---- sums ---- */

/* The numbers that a chunk of a block was split from. */
static void restore(const char *block, float out[CHUNK][WG_AMX_BLOCK]) {
    for (int r = 0; r < SIDE; r++)
        for (int c = 0; c < ACROSS; c++) {
            __m512 x = _mm512_setzero_ps(), y = x;
            for (int part = PARTS - 1; part >= 0; part--) {
                __m512i p = _mm512_load_si512(block + (part * ACROSS + c) * REGISTER + r * ROW);
                x = _mm512_add_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(p, 16)));
                y = _mm512_add_ps(y, _mm512_castsi512_ps(_mm512_and_si512(p, _mm512_set1_epi32((int)0xffff0000))));
            }
            _mm512_storeu_ps(&out[r][c * SIDE], _mm512_mul_ps(x, _mm512_set1_ps(1 / SCALE)));
            _mm512_storeu_ps(&out[r + SIDE][c * SIDE], _mm512_mul_ps(y, _mm512_set1_ps(1 / SCALE)));
        }
}

/* Both add the products of parts in one order, so that an element has the same bits from either. */
#define EMPTY                                                                                                                  \
    __asm__ volatile("" : : : "memory");                                                                                       \
    _tile_zero(0);                                                                                                             \
    _tile_zero(1);                                                                                                             \
    _tile_zero(2);                                                                                                             \
    _tile_zero(3);
#define AHEAD(at)                                                                                                              \
    _Pragma("GCC unroll 16") for (int u = 0; u < SIDE; u++) _mm_prefetch((at) + u * ROW, _MM_HINT_T0);

/* SIDE rows by a block, or by its first registers, `across` of them. */
static __attribute__((noinline)) void sums_of_rows(int across, int64_t chunks, const char *a, const char *b, float *s) {
    EMPTY
#define COLUMN_PART(c, part)                                                                                                   \
    AHEAD(b + RIGHT + (3 * (c) + (part)) * REGISTER)                                                                            \
    _tile_loadd(7, b + ((part) * ACROSS + (c)) * REGISTER, ROW);                                                                \
    _tile_dpbf16ps(c, 4, 7);
#define COLUMN(c)                                                                                                              \
    COLUMN_PART(c, 0)                                                                                                          \
    _tile_dpbf16ps(c, 5, 7);                                                                                                   \
    _tile_dpbf16ps(c, 6, 7);                                                                                                   \
    COLUMN_PART(c, 1)                                                                                                          \
    _tile_dpbf16ps(c, 5, 7);                                                                                                   \
    COLUMN_PART(c, 2)
    for (int64_t q = 0; q < chunks; q++, a += LEFT, b += RIGHT) {
        _tile_loadd(4, a, ROW);
        _tile_loadd(5, a + REGISTER, ROW);
        _tile_loadd(6, a + 2 * REGISTER, ROW);
        COLUMN(0)
        if (across > 1) {
            COLUMN(1)
        }
        if (across > 2) {
            COLUMN(2)
        }
        if (across > 3) {
            COLUMN(3)
        }
    }
    _tile_stored(0, s, WG_AMX_BLOCK * 4);
    _tile_stored(1, s + SIDE, WG_AMX_BLOCK * 4);
    _tile_stored(2, s + 2 * SIDE, WG_AMX_BLOCK * 4);
    _tile_stored(3, s + 3 * SIDE, WG_AMX_BLOCK * 4);
}

/* SIDE rows at a and SIDE at `below`, by two registers of a block. */
static __attribute__((noinline)) void sums_of_pair(int64_t chunks, const char *a, const char *below, const char *b, float *s, soon *next) {
    EMPTY
#define PAIR_RIGHT(part)                                                                                                       \
    _tile_loadd(6, b + (part) * ACROSS * REGISTER, ROW);                                                                       \
    _tile_loadd(7, b + ((part) * ACROSS + 1) * REGISTER, ROW);
#define PAIR_LEFT(part)                                                                                                        \
    _tile_loadd(4, a + (part) * REGISTER, ROW);                                                                                \
    _tile_loadd(5, below + (part) * REGISTER, ROW);                                                                            \
    _tile_dpbf16ps(0, 4, 6);                                                                                                   \
    _tile_dpbf16ps(1, 4, 7);                                                                                                   \
    _tile_dpbf16ps(2, 5, 6);                                                                                                   \
    _tile_dpbf16ps(3, 5, 7);
    for (int64_t q = 0; q < chunks; q++, a += LEFT, below += LEFT, b += RIGHT) {
        PAIR_RIGHT(0)
        PAIR_LEFT(0)
        PAIR_LEFT(1)
        PAIR_LEFT(2)
        PAIR_RIGHT(1)
        ask(next);
        PAIR_LEFT(0)
        PAIR_LEFT(1)
        PAIR_RIGHT(2)
        PAIR_LEFT(0)
    }
    _tile_stored(0, s, WG_AMX_BLOCK * 4);
    _tile_stored(1, s + SIDE, WG_AMX_BLOCK * 4);
    _tile_stored(2, s + SIDE * WG_AMX_BLOCK, WG_AMX_BLOCK * 4);
    _tile_stored(3, s + SIDE * WG_AMX_BLOCK + SIDE, WG_AMX_BLOCK * 4);
}

/* A block of B, so many columns and terms of it: in parts, or as it is if it is `large`. */
typedef struct right {
    const char *data;
    bool large;
    int64_t columns, k;
} right;

/* Rows of A in parts, SIDE of them every `step` bytes, by bits which are large; and as they are. */
typedef struct left {
    const char *parts;
    int64_t step;
    const unsigned *large;
    wg_matrix all;
} left;

/* Neighbours among the rows that `which` has a bit for, from *row on: how many, and *row the first; 0 if there are none. */
static int64_t next_run(unsigned which, int64_t *row) {
    int64_t n = 0;
    while (*row < 2 * SIDE && !(which >> *row & 1))
        ++*row;
    while (*row + n < 2 * SIDE && which >> (*row + n) & 1)
        n++;
    return n;
}

/* Rows of A by terms [q, q + k) of a block of B as they are, as chains of multiply-adds in f32: those of 2 SIDE from `row` on that `which`
 * has a bit for. */
static void sums_of_terms(unsigned which, int64_t row, const left *a, int64_t q, int64_t k, const void *b, float *s) {
    wg__panel_kernel *multiply = wg__panel_kernel_of(WG_F32, WG_ISA_AUTO);
    int64_t at = 0;
    for (int64_t rows; (rows = next_run(which, &at)) > 0; at += rows) {
        const wg_panel p = {.m = rows, .columns = WG_AMX_BLOCK, .k = k, .a_row = a->all.row, .a_column = a->all.column, .b_row = WG_AMX_BLOCK,
                            .c_row = WG_AMX_BLOCK, .add = q > 0};
        multiply(&p, wg__corner(WG_F32, &a->all, row + at, q).data, b, s + at * WG_AMX_BLOCK);
    }
}

static __attribute__((noinline)) void sums_in_full(unsigned which, int64_t row, const left *a, const right *b, float *s) {
    if (b->large) {
        sums_of_terms(which, row, a, 0, b->k, b->data, s);
        return;
    }
    for (int64_t q = 0; q < b->k; q += CHUNK) {
        float y[CHUNK][WG_AMX_BLOCK];
        restore(b->data + q / CHUNK * RIGHT, y);
        sums_of_terms(which, row, a, q, wg__min(CHUNK, b->k - q), y, s);
    }
}

/* C: column or row adjacent. What it held counts `before` times; not read if that is 0. */
typedef struct target {
    wg_matrix c;
    float factor, before;
} target;

static inline __attribute__((always_inline)) void put(float *c, __mmask16 mask, __m512 sum, float before) {
    if (before != 0)
        sum = _mm512_fmadd_ps(_mm512_set1_ps(before), _mm512_maskz_loadu_ps(mask, c), sum);
    _mm512_mask_storeu_ps(c, mask, sum);
}

/* factor times 16 sums of a row, which are of scaled numbers unless they are `full`. The factor times UNSCALE may be no normal number. */
static inline __attribute__((always_inline)) __m512 scaled(const target *t, bool full, const float *s) {
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_load_ps(s), _mm512_set1_ps(full ? 1 : UNSCALE)), _mm512_set1_ps(t->factor));
}

/* C = before C + factor s, of rows x columns. full: by bits, the rows that are no sums of scaled numbers. */
static __attribute__((noinline)) void add_sums(const target *t, int64_t rows, int64_t columns, unsigned full, const float *s) {
    float *c = t->c.data;
    if (t->c.column == 1) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j += SIDE)
                put(c + i * t->c.row + j, first(columns - j), scaled(t, full >> i & 1, s + i * WG_AMX_BLOCK + j), t->before);
        return;
    }
    for (int64_t i = 0; i < rows; i += SIDE)
        for (int64_t j = 0; j < columns; j += SIDE) {
            __m512 x[SIDE];
            for (int r = 0; r < SIDE; r++)
                x[r] = scaled(t, full >> (i + r) & 1, s + (i + r) * WG_AMX_BLOCK + j);
            turn(x);
            for (int r = 0; r < SIDE && j + r < columns; r++)
                put(c + i + (j + r) * t->c.column, first(rows - i), x[r], t->before);
        }
}

static inline void ask_for_target(const target *t, int64_t rows, int64_t columns) {
    const bool turned = t->c.column != 1;
    const char *at = t->c.data;
    for (int64_t r = 0; r < (turned ? columns : rows); r++, at += (turned ? t->c.column : t->c.row) * 4)
        for (int64_t byte = 0; byte < (turned ? rows : columns) * 4; byte += 64)
            __builtin_prefetch(at + byte, 1);
}

static unsigned low_bits(int64_t n) { return n >= 32 ? ~0u : (1u << n) - 1; }

/* C by m rows of A and a block of B. Of more than SIDE rows, half a block stays near while all go by. */
static void multiply(int64_t m, const left *a, const right *b, const target *t, soon *next) {
    _Alignas(64) float s[2 * SIDE * WG_AMX_BLOCK];
    const int64_t chunks = chunks_of(b->k), wide = m > SIDE ? WG_AMX_BLOCK / 2 : WG_AMX_BLOCK;
    for (int64_t c = 0; c < b->columns; c += wide)
        for (int64_t i = 0; i < m; i += 2 * SIDE) {
            int64_t rows = wg__min(2 * SIDE, m - i), columns = wg__min(wide, b->columns - c);
            const char *parts = a->parts + i / SIDE * a->step, *block = b->data + c / SIDE * REGISTER;
            const unsigned *large = a->large + i / SIDE;
            unsigned all = low_bits(rows), full = b->large ? all : (large[0] | (rows > SIDE ? large[1] << SIDE : 0));
            target part = {wg__corner(WG_F32, &t->c, i, c), t->factor, t->before};
            ask_for_target(&part, rows, columns);
            if (full != all && rows > SIDE)
                sums_of_pair(chunks, parts, parts + a->step, block, s, next);
            else if (full != all)
                sums_of_rows((int)((columns + SIDE - 1) / SIDE), chunks, parts, block, s);
            if (full) {
                float whole[2 * SIDE][WG_AMX_BLOCK];
                sums_in_full(full, i, a, b, whole[0]);
                for (int64_t r = 0; r < rows; r++)
                    if (full >> r & 1)
                        memcpy(s + r * WG_AMX_BLOCK, whole[r] + c, (size_t)columns * sizeof *s);
            }
            add_sums(&part, rows, columns, full, s);
        }
}

/* ---- B in parts ---- */

/* After the blocks, a byte for each: whether it is large. */
size_t wg__amx_bytes(int64_t k, int64_t n) {
    size_t blocks = (size_t)blocks_of(n), chunks = (size_t)chunks_of(k);
    return wg__size(wg__size(blocks, chunks, 0), RIGHT, (blocks + 63) / 64 * 64);
}

void wg__amx_pack_blocks(int64_t k, int64_t n, const wg_matrix *b, void *packed, int64_t from, int64_t to) {
    int64_t size = chunks_of(k) * RIGHT;
    char *large = (char *)packed + blocks_of(n) * size;
    for (int64_t j = from; j < to; j++)
        large[j] = split_block(b, j * WG_AMX_BLOCK, n, k, (char *)packed + j * size);
}

static void split_all(const wg_matrix *a, int64_t rows, int64_t k, char *parts, unsigned *large) {
    for (int64_t r = 0; r < rows; r += SIDE)
        large[r / SIDE] = split_rows(a, r, rows, k, parts + r / SIDE * chunks_of(k) * LEFT);
}

void wg__amx_multiply(const wg_amx_product *p, const float *a, const void *packed, float *c, int64_t from, int64_t to, bool turned) {
    _Alignas(64) char parts[LEFT_BYTES];
    unsigned large[PACKED_ROWS / SIDE];
    const int64_t size = chunks_of(p->k) * RIGHT;
    const char *whole = (const char *)packed + blocks_of(p->n) * size; /* by block: it is not in parts */
    enter(wg__min(p->m, SIDE));
    for (int64_t i = 0; i < p->m; i += PACKED_ROWS)
        for (int64_t q = 0; q < p->k || q == 0; q += PACKED_DEEP) {
            int64_t rows = wg__min(PACKED_ROWS, p->m - i), k = wg__min(PACKED_DEEP, p->k - q);
            const left x = {parts, chunks_of(k) * LEFT, large, {(float *)(uintptr_t)a + i * p->a_row + q, p->a_row, 1}};
            split_all(&x.all, rows, k, parts, large);
            for (int64_t n = from; n < to; n++) {
                int64_t j = turned ? from + to - 1 - n : n, column = j * WG_AMX_BLOCK;
                const char *block = (const char *)packed + j * size;
                const right y = {block + (whole[j] ? q * WG_AMX_BLOCK * 4 : q / CHUNK * RIGHT), whole[j],
                                 wg__min(WG_AMX_BLOCK, p->n - column), k};
                multiply(rows, &x, &y, &(target){{c + i * p->c_row + column, p->c_row, 1}, 1, p->add || q > 0}, &(soon){0});
            }
        }
    leave();
}

/* ---- whole products ---- */

bool wg__amx_turns(const wg_gemm *g) { return g->a.column != 1 && g->b.column == 1 && g->n < g->m; }

/* C^T = B^T A^T. */
static wg_gemm turned(const wg_gemm *g) {
    wg_gemm t = *g;
    t.m = g->n;
    t.n = g->m;
    t.a = (wg_matrix){g->b.data, g->b.column, g->b.row};
    t.b = (wg_matrix){g->a.data, g->a.column, g->a.row};
    t.c = (wg_matrix){g->c.data, g->c.column, g->c.row};
    return t;
}

void wg__amx_gemm(const wg_gemm *g) {
    _Alignas(64) char parts[LEFT_BYTES], block[RIGHT_BYTES];
    unsigned large[ROWS / SIDE];
    const wg_gemm p = wg__amx_turns(g) ? turned(g) : *g;
    enter(wg__min(p.m, SIDE));
    for (int64_t i = 0; i < p.m; i += ROWS)
        for (int64_t q = 0; q < p.k; q += DEEP) {
            const int64_t rows = wg__min(ROWS, p.m - i), k = wg__min(DEEP, p.k - q), then = wg__min(DEEP, p.k - q - k);
            const left x = {parts, chunks_of(k) * LEFT, large, wg__corner(WG_F32, &p.a, i, q)};
            const wg_matrix b = wg__corner(WG_F32, &p.b, q, 0);
            const int64_t chunks = (rows + 2 * SIDE - 1) / (2 * SIDE) * 2 * chunks_of(k); /* for each block */
            split_all(&x.all, rows, k, parts, large);
            for (int64_t j = 0; j < p.n; j += WG_AMX_BLOCK) {
                const bool last = j + WG_AMX_BLOCK >= p.n;
                const wg_matrix beside = wg__corner(WG_F32, &b, last ? k : 0, last ? 0 : j + WG_AMX_BLOCK);
                const right y = {block, split_block(&b, j, p.n, k, block), wg__min(WG_AMX_BLOCK, p.n - j), k};
                soon next = soon_of(&beside, last ? then : k, wg__min(WG_AMX_BLOCK, last ? p.n : p.n - j - WG_AMX_BLOCK), chunks);
                multiply(rows, &x, &y, &(target){wg__corner(WG_F32, &p.c, i, j), (float)g->alpha, q > 0 ? 1 : (float)g->beta}, &next);
            }
        }
    leave();
}

#else

bool wg__amx_runs(void) { return false; }
size_t wg__amx_bytes(int64_t k, int64_t n) {
    (void)k, (void)n;
    return 0;
}
void wg__amx_pack_blocks(int64_t k, int64_t n, const wg_matrix *b, void *packed, int64_t from, int64_t to) {
    (void)k, (void)n, (void)b, (void)packed, (void)from, (void)to;
}
void wg__amx_multiply(const wg_amx_product *p, const float *a, const void *packed, float *c, int64_t from, int64_t to, bool turned) {
    (void)p, (void)a, (void)packed, (void)c, (void)from, (void)to, (void)turned;
}
bool wg__amx_turns(const wg_gemm *g) {
    (void)g;
    return false;
}
void wg__amx_gemm(const wg_gemm *g) { (void)g; }

#endif
