package ui_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

func TestWhyARequestWasNotTaken(t *testing.T) {
	soon := time.Now().Add(4 * time.Minute)
	for _, c := range []struct {
		name  string
		err   error
		state ui.State
		code  string // of the result
		shown string // on the screen
		title string
	}{
		{"cooldown", &txn.CooldownError{Until: soon}, ui.Cooldown, "cooldown", "N-COOLDOWN", "COOLDOWN.title"},
		{"customer's limit", &txn.LimitError{Scope: "customer", Until: soon}, ui.Limit, "limit", "N-LIMIT", "LIMIT.title"},
		{"kiosk's limit", &txn.LimitError{Scope: "kiosk", Until: soon}, ui.Limit, "limit", "N-LIMIT", "LIMIT.title.kiosk"},
		{"offline", txn.ErrOffline, ui.Fail, "offline", "N-OFFLINE_REFUSED", "FAIL.title.offline_refused"},
		{"switched off", txn.ErrDisabled, ui.Fail, "disabled", "N-DISABLED", "FAIL.title"},
		{"full", txn.ErrFull, ui.Full, "full", "N-FULL", "FULL.title"},
		{"stopping", txn.ErrStopped, ui.Fail, "stopping", "N-STOPPING", "FAIL.title"},
		{"clash of keys", txn.ErrKeyConflict, ui.Fail, "internal", "N-INTERNAL", "FAIL.title"},
		{"anything else", errors.New("boom"), ui.Fail, "internal", "N-INTERNAL", "FAIL.title"},
	} {
		for _, method := range []string{"Preview", "Accept"} {
			t.Run(method+"/"+c.name, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.open()
				r.engine.Fail(method, c.err)
				var f frame
				if method == "Accept" {
					p.toReview(txn.FinpayResetPIN)
					f = p.try("confirm")
				} else {
					p.at(ui.Attract)
					p.do("start")
					p.do("choose", "operation", string(txn.FinpayResetPIN))
					p.do("agree")
					f = p.try("submit_fields", "phoneNo", "081234567890")
				}
				require.Equal(t, c.code, f.Code)
				s := p.at(c.state)
				require.Equal(t, c.shown, s.Code)
				require.Equal(t, c.title, s.Title)
				require.Empty(t, s.Reference, "there is no request")
				require.NotContains(t, s.Commands, "receipt")
				if c.state == ui.Cooldown || c.state == ui.Limit {
					until := p.doc("cooldown")["until"].(float64)
					require.InDelta(t, float64(soon.UnixMilli()), until, 1000)
				}
				p.do("finish")
				p.at(ui.Goodbye)
			})
		}
	}
}

func TestJournalThatDoesNotKnowIsAskedAgainWithTheSameKey(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { o.Timeouts.StoreAgain = time.Millisecond })
	r.engine.Fail("Accept", txn.ErrStoreUnknown, txn.ErrStoreUnknown)
	p := r.open()
	p.toWorking(r.engine, txn.FinpayResetPIN)
	require.Equal(t, 3, r.engine.Count("Accept"))
	require.Equal(t, ui.ShortReference(r.engine.Last().ID), p.session().Reference)
}

func TestPINsThatDifferAreBothErased(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.PrepaidResetPIN))
	p.do("agree")
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.at(ui.Verify)
	p.do("staff_code", "code", staffCode)
	f := p.try("submit_pin", "pin", "12")
	require.Equal(t, []string{"field", "newPIN", "too_short"}, []string{f.Code, f.Field, f.Rule})
	f = p.try("submit_pin", "pin", "12a4")
	require.Equal(t, "digits_only", f.Rule)
	p.do("submit_pin", "pin", canaryPIN)
	p.at(ui.PINAgain)
	require.Equal(t, "pin_mismatch", p.try("submit_pin", "pin", "481517").Code)
	s := p.at(ui.PIN)
	require.Equal(t, "PIN.notice.pin_mismatch", s.Notice)
	p.do("submit_pin", "pin", canaryPIN)
	p.do("back") // from the second PIN to the first: the first is typed anew
	p.at(ui.PIN)
	p.do("submit_pin", "pin", canaryPIN)
	p.at(ui.PINAgain)
	p.do("submit_pin", "pin", canaryPIN)
	p.at(ui.Review)
	p.do("edit")
	s = p.at(ui.Ident)
	require.Equal(t, "70000000008", s.Fields[0].Value, "what is no secret need not be typed again")
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	p.at(ui.Verify) // other fields may mean another card: staff look again
}

func TestThreeWrongStaffCodesEndTheAttempt(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.PrepaidResetPIN))
	p.do("agree")
	p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
	for range 2 {
		require.Equal(t, "staff_refused", p.try("staff_code", "code", wrongStaff).Code)
		require.Equal(t, "VERIFY.notice.staff_refused", p.at(ui.Verify).Notice)
	}
	require.Equal(t, "staff_refused", p.try("staff_code", "code", wrongStaff).Code)
	require.Equal(t, "N-STAFF_REFUSED", p.at(ui.Fail).Code)
	require.NotContains(t, r.log.String()+p.everything(), wrongStaff)
	require.Zero(t, r.engine.Count("Accept"))
}

func TestThePolicySaysWhetherStaffAreAsked(t *testing.T) {
	t.Run("not asked where it does not want them", func(t *testing.T) {
		r := newRig(t, nil)
		r.engine.SetPolicy(txn.PrepaidResetPIN, func(p *txn.Policy) { p.StaffVerify = false })
		r.server.SetEngine(r.engine)
		p := r.open()
		p.at(ui.Attract)
		p.do("start")
		p.do("choose", "operation", string(txn.PrepaidResetPIN))
		p.do("agree")
		p.do("submit_fields", fieldsOf[txn.PrepaidResetPIN]...)
		p.at(ui.PIN)
	})
	t.Run("nobody passes where nobody can verify", func(t *testing.T) {
		r := newRig(t, func(o *ui.Options) { o.Staff = nil })
		p := r.open()
		p.at(ui.Attract)
		p.do("start")
		require.Equal(t, "disabled", p.try("choose", "operation", string(txn.PrepaidResetPIN)).Code)
		for _, item := range p.at(ui.Home).Menu {
			require.NotEqual(t, txn.PrepaidResetPIN, item.Operation, "what nobody can begin is not on the menu")
		}
	})
}

func TestDecliningToWaitStoresNothing(t *testing.T) {
	r := newRig(t, nil)
	r.engine.SetPolicy(txn.PrepaidResetPIN, func(p *txn.Policy) { p.HoldOffline = true })
	r.server.SetEngine(r.engine) // the screen learns policies when it gets the engine, and at each wipe
	p := r.open()
	p.toReview(txn.PrepaidResetPIN)
	r.engine.SetLink("prepaid", false)
	p.until("the link", func() bool { return strings.Contains(string(p.docs["network"]), `"offline":true`) })
	first := p.session().Session
	p.do("confirm")
	s := p.at(ui.OfferQueue)
	require.Equal(t, map[string]string{"minutes": "5"}, s.Params)
	require.Contains(t, s.Lines, "OFFER_QUEUE.note.prepaid.reset_pin")
	p.do("decline")
	s = p.at(ui.Attract)
	require.NotEqual(t, first, s.Session)
	require.Zero(t, r.engine.Count("Accept"))
}

func TestWhatCannotWaitIsRefusedOnTheMenu(t *testing.T) {
	r := newRig(t, nil)
	r.engine.SetLink("prepaid", false)
	p := r.open()
	p.at(ui.Attract)
	p.do("start")
	s := p.at(ui.Home)
	require.Equal(t, "stops", s.Menu[4].Link)
	require.Equal(t, "offline", p.try("choose", "operation", string(txn.PrepaidResetPIN)).Code)
	require.Equal(t, ui.Home, p.session().State)
	network := p.doc("network")
	require.Equal(t, true, network["offline"])
	require.Equal(t, []any{string(txn.PrepaidResetPIN)}, network["stops"])
	require.Len(t, network["works"], 4)
}

func TestTheCustomersPageIsNotShownToWhoTypesTheSameNumber(t *testing.T) {
	r := newRig(t, brief(ui.Goodbye))
	p := r.open()
	id := p.toWorking(r.engine, txn.FinpayBind)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
		txn.DataLinkURL: "https://webview.example/canary-page", txn.DataLinkDomain: "webview.example",
	}))
	p.at(ui.BindQR)
	p.do("finish")
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.FinpayBind))
	p.do("agree")
	require.Equal(t, "open", p.try("submit_fields", fieldsOf[txn.FinpayBind]...).Code)
	s := p.at(ui.Pending)
	require.Equal(t, "PENDING.notice.earlier", s.Notice)
	require.NotContains(t, p.js("request"), "webview.example")
	r.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, txn.ReasonConfirmed))
	p.at(ui.Done)
}

func TestOpenRequestIsShownInsteadOfANewOne(t *testing.T) {
	r := newRig(t, brief(ui.Goodbye))
	p := r.open()
	id := p.toWorking(r.engine, txn.FinpayUnbind)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p.at(ui.OTP)
	p.do("finish") // the customer walks away and comes back
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.FinpayUnbind))
	p.do("agree")
	require.Equal(t, "open", p.try("submit_fields", fieldsOf[txn.FinpayUnbind]...).Code)
	s := p.at(ui.OTP)
	require.Equal(t, "OTP.notice.earlier", s.Notice)
	require.Equal(t, ui.ShortReference(id), s.Reference)
	p.do("submit_otp", "otp", canaryOTP)
	p.at(ui.Working)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	p.at(ui.Done)
}

func TestNextCustomerSeesNothingOfTheLast(t *testing.T) {
	r := newRig(t, brief(ui.Goodbye))
	p := r.open()
	p.at(ui.Attract)
	p.do("lang", "lang", "en")
	first := p.session().Session
	id := p.toWorking(r.engine, txn.FinpayResetPIN)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
	p.at(ui.Pending)
	p.do("finish")
	s := p.at(ui.Attract)
	require.NotEqual(t, first, s.Session)
	require.Equal(t, ui.Indonesian, s.Lang)
	before := p.everything()
	r.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, txn.ReasonConfirmed))
	p.do("start")
	s = p.at(ui.Home)
	require.Empty(t, s.Fields)
	after := p.everything()[len(before):]
	require.NotContains(t, after, ui.ShortReference(id))
	require.NotContains(t, after, "081234567890")
	require.Nil(t, p.doc("request"))
}

func TestEveryStateOfARequestHasItsScreen(t *testing.T) {
	for _, c := range []struct {
		name  string
		move  func(*txn.Request)
		state ui.State
		tone  ui.Tone
		code  string
		title string
	}{
		{"in doubt", uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonServerError), ui.Pending, ui.ToneDoubt, "D-SERVER_ERROR", "PENDING.title"},
		{"pending at the provider", uitest.Answer(txn.WentPending, txn.Pending, txn.ReasonInProgress), ui.Pending, ui.ToneWaiting, "P-IN_PROGRESS", "PENDING.title.pending"},
		{"rejected", uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonNotFound), ui.Fail, ui.ToneFailed, "F-NOT_FOUND", "FAIL.title"},
		{"rejected without a reason", uitest.Answer(txn.WasRejected, txn.Rejected, ""), ui.Fail, ui.ToneFailed, "F-REJECTED", "FAIL.title"},
		{"linked before", uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonAlreadyLinked), ui.Fail, ui.ToneNothing, "N-ALREADY_LINKED", "FAIL.title.already_linked"},
		{"code blocked", uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonOTPBlocked), ui.OTPLocked, ui.ToneFailed, "F-OTP_BLOCKED", "OTP_LOCKED.title"},
		{"code blocked, of an operation that has none", uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonOTPBlocked), ui.Fail, ui.ToneFailed, "F-OTP_BLOCKED", "FAIL.title"},
		{"code expired", uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonOTPExpired), ui.OTPExpired, ui.ToneNothing, "N-OTP_EXPIRED", "OTP_EXPIRED.title"},
		{"no code in time", uitest.Answer(txn.WentPending, txn.Expired, txn.ReasonOTPTimeout), ui.OTPExpired, ui.ToneNothing, "N-OTP_TIMEOUT", "OTP_EXPIRED.title"},
		{"waited too long", uitest.Answer(txn.NotSent, txn.Expired, txn.ReasonWaitedTooLong), ui.Expired, ui.ToneNothing, "N-WAITED_TOO_LONG", "EXPIRED.title"},
		{"cancelled by staff", uitest.Answer(txn.NotSent, txn.Cancelled, txn.ReasonByOperator), ui.Cancelled, ui.ToneNothing, "N-BY_OPERATOR", "CANCELLED.title"},
		{"unresolved", uitest.Answer(txn.Unknown, txn.Unresolved, txn.ReasonNoReadback), ui.Unresolved, ui.ToneDoubt, "D-NO_READBACK", "UNRESOLVED.title"},
		{"succeeded", uitest.Answer(txn.HasSucceeded, txn.Succeeded, txn.ReasonConfirmed), ui.Done, ui.ToneDone, "S-CONFIRMED", "DONE.title.finpay.reset_pin"},
		{"put back", uitest.Requeue(txn.ReasonThrottled), ui.Queued, ui.ToneQueued, "Q-THROTTLED", "QUEUED.title"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.open()
			op := txn.FinpayResetPIN
			if c.state == ui.OTPLocked || c.state == ui.OTPExpired {
				op = txn.FinpayUnbind
			}
			id := p.toWorking(r.engine, op)
			r.engine.Move(id, uitest.Send)
			r.engine.Move(id, c.move)
			s := p.at(c.state)
			require.Equal(t, []string{string(c.tone), c.code, c.title}, []string{string(s.Tone), s.Code, s.Title})
			if c.state != ui.Pending && c.state != ui.Queued {
				return
			}
			// The receipt follows the truth, also while it is looked at.
			p.do("receipt")
			require.Equal(t, c.code, p.at(ui.Receipt).Code)
			r.engine.Move(id, func(q *txn.Request) { q.State, q.Reason = txn.Succeeded, "" })
			p.until("the new code", func() bool { return p.sessionLocked().Code == "S-OK" })
			require.Equal(t, ui.Receipt, p.session().State)
			p.do("back")
			p.at(ui.Done)
		})
	}
}

func TestKiosksOwnTrouble(t *testing.T) {
	r := newRig(t, func(o *ui.Options) { brief(ui.Goodbye)(o); o.Engine = nil })
	p := r.open()
	p.at(ui.Boot)
	r.server.SetHealth(ui.Health{Reason: "journal", Hint: "run gardu check"})
	s := p.at(ui.OutOfService)
	require.Equal(t, "X-JOURNAL", s.Code)
	require.Contains(t, s.Lines, "OUT_OF_SERVICE.reason.journal")
	require.Contains(t, p.doc("health")["hint"], "hubungi operasi lapangan")
	p.do("lang", "lang", "en")
	require.Equal(t, "run gardu check", p.doc("health")["hint"], "the agent's own hint knows more, and is in English")
	p.do("lang", "lang", "id")
	r.server.SetHealth(ui.Health{Reason: "something new"})
	p.until("the general reason", func() bool { return p.sessionLocked().Code == "X-OTHER" })
	r.server.SetHealth(ui.Health{OK: true})
	p.until("still without an engine", func() bool { return p.sessionLocked().Code == "X-STARTING" })
	r.server.SetEngine(r.engine)
	p.at(ui.Attract)

	// In the middle of typing: everything is cleared.
	p.toReview(txn.PrepaidResetPIN)
	first := p.session().Session
	r.server.SetHealth(ui.Health{Reason: "token_absent"})
	s = p.at(ui.OutOfService)
	require.NotEqual(t, first, s.Session)
	r.server.SetHealth(ui.Health{OK: true})

	// While a request is shown: its truth stays until the customer leaves.
	id := p.toWorking(r.engine, txn.FinpayResetPIN)
	r.server.SetHealth(ui.Health{Reason: "token_absent"})
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	p.at(ui.Done)
	p.do("finish")
	p.at(ui.OutOfService)
	r.server.SetHealth(ui.Health{OK: true})
	p.at(ui.Attract)

	r.server.SetEngine(nil)
	p.at(ui.OutOfService)
	for _, pol := range uitest.Policies() {
		r.engine.SetPolicy(pol.Operation, func(q *txn.Policy) { q.Enabled = false })
	}
	r.server.SetEngine(r.engine)
	p.until("nothing switched on", func() bool { return p.sessionLocked().Code == "X-NO_OPERATIONS" })
}

func TestOneTimePasswordThatWasNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		defer r.stop()
		p := r.open()
		id := p.toWorking(r.engine, txn.FinpayUnbind)
		r.engine.Move(id, uitest.Send)
		r.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
		p.at(ui.OTP)
		r.engine.Fail("Supply", errors.New("disk"))
		require.Equal(t, "internal", p.try("submit_otp", "otp", canaryOTP).Code)
		require.Equal(t, "OTP.notice.unsaved", p.session().Notice)
		for range 64 { // more often than it is asked again
			r.engine.Fail("Supply", txn.ErrStoreUnknown)
		}
		require.Equal(t, "unsure", p.try("submit_otp", "otp", canaryOTP).Code)
		require.Equal(t, "OTP.notice.unsure", p.session().Notice, "it may be stored: to ask for it again would be a lie")
		r.engine.Fail("Supply", txn.ErrTooLate)
		r.engine.Move(id, func(q *txn.Request) { q.State, q.Reason, q.Await = txn.Expired, txn.ReasonOTPTimeout, "" })
		p.at(ui.OTPExpired)
		require.NotContains(t, r.log.String()+p.everything(), canaryOTP)
	})
}

// keepingEngine keeps the very values it was given, so that a test can see
// whether they were wiped.
type keepingEngine struct {
	*uitest.Engine
	given []*secret.Value
	raw   [][]byte
}

func (k *keepingEngine) Accept(ctx context.Context, n txn.New) (*txn.Request, error) {
	if n.Secret != nil {
		k.given, k.raw = append(k.given, n.Secret), append(k.raw, n.Secret.Bytes())
	}
	return k.Engine.Accept(ctx, n)
}

func (k *keepingEngine) Supply(ctx context.Context, id string, otp *secret.Value) (*txn.Request, error) {
	k.given, k.raw = append(k.given, otp), append(k.raw, otp.Bytes())
	return k.Engine.Supply(ctx, id, otp)
}

func TestSecretsAreWipedOnceTheEngineHasThem(t *testing.T) {
	var keeping *keepingEngine
	r := newRig(t, func(o *ui.Options) {
		keeping = &keepingEngine{Engine: o.Engine.(*uitest.Engine)}
		o.Engine = keeping
	})
	p := r.open()
	p.toWorking(r.engine, txn.PrepaidResetPIN)
	r.stop()
	require.Len(t, keeping.given, 1)
	require.Zero(t, keeping.given[0].Len())
	require.Equal(t, make([]byte, len(canaryPIN)), keeping.raw[0])
}

// The engine tells the screen nothing here, as one would whose news
// came between its answer and the screen's watch.
func TestChangeThatNobodyToldIsReadAfterwards(t *testing.T) {
	r := newRig(t, brief(ui.Goodbye))
	r.engine.Tell(nil, r.server.LinkChanged)
	p := r.open()
	p.toReview(txn.FinpayResetPIN)
	gate := r.engine.Hold("Get")
	p.do("confirm")
	p.at(ui.Working)
	r.engine.Move(r.engine.Last().ID, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	gate()
	p.at(ui.Done)

	p.do("finish")
	p.at(ui.Attract)
	r.engine.Tell(r.server.RequestChanged, r.server.LinkChanged)
	id := p.toWorking(r.engine, txn.FinpayUnbind)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p.at(ui.OTP)
	r.engine.Tell(nil, r.server.LinkChanged)
	r.engine.Move(id, func(q *txn.Request) { q.State, q.Reason, q.Await = txn.Expired, txn.ReasonOTPTimeout, "" })
	require.Equal(t, "too_late", p.try("submit_otp", "otp", canaryOTP).Code)
	p.at(ui.OTPExpired)
}
