/* outfile.h: files a subcommand leaves in a folder: written beside their place and renamed, so that none is ever half there. */
#ifndef WG_TOOLS_OUTFILE_H
#define WG_TOOLS_OUTFILE_H

#include "output.h"

typedef struct outfile {
    FILE *file;
    char *path, *temporary;
} outfile;

/* Makes the folder, with those above it. All return 0, or 1 having said what is wrong. */
int folder_make(const common *c, const char *folder);
int outfile_open(const common *c, outfile *o, const char *folder, const char *name);
/* Gives the file its name, if everything written has arrived. */
int outfile_close(const common *c, outfile *o);
void outfile_drop(outfile *o); /* without giving it its name */

#endif
