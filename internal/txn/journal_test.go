package txn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// once makes the shelf answer the first matching update with an error, stored or not.
func once(stored bool, err error, match func(*txn.Request) bool) func(*txn.Request) (bool, error) {
	done := false
	return func(r *txn.Request) (bool, error) {
		if done || !match(r) {
			return true, nil
		}
		done = true
		return stored, err
	}
}

func inState(s txn.State) func(*txn.Request) bool {
	return func(r *txn.Request) bool { return r.State == s }
}

func TestATransitionOfWhichTheJournalDoesNotKnow(t *testing.T) {
	for _, stored := range []bool{true, false} {
		name := fmt.Sprint("stored=", stored)
		t.Run("the attempt, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Sending)) })
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				got := b.after(time.Minute, r.ID)
				require.Equal(t, txn.Succeeded, got.State, "nothing had left, so it is sent")
				require.Equal(t, 1, b.platform.sent())
				if stored {
					require.Len(t, got.Attempts, 2)
					require.Equal(t, txn.NotSent, got.Attempts[0].Outcome)
				}
			})
		})
		t.Run("the attempt and then a crash, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.shelf.set(func(s *shelf) {
					s.updErr = func(r *txn.Request) (bool, error) { return stored && r.State == txn.Sending, txn.ErrStoreUnknown }
				})
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				b.get(r.ID)
				b.halt()
				b.shelf.updErr = nil
				b.start()
				defer b.halt()
				want, sent := txn.Succeeded, 1
				if stored {
					want, sent = txn.InDoubt, 0 // nobody knows any more that nothing had left
				}
				require.Equal(t, want, b.get(r.ID).State)
				require.Equal(t, sent, b.platform.sent())
			})
		})
		t.Run("the answer, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Succeeded)) })
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
				require.Equal(t, []txn.State{txn.Queued, txn.Sending, txn.Succeeded}, b.states(r.ID))
			})
		})
		t.Run("an expiry, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Expired)) })
				r := b.ask(txn.PrepaidResetPIN, "k", "70000000008", "121200")
				require.Equal(t, txn.Expired, b.after(7*time.Minute, r.ID).State)
				states := b.states(r.ID)
				require.Equal(t, txn.Expired, states[len(states)-1], "it is told once it is known")
				require.Zero(t, b.shelf.held())
			})
		})
		t.Run("a cancellation, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(b *bench) { b.policies[3].HoldOffline = true })
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				b.get(r.ID)
				b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Cancelled)) })
				_, err := b.engine.Cancel(t.Context(), r.ID, txn.ReasonByCustomer)
				require.ErrorIs(t, err, txn.ErrStoreUnknown)
				b.platform.set(func(p *platform) { p.down = false })
				got := b.after(2*time.Minute, r.ID)
				if stored {
					require.Equal(t, txn.Cancelled, got.State)
					require.Zero(t, b.platform.sent())
					require.Equal(t, txn.Cancelled, last(b.states(r.ID)))
				} else {
					require.Equal(t, txn.Succeeded, got.State, "it was not cancelled, and nobody was told so")
				}
			})
		})
		t.Run("a one-time password, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) {
					p.submit = unbinding(txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute},
						func(string) txn.Answer { return ok() })
				})
				r := b.ask(txn.FinpayUnbind, "k", alice)
				b.get(r.ID)
				b.shelf.set(func(s *shelf) { s.updErr = once(stored, txn.ErrStoreUnknown, inState(txn.Queued)) })
				_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
				require.ErrorIs(t, err, txn.ErrStoreUnknown)
				if stored {
					require.Equal(t, txn.Succeeded, b.after(10*time.Second, r.ID).State, "it is there, so it is used")
					return
				}
				require.Equal(t, txn.Pending, b.after(10*time.Second, r.ID).State)
				_, err = b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
				require.NoError(t, err)
				require.Equal(t, txn.Succeeded, b.get(r.ID).State)
			})
		})
	}
}

func last[T any](s []T) T { return s[len(s)-1] }

func TestASupersededRequestIsNotSentWhereTheJournalRefusesToEndIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		stored bool
		err    error
	}{
		{"not stored", false, errors.New("i/o error")},
		{"unknown, not stored", false, txn.ErrStoreUnknown},
		{"unknown, stored", true, txn.ErrStoreUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				first := b.ask(txn.PrepaidResetPIN, "k1", "7", "1111")
				b.get(first.ID)
				b.shelf.set(func(s *shelf) { s.updErr = once(c.stored, c.err, inState(txn.Cancelled)) })
				second := b.ask(txn.PrepaidResetPIN, "k2", "7", "2222")
				b.platform.set(func(p *platform) { p.down = false })
				require.Equal(t, txn.Succeeded, b.after(4*time.Minute, second.ID).State)
				require.Equal(t, txn.Cancelled, b.get(first.ID).State)
				require.Equal(t, txn.Cancelled, last(b.states(first.ID)))
				require.Equal(t, []string{"2222"}, b.platform.secrets)
			})
		})
	}
}

func TestARequestOfWhichTheJournalDoesNotKnowKeepsItsPlace(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprint("stored=", stored), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				first := b.ask(txn.PrepaidResetPIN, "k1", "7", "1111")
				b.get(first.ID)
				// The journal is gone at the moment of the commit and comes back later.
				b.shelf.set(func(s *shelf) {
					s.addErr = func(*txn.Request) (bool, error) { return stored, txn.ErrStoreUnknown }
					s.eachErr = errors.New("the journal is closed")
				})
				_, err := b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k2", "7", "2222"))
				require.ErrorIs(t, err, txn.ErrStoreUnknown)
				_, err = b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k2", "7", "2222"))
				require.ErrorIs(t, err, txn.ErrStoreUnknown, "still not known")
				_, err = b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k3", "7", "3333"))
				require.ErrorIs(t, err, txn.ErrNotStored, "nobody takes its place meanwhile")
				b.platform.set(func(p *platform) { p.down = false })
				require.Equal(t, txn.Queued, b.after(90*time.Second, first.ID).State, "it may be superseded, so it waits")
				b.shelf.set(func(s *shelf) { s.addErr, s.eachErr = nil, nil })
				// Nobody asks again.
				time.Sleep(90 * time.Second)
				synctest.Wait()
				if stored {
					require.Equal(t, txn.Cancelled, b.get(first.ID).State)
					require.Equal(t, []string{"2222"}, b.platform.secrets)
					got := b.ask(txn.PrepaidResetPIN, "k2", "7", "2222")
					require.Equal(t, txn.Succeeded, got.State)
					require.Equal(t, []txn.State{txn.Queued, txn.Sending, txn.Succeeded}, b.states(got.ID))
				} else {
					require.Equal(t, txn.Succeeded, b.get(first.ID).State)
					require.Equal(t, []string{"1111"}, b.platform.secrets)
				}
			})
		})
	}
}

func TestAPINThatMayNotTouchADiskOutlivesAJournalThatDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.policies[3].HoldOffline = false })
		defer b.halt()
		b.shelf.set(func(s *shelf) {
			s.addErr = func(*txn.Request) (bool, error) { return true, txn.ErrStoreUnknown }
			s.eachErr = errors.New("the journal is closed")
		})
		_, err := b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k", "7", "1212"))
		require.ErrorIs(t, err, txn.ErrStoreUnknown)
		b.shelf.set(func(s *shelf) { s.addErr, s.eachErr = nil, nil })
		r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
		require.Equal(t, txn.Succeeded, b.get(r.ID).State)
		require.Equal(t, []string{"1212"}, b.platform.secrets)
	})
}

func TestTwoAtOnceForOneCustomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		b.get(b.ask(txn.FinpayBind, "warm", bob).ID) // the link is known to be down
		gate := make(chan struct{})
		b.shelf.set(func(s *shelf) {
			s.before = func(r *txn.Request) {
				if r.Key == "k1" {
					<-gate
				}
			}
		})
		var wg sync.WaitGroup
		var one, two *txn.Request
		var err1, err2 error
		wg.Go(func() { one, err1 = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k1", alice)) })
		synctest.Wait()
		var busy error
		wg.Go(func() { two, err2 = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k2", alice)) })
		wg.Go(func() { busy = b.engine.Preview(t.Context(), txn.FinpayResetPIN, map[string]string{"phoneNo": alice}) })
		synctest.Wait()
		close(gate)
		wg.Wait()
		require.NoError(t, err1)
		require.NoError(t, err2, "it waits for the first to be stored and takes its place")
		require.NoError(t, busy)
		require.Equal(t, txn.Cancelled, b.get(one.ID).State)
		require.Equal(t, txn.Queued, b.get(two.ID).State)
	})
}

func TestOrderPerCustomerSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) {
			p.submit = func(ctx context.Context, _ txn.Call) txn.Answer {
				<-ctx.Done()
				return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
			}
		})
		first := b.ask(txn.FinpayResetPIN, "1", alice)
		second := b.ask(txn.FinpayBind, "2", alice)
		b.get(first.ID)
		b.shelf.set(func(s *shelf) { s.updErr = func(*txn.Request) (bool, error) { return false, errors.New("no power") } })
		b.halt()
		b.shelf.updErr = nil
		b.platform.set(func(p *platform) { p.submit = nil })
		b.start()
		defer b.halt()
		require.Equal(t, txn.InDoubt, b.get(first.ID).State)
		require.Equal(t, txn.Queued, b.get(second.ID).State, "it waits for the doubt before it, as it did before the restart")
	})
}

func TestNothingIsAcceptedWithoutAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "", alice))
		require.ErrorIs(t, err, txn.ErrNoKey)
		require.Empty(t, b.shelf.items)
	})
}

func TestAStoppedEngineKeepsNoPIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.policies[3].HoldOffline = false })
		synctest.Wait()
		gate := make(chan struct{})
		b.shelf.set(func(s *shelf) { s.before = func(*txn.Request) { <-gate } })
		go func() { _, _ = b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k", "7", "1212")) }()
		synctest.Wait()
		b.stop()
		synctest.Wait()
		select {
		case <-b.done:
			t.Fatal("the engine ended while somebody was still storing a request")
		default:
		}
		close(gate)
		<-b.done
		require.Zero(t, b.engine.SecretsHeld())
	})
}

func TestKeyOfAStoredRequestThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		r := b.ask(txn.FinpayResetPIN, "key", alice)
		b.get(r.ID)
		b.shelf.set(func(s *shelf) {
			s.getErr = func(uint64) error { return errors.New("the journal is closed after an error") }
		})
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "key", alice))
		require.ErrorIs(t, err, txn.ErrStoreUnknown)
	})
}
