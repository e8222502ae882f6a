/* core.h: what every part of the library may use and no user sees: memory, arenas, text, the threads of a run.
 * Includes only the public header. */
#ifndef WG_CORE_H
#define WG_CORE_H

#include "wengert.h"

#define WG_LEN(array) ((int)(sizeof(array) / sizeof((array)[0])))

static inline int64_t wg__min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t wg__max(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- memory. Every block is aligned to 64 bytes; NULL memory is the C library without a limit. -- */
void *wg__take(wg_memory *memory, size_t bytes);   /* undefined contents; NULL when refused */
void *wg__take0(wg_memory *memory, size_t bytes);  /* zeroed */
void wg__give(wg_memory *memory, void *block);     /* takes NULL */
/* Grows a block to at least `bytes`, keeping its contents; NULL when refused, and the block is as it was. */
void *wg__regrow(wg_memory *memory, void *block, size_t bytes);
wg_status wg__refusal(const wg_memory *memory);    /* WG_MEMORY or WG_LIMIT, for after a refusal */
char *wg__strdup(wg_memory *memory, const char *text);
char *wg__strndup(wg_memory *memory, const char *text, size_t size);
/* a*b+c, or SIZE_MAX if it overflows (which every wg__take refuses). */
size_t wg__size(size_t a, size_t b, size_t c);

/* Makes room for one more element of `size` bytes in a growing array; false when refused (array unchanged). */
bool wg__room(wg_memory *memory, void **array, int64_t count, int64_t *capacity, size_t size);

/* ---- arena: blocks that never move, dropped together or back to a mark ------------------------- */
typedef struct wg_arena_block wg_arena_block;
typedef struct wg_arena {
    wg_memory *memory;
    wg_arena_block *last;
    size_t total; /* bytes handed out so far: the mark */
} wg_arena;
void *wg__arena_take(wg_arena *arena, size_t bytes); /* aligned to 16, undefined contents; NULL when refused */
void wg__arena_rewind(wg_arena *arena, size_t mark); /* drops what was taken since total == mark */
void wg__arena_free(wg_arena *arena);

/* ---- shapes ------------------------------------------------------------------------------------ */
/* Fills a shape; WG_RANGE if rank, a size or the count is out of range. */
wg_status wg__shape_set(wg_shape *shape, int rank, const int64_t *dim);
bool wg__shape_same(const wg_shape *a, const wg_shape *b);
/* A shape's text as an argument of a message: made only where the message is. Good to the end of the expression. */
typedef struct wg_shape_name {
    char text[96];
} wg_shape_name;
wg_shape_name wg__shape_name(const wg_shape *shape);
#define WG_SHAPE_TEXT(shape) (wg__shape_name(shape).text)
/* Row-major strides. */
void wg__dense_strides(const wg_shape *shape, int64_t *stride);

/* Whether rows along the last axis are dense, each as many elements behind the one before: how many. stride: NULL if all is dense. */
bool wg__row_step(const wg_shape *shape, const int64_t *stride, int64_t *step);

/* Whether the kernel of an op reads an operand with these strides as it is. */
bool wg__takes(const wg_op *op, const wg_shape *shape, const int64_t *stride);
/* An axis that may count from the end, or -1 if out of range. */
int wg__axis(int axis, int rank);

/* The tensor's contents are those at `data` from now on, which are neither copied nor released. For a tensor of one owner's. Returns
 * how many bytes further on that is than they were. */
intptr_t wg__tensor_point(wg_tensor *tensor, void *data);

/* Toward zero; what an i32 cannot hold becomes the nearest it can, NaN 0. */
int32_t wg__to_i32(double x);

/* ---- the threads of a run ----------------------------------------------------------------------- */
struct wg_team {
    int threads;          /* 1 or more */
    bool keep_subnormals; /* otherwise flushed to zero in every worker */
    wg_isa isa;           /* the most that kernels use */
    struct wg_pool *pool; /* the threads, standing by, or NULL: see wg__stand_by */
    struct wg_meter *meter; /* NULL, or where the threads that stand by note how long they work */
};
/* Seconds, of all that was shared out since they were set to zero. */
typedef struct wg_meter {
    double helped; /* the other threads at work */
    double waited; /* this one for them */
} wg_meter;
/* A clock that only goes forward. */
double wg__seconds(void);
/* The team that options (NULL: the default) ask for. */
wg_team wg__team_of(const wg_run_options *options);
/* The number of threads OpenMP would use here; 1 inside a parallel region, and in a child made by fork after
 * OpenMP was used. */
int wg__default_threads(void);
/* Calls work(user, from, to) once for every chunk [k*grain, (k+1)*grain) of [0,n), on the team's threads. The chunks
 * follow from n and grain alone; so bits never depend on the number of threads where grain does not, or where they do not depend on it. */
void wg__rows(const wg_team *team, int64_t n, int64_t grain,
              void (*work)(void *user, int64_t from, int64_t to), void *user);
/* Work in phases, through which the team's threads pass without waiting for each other where they need not: chunk by chunk, each of the
 * first phase that has one left which may begin. No order of phases but that which `after` demands; one must be possible. */
typedef struct wg_phase {
    int64_t n;                                  /* chunks, taken in order */
    void (*work)(void *user, int64_t chunk);
    void *user;
    uint32_t after;                             /* bit k: phase k must be over before a chunk begins, */
    bool (*early)(void *user, int64_t chunk);   /* or this must say that the chunk may begin even so; NULL: it never may */
    double seconds;                             /* out, where the team has a meter: at work, of all threads */
    _Atomic int64_t next, left;                 /* wg__phases' own: the next chunk; those that are not made yet */
} wg_phase;
enum { WG_MOST_PHASES = 32 };
void wg__phases(const wg_team *team, int count, wg_phase *phases);
/* Waits a moment, for the `looks`th time; after many, others may have the processor. */
void wg__relax(int looks);
/* Calls body(user) on this thread, while the team's others stand by: wg__rows then hands them chunks without opening a region
 * for each, and waits for none that has not begun one. */
void wg__stand_by(wg_team *team, void (*body)(void *user), void *user);
/* Until it leaves, this thread alone: OpenMP libraries called in between open no team. Returns what to restore. */
int wg__alone_enter(void);
void wg__alone_leave(int saved);
/* The floating-point mode of this thread: flush subnormals unless `keep`. Returns what to restore. */
unsigned wg__float_mode_enter(bool keep);
void wg__float_mode_leave(unsigned saved);

enum { WG_LINE_BYTES = 64 }; /* what caches and memory hand each other */
/* From how many bytes what is written is thought to have left the caches when it is read. */
enum { WG_FAR_BYTES = 1 << 21 };

/* ---- stores past the caches (nontemporal.c) ------------------------------------------------------------- */
/* Copies as memcpy does, but whole lines past the caches: they are neither read there first nor kept. */
void wg__bypass(void *to, const void *from, size_t bytes);
/* What this thread has copied so is seen by others that learn of it after this. wg__rows calls it before it returns, on every thread. */
void wg__bypass_fence(void);

/* ---- random fills, for kernels: write elements [from, to) to out[0..to-from). Element i depends on (key, stream, step, i) alone, so any
 * split of the range gives the same bits. uniform: in [0,1), 24 and 53 bits; normal: mean 0, variance 1. ------ */
void wg__random_uniform_f32(const uint32_t key[2], uint64_t stream, uint64_t step, int64_t from,
                            int64_t to, float *out);
void wg__random_uniform_f64(const uint32_t key[2], uint64_t stream, uint64_t step, int64_t from,
                            int64_t to, double *out);
void wg__random_normal_f32(const uint32_t key[2], uint64_t stream, uint64_t step, int64_t from,
                           int64_t to, float *out);
void wg__random_normal_f64(const uint32_t key[2], uint64_t stream, uint64_t step, int64_t from,
                           int64_t to, double *out);

/* ---- text ---------------------------------------------------------------------------------------- */
/* The bytes of the UTF-8 character that begins here, and its code point; 0 if none does. */
int wg__utf8_next(const char *text, size_t size, uint32_t *point);
/* The offset of the first byte that is not valid UTF-8, or `size`. */
size_t wg__utf8_check(const char *text, size_t size);
/* Hostile text for a one-line message: in single quotes, control characters and bad bytes as \xHH, cut with an
 * ellipsis to fit `size` (16 or more). Returns out. */
char *wg__quote(const char *text, char *out, size_t size);
/* A text that grows; zero but for `memory` to begin. After a refusal it only notes that; give `text` back. */
typedef struct wg_text {
    wg_memory *memory;
    char *text; /* terminated; NULL while nothing was added */
    size_t used, room;
    bool refused;
} wg_text;
void wg__text_bytes(wg_text *text, const char *bytes, size_t size);
void wg__text_add(wg_text *text, const char *format, ...) WG_PRINTF(2, 3);
void wg__text_json(wg_text *text, const char *string); /* as a JSON string, in quotes; string is UTF-8 */

/* Finds texts by what they say. The owner keeps them, numbered from 0; `text` gives one by its number. */
typedef struct wg_lookup {
    const char *(*text)(const void *owner, int64_t i);
    const void *owner;
    uint32_t *slot; /* 1 + number, open-addressed; give it back */
    int64_t count, room;
} wg_lookup;
int64_t wg__lookup_find(const wg_lookup *lookup, const char *text);    /* -1 if there is none; the first entered of equals */
bool wg__lookup_room(wg_lookup *lookup, wg_memory *memory);            /* for one text more; false when refused */
void wg__lookup_enter(wg_lookup *lookup);                              /* the owner's text number `count`, after room was made */

/* ---- files: written whole to a temporary name in the same folder, synced, renamed. A pipe or device is written
 * to, a symbolic link followed. ------------------------------------------------------------------- */
typedef struct wg_part {
    const void *data;
    size_t size;
} wg_part;
wg_status wg__file_write(const char *path, int n, const wg_part *parts, wg_error *error);
/* The whole file, with one zero byte after it; NULL on failure. Give it back with wg__give. */
char *wg__file_read(wg_memory *memory, const char *path, size_t *size, wg_error *error);
/* "cannot VERB 'PATH': …"; and the same for a refusal of `memory`. Both return the status. */
wg_status wg__file_error(wg_error *error, wg_status status, const char *verb, const char *path,
                         const char *format, ...) WG_PRINTF(5, 6);
wg_status wg__file_refused(wg_error *error, const wg_memory *memory, const char *verb,
                           const char *path);

/* ---- named tensors, for readers that know a name or key to be new and valid: add without looking ---- */
wg_status wg__params_push(wg_params *params, const char *name, wg_tensor *tensor);
wg_status wg__params_push_meta(wg_params *params, const char *key, const char *value);
wg_memory *wg__params_memory(const wg_params *params);

/* ---- the element types of files -------------------------------------------------------------------- */
typedef struct wg_element {
    const char *name; /* in safetensors */
    char kind;        /* in .npy, with the size; 0: not there */
    int size;         /* bytes in the file */
    wg_dtype dtype;   /* what it is read as */
} wg_element;
/* NULL if there is no such type or it is not read. */
const wg_element *wg__element_named(const char *name);
const wg_element *wg__element_sized(char kind, int size);
/* Converts `count` elements. Returns -1, or the index of the first whose value the result type cannot hold. */
int64_t wg__element_decode(const wg_element *element, bool big_endian, int64_t count,
                           const void *from, void *to);

#endif
