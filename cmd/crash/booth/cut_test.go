package booth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/audit"
	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/txn"
)

// cutRig is engine, journal and providers as they are shipped, the sandbox, and
// between them one proxy for each platform.
type cutRig struct {
	t       *testing.T
	sandbox *upstream.Server
	proxies map[txn.Operation]*cutProxy
	engine  *txn.Engine
	n       int
}

func newCutRig(t *testing.T, ended bool) *cutRig {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	partner := upstream.SNAPConfig{Partners: []upstream.Partner{{
		ClientID: "client", ClientSecret: "secret", PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}}}
	r := &cutRig{t: t, proxies: map[txn.Operation]*cutProxy{}}
	const envelope = "0123456789abcdefghijklmn"
	r.sandbox, err = upstream.New(upstream.Config{
		Finpay:  &upstream.FinpayConfig{SNAPConfig: partner, MerchantID: "merchant", AnyCustomer: true, Page: "tls"},
		Netzme:  &upstream.NetzmeConfig{SNAPConfig: partner, AnyCustomer: true, TimeLeftMillis: 1},
		Prepaid: &upstream.PrepaidConfig{Key: envelope, KeyEncoding: "raw", APIKey: "api", ClientID: "2000", BankID: "7000", SecureCode: "code", AnyCard: true},
	})
	require.NoError(t, err)
	require.NoError(t, r.sandbox.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, r.sandbox.Close()) })

	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	trusted := r.sandbox.CA()
	var ending, trust *tls.Config
	if ended {
		cert, authority := proxyCertificate(t)
		ending = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(trusted))
		trust = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
		trusted = authority
	}
	require.NoError(t, os.WriteFile(ca, trusted, 0o600))
	finpay := newCutProxy(t, r.sandbox.Addr(upstream.Finpay), ending, trust)
	netzme := newCutProxy(t, r.sandbox.Addr(upstream.Netzme), ending, trust)
	cards := newCutProxy(t, r.sandbox.Addr(upstream.Prepaid), ending, trust)
	r.proxies[txn.FinpayResetPIN], r.proxies[txn.FinpayBind] = finpay, finpay
	r.proxies[txn.NetzmeForgotPIN], r.proxies[txn.PrepaidResetPIN] = netzme, cards

	sign, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	cfg := Config{
		Sign: sign, ClientID: "client", Finpay: finpay.addr, FinpaySecret: "secret", MerchantID: "merchant", Origin: "kiosk.example", ChannelID: "95221",
		Netzme: netzme.addr, NetzmeSecret: "secret", Prepaid: cards.addr, PrepaidClient: "2000", BankID: "7000", EnvelopeKey: []byte(envelope),
		APIKey: "api", SecureCode: "code", PINMax: 6, CAFile: ca, Call: 2 * time.Second, Quiet: 50 * time.Millisecond, Settle: 50 * time.Millisecond,
	}
	log := slog.New(slog.DiscardHandler)
	offers, err := cfg.offers(log)
	require.NoError(t, err)
	r.start(dir, offers, log, cfg.Call)
	return r
}

// start runs the engine. call is how long a call to a provider may take.
func (r *cutRig) start(dir string, offers []txn.Offer, log *slog.Logger, call time.Duration) {
	t := r.t
	keyDir, err := os.MkdirTemp("/dev/shm", "gardu-cut-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(keyDir)) })
	trail, err := audit.Open(t.Context(), audit.Options{Path: filepath.Join(dir, "audit.log"), Who: "agent", Log: log})
	require.NoError(t, err)
	main, err := newKEK("kek", NewKey(32))
	require.NoError(t, err)
	pins, err := newKEK("pin-kek", NewKey(32))
	require.NoError(t, err)
	db, err := queue.Open(t.Context(), queue.Options{
		Path: filepath.Join(dir, "journal.db"), KeyDir: keyDir, KEK: main, PINKEK: pins, Kiosk: 43, Reserve: 1 << 20, Log: log,
		Stamp: func() []byte { return trail.Head().Stamp() },
	})
	require.NoError(t, err)
	r.engine, err = txn.NewEngine(t.Context(), txn.Options{
		Store: db, Identity: db.Identity(), Offers: offers, Audit: recorder{trail}, Log: log,
		Limits: txn.Limits{CustomerHour: 1000, KioskHour: 1_000_000},
		Timing: txn.Timing{
			RetryBase: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond, ReadBase: 10 * time.Millisecond, ReadMax: 50 * time.Millisecond,
			Call: call, Probe: time.Hour, Drain: time.Second, Hold: time.Second,
		},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, db.Close())
		require.NoError(t, trail.Close())
	})
}

func proxyCertificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, upstream.MakeCerts(dir))
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	require.NoError(t, err)
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem")) //nolint:gosec // the test's own file
	require.NoError(t, err)
	return cert, ca
}

// ask makes a request of a customer of its own. All requests of one operation have
// the same length on the wire.
func (r *cutRig) ask(op txn.Operation) *txn.Request {
	r.n++
	n := txn.New{Key: fmt.Sprintf("key-%012d", r.n), Operation: op, VerifiedBy: "clerk"}
	switch op {
	case txn.PrepaidResetPIN:
		n.Fields = map[string]string{"urn": fmt.Sprintf("7%010d", r.n), "last4Digits": "1745", "customerId": fmt.Sprintf("IN%014d", r.n)}
		n.Secret = secret.Clone([]byte("938271"))
	case txn.NetzmeForgotPIN:
		n.Fields = map[string]string{"custIdMerchant": fmt.Sprintf("M_%08d", r.n)}
	default:
		n.Fields = map[string]string{"phoneNo": fmt.Sprintf("08%010d", r.n)}
	}
	q, err := r.engine.Accept(r.t.Context(), n)
	require.NoError(r.t, err)
	return q
}

// until waits for a request to be as it should.
func (r *cutRig) until(id string, is func(*txn.Request) bool) *txn.Request {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		q, err := r.engine.Get(r.t.Context(), id)
		require.NoError(r.t, err)
		if is(q) {
			return q
		}
		require.True(r.t, time.Now().Before(end), "still %s (%s) after %d attempts", q.State, q.Reason, len(q.Attempts))
	}
}

func tried(q *txn.Request) bool {
	return len(q.Attempts) > 0 && !q.Attempts[0].Ended.IsZero() && q.State != txn.Sending
}

func settled(q *txn.Request) bool {
	return !q.State.Open() || q.State == txn.Unresolved || q.Await != ""
}

// linked waits until the link is taken for up again, so that no probe meets the
// next case's cut.
func (r *cutRig) linked(op txn.Operation) {
	provider, _, _ := strings.Cut(string(op), ".")
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		for _, l := range r.engine.Links() {
			if l.Provider == provider && l.Known && l.Up {
				return
			}
		}
		require.True(r.t, time.Now().Before(end), "the link of %s never came back", provider)
	}
}

// sandboxBook is what the sandbox saw: whole requests and effects by operation and
// identity.
type sandboxBook struct{ whole, effects map[[2]string]int }

func (r *cutRig) book() sandboxBook {
	b := sandboxBook{map[[2]string]int{}, map[[2]string]int{}}
	for _, x := range r.sandbox.Ledger(upstream.LedgerFilter{}) {
		if x.Stage != upstream.StageBody && x.Stage != upstream.StageEffect && x.Stage != upstream.StageAnswered {
			continue
		}
		b.whole[[2]string{x.Operation, x.Reference}]++
		if x.ExternalID != "" && x.ExternalID != x.Reference {
			b.whole[[2]string{x.Operation, x.ExternalID}]++
		}
	}
	for _, e := range r.sandbox.Effects() {
		b.effects[[2]string{e.Operation, e.Identity}] += e.Count
	}
	return b
}

// places are the boundaries of a part's first and last hundred bytes.
func places(size int) []int {
	var all []int
	for n := range size + 1 {
		if n <= 100 || n >= size-100 {
			all = append(all, n)
		}
	}
	return all
}

// TestTheLineIsCutAnywhere cuts the exchange with each platform before, in and after
// each of its phases, once as ciphertext and once by bytes of HTTP. Whatever the cut:
// "not sent" is said only where the platform read nothing whole, nothing takes
// effect twice, and the request ends as what is known of it.
func TestTheLineIsCutAnywhere(t *testing.T) {
	for _, ended := range []bool{false, true} {
		name := map[bool]string{false: "ciphertext", true: "HTTP"}[ended]
		for _, op := range []txn.Operation{txn.FinpayResetPIN, txn.NetzmeForgotPIN, txn.PrepaidResetPIN, txn.FinpayBind} {
			t.Run(name+"/"+string(op), func(t *testing.T) {
				t.Parallel()
				r := newCutRig(t, ended)
				r.cutEverywhere(op, ended)
			})
		}
	}
}

func (r *cutRig) cutEverywhere(op txn.Operation, ended bool) {
	t := r.t
	p := r.proxies[op]
	// The first request also fetches the access token; the second is like those to come.
	for range 2 {
		r.linked(op)
		p.arm(cut{})
		r.until(r.ask(op).ID, settled)
	}
	sizes := map[where]int{inHello: p.size(inHello), inGreeting: p.size(inGreeting), inRequest: p.size(inRequest), inAnswer: p.size(inAnswer)}
	require.Greater(t, sizes[inRequest], 200)
	require.Greater(t, sizes[inAnswer], 100)

	cases := []cut{{at: atRefusal}, {at: atConnect}, {at: atConnect, reset: true}, {at: atSilence}}
	parts := []where{inRequest, inAnswer}
	if !ended {
		cases = append(cases, cut{at: atNoHello})
		parts = []where{inHello, inGreeting, inRequest, inAnswer}
	}
	for _, at := range parts {
		for i, n := range places(sizes[at]) {
			// Every byte of the request; of the rest, and where an inquiry goes before the
			// call and others after it, a sample that has both ends.
			last := sizes[at] - n
			if (at != inRequest && n%9 != 0 && last > 1) || (op == txn.FinpayBind && n%25 != 0 && last > 1) {
				continue
			}
			cases = append(cases, cut{at: at, n: n, reset: i%2 == 1})
		}
	}
	var all []trial
	slow := 0
	for n := 0; n < len(cases); n++ {
		c := cases[n]
		r.linked(op)
		p.arm(c)
		q := r.until(r.ask(op).ID, tried)
		if op != txn.FinpayBind && c.late() {
			// On a machine with other work the agent's time may be up before the exchange
			// comes to the cut, and before its first byte leaves too: that is no trial.
			began, met := p.wait()
			if first := q.Attempts[0].Outcome; !began && first == txn.NotSent || !met && first == txn.Unknown {
				p.mend()
				r.until(q.ID, settled)
				slow++
				require.Less(t, slow, 100)
				n--
				continue
			}
		}
		p.mend()
		one := trial{c, sizes[c.at], q.ID, q.Attempts[0].Outcome}
		all = append(all, one)
		if one.first != txn.Unknown || op == txn.FinpayBind {
			r.until(q.ID, settled) // else nothing is sent for it any more, and the next need not wait
		}
	}
	ends := make([]*txn.Request, len(all))
	for i, one := range all {
		ends[i] = r.until(one.id, settled)
	}
	book := r.book()
	seen := map[string]int{}
	for i, one := range all {
		seen[fmt.Sprintf("%s: %s, %s", one.cut.at, one.first, ends[i].State)]++
		book.judge(t, one, ends[i])
	}
	require.Empty(t, r.sandbox.Violations())
	for _, line := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%4d %s", seen[line], line)
	}
}

// late reports whether the request has begun to leave when the cut comes.
func (c cut) late() bool { return c.at == inRequest || c.at == inAnswer || c.at == atSilence }

// trial is one cut and what the first attempt came to.
type trial struct {
	cut   cut
	size  int // of the part that was cut, when it passes whole
	id    string
	first txn.Outcome
}

// judge holds one request against what the sandbox saw of it.
func (b sandboxBook) judge(t *testing.T, one trial, q *txn.Request) {
	t.Helper()
	c, first, operation := one.cut, one.first, string(q.Operation)
	effects, whole := 0, 0
	for i, a := range q.Attempts {
		id := [2]string{operation, a.ExternalID}
		if q.Operation == txn.PrepaidResetPIN {
			id[1] = q.Reference
			if i > 0 {
				break // one id for all of its attempts
			}
		}
		whole += b.whole[id]
		if a.Outcome == txn.NotSent && q.Operation != txn.PrepaidResetPIN {
			require.Zero(t, b.whole[id], "%+v: called not sent, and the platform read it whole", c)
		}
		effects += b.effects[id]
	}
	if q.Operation == txn.FinpayResetPIN || q.Operation == txn.NetzmeForgotPIN {
		effects = b.effects[[2]string{operation, q.Reference}]
	}
	sent := len(slices.DeleteFunc(slices.Clone(q.Attempts), func(a txn.Attempt) bool { return a.Outcome == txn.NotSent }))
	require.LessOrEqual(t, whole, sent, "%+v: more arrived than may have been sent", c)
	require.LessOrEqual(t, effects, 1, "%+v: a second effect", c)
	if q.State == txn.Succeeded {
		require.Equal(t, 1, effects, "%+v", c)
	}
	if q.State == txn.Rejected || q.State == txn.Cancelled {
		require.Zero(t, effects, "%+v: said to be without effect", c)
	}
	switch c.at {
	case atRefusal, atConnect, atNoHello:
		if q.Operation == txn.FinpayBind {
			return // the cut may have met the inquiry that goes before it
		}
		require.Equal(t, txn.NotSent, first, "%+v", c)
		require.Equal(t, 1, effects, "%+v: it was safe to try again", c)
	case inHello, inGreeting:
		// What the platform did not get is not for the agent to see once its own part of
		// the handshake is done: from there on it is careful.
	case inRequest, inAnswer, atSilence:
		if q.Operation == txn.FinpayBind {
			return // likewise
		}
		require.NotEqual(t, txn.NotSent, first, "%+v: a byte of it may have left", c)
		require.Equal(t, 1, sent, "%+v: sent again", c)
		if c.at == inRequest && c.n < one.size {
			require.Zero(t, whole, "%+v: the platform read whole what was cut", c)
			return
		}
		require.Equal(t, 1, whole, "%+v", c)
		require.Equal(t, 1, effects, "%+v", c)
	}
}
