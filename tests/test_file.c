/* Whole files: what is read and refused, and that a write leaves the old file or the new one. */
#include "suite.h"

#include "core.h"
#include "failing.h"
#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const wg_part abc[] = {{"abc", 3}, {"", 0}, {"defg", 4}};

static void holds(const char *path, const char *wanted) {
    size_t size = 0;
    char *data = scratch_get(path, &size);
    cr_assert_not_null(data, "%s is not there", path);
    cr_assert_eq(size, strlen(wanted));
    cr_assert(memcmp(data, wanted, size) == 0, "%s holds other bytes", path);
    free(data);
}

Test(file, parts_are_written_one_after_another_and_read_back) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x.bin");
    wg_error error = {0};
    cr_assert_eq(wg__file_write(path, 3, abc, &error), WG_OK, "%s", error.text);
    holds(path, "abcdefg");
    size_t size = 99;
    char *data = wg__file_read(NULL, path, &size, &error);
    cr_assert_not_null(data);
    cr_assert_eq(size, 7);
    cr_assert_str_eq(data, "abcdefg");
    wg__give(NULL, data);
    cr_assert_eq(scratch_sweep(&s, 0), 1, "a temporary file is left");
    scratch_free(&s);
}

Test(file, writing_replaces_the_contents_and_keeps_the_mode) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x");
    scratch_put(path, "something longer", 16);
    chmod(path, 0640);
    cr_assert_eq(wg__file_write(path, 3, abc, NULL), WG_OK);
    holds(path, "abcdefg");
    struct stat about;
    stat(path, &about);
    cr_assert_eq(about.st_mode & 07777, 0640);
    scratch_free(&s);
}

Test(file, an_empty_file_is_read_as_no_bytes) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "empty");
    cr_assert_eq(wg__file_write(path, 0, NULL, NULL), WG_OK);
    size_t size = 9;
    char *data = wg__file_read(NULL, path, &size, NULL);
    cr_assert_not_null(data);
    cr_assert_eq(size, 0);
    cr_assert_eq(data[0], 0);
    wg__give(NULL, data);
    scratch_free(&s);
}

Test(file, a_symbolic_link_is_written_through) {
    scratch s = scratch_new();
    char target[512], link[512];
    strcpy(target, scratch_path(&s, "target"));
    strcpy(link, scratch_path(&s, "link"));
    scratch_put(target, "old", 3);
    cr_assert_eq(symlink(target, link), 0);
    cr_assert_eq(wg__file_write(link, 3, abc, NULL), WG_OK);
    struct stat about;
    lstat(link, &about);
    cr_assert(S_ISLNK(about.st_mode), "the link was replaced");
    holds(target, "abcdefg");
    scratch_free(&s);
}

static void cannot_read(const char *path, wg_status status, const char *reason) {
    wg_error error = {0};
    size_t size = 0;
    cr_assert_null(wg__file_read(NULL, path, &size, &error));
    cr_assert_eq(error.status, status);
    cr_assert_not_null(strstr(error.text, path), "'%s' does not name the file", error.text);
    cr_assert_not_null(strstr(error.text, reason), "'%s' does not say: %s", error.text, reason);
}

Test(file, errors_name_the_file_and_the_reason) {
    scratch s = scratch_new();
    cannot_read(scratch_path(&s, "absent"), WG_IO, "No such file");
    cannot_read(s.folder, WG_IO, "it is a folder");
    cannot_read("/proc/self/mem", WG_IO, "Input/output error");
    wg_error none = {0};
    size_t size;
    cr_assert_null(wg__file_read(NULL, NULL, &size, &none));
    cr_assert_eq(none.status, WG_ARGUMENT);
    cr_assert_eq(wg__file_write(NULL, 3, abc, NULL), WG_ARGUMENT);
    wg_error error = {0};
    cr_assert_eq(wg__file_write(s.folder, 3, abc, &error), WG_IO);
    cr_assert_not_null(strstr(error.text, "it is a folder"));
    error = (wg_error){0};
    cr_assert_eq(wg__file_write(scratch_path(&s, "no/x"), 3, abc, &error), WG_IO);
    cr_assert_not_null(strstr(error.text, "/no/x': No such file"), "%s", error.text);
    scratch_free(&s);
}

Test(file, a_full_device_is_an_error) {
    wg_error error = {0};
    cr_assert_eq(wg__file_write("/dev/full", 3, abc, &error), WG_IO);
    cr_assert_str_eq(error.text, "cannot write '/dev/full': No space left on device");
    struct stat about;
    cr_assert(stat("/dev/full", &about) == 0 && S_ISCHR(about.st_mode), "the device was replaced");
}

Test(file, a_write_that_fails_midway_keeps_the_old_file_and_leaves_nothing) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x");
    scratch_put(path, "old", 3);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 4;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    wg_error error = {0};
    wg_status status = wg__file_write(path, 3, abc, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    cr_assert_eq(status, WG_IO);
    cr_assert_not_null(strstr(error.text, "File too large"), "%s", error.text);
    holds(path, "old");
    cr_assert_eq(scratch_sweep(&s, 0), 1, "the temporary file is left");
    scratch_free(&s);
}

Test(file, a_leftover_of_a_killed_writer_is_taken_over) {
    scratch s = scratch_new();
    scratch_put(scratch_path(&s, ".x.0.tmp"), "half of something long", 22);
    cr_assert_eq(wg__file_write(scratch_path(&s, "x"), 3, abc, NULL), WG_OK);
    holds(scratch_path(&s, "x"), "abcdefg");
    cr_assert_eq(scratch_sweep(&s, 0), 1, "the leftover is still there");
    scratch_free(&s);
}

Test(file, the_temporary_file_of_a_living_writer_is_left_alone) {
    scratch s = scratch_new();
    scratch_put(scratch_path(&s, ".x.0.tmp"), "other", 5);
    int other = open(scratch_path(&s, ".x.0.tmp"), O_WRONLY);
    cr_assert_eq(flock(other, LOCK_EX), 0);
    cr_assert_eq(wg__file_write(scratch_path(&s, "x"), 3, abc, NULL), WG_OK);
    holds(scratch_path(&s, "x"), "abcdefg");
    holds(scratch_path(&s, ".x.0.tmp"), "other");
    close(other);
    scratch_free(&s);
}

Test(file, a_link_planted_at_the_temporary_name_is_not_followed) {
    scratch s = scratch_new();
    char victim[512];
    strcpy(victim, scratch_path(&s, "victim"));
    scratch_put(victim, "precious", 8);
    cr_assert_eq(symlink(victim, scratch_path(&s, ".x.0.tmp")), 0);
    cr_assert_eq(wg__file_write(scratch_path(&s, "x"), 3, abc, NULL), WG_OK);
    holds(victim, "precious");
    remove(scratch_path(&s, ".x.0.tmp"));
    cr_assert_eq(link(victim, scratch_path(&s, ".x.0.tmp")), 0);
    cr_assert_eq(wg__file_write(scratch_path(&s, "x"), 3, abc, NULL), WG_OK);
    holds(victim, "precious");
    scratch_free(&s);
}

/* A child writes two contents by turns and is killed at a random moment; each time the file is one of them, whole. */
Test(file, a_killed_writer_leaves_the_old_file_or_the_new_one) {
    enum { SIZE = 300000 };
    scratch s = scratch_new();
    static char data[SIZE];
    const char *path = scratch_path(&s, "x");
    wg_random random = {.seed = 3};
    wg_part part = {data, SIZE};
    memset(data, 'a', SIZE);
    cr_assert_eq(wg__file_write(path, 1, &part, NULL), WG_OK);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0)
            for (char letter = 'b';; letter = letter == 'a' ? 'b' : 'a') {
                memset(data, letter, SIZE);
                wg__file_write(path, 1, &part, NULL);
            }
        usleep((useconds_t)wg_random_below(&random, 10000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        size_t size = 0;
        char *now = wg__file_read(NULL, path, &size, NULL);
        cr_assert_not_null(now);
        cr_assert_eq(size, SIZE);
        for (size_t i = 1; i < size; i++)
            cr_assert_eq(now[i], now[0]);
        wg__give(NULL, now);
        cr_assert_leq(scratch_sweep(&s, 0), 2, "leftovers pile up");
    }
    scratch_free(&s);
}

/* A pipe delivers more than its first block of buffer. */
Test(file, a_pipe_is_read_to_its_end) {
    int ends[2];
    char path[64];
    cr_assert_eq(pipe(ends), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    pid_t child = fork();
    if (child == 0) {
        char block[1000];
        memset(block, 'p', sizeof block);
        close(ends[0]);
        for (int i = 0; i < 300; i++)
            if (write(ends[1], block, sizeof block) != sizeof block)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    size_t size = 0;
    wg_error error = {0};
    char *data = wg__file_read(NULL, path, &size, &error);
    cr_assert_not_null(data, "%s", error.text);
    cr_assert_eq(size, 300000);
    cr_assert_eq(data[299999], 'p');
    wg__give(NULL, data);
    close(ends[0]);
    waitpid(child, NULL, 0);
}

Test(file, a_file_that_never_ends_meets_the_memory_limit) {
    wg_memory *memory = wg_memory_new(NULL, 1 << 20);
    wg_error error = {0};
    size_t size;
    cr_assert_null(wg__file_read(memory, "/dev/zero", &size, &error));
    cr_assert_eq(error.status, WG_LIMIT);
    cr_assert_str_eq(error.text, "cannot read '/dev/zero': the memory limit was reached");
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

Test(file, every_allocation_may_fail) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x");
    wg__file_write(path, 3, abc, NULL);
    bool done = false;
    for (long k = 1; !done; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_error error = {0};
        size_t size;
        char *data = wg__file_read(memory, path, &size, &error);
        done = data != NULL;
        cr_assert_eq(done, !failing_failed(&f));
        cr_assert_eq(error.status, done ? WG_OK : WG_MEMORY);
        wg__give(memory, data);
        cr_assert_eq(f.live, 0);
        wg_memory_free(memory);
    }
    scratch_free(&s);
}
