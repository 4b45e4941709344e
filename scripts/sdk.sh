#!/usr/bin/env bash
# Runs the official SDKs' suites (tests/sdk) against DROVER_URL: every suite, or the ones named.
#
#   scripts/sdk.sh [python|node]... [-- ARGUMENTS FOR THE RUNNER]
#   scripts/sdk.sh install          only makes the environments (they are cached by their lock files)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SUITES=$ROOT/tests/sdk
key() { cat "$@" | sha256sum | cut -c1-16; }

PYTHON_ENV=$CACHE/sdk-python-$(key "$SUITES/python/requirements.txt")
NODE_ENV=$CACHE/sdk-node-$(key "$SUITES/node/package.json" "$SUITES/node/package-lock.json")

install_python() {
    [ -f "$PYTHON_ENV/complete" ] && return 0
    say "installing the Python SDKs"
    need_python
    rm -rf "$PYTHON_ENV"
    python3 -m venv "$PYTHON_ENV"
    "$PYTHON_ENV/bin/pip" install -q --no-input --disable-pip-version-check -r "$SUITES/python/requirements.txt" </dev/null >&2
    touch "$PYTHON_ENV/complete"
}

# The SDKs want a newer Node than Debian's: the lock file brings its own binary, npm alone must be there.
install_node() {
    [ -f "$NODE_ENV/complete" ] && return 0
    say "installing the npm SDKs"
    need npm=npm
    rm -rf "$NODE_ENV"
    mkdir -p "$NODE_ENV"
    cp "$SUITES/node/package.json" "$SUITES/node/package-lock.json" "$SUITES/node/.npmrc" "$NODE_ENV"
    (cd "$NODE_ENV" && npm ci --silent --no-audit --no-fund </dev/null >&2)
    "$NODE_ENV/node_modules/.bin/node" --version >/dev/null || die "npm did not install Node for this machine"
    touch "$NODE_ENV/complete"
}

run_python() {
    (cd "$SUITES/python" && PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" -m pytest "$@")
}

# Recorded streams instead of a server (scripts/sdk-streams.sh).
install_streams() { install_python; }
run_streams() {
    (cd "$SUITES/streams" && PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" -m pytest -p no:cacheprovider "$@")
}

run_node() {
    # ES modules are looked up beside the importing file only.
    ln -sfn "$NODE_ENV/node_modules" "$SUITES/node/node_modules"
    (cd "$SUITES/node" && node_modules/.bin/node --test --test-concurrency=1 --test-reporter=spec "$@" ./*.test.mjs)
}

suites=()
while [ $# -gt 0 ]; do
    case $1 in
    install)
        with_lock sdk-python install_python
        with_lock sdk-node install_node
        exit 0
        ;;
    python | node | streams) suites+=("$1") ;;
    --)
        shift
        break
        ;;
    *) die "unknown argument: $1" ;;
    esac
    shift
done
[ ${#suites[@]} -gt 0 ] || suites=(python node)
[ "${suites[*]}" = streams ] || : "${DROVER_URL:?set it, or use scripts/test-llama.sh}"

# Every suite runs even when an earlier one fails.
failed=()
for suite in "${suites[@]}"; do
    with_lock "sdk-$suite" "install_$suite"
    say "$suite SDKs against ${DROVER_URL:-recorded streams}"
    "run_$suite" "$@" || failed+=("$suite")
done
[ ${#failed[@]} -eq 0 ] || die "failed suites: ${failed[*]}"
