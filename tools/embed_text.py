#!/usr/bin/env python3
"""embed_text.py NAME FILE OUT.c: writes a text file as the C string NAME."""
import pathlib
import sys

name, source, out = sys.argv[1:]
lines = pathlib.Path(source).read_text(encoding="ascii").split("\n")
body = "\n".join('    "%s\\n"' % line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") for line in lines)
pathlib.Path(out).write_text(f"/* Written by embed_text.py. */\nextern const char {name}[];\nconst char {name}[] =\n{body};\n", encoding="ascii")
