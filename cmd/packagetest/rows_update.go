package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const repoPath = visitDir + "/repository"

// updateRows are about releases that come through the updater. One version follows
// the other, so their order counts.
func (b *bench) updateRows() []row {
	all := []row{
		{name: "key ceremony, repository, root of trust: gardu update check", needs: true, do: b.ceremony},
		{name: "update to a good release under a probe", limit: 5 * time.Minute, do: func(ctx context.Context) (string, error) { return b.good(ctx, "1.0.101", 0) }},
	}
	for _, broken := range [][2]string{
		{"2.0.101", "exits"}, {"2.0.102", "panics before main"}, {"2.0.103", "is truncated"}, {"2.0.104", "is never ready"},
		{"2.0.105", "dies after ready"}, {"2.0.106", "stops its watchdog"}, {"2.0.107", "dies slowly"},
		{"2.0.108", "hangs when asked who it is"}, // root ends what runs as another user
	} {
		all = append(all, row{
			name: "a release that " + broken[1] + ": back by itself", limit: 6 * time.Minute,
			do: func(ctx context.Context) (string, error) { return b.broken(ctx, broken[0]) },
		})
	}
	return append(all,
		row{name: "a program torn on the disk after it was installed: back by itself", do: b.torn},
		row{name: "a customer's session: the update waits for its end", limit: 5 * time.Minute, do: b.waits},
		row{name: "power cut at each step of the swap: one whole version, then the new one", limit: 15 * time.Minute, do: b.cuts},
		row{name: "disk full: the reason is shown, nothing changes, and it goes on afterwards", limit: 5 * time.Minute, do: b.diskFull},
		row{name: "a repository that demands a client certificate: its key is in the token", limit: 5 * time.Minute, do: b.identifies},
		row{name: "USB: gardu update apply --from, without a repository", limit: 5 * time.Minute, do: b.usb},
		row{name: "hold, resume, and rollback by hand", limit: 5 * time.Minute, do: b.byHand},
	)
}

// status is what gardu update status --json says.
type status struct {
	Current string `json:"current"`
	Pending bool   `json:"pending"`
	Reason  struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"reason"`
	Bad map[string]string `json:"bad"`
}

func (b *bench) status(ctx context.Context) (s status, err error) {
	out, err := b.c.in(ctx, "gardu", "update", "status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// runs waits until a version is committed and the agent runs from it, whole.
func (b *bench) runs(ctx context.Context, limit time.Duration, version string) error {
	return until(ctx, limit, func() error {
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		if s.Current != version || s.Pending {
			return fmt.Errorf("version %s (pending %v) is installed: %s %s", s.Current, s.Pending, s.Reason.Code, s.Reason.Text)
		}
		return b.whole(ctx, version)
	})
}

// whole reports an error unless the agent is in service and runs from exactly the
// program that was published as the version.
func (b *bench) whole(ctx context.Context, version string) error {
	line, err := b.c.sh(ctx, `p=$(systemctl show gardu.service -p MainPID --value); readlink /proc/$p/exe && cat /proc/$p/exe | sha256sum`)
	if err != nil {
		return err
	}
	exe := "/opt/gardu/versions/" + version + "/gardu"
	from := filepath.Join(programs, version)
	if version == "factory" {
		exe, from = "/usr/lib/gardu/gardu", built+"/"+b.from+".programs/gardu-linux-amd64"
	}
	sum, err := sumOf(from)
	if err != nil {
		return err
	}
	if err := has("the agent's process", line, exe+"\n", sum); err != nil {
		return err
	}
	return b.health(ctx, 5*time.Second, inService)
}

func (b *bench) ceremony(ctx context.Context) (string, error) {
	p, err := newPublisher(b.c.path(repoPath))
	if err != nil {
		return "", err
	}
	b.pub = p
	if _, err := b.c.sh(ctx, "install -m 0644 "+repoPath+"/metadata/1.root.json /etc/gardu/update-root.json"); err != nil {
		return "", err
	}
	// A version must work for longer than systemd waits for its first word and for its
	// signs of life, or one that gives none would be committed.
	if err := b.setUpdate("repository = \"file://" + repoPath + "/\"\nsettle = \"30s\"\nwithin = \"90s\"\nwait_idle = \"20s\"\n"); err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "systemctl", "restart", "gardu.service"); err != nil {
		return "", err
	}
	if err := b.health(ctx, 20*time.Second, inService); err != nil {
		return "", err
	}
	out, err := b.c.in(ctx, "gardu", "update", "check")
	return strings.TrimSpace(out), err
}

// setUpdate writes the table [update] of the configuration anew.
func (b *bench) setUpdate(text string) error {
	path := b.c.path("/etc/gardu/gardu.toml")
	old, err := os.ReadFile(path) //nolint:gosec // G304: the machine's own file
	if err != nil {
		return err
	}
	const mark = "# The test's own: updates.\n"
	kept, _, _ := strings.Cut(string(old), mark)
	// A sample may have the table already: ours takes its place.
	var out []string
	inside := false
	for line := range strings.Lines(kept) {
		if strings.HasPrefix(line, "[") {
			inside = strings.HasPrefix(line, "[update]")
		}
		if !inside {
			out = append(out, line)
		}
	}
	return b.c.put("/etc/gardu/gardu.toml", 0o644, []byte(strings.Join(out, "")+mark+"[update]\n"+text))
}

// ask starts the updater as its timer does, without waiting for it.
func (b *bench) ask(ctx context.Context) error {
	_, err := b.c.sh(ctx, "systemctl reset-failed gardu-update.service 2>/dev/null; systemctl start --no-block gardu-update.service")
	return err
}

// offer publishes a release when no run of the updater is under way any more: it
// could see half of it, and asking for another one would do nothing.
func (b *bench) offer(ctx context.Context, version string) error {
	if err := b.idle(ctx); err != nil {
		return err
	}
	return b.pub.release(version, filepath.Join(programs, version))
}

// good publishes a release and waits until it is committed, under a probe.
func (b *bench) good(ctx context.Context, version string, most int) (string, error) {
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	said, err := b.under(ctx, most, func() error {
		if err := b.ask(ctx); err != nil {
			return err
		}
		return b.runs(ctx, 2*time.Minute, version)
	})
	b.now = version
	return said, err
}

// broken publishes a release that does not work and waits until the one before runs
// again and the other is not tried any more.
func (b *bench) broken(ctx context.Context, version string) (string, error) {
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	why := ""
	said, err := b.under(ctx, 2, func() error {
		if err := b.ask(ctx); err != nil {
			return err
		}
		if err := until(ctx, 4*time.Minute, func() error {
			s, err := b.status(ctx)
			if err != nil {
				return err
			}
			if why = s.Bad[version]; why == "" && s.Reason.Code == "new_version_refuses" && strings.Contains(s.Reason.Text, version) {
				why = s.Reason.Text // found before the swap
			}
			if why == "" {
				return fmt.Errorf("version %s is not called bad: %s (pending %v), %s %s", version, s.Current, s.Pending, s.Reason.Code, s.Reason.Text)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := b.runs(ctx, time.Minute, b.now); err != nil {
			return err
		}
		return b.idle(ctx)
	})
	return said + "; " + why, err
}

// idle waits for the end of a run of the updater.
func (b *bench) idle(ctx context.Context) error {
	return until(ctx, 3*time.Minute, func() error {
		out, err := b.c.in(ctx, "systemctl", "show", "gardu-update.service", "-p", "ActiveState", "--value")
		if s := strings.TrimSpace(out); err == nil && s == "activating" {
			err = errors.New("the updater is at work")
		}
		return err
	})
}

func (b *bench) torn(ctx context.Context) (string, error) {
	before := b.now
	if _, err := b.good(ctx, "2.1.102", 0); err != nil {
		return "", err
	}
	said, err := b.under(ctx, 2, func() error {
		// A program that runs cannot be cut, but be replaced by what is left of it.
		if _, err := b.c.sh(ctx, "cd /opt/gardu/versions/2.1.102 && head -c 5000000 gardu >torn && chmod 755 torn && mv torn gardu && kill -9 $(systemctl show gardu.service -p MainPID --value)"); err != nil {
			return err
		}
		return b.runs(ctx, time.Minute, before)
	})
	if err == nil {
		b.now = before
	}
	return said, err
}

// waits keeps a customer typing while an update is wanted.
func (b *bench) waits(ctx context.Context) (string, error) {
	cmd := b.c.command(ctx, visitDir+"/bin/packagetest", "visit", "session")
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "typing\n" {
		return "", fmt.Errorf("the customer did not begin: %q %w", line, err)
	}
	const version = "2.1.103"
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	if err := b.ask(ctx); err != nil {
		return "", err
	}
	var reason string
	if err := until(ctx, time.Minute, func() error {
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		if s.Reason.Code != "session_active" {
			return fmt.Errorf("the reason is %s: %s", s.Reason.Code, s.Reason.Text)
		}
		reason = s.Reason.Text
		return nil
	}); err != nil {
		return "", err
	}
	for range 30 { // half the while a customer may think
		if err := b.whole(ctx, b.now); err != nil {
			return "", fmt.Errorf("while the customer is there: %w", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := in.Close(); err != nil { // the customer leaves, and the page with them
		return "", err
	}
	if err := b.idle(ctx); err != nil {
		return "", err
	}
	if err := b.ask(ctx); err != nil { // the timer's next time
		return "", err
	}
	if err := b.runs(ctx, 4*time.Minute, version); err != nil {
		return "", err
	}
	b.now = version
	return reason, b.idle(ctx)
}

func either(a, b error) error {
	if a == nil || b == nil {
		return nil
	}
	return errors.Join(a, b)
}

// diskFull puts the versions on a disk with five megabytes left.
func (b *bench) diskFull(ctx context.Context) (string, error) {
	if err := b.idle(ctx); err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, `size=$(du -sk /opt/gardu | cut -f1); cp -a /opt/gardu /opt/gardu.copy && mount -t tmpfs -o mode=0755,size=$((size + 5000))k tmpfs /opt/gardu && cp -a /opt/gardu.copy/. /opt/gardu/ && rm -rf /opt/gardu.copy`); err != nil {
		return "", err
	}
	const version = "2.1.105"
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	var reason string
	err := b.ask(ctx)
	if err == nil {
		err = until(ctx, time.Minute, func() error {
			s, err := b.status(ctx)
			if err == nil && s.Reason.Code != "disk" {
				err = fmt.Errorf("the reason is %s: %s", s.Reason.Code, s.Reason.Text)
			}
			reason = s.Reason.Text
			return err
		})
	}
	if err == nil {
		err = b.whole(ctx, b.now)
	}
	if err := errors.Join(err, b.idle(ctx)); err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, "mount -o remount,size=200M /opt/gardu"); err != nil {
		return "", err
	}
	if err := b.ask(ctx); err != nil {
		return "", err
	}
	if err := b.runs(ctx, 2*time.Minute, version); err != nil {
		return "", err
	}
	b.now = version
	// Back to the machine's own disk, as a person would who gave it more.
	_, err = b.c.sh(ctx, `cp -a /opt/gardu /opt/gardu.copy && umount -l /opt/gardu && rm -rf /opt/gardu && mv /opt/gardu.copy /opt/gardu && systemctl restart gardu.service`)
	if err == nil {
		err = b.runs(ctx, time.Minute, version)
	}
	return reason, err
}

func (b *bench) usb(ctx context.Context) (string, error) {
	const version = "2.1.106"
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	if err := b.pub.copyTo(b.c.path(visitDir + "/usb/gardu")); err != nil {
		return "", err
	}
	if err := b.setUpdate("settle = \"30s\"\nwithin = \"90s\"\nwait_idle = \"20s\"\n"); err != nil {
		return "", err
	}
	if s, err := b.status(ctx); err != nil || s.Reason.Code != "not_configured" {
		return "", fmt.Errorf("without a repository the reason is %s: %w", s.Reason.Code, err)
	}
	out, err := b.c.in(ctx, "gardu", "update", "apply", "--from", visitDir+"/usb/gardu")
	if err != nil {
		return "", err
	}
	b.now = version
	return strings.TrimSpace(out), b.runs(ctx, 30*time.Second, version)
}

func (b *bench) byHand(ctx context.Context) (string, error) {
	if err := b.setUpdate("repository = \"file://" + repoPath + "/\"\nsettle = \"30s\"\nwithin = \"90s\"\nwait_idle = \"20s\"\n"); err != nil {
		return "", err
	}
	before, version := b.now, "2.1.107"
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "gardu", "update", "hold", "--reason", "the test"); err != nil {
		return "", err
	}
	if err := b.ask(ctx); err != nil {
		return "", err
	}
	if err := until(ctx, 30*time.Second, func() error {
		s, err := b.status(ctx)
		if err == nil && s.Reason.Code != "held" {
			err = fmt.Errorf("the reason is %s: %s", s.Reason.Code, s.Reason.Text)
		}
		return err
	}); err != nil {
		return "", err
	}
	if err := errors.Join(b.idle(ctx), b.whole(ctx, before)); err != nil {
		return "", err
	}
	if _, err := b.c.in(ctx, "gardu", "update", "resume"); err != nil {
		return "", err
	}
	// An operator who is not root asks for it; a stranger may not.
	if _, err := b.c.sh(ctx, "useradd -G gardu-ops alice && useradd mallory"); err != nil {
		return "", err
	}
	if out, err := b.c.in(ctx, "runuser", "-u", "mallory", "--", "gardu", "update", "apply"); err == nil {
		return "", fmt.Errorf("a stranger may ask for updates: %s", out)
	}
	asked, err := b.c.in(ctx, "runuser", "-u", "alice", "--", "gardu", "update", "apply")
	if err != nil {
		return "", err
	}
	if err := has("gardu update apply", asked, "the updater was asked"); err != nil {
		return "", err
	}
	if _, err := b.c.sh(ctx, "userdel alice && userdel mallory"); err != nil {
		return "", err
	}
	if err := errors.Join(b.runs(ctx, 2*time.Minute, version), b.idle(ctx)); err != nil {
		return "", err
	}
	out, err := b.c.in(ctx, "gardu", "update", "rollback", "--reason", "the test")
	if err != nil {
		return "", err
	}
	if err := b.runs(ctx, 30*time.Second, before); err != nil {
		return "", err
	}
	said, err := b.c.in(ctx, "gardu", "update", "rollback", "--to", "factory", "--reason", "the test")
	if err != nil {
		return "", err
	}
	b.now = "factory"
	return strings.TrimSpace(out) + "; " + strings.TrimSpace(said), b.runs(ctx, 30*time.Second, "factory")
}
