package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Options are what an Updater works with.
type Options struct {
	Paths   Paths
	Source  SourceOptions // an empty URL: nothing is fetched
	Root    string        // the provisioned root
	MaxAge  time.Duration // of online metadata; 0: until it expires
	Built   time.Time     // when this program was built; zero where not known
	Kiosk   string
	Channel string
	Arch    string
	Base    string // what the factory copy was built as

	Windows []Window
	Zone    *time.Location // of the windows
	Held    string         // why the configuration holds updates; empty: it does not

	Settle   time.Duration // a new version must work so long without a break; 0: 1 min
	Within   time.Duration // and begin to within this time; 0: 10 min
	IdleWait time.Duration // how long a run waits for the end of a session; 0: 10 min

	Host   Host
	Record func(Act)
	Log    *slog.Logger // nil: nothing is logged
	Now    func() time.Time

	poll  time.Duration     // between two looks at the agent
	pause time.Duration     // after the first barren attempt of a download
	step  func(name string) // where a test cuts the power
}

// Updater is the one who installs. One process at a time does.
type Updater struct{ o Options }

// New fills in defaults.
func New(o Options) *Updater {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Settle, time.Minute)
	def(&o.Within, 10*time.Minute)
	def(&o.IdleWait, 10*time.Minute)
	def(&o.poll, time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Record == nil {
		o.Record = func(Act) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.Local
	}
	if o.step == nil {
		o.step = func(string) {}
	}
	return &Updater{o}
}

// How says what a run is to do.
type How struct {
	CheckOnly bool   // look, and install nothing
	Now       bool   // a person asks: no window is waited for, and no session's end
	Who       string // the person
}

// Report is what a run found, and what 'gardu update status' shows of it later.
type Report struct {
	At       time.Time `json:"at"`               // of the last run
	Reached  time.Time `json:"reached,omitzero"` // when the repository was last reached and believed
	Reason   Reason    `json:"reason"`           // why nothing (more) is installed
	Wanted   string    `json:"wanted,omitempty"` // the release that the channel wants
	Ready    string    `json:"ready,omitempty"`  // fetched, verified, and waiting to be installed
	Metadata *World    `json:"metadata,omitempty"`
	Requests int64     `json:"requests"`
	Bytes    int64     `json:"bytes"`
	Failed   bool      `json:"failed,omitempty"` // the reason is an error, and not something to wait for
}

// LastReport reads what the last run found.
func LastReport(p Paths) (Report, error) {
	var r Report
	b, err := readFile(p.status(), stateLimit)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

// ErrBusy says that another run is under way.
var ErrBusy = errors.New("another run of the updater is under way")

// ErrWentBack says that a version was installed, did not work, and was taken away.
var ErrWentBack = errors.New("the new version did not work and was taken back")

// Run does all there is to do: it finishes what is pending, looks at the
// repository, and fetches and installs what it wants. What has to wait is no error:
// the report says why. Errors: those of Trust.Refresh and of a download, ErrWentBack,
// ErrBusy.
func (u *Updater) Run(ctx context.Context, how How) (Report, error) {
	if err := os.MkdirAll(u.o.Paths.State, 0o755); err != nil { //nolint:gosec // G301: everybody may read the status
		return Report{}, err
	}
	unlock, err := lockFile(u.o.Paths.runLock(), 0)
	if errors.Is(err, errBusy) {
		return Report{Reason: reasonf(CodeBusy, "%v; look again in a few minutes", ErrBusy)}, ErrBusy
	}
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	rep, _ := LastReport(u.o.Paths) // what is not found anew stays as it was
	rep.At, rep.Failed, rep.Ready, rep.Requests, rep.Bytes = u.o.Now().UTC().Truncate(time.Second), false, "", 0, 0
	err = u.run(ctx, how, &rep)
	if err != nil {
		rep.Reason, rep.Failed = reasonOf(err), true
	}
	u.show(rep)
	if err != nil {
		u.o.Log.Error("update failed", "code", rep.Reason.Code, "error", err)
	} else {
		u.o.Log.Info("update looked for", "code", rep.Reason.Code, "reason", rep.Reason.Text)
	}
	return rep, err
}

// show writes what LastReport reads.
func (u *Updater) show(rep Report) {
	b, err := json.MarshalIndent(rep, "", "  ")
	if err == nil {
		err = writeFile(u.o.Paths.status(), append(b, '\n'), 0o644)
	}
	if err != nil {
		u.o.Log.Warn("update status not written", "error", err)
	}
}

// reasonOf gives an error its code.
func reasonOf(err error) Reason {
	code := CodeInternal
	for _, c := range []struct {
		err  error
		code string
	}{
		{ErrDisk, CodeDisk}, {ErrCertificate, CodeCertificate}, {ErrNetwork, CodeNetwork}, {ErrExpired, CodeOldMetadata}, {ErrStale, CodeOldMetadata},
		{ErrRefused, CodeRefused}, {ErrOlder, CodeRefused}, {ErrNoRoot, CodeNotConfigured}, {ErrTampered, CodeTampered},
		{ErrMissing, CodeTampered}, {errCheck, CodeCheck}, {ErrWentBack, CodeFailed},
	} {
		if errors.Is(err, c.err) {
			code = c.code
			break
		}
	}
	return Reason{code, err.Error()}
}

// errCheck: the new program does not accept this kiosk.
var errCheck = errors.New("the new version does not accept this kiosk")

func (u *Updater) run(ctx context.Context, how How, rep *Report) error {
	st, cur, err := u.settled(ctx)
	if err != nil {
		return err
	}
	if u.o.Source.URL == "" {
		rep.Reason = reasonf(CodeNotConfigured, "no repository is configured; set update.repository")
		return nil
	}
	src, err := NewSource(u.o.Source)
	if err != nil {
		return err
	}
	defer src.Close()
	defer func() { rep.Requests, rep.Bytes = src.Count() }()
	trust := &Trust{Dir: u.o.Paths.metadata(), RootFile: u.o.Root, Built: u.o.Built, MaxAge: u.o.MaxAge, Now: u.o.Now}
	w, err := trust.Refresh(ctx, src)
	if err != nil {
		u.recordRefusal(err)
		return err
	}
	rep.Metadata, rep.Reached = w, rep.At
	if w.Clock != "" {
		u.o.Log.Error("operator alarm", "alarm", w.Clock)
	}
	if len(w.Healed) > 0 {
		u.o.Log.Warn("damaged update metadata was fetched again", "files", w.Healed)
	}
	c := w.choose(Wish{Kiosk: u.o.Kiosk, Channel: u.o.Channel, Arch: u.o.Arch, Current: cur, Base: u.o.Base, Bad: st.Bad})
	rep.Wanted = c.Newest
	if c.Target == nil {
		rep.Reason = c.Why
		return nil
	}
	v := c.Target.Custom.Version
	if why, held := u.held(st); held {
		rep.Reason = why
		return nil
	}
	if how.CheckOnly {
		rep.Reason = reasonf(CodeReady, "version %s can be installed", v)
		return nil
	}
	if err := u.fetch(ctx, src, cur, st, c); err != nil {
		return err
	}
	if err := u.o.Host.Check(ctx, u.o.Paths.Program(v), v); err != nil {
		return fmt.Errorf("%w: version %s: %w", errCheck, v, err)
	}
	rep.Ready = v
	// A run may wait for minutes, and meanwhile the status says what for.
	waits := func(why Reason) {
		rep.Reason = why
		rep.Requests, rep.Bytes = src.Count()
		u.show(*rep)
	}
	if rep.Reason = u.mayInstall(ctx, how, v, waits); rep.Reason.Code != "" {
		return nil
	}
	if err := u.activate(ctx, v, cur, how.Who); err != nil {
		return err
	}
	rep.Ready = ""
	if err := u.judge(ctx, v); err != nil {
		return err
	}
	rep.Reason = reasonf(CodeUpToDate, "version %s was installed and works", v)
	return nil
}

// recordRefusal leaves a record of what may be an attack.
func (u *Updater) recordRefusal(err error) {
	if errors.Is(err, ErrRefused) || errors.Is(err, ErrOlder) {
		u.o.Record(Act{Name: "update.refused", Result: reasonOf(err).Code, Attrs: map[string]string{"reason": err.Error()}})
	}
}

// settled finishes what an earlier run began, and says what is committed.
func (u *Updater) settled(ctx context.Context) (*State, string, error) {
	cur, err := u.o.Paths.Current()
	if err != nil {
		return nil, "", fmt.Errorf("%w; 'systemctl restart gardu' mends the link", err)
	}
	st, err := LoadState(u.o.Paths)
	if err != nil {
		return nil, "", fmt.Errorf("%w; 'systemctl restart gardu' puts it aside", err)
	}
	switch {
	case st.Pending == "":
		return st, cur, nil
	case st.Pending == cur:
		if err := u.judge(ctx, cur); err != nil {
			return nil, "", err
		}
	default:
		// The power was cut before the swap: nothing has happened yet.
		if _, err := change(u.o.Paths, time.Minute, false, func(s *State) error { s.settle(); return nil }); err != nil {
			return nil, "", err
		}
	}
	st, err = LoadState(u.o.Paths)
	return st, cur, err
}

func (u *Updater) held(st *State) (Reason, bool) {
	if u.o.Held != "" {
		return reasonf(CodeHeld, "%s", u.o.Held), true
	}
	if h := st.Hold; h != nil && (h.Until.IsZero() || u.o.Now().Before(h.Until)) {
		until := "until 'gardu update resume'"
		if !h.Until.IsZero() {
			until = "until " + h.Until.In(u.o.Zone).Format("2006-01-02 15:04")
		}
		return reasonf(CodeHeld, "held by %s %s%s", h.Who, until, because(h.Reason)), true
	}
	return Reason{}, false
}

// fetch brings a release into its slot: by a patch where one fits, else whole.
func (u *Updater) fetch(ctx context.Context, src *Source, cur string, st *State, c Choice) error {
	p, t := u.o.Paths, *c.Target
	v := t.Custom.Version
	if info, err := p.slot(v); err == nil && info.SHA256 == t.SHA256 && p.whole(v) == nil {
		return nil
	}
	if err := p.prune(cur, st.From, st.Previous); err != nil {
		u.o.Log.Warn("old versions not removed", "error", err)
	}
	program, err := u.patched(ctx, src, cur, c)
	if errors.Is(err, ErrDisk) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		u.o.Log.Warn("patch not used; the whole program is fetched", "version", v, "error", err)
		program = ""
	}
	if program == "" {
		p.pruneDownloads(t.SHA256, t.SHA256+".part")
		if program, err = download(ctx, src, t, p.download(), u.o.pause); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(p.versions(), 0o755); err != nil { //nolint:gosec // G301: the agent runs what is in it
		return err
	}
	if err := roomFor(p.install(v, program, t)); err != nil {
		return err
	}
	p.pruneDownloads()
	u.o.Log.Info("version fetched and verified", "version", v, "bytes", t.Length)
	return nil
}

// patched makes the program out of the one that runs; "" where no patch fits.
func (u *Updater) patched(ctx context.Context, src *Source, cur string, c Choice) (string, error) {
	p := u.o.Paths
	if len(c.Patches) == 0 {
		return "", nil
	}
	if _, err := os.Stat(filepath.Join(p.download(), c.Target.SHA256+".part")); err == nil {
		return "", nil // most of the whole may be here already
	}
	old := p.Program(cur)
	have, _, err := hashFile(old)
	if err != nil {
		return "", err
	}
	for _, t := range c.Patches {
		if t.Custom.From != have || t.Length >= c.Target.Length {
			continue
		}
		p.pruneDownloads(t.SHA256, t.SHA256+".part")
		file, err := download(ctx, src, t, p.download(), u.o.pause)
		if err != nil {
			return "", err
		}
		return applyPatch(old, file, *c.Target, p.download())
	}
	return "", nil
}

// mayInstall waits a while for the moment to come, and tells waits what for whenever
// that changes. An empty code: it has come.
func (u *Updater) mayInstall(ctx context.Context, how How, v string, waits func(Reason)) Reason {
	told := Reason{}
	for began := time.Now(); ; {
		if !how.Now && !inWindow(u.o.Windows, u.o.Now().In(u.o.Zone)) {
			return reasonf(CodeWindow, "version %s is ready and waits for the window %s", v, windowList(u.o.Windows))
		}
		a, err := u.o.Host.Ask(ctx)
		busy := ""
		switch {
		case errors.Is(err, ErrNotRunning):
		case err != nil:
			return reasonf(CodeInternal, "version %s is ready, but the agent could not be asked whether a customer is there: %v", v, err)
		default:
			busy = a.Busy
		}
		why := Reason{}
		switch busy {
		case "":
			return why
		case CodeSession:
			why = reasonf(CodeSession, "version %s is ready and waits for the end of a customer's session", v)
		default:
			why = reasonf(CodeSending, "version %s is ready and waits for the end of a call to a provider", v)
		}
		if how.Now || time.Since(began) >= u.o.IdleWait || ctx.Err() != nil {
			return why
		}
		if why != told {
			told = why
			waits(why)
		}
		select {
		case <-ctx.Done():
		case <-time.After(u.o.poll):
		}
	}
}

func windowList(ws []Window) string {
	s := ""
	for i, w := range ws {
		if i > 0 {
			s += " or "
		}
		s += w.String()
	}
	return s
}
