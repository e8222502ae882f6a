/* plot.c: writes a picture by gnuplot: a child process that reads its script from a pipe and whose output is the file. No
 * shell, and no name of a file or cell reaches it other than as a quoted title. */
#include "plot.h"

#include "outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- the script ---- */

/* Between single quotes gnuplot reads nothing but the doubled quote. */
static void quoted(FILE *file, const char *text) {
    fputc('\'', file);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', file);
        fputc((unsigned char)*text < 32 || *text == 127 ? ' ' : *text, file);
    }
    fputc('\'', file);
}

static void stretch(double value, double *least, double *most) {
    if (!isfinite(value))
        return;
    *least = fmin(*least, value);
    *most = fmax(*most, value);
}

/* The finite values' range, a little widened. */
static void range_of(const plot *p, double *least, double *most) {
    *least = INFINITY;
    *most = -INFINITY;
    for (int i = 0; i < p->lines; i++)
        for (int64_t k = 0; k < p->line[i].count; k++) {
            stretch(p->line[i].value[k], least, most);
            if (p->line[i].low) {
                stretch(p->line[i].low[k], least, most);
                stretch(p->line[i].high[k], least, most);
            }
        }
    if (*least > *most)
        *least = *most = 0;
    double room = *most > *least ? 0.03 * (*most - *least) : 1;
    *least -= room;
    *most += room;
}

/* The edge of a band: one that left the numbers' range stays at the picture's. */
static double edge(double value, double least, double most) {
    return isnan(value) ? value : fmin(fmax(value, least), most);
}

static void put_data(FILE *file, const plot_line *line, int i, double least, double most) {
    fprintf(file, "$data%d << END\n", i);
    for (int64_t k = 0; k < line->count; k++) {
        fprintf(file, "%lld ", (long long)(line->first + k));
        fprintf(file, isfinite(line->value[k]) ? "%.8g" : "NaN", line->value[k]);
        if (line->low)
            fprintf(file, " %.8g %.8g", edge(line->low[k], least, most), edge(line->high[k], least, most));
        fputc('\n', file);
    }
    fputs("END\n", file);
}

static void put_script(FILE *file, const plot *p) {
    static const char *const colour[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                         "#e69f00", "#56b4e9", "#333333", "#8c6d31"}; /* told apart by all eyes */
    enum { COLOURS = sizeof colour / sizeof colour[0] };
    double least, most;
    int64_t from = INT64_MAX, to = INT64_MIN;
    range_of(p, &least, &most);
    for (int i = 0; i < p->lines; i++) {
        from = p->line[i].first < from ? p->line[i].first : from;
        to = p->line[i].first + p->line[i].count > to ? p->line[i].first + p->line[i].count : to;
        put_data(file, &p->line[i], i, least, most);
    }
    fputs("set terminal svg size 960,600 noenhanced font 'sans,14' background '#ffffff'\nset title ", file);
    quoted(file, p->title);
    fputs("\nset xlabel ", file);
    quoted(file, p->x);
    fputs("\nset ylabel ", file);
    quoted(file, p->y);
    fprintf(file, "\nset xrange [%lld:%lld]\nset yrange [%.8g:%.8g]\n", (long long)from, (long long)(to > from ? to : from + 1),
            least, most);
    fputs("set grid lc rgb '#dddddd'\nset key outside right top\nset style fill transparent solid 0.18 noborder\nplot NaN notitle",
          file);
    for (int i = 0; i < p->lines; i++) {
        if (p->line[i].low)
            fprintf(file, ", $data%d using 1:3:4 with filledcurves lc rgb '%s' notitle", i, colour[i % COLOURS]);
        fprintf(file, ", $data%d using 1:2 with lines lw 2 dt %d lc rgb '%s' title ", i, 1 + i / COLOURS % 4,
                colour[i % COLOURS]);
        quoted(file, p->line[i].title);
    }
    fputs("\nexit\n", file);
}

/* ---- the child ---- */

/* Starts gnuplot with `in` as its input and `out` as its output; 0, or an errno. */
static int start(int in, int out, pid_t *child) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t broken;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &broken);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
    char *const argv[] = {(char[]){"gnuplot"}, (char[]){"-"}, NULL};
    int why = posix_spawnp(child, "gnuplot", &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return why;
}

/* The script goes down the pipe while the child reads; one that dies early must not take this program with it. */
static bool feed(int pipe_in, const plot *p) {
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGPIPE, &ignore, &before);
    FILE *file = fdopen(pipe_in, "w");
    if (file)
        put_script(file, p);
    bool good = file && fclose(file) == 0;
    if (!file)
        close(pipe_in);
    sigaction(SIGPIPE, &before, NULL);
    return good;
}

/* 0, or an errno; EIO where gnuplot ran and failed. */
static int draw(const plot *p, int out) {
    int ends[2], status;
    pid_t child;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    int why = start(ends[0], out, &child);
    close(ends[0]);
    if (why != 0) {
        close(ends[1]);
        return why;
    }
    bool fed = feed(ends[1], p);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return fed && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EIO;
}

int plot_draw(const common *c, const plot *p, const char *folder, const char *name, bool *drawn) {
    outfile o;
    *drawn = false;
    if (outfile_open(c, &o, folder, name) != 0)
        return 1;
    int why = draw(p, fileno(o.file));
    if (why == 0) {
        *drawn = true;
        return outfile_close(c, &o);
    }
    if (why == ENOENT)
        note(c, "gnuplot is not installed: %s was not drawn; its data were written", name);
    else
        note(c, "gnuplot failed%s%s: %s was not drawn; its data were written", why == EIO ? "" : ": ",
             why == EIO ? "" : strerror(why), name);
    outfile_drop(&o);
    return 0;
}
