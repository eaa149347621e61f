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

# gardu FILE VERSION [DEFECT]: this tree as a version, as release/build.sh links it; with a defect where one is named.
gardu() {
	local files="\"$top/internal/keystore/embedded/token-worker\": \"$worker\""
	[ -z "${3:-}" ] || files+=", \"$top/cmd/agent/broken.go\": \"$top/cmd/packagetest/testdata/broken.go.txt\""
	printf '{"Replace": {%s}}\n' "$files" >"$out/overlay.json"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -overlay "$out/overlay.json" -tags embedworker \
		-ldflags "-s -w -buildid= -X main.version=$2${3:+ -X 'main.defect=$3'}" -o "$1" ./cmd/agent
}

for pair in old:0.9.1 new:0.9.2; do
	folder=${pair%:*} version=${pair#*:}
	rm -rf "$out/$folder.programs"
	mkdir -p "$out/$folder.programs"
	gardu "$out/$folder.programs/gardu-linux-amd64" "$version"
	(cd "$out/$folder.programs" && echo "gardu $version" >BUILD.txt && sha256sum BUILD.txt gardu-* >SHA256SUMS)
	packaging/package.sh "$out/$folder" "$version" "$out/$folder.programs" amd64 >/dev/null
done

# What the updater gets. A version is linked once and kept: the broken ones differ by a word in their memory.
rm -rf "$out/programs"
mkdir -p "$out/programs"
for version in 1.0.1 2.1.2 2.1.3 2.1.4 2.1.5 2.1.6 2.1.7; do
	gardu "$out/programs/$version" "$version"
done
while IFS=: read -r version defect; do
	gardu "$out/programs/$version" "$version" "$defect"
done <<-END
	2.0.1:exits
	2.0.2:panics before main
	2.0.4:never ready
	2.0.5:dies after ready
	2.0.6:stops its watchdog
	2.0.7:dies slowly
END
gardu "$out/programs/whole" 2.0.3
head -c 9000000 "$out/programs/whole" >"$out/programs/2.0.3" # truncated
exec "$out/packagetest" "$@"
