/* Cells as users hold them: where they come from, what they declare, their settings, their parameters drawn. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "failing.h"
#include "scratch.h"
#include "tape.h"

static const char text[] = "cell mine\ncite \"Someone, 2001\"\ninput x, t[1]\nsize depth = 2\nsize N = depth*hidden\n"
                           "const k = 0.5\nstate h = h0, c[N]\nfixed F\n"
                           "a = W @ x + F @ h + b + t\nc' = k*concat(a, a) + 0*c\nh' = tanh(a + V @ c')\ninit h0 = 1\n";

static wg_cell *parse(const char *from, int n, const wg_setting *setting) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_parse(NULL, "mine.cell", from, strlen(from), n, setting, &error);
    cr_assert_not_null(cell, "%s", error.text);
    return cell;
}

static bool has_shape(const wg_cell *cell, const char *name, int rank, int64_t a, int64_t b) {
    wg_shape shape;
    cr_assert_eq(wg_cell_shape(cell, name, 3, 4, &shape, NULL), WG_OK);
    return shape.rank == rank && shape.dim[0] == a && (rank < 2 || shape.dim[1] == b);
}

Test(cell, tells_what_its_text_declares_in_its_order) {
    wg_cell *cell = parse(text, 0, NULL);
    static const char *const params[] = {"h0", "F", "W", "b", "V"};
    cr_assert_str_eq(wg_cell_name(cell), "mine");
    cr_assert_str_eq(wg_cell_cite(cell), "Someone, 2001");
    cr_assert_str_eq(wg_cell_text(cell), text);
    cr_assert_str_eq(wg_cell_output(cell), "h");
    cr_assert_eq(wg_cell_inputs(cell), 2);
    cr_assert_str_eq(wg_cell_input(cell, 1), "t");
    cr_assert_eq(wg_cell_states(cell), 2);
    cr_assert_str_eq(wg_cell_state(cell, 0), "h");
    cr_assert_str_eq(wg_cell_state(cell, 1), "c");
    cr_assert_eq(wg_cell_params(cell), WG_LEN(params));
    for (int i = 0; i < WG_LEN(params); i++)
        cr_assert_str_eq(wg_cell_param(cell, i), params[i]);
    cr_assert(has_shape(cell, "x", 1, 3, 0) && has_shape(cell, "t", 1, 1, 0) && has_shape(cell, "c", 1, 8, 0));
    cr_assert(has_shape(cell, "W", 2, 4, 3) && has_shape(cell, "V", 2, 4, 8) && has_shape(cell, "h0", 1, 4, 0));
    for (int i = -1; i < 10; i += 10) { /* before the first, beyond the last */
        cr_assert_null(wg_cell_input(cell, i));
        cr_assert_null(wg_cell_state(cell, i));
        cr_assert_null(wg_cell_param(cell, i));
        cr_assert_null(wg_cell_warning(cell, i));
    }
    wg_error error = {0};
    wg_shape shape;
    cr_assert_eq(wg_cell_shape(cell, "nobody", 3, 4, &shape, &error), WG_NOT_FOUND);
    cr_assert(strstr(error.text, "nobody"), "%s", error.text);
    wg_cell_free(cell);
    wg_cell_free(NULL);
}

Test(cell, comes_from_the_zoo_a_file_or_not_at_all) {
    scratch folder = scratch_new();
    wg_error error = {0};
    cr_assert_gt(wg_zoo_count(), 3);
    cr_assert_null(wg_zoo_name(-1));
    cr_assert_null(wg_zoo_name(wg_zoo_count()));
    cr_assert_null(wg_zoo_text("nobody"));
    for (int i = 0; i < wg_zoo_count(); i++) {
        wg_cell *cell = wg_cell_load(NULL, wg_zoo_name(i), 0, NULL, &error);
        cr_assert_not_null(cell, "%s", error.text);
        cr_assert_str_eq(wg_cell_name(cell), wg_zoo_name(i));
        cr_assert_str_eq(wg_cell_text(cell), wg_zoo_text(wg_zoo_name(i)));
        cr_assert_gt(strlen(wg_cell_cite(cell)), 10);
        cr_assert_eq(wg_cell_warnings(cell), 0, "%s", wg_cell_warning(cell, 0));
        wg_cell_free(cell);
    }
    const char *path = scratch_path(&folder, "some.cell");
    scratch_put(path, text, strlen(text));
    wg_cell *cell = wg_cell_load(NULL, path, 0, NULL, &error);
    cr_assert_not_null(cell, "%s", error.text);
    wg_cell_free(cell);
    scratch_put(path, "cell a\nstate h\nh' = ?\n", 22);
    cr_assert_null(wg_cell_load(NULL, path, 0, NULL, &error));
    cr_assert_eq(strncmp(error.text, "some.cell:3:6:", 14), 0, "%s", error.text);
    error.status = WG_OK;
    cr_assert_null(wg_cell_load(NULL, scratch_path(&folder, "none.cell"), 0, NULL, &error));
    cr_assert_eq(error.status, WG_IO);
    scratch_free(&folder);
}

Test(cell, warnings_name_their_place) {
    wg_cell *cell = parse("cell w\nstate h\nbias1 = b0 + V @ x\nh' = tanh(W @ x + bias2 + bias1 + h)\n", 0, NULL);
    cr_assert_eq(wg_cell_warnings(cell), 1);
    cr_assert_eq(strncmp(wg_cell_warning(cell, 0), "mine.cell:4:", 12), 0, "%s", wg_cell_warning(cell, 0));
    cr_assert(strstr(wg_cell_warning(cell, 0), "bias2"), "%s", wg_cell_warning(cell, 0));
    wg_cell_free(cell);
}

Test(cell, settings_change_sizes_and_consts_and_bad_ones_are_refused) {
    wg_cell *cell = parse(text, 1, &(wg_setting){"k", "(1 + 2)/depth"});
    wg_cell_free(cell);
    static const char plain[] = "cell p\nsize N = 2\nstate h[N]\nh' = tanh(W @ x + U @ h)\n";
    cell = parse(plain, 1, &(wg_setting){"N", "3*input"});
    cr_assert(has_shape(cell, "h", 1, 9, 0) && has_shape(cell, "U", 2, 9, 9));
    wg_cell_free(cell);
    static const struct {
        wg_setting set;
        const char *says;
    } bad[] = {{{"M", "1"}, "'M'"}, {{"h", "1"}, "'h'"}, {{"N", "x"}, "set N"}, {{"N", ""}, "set N"}, {{"N", "2\n"}, "'N'"},
               {{"N", "2 3"}, "set N"}, {{"N", "(2\n+3)"}, "'N'"}};
    for (int i = 0; i < WG_LEN(bad); i++) {
        wg_error error = {0};
        cr_assert_null(wg_cell_parse(NULL, "p.cell", plain, strlen(plain), 1, &bad[i].set, &error), "row %d", i);
        cr_assert(strstr(error.text, bad[i].says), "row %d: %s", i, error.text);
    }
}

Test(cell, a_long_setting_is_read_whole) {
    char value[1200] = "1";
    for (int i = 0; i < 290; i++)
        strcat(value, " + 1"); /* 1,161 bytes */
    wg_error error = {0};
    const char *plain = "cell p\nconst n = 2\nsize N = 2\nstate h[N]\nh' = tanh(W @ x + n*(U @ h))\n";
    wg_cell *cell = wg_cell_parse(NULL, "p.cell", plain, strlen(plain), 1, &(wg_setting){"N", value}, &error);
    if (cell) /* a tree may be no deeper than so much: then it is refused, never cut */
        cr_assert(has_shape(cell, "h", 1, 291, 0));
    else
        cr_assert(strstr(error.text, "deep"), "%s", error.text);
    wg_cell_free(cell);
    memset(value, ' ', 600);
    strcpy(value + 600, "7");
    cell = wg_cell_parse(NULL, "p.cell", plain, strlen(plain), 1, &(wg_setting){"N", value}, &error);
    cr_assert_not_null(cell);
    cr_assert(has_shape(cell, "h", 1, 7, 0));
    wg_cell_free(cell);
}

Test(cell, a_name_that_is_no_clean_text_is_shown_escaped) {
    static const char bad[] = "cell a\nstate h\nh' = ?\n";
    char endless[3000];
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    const char *const name[] = {"two\nlines", "\xff\xfe", endless, ""};
    for (int i = 0; i < WG_LEN(name); i++) {
        wg_error error = {0};
        cr_assert_null(wg_cell_parse(NULL, name[i], bad, strlen(bad), 0, NULL, &error));
        cr_assert(strstr(error.text, ":3:6: "), "%s", error.text);
        cr_assert(!strstr(error.text, "two\nlines"));
        cr_assert_eq(wg__utf8_check(error.text, strlen(error.text)), strlen(error.text));
    }
}

/* ---- a step in C ---- */

static wg_status nothing(wg_step *step, void *user) {
    (void)user;
    return wg_step_set(step, "h", wg_step_get(step, "h"));
}

Test(cell, declarations_of_a_step_in_c_are_read_like_any_text) {
    wg_error error = {0};
    wg_cell *cell = wg_cell_new(NULL, "cell d\ninput x\nsize N = 2*hidden\nstate h[N]\nparam W[N, input]\nfixed W\n", nothing, NULL,
                                &error);
    if (!cell) { /* declared once only: then by `param` alone */
        error.status = WG_OK;
        cell = wg_cell_new(NULL, "cell d\ninput x\nsize N = 2*hidden\nstate h[N]\nparam W[N, input]\n", nothing, NULL, &error);
    }
    cr_assert_not_null(cell, "%s", error.text);
    cr_assert_str_eq(wg_cell_name(cell), "d");
    cr_assert(has_shape(cell, "W", 2, 8, 3));
    wg_cell_free(cell);
    cr_assert_null(wg_cell_new(NULL, "cell d\nstate h\nq = 1\n", nothing, NULL, &error));
    cr_assert_eq(error.status, WG_SYNTAX);
    cr_assert_eq(strncmp(error.text, "declarations:3:", 15), 0, "%s", error.text);
}

/* ---- drawing ---- */

static wg_params *draw(const wg_cell *cell, wg_dtype dtype, const wg_draw *how) {
    wg_error error = {0};
    wg_params *params = wg_cell_draw(NULL, cell, dtype, 3, 4, how, &error);
    cr_assert_not_null(params, "%s", error.text);
    return params;
}

/* The number of parameters with the same bits. */
static int alike(const wg_params *a, const wg_params *b) {
    int same = 0;
    cr_assert_eq(wg_params_count(a), wg_params_count(b));
    for (int i = 0; i < wg_params_count(a); i++) {
        const wg_tensor *p = wg_params_tensor(a, i), *q = wg_params_tensor(b, i);
        cr_assert_str_eq(wg_params_name(a, i), wg_params_name(b, i));
        same += memcmp(wg_tensor_data(p), wg_tensor_data(q), wg_tensor_bytes(p)) == 0;
    }
    return same;
}

Test(cell, draws_follow_from_seed_layer_and_scheme_alone) {
    static const char *const lines[] = {"pytorch", "keras", "flax", "W_*=normal(1)"};
    wg_error error = {0};
    wg_cell *cell = wg_cell_load(NULL, "lstm", 0, NULL, &error), *again = wg_cell_load(NULL, "lstm", 0, NULL, &error);
    wg_params *first = draw(cell, WG_F64, NULL), *other;
    other = draw(again, WG_F64, &(wg_draw){0});
    cr_assert_eq(alike(first, other), 12);
    wg_params_free(other);
    other = draw(cell, WG_F64, &(wg_draw){.seed = 1});
    cr_assert_eq(alike(first, other), 4, "the biases alone are no draws");
    wg_params_free(other);
    other = draw(cell, WG_F64, &(wg_draw){.layer = 1});
    cr_assert_eq(alike(first, other), 4);
    wg_params_free(other);
    other = draw(cell, WG_F64, &(wg_draw){.check = true});
    cr_assert_eq(alike(first, other), 0);
    wg_params_free(other);
    for (int i = 0; i < WG_LEN(lines); i++) {
        other = draw(cell, WG_F64, &(wg_draw){.lines = 1, .line = &lines[i]});
        cr_assert_lt(alike(first, other), 12, "%s", lines[i]);
        wg_params_free(other);
    }
    other = draw(cell, WG_F32, NULL);
    for (int i = 0; i < 12; i++)
        for (int64_t k = 0; k < wg_tensor_shape(wg_params_tensor(first, i))->count; k++)
            cr_assert_eq((float)wg_tensor_get(wg_params_tensor(first, i), k), wg_tensor_get(wg_params_tensor(other, i), k));
    wg_params_free(other);
    for (int i = 0; i < 12; i++)
        for (int k = 0; k < i; k++) /* no parameter is another's copy, biases aside */
            cr_assert(strncmp(wg_params_name(first, i), "b_", 2) == 0 ||
                      wg_tensor_bytes(wg_params_tensor(first, i)) != wg_tensor_bytes(wg_params_tensor(first, k)) ||
                      memcmp(wg_tensor_data(wg_params_tensor(first, i)), wg_tensor_data(wg_params_tensor(first, k)),
                             wg_tensor_bytes(wg_params_tensor(first, k))) != 0);
    wg_params_free(first);
    wg_cell_free(cell);
    wg_cell_free(again);
}

Test(cell, what_is_drawn_is_marked_fixed_and_lives_in_the_memory_asked_for) {
    wg_memory *own = wg_memory_new(NULL, 0), *theirs = wg_memory_new(NULL, 0);
    wg_cell *cell = wg_cell_parse(own, "mine.cell", text, strlen(text), 0, NULL, NULL);
    wg_params *params = wg_cell_draw(theirs, cell, WG_F32, 3, 4, NULL, NULL);
    cr_assert_not_null(params);
    wg_cell_free(cell);
    cr_assert_eq(wg_memory_used(own), 0, "parameters outlive the cell's memory");
    wg_memory_free(own);
    for (int i = 0; i < wg_params_count(params); i++)
        cr_assert_eq(wg_params_fixed(params, i), strcmp(wg_params_name(params, i), "F") == 0);
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "h0"), 3), 1);
    wg_params_free(params);
    cr_assert_eq(wg_memory_used(theirs), 0);
    wg_memory_free(theirs);
}

Test(cell, drawing_refuses_factors_without_initialiser_and_sizes_that_do_not_fit) {
    wg_error error = {0};
    wg_cell *cell = parse("cell f\nstate h\nh' = g*tanh(W @ x)\n", 0, NULL);
    cr_assert_null(wg_cell_draw(NULL, cell, WG_F32, 3, 4, NULL, &error));
    cr_assert(strstr(error.text, "g"), "%s", error.text);
    wg_params_free(draw(cell, WG_F32, &(wg_draw){.check = true}));
    static const char *const unknown[] = {"Z=1"};
    error.status = WG_OK;
    cr_assert_null(wg_cell_draw(NULL, cell, WG_F32, 3, 4, &(wg_draw){.check = false, .lines = 1, .line = unknown}, &error));
    cr_assert(strstr(error.text, "Z"), "%s", error.text);
    error.status = WG_OK;
    cr_assert_null(wg_cell_draw(NULL, cell, WG_F32, 0, 4, &(wg_draw){.check = true}, &error));
    cr_assert_eq(error.status, WG_RANGE, "%s", error.text);
    wg_cell_free(cell);
}

Test(cell, every_failing_allocation_of_parsing_and_drawing_is_survived) {
    failing f;
    bool failed = true;
    long k = 0;
    while (failed) {
        wg_memory *memory = failing_memory(&f, ++k);
        wg_error error = {0};
        wg_cell *cell = wg_cell_parse(memory, "mine.cell", text, strlen(text), 1, &(wg_setting){"k", "3"}, &error);
        wg_params *params = cell ? wg_cell_draw(memory, cell, WG_F32, 3, 4, NULL, &error) : NULL;
        failed = failing_failed(&f);
        cr_assert_eq(params == NULL, failed, "allocation %ld", k);
        cr_assert_eq(error.status, failed ? WG_MEMORY : WG_OK, "allocation %ld: %s", k, error.text);
        wg_params_free(params);
        wg_cell_free(cell);
        cr_assert_eq(f.live, 0, "allocation %ld leaks", k);
        wg_memory_free(memory);
    }
    cr_assert_gt(k, 30);
}
