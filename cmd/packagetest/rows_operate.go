package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// firstLook runs the commands of operations.md word for word.
func (b *bench) firstLook(ctx context.Context) (string, error) {
	g, err := b.readGuide("operations.md")
	if err != nil {
		return "", err
	}
	n := 0
	for section, blocks := range g {
		for i := range blocks {
			if _, err := b.follow(ctx, g, section, i); err != nil {
				return "", err
			}
			n++
		}
	}
	if n == 0 {
		return "", errors.New("operations.md has no commands")
	}
	return fmt.Sprintf("%d blocks", n), nil
}

// restartTo restarts the agent and waits until its health says a text.
func (b *bench) restartTo(ctx context.Context, text string) error {
	if _, err := b.c.sh(ctx, "systemctl reset-failed gardu.service; systemctl restart gardu.service"); err != nil {
		return err
	}
	return b.health(ctx, 30*time.Second, text)
}

// wrongPIN follows "The token's PIN" of operations.md.
func (b *bench) wrongPIN(ctx context.Context) (string, error) {
	const sealed = "/etc/gardu/token-pin.cred"
	pin, err := b.c.in(ctx, "systemd-creds", "decrypt", "--name=token-pin", sealed, "-")
	if err != nil {
		return "", err
	}
	seal := func(pin string) error {
		_, err := b.c.feed(ctx, strings.NewReader(pin+"\n"), "gardu-provision", "pin")
		return err
	}
	if err := seal("00000000"); err != nil {
		return "", err
	}
	if err := b.restartTo(ctx, `"token_locked"`); err != nil {
		return "", err
	}
	if err := b.restartTo(ctx, `"token_locked"`); err != nil { // and is not tried again
		return "", err
	}
	latched, err := b.c.sh(ctx, "test -s /var/lib/gardu/pin.latch && gardu-as-service check || true")
	if err != nil {
		return "", err
	}
	if err := has("gardu check", latched, "FAIL", "token"); err != nil {
		return "", err
	}
	if err := seal(strings.TrimSpace(pin)); err != nil {
		return "", err
	}
	if err := b.restartTo(ctx, inService); err != nil {
		return "", err
	}
	// Without the sealed file there is no PIN to try.
	if _, err := b.c.sh(ctx, "mv "+sealed+" "+sealed+".away"); err != nil {
		return "", err
	}
	err = b.restartTo(ctx, `"out_of_service"`)
	status, serr := b.c.in(ctx, "systemctl", "show", "gardu.service", "-p", "StatusText", "--value")
	_, merr := b.c.sh(ctx, "mv "+sealed+".away "+sealed)
	if err := errors.Join(err, serr, merr); err != nil {
		return "", err
	}
	return strings.TrimSpace(status), b.restartTo(ctx, inService)
}

// badConfiguration breaks the configuration and mends it as operations.md says.
func (b *bench) badConfiguration(ctx context.Context) (string, error) {
	if _, err := b.c.sh(ctx, "cp -p /etc/gardu/gardu.toml /root/kept.toml; sed -i '1i brnad = 1' /etc/gardu/gardu.toml; systemctl reset-failed gardu.service; systemctl restart gardu.service; true"); err != nil {
		return "", err
	}
	err := until(ctx, time.Minute, func() error {
		out, err := b.c.sh(ctx, "journalctl -q --no-pager -o cat -u gardu.service -n 60")
		if err != nil {
			return err
		}
		return has("the log", out, "/etc/gardu/gardu.toml line 1", "brnad")
	})
	// Whoever comes meanwhile reads that it is out of service, and not a browser's error.
	begin := time.Now()
	if err == nil {
		err = b.health(ctx, time.Minute, `"out_of_service"`)
	}
	took := time.Since(begin)
	if _, e := b.c.sh(ctx, "mv /root/kept.toml /etc/gardu/gardu.toml; gardu update resume; systemctl restart gardu.service"); e != nil || err != nil {
		return "", errors.Join(err, e)
	}
	return fmt.Sprintf("OUT OF SERVICE after %.0f s", took.Seconds()), b.health(ctx, 30*time.Second, inService)
}

// kiosk installs the screen's package without its compositor and browser, which want
// a display: what it brings is looked at, and what its user may do.
func (b *bench) kiosk(ctx context.Context) (string, error) {
	before, err := b.c.files(ctx)
	if err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, "dpkg -i --force-depends "+visitDir+"/kiosk.deb 2>&1; useradd --system stranger"); err != nil {
		return "", err
	}
	state, err := b.c.sh(ctx, `systemctl is-enabled gardu-kiosk.service; stat -c '%n %U %a' /etc/chromium/policies/managed/gardu-kiosk.json /etc/pam.d/gardu-kiosk /usr/lib/gardu/kiosk-session; id -Gn gardu-kiosk`)
	if err != nil {
		return "", err
	}
	if err := has("the machine", state, "enabled\n", "/etc/chromium/policies/managed/gardu-kiosk.json root 644\n", "/etc/pam.d/gardu-kiosk root 644\n", "kiosk-session root 755\n", "gardu-kiosk"); err != nil {
		return "", err
	}
	as := func(who, line string) (string, error) {
		return b.c.in(ctx, "runuser", "-u", who, "--", "sh", "-c", line)
	}
	out, err := as("gardu-kiosk", "gardu ui ticket")
	if err != nil {
		return "", err
	}
	if err := has("gardu ui ticket", out, "http://"+b.plan.Screen+"/?ticket="); err != nil {
		return "", err
	}
	for _, refused := range [][2]string{
		{"gardu-kiosk", "gardu queue list"}, {"stranger", "gardu ui ticket"}, {"gardu-kiosk", "cat /etc/gardu/staff.toml"}, {"gardu-kiosk", "ls /var/lib/gardu"},
		{"stranger", "cat /etc/gardu/token-pin.cred"}, {"stranger", "cat /etc/gardu/prepaid-api.key"},
	} {
		if out, err := as(refused[0], refused[1]); err == nil {
			return "", fmt.Errorf("%s may do %q: %s", refused[0], refused[1], out)
		}
	}
	// A browser builds a sandbox of its own and needs much for it; see operations.md.
	said, err := b.exposed(ctx, 6.8, "gardu-kiosk")
	if err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, "userdel stranger; dpkg --purge gardu-kiosk 2>&1"); err != nil {
		return "", err
	}
	after, err := b.c.files(ctx)
	if err != nil {
		return "", err
	}
	return said, left(before, after)
}
