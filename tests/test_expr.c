/* Expressions: precedence, tokens, lines, and every error with its place. */
#include "suite.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "expr.h"
#include "failing.h"

typedef struct parsed {
    wg_arena arena;
    wg_ast *ast;
    wg_error error;
    wg_status status;
} parsed;

static parsed parse(const char *text) {
    parsed p = {0};
    wg_source source = {"e", text, strlen(text)};
    p.status = wg__expr_parse(&source, &p.arena, &p.ast, &p.error);
    return p;
}

/* The tree, with a bracket around every operator. */
static void dump(const wg_ast *ast, char *out, size_t size) {
    size_t at = strlen(out);
    bool list = ast->kind == WG_AST_CALL || ast->kind == WG_AST_INDEX;
    if (ast->kind == WG_AST_NUMBER)
        snprintf(out + at, size - at, "%g", ast->value);
    else if (ast->kind == WG_AST_NAME)
        snprintf(out + at, size - at, "%s", ast->name);
    else
        snprintf(out + at, size - at, "(%s%s", ast->name ? ast->name : "",
                 list || ast->name ? " " : "");
    if (ast->kind == WG_AST_NUMBER || ast->kind == WG_AST_NAME)
        return;
    if (!list)
        strcat(out, wg__ast_spelling(ast->kind));
    for (int i = 0; i < ast->n; i++) {
        strcat(out, i || !list ? " " : "");
        dump(ast->arg[i], out, size);
    }
    strcat(out, ")");
}

static void same_tree(const char *text, const char *tree) {
    parsed p = parse(text);
    cr_assert_eq(p.status, WG_OK, "%s: %s", text, p.error.text);
    char out[2000] = "";
    dump(p.ast, out, sizeof out);
    cr_assert_str_eq(out, tree, "%s gives %s, not %s", text, out, tree);
    char again[2000], twice[2000] = "";
    wg__ast_text(p.ast, again, sizeof again);
    parsed q = parse(again);
    cr_assert_eq(q.status, WG_OK, "%s printed as %s: %s", text, again, q.error.text);
    dump(q.ast, twice, sizeof twice);
    cr_assert_str_eq(twice, tree, "%s printed as %s means %s", text, again, twice);
    wg__arena_free(&p.arena);
    wg__arena_free(&q.arena);
}

/* The error's first line is "e:PLACE: …" and has the words. */
static void fails(const char *text, const char *place, const char *words) {
    parsed p = parse(text);
    char start[40];
    snprintf(start, sizeof start, "e:%s: ", place);
    cr_assert_eq(p.status, WG_SYNTAX, "%s is accepted", text);
    cr_assert_eq(p.error.status, WG_SYNTAX);
    cr_assert_null(p.ast);
    cr_assert(strncmp(p.error.text, start, strlen(start)) == 0, "%s: %s", place, p.error.text);
    cr_assert_not_null(strstr(p.error.text, words), "no '%s' in: %s", words, p.error.text);
    wg__arena_free(&p.arena);
}

Test(expr, binds_as_the_language_says) {
    same_tree("a + b*c", "(+ a (* b c))");
    same_tree("a - b - c", "(- (- a b) c)");
    same_tree("a/b/c*d", "(* (/ (/ a b) c) d)");
    same_tree("-x**2", "(- (** x 2))");
    same_tree("x**-2", "(** x (- 2))");
    same_tree("a**b**c", "(** a (** b c))");
    same_tree("a**-b**c", "(** a (- (** b c)))");
    same_tree("(a**b)**c", "(** (** a b) c)");
    same_tree("A @ B @ x", "(@ A (@ B x))");
    same_tree("(A @ B) @ x", "(@ (@ A B) x)");
    same_tree("-W @ x", "(- (@ W x))");
    same_tree("(-W) @ x", "(@ (- W) x)");
    same_tree("W @ -x", "(@ W (- x))");
    same_tree("A @ -B @ x", "(@ A (- (@ B x)))");
    same_tree("W @ x**2", "(@ W (** x 2))");
    same_tree("a * W @ x + b", "(+ (* a (@ W x)) b)");
    same_tree("a * -b", "(* a (- b))");
    same_tree("a - -b", "(- a (- b))");
    same_tree("- - a", "(- (- a))");
    same_tree("f*c + i*g", "(+ (* f c) (* i g))");
    same_tree("1 - z", "(- 1 z)");
    same_tree("(1 - z)*h", "(* (- 1 z) h)");
}

Test(expr, postfixes_bind_tighter_than_power) {
    same_tree("c'**2", "(** (' c) 2)");
    same_tree("W.T @ x", "(@ (.T W) x)");
    same_tree("s[l]", "( s l)");
    same_tree("U[i, j]' @ h[t-1]", "(@ (' ( U i j)) ( h (- t 1)))");
    same_tree("x[1..K]", "( x (.. 1 K))");
    same_tree("f(a)[2].T", "(.T ( (f a) 2))");
}

Test(expr, calls_take_lists_and_bindings) {
    same_tree("o*tanh(c')", "(* o (tanh (' c)))");
    same_tree("where(less(a, b), a, b)", "(where (less a b) a b)");
    same_tree("f()", "(f )");
    same_tree("sum(j = 1..l-1, U[j] @ s[j])", "(sum (j = 1 (- l 1)) (@ ( U j) ( s j)))");
    same_tree("concat(j = 1..3, s[j])", "(concat (j = 1 3) ( s j))");
}

Test(expr, numbers_are_decimal) {
    same_tree("1e3 + .5 + 2.", "(+ (+ 1000 0.5) 2)");
    same_tree("1E-2", "0.01");
    fails("1e999", "1:1", "too large");
    fails("2x", "1:2", "cannot follow a number");
    fails("1.5.2", "1:4", "operator");
    fails("0x10", "1:2", "cannot follow a number");
}

Test(expr, numbers_do_not_follow_the_locale) {
    double value;
    cr_assert(wg__number("1.25", 4, &value));
    cr_assert_eq(value, 1.25);
    const char *const other[] = {"de_DE.UTF-8", "fr_FR.UTF-8"};
    for (int i = 0; i < 2; i++)
        setlocale(LC_ALL, other[i]);
    cr_assert(wg__number("-1.25e1", 7, &value));
    cr_assert_eq(value, -12.5);
    cr_assert(!wg__number("1,25", 4, &value));
    cr_assert(!wg__number("nan", 3, &value));
    cr_assert(!wg__number("", 0, &value));
    cr_assert(!wg__number("1e", 2, &value));
    setlocale(LC_ALL, "C");
}

Test(expr, a_line_goes_on_in_brackets_and_after_operators) {
    same_tree("f(a,\n b\n)", "(f a b)");
    same_tree("a + # the rest follows\n\n # here\n b", "(+ a b)");
    same_tree("a @\nb\n", "(@ a b)");
    fails("a\n+ b", "2:1", "not '+'");
    fails("a +", "1:4", "end of the text");
}

Test(expr, errors_tell_the_place) {
    fails("", "1:1", "expected a name, a number or '('");
    fails("a b", "1:3", "not 'b'");
    fails("a + * b", "1:5", "not '*'");
    fails("f(a", "1:2", "never closed");
    fails("f(a]", "1:4", "cannot close the '(' at 1:2");
    fails("a)", "1:2", "closes nothing");
    fails("f(a b)", "1:5", "',' or ')'");
    fails("f(a,)", "1:5", "not ')'");
    fails("s[]", "1:3", "not ']'");
    fails("a $ b", "1:3", "'$' has no meaning");
    fails("a \xC3\xA9", "1:3", "0xC3");
    fails("\"caf\xC3\xA9\" + $", "1:1", "text");
    fails("a\n \"open", "2:2", "no closing");
    fails("+a", "1:1", "not '+'");
    fails("a = b", "1:3", "not '='");
    fails("f(j = 1)", "1:8", "'..'");
    fails("'a", "1:1", "'");
    fails("a[1..2] .. 3", "1:9", "not '..'");
}

Test(expr, columns_count_characters_and_the_caret_stands_below) {
    parsed p = parse("a + # \xC3\xA9\n  b $");
    cr_assert_str_eq(p.error.text, "e:2:5: '$' has no meaning here\n      b $\n        ^");
    wg__arena_free(&p.arena);
}

Test(expr, long_lines_are_cut_around_the_caret) {
    char text[5000];
    memset(text, 'a', sizeof text);
    for (int i = 1; i < 4999; i += 2)
        text[i] = '+';
    text[4998] = '$';
    text[4999] = 0;
    wg_source source = {"e", text, 4999};
    wg_error error = {0};
    wg__source_error(&source, &error, WG_SYNTAX, 1, 4999, "here");
    cr_assert_lt(strlen(error.text), 400);
    const char *line = strchr(error.text, '\n') + 1, *below = strchr(line, '\n') + 1;
    cr_assert_eq(line[strchr(below, '^') - below], '$');
}

/* n copies of `open`, then x, then n copies of `close`. */
static wg_status nested(int n, const char *open, const char *close) {
    static char text[300000];
    char *at = text;
    for (int i = 0; i < n; i++)
        at = stpcpy(at, open);
    at = stpcpy(at, "x");
    for (int i = 0; i < n; i++)
        at = stpcpy(at, close);
    parsed p = parse(text);
    wg__arena_free(&p.arena);
    return p.status;
}

Test(expr, depth_is_limited_whatever_nests) {
    const char *const forms[][2] = {{"(", ")"},         {"-", ""},    {"f(", ")"}, {"a[", "]"},
                                    {"x**", ""},        {"x @ ", ""}, {"", "'"},   {"", ".T"},
                                    {"", "+x"},         {"", "*x"},   {"", "[1]"}, {"x**-", ""},
                                    {"f(j=1..", ", x)"}};
    for (int i = 0; i < WG_LEN(forms); i++) {
        cr_assert_eq(nested(90, forms[i][0], forms[i][1]), WG_OK, "%s", forms[i][0]);
        cr_assert_eq(nested(20000, forms[i][0], forms[i][1]), WG_SYNTAX, "%s", forms[i][0]);
    }
}

Test(expr, any_allocation_may_fail) {
    const char *text = "f(a, W @ x + 1.5, g(j = 1..3, s[j]'))**2";
    for (long k = 1;; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_arena arena = {.memory = memory};
        wg_source source = {"e", text, strlen(text)};
        wg_error error = {0};
        wg_ast *ast;
        wg_status status = wg__expr_parse(&source, &arena, &ast, &error);
        bool failed = failing_failed(&f);
        cr_assert_eq(status, failed ? WG_MEMORY : WG_OK);
        cr_assert_eq(error.status, status);
        wg__arena_free(&arena);
        cr_assert_eq(f.live, 0);
        f.fail = 0;
        wg_memory_free(memory);
        if (!failed)
            break;
    }
}
