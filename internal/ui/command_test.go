package ui_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

func TestStaleTapsAreRefused(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	attract := p.at(ui.Attract)
	p.do("start")
	home := p.at(ui.Home)
	for _, c := range []struct {
		name, session, screen, command string
		args                           map[string]string
		want                           string
	}{
		{"another session", "OTHER", home.Screen, "stop", nil, "stale_session"},
		{"a screen that has passed", home.Session, attract.Screen, "start", nil, "stale_screen"},
		{"a screen to come", home.Session, "IDENT.99", "submit_fields", nil, "stale_screen"},
		{"no such command", home.Session, home.Screen, "format_disk", map[string]string{"a": "b"}, "unknown_command"},
		{"not on this screen", home.Session, home.Screen, "confirm", nil, "not_here"},
		{"a missing argument", home.Session, home.Screen, "choose", nil, "bad_args"},
		{"a further argument", home.Session, home.Screen, "choose", map[string]string{"operation": "finpay.bind", "x": "y"}, "bad_args"},
		{"an argument too many", home.Session, home.Screen, "stop", map[string]string{"x": "y"}, "bad_args"},
		{"an argument too long", home.Session, home.Screen, "choose", map[string]string{"operation": strings.Repeat("x", 129)}, "bad_args"},
		{"no such operation", home.Session, home.Screen, "choose", map[string]string{"operation": "finpay.transfer"}, "disabled"},
		{"a third language", home.Session, home.Screen, "lang", map[string]string{"lang": "fr"}, "bad_args"},
		{"an answer to a question nobody asked", home.Session, home.Screen, "stay", nil, "not_here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := fmt.Sprintf("stale-%d", commandN.Add(1))
			p.sendAs(id, c.session, c.screen, c.command, c.args)
			f := p.result(id)
			require.False(t, f.OK)
			require.Equal(t, c.want, f.Code)
			require.Equal(t, home.Screen, p.session().Screen, "nothing happened")
		})
	}
}

func TestSameCommandIsCarriedOutOnce(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toReview(txn.FinpayResetPIN)
	s := p.session()
	release := r.engine.Hold("Accept")
	for range 3 {
		p.sendAs("once", s.Session, s.Screen, "confirm", nil)
	}
	p.at(ui.Submit)
	p.sendAs("once", s.Session, s.Screen, "confirm", nil)
	release()
	require.True(t, p.result("once").OK)
	p.at(ui.Working)
	p.sendAs("once", s.Session, s.Screen, "confirm", nil)
	require.True(t, p.result("once").OK, "also after the screen has passed")
	require.Equal(t, 1, r.engine.Count("Accept"))
	p.sendAs("once", s.Session, s.Screen, "stop", nil)
	require.Equal(t, 4002, p.closed(), "an id for two commands")
}

func TestLostResultsComeAgain(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	token := r.token(cookie)
	p := r.openWith(cookie, token, "", 0)
	p.at(ui.Attract)
	p.do("start") // acknowledged by the page
	acked := p.at(ui.Home)

	// The connection dies while the engine is asked.
	release := r.engine.Hold("Preview")
	p.do("choose", "operation", string(txn.FinpayResetPIN))
	p.do("agree")
	s := p.at(ui.Ident)
	p.sendAs("lost", s.Session, s.Screen, "submit_fields", map[string]string{"phoneNo": "081234567890"})
	p.until("busy", func() bool { return p.sessionLocked().Busy })
	require.NoError(t, p.ws.Close())
	release()

	epoch, seq := p.upTo()
	again := r.openWith(cookie, token, epoch, seq)
	require.True(t, again.result("lost").OK)
	again.at(ui.Review)
	again.mu.Lock()
	require.Len(t, again.results, 1, "acknowledged results are not sent again: %v", acked.Screen)
	again.mu.Unlock()
	require.Equal(t, 1, r.engine.Count("Preview"))
}

func TestBusyScreenTakesNothingElse(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	p.do("start")
	p.do("choose", "operation", string(txn.FinpayBind))
	p.do("agree")
	release := r.engine.Hold("Preview")
	id := p.send("submit_fields", map[string]string{"phoneNo": "081234567890"})
	p.until("busy", func() bool { return p.sessionLocked().Busy })
	require.Equal(t, "busy", p.try("submit_fields", "phoneNo", "081234567890").Code)
	require.Equal(t, "busy", p.try("stop").Code)
	p.do("lang", "lang", "en")
	release()
	require.True(t, p.result(id).OK)
	require.Equal(t, ui.English, p.at(ui.Review).Lang)
}

func TestManyRefusedCommandsDoNotGrow(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.toReview(txn.FinpayResetPIN)
	release := r.engine.Hold("Accept")
	id := p.send("confirm", nil)
	p.at(ui.Submit)
	for range 200 {
		require.Equal(t, "not_here", p.try("finish").Code)
	}
	release()
	require.True(t, p.result(id).OK, "the command under way keeps its place")
}

func TestFieldErrorsNameFieldAndRule(t *testing.T) {
	for _, c := range []struct {
		op          txn.Operation
		fields      []string
		field, rule string
	}{
		{txn.FinpayResetPIN, nil, "phoneNo", "missing"},
		{txn.FinpayResetPIN, []string{"phoneNo", ""}, "phoneNo", "missing"},
		{txn.FinpayResetPIN, []string{"phoneNo", "0812"}, "phoneNo", "too_short"},
		{txn.FinpayResetPIN, []string{"phoneNo", "08123456789012345"}, "phoneNo", "too_long"},
		{txn.FinpayResetPIN, []string{"phoneNo", "628123456789"}, "phoneNo", "prefix"},
		{txn.FinpayResetPIN, []string{"phoneNo", "08123x567890"}, "phoneNo", "digits_only"},
		{txn.NetzmeForgotPIN, []string{"custIdMerchant", "a b c"}, "custIdMerchant", "characters"},
		{txn.NetzmeForgotPIN, []string{"custIdMerchant", "abc", "extra", "1"}, "extra", "unknown_field"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.open()
			p.at(ui.Attract)
			p.do("start")
			p.do("choose", "operation", string(c.op))
			p.do("agree")
			f := p.try("submit_fields", c.fields...)
			require.Equal(t, []string{"field", c.field, c.rule}, []string{f.Code, f.Field, f.Rule})
			require.Equal(t, ui.Ident, p.session().State, "the customer may mend it")
			require.False(t, p.session().Busy)
		})
	}
}

func TestCancelOnlyBeforeAnythingWasSent(t *testing.T) {
	r := newRig(t, nil)
	r.engine.SetLink("finpay", false)
	p := r.open()
	p.toReview(txn.FinpayResetPIN)
	p.do("confirm")
	p.at(ui.OfferQueue)
	p.do("hold")
	s := p.at(ui.Queued)
	require.Contains(t, s.Commands, "cancel")
	id := r.engine.Last().ID

	// The engine is quicker than the finger.
	release := r.engine.Hold("Cancel")
	c := p.send("cancel", nil)
	p.until("busy", func() bool { return p.sessionLocked().Busy })
	r.engine.Move(id, uitest.Send)
	release()
	require.Equal(t, "too_late", p.result(c).Code)
	p.at(ui.Working)

	r.engine.Move(id, uitest.Requeue(txn.ReasonLinkDown))
	require.Contains(t, p.at(ui.Queued).Commands, "cancel", "it certainly was not sent")
	p.do("cancel")
	require.Equal(t, "N-BY_CUSTOMER", p.at(ui.Cancelled).Code)

	r2 := newRig(t, nil)
	p2 := r2.open()
	id2 := p2.toWorking(r2.engine, txn.FinpayUnbind)
	r2.engine.Move(id2, uitest.Send)
	r2.engine.Move(id2, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p2.at(ui.OTP)
	p2.do("submit_otp", "otp", canaryOTP)
	r2.engine.Move(id2, uitest.Requeue(txn.ReasonLinkDown))
	s = p2.at(ui.Queued)
	require.NotContains(t, s.Commands, "cancel", "the first call went out")
	require.Equal(t, "QUEUED.title.second", s.Title)
	require.Equal(t, "not_here", p2.try("cancel").Code)
}
