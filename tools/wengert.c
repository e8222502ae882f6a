/* wengert.c: the program `wengert`: picks the subcommand, and prints help and the man page from the
 * subcommands' tables. */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUBCOMMAND(x) extern const subcommand x##_subcommand;
#include "subcommands.def"
#undef SUBCOMMAND

static const subcommand *const all[] = {
#define SUBCOMMAND(x) &x##_subcommand,
#include "subcommands.def"
#undef SUBCOMMAND
};
enum { COUNT = sizeof all / sizeof all[0], WIDTH = 100 };

static const char summary[] = "automatic differentiation on a tape, made for recurrent networks";
static const char statuses[] = "The exit status is 0; or 1, with one line on standard error that "
                               "says what was wrong and where; or 2 for misuse.";

/* ---- help ---- */

/* "--name VALUE", and how it may be given. */
static void option_head(const option *o, char *text, size_t size) {
    bool optional = o->type == OPTION_INIT;
    snprintf(text, size, "--%s%s%s%s%s", o->name, o->argument ? " " : "", optional ? "[" : "",
             o->argument  ? o->argument
             : o->choices ? o->choices
                          : "",
             optional ? "]" : "");
}

/* Its help, and after it the choices and the default. */
static char *option_text(const option *o) {
    bool many = o->type == OPTION_WORDS || o->type == OPTION_SETTINGS || o->type == OPTION_INIT;
    return format_text("%s%s%s%s%s%s%s%s", o->help, o->choices ? " One of " : "",
                       o->choices ? o->choices : "", o->choices ? "." : "",
                       many ? " May be given many times." : "", o->fallback ? " Default: " : "",
                       o->fallback ? o->fallback : "", o->fallback ? "." : "");
}

static void each_option(const subcommand *s, void (*show)(const option *o)) {
    for (const option *o = s->options; o && o->name; o++)
        show(o);
    for (int i = 0; i < OPTION_GROUPS; i++)
        for (const option *o = option_group(i); s->groups & 1u << i && o->name; o++)
            show(o);
}

static void show_option(const option *o) {
    char head[128];
    char *text = option_text(o);
    option_head(o, head, sizeof head);
    printf("  %s\n", head);
    print_wrapped(stdout, text, 6, WIDTH);
    free(text);
}

static int help_of(const subcommand *s) {
    printf("wengert %s: %s\n\nusage: wengert %s%s%s%s\n\n", s->name, s->summary, s->name,
           *s->usage ? " " : "", s->usage,
           (s->options && s->options->name) || s->groups ? " [OPTIONS]" : "");
    print_wrapped(stdout, s->details, 0, WIDTH);
    puts("\noptions:");
    each_option(s, show_option);
    puts("  --help\n      Print this.");
    return 0;
}

static int help(FILE *file) {
    table t = table_begin(2);
    fprintf(file, "wengert: %s\n\nusage: wengert SUBCOMMAND [ARGUMENTS]\n\n", summary);
    for (int i = 0; i < COUNT; i++) {
        table_cell(&t, "%s", all[i]->name);
        table_cell(&t, "%s", all[i]->summary);
    }
    table_cell(&t, "help");
    table_cell(
        &t,
        "what a subcommand does and takes: wengert help SUBCOMMAND, or wengert SUBCOMMAND --help");
    table_print(&t, file);
    fputc('\n', file);
    print_wrapped(file, statuses, 0, WIDTH);
    return 0;
}

/* ---- the man page ---- */

/* roff: backslashes and leading dots are escaped, paragraphs split, lines that begin with a blank
 * kept. */
static void roff(const char *text) {
    bool start = true;
    for (; *text; text++) {
        if (start && *text == '\n') {
            fputs(".PP", stdout);
        } else if (start && *text == ' ') {
            size_t size = strcspn(text, "\n");
            puts(".br");
            printf("\\&%.*s", (int)size, text);
            text += size;
            if (!*text)
                break;
        } else if (start && (*text == '.' || *text == '\'')) {
            fputs("\\&", stdout);
        }
        fputs(*text == '\\' ? "\\e" : *text == '-' ? "\\-" : (char[]){*text, 0}, stdout);
        start = *text == '\n';
    }
    putchar('\n');
}

static void roff_option(const option *o) {
    char head[128];
    char *text = option_text(o);
    option_head(o, head, sizeof head);
    fputs(".TP\n.B ", stdout);
    roff(head);
    roff(text);
    free(text);
}

static int man_page(void) {
    printf(".TH WENGERT 1 \"\" \"wengert %s\"\n.SH NAME\nwengert \\- %s\n", WENGERT_VERSION,
           summary);
    puts(".SH SYNOPSIS\n.B wengert\n.I SUBCOMMAND\n[\\fIARGUMENTS\\fR]\n.br\n.B wengert help\n.I "
         "SUBCOMMAND\n.SH SUBCOMMANDS");
    for (int i = 0; i < COUNT; i++) {
        printf(".SS %s %s\n", all[i]->name, all[i]->usage);
        roff(all[i]->details);
        each_option(all[i], roff_option);
    }
    puts(".SH EXIT STATUS");
    roff(statuses);
    return 0;
}

/* ---- choosing ---- */

static const char *name_at(const void *user, int i) {
    (void)user;
    return all[i]->name;
}

static const subcommand *find(const char *name) {
    for (int i = 0; i < COUNT; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    const char *near = nearest_name(name, COUNT, name_at, NULL);
    fprintf(stderr, "wengert: there is no subcommand %.60s%s%s%s\n", name,
            near ? "; did you mean " : " (see wengert --help)", near ? near : "", near ? "?" : "");
    return NULL;
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static void tell_loading(void *user, const char *text) { note(user, "loading %s", text); }

/* The C functions of --use, and those that texts may load. */
static int bind_foreign(common *c) {
    wg_error error = {0};
    if (!(c->command->groups & TAKES_FOREIGN))
        return 0;
    c->foreign = wg_foreign_new(c->memory, &(wg_foreign_options){c->allow_foreign, tell_loading, c});
    if (!c->foreign)
        return fail_memory(c);
    for (int i = 0; i < c->use.count; i++)
        if (!wg_bind_text(c->foreign, c->use.word[i], &error))
            return fail_error(c, &error);
    return 0;
}

static int run(const subcommand *s, int argc, char **argv) {
    common *c = options_parse(s, argc, argv, 2);
    if (!c)
        return 2;
    int status = 1;
    if (c->memory_limit > 0 && !(c->memory = wg_memory_new(NULL, (size_t)c->memory_limit))) {
        fail_memory(c);
    } else {
        c->run = (wg_run_options){.threads = (int)c->threads, .keep_subnormals = c->keep_subnormals,
                                  .isa = (wg_isa)c->isa};
        status = bind_foreign(c);
        status = status ? status : s->run(c);
    }
    wg_foreign_free(c->foreign);
    wg_memory_free(c->memory);
    options_free(c);
    return status;
}

static int choose(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(word, "--version") == 0)
        return printf("wengert %s\n", WENGERT_VERSION) < 0;
    if (strcmp(word, "--man") == 0) /* for the build */
        return man_page();
    bool helps = strcmp(word, "help") == 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (helps && argc == 2))
        return help(stdout);
    const subcommand *s = find(argv[helps ? 2 : 1]);
    if (!s)
        return 2;
    return helps || asks_for_help(argc, argv) ? help_of(s) : run(s, argc, argv);
}

/* What was printed has to have arrived: a full disk is a failure like any other. */
int main(int argc, char **argv) {
    int status = choose(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fprintf(stderr, "wengert%s%s: cannot write to standard output: %s\n", argc > 1 ? " " : "",
                argc > 1 ? argv[1] : "", strerror(errno));
        return 1;
    }
    return status;
}
