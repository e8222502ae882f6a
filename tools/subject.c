/* subject.c: loads cells, models and arrays for the subcommands, and finds the sizes that arrays
 * imply. */
#include "subject.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* ---- cells and models ---- */

static const char *zoo_name_at(const void *user, int i) {
    (void)user;
    return wg_zoo_name(i);
}

/* A name that is no file may be a slip in the name of a zoo cell. */
static int no_such_cell(const common *c, const char *name) {
    const char *near = nearest_name(name, wg_zoo_count(), zoo_name_at, NULL);
    return fail(c, "there is no cell '%s' in the zoo, and no such file%s%s%s", name,
                near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

wg_cell *cell_load(const common *c, const char *name, const settings *set) {
    wg_error error = {0};
    if (!wg_zoo_text(name) && !strchr(name, '/') && access(name, F_OK) != 0) {
        no_such_cell(c, name);
        return NULL;
    }
    const wg_cell_options options = {set ? set->count : 0, set ? set->setting : NULL, c->foreign};
    wg_cell *cell = wg_cell_load_with(c->memory, name, &options, &error);
    if (!cell)
        fail_error(c, &error);
    return cell;
}

int subject_load(const common *c, const char *name, const settings *set, subject *s) {
    wg_error error = {0};
    *s = (subject){0};
    if (!ends_with(name, ".safetensors")) {
        s->cell = cell_load(c, name, set);
        return s->cell ? 0 : 1;
    }
    if (set && set->count)
        return fail(
            c, "%s is a model: its sizes and consts are fixed, and --set cannot change them", name);
    s->model = wg_model_load_with(c->memory, name, c->foreign, NULL, &error);
    return s->model ? 0 : fail_error(c, &error);
}

void subject_free(subject *s) {
    wg_cell_free(s->cell);
    wg_model_free(s->model);
    *s = (subject){0};
}

const wg_cell *subject_cell(const subject *s) {
    return s->model ? wg_model_cell(s->model) : s->cell;
}

void subject_warn(const common *c, const subject *s) {
    const wg_cell *cell = subject_cell(s);
    for (int i = 0; i < wg_cell_warnings(cell); i++)
        note(c, "%s", wg_cell_warning(cell, i));
}

/* ---- arrays ---- */

static int add_array(const common *c, wg_params *all, const char *name, wg_tensor *tensor,
                     const char *path) {
    wg_status status = wg_params_add(all, name, tensor);
    if (status == WG_CONFLICT)
        return fail(c, "%s: %s was given already", path, name);
    return status == WG_OK ? 0 : fail(c, "%s: %s: %s", path, name, wg_status_sentence(status));
}

static int add_safetensors(const common *c, wg_params *all, const char *path) {
    wg_error error = {0};
    wg_params *file = wg_params_load(c->memory, path, &error);
    int status = file ? 0 : fail_error(c, &error);
    for (int i = 0; status == 0 && i < wg_params_count(file); i++)
        status = add_array(c, all, wg_params_name(file, i), wg_params_tensor(file, i), path);
    wg_params_free(file);
    return status;
}

static int add_npy(const common *c, wg_params *all, const char *given) {
    wg_error error = {0};
    size_t size = strcspn(given, "=");
    if (!given[size] || size == 0)
        return fail(c, "%s: a .npy file holds one array without a name: give it as x=%s", given,
                    given);
    char *name = format_text("%.*s", (int)size, given);
    wg_tensor *tensor = wg_npy_load(c->memory, given + size + 1, &error);
    int status = tensor ? add_array(c, all, name, tensor, given + size + 1) : fail_error(c, &error);
    wg_tensor_free(tensor);
    free(name);
    return status;
}

wg_params *arrays_load(const common *c, const words *file) {
    wg_params *all = wg_params_new(c->memory);
    int status = all ? 0 : fail_memory(c);
    for (int i = 0; i < file->count && status == 0; i++) {
        const char *path = file->word[i];
        if (ends_with(path, ".npz"))
            status = fail(
                c, "%s: .npz is not read yet: give .safetensors, or NAME=FILE.npy for each array",
                path);
        else
            status =
                ends_with(path, ".npy") ? add_npy(c, all, path) : add_safetensors(c, all, path);
    }
    if (status == 0)
        return all;
    wg_params_free(all);
    return NULL;
}

/* ---- sizes ---- */

static bool among(const wg_cell *cell, int n, const char *(*at)(const wg_cell *cell, int i),
                  const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(at(cell, i), name) == 0)
            return true;
    return false;
}

role cell_role(const wg_cell *cell, const char *name) {
    if (among(cell, wg_cell_inputs(cell), wg_cell_input, name))
        return ROLE_INPUT;
    if (among(cell, wg_cell_states(cell), wg_cell_state, name))
        return ROLE_STATE;
    return among(cell, wg_cell_params(cell), wg_cell_param, name) ? ROLE_PARAM : ROLE_NONE;
}

/* The name of the cell that an array is about, and how many axes (steps, batch) stand before its
 * own; false if none. */
static bool about(const wg_cell *cell, const char *array, char *name, size_t size, int *before) {
    const char *const ends[] = {".all.grad", ".grad", ""};
    for (int i = 0; i < 3; i++) {
        if (!ends_with(array, ends[i]) && *ends[i])
            continue;
        snprintf(name, size, "%.*s", (int)(strlen(array) - strlen(ends[i])), array);
        if (i == 1 && strcmp(name, "y") == 0)
            snprintf(name, size, "%s", wg_cell_output(cell));
        else if (i == 1 && cell_role(cell, name) != ROLE_STATE)
            return false;
        role r = cell_role(cell, name);
        *before = i == 0 || strcmp(array, "y.grad") == 0 ? 2
                  : i == 1                               ? 1
                  : r == ROLE_INPUT                      ? 2
                                                         : r == ROLE_STATE;
        return i < 2 || r != ROLE_NONE;
    }
    return false;
}

/* Whether an array's own axes are what its name asks for; true if its name asks for nothing. */
static bool fits(const wg_cell *cell, int64_t input, int64_t hidden, const char *array,
                 const wg_tensor *tensor) {
    char name[256];
    int before;
    wg_shape want;
    const wg_shape *is = wg_tensor_shape(tensor);
    if (!about(cell, array, name, sizeof name, &before))
        return true;
    if (wg_cell_shape(cell, name, input, hidden, &want, NULL) != WG_OK ||
        is->rank != want.rank + before)
        return false;
    for (int axis = 0; axis < want.rank; axis++)
        if (is->dim[before + axis] != want.dim[axis])
            return false;
    return true;
}

static int fitting(const wg_cell *cell, int64_t input, int64_t hidden, const wg_params *arrays) {
    int count = 0;
    for (int i = 0; i < wg_params_count(arrays); i++)
        count += fits(cell, input, hidden, wg_params_name(arrays, i), wg_params_tensor(arrays, i));
    return count;
}

/* Better candidates fit more arrays; of equals the first is kept. */
static void try_hidden(const wg_cell *cell, int64_t input, int64_t hidden, const wg_params *arrays,
                       int64_t *best, int *most) {
    int count = hidden > 0 && hidden != *best ? fitting(cell, input, hidden, arrays) : 0;
    if (count > *most) {
        *most = count;
        *best = hidden;
    }
}

int64_t infer_hidden(const wg_cell *cell, int64_t input, const wg_params *arrays) {
    int64_t best = 0;
    int most = 0;
    try_hidden(cell, input, input, arrays, &best, &most);
    /* Lengths are formulas in hidden with small factors: n/k and n*k for every size n of every
     * array. */
    for (int i = 0; i < wg_params_count(arrays); i++) {
        const wg_shape *shape = wg_tensor_shape(wg_params_tensor(arrays, i));
        for (int axis = 0; axis < shape->rank; axis++)
            for (int64_t k = 1; k <= 16 && shape->dim[axis] < INT32_MAX; k++) {
                if (shape->dim[axis] % k == 0)
                    try_hidden(cell, input, shape->dim[axis] / k, arrays, &best, &most);
                try_hidden(cell, input, shape->dim[axis] * k, arrays, &best, &most);
            }
    }
    /* If the neighbours fit as well, the arrays do not say. */
    bool open = best && fitting(cell, input, best + 1, arrays) >= most &&
                fitting(cell, input, best + 2, arrays) >= most;
    return open ? 0 : best;
}
