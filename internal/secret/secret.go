// Package secret holds a value that cannot be printed by accident: a customer's
// PIN or one-time password, an access token, the token's own PIN.
//
// A Value lives in one buffer that Wipe clears. It redacts itself under fmt,
// log/slog, encoding/json and encoding.TextMarshaler, also as an unexported
// field of another struct: fmt calls no methods there, and the bytes are out of
// its reach behind two pointers.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every formatter prints in place of the bytes.
const Redacted = "[REDACTED]"

// Value is a secret byte string. The zero value and a nil *Value are empty.
// A Value is not safe for use by several goroutines while one of them wipes it.
type Value struct {
	// A pointer to the slice, so that %v of a struct that embeds a Value in an
	// unexported field prints an address and not the bytes.
	p **[]byte
}

// New takes ownership of b: the caller must neither keep nor change it. The
// whole capacity is cleared by Wipe.
func New(b []byte) *Value {
	s := &b
	return &Value{p: &s}
}

// Clone copies b into a new Value and leaves b to its owner.
func Clone(b []byte) *Value {
	c := make([]byte, len(b))
	copy(c, b)
	return New(c)
}

// Bytes returns the buffer itself, not a copy: it is cleared by Wipe. Never
// convert it to a string, which could not be cleared.
func (v *Value) Bytes() []byte {
	if v == nil || v.p == nil {
		return nil
	}
	return **v.p
}

// Len returns the length in bytes.
func (v *Value) Len() int { return len(v.Bytes()) }

// Equal reports in constant time whether both hold the same bytes.
func (v *Value) Equal(o *Value) bool {
	return subtle.ConstantTimeCompare(v.Bytes(), o.Bytes()) == 1
}

// Copy returns a Value of its own, so that each owner can wipe theirs.
func (v *Value) Copy() *Value {
	if v == nil {
		return nil
	}
	return Clone(v.Bytes())
}

// Wipe clears the buffer and empties the Value. It may be called twice and on nil.
func (v *Value) Wipe() {
	if v == nil || v.p == nil {
		return
	}
	b := **v.p
	clear(b[:cap(b)])
	v.p = nil
}

// String returns Redacted.
func (*Value) String() string { return Redacted }

// GoString returns Redacted.
func (*Value) GoString() string { return Redacted }

// Format writes Redacted under every verb.
func (*Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns Redacted.
func (*Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns Redacted.
func (*Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON returns Redacted as a JSON string.
func (*Value) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
