package snap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// HTTP is the part of wire.Client that this package uses.
type HTTP interface {
	// Do makes one exchange. Its errors are *wire.Error.
	Do(ctx context.Context, r wire.Request) (*wire.Reply, error)
	// Connect proves that the host can be reached and trusted, without a request.
	Connect(ctx context.Context, url string) error
}

// caller makes the calls of one provider.
type caller struct {
	name string
	cfg  *Config
	keys *Keys
	http HTTP
	*clock
	tokens    *tokens
	customers *customers // nil where no operation wants customer tokens
	log       *slog.Logger
}

// newCaller checks the keys and puts the parts together. keys becomes its own.
func newCaller(name, asks string, cfg *Config, keys Keys, h HTTP, log *slog.Logger, now func() time.Time) (*caller, error) {
	if cfg.PartnerID == "" {
		cfg.PartnerID = cfg.ClientID
	}
	if err := checkKeys(cfg, &keys, asks); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if now == nil {
		now = time.Now
	}
	c := &caller{name: name, cfg: cfg, keys: &keys, http: h, log: log}
	c.clock = &clock{now: now, tolerance: time.Duration(cfg.ClockTolerance), bound: time.Duration(cfg.ClockBound), log: log}
	c.tokens = &tokens{cfg: cfg, name: name, keys: c.keys, http: h, clock: c.clock, log: log}
	return c, nil
}

// checkCustomer refuses a configuration that wants customer tokens nobody has.
func (c *caller) checkCustomer(ops ...namedOperation) error {
	for _, o := range ops {
		if o.CustomerToken && c.keys.Vault == nil {
			return fmt.Errorf("%s: %w", c.name, &SettingError{o.name + ".customer_token", "is on, but this agent has nowhere to keep customer tokens; switch it off"})
		}
	}
	return nil
}

// call is one call to make.
type call struct {
	op         Operation
	customer   string // for the customer token
	externalID string
	body       []byte
}

// do makes one call and says what came of it. The object is the answer's; it is
// empty where there was none to read.
func (c *caller) do(ctx context.Context, k call) (txn.Answer, object) {
	token, err := c.tokens.get(ctx)
	if err != nil {
		return refused(err), nil
	}
	defer token.Wipe()
	var ct *secret.Value
	if k.op.CustomerToken {
		if ct, err = c.customers.token(ctx, k.customer); err != nil {
			return refused(err), nil
		}
		defer ct.Wipe()
	}
	stamp := c.clock.stamp()
	sig, err := signCall(ctx, c.cfg, c.keys, callString(c.cfg, http.MethodPost, k.op.Path, token.Bytes(), k.body, stamp))
	if err != nil {
		return cannotSign(err).answer, nil
	}
	h := c.header(k.externalID, stamp, sig, token)
	if ct != nil {
		h["Authorization-Customer"] = []string{"Bearer " + string(ct.Bytes())}
	}
	began := time.Now()
	reply, err := c.http.Do(ctx, wire.Request{Method: http.MethodPost, URL: c.cfg.BaseURL + k.op.Path, Header: h, Body: k.body})
	if err != nil {
		return c.unanswered(err), nil
	}
	c.observe(reply.Header, stamp)
	a, o, v := c.answered(reply, token, ct)
	c.mend(ctx, &a, v.act, answered{reply, k, stamp, token, ct})
	if ct != nil && v.act != actCustomer {
		c.customers.accepted(k.customer)
	}
	c.log.Debug("call answered", "provider", c.name, "path", k.op.Path, "http_status", a.HTTPStatus,
		"code", a.Code, "outcome", a.Outcome.String(), "elapsed", time.Since(began))
	return a, o
}

// header makes the headers of a call (SNAP standard; ORIGIN by Finpay).
func (c *caller) header(externalID, stamp, sig string, token *secret.Value) http.Header {
	h := http.Header{
		"Content-Type":  {"application/json"},
		"Accept":        {"application/json"},
		"Authorization": {"Bearer " + string(token.Bytes())},
		"X-TIMESTAMP":   {stamp},
		"X-SIGNATURE":   {sig},
		"X-PARTNER-ID":  {c.cfg.PartnerID},
		"X-EXTERNAL-ID": {externalID},
		"CHANNEL-ID":    {c.cfg.ChannelID},
	}
	if c.cfg.Origin != "" {
		h["ORIGIN"] = []string{c.cfg.Origin}
	}
	if c.cfg.DeviceID != "" {
		h["X-DEVICE-ID"] = []string{c.cfg.DeviceID}
	}
	return h
}

// unanswered is a call without an answer.
func (c *caller) unanswered(err error) txn.Answer {
	var we *wire.Error
	if errors.As(err, &we) && !we.Sent {
		return notReached(err).answer
	}
	return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer, Text: printable(err.Error(), maxText)}
}

// answered reads an answer and judges it by the table.
func (c *caller) answered(reply *wire.Reply, tokens ...*secret.Value) (txn.Answer, object, verdict) {
	a := txn.Answer{HTTPStatus: reply.Status}
	o, err := parseObject(reply.Body)
	code := ""
	if err != nil {
		a.Text = fmt.Sprintf("the answer with status %d cannot be read: %v", reply.Status, err)
	} else {
		o.head(&a)
		for _, t := range tokens {
			if t.Len() > 0 {
				a.Text = strings.ReplaceAll(a.Text, string(t.Bytes()), secret.Redacted)
			}
		}
		code, _ = o.text("responseCode")
	}
	v := judge(reply.Status, code)
	a.Outcome, a.Reason = v.outcome, v.reason
	if status, _, ok := splitCode(code); ok && status != reply.Status {
		c.log.Warn("HTTP status and response code disagree; the more cautious counts", "provider", c.name,
			"http_status", reply.Status, "code", a.Code, "outcome", a.Outcome.String())
	}
	return a, o, v
}

// answered is a call with its answer.
type answered struct {
	reply    *wire.Reply
	call     call
	stamp    string
	token    *secret.Value
	customer *secret.Value // nil where none was sent
}

// mend does what an answer asks for besides its outcome.
func (c *caller) mend(ctx context.Context, a *txn.Answer, what act, of answered) {
	reply, k := of.reply, of.call
	switch what {
	case actToken:
		c.tokens.refuse(of.token)
		a.Again = a.Outcome == txn.NotSent
	case actCustomer:
		if of.customer == nil {
			a.Alarm = fmt.Sprintf("%s wants a customer token for %s (%s): ask them, or set customer_token", c.name, k.op.Path, a.Code)
			return
		}
		a.Outcome, a.Reason = txn.WasRejected, txn.ReasonBindAgain
		if c.customers.refused(ctx, k.customer, of.customer) {
			a.Outcome, a.Reason, a.Again = txn.NotSent, txn.ReasonTokenInvalid, true
		}
	case actClock:
		corrected, alarm := c.learn(reply.Header, of.stamp)
		if corrected {
			a.Reason, a.Again = txn.ReasonClockCorrected, true
			return
		}
		a.Hold = true
		if alarm != "" {
			a.Alarm = c.name + ": " + alarm
			return
		}
		a.Alarm = fmt.Sprintf("%s refuses our signature or client (%s) though the clock agrees: check client_id, partner_id, mode, signature_encoding and the keys", c.name, a.Code)
	case actThrottle:
		a.RetryAfter = retryAfter(reply.Header, c.clock.time())
	case actCooldown:
		a.Cooldown = time.Duration(c.cfg.Cooldown)
	case actSettings:
		a.Alarm = fmt.Sprintf("%s does not accept our settings for %s (%s): check merchant_id, partner_id and the paths", c.name, k.op.Path, a.Code)
	case actNone, actSeenRef, actOTP:
	}
}

// seenReference settles 409 xx01, "this partner reference was already successful":
// a success only where an earlier call of ours may have arrived. earlier excludes
// the attempt that was just answered.
func (c *caller) seenReference(a *txn.Answer, k txn.Call, readback bool) {
	if a.Reason != txn.ReasonDuplicateRef {
		return
	}
	switch earlier := earlierCall(k); {
	case !earlier:
		a.Alarm = fmt.Sprintf("%s says that a reference we never sent before already succeeded (%s): check that no other kiosk has this one's number, and that the journal was not restored from a copy", c.name, a.Code)
	case !readback:
		a.Outcome, a.Reason = txn.HasSucceeded, txn.ReasonConfirmed
	}
}

// earlierCall reports whether the provider may have seen an earlier call of this step.
func earlierCall(k txn.Call) bool {
	for i := range k.Request.Attempts {
		at := &k.Request.Attempts[i]
		if at.Serial != k.Attempt.Serial && at.Step == k.Attempt.Step && at.Outcome != txn.NotSent && at.Outcome != txn.WasRejected {
			return true
		}
	}
	return false
}

// probe looks whether the provider can be reached: with a token at hand by a
// connection alone, since a further token may end the one of another kiosk.
func (c *caller) probe(ctx context.Context) error {
	if c.tokens.has() {
		if err := c.http.Connect(ctx, c.cfg.BaseURL); err != nil {
			return probeError(notReached(err), err)
		}
		return nil
	}
	token, err := c.tokens.get(ctx)
	if err != nil {
		return probeError(err, err)
	}
	token.Wipe()
	return nil
}

func probeError(why, err error) error {
	a := refused(why)
	return &txn.ProbeError{Reason: a.Reason, Hold: a.Hold, Err: err}
}

// refused takes the answer out of the one error that tokens returns.
func refused(err error) txn.Answer {
	var r *refusal
	if errors.As(err, &r) {
		return r.answer
	}
	return notReached(err).answer
}

// retryAfter reads Retry-After: seconds or a date. 0 is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	s := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Duration(max(0, min(n, int64(most/time.Second)))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, min(t.Sub(now), most))
	}
	return 0
}

func orStatus(code string, status int) string {
	if code != "" {
		return code
	}
	return strconv.Itoa(status)
}
