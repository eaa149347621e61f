package txn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"time"

	"gardu/internal/secret"
)

// Preview says whether a request would be accepted, with the errors of Accept,
// and stores nothing. It lets the screen refuse before the customer types a PIN.
func (e *Engine) Preview(ctx context.Context, op Operation, fields map[string]string) error {
	of, err := e.offer(op, fields)
	if err != nil {
		return err
	}
	e.mu.Lock()
	open, err := e.admit(&of.Policy, of.Policy.Customer(fields), time.Now())
	e.mu.Unlock()
	if err == nil && open != nil && !replaceable(open) {
		return e.openError(ctx, open)
	}
	return err
}

func (e *Engine) offer(op Operation, fields map[string]string) (Offer, error) {
	of, ok := e.offers[op]
	switch {
	case !ok:
		return of, ErrUnknownOperation
	case !of.Policy.Enabled:
		return of, fmt.Errorf("%w: %s", ErrDisabled, of.Policy.Why)
	}
	return of, of.Policy.CheckFields(fields)
}

// admit holds a customer's wish against cooldown, limits and the link, and finds
// their open request for the operation. e.mu is held.
func (e *Engine) admit(p *Policy, customer string, now time.Time) (*entry, error) {
	if e.stopping {
		return nil, ErrStopped
	}
	if open := e.ix.openFor(customer, p.Operation); open != nil && !replaceable(open) {
		return open, nil
	}
	if until := e.ix.cooldown[coolKey(customer, p.Operation)]; until.After(now) {
		return nil, &CooldownError{until}
	}
	ofCustomer, ofKiosk := e.ix.count(customer, now)
	if ofCustomer >= e.limits.CustomerHour {
		return nil, &LimitError{"customer", e.ix.freeAt(customer, now)}
	}
	if ofKiosk >= e.limits.KioskHour {
		return nil, &LimitError{"kiosk", e.ix.freeAt("", now)}
	}
	if l := e.lines[p.Provider]; !p.HoldOffline && !l.allows(now) {
		return nil, ErrOffline
	}
	return e.ix.openFor(customer, p.Operation), nil
}

// replaceable reports whether a newer request may take the entry's place: only
// one of which nothing was ever sent and which nobody is sending now.
func replaceable(en *entry) bool {
	return en.state == Queued && !en.everSent && !en.busy
}

func (e *Engine) openError(ctx context.Context, en *entry) error {
	r, err := e.store.Get(ctx, en.seq)
	if err != nil {
		return fmt.Errorf("read the customer's open request: %w", err)
	}
	return &OpenError{r}
}

// Accept stores a request; it is on disk when Accept returns nil, and is sent as
// soon as it can be. The same Key with the same content returns the request that
// is already there, so a caller that got no answer asks again with the same Key.
//
// Errors: *FieldError, ErrUnknownOperation, ErrDisabled, ErrUnverified, *OpenError,
// *CooldownError, *LimitError, ErrOffline, ErrFull, ErrKeyConflict, ErrStopped:
// nothing was stored. ErrStoreUnknown: it may have been; ask again with the same Key.
func (e *Engine) Accept(ctx context.Context, n New) (*Request, error) {
	of, err := e.offer(n.Operation, n.Fields)
	if err != nil {
		return nil, err
	}
	p := &of.Policy
	if p.StaffVerify && n.VerifiedBy == "" {
		return nil, ErrUnverified
	}
	if p.Secret != nil {
		if err := p.Secret.Check(n.Secret.Bytes()); err != nil {
			return nil, err
		}
	}
	content := contentOf(n.Operation, n.Fields)
	for {
		r, err := e.acceptOnce(ctx, n, p, content)
		var same *sameKeyError
		if !errors.As(err, &same) {
			return r, err
		}
		// Another caller is storing a request with this key; its end is ours too.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-same.done:
		}
	}
}

// sameKeyError: the key is being stored at this moment by another caller.
type sameKeyError struct{ done <-chan struct{} }

func (*sameKeyError) Error() string { return "the request key is being stored" }

func (e *Engine) acceptOnce(ctx context.Context, n New, p *Policy, content string) (*Request, error) {
	if err := e.reconcile(ctx); err != nil {
		return nil, ErrStoreUnknown
	}
	if r, err := e.known(ctx, n.Key, content); r != nil || err != nil {
		return r, err
	}
	serial, err := e.store.Serial(ctx)
	if err != nil {
		return nil, fmt.Errorf("number a request: %w", err)
	}
	now := time.Now()
	r := &Request{
		ID: rand.Text(), Key: n.Key, Content: content, Operation: n.Operation,
		Customer: p.Customer(n.Fields), Fields: cloneMap(n.Fields), Reference: e.reference(p, serial),
		Created: now, Expires: now.Add(p.Wait), State: Queued, Step: 1, NotBefore: now,
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
	case k.content != content:
		return nil, ErrKeyConflict
	case k.done != nil:
		return nil, &sameKeyError{k.done}
	}
	return e.store.Get(ctx, seq)
}

func (e *Engine) reference(p *Policy, serial uint64) string {
	if p.ShortRef {
		return e.identity.ShortReference(serial)
	}
	return e.identity.ExternalID(serial)
}

// enter takes the customer's place, stores the request and, after it, ends the
// one it supersedes: in this order a crash leaves two unsent requests, of which
// the next start drops the older, and never none.
func (e *Engine) enter(ctx context.Context, r *Request, p *Policy, s *secret.Value) (*Request, error) {
	done := make(chan struct{})
	e.mu.Lock()
	if k, ok := e.ix.keys[r.Key]; ok {
		e.mu.Unlock()
		if k.done == nil {
			k.done = done // stored since we looked: look again at once
			close(done)
		}
		return nil, &sameKeyError{k.done}
	}
	old, err := e.admit(p, r.Customer, r.Created)
	if err == nil && old != nil && !replaceable(old) {
		e.mu.Unlock()
		return nil, e.openError(ctx, old)
	}
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	if old != nil {
		e.claim(old)
	}
	// The new entry is in line at once, claimed, so that a second Accept of the
	// same customer meets it and nobody sends it yet.
	en := e.ix.put(r, e.timing.Retain)
	en.busy = true
	e.ix.keys[r.Key] = keyed{id: r.ID, content: r.Content, done: done}
	e.ix.accepted(r.Customer, r.Created)
	e.mu.Unlock()

	stored := s
	if s != nil {
		if p.HoldOffline {
			r.Secret = SecretPIN
		} else {
			stored = nil
			e.mu.Lock()
			e.volatile[r.ID] = s.Copy()
			e.mu.Unlock()
		}
	}
	err = e.store.Add(ctx, r, stored)
	if errors.Is(err, ErrStoreUnknown) {
		e.mu.Lock()
		e.uncertain = true
		e.mu.Unlock()
	}
	if err != nil {
		e.withdraw(r, en, done)
		if old != nil {
			e.release(old, 0)
			e.poke()
		}
		if errors.Is(err, ErrStoreUnknown) {
			return e.settleUnknown(ctx, r)
		}
		return nil, fmt.Errorf("store the request: %w", err)
	}
	e.mu.Lock()
	en.seq = r.Seq
	e.ix.put(r, e.timing.Retain)
	e.mu.Unlock()
	close(done)
	if old != nil {
		e.supersede(ctx, old)
	}
	if e.onChange != nil {
		e.onChange(r.Clone())
	}
	e.release(en, 0)
	e.poke()
	return r.Clone(), nil
}

// withdraw takes back what enter noted for a request that is not on disk.
func (e *Engine) withdraw(r *Request, en *entry, done chan struct{}) {
	e.wipeVolatile(r.ID)
	e.mu.Lock()
	e.ix.drop(en)
	delete(e.ix.seqs, r.ID)
	delete(e.ix.keys, r.Key)
	e.ix.unaccept(r.Customer)
	e.mu.Unlock()
	close(done)
}

// settleUnknown looks whether a request of which the journal did not know is
// there after all.
func (e *Engine) settleUnknown(ctx context.Context, r *Request) (*Request, error) {
	if err := e.reconcile(ctx); err != nil {
		return nil, ErrStoreUnknown
	}
	got, err := e.Get(ctx, r.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("store the request: %w", ErrNotStored)
	}
	return got, err
}

// reconcile reads the journal for records the index does not know, once after
// each ErrStoreUnknown.
func (e *Engine) reconcile(ctx context.Context) error {
	e.mu.Lock()
	need := e.uncertain
	e.mu.Unlock()
	if !need {
		return nil
	}
	err := e.store.Each(ctx, func(r *Request, err error) error {
		if err != nil {
			return nil // a broken seal is not what is looked for here
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.ix.seqs[r.ID]; !ok {
			e.adopt(r, time.Now())
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.uncertain = false
	e.mu.Unlock()
	e.poke()
	return nil
}

func (e *Engine) supersede(ctx context.Context, old *entry) {
	defer e.release(old, e.timing.RetryBase)
	r, err := e.store.Get(ctx, old.seq)
	if err != nil {
		e.log.Error("superseded request cannot be read", "request", old.id, "error", err)
		return
	}
	closeAs(r, Cancelled, ReasonSuperseded, time.Now())
	e.save(ctx, r)
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
