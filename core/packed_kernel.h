/* packed_kernel.h: the kernel of packed.h for one instruction set and one ELEMENT type. Included twice by each packed_ISA.c,
 * which defines ISA, VECTOR (bytes) and ELEMENT. Core only. */
#define PASTE3_(a, b, c) a##_##b##_##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define NAME(name) PASTE3(name, ISA, ELEMENT)

#define LANES ((int)(VECTOR / sizeof(ELEMENT)))
/* The rows and vectors of C that are in registers at once: 24 of 32 registers with AVX-512, else 12 of 16. */
#define ROWS 6
#define ACROSS (VECTOR == 64 ? 4 : 2)

typedef ELEMENT NAME(vector) __attribute__((vector_size(VECTOR), may_alias));
/* Of memory aligned no further than its elements. */
typedef ELEMENT NAME(loose) __attribute__((vector_size(VECTOR), may_alias, aligned(__alignof__(ELEMENT))));

/* What asks memory for a line that will be read. */
#ifndef ASK
#define ASK(line) __builtin_prefetch(line, 0, 2)
#endif

/* Stores a whole line past the caches (nontemporal.c): with AVX-512. */
#ifndef STORE_PAST
#define STORE_PAST(to, x) (*(NAME(loose) *)(to) = (x))
#endif

/* Adds one term to every sum, and goes on to the next. */
#define TERM                                                                                                                   \
    {                                                                                                                          \
        NAME(vector) y[ACROSS];                                                                                                \
        _Pragma("GCC unroll 4") for (int u = 0; u < vectors; u++) y[u] = *(const NAME(loose) *)(b + u * LANES);                \
        _Pragma("GCC unroll 6") for (int i = 0; i < rows; i++) {                                                               \
            NAME(vector) x = a[i * a_row] - (NAME(vector)){0}; /* x - 0 is x, -0 too: a broadcast alone */                     \
            _Pragma("GCC unroll 4") for (int u = 0; u < vectors; u++) sum[i][u] += x * y[u];                                   \
        }                                                                                                                      \
        a += a_column;                                                                                                         \
        b += b_row;                                                                                                            \
    }

/* rows x (vectors LANES) of C, of which only `columns` are there where `partly`. Rows and vectors are known where this is
 * inlined, so that the loops over them vanish. ahead: it asks for the rows of C below, and for rows
 * [from_row, to_row) of p->soon, a line every so many terms. */
static inline __attribute__((always_inline)) void NAME(tile)(int rows, int vectors, bool partly, bool ahead, int64_t from_row, int64_t to_row,
                                                             int64_t columns, int64_t a_column, const wg_panel *p, int64_t a_row,
                                                             const ELEMENT *a, const ELEMENT *b, ELEMENT *c) {
    NAME(vector) sum[ROWS][ACROSS];
    const int64_t b_row = p->b_row, c_row = p->c_row, k = p->k;
    ELEMENT edge[ACROSS * LANES];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        const ELEMENT *from = c + i * c_row;
        if (p->add && partly) {
            memset(edge, 0, sizeof edge);
            memcpy(edge, from, (size_t)columns * sizeof *c);
            from = edge;
        }
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = p->add ? *(const NAME(loose) *)(from + j * LANES) : (NAME(vector)){0};
    }
    /* No call from here on: it would put all sums into memory. */
    int64_t left = k; /* terms */
    const bool past = VECTOR == WG_LINE_BYTES && !partly && p->past;
    if (ahead && k >= rows * vectors && !past) {
        const ELEMENT *below = c + rows * c_row;
        left -= rows * vectors;
#pragma GCC unroll 1
        for (int r = 0; r < rows; r++, below += c_row)
#pragma GCC unroll 1
            for (int j = 0; j < vectors; j++) {
                __builtin_prefetch(below + j * LANES, 1);
                TERM
            }
    }
    const int64_t lines = p->soon.lines, asks = (to_row - from_row) * lines;
    if (ahead && asks > 0) {
        const int64_t apart = left > asks ? left / asks : 1, some = left / apart < asks ? left / apart : asks;
        const int64_t next = p->soon.step - (lines - 1) * WG_LINE_BYTES; /* from a row's last line */
        const char *soon = p->soon.at + from_row * p->soon.step;
        int64_t line = lines;
        for (int64_t n = some; n > 0; n--) {
            ASK(soon);
            const bool over = --line == 0;
            soon += over ? next : WG_LINE_BYTES;
            line = over ? lines : line;
#pragma GCC unroll 1
            for (int64_t t = 0; t < apart; t++)
                TERM
        }
        left -= some * apart;
    }
    for (; left > 0; left--)
        TERM
    if (past) {
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                STORE_PAST(c + i * c_row + j * LANES, sum[i][j]);
        return;
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        ELEMENT *to = partly ? edge : c + i * c_row;
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            *(NAME(loose) *)(to + j * LANES) = sum[i][j];
        if (partly)
            memcpy(c + i * c_row, edge, (size_t)columns * sizeof *c);
    }
}

/* The next rows, of those left: six, and the last seven to eleven by halves. */
static inline int64_t NAME(next_rows)(int64_t left) { return left >= 2 * ROWS ? ROWS : left > ROWS ? (left + 1) / 2 : left; }

/* All rows of a strip of that many vectors, of which `columns` are there. They share what they ask for. */
#define STRIP(vectors, partly)                                                                                                 \
    for (int64_t i = 0, rows; i < p->m; i += rows) {                                                                           \
        const ELEMENT *from = a + i * p->a_row;                                                                                \
        ELEMENT *to = c + i * p->c_row;                                                                                        \
        rows = NAME(next_rows)(p->m - i);                                                                                      \
        const int64_t f = asked ? asked * i / p->m : 0, t = asked ? asked * (i + rows) / p->m : 0;                             \
        switch (rows) {                                                                                                        \
        case 1: NAME(tile)(1, vectors, partly, false, 0, 0, columns, a_column, p, p->a_row, from, b, to); break;               \
        case 2: NAME(tile)(2, vectors, partly, false, 0, 0, columns, a_column, p, p->a_row, from, b, to); break;               \
        case 3: NAME(tile)(3, vectors, partly, !partly, f, t, columns, a_column, p, p->a_row, from, b, to); break;               \
        case 4: NAME(tile)(4, vectors, partly, !partly, f, t, columns, a_column, p, p->a_row, from, b, to); break;             \
        case 5: NAME(tile)(5, vectors, partly, !partly, f, t, columns, a_column, p, p->a_row, from, b, to); break;             \
        default:                                                                                                               \
            if (partly)                                                                                                        \
                NAME(tile)(6, vectors, true, false, 0, 0, columns, a_column, p, p->a_row, from, b, to);                        \
            else if (a_column == 1)                                                                                            \
                NAME(tile)(6, vectors, false, true, f, t, columns, 1, p, p->a_row, from, b, to);                               \
            else if (p->a_row == 1)                                                                                            \
                NAME(tile)(6, vectors, false, true, f, t, columns, a_column, p, 1, from, b, to);                               \
            else                                                                                                               \
                NAME(tile)(6, vectors, false, true, f, t, columns, a_column, p, p->a_row, from, b, to);                        \
        }                                                                                                                      \
    }

/* Whole strips: what nearly all work is. Its tiles are functions of their own, for a compiler finds registers for all that such loops need, but
 * not among the others': products of all steps take 2 to 3 % less for it (gcc 12, Zen 5). */
#define TILE(name, rows, a_row, a_column)                                                                                      \
    static __attribute__((noinline)) void NAME(name)(int64_t from_row, int64_t to_row, const wg_panel *p, const ELEMENT *a, const ELEMENT *b, \
                                                     ELEMENT *c) {                                                             \
        NAME(tile)(rows, ACROSS, false, rows > 2, from_row, to_row, ACROSS * LANES, a_column, p, a_row, a, b, c);              \
    }
TILE(one, 1, p->a_row, p->a_column)
TILE(two, 2, p->a_row, p->a_column)
TILE(three, 3, p->a_row, p->a_column)
TILE(four, 4, p->a_row, p->a_column)
TILE(five, 5, p->a_row, p->a_column)
TILE(six, 6, p->a_row, p->a_column)
TILE(six_adjacent, 6, p->a_row, 1)
TILE(six_turned, 6, 1, p->a_column)

static __attribute__((noinline)) void NAME(whole)(const wg_panel *p, int64_t asked, const ELEMENT *a, const ELEMENT *b, ELEMENT *c) {
    typedef void tile(int64_t from_row, int64_t to_row, const wg_panel *p, const ELEMENT *a, const ELEMENT *b, ELEMENT *c);
    tile *const of[ROWS] = {NAME(one), NAME(two), NAME(three), NAME(four), NAME(five),
                            p->a_column == 1 ? NAME(six_adjacent) : p->a_row == 1 ? NAME(six_turned) : NAME(six)};
    for (int64_t i = 0, rows; i < p->m; i += rows) {
        rows = NAME(next_rows)(p->m - i);
        of[rows - 1](asked ? asked * i / p->m : 0, asked ? asked * (i + rows) / p->m : 0, p, a + i * p->a_row, b, c + i * p->c_row);
    }
}
#undef TILE

/* The last columns, fewer than a strip: whole vectors of them, or not. */
static __attribute__((noinline)) void NAME(vectors)(const wg_panel *p, int64_t asked, int64_t columns, const ELEMENT *a, const ELEMENT *b, ELEMENT *c) {
    const int64_t a_column = p->a_column;
    switch (columns / LANES) {
    case 1:
        STRIP(1, false)
        break;
#if VECTOR == 64
    case 2:
        STRIP(2, false)
        break;
    case 3:
        STRIP(3, false)
        break;
#endif
    }
}

static __attribute__((noinline)) void NAME(edge)(const wg_panel *p, int64_t columns, const ELEMENT *a, const ELEMENT *b, ELEMENT *c) {
    const int64_t a_column = p->a_column, asked = 0;
    switch ((columns + LANES - 1) / LANES) {
    case 1:
        STRIP(1, true)
        break;
    case 2:
        STRIP(2, true)
        break;
#if VECTOR == 64
    case 3:
        STRIP(3, true)
        break;
    case 4:
        STRIP(4, true)
        break;
#endif
    }
}

static void NAME(multiply)(const wg_panel *p, const void *a, const void *b, void *c) {
    int64_t j = 0; /* the first strip asks */
    for (; j + ACROSS * LANES <= p->columns; j += ACROSS * LANES)
        NAME(whole)(p, j == 0 ? p->soon.rows : 0, a, (const ELEMENT *)b + j, (ELEMENT *)c + j);
    if (j == p->columns)
        return;
    if ((p->columns - j) % LANES == 0)
        NAME(vectors)(p, j == 0 ? p->soon.rows : 0, p->columns - j, a, (const ELEMENT *)b + j, (ELEMENT *)c + j);
    else
        NAME(edge)(p, p->columns - j, a, (const ELEMENT *)b + j, (ELEMENT *)c + j);
}

/* A piece of the only row by that of a block, from either end of it: in CHAINS parts, each with sums of its own. Of a
 * small k a part takes few lines, so that what was read last in the other direction is still in the cache. */
#define CHAINS (VECTOR == 64 ? 4 : 2)
#define PART(i)                                                                                                                \
    {                                                                                                                          \
        const int64_t end = rows * ((i) + 1) / CHAINS;                                                                         \
        for (int64_t q = rows * (i) / CHAINS; q < end; q++) {                                                                  \
            NAME(vector) x = a[q] - (NAME(vector)){0};                                                                         \
            _Pragma("GCC unroll 4") for (int u = 0; u < 4; u++) sum[i][u] += x * *(const NAME(vector) *)(b + q * WIDTH + u * LANES); \
        }                                                                                                                      \
    }
#if VECTOR == 64
#define PARTS_UP {PART(0) PART(1) PART(2) PART(3)}
#define PARTS_DOWN {PART(3) PART(2) PART(1) PART(0)}
#else
#define PARTS_UP {PART(0) PART(1)}
#define PARTS_DOWN {PART(1) PART(0)}
#endif
static inline __attribute__((always_inline)) void NAME(piece)(bool turned, int64_t rows, const ELEMENT *a, const ELEMENT *b, NAME(vector) *out) {
    enum { WIDTH = WG_BLOCK_BYTES / sizeof(ELEMENT) };
    NAME(vector) sum[CHAINS][4] = {0};
    if (turned)
        PARTS_DOWN
    else
        PARTS_UP
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++)
        out[u] = CHAINS == 2 ? sum[0][u] + sum[1][u] : (sum[0][u] + sum[1][u]) + (sum[CHAINS - 2][u] + sum[CHAINS - 1][u]);
}

/* So many pieces, one, two or four: in pairs, so that the sums of either direction are the same. */
static inline __attribute__((always_inline)) void NAME(lone_way)(bool turned, int64_t k, int64_t blocks, bool add, const ELEMENT *row,
                                                                 const ELEMENT *packed, ELEMENT *to) {
    enum { WIDTH = WG_BLOCK_BYTES / sizeof(ELEMENT), VECTORS = WIDTH / LANES, PIECE = 64 };
    const int64_t pieces = k < 2 * PIECE ? 1 : k < 4 * PIECE ? 2 : 4;
    for (int64_t m = 0; m < blocks; m++) {
        const int64_t block = turned ? blocks - 1 - m : m;
        NAME(loose) *c = (NAME(loose) *)(to + block * WIDTH);
        NAME(vector) sum[VECTORS] = {0}, one[VECTORS] = {0}, two[VECTORS];
        for (int64_t n = 0; n < pieces; n++) {
            const int64_t piece = turned ? pieces - 1 - n : n, from = k * piece / pieces, rows = k * (piece + 1) / pieces - from;
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v += 4)
                NAME(piece)(turned, rows, row + from, packed + (block * k + from) * WIDTH + v * LANES, two + v);
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) {
                if (n % 2 || pieces == 1)
                    sum[v] += one[v] + two[v];
                one[v] = two[v];
            }
        }
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) {
            if (add)
                sum[v] += c[v];
            c[v] = sum[v];
        }
    }
}

/* The only row by so many whole blocks, the last first if `turned`. */
static void NAME(lone)(int64_t k, int64_t blocks, bool add, bool turned, const void *row, const void *packed, void *to) {
    if (turned)
        NAME(lone_way)(true, k, blocks, add, row, packed, to);
    else
        NAME(lone_way)(false, k, blocks, add, row, packed, to);
}

#undef PARTS_DOWN
#undef PARTS_UP
#undef PART
#undef CHAINS
#undef STRIP
#undef ACROSS
#undef ROWS
#undef LANES
