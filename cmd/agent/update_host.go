package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/config"
	"gardu/internal/update"
)

// sourceDate is a day on which this source existed: no clock that says an earlier
// one is right. Whoever makes a release may raise it.
var sourceDate = time.Date(2026, time.November, 21, 0, 0, 0, 0, time.UTC)

// updateView is what the updater reads of the configuration. It reads no other
// table, so that a mistake elsewhere keeps no kiosk from the release that mends it.
type updateView struct {
	Kiosk  kioskSettings  `toml:"kiosk"`
	Update updateSettings `toml:"update"`
	Admin  adminSettings  `toml:"admin"`
	Audit  auditSettings  `toml:"audit"`
	Log    logSettings    `toml:"log"`
}

func readUpdateView(file string) (*updateView, error) {
	d := defaultSettings()
	v := &updateView{Update: d.Update, Admin: d.Admin, Audit: d.Audit}
	if err := config.ReadTables(file, v, "kiosk", "update", "admin", "audit", "log"); err != nil {
		return nil, err
	}
	return v, v.Update.check(func(key, problem, hint string) error {
		return &config.Error{File: file, Line: config.Line(file, key), Key: key, Err: errors.New(problem), Hint: hint}
	})
}

// updaterOf is an Updater with what has to be closed after it.
type updaterOf struct {
	*update.Updater

	rec *actRecorder
	id  *identity
}

func (u *updaterOf) close() {
	u.id.close()
	u.rec.close()
}

func (a *app) updater(ctx context.Context, from string) (*updaterOf, error) {
	v, err := readUpdateView(a.config)
	if err != nil {
		return nil, err
	}
	log, err := newLog(a.err, v.Log)
	if err != nil {
		return nil, err
	}
	s := v.Update
	repository := s.Repository
	if from != "" {
		if from, err = filepath.Abs(from); err != nil {
			return nil, err
		}
		repository = "file://" + from
	}
	settle := time.Duration(s.Settle)
	if a.prefix != "" && a.trial > 0 {
		settle = a.trial // nothing of this machine is installed, and a test does not wait
	}
	rec := a.recorderAt(v.Audit.Path, log)
	id := &identity{config: a.config, view: v, log: log}
	o := update.Options{
		Paths:  a.paths(),
		Source: s.source(repository, id),
		Root:   s.RootFile, MaxAge: time.Duration(s.MaxAge), Built: sourceDate,
		Kiosk: update.KioskID(v.Kiosk.Number), Channel: s.Channel, Arch: runtime.GOARCH, Base: factoryVersion(ctx, a.paths()),
		Windows: s.windows(), Zone: s.location(), Held: s.HoldReason,
		Settle: settle, Within: time.Duration(s.Within), IdleWait: time.Duration(s.WaitIdle),
		Host: &updateHost{a, v.Admin.Socket}, Record: rec.record, Log: log,
	}
	o.Source.Fetcher = a.fetcher()
	return &updaterOf{update.New(o), rec, id}, nil
}

// factoryVersion asks the factory copy what it was built as; empty where it cannot
// say.
func factoryVersion(ctx context.Context, p update.Paths) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	v, err := programVersion(ctx, p.Factory)
	if err != nil {
		return ""
	}
	return v
}

func programVersion(ctx context.Context, program string) (string, error) {
	out, err := asService(ctx, program, "version", "--json").Output()
	if err != nil {
		return "", fmt.Errorf("it does not run: %w", err)
	}
	var v struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return "", fmt.Errorf("it does not say its version: %w", err)
	}
	return strings.TrimPrefix(v.Version, "v"), nil
}

// serviceUser is whom the agent runs as.
const serviceUser = "gardu"

// asService prepares a run of a program as the service's user, where there is one
// and we are root: nothing that was just fetched runs as root before it has shown
// that it works.
func asService(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, program, args...) //nolint:gosec // G204: a verified version of ourselves
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8"}
	c.Dir = "/"
	c.WaitDelay = time.Second
	if os.Geteuid() != 0 {
		return c
	}
	u, err := user.Lookup(serviceUser)
	if err != nil {
		return c
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if uerr == nil && gerr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return c
}

// updateHost is this machine for the updater.
type updateHost struct {
	a      *app
	socket string
}

// Ask implements update.Host.
func (h *updateHost) Ask(ctx context.Context) (*update.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var got update.Agent
	err := admin.Ask(ctx, h.socket, verbUpdateState, nil, &got)
	if errors.Is(err, admin.ErrNotRunning) {
		return nil, fmt.Errorf("%w: %w", update.ErrNotRunning, err)
	}
	if err != nil {
		return nil, err
	}
	return &got, nil
}

// Restart implements update.Host. Whatever was started before, what is to be started
// now has all its starts (StartLimitBurst), and is not refused for those of another.
func (h *updateHost) Restart(ctx context.Context) error {
	if err := h.a.systemctl(ctx, "reset-failed", unitName); err != nil {
		_, _ = fmt.Fprintf(h.a.err, "gardu: %v\n", err)
	}
	return h.a.systemctl(ctx, "restart", unitName)
}

// Check implements update.Host: the new program says its version and judges itself
// and the configuration, before anything is swapped.
func (h *updateHost) Check(ctx context.Context, program, version string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if version != update.Factory {
		got, err := programVersion(ctx, program)
		if err != nil {
			return err
		}
		if got != version {
			return fmt.Errorf("it says that it is version %q", got)
		}
	}
	return h.a.selfCheck(ctx, program)
}

// selfCheck has a program judge itself and the configuration, and says what is worse
// with it than with the program that runs. What fails with both is this kiosk's
// trouble, which a release may be there to mend; the token is judged by the agent
// itself, which has its PIN, once it runs.
func (a *app) selfCheck(ctx context.Context, program string) error {
	now, err := a.findings(ctx, program)
	if err != nil || len(now) == 0 {
		return err
	}
	p := a.paths()
	before, err := a.findings(ctx, p.Program(p.Committed()))
	if err != nil {
		before = nil // then every failure counts
	}
	failed := map[string]bool{"token": true}
	for _, f := range before {
		failed[f.What] = failed[f.What] || !f.OK
	}
	for _, f := range now {
		if f.OK || failed[f.What] {
			continue
		}
		if f.Do != "" {
			f.Detail += "; " + f.Do
		}
		return fmt.Errorf("%s: %s", f.What, f.Detail)
	}
	return nil
}

// findings runs a program's 'check --self'. A version from before that command
// existed has none.
func (a *app) findings(ctx context.Context, program string) ([]finding, error) {
	file, err := filepath.Abs(a.config)
	if err != nil {
		return nil, err
	}
	c := asService(ctx, program, "--config", file, "--json", "check", "--self")
	var said, trouble bytes.Buffer
	c.Stdout, c.Stderr = &said, &trouble
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitUsage && strings.Contains(trouble.String(), "unknown flag") {
		return nil, nil
	}
	var all []finding
	if json.Unmarshal(said.Bytes(), &all) != nil || len(all) == 0 {
		return nil, fmt.Errorf("its 'check --self' says nothing that could be read (%w): %s", errors.Join(err, ctx.Err()), firstLine(trouble.Bytes()))
	}
	return all, nil
}

// judgeConfig says whether a program that systemd gave up on only refuses the
// configuration. Where it says nothing that could be read, the program is at fault.
func (a *app) judgeConfig(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	all, err := a.findings(ctx, program)
	if err != nil {
		return nil
	}
	for _, f := range all {
		if f.What == "configuration" && !f.OK {
			return errors.New(f.Detail)
		}
	}
	return nil
}

// guard is what boot counter and rollback work with: no configuration is needed for
// it.
func (a *app) guard() (*update.Guard, *actRecorder) {
	rec := a.recorder()
	return &update.Guard{
		Paths: a.paths(), Record: rec.record,
		Say: func(format string, args ...any) { _, _ = fmt.Fprintf(a.err, "gardu: "+format+"\n", args...) },
	}, rec
}

// actRecorder writes acts of the updater into the audit record. Where that does not
// work the act goes on: a kiosk without a way back is worse than a line that is
// missing, and the system's own journal has it too.
type actRecorder struct {
	path  string
	log   *slog.Logger
	trail *audit.Trail
	dead  bool
}

// recorder finds the audit record without relying on the configuration.
func (a *app) recorder() *actRecorder {
	path := defaultSettings().Audit.Path
	if v, err := readUpdateView(a.config); err == nil {
		path = v.Audit.Path
	}
	return a.recorderAt(path, slog.New(slog.NewTextHandler(a.err, nil)))
}

func (a *app) recorderAt(path string, log *slog.Logger) *actRecorder {
	return &actRecorder{path: path, log: log}
}

func (r *actRecorder) record(act update.Act) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if r.dead {
		return
	}
	err := r.open(ctx)
	if err == nil {
		attrs := map[string]string{}
		for k, v := range act.Attrs {
			attrs[k] = v
		}
		_, err = r.trail.Append(ctx, audit.Entry{Act: act.Name, Object: act.Version, Result: act.Result, Who: "updater", Attrs: attrs, Sync: true})
	}
	if err != nil {
		r.dead = true
		r.log.Error("the audit record lacks an act of the updater", "act", act.Name, "version", act.Version, "error", err)
	}
}

// open opens the record and leaves it to the user whom its folder belongs to: the
// agent, which is not root, must go on writing to it.
func (r *actRecorder) open(ctx context.Context) (err error) {
	if r.trail != nil {
		return nil
	}
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Dir(r.path), &dir); err != nil {
		return err
	}
	r.trail, err = audit.Open(ctx, audit.Options{Path: r.path, Who: "updater", Log: r.log})
	if os.Geteuid() == 0 {
		for _, p := range []string{r.path, r.path + ".lock"} {
			var st unix.Stat_t
			if unix.Lstat(p, &st) == nil && st.Uid == 0 && dir.Uid != 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
				_ = os.Lchown(p, int(dir.Uid), int(dir.Gid))
			}
		}
	}
	return err
}

func (r *actRecorder) close() {
	if r.trail != nil {
		_ = r.trail.Close()
	}
}
