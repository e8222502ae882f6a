# packages.sh: sourced by the scripts beside it: the one list of the Debian packages they need, and need_packages, which
# installs what is missing of it. Asks nothing; leaves apt alone when nothing is missing.

# To build the library and the program (gnuplot draws the pictures of probe; ARCHITECTURE.md says why this OpenBLAS).
build_packages=(gcc libc6-dev pkg-config meson ninja-build libffi-dev libcjson-dev libopenblas-openmp-dev gnuplot-nox)
# The same on x86-64 alone.
case $(uname -m) in x86_64) build_packages+=(libxsmm-dev) ;; esac
# To test it.
test_packages=(g++ binutils python3 libcriterion-dev libgsl-dev liblbfgs-dev libnlopt-dev)
# For tools/sanitize tsan and the fuzzers; for tools/coverage.
clang_packages=(clang llvm libclang-rt-14-dev libomp-dev)
coverage_packages=(gcovr)

say() { printf '== %s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need_packages PACKAGE…
need_packages() {
    local package missing=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "This is no Debian: make sure that these are there, by whatever name: $*"
        return 0
    fi
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "Everything needed is installed."
        return 0
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing, and there is no sudo: ${missing[*]}"
        root=(sudo)
    fi
    say "Installing with apt: ${missing[*]}"
    local install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    # The lists of packages may be missing or old: fetch them only if it does not go without.
    "${install[@]}" "${missing[@]}" </dev/null && return 0
    say "Not so: fetching apt's lists of packages first."
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update </dev/null || die "apt-get update failed"
    "${install[@]}" "${missing[@]}" </dev/null || die "apt could not install: ${missing[*]}"
}

# configure FOLDER OPTION…: sets a build folder up, or makes an old one follow the options.
configure() {
    local folder=$1
    shift
    if [ -f "$folder/build.ninja" ]; then
        meson configure "$folder" "$@" >/dev/null
    else
        rm -rf "$folder"
        meson setup "$folder" "$@" >"$folder.log" 2>&1 || {
            cat "$folder.log" >&2
            die "the configuration of $folder failed"
        }
        mv "$folder.log" "$folder/configure.log"
    fi
}
