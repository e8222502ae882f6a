/* phases.c: work in phases: what is made next follows from what may begin, not from a wait for all threads after each phase. */
#include "core.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct phases {
    const wg_team *team;
    int count;
    wg_phase *phase;
    pthread_mutex_t lock; /* of the phases' seconds */
} phases;

static bool is_over(const phases *all, uint32_t after) {
    for (int k = 0; after; k++, after >>= 1)
        if (after & 1 && atomic_load(&all->phase[k].left))
            return false;
    return true;
}

static bool may_begin(const phases *all, const wg_phase *p, int64_t chunk) {
    return is_over(all, p->after) || (p->early && p->early(p->user, chunk));
}

/* The next chunk of a phase, or -1: none may begin. */
static int64_t take(const phases *all, wg_phase *p) {
    int64_t chunk = atomic_load(&p->next);
    while (chunk < p->n && may_begin(all, p, chunk))
        if (atomic_compare_exchange_weak(&p->next, &chunk, chunk + 1))
            return chunk;
    return -1;
}

static bool is_taken(const phases *all) {
    for (int k = 0; k < all->count; k++)
        if (atomic_load(&all->phase[k].next) < all->phase[k].n)
            return false;
    return true;
}

/* Makes a chunk of the first phase that has one; false: none may begin. */
static bool make_one(const phases *all, double *seconds) {
    for (int k = 0; k < all->count; k++) {
        wg_phase *p = &all->phase[k];
        const int64_t chunk = take(all, p);
        if (chunk < 0)
            continue;
        const double begun = all->team->meter ? wg__seconds() : 0;
        p->work(p->user, chunk);
        wg__bypass_fence();
        if (all->team->meter)
            seconds[k] += wg__seconds() - begun;
        atomic_fetch_sub(&p->left, 1);
        return true;
    }
    return false;
}

/* A thread's way through them. */
static void pass_through(void *user, int64_t from, int64_t to) {
    phases *all = user;
    double seconds[WG_MOST_PHASES] = {0};
    (void)from, (void)to;
    for (int looks = 0; !is_taken(all);)
        if (make_one(all, seconds))
            looks = 0;
        else
            wg__relax(looks < INT32_MAX ? ++looks : looks);
    if (!all->team->meter)
        return;
    pthread_mutex_lock(&all->lock);
    for (int k = 0; k < all->count; k++)
        all->phase[k].seconds += seconds[k];
    pthread_mutex_unlock(&all->lock);
}

void wg__phases(const wg_team *team, int count, wg_phase *phase) {
    phases all = {team, count, phase, PTHREAD_MUTEX_INITIALIZER};
    for (int k = 0; k < count; k++) {
        phase[k].seconds = 0;
        atomic_store(&phase[k].next, 0);
        atomic_store(&phase[k].left, phase[k].n);
    }
    wg__rows(team, team->threads, 1, pass_through, &all);
    pthread_mutex_destroy(&all.lock);
}
