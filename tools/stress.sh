#!/usr/bin/env bash
# tools/stress.sh PACKAGES COPIES: run the tests of each package in COPIES processes at once, each of which is stopped
# for a moment again and again, as a machine with too much to do stops whom it likes. Which tests failed, and how often,
# is printed; their logs stay in build/stress. A test that fails here and not in `make test` was decided by chance.
# STRESSFLAGS goes to the tests, as in STRESSFLAGS='-test.run Crash'; PAUSE is the longest stop, in milliseconds.
# LATE=1 makes the program itself late as well: who takes a lock sleeps before it, mostly not at all and now and then for
# a second, so that what others do meanwhile comes first. The clocks of testing/synctest do not see these sleeps.
set -euo pipefail
packages=${1:-./...}
copies=${2:-3}
pause=${PAUSE:-700}
top=$PWD
logs=$top/build/stress
rm -rf "$logs"
mkdir -p "$logs"

# For go's -overlay, so that the tree stays as it is: the sources with a call before each lock, and what it calls.
overlay() {
	local late=$logs/late dir name file copy comma=''
	printf '{"Replace": {'
	while read -r dir name; do
		mkdir -p "$late/$dir"
		cat >"$late/$dir/late.go" <<-END
			package $name

			import (
				"math/rand/v2"
				"syscall"
			)

			func late() {
				most := int64(1)
				switch n := rand.IntN(3000); {
				case n == 0:
					most = 999_999_999
				case n < 60:
					most = 5_000_000
				default:
					return
				}
				_ = syscall.Nanosleep(&syscall.Timespec{Nsec: rand.Int64N(most)}, nil)
			}
		END
		printf '%s"%s": "%s"' "$comma" "$top/$dir/zz_late.go" "$late/$dir/late.go"
		comma=,
		for file in "$dir"/*.go; do
			case $file in *_test.go) continue ;; esac
			copy=$late/$file
			sed -E 's/^(\t+)([A-Za-z.]+\.R?Lock\(\))$/\1late(); \2/' "$file" >"$copy"
			cmp -s "$file" "$copy" || printf ',"%s": "%s"' "$top/$file" "$copy"
		done
	done < <(grep -rlE '^\s+[A-Za-z.]+\.R?Lock\(\)$' --include='*.go' cmd internal | grep -v _test.go | xargs -n1 dirname | sort -u |
		while read -r dir; do echo "$dir $(go list -f '{{.Name}}' "./$dir")"; done)
	printf '}}\n'
}

nap() { # up to $1 milliseconds
	local ms=$((RANDOM * 32768 + RANDOM))
	ms=$((ms % $1 + 1))
	sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
}

one() { # LOG: a copy, run and stopped by turns
	# shellcheck disable=SC2086 # several flags
	"$bin" -test.v -test.timeout 30m ${STRESSFLAGS:-} </dev/null >"$1" 2>&1 &
	local pid=$!
	trap 'kill -CONT "$pid" 2>/dev/null; kill "$pid" 2>/dev/null; exit 1' TERM INT
	while nap 600 && kill -STOP "$pid" 2>/dev/null; do
		nap "$pause"
		kill -CONT "$pid" 2>/dev/null || break
	done
	wait "$pid"
}

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

build=()
if [ "${LATE:-0}" != 0 ]; then
	overlay >"$logs/overlay.json"
	build=(-overlay "$logs/overlay.json")
fi

failed=0
while read -r package dir; do
	name=${package//\//_}
	bin=$logs/$name.test
	CGO_ENABLED=1 go test -race "${build[@]}" -c -o "$bin" "$package"
	[ -e "$bin" ] || continue # no tests
	began=$SECONDS
	cd "$dir"
	copy=()
	for i in $(seq "$copies"); do
		one "$logs/$name-$i.log" &
		copy+=($!)
	done
	bad=0
	for pid in "${copy[@]}"; do
		wait "$pid" || bad=$((bad + 1))
	done
	cd "$top"
	rm -f "$bin"
	printf '%-44s %d of %d held, %d s\n' "$package" $((copies - bad)) "$copies" $((SECONDS - began))
	if [ "$bad" -ne 0 ]; then
		failed=1
		grep -hE '^--- FAIL: |^panic: |^fatal error: |^WARNING: DATA RACE' "$logs/$name"-*.log | sed 's/ ([0-9.]*s)$//' | sort | uniq -c
	fi
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' "$packages" | sed '/^$/d')
exit "$failed"
