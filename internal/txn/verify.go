package txn

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"time"
)

// Verifier is a Provider that can say, with no effect on the customer, whether what
// was entered belongs together: a card, its last digits and its holder. fields are
// those of the policy. It must return soon after ctx ends and must not repeat the
// call by itself.
type Verifier interface {
	Verify(ctx context.Context, fields map[string]string) Verification
}

// Verdict is what a verification came to.
type Verdict string

// The verdicts. Only VerdictOK opens the way to the secret.
const (
	VerdictOK       Verdict = "ok"
	VerdictMismatch Verdict = "mismatch" // the provider does not know these together
	VerdictUnknown  Verdict = "unknown"  // nobody said yes or no
)

// Verification is a Verifier's answer.
type Verification struct {
	Verdict Verdict
	ID      string // the provider's or our number of the call, under which the provider finds it
	Reason  Reason // why it is not VerdictOK
	Code    string // the provider's code, for operators
	Text    string // the provider's message, for operators; never a secret
	Alarm   string // one sentence for the operator, or empty
	NotSent bool   // no byte of it left, so that it is no attempt of the customer's
}

// VerifyError says that what was entered was not confirmed. Nothing was stored and
// nothing has changed.
type VerifyError struct {
	Verdict Verdict
	Reason  Reason
	Code    string
}

func (e *VerifyError) Error() string {
	if e.Verdict == VerdictMismatch {
		return fmt.Sprintf("the provider does not confirm what was entered (%s); check the card and its details", e.Reason)
	}
	return fmt.Sprintf("nobody could say whether what was entered is right (%s); ask again later", e.Reason)
}

// grantLife is how long a confirmation opens the way to a request: as long as the
// slowest customer takes to choose a PIN. Older ones are asked for again.
const grantLife = 10 * time.Minute

// grant is a confirmation that was given. It holds a hash of what was confirmed and
// none of it, lives in memory only and is not there after a restart.
type grant struct {
	content string
	at      time.Time
	spent   bool // a request has taken its place in the limits
}

// Verify asks the provider whether what was entered belongs together, where the
// policy demands that (Policy.CardVerify). The proof that it returns goes into
// New.VerifiedBy of a request with the same fields within ten minutes.
//
// Each call counts against the limits of the customer and of the kiosk like a
// request, whatever it comes to, so that nobody can try numbers at leisure; the
// request that follows a confirmation takes over its place in them. Nothing of it is
// stored: not what was entered, and not the answer.
//
// Errors: *FieldError, ErrUnknownOperation, ErrDisabled, ErrOffline, *OpenError,
// *CooldownError, *LimitError, ErrStopped, and *VerifyError for anything but a yes.
func (e *Engine) Verify(ctx context.Context, op Operation, fields map[string]string) (proof string, err error) {
	of, err := e.check(op, fields)
	if err != nil {
		return "", err
	}
	v, ok := of.Provider.(Verifier)
	if !of.Policy.CardVerify || !ok {
		return "", fmt.Errorf("%w: its provider has no verification", ErrDisabled)
	}
	if !e.begin() {
		return "", ErrStopped
	}
	defer e.work.Done()
	customer := of.Policy.Customer(fields)
	err = e.untilStored(ctx, func() error {
		e.mu.Lock()
		now := e.clock.now()
		_, open, err := e.admit(&of.Policy, customer, now)
		if err == nil && open == nil {
			e.ix.accepted(customer, now)
		}
		e.mu.Unlock()
		if open != nil {
			return e.openError(ctx, open)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	cctx, cancel := context.WithTimeout(ctx, e.timing.Call)
	got := v.Verify(cctx, fields)
	cancel()
	e.log.Info("cardholder verification", "operation", op, "verdict", got.Verdict, "reason", got.Reason, "code", got.Code, "verification", got.ID)
	if got.Alarm != "" {
		e.log.Error("operator alarm", "operation", op, "code", got.Code, "alarm", got.Alarm)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if got.Verdict == VerdictOK {
		return e.grant(got.ID, contentOf(op, fields)), nil
	}
	if got.NotSent {
		e.ix.unaccept(customer)
	}
	return "", &VerifyError{Verdict: got.Verdict, Reason: got.Reason, Code: got.Code}
}

// grant notes a confirmation. e.mu is held.
func (e *Engine) grant(id, content string) (proof string) {
	now := e.clock.now()
	maps.DeleteFunc(e.grants, func(_ string, g *grant) bool { return now.Sub(g.at) >= grantLife })
	if id == "" {
		id = rand.Text()
	}
	proof = "platform:" + id
	e.grants[proof] = &grant{content: content, at: now}
	return proof
}

// granted finds the confirmation that a request claims. e.mu is held.
func (e *Engine) granted(p *Policy, r *Request, now time.Time) (*grant, error) {
	if !p.CardVerify {
		return nil, nil
	}
	g := e.grants[r.Data[DataVerifiedBy]]
	if g == nil || g.content != r.Content || now.Sub(g.at) >= grantLife {
		return nil, ErrUnverified
	}
	return g, nil
}
