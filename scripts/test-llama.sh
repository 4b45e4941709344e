#!/usr/bin/env bash
# The official SDKs through the real binary against real llama-servers: starts two servers and the gateway on free
# loopback ports, runs the suites, stops everything by pid, and shows the logs when something failed.
#
#   scripts/test-llama.sh [--direct] [ARGUMENTS FOR scripts/sdk.sh]
#
# GATEWAY names the binary (default: the quick profile's). With --direct there is no gateway: the suites run against
# one llama-server itself, which shows whether an expectation comes from the backend or from us.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

fleet=(--gateway "${GATEWAY:-${CARGO_TARGET_DIR:-$ROOT/target}/quick/drover}")
if [ "${1:-}" = --direct ]; then
    shift
    fleet=(--count 1)
fi

environment=$("$ROOT/scripts/llama.sh")
set -a
eval "$environment"
set +a
"$ROOT/scripts/sdk.sh" install
exec python3 "$ROOT/scripts/llama_fleet.py" run "${fleet[@]}" -- "$ROOT/scripts/sdk.sh" "$@"
