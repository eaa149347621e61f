package queue_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// written leaves a closed journal with n requests.
func written(t *testing.T, n int) queue.Options {
	t.Helper()
	opt := quickOptions(t)
	db := open(t, opt)
	for range n {
		require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	}
	require.NoError(t, db.Close())
	return opt
}

func refused(t *testing.T, opt queue.Options) error {
	t.Helper()
	db, err := queue.Open(t.Context(), opt)
	if err == nil {
		require.NoError(t, db.Close())
	}
	require.Error(t, err)
	return err
}

func changeMeta(t *testing.T, path string, key, value []byte) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, b.Update(func(tx *bbolt.Tx) error { return tx.Bucket(queue.BucketMeta).Put(key, value) }))
	require.NoError(t, b.Close())
}

func TestNewJournalTakesItsSpaceAtOnce(t *testing.T) {
	opt := options(t)
	opt.Reserve = 1 << 20
	db := open(t, opt)
	require.Equal(t, int64(1<<20), db.Stats().FileBytes)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(opt.Path, &st))
	require.GreaterOrEqual(t, st.Blocks*512, int64(1<<20), "no holes")
	require.Empty(t, db.Behind())
	require.Empty(t, db.StampOnDisk())
	id := db.Identity()
	require.Equal(t, uint32(4711), id.Kiosk)
	require.Less(t, id.Salt, uint64(txn.MaxSalt))
	require.NoError(t, db.Close())
	fi, err := os.Stat(opt.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	list, err := filepath.Glob(opt.Path + ".*")
	require.NoError(t, err)
	require.Equal(t, []string{opt.Path + ".witness"}, list)

	db = open(t, opt)
	require.Equal(t, id, db.Identity())
	require.NoError(t, db.Close())
	require.NotEqual(t, id.Salt, open(t, options(t)).Identity().Salt)
}

func TestSecondAgentIsRefused(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	var locked *queue.LockedError
	require.ErrorAs(t, refused(t, opt), &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil), "the first one goes on")
}

// TestChildThatIsBeingBornKeepsNoLock: until it executes, it has every file that was open
// when it was begun, and with it the file's lock.
func TestChildThatIsBeingBornKeepsNoLock(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	for range 300 { // it takes a while to look through
		require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	}
	require.NoError(t, db.Close())
	var room, caught atomic.Int64 // descriptors, while the journal is being opened
	var over atomic.Bool
	var inherited []int
	var child sync.WaitGroup
	inherit := func(name string) {
		n, err := strconv.Atoi(filepath.Base(name))
		if to, lerr := os.Readlink(name); err != nil || lerr != nil || to != opt.Path {
			return
		}
		if fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0); err == nil { //nolint:gosec // a descriptor
			inherited = append(inherited, fd)
			room.Add(-1)
			caught.Add(1)
		}
	}
	child.Go(func() {
		for !over.Load() {
			names, _ := filepath.Glob("/proc/self/fd/*")
			for _, name := range names {
				if room.Load() > 0 {
					inherit(name)
				}
			}
		}
	})
	var err error
	for n := 0; n < 8 || caught.Load() == 0; n++ {
		room.Store(8)
		if db, err = queue.Open(t.Context(), opt); err != nil {
			break
		}
		require.NoError(t, db.Close())
	}
	over.Store(true)
	child.Wait()
	for _, fd := range inherited {
		_ = unix.Close(fd)
	}
	require.NoError(t, err)
}

func TestVanishedJournalIsNotReplaced(t *testing.T) {
	opt := written(t, 1)
	aside := opt.Path + ".aside"
	require.NoError(t, os.Rename(opt.Path, aside))
	err := refused(t, opt)
	require.ErrorIs(t, err, queue.ErrVanished)
	require.ErrorContains(t, err, "put the file back")
	require.NoFileExists(t, opt.Path)

	// A witness that a power loss emptied still says that there was a journal.
	require.NoError(t, os.Truncate(opt.Path+".witness", 0))
	require.ErrorIs(t, refused(t, opt), queue.ErrVanished)
	require.NoError(t, os.Rename(aside, opt.Path))
	require.Equal(t, 1, open(t, opt).Stats().Items)
}

func TestDamagedFilesAreRefused(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"cut to a page":     func(b []byte) []byte { return b[:4096] },
		"cut to five pages": func(b []byte) []byte { return b[:5*4096] },
		"zeros":             func(b []byte) []byte { clear(b); return b },
		"text":              func([]byte) []byte { return []byte("this is not a journal") },
		"both headers":      func(b []byte) []byte { b[40]++; b[4096+40]++; return b },
		"swapped pages":     func(b []byte) []byte { copy(b[2*4096:3*4096], b[3*4096:4*4096]); return b },
		"all pages zeroed":  func(b []byte) []byte { clear(b[2*4096:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			opt := written(t, 30)
			whole, err := os.ReadFile(opt.Path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(opt.Path, spoil(append([]byte(nil), whole...)), 0o600))
			err = refused(t, opt)
			require.ErrorIs(t, err, queue.ErrDamaged)
			require.ErrorContains(t, err, opt.Path)
			require.ErrorContains(t, err, "move it and its .witness aside")
			require.NoError(t, os.WriteFile(opt.Path, whole, 0o600))
			require.Equal(t, 30, open(t, opt).Stats().Items)
		})
	}
}

func TestOtherBoltFileIsRefused(t *testing.T) {
	opt := options(t)
	b, err := bbolt.Open(opt.Path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	err = refused(t, opt)
	require.ErrorIs(t, err, queue.ErrDamaged)
	require.ErrorContains(t, err, "not a journal")
}

func TestNewerSchemaIsRefused(t *testing.T) {
	opt := written(t, 1)
	changeMeta(t, opt.Path, queue.MetaSchema, binary.BigEndian.AppendUint32(nil, 2))
	changeMeta(t, opt.Path, []byte("readable"), binary.BigEndian.AppendUint32(nil, 2))
	err := refused(t, opt)
	require.ErrorIs(t, err, queue.ErrNewer)
	require.ErrorContains(t, err, "schema is 2 and this one knows up to 1; install that release again")
}

func TestDamagedStateIsRefused(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return []byte{} },
		"other key": func(b []byte) []byte { b[7] ^= 0x40; return b },
		"a counter": func(b []byte) []byte { b[8+12+3] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			opt := written(t, 1)
			b, err := bbolt.Open(opt.Path, 0o600, nil)
			require.NoError(t, err)
			var state []byte
			require.NoError(t, b.View(func(tx *bbolt.Tx) error {
				state = append(state, tx.Bucket(queue.BucketMeta).Get(queue.MetaState)...)
				return nil
			}))
			require.NoError(t, b.Close())
			changeMeta(t, opt.Path, queue.MetaState, spoil(state))
			require.ErrorIs(t, refused(t, opt), queue.ErrDamaged)
		})
	}
}

func TestOtherTokenIsToldApartFromAbsentToken(t *testing.T) {
	opt := written(t, 1)
	other := opt
	other.KEK = newKEK(t, "another-kek")
	err := refused(t, other)
	require.ErrorIs(t, err, queue.ErrWrongKEK)
	require.ErrorContains(t, err, `it was sealed under "journal-kek", configured is "another-kek"`)

	absent := errors.New("no token in the slot")
	opt.KEK.(*memKEK).fail.Store(&absent)
	err = refused(t, opt)
	require.ErrorIs(t, err, absent)
	require.NotErrorIs(t, err, queue.ErrWrongKEK)
	opt.KEK.(*memKEK).fail.Store(nil)
	require.Equal(t, 1, open(t, opt).Stats().Items)
}

func TestAbsentTokenCreatesNoJournal(t *testing.T) {
	opt := options(t)
	absent := errors.New("no token in the slot")
	opt.KEK.(*memKEK).fail.Store(&absent)
	require.ErrorIs(t, refused(t, opt), absent)
	list, err := filepath.Glob(filepath.Join(filepath.Dir(opt.Path), "journal*"))
	require.NoError(t, err)
	require.Empty(t, list)
	opt.KEK.(*memKEK).fail.Store(nil)
	open(t, opt)
}

func TestKeysOfAnOldKEKAreCountedUntilNothingNeedsThem(t *testing.T) {
	opt := written(t, 1)
	old := opt.KEK.(*memKEK)
	opt.KEK = &rotated{memKEK: newKEK(t, "journal-kek@g2"), old: old}
	db := open(t, opt)
	require.Equal(t, []string{"journal-kek", "journal-kek@g2"}, db.Stats().KEKs)
	r, err := db.Get(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, db.Update(t.Context(), r, nil), "a transition seals the record anew")
	require.NoError(t, db.Update(t.Context(), r, nil), "and the next commit drops the old key")
	require.Equal(t, []string{"journal-kek@g2"}, db.Stats().KEKs)
	require.NoError(t, db.Close())
	opt.KEK = opt.KEK.(*rotated).memKEK
	require.Equal(t, 1, open(t, opt).Stats().Items)
}

// rotated wraps under a new key and still unwraps what the old one wrapped.
type rotated struct {
	*memKEK
	old *memKEK
}

func (k *rotated) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	p, err := k.memKEK.Unwrap(ctx, wrapped, aad)
	if errors.Is(err, queue.ErrKeyMismatch) {
		return k.old.Unwrap(ctx, wrapped, aad)
	}
	return p, err
}

func TestKeyFolderMustBeInMemory(t *testing.T) {
	opt := options(t)
	opt.DangerousAllowKeyDirOnDisk = false
	tmp, err := os.MkdirTemp("/dev/shm", "gardu-test-") //nolint:usetesting // it must be on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(tmp)) })

	onDisk := opt
	onDisk.KeyDir = "/proc/self" // neither tmpfs nor ramfs on any machine
	err = refused(t, onDisk)
	require.ErrorIs(t, err, queue.ErrKeyDir)

	opt.KeyDir = filepath.Join(tmp, "missing", "keys")
	require.ErrorIs(t, refused(t, opt), queue.ErrKeyDir)
	opt.KeyDir = filepath.Join(tmp, "file")
	require.NoError(t, os.WriteFile(opt.KeyDir, nil, 0o600))
	require.ErrorIs(t, refused(t, opt), queue.ErrKeyDir)

	opt.KeyDir = filepath.Join(tmp, "keys")
	require.NoError(t, os.Mkdir(opt.KeyDir, 0o755)) //nolint:gosec // what is to be mended
	open(t, opt)
	fi, err := os.Stat(opt.KeyDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
}

func TestSweepDestroysKeysThatNoRecordWants(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	require.NoError(t, db.Close())
	orphans := []string{
		fmt.Sprintf("%s.pin.0011223344556677", r.ID), // filed for an update that was never committed
		fmt.Sprintf("%s.otp.0011223344556677", newID()),
	}
	for _, f := range append(orphans, "not-ours.txt") {
		require.NoError(t, os.WriteFile(filepath.Join(opt.KeyDir, f), []byte("x"), 0o600))
	}
	db = open(t, opt)
	for _, f := range orphans {
		require.NoFileExists(t, filepath.Join(opt.KeyDir, f))
	}
	require.FileExists(t, filepath.Join(opt.KeyDir, "not-ours.txt"))
	v, err := db.Secret(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, "493817", string(v.Bytes()))
}

func TestSecretIsLostWithItsKey(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"gone":    func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
		"empty":   func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 0)) },
		"changed": func(t *testing.T, file string) { flipLast(t, file) },
	} {
		t.Run(name, func(t *testing.T) {
			opt := options(t)
			db := open(t, opt)
			r := request("081234567890")
			r.Secret = txn.SecretPIN
			require.NoError(t, db.Add(t.Context(), r, pin("493817")))
			spoil(t, keyFiles(t, opt)[0])
			_, err := db.Secret(t.Context(), r)
			require.ErrorIs(t, err, txn.ErrSecretLost)
			_, err = db.Get(t.Context(), r.Seq)
			require.NoError(t, err, "the request itself is whole")
			r.Secret, r.State = "", txn.Expired
			require.NoError(t, db.Update(t.Context(), r, nil))
			require.Empty(t, keyFiles(t, opt))
		})
	}
}

func TestAbsentTokenDoesNotLoseASecret(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	absent := errors.New("no token in the slot")
	opt.PINKEK.(*memKEK).fail.Store(&absent)
	_, err := db.Secret(t.Context(), r)
	require.ErrorIs(t, err, absent)
	require.NotErrorIs(t, err, txn.ErrSecretLost)
	other := request("081234567890")
	other.Secret = txn.SecretPIN
	require.ErrorIs(t, db.Add(t.Context(), other, pin("493817")), absent)
	require.Equal(t, 1, db.Stats().Items)
	opt.PINKEK.(*memKEK).fail.Store(nil)
	_, err = db.Secret(t.Context(), r)
	require.NoError(t, err)
}

func flipLast(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(file, b, 0o600))
}

func TestStampIsStoredWithEachCommitAndNotByOpening(t *testing.T) {
	opt := options(t)
	now := "first"
	opt.Stamp = func() []byte { return []byte(now) }
	db := open(t, opt)
	require.Empty(t, db.StampOnDisk())
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	require.Equal(t, "first", string(db.StampOnDisk()))
	require.NoError(t, db.Close())

	now = "second"
	for range 2 { // what the run before left is still there after a run that wrote nothing
		db = open(t, opt)
		require.Equal(t, "first", string(db.StampOnDisk()))
		require.NoError(t, db.Close())
	}
	db = open(t, opt)
	require.NoError(t, db.Delete(t.Context(), []uint64{1}))
	require.Equal(t, "second", string(db.StampOnDisk()))
}

// countedKEK counts what it wrapped.
type countedKEK struct {
	queue.KEK
	wraps atomic.Int64
}

func (k *countedKEK) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	k.wraps.Add(1)
	return k.KEK.Wrap(ctx, plaintext, aad)
}

func TestDataKeysWearOutAndAreDropped(t *testing.T) {
	opt := quickOptions(t).WithKeys(10, time.Hour)
	kek := &countedKEK{KEK: opt.KEK}
	opt.KEK = kek
	db := open(t, opt)
	still, busy := request("0812000001"), request("0812000002")
	require.NoError(t, db.Add(t.Context(), still, nil))
	require.NoError(t, db.Add(t.Context(), busy, nil))
	for made := kek.wraps.Load(); kek.wraps.Load() < made+10 || db.Stats().DataKeys < 2; {
		busy.Tries++
		require.NoError(t, db.Update(t.Context(), busy, nil))
		require.LessOrEqual(t, db.Stats().DataKeys, 3, "that of each record, and the newest")
	}
	require.NoError(t, db.Close())
	db = open(t, opt)
	for _, want := range []*txn.Request{still, busy} {
		got, err := db.Get(t.Context(), want.Seq)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.NoError(t, db.Delete(t.Context(), []uint64{still.Seq, busy.Seq}))
	require.NoError(t, db.Add(t.Context(), request("0812000003"), nil))
	require.LessOrEqual(t, db.Stats().DataKeys, 2)
}

func TestWornKeyServesOnWhileTheTokenIsAbsent(t *testing.T) {
	opt := options(t).WithKeys(10, time.Hour)
	db := open(t, opt)
	absent := errors.New("no token in the slot")
	opt.KEK.(*memKEK).fail.Store(&absent)
	r := request("0812000001")
	require.NoError(t, db.Add(t.Context(), r, nil))
	for range 50 {
		require.NoError(t, db.Update(t.Context(), r, nil))
	}
	require.Equal(t, 1, db.Stats().DataKeys)
}
