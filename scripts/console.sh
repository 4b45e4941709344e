#!/usr/bin/env bash
# The console in a real browser: console.sh [ARGUMENTS OF tests/console/run.py]. Playwright comes into the cache, the
# browser is Debian's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need chromium=chromium
with_python console "$ROOT/tests/console/requirements.txt"
exec env PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" "$ROOT/tests/console/run.py" "$@"
