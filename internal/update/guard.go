package update

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// defaultTries is how often a pending version may be started. The first start is
	// ours, the second may be a power cut, the third one more of either.
	defaultTries = 3
	// lockPatience bounds how long what runs before each start waits for a lock.
	lockPatience = 2 * time.Second
	// pageLife is how long the page is served before everything is tried again.
	pageLife = 10 * time.Minute
)

// Act is one step that is written into the audit record.
type Act struct {
	Name    string // such as "update.rolled_back"
	Version string
	Result  string
	Attrs   map[string]string
}

// Guard is what the factory copy does when nothing else can be relied on. It reads
// no configuration and asks nobody.
type Guard struct {
	Paths  Paths
	Tries  int                                             // starts of a pending version; 0: 3
	Record func(Act)                                       // into the audit record; may be nil
	Say    func(format string, a ...any)                   // one line for the journal of the system; may be nil
	Now    func() time.Time                                // nil: time.Now
	Config func(ctx context.Context, program string) error // does a program refuse the configuration; may be nil
}

func (g *Guard) say(format string, a ...any) {
	if g.Say != nil {
		g.Say(format, a...)
	}
}

func (g *Guard) record(a Act) {
	if g.Record != nil {
		g.Record(a)
	}
}

func (g *Guard) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// BootCount runs before each start. It counts the starts of a pending version and
// goes back when there are too many, finishes what a power cut interrupted, and
// never lets a program be started that is not whole. Its error is for the log: the
// start goes on whatever it says.
func (g *Guard) BootCount() error {
	tries := g.Tries
	if tries <= 0 {
		tries = defaultTries
	}
	now := g.now()
	damaged, err := change(g.Paths, lockPatience, true, func(s *State) error {
		if o := s.OutOfService; o != nil && (now.Sub(o.Since) >= pageLife || now.Before(o.Since)) {
			g.say("the page was served for %v; everything is tried again", now.Sub(o.Since).Round(time.Second))
			s.OutOfService = nil
		}
		cur, err := g.Paths.Current()
		if err != nil {
			g.say("%v; going back to the factory copy", err)
			return g.back(s, Factory, Factory, "the link led nowhere")
		}
		if s.Pending != "" && s.Pending != cur {
			// A power cut before the swap, or a way back that had no time to say so. The
			// version is not at fault and is installed again in its time.
			g.say("version %s was about to be installed and is not; %s goes on", s.Pending, cur)
			s.settle()
		}
		if err := g.Paths.whole(cur); err != nil && cur != Factory {
			return g.back(s, cur, g.wayBack(s, cur), err.Error())
		}
		if s.Pending == "" {
			return nil
		}
		s.Tries++
		if s.Tries > tries {
			return g.back(s, cur, g.wayBack(s, cur), fmt.Sprintf("it was started %d times and never worked", tries))
		}
		g.say("start %d of %d of version %s, which has not shown yet that it works", s.Tries, tries, cur)
		return nil
	})
	return errors.Join(damaged, err)
}

// Rollback runs when systemd has given up on the agent: it takes the next way
// back, and when there is none left has the page served. It returns what runs next.
func (g *Guard) Rollback(ctx context.Context) (string, error) {
	next := Factory
	damaged, err := change(g.Paths, lockPatience, true, func(s *State) error {
		cur, err := g.Paths.Current()
		if err != nil {
			return g.back(s, Factory, Factory, "the link led nowhere")
		}
		pending := s.Pending != "" && s.Pending == cur
		if !pending && g.Config != nil {
			// A configuration that the program refuses is no fault of the program: another
			// version would refuse it too, or serve what nobody meant.
			if err := g.Config(ctx, g.Paths.Program(cur)); err != nil {
				next = cur
				return g.page(s, cur, err.Error())
			}
		}
		if cur == Factory {
			return g.page(s, cur, "no version of the program starts")
		}
		next = g.wayBack(s, cur)
		return g.back(s, cur, next, "it did not start, or died too often")
	})
	return next, errors.Join(damaged, err)
}

// wayBack is the nearest version before cur that is whole and not known to be bad.
func (g *Guard) wayBack(s *State, cur string) string {
	if s.From == Factory {
		return Factory // what ran before, and worked
	}
	for _, v := range []string{s.From, s.Previous} {
		if v == "" || v == cur || v == Factory {
			continue
		}
		// What ran until the swap did work, also where somebody took it back by hand.
		if _, bad := s.Bad[v]; (!bad || v == s.From) && g.Paths.whole(v) == nil {
			return v
		}
	}
	return Factory
}

func (g *Guard) back(s *State, from, to, why string) error {
	s.markBad(from, why, g.now())
	s.settle()
	if s.Previous == to {
		s.Previous = ""
	}
	if err := g.Paths.switchTo(to); err != nil {
		return err
	}
	g.say("version %s goes back to %s: %s", from, to, why)
	g.record(Act{Name: "update.rolled_back", Version: from, Result: "automatic", Attrs: map[string]string{"to": to, "reason": why}})
	return nil
}

func (g *Guard) page(s *State, cur, why string) error {
	s.OutOfService = &OutOfService{Reason: why, Since: g.now().UTC().Truncate(time.Second)}
	g.say("the page OUT OF SERVICE is served for %v: %s", pageLife, why)
	g.record(Act{Name: "update.out_of_service", Version: cur, Attrs: map[string]string{"reason": why}})
	return nil
}

// PageLeft is how long the page is served yet, and why: 0 when the agent is to run
// as ever.
func PageLeft(p Paths, now time.Time) (left time.Duration, why string) {
	s, err := LoadState(p)
	if err != nil || s.OutOfService == nil {
		return 0, ""
	}
	left = pageLife - now.Sub(s.OutOfService.Since)
	if left <= 0 || left > pageLife {
		return 0, ""
	}
	return left, s.OutOfService.Reason
}
