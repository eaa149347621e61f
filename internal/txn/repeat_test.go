package txn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// repeats allows guarded repeats of the operation without a read-back.
func repeats(n int, quiet time.Duration) func(*bench) {
	return func(b *bench) { b.policies[0].Repeats, b.policies[0].Quiet = n, quiet }
}

func TestADoubtIsRepeatedOnlyWhereThatIsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := doubtful(t, txn.FinpayResetPIN)
		defer b.halt()
		_, err := b.engine.Retry(t.Context(), order(r.ID))
		refused(t, err, txn.ErrMayHaveSent)
		b.after(16*time.Minute, r.ID)
		_, err = b.engine.Retry(t.Context(), order(r.ID))
		refused(t, err, txn.ErrMayHaveSent)
		b.after(time.Hour, r.ID)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestAGuardedRepeatKeepsItsReferences(t *testing.T) {
	t.Run("by itself, after the quiet time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(2, 2*time.Minute))
			defer b.halt()
			require.Len(t, b.after(119*time.Second, r.ID).Attempts, 1)
			require.Len(t, b.after(2*time.Second, r.ID).Attempts, 2)
			require.Len(t, b.after(121*time.Second, r.ID).Attempts, 3)
			got := b.after(9*time.Minute, r.ID)
			require.Len(t, got.Attempts, 3, "as often as configured")
			require.Equal(t, txn.InDoubt, got.State)
			require.Equal(t, txn.ReasonNoAnswer, got.Reason)
			for _, a := range got.Attempts[1:] {
				require.Equal(t, got.Attempts[0].ExternalID, a.ExternalID)
				require.True(t, a.Repeat)
				require.NotEqual(t, got.Attempts[0].Serial, a.Serial)
			}
			got = b.after(3*time.Minute, r.ID)
			require.Equal(t, txn.Unresolved, got.State, "a quarter of an hour after the first call")
			require.Less(t, got.Closed.Sub(got.Created), 16*time.Minute)
		})
	})
	t.Run("answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, 2*time.Minute))
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = nil })
			require.Equal(t, txn.Succeeded, b.after(3*time.Minute, r.ID).State)
			require.Equal(t, 2, b.platform.sent())
		})
	})
	t.Run("a no to the repeat says nothing about the first call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, 2*time.Minute))
			defer b.halt()
			b.platform.set(func(p *platform) {
				p.submit = func(context.Context, txn.Call) txn.Answer {
					return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonNotFound, HTTPStatus: 404}
				}
			})
			require.Equal(t, txn.InDoubt, b.after(3*time.Minute, r.ID).State)
			require.Equal(t, txn.Unresolved, b.after(15*time.Minute, r.ID).State)
		})
	})
	t.Run("by an operator, also when unresolved", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Hour))
			defer b.halt()
			require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
			b.platform.set(func(p *platform) { p.submit = nil })
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			require.NoError(t, err)
			got := b.get(r.ID)
			require.Equal(t, txn.Succeeded, got.State)
			require.Equal(t, got.Attempts[0].ExternalID, got.Attempts[1].ExternalID)
			require.Equal(t, []txn.State{txn.Queued, txn.Sending, txn.InDoubt, txn.Unresolved, txn.InDoubt, txn.Sending, txn.Succeeded}, b.states(r.ID))
		})
	})
	t.Run("where the journal does not say whether it is open again, that is found out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Hour))
			defer b.halt()
			require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
			b.shelf.set(func(s *shelf) { s.updErr = once(true, txn.ErrStoreUnknown, inState(txn.InDoubt)) })
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrStoreUnknown)
			require.Equal(t, txn.InDoubt, b.after(10*time.Second, r.ID).State)
			require.Equal(t, txn.InDoubt, last(b.states(r.ID)), "the screen is told")
			require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
			time.Sleep(91 * 24 * time.Hour)
			synctest.Wait()
			require.Zero(t, b.engine.Remembered())
		})
	})
	t.Run("where the journal refuses to open it again, it stays unresolved", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Hour))
			defer b.halt()
			b.after(16*time.Minute, r.ID)
			b.shelf.set(func(s *shelf) { s.updErr = once(false, errors.New("i/o error"), inState(txn.InDoubt)) })
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			require.ErrorContains(t, err, "i/o error")
			require.Equal(t, txn.Unresolved, b.after(time.Minute, r.ID).State)
			b.platform.set(func(p *platform) { p.submit = nil })
			require.Equal(t, txn.Succeeded, b.get(b.ask(txn.FinpayResetPIN, "newer", alice).ID).State, "and holds up nobody")
		})
	})
	t.Run("not beside a newer request of the customer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Hour))
			defer b.halt()
			b.after(16*time.Minute, r.ID)
			b.get(b.ask(txn.FinpayResetPIN, "newer", alice).ID)
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrAskedAnew)
			require.Equal(t, 2, b.platform.sent())
			b.platform.set(func(p *platform) { p.submit = nil })
			b.ask(txn.FinpayUnbind, "other", alice)
			_, err = b.engine.Resolve(t.Context(), order(r.ID), txn.Rejected)
			require.NoError(t, err, "evidence is another thing")
		})
	})
	t.Run("not after a newer request of the customer that is done", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Hour))
			defer b.halt()
			b.after(16*time.Minute, r.ID)
			b.platform.set(func(p *platform) { p.submit = nil })
			require.Equal(t, txn.Succeeded, b.get(b.ask(txn.FinpayResetPIN, "newer", alice).ID).State)
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrAskedAnew)
			require.Equal(t, txn.Unresolved, b.get(r.ID).State)
			require.Equal(t, 2, b.platform.sent())
			require.Equal(t, txn.Succeeded, b.get(b.ask(txn.FinpayResetPIN, "newest", alice).ID).State, "and it holds up nobody")
		})
	})
	t.Run("not while another call of the customer is under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, repeats(1, time.Minute))
			defer b.halt()
			otpWanted := txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute}
			gate := make(chan struct{})
			b.platform.set(func(p *platform) {
				p.submit = func(_ context.Context, c txn.Call) txn.Answer {
					switch {
					case c.Request.Operation == txn.FinpayUnbind && c.Attempt.Step == 1:
						return otpWanted
					case c.Request.Operation == txn.FinpayUnbind:
						<-gate
						return ok()
					case c.Attempt.Repeat:
						return ok()
					}
					return lost()
				}
			})
			u := b.ask(txn.FinpayUnbind, "u", alice)
			b.get(u.ID)
			r := b.ask(txn.FinpayResetPIN, "r", alice)
			require.Equal(t, txn.InDoubt, b.get(r.ID).State)
			_, err := b.engine.Supply(t.Context(), u.ID, secret.Clone([]byte("123456")))
			require.NoError(t, err)
			require.Equal(t, txn.Sending, b.get(u.ID).State)
			require.Equal(t, txn.InDoubt, b.after(20*time.Second, r.ID).State)
			_, err = b.engine.Retry(t.Context(), order(r.ID))
			require.NoError(t, err)
			require.Equal(t, txn.InDoubt, b.get(r.ID).State)
			require.Equal(t, 1, b.platform.peak())
			close(gate)
			require.Equal(t, txn.Succeeded, b.after(time.Second, r.ID).State)
		})
	})
	t.Run("not with a clock that nobody keeps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, time.Minute), func(b *bench) { b.clock.kept = false })
			defer b.halt()
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrMayHaveSent)
			require.ErrorContains(t, err, "clock")
			b.after(time.Hour, r.ID)
			require.Equal(t, 1, b.platform.sent())
		})
	})
	for _, c := range []struct {
		name  string
		first time.Duration // of the first call, after the test's midnight UTC, which is 07:00 WIB
		quiet time.Duration // until the repeat
		why   string
	}{
		{"not after midnight in Jakarta", 16*time.Hour + 59*time.Minute, 2 * time.Minute, "day"},
		{"not within a call's time of that midnight", 16*time.Hour + 55*time.Minute, 4 * time.Minute, "ends within minutes"},
		{"not of a call that may have arrived before it", 17*time.Hour + 30*time.Second, 2 * time.Minute, "day"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(c.first)
				b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, c.quiet))
				defer b.halt()
				b.after(c.quiet+30*time.Second, r.ID)
				_, err := b.engine.Retry(t.Context(), order(r.ID))
				refused(t, err, txn.ErrMayHaveSent)
				require.ErrorContains(t, err, c.why)
				b.after(time.Hour, r.ID)
				require.Equal(t, 1, b.platform.sent())
			})
		})
	}
	t.Run("not after a time off that nobody knows", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, 2*time.Minute))
			b.halt()
			time.Sleep(14 * time.Hour)
			b.clock.reboot(false)
			b.clock.set(1970)
			b.start()
			defer b.halt()
			_, err := b.engine.Cancel(t.Context(), r.ID, txn.ReasonByCustomer) // has it read, and perhaps written
			require.ErrorIs(t, err, txn.ErrTooLate)
			b.after(17*time.Minute, r.ID) // it becomes unresolved, which is written
			b.clock.set(0)
			b.clock.keep(true)
			b.after(time.Minute, r.ID)
			_, err = b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrMayHaveSent)
			require.ErrorContains(t, err, "off for a time that nobody knows")
			b.after(time.Hour, r.ID)
			require.Equal(t, 1, b.platform.sent())
		})
	})
	t.Run("not where the disk takes so long that the day is over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(16*time.Hour + 54*time.Minute)
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, 2*time.Minute))
			defer b.halt()
			b.shelf.set(func(s *shelf) {
				s.updErr = func(r *txn.Request) (bool, error) {
					if r.State == txn.Sending {
						time.Sleep(5 * time.Minute)
					}
					return true, nil
				}
			})
			got := b.after(10*time.Minute, r.ID)
			require.Equal(t, txn.InDoubt, got.State)
			require.Len(t, got.Attempts, 2)
			require.True(t, got.Attempts[1].Repeat)
			require.Equal(t, txn.NotSent, got.Attempts[1].Outcome)
			require.Equal(t, got.Attempts[0].Reason, got.Reason)
			require.Equal(t, 1, b.platform.sent())
		})
	})
	t.Run("never a PIN, which is destroyed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.policies[3].Repeats = 3 })
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return lost() } })
			r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
			b.get(r.ID)
			_, err := b.engine.Retry(t.Context(), order(r.ID))
			refused(t, err, txn.ErrMayHaveSent)
			require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
			require.Equal(t, 1, b.platform.sent())
		})
	})
	t.Run("one that did not leave is a doubt as before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN, repeats(1, 2*time.Minute))
			defer b.halt()
			b.shelf.set(func(s *shelf) { s.updErr = once(true, txn.ErrStoreUnknown, inState(txn.Sending)) })
			got := b.after(3*time.Minute, r.ID)
			require.Equal(t, txn.InDoubt, got.State)
			require.Equal(t, txn.ReasonNoAnswer, got.Reason)
			require.Equal(t, 1, b.platform.sent())
			require.Equal(t, txn.Unresolved, b.after(15*time.Minute, r.ID).State)
		})
	})
}
