package txn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

func TestARecordStaysSmallHoweverOftenItIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.policies[0].Wait = 10 * time.Minute })
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer { return throttled(time.Second) }
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		got := b.after(11*time.Minute, r.ID)
		require.Equal(t, txn.Expired, got.State, "a record that grew beyond what the journal takes could not even end")
		require.Greater(t, b.platform.sent(), 300)
		require.Equal(t, b.platform.sent(), len(got.Attempts)+got.Omitted)
		require.Equal(t, b.platform.extID(0), got.Attempts[0].ExternalID, "the first is kept")
		require.Equal(t, b.platform.extID(-1), got.Last().ExternalID, "and the last")
	})
}

func TestWhatMayHaveBeenSentIsNeverLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		wrong := 0
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				switch {
				case c.Request.Step == 1:
					return txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 10 * time.Minute}
				case len(p.calls) == 2:
					wrong++
					return txn.Answer{Outcome: txn.WasRejected, Await: txn.AwaitOTP, Reason: txn.ReasonOTPWrong, HTTPStatus: 404}
				}
				return throttled(time.Second)
			}
		})
		r := b.ask(txn.FinpayUnbind, "k", alice)
		for range 2 {
			b.get(r.ID)
			_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
			require.NoError(t, err)
		}
		got := b.after(3*time.Minute, r.ID)
		require.Positive(t, got.Omitted)
		require.Equal(t, txn.WentPending, got.Attempts[0].Outcome)
		require.Equal(t, txn.WasRejected, got.Attempts[1].Outcome)
		require.True(t, got.EverSent())
	})
}

func TestAnAnswerIsCutToWhatARecordCanHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		long := strings.Repeat("x", 100<<10)
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				a := ok()
				a.Code, a.Text = long, long
				a.Data = map[string]string{txn.DataReferenceNo: "R1", "more": long}
				return a
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		got := b.get(r.ID)
		require.Equal(t, txn.Succeeded, got.State)
		require.Len(t, got.Code, 32)
		require.Len(t, got.Data[txn.DataAnswerText], 200)
		require.Equal(t, "R1", got.Data[txn.DataReferenceNo])
		require.NotContains(t, got.Data, "more", "half a value is worse than none")
	})
}

// rarely is for tests that last months: a probe a minute would take most of their time.
func rarely(b *bench) { b.opts.Timing.Probe = 24 * time.Hour }

func TestNothingStaysInMemoryForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, rarely)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				a := ok()
				a.Cooldown = time.Hour
				if c.Request.Operation == txn.FinpayBind {
					a = txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 400}
				}
				return a
			}
		})
		for i := range 200 {
			b.ask(txn.FinpayResetPIN, fmt.Sprint("r", i), fmt.Sprintf("0812%08d", i))
			b.ask(txn.FinpayBind, fmt.Sprint("b", i), fmt.Sprintf("0812%08d", i))
			time.Sleep(time.Minute)
		}
		require.NotZero(t, b.engine.Remembered())
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		require.Zero(t, b.engine.Remembered())
		require.Empty(t, b.shelf.items)
	})
}

func TestADeletionThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, rarely)
		defer b.halt()
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		b.shelf.set(func(s *shelf) { s.delErr = func() error { return errors.New("i/o error") } })
		time.Sleep(50 * time.Hour)
		require.Equal(t, 1, b.shelf.count())
		b.shelf.set(func(s *shelf) { s.delErr = nil })
		time.Sleep(3 * time.Minute)
		require.Zero(t, b.shelf.count())
	})
}

func TestALongCooldownKeepsOnlyItsOwnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, rarely)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				a := ok()
				if c.Request.Key == "long" {
					a.Cooldown = 20 * 24 * time.Hour
				}
				return a
			}
		})
		long := b.ask(txn.FinpayResetPIN, "long", alice)
		b.get(long.ID)
		for i := range 5 {
			b.get(b.ask(txn.FinpayResetPIN, fmt.Sprint(i), fmt.Sprintf("0812%08d", i)).ID)
		}
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		require.Equal(t, 1, b.shelf.count())
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "again", alice))
		var cool *txn.CooldownError
		require.ErrorAs(t, err, &cool)
		time.Sleep(18 * 24 * time.Hour)
		synctest.Wait()
		require.Zero(t, b.shelf.count())
	})
}

func TestAnUnresolvedRequestWaitsForAnOperatorAndLeavesItsTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, rarely)
		defer b.halt()
		b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return lost() } })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
		b.restart()
		require.Equal(t, txn.Unresolved, b.after(89*24*time.Hour, r.ID).State)
		b.ledger.fail(errors.New("disk full"))
		require.Equal(t, txn.Unresolved, b.after(2*24*time.Hour, r.ID).State, "without an audit record it is not deleted")
		b.ledger.fail(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		_, err := b.engine.Get(t.Context(), r.ID)
		require.ErrorIs(t, err, txn.ErrNotFound)
		require.Contains(t, b.ledger.lines(), "forget finpay.reset_pin unknown")
		require.Zero(t, b.engine.Remembered())
	})
}

func TestARecordThatDoesNotOpenHoldsUpNobody(t *testing.T) {
	for _, broken := range []error{txn.ErrSeal, txn.ErrNotFound} {
		t.Run(broken.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) { p.down = true })
				first := b.ask(txn.FinpayResetPIN, "1", alice)
				second := b.ask(txn.FinpayBind, "2", alice)
				b.get(first.ID)
				b.shelf.set(func(s *shelf) {
					s.getErr = func(seq uint64) error {
						if seq == first.Seq {
							return broken
						}
						return nil
					}
				})
				b.platform.set(func(p *platform) { p.down = false })
				time.Sleep(2 * time.Minute)
				require.Equal(t, txn.Succeeded, b.get(second.ID).State)
				require.Equal(t, 1, b.platform.sent())
				_, err := b.engine.Get(t.Context(), first.ID)
				require.ErrorIs(t, err, broken)
			})
		})
	}
}

func TestSecretsAreGoneBeforeTheJournalTakesTheAnswer(t *testing.T) {
	for _, hold := range []bool{true, false} {
		t.Run(fmt.Sprint("hold=", hold), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(b *bench) { b.policies[3].HoldOffline = hold })
				defer b.halt()
				b.shelf.set(func(s *shelf) {
					s.updErr = func(r *txn.Request) (bool, error) {
						if r.State == txn.Sending {
							return true, nil
						}
						return false, errors.New("no space left on device")
					}
				})
				r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
				require.Equal(t, txn.Sending, b.after(10*time.Second, r.ID).State)
				require.Equal(t, []string{"1212"}, b.platform.secrets)
				require.Zero(t, b.platform.calls[0].Secret.Len(), "the copy that was sent is wiped")
				require.Zero(t, b.engine.SecretsHeld())
				b.shelf.set(func(s *shelf) { s.updErr = nil })
				require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
			})
		})
	}
}

func TestAnAttemptThatDidNotLeaveHasItsAuditRecordToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.shelf.set(func(s *shelf) { s.updErr = once(false, errors.New("i/o error"), inState(txn.Sending)) })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Equal(t, txn.Succeeded, b.after(10*time.Second, r.ID).State)
		require.Equal(t, []string{
			"send finpay.reset_pin unfinished", "sent finpay.reset_pin not_sent",
			"send finpay.reset_pin unfinished", "sent finpay.reset_pin succeeded",
		}, b.ledger.lines())
	})
}

func TestARestoredJournalDoesNotSpendAOneTimePasswordTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) {
			p.submit = unbinding(txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute},
				func(string) txn.Answer { return ok() })
		})
		r := b.ask(txn.FinpayUnbind, "k", alice)
		require.Equal(t, txn.Pending, b.get(r.ID).State)
		b.halt()
		b.opts.Behind = true
		b.start()
		defer b.halt()
		require.Equal(t, txn.InDoubt, b.get(r.ID).State)
		_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
		require.ErrorIs(t, err, txn.ErrTooLate)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestLimitsCountTheSameAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.opts.Limits = txn.Limits{CustomerHour: 3} })
		b.platform.set(func(p *platform) { p.down = true })
		for i := range 3 {
			b.ask(txn.FinpayResetPIN, fmt.Sprint(i), alice)
			synctest.Wait() // one that is being sent at this moment cannot be superseded
		}
		var limit *txn.LimitError
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "4", alice))
		require.ErrorAs(t, err, &limit)
		b.restart()
		defer b.halt()
		synctest.Wait()
		_, err = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "5", alice))
		require.ErrorAs(t, err, &limit, "what was superseded was asked for all the same")
	})
}
