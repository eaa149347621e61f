#!/usr/bin/env bash
# fuzz.sh TIME [PATTERN]: run every fuzz target in the tree whose package and name match PATTERN for TIME each, one line each.
# FUZZFLAGS goes to go test, as in FUZZFLAGS=-parallel=1 on a machine that has other work.
set -euo pipefail
fuzztime=${1:?how long, as in 60s}
pattern=${2:-.}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# go test -list prints a package's targets and then "ok <package> <time>".
if ! go test -list '^Fuzz' ./... >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
mapfile -t targets < <(awk '/^Fuzz/ {names[++n] = $1} $1 == "ok" {for (i = 1; i <= n; i++) print $2, names[i]; n = 0}' "$log" | grep -E -- "$pattern" || true)
if [ ${#targets[@]} -eq 0 ]; then
	echo "fuzz: no fuzz target matches '$pattern'" >&2
	exit 1
fi

failed=0
for target in "${targets[@]}"; do
	read -r package name <<<"$target"
	# Without a bound of its own, making one find of a large input smaller takes up to a minute, which is all the time there is.
	if go test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" -fuzzminimizetime 1s ${FUZZFLAGS:-} "$package" >"$log" 2>&1; then
		runs=$(sed -nE 's/.*execs: ([0-9]+).*/\1/p' "$log" | tail -n 1)
		echo "FUZZ $package $name ok executions=${runs:-0}"
	else
		failed=1
		echo "FUZZ $package $name FAILED"
		sed 's/^/    /' "$log"
	fi
done
exit $failed
