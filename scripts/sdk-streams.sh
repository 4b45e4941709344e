#!/usr/bin/env bash
# Random streams of the gateway's turn loop, read by the official Python SDKs. DROVER_STREAMS sets how many (3,000).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

streams=$(mktemp -d)
trap 'rm -rf "$streams"' EXIT
export DROVER_STREAMS_DIR=$streams DROVER_STREAMS=${DROVER_STREAMS:-3000}
cd "$ROOT"
cargo test --locked --lib -q ${DROVER_TEST_PROFILE:+--profile "$DROVER_TEST_PROFILE"} -- --ignored write_streams_for_the_sdks
"$ROOT/scripts/sdk.sh" streams -- -q -s
