/* options.c: reads a command line by the tables of a subcommand and of the groups it takes. */
#include "options.h"

#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const option json_options[] = {
    {"json", NULL, OPTION_FLAG, FIELD(common, json), .help = "Print JSON instead of text."},
    {0},
};

static const option run_options[] = {
    {"threads", "N", OPTION_INTEGER, FIELD(common, threads), .least = 0, .most = 4096,
     .help = "Threads to compute on; 0: as many as the machine has. Results do not depend on it."},
    {"isa", "NAME", OPTION_CHOICE, FIELD(common, isa), "auto", .choices = "auto|baseline|avx2|avx512|amx",
     .help = "The most the instruction set may be."},
    {"keep-subnormals", NULL, OPTION_FLAG, FIELD(common, keep_subnormals),
     .help = "Compute exactly with numbers below the normal range, slowly, instead of taking them "
             "as zero."},
    {0},
};

static const option memory_options[] = {
    {"memory-limit", "BYTES", OPTION_BYTES, FIELD(common, memory_limit),
     .help = "Fail instead of using more memory than this for arrays and tapes (K, M and G may "
             "follow the number)."},
    {0},
};

static const option foreign_options[] = {
    {"use", "LINE", OPTION_WORDS, FIELD(common, use),
     .help = "Make a C function of a shared library a function of cells, as a `use` line in one does: "
             "'\"libm.so.6\" \"double j0(double)\" as J0 with derivative -J1(x)'. After the library and the prototype may stand: as NAME; "
             "with derivative EXPRESSION (or the prototype of a C function, in quotes; for each float operand, separated by commas); with vjp "
             "\"PROTOTYPE\"; on A..B (where derivatives are checked); serial (not safe for two threads); nan (NaN is a value); after "
             "\"FUNCTION\" (called once before)."},
    {"allow-foreign", NULL, OPTION_FLAG, FIELD(common, allow_foreign),
     .help = "Let `use` lines of cells, and of the cells in models, load shared libraries: code that can do whatever "
             "you can. What is loaded is told on standard error."},
    {0},
};

const option *option_group(int i) {
    static const option *const group[OPTION_GROUPS] = {json_options, run_options, memory_options, foreign_options};
    return group[i];
}

/* ---- names ---- */

/* Edits (of one letter, or a swap of neighbours) from a to b; names are short. */
static int distance(const char *a, const char *b) {
    enum { MOST = 40 };
    int rows[3][MOST + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > MOST || m > MOST)
        return MOST;
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *up = rows[(i + 2) % 3], *above = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above[j - 2] + 1 < best)
                best = above[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *nearest_name(const char *name, int n, const char *(*name_at)(const void *user, int i),
                         const void *user) {
    const char *best = NULL;
    int least = (int)strlen(name) / 3 + 2;
    for (int i = 0; i < n; i++) {
        const char *other = name_at(user, i);
        size_t size = strlen(name);
        int d = size >= 2 && strncmp(name, other, size) == 0 ? 1 : distance(name, other);
        if (d < least) {
            least = d;
            best = other;
        }
    }
    return best;
}

/* The tables of a subcommand one after the other; NULL after the last option. */
static const option *option_at(const subcommand *command, int i) {
    for (int group = -1; group < OPTION_GROUPS; group++) {
        const option *o = group < 0                       ? command->options
                          : command->groups & 1u << group ? option_group(group)
                                                          : NULL;
        for (; o && o->name; o++)
            if (i-- == 0)
                return o;
    }
    return NULL;
}

static const char *option_name_at(const void *user, int i) { return option_at(user, i)->name; }

static const option *find_option(const subcommand *command, const char *name, size_t size) {
    const option *o;
    for (int i = 0; (o = option_at(command, i)); i++)
        if (strlen(o->name) == size && strncmp(o->name, name, size) == 0)
            return o;
    return NULL;
}

bool option_given(const common *c, const char *name) {
    for (int i = 0; i < c->given.count; i++)
        if (strcmp(c->given.word[i], name) == 0)
            return true;
    return false;
}

/* ---- values ---- */

static void add_word(words *w, const char *word) {
    w->word = grow(w->word, (size_t)w->count + 1, sizeof *w->word);
    w->word[w->count++] = word;
}

static bool inside(const option *o, double value) {
    return (o->least == 0 && o->most == 0) || (value >= o->least && value <= o->most);
}

/* The program never sets a locale, so these read numbers as C does. */
static bool read_integer(const char *text, int64_t *value, const char **rest) {
    char *end;
    errno = 0;
    long long read = strtoll(text, &end, 10);
    *value = read;
    *rest = end;
    return end != text && errno == 0 && *text != ' ';
}

static int bad_value(const common *c, const option *o, const char *text, const char *wanted) {
    return misuse(c, "--%s %s: %s", o->name, text, wanted);
}

static int set_integer(common *c, const option *o, const char *text, int64_t *field) {
    const char *rest;
    int64_t value;
    if (!read_integer(text, &value, &rest) || *rest)
        return bad_value(c, o, text, "this is not a whole number");
    if (!inside(o, (double)value))
        return misuse(c, "--%s %s: it has to lie between %.0f and %.0f", o->name, text, o->least,
                      o->most);
    *field = value;
    return 0;
}

static int set_number(common *c, const option *o, const char *text, double *field) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return bad_value(c, o, text, "this is not a number");
    if (!inside(o, value))
        return misuse(c, "--%s %s: it has to lie between %g and %g", o->name, text, o->least,
                      o->most);
    *field = value;
    return 0;
}

static int set_bytes(common *c, const option *o, const char *text, int64_t *field) {
    static const char units[] = "KMG";
    const char *rest;
    int64_t value;
    bool good = read_integer(text, &value, &rest) && value > 0;
    const char *unit = good && *rest ? strchr(units, *rest & ~32) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (!good || (*rest && (!unit || rest[1])) || value > INT64_MAX >> shift)
        return bad_value(c, o, text, "this is not a number of bytes (4096, 64K, 500M, 2G)");
    *field = value << shift;
    return 0;
}

static int set_choice(common *c, const option *o, const char *text, int *field) {
    int place = 0;
    for (const char *choice = o->choices; choice; place++) {
        size_t size = strcspn(choice, "|");
        if (strlen(text) == size && strncmp(choice, text, size) == 0) {
            *field = place;
            return 0;
        }
        choice = choice[size] ? choice + size + 1 : NULL;
    }
    return misuse(c, "--%s %s: it has to be one of %s", o->name, text, o->choices);
}

static int set_list(common *c, const option *o, const char *text, words *field) {
    for (const char *at = text;;) {
        size_t size = strcspn(at, ",");
        if (size == 0)
            return bad_value(c, o, text, "an empty name");
        add_word(field, format_text("%.*s", (int)size, at));
        if (!at[size])
            return 0;
        at += size + 1;
    }
}

static int set_setting(common *c, const option *o, const char *text, settings *field) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return bad_value(c, o, text, "this is not NAME=VALUE");
    field->setting = grow(field->setting, (size_t)field->count + 1, sizeof *field->setting);
    field->setting[field->count++] =
        (wg_setting){format_text("%.*s", (int)(equals - text), text), copy_text(equals + 1)};
    return 0;
}

/* Whether a word can be the value of --init, which may also stand alone. */
static bool is_init_value(const char *text) {
    return *text != '-' && (strchr(text, '=') || strcmp(text, "pytorch") == 0 ||
                            strcmp(text, "keras") == 0 || strcmp(text, "flax") == 0);
}

static int set_value(common *c, const option *o, const char *text) {
    void *field = (char *)c + o->offset;
    switch (o->type) {
    case OPTION_FLAG: *(bool *)field = true; return 0;
    case OPTION_INTEGER: return set_integer(c, o, text, field);
    case OPTION_NUMBER: return set_number(c, o, text, field);
    case OPTION_BYTES: return set_bytes(c, o, text, field);
    case OPTION_TEXT: *(const char **)field = text; return 0;
    case OPTION_CHOICE: return set_choice(c, o, text, field);
    case OPTION_WORDS: add_word(field, copy_text(text)); return 0;
    case OPTION_LIST: return set_list(c, o, text, field);
    case OPTION_SETTINGS: return set_setting(c, o, text, field);
    case OPTION_INIT:
        ((initial *)field)->given = true;
        if (text && !is_init_value(text))
            return bad_value(c, o, text,
                             "this is not PATTERN=INITIALISER, nor pytorch, keras or flax");
        if (text)
            add_word(&((initial *)field)->line, copy_text(text));
        return 0;
    }
    return 0;
}

/* ---- the command line ---- */

static int unknown_option(const common *c, const char *name, size_t size) {
    char shown[64];
    int count = 0;
    while (option_at(c->command, count))
        count++;
    snprintf(shown, sizeof shown, "%.*s", (int)size, name);
    const char *near = nearest_name(shown, count, option_name_at, c->command);
    if (near)
        return misuse(c, "there is no option --%s; did you mean --%s?", shown, near);
    return misuse(c, "there is no option --%s (see wengert %s --help)", shown, c->command->name);
}

/* One option, at argv[*i]; moves *i to its last word. */
static int parse_option(common *c, int *i) {
    const char *name = c->argv[*i] + 2;
    size_t size = strcspn(name, "=");
    const option *o = find_option(c->command, name, size);
    const char *value = name[size] ? name + size + 1 : NULL;
    const char *next = *i + 1 < c->argc ? c->argv[*i + 1] : NULL;
    if (!o)
        return unknown_option(c, name, size);
    if (o->type == OPTION_FLAG && value)
        return misuse(c, "--%s takes no value", o->name);
    bool takes_next = o->type == OPTION_INIT ? next && is_init_value(next) : o->type != OPTION_FLAG;
    if (!value && takes_next) {
        if (!next || strncmp(next, "--", 2) == 0)
            return misuse(c, "--%s needs a value: --%s %s", o->name, o->name, o->argument);
        value = next;
        ++*i;
    }
    add_word(&c->given, o->name);
    return set_value(c, o, value);
}

static int set_fallbacks(common *c) {
    const option *o;
    for (int i = 0; (o = option_at(c->command, i)); i++) {
        int status = o->fallback ? set_value(c, o, o->fallback) : 0;
        if (status)
            return status;
    }
    return 0;
}

static int check_words(const common *c) {
    const subcommand *s = c->command;
    if (c->word.count < s->least_words)
        return misuse(c, "it needs more arguments: wengert %s %s", s->name, s->usage);
    if (s->most_words >= 0 && c->word.count > s->most_words)
        return misuse(c, "it does not take '%s'%s%s%s", c->word.word[s->most_words],
                      *s->usage ? " (usage: wengert " : "", *s->usage ? s->name : "",
                      *s->usage ? " [OPTIONS] …)" : "");
    return 0;
}

void *options_parse(const subcommand *command, int argc, char **argv, int from) {
    common *c = allocate(1, command->size);
    bool only_words = false;
    c->command = command;
    c->argc = argc;
    c->argv = argv;
    int status = set_fallbacks(c);
    for (int i = from; i < argc && status == 0; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0)
            only_words = true;
        else if (!only_words && strncmp(argv[i], "--", 2) == 0)
            status = parse_option(c, &i);
        else if (!only_words && argv[i][0] == '-' && argv[i][1])
            status = misuse(c, "there is no option %s: options begin with two dashes", argv[i]);
        else
            add_word(&c->word, argv[i]);
    }
    if (status == 0)
        status = check_words(c);
    if (status == 0)
        return c;
    options_free(c);
    return NULL;
}

static void free_words(words *w, bool owned) {
    for (int i = 0; owned && i < w->count; i++)
        free((char *)w->word[i]);
    free(w->word);
}

static void free_value(const option *o, void *field) {
    if (o->type == OPTION_WORDS || o->type == OPTION_LIST)
        free_words(field, true);
    if (o->type == OPTION_INIT)
        free_words(&((initial *)field)->line, true);
    if (o->type != OPTION_SETTINGS)
        return;
    settings *s = field;
    for (int i = 0; i < s->count; i++) {
        free((char *)s->setting[i].name);
        free((char *)s->setting[i].value);
    }
    free(s->setting);
}

void options_free(void *arguments) {
    common *c = arguments;
    const option *o;
    for (int i = 0; (o = option_at(c->command, i)); i++)
        free_value(o, (char *)arguments + o->offset);
    free_words(&c->word, false);
    free_words(&c->given, false);
    free(arguments);
}
