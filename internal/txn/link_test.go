package txn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

func held() txn.Answer {
	return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonAuthRefused, Hold: true, HTTPStatus: 401}
}

func throttled(d time.Duration) txn.Answer {
	return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonThrottled, RetryAfter: d, HTTPStatus: 429}
}

func lost() txn.Answer { return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer} }

func TestOnlyTimeEndsWhatAProviderAskedFor(t *testing.T) {
	for _, first := range []struct {
		name   string
		answer txn.Answer
		quiet  time.Duration
	}{
		{"hold", held(), 15 * time.Minute},
		{"throttle", throttled(8 * time.Minute), 8 * time.Minute},
	} {
		for _, second := range []struct {
			name   string
			answer txn.Answer
		}{
			{"a success", ok()},
			{"a shorter throttle", throttled(time.Second)},
			{"a broken link", txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}},
			{"a doubt with an answer", txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonServerError, HTTPStatus: 500}},
		} {
			t.Run(first.name+", then "+second.name+" to a call that was under way", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					defer b.halt()
					var calls atomic.Int32
					b.platform.set(func(p *platform) {
						p.submit = func(_ context.Context, c txn.Call) txn.Answer {
							switch {
							case calls.Add(1) > 2:
								return ok()
							case c.Request.Key == "slow":
								time.Sleep(10 * time.Second)
								return second.answer
							}
							time.Sleep(time.Second)
							return first.answer
						}
					})
					b.ask(txn.FinpayResetPIN, "slow", bob)
					r := b.ask(txn.FinpayResetPIN, "k", alice)
					b.after(2*time.Second, r.ID)
					before := b.platform.sent()
					got := b.after(first.quiet-3*time.Second, r.ID)
					require.Equal(t, txn.Queued, got.State)
					require.Equal(t, before, b.platform.sent())
					require.Equal(t, first.answer.Hold, b.engine.Links()[0].Held)
					require.Equal(t, first.answer.Reason, b.engine.Links()[0].Reason)
					require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
				})
			})
		}
	}
}

func TestAProbeThatWasUnderWayDoesNotEndAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		gate := make(chan struct{})
		b.platform.set(func(p *platform) {
			p.probe = func() error { <-gate; return nil }
			p.submit = func(context.Context, txn.Call) txn.Answer { return held() }
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		require.True(t, b.engine.Links()[0].Held)
		close(gate)
		b.get(r.ID)
		require.True(t, b.engine.Links()[0].Held)
		b.after(10*time.Minute, r.ID)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestNobodyReadsBackAtAProviderThatIsHeldOrAway(t *testing.T) {
	for _, c := range []struct {
		name string
		link txn.Answer
	}{
		{"held", held()},
		{"throttled", throttled(9 * time.Minute)},
		{"link down", txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				synctest.Wait()
				b.platform.set(func(p *platform) {
					p.submit = func(_ context.Context, c2 txn.Call) txn.Answer {
						if c2.Request.Operation == txn.FinpayBind {
							return lost()
						}
						p.set(func(p *platform) { p.down = true })
						return c.link
					}
				})
				doubt := b.ask(txn.FinpayBind, "d", bob)
				require.Equal(t, txn.InDoubt, b.get(doubt.ID).State)
				b.ask(txn.FinpayResetPIN, "k", alice)
				synctest.Wait()
				before := b.platform.readbacks()
				b.after(8*time.Minute, doubt.ID)
				require.Equal(t, before, b.platform.readbacks())
				b.platform.set(func(p *platform) { p.down, p.submit = false, nil })
				b.after(10*time.Minute, doubt.ID)
				require.Greater(t, b.platform.readbacks(), before)
				require.Equal(t, txn.Expired, b.get(doubt.ID).State)
			})
		})
	}
}

func TestALinkThatReturnsDoesNotHurryWhatWaitsForSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore, RetryAfter: 9 * time.Minute}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		require.Equal(t, 1, b.platform.sent())
		b.platform.set(func(p *platform) { p.down = true })
		b.after(70*time.Second, r.ID) // a probe finds it down
		require.False(t, b.engine.Links()[0].Up)
		b.platform.set(func(p *platform) { p.down = false })
		for !b.engine.Links()[0].Up {
			b.after(time.Second, r.ID)
		}
		b.after(4*time.Minute, r.ID)
		require.Equal(t, 1, b.platform.sent())
		b.after(4*time.Minute, r.ID)
		require.Equal(t, 2, b.platform.sent())
	})
}

func TestAnOperationThatMayNotWaitEndsWhenTheLinkGoesBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) {
			b.policies[3].HoldOffline = false
			b.opts.Limits.InFlight = 1
		})
		defer b.halt()
		synctest.Wait()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				time.Sleep(5 * time.Second)
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
			}
		})
		first := b.ask(txn.PrepaidResetPIN, "k1", "1", "1111")
		second := b.ask(txn.PrepaidResetPIN, "k2", "2", "2222")
		got := b.after(6*time.Second, second.ID)
		require.Equal(t, txn.Cancelled, b.get(first.ID).State)
		require.Equal(t, txn.Cancelled, got.State, "it may not wait, and its PIN is not kept")
		require.Equal(t, txn.ReasonOfflineRefused, got.Reason)
		require.Zero(t, b.engine.SecretsHeld())
	})
}

func TestADoubtEndsWhereNobodyCanBeAsked(t *testing.T) {
	doubt := func(t *testing.T, op txn.Operation, a txn.Answer) (*bench, string) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return a } })
		r := b.ask(op, "k", alice)
		b.get(r.ID)
		return b, r.ID
	}
	page := txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitLink, AwaitFor: 5 * time.Minute}
	t.Run("the provider could not be built", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, id := doubt(t, txn.FinpayBind, lost())
			b.halt()
			b.without = "finpay"
			b.start()
			defer b.halt()
			require.Equal(t, txn.InDoubt, b.after(23*time.Hour, id).State)
			require.Equal(t, txn.Unresolved, b.after(2*time.Hour, id).State)
		})
	})
	t.Run("the operation is not offered any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, id := doubt(t, txn.FinpayBind, page)
			b.halt()
			b.policies = b.policies[2:]
			b.start()
			defer b.halt()
			require.Equal(t, txn.Unresolved, b.after(25*time.Hour, id).State)
		})
	})
	t.Run("a page without a read-back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, id := doubt(t, txn.FinpayResetPIN, page)
			defer b.halt()
			require.Equal(t, txn.Pending, b.after(19*time.Minute, id).State)
			require.Equal(t, txn.Unresolved, b.after(2*time.Minute, id).State)
			require.Zero(t, b.platform.readbacks())
		})
	})
	t.Run("the link is down all the time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, id := doubt(t, txn.FinpayBind, lost())
			defer b.halt()
			b.platform.set(func(p *platform) { p.down = true })
			require.Equal(t, txn.Unresolved, b.after(24*time.Hour+time.Minute, id).State)
		})
	})
	t.Run("the time to settle was made longer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, id := doubt(t, txn.FinpayResetPIN, lost())
			b.halt()
			b.policies[0].Settle = time.Hour
			b.start()
			defer b.halt()
			require.Equal(t, txn.InDoubt, b.after(50*time.Minute, id).State)
			require.Less(t, b.shelf.looks(), 100, "it waits and does not spin")
			require.Equal(t, txn.Unresolved, b.after(11*time.Minute, id).State)
		})
	})
}

func TestOneCallOfACustomerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				if c.Request.Operation == txn.FinpayUnbind && c.Request.Step == 1 {
					return txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute}
				}
				time.Sleep(10 * time.Second)
				return ok()
			}
		})
		unbind := b.ask(txn.FinpayUnbind, "u", alice)
		require.Equal(t, txn.Pending, b.get(unbind.ID).State)
		reset := b.ask(txn.FinpayResetPIN, "r", alice)
		require.Equal(t, txn.Sending, b.get(reset.ID).State)
		b.platform.set(func(p *platform) { p.most = 0 })
		_, err := b.engine.Supply(t.Context(), unbind.ID, secret.Clone([]byte("123456")))
		require.NoError(t, err)
		require.Equal(t, txn.Queued, b.after(5*time.Second, unbind.ID).State)
		require.Equal(t, txn.Succeeded, b.after(16*time.Second, unbind.ID).State, "and it goes as soon as the other call has ended")
		require.Equal(t, 1, b.platform.peak())
	})
}

func TestWithoutAProbeOneCallFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.noProbe = true })
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				time.Sleep(20 * time.Second)
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
			}
		})
		for i := range 8 {
			b.ask(txn.FinpayResetPIN, fmt.Sprint(i), fmt.Sprintf("0812%08d", i))
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		require.False(t, b.engine.Links()[0].Up)
		b.platform.set(func(p *platform) { p.most = 0 })
		time.Sleep(10 * time.Minute)
		require.Equal(t, 1, b.platform.peak())
		b.platform.set(func(p *platform) { p.submit = nil })
		time.Sleep(4 * time.Minute) // a call that fails yet, the longest wait after it, and the next look
		synctest.Wait()
		require.True(t, b.engine.Links()[0].Up)
	})
}

func TestAProbesReasonIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) {
			b.platform.probe = func() error {
				return &txn.ProbeError{Reason: txn.ReasonLinkUntrusted, Hold: true, Err: errors.New("certificate")}
			}
		})
		defer b.halt()
		synctest.Wait()
		require.Equal(t, txn.ReasonLinkUntrusted, b.engine.Links()[0].Reason)
		require.True(t, b.engine.Links()[0].Held)
	})
}

// Two changes of a link come from two places. Whoever was slow in telling the first
// may not leave a listener with it.
func TestTheLastWordOnALinkIsTheNewest(t *testing.T) {
	var mu sync.Mutex
	var told []bool // of the provider that is asked
	telling, release := make(chan struct{}), make(chan struct{})
	b := newBench(t, func(b *bench) {
		b.opts.Timing.RetryBase, b.opts.Timing.Probe = 10*time.Millisecond, time.Hour
		b.opts.OnLink = func(l txn.Link) {
			if l.Provider != "finpay" {
				return
			}
			if !l.Up {
				close(telling)
				<-release
			}
			mu.Lock()
			defer mu.Unlock()
			told = append(told, l.Up)
		}
		var calls atomic.Int32
		b.platform.submit = func(context.Context, txn.Call) txn.Answer {
			if calls.Add(1) > 1 {
				return ok()
			}
			return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
		}
		b.platform.probe = func() error {
			if calls.Load() > 0 {
				<-telling // else it might be up again before that it was down is told
			}
			return nil
		}
	})
	first := func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 0 }
	require.Eventually(t, first, time.Minute, time.Millisecond) // told, and not only so: who tells it also probes
	b.ask(txn.FinpayResetPIN, "k", alice)
	<-telling
	up := func() bool { return b.engine.Links()[0].Up }
	require.Eventually(t, up, time.Minute, time.Millisecond) // a probe found it up again meanwhile
	close(release)
	b.halt()
	require.Contains(t, told, false)
	require.True(t, told[len(told)-1])
}
