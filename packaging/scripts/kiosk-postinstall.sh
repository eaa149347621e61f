#!/bin/sh
set -e
case "$1" in
configure | [1-9]*) ;;
*) exit 0 ;;
esac
systemd-sysusers gardu-kiosk.conf
if [ "$1" = 1 ] || { [ "$1" = configure ] && [ -z "${2:-}" ]; }; then
	systemctl --quiet enable gardu-kiosk.service
	echo "gardu-kiosk: the screen starts with the machine, or now with 'systemctl start gardu-kiosk'" >&2
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
