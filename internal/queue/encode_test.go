package queue

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

// words are what strings of a request are made of: common ones, and all that has to
// be escaped, does not fit, or looks like the end of something.
var words = []string{
	"queued", "finpay.reset_pin", "081234567890", "", "a", "ü", "日本", "\u2028", "\u007f", "\x00", "\n", "\xff", "a\xc3", `"`, `\`, `","at":{`,
	"<b>", "https://example.com/?a=1&b=2", "'", "\t", " ",
}

// fill gives every field of v, whatever fields there are, a value; with zeros, some
// of them zero.
func fill(v reflect.Value, r *rand.Rand, zeros bool) {
	if zeros && r.IntN(3) == 0 {
		v.SetZero()
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		zones := []*time.Location{time.UTC, time.FixedZone("", 7*3600), time.FixedZone("WIB", -90*60)}
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<33), r.Int64N(3)*r.Int64N(1e9)).In(zones[r.IntN(len(zones))])))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[r.IntN(3)])
		if zeros {
			v.SetString(words[r.IntN(len(words))] + words[r.IntN(len(words))])
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 + r.Int64N(1<<31-1))
		if zeros {
			v.SetInt(r.Int64() - r.Int64())
		}
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(1 + r.Uint64N(255))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r, zeros)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2*r.IntN(2), 2))
		for i := range v.Len() {
			fill(v.Index(i), r, zeros)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(4) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(k, r, zeros)
			fill(e, r, zeros)
			v.SetMapIndex(k, e)
		}
	default:
		panic("a kind of field that appendRequest has not seen: " + v.Kind().String())
	}
}

// TestRequestIsWrittenAndReadAsByEncodingJSON also fails for a field that a request
// got and appendRequest was not told of.
func TestRequestIsWrittenAndReadAsByEncodingJSON(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in each run
	for i := range 3000 {
		plain := i%2 == 0
		var r txn.Request
		fill(reflect.ValueOf(&r).Elem(), rnd, !plain)
		r.Seq = 0
		want, err := json.Marshal(&r)
		require.NoError(t, err)
		r.Seq = rnd.Uint64() // it is left out
		got, err := appendRequest([]byte("before"), &r)
		require.NoError(t, err)
		require.Equal(t, "before"+string(want), string(got))

		var back, fast txn.Request
		require.NoError(t, json.Unmarshal(want, &back))
		quick := readRequest(want, &fast)
		require.True(t, quick || !plain, "a common request is read without encoding/json: %s", want)
		if quick {
			require.Equal(t, back, fast)
		}
		parsed, err := parseRequest(want)
		require.NoError(t, err)
		require.Equal(t, &back, parsed)
	}
}

func TestRequestOfAnImpossibleTimeIsRefused(t *testing.T) {
	_, err := appendRequest(nil, &txn.Request{Created: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.ErrorContains(t, err, "created")
	_, err = encodePayload(&txn.Request{Attempts: []txn.Attempt{{Ended: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)}}}, nil)
	require.ErrorContains(t, err, "ended")
}

// FuzzParseRequest holds what is read at once against encoding/json.
func FuzzParseRequest(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same in each run
	for i := range 8 {
		var r txn.Request
		fill(reflect.ValueOf(&r).Elem(), rnd, i%2 == 1)
		js, err := appendRequest(nil, &r)
		require.NoError(f, err)
		f.Add(js)
		f.Add(bytes.Replace(js, []byte(`"step":`), []byte(`"step":0`), 1))
		f.Add(bytes.Replace(js, []byte(`"state":`), []byte(`"later":1,"state":`), 1))
		f.Add(js[:len(js)-1])
	}
	f.Add([]byte(strings.Repeat(" ", 3)))
	f.Fuzz(func(t *testing.T, js []byte) {
		var fast, slow txn.Request
		if !readRequest(js, &fast) {
			return
		}
		require.NoError(t, json.Unmarshal(js, &slow))
		require.Equal(t, slow, fast)
	})
}

func BenchmarkPayload(b *testing.B) {
	var r txn.Request
	fill(reflect.ValueOf(&r).Elem(), rand.New(rand.NewPCG(1, 2)), false) //nolint:gosec // the same in each run
	js, err := appendRequest(nil, &r)
	require.NoError(b, err)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			_, _ = encodePayload(&r, nil)
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _ = parseRequest(js)
		}
	})
}
