package queue_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/txn"
)

// memKEK is a key encryption key in memory: real AES-GCM, no token.
type memKEK struct {
	id   string
	aead cipher.AEAD
	fail atomic.Pointer[error] // what every call answers while set
}

func newKEK(t testing.TB, id string) *memKEK {
	t.Helper()
	key := make([]byte, 32)
	_, err := rand.Read(key)
	require.NoError(t, err)
	k, err := kekOf(id, key)
	require.NoError(t, err)
	return k
}

func kekOf(id string, key []byte) (*memKEK, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	return &memKEK{id: id, aead: a}, err
}

func (k *memKEK) ID() string { return k.id }

func (k *memKEK) broken() error {
	if p := k.fail.Load(); p != nil {
		return *p
	}
	return nil
}

func (k *memKEK) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := k.broken(); err != nil {
		return nil, err
	}
	return k.aead.Seal(nil, nil, plaintext, aad), nil
}

func (k *memKEK) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	if err := k.broken(); err != nil {
		return nil, err
	}
	p, err := k.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", queue.ErrKeyMismatch)
	}
	return p, nil
}

// options gives a journal in a folder of its own. After the test the file is
// held against bbolt's own check.
func options(t testing.TB) queue.Options {
	t.Helper()
	return optionsIn(t, t.TempDir())
}

// quickOptions are the same on tmpfs, for tests of many commits in which no disk
// takes part.
func quickOptions(t testing.TB) queue.Options {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gardu-test-") //nolint:usetesting // t.TempDir is on a disk
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return optionsIn(t, dir)
}

func optionsIn(t testing.TB, dir string) queue.Options {
	t.Helper()
	opt := queue.Options{
		Path:    filepath.Join(dir, "journal.db"),
		KeyDir:  filepath.Join(dir, "keys"),
		KEK:     newKEK(t, "journal-kek"),
		PINKEK:  newKEK(t, "journal-pin-kek"),
		Kiosk:   4711,
		Reserve: -1,

		DangerousAllowKeyDirOnDisk: true,
	}
	t.Cleanup(func() { boltCheck(t, opt.Path) })
	return opt
}

// boltCheck runs bbolt's own check of the closed file.
func boltCheck(t testing.TB, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true, PreLoadFreelist: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}))
}

func open(t testing.TB, opt queue.Options) *queue.DB {
	t.Helper()
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newID() string { return rand.Text() }

// patience is how long something may take that happens at once on an idle machine.
const patience = time.Minute

// lined waits until n callers stand in the line, whom nobody has taken out of it yet.
func lined(t *testing.T, db *queue.DB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return db.Waiting() == n }, patience, time.Millisecond)
}

func request(phone string) *txn.Request {
	now := time.Date(2026, 5, 4, 9, 30, 0, 123456789, time.UTC)
	return &txn.Request{
		ID:        newID(),
		Key:       "key-" + rand.Text(),
		Content:   "00ff",
		Operation: txn.PrepaidResetPIN,
		Customer:  "prepaid:" + phone,
		Fields:    map[string]string{"phoneNumber": phone},
		Reference: "12345678901234",
		Created:   now,
		Expires:   now.Add(time.Hour),
		State:     txn.Queued,
		Step:      1,
	}
}

func pin(s string) *secret.Value { return secret.Clone([]byte(s)) }

func TestWhatWasAddedComesBack(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.Equal(t, uint64(1), r.Seq)

	r.State, r.Attempts = txn.Sending, []txn.Attempt{{Step: 1, Serial: 7, ExternalID: "x", Began: r.Created}}
	require.NoError(t, db.Update(t.Context(), r, nil))
	got, err := db.Get(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, r, got)

	require.NoError(t, db.Close())
	db = open(t, opt)
	got, err = db.Get(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, r, got)
	require.NoError(t, db.Delete(t.Context(), []uint64{1, 99}))
	_, err = db.Get(t.Context(), 1)
	require.ErrorIs(t, err, txn.ErrNotFound)
	require.ErrorIs(t, db.Update(t.Context(), r, nil), txn.ErrNotFound)
}

func TestSecretLivesUntilTheRecordHasNone(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	for range 2 {
		v, err := db.Secret(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, "493817", string(v.Bytes()))
		r.State = txn.Sending
		require.NoError(t, db.Update(t.Context(), r, nil))
		require.NoError(t, db.Close())
		db = open(t, opt)
	}
	require.Len(t, keyFiles(t, opt), 1)
	r.Secret = ""
	require.NoError(t, db.Update(t.Context(), r, nil))
	require.Empty(t, keyFiles(t, opt))
	_, err := db.Secret(t.Context(), r)
	require.ErrorIs(t, err, txn.ErrSecretLost)
}

func keyFiles(t testing.TB, opt queue.Options) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(opt.KeyDir, "*"))
	require.NoError(t, err)
	return list
}

// TestWhoComesWhileACallerWritesIsServed: nothing but the end of that caller's turn
// would wake the writer's own goroutine for an hour.
func TestWhoComesWhileACallerWritesIsServed(t *testing.T) {
	held, goOn := make(chan struct{}), make(chan struct{})
	var commits atomic.Int64
	db := open(t, options(t).WithIdle(time.Hour).WithCommit(func(tx *bbolt.Tx) error {
		if commits.Add(1) == 1 {
			close(held)
			<-goOn
		}
		return tx.Commit()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answers := make(chan error, 2)
	add := func() { answers <- db.Add(ctx, request("081234567890"), nil) }
	go add()
	<-held
	go add()
	lined(t, db, 1)
	close(goOn)
	require.NoError(t, <-answers)
	require.NoError(t, <-answers)
	require.Equal(t, int64(2), commits.Load())
}

// TestPanicOfACallerThatWritesEndsTheProcess although that caller recovers, as a web
// server does for its handlers: the journal would stand still for ever.
func TestPanicOfACallerThatWritesEndsTheProcess(t *testing.T) {
	const env = "GARDU_QUEUE_PANIC"
	if dir := os.Getenv(env); dir != "" {
		db, err := queue.Open(t.Context(), optionsIn(t, dir).WithIdle(time.Hour))
		require.NoError(t, err)
		defer func() { _ = recover() }()
		_ = db.AfterCommit(t.Context(), func() { panic("the turn of a caller") })
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$") //nolint:gosec // this program
	cmd.Env = append(os.Environ(), env+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 2, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "panic: the turn of a caller")
	require.Contains(t, string(out), "queue.(*writer).lead")
}

// TestTurnsChangeHands is for the race detector: callers lead, follow and leave work
// to the writer's own goroutine, as it comes.
func TestTurnsChangeHands(t *testing.T) {
	db := open(t, options(t))
	errs := [4]error{}
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			r := request("081234567890")
			for range 50 {
				if errs[i] = errors.Join(db.Add(t.Context(), r, nil), db.Delete(t.Context(), []uint64{r.Seq})); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	require.Zero(t, db.Stats().Items)
}
