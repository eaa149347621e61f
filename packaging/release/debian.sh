# shellcheck shell=bash
# Sourced by the scripts beside it: Debian's archive, as this machine's own apt reaches it.

# debian_mirror prints the address of a mirror of the Debian archive.
debian_mirror() {
	local mirror=${GARDU_DEBIAN_MIRROR:-}
	if [ -z "$mirror" ]; then
		# shellcheck disable=SC2016 # apt fills these in
		mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
			awk '$2 == "main" && $3 == "Debian" && $4 == "Debian" {print $1; exit}')
	fi
	if [ -z "$mirror" ]; then
		echo "release: apt on this machine knows no mirror of Debian; run apt-get update, or set GARDU_DEBIAN_MIRROR to the address of one" >&2
		return 1
	fi
	printf '%s\n' "$mirror"
}

# debian_keyring prints the file of the keys that sign Debian's archive.
debian_keyring() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	if [ ! -r "$keyring" ]; then
		echo "release: $keyring is missing; install the package debian-archive-keyring" >&2
		return 1
	fi
	printf '%s\n' "$keyring"
}
