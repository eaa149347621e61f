package queue_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// rawRecords reads the sealed records of a closed journal.
func rawRecords(t *testing.T, path string) map[uint64][]byte {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	out := map[uint64][]byte{}
	require.NoError(t, b.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(queue.BucketItems).ForEach(func(k, v []byte) error {
			out[binary.BigEndian.Uint64(k)] = bytes.Clone(v)
			return nil
		})
	}))
	require.NoError(t, b.Close())
	return out
}

func putRaw(t *testing.T, path string, seq uint64, v []byte) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, b.Update(func(tx *bbolt.Tx) error { return tx.Bucket(queue.BucketItems).Put(seqKey(seq), v) }))
	require.NoError(t, b.Close())
}

func TestResealedRecordDiffers(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.NoError(t, db.Close())
	before := rawRecords(t, opt.Path)[1]
	db = open(t, opt)
	require.NoError(t, db.Update(t.Context(), r, nil))
	require.NoError(t, db.Close())
	after := rawRecords(t, opt.Path)[1]
	require.Len(t, after, len(before))
	require.NotEqual(t, before, after)
}

func TestRecordOpensOnlyInItsPlace(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	for range 2 {
		require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	}
	require.NoError(t, db.Close())
	raw := rawRecords(t, opt.Path)
	putRaw(t, opt.Path, 1, raw[2])
	putRaw(t, opt.Path, 2, raw[1])
	putRaw(t, opt.Path, 3, raw[2])
	db = open(t, opt)
	requireBroken(t, db, 1, 2, 3)
}

func TestRecordOpensOnlyInItsJournal(t *testing.T) {
	opt := written(t, 1)
	// The same keys in the token, and the same key bytes in the file: only the
	// journal's id differs.
	other := options(t)
	other.KEK, other.PINKEK = opt.KEK, opt.PINKEK
	db := open(t, other)
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.NoError(t, db.Close())
	putRaw(t, other.Path, 1, rawRecords(t, opt.Path)[1])
	requireBroken(t, open(t, other), 1)
}

func requireBroken(t *testing.T, db *queue.DB, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		_, err := db.Get(t.Context(), seq)
		require.ErrorIs(t, err, txn.ErrSeal, "record %d", seq)
		require.ErrorContains(t, err, fmt.Sprintf("journal record %d", seq))
	}
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	opt := written(t, 2)
	raw := rawRecords(t, opt.Path)[1]
	b, err := bbolt.Open(opt.Path, 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	// One copy per byte, each with that byte changed, at a place of its own would
	// fail for its place alone; so they take turns at their own.
	next := func(i int) {
		spoiled := bytes.Clone(raw)
		spoiled[i] ^= 0x01
		require.NoError(t, b.Update(func(tx *bbolt.Tx) error { return tx.Bucket(queue.BucketItems).Put(seqKey(1), spoiled) }))
	}
	for i := 0; i < len(raw); i += 29 { // every part of the record; opening costs too much for all
		next(i)
		require.NoError(t, b.Close())
		db := open(t, opt)
		requireBroken(t, db, 1)
		require.NoError(t, db.Close())
		b, err = bbolt.Open(opt.Path, 0o600, &bbolt.Options{NoSync: true})
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
}

func TestBrokenRecordIsReportedAndTheRestRead(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	require.NoError(t, db.Add(t.Context(), r, nil))
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.NoError(t, db.Close())
	raw := rawRecords(t, opt.Path)
	raw[1][len(raw[1])-1] ^= 1
	putRaw(t, opt.Path, 1, raw[1])
	putRaw(t, opt.Path, 2, []byte("rubbish"))
	db = open(t, opt)
	var good, bad []uint64
	require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
		if err == nil {
			good = append(good, r.Seq)
			return nil
		}
		require.ErrorIs(t, err, txn.ErrSeal)
		var rec *queue.RecordError
		require.ErrorAs(t, err, &rec)
		bad = append(bad, rec.Seq)
		return nil
	}))
	require.Equal(t, []uint64{3}, good)
	err := db.Check(t.Context())
	require.ErrorIs(t, err, txn.ErrSeal)
	require.ErrorContains(t, err, "2 records do not open")
	require.Equal(t, []uint64{1, 2}, bad)
	require.ErrorIs(t, db.Update(t.Context(), func() *txn.Request { c := r.Clone(); c.Seq = 2; return c }(), nil), txn.ErrSeal)
	require.NoError(t, db.Delete(t.Context(), []uint64{1, 2}), "an operator can remove it")
	require.Equal(t, 1, db.Stats().Items)
	require.NoError(t, db.Check(t.Context()))
}

// TestCheckSeesAPageThatChangedUnderneath damages the file of a running journal.
func TestCheckSeesAPageThatChangedUnderneath(t *testing.T) {
	t.Parallel()
	opt := options(t)
	db := open(t, opt)
	for range 50 {
		require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	}
	require.NoError(t, db.Check(t.Context()))
	whole := mustRead(t, opt.Path)
	spoiled := bytes.Clone(whole)
	for page := 2; page < len(spoiled)/4096; page++ {
		spoiled[page*4096] ^= 0x40 // the page's own number
	}
	writeOver(t, opt.Path, spoiled)
	err := db.Check(t.Context())
	writeOver(t, opt.Path, whole)
	require.ErrorIs(t, err, queue.ErrDamaged)
	require.Eventually(t, func() bool { return db.Check(t.Context()) == nil }, patience, 50*time.Millisecond)
	require.Equal(t, 50, count(t, db))
}

// writeOver changes a file's bytes in place, as a fault of the disk would.
func writeOver(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestWrappedDataKeyThatDoesNotOpenCostsItsRecordsOnly(t *testing.T) {
	opt := written(t, 1) // under the first run's key
	db := open(t, opt)
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil)) // under the second's
	require.NoError(t, db.Close())
	raw := rawRecords(t, opt.Path)
	key := append([]byte("key/"), raw[1][4:8]...)
	b, err := bbolt.Open(opt.Path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, b.Update(func(tx *bbolt.Tx) error {
		v := bytes.Clone(tx.Bucket(queue.BucketMeta).Get(key))
		v[len(v)-1] ^= 1
		return tx.Bucket(queue.BucketMeta).Put(key, v)
	}))
	require.NoError(t, b.Close())
	db = open(t, opt)
	requireBroken(t, db, 1)
	_, err = db.Get(t.Context(), 2)
	require.NoError(t, err)
}

// TestNothingReadableReachesADisk looks for what a customer entered in every
// byte of every file, while it is stored and after it went.
func TestNothingReadableReachesADisk(t *testing.T) {
	const phone, code, otp = "081298765432", "739164", "582047"
	opt := options(t)
	db := open(t, opt)
	r := request(phone)
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin(code)))
	r.Secret = txn.SecretOTP
	require.NoError(t, db.Update(t.Context(), r, pin(otp)))
	for range 50 { // pages are freed and used again
		o := request(phone)
		o.Secret = txn.SecretPIN
		require.NoError(t, db.Add(t.Context(), o, pin(code)))
		require.NoError(t, db.Delete(t.Context(), []uint64{o.Seq}))
	}
	look := func() {
		files := 0
		require.NoError(t, filepath.WalkDir(filepath.Dir(opt.Path), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			for _, canary := range []string{phone, code, otp, "prepaid:", "phoneNumber", r.Key} {
				require.NotContains(t, string(b), canary, path)
			}
			return nil
		}))
		require.GreaterOrEqual(t, files, 2)
	}
	look()
	require.True(t, bytes.Contains(mustRead(t, opt.Path), []byte(r.ID)), "the search finds what is in clear")
	require.NoError(t, db.Delete(t.Context(), []uint64{r.Seq}))
	require.NoError(t, db.Close())
	look()
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// TestSecretOfADeletedRecordCannotBeOpenedFromOldPages keeps a copy of the file
// from before, with every key of the token: the secret's own key is what is gone.
func TestSecretOfADeletedRecordCannotBeOpenedFromOldPages(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	require.NoError(t, db.Close())
	old := mustRead(t, opt.Path)
	db = open(t, opt)
	r.Secret = ""
	require.NoError(t, db.Update(t.Context(), r, nil))
	require.NoError(t, db.Close())
	require.NoError(t, os.WriteFile(opt.Path, old, 0o600))
	db = open(t, opt)
	got, err := db.Get(t.Context(), r.Seq)
	require.NoError(t, err)
	require.Equal(t, txn.SecretPIN, got.Secret)
	_, err = db.Secret(t.Context(), got)
	require.ErrorIs(t, err, txn.ErrSecretLost)
}
