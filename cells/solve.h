/* solve.h: shapes as unknowns, and the constraints between them: steps 2 to 4 of the shape rule.
 * Used by shapes.c, which reads the lines (step 1). */
#ifndef WG_SOLVE_H
#define WG_SOLVE_H

#include "reader.h"

/* How a shape came to be known. */
typedef enum wg_why {
    WG_WHY_OPEN,
    WG_WHY_GIVEN,   /* declared, or of a known kind: a number, an input, a length */
    WG_WHY_PRODUCT, /* the left side of @ */
    WG_WHY_ONE,     /* rule (a): operand of a result of length 1 */
    WG_WHY_RESULT,  /* rules (b) and (c): the result of known operands */
    WG_WHY_OPERAND, /* rule (d) and step 3: operand of a known result */
    WG_WHY_HIDDEN   /* step 4 */
} wg_why;

/* One unknown: the shape of a node or a name. Unknowns that are known to be equal are one class. */
typedef struct wg_unknown {
    int parent; /* itself: it speaks for its class */
    wg_extent extent;
    wg_why why;
    int by;              /* the constraint that made it known, or -1 */
    int joined;          /* the constraint by which it joined another's class, or -1 */
    int line;            /* of a given shape, or of the @ */
    int rows;            /* of a matrix: the unknown whose length is the number of rows */
    bool sum_of_lengths; /* the result of a concat: not `hidden` while the parts are open */
    struct wg_user *first, *last;
} wg_unknown;

typedef enum wg_constraint_kind {
    WG_POINTWISE_CONSTRAINT,
    WG_EQUATION_CONSTRAINT, /* the = of a next value, or of a state's start */
    WG_CONCAT_CONSTRAINT
} wg_constraint_kind;

typedef struct wg_constraint {
    wg_constraint_kind kind;
    const char *name; /* "+", "tanh", "h'" */
    int line, column;
    int result, n;
    int *operand;
    wg_ast **ast; /* the operands' nodes; NULL for a state's start */
    bool queued;
    int next; /* in the queue, or -1 */
} wg_constraint;

typedef struct wg_solver {
    wg_reader *reader;
    wg_unknown *unknown;
    wg_constraint *constraint;
    int64_t unknowns, constraints, unknown_room, constraint_room;
    int head, tail; /* of the queue of constraints to look at; -1 */
} wg_solver;

/* A new unknown, open; -1 when refused. */
int wg__solve_new(wg_solver *solver);
int wg__solve_known(wg_solver *solver, int rank, const wg_formula *a, int line);
/* The unknown that speaks for a class. */
wg_unknown *wg__solve_class(wg_solver *solver, int unknown);
bool wg__solve_is_known(wg_solver *solver, int unknown);
/* Adds a constraint and draws its consequences (step 2); false on a contradiction. */
bool wg__solve_add(wg_solver *solver, wg_constraint_kind kind, const char *name, int line,
                   int column, int result, int n, wg_ast **ast, const int *operand);
/* Gives an open unknown a shape, and draws the consequences. */
bool wg__solve_set(wg_solver *solver, int unknown, const wg_extent *extent, wg_why why, int by,
                   int line);
/* Steps 3 and 4. */
bool wg__solve_rest(wg_solver *solver);

#endif
