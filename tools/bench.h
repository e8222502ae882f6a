/* bench.h: what the parts of `wengert bench` share: its arguments, the standard workloads, what is made of one and measured. */
#ifndef WG_TOOLS_BENCH_H
#define WG_TOOLS_BENCH_H

#include "subject.h"

#include <sys/types.h>

typedef struct bench_arguments {
    common common;
    int64_t batch, steps, input, hidden, layers, runs;
    double seconds;
    int type;
    settings set;
    bool peers, compile, foreign, conditions;
    int64_t kernels;    /* the heaviest to print */
    const char *expert; /* a program that is a peer, or NULL */
} bench_arguments;

typedef enum work_kind {
    WORK_CELL,       /* layers of a cell: forward and backward, gradients of all weights, x and initial states */
    WORK_CHARACTERS, /* a whole training step of a character model */
    WORK_CHAIN       /* a chain of scalar ops: recorded, differentiated, evaluated */
} work_kind;

typedef struct workload {
    const char *name, *what;
    work_kind kind;
    const char *cell; /* by name or file; or NULL, and its text: */
    const char *text;
    int64_t batch, steps, input, hidden, layers;
    int64_t vocabulary; /* of WORK_CHARACTERS */
    int threads;        /* what it is meant for; 0: any */
    const char *peer;   /* what a peer calls it; NULL: it has none */
} workload;

/* The standard workloads; NULL if there is none of that name. */
extern const workload bench_workloads[];
extern const int bench_workload_count;
const workload *workload_find(const char *name);
/* That of a name, or a cell's, of the sizes given on the command line. Returns what it is called, which is w->name too and the caller's to free. */
char *workload_given(const bench_arguments *a, const char *name, workload *w);
/* As many as --threads says; else what the workload is meant for, or the processors this process may use. */
int workload_threads(const bench_arguments *a, const workload *w);

/* A workload made: recorded, differentiated, compiled. */
typedef struct work {
    const bench_arguments *a;
    const workload *w;
    wg_run_options run;
    wg_dtype dtype;
    wg_cell *cell; /* of WORK_CELL */
    wg_model *model;
    wg_optimiser *optimiser;
    wg_params *arrays; /* leaves that no model owns */
    wg_tape *tape;
    bool lent; /* the tape is not the work's own */
    wg_plan *plan;
    int touched;
    wg_tensor **touch; /* every weight, and x: changed before each run */
    int64_t runs;      /* done so far */
    double record_seconds, grad_seconds, compile_seconds, flops;
    int64_t nodes;
} work;

int work_make(work *k, const bench_arguments *a, const workload *w, int threads);
/* Recorded alone, not compiled, on a tape that stays the caller's, who rewinds it when the work is freed. */
int work_make_on(work *k, const bench_arguments *a, const workload *w, int threads, wg_tape *tape);
void work_free(work *k);
/* Changes one element of every weight and of x, and runs the plan. */
int work_run(work *k);
/* Runs it until it is warm; *repeats: how many runs fill a batch. */
int work_warm(work *k, int64_t *repeats);
/* Waits: threads of whoever ran last look for more work for some milliseconds before they sleep, and take a core from whoever is next. */
void work_pause(void);
/* A batch: the seconds of one run. */
int work_batch(work *k, int64_t repeats, double *spent);
/* The same as work_run, adding to *sum where the time went. */
int work_run_profiled(work *k, wg_profile *sum);

/* Where the time of a workload's runs went. */
typedef struct profile {
    int64_t wanted, kernels; /* runs to measure; the room at sum.kernel */
    wg_profile sum;
} profile;
int profile_measure(work *k, profile *p); /* p: zeroed but for `wanted` */
double profile_share(const profile *p, double part);       /* of all threads' time */
double profile_products(const work *k, const profile *p);  /* flops a second of all threads while they are at products; NaN if never */
void profile_print_kernels(const work *k, const profile *p, int64_t most);
void profile_free(profile *p);

/* Seconds of one run, over batches of runs. */
typedef struct timing {
    int64_t runs, repeats; /* batches; runs in each */
    double median, least;
} timing;
timing timing_of(double *seconds, int64_t runs, int64_t repeats); /* sorts them */

/* Multiplications and additions a second that a multiply-add loop reaches on so many threads now. */
double peak_flops(int threads, wg_dtype dtype);
/* The same of products of f32 in bf16 parts, counted as products of f32; 0 where such runs make none. */
double peak_parts_flops(const wg_run_options *run, int threads, wg_dtype dtype);

/* A product of a workload's sizes, (m,k) times (k,n), alone. */
typedef struct product {
    const char *what;
    int64_t m, k, n;
    double flops; /* a second: the best of what was tried */
} product;
enum { PRODUCTS = 4 };
/* How fast this library's products are at the sizes of one step and of all steps together of the workload's cell. Returns how many were
 * measured: 0 if the cell multiplies by no matrix of known kind. p[i].flops grows to what is measured: zero it first. */
int products_measure(const work *k, int threads, product p[PRODUCTS]);

/* A peer: another process that runs the same workload when told to. It is started as
 *
 *     PROGRAM KIND THREADS BATCH STEPS INPUT HIDDEN LAYERS VOCABULARY SECONDS
 *
 * (KIND: a workload's `peer`), says "ready VERSION COUNT" when it is warm, or "cannot"; and then answers each line with
 * the seconds of one run, the mean of COUNT runs, of which as many as fit into SECONDS. It ends when its input does. */
typedef enum peer_kind { PEER_PYTORCH, PEER_ONEDNN, PEER_EXPERT, PEERS } peer_kind;
typedef struct peer {
    bool on;
    const char *name, *key; /* for people, and in JSON; NULL: it was not asked for */
    const char *absent;     /* why it is not on */
    pid_t child;
    FILE *to, *from;
    char version[64];
    double *spent; /* of each batch */
    timing time;   /* of them */
} peer;
/* p->on is false if it is not installed, or cannot run this. */
void peer_start(peer *p, peer_kind kind, const work *k, int threads);
double peer_run(peer *p); /* seconds of one run; NaN if the peer is gone */
void peer_stop(peer *p);

/* W7 and --compile: they print what they measure. Return an exit status. */
int bench_chain(const bench_arguments *a, const workload *w);
int bench_compile(const bench_arguments *a);
/* W7's ops upon a leaf that holds chain_start. */
extern const double chain_start;
wg_var chain_record(wg_var x, int64_t ops);
/* bench_conditions.c: --conditions. Returns the exit status. */
int bench_conditions(const bench_arguments *a);
/* bench_foreign.c: prints what the bridge to C costs. Returns the exit status. */
int bench_foreign(const bench_arguments *a);

#endif
