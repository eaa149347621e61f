#!/bin/sh
# debian-case.sh CASE: run inside the root of one Debian by test-debians.sh, which has put gardu and token-worker beside this
# file. As the user gardu it makes keys in a SoftHSM token, lists them, and lets gardu run until its worker is there.
# Prints where the worker was executed from. Everything it makes goes with its folder.
set -eu
here=$(dirname "$(readlink -f "$0")")
work=$here/work
run=/run/gardu
bin=$here/gardu

rm -rf "$work"
id gardu >/dev/null 2>&1 || useradd --system --no-create-home gardu
mkdir -p "$work/tokens" "$run"
helper=
case $1 in
plain | emulated) ;;
closed) # a program that its user cannot read is closed to tracing, as a hardened service is
	bin=$work/gardu
	cp "$here/gardu" "$bin"
	chmod 0711 "$bin"
	;;
asked) echo 1 >/proc/sys/vm/memfd_noexec ;;
file)
	echo 2 >/proc/sys/vm/memfd_noexec
	mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$run"
	;;
helper)
	echo 2 >/proc/sys/vm/memfd_noexec
	helper="helper_path = \"$here/token-worker\""
	;;
refused) echo 2 >/proc/sys/vm/memfd_noexec ;;
*)
	echo "debian-case: there is no case $1" >&2
	exit 2
	;;
esac

cat >"$work/softhsm2.conf" <<EOF
directories.tokendir = $work/tokens
objectstore.backend = file
EOF
cat >"$work/gardu.toml" <<EOF
[kiosk]
number = 1
[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "pkcs11:token=gardu"
pin_file = "$work/pin"
latch = "$work/latch"
environment = ["SOFTHSM2_CONF=$work/softhsm2.conf"]
$helper
[journal]
path = "$work/journal.db"
key_dir = "$run/keys"
[audit]
path = "$work/audit.log"
[screen]
listen = "127.0.0.1:8700"
[admin]
socket = "$run/admin.sock"
[log]
format = "text"
[finpay]
base_url = "https://127.0.0.1:1"
client_id = "c"
channel_id = "95221"
origin = "o"
merchant_id = "m"
mode = "asymmetric"
sign_key = "pkcs11:object=finpay-sign"
EOF
printf '31415926\n' >"$work/pin"
chmod 0400 "$work/pin"
chown -R gardu: "$work" "$run"
[ "$1" != closed ] || chown root: "$bin"

export SOFTHSM2_CONF="$work/softhsm2.conf"
# setpriv itself still has root's rights when it executes what it is told to, so that is env.
as_gardu="setpriv --reuid gardu --regid gardu --clear-groups --no-new-privs env"
$as_gardu softhsm2-util --init-token --free --label gardu --pin 31415926 --so-pin 27182818 >/dev/null

if [ "$1" = refused ]; then
	code=0
	$as_gardu "$bin" --config "$work/gardu.toml" keys list 2>"$work/error" || code=$?
	if [ "$code" -ne 3 ] || ! grep -q 'token.helper_path' "$work/error"; then
		echo "debian-case: exit code $code where 3 and a hint were expected" >&2
		cat "$work/error" >&2
		exit 1
	fi
	echo "refused with a hint"
	exit
fi

$as_gardu "$bin" --config "$work/gardu.toml" init >"$work/init.out"
grep -q 'made *finpay snap-sign' "$work/init.out"
$as_gardu "$bin" --config "$work/gardu.toml" keys list >"$work/list.out"
for key in journal-kek journal-pin-kek finpay-sign; do
	grep -q "^$key .*made in token" "$work/list.out"
done

$as_gardu "$bin" --config "$work/gardu.toml" run >"$work/run.out" 2>&1 &
agent=$!
worker=
tries=0
while [ -z "$worker" ] && [ "$tries" -lt 300 ]; do
	tries=$((tries + 1))
	sleep 0.1
	for comm in /proc/[0-9]*/comm; do
		if [ "$(cat "$comm" 2>/dev/null)" = gardu-token ]; then
			worker=$(dirname "$comm")
		fi
	done
done
if [ -z "$worker" ]; then
	echo "debian-case: no token worker is running" >&2
	cat "$work/run.out" >&2
	exit 1
fi
from=$(readlink "$worker/exe")
owner=$(stat -c %U "/proc/$agent/fd")
kill -TERM "$agent"
wait "$agent"
if ! grep -q 'token ready' "$work/run.out"; then
	echo "debian-case: the token was never ready" >&2
	cat "$work/run.out" >&2
	exit 1
fi
if [ "$1" = closed ] && [ "$owner" != root ]; then
	echo "debian-case: gardu was not closed to tracing, so this case shows nothing" >&2
	exit 1
fi
left=$(find "$run" -name 'token-worker-*')
if [ -n "$left" ]; then
	echo "debian-case: left behind: $left" >&2
	exit 1
fi
case $from in
"/memfd:gardu-token (deleted)") echo "memory" ;;
"$run/token-worker-"*" (deleted)") echo "nameless file" ;;
"$here/token-worker") echo "helper" ;;
*qemu*) echo "emulator" ;;
*) echo "$from" ;;
esac
