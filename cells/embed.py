#!/usr/bin/env python3
"""embed.py FOLDER OUT.c: writes every FOLDER/*.cell as a C string, for zoo.h. Leaves OUT.c alone if nothing changed, so
that it can be run at every build and a new cell edits no build file."""
import pathlib
import sys

folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def literal(data):
    plain = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else "\\%03o" % b for b in data)
    return '"' + plain.replace("\\012", '\\n"\n     "') + '"'


cells = [(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.cell"))]
text = '/* Written by embed.py. */\n#include "zoo.h"\n\nconst wg_zoo_cell wg__zoo[] = {\n'
text += "".join('    {"%s",\n     %s, %d},\n' % (name, literal(data), len(data)) for name, data in cells)
text += "};\nconst int wg__zoo_count = %d;\n" % len(cells)
if not out.exists() or out.read_text() != text:
    out.write_text(text)
