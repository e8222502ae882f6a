/* model.c: layers of a cell between an embedding and an output layer, recorded and drawn. Files are model_file.c's. */
#include "model.h"

#include <stdio.h>
#include <string.h>

/* ---- making ---- */

static wg_status refused(wg_memory *memory, wg_error *error) {
    return wg_error_set(error, wg__refusal(memory), "model: %s", wg_status_sentence(wg__refusal(memory)));
}

static wg_status check_options(const wg_model_options *o, wg_error *error) {
    if (o->vocabulary < 0 || o->embed < 0 || o->input < 0 || o->hidden < 1 || o->layers < 1 || o->outputs < 0)
        return wg_error_set(error, WG_RANGE, "model: a size is out of range");
    if ((o->vocabulary > 0) == (o->input > 0))
        return wg_error_set(error, WG_ARGUMENT, "model: give either a vocabulary or the width of the input");
    if (o->dtype != WG_F32 && o->dtype != WG_F64)
        return wg_error_set(error, WG_DTYPE, "model: parameters are f32 or f64");
    return WG_OK;
}

/* The width of what the first layer reads. */
static int64_t first_width(const wg_model_options *o) {
    return o->vocabulary ? (o->embed ? o->embed : o->vocabulary) : o->input;
}

int64_t wg__model_input(const wg_model *model, int layer) {
    return layer == 0 ? first_width(&model->options) : model->width;
}

const char *wg__layer_name(wg_layer_name *name, int layer, const char *of) {
    snprintf(name->text, sizeof name->text, "layer%d.%s", layer, of);
    return name->text;
}

static wg_status add_tensor(wg_model *model, const char *name, int rank, const int64_t *dim, double (*draw)(wg_random *),
                            double scale, uint64_t seed, wg_error *error) {
    wg_tensor *tensor = wg_tensor_new(model->memory, model->options.dtype, rank, dim);
    if (!tensor)
        return refused(model->memory, error);
    wg_random random = {.seed = seed, .stream = (uint64_t)wg_params_count(model->params)};
    for (int64_t i = 0; draw && i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, scale * draw(&random));
    wg_status status = wg_params_add(model->params, name, tensor);
    wg_tensor_free(tensor);
    return status == WG_OK ? WG_OK : wg_error_set(error, status, "model: %s: %s", name, wg_status_sentence(status));
}

static double symmetric(wg_random *random) { return 2 * wg_random_uniform(random) - 1; }

static wg_status add_layer(wg_model *model, int layer, const wg_draw *draw, wg_error *error) {
    wg_draw own = draw ? *draw : (wg_draw){0};
    own.layer = (uint64_t)layer;
    wg_params *params = wg_cell_draw(model->memory, model->cell, model->options.dtype, wg__model_input(model, layer),
                                     model->options.hidden, &own, error);
    if (!params)
        return error ? error->status : WG_ARGUMENT;
    wg_status status = WG_OK;
    for (int i = 0; i < wg_params_count(params) && status == WG_OK; i++) {
        wg_layer_name name;
        status = wg_params_add(model->params, wg__layer_name(&name, layer, wg_params_name(params, i)),
                               wg_params_tensor(params, i));
        if (status == WG_OK)
            wg_params_set_fixed(model->params, wg_params_count(model->params) - 1, wg_params_fixed(params, i));
        else
            wg_error_set(error, status, "model: %s: %s", name.text, wg_status_sentence(status));
    }
    wg_params_free(params);
    return status;
}

static wg_status add_all(wg_model *model, const wg_draw *draw, wg_error *error) {
    const wg_model_options *o = &model->options;
    uint64_t seed = draw ? draw->seed : 0;
    wg_status status = WG_OK;
    if (o->vocabulary && o->embed)
        status = add_tensor(model, "embedding", 2, (const int64_t[]){o->vocabulary, o->embed}, wg_random_normal, 1, seed,
                            error);
    for (int layer = 0; layer < o->layers && status == WG_OK; layer++)
        status = add_layer(model, layer, draw, error);
    if (o->outputs && status == WG_OK) {
        double glorot = __builtin_sqrt(6.0 / (double)(o->outputs + model->width));
        status = add_tensor(model, "output.W", 2, (const int64_t[]){o->outputs, model->width}, symmetric, glorot, seed,
                            error);
        if (status == WG_OK)
            status = add_tensor(model, "output.b", 1, &o->outputs, NULL, 0, seed, error);
    }
    return status;
}

/* Finds the width of the layers' output. Every size of every layer is checked, so that a bad one is told by its place
 * before any work. */
static wg_status measure(wg_model *model, wg_error *error) {
    const wg_lang *lang = model->cell->lang;
    const wg_model_options *o = &model->options;
    wg_shape shape = {0};
    wg_status status = wg__lang_check_sizes(lang, first_width(o), o->hidden, error);
    if (status == WG_OK)
        status = wg__lang_shape(lang, lang->output, first_width(o), o->hidden, &shape, error);
    model->width = shape.rank ? shape.dim[0] : 1;
    if (status == WG_OK && o->layers > 1)
        status = wg__lang_check_sizes(lang, model->width, o->hidden, error);
    return status;
}

wg_model *wg__model_empty(wg_memory *memory, wg_cell *cell, const wg_model_options *options, wg_error *error) {
    wg_model *model = cell && check_options(options, error) == WG_OK ? wg__take0(memory, sizeof *model) : NULL;
    if (!model) {
        if (cell && (!error || error->status == WG_OK))
            refused(memory, error);
        wg_cell_free(cell);
        return NULL;
    }
    model->memory = memory;
    model->cell = cell;
    if (wg_cell_inputs(cell) != 1) {
        wg_error_set(error, WG_UNSUPPORTED, "model: cell %s reads %d inputs, and layers are stacked by one",
                     wg_cell_name(cell), wg_cell_inputs(cell));
        wg_model_free(model);
        return NULL;
    }
    model->options = *options;
    model->params = wg_params_new(memory);
    if ((model->params ? measure(model, error) : refused(memory, error)) != WG_OK) {
        wg_model_free(model);
        return NULL;
    }
    return model;
}

wg_model *wg_model_new(wg_memory *memory, wg_cell *cell, const wg_model_options *options, const wg_draw *draw,
                       wg_error *error) {
    wg_model *model = wg__model_empty(memory, cell, options, error);
    if (model && add_all(model, draw, error) != WG_OK) {
        wg_model_free(model);
        return NULL;
    }
    return model;
}

void wg_model_free(wg_model *model) {
    if (model) {
        wg_params_free(model->params);
        wg_cell_free(model->cell);
        wg__give(model->memory, model);
    }
}

const wg_cell *wg_model_cell(const wg_model *model) { return model->cell; }
const wg_model_options *wg_model_sizes(const wg_model *model) { return &model->options; }
wg_params *wg_model_params(const wg_model *model) { return model->params; }

/* Layer k's parameter `symbol` of the cell: parameters stand in the order in which add_all and the reader of files add
 * them. */
static int param_index(const wg_model *model, int layer, int param) {
    const wg_model_options *o = &model->options;
    return (o->vocabulary && o->embed) + layer * wg_cell_params(model->cell) + param;
}

/* A row of a state's declared start: a parameter's current value, a number, or zero. */
static void fill_start(const wg_model *model, int layer, int state, wg_tensor *tensor) {
    const wg_lang *lang = model->cell->lang;
    const wg_symbol *symbol = &lang->symbol[lang->state[state]];
    const wg_tensor *start = NULL;
    double number = 0;
    if (symbol->start >= 0)
        start = wg_params_tensor(model->params, param_index(model, layer, wg__lang_param(lang, symbol->start)));
    if (symbol->start_at)
        wg__lang_number(lang, &lang->source, symbol->start_at, wg__model_input(model, layer), model->options.hidden, &number,
                        NULL);
    int64_t row = start ? wg_tensor_shape(start)->count : 1;
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count && row; i++)
        wg_tensor_set(tensor, i, start ? wg_tensor_get(start, i % row) : number);
}

/* The sizes and starts were found good when the model was made. */
static wg_status add_state(const wg_model *model, int layer, int i, int64_t batch, wg_params *states) {
    wg_shape shape;
    wg_layer_name name;
    const char *state = wg_cell_state(model->cell, i);
    wg_cell_shape(model->cell, state, wg__model_input(model, layer), model->options.hidden, &shape, NULL);
    wg_tensor *tensor = wg_tensor_new(model->memory, model->options.dtype, 2, (const int64_t[]){batch, shape.dim[0]});
    if (!tensor)
        return wg__refusal(model->memory);
    fill_start(model, layer, i, tensor);
    wg_status status = wg_params_add(states, wg__layer_name(&name, layer, state), tensor);
    wg_tensor_free(tensor);
    return status;
}

wg_params *wg_model_states(const wg_model *model, int64_t batch) {
    wg_params *states = wg_params_new(model->memory);
    wg_status status = states ? WG_OK : WG_MEMORY;
    for (int layer = 0; layer < model->options.layers && status == WG_OK; layer++)
        for (int i = 0; i < wg_cell_states(model->cell) && status == WG_OK; i++)
            status = add_state(model, layer, i, batch, states);
    if (status != WG_OK) {
        wg_params_free(states);
        return NULL;
    }
    return states;
}

/* ---- recording ---- */

/* (T,B) tokens to (T,B,n). */
static wg_var embedded(const wg_model *model, const wg_forward *pass, wg_var x) {
    const wg_model_options *o = &model->options;
    if (!o->vocabulary)
        return x;
    if (o->embed)
        return wg_gather(pass->weight[0], x, 0);
    return wg_one_hot(x, o->vocabulary, o->dtype);
}

/* The bindings of one layer: its input, parameters, and states if given. */
static int bind_layer(const wg_model *model, const wg_forward *pass, int layer, wg_var x, const wg_params *states,
                      wg_named *given) {
    wg_tape *tape = x.tape;
    const wg_cell *cell = model->cell;
    wg_layer_name name;
    int n = 0;
    given[n++] = (wg_named){wg_cell_input(cell, 0), x};
    for (int i = 0; i < wg_cell_params(cell); i++)
        given[n++] = (wg_named){wg_cell_param(cell, i), pass->weight[param_index(model, layer, i)]};
    for (int i = 0; i < wg_cell_states(cell) && states; i++) {
        wg_tensor *start = wg_params_find(states, wg__layer_name(&name, layer, wg_cell_state(cell, i)));
        if (start)
            given[n++] = (wg_named){wg_cell_state(cell, i), wg_leaf(tape, start)};
    }
    return n;
}

static wg_status record_layers(const wg_model *model, wg_tape *tape, wg_var x, const wg_params *states,
                               const wg_unroll_options *options, wg_forward *pass) {
    const wg_cell *cell = model->cell;
    size_t names = (size_t)(1 + wg_cell_params(cell) + wg_cell_states(cell));
    wg_named *given = wg__take(pass->memory, names * sizeof *given);
    if (!given) {
        wg__fail(tape, wg__refusal(pass->memory), "model", "no memory for its layers");
        return tape->status;
    }
    for (int layer = 0; layer < model->options.layers && tape->status == WG_OK; layer++) {
        int n = bind_layer(model, pass, layer, x, states, given);
        wg_unroll *unroll = wg_unroll_new(tape, cell, wg__model_input(model, layer), model->options.hidden, n, given,
                                          options);
        if (!unroll)
            break;
        pass->layer[pass->layers++] = unroll;
        x = wg_unroll_output(unroll);
    }
    wg__give(pass->memory, given);
    pass->output = x;
    return tape->status;
}

wg_status wg_model_record(const wg_model *model, wg_tape *tape, wg_var x, const wg_params *states,
                          const wg_unroll_options *options, wg_forward *pass) {
    int weights = wg_params_count(model->params);
    const wg_mark before = wg_tape_mark(tape);
    *pass = (wg_forward){.memory = model->memory};
    pass->layer = wg__take0(model->memory, (size_t)model->options.layers * sizeof *pass->layer);
    pass->weight = wg__take0(model->memory, (size_t)weights * sizeof *pass->weight + 1);
    if (!pass->layer || !pass->weight) {
        wg__fail(tape, wg__refusal(model->memory), "model", "no memory for a pass");
        wg_forward_free(pass);
        return tape->status;
    }
    for (; pass->weights < weights; pass->weights++)
        pass->weight[pass->weights] = wg_leaf(tape, wg_params_tensor(model->params, pass->weights));
    wg_status status = record_layers(model, tape, embedded(model, pass, x), states, options, pass);
    if (status == WG_OK && model->options.outputs) /* output.W and output.b are the last two */
        pass->output = wg_add(wg_linear(pass->output, pass->weight[weights - 2]), pass->weight[weights - 1]);
    if (tape->status != WG_OK) {
        wg_forward_free(pass);
        wg_tape_rewind(tape, before);
    }
    return tape->status;
}

void wg_forward_free(wg_forward *pass) {
    for (int i = 0; i < pass->layers; i++)
        wg_unroll_free(pass->layer[i]);
    if (pass->layer)
        wg__give(pass->memory, pass->layer);
    if (pass->weight)
        wg__give(pass->memory, pass->weight);
    *pass = (wg_forward){0};
}
