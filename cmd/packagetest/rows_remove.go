package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const lastingPhone = "081100000031"

func (b *bench) purgeRefused(ctx context.Context) (string, error) {
	if _, err := b.visit(ctx, "link", "down"); err != nil {
		return "", err
	}
	if _, err := b.visit(ctx, "hold", lastingPhone); err != nil {
		return "", err
	}
	said, err := b.c.sh(ctx, "dpkg --purge gardu 2>&1")
	if err == nil {
		return "", fmt.Errorf("it was purged: %s", said)
	}
	if err := has("dpkg --purge", err.Error(), "the purge is refused and nothing was destroyed. Open requests in the journal: 1.", "touch /etc/gardu/purge-forced && dpkg --purge gardu"); err != nil {
		return "", err
	}
	_, err = b.c.sh(ctx, "test -s /var/lib/gardu/journal.db && test -s /var/lib/gardu/audit.log && test -s /etc/gardu/gardu.toml && test -s /etc/gardu/token-pin.cred && ls /var/lib/gardu/softhsm/*")
	return "", err
}

func (b *bench) reinstall(ctx context.Context) (string, error) {
	if out, err := b.c.sh(ctx, "pgrep -u gardu; ls /usr/lib/gardu /opt/gardu /run/gardu 2>/dev/null"); err == nil || strings.TrimSpace(out) != "" {
		return "", fmt.Errorf("the removal left: %s", out)
	}
	if _, err := b.c.sh(ctx, "dpkg -i "+visitDir+"/new.deb 2>&1"); err != nil {
		return "", err
	}
	if err := b.health(ctx, 30*time.Second, inService); err != nil {
		return "", err
	}
	state, err := b.c.sh(ctx, "systemctl is-enabled gardu.service gardu.socket gardu-fetch.socket gardu-update.timer; systemctl is-active gardu.service gardu-fetch.socket gardu-update.path gardu-update.timer")
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, state)
	}
	if _, err := b.visit(ctx, "link", "up"); err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = b.visit(wait, "effects", "finpay.reset_pin", lastingPhone)
	return "", err
}

// staysAfterPurge is what a purge leaves, and why.
var staysAfterPurge = []string{
	"/var/lib/systemd/credential.secret", // the system's own key, made when the first credential was sealed
	"/var/log/", "/var/lib/dpkg/", "/var/cache/", "/var/backups/", "/var/lib/systemd/timers", "/var/lib/systemd/random-seed", "/var/tmp/",
	"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-", // copies that userdel keeps
	"/etc/.pwd.lock", "/root/.", "/var/lib/private",
}

// left reports an error where files are there that were not, and should not be.
func left(before, after map[string]string) error {
	var more []string
	for path, what := range after {
		if before[path] == "" && !slices.ContainsFunc(staysAfterPurge, func(p string) bool { return strings.HasPrefix(path, p) }) {
			more = append(more, path+" "+what)
		}
	}
	slices.Sort(more)
	if len(more) > 0 {
		return fmt.Errorf("%d files are left:\n%s", len(more), strings.Join(more, "\n"))
	}
	return nil
}

func (b *bench) purge(ctx context.Context) (string, error) {
	if _, err := b.visit(ctx, "link", "down"); err != nil {
		return "", err
	}
	if _, err := b.visit(ctx, "hold", "081100000032"); err != nil {
		return "", err
	}
	// The programs may lie on a disk of their own.
	if _, err := b.c.sh(ctx, "mount -t tmpfs -o mode=0755 tmpfs /opt/gardu && mkdir -p /opt/gardu/versions/9 && touch /opt/gardu/versions/9/gardu"); err != nil {
		return "", err
	}
	removed, err := b.c.sh(ctx, "dpkg --remove gardu 2>&1")
	if err != nil {
		return "", err
	}
	if err := has("dpkg --remove", removed, "open requests in the journal: 1. They stay in /var/lib/gardu", "a purge destroys them"); err != nil {
		return "", err
	}
	if out, err := b.c.sh(ctx, "dpkg --purge gardu 2>&1"); err == nil {
		return "", fmt.Errorf("it was purged: %s", out)
	}
	said, err := b.c.sh(ctx, "touch /etc/gardu/purge-forced && dpkg --purge gardu 2>&1")
	if err != nil {
		return "", err
	}
	if err := has("the forced purge", said, "the purge destroys", "/var/lib/gardu ", "(open requests: 1)", "hardware token"); err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, `test -z "$(ls -A /opt/gardu)" && umount /opt/gardu && rm -r /opt/gardu`); err != nil {
		return "", fmt.Errorf("the disk of the programs: %w", err)
	}
	after, err := b.c.files(ctx)
	if err != nil {
		return "", err
	}
	if err := left(b.before, after); err != nil {
		return "", err
	}
	users, err := b.c.sh(ctx, "getent passwd gardu; getent group gardu gardu-ops; systemctl list-units --all --no-legend 'gardu*'; ls -d /run/gardu 2>/dev/null; true")
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(users) != "" {
		return "", errors.New("the purge left: " + users)
	}
	return fmt.Sprintf("%d files before and after compared", len(after)), nil
}

// rpm does with the rpm package what was done with the deb: Debian's rpm runs its
// scripts, and this machine's systemd is what they speak to.
func (b *bench) rpm(ctx context.Context) (string, error) {
	install := func(how, folder string) (string, error) {
		return b.c.sh(ctx, "rpm "+how+" --nodeps --ignorearch "+visitDir+"/"+folder+".rpm 2>&1")
	}
	said, err := install("-i", "old")
	if err != nil {
		return "", err
	}
	if err := has("rpm -i", said, "nothing runs before this kiosk is provisioned"); err != nil {
		return "", err
	}
	enabled := "enabled\nenabled\nenabled\nenabled\nenabled\n"
	state := "systemctl is-enabled gardu.service gardu.socket gardu-fetch.socket gardu-update.path gardu-update.timer; gardu version; rpm -V --nodeps gardu; stat -c '%U %a' /etc/gardu /var/lib/gardu /opt/gardu"
	out, err := b.c.sh(ctx, state)
	if err != nil {
		return "", err
	}
	if err := has("the machine", out, enabled+"gardu "+b.old+" ", "root 755\ngardu 750\nroot 755\n"); err != nil {
		return "", err
	}
	listed, err := b.c.sh(ctx, "rpm -qlv gardu | grep -v ^d | sed 's#.* /#/#' | sort; echo; dpkg-deb --fsys-tarfile "+visitDir+"/old.deb | tar -t | grep -v '/$' | sed 's/^\\.//' | sort")
	if err != nil {
		return "", err
	}
	fromRPM, fromDeb, _ := strings.Cut(listed, "\n\n")
	if strings.TrimSpace(fromRPM) != strings.TrimSpace(fromDeb) {
		return "", fmt.Errorf("rpm and deb have other files:\n%s", listed)
	}
	if _, err := install("-U", "new"); err != nil {
		return "", err
	}
	if out, err = b.c.sh(ctx, state); err != nil {
		return "", err
	}
	if err := has("the upgraded machine", out, enabled+"gardu "+b.new+" "); err != nil {
		return "", err
	}
	if said, err = b.c.sh(ctx, "rpm -e --nodeps gardu 2>&1; systemctl list-unit-files --no-legend 'gardu*'; ls -d /usr/lib/gardu /usr/share/doc/gardu /opt/gardu /run/gardu 2>/dev/null; true"); err != nil {
		return "", err
	}
	if err := has("rpm -e", said, "gardu: removed."); err != nil {
		return "", err
	}
	if strings.Contains(said, "gardu.service") || strings.Contains(said, "gardu\n/") || strings.HasSuffix(strings.TrimSpace(said), "/gardu") {
		return "", errors.New("the erased package left: " + said)
	}
	return fmt.Sprintf("%d files, the deb's", strings.Count(fromRPM, "\n")+1), nil
}
