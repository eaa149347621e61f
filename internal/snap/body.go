package snap

import (
	"bytes"
	"encoding/json"
)

// body builds compact JSON in the order of the calls: no spaces, no escaping of
// HTML, no newline at the end. The same bytes are hashed and sent.
type body struct {
	b     []byte
	comma bool
}

// newBody starts an object in a buffer of the given capacity. A body that holds a
// secret must get a capacity it never outgrows: growing leaves a copy behind.
func newBody(capacity int) *body {
	return &body{b: append(make([]byte, 0, capacity), '{')}
}

func (o *body) key(name string) {
	if o.comma {
		o.b = append(o.b, ',')
	}
	o.comma = true
	o.b = append(o.b, quote(name)...)
	o.b = append(o.b, ':')
}

func (o *body) text(name, value string) *body {
	o.key(name)
	o.b = append(o.b, quote(value)...)
	return o
}

// digits adds a secret of digits without making a string of it.
func (o *body) digits(name string, value []byte) *body {
	o.key(name)
	o.b = append(o.b, '"')
	o.b = append(o.b, value...)
	o.b = append(o.b, '"')
	return o
}

// secret adds a secret of visible ASCII without making a string of it. At worst
// every byte takes two.
func (o *body) secret(name string, value []byte) *body {
	o.key(name)
	o.b = append(o.b, '"')
	for _, c := range value {
		if c == '"' || c == '\\' {
			o.b = append(o.b, '\\')
		}
		o.b = append(o.b, c)
	}
	o.b = append(o.b, '"')
	return o
}

// info opens the one inner object that the documents have.
func (o *body) info() *body {
	o.key("additionalInfo")
	o.b = append(o.b, '{')
	o.comma = false
	return o
}

func (o *body) close() *body {
	o.b = append(o.b, '}')
	o.comma = true
	return o
}

// bytes ends the object.
func (o *body) bytes() []byte { return o.close().b }

// wipe clears the buffer, also beyond its length.
func (o *body) wipe() { clear(o.b[:cap(o.b)]) }

func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return []byte(`""`) // a string always encodes
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
