/* vmath.h: the functions of libm in their vector forms, where the C library has them: a loop that calls one is turned into
 * calls of libmvec, which is accurate to 4 units in the last place and right for zeros, infinities and NaN. Elsewhere (and
 * with clang, which ignores the attribute) it stays a loop over libm. Includes the C library only. */
#ifndef WG_VMATH_H
#define WG_VMATH_H

#include <math.h>
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
WG__VECTOR2(hypot)
#undef WG__VECTOR1
#undef WG__VECTOR2
#endif

/* x as arithmetic sees it: a subnormal is a zero where subnormals are flushed. Some functions of libmvec (log, pow, atan2) are
 * wrong in that mode for operands that are not zero to integer instructions and are to the rest. */
#define SEEN(x) ((x) == 0 ? (x) * 0 : (x))

#endif
