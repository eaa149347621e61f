package snap

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func jwt(payload string) string {
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestTokenSpan(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want time.Duration
	}{
		"seconds":         {jwt(`{"iat":1666609391,"nbf":1666609391,"exp":1666609691}`), 300 * time.Second},
		"texts":           {jwt(`{"iat":"10","exp":"20"}`), 10 * time.Second},
		"padded":          {strings.Replace(jwt(`{"iat":10,"exp":20}`), ".c2ln", "==.c2ln", 1), 10 * time.Second},
		"too long":        {jwt(`{"iat":10,"exp":1000000}`), time.Hour},
		"over before":     {jwt(`{"iat":20,"exp":10}`), 0},
		"equal":           {jwt(`{"iat":20,"exp":20}`), 0},
		"no iat":          {jwt(`{"exp":20}`), 0},
		"absurd":          {jwt(`{"iat":0,"exp":9007199254740991}`), 0},
		"negative":        {jwt(`{"iat":-9223372036854775808,"exp":20}`), 0},
		"not an object":   {jwt(`[]`), 0},
		"no JWT":          {"opaque", 0},
		"not base64":      {"a.*.c", 0},
		"too many parts":  {jwt(`{"iat":10,"exp":20}`) + ".x", 0},
		"nothing at all":  {"", 0},
		"fraction of sec": {jwt(`{"iat":10.5,"exp":20.5}`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := tokenSpan(tc.in)
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.want > 0, ok)
		})
	}
}

func FuzzTokenSpan(f *testing.F) {
	for _, s := range []string{jwt(`{"iat":1666609391,"exp":1666609691}`), jwt(`{}`), "a.b.c", "...", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, ok := tokenSpan(in)
		require.Equal(t, ok, d > 0)
		require.LessOrEqual(t, d, maxLinkLife)
	})
}

func FuzzPage(f *testing.F) {
	for _, s := range []string{
		`{"redirectUrl":"https://w.example/p?x=1","params":{"a":"b"},"linkageToken":"t"}`, `{"redirectUrl":"http://w"}`,
		`{"redirectUrl":"https://w:443/p#f","params":[]}`, `{"redirectUrl":" https://[::1]/%zz "}`, `{"redirectUrl":"https://a@b/"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		o, err := parseObject(in)
		if err != nil {
			return
		}
		p, err := parsePage(o, "linkageToken", time.Minute)
		if err != nil {
			require.Empty(t, p)
			return
		}
		require.Positive(t, p.life)
		u, err := url.Parse(p.url)
		require.NoError(t, err)
		require.Equal(t, "https", u.Scheme)
		require.Equal(t, p.domain, u.Hostname())
		require.NotEmpty(t, p.domain)
		require.Nil(t, u.User)
	})
}
