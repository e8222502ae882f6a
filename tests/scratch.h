/* scratch.h: a folder of a test's own, raw files in it, and how many entries it holds. */
#ifndef WG_SCRATCH_H
#define WG_SCRATCH_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct scratch {
    char folder[64];
    char path[512]; /* what the last call of scratch_path wrote */
} scratch;

static inline scratch scratch_new(void) {
    scratch s = {.folder = "/tmp/wengert-test-XXXXXX"};
    if (!mkdtemp(s.folder))
        abort();
    return s;
}

static inline const char *scratch_path(scratch *s, const char *name) {
    snprintf(s->path, sizeof s->path, "%s/%s", s->folder, name);
    return s->path;
}

static inline void scratch_put(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

/* The file's bytes, in a malloc'ed block with a zero after them; NULL if there is none. */
static inline char *scratch_get(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *data = calloc(1, 1 << 20);
    *size = fread(data, 1, (1 << 20) - 1, file);
    fclose(file);
    return data;
}

/* Counts the folder's entries; removes them too if asked. */
static inline int scratch_sweep(scratch *s, int remove_them) {
    DIR *folder = opendir(s->folder);
    int count = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count++;
        if (remove_them)
            remove(scratch_path(s, entry->d_name));
    }
    if (folder)
        closedir(folder);
    return count;
}

static inline void scratch_free(scratch *s) {
    scratch_sweep(s, 1);
    rmdir(s->folder);
}

#endif
