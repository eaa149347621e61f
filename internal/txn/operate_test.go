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

func order(id string) txn.Order {
	return txn.Order{ID: id, Who: "budi", Why: "provider's ticket 4711"}
}

// refused is the error of an order with an advice.
func refused(t *testing.T, err, want error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	var oe *txn.OrderError
	require.ErrorAs(t, err, &oe)
	require.NotEmpty(t, oe.Hint(), err)
	require.NotEmpty(t, oe.Act)
	require.NotEmpty(t, oe.Object)
}

// doubtful has one request in doubt at a platform that answers nothing.
func doubtful(t *testing.T, op txn.Operation, mend ...func(*bench)) (*bench, *txn.Request) {
	t.Helper()
	b := newBench(t, mend...)
	b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return lost() } })
	r := b.ask(op, "k", alice)
	require.Equal(t, txn.InDoubt, b.get(r.ID).State)
	return b, r
}

func TestAnOperatorResolvesADoubt(t *testing.T) {
	for _, to := range []txn.State{txn.Succeeded, txn.Rejected} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b, r := doubtful(t, txn.FinpayResetPIN)
				defer b.halt()
				if late {
					require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
				}
				_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Expired)
				require.ErrorContains(t, err, "is no result")
				got, err := b.engine.Resolve(t.Context(), order(r.ID), to)
				require.NoError(t, err)
				require.Equal(t, to, got.State)
				got = b.get(r.ID)
				require.Equal(t, to, got.State)
				require.Equal(t, "provider's ticket 4711", got.Note)
				require.Equal(t, "budi", got.NoteBy)
				require.Equal(t, to, last(b.states(r.ID)))
				lines := b.ledger.lines()
				require.Equal(t, []string{"resolve.begin finpay.reset_pin unknown by budi", "resolve.end finpay.reset_pin unknown by budi"}, lines[len(lines)-2:])
				_, err = b.engine.Resolve(t.Context(), order(r.ID), to)
				refused(t, err, txn.ErrFinished)
				time.Sleep(50 * time.Hour)
				synctest.Wait()
				require.Zero(t, b.engine.Remembered())
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
		refused(t, err, txn.ErrNoDoubt)
		_, err = b.engine.Resolve(t.Context(), order("nobody"), txn.Succeeded)
		refused(t, err, txn.ErrNotFound)
	})
}

func TestAnOperatorsActIsRecordedOrNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := doubtful(t, txn.FinpayResetPIN)
		b.ledger.fail(errors.New("disk full"))
		_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
		refused(t, err, txn.ErrAudit)
		require.Equal(t, txn.InDoubt, b.get(r.ID).State)
		b.ledger.fail(nil)
		b.shelf.set(func(s *shelf) { s.updErr = once(false, errors.New("i/o error"), inState(txn.Succeeded)) })
		_, err = b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
		require.ErrorContains(t, err, "i/o error")
		require.Equal(t, "resolve.failed finpay.reset_pin unknown by budi", last(b.ledger.lines()))
		require.Equal(t, txn.InDoubt, b.after(5*time.Second, r.ID).State)
		require.Empty(t, b.get(r.ID).Note)
		_, err = b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
		require.NoError(t, err)
		b.halt()
		_, err = b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
		refused(t, err, txn.ErrStopped)
		_, err = b.engine.Release(t.Context(), "finpay", "budi", "x")
		refused(t, err, txn.ErrStopped)
	})
}

func TestAnActOfWhichTheJournalDoesNotKnowIsSettledByItself(t *testing.T) {
	for _, stored := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN)
			defer b.halt()
			require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
			b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Succeeded)) })
			_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
			refused(t, err, txn.ErrStoreUnknown)
			require.Equal(t, "resolve.unknown finpay.reset_pin unknown by budi", last(b.ledger.lines()))
			b.after(5*time.Second, r.ID)
			_, err = b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
			if stored {
				refused(t, err, txn.ErrFinished)
				require.Equal(t, txn.Succeeded, last(b.states(r.ID)), "the screen is told")
			} else {
				require.NoError(t, err, "it can be done again")
			}
			require.Equal(t, txn.Succeeded, b.get(r.ID).State)
			time.Sleep(50 * time.Hour)
			synctest.Wait()
			require.Zero(t, b.engine.Remembered())
		})
	}
}

func TestTheScreenLearnsOfAnUnresolvedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := doubtful(t, txn.FinpayResetPIN)
		defer b.halt()
		fields := map[string]string{"phoneNo": alice}
		require.Empty(t, b.engine.Unresolved(txn.FinpayResetPIN, fields), "still open, which stands in the way anyhow")
		b.after(16*time.Minute, r.ID)
		b.restart()
		require.Equal(t, r.ID, b.engine.Unresolved(txn.FinpayResetPIN, fields))
		require.Empty(t, b.engine.Unresolved(txn.FinpayBind, fields))
		require.Empty(t, b.engine.Unresolved(txn.FinpayResetPIN, map[string]string{"phoneNo": bob}))
		require.Empty(t, b.engine.Unresolved("no.such", fields))
		_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Rejected)
		require.NoError(t, err)
		require.Empty(t, b.engine.Unresolved(txn.FinpayResetPIN, fields))
	})
}

func TestACooldownSaysWhetherItCameOfARefusal(t *testing.T) {
	for _, a := range []txn.Answer{
		{Outcome: txn.HasSucceeded, HTTPStatus: 200, Cooldown: time.Hour},
		{Outcome: txn.WasRejected, Reason: txn.ReasonTooMany, HTTPStatus: 403, Cooldown: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return a } })
			b.get(b.ask(txn.FinpayResetPIN, "k", alice).ID)
			for range 2 {
				err := b.engine.Preview(t.Context(), txn.FinpayResetPIN, map[string]string{"phoneNo": alice})
				var cool *txn.CooldownError
				require.ErrorAs(t, err, &cool)
				require.Equal(t, a.Outcome == txn.WasRejected, cool.Refused)
				b.restart()
			}
		})
	}
}

func TestAnActOnABrokenRecordSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, r := doubtful(t, txn.FinpayResetPIN)
		defer b.halt()
		b.shelf.set(func(s *shelf) { s.getErr = func(uint64) error { return txn.ErrSeal } })
		for range 2 { // also once the scheduler has seen it
			_, err := b.engine.Resolve(t.Context(), order(r.ID), txn.Succeeded)
			refused(t, err, txn.ErrUnreadable)
			time.Sleep(20 * time.Minute)
			synctest.Wait()
		}
	})
}

func TestAnOperatorCancelsOnlyWhatWasNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
		b.get(r.ID)
		got, err := b.engine.Withdraw(t.Context(), order(r.ID))
		require.NoError(t, err)
		require.Equal(t, txn.Cancelled, got.State)
		require.Equal(t, txn.ReasonByOperator, got.Reason)
		require.Zero(t, b.shelf.held())
		b.halt()
	})
	for _, op := range []txn.Operation{txn.FinpayResetPIN, txn.FinpayBind} {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, op)
			defer b.halt()
			_, err := b.engine.Withdraw(t.Context(), order(r.ID))
			refused(t, err, txn.ErrMayHaveSent)
			require.Equal(t, txn.InDoubt, b.get(r.ID).State)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		gate := make(chan struct{})
		b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { <-gate; return ok() } })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		_, err := b.engine.Withdraw(t.Context(), order(r.ID))
		refused(t, err, txn.ErrBusy)
		close(gate)
	})
}

func TestAnOperatorAsksTheProvider(t *testing.T) {
	answer := func(b *bench, a txn.Answer) {
		b.platform.set(func(p *platform) { p.inquire = func(txn.Call) txn.Answer { return a } })
	}
	there := txn.Answer{Outcome: txn.HasSucceeded, HTTPStatus: 200}
	not := txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200}
	t.Run("in doubt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayBind)
			defer b.halt()
			answer(b, not)
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrNothingNew)
			require.Equal(t, txn.InDoubt, b.get(r.ID).State, "the quiet time is not over")
			answer(b, there)
			got, err := b.engine.Inquire(t.Context(), order(r.ID))
			require.NoError(t, err)
			require.Equal(t, txn.Succeeded, got.State)
		})
	})
	t.Run("unresolved", func(t *testing.T) {
		for _, a := range []txn.Answer{there, not} {
			synctest.Test(t, func(t *testing.T) {
				b, r := doubtful(t, txn.FinpayBind)
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				require.Equal(t, txn.Unresolved, b.after(25*time.Hour, r.ID).State)
				_, err := b.engine.Inquire(t.Context(), order(r.ID))
				refused(t, err, txn.ErrUnreached)
				require.Equal(t, txn.Unresolved, b.get(r.ID).State)
				b.platform.set(func(p *platform) { p.down = false })
				answer(b, a)
				got, err := b.engine.Inquire(t.Context(), order(r.ID))
				require.NoError(t, err)
				want := txn.Succeeded
				if a.Outcome == txn.WasRejected {
					want = txn.Expired
				}
				require.Equal(t, want, got.State)
				time.Sleep(50 * time.Hour)
				synctest.Wait()
				require.Zero(t, b.engine.Remembered())
			})
		}
	})
	t.Run("unresolved, and the customer asked anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayBind)
			defer b.halt()
			b.platform.set(func(p *platform) { p.down = true })
			require.Equal(t, txn.Unresolved, b.after(25*time.Hour, r.ID).State)
			b.platform.set(func(p *platform) { p.down, p.submit = false, nil })
			b.after(2*time.Minute, r.ID)
			b.get(b.ask(txn.FinpayBind, "newer", alice).ID)
			answer(b, there)
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrAskedAnew)
			require.Equal(t, txn.Unresolved, b.get(r.ID).State, "the link is the newer request's work")
		})
	})
	t.Run("unresolved, and the customer asks anew while the provider thinks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayBind)
			defer b.halt()
			b.platform.set(func(p *platform) { p.down = true })
			require.Equal(t, txn.Unresolved, b.after(25*time.Hour, r.ID).State)
			b.platform.set(func(p *platform) { p.down, p.submit = false, nil })
			b.after(2*time.Minute, r.ID)
			b.platform.set(func(p *platform) {
				p.inquire = func(c txn.Call) txn.Answer {
					if c.Request.ID != r.ID {
						return not // it is asked before a binding
					}
					p.inquire = nil
					p.mu.Unlock()
					newer := b.ask(txn.FinpayBind, "newer", alice)
					time.Sleep(time.Second)
					got, err := b.engine.Get(b.t.Context(), newer.ID)
					require.NoError(t, err)
					require.Equal(t, txn.Succeeded, got.State)
					p.mu.Lock()
					return there
				}
			})
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrAskedAnew)
			require.Equal(t, txn.Unresolved, b.get(r.ID).State, "the link is the newer request's work")
		})
	})
	t.Run("unresolved, and too long ago to know what came after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayBind)
			defer b.halt()
			b.platform.set(func(p *platform) { p.down = true })
			require.Equal(t, txn.Unresolved, b.after(25*time.Hour, r.ID).State)
			b.platform.set(func(p *platform) { p.down = false })
			b.after(48*time.Hour, r.ID)
			answer(b, there)
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrAskedAnew)
		})
	})
	t.Run("nobody can be asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayResetPIN)
			defer b.halt()
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrNoInquiry)
		})
	})
	t.Run("a held provider", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, r := doubtful(t, txn.FinpayBind)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return held() } })
			b.get(b.ask(txn.FinpayResetPIN, "k2", bob).ID)
			before := b.platform.readbacks()
			_, err := b.engine.Inquire(t.Context(), order(r.ID))
			refused(t, err, txn.ErrLeftAlone)
			require.Equal(t, before, b.platform.readbacks())
		})
	})
	t.Run("nothing to ask about", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) {
				p.submit = unbinding(txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute},
					func(string) txn.Answer { return ok() })
			})
			r := b.ask(txn.FinpayUnbind, "k", alice)
			b.get(r.ID)
			for _, act := range []func(context.Context, txn.Order) (*txn.Request, error){b.engine.Inquire, b.engine.Retry, b.engine.Withdraw} {
				_, err := act(t.Context(), order(r.ID))
				refused(t, err, txn.ErrWaits)
			}
			_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
			require.NoError(t, err, "and it still waits")
			require.Equal(t, txn.Succeeded, b.get(r.ID).State)
		})
	})
}

func TestAnOperatorHasAWaitingRequestSentNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore, RetryAfter: 10 * time.Minute}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		b.platform.set(func(p *platform) { p.submit = nil })
		_, err := b.engine.Retry(t.Context(), order(r.ID))
		require.NoError(t, err)
		got := b.get(r.ID)
		require.Equal(t, txn.Succeeded, got.State)
		require.NotEqual(t, got.Attempts[0].ExternalID, got.Attempts[1].ExternalID, "it was certainly not processed: a new id")
		require.False(t, got.Attempts[1].Repeat)
	})
}

func TestAnOperatorLiftsAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		_, err := b.engine.Release(t.Context(), "finpay", "budi", "key replaced")
		refused(t, err, txn.ErrNotHeld)
		_, err = b.engine.Release(t.Context(), "nobody", "budi", "key replaced")
		refused(t, err, txn.ErrNotFound)
		b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return held() } })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		_, err = b.engine.Retry(t.Context(), order(r.ID))
		refused(t, err, txn.ErrLeftAlone)
		b.platform.set(func(p *platform) { p.submit = nil })
		b.after(time.Minute, r.ID)
		b.ledger.fail(errors.New("disk full"))
		_, err = b.engine.Release(t.Context(), "finpay", "budi", "key replaced")
		refused(t, err, txn.ErrAudit)
		require.True(t, b.engine.Links()[0].Held)
		b.ledger.fail(nil)
		link, err := b.engine.Release(t.Context(), "finpay", "budi", "key replaced")
		require.NoError(t, err)
		require.False(t, link.Held)
		require.Equal(t, txn.Succeeded, b.after(time.Minute, r.ID).State)
		require.Contains(t, b.ledger.lines(), "release.begin  by budi")
	})
}
