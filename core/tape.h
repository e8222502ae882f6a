/* tape.h: the tape as the library's own parts see it: nodes, recording, origins, step marks. Core only; names no op
 * but the three kinds of node that core itself makes (leaf, constant, and what wg_apply records). */
#ifndef WG_TAPE_H
#define WG_TAPE_H

#include "core.h"

#include <stddef.h>
#include <string.h>

/* One entry of the Wengert list: 40 bytes, never moved. */
typedef struct wg_node {
    const wg_op *op;
    const wg_shape *shape; /* interned: equal shapes on one tape are one pointer */
    union {
        const void *attr;  /* op->attr_size bytes in the tape's arena */
        wg_tensor *tensor; /* of a leaf or store: held */
        double value;      /* of a constant: every element */
    };
    union {
        uint32_t in[2];       /* ids, if n <= 2 */
        const uint32_t *more; /* in the arena, if n > 2 */
    };
    uint32_t n;
    uint32_t dtype : 8, origin : 24; /* origin: where it was recorded, see wg__origin_set */
} wg_node;

/* The two ops that core knows. */
extern const wg_op wg__op_leaf, wg__op_constant;

/* Chunk k holds 1024 << k nodes: an id finds its chunk by its highest bit, and nothing ever moves. The last is never there: a
 * tape ends before it. */
enum { WG_CHUNKS = 21, WG_FIRST_CHUNK_BITS = 10, WG_FIRST_CHUNK = 1 << WG_FIRST_CHUNK_BITS };

typedef struct wg_origin {
    const char *place; /* "lstm.cell:7", in the lasting arena */
} wg_origin;

/* A step boundary of an unroll: the node with this id is the first of step `step` of unroll `unroll`; or, if step is
 * WG_NO_STEP, the first that is in no step again. Steps of derivatives are ~step. */
typedef struct wg_step_mark {
    uint32_t id;
    uint32_t unroll;
    int64_t step;
} wg_step_mark;

#define WG_NO_STEP INT64_MAX

typedef struct wg_constant_slot {
    const wg_shape *shape; /* NULL: empty */
    uint64_t bits;         /* of the value */
    uint32_t id;
    uint32_t dtype;
} wg_constant_slot;

/* What an op's rule made of operands: see wg_apply. */
typedef struct wg_memo {
    const wg_op *op; /* NULL: empty */
    const wg_shape *first, *last, *shape;
    const char *attr;
    uint32_t types; /* of the operands, 8 bits each */
    uint32_t dtype; /* of the result */
    int64_t id;     /* of the node, whose attributes these are */
} wg_memo;

enum { WG_CONSTANT_SLOTS = 256, WG_MEMO_SLOTS = 256 };

struct wg_tape {
    wg_memory *memory;
    int64_t count; /* nodes, the never used node 0 included */
    wg_status status;
    uint32_t origin;
    uintptr_t base[WG_CHUNKS]; /* of each chunk: where node 0 would be if nodes lay from there to the chunk; 0: not there yet */
    wg_node *chunk[WG_CHUNKS];
    wg_arena arena;   /* attributes and long input lists: rewound with the nodes */
    wg_arena lasting; /* shapes and origins: kept as long as the tape */
    const wg_shape **shapes; /* open-addressed table of interned shapes */
    int64_t shape_count, shape_room;
    const wg_shape *scalar;
    uint32_t *leaves; /* ids of the nodes that hold a tensor, ascending */
    int64_t leaf_count, leaf_room;
    wg_step_mark *steps;
    int64_t step_count, step_room;
    wg_lookup places; /* of origins: each place is kept once */
    wg_origin *origins;
    int64_t origin_count, origin_room;
    uint64_t streams; /* random streams handed out */
    uint32_t unrolls; /* unrolls recorded */
    void *spare; /* a block of spare_bytes that wg__borrow may hand out again */
    size_t spare_bytes;
    wg_constant_slot constants[WG_CONSTANT_SLOTS]; /* last constants made, so that they are recorded once */
    wg_memo memo[WG_MEMO_SLOTS]; /* what wg_apply recorded lately */
    char message[1024];
};

static inline uint64_t wg__chunk_of(int64_t id) {
    return (uint64_t)(__builtin_clzll((uint64_t)id + WG_FIRST_CHUNK) ^ 63) - WG_FIRST_CHUNK_BITS; /* 63 - x, in one instruction */
}

static inline wg_node *wg__node(const wg_tape *tape, int64_t id) {
    return (wg_node *)(tape->base[wg__chunk_of(id)] + (uint64_t)id * sizeof(wg_node));
}

static inline const uint32_t *wg__inputs(const wg_node *node) {
    return node->n <= 2 ? node->in : node->more;
}

static inline wg_var wg__var(wg_tape *tape, int64_t id) {
    return (wg_var){tape, {.id = id}};
}

static inline wg_node *wg__of(wg_var x) { return wg__node(x.tape, x.as.id); }

/* A bare constant made by wg_c: its tape is the address of this mark, which no tape has. */
extern const char wg__bare_mark;
static inline bool wg__is_bare(wg_var x) { return x.tape == (const void *)&wg__bare_mark; }

/* The id of a node of this tape. */
static inline bool wg__is_id(const wg_tape *tape, int64_t id) { return (uint64_t)id - 1 < (uint64_t)tape->count - 1; }

/* A node of its tape, on which can be recorded: nothing has failed. */
static inline bool wg__recordable(wg_var x) {
    return x.tape && !wg__is_bare(x) && x.tape->status == WG_OK && wg__is_id(x.tape, x.as.id);
}

/* A node of its tape: neither invalid nor a bare constant. */
static inline bool wg__on_tape(wg_var x) {
    return x.tape && !wg__is_bare(x) && wg__is_id(x.tape, x.as.id);
}

/* An invalid var of this tape; first sets the tape's status and message: "NAME: text (place)". Keeps the first. */
wg_var wg__fail(wg_tape *tape, wg_status status, const char *name, const char *format, ...)
    WG_PRINTF(4, 5);

/* The tape of the first operand that has one, or NULL. */
wg_tape *wg__tape_of(int n, const wg_var *in);

/* Records without any inference: the caller vouches for the operands, shape and dtype. */
wg_var wg__record(wg_tape *tape, const wg_op *op, wg_dtype dtype, const wg_shape *shape, int n,
                  const wg_var *in, const void *attr);

/* How many nodes ahead a sweep asks for memory: a processor's own foresight ends with each page. */
enum { WG_AHEAD = 32 };

/* Whether the next node's chunk is there already; if not, wg__record makes it. */
static inline bool wg__has_room(const wg_tape *tape) { return tape->base[wg__chunk_of(tape->count)] != 0; }

/* Where there is room, records an op without attributes and with one or two operands: the way most nodes come. */
static inline __attribute__((always_inline)) wg_var wg__fill(wg_tape *tape, const wg_op *op, wg_dtype dtype,
                                                             const wg_shape *shape, int n, uint32_t a, uint32_t b) {
    wg_node *next = wg__node(tape, tape->count);
    __builtin_prefetch(next + WG_AHEAD, 1);
    next->op = op;
    next->shape = shape;
    next->attr = NULL;
    next->in[0] = a;
    next->in[1] = n > 1 ? b : 0;
    next->n = (uint32_t)n;
    next->dtype = (uint32_t)dtype;
    next->origin = tape->origin;
    return (wg_var){tape, {.id = tape->count++}};
}

/* The same, with a chunk made for it if need be. */
static inline wg_var wg__record_small(wg_tape *tape, const wg_op *op, wg_dtype dtype, const wg_shape *shape, int n, wg_var a,
                                      wg_var b) {
    return wg__has_room(tape) ? wg__fill(tape, op, dtype, shape, n, (uint32_t)a.as.id, (uint32_t)b.as.id)
                              : wg__record(tape, op, dtype, shape, n, (const wg_var[]){a, b}, NULL);
}

/* Makes a node (the newest) hold a tensor until the tape goes or is rewound past it; on failure the node is dropped and
 * the tape's status set. */
bool wg__hold(wg_var node, wg_tensor *tensor);

/* Interned copy; NULL when out of memory (status set). */
const wg_shape *wg__intern(wg_tape *tape, const wg_shape *shape);
const wg_shape *wg__intern_dims(wg_tape *tape, int rank, const int64_t *dim); /* of these sizes */

/* A shape as an attribute. */
typedef struct wg_dims {
    int rank;
    int unused; /* attributes are compared byte by byte: no padding */
    int64_t dim[WG_MAX_RANK];
} wg_dims;

/* What is kept with an interned shape: its hash, which follows from its sizes, and itself as an attribute. */
typedef struct wg_kept_shape {
    uint64_t hash;
    wg_dims dims;
    wg_shape shape;
} wg_kept_shape;
static inline const wg_kept_shape *wg__kept(const wg_shape *interned) {
    return (const wg_kept_shape *)((const char *)interned - offsetof(wg_kept_shape, shape));
}
static inline uint64_t wg__shape_hash(const wg_shape *interned) { return wg__kept(interned)->hash; }

/* Records an op with one operand whose attribute is the (interned) shape of its result, without any inference. */
static inline wg_var wg__record_to(const wg_op *op, wg_var x, const wg_shape *shape) {
    wg_var y = wg__record_small(x.tape, op, (wg_dtype)wg__of(x)->dtype, shape, 1, x, x);
    if (y.as.id)
        wg__of(y)->attr = &wg__kept(shape)->dims;
    return y;
}

#define WG_HASH_PRIME 0x9e3779b97f4a7c15u /* mixes into the upper bits */

/* The slot where a constant of this type, (interned) shape and value is, if it was recorded lately. Of no address: one program
 * records the same nodes every time. */
static inline wg_constant_slot *wg__constant_slot(wg_tape *tape, wg_dtype dtype, const wg_shape *shape, uint64_t bits) {
    return &tape->constants[((bits ^ wg__shape_hash(shape) ^ dtype) * WG_HASH_PRIME) >> 56];
}

/* The id of the constant, or 0 if it must be recorded. */
static inline uint32_t wg__constant_known(wg_tape *tape, wg_dtype dtype, const wg_shape *shape, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const wg_constant_slot *slot = wg__constant_slot(tape, dtype, shape, bits);
    return slot->shape == shape && slot->bits == bits && slot->dtype == (uint32_t)dtype ? slot->id : 0;
}

/* The constant; recorded once and reused. */
wg_var wg__constant_new(wg_tape *tape, wg_dtype dtype, const wg_shape *shape, double value);
static inline wg_var wg__constant(wg_tape *tape, wg_dtype dtype, const wg_shape *shape, double value) {
    uint32_t id = wg__constant_known(tape, dtype, shape, value);
    return id ? wg__var(tape, id) : wg__constant_new(tape, dtype, shape, value);
}

/* The number of a place ("lstm.cell:7"); 0, nowhere, when out of memory or beyond 2^24 - 1 places. */
uint32_t wg__origin_new(wg_tape *tape, const char *place);
/* Where nodes recorded from now on come from. Returns what it was. */
uint32_t wg__origin_set(wg_tape *tape, uint32_t origin);
const char *wg__origin_place(const wg_tape *tape, uint32_t origin); /* "" if nowhere */

/* A number of its own for a random node. */
uint64_t wg__stream(wg_tape *tape);

/* Zeroed memory for a sweep over the tape, NULL when refused; *bytes becomes what there is room for. Returned, it is kept for the
 * next sweep: first touches of new pages can cost as much as the sweep. */
void *wg__borrow(wg_tape *tape, size_t *bytes);
void wg__return(wg_tape *tape, void *block, size_t bytes); /* takes NULL */

/* Marks the next node as the first of a step; or (WG_NO_STEP) as in none. */
wg_status wg__step_mark(wg_tape *tape, uint32_t unroll, int64_t step);

/* The result's shape and type for these inputs, by the op's own rule (pointwise: all alike). */
wg_status wg__infer(wg_infer *infer);

#endif
