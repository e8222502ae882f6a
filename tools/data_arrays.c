/* data_arrays.c: the user's own arrays as data: x, y, and perhaps lengths and mask, of N sequences. Their shapes decide the loss.
 * Each epoch takes the sequences in an order of its own, drawn from the seed and the epoch's number. */
#include "data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { X, Y, LENGTHS, MASK, ARRAYS };
static const char *const array_names[ARRAYS] = {"x", "y", "lengths", "mask"};

/* Some sequences of a set of arrays. */
typedef struct sequences {
    wg_tensor *array[ARRAYS]; /* borrowed */
    int64_t from, count;
} sequences;

typedef struct arrays {
    wg_params *file[PARTS];
    sequences part[PARTS];
    uint64_t seed;
    int64_t epoch; /* that `order` is of */
    int64_t *order;
} arrays;

static void release(void *own) {
    arrays *o = own;
    for (int i = 0; i < PARTS; i++)
        wg_params_free(o->file[i]);
    free(o->order);
    free(o);
}

/* ---- batches ---- */

/* Fisher & Yates, as Durstenfeld wrote it in 1964. */
static void shuffle(arrays *o, int64_t count, int64_t epoch) {
    wg_random random = {.seed = o->seed, .stream = ((uint64_t)1 << 62) + (uint64_t)epoch};
    for (int64_t i = 0; i < count; i++)
        o->order[i] = i;
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)wg_random_below(&random, (uint64_t)i + 1), keep = o->order[i];
        o->order[i] = o->order[j];
        o->order[j] = keep;
    }
    o->epoch = epoch;
}

static double number_at(const wg_tensor *tensor, int64_t i) {
    const void *data = wg_tensor_data(tensor);
    switch (wg_tensor_dtype(tensor)) {
    case WG_F32: return ((const float *)data)[i];
    case WG_F64: return ((const double *)data)[i];
    case WG_I32: return ((const int32_t *)data)[i];
    }
    return 0;
}

/* Sequence n of `from` (N,T,w…) or (N,w…) into row b of `to` (T,B,w…) or (B,w…). */
static void copy_sequence(const wg_tensor *from, int64_t n, wg_tensor *to, void *data, int64_t b, int64_t steps,
                          int64_t rows) {
    int64_t width = wg_tensor_shape(to)->count / (steps * rows);
    for (int64_t t = 0; t < steps; t++)
        for (int64_t i = 0; i < width; i++) {
            int64_t source = (n * steps + t) * width + i, place = (t * rows + b) * width + i;
            if (wg_tensor_dtype(to) == WG_I32)
                ((int32_t *)data)[place] = ((const int32_t *)wg_tensor_data(from))[source];
            else
                put_float(data, wg_tensor_dtype(to), place, number_at(from, source));
        }
}

/* What each step weighs: by the mask, nothing beyond the length; for a loss at the last step, 1 there. */
static void put_weights(const dataset *d, const sequences *s, int64_t n, const part *p, wg_tensor *to, void *data, int64_t b) {
    int64_t length = s->array[LENGTHS] ? (int64_t)number_at(s->array[LENGTHS], n) : p->steps;
    for (int64_t t = 0; t < p->steps; t++) {
        double weight = d->last ? t == length - 1 : t < length;
        if (!d->last && s->array[MASK])
            weight *= number_at(s->array[MASK], n * p->steps + t);
        put_float(data, wg_tensor_dtype(to), t * p->batch + b, weight);
    }
}

static void fill(const dataset *d, int which, int64_t number, minibatch *b) {
    arrays *o = d->own;
    const part *p = &d->part[which];
    const sequences *s = &o->part[which];
    int64_t epoch = number / p->count, first = number % p->count * p->batch;
    if (which == TRAINED && o->epoch != epoch)
        shuffle(o, s->count, epoch);
    void *x = wg_tensor_write(b->x), *y = wg_tensor_write(b->y);
    void *weight = b->weight ? wg_tensor_write(b->weight) : NULL;
    int32_t *lengths = b->lengths ? wg_tensor_write(b->lengths) : NULL;
    for (int64_t row = 0; row < p->batch; row++) {
        int64_t n = s->from + (which == TRAINED ? o->order[first + row] : first + row);
        copy_sequence(s->array[X], n, b->x, x, row, p->steps, p->batch);
        copy_sequence(s->array[Y], n, b->y, y, row, d->last ? 1 : p->steps, p->batch);
        if (weight)
            put_weights(d, s, n, p, b->weight, weight, row);
        if (lengths)
            lengths[row] = (int32_t)number_at(s->array[LENGTHS], n);
    }
}

/* ---- reading ---- */

static int array_named(const char *name, size_t size) {
    for (int i = 0; i < ARRAYS; i++)
        if (strlen(array_names[i]) == size && strncmp(array_names[i], name, size) == 0)
            return i;
    return -1;
}

static int add_npy(const common *c, wg_params *set, const char *word, const char *path) {
    wg_error error = {0};
    char name[16];
    snprintf(name, sizeof name, "%.*s", (int)(path - 1 - word), word);
    wg_tensor *tensor = wg_npy_load(c->memory, path, &error);
    if (!tensor)
        return fail_error(c, &error);
    wg_status status = wg_params_add(set, name, tensor);
    wg_tensor_free(tensor);
    return status == WG_OK ? 0 : fail(c, "--data %s: %s", word, wg_status_sentence(status));
}

static bool ends_with(const char *text, const char *ending) {
    size_t size = strlen(text), last = strlen(ending);
    return size >= last && strcmp(text + size - last, ending) == 0;
}

/* One file of all arrays. */
static wg_params *load_file(const common *c, const char *path) {
    wg_error error = {0};
    if (ends_with(path, ".npz") || ends_with(path, ".csv")) {
        fail(c, "%s: .npz and .csv are not read yet: give a .safetensors file, or x=FILE.npy and y=FILE.npy", path);
        return NULL;
    }
    wg_params *set = wg_params_load(c->memory, path, &error);
    if (!set)
        fail_error(c, &error);
    return set;
}

/* One file of all arrays, or one .npy file each. */
static wg_params *load_arrays(const common *c, const words *files) {
    const char *equals = strchr(files->word[0], '=');
    if (!equals || array_named(files->word[0], (size_t)(equals - files->word[0])) < 0) {
        if (files->count > 1) {
            fail(c, "--data %s: several files are given as x=FILE.npy, y=FILE.npy, and so on", files->word[1]);
            return NULL;
        }
        return load_file(c, files->word[0]);
    }
    wg_params *set = wg_params_new(c->memory);
    int status = set ? 0 : fail(c, "%s", wg_status_sentence(WG_MEMORY));
    for (int i = 0; i < files->count && status == 0; i++) {
        const char *word = files->word[i];
        equals = strchr(word, '=');
        if (!equals || array_named(word, (size_t)(equals - word)) < 0)
            status = fail(c, "--data %s: this is not x=FILE, y=FILE, lengths=FILE or mask=FILE", word);
        else
            status = add_npy(c, set, word, equals + 1);
    }
    if (status == 0)
        return set;
    wg_params_free(set);
    return NULL;
}

static int list_arrays(const common *c, const wg_params *set, const char *path, sequences *s) {
    for (int i = 0; i < wg_params_count(set); i++) {
        const char *name = wg_params_name(set, i);
        int which = array_named(name, strlen(name));
        if (which < 0)
            return fail(c, "%s: no input of the model is called %s; known are x, y, lengths, mask", path, name);
        s->array[which] = wg_params_tensor(set, i);
    }
    if (!s->array[X] || !s->array[Y])
        return fail(c, "%s: there is no array %s", path, s->array[X] ? "y" : "x");
    s->count = wg_tensor_shape(s->array[X])->rank ? wg_tensor_shape(s->array[X])->dim[0] : 0;
    return 0;
}

/* ---- what the shapes say ---- */

static int bad_shape(const common *c, const char *path, int which, const wg_tensor *tensor, const char *wanted) {
    char shape[96];
    return fail(c, "%s: %s is %s %s; it has to be %s", path, array_names[which], wg_dtype_name(wg_tensor_dtype(tensor)),
                wg_shape_text(wg_tensor_shape(tensor), shape, sizeof shape), wanted);
}

/* The largest of the integers, or -1 with a message if one is negative or too large to count classes by. */
static int64_t largest(const common *c, const char *path, int which, const wg_tensor *tensor) {
    enum { MOST = 1 << 24 };
    const int32_t *value = wg_tensor_data(tensor);
    int64_t most = 0;
    for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++) {
        if (value[i] < 0 || value[i] >= MOST) {
            fail(c, "%s: %s holds %d at place %lld; it has to lie in [0, %d)", path, array_names[which], value[i],
                 (long long)i, MOST);
            return -1;
        }
        most = value[i] > most ? value[i] : most;
    }
    return most;
}

static int check_side(const common *c, const char *path, const sequences *s, int64_t steps) {
    const wg_tensor *lengths = s->array[LENGTHS], *mask = s->array[MASK];
    const wg_shape *shape;
    if (lengths) {
        shape = wg_tensor_shape(lengths);
        if (wg_tensor_dtype(lengths) != WG_I32 || shape->rank != 1 || shape->dim[0] != s->count)
            return bad_shape(c, path, LENGTHS, lengths, "i32 [N]");
        for (int64_t i = 0; i < s->count; i++)
            if (number_at(lengths, i) < 1 || number_at(lengths, i) > (double)steps)
                return fail(c, "%s: lengths holds %.0f at place %lld; it has to lie in [1, %lld]", path,
                            number_at(lengths, i), (long long)i, (long long)steps);
    }
    shape = mask ? wg_tensor_shape(mask) : NULL;
    if (mask && (shape->rank != 2 || shape->dim[0] != s->count || shape->dim[1] != steps))
        return bad_shape(c, path, MASK, mask, "[N,T]");
    return 0;
}

/* Reads T and the widths; `d` as the training part made it, or empty (outputs 0) to be made. */
static int read_shapes(const common *c, const char *path, const sequences *s, dataset *d, int64_t *steps) {
    const wg_tensor *x = s->array[X], *y = s->array[Y];
    const wg_shape *xs = wg_tensor_shape(x), *ys = wg_tensor_shape(y);
    bool tokens = wg_tensor_dtype(x) == WG_I32, labels = wg_tensor_dtype(y) == WG_I32;
    if (xs->rank != (tokens ? 2 : 3) || xs->count == 0)
        return bad_shape(c, path, X, x, "[N,T,n] float or [N,T] i32, and not empty");
    *steps = xs->dim[1];
    bool last = ys->rank == (labels ? 1 : 2);
    if ((!last && (ys->rank != (labels ? 2 : 3) || ys->dim[1] != *steps)) || ys->count == 0 || ys->dim[0] != s->count)
        return bad_shape(c, path, Y, y, "[N,T,m] or [N,m] float, or [N,T] or [N] i32, with x's N and T");
    int64_t token = tokens ? largest(c, path, X, x) : 0, label = labels ? largest(c, path, Y, y) : 0;
    if (token < 0 || label < 0)
        return 1;
    int64_t width = tokens ? 0 : xs->dim[2], outputs = labels ? label + 1 : ys->dim[ys->rank - 1];
    if (d->outputs && (d->last != last || (d->vocabulary > 0) != tokens || (d->loss == LOSS_CE) != labels ||
                       (!tokens && d->input != width) || (!labels && d->outputs != outputs)))
        return fail(c, "%s: x and y are of other shapes or types than those trained on", path);
    d->last = last;
    d->input = width;
    if (tokens && token + 1 > d->vocabulary)
        d->vocabulary = token + 1;
    if (outputs > d->outputs)
        d->outputs = outputs;
    if (labels)
        d->loss = LOSS_CE;
    return check_side(c, path, s, *steps);
}

static int choose_loss(const common *c, dataset *d, int loss) {
    if (loss >= 0 && (loss == LOSS_CE) != (d->loss == LOSS_CE))
        return fail(c, d->loss == LOSS_CE ? "--loss: y holds labels (i32), which takes ce"
                                          : "--loss ce: y holds numbers, and has to hold labels (i32)");
    if (loss >= 0)
        d->loss = (loss_kind)loss;
    d->unit = d->loss == LOSS_MSE ? "mse" : d->loss == LOSS_HUBER ? "huber" : "nats";
    return 0;
}

/* ---- parts ---- */

static int split(const common *c, dataset *d, const data_request *r) {
    arrays *o = d->own;
    sequences *all = &o->part[TRAINED];
    int64_t held = (int64_t)floor((double)all->count * (r->holdout < 0 ? 0.1 : r->holdout) + 0.5);
    o->part[HELD_OUT] = *all;
    o->part[HELD_OUT].count = held;
    all->count -= held;
    o->part[HELD_OUT].from = all->count;
    (void)c;
    return 0;
}

static int read_valid(const common *c, const char *path, dataset *d, int64_t *steps) {
    arrays *o = d->own;
    if (!(o->file[HELD_OUT] = load_file(c, path)))
        return 1;
    int status = list_arrays(c, o->file[HELD_OUT], path, &o->part[HELD_OUT]);
    return status ? status : read_shapes(c, path, &o->part[HELD_OUT], d, steps);
}

static int set_parts(const common *c, dataset *d, const data_request *r, const int64_t *steps) {
    arrays *o = d->own;
    int64_t batch = r->batch ? r->batch : 32;
    for (int i = 0; i < PARTS; i++) {
        int64_t count = o->part[i].count, rows = i == HELD_OUT && count < batch ? count : batch;
        d->part[i] = (part){steps[i], rows, rows ? count / rows : 0};
    }
    if (d->part[TRAINED].count == 0)
        return fail(c, "there are %lld sequences to train on, fewer than a batch of %lld (--batch)",
                    (long long)o->part[TRAINED].count, (long long)batch);
    o->order = allocate((size_t)o->part[TRAINED].count, sizeof *o->order);
    o->epoch = -1;
    d->measures = o->part[TRAINED].array[LENGTHS] || o->part[HELD_OUT].array[LENGTHS];
    d->weighs = d->measures || (!d->last && (o->part[TRAINED].array[MASK] || o->part[HELD_OUT].array[MASK]));
    d->items_per_batch = (double)batch;
    return 0;
}

static void take_fingerprint(dataset *d) {
    const arrays *o = d->own;
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < ARRAYS; i++) {
        const wg_tensor *tensor = o->part[TRAINED].array[i];
        if (tensor)
            hash = hash_bytes(hash, wg_tensor_data(tensor), wg_tensor_bytes(tensor));
    }
    d->fingerprint = format_text("arrays %lld %016llx", (long long)o->part[TRAINED].count, (unsigned long long)hash);
}

dataset *data_of_arrays(const common *c, const words *files, const char *valid, int loss, const data_request *r) {
    dataset *d = data_new();
    arrays *o = d->own = allocate(1, sizeof *o);
    const char *path = files->word[0];
    int64_t steps[PARTS] = {0};
    d->release = release;
    d->fill = fill;
    d->dtype = r->dtype;
    d->items = "sequences";
    o->seed = r->seed;
    o->file[TRAINED] = load_arrays(c, files);
    int status = o->file[TRAINED] ? list_arrays(c, o->file[TRAINED], path, &o->part[TRAINED]) : 1;
    if (status == 0)
        status = read_shapes(c, path, &o->part[TRAINED], d, &steps[TRAINED]);
    steps[HELD_OUT] = steps[TRAINED];
    if (status == 0)
        status = valid ? read_valid(c, valid, d, &steps[HELD_OUT]) : split(c, d, r);
    if (status == 0)
        status = choose_loss(c, d, loss);
    if (status == 0)
        status = set_parts(c, d, r, steps);
    if (status == 0) {
        take_fingerprint(d);
        return d;
    }
    data_free(d);
    return NULL;
}
