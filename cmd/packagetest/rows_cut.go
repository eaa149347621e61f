package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The steps of a swap, as what lies on the disk tells them apart. Each is where the
// power is cut once.
var swapSteps = []string{"download begun", "download whole", "on its way into its slot", "slot filled", "pending written", "link switched", "restarted"}

// swapStep reads from the machine's disk how far the way of a version to its place has
// come; -1 where it has not begun.
func (b *bench) swapStep(version string) int {
	opt := b.c.path("/opt/gardu")
	there := func(parts ...string) bool {
		m, err := filepath.Glob(filepath.Join(append([]string{opt}, parts...)...))
		return err == nil && len(m) > 0
	}
	var state struct {
		Pending string `json:"pending"`
		Tries   int    `json:"tries"`
	}
	if text, err := os.ReadFile(b.c.path("/var/lib/gardu-update/state.json")); err == nil {
		_ = json.Unmarshal(text, &state) // replaced whole, so it is what it was or what it will be
	}
	to, _ := os.Readlink(filepath.Join(opt, "current"))
	switch linked := to == "versions/"+version; {
	case linked && state.Tries > 0:
		return 6
	case linked:
		return 5
	case state.Pending == version:
		return 4
	case there("versions", version, "gardu"):
		return 3
	case there("versions", ".staging", "gardu"):
		return 2
	case there("download", "*.part"):
		return 0
	case there("download", "*"):
		return 1
	}
	return -1
}

// cuts publishes one release and cuts the power at each step of its way, again and
// again, until it has come through. The updater is the one that is shipped. It runs on
// a disk that is made slow: whatever it renames or syncs takes long to return.
func (b *bench) cuts(ctx context.Context) (string, error) {
	before, version := b.now, "2.1.104"
	if err := b.offer(ctx, version); err != nil {
		return "", err
	}
	var done []string
	for i, name := range swapSteps {
		if err := b.cutAt(ctx, i, version); err != nil {
			return "", fmt.Errorf("%q: %w", name, err)
		}
		if err := until(ctx, time.Minute, func() error {
			return either(b.whole(ctx, before), b.whole(ctx, version))
		}); err != nil {
			return "", fmt.Errorf("after %q: %w", name, err)
		}
		done = append(done, name)
	}
	if err := b.ask(ctx); err != nil {
		return "", err
	}
	if err := b.runs(ctx, 3*time.Minute, version); err != nil {
		return "", err
	}
	b.now = version
	_, err := b.c.in(ctx, "gardu", "audit", "verify")
	return strings.Join(done, ", "), err
}

// cutAt starts the updater on a slow disk and cuts the power at one step, and makes
// sure that it was that one and none after it.
func (b *bench) cutAt(ctx context.Context, step int, version string) error {
	free, err := b.slowUpdater(ctx)
	if err != nil {
		return err
	}
	defer free()
	if err := soon(ctx, 90*time.Second, func() bool { return b.swapStep(version) >= step }); err != nil {
		s, _ := b.status(ctx)
		return fmt.Errorf("it was not seen: %w; %s %s", err, s.Current, s.Reason.Text)
	}
	b.c.cutPower()
	if at := b.swapStep(version); at != step {
		return fmt.Errorf("the power was cut at another step, %d of %v", at, swapSteps)
	}
	return b.boots(ctx)
}

// slow is how long a rename or a sync of the updater takes to return.
const slow = 300 * time.Millisecond

// slowUpdater starts the updater as its timer does, but that it stops before its first
// instruction and is let go with strace at its side, which makes its disk slow.
func (b *bench) slowUpdater(ctx context.Context) (free func(), err error) {
	if _, err := b.c.sh(ctx, `mkdir -p /run/systemd/system/gardu-update.service.d && printf '[Service]\nExecStart=\nExecStart=/bin/sh -c "kill -STOP $$$$; exec /usr/lib/gardu/gardu update run"\n' >/run/systemd/system/gardu-update.service.d/slow.conf && systemctl daemon-reload`); err != nil {
		return nil, err
	}
	if err := b.ask(ctx); err != nil {
		return nil, err
	}
	pid := 0
	if err := until(ctx, 20*time.Second, func() error {
		out, err := b.c.in(ctx, "systemctl", "show", "gardu-update.service", "-p", "MainPID", "--value")
		if err != nil {
			return err
		}
		if pid, err = b.c.outside(strings.TrimSpace(out)); err != nil {
			return err
		}
		return statusHas(pid, "State:\tT")
	}); err != nil {
		return nil, fmt.Errorf("stop the updater before it begins: %w", err)
	}
	tracer := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(pid), //nolint:gosec // G204: our own
		"-e", "trace=/^(rename|symlink|fsync)", "-e", "inject=/^(rename|symlink|fsync):delay_exit="+strconv.FormatInt(slow.Microseconds(), 10))
	if err := tracer.Start(); err != nil {
		return nil, fmt.Errorf("make the updater's disk slow: %w", err)
	}
	free = func() {
		_ = tracer.Process.Kill() // the updater is dead already, or goes on at its own pace
		_ = tracer.Wait()
	}
	err = until(ctx, 20*time.Second, func() error { return statusHas(pid, "TracerPid:\t"+strconv.Itoa(tracer.Process.Pid)+"\n") })
	if err == nil {
		err = unix.Kill(pid, unix.SIGCONT)
	}
	if err != nil {
		free()
		return nil, fmt.Errorf("make the updater's disk slow: %w", err)
	}
	return free, nil
}

// statusHas reports an error unless a process's status has a text.
func statusHas(pid int, text string) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	return has("the process's status", string(b), text)
}

// outside is the number that a process of the machine has outside of it.
func (c *container) outside(inside string) (int, error) {
	if inside == "" || inside == "0" {
		return 0, errors.New("it does not run")
	}
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.leader))
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if s, err := os.Readlink(p + "/ns/pid"); err != nil || s != space {
			continue
		}
		status, err := os.ReadFile(p + "/status") //nolint:gosec // G304: the kernel's own
		if err == nil && lastNumber(string(status)) == inside {
			return strconv.Atoi(filepath.Base(p))
		}
	}
	return 0, fmt.Errorf("process %s of the machine is not found", inside)
}

// lastNumber is a process's number in its own name space.
func lastNumber(status string) string {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
			return f[len(f)-1]
		}
	}
	return ""
}

// soon looks as often as it can.
func soon(ctx context.Context, limit time.Duration, see func() bool) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		if see() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("not within %s", limit)
}
