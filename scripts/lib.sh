# Shared by the scripts here: source it, don't run it.
# shellcheck shell=bash

# shellcheck disable=SC2034  # used by the scripts that source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${DROVER_CACHE:-$HOME/.cache/drover}

say() { printf '%s\n' "==> $*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }

# apt_install PACKAGE...: installs Debian packages when this user may (root, or sudo without a password) and
# says exactly what to install when not.
apt_install() {
    local as_root=()
    command -v apt-get >/dev/null 2>&1 || die "please install: $*"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || die "please run: sudo apt-get install $*"
        as_root=(sudo -n)
    fi
    say "installing $*"
    # A fresh machine has no package lists, a used one may have stale ones: refresh them only then.
    local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@")
    "${install[@]}" </dev/null >/dev/null 2>&1 && return 0
    "${as_root[@]}" apt-get update -qq </dev/null >&2
    "${install[@]}" </dev/null >&2
}

# need TOOL=PACKAGE...: makes sure that every tool can be run.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    apt_install "${missing[@]}"
    hash -r
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || die "${pair%%=*} is still missing: please install ${pair#*=}"
    done
}

# need_cargo: the Rust toolchain, which is expected to be there, perhaps outside the PATH of a bare shell.
need_cargo() {
    command -v cargo >/dev/null 2>&1 || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    command -v cargo >/dev/null 2>&1 || die "no Rust toolchain: install it from https://rustup.rs"
}

# need_python: Python 3 with pip and venv (Debian packages them apart).
need_python() {
    python3 -c 'import pip, ensurepip' 2>/dev/null || apt_install python3 python3-pip python3-venv
    python3 -c 'import pip, ensurepip' 2>/dev/null || die "please install: python3 python3-pip python3-venv"
}

# with_lock NAME COMMAND...: runs the command while holding an exclusive lock on NAME in the cache. (No subshell: the
# caller's EXIT trap must still see what the command set up.)
with_lock() {
    local name=$1
    shift
    mkdir -p "$CACHE"
    exec 9>"$CACHE/$name.lock"
    flock -n 9 || { say "waiting for another run to finish with $name"; flock 9; }
    "$@"
    exec 9>&-
}

# with_python NAME REQUIREMENTS: sets PYTHON_ENV to a virtual environment in the cache that has the packages of the file.
with_python() {
    PYTHON_ENV=$CACHE/$1-$(sha256sum "$2" | cut -c1-16)
    with_lock "$1" _python_env "$1" "$2"
}

_python_env() {
    [ -f "$PYTHON_ENV/complete" ] && return 0
    say "installing the Python packages of $1"
    need_python
    rm -rf "$PYTHON_ENV"
    python3 -m venv "$PYTHON_ENV"
    "$PYTHON_ENV/bin/pip" install -q --no-input --disable-pip-version-check -r "$2" </dev/null >&2
    touch "$PYTHON_ENV/complete"
}
