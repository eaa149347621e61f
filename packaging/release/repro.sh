#!/usr/bin/env bash
# repro.sh TOOLCHAIN VERSION: build this tree twice, in two folders with nothing in common, and compare the bytes.
set -euo pipefail
usage="usage: repro.sh TOOLCHAIN VERSION"
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../..")
toolchain=$(realpath -m "${1:?$usage}")
version=${2:?$usage}
export PATH=$PATH:/usr/local/go/bin

"$here/toolchain.sh" "$toolchain"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
first=$work/a
second="$work/second/a folder with a long name/gardu"
mkdir -p "$first" "$second" "$work"/{home,tmp}

# One copy of the tree is taken, so that nobody's editing comes between the two builds.
(cd "$top" && git ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' file; do
		if [ -f "$file" ]; then printf '%s\0' "$file"; fi
	done | tar -c --null -T -) | tar -x -C "$first"
cp -a "$first/." "$second/"
cp -a "$toolchain" "$work/second/toolchain"

GOMODCACHE=$(go env GOMODCACHE) # what it holds is checked by go.sum, so both may share it
export GOMODCACHE

echo "release: building in the first folder"
(cd "$first" && GOCACHE=$work/cache-1 packaging/release/build.sh build/release "$toolchain" "$version" >/dev/null)
echo "release: building in the second, with other settings around it"
(cd "$second" && umask 077 && env HOME="$work/home" TMPDIR="$work/tmp" GOCACHE="$work/cache-2" TZ=Asia/Jakarta LC_ALL=C.UTF-8 \
	GOMAXPROCS=1 GOAMD64=v3 CGO_CFLAGS=-O0 GOFLAGS=-tags=other \
	packaging/release/build.sh build/release "$work/second/toolchain" "$version" >/dev/null)

differ=0
while read -r sum name; do
	other=$(sha256sum <"$second/build/release/$name" | cut -d' ' -f1)
	if [ "$sum" = "$other" ]; then
		printf 'same    %s  %s\n' "$sum" "$name"
	else
		printf 'DIFFER  %s  %s\n        %s\n' "$sum" "$name" "$other"
		differ=1
	fi
done <"$first/build/release/SHA256SUMS"
if [ "$differ" -ne 0 ]; then
	echo "release: the two builds differ; what differs holds something of the folder, the time or the settings it was built with" >&2
	exit 1
fi
