#!/usr/bin/env python3
"""Writes notation.h, the short names of the ops, from ops.def.   notation.py OPS_DEF OUTPUT"""
import re
import sys

# Names the C library has: for plain numbers they keep its meaning.
C_LIBRARY = "abs exp expm1 log log1p sqrt sin cos tanh erf floor pow atan2 hypot".split()

HEAD = """/* notation.h: the ops under their short names, for files that want to read like the paper:
 *     h = mul(o, tanh(c));   z = sub(1, f);
 * A number where a var is expected becomes wg_c(number); anything else does not compile. Names that the C library has keep
 * its meaning where no operand is a var. Include it after every other header. C only (it needs _Generic): in C++ it is
 * empty. Written from ops.def; do not edit. */
#ifndef WENGERT_NOTATION_H
#define WENGERT_NOTATION_H
#ifndef __cplusplus

#include <math.h>
#include <stdlib.h>

#include "wengert.h"

static inline wg_var wg__same(wg_var x) { return x; }

/* x if it is a var, wg_c(x) if it is a real number. */
#define WG_VAR(x)                                                                                  \\
    _Generic((x), wg_var: wg__same, double: wg_c, float: wg_c, long double: wg_c, int: wg_c,       \\
        unsigned: wg_c, long: wg_c, unsigned long: wg_c, long long: wg_c,                          \\
        unsigned long long: wg_c, short: wg_c, unsigned short: wg_c, signed char: wg_c,            \\
        unsigned char: wg_c, char: wg_c, _Bool: wg_c)(x)
/* x, made a var if the other is one. */
#define WG__EITHER(x, other) _Generic((other), wg_var: WG__LIFT(x), default: (x))
#define WG__LIFT(x) _Generic((x), wg_var: wg__same, default: wg_c)(x)

"""


def macro(name, names, passed):
    """The body of the macro."""
    if name not in C_LIBRARY:
        return f"wg_{name}({', '.join(passed)})"
    if len(names) == 1:
        return f"_Generic(({names[0]}), wg_var: wg_{name}, default: {name})({names[0]})"
    a, b = names
    return (f"_Generic(({a}), wg_var: wg_{name}, default: _Generic(({b}), wg_var: wg_{name}, "
            f"default: {name}))(WG__EITHER({a}, {b}), WG__EITHER({b}, {a}))")


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    out = [HEAD]
    for name, arguments in re.findall(r"^OP\(\w+,\s*(\w+),\s*\(([^)]*)\)", text, re.M):
        names, passed = [], []
        for argument in arguments.split(","):
            kind, short = re.fullmatch(r"\s*(.*?[\s*])(\w+)\s*", argument).groups()
            names.append(short)
            passed.append(f"WG_VAR({short})" if kind.strip() == "wg_var" else f"({short})")
        out.append(f"#undef {name}\n#define {name}({', '.join(names)}) {macro(name, names, passed)}\n")
    out.append("\n#endif\n#endif\n")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("".join(out))


main()
