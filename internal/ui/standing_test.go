package ui_test

import (
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
