package prepaid

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// fields are the values that we know of an answer, by name, as text: the platform
// writes the same field as a number in one answer and as a string in the next. A
// null is no value. The texts stay bytes until they are known not to repeat the PIN.
type fields map[string][]byte

func (f fields) wipe() {
	for _, v := range f {
		clear(v)
	}
}

func (f fields) is(name, want string) bool {
	v, ok := f[name]
	return ok && string(v) == want
}

// The answer's fields (the platform's document, "Response parameters").
const (
	fieldMessageCode  = "messageCode"
	fieldClientID     = "clientId"
	fieldTxnID        = "clientTxnId"
	fieldBankID       = "bankId"
	fieldCode         = "responseCode"
	fieldMessage      = "responseMessage"
	fieldDescription  = "description"
	fieldResponseTime = "responseDateTime"
	fieldTxnNumber    = "accosaTransactionId"
	fieldRefNo        = "accosaRefNo"
	fieldToken        = "token"
	fieldResult       = "result"
)

func known(name string) bool {
	switch name {
	case fieldMessageCode, fieldClientID, fieldTxnID, fieldBankID, fieldCode, fieldMessage, fieldDescription,
		fieldResponseTime, fieldTxnNumber, fieldRefNo, FieldURN, FieldCustomer:
		return true
	}
	return false
}

// readFields reads one JSON object, strictly: nothing before or after it, no key
// twice, and each known field a string, a whole number or null. Numbers keep every
// digit, since accosaRefNo can exceed 64 bits. Unknown fields may hold anything.
func readFields(b []byte) (fields, error) {
	f := make(fields, 12)
	err := eachMember(b, func(name string, raw []byte) error {
		if !known(name) {
			return nil
		}
		v, ok, err := scalar(raw)
		if err != nil || !ok {
			return err
		}
		f[name] = v
		return nil
	})
	if err != nil {
		f.wipe()
		return nil, err
	}
	return f, nil
}

// scalar reads a string or a whole number as text; ok is false for null.
func scalar(raw []byte) (v []byte, ok bool, err error) {
	switch c := raw[0]; {
	case c == '"':
		var s unquoted
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, false, errUnreadable
		}
		return s, true, nil
	case c == 'n':
		return nil, false, nil
	case (c == '-' || c >= '0' && c <= '9') && !bytes.ContainsAny(raw, ".eE"):
		return bytes.Clone(raw), true, nil
	}
	return nil, false, errUnreadable
}

// unquoted takes a JSON string as bytes, by way of encoding.TextUnmarshaler.
type unquoted []byte

// UnmarshalText copies the text.
func (u *unquoted) UnmarshalText(b []byte) error {
	*u = append(unquoted{}, b...)
	return nil
}

// eachMember calls visit for the members of the one JSON object that b is, in
// their order, with each value as it stands there. encoding/json would take the
// last of two equal keys, match them in any case, and make strings of all values.
func eachMember(b []byte, visit func(name string, raw []byte) error) error {
	if !json.Valid(b) || !utf8.Valid(b) {
		return errUnreadable
	}
	i := skipSpace(b, 0)
	if b[i] != '{' {
		return errUnreadable
	}
	seen := make(map[string]bool)
	// From here on the grammar is known to be right, so only its marks are looked for.
	for i = skipSpace(b, i+1); b[i] != '}'; i = skipSpace(b, i) {
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		end := valueEnd(b, i)
		var name string
		if err := json.Unmarshal(b[i:end], &name); err != nil || seen[name] {
			return errUnreadable
		}
		seen[name] = true
		i = skipSpace(b, skipSpace(b, end)+1) // over the colon
		end = valueEnd(b, i)
		if err := visit(name, b[i:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// valueEnd returns where the value that begins at i ends, in valid JSON.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of the object around a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}
