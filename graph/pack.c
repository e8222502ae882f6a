/* pack.c: a matrix from outside that a loop's products read in every iteration is packed before the loop, once a run. Names
 * matmul, whose products these are. */
#include "loop.h"
#include "make.h"

#include "gemm.h"

#include <stdio.h>
#include <string.h>

/* Rows times iterations from which packing gains. */
enum { FEW_ROWS = 24 };

typedef struct pack_attr {
    int64_t k, n;
    int64_t transposed; /* the matrix is (n,k) */
} pack_attr;

static wg_status pack_shape(wg_infer *q) {
    const pack_attr *a = q->attr;
    q->dtype = q->in_dtype[0];
    size_t bytes = wg__packed_bytes(q->dtype, a->k, a->n);
    return wg__shape_set(&q->out, 1, (const int64_t[]){(int64_t)(bytes / wg_dtype_size(q->dtype))});
}

static wg_status pack_run(wg_call *call) {
    const pack_attr *a = call->attr;
    const wg_array *x = &call->in[0];
    int64_t dense[WG_MAX_RANK];
    wg__dense_strides(x->shape, dense);
    const int64_t *stride = x->stride ? x->stride : dense;
    wg_matrix b = {x->data, stride[a->transposed ? 1 : 0], stride[a->transposed ? 0 : 1]};
    wg__pack(call->team, call->out.dtype, a->k, a->n, &b, call->out.data);
    return WG_OK;
}

static void pack_describe(const void *attr, char *text, size_t size) {
    const pack_attr *a = attr;
    snprintf(text, size, "k=%lld n=%lld%s", (long long)a->k, (long long)a->n, a->transposed ? " transpose" : "");
}

static const wg_op pack = {.name = "pack", .arity = 1, .kind = WG_MOVE, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(pack_attr), .shape = pack_shape, .run = pack_run, .describe = pack_describe};

/* ---- A times what is packed ---- */

static wg_status product_shape(wg_infer *q) {
    const pack_attr *a = q->attr;
    if (q->in[0]->rank != 2 || q->in[0]->dim[1] != a->k)
        return wg_infer_fail(q, WG_SHAPE, "%s by a packed (%lld,%lld)", WG_SHAPE_TEXT(q->in[0]), (long long)a->k, (long long)a->n);
    q->dtype = q->in_dtype[0];
    return wg__shape_set(&q->out, 2, (const int64_t[]){q->in[0]->dim[0], a->n});
}

void wg__packed_call_init(wg_packed_product *p, const wg_call *call) {
    const pack_attr *a = call->attr;
    const wg_array *x = &call->in[0];
    wg__packed_product_init(p, call->team->isa, call->out.dtype, call->out.shape->dim[0], a->n, a->k,
                            x->stride ? x->stride[0] : a->k, call->out.stride ? call->out.stride[0] : a->n, false);
}

static wg_status product_run(wg_call *call) {
    wg_packed_product p;
    if (call->out.shape->count == 0)
        return WG_OK;
    wg__packed_call_init(&p, call);
    wg__packed_multiply(&p, call->in[0].data, call->in[1].data, call->out.data, false);
    return WG_OK;
}

static uint32_t product_rows(const wg_infer *q) { (void)q; return 1; }

const wg_op wg__op_packed_product = {.name = "packed_product", .arity = 2, .kind = WG_PRODUCT, .traits = WG_TAKES_STRIDES,
    .attr_size = sizeof(pack_attr), .shape = product_shape, .run = product_run, .rows = product_rows, .describe = pack_describe};

/* ---- the pass ---- */

typedef struct packed {
    uint32_t matrix, made; /* old id; new one */
    bool transposed;
} packed;

typedef struct packer {
    wg_rewrite r;
    const wg_program *p;
    packed *list;
    int64_t count, room;
} packer;

/* The strides that a value will have once views are strides; false if it is a constant, which repeats one element. */
static bool strides_of(const wg_program *p, uint32_t id, int64_t *stride) {
    const wg_instruction *i = &p->list[id];
    int64_t in[WG_MAX_RANK], offset;
    if (i->op->kind == WG_EFFECT)
        return strides_of(p, i->in[0], stride);
    wg__dense_strides(i->shape, stride);
    if (!i->op->view)
        return i->op->kind != WG_LEAF || i->slot;
    if (!strides_of(p, i->in[0], in))
        return false;
    if (!i->op->view(i->attr, p->list[i->in[0]].shape, in, i->shape, stride, &offset))
        wg__dense_strides(i->shape, stride); /* a copy */
    return true;
}

/* Whether the columns of a value lie side by side. */
static bool has_dense_rows(const wg_program *p, uint32_t id) {
    int64_t stride[WG_MAX_RANK];
    return strides_of(p, id, stride) && stride[p->list[id].shape->rank - 1] == 1;
}

static bool is_packable(const packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    if (i->op != &wg__op_matmul || !i->loop || i->shape->rank != 2 || ((const wg_matmul_attr *)i->attr)->a || i->shape->count == 0)
        return false;
    const wg_instruction *a = &m->p->list[i->in[0]];
    return a->shape->count > 0 && !m->p->list[i->in[1]].loop && has_dense_rows(m->p, i->in[0]) &&
           m->p->loops[i->loop - 1].times * i->shape->dim[0] >= FEW_ROWS;
}

static pack_attr attr_of(const packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    return (pack_attr){m->p->list[i->in[0]].shape->dim[1], i->shape->dim[1], ((const wg_matmul_attr *)i->attr)->b};
}

static uint32_t packed_of(packer *m, uint32_t id) {
    const wg_instruction *i = &m->p->list[id];
    pack_attr a = attr_of(m, id);
    for (int64_t k = 0; k < m->count; k++)
        if (m->list[k].matrix == i->in[1] && m->list[k].transposed == a.transposed)
            return m->list[k].made;
    if (!wg__room(m->p->memory, (void **)&m->list, m->count, &m->room, sizeof *m->list))
        return !(m->r.failed = true);
    uint32_t made = wg__make(&m->r, &pack, &a, 1, &m->r.to[i->in[1]], 0, m->p->list[i->in[1]].origin);
    m->list[m->count++] = (packed){i->in[1], made, a.transposed};
    return made;
}

wg_status wg__pass_pack(wg_program *p, wg_error *error) {
    packer m = {.r.program = p, .p = p};
    bool good = wg__rewrite_begin(&m.r, p);
    for (uint32_t id = 1; good && !m.r.failed && id < p->count; id++) {
        const wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        for (uint32_t k = id; loop && loop->from == id && k < loop->to && !m.r.failed; k++)
            if (is_packable(&m, k))
                packed_of(&m, k);
        if (m.r.failed)
            break;
        if (is_packable(&m, id)) {
            pack_attr a = attr_of(&m, id);
            const uint32_t in[2] = {m.r.to[p->list[id].in[0]], packed_of(&m, id)};
            m.r.to[id] = wg__make(&m.r, &wg__op_packed_product, &a, 2, in, p->list[id].loop, p->list[id].origin);
        } else {
            good = wg__rewrite_keep(&m.r, id);
        }
    }
    good = good && !m.r.failed;
    wg_status status = good ? WG_OK : wg__program_no_memory(p, error);
    wg__rewrite_end(&m.r, good);
    wg__give(p->memory, m.list);
    return status;
}
