package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/audit"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

func TestAnAuditRecordThatTakesNothingIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "audit.log")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	trail, err := audit.Open(t.Context(), audit.Options{Path: path, Who: agentName, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	w := &auditWatch{}
	rec := recorder{log: trail, watch: w}
	r := &txn.Request{ID: "A", Operation: txn.FinpayResetPIN}
	require.NoError(t, rec.Record(t.Context(), txn.ActSend, r, nil, ""))
	require.NoError(t, w.stands(t.Context(), trail))

	// The folder is taken away, as a disk that failed.
	require.NoError(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".away"))
	require.NoError(t, os.WriteFile(filepath.Dir(path), nil, 0o600))
	require.Error(t, rec.Record(t.Context(), txn.ActSend, r, nil, ""))
	err = w.stands(t.Context(), trail)
	require.ErrorIs(t, err, errAudit)
	require.Equal(t, "audit", healthOf(err).Reason)

	require.NoError(t, os.Remove(filepath.Dir(path)))
	require.NoError(t, os.Rename(filepath.Dir(path)+".away", filepath.Dir(path)))
	require.NoError(t, w.stands(t.Context(), trail), "it is tried again by itself")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(b), `"act":"audit.resume"`)
}

func TestAFullDiskIsCalledThat(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("%w: %w", errAudit, syscall.ENOSPC),
		&queue.Error{Op: "open journal", Err: syscall.ENOSPC},
		errors.Join(queue.ErrDown, fmt.Errorf("sync: %w", syscall.ENOSPC)),
	} {
		require.Equal(t, "disk_full", healthOf(err).Reason, err)
	}
	require.Equal(t, "audit", healthOf(fmt.Errorf("open: %w", errAudit)).Reason)
}
