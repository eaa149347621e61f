package txn_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

// A call holds an update back, a request that waits does not.
func TestUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		synctest.Wait()
		require.Zero(t, b.engine.UnderWay())
		gate := make(chan struct{})
		b.platform.set(func(p *platform) {
			p.submit = func(context.Context, txn.Call) txn.Answer { <-gate; return ok() }
		})
		b.ask(txn.FinpayResetPIN, "k", alice)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, b.engine.UnderWay())
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, b.engine.UnderWay())
	})
}

// Another call takes the place of one that is over only once it is known what that
// one taught: a provider that asked to be left alone would be called once more.
func TestACallsPlaceIsFreeOnceItsLinkIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var places []int
		b := newBench(t, func(b *bench) {
			b.platform.submit = func(context.Context, txn.Call) txn.Answer { return held() }
			b.opts.OnLink = func(l txn.Link) {
				if l.Held {
					places = append(places, b.engine.UnderWay())
				}
			}
		})
		defer b.halt()
		synctest.Wait() // the first look at the link is told
		b.get(b.ask(txn.FinpayResetPIN, "k", alice).ID)
		require.Equal(t, []int{1}, places)
		require.Zero(t, b.engine.UnderWay())
	})
}
