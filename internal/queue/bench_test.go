package queue_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/txn"
)

// BenchmarkAdd adds requests from several producers at once. Compare with
// BenchmarkAppendSync, the least that a durable append of that size costs.
func BenchmarkAdd(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			opt := options(b)
			opt.Reserve, opt.MaxItems, opt.MaxBytes = 0, 10_000_000, 1<<32
			db := open(b, opt)
			b.ResetTimer()
			var wg sync.WaitGroup
			for p := range producers {
				wg.Go(func() {
					for range share(b.N, producers, p) {
						if err := db.Add(b.Context(), request("081234567890"), nil); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			require.NoError(b, db.Close())
		})
	}
}

func share(n, of, i int) int { return n/of + max(0, min(1, n%of-i)) }

// BenchmarkAppendSync appends one record's bytes to a file and syncs it.
func BenchmarkAppendSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	require.NoError(b, err)
	defer func() { require.NoError(b, f.Close()) }()
	record := make([]byte, 900)
	for b.Loop() {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransition rewrites a record with its secret kept.
func BenchmarkTransition(b *testing.B) {
	opt := options(b)
	db := open(b, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(b, db.Add(b.Context(), r, pin("493817")))
	for b.Loop() {
		if err := db.Update(b.Context(), r, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	require.NoError(b, db.Close())
}
