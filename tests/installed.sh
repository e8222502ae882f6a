#!/bin/sh
# installed.sh MESON BUILD-FOLDER closed|open SOURCE COMPILER…: installs into a folder of its own, builds SOURCE with
# nothing but what pkg-config says, against the shared and the static library, and runs it. "closed": OpenBLAS must be
# inside the library, out of reach of whatever the system calls libopenblas.so.0.
set -eu
meson=$1 build=$2 blas=$3 source=$4
shift 4
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
DESTDIR=$place "$meson" install -C "$build" --no-rebuild --quiet

pc=$(find "$place" -name wengert.pc)
[ -n "$pc" ] || { echo "no wengert.pc was installed"; exit 1; }
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
folder=$(pkg-config --variable=libdir wengert)
LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

"$(dirname "$0")"/symbols.sh "$folder/libwengert.so"
readelf -d "$folder/libwengert.so" >"$place/dynamic"
grep -q 'SONAME.*\[libwengert\.so\.0\]' "$place/dynamic" || { echo "the soname is not libwengert.so.0"; exit 1; }
if [ "$blas" = closed ] && grep -E 'NEEDED.*(blas|lapack)' "$place/dynamic"; then
    echo "the library leaves its BLAS to be found at run time"
    exit 1
fi

# shellcheck disable=SC2046 # words are wanted
"$@" -O1 -o "$place/shared" "$source" $(pkg-config --cflags --libs wengert) -lm
# shellcheck disable=SC2046
"$@" -O1 -o "$place/static" "$source" $(pkg-config --cflags wengert) \
    $(pkg-config --static --libs wengert | sed 's/-lwengert/-l:libwengert.a/g') -lm
! readelf -d "$place/static" | grep -q libwengert || { echo "the static program wants the shared library"; exit 1; }

# A BLAS with threads of its own would use these; the one closed in does not.
for program in shared static; do
    echo "$program:"
    OMP_NUM_THREADS=4 OPENBLAS_NUM_THREADS=4 "$place/$program"
done
