#!/usr/bin/env bash
# test-arm64.sh PACKAGES ROOTS: install, ask and purge the arm64 deb of the folder PACKAGES in a Debian 12 for arm64 whose
# programs qemu's user emulation runs. That Debian is made in the folder ROOTS and kept. No systemd is booted there (the amd64
# package is for that, cmd/packagetest); its tools make users, folders and links. As root.
set -euo pipefail
usage="usage: test-arm64.sh PACKAGES ROOTS"
packages=${1:?$usage}
roots=$(realpath -m "${2:?$usage}")
mirror=${GARDU_DEBIAN_MIRROR:-http://deb.debian.org/debian}
base=$roots/package-arm64
root=$roots/package-arm64.run
binfmt=/proc/sys/fs/binfmt_misc
undo=()
tidy() {
	local act
	for act in "${undo[@]}"; do eval "$act"; done
}
trap tidy EXIT

deb=$(ls "$packages"/gardu_*_arm64.deb)
if [ "$(uname -m)" != aarch64 ]; then
	if [ ! -e "$binfmt/register" ]; then
		mount -t binfmt_misc binfmt_misc "$binfmt"
		undo=("umount $binfmt" "${undo[@]}")
	fi
	if [ ! -e "$binfmt/qemu-aarch64" ]; then
		cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$binfmt/register"
		undo=("echo -1 >$binfmt/qemu-aarch64" "${undo[@]}")
	fi
fi
if [ ! -e "$base.ready" ]; then
	echo "· making Debian 12 for arm64 (some minutes)"
	rm -rf "$base"
	debootstrap --variant=minbase --arch=arm64 --include=systemd,passwd,softhsm2,opensc bookworm "$base" "$mirror" >"$roots/package-arm64.log" 2>&1 || {
		tail -5 "$roots/package-arm64.log" >&2
		exit 1
	}
	touch "$base.ready"
fi
rm -rf "$root"
cp -a "$base" "$root"
undo=("umount $root/proc" "rm -rf $root" "${undo[@]}")
mount -t proc proc "$root/proc"
cp "$deb" "$root/root/gardu.deb"

# ran WHAT PATTERN COMMAND…: what a command says in there must hold a pattern.
ran() {
	local what=$1 pattern=$2 said
	shift 2
	said=$(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" 2>&1) || true
	grep -qE -- "$pattern" <<<"$said" || {
		printf 'FAIL  %s: no %s in:\n%s\n' "$what" "$pattern" "$said" >&2
		exit 1
	}
	printf 'PASS  %-28s %s\n' "$what" "$(grep -E -m1 -- "$pattern" <<<"$said")"
}
ran "dpkg -i" "nothing runs before this kiosk is provisioned" dpkg -i /root/gardu.deb
ran "its state" "^install ok installed arm64$" dpkg-query -W -f '${Status} ${Architecture}\n' gardu
ran "gardu version" "linux/arm64, token worker sha256:" gardu version
ran "units" "enabled" systemctl is-enabled gardu.socket gardu.service gardu-fetch.socket gardu-update.path gardu-update.timer
ran "folders and users" "^gardu 750 " stat -c '%U %a %n' /var/lib/gardu
# A software token, as the user gardu; the check is what an update asks of a release.
install -m 0644 "$root/usr/share/doc/gardu/gardu.toml" "$root/etc/gardu/gardu.toml"
sed -i -e 's|^module = .*|module = "/usr/lib/softhsm/libsofthsm2.so"\nenvironment = ["SOFTHSM2_CONF=/etc/gardu/softhsm2.conf"]|' \
	-e 's|^pin_credential = .*||; s|^sealed_pin = .*|pin_file = "/etc/gardu/token.pin"|' "$root/etc/gardu/gardu.toml"
printf 'directories.tokendir = /var/lib/gardu/softhsm\nobjectstore.backend = file\n' >"$root/etc/gardu/softhsm2.conf"
ran "a token" "initialized" sh -c 'install -d -m 0700 -o gardu /var/lib/gardu/softhsm /run/gardu && printf 1234567890 >/etc/gardu/token.pin && chown gardu /etc/gardu/token.pin && chmod 400 /etc/gardu/token.pin &&
	SOFTHSM2_CONF=/etc/gardu/softhsm2.conf setpriv --reuid=gardu --regid=gardu --clear-groups softhsm2-util --init-token --free --label gardu --pin 1234567890 --so-pin 1234567890'
ran "gardu init" "journal-kek" setpriv --reuid=gardu --regid=gardu --clear-groups gardu init
ran "gardu check --self" "ok +key journal-kek +.* by AES_GCM" setpriv --reuid=gardu --regid=gardu --clear-groups gardu check --self
ran "dpkg --purge" "the purge destroys" sh -c 'touch /etc/gardu/purge-forced; dpkg --purge gardu'
ran "what is left" "^nothing$" sh -c 'ls -d /usr/lib/gardu /etc/gardu /opt/gardu /var/lib/gardu /var/lib/gardu-update 2>/dev/null || echo nothing'
