package txn_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// redeemer is a platform whose page ends with a code.
type redeemer struct {
	*platform
	mu    sync.Mutex
	codes []string
	say   txn.Answer
}

func (p *redeemer) Redeem(_ context.Context, c txn.Call) txn.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes = append(p.codes, string(c.Secret.Bytes()))
	return p.say
}

// pageBench is a bench whose customer is on the page of a binding.
func pageBench(t *testing.T, say txn.Answer) (*bench, *redeemer, *txn.Request) {
	t.Helper()
	p := &redeemer{say: say}
	b := newBench(t, func(b *bench) {
		p.platform = b.platform
		b.redeemer = p
		for i := range b.policies {
			if b.policies[i].Operation == txn.FinpayBind {
				b.policies[i].Code = &txn.Field{Name: "authCode", Min: 4, Max: 256}
			}
		}
		b.platform.submit = func(context.Context, txn.Call) txn.Answer {
			return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonLinkOpen, HTTPStatus: 200, Await: txn.AwaitLink, AwaitFor: 5 * time.Minute}
		}
	})
	r := b.ask(txn.FinpayBind, "k", alice)
	require.Equal(t, txn.AwaitLink, b.after(time.Second, r.ID).Await)
	return b, p, r
}

func code(s string) *secret.Value { return secret.Clone([]byte(s)) }

func TestRedeem(t *testing.T) {
	for _, tc := range []struct {
		name  string
		say   txn.Answer
		err   error
		state txn.State
		acts  string
	}{
		{"proved", txn.Answer{Outcome: txn.HasSucceeded, Code: "2007400", HTTPStatus: 200}, nil, txn.Succeeded, "redeem.begin redeem.end"},
		{"refused", txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 401}, txn.ErrCodeRefused, txn.Pending, "redeem.begin redeem.failed"},
		{"not spent", txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}, txn.ErrCodeUnspent, txn.Pending, "redeem.begin redeem.failed"},
		{"unknown", txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}, txn.ErrCodeUnproved, txn.Pending, "redeem.begin redeem.failed"},
		{"no outcome", txn.Answer{}, txn.ErrCodeUnproved, txn.Pending, "redeem.begin redeem.failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, p, r := pageBench(t, tc.say)
				got, err := b.engine.Redeem(t.Context(), r.ID, code("auth-code/+="))
				if tc.err != nil {
					require.ErrorIs(t, err, tc.err)
				} else {
					require.NoError(t, err)
					require.Equal(t, txn.Succeeded, got.State)
					require.Equal(t, txn.ReasonConfirmed, got.Reason)
				}
				require.Equal(t, tc.state, b.get(r.ID).State)
				require.Equal(t, []string{"auth-code/+="}, p.codes)
				require.Len(t, b.get(r.ID).Attempts, 1, "a code is no attempt")
				acts := slices.DeleteFunc(b.ledger.lines(), func(l string) bool { return !strings.HasPrefix(l, txn.ActRedeem) })
				require.Equal(t, tc.acts, strings.ReplaceAll(strings.Join(acts, " "), " "+string(txn.FinpayBind), ""))
				b.halt()
			})
		})
	}
}

// TestRedeemWaitsForItsTurn: whoever has the request at the moment, read-back or
// another code, a code is too late only when the page is over.
func TestRedeemWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p, r := pageBench(t, txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 401})
		const many, times = 16, 40
		var all sync.WaitGroup
		for range many {
			all.Go(func() {
				for range times {
					if _, err := b.engine.Redeem(t.Context(), r.ID, code("no-such-code")); !errors.Is(err, txn.ErrCodeRefused) {
						t.Errorf("a code on an open page: %v", err)
					}
				}
			})
		}
		all.Wait()
		require.Len(t, p.codes, many*times)
		require.Equal(t, txn.Pending, b.get(r.ID).State)
		b.halt()
	})
}

func TestRedeemRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p, r := pageBench(t, txn.Answer{Outcome: txn.HasSucceeded})
		var field *txn.FieldError
		for _, bad := range []string{"", "abc", "with space", "line\nbreak", strings.Repeat("a", 257)} {
			_, err := b.engine.Redeem(t.Context(), r.ID, code(bad))
			require.ErrorAs(t, err, &field, "%q", bad)
		}
		_, err := b.engine.Redeem(t.Context(), "nobody", code("abcd"))
		require.ErrorIs(t, err, txn.ErrNotFound)
		b.ledger.fail(errors.New("disk full"))
		_, err = b.engine.Redeem(t.Context(), r.ID, code("abcd"))
		require.ErrorIs(t, err, txn.ErrCodeUnspent, "without its audit record nothing is spent")
		b.ledger.fail(nil)
		require.Empty(t, p.codes)
		other := b.ask(txn.FinpayUnbind, "k2", alice)
		_, err = b.engine.Redeem(t.Context(), other.ID, code("abcd"))
		require.ErrorIs(t, err, txn.ErrTooLate)
		_, err = b.engine.Redeem(t.Context(), r.ID, code("abcd"))
		require.NoError(t, err)
		_, err = b.engine.Redeem(t.Context(), r.ID, code("abcd"))
		require.ErrorIs(t, err, txn.ErrTooLate, "it is done")
		b.halt()
		_, err = b.engine.Redeem(t.Context(), r.ID, code("abcd"))
		require.ErrorIs(t, err, txn.ErrTooLate)
	})
}

// TestRedeemWaitsForAReadBack: the page is looked at every few seconds, and a code
// that comes just then is not sent away.
func TestRedeemWaitsForAReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p, r := pageBench(t, txn.Answer{Outcome: txn.HasSucceeded})
		reading := make(chan struct{})
		b.platform.set(func(p *platform) {
			p.inquire = func(txn.Call) txn.Answer {
				select {
				case <-reading:
				default:
					close(reading)
				}
				time.Sleep(10 * time.Second)
				return txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200}
			}
		})
		<-reading
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := b.engine.Redeem(ctx, r.ID, code("abcd"))
		cancel()
		require.ErrorIs(t, err, txn.ErrCodeUnspent)
		got, err := b.engine.Redeem(t.Context(), r.ID, code("abcd"))
		require.NoError(t, err)
		require.Equal(t, txn.Succeeded, got.State)
		require.Equal(t, []string{"abcd"}, p.codes)
		b.halt()
	})
}

// TestPageSaysThatACodeIsWanted: the account is linked, and the request waits for
// the code until the page is over.
func TestPageSaysThatACodeIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, r := pageBench(t, txn.Answer{})
		b.platform.set(func(p *platform) {
			p.inquire = func(c txn.Call) txn.Answer {
				if time.Now().Before(c.Request.AwaitTill) {
					return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonCodeWanted, HTTPStatus: 200}
				}
				return txn.Answer{Outcome: txn.HasSucceeded, HTTPStatus: 200}
			}
		})
		got := b.after(10*time.Second, r.ID)
		require.Equal(t, txn.Pending, got.State)
		require.Equal(t, txn.ReasonCodeWanted, got.Reason)
		require.Equal(t, txn.Succeeded, b.after(6*time.Minute, r.ID).State)
		b.halt()
	})
}

// TestRenew: another password needs another first call, which is another request
// with ids of its own; the one that waited ends without having changed anything.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) {
			b.platform.submit = func(_ context.Context, c txn.Call) txn.Answer {
				if c.Attempt.Step == 1 {
					return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonOTPWanted, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute,
						Data: map[string]string{txn.DataReferenceNo: c.Attempt.ExternalID}}
				}
				return txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonOTPWrong, HTTPStatus: 404, Await: txn.AwaitOTP}
			}
		})
		old := b.ask(txn.FinpayUnbind, "k", alice)
		require.Equal(t, txn.AwaitOTP, b.after(time.Second, old.ID).Await)
		_, err := b.engine.Supply(t.Context(), old.ID, code("1234"))
		require.NoError(t, err)
		require.Equal(t, txn.ReasonOTPWrong, b.after(time.Second, old.ID).Reason, "also after a wrong one")

		fresh, err := b.engine.Renew(t.Context(), old.ID, "k2")
		require.NoError(t, err)
		require.NotEqual(t, old.ID, fresh.ID)
		require.Equal(t, old.Fields, fresh.Fields)
		got := b.get(old.ID)
		require.Equal(t, txn.Expired, got.State)
		require.Equal(t, txn.ReasonNothingChanged, got.Reason)
		got = b.after(time.Second, fresh.ID)
		require.Equal(t, txn.AwaitOTP, got.Await)
		require.Equal(t, 1, got.Attempts[0].Step, "a first call")
		require.NotEqual(t, b.get(old.ID).Attempts[0].ExternalID, got.Attempts[0].ExternalID)
		require.Equal(t, got.Attempts[0].ExternalID, got.Data[txn.DataReferenceNo])

		_, err = b.engine.Renew(t.Context(), old.ID, "k3")
		require.ErrorIs(t, err, txn.ErrTooLate)
		_, err = b.engine.Renew(t.Context(), "nobody", "k3")
		require.ErrorIs(t, err, txn.ErrNotFound)
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer {
				return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
			}
		})
		_, err = b.engine.Supply(t.Context(), fresh.ID, code("1234"))
		require.NoError(t, err)
		b.after(time.Second, fresh.ID)
		_, err = b.engine.Renew(t.Context(), fresh.ID, "k3")
		require.ErrorIs(t, err, txn.ErrTooLate, "a second call that may have had its effect is never thrown away")
		b.halt()
		_, err = b.engine.Renew(t.Context(), fresh.ID, "k3")
		require.ErrorIs(t, err, txn.ErrTooLate)
	})
}
