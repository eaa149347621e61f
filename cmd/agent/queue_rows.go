package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gardu/internal/queue"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// row is a request as operators see it: the customer is masked, and nothing that
// is secret is in it.
type row struct {
	Number     string            `json:"number,omitempty"` // what the customer reads from the screen
	ID         string            `json:"id"`
	Seq        uint64            `json:"seq"`
	Operation  txn.Operation     `json:"operation,omitempty"`
	Customer   string            `json:"customer,omitempty"`
	State      txn.State         `json:"state"`
	Reason     txn.Reason        `json:"reason,omitempty"`
	Code       string            `json:"code,omitempty"`
	Reference  string            `json:"reference,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	Closed     time.Time         `json:"closed,omitzero"`
	NextTry    time.Time         `json:"next_try,omitzero"` // while it is open
	Says       string            `json:"provider_says,omitempty"`
	Line       txn.Reason        `json:"line,omitempty"` // why the provider's line, for which it waits, is not up
	Means      string            `json:"means"`
	Do         string            `json:"do"`
	Unreadable string            `json:"unreadable,omitempty"` // why the record does not open; the rest is then empty
	Note       string            `json:"note,omitempty"`
	NoteBy     string            `json:"note_by,omitempty"`
	VerifiedBy string            `json:"verified_by,omitempty"`
	Text       string            `json:"provider_text,omitempty"`
	Attempts   []txn.Attempt     `json:"attempts,omitempty"`
	Omitted    int               `json:"attempts_omitted,omitempty"`
	Fields     map[string]string `json:"fields,omitempty"` // unmasked only
}

// stateUnreadable stands in a row's state where the record does not open. No
// request has it.
const stateUnreadable txn.State = "unreadable"

// view says how much of a request is shown.
type view struct {
	Whole    bool `json:"whole,omitempty"`
	Unmasked bool `json:"unmasked,omitempty"`
}

// journal is what the queue commands read: the engine's, or the file of an agent
// that is stopped.
type journal struct {
	each    func(context.Context, func(*txn.Request, error) error) error
	explain func(*txn.Request) txn.Explanation
	lines   map[string]txn.Link // by provider; empty where nobody looks at them
}

func engineJournal(e *txn.Engine) *journal {
	j := &journal{e.Each, e.Explain, map[string]txn.Link{}}
	for _, l := range e.Links() {
		j.lines[l.Provider] = l
	}
	return j
}

func (j *journal) row(r *txn.Request, v view) row {
	x := j.explain(r)
	o := row{
		Number: ui.ShortReference(r.ID), ID: r.ID, Seq: r.Seq, Operation: r.Operation, Customer: mask(r.Customer), State: r.State, Reason: r.Reason, Code: r.Code,
		Reference: r.Reference, Created: r.Created, Closed: r.Closed, Says: x.Says, Means: x.Means, Do: x.Do, Note: r.Note, NoteBy: r.NoteBy,
	}
	if r.State.Open() {
		o.NextTry = r.NotBefore
	}
	if r.State == txn.Queued {
		o.Expires = r.Expires
		j.wait(&o, r)
	}
	if r.State.Final() && r.NoteBy != "" {
		o.Means, o.Do = fmt.Sprintf("%s closed it as %s: %s.", r.NoteBy, r.State, strings.TrimSuffix(r.Note, ".")), "Nothing."
	}
	if v.Unmasked {
		o.Customer = r.Customer
	}
	if v.Whole {
		o.Attempts, o.Omitted, o.Text, o.VerifiedBy = r.Attempts, r.Omitted, r.Data[txn.DataAnswerText], r.Data[txn.DataVerifiedBy]
		if v.Unmasked {
			o.Fields = r.Fields
		}
	}
	return o
}

// wait says of a request that waits for its provider's line why that is not up.
func (j *journal) wait(o *row, r *txn.Request) {
	provider, _, _ := strings.Cut(r.Customer, ":")
	l := j.lines[provider]
	if !l.Known || l.Up {
		return
	}
	o.Line = l.Reason
	if l.NextTry.After(o.NextTry) {
		o.NextTry = l.NextTry
	}
	if a, ok := txn.Advise(l.Reason); ok {
		o.Means, o.Do = "It waits for its provider's line. "+a.Means, a.Do
	}
}

// broken is the row of a record that does not open.
func broken(err error) row {
	o := row{State: stateUnreadable, Unreadable: err.Error(), Means: "Its record does not open, so it is neither sent nor ended.",
		Do: "Keep a copy of the journal's file, find out from the provider what became of it, and hand the copy to the vendor."}
	var re *queue.RecordError
	if errors.As(err, &re) {
		o.ID, o.Seq, o.Number = re.RequestID, re.Seq, ui.ShortReference(re.RequestID)
	}
	return o
}

// mask leaves the provider's name and, of a longer identifier, the last three
// characters.
func mask(customer string) string {
	provider, id, _ := strings.Cut(customer, ":")
	hidden := len(id)
	if hidden > 3 {
		hidden -= 3
	}
	return provider + ":" + strings.Repeat("*", hidden) + id[hidden:]
}

// filter says which requests are wanted. Empty members want all; All includes what
// is finished, which is left out else.
type filter struct {
	All       bool          `json:"all,omitempty"`
	States    []txn.State   `json:"states,omitempty"`
	Operation txn.Operation `json:"operation,omitempty"`
	Provider  string        `json:"provider,omitempty"`
	Customer  string        `json:"customer,omitempty"` // the whole identifier
	After     time.Time     `json:"after,omitzero"`
	Before    time.Time     `json:"before,omitzero"`
}

func (f *filter) wants(r *txn.Request) bool {
	provider, id, _ := strings.Cut(r.Customer, ":")
	switch {
	case len(f.States) > 0 && !slices.Contains(f.States, r.State),
		len(f.States) == 0 && !f.All && r.State.Final(),
		f.Operation != "" && f.Operation != r.Operation,
		f.Provider != "" && f.Provider != provider,
		f.Customer != "" && f.Customer != id && f.Customer != r.Customer,
		!f.After.IsZero() && r.Created.Before(f.After),
		!f.Before.IsZero() && !r.Created.Before(f.Before):
		return false
	}
	return true
}

// wantsBroken: nobody knows what a record that does not open is about, so only
// asking for states leaves it out.
func (f *filter) wantsBroken() bool {
	return len(f.States) == 0 || slices.Contains(f.States, stateUnreadable)
}

func (j *journal) list(ctx context.Context, f *filter, v view) ([]row, error) {
	rows := []row{}
	err := j.each(ctx, func(r *txn.Request, err error) error {
		switch {
		case err != nil && !errors.Is(err, txn.ErrSeal):
			return err
		case err != nil && f.wantsBroken():
			rows = append(rows, broken(err))
		case err == nil && f.wants(r):
			rows = append(rows, j.row(r, v))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return rows, nil
}

// shortest is how many characters of an id name a request.
const shortest = 4

// matches says how well a name fits a request: 0 not at all, and the lower the
// better. Names are an id or its beginning, the number on the customer's screen
// (that of the key where the screen was not sure), and the partner reference.
func matches(name, id, key, reference string) int {
	plain := strings.ReplaceAll(strings.ToUpper(name), "-", "")
	short := func(s string) string { return strings.ReplaceAll(ui.ShortReference(s), "-", "") }
	switch {
	case plain == "":
	case plain == id:
		return 1
	case name == reference && reference != "":
		return 2
	case len(id) > 8 && plain == short(id):
		return 3
	case len(key) > 8 && plain == strings.ToUpper(short(key)):
		return 4
	case len(plain) >= shortest && strings.HasPrefix(id, plain):
		return 5
	}
	return 0
}

// find is the one request of a name.
func (j *journal) find(ctx context.Context, name string, v view) (row, error) {
	name = strings.TrimSpace(name)
	type hit struct {
		row
		rank int
	}
	var hits []hit
	err := j.each(ctx, func(r *txn.Request, err error) error {
		switch {
		case err != nil && !errors.Is(err, txn.ErrSeal):
			return err
		case err != nil:
			if b := broken(err); matches(name, b.ID, "", "") > 0 {
				hits = append(hits, hit{b, matches(name, b.ID, "", "")})
			}
		default:
			if n := matches(name, r.ID, r.Key, r.Reference); n > 0 {
				hits = append(hits, hit{j.row(r, v), n})
			}
		}
		return nil
	})
	if err != nil {
		return row{}, fmt.Errorf("read the journal: %w", err)
	}
	if len(hits) == 0 {
		return row{}, &queueError{fmt.Errorf("no request %q: %w", name, txn.ErrNotFound),
			"see the numbers with 'gardu queue list --all'; finished requests are kept for 48 hours", ""}
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return cmp.Compare(a.rank, b.rank) })
	if len(hits) > 1 && hits[1].rank == hits[0].rank {
		return row{}, &queueError{fmt.Errorf("%q is the beginning of %d requests", name, len(hits)), "give more of the id", kindUsage}
	}
	return hits[0].row, nil
}

// queueError is an error with what to do, and of which kind it is.
type queueError struct {
	err  error
	hint string
	kind string
}

func (e *queueError) Error() string { return e.err.Error() }
func (e *queueError) Unwrap() error { return e.err }

// Hint implements admin.Hinted.
func (e *queueError) Hint() string { return e.hint }

// Kind implements admin.Kinded.
func (e *queueError) Kind() string { return e.kind }

// The kinds of errors that end a command with a code of their own.
const (
	kindUsage   = "usage"
	kindNetwork = "network"
)
