#!/bin/sh
# After files were unpacked. deb: configure [OLD VERSION]; rpm: how many versions are installed now.
set -e
first=no
removed=/var/lib/gardu-update/removed # left by a removal: what is installed again is installed first
case "$1" in
configure) if [ -z "${2:-}" ] || [ -e "$removed" ]; then first=yes; fi ;;
1) first=yes ;;
[2-9]*) ;;
*) exit 0 ;; # something was undone: nothing changed
esac
rm -f "$removed"

systemd-sysusers gardu.conf
# Some of what it makes needs a running system; what matters is made here.
systemd-tmpfiles --create gardu.conf || true

if [ "$first" = yes ]; then
	systemctl --quiet enable gardu.socket gardu.service gardu-fetch.socket gardu-update.path gardu-update.timer
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ -e /etc/gardu/gardu.toml ]; then
		# The socket stays open; the agent drains calls under way and keeps every request.
		systemctl start gardu.socket gardu-fetch.socket gardu-update.path gardu-update.timer
		if [ -L /opt/gardu/current ]; then
			# What an update brought goes on running: this package replaced the way back.
			echo "gardu: the factory copy was replaced; the agent goes on with $(readlink /opt/gardu/current). 'gardu update rollback' leads here." >&2
			systemctl start gardu.service || true
		else
			systemctl restart gardu.service || true
		fi
		systemctl --quiet is-active gardu.service ||
			echo "gardu: the agent does not run; 'systemctl status gardu' says why" >&2
	fi
fi
if [ ! -e /etc/gardu/gardu.toml ]; then
	echo "gardu: nothing runs before this kiosk is provisioned: /usr/share/doc/gardu/provisioning.md" >&2
fi
