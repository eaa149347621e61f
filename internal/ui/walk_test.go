package ui_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// fieldsOf is what a customer types for an operation.
var fieldsOf = map[txn.Operation][]string{
	txn.FinpayResetPIN:  {"phoneNo", "081234567890"},
	txn.FinpayBind:      {"phoneNo", "081234567890"},
	txn.FinpayUnbind:    {"phoneNo", "081234567890"},
	txn.NetzmeForgotPIN: {"custIdMerchant", "M_cust-77"},
	txn.PrepaidResetPIN: {"urn", "70000000008", "last4Digits", "1745", "customerId", "IN00001201001868"},
}

// toReview walks to the last screen before sending.
func (p *page) toReview(op txn.Operation) {
	p.t.Helper()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(op))
	p.at(ui.Consent)
	p.do("agree")
	p.at(ui.Ident)
	p.do("submit_fields", fieldsOf[op]...)
	if op == txn.PrepaidResetPIN {
		p.at(ui.Verify)
		p.do("staff_code", "code", staffCode)
		p.at(ui.PIN)
		p.do("submit_pin", "pin", canaryPIN)
		p.at(ui.PINAgain)
		p.do("submit_pin", "pin", canaryPIN)
	}
	p.at(ui.Review)
}

// toWorking sends the request and returns its id.
func (p *page) toWorking(e *uitest.Engine, op txn.Operation) string {
	p.t.Helper()
	p.toReview(op)
	p.do("confirm")
	p.at(ui.Working)
	return e.Last().ID
}

func TestAllFiveOperationsInBothLanguages(t *testing.T) {
	for _, lang := range []ui.Lang{ui.Indonesian, ui.English} {
		for _, op := range []txn.Operation{txn.FinpayResetPIN, txn.FinpayBind, txn.FinpayUnbind, txn.NetzmeForgotPIN, txn.PrepaidResetPIN} {
			t.Run(string(lang)+"/"+string(op), func(t *testing.T) {
				r := newRig(t, nil)
				p := r.open()
				p.at(ui.Attract)
				p.do("lang", "lang", string(lang))
				first := p.session().Session
				id := p.toWorking(r.engine, op)
				require.Equal(t, lang, p.session().Lang)
				if op == txn.PrepaidResetPIN {
					require.Equal(t, canaryPIN, string(r.engine.Secret(id).Bytes()))
					require.Equal(t, "staff-7", r.engine.Last().Data[txn.DataVerifiedBy])
				}
				r.engine.Move(id, uitest.Send)
				p.finishOperation(r.engine, id, op)
				s := p.at(ui.Done)
				require.Equal(t, "DONE.title."+string(op), s.Title)
				require.Equal(t, "S-OK", s.Code)
				require.Equal(t, ui.ShortReference(id), s.Reference)
				require.Equal(t, ui.ToneDone, s.Tone)

				p.do("receipt")
				s = p.at(ui.Receipt)
				require.NotNil(t, s.Receipt.QR)
				require.Equal(t, "S-OK", s.Code)
				p.do("finish")
				p.at(ui.Goodbye)
				require.Nil(t, p.doc("request"), "nothing of the request is shown after goodbye")

				seen := p.everything() + r.log.String()
				require.NotContains(t, seen, canaryPIN)
				require.NotContains(t, seen, canaryOTP)
				require.NotContains(t, seen, staffCode)
				require.NotContains(t, r.log.String(), fieldsOf[op][1], "no customer data in the log")
				require.Equal(t, first, p.session().Session, "the session lasts until the wipe")
			})
		}
	}
}

// finishOperation plays the provider.
func (p *page) finishOperation(e *uitest.Engine, id string, op txn.Operation) {
	p.t.Helper()
	switch op {
	case txn.FinpayBind:
		e.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
			txn.DataLinkURL: "https://webview.example/partner/binding?linkageToken=" + longToken(881), txn.DataLinkDomain: "webview.example",
		}))
		p.at(ui.BindQR)
		link := p.doc("request")["link"].(map[string]any)
		require.Equal(p.t, "webview.example", link["domain"])
		require.NotEmpty(p.t, link["qr"].(map[string]any)["path"])
		require.NotContains(p.t, p.everything(), "linkageToken", "the link is drawn and not written")
	case txn.FinpayUnbind:
		e.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
		p.at(ui.OTP)
		f := p.try("submit_otp", "otp", "12")
		require.Equal(p.t, "field", f.Code)
		require.Equal(p.t, "too_short", f.Rule)
		p.do("submit_otp", "otp", canaryOTP)
		p.at(ui.Working)
		require.Equal(p.t, canaryOTP, string(e.Secret(id).Bytes()))
		e.Move(id, uitest.Send)
		e.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWrong, 4*time.Minute, nil))
		p.at(ui.OTPBad)
		p.do("submit_otp", "otp", canaryOTP)
		p.at(ui.Working)
		e.Move(id, uitest.Send)
	default:
	}
	e.Move(id, func(r *txn.Request) {
		if op == txn.NetzmeForgotPIN {
			r.Cooldown = time.Now().Add(5 * time.Minute)
		}
		uitest.Answer(txn.HasSucceeded, txn.Succeeded, "")(r)
	})
}

func longToken(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[i*7%64]
	}
	return string(b)
}
