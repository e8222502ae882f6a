/* gemm.c: matrix products in tiles: a plain loop, CBLAS and packed panels behind one contract. The only file that calls
 * CBLAS. */
#include "amx.h"
#include "packed_gemm.h"
#include "xsmm.h"

#include <cblas.h>
#include <string.h>

/* Below TINY multiply-adds the plain loop is quicker than a call of CBLAS. SIDE: the blocks that odd strides are packed
 * in. */
enum { TINY = 96, SIDE = 64 };

/* A tile's sides are 256, halved while there are fewer than FEW tiles to hand out that are worth it: columns first, for a tall tile
 * reuses more of what is copied of B; but rows alone where B is not and A's rows are not adjacent. The last tile of a row or column is smaller. */
enum { TILE_SIDE = 256, FEW_TILES = 4, MANY_TILES = 8 };

static bool is_amx(wg_isa isa) { return isa == WG_ISA_AUTO || isa >= WG_ISA_AMX; }

/* Whether it is made in parts. */
static bool in_parts(const wg_gemm *g) {
    return g->dtype == WG_F32 && wg__min(g->m, g->n) >= WG_PARTS_SIDE && g->k >= WG_PARTS_DEEP && is_amx(g->isa) && wg__amx_runs();
}

/* Whether a B has to be copied; and whether it is, but for few rows. */
static bool turns_b(const wg_gemm *g) { return g->b.column != 1 || g->alpha != 1; }

static bool copies_b(const wg_gemm *g) { return turns_b(g) || wg__is_narrow(g->dtype, g->isa); }

/* What is copied of one operand serves all columns, or rows, of a tile: it may have more of them, while there are many tiles. In parts A is
 * always copied; of longer tiles with a copied A, a cache next to a thread does not hold what is added up. */
static void lengthen(wg_tiles *t, const wg_gemm *g) {
    bool parts = in_parts(g), turned = parts ? wg__amx_turns(g) : wg__is_narrow(g->dtype, g->isa) ? wg__lies_ready(g) : g->a.column == 1;
    int64_t *side = turned ? &t->rows : &t->columns, *tiles = turned ? &t->down : &t->across, n = turned ? g->m : g->n;
    int most = turned && !parts ? 2 : 1;
    if (!parts && wg__lies_ready(g) && !(turned && copies_b(g)))
        return; /* nothing is copied, or it serves no more */
    for (int times = 0; times < most && t->down * t->across >= 2 * MANY_TILES; times++) {
        *side *= 2;
        *tiles = (n + *side - 1) / *side;
    }
}

static void divide(wg_tiles *t, const wg_gemm *g) {
    t->rows = t->columns = TILE_SIDE;
    int64_t few = wg__min(FEW_TILES, wg__gemm_work(g) / WG_GEMM_SHARE);
    bool rows_alone = g->a.column != 1 && !copies_b(g) && !in_parts(g);
    for (int halved = 0;; halved++) {
        t->down = (g->m + t->rows - 1) / t->rows;
        t->across = (g->n + t->columns - 1) / t->columns;
        if (t->down * t->across >= few || halved == 2) {
            if (halved == 0)
                lengthen(t, g);
            return;
        }
        if (halved == 0 && !rows_alone)
            t->columns /= 2;
        else
            t->rows /= 2;
    }
}

int64_t wg__gemm_work(const wg_gemm *g) {
    int64_t work;
    if (__builtin_mul_overflow(g->m, g->n, &work) || __builtin_mul_overflow(work, wg__max(g->k, 1), &work))
        return INT64_MAX;
    return work;
}

/* ---- the plain loop ---- */

#define PLAIN(T)                                                                                   \
    static void plain_##T(const wg_gemm *g) {                                                      \
        const T alpha = (T)g->alpha, beta = (T)g->beta;                                            \
        for (int64_t i = 0; i < g->m; i++) {                                                       \
            T *c = (T *)g->c.data + i * g->c.row;                                                  \
            for (int64_t j = 0; j < g->n; j++) {                                                   \
                const T *a = (const T *)g->a.data + i * g->a.row;                                  \
                const T *b = (const T *)g->b.data + j * g->b.column;                               \
                T sum = 0;                                                                         \
                for (int64_t p = 0; p < g->k; p++)                                                 \
                    sum += a[p * g->a.column] * b[p * g->b.row];                                   \
                c[j] = beta == 0 ? alpha * sum : alpha * sum + beta * c[j];                        \
            }                                                                                      \
        }                                                                                          \
    }
PLAIN(float)
PLAIN(double)

static void plain(const wg_gemm *g) {
    if (g->dtype == WG_F32)
        plain_float(g);
    else
        plain_double(g);
}

/* ---- CBLAS ---- */

/* How CBLAS reads a matrix: transposed or not, with the distance between its rows; false if it cannot. */
static bool readable(const wg_matrix *x, int64_t rows, int64_t columns, CBLAS_TRANSPOSE *order, int64_t *ld) {
    bool by_rows = (x->column == 1 || columns <= 1) && (x->row >= columns || rows <= 1);
    bool by_columns = (x->row == 1 || rows <= 1) && (x->column >= rows || columns <= 1);
    *order = by_rows ? CblasNoTrans : CblasTrans;
    *ld = by_rows ? (rows > 1 ? x->row : wg__max(columns, 1)) : (columns > 1 ? x->column : wg__max(rows, 1));
    return (by_rows || by_columns) && *ld <= INT32_MAX;
}

static bool call_cblas(const wg_gemm *g) {
    CBLAS_TRANSPOSE ta, tb;
    int64_t lda, ldb, ldc = g->m > 1 ? g->c.row : wg__max(g->n, 1);
    if (!readable(&g->a, g->m, g->k, &ta, &lda) || !readable(&g->b, g->k, g->n, &tb, &ldb) || ldc > INT32_MAX ||
        g->k > INT32_MAX)
        return false;
    if (g->dtype == WG_F32)
        cblas_sgemm(CblasRowMajor, ta, tb, (int)g->m, (int)g->n, (int)g->k, (float)g->alpha, g->a.data, (int)lda,
                    g->b.data, (int)ldb, (float)g->beta, g->c.data, (int)ldc);
    else
        cblas_dgemm(CblasRowMajor, ta, tb, (int)g->m, (int)g->n, (int)g->k, g->alpha, g->a.data, (int)lda,
                    g->b.data, (int)ldb, g->beta, g->c.data, (int)ldc);
    return true;
}

/* A block of at most SIDE x SIDE elements, made dense in buffer. */
static wg_matrix packed(const wg_gemm *g, const wg_matrix *x, int64_t i, int64_t j, int64_t rows, int64_t columns,
                        void *buffer) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            if (g->dtype == WG_F32)
                ((float *)buffer)[r * SIDE + c] = *(const float *)wg__corner(g->dtype, x, i + r, j + c).data;
            else
                ((double *)buffer)[r * SIDE + c] = *(const double *)wg__corner(g->dtype, x, i + r, j + c).data;
        }
    return (wg_matrix){buffer, SIDE, 1};
}

/* A result of at most SIDE x SIDE, its operands packed block by block along k. */
static void pack_and_multiply(const wg_gemm *g) {
    _Alignas(64) double a[SIDE * SIDE], b[SIDE * SIDE];
    for (int64_t p = 0; p < g->k; p += SIDE) {
        wg_gemm part = *g;
        part.k = wg__min(SIDE, g->k - p);
        part.a = packed(g, &g->a, 0, p, g->m, part.k, a);
        part.b = packed(g, &g->b, p, 0, part.k, g->n, b);
        part.beta = p == 0 ? g->beta : 1;
        if (!call_cblas(&part))
            plain(&part);
    }
}

/* The part of the product that gives rows [i, i+m) and columns [j, j+n) of C. */
static wg_gemm part_of(const wg_gemm *g, int64_t i, int64_t j, int64_t m, int64_t n) {
    wg_gemm part = *g;
    part.m = m;
    part.n = n;
    part.a = wg__corner(g->dtype, &g->a, i, 0);
    part.b = wg__corner(g->dtype, &g->b, 0, j);
    part.c = wg__corner(g->dtype, &g->c, i, j);
    return part;
}

static void by_cblas(const wg_gemm *g) {
    if (g->k == 0 || call_cblas(g)) {
        if (g->k == 0)
            plain(g); /* beta C alone: not every CBLAS does so */
        return;
    }
    for (int64_t i = 0; i < g->m; i += SIDE)
        for (int64_t j = 0; j < g->n; j += SIDE) {
            wg_gemm part = part_of(g, i, j, wg__min(SIDE, g->m - i), wg__min(SIDE, g->n - j));
            pack_and_multiply(&part);
        }
}

/* ---- tiles: column blocks are the outer loop, so that a block of B stays in cache over the rows ---- */

bool wg__parts_allowed(const wg_team *team) { return !team->keep_subnormals && is_amx(team->isa); }

bool wg__parts_serve(const wg_team *team) { return wg__parts_allowed(team) && wg__amx_runs(); }

/* The most that a product of a team uses: the unit only where it may. */
static wg_isa isa_of(const wg_team *team, const wg_gemm *g) {
    wg_gemm free = *g;
    free.isa = WG_ISA_AUTO;
    return wg__parts_allowed(team) || !is_amx(team->isa) || !in_parts(&free) ? team->isa : WG_ISA_AVX512;
}

/* The kernels compiled for a set above the baseline ask memory for what comes next, which LIBXSMM's do not. */
static wg_engine by_size(const wg_gemm *g) {
    if (wg__gemm_work(g) <= TINY)
        return WG_ENGINE_PLAIN;
    if (in_parts(g))
        return WG_ENGINE_AMX;
    if (wg__isa_within(g->isa) > 0)
        return WG_ENGINE_PACKED;
    if (wg__xsmm_serves(g->isa))
        return WG_ENGINE_XSMM;
    return g->isa == WG_ISA_AUTO ? WG_ENGINE_CBLAS : WG_ENGINE_PACKED;
}

/* Tile t; beyond the last: an empty one. */
static wg_gemm tile_at(const wg_gemm *g, const wg_tiles *tile, int64_t t) {
    if (t >= tile->down * tile->across)
        return part_of(g, 0, 0, 0, 0);
    int64_t i = t % tile->down * tile->rows, j = t / tile->down * tile->columns;
    return part_of(g, i, j, wg__min(tile->rows, g->m - i), wg__min(tile->columns, g->n - j));
}

static wg_engine engine_of(wg_engine engine, const wg_gemm *g) { return engine == WG_ENGINE_BY_SIZE ? by_size(g) : engine; }

static void run_tile(wg_engine engine, bool past, const wg_gemm *part, const wg_gemm *next) {
    if (engine == WG_ENGINE_PLAIN)
        plain(part);
    else if (engine == WG_ENGINE_CBLAS)
        by_cblas(part);
    else if (engine == WG_ENGINE_AMX && part->dtype == WG_F32 && part->k > 0 && wg__amx_runs())
        wg__amx_gemm(part);
    else
        wg__gemm_packed(engine == WG_ENGINE_XSMM, past, part, next);
}

/* ---- products of one size but for k, the tiles of which are each added up by one thread ---- */

void wg__tiles_run(const wg_tiles *s, int64_t from, int64_t to, int64_t then) {
    int alone = wg__alone_enter(); /* a CBLAS built with OpenMP would share a tile, and change its bits */
    for (int64_t t = from; t < to; t++)
        for (int k = 0; k < s->count; k++) {
            const wg_gemm part = tile_at(&s->g[k], s, t);
            const wg_gemm next = k + 1 < s->count ? tile_at(&s->g[k + 1], s, t) : tile_at(s->g, s, t + 1 < to ? t + 1 : then);
            run_tile(engine_of(s->engine, &s->g[k]), s->past, &part, &next);
        }
    wg__alone_leave(alone);
}

static void work(void *user, int64_t from, int64_t to) {
    const wg_tiles *s = user;
    wg__tiles_run(s, from, to, to - 1 + s->turns);
}

/* The tiles are those of the product of most terms. */
static void tiles_by(wg_tiles *s, wg_engine engine, const wg_team *team, int count, const wg_gemm *g) {
    int most = 0;
    s->engine = engine;
    s->count = count;
    s->turns = team->pool ? team->threads : 1;
    for (int k = 0; k < count; k++) {
        s->g[k] = g[k];
        s->g[k].isa = isa_of(team, &g[k]);
        most = g[k].k > g[most].k ? k : most;
    }
    divide(s, &s->g[most]);
    s->shared = team->threads > 1 && s->down * s->across > 1 && wg__gemm_work(&g[most]) >= WG_GEMM_SHARE;
    s->past = s->shared && count == 1 && (double)g->m * (double)g->n * (double)wg_dtype_size(g->dtype) >= WG_FAR_BYTES;
}

void wg__tiles_of(wg_tiles *s, const wg_team *team, int count, const wg_gemm *g) { tiles_by(s, WG_ENGINE_BY_SIZE, team, count, g); }

void wg__tiles_cut(wg_tiles *s, int64_t rows) {
    enum { NEAR_BYTES = 1 << 19, COPYING_ROWS = 192 };
    const wg_gemm *g = s->g;
    rows = wg__is_narrow(g->dtype, g->isa) ? wg__max(rows, COPYING_ROWS) : rows; /* each tile copies B */
    const double read = (double)g->k * (double)wg__min(s->columns, g->n) * (double)wg_dtype_size(g->dtype);
    if (s->count > 1 || rows >= s->rows || engine_of(s->engine, g) != WG_ENGINE_PACKED || g->a.column != 1 || turns_b(g) || read > NEAR_BYTES)
        return;
    s->rows = rows;
    s->down = (g->m + rows - 1) / rows;
}

static void run_sum(wg_engine engine, const wg_team *team, int count, const wg_gemm *g) {
    wg_tiles s;
    tiles_by(&s, engine, team, count, g);
    const int64_t tiles = s.down * s.across;
    if (s.shared)
        wg__rows(team, tiles, 1, work, &s);
    else
        wg__tiles_run(&s, 0, tiles, tiles);
}

void wg__gemm_by(wg_engine engine, const wg_team *team, const wg_gemm *g) { run_sum(engine, team, 1, g); }

void wg__gemm(const wg_team *team, const wg_gemm *g) { run_sum(WG_ENGINE_BY_SIZE, team, 1, g); }

void wg__gemm_sum(const wg_team *team, int count, const wg_gemm *g) { run_sum(WG_ENGINE_BY_SIZE, team, count, g); }
