/* function_call.c: a call of a plan's C function: it takes a seat, binds or copies its arguments, runs, and gives the results. Touches
 * the caller's memory, as the prototype says. */
#include "foreign.h"
#include "function.h"

#include <math.h>
#include <string.h>

/* ---- the calls that go on ---- */

typedef struct active {
    const wg_function *function;
    const struct active *above;
} active;

static _Thread_local const active *innermost;

bool wg__function_active(const wg_function *f) {
    const active *a = innermost;
    while (a && a->function != f)
        a = a->above;
    return a;
}

/* ---- seats ---- */

wg_seat *wg__seat_new(const wg_function *f) {
    wg_seat *s = wg__take0(f->memory, wg__size((size_t)f->link_count, sizeof *s->place, sizeof *s));
    bool good = s && (s->workspace = wg_workspace_new(f->plan));
    for (int k = f->first_in; good && k < f->link_count; k++) {
        const wg_link *l = &f->links[k];
        if (l->kind == WG_LINK_OUT) {
            s->place[k].own = (char *)(uintptr_t)wg_tensor_data(wg_workspace_output(s->workspace, (int)l->index));
            continue;
        }
        const wg_tensor *leaf = f->plan->program->tensors[l->index];
        const wg_shape *shape = wg_tensor_shape(leaf);
        void *data = (void *)(uintptr_t)wg_tensor_data(leaf); /* what is bound lies there until the first call */
        wg_tensor *own = l->copied ? wg_tensor_new(f->memory, l->dtype, shape->rank, shape->dim)
                                   : wg_tensor_wrap(f->memory, l->dtype, shape->rank, shape->dim, data, NULL, NULL);
        good = own;
        if (good) {
            s->place[k].own = (char *)(uintptr_t)wg_tensor_data(own);
            wg__bind(s->workspace, l->index, own);
        }
        wg_tensor_free(own);
    }
    if (good)
        return s;
    wg__seat_free(f, s);
    return NULL;
}

void wg__seat_free(const wg_function *f, wg_seat *s) {
    if (!s)
        return;
    wg_workspace_free(s->workspace);
    wg__give(f->memory, s);
}

static void push(wg_seats *q, wg_seat *s) {
    s->next = q->idle;
    q->idle = s;
    q->idle_count++;
}

static wg_seat *pop(wg_seats *q) {
    wg_seat *s = q->idle;
    if (s)
        q->idle = s->next, q->idle_count--;
    return s;
}

/* From here on all go by the lock, which is held. */
static void close_spare(wg_seats *q) {
    uintptr_t spare = atomic_exchange(&q->spare, WG_SPARE_CLOSED);
    if (spare > WG_SPARE_CLOSED)
        push(q, (wg_seat *)spare);
}

/* Somebody waits no longer. Under the lock. */
static void stop_waiting(wg_seats *q) {
    if (--q->waiting == 0)
        atomic_store(&q->spare, (uintptr_t)pop(q));
    else
        pthread_cond_broadcast(&q->news);
}

static wg_seat *make_seat(wg_function *f, wg_error *error) {
    wg_seats *q = &f->seats;
    q->made++;
    pthread_mutex_unlock(&q->lock);
    wg_seat *s = wg__seat_new(f);
    wg_status why = s ? WG_OK : wg__refusal(f->memory);
    pthread_mutex_lock(&q->lock);
    if (!s) {
        q->made--;
        pthread_cond_broadcast(&q->news); /* who waits may try */
        wg_error_set(error, why, "no workspace for the call: %s", wg_status_sentence(why));
    }
    return s;
}

/* NULL on failure: then the call counts as waiting until leave_without. */
static wg_seat *take_by_lock(wg_function *f, bool nested, wg_error *error) {
    wg_seats *q = &f->seats;
    wg_seat *s = NULL;
    pthread_mutex_lock(&q->lock);
    q->waiting++;
    close_spare(q);
    while (!(s = pop(q)) && error->status == WG_OK) {
        if (q->most == 0 || q->made < q->most) {
            s = make_seat(f, error);
            break;
        }
        if (nested)
            wg_error_set(error, WG_CONFLICT, "called inside its own call, and no more than %lld may go on at once", (long long)q->most);
        else
            pthread_cond_wait(&q->news, &q->lock);
    }
    if (s)
        stop_waiting(q);
    pthread_mutex_unlock(&q->lock);
    return s;
}

static wg_seat *take(wg_function *f, wg_error *error) {
    wg_seats *q = &f->seats;
    uintptr_t spare = atomic_load(&q->spare);
    if (spare > WG_SPARE_CLOSED && atomic_compare_exchange_strong(&q->spare, &spare, 0))
        return (wg_seat *)spare;
    return take_by_lock(f, wg__function_active(f), error);
}

/* The function may be freed from here on, as soon as the lock is left. */
static void leave(wg_function *f, wg_seat *s) {
    wg_seats *q = &f->seats;
    uintptr_t none = 0;
    if (s && atomic_compare_exchange_strong(&q->spare, &none, (uintptr_t)s))
        return;
    pthread_mutex_lock(&q->lock);
    if (s) {
        push(q, s);
        pthread_cond_broadcast(&q->news);
    } else {
        stop_waiting(q);
    }
    pthread_mutex_unlock(&q->lock);
}

void wg__seats_close(wg_function *f) {
    wg_seats *q = &f->seats;
    pthread_mutex_lock(&q->lock);
    q->waiting++;
    close_spare(q);
    while (q->waiting > 1 || q->idle_count < q->made)
        pthread_cond_wait(&q->news, &q->lock);
    pthread_mutex_unlock(&q->lock);
    for (wg_seat *s; (s = pop(q));)
        wg__seat_free(f, s);
}

/* ---- arguments ---- */

/* NULL: a pointer on the way is. */
static char *reach(const wg_route *r, char *result, void **arguments) {
    char *at = r->parameter < 0 ? result : arguments[r->parameter];
    for (int k = 0; k < r->through; k++) {
        memcpy(&at, at + r->offset[k], sizeof at);
        if (!at)
            return NULL;
    }
    return at + r->offset[r->through];
}

static wg_status is_null(const wg_link *l, wg_error *error) {
    return wg_error_set(error, WG_ARGUMENT, "%s: a pointer is NULL", l->name);
}

static wg_status check_size(const wg_link *l, const char *at, wg_error *error) {
    double given = wg__ctype_get(l->number, at);
    if (given == (double)l->count)
        return WG_OK;
    if (l->kind == WG_LINK_STRIDE)
        return wg_error_set(error, WG_ARGUMENT, "%s: a stride of %.0f, not 1", l->name, given);
    return wg_error_set(error, WG_SHAPE, "%s: %.0f elements, where %s %lld has %lld", l->name, given,
                        l->kind == WG_LINK_SIZE ? "leaf" : "output", (long long)l->number_named, (long long)l->count);
}

static wg_status number_in(const wg_link *l, char *own, const char *at, wg_error *error) {
    double value = wg__ctype_get(l->number, at);
    int32_t whole = wg__to_i32(value);
    if (l->dtype == WG_F64)
        memcpy(own, &value, sizeof value);
    else if (l->dtype == WG_F32)
        memcpy(own, &(float){(float)value}, sizeof(float));
    else if (whole == value)
        memcpy(own, &whole, sizeof whole);
    else
        return wg_error_set(error, WG_RANGE, "%s: %.17g is no i32", l->name, value);
    return WG_OK;
}

static wg_status take_in(const wg_link *l, wg_seat *s, char *own, char *at, wg_error *error) {
    if (!at && l->count == 0)
        at = own;
    if (!at)
        return is_null(l, error);
    if (!l->copied && ((uintptr_t)at & (l->element - 1)))
        return wg_error_set(error, WG_ARGUMENT, "%s: the array is not aligned to its elements", l->name);
    wg_status status = l->number ? number_in(l, own, at, error) : WG_OK;
    if (l->copied && !l->number)
        memcpy(own, at, l->bytes);
    wg__bind_data(s->workspace, l->index, l->copied ? own : at);
    return status;
}

static bool overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* Whether output k can be computed where the caller wants it: nothing lies there that the run reads, with a role or without, and no
 * earlier output, which would be copied over this one or be computed after it. */
static bool may_bind(const wg_function *f, const wg_seat *s, int k, const char *at) {
    const wg_link *l = &f->links[k];
    if (!at || l->copied || ((uintptr_t)at & (l->element - 1)))
        return false;
    for (int64_t slot = 0; slot < f->plan->program->tensor_count; slot++) {
        const wg_tensor *read = s->workspace->bound[slot];
        if (overlap(at, l->bytes, wg_tensor_data(read), wg_tensor_bytes(read)))
            return false;
    }
    for (int j = f->first_out; j < k; j++) {
        const wg_link *other = &f->links[j];
        if (s->place[j].at && overlap(at, l->bytes, s->place[j].at, other->number ? other->number->size : other->bytes))
            return false;
    }
    return true;
}

static void take_out(const wg_function *f, wg_seat *s, int k, char *at) {
    const wg_link *l = &f->links[k];
    wg_link_place *p = &s->place[k];
    p->at = at;
    p->bound = may_bind(f, s, k, at);
    if (!l->copied)
        wg__output_data(s->workspace, (int)l->index, p->bound ? at : p->own);
}

static double number_of(wg_dtype dtype, const void *at) {
    return dtype == WG_F64 ? *(const double *)at : dtype == WG_F32 ? (double)*(const float *)at : (double)*(const int32_t *)at;
}

static wg_status give_out(const wg_link *l, const wg_link_place *p, wg_error *error) {
    if (!p->at || p->bound)
        return WG_OK;
    if (!l->number) {
        memcpy(p->at, p->own, l->bytes);
        return WG_OK;
    }
    double value = number_of(l->dtype, p->own);
    char text[64];
    if (wg__ctype_set(l->number, p->at, value))
        return WG_OK;
    return wg_error_set(error, WG_RANGE, "%s: %s cannot be %.17g", l->name, wg__ctype_text(l->number, text, sizeof text), value);
}

/* ---- failures ---- */

static void fill_nan(const wg_link *l, char *at, int64_t count, int64_t stride) {
    double wide = NAN;
    float narrow = NAN;
    int32_t none = INT32_MIN;
    const void *nan = l->dtype == WG_F64 ? (const void *)&wide : l->dtype == WG_F32 ? (const void *)&narrow : &none;
    for (int64_t i = 0; i < count; i++)
        memcpy(at + i * stride * (int64_t)l->element, nan, l->element);
}

/* How many elements of an output the caller has room for as far as its sizes say: a failed call may be one with too small an array, or
 * with a stride that leads nowhere: then only the first element, which is there by any, is spoken of. */
static int64_t room_of(const wg_function *f, const wg_link *out, char *result, void **arguments, int64_t *stride) {
    double room = (double)out->count;
    *stride = 1;
    for (int k = 0; k < f->first_in; k++) {
        const wg_link *l = &f->links[k];
        const char *at = reach(&l->route, result, arguments);
        double given = at ? wg__ctype_get(l->number, at) : 0;
        bool about = l->kind == WG_LINK_SIZE || (l->kind == WG_LINK_COUNT && l->index == out->index);
        if (l->kind == WG_LINK_STRIDE && out->within && l->within == out->within)
            *stride = given >= 1 && given <= INT32_MAX ? (int64_t)given : 0;
        else if (about && given < (double)l->count && given < room)
            room = given;
    }
    return room > 0 ? (int64_t)room : 0;
}

static void fail_out(const wg_function *f, const wg_link *l, char *result, void **arguments) {
    char *at = reach(&l->route, result, arguments);
    int64_t stride, room = at ? room_of(f, l, result, arguments, &stride) : 0;
    if (!at)
        return;
    if (!l->number)
        fill_nan(l, at, room, stride);
    else if (!wg__ctype_set(l->number, at, NAN))
        memset(at, l->number->is_bool ? 1 : 0xff, l->number->size); /* -1 */
}

static void fail(wg_function *f, char *result, void **arguments, const wg_error *error) {
    for (int k = f->first_out; k < f->link_count; k++)
        fail_out(f, &f->links[k], result, arguments);
    pthread_mutex_lock(&f->seats.lock);
    wg_error_set(&f->first, error->status, "%s", error->text);
    pthread_mutex_unlock(&f->seats.lock);
    if (f->options.failed)
        f->options.failed(f->options.user, error);
}

/* ---- a call ---- */

/* In a call from a function that is not safe for two threads, whose lock this thread holds, others would wait for it: then it works
 * alone. */
static wg_status run_alone_if_serial(wg_function *f, wg_seat *s, wg_error *error) {
    wg_run_options run = f->options.run;
    if (wg__serial_inside())
        run.threads = 1;
    return wg_run_in(f->plan, s->workspace, &run, error);
}

static wg_status run_in_seat(wg_function *f, wg_seat *s, char *result, void **arguments, wg_error *error) {
    wg_status status = WG_OK;
    for (int k = 0; k < f->first_in && status == WG_OK; k++) {
        const char *at = reach(&f->links[k].route, result, arguments);
        status = at ? check_size(&f->links[k], at, error) : is_null(&f->links[k], error);
    }
    for (int k = f->first_in; k < f->first_out && status == WG_OK; k++)
        status = take_in(&f->links[k], s, s->place[k].own, reach(&f->links[k].route, result, arguments), error);
    for (int k = f->first_out; k < f->link_count && status == WG_OK; k++)
        take_out(f, s, k, reach(&f->links[k].route, result, arguments));
    if (status == WG_OK)
        status = run_alone_if_serial(f, s, error);
    for (int k = f->first_out; k < f->link_count && status == WG_OK; k++)
        status = give_out(&f->links[k], &s->place[k], error);
    return status;
}

/* libffi wants what is returned as a number of a register's width. */
static void widen(const wg_ctype *type, void *result) {
    int64_t from = 0;
    if (type->kind != WG_CTYPE_INTEGER || type->size >= sizeof(ffi_arg))
        return;
    switch (type->size) {
    case 1: from = type->is_signed ? (int64_t)*(int8_t *)result : (int64_t)*(uint8_t *)result; break;
    case 2: from = type->is_signed ? (int64_t)*(int16_t *)result : (int64_t)*(uint16_t *)result; break;
    case 4: from = type->is_signed ? (int64_t)*(int32_t *)result : (int64_t)*(uint32_t *)result; break;
    }
    *(ffi_arg *)result = (ffi_arg)from;
}

void wg__function_called(ffi_cif *cif, void *result, void **arguments, void *function) {
    wg_function *f = function;
    const wg_ctype *type = f->prototype->result.type;
    const active **top = &innermost, here = {f, *top};
    wg_error error;
    (void)cif;
    error.status = WG_OK;
    error.text[0] = 0;
    if (f->blank)
        memset(result, 0, f->blank);
    if (f->serial)
        wg__serial_enter(); /* before a workspace: whoever holds the one must not wait for the other */
    wg_seat *s = take(f, &error);
    *top = &here;
    if (!s || run_in_seat(f, s, result, arguments, &error) != WG_OK)
        fail(f, result, arguments, &error);
    if (f->tells_status)
        wg__ctype_set(type, result, error.status != WG_OK);
    widen(type, result);
    *top = here.above;
    if (f->serial)
        wg__serial_leave();
    leave(f, s);
}
