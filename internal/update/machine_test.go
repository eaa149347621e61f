package update_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

// machine stands for systemd and the agent: it starts what the link names, as the
// units do, and versions behave as a test says. The programs are never executed;
// packages are tested with real ones.
type machine struct {
	t     *testing.T
	paths update.Paths
	how   map[string]string // by version: "" works; see start
	agent update.Agent      // as it is when a version works

	running string // the version; "" where nothing runs
	starts  []string
	acts    []string
	refuses map[string]error // what Check says
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{
		t: t, paths: update.SystemPaths(t.TempDir()), how: map[string]string{}, refuses: map[string]error{},
		agent: update.Agent{Journal: true, Token: true, Screen: true, Links: map[string]bool{"finpay": true}},
	}
	for _, dir := range []string{filepath.Dir(m.paths.Factory), m.paths.Opt, m.paths.State} {
		require.NoError(t, os.MkdirAll(dir, 0o750))
	}
	require.NoError(t, os.WriteFile(m.paths.Factory, program(0, 20_000), 0o755)) //nolint:gosec // a program
	m.start()
	return m
}

func (m *machine) guard() *update.Guard {
	return &update.Guard{Paths: m.paths, Record: m.record}
}

func (m *machine) record(a update.Act) { m.acts = append(m.acts, a.Name+" "+a.Version) }

// start is what systemd does: the counter, then the program, five times; then the
// rollback unit.
func (m *machine) start() {
	m.running = ""
	for range 3 { // of the rollback unit
		for range 5 {
			_ = m.guard().BootCount()
			v := m.paths.Start()
			m.starts = append(m.starts, v)
			m.agent.Run = fmt.Sprint(len(m.starts))
			if left, _ := update.PageLeft(m.paths, time.Now()); left > 0 {
				m.running = "page"
				return
			}
			if m.how[v] != "dies" {
				m.running = v
				return
			}
		}
		_, err := m.guard().Rollback(m.t.Context())
		require.NoError(m.t, err)
	}
	m.t.Fatal("the unit stays failed")
}

func (m *machine) Ask(context.Context) (*update.Agent, error) {
	if m.how[m.running] == "dies between two looks" {
		m.start()
	}
	a := m.agent
	a.Slot = m.running
	switch m.how[m.running] {
	case "never ready":
		return nil, update.ErrNotRunning
	case "no token":
		a.Token, a.Trouble = false, "token_absent"
	case "no screen":
		a.Screen = false
	case "no link":
		a.Links = map[string]bool{"finpay": false}
	}
	return &a, nil
}

func (m *machine) Restart(context.Context) error {
	m.start()
	return nil
}

func (m *machine) Check(_ context.Context, _, version string) error { return m.refuses[version] }

// put installs a version by hand and says that it is the one that runs.
func (m *machine) put(version string, b []byte) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "p")
	require.NoError(m.t, os.WriteFile(file, b, 0o600))
	sum := sha256.Sum256(b)
	require.NoError(m.t, m.paths.Install(version, file, update.Target{SHA256: hex.EncodeToString(sum[:]), Length: int64(len(b))}))
}

func (m *machine) current() string {
	m.t.Helper()
	v, err := m.paths.Current()
	require.NoError(m.t, err)
	return v
}

func (m *machine) state() *update.State {
	m.t.Helper()
	s, err := update.LoadState(m.paths)
	require.NoError(m.t, err)
	return s
}

// options gives a version that works more time to show it than a machine can stand
// still; a test whose version does not work gives less.
func (m *machine) options(p *publisher) update.Options {
	k := p.trust()
	return update.Options{
		Paths: m.paths, Source: update.SourceOptions{URL: p.url}, Root: k.RootFile, Kiosk: "7", Channel: "stable", Arch: "amd64",
		Base: "0.9.0", Settle: 30 * time.Millisecond, Within: time.Minute, IdleWait: 50 * time.Millisecond,
		Host: m, Record: m.record, Now: p.time,
	}.WithPoll(2 * time.Millisecond)
}

func (m *machine) run(p *publisher) (update.Report, error) {
	return update.New(m.options(p)).Run(m.t.Context(), update.How{})
}

func TestAReleaseIsInstalledAndCommitted(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	rep, err := m.run(p)
	require.NoError(t, err)
	require.Equal(t, update.CodeUpToDate, rep.Reason.Code)
	require.Equal(t, "1.0.0", m.current())
	require.Equal(t, "1.0.0", m.running)
	require.Empty(t, m.state().Pending)
	require.Equal(t, update.Factory, m.state().Previous)
	require.Equal(t, []string{"update.begin 1.0.0", "update.committed 1.0.0"}, m.acts)

	p.release("1.1.0", append(program(1, 30_000), "more"...), "1.0.0")
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.1.0", m.running)
	require.Equal(t, "1.0.0", m.state().Previous)
	asked := strings.Join(p.requests(), "\n") + "\n"
	require.Contains(t, asked, "gardu-1.1.0-linux-amd64.from-1.0.0.zst\n")
	require.NotContains(t, asked, "gardu-1.1.0-linux-amd64\n", "the patch was enough")

	// Going back is new metadata that names the older release.
	require.NoError(t, p.repo.GoBack("1.0.0", "stable", "1.1.0 prints twice"))
	p.signPublish()
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
}

func TestBrokenReleasesAreTakenBack(t *testing.T) {
	for _, how := range []string{"dies", "dies between two looks", "never ready", "no token", "no screen", "no link"} {
		t.Run(how, func(t *testing.T) {
			p, m := newPublisher(t), newMachine(t)
			p.release("1.0.0", program(1, 30_000))
			_, err := m.run(p)
			require.NoError(t, err)
			p.release("1.1.0", program(2, 30_000))
			m.how["1.1.0"] = how
			o := m.options(p)
			if how == "dies between two looks" {
				o.Settle = time.Nanosecond // each look sees another run of it, so none is long enough
			} else {
				o.Within = 300 * time.Millisecond
			}
			_, err = update.New(o).Run(t.Context(), update.How{})
			require.ErrorIs(t, err, update.ErrWentBack)
			require.Equal(t, "1.0.0", m.running)
			require.Equal(t, "1.0.0", m.current())
			require.Contains(t, m.state().Bad, "1.1.0")
			rep, err := m.run(p)
			require.NoError(t, err)
			require.Equal(t, update.CodeBad, rep.Reason.Code, "it is not installed again")
			p.release("1.1.1", program(3, 30_000))
			_, err = m.run(p)
			require.NoError(t, err)
			require.Equal(t, "1.1.1", m.running, "but a mended one is")
		})
	}
}

// A line that goes down during the trial is not the version's fault: the version
// before has no link either, and the new one is tried again.
func TestALineThatGoesDownMeanwhileIsNotTheVersionsFault(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	m.how["1.0.0"], m.how[update.Factory] = "no link", ""
	o := m.options(p).WithStep(func(at string) {
		if at == "the agent is restarted" {
			m.how[update.Factory] = "no link"
		}
	})
	o.Within = 300 * time.Millisecond
	_, err := update.New(o).Run(t.Context(), update.How{})
	require.ErrorIs(t, err, update.ErrWentBack)
	require.ErrorContains(t, err, "it is the same with factory")
	require.NotContains(t, m.state().Bad, "1.0.0")
	m.how["1.0.0"], m.how[update.Factory] = "", ""
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
}

// The power is cut at each step. Whatever the moment, the machine comes back on one
// whole version, and the next run ends what was begun.
func TestThePowerIsCutAtEachStep(t *testing.T) {
	for _, at := range []string{"pending is written", "the link is switched", "the agent is restarted"} {
		t.Run(at, func(t *testing.T) {
			p, m := newPublisher(t), newMachine(t)
			p.release("1.0.0", program(1, 30_000))
			_, err := m.run(p)
			require.NoError(t, err)
			p.release("1.1.0", program(2, 30_000))
			cut := errors.New("cut")
			func() {
				defer func() { require.Equal(t, cut, recover()) }()
				o := m.options(p).WithStep(func(s string) {
					if s == at {
						panic(cut)
					}
				})
				_, _ = update.New(o).Run(t.Context(), update.How{})
			}()
			m.start()
			require.Contains(t, []string{"1.0.0", "1.1.0"}, m.running)
			require.Equal(t, "1.0.0", committed(m), "what judges is the version that is known to work")
			rep, err := m.run(p)
			require.NoError(t, err, rep)
			require.Equal(t, "1.1.0", m.running)
			require.Empty(t, m.state().Pending)
		})
	}
}

func committed(m *machine) string { return m.paths.Committed() }

func TestAVersionThatIsNotWholeIsNeverStarted(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 10_000) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"a flipped bit": func(path string) error {
			b := program(2, 30_000)
			b[15_000] ^= 1
			return os.WriteFile(path, b, 0o755) //nolint:gosec // a program
		},
		"gone": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			p, m := newPublisher(t), newMachine(t)
			p.release("1.0.0", program(1, 30_000))
			_, err := m.run(p)
			require.NoError(t, err)
			p.release("1.1.0", program(2, 30_000))
			_, err = m.run(p)
			require.NoError(t, err)
			require.NoError(t, spoil(m.paths.Program("1.1.0")))
			m.starts = nil
			m.start()
			require.Equal(t, []string{"1.0.0"}, m.starts)
		})
	}
}

func TestTheWayDown(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	for i, v := range []string{"1.0.0", "1.1.0"} {
		p.release(v, program(byte(i+1), 30_000))
		_, err := m.run(p)
		require.NoError(t, err)
	}
	m.how["1.1.0"], m.how["1.0.0"] = "dies", "dies"
	m.start()
	require.Equal(t, update.Factory, m.running, "previous, then factory")
	require.Equal(t, update.Factory, m.current())
	m.how[update.Factory] = "dies"
	m.start()
	require.Equal(t, "page", m.running, "then the page")
	left, why := update.PageLeft(m.paths, time.Now())
	require.Positive(t, left)
	require.NotEmpty(t, why)
	// It ends by itself, and everything is tried again.
	g := m.guard()
	g.Now = func() time.Time { return time.Now().Add(11 * time.Minute) }
	require.NoError(t, g.BootCount())
	left, _ = update.PageLeft(m.paths, time.Now())
	require.Zero(t, left)
}

// A configuration that the program refuses is no reason to change the program.
func TestAConfigurationThatIsRefusedIsNotTheVersionsFault(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	_, err := m.run(p)
	require.NoError(t, err)
	g := m.guard()
	g.Config = func(_ context.Context, prog string) error {
		require.Equal(t, m.paths.Program("1.0.0"), prog)
		return errors.New("gardu.toml line 3: unknown key")
	}
	next, err := g.Rollback(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.0.0", next)
	require.Equal(t, "1.0.0", m.current())
	require.Empty(t, m.state().Bad)
	_, why := update.PageLeft(m.paths, time.Now())
	require.Contains(t, why, "unknown key")
}

// The boot counter must work, and let the start go on, with whatever it finds.
func TestTheBootCounterWorksWithAnything(t *testing.T) {
	for name, spoil := range map[string]func(m *machine){
		"a torn state": func(m *machine) {
			require.NoError(t, os.WriteFile(filepath.Join(m.paths.State, "state.json"), []byte(`{"pend`), 0o600))
		},
		"an empty state": func(m *machine) {
			require.NoError(t, os.WriteFile(filepath.Join(m.paths.State, "state.json"), nil, 0o600))
		},
		"a state that leads outside": func(m *machine) {
			require.NoError(t, os.WriteFile(filepath.Join(m.paths.State, "state.json"), []byte(`{"pending":"../../etc","from":"1.0.0"}`), 0o600))
		},
		"no state":   func(m *machine) { _ = os.RemoveAll(m.paths.State) },
		"no folders": func(m *machine) { _ = os.RemoveAll(m.paths.State); _ = os.RemoveAll(m.paths.Opt) },
		"a link to nowhere": func(m *machine) {
			_ = os.Remove(filepath.Join(m.paths.Opt, "current"))
			require.NoError(t, os.Symlink("/etc", filepath.Join(m.paths.Opt, "current")))
		},
		"a link to a version that is gone": func(m *machine) { require.NoError(t, m.paths.SwitchTo("9.9.9")) },
		"a lock that is held": func(m *machine) {
			f, err := os.OpenFile(filepath.Join(m.paths.State, "state.lock"), os.O_CREATE|os.O_RDWR, 0o600)
			require.NoError(t, err)
			t.Cleanup(func() { _ = f.Close() })
			require.NoError(t, flock(f))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.put("1.0.0", program(1, 10_000))
			require.NoError(t, m.paths.SwitchTo("1.0.0"))
			spoil(m)
			m.start()
			require.Contains(t, []string{"1.0.0", update.Factory}, m.running)
			v, err := m.paths.Current()
			require.NoError(t, err)
			require.Equal(t, m.running, v)
		})
	}
}

// What a newer release writes into the state is not lost when the older factory
// copy rewrites it.
func TestUnknownStateIsKept(t *testing.T) {
	m := newMachine(t)
	require.NoError(t, os.WriteFile(filepath.Join(m.paths.State, "state.json"), []byte(`{"previous":"1.0.0","from_the_future":{"a":1}}`), 0o600))
	require.NoError(t, m.guard().BootCount())
	b, err := os.ReadFile(filepath.Join(m.paths.State, "state.json"))
	require.NoError(t, err)
	require.Contains(t, string(b), "from_the_future")
	require.Equal(t, "1.0.0", m.state().Previous)
}
