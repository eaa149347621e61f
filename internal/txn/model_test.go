package txn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// model drives one engine with everything that can happen to it and keeps a plain
// account of what was promised to whom.
type model struct {
	t     *testing.T
	dice  *dice
	vault *vault
	world *world
	clock *testClock
	opts  txn.Options

	engine *txn.Engine
	stop   context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	bad      []string
	gentle   bool // nothing goes wrong any more
	promised map[string]*txn.Request
	asked    map[string][]time.Time // customer → accepted when
	told     map[string]txn.State   // id → state last told, in this run
	sends    map[string]int         // external id → audit records
	keys     int
	steps    int
}

const (
	customerHour = 8
	kioskHour    = 60
	inFlight     = 3
)

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, clock: newTestClock(), dice: &dice{r: rand.New(rand.NewPCG(seed, 7))}, //nolint:gosec // a repeatable test wants weak randomness
		promised: map[string]*txn.Request{}, asked: map[string][]time.Time{}, told: map[string]txn.State{}, sends: map[string]int{},
	}
	m.vault = newVault(m.dice, m.fail)
	m.world = newWorld(m.dice, m.vault, m.fail)
	m.world.kind = func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.gentle }
	m.opts = txn.Options{
		Store: m.vault, Identity: txn.Identity{Kiosk: 42, Salt: 7}, Log: slog.New(slog.DiscardHandler), Audit: m,
		Limits:   txn.Limits{CustomerHour: customerHour, KioskHour: kioskHour, InFlight: inFlight},
		Timing:   txn.Timing{LinkStagger: 3 * time.Second, Probe: 10 * time.Minute},
		OnChange: m.changed, Clock: m.clock.read,
	}
	for _, p := range policies() {
		if p.Operation == txn.PrepaidResetPIN {
			p.HoldOffline = seed%2 == 0
		}
		m.opts.Offers = append(m.opts.Offers, txn.Offer{Policy: p, Provider: at{m.world, p.Provider}})
	}
	return m
}

func (m *model) fail(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = append(m.bad, fmt.Sprintf("step %d: ", m.steps)+fmt.Sprintf(format, args...))
}

// Record implements txn.Recorder.
func (m *model) Record(_ context.Context, act string, r *txn.Request, a *txn.Attempt, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gentle && m.dice.in(200) {
		return errors.New("the audit record's disk is full")
	}
	if act == txn.ActSend {
		m.sends[a.ExternalID]++
	}
	return nil
}

// changed is what the screen hears. It must be on disk already.
func (m *model) changed(r *txn.Request) {
	disk := m.vault.peek(r.Seq)
	if disk == nil || disk.State != r.State || disk.Step != r.Step || disk.Await != r.Await || len(disk.Attempts) != len(r.Attempts) {
		m.fail("%s is told to be %s, which is not on disk", r.ID, r.State)
	}
	m.world.truth(r)
	if r.State == txn.Pending && r.Await == txn.AwaitLink {
		m.world.shown(r)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if was, ok := m.told[r.ID]; ok && was.Final() && was != r.State {
		m.bad = append(m.bad, fmt.Sprintf("%s was told to be %s and now %s", r.ID, was, r.State))
	}
	m.told[r.ID] = r.State
}

func (m *model) start() {
	for {
		ctx, cancel := context.WithCancel(m.t.Context())
		e, err := txn.NewEngine(ctx, m.opts)
		if err == nil {
			m.engine, m.stop, m.done = e, cancel, make(chan struct{})
			m.mu.Lock()
			clear(m.told)
			m.mu.Unlock()
			go func() { defer close(m.done); _ = e.Run(ctx) }()
			return
		}
		cancel()
		if m.vault.dead {
			m.vault.calm()
		}
		time.Sleep(time.Second)
	}
}

func (m *model) halt() {
	m.stop()
	<-m.done
	if n := m.engine.SecretsHeld(); n > 0 {
		m.fail("a stopped engine holds %d secrets", n)
	}
}

// crash is a power cut (or a kill) that has happened at some operation of the
// journal: nothing after it is on disk.
func (m *model) crash() {
	m.halt()
	m.world.forgetWishes()
	trouble := m.vault.trouble
	m.vault.calm()
	if m.dice.in(2) {
		m.vault.mu.Lock()
		clear(m.vault.secrets) // with the power goes what was on tmpfs
		m.vault.mu.Unlock()
	}
	m.vault.trouble = trouble
	if m.dice.in(2) {
		m.time()
		m.clock.reboot(m.clock.right() && m.dice.in(2))
	}
	m.opts.Behind = m.dice.in(10) // or the journal was put back from a copy
	m.start()
	m.opts.Behind = false
}

// time has somebody set the wall clock. It is kept by a time service only while it
// is right.
func (m *model) time() {
	m.clock.keep(false)
	m.clock.set([]int{1970, 2040, 0, 0, 0}[m.dice.n(5)])
	if m.clock.right() {
		m.clock.keep(m.dice.in(2))
	}
}

var operations = []txn.Operation{txn.FinpayResetPIN, txn.FinpayBind, txn.FinpayUnbind, txn.PrepaidResetPIN}

func (m *model) ask() txn.New {
	op := operations[m.dice.n(len(operations))]
	who := fmt.Sprintf("08120000000%d", m.dice.n(5))
	m.mu.Lock()
	m.keys++
	key := m.keys
	m.mu.Unlock()
	if m.dice.in(10) {
		key = max(1, key-m.dice.n(30)) // one that was used before
	}
	n := ask(op, strconv.Itoa(key), who)
	if op == txn.PrepaidResetPIN {
		n.Fields = map[string]string{"urn": who[5:]}
		n.Secret = secret.Clone([]byte(strconv.Itoa(100000 + key)))
	}
	return n
}

func (m *model) accept() {
	n := m.ask()
	began := time.Now()
	r, err := m.engine.Accept(m.t.Context(), n)
	var open *txn.OpenError
	var cool *txn.CooldownError
	var limit *txn.LimitError
	switch {
	case err == nil:
	case errors.As(err, &open), errors.As(err, &cool), errors.As(err, &limit),
		errors.Is(err, txn.ErrOffline), errors.Is(err, txn.ErrKeyConflict), errors.Is(err, txn.ErrStoreUnknown), errors.Is(err, txn.ErrNotStored),
		errors.Is(err, errPower), errors.Is(err, errClosed), errors.Is(err, errDisk):
		return
	default:
		m.fail("accept: %v", err)
		return
	}
	if r.Key != n.Key || r.Operation != n.Operation {
		m.fail("another request comes back for key %s", n.Key)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vault.mu.Lock()
	born := m.vault.born[r.ID]
	m.vault.mu.Unlock()
	if _, again := m.promised[r.ID]; !again && !born.Before(began) {
		m.asked[r.Customer] = append(m.asked[r.Customer], born)
	}
	m.promised[r.ID] = r
}

// any picks one of the newer promises.
func (m *model) any() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.dice.n(20)
	id := ""
	for k := range m.promised { // in no order, which is as good as any
		id = k
		if n--; n < 0 {
			break
		}
	}
	return id
}

func (m *model) supply() {
	for _, r := range m.vault.stillOpen() {
		if r.State == txn.Pending && r.Await == txn.AwaitOTP && m.dice.in(2) {
			_, err := m.engine.Supply(m.t.Context(), r.ID, secret.Clone([]byte("123456")))
			if err != nil && !errors.Is(err, txn.ErrTooLate) && !troubled(err) {
				m.fail("supply: %v", err)
			}
		}
	}
}

func troubled(err error) bool {
	return errors.Is(err, errPower) || errors.Is(err, errClosed) || errors.Is(err, errDisk) || errors.Is(err, txn.ErrStoreUnknown) || errors.Is(err, txn.ErrNotFound)
}

func (m *model) cancel() {
	r, err := m.engine.Cancel(m.t.Context(), m.any(), txn.ReasonByCustomer)
	switch {
	case err == nil && r.State != txn.Cancelled:
		m.fail("cancelled and yet %s", r.State)
	case err != nil && !errors.Is(err, txn.ErrTooLate) && !troubled(err):
		m.fail("cancel: %v", err)
	}
}

// act does one thing.
func (m *model) act() {
	switch n := m.dice.n(100); {
	case n < 45:
		m.accept()
	case n < 60:
		m.supply()
	case n < 75:
		m.cancel()
	case n < 80:
		q := m.ask()
		_ = m.engine.Preview(m.t.Context(), q.Operation, q.Fields)
	case n == 80:
		m.time()
	case n < 85:
		_, _ = m.engine.Get(m.t.Context(), m.any())
	case n < 95:
		m.world.mu.Lock()
		m.world.down = m.dice.in(3)
		m.world.mu.Unlock()
	default:
		m.vault.mu.Lock()
		m.vault.trouble = []int{0, 0, 5, 20, 100}[m.dice.n(5)]
		m.vault.mu.Unlock()
	}
}

func (m *model) step() {
	m.mu.Lock()
	m.steps++
	m.mu.Unlock()
	if m.dice.in(5) {
		var at sync.WaitGroup
		for range 2 + m.dice.n(3) {
			at.Go(m.act)
		}
		at.Wait()
	} else {
		m.act()
	}
	switch n := m.dice.n(1000); {
	case n < 4:
		m.vault.mu.Lock()
		m.vault.power = 1 + m.dice.n(40)
		m.vault.mu.Unlock()
	case n < 7:
		m.halt() // an orderly restart
		m.world.forgetWishes()
		m.start()
	case n < 10:
		time.Sleep(m.dice.upTo(5 * time.Hour))
	case n < 50:
		time.Sleep(m.dice.upTo(10 * time.Minute))
	case n < 500:
		time.Sleep(m.dice.upTo(20 * time.Second))
	}
	m.vault.mu.Lock()
	dead := m.vault.dead
	m.vault.mu.Unlock()
	if dead {
		m.crash()
	}
}

// settled lets everything go well for as long as anything may take, and looks.
func (m *model) settled() {
	m.mu.Lock()
	m.gentle = true
	m.mu.Unlock()
	m.vault.calm()
	m.world.mu.Lock()
	m.world.down = false
	m.world.mu.Unlock()
	time.Sleep(26 * time.Hour)
	synctest.Wait()
	m.world.wiped()
	for _, r := range m.vault.all() {
		if r.State.Open() {
			m.fail("%s is still %s after a day in which all went well: %+v", r.ID, r.State, r)
		}
		m.mu.Lock()
		told, ok := m.told[r.ID]
		m.mu.Unlock()
		if ok && told != r.State {
			m.fail("%s was told to be %s and is %s", r.ID, told, r.State)
		}
		m.world.truth(r)
	}
	if n := len(m.vault.secrets) + m.engine.SecretsHeld(); n > 0 {
		m.fail("%d secrets are left", n)
	}
	m.kept()
	m.limits()
	for range 20 {
		q := m.ask()
		var cool *txn.CooldownError
		if err := m.engine.Preview(m.t.Context(), q.Operation, q.Fields); errors.As(err, &cool) {
			m.fail("a cooldown of an hour at most goes on after a day: %v", err)
		}
	}
	time.Sleep(50 * time.Hour)
	synctest.Wait()
	for _, r := range m.vault.all() {
		if r.State != txn.Unresolved {
			m.fail("%s is %s and still there after its time", r.ID, r.State)
		}
	}
	m.mu.Lock()
	m.gentle = false
	clear(m.promised)
	clear(m.asked)
	m.mu.Unlock()
}

// kept holds the promises against the disk: nothing that was accepted is lost.
func (m *model) kept() {
	there := map[string]bool{}
	for _, r := range m.vault.all() {
		there[r.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.promised {
		if !there[id] && time.Since(m.vault.born[id]) < 48*time.Hour {
			m.bad = append(m.bad, id+" was accepted and is gone")
		}
	}
}

func (m *model) limits() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for who, list := range m.asked {
		for i := range list {
			if j := i + customerHour; j < len(list) && list[j].Sub(list[i]) < time.Hour {
				m.bad = append(m.bad, fmt.Sprintf("%s was let in %d times within an hour", who, customerHour+1))
			}
		}
	}
}

func (m *model) run(steps int) {
	m.start()
	for i := range steps {
		m.step()
		if i%50 == 49 {
			m.world.wiped()
		}
		m.mu.Lock()
		n := len(m.bad)
		m.mu.Unlock()
		if n > 0 {
			break
		}
		if i%1500 == 1499 {
			m.settled()
		}
	}
	m.settled()
	m.halt()
}

func cpu(t *testing.T) time.Duration {
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}

func TestAnythingInAnyOrder(t *testing.T) {
	seeds, steps := 40, 2750
	if raceDetector {
		seeds, steps = 8, 1500
	}
	first := uint64(20260504)
	if s := os.Getenv("GARDU_SEED"); s != "" {
		var err error
		first, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		seeds = 1
	}
	if s := os.Getenv("GARDU_SEEDS"); s != "" {
		var err error
		seeds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	began := cpu(t)
	var total, calls, reads int
	for seed := first; seed < first+uint64(seeds); seed++ { //nolint:gosec // a small number
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, seed)
			m.run(steps)
			total += m.steps
			calls += m.world.calls
			reads += m.world.reads
			if len(m.bad) > 0 {
				first := strings.Join(m.bad[:min(5, len(m.bad))], "\n")
				t.Fatalf("GARDU_SEED=%d: %d findings, first:\n%s\n\n%s", seed, len(m.bad), first, m.vault.mentioned(first))
			}
		})
		if t.Failed() {
			return
		}
	}
	used := cpu(t) - began
	t.Logf("%d steps, %d calls, %d read-backs in %v of CPU: %.0f steps a second", total, calls, reads, used, float64(total)/used.Seconds())
}
