#!/bin/sh
# gardu as it is installed now: the version that an update brought, or else the factory copy of the package.
program=/opt/gardu/current/gardu
[ -L /opt/gardu/current ] || program=/usr/lib/gardu/gardu
# A shell reads as a script what the kernel does not take for a program. A file that is torn is no script.
magic=$(head -c 4 "$program" 2>/dev/null | od -An -tx1)
if [ "$magic" != " 7f 45 4c 46" ]; then
	echo "gardu: $program is not a program; 'systemctl start gardu-rollback' goes back to the version before" >&2
	exit 126
fi
exec "$program" "$@"
