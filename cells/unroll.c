/* unroll.c: a cell applied over a sequence: binds names to vars, records T steps, keeps handles into them. Steps are
 * marked on the tape; backpropagation through time is wg_grad over what is recorded here. */
#include "cell.h"

#include <stdio.h>
#include <string.h>

struct wg_unroll {
    wg_tape *tape;
    const wg_cell *cell;
    int64_t steps;
    wg_step step;      /* of the step being recorded; afterwards of the last */
    wg_var *input;     /* by symbol: whole sequences (T,B,n), entry mask applied */
    uint32_t *ids;     /* [T][symbols]: after the step; 0: none */
    uint32_t *initial; /* by symbol: initial states */
    wg_var live;       /* (T,B,1) f: 1 while a row's sequence lasts; zeroed without lengths */
    wg_var output;
    char **extra; /* names a C step gave */
    int64_t extras;
    uint32_t *extra_ids; /* [T][extras] */
};

static wg_status fail(wg_unroll *u, wg_status status, const char *format, ...) WG_PRINTF(3, 4);

static wg_status fail(wg_unroll *u, wg_status status, const char *format, ...) {
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    wg__fail(u->tape, status, wg_cell_name(u->cell), "%s", text);
    return u->tape->status;
}

static wg_status no_memory(wg_unroll *u) {
    wg_status status = wg__refusal(u->tape->memory);
    return fail(u, status, "%s", wg_status_sentence(status));
}

static const wg_symbol *symbol_at(const wg_unroll *u, int i) { return &u->cell->lang->symbol[i]; }

/* ---- binding ---- */

static wg_var given_var(const wg_named *given, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(given[i].name, name) == 0)
            return given[i].var;
    return (wg_var){0};
}

static wg_status check_known(wg_unroll *u, int n, const wg_named *given) {
    for (int i = 0; i < n; i++) {
        int s = wg__lang_find(u->cell->lang, given[i].name);
        wg_symbol_kind kind = s < 0 ? WG_SYMBOL_VALUE : symbol_at(u, s)->kind;
        if (kind != WG_SYMBOL_INPUT && kind != WG_SYMBOL_STATE && kind != WG_SYMBOL_PARAM)
            return fail(u, WG_NOT_FOUND, "it has no input, state or parameter %s", given[i].name);
        if (!wg__on_tape(given[i].var) || given[i].var.tape != u->tape)
            return fail(u, WG_ARGUMENT, "what is given for %s is not a valid var of this tape", given[i].name);
        if (wg_var_dtype(given[i].var) == WG_I32)
            return fail(u, WG_DTYPE, "%s is i32, not a float", given[i].name);
    }
    return WG_OK;
}

/* Every input and parameter must be given: all that are missing are named at once. */
static wg_status check_complete(wg_unroll *u, int n, const wg_named *given) {
    const wg_lang *lang = u->cell->lang;
    char missing[512] = "";
    size_t used = 0;
    int count = 0;
    for (int64_t s = 0; s < lang->symbols; s++) {
        const wg_symbol *symbol = &lang->symbol[s];
        if ((symbol->kind != WG_SYMBOL_INPUT && symbol->kind != WG_SYMBOL_PARAM) ||
            given_var(given, n, symbol->name).tape)
            continue;
        if (used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", count ? ", " : "", symbol->name);
        count++;
    }
    return count ? fail(u, WG_NOT_FOUND, "not given: %s", missing) : WG_OK;
}

static wg_status expect_shape(wg_unroll *u, const char *name, wg_var x, int rank, const int64_t *dim) {
    wg_shape want;
    char a[96], b[96];
    if (wg_var_dtype(x) != u->step.dtype)
        return fail(u, WG_DTYPE, "%s is %s, others are %s", name, wg_dtype_name(wg_var_dtype(x)),
                    wg_dtype_name(u->step.dtype));
    if (wg__shape_set(&want, rank, dim) == WG_OK && wg__shape_same(&want, wg_var_shape(x)))
        return WG_OK;
    return fail(u, WG_SHAPE, "%s has shape %s, not %s", name, wg_shape_text(wg_var_shape(x), a, sizeof a),
                wg_shape_text(&want, b, sizeof b));
}

static wg_status symbol_shape(wg_unroll *u, int s, wg_shape *shape) {
    wg_error error = {0};
    wg_status status = wg__lang_shape(u->cell->lang, s, u->step.input, u->step.hidden, shape, &error);
    return status == WG_OK ? WG_OK : fail(u, status, "%s", error.text);
}

/* (T,B,1): 1 while t < lengths[b]. */
static wg_status bind_lengths(wg_unroll *u, wg_var lengths) {
    if (!lengths.tape)
        return WG_OK;
    int64_t T = u->steps, B = u->step.batch;
    const wg_shape *shape = wg_var_shape(lengths);
    if (!shape || shape->rank != 1 || shape->dim[0] != B || wg_var_dtype(lengths) != WG_I32)
        return fail(u, WG_SHAPE, "lengths must be i32 of shape (%lld)", (long long)B);
    wg_tensor *counter = wg_tensor_new(u->tape->memory, WG_I32, 3, (const int64_t[]){T, 1, 1});
    if (!counter)
        return no_memory(u);
    for (int64_t t = 0; t < T; t++)
        wg_tensor_set(counter, t, (double)t);
    wg_var time = wg_leaf(u->tape, counter);
    wg_tensor_free(counter);
    u->live = wg_cast(wg_less(time, wg_reshape(lengths, 3, (const int64_t[]){1, B, 1})), u->step.dtype);
    return u->tape->status;
}

/* Where a row's sequence is over, zero takes the place of whatever stands there. */
static wg_var where_live(const wg_unroll *u, wg_var x) {
    return u->live.tape ? wg_where(u->live, x, wg_c(0)) : x;
}

static wg_status bind_input(wg_unroll *u, int s, wg_var x) {
    wg_shape shape;
    wg_status status = symbol_shape(u, s, &shape);
    const int64_t dim[3] = {u->steps, u->step.batch, shape.dim[0]};
    if (status == WG_OK)
        status = expect_shape(u, symbol_at(u, s)->name, x, 3, dim);
    if (status == WG_OK)
        u->input[s] = where_live(u, x);
    return status == WG_OK ? u->tape->status : status;
}

static wg_status bind_param(wg_unroll *u, int s, wg_var x) {
    wg_shape shape;
    wg_status status = symbol_shape(u, s, &shape);
    if (status == WG_OK)
        status = expect_shape(u, symbol_at(u, s)->name, x, shape.rank, shape.dim);
    u->step.now[s] = x;
    return status;
}

/* The caller's, else the declared start, else zero. Parameters are bound already. */
static wg_status bind_state(wg_unroll *u, int s, wg_var x) {
    const wg_symbol *symbol = symbol_at(u, s);
    wg_shape shape;
    wg_status status = symbol_shape(u, s, &shape);
    if (status != WG_OK)
        return status;
    const int64_t dim[2] = {u->step.batch, shape.dim[0]};
    if (x.tape)
        status = expect_shape(u, symbol->name, x, 2, dim);
    else if (symbol->start >= 0)
        x = wg_broadcast_to(u->step.now[symbol->start], 2, dim);
    else
        x = wg_full(u->tape, u->step.dtype, 2, dim, symbol->start_at ? wg__step_number(&u->step, symbol->start_at) : 0);
    u->step.now[s] = x;
    u->initial[s] = (uint32_t)x.as.id;
    return status == WG_OK ? u->tape->status : status;
}

static wg_status bind(wg_unroll *u, int n, const wg_named *given, const wg_unroll_options *options) {
    const wg_lang *lang = u->cell->lang;
    wg_status status = check_known(u, n, given);
    if (status == WG_OK)
        status = check_complete(u, n, given);
    if (status != WG_OK)
        return status;
    wg_var first = given_var(given, n, wg_cell_input(u->cell, 0));
    if (wg_rank(first) != 3)
        return fail(u, WG_SHAPE, "%s must have three axes: (steps, batch, size)", wg_cell_input(u->cell, 0));
    u->steps = wg_dim(first, 0);
    u->step.batch = wg_dim(first, 1);
    u->step.dtype = wg_var_dtype(first);
    status = bind_lengths(u, options->lengths);
    for (int i = 0; i < lang->inputs && status == WG_OK; i++)
        status = bind_input(u, lang->input[i], given_var(given, n, wg_cell_input(u->cell, i)));
    for (int i = 0; i < lang->params && status == WG_OK; i++)
        status = bind_param(u, lang->param[i], given_var(given, n, wg_cell_param(u->cell, i)));
    for (int i = 0; i < lang->states && status == WG_OK; i++)
        status = bind_state(u, lang->state[i], given_var(given, n, wg_cell_state(u->cell, i)));
    return status;
}

/* ---- stepping ---- */

static wg_var at_time(wg_var sequence, int64_t t) {
    const int64_t dim[2] = {wg_dim(sequence, 1), wg_dim(sequence, 2)};
    return wg_reshape(wg_slice(sequence, 0, t, 1), 2, dim);
}

/* Keeps what the step made, for wg_at; and the names a C step gave, from the first step on. */
static wg_status keep_step(wg_unroll *u, int64_t t) {
    const wg_lang *lang = u->cell->lang;
    uint32_t *ids = u->ids + t * lang->symbols;
    for (int64_t s = 0; s < lang->symbols; s++) {
        wg_symbol_kind kind = lang->symbol[s].kind;
        wg_var value = kind == WG_SYMBOL_STATE ? u->step.next[s] : u->step.now[s];
        if (wg__is_bare(value))
            value = wg_full(u->tape, u->step.dtype, 1, (const int64_t[]){1}, value.as.value);
        if (kind == WG_SYMBOL_STATE || kind == WG_SYMBOL_VALUE || kind == WG_SYMBOL_INPUT)
            ids[s] = (uint32_t)value.as.id;
    }
    if (t == 0 && u->step.extras) {
        u->extra = wg__take0(u->tape->memory, (size_t)u->step.extras * sizeof *u->extra);
        u->extra_ids = wg__take0(u->tape->memory, wg__size((size_t)(u->steps * u->step.extras), sizeof(uint32_t), 0));
        if (!u->extra || !u->extra_ids)
            return no_memory(u);
        for (u->extras = 0; u->extras < u->step.extras; u->extras++)
            if (!(u->extra[u->extras] = wg__strdup(u->tape->memory, u->step.extra[u->extras].name)))
                return no_memory(u);
    }
    for (int64_t k = 0; k < u->extras && k < u->step.extras; k++)
        u->extra_ids[t * u->extras + k] = (uint32_t)u->step.extra[k].var.as.id;
    return u->tape->status;
}

static wg_var output_of(const wg_unroll *u) {
    int s = u->cell->lang->output;
    return symbol_at(u, s)->kind == WG_SYMBOL_STATE ? u->step.next[s] : u->step.now[s];
}

static wg_status record_step(wg_unroll *u, uint32_t number, int64_t t, wg_var *output) {
    const wg_lang *lang = u->cell->lang;
    wg_status status = wg__step_mark(u->tape, number, t);
    wg_var live = {0};
    if (status != WG_OK)
        return status;
    if (u->live.tape)
        live = at_time(u->live, t);
    for (int i = 0; i < lang->inputs; i++)
        u->step.now[lang->input[i]] = at_time(u->input[lang->input[i]], t);
    u->step.number = t + 1;
    status = wg__step_record(&u->step);
    if (status != WG_OK)
        return status;
    for (int i = 0; i < lang->states && live.tape; i++) {
        int s = lang->state[i];
        u->step.next[s] = wg_where(live, u->step.next[s], u->step.now[s]);
    }
    *output = output_of(u);
    if (wg__is_bare(*output) || wg_rank(*output) == 1) { /* the same for every row */
        const int64_t dim[2] = {u->step.batch, wg__is_bare(*output) ? 1 : wg_dim(*output, 0)};
        *output = wg__is_bare(*output) ? wg_full(u->tape, u->step.dtype, 2, dim, output->as.value)
                                       : wg_broadcast_to(*output, 2, dim);
    }
    if (live.tape)
        *output = wg_where(live, *output, wg_c(0));
    status = keep_step(u, t);
    for (int i = 0; i < lang->states; i++)
        u->step.now[lang->state[i]] = u->step.next[lang->state[i]];
    return status == WG_OK ? u->tape->status : status;
}

static wg_status make_origins(wg_unroll *u) {
    const wg_lang *lang = u->cell->lang;
    char place[256];
    for (int64_t e = 0; e < lang->equations; e++) {
        snprintf(place, sizeof place, "%s:%d", lang->source.name, lang->equation[e].line);
        u->step.origin[e] = wg__origin_new(u->tape, place);
    }
    return WG_OK;
}

static wg_status record_all(wg_unroll *u) {
    wg_var *output = wg__take(u->tape->memory, wg__size((size_t)u->steps, sizeof *output, 1));
    uint32_t number = u->tape->unrolls++;
    wg_status status = output ? WG_OK : no_memory(u);
    for (int64_t t = 0; t < u->steps && status == WG_OK; t++)
        status = record_step(u, number, t, &output[t]);
    if (status == WG_OK)
        status = wg__step_mark(u->tape, number, u->steps); /* the end of the last step */
    if (status == WG_OK) {
        if (u->steps == 0) {
            wg_shape shape;
            status = symbol_shape(u, u->cell->lang->output, &shape);
            const int64_t dim[3] = {0, u->step.batch, shape.rank ? shape.dim[0] : 1};
            u->output = wg_full(u->tape, u->step.dtype, 3, dim, 0);
        } else {
            u->output = wg_stack((int)u->steps, output, 0);
        }
        status = u->tape->status;
    }
    wg__give(u->tape->memory, output);
    return status;
}

static wg_status make_room(wg_unroll *u) {
    wg_memory *memory = u->tape->memory;
    size_t symbols = (size_t)u->cell->lang->symbols;
    u->step.now = wg__take0(memory, symbols * sizeof(wg_var) + 1);
    u->step.next = wg__take0(memory, symbols * sizeof(wg_var) + 1);
    u->step.origin = wg__take0(memory, (size_t)u->cell->lang->equations * sizeof(uint32_t) + 1);
    u->input = wg__take0(memory, symbols * sizeof(wg_var) + 1);
    u->initial = wg__take0(memory, symbols * sizeof(uint32_t) + 1);
    return u->step.now && u->step.next && u->step.origin && u->input && u->initial ? WG_OK : no_memory(u);
}

wg_unroll *wg_unroll_new(wg_tape *tape, const wg_cell *cell, int64_t input, int64_t hidden, int n,
                         const wg_named *given, const wg_unroll_options *options) {
    static const wg_unroll_options none;
    if (!tape || tape->status != WG_OK)
        return NULL;
    if (!options)
        options = &none;
    wg_unroll *u = wg__take0(tape->memory, sizeof *u);
    if (!u) {
        wg_status refused = wg__refusal(tape->memory);
        wg__fail(tape, refused, wg_cell_name(cell), "%s", wg_status_sentence(refused));
        return NULL;
    }
    u->tape = tape;
    u->cell = cell;
    u->step = (wg_step){.tape = tape, .cell = cell, .input = input, .hidden = hidden, .training = options->training,
                        .key = options->key};
    wg_status status = make_room(u);
    if (status == WG_OK)
        status = make_origins(u);
    if (status == WG_OK)
        status = bind(u, n, given, options);
    if (status == WG_OK) {
        size_t ids = wg__size((size_t)u->steps, (size_t)cell->lang->symbols * sizeof *u->ids, 1);
        u->ids = wg__take0(tape->memory, ids);
        status = u->ids ? record_all(u) : no_memory(u);
    }
    if (status != WG_OK) {
        wg_unroll_free(u);
        return NULL;
    }
    return u;
}

void wg_unroll_free(wg_unroll *u) {
    if (!u)
        return;
    wg_memory *memory = u->tape->memory;
    wg__give(memory, u->step.now);
    wg__give(memory, u->step.next);
    wg__give(memory, u->step.origin);
    wg__give(memory, u->step.extra);
    wg__give(memory, u->input);
    wg__give(memory, u->initial);
    wg__give(memory, u->ids);
    for (int64_t k = 0; k < u->extras; k++)
        wg__give(memory, u->extra[k]);
    wg__give(memory, u->extra);
    wg__give(memory, u->extra_ids);
    wg__give(memory, u);
}

/* ---- handles ---- */

int64_t wg_unroll_steps(const wg_unroll *u) { return u->steps; }
wg_var wg_unroll_output(const wg_unroll *u) { return u->output; }

wg_var wg_unroll_final(const wg_unroll *u, const char *state) {
    int s = wg__lang_find(u->cell->lang, state);
    if (s < 0 || u->cell->lang->symbol[s].kind != WG_SYMBOL_STATE)
        return wg__var(u->tape, 0);
    return wg_at(u, u->steps - 1, state);
}

wg_var wg_at(const wg_unroll *u, int64_t t, const char *name) {
    int s = wg__lang_find(u->cell->lang, name);
    uint32_t id = 0;
    if (t < -1 || t >= u->steps)
        return wg__var(u->tape, 0);
    if (s >= 0)
        id = t < 0 ? u->initial[s] : u->ids[t * u->cell->lang->symbols + s];
    for (int64_t k = 0; s < 0 && t >= 0 && k < u->extras; k++)
        if (strcmp(u->extra[k], name) == 0)
            id = u->extra_ids[t * u->extras + k];
    return wg__var(u->tape, id);
}

wg_var wg_unroll_all(const wg_unroll *u, const char *name) {
    wg_var all = wg__var(u->tape, 0);
    wg_var *parts = wg__take(u->tape->memory, wg__size((size_t)u->steps, sizeof *parts, 1));
    if (!parts) {
        wg_status status = wg__refusal(u->tape->memory);
        return wg__fail(u->tape, status, wg_cell_name(u->cell), "%s", wg_status_sentence(status));
    }
    bool found = u->steps > 0;
    for (int64_t t = 0; t < u->steps && found; t++) {
        parts[t] = wg_at(u, t, name);
        found = parts[t].as.id != 0;
        if (found && wg_rank(parts[t]) == 1) {
            const int64_t dim[2] = {u->step.batch, wg_dim(parts[t], 0)};
            parts[t] = wg_broadcast_to(parts[t], 2, dim);
        }
    }
    if (found)
        all = wg_stack((int)u->steps, parts, 0);
    else
        wg__fail(u->tape, WG_NOT_FOUND, wg_cell_name(u->cell), "it has no state, input or line %s", name);
    wg__give(u->tape->memory, parts);
    return all;
}
