package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// URI is a pkcs11: URI (RFC 7512) as far as it names a token or an object in
// it. An empty field was not given.
type URI struct {
	Token        string
	Serial       string
	Manufacturer string
	Model        string
	Object       string
	ID           []byte
	Type         string // "private", "public", "secret-key" or "cert"
}

const uriScheme = "pkcs11:"

// The fields of CK_TOKEN_INFO have these sizes; a longer value matches nothing.
const (
	tokenMax        = 32
	serialMax       = 16
	manufacturerMax = 32
	modelMax        = 16
	objectMax       = 255
	idMax           = 255
)

// attributes that RFC 7512 knows and this package refuses, with what to do instead.
var refusedAttributes = map[string]string{
	"slot-id":              "slot numbers change between starts; name the token by token= and serial=",
	"slot-description":     "name the token by token= and serial=",
	"slot-manufacturer":    "name the token by token= and serial=",
	"library-manufacturer": "the driver is named by its path in the configuration; leave this out",
	"library-description":  "the driver is named by its path in the configuration; leave this out",
	"library-version":      "the driver is named by its path in the configuration; leave this out",
	"module-path":          "the driver is named by its path in the configuration; leave this out",
	"module-name":          "the driver is named by its path in the configuration; leave this out",
	"pin-source":           "the PIN's source has a setting of its own; leave this out",
	"pin-value":            "a PIN must never stand in a URI; put it into the credential, and change it if this URI was stored anywhere",
}

// ParseURI reads a pkcs11: URI. Its errors wrap ErrConfiguration and repeat no
// value of the URI, since somebody may have written a PIN into it.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		return URI{}, explain("read", "pkcs11 URI", fmt.Errorf("%w: %w", ErrConfiguration, err))
	}
	return u, nil
}

func parseURI(s string) (URI, error) {
	var u URI
	if len(s) < len(uriScheme) || !strings.EqualFold(s[:len(uriScheme)], uriScheme) {
		return u, errors.New("it does not begin with the scheme pkcs11")
	}
	path, query, hasQuery := strings.Cut(s[len(uriScheme):], "?")
	seen := map[string]bool{}
	if path != "" {
		for part := range strings.SplitSeq(path, ";") {
			if err := u.set(part, seen); err != nil {
				return URI{}, err
			}
		}
	}
	if hasQuery {
		for part := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(part, "=")
			return URI{}, refuse(name)
		}
	}
	if len(seen) == 0 {
		return URI{}, errors.New("it names nothing; give token=, or object= or id=")
	}
	return u, nil
}

// refuse explains an attribute that is not taken. An unknown name is repeated
// only if it looks like a name: it may be a value in the wrong place.
func refuse(name string) error {
	if why, ok := refusedAttributes[name]; ok {
		return fmt.Errorf("%s is not accepted: %s", name, why)
	}
	return errors.New("it has an unknown attribute; known are token, serial, manufacturer, model, object, id and type")
}

func (u *URI) set(part string, seen map[string]bool) error {
	name, raw, ok := strings.Cut(part, "=")
	if !ok {
		return errors.New("an attribute has no value; write name=value, separated by semicolons")
	}
	var text *string
	limit := 0
	switch name {
	case "token":
		text, limit = &u.Token, tokenMax
	case "serial":
		text, limit = &u.Serial, serialMax
	case "manufacturer":
		text, limit = &u.Manufacturer, manufacturerMax
	case "model":
		text, limit = &u.Model, modelMax
	case "object":
		text, limit = &u.Object, objectMax
	case "type":
		text, limit = &u.Type, len("secret-key")
	case "id":
		limit = idMax
	default:
		return refuse(name)
	}
	if seen[name] {
		return fmt.Errorf("%s stands in it twice", name)
	}
	seen[name] = true
	value, err := unescape(raw)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(value) == 0:
		return fmt.Errorf("%s is empty; leave it out or give a value", name)
	case len(value) > limit:
		return fmt.Errorf("%s is longer than %d bytes", name, limit)
	case text == nil:
		u.ID = value
		return nil
	case !utf8.Valid(value) || bytes.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%s holds control characters or is not UTF-8", name)
	}
	*text = string(value)
	if name == "type" {
		switch u.Type {
		case "private", "public", "secret-key", "cert":
		default:
			return errors.New("type is none of private, public, secret-key, cert")
		}
	}
	return nil
}

// plain are the characters that RFC 7512 lets stand unescaped in a path attribute.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:[]@!$'()*+,=&"

func unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return nil, errors.New("a percent sign is not followed by two hexadecimal digits")
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return nil, errors.New("a percent sign is not followed by two hexadecimal digits")
			}
			out = append(out, byte(hi<<4|lo)) //nolint:gosec // two digits
			i += 2
		case strings.IndexByte(plain, c) >= 0:
			out = append(out, c)
		default:
			return nil, errors.New("a character must be written as % and two hexadecimal digits (a space is %20)")
		}
	}
	return out, nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func escape(b *strings.Builder, name string, value []byte, binary bool) {
	if len(value) == 0 {
		return
	}
	if b.Len() > len(uriScheme) {
		b.WriteByte(';')
	}
	b.WriteString(name)
	b.WriteByte('=')
	for _, c := range value {
		if !binary && strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(b, "%%%02X", c)
		}
	}
}

// String writes the URI with its attributes in a fixed order, so that two URIs
// that name the same thing the same way are the same string.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(uriScheme)
	escape(&b, "token", []byte(u.Token), false)
	escape(&b, "serial", []byte(u.Serial), false)
	escape(&b, "manufacturer", []byte(u.Manufacturer), false)
	escape(&b, "model", []byte(u.Model), false)
	escape(&b, "object", []byte(u.Object), false)
	escape(&b, "id", u.ID, true)
	escape(&b, "type", []byte(u.Type), false)
	return b.String()
}

func (u URI) namesToken() bool {
	return u.Token != "" || u.Serial != "" || u.Manufacturer != "" || u.Model != ""
}

func (u URI) namesObject() bool { return u.Object != "" || len(u.ID) > 0 }

// object is the part that names a key, without the token and type around it.
func (u URI) object() URI { return URI{Object: u.Object, ID: u.ID} }

// within checks that a key's URI does not speak of another token than the
// store's own.
func (u URI) within(token URI) error {
	for _, f := range []struct{ name, key, token string }{
		{"token", u.Token, token.Token}, {"serial", u.Serial, token.Serial},
		{"manufacturer", u.Manufacturer, token.Manufacturer}, {"model", u.Model, token.Model},
	} {
		if f.key != "" && f.key != f.token {
			return configuration("its %s= differs from the configured token's; leave it out or make both the same", f.name)
		}
	}
	return nil
}
