package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

func TestHealthOf(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason string
	}{
		{keystore.ErrTokenAbsent, "token_absent"},
		{keystore.ErrDevice, "token_absent"},
		{keystore.ErrWorkerLost, "token_unusable"},
		{keystore.ErrTimeout, "token_absent"},
		{keystore.ErrPINWrong, "token_locked"},
		{keystore.ErrPINLocked, "token_locked"},
		{keystore.ErrPINUnusable, "token_locked"},
		{keystore.ErrModule, "token_unusable"},
		{keystore.ErrKeyChanged, "token_unusable"},
		{keystore.ErrKeyNotFound, "keys_missing"},
		{keystore.ErrUnsupported, "keys_missing"},
		{keystore.ErrConfiguration, "configuration"},
		{&queue.Error{Op: "open", Path: "/p", Err: fmt.Errorf("%w: %w", queue.ErrWrongKEK, keystore.ErrCiphertext)}, "journal"},
		{&queue.Error{Op: "open", Path: "/p", Err: queue.ErrDamaged}, "journal"},
		{queue.ErrDown, "journal"},
		{txn.ErrSeal, "journal"},
		{errors.New("anything"), "internal"},
	} {
		require.Equal(t, c.reason, healthOf(fmt.Errorf("x: %w", c.err)).Reason, c.err)
	}
	h := healthOf(&queue.Error{Op: "open", Path: "/var/lib/secret-place", Err: queue.ErrDamaged, Hint: "call field operations"})
	require.Equal(t, "call field operations", h.Hint, "paths are for the log, not for the page")
}

func TestOneKeyDoesNotTakeTheScreen(t *testing.T) {
	require.True(t, oneKey(errors.Join(keystore.ErrKeyNotFound, keystore.ErrKeyWeak)))
	require.False(t, oneKey(errors.Join(keystore.ErrKeyNotFound, keystore.ErrTokenAbsent)))
	require.False(t, oneKey(keystore.ErrPINLocked))
	require.False(t, oneKey(queue.ErrDown))
	require.False(t, oneKey(nil))
}

func TestAKeyOfTheJournalTakesTheScreen(t *testing.T) {
	keys := softhsmtest.New(t).Open(t)
	ag := newAgent(defaultSettings(), slog.New(slog.DiscardHandler))
	main, err := keys.Wrapper(ag.set.Journal.KEK)
	require.NoError(t, err)
	pins, err := keys.Wrapper(ag.set.Journal.PINKEK)
	require.NoError(t, err)
	ag.keks = &journalKeys{kek{main}, kek{pins}}
	_, err = keys.Generate(t.Context(), keystore.NewKey{Label: "journal-kek", Kind: keystore.KindAES256})
	require.NoError(t, err)
	_, err = keys.MAC("pkcs11:object=finpay-secret")
	require.NoError(t, err)
	err = keys.Health(t.Context())
	require.True(t, oneKey(err))
	require.True(t, ag.ofJournal(err), err)
	_, err = keys.Generate(t.Context(), keystore.NewKey{Label: "journal-pin-kek", Kind: keystore.KindAES256})
	require.NoError(t, err)
	err = keys.Health(t.Context())
	require.True(t, oneKey(err), "the provider's is missing still")
	require.False(t, ag.ofJournal(err), err)
}

func TestTheCookieKeyIsOursAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "screen.key")
	first, err := cookieKey(path)
	require.NoError(t, err)
	again, err := cookieKey(path)
	require.NoError(t, err)
	require.Equal(t, first, again)

	require.NoError(t, os.Chmod(path, 0o644)) //nolint:gosec // that others can read it is the point
	other, err := cookieKey(path)
	require.NoError(t, err)
	require.NotEqual(t, first, other, "a key that others could read is not used")

	planted := filepath.Join(t.TempDir(), "planted")
	require.NoError(t, os.WriteFile(planted, make([]byte, 32), 0o600))
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(planted, path))
	third, err := cookieKey(path)
	require.NoError(t, err)
	require.NotEqual(t, make([]byte, 32), third, "a link is not followed")
}

func TestFoldersLetOthersReachTheSocket(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	s := defaultSettings()
	s.Admin.Socket = filepath.Join(run, "admin.sock")
	s.Journal.KeyDir = filepath.Join(run, "keys")
	s.Journal.Path = filepath.Join(run, "state", "journal.db")
	s.Audit.Path = filepath.Join(run, "state", "audit.log")
	s.Token.Latch = filepath.Join(run, "state", "latch")
	require.NoError(t, s.makeFolders())
	for dir, mode := range map[string]os.FileMode{run: 0o755, s.Journal.KeyDir: 0o700} {
		st, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, mode, st.Mode().Perm(), dir)
	}
}
