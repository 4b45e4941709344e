#!/usr/bin/env bash
# Traces through a real OpenTelemetry collector: traces.sh [ARGUMENTS OF tests/traces/run.py]. The collector (rotel) and
# OpenTelemetry's Python classes come into the cache.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

with_python traces "$ROOT/tests/traces/requirements.txt"
exec env PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" "$ROOT/tests/traces/run.py" "$@"
