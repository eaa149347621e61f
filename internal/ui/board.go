package ui

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
)

// The topics of the protocol.
const (
	topicSession  = "session"
	topicRequest  = "request"
	topicNetwork  = "network"
	topicCooldown = "cooldown"
	topicHealth   = "health"
	topicOperator = "operator" // only from an operator's visit on
)

// maxResults bounds the results kept for a page that does not acknowledge them.
// A page has one command under way at a time; 64 is far more than it can lose.
const maxResults = 64

// Result is the answer to one command.
type Result struct {
	ID    string `json:"id"`
	OK    bool   `json:"ok"`
	Code  string `json:"code,omitempty"`  // where not OK
	Field string `json:"field,omitempty"` // where one field is the reason
	Rule  string `json:"rule,omitempty"`  // which rule it broke
}

// kept is one result with what identifies its command.
type kept struct {
	id    string
	what  string // session, screen and name: a repeat must be of the same command
	n     uint64 // place in the order of results; 0 while the command is under way
	body  Result
	acked bool
}

// board is what the screen is to be told: the latest document per topic and the
// results of commands. It never grows with the number of changes.
type board struct {
	epoch string
	now   func() int64

	mu      sync.Mutex // guards what follows
	seq     uint64
	topics  map[string]topic
	results []*kept
	resultN uint64
	wakes   map[chan struct{}]bool
}

type topic struct {
	doc json.RawMessage
	seq uint64
}

func newBoard(now func() int64) *board {
	return &board{epoch: rand.Text(), now: now, topics: map[string]topic{}, wakes: map[chan struct{}]bool{}}
}

// subscribe returns a channel that holds a token while there may be news.
func (b *board) subscribe() (wake chan struct{}, cancel func()) {
	wake = make(chan struct{}, 1)
	wake <- struct{}{} // results that an earlier connection lost may be waiting
	b.mu.Lock()
	b.wakes[wake] = true
	b.mu.Unlock()
	return wake, func() {
		b.mu.Lock()
		delete(b.wakes, wake)
		b.mu.Unlock()
	}
}

// wake is called with b.mu held.
func (b *board) wake() {
	for ch := range b.wakes {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// set publishes documents together, so that no client sees a session that is
// ahead of its request. Documents that did not change cost nothing.
func (b *board) set(docs map[string]any) error {
	fresh := make(map[string]json.RawMessage, len(docs))
	for name, doc := range docs {
		js, err := json.Marshal(doc)
		if err != nil {
			return fmt.Errorf("write the %s document: %w", name, err)
		}
		fresh[name] = js
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next, changed := b.seq+1, false
	for name, js := range fresh {
		if old, ok := b.topics[name]; ok && bytes.Equal(old.doc, js) {
			continue
		}
		b.topics[name] = topic{js, next}
		changed = true
	}
	if changed {
		b.seq = next
		b.wake()
	}
	return nil
}

// stateFrame is a snapshot or a delta.
type stateFrame struct {
	Type  string                     `json:"type"`
	Epoch string                     `json:"epoch"`
	From  *uint64                    `json:"from,omitempty"`
	Seq   uint64                     `json:"seq"`
	Now   int64                      `json:"now"`
	State map[string]json.RawMessage `json:"state"`
}

type tickFrame struct {
	Type string `json:"type"`
	Seq  uint64 `json:"seq"`
	Now  int64  `json:"now"`
}

type resultFrame struct {
	Type string `json:"type"`
	Result
}

// cursor is all that is kept for a connection.
type cursor struct {
	seq    uint64
	result uint64
}

// start makes a connection's first frame: the difference where the client names
// this epoch and a number this board has reached, else everything.
func (b *board) start(epoch string, since uint64) ([]byte, cursor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cur := cursor{seq: b.seq}
	if epoch == b.epoch && since <= b.seq {
		js, err := json.Marshal(stateFrame{"delta", b.epoch, &since, b.seq, b.now(), b.after(since)})
		return js, cur, err
	}
	js, err := json.Marshal(stateFrame{"snapshot", b.epoch, nil, b.seq, b.now(), b.after(0)})
	return js, cur, err
}

// after is called with b.mu held.
func (b *board) after(seq uint64) map[string]json.RawMessage {
	docs := make(map[string]json.RawMessage, len(b.topics))
	for name, t := range b.topics {
		if t.seq > seq {
			docs[name] = t.doc
		}
	}
	return docs
}

// next returns the frames a connection has not had: at most one delta, which
// skips whatever was replaced meanwhile, and then the results not yet
// acknowledged, so that a result never runs ahead of what it led to.
func (b *board) next(cur cursor) ([][]byte, cursor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var frames [][]byte
	if b.seq > cur.seq {
		from := cur.seq
		js, err := json.Marshal(stateFrame{"delta", b.epoch, &from, b.seq, b.now(), b.after(from)})
		if err != nil {
			return nil, cur, err
		}
		frames, cur.seq = append(frames, js), b.seq
	}
	for _, k := range b.results {
		if k.n <= cur.result {
			continue
		}
		cur.result = k.n
		if k.acked {
			continue
		}
		js, err := json.Marshal(resultFrame{"result", k.body})
		if err != nil {
			return nil, cur, err
		}
		frames = append(frames, js)
	}
	return frames, cur, nil
}

func (b *board) tick() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return json.Marshal(tickFrame{"tick", b.seq, b.now()})
}

// standing of a command id.
type standing int

const (
	idNew   standing = iota // never seen, or long forgotten
	idSame                  // seen: its result is sent, or will be
	idClash                 // seen for another command
)

// begin notes a command id. For one seen before, the result is sent again if it
// is there already.
func (b *board) begin(id, what string) standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, k := range b.results {
		switch {
		case k.id != id:
			continue
		case k.what != what:
			return idClash
		case k.n == 0:
			return idSame
		}
		// A new place at the end sends it again, also over the present connection.
		b.resultN++
		k.n, k.acked = b.resultN, false
		b.results = append(append(b.results[:i:i], b.results[i+1:]...), k)
		b.wake()
		return idSame
	}
	if len(b.results) >= maxResults {
		b.forget()
	}
	b.results = append(b.results, &kept{id: id, what: what})
	return idNew
}

// forget drops the oldest result; a command under way keeps its place. It is
// called with b.mu held.
func (b *board) forget() {
	for i, k := range b.results {
		if k.n > 0 {
			b.results = append(b.results[:i:i], b.results[i+1:]...)
			return
		}
	}
}

// finish gives a command its result.
func (b *board) finish(r Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, k := range b.results {
		if k.id == r.ID {
			b.resultN++
			k.n, k.body = b.resultN, r
			b.results = append(append(b.results[:i:i], b.results[i+1:]...), k)
			b.wake()
			return
		}
	}
}

// ack notes that the page has a result. It is kept, so that a late repeat of the
// command gets it again, but is not sent by itself any more.
func (b *board) ack(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.results {
		if k.id == id && k.n > 0 {
			k.acked = true
		}
	}
}
