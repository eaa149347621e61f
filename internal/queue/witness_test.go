package queue_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

const gone = "its witness is gone or spoiled, so that nobody can tell it from an old copy"

// later gives the request another state, in a commit of its own.
func later(t *testing.T, db *queue.DB, r *txn.Request, s txn.State) {
	t.Helper()
	r.State = s
	require.NoError(t, db.Update(t.Context(), r, nil))
}

func putBack(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// TestCopyMadeBetweenTwoTransitionsIsBehind puts back, for each moment of one
// request's life, what the file was then. All that changes in it is the request.
func TestCopyMadeBetweenTwoTransitionsIsBehind(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	copies := [][]byte{mustRead(t, opt.Path)}
	for _, s := range []txn.State{txn.Sending, txn.InDoubt, txn.Succeeded} {
		later(t, db, r, s)
		copies = append(copies, mustRead(t, opt.Path))
	}
	require.NoError(t, db.Close())
	last := len(copies) - 1
	witness := mustRead(t, opt.Path+".witness")
	for i, c := range copies {
		putBack(t, opt.Path, c)
		putBack(t, opt.Path+".witness", witness)
		db = open(t, opt)
		if i == last {
			require.Empty(t, db.Behind(), "nothing came after this one")
		} else {
			require.Regexp(t, `^it ends at commit \d+, and there were \d+$`, db.Behind())
		}
		require.NoError(t, db.Close())
	}
}

// TestAttemptThatBeganIsWitnessedAtOnce takes the witness as it is when Update
// returns, as a crash would find it.
func TestAttemptThatBeganIsWitnessedAtOnce(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	copied := mustRead(t, opt.Path)
	later(t, db, r, txn.Sending)
	witness := mustRead(t, opt.Path+".witness")
	require.NoError(t, db.Close())
	putBack(t, opt.Path, copied)
	putBack(t, opt.Path+".witness", witness)
	require.NotEmpty(t, open(t, opt).Behind())
}

func TestCopyOfAStoppedJournalIsBehind(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *queue.DB, *txn.Request){
		"after a transition": func(t *testing.T, db *queue.DB, r *txn.Request) {
			t.Helper()
			later(t, db, r, txn.Sending)
		},
		"after a start only": func(*testing.T, *queue.DB, *txn.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			opt := quickOptions(t)
			db := open(t, opt)
			r := request("081234567890")
			require.NoError(t, db.Add(t.Context(), r, nil))
			require.NoError(t, db.Close())
			copied := mustRead(t, opt.Path)
			db = open(t, opt)
			require.Empty(t, db.Behind())
			between(t, db, r)
			require.NoError(t, db.Close())
			putBack(t, opt.Path, copied)
			require.Contains(t, open(t, opt).Behind(), "it ends at commit")
		})
	}
}

// TestPowerCutThatTakesTheWitnessBackIsNoCopy has each older witness beside the
// journal as it is, whole and with the newer slot torn in each way.
func TestPowerCutThatTakesTheWitnessBackIsNoCopy(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	r := request("081234567890")
	var older [][]byte
	for range 5 {
		older = append(older, mustRead(t, opt.Path+".witness"))
		if r.Seq == 0 {
			require.NoError(t, db.Add(t.Context(), r, nil))
		}
		later(t, db, r, txn.Sending)
	}
	require.NoError(t, db.Close())
	journal := mustRead(t, opt.Path)
	for _, w := range older {
		putBack(t, opt.Path, journal)
		putBack(t, opt.Path+".witness", w)
		db = open(t, opt)
		require.Empty(t, db.Behind())
		require.NoError(t, db.Close())
	}
}

// TestTornWitnessSlot spoils the slot that was being written: what the other one
// says still stands.
func TestTornWitnessSlot(t *testing.T) {
	opt := quickOptions(t).WithIdle(time.Hour) // one slot is written, the other is on the disk
	db := open(t, opt)
	copied := mustRead(t, opt.Path) // older than either slot will be
	require.NoError(t, db.Close())
	db = open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	before := mustRead(t, opt.Path+".witness")
	later(t, db, r, txn.Sending)
	after := mustRead(t, opt.Path+".witness")
	require.NoError(t, db.Close())
	journal := mustRead(t, opt.Path)

	slot := 0
	if bytes.Equal(before[:queue.SlotEvery], after[:queue.SlotEvery]) {
		slot = queue.SlotEvery
	}
	other := queue.SlotEvery - slot
	require.Equal(t, before[other:other+100], after[other:other+100], "what is on the disk is not written over")
	for name, spoil := range map[string]func([]byte){
		"a byte":  func(b []byte) { b[slot+30] ^= 1 },
		"zeros":   func(b []byte) { clear(b[slot : slot+100]) },
		"half":    func(b []byte) { copy(b[slot+26:slot+48], make([]byte, 22)) },
		"rubbish": func(b []byte) { copy(b[slot:], "rubbish") },
	} {
		t.Run(name, func(t *testing.T) {
			torn := append([]byte(nil), after...)
			spoil(torn)
			putBack(t, opt.Path, journal)
			putBack(t, opt.Path+".witness", torn)
			db := open(t, opt)
			require.Empty(t, db.Behind())
			require.NoError(t, db.Close())

			putBack(t, opt.Path, copied)
			putBack(t, opt.Path+".witness", torn)
			db = open(t, opt)
			require.Contains(t, db.Behind(), "it ends at commit")
			require.NoError(t, db.Close())
		})
	}
}

// TestWitnessIsSyncedSoon: after a sync the other slot is the one written.
func TestWitnessIsSyncedSoon(t *testing.T) {
	opt := quickOptions(t).WithIdle(5 * time.Millisecond)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	start := mustRead(t, opt.Path+".witness")
	require.Eventually(t, func() bool {
		later(t, db, r, txn.Sending)
		time.Sleep(10 * time.Millisecond)
		now := mustRead(t, opt.Path+".witness")
		return !bytes.Equal(now[:100], start[:100]) &&
			!bytes.Equal(now[queue.SlotEvery:queue.SlotEvery+100], start[queue.SlotEvery:queue.SlotEvery+100])
	}, patience, time.Millisecond)
}

func TestBehindLastsUntilItIsAccepted(t *testing.T) {
	opt := written(t, 3)
	copied := mustRead(t, opt.Path)
	db := open(t, opt)
	salt := db.Identity().Salt
	var last uint64
	var err error
	for range queue.SerialBlock + 10 {
		last, err = db.Serial(t.Context())
		require.NoError(t, err)
	}
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.NoError(t, db.Close())
	putBack(t, opt.Path, copied)

	for i := range 2 {
		db = open(t, opt)
		if i == 0 {
			require.Contains(t, db.Behind(), "it ends at commit")
		} else {
			require.Equal(t, "it was put back from a copy or salvaged from a damaged file, and that is not settled yet", db.Behind())
		}
		require.NotEqual(t, salt, db.Identity().Salt, "no external id may be made twice")
		n, err := db.Serial(t.Context())
		require.NoError(t, err)
		require.Greater(t, n, last)
		require.NoError(t, db.Close())
	}
	db = open(t, opt)
	again := request("081234567890")
	require.NoError(t, db.Add(t.Context(), again, nil))
	require.Greater(t, again.Seq, r.Seq)
	require.NoError(t, db.AcceptBehind(t.Context()))
	require.Empty(t, db.Behind())
	require.NoError(t, db.Close())
	require.Empty(t, open(t, opt).Behind())
}

func TestAnotherJournalInItsPlaceIsBehind(t *testing.T) {
	opt := written(t, 3)
	other := written(t, 9)
	putBack(t, opt.Path, mustRead(t, other.Path))
	opt.KEK = other.KEK
	db := open(t, opt)
	require.Equal(t, "another journal stood here before", db.Behind())
	require.NoError(t, db.AcceptBehind(t.Context()))
	require.NoError(t, db.Close())
	require.Empty(t, open(t, opt).Behind())
}

// TestJournalWithoutItsWitnessIsTakenForACopy: a file that somebody brought from
// elsewhere comes without one, and no power cut takes it.
func TestJournalWithoutItsWitnessIsTakenForACopy(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"emptied": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"zeros":   func(t *testing.T, path string) { putBack(t, path, make([]byte, 8192)) },
		"text":    func(t *testing.T, path string) { putBack(t, path, []byte("{")) },
		"long":    func(t *testing.T, path string) { putBack(t, path, make([]byte, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			opt := written(t, 3)
			spoil(t, opt.Path+".witness")
			db := open(t, opt)
			require.Equal(t, gone, db.Behind())
			require.NoError(t, db.AcceptBehind(t.Context()))
			require.NoError(t, db.Close())
			require.Len(t, mustRead(t, opt.Path+".witness"), 8192)
			require.Empty(t, open(t, opt).Behind())
		})
	}
	t.Run("nothing was ever in it", func(t *testing.T) {
		opt := written(t, 0)
		require.NoError(t, os.Remove(opt.Path+".witness"))
		require.Empty(t, open(t, opt).Behind())
	})
}

func TestWitnessThatCannotBeReadStopsOpening(t *testing.T) {
	opt := written(t, 3)
	kept := mustRead(t, opt.Path+".witness")
	require.NoError(t, os.Remove(opt.Path+".witness"))
	require.NoError(t, os.Mkdir(opt.Path+".witness", 0o700))
	var e *queue.Error
	require.ErrorAs(t, refused(t, opt), &e)
	require.Contains(t, e.Hint, ".witness")
	require.NoError(t, os.Remove(opt.Path+".witness"))
	putBack(t, opt.Path+".witness", kept)
	require.Empty(t, open(t, opt).Behind(), "the attempt changed nothing")
}

// TestFailedCommitsAreNotWitnessed: the journal that comes of them is whole.
func TestFailedCommitsAreNotWitnessed(t *testing.T) {
	for name, effect := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			opt, d, db := faulty(t)
			require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
			d.effect.Store(effect)
			d.failing.Store(1)
			err := db.Add(t.Context(), request("0812000002"), nil)
			require.Equal(t, effect, err == nil)
			copied := mustRead(t, opt.Path)
			witness := mustRead(t, opt.Path+".witness")
			require.NoError(t, db.Close())
			putBack(t, opt.Path, copied)
			putBack(t, opt.Path+".witness", witness)
			db = open(t, opt.WithCommit(nil))
			require.Empty(t, db.Behind())
			require.NoError(t, db.Close())
		})
	}
}

// TestFullDiskDoesNotStopTheWitness opens and goes on where no byte is left.
func TestFullDiskDoesNotStopTheWitness(t *testing.T) {
	opt := onSmallDisk(t, smallOptions(t), "1m")
	opt.Reserve = 256 << 10
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.NoError(t, db.Close())
	fill, err := os.Create(opt.Path + ".fill")
	require.NoError(t, err)
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, fill.Close())
	copied := mustRead(t, opt.Path)
	db = open(t, opt)
	require.Empty(t, db.Behind())
	later(t, db, r, txn.Sending)
	require.NoError(t, db.Close())
	require.NoError(t, os.Remove(opt.Path+".fill"))
	putBack(t, opt.Path, copied)
	require.NotEmpty(t, open(t, opt).Behind())
}
