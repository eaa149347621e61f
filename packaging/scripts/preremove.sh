#!/bin/sh
# Before files go. deb: remove | upgrade NEW …; rpm: how many versions stay.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;; # an upgrade: the agent serves until the new one takes over
esac

# Whether a purge may destroy the journal can only be asked now, of the agent or with the token: the journal is sealed.
# "unknown" is as good as open.
if [ -e /var/lib/gardu/journal.db ]; then
	open=unknown
	if rows=$(timeout 20 /usr/bin/gardu queue list --json 2>/dev/null || timeout 60 /usr/sbin/gardu-as-service queue list --json 2>/dev/null); then
		open=$(printf '%s\n' "$rows" | grep -cE '"state": *"(queued|sending|pending|in_doubt|unresolved|unreadable)"' || true)
	fi
	echo "$open" >/var/lib/gardu-update/open-requests
	if [ "$open" != 0 ]; then
		echo "gardu: open requests in the journal: $open. They stay in /var/lib/gardu and go on when gardu is installed again." >&2
	fi
fi
if [ -d /run/systemd/system ]; then
	systemctl stop gardu-update.path gardu-update.timer gardu-update.service gardu-fetch.socket gardu-fetch.service gardu.socket gardu.service || true
	systemctl reset-failed gardu.socket gardu.service gardu-rollback.service gardu-update.service gardu-fetch.socket gardu-fetch.service 2>/dev/null || true
fi
systemctl --quiet disable gardu.socket gardu.service gardu-fetch.socket gardu-update.path gardu-update.timer || true
