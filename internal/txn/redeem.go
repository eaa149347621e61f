package txn

import (
	"context"
	"errors"
	"time"

	"gardu/internal/secret"
)

// What Redeem says of a code, beside ErrNotFound, ErrTooLate and *FieldError.
var (
	// ErrCodeRefused: the provider does not take it. The page may be finished anew
	// as long as it lives.
	ErrCodeRefused = errors.New("the provider does not take this code")
	// ErrCodeUnspent: the provider cannot have seen it. It can be brought again.
	ErrCodeUnspent = errors.New("the code did not reach the provider")
	// ErrCodeUnproved: it may have been spent, and nothing was learned. The result is
	// asked for in other ways.
	ErrCodeUnproved = errors.New("the provider did not say whether it takes this code")
)

// codePoll is how often Redeem looks whether a read-back that is under way is over.
const codePoll = 20 * time.Millisecond

// Redeem brings the code that the customer's page ended with: proof that what was
// to be done there was done. It makes a copy of nothing; code stays the caller's.
//
// No attempt is recorded, since the code changes nothing of the customer's, and one
// that was lost on the way only leaves the page to be judged by read-back. Errors:
// ErrNotFound, ErrTooLate (the request does not wait for a page any more),
// *FieldError, ErrCodeRefused, ErrCodeUnspent, ErrCodeUnproved; in all of them the
// request is as it was. ErrStoreUnknown: it may have been stored; look again.
func (e *Engine) Redeem(ctx context.Context, id string, code *secret.Value) (*Request, error) {
	if !e.begin() {
		return nil, ErrTooLate
	}
	defer e.work.Done()
	r, en, err := e.takePage(ctx, id)
	if err != nil {
		return nil, err
	}
	var after time.Duration
	defer func() { e.release(en, after) }()
	of := e.offer(r.Operation)
	to, ok := of.Provider.(Redeemer)
	if !ok || of.Policy.Code == nil || r.State != Pending || r.Await != AwaitLink {
		return nil, ErrTooLate
	}
	if err := of.Policy.Code.checkCode(code.Bytes()); err != nil {
		return nil, err
	}
	if err := e.audit.Record(ctx, ActRedeem+ActBegins, r, nil, ""); err != nil {
		e.log.Error("audit did not take the record before a code is spent; it is not", "request", r.ID, "error", err)
		return nil, ErrCodeUnspent
	}
	cctx, cancel := context.WithTimeout(ctx, e.timing.Call)
	a := to.Redeem(cctx, Call{Request: r.Clone(), Secret: code, NewExternalID: e.newExternalID})
	cancel()
	e.learn(of.Policy.Provider, a)
	e.alarm(r, a)
	end := ActEnds
	if a.Outcome != HasSucceeded {
		end = ActFails
	}
	if err := e.audit.Record(context.WithoutCancel(ctx), ActRedeem+end, r, nil, ""); err != nil {
		e.log.Error("audit did not take the record after a code was spent", "request", r.ID, "error", err)
	}
	switch a.Outcome {
	case HasSucceeded:
	case WasRejected:
		return nil, ErrCodeRefused
	case NotSent:
		return nil, ErrCodeUnspent
	case Unknown, WentPending:
		after = e.timing.ReadBase // the read-back may know soon
		return nil, ErrCodeUnproved
	default:
		return nil, ErrCodeUnproved
	}
	settleInquiry(r, &of.Policy, e.timing, a, e.now(r))
	after, err = e.keep(context.WithoutCancel(ctx), en, r)
	if err != nil {
		return nil, err
	}
	return r.Clone(), nil
}

// Renew asks for another one-time password in place of one that did not come or
// does not fit: the request, of which only a first call without effect was made, ends,
// and a new one of the same customer and content takes its place under key. So the
// provider gets a new first call with ids of its own, and the limits count it.
// Errors: ErrNotFound, ErrTooLate (a second call may have been sent, or nothing is
// waited for any more), ErrStoreUnknown, and those of Accept.
func (e *Engine) Renew(ctx context.Context, id, key string) (*Request, error) {
	r, err := e.giveUp(ctx, id)
	if err != nil {
		return nil, err
	}
	return e.Accept(ctx, New{Key: key, Operation: r.Operation, Fields: r.Fields, VerifiedBy: r.Data[DataVerifiedBy]})
}

// giveUp ends a request that waits for a one-time password.
func (e *Engine) giveUp(ctx context.Context, id string) (*Request, error) {
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
	if r.State != Pending || r.Await != AwaitOTP || r.MayHaveBeenSent() {
		return nil, ErrTooLate
	}
	closeAs(r, Expired, ReasonNothingChanged, e.now(r))
	after, err = e.keep(ctx, en, r)
	return r, err
}

// takePage claims a request whose customer is on the page. Such a one is read back
// every few seconds, which is waited for.
func (e *Engine) takePage(ctx context.Context, id string) (*Request, *entry, error) {
	for {
		r, en, err := e.take(ctx, id, func(en *entry) bool { return en.state == Pending && en.await == AwaitLink })
		if !errors.Is(err, ErrTooLate) || !e.onPage(id) {
			return r, en, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, ErrCodeUnspent
		case <-time.After(codePoll):
		}
	}
}

// onPage does not ask whether the request is still busy: who had it a moment ago may
// just have let it go.
func (e *Engine) onPage(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := e.ix.open[id]
	return en != nil && en.state == Pending && en.await == AwaitLink
}

// checkCode holds a code against its field. It may have any visible character:
// it is the provider's own.
func (f Field) checkCode(v []byte) error {
	switch {
	case len(v) == 0:
		return &FieldError{f, RuleMissing}
	case len(v) < f.Min:
		return &FieldError{f, RuleShort}
	case len(v) > f.Max:
		return &FieldError{f, RuleLong}
	case !only(v, func(c byte) bool { return c > ' ' && c <= '~' }):
		return &FieldError{f, RuleChars}
	}
	return nil
}
