package txn

import (
	"context"
	"time"

	"gardu/internal/secret"
)

// Provider speaks one upstream platform's language.
//
// Submit makes one call. It returns whatever happened as an Answer, never as an
// error: an error that says nothing about what the provider saw is Unknown. It
// must not repeat the call by itself, and must return soon after ctx ends.
type Provider interface {
	Submit(ctx context.Context, c Call) Answer
}

// Inquirer is a Provider that can read back, without any effect, what became of
// a request. The Answer's Outcome then means: HasSucceeded, the effect is there;
// WasRejected, the effect is not there (yet); WentPending, the provider is still
// at it; NotSent or Unknown, nothing was learned.
type Inquirer interface {
	Inquire(ctx context.Context, c Call) Answer
}

// Redeemer is a Provider whose customer's page ends with a code that proves what was
// done there, and that works once. Redeem spends the code in Call.Secret. It changes
// nothing of the customer's, so it is no attempt: the Answer's Outcome means
// HasSucceeded, proved; WasRejected, this code proves nothing; NotSent, it was not
// spent; Unknown, it may have been.
type Redeemer interface {
	Redeem(ctx context.Context, c Call) Answer
}

// Prober is a Provider that can tell whether its platform can be reached, with
// no effect on any customer. A nil error is a working link; a *ProbeError says
// more than that the link is down.
type Prober interface {
	Probe(ctx context.Context) error
}

// Timekeeper is a Provider that knows its platform's time: the Date of its last
// answer of any kind, also to a probe, and the time since. It decides whether this
// machine's wall clock can be believed. ok is false where nothing was answered yet.
type Timekeeper interface {
	Time() (now time.Time, ok bool)
}

// ProbeError is a probe's failure with a reason of its own.
type ProbeError struct {
	Reason Reason
	Hold   bool // asking more makes it worse: leave the provider alone for a while
	Err    error
}

func (e *ProbeError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.Err }

// Call is what a Provider needs for one call.
type Call struct {
	Request *Request      // a copy; read only
	Attempt Attempt       // the attempt as it is on disk (zero for a read-back)
	Secret  *secret.Value // PIN or OTP of this step; nil otherwise; the engine wipes it
	// NewExternalID allots a further external id for a call without effect (a
	// read-back, or an inquiry before binding). 32 digits, never handed out twice.
	NewExternalID func(context.Context) (string, error)
}

// Answer is what a call came to.
type Answer struct {
	Outcome    Outcome
	Reason     Reason
	Code       string            // the provider's code, verbatim, at most 32 printable characters
	Text       string            // the provider's message, at most 200 characters, for operators; never a secret
	HTTPStatus int               // 0 where there was no answer
	Again      bool              // with NotSent: what was wrong has been mended (token, clock); try once more at once
	RetryAfter time.Duration     // with NotSent: the provider's wish; 0 none
	Hold       bool              // with NotSent: sending more to this provider makes it worse; hold it and raise Alarm
	Cooldown   time.Duration     // this customer may not ask for this operation before that long; 0 none
	Await      Await             // with WentPending (or WasRejected: one more try): what the customer must bring
	AwaitFor   time.Duration     // and how long it stays useful, from now
	Data       map[string]string // merged into Request.Data
	Alarm      string            // one sentence for the operator, or empty
}
