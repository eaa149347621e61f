package txn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// dice are one seed's chances; several goroutines throw them.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int) int { d.mu.Lock(); defer d.mu.Unlock(); return d.r.IntN(n) }

// in reports true once in n throws on average.
func (d *dice) in(n int) bool { return n > 0 && d.n(n) == 0 }

func (d *dice) upTo(t time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.r.Int64N(int64(t)))
}

// vault is a Store that fails in every way a real one can: refuses, does not know
// (and has stored it, or has not), is closed for a while, loses its power between
// any two operations. It holds what the engine does to it against the rules.
type vault struct {
	dice *dice
	fail func(format string, args ...any)

	mu      sync.Mutex
	seq     uint64
	serial  uint64
	items   map[uint64]*txn.Request
	secrets map[string]string
	keys    map[string]uint64 // request key → seq
	open    map[string]map[uint64]bool
	trouble int                  // one operation in so many goes wrong; 0: none
	born    map[string]time.Time // id → really stored when
	ended   map[string]time.Time // id → really closed when
	queued  map[string]time.Time // id → really queued since
	cool    map[string]time.Time // customer and operation → really no new one before
	cooled  map[string]time.Time // and since when that is on the disk
	power   int                  // operations until the power goes; negative: it stays
	dead    bool                 // it has gone
	shut    time.Time            // closed until then
	retain  time.Duration        // a finished record is not deleted before
}

func newVault(d *dice, fail func(string, ...any)) *vault {
	return &vault{
		dice: d, fail: fail, items: map[uint64]*txn.Request{}, secrets: map[string]string{}, keys: map[string]uint64{},
		open: map[string]map[uint64]bool{}, cool: map[string]time.Time{}, cooled: map[string]time.Time{}, queued: map[string]time.Time{}, born: map[string]time.Time{}, ended: map[string]time.Time{}, power: -1, retain: 48 * time.Hour,
	}
}

// blink is what the engine's times may be off: a record's wall clock is followed to
// a second.
const blink = 3 * time.Second

var (
	errPower  = errors.New("the power is gone")
	errClosed = errors.New("the journal is closed after an error")
	errDisk   = errors.New("i/o error")
)

// luck says what becomes of one operation. mu is held.
func (v *vault) luck(writes bool) (stored bool, err error) {
	if v.power > 0 {
		v.power--
	}
	switch {
	case v.dead:
		return false, errPower
	case v.power == 0:
		v.dead = true
		return writes && v.dice.in(2), errPower
	case time.Now().Before(v.shut):
		return false, errClosed
	case !v.dice.in(v.trouble):
		return true, nil
	case !writes || v.dice.in(3):
		return false, errDisk
	}
	if v.dice.in(2) {
		v.shut = time.Now().Add(v.dice.upTo(20 * time.Second))
	}
	return v.dice.in(2), txn.ErrStoreUnknown
}

// plain is a copy as JSON would give it: wall time only.
func plain(r *txn.Request) *txn.Request {
	c := r.Clone()
	for _, t := range []*time.Time{&c.Created, &c.Expires, &c.AwaitTill, &c.NotBefore, &c.DoubtFrom, &c.Closed, &c.Cooldown, &c.At.Wall} {
		*t = t.Round(0)
	}
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.Began, a.Ended = a.Began.Round(0), a.Ended.Round(0)
	}
	return c
}

func place(r *txn.Request) string { return r.Customer + " " + string(r.Operation) }

func (v *vault) put(r *txn.Request, s *secret.Value) {
	c := plain(r)
	old := v.items[r.Seq]
	if r.State == txn.Queued && (old == nil || old.State != txn.Queued) {
		v.queued[r.ID] = time.Now()
	}
	v.items[r.Seq] = c
	switch {
	case s != nil:
		v.secrets[r.ID] = string(s.Bytes())
	case r.Secret == "":
		delete(v.secrets, r.ID)
	}
	// A record that is written again after a time off that nobody knows has its times
	// moved, so that only the first writing counts.
	fresh := !r.Cooldown.IsZero() && (old == nil || old.Cooldown.IsZero())
	if until := time.Now().Add(r.Cooldown.Sub(r.At.Wall)); fresh && until.After(v.cool[place(r)]) {
		if v.cool[place(r)].Before(time.Now()) {
			v.cooled[place(r)] = time.Now()
		}
		v.cool[place(r)] = until
	}
	if v.ended[r.ID].IsZero() && !r.State.Open() {
		v.ended[r.ID] = time.Now().Add(r.Closed.Sub(r.At.Wall)) // the journal may have refused it for a while
	}
	if v.open[place(r)] == nil {
		v.open[place(r)] = map[uint64]bool{}
	}
	if r.State.Open() {
		v.open[place(r)][r.Seq] = true
	} else {
		delete(v.open[place(r)], r.Seq)
	}
	if r.Secret != "" && r.State != txn.Queued && r.State != txn.Sending {
		v.fail("%s is %s and keeps its secret", r.ID, r.State)
	}
	// All but the newest open request of a customer for an operation wait to be
	// superseded, and nothing of them was ever sent. Only where the journal is behind
	// is that not known.
	list := slices.Sorted(maps.Keys(v.open[place(r)]))
	for _, q := range list[:max(0, len(list)-1)] {
		if o := v.items[q]; (o.State != txn.Queued || o.EverSent()) && o.Reason != txn.ReasonJournalBehind {
			v.fail("%s is %s beside a newer open request for the same", o.ID, o.State)
		}
	}
}

// of lists what there is of one customer and operation. mu is held.
func (v *vault) of(where string) (all []txn.Request) {
	for _, r := range v.items {
		if place(r) == where {
			all = append(all, *r)
		}
	}
	return all
}

func (v *vault) Add(_ context.Context, r *txn.Request, s *secret.Value) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if (s != nil) != (r.Secret != "") {
		v.fail("%s is added with a secret and its kind in disagreement", r.ID)
	}
	if seq, ok := v.keys[r.Key]; ok {
		v.fail("key %s is stored twice: %s and %s", r.Key, v.items[seq].ID, r.ID)
	}
	// Who asked before the engine was told that the earlier one is stored is let in.
	if time.Until(v.cool[place(r)]) > blink && time.Since(v.cooled[place(r)]) > blink {
		v.fail("%s is accepted, and its customer has to wait until %v, as is known since %v; now is %v; there are %+v", r.ID, v.cool[place(r)], v.cooled[place(r)], time.Now(), v.of(place(r)))
	}
	stored, err := v.luck(true)
	if stored {
		v.seq++
		r.Seq = v.seq
		v.keys[r.Key] = r.Seq
		v.born[r.ID] = time.Now()
		v.put(r, s)
	}
	return err
}

// edges are the ways from state to state that there are.
var edges = map[txn.State][]txn.State{
	txn.Queued:     {txn.Queued, txn.Sending, txn.Expired, txn.Cancelled, txn.InDoubt},
	txn.Sending:    {txn.Queued, txn.Sending, txn.Pending, txn.InDoubt, txn.Succeeded, txn.Rejected, txn.Expired, txn.Cancelled},
	txn.Pending:    {txn.Queued, txn.Pending, txn.InDoubt, txn.Succeeded, txn.Rejected, txn.Expired, txn.Unresolved},
	txn.InDoubt:    {txn.InDoubt, txn.Sending, txn.Succeeded, txn.Rejected, txn.Expired, txn.Unresolved},
	txn.Unresolved: {txn.Unresolved, txn.InDoubt, txn.Succeeded, txn.Rejected, txn.Expired},
}

func (v *vault) Update(_ context.Context, r *txn.Request, s *secret.Value) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.items[r.Seq]
	stored, err := v.luck(true)
	switch {
	case errors.Is(err, errPower) && !stored:
		return err
	case old == nil:
		return txn.ErrNotFound
	case old.State.Final() && old.State != r.State, !old.State.Final() && !slices.Contains(edges[old.State], r.State):
		v.fail("%s goes from %s to %s", r.ID, old.State, r.State)
	case old.Reference != r.Reference || old.ID != r.ID || old.Key != r.Key:
		v.fail("%s changes what never changes", r.ID)
	case r.State == txn.Cancelled && r.MayHaveBeenSent(), r.State == txn.Expired && r.MayHaveBeenSent() && old.State == txn.Queued:
		v.fail("%s may have been sent and is %s", r.ID, r.State)
	case len(r.Attempts)+r.Omitted < len(old.Attempts)+old.Omitted:
		v.fail("%s forgets an attempt", r.ID)
	}
	if stored {
		v.put(r, s)
	}
	return err
}

func (v *vault) Delete(_ context.Context, seqs []uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	stored, err := v.luck(true)
	if !stored {
		return err
	}
	for _, q := range seqs {
		r := v.items[q]
		if r == nil {
			continue
		}
		kept := time.Since(v.ended[r.ID])
		if r.State.Open() || kept < v.retain-blink {
			v.fail("%s is deleted as %s, %v after it closed", r.ID, r.State, kept)
		}
		delete(v.items, q)
		delete(v.keys, r.Key)
		delete(v.secrets, r.ID)
	}
	return err
}

func (v *vault) Get(_ context.Context, seq uint64) (*txn.Request, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.luck(false); err != nil {
		return nil, err
	}
	r := v.items[seq]
	if r == nil {
		return nil, txn.ErrNotFound
	}
	return r.Clone(), nil
}

func (v *vault) Each(_ context.Context, fn func(*txn.Request, error) error) error {
	v.mu.Lock()
	_, err := v.luck(false)
	var list []*txn.Request
	for _, q := range slices.Sorted(maps.Keys(v.items)) {
		list = append(list, v.items[q].Clone())
	}
	v.mu.Unlock()
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := fn(r, nil); err != nil {
			return err
		}
	}
	return nil
}

func (v *vault) Secret(_ context.Context, r *txn.Request) (*secret.Value, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.luck(false); err != nil {
		return nil, err
	}
	s, ok := v.secrets[r.ID]
	if !ok {
		return nil, txn.ErrSecretLost
	}
	return secret.Clone([]byte(s)), nil
}

func (v *vault) Serial(context.Context) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.luck(false); err != nil {
		return 0, err
	}
	v.serial++
	return v.serial, nil
}

// peek is the record as it is on disk, without any luck.
func (v *vault) peek(seq uint64) *txn.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.items[seq]; r != nil {
		return r.Clone()
	}
	return nil
}

// before are the customer's open requests that stand before one in the journal.
func (v *vault) before(r *txn.Request) []*txn.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*txn.Request
	for _, p := range policies() {
		for q := range v.open[r.Customer+" "+string(p.Operation)] {
			// What was queued in this very instant came after the turn was given.
			if o := v.items[q]; q < r.Seq && (o.State != txn.Queued || v.queued[o.ID].Before(time.Now())) {
				out = append(out, o.Clone())
			}
		}
	}
	return out
}

func (v *vault) stillOpen() []*txn.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*txn.Request
	for _, set := range v.open {
		for q := range set {
			out = append(out, v.items[q].Clone())
		}
	}
	return out
}

// unfinished are the requests for which an operator might do something.
func (v *vault) unfinished() []*txn.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*txn.Request
	for _, q := range slices.Sorted(maps.Keys(v.items)) {
		if r := v.items[q]; !r.State.Final() {
			out = append(out, r)
		}
	}
	return out
}

func (v *vault) all() []*txn.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*txn.Request
	for _, q := range slices.Sorted(maps.Keys(v.items)) {
		out = append(out, v.items[q].Clone())
	}
	return out
}

// calm ends all trouble.
func (v *vault) calm() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trouble, v.power, v.dead, v.shut = 0, -1, false, time.Time{}
}

// mentioned are the records whose ids stand in a text.
func (v *vault) mentioned(text string) string {
	var out strings.Builder
	for _, r := range v.all() {
		if strings.Contains(text, r.ID) {
			js, err := json.MarshalIndent(r, "", " ")
			fmt.Fprintln(&out, string(js), err)
		}
	}
	return out.String()
}
