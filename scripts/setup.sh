#!/usr/bin/env bash
# Makes sure that everything is there to build (`setup.sh build`) or to build and test (`setup.sh test`), installing
# what is missing where this user may. Quick when nothing is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_cargo
# A library of the proxy framework (zlib-ng) builds with cmake; TLS (ring) needs a C compiler.
need cc=gcc c++=g++ cmake=cmake make=make
[ "${1:-build}" = test ] || exit 0

need ninja=ninja-build npm=npm prometheus=prometheus chromium=chromium
need_python
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component" >&2
done
