package queue_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

const (
	figureRounds = 11
	figureTurn   = 300 * time.Millisecond // of each side in each round
)

// TestFigureAccept compares accepting a request with the least that a durable one
// costs: as many bytes as the sealed request has, appended to a file that all
// producers share, each append followed by an fdatasync of its own. The appends of
// the reference overlap, so the file system may answer several with one flush.
func TestFigureAccept(t *testing.T) {
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
	for _, producers := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(producers), func(t *testing.T) {
			dir := diskDir(t)
			opt := optionsIn(t, dir)
			opt.Reserve, opt.MaxItems, opt.MaxBytes = 0, 10_000_000, 1<<32 // all as shipped, but never full
			db := open(t, opt)
			require.NoError(t, db.Add(t.Context(), figureRequest(), nil))
			size := db.Stats().Bytes
			require.Positive(t, size)

			file, err := os.OpenFile(filepath.Join(dir, "appended"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			require.NoError(t, err)
			defer func() { require.NoError(t, file.Close()) }()
			fd, record := int(file.Fd()), make([]byte, size)

			added, appended := 1, 0
			var ours, reference []float64
			for i := range figureRounds {
				sides := []func(){
					func() {
						n, rate := perSecond(t, producers, func() error { return db.Add(t.Context(), figureRequest(), nil) })
						added, ours = added+n, append(ours, rate)
					},
					func() {
						n, rate := perSecond(t, producers, func() error { return appendSync(fd, record) })
						appended, reference = appended+n, append(reference, rate)
					},
				}
				if i%2 == 1 { // whoever goes second may find a busier disk
					slices.Reverse(sides)
				}
				for _, side := range sides {
					side()
				}
			}

			// Both sides kept what they promised.
			info, err := file.Stat()
			require.NoError(t, err)
			require.Equal(t, int64(appended)*size, info.Size())
			require.NoError(t, db.Close())
			db, err = queue.Open(t.Context(), opt)
			require.NoError(t, err)
			require.Equal(t, added, db.Stats().Items)
			require.NoError(t, db.Close())

			o, r := median(ours), median(reference)
			fmt.Printf("BENCH journal_accept_%d ratio=%.2f ours=%.0f requests/s reference=%.0f appends/s\n", producers, o/r, o, r)
		})
	}
}

// figureRequest is a request of the shortest operation, with a digest as long as
// in life.
func figureRequest() *txn.Request {
	r := request("081234567890")
	r.Content = strings.Repeat("0f", 32)
	return r
}

// diskDir returns a folder for the test that is not kept in memory, where an
// fdatasync costs nothing.
func diskDir(t *testing.T) string {
	t.Helper()
	inMemory := func(dir string) bool {
		var st unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &st))
		return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
	}
	dir := t.TempDir()
	if inMemory(dir) {
		const build = "../../build"
		require.NoError(t, os.MkdirAll(build, 0o755))
		var err error
		dir, err = os.MkdirTemp(build, "figure-") //nolint:usetesting // t.TempDir is in memory here
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		require.False(t, inMemory(dir), "a figure of the disk needs one: set TMPDIR to a folder on it")
	}
	return dir
}

func appendSync(fd int, record []byte) error {
	n, err := unix.Write(fd, record)
	if err == nil && n != len(record) {
		err = errors.New("a part of the record was written")
	}
	if err != nil {
		return err
	}
	return unix.Fdatasync(fd)
}

// perSecond has producers do op until a turn is over. It returns how often they
// did it, and how often in a second.
func perSecond(t *testing.T, producers int, op func() error) (int, float64) {
	t.Helper()
	done, errs := make([]int, producers), make([]error, producers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range producers {
		wg.Go(func() {
			for errs[i] == nil && time.Since(began) < figureTurn {
				if errs[i] = op(); errs[i] == nil {
					done[i]++
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	require.NoError(t, errors.Join(errs...))
	n := 0
	for _, d := range done {
		n += d
	}
	return n, float64(n) / took.Seconds()
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}
