/* packed.c: right operands packed in blocks of columns, and products with them. */
#include "amx.h"
#include "xsmm.h"

#include <string.h>

const wg__panel_kernels *wg__panel_kernels_of(wg_isa most) {
    static const wg__panel_kernels *const tables[] = {
#define TABLE(name, needs) &wg__panel_kernels_##name,
        WG__ISA_MAP(TABLE)
#undef TABLE
    };
    return tables[wg__isa_within(most)];
}

int64_t wg__block_width(wg_dtype dtype, wg_isa most) { return wg__panel_kernels_of(most)->block / (int64_t)wg_dtype_size(dtype); }

wg__panel_kernel *wg__panel_kernel_of(wg_dtype dtype, wg_isa most) { return wg__panel_kernels_of(most)->multiply[dtype == WG_F64]; }

/* ---- copying a panel: 16 bytes square at a time where the axis that is adjacent changes ---- */

typedef float four __attribute__((vector_size(16), may_alias, aligned(4)));
typedef double two __attribute__((vector_size(16), may_alias, aligned(8)));

static inline void turn_float(const float *x, int64_t x_row, float *out, int64_t width) {
    four a = *(const four *)x, b = *(const four *)(x + x_row), c = *(const four *)(x + 2 * x_row), d = *(const four *)(x + 3 * x_row);
    four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)out = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four *)(out + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four *)(out + 2 * width) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
    *(four *)(out + 3 * width) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

static inline void turn_double(const double *x, int64_t x_row, double *out, int64_t width) {
    two a = *(const two *)x, b = *(const two *)(x + x_row);
    *(two *)out = __builtin_shufflevector(a, b, 0, 2);
    *(two *)(out + width) = __builtin_shufflevector(a, b, 1, 3);
}

/* The columns of x are adjacent in memory: whole lines are read and written, a square of them at a time. */
#define COPY(T)                                                                                                                \
    static void copy_##T(const T *x, int64_t x_row, int64_t x_column, int64_t rows, int64_t columns, int64_t width, T *out) {  \
        enum { LINE = WG_LINE_BYTES / sizeof(T), SQUARE = 16 / sizeof(T) };                                                    \
        int64_t down = x_row == 1 ? rows / LINE * LINE : 0, across = x_row == 1 ? columns / LINE * LINE : 0;                   \
        for (int64_t i = 0; i < down; i += LINE)                                                                               \
            for (int64_t j = 0; j < across; j += LINE)                                                                         \
                for (int u = 0; u < LINE; u += SQUARE)                                                                         \
                    for (int v = 0; v < LINE; v += SQUARE)                                                                     \
                        turn_##T(x + i + u + (j + v) * x_column, x_column, out + (i + u) * width + j + v, width);              \
        for (int64_t i = 0; i < rows; i++)                                                                                     \
            if (x_column == 1 && columns == LINE)                                                                              \
                memcpy(out + i * width, x + i * x_row, WG_LINE_BYTES);                                                         \
            else if (x_column == 1)                                                                                            \
                memcpy(out + i * width, x + i * x_row, (size_t)columns * sizeof(T));                                           \
            else                                                                                                               \
                for (int64_t j = i < down ? across : 0; j < columns; j++)                                                      \
                    out[i * width + j] = x[i * x_row + j * x_column];                                                          \
    }
COPY(float)
COPY(double)

/* ---- slivers ---- */

/* Two rows beside the four that turn_float has turned. */
static inline void turn_pair(const float *x, int64_t x_row, float *out, int64_t width) {
    four a = *(const four *)x, b = *(const four *)(x + x_row);
    two ab = (two)__builtin_shufflevector(a, b, 0, 4, 1, 5), cd = (two)__builtin_shufflevector(a, b, 2, 6, 3, 7);
    memcpy(out, &ab, sizeof(double)), memcpy(out + width, (double *)&ab + 1, sizeof(double));
    memcpy(out + 2 * width, &cd, sizeof(double)), memcpy(out + 3 * width, (double *)&cd + 1, sizeof(double));
}

static inline void turn_six_float(const float *x, int64_t x_row, float *out) {
    turn_float(x, x_row, out, WG_SLIVER);
    turn_pair(x + 4 * x_row, x_row, out + 4, WG_SLIVER);
}

static inline void turn_six_double(const double *x, int64_t x_row, double *out) {
    for (int i = 0; i < WG_SLIVER; i += 2)
        turn_double(x + i * x_row, x_row, out + i, WG_SLIVER);
}

/* Whole ones by what is adjacent; of adjacent rows, memory is asked for the next sliver's. */
#define SLIVERS(T)                                                                                                             \
    static void slivers_##T(const T *x, int64_t x_row, int64_t x_column, int64_t rows, int64_t k, int64_t from, int64_t to, T *out) { \
        enum { LINE = WG_LINE_BYTES / sizeof(T), SQUARE = 16 / sizeof(T) };                                                    \
        const int64_t whole = rows / WG_SLIVER * WG_SLIVER, lines = x_column == 1 ? (to - from) / LINE * LINE : 0;             \
        for (int64_t i = 0; i < whole && x_row == 1; i += WG_SLIVER)                                                           \
            for (int64_t q = from; q < to; q++)                                                                                \
                memcpy(out + i * k + q * WG_SLIVER, x + i + q * x_column, WG_SLIVER * sizeof(T));                              \
        for (int64_t i = 0; i < whole && x_row != 1; i += WG_SLIVER)                                                           \
            for (int64_t q = from; q < from + lines; q += LINE) {                                                              \
                for (int64_t next = i + WG_SLIVER; next < i + 2 * WG_SLIVER && next < rows; next++)                            \
                    __builtin_prefetch(x + next * x_row + q);                                                                  \
                for (int u = 0; u < LINE; u += SQUARE)                                                                         \
                    turn_six_##T(x + i * x_row + q + u, x_row, out + i * k + (q + u) * WG_SLIVER);                             \
            }                                                                                                                  \
        for (int64_t q = x_row == 1 ? to : from + lines; q < to; q++) /* the last terms, and the last rows */                  \
            for (int64_t i = 0; i < whole; i++)                                                                                \
                out[i / WG_SLIVER * WG_SLIVER * k + q * WG_SLIVER + i % WG_SLIVER] = x[i * x_row + q * x_column];              \
        for (int64_t q = from; q < to; q++)                                                                                    \
            for (int64_t i = whole; i < rows; i++)                                                                             \
                out[whole * k + q * (rows - whole) + i - whole] = x[i * x_row + q * x_column];                                 \
    }
SLIVERS(float)
SLIVERS(double)

void wg__slivers_copy(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t k, int64_t from, int64_t to, void *out) {
    if (dtype == WG_F32)
        slivers_float(x->data, x->row, x->column, rows, k, from, to, out);
    else
        slivers_double(x->data, x->row, x->column, rows, k, from, to, out);
}

void wg__panel_copy(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t columns, int64_t filled, int64_t width, void *out) {
    size_t size = wg_dtype_size(dtype);
    if (dtype == WG_F32)
        copy_float(x->data, x->row, x->column, rows, columns, width, out);
    else
        copy_double(x->data, x->row, x->column, rows, columns, width, out);
    for (int64_t i = 0; i < rows && filled > columns; i++)
        memset((char *)out + (size_t)(i * width + columns) * size, 0, (size_t)(filled - columns) * size);
}

/* ---- a right operand's blocks ---- */

int64_t wg__packed_width(wg_dtype dtype) { return WG_BLOCK_BYTES / (int64_t)wg_dtype_size(dtype); }

/* Those of a packed form, in parts or not. */
static int64_t width_of(wg_dtype dtype, wg_isa most, bool parts) { return parts ? WG_AMX_BLOCK : wg__block_width(dtype, most); }

static int64_t blocks_of(int64_t n, int64_t width) { return n / width + (n % width != 0); }

int64_t wg__packed_row(wg_dtype dtype, int64_t columns) {
    int64_t line = WG_LINE_BYTES / (int64_t)wg_dtype_size(dtype);
    return (columns + line - 1) / line * line;
}

size_t wg__packed_bytes(wg_dtype dtype, int64_t k, int64_t n, bool parts) {
    if (parts)
        return wg__amx_bytes(k, n);
    size_t row = wg__size((size_t)wg__packed_row(dtype, n), wg_dtype_size(dtype), 0);
    return wg__size(row, (size_t)k, 0);
}

/* Asks memory for rows [from, to), where the elements of a column are adjacent: lines that no processor foresees. */
static void ask_for(wg_dtype dtype, const wg_matrix *x, int64_t from, int64_t to, int64_t columns) {
    for (int64_t i = from; i < to && x->row == 1; i += WG_LINE_BYTES / (int64_t)wg_dtype_size(dtype))
        for (int64_t j = 0; j < columns; j++)
            __builtin_prefetch(wg__corner(dtype, x, i, j).data);
}

/* wg__panel_copy of whole rows past the caches, some at a time. */
static void panel_bypass(wg_dtype dtype, const wg_matrix *x, int64_t rows, int64_t columns, int64_t width, void *out) {
    enum { ROWS = 16 };
    _Alignas(WG_LINE_BYTES) char some[ROWS * WG_BLOCK_BYTES];
    const int64_t row = width * (int64_t)wg_dtype_size(dtype);
    for (int64_t i = 0; i < rows; i += ROWS) {
        const int64_t count = wg__min(ROWS, rows - i);
        const wg_matrix part = wg__corner(dtype, x, i, 0);
        ask_for(dtype, x, i + count, wg__min(rows, i + count + ROWS), columns);
        wg__panel_copy(dtype, &part, count, columns, width, width, some);
        wg__bypass((char *)out + i * row, some, (size_t)(count * row));
    }
}

typedef struct packing {
    wg_dtype dtype;
    int64_t k, n, width;
    int count;
    const wg_piece *piece;
    bool across, parts;
    void *packed;
    bool shared; /* there are other threads, which may have read what lay there, and it is large */
} packing;

static void pack_block(const packing *p, int64_t j) {
    const int64_t size = (int64_t)wg_dtype_size(p->dtype), first = j * p->width;
    const int64_t columns = wg__min(p->width, p->n - first), row = wg__packed_row(p->dtype, columns);
    char *out = (char *)p->packed + first * p->k * size;
    for (int64_t i = 0, at = 0; i < p->count; at += p->piece[i++].size) {
        const wg_piece *piece = &p->piece[i];
        if (p->across && (first < at || first >= at + piece->size))
            continue;
        const int64_t rows = p->across ? p->k : piece->size;
        const wg_matrix part = wg__corner(p->dtype, &piece->b, 0, p->across ? first - at : first);
        if (p->shared)
            panel_bypass(p->dtype, &part, rows, columns, row, out);
        else
            wg__panel_copy(p->dtype, &part, rows, columns, row, row, out);
        out += rows * row * size;
    }
}

static void pack_some(void *user, int64_t from, int64_t to) {
    const packing *p = user;
    if (p->parts)
        wg__amx_pack_blocks(p->k, p->n, &p->piece->b, p->packed, from, to);
    for (int64_t j = from; j < to && !p->parts; j++)
        pack_block(p, j);
}

static void pack_all(const wg_team *team, packing p) {
    p.width = width_of(p.dtype, team->isa, p.parts);
    const int64_t blocks = blocks_of(p.n, p.width);
    p.shared = team->threads > 1 && wg__packed_bytes(p.dtype, p.k, p.n, p.parts) >= WG_PACK_SHARE;
    if (p.shared)
        wg__rows(team, blocks, 1, pack_some, &p);
    else
        pack_some(&p, 0, blocks);
}

void wg__pack(const wg_team *team, wg_dtype dtype, int64_t k, int64_t n, const wg_matrix *b, bool parts, void *packed) {
    const wg_piece whole = {*b, k};
    pack_all(team, (packing){dtype, k, n, .count = 1, .piece = &whole, .parts = parts, .packed = packed});
}

void wg__pack_pieces(const wg_team *team, wg_dtype dtype, int64_t k, int64_t n, int count, const wg_piece *piece, bool across, void *packed) {
    pack_all(team, (packing){dtype, k, n, .count = count, .piece = piece, .across = across, .packed = packed});
}

/* ---- products ---- */

static wg_panel panel_of(const wg_packed_product *p, int64_t columns) {
    return (wg_panel){.m = p->m, .columns = columns, .k = p->k, .a_row = p->a_row, .a_column = 1,
                      .b_row = wg__packed_row(p->dtype, columns), .c_row = p->c_row, .add = p->add};
}

void wg__packed_product_init(wg_packed_product *p, wg_isa most, wg_dtype dtype, int64_t m, int64_t n, int64_t k, int64_t a_row,
                             int64_t c_row, bool add, bool parts) {
    const int64_t width = width_of(dtype, most, parts);
    *p = (wg_packed_product){.dtype = dtype, .m = m, .n = n, .k = k, .a_row = a_row, .c_row = c_row, .add = add, .parts = parts,
                             .width = width, .blocks = blocks_of(n, width), .any = wg__panel_kernel_of(dtype, most)};
    if (parts)
        return;
    /* With one row, LIBXSMM gains nothing; but its sums are fused where a compiler without the sets fuses none. */
    if (n >= width && (m > 1 || WG__ISAS == 1)) {
        wg_panel whole = panel_of(p, width);
        p->whole = wg__xsmm_kernel_of(dtype, most, &whole);
    }
}

void wg__packed_product_alone(wg_packed_product *p, wg_isa most) {
    if (!p->whole)
        p->lone = wg__panel_kernels_of(most)->lone[p->dtype == WG_F64];
}

/* ---- what is asked of memory on the way: a block asks for as many lines as it has terms, but for the first, which may ask for the rows
 * of C below ---- */

enum { LEAST_ROWS = 3, FIRST_TERMS = 32 };

void wg__packed_product_let_ask(wg_packed_product *p) {
    if (p->parts || p->lone || p->n < p->width || p->k <= FIRST_TERMS)
        return;
    p->whole = NULL;
    p->asks = p->m >= LEAST_ROWS; /* kernels of fewer do not */
}

/* What is left to ask for: of the first, the rows from `row` on. */
typedef struct asking {
    const wg_soon *soon;
    int64_t count, row;
} asking;

/* The rows that a block asks for. */
static int64_t rows_of(const wg_packed_product *p, const wg_soon *s) { return wg__max(1, (p->k - FIRST_TERMS) / s->lines); }

static int64_t blocks_that_ask(const wg_packed_product *p, const asking *q) {
    int64_t blocks = 0;
    for (int64_t i = 0; i < q->count; i++)
        blocks += (q->soon[i].rows + rows_of(p, &q->soon[i]) - 1) / rows_of(p, &q->soon[i]);
    return blocks;
}

static wg_soon next_of(const wg_packed_product *p, asking *q) {
    wg_soon s = *q->soon;
    s.at += q->row * s.step;
    s.rows = wg__min(rows_of(p, &s), s.rows - q->row);
    q->row += s.rows;
    if (q->row == q->soon->rows)
        q->soon++, q->count--, q->row = 0;
    return s;
}

/* ---- products by blocks ---- */

static void multiply_block(const wg_packed_product *p, const void *a, const void *packed, void *c, int64_t j, asking *q) {
    const int64_t columns = wg__min(p->width, p->n - j * p->width), bytes = p->width * (p->dtype == WG_F32 ? 4 : 8);
    const void *block = (const char *)packed + j * bytes * p->k;
    void *out = (char *)c + j * bytes;
    if (columns == p->width && p->whole) {
        p->whole(block, a, out);
    } else {
        wg_panel panel = panel_of(p, columns);
        if (q->count && columns == p->width)
            panel.soon = next_of(p, q);
        p->any(&panel, a, block, out);
    }
}

/* Of a row alone: the whole blocks in one call. */
static void multiply_alone(const wg_packed_product *p, const void *a, const void *packed, void *c, int64_t from, int64_t to, bool turned) {
    const int64_t whole = wg__min(to, p->n / p->width), bytes = p->width * (int64_t)wg_dtype_size(p->dtype);
    if (from == to)
        return;
    if (turned && whole < to)
        multiply_block(p, a, packed, c, whole, &(asking){0});
    if (from < whole)
        p->lone(p->k, whole - from, p->add, turned, a, (const char *)packed + from * bytes * p->k, (char *)c + from * bytes);
    if (!turned && whole < to)
        multiply_block(p, a, packed, c, whole, &(asking){0});
}

/* The last blocks ask. */
static void multiply_blocks(const wg_packed_product *p, const void *a, const void *packed, void *c, int64_t from, int64_t to, bool turned,
                            asking q) {
    if (p->parts) {
        wg__amx_multiply(&(wg_amx_product){p->m, p->n, p->k, p->a_row, p->c_row, p->add}, a, packed, c, from, to, turned);
        return;
    }
    if (p->lone) {
        multiply_alone(p, a, packed, c, from, to, turned);
        return;
    }
    asking none = {0};
    const bool ends_partly = !turned && p->n % p->width != 0;
    const int64_t quiet = to - from - ends_partly - blocks_that_ask(p, &q);
    for (int64_t n = 0; n < to - from; n++)
        multiply_block(p, a, packed, c, turned ? to - 1 - n : from + n, n < quiet ? &none : &q);
}

void wg__packed_multiply_blocks(const wg_packed_product *p, const void *a, const void *packed, void *c, int64_t from, int64_t to) {
    multiply_blocks(p, a, packed, c, from, to, false, (asking){0});
}

void wg__packed_multiply(const wg_packed_product *p, const void *a, const void *packed, void *c, bool turned) {
    multiply_blocks(p, a, packed, c, 0, p->blocks, turned, (asking){0});
}

void wg__packed_multiply_asking(const wg_packed_product *p, const void *a, const void *packed, void *c, bool turned, const wg_soon *soon,
                                int64_t count) {
    multiply_blocks(p, a, packed, c, 0, p->blocks, turned, (asking){soon, p->asks ? count : 0, 0});
}
