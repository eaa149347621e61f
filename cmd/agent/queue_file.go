package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"gardu/internal/keystore"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

// stopped is the journal of an agent that does not run, opened by a command.
type stopped struct {
	*ceremony
	ag *agent
	db *queue.DB
}

// withJournal opens the journal's file for one command, in the place of an agent
// that is stopped.
func (a *app) withJournal(ctx context.Context, f func(*stopped) error) error {
	return a.withToken(ctx, func(c *ceremony) (err error) {
		log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError}))
		s := &stopped{ceremony: c, ag: newAgent(c.set, log)}
		s.ag.keys, s.ag.audit = c.keys, c.audit
		if neverMade(c.set.Journal.Path) {
			return fmt.Errorf("there is no journal at %s yet; it is made when the agent starts for the first time", c.set.Journal.Path)
		}
		s.db, err = s.ag.openJournal(ctx)
		var locked *queue.LockedError
		switch {
		case errors.As(err, &locked):
			return fmt.Errorf("%w, or wait until its socket answers", err)
		case err != nil && keystore.ClassOf(err) != keystore.ClassNone:
			return withCode(exitToken, err)
		case err != nil:
			return err
		}
		defer func() { err = errors.Join(err, s.db.Close()) }()
		if err := s.ag.compareAudit(ctx, s.db.StampOnDisk()); err != nil {
			return err
		}
		return f(s)
	})
}

// neverMade reports whether there is no journal and never was one. One that is gone
// has left its witness, and opening it says so.
func neverMade(path string) bool {
	for _, p := range []string{path, path + ".witness"} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return true
}

func (s *stopped) journal() *journal { return &journal{each: s.db.Each, explain: txn.Explain} }

// engine is one that is never run, so it sends nothing: it knows the rules of what
// may be done to a request, and records it.
func (s *stopped) engine(ctx context.Context) (*txn.Engine, error) {
	if why := s.db.Behind(); why != "" {
		return nil, fmt.Errorf("the journal was put back from a copy (%s), so what it says of its requests may be old; start the agent, which settles that, and do it again", why)
	}
	offers, _, err := s.ag.offers(ctx)
	if err != nil {
		return nil, withCode(exitToken, err)
	}
	for i := range offers {
		offers[i].Provider = nil
	}
	return txn.NewEngine(ctx, txn.Options{
		Store: s.db, Identity: s.db.Identity(), Offers: offers, Audit: recorder{log: s.audit}, Log: s.ag.log, Timing: s.set.timing(),
	})
}

// needsAgent is for what cannot be done to a file.
func needsAgent(what string) error {
	return fmt.Errorf("to %s needs the running agent; start it with 'systemctl start gardu' or 'gardu run', and do it again", what)
}
