/* cmd_run.c: `wengert run`: one pass of a cell or model on given arrays, and the gradient of what
 * cotangents were given for. */
#include "subject.h"

#include <stdlib.h>
#include <string.h>

typedef struct run_arguments {
    common common;
    words input, save;
    const char *output;
    int64_t hidden, seed;
    initial init;
    bool training;
    settings set;
} run_arguments;

static const option options[] = {
    {"input", "IN", OPTION_WORDS, FIELD(run_arguments, input),
     .help = "The arrays: FILE.safetensors, or NAME=FILE.npy."},
    {"output", "OUT", OPTION_TEXT, FIELD(run_arguments, output),
     .help = "The safetensors file to write."},
    {"save", "NAMES", OPTION_LIST, FIELD(run_arguments, save),
     .help = "Also write the sequences of these states, lines or inputs, as NAME.all [T,B,n] (and "
             "NAME.all.grad)."},
    {"hidden", "N", OPTION_INTEGER, FIELD(run_arguments, hidden), .least = 1, .most = 1 << 24,
     .help = "The hidden size, where it does not follow from the arrays."},
    {"init", "LINE", OPTION_INIT, FIELD(run_arguments, init),
     .help = "Draw the parameters that are missing; PATTERN=INITIALISER adds a line to the cell's "
             "own, and pytorch, keras or "
             "flax sets that library's scheme."},
    {"seed", "N", OPTION_INTEGER, FIELD(run_arguments, seed), "0", .least = 0,
     .most = 9007199254740992.0, .help = "Of what is drawn: parameters, dropout."},
    {"training", NULL, OPTION_FLAG, FIELD(run_arguments, training),
     .help = "Let dropout and other draws be drawn."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(run_arguments, set),
     .help = "Set a size or const of the cell."},
    {0},
};

/* A list of names and vars that grows; the names are its own. */
typedef struct named_list {
    int count;
    wg_named *item;
} named_list;

/* One pass on its way from files to a file. */
typedef struct pass {
    const run_arguments *a;
    const common *c;
    subject subject;
    const wg_cell *cell;
    words save;        /* --save, each name once */
    wg_params *given;  /* the arrays of the files */
    wg_params *drawn;  /* parameters that were missing; or NULL */
    wg_params *states; /* of a model: one for each name */
    wg_tape *tape;
    wg_dtype dtype;
    int64_t steps, batch, input, hidden;
    wg_var mask;        /* (T,B,1): 1 while a row's sequence lasts; zeroed without lengths */
    named_list wrt;     /* the float inputs */
    wg_unroll *unroll;  /* of a cell */
    wg_forward forward; /* of a model */
    named_list out;     /* what is written */
    named_list target;  /* what may have a cotangent, by the cotangent's name */
} pass;

static void add_named(named_list *list, char *name, wg_var var) {
    list->item = grow(list->item, (size_t)list->count + 1, sizeof *list->item);
    list->item[list->count++] = (wg_named){name, var};
}

static void free_named(named_list *list) {
    for (int i = 0; i < list->count; i++)
        free((char *)list->item[i].name);
    free(list->item);
}

static wg_tensor *given_array(const pass *p, const char *name) {
    return wg_params_find(p->given, name);
}

static int tape_failed(const pass *p) { return fail(p->c, "%s", wg_tape_message(p->tape)); }

/* ---- names ---- */

static role role_of(const pass *p, const char *name) {
    if (!p->subject.model)
        return cell_role(p->cell, name);
    if (strcmp(name, wg_cell_input(p->cell, 0)) == 0)
        return ROLE_INPUT;
    return wg_params_find(p->states, name) ? ROLE_STATE : ROLE_NONE;
}

static bool is_saved(const pass *p, const char *name) {
    for (int i = 0; i < p->save.count; i++)
        if (strcmp(p->save.word[i], name) == 0)
            return true;
    return false;
}

static int list_saved(pass *p) {
    p->save.word = allocate((size_t)p->a->save.count, sizeof *p->save.word);
    for (int i = 0; i < p->a->save.count; i++)
        if (!is_saved(p, p->a->save.word[i]))
            p->save.word[p->save.count++] = p->a->save.word[i];
    return 0;
}

/* y.grad, STATE.grad, SAVED.all.grad. */
static bool is_cotangent(const pass *p, const char *name) {
    char stem[256];
    size_t size = strlen(name);
    if (size < 6 || size > sizeof stem || strcmp(name + size - 5, ".grad") != 0)
        return false;
    snprintf(stem, sizeof stem, "%.*s", (int)(size - 5), name);
    if (strcmp(stem, "y") == 0 || role_of(p, stem) == ROLE_STATE)
        return true;
    size = strlen(stem);
    if (size < 5 || strcmp(stem + size - 4, ".all") != 0)
        return false;
    stem[size - 4] = 0;
    return is_saved(p, stem);
}

static char *add_to_list(char *list, const char *name) {
    char *longer = format_text("%s%s%s", list ? list : "", list ? ", " : "", name);
    free(list);
    return longer;
}

/* What is given and not known, and what is not given and needed, are listed at once. */
static int check_names(pass *p) {
    char *unknown = NULL, *missing = NULL;
    bool is_cell = !p->subject.model;
    for (int i = 0; i < wg_params_count(p->given); i++) {
        const char *name = wg_params_name(p->given, i);
        if (role_of(p, name) == ROLE_NONE && strcmp(name, "lengths") != 0 && !is_cotangent(p, name))
            unknown = add_to_list(unknown, name);
    }
    for (int i = 0; i < wg_cell_inputs(p->cell); i++)
        if (!given_array(p, wg_cell_input(p->cell, i)))
            missing = add_to_list(missing, wg_cell_input(p->cell, i));
    for (int i = 0; is_cell && !p->a->init.given && i < wg_cell_params(p->cell); i++)
        if (!given_array(p, wg_cell_param(p->cell, i)))
            missing = add_to_list(missing, wg_cell_param(p->cell, i));
    int status = 0;
    if (unknown || missing)
        status = fail(p->c, "%s: %s%s%s%s%s", p->c->word.word[0], unknown ? "unknown arrays: " : "",
                      unknown ? unknown : "", unknown && missing ? "; " : "",
                      missing ? "missing arrays: " : "", missing ? missing : "");
    free(unknown);
    free(missing);
    return status;
}

/* ---- types and sizes ---- */

static bool reads_tokens(const pass *p) {
    return p->subject.model && wg_model_sizes(p->subject.model)->vocabulary > 0;
}

/* All floats are of one type, the model's if there is one; whole numbers only where they are meant.
 */
static int check_types(pass *p) {
    const char *first = NULL;
    if (p->subject.model) {
        p->dtype = wg_model_sizes(p->subject.model)->dtype;
        first = "the model";
    }
    for (int i = 0; i < wg_params_count(p->given); i++) {
        const char *name = wg_params_name(p->given, i);
        wg_dtype dtype = wg_tensor_dtype(wg_params_tensor(p->given, i));
        bool whole =
            strcmp(name, "lengths") == 0 || (reads_tokens(p) && role_of(p, name) == ROLE_INPUT);
        if (whole != (dtype == WG_I32))
            return fail(p->c, "%s holds %s, and has to hold %s", name,
                        whole ? "floats" : "whole numbers", whole ? "whole numbers" : "floats");
        if (!whole && first && dtype != p->dtype)
            return fail(p->c, "%s is %s and %s is %s: types may not be mixed", first,
                        wg_dtype_name(p->dtype), name, wg_dtype_name(dtype));
        if (!whole && !first) {
            first = name;
            p->dtype = dtype;
        }
    }
    return 0;
}

static int find_sizes(pass *p) {
    const char *name = wg_cell_input(p->cell, 0);
    const wg_shape *shape = wg_tensor_shape(given_array(p, name));
    char text[128];
    int rank = reads_tokens(p) ? 2 : 3;
    if (shape->rank != rank)
        return fail(p->c, "%s has shape %s, and needs %s", name,
                    wg_shape_text(shape, text, sizeof text),
                    rank == 2 ? "two axes: steps, batch" : "three axes: steps, batch, size");
    p->steps = shape->dim[0];
    p->batch = shape->dim[1];
    if (p->subject.model)
        return 0;
    p->input = shape->dim[2];
    p->hidden = p->a->hidden ? p->a->hidden : infer_hidden(p->cell, p->input, p->given);
    if (!p->hidden)
        return fail(p->c, "the arrays do not say what the hidden size is: give --hidden N");
    return 0;
}

/* Draws every parameter, so that those missing do not depend on which are given; a factor that is
 * given needs no initialiser. */
static int draw_missing(pass *p) {
    if (!p->a->init.given || p->subject.model)
        return 0;
    wg_error error = {0};
    int given = p->a->init.line.count, n = given;
    const char **line = allocate((size_t)(given + wg_cell_params(p->cell)), sizeof *line);
    for (int i = 0; i < given; i++)
        line[i] = p->a->init.line.word[i];
    for (int i = 0; i < wg_cell_params(p->cell); i++)
        if (given_array(p, wg_cell_param(p->cell, i)))
            line[n++] = format_text("%s=zeros", wg_cell_param(p->cell, i));
    const wg_draw draw = {.seed = (uint64_t)p->a->seed, .lines = n, .line = line};
    p->drawn = wg_cell_draw(p->c->memory, p->cell, p->dtype, p->input, p->hidden, &draw, &error);
    for (int i = given; i < n; i++)
        free((char *)line[i]);
    free(line);
    return p->drawn ? 0 : fail_error(p->c, &error);
}

/* ---- recording ---- */

/* Checks the lengths, and makes the mask of what they leave. */
static int bind_lengths(pass *p, wg_unroll_options *o) {
    wg_tensor *lengths = given_array(p, "lengths");
    char text[128];
    if (!lengths)
        return 0;
    const wg_shape *shape = wg_tensor_shape(lengths);
    if (shape->rank != 1 || shape->dim[0] != p->batch)
        return fail(p->c, "lengths has shape %s, not (%lld)",
                    wg_shape_text(shape, text, sizeof text), (long long)p->batch);
    wg_tensor *mask =
        wg_tensor_new(p->c->memory, p->dtype, 3, (const int64_t[]){p->steps, p->batch, 1});
    if (!mask)
        return fail(p->c, "no memory for the mask of the lengths");
    for (int64_t b = 0; b < p->batch; b++) {
        double length = wg_tensor_get(lengths, b);
        if (length < 0 || length > (double)p->steps) {
            wg_tensor_free(mask);
            return fail(p->c, "lengths: row %lld has %.0f, not between 0 and %lld", (long long)b,
                        length, (long long)p->steps);
        }
        for (int64_t t = 0; t < (int64_t)length; t++)
            wg_tensor_set(mask, t * p->batch + b, 1);
    }
    p->mask = wg_leaf(p->tape, mask);
    o->lengths = wg_leaf(p->tape, lengths);
    wg_tensor_free(mask);
    return 0;
}

/* Selects, so that what stands beyond a row's length touches nothing. */
static wg_var masked(const pass *p, wg_var x) {
    return p->mask.tape ? wg_where(p->mask, x, wg_c(0)) : x;
}

static int bind_key(pass *p, wg_unroll_options *o) {
    if (!p->a->training)
        return 0;
    wg_tensor *key = wg_key_new(p->c->memory, (uint64_t)p->a->seed);
    if (!key)
        return fail(p->c, "no memory for a random key");
    o->training = true;
    o->key = wg_leaf(p->tape, key);
    wg_tensor_free(key);
    return 0;
}

static void bind_leaf(pass *p, named_list *list, const char *name) {
    wg_tensor *tensor = given_array(p, name);
    if (!tensor && p->drawn)
        tensor = wg_params_find(p->drawn, name);
    if (tensor)
        add_named(list, copy_text(name), wg_leaf(p->tape, tensor));
}

static int record_cell(pass *p, const wg_unroll_options *o) {
    for (int i = 0; i < wg_cell_inputs(p->cell); i++)
        bind_leaf(p, &p->wrt, wg_cell_input(p->cell, i));
    for (int i = 0; i < wg_cell_states(p->cell); i++)
        if (given_array(p, wg_cell_state(p->cell, i)))
            bind_leaf(p, &p->wrt, wg_cell_state(p->cell, i));
    for (int i = 0; i < wg_cell_params(p->cell); i++)
        bind_leaf(p, &p->wrt, wg_cell_param(p->cell, i));
    p->unroll = wg_unroll_new(p->tape, p->cell, p->input, p->hidden, p->wrt.count, p->wrt.item, o);
    return p->unroll ? 0 : tape_failed(p);
}

/* A name of a model is "layerK." and a name of its cell. */
static const wg_unroll *unroll_of(const pass *p, const char *name, const char **own) {
    *own = name;
    for (int k = 0; k < p->forward.layers; k++) {
        char start[32];
        size_t size = (size_t)snprintf(start, sizeof start, "layer%d.", k);
        if (strncmp(name, start, size) == 0) {
            *own = name + size;
            return p->forward.layer[k];
        }
    }
    return p->unroll;
}

/* The states that are given, as leaves that both the model and the gradient name: the model's own
 * leaf of a tensor is another var, so gradients are taken of the unroll's initial state. */
static int record_model(pass *p, const wg_unroll_options *o) {
    const wg_model *model = p->subject.model;
    const char *input = wg_cell_input(p->cell, 0);
    wg_params *states = wg_params_new(p->c->memory);
    wg_var x = wg_leaf(p->tape, given_array(p, input));
    for (int i = 0; states && i < wg_params_count(p->states); i++) {
        wg_tensor *start = given_array(p, wg_params_name(p->states, i));
        if (start && wg_params_add(states, wg_params_name(p->states, i), start) != WG_OK)
            return fail(p->c, "no memory for the states");
    }
    wg_status status = wg_model_record(model, p->tape, x, states, o, &p->forward);
    if (!reads_tokens(p))
        add_named(&p->wrt, copy_text(input), x);
    for (int i = 0; status == WG_OK && i < wg_params_count(states); i++) {
        const char *own;
        const wg_unroll *u = unroll_of(p, wg_params_name(states, i), &own);
        add_named(&p->wrt, copy_text(wg_params_name(states, i)), wg_at(u, -1, own));
    }
    for (int i = 0; status == WG_OK && i < p->forward.weights; i++)
        add_named(&p->wrt, copy_text(wg_params_name(wg_model_params(model), i)),
                  p->forward.weight[i]);
    wg_params_free(states);
    return status == WG_OK ? 0 : tape_failed(p);
}

static int record(pass *p) {
    wg_unroll_options o = {0};
    int status = bind_lengths(p, &o);
    if (status == 0)
        status = bind_key(p, &o);
    if (status == 0)
        status = p->subject.model ? record_model(p, &o) : record_cell(p, &o);
    return status;
}

/* ---- results ---- */

static void add_output(pass *p, const char *name, wg_var var) {
    add_named(&p->out, copy_text(name), var);
    add_named(&p->target, format_text("%s.grad", name), var);
}

static void add_final(pass *p, const char *name) {
    const char *own;
    const wg_unroll *u = unroll_of(p, name, &own);
    if (strcmp(name, "y") != 0) /* then it is the sequence */
        add_output(p, name, wg_unroll_final(u, own));
}

/* NAME.all, zero beyond a row's length. */
static int add_saved(pass *p, const char *name) {
    const char *own;
    const wg_unroll *u = unroll_of(p, name, &own);
    if (!u || p->steps == 0 || !wg_valid(wg_at(u, 0, own)))
        return fail(p->c, "--save %s: %s has no such state, line or input%s", name,
                    p->c->word.word[0], p->steps == 0 ? " to save: it makes no steps" : "");
    char *full = format_text("%s.all", name);
    add_output(p, full, masked(p, wg_unroll_all(u, own)));
    free(full);
    return 0;
}

static int add_results(pass *p) {
    add_output(p, "y",
               masked(p, p->subject.model ? p->forward.output : wg_unroll_output(p->unroll)));
    for (int i = 0; p->states && i < wg_params_count(p->states); i++)
        add_final(p, wg_params_name(p->states, i));
    for (int i = 0; !p->states && i < wg_cell_states(p->cell); i++)
        add_final(p, wg_cell_state(p->cell, i));
    int status = 0;
    for (int i = 0; i < p->save.count && status == 0; i++)
        status = add_saved(p, p->save.word[i]);
    return status == 0 && wg_tape_status(p->tape) != WG_OK ? tape_failed(p) : status;
}

/* ---- gradients ---- */

static bool same_shape(const wg_shape *a, const wg_shape *b) {
    bool same = a->rank == b->rank;
    for (int axis = 0; same && axis < a->rank; axis++)
        same = a->dim[axis] == b->dim[axis];
    return same;
}

/* The results that have a cotangent, and these, selected within the lengths. Returns how many, or
 * -1 having said what is wrong. */
static int bind_cotangents(pass *p, wg_var *y, wg_var *cotangent) {
    int n = 0;
    char is[128], want[128];
    for (int i = 0; i < p->target.count; i++) {
        wg_tensor *g = given_array(p, p->target.item[i].name);
        wg_var of = p->target.item[i].var;
        if (!g)
            continue;
        if (!same_shape(wg_tensor_shape(g), wg_var_shape(of))) {
            fail(p->c, "%s has shape %s, not %s", p->target.item[i].name,
                 wg_shape_text(wg_tensor_shape(g), is, sizeof is),
                 wg_shape_text(wg_var_shape(of), want, sizeof want));
            return -1;
        }
        y[n] = of;
        cotangent[n] = wg_leaf(p->tape, g);
        if (wg_var_shape(of)->rank == 3)
            cotangent[n] = masked(p, cotangent[n]);
        n++;
    }
    return n;
}

/* The gradients of one saved name at every step, stacked: (T,B,n). */
static void add_saved_gradient(pass *p, const char *name, wg_var *step) {
    for (int64_t t = 0; t < p->steps; t++)
        if (wg_rank(step[t]) == 1) /* one value for all rows: one gradient */
            step[t] = wg_reshape(step[t], 2, (const int64_t[]){1, wg_dim(step[t], 0)});
    add_named(&p->out, format_text("%s.all.grad", name), wg_stack((int)p->steps, step, 0));
}

/* Everything is differentiated in one sweep: the float inputs, then each saved name at each step.
 */
static int add_gradients(pass *p) {
    size_t saved = (size_t)p->save.count * (size_t)p->steps, all = (size_t)p->wrt.count + saved;
    wg_var *y = allocate((size_t)p->target.count, 2 * sizeof *y), *cotangent = y + p->target.count;
    wg_var *x = allocate(all, 2 * sizeof *x), *dx = x + all;
    int m = bind_cotangents(p, y, cotangent);
    size_t n = 0;
    for (int i = 0; i < p->wrt.count; i++)
        x[n++] = p->wrt.item[i].var;
    for (int i = 0; i < p->save.count; i++) {
        const char *own;
        const wg_unroll *u = unroll_of(p, p->save.word[i], &own);
        for (int64_t t = 0; t < p->steps; t++)
            x[n++] = wg_at(u, t, own);
    }
    if (m > 0)
        wg_vjp(m, y, cotangent, (int)n, x, dx);
    for (int i = 0; m > 0 && i < p->wrt.count; i++)
        add_named(&p->out, format_text("%s.grad", p->wrt.item[i].name), dx[i]);
    for (int i = 0; m > 0 && i < p->save.count; i++)
        add_saved_gradient(p, p->save.word[i], dx + p->wrt.count + (size_t)i * (size_t)p->steps);
    free(y);
    free(x);
    return m < 0 ? 1 : wg_tape_status(p->tape) != WG_OK ? tape_failed(p) : 0;
}

/* ---- running and writing ---- */

static int write_results(pass *p, const wg_plan *plan) {
    wg_error error = {0};
    wg_params *file = wg_params_new(p->c->memory);
    wg_status status = file ? WG_OK : WG_MEMORY;
    for (int i = 0; i < p->out.count && status == WG_OK; i++)
        status = wg_params_add(file, p->out.item[i].name, (wg_tensor *)wg_plan_output(plan, i));
    if (status == WG_OK)
        status = wg_params_save(file, p->a->output, &error);
    else
        wg_error_set(&error, status, "%s", wg_status_sentence(status));
    wg_params_free(file);
    return status == WG_OK ? 0 : fail_error(p->c, &error);
}

static int run_and_write(pass *p) {
    wg_error error = {0};
    const wg_compile_options how = {.run = p->c->run};
    wg_var *y = allocate((size_t)p->out.count, sizeof *y);
    for (int i = 0; i < p->out.count; i++)
        y[i] = p->out.item[i].var;
    wg_plan *plan = wg_compile(p->out.count, y, &how, &error);
    int status =
        plan && wg_run(plan, &error) == WG_OK ? write_results(p, plan) : fail_error(p->c, &error);
    wg_plan_free(plan);
    free(y);
    return status;
}

static int make_pass(pass *p) {
    const run_arguments *a = p->a;
    int status = subject_load(p->c, p->c->word.word[0], &a->set, &p->subject);
    if (status)
        return status;
    p->cell = subject_cell(&p->subject);
    if (p->subject.model && !(p->states = wg_model_states(p->subject.model, 1)))
        return fail_memory(p->c);
    if (!(p->given = arrays_load(p->c, &a->input)))
        return 1;
    p->tape = wg_tape_new(p->c->memory);
    if (!p->tape)
        return fail_memory(p->c);
    int (*const step[])(pass *) = {list_saved,  check_names,   check_types,
                                   find_sizes,  draw_missing,  record,
                                   add_results, add_gradients, run_and_write};
    status = 0;
    for (size_t i = 0; i < sizeof step / sizeof *step && status == 0; i++)
        status = step[i](p);
    return status;
}

static int run(void *arguments) {
    const run_arguments *a = arguments;
    pass p = {.a = a, .c = &a->common};
    if (!a->input.count || !a->output)
        return misuse(p.c, "it needs --input IN and --output OUT.safetensors");
    int status = make_pass(&p);
    if (status == 0)
        subject_warn(p.c, &p.subject);
    free_named(&p.wrt);
    free_named(&p.out);
    free_named(&p.target);
    free(p.save.word);
    wg_unroll_free(p.unroll);
    if (p.forward.layer)
        wg_forward_free(&p.forward);
    wg_tape_free(p.tape);
    wg_params_free(p.given);
    wg_params_free(p.drawn);
    wg_params_free(p.states);
    subject_free(&p.subject);
    return status;
}

const subcommand run_subcommand = {
    .name = "run",
    .usage = "CELL|MODEL",
    .summary = "one pass of a cell or model on given arrays, with gradients",
    .details =
        "Names in files are the names in the cell: its inputs (x, [T,B,n]), initial states [B,n] "
        "where they are not zero, every "
        "parameter; lengths [B] (whole numbers: a row's state stops at its length, its outputs "
        "beyond are zero, and what stands "
        "beyond it in the arrays, NaN included, touches nothing). A cell is the name of one of the "
        "zoo, or a file.\n"
        "\n"
        "Writes y [T,B,n], and the final states under their names. If cotangents are given (y.grad "
        "[T,B,n], of the final states "
        "STATE.grad [B,n], of what is saved NAME.all.grad [T,B,n]), also NAME.grad for every float "
        "input.\n"
        "\n"
        "Sizes and the type (F32 or F64) follow from the arrays. The names of a model "
        "(FILE.safetensors, as train writes it) are "
        "x, and layerK.NAME; its parameters are in its file.\n"
        "\n"
        "  wengert run lstm --input arrays.safetensors --output results.safetensors --save i,f\n"
        "  wengert run my.cell --input x=x.npy --hidden 64 --init --seed 1 --output "
        "out.safetensors",
    .options = options,
    .groups = TAKES_RUN | TAKES_FOREIGN,
    .least_words = 1,
    .most_words = 1,
    .size = sizeof(run_arguments),
    .run = run,
};
