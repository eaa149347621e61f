package ui_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// A request outlives the engine that serves it: the agent takes that away where the
// journal fails or a provider was mended, and brings another.
func TestRequestThatIsShownOutlivesItsEngine(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	id := p.toWorking(r.engine, txn.FinpayUnbind)
	r.engine.Move(id, uitest.Requeue(txn.ReasonLinkDown))
	p.at(ui.Queued)
	r.server.SetEngine(nil)
	require.Equal(t, "busy", p.try("cancel").Code)
	p.at(ui.Queued)
	r.server.SetEngine(r.engine)
	r.engine.Move(id, uitest.Send)
	r.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	p.at(ui.OTP)
	r.server.SetEngine(nil)
	require.Equal(t, "busy", p.try("resend").Code)
	require.Equal(t, "busy", p.try("submit_otp", "otp", canaryOTP).Code)
	p.at(ui.OTP)
	r.server.SetEngine(r.engine)

	// It goes while it is asked, and nobody can be asked what became of that.
	release := r.engine.Hold("Supply")
	r.engine.Fail("Supply", txn.ErrTooLate)
	c := p.send("submit_otp", map[string]string{"otp": canaryOTP})
	p.until("busy", func() bool { return p.sessionLocked().Busy })
	r.server.SetEngine(nil)
	release()
	require.Equal(t, "too_late", p.result(c).Code)
	p.at(ui.OTP)

	// What became of it meanwhile is asked of the next one.
	r.engine.Tell(nil, r.server.LinkChanged)
	r.engine.Move(id, func(q *txn.Request) { q.State, q.Reason, q.Await = txn.Expired, txn.ReasonOTPTimeout, "" })
	r.server.SetEngine(r.engine)
	p.at(ui.OTPExpired)
	require.NotContains(t, r.log.String()+p.everything(), canaryOTP)
}
