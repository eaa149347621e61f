package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of an entry. What is longer is cut, and ends in "…".
const (
	maxWord  = 64  // runes of act, result and the names of attributes
	maxText  = 256 // runes of object, who and the values of attributes
	maxAttrs = 24
	maxLine  = 64 << 10 // bytes; no entry within the bounds comes near
)

// timeFormat has a fixed width and an offset.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// ActGap is the act of a line that says what is missing before it.
const ActGap = "audit.gap"

// Entry is what happened.
type Entry struct {
	Time   time.Time         // zero: now
	Act    string            // what was done, such as "attempt.begin"; required
	Object string            // our id of what it was done to
	Result string            // what came of it; empty where that is not known yet
	Who    string            // "agent", or the operator's name
	Attrs  map[string]string // more, such as external_id, operation, code; at most 24

	// Sync waits until the line is on disk. For acts of keys and operators; an
	// entry on the delivery path goes with the next sync of anybody.
	Sync bool
}

// ErrEntry says that an entry cannot be written as it is.
var ErrEntry = errors.New("the audit entry is not valid")

// hash is the SHA-256 that ends a line.
type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// record is one line.
type record struct {
	seq    uint64
	time   string
	act    string
	object string
	result string
	who    string
	attrs  map[string]string
	prev   hash
}

// newRecord makes the line after head. What a caller hands in is made printable
// and cut to size: an entry is better cut than lost.
func newRecord(e *Entry, head Head) (*record, error) {
	if e.Act == "" {
		return nil, fmt.Errorf("act is empty; name what was done: %w", ErrEntry)
	}
	if len(e.Attrs) > maxAttrs {
		return nil, fmt.Errorf("%d attributes of at most %d: %w", len(e.Attrs), maxAttrs, ErrEntry)
	}
	t := e.Time
	if t.IsZero() {
		t = time.Now()
	}
	if y := t.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("time is in year %d: %w", y, ErrEntry)
	}
	r := &record{
		seq: head.Seq + 1, time: t.Format(timeFormat), act: clean(e.Act, maxWord), object: clean(e.Object, maxText),
		result: clean(e.Result, maxWord), who: clean(e.Who, maxText), attrs: make(map[string]string, len(e.Attrs)), prev: head.hash,
	}
	for k, v := range e.Attrs {
		r.attrs[clean(k, maxWord)] = clean(v, maxText)
	}
	return r, nil
}

// clean makes a string printable and at most n runes long.
func clean(s string, n int) string {
	if len(s) <= n && ordinary(s) {
		return s
	}
	var b strings.Builder
	count := 0
	for _, c := range s { // invalid UTF-8 comes as U+FFFD, which is printable
		if count == n-1 && utf8.RuneCountInString(s) > n {
			b.WriteRune('…')
			break
		}
		if !printable(c) {
			c = unicode.ReplacementChar
		}
		b.WriteRune(c)
		count++
	}
	return b.String()
}

// ordinary reports whether s is printable ASCII, as nearly everything is.
func ordinary(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func printable(c rune) bool { return c == ' ' || unicode.IsPrint(c) }

// encode returns the line without its newline, and its hash.
func (r *record) encode() ([]byte, hash) {
	b := make([]byte, 0, 512)
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, r.seq, 10)
	for _, f := range []struct{ name, value string }{
		{"time", r.time}, {"act", r.act}, {"object", r.object}, {"result", r.result}, {"who", r.who},
	} {
		b = append(b, ',')
		b = appendMember(b, f.name, f.value)
	}
	b = append(b, `,"attrs":{`...)
	for i, k := range slices.Sorted(maps.Keys(r.attrs)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(b, k, r.attrs[k])
	}
	b = append(b, `},`...)
	b = appendMember(b, "prev", r.prev.String())
	h := hash(sha256.Sum256(b))
	b = append(b, ',')
	b = appendMember(b, "hash", h.String())
	return append(b, '}'), h
}

func appendMember(b []byte, name, value string) []byte {
	b = appendString(b, name)
	b = append(b, ':')
	return appendString(b, value)
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// What can be wrong with one line.
var (
	errForm  = errors.New("it is not a line of an audit record")
	errHash  = errors.New("its hash does not fit its content")
	errLong  = errors.New("it is longer than a line can be")
	errOrder = errors.New("its sequence number does not follow")
	errChain = errors.New("it does not follow the line before it")
)

// parseLine reads a line, without its newline, strictly. Where the form is right
// and only the hash is not, the record comes with errHash.
func parseLine(line []byte) (*record, hash, error) {
	if len(line) > maxLine {
		return nil, hash{}, errLong
	}
	var j struct {
		Seq    uint64            `json:"seq"`
		Time   string            `json:"time"`
		Act    string            `json:"act"`
		Object string            `json:"object"`
		Result string            `json:"result"`
		Who    string            `json:"who"`
		Attrs  map[string]string `json:"attrs"`
		Prev   string            `json:"prev"`
		Hash   string            `json:"hash"`
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, hash{}, errForm
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, hash{}, errForm
	}
	r := &record{seq: j.Seq, time: j.Time, act: j.Act, object: j.Object, result: j.Result, who: j.Who, attrs: j.Attrs}
	var claimed hash
	if !unhex(&r.prev, j.Prev) || !unhex(&claimed, j.Hash) || !r.plain() {
		return nil, hash{}, errForm
	}
	again, h := r.encode()
	// One way to write each record: the line with the right hash in place of its
	// own must be what encode makes.
	n := len(again) - len(h.String()) - len(`"}`)
	if len(line) != len(again) || !bytes.Equal(line[:n], again[:n]) || string(line[len(line)-2:]) != `"}` {
		return nil, hash{}, errForm
	}
	if h != claimed {
		return r, claimed, errHash
	}
	return r, h, nil
}

// plain reports whether every string of r is one that newRecord could have made.
func (r *record) plain() bool {
	if r.seq == 0 || r.act == "" || r.attrs == nil || len(r.attrs) > maxAttrs {
		return false
	}
	if t, err := time.Parse(timeFormat, r.time); err != nil || t.Format(timeFormat) != r.time {
		return false
	}
	ok := fits(r.act, maxWord) && fits(r.object, maxText) && fits(r.result, maxWord) && fits(r.who, maxText)
	for k, v := range r.attrs {
		ok = ok && fits(k, maxWord) && fits(v, maxText)
	}
	return ok
}

func fits(s string, n int) bool { return clean(s, n) == s }

func unhex(h *hash, s string) bool {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) || hex.EncodeToString(b) != s {
		return false
	}
	copy(h[:], b)
	return true
}
