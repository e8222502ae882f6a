/* prototype.h: C prototypes as text: their own small language, read into a tree with what libffi needs to know. Includes only core,
 * expr.h and libffi.
 *
 *   double gsl_sf_bessel_J0(double)
 *   double gsl_sf_bessel_Jn(int n, double x)
 *   void scan(long n, const double x[n], double y[n])
 *   double cblas_ddot(int n, const double x[n], int incx = 1, const double y[n], int incy = 1)
 *   struct {double dat[2];} gsl_complex_exp(struct {double dat[2];} z)
 *   double (*)(unsigned n: size, const double *x: point, double *grad: gradient, void *data: user): value
 *   int f(const struct {size_t size: size; size_t stride; double *data: point;} *x, double *y: value): status
 *
 * The grammar:
 *   prototype  = type declarator "(" [ "void" | parameter { "," parameter } ] ")" [ ":" role ] [ ";" ]
 *   declarator = name | "(" "*" [ name ] ")"
 *   parameter  = type [ name ] { "[" [ length ] "]" } [ "=" [ "-" ] number | "=" "NULL" ] [ ":" role ]
 *   type       = starless stars
 *   starless   = { "const" | "restrict" } base { "const" }
 *   stars      = { "*" { "const" | "restrict" } }
 *   base       = "struct" [ tag ] "{" { starless field { "," field } ";" } "}" | the words of a C type
 *   field      = stars name { "[" whole "]" } [ ":" role ]
 *   role       = name [ whole number ]
 *   length     = an expression of expr.h, in names of parameters
 * base words: void, float, double; char, short, int, long, long long with signed and unsigned, in C's orders; bool (_Bool), size_t,
 * ssize_t, ptrdiff_t, int8_t … int64_t, uint8_t … uint64_t, intptr_t, uintptr_t. A field's lengths are whole numbers. An array as a
 * parameter is a pointer, as in C; only a first "[]" may say no length. "restrict" may be "__restrict"; no word of types is a name. */
#ifndef WG_PROTOTYPE_H
#define WG_PROTOTYPE_H

#include <ffi.h>

#include "expr.h"

/* The longest text; the most parameters or fields of a struct; structs in each other, or stars of a type; scalars in a struct. */
enum { WG_PROTOTYPE_SIZE = 1 << 14, WG_PROTOTYPE_PARAMETERS = 64, WG_PROTOTYPE_DEPTH = 8, WG_PROTOTYPE_SCALARS = 256 };

typedef enum wg_ctype_kind {
    WG_CTYPE_VOID,
    WG_CTYPE_INTEGER,
    WG_CTYPE_FLOAT,
    WG_CTYPE_DOUBLE,
    WG_CTYPE_POINTER,
    WG_CTYPE_STRUCT
} wg_ctype_kind;

typedef struct wg_ctype wg_ctype;

/* A parameter, a field, or what is returned. */
typedef struct wg_slot {
    const wg_ctype *type;
    const char *name;          /* NULL: none */
    const char *role;          /* NULL: none */
    int64_t number;            /* the role's, -1 if it has none */
    int lengths;               /* of a parameter: brackets that were written, the first of which may be empty; of a field 0: they are in
                                  the type's `count` */
    const wg_ast *length[WG_MAX_RANK]; /* of a parameter; NULL: "[]" */
    bool fixed;                /* "= value" was written */
    double value;              /* and this: of a pointer 0 */
    size_t offset;             /* of a field, in bytes */
    int line, column;          /* of the slot's type; of a field its name */
} wg_slot;

struct wg_ctype {
    wg_ctype_kind kind;
    bool is_const;      /* what this is, or, of a pointer, what it points to, is const */
    bool is_signed;     /* INTEGER; a char is */
    bool is_bool;       /* INTEGER: holds 0 and 1 */
    size_t size;        /* bytes: of an INTEGER 1, 2, 4 or 8; of void 0 */
    const wg_ctype *to; /* POINTER */
    int fields;         /* STRUCT */
    const wg_slot *field;
    int64_t count;      /* of a field's array of this: its elements in a row, all axes multiplied; else 1 */
    ffi_type *ffi;      /* of one element; in the arena. Pointers are &ffi_type_pointer. A struct's has its size and alignment set */
};

typedef struct wg_prototype {
    const char *name; /* NULL: "(*)" */
    wg_slot result;
    int parameters;
    const wg_slot *parameter;
    ffi_type **ffi;   /* of the parameters, for ffi_prep_cif */
} wg_prototype;

/* Reads a whole text. The tree lies in the arena and needs no source afterwards. Fails with the place: WG_SYNTAX (also a name used twice,
 * a value out of its type's range, a length that is not made of names, whole numbers, + - *); WG_UNSUPPORTED, with what it is called, for
 * what libffi cannot express or this does not read: "...", unions, enums, long double, _Complex, bit fields, a struct without
 * fields, a parameter that is a function, arrays returned; WG_RANGE (more than the limits above); WG_MEMORY, WG_LIMIT. */
wg_status wg__prototype_parse(const wg_source *source, wg_arena *arena, const wg_prototype **prototype, wg_error *error);

/* The type as C writes it, cut to `size` bytes: "const double *", "struct {double; double;}"; returns text. */
char *wg__ctype_text(const wg_ctype *type, char *text, size_t size);

static inline bool wg__ctype_is_number(const wg_ctype *type) {
    return type->kind == WG_CTYPE_INTEGER || type->kind == WG_CTYPE_FLOAT || type->kind == WG_CTYPE_DOUBLE;
}

/* A scalar of C (INTEGER, FLOAT, DOUBLE) as a double, and back. Back: false if an integer cannot hold just that value. */
double wg__ctype_get(const wg_ctype *type, const void *from);
bool wg__ctype_set(const wg_ctype *type, void *to, double value);

#endif
