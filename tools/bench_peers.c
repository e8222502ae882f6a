/* bench_peers.c: PyTorch beside us: a child process that runs the same workload whenever it is sent a line, so that both are
 * measured in turn. Its script is part of the program. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern const char torch_peer[]; /* peers/torch_peer.py, embedded by the build */

/* Another Python than the system's may stand first in the path, without the system's packages. */
static const char *const pythons[] = {"python3", "/usr/bin/python3"};

static int start_child(const char *python, const work *k, int threads, double budget, int in, int out, pid_t *child) {
    const workload *w = k->w;
    const long long numbers[] = {threads, w->batch, w->steps, w->input, w->hidden, w->layers, w->vocabulary};
    char word[8][32], *argv[16] = {(char *)python, (char[]){"-c"}, (char *)torch_peer, (char *)w->peer};
    for (int i = 0; i < 7; i++) {
        snprintf(word[i], sizeof word[i], "%lld", numbers[i]);
        argv[4 + i] = word[i];
    }
    snprintf(word[7], sizeof word[7], "%g", budget);
    argv[11] = word[7];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
    int why = posix_spawnp(child, python, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return why;
}

static void try_python(peer *p, const char *python, const work *k, int threads, double budget) {
    int to[2], from[2], count;
    *p = (peer){0};
    if (pipe2(to, O_CLOEXEC) != 0)
        return;
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return;
    }
    int why = start_child(python, k, threads, budget, to[0], from[1], &p->child);
    close(to[0]);
    close(from[1]);
    p->to = fdopen(to[1], "w");
    p->from = fdopen(from[0], "r");
    char line[256];
    p->on = why == 0 && p->to && p->from && fgets(line, sizeof line, p->from) &&
            sscanf(line, "ready %63s %d", p->version, &count) == 2;
    if (why != 0)
        p->child = 0;
    if (!p->on)
        peer_stop(p);
}

void peer_start(peer *p, const work *k, int threads, double budget) {
    signal(SIGPIPE, SIG_IGN); /* a peer that died is seen when it does not answer */
    *p = (peer){0};
    for (size_t i = 0; i < sizeof pythons / sizeof pythons[0] && !p->on; i++)
        try_python(p, pythons[i], k, threads, budget);
}

double peer_run(peer *p) {
    char line[256], *end;
    if (!p->on || fputs("run\n", p->to) < 0 || fflush(p->to) != 0 || !fgets(line, sizeof line, p->from))
        return NAN;
    double spent = strtod(line, &end);
    return end > line && spent > 0 ? spent : NAN;
}

/* It ends when its input does. */
void peer_stop(peer *p) {
    int status;
    if (p->to)
        fclose(p->to);
    if (p->from)
        fclose(p->from);
    if (p->child > 0)
        while (waitpid(p->child, &status, 0) < 0 && errno == EINTR)
            continue;
    p->on = false;
    p->to = p->from = NULL;
    p->child = 0;
}
