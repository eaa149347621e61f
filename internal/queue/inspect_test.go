package queue_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// TestWholeFilesPass guards against a check that is stricter than bbolt: files
// with branches, overflow pages, many buckets' worth of churn and large free lists.
func TestWholeFilesPass(t *testing.T) {
	t.Parallel()
	opt := quickOptions(t)
	opt.MaxItems = 5000
	db := open(t, opt)
	var seqs []uint64
	for i := range 600 {
		r := request("0812000001")
		r.Note = string(bytes.Repeat([]byte("n"), i*40%20_000))
		require.NoError(t, db.Add(t.Context(), r, nil))
		seqs = append(seqs, r.Seq)
		if i%100 == 99 {
			requireWhole(t, opt.Path)
			require.NoError(t, db.Delete(t.Context(), seqs[:len(seqs)/2]))
			seqs = seqs[len(seqs)/2:]
			requireWhole(t, opt.Path)
		}
	}
}

func requireWhole(t *testing.T, path string) {
	t.Helper()
	b := mustRead(t, path)
	require.NoError(t, queue.Inspect(bytes.NewReader(b), int64(len(b))))
}

// TestDamagedFileNeitherHangsNorCrashes flips bytes where bbolt believes what it
// reads: headers of the file and of its pages. Open says no or opens; a journal
// that opens can be read and written.
func TestDamagedFileNeitherHangsNorCrashes(t *testing.T) {
	t.Parallel()
	opt := written(t, 60)
	whole := mustRead(t, opt.Path)
	rnd := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // a repeatable test wants weak randomness
	used := len(bytes.TrimRight(whole, "\x00"))/4096 + 1
	refusals := 0
	const trials = 100
	for range trials {
		b := bytes.Clone(whole)
		page := rnd.IntN(used)
		b[page*4096+rnd.IntN(120)] ^= byte(1 << rnd.IntN(8))
		require.NoError(t, os.WriteFile(opt.Path, b, 0o600))
		done := make(chan error, 1)
		go func() {
			db, err := queue.Open(t.Context(), opt)
			if err != nil {
				done <- err
				return
			}
			_ = db.Each(t.Context(), func(*txn.Request, error) error { return nil })
			_ = db.Add(t.Context(), request("0812000001"), nil)
			done <- db.Close()
		}()
		select {
		case err := <-done:
			if err != nil {
				refusals++
			}
		case <-time.After(2 * patience):
			t.Fatal("opening a damaged file hangs")
		}
	}
	require.NotZero(t, refusals)
	t.Logf("%d of %d damaged files were refused", refusals, trials)
	require.NoError(t, os.WriteFile(opt.Path, whole, 0o600))
	require.NoError(t, os.Remove(opt.Path+".witness"))
}

func FuzzInspect(f *testing.F) {
	opt := options(f)
	db, err := queue.Open(f.Context(), opt)
	require.NoError(f, err)
	for range 12 {
		require.NoError(f, db.Add(f.Context(), request("081234567890"), nil))
	}
	require.NoError(f, db.Close())
	whole, err := os.ReadFile(opt.Path)
	require.NoError(f, err)
	whole = whole[:min(len(whole), 12*4096)]
	f.Add(uint32(40), byte(1), uint32(4096+40), byte(1))
	f.Add(uint32(2*4096+8), byte(2), uint32(3*4096+10), byte(0xff))
	f.Fuzz(func(t *testing.T, at uint32, x byte, at2 uint32, y byte) {
		b := bytes.Clone(whole)
		b[int(at)%len(b)] ^= x
		b[int(at2)%len(b)] ^= y
		_ = queue.Inspect(bytes.NewReader(b), int64(len(b)))
	})
}
