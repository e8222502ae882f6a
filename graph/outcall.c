/* outcall.c: the kernels that call a C function, element by element or row by row, and the shapes of what it takes and makes. */
#include "foreign.h"
#include "ops.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static wg_status elements_run(wg_call *call);
static wg_status rows_run(wg_call *call);
static wg_status rows_shape(wg_infer *q);
static uint32_t rows_cut(const wg_infer *q);

void wg__bound_set_kernel(wg_bound *b, bool map) {
    b->op.kind = map ? WG_POINTWISE : WG_REDUCTION;
    b->op.run = map ? elements_run : rows_run;
    b->op.shape = map ? NULL : rows_shape;
    b->op.rows = map ? NULL : rows_cut;
}

const wg_bound *wg__bound_of(const wg_op *op) {
    return op->run == elements_run || op->run == rows_run ? (const wg_bound *)op : NULL;
}

/* ---- failures ---- */

/* The failure of the lowest element or row, whatever the number of threads. */
typedef struct failure {
    pthread_mutex_t lock;
    int64_t at; /* INT64_MAX: none */
    int64_t before; /* elements or rows of the whole that the call is for, before its own: counted in what is told */
    wg_status status;
    char text[256];
} failure;

static const failure NONE = {.lock = PTHREAD_MUTEX_INITIALIZER, .at = INT64_MAX};

static void fail_at(failure *f, int64_t at, wg_status status, const char *format, ...) WG_PRINTF(4, 5);

static void fail_at(failure *f, int64_t at, wg_status status, const char *format, ...) {
    pthread_mutex_lock(&f->lock);
    if (at < f->at) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(f->text, sizeof f->text, format, arguments);
        va_end(arguments);
        f->at = at;
        f->status = status;
    }
    pthread_mutex_unlock(&f->lock);
}

/* Of a call for so many elements or rows. */
static failure none_of(const wg_call *call, int64_t count) {
    failure f = NONE;
    f.before = wg__before(call, count);
    return f;
}

static wg_status outcome(wg_call *call, const failure *f) {
    return f->at == INT64_MAX ? WG_OK : wg_call_fail(call, f->status, "%s", f->text);
}

/* ---- calls ---- */

/* Functions that are not safe to be called by two threads share what they do not say: so one lock for all. A function may call
 * back and come here again. */
static pthread_mutex_t serial_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static _Thread_local int serial_depth;

void wg__serial_enter(void) {
    pthread_mutex_lock(&serial_lock);
    serial_depth++;
}

void wg__serial_leave(void) {
    serial_depth--;
    pthread_mutex_unlock(&serial_lock);
}

bool wg__serial_inside(void) { return serial_depth > 0; }

/* All n elements or rows, in chunks on the team's threads, or on this one alone. */
static void call_all(const wg_bound *b, const wg_team *team, int64_t n, int64_t grain, void (*work)(void *user, int64_t from, int64_t to),
                     void *user) {
    if (!b->serial) {
        wg__rows(team, n, grain, work, user);
        return;
    }
    wg__serial_enter();
    work(user, 0, n);
    wg__serial_leave();
}

typedef union number {
    double f64;
    float f32;
    int64_t whole;
    ffi_arg result; /* libffi widens integers that are returned */
    void *pointer;
} number;

static double load(wg_dtype dtype, const void *data, int64_t i) {
    return dtype == WG_F64 ? ((const double *)data)[i] : dtype == WG_F32 ? (double)((const float *)data)[i] : ((const int32_t *)data)[i];
}

static void store(wg_dtype dtype, void *data, int64_t i, double value) {
    if (dtype == WG_F64)
        ((double *)data)[i] = value;
    else if (dtype == WG_F32)
        ((float *)data)[i] = (float)value;
    else
        ((int32_t *)data)[i] = wg__to_i32(value);
}

/* What is returned; libffi gives integers narrower than a word as a word. */
static inline double returned(const wg_ctype *type, const number *y) {
    if (type->kind == WG_CTYPE_DOUBLE)
        return y->f64;
    if (type->kind != WG_CTYPE_INTEGER || type->size == sizeof(ffi_arg))
        return wg__ctype_get(type, y);
    return type->is_signed ? (double)(ffi_sarg)y->result : (double)y->result;
}

static void set_fixed(const wg_bound *b, int parameter, number *to) {
    const wg_slot *slot = &b->prototype->parameter[parameter];
    to->whole = 0;
    if (slot->type->kind != WG_CTYPE_POINTER)
        wg__ctype_set(slot->type, to, slot->value);
    else if (!slot->fixed)
        to->pointer = b->user;
}

/* A number as an argument; false if an integer cannot hold it. */
static inline bool set_number(const wg_port *port, number *to, double x) {
    const wg_ctype *type = port->slot->type;
    if (type->kind == WG_CTYPE_DOUBLE)
        to->f64 = x;
    else if (type->kind == WG_CTYPE_FLOAT)
        to->f32 = (float)x;
    else
        return wg__ctype_set(type, to, x);
    return true;
}

static const char *type_name(const wg_port *port, char *text, size_t size) { return wg__ctype_text(port->slot->type, text, size); }

/* ---- element by element ---- */

typedef struct elements {
    const wg_call *call;
    const wg_bound *b;
    failure failure;
} elements;

/* The arguments of one call after another: those that are fixed stay. */
typedef struct arguments {
    number value[WG_PROTOTYPE_PARAMETERS];
    void *at[WG_PROTOTYPE_PARAMETERS];
    number *operand[WG_PORTS];
} arguments;

static void arguments_begin(arguments *a, const wg_bound *b) {
    for (int i = 0; i < b->prototype->parameters; i++) {
        a->at[i] = &a->value[i];
        if (b->argument[i].kind == WG_ARGUMENT_FIXED)
            set_fixed(b, i, &a->value[i]);
        else
            a->operand[b->argument[i].port] = &a->value[i];
    }
}

/* Through libffi. false: an operand is no integer. */
static bool call_element(const wg_bound *b, arguments *a, const double *x, int64_t at, failure *f, double *y) {
    number result;
    char text[40];
    for (int k = 0; k < b->operands; k++) {
        const wg_port *port = &b->operand[k];
        if (!set_number(port, a->operand[k], x[k])) {
            fail_at(f, at, WG_RANGE, "%s is %g, no value of '%s' (element %lld)", port->name, x[k], type_name(port, text, sizeof text),
                    (long long)(f->before + at));
            return false;
        }
    }
    ffi_call((ffi_cif *)(uintptr_t)&b->cif, b->function, &result, a->at);
    *y = returned(b->prototype->result.type, &result);
    return true;
}

typedef double map1(double), map2(double, double), map3(double, double, double);

static double call_doubles(const wg_bound *b, const double *x) {
    switch (b->operands) {
    case 1: return ((map1 *)b->function)(x[0]);
    case 2: return ((map2 *)b->function)(x[0], x[1]);
    default: return ((map3 *)b->function)(x[0], x[1], x[2]);
    }
}

static void made_nan(const wg_bound *b, const double *x, int64_t at, failure *f) {
    char list[120];
    size_t used = 0;
    for (int k = 0; k < b->operands; k++) {
        if (isnan(x[k]))
            return;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.9g", k ? ", " : "", x[k]);
    }
    fail_at(f, at, WG_NONFINITE, "%s(%s) is NaN (element %lld)", b->prototype->name ? b->prototype->name : b->op.name, list,
            (long long)(f->before + at));
}

static void call_elements(void *user, int64_t from, int64_t to) {
    elements *e = user;
    const wg_bound *b = e->b;
    const wg_dtype dtype = e->call->out.dtype;
    arguments own;
    arguments_begin(&own, b);
    unsigned mode = wg__float_mode_enter(true);
    for (int64_t i = from; i < to; i++) {
        double x[3], y;
        for (int k = 0; k < b->operands; k++)
            x[k] = load(dtype, e->call->in[k].data, i);
        if (b->direct)
            y = call_doubles(b, x);
        else if (!call_element(b, &own, x, i, &e->failure, &y))
            break;
        if (isnan(y) && !b->nan)
            made_nan(b, x, i, &e->failure);
        store(dtype, e->call->out.data, i, y);
    }
    wg__float_mode_leave(mode);
}

static wg_status elements_run(wg_call *call) {
    enum { GRAIN = 1024 };
    elements e = {call, (const wg_bound *)call->op, none_of(call, call->out.shape->count)};
    call_all(e.b, call->team, call->out.shape->count, GRAIN, call_elements, &e);
    return outcome(call, &e.failure);
}

/* ---- shapes of what is called row by row ---- */

/* A length, when the sizes of parameters are known. False: it is negative or too large. */
static bool length_of(const wg_bound *b, const wg_ast *ast, const int64_t *size, int64_t *length) {
    int64_t x, y = 0;
    bool good = true;
    switch (ast->kind) {
    case WG_AST_NUMBER: *length = (int64_t)ast->value; return true;
    case WG_AST_NAME: *length = size[ast->symbol]; return true;
    default: break;
    }
    good = length_of(b, ast->arg[0], size, &x) && length_of(b, ast->arg[1], size, &y);
    if (!good)
        return false;
    switch (ast->kind) {
    case WG_AST_ADD: return !__builtin_add_overflow(x, y, length);
    case WG_AST_SUB: return !__builtin_sub_overflow(x, y, length);
    default: return !__builtin_mul_overflow(x, y, length);
    }
}

/* A fixed value as a size: what is no number of elements is too large a one. */
static int64_t whole_of(const wg_slot *slot) { return fabs(slot->value) < 0x1p62 ? (int64_t)slot->value : INT64_C(1) << 62; }

/* Sizes by parameter, from the operands' last axes. The first operand that names a size says it. */
static void sizes_of(const wg_bound *b, const wg_shape *const *in, int64_t *size) {
    for (int i = 0; i < b->prototype->parameters; i++)
        size[i] = b->prototype->parameter[i].fixed ? whole_of(&b->prototype->parameter[i]) : -1;
    for (int k = 0; k < b->operands; k++) {
        const wg_port *port = &b->operand[k];
        for (int a = 0; a < port->rank; a++)
            if (port->length[a]->kind == WG_AST_NAME && size[port->length[a]->symbol] < 0)
                size[port->length[a]->symbol] = in[k]->dim[in[k]->rank - wg__port_rank(port) + a];
    }
}

/* The last axes of a port: its lengths, and its struct's numbers. */
static bool axes_of(const wg_bound *b, const wg_port *port, const int64_t *size, int64_t *dim) {
    for (int a = 0; a < port->rank; a++)
        if (!length_of(b, port->length[a], size, &dim[a]) || dim[a] < 0)
            return false;
    if (port->tail)
        dim[port->rank] = port->tail;
    return true;
}

static wg_status check_operand(wg_infer *q, const wg_bound *b, int k, const int64_t *size) {
    const wg_port *port = &b->operand[k];
    const wg_shape *shape = q->in[k];
    int64_t dim[WG_MAX_RANK];
    char text[100];
    int rows = shape->rank - wg__port_rank(port);
    if (port->dtype && q->in_dtype[k] != port->dtype)
        return wg_infer_fail(q, WG_DTYPE, "%s is %s, '%s' takes %s", port->name, wg_dtype_name(q->in_dtype[k]), type_name(port, text, sizeof text),
                             wg_dtype_name(port->dtype));
    if (!axes_of(b, port, size, dim))
        return wg_infer_fail(q, WG_RANGE, "a length of %s is negative or too large", port->name);
    wg_shape own;
    if (wg__shape_set(&own, wg__port_rank(port), dim) != WG_OK)
        return wg_infer_fail(q, WG_RANGE, "%s is too large", port->name);
    if (own.rank && memcmp(shape->dim + rows, own.dim, sizeof *dim * (size_t)own.rank) != 0)
        return wg_infer_fail(q, WG_SHAPE, "%s is %s, the function takes %s", port->name, WG_SHAPE_TEXT(shape), WG_SHAPE_TEXT(&own));
    return WG_OK;
}

static wg_status check_rows(wg_infer *q, const wg_bound *b, int *rows) {
    for (int k = 0; k < b->operands; k++) {
        int lead = q->in[k]->rank - wg__port_rank(&b->operand[k]);
        if (lead < 0)
            return wg_infer_fail(q, WG_SHAPE, "%s is %s, the function takes %d axes", b->operand[k].name, WG_SHAPE_TEXT(q->in[k]),
                                 wg__port_rank(&b->operand[k]));
        if (k == 0)
            *rows = lead;
        if (lead != *rows || memcmp(q->in[k]->dim, q->in[0]->dim, sizeof *q->in[0]->dim * (size_t)lead) != 0)
            return wg_infer_fail(q, WG_SHAPE, "%s is %s and %s is %s: they have not the same rows", b->operand[0].name,
                                 WG_SHAPE_TEXT(q->in[0]), b->operand[k].name, WG_SHAPE_TEXT(q->in[k]));
    }
    return WG_OK;
}

static wg_status check_parameters(wg_infer *q, const wg_bound *b, const int64_t *size) {
    for (int i = 0; i < b->prototype->parameters; i++) {
        number to;
        const wg_slot *slot = &b->prototype->parameter[i];
        if (b->argument[i].kind == WG_ARGUMENT_SIZE && !wg__ctype_set(slot->type, &to, (double)size[i]))
            return wg_infer_fail(q, WG_RANGE, "%s is %lld: more than its type holds", slot->name ? slot->name : "the size", (long long)size[i]);
    }
    return WG_OK;
}

/* The result's last axes: of its one part, or all parts in a row. */
static wg_status out_axes(wg_infer *q, const wg_bound *b, const int64_t *size, int *rank, int64_t *dim) {
    int64_t all = 0, count;
    for (int k = 0; k < b->outs; k++) {
        wg_shape part;
        if (!axes_of(b, &b->out[k], size, dim) || wg__shape_set(&part, wg__port_rank(&b->out[k]), dim) != WG_OK)
            return wg_infer_fail(q, WG_RANGE, "a length of the result is negative or too large");
        count = part.count;
        if (__builtin_add_overflow(all, count, &all))
            return wg_infer_fail(q, WG_RANGE, "the results are too large");
    }
    *rank = b->outs == 1 ? wg__port_rank(&b->out[0]) : 1;
    if (b->outs > 1)
        dim[0] = all;
    return WG_OK;
}

static wg_status rows_shape(wg_infer *q) {
    const wg_bound *b = (const wg_bound *)q->op;
    int64_t size[WG_PROTOTYPE_PARAMETERS], dim[2 * WG_MAX_RANK], own[WG_MAX_RANK];
    int rows = 0, rank = 0;
    wg_status status = check_rows(q, b, &rows);
    if (status != WG_OK)
        return status;
    sizes_of(b, q->in, size);
    for (int k = 0; k < b->operands && status == WG_OK; k++)
        status = check_operand(q, b, k, size);
    if (status == WG_OK)
        status = check_parameters(q, b, size);
    if (status == WG_OK)
        status = out_axes(q, b, size, &rank, own);
    if (status != WG_OK)
        return status;
    memcpy(dim, q->in[0]->dim, sizeof *dim * (size_t)rows);
    memcpy(dim + rows, own, sizeof *dim * (size_t)rank);
    q->dtype = wg__out_dtype(&b->out[0]);
    if (rows + rank > WG_MAX_RANK || wg__shape_set(&q->out, rows + rank, dim) != WG_OK)
        return wg_infer_fail(q, WG_RANGE, "the result has too many axes or elements");
    return WG_OK;
}

static uint32_t rows_cut(const wg_infer *q) {
    const wg_bound *b = (const wg_bound *)q->op;
    return q->in[0]->rank > wg__port_rank(&b->operand[0]) ? wg__rows_all(q) : 0;
}

static bool follows(const wg_bound *b, const wg_ast *ast) {
    bool all = ast->kind != WG_AST_NAME || b->prototype->parameter[ast->symbol].fixed;
    for (int i = 0; i < ast->n && all; i++)
        all = follows(b, ast->arg[i]);
    return all;
}

bool wg__bound_length(const wg_bound *b, const wg_port *port, int64_t *length) {
    int64_t size[WG_PROTOTYPE_PARAMETERS];
    for (int i = 0; i < b->prototype->parameters; i++)
        size[i] = whole_of(&b->prototype->parameter[i]);
    return follows(b, port->length[0]) && length_of(b, port->length[0], size, length) && *length > 0;
}

const char *wg__bound_words(const wg_bound *b, int rows, char *text, size_t size) {
    int64_t sizes[WG_PROTOTYPE_PARAMETERS], dim[WG_MAX_RANK] = {0};
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < b->prototype->parameters; i++)
        sizes[i] = b->prototype->parameter[i].fixed ? whole_of(&b->prototype->parameter[i]) : 2 + i % 3;
    for (int k = 0; k < b->operands; k++) {
        const wg_port *port = &b->operand[k];
        bool lead = rows && !(rows == 2 && k == 0 && b->operands > 1);
        if (port->slot->type->kind == WG_CTYPE_INTEGER) {
            used += (size_t)snprintf(text + used, size - used, "%sc", k ? " " : "");
            continue;
        }
        axes_of(b, port, sizes, dim);
        const char *end = wg__port_rank(port) || lead ? "" : "()";
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", k ? " " : "", port->dtype == WG_I32 ? "i4:" : "", lead ? "2" : "", end);
        for (int a = 0; a < wg__port_rank(port) && used + 24 < size; a++)
            used += (size_t)snprintf(text + used, size - used, "%s%lld", a || lead ? "," : "", (long long)dim[a]);
        if (used + 24 >= size)
            break;
    }
    return text;
}

/* ---- row by row ---- */

typedef struct rows {
    wg_call *call;
    const wg_bound *b;
    int64_t size[WG_PROTOTYPE_PARAMETERS];
    int64_t in[WG_PORTS], out[WG_PORTS], made; /* elements of a row */
    failure failure;
} rows;

/* Structs by value of a call. */
typedef struct boxes {
    _Alignas(16) char bytes[WG_BOXES];
    size_t used;
} boxes;

static void *box(boxes *b, const wg_ctype *type) {
    void *to = b->bytes + b->used;
    b->used += wg__boxed(type);
    return to;
}

static const char *row_of(const rows *r, int k, int64_t row) {
    return (const char *)r->call->in[k].data + (size_t)(row * r->in[k]) * wg_dtype_size(r->call->in[k].dtype);
}

static char *result_of(const rows *r, int k, int64_t row) {
    int64_t at = row * r->made;
    for (int i = 0; i < k; i++)
        at += r->out[i];
    return (char *)r->call->out.data + (size_t)at * wg_dtype_size(r->call->out.dtype);
}

/* An operand as an argument; false if a number does not fit. */
static bool pass(const rows *r, int k, int64_t row, number *value, boxes *b, void **argument) {
    const wg_port *port = &r->b->operand[k];
    const char *from = row_of(r, k, row);
    const wg_dtype dtype = r->call->in[k].dtype;
    if (port->slot->type->kind == WG_CTYPE_POINTER) {
        value->pointer = (void *)(uintptr_t)from;
        return true;
    }
    if (!port->scalar)
        return set_number(port, value, load(dtype, from, 0));
    char *to = *argument = box(b, port->slot->type);
    memset(to, 0, port->slot->type->ffi->size);
    for (int64_t i = 0; i < port->tail; i++)
        if (!wg__ctype_set(port->scalar[i].type, to + port->scalar[i].offset, load(dtype, from, i)))
            return false;
    return true;
}

static void take_result(const rows *r, int64_t row, const void *result) {
    const wg_port *port = &r->b->out[0];
    char *to = result_of(r, 0, row);
    if (!port->scalar)
        store(r->call->out.dtype, to, 0, returned(port->slot->type, result));
    for (int64_t i = 0; port->scalar && i < port->tail; i++)
        store(r->call->out.dtype, to, i, wg__ctype_get(port->scalar[i].type, (const char *)result + port->scalar[i].offset));
}

/* Zero times a number is zero unless it is NaN or infinite: in 16 chains, of which the compiler makes vectors. What stands out is looked
 * at once more. */
#define ANY_NAN(T)                                                                                                             \
    static bool any_nan_##T(const T *x, int64_t n) {                                                                           \
        T chain[16] = {0}, all = 0;                                                                                            \
        bool any = false;                                                                                                      \
        int64_t i = 0;                                                                                                         \
        for (; i + 16 <= n; i += 16)                                                                                           \
            for (int k = 0; k < 16; k++)                                                                                       \
                chain[k] += 0 * x[i + k];                                                                                      \
        for (int k = 0; k < 16; k++)                                                                                           \
            all += chain[k];                                                                                                   \
        for (int64_t k = all == 0 ? i : 0; k < n && !any; k++)                                                                 \
            any = isnan(x[k]);                                                                                                 \
        return any;                                                                                                            \
    }
ANY_NAN(float)
ANY_NAN(double)

static bool any_nan(wg_dtype dtype, const void *data, int64_t n) {
    return dtype == WG_F32 ? any_nan_float(data, n) : dtype == WG_F64 && any_nan_double(data, n);
}

static bool nan_of_numbers(const rows *r, int64_t row) {
    if (r->b->nan || !any_nan(r->call->out.dtype, result_of(r, 0, row), r->made))
        return false;
    for (int k = 0; k < r->b->operands; k++)
        if (any_nan(r->call->in[k].dtype, row_of(r, k, row), r->in[k]))
            return false;
    return true;
}

/* One call; false if it failed. */
static bool call_row(rows *r, int64_t row) {
    const wg_bound *b = r->b;
    number value[WG_PROTOTYPE_PARAMETERS];
    void *argument[WG_PROTOTYPE_PARAMETERS];
    boxes own;
    own.used = 0;
    for (int i = 0; i < b->prototype->parameters; i++) {
        argument[i] = &value[i];
        switch (b->argument[i].kind) {
        case WG_ARGUMENT_FIXED: set_fixed(b, i, &value[i]); break;
        case WG_ARGUMENT_SIZE: wg__ctype_set(b->prototype->parameter[i].type, &value[i], (double)r->size[i]); break;
        case WG_ARGUMENT_OUT: value[i].pointer = result_of(r, b->argument[i].port, row); break;
        case WG_ARGUMENT_OPERAND:
            if (pass(r, b->argument[i].port, row, &value[i], &own, &argument[i]))
                break;
            fail_at(&r->failure, row, WG_RANGE, "%s holds what its type does not (row %lld)", b->operand[b->argument[i].port].name,
                    (long long)(r->failure.before + row));
            return false;
        }
    }
    const wg_ctype *type = b->prototype->result.type;
    number small;
    void *result = type->kind == WG_CTYPE_STRUCT ? box(&own, type) : &small;
    ffi_call((ffi_cif *)(uintptr_t)&b->cif, b->function, result, argument);
    if (b->status && returned(type, &small) != 0) {
        fail_at(&r->failure, row, WG_ARGUMENT, "the function returned %g (row %lld)", returned(type, &small),
                (long long)(r->failure.before + row));
        return false;
    }
    if (b->out[0].parameter < 0)
        take_result(r, row, result);
    if (nan_of_numbers(r, row)) {
        fail_at(&r->failure, row, WG_NONFINITE, "made NaN of numbers (row %lld)", (long long)(r->failure.before + row));
        return false;
    }
    return true;
}

static void call_rows(void *user, int64_t from, int64_t to) {
    unsigned mode = wg__float_mode_enter(true);
    for (int64_t row = from; row < to && call_row(user, row); row++)
        continue;
    wg__float_mode_leave(mode);
}

static int64_t count_of(const wg_bound *b, const wg_port *port, const int64_t *size) {
    int64_t dim[WG_MAX_RANK], count = 1;
    axes_of(b, port, size, dim); /* checked when it was recorded */
    for (int a = 0; a < wg__port_rank(port); a++)
        count *= dim[a];
    return count;
}

void wg__bound_counts(const wg_bound *b, const wg_var *in, int64_t *count) {
    const wg_shape *shapes[WG_PORTS];
    int64_t size[WG_PROTOTYPE_PARAMETERS];
    for (int k = 0; k < b->operands; k++)
        shapes[k] = wg__of(in[k])->shape;
    sizes_of(b, shapes, size);
    for (int k = 0; k < b->outs; k++)
        count[k] = count_of(b, &b->out[k], size);
}

static wg_status rows_run(wg_call *call) {
    rows r = {.call = call, .b = (const wg_bound *)call->op};
    const wg_shape *shapes[WG_PORTS];
    int64_t count = 1;
    for (int k = 0; k < call->n; k++)
        shapes[k] = call->in[k].shape;
    sizes_of(r.b, shapes, r.size);
    for (int k = 0; k < r.b->operands; k++)
        r.in[k] = count_of(r.b, &r.b->operand[k], r.size);
    for (int k = 0; k < r.b->outs; k++)
        r.made += r.out[k] = count_of(r.b, &r.b->out[k], r.size);
    for (int a = 0; a < shapes[0]->rank - wg__port_rank(&r.b->operand[0]); a++)
        count *= shapes[0]->dim[a];
    r.failure = none_of(call, count);
    call_all(r.b, call->team, count, 1, call_rows, &r);
    return outcome(call, &r.failure);
}
