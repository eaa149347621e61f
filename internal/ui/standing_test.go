package ui_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
)

// The updater restarts the agent only while nobody stands at the screen.
func TestStanding(t *testing.T) {
	r := newRig(t, nil)
	require.Equal(t, ui.Standing{}, r.server.Standing(), "no page")
	p := r.open()
	p.at(ui.Attract)
	require.Equal(t, ui.Standing{Connected: true}, r.server.Standing(), "nobody there")
	p.do("start")
	require.Equal(t, ui.Standing{Connected: true, Session: true}, r.server.Standing())
	p.do("choose", "operation", string(txn.FinpayResetPIN))
	require.True(t, r.server.Standing().Session)
	r.server.SetHealth(ui.Health{Reason: "journal"})
	p.at(ui.OutOfService)
	require.False(t, r.server.Standing().Session, "out of service there is nothing to disturb")
}

// Nothing is judged by a standing of which better has been heard: what was told before
// a question or a command came is known to it.
func TestWhatWasToldIsKnownToWhatIsAskedNext(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	noise, quiet := make(chan struct{}), sync.WaitGroup{}
	defer quiet.Wait()
	defer close(noise)
	for range 4 { // a desk that is never idle has a choice of what to take next
		quiet.Go(func() {
			for {
				select {
				case <-noise:
					return
				default:
					r.server.Standing()
				}
			}
		})
	}
	for range 100 {
		r.server.SetHealth(ui.Health{Reason: "journal"})
		res, body := r.get("/healthz", "", nil)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode, body)
		r.server.SetHealth(ui.Health{OK: true})
		res, body = r.get("/healthz", "", nil)
		require.Equal(t, http.StatusOK, res.StatusCode, body)
	}
}
