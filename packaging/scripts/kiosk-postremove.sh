#!/bin/sh
set -e
case "$1" in
remove | 0)
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	;;
purge)
	! getent passwd gardu-kiosk >/dev/null || userdel gardu-kiosk 2>/dev/null || true
	! getent group gardu-kiosk >/dev/null || groupdel gardu-kiosk 2>/dev/null || true
	;;
esac
