/* lang.h: a cell's text as a checked tree: names, equations, lengths, initialiser lines. Recording
 * reads this and never the text. Built by lang.c (lines and names), shapes.c (lengths) and
 * initialisers.c (init lines). */
#ifndef WG_LANG_H
#define WG_LANG_H

#include "foreign.h"
#include "formula.h"

/* The largest text, and the most names in it. */
enum { WG_LANG_SIZE = 1 << 17, WG_LANG_NAMES = 4096 };

/* The shape of a value in formulas: rank 0 is a number, 1 a vector of length dim[0], 2 a matrix
 * [dim[0], dim[1]]. */
typedef struct wg_extent {
    int rank;
    const wg_formula *dim[2];
} wg_extent;

typedef enum wg_symbol_kind {
    WG_SYMBOL_INPUT,
    WG_SYMBOL_SIZE,  /* a number in equations; `input` and `hidden` are the first two symbols */
    WG_SYMBOL_CONST, /* a number in equations */
    WG_SYMBOL_STATE, /* `h` is its value before the step, `h'` (WG_AST_NEXT of its name) after it */
    WG_SYMBOL_PARAM,
    WG_SYMBOL_VALUE /* defined by an equation */
} wg_symbol_kind;

/* One name of the cell. */
typedef struct wg_symbol {
    wg_symbol_kind kind;
    const char *name;
    int line, column; /* of its declaration, its equation, or the first use of a free name; 0 if
                         nowhere */
    wg_extent extent; /* complete after parsing; numbers have rank 0 */
    int equation;     /* VALUE: its equation. STATE: that of its next value */
    bool used;
    /* PARAM */
    bool fixed;         /* stored and read by name, not trained */
    bool declared;      /* its size is given in the text */
    bool hidden[2];     /* dim[i] is `hidden` because nothing said otherwise */
    const char *reason; /* why it has its shape, for people */
    /* STATE: starts from a parameter, else from a number (0 unless given) or what the caller gives
     */
    int start;              /* a PARAM's index, or -1 */
    const wg_ast *start_at; /* a number as an expression in sizes and consts, or NULL */
    /* SIZE, CONST */
    const wg_formula *size; /* SIZE: its value as a length */
    const wg_ast *value;    /* CONST: an expression in numbers, sizes and earlier consts, */
    wg_source value_source; /* which stands here */
} wg_symbol;

/* name = value, or name' = value. Equations stand in the order of the text, which is the order to
 * compute them in. In `value`, a NAME's (or a NEXT's) `symbol` is an index into the cell's symbols,
 * a CALL's or operator's a number for wg__function_at, and every node's `shape` an index for
 * wg__lang_extent. */
typedef struct wg_equation {
    int symbol; /* a VALUE or a STATE */
    bool next;  /* a state's next value */
    wg_ast *value;
    int line, column;
} wg_equation;

/* init PATTERN = INITIALISER, from the text or, with line 0, from outside (then `source` is that
 * text). */
typedef struct wg_init_line {
    const char *pattern;
    const wg_ast *value;
    wg_source source;
    int line, column;
    bool matched;
} wg_init_line;

typedef struct wg_warning {
    int line, column;
    const char *text; /* FILE:LINE:COL: message */
} wg_warning;

/* How a function of the language is computed. */
typedef enum wg_function_kind {
    WG_FUNCTION_POINTWISE, /* the op of that name, of `values` values and then numbers */
    WG_FUNCTION_SAME,      /* softmax log_softmax layer_norm rms_norm cumsum stop_gradient: v to v's
                              shape */
    WG_FUNCTION_CONCAT,    /* values to the sum of their lengths */
    WG_FUNCTION_REDUCE,    /* sum mean: v to length 1 */
    WG_FUNCTION_DOT,       /* dot(u, v): length 1, as sum(u*v) */
    WG_FUNCTION_SLICE,     /* slice(v, from, n): two lengths */
    WG_FUNCTION_DROPOUT,   /* dropout(v, p): p is a number */
    WG_FUNCTION_BERNOULLI, /* bernoulli(p, n): a number and a length */
    WG_FUNCTION_INDEX,     /* index(n): a length */
    WG_FUNCTION_FOREIGN,   /* a C function of arrays: values to what it makes of them */
    WG_FUNCTION_LATER      /* known, and not supported yet */
} wg_function_kind;

typedef struct wg_cell_function {
    const char *name;
    wg_function_kind kind;
    int least, most; /* arguments; most -1: any number */
    int values;      /* arguments that are values; the rest are numbers or lengths */
    wg_var (*build)(wg_var v); /* SAME and REDUCE: what records it */
} wg_cell_function;

/* A function's number (the symbol of a CALL, and of an operator that is an op), -1 if there is none of that name; and
 * back. foreign: where C functions are bound, or NULL. */
int wg__function_find(const wg_foreign *foreign, const char *name);
wg_cell_function wg__function_at(const wg_foreign *foreign, int number);
/* For recording: the op of a pointwise function or of a C function, NULL of another; and that other's row. */
const wg_op *wg__function_op(const wg_foreign *foreign, int number);
const wg_cell_function *wg__function_row(int number);

/* A cell's text, read, named and shaped. */
typedef struct wg_lang {
    wg_arena arena; /* owns everything below */
    wg_source source;
    const char *name, *cite; /* cite: NULL if none */
    bool tied;               /* size hidden = input */
    int64_t symbols, equations, inits, warnings;
    wg_symbol *symbol;
    wg_equation *equation;
    wg_init_line *init;
    wg_warning *warning;
    int inputs, states, params; /* in the order of the text */
    int *input, *state, *param; /* indices into symbol */
    int output;                 /* a VALUE, or a STATE (its next value) */
    int64_t extents;
    wg_extent *extent; /* by a node's `shape` */
    wg_lookup names; /* of symbols */
    wg_foreign *foreign; /* C functions that it may call; NULL: none */
} wg_lang;

/* Reads a text (copied). `name` stands for the file in messages; options: NULL for none. NULL on failure. */
wg_lang *wg__lang_parse(wg_memory *memory, const char *name, const char *text, size_t size,
                        const wg_cell_options *options, wg_error *error);
/* The same for a cell whose equations are a C function: the text has declarations only. */
wg_lang *wg__lang_declare(wg_memory *memory, const char *name, const char *text, size_t size, wg_error *error);
void wg__lang_free(wg_lang *lang);

int wg__lang_find(const wg_lang *lang, const char *name); /* a symbol's index, or -1 */
int wg__lang_param(const wg_lang *lang, int symbol);      /* a parameter's place in `param` */
const wg_extent *wg__lang_extent(const wg_lang *lang, const wg_ast *ast);

/* Of expressions outside equations (sizes, consts, arguments of initialisers), which stand in
 * `source`: An expression that is a length (sizes and whole numbers, + - * /), as a formula; NULL,
 * with an error, if it is not. */
const wg_formula *wg__lang_length(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                                  wg_error *error);
/* Fails at the first place unless the expression is made of numbers, sizes and consts. Marks them
 * as used. */
wg_status wg__lang_is_number(wg_lang *lang, const wg_source *source, const wg_ast *ast,
                             wg_error *error);
/* The value of such an expression, checked before by one of these two, when input and hidden are known. */
wg_status wg__lang_number(const wg_lang *lang, const wg_source *source, const wg_ast *ast,
                          int64_t input, int64_t hidden, double *value, wg_error *error);
/* A symbol's sizes when input and hidden are known; WG_RANGE with the place if one is not whole or
 * less than 1. Also checks that a tied hidden is input. */
wg_status wg__lang_shape(const wg_lang *lang, int symbol, int64_t input, int64_t hidden,
                         wg_shape *shape, wg_error *error);
/* All sizes of the cell and starts of its states at once, so that a bad one is told before any work. */
wg_status wg__lang_check_sizes(const wg_lang *lang, int64_t input, int64_t hidden, wg_error *error);

char *wg__extent_text(const wg_extent *extent, char *text,
                      size_t size); /* "[2*hidden, input]", "number" */
bool wg__extent_one(const wg_extent *extent);
bool wg__extent_equal(const wg_extent *a, const wg_extent *b);

#endif
