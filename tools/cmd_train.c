/* cmd_train.c: `wengert train`: its options, and putting a run together from them. */
#include "train.h"

#include "tasks.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef train_arguments args;

static const option options[] = {
    {"cell", "CELL", OPTION_TEXT, FIELD(args, cell), "lstm", .help = "A cell of the zoo, or a file in the cell language."},
    {"set", "NAME=VALUE", OPTION_SETTINGS, FIELD(args, set), .help = "Sets a size or const of the cell."},
    {"init", "PATTERN=INITIALISER", OPTION_INIT, FIELD(args, init),
     .help = "A further line of initialisers, or the scheme of a library: pytorch, keras, flax."},
    {"hidden", "N", OPTION_INTEGER, FIELD(args, hidden), "128", 1, 1 << 20, .help = "Width of the hidden state."},
    {"layers", "N", OPTION_INTEGER, FIELD(args, layers), "1", 1, 1000, .help = "Layers of the cell."},
    {"embed", "N", OPTION_INTEGER, FIELD(args, embed), NULL, 0, 1 << 20,
     .help = "Width of the tokens' embedding; 0: they enter as one-hot vectors. Default: 64 for text, else 0."},
    {"type", "f32|f64", OPTION_CHOICE, FIELD(args, type), "f32", .choices = "f32|f64", .help = "Type of the parameters."},
    {"weights", "MODEL", OPTION_TEXT, FIELD(args, weights),
     .help = "Start from this model's cell, sizes and parameters instead of drawing new ones."},
    {"task", TASK_CHOICES, OPTION_TEXT, FIELD(args, task), .help = "Train on a synthetic task instead of text."},
    {"data", "FILE", OPTION_WORDS, FIELD(args, data),
     .help = "Train on arrays: a .safetensors file with x, y and perhaps lengths and mask; or x=FILE.npy, y=FILE.npy and so "
             "on, each with its own --data."},
    {"valid", "FILE", OPTION_TEXT, FIELD(args, valid), .help = "Held-out arrays, as a .safetensors file."},
    {"loss", "mse|huber|ce|bce", OPTION_TEXT, FIELD(args, loss),
     .help = "The loss, where the type and shape of y should not decide it."},
    {"holdout", "PART", OPTION_NUMBER, FIELD(args, holdout), NULL, 0, 0.9,
     .help = "Part of the data held out for validation: the end of a text (0.05), the last of the arrays' sequences (0.1)."},
    {"batch", "N", OPTION_INTEGER, FIELD(args, batch), "32", 1, 1 << 20, .help = "Sequences in a batch."},
    {"length", "T", OPTION_INTEGER, FIELD(args, length), NULL, 1, 1 << 20,
     .help = "Steps of a text's window, over which gradients flow back (64); or the T of a task (100)."},
    {"optimiser", "NAME", OPTION_CHOICE, FIELD(args, optimiser), "adam", .choices = "sgd|adam|adamw|rmsprop|adagrad",
     .help = "The update rule."},
    {"lr", "RATE", OPTION_NUMBER, FIELD(args, lr), NULL, 0, 1e6, .help = "Learning rate. Default: the optimiser's own."},
    {"momentum", "M", OPTION_NUMBER, FIELD(args, momentum), NULL, 0, 1, .help = "Momentum of sgd."},
    {"nesterov", NULL, OPTION_FLAG, FIELD(args, nesterov), .help = "Nesterov's momentum."},
    {"weight-decay", "D", OPTION_NUMBER, FIELD(args, weight_decay), NULL, 0, 1e6,
     .help = "Weight decay. Default: the optimiser's own."},
    {"clip", "NORM", OPTION_NUMBER, FIELD(args, clip), "1", 0, 1e30,
     .help = "Scale gradients down to this norm over all of them; 0: do not."},
    {"clip-value", "C", OPTION_NUMBER, FIELD(args, clip_value), NULL, 0, 1e30,
     .help = "Clamp each element of a gradient to [-C, C]; 0: do not."},
    {"schedule", "NAME", OPTION_CHOICE, FIELD(args, schedule), "constant", .choices = "constant|step|cosine",
     .help = "How the learning rate changes."},
    {"warm-up", "STEPS", OPTION_NUMBER, FIELD(args, warm_up), NULL, 0, 1e12, .help = "Steps over which the rate rises."},
    {"decay-every", "STEPS", OPTION_NUMBER, FIELD(args, decay_every), NULL, 0, 1e12,
     .help = "Steps between the drops of the step schedule, or until the cosine's end. Default: 1000, or --steps."},
    {"decay-factor", "F", OPTION_NUMBER, FIELD(args, decay_factor), "0.1", 0, 1, .help = "The step schedule's factor."},
    {"lr-last", "RATE", OPTION_NUMBER, FIELD(args, lr_last), NULL, 0, 1e6, .help = "Where the cosine ends."},
    {"seed", "N", OPTION_INTEGER, FIELD(args, seed), "0", 0, 9e15, .help = "Seed of initialisation, order and dropout."},
    {"data-seed", "N", OPTION_INTEGER, FIELD(args, data_seed), "0", 0, 9e15, .help = "Seed of a task's data."},
    {"steps", "N", OPTION_INTEGER, FIELD(args, steps), NULL, 0, 9e15,
     .help = "Updates to make. Without it, --epochs and --seconds: 10 epochs, or 10000 updates of a task."},
    {"epochs", "N", OPTION_INTEGER, FIELD(args, epochs), NULL, 0, 1e9, .help = "Times to go through the data."},
    {"seconds", "S", OPTION_NUMBER, FIELD(args, seconds), NULL, 0, 1e9, .help = "Time to train for."},
    {"validate-every", "STEPS", OPTION_INTEGER, FIELD(args, validate_every), "250", 1, 9e15,
     .help = "Steps between validations."},
    {"patience", "N", OPTION_INTEGER, FIELD(args, patience), NULL, 0, 1e9,
     .help = "Stop after this many validations without an improvement, and keep the best weights; 0: do not."},
    {"output", "FILE", OPTION_TEXT, FIELD(args, output), "model.safetensors",
     .help = "The model, which is also the checkpoint."},
    {"log", "FILE", OPTION_TEXT, FIELD(args, log),
     .help = "The log, one JSON object a line. Default: the output's name with .jsonl."},
    {"save-every", "STEPS", OPTION_INTEGER, FIELD(args, save_every), NULL, 0, 9e15, .help = "Steps between checkpoints."},
    {"save-seconds", "S", OPTION_NUMBER, FIELD(args, save_seconds), "30", 0, 1e9, .help = "Seconds between checkpoints."},
    {"resume", NULL, OPTION_FLAG, FIELD(args, resume),
     .help = "Go on from the checkpoint --output, with the arguments it was begun with. The end and what is written may be "
             "changed. Without a checkpoint, begin."},
    {0},
};

/* What may be given anew on resuming: nothing that would change the updates. */
static const char *const renewable[] = {"steps", "epochs", "seconds", "output", "log", "save-every", "save-seconds",
                                        "resume"};

/* ---- resuming: the arguments of the run so far, under those of this one ---- */

static bool is_renewable(const char *name) {
    for (size_t i = 0; i < sizeof renewable / sizeof *renewable; i++)
        if (strcmp(name, renewable[i]) == 0)
            return true;
    return false;
}

static size_t field_size(option_type type) {
    switch (type) {
    case OPTION_FLAG: return sizeof(bool);
    case OPTION_INTEGER:
    case OPTION_BYTES: return sizeof(int64_t);
    case OPTION_NUMBER: return sizeof(double);
    case OPTION_TEXT: return sizeof(const char *);
    case OPTION_CHOICE: return sizeof(int);
    case OPTION_WORDS:
    case OPTION_LIST: return sizeof(words);
    case OPTION_SETTINGS: return sizeof(settings);
    case OPTION_INIT: return sizeof(initial);
    }
    return 0;
}

static bool same_words(const words *a, const words *b) {
    for (int i = 0; i < a->count && i < b->count; i++)
        if (strcmp(a->word[i], b->word[i]) != 0)
            return false;
    return a->count == b->count;
}

static bool same_settings(const settings *a, const settings *b) {
    for (int i = 0; i < a->count && i < b->count; i++)
        if (strcmp(a->setting[i].name, b->setting[i].name) != 0 || strcmp(a->setting[i].value, b->setting[i].value) != 0)
            return false;
    return a->count == b->count;
}

static bool same_value(option_type type, const void *a, const void *b) {
    const char *x, *y;
    switch (type) {
    case OPTION_TEXT:
        x = *(const char *const *)a;
        y = *(const char *const *)b;
        return x == y || (x && y && strcmp(x, y) == 0);
    case OPTION_WORDS:
    case OPTION_LIST: return same_words(a, b);
    case OPTION_SETTINGS: return same_settings(a, b);
    case OPTION_INIT:
        return ((const initial *)a)->given == ((const initial *)b)->given &&
               same_words(&((const initial *)a)->line, &((const initial *)b)->line);
    default: return memcmp(a, b, field_size(type)) == 0;
    }
}

static void swap_bytes(void *a, void *b, size_t size) {
    for (unsigned char *x = a, *y = b; size--; x++, y++) {
        unsigned char keep = *x;
        *x = *y;
        *y = keep;
    }
}

static void mark_given(common *c, const char *name) {
    c->given.word = grow(c->given.word, (size_t)c->given.count + 1, sizeof *c->given.word);
    c->given.word[c->given.count++] = name;
}

/* Takes from `before` what was not given now. */
static int take_arguments(args *now, args *before) {
    for (const option *o = options; o->name; o++) {
        void *mine = (char *)now + o->offset, *theirs = (char *)before + o->offset;
        bool given = option_given(&now->common, o->name);
        if (given && !is_renewable(o->name) && !same_value(o->type, mine, theirs))
            return misuse(&now->common, "--%s cannot change when training goes on from %s", o->name, now->output);
        if (given || strcmp(o->name, "output") == 0 || strcmp(o->name, "resume") == 0)
            continue;
        swap_bytes(mine, theirs, field_size(o->type));
        if (option_given(&before->common, o->name))
            mark_given(&now->common, o->name);
    }
    if (now->common.word.count == 0)
        swap_bytes(&now->common.word, &before->common.word, sizeof(words));
    return 0;
}

/* ---- putting it together ---- */

/* What is freed at the end. */
typedef struct held {
    training t;
    wg_params *more;  /* of the file the model came from */
    char **argv;      /* of the run so far */
    args *before;
} held;

static bool exists(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file)
        fclose(file);
    return file || errno != ENOENT;
}

static int load_model(held *h, const char *path) {
    wg_error error = {0};
    h->t.model = wg_model_load_with(h->t.c->memory, path, h->t.c->foreign, &h->more, &error);
    return h->t.model ? 0 : fail_error(h->t.c, &error);
}

static int load_checkpoint(held *h, args *a) {
    const char *text;
    int argc;
    if (load_model(h, a->output) != 0)
        return 1;
    if (!(text = wg_params_meta(h->more, checkpoint_arguments)))
        return fail(&a->common, "%s: no training can go on from it: its metadata is not a training run's", a->output);
    h->argv = arguments_read(text, &argc);
    h->before = options_parse(a->common.command, argc, h->argv, 0);
    h->t.arguments = copy_text(text);
    return h->before ? take_arguments(a, h->before) : 1;
}

static int find_task(const args *a) {
    for (int i = 0; i < TASKS; i++)
        if (strcmp(a->task, tasks[i].name) == 0)
            return i;
    return -1;
}

static int find_loss(const args *a, int *loss) {
    static const char *const names[] = {"mse", "huber", "ce", "bce"};
    *loss = -1;
    for (int i = 0; a->loss && i < 4; i++)
        if (strcmp(a->loss, names[i]) == 0)
            *loss = i;
    return a->loss && *loss < 0 ? misuse(&a->common, "--loss %s: it has to be one of mse, huber, ce, bce", a->loss) : 0;
}

static int check_arguments(const args *a) {
    int sources = (a->task != NULL) + (a->data.count > 0) + (a->common.word.count > 0);
    if (sources == 0)
        return misuse(&a->common, "there is nothing to train on: give files or folders of text, --task or --data");
    if (sources > 1)
        return misuse(&a->common, "give one of text, --task and --data, not several");
    if (a->task && find_task(a) < 0)
        return misuse(&a->common, "--task %s: it has to be one of adding, copy, order, parity", a->task);
    if ((a->valid || a->loss) && !a->data.count)
        return misuse(&a->common, "--%s goes with --data", a->valid ? "valid" : "loss");
    if (a->task && a->epochs > 0)
        return misuse(&a->common, "--epochs: a task's data has no end: give --steps or --seconds");
    return 0;
}

/* With --weights the model is the file's. */
static int check_weights(const args *a) {
    static const char *const drawn[] = {"cell", "set", "init", "hidden", "layers", "embed", "type"};
    for (size_t i = 0; a->weights && i < sizeof drawn / sizeof *drawn; i++)
        if (option_given(&a->common, drawn[i]))
            return misuse(&a->common, "--%s cannot be given with --weights: the model is the file's", drawn[i]);
    return 0;
}

/* Better now than when the first checkpoint is due. */
static int check_output(const args *a) {
    const char *slash = strrchr(a->output, '/');
    char *folder = slash ? format_text("%.*s", (int)(slash - a->output) + 1, a->output) : copy_text(".");
    int status = access(folder, W_OK) == 0 ? 0 : fail(&a->common, "%s: %s", a->output, strerror(errno));
    free(folder);
    return status;
}

static int make_data(held *h, const args *a) {
    int loss;
    data_request r = {.batch = a->batch, .length = a->length, .holdout = option_given(&a->common, "holdout") ? a->holdout : -1,
                      .seed = (uint64_t)a->seed, .data_seed = (uint64_t)a->data_seed,
                      .dtype = h->t.model ? wg_model_sizes(h->t.model)->dtype : a->type ? WG_F64 : WG_F32};
    if (h->more) {
        r.vocabulary = wg_params_meta(h->more, checkpoint_vocabulary);
        r.from = a->resume ? a->output : a->weights;
    }
    int status = find_loss(a, &loss);
    if (status != 0)
        return status;
    if (a->task)
        h->t.data = data_of_task(&a->common, find_task(a), &r);
    else if (a->data.count)
        h->t.data = data_of_arrays(&a->common, &a->data, a->valid, loss, &r);
    else
        h->t.data = data_of_text(&a->common, &a->common.word, &r);
    return h->t.data ? 0 : 1;
}

static int fits(const held *h, const args *a) {
    const wg_model_options *o = wg_model_sizes(h->t.model);
    dataset *d = h->t.data;
    bool labels = d->loss == LOSS_CE && a->data.count; /* counted by the largest that occurs */
    if (labels && d->vocabulary && d->vocabulary < o->vocabulary)
        d->vocabulary = o->vocabulary;
    if (labels && d->outputs < o->outputs)
        d->outputs = o->outputs;
    if (o->vocabulary == d->vocabulary && (d->vocabulary || o->input == d->input) && o->outputs == d->outputs)
        return 0;
    return fail(&a->common, "%s: the model reads %lld %s and gives %lld outputs, and the data has %lld and %lld",
                a->weights ? a->weights : a->output, (long long)(o->vocabulary ? o->vocabulary : o->input),
                o->vocabulary ? "tokens" : "inputs", (long long)o->outputs,
                (long long)(d->vocabulary ? d->vocabulary : d->input), (long long)d->outputs);
}

static int make_model(held *h, const args *a) {
    const dataset *d = h->t.data;
    wg_error error = {0};
    if (h->t.model)
        return fits(h, a);
    const wg_cell_options uses = {a->set.count, a->set.setting, a->common.foreign};
    wg_cell *cell = wg_cell_load_with(a->common.memory, a->cell, &uses, &error);
    if (!cell)
        return fail_error(&a->common, &error);
    for (int i = 0; i < wg_cell_warnings(cell); i++)
        note(&a->common, "%s", wg_cell_warning(cell, i));
    wg_model_options o = {.vocabulary = d->vocabulary, .input = d->vocabulary ? 0 : d->input, .hidden = a->hidden,
                          .layers = (int)a->layers, .outputs = d->outputs, .dtype = d->dtype,
                          .embed = option_given(&a->common, "embed") ? a->embed : d->carries ? 64 : 0};
    wg_draw draw = {.seed = (uint64_t)a->seed, .lines = a->init.line.count, .line = a->init.line.word};
    h->t.model = wg_model_new(a->common.memory, cell, &o, &draw, &error);
    return h->t.model ? 0 : fail_error(&a->common, &error);
}

static int make_optimiser(held *h, const args *a) {
    static const wg_method methods[] = {WG_SGD, WG_ADAM, WG_ADAMW, WG_RMSPROP, WG_ADAGRAD};
    static const wg_schedule schedules[] = {WG_CONSTANT, WG_STEP, WG_COSINE};
    wg_error error = {0};
    wg_optimiser_options o = wg_optimiser_defaults(methods[a->optimiser]);
    if (option_given(&a->common, "lr"))
        o.rate = a->lr;
    if (option_given(&a->common, "weight-decay"))
        o.weight_decay = a->weight_decay;
    o.momentum = a->momentum;
    o.nesterov = a->nesterov;
    o.clip_norm = a->clip;
    o.clip_value = a->clip_value;
    o.schedule = schedules[a->schedule];
    o.warm_up = a->warm_up;
    o.factor = a->decay_factor;
    o.rate_last = a->lr_last;
    o.every = a->decay_every > 0 ? a->decay_every : o.schedule == WG_COSINE && a->steps > 0 ? (double)a->steps : 1000;
    h->t.optimiser = wg_optimiser_new(a->common.memory, &o, wg_model_params(h->t.model), &error);
    return h->t.optimiser ? 0 : fail_error(&a->common, &error);
}

/* Copies of the parameters, to keep the best. */
static wg_params *copies(wg_memory *memory, const wg_params *from) {
    wg_params *set = wg_params_new(memory);
    bool good = set != NULL;
    for (int i = 0; i < wg_params_count(from) && good; i++) {
        wg_tensor *copy = wg_tensor_copy(memory, wg_params_tensor(from, i));
        good = copy && wg_params_add(set, wg_params_name(from, i), copy) == WG_OK;
        wg_tensor_free(copy);
    }
    if (good)
        return set;
    wg_params_free(set);
    return NULL;
}

static int make_state(held *h, const args *a) {
    training *t = &h->t;
    t->key = wg_key_new(a->common.memory, (uint64_t)a->seed);
    if (a->patience > 0 && t->data->part[HELD_OUT].count == 0)
        return fail(&a->common, "--patience: nothing is held out to judge by (--holdout)");
    if (t->key && a->patience > 0)
        t->best = copies(a->common.memory, wg_model_params(t->model));
    if (t->key && (a->patience == 0 || t->best))
        return 0;
    wg_status status = wg_memory_status(a->common.memory);
    return fail(&a->common, "%s", wg_status_sentence(status == WG_OK ? WG_MEMORY : status));
}

static void name_log(training *t, const args *a) {
    static const char ending[] = ".safetensors";
    size_t size = strlen(a->output), cut = sizeof ending - 1;
    if (size > cut && strcmp(a->output + size - cut, ending) == 0)
        size -= cut;
    t->log_path = a->log ? copy_text(a->log) : format_text("%.*s.jsonl", (int)size, a->output);
}

/* No number of steps is -1 from here on. */
static void default_end(args *a) {
    if (!option_given(&a->common, "steps"))
        a->steps = -1;
    if (a->steps < 0 && a->epochs == 0 && a->seconds == 0) {
        a->epochs = a->task ? 0 : 10;
        a->steps = a->task ? 10000 : -1;
    }
}

/* ---- telling ---- */

/* Every parameter with its shape: it is how a typo in a cell is seen. */
static void tell_start(const training *t) {
    const wg_params *params = wg_model_params(t->model);
    const part *p = t->data->part;
    table list = table_begin(2);
    char shape[96];
    int64_t count = 0;
    if (t->c->json)
        return;
    for (int i = 0; i < wg_params_count(params); i++) {
        const wg_shape *s = wg_tensor_shape(wg_params_tensor(params, i));
        table_cell(&list, "%s", wg_params_name(params, i));
        table_cell(&list, "%s%s", wg_shape_text(s, shape, sizeof shape), wg_params_fixed(params, i) ? "  fixed" : "");
        count += s->count;
    }
    printf("%s, %lld parameters:\n", wg_cell_name(wg_model_cell(t->model)), (long long)count);
    table_print(&list, stdout);
    printf("batches of %lld sequences, %lld steps", (long long)p[TRAINED].batch, (long long)p[TRAINED].steps);
    if (p[TRAINED].count)
        printf("; %lld in an epoch", (long long)p[TRAINED].count);
    printf(p[HELD_OUT].count ? "; held out: %lld batches of %lld\n" : "; nothing held out\n", (long long)p[HELD_OUT].count,
           (long long)p[HELD_OUT].batch);
    if (t->data->vocabulary)
        printf("%lld tokens\n", (long long)t->data->vocabulary);
    if (t->books.step)
        printf("going on after step %lld\n", (long long)t->books.step);
    fflush(stdout);
}

static void tell_end(const training *t) {
    if (!t->c->json) {
        printf("model: %s\nlog: %s\n", t->a->output, t->log_path);
        return;
    }
    json j = {.file = stdout};
    json_open(&j, '{');
    json_put_text(&j, "model", t->a->output);
    json_put_text(&j, "log", t->log_path);
    json_put_integer(&j, "steps", t->books.step);
    json_put_number(&j, "seconds", t->books.seconds);
    json_put_text(&j, "unit", t->data->unit);
    json_put_number(&j, "loss", t->last_loss);
    json_put_number(&j, "validation_loss", t->last_valid);
    json_put_number(&j, "accuracy", t->last_accuracy);
    json_put_number(&j, "baseline", t->data->baseline);
    json_close(&j, '}');
    json_end_line(&j);
}

/* ---- the run ---- */

static int prepare(held *h, args *a) {
    bool go_on = a->resume && exists(a->output);
    int status = go_on ? load_checkpoint(h, a) : 0;
    if (status == 0)
        status = check_arguments(a);
    if (status == 0)
        status = check_weights(a);
    if (status == 0)
        status = check_output(a);
    if (status == 0 && !go_on && a->weights)
        status = load_model(h, a->weights);
    if (status == 0)
        status = make_data(h, a);
    if (status == 0)
        status = make_model(h, a);
    default_end(a);
    if (status == 0)
        status = make_optimiser(h, a);
    if (status == 0)
        status = make_state(h, a);
    if (status == 0)
        status = record_training(&h->t);
    if (status == 0)
        status = record_validation(&h->t);
    if (status == 0 && go_on)
        status = checkpoint_restore(&h->t, h->more);
    if (status == 0) {
        name_log(&h->t, a);
        status = log_open(&h->t, go_on);
    }
    return status;
}

static void release(held *h) {
    training *t = &h->t;
    for (int i = 0; i < PARTS; i++)
        recorded_free(&t->part[i]);
    wg_optimiser_free(t->optimiser);
    wg_params_free(t->best);
    wg_tensor_free(t->key);
    wg_model_free(t->model);
    wg_params_free(h->more);
    data_free(t->data);
    free(t->arguments);
    free(t->log_path);
    if (h->before)
        options_free(h->before);
    free(h->argv);
}

static int run(void *arguments) {
    args *a = arguments;
    held h = {.t = {.a = a, .c = &a->common, .books.best = INFINITY, .last_loss = NAN, .last_valid = NAN,
                    .last_accuracy = NAN}};
    int status = prepare(&h, a);
    if (!h.t.arguments)
        h.t.arguments = arguments_write(a->common.argc - 2, a->common.argv + 2);
    if (status == 0) {
        tell_start(&h.t);
        status = train_loop(&h.t);
    }
    int closed = log_close(&h.t);
    status = status ? status : closed;
    if (status == 0)
        tell_end(&h.t);
    release(&h);
    return status;
}

const subcommand train_subcommand = {
    .name = "train",
    .usage = "[PATH…]",
    .summary = "train a model on text, a task or arrays",
    .details =
        "Trains layers of a cell, with an embedding and an output layer, on the text of files and folders (a model of "
        "characters: bytes are its tokens), on a synthetic task, or on arrays.\n\n"
        "Text runs through in windows of --length steps, --batch streams side by side; states are carried from window to window, "
        "gradients are not. The end of the text is held out. Loss is told in bits per character.\n\n"
        "The model is written to --output, from time to time and at the end; ended at any moment, --resume goes on from what "
        "was written last and comes to the same weights, bit for bit. An interrupt (Ctrl-C) writes it and ends.",
    .options = options,
    .groups = TAKES_JSON | TAKES_RUN | TAKES_FOREIGN,
    .most_words = -1,
    .size = sizeof(train_arguments),
    .run = run,
};
