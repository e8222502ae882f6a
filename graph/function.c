/* function.c: a plan as a C function of any type: a libffi closure that lets a workspace read and write the caller's arrays where
 * they lie, and runs the plan in it. */
#include "function.h"

#include "foreign.h"
#include "plan.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void *(*wg__closure_alloc)(size_t size, void **code) = ffi_closure_alloc;

typedef enum role {
    ROLE_IN,
    ROLE_OUT,
    ROLE_SIZE,
    ROLE_STRIDE,
    ROLE_STATUS,
    ROLE_NONE
} role;

static const struct {
    const char *name;
    role role;
    int64_t number; /* the one it stands for; -1: it takes one */
} roles[] = {
    {"point", ROLE_IN, 0},       {"in", ROLE_IN, -1},        {"value", ROLE_OUT, 0},     {"gradient", ROLE_OUT, 1}, {"out", ROLE_OUT, -1},
    {"size", ROLE_SIZE, 0},      {"stride", ROLE_STRIDE, 0}, {"status", ROLE_STATUS, 0}, {"user", ROLE_NONE, 0},
};

/* Where a number or a pointer with a role lies in a call's arguments. */
typedef struct piece {
    role role;
    int64_t number;
    int parameter; /* -1: what is returned */
    bool through;  /* the parameter points to a struct, in which it lies */
    size_t offset;
    const wg_ctype *type;
    const char *name;
} piece;

/* What one call needs, used by one at a time. */
typedef struct context {
    wg_workspace *workspace;
    struct context *next;
    void **home;    /* of each output: its own memory */
    double *number; /* of each leaf: where one given by value lies */
} context;

struct wg_function {
    wg_memory *memory;
    const wg_plan *plan;
    wg_arena arena;
    const wg_prototype *prototype;
    ffi_cif cif;
    ffi_closure *closure;
    void (*code)(void);
    wg_function_options options;
    wg_tensor **leaf; /* [options.n]: held */
    int64_t *slot;    /* of each leaf in the plan; -1: the plan does not read it */
    piece *piece;
    int pieces, room;
    const piece *result; /* NULL: nothing is returned by role */
    int most;            /* 0: any number */
    atomic_int active;         /* calls under way: going down is the last thing that one does */
    _Atomic(context *) at_hand; /* one that is free: for calls that come one by one */
    atomic_int waiting;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t returned;
    context *spare;
    int made;
    wg_error first;
};

/* The calls that this thread is in. */
typedef struct active {
    const wg_function *function;
    struct active *outer;
} active;
static _Thread_local active *innermost;

static bool is_inside(const wg_function *f) {
    for (const active *a = innermost; a; a = a->outer)
        if (a->function == f)
            return true;
    return false;
}

/* ---- roles ---- */

typedef struct reading {
    wg_function *f;
    const wg_source *source;
    wg_error *error;
} reading;

static wg_status refuse(const reading *r, const wg_slot *at, wg_status status, const char *format, ...) WG_PRINTF(4, 5);

static wg_status refuse(const reading *r, const wg_slot *at, wg_status status, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return wg__source_error(r->source, r->error, status, at->line, at->column, "%s", text);
}

static wg_status no_memory(const wg_function *f, wg_error *error) {
    return wg_error_set(error, wg__refusal(f->memory), "function: no memory");
}

static wg_status find_role(const reading *r, const wg_slot *slot, piece *p) {
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i].name, slot->role) != 0)
            continue;
        bool takes = roles[i].number < 0 || roles[i].role == ROLE_SIZE;
        if ((slot->number >= 0 && !takes) || (slot->number < 0 && roles[i].number < 0))
            return refuse(r, slot, WG_SYNTAX, "the role %s %s", slot->role, takes ? "needs a number: which of them" : "takes no number");
        p->role = roles[i].role;
        p->number = slot->number >= 0 ? slot->number : roles[i].number;
        return WG_OK;
    }
    return refuse(r, slot, WG_SYNTAX, "there is no role %s: known are point, in K, value, gradient, out K, size, stride, user and status", slot->role);
}

static const wg_tensor *tensor_of(const wg_function *f, const piece *p) {
    return p->role == ROLE_OUT ? wg_workspace_output(f->plan->own, (int)p->number) : f->leaf[p->number];
}

/* An array of the tensor's type, or a number where it has one element. */
static wg_status check_array(const reading *r, const wg_slot *slot, const piece *p) {
    const wg_tensor *tensor = tensor_of(r->f, p);
    char text[100];
    bool pointer = p->type->kind == WG_CTYPE_POINTER;
    if (!pointer && !wg__ctype_is_number(p->type))
        return refuse(r, slot, WG_DTYPE, "'%s' is no array and no number", wg__ctype_text(p->type, text, sizeof text));
    if (pointer && wg__ctype_dtype(p->type->to) != wg_tensor_dtype(tensor))
        return refuse(r, slot, WG_DTYPE, "'%s' in the place of %s", wg__ctype_text(p->type, text, sizeof text), wg_dtype_name(wg_tensor_dtype(tensor)));
    if (!pointer && wg_tensor_shape(tensor)->count != 1)
        return refuse(r, slot, WG_SHAPE, "a number in the place of %s", WG_SHAPE_TEXT(wg_tensor_shape(tensor)));
    if (p->role == ROLE_OUT && pointer && p->type->is_const)
        return refuse(r, slot, WG_ARGUMENT, "what is const cannot be written");
    if (p->role == ROLE_OUT && !pointer && p->parameter >= 0)
        return refuse(r, slot, WG_ARGUMENT, "a result is written through a pointer, or returned");
    return WG_OK;
}

static wg_status check_number(const reading *r, const wg_slot *slot, const piece *p) {
    int64_t count = p->role == ROLE_OUT ? wg_plan_output_count(r->f->plan) : r->f->options.n;
    bool listed = p->role == ROLE_IN || p->role == ROLE_OUT || p->role == ROLE_SIZE;
    if (listed && p->number >= count)
        return refuse(r, slot, WG_NOT_FOUND, "there is no %s %lld: there are %lld", p->role == ROLE_OUT ? "output" : "leaf", (long long)p->number,
                      (long long)count);
    for (int i = 0; i < r->f->pieces; i++)
        if (r->f->piece[i].role == p->role && r->f->piece[i].number == p->number && (p->role == ROLE_IN || (p->role == ROLE_OUT && p->parameter >= 0)))
            return refuse(r, slot, WG_CONFLICT, "two parameters have this role");
    return WG_OK;
}

static wg_status check_piece(const reading *r, const wg_slot *slot, const piece *p) {
    wg_status status = check_number(r, slot, p);
    if (status != WG_OK)
        return status;
    bool returned = p->parameter < 0, whole = p->type->kind == WG_CTYPE_INTEGER;
    if (returned ? p->role != ROLE_OUT && p->role != ROLE_STATUS : p->role == ROLE_STATUS)
        return refuse(r, slot, WG_ARGUMENT, returned ? "what is returned is a value or a status" : "a status is returned");
    if (returned && p->role == ROLE_OUT && !wg__ctype_is_number(p->type))
        return refuse(r, slot, WG_UNSUPPORTED, "only numbers can be returned");
    if ((p->role == ROLE_SIZE || p->role == ROLE_STRIDE || p->role == ROLE_STATUS) && !whole)
        return refuse(r, slot, WG_DTYPE, "a size, a stride and a status are integers");
    return p->role == ROLE_IN || p->role == ROLE_OUT ? check_array(r, slot, p) : WG_OK;
}

static wg_status add_piece(const reading *r, const wg_slot *slot, const piece *at) {
    wg_function *f = r->f;
    piece p = *at;
    p.type = slot->type;
    p.name = slot->name ? slot->name : slot->role;
    wg_status status = find_role(r, slot, &p);
    if (status == WG_OK && p.role != ROLE_NONE)
        status = check_piece(r, slot, &p);
    if (status != WG_OK || p.role == ROLE_NONE)
        return status;
    void *list = f->piece;
    int64_t room = f->room;
    if (!wg__room(f->memory, &list, f->pieces, &room, sizeof p))
        return no_memory(f, r->error);
    f->piece = list;
    f->room = (int)room;
    f->piece[f->pieces++] = p;
    return WG_OK;
}

static wg_status read_fields(const reading *r, const wg_ctype *type, const piece *at) {
    wg_status status = WG_OK;
    for (int i = 0; i < type->fields && status == WG_OK; i++) {
        const wg_slot *field = &type->field[i];
        piece in = *at;
        in.offset += field->offset;
        if (field->role && field->type->count > 1)
            status = refuse(r, field, WG_UNSUPPORTED, "an array inside of a struct has no role");
        else if (field->role)
            status = add_piece(r, field, &in);
        else if (field->type->kind == WG_CTYPE_STRUCT && field->type->count == 1)
            status = read_fields(r, field->type, &in);
    }
    return status;
}

static wg_status read_slot(const reading *r, const wg_slot *slot, int parameter) {
    const wg_ctype *type = slot->type;
    piece at = {.parameter = parameter};
    if (slot->role)
        return add_piece(r, slot, &at);
    if (type->kind == WG_CTYPE_STRUCT && parameter >= 0)
        return read_fields(r, type, &at);
    at.through = true;
    return type->kind == WG_CTYPE_POINTER && type->to->kind == WG_CTYPE_STRUCT ? read_fields(r, type->to, &at) : WG_OK;
}

static wg_status read_roles(const reading *r) {
    wg_function *f = r->f;
    wg_status status = WG_OK;
    for (int i = 0; i < f->prototype->parameters && status == WG_OK; i++)
        status = read_slot(r, &f->prototype->parameter[i], i);
    int before = f->pieces;
    if (status == WG_OK)
        status = read_slot(r, &f->prototype->result, -1);
    if (status == WG_OK && f->pieces > before)
        f->result = &f->piece[--f->pieces];
    if (status == WG_OK && !f->result && f->prototype->result.type->kind != WG_CTYPE_VOID)
        return refuse(r, &f->prototype->result, WG_ARGUMENT, "what is returned? say ': value' or ': status' behind the parameters");
    return status;
}

/* ---- contexts ---- */

static void context_free(const wg_function *f, context *c) {
    if (!c)
        return;
    for (int i = 0; c->workspace && c->home && i < wg_plan_output_count(f->plan); i++)
        if (c->home[i])
            wg__move_output(c->workspace, i, c->home[i]);
    wg_workspace_free(c->workspace);
    wg__give(f->memory, c->home);
    wg__give(f->memory, c->number);
    wg__give(f->memory, c);
}

/* A tensor of the context's own in the place of each leaf that a role names. */
static bool bind_leaves(const wg_function *f, context *c) {
    for (int i = 0; i < f->pieces; i++) {
        const piece *p = &f->piece[i];
        if (p->role != ROLE_IN || f->slot[p->number] < 0)
            continue;
        const wg_tensor *like = f->leaf[p->number];
        const wg_shape *shape = wg_tensor_shape(like);
        wg_tensor *own = wg_tensor_wrap(f->memory, wg_tensor_dtype(like), shape->rank, shape->dim, &c->number[p->number], NULL, NULL);
        if (!own)
            return false;
        wg__bind(c->workspace, f->slot[p->number], own);
        wg_tensor_free(own);
    }
    return true;
}

static context *context_new(const wg_function *f) {
    int outputs = wg_plan_output_count(f->plan);
    context *c = wg__take0(f->memory, sizeof *c);
    if (!c)
        return NULL;
    c->workspace = wg_workspace_new(f->plan);
    c->home = wg__take0(f->memory, (size_t)outputs * sizeof *c->home);
    c->number = wg__take0(f->memory, (size_t)(f->options.n + 1) * sizeof *c->number);
    if (!c->workspace || !c->home || !c->number || !bind_leaves(f, c)) {
        context_free(f, c);
        return NULL;
    }
    for (int i = 0; i < outputs; i++)
        c->home[i] = wg_tensor_write((wg_tensor *)(uintptr_t)wg_workspace_output(c->workspace, i));
    return c;
}

/* A free context. */
static context *context_pop(wg_function *f) {
    context *c = atomic_exchange(&f->at_hand, NULL);
    if (!c && f->spare) {
        c = f->spare;
        f->spare = c->next;
    }
    return c;
}

/* One that is free or may be made (then NULL), when there is one to wait for. False, with *error set, if this thread would wait for
 * itself. */
static bool context_wait(wg_function *f, context **c, wg_error *error) {
    bool good = true;
    atomic_fetch_add(&f->waiting, 1); /* before looking: who gives one back then looks here */
    while (!(*c = context_pop(f)) && f->most && f->made == f->most && good) {
        if (is_inside(f)) {
            wg_error_set(error, WG_CONFLICT, "function: called from inside itself, and all %d calls that it may be in are under way", f->most);
            good = false;
        } else {
            pthread_cond_wait(&f->returned, &f->lock);
        }
    }
    atomic_fetch_sub(&f->waiting, 1);
    return good;
}

/* A free context, or a new one; NULL, with *error set, if there can be none. */
static context *context_take(wg_function *f, wg_error *error) {
    context *c = atomic_exchange(&f->at_hand, NULL);
    if (c)
        return c;
    pthread_mutex_lock(&f->lock);
    bool good = context_wait(f, &c, error);
    f->made += good && !c;
    pthread_mutex_unlock(&f->lock);
    if (c || !good || (c = context_new(f)))
        return c;
    pthread_mutex_lock(&f->lock);
    f->made--;
    pthread_cond_broadcast(&f->returned);
    pthread_mutex_unlock(&f->lock);
    no_memory(f, error);
    return NULL;
}

/* c: NULL if the call had none. */
static void context_give(wg_function *f, context *c, const wg_error *error) {
    context *none = NULL;
    bool given = !c || atomic_compare_exchange_strong(&f->at_hand, &none, c);
    if (given && error->status == WG_OK && !atomic_load(&f->waiting))
        return;
    pthread_mutex_lock(&f->lock);
    if (error->status != WG_OK && f->first.status == WG_OK)
        f->first = *error;
    if (!given) {
        c->next = f->spare;
        f->spare = c;
    }
    pthread_cond_broadcast(&f->returned);
    pthread_mutex_unlock(&f->lock);
}

/* ---- a call ---- */

static char *address_of(const piece *p, void **argument) {
    char *at = argument[p->parameter];
    if (p->through)
        at = *(char **)argument[p->parameter];
    return at ? at + p->offset : NULL;
}

/* The array that a piece points to; the piece itself if it is a number. */
static void *data_of(const piece *p, char *at) {
    void *data = at;
    if (p->type->kind == WG_CTYPE_POINTER)
        memcpy(&data, at, sizeof data);
    return data;
}

static wg_status take_in(const wg_function *f, context *c, const piece *p, char *at, wg_error *error) {
    void *data = data_of(p, at);
    int64_t slot = f->slot[p->number];
    if (!data)
        return wg_error_set(error, WG_ARGUMENT, "function: %s is NULL", p->name);
    if (slot < 0)
        return WG_OK;
    if (p->type->kind == WG_CTYPE_POINTER) {
        wg__move_input(c->workspace, slot, data);
        return WG_OK;
    }
    wg_dtype dtype = wg_tensor_dtype(f->leaf[p->number]);
    double value = wg__ctype_get(p->type, data);
    if (dtype == WG_F64)
        c->number[p->number] = value;
    else if (dtype == WG_F32)
        *(float *)(void *)&c->number[p->number] = (float)value;
    else if (value != wg__to_i32(value))
        return wg_error_set(error, WG_RANGE, "function: %s is %g, not an i32", p->name, value);
    else
        *(int32_t *)(void *)&c->number[p->number] = (int32_t)value;
    wg_tensor_write(c->workspace->bound[slot]);
    return WG_OK;
}

static wg_status take_piece(const wg_function *f, context *c, const piece *p, void **argument, wg_error *error) {
    char *at = address_of(p, argument);
    if (!at)
        return wg_error_set(error, WG_ARGUMENT, "function: the struct with %s is NULL", p->name);
    double given, wanted;
    switch (p->role) {
    case ROLE_IN: return take_in(f, c, p, at, error);
    case ROLE_OUT:
        at = data_of(p, at);
        wg__move_output(c->workspace, (int)p->number, at ? (void *)at : c->home[p->number]);
        return WG_OK;
    case ROLE_SIZE:
        given = wg__ctype_get(p->type, at);
        wanted = (double)wg_tensor_shape(f->leaf[p->number])->count;
        return given == wanted ? WG_OK : wg_error_set(error, WG_SHAPE, "function: %s is %.0f, the leaf has %.0f elements", p->name, given, wanted);
    default:
        given = wg__ctype_get(p->type, at);
        return given == 1 ? WG_OK : wg_error_set(error, WG_UNSUPPORTED, "function: %s is %.0f: arrays are read where they lie, without gaps", p->name, given);
    }
}

static wg_status run(const wg_function *f, context *c, void **argument, wg_error *error) {
    wg_status status = WG_OK;
    for (int i = 0; i < f->pieces && status == WG_OK; i++)
        status = take_piece(f, c, &f->piece[i], argument, error);
    return status == WG_OK ? wg_run_in(f->plan, c->workspace, &f->options.run, error) : status;
}

static void spoil(wg_dtype dtype, int64_t count, void *data) {
    for (int64_t i = 0; i < count; i++)
        if (dtype == WG_F64)
            ((double *)data)[i] = (double)NAN;
        else if (dtype == WG_F32)
            ((float *)data)[i] = NAN;
        else
            ((int32_t *)data)[i] = INT32_MIN;
}

/* What a failed call leaves in the caller's arrays. */
static void spoil_outputs(const wg_function *f, void **argument) {
    for (int i = 0; i < f->pieces; i++) {
        const piece *p = &f->piece[i];
        char *at = p->role == ROLE_OUT ? address_of(p, argument) : NULL;
        void *data = at ? data_of(p, at) : NULL;
        const wg_tensor *like = data ? tensor_of(f, p) : NULL;
        if (like)
            spoil(wg_tensor_dtype(like), wg_tensor_shape(like)->count, data);
    }
}

/* libffi wants integers that are returned as a word. */
static void give_number(const wg_ctype *type, double value, void *result) {
    ffi_arg word = 0;
    if (type->kind != WG_CTYPE_INTEGER) {
        wg__ctype_set(type, result, value);
        return;
    }
    if (!wg__ctype_set(type, &word, value))
        wg__ctype_set(type, &word, type->is_signed ? -1 : 0);
    word = type->is_signed ? (ffi_arg)(ffi_sarg)wg__ctype_get(type, &word) : word;
    memcpy(result, &word, sizeof word);
}

static double value_of(const context *c, const piece *p) {
    const wg_tensor *y = wg_workspace_output(c->workspace, (int)p->number);
    return wg_tensor_get(y, 0);
}

static void called(ffi_cif *cif, void *result, void **argument, void *user) {
    wg_function *f = user;
    wg_error error;
    error.status = WG_OK;
    error.text[0] = 0;
    (void)cif;
    atomic_fetch_add(&f->active, 1);
    context *c = context_take(f, &error);
    active own = {f, innermost};
    innermost = &own;
    wg_status status = c ? run(f, c, argument, &error) : error.status;
    if (status != WG_OK)
        spoil_outputs(f, argument);
    if (f->result && f->result->role == ROLE_STATUS)
        give_number(f->result->type, status != WG_OK, result);
    else if (f->result)
        give_number(f->result->type, status == WG_OK ? value_of(c, f->result) : (double)NAN, result);
    if (status != WG_OK && f->options.failed)
        f->options.failed(f->options.user, &error);
    innermost = own.outer;
    context_give(f, c, &error);
    atomic_fetch_sub(&f->active, 1);
}

/* ---- making and freeing ---- */

static bool stores(const wg_plan *plan) {
    for (int64_t s = 0; s < plan->program->tensor_count; s++)
        if (plan->stored[s])
            return true;
    return false;
}

static wg_status take_options(wg_function *f, const wg_function_options *options, wg_error *error) {
    if (options)
        f->options = *options;
    f->options.run.threads = f->options.run.threads > 0 ? f->options.run.threads : 1;
    f->most = stores(f->plan) ? 1 : f->options.most;
    f->options.n = (int)wg__max(f->options.n, 0);
    size_t n = (size_t)f->options.n;
    f->leaf = wg__take0(f->memory, wg__size(n, sizeof *f->leaf, 1));
    f->slot = wg__take0(f->memory, wg__size(n, sizeof *f->slot, 1));
    if (!f->leaf || !f->slot)
        return no_memory(f, error);
    for (size_t k = 0; k < n; k++) {
        if (!f->options.leaf[k])
            return wg_error_set(error, WG_ARGUMENT, "function: leaf %zu is NULL", k);
        f->leaf[k] = wg_tensor_retain(f->options.leaf[k]);
        f->slot[k] = -1;
        for (int64_t s = 0; s < f->plan->program->tensor_count; s++)
            if (f->plan->program->tensors[s] == f->leaf[k])
                f->slot[k] = s;
    }
    return WG_OK;
}

static wg_status make_closure(wg_function *f, wg_error *error) {
    void *code = NULL;
    const wg_prototype *p = f->prototype;
    if (ffi_prep_cif(&f->cif, FFI_DEFAULT_ABI, (unsigned)p->parameters, p->result.type->ffi, p->ffi) != FFI_OK)
        return wg_error_set(error, WG_UNSUPPORTED, "function: libffi cannot express a function of this type");
    f->closure = wg__closure_alloc(sizeof *f->closure, &code);
    if (!f->closure || ffi_prep_closure_loc(f->closure, &f->cif, called, f, code) != FFI_OK)
        return wg_error_set(error, WG_UNSUPPORTED, "function: the system allows no functions made at run time (executable closures)");
    memcpy(&f->code, &code, sizeof f->code);
    return WG_OK;
}

static void function_free(wg_function *f) {
    for (context *c; (c = context_pop(f));)
        context_free(f, c);
    if (f->closure)
        ffi_closure_free(f->closure);
    for (int k = 0; f->leaf && k < f->options.n; k++)
        wg_tensor_free(f->leaf[k]);
    wg__give(f->memory, f->leaf);
    wg__give(f->memory, f->slot);
    wg__give(f->memory, f->piece);
    wg__arena_free(&f->arena);
    pthread_cond_destroy(&f->returned);
    pthread_mutex_destroy(&f->lock);
    wg__give(f->memory, f);
}

wg_function *wg_plan_function(const wg_plan *plan, const char *prototype, const wg_function_options *options, wg_error *error) {
    const wg_source source = {"prototype", prototype, strlen(prototype)};
    wg_error own = {0};
    wg_function *f = wg__take0(plan->memory, sizeof *f);
    if (!f) {
        wg_error_set(error, wg__refusal(plan->memory), "function: no memory");
        return NULL;
    }
    f->memory = f->arena.memory = plan->memory;
    f->plan = plan;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->returned, NULL);
    wg_status status = wg__prototype_parse(&source, &f->arena, &f->prototype, &own);
    if (status == WG_OK)
        status = take_options(f, options, &own);
    if (status == WG_OK)
        status = read_roles(&(reading){f, &source, &own});
    if (status == WG_OK)
        status = make_closure(f, &own);
    if (status == WG_OK && !(f->spare = context_new(f)))
        status = no_memory(f, &own);
    f->made = 1;
    if (status == WG_OK)
        return f;
    wg_error_set(error, own.status, "%s", own.text);
    function_free(f);
    return NULL;
}

void (*wg_function_pointer(const wg_function *f))(void) { return f->code; }

wg_status wg_function_status(wg_function *f, wg_error *error) {
    pthread_mutex_lock(&f->lock);
    wg_error first = f->first;
    f->first = (wg_error){0};
    pthread_mutex_unlock(&f->lock);
    return first.status == WG_OK ? WG_OK : wg_error_set(error, first.status, "%s", first.text);
}

wg_status wg_function_free(wg_function *f) {
    if (!f)
        return WG_OK;
    if (is_inside(f))
        return WG_CONFLICT;
    while (atomic_load(&f->active))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    function_free(f);
    return WG_OK;
}
