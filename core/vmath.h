/* vmath.h: the functions of libm in their vector forms, where the C library has them: a loop that calls one is turned into
 * calls of libmvec, which is accurate to 4 units in the last place and right for zeros, infinities and NaN. Elsewhere (and
 * with clang, which ignores the attribute) it stays a loop over libm. Includes the C library only. */
#ifndef WG_VMATH_H
#define WG_VMATH_H

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <tgmath.h>
#undef I /* of complex.h */

#if WG_HAVE_LIBMVEC && defined(__GNUC__) && !defined(__clang__)
#define WG__VECTOR1(name)                                                                          \
    __attribute__((simd("notinbranch"))) double(name)(double);                                     \
    __attribute__((simd("notinbranch"))) float(name##f)(float);
#define WG__VECTOR2(name)                                                                          \
    __attribute__((simd("notinbranch"))) double(name)(double, double);                             \
    __attribute__((simd("notinbranch"))) float(name##f)(float, float);
WG__VECTOR1(exp)
WG__VECTOR1(expm1)
WG__VECTOR1(log)
WG__VECTOR1(log1p)
WG__VECTOR1(sin)
WG__VECTOR1(cos)
WG__VECTOR1(tanh)
WG__VECTOR1(erf)
WG__VECTOR1(erfc)
WG__VECTOR2(pow)
WG__VECTOR2(atan2)
#undef WG__VECTOR1
#undef WG__VECTOR2
#endif

/* x as arithmetic sees it: a subnormal is a zero where subnormals are flushed. Some functions of libmvec (log, pow, atan2) are
 * wrong in that mode for operands that are not zero to integer instructions and are to the rest. */
#define SEEN(x) ((x) == 0 ? (x) * 0 : (x))

/* a if a order b, else b, as arithmetic sees it; a NaN where there is one, and of two a itself. Some instructions that
 * select flush subnormals and others do not, and of a sum of two NaNs the compiler chooses the sign: this way the bits are the
 * same in every form that it gives it. */
#define EXTREME(T, a, order, b)                                                                    \
    ({                                                                                             \
        T most = (a)order(b) ? (a) : (b);                                                          \
        most = (a) != (a) ? (a) : most;                                                            \
        SEEN(most);                                                                                \
    })

/* Whether x is a zero to the bit: arithmetic that flushes subnormals takes them for one. */
#define IS_ZERO(x)                                                                                 \
    ({                                                                                             \
        const typeof(x) size = fabs(x), zero = 0;                                                  \
        memcmp(&size, &zero, sizeof zero) == 0;                                                    \
    })

/* sqrt(a^2 + b^2) to 2 units in the last place; infinite where an operand is, even beside a NaN. Scaled by a power of 2,
 * so that no square overflows, and what underflows is too small to count (a scale of 1 in the middle would be folded into
 * each use, and slower). libmvec has it too, but its form for AVX-512 corrects a root by differences of such squares, which
 * are lost where subnormals are flushed: it is off by up to a tenth below 1e-18 (f32) and 1e-150 (f64). */
#define HYPOT(T, a, b)                                                                             \
    ({                                                                                             \
        const bool narrow = sizeof(T) == sizeof(float);                                            \
        const T least = (T)(narrow ? 0x1p-48 : 0x1p-480), up = (T)(narrow ? 0x1p104 : 0x1p600);    \
        const T most = (T)(narrow ? 0x1p62 : 0x1p510), down = (T)(narrow ? 0x1p-70 : 0x1p-600);    \
        const T p = fabs(a), q = fabs(b), longer = p > q ? p : q, shorter = p > q ? q : p;         \
        const T scale = longer < least ? up : longer > most ? down : 2;                            \
        const T back = longer < least ? 1 / up : longer > most ? 1 / down : (T)0.5;                \
        const T l = longer * scale, s = shorter * scale;                                           \
        ((p == (T)INFINITY) | (q == (T)INFINITY)) ? (T)INFINITY : sqrt(l * l + s * s) * back;      \
    })

#endif
