#!/usr/bin/env bash
# The console in a real browser: console.sh [ARGUMENTS OF tests/console/run.py]. Playwright comes into the cache, the
# browser is Debian's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

REQUIREMENTS=$ROOT/tests/console/requirements.txt
PYTHON_ENV=$CACHE/console-$(sha256sum "$REQUIREMENTS" | cut -c1-16)

install() {
    need chromium=chromium
    [ -f "$PYTHON_ENV/complete" ] && return 0
    say "installing Playwright"
    need_python
    rm -rf "$PYTHON_ENV"
    python3 -m venv "$PYTHON_ENV"
    "$PYTHON_ENV/bin/pip" install -q --no-input --disable-pip-version-check -r "$REQUIREMENTS" </dev/null >&2
    touch "$PYTHON_ENV/complete"
}

with_lock console install
exec env PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" "$ROOT/tests/console/run.py" "$@"
