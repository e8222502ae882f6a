/* run_loop.c: runs the loops of a plan: all iterations of a tile of rows on one thread, on the addresses of its slots; or of few rows
 * each iteration on all. */
#include "loop_plan.h"

#include "gemm.h"
#include "loop.h"
#include "pointwise.h"

#include <stdatomic.h>
#include <string.h>
#include <wchar.h>

/* From where a second thread gains: elements that a region's instructions handle together, multiply-adds of a product. */
enum { REGION_SHARE = 1 << 15, PRODUCT_SHARE = 1 << 16 };

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* How many iterations a lane has made of all its rows; a line of its own. */
typedef union progress {
    _Atomic int64_t made;
    char line[WG_LINE_BYTES];
} progress;

/* What a region calls: on the addresses of n operands, which that of its result follows. */
typedef struct step {
    wg__map *run;
    uint16_t n, ahead;
} step;

/* A lane's memory: its progress, the tile's scratch, the kernels', addresses of slots (twice), a kernel's arrays, the regions' blocks, addresses and
 * steps, the products, for tiles of both sizes, and the seconds of each kernel. */
size_t wg__loop_lane_bytes(const wg_loop_plan *l) {
    return sizeof(progress) + lines(l->loop->scratch) + lines(l->scratch) + 2 * lines((size_t)l->slot_count * sizeof(char *)) +
           lines(l->most_operands * sizeof(wg_array)) + (size_t)l->blocks * WG_BLOCK_STEP +
           lines((size_t)l->reference_count * sizeof(char *)) + lines((size_t)l->step_count * sizeof(step)) +
           lines(2 * l->products * sizeof(wg_packed_product)) + lines((size_t)l->kernel_count * sizeof(double));
}

typedef struct lane {
    wg_loop_run *run;
    wg_team team; /* of its kernels: this thread alone, but where it is the only lane */
    char *tile, *scratch;
    char **at, **start; /* of every slot that is needed: in this iteration; in the first, of row 0 */
    wg_array *arrays;
    char *blocks; /* and, behind them, the addresses of all references of regions */
    step *steps;
    wg_packed_product *products;
    double *spent; /* by kernel; NULL: nobody asks */
    double begun;
    char text[512];
} lane;

static inline char *block_at(char *blocks, uint32_t block) { return blocks + (size_t)block * WG_BLOCK_STEP; }
static inline char **addresses(const wg_loop_plan *l, char *blocks) { return (char **)block_at(blocks, l->blocks); }

static void note_blocks(const wg_loop_plan *l, char *blocks) {
    char **at = addresses(l, blocks);
    for (int64_t k = 0; k < l->reference_count; k++)
        at[k] = l->references[k].in_block ? block_at(blocks, l->references[k].block) : NULL;
}

static step step_of(const wg_loop_step *s, int type, wg_isa isa) {
    wg__map *map = s->pair.kind == WG__PAIR_SUM ? wg__map_of_sum(s->op, s->n, type, wg__isa_within(isa))
                   : s->pair.kind               ? wg__pair_map(&s->pair, type, isa)
                                                : wg__map_of(s->op, type, isa);
    return (step){map, s->n, s->ahead};
}

static progress *progress_of(const wg_loop_run *r, int number) { return (progress *)(void *)(r->scratch + (size_t)number * r->lane_bytes); }

static lane lane_of(wg_loop_run *r, int number, wg_team team) {
    const wg_loop_plan *l = r->plan;
    char *at = (char *)(progress_of(r, number) + 1);
    size_t slots = lines((size_t)l->slot_count * sizeof(char *));
    lane n = {.run = r, .team = team, .tile = at};
    n.scratch = at += lines(l->loop->scratch);
    n.at = memset(at += lines(l->scratch), 0, slots);
    n.start = (void *)(at += slots);
    n.arrays = (void *)(at += slots);
    n.blocks = at += lines(l->most_operands * sizeof(wg_array));
    n.steps = (void *)(at += (size_t)l->blocks * WG_BLOCK_STEP + lines((size_t)l->reference_count * sizeof(char *)));
    n.products = (void *)(at += lines((size_t)l->step_count * sizeof(step)));
    if (r->workspace->profile) {
        n.spent = (void *)(at + lines(2 * l->products * sizeof(wg_packed_product)));
        memset(n.spent, 0, (size_t)l->kernel_count * sizeof *n.spent);
    }
    for (int64_t g = 0; g < l->region_count; g++)
        for (uint32_t s = l->regions[g].first; s < l->regions[g].first + l->regions[g].count; s++)
            n.steps[s] = step_of(&l->steps[s], (int)l->regions[g].dtype - WG_F32, team.isa);
    for (int k = 0; k < r->shares; k++)
        note_blocks(l, n.blocks + (size_t)k * r->lane_bytes);
    return n;
}

static void find_starts(lane *n) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t s = 0; s < l->slot_count; s++) {
        const wg_loop_slot *t = &l->slots[s];
        if (t->kind == WG_SLOT_OUTSIDE)
            n->start[s] = (char *)wg__address(n->run->workspace, t->value) + t->shift;
        else if (t->kind == WG_SLOT_TILE)
            n->start[s] = n->tile + t->shift;
    }
}

/* The addresses of what a region refers to in the first block of the first of its rows. */
static inline void find_row(const lane *n, const wg_loop_region *g, int64_t row, char **at) {
    for (const wg_loop_moving *m = n->run->plan->movings + g->first_moving, *end = m + g->movings; m < end; m++)
        at[m->reference] = n->at[m->slot] + row * m->row;
}

/* The addresses of the first iteration, for a tile that begins with this row. */
static void first_iteration(lane *n, int64_t row) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t s = 0; s < l->slot_count; s++) {
        const wg_loop_slot *t = &l->slots[s];
        if (t->kind == WG_SLOT_CARRIED)
            n->at[s] = n->at[t->first] + t->shift;
        else if (t->kind == WG_SLOT_ENDING)
            n->at[s] = n->at[t->when == 0 ? t->first : t->next] + t->shift;
        else
            n->at[s] = n->start[s] + (t->kind == WG_SLOT_OUTSIDE ? row * t->row : 0);
    }
    for (const wg_loop_region *g = l->regions, *end = g + l->region_count; g < end; g++)
        if (g->once)
            find_row(n, g, 0, addresses(l, n->blocks));
}

static inline void next_iteration(lane *n, int64_t t) {
    const wg_loop_plan *l = n->run->plan;
    const uint32_t *s = l->moved, *end = s + l->moved_until[WG_MOVE_STEP], *twice = s + l->moved_until[WG_MOVE_TWICE],
                   *carried = s + l->moved_until[WG_MOVE_CARRIED], *ending = s + l->moved_until[WG_MOVE_ENDING];
    char **at = n->at, **before = n->start; /* what carried slots become: they have no start */
    for (const uint32_t *c = twice; c < carried; c++)
        before[*c] = at[l->slots[*c].next] + l->slots[*c].shift;
    for (; s < end; s++)
        at[*s] += l->slots[*s].step;
    for (; s < twice; s++)
        at[*s] = n->start[*s] + (t & 1) * l->slots[*s].twice;
    for (; s < carried; s++)
        at[*s] = before[*s];
    for (; s < ending; s++) { /* after those that they choose from */
        const wg_loop_slot *o = &l->slots[*s];
        at[*s] = at[t == o->when ? o->first : o->next] + o->shift;
    }
    char **to = addresses(l, n->blocks);
    const wg_loop_kept *k = l->kept, *stepping = k + l->kept_stepping, *last = k + l->kept_count;
    for (; k < stepping; k++)
        to[k->reference] += k->step;
    for (; k < last; k++)
        to[k->reference] = at[k->slot];
}

/* Where a row of a slot lies; of one that has a place for a strip alone, for the strip that begins at `strip`. */
static char *row_at(const lane *n, uint32_t slot, int64_t row, int64_t strip) {
    const wg_loop_slot *s = &n->run->plan->slots[slot];
    return n->at[slot] + (row - (s->in_strip ? strip : 0)) * s->row;
}

/* The array from the first of a cut's rows on. */
static wg_array array_of(const lane *n, const wg_loop_operand *o, uint32_t id, wg_cut cut, int64_t first) {
    const wg_program *p = n->run->plan->program;
    return (wg_array){row_at(n, o->slot, first, first), o->shape[cut], p->values[id].stride, (wg_dtype)p->list[id].dtype};
}

/* One element, repeated. */
static void spread(char *to, const char *from, size_t size, int64_t count) {
    if (size == sizeof(wchar_t)) {
        wchar_t x;
        memcpy(&x, from, sizeof x);
        wmemset((wchar_t *)to, x, (size_t)count);
    } else {
        uint64_t x;
        memcpy(&x, from, sizeof x);
        for (int64_t i = 0; i < count; i++)
            ((uint64_t *)to)[i] = x;
    }
}

/* The blocks of operands that are one element of the row; of those that are the same for all rows before the first. */
static void spread_row(const lane *n, char *blocks, const wg_loop_region *g, int64_t row, int64_t first, size_t size) {
    const wg_loop_plan *l = n->run->plan;
    for (const wg_loop_repeated *r = l->spreads + g->first_spread, *end = r + g->spreads; r < end; r++)
        if (row == first || l->slots[r->slot].row)
            spread(block_at(blocks, r->block), row_at(n, r->slot, row, first), size, wg__min(WG_REGION_BLOCK, g->columns));
}

/* Asks memory for what a step will read and write next, so many bytes: in the next block, else `rows` further on and after so many bytes
 * back, in this iteration or the next. */
static inline void ask_ahead(const step *s, const wg_loop_reference *r, char *const *at, bool more, int64_t rows, int64_t back, int64_t bytes,
                             bool later) {
    for (unsigned left = s->ahead; left; left &= left - 1) {
        const int k = __builtin_ctz(left);
        const char *next = more ? at[k] + bytes : at[k] - back + rows * r[k].row + (later ? r[k].step : 0);
        for (int64_t line = 0; line < bytes; line += WG_LINE_BYTES)
            k == s->n ? __builtin_prefetch(next + line, 1) : __builtin_prefetch(next + line, 0, 2);
    }
}

static inline void next_row(const lane *n, const wg_loop_region *g, char **at) {
    for (const wg_loop_moving *m = n->run->plan->movings + g->first_moving, *end = m + g->movings; m < end; m++)
        at[m->reference] += m->next_row;
}

static inline void next_block(const lane *n, const wg_loop_region *g, int64_t bytes, char **at) {
    for (const wg_loop_moving *m = n->run->plan->movings + g->first_moving, *end = m + g->movings; m < end; m++)
        at[m->reference] += bytes;
}

/* Of sums of rows in groups: a group's place, to whose first row what was brought is added, and to the others what they have come to. */
static void find_sums(const lane *n, const wg_loop_region *g, int64_t row, char **at) {
    const wg_loop_plan *l = n->run->plan;
    for (uint32_t k = g->first_sum; k < g->first_sum + g->sums; k++) {
        const wg_loop_step *s = &l->steps[l->sums[k]];
        const uint32_t in = s->refers + s->sum - 1u, out = s->refers + s->n;
        const wg_loop_reference *from = &l->references[in], *to = &l->references[out];
        at[out] = n->at[to->slot] + (row >> WG_FOLD_SHIFT) * to->row;
        at[in] = row % WG_FOLD_ROWS ? at[out] : n->at[from->slot] + (row >> WG_FOLD_SHIFT) * from->row;
    }
}

/* The steps of a region on so many elements of what is at these addresses. The rest is ask_ahead's. */
static inline void run_steps(const lane *n, const wg_loop_region *g, char *const *in, int64_t count, bool more, int64_t rows, int64_t back,
                             bool later) {
    const wg_loop_reference *r = n->run->plan->references + g->refers;
    for (const step *s = n->steps + g->first, *past = s + g->count; s < past; in += s->n + 1, r += s->n + 1, s++) {
        if (s->ahead)
            ask_ahead(s, r, in, more, rows, back, count * (int64_t)wg_dtype_size(g->dtype), later);
        s->run(count, (const void *const *)in, in[s->n]);
    }
}

/* Of one row in one block, whose addresses are kept. */
static inline void run_once(const lane *n, const wg_loop_region *g) {
    if (g->spreads)
        spread_row(n, n->blocks, g, 0, 0, wg_dtype_size(g->dtype));
    run_steps(n, g, addresses(n->run->plan, n->blocks) + g->refers, g->columns, false, 1, 0, true);
}

/* Rows [first, end), of those that begin at `from` and end at `to`, in these blocks. */
static void run_region(const lane *n, char *blocks, const wg_loop_region *g, int64_t first, int64_t end, int64_t from, int64_t to) {
    const wg_loop_plan *l = n->run->plan;
    char **const at = addresses(l, blocks);
    const int64_t size = (int64_t)wg_dtype_size(g->dtype), walk = g->flat ? end - first : 1, columns = walk * g->columns;
    find_row(n, g, first, at);
    for (int64_t row = first; row < end; row += walk) {
        const bool last = row + walk == to;
        if (row > first)
            next_row(n, g, at);
        if (g->spreads)
            spread_row(n, blocks, g, row, first, (size_t)size);
        if (g->sums)
            find_sums(n, g, row, at);
        for (int64_t column = 0; column < columns; column += WG_REGION_BLOCK) {
            const int64_t count = wg__min(WG_REGION_BLOCK, columns - column);
            if (column)
                next_block(n, g, WG_REGION_BLOCK * size, at);
            run_steps(n, g, at + g->refers, count, column + count < columns, last ? from - row : walk, column * size, last);
        }
    }
}

/* ---- an iteration shared: of few rows, each thread makes some columns of a product, and of much pointwise work some rows. No bit
 * depends on how many: a column's sums and a row's elements are made alike wherever the cut is ---- */

typedef struct shared_product {
    const wg_packed_product *product;
    const void *a, *b;
    void *c;
} shared_product;

static void multiply_share(void *user, int64_t from, int64_t to) {
    const shared_product *s = user;
    wg__packed_multiply_blocks(s->product, s->a, s->b, s->c, from, to);
}

static void multiply(const lane *n, const wg_packed_product *product, const void *a, const void *b, void *c, bool turned, const wg_soon *soon,
                     int64_t count) {
    const wg_loop_run *r = n->run;
    if (r->shares > 1 && product->m * product->n * product->k >= PRODUCT_SHARE)
        wg__rows(&n->team, product->blocks, (product->blocks + r->shares - 1) / r->shares, multiply_share,
                 &(shared_product){product, a, b, c});
    else
        wg__packed_multiply_asking(product, a, b, c, turned, soon, count);
}

typedef struct shared_region {
    const lane *lane;
    const wg_loop_region *region;
    int64_t each; /* rows of a share */
} shared_region;

/* In blocks of the share's own. */
static void region_share(void *user, int64_t from, int64_t to) {
    const shared_region *s = user;
    run_region(s->lane, s->lane->blocks + (size_t)(from / s->each) * s->lane->run->lane_bytes, s->region, from, to, from, to);
}

/* Rows [first, end) of so many. */
static void pointwise(const lane *n, const wg_loop_region *g, int64_t first, int64_t end, int64_t rows) {
    const wg_loop_run *r = n->run;
    const int64_t each = (rows + r->shares - 1) / r->shares;
    if (r->shares > 1 && rows > 1 && rows * g->columns * g->instructions >= REGION_SHARE)
        wg__rows(&n->team, rows, each, region_share, &(shared_region){n, g, each});
    else
        run_region(n, n->blocks, g, first, end, 0, rows);
}

/* ---- iterations ---- */

/* Rows of a tile, for whose kernels there are shapes. */
typedef struct part {
    int64_t first, end, rows; /* rows: of the tile */
    int64_t before;           /* those of the loop before the tile */
    wg_cut cut;
} part;

/* In iteration t. */
static wg_status run_kernel(lane *n, const wg_loop_kernel *k, int64_t t, const part *p) {
    const wg_loop_plan *l = n->run->plan;
    if (k->region) {
        const wg_loop_region *g = &l->regions[k->region - 1];
        if (g->once)
            run_once(n, g);
        else
            pointwise(n, g, p->first, p->end, p->rows);
        return WG_OK;
    }
    const wg_instruction *i = &l->program->list[k->id];
    if (k->product && l->loop->rows) {
        const wg_packed_product *product = &n->products[k->product - 1 + (uint32_t)p->cut];
        const wg_loop_operand *o = &l->operands[k->in], *end = o + k->n;
        wg_soon soon[WG_MOST_ASKS];
        for (; o < end; o += 2, product += 2) {
            const int64_t count = o + 2 == end ? wg__loop_asks(l, k, n->at, t, p->rows, soon) : 0;
            multiply(n, product, n->at[o[0].slot], n->at[o[1].slot], n->at[l->operands[k->out].slot], t % 2, soon, count);
        }
        return WG_OK;
    }
    for (uint32_t a = 0; a < k->n; a++)
        n->arrays[a] = array_of(n, &l->operands[k->in + a], wg__reads_const(i)[a], p->cut, p->first);
    wg_call call = {.op = i->op, .attr = i->attr, .n = (int)k->n, .in = n->arrays,
                    .out = array_of(n, &l->operands[k->out], k->id, p->cut, p->first), .scratch = n->scratch, .team = &n->team,
                    .text = n->text, .text_size = sizeof n->text};
    call.before = p->before + p->first;
    if (k->beside_id)
        call.beside = array_of(n, &l->operands[k->beside], k->beside_id, p->cut, p->first);
    return wg__kernel(i->op)(&call);
}

static void prepare_product(lane *n, const wg_loop_kernel *of, wg_cut cut) {
    const wg_loop_plan *l = n->run->plan;
    const wg_instruction *i = &l->program->list[of->id];
    wg_packed_product *product = &n->products[of->product - 1 + (uint32_t)cut];
    for (uint32_t a = 0; a < of->n; a += 2)
        n->arrays[a] = array_of(n, &l->operands[of->in + a], wg__reads_const(i)[a], cut, 0);
    wg_call call = {.op = i->op, .attr = i->attr, .in = n->arrays, .out = array_of(n, &l->operands[of->out], of->id, cut, 0), .team = &n->team};
    for (int term = 0; term < (int)of->n / 2; term++) {
        wg__packed_call_init(&product[2 * term], &call, term, l->loop->rows == 1);
        if (of->asks && term == (int)of->n / 2 - 1)
            wg__packed_product_let_ask(&product[2 * term]);
    }
}

/* The products as a tile's kernels will want them. */
static void prepare_products(lane *n) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t k = 0; k < l->kernel_count && l->loop->rows; k++)
        for (wg_cut cut = WG_CUT_TILE; l->kernels[k].product && cut <= WG_CUT_LAST; cut++)
            prepare_product(n, &l->kernels[k], cut);
}

/* Of several tiles the first is told, whatever lanes they are in: those before it all succeed. Of one tile, the last that is noted. */
static void note_failure(const lane *n, int64_t row, wg_status status, uint32_t id) {
    wg_loop_run *r = n->run;
    pthread_mutex_lock(&r->lock);
    if (r->status == WG_OK || row <= r->failed_row) {
        r->status = status;
        r->failed_row = row;
        r->failed = id;
        memcpy(r->text, n->text, sizeof r->text);
    }
    atomic_store(&r->is_vain, true);
    pthread_mutex_unlock(&r->lock);
}

/* The time since the last call is kernel k's, and what other threads had to do with it. */
static void note_time(lane *n, int64_t k) {
    wg_meter none = {0};
    n->spent[k] += wg__profile_worked(n->run->shares > 1 ? n->team.meter : &none, &n->begun);
}

static void tell_times(const lane *n) {
    const wg_loop_plan *l = n->run->plan;
    pthread_mutex_lock(&n->run->lock);
    for (int64_t k = 0; k < l->kernel_count; k++)
        wg__profile_add(n->run->workspace->profile, l->program, l->kernels[k].id, n->spent[k]);
    pthread_mutex_unlock(&n->run->lock);
}

/* Rows of which every group's sum stands for the first, and zeros for the others. */
static void unfold(char *to, const char *from, size_t bytes, int64_t rows) {
    for (int64_t row = 0; row < rows; row++, to += bytes) {
        if (row % WG_FOLD_ROWS)
            memset(to, 0, bytes);
        else
            memcpy(to, from + (size_t)(row >> WG_FOLD_SHIFT) * bytes, bytes);
    }
}

/* What is read after the loop, for the rows of this tile. */
static void take_results(const lane *n, int64_t rows) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t k = 0; k < l->result_count; k++) {
        const wg_loop_result *r = &l->results[k];
        size_t bytes = wg__instruction_bytes(&l->program->list[r->id]);
        if (r->folded) {
            unfold(n->at[r->to], n->at[r->slot], bytes / (size_t)l->loop->rows, rows);
            continue;
        }
        bytes = l->loop->rows ? bytes / (size_t)l->loop->rows * (size_t)rows : bytes;
        if (bytes)
            memcpy(n->at[r->to], n->at[r->slot], bytes);
    }
}

/* Kernels [from, to) in iteration t; returns the one that failed, or `to`. */
static inline int64_t run_kernels(lane *n, int64_t from, int64_t to, int64_t t, const part *p) {
    const wg_loop_plan *l = n->run->plan;
    for (int64_t k = from; k < to; k++) {
        wg_status status = run_kernel(n, &l->kernels[k], t, p);
        if (n->spent)
            note_time(n, k);
        if (status != WG_OK) {
            note_failure(n, p->before, status, l->kernels[k].id);
            return k;
        }
    }
    return to;
}

/* The same, strip by strip; once a kernel has failed, those before it go on, so that of a tile's failures the same is told as without strips. */
static int64_t run_strips(lane *n, int64_t from, int64_t to, int64_t t, const part *p) {
    const int64_t strip = n->run->plan->loop->strip;
    const wg_cut end = p->cut == WG_CUT_LAST ? WG_CUT_LAST_END : WG_CUT_TILE_END;
    for (int64_t first = 0; first < p->rows; first += strip) {
        const int64_t past = wg__min(first + strip, p->rows);
        to = run_kernels(n, from, to, t, &(part){first, past, p->rows, p->before, past < p->rows ? WG_CUT_STRIP : end});
    }
    return to;
}

/* All iterations of one tile. made: where to say how many, or NULL. */
static bool run_tile(lane *n, int64_t row, int64_t rows, progress *made) {
    const wg_loop_plan *l = n->run->plan;
    const part whole = {0, rows, rows, row, l->loop->rows && rows < l->loop->tile ? WG_CUT_LAST : WG_CUT_TILE};
    bool good = true;
    first_iteration(n, row);
    for (int64_t t = 0; t < l->loop->times && good; t++) {
        if (t)
            next_iteration(n, t);
        if (n->spent)
            n->begun = wg__seconds();
        for (int64_t k = 0, until; k < l->kernel_count && good; k = until) {
            until = l->kernels[k].until;
            good = (until > k + 1 ? run_strips(n, k, until, t, &whole) : run_kernels(n, k, until, t, &whole)) == until;
        }
        if (made) {
            wg__bypass_fence();
            atomic_store_explicit(&made->made, t + 1, memory_order_release);
        }
    }
    if (good)
        take_results(n, rows);
    return good;
}

void wg__loop_lane(wg_loop_run *r, int64_t number) {
    const wg_loop *loop = r->plan->loop;
    const int64_t stride = r->lanes * loop->tile;
    progress *made = r->tells ? progress_of(r, (int)number) : NULL;
    wg_team own = r->workspace->team;
    if (loop->rows && r->shares == 1)
        own.threads = 1, own.pool = NULL;
    lane n = lane_of(r, (int)number, own);
    n.text[0] = 0;
    find_starts(&n);
    prepare_products(&n);
    if (!loop->rows)
        run_tile(&n, 0, 0, NULL);
    for (int64_t row = number * loop->tile; row < loop->rows; row += stride)
        if (!run_tile(&n, row, wg__min(loop->tile, loop->rows - row), row + stride < loop->rows ? NULL : made))
            break;
    if (n.spent)
        tell_times(&n);
    wg__bypass_fence(); /* wg__rows may not have called this */
    if (made)
        atomic_store_explicit(&made->made, loop->times, memory_order_release); /* also of a lane that failed: nobody waits for more */
}

static void run_lanes(void *user, int64_t from, int64_t to) {
    for (int64_t number = from; number < to; number++)
        wg__loop_lane(user, number);
}

bool wg__loop_runs_in_lanes(const wg_loop_plan *l) { return l->loop->rows && !l->loop->shared; }

int wg__loop_lanes(const wg_loop_plan *l, const wg_workspace *w, int most) {
    const wg_loop *loop = l->loop;
    const int64_t tiles = loop->rows ? (loop->rows + loop->tile - 1) / loop->tile : 1;
    return (int)wg__min(wg__min(most, w->team.threads), tiles);
}

void wg__loop_begin(wg_loop_run *r, const wg_loop_plan *l, wg_workspace *w, int lanes, char *scratch, size_t lane_bytes, bool tells) {
    lanes = (int)wg__min(lanes, w->team.threads);
    *r = (wg_loop_run){.plan = l, .workspace = w, .lanes = wg__loop_lanes(l, w, lanes), .shares = l->loop->shared && w->team.pool ? lanes : 1,
                       .scratch = scratch, .lane_bytes = lane_bytes, .tells = tells, .lock = PTHREAD_MUTEX_INITIALIZER};
    for (int k = 0; k < r->lanes; k++)
        atomic_store_explicit(&progress_of(r, k)->made, 0, memory_order_relaxed);
}

int64_t wg__loop_made(const wg_loop_run *r) {
    int64_t least = INT64_MAX;
    for (int k = 0; k < r->lanes; k++)
        least = wg__min(least, atomic_load_explicit(&progress_of(r, k)->made, memory_order_acquire));
    return least;
}

wg_status wg__loop_end(wg_loop_run *r, uint32_t *failed) {
    pthread_mutex_destroy(&r->lock);
    if (r->status != WG_OK) {
        *failed = r->failed;
        memcpy(r->workspace->text, r->text, sizeof r->workspace->text);
    }
    return r->status;
}

wg_status wg__loop_run(const wg_loop_plan *l, wg_workspace *w, int lanes, char *scratch, size_t lane_bytes, uint32_t *failed) {
    wg_loop_run r;
    wg__loop_begin(&r, l, w, lanes, scratch, lane_bytes, false);
    if (r.lanes <= 1)
        wg__loop_lane(&r, 0);
    else
        wg__rows(&w->team, r.lanes, 1, run_lanes, &r);
    return wg__loop_end(&r, failed);
}
