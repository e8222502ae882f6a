#!/bin/sh
# headers.sh COMPILER… -std=STANDARD -xLANGUAGE SOURCE-FOLDER BUILD-FOLDER: each public header, alone, compiles without a
# warning as strict C or C++; and twice in one file.
set -eu
compiler=
while [ $# -gt 2 ]; do
    compiler="$compiler $1"
    shift
done
for header in "$1"/wengert.h "$1"/wengert/*.h; do
    [ -e "$header" ] || continue
    name=${header#"$1"/}
    printf '#include <%s>\n#include <%s>\n' "$name" "$name" |
        $compiler -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -I"$1" -I"$2" -
    echo "$name: clean"
done
