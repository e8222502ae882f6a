/* The shape rule: its steps one by one, its contradictions, and published cells. */
#include "suite.h"

#include <stdio.h>
#include <string.h>

#include "lang.h"

static wg_lang *good(const char *text) {
    wg_error error = {0};
    wg_lang *lang = wg__lang_parse(NULL, "t.cell", text, strlen(text), NULL, &error);
    cr_assert_not_null(lang, "%s\n%s", error.text, text);
    return lang;
}

/* shapes: "W [hidden, input]; b [hidden]*", a star where the length is `hidden` because nothing
 * said otherwise. */
static void has(const char *text, const char *shapes) {
    wg_lang *lang = good(text);
    char wanted[600], name[60];
    snprintf(wanted, sizeof wanted, "%s;", shapes);
    for (char *at = wanted, *end; (end = strchr(at, ';')); at = end + 1) {
        *end = 0;
        int skip = 0;
        cr_assert_eq(sscanf(at, " %59s%n", name, &skip), 1);
        int found = wg__lang_find(lang, name);
        cr_assert_geq(found, 0, "no %s", name);
        const wg_symbol *symbol = &lang->symbol[found];
        char shape[120];
        wg__extent_text(&symbol->extent, shape, sizeof shape - 2);
        strcat(shape, symbol->hidden[0] ? "*" : "");
        cr_assert_str_eq(shape, at + skip + 1, "%s is %s, not%s\n%s", name, shape, at + skip, text);
        if (symbol->kind == WG_SYMBOL_PARAM)
            cr_assert(symbol->reason && symbol->reason[0]);
    }
    wg__lang_free(lang);
}

static void bad(const char *text, const char *place, const char *a, const char *b) {
    wg_error error = {0};
    wg_lang *lang = wg__lang_parse(NULL, "t.cell", text, strlen(text), NULL, &error);
    char start[60];
    cr_assert_null(lang, "accepted:\n%s", text);
    snprintf(start, sizeof start, "t.cell:%s: ", place);
    cr_assert(strncmp(error.text, start, strlen(start)) == 0, "wanted %s, got %s\n%s", place,
              error.text, text);
    cr_assert_not_null(strstr(error.text, a), "no '%s' in %s", a, error.text);
    cr_assert_not_null(strstr(error.text, b), "no '%s' in %s", b, error.text);
    cr_assert(error.status == WG_SHAPE || error.status == WG_RANGE ||
              error.status == WG_UNSUPPORTED);
}

#define RNN "cell t\ninput x\nstate h\n"

Test(shapes, a_product_makes_a_matrix) {
    has(RNN "h' = tanh(W @ x + U @ h + b)\n", "W [hidden, input]; U [hidden, hidden]; b [hidden]");
    has("cell t\nstate h[3]\nh' = tanh(W @ x + U @ h + b)\n", "W [3, input]; U [3, 3]; b [3]");
    has("cell t\ninput x, t[2]\nstate h\nh' = W @ t + V @ concat(x, h, t)\n",
        "W [hidden, 2]; V [hidden, input + hidden + 2]");
    has("cell t\nparam B[7, input]\nstate h\nh' = A @ B @ x\n", "A [hidden, 7]; B [7, input]");
}

Test(shapes, the_right_side_of_a_product_is_known_by_its_line) {
    bad(RNN "z = V @ x\nh' = tanh(W @ z + U @ h)\n", "5:13", "'z' is not known by this line",
        "param W[rows, columns]");
    bad(RNN "h' = tanh(W @ p)+ x\n", "4:13", "'p'", "'W'");
    has("cell t\nparam V[5, input]\nstate h\nz = V @ x\nh' = tanh(W @ z + U @ h)\n",
        "W [hidden, 5]");
    has("cell t\nparam W[hidden, 5]\nstate h\nz = V @ x\nh' = tanh(W @ z + U @ h)\n",
        "V [5, input]; z [5]");
    has(RNN "r = sigmoid(V @ x)\nh' = tanh(W @ x + U @ (r*h))\n",
        "U [hidden, hidden]; V [hidden, input]");
    has("cell t\nparam W[hidden, 5], V[7, 5]\nstate h\nh' = W @ p + sum(V @ p) + sum(x)\n",
        "p [5]");
}

Test(shapes, rule_a_makes_operands_one) {
    has("cell t\nstate h, s[1]\ns' = sigmoid(w @ h + v*s + b)\nh' = s'*tanh(W @ x)\n",
        "w [1, hidden]; v [1]; b [1]");
}

Test(shapes, rules_b_c_d_pass_shapes_along) {
    has(RNN "a = sigmoid(V @ x)\nh' = a*h + (1 - a)*tanh(W @ x)\n",
        "a [hidden]; V [hidden, input]; W [hidden, input]");
    has(RNN "s = mean(x)*2\nh' = h + s\n", "s [1]");
    has(RNN "k = 2*3\nh' = h + k*(W @ x)\n", "k number");
    has(RNN "h' = 2*(1 + g) + sum(x)\n", "g [hidden]");
}

Test(shapes, step_three_gives_an_operand_its_results_shape) {
    has(RNN "h' = g*h + W @ x\n", "g [hidden]; W [hidden, input]");
    has("cell t\nstate h, c[4]\na = p*c\nh' = h + W @ x\nc' = a\n", "p [4]");
    bad(RNN "a = sigmoid(p)\nh' = a*h + W @ x\n", "4:13", "'p' has to be given", "param p[1]");
    bad(RNN "a = 0.5*p\nh' = a*h + W @ x\n", "4:9", "'p' has to be given", "param p[n]");
    bad("cell t\ninput x, t[1]\nstate h\na = t*p\nh' = a*h + W @ x\n", "4:7", "'p' has to be given",
        "length 1");
    has("cell t\nparam p[1]\nstate h\na = sigmoid(p)\nh' = a*h + W @ x\ninit p = 1\n",
        "p [1]; a [1]; W [hidden, input]");
    has("cell t\nparam p[hidden]\nstate h\na = sigmoid(p)\nh' = a*h + W @ x\n",
        "p [hidden]; a [hidden]");
}

Test(shapes, what_stays_open_is_hidden_and_marked) {
    has(RNN "a = V @ x + b\nh' = h + sum(a)*mean(W @ x)\n",
        "V [hidden, input]*; W [hidden, input]*; b [hidden]*");
    has(RNN "a = concat(V @ x, W @ x)\nh' = h + sum(a)\n", "V [hidden, input]*; a [2*hidden]");
    has(RNN "h' = h + sum(p)*mean(x)\n", "p [hidden]*");
}

Test(shapes, inference_never_looks_at_numbers) {
    bad("cell t\nsize N = hidden\nsize M = 2*N/2\nstate h[N], c[M]\nh' = h + c*0 + q\nc' = c + x\n",
        "6:8", "[hidden]", "[input]");
    has("cell t\nsize N = 2*hidden\nstate h[N/2], c\nh' = h*c + W @ x\nc' = c + h\n",
        "W [hidden, input]");
    bad(RNN "h' = h + x\n", "4:8", "[hidden]", "[input]");
    has("cell t\nsize hidden = input\nstate h\nh' = h + x\n", "h [input]");
}

Test(shapes, contradictions_show_both_shapes_and_their_lines) {
    bad(RNN "a = W @ x\nb = a*h\nh' = tanh(a + x)\n", "6:1", "[hidden]", "[input]");
    bad(RNN "h' = tanh(W @ x + W @ h)\n", "4:21", "[?, input] (line 4)", "[hidden]");
    bad("cell t\nparam W[hidden, 3]\nstate h\nh' = W @ x\n", "4:8", "[hidden, 3]", "[input]");
    bad("cell t\nparam b[3]\nstate h\nh' = W @ x + b\n", "4:1", "[hidden]", "[3]");
    bad("cell t\nstate h, c[2]\nh' = tanh(W @ x)\nc' = h'\n", "4:1", "c' has shape [2]",
        "[hidden]");
    bad(RNN "h' = 0.5 + 0*sum(x)\n", "4:1", "[hidden]", "[1]");
    bad("cell t\nstate h[1]\nh' = tanh(x)\n", "3:1", "[1]", "[input]");
    bad("cell t\nparam h0[3]\nstate h = h0\nh' = tanh(W @ x + h)\n", "3:7", "[hidden]", "[3]");
    bad("cell t\nstate h, c[2]\nh' = concat(x, c)\nc' = c\n", "3:1", "[hidden]", "[input + 2]");
    bad(RNN "h' = h @ x\n", "4:6", "'h' has shape [hidden]", "matrix");
    bad(RNN "h' = W @ 3\n", "4:10", "a vector", "number");
    bad(RNN "h' = W @ x + 2*W\n", "4:15", "matrix", "supported yet");
    bad(RNN "h' = W @ x + sum(W)\n", "4:18", "matrix", "supported yet");
    bad(RNN "h' = b + W @ x\nz = b @ x\noutput z\n", "4:8", "matrix", "supported yet");
    bad(RNN "h' = h + sum(slice(h, hidden, 1))\n", "4:14", "beyond", "[hidden]");
    bad(RNN "h' = h + sum(slice(x, 0 - 1, 1))\n", "4:25", "0 or later", "begins");
    bad(RNN "h' = h + (W @ x)*sum(slice(3, 0, 1))\n", "4:22", "vector", "number");
    bad(RNN "h' = h + sum(index(0))\n", "4:20", "at least 1", "length");
}

Test(shapes, lengths_come_from_functions) {
    has("cell t\nsize N = 3\nstate h\nm = concat(slice(x, 1, N), index(2), 1)\n"
        "h' = softmax(h) + W @ m + V @ bernoulli(0.5, 2*N) + dot(q, x)\n",
        "m [6]; W [hidden, 6]; V [hidden, 6]; q [input]");
    has(RNN "z = layer_norm(W @ x + U @ h)\nh' = tanh(g*z + b)\n",
        "z [hidden]; g [hidden]; b [hidden]");
}

/* ---- published cells, as their papers write them ---- */

Test(shapes, gated_cells_of_the_literature_come_out_as_published) {
    /* Gers & Schmidhuber 2000 */
    has("cell peephole\nstate h, c\ni = sigmoid(W_i @ x + U_i @ h + p_i*c + b_i)\nf = sigmoid(W_f "
        "@ x + U_f @ h + p_f*c + b_f)\n"
        "c' = f*c + i*tanh(W_c @ x + U_c @ h + b_c)\no = sigmoid(W_o @ x + U_o @ h + p_o*c' + "
        "b_o)\nh' = o*tanh(c')\n",
        "W_i [hidden, input]; U_o [hidden, hidden]; p_i [hidden]; p_o [hidden]; b_c [hidden]");
    /* Ba, Kiros & Hinton 2016 */
    has("cell ln_lstm\nstate h, c\n"
        "i = sigmoid(g_1*layer_norm(W_i @ x) + g_2*layer_norm(U_i @ h) + b_i)\n"
        "f = sigmoid(g_3*layer_norm(W_f @ x) + g_4*layer_norm(U_f @ h) + b_f)\n"
        "o = sigmoid(g_5*layer_norm(W_o @ x) + g_6*layer_norm(U_o @ h) + b_o)\n"
        "n = tanh(g_7*layer_norm(W_n @ x) + g_8*layer_norm(U_n @ h) + b_n)\n"
        "c' = f*c + i*n\nh' = o*tanh(g_c*layer_norm(c') + b_c)\n",
        "g_1 [hidden]; g_8 [hidden]; g_c [hidden]; W_n [hidden, input]; U_i [hidden, hidden]");
    /* Zhou et al. 2016 */
    has("cell mgu\nstate h\nf = sigmoid(W_f @ x + U_f @ h + b_f)\nn = tanh(W_n @ x + U_n @ (f*h) + "
        "b_n)\n"
        "h' = (1 - f)*h + f*n\n",
        "U_n [hidden, hidden]; W_f [hidden, input]; b_n [hidden]");
    /* Collins, Sohl-Dickstein & Sussillo 2017 */
    has("cell ugrnn\nstate h\ng = sigmoid(W_g @ x + U_g @ h + b_g)\nc = tanh(W_c @ x + U_c @ h + "
        "b_c)\nh' = g*h + (1 - g)*c\n",
        "W_c [hidden, input]; b_g [hidden]");
    /* Laurent & von Brecht 2017 */
    has("cell cfn\nstate h\nt = sigmoid(W_t @ x + U_t @ h + b_t)\ne = sigmoid(W_e @ x + U_e @ h + "
        "b_e)\n"
        "h' = t*tanh(h) + e*tanh(V @ x)\n",
        "V [hidden, input]; U_t [hidden, hidden]");
    /* Bradbury et al. 2017, with the window as a second input */
    has("cell qrnn\ninput x, last\nstate c\nz = tanh(W_z @ x + V_z @ last)\nf = sigmoid(W_f @ x + "
        "V_f @ last)\n"
        "o = sigmoid(W_o @ x + V_o @ last)\nc' = f*c + (1 - f)*z\nh = o*c'\noutput h\n",
        "V_z [hidden, input]; h [hidden]");
}

Test(shapes, other_cells_of_the_literature_come_out_as_published) {
    /* Li et al. 2018 */
    has("cell indrnn\nstate h\nh' = relu(W @ x + u*h + b)\ninit u = uniform(0, 1)\n",
        "u [hidden]; W [hidden, input]");
    /* Mikolov et al. 2015 */
    has("cell scrn\nsize N = 40\nconst alpha = 0.95\nstate h, s[N]\ns' = (1 - alpha)*(B @ x) + "
        "alpha*s\n"
        "h' = sigmoid(P @ s' + A @ x + R @ h)\nz = U @ h' + V @ s'\noutput z\n",
        "B [40, input]; P [hidden, 40]; V [hidden, 40]*; A [hidden, input]; R [hidden, hidden]; U "
        "[hidden, hidden]*");
    /* Rusch & Mishra 2021: coRNN, and LEM 2022 */
    has("cell cornn\nconst dt = 0.042\nconst gamma = 2.7\nconst epsilon = 4.7\nstate h, v\n"
        "v' = v + dt*(tanh(W @ h + U @ v + V @ x + b) - gamma*h - epsilon*v)\nh' = h + dt*v'\n",
        "W [hidden, hidden]; U [hidden, hidden]; V [hidden, input]; b [hidden]");
    has("cell lem\nconst dt = 1\nstate w, z\nd1 = dt*sigmoid(W_1 @ w + V_1 @ x + b_1)\nd2 = "
        "dt*sigmoid(W_2 @ w + V_2 @ x + b_2)\n"
        "z' = (1 - d1)*z + d1*tanh(W_z @ w + V_z @ x + b_z)\nw' = (1 - d2)*w + d2*tanh(W_w @ z' + "
        "V_w @ x + b_w)\n",
        "W_1 [hidden, hidden]; V_2 [hidden, input]; b_w [hidden]");
    /* Jaeger 2001, leaky */
    has("cell esn\nconst a = 0.3\nstate h\nfixed W, U\nh' = (1 - a)*h + a*tanh(W @ x + U @ h)\n"
        "init U = spectral(0.9, 0.1)\ninit W = uniform(0.5)\n",
        "W [hidden, input]; U [hidden, hidden]");
    /* Chang et al. 2019, its matrix declared, as no value can stand to the left of @ yet */
    has("cell antisymmetric\nconst dt = 0.1\nstate h\nh' = h + dt*tanh(W @ h - g*h + V @ x + "
        "b)\ninit g = 0.01\n",
        "W [hidden, hidden]; g [hidden]; V [hidden, input]");
    /* Kusupati et al. 2018 */
    has("cell fastrnn\nparam alpha[1], beta[1]\nstate h\nn = tanh(W @ x + U @ h + b)\nh' = "
        "sigmoid(alpha)*n + sigmoid(beta)*h\n"
        "init alpha = -3\ninit beta = 3\n",
        "W [hidden, input]; alpha [1]; n [hidden]");
}

Test(shapes, a_long_text_is_shaped_in_time) {
    static char text[WG_LANG_SIZE];
    char *at = text + sprintf(text, "cell t\nstate h\na0 = V @ x + h\n");
    for (int i = 1; i < 1500; i++)
        at += sprintf(at, "a%d = tanh(a%d)*b%d\n", i, i - 1, i);
    sprintf(at, "h' = a1499\n");
    wg_lang *lang = good(text);
    cr_assert_eq(lang->params, 1500);
    wg__lang_free(lang);
}

Test(shapes, what_is_found_late_must_agree_with_what_is_known) {
    /* a sum whose length is known from its reader, then one of its operands */
    bad("cell t\nparam W[hidden, 4], M[hidden, 5]\nstate h\nv = p + q\nh' = W @ v + M @ p + sum(x)\n", "4:7",
        "'+' gives shape [5]", "[4] is needed (line 5)");
    /* a concatenation whose length is known from its reader, then its parts */
    bad("cell t\nparam W[hidden, 9], M[hidden, 5]\nstate h\nv = concat(p, q)\nh' = W @ v + M @ p + M @ q + sum(x)\n", "4:5",
        "'concat' gives shape [10]", "[9] is needed (line 5)");
    /* the same when parts take the length of what they stand beside, and when they are hidden */
    bad("cell t\nparam W[hidden, 9], M[4]\nstate h\nv = concat(p, M)\nh' = W @ v + sum(x) + sum(p + q + index(4))\n", "4:5",
        "'concat' gives shape [8]", "[9] is needed (line 5)");
    bad("cell t\nparam W[hidden, 9]\nstate h\nv = concat(p, q)\nh' = W @ v + sum(x)\n", "4:5", "'concat' gives shape [2*hidden]",
        "[9] is needed (line 5)");
}

Test(shapes, a_length_that_is_too_large_a_formula_is_told) {
    /* 15 terms and two others */
    bad("cell t\nsize A = (input + hidden + 1)*(input + hidden + 1)\nsize P = A*A\n"
        "size Q = input*input*input*input*input + hidden*hidden*hidden*hidden*hidden\nstate h\n"
        "h' = h + W @ x + sum(concat(index(P), index(Q)))\n",
        "6:22", "too large a formula", "length");
}

/* The reason that is shown for a parameter's shape. */
static void reason(const char *text, const char *name, const char *words) {
    wg_lang *lang = good(text);
    cr_assert_str_eq(lang->symbol[wg__lang_find(lang, name)].reason, words, "%s: %s", name,
                     lang->symbol[wg__lang_find(lang, name)].reason);
    wg__lang_free(lang);
}

Test(shapes, every_parameter_says_why_it_has_its_shape) {
    reason("cell t\nparam p[3]\nstate h\nh' = h + sum(p) + W @ x\n", "p", "declared on line 2");
    reason(RNN "h' = h + W @ x\n", "W", "left of '@' on line 4; rows: from the result of '+' on line 4");
    reason(RNN "h' = h + sum(p)*mean(x)\n", "p", "hidden, as no line says otherwise");
    reason(RNN "a = W @ x\nh' = h + p*a\n", "p", "like the result of '*' on line 5; from the result of '+' on line 5") ;
    reason("cell t\nstate h, s[1]\ns' = sum(x) + b\nh' = h*s'\n", "b", "'+' on line 3 has length 1");
    reason(RNN "a = concat(u, v)\nd = a + p\nh' = W @ x + sum(d)*h\n", "p",
           "like the result of '+' on line 5; from the operands of 'concat' on line 4");
}
