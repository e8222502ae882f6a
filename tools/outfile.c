/* outfile.c: files of a folder, written under a temporary name, synced and renamed. */
#include "outfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int folder_make(const common *c, const char *folder) {
    char *path = copy_text(folder);
    struct stat is;
    int status = 0;
    for (char *at = path + (*path == '/'); status == 0; at++) {
        if (*at != '/' && *at)
            continue;
        char end = *at;
        *at = 0;
        if (*path && mkdir(path, 0777) != 0 && errno != EEXIST)
            status = fail(c, "cannot make the folder %s: %s", path, strerror(errno));
        *at = end;
        if (!end)
            break;
    }
    if (status == 0 && (stat(folder, &is) != 0 || !S_ISDIR(is.st_mode)))
        status = fail(c, "%s is not a folder", folder);
    free(path);
    return status;
}

int outfile_open(const common *c, outfile *o, const char *folder, const char *name) {
    *o = (outfile){.path = format_text("%s/%s", folder, name), .temporary = format_text("%s/.%s.part", folder, name)};
    o->file = fopen(o->temporary, "w");
    if (o->file)
        return 0;
    int status = fail(c, "cannot write %s: %s", o->path, strerror(errno));
    outfile_drop(o);
    return status;
}

int outfile_close(const common *c, outfile *o) {
    bool good = fflush(o->file) == 0 && !ferror(o->file) && fsync(fileno(o->file)) == 0;
    int why = errno, status = 0;
    if (fclose(o->file) != 0 && good) {
        good = false;
        why = errno;
    }
    o->file = NULL;
    if (good && rename(o->temporary, o->path) != 0) {
        good = false;
        why = errno;
    }
    if (!good)
        status = fail(c, "cannot write %s: %s", o->path, strerror(why));
    outfile_drop(o);
    return status;
}

void outfile_drop(outfile *o) {
    if (o->file)
        fclose(o->file);
    if (o->temporary)
        unlink(o->temporary);
    free(o->path);
    free(o->temporary);
    *o = (outfile){0};
}
