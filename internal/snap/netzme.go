package snap

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gardu/internal/txn"
)

// Netzme speaks with Netzme (vSNAP). It implements txn.Provider and txn.Prober;
// there is nothing to read back.
type Netzme struct {
	*caller
	cfg NetzmeConfig
}

var (
	_ txn.Provider = (*Netzme)(nil)
	_ txn.Prober   = (*Netzme)(nil)

	_ txn.Timekeeper = (*Netzme)(nil)
)

// NewNetzme checks configuration and keys. now is the machine's clock; nil takes
// time.Now.
func NewNetzme(cfg NetzmeConfig, keys Keys, h HTTP, log *slog.Logger, now func() time.Time) (*Netzme, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("netzme: %w", err)
	}
	cfg.ForgotPIN.Path = cfg.forgotPINPath()
	n := &Netzme{cfg: cfg}
	c, err := newCaller(NetzmeName, "Netzme", &n.cfg.Config, keys, h, log, now)
	if err != nil {
		return nil, err
	}
	if err := c.checkCustomer(cfg.operations()...); err != nil {
		return nil, err
	}
	n.caller = c
	return n, nil
}

// Probe looks whether Netzme can be reached and gives access tokens.
func (n *Netzme) Probe(ctx context.Context) error { return n.probe(ctx) }

// Submit makes the call of the attempt.
func (n *Netzme) Submit(ctx context.Context, c txn.Call) txn.Answer {
	if c.Request.Operation != txn.NetzmeForgotPIN {
		return wrongOperation(c.Request.Operation)
	}
	return n.forgotPIN(ctx, c)
}

// forgotPIN asks for a new PIN, which reaches the customer by SMS (Netzme vSNAP,
// Forgot pin). Of the answer only the named fields are read: a PIN in it is
// neither kept nor shown.
func (n *Netzme) forgotPIN(ctx context.Context, c txn.Call) txn.Answer {
	id := c.Request.Fields[fieldCustomerID]
	b := newBody(512).
		text("custIdMerchant", id).
		text("partnerReferenceNo", c.Request.Reference).
		info().text("type", "forgot_pin").close().
		bytes()
	a, o := n.do(ctx, call{n.cfg.ForgotPIN, id, c.Attempt.ExternalID, b})
	a.Text = maskRuns(a.Text, 1) // whatever is said here may say the new PIN, also digit by digit
	if a.Outcome == txn.HasSucceeded && !n.echoed(o, c.Request.Reference) {
		a.Outcome, a.Reason = txn.Unknown, txn.ReasonEchoMismatch
		a.Text = "the answer does not repeat our partnerReferenceNo"
		return a
	}
	if wait := n.cooldown(o); wait > 0 && (a.Outcome == txn.HasSucceeded || a.Outcome == txn.WasRejected) {
		a.Cooldown = wait
	}
	n.seenReference(&a, c, false)
	return a
}

// echoed reports whether a success is the answer to our own request.
func (n *Netzme) echoed(o object, reference string) bool {
	echo, ok := o.text("partnerReferenceNo")
	if !ok || echo == "" {
		return !n.cfg.RequireEcho
	}
	return echo == reference
}

// cooldown reads additionalInfo.timeLeftInMillis: how long the same customer has
// to wait before asking again.
func (n *Netzme) cooldown(o object) time.Duration {
	info, ok := o.object("additionalInfo")
	if !ok {
		return 0
	}
	ms, ok := info.integer("timeLeftInMillis")
	if !ok || ms <= 0 {
		return 0
	}
	most := time.Duration(n.cfg.MaxCooldown)
	return time.Duration(min(ms, int64(most/time.Millisecond))) * time.Millisecond
}
