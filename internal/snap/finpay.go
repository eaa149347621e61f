package snap

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gardu/internal/txn"
)

// maxReference bounds the provider's reference that a second call repeats.
const maxReference = 256

// Finpay speaks with Finpay (Finnet). It implements txn.Provider, txn.Inquirer,
// txn.Redeemer, txn.Prober, txn.Timekeeper and txn.Explainer.
type Finpay struct {
	*caller
	cfg FinpayConfig
}

var (
	_ txn.Provider = (*Finpay)(nil)
	_ txn.Inquirer = (*Finpay)(nil)
	_ txn.Prober   = (*Finpay)(nil)
	_ txn.Redeemer = (*Finpay)(nil)

	_ txn.Timekeeper = (*Finpay)(nil)
)

// NewFinpay checks configuration and keys. now is the machine's clock; nil takes
// time.Now.
func NewFinpay(cfg FinpayConfig, keys Keys, h HTTP, log *slog.Logger, now func() time.Time) (*Finpay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("finpay: %w", err)
	}
	f := &Finpay{cfg: cfg}
	c, err := newCaller(FinpayName, "Finpay", &f.cfg.Config, keys, h, log, now)
	if err != nil {
		return nil, err
	}
	if err := c.checkCustomer(cfg.operations()...); err != nil {
		return nil, err
	}
	vault := keys.Vault
	if !cfg.wantsTokens() {
		vault = nil // a code then only proves the binding; what it gives is not kept
	}
	c.customers = newCustomers(c.tokens, cfg.CustomerTokenPath, time.Duration(cfg.RefreshLife), vault)
	f.caller = c
	return f, nil
}

// Probe looks whether Finpay can be reached and gives access tokens.
func (f *Finpay) Probe(ctx context.Context) error { return f.probe(ctx) }

// Submit makes the call of the attempt's step.
func (f *Finpay) Submit(ctx context.Context, c txn.Call) txn.Answer {
	switch c.Request.Operation {
	case txn.FinpayResetPIN:
		return f.resetPIN(ctx, c)
	case txn.FinpayBind:
		return f.bind(ctx, c)
	case txn.FinpayUnbind:
		if c.Attempt.Step > 1 {
			return f.unbind(ctx, c)
		}
		return f.askUnbind(ctx, c)
	case txn.NetzmeForgotPIN, txn.PrepaidResetPIN:
	}
	return wrongOperation(c.Request.Operation)
}

func wrongOperation(op txn.Operation) txn.Answer {
	return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonMisconfigured,
		Text: fmt.Sprintf("this provider does not have the operation %s", op)}
}

// resetPIN asks for a new PIN (Finpay, Reset PIN). A success means accepted: the
// customer finishes elsewhere, and nothing can be read back.
func (f *Finpay) resetPIN(ctx context.Context, c txn.Call) txn.Answer {
	b := newBody(256).
		text("partnerReferenceNo", c.Request.Reference).
		text("phoneNo", phone(c)).
		bytes()
	a, _ := f.do(ctx, call{f.cfg.ResetPIN, phone(c), c.Attempt.ExternalID, b})
	f.seenReference(&a, c, false)
	return a
}

// bind opens the customer's page (Finpay, Account Binding). The binding itself is
// final only when an inquiry says so.
func (f *Finpay) bind(ctx context.Context, c txn.Call) txn.Answer {
	again := false
	if f.cfg.InquireBeforeBind {
		a, linked := f.linked(ctx, c)
		// Linked, but without the token that other operations need: the page has to be
		// opened once more, and only its code proves that this was done. An inquiry that
		// wants such a token itself cannot be made before a binding.
		again = linked == yes && f.wantsToken(ctx, c)
		if linked != no && !again && a.Reason != txn.ReasonBindAgain {
			return beforeBind(a, linked)
		}
	}
	body := newBody(512).text("merchantId", f.cfg.MerchantID)
	if f.cfg.SendBindingReference {
		body.text(f.cfg.BindingReferenceField, c.Request.Reference)
	}
	b := body.text("phoneNo", phone(c)).bytes()
	a, o := f.do(ctx, call{f.cfg.Bind, phone(c), c.Attempt.ExternalID, b})
	f.seenReference(&a, c, true)
	if a.Outcome != txn.HasSucceeded {
		return a
	}
	p, err := parsePage(o, f.cfg.BindingTokenParam, time.Duration(f.cfg.LinkLife))
	if err != nil {
		// Accepted, but without a page nobody can go on; read-back says how it ended.
		return unreadable(a, err)
	}
	a.Outcome, a.Reason, a.Await, a.AwaitFor = txn.WentPending, txn.ReasonLinkOpen, txn.AwaitLink, p.life
	a.Data = map[string]string{}
	p.data(a.Data)
	if ref, ok := reference(o); ok {
		a.Data[txn.DataReferenceNo] = ref
	}
	if again {
		a.Data[dataAgain] = "yes"
	}
	return a
}

// dataAgain marks a binding of an account that was linked already: an inquiry says
// nothing about it.
const dataAgain = "bound_again"

// wantsToken reports whether the customer has yet to bring the code that gives the
// token which other operations need.
func (f *Finpay) wantsToken(ctx context.Context, c txn.Call) bool {
	return f.cfg.wantsTokens() && f.customers.missing(ctx, phone(c))
}

// Redeem exchanges the code that the customer's page ended with for a customer
// token (SNAP standard, service 74), which proves the binding. The code works once.
func (f *Finpay) Redeem(ctx context.Context, c txn.Call) txn.Answer {
	if c.Request.Operation != txn.FinpayBind {
		return wrongOperation(c.Request.Operation)
	}
	code := c.Secret.Bytes()
	if !visibleBytes(code, 1, maxAuthCode) {
		return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonBadField, Text: "the code is empty, too long, or has characters that no code has"}
	}
	return f.customers.redeem(ctx, phone(c), code)
}

// beforeBind is the answer to a binding that was not sent because of what the
// inquiry before it said.
func beforeBind(a txn.Answer, linked ternary) txn.Answer {
	switch {
	case linked == yes:
		a.Outcome, a.Reason = txn.WasRejected, txn.ReasonAlreadyLinked
	case a.Outcome == txn.Unknown:
		// Of the inquiry it is not known what became, but the binding was not sent.
		a.Outcome = txn.NotSent
		if a.HTTPStatus == 0 {
			a.Reason = txn.ReasonLinkDown
		}
	case a.Outcome == txn.WentPending:
		a.Outcome, a.Reason = txn.NotSent, txn.ReasonThrottled
	}
	return a
}

// askUnbind makes the first call of an unbinding, which changes nothing but sends
// the customer a one-time password (Finpay, Account Unbinding). The table's
// mandatory referenceNo is not sent: the sample of the first call has none.
func (f *Finpay) askUnbind(ctx context.Context, c txn.Call) txn.Answer {
	b := newBody(256).
		text("merchantId", f.cfg.MerchantID).
		info().text("phoneNo", phone(c)).close().
		bytes()
	a, o := f.do(ctx, call{f.cfg.Unbind, phone(c), c.Attempt.ExternalID, b})
	f.seenReference(&a, c, true)
	if a.Outcome != txn.HasSucceeded {
		return a
	}
	result, _ := o.text("unlinkResult")
	ref, ok := reference(o)
	switch {
	case failed(result):
		return unreadable(a, fmt.Errorf("the code is a success but the result is %q", printable(result, 64)))
	case result != "" && !f.pending(result):
		f.customers.drop(ctx, phone(c))
		return a // done without an OTP, by its own word
	case !ok:
		return unreadable(a, fmt.Errorf("referenceNo is missing"))
	}
	a.Outcome, a.Reason, a.Await, a.AwaitFor = txn.WentPending, txn.ReasonOTPWanted, txn.AwaitOTP, time.Duration(f.cfg.OTPLife)
	a.Data = map[string]string{txn.DataReferenceNo: ref}
	return a
}

// unbind makes the second call of an unbinding, with the one-time password.
func (f *Finpay) unbind(ctx context.Context, c txn.Call) txn.Answer {
	otp := c.Secret.Bytes()
	if !digits(otp, 8) {
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonSecretLost, Text: "there is no one-time password of 1 to 8 digits to send"}
	}
	ref := c.Request.Data[txn.DataReferenceNo]
	if ref == "" {
		return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonRefused, Text: "the reference of the first call is missing, so the second cannot be made"}
	}
	// Large enough for every field's bound, quotes escaped, so that it never grows.
	body := newBody(1024+6*maxReference).
		text("merchantId", f.cfg.MerchantID).
		text("referenceNo", ref).
		info().text("phoneNo", phone(c)).digits("otp", otp).close()
	defer body.wipe()
	a, o := f.do(ctx, call{f.cfg.Unbind, phone(c), c.Attempt.ExternalID, body.bytes()})
	f.seenReference(&a, c, true)
	if a.Outcome == txn.WasRejected {
		switch a.Reason {
		case txn.ReasonOTPWrong:
			a.Await = txn.AwaitOTP // one more try, as long as the first call's OTP lives
		case txn.ReasonOTPWanted:
			// "Need to request OTP", to a call that had one: it counts no more, and a new
			// one comes by a new first call.
			a.Reason = txn.ReasonOTPExpired
		default: // it says enough
		}
	}
	if a.Outcome != txn.HasSucceeded {
		return a
	}
	switch result, _ := o.text("unlinkResult"); {
	case failed(result):
		return unreadable(a, fmt.Errorf("the code is a success but the result is %q", printable(result, 64)))
	case f.pending(result):
		a.Outcome, a.Reason = txn.WentPending, txn.ReasonInProgress
		return a
	}
	f.customers.drop(ctx, phone(c))
	return a
}

// Inquire asks whether the account is linked and says what that means for the
// request. For the first call of an unbinding it is always "not there": that call
// has no effect that an inquiry could see.
func (f *Finpay) Inquire(ctx context.Context, c txn.Call) txn.Answer {
	a, linked := f.linked(ctx, c)
	if linked == unknown {
		if a.Outcome == txn.WasRejected {
			// A no to the inquiry is no word about the request.
			a.Outcome = txn.Unknown
		}
		return a
	}
	there := false
	switch c.Request.Operation {
	case txn.FinpayBind:
		there = linked == yes
		if there && f.wantsToken(ctx, c) {
			// Linked, and the code is still to come, as long as the page lives. Of an
			// account that was linked before, only the code says anything.
			if c.Request.Await == txn.AwaitLink && f.clock.now().Before(c.Request.AwaitTill) {
				a.Outcome, a.Reason = txn.WentPending, txn.ReasonCodeWanted
				return a
			}
			there = c.Request.Data[dataAgain] == ""
		}
	case txn.FinpayUnbind:
		there = linked == no && c.Request.Step > 1
		if there {
			f.customers.drop(ctx, phone(c))
		}
	case txn.FinpayResetPIN, txn.NetzmeForgotPIN, txn.PrepaidResetPIN:
		return txn.Answer{Outcome: txn.NotSent, Text: "this operation cannot be read back"}
	}
	a.Outcome, a.Reason = txn.WasRejected, txn.ReasonNotProcessed
	if there {
		a.Outcome, a.Reason = txn.HasSucceeded, txn.ReasonConfirmed
	}
	return a
}

// ternary is an inquiry's answer.
type ternary int

const (
	unknown ternary = 0
	no      ternary = 1
	yes     ternary = 2
)

// linked makes the account inquiry (service 08). It has no effect, so what has
// been mended is tried once more at once.
func (f *Finpay) linked(ctx context.Context, c txn.Call) (txn.Answer, ternary) {
	b := newBody(128).info().text("phoneNo", phone(c)).close().bytes()
	var a txn.Answer
	var o object
	for range 2 {
		id, err := c.NewExternalID(ctx)
		if err != nil {
			return txn.Answer{Outcome: txn.NotSent, Text: printable("allot an external id: "+err.Error(), maxText)}, unknown
		}
		a, o = f.do(ctx, call{f.cfg.Inquiry, phone(c), id, b})
		if !a.Again {
			break
		}
	}
	if a.Outcome == txn.WasRejected && a.Reason == txn.ReasonNotFound {
		return a, no // Finpay knows no such account, so it is not linked
	}
	if a.Outcome != txn.HasSucceeded {
		return a, unknown
	}
	info, _ := o.object("additionalInfo")
	status, ok := info.text("accountStatus")
	status = strings.TrimSpace(status)
	switch {
	case !ok || status == "":
		return unreadable(a, fmt.Errorf("accountStatus is missing")), unknown
	case strings.EqualFold(status, "LINKED"):
		return a, yes
	case f.pending(status):
		a.Outcome, a.Reason = txn.WentPending, txn.ReasonInProgress
		return a, unknown
	}
	return a, no
}

// pending reports whether a result word says that it is not final.
func (f *Finpay) pending(word string) bool {
	s := f.cfg.PendingSuffix
	return s != "" && strings.HasSuffix(strings.ToUpper(strings.TrimSpace(word)), strings.ToUpper(s))
}

// failed reports whether a result word contradicts a response code of success.
// The final words are not documented; a success is not told on the word of a
// failure.
func failed(word string) bool {
	w := strings.ToUpper(word)
	for _, bad := range []string{"FAIL", "REJECT", "DENIED", "DECLINE", "ERROR", "CANCEL", "EXPIRE", "INVALID"} {
		if strings.Contains(w, bad) {
			return true
		}
	}
	return false
}

// unreadable turns a success that cannot be used into a doubt.
func unreadable(a txn.Answer, why error) txn.Answer {
	a.Outcome, a.Reason, a.Text = txn.Unknown, txn.ReasonUnreadable, maskDigits(printable(why.Error(), maxText))
	return a
}

// reference reads referenceNo, also as one document spells it. It is sent back as it
// came, so only its size and characters are bounded.
func reference(o object) (string, bool) {
	ref, ok := o.text("referenceNo")
	if !ok {
		ref, ok = o.text("refrenceNo")
	}
	return ref, ok && visible(ref, 1, maxReference)
}

func phone(c txn.Call) string { return c.Request.Fields[fieldPhone] }

func digits(b []byte, limit int) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= limit
}
