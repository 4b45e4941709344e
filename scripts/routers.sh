#!/usr/bin/env bash
# Other routers for `make bench-fleet`, each in a virtual environment of its own in the cache. Nothing of the product
# needs them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

routers=$CACHE/routers
for router in smg:smg==1.13.0 vr:vllm-router==0.1.17 sg:sglang-router==0.3.2; do
    place=$routers/${router%%:*}
    [ -e "$place/installed" ] && continue
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check "${router#*:}"
    touch "$place/installed"
done
