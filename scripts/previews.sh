#!/usr/bin/env bash
# Previews of the dashboards from a live run: previews.sh [ARGUMENTS OF tests/prometheus/preview.py]. matplotlib comes into
# the cache, Prometheus is Debian's.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need prometheus=prometheus
with_python previews "$ROOT/tests/prometheus/requirements.txt"
exec env PYTHONDONTWRITEBYTECODE=1 "$PYTHON_ENV/bin/python" "$ROOT/tests/prometheus/preview.py" "$@"
