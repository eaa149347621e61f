package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

var errDisk = errors.New("input/output error")

// disk decides what commits do: the next n of them fail, with or without their
// effect in the file.
type disk struct {
	failing atomic.Int32
	effect  atomic.Bool
	panics  atomic.Bool
}

func (d *disk) commit(tx *bbolt.Tx) error {
	if d.failing.Add(-1) < 0 {
		d.failing.Store(0)
		return tx.Commit()
	}
	if d.effect.Load() {
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	if d.panics.Load() {
		panic("page 7: has unexpected type/flags: 0")
	}
	return errDisk
}

func faulty(t *testing.T) (queue.Options, *disk, *queue.DB) {
	t.Helper()
	d := new(disk)
	opt := options(t).WithCommit(d.commit)
	return opt, d, open(t, opt)
}

func withPIN() *txn.Request {
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	return r
}

func TestFailedCommitIsAnsweredByWhatTheDiskSays(t *testing.T) {
	for name, c := range map[string]struct{ effect, panics bool }{
		"error without effect": {},
		"error with effect":    {effect: true},
		"panic without effect": {panics: true},
		"panic with effect":    {effect: true, panics: true},
	} {
		t.Run(name, func(t *testing.T) {
			opt, d, db := faulty(t)
			before := withPIN()
			require.NoError(t, db.Add(t.Context(), before, pin("111111")))
			d.effect.Store(c.effect)
			d.panics.Store(c.panics)

			d.failing.Store(1)
			r := withPIN()
			err := db.Add(t.Context(), r, pin("222222"))
			require.NotErrorIs(t, err, txn.ErrStoreUnknown)
			if c.effect {
				require.NoError(t, err)
				require.Len(t, keyFiles(t, opt), 2)
			} else {
				require.Error(t, err)
				require.NotErrorIs(t, err, txn.ErrFull)
				require.Zero(t, r.Seq)
				require.Len(t, keyFiles(t, opt), 1, "its key went with it")
			}

			d.failing.Store(1)
			before.Secret, before.State = "", txn.Cancelled
			err = db.Update(t.Context(), before, nil)
			got, gerr := db.Get(t.Context(), before.Seq)
			require.NoError(t, gerr)
			if c.effect {
				require.NoError(t, err)
				require.Equal(t, txn.Cancelled, got.State)
			} else {
				require.Error(t, err)
				require.Equal(t, txn.Queued, got.State)
				v, err := db.Secret(t.Context(), got)
				require.NoError(t, err, "its key is still there")
				require.Equal(t, "111111", string(v.Bytes()))
			}
			require.NoError(t, db.Stats().Down)
			require.Equal(t, count(t, db), db.Stats().Items)
			require.NoError(t, db.Add(t.Context(), request("0812000001"), nil), "it goes on")
		})
	}
}

func count(t *testing.T, db *queue.DB) int {
	t.Helper()
	n := 0
	require.NoError(t, db.Each(t.Context(), func(_ *txn.Request, err error) error {
		n++
		return err
	}))
	return n
}

func TestUnknownUntilTheFileCanBeOpenedAgain(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			opt, d, db := faulty(t)
			require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
			d.effect.Store(effect)
			d.failing.Store(1)
			aside := opt.Path + ".aside"
			require.NoError(t, os.Rename(opt.Path, aside))

			r := withPIN()
			err := db.Add(t.Context(), r, pin("222222"))
			require.ErrorIs(t, err, txn.ErrStoreUnknown)
			require.ErrorIs(t, err, errDisk)
			require.NotZero(t, r.Seq, "where it is, if it is")
			require.Len(t, keyFiles(t, opt), 1, "the key stays until it is known")
			_, err = db.Get(t.Context(), 1)
			require.ErrorIs(t, err, queue.ErrDown)
			require.ErrorIs(t, db.Add(t.Context(), request("0812000002"), nil), queue.ErrDown)
			require.ErrorIs(t, db.Each(t.Context(), nil), queue.ErrDown)
			require.Error(t, db.Stats().Down)

			require.NoError(t, os.Rename(aside, opt.Path))
			require.Eventually(t, func() bool {
				return db.Delete(t.Context(), []uint64{1}) == nil
			}, patience, 100*time.Millisecond)
			got, err := db.Get(t.Context(), r.Seq)
			if effect {
				require.NoError(t, err)
				require.Equal(t, r.ID, got.ID)
				_, err = db.Secret(t.Context(), got)
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, txn.ErrNotFound)
				require.Empty(t, keyFiles(t, opt))
			}
			require.NoError(t, db.Stats().Down)
		})
	}
}

func TestDiskThatRefusesTwiceIsUnknownUntilItDoesNot(t *testing.T) {
	t.Parallel()
	opt, d, db := faulty(t)
	opt.Log = nil
	d.failing.Store(2) // the batch, and the proof that the disk takes writes again
	require.ErrorIs(t, db.Add(t.Context(), withPIN(), pin("222222")), txn.ErrStoreUnknown)
	require.Eventually(t, func() bool {
		return db.Add(t.Context(), request("0812000002"), nil) == nil
	}, patience, 100*time.Millisecond)
	require.Equal(t, 1, count(t, db))
	require.Empty(t, keyFiles(t, opt))

	d.effect.Store(true)
	d.failing.Store(2)
	require.ErrorIs(t, db.Add(t.Context(), withPIN(), pin("333333")), txn.ErrStoreUnknown)
	require.Eventually(t, func() bool {
		return db.Add(t.Context(), request("0812000003"), nil) == nil
	}, patience, 100*time.Millisecond)
	require.Equal(t, 3, count(t, db))
	require.Len(t, keyFiles(t, opt), 1)
}

func TestOpensAgainByItself(t *testing.T) {
	t.Parallel()
	d := new(disk)
	opt := options(t).WithCommit(d.commit).WithIdle(20 * time.Millisecond)
	db := open(t, opt)
	d.failing.Store(2)
	require.ErrorIs(t, db.Add(t.Context(), request("0812000001"), nil), txn.ErrStoreUnknown)
	require.Eventually(t, func() bool { return db.Stats().Down == nil }, patience, 20*time.Millisecond)
}

func TestJournalThatSomebodyElseChangedStaysClosed(t *testing.T) {
	t.Parallel()
	d := new(disk)
	opt := options(t).WithCommit(d.commit).WithIdle(time.Hour) // it opens again when it is asked, and not before the other has
	db := open(t, opt)
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	d.failing.Store(1)
	aside := opt.Path + ".aside"
	require.NoError(t, os.Rename(opt.Path, aside))
	require.ErrorIs(t, db.Add(t.Context(), request("0812000002"), nil), txn.ErrStoreUnknown)
	require.NoError(t, os.Rename(aside, opt.Path))

	plain := opt.WithCommit(nil)
	other, err := queue.Open(t.Context(), plain)
	require.NoError(t, err, "its lock went with the closed file")
	require.NoError(t, other.Close())
	time.Sleep(1100 * time.Millisecond) // past the pause between attempts
	err = db.Add(t.Context(), request("0812000003"), nil)
	require.ErrorIs(t, err, queue.ErrDown)
	require.ErrorContains(t, err, "another process changed the journal")
}

func TestFailedCommitFailsEverybodyInIt(t *testing.T) {
	d := new(disk)
	hold := make(chan struct{})
	started := make(chan struct{}, 100)
	opt := options(t).WithCommit(d.commit)
	opt.Stamp = func() []byte {
		started <- struct{}{}
		<-hold
		return nil
	}
	db := open(t, opt)
	errs := make(chan error, 9)
	add := func() { errs <- db.Add(t.Context(), request("0812000001"), nil) }
	go add()
	<-started
	for range 8 { // they come together in the next commit
		go add()
	}
	hold <- struct{}{}
	require.NoError(t, <-errs)
	d.failing.Store(1)
	close(hold)
	failed := 0
	for range 8 {
		if err := <-errs; err != nil {
			require.NotErrorIs(t, err, txn.ErrStoreUnknown)
			failed++
		}
	}
	require.NotZero(t, failed)
	require.Equal(t, 9-failed, count(t, db))
}

func TestPreconditionOfOneDoesNotFailTheOthers(t *testing.T) {
	hold := make(chan struct{})
	started := make(chan struct{}, 100)
	opt := options(t)
	opt.MaxItems = 2
	opt.Stamp = func() []byte {
		started <- struct{}{}
		<-hold
		return nil
	}
	db := open(t, opt)
	first := make(chan error, 1)
	go func() { first <- db.Add(t.Context(), request("0812000001"), nil) }()
	<-started
	ghost := request("0812000001")
	ghost.Seq = 77
	results := make(chan error, 4)
	go func() { results <- db.Update(t.Context(), ghost, nil) }()
	for range 3 {
		go func() { results <- db.Add(t.Context(), request("0812000001"), nil) }()
	}
	lined(t, db, 4)
	close(hold)
	require.NoError(t, <-first)
	var stored, full, missing int
	for range 4 {
		switch err := <-results; {
		case err == nil:
			stored++
		case errors.Is(err, txn.ErrFull):
			full++
		case errors.Is(err, txn.ErrNotFound):
			missing++
		}
	}
	require.Equal(t, []int{1, 2, 1}, []int{stored, full, missing})
}

func TestCancelledInTheLineIsNotStored(t *testing.T) {
	hold := make(chan struct{})
	started := make(chan struct{}, 100)
	opt := options(t)
	opt.Stamp = func() []byte {
		started <- struct{}{}
		<-hold
		return nil
	}
	db := open(t, opt)
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan error, 1)
	go func() { taken <- db.Add(ctx, request("0812000001"), nil) }()
	<-started // the first is in a commit; the second waits
	waiting := make(chan error, 1)
	go func() { waiting <- db.Add(ctx, withPIN(), pin("222222")) }()
	lined(t, db, 1)
	require.Len(t, keyFiles(t, opt), 1)
	cancel()
	require.ErrorIs(t, <-waiting, context.Canceled)
	require.Empty(t, keyFiles(t, opt))
	select {
	case err := <-taken:
		t.Fatalf("the one in the commit must wait for its result, but got %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(hold)
	require.NoError(t, <-taken)
	require.Equal(t, 1, count(t, db))
	require.ErrorIs(t, db.Add(ctx, request("0812000001"), nil), context.Canceled)
	_, err := db.Get(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	hold := make(chan struct{})
	started := make(chan struct{}, 100)
	opt := options(t)
	opt.Stamp = func() []byte {
		started <- struct{}{}
		<-hold
		return nil
	}
	db := open(t, opt)
	errs := make(chan error, 5)
	go func() { errs <- db.Add(t.Context(), request("0812000001"), nil) }()
	<-started
	for range 4 {
		go func() { errs <- db.Add(t.Context(), request("0812000001"), nil) }()
	}
	lined(t, db, 4)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	close(hold)
	for range 5 {
		require.NoError(t, <-errs)
	}
	require.NoError(t, <-closed)
	require.NoError(t, db.Close(), "twice is once")
	require.ErrorIs(t, db.Add(t.Context(), request("0812000001"), nil), queue.ErrClosed)
	_, err := db.Get(t.Context(), 1)
	require.ErrorIs(t, err, queue.ErrClosed)
	require.Equal(t, 5, open(t, opt).Stats().Items)
}

func TestSerialsAreUniqueOverGoroutinesAndRuns(t *testing.T) {
	opt := options(t)
	seen := map[uint64]bool{}
	for range 3 {
		db := open(t, opt)
		got := make(chan uint64)
		for range 8 {
			go func() {
				for range 300 {
					n, err := db.Serial(t.Context())
					if err != nil {
						n = 0
					}
					got <- n
				}
			}()
		}
		for range 8 * 300 {
			n := <-got
			require.NotZero(t, n)
			require.False(t, seen[n], "serial %d", n)
			seen[n] = true
		}
		require.NoError(t, db.Close())
	}
}

func TestCompactsWhenIdle(t *testing.T) {
	t.Parallel()
	opt := quickOptions(t).WithIdle(50 * time.Millisecond)
	db := open(t, opt)
	big := make([]byte, 55_000)
	var seqs []uint64
	for range 170 {
		r := request("0812000001")
		for i := range big {
			big[i] = "0123456789abcdef"[i%16]
		}
		r.Note = string(big)
		require.NoError(t, db.Add(t.Context(), r, nil))
		seqs = append(seqs, r.Seq)
	}
	keep := withPIN()
	require.NoError(t, db.Add(t.Context(), keep, pin("222222")))
	require.Greater(t, db.Stats().FileBytes, int64(8<<20))
	require.NoError(t, db.Delete(t.Context(), seqs))
	require.Eventually(t, func() bool { return db.Stats().FileBytes < 1<<20 }, patience, 50*time.Millisecond)
	// The new file has its name a moment before it is open; who writes waits for that.
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	require.NoError(t, db.Stats().Down)
	v, err := db.Secret(t.Context(), keep)
	require.NoError(t, err)
	require.Equal(t, "222222", string(v.Bytes()))
	_, err = queue.Open(t.Context(), opt)
	var locked *queue.LockedError
	require.ErrorAs(t, err, &locked, "the new file is locked as the old one was")
	require.NoError(t, db.Close())
	left, err := filepath.Glob(opt.Path + ".compact-*")
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, 2, open(t, opt).Stats().Items)
}
