/* test_cli_reference.c: the subcommands that look at cells without data: `cells`, `graph`, `check`;
 * and what they refuse. */
#include "suite.h"

#include "spawned.h"
#include "wengert.h"

static ran good(const char *const *args) {
    scratch s = scratch_new();
    ran r = program_run(&s, args);
    cr_expect_eq(r.status, 0, "%s: %s", args[0], r.err);
    cr_expect_str_eq(r.err, "");
    scratch_free(&s);
    return r;
}
#define GOOD(...) good((const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *start, const char *part, const char *const *args) {
    scratch s = scratch_new();
    ran r = program_run(&s, args);
    cr_expect_eq(r.status, 1, "%s: status %d", part, r.status);
    cr_expect(ran_complains(&r, start, part), "wanted '%s' in: %s", part, r.err);
    ran_free(&r);
    scratch_free(&s);
}
#define REFUSED(start, part, ...) refused(start, part, (const char *const[]){__VA_ARGS__, NULL})

static int occurrences(const char *text, const char *part) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        count++;
    return count;
}

/* Prints under a cell of the test's own. */
static ran with_cell(const char *const *args, int place, const char *text) {
    scratch s = scratch_new();
    const char *copy[16];
    char path[512];
    int n = 0;
    snprintf(path, sizeof path, "%s/own.cell", s.folder);
    scratch_put(path, text, strlen(text));
    for (; args[n]; n++)
        copy[n] = n == place ? path : args[n];
    copy[n] = NULL;
    ran r = program_run(&s, copy);
    scratch_free(&s);
    return r;
}
#define WITH_CELL(place, text, ...) with_cell((const char *const[]){__VA_ARGS__, NULL}, place, text)

/* ---- cells ---- */

Test(cli_reference, cells_lists_the_zoo_and_every_parameter_of_each) {
    ran all = GOOD("cells");
    for (int i = 0; i < wg_zoo_count(); i++) {
        const char *name = wg_zoo_name(i);
        wg_cell *cell = wg_cell_load(NULL, name, 0, NULL, NULL);
        char line[128];
        snprintf(line, sizeof line, "  %s ", name);
        cr_expect(strstr(all.out, line), "%s is not listed", name);
        ran r = GOOD("cells", name);
        cr_expect(strstr(r.out, wg_cell_text(cell)), "%s: its text is not printed", name);
        for (int k = 0; k < wg_cell_params(cell); k++) {
            snprintf(line, sizeof line, "\n  %s ", wg_cell_param(cell, k));
            cr_expect(strstr(r.out, line), "%s: %s is not listed", name, wg_cell_param(cell, k));
        }
        ran_free(&r);
        wg_cell_free(cell);
    }
    ran_free(&all);
}

/* 2 K for each element of a product: flops of W @ x grow by 2 hidden with each input. */
Test(cli_reference, cells_counts_parameters_and_flops) {
    ran r = GOOD("cells", "rnn", "--input", "3", "--hidden", "5", "--type", "f64", "--json");
    cr_expect(strstr(r.out, "\"parameters\":45,\"parameter_bytes\":360"), "%s", r.out);
    /* the two products, two sums and tanh */
    cr_expect(strstr(r.out, "\"flops\":95,"), "%s", r.out);
    ran_free(&r);
}

Test(cli_reference, cells_says_what_was_assumed_and_what_has_no_initialiser) {
    ran r = WITH_CELL(
        1,
        "cell own\nsize n = 2\ninput x\nstate h\nh' = tanh(a*(U @ h) + W @ x) + 0*k\nparam k[n2]\n",
        "cells", "F");
    cr_expect_eq(r.status, 1, "a declaration after an equation");
    ran_free(&r);
    r = WITH_CELL(1, "cell own\ninput x\nstate h\nh' = tanh(a*(U @ h) + W @ x)\n", "cells", "F");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "none: give an init line"), "%s", r.out);
    ran_free(&r);
    r = WITH_CELL(1, "cell own\ninput x\nstate h\nh' = tanh(a*(U @ h) + W @ x)\n", "cells", "F",
                  "--init", "a=0.5", "--json");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "\"initialiser\":\"0.5\""), "%s", r.out);
    ran_free(&r);
}

Test(cli_reference, wrong_cells_are_told_with_their_place) {
    ran r = WITH_CELL(1, "cell own\ninput x\nstate h\nh' = tanh(W @ x\n", "cells", "F");
    cr_expect_eq(r.status, 1);
    cr_expect(strchr(r.err, '^') && strstr(r.err, "own.cell:4") &&
                  strncmp(r.err, "wengert cells: ", 15) == 0,
              "%s", r.err);
    cr_expect_eq(occurrences(r.err, "\n"), 1, "%s", r.err);
    ran_free(&r);
    REFUSED("wengert cells: ", "did you mean lstm?", "cells", "lstn");
    REFUSED("wengert cells: ", "depth", "cells", "lstm", "--set", "depth=3");
    REFUSED("wengert cells: ", "no parameter of cell lstm matches 'q'", "cells", "lstm", "--init",
            "q=zeros");
    REFUSED("wengert cells: ", "'q': ^zeros", "cells", "lstm", "--init", "q=zeros", "--json");
}

/* ---- graph ---- */

Test(cli_reference, graph_prints_every_step_and_the_gradient) {
    ran forward = GOOD("graph", "lstm", "--steps", "3"),
        both = GOOD("graph", "lstm", "--steps", "3", "--grad");
    cr_expect_eq(occurrences(forward.out, "= matmul "), 24, "eight products a step");
    cr_expect_gt(occurrences(both.out, "= matmul "), 48);
    cr_expect(strstr(forward.out, "\"lstm.cell:"));
    cr_expect(strstr(forward.out, "\"U_f\""));
    ran_free(&forward);
    ran_free(&both);
}

Test(cli_reference, graph_prints_in_three_formats_after_every_pass) {
    for (int i = 0; wg_pass_name(i); i++) {
        ran r = GOOD("graph", "gru", "--grad", "--after", wg_pass_name(i));
        cr_expect_gt(strlen(r.out), 100);
        ran_free(&r);
    }
    ran place = GOOD("graph", "rnn", "--after", "place"),
        dot = GOOD("graph", "rnn", "--format", "dot"), json = GOOD("graph", "rnn", "--json");
    cr_expect(strstr(place.out, "arena"));
    cr_expect(strncmp(dot.out, "digraph", 7) == 0);
    cr_expect(json.out[0] == '{');
    ran_free(&place);
    ran_free(&dot);
    ran_free(&json);
}

/* Programs are of f32, in which sums over very many steps lose digits that sum_to keeps. */
Test(cli_reference, graph_prints_biases_gradients_made_in_the_steps_where_they_are_not_too_many) {
    ran few = GOOD("graph", "lstm", "--steps", "256", "--batch", "32", "--input", "3", "--hidden", "256", "--grad", "--after", "time"),
        many = GOOD("graph", "lstm", "--steps", "257", "--batch", "32", "--input", "3", "--hidden", "256", "--grad", "--after", "time");
    cr_expect_eq(occurrences(few.out, "= add_rows "), 4);
    cr_expect_eq(occurrences(many.out, "= add_rows "), 0);
    ran_free(&few);
    ran_free(&many);
}

Test(cli_reference, graph_prints_models) {
    scratch s = scratch_new();
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", s.folder);
    const wg_model_options o = {
        .vocabulary = 5, .hidden = 3, .layers = 2, .outputs = 5, .dtype = WG_F32};
    wg_model *model = wg_model_new(NULL, wg_cell_load(NULL, "gru", 0, NULL, NULL), &o, NULL, NULL);
    cr_assert_not_null(model);
    cr_assert_eq(wg_model_save(model, NULL, path, NULL), WG_OK);
    wg_model_free(model);
    ran r = PROGRAM(&s, "graph", path, "--grad");
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "\"layer1.U_z\""), "%s", r.out);
    ran_free(&r);
    r = PROGRAM(&s, "graph", path, "--set", "a=1");
    cr_expect_eq(r.status, 1);
    cr_expect(ran_complains(&r, "wengert graph: ", "is a model"), "%s", r.err);
    ran_free(&r);
    scratch_free(&s);
}

Test(cli_reference, graph_refuses_unknown_passes_and_too_much_memory) {
    REFUSED("wengert graph: ", "no pass 'nosuch'", "graph", "rnn", "--after", "nosuch");
    REFUSED("wengert graph: ", "memory", "graph", "rnn", "--hidden", "1000", "--memory-limit",
            "64K");
    REFUSED("wengert graph: ", "cannot read", "graph", "no/such.safetensors");
}

/* ---- check ---- */

Test(cli_reference, check_passes_for_some_ops_and_for_every_cell_of_the_zoo) {
    ran r = GOOD("check", "--ops", "tanh,matmul", "--zoo", "--json");
    cr_expect_eq(occurrences(r.out, "\"passed\":true"), 2 + wg_zoo_count(), "%s", r.out);
    cr_expect_eq(occurrences(r.out, "\"second_order\":"), 2 + wg_zoo_count());
    ran_free(&r);
    r = GOOD("check", "gru", "--order", "1");
    cr_expect(strstr(r.out, "gru") && strstr(r.out, "ok"));
    ran_free(&r);
}

Test(cli_reference, check_fails_for_a_cell_whose_gradient_is_not_its_derivative) {
    ran r =
        WITH_CELL(1, "cell own\ninput x\nstate h\nh' = tanh(W @ x + stop_gradient(U @ h) + b)\n",
                  "check", "F");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "comparisons failed") && strstr(r.err, "first order"), "%s", r.err);
    cr_expect_eq(occurrences(r.err, "\n"), 1);
    ran_free(&r);
    r = WITH_CELL(1, "cell own\ninput x\nstate h\nh' = tanh(W @ x + stop_gradient(U @ h) + b)\n",
                  "check", "F", "--json");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.out, "\"passed\":false"), "%s", r.out);
    ran_free(&r);
}

Test(cli_reference, check_refuses_unknown_ops_and_cells) {
    REFUSED("wengert check: ", "did you mean tanh?", "check", "--ops", "tanhh");
    REFUSED("wengert check: ", "did you mean gru?", "check", "gruu");
}
