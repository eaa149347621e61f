#!/usr/bin/env bash
# tools/again.sh LOG: after a `make test` with -v that failed, has each test that failed run again by itself, three
# times. Ends with 0 where all of them held: then they had failed beside the others by chance, which is said and is
# to be mended. What broke in another way than by a test that says so is not asked again: a build, a data race, a
# panic, a hang, more than two tests, and whatever drew a seed, because that one found something.
set -euo pipefail
log=${1:?the log of make test -v}

refuse() {
	printf 'again: not asked again: %s\n' "$1"
	exit 1
}

if grep -qE '^WARNING: DATA RACE|^panic: |^fatal error: |\[build failed\]|\[setup failed\]|test timed out' "$log"; then
	refuse 'a data race, a panic, a hang or a build that failed'
fi

# The output of a package stands together and ends with its own line: FAIL<tab>package<tab>seconds.
failed=$(awk -F '\t' '
	/^=== RUN / && $0 !~ /\// { seeded = 0 }
	/[Ss]eed|SEED/ { seeded = 1 }
	/^--- FAIL: / { split($0, word, " "); held[++n] = word[3] " " (seeded ? "seed" : "-") }
	/^ok  \t/ { n = 0 }
	/^FAIL\t/ { for (i = 1; i <= n; i++) print $2, held[i]; if (n == 0) print $2, "-", "-"; n = 0 }
' "$log")
[ -n "$failed" ] || refuse 'no test says that it failed'
[ "$(wc -l <<<"$failed")" -le 2 ] || refuse 'more than two tests failed'

while read -r package test seed; do
	[ "$test" != - ] || refuse "$package failed and none of its tests did"
	[ "$seed" != seed ] || refuse "$test drew a seed"
done <<<"$failed"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
while read -r package test _; do
	printf 'again: %s of %s, three times by itself\n' "$test" "$package"
	if ! make test PKG="$package" TESTFLAGS="-v -count=3 -run ^${test}\$" </dev/null >"$out" 2>&1; then
		grep -Ev '^=== ' "$out" | tail -n 60
		refuse "$test fails by itself as well"
	fi
	[ "$(grep -c "^--- PASS: $test " "$out")" -eq 3 ] || refuse "$test did not run three times"
	printf 'again: %s WAS DECIDED BY CHANCE: it failed once and then held three times; find out why and mend it\n' "$test"
done <<<"$failed"
