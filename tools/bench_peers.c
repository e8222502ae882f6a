/* bench_peers.c: others beside us: child processes that run the same workload whenever they are sent a line, so that all are
 * measured in turn. PyTorch's script is part of the program; oneDNN's helper (peers/onednn_peer.c) is built where oneDNN is
 * found, and stands beside the program or in its folder of helpers; an expert's step is the user's own program. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern const char torch_peer[]; /* peers/torch_peer.py, embedded by the build */

/* What stands before the workload's words: a program, and what it is to be given first. */
typedef struct opening {
    const char *word[3];
} opening;

enum { OPENINGS = 2 };

static const struct {
    const char *name, *key;
} kinds[PEERS] = {
    [PEER_PYTORCH] = {"PyTorch", "pytorch"},
    [PEER_ONEDNN] = {"oneDNN", "onednn"},
    [PEER_EXPERT] = {"expert", "expert"},
};

/* ---- a child ---- */

static int start_child(const opening *o, const work *k, int threads, double budget, int in, int out, pid_t *child) {
    const workload *w = k->w;
    const long long numbers[] = {threads, w->batch, w->steps, w->input, w->hidden, w->layers, w->vocabulary};
    char word[8][32], *argv[16];
    int n = 0;
    for (int i = 0; i < 3 && o->word[i]; i++)
        argv[n++] = (char *)o->word[i];
    argv[n++] = (char *)w->peer;
    for (int i = 0; i < 7; i++) {
        snprintf(word[i], sizeof word[i], "%lld", numbers[i]);
        argv[n++] = word[i];
    }
    snprintf(word[7], sizeof word[7], "%g", budget);
    argv[n++] = word[7];
    argv[n] = NULL;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
    int why = posix_spawnp(child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return why;
}

static void try_opening(peer *p, const opening *o, const work *k, int threads, double budget) {
    int to[2], from[2], count;
    if (pipe2(to, O_CLOEXEC) != 0)
        return;
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return;
    }
    int why = start_child(o, k, threads, budget, to[0], from[1], &p->child);
    close(to[0]);
    close(from[1]);
    p->to = fdopen(to[1], "w");
    p->from = fdopen(from[0], "r");
    char line[256] = "";
    bool answered = why == 0 && p->to && p->from && fgets(line, sizeof line, p->from);
    p->on = answered && sscanf(line, "ready %63s %d", p->version, &count) == 2;
    if (answered && strcmp(line, "cannot\n") == 0)
        p->absent = "has no such layer";
    if (why != 0)
        p->child = 0;
    if (!p->on)
        peer_stop(p);
}

/* ---- peers ---- */

/* Another Python than the system's may stand first in the path, without the system's packages. */
static void open_pytorch(opening *o) {
    o[0] = (opening){{"python3", "-c", torch_peer}};
    o[1] = (opening){{"/usr/bin/python3", "-c", torch_peer}};
}

/* Beside the program, as it is built; or where it is installed. */
static void open_onednn(opening *o, char path[OPENINGS][PATH_MAX]) {
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size < 0)
        return;
    self[size] = 0;
    char *slash = strrchr(self, '/');
    int folder = slash ? (int)(slash - self) : 0;
    static const char installed[] = WENGERT_LIBEXEC "/wengert/onednn_peer";
    int fits[] = {snprintf(path[0], PATH_MAX, "%.*s/onednn_peer", folder, self),
                  installed[0] == '/' ? snprintf(path[1], PATH_MAX, "%s", installed)
                                      : snprintf(path[1], PATH_MAX, "%.*s/../%s", folder, self, installed)};
    for (int i = 0; i < OPENINGS; i++)
        if (fits[i] < PATH_MAX)
            o[i].word[0] = path[i];
}

void peer_start(peer *p, peer_kind kind, const work *k, int threads) {
    opening o[OPENINGS] = {0};
    char path[OPENINGS][PATH_MAX];
    signal(SIGPIPE, SIG_IGN); /* a peer that died is seen when it does not answer */
    *p = (peer){.name = kinds[kind].name, .key = kinds[kind].key, .absent = kind == PEER_EXPERT ? "did not start" : "is not installed"};
    if (!k->w->peer || k->dtype != WG_F32) {
        p->absent = k->w->peer ? "is run with f32 only" : "has no such layer";
        return;
    }
    if (kind == PEER_PYTORCH)
        open_pytorch(o);
    else if (kind == PEER_ONEDNN)
        open_onednn(o, path);
    else
        o[0].word[0] = k->a->expert;
    for (int i = 0; i < OPENINGS && !p->on; i++)
        if (o[i].word[0])
            try_opening(p, &o[i], k, threads, k->a->seconds);
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
