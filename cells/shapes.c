/* shapes.c: the shape of every name and node of a cell: step 1 of the shape rule (the lines in
 * order), then solve.c's steps; and the reason for each parameter. Touches only the tree and the
 * solver. */
#include "solve.h"

#include <stdio.h>
#include <string.h>

typedef struct shaping {
    wg_solver solver;
    wg_reader *reader;
    int *of; /* the unknown of each symbol, or -1 */
} shaping;

static int read_node(shaping *s, wg_ast *ast);

static int fail(shaping *s, wg_status status, const wg_ast *ast, const char *message) {
    wg__reader_fail(s->reader, status, ast->line, ast->column, "%s", message);
    return -1;
}

/* ---- step 1: names and numbers
 * -------------------------------------------------------------------------- */

static int read_name(shaping *s, const wg_ast *ast) {
    wg_symbol_kind kind = s->reader->lang->symbol[ast->symbol].kind;
    if (kind == WG_SYMBOL_SIZE || kind == WG_SYMBOL_CONST)
        return wg__solve_known(&s->solver, 0, NULL, 0);
    return s->of[ast->symbol];
}

/* A vector of a length that is written out. */
static int read_length(shaping *s, const wg_ast *ast) {
    wg_reader *reader = s->reader;
    const wg_formula *length =
        wg__lang_length(reader->lang, &reader->lang->source, ast, reader->error);
    int64_t value;
    if (!length) {
        wg__reader_failed(reader, reader->error->status);
        return -1;
    }
    if (wg__formula_constant(length, &value) && value < 1)
        return fail(s, WG_RANGE, ast, "a length is at least 1");
    return wg__solve_known(&s->solver, 1, length, ast->line);
}

/* ---- step 1: operations
 * ----------------------------------------------------------------------------------- */

/* The unknowns of a node's arguments, from the first to the n-th, in `out`. */
static bool read_arguments(shaping *s, const wg_ast *ast, int n, int *out) {
    for (int i = 0; i < n; i++)
        if ((out[i] = read_node(s, ast->arg[i])) < 0)
            return false;
    return true;
}

static int read_operation(shaping *s, const wg_ast *ast, wg_constraint_kind kind, int n,
                          const char *name) {
    int *operand = wg__arena_take(&s->reader->lang->arena, (size_t)n * sizeof *operand);
    if (!operand) {
        wg__parser_refused(&s->reader->parser);
        return -1;
    }
    int result = read_arguments(s, ast, n, operand) ? wg__solve_new(&s->solver) : -1;
    if (result < 0)
        return -1;
    s->solver.unknown[result].sum_of_lengths = kind == WG_CONCAT_CONSTRAINT;
    bool good =
        wg__solve_add(&s->solver, kind, name, ast->line, ast->column, result, n, ast->arg, operand);
    return good ? result : -1;
}

/* A matrix parameter whose rows are `rows`. */
static bool make_matrix(shaping *s, int matrix, const wg_formula *columns, int rows, int line) {
    wg_extent extent = {2, {NULL, columns}};
    wg__solve_class(&s->solver, matrix)->rows = rows;
    return wg__solve_set(&s->solver, matrix, &extent, WG_WHY_PRODUCT, -1, line);
}

/* The left side of @: a parameter that is a matrix, or can become one. Its unknown, or -1. */
static int read_left(shaping *s, wg_ast *left) {
    const wg_lang *lang = s->reader->lang;
    char text[120];
    if (left->kind != WG_AST_NAME)
        return fail(s, WG_UNSUPPORTED, left,
                    "a computed matrix to the left of '@' is not supported yet");
    const wg_symbol *symbol = &lang->symbol[left->symbol];
    int at = read_node(s, left);
    if (at < 0)
        return -1;
    bool known = wg__solve_is_known(&s->solver, at);
    const wg_unknown *class = wg__solve_class(&s->solver, at);
    if (known ? class->extent.rank != 2 : symbol->kind != WG_SYMBOL_PARAM) {
        wg__reader_fail(s->reader, WG_SHAPE, left->line, left->column,
                        "the left side of '@' is a matrix, but '%s' has shape %s", left->name,
                        known ? wg__extent_text(&class->extent, text, sizeof text) : "of a vector");
        return -1;
    }
    return at;
}

/* Both shapes are known: do they fit? */
static bool check_product(shaping *s, const wg_ast *ast, int left, int right) {
    char a[120], b[120];
    const wg_unknown *matrix = wg__solve_class(&s->solver, left),
                     *vector = wg__solve_class(&s->solver, right);
    wg_extent shown = matrix->extent;
    const wg_unknown *rows = wg__solve_class(&s->solver, matrix->rows);
    if (rows->why != WG_WHY_OPEN)
        shown.dim[0] = rows->extent.dim[0];
    if (vector->extent.rank == 1 && wg__formula_equal(matrix->extent.dim[1], vector->extent.dim[0]))
        return true;
    wg__reader_fail(s->reader, WG_SHAPE, ast->line, ast->column,
                    "'@' of shapes %s (line %d) and %s: the matrix has %s columns",
                    wg__extent_text(&shown, a, sizeof a), matrix->line,
                    wg__extent_text(&vector->extent, b, sizeof b),
                    wg__formula_text(matrix->extent.dim[1], (char[100]){0}, 100));
    return false;
}

static void unknown_right(shaping *s, const wg_ast *ast) {
    char left[60], right[80];
    wg__ast_text(ast->arg[0], left, sizeof left);
    wg__ast_text(ast->arg[1], right, sizeof right);
    wg__reader_fail(
        s->reader, WG_SHAPE, ast->line, ast->column,
        "the length of '%s' is not known by this line, so the size of '%s' has to be given: "
        "param %s[rows, columns]",
        right, left, left);
}

/* P @ v makes P a matrix [len(result), len(v)]. */
static int read_product(shaping *s, const wg_ast *ast) {
    wg_solver *solver = &s->solver;
    int left = read_left(s, ast->arg[0]);
    int right = left >= 0 ? read_node(s, ast->arg[1]) : -1;
    if (right < 0)
        return -1;
    bool matrix = wg__solve_is_known(solver, left), vector = wg__solve_is_known(solver, right);
    int rank = wg__solve_class(solver, right)->extent.rank;
    if (vector && rank != 1)
        return fail(s, rank ? WG_UNSUPPORTED : WG_SHAPE, ast->arg[1],
                    rank ? "a matrix to the right of '@' is not supported yet"
                         : "the right side of '@' is a vector, and this is a number");
    if (matrix && !vector) {
        wg_extent columns = {1, {wg__solve_class(solver, left)->extent.dim[1], NULL}};
        return wg__solve_set(solver, right, &columns, WG_WHY_OPERAND, -1, ast->line)
                   ? wg__solve_class(solver, left)->rows
                   : -1;
    }
    if (matrix)
        return check_product(s, ast, left, right) ? wg__solve_class(solver, left)->rows : -1;
    if (!vector) {
        unknown_right(s, ast);
        return -1;
    }
    int rows = wg__solve_new(solver);
    const wg_formula *columns = wg__solve_class(solver, right)->extent.dim[0];
    return rows >= 0 && make_matrix(s, left, columns, rows, ast->line) ? rows : -1;
}

/* dot(u, v): what u*v is, then one. */
static int read_one(shaping *s, const wg_ast *ast, bool product) {
    const wg_formula *one = wg__formula_number(&s->reader->lang->arena, 1);
    int inside = product ? read_operation(s, ast, WG_POINTWISE_CONSTRAINT, 2, ast->name)
                         : read_node(s, ast->arg[0]);
    if (!one)
        wg__parser_refused(&s->reader->parser);
    return inside >= 0 && one ? wg__solve_known(&s->solver, 1, one, ast->line) : -1;
}

/* What a C function of arrays makes: as long as the operand whose length has the same name, or of a length that is known. */
static int read_foreign(shaping *s, const wg_ast *ast) {
    const wg_bound *b = wg__bound_of(wg__function_op(s->reader->lang->foreign, ast->symbol));
    const wg_port *out = &b->out[0];
    int like = -1;
    for (int k = 0; k < ast->n; k++) {
        int at = read_node(s, ast->arg[k]);
        const wg_port *port = &b->operand[k];
        if (at < 0)
            return -1;
        if (wg__port_rank(port) > 1 || wg__port_rank(out) > 1)
            return fail(s, WG_UNSUPPORTED, ast, "a C function of matrices is not supported in cells yet");
        if (port->rank && out->rank && out->length[0]->kind == WG_AST_NAME && port->length[0]->kind == WG_AST_NAME &&
            port->length[0]->symbol == out->length[0]->symbol)
            like = at;
    }
    int64_t known = out->tail ? out->tail : 1;
    if (like >= 0)
        return like;
    if (out->rank && !wg__bound_length(b, out, &known))
        return fail(s, WG_UNSUPPORTED, ast, "no operand is as long as what this function makes: this is not supported in cells yet");
    const wg_formula *length = wg__formula_number(&s->reader->lang->arena, known);
    if (!length)
        wg__parser_refused(&s->reader->parser);
    return length ? wg__solve_known(&s->solver, 1, length, ast->line) : -1;
}

static int read_call(shaping *s, const wg_ast *ast) {
    wg_cell_function function = wg__function_at(s->reader->lang->foreign, ast->symbol);
    switch (function.kind) {
    case WG_FUNCTION_POINTWISE:
        return read_operation(s, ast, WG_POINTWISE_CONSTRAINT, function.values, ast->name);
    case WG_FUNCTION_CONCAT: return read_operation(s, ast, WG_CONCAT_CONSTRAINT, ast->n, ast->name);
    case WG_FUNCTION_SAME:
    case WG_FUNCTION_DROPOUT: return read_node(s, ast->arg[0]);
    case WG_FUNCTION_REDUCE: return read_one(s, ast, false);
    case WG_FUNCTION_DOT: return read_one(s, ast, true);
    case WG_FUNCTION_SLICE: return read_node(s, ast->arg[0]) < 0 ? -1 : read_length(s, ast->arg[2]);
    case WG_FUNCTION_BERNOULLI: return read_length(s, ast->arg[1]);
    case WG_FUNCTION_INDEX: return read_length(s, ast->arg[0]);
    case WG_FUNCTION_FOREIGN: return read_foreign(s, ast);
    case WG_FUNCTION_LATER: break;
    }
    return fail(s, WG_UNSUPPORTED, ast, "this function is not supported yet");
}

static int read_node(shaping *s, wg_ast *ast) {
    switch (ast->kind) {
    case WG_AST_NUMBER: ast->shape = wg__solve_known(&s->solver, 0, NULL, 0); break;
    case WG_AST_NAME: ast->shape = read_name(s, ast); break;
    case WG_AST_NEXT: ast->shape = ast->arg[0]->shape = s->of[ast->symbol]; break;
    case WG_AST_MATMUL: ast->shape = read_product(s, ast); break;
    case WG_AST_CALL: ast->shape = read_call(s, ast); break;
    default:
        ast->shape =
            read_operation(s, ast, WG_POINTWISE_CONSTRAINT, ast->n, wg__ast_spelling(ast->kind));
    }
    return ast->shape;
}

/* ---- step 1: declarations, then the lines
 * ----------------------------------------------------------------- */

static bool start_symbol(shaping *s, int at) {
    const wg_symbol *symbol = &s->reader->lang->symbol[at];
    s->of[at] = -1;
    if (symbol->kind == WG_SYMBOL_SIZE || symbol->kind == WG_SYMBOL_CONST ||
        symbol->kind == WG_SYMBOL_VALUE)
        return true;
    const wg_extent *extent = &symbol->extent;
    s->of[at] = extent->rank == 1 ? wg__solve_known(&s->solver, 1, extent->dim[0], symbol->line)
                                  : wg__solve_new(&s->solver);
    if (s->of[at] < 0 || extent->rank != 2)
        return s->of[at] >= 0;
    int rows = wg__solve_known(&s->solver, 1, extent->dim[0], symbol->line);
    if (rows < 0 || !make_matrix(s, s->of[at], extent->dim[1], rows, symbol->line))
        return false;
    s->solver.unknown[s->of[at]].why = WG_WHY_GIVEN;
    return true;
}

/* A state's start has the state's shape. */
static bool start_state(shaping *s, int at) {
    const wg_symbol *state = &s->reader->lang->symbol[at];
    if (state->kind != WG_SYMBOL_STATE || state->start < 0)
        return true;
    return wg__solve_add(&s->solver, WG_EQUATION_CONSTRAINT, state->name, state->line,
                         state->column, s->of[at], 1, NULL, (int[]){s->of[state->start]});
}

static bool read_equation(shaping *s, wg_equation *equation) {
    const wg_symbol *symbol = &s->reader->lang->symbol[equation->symbol];
    int value = read_node(s, equation->value);
    if (value < 0)
        return false;
    if (!equation->next) {
        s->of[equation->symbol] = value;
        return true;
    }
    const char *name = wg__reader_text(s->reader, "%s'", symbol->name);
    return name &&
           wg__solve_add(&s->solver, WG_EQUATION_CONSTRAINT, name, equation->line, equation->column,
                         s->of[equation->symbol], 1, &equation->value, &value);
}

static bool read_all(shaping *s) {
    wg_lang *lang = s->reader->lang;
    for (int i = 0; i < lang->symbols; i++)
        if (!start_symbol(s, i))
            return false;
    for (int i = 0; i < lang->symbols; i++)
        if (!start_state(s, i))
            return false;
    for (int i = 0; i < lang->equations; i++)
        if (!read_equation(s, &lang->equation[i]))
            return false;
    return wg__solve_rest(&s->solver);
}

/* ---- what was found
 * ---------------------------------------------------------------------------------------- */

static wg_extent extent_of(shaping *s, int at) {
    const wg_unknown *class = wg__solve_class(&s->solver, at);
    wg_extent extent = class->extent;
    if (extent.rank == 2) {
        const wg_unknown *rows = wg__solve_class(&s->solver, class->rows);
        extent.dim[0] = rows->extent.dim[0];
    }
    return extent;
}

/* How a length came to be known, as the end of a sentence. */
static char *describe(shaping *s, int at, char *text, size_t size) {
    const wg_unknown *self = &s->solver.unknown[at], *class = wg__solve_class(&s->solver, at);
    const wg_constraint *by = class->by >= 0 ? &s->solver.constraint[class->by] : NULL;
    const wg_constraint *joined = self->joined >= 0 ? &s->solver.constraint[self->joined] : NULL;
    char like[160] = "";
    if (joined)
        snprintf(like, sizeof like, "like the result of '%s' on line %d; ", joined->name,
                 joined->line);
    switch (class->why) {
    case WG_WHY_ONE:
        snprintf(text, size, "%s'%s' on line %d has length 1", like, by->name, by->line);
        break;
    case WG_WHY_RESULT:
        snprintf(text, size, "%sfrom the operands of '%s' on line %d", like, by->name, by->line);
        break;
    case WG_WHY_OPERAND:
        if (by)
            snprintf(text, size, "%sfrom the result of '%s' on line %d", like, by->name, by->line);
        else
            snprintf(text, size, "%sright of '@' on line %d", like, class->line);
        break;
    default: snprintf(text, size, "%shidden, as no line says otherwise", like);
    }
    return text;
}

static void explain_param(shaping *s, int at) {
    wg_symbol *symbol = &s->reader->lang->symbol[at];
    const wg_unknown *class = wg__solve_class(&s->solver, s->of[at]);
    char own[300], rows[300];
    symbol->hidden[0] = class->why == WG_WHY_HIDDEN;
    if (symbol->declared) {
        symbol->reason = wg__reader_text(s->reader, "declared on line %d", symbol->line);
    } else if (class->extent.rank == 2) {
        symbol->hidden[0] = wg__solve_class(&s->solver, class->rows)->why == WG_WHY_HIDDEN;
        symbol->reason = wg__reader_text(s->reader, "left of '@' on line %d; rows: %s", class->line,
                                         describe(s, class->rows, rows, sizeof rows));
    } else {
        symbol->reason = wg__reader_text(s->reader, "%s", describe(s, s->of[at], own, sizeof own));
    }
}

static void publish(shaping *s) {
    wg_lang *lang = s->reader->lang;
    lang->extent =
        wg__take(lang->arena.memory, ((size_t)s->solver.unknowns + 1) * sizeof *lang->extent);
    if (!lang->extent) {
        wg__parser_refused(&s->reader->parser);
        return;
    }
    lang->extents = s->solver.unknowns;
    for (int i = 0; i < lang->extents; i++)
        lang->extent[i] = extent_of(s, i);
    for (int i = 0; i < lang->symbols; i++) {
        if (s->of[i] >= 0)
            lang->symbol[i].extent = lang->extent[s->of[i]];
        if (lang->symbol[i].kind == WG_SYMBOL_PARAM)
            explain_param(s, i);
    }
}

/* ---- what only finished shapes can tell
 * ------------------------------------------------------------------ */

/* slice(v, from, n): from + n <= len(v), wherever the formulas can tell. */
static void check_slice(shaping *s, const wg_ast *ast) {
    wg_lang *lang = s->reader->lang;
    const wg_extent *whole = wg__lang_extent(lang, ast->arg[0]);
    const wg_formula *from = wg__lang_length(lang, &lang->source, ast->arg[1], s->reader->error);
    const wg_formula *n = wg__lang_length(lang, &lang->source, ast->arg[2], s->reader->error);
    char text[120];
    int64_t value = 0;
    if (!from || !n) {
        wg__reader_failed(s->reader, s->reader->error->status);
        return;
    }
    if (wg__formula_constant(from, &value) && value < 0)
        fail(s, WG_RANGE, ast->arg[1], "a slice begins at 0 or later");
    if (whole->rank != 1) {
        fail(s, whole->rank ? WG_UNSUPPORTED : WG_SHAPE, ast,
             whole->rank ? "a slice of a matrix is not supported yet"
                         : "a slice is of a vector, not of a number");
        return;
    }
    const wg_formula *end = wg__formula_add(&lang->arena, from, n);
    const wg_formula *left = wg__formula_sub(&lang->arena, whole->dim[0], end);
    if (!left)
        wg__parser_refused(&s->reader->parser);
    else if (!wg__formula_bad(left) && wg__formula_constant(left, &value) && value < 0)
        wg__reader_fail(s->reader, WG_RANGE, ast->line, ast->column,
                        "this slice ends beyond its vector of shape %s",
                        wg__extent_text(whole, text, sizeof text));
}

/* Matrices stand to the left of @ and nowhere else yet. */
static void check_node(shaping *s, const wg_ast *ast, bool left) {
    if (s->reader->parser.status != WG_OK || ast->shape < 0)
        return;
    if (!left && s->reader->lang->extent[ast->shape].rank == 2) {
        fail(s, WG_UNSUPPORTED, ast,
             "a matrix can stand only to the left of '@': more is not supported yet");
        return;
    }
    for (int i = 0; i < ast->n; i++)
        check_node(s, ast->arg[i], ast->kind == WG_AST_MATMUL && i == 0);
    if (ast->kind == WG_AST_CALL && wg__function_at(s->reader->lang->foreign, ast->symbol).kind == WG_FUNCTION_SLICE)
        check_slice(s, ast);
}

void wg__infer_shapes(wg_reader *reader) {
    wg_lang *lang = reader->lang;
    shaping s = {.solver = {.reader = reader, .head = -1, .tail = -1}, .reader = reader};
    s.of = wg__arena_take(&lang->arena, (size_t)lang->symbols * sizeof *s.of);
    if (!s.of)
        wg__parser_refused(&reader->parser);
    else if (read_all(&s))
        publish(&s);
    for (int i = 0; i < lang->equations && reader->parser.status == WG_OK; i++)
        check_node(&s, lang->equation[i].value, false);
    wg__give(lang->arena.memory, s.solver.unknown);
    wg__give(lang->arena.memory, s.solver.constraint);
}
