package keystore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     keystore.URI
		text     string // canonical form; in when empty
	}{
		{"token", "pkcs11:token=gardu", keystore.URI{Token: "gardu"}, ""},
		{"every attribute", "pkcs11:token=t;serial=s;manufacturer=m;model=x;object=o;id=%00%FF;type=private",
			keystore.URI{Token: "t", Serial: "s", Manufacturer: "m", Model: "x", Object: "o", ID: []byte{0, 255}, Type: "private"}, ""},
		{"any order", "pkcs11:type=cert;object=o", keystore.URI{Object: "o", Type: "cert"}, "pkcs11:object=o;type=cert"},
		{"secret key", "pkcs11:object=o;type=secret-key", keystore.URI{Object: "o", Type: "secret-key"}, ""},
		{"scheme in capitals", "PKCS11:object=o", keystore.URI{Object: "o"}, "pkcs11:object=o"},
		{"spaces", "pkcs11:token=The%20token", keystore.URI{Token: "The token"}, ""},
		{"lower-case hex", "pkcs11:object=%c3%a9", keystore.URI{Object: "é"}, "pkcs11:object=%C3%A9"},
		{"semicolon inside", "pkcs11:object=a%3Bb", keystore.URI{Object: "a;b"}, ""},
		{"percent inside", "pkcs11:object=100%25", keystore.URI{Object: "100%"}, ""},
		{"reserved characters", "pkcs11:object=a:b[c]@!$'()*+,=&", keystore.URI{Object: "a:b[c]@!$'()*+,=&"}, ""},
		{"generation", "pkcs11:object=snap-sign@g2", keystore.URI{Object: "snap-sign@g2"}, ""},
		{"plain text ID", "pkcs11:id=ab", keystore.URI{ID: []byte("ab")}, "pkcs11:id=%61%62"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := keystore.ParseURI(c.in)
			require.NoError(t, err)
			require.Equal(t, c.want, u)
			if c.text == "" {
				c.text = c.in
			}
			require.Equal(t, c.text, u.String())
		})
	}
	for _, c := range []struct{ name, in, says string }{
		{"empty", "", "does not begin"},
		{"another scheme", "https://token=x", "does not begin"},
		{"nothing selected", "pkcs11:", "names nothing"},
		{"no value", "pkcs11:token", "no value"},
		{"empty value", "pkcs11:token=", "token is empty"},
		{"empty part", "pkcs11:token=a;", "no value"},
		{"twice", "pkcs11:token=a;token=b", "token stands in it twice"},
		{"unknown", "pkcs11:tokn=a", "unknown attribute"},
		{"vendor", "pkcs11:x-vendor=a", "unknown attribute"},
		{"in capitals", "pkcs11:Token=a", "unknown attribute"},
		{"slot", "pkcs11:slot-id=0", "slot numbers change"},
		{"slot description", "pkcs11:slot-description=x", "serial="},
		{"library", "pkcs11:library-version=2", "path in the configuration"},
		{"module path", "pkcs11:token=a?module-path=/x.so", "path in the configuration"},
		{"pin source", "pkcs11:token=a?pin-source=/pin", "setting of its own"},
		{"pin value", "pkcs11:token=a?pin-value=canary", "must never stand in a URI"},
		{"pin value in the path", "pkcs11:token=a;pin-value=canary", "must never stand in a URI"},
		{"unknown query", "pkcs11:token=a?canary=1", "unknown attribute"},
		{"empty query", "pkcs11:token=a?", "unknown attribute"},
		{"short escape", "pkcs11:token=a%2", "hexadecimal"},
		{"lone percent", "pkcs11:token=%", "hexadecimal"},
		{"bad escape", "pkcs11:token=%zz", "hexadecimal"},
		{"raw space", "pkcs11:token=a b", "%20"},
		{"raw slash", "pkcs11:token=a/b", "must be written as %"},
		{"raw UTF-8", "pkcs11:token=é", "must be written as %"},
		{"control character", "pkcs11:token=a%0A", "control characters"},
		{"not UTF-8", "pkcs11:token=%FF", "UTF-8"},
		{"type", "pkcs11:object=o;type=secret", "none of private"},
		{"long token", "pkcs11:token=" + strings.Repeat("x", 33), "longer than 32"},
		{"long serial", "pkcs11:serial=" + strings.Repeat("x", 17), "longer than 16"},
		{"long ID", "pkcs11:id=" + strings.Repeat("x", 256), "longer than 255"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := keystore.ParseURI(c.in)
			require.ErrorIs(t, err, keystore.ErrConfiguration)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{
		"pkcs11:token=gardu", "pkcs11:object=o;id=%00%FF;type=private", "pkcs11:token=a?pin-value=1",
		"pkcs11:serial=%41;model=x;manufacturer=%C3%A9", "pkcs11:;;", "pkcs11:id=%",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := keystore.ParseURI(s)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrConfiguration)
			return
		}
		again, err := keystore.ParseURI(u.String())
		require.NoError(t, err)
		require.Equal(t, u, again)
		require.Equal(t, u.String(), again.String())
	})
}
