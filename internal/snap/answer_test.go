package snap

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

func TestParseObject(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"object":              {`{"a":1,"b":{"a":2}}`, nil},
		"spaces around":       {" \r\n{\"a\":1}\n", nil},
		"empty object":        {`{}`, nil},
		"nothing":             {``, errNotObject},
		"null":                {`null`, errNotObject},
		"string":              {`"a"`, errNotObject},
		"after it":            {`{} x`, errNotObject},
		"no colon":            {`{"a" 1}`, errNotObject},
		"no comma":            {`{"a":1 "b":2}`, errNotObject},
		"trailing comma":      {`{"a":1,}`, errNotObject},
		"number for a name":   {`{1:1}`, errNotObject},
		"raw newline":         {"{\"a\":\"\n\"}", errNotObject},
		"twice":               {`{"a":1,"a":1}`, errAmbiguous},
		"twice by escaping":   {`{"a":1,"\u0061":1}`, errAmbiguous},
		"different in case":   {`{"a":1,"A":1}`, nil},
		"unfinished":          {`{"a":1`, errNotObject},
		"very deep":           {`{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, errNotObject},
		"control in a string": {"{\"a\":\"\x00\"}", errNotObject},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseObject([]byte(tc.in))
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestFieldsOfEitherKind(t *testing.T) {
	o, err := parseObject([]byte(`{"s":"12","n":12,"f":12.0,"e":1e3,"half":1.5,"big":99999999999999999999,"neg":-3,
		"t":true,"z":null,"list":[],"full":[1],"in":{"x":"y"},"word":"abc","sp":" 7 "}`))
	require.NoError(t, err)
	for name, want := range map[string]string{"s": "12", "n": "12", "f": "12.0", "big": "99999999999999999999", "word": "abc"} {
		got, ok := o.text(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"t", "z", "list", "in", "absent"} {
		_, ok := o.text(name)
		require.False(t, ok, name)
	}
	for name, want := range map[string]int64{"s": 12, "n": 12, "f": 12, "e": 1000, "neg": -3, "sp": 7} {
		got, ok := o.integer(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"half", "big", "word", "z", "absent"} {
		_, ok := o.integer(name)
		require.False(t, ok, name)
	}
	for _, name := range []string{"z", "list", "absent", "in"} {
		_, ok := o.object(name)
		require.True(t, ok, name)
	}
	for _, name := range []string{"full", "s", "n"} {
		_, ok := o.object(name)
		require.False(t, ok, name)
	}
}

func TestMessagesAreBoundedAndMasked(t *testing.T) {
	o := object{"responseCode": []byte(`"` + strings.Repeat("9", 100) + `"`), "responseMessage": []byte(`"PIN baru 123456, tel 08113929190, kode 123 \u0007\u202e` + strings.Repeat("é", 300) + `"`)}
	var a txn.Answer
	o.head(&a)
	require.Len(t, a.Code, maxCode)
	require.Equal(t, maxText, utf8.RuneCountInString(a.Text))
	require.True(t, strings.HasPrefix(a.Text, "PIN baru ######, tel ###########, kode 123 ??é"), a.Text)
}

func TestTokenLife(t *testing.T) {
	now := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC) // 10:00 in Jakarta
	for in, want := range map[string]time.Duration{
		`"900"`:                       15 * time.Minute,
		`900`:                         15 * time.Minute,
		`900.0`:                       15 * time.Minute,
		`"54000"`:                     15 * time.Hour,
		`"2026-11-20T10:20:00+07:00"`: 20 * time.Minute,
		`"2026-11-20T03:20:00Z"`:      20 * time.Minute,
		`"2026-11-20T10:20:00"`:       20 * time.Minute,
		`"2026-11-20 10:20:00"`:       20 * time.Minute,
		`"2026-11-19T10:20:00+07:00"`: time.Minute, // over: the fallback
		`0`:                           time.Minute,
		`-5`:                          time.Minute,
		`"soon"`:                      time.Minute,
		`null`:                        time.Minute,
		`9000000000`:                  24 * time.Hour,
		`99999999999999999999`:        time.Minute,
		`"2099-01-01T00:00:00Z"`:      24 * time.Hour,
	} {
		v, life, err := parseToken(object{"accessToken": []byte(`"abc"`), "expiresIn": []byte(in)}, now, time.Minute)
		require.NoError(t, err)
		require.Equal(t, want, life, in)
		require.Equal(t, []byte("abc"), v.Bytes())
	}
}

func TestTokenAnswersThatAreRefused(t *testing.T) {
	for name, body := range map[string]string{
		"no token":       `{"responseCode":"2007300"}`,
		"empty":          `{"accessToken":""}`,
		"with a space":   `{"accessToken":"a b"}`,
		"line break":     `{"accessToken":"a\r\nX: y"}`,
		"null":           `{"accessToken":null}`,
		"a refusal":      `{"responseCode":"4017300","accessToken":"abc"}`,
		"a strange code": `{"responseCode":"OK","accessToken":"abc"}`,
		"not a case 00":  `{"responseCode":"2007301","accessToken":"abc"}`,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parseObject([]byte(body))
			require.NoError(t, err)
			_, _, err = parseToken(o, time.Now(), time.Minute)
			require.Error(t, err)
		})
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"responseCode":"2000600","responseMessage":"Request has been processed successfully"}`,
		`{"responseCode":2000000,"partnerReferenceNo":1,"additionalInfo":{"timeLeftInMillis":"300000"}}`,
		`{"additionalInfo":[]}`, `{}`, `[]`, "\xef\xbb\xbf{}", `{"a":1,"a":2}`, `{"responseMessage":"\ud800 123456"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := parseObject(in)
		if err != nil {
			require.Nil(t, o)
			return
		}
		var a txn.Answer
		o.head(&a)
		require.LessOrEqual(t, utf8.RuneCountInString(a.Code), maxCode)
		require.LessOrEqual(t, utf8.RuneCountInString(a.Text), maxText)
		run := 0
		for _, r := range a.Text {
			require.True(t, unicode.IsPrint(r) || r == utf8.RuneError, "%q", r)
			if r >= '0' && r <= '9' {
				run++
			} else {
				run = 0
			}
			require.Less(t, run, 4, "digits are shown")
		}
		for name := range o {
			_, _ = o.integer(name)
			_, _ = o.object(name)
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	for _, s := range []string{
		`{"responseCode":"2007300","accessToken":"abc","expiresIn":"900"}`, `{"accessToken":"abc","expiresIn":900}`,
		`{"accessToken":"abc","expiresIn":"2026-11-20T10:20:00+07:00"}`, `{"accessToken":"a b"}`, `{"accessToken":1,"expiresIn":-1e300}`,
	} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := parseObject(in)
		if err != nil {
			return
		}
		v, life, err := parseToken(o, now, time.Minute)
		if err != nil {
			require.Nil(t, v)
			return
		}
		require.Positive(t, life)
		require.LessOrEqual(t, life, maxTokenLife)
		require.True(t, visible(string(v.Bytes()), 1, maxTokenSize))
	})
}
