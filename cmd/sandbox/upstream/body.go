package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// object is a JSON object with the order of its keys.
type object struct {
	keys   []string
	values map[string]any // string, json.Number, bool, nil, object or []any
}

const maxDepth = 16

// parseObject reads exactly one JSON object and refuses repeated keys, deep nesting and anything after it.
func parseObject(data []byte) (object, error) {
	if !json.Valid(data) { // the decoder's own words would quote what it stumbled over, which may be part of a PIN
		return object{}, errors.New("it is not exactly one JSON value")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	value, err := parseValue(dec, 0)
	if err != nil {
		return object{}, err
	}
	obj, ok := value.(object)
	if !ok {
		return object{}, errors.New("it is not a JSON object")
	}
	return obj, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	switch delim {
	case '{':
		obj := object{values: map[string]any{}}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, fmt.Errorf("it is not JSON: %w", err)
			}
			name, ok := key.(string)
			if !ok {
				return nil, errors.New("it is not JSON: a key is not a string")
			}
			if _, twice := obj.values[name]; twice {
				return nil, fmt.Errorf("the key %q occurs twice", name)
			}
			value, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			obj.keys = append(obj.keys, name)
			obj.values[name] = value
		}
		_, err := dec.Token()
		return obj, err
	case '[':
		list := []any{}
		for dec.More() {
			value, err := parseValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := dec.Token()
		return list, err
	}
	return nil, fmt.Errorf("it is not JSON: unexpected %s", delim)
}

// minify removes the white space between the tokens of a JSON text and leaves every other byte as it is.
func minify(data []byte) []byte {
	out := make([]byte, 0, len(data))
	inString, escaped := false, false
	for _, c := range data {
		switch {
		case inString:
			out = append(out, c)
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				inString = false
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			inString = c == '"'
			out = append(out, c)
		}
	}
	return out
}

// fieldError says what is wrong with a body field.
type fieldError struct {
	field   string
	missing bool
	why     string
}

// text reads a string field of between low and high characters that ok, if given, accepts.
func (o object) text(name string, low, high int, ok func(string) bool) (string, *fieldError) {
	value, there := o.values[name]
	if !there {
		return "", &fieldError{name, true, "it is missing"}
	}
	s, isText := value.(string)
	switch {
	case !isText:
		return "", &fieldError{name, false, "it must be a string"}
	case s == "" && low > 0:
		return "", &fieldError{name, true, "it is empty"}
	case len(s) < low || len(s) > high:
		return "", &fieldError{name, false, fmt.Sprintf("it has %d characters instead of %d to %d", len(s), low, high)}
	case ok != nil && !ok(s):
		return "", &fieldError{name, false, "its value does not have the documented form"}
	}
	return s, nil
}

// child reads a mandatory field that holds an object.
func (o object) child(name string) (object, *fieldError) {
	value, there := o.values[name]
	if !there {
		return object{}, &fieldError{name, true, "it is missing"}
	}
	obj, ok := value.(object)
	if !ok {
		return object{}, &fieldError{name, false, "it must be an object"}
	}
	return obj, nil
}

// only refuses a field that is not in the document.
func (o object) only(names ...string) *fieldError {
	for _, key := range o.keys {
		if !slices.Contains(names, key) {
			return &fieldError{key, false, "the document has no such field"}
		}
	}
	return nil
}
