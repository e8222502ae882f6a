/* packed_kernel.h: the kernel of packed.h for one instruction set and one ELEMENT type. Included twice by each packed_ISA.c,
 * which defines ISA, BLOCK and VECTOR (bytes) and ELEMENT. Core only. */
#define PASTE3_(a, b, c) a##_##b##_##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define NAME(name) PASTE3(name, ISA, ELEMENT)

#define LANES ((int)(VECTOR / sizeof(ELEMENT)))
/* The rows and vectors of C that are in registers at once: 24 of 32 registers with AVX-512, else 12 of 16. */
#define ROWS WG_SLIVER
#define ACROSS (VECTOR == 64 ? 4 : 2)
/* Rows of what is asked for ahead, a line of each in turn: they are often in different pages, which a processor then looks up at the same
 * time (where a page's entry is in no cache, it waits some 100 ns for one). */
#define ABREAST 4

typedef ELEMENT NAME(vector) __attribute__((vector_size(VECTOR), may_alias));
/* Of memory aligned no further than its elements. */
typedef ELEMENT NAME(loose) __attribute__((vector_size(VECTOR), may_alias, aligned(__alignof__(ELEMENT))));

/* What asks memory for a line that will be read. */
#ifndef ASK
#define ASK(line) __builtin_prefetch(line, 0, 2)
#endif

/* Of sets with few registers: compilers put the beginning of a loop at that of a line if it is run most often, without which its terms take up to a
 * fifth longer (Zen 3, its core's other thread busy). And the lines of ABREAST rows that are asked for at once. */
#define RARELY(x) __builtin_expect_with_probability(x, false, 0.999)
#define AT_ONCE 4

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
 * inlined, so that the loops over them vanish. ahead: it asks for the rows of C below, of wide strips a vector a term, then for
 * rows [from_row, to_row) of p->soon, a line of each of ABREAST rows, or several, every so many terms. */
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
#if VECTOR == 64
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
    int64_t soon_rows = to_row - from_row;
    const int64_t lines = p->soon.lines, step = p->soon.step, asks = (soon_rows + ABREAST - 1) / ABREAST * lines;
    if (ahead && asks > 0) {
        const int64_t apart = left > asks ? left / asks : 1;
        const char *soon = p->soon.at + from_row * step;
        while (soon_rows > 0 && left >= apart) { /* all whole ABREASTs, then the rest */
            const int64_t abreast = soon_rows < ABREAST ? soon_rows : ABREAST, groups = soon_rows / abreast;
            const int64_t some = groups * lines < left / apart ? groups * lines : left / apart;
            const int64_t next = abreast * step - (lines - 1) * WG_LINE_BYTES; /* from their last lines */
            int64_t line = lines;
            for (int64_t n = some; n > 0; n--) {
                ASK(soon);
#pragma GCC unroll 4
                for (int r = 1; r < ABREAST; r++)
                    if (r < abreast)
                        ASK(soon + r * step);
                const bool over = --line == 0;
                soon += over ? next : WG_LINE_BYTES;
                line = over ? lines : line;
#pragma GCC unroll 1
                for (int64_t t = 0; t < apart; t++)
                    TERM
            }
            left -= some * apart;
            soon_rows -= groups * abreast;
        }
    }
    for (; left > 0; left--)
        TERM
#else
    /* One loop over terms, with nothing else in it: half the registers hold its addresses. It rests, to ask for some lines at once. */
    if (ahead)
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            __builtin_prefetch(c + (rows + r) * c_row, 1);
    const int64_t lines = p->soon.lines, step = p->soon.step, soon_rows = ahead ? to_row - from_row : 0;
    const int64_t asks = (soon_rows + ABREAST - 1) / ABREAST * lines;
    struct {
        const char *at;
        int64_t rows, line, apart, terms;
    } next = {p->soon.at + from_row * step, soon_rows, lines, asks > 0 && left > asks ? left / asks : 1, left};
    do {
        int64_t terms = next.terms;
        if (RARELY(next.rows > 0)) {
            int64_t until = 0;
            for (int n = 0; n < AT_ONCE && next.rows > 0; n++, until += next.apart) {
                const int64_t abreast = next.rows < ABREAST ? next.rows : ABREAST;
#pragma GCC unroll 4
                for (int r = 0; r < ABREAST; r++)
                    if (r < abreast)
                        ASK(next.at + r * step);
                next.at += WG_LINE_BYTES;
                if (--next.line == 0)
                    next.at += abreast * step - lines * WG_LINE_BYTES, next.rows -= abreast, next.line = lines;
            }
            if (next.rows > 0 && until < terms)
                terms = until;
        }
        next.terms -= terms;
        __asm__("" : "+r"(terms), "+m"(next)); /* the loop is the same whether lines were asked for or not */
        for (; terms > 0; terms--)
            TERM
    } while (next.terms > 0);
#endif
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

/* Tiles of whole strips ask ahead, and those of one vector, which multiply A faster than it comes (8192x2048 by 2048x16: a sixth less time);
 * others gain nothing. Tiles are functions of their own: a compiler finds registers for all that such loops need, but not among the others'
 * (products of all steps take 2 to 3 % less for it: gcc 12, Zen 5), and its time grows faster than a function. */
typedef void NAME(tile_function)(int64_t from_row, int64_t to_row, const wg_panel *p, const ELEMENT *a, const ELEMENT *b, ELEMENT *c);
#define TILE(name, rows, vectors, partly, a_row, a_column)                                                                     \
    static __attribute__((noinline)) void NAME(name)(int64_t from_row, int64_t to_row, const wg_panel *p, const ELEMENT *a,    \
                                                     const ELEMENT *b, ELEMENT *c) {                                           \
        const bool ahead = rows > 2 && (vectors == 1 || vectors == ACROSS) && !partly;                                         \
        NAME(tile)(rows, vectors, partly, ahead, from_row, to_row, p->columns % (ACROSS * LANES), a_column, p, a_row, a, b, c); \
    }
#define TILES(name, vectors, partly)                                                                                           \
    TILE(name##_1, 1, vectors, partly, p->a_row, p->a_column)                                                                  \
    TILE(name##_2, 2, vectors, partly, p->a_row, p->a_column)                                                                  \
    TILE(name##_3, 3, vectors, partly, p->a_row, p->a_column)                                                                  \
    TILE(name##_4, 4, vectors, partly, p->a_row, p->a_column)                                                                  \
    TILE(name##_5, 5, vectors, partly, p->a_row, p->a_column)                                                                  \
    TILE(name##_6, 6, vectors, partly, p->a_row, p->a_column)                                                                  \
    static NAME(tile_function) *const NAME(name)[ROWS] = {NAME(name##_1), NAME(name##_2), NAME(name##_3),                      \
                                                          NAME(name##_4), NAME(name##_5), NAME(name##_6)};
/* Whole strips: what nearly all work is, with more tiles for an A adjacent along its rows, or down its columns, or in slivers. */
TILES(whole, ACROSS, false)
TILE(whole_adjacent, ROWS, ACROSS, false, p->a_row, 1)
TILE(whole_turned, ROWS, ACROSS, false, 1, p->a_column)
TILE(whole_sliver, ROWS, ACROSS, false, 1, ROWS)
#define SLIVERS(p) ((int)BLOCK < (int)WG_BLOCK_BYTES && (p)->slivers)
/* The last columns, fewer than a strip: whole vectors of them, or not. */
TILES(vectors_1, 1, false)
TILES(edge_1, 1, true)
TILES(edge_2, 2, true)
#if VECTOR == 64
TILES(vectors_2, 2, false)
TILES(vectors_3, 3, false)
TILES(edge_3, 3, true)
TILES(edge_4, 4, true)
static NAME(tile_function) *const *const NAME(vectors)[] = {NAME(vectors_1), NAME(vectors_2), NAME(vectors_3)};
static NAME(tile_function) *const *const NAME(edge)[] = {NAME(edge_1), NAME(edge_2), NAME(edge_3), NAME(edge_4)};
#else
static NAME(tile_function) *const *const NAME(vectors)[] = {NAME(vectors_1)};
static NAME(tile_function) *const *const NAME(edge)[] = {NAME(edge_1), NAME(edge_2)};
#endif
#undef TILES
#undef TILE

/* How many of so many rows have been asked for before row i of C: a multiple of ABREAST, where there are as many in all. */
static inline int64_t NAME(asked_until)(int64_t asked, int64_t i, int64_t m) {
    const int64_t share = asked * i / m, all = (share + ABREAST - 1) / ABREAST * ABREAST;
    return asked < ABREAST ? share : all < asked ? all : asked;
}

/* All rows of a strip, by the tiles `of` so many rows; they share what they ask for. Of slivers, six at a time. */
static void NAME(strip)(NAME(tile_function) *const *of, NAME(tile_function) *six, const wg_panel *p, int64_t asked, const ELEMENT *a,
                        const ELEMENT *b, ELEMENT *c) {
    for (int64_t i = 0, rows, from_row = 0, to_row = 0; i < p->m; i += rows, from_row = to_row) {
        rows = SLIVERS(p) ? wg__min(ROWS, p->m - i) : NAME(next_rows)(p->m - i);
        if (asked)
            to_row = NAME(asked_until)(asked, i + rows, p->m);
        if (SLIVERS(p) && rows < ROWS) {
            wg_panel last = *p;
            last.a_column = rows;
            of[rows - 1](from_row, to_row, &last, a + i * p->k, b, c + i * p->c_row);
        } else
            (rows == ROWS ? six : of[rows - 1])(from_row, to_row, p, a + i * (SLIVERS(p) ? p->k : p->a_row), b, c + i * p->c_row);
    }
}

static void NAME(multiply)(const wg_panel *p, const void *from_a, const void *from_b, void *to) {
    const ELEMENT *a = from_a, *b = from_b;
    ELEMENT *c = to;
    NAME(tile_function) *six = SLIVERS(p)         ? NAME(whole_sliver)
                               : p->a_column == 1 ? NAME(whole_adjacent)
                               : p->a_row == 1    ? NAME(whole_turned)
                                                  : NAME(whole)[ROWS - 1];
    int64_t asked = p->soon.rows, left = p->columns; /* the first strip asks, where its tiles do */
    for (; left >= ACROSS * LANES; left -= ACROSS * LANES, b += ACROSS * LANES, c += ACROSS * LANES, asked = 0)
        NAME(strip)(NAME(whole), six, p, asked, a, b, c);
    if (left == 0)
        return;
    NAME(tile_function) *const *of = left % LANES ? NAME(edge)[left / LANES] : NAME(vectors)[left / LANES - 1];
    NAME(strip)(of, of[ROWS - 1], p, asked, a, b, c);
}

/* A piece of the only row by that of a block, or of two that are narrow and lie `apart`, from either end of it: in CHAINS parts, each with sums of
 * its own. Of a small k a part takes few lines, so that what was read last in the other direction is still in the cache. */
#define CHAINS (VECTOR == 64 ? 4 : 2)
#define OF_BLOCK ((int)(BLOCK / VECTOR)) /* vectors */
#define PART(i)                                                                                                                \
    {                                                                                                                          \
        const int64_t end = rows * ((i) + 1) / CHAINS;                                                                         \
        for (int64_t q = rows * (i) / CHAINS; q < end; q++) {                                                                  \
            NAME(vector) x = a[q] - (NAME(vector)){0};                                                                         \
            _Pragma("GCC unroll 4") for (int u = 0; u < vectors; u++)                                                          \
                sum[i][u] += x * *(const NAME(vector) *)(b + q * WIDTH + u / OF_BLOCK * apart + u % OF_BLOCK * LANES);         \
        }                                                                                                                      \
    }
#if VECTOR == 64
#define PARTS_UP {PART(0) PART(1) PART(2) PART(3)}
#define PARTS_DOWN {PART(3) PART(2) PART(1) PART(0)}
#else
#define PARTS_UP {PART(0) PART(1)}
#define PARTS_DOWN {PART(1) PART(0)}
#endif
static inline __attribute__((always_inline)) void NAME(piece)(bool turned, int vectors, int64_t apart, int64_t rows, const ELEMENT *a, const ELEMENT *b,
                                                              NAME(vector) *out) {
    enum { WIDTH = BLOCK / sizeof(ELEMENT) };
    NAME(vector) sum[CHAINS][4] = {0};
    if (turned)
        PARTS_DOWN
    else
        PARTS_UP
#pragma GCC unroll 4
    for (int u = 0; u < vectors; u++)
        out[u] = CHAINS == 2 ? sum[0][u] + sum[1][u] : (sum[0][u] + sum[1][u]) + (sum[CHAINS - 2][u] + sum[CHAINS - 1][u]);
}

/* A block, or two narrow ones, in so many pieces, one, two or four: in pairs, so that the sums of either direction are the same. */
static inline __attribute__((always_inline)) void NAME(lone_block)(bool turned, int vectors, int64_t k, bool add, const ELEMENT *row, const ELEMENT *packed,
                                                                   ELEMENT *to) {
    enum { WIDTH = BLOCK / sizeof(ELEMENT), MOST = OF_BLOCK < 4 ? 4 : OF_BLOCK, PIECE = 64 };
    const int64_t pieces = k < 2 * PIECE ? 1 : k < 4 * PIECE ? 2 : 4;
    NAME(loose) *c = (NAME(loose) *)to;
    NAME(vector) sum[MOST] = {0}, one[MOST] = {0}, two[MOST];
    for (int64_t n = 0; n < pieces; n++) {
        const int64_t piece = turned ? pieces - 1 - n : n, from = k * piece / pieces, rows = k * (piece + 1) / pieces - from;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v += 4)
            NAME(piece)(turned, vectors < 4 ? vectors : 4, k * WIDTH, rows, row + from, packed + from * WIDTH + v * LANES, two + v);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++) {
            if (n % 2 || pieces == 1)
                sum[v] += one[v] + two[v];
            one[v] = two[v];
        }
    }
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) {
        if (add)
            sum[v] += c[v];
        c[v] = sum[v];
    }
}

static inline __attribute__((always_inline)) void NAME(lone_way)(bool turned, int64_t k, int64_t blocks, bool add, const ELEMENT *row,
                                                                 const ELEMENT *packed, ELEMENT *to) {
    enum { WIDTH = BLOCK / sizeof(ELEMENT), TOGETHER = OF_BLOCK < 4 ? 4 / OF_BLOCK : 1 };
    const int64_t together = blocks / TOGETHER * TOGETHER;
    for (int64_t block = together; block < blocks && turned; block++)
        NAME(lone_block)(turned, OF_BLOCK, k, add, row, packed + block * k * WIDTH, to + block * WIDTH);
    for (int64_t m = 0; m < together; m += TOGETHER) {
        const int64_t block = turned ? together - TOGETHER - m : m;
        NAME(lone_block)(turned, TOGETHER * OF_BLOCK, k, add, row, packed + block * k * WIDTH, to + block * WIDTH);
    }
    for (int64_t block = together; block < blocks && !turned; block++)
        NAME(lone_block)(turned, OF_BLOCK, k, add, row, packed + block * k * WIDTH, to + block * WIDTH);
}

/* The only row by so many whole blocks, the last first if `turned`. */
static void NAME(lone)(int64_t k, int64_t blocks, bool add, bool turned, const void *row, const void *packed, void *to) {
    if (turned)
        NAME(lone_way)(true, k, blocks, add, row, packed, to);
    else
        NAME(lone_way)(false, k, blocks, add, row, packed, to);
}

#undef SLIVERS
#undef AT_ONCE
#undef RARELY
#undef PARTS_DOWN
#undef PARTS_UP
#undef PART
#undef OF_BLOCK
#undef CHAINS
#undef ABREAST
#undef ACROSS
#undef ROWS
#undef LANES
