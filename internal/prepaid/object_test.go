package prepaid

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadFields(t *testing.T) {
	f, err := readFields([]byte(" {\"urn\" :\t12 ,\"x\":{\"urn\":[\"}\",{\"a\\\"\":1}]} , \"customerId\":\"a\\u0062\\/\\\\\",\"bankId\":null\n,\"accosaRefNo\":-0}\r\n"))
	require.NoError(t, err)
	require.Equal(t, fields{"urn": []byte("12"), "customerId": []byte(`ab/\`), "accosaRefNo": []byte("-0")}, f)

	f, err = readFields([]byte(`{}`))
	require.NoError(t, err)
	require.Empty(t, f)

	f, err = readFields([]byte(`{"\u0075rn":7}`))
	require.NoError(t, err)
	require.True(t, f.is("urn", "7"))

	for _, bad := range []string{
		``, ` `, `null`, `"a"`, `1`, `[]`, `{`, `{}{}`, `{},`, `{"urn":1}x`, `{"urn":01}`, `{"urn":1.0}`, `{"urn":1e2}`, `{"urn":true}`,
		`{"urn":[]}`, `{"urn":{}}`, `{"urn":1,"urn":1}`, `{"urn":1,"\u0075rn":2}`, `{"x":1,"x":1}`, `{urn:1}`, `{'urn':1}`, `{"urn":1,}`,
		"{\"urn\":\"\x01\"}", "{\"x\":\"\xff\"}", `{"urn":NaN}`, `{"urn":"a" "b"}`, "\ufeff{}",
	} {
		f, err := readFields([]byte(bad))
		require.Nil(t, f, bad)
		require.Same(t, errUnreadable, err, bad)
	}
}

// What our reader accepts, encoding/json must read in the same way.
func FuzzReadFields(f *testing.F) {
	f.Add([]byte(documentOrder))
	f.Add([]byte(`{"a":"\\\"}","urn":1,"b":[{"c":"]"}],"customerId":"\ud83d\ude00"}`))
	f.Add([]byte(` { "urn" : null } `))
	f.Add([]byte(`{"":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got, err := readFields(b)
		require.Equal(t, before, b)
		if err != nil {
			return
		}
		var all map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &all))
		for name, raw := range all {
			if !known(name) {
				continue
			}
			v, there := got[name]
			switch raw[0] {
			case 'n':
				require.False(t, there)
			case '"':
				var s string
				require.NoError(t, json.Unmarshal(raw, &s))
				require.Equal(t, s, string(v))
			default:
				require.Equal(t, string(raw), string(v))
			}
		}
		for name := range got {
			require.Contains(t, all, name)
		}
	})
}
