/* onednn_peer.c: oneDNN's own recurrent primitives on one workload, beside `wengert bench`: it runs
 * when told to, and tells how long it took.
 *
 *     onednn_peer KIND THREADS BATCH STEPS INPUT HIDDEN LAYERS VOCABULARY SECONDS
 *
 * KIND: LSTM, GRU (the reset after the product), RNN (tanh), of one layer. Float32, forward and
 * backward with the gradients of all weights, of x and of the initial states, and what a training
 * step needs beside: weights into the layouts that the primitives chose, their gradients back. It
 * prints "ready VERSION COUNT", or "cannot" for what oneDNN has no primitive of; then, for each
 * line it reads, the seconds of one run, averaged over COUNT runs (as many as fit into SECONDS).
 * Written for oneDNN 2 (Debian's libdnnl-dev). */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

/* ---- the arrays of a layer ---------------------------------------------------------------------
 */

enum {
    X,
    H0,
    C0,
    W,
    U,
    BIAS,
    Y,
    HT,
    CT,
    ARRAYS
}; /* x, h0, c0, weights, the outputs, last states */

static const struct {
    int argument, gradient;
} role[ARRAYS] = {
    [X] = {DNNL_ARG_SRC_LAYER, DNNL_ARG_DIFF_SRC_LAYER},
    [H0] = {DNNL_ARG_SRC_ITER, DNNL_ARG_DIFF_SRC_ITER},
    [C0] = {DNNL_ARG_SRC_ITER_C, DNNL_ARG_DIFF_SRC_ITER_C},
    [W] = {DNNL_ARG_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_LAYER},
    [U] = {DNNL_ARG_WEIGHTS_ITER, DNNL_ARG_DIFF_WEIGHTS_ITER},
    [BIAS] = {DNNL_ARG_BIAS, DNNL_ARG_DIFF_BIAS},
    [Y] = {DNNL_ARG_DST_LAYER, DNNL_ARG_DIFF_DST_LAYER},
    [HT] = {DNNL_ARG_DST_ITER, DNNL_ARG_DIFF_DST_ITER},
    [CT] = {DNNL_ARG_DST_ITER_C, DNNL_ARG_DIFF_DST_ITER_C},
};

typedef struct layer {
    long B, T, I, H, gates, biases;
    bool lstm, gru;
    dnnl_memory_desc_t plain[ARRAYS]; /* layouts of the caller */
    dnnl_memory_desc_t any[ARRAYS];   /* the same, but weights as the primitive likes them */
    dnnl_memory_t array[ARRAYS], gradient[ARRAYS]; /* in the caller's layouts */
    /* the two matrices of weights, in the primitives' layouts */
    dnnl_memory_t forward_weight[2], backward_weight[2], weight_gradient[2], workspace;
    dnnl_primitive_desc_t forward_desc, backward_desc;
    dnnl_primitive_t forward, backward;
    dnnl_primitive_t into_forward[2], into_backward[2], back_again[2];
    int arguments, backward_arguments;
    dnnl_exec_arg_t argument[2 * ARRAYS + 1], backward_argument[2 * ARRAYS + 1];
} layer;

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static void must(dnnl_status_t status, const char *what) {
    if (status != dnnl_success) {
        fprintf(stderr, "onednn_peer: %s failed with status %d\n", what, (int)status);
        exit(1);
    }
}

static void describe(layer *l) {
    const struct {
        int rank;
        dnnl_dims_t dim;
        dnnl_format_tag_t tag;
    } form[ARRAYS] = {
        [X] = {3, {l->T, l->B, l->I}, dnnl_tnc},
        [H0] = {4, {1, 1, l->B, l->H}, dnnl_ldnc},
        [C0] = {4, {1, 1, l->B, l->H}, dnnl_ldnc},
        [W] = {5, {1, 1, l->I, l->gates, l->H}, dnnl_ldigo},
        [U] = {5, {1, 1, l->H, l->gates, l->H}, dnnl_ldigo},
        [BIAS] = {4, {1, 1, l->biases, l->H}, dnnl_ldgo},
        [Y] = {3, {l->T, l->B, l->H}, dnnl_tnc},
        [HT] = {4, {1, 1, l->B, l->H}, dnnl_ldnc},
        [CT] = {4, {1, 1, l->B, l->H}, dnnl_ldnc},
    };
    for (int i = 0; i < ARRAYS; i++)
        for (int free = 0; free < 2; free++)
            must(dnnl_memory_desc_init_by_tag(
                     free ? &l->any[i] : &l->plain[i], form[i].rank, form[i].dim, dnnl_f32,
                     free && (i == W || i == U) ? dnnl_format_tag_any : form[i].tag),
                 "describing an array");
}

static float *contents(dnnl_memory_t memory) {
    void *data = NULL;
    must(dnnl_memory_get_data_handle(memory, &data), "looking into an array");
    return data;
}

static size_t bytes_of(dnnl_memory_t memory) {
    const dnnl_memory_desc_t *form = NULL;
    must(dnnl_memory_get_memory_desc(memory, &form), "measuring an array");
    return dnnl_memory_desc_get_size(form);
}

/* Even in [-scale, scale]. */
static dnnl_memory_t array_new(const dnnl_memory_desc_t *form, float scale) {
    static unsigned state = 1;
    dnnl_memory_t memory = NULL;
    must(dnnl_memory_create(&memory, form, engine, DNNL_MEMORY_ALLOCATE), "making an array");
    float *data = contents(memory);
    memset(data, 0, bytes_of(memory));
    for (size_t i = 0; scale > 0 && i < bytes_of(memory) / sizeof *data; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = scale * ((float)(state >> 8) / (float)(1 << 23) - 1);
    }
    return memory;
}

/* ---- the primitives ----------------------------------------------------------------------------
 */

static void make_primitives(layer *l) {
    const dnnl_memory_desc_t *a = l->any;
    const dnnl_rnn_direction_t onward = dnnl_unidirectional_left2right;
    dnnl_rnn_desc_t f, g;
    if (l->lstm) {
        must(dnnl_lstm_forward_desc_init(&f, dnnl_forward_training, onward, &a[X], &a[H0], &a[C0],
                                         &a[W], &a[U], &a[BIAS], &a[Y], &a[HT], &a[CT], 0),
             "describing the LSTM");
        must(dnnl_lstm_backward_desc_init(&g, dnnl_backward, onward, &a[X], &a[H0], &a[C0], &a[W],
                                          &a[U], &a[BIAS], &a[Y], &a[HT], &a[CT], &a[X], &a[H0],
                                          &a[C0], &a[W], &a[U], &a[BIAS], &a[Y], &a[HT], &a[CT], 0),
             "describing the LSTM's gradient");
    } else if (l->gru) {
        must(dnnl_lbr_gru_forward_desc_init(&f, dnnl_forward_training, onward, &a[X], &a[H0], &a[W],
                                            &a[U], &a[BIAS], &a[Y], &a[HT], 0),
             "describing the GRU");
        must(dnnl_lbr_gru_backward_desc_init(&g, dnnl_backward, onward, &a[X], &a[H0], &a[W], &a[U],
                                             &a[BIAS], &a[Y], &a[HT], &a[X], &a[H0], &a[W], &a[U],
                                             &a[BIAS], &a[Y], &a[HT], 0),
             "describing the GRU's gradient");
    } else {
        must(dnnl_vanilla_rnn_forward_desc_init(&f, dnnl_forward_training, dnnl_eltwise_tanh,
                                                onward, &a[X], &a[H0], &a[W], &a[U], &a[BIAS],
                                                &a[Y], &a[HT], 0, 0, 0),
             "describing the RNN");
        must(dnnl_vanilla_rnn_backward_desc_init(&g, dnnl_backward, dnnl_eltwise_tanh, onward,
                                                 &a[X], &a[H0], &a[W], &a[U], &a[BIAS], &a[Y],
                                                 &a[HT], &a[X], &a[H0], &a[W], &a[U], &a[BIAS],
                                                 &a[Y], &a[HT], 0, 0, 0),
             "describing the RNN's gradient");
    }
    must(dnnl_primitive_desc_create(&l->forward_desc, &f, NULL, engine, NULL), "choosing forward");
    must(dnnl_primitive_desc_create(&l->backward_desc, &g, NULL, engine, l->forward_desc),
         "choosing backward");
    must(dnnl_primitive_create(&l->forward, l->forward_desc), "making forward");
    must(dnnl_primitive_create(&l->backward, l->backward_desc), "making backward");
}

static const dnnl_memory_desc_t *chosen(dnnl_primitive_desc_t desc, int argument) {
    return dnnl_primitive_desc_query_md(desc, dnnl_query_exec_arg_md, argument);
}

static dnnl_primitive_t reorder_new(dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_memory_desc_t *before = NULL, *after = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    must(dnnl_memory_get_memory_desc(from, &before), "measuring an array");
    must(dnnl_memory_get_memory_desc(to, &after), "measuring an array");
    must(dnnl_reorder_primitive_desc_create(&desc, before, engine, after, engine, NULL),
         "choosing a re-layout");
    must(dnnl_primitive_create(&reorder, desc), "making a re-layout");
    dnnl_primitive_desc_destroy(desc);
    return reorder;
}

static void make_arrays(layer *l) {
    static const float scale[ARRAYS] = {[X] = 1, [W] = 0.06f, [U] = 0.06f, [BIAS] = 0.1f};
    for (int i = 0; i < ARRAYS; i++) {
        if (!l->lstm && (i == C0 || i == CT))
            continue;
        l->array[i] = array_new(&l->plain[i], scale[i]);
        l->gradient[i] = array_new(&l->plain[i], i == Y ? 1.0f : 0.0f); /* dy is given */
    }
    for (int i = 0; i < 2; i++) {
        int w = i ? U : W, argument = role[w].argument;
        l->forward_weight[i] = array_new(chosen(l->forward_desc, argument), 0);
        l->backward_weight[i] = array_new(chosen(l->backward_desc, argument), 0);
        l->weight_gradient[i] = array_new(chosen(l->backward_desc, role[w].gradient), 0);
        l->into_forward[i] = reorder_new(l->array[w], l->forward_weight[i]);
        l->into_backward[i] = reorder_new(l->array[w], l->backward_weight[i]);
        l->back_again[i] = reorder_new(l->weight_gradient[i], l->gradient[w]);
    }
    l->workspace = array_new(chosen(l->forward_desc, DNNL_ARG_WORKSPACE), 0);
}

static void bind(layer *l) {
    dnnl_exec_arg_t *f = l->argument, *g = l->backward_argument;
    int n = 0, m = 0;
    for (int i = 0; i < ARRAYS; i++) {
        bool weight = i == W || i == U;
        if (!l->array[i])
            continue;
        f[n++] =
            (dnnl_exec_arg_t){role[i].argument, weight ? l->forward_weight[i == U] : l->array[i]};
        g[m++] =
            (dnnl_exec_arg_t){role[i].argument, weight ? l->backward_weight[i == U] : l->array[i]};
        g[m++] = (dnnl_exec_arg_t){role[i].gradient,
                                   weight ? l->weight_gradient[i == U] : l->gradient[i]};
    }
    f[n++] = g[m++] = (dnnl_exec_arg_t){DNNL_ARG_WORKSPACE, l->workspace};
    l->arguments = n;
    l->backward_arguments = m;
}

/* ---- running -----------------------------------------------------------------------------------
 */

static void move(dnnl_primitive_t reorder, dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_exec_arg_t way[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    must(dnnl_primitive_execute(reorder, stream, 2, way), "a re-layout");
}

static void clear(dnnl_memory_t memory) { memset(contents(memory), 0, bytes_of(memory)); }

/* A training step but for the update. Gradients of weights are added to, so they begin at zero. */
static void step(layer *l) {
    for (int i = 0; i < 2; i++)
        move(l->into_forward[i], l->array[i ? U : W], l->forward_weight[i]);
    must(dnnl_primitive_execute(l->forward, stream, l->arguments, l->argument), "forward");
    for (int i = 0; i < 2; i++) {
        move(l->into_backward[i], l->array[i ? U : W], l->backward_weight[i]);
        clear(l->weight_gradient[i]);
    }
    clear(l->gradient[BIAS]);
    must(dnnl_primitive_execute(l->backward, stream, l->backward_arguments, l->backward_argument),
         "backward");
    for (int i = 0; i < 2; i++)
        move(l->back_again[i], l->weight_gradient[i], l->gradient[i ? U : W]);
    must(dnnl_stream_wait(stream), "waiting");
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double run(layer *l, int count) {
    double start = seconds();
    for (int i = 0; i < count; i++)
        step(l);
    return (seconds() - start) / count;
}

/* A peer that computes nothing must not be compared with. */
static bool computes(const layer *l) {
    static const int wanted[] = {X, H0, W, U, BIAS};
    for (size_t k = 0; k < sizeof wanted / sizeof wanted[0]; k++) {
        dnnl_memory_t gradient = l->gradient[wanted[k]];
        const float *data = contents(gradient);
        double sum = 0;
        for (size_t i = 0; i < bytes_of(gradient) / sizeof *data; i++)
            sum += fabs((double)data[i]);
        if (!(sum > 0) || !isfinite(sum))
            return false;
    }
    return true;
}

int main(int argc, char **argv) {
    if (argc != 10) {
        fprintf(stderr,
                "usage: onednn_peer KIND THREADS BATCH STEPS INPUT HIDDEN LAYERS VOCABULARY "
                "SECONDS\n");
        return 2;
    }
    const char *kind = argv[1];
    layer l = {.B = atol(argv[3]),
               .T = atol(argv[4]),
               .I = atol(argv[5]),
               .H = atol(argv[6]),
               .lstm = strcmp(kind, "LSTM") == 0,
               .gru = strcmp(kind, "GRU") == 0};
    if ((!l.lstm && !l.gru && strcmp(kind, "RNN") != 0) || atol(argv[7]) != 1) {
        puts("cannot");
        return 0;
    }
    l.gates = l.lstm ? 4 : l.gru ? 3 : 1;
    l.biases = l.gru ? 4 : l.gates;
    omp_set_num_threads(atoi(argv[2]));
    must(dnnl_engine_create(&engine, dnnl_cpu, 0), "starting oneDNN");
    must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "starting oneDNN");
    describe(&l);
    make_primitives(&l);
    make_arrays(&l);
    bind(&l);

    run(&l, 2);
    if (!computes(&l))
        return fprintf(stderr, "onednn_peer: the gradients are nothing\n"), 1;
    double fit = atof(argv[9]) / run(&l, 1);
    int count = fit > 1 ? (int)fit : 1;
    const dnnl_version_t *version = dnnl_version();
    printf("ready %d.%d.%d %d\n", version->major, version->minor, version->patch, count);
    fflush(stdout);
    for (int c; (c = getchar()) != EOF;)
        if (c == '\n') {
            printf("%.9g\n", run(&l, count));
            fflush(stdout);
        }
    return 0;
}
