/* data_files.h: text gathered from files and folders. */
#ifndef WG_TOOLS_DATA_FILES_H
#define WG_TOOLS_DATA_FILES_H

#include "output.h"

typedef struct gathered {
    uint8_t *bytes;
    size_t size;
    int files, skipped;
} gathered;

/* Appends every text file among the paths, folders with all that is in them, in the order of names. Files that are not text are
 * skipped with a note; hidden entries and links inside folders silently. Returns 0, or says what is wrong. */
int gather_text(const common *c, const words *paths, gathered *text);
void gathered_free(gathered *text);

#endif
