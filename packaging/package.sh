#!/usr/bin/env bash
# package.sh OUT VERSION [RELEASE [ARCH…]]: make deb and rpm for amd64 and arm64 (or only for those named) of the release in
# build/release (or in RELEASE) into the folder OUT, which is emptied first. The same tree and release give the same
# bytes. Run it at the top of the tree.
set -euo pipefail
usage="usage: package.sh OUT VERSION [RELEASE [ARCH…]]"
out=${1:?$usage}
version=${2:?$usage}
release=${3:-build/release}
shift $(($# < 3 ? $# : 3))
archs=("${@:-amd64}")
[ $# -gt 0 ] || archs=(amd64 arm64)

fail() {
	echo "package: $*" >&2
	exit 1
}
[ -f "$release/SHA256SUMS" ] || fail "$release is missing; run make release"
(cd "$release" && sha256sum --quiet -c SHA256SUMS) || fail "$release is not whole; run make release"
built=$(sed -n 's/^gardu //p' "$release/BUILD.txt")
[ "$built" = "$version" ] || fail "$release holds version $built and not $version; run make release"

# Versions of packages begin with a digit; what comes before a release sorts before it.
v=${version#v}
case $v in
[0-9]*.[0-9]*) v=$(sed -E 's/-g[0-9a-f]+/+&/; s/\+-/+/; s/-(alpha|beta|rc)/~\1/; s/-/./g' <<<"$v") ;;
*) v=0.0.0+git.${v//-/.} ;;
esac
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH=$epoch GARDU_VERSION=$v GARDU_RELEASE=1 GARDU_PROGRAMS=$release LC_ALL=C TZ=UTC
umask 022

rm -rf "$out"
mkdir -p "$out"
pack() { # CONFIG FORMAT; nfpm says on standard output what is wrong
	local said
	sed "s/compression: xz/compression: ${GARDU_COMPRESSION:-xz}/" "packaging/nfpm/$1.yaml" >"$out/$1.yaml"
	said=$(go tool -modfile=tools/nfpm/go.mod nfpm package --config "$out/$1.yaml" --packager "$2" --target "$out/" 2>&1) || fail "$1 as $2: $said"
	rm "$out/$1.yaml"
}
for format in deb rpm; do
	for arch in "${archs[@]}"; do
		GARDU_ARCH=$arch pack gardu "$format"
	done
	GARDU_ARCH=all pack gardu-kiosk "$format"
done
(cd "$out" && sha256sum -- gardu* >SHA256SUMS && stat -c "%s %n" -- gardu* | awk '{printf "%-44s %6.2f MB\n", $2, $1 / 1e6}')
