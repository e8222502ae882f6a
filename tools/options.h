/* options.h: what a subcommand of the program is, and the options it takes: tables, from which
 * parsing, checks, --help and the man page are read. A subcommand NAME is one file, cmd_NAME.c,
 * with one record `NAME_subcommand`, and one line in subcommands.def. */
#ifndef WG_TOOLS_OPTIONS_H
#define WG_TOOLS_OPTIONS_H

#include "wengert.h"

/* How an option's value is read, and the field it fills. */
typedef enum option_type {
    OPTION_FLAG,     /* bool; takes no value */
    OPTION_INTEGER,  /* int64_t, in [least, most] */
    OPTION_NUMBER,   /* double, finite, in [least, most] */
    OPTION_BYTES,    /* int64_t: a whole number, with K, M or G for 2^10, 2^20, 2^30 */
    OPTION_TEXT,     /* const char * */
    OPTION_CHOICE,   /* int: the place among `choices`, from 0 */
    OPTION_WORDS,    /* words; may be given many times */
    OPTION_LIST,     /* words: split at commas; may be given many times */
    OPTION_SETTINGS, /* settings: NAME=VALUE; may be given many times */
    OPTION_INIT /* initial: nothing, PATTERN=INITIALISER, or a scheme; may be given many times */
} option_type;

typedef struct words {
    int count;
    const char **word;
} words;

typedef struct settings {
    int count;
    wg_setting *setting;
} settings;

/* --init: whether it stood there at all, and the lines among its values. */
typedef struct initial {
    bool given;
    words line;
} initial;

typedef struct option {
    const char *name;     /* without the dashes; a table ends with NULL */
    const char *argument; /* what help calls the value; NULL for a flag */
    option_type type;
    size_t offset;        /* of the field in the subcommand's arguments */
    const char *fallback; /* the default, as it would be typed; NULL: the field is zero */
    double least, most;   /* both zero: no bounds */
    const char *choices;  /* "a|b|c" */
    const char *help;     /* one sentence, or a few */
} option;

#define FIELD(type, name) offsetof(type, name)

typedef struct subcommand subcommand;

/* What every subcommand's arguments begin with; filled before it runs. */
typedef struct common {
    const subcommand *command;
    int argc; /* the command line, for notes of how a file was made */
    char **argv;
    words word;  /* what stood beside the options */
    words given; /* the names of the options that were given */
    bool json;
    int64_t threads;
    int isa;
    bool keep_subnormals;
    int64_t memory_limit;
    wg_memory *memory;  /* with the limit, or NULL; freed by the program */
    wg_run_options run; /* threads and the floating-point mode */
    words use;           /* C functions to bind: `use` lines without the word */
    bool allow_foreign;
    wg_foreign *foreign; /* what they are bound in; NULL: the subcommand takes none */
} common;

/* Groups of options that several subcommands share. */
enum { TAKES_JSON = 1, TAKES_MEMORY = 4, TAKES_RUN = 2 | TAKES_MEMORY, TAKES_FOREIGN = 8 };

struct subcommand {
    const char *name;
    const char *usage;   /* the words after the name: "CELL|MODEL" */
    const char *summary; /* half a line */
    const char *details; /* paragraphs, split by empty lines; a line that begins with a blank is
                            kept as it is */
    const option *options;
    unsigned groups;
    int least_words, most_words; /* most -1: any number */
    size_t size;                 /* of its arguments, a struct that begins with a `common` */
    int (*run)(void *arguments); /* returns the exit status */
};

/* The groups' tables, by the bits of TAKES_…. */
enum { OPTION_GROUPS = 4 };
const option *option_group(int i);

/* Reads argv[from..argc) into fresh arguments. Returns NULL, having said why on standard error, on
 * misuse. */
void *options_parse(const subcommand *command, int argc, char **argv, int from);
void options_free(void *arguments);
/* Whether an option of that name stood on the command line. */
bool option_given(const common *c, const char *name);

/* Of `n` names, the one that `name` may have meant, or NULL. name_at(user, i) gives the i-th. */
const char *nearest_name(const char *name, int n, const char *(*name_at)(const void *user, int i),
                         const void *user);

#endif
