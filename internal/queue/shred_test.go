package queue_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

// heardKEK remembers what a key of a real token wrapped: what a thief would have to
// find again.
type heardKEK struct {
	queue.KEK
	wrapped, aad []byte // of the newest Wrap
}

func (k *heardKEK) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	w, err := k.KEK.Wrap(ctx, plaintext, aad)
	k.wrapped, k.aad = slices.Clone(w), slices.Clone(aad)
	return w, err
}

// TestNoDestroyedPINKeyCanBeFoundAgain has a thief with the live token, who knows
// what a PIN's key was bound to, try every place of a copy of the disk with the
// journal, and so also of the journal itself, as that key's wrapped form.
func TestNoDestroyedPINKeyCanBeFoundAgain(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil || os.Geteuid() != 0 {
		t.Skip("a disk of our own needs root and mkfs.ext4 (package e2fsprogs)")
	}
	store := softhsmtest.New(t).Open(t)
	key := func(label string) queue.KEK {
		info, err := store.Generate(t.Context(), keystore.NewKey{Label: label, Kind: keystore.KindAES256})
		require.NoError(t, err)
		w, err := store.Wrapper(info.URI())
		require.NoError(t, err)
		return tokenKEK{w}
	}
	pins := &heardKEK{KEK: key("pins")}
	image := filepath.Join(t.TempDir(), "disk")
	dir := onImage(t, image)
	opt := optionsIn(t, dir)
	opt.KEK, opt.PINKEK, opt.Reserve = key("journal"), pins, -1
	var err error
	opt.KeyDir, err = os.MkdirTemp("/dev/shm", "gardu-shred-") //nolint:usetesting // on tmpfs, as in life
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(opt.KeyDir)) })
	db := open(t, opt)

	// One PIN for each way in which its key ends; the thief knows all of them.
	type lost struct{ wrapped, aad []byte }
	var gone []lost
	for _, end := range []txn.State{txn.Succeeded, txn.Expired, txn.Cancelled} {
		r := withPIN()
		require.NoError(t, db.Add(t.Context(), r, pin("493817")))
		gone = append(gone, lost{pins.wrapped, pins.aad})
		r.State, r.Secret = end, ""
		require.NoError(t, db.Update(t.Context(), r, nil))
	}
	r := withPIN()
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	gone = append(gone, lost{pins.wrapped, pins.aad})
	require.NoError(t, db.Delete(t.Context(), []uint64{r.Seq}))
	require.Empty(t, keyFiles(t, opt))
	require.NoError(t, db.Close())

	look := func(t *testing.T, where []byte, what lost) bool {
		t.Helper()
		return unwrapsSomewhere(t, pins, where, len(what.wrapped), what.aad)
	}
	var folder []byte
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, rerr := os.ReadFile(path) //nolint:gosec // G122: the test's own folder
			folder, err = append(folder, b...), rerr
		}
		return err
	}))
	require.Greater(t, len(folder), 16<<10)
	unix.Sync()
	disk, err := os.ReadFile(image)
	require.NoError(t, err)
	require.Contains(t, string(disk), string(folder[:64]), "the copy of the disk holds the journal")

	// The search finds what is there: otherwise it would show nothing.
	planted := slices.Clone(folder[:8<<10])
	copy(planted[4<<10+3:], gone[0].wrapped)
	require.True(t, look(t, planted[4<<10-100:], gone[0]))
	for _, what := range gone {
		require.False(t, bytes.Contains(disk, what.wrapped))
	}
	require.False(t, look(t, disk, gone[0]))
}

// onImage mounts an ext4 of its own, with a journal as a kiosk's, and returns its
// top.
func onImage(t *testing.T, image string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 8<<20))
	dir := t.TempDir()
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec // G204: see above
			t.Skipf("no disk of our own can be mounted here: %v: %s", err, out)
		}
	}
	t.Cleanup(func() { // a child of another test that is being born may still have a file of it
		require.Eventually(t, func() bool { return unix.Unmount(dir, 0) == nil }, patience, 10*time.Millisecond)
	})
	return dir
}

// unwrapsSomewhere reports whether size bytes from any place in where on are, for
// the token, a key bound to aad.
func unwrapsSomewhere(t *testing.T, k queue.KEK, where []byte, size int, aad []byte) bool {
	t.Helper()
	const tries = 4
	var found atomic.Bool
	var tried, next atomic.Int64
	zeros := make([]byte, size)
	errs := [tries]error{}
	var work sync.WaitGroup
	for i := range errs {
		work.Go(func() {
			for at := next.Add(1) - 1; int(at)+size <= len(where); at = next.Add(1) - 1 {
				window := where[at : int(at)+size]
				if bytes.Equal(window, zeros) {
					continue
				}
				// The first byte says how a key was wrapped; a thief would set it right.
				guess := append([]byte{window[0]}, window[1:]...)
				guess[0] = 1
				_, err := k.Unwrap(t.Context(), guess, aad)
				for again := 0; err != nil && !isMismatch(err) && again < 20; again++ {
					_, err = k.Unwrap(t.Context(), guess, aad) // a busy machine's token may not answer in time
				}
				tried.Add(1)
				switch {
				case err == nil:
					found.Store(true)
					return
				case !isMismatch(err):
					errs[i] = err
					return
				}
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(t, err, "the token was asked and did not say")
	}
	t.Logf("%d places tried of %d", tried.Load(), len(where))
	return found.Load()
}

func isMismatch(err error) bool { return errors.Is(err, queue.ErrKeyMismatch) }
