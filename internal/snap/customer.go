package snap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Vault keeps what a customer's binding gave, sealed and synced, under a name that
// says nothing of the customer to who reads the disk. It is safe for concurrent use.
type Vault interface {
	// Grant opens it; nil without an error where there is nothing of use. The caller
	// wipes it.
	Grant(ctx context.Context, provider, customer string) (*secret.Value, error)
	// KeepGrant stores it until it is of no use any more.
	KeepGrant(ctx context.Context, provider, customer string, v *secret.Value, until time.Time) error
	// DropGrant deletes it.
	DropGrant(ctx context.Context, provider, customer string) error
}

// Bounds of a customer token, whatever an answer says.
const (
	maxCustomerLife = 31 * 24 * time.Hour
	maxRefreshLife  = 366 * 24 * time.Hour
	maxAuthCode     = 256 // characters; SNAP standard, service 74
)

// customers get, keep and renew the customer tokens (B2B2C, SNAP standard, service
// 74) of one provider. One customer's tokens are touched by one call at a time, so
// that a refresh token, which works once, is used once.
type customers struct {
	*tokens
	path        string
	refreshLife time.Duration
	vault       Vault

	mu    sync.Mutex
	busy  map[string]chan struct{} // guarded by mu; closed when the customer's turn is over
	trial map[string]bool          // guarded by mu; the token came after a refusal and was not accepted yet
}

func newCustomers(t *tokens, path string, refreshLife time.Duration, v Vault) *customers {
	return &customers{tokens: t, path: path, refreshLife: refreshLife, vault: v, busy: map[string]chan struct{}{}, trial: map[string]bool{}}
}

// turn waits until nobody else touches the customer's tokens.
func (c *customers) turn(ctx context.Context, customer string) (end func(), _ error) {
	for {
		c.mu.Lock()
		before, taken := c.busy[customer]
		if !taken {
			mine := make(chan struct{})
			c.busy[customer] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.busy, customer)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, notReached(ctx.Err())
		case <-before:
		}
	}
}

// bindAgain is the refusal of a call that needs a token which the customer has to
// bind for.
func bindAgain(why string) *refusal {
	return &refusal{txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonBindAgain, Text: why}}
}

// vaultFailed is the refusal of a call whose customer token could not be read.
func vaultFailed(err error) *refusal {
	return &refusal{txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore, Text: printable("open the customer's token: "+err.Error(), maxText)}}
}

// token returns a copy of a valid customer token, which the caller wipes, renewed
// where it is worn. The error is a *refusal.
func (c *customers) token(ctx context.Context, customer string) (*secret.Value, error) {
	end, err := c.turn(ctx, customer)
	if err != nil {
		return nil, err
	}
	defer end()
	g, err := c.load(ctx, customer)
	if err != nil {
		return nil, err
	}
	defer g.wipe()
	now := c.clock.time()
	margin := min(time.Duration(c.cfg.TokenMargin), g.accessLife/2)
	switch {
	case g.access.Len() > 0 && now.Before(g.accessUntil.Add(-margin)):
		return g.access.Copy(), nil
	case g.refresh.Len() == 0 || !now.Before(g.refreshUntil):
		c.forget(ctx, customer)
		return nil, bindAgain("the customer's token is over; the customer has to bind again")
	}
	fresh, a := c.exchange(ctx, newBody(2*g.refresh.Len()+128).
		text("grantType", "refresh_token").secret("refreshToken", g.refresh.Bytes()))
	switch {
	case a.Outcome == txn.HasSucceeded:
	case a.Outcome == txn.WasRejected && a.Reason == txn.ReasonRefused:
		c.forget(ctx, customer)
		return nil, bindAgain("the customer's refresh token was refused; the customer has to bind again")
	case a.Outcome == txn.Unknown:
		// Whatever became of the refresh, the call that needs the token was not sent.
		a.Outcome, a.Reason = txn.NotSent, txn.ReasonLinkDown
		return nil, &refusal{a}
	default:
		return nil, &refusal{a}
	}
	defer fresh.wipe()
	if fresh.refresh.Len() == 0 { // the old one goes on
		fresh.refresh, fresh.refreshUntil = g.refresh.Copy(), g.refreshUntil
	}
	if err := c.keep(ctx, customer, fresh); err != nil {
		// The old refresh token may have been used up. This call still has its token.
		c.log.Error("customer token not stored; the customer may have to bind again", "provider", c.name, "error", err)
	}
	c.log.Info("customer token renewed", "provider", c.name)
	return fresh.access.Copy(), nil
}

// refused notes that the provider does not take a customer token, and reports
// whether another try makes sense: once with a renewed one.
func (c *customers) refused(ctx context.Context, customer string, token *secret.Value) bool {
	end, err := c.turn(ctx, customer)
	if err != nil {
		return false
	}
	defer end()
	g, err := c.load(ctx, customer)
	if err != nil {
		return false
	}
	defer g.wipe()
	if !g.access.Equal(token) {
		return true // it has been replaced meanwhile
	}
	c.mu.Lock()
	tried := c.trial[customer]
	c.mu.Unlock()
	if tried || g.refresh.Len() == 0 {
		c.forget(ctx, customer)
		return false
	}
	g.access.Wipe()
	g.access, g.accessUntil = nil, time.Time{}
	if err := c.keep(ctx, customer, g); err != nil {
		c.log.Error("refused customer token not marked", "provider", c.name, "error", err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trial[customer] = true
	return true
}

// accepted notes that the provider took the customer's token.
func (c *customers) accepted(customer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.trial, customer)
}

// missing reports whether there certainly is no token of the customer's.
func (c *customers) missing(ctx context.Context, customer string) bool {
	g, err := c.load(ctx, customer)
	if err != nil {
		return refused(err).Reason == txn.ReasonBindAgain
	}
	g.wipe()
	return false
}

// redeem exchanges the code that a binding's page ended with, and keeps what it
// gives where it is wanted.
func (c *customers) redeem(ctx context.Context, customer string, code []byte) txn.Answer {
	end, err := c.turn(ctx, customer)
	if err != nil {
		return refused(err)
	}
	defer end()
	g, a := c.exchange(ctx, newBody(2*len(code)+128).
		text("grantType", "authorization_code").secret("authCode", code))
	if a.Outcome == txn.WasRejected && a.Reason != txn.ReasonRefused {
		a.Outcome = txn.NotSent // it is our settings' fault: the code is as good as before
	}
	if a.Outcome != txn.HasSucceeded {
		return a
	}
	defer g.wipe()
	if c.vault == nil {
		return a
	}
	if err := c.keep(ctx, customer, g); err != nil {
		c.log.Error("customer token not stored; the customer has to bind again", "provider", c.name, "error", err)
		a.Alarm = c.name + ": a customer's token was not stored; see that the journal's disk has room and the token is there. The customer has to bind again"
	}
	c.accepted(customer)
	return a
}

// drop deletes what is kept of a customer that is not bound any more.
func (c *customers) drop(ctx context.Context, customer string) {
	if c.vault == nil {
		return
	}
	end, err := c.turn(ctx, customer)
	if err != nil {
		c.log.Error("customer token not deleted", "provider", c.name, "error", err)
		return
	}
	defer end()
	c.forget(ctx, customer)
}

// forget is drop for who has the turn.
func (c *customers) forget(ctx context.Context, customer string) {
	c.accepted(customer)
	if err := c.vault.DropGrant(context.WithoutCancel(ctx), c.name, customer); err != nil {
		c.log.Error("customer token not deleted", "provider", c.name, "error", err)
	}
}

// exchange makes one call of service 74. The outcome is HasSucceeded with a grant;
// WasRejected, for ReasonRefused because the code or refresh token is not taken, else
// because of our settings; NotSent; or Unknown, it may have been used up.
func (c *customers) exchange(ctx context.Context, b *body) (*grant, txn.Answer) {
	b.info().close()
	defer b.wipe()
	reply, stamp, err := c.request(ctx, c.path, b.bytes())
	if err != nil {
		var r *refusal
		if errors.As(err, &r) {
			return nil, r.answer
		}
		return nil, txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer, Text: printable(err.Error(), maxText)}
	}
	defer clear(reply.Body)
	a := txn.Answer{HTTPStatus: reply.Status}
	o, err := parseObject(reply.Body)
	if err != nil {
		a.Outcome, a.Reason, a.Text = txn.Unknown, txn.ReasonUnreadable, fmt.Sprintf("the answer with status %d cannot be read: %v", reply.Status, err)
		return nil, a
	}
	o.head(&a)
	code, _ := o.text("responseCode")
	v := judge(reply.Status, code)
	switch {
	case v.outcome == txn.HasSucceeded:
		g, err := c.parse(o)
		if err != nil {
			return nil, unreadable(a, err)
		}
		a.Outcome, a.Reason, a.Text = txn.HasSucceeded, txn.ReasonConfirmed, ""
		return g, a
	case v.act == actClock, v.act == actThrottle, reply.Status >= http.StatusInternalServerError:
		r := c.explain(reply, o, stamp).answer
		if r.Reason == txn.ReasonLinkDown { // a failure that may have used it up
			r.Outcome, r.Reason = txn.Unknown, txn.ReasonServerError
		}
		return nil, r
	case v.act == actSettings, v.reason == txn.ReasonNotAllowed:
		// A no to the bank's client, which says nothing of the code or the token.
		a.Outcome, a.Reason = txn.WasRejected, v.reason
		a.Alarm = fmt.Sprintf("%s gives no customer token (%s): check customer_token_path, and ask whether the bank's client id may have them", c.name, orStatus(a.Code, reply.Status))
		return nil, a
	case v.act == actToken, v.act == actCustomer, v.outcome == txn.WasRejected:
		a.Outcome, a.Reason = txn.WasRejected, txn.ReasonRefused
		return nil, a
	}
	a.Outcome, a.Reason = v.outcome, v.reason
	if a.Outcome == txn.WentPending {
		a.Outcome = txn.Unknown
	}
	return nil, a
}

// parse reads the answer of service 74.
func (c *customers) parse(o object) (*grant, error) {
	now := c.clock.time()
	access, life, err := parseToken(o, now, time.Duration(c.cfg.TokenLife))
	if err != nil {
		return nil, err
	}
	if d, ok := lifeUntil(o, "accessTokenExpiryTime", now); ok {
		life = min(d, maxCustomerLife)
	}
	g := &grant{access: access, accessLife: life, accessUntil: now.Add(life)}
	if s, ok := o.text("refreshToken"); ok && visible(s, 1, maxTokenSize) {
		left := c.refreshLife
		if d, ok := lifeUntil(o, "refreshTokenExpiryTime", now); ok {
			left = min(d, maxRefreshLife)
		}
		g.refresh, g.refreshUntil = secret.New([]byte(s)), now.Add(left)
	}
	return g, nil
}

// lifeUntil reads a date that lies ahead.
func lifeUntil(o object, name string, now time.Time) (time.Duration, bool) {
	s, ok := o.text(name)
	if !ok {
		return 0, false
	}
	at, ok := parseDate(strings.TrimSpace(s))
	if d := at.Sub(now); ok && d > 0 {
		return d, true
	}
	return 0, false
}

// load opens what is kept. The error is a *refusal.
func (c *customers) load(ctx context.Context, customer string) (*grant, error) {
	v, err := c.vault.Grant(ctx, c.name, customer)
	if err != nil {
		return nil, vaultFailed(err)
	}
	if v == nil {
		return nil, bindAgain("there is no customer token; the customer has to bind first")
	}
	defer v.Wipe()
	g, err := parseGrant(v.Bytes())
	if err != nil {
		c.log.Error("what is kept of a customer cannot be read; the customer has to bind again", "provider", c.name, "error", err)
		c.forget(ctx, customer)
		return nil, bindAgain("the customer's token cannot be read; the customer has to bind again")
	}
	return g, nil
}

func (c *customers) keep(ctx context.Context, customer string, g *grant) error {
	v := g.encode()
	defer v.Wipe()
	until := g.accessUntil
	if g.refresh.Len() > 0 && g.refreshUntil.After(until) {
		until = g.refreshUntil
	}
	// By the machine's clock, which is what the vault goes by.
	return c.vault.KeepGrant(context.WithoutCancel(ctx), c.name, customer, v, c.clock.now().Add(until.Sub(c.clock.time())))
}

// grant is what a customer's binding gave. Its times are the provider's.
type grant struct {
	access       *secret.Value // nil where it was refused
	accessLife   time.Duration // its whole life
	accessUntil  time.Time
	refresh      *secret.Value // nil where there is none
	refreshUntil time.Time
}

func (g *grant) wipe() {
	g.access.Wipe()
	g.refresh.Wipe()
}

// grantVersion begins an encoded grant: then three times or spans of 8 bytes in
// milliseconds (access until, access life, refresh until) and both tokens, each
// with 4 bytes of length.
const grantVersion = 1

func (g *grant) encode() *secret.Value {
	b := make([]byte, 0, 1+3*8+2*4+g.access.Len()+g.refresh.Len())
	b = append(b, grantVersion)
	for _, n := range []int64{g.accessUntil.UnixMilli(), g.accessLife.Milliseconds(), g.refreshUntil.UnixMilli()} {
		b = binary.BigEndian.AppendUint64(b, uint64(n)) //nolint:gosec // two's complement is the format
	}
	for _, v := range []*secret.Value{g.access, g.refresh} {
		b = binary.BigEndian.AppendUint32(b, uint32(v.Len())) //nolint:gosec // at most maxTokenSize
		b = append(b, v.Bytes()...)
	}
	return secret.New(b)
}

var errGrant = errors.New("what is kept of a customer has the wrong form")

func parseGrant(b []byte) (*grant, error) {
	if len(b) < 1+3*8+2*4 || b[0] != grantVersion {
		return nil, errGrant
	}
	num := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[1+8*i:])) } //nolint:gosec // two's complement is the format
	if life := num(1); life > math.MaxInt64/int64(time.Millisecond) || life < math.MinInt64/int64(time.Millisecond) {
		return nil, errGrant // no time.Duration holds it
	}
	g := &grant{accessUntil: time.UnixMilli(num(0)), accessLife: time.Duration(num(1)) * time.Millisecond, refreshUntil: time.UnixMilli(num(2))}
	rest := b[1+3*8:]
	for _, to := range []**secret.Value{&g.access, &g.refresh} {
		if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) > int64(len(rest)-4) {
			g.wipe()
			return nil, errGrant
		}
		n := int(binary.BigEndian.Uint32(rest))
		if n > 0 {
			*to = secret.Clone(rest[4 : 4+n])
		}
		rest = rest[4+n:]
	}
	if len(rest) > 0 {
		g.wipe()
		return nil, errGrant
	}
	return g, nil
}
