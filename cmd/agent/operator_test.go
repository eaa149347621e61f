package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/audit"
	"gardu/internal/operator"
	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// aConsole is the operator screen's part of an agent whose service is not up.
func aConsole(t *testing.T) (c *console, made *operator.Made, trail string) {
	t.Helper()
	dir := t.TempDir()
	set := defaultSettings()
	set.Screen.Operators = filepath.Join(dir, "operators.toml")
	set.Journal.Path = filepath.Join(dir, "journal.db")
	set.Audit.Path = filepath.Join(dir, "audit.log")
	set.Kiosk.Number = 7
	made, err := operator.Make("7001", "Bank")
	require.NoError(t, err)
	require.NoError(t, operator.Add(set.Screen.Operators, made))
	ag := newAgent(set, slog.New(slog.DiscardHandler))
	c, err = ag.newConsole()
	ag.console = c
	require.NoError(t, err)
	return c, made, set.Audit.Path
}

func (c *console) openTrail(t *testing.T) {
	t.Helper()
	require.NoError(t, c.ag.openAudit(t.Context()))
	t.Cleanup(func() { require.NoError(t, c.ag.audit.Close()) })
}

func TestOperatorsAreRecorded(t *testing.T) {
	c, made, path := aConsole(t)
	login := func(code string) (ui.OperatorLogin, error) {
		return c.Login(t.Context(), "7001", secret.Clone([]byte(code)))
	}
	_, err := login(made.Recovery[0])
	require.ErrorIs(t, err, errNoTrail, "nobody is let in who would not be recorded")
	c.openTrail(t)
	got, err := login(made.Recovery[0])
	require.NoError(t, err, "the code was not used up")
	require.Equal(t, ui.OperatorLogin{Method: "recovery", Recovery: 9}, got)
	_, err = login(made.Recovery[0])
	require.ErrorIs(t, err, ui.ErrOperatorWrong)
	_, err = c.Login(t.Context(), "081234567890", secret.Clone([]byte("123456")))
	require.ErrorIs(t, err, ui.ErrOperatorWrong)
	for range 3 {
		_, err = login("000000")
		require.ErrorIs(t, err, ui.ErrOperatorWrong)
	}
	_, err = login(made.Recovery[1])
	require.ErrorIs(t, err, ui.ErrOperatorLocked)

	_, err = c.Do(t.Context(), ui.OperatorOrder{Who: "7001", Why: "maintenance", Act: ui.OrderDrain})
	require.NoError(t, err)
	_, err = c.Do(t.Context(), ui.OperatorOrder{Who: "7001", Why: "seen in the portal", Act: ui.OrderResolve, Object: "X", As: txn.Rejected})
	require.ErrorIs(t, err, errNotServing)
	c.Logout(t.Context(), "7001", "idle")

	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, want := range []string{
		`"act":"operator.login","object":"screen","result":"","who":"operator 7001"`, `"method":"recovery"`, `"act":"operator.refused","object":"screen","result":"","who":"operator unknown"`,
		`"act":"operator.drain","object":"screen","result":"","who":"operator 7001"`, `"why":"maintenance"`, `"act":"operator.logout"`, `"why":"idle"`,
	} {
		require.Contains(t, string(b), want)
	}
	require.NotContains(t, string(b), "081234567890", "what was typed as an id may be a customer's number")
	for _, code := range made.Recovery {
		require.NotContains(t, string(b), code)
		require.NotContains(t, string(b), strings.ReplaceAll(code, "-", ""))
	}
	_, err = audit.Verify(t.Context(), path)
	require.NoError(t, err)
}

func TestALookSaysHowTheMachineIs(t *testing.T) {
	c, _, _ := aConsole(t)
	v := c.Look(t.Context())
	require.Equal(t, uint32(7), v.Kiosk)
	require.Zero(t, v.Audit)
	require.False(t, v.Serving)
	require.Positive(t, v.Free)
	c.openTrail(t)
	c.Logout(t.Context(), "7001", "idle")
	c.ag.health = ui.Health{Reason: "token_absent"}
	v = c.Look(t.Context())
	require.Positive(t, v.Audit)
	require.Equal(t, "token_absent", v.Token)
	c.ag.health = ui.Health{Reason: "journal"}
	require.Empty(t, c.Look(t.Context()).Token, "the token is not to blame")
}

func TestAnOperatorRestartsTheAgent(t *testing.T) {
	c, _, _ := aConsole(t)
	c.openTrail(t)
	ended := make(chan error, 1)
	c.ag.quit = func(cause error) { ended <- cause }
	_, err := c.Do(t.Context(), ui.OperatorOrder{Who: "7001", Why: "stuck", Act: ui.OrderRestart})
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, errRestart)
}

func TestOperatorsAreReadAgain(t *testing.T) {
	c, made, _ := aConsole(t)
	c.openTrail(t)
	require.NoError(t, operator.Remove(c.ag.set.Screen.Operators, "7001"))
	c.ag.reload() // what SIGHUP leads to
	_, err := c.Login(t.Context(), "7001", secret.Clone([]byte(made.Recovery[0])))
	require.ErrorIs(t, err, ui.ErrOperatorWrong)

	require.NoError(t, operator.Add(c.ag.set.Screen.Operators, made))
	c.ag.reload()
	require.NoError(t, os.WriteFile(c.ag.set.Screen.Operators, []byte("nonsense"), 0o600))
	c.ag.reload()
	_, err = c.Login(t.Context(), "7001", secret.Clone([]byte(made.Recovery[0])))
	require.NoError(t, err, "a broken file takes nobody's access away")
}
