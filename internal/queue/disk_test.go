package queue_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// onSmallDisk puts the journal on a file system of its own, of size bytes.
func onSmallDisk(t *testing.T, opt queue.Options, size string) queue.Options {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	opt.Path = filepath.Join(dir, "journal.db")
	t.Cleanup(func() { boltCheck(t, opt.Path) })
	return opt
}

// TestFullDiskRefusesAndGoesOn lets others fill the disk beside the journal.
func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	t.Parallel()
	opt := onSmallDisk(t, smallOptions(t), "4m")
	opt.Reserve = 1 << 20
	db := open(t, opt)
	filler, err := os.Create(filepath.Join(filepath.Dir(opt.Path), "others"))
	require.NoError(t, err)
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, filler.Close())

	var stored []*txn.Request
	for {
		r := withPIN()
		err := db.Add(t.Context(), r, pin("493817"))
		if err != nil {
			require.NotErrorIs(t, err, txn.ErrStoreUnknown)
			require.ErrorIs(t, err, txn.ErrFull)
			require.ErrorIs(t, err, unix.ENOSPC)
			require.Zero(t, r.Seq)
			break
		}
		stored = append(stored, r)
	}
	require.Greater(t, len(stored), 300, "what was reserved is there")
	require.Equal(t, len(stored), count(t, db))
	require.Len(t, keyFiles(t, opt), len(stored))
	for _, r := range stored[:20] { // completing and deleting go on
		r.State, r.Secret = txn.Succeeded, ""
		require.NoError(t, db.Update(t.Context(), r, nil))
	}
	var seqs []uint64
	for _, r := range stored[:100] {
		seqs = append(seqs, r.Seq)
	}
	require.NoError(t, db.Delete(t.Context(), seqs))
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil), "what was freed is used")
	require.NoError(t, db.Stats().Down)
	require.NoError(t, db.Check(t.Context()))
}

// smallOptions are options without the check of a file that is elsewhere.
func smallOptions(t *testing.T) queue.Options {
	t.Helper()
	return queue.Options{
		KeyDir: filepath.Join(t.TempDir(), "keys"), KEK: newKEK(t, "kek"), PINKEK: newKEK(t, "pin"), Kiosk: 1,
		DangerousAllowKeyDirOnDisk: true,
	}
}

func TestDiskWithoutRoomMakesNoJournal(t *testing.T) {
	t.Parallel()
	opt := onSmallDisk(t, smallOptions(t), "1m")
	err := refused(t, opt)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, opt.Path)
	list, err := os.ReadDir(filepath.Dir(opt.Path))
	require.NoError(t, err)
	require.Empty(t, list)
	opt.Reserve = -1
	open(t, opt)
}

// TestAgentsThatStartAtOnceMakeOneJournal has one winner; the others say who it is.
func TestAgentsThatStartAtOnceMakeOneJournal(t *testing.T) {
	opt := options(t)
	opt.Reserve = 1 << 20
	var wg sync.WaitGroup
	won := make(chan *queue.DB, 8)
	lost := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			if db, err := queue.Open(t.Context(), opt); err == nil {
				won <- db
			} else {
				lost <- err
			}
		})
	}
	wg.Wait()
	require.Len(t, won, 1)
	for range 7 {
		var locked *queue.LockedError
		require.ErrorAs(t, <-lost, &locked)
	}
	require.NoError(t, (<-won).Close())
	list, err := filepath.Glob(opt.Path + ".new-*")
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestKeyThatCannotBeDestroyedIsTriedAgain puts a folder in the key's place.
func TestKeyThatCannotBeDestroyedIsTriedAgain(t *testing.T) {
	opt := options(t).WithIdle(20 * time.Millisecond)
	db := open(t, opt)
	r := withPIN()
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	file := keyFiles(t, opt)[0]
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.MkdirAll(filepath.Join(file, "x"), 0o700))
	r.Secret = ""
	require.NoError(t, db.Update(t.Context(), r, nil), "the record is stored all the same")
	require.Equal(t, 1, db.Stats().KeyFilesDoomed)
	back := filepath.Join(t.TempDir(), "back") // at once: in between there would be nothing left to destroy
	require.NoError(t, os.WriteFile(back, []byte("the key"), 0o600))
	require.NoError(t, unix.Renameat2(unix.AT_FDCWD, back, unix.AT_FDCWD, file, unix.RENAME_EXCHANGE))
	require.Eventually(t, func() bool { return db.Stats().KeyFilesDoomed == 0 }, patience, 10*time.Millisecond)
	require.NoFileExists(t, file)
}

func TestStampThatIsTooLongKeepsTheOneBefore(t *testing.T) {
	opt := options(t)
	stamp := []byte("short")
	opt.Stamp = func() []byte { return stamp }
	db := open(t, opt)
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	stamp = make([]byte, 257)
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	require.Equal(t, "short", string(db.StampOnDisk()))
	stamp = make([]byte, 256)
	require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	require.NoError(t, db.Close())
	require.Len(t, open(t, opt).StampOnDisk(), 256)
}

func TestKEKWithoutAUsableNameIsRefused(t *testing.T) {
	for _, id := range []string{"", string(make([]byte, 256))} {
		opt := smallOptions(t)
		opt.Path = filepath.Join(t.TempDir(), "journal.db")
		opt.KEK = newKEK(t, id)
		require.ErrorIs(t, refused(t, opt), queue.ErrInvalid)
	}
}

func TestKEKThatGivesBackSomethingElseIsRefused(t *testing.T) {
	opt := smallOptions(t)
	opt.Path = filepath.Join(t.TempDir(), "journal.db")
	opt.KEK = brokenKEK{opt.KEK, nil}
	require.ErrorContains(t, refused(t, opt), "0 bytes came back")
	opt.KEK = brokenKEK{newKEK(t, "kek"), []byte{1}}
	require.ErrorIs(t, refused(t, opt), queue.ErrKeyMismatch)
	require.ErrorIs(t, refused(t, opt), queue.ErrWrongKEK)
}

// brokenKEK answers every call with the same bytes.
type brokenKEK struct {
	queue.KEK
	answer []byte
}

func (k brokenKEK) Wrap(context.Context, []byte, []byte) ([]byte, error)   { return k.answer, nil }
func (k brokenKEK) Unwrap(context.Context, []byte, []byte) ([]byte, error) { return k.answer, nil }

// TestFileGrowsWithoutHoles: what a commit writes into was written before.
func TestFileGrowsWithoutHoles(t *testing.T) {
	opt := options(t)
	opt.Reserve = 64 << 10
	db := open(t, opt)
	holeAt := func() int64 {
		f, err := os.Open(opt.Path)
		require.NoError(t, err)
		defer func() { require.NoError(t, f.Close()) }()
		at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE)
		require.NoError(t, err)
		return at
	}
	for before, grown := db.Stats().FileBytes, 0; grown < 2; {
		r := request("081234567890")
		r.Note = strings.Repeat("a note that fills the file ", 1000)
		require.NoError(t, db.Add(t.Context(), r, nil))
		size := db.Stats().FileBytes
		require.GreaterOrEqual(t, holeAt(), size)
		if size > before {
			before = size
			grown++
		}
	}
	require.NoError(t, db.Close())
	boltCheck(t, opt.Path)
}

// TestFileThatCannotGrowGivesBackWhatItTook: others need the rest of a full disk.
func TestFileThatCannotGrowGivesBackWhatItTook(t *testing.T) {
	opt := onSmallDisk(t, smallOptions(t), "640k")
	opt.Reserve = 64 << 10
	db := open(t, opt)
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.Equal(t, int64(64<<10), db.Stats().FileBytes)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(opt.Path), "others"), make([]byte, 512<<10), 0o600))
}
