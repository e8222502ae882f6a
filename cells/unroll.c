/* unroll.c: a cell applied over a sequence: binds names to vars, records T steps, keeps handles into them. Steps are
 * marked on the tape; backpropagation through time is wg_grad over what is recorded here. */
#include "cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct wg_unroll {
    wg_tape *tape;
    const wg_cell *cell;
    wg_step step;      /* of the step being recorded; afterwards of the last */
    wg_var *given;     /* by symbol: what the caller gave; zeroed: nothing */
    wg_var *input;     /* by symbol: whole sequences (T,B,n), entry mask applied */
    uint32_t *ids;     /* [T][symbols]: after the step; 0: none */
    uint32_t *initial; /* by symbol: initial states */
    wg_var live;       /* (T,B,1) f: 1 while a row's sequence lasts; zeroed without lengths */
    wg_var output;
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

/* Sorts what is given by symbol. */
static wg_status take_given(wg_unroll *u, int n, const wg_named *given) {
    for (int i = 0; i < n; i++) {
        const char *name = given[i].name ? given[i].name : "";
        int s = wg__lang_find(u->cell->lang, name);
        wg_symbol_kind kind = s < 0 ? WG_SYMBOL_VALUE : symbol_at(u, s)->kind;
        if (kind != WG_SYMBOL_INPUT && kind != WG_SYMBOL_STATE && kind != WG_SYMBOL_PARAM)
            return fail(u, WG_NOT_FOUND, "it has no input, state or parameter %s", name);
        if (u->given[s].tape)
            return fail(u, WG_CONFLICT, "%s is given twice", name);
        if (!wg__on_tape(given[i].var) || given[i].var.tape != u->tape)
            return fail(u, WG_ARGUMENT, "what is given for %s is not a valid var of this tape", name);
        if (wg_var_dtype(given[i].var) == WG_I32)
            return fail(u, WG_DTYPE, "%s is i32, not a float", name);
        u->given[s] = given[i].var;
    }
    return WG_OK;
}

/* Every input and parameter must be given: all that are missing are named at once. */
static wg_status check_complete(wg_unroll *u) {
    const wg_lang *lang = u->cell->lang;
    char missing[512] = "";
    size_t used = 0;
    int count = 0;
    for (int64_t s = 0; s < lang->symbols; s++) {
        const wg_symbol *symbol = &lang->symbol[s];
        if ((symbol->kind != WG_SYMBOL_INPUT && symbol->kind != WG_SYMBOL_PARAM) || u->given[s].tape)
            continue;
        if (used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", count ? ", " : "", symbol->name);
        count++;
    }
    return count ? fail(u, WG_NOT_FOUND, "not given: %s%s", missing, used < sizeof missing ? "" : " …") : WG_OK;
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

/* The shapes of everything, for these sizes; nothing is recorded before they are known. */
static wg_status find_shapes(wg_unroll *u) {
    const wg_lang *lang = u->cell->lang;
    wg_error error = {0};
    wg_status status = wg__lang_check_sizes(lang, u->step.input, u->step.hidden, &error);
    for (int s = 0; s < lang->symbols && status == WG_OK; s++)
        status = wg__lang_shape(lang, s, u->step.input, u->step.hidden, &u->step.shape[s], &error);
    return status == WG_OK ? WG_OK : fail(u, status, "%s", error.text);
}

/* (T,B,1): 1 while t < lengths[b]. */
static wg_status bind_lengths(wg_unroll *u, wg_var lengths) {
    if (!lengths.tape)
        return WG_OK;
    int64_t T = u->step.steps, B = u->step.batch;
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

static wg_status bind_input(wg_unroll *u, int s) {
    const int64_t dim[3] = {u->step.steps, u->step.batch, u->step.shape[s].dim[0]};
    wg_status status = expect_shape(u, symbol_at(u, s)->name, u->given[s], 3, dim);
    if (status == WG_OK)
        u->input[s] = where_live(u, u->given[s]);
    return u->tape->status;
}

static wg_status bind_param(wg_unroll *u, int s) {
    const wg_shape *shape = &u->step.shape[s];
    u->step.now[s] = u->given[s];
    return expect_shape(u, symbol_at(u, s)->name, u->given[s], shape->rank, shape->dim);
}

/* The caller's, else the declared start, else zero. Parameters are bound already. */
static wg_status bind_state(wg_unroll *u, int s) {
    const wg_symbol *symbol = symbol_at(u, s);
    const int64_t dim[2] = {u->step.batch, u->step.shape[s].dim[0]};
    wg_var x = u->given[s];
    if (x.tape)
        expect_shape(u, symbol->name, x, 2, dim);
    else if (symbol->start >= 0)
        x = wg_broadcast_to(u->step.now[symbol->start], 2, dim);
    else
        x = wg_full(u->tape, u->step.dtype, 2, dim, symbol->start_at ? wg__step_number(&u->step, symbol->start_at) : 0);
    u->step.now[s] = x;
    u->initial[s] = (uint32_t)x.as.id;
    return u->tape->status;
}

static wg_status bind(wg_unroll *u, int n, const wg_named *given, const wg_unroll_options *options) {
    const wg_lang *lang = u->cell->lang;
    wg_status status = take_given(u, n, given);
    if (status == WG_OK)
        status = check_complete(u);
    if (status == WG_OK)
        status = find_shapes(u);
    if (status != WG_OK)
        return status;
    wg_var first = u->given[lang->input[0]];
    if (wg_rank(first) != 3)
        return fail(u, WG_SHAPE, "%s must have three axes: (steps, batch, size)", wg_cell_input(u->cell, 0));
    u->step.steps = wg_dim(first, 0);
    u->step.batch = wg_dim(first, 1);
    u->step.dtype = wg_var_dtype(first);
    status = bind_lengths(u, options->lengths);
    for (int i = 0; i < lang->inputs && status == WG_OK; i++)
        status = bind_input(u, lang->input[i]);
    for (int i = 0; i < lang->params && status == WG_OK; i++)
        status = bind_param(u, lang->param[i]);
    for (int i = 0; i < lang->states && status == WG_OK; i++)
        status = bind_state(u, lang->state[i]);
    return status;
}

/* ---- stepping ---- */

static wg_var at_time(wg_var sequence, int64_t t) { /* (T,B,n) */
    const wg_shape *row = wg__intern_dims(sequence.tape, 2, (const int64_t[]){wg_dim(sequence, 1), wg_dim(sequence, 2)});
    return row ? wg__reshape(wg_slice(sequence, 0, t, 1), row) : wg__var(sequence.tape, 0);
}

/* Keeps what the step made, for wg_at. */
static void keep_step(wg_unroll *u, int64_t t) {
    const wg_lang *lang = u->cell->lang;
    uint32_t *ids = u->ids + t * lang->symbols;
    for (int64_t s = 0; s < lang->symbols; s++) {
        wg_symbol_kind kind = lang->symbol[s].kind;
        if (kind != WG_SYMBOL_STATE && kind != WG_SYMBOL_VALUE && kind != WG_SYMBOL_INPUT)
            continue;
        wg_var value = kind == WG_SYMBOL_STATE ? u->step.next[s] : u->step.now[s];
        if (wg__is_bare(value))
            value = wg_full(u->tape, u->step.dtype, 1, (const int64_t[]){1}, value.as.value);
        ids[s] = (uint32_t)value.as.id;
    }
}

/* What is the same for every row, as (B,n). */
static wg_var batched(const wg_unroll *u, wg_var x) {
    const int64_t dim[2] = {u->step.batch, wg__is_bare(x) ? 1 : wg_dim(x, 0)};
    if (wg__is_bare(x))
        return wg_full(u->tape, u->step.dtype, 2, dim, x.as.value);
    return wg_rank(x) == 1 ? wg_broadcast_to(x, 2, dim) : x;
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
    *output = batched(u, output_of(u));
    if (live.tape)
        *output = wg_where(live, *output, wg_c(0));
    keep_step(u, t);
    for (int i = 0; i < lang->states; i++)
        u->step.now[lang->state[i]] = u->step.next[lang->state[i]];
    return u->tape->status;
}

static const char *line_place(const wg_unroll *u, int64_t equation, char *text, size_t size) {
    const wg_lang *lang = u->cell->lang;
    snprintf(text, size, "%.200s:%d", lang->source.name, lang->equation[equation].line);
    return text;
}

static wg_status make_origins(wg_unroll *u) {
    char place[256];
    for (int64_t e = 0; e < u->cell->lang->equations; e++)
        if (!(u->step.origin[e] = wg__origin_new(u->tape, line_place(u, e, place, sizeof place))))
            return no_memory(u);
    return WG_OK;
}

/* Outputs of no step: (0,B,n). */
static wg_var no_steps(const wg_unroll *u, int s) {
    const wg_shape *shape = &u->step.shape[s];
    const int64_t dim[3] = {0, u->step.batch, shape->rank ? shape->dim[0] : 1};
    return wg_full(u->tape, u->step.dtype, 3, dim, 0);
}

static wg_status record_all(wg_unroll *u) {
    if (u->step.steps == 0) {
        u->output = no_steps(u, u->cell->lang->output);
        return u->tape->status;
    }
    wg_var *output = wg__take(u->tape->memory, wg__size((size_t)u->step.steps, sizeof *output, 0));
    uint32_t number = u->tape->unrolls++;
    wg_status status = output ? WG_OK : no_memory(u);
    for (int64_t t = 0; t < u->step.steps && status == WG_OK; t++)
        status = record_step(u, number, t, &output[t]);
    if (status == WG_OK)
        status = wg__step_mark(u->tape, number, WG_NO_STEP);
    if (status == WG_OK)
        u->output = wg_stack((int)u->step.steps, output, 0);
    wg__give(u->tape->memory, output);
    return u->tape->status;
}

static wg_status make_room(wg_unroll *u) {
    wg_memory *memory = u->tape->memory;
    wg_step *step = &u->step;
    size_t symbols = (size_t)u->cell->lang->symbols; /* two at least: input and hidden */
    step->now = wg__take0(memory, symbols * sizeof *step->now);
    step->next = wg__take0(memory, symbols * sizeof *step->next);
    step->shape = wg__take0(memory, symbols * sizeof *step->shape);
    step->constant = wg__take0(memory, symbols * sizeof *step->constant);
    step->origin = wg__take0(memory, ((size_t)u->cell->lang->equations + 1) * sizeof *step->origin);
    u->given = wg__take0(memory, symbols * sizeof *u->given);
    u->input = wg__take0(memory, symbols * sizeof *u->input);
    u->initial = wg__take0(memory, symbols * sizeof *u->initial);
    if (!step->now || !step->next || !step->shape || !step->constant || !step->origin || !u->given || !u->input ||
        !u->initial)
        return no_memory(u);
    for (size_t s = 0; s < symbols; s++)
        step->constant[s] = NAN;
    return WG_OK;
}

/* All of it; the unroll is zeroed but for what the caller asks. */
static wg_status record_unroll(wg_unroll *u, int n, const wg_named *given, const wg_unroll_options *options) {
    wg_status status = make_room(u);
    if (status == WG_OK)
        status = make_origins(u);
    if (status == WG_OK)
        status = bind(u, n, given, options);
    if (status != WG_OK)
        return status;
    size_t row = (size_t)u->cell->lang->symbols * sizeof *u->ids;
    u->ids = wg__take0(u->tape->memory, wg__size((size_t)u->step.steps, row, 1));
    return u->ids ? record_all(u) : no_memory(u);
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
    const wg_mark before = wg_tape_mark(tape);
    if (record_unroll(u, n, given, options) != WG_OK) {
        wg_tape_rewind(tape, before); /* half an unroll is of no use, and its step marks would mislead */
        wg_unroll_free(u);
        return NULL;
    }
    return u;
}

void wg_unroll_free(wg_unroll *u) {
    if (!u)
        return;
    wg_memory *memory = u->tape->memory;
    void *const all[] = {u->step.now, u->step.next, u->step.shape, u->step.constant, u->step.origin, u->step.index,
                         u->given, u->input, u->initial, u->ids};
    for (int i = 0; i < WG_LEN(all); i++)
        wg__give(memory, all[i]);
    for (int64_t k = 0; k < u->step.extras; k++) {
        wg__give(memory, u->step.extra[k].name);
        wg__give(memory, u->step.extra[k].id);
    }
    wg__give(memory, u->step.extra);
    wg__give(memory, u);
}

/* ---- handles ---- */

int64_t wg_unroll_steps(const wg_unroll *u) { return u->step.steps; }
wg_var wg_unroll_output(const wg_unroll *u) { return u->output; }

wg_var wg_unroll_final(const wg_unroll *u, const char *state) {
    int s = wg__lang_find(u->cell->lang, state);
    if (s < 0 || u->cell->lang->symbol[s].kind != WG_SYMBOL_STATE)
        return wg__var(u->tape, 0);
    return wg_at(u, u->step.steps - 1, state);
}

/* The value at every step of a name, from t = 0 on: ids, and how far apart they are; NULL if there is none. */
static const uint32_t *column(const wg_unroll *u, const char *name, int64_t *stride) {
    int s = wg__lang_find(u->cell->lang, name);
    *stride = u->cell->lang->symbols;
    if (s >= 0)
        return u->ids + s;
    *stride = 1;
    for (int64_t k = 0; k < u->step.extras; k++)
        if (strcmp(u->step.extra[k].name, name) == 0)
            return u->step.extra[k].id;
    return NULL;
}

wg_var wg_at(const wg_unroll *u, int64_t t, const char *name) {
    int64_t stride;
    if (t < -1 || t >= u->step.steps)
        return wg__var(u->tape, 0);
    if (t == -1) {
        int s = wg__lang_find(u->cell->lang, name);
        return wg__var(u->tape, s >= 0 ? u->initial[s] : 0);
    }
    const uint32_t *ids = column(u, name, &stride);
    return wg__var(u->tape, ids ? ids[t * stride] : 0);
}

/* The steps' values, each (B,n); false, and the tape's failure set, if one has none. */
static bool all_steps(const wg_unroll *u, const char *name, wg_var *part) {
    int64_t stride;
    const uint32_t *ids = column(u, name, &stride);
    for (int64_t t = 0; t < u->step.steps; t++) {
        if (!ids || !ids[t * stride]) {
            wg__fail(u->tape, WG_NOT_FOUND, wg_cell_name(u->cell), "it has no state, input or line %s at step %lld", name,
                     (long long)t + 1);
            return false;
        }
        part[t] = batched(u, wg__var(u->tape, ids[t * stride]));
    }
    return u->tape->status == WG_OK;
}

wg_var wg_unroll_all(const wg_unroll *u, const char *name) {
    int s = wg__lang_find(u->cell->lang, name);
    if (u->tape->status != WG_OK)
        return wg__var(u->tape, 0);
    if (u->step.steps == 0 && s >= 0 && symbol_at(u, s)->kind != WG_SYMBOL_PARAM)
        return no_steps(u, s);
    if (u->step.steps == 0)
        return wg__fail(u->tape, WG_NOT_FOUND, wg_cell_name(u->cell), "it has no state, input or line %s", name);
    wg_var *part = wg__take(u->tape->memory, wg__size((size_t)u->step.steps, sizeof *part, 0));
    if (!part) {
        wg_status status = wg__refusal(u->tape->memory);
        return wg__fail(u->tape, status, wg_cell_name(u->cell), "%s", wg_status_sentence(status));
    }
    wg_var all = all_steps(u, name, part) ? wg_stack((int)u->step.steps, part, 0) : wg__var(u->tape, 0);
    wg__give(u->tape->memory, part);
    return all;
}
