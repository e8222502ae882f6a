#!/bin/sh
# symbols.sh LIBRARY: a shared library of ours exports wg_ names and nothing else: no internal one (wg__), none of an
# archive linked in.
set -eu
exported=$(nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }')
[ -n "$exported" ] || { echo "$1 exports nothing"; exit 1; }
leaked=$(echo "$exported" | grep -Ev '^wg_[a-z0-9]' || true)
if [ -n "$leaked" ]; then
    echo "$1 exports $(echo "$leaked" | wc -l) names beside its own:"
    echo "$leaked" | head -20
    exit 1
fi
echo "$(echo "$exported" | wc -l) names, all of the interface"
