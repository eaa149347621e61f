package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

func TestARequestIsToldOnlyWhatIsOnDiskAndIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				stored, err := b.shelf.Get(t.Context(), c.Request.Seq)
				require.NoError(t, err)
				require.Equal(t, txn.Sending, stored.State, "the attempt is on disk before the call")
				require.Equal(t, c.Attempt.ExternalID, stored.Last().ExternalID)
				require.Zero(t, stored.Last().Outcome)
				return ok()
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k1", alice)
		require.Equal(t, txn.Queued, r.State)
		require.Len(t, r.Reference, 32)
		got := b.get(r.ID)
		require.Equal(t, txn.Succeeded, got.State)
		require.Equal(t, "2000000", got.Code)
		require.Equal(t, []txn.State{txn.Queued, txn.Sending, txn.Succeeded}, b.states(r.ID))
		require.Equal(t, []string{"send finpay.reset_pin unfinished", "sent finpay.reset_pin succeeded"}, b.ledger.acts)
		b.after(time.Hour, r.ID)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestWhatCannotBeSentWaitsAndGoesOutOnceWhenTheLinkReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.FinpayResetPIN, "k1", alice)
		got := b.after(10*time.Minute, r.ID)
		require.Equal(t, txn.Queued, got.State)
		links := b.engine.Links()
		require.Equal(t, "finpay", links[0].Provider)
		require.True(t, links[0].Known)
		require.False(t, links[0].Up)
		require.Equal(t, txn.ReasonLinkDown, links[0].Reason)

		b.platform.set(func(p *platform) { p.down = false })
		got = b.after(2*time.Minute, r.ID)
		require.Equal(t, txn.Succeeded, got.State)
		require.Equal(t, 1, b.platform.sent())
		require.True(t, b.engine.Links()[0].Up)
	})
}

func TestADayOfOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		var ids []string
		for i := range 96 {
			r := b.ask(txn.FinpayResetPIN, fmt.Sprint("k", i), fmt.Sprintf("0812%08d", i))
			ids = append(ids, r.ID)
			time.Sleep(15 * time.Minute)
		}
		b.platform.set(func(p *platform) { p.down = false })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n := map[txn.State]int{}
		for i, id := range ids {
			r := b.get(id)
			n[r.State]++
			if r.State == txn.Expired {
				require.Equal(t, txn.ReasonWaitedTooLong, r.Reason)
				require.LessOrEqual(t, r.Closed.Sub(r.Expires), time.Minute, "request %d expired late", i)
			}
		}
		require.Equal(t, n[txn.Succeeded], b.platform.sent())
		require.Equal(t, 96, n[txn.Succeeded]+n[txn.Expired])
		require.LessOrEqual(t, n[txn.Succeeded], 2, "only what is younger than half an hour is sent")
		require.Positive(t, n[txn.Succeeded])
		b.platform.mu.Lock()
		defer b.platform.mu.Unlock()
		require.Less(t, b.platform.probes, 3*24*60*3, "three providers probed about once a minute")
	})
}

func TestADoubtWithoutReadBackBecomesUnresolvedAndBlocksItsCustomerOnlyUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k1", alice)
		require.Equal(t, txn.InDoubt, b.get(r.ID).State)

		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k2", alice))
		var open *txn.OpenError
		require.ErrorAs(t, err, &open)
		require.Equal(t, r.ID, open.Request.ID)
		_, err = b.engine.Cancel(t.Context(), r.ID, txn.ReasonByCustomer)
		require.ErrorIs(t, err, txn.ErrTooLate)

		b.platform.set(func(p *platform) { p.submit = nil })
		later := b.ask(txn.FinpayBind, "k3", alice)
		other := b.ask(txn.FinpayResetPIN, "k4", bob)
		require.Equal(t, txn.Queued, b.get(later.ID).State, "the customer's next request waits for the doubt")
		require.Equal(t, txn.Succeeded, b.get(other.ID).State, "another customer does not")

		got := b.after(15*time.Minute, r.ID)
		require.Equal(t, txn.Unresolved, got.State)
		require.Equal(t, 2, b.platform.sent(), "nothing that is in doubt is sent again")
		require.Equal(t, txn.Expired, b.get(later.ID).State, "it waited three minutes, as its policy says")
		again := b.ask(txn.FinpayResetPIN, "k5", alice)
		require.Equal(t, txn.Succeeded, b.get(again.ID).State)
	})
}

func TestReadBackSettlesADoubt(t *testing.T) {
	for _, c := range []struct {
		name    string
		linked  bool
		op      txn.Operation
		state   txn.State
		reason  txn.Reason
		atLeast time.Duration
	}{
		{"bind, not there after the quiet time", false, txn.FinpayBind, txn.Expired, txn.ReasonNothingChanged, 2 * time.Minute},
		{"bind, there", true, txn.FinpayBind, txn.Succeeded, txn.ReasonConfirmed, 0},
		{"first call of unbind changes nothing", false, txn.FinpayUnbind, txn.Expired, txn.ReasonNothingChanged, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.platform.set(func(p *platform) {
					p.submit = func(context.Context, txn.Call) txn.Answer {
						return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
					}
					p.inquire = func(txn.Call) txn.Answer {
						if c.linked {
							return txn.Answer{Outcome: txn.HasSucceeded, HTTPStatus: 200}
						}
						return txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200}
					}
				})
				r := b.ask(c.op, "k", alice)
				got := b.after(4*time.Minute, r.ID)
				require.Equal(t, c.state, got.State)
				require.Equal(t, c.reason, got.Reason)
				require.GreaterOrEqual(t, got.Closed.Sub(got.Created), c.atLeast)
				require.Equal(t, 1, b.platform.sent())
			})
		})
	}
}

func TestBindingWaitsForTheCustomersPage(t *testing.T) {
	link := func(context.Context, txn.Call) txn.Answer {
		return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonLinkOpen, HTTPStatus: 200, Await: txn.AwaitLink,
			AwaitFor: 5 * time.Minute, Data: map[string]string{txn.DataLinkURL: "https://x/y"}}
	}
	t.Run("linked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			linked := false
			b.platform.set(func(p *platform) {
				p.submit = link
				p.inquire = func(txn.Call) txn.Answer {
					if linked {
						return txn.Answer{Outcome: txn.HasSucceeded, HTTPStatus: 200}
					}
					return txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200}
				}
			})
			r := b.ask(txn.FinpayBind, "k", alice)
			got := b.get(r.ID)
			require.Equal(t, txn.Pending, got.State)
			require.Equal(t, "https://x/y", got.Data[txn.DataLinkURL])
			other := b.ask(txn.FinpayUnbind, "k2", alice)
			require.Equal(t, txn.Pending, b.get(other.ID).State, "what waits for the customer does not block the customer")
			b.after(time.Minute, r.ID)
			b.platform.set(func(*platform) { linked = true })
			got = b.after(4*time.Second, r.ID)
			require.Equal(t, txn.Succeeded, got.State)
			require.NotContains(t, got.Data, txn.DataLinkURL)
		})
	})
	t.Run("never opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = link })
			r := b.ask(txn.FinpayBind, "k", alice)
			require.Equal(t, txn.Pending, b.after(6*time.Minute, r.ID).State, "the quiet time after the link's life")
			got := b.after(time.Minute+10*time.Second, r.ID)
			require.Equal(t, txn.Expired, got.State)
			require.Equal(t, txn.ReasonLinkTimeout, got.Reason)
		})
	})
	t.Run("nobody can be asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = link })
			r := b.ask(txn.FinpayBind, "k", alice)
			b.get(r.ID)
			b.platform.set(func(p *platform) { p.down = true })
			require.Equal(t, txn.Pending, b.after(20*time.Hour, r.ID).State, "the customer may have finished the page")
			require.Equal(t, txn.Unresolved, b.after(5*time.Hour, r.ID).State)
		})
	})
}

func unbinding(first txn.Answer, second func(otp string) txn.Answer) func(context.Context, txn.Call) txn.Answer {
	return func(_ context.Context, c txn.Call) txn.Answer {
		if c.Request.Step == 1 {
			return first
		}
		return second(string(c.Secret.Bytes()))
	}
}

func TestUnbindingIsOneRequestWithTwoSteps(t *testing.T) {
	first := txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonOTPWanted, HTTPStatus: 200, Await: txn.AwaitOTP,
		AwaitFor: 5 * time.Minute, Data: map[string]string{txn.DataReferenceNo: "R1"}}
	check := func(otp string) txn.Answer {
		if otp == "123456" {
			return ok()
		}
		return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonOTPWrong, Await: txn.AwaitOTP, HTTPStatus: 404, Code: "4040915"}
	}
	supply := func(t *testing.T, b *bench, id, otp string) *txn.Request {
		t.Helper()
		_, err := b.engine.Supply(t.Context(), id, secret.Clone([]byte(otp)))
		require.NoError(t, err)
		return b.get(id)
	}
	t.Run("right at the second try", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = unbinding(first, check) })
			r := b.ask(txn.FinpayUnbind, "k", alice)
			got := b.get(r.ID)
			require.Equal(t, txn.Pending, got.State)
			require.Equal(t, 2, got.Step)
			_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("12")))
			var fe *txn.FieldError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, txn.RuleShort, fe.Rule)

			got = supply(t, b, r.ID, "000000")
			require.Equal(t, txn.Pending, got.State)
			require.Equal(t, txn.ReasonOTPWrong, got.Reason)
			require.Zero(t, b.shelf.held(), "a used one-time password is destroyed")
			got = supply(t, b, r.ID, "123456")
			require.Equal(t, txn.Succeeded, got.State)
			require.Len(t, got.Attempts, 3)
			require.Zero(t, b.shelf.held())
		})
	})
	t.Run("wrong three times", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = unbinding(first, check) })
			r := b.ask(txn.FinpayUnbind, "k", alice)
			b.get(r.ID)
			supply(t, b, r.ID, "000001")
			supply(t, b, r.ID, "000002")
			got := supply(t, b, r.ID, "000003")
			require.Equal(t, txn.Rejected, got.State)
			require.Equal(t, txn.ReasonOTPLimit, got.Reason)
			_, err := b.engine.Supply(t.Context(), r.ID, secret.Clone([]byte("123456")))
			require.ErrorIs(t, err, txn.ErrTooLate)
		})
	})
	t.Run("no password in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = unbinding(first, check) })
			r := b.ask(txn.FinpayUnbind, "k", alice)
			require.Equal(t, txn.Pending, b.after(5*time.Minute-time.Second, r.ID).State)
			got := b.after(2*time.Second, r.ID)
			require.Equal(t, txn.Expired, got.State)
			require.Equal(t, txn.ReasonOTPTimeout, got.Reason)
		})
	})
	t.Run("the link goes before the second call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) { p.submit = unbinding(first, check) })
			r := b.ask(txn.FinpayUnbind, "k", alice)
			b.get(r.ID)
			b.platform.set(func(p *platform) { p.down = true })
			got := supply(t, b, r.ID, "123456")
			require.Equal(t, txn.Queued, got.State)
			require.Equal(t, 1, b.shelf.held())
			got = b.after(6*time.Minute, r.ID)
			require.Equal(t, txn.Expired, got.State)
			require.Equal(t, txn.ReasonOTPTimeout, got.Reason)
			require.Zero(t, b.shelf.held())
		})
	})
	t.Run("second call in doubt, account still linked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) {
				p.submit = unbinding(first, func(string) txn.Answer {
					return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonServerError, HTTPStatus: 500}
				})
			})
			r := b.ask(txn.FinpayUnbind, "k", alice)
			b.get(r.ID)
			got := supply(t, b, r.ID, "123456")
			require.Equal(t, txn.InDoubt, got.State)
			require.Zero(t, b.shelf.held())
			got = b.after(3*time.Minute, r.ID)
			require.Equal(t, txn.Rejected, got.State)
			require.Equal(t, txn.ReasonNotProcessed, got.Reason)
		})
	})
}

func TestAnAttemptWithoutAnEndIsADoubtAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) {
			p.submit = func(ctx context.Context, _ txn.Call) txn.Answer {
				<-ctx.Done()
				return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
			}
		})
		// From here the journal takes nothing more: what the call came to is lost,
		// as when the power goes.
		r := b.ask(txn.PrepaidResetPIN, "k", "70000000008", "121200")
		require.Equal(t, txn.Sending, b.get(r.ID).State)
		require.Equal(t, 1, b.shelf.held())
		b.shelf.set(func(s *shelf) { s.updErr = func(*txn.Request) (bool, error) { return false, errors.New("no power") } })
		b.halt()
		b.shelf.updErr = nil
		b.platform.set(func(p *platform) { p.submit = nil })
		b.start()
		defer b.halt()
		got := b.get(r.ID)
		require.Equal(t, txn.InDoubt, got.State)
		require.Equal(t, txn.ReasonRestart, got.Reason)
		require.Equal(t, txn.Unknown, got.Last().Outcome)
		require.Zero(t, b.shelf.held(), "the PIN of a possibly sent request is destroyed")
		require.Equal(t, txn.Unresolved, b.after(16*time.Minute, r.ID).State)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestAPINWhoseKeyIsGoneEndsItsRequestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.PrepaidResetPIN, "k", "70000000008", "121200")
		b.get(r.ID)
		b.halt()
		clear(b.shelf.secrets)
		b.platform.set(func(p *platform) { p.down = false })
		b.start()
		defer b.halt()
		got := b.get(r.ID)
		require.Equal(t, txn.Expired, got.State)
		require.Equal(t, txn.ReasonSecretLost, got.Reason)
		require.Zero(t, b.platform.sent())
	})
}

func TestAnOperationThatMayNotWait(t *testing.T) {
	refuse := func(b *bench) { b.policies[3].HoldOffline = false }
	t.Run("link known to be down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, refuse, func(b *bench) { b.platform.down = true })
			defer b.halt()
			synctest.Wait()
			_, err := b.engine.Accept(t.Context(), ask(txn.PrepaidResetPIN, "k", "7", "1212"))
			require.ErrorIs(t, err, txn.ErrOffline)
			require.ErrorIs(t, b.engine.Preview(t.Context(), txn.PrepaidResetPIN, map[string]string{"urn": "7"}), txn.ErrOffline)
			require.Empty(t, b.shelf.items)
		})
	})
	t.Run("link found to be down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, refuse)
			defer b.halt()
			synctest.Wait()
			b.platform.set(func(p *platform) { p.down = true })
			r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
			got := b.get(r.ID)
			require.Equal(t, txn.Cancelled, got.State)
			require.Equal(t, txn.ReasonOfflineRefused, got.Reason)
			require.Zero(t, b.shelf.held(), "the PIN never reached the store")
		})
	})
	t.Run("link up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, refuse)
			defer b.halt()
			b.platform.set(func(p *platform) {
				p.submit = func(_ context.Context, c txn.Call) txn.Answer {
					if len(c.Request.Attempts) == 1 {
						return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonTokenInvalid, Again: true, HTTPStatus: 401}
					}
					return ok()
				}
			})
			r := b.ask(txn.PrepaidResetPIN, "k", "7", "1212")
			require.Equal(t, txn.Succeeded, b.get(r.ID).State)
			require.Equal(t, []string{"1212", "1212"}, b.platform.secrets, "mended and tried again with the PIN in memory")
			require.Zero(t, b.shelf.held())
		})
	})
}

func TestWhatWasMendedIsTriedAgainOnceAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonTokenInvalid, Again: true, HTTPStatus: 401}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Len(t, b.get(r.ID).Attempts, 2, "at once: the first and one more")
		got := b.after(30*time.Minute, r.ID)
		require.Equal(t, txn.Expired, got.State)
		require.Less(t, len(got.Attempts), 120)
	})
}

func TestAHeldProviderIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		synctest.Wait()
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonAuthRefused, Hold: true, Alarm: "ask", HTTPStatus: 401}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		other := b.ask(txn.FinpayResetPIN, "k2", bob)
		got := b.after(14*time.Minute, r.ID)
		require.Equal(t, txn.Queued, got.State)
		require.LessOrEqual(t, b.platform.sent(), 2, "what was under way, and nothing after")
		require.True(t, b.engine.Links()[0].Held)
		require.True(t, b.engine.Links()[1].Up, "another provider is not held")
		b.platform.set(func(p *platform) { p.submit = nil })
		require.Equal(t, txn.Succeeded, b.after(3*time.Minute, r.ID).State)
		require.Equal(t, txn.Succeeded, b.get(other.ID).State)
	})
}

func TestRequestsOfOneCustomerGoOutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		var order []string
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				time.Sleep(time.Second)
				b.mu.Lock()
				order = append(order, string(c.Request.Operation))
				b.mu.Unlock()
				return ok()
			}
		})
		b.ask(txn.FinpayUnbind, "1", alice)
		b.ask(txn.FinpayResetPIN, "2", alice)
		b.ask(txn.FinpayBind, "3", alice)
		for i := range 20 {
			b.ask(txn.FinpayResetPIN, fmt.Sprint("o", i), fmt.Sprintf("0812%08d", i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 23, b.platform.sent())
		require.Equal(t, 8, b.platform.peak(), "as many customers at a time as the limit, and no more")
		var mine []string
		for _, o := range order {
			if o != string(txn.FinpayResetPIN) || len(mine) == 1 {
				mine = append(mine, o)
			}
		}
		require.Equal(t, string(txn.FinpayUnbind), mine[0])
		require.Equal(t, string(txn.FinpayBind), mine[len(mine)-1])
	})
}

func TestWithoutAnAuditRecordNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.ledger.err = errors.New("disk full")
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Equal(t, txn.Queued, b.after(5*time.Minute, r.ID).State)
		require.Zero(t, b.platform.sent())
		b.ledger.mu.Lock()
		b.ledger.err = nil
		b.ledger.mu.Unlock()
		require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
	})
}

func TestAnAnswerIsKeptUntilTheJournalTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		broken := true
		b.shelf.set(func(s *shelf) {
			s.updErr = func(r *txn.Request) (bool, error) {
				if r.State == txn.Succeeded && broken {
					return false, errors.New("no space left on device")
				}
				return true, nil
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Equal(t, txn.Sending, b.after(10*time.Minute, r.ID).State)
		b.shelf.mu.Lock()
		broken = false
		b.shelf.mu.Unlock()
		require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestAStopLetsCallsUnderWayFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) {
			p.submit = func(ctx context.Context, _ txn.Call) txn.Answer {
				select {
				case <-time.After(5 * time.Second):
					return ok()
				case <-ctx.Done():
					return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
				}
			}
		})
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		synctest.Wait()
		b.halt()
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k2", bob))
		require.ErrorIs(t, err, txn.ErrStopped)
		b.start()
		defer b.halt()
		require.Equal(t, txn.Succeeded, b.get(r.ID).State)
	})
}

func TestAJournalBehindItsWitnessSendsNothingByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.get(r.ID)
		b.halt()
		b.platform.set(func(p *platform) { p.down = false })
		b.opts.Behind = true
		b.start()
		defer b.halt()
		got := b.after(16*time.Minute, r.ID)
		require.Equal(t, txn.Unresolved, got.State)
		require.Zero(t, b.platform.sent())
	})
}
