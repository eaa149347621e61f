package ui_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// reach says how each screen is come to. A screen that is missing here fails the
// test below.
var reach = map[ui.State]func(*rig, *page){
	ui.Boot:         func(*rig, *page) {},
	ui.OutOfService: func(r *rig, _ *page) { r.server.SetHealth(ui.Health{Reason: "journal"}) },
	ui.Attract:      func(*rig, *page) {},
	ui.Home:         func(_ *rig, p *page) { p.walk(ui.Home, txn.PrepaidResetPIN) },
	ui.Consent:      func(_ *rig, p *page) { p.walk(ui.Consent, txn.PrepaidResetPIN) },
	ui.Ident:        func(_ *rig, p *page) { p.walk(ui.Ident, txn.PrepaidResetPIN) },
	ui.Verify:       func(_ *rig, p *page) { p.walk(ui.Verify, txn.PrepaidResetPIN) },
	ui.PIN:          func(_ *rig, p *page) { p.walk(ui.PIN, txn.PrepaidResetPIN) },
	ui.PINAgain:     func(_ *rig, p *page) { p.walk(ui.PINAgain, txn.PrepaidResetPIN) },
	ui.Review:       func(_ *rig, p *page) { p.walk(ui.Review, txn.FinpayResetPIN) },
	ui.OfferQueue: func(r *rig, p *page) {
		r.engine.SetLink("finpay", false)
		p.walk(ui.Review, txn.FinpayResetPIN)
		p.do("confirm")
	},
	ui.Submit: func(r *rig, p *page) {
		p.walk(ui.Review, txn.FinpayResetPIN)
		r.atEnd = r.engine.Hang("Accept")
		p.send("confirm", nil)
	},
	ui.Working: func(r *rig, p *page) {
		p.walk(ui.Working, txn.FinpayResetPIN)
		r.engine.Move(r.engine.Last().ID, uitest.Send)
	},
	ui.Queued:     after(uitest.Requeue(txn.ReasonLinkDown)),
	ui.Pending:    after(uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer)),
	ui.BindQR:     after(uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{txn.DataLinkURL: "https://a.example/"})),
	ui.OTP:        after(uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil)),
	ui.OTPBad:     after(uitest.Await(txn.AwaitOTP, txn.ReasonOTPWrong, 5*time.Minute, nil)),
	ui.OTPExpired: after(uitest.Answer(txn.WentPending, txn.Expired, txn.ReasonOTPTimeout)),
	ui.OTPLocked:  after(uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonOTPBlocked)),
	ui.Done:       after(uitest.Answer(txn.HasSucceeded, txn.Succeeded, "")),
	ui.Fail:       after(uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonNotFound)),
	ui.Expired:    after(uitest.Answer(txn.NotSent, txn.Expired, txn.ReasonWaitedTooLong)),
	ui.Cancelled:  after(uitest.Answer(txn.NotSent, txn.Cancelled, txn.ReasonByOperator)),
	ui.Unresolved: after(uitest.Answer(txn.Unknown, txn.Unresolved, txn.ReasonNoReadback)),
	ui.Unsure:     refusedWith(txn.ErrStoreUnknown),
	ui.Cooldown:   refusedWith(&txn.CooldownError{Until: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}),
	ui.Limit:      refusedWith(&txn.LimitError{Scope: "kiosk", Until: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}),
	ui.Full:       refusedWith(txn.ErrFull),
	ui.Receipt: func(r *rig, p *page) {
		after(uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))(r, p)
		p.at(ui.Done)
		p.do("receipt")
	},
	ui.OpLogin:   func(r *rig, p *page) { p.operator(r, ui.OpLogin) },
	ui.OpHome:    func(r *rig, p *page) { p.operator(r, ui.OpHome) },
	ui.OpQueue:   func(r *rig, p *page) { p.operator(r, ui.OpQueue) },
	ui.OpRequest: func(r *rig, p *page) { p.operator(r, ui.OpRequest) },
	ui.OpTest:    func(r *rig, p *page) { p.operator(r, ui.OpTest) },
	ui.OpDrain:   func(r *rig, p *page) { p.operator(r, ui.OpDrain) },
	ui.OpExit:    func(r *rig, p *page) { p.operator(r, ui.OpExit) },
	ui.Goodbye: func(r *rig, p *page) {
		after(uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))(r, p)
		p.at(ui.Done)
		p.do("finish")
	},
}

// walk goes to one of the screens on the way to a request.
func (p *page) walk(to ui.State, op txn.Operation) {
	p.t.Helper()
	p.at(ui.Attract)
	for _, step := range []struct {
		at   ui.State
		name string
		args []string
	}{
		{ui.Attract, "start", nil},
		{ui.Home, "choose", []string{"operation", string(op)}},
		{ui.Consent, "agree", nil},
		{ui.Ident, "submit_fields", fieldsOf[op]},
		{ui.Verify, "staff_code", []string{"code", staffCode}},
		{ui.PIN, "submit_pin", []string{"pin", canaryPIN}},
		{ui.PINAgain, "submit_pin", []string{"pin", canaryPIN}},
		{ui.Review, "confirm", nil},
	} {
		switch p.session().State {
		case to:
			return
		case step.at:
			p.do(step.name, step.args...)
		default: // this operation goes without that step
		}
	}
	p.at(to)
}

// after sends a request and plays what comes of it.
func after(move func(*txn.Request)) func(*rig, *page) {
	return func(r *rig, p *page) {
		p.t.Helper()
		p.walk(ui.Working, txn.FinpayUnbind)
		id := r.engine.Last().ID
		r.engine.Move(id, uitest.Send)
		r.engine.Move(id, move)
	}
}

func refusedWith(err error) func(*rig, *page) {
	return func(r *rig, p *page) {
		p.t.Helper()
		p.walk(ui.Ident, txn.FinpayUnbind)
		r.engine.Fail("Preview", err)
		p.try("submit_fields", fieldsOf[txn.FinpayUnbind]...)
	}
}

// Every screen of the table ends by itself, at its time and where it says.
func TestEveryScreenEndsByItself(t *testing.T) {
	for _, row := range ui.Screens() {
		t.Run(string(row.State), func(t *testing.T) {
			come := reach[row.State]
			require.NotNil(t, come, "say how this screen is come to")
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRig(t, func(o *ui.Options) {
					if row.State == ui.Boot {
						o.Engine = nil
					}
				})
				defer r.stop()
				p := r.open()
				come(r, p)
				first := p.at(row.State)
				began := time.Now()

				moved := func() bool {
					s := p.sessionLocked()
					return s.State != first.State || s.Session != first.Session || s.Overlay != nil
				}
				p.until("the limit", moved)
				require.Equal(t, row.Limit, time.Since(began))
				s := p.session()
				if row.Ask {
					require.Equal(t, ui.StillThere, s.Overlay.State)
					require.Equal(t, []string{"stay", "stop", "lang"}, s.Commands)
					began = time.Now()
					p.until("the end of the question", func() bool { return p.sessionLocked().Overlay == nil })
					require.Equal(t, 20*time.Second, time.Since(began))
					s = p.session()
				}
				require.Equal(t, row.Then, s.State)
				require.Equal(t, row.Wipes, s.Session != first.Session, "a wipe is a new session")
				require.NotContains(t, r.log.String()+p.everything(), canaryPIN)
				if r.atEnd != nil {
					r.atEnd()
				}
			})
		})
	}
}

func TestActivityProlongsAndTheCapEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		defer r.stop()
		p := r.open()
		p.walk(ui.Ident, txn.FinpayBind)
		began := time.Now()
		for p.session().Overlay == nil {
			p.raw(1, []byte(`{"type":"activity","session":"`+p.session().Session+`"}`))
			p.raw(1, []byte(`{"type":"activity","session":"ANOTHER"}`))
			time.Sleep(10 * time.Second)
		}
		require.LessOrEqual(t, time.Since(began), 5*time.Minute+10*time.Second, "a stuck touchscreen does not keep a session for ever")
		require.GreaterOrEqual(t, time.Since(began), 5*time.Minute)
		p.raw(1, []byte(`{"type":"activity","session":"`+p.session().Session+`"}`))
		first := p.session().Session
		p.until("the end", func() bool { return p.sessionLocked().Session != first })
		require.Equal(t, 5*time.Minute+20*time.Second, time.Since(began), "a touch is no answer to the question")
	})
}

func TestQuestionIsAskedTenTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		defer r.stop()
		p := r.open()
		p.walk(ui.Home, txn.FinpayBind)
		first := p.session().Session
		for range 10 {
			p.until("the question", func() bool { return p.sessionLocked().Overlay != nil })
			p.do("stay")
			require.Equal(t, ui.Home, p.session().State)
		}
		p.until("the end", func() bool { return p.sessionLocked().Session != first })
		require.Equal(t, ui.Attract, p.session().State)
	})
}

func TestQuestionClearsThePINWhenItOpens(t *testing.T) {
	for _, at := range []ui.State{ui.PIN, ui.PINAgain, ui.Review, ui.OfferQueue} {
		t.Run(string(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRig(t, nil)
				defer r.stop()
				r.engine.SetPolicy(txn.PrepaidResetPIN, func(q *txn.Policy) { q.HoldOffline = true })
				r.server.SetEngine(r.engine)
				p := r.open()
				p.walk(map[bool]ui.State{true: ui.Review, false: at}[at == ui.OfferQueue], txn.PrepaidResetPIN)
				if at == ui.OfferQueue {
					r.engine.SetLink("prepaid", false)
					synctest.Wait()
					p.do("confirm")
					p.at(ui.OfferQueue)
				}
				p.until("the question", func() bool { return p.sessionLocked().Overlay != nil })
				s := p.session()
				require.Equal(t, ui.PIN, s.State, "the PIN is gone, so it is typed anew")
				require.Equal(t, "PIN.notice.cleared", s.Notice)
				p.do("stay")
				s = p.session()
				require.Equal(t, ui.PIN, s.State)
				require.Equal(t, "PIN.notice.cleared", s.Notice)
				p.do("submit_pin", "pin", "1111")
				p.at(ui.PINAgain)
				p.do("submit_pin", "pin", "1111")
				p.at(ui.Review)
				if at == ui.OfferQueue {
					p.do("confirm")
					p.at(ui.OfferQueue)
					p.do("hold")
					p.at(ui.Queued)
				} else {
					p.do("confirm")
					p.at(ui.Working)
				}
				require.Equal(t, "1111", string(r.engine.Secret(r.engine.Last().ID).Bytes()))
			})
		})
	}
}

func TestSessionWithoutAScreenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRig(t, nil)
		defer r.stop()
		cookie := r.cookie()
		token := r.token(cookie)
		p := r.openWith(cookie, token, "", 0)
		p.walk(ui.PINAgain, txn.PrepaidResetPIN)
		first := p.session().Session
		require.NoError(t, p.ws.Close())
		time.Sleep(25 * time.Second)
		p = r.openWith(cookie, token, "", 0)
		require.Equal(t, first, p.at(ui.PINAgain).Session, "a short break is none")
		require.NoError(t, p.ws.Close())
		time.Sleep(31 * time.Second)
		p = r.openWith(cookie, token, "", 0)
		require.NotEqual(t, first, p.at(ui.Attract).Session)
	})
}

func TestEngineThatDoesNotAnswer(t *testing.T) {
	t.Run("Preview", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newBubbleRig(t, nil)
			defer r.stop()
			p := r.open()
			p.walk(ui.Ident, txn.FinpayBind)
			r.engine.Hold("Preview")
			began := time.Now()
			require.Equal(t, "internal", p.try("submit_fields", "phoneNo", "081234567890").Code)
			require.Equal(t, 15*time.Second, time.Since(began))
			p.at(ui.Fail)
		})
	})
	t.Run("Accept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newBubbleRig(t, nil)
			defer r.stop()
			p := r.open()
			p.walk(ui.Review, txn.FinpayBind)
			r.engine.Hold("Accept")
			require.Equal(t, "unsure", p.try("confirm").Code, "cut off in the middle, it may be stored")
			s := p.at(ui.Unsure)
			require.Equal(t, "D-STORE_UNKNOWN", s.Code)
			require.NotEmpty(t, s.Reference)
			p.do("receipt")
			require.Equal(t, s.Reference, p.at(ui.Receipt).Reference)
		})
	})
	t.Run("journal that never knows", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newBubbleRig(t, nil)
			defer r.stop()
			for range 100 {
				r.engine.Fail("Accept", txn.ErrStoreUnknown)
			}
			p := r.open()
			p.walk(ui.Review, txn.FinpayBind)
			require.Equal(t, "unsure", p.try("confirm").Code)
			p.at(ui.Unsure)
			require.Less(t, r.engine.Count("Accept"), 10, "asked again with growing pauses")
		})
	})
}

func TestWorkingBecomesTheTruthOfThatMoment(t *testing.T) {
	for _, c := range []struct {
		name  string
		moves []func(*txn.Request)
		want  ui.State
		title string
	}{
		{"still queued", nil, ui.Queued, "QUEUED.title"},
		{"still sending", []func(*txn.Request){uitest.Send}, ui.Pending, "PENDING.title.sending"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRig(t, nil)
				defer r.stop()
				p := r.open()
				p.walk(ui.Working, txn.FinpayResetPIN)
				id := r.engine.Last().ID
				began := time.Now()
				for _, m := range c.moves {
					r.engine.Move(id, m)
				}
				p.until("the end of patience", func() bool { return p.sessionLocked().State != ui.Working })
				require.Equal(t, 15*time.Second, time.Since(began))
				s := p.session()
				require.Equal(t, c.want, s.State)
				require.Equal(t, c.title, s.Title)
				if c.want == ui.Queued {
					r.engine.Move(id, uitest.Send)
					p.at(ui.Working)
				} else {
					p.do("wait")
					require.Equal(t, "PENDING.notice.waiting", p.session().Notice)
				}
				r.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
				p.at(ui.Done)
			})
		})
	}
}
