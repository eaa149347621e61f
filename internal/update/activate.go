package update

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// activate makes a version that lies in its slot the pending one and starts it. A
// power cut at any point leaves the old version, or the new one as pending.
func (u *Updater) activate(ctx context.Context, v, cur, who string) error {
	p := u.o.Paths
	if err := p.whole(v); err != nil {
		return err
	}
	before, err := u.o.Host.Ask(ctx)
	if err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("ask the agent what works before the swap: %w", err)
	}
	attrs := map[string]string{"from": cur}
	if who != "" {
		attrs["who"] = who
	}
	u.o.Record(Act{Name: "update.begin", Version: v, Attrs: attrs})
	if _, err := change(p, time.Minute, false, func(s *State) error {
		s.settle()
		s.Pending, s.From, s.Before = v, cur, before
		s.OutOfService = nil
		return nil
	}); err != nil {
		return err
	}
	u.o.step("pending is written")
	if err := p.switchTo(v); err != nil {
		return err
	}
	u.o.step("the link is switched")
	u.o.Log.Info("version installed; it must show now that it works", "version", v, "from", cur)
	if err := u.o.Host.Restart(ctx); err != nil {
		// Whether it came up is for judge to see, and for the boot counter.
		u.o.Log.Warn("the restart reported an error", "error", err)
	}
	u.o.step("the agent is restarted")
	return nil
}

// judge watches a pending version until it has worked for long enough, or goes
// back. The boot counter and systemd may be faster: then it says so.
func (u *Updater) judge(ctx context.Context, v string) error {
	var since time.Time
	run, lack := "", ""
	began := time.Now()
	for {
		st, err := LoadState(u.o.Paths)
		if err != nil {
			return err
		}
		if st.Pending != v {
			return fmt.Errorf("%w: version %s: %s", ErrWentBack, v, st.Bad[v].Reason)
		}
		a, err := u.o.Host.Ask(ctx)
		if err != nil {
			lack = err.Error()
		} else {
			lack = a.lacks(v, st.Before)
		}
		switch {
		case lack != "":
			since = time.Time{}
		case since.IsZero() || a.Run != run:
			since, run = time.Now(), a.Run
		case time.Since(since) >= u.o.Settle:
			return u.commit(v, st.From)
		}
		if lack != "" && time.Since(began) >= u.o.Within || time.Since(began) >= 2*u.o.Within+u.o.Settle {
			if lack == "" {
				lack = "it was started anew again and again"
			}
			return u.takeBack(ctx, v, lack)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("version %s is not judged yet; the next run goes on: %w", v, ctx.Err())
		case <-time.After(u.o.poll):
		}
	}
}

func (u *Updater) commit(v, from string) error {
	if _, err := change(u.o.Paths, time.Minute, false, func(s *State) error {
		if s.Pending != v {
			return fmt.Errorf("%w: version %s", ErrWentBack, v)
		}
		s.settle()
		s.Previous = from
		return nil
	}); err != nil {
		return err
	}
	u.o.Record(Act{Name: "update.committed", Version: v, Attrs: map[string]string{"from": from}})
	u.o.Log.Info("version committed", "version", v, "from", from)
	if err := u.o.Paths.prune(v, from); err != nil {
		u.o.Log.Warn("old versions not removed", "error", err)
	}
	return nil
}

// takeBack ends a version that does not work. Where the version before does not
// have what was missed either, the new one was not at fault and is tried again.
func (u *Updater) takeBack(ctx context.Context, v, why string) error {
	var before *Agent
	to := Factory
	if _, err := change(u.o.Paths, time.Minute, false, func(s *State) error {
		if s.Pending != v {
			return fmt.Errorf("%w: version %s: %s", ErrWentBack, v, s.Bad[v].Reason)
		}
		before = s.Before
		g := &Guard{Paths: u.o.Paths, Record: u.o.Record, Now: u.o.Now}
		to = g.wayBack(s, v)
		return g.back(s, v, to, why)
	}); err != nil {
		return err
	}
	if err := u.o.Host.Restart(ctx); err != nil {
		u.o.Log.Warn("the restart reported an error", "error", err)
	}
	lack := u.waitFor(ctx, to, before)
	if lack != "" && lack == why {
		_, err := change(u.o.Paths, time.Minute, false, func(s *State) error { delete(s.Bad, v); return nil })
		return errors.Join(fmt.Errorf("%w: version %s: %s; it is the same with %s, so it is tried again later", ErrWentBack, v, why, to), err)
	}
	return fmt.Errorf("%w: version %s: %s", ErrWentBack, v, why)
}

// waitFor waits until an agent does what it must, and returns what it still lacks.
func (u *Updater) waitFor(ctx context.Context, version string, before *Agent) (lack string) {
	for began := time.Now(); ; {
		a, err := u.o.Host.Ask(ctx)
		if err != nil {
			lack = err.Error()
		} else {
			lack = a.lacks(version, before)
		}
		if lack == "" || time.Since(began) >= u.o.Within || ctx.Err() != nil {
			return lack
		}
		select {
		case <-ctx.Done():
		case <-time.After(u.o.poll):
		}
	}
}

// ErrNoWayBack says that there is no other version to go to.
var ErrNoWayBack = errors.New("there is no version to go back to")

// Back is an operator's way back: to the version before, or to the factory copy.
// It has to show that it works like any new version, and what it replaces is not
// installed again until 'resume'. Errors: ErrNoWayBack, ErrWentBack, ErrBusy; the
// reason, if its code is not empty, is why it has to wait.
func (u *Updater) Back(ctx context.Context, to, who, why string, force bool) (string, Reason, error) {
	unlock, err := lockFile(u.o.Paths.runLock(), 0)
	if errors.Is(err, errBusy) {
		return "", Reason{}, ErrBusy
	}
	if err != nil {
		return "", Reason{}, err
	}
	defer unlock()
	p := u.o.Paths
	cur, err := p.Current()
	if err != nil {
		return "", Reason{}, err
	}
	st, err := LoadState(p)
	if err != nil {
		return "", Reason{}, err
	}
	if to == "" {
		if to = st.Previous; st.Pending == cur {
			to = st.From
		}
		if to == "" {
			to = Factory
		}
	}
	if to == cur {
		return "", Reason{}, fmt.Errorf("%w: %s runs already", ErrNoWayBack, cur)
	}
	if err := p.whole(to); err != nil {
		return "", Reason{}, fmt.Errorf("%w: %w", ErrNoWayBack, err)
	}
	if !force {
		if wait := u.mayInstall(ctx, How{Now: true}, to, func(Reason) {}); wait.Code != "" {
			return to, wait, nil
		}
	}
	if err := u.o.Host.Check(ctx, p.Program(to), to); err != nil && !force {
		return to, Reason{}, fmt.Errorf("%w: version %s: %w", errCheck, to, err)
	}
	u.o.Record(Act{Name: "update.rollback_asked", Version: cur, Attrs: map[string]string{"to": to, "who": who, "reason": why, "forced": strconv.FormatBool(force)}})
	if _, err := change(p, time.Minute, false, func(s *State) error {
		s.markBad(cur, "taken back by "+who+because(why), u.o.Now())
		delete(s.Bad, to)
		if to == Factory {
			// The factory copy needs no trial: there is nothing behind it.
			s.settle()
			s.Previous = ""
			return p.switchTo(Factory)
		}
		return nil
	}); err != nil {
		return to, Reason{}, err
	}
	if to == Factory {
		u.o.Record(Act{Name: "update.rolled_back", Version: cur, Result: "by hand", Attrs: map[string]string{"to": to, "who": who}})
		return to, Reason{}, u.o.Host.Restart(ctx)
	}
	if err := u.activate(ctx, to, cur, who); err != nil {
		return to, Reason{}, err
	}
	if err := u.judge(ctx, to); err != nil {
		return to, Reason{}, err
	}
	return to, Reason{}, nil
}

// SetHold keeps updates from being installed.
func SetHold(p Paths, h Hold, record func(Act)) error {
	_, err := change(p, time.Minute, false, func(s *State) error { s.Hold = &h; return nil })
	if err == nil && record != nil {
		attrs := map[string]string{"who": h.Who, "reason": h.Reason}
		if !h.Until.IsZero() {
			attrs["until"] = h.Until.Format(time.RFC3339)
		}
		record(Act{Name: "update.held", Attrs: attrs})
	}
	return err
}

// Resume ends an operator's hold, forgets which versions did not work, and the
// page if it is served.
func Resume(p Paths, who string, record func(Act)) (State, error) {
	var was State
	_, err := change(p, time.Minute, false, func(s *State) error {
		was = *s
		s.Hold, s.Bad, s.OutOfService = nil, nil, nil
		return nil
	})
	if err == nil && record != nil {
		record(Act{Name: "update.resumed", Attrs: map[string]string{"who": who}})
	}
	return was, err
}
