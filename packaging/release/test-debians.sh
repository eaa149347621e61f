#!/usr/bin/env bash
# test-debians.sh RELEASE ROOTS: run the release in the folder RELEASE on Debian 11, 12 and 13, each with its own SoftHSM, and
# for arm64 in an emulator. The Debians are made in ROOTS at the first run and kept. In each case of debian-case.sh, gardu
# makes keys, lists them and runs. Prints one line for each Debian: from where the worker was executed, case by case.
# Needs root: it makes root file systems, changes into them, and registers the emulator with the kernel while it runs.
set -euo pipefail
usage="usage: test-debians.sh RELEASE ROOTS"
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
release=$(realpath "${1:?$usage}")
roots=$(realpath -m "${2:?$usage}")
# shellcheck source=packaging/release/debian.sh
. "$here/debian.sh"

if [ "$(id -u)" -ne 0 ]; then
	echo "release: this test needs root, for debootstrap and chroot" >&2
	exit 1
fi
mirror=$(debian_mirror)
keyring=$(debian_keyring)
mkdir -p "$roots"
log=$roots/log
: >"$log"

binfmt=/proc/sys/fs/binfmt_misc
undo=()
tidy() {
	local act
	for act in "${undo[@]}"; do eval "$act"; done
}
trap tidy EXIT

# emulate_arm64 lets the kernel start arm64 programs by qemu, until this script ends.
emulate_arm64() {
	[ "$(uname -m)" != aarch64 ] || return 0
	if [ ! -e "$binfmt/register" ]; then
		mount -t binfmt_misc binfmt_misc "$binfmt"
		undo=("umount $binfmt" "${undo[@]}")
	fi
	if [ ! -e "$binfmt/qemu-aarch64" ]; then
		cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$binfmt/register"
		undo=("echo -1 >$binfmt/qemu-aarch64" "${undo[@]}")
	fi
}

# debian SUITE ARCH: make the root if it is not there.
debian() {
	local root=$roots/$1-$2
	if [ ! -e "$root.ready" ]; then
		rm -rf "$root"
		echo "release: making $1 for $2" >&2
		if ! debootstrap --variant=minbase --arch="$2" --include=softhsm2 --keyring="$keyring" "$1" "$root" "$mirror" >>"$log" 2>&1; then
			tail -5 "$log" >&2
			echo "release: debootstrap failed; all of it is in $log" >&2
			return 1
		fi
		touch "$root.ready"
	fi
}

# try ROOT CASE: run one case in ROOT, with namespaces of its own that end with it.
# /run is mounted as Debian does it: nothing is executed from there.
try() {
	# shellcheck disable=SC2016 # the inner shell fills these in
	unshare --mount --pid --fork --kill-child bash -euc '
		mount -t proc proc "$1/proc"
		mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs "$1/run"
		exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh /srv/gardu/debian-case.sh "$2"
	' try "$1" "$2" 2>>"$log"
}

# version_of ROOT PACKAGE
version_of() {
	dpkg-query --admindir="$1/var/lib/dpkg" -W -f='${Version}' "$2"
}

failed=0
# check SUITE ARCH NUMBER CASE...
check() {
	local suite=$1 arch=$2 number=$3 root=$roots/$1-$2 line case got want
	shift 3
	debian "$suite" "$arch"
	rm -rf "$root/srv/gardu"
	install -d "$root/srv/gardu"
	install -m 755 "$release/gardu-linux-$arch" "$root/srv/gardu/gardu"
	install -m 755 "$release/token-worker-linux-$arch" "$root/srv/gardu/token-worker"
	install -m 755 "$here/debian-case.sh" "$root/srv/gardu/"
	line=$(printf 'Debian %s %s (glibc %s, SoftHSM %s), worker executed from' "$number" "$arch" "$(version_of "$root" libc6)" "$(version_of "$root" softhsm2)")
	chroot "$root" /srv/gardu/gardu version >>"$log" 2>&1
	for case in "$@"; do
		want=memory
		case $case in
		file) want="nameless file" ;;
		helper) want=helper ;;
		refused) want="refused with a hint" ;;
		emulated) want=emulator ;;
		esac
		echo "== $suite $arch $case" >>"$log"
		if got=$(try "$root" "$case") && [ "$got" = "$want" ]; then
			line+=" $case=\"$got\""
		else
			line+=" $case=FAILED"
			failed=1
		fi
	done
	echo "$line"
}

cases=(plain closed)
if [ -e /proc/sys/vm/memfd_noexec ]; then
	cases+=(asked file helper refused)
else
	echo "release: this kernel has no vm.memfd_noexec, so the ways besides memory are left to the unit tests" >&2
fi
check bullseye amd64 11 "${cases[@]}"
check bookworm amd64 12 "${cases[@]}"
check trixie amd64 13 "${cases[@]}"
emulate_arm64
check bullseye arm64 11 emulated

if [ "$failed" -ne 0 ]; then
	echo "release: failed; what was said is in $log" >&2
	exit 1
fi
