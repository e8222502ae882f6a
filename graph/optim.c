/* optim.c: update rules as recorded ops: clipping, schedules, and the methods. Their state is tensors advanced by stores. */
#include "graph.h"

#include <math.h>

#include "wengert/notation.h"

/* How many state tensors a method keeps for each weight, and their names. */
static const struct {
    int slots;
    const char *name[2];
} methods[] = {
    [WG_SGD] = {1, {"b"}}, [WG_ADAM] = {2, {"m", "v"}}, [WG_ADAMW] = {2, {"m", "v"}},
    [WG_RMSPROP] = {1, {"s"}}, [WG_ADAGRAD] = {1, {"s"}},
};

struct wg_optimiser {
    wg_memory *memory;
    wg_optimiser_options options;
    wg_params *state; /* step, then for each trained weight its slots */
    wg_tensor *step;
    int n;
    struct trained {
        wg_tensor *weight; /* NULL: fixed */
        wg_tensor *slot[2];
    } *of;
};

wg_optimiser_options wg_optimiser_defaults(wg_method method) {
    wg_optimiser_options o = {.method = method, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .decay = 0.99,
                              .rate = 1e-3, .schedule = WG_CONSTANT, .factor = 0.1, .every = 1};
    if (method == WG_SGD || method == WG_RMSPROP || method == WG_ADAGRAD)
        o.rate = 1e-2;
    if (method == WG_ADAMW)
        o.weight_decay = 1e-2;
    if (method == WG_ADAGRAD)
        o.epsilon = 1e-10;
    return o;
}

static int slots_of(const wg_optimiser *o) {
    bool plain = o->options.method == WG_SGD && o->options.momentum == 0;
    return plain ? 0 : methods[o->options.method].slots;
}

static wg_status add_state(wg_optimiser *o, const char *name, wg_dtype dtype, const wg_shape *shape, wg_tensor **out) {
    wg_tensor *tensor = wg_tensor_new(o->memory, dtype, shape->rank, shape->dim);
    if (!tensor)
        return wg__refusal(o->memory);
    wg_status status = wg_params_add(o->state, name, tensor);
    wg_tensor_free(tensor); /* the set holds it */
    *out = tensor;
    return status;
}

static wg_status add_slots(wg_optimiser *o, int i, const char *weight) {
    wg_tensor *tensor = o->of[i].weight;
    wg_status status = WG_OK;
    for (int k = 0; k < slots_of(o) && status == WG_OK; k++) {
        wg_text name = {.memory = o->memory};
        wg__text_add(&name, "%s.%s", weight, methods[o->options.method].name[k]);
        status = name.refused ? wg__refusal(o->memory)
                              : add_state(o, name.text, wg_tensor_dtype(tensor), wg_tensor_shape(tensor), &o->of[i].slot[k]);
        wg__give(o->memory, name.text);
    }
    return status;
}

/* Every number in its range: a mistake here is silent in training. */
static const char *what_is_wrong(const wg_optimiser_options *o) {
    const struct {
        const char *name;
        double value;
        bool below_one, positive;
    } rows[] = {
        {"rate", o->rate, false, false}, {"momentum", o->momentum, false, false}, {"beta1", o->beta1, true, false},
        {"beta2", o->beta2, true, false}, {"epsilon", o->epsilon, false, false}, {"decay", o->decay, true, false},
        {"weight_decay", o->weight_decay, false, false}, {"clip_norm", o->clip_norm, false, false},
        {"clip_value", o->clip_value, false, false}, {"warm_up", o->warm_up, false, false},
        {"every", o->every, false, o->schedule != WG_CONSTANT}, {"factor", o->factor, false, false},
        {"rate_last", o->rate_last, false, false}};
    for (int i = 0; i < WG_LEN(rows); i++)
        if (!isfinite(rows[i].value) || rows[i].value < 0 || (rows[i].below_one && rows[i].value >= 1) ||
            (rows[i].positive && rows[i].value == 0))
            return rows[i].name;
    return NULL;
}

wg_optimiser *wg_optimiser_new(wg_memory *memory, const wg_optimiser_options *options, const wg_params *params,
                               wg_error *error) {
    static const wg_shape scalar = {.count = 1};
    if ((unsigned)options->method > WG_ADAGRAD || (unsigned)options->schedule > WG_COSINE) {
        wg_error_set(error, WG_ARGUMENT, "optimiser: no such method or schedule");
        return NULL;
    }
    const char *wrong = what_is_wrong(options);
    if (wrong) {
        wg_error_set(error, WG_RANGE, "optimiser: %s is out of its range", wrong);
        return NULL;
    }
    wg_optimiser *o = wg__take0(memory, sizeof *o);
    int n = wg_params_count(params);
    wg_status status = o ? WG_OK : wg__refusal(memory);
    if (o) {
        o->memory = memory;
        o->options = *options;
        o->n = n;
        o->state = wg_params_new(memory);
        o->of = wg__take0(memory, wg__size((size_t)n, sizeof *o->of, 1));
        status = o->state && o->of ? add_state(o, "step", WG_F64, &scalar, &o->step) : wg__refusal(memory);
    }
    for (int i = 0; i < n && status == WG_OK; i++) {
        if (wg_params_fixed(params, i) || wg_tensor_dtype(wg_params_tensor(params, i)) == WG_I32)
            continue;
        o->of[i].weight = wg_tensor_retain(wg_params_tensor(params, i));
        status = add_slots(o, i, wg_params_name(params, i));
    }
    if (status != WG_OK) {
        wg_error_set(error, status, "optimiser: %s", wg_status_sentence(status));
        wg_optimiser_free(o);
        return NULL;
    }
    return o;
}

void wg_optimiser_free(wg_optimiser *o) {
    if (!o)
        return;
    for (int i = 0; o->of && i < o->n; i++)
        wg_tensor_free(o->of[i].weight);
    wg_params_free(o->state);
    wg__give(o->memory, o->of);
    wg__give(o->memory, o);
}

wg_params *wg_optimiser_state(wg_optimiser *o) { return o->state; }

/* ---- recording ---- */

/* The rate at update k from 0, in f64. */
static wg_var rate_at(const wg_optimiser_options *o, wg_var k) {
    wg_var rate = wg_like(k, o->rate);
    if (o->schedule == WG_STEP)
        rate = mul(o->rate, pow(wg_like(k, o->factor), floor(div(k, o->every))));
    if (o->schedule == WG_COSINE) {
        wg_var part = min(div(k, o->every), 1);
        rate = add(o->rate_last, mul((o->rate - o->rate_last) / 2, add(1, cos(mul(3.14159265358979323846, part)))));
    }
    return o->warm_up > 0 ? mul(rate, min(1, div(add(k, 1), o->warm_up))) : rate;
}

/* The 2-norm of all gradients together, in f64. */
static wg_var norm_of_all(const wg_optimiser *o, wg_var k, const wg_var *gradient) {
    wg_var sum = wg_like(k, 0);
    for (int i = 0; i < o->n; i++)
        if (o->of[i].weight)
            sum = add(sum, cast(wg_sum(square(gradient[i]), 0, NULL, false), WG_F64));
    return sqrt(sum);
}

static wg_var clipped(const wg_optimiser_options *o, wg_var g, wg_var norm) {
    if (o->clip_norm > 0) {
        wg_var scale = min(1, div(o->clip_norm, add(norm, 1e-6)));
        g = mul(g, cast(scale, wg_var_dtype(g)));
    }
    return o->clip_value > 0 ? clamp(g, -o->clip_value, o->clip_value) : g;
}

/* What is being updated: weight w, gradient g, slots a and b, the rate r and the number k of the update from 1, as w's type. */
typedef struct rule {
    const wg_optimiser_options *o;
    wg_var w, g, slot[2], next[2];
    wg_var r, k; /* f64 */
} rule;

static wg_var as_weight(const rule *u, wg_var x) { return cast(x, wg_var_dtype(u->w)); }

static wg_var sgd(rule *u) {
    if (u->o->momentum == 0)
        return sub(u->w, mul(as_weight(u, u->r), u->g));
    /* the first momentum is the first gradient: b starts as zero */
    u->next[0] = add(mul(u->o->momentum, u->slot[0]), u->g);
    wg_var step = u->o->nesterov ? add(u->g, mul(u->o->momentum, u->next[0])) : u->next[0];
    return sub(u->w, mul(as_weight(u, u->r), step));
}

static wg_var adam(rule *u) {
    double b1 = u->o->beta1, b2 = u->o->beta2;
    u->next[0] = add(mul(b1, u->slot[0]), mul(1 - b1, u->g));
    u->next[1] = add(mul(b2, u->slot[1]), mul(1 - b2, square(u->g)));
    wg_var first = sub(1, pow(wg_like(u->k, b1), u->k)), second = sqrt(sub(1, pow(wg_like(u->k, b2), u->k)));
    wg_var denominator = add(div(sqrt(u->next[1]), as_weight(u, second)), u->o->epsilon);
    return sub(u->w, mul(as_weight(u, div(u->r, first)), div(u->next[0], denominator)));
}

static wg_var rmsprop(rule *u) {
    double a = u->o->decay;
    u->next[0] = add(mul(a, u->slot[0]), mul(1 - a, square(u->g)));
    return sub(u->w, mul(as_weight(u, u->r), div(u->g, add(sqrt(u->next[0]), u->o->epsilon))));
}

static wg_var adagrad(rule *u) {
    u->next[0] = add(u->slot[0], square(u->g));
    return sub(u->w, mul(as_weight(u, u->r), div(u->g, add(sqrt(u->next[0]), u->o->epsilon))));
}

static wg_var apply_method(rule *u) {
    const wg_optimiser_options *o = u->o;
    if (o->method == WG_ADAMW)
        u->w = mul(u->w, as_weight(u, sub(1, mul(u->r, o->weight_decay))));
    else if (o->weight_decay != 0)
        u->g = add(u->g, mul(o->weight_decay, u->w));
    switch (o->method) {
    case WG_SGD: return sgd(u);
    case WG_ADAM:
    case WG_ADAMW: return adam(u);
    case WG_RMSPROP: return rmsprop(u);
    case WG_ADAGRAD: return adagrad(u);
    }
    return (wg_var){0};
}

wg_status wg_optimiser_record(wg_optimiser *o, wg_var loss, const wg_var *weight, const wg_var *gradient,
                              wg_update *update) {
    wg_tape *tape = wg__tape_of(1, &loss);
    *update = (wg_update){.memory = o->memory};
    if (!tape || tape->status != WG_OK)
        return tape ? tape->status : WG_ARGUMENT;
    update->store = wg__take(o->memory, wg__size((size_t)o->n, 3 * sizeof(wg_var), 3 * sizeof(wg_var)));
    if (!update->store) {
        wg__fail(tape, wg__refusal(o->memory), "optimiser", "no memory for an update");
        return tape->status;
    }
    wg_var done = wg_leaf(tape, o->step), k = add(done, 1);
    update->rate = rate_at(&o->options, done);
    update->norm = norm_of_all(o, done, gradient);
    update->store[update->n++] = wg_guard(add(cast(reshape(loss, 0, NULL), WG_F64), update->norm));
    update->store[update->n++] = wg_store(o->step, k);
    for (int i = 0; i < o->n; i++) {
        struct trained *of = &o->of[i];
        if (!of->weight)
            continue;
        rule u = {.o = &o->options, .w = weight[i], .g = clipped(&o->options, gradient[i], update->norm),
                  .r = update->rate, .k = k};
        for (int s = 0; s < slots_of(o); s++)
            u.slot[s] = wg_leaf(tape, of->slot[s]);
        update->store[update->n++] = wg_store(of->weight, apply_method(&u));
        for (int s = 0; s < slots_of(o); s++)
            update->store[update->n++] = wg_store(of->slot[s], u.next[s]);
    }
    if (tape->status != WG_OK)
        wg_update_free(update);
    return tape->status;
}

void wg_update_free(wg_update *update) {
    if (update) {
        wg__give(update->memory, update->store);
        *update = (wg_update){0};
    }
}
