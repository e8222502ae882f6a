/* pack.c: a matrix from outside that a loop's products read in every iteration is packed before the loop, once a run; and two such
 * products that are only added to each other become one, that of a step's input and of its state, say. Changes the order of sums,
 * nothing else. Names matmul, whose products these are, and add. */
#include "added.h"
#include "loop.h"
#include "make.h"

#include "amx.h"
#include "gemm.h"

#include <stdio.h>
#include <string.h>

/* From how many rows of a loop, and which matrices, products are made in parts: of fewer rows, moving the matrix takes longest,
 * and in parts there is half as much again to move. */
enum { PARTS_ROWS = 16, PARTS_SIDE = 64 };

typedef struct pack_attr {
    int64_t k, n;
    int64_t transposed; /* the matrix is (n,k) */
    int64_t parts;      /* in parts, in runs where they serve: there is room for both forms */
} pack_attr;

/* Operands: the matrix, or pieces of it, rows after rows. */
enum { MOST_PIECES = 16 };

static wg_status pack_shape(wg_infer *q) {
    const pack_attr *a = q->attr;
    int64_t rows = 0;
    q->dtype = q->in_dtype[0];
    for (int i = 0; i < q->n; i++) {
        const wg_shape *x = q->in[i];
        if (x->rank != 2 || x->dim[1] != (a->transposed ? a->k : a->n) || q->in_dtype[i] != q->dtype || q->n > MOST_PIECES ||
            (a->transposed && i < q->n - 1 && x->dim[0] % wg__packed_width(q->dtype)) || (q->n > 1 && a->parts))
            return wg_infer_fail(q, WG_SHAPE, "%s as piece %d of %d", WG_SHAPE_TEXT(x), i + 1, q->n);
        rows += x->dim[0];
    }
    if (rows != (a->transposed ? a->n : a->k))
        return wg_infer_fail(q, WG_SHAPE, "%lld rows to be packed as (%lld,%lld)", (long long)rows, (long long)a->k, (long long)a->n);
    size_t bytes = wg__packed_bytes(q->dtype, a->k, a->n, a->parts);
    return wg__shape_set(&q->out, 1, (const int64_t[]){(int64_t)(bytes / wg_dtype_size(q->dtype))});
}

static wg_status pack_run(wg_call *call) {
    const pack_attr *a = call->attr;
    wg_piece piece[MOST_PIECES];
    for (int i = 0; i < call->n; i++) {
        const wg_array *x = &call->in[i];
        int64_t dense[WG_MAX_RANK];
        wg__dense_strides(x->shape, dense);
        const int64_t *stride = x->stride ? x->stride : dense;
        piece[i] = (wg_piece){{x->data, stride[a->transposed ? 1 : 0], stride[a->transposed ? 0 : 1]}, x->shape->dim[0]};
    }
    if (call->n == 1)
        wg__pack(call->team, call->out.dtype, a->k, a->n, &piece->b, a->parts && wg__parts_serve(call->team), call->out.data);
    else
        wg__pack_pieces(call->team, call->out.dtype, a->k, a->n, call->n, piece, a->transposed, call->out.data);
    return WG_OK;
}

static void pack_describe(const void *attr, char *text, size_t size) {
    const pack_attr *a = attr;
    snprintf(text, size, "k=%lld n=%lld%s%s", (long long)a->k, (long long)a->n, a->transposed ? " transpose" : "",
             a->parts ? " parts" : "");
}

static const wg_op pack = {.name = "pack", .arity = -1, .kind = WG_MOVE, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(pack_attr), .shape = pack_shape, .run = pack_run, .describe = pack_describe};

/* ---- A times what is packed, or the sum of two such products: operands are an A, what it is multiplied by, and so on ---- */

typedef struct product_attr {
    pack_attr term[WG_MOST_TERMS]; /* of one alone k is 0 in the second */
} product_attr;

static wg_status product_shape(wg_infer *q) {
    const product_attr *t = q->attr;
    q->dtype = q->in_dtype[0];
    if (q->n != (t->term[1].k ? 4 : 2))
        return wg_infer_fail(q, WG_ARGUMENT, "%d operands", q->n);
    for (int i = 0; i < q->n / 2; i++) {
        const pack_attr *a = &t->term[i];
        const wg_shape *x = q->in[2 * i], *packed = q->in[2 * i + 1];
        if (x->rank != 2 || x->dim[1] != a->k || x->dim[0] != q->in[0]->dim[0] || a->n != t->term[0].n || q->in_dtype[2 * i] != q->dtype)
            return wg_infer_fail(q, WG_SHAPE, "%s by a packed (%lld,%lld)", WG_SHAPE_TEXT(x), (long long)a->k, (long long)a->n);
        size_t bytes = wg__packed_bytes(q->dtype, a->k, a->n, a->parts);
        if (packed->rank != 1 || packed->dim[0] != (int64_t)(bytes / wg_dtype_size(q->dtype)))
            return wg_infer_fail(q, WG_SHAPE, "a (%lld,%lld) packed otherwise", (long long)a->k, (long long)a->n);
    }
    return wg__shape_set(&q->out, 2, (const int64_t[]){q->in[0]->dim[0], t->term[0].n});
}

void wg__packed_call_init(wg_packed_product *p, const wg_call *call, int term, bool alone) {
    const pack_attr *a = &((const product_attr *)call->attr)->term[term];
    const wg_array *x = &call->in[2 * term];
    wg__packed_product_init(p, call->team->isa, call->out.dtype, call->out.shape->dim[0], a->n, a->k,
                            x->stride ? x->stride[0] : a->k, call->out.stride ? call->out.stride[0] : a->n, term > 0,
                            a->parts && wg__parts_serve(call->team));
    if (alone)
        wg__packed_product_alone(p, call->team->isa);
}

typedef struct multiplying {
    const wg_packed_product *product;
    const wg_array *in;
    void *out;
} multiplying;

static void multiply_some(void *user, int64_t from, int64_t to) {
    const multiplying *m = user;
    wg__packed_multiply_blocks(m->product, m->in[0].data, m->in[1].data, m->out, from, to);
}

/* Of a loop that has no tiles: what threads share is columns. */
static wg_status product_run(wg_call *call) {
    for (int term = 0; term < call->n / 2 && call->out.shape->count > 0; term++) {
        const wg_array *in = &call->in[2 * term];
        wg_packed_product p;
        wg__packed_call_init(&p, call, term, call->out.shape->dim[0] == 1);
        if (call->team->threads > 1 && wg__gemm_work(&(wg_gemm){.m = p.m, .n = p.n, .k = p.k}) >= WG_GEMM_SHARE)
            wg__rows(call->team, p.blocks, 1, multiply_some, &(multiplying){&p, in, call->out.data});
        else
            wg__packed_multiply(&p, in[0].data, in[1].data, call->out.data, false);
    }
    return WG_OK;
}

static uint32_t product_rows(const wg_infer *q) { return q->n > 2 ? 1 | 4 : 1; }

static void product_describe(const void *attr, char *text, size_t size) {
    const product_attr *t = attr;
    pack_describe(&t->term[0], text, size);
    const size_t used = strlen(text);
    if (t->term[1].k && used + 3 < size)
        memcpy(text + used, " + ", 4), pack_describe(&t->term[1], text + used + 3, size - used - 3);
}

const wg_op wg__op_packed_product = {.name = "packed_product", .arity = -1, .kind = WG_PRODUCT, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(product_attr), .shape = product_shape, .run = product_run, .rows = product_rows, .describe = product_describe};

/* ---- the pass ---- */

typedef struct packer {
    wg_rewrite r;
    const wg_program *p;
    uint32_t *made[4];       /* by old id of a matrix: it packed as it is, and transposed; either in parts; 0: not yet */
    const int64_t **strides; /* by old id: those that it will have once views are strides; NULL: dense */
    wg_arena arena;          /* of strides */
    uint32_t *reads;
    uint8_t *mark;           /* by old id: what can be packed */
    wg_added added;          /* of those */
} packer;

static const int64_t repeated[WG_MAX_RANK]; /* a constant is one element */

/* Notes the strides of one value, whose operands' are known; false when out of memory. */
static bool find_strides(packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    int64_t in[WG_MAX_RANK], out[WG_MAX_RANK] = {0}, dense[WG_MAX_RANK], offset;
    if (i->op->kind == WG_EFFECT)
        m->strides[id] = m->strides[i->in[0]];
    if (i->op->kind == WG_LEAF && !i->slot)
        m->strides[id] = repeated;
    if (!i->op->view)
        return true;
    const wg_shape *from = m->p->list[i->in[0]].shape;
    wg__dense_strides(from, in);
    wg__dense_strides(i->shape, dense);
    if (!i->op->view(i->attr, from, m->strides[i->in[0]] ? m->strides[i->in[0]] : in, i->shape, out, &offset) ||
        memcmp(out, dense, sizeof *out * (size_t)i->shape->rank) == 0)
        return true; /* a copy, or dense */
    int64_t *kept = wg__arena_take(&m->arena, sizeof out);
    if (kept)
        memcpy(kept, out, sizeof out);
    m->strides[id] = kept;
    return kept;
}

/* Whether the columns of a matrix lie side by side. */
static bool has_dense_rows(const packer *m, uint32_t id) { return !m->strides[id] || m->strides[id][m->p->list[id].shape->rank - 1] == 1; }

static bool is_packable(const packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    if (i->op != &wg__op_matmul || !i->loop || i->shape->rank != 2 || ((const wg_matmul_attr *)i->attr)->a || i->shape->count == 0)
        return false;
    const wg_instruction *a = &m->p->list[i->in[0]];
    return a->shape->count > 0 && !m->p->list[i->in[1]].loop && has_dense_rows(m, i->in[0]) &&
           m->p->loops[i->loop - 1].times * i->shape->dim[0] >= WG_PACKED_ROWS;
}

static pack_attr attr_of(const packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    const int64_t rows = i->shape->dim[0], n = i->shape->dim[1], k = m->p->list[i->in[0]].shape->dim[1];
    return (pack_attr){k, n, ((const wg_matmul_attr *)i->attr)->b,
                       m->p->parts && i->dtype == WG_F32 && rows >= PARTS_ROWS && wg__min(k, n) >= PARTS_SIDE && wg__amx_runs()};
}

/* Whether a matrix that is put together of others need not be. */
static bool packs_pieces(const packer *m, const wg_instruction *matrix, const pack_attr *a) {
    if (matrix->op != &wg__op_concat || wg__axis(*(const int *)matrix->attr, 2) != 0 || matrix->n > MOST_PIECES || a->parts)
        return false;
    for (uint32_t k = 0; k + 1 < matrix->n && a->transposed; k++)
        if (m->p->list[wg__reads_const(matrix)[k]].shape->dim[0] % wg__packed_width((wg_dtype)matrix->dtype))
            return false;
    return true;
}

static uint32_t packed_of(packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id], *matrix = &m->p->list[i->in[1]];
    const pack_attr a = attr_of(m, id);
    uint32_t *made = &m->made[2 * a.parts + a.transposed][i->in[1]], in[MOST_PIECES] = {m->r.to[i->in[1]]}, count = 1;
    if (*made)
        return *made;
    if (packs_pieces(m, matrix, &a))
        for (count = 0; count < matrix->n; count++)
            in[count] = m->r.to[wg__reads_const(matrix)[count]];
    return *made = wg__make(&m->r, &pack, &a, count, in, 0, matrix->origin);
}

/* The sum of products, one or two (other: 0 or the second). */
static uint32_t product_of(packer *m, uint32_t id, uint32_t other) {
    const wg_instruction *i = &m->p->list[id];
    const uint32_t of[WG_MOST_TERMS] = {id, other};
    product_attr a = {0};
    uint32_t in[2 * WG_MOST_TERMS];
    for (int k = 0; k < (other ? 2 : 1); k++) {
        a.term[k] = attr_of(m, of[k]);
        in[2 * k] = m->r.to[m->p->list[of[k]].in[0]];
        in[2 * k + 1] = packed_of(m, of[k]);
    }
    return m->r.failed ? 0 : wg__make(&m->r, &wg__op_packed_product, &a, other ? 4 : 2, in, i->loop, i->origin);
}

/* A sum without the pair that it adds; 0 if nothing is left. */
static uint32_t rest_of(packer *m, uint32_t sum, uint32_t root) {
    const wg_instruction *s = &m->p->list[sum];
    uint32_t part[2];
    for (int k = 0; k < 2; k++) {
        const uint32_t in = s->in[k];
        const bool made = in == m->added.first[root] || in == m->added.partner[m->added.first[root]];
        part[k] = made ? 0 : m->added.within[in] == root ? rest_of(m, in, root) : m->r.to[in];
    }
    return part[0] && part[1] ? wg__make_add(&m->r, part[0], part[1], s->loop, s->origin) : part[0] ? part[0] : part[1];
}

/* A sum that adds a pair: the pair's product and the rest. */
static uint32_t sum_of(packer *m, uint32_t id) {
    const uint32_t first = m->added.first[id], made = m->r.to[wg__max(first, m->added.partner[first])], rest = rest_of(m, id, id);
    return rest ? wg__make_add(&m->r, made, rest, m->p->list[id].loop, m->p->list[id].origin) : made;
}

/* The second of a pair asks memory on its way: the longer. */
static int64_t terms_of(const packer *m, uint32_t id) { return attr_of(m, id).k; }

static bool remake(packer *m, uint32_t id) {
    const uint32_t partner = m->added.partner[id];
    if (m->added.within[id] || partner > id)
        return true; /* part of what is made later */
    if (m->added.first[id])
        m->r.to[id] = sum_of(m, id);
    else if (m->mark[id] && partner)
        m->r.to[id] = terms_of(m, id) < terms_of(m, partner) ? product_of(m, id, partner) : product_of(m, partner, id);
    else if (m->mark[id])
        m->r.to[id] = product_of(m, id, 0);
    else
        return wg__rewrite_keep(&m->r, id);
    return !m->r.failed;
}

static bool begin(packer *m, wg_program *p) {
    size_t n = (size_t)p->count;
    m->made[0] = wg__take0(p->memory, wg__size(n, 4 * sizeof *m->made[0], 0));
    m->strides = wg__take0(p->memory, wg__size(n, sizeof *m->strides, 0));
    m->mark = wg__take0(p->memory, n);
    m->reads = wg__count_reads(p);
    bool good = m->made[0] && m->strides && m->mark && m->reads;
    for (int k = 1; k < 4; k++)
        m->made[k] = good ? m->made[0] + (size_t)k * n : NULL;
    for (uint32_t id = 1; good && id < p->count; id++)
        good = find_strides(m, id);
    for (uint32_t id = 1; good && id < p->count; id++)
        m->mark[id] = !is_packable(m, id) ? 0 : p->list[p->list[id].in[0]].op == &wg__op_element ? WG_ADDED_ONE : WG_ADDED_ANY;
    return good && wg__added_find(&m->added, p, m->reads, m->mark) && wg__rewrite_begin(&m->r, p);
}

wg_status wg__pass_pack(wg_program *p, wg_error *error) {
    packer m = {.r.program = p, .p = p, .arena.memory = p->memory};
    bool good = begin(&m, p);
    for (uint32_t id = 1; good && id < p->count; id++) {
        const wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        for (uint32_t k = id; loop && loop->from == id && k < loop->to && !m.r.failed; k++)
            if (m.mark[k])
                packed_of(&m, k);
        good = !m.r.failed && remake(&m, id);
    }
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good);
    wg__added_free(&m.added, p);
    wg__give(p->memory, m.made[0]);
    wg__give(p->memory, m.strides);
    wg__give(p->memory, m.mark);
    wg__give(p->memory, m.reads);
    wg__arena_free(&m.arena);
    return status == WG_OK ? wg__prune(p, error) : status; /* what was put together for packing alone */
}
