/* program.h: the compiler's own form of a tape: what the chosen outputs need, copied, so that it outlives the tape. Passes
 * are functions from program to program; the plan is made from the last. Includes ops and core. */
#ifndef WG_PROGRAM_H
#define WG_PROGRAM_H

#include "ops.h"

/* One step of the program; what it computes is named by its index. Index 0 is none, inputs precede their readers. */
typedef struct wg_instruction {
    const wg_op *op;
    const wg_shape *shape; /* interned in the program */
    union {
        const void *attr; /* op->attr_size bytes */
        double value;     /* of a constant: every element */
    };
    union {
        uint32_t in[2]; /* if n <= 2 */
        uint32_t *more;
    };
    uint32_t n;
    uint32_t slot; /* of a leaf or store: 1 + index into tensors; else 0 */
    uint32_t dtype : 8, origin : 24; /* origin: index into origins */
    uint32_t step; /* index into steps; 0: of no unroll */
    uint32_t loop; /* 1 + index into loops; 0: in none */
    uint32_t region; /* in a loop: neighbours of one number, pointwise and of one shape and type, run block by block; 0: none */
} wg_instruction;

/* Instructions [from, to) run `times` times over, one iteration after the other: a value in a loop stands for one a
 * iteration. Loops do not nest. See loop.h for how values get in and out. */
typedef struct wg_loop {
    uint32_t from, to; /* both 0: nothing is left of it */
    uint32_t edges;    /* after layout: the first of its `stacked` and `last`; then through wg_value.edge */
    int64_t times;     /* 1 or more */
    /* decided by `schedule`: */
    int64_t rows;   /* the rows of every value, on which it runs in tiles of `tile`, all iterations of a tile together; 0: an
                       iteration runs whole, op by op */
    int64_t tile;
    int64_t strip;  /* rows of a tile that run through all that stands between two products before the next ones do; 0: no strips */
    bool shared;    /* in one tile, of whose every iteration each thread does a share: for few rows by large matrices */
    size_t scratch; /* bytes for what a tile keeps to itself */
} wg_loop;

/* Where a buffer lies. */
typedef enum wg_space {
    WG_NOWHERE,      /* not placed (yet), or an alias: its base says */
    WG_IN_TENSOR,    /* index: into tensors */
    WG_IN_CONSTANTS, /* offset: into the plan's constants */
    WG_IN_ARENA,     /* offset: into the workspace's arena */
    WG_IN_OUTPUT,    /* index: of the output, computed straight into its tensor; or, behind them all, of the bundle */
    WG_IN_STACK,     /* of a loop's value. index: the `stacked` instruction, in whose buffer each iteration has its place */
    WG_IN_TILE,      /* of a loop's value. offset: into the scratch of the loop's tile */
    WG_CARRIED       /* of a carry: where its operands are */
} wg_space;

/* How an instruction's result is stored: decided by `layout`, `inplace` and `place`, in this order. */
typedef struct wg_value {
    const int64_t *stride; /* in elements; NULL: dense */
    int64_t shift;         /* elements from the start of the base's buffer */
    uint32_t base;         /* whose buffer it lies in: its own index, or that of what it is a view of */
    uint32_t over;         /* of a base: the base whose buffer it takes over; 0: none */
    uint32_t last;         /* of a base: the last instruction that reads it; WG_AT_END for an output's */
    uint32_t space, index; /* of a base: where the buffer is */
    size_t offset;         /* of a base: bytes */
    int64_t step;          /* elements from where it lies in one iteration of its loop to where in the next */
    uint32_t edge;         /* of `stacked` and `last`: the next one of the loop; 0: none */
    bool task;             /* a kernel computes it */
    bool local;            /* read in its own region alone: it has no place */
    bool carried;          /* of a base: the next iteration reads it */
    bool in_strip;         /* in a tile: what a strip makes of it is read in that strip alone, so that it has a place for one */
    bool twice;            /* in a tile: two places, for even and odd iterations, since the next one still reads it when it is made again */
} wg_value;

#define WG_AT_END UINT32_MAX

typedef struct wg_program_step {
    uint32_t unroll;
    int64_t step;
} wg_program_step;

typedef struct wg_program {
    wg_memory *memory;
    wg_arena arena; /* attributes, long input lists, origins, strides, shapes */
    wg_instruction *list;
    int64_t count; /* index 0 included */
    uint32_t *outputs;
    int output_count;
    uint32_t *bundles; /* after `place`: buffers that are made of outputs, side by side */
    int bundle_count;
    wg_tensor **tensors; /* held; of leaves and stores, each once */
    int64_t tensor_count, tensor_room;
    const wg_shape **shapes;
    int64_t shape_count, shape_room;
    const char **origins; /* "lstm.cell:7"; the first is "" */
    int64_t origin_count, origin_room;
    wg_program_step *steps; /* the first stands for none */
    int64_t step_count, step_room;
    wg_loop *loops;
    int64_t loop_count, loop_room;
    wg_value *values;    /* by index; NULL before layout */
    int64_t value_room;
    bool placed;         /* `place` is done */
    size_t arena_bytes;  /* of the workspace, scratch included */
    size_t live_bytes;   /* the most bytes live across one instruction, outputs, leaves and constants not counted */
    size_t scratch_at;   /* where in the arena the kernels' scratch is */
    size_t constant_bytes;
    const char *after;   /* the last pass that ran, or "record" */
    bool parts;          /* products of f32 may be made in parts (gemm.h), if the machine makes such */
    int64_t far_bytes;   /* from how many bytes a stack leaves the caches before it is read; from the passes on */
    int threads;         /* that runs are thought to have, and the most that share a loop's rows; from the passes on */
} wg_program;

static inline uint32_t *wg__reads(wg_instruction *i) { return i->n <= 2 ? i->in : i->more; }
static inline const uint32_t *wg__reads_const(const wg_instruction *i) { return i->n <= 2 ? i->in : i->more; }
/* Whether operand k is what its reader reads of the iteration before: it may stand behind it. */
bool wg__reads_back(const wg_instruction *i, uint32_t k);
static inline size_t wg__instruction_bytes(const wg_instruction *i) {
    return (size_t)i->shape->count * wg_dtype_size((wg_dtype)i->dtype);
}

/* Whether it computes something at run time, in no loop (after layout). */
static inline bool wg__computes(const wg_program *p, int64_t id) { return p->values[id].task && !p->list[id].loop; }

/* Whether this lies in a bundle: behind the outputs' tensors those of bundles are numbered. */
static inline bool wg__in_bundle(const wg_program *p, const wg_value *v) {
    return v->space == WG_IN_OUTPUT && v->index >= (uint32_t)p->output_count;
}

/* Whether it has a buffer of its own in the workspace that lives across instructions: what computes, and the edges of loops. */
static inline bool wg__buffered(const wg_program *p, int64_t id) {
    return !p->list[id].loop && p->values[id].base == id && p->list[id].op->kind != WG_LEAF;
}

/* The first instruction that writes a buffer. */
uint32_t wg__written_from(const wg_program *p, uint32_t id);

/* The program of everything y needs. NULL on failure, the error set. */
wg_program *wg__program_new(wg_memory *memory, int n, const wg_var *y, wg_error *error);
void wg__program_free(wg_program *program);
/* The interned copy; NULL when out of memory. */
const wg_shape *wg__program_shape(wg_program *program, const wg_shape *shape);
wg_status wg__program_no_memory(const wg_program *program, wg_error *error);
/* How many bytes of scratch an instruction's kernel asks for; SIZE_MAX when out of memory. */
size_t wg__program_scratch(const wg_program *program, const wg_instruction *instruction);

/* ---- rewriting: a new list beside the old one ---- */
typedef struct wg_rewrite {
    wg_program *program;
    wg_instruction *list;
    int64_t count, room;
    uint32_t *to; /* the new index of every old one; 0: dropped, or not yet kept */
    uint32_t *carries; /* kept ones, whose second operands are renamed at the end */
    int64_t carry_count, carry_room;
    bool failed; /* noted by wg__make: out of memory */
} wg_rewrite;
bool wg__rewrite_begin(wg_rewrite *rewrite, wg_program *program);
uint32_t wg__rewrite_add(wg_rewrite *rewrite, const wg_instruction *instruction); /* 0 when out of memory */
uint32_t wg__rewrite_keep(wg_rewrite *rewrite, int64_t id); /* with its inputs renamed; 0 when out of memory */
void wg__rewrite_end(wg_rewrite *rewrite, bool done);       /* done: the new list takes the old one's place */

/* A new loop, without instructions yet: its number for wg_instruction.loop; 0 when out of memory. */
uint32_t wg__loop_new(wg_program *program, int64_t times);

/* After layout: whether a `stacked` may have the buffer of an outside array: the loop reads columns of its elements, in the stack's order,
 * and every place before it writes there; what is put side by side there and is columns of the array stands in its own place (inplace.c). */
bool wg__stacks_over(const wg_program *program, uint32_t stack, uint32_t array);
/* Whether a value is the columns from this one on of the elements of an array, in the order of a stack over it. */
bool wg__stands_there(const wg_program *program, uint32_t stack, uint32_t array, uint32_t value, int64_t column);

/* Drops what no output needs (prune.c). */
wg_status wg__prune(wg_program *program, wg_error *error);

/* The mask of wg_op.rows for an instruction (0 too when out of memory), and a bit of it. */
uint32_t wg__instruction_rows(const wg_program *program, const wg_instruction *instruction);
bool wg__is_cut(uint32_t mask, uint32_t operand);
/* The rows on which a loop can run in tiles, each of which needs nothing of another; 0: it cannot. Before layout: as far as can be told. */
int64_t wg__rows_of_loop(const wg_program *program, const wg_loop *loop);
/* One past what runs together from instruction `from` of a loop on: a strip's, a region, or one instruction. */
uint32_t wg__together(const wg_program *program, const wg_loop *loop, uint32_t from);
/* Bytes of a value's place in a tile of its loop (or, where an iteration runs whole, of all of it): whole lines, and more
 * than the value has, so that an empty one has a place too. */
size_t wg__tile_place(const wg_program *program, const wg_loop *loop, uint32_t id);
/* How the elements of one row of a value lie: 1 side by side, 0 all in one place, -1 in no such order. */
int wg__column_stride(const wg_program *program, uint32_t id);

/* ---- passes ---- */
#define PASS(name, needed, doc) wg_status wg__pass_##name(wg_program *program, wg_error *error);
#include "passes.def"
#undef PASS

typedef struct wg_pass {
    const char *name;
    bool needed; /* cannot be switched off */
    const char *doc;
    wg_status (*run)(wg_program *program, wg_error *error);
} wg_pass;
extern const wg_pass wg__passes[];
extern const int wg__pass_count;

/* The program after the pass `after` (NULL: the last; "record": before the first). */
wg_program *wg__compile(const wg_compile_options *options, const char *after, int n, const wg_var *y, wg_error *error);

/* Runs them on a recorded program; as above. */
wg_status wg__run_passes(wg_program *program, const wg_compile_options *options, const char *after, wg_error *error);

/* Checks a program against the ops' own rules, and what passes have decided about storage by following which value lies
 * where. WG_CONFLICT, WG_SHAPE and the like, with what is wrong, by index. */
wg_status wg__validate(const wg_program *program, wg_error *error);

/* The copy of a strided operand to dense memory that `layout` puts in. */
extern const wg_op wg__op_copy;

/* ---- an ordered set of (high, low) keys with a value, for placing and for checking placement: O(log n) ---- */
typedef struct wg_ordered_node {
    uint64_t high, low;
    uint64_t length;
    uint32_t child[2], priority, owner;
} wg_ordered_node;
typedef struct wg_ordered {
    wg_memory *memory;
    wg_ordered_node *node; /* 0 is none */
    int64_t count, room;
    uint32_t root, spare; /* spare: list of unused nodes, through child[0] */
    uint32_t seed;
} wg_ordered;
/* False when out of memory; the key must not be there yet. */
bool wg__ordered_insert(wg_ordered *set, uint64_t high, uint64_t low, uint64_t length, uint32_t owner);
void wg__ordered_remove(wg_ordered *set, uint64_t high, uint64_t low);
/* The first key at or after (high, low), and the last before it; NULL if there is none. Good until the next insert. */
const wg_ordered_node *wg__ordered_at_or_after(const wg_ordered *set, uint64_t high, uint64_t low);
const wg_ordered_node *wg__ordered_before(const wg_ordered *set, uint64_t high, uint64_t low);
void wg__ordered_free(wg_ordered *set);

#endif
