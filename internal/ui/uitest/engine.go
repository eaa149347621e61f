// Package uitest is an engine in memory for tests of the screen: it keeps
// requests as the real one does, and a test moves them by hand.
package uitest

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Engine is a ui.Engine. Its zero value is of no use; make one with New.
type Engine struct {
	mu       sync.Mutex // guards what follows
	policies []txn.Policy
	links    map[string]txn.Link
	requests map[string]*txn.Request
	keys     map[string]string
	secrets  map[string]*secret.Value
	last     string
	errs     map[string][]error
	gates    map[string]chan struct{}
	deaf     map[string]bool
	counts   map[string]int
	changed  func(*txn.Request)
	link     func(txn.Link)
}

// New makes an engine with all five operations switched on and all links up.
func New() *Engine {
	e := &Engine{
		policies: Policies(), links: map[string]txn.Link{}, requests: map[string]*txn.Request{}, keys: map[string]string{},
		secrets: map[string]*secret.Value{}, errs: map[string][]error{}, gates: map[string]chan struct{}{}, deaf: map[string]bool{}, counts: map[string]int{},
	}
	for _, p := range e.policies {
		e.links[p.Provider] = txn.Link{Provider: p.Provider, Known: true, Up: true, Since: time.Now()}
	}
	return e
}

// Policies are the five operations with the fields that the documents give them.
func Policies() []txn.Policy {
	phone := []txn.Field{{Name: "phoneNo", Min: 9, Max: 16, Digits: true, Prefix: "08"}}
	return []txn.Policy{
		{Operation: txn.FinpayResetPIN, Provider: "finpay", Enabled: true, Fields: phone, Identity: "phoneNo", Wait: 30 * time.Minute, HoldOffline: true},
		{Operation: txn.FinpayBind, Provider: "finpay", Enabled: true, Fields: phone, Identity: "phoneNo", Wait: 3 * time.Minute, HoldOffline: true, Readback: true, Code: &txn.Field{Name: "authCode", Min: codeMin, Max: 256}},
		{
			Operation: txn.FinpayUnbind, Provider: "finpay", Enabled: true, Fields: phone, Identity: "phoneNo", Wait: 3 * time.Minute, HoldOffline: true, Readback: true,
			OTP: &txn.Field{Name: "otp", Min: 4, Max: 8, Digits: true},
		},
		{
			Operation: txn.NetzmeForgotPIN, Provider: "netzme", Enabled: true, Identity: "custIdMerchant", Wait: 30 * time.Minute, HoldOffline: true,
			Fields: []txn.Field{{Name: "custIdMerchant", Min: 3, Max: 32}},
		},
		{
			Operation: txn.PrepaidResetPIN, Provider: "prepaid", Enabled: true, StaffVerify: true, Identity: "urn", Wait: 5 * time.Minute, ShortRef: true,
			Fields: []txn.Field{
				{Name: "urn", Min: 8, Max: 11, Digits: true},
				{Name: "last4Digits", Min: 4, Max: 4, Digits: true},
				{Name: "customerId", Min: 4, Max: 20},
			},
			Secret: &txn.Field{Name: "newPIN", Min: 4, Max: 6, Digits: true},
		},
	}
}

// Tell says whom to tell of changes, as a ui.Server wants it.
func (e *Engine) Tell(request func(*txn.Request), link func(txn.Link)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed, e.link = request, link
}

// Fail makes the next calls of one method return these errors, in turn.
func (e *Engine) Fail(method string, errs ...error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs[method] = append(e.errs[method], errs...)
}

// Hold makes calls of one method wait until release is called or their context ends.
func (e *Engine) Hold(method string) (release func()) {
	gate := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gates[method] = gate
	return func() {
		e.mu.Lock()
		delete(e.gates, method)
		e.mu.Unlock()
		close(gate)
	}
}

// Hang is Hold for an engine that does not keep to its context either.
func (e *Engine) Hang(method string) (release func()) {
	release = e.Hold(method)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf[method] = true
	return release
}

// Count is how often a method was called.
func (e *Engine) Count(method string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[method]
}

func (e *Engine) enter(ctx context.Context, method string) error {
	e.mu.Lock()
	e.counts[method]++
	gate, deaf := e.gates[method], e.deaf[method]
	var err error
	if q := e.errs[method]; len(q) > 0 {
		err, e.errs[method] = q[0], q[1:]
	}
	e.mu.Unlock()
	switch {
	case gate == nil:
	case deaf:
		<-gate
	default:
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// SetLink moves a link up or down and tells of it.
func (e *Engine) SetLink(provider string, up bool) {
	e.mu.Lock()
	l := txn.Link{Provider: provider, Known: true, Up: up, Since: time.Now()}
	if !up {
		l.Reason, l.NextTry = txn.ReasonLinkDown, time.Now().Add(time.Second)
	}
	e.links[provider] = l
	tell := e.link
	e.mu.Unlock()
	if tell != nil {
		tell(l)
	}
}

// Trouble lets a provider be out of reach for another reason than its link.
func (e *Engine) Trouble(l txn.Link) {
	l.Known, l.Up, l.Since = true, false, time.Now()
	e.mu.Lock()
	e.links[l.Provider] = l
	tell := e.link
	e.mu.Unlock()
	if tell != nil {
		tell(l)
	}
}

// SetPolicy changes the policy of one operation; the screen sees it when it asks next.
func (e *Engine) SetPolicy(op txn.Operation, change func(*txn.Policy)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.policies {
		if e.policies[i].Operation == op {
			change(&e.policies[i])
		}
	}
}

// Move changes a request and tells of it.
func (e *Engine) Move(id string, change func(*txn.Request)) {
	e.mu.Lock()
	r := e.requests[id]
	change(r)
	c, tell := r.Clone(), e.changed
	e.mu.Unlock()
	if tell != nil {
		tell(c)
	}
}

// Last is the request that was accepted last, or nil.
func (e *Engine) Last() *txn.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.requests[e.last]; r != nil {
		return r.Clone()
	}
	return nil
}

// Secret is the engine's copy of what was typed for a request.
func (e *Engine) Secret(id string) *secret.Value {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.secrets[id]
}

// Preview is part of ui.Engine.
func (e *Engine) Preview(ctx context.Context, op txn.Operation, fields map[string]string) error {
	if err := e.enter(ctx, "Preview"); err != nil {
		return err
	}
	_, err := e.admit(op, fields)
	return err
}

func (e *Engine) admit(op txn.Operation, fields map[string]string) (*txn.Policy, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.policies {
		p := e.policies[i]
		if p.Operation != op {
			continue
		}
		if !p.Enabled {
			return nil, txn.ErrDisabled
		}
		if err := p.CheckFields(fields); err != nil {
			return nil, err
		}
		if !p.HoldOffline && !e.links[p.Provider].Up {
			return nil, txn.ErrOffline
		}
		for _, r := range e.requests {
			if r.Customer == p.Customer(fields) && r.Operation == op && r.State.Open() && r.EverSent() {
				return nil, &txn.OpenError{Request: r.Clone()}
			}
		}
		return &p, nil
	}
	return nil, txn.ErrUnknownOperation
}

// Unresolved is part of ui.Engine.
func (e *Engine) Unresolved(op txn.Operation, fields map[string]string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.policies {
		for _, r := range e.requests {
			if p.Operation == op && r.Operation == op && r.State == txn.Unresolved && r.Customer == p.Customer(fields) {
				return r.ID
			}
		}
	}
	return ""
}

// Verify is part of ui.Engine. Everything that would be accepted is confirmed.
func (e *Engine) Verify(ctx context.Context, op txn.Operation, fields map[string]string) (string, error) {
	if err := e.enter(ctx, "Verify"); err != nil {
		return "", err
	}
	if _, err := e.admit(op, fields); err != nil {
		return "", err
	}
	return "platform:v1", nil
}

// Accept is part of ui.Engine.
func (e *Engine) Accept(ctx context.Context, n txn.New) (*txn.Request, error) {
	err := e.enter(ctx, "Accept")
	if err != nil && !errors.Is(err, txn.ErrStoreUnknown) {
		return nil, err
	}
	unknown := err
	e.mu.Lock()
	if id, ok := e.keys[n.Key]; ok {
		defer e.mu.Unlock()
		if unknown != nil {
			return nil, unknown
		}
		return e.requests[id].Clone(), nil
	}
	e.mu.Unlock()
	p, err := e.admit(n.Operation, n.Fields)
	if err != nil {
		return nil, err
	}
	if p.Secret != nil {
		if err := p.Secret.Check(n.Secret.Bytes()); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	r := &txn.Request{
		ID: rand.Text(), Key: n.Key, Operation: n.Operation, Customer: p.Customer(n.Fields), Fields: maps.Clone(n.Fields),
		Reference: rand.Text(), Created: now, Expires: now.Add(p.Wait), State: txn.Queued, Step: 1, NotBefore: now,
	}
	if n.VerifiedBy != "" {
		r.Data = map[string]string{txn.DataVerifiedBy: n.VerifiedBy}
	}
	e.mu.Lock()
	e.requests[r.ID], e.keys[n.Key], e.last, e.secrets[r.ID] = r, r.ID, r.ID, n.Secret.Copy()
	c, tell := r.Clone(), e.changed
	e.mu.Unlock()
	if tell != nil {
		tell(c)
	}
	// Stored all the same: this is what the real journal means by not knowing.
	return r.Clone(), unknown
}

// Supply is part of ui.Engine.
func (e *Engine) Supply(ctx context.Context, id string, otp *secret.Value) (*txn.Request, error) {
	if err := e.enter(ctx, "Supply"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	r := e.requests[id]
	if r == nil || r.Await != txn.AwaitOTP {
		e.mu.Unlock()
		return nil, txn.ErrTooLate
	}
	for _, p := range e.policies {
		if p.Operation != r.Operation || p.OTP == nil {
			continue
		}
		if err := p.OTP.Check(otp.Bytes()); err != nil {
			e.mu.Unlock()
			return nil, err
		}
	}
	e.secrets[id] = otp.Copy()
	e.mu.Unlock()
	e.Move(id, func(r *txn.Request) {
		r.State, r.Await, r.Reason, r.Secret = txn.Queued, "", "", txn.SecretOTP
		r.Expires = r.AwaitTill
	})
	return e.Get(ctx, id)
}

// Redeem is part of ui.Engine. Every code but the next failure's is taken.
func (e *Engine) Redeem(ctx context.Context, id string, code *secret.Value) (*txn.Request, error) {
	if err := e.enter(ctx, "Redeem"); err != nil {
		return nil, err
	}
	r, err := e.Get(ctx, id)
	if err != nil || r.Await != txn.AwaitLink {
		return nil, txn.ErrTooLate
	}
	if code.Len() < codeMin {
		return nil, &txn.FieldError{Field: txn.Field{Name: "authCode", Min: codeMin, Max: 256}, Rule: txn.RuleShort}
	}
	e.mu.Lock()
	e.secrets[id] = code.Copy()
	e.mu.Unlock()
	e.Move(id, Answer(txn.HasSucceeded, txn.Succeeded, txn.ReasonConfirmed))
	return e.Get(ctx, id)
}

// Renew is part of ui.Engine.
func (e *Engine) Renew(ctx context.Context, id, key string) (*txn.Request, error) {
	if err := e.enter(ctx, "Renew"); err != nil {
		return nil, err
	}
	r, err := e.Get(ctx, id)
	if err != nil || r.Await != txn.AwaitOTP {
		return nil, txn.ErrTooLate
	}
	e.Move(id, Answer(txn.WentPending, txn.Expired, txn.ReasonNothingChanged))
	return e.Accept(ctx, txn.New{Key: key, Operation: r.Operation, Fields: r.Fields})
}

const codeMin = 4

// Cancel is part of ui.Engine.
func (e *Engine) Cancel(ctx context.Context, id string, why txn.Reason) (*txn.Request, error) {
	if err := e.enter(ctx, "Cancel"); err != nil {
		return nil, err
	}
	r, err := e.Get(ctx, id)
	if err != nil || r.State != txn.Queued || r.EverSent() {
		return nil, txn.ErrTooLate
	}
	e.Move(id, func(r *txn.Request) { r.State, r.Reason, r.Closed = txn.Cancelled, why, time.Now() })
	return e.Get(ctx, id)
}

// Get is part of ui.Engine.
func (e *Engine) Get(ctx context.Context, id string) (*txn.Request, error) {
	if err := e.enter(ctx, "Get"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.requests[id]; r != nil {
		return r.Clone(), nil
	}
	return nil, txn.ErrNotFound
}

// Policies is part of ui.Engine.
func (e *Engine) Policies() []txn.Policy {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]txn.Policy(nil), e.policies...)
}

// Links is part of ui.Engine.
func (e *Engine) Links() []txn.Link {
	e.mu.Lock()
	defer e.mu.Unlock()
	links := make([]txn.Link, 0, len(e.links))
	for _, l := range e.links {
		links = append(links, l)
	}
	return links
}

// Steps of a request's life, for Move.

// Send begins an attempt.
func Send(r *txn.Request) {
	r.State, r.Reason = txn.Sending, ""
	r.Attempts = append(r.Attempts, txn.Attempt{Step: r.Step, Serial: uint64(len(r.Attempts)) + 1, Began: time.Now()})
}

// Answer ends the attempt under way and puts the request into a state.
func Answer(o txn.Outcome, s txn.State, why txn.Reason) func(*txn.Request) {
	return func(r *txn.Request) {
		if a := r.Last(); a != nil && a.Outcome == 0 {
			a.Ended, a.Outcome, a.Reason = time.Now(), o, why
		}
		r.State, r.Reason, r.Await = s, why, ""
		if !s.Open() {
			r.Closed = time.Now()
		}
	}
}

// Await makes the request wait for the customer.
func Await(what txn.Await, why txn.Reason, life time.Duration, data map[string]string) func(*txn.Request) {
	return func(r *txn.Request) {
		Answer(txn.WentPending, txn.Pending, why)(r)
		r.Await, r.AwaitTill, r.Data = what, time.Now().Add(life), data
		if what == txn.AwaitOTP {
			r.Step = 2
		}
	}
}

// Requeue puts a request back that certainly was not sent.
func Requeue(why txn.Reason) func(*txn.Request) {
	return func(r *txn.Request) {
		Answer(txn.NotSent, txn.Queued, why)(r)
		r.Tries++
		r.NotBefore = time.Now().Add(5 * time.Second)
	}
}

// Staff is a ui.StaffVerifier with one code.
type Staff struct {
	Code string
	ID   string
}

// ErrStaffCode says that the code is not the one.
var ErrStaffCode = errors.New("the staff code is not right")

// VerifyStaff is part of ui.StaffVerifier.
func (s Staff) VerifyStaff(_ context.Context, code *secret.Value) (string, error) {
	want := secret.Clone([]byte(s.Code))
	defer want.Wipe()
	if !want.Equal(code) {
		return "", ErrStaffCode
	}
	return s.ID, nil
}
