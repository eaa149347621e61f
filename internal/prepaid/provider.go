package prepaid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// Client makes one exchange and says whether a byte can have left, or only proves
// that a connection can be made. *wire.Client is one.
type Client interface {
	Do(ctx context.Context, r wire.Request) (*wire.Reply, error)
	Connect(ctx context.Context, rawURL string) error
}

// Provider is the prepaid platform. It is safe for concurrent use if its Cipher
// and its Client are.
type Provider struct {
	cfg      Config
	secrets  Secrets
	envelope envelope
	pins     PINSource
	client   Client
	log      *slog.Logger
	zone     *time.Location
	success  map[string]bool
	rejected map[string]txn.Reason
}

var (
	_ txn.Provider = (*Provider)(nil)
	_ txn.Prober   = (*Provider)(nil)
	_ txn.Verifier = (*Provider)(nil)
	_ Client       = (*wire.Client)(nil)
)

// New checks the configuration and the secrets; its error is a *SettingError.
func New(cfg Config, secrets Secrets, c Cipher, pins PINSource, client Client, log *slog.Logger) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := secrets.check(); err != nil {
		return nil, err
	}
	env, err := newEnvelope(&cfg, c)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(cfg.Zone)
	if err != nil {
		return nil, fmt.Errorf("load zone: %w", err)
	}
	p := &Provider{
		cfg: cfg, secrets: secrets, envelope: env, pins: pins, client: client, log: log, zone: zone,
		success:  make(map[string]bool, len(cfg.SuccessCodes)),
		rejected: cfg.rejections(),
	}
	for _, code := range cfg.SuccessCodes {
		p.success[code] = true
	}
	return p, nil
}

// Probe proves that the platform can be reached and trusted. It sends no request:
// the platform documents none that is without effect.
func (p *Provider) Probe(ctx context.Context) error {
	err := p.client.Connect(ctx, p.cfg.BaseURL)
	var we *wire.Error
	if errors.As(err, &we) && we.Untrusted {
		return &txn.ProbeError{Reason: txn.ReasonLinkUntrusted, Err: err}
	}
	return err
}

// Submit makes the Reset PIN call. It never repeats it.
func (p *Provider) Submit(ctx context.Context, c txn.Call) txn.Answer {
	entered := c.Secret.Bytes()
	if a, ok := p.refuse(c, entered); !ok {
		return a
	}
	want := expected{
		path:        p.cfg.ResetPath,
		messageCode: p.cfg.AnswerMessageCode,
		txnID:       c.Request.Reference,
		fields:      c.Request.Fields,
	}
	var body []byte
	err := p.withPIN(ctx, entered, func(pin []byte) (err error) {
		if err := p.cfg.digitsField().Check(pin); err != nil {
			return err
		}
		plain := p.resetMessage(c.Request.Reference, c.Attempt.Began, c.Request.Fields, pin)
		body, err = p.sealed(ctx, plain)
		return err
	})
	var bad *txn.FieldError // of the digits: no device mends that
	switch {
	case errors.As(err, &bad):
		return notAllowed(txn.ReasonBadField, bad.Error())
	case err != nil:
		return p.unsealed(err, want)
	}
	return p.exchange(ctx, body, entered, want)
}

// withPIN opens what was entered and has use work with the digits, where nothing of
// them stays on the stack afterwards (package secret, Do).
func (p *Provider) withPIN(ctx context.Context, entered []byte, use func(pin []byte) error) (err error) {
	secret.Do(func() {
		var uerr error
		if err = p.pins.Open(ctx, entered, func(pin []byte) { uerr = use(pin) }); err == nil {
			err = uerr
		}
	})
	return err
}

// sealed puts a message into its envelope and clears it.
func (p *Provider) sealed(ctx context.Context, plain []byte) ([]byte, error) {
	body, err := p.envelope.seal(ctx, plain)
	clear(plain[:cap(plain)])
	return body, err
}

// unsealed: the device of the PIN or the token did not do its work, so nothing left.
func (p *Provider) unsealed(err error, want expected) txn.Answer {
	p.log.Warn("prepaid message not encrypted", "path", want.path, "error", err)
	return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore}
}

func notAllowed(why txn.Reason, text string) txn.Answer {
	return txn.Answer{Outcome: txn.WasRejected, Reason: why, Text: "not sent: " + text}
}

// refuse looks at a call once more before anything leaves: it may have been
// accepted under another configuration. What is refused here was never sent and
// would be refused again, so it is a definite no.
func (p *Provider) refuse(c txn.Call, entered []byte) (txn.Answer, bool) {
	no := func(why txn.Reason, text string) (txn.Answer, bool) { return notAllowed(why, text), false }
	pol := p.Policies()[0]
	switch {
	case c.Request.Operation != pol.Operation:
		return no(txn.ReasonNotAllowed, "this is no operation of the prepaid platform")
	case !pol.Enabled:
		return no(txn.ReasonNotAllowed, "the operation was switched off")
	case c.Attempt.Began.IsZero():
		return no(txn.ReasonRefused, "the attempt has no time")
	}
	if err := p.checkCard(c.Request.Fields); err != nil {
		return no(txn.ReasonBadField, err.Error())
	}
	if err := pol.Secret.Check(entered); err != nil {
		return no(txn.ReasonBadField, err.Error())
	}
	id := txn.Field{Name: fieldTxnID, Min: 1, Max: maxTxnID}
	if err := id.Check([]byte(c.Request.Reference)); err != nil {
		return no(txn.ReasonBadField, err.Error())
	}
	return txn.Answer{}, true
}

// checkCard holds the card's fields against the rules. Its error holds no value.
func (p *Provider) checkCard(f map[string]string) error {
	pol := txn.Policy{Fields: cardFields()}
	if err := pol.CheckFields(f); err != nil {
		return err
	}
	// JSON has no numbers with leading zeros, and without them it would be another URN
	// than the one that limits and cooldowns went by.
	if p.cfg.URNAsNumber && len(f[FieldURN]) > 1 && strings.HasPrefix(f[FieldURN], "0") {
		return errors.New("field urn begins with 0; enter it without leading zeros")
	}
	return nil
}

// maxTxnID is the widest of the limits that the platform's pages give for clientTxnId.
const maxTxnID = 100

// decryptTime is what decrypting an answer may take even when the call's own time
// is over: an answer in hand, perhaps a success, must not be lost for that.
const decryptTime = 5 * time.Second

// exchange sends a sealed message and judges the answer. entered is the PIN as the
// device handed it over, nil where the message has none.
func (p *Provider) exchange(ctx context.Context, body, entered []byte, want expected) txn.Answer {
	reply, err := p.client.Do(ctx, wire.Request{
		Method: http.MethodPost,
		URL:    strings.TrimSuffix(p.cfg.BaseURL, "/") + want.path,
		Header: p.header(),
		Body:   body,
	})
	if err != nil {
		return p.failed(err, want)
	}
	defer clear(reply.Body) // in clear where the platform answered so
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), decryptTime)
	defer cancel()
	r, err := p.read(dctx, reply.Body)
	defer r.fields.wipe()
	var ce *cipherError
	switch {
	case errors.As(err, &ce):
		p.log.Warn("prepaid answer not decrypted", "path", want.path, "http_status", reply.Status, "error", err)
	case err != nil || !r.spoke:
		p.log.Warn("prepaid answer not readable", "path", want.path, "http_status", reply.Status, "body_bytes", len(reply.Body))
	}
	a := p.judged(dctx, reply.Status, r, err, want, entered)
	if ce != nil {
		a.Alarm = "prepaid: an answer came and the token could not decrypt it; check the token with gardu check"
	}
	return a
}

// judged is judge with the digits at hand, so that a text that repeats them is
// dropped. Where the device cannot open them again, every text is.
func (p *Provider) judged(ctx context.Context, status int, r reading, err error, want expected, entered []byte) (a txn.Answer) {
	if entered == nil {
		return p.judge(status, r, err, want, nil)
	}
	if perr := p.withPIN(ctx, entered, func(pin []byte) error { a = p.judge(status, r, err, want, pin); return nil }); perr != nil {
		p.log.Warn("prepaid answer kept without its texts: the PIN cannot be compared", "path", want.path, "error", perr)
		a = p.judge(status, r, err, want, nil)
		a.Text, a.Data = "", nil
		if !p.success[a.Code] && p.rejected[a.Code] == "" {
			a.Code = ""
		}
	}
	return a
}

// failed says what an exchange without an answer means.
func (p *Provider) failed(err error, want expected) txn.Answer {
	p.log.Warn("prepaid call failed", "path", want.path, "error", err)
	var we *wire.Error
	switch {
	case !errors.As(err, &we) || we.Sent:
		return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
	case we.Untrusted:
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkUntrusted, Alarm: "prepaid: " + we.Error()}
	}
	return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
}
