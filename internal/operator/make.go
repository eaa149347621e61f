package operator

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Made is a new operator. It is shown once, to the operator alone: whoever has it
// is that operator.
type Made struct {
	ID       string
	URI      string   // otpauth: for an authenticator, best as a QR code
	Recovery []string // for paper, each good once
	Table    string   // for the operators' file
}

// String keeps a Made out of logs.
func (m *Made) String() string { return "operator " + m.ID + " [REDACTED]" }

// GoString keeps a Made out of logs.
func (m *Made) GoString() string { return m.String() }

// Make makes a new operator: id has 1 to 32 digits; issuer, such as the bank's name,
// is what the authenticator shows beside it.
func Make(id, issuer string) (*Made, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	seed := make([]byte, 20) // RFC 4226, 4: 160 bits are recommended
	_, _ = rand.Read(seed)   // never fails, see crypto/rand
	defer clear(seed)
	e := entry{ID: id, Seed: seedEncoding.EncodeToString(seed)}
	m := &Made{ID: id}
	for range recoveryCount {
		code := rand.Text()[:recoveryLen]
		sum := recoveryDigest(id, []byte(code))
		e.Recovery = append(e.Recovery, hex.EncodeToString(sum[:]))
		m.Recovery = append(m.Recovery, code[:recoveryLen/2]+"-"+code[recoveryLen/2:])
	}
	var table strings.Builder // of digits, Base32 and hexadecimal Go's quotes make what TOML's do
	fmt.Fprintf(&table, "[[operator]]\nid = %q\nseed = %q\nrecovery = [\n", e.ID, e.Seed)
	for _, digest := range e.Recovery {
		fmt.Fprintf(&table, "  %q,\n", digest)
	}
	table.WriteString("]\n")
	m.Table = table.String()
	q := url.Values{"secret": {e.Seed}, "issuer": {issuer}, "period": {"30"}, "digits": {"6"}, "algorithm": {"SHA1"}}
	m.URI = "otpauth://totp/" + url.PathEscape(issuer) + ":" + url.PathEscape(id) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
	return m, nil
}
