package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// container is one machine: Debian's own tree below, what was changed above, and a
// systemd of its own. Killing it is cutting its power, but for what the page cache
// holds: that survives, as on a disk that keeps its word (make crash is for disks).
type container struct {
	dir  string // everything of this machine
	root string // its file system

	cmd    *exec.Cmd
	done   chan struct{}
	leader int // its process 1, as this machine counts
}

// newContainer makes a machine that was never started, from a tree of Debian.
func newContainer(base string) (*container, error) {
	dir, err := os.MkdirTemp("/var/tmp", "gardu-packagetest-")
	if err != nil {
		return nil, fmt.Errorf("make the machine's folder: %w", err)
	}
	c := &container{dir: dir, root: filepath.Join(dir, "root")}
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil { //nolint:gosec // G301: a machine's file system, whose users must get in
			return nil, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // G302: likewise
		return nil, err
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", c.root, "overlay", 0, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("lay the machine's changes over %s: %w; run it as root on a kernel with overlayfs", base, err), os.RemoveAll(dir))
	}
	return c, nil
}

// boot starts the machine and waits until its systemd has started everything.
func (c *container) boot(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// A power cut leaves lists of what is mounted that nspawn would stumble over.
	c.cmd = exec.Command("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--hostname=kiosk", "-D", c.root, "-b") //nolint:gosec,noctx // G204: our own folder; it is ended by powerOff
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start systemd-nspawn: %w", err), log.Close())
	}
	c.done = make(chan struct{})
	go func() {
		_ = c.cmd.Wait()
		_ = log.Close()
		close(c.done)
	}()
	stop := time.After(90 * time.Second)
	for {
		if c.leader = child(c.cmd.Process.Pid); c.leader != 0 {
			out, _ := c.in(ctx, "systemctl", "is-system-running")
			if s := strings.TrimSpace(out); s == "running" || s == "degraded" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return fmt.Errorf("the machine ended while it started; see %s", log.Name())
		case <-stop:
			return fmt.Errorf("the machine has not started after 90 seconds; see %s", log.Name())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// child is the only child of a process; 0 while there is none.
func child(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		return 0
	}
	return n
}

// cutPower ends every process of the machine in the same instant.
func (c *container) cutPower() {
	if c.cmd == nil {
		return
	}
	if c.leader != 0 {
		_ = syscall.Kill(c.leader, syscall.SIGKILL) // process 1 of a process name space takes all others along
	}
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
	c.cmd, c.leader = nil, 0
}

func (c *container) remove() error {
	c.cutPower()
	if err := unix.Unmount(c.root, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take the machine apart: %w", err)
	}
	return os.RemoveAll(c.dir)
}

// command is a program inside the machine.
func (c *container) command(ctx context.Context, argv ...string) *exec.Cmd {
	args := append([]string{"--target", strconv.Itoa(c.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...) //nolint:gosec // G204: the test's own words
	cmd.WaitDelay = 2 * time.Second                     // what nsenter has started outlives it, and holds its output
	return cmd
}

// in runs a program inside the machine and returns what it printed.
func (c *container) in(ctx context.Context, argv ...string) (string, error) {
	return c.feed(ctx, nil, argv...)
}

// sh runs a line of shell inside the machine.
func (c *container) sh(ctx context.Context, line string) (string, error) {
	return c.in(ctx, "sh", "-c", line)
}

func (c *container) feed(ctx context.Context, in io.Reader, argv ...string) (string, error) {
	cmd := c.command(ctx, argv...)
	cmd.Stdin = in
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String()+" "+string(out)))
	}
	return string(out), err
}

// path is a file of the machine as it is called from outside.
func (c *container) path(p string) string { return filepath.Join(c.root, p) }

// put writes a file of the machine, from outside.
func (c *container) put(path string, mode os.FileMode, b []byte) error {
	to := c.path(path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // G301: a machine's file system
		return err
	}
	if err := os.WriteFile(to, b, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

func (c *container) copyIn(from, path string, mode os.FileMode) error {
	b, err := os.ReadFile(from) //nolint:gosec // G304: what the test itself built
	if err != nil {
		return err
	}
	return c.put(path, mode, b)
}

// files lists every file of the machine that lasts, with a word on what it is.
func (c *container) files(ctx context.Context) (map[string]string, error) {
	out, err := c.sh(ctx, `find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path `+visitDir+` \) -prune -o -printf '%p\t%y%l\n'`)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		path, what, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		all[path] = what
	}
	return all, nil
}
