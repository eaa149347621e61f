package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

// TestTheJournalHasMovedWhenThatIsSaid: the agent's own look at its keys and a person's
// command may begin the same move at once. Whoever is told that it is done finds the
// journal moved, and may destroy the key of before.
func TestTheJournalHasMovedWhenThatIsSaid(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "gardu-move") //nolint:usetesting // the journal wants its key folder on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(shm)) })
	set := defaultSettings()
	set.Kiosk.Number = 7
	set.Journal.Path, set.Journal.KeyDir = filepath.Join(t.TempDir(), "journal.db"), filepath.Join(shm, "keys")
	set.Audit.Path = filepath.Join(t.TempDir(), "audit.log")
	ag := newAgent(set, slog.New(slog.DiscardHandler))
	ag.keys = softhsmtest.New(t).Open(t)
	for _, label := range []string{"journal-kek", "journal-pin-kek"} {
		_, err := ag.keys.Generate(t.Context(), keystore.NewKey{Label: label, Kind: keystore.KindAES256})
		require.NoError(t, err)
	}
	require.NoError(t, ag.openAudit(t.Context()))
	t.Cleanup(func() { require.NoError(t, ag.audit.Close()) })
	db, err := ag.openJournal(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	for _, label := range []string{"journal-kek@g2", "journal-kek@g3", "journal-kek@g4", "journal-kek@g5"} {
		_, err := ag.keys.Generate(t.Context(), keystore.NewKey{Label: label, Kind: keystore.KindAES256})
		require.NoError(t, err)
		_, err = ag.keys.Refresh(t.Context())
		require.NoError(t, err)
		var movers sync.WaitGroup
		var needs [64][]string
		var errs [len(needs)][2]error
		begin := make(chan struct{})
		for i := range needs {
			movers.Go(func() {
				<-begin
				errs[i][0] = ag.moveJournal(t.Context(), db)
				needs[i], errs[i][1] = db.KEKs()
			})
		}
		close(begin)
		movers.Wait()
		for i := range needs {
			require.NoError(t, errs[i][0])
			require.NoError(t, errs[i][1])
			require.Equal(t, []string{"pkcs11:object=" + label}, needs[i])
		}
	}
}
