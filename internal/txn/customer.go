package txn

import (
	"context"
	"fmt"
	"time"

	"gardu/internal/secret"
)

// Supply brings the one-time password that a pending request waits for. The
// engine takes its own copy. Errors: ErrNotFound, ErrTooLate, *FieldError,
// ErrStoreUnknown (supply it again).
func (e *Engine) Supply(ctx context.Context, id string, otp *secret.Value) (*Request, error) {
	if !e.begin() {
		return nil, ErrTooLate
	}
	defer e.work.Done()
	r, en, err := e.take(ctx, id, func(en *entry) bool { return en.state == Pending && en.await == AwaitOTP })
	if err != nil {
		return nil, err
	}
	var after time.Duration
	defer func() { e.release(en, after) }()
	of := e.offer(r.Operation)
	if of.Policy.OTP == nil {
		return nil, ErrTooLate
	}
	if err := of.Policy.OTP.Check(otp.Bytes()); err != nil {
		return nil, err
	}
	m := e.clock.at(r)
	now := m.now
	// Queued here is an earlier Supply of which the journal did not know. A password
	// that may be too old is not sent.
	if r.State != Pending && r.State != Queued || !now.Before(r.AwaitTill) || !m.sure {
		return nil, ErrTooLate
	}
	r.State, r.Reason, r.Await, r.Secret = Queued, "", "", SecretOTP
	r.Expires, r.NotBefore, r.Tries = r.AwaitTill, now, 0
	if err := e.update(ctx, r, otp); err != nil {
		e.setStale(en, true)
		after = e.timing.RetryBase
		return nil, fmt.Errorf("store the one-time password: %w", err)
	}
	e.changed(r)
	return r.Clone(), nil
}

// Cancel withdraws a request of which nothing was ever sent. Errors: ErrNotFound,
// ErrTooLate, ErrStoreUnknown (it may be cancelled; look again).
func (e *Engine) Cancel(ctx context.Context, id string, why Reason) (*Request, error) {
	if !e.begin() {
		return nil, ErrTooLate
	}
	defer e.work.Done()
	r, en, err := e.take(ctx, id, unsent)
	if err != nil {
		return nil, err
	}
	var after time.Duration
	defer func() { e.release(en, after) }()
	if r.State != Queued || r.EverSent() {
		e.setStale(en, true)
		return nil, ErrTooLate
	}
	closeAs(r, Cancelled, why, e.now(r))
	if err := e.update(ctx, r, nil); err != nil {
		e.setStale(en, true)
		after = e.timing.RetryBase
		return nil, fmt.Errorf("cancel the request: %w", err)
	}
	e.changed(r)
	return r.Clone(), nil
}

// Unresolved is the id of a request of the customer for the operation whose result
// nobody could find out, or empty. A new one may do the same a second time.
func (e *Engine) Unresolved(op Operation, fields map[string]string) string {
	of := e.offers[op]
	if of == nil {
		return ""
	}
	customer := of.Policy.Customer(fields)
	e.mu.Lock()
	defer e.mu.Unlock()
	var newest *entry
	for _, en := range e.ix.unres {
		if en.op == op && en.customer == customer && (newest == nil || en.seq > newest.seq) {
			newest = en
		}
	}
	if newest == nil {
		return ""
	}
	return newest.id
}

// handOver is how long somebody else's work on a request is waited for, and busyPoll
// how often is looked.
const (
	handOver = 2 * time.Second
	busyPoll = 10 * time.Millisecond
)

// whileBusy waits for a request that fits and that somebody is at: it is about to be
// let go of, since what came of it is told before that, or about to be sent. So what
// a screen offers is not refused for having been asked at once. e.mu is held, and let
// go of meanwhile.
func (e *Engine) whileBusy(ctx context.Context, id string, fits func(*entry) bool) {
	for end := time.Now().Add(handOver); ctx.Err() == nil && time.Now().Before(end); {
		en := e.ix.open[id]
		if en == nil || !en.busy || !fits(en) {
			return
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(busyPoll):
		}
		e.mu.Lock()
	}
}

// take claims an open request that fits, and that nobody else is at.
func (e *Engine) take(ctx context.Context, id string, fits func(*entry) bool) (*Request, *entry, error) {
	e.mu.Lock()
	e.whileBusy(ctx, id, fits)
	en := e.ix.open[id]
	_, known := e.ix.seqs[id]
	switch {
	case !known:
		e.mu.Unlock()
		return nil, nil, ErrNotFound
	case en == nil, en.busy, !fits(en):
		e.mu.Unlock()
		return nil, nil, ErrTooLate
	}
	e.claim(en)
	e.mu.Unlock()
	r, err := e.store.Get(ctx, en.seq)
	if err != nil {
		e.release(en, 0)
		return nil, nil, err
	}
	return r, en, nil
}
