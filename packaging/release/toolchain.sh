#!/usr/bin/env bash
# toolchain.sh DIR: put the C compilers that build the token worker into DIR: DIR/amd64-gcc and DIR/arm64-gcc.
# toolchain.sh --pin: print toolchain.list anew, from what the mirror has.
#
# They are Debian 11's own, with Debian 11's libc, so that the worker asks for no symbol that Debian 11 lacks; and they are
# pinned by hash in toolchain.list, so that everybody who builds a release builds with the same bytes. They are unpacked and
# run where they lie: no container, no rights, nothing installed. They run on amd64 with glibc 2.31 or newer.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=packaging/release/debian.sh
. "$here/debian.sh"

suite=bullseye
list=$here/toolchain.list

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

apt=()
# prepare_apt makes an apt that knows the one suite and nothing of this machine but how to reach a mirror.
prepare_apt() {
	local mirror keyring
	mirror=$(debian_mirror)
	keyring=$(debian_keyring)
	mkdir -p "$work"/{lists/partial,cache/archives/partial,none}
	: >"$work/status"
	printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/sources.list"
	apt=(apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/none"
		-o Dir::Etc::preferences="$work/none/none" -o Dir::Etc::preferencesparts="$work/none"
		-o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache"
		-o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Debug::NoLocking=1 -o Acquire::Retries=3
		-o Acquire::Languages=none -o APT::Sandbox::User=root)
	if ! "${apt[@]}" update; then
		echo "release: $mirror has no $suite that this machine trusts; set GARDU_DEBIAN_MIRROR to a mirror that keeps it (Debian moves old releases to its archive)" >&2
		return 1
	fi
}

# download SPEC...: fetch packages into $work/debs.
download() {
	mkdir -p "$work/debs"
	if ! (cd "$work/debs" && "${apt[@]}" download "$@"); then
		echo "release: $(debian_mirror) lacks a version that toolchain.list names; set GARDU_DEBIAN_MIRROR to a mirror that keeps it" >&2
		return 1
	fi
}

if [ "${1:-}" = --pin ]; then
	prepare_apt
	grep '^#' "$list"
	grep -v '^#' "$list" | while read -r _ tree package _; do
		rm -rf "$work/debs"
		download "$package"
		deb=$(echo "$work"/debs/*.deb)
		printf '%s %-7s %s %s\n' "$(sha256sum "$deb" | cut -d' ' -f1)" "$tree" "$package" "$(dpkg-deb -f "$deb" Version)"
	done
	exit
fi

dir=${1:?usage: toolchain.sh DIR}
if [ "$(uname -m)" != x86_64 ]; then
	echo "release: the pinned compilers run on amd64 only; build there, for both" >&2
	exit 1
fi
pin=$(cat "$list" "${BASH_SOURCE[0]}" | sha256sum)
if [ "$(cat "$dir/pin" 2>/dev/null)" = "$pin" ]; then
	exit 0
fi

echo "release: fetching Debian 11's compilers (140 MB)" >&2
prepare_apt
mapfile -t specs < <(awk '!/^#/ {print $3 "=" $4}' "$list")
download "${specs[@]}"

rm -rf "$dir"
mkdir -p "$dir"
for deb in "$work"/debs/*.deb; do
	sum=$(sha256sum "$deb" | cut -d' ' -f1)
	tree=$(awk -v sum="$sum" '$1 == sum {print $2}' "$list")
	if [ -z "$tree" ]; then
		echo "release: $(basename "$deb") is not the package whose SHA-256 toolchain.list names; it is not used" >&2
		exit 1
	fi
	mkdir -p "$dir/$tree"
	# Left out: what only other languages, link-time optimisation and people need.
	dpkg-deb --fsys-tarfile "$deb" | tar -x --no-same-owner -C "$dir/$tree" \
		--exclude='./usr/share/*' --exclude='*/lto1' --exclude='*-lto-dump-*' --exclude='*-gcov*'
done

# Links that begin at the root would lead out of the tree, to this machine's own libraries.
find "$dir" -type l -lname '/*' | while read -r link; do
	tree=${link#"$dir/"}
	tree=$dir/${tree%%/*}
	ln -snf "$(realpath -m --relative-to="$(dirname "$link")" "$tree$(readlink "$link")")" "$link"
done

# compiler ARCH TRIPLET SYSROOT: the compiler with its own libraries, assembler, linker and libc, wherever DIR lies.
compiler() {
	local tool
	mkdir -p "$dir/$1-bin"
	for tool in as ld; do
		ln -s "../tools/usr/bin/$2-$tool" "$dir/$1-bin/$tool"
	done
	cat >"$dir/$1-gcc" <<EOF
#!/bin/sh
top=\$(dirname "\$(readlink -f "\$0")")
LD_LIBRARY_PATH=\$top/tools/usr/lib/x86_64-linux-gnu:\$top/tools/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
exec "\$top/tools/usr/bin/$2-gcc-10" -B"\$top/$1-bin/" --sysroot="\$top/$3" "\$@"
EOF
	chmod 755 "$dir/$1-gcc"
}
compiler amd64 x86_64-linux-gnu amd64
compiler arm64 aarch64-linux-gnu tools # the cross compiler's libc lies beside it
printf '%s\n' "$pin" >"$dir/pin"
