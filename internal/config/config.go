// Package config reads one TOML file strictly: an unknown key, a wrong type or a
// value that a section refuses is an error that names file, line and key, because
// a misspelt key that is silently ignored is found only when a branch stands still.
//
// What the keys mean is declared by who uses them: the caller passes the struct.
package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"gardu/internal/secret"
)

// maxSize bounds the file. A configuration is a few kilobytes; a disk image named
// by mistake is not to be read into memory.
const maxSize = 1 << 20

// Error says what is wrong in which place of which file.
type Error struct {
	File string
	Line int    // from 1; 0 where no line is to blame
	Key  string // dotted; may be empty
	Err  error
	Hint string // what to do
}

// Error is one sentence.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, " line %d", e.Line)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, ", key %s", e.Key)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Read decodes the file into dst, a pointer to a struct with toml tags whose
// fields hold the defaults. Every error is an *Error.
func Read(path string, dst any) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	return Parse(path, b, dst)
}

// ReadTables decodes only the named tables of the file, as strictly as Read, and
// leaves the others and their mistakes alone.
func ReadTables(path string, dst any, tables ...string) error {
	var all map[string]any
	if err := Read(path, &all); err != nil {
		return err
	}
	part := map[string]any{}
	for _, t := range tables {
		if v, ok := all[t]; ok {
			part[t] = v
		}
	}
	b, err := toml.Marshal(part)
	if err != nil {
		return &Error{File: path, Err: err, Hint: "correct the file"}
	}
	err = Parse(path, b, dst)
	var e *Error
	if errors.As(err, &e) {
		e.Line = Line(path, e.Key) // and not that of what was written just now
	}
	return err
}

// Parse is Read for bytes already at hand; name stands for the file in errors.
func Parse(name string, b []byte, dst any) error {
	dec := toml.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	err := dec.Decode(dst)
	if err == nil {
		return nil
	}
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := &unknown.Errors[0]
		line, _ := first.Position()
		return &Error{File: name, Line: line, Key: strings.Join(first.Key(), "."),
			Err: errors.New("unknown key"), Hint: "correct its spelling or take it out (the sample file lists every key)"}
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		return &Error{File: name, Line: line, Key: strings.Join(bad.Key(), "."),
			Err: errors.New(plainType(strings.TrimPrefix(bad.Error(), "toml: "))), Hint: "correct this line"}
	}
	return &Error{File: name, Err: err, Hint: "correct the file"}
}

// typeError is what go-toml says of a value of the wrong type. It speaks of Go's
// types, which are nothing to a person with a configuration file.
var typeError = regexp.MustCompile(`^cannot (?:decode|store) (?:TOML )?([a-z ]+) (?:in|into) .*?(?:of type )?([^ ]+)$`)

// rangeError is what it says of a number that is too large, or negative where it must
// not be.
var rangeError = regexp.MustCompile(`cannot be stored in|out of range|overflow|is too (?:large|big)|not in range`)

// plainType says a type error in the words of the file.
func plainType(text string) string {
	if rangeError.MatchString(text) {
		return "is a number that is too large or below zero here"
	}
	m := typeError.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	is, want := m[1], m[2]
	for _, w := range []struct{ word, plain string }{
		{"string", "a text"}, {"integer", "a whole number"}, {"float", "a number with a point"}, {"boolean", "true or false"}, {"bool", "true or false"},
		{"array", "a list"}, {"inline table", "a table"}, {"table", "a table"}, {"datetime", "a date"}, {"date", "a date"}, {"time", "a time"},
	} {
		if strings.Contains(is, w.word) {
			is = w.plain
			break
		}
	}
	switch {
	case strings.HasPrefix(want, "[]"):
		want = "a list in square brackets"
	case strings.HasPrefix(want, "map["), strings.HasPrefix(want, "struct"), strings.Contains(want, "ettings"):
		want = "a table"
	case strings.HasSuffix(want, "Duration"):
		want = `a time such as "30s"`
	case strings.HasPrefix(want, "int"), strings.HasPrefix(want, "uint"):
		want = "a whole number"
	case strings.HasPrefix(want, "float"):
		want = "a number"
	case want == "bool":
		want = "true or false"
	default:
		want = "a text in quotation marks"
	}
	return "is " + is + ", and " + want + " is wanted"
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &Error{File: path, Err: errors.New("there is no such file"), Hint: "name the configuration with --config, or install the sample there"}
	case err != nil:
		return nil, &Error{File: path, Err: err, Hint: "make it readable for this user"}
	case !st.Mode().IsRegular() || st.Size() > maxSize:
		return nil, &Error{File: path, Err: errors.New("this is not a configuration file"), Hint: "name the right file with --config"}
	}
	b, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file on purpose
	if err != nil {
		return nil, &Error{File: path, Err: err, Hint: "make it readable for this user"}
	}
	return b, nil
}

// Line finds the line of a dotted key in a file, for errors that a section's own
// check raises after decoding. 0 where it is not there.
func Line(path, key string) int {
	b, err := readFile(path)
	if err != nil {
		return 0
	}
	table, name := "", key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		table, name = key[:i], key[i+1:]
	}
	now := ""
	for i, l := range strings.Split(string(b), "\n") {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") {
			now = strings.Trim(strings.SplitN(l, "#", 2)[0], "[] \t")
			continue
		}
		k, _, ok := strings.Cut(l, "=")
		if ok && now == table && strings.TrimSpace(k) == name {
			return i + 1
		}
	}
	return 0
}

// SecretFile reads a file that holds one secret text: exactly one trailing newline
// is taken off; an empty file, a control character, or a file that others can read
// is refused.
func SecretFile(path string) (*secret.Value, error) {
	fail := func(err error, hint string) (*secret.Value, error) {
		return nil, &Error{File: path, Err: err, Hint: hint}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(errors.New("there is no such file"), "put the secret there, readable for the service user only")
	case err != nil:
		return fail(err, "make it readable for the service user")
	case st.Size() > 8<<10:
		return fail(errors.New("this is too large for one secret"), "name the right file")
	case st.Mode().Perm()&0o007 != 0:
		return fail(errors.New("everybody on this machine can read it"), "chmod it to 0600 or 0640")
	}
	b, err := os.ReadFile(path) //nolint:gosec // G304: the configuration names the file on purpose
	if err != nil {
		return fail(err, "make it readable for the service user")
	}
	v := b
	if n := len(v); n > 0 && v[n-1] == '\n' {
		v = v[:n-1]
	}
	for _, c := range v {
		if c < 0x20 || c == 0x7f {
			clear(b)
			return fail(errors.New("it holds a control character"), "write the secret on one line")
		}
	}
	if len(v) == 0 {
		return fail(errors.New("it is empty"), "put the secret there")
	}
	return secret.New(v), nil
}
