#!/usr/bin/env bash
# browser.sh: run every test named TestBrowser... in a real browser, and make sure that there was one.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

set +e
GARDU_E2E=1 go test -race -count=1 -timeout 15m -run '^TestBrowser' -v ./... 2>&1 |
	tee "$log" | grep -Ev '^=== |^testing: warning: no tests|^PASS$|no test files\]$|\[no tests to run\]$'
status=${PIPESTATUS[0]}
set -e
if [ "$status" -eq 0 ] && ! grep -q '^--- PASS: TestBrowser' "$log"; then
	echo "e2e: no browser test ran; a browser test is named TestBrowser... (see CONTRIBUTING.md)" >&2
	exit 1
fi
exit "$status"
