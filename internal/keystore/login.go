package keystore

import (
	"context"
	"errors"
	"fmt"

	"gardu/internal/keystore/protocol"
	"gardu/internal/secret"
)

// bring starts a worker and takes it to the state where keys can be used.
func (s *Store) bring(ctx context.Context, gen uint64) (*process, error) {
	if !s.opts.TrustModulePath {
		if err := checkModule(s.opts.Module); err != nil {
			return nil, err
		}
	}
	var pin *secret.Value
	var origin PINOrigin
	if s.opts.PIN != nil {
		var err error
		if pin, origin, err = s.opts.PIN(ctx); err != nil {
			if errors.Is(err, ErrConfiguration) {
				return nil, err
			}
			return nil, configuration("token PIN: %v", err)
		}
		defer pin.Wipe()
		if err := s.latchedBefore(origin); err != nil {
			return nil, err
		}
	}
	p, err := s.run(ctx, gen)
	if err != nil {
		return nil, err
	}
	if err := s.introduce(ctx, p, pin, origin); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

// latchedBefore refuses a PIN that is known to be wrong without starting anything.
func (s *Store) latchedBefore(origin PINOrigin) error {
	s.mu.Lock()
	refused := s.refused
	s.mu.Unlock()
	if refused != "" && refused == origin {
		return fmt.Errorf("%w: the token refused this PIN and it has not changed since", ErrPINLocked)
	}
	r, err := s.latch.read()
	if err != nil {
		return err
	}
	if r != nil && r.refuses() && r.Origin == origin && r.Selector == s.token.String() {
		return r.latched()
	}
	return nil
}

func (s *Store) introduce(ctx context.Context, p *process, pin *secret.Value, origin PINOrigin) error {
	body, err := p.roundTrip(ctx, protocol.OpHello, s.opts.StartDeadline, s.hello().Append)
	if err != nil {
		return s.startError(err)
	}
	if err := p.token.Parse(body); err != nil {
		return fmt.Errorf("%w: %w", ErrWorkerLost, err)
	}
	if pin == nil {
		if p.token.Flags&protocol.TokenLoginRequired != 0 {
			return fmt.Errorf("%w: the token needs a PIN and none is configured", ErrPINUnusable)
		}
		return nil
	}
	p.words.hush.Store(newHush(pin))
	if err := fits(&p.token, pin); err != nil {
		return err
	}
	unlock, err := s.latch.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.tryPIN(ctx, p, pin, origin)
}

// startError adds what the worker cannot know to its words.
func (s *Store) startError(err error) error {
	f, ok := errors.AsType[*protocol.Failure](err)
	if !ok {
		return err
	}
	err = fromWorker(f)
	if errors.Is(err, ErrModule) || errors.Is(err, ErrTokenAbsent) {
		return fmt.Errorf("%w (module %s)", err, s.opts.Module)
	}
	return err
}

// fits checks what can be known without spending a try.
func fits(t *protocol.Token, pin *secret.Value) error {
	n := uint32(pin.Len()) //nolint:gosec // a PIN
	switch {
	case t.Flags&protocol.TokenPINLocked != 0:
		return fmt.Errorf("%w: the token reports its PIN as locked", ErrPINLocked)
	case t.Flags&protocol.TokenPINFinalTry != 0:
		return fmt.Errorf("%w: the token has one try left, which is not spent", ErrPINLocked)
	case t.Flags&protocol.TokenPINChange != 0:
		return fmt.Errorf("%w: the token wants it changed first", ErrPINUnusable)
	case n == 0, n < t.MinPIN, t.MaxPIN != 0 && n > t.MaxPIN:
		return fmt.Errorf("%w: the token takes PINs of %d to %d bytes", ErrPINUnusable, max(t.MinPIN, 1), t.MaxPIN)
	}
	return nil
}

// tryPIN logs in, once, and records what came of it. The caller holds the
// latch's lock.
func (s *Store) tryPIN(ctx context.Context, p *process, pin *secret.Value, origin PINOrigin) error {
	before, err := s.latch.read()
	if err != nil {
		return err
	}
	r := &latchRecord{Selector: s.token.String(), Label: p.token.Label, Serial: p.token.Serial, Origin: origin, State: latchTrying, Tries: 1}
	same := before != nil && before.Label == r.Label && before.Serial == r.Serial && before.Origin == origin
	switch {
	case same && before.refuses():
		return before.latched()
	case same && before.State == latchTrying, before != nil && before.damaged:
		r.Tries += before.Tries
	}
	// A PIN that was right before needs no record of the try. With a full disk
	// the token stays usable.
	proven := same && before.State == latchGood
	if !proven {
		if err := s.latch.write(r); err != nil {
			return err
		}
	}
	// Nobody may leave now: a try without an answer counts.
	body, err := p.roundTrip(context.WithoutCancel(ctx), protocol.OpLogin, s.opts.StartDeadline, func(b []byte) []byte { return append(b, pin.Bytes()...) })
	if err == nil {
		return s.loggedIn(body, r, proven)
	}
	f, ok := errors.AsType[*protocol.Failure](err)
	if !ok {
		return err // no answer: the record of the try stays
	}
	err = fromWorker(f)
	switch f.Reason {
	case protocol.ReasonPINWrong, protocol.ReasonPINLocked:
		r.State = latchWrong
		if f.Reason == protocol.ReasonPINLocked {
			r.State = latchLocked
		}
		s.refuse(r)
	default:
		// The token said that something else was wrong: that was no try.
		if !proven {
			s.restore(before)
		}
	}
	return err
}

func (s *Store) loggedIn(body []byte, r *latchRecord, proven bool) error {
	if len(body) != 1 {
		return fmt.Errorf("%w: a login answer of %d bytes", ErrWorkerLost, len(body))
	}
	if body[0] == 0 {
		// Somebody was logged in already; whether the PIN is right was not said.
		s.opts.Log.Warn("token says it was logged in already; its PIN was not checked", "token", s.token.String())
		if !proven {
			s.restore(nil)
		}
		return nil
	}
	if !proven {
		r.State, r.Tries = latchGood, 0
		if err := s.latch.write(r); err != nil {
			s.opts.Log.Warn("right token PIN not recorded", "error", err)
		}
	}
	return nil
}

// refuse records a refused PIN. If the disk takes no new file, it stands in the one
// that is there; if not even that, the file goes, so that the next start must write
// one before it may try.
func (s *Store) refuse(r *latchRecord) {
	s.mu.Lock()
	s.refused = r.Origin
	s.mu.Unlock()
	err := s.latch.write(r)
	if err != nil && s.latch.overwrite(r) == nil {
		err = nil
	}
	if err != nil {
		s.opts.Log.Error("wrong token PIN not recorded", "error", err)
		_ = s.latch.remove()
		return
	}
	s.mu.Lock()
	s.refused = "" // the file speaks now, and another program may open it
	s.mu.Unlock()
}

func (s *Store) restore(before *latchRecord) {
	var err error
	if before == nil || before.damaged {
		err = s.latch.remove()
	} else {
		err = s.latch.write(before)
	}
	if err != nil {
		s.opts.Log.Warn("wrong-PIN latch not restored", "error", err)
	}
}
