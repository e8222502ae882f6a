/* Threads that stand by: where they run beside a neighbour. */
#include "suite.h"

#include <omp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

enum { JOBS = 40 };

typedef struct meeting {
    wg_team team;
    cpu_set_t may, owner; /* the processors that each thread may use; those of the owner */
    atomic_int came;
    int helped, elsewhere, changed;
} meeting;

/* Two chunks that wait for each other, so that each thread makes one. */
static void meet(void *user, int64_t from, int64_t to) {
    meeting *m = user;
    cpu_set_t now;
    (void)from, (void)to;
    if (omp_get_thread_num() == 1) {
        m->helped++;
        m->elsewhere += !CPU_ISSET(sched_getcpu(), &m->owner);
        m->changed += sched_getaffinity(0, sizeof now, &now) != 0 || !CPU_EQUAL(&now, &m->may);
    }
    atomic_fetch_add(&m->came, 1);
    while (atomic_load(&m->came) < 2)
        ;
}

static void jobs(void *user) {
    meeting *m = user;
    sched_setaffinity(0, sizeof m->owner, &m->owner);
    for (int k = 0; k < JOBS; k++) {
        atomic_store(&m->came, 0);
        wg__rows(&m->team, 2, 1, meet, m);
        usleep(5000); /* longer than the other looks for work: it sleeps too */
    }
}

/* One processor is the owner's, a neighbour has the other: left alone, Linux has both threads take turns on the owner's. */
Test(threads, that_stand_by_work_beside_a_neighbour_and_may_still_run_anywhere) {
    meeting m = {.team = {.threads = 2}};
    cpu_set_t all, other;
    int pair[2] = {-1, -1}, found = 0;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &all))
            pair[found++] = cpu;
    CPU_ZERO(&m.may);
    CPU_ZERO(&m.owner);
    CPU_ZERO(&other);
    for (int k = 0; k < found; k++)
        CPU_SET(pair[k], &m.may);
    CPU_SET(pair[0], &m.owner);
    CPU_SET(pair[found - 1], &other);
    cr_assert_eq(sched_setaffinity(0, sizeof m.may, &m.may), 0);
    pid_t neighbour = fork();
    cr_assert_neq(neighbour, -1);
    if (neighbour == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sched_setaffinity(0, sizeof other, &other);
        for (;;)
            ;
    }
    wg__stand_by(&m.team, jobs, &m);
    kill(neighbour, SIGKILL);
    waitpid(neighbour, NULL, 0);
    cr_expect_eq(m.helped, JOBS);
    cr_expect_eq(m.changed, 0, "affinity changed in %d of %d", m.changed, JOBS);
    if (found == 2)
        cr_expect_gt(m.elsewhere, JOBS / 2, "%d of %d beside the neighbour", m.elsewhere, JOBS);
}
