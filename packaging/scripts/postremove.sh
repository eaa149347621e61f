#!/bin/sh
# After files went. deb: remove | purge | upgrade …; rpm: how many versions stay.
set -e

# gone FOLDER…: a folder that is a disk of its own is emptied, since it cannot be removed.
gone() {
	for folder; do
		if mountpoint -q "$folder"; then
			find "$folder" -xdev -mindepth 1 -delete
		else
			rm -rf "$folder"
		fi
	done
}

case "$1" in
remove | 0)
	[ ! -d /run/systemd/system ] || systemctl daemon-reload
	# Keys of PINs that were not sent: their requests end as expired. Programs that updates brought go with the program.
	gone /run/gardu /opt/gardu
	rm -f /var/lib/gardu-update/state.json
	[ ! -d /var/lib/gardu-update ] || touch /var/lib/gardu-update/removed
	echo "gardu: removed. /etc/gardu (configuration, secrets), /var/lib/gardu (journal, audit record, software token), /var/lib/gardu-update (what updates may be trusted) and the users stay; a purge destroys them." >&2
	;;
purge)
	open=unknown
	[ ! -r /var/lib/gardu-update/open-requests ] || open=$(cat /var/lib/gardu-update/open-requests)
	[ -e /var/lib/gardu/journal.db ] || open=0
	if [ "$open" != 0 ] && [ "${GARDU_PURGE:-}" != force ] && [ ! -e /etc/gardu/purge-forced ]; then
		cat >&2 <<END
gardu: the purge is refused and nothing was destroyed. Open requests in the journal: $open. What may have been sent to a
provider would never be settled. Install gardu again and close them ('gardu queue list'), or, with a reason that
will stand an audit, destroy them: touch /etc/gardu/purge-forced && dpkg --purge gardu
END
		exit 1
	fi
	cat >&2 <<END
gardu: the purge destroys
  /etc/gardu             configuration, the sealed PIN of the token, staff codes, platform secrets
  /var/lib/gardu         journal (open requests: $open), audit record, and the token where it is SoftHSM in this folder
  /var/lib/gardu-update  what is known of releases
  the users gardu and gardu-ops
It does not touch keys in a hardware token: take these away with the vendor's tool. It does not touch drop-ins of your
own in /etc/systemd/system, nor logs.
END
	gone /etc/gardu /var/lib/gardu /var/lib/gardu-update
	! getent passwd gardu >/dev/null || userdel gardu 2>/dev/null || true
	! getent group gardu >/dev/null || groupdel gardu 2>/dev/null || true
	! getent group gardu-ops >/dev/null || groupdel gardu-ops 2>/dev/null || true
	;;
esac
