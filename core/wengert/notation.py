#!/usr/bin/env python3
"""Writes notation.h, the short names of the ops, from ops.def.   notation.py OPS_DEF OUTPUT"""
import re
import sys

LIBM = "exp expm1 log log1p sqrt sin cos tanh erf".split()
LIBM_TWO = "pow atan2".split()

HEAD = """/* notation.h: the ops under their short names, for files that want to read like the paper:
 *     h = mul(o, tanh(c));   z = sub(1, f);
 * A number where a var is expected becomes wg_c(number). Names that libm has keep its meaning for plain numbers.
 * Include it after every other header. Written from ops.def; do not edit. */
#ifndef WENGERT_NOTATION_H
#define WENGERT_NOTATION_H

#include <math.h>
#include <stdlib.h>

#include "wengert.h"

static inline wg_var wg__same(wg_var x) { return x; }
#define WG_VAR(x) _Generic((x), wg_var: wg__same, default: wg_c)(x)

"""


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    out = [HEAD]
    for name, arguments in re.findall(r"^OP\(\w+,\s*(\w+),\s*\(([^)]*)\)", text, re.M):
        names, passed = [], []
        for argument in arguments.split(","):
            kind, short = re.fullmatch(r"\s*(.*?[\s*])(\w+)\s*", argument).groups()
            names.append(short)
            passed.append(f"WG_VAR({short})" if kind.strip() == "wg_var" else f"({short})")
        out.append(f"#undef {name}\n")
        call = f"wg_{name}({', '.join(passed)})"
        if name in LIBM or name == "abs":
            call = f"_Generic(({names[0]}), wg_var: wg_{name}, default: {name})({names[0]})"
        elif name in LIBM_TWO:
            a, b = names
            call = (f"_Generic(({a}), wg_var: wg_{name}, default: _Generic(({b}), wg_var: wg_{name}, "
                    f"default: {name}))(WG__EITHER({a}, {b}), WG__EITHER({b}, {a}))")
        out.append(f"#define {name}({', '.join(names)}) {call}\n")
    out.append("\n/* x, made a var if the other is one. */\n"
               "#define WG__EITHER(x, other) _Generic((other), wg_var: WG_VAR(x), default: (x))\n"
               "\n#endif\n")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("".join(out))


main()
