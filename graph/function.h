/* function.h: a plan as a C function: what its prototype says is done with each argument, and the workspaces that calls take. Includes
 * the plan and prototypes. */
#ifndef WG_FUNCTION_H
#define WG_FUNCTION_H

#include <pthread.h>
#include <stdatomic.h>

#include "plan.h"
#include "prototype.h"

/* How to come from where a call's argument lies (parameter -1: what is returned) to what has a role: offset[0] bytes on, through the
 * pointer that is there, offset[1] bytes on, and so forth. */
typedef struct wg_route {
    int parameter, through;
    size_t offset[WG_PROTOTYPE_DEPTH + 2]; /* through + 1 of them */
} wg_route;

/* In the order in which a call goes through them. */
typedef enum wg_link_kind { WG_LINK_SIZE, WG_LINK_COUNT, WG_LINK_STRIDE, WG_LINK_IN, WG_LINK_OUT, WG_LINK_KINDS } wg_link_kind;

/* A parameter, field or result with a role. */
typedef struct wg_link {
    wg_link_kind kind;
    wg_route route;
    const wg_ctype *number; /* one number lies there, which is converted; NULL: an array of the tensor's type */
    const wg_slot *within;  /* fields: the first of the struct that it stands in; else NULL */
    char name[48];          /* for messages */
    int64_t number_named;   /* K: of the leaf or output */
    int64_t index;          /* of the plan's slot or output */
    int64_t count;          /* that a size must be; elements of the array */
    wg_dtype dtype;
    size_t element, bytes; /* of one, and of the array */
    bool copied;           /* an array that costs less to copy than to bind */
} wg_link;

/* What a link has in one workspace; of an output, where the call that goes on wants it. */
typedef struct wg_link_place {
    char *own, *at;
    bool bound; /* an output that is computed there */
} wg_link_place;

/* A workspace with what a call in it needs. */
typedef struct wg_seat {
    wg_workspace *workspace;
    struct wg_seat *next;
    wg_link_place place[]; /* of every link */
} wg_seat;

/* Those that no call has. One is taken and left by a single exchange; `spare` then is the seat, or 0. While anyone waits for a seat or
 * for all of them, or makes one, it is WG_SPARE_CLOSED, and all go by the lock. */
#define WG_SPARE_CLOSED ((uintptr_t)1)
typedef struct wg_seats {
    atomic_uintptr_t spare;
    pthread_mutex_t lock;
    pthread_cond_t news;
    wg_seat *idle;
    int64_t idle_count, made;
    int64_t waiting; /* calls without a seat, and wg_function_free */
    int64_t most;    /* 0: any number */
} wg_seats;

struct wg_function {
    const wg_plan *plan;
    wg_memory *memory;
    wg_arena arena; /* the prototype */
    const wg_prototype *prototype;
    wg_function_options options;
    wg_link *links; /* by kind, then in the order of the prototype, the result first */
    int link_count, first_in, first_out;
    bool tells_status; /* the result's role */
    bool serial; /* its plan calls C functions that are not safe for two threads */
    size_t blank;      /* bytes of the result that are zeros where no role fills them */
    ffi_cif cif;
    ffi_closure *closure;
    void *code;
    wg_seats seats;
    wg_error first; /* failure since the last look; under the lock */
};

/* function_call.c */
void wg__function_called(ffi_cif *cif, void *result, void **arguments, void *function);
/* Whether this thread is in a call of it. */
bool wg__function_active(const wg_function *function);
wg_seat *wg__seat_new(const wg_function *function); /* NULL when out of memory */
void wg__seat_free(const wg_function *function, wg_seat *seat);
/* Waits until no call has a seat or waits for one; then frees them all. */
void wg__seats_close(wg_function *function);

/* libffi's, or a test's. */
extern void *(*wg__closure_alloc)(size_t size, void **code);

#endif
