/* solve.c: steps 2 to 4 of the shape rule, over unknowns and constraints. An unknown is looked at
 * again only when something it stands beside becomes known, so the work is linear in the text.
 * Touches nothing but the solver. */
#include "solve.h"

#include <stdio.h>
#include <string.h>

/* A constraint that an unknown takes part in. */
typedef struct wg_user {
    int constraint;
    struct wg_user *next;
} wg_user;

static wg_arena *arena(wg_solver *solver) { return &solver->reader->lang->arena; }

static bool refused(wg_solver *solver) {
    wg__parser_refused(&solver->reader->parser);
    return false;
}

/* ---- unknowns
 * ------------------------------------------------------------------------------------------ */

int wg__solve_new(wg_solver *solver) {
    void *list = solver->unknown;
    if (!wg__room(arena(solver)->memory, &list, solver->unknowns, &solver->unknown_room,
                  sizeof *solver->unknown)) {
        refused(solver);
        return -1;
    }
    solver->unknown = list;
    int at = (int)solver->unknowns++;
    solver->unknown[at] = (wg_unknown){.parent = at, .by = -1, .joined = -1, .rows = -1};
    return at;
}

int wg__solve_known(wg_solver *solver, int rank, const wg_formula *a, int line) {
    int at = wg__solve_new(solver);
    if (at >= 0) {
        solver->unknown[at].extent = (wg_extent){rank, {a, NULL}};
        solver->unknown[at].why = WG_WHY_GIVEN;
        solver->unknown[at].line = line;
    }
    return at;
}

wg_unknown *wg__solve_class(wg_solver *solver, int at) {
    while (solver->unknown[at].parent != at)
        at = solver->unknown[at].parent = solver->unknown[solver->unknown[at].parent].parent;
    return &solver->unknown[at];
}

bool wg__solve_is_known(wg_solver *solver, int at) {
    return wg__solve_class(solver, at)->why != WG_WHY_OPEN;
}

static bool is_one(wg_solver *solver, int at) {
    return wg__solve_is_known(solver, at) && wg__extent_one(&wg__solve_class(solver, at)->extent);
}

static void enqueue(wg_solver *solver, int at) {
    wg_constraint *constraint = &solver->constraint[at];
    if (constraint->queued)
        return;
    constraint->queued = true;
    constraint->next = -1;
    if (solver->head < 0)
        solver->head = at;
    else
        solver->constraint[solver->tail].next = at;
    solver->tail = at;
}

/* Makes an open unknown known, and queues the constraints it takes part in. */
static void settle(wg_solver *solver, int at, const wg_extent *extent, wg_why why, int by,
                   int line) {
    wg_unknown *class = wg__solve_class(solver, at);
    class->extent = *extent;
    class->why = why;
    class->by = by;
    class->line = line;
    for (wg_user *user = class->first; user; user = user->next)
        enqueue(solver, user->constraint);
}

/* Makes the classes of an operand and its result, two open ones, one. Both have the constraint among their users. */
static void unite(wg_solver *solver, int at, int with, int by) {
    wg_unknown *a = wg__solve_class(solver, at), *b = wg__solve_class(solver, with);
    solver->unknown[at].joined = by;
    a->parent = b->parent;
    b->sum_of_lengths |= a->sum_of_lengths;
    b->last->next = a->first;
    b->last = a->last;
}

/* ---- contradictions
 * ------------------------------------------------------------------------------------ */

static const char *shape_text(wg_solver *solver, int at, char *text, size_t size) {
    return wg__extent_text(&wg__solve_class(solver, at)->extent, text, size);
}

/* Where a shape comes from: " (line 3)", or nothing. */
static const char *since(wg_solver *solver, int at, char *text, size_t size) {
    const wg_unknown *class = wg__solve_class(solver, at);
    int line = class->by >= 0 ? solver->constraint[class->by].line : class->line;
    text[0] = 0;
    if (line > 0)
        snprintf(text, size, " (line %d)", line);
    return text;
}

static bool contradiction(wg_solver *solver, const wg_constraint *c, int operand) {
    char a[120], b[120], since_a[24], since_b[24];
    int other = c->result;
    for (int i = 0; i < c->n && c->kind == WG_POINTWISE_CONSTRAINT; i++)
        if (wg__solve_is_known(solver, c->operand[i]) && !is_one(solver, c->operand[i]) &&
            !wg__extent_equal(&wg__solve_class(solver, c->operand[i])->extent,
                              &wg__solve_class(solver, operand)->extent))
            other = c->operand[i];
    shape_text(solver, operand, a, sizeof a);
    shape_text(solver, other, b, sizeof b);
    if (c->kind == WG_EQUATION_CONSTRAINT)
        wg__reader_fail(solver->reader, WG_SHAPE, c->line, c->column,
                        "%s has shape %s, but its value has shape %s", c->name, b, a);
    else if (other == c->result)
        wg__reader_fail(solver->reader, WG_SHAPE, c->line, c->column,
                        "'%s' gives shape %s, but shape %s is needed%s", c->name, a, b,
                        since(solver, other, since_b, sizeof since_b));
    else
        wg__reader_fail(solver->reader, WG_SHAPE, c->line, c->column,
                        "'%s' of shapes %s%s and %s%s: they differ", c->name, b,
                        since(solver, other, since_b, sizeof since_b), a,
                        since(solver, operand, since_a, sizeof since_a));
    return false;
}

/* ---- step 2
 * --------------------------------------------------------------------------------------------- */

/* (a) R is one: so are all operands. */
static bool rule_a(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    const wg_formula *number = wg__formula_number(arena(solver), 1);
    if (!number)
        return refused(solver);
    wg_extent one = {1, {number, NULL}};
    for (int i = 0; i < c->n; i++)
        if (!wg__solve_is_known(solver, c->operand[i]))
            settle(solver, c->operand[i], &one, WG_WHY_ONE, at, c->line);
    return true;
}

/* (b) An operand that is known and not one has R's shape. */
static bool rule_b(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    for (int i = 0; i < c->n; i++) {
        int operand = c->operand[i];
        if (!wg__solve_is_known(solver, operand) || is_one(solver, operand))
            continue;
        const wg_unknown *known = wg__solve_class(solver, operand);
        if (known->extent.rank == 2)
            return wg__reader_fail(solver->reader, WG_UNSUPPORTED, c->line, c->column,
                                   "'%s' of a matrix is not supported yet", c->name) != NULL;
        if (!wg__solve_is_known(solver, c->result))
            settle(solver, c->result, &known->extent, WG_WHY_RESULT, at, c->line);
        else if (!wg__extent_equal(&known->extent, &wg__solve_class(solver, c->result)->extent))
            return contradiction(solver, c, operand);
    }
    return true;
}

/* (c) All operands are one: so is R. */
static bool rule_c(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    int widest = c->operand[0];
    for (int i = 0; i < c->n; i++) {
        if (!is_one(solver, c->operand[i]))
            return true;
        if (wg__solve_class(solver, c->operand[i])->extent.rank)
            widest = c->operand[i];
    }
    if (!wg__solve_is_known(solver, c->result))
        settle(solver, c->result, &wg__solve_class(solver, widest)->extent, WG_WHY_RESULT, at,
               c->line);
    else if (!is_one(solver, c->result))
        return contradiction(solver, c, widest);
    return true;
}

/* (d) R is known and not one, and all operands but one are one: the last has R's shape. */
static bool rule_d(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    int open = -1;
    for (int i = 0; i < c->n; i++) {
        if (is_one(solver, c->operand[i]))
            continue;
        if (open >= 0 || wg__solve_is_known(solver, c->operand[i]))
            return true;
        open = c->operand[i];
    }
    if (open >= 0)
        settle(solver, open, &wg__solve_class(solver, c->result)->extent, WG_WHY_OPERAND, at,
               c->line);
    return true;
}

/* The length of a concat, when those of its parts are known. */
static bool rule_concat(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    const wg_formula *total = wg__formula_number(arena(solver), 0);
    for (int i = 0; i < c->n && total; i++) {
        if (!wg__solve_is_known(solver, c->operand[i]))
            return true;
        const wg_extent *part = &wg__solve_class(solver, c->operand[i])->extent;
        if (part->rank == 2)
            return wg__reader_fail(solver->reader, WG_UNSUPPORTED, c->line, c->column,
                                   "'concat' of a matrix is not supported yet") != NULL;
        const wg_formula *length = part->rank ? part->dim[0] : wg__formula_number(arena(solver), 1);
        total = wg__formula_add(arena(solver), total, length);
    }
    if (!total)
        return refused(solver);
    wg_extent sum = {1, {total, NULL}};
    char a[120], b[120], line[24];
    if (wg__formula_bad(total))
        wg__reader_fail(solver->reader, WG_RANGE, c->line, c->column,
                        "this length is too large a formula");
    else if (!wg__solve_is_known(solver, c->result))
        settle(solver, c->result, &sum, WG_WHY_RESULT, at, c->line);
    else if (!wg__extent_equal(&sum, &wg__solve_class(solver, c->result)->extent))
        wg__reader_fail(solver->reader, WG_SHAPE, c->line, c->column,
                        "'concat' gives shape %s, but shape %s is needed%s",
                        wg__extent_text(&sum, a, sizeof a),
                        shape_text(solver, c->result, b, sizeof b),
                        since(solver, c->result, line, sizeof line));
    return solver->reader->parser.status == WG_OK;
}

/* Everything that one constraint says now. (e), a vector beside a matrix, comes with matrices as
 * values. */
static bool look_at(wg_solver *solver, int at) {
    const wg_constraint *c = &solver->constraint[at];
    if (c->kind == WG_CONCAT_CONSTRAINT)
        return rule_concat(solver, at);
    if (is_one(solver, c->result) && !rule_a(solver, at))
        return false;
    if (!rule_b(solver, at) || !rule_c(solver, at))
        return false;
    return !wg__solve_is_known(solver, c->result) || is_one(solver, c->result) ||
           rule_d(solver, at);
}

static bool propagate(wg_solver *solver) {
    while (solver->head >= 0) {
        int at = solver->head;
        solver->head = solver->constraint[at].next;
        solver->constraint[at].queued = false;
        if (!look_at(solver, at))
            return false;
    }
    return true;
}

bool wg__solve_set(wg_solver *solver, int at, const wg_extent *extent, wg_why why, int by,
                   int line) {
    settle(solver, at, extent, why, by, line);
    return propagate(solver);
}

/* ---- constraints
 * ---------------------------------------------------------------------------------------- */

static bool add_user(wg_solver *solver, int unknown, int constraint) {
    wg_user *user = wg__arena_take(arena(solver), sizeof *user);
    if (!user)
        return refused(solver);
    *user = (wg_user){constraint, NULL};
    wg_unknown *class = wg__solve_class(solver, unknown);
    if (class->last)
        class->last->next = user;
    else
        class->first = user;
    class->last = user;
    return true;
}

bool wg__solve_add(wg_solver *solver, wg_constraint_kind kind, const char *name, int line,
                   int column, int result, int n, wg_ast **ast, const int *operand) {
    void *list = solver->constraint;
    int *copy = wg__arena_take(arena(solver), (size_t)n * sizeof *copy);
    if (!copy || !wg__room(arena(solver)->memory, &list, solver->constraints,
                           &solver->constraint_room, sizeof *solver->constraint))
        return refused(solver);
    solver->constraint = list;
    memcpy(copy, operand, (size_t)n * sizeof *copy);
    int at = (int)solver->constraints++;
    solver->constraint[at] = (wg_constraint){.kind = kind,
                                             .name = name,
                                             .line = line,
                                             .column = column,
                                             .result = result,
                                             .n = n,
                                             .operand = copy,
                                             .ast = ast,
                                             .next = -1};
    for (int i = 0; i < n; i++)
        if (!add_user(solver, operand[i], at))
            return false;
    if (!add_user(solver, result, at))
        return false;
    enqueue(solver, at);
    return propagate(solver);
}

/* ---- steps 3 and 4
 * -------------------------------------------------------------------------------------- */

static bool all_beside_are_one(wg_solver *solver, const wg_constraint *c, int operand) {
    for (int i = 0; i < c->n; i++)
        if (i != operand && !is_one(solver, c->operand[i]))
            return false;
    return true;
}

/* Gives every open operand of a constraint its result's shape, known or not. */
static bool close_operands(wg_solver *solver, int at) {
    for (int i = 0; i < solver->constraint[at].n; i++) {
        const wg_constraint *c = &solver->constraint[at];
        int operand = c->operand[i];
        if (wg__solve_is_known(solver, operand) ||
            wg__solve_class(solver, operand) == wg__solve_class(solver, c->result))
            continue;
        const wg_ast *ast = c->ast ? c->ast[i] : NULL;
        if (ast && ast->kind == WG_AST_NAME &&
            solver->reader->lang->symbol[ast->symbol].kind == WG_SYMBOL_PARAM &&
            all_beside_are_one(solver, c, i))
            return wg__reader_fail(
                       solver->reader, WG_SHAPE, ast->line, ast->column,
                       "the size of '%s' has to be given, as everything beside it has length 1: "
                       "param %s[1], or param %s[n]",
                       ast->name, ast->name, ast->name) != NULL;
        if (wg__solve_is_known(solver, c->result))
            settle(solver, operand, &wg__solve_class(solver, c->result)->extent, WG_WHY_OPERAND, at,
                   c->line);
        else
            unite(solver, operand, c->result, at);
        if (!propagate(solver))
            return false;
    }
    return true;
}

/* Step 4: what is open is `hidden`; sums of lengths only when nothing else is open. */
static bool close_lengths(wg_solver *solver, bool sums) {
    wg_extent hidden = {1, {solver->reader->lang->symbol[1].size, NULL}};
    for (int i = 0; i < solver->unknowns; i++) {
        const wg_unknown *class = wg__solve_class(solver, i);
        if (class->why == WG_WHY_OPEN && class->sum_of_lengths == sums &&
            !wg__solve_set(solver, i, &hidden, WG_WHY_HIDDEN, -1, 0))
            return false;
    }
    return true;
}

bool wg__solve_rest(wg_solver *solver) {
    for (int i = 0; i < solver->constraints; i++)
        if (solver->constraint[i].kind != WG_CONCAT_CONSTRAINT && !close_operands(solver, i))
            return false;
    return close_lengths(solver, false) && close_lengths(solver, true);
}
