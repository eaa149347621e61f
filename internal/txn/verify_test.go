package txn_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

// Verify implements txn.Verifier.
func (p *platform) Verify(ctx context.Context, fields map[string]string) txn.Verification {
	p.mu.Lock()
	f := p.verify
	p.mu.Unlock()
	return f(ctx, fields)
}

const card, otherCard = "70000000008", "70000000009"

func cardBench(t *testing.T, mend ...func(*bench)) *bench {
	return newBench(t, append([]func(*bench){func(b *bench) {
		b.policies[3].CardVerify = true
		b.platform.verify = func(context.Context, map[string]string) txn.Verification {
			return txn.Verification{Verdict: txn.VerdictOK, ID: "v1"}
		}
	}}, mend...)...)
}

func cardOf(urn string) map[string]string { return map[string]string{"urn": urn} }

func TestACardThatTheProviderMustConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cardBench(t)
		defer b.halt()
		n := ask(txn.PrepaidResetPIN, "k", card, "1212")
		_, err := b.engine.Accept(t.Context(), n)
		require.ErrorIs(t, err, txn.ErrUnverified)
		for _, claimed := range []string{"1001", "platform:v1", "platform:"} {
			n.VerifiedBy = claimed
			_, err = b.engine.Accept(t.Context(), n)
			require.ErrorIs(t, err, txn.ErrUnverified, "a proof that nobody gave: %q", claimed)
		}
		proof, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.NoError(t, err)
		require.Equal(t, "platform:v1", proof)
		require.Empty(t, b.shelf.items, "a confirmation is not stored")

		other := ask(txn.PrepaidResetPIN, "k2", otherCard, "1212")
		other.VerifiedBy = proof
		_, err = b.engine.Accept(t.Context(), other)
		require.ErrorIs(t, err, txn.ErrUnverified, "another card's confirmation")

		n.VerifiedBy = proof
		r, err := b.engine.Accept(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, proof, b.get(r.ID).Data[txn.DataVerifiedBy])
	})
}

func TestAConfirmationDoesNotKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cardBench(t)
		defer b.halt()
		n := ask(txn.PrepaidResetPIN, "k", card, "1212")
		var err error
		n.VerifiedBy, err = b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		_, err = b.engine.Accept(t.Context(), n)
		require.ErrorIs(t, err, txn.ErrUnverified)

		n.VerifiedBy, err = b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.NoError(t, err)
		b.restart()
		_, err = b.engine.Accept(t.Context(), n)
		require.ErrorIs(t, err, txn.ErrUnverified, "nothing of it survives a restart")
	})
}

func TestVerificationsCountAgainstTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cardBench(t, func(b *bench) {
			b.opts.Limits = txn.Limits{CustomerHour: 3, KioskHour: 5}
			b.platform.verify = func(context.Context, map[string]string) txn.Verification {
				return txn.Verification{Verdict: txn.VerdictMismatch, Reason: txn.ReasonNotFound, Code: "1001"}
			}
		})
		defer b.halt()
		verify := func(urn string) error {
			_, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(urn))
			return err
		}
		var no *txn.VerifyError
		var limit *txn.LimitError
		for range 3 {
			require.ErrorAs(t, verify(card), &no)
			require.Equal(t, txn.VerifyError{Verdict: txn.VerdictMismatch, Reason: txn.ReasonNotFound, Code: "1001"}, *no)
			require.ErrorContains(t, no, "check the card")
		}
		require.ErrorAs(t, verify(card), &limit)
		require.Equal(t, "customer", limit.Scope)
		require.ErrorAs(t, b.engine.Preview(t.Context(), txn.PrepaidResetPIN, cardOf(card)), &limit)

		require.ErrorAs(t, verify("1"), &no)
		require.ErrorAs(t, verify("2"), &no)
		require.ErrorAs(t, verify("3"), &limit)
		require.Equal(t, "kiosk", limit.Scope)
		time.Sleep(time.Hour)
		require.ErrorAs(t, verify(card), &no)
	})
}

func TestTheRequestTakesItsConfirmationsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cardBench(t, func(b *bench) { b.opts.Limits = txn.Limits{CustomerHour: 2, KioskHour: 100} })
		defer b.halt()
		for i, key := range []string{"k1", "k2"} {
			proof, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
			require.NoError(t, err, i)
			n := ask(txn.PrepaidResetPIN, key, card, "1212")
			n.VerifiedBy = proof
			r, err := b.engine.Accept(t.Context(), n)
			require.NoError(t, err, i)
			require.Equal(t, txn.Succeeded, b.get(r.ID).State)
		}
		var limit *txn.LimitError
		_, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.ErrorAs(t, err, &limit)
	})
}

func TestAVerificationThatNeverLeftCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := cardBench(t, func(b *bench) {
			b.opts.Limits = txn.Limits{CustomerHour: 1, KioskHour: 1}
			b.platform.verify = func(context.Context, map[string]string) txn.Verification {
				return txn.Verification{Verdict: txn.VerdictUnknown, Reason: txn.ReasonLinkDown, NotSent: true}
			}
		})
		defer b.halt()
		for range 4 {
			_, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
			var no *txn.VerifyError
			require.ErrorAs(t, err, &no)
			require.Equal(t, txn.VerdictUnknown, no.Verdict)
			require.ErrorContains(t, no, "ask again later")
		}
	})
}

func TestAVerificationKeepsToItsTimeAndTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		b := cardBench(t, func(b *bench) {
			b.opts.Log = slog.New(slog.NewTextHandler(&logs, nil))
			b.platform.verify = func(ctx context.Context, _ map[string]string) txn.Verification {
				<-ctx.Done()
				return txn.Verification{Verdict: txn.VerdictUnknown, Reason: txn.ReasonNoAnswer, Alarm: "look at it"}
			}
		})
		began := time.Now()
		_, err := b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.Error(t, err)
		require.Equal(t, 30*time.Second, time.Since(began))
		_, err = b.engine.Verify(t.Context(), txn.FinpayBind, map[string]string{"phoneNo": alice})
		require.ErrorIs(t, err, txn.ErrDisabled)
		b.halt()
		_, err = b.engine.Verify(t.Context(), txn.PrepaidResetPIN, cardOf(card))
		require.ErrorIs(t, err, txn.ErrStopped)
		require.Contains(t, logs.String(), "look at it")
		require.NotContains(t, logs.String(), card)
	})
}
