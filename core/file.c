/* file.c: whole files. Reads one into memory with a bound; writes one so that a crash, a kill or a full disk leaves
 * either the old file or the new one. The only file of core/ that calls the file system. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most that is read from what is no regular file (a pipe never says how long it is). */
#define PIPE_LIMIT ((size_t)1 << 30)

wg_status wg__file_error(wg_error *error, wg_status status, const char *verb, const char *path,
                         const char *format, ...) {
    char quoted[400], reason[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return wg_error_set(error, status, "cannot %s %s: %s", verb,
                        wg__quote(path, quoted, sizeof quoted), reason);
}

wg_status wg__file_refused(wg_error *error, const wg_memory *memory, const char *verb,
                           const char *path) {
    wg_status status = wg__refusal(memory);
    return wg__file_error(error, status, verb, path, "%s", wg_status_sentence(status));
}

/* The reason is errno's unless given. */
static wg_status fail(wg_error *error, const char *verb, const char *path, const char *reason) {
    char buffer[128];
    if (!reason)
        reason = strerror_r(errno, buffer, sizeof buffer);
    return wg__file_error(error, WG_IO, verb, path, "%s", reason);
}

/* ---- reading ---- */

/* Reads up to `size` bytes; fewer only at the end of the file. -1 on failure. */
static ssize_t read_up_to(int fd, char *data, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, data + got, wg__min((int64_t)(size - got), 1 << 30));
        if (n == 0)
            break;
        if (n > 0)
            got += (size_t)n;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)got;
}

/* Reads to the end, starting from a guess of the size; one byte beyond the contents stays free for the zero. */
static char *read_all(wg_memory *memory, int fd, size_t guess, size_t limit, const char *path,
                      size_t *size, wg_error *error) {
    size_t room = 0, used = 0;
    char *data = NULL;
    for (size_t wanted = wg__size(guess, 1, 2);; wanted = wg__size(room, 2, 0)) {
        char *larger = wg__regrow(memory, data, wanted);
        if (!larger) {
            wg__file_refused(error, memory, "read", path);
            break;
        }
        data = larger, room = wanted;
        ssize_t got = read_up_to(fd, data + used, room - 1 - used);
        if (got < 0) {
            fail(error, "read", path, NULL);
            break;
        }
        used += (size_t)got;
        if (used > limit) {
            fail(error, "read", path, "it goes on beyond 1 GiB and is no regular file");
            break;
        }
        if (used < room - 1) {
            data[used] = 0;
            *size = used;
            return data;
        }
    }
    wg__give(memory, data);
    return NULL;
}

char *wg__file_read(wg_memory *memory, const char *path, size_t *size, wg_error *error) {
    struct stat about;
    if (!path)
        return wg_error_set(error, WG_ARGUMENT, "cannot read: no path is given"), NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        fail(error, "read", path, NULL);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    char *data = NULL;
    bool regular = S_ISREG(about.st_mode);
    if (S_ISDIR(about.st_mode))
        fail(error, "read", path, "it is a folder");
    else
        data = read_all(memory, fd, regular ? (size_t)about.st_size : 65536,
                        regular ? SIZE_MAX : PIPE_LIMIT, path, size, error);
    close(fd);
    return data;
}

/* ---- writing ---- */

static bool write_parts(int fd, int n, const wg_part *parts) {
    for (int i = 0; i < n; i++) {
        const char *data = parts[i].data;
        size_t left = parts[i].size;
        while (left) {
            ssize_t wrote = write(fd, data, (size_t)wg__min((int64_t)left, 1 << 30));
            if (wrote >= 0)
                data += wrote, left -= (size_t)wrote;
            else if (errno != EINTR)
                return false;
        }
    }
    return true;
}

/* A temporary file that this process alone holds, beside `target`. Its lock tells it from one that a killed process
 * left: that one is taken over, so leftovers never pile up. -1 on failure, with errno. */
static int open_temporary(const char *target, char *name, size_t size) {
    const char *slash = strrchr(target, '/');
    int folder = slash ? (int)(slash - target) + 1 : 0;
    int reason = EBUSY;
    for (int attempt = 0; attempt < 100; attempt++) {
        int length = snprintf(name, size, "%.*s.%s.%d.tmp", folder, target, target + folder, attempt);
        if (length < 0 || (size_t)length >= size)
            return errno = ENAMETOOLONG, -1;
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd < 0) {
            reason = errno;
            if (reason != ELOOP && reason != EACCES) /* those may be another user's doing */
                return -1;
            continue;
        }
        struct stat held, named;
        bool busy = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        bool mine = !busy && fstat(fd, &held) == 0 && lstat(name, &named) == 0 &&
                    held.st_ino == named.st_ino && held.st_dev == named.st_dev &&
                    S_ISREG(held.st_mode) && held.st_nlink == 1;
        if (mine && ftruncate(fd, 0) == 0)
            return fd;
        close(fd);
    }
    return errno = reason, -1;
}

/* Makes the folder's entry for the file permanent. Folders that cannot be opened or synced have done what they can. */
static bool sync_folder(const char *target) {
    char folder[PATH_MAX];
    const char *slash = strrchr(target, '/');
    int length = slash ? (int)(slash - target) + 1 : 2;
    snprintf(folder, sizeof folder, "%.*s", length, slash ? target : "./");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES;
    bool ok = fsync(fd) == 0 || errno == EINVAL;
    close(fd);
    return ok;
}

/* Writes a temporary file and puts it in the target's place, with the old file's mode if there is one. */
static bool replace(const char *target, const struct stat *old, int n, const wg_part *parts) {
    char name[PATH_MAX];
    int fd = open_temporary(target, name, sizeof name);
    if (fd < 0)
        return false;
    bool ok = (!old || fchmod(fd, old->st_mode & 07777) == 0) && write_parts(fd, n, parts) &&
              fsync(fd) == 0 && rename(name, target) == 0;
    int reason = errno;
    if (!ok)
        unlink(name);
    close(fd); /* and with it the lock, once the name is gone */
    errno = reason;
    return ok && sync_folder(target);
}

/* A pipe or a device is written to, not replaced. */
static bool pour(const char *path, int n, const wg_part *parts) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write_parts(fd, n, parts);
    int reason = errno;
    if (close(fd) != 0 && ok)
        return false;
    errno = reason;
    return ok;
}

wg_status wg__file_write(const char *path, int n, const wg_part *parts, wg_error *error) {
    struct stat old;
    char target[PATH_MAX];
    if (!path)
        return wg_error_set(error, WG_ARGUMENT, "cannot write: no path is given");
    bool exists = stat(path, &old) == 0;
    if (exists && S_ISDIR(old.st_mode))
        return fail(error, "write", path, "it is a folder");
    bool ok;
    if (exists && !S_ISREG(old.st_mode))
        ok = pour(path, n, parts);
    else if (exists && !realpath(path, target)) /* through a symbolic link, to what it names */
        ok = false;
    else
        ok = replace(exists ? target : path, exists ? &old : NULL, n, parts);
    return ok ? WG_OK : fail(error, "write", path, NULL);
}
