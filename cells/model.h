/* model.h: a model as the parts of cells/ see it. */
#ifndef WG_MODEL_H
#define WG_MODEL_H

#include "cell.h"

struct wg_model {
    wg_memory *memory;
    wg_cell *cell;
    wg_model_options options;
    int64_t width; /* of a layer's output */
    wg_params *params;
};

/* The same without parameters, for a reader that has them. Takes the cell, also on failure. */
wg_model *wg__model_empty(wg_memory *memory, wg_cell *cell, const wg_model_options *options, wg_error *error);
int64_t wg__model_input(const wg_model *model, int layer); /* width of what a layer reads */

/* "layerK.NAME", the name of a cell's parameter or state in layer K. */
typedef struct wg_layer_name {
    char text[WG_EXPR_NAME + 24];
} wg_layer_name;
const char *wg__layer_name(wg_layer_name *name, int layer, const char *of);

/* A model from the bytes of its file; `name` stands for the file in messages. As wg_model_load. */
wg_model *wg__model_parse(wg_memory *memory, const void *bytes, size_t size, const char *name, wg_params **more,
                          wg_error *error);

#endif
