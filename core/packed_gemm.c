/* packed_gemm.c: a tile of a product: k in pieces, and for each the operands copied into panels where that pays. The panels
 * lie on the stack, so that a run allocates nothing. */
#include "packed_gemm.h"
#include "xsmm.h"

#include <string.h>

/* DEEP: a piece of k, in bytes of an element's row. ROWS: of A copied together. SLICE: rows of C that a kernel has in
 * registers. */
enum { DEEP_BYTES = 1280, ROWS = 256, SLICE = 6 };
_Static_assert(ROWS * DEEP_BYTES + WG_BLOCK_BYTES * DEEP_BYTES / 4 <= WG_TILE_BYTES, "panels");

/* Where panels are copied: A's, and one block of B's. */
typedef struct panels {
    _Alignas(64) char a[ROWS * DEEP_BYTES];
    _Alignas(64) char b[WG_BLOCK_BYTES * DEEP_BYTES / 4];
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

/* A piece of A as kernels read it: its rows as they are, or a copy in the order that it has. */
static wg_matrix panel_of_a(const wg_gemm *g, int64_t q, int64_t k, char *copy) {
    wg_matrix a = wg__corner(g->dtype, &g->a, 0, q);
    if (a.column == 1 || (a.row == 1 && a.column == g->m))
        return a;
    if (a.row == 1) {
        wg__panel_copy(g->dtype, &(wg_matrix){a.data, a.column, 1}, k, g->m, g->m, g->m, copy);
        return (wg_matrix){copy, 1, g->m};
    }
    wg__panel_copy(g->dtype, &a, g->m, k, k, k, copy);
    return (wg_matrix){copy, k, 1};
}

/* The same of one block of columns of B, times alpha: rows of a whole block are read where they lie. */
static wg_matrix panel_of_b(const wg_gemm *g, int64_t q, int64_t j, int64_t k, int64_t columns, char *copy) {
    int64_t width = wg__packed_width(g->dtype);
    wg_matrix b = wg__corner(g->dtype, &g->b, q, j);
    if (b.column == 1 && g->alpha == 1 && columns == width)
        return b;
    width = wg__packed_row(g->dtype, columns);
    wg__panel_copy(g->dtype, &b, k, columns, width, width, copy);
    if (g->alpha != 1)
        scale(g->dtype, k * width, g->alpha, copy);
    return (wg_matrix){copy, width, 1};
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

/* A matrix that will be copied, row by row as it lies in memory, while `slices` kernels run: its next rows for one of them. */
typedef struct stream {
    const char *at;
    int64_t step, lines, rows, slices;
} stream;

static stream stream_of(const wg_gemm *g, const wg_matrix *x, int64_t rows, int64_t columns, int64_t slices) {
    int64_t size = (int64_t)wg_dtype_size(g->dtype);
    bool turned = x->row == 1;
    return (stream){x->data, (turned ? x->column : x->row) * size,
                    ((turned ? rows : columns) * size + WG_LINE_BYTES - 1) / WG_LINE_BYTES, turned ? columns : rows, slices};
}

static wg_soon next_of(stream *s) {
    int64_t rows = s->slices > 0 ? (s->rows + s->slices - 1) / s->slices : 0;
    wg_soon soon = {s->at, s->step, s->lines, rows};
    s->at += rows * s->step;
    s->rows -= rows;
    s->slices--;
    return soon;
}

/* All rows by one panel of B, while what comes next is on its way: the next rows of an A that is read where it lies (`here`),
 * or the next piece of one that is copied; and the next panel of B. */
static void multiply(const wg_gemm *g, const kernels *kernel, const wg_panel *p, const wg_matrix *a, bool here, const void *b,
                     int64_t j, stream *next_a, stream *next_b) {
    wg_panel part = *p;
    int64_t slice = 0;
    for (int64_t i = 0; i < p->m; i += SLICE, slice++) {
        part.m = wg__min(SLICE, p->m - i);
        const void *rows = wg__corner(g->dtype, a, i, 0).data;
        void *out = wg__corner(g->dtype, &g->c, i, j).data;
        wg__xsmm_kernel *made = part.m == SLICE ? kernel->slice : kernel->rest;
        if (made && p->columns == wg__packed_width(g->dtype)) {
            made(b, rows, out);
            continue;
        }
        wg_matrix below = wg__corner(g->dtype, a, i + part.m, 0);
        stream next = stream_of(g, &below, here ? wg__min(SLICE, p->m - i - part.m) : 0, p->k, 1);
        part.soon = next_of(here ? &next : slice % 2 ? next_a : next_b);
        kernel->any(&part, rows, b, out);
    }
}

/* As many rows as A is copied of together. */
static void multiply_rows(bool xsmm, const wg_gemm *g, panels *panel) {
    int64_t width = wg__packed_width(g->dtype), most = DEEP_BYTES / (int64_t)wg_dtype_size(g->dtype);
    int64_t pieces = (g->k + most - 1) / most, deep = ((g->k + pieces - 1) / pieces + 15) / 16 * 16;
    int64_t slices = (g->m + SLICE - 1) / SLICE, blocks = (g->n + width - 1) / width;
    for (int64_t q = 0; q < g->k; q += deep) {
        int64_t k = wg__min(deep, g->k - q), then = wg__min(deep, g->k - q - k);
        wg_matrix a = panel_of_a(g, q, k, panel->a), after = wg__corner(g->dtype, &g->a, 0, q + k);
        bool here = a.data == wg__corner(g->dtype, &g->a, 0, q).data;
        stream next_a = stream_of(g, &after, here ? 0 : g->m, then, slices / 2 * blocks);
        kernels kernel = {0};
        for (int64_t j = 0; j < g->n; j += width) {
            int64_t columns = wg__min(width, g->n - j);
            wg_matrix b = panel_of_b(g, q, j, k, columns, panel->b);
            wg_panel p = {.m = g->m, .columns = columns, .k = k, .a_row = a.row, .a_column = a.column, .b_row = b.row,
                          .c_row = g->c.row, .add = q > 0 || g->beta != 0};
            bool last = j + width >= g->n;
            after = wg__corner(g->dtype, &g->b, last ? q + k : q, last ? 0 : j + width);
            stream next_b = stream_of(g, &after, last ? then : k, wg__min(width, last ? g->n : g->n - j - width), (slices + 1) / 2);
            if (j == 0)
                kernel = kernels_of(xsmm, g, &p);
            multiply(g, &kernel, &p, &a, here && j == 0, b.data, j, &next_a, &next_b);
        }
    }
}

void wg__gemm_packed(bool xsmm, const wg_gemm *g) {
    panels panel;
    int64_t rows = g->a.column == 1 ? wg__max(g->m, 1) : ROWS; /* not copied: all of them */
    if (g->k == 0 || (g->beta != 0 && g->beta != 1))
        begin(g);
    for (int64_t i = 0; i < g->m && g->k > 0; i += rows) {
        wg_gemm part = *g;
        part.m = wg__min(rows, g->m - i);
        part.a = wg__corner(g->dtype, &g->a, i, 0);
        part.c = wg__corner(g->dtype, &g->c, i, 0);
        multiply_rows(xsmm, &part, &panel);
    }
}
