/* spawned.h: runs the built program in a test, and keeps what it printed and how it ended.
 * WENGERT_PROGRAM names it unless the test says another. */
#ifndef WG_SPAWNED_H
#define WG_SPAWNED_H

#include "scratch.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

typedef struct ran {
    int status; /* exit status; 128 + the signal if one ended it */
    char *out, *err;
} ran;

/* input: what standard input is read from. args: ended by NULL, without the program's name. The folder
 * holds the two streams while it runs. */
static inline ran program_run_with(scratch *s, const char *program, const char *input,
                                   const char *const *args) {
    const char *argv[64] = {program};
    char out[128], err[128];
    int n = 1, status = 0;
    pid_t child;
    posix_spawn_file_actions_t actions;
    for (; args[n - 1] && n < 63; n++)
        argv[n] = args[n - 1];
    snprintf(out, sizeof out, "%s/.out", s->folder);
    snprintf(err, sizeof err, "%s/.err", s->folder);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, input, 0, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out, 01101, 0600); /* write, create, truncate */
    posix_spawn_file_actions_addopen(&actions, 2, err, 01101, 0600);
    if (!argv[0] || posix_spawn(&child, argv[0], &actions, NULL, (char **)argv, environ) != 0 ||
        waitpid(child, &status, 0) != child)
        abort();
    posix_spawn_file_actions_destroy(&actions);
    size_t size;
    ran r = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
             scratch_get(out, &size), scratch_get(err, &size)};
    remove(out);
    remove(err);
    return r;
}
static inline ran program_run(scratch *s, const char *const *args) {
    return program_run_with(s, getenv("WENGERT_PROGRAM"), "/dev/null", args);
}
#define PROGRAM(s, ...) program_run(s, (const char *const[]){__VA_ARGS__, NULL})

static inline void ran_free(ran *r) {
    free(r->out);
    free(r->err);
}

/* Whether standard error holds exactly one line, begun like that, with `part` in it, and standard
 * output nothing. */
static inline int ran_complains(const ran *r, const char *start, const char *part) {
    char *end = strchr(r->err, '\n');
    return end && !end[1] && strncmp(r->err, start, strlen(start)) == 0 && strstr(r->err, part) &&
           !*r->out;
}

#endif
