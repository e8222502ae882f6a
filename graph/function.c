/* function.c: a plan made a C function: its prototype's roles become links from arguments to leaves and outputs, and libffi makes what is
 * called. Calls themselves are in function_call.c. */
#include "foreign.h"
#include "function.h"

#include <stdio.h>
#include <string.h>

void *(*wg__closure_alloc)(size_t size, void **code) = ffi_closure_alloc;

/* An array is copied that has no more bytes than this and so many for each of its uses, which would have to be moved. */
enum { COPIED_BYTES = 64, COPIED_FOR_A_USE = 16 };

/* ---- roles ---- */

typedef enum role_kind { ROLE_LINK, ROLE_USER, ROLE_STATUS } role_kind;
typedef enum role_number { NO_NUMBER, MAY_NUMBER, MUST_NUMBER } role_number;

typedef struct role {
    const char *name;
    role_kind kind;
    wg_link_kind link;
    role_number number;
    int usual; /* the number where none is written */
} role;

static const role roles[] = {
    {"point", ROLE_LINK, WG_LINK_IN, NO_NUMBER, 0},
    {"in", ROLE_LINK, WG_LINK_IN, MUST_NUMBER, 0},
    {"value", ROLE_LINK, WG_LINK_OUT, NO_NUMBER, 0},
    {"gradient", ROLE_LINK, WG_LINK_OUT, NO_NUMBER, 1},
    {"out", ROLE_LINK, WG_LINK_OUT, MUST_NUMBER, 0},
    {"size", ROLE_LINK, WG_LINK_SIZE, MAY_NUMBER, 0},
    {"count", ROLE_LINK, WG_LINK_COUNT, MAY_NUMBER, 0},
    {"stride", ROLE_LINK, WG_LINK_STRIDE, NO_NUMBER, 0},
    {"user", ROLE_USER, WG_LINK_KINDS, NO_NUMBER, 0},
    {"status", ROLE_STATUS, WG_LINK_KINDS, NO_NUMBER, 0},
};

typedef struct maker {
    wg_function *f;
    wg_source source;
    wg_error *error;
    int64_t room; /* of links */
} maker;

/* Where a parameter, field or result lies, and what is known of it on the way there. */
typedef struct spot {
    const wg_slot *slot;
    wg_route route;
    bool writable;         /* a number or array that lies there */
    const wg_slot *within; /* the first field of the struct around it; NULL: none */
    char name[48];
} spot;

#define AT(m, s, status, ...) wg__source_error(&(m)->source, (m)->error, status, (s)->slot->line, (s)->slot->column, __VA_ARGS__)

static wg_status refused(const maker *m) {
    wg_status why = wg__refusal(m->f->memory);
    return wg_error_set(m->error, why, "a plan's C function: %s", wg_status_sentence(why));
}

static wg_status unknown_role(const maker *m, const spot *s) {
    char known[256] = "";
    size_t used = 0;
    for (int k = 0; k < WG_LEN(roles); k++) {
        const char *name = roles[k].name, *comma = k ? ", " : "";
        const char *form = roles[k].number == NO_NUMBER ? "%s%s" : roles[k].number == MUST_NUMBER ? "%s%s K" : "%s%s, %s K";
        used += (size_t)snprintf(known + used, sizeof known - used, form, comma, name, name);
    }
    return AT(m, s, WG_SYNTAX, "there is no role '%s': %s", s->slot->role, known);
}

static const role *role_of(const maker *m, const spot *s) {
    const role *r = NULL;
    for (int k = 0; k < WG_LEN(roles); k++)
        if (strcmp(roles[k].name, s->slot->role) == 0)
            r = &roles[k];
    if (!r)
        unknown_role(m, s);
    else if (r->number == NO_NUMBER && s->slot->number >= 0)
        AT(m, s, WG_SYNTAX, "the role '%s' has no number", r->name);
    else if (r->number == MUST_NUMBER && s->slot->number < 0)
        AT(m, s, WG_SYNTAX, "the role '%s' wants a number: '%s 0'", r->name, r->name);
    else
        return r;
    return NULL;
}

/* ---- links ---- */

/* Whether the element type of an array is a tensor's. */
static bool is_element(const wg_ctype *t, wg_dtype dtype) {
    return dtype == WG_F64   ? t->kind == WG_CTYPE_DOUBLE
           : dtype == WG_F32 ? t->kind == WG_CTYPE_FLOAT
                             : t->kind == WG_CTYPE_INTEGER && t->size == 4 && t->is_signed;
}

static wg_status wrong_type(const maker *m, const spot *s, const wg_link *l) {
    static const char *const c_name[] = {[WG_F32] = "float", [WG_F64] = "double", [WG_I32] = "int"};
    char text[96];
    return AT(m, s, WG_DTYPE, "%s %lld is %s, an array of %s: it cannot be '%s'", l->kind == WG_LINK_IN ? "leaf" : "output",
              (long long)l->number_named, wg_dtype_name(l->dtype), c_name[l->dtype],
              wg__ctype_text(s->slot->type, text, sizeof text));
}

/* The leaf that a role names: its slot in the plan, and its size. */
static wg_status find_leaf(maker *m, const spot *s, wg_link *l) {
    const wg_function_options *o = &m->f->options;
    const wg_program *p = m->f->plan->program;
    if (l->number_named >= o->n)
        return AT(m, s, WG_NOT_FOUND, "there is no leaf %lld: %d were given", (long long)l->number_named, o->n);
    const wg_tensor *leaf = o->leaf[l->number_named];
    for (l->index = 0; l->index < p->tensor_count && p->tensors[l->index] != leaf;)
        l->index++;
    if (l->index == p->tensor_count)
        return AT(m, s, WG_NOT_FOUND, "the plan does not read leaf %lld", (long long)l->number_named);
    l->count = wg_tensor_shape(leaf)->count;
    l->dtype = wg_tensor_dtype(leaf);
    return WG_OK;
}

static wg_status find_output(maker *m, const spot *s, wg_link *l) {
    int n = wg_plan_output_count(m->f->plan);
    if (l->number_named >= n)
        return AT(m, s, WG_NOT_FOUND, "there is no output %lld: the plan has %d", (long long)l->number_named, n);
    const wg_tensor *output = wg_plan_output(m->f->plan, (int)l->number_named);
    l->index = l->number_named;
    l->count = wg_tensor_shape(output)->count;
    l->dtype = wg_tensor_dtype(output);
    return WG_OK;
}

/* Whose K is l's. */
static wg_status find_tensor(maker *m, const spot *s, wg_link *l) {
    if (l->kind == WG_LINK_STRIDE)
        return l->count = 1, WG_OK;
    return l->kind == WG_LINK_IN || l->kind == WG_LINK_SIZE ? find_leaf(m, s, l) : find_output(m, s, l);
}

/* A leaf or an output has one place in a call, and a leaf is not written to meanwhile. */
static wg_status check_claim(const maker *m, const spot *s, const wg_link *l) {
    const wg_function *f = m->f;
    for (int k = 0; k < f->link_count; k++)
        if (f->links[k].kind == l->kind && f->links[k].index == l->index)
            return AT(m, s, WG_CONFLICT, "%s is %s %lld already", f->links[k].name, l->kind == WG_LINK_IN ? "leaf" : "output",
                      (long long)f->links[k].number_named);
    if (l->kind == WG_LINK_IN && f->plan->stored[l->index])
        return AT(m, s, WG_CONFLICT, "the plan stores to leaf %lld, so it cannot be an argument", (long long)l->number_named);
    return WG_OK;
}

/* A size, a count or a stride: an integer, or a pointer to one. */
static wg_status link_integer(maker *m, const spot *s, wg_link *l) {
    const wg_ctype *t = s->slot->type;
    char text[96];
    l->number = t;
    if (t->kind == WG_CTYPE_POINTER) {
        l->number = t->to;
        l->route.offset[++l->route.through] = 0;
    }
    if (l->number->kind != WG_CTYPE_INTEGER || t->count != 1)
        return AT(m, s, WG_DTYPE, "'%s' is no integer, as a %s is", wg__ctype_text(t, text, sizeof text), s->slot->role);
    return WG_OK;
}

/* One number, an array that a pointer leads to, or one that lies there itself, as a field. */
static wg_status link_tensor(maker *m, const spot *s, wg_link *l) {
    const wg_ctype *t = s->slot->type;
    const char *what = l->kind == WG_LINK_IN ? "leaf" : "output";
    bool writable = s->writable && !t->is_const;
    int64_t count = t->count;
    if (t->kind == WG_CTYPE_POINTER && t->count == 1) {
        writable = !t->is_const && !t->to->is_const;
        count = l->count;
        l->route.offset[++l->route.through] = 0;
        t = t->to;
    } else if (wg__ctype_is_number(t) && t->count == 1) {
        l->number = t;
    }
    if (!l->number && !is_element(t, l->dtype))
        return wrong_type(m, s, l);
    if (count != l->count)
        return AT(m, s, WG_SHAPE, "%s %lld has %lld elements, not %lld", what, (long long)l->number_named, (long long)l->count,
                  (long long)count);
    if (l->kind == WG_LINK_OUT && !writable)
        return AT(m, s, WG_ARGUMENT, "an output cannot be written here: %s", s->slot->type->kind == WG_CTYPE_POINTER || t->is_const ?
                  "it is const" : "it is passed by value or const");
    return WG_OK;
}

static wg_status placeless(const maker *m, const spot *s) {
    return AT(m, s, WG_UNSUPPORTED, "what a pointer that is returned leads to has no place: roles are for numbers and structs");
}

static bool costs_less_copied(const wg_function *f, const wg_link *l) {
    int64_t uses = l->kind == WG_LINK_IN ? wg__slot_uses(f->plan, l->index) : wg__output_uses(f->plan, (int)l->index);
    return l->number || (int64_t)l->bytes <= COPIED_BYTES + COPIED_FOR_A_USE * uses;
}

/* Links stand by kind, and those of a kind as in the prototype: of two outputs in one place the later is written last. */
static wg_status add_link(maker *m, const spot *s, const role *r) {
    wg_function *f = m->f;
    wg_link l = {.kind = r->link, .route = s->route, .within = s->within, .number_named = s->slot->number >= 0 ? s->slot->number : r->usual};
    bool is_tensor = l.kind == WG_LINK_IN || l.kind == WG_LINK_OUT;
    memcpy(l.name, s->name, sizeof l.name);
    if (s->route.parameter < 0 && l.kind != WG_LINK_OUT)
        return AT(m, s, WG_ARGUMENT, "what is returned cannot be '%s'", r->name);
    wg_status status = find_tensor(m, s, &l);
    if (status == WG_OK && is_tensor)
        status = check_claim(m, s, &l);
    if (status == WG_OK)
        status = is_tensor ? link_tensor(m, s, &l) : link_integer(m, s, &l);
    if (status == WG_OK && s->route.parameter < 0 && l.route.through > 0)
        status = placeless(m, s);
    if (status != WG_OK)
        return status;
    l.element = is_tensor ? wg_dtype_size(l.dtype) : 0;
    l.bytes = (size_t)l.count * l.element;
    l.copied = is_tensor && costs_less_copied(f, &l);
    if (!wg__room(f->memory, (void **)&f->links, f->link_count, &m->room, sizeof *f->links))
        return refused(m);
    int at = f->link_count++;
    for (; at > 0 && f->links[at - 1].kind > l.kind; at--)
        f->links[at] = f->links[at - 1];
    f->links[at] = l;
    f->first_in += l.kind < WG_LINK_IN;
    f->first_out += l.kind < WG_LINK_OUT;
    return WG_OK;
}

/* ---- the prototype ---- */

/* Whether roles stand in a type, however far in. */
static bool has_roles(const wg_ctype *t) {
    while (t->kind == WG_CTYPE_POINTER)
        t = t->to;
    for (int k = 0; t->kind == WG_CTYPE_STRUCT && k < t->fields; k++)
        if (t->field[k].role || has_roles(t->field[k].type))
            return true;
    return false;
}

static wg_status walk(maker *m, const spot *s);

static wg_status walk_fields(maker *m, const spot *around, const wg_ctype *type, bool writable) {
    wg_status status = WG_OK;
    for (int k = 0; k < type->fields && status == WG_OK; k++) {
        spot s = *around;
        s.slot = &type->field[k];
        s.within = type->field;
        s.writable = writable;
        s.route.offset[s.route.through] += s.slot->offset;
        snprintf(s.name, sizeof s.name, "%.22s.%.22s", around->name, s.slot->name ? s.slot->name : "?");
        status = walk(m, &s);
    }
    return status;
}

static wg_status set_status_role(maker *m, const spot *s) {
    if (s->slot != &m->f->prototype->result || !wg__ctype_is_number(s->slot->type))
        return AT(m, s, WG_ARGUMENT, "'status' is what is returned, a number");
    m->f->tells_status = true;
    return WG_OK;
}

static wg_status walk(maker *m, const spot *s) {
    const wg_ctype *t = s->slot->type;
    if (s->slot->fixed)
        return AT(m, s, WG_SYNTAX, "a value is for functions that are called; here the caller gives it");
    if (s->slot->role) {
        const role *r = role_of(m, s);
        if (!r)
            return WG_SYNTAX;
        if (r->kind == ROLE_STATUS)
            return set_status_role(m, s);
        return r->kind == ROLE_USER && s->route.parameter >= 0 ? WG_OK : add_link(m, s, r);
    }
    if (!has_roles(t))
        return WG_OK;
    if (t->count == 1 && t->kind == WG_CTYPE_STRUCT)
        return walk_fields(m, s, t, s->writable && !t->is_const);
    if (t->count != 1 || t->to->kind != WG_CTYPE_STRUCT || s->route.through == WG_PROTOTYPE_DEPTH)
        return AT(m, s, WG_UNSUPPORTED, "roles in arrays of structs, and behind more than one pointer, are not read");
    spot there = *s;
    there.route.offset[++there.route.through] = 0;
    return walk_fields(m, &there, t->to, !t->is_const && !t->to->is_const);
}

static wg_status walk_result(maker *m) {
    const wg_slot *slot = &m->f->prototype->result;
    spot s = {.slot = slot, .route.parameter = -1, .writable = true, .name = "the result"};
    bool is_pointer = slot->type->kind == WG_CTYPE_POINTER;
    if (slot->type->kind == WG_CTYPE_STRUCT && !has_roles(slot->type))
        return AT(m, &s, WG_UNSUPPORTED, "a struct without roles in its fields is returned");
    if (is_pointer && (slot->role || has_roles(slot->type)))
        return placeless(m, &s);
    m->f->blank = slot->role ? 0 : slot->type->size;
    return walk(m, &s);
}

static wg_status read_prototype(maker *m) {
    wg_function *f = m->f;
    wg_status status = wg__prototype_parse(&m->source, &f->arena, &f->prototype, m->error);
    if (status == WG_OK)
        status = walk_result(m);
    for (int k = 0; status == WG_OK && k < f->prototype->parameters; k++) {
        const wg_slot *slot = &f->prototype->parameter[k];
        spot s = {.slot = slot, .route.parameter = k};
        if (slot->name)
            snprintf(s.name, sizeof s.name, "%.40s", slot->name);
        else
            snprintf(s.name, sizeof s.name, "parameter %d", k + 1);
        status = walk(m, &s);
    }
    return status;
}

/* ---- making ---- */

static wg_status make_closure(wg_function *f, wg_error *error) {
    const wg_prototype *t = f->prototype;
    f->closure = wg__closure_alloc(sizeof *f->closure, &f->code);
    if (!f->closure)
        return wg_error_set(error, WG_UNSUPPORTED, "a plan's C function: the system allows no executable closures");
    if (ffi_prep_cif(&f->cif, FFI_DEFAULT_ABI, (unsigned)t->parameters, t->result.type->ffi, t->ffi) != FFI_OK ||
        ffi_prep_closure_loc(f->closure, &f->cif, wg__function_called, f, f->code) != FFI_OK)
        return wg_error_set(error, WG_UNSUPPORTED, "a plan's C function: libffi cannot make a closure of this type");
    return WG_OK;
}

/* Whether it calls C functions that are not safe for two threads. */
static bool has_serial(const wg_plan *plan) {
    bool any = false;
    for (int64_t id = 1; id < plan->program->count && !any; id++) {
        const wg_bound *b = wg__bound_of(plan->program->list[id].op);
        any = b && b->serial;
    }
    return any;
}

static bool has_stores(const wg_plan *plan) {
    for (int64_t k = 0; k < plan->program->tensor_count; k++)
        if (plan->stored[k])
            return true;
    return false;
}

static wg_status check_options(const wg_function_options *o, const char *prototype, wg_error *error) {
    bool good = prototype && o->n >= 0 && o->most >= 0 && (o->n == 0 || o->leaf);
    for (int k = 0; good && k < o->n; k++)
        good = o->leaf[k];
    return good ? WG_OK : wg_error_set(error, WG_ARGUMENT, "a plan's C function: no prototype, a leaf that is NULL, or a negative number");
}

/* All but the locks, of which a function without a first seat has none. */
static void release(wg_function *f) {
    if (f->closure)
        ffi_closure_free(f->closure);
    wg__give(f->memory, f->links);
    wg__arena_free(&f->arena);
    wg__give(f->memory, f);
}

static wg_status make(maker *m, const char *prototype) {
    wg_function *f = m->f;
    m->source = (wg_source){"prototype", prototype, strlen(prototype)};
    wg_status status = read_prototype(m);
    if (status == WG_OK)
        status = make_closure(f, m->error);
    wg_seat *first = status == WG_OK ? wg__seat_new(f) : NULL;
    if (!first)
        return status == WG_OK ? refused(m) : status;
    f->seats.spare = (uintptr_t)first;
    f->seats.made = 1;
    pthread_mutex_init(&f->seats.lock, NULL);
    pthread_cond_init(&f->seats.news, NULL);
    return WG_OK;
}

wg_function *wg_plan_function(const wg_plan *plan, const char *prototype, const wg_function_options *options, wg_error *error) {
    wg_function_options o = options ? *options : (wg_function_options){0};
    if (check_options(&o, prototype, error) != WG_OK)
        return NULL;
    wg_function *f = wg__take0(plan->memory, sizeof *f);
    if (!f) {
        wg__program_no_memory(plan->program, error);
        return NULL;
    }
    f->plan = plan;
    f->memory = f->arena.memory = plan->memory;
    f->options = o;
    f->options.run.threads = o.run.threads ? o.run.threads : 1;
    f->serial = has_serial(plan);
    f->seats.most = has_stores(plan) ? 1 : o.most;
    if (make(&(maker){.f = f, .error = error}, prototype) == WG_OK) {
        f->options.leaf = NULL; /* the caller's, and read no more */
        return f;
    }
    release(f);
    return NULL;
}

void (*wg_function_pointer(const wg_function *f))(void) {
    void (*pointer)(void);
    memcpy(&pointer, &f->code, sizeof pointer);
    return pointer;
}

wg_status wg_function_status(wg_function *f, wg_error *error) {
    pthread_mutex_lock(&f->seats.lock);
    wg_status status = f->first.status;
    if (status != WG_OK)
        wg_error_set(error, status, "%s", f->first.text);
    f->first.status = WG_OK;
    pthread_mutex_unlock(&f->seats.lock);
    return status;
}

wg_status wg_function_free(wg_function *f) {
    if (!f)
        return WG_OK;
    if (wg__function_active(f))
        return WG_CONFLICT;
    wg__seats_close(f);
    pthread_mutex_destroy(&f->seats.lock);
    pthread_cond_destroy(&f->seats.news);
    release(f);
    return WG_OK;
}
