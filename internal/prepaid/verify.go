package prepaid

import (
	"context"
	"crypto/rand"
	"math/big"
	"strings"
	"time"

	"gardu/internal/txn"
)

// Verify asks the platform whether the card, its last four digits and the customer
// belong together. fields are those of Policies. It changes nothing at the platform
// and may be repeated; how often, is for the engine to limit. The Verification's ID is the
// call's clientTxnId.
//
// A rejection whose code means settings is txn.VerdictUnknown: it says nothing of the
// customer.
func (p *Provider) Verify(ctx context.Context, fields map[string]string) txn.Verification {
	if p.cfg.Verification != VerifyByCardholder {
		return txn.Verification{Verdict: txn.VerdictUnknown, Reason: txn.ReasonNotAllowed,
			NotSent: true, Text: `not sent: prepaid.verification is not "verify_cardholder"`}
	}
	if err := p.checkCard(fields); err != nil {
		return txn.Verification{Verdict: txn.VerdictMismatch, Reason: txn.ReasonBadField, NotSent: true, Text: "not sent: " + err.Error()}
	}
	id := randomTxnID()
	want := expected{
		path:         p.cfg.VerifyPath,
		messageCode:  p.cfg.VerifyAnswerMessageCode,
		txnID:        id,
		fields:       fields,
		undocumented: true,
	}
	var a txn.Answer
	if body, err := p.sealed(ctx, p.verifyMessage(id, time.Now(), fields)); err != nil {
		a = p.unsealed(err, want)
	} else {
		a = p.exchange(ctx, body, nil, want)
	}
	v := txn.Verification{
		Verdict: txn.VerdictUnknown, ID: id, Reason: a.Reason, Code: a.Code, Text: a.Text, Alarm: a.Alarm,
		NotSent: a.Outcome == txn.NotSent,
	}
	switch {
	case a.Outcome == txn.HasSucceeded:
		v.Verdict = txn.VerdictOK
	case a.Outcome == txn.WasRejected && a.Reason != txn.ReasonMisconfigured:
		v.Verdict = txn.VerdictMismatch
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
