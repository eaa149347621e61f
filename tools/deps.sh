#!/usr/bin/env bash
# deps.sh PACKAGE...: install those of the named Debian packages that are missing, and nothing else.
# GARDU_DEPS=skip leaves the machine as it is (for systems other than Debian, and for builds without rights).
set -euo pipefail

if [ "${GARDU_DEPS:-}" = skip ]; then
	exit 0
fi
if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is not a Debian system; install the equivalents of '$*' yourself, then run make again with GARDU_DEPS=skip" >&2
	exit 1
fi

missing=()
for package in "$@"; do
	# A foreign architecture's copy of a package gives a second line.
	dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: missing: ${missing[*]}; run as root: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
	# Without a terminal nobody can type a password: fail at once rather than wait.
	[ -t 0 ] || as_root=(sudo -n)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
	if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		echo "deps: apt-get $1 failed; the reason stands above" >&2
		exit 1
	fi
}

echo "deps: missing: ${missing[*]}"
echo "deps: reading the package lists"
apt update
echo "deps: installing (a minute or so)"
apt install -y --no-install-recommends "${missing[@]}"
echo "deps: done in $SECONDS s"
