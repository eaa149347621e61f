package snap

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	"gardu/internal/txn"
)

// Bounds of what is kept of an answer.
const (
	maxCode = 32
	maxText = 200
)

// Errors of an answer that cannot be used. They hold none of its bytes.
var (
	errNotObject = errors.New("the answer is not one JSON object")
	errAmbiguous = errors.New("the answer names a field twice")
)

// object is a JSON object of an answer, field by field. encoding/json would take
// "RESPONSECODE" for "responseCode" and the last of two equal names; here names
// are exact, and an object that says something twice is not believed.
type object map[string]json.RawMessage

func parseObject(b []byte) (object, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // some PHP servers send one
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	o := object{}
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if err != nil || !isName {
			return nil, errNotObject
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errNotObject
		}
		if _, twice := o[name]; twice {
			return nil, errAmbiguous
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return o, nil
}

// text reads a string, or a number where a string should be: providers mix them.
func (o object) text(name string) (string, bool) {
	raw := o[name]
	if len(raw) == 0 {
		return "", false
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", false
		}
		return s, true
	case c == '-' || c >= '0' && c <= '9':
		return string(raw), true
	}
	return "", false
}

// integer reads a whole number, or a string that holds one.
func (o object) integer(name string) (int64, bool) {
	s, ok := o.text(name)
	if !ok {
		return 0, false
	}
	return wholeNumber(strings.TrimSpace(s))
}

func wholeNumber(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// object reads an inner object. Absent, null and PHP's empty array are an empty one.
func (o object) object(name string) (object, bool) {
	raw := bytes.TrimSpace(o[name])
	if len(raw) == 0 || string(raw) == "null" {
		return object{}, true
	}
	if raw[0] == '[' && len(bytes.TrimSpace(raw[1:])) == 1 {
		return object{}, true
	}
	in, err := parseObject(raw)
	return in, err == nil
}

// head fills what every answer has into a txn.Answer.
func (o object) head(a *txn.Answer) {
	code, _ := o.text("responseCode")
	message, _ := o.text("responseMessage")
	a.Code = printable(code, maxCode)
	if _, _, ok := splitCode(code); !ok {
		a.Code = maskDigits(a.Code) // not a code at all: perhaps something that is not for operators
	}
	a.Text = maskDigits(printable(message, maxText))
}

// printable replaces what cannot be shown and cuts to limit characters.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == limit {
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// maskDigits replaces runs of four and more digits. A message is for operators and
// decides nothing; a PIN, a one-time password or a phone number in it is not for them.
func maskDigits(s string) string { return maskRuns(s, 4) }

func maskRuns(s string, short int) string {
	b := []byte(s)
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && b[j] >= '0' && b[j] <= '9' {
			j++
		}
		if j-i >= short {
			for k := i; k < j; k++ {
				b[k] = '#'
			}
		}
		i = max(j, i+1)
	}
	return string(b)
}
