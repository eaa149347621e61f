package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gardu/cmd/crash/booth"
)

// request is one thing that was asked for, and all that was said of it.
type request struct {
	Key       string
	Operation string
	Subject   string // how the platform calls the customer
	Fields    map[string]string
	PIN       []byte

	Stored  bool // it was acknowledged: said to be on disk
	Refused bool // it was said that nothing is stored
	Asked   int  // how often it was asked for
	Waiting bool // nobody knows whether the last asking was heard

	ID        string // once known
	Reference string
	State     string   // newest that was said or found
	Reason    string   //
	Await     string   //
	Shown     string   // the end of its id, as it stood on the screen
	Told      string   // a final state that was said: it may never change again
	Doubted   bool     // at some time nobody knew whether it was carried out
	Found     bool     // it was in the journal when that was last read
	External  []string // ids of its calls
	Faults    []string // promises that were broken, in words
}

// fault notes a broken promise once.
func (r *request) fault(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if !slices.Contains(r.Faults, text) {
		r.Faults = append(r.Faults, text)
	}
}

// The states that end a request, as docs/architecture.md names them.
const (
	succeeded  = "succeeded"
	rejected   = "rejected"
	expired    = "expired"
	cancelled  = "cancelled"
	unresolved = "unresolved"
	inDoubt    = "in_doubt"
)

func ended(state string) bool {
	switch state {
	case succeeded, rejected, expired, cancelled, unresolved:
		return true
	}
	return false
}

// book remembers, outside of what is being killed, everything that was asked and
// said in one round.
type book struct {
	mu       sync.Mutex // guards everything, also the requests
	byKey    map[string]*request
	strays   []string // rows of the journal that nobody asked for
	unopened []string // why a journal did not open
	behind   []string // journals that said of themselves that they were put back from a copy
}

func newBook() *book { return &book{byKey: map[string]*request{}} }

// asking notes that a request is about to be asked for.
func (b *book) asking(r *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.byKey[r.Key]
	if own == nil {
		own = r
		b.byKey[r.Key] = own
	}
	own.Asked++
	own.Waiting = true
}

// said takes in what a booth said while it ran, and returns a copy of the request
// it speaks of, or nil.
func (b *book) said(e booth.Event) *request {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.byKey[e.Key]
	if r == nil {
		if e.Key != "" {
			b.strays = append(b.strays, e.Key)
		}
		return nil
	}
	switch e.Event {
	case booth.SaidStored:
		r.Waiting, r.Stored = false, true
		r.ID, r.Reference = e.ID, e.Reference
	case booth.SaidRefused:
		r.Waiting = false
		if r.Stored || r.Found {
			r.fault("said not to be stored (%s), and it was", e.Why)
		}
		r.Refused = true
	case booth.SaidChange:
		r.news(e)
	}
	own := *r
	return &own
}

// news takes in a state that was said or found. The caller holds the book.
func (r *request) news(e booth.Event) {
	if r.ID != "" && r.ID != e.ID {
		r.fault("two requests of one key in the journal: %s and %s", r.ID, e.ID)
	}
	if !strings.HasSuffix(e.ID, r.Shown) {
		r.fault("the screen called it …%s", r.Shown)
	}
	r.ID, r.Reference, r.External = e.ID, e.Reference, e.External
	// What is said last is not always what happened last: two goroutines say it.
	if r.Told != "" && e.State != r.Told && e.Event == booth.SaidRow {
		r.fault("said to have %s, and then found %s", r.Told, e.State)
	}
	if r.Told == "" || e.Event == booth.SaidRow {
		r.State, r.Reason, r.Await = e.State, e.Reason, e.Await
	}
	if ended(e.State) {
		r.Told = e.State
	}
	r.Doubted = r.Doubted || e.Doubted || e.State == inDoubt
}

// found compares the journal, read whole at a start, with what was said before.
func (b *book) found(rows []booth.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.byKey {
		r.Found = false
	}
	owner := map[string]string{}
	for _, e := range rows {
		r := b.byKey[e.Key]
		if r == nil {
			b.strays = append(b.strays, e.Key)
			continue
		}
		if r.Found {
			r.fault("twice in the journal")
		}
		r.Found = true
		if r.Refused && !r.Stored {
			r.fault("said not to be stored, and it is there")
		}
		r.news(e)
		for _, x := range e.External {
			if o, twice := owner[x]; twice {
				r.fault("external id %s was given out twice, also to %s", x, o)
			}
			owner[x] = e.Key
		}
	}
	for _, r := range b.byKey {
		if r.Stored && !r.Found {
			r.fault(faultLost)
		}
	}
}

// faultLost marks the worst: what was acknowledged is gone.
const faultLost = "acknowledged, and gone"

// open counts what has not come to an end yet.
func (b *book) open() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.byKey {
		if r.ID != "" && !ended(r.State) {
			n++
		}
	}
	return n
}

// pick returns copies of the requests that fit.
func (b *book) pick(fits func(*request) bool) []*request {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*request
	for _, r := range b.byKey {
		if fits(r) {
			own := *r
			out = append(out, &own)
		}
	}
	return out
}

// change lets fn change one request.
func (b *book) change(key string, fn func(*request)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.byKey[key]; r != nil {
		fn(r)
	}
}

// forEach lets fn see and change every request, in order of their keys.
func (b *book) forEach(fn func(*request)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(b.byKey)) {
		fn(b.byKey[k])
	}
}

// put adds to one of the book's lists.
func (b *book) put(list *[]string, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*list = append(*list, text)
}
