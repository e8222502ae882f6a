/* wengert.h: automatic differentiation on a tape (the Wengert list), made for recurrent networks.
 *
 * This header and wengert/notation.h are all a user includes. Record ops on a tape, differentiate with
 * wg_grad (the derivative is more tape), then run: op by op with wg_eval, or as a compiled plan.
 *
 * Conventions. A call that can fail returns a wg_status, or a var or pointer that is invalid or NULL on
 * failure; a tape keeps the first failure and its message. Calls that read text or files also take a
 * wg_error (may be NULL). Nothing here prints, aborts or exits. X_free takes NULL. */
#ifndef WENGERT_H
#define WENGERT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WG_API __attribute__((visibility("default")))
#define WG_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define WG_API
#define WG_PRINTF(f, a)
#endif

/* ---- status and messages -------------------------------------------------------------------- */

/* Every status, with its sentence. */
#define WG_STATUS_MAP(X)                                                                           \
    X(OK, "no error")                                                                              \
    X(MEMORY, "the system has no more memory to give")                                             \
    X(LIMIT, "the memory limit was reached")                                                       \
    X(SHAPE, "the shapes do not fit")                                                              \
    X(DTYPE, "the element types do not fit")                                                       \
    X(RANGE, "a value lies outside its range")                                                     \
    X(ARGUMENT, "an argument is invalid")                                                          \
    X(DERIVATIVE, "an op has no derivative")                                                       \
    X(NONFINITE, "a guarded value is NaN or infinite")                                             \
    X(CONFLICT, "two things claim the same name or place")                                         \
    X(NOT_FOUND, "something named is not there")                                                   \
    X(IO, "a file could not be read or written")                                                   \
    X(FORMAT, "the contents of a file are malformed")                                              \
    X(VERSION, "a file is of a version this library does not know")                                \
    X(SYNTAX, "a text does not follow its grammar")                                                \
    X(UNSUPPORTED, "this is not supported here")

typedef enum wg_status {
#define WG_STATUS_ENUM(name, sentence) WG_##name,
    WG_STATUS_MAP(WG_STATUS_ENUM)
#undef WG_STATUS_ENUM
} wg_status;

/* "WG_SHAPE" and the like; and the sentence above. Both are static strings, never NULL. */
WG_API const char *wg_status_name(wg_status status);
WG_API const char *wg_status_sentence(wg_status status);

/* A failure with its place, filled by calls that take one. The text is one line, always terminated. */
typedef struct wg_error {
    wg_status status;
    char text[1024];
} wg_error;

/* Sets *error (if not NULL) from a printf format and returns `status`. Keeps the first failure: an error
 * that already holds one is left alone. */
WG_API wg_status wg_error_set(wg_error *error, wg_status status, const char *format, ...)
    WG_PRINTF(3, 4);

/* ---- memory --------------------------------------------------------------------------------- */

/* Where memory comes from. `allocate` returns NULL when it cannot; `alignment` is a power of two. */
typedef struct wg_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *block, size_t bytes);
    void *user;
} wg_allocator;

/* A counted source of memory, with an optional limit. NULL stands for the C library without a limit wherever
 * a wg_memory is asked for. It must outlive everything made from it. Safe to share between threads. */
typedef struct wg_memory wg_memory;

/* allocator: NULL for the C library's. limit: bytes live at once, 0 for none. NULL when out of memory. */
WG_API wg_memory *wg_memory_new(const wg_allocator *allocator, size_t limit);
WG_API void wg_memory_free(wg_memory *memory);
WG_API size_t wg_memory_used(const wg_memory *memory);  /* bytes live now */
WG_API size_t wg_memory_peak(const wg_memory *memory);  /* the most bytes ever live at once */
WG_API size_t wg_memory_calls(const wg_memory *memory); /* allocations made so far */
/* The status of the last refusal: WG_MEMORY, or WG_LIMIT; WG_OK if none was refused. */
WG_API wg_status wg_memory_status(const wg_memory *memory);

/* ---- types and shapes ----------------------------------------------------------------------- */

typedef enum wg_dtype { WG_F32 = 1, WG_F64 = 2, WG_I32 = 3 } wg_dtype;

WG_API const char *wg_dtype_name(wg_dtype dtype); /* "f32", "f64", "i32" */
WG_API size_t wg_dtype_size(wg_dtype dtype);      /* bytes of one element */

#define WG_MAX_RANK 8

/* rank 0 is a scalar. count is the product of the sizes (1 for a scalar); sizes may be 0. */
typedef struct wg_shape {
    int rank;
    int64_t count;
    int64_t dim[WG_MAX_RANK];
} wg_shape;

/* Writes "(4,3)" into text, cut to `size` bytes; returns text. */
WG_API char *wg_shape_text(const wg_shape *shape, char *text, size_t size);

/* ---- tensors -------------------------------------------------------------------------------- */

/* A dense, row-major, reference-counted array outside any tape; data aligned to 64 bytes unless wrapped. */
typedef struct wg_tensor wg_tensor;

/* A tensor of zeros; NULL when out of memory, or when the type is none, a size is negative, there are more than WG_MAX_RANK
 * axes, or the count overflows. */
WG_API wg_tensor *wg_tensor_new(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim);
/* The same over the caller's memory, without a copy; NULL also when data is not aligned to the size of an element. `release` (may
 * be NULL) is called with (user, data) when the last reference goes. */
WG_API wg_tensor *wg_tensor_wrap(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim,
                                 void *data, void (*release)(void *user, void *data), void *user);
WG_API wg_tensor *wg_tensor_copy(wg_memory *memory, const wg_tensor *tensor);
WG_API wg_tensor *wg_tensor_retain(wg_tensor *tensor); /* one more reference; returns tensor */
WG_API void wg_tensor_free(wg_tensor *tensor);         /* one reference fewer */
WG_API wg_dtype wg_tensor_dtype(const wg_tensor *tensor);
WG_API const wg_shape *wg_tensor_shape(const wg_tensor *tensor);
WG_API size_t wg_tensor_bytes(const wg_tensor *tensor);
WG_API const void *wg_tensor_data(const wg_tensor *tensor);
/* The data, to change it: raises the version, so that whatever was derived from the contents (a packed weight)
 * is derived again. Call it before every round of writing. */
WG_API void *wg_tensor_write(wg_tensor *tensor);
WG_API uint64_t wg_tensor_version(const wg_tensor *tensor);
/* One element as a double, by flat index (0 if out of range); and set it (raises the version). An i32 takes what it can
 * hold: toward zero, saturating, NaN as 0. */
WG_API double wg_tensor_get(const wg_tensor *tensor, int64_t index);
WG_API void wg_tensor_set(wg_tensor *tensor, int64_t index, double value);
WG_API void wg_tensor_fill(wg_tensor *tensor, double value);

/* ---- random numbers ------------------------------------------------------------------------- */

/* Philox 4x32-10, a counter-based generator: out = f(counter, key). Source: Salmon et al. 2011. */
WG_API void wg_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A sequence of draws from one (seed, stream); `at` is the number of the next draw. */
typedef struct wg_random {
    uint64_t seed, stream, at;
} wg_random;
WG_API uint32_t wg_random_bits(wg_random *random);
WG_API double wg_random_uniform(wg_random *random);              /* in [0,1), 53 bits */
WG_API double wg_random_normal(wg_random *random);               /* mean 0, variance 1 */
WG_API uint64_t wg_random_below(wg_random *random, uint64_t n);  /* in [0,n), no bias; 0 if n is 0 */
/* A key for the ops that draw (wg_dropout, wg_bernoulli, …, wg_unroll_options.key), at step 0: i32 (4), the words seed low,
 * seed high, step low, step high. Give it to wg_leaf; store wg_random_next of that leaf back, and every run draws anew.
 * NULL when out of memory. */
WG_API wg_tensor *wg_key_new(wg_memory *memory, uint64_t seed);

/* ---- named tensors and files ---------------------------------------------------------------- */

/* An ordered set of named tensors with string metadata: a cell's or model's parameters, a batch of arrays, the
 * contents of a safetensors file. Names are unique, UTF-8, not empty. */
typedef struct wg_params wg_params;

WG_API wg_params *wg_params_new(wg_memory *memory);
WG_API void wg_params_free(wg_params *params);
WG_API int wg_params_count(const wg_params *params);
WG_API const char *wg_params_name(const wg_params *params, int i);
WG_API wg_tensor *wg_params_tensor(const wg_params *params, int i);         /* borrowed */
WG_API wg_tensor *wg_params_find(const wg_params *params, const char *name); /* borrowed, or NULL */
/* Adds a tensor under a name; takes one reference of its own. Fails: WG_CONFLICT (the name is taken), WG_ARGUMENT (no tensor,
 * a name that is empty or no UTF-8), WG_MEMORY, WG_LIMIT. */
WG_API wg_status wg_params_add(wg_params *params, const char *name, wg_tensor *tensor);
/* A fixed parameter is stored and read by name and not trained. */
WG_API void wg_params_set_fixed(wg_params *params, int i, bool fixed);
WG_API bool wg_params_fixed(const wg_params *params, int i);
/* Metadata: sets or replaces (fails: WG_ARGUMENT, not UTF-8; WG_MEMORY, WG_LIMIT); reads (NULL if absent); lists. */
WG_API wg_status wg_params_set_meta(wg_params *params, const char *key, const char *value);
WG_API const char *wg_params_meta(const wg_params *params, const char *key);
WG_API int wg_params_meta_count(const wg_params *params);
WG_API const char *wg_params_meta_key(const wg_params *params, int i);
/* Safetensors. Written to a temporary name in the same folder, synced, renamed. Reads F32 F64 I32 as they are, F16 and
 * BF16 as f32, I64 as i32 if every value fits. Tensors and metadata keep their order; fixed marks are not stored.
 * Fails: WG_IO, WG_FORMAT, WG_DTYPE (another type), WG_RANGE (an I64 that does not fit), WG_MEMORY, WG_LIMIT; saving,
 * WG_ARGUMENT if a tensor is called __metadata__. Source: the format's published specification. */
WG_API wg_status wg_params_save(const wg_params *params, const char *path, wg_error *error);
WG_API wg_params *wg_params_load(wg_memory *memory, const char *path, wg_error *error);
/* The same from bytes in memory; `name` stands for the file in messages. */
WG_API wg_params *wg_params_parse(wg_memory *memory, const void *bytes, size_t size, const char *name,
                                  wg_error *error);
/* NumPy's .npy, versions 1 to 3, C and Fortran order, either byte order: f4 f8 i4, f2 as f32, i8 as i32 if every value
 * fits. Written as version 1, in C order. Fails as above, and WG_VERSION. Source: NumPy's format description. */
WG_API wg_tensor *wg_npy_load(wg_memory *memory, const char *path, wg_error *error);
WG_API wg_tensor *wg_npy_parse(wg_memory *memory, const void *bytes, size_t size, const char *name,
                               wg_error *error);
WG_API wg_status wg_npy_save(const wg_tensor *tensor, const char *path, wg_error *error);

/* ---- the tape ------------------------------------------------------------------------------- */

typedef struct wg_tape wg_tape;
typedef struct wg_op wg_op;

/* Names one node of a tape; or, from wg_c, a bare constant that takes the other operand's type. A zeroed var is
 * invalid: an op given one fails with a message. */
typedef struct wg_var {
    wg_tape *tape;
    union {
        int64_t id;
        double value;
    } as;
} wg_var;

/* Holds up to 2^30 - 1025 nodes: more is WG_RANGE. NULL when out of memory. */
WG_API wg_tape *wg_tape_new(wg_memory *memory);
WG_API void wg_tape_free(wg_tape *tape);
/* The first failure since the tape was made or cleared, and its message ("" if none). */
WG_API wg_status wg_tape_status(const wg_tape *tape);
WG_API const char *wg_tape_message(const wg_tape *tape);
WG_API void wg_tape_clear(wg_tape *tape);
WG_API int64_t wg_tape_count(const wg_tape *tape); /* nodes recorded */
/* Define-by-run: everything recorded after the mark is dropped, and its vars with it. A mark may be used again and again, until
 * the tape is rewound to an earlier one. A failure stays (wg_tape_clear). Fails: WG_ARGUMENT (a mark of another tape). */
typedef struct wg_mark {
    const wg_tape *tape;
    int64_t nodes;
    size_t bytes;
    uint64_t streams;
} wg_mark;
WG_API wg_mark wg_tape_mark(const wg_tape *tape);
WG_API void wg_tape_rewind(wg_tape *tape, wg_mark mark);
/* Checks a whole tape: that inputs precede their readers, that every node's shape and type are what its op's own rule makes
 * of its inputs, that attributes and tensors are there. WG_OK, or what is wrong with the first bad node, by number. For
 * tests of ops of one's own, and after memory was damaged. */
WG_API wg_status wg_tape_validate(const wg_tape *tape, wg_error *error);

WG_API wg_var wg_c(double value);
/* A leaf reads the tensor's current contents at each run. The tape holds a reference. */
WG_API wg_var wg_leaf(wg_tape *tape, wg_tensor *tensor);
/* A constant array, every element `value`. */
WG_API wg_var wg_full(wg_tape *tape, wg_dtype dtype, int rank, const int64_t *dim, double value);
WG_API wg_var wg_like(wg_var x, double value); /* the same with x's type and shape */

WG_API bool wg_valid(wg_var x);
WG_API const wg_shape *wg_var_shape(wg_var x); /* of an invalid var or bare constant: NULL */
WG_API wg_dtype wg_var_dtype(wg_var x);
WG_API int64_t wg_dim(wg_var x, int axis); /* axis may count from the end: -1 is the last; 0 if none */
WG_API int wg_rank(wg_var x);

/* Records any op, built-in or the caller's own. attr: op->attr_size bytes, copied; NULL if there are none. */
WG_API wg_var wg_apply(const wg_op *op, int n, const wg_var *in, const void *attr);

/* ---- the op record -------------------------------------------------------------------------- */

/* What kind of computation an op is; passes read this and never a name. */
typedef enum wg_class {
    WG_LEAF,      /* reads a tensor or a constant */
    WG_POINTWISE, /* out[i] = f(in0[i], in1[i], …), all of one shape */
    WG_VIEW,      /* the same elements under other indices: an alias, nothing is computed */
    WG_MOVE,      /* copies elements to other places */
    WG_REDUCTION, /* reduces, scans or normalises along axes */
    WG_PRODUCT,   /* sums of products over a shared axis */
    WG_INDEX,     /* reads or writes places given by integers */
    WG_RANDOM,    /* draws; each node has a stream of its own and is never merged with another */
    WG_EFFECT,    /* store, guard */
    WG_CONTROL,   /* the edges of loops; made by passes only */
    WG_COMPOSITE  /* recorded as other ops; never a node itself */
} wg_class;

/* An array as a kernel sees it. stride: elements between neighbours along each axis; NULL when dense. */
typedef struct wg_array {
    void *data;
    const wg_shape *shape;
    const int64_t *stride;
    wg_dtype dtype;
} wg_array;

/* What a shape rule reads and fills. */
typedef struct wg_infer {
    const wg_op *op;
    const void *attr;
    int n;
    const wg_shape *const *in;
    const wg_dtype *in_dtype;
    wg_shape out;
    wg_dtype dtype;
    char *text; /* set by wg_infer_fail */
    size_t text_size;
} wg_infer;
/* Says why the shapes do not fit (without the op's name); returns status. */
WG_API wg_status wg_infer_fail(wg_infer *infer, wg_status status, const char *format, ...)
    WG_PRINTF(3, 4);

typedef struct wg_team wg_team; /* the threads of a run */

/* What a kernel gets. out is dense. Inputs are dense unless the op takes strides, or rows.
 * A run with several threads has them stand by in one OpenMP parallel region: in it kernels are called, so that omp_in_parallel()
 * is true and omp_get_num_threads() that of the run, though most kernels are called on one of its threads alone, and those in the
 * tiles of a loop on several at once, each on its own rows. With one thread, and by wg_eval, they are called outside of any region.
 * So a kernel must not take for granted that it can open a team of its own: a parallel region of its own has one thread, unless
 * nested ones are allowed. A thread that is woken on the processor of the one that called wg_run moves off it: its affinity is set to its
 * other processors, and again to what it was. */
typedef struct wg_call {
    const wg_op *op;
    const void *attr;
    int n;
    const wg_array *in;
    wg_array out;
    wg_array beside; /* the result of op->beside, if that is wanted too; data NULL: it is not */
    void *scratch; /* op->scratch bytes, aligned to 64, contents undefined */
    wg_team *team;
    int64_t before; /* these are some rows, along axis 0, of a whole: how many come before them. For messages */
    char *text; /* set by wg_call_fail */
    size_t text_size;
} wg_call;
WG_API wg_status wg_call_fail(wg_call *call, wg_status status, const char *format, ...)
    WG_PRINTF(3, 4);

/* What a derivative rule gets: y = op(in…), g its cotangent. need[i]: whether in[i]'s is wanted. */
typedef struct wg_rule {
    wg_tape *tape;
    const wg_op *op;
    const void *attr;
    int n;
    const wg_var *in;
    wg_var y;
    wg_var g;
    const bool *need;
} wg_rule;

/* An example the generated checks run. inputs: one word an input: "3,4" float, "i5:3" integers in [0,5), "" a
 * scalar is written "()". Values are drawn from [low, high]. */
typedef struct wg_example {
    const char *inputs;
    double low, high;
    wg_var (*call)(const wg_var *in);
} wg_example;

/* Traits. */
enum {
    WG_IS_LINEAR = 1,      /* linear in all float inputs together: jvp is the op itself on the tangents */
    WG_IS_MULTILINEAR = 2, /* linear in each float input alone: jvp is a sum over inputs */
    WG_IS_ZERO = 4,        /* piecewise constant: its derivative is zero */
    WG_TAKES_STRIDES = 8,  /* the kernel reads strided inputs */
    WG_IS_OPAQUE = 16,     /* its derivative cannot be differentiated again: an error that names it */
    WG_TAKES_I32 = 32,     /* pointwise: also stamped for i32 */
    WG_NO_MERGE = 64,      /* never merged with an equal node */
    WG_ADDS_TO_LAST = 128, /* the kernel adds to its last operand, in whose buffer the result may lie */
    WG_TAKES_ROWS = 256    /* the kernel reads inputs whose rows along the last axis are dense, each as far behind the one before */
};

/* The record that is an op. Fields not given are zero. */
struct wg_op {
    const char *name;
    int arity; /* number of inputs; -1 for any */
    wg_class kind;
    unsigned traits;
    size_t attr_size;
    /* Shape and type of the result from those of the inputs. NULL for pointwise ops. */
    wg_status (*shape)(wg_infer *infer);
    /* Computes out. NULL for composites, and for pointwise ops of up to 3 operands, which `map` is enough for. */
    wg_status (*run)(wg_call *call);
    /* Bytes of scratch the kernel needs; NULL for none. */
    size_t (*scratch)(const wg_infer *infer);
    /* Rows (indices of axis 0): which inputs are cut along with the result. Bit k of the mask is set if rows [a,b) of the
     * result need of input k its rows [a,b) alone; inputs without their bit are read whole. The kernel called on just those
     * rows (shapes with axis 0 shortened, scratch for them, attributes as they are) gives the bits it gives for the whole; of
     * products, which may add in an order that follows from the number of rows, the same to rounding. A failure may name a
     * place by its number in the cut. Views: the same of the alias. 0: rows depend on each other, no input has them, or the
     * result has no axis. NULL: of pointwise ops all inputs, of all others 0. Inputs beyond the 31st share bit 31. */
    uint32_t (*rows)(const wg_infer *infer); /* infer: op, attr, n, in, in_dtype, out, dtype, as for `scratch` */
    /* Views: fills the strides and the offset (in elements) of the alias from the input's strides. Returns false if
     * this input cannot be viewed so, and then `run` copies. */
    bool (*view)(const void *attr, const wg_shape *in, const int64_t *in_stride, const wg_shape *out,
                 int64_t *out_stride, int64_t *offset);
    /* Pointwise: n elements, dense, for f32, f64 and i32 (NULL if not for i32). out may be one of the inputs. */
    void (*map[3])(int64_t n, const void *const *in, void *out);
    /* Pointwise: d[i] = partial of y by in[i], as ops, where need[i]; wg_c(0), wg_c(1) and wg_c(-1) cost nothing. */
    void (*partial)(const wg_var *in, wg_var y, const bool *need, wg_var *d);
    /* Reverse mode: dx[i] = the contribution of g to in[i]'s adjoint, for every i with need[i]; a zeroed var is a zero. */
    void (*vjp)(const wg_rule *rule, wg_var *dx);
    /* Forward mode, where neither a trait nor `partial` gives it: from the tangents (zeroed: none). NULL: derived
     * from vjp by differentiating it in g. */
    wg_var (*jvp)(const wg_rule *rule, const wg_var *dx);
    /* Instead of vjp for in[0]: assembles its adjoint once from all the readers that are this op. */
    wg_var (*collect)(wg_var x, int n, const wg_rule *readers);
    /* Products: the op that adds this one's result to a further, last operand. Recorded by passes only. */
    const wg_op *accumulate;
    /* The op whose result, of the same operands and attributes, `run` makes too where call->beside asks for it, with the same bits;
     * NULL: none. */
    const wg_op *beside;
    /* Examples, ended by one whose call is NULL. Pointwise ops use `range` instead. */
    const wg_example *examples;
    double range[2];
    /* Writes the attributes as text ("axis=1 from=0 count=3"), cut to `size`. NULL: they are not shown. */
    void (*describe)(const void *attr, char *text, size_t size);
    const char *doc; /* NULL for a built-in op: then the text in ops.def */
};

/* The built-in ops, in the order of ops.def. doc: the formula, shapes, errors and source. */
typedef struct wg_op_entry {
    const char *name, *family, *arguments, *doc;
    const wg_op *op;
} wg_op_entry;
WG_API int wg_op_count(void);
WG_API const wg_op_entry *wg_op_list(void);
WG_API const wg_op_entry *wg_op_find(const char *name); /* NULL if there is none */

/* ---- the ops -------------------------------------------------------------------------------- */

/* Prototypes wg_NAME(…) of every built-in op, from the one list; each entry's text is its documentation. */
#define OP(family, name, arguments, doc) WG_API wg_var wg_##name arguments;
#include "wengert/ops.def"
#undef OP

/* ---- derivatives ------------------------------------------------------------------------------ */

/* out[i] = d y / d wrt[i], recorded on the same tape: reverse mode. y: one element, float. out[i]: wrt[i]'s type and
 * shape; zeros where y does not depend on it. Any order: differentiate the result again.
 * Fails: WG_SHAPE (y has not one element), WG_DERIVATIVE (an op on the way has none), WG_MEMORY. */
WG_API wg_status wg_grad(wg_var y, int n, const wg_var *wrt, wg_var *out);
/* The same for m outputs: out[i] = sum over j of cotangent[j]^T (d y[j] / d wrt[i]). cotangent[j]: y[j]'s type and
 * shape (a bare constant is filled to it). */
WG_API wg_status wg_vjp(int m, const wg_var *y, const wg_var *cotangent, int n, const wg_var *wrt, wg_var *out);
/* Forward mode: out[j] = sum over i of (d y[j] / d x[i]) tangent[i]. tangent[i]: x[i]'s type and shape. */
WG_API wg_status wg_jvp(int n, const wg_var *x, const wg_var *tangent, int m, const wg_var *y, wg_var *out);

/* ---- checking derivatives --------------------------------------------------------------------- */

/* Records a graph from x[0..n), vars of one tape, and returns its result (of any shape, float). Called several times: it
 * must record the same each time. */
typedef wg_var wg_check_graph(void *user, const wg_var *x);

/* One comparison. */
typedef struct wg_check_result {
    const char *name;    /* of the op; "graph" */
    const char *example; /* an op's inputs, as in wg_example; "c" is a bare constant */
    const char *kind;    /* "recording", "first order", "second order", "forward", "mixed modes", "f32", "i32", "strided" */
    double error;        /* the worst, relative to the largest element of its array (at least 1) */
    bool passed;
    const char *text; /* if it failed: where and what */
} wg_check_result;

/* A zeroed struct is the default. */
typedef struct wg_check_options {
    int order;        /* 1, or 2: also the derivatives of the gradient; 0 is 2 */
    double tolerance; /* of |rule - difference|, relative to the largest element of the array (at least 1); 0 is 1e-6 */
    uint64_t seed;    /* of the random cotangents and tangents */
    void (*report)(void *user, const wg_check_result *result); /* called for every comparison; may be NULL */
    void *user;
} wg_check_options;

/* Checks the derivatives of a graph, or of an op of one's own in it, at the point x (what PyTorch calls gradcheck and
 * gradgradcheck): with random u and v, J^T u against central differences of <u, y>, extrapolated, with their own error
 * estimated; <u, J v> by forward mode against <J^T u, v>; then the same of the gradient, in every mix of modes. x: copied; f32
 * is taken to f64; i32 is left alone. The cost is some ten evaluations for every element of x. error->text says which
 * derivative is wrong, at which element, and both numbers. options, memory and error may be NULL.
 * Fails: WG_DERIVATIVE (a check does not hold, or an op has no derivative), WG_MEMORY, WG_LIMIT; else as recording and running the
 * graph do. Source: Ridders 1982 (the differences). */
WG_API wg_status wg_check_grad(const wg_check_options *options, wg_memory *memory, wg_check_graph *graph, void *user,
                               int n, wg_tensor *const *x, wg_error *error);
/* The same of an op at the examples of its record, and at those with sizes made 0 and 1 (pointwise ops: on every pattern of
 * broadcasting, from their range); and f32, i32 and strided inputs against f64 and dense ones. Fails as above. */
WG_API wg_status wg_check_op(const wg_check_options *options, wg_memory *memory, const wg_op *op, wg_error *error);

/* ---- running ---------------------------------------------------------------------------------- */

/* The instruction sets that kernels of pointwise ops and products are compiled for, worst first. Results of two sets agree to rounding. */
typedef enum wg_isa {
    WG_ISA_AUTO,     /* the best that this machine runs */
    WG_ISA_BASELINE, /* what every processor of the family has */
    WG_ISA_AVX2,     /* with FMA */
    WG_ISA_AVX512,
    WG_ISA_AMX       /* with AVX-512: large products of f32 are made of bf16, three for a number: sums of many terms are more exact than
                        the others', of few at worst some 5 times 2^-24 off. Not where subnormals are kept: the unit does not read them */
} wg_isa;
/* Whether this machine and this build run it. WG_ISA_AMX: asks Linux to let this process use the unit's registers, for good, as does the
 * first product large enough that may use them, and compiling one: signal stacks (sigaltstack) must have room for them then, 8 KB more.
 * Where one has not, Linux refuses, and so does this from then on. A lower set never asks. */
WG_API bool wg_isa_runs(wg_isa isa);

/* How to run. A zeroed struct is the default. Threads need 1 MB of stack, the caller's too. */
typedef struct wg_run_options {
    int threads;          /* 0: as many as OpenMP would use */
    bool keep_subnormals; /* false: numbers below the normal range count as zero, here and in the workers: as operands and as results
                             of arithmetic. One that is only moved (sliced, put side by side, negated) on its way from a leaf to
                             an output may stay what it is, or be zero: plans and evaluation may differ in that */
    wg_isa isa;           /* the most that pointwise kernels, the exponentials of softmax and products use */
} wg_run_options;

/* Evaluates op by op, with no optimisation: for define-by-run, for debugging, and as the reference that compiled plans are
 * tested against. out[i] becomes a new tensor (free it) with y[i]'s value. Stores among y commit when all is computed.
 * error may be NULL. Fails as the ops do; then out is all NULL and nothing was stored. */
WG_API wg_status wg_eval(int n, const wg_var *y, wg_tensor **out, wg_error *error);
WG_API wg_status wg_eval_with(const wg_run_options *options, int n, const wg_var *y, wg_tensor **out,
                              wg_error *error);

/* Where a NaN or Inf came from. */
typedef struct wg_nonfinite {
    wg_var var;        /* the node that made it */
    const char *op;    /* its op's name */
    wg_tensor *tensor; /* of a leaf: borrowed; else NULL */
    const char *place; /* "lstm.cell:9", or "" */
    int64_t step;      /* of its unroll, from 1; 0: in none */
    bool adjoint;      /* in the derivative of that step */
    int64_t element;   /* by flat index: the first NaN, or else the first Inf */
    double value;
    char text[512];    /* "log made NaN at step 17 (lstm.cell:9), element (3,5)" */
} wg_nonfinite;

/* Finds what made y not finite: evaluates op by op (stores do nothing) and follows the NaN and Inf that reach y back to the first
 * op that made one out of finite operands; or to the leaf or constant that holds one. A NaN made from an infinite
 * leaf or constant counts as made by the op. WG_OK: every y is finite. WG_NONFINITE: *found (may be NULL) and error say where.
 * Fails: as wg_eval. */
WG_API wg_status wg_find_nonfinite(int n, const wg_var *y, wg_nonfinite *found, wg_error *error);

/* ---- optimisers --------------------------------------------------------------------------------- */

/* Update rules, recorded as ops: one training step, forward to update, is one plan. */
typedef enum wg_method {
    WG_SGD,     /* w - r g; with momentum mu: b = mu b + g, w - r b (Nesterov: w - r (g + mu b)) */
    WG_ADAM,    /* Kingma & Ba 2015; weight decay is added to the gradient */
    WG_ADAMW,   /* Loshchilov & Hutter 2019: w shrinks by r d before the step */
    WG_RMSPROP, /* Tieleman & Hinton 2012: s = a s + (1 - a) g^2, w - r g/(sqrt(s) + eps) */
    WG_ADAGRAD  /* Duchi et al. 2011: s = s + g^2, w - r g/(sqrt(s) + eps) */
} wg_method;

typedef enum wg_schedule {
    WG_CONSTANT, /* r */
    WG_STEP,     /* r factor^floor(k/every) at update k from 0 */
    WG_COSINE    /* from r to r_last over `every` updates along half a cosine, then r_last */
} wg_schedule;

/* Start from wg_optimiser_defaults: the constants PyTorch uses. */
typedef struct wg_optimiser_options {
    wg_method method;
    double rate; /* r, the learning rate */
    double momentum;
    bool nesterov;
    double beta1, beta2, epsilon;
    double decay;        /* RMSprop's a */
    double weight_decay; /* d */
    double clip_norm;    /* gradients scaled by min(1, c/(norm + 1e-6)), norm over all of them; 0: not */
    double clip_value;   /* each gradient element clamped to [-c, c]; 0: not */
    wg_schedule schedule;
    double warm_up; /* updates over which the rate rises linearly from r/warm_up; 0: none */
    double every, factor, rate_last;
} wg_optimiser_options;
WG_API wg_optimiser_options wg_optimiser_defaults(wg_method method);

/* An optimiser's state for a set of parameters: tensors that belong to a saved model. */
typedef struct wg_optimiser wg_optimiser;

/* params: those that are not fixed are trained. Holds references to the tensors. NULL on failure.
 * Fails: WG_ARGUMENT (no such method), WG_RANGE (a number that is negative or not finite, a beta or decay not below 1, a
 * schedule over no updates), WG_CONFLICT (two names of the state would be one), WG_MEMORY, WG_LIMIT. */
WG_API wg_optimiser *wg_optimiser_new(wg_memory *memory, const wg_optimiser_options *options, const wg_params *params,
                                      wg_error *error);
WG_API void wg_optimiser_free(wg_optimiser *optimiser);
/* "step" (f64, updates done) and per trained parameter NAME.m, NAME.v or the like: borrowed, to save and to restore. */
WG_API wg_params *wg_optimiser_state(wg_optimiser *optimiser);

/* One update, recorded. */
typedef struct wg_update {
    int n;
    wg_var *store; /* outputs that make the run an update; freed by wg_update_free */
    wg_var norm;   /* (), 2-norm of all gradients before clipping */
    wg_var rate;   /* (), f64: the learning rate of this update */
    wg_memory *memory; /* where store lies */
} wg_update;
/* weight[i], gradient[i]: the leaf and the gradient of params' i-th tensor (fixed ones are not read). The stores are guarded: if
 * loss or the gradients' norm is not finite, nothing changes and the run returns WG_NONFINITE. */
WG_API wg_status wg_optimiser_record(wg_optimiser *optimiser, wg_var loss, const wg_var *weight, const wg_var *gradient,
                                     wg_update *update);
WG_API void wg_update_free(wg_update *update);

/* ---- C functions as ops ------------------------------------------------------------------------- */

/* Functions of shared libraries as ops, called through libffi: the libraries that are open, and the ops made. It must outlive what
 * was recorded with its ops, and plans of that. Ops are used by any threads; binding more of them is for one thread at a time. */
typedef struct wg_foreign wg_foreign;

typedef struct wg_foreign_options {
    bool allow; /* texts may load libraries: `use` lines of cells, also of the cells in model files. wg_bind always may */
    void (*log)(void *user, const char *text); /* told of every function that is bound, in one line; may be NULL */
    void *user;
} wg_foreign_options;

/* options: NULL for the default. NULL when out of memory. */
WG_API wg_foreign *wg_foreign_new(wg_memory *memory, const wg_foreign_options *options);
WG_API void wg_foreign_free(wg_foreign *foreign);

/* What is to become an op. Zeroed but for what is wanted; prototype alone must be given.
 *
 * prototype: the function's, as C writes it: "double gsl_sf_bessel_J0(double)". Parameters without a name are x, y, z in their order.
 *   A function of up to three numbers that returns one is a pointwise op: f32 or f64 operands, converted to the C type and back;
 *   an integer parameter takes whole numbers. Any other is called once for each row of its operands: its result is the one
 *   array it may write to (a pointer to what is not const), or what it returns. An array's last axes are those in brackets, which tie
 *   sizes to names: "void f(long m, long n, const double a[m][n], const double x[n], double y[m])"; a pointer without brackets
 *   has the length of the one integer there is, or is a single number where there is none. All axes before are rows,
 *   which broadcast. An integer that is the size of an array is no operand; nor is a parameter with a value: "int incx = 1",
 *   "void *context = NULL"; nor a pointer that is `user`: "void *context: user". Arrays are of float, double and int, structs
 *   of these by value or behind pointers: a last axis. A function that writes an array and returns an integer says by
 *   another than 0 that it failed.
 * derivative: the partial derivatives by each float operand in order, separated by commas: expressions in the parameters' names, in
 *   the pointwise ops, and in functions bound here, itself and later ones among them: "cos(x)", "y*x**(y - 1), log(x)*x**y";
 *   or instead the prototype of a C function of the same parameters: "double cos(double)", whose own derivative is unknown. Of a
 *   function of arrays: of its elements one by one, where operand and result have one shape.
 * vjp: instead, the prototype of a vector-Jacobian product: it reads of the function's parameters those it names, the cotangent of
 *   the result as g and the result's name ("gy" of what is returned), the result itself by its name, and writes for each float
 *   operand x the cotangent gx: "void f_vjp(long n, const double *x, const double *gy, double *gx)". A pointer without brackets is
 *   one number there where what it stands for is one.
 *   (The result of a function that returns it is called y, or `result` where an operand is called y.) Forward mode, and a second
 *   derivative, there is none of that then.
 * Without either, differentiating is an error that names the op. A function must give the same for the same operands, and may be called
 * any number of times, at any time, on any thread; also for rows that padding makes of zeros (wg_unroll_options.lengths). An error names
 * a row or element by its number in the op's whole result, in a loop in that of its step; of several that fail a plan tells one of its
 * first tile of rows, whatever the number of threads of the run. */
typedef struct wg_binding {
    const char *prototype;
    const char *library; /* as for dlopen: "libgsl.so.27"; NULL: this program, and what it is linked to */
    void (*function)(void); /* NULL: looked for in the library by the prototype's name */
    const char *name;       /* the op's; NULL: the prototype's */
    const char *derivative, *vjp;
    void (*derivative_function)(void), (*vjp_function)(void); /* NULL: looked for */
    double from, to;   /* where its derivatives are checked; both 0: -2 to 2 */
    bool serial;       /* not safe to be called by two threads: calls of all such functions come one after another */
    bool nan;          /* NaN from operands that are none is a value; else it is an error of the run, which names the element */
    void *user;        /* for pointers of the role `user`: all calls get it */
    const char *after; /* a function without parameters to call once, before: "gsl_set_error_handler_off"; NULL: none */
} wg_binding;

/* The op, which belongs to `foreign`; the same again is the same op. NULL on failure. Everything is copied. Fails: WG_SYNTAX,
 * WG_UNSUPPORTED (with the place in the text), WG_NOT_FOUND (no such library or function), WG_CONFLICT (the name is
 * taken), WG_ARGUMENT, WG_MEMORY, WG_LIMIT. */
WG_API const wg_op *wg_bind(wg_foreign *foreign, const wg_binding *binding, wg_error *error);
/* The same from a `use` line as it stands in cells before their equations, without the word:
 *     "LIBRARY" "PROTOTYPE" [as NAME] [with derivative LIST | with vjp "PROTOTYPE"] [on A..B] [serial] [nan] [after "FUNCTION"]
 *     "libm.so.6" "double j0(double)" as J0 with derivative -J1(x)
 * LIST: expressions, or prototypes in quotes, separated by commas. "" is this program. The line is the caller's own: `allow` does not
 * matter. */
WG_API const wg_op *wg_bind_text(wg_foreign *foreign, const char *text, wg_error *error);
WG_API const wg_op *wg_foreign_find(const wg_foreign *foreign, const char *name); /* NULL if there is none */
WG_API int wg_foreign_count(const wg_foreign *foreign);
WG_API const wg_op *wg_foreign_op(const wg_foreign *foreign, int i); /* in the order of binding */
/* Records such an op, or any pointwise one of the caller's: operands broadcast, bare constants take the others' type; floats that a
 * function of arrays cannot take are cast, and its result back. Fails: WG_SHAPE, WG_DTYPE, WG_ARGUMENT. */
WG_API wg_var wg_call_op(const wg_op *op, int n, const wg_var *in);

/* ---- cells -------------------------------------------------------------------------------------- */

/* A recurrent cell: its equations, states, parameters and initialisers; sizes are still formulas in `input` and
 * `hidden`. Immutable once made; one cell may be unrolled on many tapes. */
typedef struct wg_cell wg_cell;

/* A size or const of a cell's text set from outside: {"depth", "5"}. */
typedef struct wg_setting {
    const char *name, *value;
} wg_setting;

/* From text in the cell language; `name` stands for the file in messages. From a file, or, if `path` is the name of a cell
 * of the zoo, that cell. NULL and *error (FILE:LINE:COL: message, the line, a caret) on failure: WG_SYNTAX, WG_SHAPE,
 * WG_NOT_FOUND, WG_IO, WG_MEMORY. */
WG_API wg_cell *wg_cell_parse(wg_memory *memory, const char *name, const char *text, size_t size, int settings,
                              const wg_setting *setting, wg_error *error);
WG_API wg_cell *wg_cell_load(wg_memory *memory, const char *path, int settings, const wg_setting *setting,
                             wg_error *error);
/* The same with what the text may use beside the library. */
typedef struct wg_cell_options {
    int settings;
    const wg_setting *setting;
    wg_foreign *foreign; /* NULL: none. What is bound there are functions of the language, and, if it allows, `use` lines bind
                            more; if not, one is an error (WG_UNSUPPORTED). It must outlive the cell */
} wg_cell_options;
WG_API wg_cell *wg_cell_parse_with(wg_memory *memory, const char *name, const char *text, size_t size,
                                   const wg_cell_options *options, wg_error *error);
WG_API wg_cell *wg_cell_load_with(wg_memory *memory, const char *path, const wg_cell_options *options, wg_error *error);
WG_API void wg_cell_free(wg_cell *cell);

/* A step of a cell written in C, while it is being recorded. */
typedef struct wg_step wg_step;
/* From declarations in the cell language (cell, input, size, const, state, param, fixed, output, init; no equations)
 * and a C function that records one step and returns WG_OK. Every state must be given its next value. */
WG_API wg_cell *wg_cell_new(wg_memory *memory, const char *declarations,
                            wg_status (*step)(wg_step *step, void *user), void *user, wg_error *error);
/* Inside a step: an input or state (B,n), or a parameter, by name; invalid (and the tape's failure set) if there is none. */
WG_API wg_var wg_step_get(wg_step *step, const char *name);
/* Gives a state its next value (broadcast to (B,n)), or any name not declared a value that wg_at finds. Fails, with the
 * tape: WG_CONFLICT (a declared name that is no state), WG_ARGUMENT (no var of this tape), WG_DTYPE, WG_SHAPE, WG_MEMORY. */
WG_API wg_status wg_step_set(wg_step *step, const char *name, wg_var value);
WG_API wg_tape *wg_step_tape(const wg_step *step);

WG_API const char *wg_cell_name(const wg_cell *cell);
WG_API const char *wg_cell_cite(const wg_cell *cell); /* "" if none is given */
WG_API const char *wg_cell_text(const wg_cell *cell); /* the text it was made from */
/* What a cell declares, in the order of its text. The output is the name of a state or line. */
WG_API int wg_cell_inputs(const wg_cell *cell);
WG_API int wg_cell_states(const wg_cell *cell);
WG_API int wg_cell_params(const wg_cell *cell);
WG_API const char *wg_cell_input(const wg_cell *cell, int i);
WG_API const char *wg_cell_state(const wg_cell *cell, int i);
WG_API const char *wg_cell_param(const wg_cell *cell, int i);
WG_API const char *wg_cell_output(const wg_cell *cell);
/* Warnings of the text (a free name one edit from a defined one): how many, and each as FILE:LINE:COL: message. */
WG_API int wg_cell_warnings(const wg_cell *cell);
WG_API const char *wg_cell_warning(const wg_cell *cell, int i);
/* The shape of an input [n], state [n] or parameter for these sizes. */
WG_API wg_status wg_cell_shape(const wg_cell *cell, const char *name, int64_t input, int64_t hidden, wg_shape *shape,
                               wg_error *error);

/* How parameters are drawn. A zeroed struct is the cell's own initialisers with seed 0. */
typedef struct wg_draw {
    uint64_t seed;
    uint64_t layer;          /* of stacked layers: each draws its own */
    int lines;               /* further `PATTERN=INITIALISER` lines, after the cell's own */
    const char *const *line; /* or "pytorch", "keras", "flax": that library's whole scheme */
    bool check;              /* every parameter N(0, 1/fan_in), so that zeros hide no mistake */
} wg_draw;
/* New parameters in the order of the text, drawn. Fails: WG_NOT_FOUND (a factor without an initialiser), WG_RANGE. */
WG_API wg_params *wg_cell_draw(wg_memory *memory, const wg_cell *cell, wg_dtype dtype, int64_t input, int64_t hidden,
                               const wg_draw *draw, wg_error *error);

/* What the text says and inference found about one name of a cell. */
typedef struct wg_cell_entry {
    const char *name; /* the cell's */
    const char *kind; /* "input", "size", "const", "state", "param", "fixed", "value" */
    int line;         /* where it stands first */
    char shape[128];  /* in formulas: "[hidden, input]", "number"; "" of sizes and consts */
    /* of parameters */
    char reason[256]; /* why it has that shape */
    bool assumed;     /* a length is `hidden` because nothing says otherwise */
    char initialiser[128];
} wg_cell_entry;
/* Shows every name, in the order of the text. draw (may be NULL): lines from outside count. Fails: WG_NOT_FOUND, WG_SYNTAX (such
 * a line), WG_MEMORY, WG_LIMIT. */
WG_API wg_status wg_cell_describe(wg_memory *memory, const wg_cell *cell, const wg_draw *draw,
                                  void (*show)(void *user, const wg_cell_entry *entry), void *user, wg_error *error);

/* The zoo: published cells that come with the library. */
WG_API int wg_zoo_count(void);
WG_API const char *wg_zoo_name(int i);
WG_API const char *wg_zoo_text(const char *name); /* NULL if there is none */

/* ---- unrolling ---------------------------------------------------------------------------------- */

typedef struct wg_named {
    const char *name;
    wg_var var;
} wg_named;

typedef struct wg_unroll_options {
    bool training;  /* dropout and bernoulli draw; otherwise they are their means */
    wg_var key;     /* the random key (i32 (4)) that draws read; needed when training a cell that draws */
    wg_var lengths; /* (B) i32, or zeroed: all T. A row's state stops at its length; outputs beyond it are zero; inputs
                       beyond it are replaced by zero on entry. States are selected, so padding (NaN included) touches
                       nothing. */
} wg_unroll_options;

/* A cell applied over a sequence: T steps recorded on the tape, so that backpropagation through time is wg_grad. */
typedef struct wg_unroll wg_unroll;

/* given: every input (T,B,n), every parameter (its shape), and any initial states (B,n) by name; a state not given starts
 * from its declared start, else zero. NULL on failure; then the tape's status and message say why, and what the unroll had
 * recorded is off the tape again. The unroll may be freed before the tape; its vars stay.
 * Fails: WG_NOT_FOUND (a name missing or unknown), WG_CONFLICT (one given twice), WG_ARGUMENT (no var of this tape; no key to
 * draw by), WG_SHAPE, WG_DTYPE, WG_RANGE (a size or probability), WG_MEMORY, WG_LIMIT; else as the cell's ops or step do. */
WG_API wg_unroll *wg_unroll_new(wg_tape *tape, const wg_cell *cell, int64_t input, int64_t hidden, int n,
                                const wg_named *given, const wg_unroll_options *options);
WG_API void wg_unroll_free(wg_unroll *unroll);
WG_API int64_t wg_unroll_steps(const wg_unroll *unroll);
WG_API wg_var wg_unroll_output(const wg_unroll *unroll);                  /* (T,B,n) */
WG_API wg_var wg_unroll_final(const wg_unroll *unroll, const char *state); /* (B,n) */
/* A value of step t in [0,T) by name: an input, a named line, or a state after the step; a state at t = -1 is the initial
 * one. (B,n), or as the line makes it. Differentiable like any var. Invalid if there is none. */
WG_API wg_var wg_at(const wg_unroll *unroll, int64_t t, const char *name);
/* All steps of it, stacked: (T,B,n). Recorded anew at each call. */
WG_API wg_var wg_unroll_all(const wg_unroll *unroll, const char *name);

/* ---- plans ------------------------------------------------------------------------------------ */

/* A compiled program for chosen outputs: made once, run again and again with new contents in the leaf tensors. It holds
 * what it needs and outlives the tape (not the tape's wg_memory, nor the caller's own op records). */
typedef struct wg_plan wg_plan;
/* The memory of a run: buffers, outputs, and which tensor stands for which leaf. */
typedef struct wg_workspace wg_workspace;

/* How to compile. A zeroed struct is the default. */
typedef struct wg_compile_options {
    wg_run_options run;  /* how the plan runs where a run does not say; no run's loops are cut for more threads than here */
    const char *without; /* names of passes to leave out, separated by commas; NULL: none */
    bool validate;       /* check the program after every pass (always done in unoptimised builds) */
    int64_t far_bytes;   /* from how many bytes what a loop keeps of its steps is thought to leave the caches before it is read: several
                            threads write it past them, and sums over it are made in the loop, whose bits then differ; 0: 2 MiB */
} wg_compile_options;

/* A plan that computes y[0..n). Means what wg_eval means. NULL on failure.
 * Fails: WG_ARGUMENT (no output, or one that is no var of the tape; a pass left out that is needed; far_bytes below 0),
 * WG_NOT_FOUND (no such pass), WG_CONFLICT (two stores to one tensor), the tape's own failure, WG_MEMORY, WG_LIMIT. */
WG_API wg_plan *wg_compile(int n, const wg_var *y, const wg_compile_options *options, wg_error *error);
WG_API void wg_plan_free(wg_plan *plan);
/* Runs in the plan's own workspace: reads the leaf tensors' contents, computes, and at the end, if every guard among the
 * outputs is finite, writes what is to be stored. Allocates nothing.
 * Fails: as the ops do; WG_NONFINITE (a guard). Then nothing was stored. */
WG_API wg_status wg_run(wg_plan *plan, wg_error *error);
/* Output i of the plan's last run: borrowed, its contents good until the next. NULL if i is out of range. One that is retained may keep the
 * memory of others that were computed with it. */
WG_API const wg_tensor *wg_plan_output(const wg_plan *plan, int i);
WG_API int wg_plan_output_count(const wg_plan *plan);
WG_API wg_workspace *wg_plan_workspace(wg_plan *plan); /* its own: borrowed */

/* More workspaces, so that several threads run one plan, each in its own (a plan without stores; with stores the caller keeps
 * runs apart). Free them before the plan. NULL when out of memory. */
WG_API wg_workspace *wg_workspace_new(const wg_plan *plan);
WG_API void wg_workspace_free(wg_workspace *workspace);
/* options: NULL for the plan's. Fails as wg_run; WG_ARGUMENT if the workspace is another plan's. */
WG_API wg_status wg_run_in(const wg_plan *plan, wg_workspace *workspace, const wg_run_options *options,
                           wg_error *error);
WG_API const wg_tensor *wg_workspace_output(const wg_workspace *workspace, int i);
/* From now on runs in this workspace read (and store to) `other` where the tape named `tensor`; the workspace holds it. Not
 * copied. Fails: WG_NOT_FOUND (the plan does not name `tensor`), WG_SHAPE, WG_DTYPE, WG_CONFLICT (two stores would go to
 * one tensor; `other` is an output of this workspace); then nothing has changed. */
WG_API wg_status wg_workspace_rebind(wg_workspace *workspace, const wg_tensor *tensor, wg_tensor *other,
                                     wg_error *error);

/* Plans for define-by-run loops: record, get, run, wg_tape_rewind, again. A structure seen before (ops, attributes, types,
 * shapes, order of recording, which leaves are one tensor) gives its plan again, bound to the tensors now named, without
 * compiling. */
typedef struct wg_plan_cache wg_plan_cache;
/* options: of every plan, NULL for the default. most: plans kept at once (0: 64); the one not asked for longest goes first.
 * NULL when out of memory. */
WG_API wg_plan_cache *wg_plan_cache_new(wg_memory *memory, const wg_compile_options *options, int most);
WG_API void wg_plan_cache_free(wg_plan_cache *cache);
/* The plan for y[0..n): borrowed, until `most` others were asked for. Fails as wg_compile. */
WG_API wg_plan *wg_plan_cache_get(wg_plan_cache *cache, int n, const wg_var *y, wg_error *error);
WG_API int64_t wg_plan_cache_compiled(const wg_plan_cache *cache); /* how many had to be compiled */

/* What a plan costs. */
typedef struct wg_plan_size {
    int64_t instructions;   /* in the program, leaves, constants and views included */
    int64_t kernels;        /* run at each run */
    size_t workspace_bytes; /* of a workspace: the arena of intermediate values and of kernels' scratch, the scratch of loops for
                               each thread that the plan was compiled for, the lists of kernels, their arguments, and of tensors.
                               Not the outputs, nor what the plan keeps for all its workspaces (program, constants) */
    size_t live_bytes;      /* the most that is alive across one instruction: the least a workspace could do with */
    size_t output_bytes;
    double flops;   /* of a run: 2 K for each element of a product over K, 1 for each element of what is pointwise or reduced */
    double traffic; /* bytes that its kernels read and write, if nothing stayed in a cache */
} wg_plan_size;
WG_API wg_plan_size wg_plan_measure(const wg_plan *plan);

/* Where the time of runs went, in seconds of all threads added up: the parts' sum is threads times `seconds`, but for what the
 * clock itself takes. A zeroed struct is empty. */
typedef struct wg_profile {
    int64_t runs;
    int threads;      /* the most that a run had */
    double seconds;   /* of the runs, from beginning to end */
    double products;  /* matrix products */
    double pointwise; /* what is computed element by element */
    double packing;   /* matrices put in order for products; arrays joined and copied, outputs included */
    double other;     /* all other ops: sums, softmax, gather, random numbers */
    double waiting;   /* threads without work, and what lies between kernels */
    double *kernel;   /* NULL, or room for wg_plan_measure().instructions + 1, to add to: those of each instruction of the
                         program, by its number; a region's at its first; pointwise ops on scalars at none */
} wg_profile;
/* wg_run_in that adds to *profile, at two looks at the clock for each kernel of each tile. workspace: NULL for the plan's own. */
WG_API wg_status wg_run_profiled(const wg_plan *plan, wg_workspace *workspace, const wg_run_options *options,
                                 wg_profile *profile, wg_error *error);

/* The compiler's passes, in order: name and what it does. NULL at the end. */
WG_API const char *wg_pass_name(int i);
WG_API const char *wg_pass_doc(int i);

/* ---- plans as C functions ------------------------------------------------------------------------ */

/* A plan as a C function of a type that another library wants. */
typedef struct wg_function wg_function;

typedef struct wg_function_options {
    int n; /* leaf tensors that roles name: `in K` is leaf[K], `point` is leaf[0] */
    wg_tensor *const *leaf; /* read only while the function is made */
    int most;           /* calls at once, each in a workspace of its own; more wait. 0: as many as come. 1: one by one */
    wg_run_options run; /* of every call; `threads` 0: one */
    void (*failed)(void *user, const wg_error *error); /* told of every call that fails, on its thread, before it returns; may be NULL */
    void *user;
} wg_function_options;

/* prototype: the C type, and after each parameter or field ':' and its role; at the end, that of the result:
 *   point, in K       the contents of leaf[0], leaf[K]: an array that is read where it lies, or a number
 *   value, out K      output 0, output K of the plan: an array that is written where it lies, or a number; also the result's role
 *   gradient          the same as out 1
 *   size, size K      the number of elements of leaf[0], leaf[K]: a call with another fails
 *   count, count K    the number of elements of output 0, output K: the same
 *   stride            of the pointers of the struct it stands in: a call with another than 1 fails
 *   user              the caller's: passed by
 *   status            the result: 0, or 1 if the call failed
 * without a role: passed by; as the result, zero. A pointer to a struct is looked into, a struct by value as well. "(*)" or any name:
 *   "double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value"
 * The elements of an array are of the tensor's type: float, double, or a signed integer of 4 bytes. A number stands for one element and
 * is of any type: an integer that cannot hold what it is to is a failed call. A NULL for an output is not written. Arrays may overlap.
 * A call that fails writes NaN to what it returns as a number and to its outputs (the least int to arrays of int, -1 to other integers),
 * but no more elements than its sizes say there are. A plan with stores takes one call at a time, so functions of two such
 * plans must not call each other. Leaves without a role are read as they are. Calls may go on inside other calls, also of the same
 * function: where no more may, WG_CONFLICT, if the thread is in a call of it already. The plan must outlive the function,
 * which takes its memory where the plan does: a workspace for each call at once.
 * NULL on failure: WG_SYNTAX (also: no such role), WG_UNSUPPORTED (also: the system allows no executable closures), WG_DTYPE (the C type
 * is not the leaf's or output's), WG_SHAPE (a number or an array of fixed length for a tensor of another), WG_NOT_FOUND (no such leaf
 * or output, or the plan does not read that leaf), WG_CONFLICT (two places for one leaf or output; the plan stores to the leaf),
 * WG_ARGUMENT (also: an output that is const or passed by value), WG_MEMORY, WG_LIMIT. */
WG_API wg_function *wg_plan_function(const wg_plan *plan, const char *prototype, const wg_function_options *options, wg_error *error);
/* What to hand over, cast to the type of the prototype: good until wg_function_free. Any thread may call it. */
WG_API void (*wg_function_pointer(const wg_function *function))(void);
/* The first failure since the last look, which this forgets; WG_OK if none. */
WG_API wg_status wg_function_status(wg_function *function, wg_error *error);
/* Waits for calls on other threads to return (a helper thread of a run is another). Fails, and frees nothing: WG_CONFLICT inside a call of
 * its own. Takes NULL. */
WG_API wg_status wg_function_free(wg_function *function);

/* ---- printing --------------------------------------------------------------------------------- */

typedef enum wg_print_format { WG_PRINT_TEXT, WG_PRINT_DOT, WG_PRINT_JSON } wg_print_format;

/* A zeroed struct is the default. */
typedef struct wg_print_options {
    wg_print_format format;
    const char *after;      /* "record" (or NULL): what is recorded; or the name of a pass: the program after it */
    const char *without;    /* passes left out, as in wg_compile_options */
    const wg_params *names; /* names for leaf tensors that are among them; may be NULL */
    int threads;            /* that the program is made for, as in wg_run_options; 0: as many as the machine has */
} wg_print_options;

/* Prints what y[0..n) need, as text (one instruction a line), as a Graphviz graph, or as one JSON object: op, type, shape and
 * inputs of each, attributes, tensor, unroll step and place it was recorded at; after `layout` how values are stored, and after `place`
 * where, and how long they live. The text goes to write(user, text, size) in pieces; names are escaped.
 * Fails: as wg_compile. */
WG_API wg_status wg_print(int n, const wg_var *y, const wg_print_options *options,
                          void (*write)(void *user, const char *text, size_t size), void *user, wg_error *error);
/* The same for a plan's program; `after`, `without` and `threads` are not read. Fails: WG_MEMORY, WG_LIMIT. */
WG_API wg_status wg_plan_print(const wg_plan *plan, const wg_print_options *options,
                               void (*write)(void *user, const char *text, size_t size), void *user);

/* ---- models --------------------------------------------------------------------------------------- */

/* Layers of one cell between an optional embedding and an optional output layer: what `wengert train` trains and a model
 * file holds. */
typedef struct wg_model wg_model;

typedef struct wg_model_options {
    int64_t vocabulary; /* > 0: x is tokens (T,B) i32 in [0,vocabulary) */
    int64_t embed;      /* width of their embedding; 0: one-hot */
    int64_t input;      /* without a vocabulary: x is (T,B,input) */
    int64_t hidden;
    int layers;         /* the first reads x, the others the output of the one before */
    int64_t outputs;    /* width of the linear output layer; 0: none, the last layer's output is the model's */
    wg_dtype dtype;
} wg_model_options;

/* Parameters are drawn: "embedding" (V,E), "layerK.NAME" for the cell's, "output.W" (m,n), "output.b" (m). The model owns
 * the cell from here on, also on failure. */
WG_API wg_model *wg_model_new(wg_memory *memory, wg_cell *cell, const wg_model_options *options, const wg_draw *draw,
                              wg_error *error);
WG_API void wg_model_free(wg_model *model);
WG_API const wg_cell *wg_model_cell(const wg_model *model);
WG_API const wg_model_options *wg_model_sizes(const wg_model *model);
WG_API wg_params *wg_model_params(const wg_model *model); /* borrowed */
/* Where every layer's states of a batch start: "layerK.NAME" (B,n), holding the declared start (a parameter's current
 * value, a number) or zero. Free it. NULL when out of memory, or if batch is out of range. */
WG_API wg_params *wg_model_states(const wg_model *model, int64_t batch);

/* A model recorded on a tape. */
typedef struct wg_forward {
    wg_var output;      /* (T,B,outputs), or the last layer's output */
    int layers;
    wg_unroll **layer;  /* [layers] */
    int weights;
    wg_var *weight;     /* a leaf of every parameter, in the order of wg_model_params */
    wg_memory *memory;
} wg_forward;
/* x: as the options say. states: initial states as wg_model_states gives them (leaves of those tensors), or NULL for the
 * cell's own starts. options: as for wg_unroll_new. Fails as the ops do, and the tape says why. */
WG_API wg_status wg_model_record(const wg_model *model, wg_tape *tape, wg_var x, const wg_params *states,
                                 const wg_unroll_options *options, wg_forward *forward);
WG_API void wg_forward_free(wg_forward *forward);

/* One safetensors file: the parameters, the cell's text, sizes and format version in its metadata; `more` (may be NULL) adds
 * tensors and metadata of the caller's, under names that are not the model's. Loading reads them back into *more (may be
 * NULL). Fails: WG_IO, WG_FORMAT, WG_VERSION (a file of a later version), WG_CONFLICT. */
WG_API wg_status wg_model_save(const wg_model *model, const wg_params *more, const char *path, wg_error *error);
WG_API wg_model *wg_model_load(wg_memory *memory, const char *path, wg_params **more, wg_error *error);
/* The same with what its cell may use: see wg_cell_options. */
WG_API wg_model *wg_model_load_with(wg_memory *memory, const char *path, wg_foreign *foreign, wg_params **more, wg_error *error);

#ifdef __cplusplus
}
#endif
#endif
