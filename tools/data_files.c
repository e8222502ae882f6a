/* data_files.c: gathers text from files and folders. Reads regular files and nothing else. */
#include "data_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEEPEST = 64, SAMPLED = 1 << 16 };

/* Whether these bytes are no text: a NUL anywhere, or many control characters near the start. */
static bool is_binary(const uint8_t *bytes, size_t size) {
    size_t controls = 0, sampled = size < SAMPLED ? size : SAMPLED;
    if (memchr(bytes, 0, size))
        return true;
    for (size_t i = 0; i < sampled; i++)
        controls += (bytes[i] < 32 && !strchr("\b\t\n\v\f\r\x1b", bytes[i])) || bytes[i] == 127;
    return controls * 20 > sampled;
}

static int cannot_read(const common *c, const char *path) { return fail(c, "%s: %s", path, strerror(errno)); }

/* Reads what is left of the file, of about `expected` bytes, behind the text. */
static bool read_all(FILE *file, size_t expected, gathered *text, size_t *count) {
    size_t got, room = expected + 1;
    *count = 0;
    do {
        text->bytes = grow(text->bytes, text->size + *count + room, 1);
        got = fread(text->bytes + text->size + *count, 1, room, file);
        *count += got;
        room = 1 << 16;
    } while (got > 0);
    return !ferror(file);
}

static int gather_file(const common *c, const char *path, size_t expected, gathered *text) {
    size_t count;
    FILE *file = fopen(path, "rb");
    if (!file)
        return cannot_read(c, path);
    bool good = read_all(file, expected, text, &count);
    int status = good ? 0 : cannot_read(c, path);
    fclose(file);
    if (status == 0 && is_binary(text->bytes + text->size, count)) {
        note(c, "%s is not text and was skipped", path);
        text->skipped++;
    } else if (status == 0) {
        text->size += count;
        text->files++;
    }
    return status;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The names in a folder that are not hidden, sorted; NULL if it cannot be read. */
static char **list_folder(const char *path, int *count) {
    DIR *folder = opendir(path);
    char **names = NULL;
    *count = 0;
    if (!folder)
        return NULL;
    names = grow(NULL, 1, sizeof *names);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            names = grow(names, (size_t)*count + 1, sizeof *names);
            names[(*count)++] = copy_text(entry->d_name);
        }
    closedir(folder);
    qsort(names, (size_t)*count, sizeof *names, by_name);
    return names;
}

static int gather_folder(const common *c, const char *path, int depth, gathered *text);

static int gather_entry(const common *c, const char *path, int depth, gathered *text) {
    struct stat about;
    if ((depth ? lstat(path, &about) : stat(path, &about)) != 0)
        return cannot_read(c, path);
    if (S_ISDIR(about.st_mode))
        return depth < DEEPEST ? gather_folder(c, path, depth, text)
                               : fail(c, "%s: folders are nested more than %d deep", path, DEEPEST);
    if (S_ISREG(about.st_mode))
        return gather_file(c, path, (size_t)about.st_size, text);
    return depth ? 0 : fail(c, "%s: this is neither a file nor a folder", path);
}

static int gather_folder(const common *c, const char *path, int depth, gathered *text) {
    int count, status = 0;
    char **names = list_folder(path, &count);
    if (!names)
        return cannot_read(c, path);
    for (int i = 0; i < count; i++) {
        size_t size = strlen(path);
        char *inner = format_text("%s%s%s", path, size && path[size - 1] == '/' ? "" : "/", names[i]);
        if (status == 0)
            status = gather_entry(c, inner, depth + 1, text);
        free(inner);
        free(names[i]);
    }
    free(names);
    return status;
}

int gather_text(const common *c, const words *paths, gathered *text) {
    *text = (gathered){0};
    for (int i = 0; i < paths->count; i++)
        if (gather_entry(c, paths->word[i], 0, text) != 0) {
            gathered_free(text);
            return 1;
        }
    return 0;
}

void gathered_free(gathered *text) {
    free(text->bytes);
    *text = (gathered){0};
}
