#!/bin/sh
# notation.sh FOLDER[:FOLDER…] COMPILER…: what notation.h must refuse to compile, and what it must not, with this compiler.
folders=$1
shift
flags=$(echo "$folders" | sed 's/^/-I/; s/:/ -I/g')
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
bad=0

# compiles WANTED CODE: the code, in a function that has the vars x and y, compiles (yes) or does not (no).
compiles() {
    printf '#include <complex.h>\n#include "wengert/notation.h"\nvoid f(wg_var x, wg_var y, char *text);\n' > "$work/a.c"
    printf 'void f(wg_var x, wg_var y, char *text) { (void)x, (void)y, (void)text; %s; }\n' "$2" >> "$work/a.c"
    # shellcheck disable=SC2086
    if $compiler $flags -std=gnu17 -fsyntax-only "$work/a.c" \
        2> "$work/said"; then got=yes; else got=no; fi
    if [ "$got" != "$1" ]; then
        echo "compiles: $got, should be $1: $2"
        cat "$work/said"
        bad=1
    fi
}
compiler=$*

# The header alone, and after the headers of the C library.
for before in '' '#include <tgmath.h>' '#include <math.h>
#include <stdlib.h>'; do
    printf '%s\n#include "wengert/notation.h"\nint main(void) { return 0; }\n' "$before" > "$work/b.c"
    # shellcheck disable=SC2086
    $compiler $flags -std=c17 -pedantic -Wall -Wextra -Werror -fsyntax-only "$work/b.c" || bad=1
done

compiles yes 'x = add(1, mul(x, 2.5f))'
compiles yes 'double d = exp(1) + pow(2, 3.f) + abs(-3) + floor(2.5) + atan2(1, 2L); (void)d'
compiles yes 'double (*function)(double) = exp; (void)function'
compiles yes 'long double d = add(x, (short)1).as.value; (void)d'
compiles no 'x = add(x, text)'
compiles no 'x = add(x, "1")'
compiles no 'x = add(x, &y)'
compiles no 'x = add(x, 1.0 * I)'
compiles no 'x = tanh(&x)'
compiles no 'x = tanh(text)'
compiles no 'x = pow(x, text)'
compiles no 'x = pow(text, x)'
compiles no 'x = pow(x, &y)'
compiles no 'x = exp(1)'
compiles no 'double d = exp(x); (void)d'
compiles no 'double d = max(1, 2); (void)d'
compiles no 'x = add(x)'
compiles no 'x = x + y'
exit $bad
