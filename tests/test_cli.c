/* test_cli.c: the program's command line: subcommands, options, help, exit statuses, one line of
 * complaint. */
#include "suite.h"

#include "spawned.h"
#include "wengert.h"

static void misused(const char *start, const char *part, const char *const *args) {
    scratch s = scratch_new();
    ran r = program_run(&s, args);
    cr_expect_eq(r.status, 2, "%s: status %d", part, r.status);
    cr_expect(ran_complains(&r, start, part), "wanted '%s' in: %s", part, r.err);
    cr_expect_eq(scratch_sweep(&s, 0), 0);
    ran_free(&r);
    scratch_free(&s);
}
#define MISUSED(start, part, ...) misused(start, part, (const char *const[]){__VA_ARGS__, NULL})

Test(cli, without_a_subcommand_prints_help_on_standard_error_and_is_misuse) {
    scratch s = scratch_new();
    ran r = program_run(&s, (const char *const[]){NULL});
    cr_expect_eq(r.status, 2);
    cr_expect_str_eq(r.out, "");
    cr_expect(strstr(r.err, "usage: wengert SUBCOMMAND"));
    ran_free(&r);
    scratch_free(&s);
}

Test(cli, help_and_version_are_printed_and_succeed) {
    static const char *const asked[][4] = {{"--help", NULL},
                                           {"help", NULL},
                                           {"help", "ops", NULL},
                                           {"ops", "--help", NULL},
                                           {"ops", "tanh", "--help", NULL}};
    scratch s = scratch_new();
    for (int i = 0; i < 5; i++) {
        ran r = program_run(&s, asked[i]);
        cr_expect_eq(r.status, 0);
        cr_expect(strstr(r.out, "usage: wengert "));
        cr_expect_str_eq(r.err, "");
        ran_free(&r);
    }
    ran r = PROGRAM(&s, "--version");
    cr_expect_eq(r.status, 0);
    cr_expect(strncmp(r.out, "wengert ", 8) == 0);
    ran_free(&r);
    scratch_free(&s);
}

Test(cli, misuse_is_told_on_one_line_with_the_nearest_name) {
    MISUSED("wengert: ", "did you mean ops?", "opps");
    MISUSED("wengert: ", "no subcommand", "quite-another-thing");
    MISUSED("wengert ops: ", "did you mean --json?", "ops", "--jsno");
    MISUSED("wengert ops: ", "no option --qwertyuiop", "ops", "--qwertyuiop");
    MISUSED("wengert ops: ", "options begin with two dashes", "ops", "-j");
    MISUSED("wengert ops: ", "--json takes no value", "ops", "--json=yes");
    MISUSED("wengert ops: ", "--family needs a value", "ops", "--family");
    MISUSED("wengert ops: ", "--family needs a value", "ops", "--family", "--json");
    MISUSED("wengert ops: ", "does not take 'b'", "ops", "a", "b");
}

Test(cli, two_dashes_alone_end_the_options) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "ops", "--", "--json");
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert ops: ", "there is no op '--json'"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

Test(cli, ops_lists_every_op_and_documents_each) {
    scratch s = scratch_new();
    ran r = PROGRAM(&s, "ops");
    cr_expect_eq(r.status, 0);
    for (int i = 0; i < wg_op_count(); i++) {
        char line[64];
        snprintf(line, sizeof line, "\n  %s ", wg_op_list()[i].name);
        cr_expect(strstr(r.out, line), "%s is not listed", wg_op_list()[i].name);
    }
    ran_free(&r);
    for (int i = 0; i < 3; i++) {
        const wg_op_entry *op = &wg_op_list()[i * (wg_op_count() - 1) / 2];
        r = PROGRAM(&s, "ops", op->name, "--json");
        cr_expect_eq(r.status, 0);
        cr_expect(strstr(r.out, op->arguments));
        ran_free(&r);
    }
    r = PROGRAM(&s, "ops", "tnh");
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert ops: ", "did you mean tanh?"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}
