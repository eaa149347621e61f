package txn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sort"
	"time"

	"gardu/internal/secret"
)

// Preview says whether a request would be accepted, with the errors of Accept,
// and stores nothing. It lets the screen refuse before the customer types a PIN.
func (e *Engine) Preview(ctx context.Context, op Operation, fields map[string]string) error {
	of, err := e.check(op, fields)
	if err != nil {
		return err
	}
	return e.untilStored(ctx, func() error {
		e.mu.Lock()
		_, open, err := e.admit(&of.Policy, of.Policy.Customer(fields), e.clock.now())
		e.mu.Unlock()
		if open != nil {
			return e.openError(ctx, open)
		}
		return err
	})
}

// check holds what was entered against what is offered.
func (e *Engine) check(op Operation, fields map[string]string) (*Offer, error) {
	of := e.offers[op]
	switch {
	case of == nil:
		return nil, ErrUnknownOperation
	case !of.Policy.Enabled:
		return nil, fmt.Errorf("%w: %s", ErrDisabled, of.Policy.Why)
	}
	return of, of.Policy.CheckFields(fields)
}

// admit holds a customer's wish against cooldown, limits and the link. old is
// their own request that the new one would supersede, open the one that stands in
// its way; at most one of them is there. e.mu is held.
func (e *Engine) admit(p *Policy, customer string, now time.Time) (old, open *entry, err error) {
	if e.stopping {
		return nil, nil, ErrStopped
	}
	old = e.ix.openFor(customer, p.Operation)
	switch {
	case old == nil:
	case old.place != nil:
		return nil, nil, &storingError{old.place}
	case !replaceable(old):
		return nil, old, nil
	}
	if c := e.ix.cooldown[coolKey(customer, p.Operation)]; c.until.After(now) {
		return nil, nil, &CooldownError{e.clock.shown(c.until), c.refused}
	}
	ofCustomer, ofKiosk := e.ix.count(customer, now)
	if ofCustomer >= e.limits.CustomerHour {
		return nil, nil, &LimitError{"customer", e.clock.shown(e.ix.freeAt(customer, now))}
	}
	if ofKiosk >= e.limits.KioskHour {
		return nil, nil, &LimitError{"kiosk", e.clock.shown(e.ix.freeAt("", now))}
	}
	if l := e.lines[p.Provider]; !p.HoldOffline && !l.allows(now) {
		return nil, nil, ErrOffline
	}
	return old, nil, nil
}

// replaceable reports whether a newer request may take the entry's place: only
// one of which nothing was ever sent, by its record too, and which nobody is
// sending now.
func replaceable(en *entry) bool { return unsent(en) && !en.busy }

func unsent(en *entry) bool { return en.state == Queued && !en.everSent && !en.stale }

func (e *Engine) openError(ctx context.Context, en *entry) error {
	r, err := e.read(ctx, en.seq)
	if err != nil {
		return fmt.Errorf("read the customer's open request: %w", err)
	}
	return &OpenError{r}
}

// Accept stores a request; it is on disk when Accept returns nil, and is sent as
// soon as it can be. The same Key with the same content returns the request that
// is already there, so a caller that got no answer asks again with the same Key.
//
// Errors: *FieldError, ErrNoKey, ErrUnknownOperation, ErrDisabled, ErrUnverified,
// *OpenError, *CooldownError, *LimitError, ErrOffline, ErrFull, ErrKeyConflict,
// ErrNotStored, ErrStopped: nothing was stored. ErrStoreUnknown: it may have been;
// ask again with the same Key.
func (e *Engine) Accept(ctx context.Context, n New) (*Request, error) {
	if n.Key == "" {
		return nil, ErrNoKey
	}
	of, err := e.check(n.Operation, n.Fields)
	if err != nil {
		return nil, err
	}
	p := &of.Policy
	if (p.StaffVerify || p.CardVerify) && n.VerifiedBy == "" {
		return nil, ErrUnverified
	}
	if p.Secret != nil {
		if err := p.Secret.Check(n.Secret.Bytes()); err != nil {
			return nil, err
		}
	}
	if !e.begin() {
		return nil, ErrStopped
	}
	defer e.work.Done()
	var r *Request
	err = e.untilStored(ctx, func() (err error) {
		r, err = e.acceptOnce(ctx, n, p, contentOf(n.Operation, n.Fields))
		return err
	})
	return r, err
}

// begin lets a caller in whom Run waits for before it returns, so that nobody
// writes to a journal that is closed after it. The caller calls e.work.Done.
func (e *Engine) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.work.Add(1)
	return true
}

// storingError: the key, or the customer's place, is being taken at this moment
// by another caller's request that is on its way to the disk.
type storingError struct{ place *place }

func (*storingError) Error() string { return "a request is being stored" }

// untilStored calls f again as long as what it meets is only just being stored.
func (e *Engine) untilStored(ctx context.Context, f func() error) error {
	for {
		err := f()
		var busy *storingError
		if !errors.As(err, &busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-busy.place.done:
		case <-busy.place.unknown:
			// The journal does not say. It is asked again, and until it answers
			// nobody else gets the place.
			if e.settleLimbo(ctx) != nil {
				return ErrNotStored
			}
		}
	}
}

func (e *Engine) acceptOnce(ctx context.Context, n New, p *Policy, content string) (*Request, error) {
	if r, err := e.known(ctx, n.Key, content); r != nil || err != nil {
		return r, err
	}
	serial, err := e.store.Serial(ctx)
	if err != nil {
		return nil, fmt.Errorf("number a request: %w", err)
	}
	at := e.clock.look()
	now := at.Wall
	r := &Request{
		ID: rand.Text(), Key: n.Key, Content: content, Operation: n.Operation,
		Customer: p.Customer(n.Fields), Fields: cloneMap(n.Fields), Reference: e.reference(p, serial),
		Created: now, Expires: now.Add(p.Wait), State: Queued, Step: 1, NotBefore: now, At: at,
	}
	if n.VerifiedBy != "" {
		r.Data = map[string]string{DataVerifiedBy: n.VerifiedBy}
	}
	return e.enter(ctx, r, p, n.Secret)
}

// known finds the request of a key. Neither a request nor an error means that
// the key is new.
func (e *Engine) known(ctx context.Context, key, content string) (*Request, error) {
	e.mu.Lock()
	k, ok := e.ix.keys[key]
	seq := e.ix.seqs[k.id]
	e.mu.Unlock()
	switch {
	case !ok:
		return nil, nil
	case k.content != digestOf(content):
		return nil, ErrKeyConflict
	case k.place == nil:
		r, err := e.read(ctx, seq)
		if err != nil {
			// It is stored, and only cannot be read now: to say "not made" would be a lie.
			err = fmt.Errorf("%w: read it back: %w", ErrStoreUnknown, err)
		}
		return r, err
	}
	select {
	case <-k.place.unknown:
		if e.settleLimbo(ctx) != nil {
			return nil, ErrStoreUnknown
		}
	default:
	}
	return nil, &storingError{k.place}
}

func (e *Engine) reference(p *Policy, serial uint64) string {
	if p.ShortRef {
		return e.identity.ShortReference(serial)
	}
	return e.identity.ExternalID(serial)
}

// place is what a request holds in the index while it is on its way to the disk:
// its customer's turn, its key, and the older request that it is to supersede.
type place struct {
	r       *Request
	entry   *entry        // claimed
	old     *entry        // claimed; nil where there is none
	done    chan struct{} // closed once it is known whether the request is on disk
	unknown chan struct{} // closed when the journal said that it does not know
}

// enter takes the customer's place, stores the request and, after it, ends the
// one it supersedes: in this order a crash leaves two unsent requests, of which
// the next start drops the older, and never none.
func (e *Engine) enter(ctx context.Context, r *Request, p *Policy, s *secret.Value) (*Request, error) {
	pl, open, err := e.takePlace(r, p, s)
	switch {
	case err != nil:
		return nil, err
	case open != nil:
		return nil, e.openError(ctx, open)
	}
	if r.Secret == "" {
		s = nil
	}
	err = e.store.Add(ctx, r, s)
	switch {
	case err == nil:
		e.entered(ctx, pl, r)
		return r.Clone(), nil
	case !errors.Is(err, ErrStoreUnknown):
		e.withdraw(pl)
		return nil, fmt.Errorf("store the request: %w", err)
	}
	e.mu.Lock()
	e.limbo[r.ID] = pl
	e.mu.Unlock()
	close(pl.unknown)
	if err := e.settleLimbo(ctx); err != nil {
		e.poke() // the scheduler goes on asking
		return nil, ErrStoreUnknown
	}
	got, err := e.Get(ctx, r.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("store the request: %w", ErrNotStored)
	}
	return got, err
}

// takePlace notes a request before it is stored, so that a second Accept of the
// same customer or key meets it and nobody sends it yet. open is the request that
// stands in the way.
func (e *Engine) takePlace(r *Request, p *Policy, s *secret.Value) (pl *place, open *entry, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k, ok := e.ix.keys[r.Key]; ok {
		if k.place == nil {
			k.place = &place{done: closed} // stored since we looked: look again at once
		}
		return nil, nil, &storingError{k.place}
	}
	now := e.clock.now()
	g, err := e.granted(p, r, now)
	if err != nil {
		return nil, nil, err
	}
	takeOver := g != nil && !g.spent
	if takeOver {
		e.ix.unaccept(r.Customer) // its confirmation holds the place for it
	}
	old, open, err := e.admit(p, r.Customer, now)
	if err != nil || open != nil {
		if takeOver {
			e.ix.accepted(r.Customer, g.at)
		}
		return nil, open, err
	}
	if takeOver {
		g.spent = true
	}
	if old != nil {
		e.claim(old)
	}
	switch {
	case p.Secret == nil: // one that nobody asked for is not kept
	case p.HoldOffline:
		r.Secret = SecretPIN
	default:
		e.volatile[r.ID] = s.Copy()
	}
	pl = &place{r: r, old: old, done: make(chan struct{}), unknown: make(chan struct{})}
	pl.entry = e.put(r)
	pl.entry.busy, pl.entry.place = true, pl
	e.ix.keys[r.Key] = keyed{id: r.ID, content: digestOf(r.Content), place: pl}
	e.ix.accepted(r.Customer, now)
	return pl, nil, nil
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// entered goes on with a request that is on disk.
func (e *Engine) entered(ctx context.Context, pl *place, r *Request) {
	e.mu.Lock()
	e.put(r)
	if pl.old != nil {
		pl.old.superseded = true
	}
	e.mu.Unlock()
	if pl.old != nil {
		e.supersede(ctx, pl.old)
	}
	if e.onChange != nil {
		e.onChange(r.Clone())
	}
	e.release(pl.entry, 0)
	close(pl.done)
}

// withdraw takes back what takePlace noted for a request that is not on disk.
func (e *Engine) withdraw(pl *place) {
	e.wipeVolatile(pl.r.ID)
	e.mu.Lock()
	e.ix.drop(pl.entry)
	delete(e.ix.seqs, pl.r.ID)
	delete(e.ix.keys, pl.r.Key)
	e.ix.unaccept(pl.r.Customer)
	e.wakeLine(pl.r.Customer)
	e.mu.Unlock()
	close(pl.done)
	if pl.old != nil {
		e.release(pl.old, 0)
	}
}

// settleLimbo finds out what became of the requests of which the journal did not
// know whether it stored them. An error means that it still does not.
func (e *Engine) settleLimbo(ctx context.Context) error {
	e.limboTurn.Lock()
	defer e.limboTurn.Unlock()
	e.mu.Lock()
	waiting := maps.Clone(e.limbo)
	e.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	found := map[string]*Request{}
	err := e.store.Each(ctx, func(r *Request, err error) error {
		if err == nil && waiting[r.ID] != nil { // a broken seal is not what is looked for here
			found[r.ID] = r
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for what the journal did not know of: %w", err)
	}
	for id, pl := range waiting {
		e.mu.Lock()
		delete(e.limbo, id)
		e.mu.Unlock()
		if r := found[id]; r != nil {
			e.entered(ctx, pl, r)
		} else {
			e.withdraw(pl)
		}
	}
	return nil
}

func (e *Engine) supersede(ctx context.Context, old *entry) {
	after := e.timing.RetryBase
	defer func() { e.release(old, after) }()
	r, err := e.store.Get(ctx, old.seq)
	if err != nil {
		e.log.Error("superseded request cannot be read", "request", old.id, "error", err)
		return
	}
	closeAs(r, Cancelled, ReasonSuperseded, e.now(r))
	after = e.save(ctx, old, r)
}

// contentOf tells two requests with one key apart. The secret takes no part:
// even a hash of a PIN is too much to keep.
func contentOf(op Operation, fields map[string]string) string {
	h := sha256.New()
	part := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s))) //nolint:gosec // G115: a field is at most a few dozen bytes
		h.Write(n[:])
		h.Write([]byte(s))
	}
	part(string(op))
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		part(n)
		part(fields[n])
	}
	return hex.EncodeToString(h.Sum(nil))
}
