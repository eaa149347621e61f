package answers_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/prepaid"
	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
	"gardu/internal/wire"
)

const (
	clientKey = "client-secret-of-the-tests"
	merchant  = "F7778YIF6A3TC"
	staffCode = "77314159"
	envelope  = "000102030405060708090a0b0c0d0e0f1011121314151617"
	canaryPIN = "835142"

	// patience is far above anything that comes to its end.
	patience = 2 * time.Minute
)

type softMAC string

func (m softMAC) Sum(_ context.Context, data []byte) ([]byte, error) {
	h := hmac.New(sha512.New, []byte(m))
	h.Write(data)
	return h.Sum(nil), nil
}

type blockCipher struct{ block cipher.Block }

func (c blockCipher) EncryptCBC(_ context.Context, iv, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(out, in)
	return out, nil
}

func (c blockCipher) DecryptCBC(_ context.Context, iv, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(out, in)
	return out, nil
}

// memKEK wraps the journal's keys in memory.
type memKEK struct {
	id   string
	aead cipher.AEAD
}

func newKEK(id string) (*memKEK, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	return &memKEK{id, a}, err
}

func (k *memKEK) ID() string { return k.id }

func (k *memKEK) Wrap(_ context.Context, plain, aad []byte) ([]byte, error) {
	return k.aead.Seal(nil, nil, plain, aad), nil
}

func (k *memKEK) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	p, err := k.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", queue.ErrKeyMismatch)
	}
	return p, nil
}

// silent is an audit record that nobody reads.
type silent struct{}

func (silent) Record(context.Context, string, *txn.Request, *txn.Attempt, string) error { return nil }

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func publicPEM(t *testing.T, k crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// logs keeps what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// warnings are the newest lines that say more than that something was done.
func (l *logs) warnings() string {
	var all []string
	for line := range strings.Lines(l.String()) {
		if !strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "level=INFO") {
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-20):], "")
}

// booth is one kiosk in this process with platforms of its own: the sandbox over
// TLS, the real providers, journal, engine and screen.
type booth struct {
	*upstream.Server
	engine *txn.Engine
	page   *page
	log    *logs
	dir    string
	pin    string       // what is entered for a new one
	looks  gate         // every look at a link goes through it
	ends   gate         // and every end of a doubt
	passed atomic.Int64 // nanoseconds by which every clock is ahead of the machine's

	mu     sync.Mutex
	latest map[string]*txn.Request // by id
	begun  []string                // ids in the order of acceptance
	links  map[string]bool         // whether the screen heard last of a link that it is up
}

// gate holds back what ends a screen: the engine's looks at the links, or what became
// of a doubt. The screen before it is seen, however short it is meant to be and
// however late its reader.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type gatedFinpay struct {
	*snap.Finpay
	looks *gate
}

func (p gatedFinpay) Probe(ctx context.Context) error {
	return errors.Join(p.looks.pass(ctx), p.Finpay.Probe(ctx))
}

type gatedNetzme struct {
	*snap.Netzme
	looks *gate
}

func (p gatedNetzme) Probe(ctx context.Context) error {
	return errors.Join(p.looks.pass(ctx), p.Netzme.Probe(ctx))
}

// told is the engine as the screen may see it: by a read, too, it learns only what
// went through the gates.
type told struct {
	*txn.Engine
	by *booth
}

func (e told) Get(ctx context.Context, id string) (*txn.Request, error) {
	e.by.mu.Lock()
	r := e.by.latest[id]
	e.by.mu.Unlock()
	if r != nil {
		return r.Clone(), nil
	}
	return e.Engine.Get(ctx, id)
}

// plan is what a test changes of a booth.
type plan struct {
	sandbox func(*upstream.Config)
	finpay  func(*snap.FinpayConfig)
	netzme  func(*snap.NetzmeConfig)
	policy  func(*txn.Policy)
	pins    prepaid.PINSource // nil: the screen itself
	retry   time.Duration     // 0: what waits after a failure waits until the test lets it go on
}

func newBooth(t *testing.T, pl plan) *booth {
	t.Helper()
	b := &booth{log: &logs{}, latest: map[string]*txn.Request{}, links: map[string]bool{}, pin: canaryPIN}
	if pl.retry == 0 {
		pl.retry = 5 * time.Minute
	}
	if pl.pins == nil {
		pl.pins = prepaid.ScreenEntry{}
	}
	key := rsaKey()
	partner := func(id string) upstream.SNAPConfig {
		return upstream.SNAPConfig{Partners: []upstream.Partner{{ClientID: id, ClientSecret: clientKey, PublicKey: publicPEM(t, key.Public())}}}
	}
	cfg := upstream.Config{
		Finpay: &upstream.FinpayConfig{SNAPConfig: partner("bank-branch-12"), MerchantID: merchant, Page: "tls", AnyCustomer: true},
		Netzme: &upstream.NetzmeConfig{SNAPConfig: partner("TokoNetmeClientId"), AnyCustomer: true},
		Prepaid: &upstream.PrepaidConfig{
			Key: envelope, APIKey: "api-key", ClientID: "2000", BankID: "7000", SecureCode: "secure-code", AnyCard: true,
		},
	}
	cfg.Now = b.now
	if pl.sandbox != nil {
		pl.sandbox(&cfg)
	}
	var err error
	b.Server, err = upstream.New(cfg)
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Close()) })

	b.dir, err = os.MkdirTemp("/dev/shm", "gardu-answers-") //nolint:usetesting // keys of secrets live on tmpfs only
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(b.dir)) })
	ca := filepath.Join(b.dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, b.CA(), 0o600))
	slow := wire.Duration(patience)
	client, err := wire.New(wire.Options{CAFile: ca, DialTimeout: slow, TLSTimeout: slow, HeaderTimeout: slow, Timeout: slow})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))

	kek, err := newKEK("journal-kek")
	require.NoError(t, err)
	pinKEK, err := newKEK("journal-pin-kek")
	require.NoError(t, err)
	db, err := queue.Open(t.Context(), queue.Options{
		Path: filepath.Join(b.dir, "journal.db"), KeyDir: filepath.Join(b.dir, "keys"), KEK: kek, PINKEK: pinKEK, Kiosk: 12, Reserve: -1,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	keys := snap.Keys{Token: key, Secret: softMAC(clientKey), Vault: db}
	fc := snap.FinpayDefaults()
	fc.BaseURL, fc.ClientID, fc.ChannelID, fc.Origin, fc.MerchantID = "https://"+b.Addr(upstream.Finpay), "bank-branch-12", "95221", "www.bank.example", merchant
	fc.TokenJitter = 0
	if pl.finpay != nil {
		pl.finpay(&fc)
	}
	finpay, err := snap.NewFinpay(fc, keys, client, log, b.now)
	require.NoError(t, err)
	nc := snap.NetzmeDefaults()
	nc.BaseURL, nc.ClientID, nc.ChannelID = "https://"+b.Addr(upstream.Netzme), "TokoNetmeClientId", "95221"
	nc.TokenJitter = 0
	if pl.netzme != nil {
		pl.netzme(&nc)
	}
	netzme, err := snap.NewNetzme(nc, keys, client, log, b.now)
	require.NoError(t, err)
	raw, err := hex.DecodeString(envelope)
	require.NoError(t, err)
	block, err := aes.NewCipher(raw)
	require.NoError(t, err)
	pc := prepaid.Default()
	pc.BaseURL, pc.ClientID, pc.BankID, pc.Verification = "https://"+b.Addr(upstream.Prepaid), "2000", "7000", prepaid.VerifyByStaff
	pre, err := prepaid.New(pc, prepaid.Secrets{APIKey: secret.Clone([]byte("api-key")), SecureCode: secret.Clone([]byte("secure-code"))},
		blockCipher{block}, pl.pins, client, log)
	require.NoError(t, err)

	var offers []txn.Offer
	add := func(p txn.Provider, policies []txn.Policy) {
		for _, pol := range policies {
			// What takes minutes in a branch takes moments here.
			pol.Quiet, pol.ReadbackEvery = 400*time.Millisecond, 100*time.Millisecond
			if !pol.Readback {
				pol.Settle = 800 * time.Millisecond
			}
			if pl.policy != nil {
				pl.policy(&pol)
			}
			offers = append(offers, txn.Offer{Policy: pol, Provider: p})
		}
	}
	add(gatedFinpay{finpay, &b.looks}, snap.FinpayPolicies())
	add(gatedNetzme{netzme, &b.looks}, snap.NetzmePolicies())
	add(pre, pre.Policies())

	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	screen, err := ui.New(ui.Options{
		Listener: ln, Brand: "Bank Uji", PxPerMM: 4, Log: log, Staff: uitest.Staff{Code: staffCode, ID: "staff-7"},
		// Nothing here is cut off for being slow: the machine may be.
		Timeouts: ui.Timeouts{
			Screens: screenLimits(),
			Hello:   patience, Pong: patience, Write: patience, Call: patience, ScreenLost: patience,
		},
	})
	require.NoError(t, err)
	b.engine, err = txn.NewEngine(t.Context(), txn.Options{
		Store: db, Identity: db.Identity(), Offers: offers, Audit: silent{}, Log: log,
		Limits: txn.Limits{CustomerHour: 100, KioskHour: 100_000},
		Timing: txn.Timing{RetryBase: pl.retry, RetryMax: pl.retry, ReadBase: 50 * time.Millisecond, ReadMax: 100 * time.Millisecond, Hold: time.Hour, Call: patience},
		OnChange: func(r *txn.Request) {
			if b.doubted(r.ID) {
				_ = b.ends.pass(ctx) // ended by the end of the test
			}
			b.note(r)
			screen.RequestChanged(r)
		},
		OnLink: func(l txn.Link) {
			screen.LinkChanged(l)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.links[l.Provider] = l.Up
		},
		Clock: b.clock(),
	})
	require.NoError(t, err)
	screen.SetEngine(told{b.engine, b})

	var parts sync.WaitGroup
	parts.Go(func() {
		if err := b.engine.Run(ctx); err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	parts.Go(func() {
		if err := screen.Serve(ctx); err != nil {
			t.Errorf("screen: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		parts.Wait()
		if t.Failed() {
			t.Logf("what a booth logged besides calls:\n%s", b.log.warnings())
		}
	})
	// With every link known, the first request is not offered to wait.
	require.Eventually(t, func() bool {
		for _, l := range b.engine.Links() {
			if l.Provider != prepaid.Name && (!l.Up || !b.heard(l.Provider)) {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond)
	b.page, err = openPage(t.Context(), screen)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.page.ws.Close() })
	return b
}

// screenLimits leave every screen that a test looks at, or acts on, where it is.
func screenLimits() map[ui.State]time.Duration {
	limits := map[ui.State]time.Duration{ui.Goodbye: 10 * time.Millisecond}
	for _, s := range []ui.State{
		ui.Home, ui.Consent, ui.Ident, ui.Verify, ui.PIN, ui.PINAgain, ui.Review, ui.OfferQueue, ui.Submit, ui.Working,
		ui.Queued, ui.Pending, ui.BindQR, ui.OTP, ui.OTPBad, ui.OTPExpired, ui.OTPLocked, ui.Done, ui.Fail, ui.Expired, ui.Cancelled, ui.Unresolved,
	} {
		limits[s] = patience
	}
	return limits
}

func (b *booth) note(r *txn.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.latest[r.ID] == nil {
		b.begun = append(b.begun, r.ID)
	}
	b.latest[r.ID] = r
}

// now is the booth's time: platforms, providers and engine share it.
func (b *booth) now() time.Time { return time.Now().Add(time.Duration(b.passed.Load())) }

// clock is the same for the engine.
func (b *booth) clock() func() txn.Reading {
	machine := txn.MachineClock()
	return func() txn.Reading {
		r, by := machine(), time.Duration(b.passed.Load())
		r.Wall, r.Up = r.Wall.Add(by), r.Up+by
		return r
	}
}

// pass lets time go by.
func (b *booth) pass(d time.Duration) { b.passed.Add(int64(d)) }

// doubted reports whether the screen last heard of a request that its result is not
// known.
func (b *booth) doubted(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.latest[id]
	return r != nil && (r.State == txn.InDoubt || r.State == txn.Pending && r.Await == "")
}

// heard reports whether the screen was told that a link is up.
func (b *booth) heard(provider string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.links[provider]
}

// newest is the request that was accepted last.
func (b *booth) newest() *txn.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.begun) == 0 {
		return nil
	}
	return b.latest[b.begun[len(b.begun)-1]]
}

func (b *booth) accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.begun)
}

// home brings the screen back to where a customer begins.
func (b *booth) home(ctx context.Context) error {
	for {
		s, err := b.page.until(ctx, "a screen", func(s *showing) bool { return !s.Busy && s.State != ui.Goodbye && s.State != ui.Boot })
		if err != nil {
			return err
		}
		switch {
		case s.State == ui.Attract:
			return nil
		case s.can("finish"):
			_, err = b.page.do(ctx, "finish", nil)
		case s.can("stop"):
			_, err = b.page.do(ctx, "stop", nil)
		case s.can("decline"):
			_, err = b.page.do(ctx, "decline", nil)
		default:
			_, err = b.page.until(ctx, "the next screen", func(n *showing) bool { return n.Screen != s.Screen })
		}
		if err != nil {
			return err
		}
	}
}

// ask goes a customer's whole way to the confirmation of a request.
func (b *booth) ask(ctx context.Context, op txn.Operation, fields map[string]string) error {
	steps := []struct {
		name string
		args map[string]string
	}{
		{"start", nil}, {"choose", map[string]string{"operation": string(op)}}, {"agree", nil}, {"submit_fields", fields},
	}
	if op == txn.PrepaidResetPIN {
		steps = append(steps, []struct {
			name string
			args map[string]string
		}{
			{"staff_code", map[string]string{"code": staffCode}},
			{"submit_pin", map[string]string{"pin": b.pin}}, {"submit_pin", map[string]string{"pin": b.pin}},
		}...)
	}
	for _, s := range steps {
		if err := b.page.must(ctx, s.name, s.args); err != nil {
			return err
		}
	}
	return b.page.must(ctx, "confirm", nil)
}

var errNoRequest = errors.New("no request was made")
