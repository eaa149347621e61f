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
