package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
)

// family is a KEK of several generations in memory.
type family struct {
	mu   sync.Mutex
	gens []*memKEK // the last one wraps; nil was destroyed
}

func (f *family) ID() string { return "kek" }

func (f *family) name(n int) string { return fmt.Sprintf("kek@g%d", n+1) }

func (f *family) Newest(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.name(len(f.gens) - 1), nil
}

func (f *family) WrappedBy(w []byte) string { return f.name(int(w[0])) }

func (f *family) Wrap(ctx context.Context, plain, aad []byte) ([]byte, error) {
	f.mu.Lock()
	n := len(f.gens) - 1
	k := f.gens[n]
	f.mu.Unlock()
	b, err := k.Wrap(ctx, plain, aad)
	return append([]byte{byte(n)}, b...), err
}

func (f *family) Unwrap(ctx context.Context, w, aad []byte) ([]byte, error) {
	f.mu.Lock()
	k := f.gens[w[0]]
	f.mu.Unlock()
	if k == nil {
		return nil, fmt.Errorf("destroyed: %w", queue.ErrKeyMismatch)
	}
	return k.Unwrap(ctx, w[1:], aad)
}

func (f *family) rotate(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gens = append(f.gens, newKEK(t, "g"))
}

func (f *family) destroy(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gens[n] = nil
}

func keks(t *testing.T, db *queue.DB) []string {
	t.Helper()
	k, err := db.KEKs()
	require.NoError(t, err)
	return k
}

// TestTheJournalMovesToTheNewestKEK: after Rewrap nothing in the journal needs the
// key before, not even what was written long ago, while the journal is in use.
func TestTheJournalMovesToTheNewestKEK(t *testing.T) {
	opt := options(t)
	f := &family{}
	f.rotate(t)
	opt.KEK = f
	ctx := t.Context()
	db := open(t, opt)
	var seqs []uint64
	for i := range 3 {
		r := request(fmt.Sprintf("08123456789%d", i))
		require.NoError(t, db.Add(ctx, r, nil))
		seqs = append(seqs, r.Seq)
		require.NoError(t, db.Close()) // each record under a data key of its own
		db = open(t, opt)
	}
	require.NoError(t, db.KeepGrant(ctx, "finpay", granted, pin(grantContent), soon()))
	require.Equal(t, []string{"kek@g1"}, keks(t, db))
	n, err := db.Rewrap(ctx)
	require.NoError(t, err)
	require.Zero(t, n, "there is nothing newer")

	f.rotate(t)
	require.Equal(t, []string{"kek@g1"}, keks(t, db))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			r := request(fmt.Sprintf("0899%07d", i))
			if err := db.Add(context.WithoutCancel(ctx), r, nil); err != nil {
				t.Error(err)
				return
			}
		}
	})
	n, err = db.Rewrap(ctx)
	close(stop)
	writers.Wait()
	require.NoError(t, err)
	require.Equal(t, 5, n, "three old data keys, this run's, and the grants'")
	require.Equal(t, []string{"kek@g2"}, keks(t, db))
	require.Equal(t, []string{"kek@g2"}, db.Stats().KEKs)
	_, err = queue.KEKs(opt.Path)
	var locked *queue.LockedError
	require.ErrorAs(t, err, &locked)
	require.NoError(t, db.Close())
	names, err := queue.KEKs(opt.Path)
	require.NoError(t, err)
	require.Equal(t, []string{"kek@g2"}, names)

	f.destroy(0)
	db = open(t, opt)
	for _, s := range seqs {
		_, err := db.Get(ctx, s)
		require.NoError(t, err)
	}
	require.Equal(t, grantContent, grantOf(t, db, "finpay", granted))
	require.NoError(t, db.Check(ctx))
}

func TestRewrapWithATokenThatIsAwayChangesNothing(t *testing.T) {
	opt := options(t)
	f := &family{}
	f.rotate(t)
	opt.KEK = f
	db := open(t, opt)
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	f.rotate(t)
	away := errors.New("token absent")
	f.gens[1].fail.Store(&away)
	_, err := db.Rewrap(t.Context())
	require.ErrorIs(t, err, away)
	require.Equal(t, []string{"kek@g1"}, keks(t, db))
	f.gens[1].fail.Store(nil)
	_, err = db.Rewrap(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"kek@g2"}, keks(t, db))
}

func TestKEKsOfAJournalThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	names, err := queue.KEKs(filepath.Join(dir, "none.db"))
	require.NoError(t, err)
	require.Empty(t, names)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "none.db.witness"), nil, 0o600))
	_, err = queue.KEKs(filepath.Join(dir, "none.db"))
	require.ErrorIs(t, err, queue.ErrVanished)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "junk.db"), []byte(strings.Repeat("x", 1<<16)), 0o600))
	_, err = queue.KEKs(filepath.Join(dir, "junk.db"))
	require.ErrorIs(t, err, queue.ErrDamaged)
}

func TestKEKsOfSecrets(t *testing.T) {
	opt := options(t)
	f := &family{}
	f.rotate(t)
	opt.PINKEK = f
	names, err := queue.SecretKEKs(opt.KeyDir)
	require.NoError(t, err)
	require.Empty(t, names)
	db := open(t, opt)
	one, two := withPIN(), withPIN()
	require.NoError(t, db.Add(t.Context(), one, pin("493817")))
	f.rotate(t)
	require.NoError(t, db.Add(t.Context(), two, pin("493817")))
	names, err = queue.SecretKEKs(opt.KeyDir)
	require.NoError(t, err)
	require.Equal(t, []string{"kek@g1", "kek@g2"}, names)
	require.NoError(t, db.Delete(t.Context(), []uint64{one.Seq}))
	names, err = queue.SecretKEKs(opt.KeyDir)
	require.NoError(t, err)
	require.Equal(t, []string{"kek@g2"}, names)
}

// slowKEK wraps by the generation that was the newest when it was asked and, once it is
// slow, says so and answers when it may.
type slowKEK struct {
	*family
	slow       atomic.Bool
	asked, may chan struct{}
}

func (k *slowKEK) Wrap(ctx context.Context, plain, aad []byte) ([]byte, error) {
	b, err := k.family.Wrap(ctx, plain, aad)
	if k.slow.Load() {
		k.asked <- struct{}{}
		<-k.may
	}
	return b, err
}

// TestKEKsWaitForWhatIsBeingWrapped: who is told that nothing needs a key may destroy
// it, so what an operation under way wraps by it counts.
func TestKEKsWaitForWhatIsBeingWrapped(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*queue.Options, queue.KEK)
		act  func(context.Context, *queue.DB) error
		asks func(*queue.DB) ([]string, error)
	}{
		"secret": {
			set:  func(o *queue.Options, k queue.KEK) { o.PINKEK = k },
			act:  func(ctx context.Context, db *queue.DB) error { return db.Add(ctx, withPIN(), pin("493817")) },
			asks: (*queue.DB).SecretKEKs,
		},
		"grant": {
			set: func(o *queue.Options, k queue.KEK) { o.KEK = k },
			act: func(ctx context.Context, db *queue.DB) error {
				return db.KeepGrant(ctx, "finpay", granted, pin(grantContent), soon())
			},
			asks: (*queue.DB).KEKs,
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := options(t)
			k := &slowKEK{family: &family{}, asked: make(chan struct{}), may: make(chan struct{})}
			k.rotate(t)
			c.set(&opt, k)
			db := open(t, opt)
			k.slow.Store(true)
			done := make(chan error, 1)
			go func() { done <- c.act(t.Context(), db) }()
			<-k.asked
			k.rotate(t)
			asked := make(chan []string, 1)
			go func() {
				names, err := c.asks(db)
				if err != nil {
					t.Error(err)
				}
				asked <- names
			}()
			select {
			case names := <-asked:
				t.Fatalf("it answered %v while a key was being wrapped by kek@g1", names)
			case <-time.After(50 * time.Millisecond):
			}
			close(k.may)
			require.Contains(t, <-asked, "kek@g1")
			require.NoError(t, <-done)
		})
	}
}

// TestRotationOfARealKEK is the same with a token.
func TestRotationOfARealKEK(t *testing.T) {
	t.Parallel()
	store := softhsmtest.New(t).Open(t)
	ctx := t.Context()
	for _, l := range []string{"kek", "pin-kek"} {
		_, err := store.Generate(ctx, keystore.NewKey{Label: l, Kind: keystore.KindAES256})
		require.NoError(t, err)
	}
	opt := options(t)
	main, err := store.Wrapper("pkcs11:object=kek")
	require.NoError(t, err)
	pins, err := store.Wrapper("pkcs11:object=pin-kek")
	require.NoError(t, err)
	opt.KEK, opt.PINKEK = tokenKEK{main}, tokenKEK{pins}
	db := open(t, opt)
	r := withPIN()
	require.NoError(t, db.Add(ctx, r, pin("493817")))
	require.Equal(t, []string{"pkcs11:object=kek"}, keks(t, db))

	for _, l := range []string{"kek@g2", "pin-kek@g2"} {
		_, err := store.Generate(ctx, keystore.NewKey{Label: l, Kind: keystore.KindAES256})
		require.NoError(t, err)
	}
	_, err = store.Refresh(ctx)
	require.NoError(t, err)
	n, err := db.Rewrap(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"pkcs11:object=kek@g2"}, keks(t, db))
	require.NoError(t, store.Destroy(ctx, "pkcs11:object=kek;type=secret-key"))

	// The PIN's key was wrapped by the first and still opens.
	v, err := db.Secret(ctx, r)
	require.NoError(t, err)
	require.Equal(t, "493817", string(v.Bytes()))
	require.NoError(t, db.Close())
	db = open(t, opt)
	got, err := db.Get(ctx, r.Seq)
	require.NoError(t, err)
	require.Equal(t, r, got)
}
