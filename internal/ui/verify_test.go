package ui_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
)

// byCall has the card's issuer asked in place of staff.
func byCall(r *rig) {
	r.engine.SetPolicy(txn.PrepaidResetPIN, func(p *txn.Policy) { p.StaffVerify, p.CardVerify = false, true })
	r.server.SetEngine(r.engine)
}

func asMap(pairs []string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func (p *page) toCard() {
	p.t.Helper()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.PrepaidResetPIN))
	p.do("agree")
	p.at(ui.Ident)
}

func TestTheIssuerConfirmsTheCardBeforeThePINIsTyped(t *testing.T) {
	r := newRig(t, nil)
	byCall(r)
	release := r.engine.Hold("Verify")
	p := r.open()
	p.toCard()
	p.send("submit_fields", asMap(fieldsOf[txn.PrepaidResetPIN]))
	s := p.at(ui.Verify)
	require.Equal(t, "VERIFY.title.card", s.Title)
	require.Contains(t, s.Lines, "VERIFY.body.card")
	require.Nil(t, s.Entry, "there is nothing to type")
	require.True(t, s.Busy)
	require.NotContains(t, s.Commands, "staff_code")
	require.Equal(t, 3, s.Steps.At)
	require.Equal(t, 6, s.Steps.Of)
	release()
	p.at(ui.PIN)
	p.do("submit_pin", "pin", canaryPIN)
	p.do("submit_pin", "pin", canaryPIN)
	p.at(ui.Review)
	p.do("confirm")
	p.at(ui.Working)
	require.Equal(t, "platform:v1", r.engine.Last().Data[txn.DataVerifiedBy])
	require.Equal(t, 1, r.engine.Count("Verify"))
	require.NotContains(t, r.log.String(), fieldsOf[txn.PrepaidResetPIN][1], "no card in the log")
}

func TestOtherFieldsAreConfirmedAnew(t *testing.T) {
	r := newRig(t, nil)
	byCall(r)
	p := r.open()
	p.toCard()
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.at(ui.PIN)
	p.do("back")
	p.at(ui.Ident)
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.at(ui.PIN)
	require.Equal(t, 2, r.engine.Count("Verify"))
}

func TestWhatTheIssuerDoesNotConfirm(t *testing.T) {
	until := time.Now().Add(time.Hour)
	for name, tt := range map[string]struct {
		err         error
		result      string
		state       ui.State
		code, title string
	}{
		"no":         {&txn.VerifyError{Verdict: txn.VerdictMismatch, Reason: txn.ReasonNotFound}, "not_verified", ui.Fail, "N-CARD_MISMATCH", "FAIL.title.card_mismatch"},
		"no answer":  {&txn.VerifyError{Verdict: txn.VerdictUnknown, Reason: txn.ReasonNoAnswer}, "not_verified", ui.Fail, "N-CARD_UNCHECKED", "FAIL.title.card_unchecked"},
		"too often":  {&txn.LimitError{Scope: "customer", Until: until}, "limit", ui.Limit, "N-LIMIT", ""},
		"no network": {txn.ErrOffline, "offline", ui.Fail, "N-OFFLINE_REFUSED", "FAIL.title.offline_refused"},
	} {
		for _, lang := range []ui.Lang{ui.Indonesian, ui.English} {
			t.Run(name+"/"+string(lang), func(t *testing.T) {
				r := newRig(t, nil)
				byCall(r)
				r.engine.Fail("Verify", tt.err)
				p := r.open()
				p.at(ui.Attract)
				p.do("lang", "lang", string(lang))
				p.toCard()
				require.Equal(t, tt.result, p.try("submit_fields", fieldsOf[txn.PrepaidResetPIN]...).Code)
				s := p.at(tt.state)
				require.Equal(t, tt.code, s.Code)
				if tt.title != "" {
					require.Equal(t, tt.title, s.Title)
				}
				require.Zero(t, r.engine.Count("Accept"), "nothing is stored")
			})
		}
	}
}

func TestAConfirmationThatBecameTooOld(t *testing.T) {
	r := newRig(t, nil)
	byCall(r)
	p := r.open()
	p.toCard()
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.do("submit_pin", "pin", canaryPIN)
	p.do("submit_pin", "pin", canaryPIN)
	r.engine.Fail("Accept", txn.ErrUnverified)
	require.Equal(t, "not_verified", p.try("confirm").Code)
	require.Equal(t, "N-CARD_UNCHECKED", p.at(ui.Fail).Code)
}

func TestAnIssuerThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		byCall(r)
		defer r.stop()
		defer r.engine.Hang("Verify")()
		p := r.open()
		p.toCard()
		p.send("submit_fields", asMap(fieldsOf[txn.PrepaidResetPIN]))
		p.at(ui.Verify)
		time.Sleep(21 * time.Second)
		require.Equal(t, "N-CARD_UNCHECKED", p.at(ui.Fail).Code)
	})
}

func TestAPINPadsBlockPassesLikeAPIN(t *testing.T) {
	const block = "00112233445566778899aabbccddeeff"
	r := newRig(t, nil)
	byCall(r)
	r.engine.SetPolicy(txn.PrepaidResetPIN, func(p *txn.Policy) { p.Secret = &txn.Field{Name: "newPIN", Min: 32, Max: 32} })
	r.server.SetEngine(r.engine)
	p := r.open()
	p.toCard()
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.at(ui.PIN)
	require.Equal(t, "field", p.try("submit_pin", "pin", canaryPIN).Code, "no PIN in clear where a pad encrypts")
	p.do("submit_pin", "pin", block)
	p.do("submit_pin", "pin", block)
	p.at(ui.Review)
	p.do("confirm")
	p.at(ui.Working)
	require.Equal(t, block, string(r.engine.Secret(r.engine.Last().ID).Bytes()))
	require.NotContains(t, p.everything()+r.log.String(), block)
}
