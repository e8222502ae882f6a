/* foreign.h: C functions as ops: how a function is called for the rows of its operands, and what is known of its derivative. Includes
 * graph.h and prototype.h. */
#ifndef WG_FOREIGN_H
#define WG_FOREIGN_H

#include "graph.h"
#include "prototype.h"

enum { WG_PORTS = 16 }; /* operands of a function, and arrays that it writes: no more than these */

/* Where a number of a struct by value lies in it. */
typedef struct wg_scalar_at {
    const wg_ctype *type;
    size_t offset;
} wg_scalar_at;

/* An operand of a function, or a part of its result: an array whose last axes these are, or a number. */
typedef struct wg_port {
    const char *name;
    const wg_slot *slot;
    int parameter; /* its number; -1: what is returned */
    wg_dtype dtype; /* of an array; 0: a number of any type */
    int rank;       /* of its lengths */
    const wg_ast *length[WG_MAX_RANK];
    int64_t tail;   /* of a struct, its numbers: one axis more; else 0 */
    const wg_scalar_at *scalar; /* [tail], of a struct by value; else NULL */
} wg_port;

typedef enum wg_argument_kind {
    WG_ARGUMENT_FIXED,   /* the slot's value, or `user` */
    WG_ARGUMENT_SIZE,    /* of arrays */
    WG_ARGUMENT_OPERAND, /* operand[port] */
    WG_ARGUMENT_OUT      /* out[port] */
} wg_argument_kind;

typedef struct wg_argument {
    wg_argument_kind kind;
    int port;
} wg_argument;

typedef struct wg_bound wg_bound;

/* A function bound as an op. The op comes first: a wg_op of such a function is a wg_bound. */
struct wg_bound {
    wg_op op;
    wg_foreign *foreign;
    const char *texts; /* what it was bound from: the same again is the same op */
    wg_binding given;  /* the same, for what is no text */
    const wg_prototype *prototype;
    ffi_cif cif;
    void (*function)(void);
    void *user;
    bool hidden; /* a derivative: without a name of its own */
    bool serial, nan;
    bool direct; /* of doubles alone: called without libffi */
    bool status; /* returns, beside arrays, whether it failed */
    int operands, outs;
    wg_port operand[WG_PORTS], out[WG_PORTS];
    const wg_argument *argument;
    /* Its derivative: by each float operand an expression, or else a function; or all from one function. */
    const wg_ast *partial[WG_PORTS];
    const wg_bound *slope[WG_PORTS];
    const wg_bound *vjp;
    int8_t vjp_reads[WG_PORTS];  /* for each operand of vjp: an operand of this; or one of these */
    int8_t vjp_writes[WG_PORTS]; /* for each part of what it makes: whose cotangent */
};
enum { WG_READS_COTANGENT = -1, WG_READS_RESULT = -2 };

/* The axes of a port that are its own; those before are rows. */
static inline int wg__port_rank(const wg_port *port) { return port->rank + (port->tail > 0); }

/* The type of an array of these; 0: there is none. */
static inline wg_dtype wg__ctype_dtype(const wg_ctype *type) {
    return type->kind == WG_CTYPE_FLOAT                                           ? WG_F32
           : type->kind == WG_CTYPE_DOUBLE                                        ? WG_F64
           : type->kind == WG_CTYPE_INTEGER && type->size == 4 && type->is_signed ? WG_I32
                                                                                  : 0;
}

/* Of a result: an array's own type; of a number the nearest. */
static inline wg_dtype wg__out_dtype(const wg_port *out) {
    wg_dtype number = wg__ctype_dtype(out->slot->type);
    return out->dtype ? out->dtype : number ? number : WG_F64;
}

/* Structs by value of one call: the bytes of one, and of all at most. */
static inline size_t wg__boxed(const wg_ctype *type) { return type->kind == WG_CTYPE_STRUCT ? (type->ffi->size + 15) / 16 * 16 : 0; }
enum { WG_BOXES = 16 * 1024 };

/* Takes whole numbers alone: nothing is differentiated by it. */
static inline bool wg__port_is_whole(const wg_port *port) { return port->slot->type->kind == WG_CTYPE_INTEGER || port->dtype == WG_I32; }

/* The bound function that an op is, or NULL. */
const wg_bound *wg__bound_of(const wg_op *op);

/* The elements in a row of each part of the result, for operands that fit. */
void wg__bound_counts(const wg_bound *bound, const wg_var *in, int64_t *count);
/* Until it leaves, this thread alone calls functions that are not safe to be called by two; again and again is allowed. */
void wg__serial_enter(void);
void wg__serial_leave(void);
bool wg__serial_inside(void); /* whether this thread is in there */
/* A length of a port that no operand has to say; false if one has. */
bool wg__bound_length(const wg_bound *bound, const wg_port *port, int64_t *length);

/* Operands that fit it, as words of a wg_example: alone, in rows, or in rows to which the first operand broadcasts (rows 0, 1, 2). */
const char *wg__bound_words(const wg_bound *bound, int rows, char *text, size_t size);

/* outcall.c: gives the op its kernel and its shape rule. map: numbers to a number. */
void wg__bound_set_kernel(wg_bound *bound, bool map);
/* bound.c: reads the prototype for operands and results; the record of the op but for its derivative. */
wg_status wg__bound_analyse(wg_bound *bound, const wg_source *source, wg_arena *arena, wg_error *error);
/* slope.c: reads derivative and vjp. `derivative` outlives it. */
wg_status wg__bound_derive(wg_bound *bound, const wg_binding *binding, wg_error *error);

/* foreign.c: a function of the same library, for derivatives. */
const wg_bound *wg__bind_hidden(wg_foreign *foreign, const wg_binding *binding, wg_error *error);
wg_arena *wg__foreign_arena(wg_foreign *foreign);
bool wg__foreign_allows(const wg_foreign *foreign);
/* Whether the functions that derivatives call are all there, of the ops from number `from` on; WG_NOT_FOUND with the name of one that is
 * not. */
wg_status wg__foreign_complete(const wg_foreign *foreign, int from, wg_error *error);
/* What was bound since it had so many functions (wg__foreign_mark), hidden ones included, is bound no more; its memory stays. */
int64_t wg__foreign_mark(const wg_foreign *foreign);
void wg__foreign_forget(wg_foreign *foreign, int64_t mark);

/* A `use` line, from behind the word on. The texts lie in the arena. */
typedef struct wg_use_line {
    wg_binding binding;
    int line, column; /* of the library */
} wg_use_line;
wg_status wg__use_parse(wg_parser *parser, wg_use_line *use);

#endif
