/* threads.c: the threads of a run and their floating-point mode. The only file that opens a parallel region over
 * rows. Its one piece of process state says whether this process is a child forked after OpenMP was used. */
#include "core.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

static atomic_bool openmp_used, openmp_lost;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void forked(void) { openmp_lost = openmp_used; }
static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

int wg__default_threads(void) {
    pthread_once(&watch_once, watch_forks);
    if (openmp_lost || omp_in_parallel())
        return 1;
    return omp_get_max_threads();
}

wg_team wg__team_of(const wg_run_options *options) {
    wg_run_options o = options ? *options : (wg_run_options){0};
    return (wg_team){.threads = o.threads > 0 ? o.threads : wg__default_threads(), .keep_subnormals = o.keep_subnormals, .isa = o.isa};
}

int wg__alone_enter(void) {
    int saved = omp_get_max_threads();
    if (saved != 1)
        omp_set_num_threads(1);
    return saved;
}

void wg__alone_leave(int saved) {
    if (saved != 1)
        omp_set_num_threads(saved);
}

unsigned wg__float_mode_enter(bool keep) {
#if defined(__SSE__)
    unsigned saved = _mm_getcsr();
    unsigned flush = 0x8040; /* flush to zero, denormals are zero */
    unsigned wanted = keep ? saved & ~flush : saved | flush;
    if (wanted != saved)
        _mm_setcsr(wanted);
    return saved;
#else
    (void)keep;
    return 0;
#endif
}

void wg__float_mode_leave(unsigned saved) {
#if defined(__SSE__)
    if (_mm_getcsr() != saved)
        _mm_setcsr(saved);
#else
    (void)saved;
#endif
}

double wg__seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- threads that stand by -------------------------------------------------------------------------------------- */

/* How often a thread looks again before it may sleep, a pause instruction between: in all 61 to 78 us where it was measured, but how long one is
 * depends on the processor. A neighbour that wants the processor gets it then. If none has taken it from the thread since its last such wait, and
 * there are processors for all threads, it looks up to LONG times as often: on a virtual machine (Zen 5, 2026) a thread that is woken runs after 10
 * us to 2 ms. */
enum { PATIENCE = 4000, LONG = 8 };

/* A thread's waits. */
typedef struct lookout {
    int looks, most;
    long taken; /* how often others had taken the processor from the thread */
} lookout;

/* How often others have taken this thread's processor from it, in the middle of its work; where the system does not say, each time more. */
static long taken(long before) {
#if defined(RUSAGE_THREAD)
    struct rusage use;
    return getrusage(RUSAGE_THREAD, &use) == 0 ? use.ru_nivcsw : before + 1;
#else
    return before + 1;
#endif
}

static void relax(void) {
#if defined(__SSE__)
    _mm_pause();
#endif
}

void wg__relax(int looks) {
    if (looks > PATIENCE)
        sched_yield();
    else
        relax();
}

/* Whether to look again. */
static bool is_patient(lookout *w) {
    relax();
    if (++w->looks % PATIENCE != 0)
        return true;
    const long before = w->taken;
    w->taken = taken(before);
    return w->taken == before && w->looks < w->most;
}

/* What is to be done now. `number` counts the jobs; a job is `open` while chunks may be taken of it; `inside` counts the helpers
 * that look at it. The owner closes it when no chunk is left and waits for the helpers inside, who alone can be at work. */
typedef struct wg_pool {
    atomic_uint number;
    atomic_bool open, done;
    atomic_int processor; /* the owner's, when it began the job */
    atomic_int inside;
    atomic_llong next;
    int64_t n, grain;
    void (*work)(void *user, int64_t from, int64_t to);
    void *user;
    pthread_mutex_t lock;
    pthread_cond_t news, left;
    atomic_int sleepers;
    atomic_bool owner_sleeps;
    lookout owner;
    int most; /* looks of a long wait */
    wg_meter *meter;   /* NULL: nobody asks */
    double helped;     /* what is for the meter, under the lock */
} wg_pool;

static void take_chunks(wg_pool *p) {
    for (;;) {
        int64_t from = atomic_fetch_add(&p->next, 1) * p->grain;
        if (from >= p->n)
            return;
        p->work(p->user, from, wg__min(p->n, from + p->grain));
        wg__bypass_fence();
    }
}

/* Off the owner's processor, if this thread was woken there though it may use others: Linux queues the two on one while a neighbour has
 * another to itself. Which processors the thread may use is set again to what it was. */
static void step_aside(const wg_pool *p) {
#if defined(__linux__)
    cpu_set_t may, others;
    int here = sched_getcpu();
    if (here < 0 || here != atomic_load(&p->processor) || sched_getaffinity(0, sizeof may, &may) != 0 || CPU_COUNT(&may) < 2)
        return;
    others = may;
    CPU_CLR(here, &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0)
        sched_setaffinity(0, sizeof may, &may);
#else
    (void)p;
#endif
}

static void help(wg_pool *p) {
    atomic_fetch_add(&p->inside, 1);
    if (atomic_load(&p->open)) {
        double begun = p->meter ? wg__seconds() : 0;
        take_chunks(p);
        if (p->meter) {
            pthread_mutex_lock(&p->lock);
            p->helped += wg__seconds() - begun;
            pthread_mutex_unlock(&p->lock);
        }
    }
    if (atomic_fetch_sub(&p->inside, 1) == 1 && atomic_load(&p->owner_sleeps)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->left);
        pthread_mutex_unlock(&p->lock);
    }
}

static void helper(wg_pool *p) {
    unsigned seen = 0;
    lookout own = {0, p->most, taken(0)};
    while (!atomic_load(&p->done)) {
        own.looks = 0;
        while (atomic_load(&p->number) == seen && !atomic_load(&p->done) && is_patient(&own))
            continue;
        if (atomic_load(&p->number) == seen && !atomic_load(&p->done)) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (atomic_load(&p->number) == seen && !atomic_load(&p->done))
                pthread_cond_wait(&p->news, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
            if (atomic_load(&p->open))
                step_aside(p);
            own.taken = taken(own.taken); /* not by stepping aside */
        }
        seen = atomic_load(&p->number);
        help(p);
    }
}

static void wake(wg_pool *p) {
    if (!atomic_load(&p->sleepers))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->news);
    pthread_mutex_unlock(&p->lock);
}

/* Until no helper is at work. */
static void wait_for_helpers(wg_pool *p) {
    lookout own = {0, p->most, p->owner.taken}; /* a copy: helpers read what lies beside it */
    while (atomic_load(&p->inside) && is_patient(&own))
        continue;
    p->owner = own;
    if (!atomic_load(&p->inside))
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->owner_sleeps, true);
    while (atomic_load(&p->inside))
        pthread_cond_wait(&p->left, &p->lock);
    atomic_store(&p->owner_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

/* The owner's side: every chunk once, and no helper at work when it returns. */
static void share(wg_pool *p, int64_t n, int64_t grain, void (*work)(void *user, int64_t from, int64_t to), void *user) {
    p->n = n;
    p->grain = grain;
    p->work = work;
    p->user = user;
    atomic_store(&p->next, 0);
#if defined(__linux__)
    atomic_store(&p->processor, sched_getcpu());
#endif
    atomic_store(&p->open, true);
    atomic_fetch_add(&p->number, 1);
    wake(p);
    take_chunks(p);
    atomic_store(&p->open, false);
    double begun = p->meter ? wg__seconds() : 0;
    wait_for_helpers(p);
    if (p->meter) {
        p->meter->waited += wg__seconds() - begun;
        p->meter->helped += p->helped;
        p->helped = 0;
    }
}

void wg__stand_by(wg_team *team, void (*body)(void *user), void *user) {
    if (team->threads <= 1 || openmp_lost || omp_in_parallel()) {
        body(user);
        return;
    }
    pthread_once(&watch_once, watch_forks);
    openmp_used = true;
    wg_pool pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER, .left = PTHREAD_COND_INITIALIZER, .meter = team->meter,
                    .owner = {.taken = taken(0)}, .most = team->threads <= omp_get_num_procs() ? LONG * PATIENCE : PATIENCE};
    bool keep = team->keep_subnormals;
#pragma omp parallel num_threads(team->threads)
    {
        unsigned saved = wg__float_mode_enter(keep);
        if (omp_get_thread_num() == 0) {
            team->pool = &pool;
            body(user);
            team->pool = NULL;
            pthread_mutex_lock(&pool.lock);
            atomic_store(&pool.done, true);
            pthread_cond_broadcast(&pool.news);
            pthread_mutex_unlock(&pool.lock);
        } else {
            helper(&pool);
        }
        wg__float_mode_leave(saved);
    }
    pthread_mutex_destroy(&pool.lock);
    pthread_cond_destroy(&pool.news);
    pthread_cond_destroy(&pool.left);
}

void wg__rows(const wg_team *team, int64_t n, int64_t grain,
              void (*work)(void *user, int64_t from, int64_t to), void *user) {
    if (n <= 0)
        return;
    int64_t chunks = (n + grain - 1) / grain;
    if (team->pool && chunks > 1) {
        share(team->pool, n, grain, work, user);
        return;
    }
    int threads = (int)wg__min(team->threads, chunks);
    if (threads <= 1 || openmp_lost || omp_in_parallel()) {
        for (int64_t from = 0; from < n; from += grain)
            work(user, from, wg__min(n, from + grain));
        wg__bypass_fence();
        return;
    }
    pthread_once(&watch_once, watch_forks);
    openmp_used = true;
    bool keep = team->keep_subnormals;
#pragma omp parallel num_threads(threads)
    {
        unsigned saved = wg__float_mode_enter(keep);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < chunks; k++) {
            work(user, k * grain, wg__min(n, (k + 1) * grain));
            wg__bypass_fence();
        }
        wg__float_mode_leave(saved);
    }
}
