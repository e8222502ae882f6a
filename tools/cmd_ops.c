/* cmd_ops.c: `wengert ops`: the reference of the ops, read from the library's list. */
#include "output.h"

#include <stdlib.h>
#include <string.h>

typedef struct ops_arguments {
    common common;
    const char *family;
} ops_arguments;

static const option options[] = {
    {"family", "NAME", OPTION_TEXT, FIELD(ops_arguments, family),
     .help = "List this family of ops only."},
    {0},
};

static const char *name_at(const void *user, int i) { return ((const wg_op_entry *)user)[i].name; }

/* The first sentence of an op's text. */
static int first_sentence(const char *doc) {
    const char *at = doc;
    while (*at && *at != '\n' && !(*at == '.' && (at[1] == ' ' || !at[1] || at[1] == '\n')))
        at++;
    return (int)(at - doc);
}

static void json_op(json *j, const wg_op_entry *op) {
    json_open(j, '{');
    json_put_text(j, "name", op->name);
    json_put_text(j, "family", op->family);
    json_put_text(j, "arguments", op->arguments);
    json_put_text(j, "doc", op->doc);
    json_close(j, '}');
}

static bool listed(const ops_arguments *a, const wg_op_entry *op) {
    return !a->family || strcmp(a->family, op->family) == 0;
}

static int print_json(const ops_arguments *a) {
    const wg_op_entry *op = wg_op_list();
    json j = {.file = stdout};
    json_open(&j, '[');
    for (int i = 0; i < wg_op_count(); i++)
        if (listed(a, &op[i]))
            json_op(&j, &op[i]);
    json_close(&j, ']');
    json_end_line(&j);
    return 0;
}

/* One line an op, under the names of the families, which stand together in the list. */
static int print_list(const ops_arguments *a) {
    const wg_op_entry *op = wg_op_list();
    const char *family = NULL;
    table t = table_begin(2);
    for (int i = 0; i < wg_op_count(); i++) {
        if (!listed(a, &op[i]))
            continue;
        if (!family || strcmp(family, op[i].family) != 0) {
            table_print(&t, stdout);
            printf("%s%s\n", family ? "\n" : "", op[i].family);
            family = op[i].family;
        }
        table_cell(&t, "%s", op[i].name);
        table_cell(&t, "%.*s", first_sentence(op[i].doc), op[i].doc);
    }
    table_print(&t, stdout);
    return family ? 0 : fail(&a->common, "there is no family of ops '%s'", a->family);
}

static int print_one(const common *c, const char *name) {
    const wg_op_entry *op = wg_op_find(name);
    if (!op) {
        const char *near = nearest_name(name, wg_op_count(), name_at, wg_op_list());
        return fail(c, "there is no op '%s'%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
    }
    json j = {.file = stdout};
    if (c->json) {
        json_op(&j, op);
        json_end_line(&j);
        return 0;
    }
    printf("wg_%s%s    (%s)\n\n", op->name, op->arguments, op->family);
    print_wrapped(stdout, op->doc, 0, 100);
    return 0;
}

static int run(void *arguments) {
    const ops_arguments *a = arguments;
    if (a->common.word.count)
        return print_one(&a->common, a->common.word.word[0]);
    return a->common.json ? print_json(a) : print_list(a);
}

const subcommand ops_subcommand = {
    .name = "ops",
    .usage = "[NAME]",
    .summary = "the reference of the ops",
    .details = "Lists the ops the tape knows; or prints the documentation of one: its arguments, "
               "formula, shapes, errors and "
               "source.",
    .options = options,
    .groups = TAKES_JSON,
    .most_words = 1,
    .size = sizeof(ops_arguments),
    .run = run,
};
