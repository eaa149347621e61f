package snap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// Bounds of a token's life, whatever an answer says: a unit mistaken by the
// provider (milliseconds for seconds) must not keep a dead token for weeks.
const (
	maxTokenLife = 24 * time.Hour
	maxTokenSize = 16 << 10
)

// refusal is why there is no access token, as the answer to the call that needed
// it. Nothing was sent of that call.
type refusal struct{ answer txn.Answer }

func (e *refusal) Error() string { return strings.TrimSpace(e.answer.Code + " " + e.answer.Text) }

// tokens keeps one access token for all calls of a provider and renews it.
type tokens struct {
	cfg   *Config
	name  string // the provider's, for log lines and sentences
	keys  *Keys
	http  HTTP
	clock *clock
	log   *slog.Logger

	mu      sync.Mutex
	held    *secret.Value // guarded by mu; nil for none
	until   time.Time     // guarded by mu; held is renewed from then on
	flight  *flight       // guarded by mu; the renewal under way
	refused bool          // guarded by mu; the last token was refused, not outlived
}

// flight is one renewal that others wait for.
type flight struct {
	done      chan struct{}
	err       error
	abandoned bool // its context ended; that is no answer for those who waited
}

// get returns a copy of a valid access token, which the caller wipes. The error is
// a *refusal. However many ask at once, one request is made.
func (t *tokens) get(ctx context.Context) (*secret.Value, error) {
	for {
		t.mu.Lock()
		if v := t.valid(); v != nil {
			t.mu.Unlock()
			return v, nil
		}
		if t.flight == nil {
			f := &flight{done: make(chan struct{})}
			t.flight = f
			wait := t.refused
			t.mu.Unlock()
			return t.renew(ctx, f, wait)
		}
		f := t.flight
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, notReached(ctx.Err())
		case <-f.done:
			if f.err != nil && !f.abandoned {
				return nil, f.err
			}
		}
	}
}

// valid returns a copy of the held token, or nil. The caller holds mu.
func (t *tokens) valid() *secret.Value {
	if t.held == nil || !t.clock.now().Before(t.until) {
		return nil
	}
	return t.held.Copy()
}

// has reports whether a token is at hand without asking for one.
func (t *tokens) has() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held != nil && t.clock.now().Before(t.until)
}

// refuse drops the token that a call was refused with, unless it has been replaced.
func (t *tokens) refuse(v *secret.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil && t.held.Equal(v) {
		t.held.Wipe()
		t.held, t.refused = nil, true
	}
}

// renew leads a flight.
func (t *tokens) renew(ctx context.Context, f *flight, wait bool) (*secret.Value, error) {
	began := t.clock.now()
	v, life, err := t.replace(ctx, wait)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.held.Wipe()
		t.held, t.refused = v.Copy(), false
		t.until = began.Add(life - min(time.Duration(t.cfg.TokenMargin), life/2))
	}
	f.err, f.abandoned = err, ctx.Err() != nil
	t.flight = nil
	close(f.done)
	return v, err
}

func (t *tokens) replace(ctx context.Context, wait bool) (*secret.Value, time.Duration, error) {
	if wait {
		// Kiosks that share a client id may end each other's tokens; a random wait
		// keeps them from doing so in step.
		if err := t.jitter(ctx); err != nil {
			return nil, 0, err
		}
	}
	v, life, err := t.fetch(ctx)
	if err != nil {
		return nil, 0, err
	}
	t.log.Debug("access token renewed", "provider", t.name, "life", life)
	return v, life, nil
}

func (t *tokens) jitter(ctx context.Context) error {
	if t.cfg.TokenJitter <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return notReached(ctx.Err())
	case <-time.After(rand.N(time.Duration(t.cfg.TokenJitter))): //nolint:gosec // spreads load, decides nothing
		return nil
	}
}

// request makes one call to a token service (SNAP standard, services 73 and 74):
// no access token, and an RSA signature over clientId|timestamp. The error is a
// *refusal, or where the request may have arrived the *wire.Error itself.
func (t *tokens) request(ctx context.Context, path string, body []byte) (_ *wire.Reply, stamp string, _ error) {
	stamp = t.clock.stamp()
	sig, err := signToken(t.keys, tokenString(t.cfg.ClientID, stamp))
	if err != nil {
		return nil, stamp, cannotSign(err)
	}
	reply, err := t.http.Do(ctx, wire.Request{
		Method: http.MethodPost,
		URL:    t.cfg.BaseURL + path,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"Accept":       {"application/json"},
			"X-TIMESTAMP":  {stamp},
			"X-CLIENT-KEY": {t.cfg.ClientID},
			"X-SIGNATURE":  {sig},
		},
		Body: body,
	})
	if err != nil {
		var we *wire.Error
		if errors.As(err, &we) && we.Sent {
			return nil, stamp, err
		}
		return nil, stamp, notReached(err)
	}
	t.clock.observe(reply.Header, stamp)
	return reply, stamp, nil
}

// fetch asks the token service (SNAP standard, service 73) once.
func (t *tokens) fetch(ctx context.Context) (*secret.Value, time.Duration, error) {
	reply, stamp, err := t.request(ctx, t.cfg.TokenPath, []byte(t.cfg.TokenBody))
	if err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			err = notReached(err) // whatever became of it, the call that needs the token was not sent
		}
		return nil, 0, err
	}
	defer clear(reply.Body)
	o, err := parseObject(reply.Body)
	if err != nil {
		o = object{}
	}
	if reply.Status == http.StatusOK {
		v, life, err := parseToken(o, t.clock.time(), time.Duration(t.cfg.TokenLife))
		if err == nil {
			return v, life, nil
		}
	}
	return nil, 0, t.explain(reply, o, stamp)
}

// explain makes an answer of a token service's refusal. Whatever it was, the call
// that needed the token was not sent.
func (t *tokens) explain(reply *wire.Reply, o object, stamp string) *refusal {
	a := txn.Answer{Outcome: txn.NotSent, HTTPStatus: reply.Status}
	o.head(&a)
	code, _ := o.text("responseCode")
	status, _, ok := splitCode(code)
	if !ok {
		status = reply.Status
	}
	v := judge(reply.Status, code)
	corrected, clockAlarm := false, ""
	if reply.Status == http.StatusUnauthorized || status == http.StatusUnauthorized {
		corrected, clockAlarm = t.clock.learn(reply.Header, stamp)
	}
	switch {
	case corrected:
		a.Reason, a.Again = txn.ReasonClockCorrected, true
	case v.act == actThrottle:
		a.Reason = txn.ReasonThrottled
		a.RetryAfter = retryAfter(reply.Header, t.clock.time())
	case reply.Status == http.StatusRequestTimeout:
		a.Reason = txn.ReasonLinkDown
	case reply.Status >= 400 && reply.Status < 500 || status >= 400 && status < 500:
		a.Reason, a.Hold = txn.ReasonAuthRefused, true
		a.Alarm = fmt.Sprintf("%s gives no access token (%s): check client_id, the token key, token_path and this machine's clock", t.name, orStatus(a.Code, reply.Status))
		if clockAlarm != "" {
			a.Alarm = t.name + ": " + clockAlarm
		}
	default:
		a.Reason = txn.ReasonLinkDown
	}
	if a.Text == "" {
		a.Text = fmt.Sprintf("the token service answered HTTP %d without an access token", reply.Status)
	}
	return &refusal{a}
}

// parseToken reads the answer of the token service. now is the provider's time,
// for an expiresIn that is a date.
func parseToken(o object, now time.Time, fallback time.Duration) (*secret.Value, time.Duration, error) {
	if code, ok := o.text("responseCode"); ok {
		if status, kase, ok := splitCode(code); !ok || status != http.StatusOK || kase != "00" {
			return nil, 0, errors.New("the token service's code is not a success")
		}
	}
	s, ok := o.text("accessToken")
	if !ok || !visible(s, 1, maxTokenSize) {
		return nil, 0, errors.New("the answer holds no usable accessToken")
	}
	return secret.New([]byte(s)), tokenLife(o, now, fallback), nil
}

// tokenLife reads expiresIn: by the standard a string of seconds, elsewhere a
// number or a date.
func tokenLife(o object, now time.Time, fallback time.Duration) time.Duration {
	life := fallback
	if s, ok := o.text("expiresIn"); ok {
		s = strings.TrimSpace(s)
		if n, ok := wholeNumber(s); ok {
			if n > 0 {
				life = time.Duration(min(n, int64(maxTokenLife/time.Second))) * time.Second
			}
		} else if at, ok := parseDate(s); ok {
			if d := at.Sub(now); d > 0 {
				life = d
			}
		}
	}
	return min(life, maxTokenLife)
}

func parseDate(s string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, jakarta); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// notReached is the refusal of a token service that gave no answer.
func notReached(err error) *refusal {
	a := txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown, Text: printable(err.Error(), maxText)}
	var we *wire.Error
	if errors.As(err, &we) && we.Untrusted {
		a.Reason = txn.ReasonLinkUntrusted
		a.Alarm = printable(err.Error(), maxText)
	}
	return &refusal{a}
}

// cannotSign is the refusal of a call whose signature was not made.
func cannotSign(err error) *refusal {
	return &refusal{txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore, Text: printable(err.Error(), maxText)}}
}
