package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// TestOldKeyIsDestroyedWhateverElseFails opens a journal that does not open.
func TestOldKeyIsDestroyedWhateverElseFails(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, opt queue.Options){
		"the token is away": func(_ *testing.T, opt queue.Options) {
			absent := errors.New("no token in the slot")
			opt.KEK.(*memKEK).fail.Store(&absent)
			opt.PINKEK.(*memKEK).fail.Store(&absent)
		},
		"the journal is damaged": func(t *testing.T, opt queue.Options) {
			t.Helper()
			kept := mustRead(t, opt.Path)
			require.NoError(t, os.Truncate(opt.Path, 0))
			t.Cleanup(func() { putBack(t, opt.Path, kept) })
		},
		"the journal is gone": func(t *testing.T, opt queue.Options) {
			t.Helper()
			kept := mustRead(t, opt.Path)
			require.NoError(t, os.Remove(opt.Path))
			t.Cleanup(func() { putBack(t, opt.Path, kept) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := quickOptions(t)
			db := open(t, opt)
			require.NoError(t, db.Add(t.Context(), withPIN(), pin("493817")))
			require.NoError(t, db.Close())
			spoil(t, opt)
			_ = refused(t, opt)
			require.Len(t, keyFiles(t, opt), 1, "it is not old yet")
			opt.SecretMost = time.Millisecond
			time.Sleep(10 * time.Millisecond)
			_ = refused(t, opt)
			require.Empty(t, keyFiles(t, opt))
		})
	}
}

func TestOldKeyIsDestroyedWhileTheJournalIsClosed(t *testing.T) {
	t.Parallel()
	d := new(disk)
	opt := quickOptions(t).WithCommit(d.commit).WithIdle(20 * time.Millisecond)
	opt.SecretMost = 300 * time.Millisecond
	db := open(t, opt)
	r := withPIN()
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	d.failing.Store(1000)
	require.Error(t, db.Add(t.Context(), request("0812000001"), nil))
	require.Eventually(t, func() bool { return len(keyFiles(t, opt)) == 0 }, patience, 10*time.Millisecond)
	require.ErrorIs(t, db.Stats().Down, errDisk)
	d.failing.Store(0)
	require.Eventually(t, func() bool { return db.Stats().Down == nil }, patience, 10*time.Millisecond)
	_, err := db.Secret(t.Context(), r)
	require.ErrorIs(t, err, txn.ErrSecretLost)
}

func TestSweepKeysGoesByAgeAlone(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	r := withPIN()
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	file := keyFiles(t, opt)[0]
	// A clock that was set says nothing about a key that knows when it was made.
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(file, old, old))
	spoiled := filepath.Join(opt.KeyDir, newID()+".pin.0011223344556677")
	fresh := filepath.Join(opt.KeyDir, newID()+".otp.0011223344556677")
	foreign := filepath.Join(opt.KeyDir, "not-ours")
	for _, f := range []string{spoiled, fresh, foreign} {
		require.NoError(t, os.WriteFile(f, []byte("x"), 0o600))
	}
	require.NoError(t, os.Chtimes(spoiled, old, old))
	require.NoError(t, os.Chtimes(foreign, old, old))

	n, err := queue.SweepKeys(opt.KeyDir, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoFileExists(t, spoiled)
	for _, f := range []string{file, fresh, foreign} {
		require.FileExists(t, f)
	}
	_, err = db.Secret(t.Context(), r)
	require.NoError(t, err)

	n, err = queue.SweepKeys(filepath.Join(opt.KeyDir, "none"), 0)
	require.NoError(t, err)
	require.Zero(t, n)
}
