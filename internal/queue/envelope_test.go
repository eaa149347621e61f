package queue

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

func testKey(t testing.TB, id uint32) *dataKey {
	t.Helper()
	a, err := newAEAD(bytes.Repeat([]byte{7}, keyLen))
	require.NoError(t, err)
	return &dataKey{id: id, aead: a}
}

func testHeader() header {
	return header{
		created: 1_777_887_000_123, expires: 1_777_890_600_123, kind: kindPIN,
		gen: generation{1, 2, 3, 4, 5, 6, 7, 8}, id: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", operation: "prepaid.reset_pin",
	}
}

// TestHeaderBytes holds the format against the table in the package comment.
func TestHeaderBytes(t *testing.T) {
	raw := testKey(t, 9).seal(journalID{1}, 5, testHeader(), []byte("payload"))
	const want = "47445201" + "00000009" + "0000019df252b63b" + "0000019df289a4bb" + "01" + "0102030405060708" +
		"1a" + "4142434445464748494a4b4c4d4e4f505152535455565758595a" +
		"11" + "707265706169642e72657365745f70696e" + "00000023"
	require.Equal(t, want, hex.EncodeToString(raw[:len(raw)-35]))
	rec, err := parseRecord(raw)
	require.NoError(t, err)
	require.Len(t, rec.box, 12+len("payload")+16)
	require.Equal(t, raw, rec.encode())
}

// TestSealHoldsEveryPartOfTheHeader changes one part at a time, also those whose
// change leaves the record well formed.
func TestSealHoldsEveryPartOfTheHeader(t *testing.T) {
	k := testKey(t, 9)
	raw := k.seal(journalID{1}, 5, testHeader(), []byte("payload"))
	p, err := k.open(journalID{1}, 5, mustParse(t, raw))
	require.NoError(t, err)
	require.Equal(t, "payload", string(p))
	for name, change := range map[string]func(*record, *journalID, *uint64){
		"journal":    func(_ *record, j *journalID, _ *uint64) { j[15] = 1 },
		"sequence":   func(_ *record, _ *journalID, s *uint64) { *s++ },
		"key number": func(r *record, _ *journalID, _ *uint64) { r.key++ },
		"request id": func(r *record, _ *journalID, _ *uint64) { r.id = "A" + r.id[:25] },
		"operation":  func(r *record, _ *journalID, _ *uint64) { r.operation = "finpay.bind" },
		"creation":   func(r *record, _ *journalID, _ *uint64) { r.created++ },
		"expiry":     func(r *record, _ *journalID, _ *uint64) { r.expires++ },
		"kind":       func(r *record, _ *journalID, _ *uint64) { r.kind = kindOTP },
		"generation": func(r *record, _ *journalID, _ *uint64) { r.gen[0] ^= 1 },
		"nonce":      func(r *record, _ *journalID, _ *uint64) { r.box[0] ^= 1 },
		"ciphertext": func(r *record, _ *journalID, _ *uint64) { r.box[12] ^= 1 },
		"tag":        func(r *record, _ *journalID, _ *uint64) { r.box[len(r.box)-1] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			rec, j, s := mustParse(t, bytes.Clone(raw)), journalID{1}, uint64(5)
			change(rec, &j, &s)
			_, err := k.open(j, s, rec)
			require.ErrorIs(t, err, txn.ErrSeal)
		})
	}
}

// TestEveryFlippedBitBreaksTheRecord is the same for a reader of raw bytes.
func TestEveryFlippedBitBreaksTheRecord(t *testing.T) {
	k := testKey(t, 9)
	raw := k.seal(journalID{1}, 5, testHeader(), []byte("payload"))
	for i := range len(raw) * 8 {
		spoiled := bytes.Clone(raw)
		spoiled[i/8] ^= 1 << (i % 8)
		rec, err := parseRecord(spoiled)
		if err != nil {
			continue
		}
		_, err = k.open(journalID{1}, 5, rec)
		require.ErrorIs(t, err, txn.ErrSeal, "bit %d of byte %d", i%8, i/8)
	}
}

func TestAdditionalDataIsUnambiguous(t *testing.T) {
	a := newAdditional("l", journalID{}).text("ab").text("c")
	b := newAdditional("l", journalID{}).text("a").text("bc")
	require.NotEqual(t, a, b)
}

func mustParse(t *testing.T, raw []byte) *record {
	t.Helper()
	rec, err := parseRecord(raw)
	require.NoError(t, err)
	return rec
}

func FuzzParseRecord(f *testing.F) {
	k := testKey(f, 9)
	good := k.seal(journalID{1}, 5, testHeader(), []byte("payload"))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRecord(b)
		if err != nil {
			return
		}
		require.Equal(t, b, rec.encode(), "one byte string, one meaning")
		if p, err := k.open(journalID{1}, 5, rec); err == nil {
			require.Equal(t, "payload", string(p))
		}
	})
}

func FuzzDecodePayload(f *testing.F) {
	h := testHeader()
	good, err := encodePayload(&txn.Request{ID: h.id, Operation: txn.Operation(h.operation), Secret: txn.SecretPIN}, []byte("box"))
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := decodePayload(b, 3, &h)
		if err != nil {
			require.ErrorIs(t, err, txn.ErrSeal)
			return
		}
		require.Equal(t, h.id, r.ID)
		require.Equal(t, uint64(3), r.Seq)
	})
}

func FuzzParseWrappedKey(f *testing.F) {
	w := wrappedKey{created: 5, kek: "journal-kek", wrapped: []byte{1, 2, 3}}
	good, err := w.encode(dataKeyMagic)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWrappedKey(dataKeyMagic, b)
		if err != nil {
			return
		}
		again, err := w.encode(dataKeyMagic)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func FuzzParseWitness(f *testing.F) {
	w := witness{journal: journalID{1, 2}, commits: 7, seq: 3, serial: 1001}
	b := make([]byte, witnessBytes)
	copy(b, w.encode())
	f.Add(b[:slotBytes])
	copy(b[slotEvery:], (&witness{commits: 8}).encode())
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWitness(b)
		if err != nil {
			require.ErrorIs(t, err, errSpoiled)
			return
		}
		again := w.encode()
		require.True(t, bytes.HasPrefix(b, again) || bytes.HasPrefix(b[slotEvery:], again))
	})
}

func FuzzOpenState(f *testing.F) {
	k := testKey(f, 9)
	st := state{salt: 1, serial: 2, seq: 3, commits: 5, nextKey: 4, behind: true, stamp: []byte("stamp")}
	good := st.seal(k, journalID{1})
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := openState(k, journalID{1}, b); err == nil {
			require.Equal(t, st, got)
		}
	})
}

func FuzzIsKeyFile(f *testing.F) {
	f.Add(keyFile("ABCDEFGHIJKLMNOPQRSTUVWXYZ", kindPIN, generation{1}))
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, name string) {
		if isKeyFile(name) {
			require.Equal(t, filepath.Base(name), name)
			require.False(t, strings.ContainsRune(name, os.PathSeparator))
		}
	})
}
