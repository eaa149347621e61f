package ui

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON strictly and without encoding/json, because a decoder that
// makes Go strings leaves copies of a PIN that nobody can clear. It knows only
// what the protocol uses: objects, strings and whole numbers. Duplicate keys,
// lone surrogates, control characters and trailing bytes are refused.
type scanner struct {
	b []byte
	i int
}

var (
	errEnd       = errors.New("the frame ends too early")
	errTrailing  = errors.New("there is something after the object")
	errDuplicate = errors.New("a key stands twice")
	errString    = errors.New("a string is not valid JSON")
	errNumber    = errors.New("a number is not whole or too large")
	errLong      = errors.New("a value is too long")
	errMany      = errors.New("an object has too many keys")
)

const (
	maxKeys   = 16
	maxKey    = 32
	maxNumber = 1<<53 - 1 // what a JavaScript number holds exactly
)

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// eat skips space and the byte c, which must come next.
func (s *scanner) eat(c byte) error {
	s.space()
	if s.i >= len(s.b) {
		return errEnd
	}
	if s.b[s.i] != c {
		return fmt.Errorf("expected %q", c)
	}
	s.i++
	return nil
}

// next skips space and reports whether c comes next, without taking it.
func (s *scanner) next(c byte) bool {
	s.space()
	return s.i < len(s.b) && s.b[s.i] == c
}

// object calls each for every key; each must take the value.
func (s *scanner) object(each func(key string) error) error {
	if err := s.eat('{'); err != nil {
		return err
	}
	if s.next('}') {
		s.i++
		return nil
	}
	seen := make(map[string]bool, 8)
	for {
		key, err := s.text(maxKey)
		if err != nil {
			return err
		}
		if seen[key] {
			return errDuplicate
		}
		if len(seen) == maxKeys {
			return errMany
		}
		seen[key] = true
		if err := s.eat(':'); err != nil {
			return err
		}
		if err := each(key); err != nil {
			return err
		}
		if s.next(',') {
			s.i++
			continue
		}
		return s.eat('}')
	}
}

// whole is one object and nothing after it.
func (s *scanner) whole(each func(key string) error) error {
	if err := s.object(each); err != nil {
		return err
	}
	s.space()
	if s.i != len(s.b) {
		return errTrailing
	}
	return nil
}

// number takes a whole number from 0 to maxNumber.
func (s *scanner) number() (uint64, error) {
	s.space()
	from, n := s.i, uint64(0)
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		n = n*10 + uint64(s.b[s.i]-'0')
		if n > maxNumber {
			return 0, errNumber
		}
		s.i++
	}
	if s.i == from || s.b[from] == '0' && s.i > from+1 {
		return 0, errNumber
	}
	return n, nil
}

// text takes a string of at most limit bytes that is no secret.
func (s *scanner) text(limit int) (string, error) {
	b, err := s.bytes(limit)
	return string(b), err
}

// bytes takes a string of at most limit bytes into a buffer of its own, made
// large enough at once: a buffer that grew would leave copies behind.
func (s *scanner) bytes(limit int) ([]byte, error) {
	raw, err := s.raw()
	if err != nil {
		return nil, err
	}
	out, err := unquote(make([]byte, 0, len(raw)), raw)
	if err != nil {
		clear(out[:cap(out)])
		return nil, err
	}
	if len(out) > limit {
		clear(out[:cap(out)])
		return nil, errLong
	}
	return out, nil
}

// raw takes a string and returns what stands between its quotes, still escaped.
// Its escapes are checked, so that what is only skipped is refused like what is read.
func (s *scanner) raw() ([]byte, error) {
	if err := s.eat('"'); err != nil {
		return nil, err
	}
	from := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[from : s.i-1], nil
		case c == '\\':
			_, n, err := escape(s.b[s.i:])
			if err != nil {
				return nil, err
			}
			s.i += n
		case c < 0x20:
			return nil, errString
		default:
			s.i++
		}
	}
	return nil, errEnd
}

// unquote appends raw to dst with its escapes undone. The result is never longer
// than raw.
func unquote(dst, raw []byte) ([]byte, error) {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			i++
			continue
		}
		r, n, err := escape(raw[i:])
		if err != nil {
			return dst, err
		}
		i += n
		dst = utf8.AppendRune(dst, r)
	}
	return dst, nil
}

var escapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads one escape, which begins with a backslash: the character it
// stands for and how many bytes it takes.
func escape(raw []byte) (rune, int, error) {
	if len(raw) < 2 {
		return 0, 0, errString
	}
	if r, ok := escapes[raw[1]]; ok {
		return r, 2, nil
	}
	if raw[1] != 'u' {
		return 0, 0, errString
	}
	r, ok := hex4(raw[2:])
	if !ok {
		return 0, 0, errString
	}
	if !utf16.IsSurrogate(r) {
		return r, 6, nil
	}
	if len(raw) < 12 || raw[6] != '\\' || raw[7] != 'u' {
		return 0, 0, errString
	}
	low, ok := hex4(raw[8:])
	if both := utf16.DecodeRune(r, low); ok && both != utf8.RuneError {
		return both, 12, nil
	}
	return 0, 0, errString
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
