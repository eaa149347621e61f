package txn_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// TestWhoAsksAtOnceIsNotTooLate: a change is told before the engine lets go of the
// request. What comes in between is waited for, since the screen offers it already.
func TestWhoAsksAtOnceIsNotTooLate(t *testing.T) {
	slow := func(t *testing.T, op txn.Operation, first txn.Answer, wait time.Duration) (*bench, string) {
		told := make(chan struct{})
		b := newBench(t, func(b *bench) {
			b.platform.submit = func(context.Context, txn.Call) txn.Answer { return first }
			b.told = func(r *txn.Request) {
				if len(r.Attempts) != 1 || r.Attempts[0].Ended.IsZero() {
					return
				}
				select {
				case <-told:
				default:
					close(told)
					time.Sleep(wait)
				}
			}
		})
		r := b.ask(op, "k", alice)
		<-told
		return b, r.ID
	}
	// It is not sent again while the test acts on it.
	unsent := txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore, RetryAfter: time.Minute}
	otp := txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonOTPWanted, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute}

	synctest.Test(t, func(t *testing.T) {
		b, id := slow(t, txn.FinpayResetPIN, unsent, time.Second)
		defer b.halt()
		got, err := b.engine.Cancel(t.Context(), id, txn.ReasonByCustomer)
		require.NoError(t, err)
		require.Equal(t, txn.Cancelled, got.State)
	})
	synctest.Test(t, func(t *testing.T) {
		b, id := slow(t, txn.FinpayUnbind, otp, time.Second)
		defer b.halt()
		b.platform.set(func(p *platform) { p.submit = nil })
		_, err := b.engine.Supply(t.Context(), id, secret.Clone([]byte("123456")))
		require.NoError(t, err)
	})
	synctest.Test(t, func(t *testing.T) {
		b, id := slow(t, txn.FinpayResetPIN, unsent, time.Second)
		defer b.halt()
		got, err := b.engine.Withdraw(t.Context(), order(id))
		require.NoError(t, err)
		require.Equal(t, txn.Cancelled, got.State)
	})
	// Not for ever, and not for somebody who does not wait any more.
	synctest.Test(t, func(t *testing.T) {
		b, id := slow(t, txn.FinpayResetPIN, unsent, 10*time.Second)
		defer b.halt()
		began := time.Now()
		_, err := b.engine.Cancel(t.Context(), id, txn.ReasonByCustomer)
		require.ErrorIs(t, err, txn.ErrTooLate)
		require.Equal(t, 2*time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.engine.Cancel(ctx, id, txn.ReasonByCustomer)
		require.ErrorIs(t, err, txn.ErrTooLate)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}
