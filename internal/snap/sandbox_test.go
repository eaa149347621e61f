package snap_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/secret"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

const (
	clientID    = "bank-branch-12"
	netzmeID    = "TokoNetmeClientId"
	clientKey   = "client-secret-of-the-tests"
	merchant    = "F7778YIF6A3TC"
	phone       = "081139291900"
	linkedPhone = "080012341373"
	customer    = "M_F5rX23Vw"
)

type softMAC string

func (m softMAC) Sum(_ context.Context, data []byte) ([]byte, error) {
	h := hmac.New(sha512.New, []byte(m))
	h.Write(data)
	return h.Sum(nil), nil
}

var benchKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// patient are limits far above anything that comes to its end.
func patient(ca string) wire.Options {
	limit := wire.Duration(2 * time.Minute)
	return wire.Options{CAFile: ca, DialTimeout: limit, TLSTimeout: limit, HeaderTimeout: limit, Timeout: limit}
}

// bench is the sandbox with our providers in front of it.
type bench struct {
	*upstream.Server
	finpay *snap.Finpay
	netzme *snap.Netzme
	serial atomic.Uint64
}

func newBench(t *testing.T, change func(*upstream.Config)) *bench {
	t.Helper()
	key := benchKey()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	partner := func(id string) upstream.SNAPConfig {
		return upstream.SNAPConfig{Partners: []upstream.Partner{{ClientID: id, ClientSecret: clientKey, PublicKey: public}}}
	}
	cfg := upstream.Config{
		Finpay: &upstream.FinpayConfig{
			SNAPConfig: partner(clientID), MerchantID: merchant, Page: "tls",
			Customers: []upstream.Customer{{Phone: phone}, {Phone: linkedPhone, Linked: true}},
		},
		Netzme: &upstream.NetzmeConfig{SNAPConfig: partner(netzmeID), Customers: []string{customer}},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := upstream.New(cfg)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Close()) })

	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, s.CA(), 0o600))
	client, err := wire.New(patient(ca))
	require.NoError(t, err)
	t.Cleanup(client.Close)

	b := &bench{Server: s}
	log := slog.New(slog.DiscardHandler)
	keys := snap.Keys{Token: key, Secret: softMAC(clientKey)}
	fc := snap.FinpayDefaults()
	fc.BaseURL, fc.ClientID, fc.ChannelID, fc.Origin, fc.MerchantID = "https://"+s.Addr(upstream.Finpay), clientID, "95221", "www.bank.example", merchant
	fc.TokenJitter = 0
	b.finpay, err = snap.NewFinpay(fc, keys, client, log, nil)
	require.NoError(t, err)
	nc := snap.NetzmeDefaults()
	nc.BaseURL, nc.ClientID, nc.ChannelID = "https://"+s.Addr(upstream.Netzme), netzmeID, "95221"
	nc.TokenJitter = 0
	b.netzme, err = snap.NewNetzme(nc, keys, client, log, nil)
	require.NoError(t, err)
	return b
}

// id allots an external id that is never handed out twice.
func (b *bench) id(context.Context) (string, error) {
	return txn.Identity{Kiosk: 12, Salt: 3456}.ExternalID(b.serial.Add(1)), nil
}

// request makes a new request of a customer.
func (b *bench) request(op txn.Operation, who string) *txn.Request {
	r := &txn.Request{Operation: op, Step: 1, Fields: map[string]string{"phoneNo": who}}
	if op == txn.NetzmeForgotPIN {
		r.Fields = map[string]string{"custIdMerchant": who}
	}
	r.Reference = txn.Identity{Kiosk: 12, Salt: 3456}.ExternalID(b.serial.Add(1))
	return r
}

// submit makes one attempt the way the engine does, and records its outcome.
func (b *bench) submit(t *testing.T, r *txn.Request, otp string) txn.Answer {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	go b.WhenHanging(ctx, giveUp)
	serial := b.serial.Add(1)
	at := txn.Attempt{Step: r.Step, Serial: serial, ExternalID: txn.Identity{Kiosk: 12, Salt: 3456}.ExternalID(serial), Began: time.Now()}
	r.Attempts = append(r.Attempts, at)
	c := txn.Call{Request: r.Clone(), Attempt: at, NewExternalID: b.id}
	if otp != "" {
		c.Secret = secret.New([]byte(otp))
		defer c.Secret.Wipe()
	}
	var p txn.Provider = b.finpay
	if r.Operation == txn.NetzmeForgotPIN {
		p = b.netzme
	}
	a := p.Submit(ctx, c)
	r.Last().Outcome = a.Outcome
	for k, v := range a.Data {
		if r.Data == nil {
			r.Data = map[string]string{}
		}
		r.Data[k] = v
	}
	return a
}

func (b *bench) inquire(t *testing.T, r *txn.Request) txn.Answer {
	t.Helper()
	return b.finpay.Inquire(t.Context(), txn.Call{Request: r.Clone(), NewExternalID: b.id})
}

func (b *bench) inject(t *testing.T, f upstream.Fault) {
	t.Helper()
	_, err := b.Inject(f)
	require.NoError(t, err)
}

// clean demands that the sandbox saw no broken rule.
func (b *bench) clean(t *testing.T) {
	t.Helper()
	require.Empty(t, b.Violations())
}

func TestSandboxOperations(t *testing.T) {
	b := newBench(t, nil)
	require.NoError(t, b.finpay.Probe(t.Context()))
	require.NoError(t, b.netzme.Probe(t.Context()))

	a := b.submit(t, b.request(txn.FinpayResetPIN, phone), "")
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)

	bind := b.request(txn.FinpayBind, phone)
	a = b.submit(t, bind, "")
	require.Equal(t, txn.WentPending, a.Outcome, "%+v", a)
	require.Equal(t, txn.AwaitLink, a.Await)
	require.Equal(t, 300*time.Second, a.AwaitFor)
	require.Equal(t, "127.0.0.1", a.Data[txn.DataLinkDomain])
	link, err := url.Parse(a.Data[txn.DataLinkURL])
	require.NoError(t, err)
	require.NotEmpty(t, link.Query().Get("linkageToken"))
	require.Equal(t, txn.WasRejected, b.inquire(t, bind).Outcome, "the customer has not finished")
	_, err = b.Link(phone)
	require.NoError(t, err)
	require.Equal(t, txn.HasSucceeded, b.inquire(t, bind).Outcome)
	again := b.submit(t, b.request(txn.FinpayBind, phone), "")
	require.Equal(t, txn.ReasonAlreadyLinked, again.Reason)
	require.Equal(t, 1, b.EffectCount("finpay.bind", ""))

	unbind := b.request(txn.FinpayUnbind, phone)
	a = b.submit(t, unbind, "")
	require.Equal(t, txn.AwaitOTP, a.Await, "%+v", a)
	unbind.Step = 2
	a = b.submit(t, unbind, "0000")
	require.Equal(t, txn.WasRejected, a.Outcome)
	require.Equal(t, txn.ReasonOTPWrong, a.Reason)
	require.Equal(t, txn.AwaitOTP, a.Await)
	otp, err := b.OTP(phone)
	require.NoError(t, err)
	a = b.submit(t, unbind, otp)
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, txn.HasSucceeded, b.inquire(t, unbind).Outcome)

	a = b.submit(t, b.request(txn.NetzmeForgotPIN, customer), "")
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, 5*time.Minute, a.Cooldown)
	a = b.submit(t, b.request(txn.NetzmeForgotPIN, customer), "")
	require.Equal(t, txn.ReasonTooMany, a.Reason)
	require.Positive(t, a.Cooldown)
	b.clean(t)
}

func TestSandboxRefusals(t *testing.T) {
	b := newBench(t, nil)
	a := b.submit(t, b.request(txn.FinpayResetPIN, "089999999999"), "")
	require.Equal(t, txn.WasRejected, a.Outcome)
	require.Equal(t, txn.ReasonNotFound, a.Reason)
	a = b.submit(t, b.request(txn.FinpayBind, "089999999999"), "")
	require.Equal(t, txn.WasRejected, a.Outcome)
	require.Equal(t, txn.ReasonNotFound, a.Reason)

	unbind := b.request(txn.FinpayUnbind, linkedPhone)
	require.Equal(t, txn.WentPending, b.submit(t, unbind, "").Outcome)
	unbind.Step = 2
	otp, err := b.OTP(linkedPhone)
	require.NoError(t, err)
	b.Advance(6 * time.Minute)
	a = b.submit(t, unbind, otp)
	require.Equal(t, txn.ReasonOTPExpired, a.Reason)

	unbind = b.request(txn.FinpayUnbind, linkedPhone)
	require.Equal(t, txn.WentPending, b.submit(t, unbind, "").Outcome)
	unbind.Step = 2
	for range 3 {
		require.Equal(t, txn.ReasonOTPWrong, b.submit(t, unbind, "0000").Reason)
	}
	a = b.submit(t, unbind, "0000")
	require.Equal(t, txn.ReasonOTPBlocked, a.Reason)
	require.Empty(t, a.Await)
	b.clean(t)
}

// TestSandboxFaults holds the outcome against what the platform's ledger says
// happened: whatever had an effect is never NotSent.
func TestSandboxFaults(t *testing.T) {
	yes, no := true, false
	for _, tc := range []struct {
		name    string
		fault   upstream.Fault
		outcome txn.Outcome
		reason  txn.Reason
		effects int
	}{
		{"down", upstream.Fault{Kind: upstream.KindDown}, txn.NotSent, txn.ReasonLinkDown, 0},
		{"untrusted", upstream.Fault{Kind: upstream.KindTLSBroken}, txn.NotSent, txn.ReasonLinkUntrusted, 0},
		{"expired tokens", upstream.Fault{Kind: upstream.KindExpireTokens}, txn.NotSent, txn.ReasonTokenInvalid, 0},
		{"throttled", upstream.Fault{Kind: upstream.KindThrottle, RetryAfterSeconds: 9}, txn.NotSent, txn.ReasonThrottled, 0},
		{"clock", upstream.Fault{Kind: upstream.KindClockSkew, SkewSeconds: 7200}, txn.NotSent, txn.ReasonClockCorrected, 0},
		{"cut in the head", upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: 20}, txn.Unknown, txn.ReasonNoAnswer, 0},
		{"cut before the effect", upstream.Fault{Kind: upstream.KindBreakBeforeEffect}, txn.Unknown, txn.ReasonNoAnswer, 0},
		{"reset before the effect", upstream.Fault{Kind: upstream.KindBreakBeforeEffect, RST: true}, txn.Unknown, txn.ReasonNoAnswer, 0},
		{"cut after the effect", upstream.Fault{Kind: upstream.KindBreakAfterEffect}, txn.Unknown, txn.ReasonNoAnswer, 1},
		{"reset after the effect", upstream.Fault{Kind: upstream.KindBreakAfterEffect, RST: true}, txn.Unknown, txn.ReasonNoAnswer, 1},
		{"hang without effect", upstream.Fault{Kind: upstream.KindHang, Effect: &no}, txn.Unknown, txn.ReasonNoAnswer, 0},
		{"hang after the effect", upstream.Fault{Kind: upstream.KindHang, Effect: &yes}, txn.Unknown, txn.ReasonNoAnswer, 1},
		{"garbage", upstream.Fault{Kind: upstream.KindGarbage}, txn.Unknown, txn.ReasonUnreadable, 1},
		{"truncated", upstream.Fault{Kind: upstream.KindTruncated}, txn.Unknown, txn.ReasonNoAnswer, 1},
		{"huge", upstream.Fault{Kind: upstream.KindHuge}, txn.Unknown, txn.ReasonNoAnswer, 1},
		{"redirect", upstream.Fault{Kind: upstream.KindRedirect}, txn.Unknown, "", 0},
		{"slow", upstream.Fault{Kind: upstream.KindSlow, DelayMS: 100}, txn.HasSucceeded, "", 1},
		{"server error", upstream.Fault{Kind: upstream.KindStatus, Status: 500}, txn.Unknown, txn.ReasonServerError, 0},
		{"server error after the effect", upstream.Fault{Kind: upstream.KindAnswerAfterEffect, Status: 504}, txn.Unknown, txn.ReasonServerError, 1},
		{"duplicate id", upstream.Fault{Kind: upstream.KindStatus, Status: 409}, txn.Unknown, txn.ReasonDuplicateID, 0},
		{"signature refused", upstream.Fault{Kind: upstream.KindStatus, Status: 401}, txn.NotSent, txn.ReasonAuthRefused, 0},
		{"no", upstream.Fault{Kind: upstream.KindStatus, Status: 403, Code: "01"}, txn.WasRejected, txn.ReasonNotAllowed, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, op := range []struct {
				provider string
				op       txn.Operation
				who      string
			}{{upstream.Finpay, txn.FinpayResetPIN, phone}, {upstream.Netzme, txn.NetzmeForgotPIN, customer}} {
				b := newBench(t, nil)
				require.NoError(t, b.finpay.Probe(t.Context())) // an access token and an open connection are there
				require.NoError(t, b.netzme.Probe(t.Context()))
				tc.fault.Provider = op.provider
				b.inject(t, tc.fault)
				if tc.fault.Kind == upstream.KindDown || tc.fault.Kind == upstream.KindTLSBroken {
					// The kernel brings the end of the open connection no later than what comes of a new one.
					probe := b.finpay.Probe
					if op.provider == upstream.Netzme {
						probe = b.netzme.Probe
					}
					require.Error(t, probe(t.Context()))
				}
				r := b.request(op.op, op.who)
				a := b.submit(t, r, "")
				require.Equal(t, tc.outcome, a.Outcome, "%+v", a)
				if tc.reason != "" {
					require.Equal(t, tc.reason, a.Reason, "%+v", a)
				}
				require.Equal(t, tc.effects, b.EffectCount(string(op.op), r.Reference))
				if a.Outcome == txn.NotSent && !a.Hold {
					// Mended or cleared, the same request goes through with one effect.
					if tc.fault.Kind != upstream.KindClockSkew {
						require.NoError(t, b.Clear(t.Context(), upstream.ClearFilter{}))
					}
					a = b.submit(t, r, "")
					require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
					require.Equal(t, 1, b.EffectCount(string(op.op), r.Reference))
				}
				b.clean(t)
			}
		})
	}
}

func TestSandboxDoubtIsSettledByReadBack(t *testing.T) {
	b := newBench(t, nil)
	bind := b.request(txn.FinpayBind, phone)
	b.inject(t, upstream.Fault{Provider: upstream.Finpay, Operation: "finpay.bind", Kind: upstream.KindBreakAfterEffect, Times: 1})
	require.Equal(t, txn.Unknown, b.submit(t, bind, "").Outcome)
	require.Equal(t, txn.WasRejected, b.inquire(t, bind).Outcome, "nobody can have opened the page")

	for _, tc := range []struct {
		kind upstream.Kind
		want txn.Outcome
	}{
		{upstream.KindBreakBeforeEffect, txn.WasRejected},
		{upstream.KindBreakAfterEffect, txn.HasSucceeded},
	} {
		unbind := b.request(txn.FinpayUnbind, linkedPhone)
		require.Equal(t, txn.WentPending, b.submit(t, unbind, "").Outcome)
		unbind.Step = 2
		otp, err := b.OTP(linkedPhone)
		require.NoError(t, err)
		b.inject(t, upstream.Fault{Provider: upstream.Finpay, Operation: "finpay.unbind.2", Kind: tc.kind, Times: 1})
		require.Equal(t, txn.Unknown, b.submit(t, unbind, otp).Outcome)
		require.Equal(t, tc.want, b.inquire(t, unbind).Outcome)
	}
	b.clean(t)
}

func TestSandboxWrongEcho(t *testing.T) {
	b := newBench(t, nil)
	b.inject(t, upstream.Fault{Provider: upstream.Netzme, Kind: upstream.KindWrongEcho, Times: 1})
	a := b.submit(t, b.request(txn.NetzmeForgotPIN, customer), "")
	require.Equal(t, txn.Unknown, a.Outcome)
	require.Equal(t, txn.ReasonEchoMismatch, a.Reason)
	b.clean(t)
}

// TestSandboxDuplicateReference: a repeat of what had its effect is recognised by
// the platform and ends as the success it was.
func TestSandboxDuplicateReference(t *testing.T) {
	b := newBench(t, nil)
	r := b.request(txn.FinpayResetPIN, phone)
	b.inject(t, upstream.Fault{Provider: upstream.Finpay, Operation: "finpay.reset_pin", Kind: upstream.KindBreakAfterEffect, Times: 1})
	require.Equal(t, txn.Unknown, b.submit(t, r, "").Outcome)
	a := b.submit(t, r, "")
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, txn.ReasonConfirmed, a.Reason)
	require.Equal(t, 1, b.EffectCount("finpay.reset_pin", r.Reference))
	b.clean(t)
}

// TestSandboxKioskThatSharesAClientID: each new token ends the other's.
func TestSandboxKioskThatSharesAClientID(t *testing.T) {
	b := newBench(t, func(c *upstream.Config) { c.Netzme.Partners[0].SingleActiveToken = true })
	require.NoError(t, b.netzme.Probe(t.Context()))
	b.inject(t, upstream.Fault{Provider: upstream.Netzme, Kind: upstream.KindExpireTokens})
	r := b.request(txn.NetzmeForgotPIN, customer)
	a := b.submit(t, r, "")
	require.Equal(t, txn.NotSent, a.Outcome)
	require.True(t, a.Again)
	require.Equal(t, txn.HasSucceeded, b.submit(t, r, "").Outcome)
	b.clean(t)
}

// TestSandboxKiosksThatShareAClientIDDoNotStarve: five kiosks on a client that has one
// active token, all at once. Each call that loses its token to another kiosk was not
// processed, is made again with a new one, and has its effect once.
func TestSandboxKiosksThatShareAClientIDDoNotStarve(t *testing.T) {
	b := newBench(t, func(c *upstream.Config) {
		c.Netzme.Partners[0].SingleActiveToken, c.Netzme.AnyCustomer = true, true
	})
	const kiosks, each = 5, 6
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, b.CA(), 0o600))
	var all sync.WaitGroup
	var lost atomic.Int64
	for k := range kiosks {
		client, err := wire.New(patient(ca))
		require.NoError(t, err)
		t.Cleanup(client.Close)
		nc := snap.NetzmeDefaults()
		nc.BaseURL, nc.ClientID, nc.ChannelID = "https://"+b.Addr(upstream.Netzme), netzmeID, "95221"
		nc.TokenJitter = wire.Duration(30 * time.Millisecond)
		p, err := snap.NewNetzme(nc, snap.Keys{Token: benchKey(), Secret: softMAC(clientKey)}, client, slog.New(slog.DiscardHandler), nil)
		require.NoError(t, err)
		all.Go(func() {
			for i := range each {
				r := &txn.Request{Operation: txn.NetzmeForgotPIN, Step: 1, Fields: map[string]string{"custIdMerchant": fmt.Sprintf("M_%d_%d", k, i)}}
				me := txn.Identity{Kiosk: uint32(k + 1), Salt: 3456}
				r.Reference = me.ExternalID(uint64(1_000_000 + i))
				for try := range 1000 { // more than any bad luck
					at := txn.Attempt{Step: 1, Serial: uint64(1000*i + try), ExternalID: me.ExternalID(uint64(1000*i + try)), Began: time.Now()}
					r.Attempts = append(r.Attempts, at)
					a := p.Submit(t.Context(), txn.Call{Request: r.Clone(), Attempt: at, NewExternalID: b.id})
					r.Last().Outcome = a.Outcome
					if a.Outcome == txn.HasSucceeded {
						break
					}
					if a.Outcome != txn.NotSent || a.Reason != txn.ReasonTokenInvalid || !a.Again {
						t.Errorf("kiosk %d, request %d: %+v", k, i, a)
						return
					}
					lost.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, kiosks*each, b.EffectCount("netzme.forgot_pin", ""), "each once")
	t.Logf("%d of %d calls lost their token to another kiosk", lost.Load(), kiosks*each+int(lost.Load()))
	b.clean(t)
}

func TestSandboxTokenLivesInEveryForm(t *testing.T) {
	for _, form := range []string{upstream.ExpiresString, upstream.ExpiresInt, upstream.ExpiresDate} {
		t.Run(form, func(t *testing.T) {
			b := newBench(t, func(c *upstream.Config) { c.Finpay.Partners[0].ExpiresIn = form })
			for range 3 {
				require.Equal(t, txn.HasSucceeded, b.submit(t, b.request(txn.FinpayResetPIN, phone), "").Outcome)
			}
			require.Equal(t, 1, b.State().Platforms[upstream.Finpay].TokensIssued)
			b.clean(t)
		})
	}
}
