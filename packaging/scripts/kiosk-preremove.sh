#!/bin/sh
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ ! -d /run/systemd/system ] || systemctl stop gardu-kiosk.service || true
systemctl --quiet disable gardu-kiosk.service || true
