package queue

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"gardu/internal/txn"
)

// parseRequest reads a request as encoding/json does. What appendRequest wrote,
// which is nearly every record, is read in a quarter of the time: at a start each one
// is. Whatever it does not know at once, such as a member of another release or an
// escaped character, it leaves to encoding/json.
func parseRequest(js []byte) (*txn.Request, error) {
	if r := new(txn.Request); readRequest(js, r) {
		return r, nil
	}
	r := new(txn.Request)
	return r, json.Unmarshal(js, r)
}

// readRequest reports whether js is a request just as appendRequest writes it, in
// characters that stand for themselves. Where it is not, r is worth nothing.
func readRequest(js []byte, r *txn.Request) bool {
	d := decoder{rest: js}
	d.text(`{"id":`, &r.ID)
	d.want(`,"seq":0`)
	d.text(`,"key":`, &r.Key)
	d.text(`,"content":`, &r.Content)
	known(&d, `,"operation":`, &r.Operation)
	d.text(`,"customer":`, &r.Customer)
	d.texts(`,"fields":`, &r.Fields)
	d.text(`,"reference":`, &r.Reference)
	d.time(`,"created":`, &r.Created)
	d.time(`,"expires":`, &r.Expires)
	known(&d, `,"state":`, &r.State)
	if d.sees(`,"reason":`) {
		known(&d, "", &r.Reason)
	}
	if d.sees(`,"code":`) {
		d.text("", &r.Code)
	}
	number(&d, `,"step":`, &r.Step)
	if d.sees(`,"await":`) {
		known(&d, "", &r.Await)
	}
	d.someTime(`,"await_till":`, &r.AwaitTill)
	d.someTime(`,"not_before":`, &r.NotBefore)
	d.someTime(`,"doubt_from":`, &r.DoubtFrom)
	if d.sees(`,"tries":`) {
		number(&d, "", &r.Tries)
	}
	if d.sees(`,"secret":`) {
		known(&d, "", &r.Secret)
	}
	if d.sees(`,"attempts":`) {
		d.attempts(&r.Attempts)
	}
	if d.sees(`,"omitted":`) {
		number(&d, "", &r.Omitted)
	}
	if d.sees(`,"data":`) {
		d.texts("", &r.Data)
	}
	d.someTime(`,"closed":`, &r.Closed)
	d.someTime(`,"cooldown":`, &r.Cooldown)
	if d.sees(`,"note":`) {
		d.text("", &r.Note)
	}
	if d.sees(`,"note_by":`) {
		d.text("", &r.NoteBy)
	}
	r.Undated = d.sees(`,"undated":true`)
	d.time(`,"at":{"wall":`, &r.At.Wall)
	known(&d, `,"boot":`, &r.At.Boot)
	number(&d, `,"up":`, &r.At.Up)
	if r.At.Kept = d.sees(`,"kept":true`); !r.At.Kept {
		d.want(`,"kept":false`)
	}
	d.want(`}}`)
	return !d.lost && len(d.rest) == 0
}

// decoder takes members off the head of rest. After the first that is not as
// expected it is lost, and what it gives is worth nothing.
type decoder struct {
	rest []byte
	lost bool
}

// sees takes s off where it stands next.
func (d *decoder) sees(s string) bool {
	if d.lost || len(d.rest) < len(s) || string(d.rest[:len(s)]) != s {
		return false
	}
	d.rest = d.rest[len(s):]
	return true
}

func (d *decoder) want(s string) { d.lost = !d.sees(s) }

// raw takes a member's string off. It shares the record's memory.
func (d *decoder) raw(name string) []byte {
	if d.want(name); d.lost || len(d.rest) == 0 || d.rest[0] != '"' {
		d.lost = true
		return nil
	}
	s := d.rest[1:]
	ascii := true
	for i, c := range s {
		switch {
		case c == '"':
			d.rest = s[i+1:]
			d.lost = !ascii && !utf8.Valid(s[:i])
			return s[:i]
		case c == '\\' || c < ' ':
			d.lost = true
			return nil
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	d.lost = true
	return nil
}

func (d *decoder) text(name string, to *string) { *to = string(d.raw(name)) }

// known is text for values that many records share.
func known[S ~string](d *decoder, name string, to *S) { *to = once(S(d.raw(name))) }

func (d *decoder) texts(name string, to *map[string]string) {
	d.want(name)
	if d.sees(`null`) {
		return
	}
	d.want(`{`)
	*to = map[string]string{}
	for first := true; !d.lost && !d.sees(`}`); first = false {
		before := ","
		if first {
			before = ""
		}
		k := string(d.raw(before))
		(*to)[k] = string(d.raw(":"))
	}
}

func number[N ~int | ~int64 | ~uint64 | ~uint8](d *decoder, name string, to *N) {
	d.want(name)
	i := 0
	for i < len(d.rest) && (d.rest[i] >= '0' && d.rest[i] <= '9' || i == 0 && d.rest[i] == '-') {
		i++
	}
	n, err := strconv.ParseUint(string(d.rest[:i]), 10, 63)
	*to = N(n)
	// A leading zero is no JSON; what is negative or too large is none of ours.
	if d.lost = d.lost || err != nil || uint64(*to) != n || i > 1 && d.rest[0] == '0'; !d.lost {
		d.rest = d.rest[i:]
	}
}

func (d *decoder) time(name string, to *time.Time) {
	if s := d.raw(name); !d.lost {
		d.lost = to.UnmarshalText(s) != nil
	}
}

func (d *decoder) someTime(name string, to *time.Time) {
	if d.sees(name) {
		d.time("", to)
	}
}

func (d *decoder) attempts(to *[]txn.Attempt) {
	d.want(`[`)
	*to = []txn.Attempt{}
	for first := true; !d.lost && !d.sees(`]`); first = false {
		var a txn.Attempt
		if !first {
			d.want(`,`)
		}
		number(d, `{"step":`, &a.Step)
		number(d, `,"serial":`, &a.Serial)
		d.text(`,"external_id":`, &a.ExternalID)
		d.time(`,"began":`, &a.Began)
		d.someTime(`,"ended":`, &a.Ended)
		if d.sees(`,"outcome":`) {
			number(d, "", &a.Outcome)
		}
		if d.sees(`,"reason":`) {
			known(d, "", &a.Reason)
		}
		if d.sees(`,"code":`) {
			d.text("", &a.Code)
		}
		a.Repeat = d.sees(`,"repeat":true`)
		d.want(`}`)
		*to = append(*to, a)
	}
}
