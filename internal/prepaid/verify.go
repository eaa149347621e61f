package prepaid

import (
	"context"
	"crypto/rand"
	"math/big"
	"strings"
	"time"

	"gardu/internal/txn"
)

// Verdict is what Verify Cardholder came to.
type Verdict string

// The verdicts. Only VerdictOK opens the way to the PIN.
const (
	VerdictOK       Verdict = "ok"
	VerdictMismatch Verdict = "mismatch" // the platform does not know this card and person together
	VerdictUnknown  Verdict = "unknown"  // nobody said yes or no
)

// Verification is the answer to Verify.
type Verification struct {
	Verdict Verdict
	Reason  txn.Reason // why it is not VerdictOK
	Code    string     // the platform's code, for operators
	Text    string     // the platform's message, for operators
	Alarm   string     // one sentence for the operator, or empty
}

// Verify asks the platform whether the card, its last four digits and the customer
// belong together. fields are those of Policies. It changes nothing at the platform
// and may be repeated; how often, is for the caller to limit.
//
// A rejection whose code means settings is VerdictUnknown: it says nothing of the
// customer.
func (p *Provider) Verify(ctx context.Context, fields map[string]string) Verification {
	if p.cfg.Verification != VerifyByCardholder {
		return Verification{Verdict: VerdictUnknown, Reason: txn.ReasonNotAllowed,
			Text: `not sent: prepaid.verification is not "verify_cardholder"`}
	}
	if err := p.checkCard(fields); err != nil {
		return Verification{Verdict: VerdictMismatch, Reason: txn.ReasonBadField, Text: "not sent: " + err.Error()}
	}
	id := randomTxnID()
	plain := p.verifyMessage(id, time.Now(), fields)
	a := p.exchange(ctx, plain, nil, expected{
		path:         p.cfg.VerifyPath,
		messageCode:  p.cfg.VerifyAnswerMessageCode,
		txnID:        id,
		fields:       fields,
		undocumented: true,
	})
	v := Verification{Verdict: VerdictUnknown, Reason: a.Reason, Code: a.Code, Text: a.Text, Alarm: a.Alarm}
	switch {
	case a.Outcome == txn.HasSucceeded:
		v.Verdict = VerdictOK
	case a.Outcome == txn.WasRejected && a.Reason != txn.ReasonMisconfigured:
		v.Verdict = VerdictMismatch
	}
	return v
}

// txnIDLength is the limit of clientTxnId in the older of the platform's tables.
const txnIDLength = 14

// randomTxnID makes a clientTxnId of 14 letters and digits (83 bits): a
// verification has no effect, so its id need not be on disk before it is sent.
func randomTxnID() string {
	limit := new(big.Int).Exp(big.NewInt(62), big.NewInt(txnIDLength), nil)
	n, _ := rand.Int(rand.Reader, limit) // fails only where rand.Reader does, which ends the program instead
	s := n.Text(62)
	return strings.Repeat("0", txnIDLength-len(s)) + s
}
