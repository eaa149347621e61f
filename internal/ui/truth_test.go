package ui_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// What is told must be true of the very cause: not "the connection is down" of a
// provider that is held, nor "we are finding out" where nobody can ask.

func TestWhoAsksAgainAfterAnUnresolvedRequestIsWarned(t *testing.T) {
	r := newRig(t, brief(ui.Goodbye))
	p := r.open()
	p.toWorking(r.engine, txn.FinpayResetPIN)
	first := r.engine.Last().ID
	r.engine.Move(first, uitest.Send)
	r.engine.Move(first, uitest.Answer(txn.Unknown, txn.Unresolved, txn.ReasonNoReadback))
	p.at(ui.Unresolved)
	p.do("finish")
	p = r.open()
	p.toReview(txn.FinpayResetPIN)
	s := p.at(ui.Review)
	require.Equal(t, "REVIEW.doubt", s.Lines[0])
	require.Equal(t, ui.ShortReference(first), s.Params["earlier"])
	p.do("edit")
	p.do("submit_fields", "phoneNo", "081299999999")
	require.NotContains(t, p.at(ui.Review).Lines, "REVIEW.doubt", "another customer")
}

func TestTroubleOfAProviderIsNotToldAsTheConnection(t *testing.T) {
	later := time.Now().Add(2 * time.Minute)
	for _, c := range []struct {
		link  txn.Link
		title string // of OFFER_QUEUE; empty: nothing is offered
	}{
		{txn.Link{Reason: txn.ReasonLinkDown, NextTry: later}, "OFFER_QUEUE.title"},
		{txn.Link{Reason: txn.ReasonNoAnswer, NextTry: later}, "OFFER_QUEUE.title"},
		{txn.Link{Reason: txn.ReasonThrottled, NextTry: later}, "OFFER_QUEUE.title.throttled"},
		{txn.Link{Reason: txn.ReasonLinkUntrusted, NextTry: later}, "OFFER_QUEUE.title.link_untrusted"},
		{txn.Link{Reason: txn.ReasonKeystore, NextTry: later}, "OFFER_QUEUE.title.provider"},
		{txn.Link{Reason: txn.ReasonTokenInvalid, NextTry: later}, "OFFER_QUEUE.title.provider"},
		{txn.Link{Reason: txn.ReasonThrottled, NextTry: time.Now().Add(31 * time.Minute)}, ""},
		{txn.Link{Reason: txn.ReasonAuthRefused, NextTry: later, Held: true}, ""},
	} {
		t.Run(fmt.Sprintf("%s, held %v, %s", c.link.Reason, c.link.Held, c.title), func(t *testing.T) {
			c.link.Provider = "finpay"
			// Known before the operation is chosen.
			r := newRig(t, nil)
			r.engine.Trouble(c.link)
			p := r.open()
			p.at(ui.Attract)
			p.do("start")
			f := p.try("choose", "operation", string(txn.FinpayResetPIN))
			require.Equal(t, c.title != "", f.OK, "a wait that cannot help is not offered")
			if c.title == "" {
				require.Equal(t, "offline", f.Code)
				require.Contains(t, p.doc("network")["stops"], string(txn.FinpayResetPIN))
			} else {
				require.Contains(t, p.doc("network")["waits"], string(txn.FinpayResetPIN))
			}
			var link map[string]any
			for _, l := range p.doc("network")["links"].([]any) {
				if l := l.(map[string]any); l["provider"] == "finpay" {
					link = l
				}
			}
			require.Equal(t, string(c.link.Reason), link["reason"])
			require.InDelta(t, float64(c.link.NextTry.UnixMilli()), link["next_try"], 2000)

			// Or only once everything is typed.
			r = newRig(t, nil)
			p = r.open()
			p.toReview(txn.FinpayResetPIN)
			r.engine.Trouble(c.link)
			p.until("trouble", func() bool { return containsJSON(p.docs["network"], string(c.link.Reason)) })
			f = p.try("confirm")
			if c.title == "" {
				require.Equal(t, "offline", f.Code)
				s := p.at(ui.Fail)
				require.Equal(t, "FAIL.title.provider_unavailable", s.Title)
				require.Contains(t, s.Lines, "reason.provider_unavailable")
				require.Zero(t, r.engine.Count("Accept"))
				return
			}
			require.Equal(t, c.title, p.at(ui.OfferQueue).Title)
			p.do("hold")
			p.at(ui.Queued)
		})
	}
}

func containsJSON(doc []byte, reason string) bool {
	return strings.Contains(string(doc), `"reason":"`+reason+`"`)
}

// lockedStaff takes no code any more.
type lockedStaff struct{}

func (lockedStaff) VerifyStaff(context.Context, *secret.Value) (string, error) {
	return "", fmt.Errorf("%w; wait", ui.ErrStaffLocked)
}

func TestAProviderThatMayNotWaitIsNotToldAsTheConnection(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toReview(txn.PrepaidResetPIN)
	r.engine.Trouble(txn.Link{Provider: "prepaid", Reason: txn.ReasonKeystore, NextTry: time.Now().Add(time.Minute)})
	p.until("trouble", func() bool { return containsJSON(p.docs["network"], "keystore") })
	require.Equal(t, "offline", p.try("confirm").Code)
	require.Equal(t, "FAIL.title.provider_unavailable", p.at(ui.Fail).Title)
}

func TestPendingSaysWhetherAnybodyIsFindingOut(t *testing.T) {
	for op, want := range map[txn.Operation]string{txn.FinpayResetPIN: "PENDING.body.unasked", txn.FinpayBind: "PENDING.body"} {
		r := newRig(t, nil)
		p := r.open()
		p.toWorking(r.engine, op)
		id := r.engine.Last().ID
		r.engine.Move(id, uitest.Send)
		r.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
		s := p.at(ui.Pending)
		require.Equal(t, want, s.Lines[0], op)
		if op == txn.FinpayResetPIN {
			require.Contains(t, s.Lines, "PENDING.note.unasked")
		}
		require.NotEmpty(t, s.Reference)
	}
}

func TestOTPTriesAreCounted(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toWorking(r.engine, txn.FinpayUnbind)
	id := r.engine.Last().ID
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p.at(ui.OTP)
	require.InDelta(t, 3, p.doc("request")["tries_left"], 0)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, func(q *txn.Request) {
		uitest.Answer(txn.WasRejected, txn.Pending, txn.ReasonOTPWrong)(q)
		q.Await = txn.AwaitOTP
	})
	s := p.at(ui.OTPBad)
	require.Contains(t, s.Lines, "OTP_BAD.tries")
	require.Equal(t, "2", s.Params["tries"])
	require.InDelta(t, 2, p.doc("request")["tries_left"], 0)
	r.engine.Move(id, uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonOTPLimit))
	s = p.at(ui.OTPLocked)
	require.Contains(t, s.Lines, "OTP_LOCKED.body.otp_limit", "it is our limit and not Finpay's")
	require.Equal(t, "F-OTP_LIMIT", s.Code)
}

func TestStaffWhoAreLockedOutAreTold(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.Staff = lockedStaff{} })
	p := r.open()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.PrepaidResetPIN))
	p.do("agree")
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	s := p.at(ui.Verify)
	require.Equal(t, ui.StaffCodeMin, s.Entry.Min)
	require.Equal(t, ui.StaffCodeMax, s.Entry.Max)
	require.Equal(t, "staff_locked", p.try("staff_code", "code", staffCode).Code)
	s = p.at(ui.Fail)
	require.Contains(t, s.Lines, "reason.staff_locked")
	require.Contains(t, s.Lines, "FAIL.body.staff_locked")
}

func TestAJournalThatTakesNothingIsToldAsSuch(t *testing.T) {
	for _, c := range []struct {
		err   error
		state ui.State
		code  string
	}{
		{fmt.Errorf("store the request: %w", txn.ErrNotStored), ui.Fail, "not_stored"},
		{fmt.Errorf("commit: %w", syscall.ENOSPC), ui.Full, "full"},
		{errors.Join(txn.ErrNotStored, syscall.ENOSPC), ui.Full, "full"},
	} {
		r := newRig(t, nil)
		p := r.open()
		p.toReview(txn.FinpayResetPIN)
		r.engine.Fail("Accept", c.err)
		require.Equal(t, c.code, p.try("confirm").Code)
		s := p.at(c.state)
		if c.state == ui.Fail {
			require.Equal(t, "FAIL.title.not_stored", s.Title)
			require.Equal(t, "N-NOT_STORED", s.Code)
		}
	}
}

func TestACooldownAfterARefusalDoesNotSpeakOfMessages(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toReview(txn.FinpayResetPIN)
	r.engine.Fail("Accept", &txn.CooldownError{Until: time.Now().Add(3 * time.Hour), Refused: true})
	require.Equal(t, "cooldown", p.try("confirm").Code)
	s := p.at(ui.Cooldown)
	require.Equal(t, "COOLDOWN.title.refused", s.Title)
	require.Equal(t, []string{"COOLDOWN.body.refused"}, s.Lines)
}

func TestStaffReadTheHintInTheScreensLanguage(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	for _, why := range []string{"audit", "disk_full", "token_absent", "journal", "configuration"} {
		r.server.SetHealth(ui.Health{Reason: why})
		p.until(why, func() bool { return strings.Contains(string(p.docs["health"]), `"reason":"`+why+`"`) })
		id := p.doc("health")["hint"]
		require.NotEmpty(t, id)
		require.Contains(t, p.at(ui.OutOfService).Lines, "OUT_OF_SERVICE.reason."+why)
		p.do("lang", "lang", "en")
		en := p.doc("health")["hint"]
		require.NotEmpty(t, en)
		require.NotEqual(t, id, en)
		p.do("lang", "lang", "id")
	}
}
