package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample(t testing.TB) *record {
	t.Helper()
	at := time.Date(2026, 5, 4, 9, 30, 0, 123_456_789, time.FixedZone("WIB", 7*3600))
	r, err := newRecord(&Entry{
		Time: at, Act: "attempt.begin", Object: "01JBABCDEFGHJKMNPQRSTVWXYZ", Who: "agent",
		Attrs: map[string]string{"operation": "finpay.bind", "external_id": "00004711012345678900000000001001"},
	}, Head{Seq: 6, hash: hash{0xab}})
	require.NoError(t, err)
	return r
}

// TestLineBytes holds the format against the package comment.
func TestLineBytes(t *testing.T) {
	line, h := sample(t).encode()
	const body = `{"seq":7,"time":"2026-05-04T09:30:00.123+07:00","act":"attempt.begin","object":"01JBABCDEFGHJKMNPQRSTVWXYZ",` +
		`"result":"","who":"agent","attrs":{"external_id":"00004711012345678900000000001001","operation":"finpay.bind"},` +
		`"prev":"ab00000000000000000000000000000000000000000000000000000000000000"`
	sum := sha256.Sum256([]byte(body))
	require.Equal(t, body+`,"hash":"`+hex.EncodeToString(sum[:])+`"}`, string(line))
	require.Equal(t, hex.EncodeToString(sum[:]), h.String())
	require.True(t, json.Valid(line))
	got, gh, err := parseLine(line)
	require.NoError(t, err)
	require.Equal(t, sample(t), got)
	require.Equal(t, h, gh)
}

func TestEntriesAreMadePrintableAndCut(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":            {"Budi Santoso", "Budi Santoso"},
		"quotes":           {`a"b\c`, `a"b\c`},
		"a second line":    {"x\n{\"seq\":9}", "x\ufffd{\"seq\":9}"},
		"control":          {"a\x00b\x1b[2Jc", "a\ufffdb\ufffd[2Jc"},
		"no UTF-8":         {"a\xff", "a\ufffd"},
		"line separator":   {"a\u2028b", "a\ufffdb"},
		"right to left":    {"a\u202eb", "a\ufffdb"},
		"long":             {strings.Repeat("é", 300), strings.Repeat("é", 255) + "…"},
		"as long as it is": {strings.Repeat("é", 256), strings.Repeat("é", 256)},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newRecord(&Entry{Act: "a", Object: c.in, Attrs: map[string]string{"k": c.in}}, Head{})
			require.NoError(t, err)
			require.Equal(t, c.want, r.object)
			require.Equal(t, c.want, r.attrs["k"])
			line, _ := r.encode()
			require.True(t, json.Valid(line))
			require.NotContains(t, string(line), "\n")
			got, _, err := parseLine(line)
			require.NoError(t, err)
			require.Equal(t, r, got)
		})
	}
}

func TestEntriesThatCannotBeWritten(t *testing.T) {
	many := map[string]string{}
	for i := range maxAttrs + 1 {
		many[string(rune('a'+i))] = ""
	}
	for name, e := range map[string]Entry{
		"no act":                {},
		"too many attributes":   {Act: "a", Attrs: many},
		"a year of five digits": {Act: "a", Time: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newRecord(&e, Head{})
			require.ErrorIs(t, err, ErrEntry)
		})
	}
}

// TestEveryFlippedBitIsNoticed changes each bit of a line in turn.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	line, _ := sample(t).encode()
	for i := range len(line) * 8 {
		b := bytes.Clone(line)
		b[i/8] ^= 1 << (i % 8)
		_, _, err := parseLine(b)
		require.Error(t, err, "bit %d of byte %d", i%8, i/8)
	}
}

// TestOneWayToWriteEachRecord has lines that mean the same and are not what the
// package writes.
func TestOneWayToWriteEachRecord(t *testing.T) {
	good, _ := sample(t).encode()
	for name, change := range map[string]func(string) string{
		"a space": func(s string) string { return strings.Replace(s, `,"act"`, `, "act"`, 1) },
		"another order": func(s string) string {
			return strings.Replace(s, `"result":"","who":"agent"`, `"who":"agent","result":""`, 1)
		},
		"twice the same":   func(s string) string { return strings.Replace(s, `"result":""`, `"result":"","result":""`, 1) },
		"an escape":        func(s string) string { return strings.Replace(s, `"agent"`, `"\u0061gent"`, 1) },
		"other case":       func(s string) string { return strings.Replace(s, `"who"`, `"Who"`, 1) },
		"one more":         func(s string) string { return strings.Replace(s, `"prev"`, `"x":"","prev"`, 1) },
		"hash in capitals": func(s string) string { n := len(s) - 66; return s[:n] + strings.ToUpper(s[n:]) },
		"bytes behind it":  func(s string) string { return s + " " },
		"no attrs":         func(s string) string { return strings.Replace(s, `"attrs":{`, `"attrs":null,"x":{`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			changed := change(string(good))
			require.NotEqual(t, string(good), changed)
			_, _, err := parseLine([]byte(changed))
			require.ErrorIs(t, err, errForm)
		})
	}
}

func TestStampRoundTrip(t *testing.T) {
	h := Head{Seq: 77, hash: hash{1, 2, 3}}
	got, err := ParseStamp(h.Stamp())
	require.NoError(t, err)
	require.Equal(t, h, got)
	got, err = ParseStamp(nil)
	require.NoError(t, err)
	require.Equal(t, Head{}, got)
	for _, b := range [][]byte{{1}, h.Stamp()[:40], append(h.Stamp(), 0), append([]byte{2}, h.Stamp()[1:]...)} {
		_, err := ParseStamp(b)
		require.ErrorIs(t, err, ErrStamp)
	}
}

func FuzzParseLine(f *testing.F) {
	good, _ := sample(f).encode()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(`{"seq":1}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, h, err := parseLine(b)
		if err != nil {
			return
		}
		again, h2 := r.encode()
		require.Equal(t, string(b), string(again))
		require.Equal(t, h, h2)
		require.NotContains(t, string(b), "\n")
	})
}

func FuzzClean(f *testing.F) {
	f.Add("a\x00\xff\u2028", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = 2 + (n&0xff)%100
		c := clean(s, n)
		require.Equal(t, c, clean(c, n))
		require.LessOrEqual(t, len([]rune(c)), n)
		require.True(t, json.Valid(appendString(nil, c)))
	})
}

func FuzzReadTail(f *testing.F) {
	good, _ := sample(f).encode()
	f.Add(append(bytes.Clone(good), '\n'))
	f.Add(append(append(bytes.Clone(good), '\n'), "half a li"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var lines, total int
		last := int64(len(b)) + 1
		err := backwards(bytes.NewReader(b), int64(len(b)), func(line []byte, end int64) bool {
			require.Less(t, end, last)
			require.Equal(t, byte('\n'), b[end-1])
			require.NotContains(t, string(line), "\n")
			last = end
			lines++
			total += len(line) + 1
			return true
		})
		require.NoError(t, err)
		require.Equal(t, bytes.Count(b, []byte("\n")), lines)
		require.Equal(t, bytes.LastIndexByte(b, '\n')+1, total)
	})
}
