/* packed_gemm.c: a tile of a product: k in pieces, and for each the operands copied into panels where that pays. The panels
 * lie on the stack, so that a run allocates nothing. */
#include "packed_gemm.h"
#include "xsmm.h"

#include <string.h>

/* DEEP: a piece of k, in bytes of an element's row; DEEPER and DEEPEST: a k that may be one piece where A's rows are adjacent, B copied or not
 * (deep_of). ROWS: of A copied together. SLICE: rows of C that a kernel has in registers. CALL: rows that our own kernels are called for,
 * which they divide evenly. NARROW: those of narrow blocks: a piece of which a block of B is half a first cache; whole slivers, many of them, for each
 * call reads the same block. */
enum { DEEP_BYTES = 1280, NARROW_DEEP_BYTES = 1024, DEEPER_BYTES = 2048, DEEPEST_BYTES = 4096, ROWS = 256, SLICE = WG_SLIVER, CALL = 2 * SLICE,
       NARROW_CALL = 20 * SLICE };
_Static_assert(ROWS * DEEP_BYTES + WG_BLOCK_BYTES * DEEPER_BYTES / 4 <= WG_TILE_BYTES, "panels");

/* Where panels are copied: A's rows, and one wide block of B's. */
typedef struct panels {
    char *a, *b;
} panels;

static void scale(wg_dtype dtype, int64_t count, double factor, void *x) {
    for (int64_t i = 0; i < count; i++) {
        if (dtype == WG_F32)
            ((float *)x)[i] *= (float)factor;
        else
            ((double *)x)[i] *= factor;
    }
}

/* C = 0 or beta C, where no sum begins from it as it is. */
static void begin(const wg_gemm *g) {
    for (int64_t i = 0; i < g->m; i++) {
        void *row = wg__corner(g->dtype, &g->c, i, 0).data;
        if (g->beta == 0)
            memset(row, 0, (size_t)g->n * wg_dtype_size(g->dtype));
        else
            scale(g->dtype, g->n, g->beta, row);
    }
}

/* Whether A is copied in slivers: kernels of narrow blocks read it once for each of them, which is quicker where one term's rows are adjacent. */
static bool in_slivers(const wg_gemm *g) { return wg__is_narrow(g->dtype, g->isa) && !wg__lies_ready(g); }

/* Of rows that lie apart, some terms at a time, whose lines the first cache holds from sliver to sliver. */
static void copy_slivers(const wg_gemm *g, const wg_matrix *a, int64_t k, char *copy) {
    enum { TERMS = 8 };
    const int64_t terms = a->column == 1 ? k : TERMS;
    for (int64_t q = 0; q < k; q += terms)
        wg__slivers_copy(g->dtype, a, g->m, k, q, wg__min(k, q + terms), copy);
}

/* A piece of A as kernels read it: as it lies, or a copy of its rows, or of its columns, or slivers. */
static wg_matrix panel_of_a(const wg_gemm *g, int64_t q, int64_t k, char *copy) {
    wg_matrix a = wg__corner(g->dtype, &g->a, 0, q);
    if (wg__lies_ready(g))
        return a;
    if (in_slivers(g)) {
        copy_slivers(g, &a, k, copy);
        return (wg_matrix){copy, 1, WG_SLIVER};
    }
    if (a.row == 1 && g->m > 1) { /* column by column, as they lie */
        const wg_matrix turned = {a.data, a.column, 1};
        wg__panel_copy(g->dtype, &turned, k, g->m, g->m, g->m, copy);
        return (wg_matrix){copy, 1, g->m};
    }
    wg__panel_copy(g->dtype, &a, g->m, k, k, k, copy);
    return (wg_matrix){copy, k, 1};
}

/* Whether a block of so many columns of B is read where it lies: in whole lines, or kernels would read past its rows; and narrow ones for few rows. */
static bool b_lies_ready(const wg_gemm *g, int64_t columns) {
    return (g->m <= WG_FEW_ROWS || !wg__is_narrow(g->dtype, g->isa)) && g->b.column == 1 && g->alpha == 1 && columns == wg__packed_row(g->dtype, columns);
}

/* The same of a wide block of columns of B, times alpha: in narrow blocks, if those are what kernels take, some rows of each in turn, for they may lie in
 * pages of their own. `next`: bytes from one of them to the next. */
static wg_matrix panel_of_b(const wg_gemm *g, int64_t q, int64_t j, int64_t k, int64_t columns, char *copy, int64_t *next) {
    enum { TURN = 16 };
    const int64_t size = (int64_t)wg_dtype_size(g->dtype), width = wg__block_width(g->dtype, g->isa), row = wg__packed_row(g->dtype, wg__min(width, columns));
    const int64_t rows = columns > width ? TURN : k;
    wg_matrix b = wg__corner(g->dtype, &g->b, q, j);
    *next = width * size;
    if (b_lies_ready(g, columns))
        return b;
    *next = k * row * size;
    for (int64_t i = 0; i < k; i += rows)
        for (int64_t u = 0; u < columns; u += width) {
            const wg_matrix part = wg__corner(g->dtype, &b, i, u);
            wg__panel_copy(g->dtype, &part, wg__min(rows, k - i), wg__min(width, columns - u), row, row, copy + u / width * *next + i * row * size);
        }
    if (g->alpha != 1)
        scale(g->dtype, k * wg__packed_row(g->dtype, columns), g->alpha, copy);
    return (wg_matrix){copy, row, 1};
}

/* The kernels of one panel of B: for SLICE rows, and for those that are left over. */
typedef struct kernels {
    wg__panel_kernel *any;
    wg__xsmm_kernel *slice, *rest;
} kernels;

static kernels kernels_of(bool xsmm, const wg_gemm *g, const wg_panel *p) {
    kernels k = {.any = wg__panel_kernel_of(g->dtype, g->isa)};
    wg_panel slice = *p, rest = *p;
    slice.m = SLICE;
    rest.m = p->m % SLICE;
    if (xsmm && p->m >= SLICE)
        k.slice = wg__xsmm_kernel_of(g->dtype, g->isa, &slice);
    if (xsmm && rest.m > 0)
        k.rest = wg__xsmm_kernel_of(g->dtype, g->isa, &rest);
    return k;
}

/* A matrix that will be read, row by row as it lies in memory, during so many calls of kernels: its next rows for one of them. */
typedef struct stream {
    const char *at;
    int64_t step, lines, rows, calls;
} stream;

static stream stream_of(const wg_gemm *g, const wg_matrix *x, int64_t rows, int64_t columns, int64_t calls) {
    int64_t size = (int64_t)wg_dtype_size(g->dtype);
    bool turned = x->row == 1;
    int64_t lines = ((turned ? rows : columns) * size + WG_LINE_BYTES - 1) / WG_LINE_BYTES;
    return (stream){x->data, (turned ? x->column : x->row) * size, lines, !lines ? 0 : turned ? columns : rows, calls};
}

static wg_soon next_of(stream *s) {
    int64_t rows = s->calls > 0 ? (s->rows + s->calls - 1) / s->calls : 0;
    wg_soon soon = {s->at, s->step, s->lines, rows};
    s->at += rows * s->step;
    s->rows -= rows;
    s->calls--;
    return soon;
}

/* LIBXSMM's kernels are made for a slice. */
static int64_t rows_of_call(const kernels *kernel, bool narrow, int64_t left) {
    const int64_t most = narrow ? NARROW_CALL : CALL;
    if (kernel->slice || kernel->rest)
        return wg__min(SLICE, left);
    return left < 2 * most ? left : most;
}

static int64_t calls_of(bool xsmm, const wg_gemm *g) {
    return xsmm ? (g->m + SLICE - 1) / SLICE : wg__max(1, g->m / (wg__is_narrow(g->dtype, g->isa) ? NARROW_CALL : CALL));
}

/* All rows by one panel of B, while what comes next is on its way: the next rows of an A that is read row by row where it lies (`here`),
 * or the next piece of any other; and the next panel of B. */
static void multiply(const wg_gemm *g, const kernels *kernel, const wg_panel *p, const wg_matrix *a, bool here, const void *b,
                     int64_t j, int64_t call, stream *next_a, stream *next_b) {
    const bool narrow = wg__is_narrow(g->dtype, g->isa);
    wg_panel part = *p;
    for (int64_t i = 0; i < p->m; i += part.m, call++) {
        part.m = rows_of_call(kernel, narrow, p->m - i);
        const void *rows = wg__corner(g->dtype, a, p->slivers ? i * p->k : i, 0).data;
        void *out = wg__corner(g->dtype, &g->c, i, j).data;
        wg__xsmm_kernel *made = part.m == SLICE ? kernel->slice : kernel->rest;
        if (made && p->columns == wg__packed_width(g->dtype)) {
            made(b, rows, out);
            continue;
        }
        wg_matrix below = wg__corner(g->dtype, a, i + part.m, 0);
        stream next = stream_of(g, &below, here ? wg__min(part.m, p->m - i - part.m) : 0, p->k, 1);
        part.soon = next_of(here ? &next : call % 2 ? next_a : next_b);
        kernel->any(&part, rows, b, out);
    }
}

/* Whether rows of C begin on lines. */
static bool has_whole_lines(wg_dtype dtype, const wg_matrix *c) {
    return ((uintptr_t)c->data | (uintptr_t)(c->row * (int64_t)wg_dtype_size(dtype))) % WG_LINE_BYTES == 0;
}

/* How k is cut. A longer one is not, where A's rows are read as they lie and a cache next to a thread holds what is read of B for each of them, which
 * it does not of many rows a multiple of 1024 bytes apart: then C is written once, and not read for it. */
static int64_t deep_of(const wg_gemm *g) {
    const int64_t size = (int64_t)wg_dtype_size(g->dtype);
    const bool narrow = wg__is_narrow(g->dtype, g->isa), apart = b_lies_ready(g, g->n) && g->b.row * size % 1024 != 0;
    const int64_t most = (narrow ? NARROW_DEEP_BYTES : DEEP_BYTES) / size;
    const bool whole = !narrow && wg__lies_ready(g) && g->a.column == 1 && g->k * size <= (apart ? DEEPEST_BYTES : DEEPER_BYTES);
    const int64_t pieces = whole ? 1 : wg__max(1, (g->k + most - 1) / most);
    return ((g->k + pieces - 1) / pieces + 15) / 16 * 16;
}

/* As many rows as A is copied of together; then comes `next`. */
static void multiply_rows(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *next, panels panel) {
    const int64_t wide = wg__packed_width(g->dtype), width = wg__block_width(g->dtype, g->isa), deep = deep_of(g);
    const int64_t calls = calls_of(xsmm, g), beside = (wg__min(wide, g->n) + width - 1) / width; /* narrow blocks of a wide one */
    for (int64_t q = 0; q < g->k; q += deep) {
        const int64_t k = wg__min(deep, g->k - q);
        const bool over = q + k == g->k;
        const wg_gemm *of = over ? next : g; /* whose first, or next, piece follows */
        const int64_t from = over ? 0 : q + k, then = wg__min(deep, of->k - from);
        wg_matrix a = panel_of_a(g, q, k, panel.a), after = wg__corner(g->dtype, &of->a, 0, from);
        const bool here = g->a.column == 1 && wg__lies_ready(g);
        stream next_a = stream_of(g, &after, here && !over ? 0 : of->m, then, calls * beside / 2 * ((g->n + wide - 1) / wide));
        kernels kernel = {0};
        for (int64_t j = 0; j < g->n; j += wide) {
            const int64_t columns = wg__min(wide, g->n - j);
            int64_t next_block;
            wg_matrix b = panel_of_b(g, q, j, k, columns, panel.b, &next_block);
            wg_panel p = {.m = g->m, .columns = wg__min(width, columns), .k = k, .a_row = a.row, .a_column = a.column, .b_row = b.row,
                          .c_row = g->c.row, .slivers = in_slivers(g), .add = q > 0 || g->beta != 0,
                          .past = past && k == g->k && g->beta == 0 && has_whole_lines(g->dtype, &g->c)};
            bool last = j + wide >= g->n;
            after = last ? wg__corner(g->dtype, &of->b, from, 0) : wg__corner(g->dtype, &g->b, q, j + wide);
            stream next_b = stream_of(g, &after, last ? then : k, wg__min(wide, last ? of->n : g->n - j - wide), (calls * beside + 1) / 2);
            if (j == 0)
                kernel = kernels_of(xsmm, g, &p);
            for (int64_t u = 0; u < columns; u += width) {
                p.columns = wg__min(width, columns - u);
                multiply(g, &kernel, &p, &a, here && j + u == 0, (const char *)b.data + u / width * next_block, j + u, u / width * calls, &next_a, &next_b);
            }
        }
    }
}

/* Rows of g from row i on. */
static wg_gemm rows_of(const wg_gemm *g, int64_t i, int64_t rows) {
    wg_gemm part = *g;
    part.m = wg__min(rows, g->m - i);
    part.a = wg__corner(g->dtype, &g->a, i, 0);
    part.c = wg__corner(g->dtype, &g->c, i, 0);
    return part;
}

/* What A's panel takes, in whole lines, and one wide block of B's. */
static size_t bytes_of_a(const wg_gemm *g) {
    const size_t bytes = (size_t)(wg__min(ROWS, g->m) * wg__min(g->k, deep_of(g))) * wg_dtype_size(g->dtype);
    return wg__lies_ready(g) ? 0 : (bytes + WG_LINE_BYTES - 1) / WG_LINE_BYTES * WG_LINE_BYTES;
}

static size_t bytes_of_b(const wg_gemm *g) {
    const bool narrow = wg__is_narrow(g->dtype, g->isa);
    const size_t row = narrow ? (size_t)wg__packed_row(g->dtype, wg__min(g->n, wg__packed_width(g->dtype))) * wg_dtype_size(g->dtype) : WG_BLOCK_BYTES;
    return b_lies_ready(g, g->n) ? 0 : (size_t)wg__min(g->k, deep_of(g)) * row;
}

static void multiply_all(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *then, panels panel) {
    const int64_t rows = wg__lies_ready(g) ? wg__max(g->m, 1) : ROWS; /* not copied: all of them */
    for (int64_t i = 0; i < g->m; i += rows) {
        const wg_gemm part = rows_of(g, i, rows), next = i + rows < g->m ? rows_of(g, i + rows, rows) : rows_of(then, 0, rows);
        multiply_rows(xsmm, past, &part, &next, panel);
    }
}

/* A large frame costs more than its address: each of its pages is touched where it is made (2 us). */
enum { FEW_BYTES = 16 * 1024 };

static __attribute__((noinline)) void multiply_with_few(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *then) {
    _Alignas(64) char panel[FEW_BYTES];
    multiply_all(xsmm, past, g, then, (panels){panel, panel + bytes_of_a(g)});
}

static __attribute__((noinline)) void multiply_with_all(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *then) {
    _Alignas(64) char a[ROWS * DEEP_BYTES], b[WG_BLOCK_BYTES * DEEPER_BYTES / 4];
    multiply_all(xsmm, past, g, then, (panels){a, b});
}

void wg__gemm_packed(bool xsmm, bool past, const wg_gemm *g, const wg_gemm *then) {
    if (g->k == 0 || (g->beta != 0 && g->beta != 1))
        begin(g);
    if (g->k == 0)
        return;
    xsmm = xsmm && !wg__is_narrow(g->dtype, g->isa);
    if (bytes_of_a(g) + bytes_of_b(g) <= FEW_BYTES)
        multiply_with_few(xsmm, past, g, then);
    else
        multiply_with_all(xsmm, past, g, then);
}
