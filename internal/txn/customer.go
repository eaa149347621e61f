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
	r, en, err := e.take(ctx, id, func(en *entry) bool { return en.state == Pending && en.await == AwaitOTP })
	if err != nil {
		return nil, err
	}
	defer func() { e.release(en, 0); e.poke() }()
	p := e.offers[r.Operation].Policy
	if p.OTP == nil {
		return nil, ErrTooLate
	}
	if err := p.OTP.Check(otp.Bytes()); err != nil {
		return nil, err
	}
	now := time.Now()
	if !now.Before(r.AwaitTill) {
		return nil, ErrTooLate
	}
	r.State, r.Reason, r.Await, r.Secret = Queued, "", "", SecretOTP
	r.Expires, r.NotBefore, r.Tries = r.AwaitTill, now, 0
	if err := e.store.Update(ctx, r, otp); err != nil {
		return nil, fmt.Errorf("store the one-time password: %w", err)
	}
	e.changed(r)
	return r.Clone(), nil
}

// Cancel withdraws a request of which nothing was ever sent. Errors: ErrNotFound, ErrTooLate.
func (e *Engine) Cancel(ctx context.Context, id string, why Reason) (*Request, error) {
	r, en, err := e.take(ctx, id, replaceable)
	if err != nil {
		return nil, err
	}
	defer e.release(en, 0)
	closeAs(r, Cancelled, why, time.Now())
	if err := e.store.Update(ctx, r, nil); err != nil {
		return nil, fmt.Errorf("cancel the request: %w", err)
	}
	e.wipeVolatile(r.ID)
	e.changed(r)
	return r.Clone(), nil
}

// take claims an open request that is idle and fits.
func (e *Engine) take(ctx context.Context, id string, fits func(*entry) bool) (*Request, *entry, error) {
	e.mu.Lock()
	en := e.ix.open[id]
	_, known := e.ix.seqs[id]
	switch {
	case !known:
		e.mu.Unlock()
		return nil, nil, ErrNotFound
	case en == nil, en.busy, e.stopping, !fits(en):
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
