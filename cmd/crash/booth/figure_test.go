package booth

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/audit"
	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

func figure(t *testing.T) {
	t.Helper()
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
}

// The backlog that drain measures: so many requests of so many customers.
const (
	drained   = 10_000
	customers = 1000
	inFlight  = 32
)

// TestMain also is the token worker of the figures' keystore.
func TestMain(m *testing.M) { softhsmtest.Main(m) }

// TestFigureDrain sends 10,000 requests of 1,000 customers that wait in the journal
// through TLS to the sandbox, and by turns has a bare loop sign and send as many
// with the same concurrency, the same code and the same token, without a journal.
//
// Over loopback, to a platform that answers at once, everything is work of the same two
// processors, so the ratio says how much of a call's work is the journal's: with RSA
// signatures, as a provider may demand, about a quarter; with HMAC, which costs next
// to nothing, more than half. Over a link with a delay, as every real one, calls wait
// while the journal writes; a delay of 20 ms is a short one.
func TestFigureDrain(t *testing.T) {
	figure(t)
	for _, c := range []struct {
		name, mode string
		delay      time.Duration // of the platform
		least      float64       // the promise, where there is one
	}{
		{"drain_10k", snap.Asymmetric, 0, 0.70},
		{"drain_10k_hmac", snap.Symmetric, 0, 0},
		{"drain_10k_hmac_20ms", snap.Symmetric, 20 * time.Millisecond, 0.70},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlatform(t, c.mode)
			if c.delay > 0 {
				_, err := p.server.Inject(upstream.Fault{
					Provider: upstream.Finpay, Kind: upstream.KindSlow, DelayMS: int(c.delay / time.Millisecond), Effect: new(true),
				})
				require.NoError(t, err)
			}
			var ours, reference []float64
			for i := range 5 {
				sides := []func(){
					func() { ours = append(ours, p.drain(t)) },
					func() { reference = append(reference, p.loop(t)) },
				}
				if i%2 == 1 {
					slices.Reverse(sides)
				}
				for _, side := range sides {
					side()
				}
			}
			require.Empty(t, p.server.Violations())
			require.Equal(t, 2*5*drained, p.server.EffectCount(string(txn.FinpayResetPIN), ""), "each request had its effect, once")
			ratio := medianRatio(ours, reference)
			fmt.Printf("BENCH %s ratio=%.2f ours=%.0f requests/s reference=%.0f requests/s\n", c.name, ratio, median(ours), median(reference))
			require.GreaterOrEqual(t, ratio, c.least)
		})
	}
}

// platform is Finpay, played in this process, and what speaks with it.
type platform struct {
	server   *upstream.Server
	policy   txn.Policy
	provider txn.Provider
	sent     atomic.Int64 // by the bare loop
}

func newPlatform(t *testing.T, mode string) *platform {
	t.Helper()
	store := softhsmtest.New(t).Open(t)
	key, err := store.Generate(t.Context(), keystore.NewKey{Label: "sign", Kind: keystore.KindRSA2048})
	require.NoError(t, err)
	sign, err := store.Signer(key.URI())
	require.NoError(t, err)
	public, err := sign.PublicKey(t.Context())
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	const text = "a client secret of thirty-two by"
	imported, err := store.Import(t.Context(), keystore.NewKey{Label: "secret", Kind: keystore.KindHMAC}, secret.Clone([]byte(text)))
	require.NoError(t, err)
	mac, err := store.MAC(imported.URI())
	require.NoError(t, err)

	server, err := upstream.New(upstream.Config{Finpay: &upstream.FinpayConfig{
		SNAPConfig: upstream.SNAPConfig{Partners: []upstream.Partner{{
			ClientID: "client", ClientSecret: text, Mode: mode,
			PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		}}},
		MerchantID: "merchant", AnyCustomer: true,
	}})
	require.NoError(t, err)
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, server.CA(), 0o600))
	client, err := wire.New(wire.Options{CAFile: ca})
	require.NoError(t, err)
	t.Cleanup(client.Close)

	cfg := snap.FinpayDefaults()
	cfg.BaseURL, cfg.ClientID, cfg.ChannelID, cfg.Origin, cfg.MerchantID = "https://"+server.Addr(upstream.Finpay), "client", "95221", "kiosk.example", "merchant"
	cfg.Mode = mode
	keys := snap.Keys{Token: sign, Secret: mac}
	if mode == snap.Asymmetric {
		keys = snap.Keys{Token: sign, Transaction: sign}
	}
	f, err := snap.NewFinpay(cfg, keys, client, slog.New(slog.DiscardHandler), time.Now)
	require.NoError(t, err)
	policies := snap.FinpayPolicies()
	i := slices.IndexFunc(policies, func(p txn.Policy) bool { return p.Operation == txn.FinpayResetPIN })
	return &platform{server: server, policy: policies[i], provider: f}
}

// alias is one provider's operation under several names: the index allows each
// customer one open request of a name, and ten of each are to wait.
type alias struct{ txn.Provider }

func (a alias) Submit(ctx context.Context, c txn.Call) txn.Answer {
	c.Request.Operation = txn.FinpayResetPIN
	return a.Provider.Submit(ctx, c)
}

// offers are ten operations that are all the same to Finpay.
func (p *platform) offers() (out []txn.Offer) {
	for n := range drained / customers {
		o := txn.Offer{Policy: p.policy, Provider: alias{p.provider}}
		o.Policy.Operation = txn.Operation(fmt.Sprintf("figure.%d", n))
		out = append(out, o)
	}
	return out
}

// drain returns how many requests a second go out of a journal.
func (p *platform) drain(t *testing.T) float64 {
	t.Helper()
	offers := p.offers()
	k := newKiosk(t, offers, nil)
	fill(t, drained, func(i int) *txn.Request {
		return waiting(k.db, &offers[i/customers].Policy, i, fmt.Sprintf("0812%08d", i%customers))
	}, k.db)
	var done atomic.Int64
	all := make(chan struct{})
	k.start(t, func(r *txn.Request) {
		if r.State == txn.Succeeded && done.Add(1) == drained {
			close(all)
		}
	})
	began := time.Now()
	stop := k.run(t)
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		require.Fail(t, "not drained", "%d of %d", done.Load(), drained)
	}
	took := time.Since(began)
	stop()
	return drained / took.Seconds()
}

// loop returns how many requests a second are signed and sent without a journal.
func (p *platform) loop(t *testing.T) float64 {
	t.Helper()
	offers := p.offers()
	var next atomic.Int64
	errs := make([]error, inFlight)
	began := time.Now()
	var work sync.WaitGroup
	for w := range inFlight {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < drained; i = int(next.Add(1)) - 1 {
				r := &txn.Request{
					ID: rand.Text(), Operation: txn.FinpayResetPIN, Fields: map[string]string{"phoneNo": fmt.Sprintf("0812%08d", i%customers)},
					Reference: fmt.Sprintf("%032d", p.sent.Add(1)), Step: 1,
				}
				a := offers[0].Provider.Submit(t.Context(), txn.Call{Request: r, Attempt: txn.Attempt{Step: 1, ExternalID: r.Reference, Began: time.Now()}})
				if a.Outcome != txn.HasSucceeded {
					errs[w] = fmt.Errorf("%s %s %s", a.Outcome, a.Reason, a.Code)
					return
				}
			}
		})
	}
	work.Wait()
	took := time.Since(began)
	require.NoError(t, errors.Join(errs...))
	return drained / took.Seconds()
}

// kiosk is a journal with an engine before it.
type kiosk struct {
	db    *queue.DB
	trail *audit.Trail
	eng   *txn.Engine
	opt   txn.Options
}

func newKiosk(t *testing.T, offers []txn.Offer, clock func() txn.Reading) *kiosk {
	t.Helper()
	dir := diskDir(t)
	keyDir, err := os.MkdirTemp("/dev/shm", "gardu-figure-") //nolint:usetesting // the journal insists on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(keyDir)) })
	kek, err := newKEK("kek", NewKey(32))
	require.NoError(t, err)
	pins, err := newKEK("pin-kek", NewKey(32))
	require.NoError(t, err)
	trail, err := audit.Open(t.Context(), audit.Options{Path: filepath.Join(dir, "audit.log"), Who: "agent"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, trail.Close()) })
	db, err := queue.Open(t.Context(), queue.Options{
		Path: filepath.Join(dir, "journal.db"), KeyDir: keyDir, KEK: kek, PINKEK: pins, Kiosk: 43,
		MaxItems: 2_000_000, MaxBytes: 2 << 30,
		Stamp: func() []byte { return trail.Head().Stamp() },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &kiosk{db: db, trail: trail, opt: txn.Options{
		Store: db, Identity: db.Identity(), Offers: offers, Audit: recorder{trail}, Log: slog.New(slog.DiscardHandler),
		Limits: txn.Limits{CustomerHour: 1 << 30, KioskHour: 1 << 30, InFlight: inFlight}, Clock: clock,
	}}
}

// start reads the journal.
func (k *kiosk) start(t *testing.T, changed func(*txn.Request)) {
	t.Helper()
	k.opt.OnChange = changed
	var err error
	k.eng, err = txn.NewEngine(t.Context(), k.opt)
	require.NoError(t, err)
}

// run serves until the returned function is called.
func (k *kiosk) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.eng.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// waiting is a request of which nothing was sent.
func waiting(db *queue.DB, p *txn.Policy, i int, phone string) *txn.Request {
	at := txn.MachineClock()()
	fields := map[string]string{"phoneNo": phone}
	return &txn.Request{
		ID: rand.Text(), Key: rand.Text(), Content: fmt.Sprintf("%064x", i), Operation: p.Operation,
		Customer: p.Customer(fields), Fields: fields, Reference: db.Identity().ExternalID(uint64(i) + 1), //nolint:gosec // G115: small
		Created: at.Wall, Expires: at.Wall.Add(p.Wait), State: txn.Queued, Step: 1, NotBefore: at.Wall, At: at,
	}
}

// fill puts n requests into a journal, past the engine.
func fill(t *testing.T, n int, nth func(int) *txn.Request, db *queue.DB) {
	t.Helper()
	const producers = 64
	errs := [producers]error{}
	var next atomic.Int64
	var work sync.WaitGroup
	for w := range producers {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = db.Add(t.Context(), nth(i), nil)
			}
		})
	}
	work.Wait()
	require.NoError(t, errors.Join(errs[:]...))
}

// TestFigureAcceptAtBacklog compares accepting requests where 100,000 wait with
// accepting them where none does.
func TestFigureAcceptAtBacklog(t *testing.T) {
	figure(t)
	const backlog = 100_000
	offers := newPlatform(t, snap.Symmetric).offers()
	empty, full := newKiosk(t, offers, nil), newKiosk(t, offers, nil)
	fill(t, backlog, func(i int) *txn.Request { return waiting(full.db, &offers[0].Policy, i, fmt.Sprintf("0813%08d", i)) }, full.db)
	empty.start(t, nil)
	full.start(t, nil)
	var n atomic.Int64
	accept := func(k *kiosk) func() error {
		return func() error {
			_, err := k.eng.Accept(t.Context(), txn.New{
				Key: rand.Text(), Operation: offers[0].Policy.Operation, Fields: map[string]string{"phoneNo": fmt.Sprintf("0814%08d", n.Add(1))},
			})
			return err
		}
	}
	for _, producers := range []int{1, 8} {
		var ours, reference []float64
		for i := range 21 {
			sides := []func(){
				func() { ours = append(ours, perSecond(t, producers, accept(full))) },
				func() { reference = append(reference, perSecond(t, producers, accept(empty))) },
			}
			if i%2 == 1 {
				slices.Reverse(sides)
			}
			for _, side := range sides {
				side()
			}
		}
		require.GreaterOrEqual(t, full.db.Stats().Items, backlog)
		ratio := medianRatio(ours, reference)
		name := "accept_at_100k_backlog"
		if producers > 1 {
			name = fmt.Sprintf("%s_%d", name, producers)
		}
		fmt.Printf("BENCH %s ratio=%.2f ours=%.0f requests/s reference=%.0f requests/s\n", name, ratio, median(ours), median(reference))
		require.GreaterOrEqual(t, ratio, 0.85)
	}
}

// instant says yes to everything at once.
type instant struct{}

func (instant) Submit(context.Context, txn.Call) txn.Answer {
	return txn.Answer{Outcome: txn.HasSucceeded}
}

// TestFigureSizeAfterMillion lets 1,000,000 requests come, be carried out and go
// after their time, by a clock that is put forward, and looks at the file.
func TestFigureSizeAfterMillion(t *testing.T) {
	figure(t)
	const (
		total = 1_000_000
		wave  = 20_000
		most  = 16 << 20
	)
	offers := newPlatform(t, snap.Symmetric).offers()[:1]
	offers[0].Provider = instant{}
	var ahead atomic.Int64
	machine := txn.MachineClock()
	k := newKiosk(t, offers, func() txn.Reading {
		r := machine()
		r.Wall, r.Up = r.Wall.Add(time.Duration(ahead.Load())), r.Up+time.Duration(ahead.Load())
		return r
	})
	k.opt.Limits.InFlight = 256
	done := make(chan struct{}, wave)
	k.start(t, func(r *txn.Request) {
		if r.State == txn.Succeeded {
			done <- struct{}{}
		}
	})
	stop := k.run(t)
	largest := int64(0)
	for from := 0; from < total; from += wave {
		var next atomic.Int64
		var work sync.WaitGroup
		errs := [256]error{}
		for w := range errs {
			work.Go(func() {
				for i := int(next.Add(1)) - 1; i < wave && errs[w] == nil; i = int(next.Add(1)) - 1 {
					_, errs[w] = k.eng.Accept(t.Context(), txn.New{
						Key: rand.Text(), Operation: offers[0].Policy.Operation, Fields: map[string]string{"phoneNo": fmt.Sprintf("08%010d", from+i)},
					})
				}
			})
		}
		work.Wait()
		require.NoError(t, errors.Join(errs[:]...))
		for range wave {
			select {
			case <-done:
			case <-time.After(time.Minute):
				require.Fail(t, "not carried out")
			}
		}
		largest = max(largest, fileSize(t, k.db))
		ahead.Add(int64(49 * time.Hour))
	}
	// One more, so that the engine looks at the clock; then the journal needs some
	// quiet to compact itself.
	_, err := k.eng.Accept(t.Context(), txn.New{Key: rand.Text(), Operation: offers[0].Policy.Operation, Fields: map[string]string{"phoneNo": "089999999999"}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return k.db.Stats().Items < 100 && fileSize(t, k.db) <= most
	}, 2*time.Minute, time.Second, "%+v", k.db.Stats())
	size := fileSize(t, k.db)
	stop()
	fmt.Printf("BENCH journal_size_after_1m ratio=%.2f ours=%.1f MiB reference=%.1f MiB largest=%.1f MiB\n",
		float64(size)/most, float64(size)/(1<<20), float64(most)/(1<<20), float64(largest)/(1<<20))
	require.LessOrEqual(t, size, int64(most))
}

func fileSize(t *testing.T, db *queue.DB) int64 {
	t.Helper()
	return db.Stats().FileBytes
}

// diskDir returns a folder for the test that is not kept in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	return t.TempDir()
}

const figureTurn = 300 * time.Millisecond

// perSecond has producers do op until a turn is over.
func perSecond(t *testing.T, producers int, op func() error) float64 {
	t.Helper()
	done, errs := make([]int, producers), make([]error, producers)
	began := time.Now()
	var work sync.WaitGroup
	for i := range producers {
		work.Go(func() {
			for errs[i] == nil && time.Since(began) < figureTurn {
				if errs[i] = op(); errs[i] == nil {
					done[i]++
				}
			}
		})
	}
	work.Wait()
	took := time.Since(began)
	require.NoError(t, errors.Join(errs...))
	n := 0
	for _, d := range done {
		n += d
	}
	return float64(n) / took.Seconds()
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}

// medianRatio is the median of the rounds' own ratios.
func medianRatio(ours, reference []float64) float64 {
	all := make([]float64, len(ours))
	for i := range ours {
		all[i] = ours[i] / reference[i]
	}
	return median(all)
}
