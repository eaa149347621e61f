package update_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// Each reason for not installing is shown, as a code and as a sentence, and ends
// when what it names ends.
func TestEveryReasonForNotInstalling(t *testing.T) {
	at := func(hour int) func(p *publisher, _ *machine, o *update.Options) {
		return func(p *publisher, _ *machine, o *update.Options) {
			w, err := update.ParseWindow("01:00-04:30")
			require.NoError(p.t, err)
			o.Windows, o.Zone = []update.Window{w}, time.FixedZone("WIB", 7*3600)
			day := p.base.In(o.Zone)
			o.Now = func() time.Time { return time.Date(day.Year(), day.Month(), day.Day(), hour, 0, 0, 0, o.Zone) }
		}
	}
	for _, c := range []struct {
		name  string
		code  string
		say   string
		ready bool
		set   func(p *publisher, m *machine, o *update.Options)
	}{
		{"a session", update.CodeSession, "waits for the end of a customer's session", true, func(_ *publisher, m *machine, _ *update.Options) { m.agent.Busy = update.CodeSession }},
		{"a send", update.CodeSending, "waits for the end of a call to a provider", true, func(_ *publisher, m *machine, _ *update.Options) { m.agent.Busy = update.CodeSending }},
		{"the window", update.CodeWindow, "waits for the window 01:00-04:30", true, at(12)},
		{"the configuration's hold", update.CodeHeld, "year-end freeze", false, func(_ *publisher, _ *machine, o *update.Options) { o.Held = "year-end freeze" }},
		{"an operator's hold", update.CodeHeld, "held by budi until 'gardu update resume': audit", false, func(p *publisher, m *machine, _ *update.Options) {
			require.NoError(p.t, update.SetHold(m.paths, update.Hold{Who: "budi", Reason: "audit"}, nil))
		}},
		{"the publisher's hold", update.CodeHeldByPublisher, "held by its publisher: looks bad", false, func(p *publisher, _ *machine, _ *update.Options) {
			require.NoError(p.t, p.repo.Hold("1.0.0", "stable", "looks bad"))
			p.signPublish()
		}},
		{"the phase", update.CodePhase, "goes to 0% of the kiosks now", false, func(p *publisher, _ *machine, _ *update.Options) {
			require.NoError(p.t, p.repo.Phase("1.0.0", "stable", 0))
			p.signPublish()
		}},
		{"another channel", update.CodeNothing, `no release for channel "beta"`, false, func(_ *publisher, _ *machine, o *update.Options) { o.Channel = "beta" }},
		{"the new version's own word", update.CodeCheck, "unknown key screen.brnad", false, func(_ *publisher, m *machine, _ *update.Options) {
			m.refuses["1.0.0"] = errors.New("gardu.toml line 7: unknown key screen.brnad")
		}},
		{"no repository", update.CodeNotConfigured, "set update.repository", false, func(_ *publisher, _ *machine, o *update.Options) { o.Source.URL = "" }},
		{"no root", update.CodeNotConfigured, "no root of trust", false, func(_ *publisher, _ *machine, o *update.Options) { o.Root = "/nowhere.json" }},
		{"the network", update.CodeNetwork, "cannot be reached", false, func(_ *publisher, _ *machine, o *update.Options) { o.Source.URL = "http://127.0.0.1:1/" }},
		{"old metadata", update.CodeOldMetadata, "has expired", false, func(p *publisher, _ *machine, _ *update.Options) { p.later(10 * 24 * time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, m := newPublisher(t), newMachine(t)
			p.release("1.0.0", program(1, 30_000))
			o := m.options(p)
			c.set(p, m, &o)
			rep, _ := update.New(o).Run(t.Context(), update.How{})
			require.Equal(t, c.code, rep.Reason.Code, rep.Reason.Text)
			require.Contains(t, rep.Reason.Text, c.say)
			require.Equal(t, update.Factory, m.current())
			require.Equal(t, c.ready, rep.Ready == "1.0.0", "fetched ahead")
			shown, err := update.LastReport(m.paths)
			require.NoError(t, err)
			require.Equal(t, rep.Reason, shown.Reason, "and status shows it")
		})
	}
}

func TestWhatWaitedIsInstalledWithoutFetchingAgain(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	m.agent.Busy = update.CodeSession
	rep, err := m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", rep.Ready)
	m.agent.Busy = ""
	p.requests()
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
	require.Len(t, p.requests(), 2, "root and timestamp only")
}

// customers has one customer after the other, or a call under way, whenever it is
// asked, and notes what status shows then.
type customers struct {
	*machine

	busy  []string
	shown []update.Reason
}

func (c *customers) Ask(ctx context.Context) (*update.Agent, error) {
	rep, err := update.LastReport(c.paths)
	if err == nil {
		c.shown = append(c.shown, rep.Reason)
	}
	a, err := c.machine.Ask(ctx)
	if len(c.busy) > 0 {
		a.Busy, c.busy = c.busy[0], c.busy[1:]
	}
	return a, err
}

func TestStatusSaysWhatARunIsWaitingFor(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	c := &customers{machine: m, busy: []string{update.CodeSession, update.CodeSession, update.CodeSending}}
	o := m.options(p)
	o.Host, o.IdleWait = c, time.Minute
	rep, err := update.New(o).Run(t.Context(), update.How{})
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running, "when it was over")
	require.Equal(t, update.CodeUpToDate, rep.Reason.Code)
	require.GreaterOrEqual(t, len(c.shown), 3)
	require.Equal(t, update.CodeSession, c.shown[0].Code, "from the second time on")
	require.Contains(t, c.shown[0].Text, "version 1.0.0 is ready and waits for the end of a customer's session")
	require.Equal(t, update.CodeSession, c.shown[1].Code)
	require.Equal(t, update.CodeSending, c.shown[2].Code)
}

// An agent that does not run holds nothing back: the release may be what mends it.
func TestAnAgentThatDoesNotRunHoldsNothingBack(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	m.how[update.Factory] = "never ready"
	_, err := m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
}

func TestHoldResumeAndRollbackByHand(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	for i, v := range []string{"1.0.0", "1.1.0"} {
		p.release(v, program(byte(i+1), 30_000))
		_, err := m.run(p)
		require.NoError(t, err)
	}
	u := update.New(m.options(p))
	m.agent.Busy = update.CodeSession
	_, wait, err := u.Back(t.Context(), "", "sari", "black screen", false)
	require.NoError(t, err)
	require.Equal(t, update.CodeSession, wait.Code)
	require.Equal(t, "1.1.0", m.running)
	m.agent.Busy = ""
	to, wait, err := u.Back(t.Context(), "", "sari", "black screen", false)
	require.NoError(t, err)
	require.Empty(t, wait.Code)
	require.Equal(t, "1.0.0", to)
	require.Equal(t, "1.0.0", m.running)
	require.Contains(t, m.state().Bad["1.1.0"].Reason, "taken back by sari: black screen")
	rep, err := m.run(p)
	require.NoError(t, err)
	require.Equal(t, update.CodeBad, rep.Reason.Code)

	_, err = update.Resume(m.paths, "sari", m.record)
	require.NoError(t, err)
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.1.0", m.running, "resumed, it is installed again")

	_, _, err = u.Back(t.Context(), update.Factory, "sari", "", false)
	require.NoError(t, err)
	require.Equal(t, update.Factory, m.running)
	_, _, err = u.Back(t.Context(), "3.0.0", "sari", "", false)
	require.ErrorIs(t, err, update.ErrNoWayBack)
}

// A hold that ends by itself.
func TestAHoldEnds(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	require.NoError(t, update.SetHold(m.paths, update.Hold{Who: "budi", Until: p.time().Add(time.Hour)}, nil))
	rep, err := m.run(p)
	require.NoError(t, err)
	require.Equal(t, update.CodeHeld, rep.Reason.Code)
	p.later(2 * time.Hour)
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
}

func TestTwoRunsAtOnce(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	f, err := os.OpenFile(filepath.Join(m.paths.State, "run.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	require.NoError(t, flock(f))
	_, err = m.run(p)
	require.ErrorIs(t, err, update.ErrBusy)
}

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		text string
		when string // in 2026: the 16th of November is a Monday
		open bool
	}{
		{"01:00-04:30", "16 01:00", true}, {"01:00-04:30", "16 04:29", true}, {"01:00-04:30", "16 04:30", false}, {"01:00-04:30", "16 00:59", false},
		{"22:00-06:00", "16 23:00", true}, {"22:00-06:00", "16 05:59", true}, {"22:00-06:00", "16 06:00", false},
		{"sat,sun 22:00-06:00", "21 23:00", true}, {"sat,sun 22:00-06:00", "23 05:00", true}, {"sat,sun 22:00-06:00", "21 05:00", false}, {"sat,sun 22:00-06:00", "24 05:00", false},
		{"mon-fri 01:00-04:30", "20 02:00", true}, {"mon-fri 01:00-04:30", "21 02:00", false}, {"fri-mon 01:00-04:30", "23 02:00", true}, {"fri-mon 01:00-04:30", "24 02:00", false},
	} {
		w, err := update.ParseWindow(c.text)
		require.NoError(t, err)
		at, err := time.Parse("2006-01-02 15:04", "2026-11-"+c.when)
		require.NoError(t, err)
		require.Equal(t, c.open, update.InWindow([]update.Window{w}, at), "%s at %s", c.text, c.when)
	}
	require.True(t, update.InWindow(nil, time.Now()))
	for _, bad := range []string{"", "1-2", "01:00", "01:00-25:00", "01:00-01:00", "foo 01:00-02:00", "mon- 01:00-02:00", "a b c"} {
		_, err := update.ParseWindow(bad)
		require.ErrorContains(t, err, `write for example "01:00-04:30"`, bad)
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	order := []string{"0.9", "1.0.0-alpha", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.1", "1.2", "1.10.0", "2"}
	for i, a := range order {
		for j, b := range order {
			got := update.Compare(a, b)
			switch {
			case i < j:
				require.Negative(t, got, "%s %s", a, b)
			case i > j:
				require.Positive(t, got, "%s %s", a, b)
			default:
				require.Zero(t, got)
			}
		}
	}
	require.Zero(t, update.Compare("1.4", "1.4.0"))
	require.Zero(t, update.Compare("1.4+build", "1.4"))
	for _, bad := range []string{"", "factory", "../1", "1/2", "1..2", ".1", "v1", "1 2", "1\n"} {
		require.Error(t, update.CheckVersion(bad), bad)
	}
}

// A percentage is a part of the fleet: near it, another one for each version, and
// who has a place in it keeps it when it grows.
func TestPhases(t *testing.T) {
	const fleet = 10_000
	count := func(version string, percent int) (n int) {
		for k := range uint32(fleet) {
			if update.Place(update.KioskID(k+1), version) < percent*100 {
				n++
			}
		}
		return n
	}
	for _, percent := range []int{1, 5, 25, 50} {
		require.InDelta(t, fleet*percent/100, count("1.5.0", percent), 200, "%d%%", percent)
	}
	require.Zero(t, count("1.5.0", 0))
	require.Equal(t, fleet, count("1.5.0", 100))
	same := 0
	for k := range uint32(fleet) {
		id := update.KioskID(k + 1)
		if update.Place(id, "1.5.0") < 1000 && update.Place(id, "1.6.0") < 1000 {
			same++
		}
	}
	require.Less(t, same, 200, "not the same branches are the first each time")
}

// Which release a kiosk gets: the highest of its channel that it may have, and
// nobody falls back because a phase was made smaller.
func TestChoice(t *testing.T) {
	p := newPublisher(t)
	k := p.trust()
	for i, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		p.release(v, program(byte(i), 9_000))
	}
	choose := func(current string) (string, string) {
		c := p.must(k).Choose(update.Wish{Kiosk: "7", Channel: "stable", Arch: "amd64", Current: current, Base: "0.9.0"})
		if c.Target == nil {
			return "", c.Why.Code
		}
		return c.Target.Custom.Version, ""
	}
	want := func(current, version, code string) {
		t.Helper()
		v, why := choose(current)
		require.Equal(t, version, v)
		require.Equal(t, code, why)
	}
	want(update.Factory, "1.2.0", "")
	want("1.2.0", "", update.CodeUpToDate)
	require.NoError(t, p.repo.Phase("1.2.0", "stable", 0))
	p.signPublish()
	want(update.Factory, "1.1.0", "")
	want("1.1.0", "", update.CodePhase)
	want("1.2.0", "", update.CodeUpToDate)
	require.NoError(t, p.repo.GoBack("1.0.0", "stable", "it was better"))
	p.signPublish()
	want("1.2.0", "1.0.0", "")
	want("1.1.0", "1.0.0", "")
	want("1.0.0", "", update.CodeUpToDate)
}
