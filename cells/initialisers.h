/* initialisers.h: which initialiser each parameter of a cell has (from init lines, lines from
 * outside, or the default rule), and drawing its first values. */
#ifndef WG_INITIALISERS_H
#define WG_INITIALISERS_H

#include "lang.h"

/* Every initialiser that a text can name: the least and most arguments, whether it is for matrices
 * only. */
#define WG_INIT_MAP(X)                                                                             \
    X(zeros, 0, 0, false)                                                                          \
    X(ones, 0, 0, false)                                                                           \
    X(uniform, 1, 2, false)       /* U[-a, a), or U[a, b) */                                       \
    X(normal, 1, 1, false)        /* N(0, s^2) */                                                  \
    X(log_uniform, 2, 2, false)   /* e to the power of U[ln a, ln b) */                            \
    X(linspace, 2, 2, false)      /* from a to b in equal steps */                                 \
    X(glorot_uniform, 0, 0, true) /* U of variance 2/(fan_in + fan_out). Glorot & Bengio 2010 */   \
    X(glorot_normal, 0, 0, true)                                                                   \
    X(he_uniform, 0, 0, true) /* variance 2/fan_in. He et al. 2015 */                              \
    X(he_normal, 0, 0, true)                                                                       \
    X(lecun_normal, 0, 0, true) /* N(0, 1/fan_in). LeCun et al. 1998 */                            \
    X(orthogonal, 0, 1, true)   /* gain times a Haar-distributed one. Saxe et al. 2014 */          \
    X(identity, 0, 1, true)     /* gain on the diagonal. Le et al. 2015 */                         \
    X(sparse, 2, 2, false)      /* N(0, s^2) with probability `density`, else 0 */                 \
    X(spectral, 2, 2, true)     /* sparse, scaled to a spectral radius. Jaeger 2001 */             \
    X(chrono, 1, 1, false)      /* ln U[1, T-1). Tallec & Ollivier 2018 */

typedef enum wg_init_kind {
#define WG_INIT_ENUM(name, least, most, matrix) WG_INIT_##name,
    WG_INIT_MAP(WG_INIT_ENUM)
#undef WG_INIT_ENUM
        WG_INIT_NAMED,              /* how many have a name */
    WG_INIT_NUMBER = WG_INIT_NAMED, /* every element arg[0] */
    WG_INIT_NEGATIVE,               /* minus the parameter `of` */
    WG_INIT_NONE,                   /* a factor: no default */
    WG_INIT_FAN_IN,                 /* N(0, 1/fan_in): what `check` and `bench` draw */
    WG_INIT_PYTORCH,                /* the sum of `draws` from U(-1/sqrt(hidden), 1/sqrt(hidden)) */
    WG_INIT_FLAX,        /* N(0, 1/fan_in) cut at two deviations, rescaled to that variance */
    WG_INIT_KERAS_INPUT, /* a part of a glorot_uniform matrix of `parts` stacked ones */
    WG_INIT_KERAS_STATE  /* part number `part` of an orthogonal matrix of `parts` stacked ones */
} wg_init_kind;

typedef struct wg_initialiser {
    wg_init_kind kind;
    int n;
    const wg_ast *arg[2];
    wg_source source; /* where arg stands */
    int line;         /* of the init line; 0: the default rule, or from outside */
    bool outside;     /* from outside: a line or a scheme */
    int of;           /* NEGATIVE: a symbol */
    int draws, part, parts;
} wg_initialiser;

/* The initialiser of every parameter, in the order of lang->param. */
typedef struct wg_inits {
    wg_arena arena;
    wg_lang *lang; /* not owned */
    wg_initialiser *of;
} wg_inits;

/* lines: from outside, after those of the text: "U_*=orthogonal(1.2)", or a library's whole scheme,
 * "pytorch", "keras", "flax", or "fan_in" for N(0, 1/fan_in) everywhere. The last match wins; no
 * match is an error. NULL on failure. */
wg_inits *wg__inits_new(wg_memory *memory, wg_lang *lang, int lines, const char *const *line,
                        wg_error *error);
void wg__inits_free(wg_inits *inits);
/* Fails, naming the first, if a parameter has no initialiser. */
wg_status wg__inits_complete(const wg_inits *inits, wg_error *error);
/* "orthogonal(1.2)", "-b_f", "none: give an init line", cut to `size` bytes; returns text. */
char *wg__inits_text(const wg_inits *inits, int param, char *text, size_t size);
/* Draws the first values of lang->param[param] into a float tensor of its shape. The values follow
 * from the seed, the layer and the parameter's name. */
wg_status wg__inits_draw(const wg_inits *inits, int param, int64_t input, int64_t hidden,
                         uint64_t seed, uint64_t layer, wg_tensor *tensor, wg_error *error);

/* How a cell uses a parameter. */
typedef struct wg_use {
    bool on_state; /* a matrix whose right operand depends, through any lines, on a state */
    bool added;    /* a term of a sum */
    bool start;    /* what a state starts from */
    bool factor;   /* anything else */
    int products;  /* the most products with a matrix in a sum that it is a term of */
} wg_use;

/* uses.c: the uses of every symbol, in the arena; NULL when refused. */
const wg_use *wg__param_uses(const wg_lang *lang, wg_arena *arena);

/* draw.c: the values; `value` holds dim[0]*dim[1] of them, row by row. */
typedef struct wg_drawing {
    wg_init_kind kind;
    int rank;
    int64_t rows, columns; /* a vector has one column */
    double arg[2];
    int n, draws, part, parts;
    int64_t hidden;
    wg_random random;
    wg_memory *memory;
    double *value;
} wg_drawing;
/* NULL, or why the arguments or sizes are wrong; WG_MEMORY or WG_LIMIT in *status when refused. */
const char *wg__draw(wg_drawing *drawing, wg_status *status);

#endif
