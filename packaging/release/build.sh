#!/usr/bin/env bash
# build.sh OUT TOOLCHAIN VERSION: build the release of VERSION into the folder OUT, which is emptied first, with the C
# compilers of toolchain.sh in TOOLCHAIN. The same tree gives the same bytes, wherever it and both folders lie.
#
#   gardu-linux-ARCH          the product: static, its token worker inside
#   token-worker-linux-ARCH   the same worker as a file, for token.helper_path
#   BUILD.txt                 what they were built with
#   SHA256SUMS                of all of these
set -euo pipefail
usage="usage: build.sh OUT TOOLCHAIN VERSION"
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../..")
out=$(realpath -m "${1:?$usage}")
toolchain=$(realpath -m "${2:?$usage}")
version=${3:?$usage}
cd "$top"

glibc_limit=2.31 # Debian 11's
size_limit=$((20 * 1000 * 1000))

export PATH=$PATH:/usr/local/go/bin
# How modules are fetched is the machine's affair; everything else that could change a byte is decided here.
while read -r line; do
	export "${line?}"
done < <(go env -json GOPROXY GOSUMDB GONOPROXY GONOSUMDB GOPRIVATE GOINSECURE GOMODCACHE GOCACHE GOVCS | sed -n 's/^\t"\(.*\)": "\(.*\)",\{0,1\}$/\1=\2/p')
unset "${!CGO_@}" GOEXPERIMENT GODEBUG GOOS GOARCH
export LC_ALL=C TZ=UTC GOENV=off GOWORK=off GOFLAGS='-trimpath -buildvcs=false -mod=readonly' GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off
# go.mod names the Go version; Go fetches it by itself where this machine has another.
GOTOOLCHAIN=go$(awk '$1 == "go" {print $2}' go.mod)
export GOTOOLCHAIN
umask 022

"$here/toolchain.sh" "$toolchain"
rm -rf "$out"
mkdir -p "$out"
overlay=$(mktemp)
packed=$(mktemp)
trap 'rm -f "$overlay" "$packed"' EXIT

fail() {
	echo "release: $*" >&2
	exit 1
}

# check_worker FILE: it asks for nothing that Debian 11 lacks.
check_worker() {
	local newest needed
	newest=$(readelf -VW "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
	needed=$(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | paste -sd' ')
	[ -n "$newest" ] || fail "$1 names no version of glibc; is it the worker?"
	[ "$(printf '%s\nGLIBC_%s\n' "$newest" "$glibc_limit" | sort -V | tail -1)" = "GLIBC_$glibc_limit" ] ||
		fail "$1 needs $newest, which Debian 11 lacks"
	for library in $needed; do
		case $library in
		libc.so.6 | libdl.so.2 | libpthread.so.0 | ld-linux-*) ;;
		*) fail "$1 needs $library, which is not part of glibc" ;;
		esac
	done
	printf '%-26s needs %s of %s\n' "$(basename "$1")" "$newest" "$needed"
}

# check_agent FILE: it needs nothing at all.
check_agent() {
	if readelf -lW "$1" | grep -q INTERP || readelf -dW "$1" | grep -q NEEDED; then
		fail "$1 is not static"
	fi
	[ "$(stat -c %s "$1")" -le "$size_limit" ] || fail "$1 has $(stat -c %s "$1") bytes, more than the $size_limit that are allowed"
	printf '%-26s %s\n' "$(basename "$1")" "$(file -b "$1" | cut -d, -f1,2,4)"
}

for arch in amd64 arm64; do
	worker=$out/token-worker-linux-$arch
	agent=$out/gardu-linux-$arch
	CGO_ENABLED=1 GOARCH=$arch CC="$toolchain/$arch-gcc" \
		CGO_CFLAGS='-O2 -g0 -fstack-protector-strong -D_FORTIFY_SOURCE=2' \
		CGO_LDFLAGS='-Wl,--build-id=none -Wl,-z,relro,-z,now' \
		go build -buildmode=pie -tags netgo,osusergo -ldflags '-s -w -buildid= -linkmode=external' -o "$worker" ./cmd/token-worker
	check_worker "$worker"

	go run "$here/pack.go" "$worker" "$packed"
	printf '{"Replace": {"%s": "%s"}}\n' "$top/internal/keystore/embedded/token-worker.gz" "$packed" >"$overlay"
	CGO_ENABLED=0 GOARCH=$arch \
		go build -overlay "$overlay" -tags embedworker -ldflags "-s -w -buildid= -X main.version=$version" -o "$agent" ./cmd/agent
	check_agent "$agent"
done

cat >"$out/BUILD.txt" <<EOF
gardu $version
go: $(go version | cut -d' ' -f3)
cc: $("$toolchain/amd64-gcc" --version | head -1)
cc packages: toolchain.list, SHA-256 $(sha256sum "$here/toolchain.list" | cut -d' ' -f1)
EOF
for file in "$out"/*; do
	if grep -qaF -e "$top/" -e "$toolchain/" "$file"; then
		fail "$file holds the path of the folder it was built in"
	fi
done
(cd "$out" && sha256sum BUILD.txt gardu-* token-worker-* >SHA256SUMS)
(cd "$out" && stat -c '%s %n' gardu-* token-worker-* | awk '{printf "%-26s %.2f MB\n", $2, $1 / 1e6}')
cat "$out/SHA256SUMS"
