/* The cell language: lines, declarations, names; every error with its line and column. */
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "failing.h"
#include "lang.h"
#include "zoo.h"

static wg_lang *parse_with(const char *text, int settings, const wg_setting *setting,
                           wg_error *error) {
    *error = (wg_error){0};
    return wg__lang_parse(NULL, "t.cell", text, strlen(text), &(wg_cell_options){settings, setting, NULL}, error);
}

static wg_lang *good(const char *text) {
    wg_error error;
    wg_lang *lang = parse_with(text, 0, NULL, &error);
    cr_assert_not_null(lang, "%s\n%s", error.text, text);
    return lang;
}

/* The error begins "t.cell:PLACE: ", has the words, and shows the line with a caret under the
 * column. */
static void bad(const char *text, const char *place, const char *words) {
    wg_error error;
    wg_lang *lang = parse_with(text, 0, NULL, &error);
    char start[60];
    int line, column;
    cr_assert_null(lang, "accepted:\n%s", text);
    snprintf(start, sizeof start, "t.cell:%s: ", place);
    cr_assert(strncmp(error.text, start, strlen(start)) == 0, "wanted %s, got %s\n%s", place,
              error.text, text);
    cr_assert_not_null(strstr(error.text, words), "no '%s' in %s", words, error.text);
    cr_assert_neq(error.status, WG_OK);
    cr_assert_eq(sscanf(place, "%d:%d", &line, &column), 2);
    const char *shown = strchr(error.text, '\n'), *caret = shown ? strchr(shown + 1, '\n') : NULL;
    cr_assert_not_null(caret, "%s", error.text);
    cr_assert_eq((int)strlen(caret + 1), 4 + column, "the caret of %s", error.text);
}

#define RNN "cell t\ninput x\nstate h\n"
#define LAST "h' = tanh(W @ x + U @ h + b)\n"

Test(lang, reads_the_lstm_as_it_stands) {
    wg_lang *lang =
        good("cell lstm\ncite \"Gers\"\ninput x\nstate h, c\n"
             "i  = sigmoid(W_i @ x + U_i @ h + b_i)\nf  = sigmoid(W_f @ x + U_f @ h + b_f)\n"
             "g  = tanh(W_g @ x + U_g @ h + b_g)\no  = sigmoid(W_o @ x + U_o @ h + b_o)\n"
             "c' = f*c + i*g\nh' = o*tanh(c')\ninit b_f = 1\n");
    cr_assert_str_eq(lang->name, "lstm");
    cr_assert_str_eq(lang->cite, "Gers");
    cr_assert_eq(lang->inputs, 1);
    cr_assert_eq(lang->states, 2);
    cr_assert_eq(lang->params, 12);
    cr_assert_eq(lang->equations, 6);
    cr_assert_eq(lang->inits, 1);
    cr_assert_eq(lang->warnings, 0);
    cr_assert_str_eq(lang->symbol[lang->param[0]].name, "W_i");
    cr_assert_str_eq(lang->symbol[lang->output].name, "h");
    cr_assert(lang->equation[4].next);
    cr_assert(!lang->equation[0].next);
    wg__lang_free(lang);
}

Test(lang, the_zoo_is_read_without_a_warning) {
    cr_assert_geq(wg__zoo_count, 5);
    for (int i = 0; i < wg__zoo_count; i++) {
        cr_assert_eq(strlen(wg__zoo[i].text), wg__zoo[i].size);
        wg_lang *lang = good(wg__zoo[i].text);
        cr_assert_str_eq(lang->name, wg__zoo[i].name);
        cr_assert_not_null(lang->cite);
        cr_assert_eq(lang->warnings, 0);
        wg__lang_free(lang);
    }
}

Test(lang, lines_go_on_and_comments_are_dropped) {
    wg_lang *lang = good("# before\n\ncell t # the name\ncite \"caf\xC3\xA9\" # "
                         "caf\xC3\xA9\r\ninput x,\n  t[1]\nstate\th\n"
                         "h' =\n  tanh(W @ x +\n  # in between\n  U @ h +\n b +(\n1\n+ t))");
    cr_assert_eq(lang->inputs, 2);
    cr_assert_eq(lang->equation[0].line, 8);
    wg__lang_free(lang);
}

Test(lang, input_x_is_there_by_default) {
    wg_lang *lang = good("cell t\nstate h\n" LAST);
    cr_assert_str_eq(lang->symbol[lang->input[0]].name, "x");
    wg__lang_free(lang);
}

Test(lang, a_value_or_a_state_can_be_the_output) {
    wg_lang *lang = good(RNN "output y\n" LAST "y = V @ h'\n");
    cr_assert_str_eq(lang->symbol[lang->output].name, "y");
    cr_assert_eq(lang->symbol[lang->output].kind, WG_SYMBOL_VALUE);
    wg__lang_free(lang);
    lang = good("cell t\nstate c, y\nc' = tanh(W @ x + U @ c)\ny' = c' + V @ y\noutput y'\n");
    cr_assert_str_eq(lang->symbol[lang->output].name, "y");
    wg__lang_free(lang);
    lang = good("cell t\nstate y\ny' = tanh(W @ x + U @ y)\n");
    cr_assert_str_eq(lang->symbol[lang->output].name, "y");
    wg__lang_free(lang);
    lang = good("cell t\nz = W @ x\noutput z\n");
    cr_assert_eq(lang->states, 0);
    wg__lang_free(lang);
}

Test(lang, states_start_from_parameters_and_numbers) {
    wg_lang *lang =
        good("cell t\nconst k = 2\nstate h = h0, c[3] = -0.5*k, r\nh' = tanh(W @ x + U @ h)\n"
             "c' = tanh(V @ x + c)\nr' = r + sum(c)\n");
    const wg_symbol *h = &lang->symbol[lang->state[0]], *c = &lang->symbol[lang->state[1]];
    cr_assert_str_eq(lang->symbol[h->start].name, "h0");
    double value;
    wg_error error = {0};
    cr_assert_eq(wg__lang_number(lang, &lang->source, c->start_at, 1, 1, &value, &error), WG_OK);
    cr_assert_eq(value, -1);
    cr_assert_eq(lang->symbol[lang->state[2]].start, -1);
    cr_assert_null(lang->symbol[lang->state[2]].start_at);
    wg__lang_free(lang);
}

Test(lang, parameters_can_be_declared_and_fixed) {
    wg_lang *lang = good(RNN "param W[hidden, input], a[1]\nfixed U, p[hidden]\nh' = tanh(W @ x + "
                             "U @ h + a*p)\ninit a = 1\ninit p = 1");
    const char *const names[] = {"W", "a", "U", "p"};
    for (int i = 0; i < 4; i++) {
        const wg_symbol *param = &lang->symbol[wg__lang_find(lang, names[i])];
        cr_assert_eq(param->fixed, i >= 2);
        cr_assert_eq(param->declared, i != 2);
    }
    wg__lang_free(lang);
}

Test(lang, sizes_and_consts_are_numbers_in_equations) {
    wg_lang *lang = good(
        "cell t\nsize N = 2*hidden\nsize M = (N + 2)/2\nconst k = 0.5\nconst q = k*sqrt(N)/2**2\n"
        "state h, c[M]\nh' = tanh(q*(W @ x) + k/sqrt(hidden)*h)\nc' = tanh(V @ h' + c)\n");
    double value;
    int64_t size;
    wg_error error = {0};
    const wg_symbol *q = &lang->symbol[wg__lang_find(lang, "q")],
                    *m = &lang->symbol[wg__lang_find(lang, "M")];
    cr_assert_eq(wg__lang_number(lang, &q->value_source, q->value, 3, 8, &value, &error), WG_OK);
    cr_assert_float_eq(value, 0.5, 1e-15);
    cr_assert_eq(wg__formula_value(m->size, 3, 8, &size), WG_OK);
    cr_assert_eq(size, 9);
    wg__lang_free(lang);
}

Test(lang, consts_that_are_whole_are_lengths) {
    wg_lang *lang = good("cell t\nconst k = 2 + 3\nsize N = k*hidden\nstate h[N]\nh' = tanh(W @ x) + sum(index(k))\n");
    char text[100];
    cr_assert_str_eq(wg__extent_text(&lang->symbol[wg__lang_find(lang, "W")].extent, text, sizeof text),
                     "[5*hidden, input]");
    wg__lang_free(lang);
}

/* What numbers are worked out by agrees with C's functions. */
Test(lang, numbers_take_the_functions_of_numbers) {
    static const struct {
        const char *expression;
        double value;
    } says[] = {{"sqrt(6.25)", 2.5},    {"exp(0)", 1},           {"log(exp(3))", 3},   {"abs(-4)", 4},       {"tanh(0)", 0},
                {"sin(0)", 0},          {"cos(0)", 1},           {"square(-3)", 9},    {"inv(8)", 0.125},    {"floor(-1.5)", -2},
                {"rsqrt(16)", 0.25},    {"expm1(0)", 0},         {"log1p(0)", 0},      {"min(2, -1)", -1},   {"max(2, -1)", 2},
                {"pow(2, 10)", 1024},   {"2**-1", 0.5},          {"7 - 2*3", 1},       {"(1 + 2)/4", 0.75},  {"-(-2)", 2},
                {"input*hidden", 15},   {"square(k) + 1", 1.25}, {"log(0)", NAN},      {"1/(input - 3)", NAN}};
    for (int i = 0; i < WG_LEN(says); i++) {
        char text[200];
        wg_error error = {0};
        double value;
        snprintf(text, sizeof text, "cell t\nconst k = 0.5\nstate h = %s, c = k\nh' = h + W @ x\nc' = c\n", says[i].expression);
        if (i == 22) { /* of no size: worked out when read, wherever it is a const */
            snprintf(text, sizeof text, "cell t\nconst k = %s\nstate h = k\nh' = h + W @ x\n", says[i].expression);
            bad(text, "2:11", "not a finite number");
            continue;
        }
        wg_lang *lang = good(text);
        const wg_symbol *h = &lang->symbol[lang->state[0]];
        wg_status status = wg__lang_number(lang, &lang->source, h->start_at, 3, 5, &value, &error);
        cr_expect_eq(status, isnan(says[i].value) ? WG_RANGE : WG_OK, "%s: %s", says[i].expression, error.text);
        cr_expect(status != WG_OK || value == says[i].value, "%s is %g", says[i].expression, value);
        cr_expect_eq(wg__lang_check_sizes(lang, 3, 5, &error), status, "%s", says[i].expression);
        wg__lang_free(lang);
    }
}

Test(lang, sizes_that_are_not_whole_are_told_when_numbers_are_known) {
    wg_lang *lang = good("cell t\nsize N = hidden/2\nstate h[N]\nh' = tanh(W @ x + U @ h)\n");
    wg_error error = {0};
    wg_shape shape;
    cr_assert_eq(wg__lang_check_sizes(lang, 3, 8, &error), WG_OK, "%s", error.text);
    cr_assert_eq(wg__lang_shape(lang, wg__lang_find(lang, "W"), 3, 8, &shape, &error), WG_OK);
    cr_assert_eq(shape.dim[0], 4);
    cr_assert_eq(shape.dim[1], 3);
    cr_assert_eq(wg__lang_check_sizes(lang, 3, 7, &error), WG_RANGE);
    cr_assert_not_null(strstr(error.text, "t.cell:2:6: size 'N' = hidden/2 is not a whole number"),
                       "%s", error.text);
    wg__lang_free(lang);
    lang = good("cell t\nsize N = hidden - 4\nstate h[N]\nh' = tanh(W @ x + U @ h)\n");
    error = (wg_error){0};
    cr_assert_eq(wg__lang_shape(lang, wg__lang_find(lang, "h"), 3, 4, &shape, &error), WG_RANGE);
    cr_assert_not_null(
        strstr(error.text, "t.cell:3:7: 'h' has length hidden - 4, which is less than 1"), "%s",
        error.text);
    wg__lang_free(lang);
    lang = good(RNN LAST);
    error = (wg_error){0};
    cr_assert_eq(wg__lang_check_sizes(lang, (int64_t)1 << 40, (int64_t)1 << 40, &error), WG_RANGE);
    cr_assert_not_null(strstr(error.text, "t.cell:4:11: 'W' is too large for input 1099511627776"), "%s", error.text);
    wg__lang_free(lang);
}

Test(lang, hidden_can_be_tied_to_input) {
    wg_lang *lang = good("cell t\nsize N = 2*hidden\nsize hidden = input\nstate h\nparam V[N]\nh' "
                         "= h + x*mean(V)\n");
    char text[100];
    wg_error error = {0};
    cr_assert(lang->tied);
    cr_assert_str_eq(
        wg__extent_text(&lang->symbol[wg__lang_find(lang, "V")].extent, text, sizeof text),
        "[2*input]");
    cr_assert_eq(wg__lang_check_sizes(lang, 4, 4, &error), WG_OK);
    cr_assert_eq(wg__lang_check_sizes(lang, 4, 5, &error), WG_SHAPE);
    wg__lang_free(lang);
}

Test(lang, settings_from_outside_replace_sizes_and_consts) {
    const char *text =
        "cell t\nsize N = 3\nconst k = 1\nstate h[N]\nh' = tanh(W @ x + k*(U @ h))\n";
    wg_setting set[] = {{"N", "2*hidden"}, {"k", "-0.25"}};
    wg_error error;
    char shape[100];
    wg_lang *lang = parse_with(text, 2, set, &error);
    cr_assert_not_null(lang, "%s", error.text);
    cr_assert_str_eq(
        wg__extent_text(&lang->symbol[wg__lang_find(lang, "U")].extent, shape, sizeof shape),
        "[2*hidden, 2*hidden]");
    cr_assert_eq(lang->symbol[wg__lang_find(lang, "k")].value->value, -0.25);
    wg__lang_free(lang);
    const wg_setting wrong[][2] = {{{"M", "3"}, {"M", "no size or const 'M'"}},
                                   {{"N", "1.5"}, {"N", "set N:1:1:"}},
                                   {{"k", "q"}, {"k", "set k:1:1:"}},
                                   {{"N", "0"}, {"N", "at least 1"}},
                                   {{"k", "1/0"}, {"k", "not a finite"}},
                                   {{"k", "1 +"}, {"k", "set k:1:4:"}},
                                   {{"hidden", "4"}, {"", "no size or const 'hidden'"}}};
    for (int i = 0; i < WG_LEN(wrong); i++) {
        cr_assert_null(parse_with(text, 1, wrong[i], &error), "%s", wrong[i][1].value);
        cr_assert_not_null(strstr(error.text, wrong[i][1].value), "%s", error.text);
    }
}

Test(lang, near_misses_are_warnings) {
    wg_lang *lang = good(RNN "gate = sigmoid(V @ x)\nh' = gate*tanh(W @ x + U @ h) + gat\n");
    cr_assert_eq(lang->warnings, 1);
    cr_assert_str_eq(lang->warning[0].text,
                     "t.cell:5:33: 'gat' becomes a parameter; is 'gate' (a value) meant?");
    wg__lang_free(lang);
}

Test(lang, functions_are_known_with_their_arguments) {
    wg_lang *lang = good("cell t\nconst p = 0.1\nstate h, c\n"
                         "a = softmax(W @ x) + log_softmax(V @ x) + cumsum(h)\n"
                         "b = layer_norm(a)*rms_norm(a) + stop_gradient(a) + dropout(a, p)\n"
                         "z = bernoulli(0.15, hidden)\n"
                         "k = where(less(a, b), max(a, 0), min(b, index(hidden)))\n"
                         "m = concat(slice(b, 0, 3), slice(b, 1, 1), x)\n"
                         "h' = z*h + (1 - z)*tanh(R @ m) + dot(k, b) + sum(a)*mean(b)\n"
                         "c' = c + exp(-square(h'))\n");
    wg__lang_free(lang);
}

Test(lang, the_first_line_names_the_cell) {
    bad("", "1:1", "cell NAME");
    bad("# nothing\n", "1:1", "cell NAME");
    bad("state h\n", "1:1", "cell NAME");
    bad("cell\nstate h\n", "1:5", "a name");
    bad("cell 3\n", "1:6", "not '3'");
    bad("cell a b\n", "1:8", "not 'b'");
    bad("cell a\ncell b\n", "2:6", "one cell");
    bad("cell t\ncite Gers\n", "2:6", "a \"text\"");
    bad("cell t\ncite \"a\"\ncite \"b\"\n", "3:6", "one 'cite'");
    bad("cell t\n", "1:1", "needs an 'output'");
}

Test(lang, declarations_stand_before_the_equations) {
    bad(RNN LAST "state c\n", "5:1", "before the equations");
    bad(RNN LAST "input t\n", "5:1", "before the equations");
    bad(RNN LAST "size N = 2\n", "5:1", "before the equations");
    bad(RNN LAST "const k = 2\n", "5:1", "before the equations");
    bad(RNN LAST "param W[2]\n", "5:1", "before the equations");
    bad(RNN LAST "fixed W\n", "5:1", "before the equations");
}

Test(lang, words_and_functions_are_not_names) {
    bad("cell t\nstate input\n", "2:7", "length of every cell");
    bad("cell t\nstate for\n", "2:7", "word of the language");
    bad("cell t\nstate tanh\n", "2:7", "a function");
    bad("cell t\nstate softmax\n", "2:7", "a function");
    bad("cell t\nstate reshape\n", "2:7", "a function");
    bad("cell t\nstate lengths\n", "2:7", "lengths");
    bad("cell t\ninput hidden\n", "2:7", "length of every cell");
    bad("cell t\ninput y\nstate h\n" LAST, "2:7", "'y' names the output");
    bad("cell t\nstate h\ny = tanh(W @ x)\nh' = y + h\n", "3:1", "'y' names the output");
    bad(RNN "h' = tanh(W @ x + y)\n", "4:19", "'y' names the output");
    bad(RNN "output = W @ x\n", "4:1", "cannot be a name");
    bad(RNN "state = W @ x\n", "4:1", "cannot be a name");
    bad(RNN "exp = W @ x\n", "4:1", "a function");
    bad(RNN "h' = tanh(W @ x + exp)\n", "4:19", "a function");
    bad(RNN "h' = tanh(W @ x + end)\n", "4:19", "word of the language");
    bad(RNN "h' = tanh(W @ x + lengths)\n", "4:19", "lengths");
}

Test(lang, names_are_given_once) {
    bad("cell t\ninput x, x\n", "2:10", "already an input (line 2)");
    bad("cell t\nstate h\nstate h\n", "3:7", "already a state (line 2)");
    bad("cell t\nsize N = 1\nconst N = 2\n", "3:7", "already a size");
    bad("cell t\nparam W[2], W[3]\n", "2:13", "already declared");
    bad(RNN "a = W @ x\na = V @ x\n", "5:1", "already a value (line 4)");
    bad(RNN LAST LAST, "5:1", "already defined (line 4)");
    bad("cell t\nconst k = 1\nstate h\nk = W @ x\n", "4:1", "already a const");
    bad("cell t\nstate h = k\nk = W @ x\n", "3:1", "already a parameter");
    bad(RNN "output h\noutput h\n", "5:8", "one output");
}

Test(lang, states_have_next_values_and_others_have_none) {
    bad("cell t\nstate h, c\n" LAST, "2:10", "no next value");
    bad(RNN "h = tanh(W @ x)\n", "4:1", "h' = ");
    bad(RNN "c' = tanh(W @ x)\n", "4:1", "no state");
    bad(RNN "x' = tanh(W @ x)\n", "4:1", "no state");
    bad(RNN "h' = tanh(W @ x) + U' @ h\n", "4:21", "transpose is written .T");
    bad(RNN "h' = tanh(W @ x') + h\n", "4:16", "only a state");
    bad(RNN "h' = (x + h)'\n", "4:13", "only a state");
}

Test(lang, nothing_is_used_before_its_line) {
    bad(RNN "h' = tanh(a + U @ h)\na = W @ x\n", "4:11", "before its line (line 5)");
    bad(RNN "a = W @ x + a\nh' = a\n", "4:13", "before its line");
    bad("cell t\nstate h, c\nh' = tanh(W @ x + U @ h + c')\nc' = h\n", "3:28",
        "c' is used before its line (line 4)");
    bad(RNN "h' = tanh(W @ x + U @ h')\n", "4:24", "before its line");
    bad("cell t\nsize N = M\nsize M = 2\n", "2:10", "no size or const");
    bad("cell t\nconst a = b\nconst b = 2\n", "2:11", "no size or const");
}

Test(lang, nothing_is_defined_in_vain) {
    bad(RNN "a = V @ x\n" LAST, "4:1", "nothing uses");
    bad("cell t\ninput x, t[1]\nstate h\n" LAST, "2:10", "an input that nothing uses");
    bad("cell t\nstate h\nh' = tanh(U @ h)\n", "1:1", "an input that nothing uses");
    bad("cell t\nparam V[2]\nstate h\n" LAST, "2:7", "a parameter that nothing uses");
    bad("cell t\nsize N = 2\nstate h\n" LAST, "2:6", "a size that nothing uses");
    bad("cell t\nconst k = 2\nstate h\n" LAST, "2:7", "a const that nothing uses");
    bad(RNN LAST "output b\n", "5:8", "neither");
    bad(RNN LAST "output q\n", "5:8", "neither");
    bad(RNN LAST "output x\n", "5:8", "neither");
    bad(RNN LAST "output\n", "5:7", "the name of a value");
}

Test(lang, declarations_are_well_formed) {
    bad("cell t\ninput x[3]\n", "2:7", "cannot be given");
    bad("cell t\ninput x, t[1\n", "2:11", "never closed");
    bad("cell t\ninput x, t[]\n", "2:12", "not ']'");
    bad("cell t\nstate h[0]\n", "2:9", "at least 1");
    bad("cell t\nstate h[hidden - hidden]\n", "2:16", "at least 1");
    bad("cell t\nstate h[1.5]\n", "2:9", "whole numbers");
    bad("cell t\nstate h[M]\n", "2:9", "no size or const");
    bad("cell t\nstate h[2**hidden]\n", "2:10", "with + - * /");
    bad("cell t\nstate h[1/(hidden - hidden)]\n", "2:10", "divides by zero");
    bad("cell t\nstate h[x]\n", "2:9", "no size");
    bad("cell t\ninput x\nstate h[x]\n", "3:9", "an input");
    bad("cell t\nstate h,\nc d\n", "3:3", "not 'd'");
    bad("cell t\nstate h = \n", "2:10", "end of the text");
    bad("cell t\ninput x\nstate h = x\n", "3:11", "an input");
    bad("cell t\nstate h = tanh(W @ x)\n", "2:18", "only arithmetic");
    bad("cell t\nsize hidden = 2*input\n", "2:15", "size hidden = input");
    bad("cell t\nsize input = 3\n", "2:6", "length of every cell");
    bad("cell t\nsize N = 2.5\n", "2:10", "whole numbers");
    bad("cell t\nsize N = 0\n", "2:10", "at least 1");
    bad("cell t\nsize N\n", "2:7", "'='");
    bad("cell t\nconst k = 1/0\n", "2:12", "finite");
    bad("cell t\nconst k = tanh\n", "2:11", "no size or const");
    bad("cell t\nconst k = sigmoid(1)\n", "2:11", "only arithmetic");
    bad("cell t\nparam W[1, 2, 3]\n", "2:15", "at most two");
    bad("cell t\nparam 3\n", "2:7", "a name");
    bad(RNN "init\n", "4:5", "a pattern of names");
    bad(RNN "init = zeros\n", "4:1", "a word of the language");
    bad("cell t\nconst k = sqrt(2)\nsize N = k\n", "3:10", "whole numbers");
    bad("cell t\nconst k = hidden/2\nsize N = k\n", "3:10", "with + - * /");
    bad("cell t\nstate h\nparam h[2]\n", "3:7", "already a state");
}

Test(lang, equations_are_well_formed) {
    bad(RNN "h' = \n", "4:5", "end of the text");
    bad(RNN "h' tanh(W @ x)\n", "4:4", "'='");
    bad(RNN "h'' = tanh(W @ x)\n", "4:3", "'='");
    bad(RNN "h' = tanh(W @ x))\n", "4:17", "closes nothing");
    bad(RNN "h' = tanh(W @ x\nU = 3\n", "5:1", "',' or ')'");
    bad(RNN "h' = tanh(W @ x) + 2h\n", "4:21", "cannot follow a number");
    bad(RNN "3 = h\n", "4:1", "a declaration or an equation");
    bad(RNN "h' = W x\n", "4:8", "not 'x'");
    bad(RNN "h' = tanh(W @ x) \xE2\x88\x92 h\n", "4:18", "0xE2");
    bad("cell t\nstate h\n# \xFF\n", "3:3", "0xFF");
    bad(RNN "h' = foo(x)\n", "4:6", "no function 'foo'");
    bad(RNN "h' = x + x(h)\n", "4:10", "a product is written");
    bad(RNN "h' = tanh(x, h)\n", "4:6", "takes 1 argument, not 2");
    bad(RNN "h' = tanh()\n", "4:6", "takes 1 argument, not 0");
    bad(RNN "h' = concat()\n", "4:6", "at least 1 argument");
    bad(RNN "h' = dropout(h, x)\n", "4:17", "an input");
    bad(RNN "h' = bernoulli(0.5, h)\n", "4:21", "a state");
    bad(RNN "h' = slice(h, 0.5, 1)\n", "4:15", "whole numbers");
}

Test(lang, the_second_part_is_said_to_come) {
    const char *const texts[][2] = {
        {RNN "for l = 1..3\n", "4:1"},
        {RNN "end\n", "4:1"},
        {RNN "s[1] = W @ x\n", "4:2"},
        {RNN "h' = x[t-1]\n", "4:7"},
        {RNN "h' = h[1]'\n", "4:7"},
        {RNN "h' = max(x, j = 1..3)\n", "4:13"},
        {RNN "h' = W.T @ x\n", "4:7"},
        {RNN "h' = sum(j = 1..3, x)\n", "4:10"},
        {"cell t\nstate C[2, 3]\n", "2:12"},
        {"cell t\nstate h[1..3][2]\n", "2:10"},
        {RNN "h' = outer(h, x)\n", "4:6"},
        {RNN "h' = x*step\n", "4:8"},
        {RNN "h' = (W + V) @ x\n", "4:9"},
    };
    for (int i = 0; i < WG_LEN(texts); i++) {
        wg_error error;
        bad(texts[i][0], texts[i][1], "supported yet");
        cr_assert_null(parse_with(texts[i][0], 0, NULL, &error));
        cr_assert_eq(error.status, WG_UNSUPPORTED);
    }
}

Test(lang, hostile_texts_stay_small) {
    static char text[WG_LANG_SIZE + 10];
    wg_error error = {0};
    memset(text, 'a', sizeof text);
    cr_assert_null(wg__lang_parse(NULL, "t", text, sizeof text, NULL, &error));
    cr_assert_eq(error.status, WG_LIMIT);
    error = (wg_error){0};
    cr_assert_null(wg__lang_parse(NULL, "t", "cell t\n\0", 8, NULL, &error));
    cr_assert_not_null(strstr(error.text, "t:2:1: the byte 0x00"));
    char *at = text + sprintf(text, "cell t\nstate h\nconst a0 = hidden\n");
    for (int i = 1; i < 60; i++)
        at += sprintf(at, "const a%d = a%d + a%d\n", i, i - 1, i - 1);
    sprintf(at, "h' = tanh(W @ x + h*a59)\n");
    wg_lang *lang = good(text);
    double value;
    const wg_symbol *last = &lang->symbol[wg__lang_find(lang, "a59")];
    error = (wg_error){0};
    cr_assert_eq(wg__lang_number(lang, &lang->source, last->value, 2, 2, &value, &error), WG_RANGE);
    wg__lang_free(lang);
    at = text + sprintf(text, "cell t\nstate h\nh' = W @ x");
    for (int i = 0; i < 5000; i++)
        at += sprintf(at, i % 100 ? " + b%d" : "\n a%d = h", i);
    cr_assert_null(parse_with(text, 0, NULL, &error));
}

Test(lang, any_allocation_may_fail) {
    const char *text =
        "cell t\ncite \"c\"\ninput x, t[1]\nsize N = 2*hidden\nconst k = sqrt(N)\nstate h = h0, "
        "c[N] = 0.5\n"
        "param V[N, hidden]\ngate = sigmoid(W @ x + V_1 @ concat(h, t)) + gat\n"
        "c' = c*k + V @ h\nh' = gate*h + slice(c', 0, hidden)\ninit W* = normal(1/k)\n";
    wg_setting set = {"k", "2"};
    for (long k = 1;; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_error error = {0};
        wg_lang *lang = wg__lang_parse(memory, "t", text, strlen(text), &(wg_cell_options){k % 2, &set, NULL}, &error);
        bool failed = failing_failed(&f);
        cr_assert_eq(lang == NULL, failed, "%s", error.text);
        cr_assert_eq(error.status, failed ? WG_MEMORY : WG_OK, "%ld: %s", k, error.text);
        wg__lang_free(lang);
        cr_assert_eq(f.live, 0);
        f.fail = 0;
        wg_memory_free(memory);
        if (!failed && k % 2 == 0)
            break;
    }
}
