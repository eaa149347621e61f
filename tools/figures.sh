#!/usr/bin/env bash
# figures.sh: run every figure (a test named TestFigure...) and print the lines that begin with BENCH.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One package after the other and without the race detector: figures that share the machine measure each other.
if ! GARDU_BENCH=1 go test -p 1 -count=1 -timeout 30m -run '^TestFigure' -v ./... >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi
if ! grep '^BENCH ' "$log"; then
	echo "bench: no figure was printed; a figure is a test named TestFigure... that prints a BENCH line (see CONTRIBUTING.md)" >&2
	exit 1
fi
