#!/usr/bin/env bash
# test.sh [ARGUMENT…]: make what cmd/packagetest needs, in build/packagetest, and run it with the arguments. Run it at the
# top of the tree, as root, after make release.
#
#   base/        Debian 12 with systemd, SoftHSM and curl; made once
#   packagetest  the test, static: it also runs inside the machine
#   sandbox      the platforms
#   old/, new/   packages of this tree as two versions
#   programs/    this tree as releases for the updater, good ones and broken ones
set -euo pipefail
top=$PWD
out=$top/build/packagetest
worker=$top/build/release/token-worker-linux-amd64
[ -f "$worker" ] || {
	echo "package-test: $worker is missing; run make release" >&2
	exit 1
}
export PATH=$PATH:/usr/local/go/bin
mkdir -p "$out"

if [ ! -d "$out/base" ]; then
	echo "· making Debian 12 (a minute)"
	rm -rf "$out/base.new"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,softhsm2,opensc,rpm,curl,ca-certificates,procps,iproute2 \
		bookworm "$out/base.new" "${GARDU_DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$out/debootstrap.log" 2>&1 || {
		tail -5 "$out/debootstrap.log" >&2
		exit 1
	}
	rm -f "$out/base.new"/var/cache/apt/archives/*.deb
	mv "$out/base.new" "$out/base"
fi

echo "· building the test, the sandbox and the versions"
CGO_ENABLED=0 go build -o "$out/packagetest" ./cmd/packagetest
CGO_ENABLED=0 go build -o "$out/sandbox" ./cmd/sandbox
go run packaging/release/pack.go "$worker" "$out/token-worker.gz"

# gardu FILE VERSION [broken.go]: this tree as a version, as release/build.sh links it.
gardu() {
	local files="\"$top/internal/keystore/embedded/token-worker.gz\": \"$out/token-worker.gz\""
	[ -z "${3:-}" ] || files+=", \"$top/cmd/agent/broken.go\": \"$3\""
	printf '{"Replace": {%s}}\n' "$files" >"$out/overlay.json"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -overlay "$out/overlay.json" -tags embedworker \
		-ldflags "-s -w -buildid= -X main.version=$2" -o "$1" ./cmd/agent
}

for pair in old:0.9.1 new:0.9.2; do
	folder=${pair%:*} version=${pair#*:}
	rm -rf "$out/$folder.programs"
	mkdir -p "$out/$folder.programs"
	gardu "$out/$folder.programs/gardu-linux-amd64" "$version"
	(cd "$out/$folder.programs" && echo "gardu $version" >BUILD.txt && sha256sum BUILD.txt gardu-* >SHA256SUMS)
	GARDU_COMPRESSION=gzip packaging/package.sh "$out/$folder" "$version" "$out/$folder.programs" amd64 >/dev/null
done

# What the updater gets: the real agent, linked once, with a defect that its version chooses (testdata/broken.go.txt). Each
# release is that program with its version written in.
rm -rf "$out/programs"
mkdir -p "$out/programs"
gardu "$out/programs/any" 9.9.999 "$top/cmd/packagetest/testdata/broken.go.txt"
[ "$(grep -oaF 9.9.999 "$out/programs/any" | wc -l)" = 1 ] || {
	echo "package-test: the version does not stand once in the program" >&2
	exit 1
}
for version in 1.0.101 2.0.10{1..8} 2.1.10{2..8}; do
	LC_ALL=C sed "s/9\\.9\\.999/$version/" "$out/programs/any" >"$out/programs/$version"
	chmod 755 "$out/programs/$version"
done
truncate -s 9000000 "$out/programs/2.0.103"
exec "$out/packagetest" "$@"
