package audit_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
)

// answer is what Append said of one entry.
type answer struct {
	head audit.Head
	err  error
}

// crowd appends n entries at once while somebody else holds the record's lock, so
// that they are written together. How far each one's context goes is for ends to say.
func crowd(t *testing.T, tr *audit.Trail, path string, n int, meanwhile func(), ends func(i int) time.Duration) []answer {
	t.Helper()
	lock, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	out := make([]answer, n)
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			ctx := context.Background()
			if d := ends(i); d > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d)
				defer cancel()
			}
			out[i].head, out[i].err = tr.Append(ctx, audit.Entry{Act: "crowd", Object: strconv.Itoa(i), Sync: i%3 == 0})
		})
	}
	time.Sleep(50 * time.Millisecond)
	if meanwhile != nil {
		meanwhile()
	}
	require.NoError(t, lock.Close())
	work.Wait()
	return out
}

// held says of each answer whether it is true: the line that its head names is its
// own, and what failed without saying otherwise is not there.
func held(t *testing.T, path string, answers []answer) (stored int) {
	t.Helper()
	type line struct {
		Seq    uint64 `json:"seq"`
		Act    string `json:"act"`
		Object string `json:"object"`
	}
	at := map[string]uint64{}
	for _, l := range lines(t, path) {
		var r line
		require.NoError(t, json.Unmarshal([]byte(l), &r))
		if r.Act == "crowd" {
			require.Zero(t, at[r.Object], "twice")
			at[r.Object] = r.Seq
		}
	}
	heads := map[string]bool{}
	for i, a := range answers {
		seq := at[strconv.Itoa(i)]
		switch {
		case a.err == nil || strings.Contains(a.err.Error(), "is written, but"):
			require.NotZero(t, seq, i)
			require.Equal(t, seq, a.head.Seq)
			require.False(t, heads[a.head.Hash()])
			heads[a.head.Hash()] = true
			stored++
		default:
			require.Zero(t, seq, "%d: %v", i, a.err)
		}
	}
	return stored
}

func TestEntriesThatWaitTogetherAreEachAnswered(t *testing.T) {
	patient := func(int) time.Duration { return 0 }
	begin := func(t *testing.T) (*audit.Trail, string) {
		path := filepath.Join(t.TempDir(), "audit.log")
		tr := open(t, path)
		_, err := tr.Append(t.Context(), audit.Entry{Act: "first"}) // which makes the lock file
		require.NoError(t, err)
		return tr, path
	}
	t.Run("all", func(t *testing.T) {
		tr, path := begin(t)
		require.Equal(t, 64, held(t, path, crowd(t, tr, path, 64, nil, patient)))
		require.Equal(t, uint64(65), whole(t, path).Records)
		require.Equal(t, uint64(65), tr.Head().Seq)
	})
	t.Run("some have no time", func(t *testing.T) {
		tr, path := begin(t)
		answers := crowd(t, tr, path, 64, func() { time.Sleep(150 * time.Millisecond) }, func(i int) time.Duration {
			return time.Duration(i%4) * 30 * time.Millisecond
		})
		require.GreaterOrEqual(t, held(t, path, answers), 16)
		for i := 0; i < 64; i += 4 {
			require.NoError(t, answers[i].err, "another's end is not its own")
		}
		require.Zero(t, whole(t, path).Gaps)
	})
	t.Run("it is closed meanwhile", func(t *testing.T) {
		for range 20 {
			tr, path := begin(t)
			var closing sync.WaitGroup
			answers := crowd(t, tr, path, 32, func() { closing.Go(func() { _ = tr.Close() }) }, patient)
			closing.Wait()
			held(t, path, answers)
			for _, a := range answers {
				if a.err != nil && !strings.Contains(a.err.Error(), "is written, but") {
					require.ErrorIs(t, a.err, audit.ErrClosed)
				}
			}
			require.Zero(t, whole(t, path).Gaps)
		}
	})
	t.Run("the file is moved away between", func(t *testing.T) {
		tr, path := begin(t)
		answers := crowd(t, tr, path, 32, func() { require.NoError(t, os.Rename(path, path+".1")) }, patient)
		for _, a := range answers {
			require.NoError(t, a.err)
		}
	})
	t.Run("the disk is full", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
			t.Skipf("no small file system can be mounted here: %v", err)
		}
		defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
		path := filepath.Join(dir, "audit.log")
		tr, err := audit.Open(t.Context(), audit.Options{Path: path}.WithWait(patience))
		require.NoError(t, err)
		failed, all := 0, 0
		for range 20 {
			answers := crowd(t, tr, path, 16, nil, patient)
			for _, a := range answers {
				if all++; a.err != nil {
					require.ErrorIs(t, a.err, unix.ENOSPC)
					failed++
				}
			}
		}
		require.NotZero(t, failed)
		require.NoError(t, tr.Close())
		require.Equal(t, uint64(all-failed), whole(t, path).Records)
	})
}
