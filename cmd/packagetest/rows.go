package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench is the machine under test and what is known of it.
type bench struct {
	c    *container
	plan plan
	old  string // the version that is installed first
	new  string // the one it is upgraded to
	now  string // the one that an update has brought, or factory
	from string // the folder of the package that is installed: old or new
	pub  *publisher

	before map[string]string // files before anything was installed
	failed int
	passed int
}

// plan is what the visitor chose for this machine (stage.Stage as JSON).
type plan struct {
	Screen       string `json:"screen"`
	Finpay       string `json:"finpay"`
	Netzme       string `json:"netzme"`
	Prepaid      string `json:"prepaid"`
	Control      string `json:"control"`
	StaffCode    string `json:"staff_code"`
	FinpaySecret string `json:"finpay_secret"`
	NetzmeSecret string `json:"netzme_secret"`
	EnvelopeKey  string `json:"envelope_key"`
	APIKey       string `json:"api_key"`
	SecureCode   string `json:"secure_code"`
}

// row is one thing that must hold. A row that others need stops the test when it
// fails.
type row struct {
	name  string
	needs bool // the rows that follow need it
	limit time.Duration
	do    func(context.Context) (string, error)
}

// What test.sh has built.
const (
	built    = "build/packagetest"
	base     = built + "/base"
	programs = built + "/programs"
)

func test(ctx context.Context, only *regexp.Regexp, keep bool) error {
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it starts a container")
	}
	top, err := filepath.Abs(base)
	if err != nil {
		return err
	}
	alone, err := os.Open(top) //nolint:gosec // G304: what test.sh made
	if err != nil {
		return err
	}
	defer alone.Close()
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another run is under way (%w): two machines would share their control groups, and the one's systemd would see the other's processes", err)
	}
	c, err := newContainer(top)
	if err != nil {
		return err
	}
	b := &bench{c: c, now: "factory", from: "old"}
	defer func() {
		if keep {
			c.cutPower()
			fmt.Printf("\nThe machine is kept in %s: umount %s before you remove it.\n", c.dir, c.root)
			return
		}
		if err := c.remove(); err != nil {
			fmt.Println(err)
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, r := range b.rows() {
		if !r.needs && !only.MatchString(r.name) {
			continue
		}
		if err := b.row(ctx, r); err != nil {
			return err
		}
	}
	fmt.Printf("\n%d passed, %d failed\n", b.passed, b.failed)
	if b.failed > 0 {
		return fmt.Errorf("%d rows did not hold", b.failed)
	}
	return nil
}

func (b *bench) row(ctx context.Context, r row) error {
	limit := r.limit
	if limit == 0 {
		limit = 3 * time.Minute
	}
	begin := time.Now()
	rowCtx, cancel := context.WithTimeout(ctx, limit)
	said, err := r.do(rowCtx)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	verdict := "PASS"
	if err != nil {
		verdict = "FAIL"
		b.failed++
	} else {
		b.passed++
	}
	fmt.Printf("%s  %-74s %6.1f s  %s\n", verdict, r.name, time.Since(begin).Seconds(), said)
	if err != nil {
		fmt.Println("      ", strings.ReplaceAll(err.Error(), "\n", "\n       "))
		if r.needs {
			b.logs(ctx)
			return fmt.Errorf("what follows needs %q", r.name)
		}
		b.logs(ctx)
	}
	return nil
}

// logs shows the end of the agent's log after a failure.
func (b *bench) logs(ctx context.Context) {
	if b.c.leader == 0 {
		return
	}
	out, err := b.c.sh(ctx, "journalctl --no-pager -q -n 40 -o cat -u 'gardu*'")
	if err == nil {
		fmt.Println("       the end of the log:\n         " + strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n         "))
	}
}

// prepare starts the machine and puts the test's own things in it.
func (b *bench) prepare(ctx context.Context) error {
	for path, from := range map[string]string{"/packagetest": built + "/packagetest", "/sandbox": built + "/sandbox"} {
		if err := b.c.copyIn(from, visitDir+"/bin"+path, 0o755); err != nil {
			return err
		}
	}
	if err := b.c.put(visitDir+"/bin/gardu", 0o755, []byte("#!/bin/sh\nexec gardu-as-service \"$@\"\n")); err != nil {
		return err
	}
	for _, v := range []struct {
		folder string
		into   *string
	}{{"old", &b.old}, {"new", &b.new}} {
		debs, err := filepath.Glob(filepath.Join(built, v.folder, "gardu_*_amd64.deb"))
		if err != nil || len(debs) != 1 {
			return fmt.Errorf("there are %d packages in %s/%s instead of one; run make package-test", len(debs), built, v.folder)
		}
		if err := b.c.copyIn(debs[0], visitDir+"/"+v.folder+".deb", 0o644); err != nil {
			return err
		}
		rpms, err := filepath.Glob(filepath.Join(built, v.folder, "gardu-[0-9]*.x86_64.rpm"))
		if err != nil || len(rpms) != 1 {
			return fmt.Errorf("there are %d rpm packages in %s/%s instead of one; run make package-test", len(rpms), built, v.folder)
		}
		if err := b.c.copyIn(rpms[0], visitDir+"/"+v.folder+".rpm", 0o644); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "dpkg-deb", "-f", debs[0], "Version").Output() //nolint:gosec // G204: our own package
		if err != nil {
			return fmt.Errorf("read the version of %s: %w", debs[0], err)
		}
		*v.into = strings.TrimSuffix(strings.TrimSpace(string(out)), "-1")
	}
	kiosk, err := filepath.Glob(filepath.Join(built, "new", "gardu-kiosk_*_all.deb"))
	if err != nil || len(kiosk) != 1 {
		return fmt.Errorf("there are %d packages gardu-kiosk in %s/new instead of one; run make package-test", len(kiosk), built)
	}
	if err := b.c.copyIn(kiosk[0], visitDir+"/kiosk.deb", 0o644); err != nil {
		return err
	}
	if err := os.Symlink("/etc/gardu/gardu.toml", b.c.path(visitDir+"/gardu.toml")); err != nil {
		return err
	}
	if err := b.c.boot(ctx); err != nil {
		return err
	}
	// So that what dpkg itself makes at its first run is no difference.
	if _, err := b.c.sh(ctx, "ip link set lo up 2>/dev/null; systemctl start systemd-logind; dpkg --configure -a"); err != nil {
		return err
	}
	b.before, err = b.c.files(ctx)
	return err
}

func (b *bench) rows() []row {
	all := []row{
		{name: "install: nothing runs before it is provisioned", needs: true, do: b.install},
		{name: "provision with SoftHSM, as provisioning.md says", needs: true, do: b.provision},
		{name: "first start: ready, in service, socket and credential from systemd", needs: true, do: b.firstStart},
		{name: "gardu check finds nothing wrong", do: b.check},
		{name: "the five operations, each once at its platform", limit: 5 * time.Minute, do: b.operations},
		{name: "operations.md: its commands run as they are written", do: b.firstLook},
		{name: "systemd-analyze security: every unit of the agent at most 1.5", do: b.security},
		{name: "restart under a probe", do: b.restart},
		{name: "a PIN that waits for the link survives a restart of the agent", do: b.pinSurvives},
		{name: "kill -9 under a probe: back by itself", do: b.killed},
		{name: "an agent that hangs is restarted by the watchdog", do: b.hangs},
		{name: "token gone: OUT OF SERVICE and no restart; back: in service", do: b.tokenGone},
		{name: "a wrong PIN is remembered; sealed anew it serves; without one it says so", do: b.wrongPIN},
		{name: "a configuration that cannot be used: named in the log, a page, mended", do: b.badConfiguration},
		{name: "power cut: everything is there after the boot, and the PIN's key is not", do: b.powerCut},
		{name: "the package's upgrade under a probe", do: b.upgrade},
	}
	all = append(all, b.updateRows()...)
	return append(all,
		row{name: "gardu-kiosk: its user gets a ticket and no more; policies, unit; purged", do: b.kiosk},
		row{name: "purge with an open request: refused, nothing destroyed", do: b.purgeRefused},
		row{name: "removed and installed again: the request goes on", do: b.reinstall},
		row{name: "remove and purge leave nothing but what they say", do: b.purge},
		row{name: "rpm: installed, upgraded and erased, its scripts and files like the deb's", do: b.rpm},
	)
}

// visit has the visitor do something inside.
func (b *bench) visit(ctx context.Context, args ...string) (string, error) {
	return b.c.in(ctx, append([]string{visitDir + "/bin/packagetest", "visit"}, args...)...)
}

// has says with an error what a text lacks.
func has(where, text string, parts ...string) error {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Errorf("%s does not say %q but:\n%s", where, p, strings.TrimSpace(text))
		}
	}
	return nil
}

// lacks says with an error what a text has that it should not.
func lacks(where, text string, parts ...string) error {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return fmt.Errorf("%s says %q:\n%s", where, p, strings.TrimSpace(text))
		}
	}
	return nil
}

// until tries again and again.
func until(ctx context.Context, limit time.Duration, try func() error) error {
	stop := time.After(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-stop:
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// health waits until /healthz of the agent says a text.
func (b *bench) health(ctx context.Context, limit time.Duration, text string) error {
	return until(ctx, limit, func() error {
		out, err := b.c.in(ctx, "curl", "-s", "-m", "5", "http://"+b.plan.Screen+"/healthz")
		if err != nil {
			return err
		}
		return has("healthz", out, text)
	})
}

const inService = `"status":"ok"`

// under does something while the page is loaded again and again, and says what the
// probe saw. At most so many loads may fail.
func (b *bench) under(ctx context.Context, most int, do func() error) (string, error) {
	const end = "/run/probe-ends"
	if _, err := b.c.sh(ctx, "rm -f "+end); err != nil {
		return "", err
	}
	p, err := b.startProbe(ctx, end)
	if err != nil {
		return "", err
	}
	err = do()
	if _, e := b.c.sh(ctx, "touch "+end); e != nil {
		return "", errors.Join(err, e)
	}
	saw, e := p()
	if err != nil || e != nil {
		return "", errors.Join(err, e)
	}
	said := fmt.Sprintf("%d of %d failed, the longest took %.1f s", saw.Failed, saw.Requests, saw.Longest.Seconds())
	if saw.Failed > most {
		return "", fmt.Errorf("%s: %s", said, strings.Join(saw.Why, "; "))
	}
	return said, nil
}
