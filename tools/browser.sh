#!/usr/bin/env bash
# browser.sh [-short]: run the tests in packages named e2e, which need a browser, and make sure that there was one.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

mapfile -t packages < <(go list -tags e2e ./... | grep '/e2e$' || true)
if [ ${#packages[@]} -eq 0 ]; then
	echo "e2e: there is no package named e2e" >&2
	exit 1
fi
set +e
go test -tags e2e -race -count=1 -timeout 45m -v "$@" "${packages[@]}" 2>&1 | tee "$log" | grep -Ev '^=== |^PASS$'
status=${PIPESTATUS[0]}
set -e
if [ "$status" -eq 0 ] && ! grep -q '^--- PASS' "$log"; then
	echo "e2e: no test ran in ${packages[*]}" >&2
	exit 1
fi
exit "$status"
