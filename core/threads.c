/* threads.c: the threads of a run and their floating-point mode. The only file that opens a parallel region over
 * rows. Its one piece of process state says whether this process is a child forked after OpenMP was used. */
#include "core.h"

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
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
    return (wg_team){o.threads > 0 ? o.threads : wg__default_threads(), o.keep_subnormals, o.isa};
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

void wg__rows(const wg_team *team, int64_t n, int64_t grain,
              void (*work)(void *user, int64_t from, int64_t to), void *user) {
    if (n <= 0)
        return;
    int64_t chunks = (n + grain - 1) / grain;
    int threads = (int)wg__min(team->threads, chunks);
    if (threads <= 1 || openmp_lost || omp_in_parallel()) {
        for (int64_t from = 0; from < n; from += grain)
            work(user, from, wg__min(n, from + grain));
        return;
    }
    pthread_once(&watch_once, watch_forks);
    openmp_used = true;
    bool keep = team->keep_subnormals;
#pragma omp parallel num_threads(threads)
    {
        unsigned saved = wg__float_mode_enter(keep);
#pragma omp for schedule(static)
        for (int64_t k = 0; k < chunks; k++)
            work(user, k * grain, wg__min(n, (k + 1) * grain));
        wg__float_mode_leave(saved);
    }
}
