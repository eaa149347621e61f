package txn

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// load rebuilds the index and settles what the last run left.
func (e *Engine) load(ctx context.Context) error {
	var mend []*Request
	var broken, unsure int
	look := e.clock.look() // once: a start with many records is one moment
	err := e.store.Each(ctx, func(r *Request, err error) error {
		if err != nil {
			if !errors.Is(err, ErrSeal) {
				return err
			}
			broken++
			e.log.Error("journal record does not open; it stays where it is and is not sent", "error", err)
			return nil
		}
		m := e.clock.when(look, r)
		if e.settleStart(ctx, r, m.now) {
			mend = append(mend, r)
			return nil
		}
		if r.State == Queued && !m.sure {
			unsure++
		}
		e.adopt(r, m)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	for _, r := range mend {
		if err := e.update(ctx, r, nil); err != nil {
			return fmt.Errorf("settle request %s after the restart: %w", r.ID, err)
		}
		e.adopt(r, e.clock.at(r))
	}
	e.ix.sortRecent()
	if err := e.dropTwins(ctx); err != nil {
		return err
	}
	if unsure > 0 {
		e.log.Warn("this machine's clock cannot be believed after the reboot; what may be too old is not sent until it can, or until it certainly is", "requests", unsure)
	}
	e.log.Info("journal read", "records", len(e.ix.seqs), "open", len(e.ix.open), "settled", len(mend), "broken", broken)
	return nil
}

// settleStart reports whether it changed the record.
func (e *Engine) settleStart(ctx context.Context, r *Request, now time.Time) bool {
	p := &e.offer(r.Operation).Policy
	if settleRestart(r, p, e.timing, now) {
		return true
	}
	if e.behind && settleBehind(r, p, e.timing, now) {
		return true
	}
	if r.State != Queued {
		return false
	}
	if needsSecret(r, p) && r.Secret == "" {
		closeAs(r, Expired, ReasonSecretLost, now)
		return true
	}
	if r.Secret == "" {
		return false
	}
	s, err := e.store.Secret(ctx, r)
	s.Wipe()
	if errors.Is(err, ErrSecretLost) {
		closeAs(r, Expired, ReasonSecretLost, now)
		return true
	}
	return false
}

func needsSecret(r *Request, p *Policy) bool {
	return r.Step == 1 && p.Secret != nil || r.Step == 2 && p.OTP != nil
}

func (e *Engine) adopt(r *Request, m moment) {
	en := e.ix.put(r, &e.offer(r.Operation).Policy, e.timing, m)
	if m.now.Sub(r.Created) < limitWindow {
		e.ix.accepted(r.Customer, m.on(r.Created))
	}
	if en != nil {
		e.ix.schedule(en, m.steady)
	}
}

// dropTwins ends what a crash between storing a newer request and superseding
// the older one left: two unsent requests of one customer for one operation.
func (e *Engine) dropTwins(ctx context.Context) error {
	var older []*entry
	for _, l := range e.ix.line {
		last := map[Operation]*entry{}
		for _, en := range l {
			if prev := last[en.op]; prev != nil && prev.state == Queued && !prev.everSent {
				older = append(older, prev)
			}
			last[en.op] = en
		}
	}
	for _, en := range older {
		r, err := e.store.Get(ctx, en.seq)
		if err != nil {
			return fmt.Errorf("read request %s: %w", en.id, err)
		}
		closeAs(r, Cancelled, ReasonSuperseded, e.now(r))
		if err := e.update(ctx, r, nil); err != nil {
			return fmt.Errorf("supersede request %s: %w", en.id, err)
		}
		e.put(r)
	}
	return nil
}
