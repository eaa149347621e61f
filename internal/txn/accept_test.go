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

	"gardu/internal/txn"
)

func TestANewerRequestTakesThePlaceOfOneThatWasNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.down = true })
		first := b.ask(txn.PrepaidResetPIN, "k1", "7", "1111")
		b.get(first.ID)
		second := b.ask(txn.PrepaidResetPIN, "k2", "7", "2222")
		got := b.get(first.ID)
		require.Equal(t, txn.Cancelled, got.State)
		require.Equal(t, txn.ReasonSuperseded, got.Reason)
		b.restart()
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = false })
		require.Equal(t, txn.Succeeded, b.after(2*time.Minute, second.ID).State)
		require.Equal(t, []string{"2222"}, b.platform.secrets)
	})
}

func TestACrashBetweenStoringAndSupersedingLeavesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.platform.set(func(p *platform) { p.down = true })
		first := b.ask(txn.FinpayResetPIN, "k1", alice)
		b.get(first.ID)
		b.shelf.set(func(s *shelf) { s.updErr = func(*txn.Request) (bool, error) { return false, errors.New("no power") } })
		second := b.ask(txn.FinpayResetPIN, "k2", alice)
		b.halt()
		b.shelf.updErr = nil
		b.platform.set(func(p *platform) { p.down = false })
		b.start()
		defer b.halt()
		require.Equal(t, txn.Cancelled, b.get(first.ID).State)
		require.Equal(t, txn.Succeeded, b.after(time.Minute, second.ID).State)
		require.Equal(t, 1, b.platform.sent())
	})
}

func TestRequestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		again := b.ask(txn.FinpayResetPIN, "k", alice)
		require.Equal(t, r.ID, again.ID)
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k", bob))
		require.ErrorIs(t, err, txn.ErrKeyConflict)
		b.get(r.ID)
		b.restart()
		defer b.halt()
		require.Equal(t, r.ID, b.ask(txn.FinpayResetPIN, "k", alice).ID, "after a restart too")
		require.Equal(t, 1, b.platform.sent())

		var wg sync.WaitGroup
		ids := make([]string, 32)
		for i := range ids {
			wg.Go(func() {
				got, err := b.engine.Accept(t.Context(), ask(txn.FinpayBind, "same", bob))
				if err == nil {
					ids[i] = got.ID
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			require.Equal(t, ids[0], id)
		}
		require.NotEmpty(t, ids[0])
		time.Sleep(49 * time.Hour)
		synctest.Wait()
		_, err = b.engine.Get(t.Context(), r.ID)
		require.ErrorIs(t, err, txn.ErrNotFound, "kept for 48 hours")
	})
}

func TestAJournalThatDoesNotKnowIsAskedAgain(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprint("stored=", stored), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.halt()
				b.shelf.addErr = func(*txn.Request) (bool, error) { return stored, txn.ErrStoreUnknown }
				r, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "k", alice))
				b.shelf.addErr = nil
				if stored {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, txn.ErrNotStored)
					r = b.ask(txn.FinpayResetPIN, "k", alice)
				}
				require.Equal(t, txn.Succeeded, b.get(r.ID).State)
				require.Equal(t, 1, b.platform.sent())
				require.Len(t, b.shelf.items, 1)
			})
		})
	}
}

func TestLimitsAndCooldowns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.opts.Limits = txn.Limits{CustomerHour: 3, KioskHour: 5} })
		b.platform.set(func(p *platform) {
			p.submit = func(_ context.Context, c txn.Call) txn.Answer {
				a := ok()
				if c.Request.Operation == txn.FinpayBind {
					a.Cooldown = 5 * time.Minute
				}
				return a
			}
		})
		for i := range 3 {
			r := b.ask(txn.FinpayResetPIN, fmt.Sprint("a", i), alice)
			require.Equal(t, txn.Succeeded, b.get(r.ID).State)
		}
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "a4", alice))
		var limit *txn.LimitError
		require.ErrorAs(t, err, &limit)
		require.Equal(t, "customer", limit.Scope)

		b.get(b.ask(txn.FinpayBind, "b1", bob).ID)
		b.restart()
		defer b.halt()
		_, err = b.engine.Accept(t.Context(), ask(txn.FinpayBind, "b2", bob))
		var cool *txn.CooldownError
		require.ErrorAs(t, err, &cool, "a cooldown survives a restart")
		require.WithinDuration(t, time.Now().Add(5*time.Minute), cool.Until, time.Second)
		_, err = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "a5", alice))
		require.ErrorAs(t, err, &limit, "so does a limit")

		b.get(b.ask(txn.FinpayResetPIN, "b3", bob).ID)
		_, err = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "c1", "081277777777"))
		require.ErrorAs(t, err, &limit)
		require.Equal(t, "kiosk", limit.Scope)
		time.Sleep(61 * time.Minute)
		b.get(b.ask(txn.FinpayBind, "b4", bob).ID)
	})
}

func TestRefusalsStoreNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		for _, c := range []struct {
			name string
			ask  txn.New
			want string
		}{
			{"unknown operation", txn.New{Key: "k", Operation: "finpay.fly"}, "does not know that operation"},
			{"switched off", txn.New{Key: "k", Operation: txn.NetzmeForgotPIN}, "switched off: no key is configured; run gardu keys import"},
			{"missing", txn.New{Key: "k", Operation: txn.FinpayBind}, "field phoneNo is missing; enter it"},
			{"short", ask(txn.FinpayBind, "k", "0812"), "field phoneNo is too short; enter at least 10 characters"},
			{"long", ask(txn.FinpayBind, "k", "08123456789012345"), "field phoneNo is too long; enter at most 16 characters"},
			{"letters", ask(txn.FinpayBind, "k", "08123456789a"), "field phoneNo takes digits only"},
			{"prefix", ask(txn.FinpayBind, "k", "621234567890"), "field phoneNo must begin with 08"},
			{"extra", txn.New{Key: "k", Operation: txn.FinpayBind, Fields: map[string]string{"phoneNo": alice, "x": "1"}}, "field x does not belong to this operation; leave it out"},
			{"no PIN", ask(txn.PrepaidResetPIN, "k", "7"), "field newPIN is missing; enter it"},
			{"short PIN", ask(txn.PrepaidResetPIN, "k", "7", "121"), "field newPIN is too short; enter at least 4 characters"},
		} {
			_, err := b.engine.Accept(t.Context(), c.ask)
			require.ErrorContains(t, err, c.want, c.name)
			if c.ask.Secret == nil && c.name != "no PIN" {
				require.ErrorContains(t, b.engine.Preview(t.Context(), c.ask.Operation, c.ask.Fields), c.want, c.name)
			}
		}
		require.Empty(t, b.shelf.items)
		b.shelf.addErr = func(*txn.Request) (bool, error) { return false, txn.ErrFull }
		_, err := b.engine.Accept(t.Context(), ask(txn.FinpayBind, "k", alice))
		require.ErrorIs(t, err, txn.ErrFull)
		b.shelf.addErr = nil
		require.Equal(t, txn.Succeeded, b.get(b.ask(txn.FinpayBind, "k", alice).ID).State)
	})
}

func TestACardThatStaffMustConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) { b.policies[3].StaffVerify = true })
		defer b.halt()
		n := ask(txn.PrepaidResetPIN, "k", "70000000008", "1212")
		_, err := b.engine.Accept(t.Context(), n)
		require.ErrorIs(t, err, txn.ErrUnverified)
		require.Empty(t, b.shelf.items)
		n.VerifiedBy = "1001"
		r, err := b.engine.Accept(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, "1001", b.get(r.ID).Data[txn.DataVerifiedBy])
	})
}
