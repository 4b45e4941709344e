#!/usr/bin/env bash
# Measures the speculative profiles once more, compares with the last good night, and keeps what came of it.
#
#   bench/nightly.sh DIR -- ARGUMENTS OF drover bench spec...
#
# DIR/<date>/ gets artifact.json, report.md with its plots, compare.txt; DIR/baseline.json is a link to the artifact that
# the next night is compared with: the last one without a regression. To accept a regression (a new build that is worth
# it), remove the link. Exit codes: 0 fine, 1 a regression, 64 wrong usage or artifacts that cannot be compared, else
# those of `drover bench spec`. DROVER names the program, KEEP how many nights stay (60).
set -euo pipefail

die() { printf '%s\n' "nightly: $1" >&2; exit 64; }

[ $# -ge 2 ] && [ "$2" = -- ] || die "usage: nightly.sh DIR -- ARGUMENTS OF drover bench spec..."
dir=$1
shift 2
drover=${DROVER:-drover}
keep=${KEEP:-60}

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# One at a time: two would measure each other.
exec 9>"$dir/lock"
flock -n 9 || die "another run is under way in $dir"

baseline=$dir/baseline.json
tonight=$dir/$(date -u +%Y-%m-%dT%H%M%SZ)
parent=()
[ -e "$baseline" ] && parent=(--parent "$baseline")

"$drover" bench spec "$@" "${parent[@]}" --out "$tonight" >/dev/null
if [ ! -e "$baseline" ]; then
    printf '%s\n' "the first night: $tonight is what the next ones are compared with" | tee "$tonight/compare.txt"
    code=0
else
    code=0
    "$drover" bench compare "$baseline" "$tonight/artifact.json" | tee "$tonight/compare.txt" || code=$?
fi
if [ "$code" -eq 0 ]; then
    # In one step, so that whoever reads it always finds one.
    ln -s "$(basename "$tonight")/artifact.json" "$dir/.baseline.$$"
    mv -T "$dir/.baseline.$$" "$baseline"
fi

# Nights that are over, but never the one that counts.
counts=$(readlink "$baseline" 2>/dev/null || true)
find "$dir" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort | head -n -"$keep" | while read -r old; do
    [ "$(basename "$old")/artifact.json" = "$counts" ] || rm -r "$old"
done
exit "$code"
