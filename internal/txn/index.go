package txn

import (
	"container/heap"
	"crypto/sha256"
	"maps"
	"slices"
	"time"
)

// entry is what the engine remembers of a request between two looks at the
// journal: enough to know what is due and whose turn it is, and no more, since
// there may be a hundred thousand of them.
type entry struct {
	id       string
	seq      uint64
	op       Operation
	customer string
	state    State
	await    Await
	step     int
	reason   Reason
	everSent bool
	due      time.Time // NotBefore of the record
	rest     time.Time // whatever else, it is not looked at before
	ends     time.Time // when time alone ends the present state
	busy     bool      // one goroutine is at it; nobody else may touch the record
	calling  bool      // it counts among Engine.inFlight
	place    *place    // while it is on its way to the disk
	// superseded: a newer request has its place, and it is not sent any more. The
	// index knows before the record does.
	superseded bool
	// stale: the journal did not take a transition, or did not know; the record may
	// be newer than what stands here.
	stale bool
	// unsent is the serial of an attempt that may be on disk and never left.
	unsent uint64
	// repeat: an operator wants a guarded repeat.
	repeat bool
	kept   *kept     // of an unresolved one
	wake   time.Time // when the heap looks at it again
	at     int       // place in the heap, -1 when not in it
}

// blocks reports whether later requests of the same customer must wait for it.
// One that waits for the customer's own act does not: the agent is not in doubt
// about it, and the customer may want something else meanwhile. One that may be
// further on disk does, until that is known.
func (e *entry) blocks() bool { return e.state.Open() && (e.await == "" || e.stale) }

// wakes is a heap of entries by wake.
type wakes []*entry

func (w wakes) Len() int           { return len(w) }
func (w wakes) Less(i, j int) bool { return w[i].wake.Before(w[j].wake) }
func (w wakes) Swap(i, j int)      { w[i], w[j] = w[j], w[i]; w[i].at, w[j].at = i, j }

// Push implements heap.Interface.
func (w *wakes) Push(x any) {
	e, _ := x.(*entry)
	e.at = len(*w)
	*w = append(*w, e)
}

// Pop implements heap.Interface.
func (w *wakes) Pop() any {
	old := *w
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	e.at = -1
	return e
}

// keyed remembers a request key for as long as its record is kept.
type keyed struct {
	id      string
	content digest
	place   *place // while the record is on its way to the disk
}

// digest tells a request's content from another's: the whole of Request.Content
// would be half of what a waiting request takes up in memory.
type digest [16]byte

func digestOf(content string) digest {
	sum := sha256.Sum256([]byte(content))
	return digest(sum[:16])
}

// kept is a record that the engine has nothing more to do for and that waits to
// be deleted.
type kept struct {
	id         string
	seq        uint64
	key        string
	until      time.Time
	unresolved bool // unless an operator closes it before
	at         int  // place in the heap, -1 when not in it
}

// keeps is a heap of kept by until.
type keeps []*kept

func (k keeps) Len() int           { return len(k) }
func (k keeps) Less(i, j int) bool { return k[i].until.Before(k[j].until) }
func (k keeps) Swap(i, j int)      { k[i], k[j] = k[j], k[i]; k[i].at, k[j].at = i, j }

// Push implements heap.Interface.
func (k *keeps) Push(x any) {
	e, _ := x.(*kept)
	e.at = len(*k)
	*k = append(*k, e)
}

// Pop implements heap.Interface.
func (k *keeps) Pop() any {
	old := *k
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*k = old[:len(old)-1]
	x.at = -1
	return x
}

// index is the engine's memory of the journal. It is rebuilt at start from the
// records themselves, so it cannot disagree with them for longer than a run.
// The engine's mutex guards it.
type index struct {
	seqs     map[string]uint64   // id → seq of every record kept
	keys     map[string]keyed    // request key → request
	open     map[string]*entry   // id → open request
	line     map[string][]*entry // customer → open requests in order
	wakes    wakes               // open requests that are not busy
	cooldown map[string]cooldown // customer + operation → what runs
	swept    time.Time           // when cooldown was last rid of what is over
	recent   []stamp             // accepted within the last hour, in order, from first on
	first    int
	counts   map[string]int    // customer → how many of recent
	kept     keeps             // finished or unresolved
	unres    map[string]*entry // id → unresolved request
}

// cooldown is until when a customer may not ask again, and whether the request that
// brought it was refused.
type cooldown struct {
	until   time.Time
	refused bool
}

type stamp struct {
	customer string
	at       time.Time
}

func newIndex() index {
	return index{
		seqs: map[string]uint64{}, keys: map[string]keyed{}, open: map[string]*entry{},
		line: map[string][]*entry{}, cooldown: map[string]cooldown{},
		counts: map[string]int{}, unres: map[string]*entry{},
	}
}

// put brings the index up to date with a record that is on disk.
func (x *index) put(r *Request, p *Policy, t Timing, m moment) *entry {
	x.seqs[r.ID] = r.Seq
	x.keys[r.Key] = keyed{id: r.ID, content: digestOf(r.Content)}
	cool := cooldown{m.on(r.Cooldown), r.State == Rejected}
	if cool.until.After(x.cooldown[coolKey(r.Customer, r.Operation)].until) {
		x.cooldown[coolKey(r.Customer, r.Operation)] = cool
	}
	e := x.open[r.ID]
	if e == nil {
		e = x.unres[r.ID]
	}
	if e == nil {
		e = &entry{id: r.ID, seq: r.Seq, op: r.Operation, customer: r.Customer, at: -1}
	}
	e.state, e.await, e.step, e.reason = r.State, r.Await, r.Step, r.Reason
	e.due, e.everSent = m.on(r.NotBefore), r.EverSent()
	if !r.State.Open() {
		if x.open[r.ID] != nil {
			x.drop(e)
		}
		k := &kept{id: r.ID, seq: r.Seq, key: r.Key, until: m.steady.Add(r.Closed.Add(t.Retain).Sub(m.likely(r)))}
		if r.State == Unresolved {
			if e.kept != nil {
				return nil // it stands in line to be deleted already
			}
			k.until, k.unresolved = m.on(r.Closed.Add(t.Unresolved)), true
			x.unres[r.ID], e.kept = e, k
		} else {
			x.unkeep(e)
		}
		if cool.until.After(k.until) {
			k.until = cool.until
		}
		heap.Push(&x.kept, k)
		return nil
	}
	x.unkeep(e) // an operator has opened it again
	if x.open[r.ID] == nil {
		x.enter(e)
	} else if e.seq != r.Seq {
		x.leave(e)
		e.seq = r.Seq
		x.join(e)
	}
	e.ends = m.on(endOf(r, p))
	return e
}

// unkeep takes a request that is not unresolved any more out of the line of those
// that are deleted as such.
func (x *index) unkeep(e *entry) {
	if x.unres[e.id] == e {
		delete(x.unres, e.id)
		x.unschedule(e)
	}
	if e.kept != nil && e.kept.at >= 0 {
		heap.Remove(&x.kept, e.kept.at)
	}
	e.kept = nil
}

// enter counts a request among the open ones.
func (x *index) enter(e *entry) {
	x.open[e.id] = e
	x.join(e)
}

func (x *index) drop(e *entry) {
	delete(x.open, e.id)
	x.unschedule(e)
	x.leave(e)
}

// join puts e into its customer's line by its place in the journal; one that has
// none yet goes last. A line has at most a few requests, one for each operation.
func (x *index) join(e *entry) {
	l := x.line[e.customer]
	i := len(l)
	for e.seq != 0 && i > 0 && (l[i-1].seq == 0 || l[i-1].seq > e.seq) {
		i--
	}
	x.line[e.customer] = slices.Insert(l, i, e)
}

func (x *index) leave(e *entry) {
	l := x.line[e.customer]
	if i := slices.Index(l, e); i >= 0 {
		l = slices.Delete(l, i, i+1)
	}
	if len(l) == 0 {
		delete(x.line, e.customer)
		return
	}
	x.line[e.customer] = l
}

// head reports whether it is e's turn among the requests of its customer: nobody
// before it blocks, and no call of a later one is under way or about to be.
func (x *index) head(e *entry) bool {
	before := true
	for _, o := range x.line[e.customer] {
		switch {
		case o == e:
			before = false
		case before && o.blocks(), o.state == Sending, o.busy && (o.state == Queued || o.state == InDoubt):
			return false // a doubt that somebody is at may be about to be repeated
		}
	}
	return true
}

// openFor finds the customer's open request for an operation: the newest, since
// an older one is superseded and only waits for the journal to say so.
func (x *index) openFor(customer string, op Operation) *entry {
	for _, e := range slices.Backward(x.line[customer]) {
		if e.op == op {
			return e
		}
	}
	return nil
}

func (x *index) schedule(e *entry, wake time.Time) {
	e.wake = wake
	if e.at >= 0 {
		heap.Fix(&x.wakes, e.at)
		return
	}
	heap.Push(&x.wakes, e)
}

func (x *index) unschedule(e *entry) {
	if e.at >= 0 {
		heap.Remove(&x.wakes, e.at)
	}
}

func coolKey(customer string, op Operation) string { return customer + "\x00" + string(op) }

const limitWindow = time.Hour

// count forgets what is older than the window and says how many were accepted
// for the customer and in all.
func (x *index) count(customer string, now time.Time) (ofCustomer, ofKiosk int) {
	for x.first < len(x.recent) && now.Sub(x.recent[x.first].at) >= limitWindow {
		x.uncount(x.recent[x.first].customer)
		x.recent[x.first] = stamp{}
		x.first++
	}
	if x.first > len(x.recent)/2 {
		// Moving down now and then, and not at each call, keeps it from being
		// quadratic in what an hour brings.
		x.recent = slices.Delete(x.recent, 0, x.first)
		x.first = 0
	}
	return x.counts[customer], len(x.recent) - x.first
}

func (x *index) uncount(customer string) {
	if x.counts[customer]--; x.counts[customer] <= 0 {
		delete(x.counts, customer)
	}
}

// sortRecent puts the window in order after a start: records may have come in
// another one.
func (x *index) sortRecent() {
	slices.SortStableFunc(x.recent, func(a, b stamp) int { return a.at.Compare(b.at) })
}

func (x *index) accepted(customer string, at time.Time) {
	x.recent = append(x.recent, stamp{customer, at})
	x.counts[customer]++
}

// unaccept takes back the newest acceptance of a customer that came to nothing.
func (x *index) unaccept(customer string) {
	for i := len(x.recent) - 1; i >= x.first; i-- {
		if x.recent[i].customer == customer {
			x.recent = slices.Delete(x.recent, i, i+1)
			x.uncount(customer)
			return
		}
	}
}

// sweep forgets the cooldowns that are over, now and then.
func (x *index) sweep(now time.Time) {
	if now.Sub(x.swept) < sweepEvery {
		return
	}
	x.swept = now
	maps.DeleteFunc(x.cooldown, func(_ string, c cooldown) bool { return !c.until.After(now) })
	x.count("", now)
}

const sweepEvery = 10 * time.Minute

// overdue takes at most n records whose time to be deleted has come. Unresolved
// ones are claimed: no operator can close them meanwhile.
func (x *index) overdue(n int, now time.Time) []*kept {
	var out, busy []*kept
	for len(out) < n && len(x.kept) > 0 && !x.kept[0].until.After(now) {
		k, _ := heap.Pop(&x.kept).(*kept)
		switch u := x.unres[k.id]; {
		case u == nil:
			out = append(out, k)
		case u.busy: // an operator is at it
			busy = append(busy, k)
		default:
			u.busy = true
			x.unschedule(u)
			out = append(out, k)
		}
	}
	for _, k := range busy {
		k.until = now.Add(time.Minute)
		heap.Push(&x.kept, k)
	}
	return out
}

// again puts a record back into the line of those to be deleted.
func (x *index) again(k *kept, until time.Time) {
	k.until = until
	if u := x.unres[k.id]; u != nil {
		u.busy = false
	}
	heap.Push(&x.kept, k)
}

// forget leaves a record out of the index. It stays in line to be deleted until
// that has been done.
func (x *index) forget(k *kept) {
	delete(x.seqs, k.id)
	delete(x.unres, k.id)
	if x.keys[k.key].id == k.id {
		delete(x.keys, k.key)
	}
}

// freeAt is when the oldest request of the customer (of anyone, where empty)
// leaves the window.
func (x *index) freeAt(customer string, now time.Time) time.Time {
	for _, s := range x.recent[x.first:] {
		if customer == "" || s.customer == customer {
			return s.at.Add(limitWindow)
		}
	}
	return now
}
