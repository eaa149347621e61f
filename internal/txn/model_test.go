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
	verdicts map[string]txn.State   // id → what an operator is about to close it as
	begun    map[string]int         // act and object → begun and not ended so often
	recorded map[string]bool        // act and object that were recorded before they were done
	deeds    map[string]int         // act → carried out so often
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
		verdicts: map[string]txn.State{}, begun: map[string]int{}, recorded: map[string]bool{}, deeds: map[string]int{},
	}
	m.vault = newVault(m.dice, m.fail)
	m.world = newWorld(m.dice, m.vault, m.fail)
	m.world.kind = func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.gentle }
	m.world.wanted = func(id string) bool { m.mu.Lock(); defer m.mu.Unlock(); return m.recorded[txn.ActRetry+" "+id] }
	m.world.repeats = map[txn.Operation]int{}
	m.opts = txn.Options{
		Store: m.vault, Identity: txn.Identity{Kiosk: 42, Salt: 7}, Log: slog.New(slog.DiscardHandler), Audit: m,
		Limits:   txn.Limits{CustomerHour: customerHour, KioskHour: kioskHour, InFlight: inFlight},
		Timing:   txn.Timing{LinkStagger: 3 * time.Second, Probe: 10 * time.Minute, Unresolved: 60 * time.Hour},
		OnChange: m.changed, Clock: m.clock.read,
	}
	for _, p := range policies() {
		if p.Operation == txn.PrepaidResetPIN {
			p.HoldOffline = seed%2 == 0
		}
		if p.Operation == txn.FinpayResetPIN && seed%3 != 0 {
			p.Repeats, p.Quiet = int(seed%3), 2*time.Minute
			m.world.repeats[p.Operation] = p.Repeats
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
func (m *model) Record(_ context.Context, act string, r *txn.Request, a *txn.Attempt, who string) error {
	truth, known := m.world.verdict(r.ID)
	m.mu.Lock()
	defer m.mu.Unlock()
	name, stage, operators := strings.Cut(act, ".")
	if operators != (who != "") || operators && r.Note == "" {
		m.bad = append(m.bad, fmt.Sprintf("%s of %s is recorded as by %q because of %q", act, r.ID, who, r.Note))
	}
	if operators && "."+stage != txn.ActBegins {
		m.begun[name+" "+r.ID]--
	}
	if !m.gentle && m.dice.in(200) {
		return errors.New("the audit record's disk is full")
	}
	switch act {
	case txn.ActSend:
		m.sends[a.ExternalID]++
	case txn.ActResolve + txn.ActBegins:
		if !known || m.verdicts[r.ID] != truth {
			return errors.New("the operator looks again and finds it otherwise")
		}
	case txn.ActRelease + txn.ActBegins:
		m.world.lift(r.ID)
	}
	if operators && "."+stage == txn.ActBegins {
		m.begun[name+" "+r.ID]++
		m.recorded[name+" "+r.ID] = true
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
	if r.Reason == txn.ReasonByOperator && !m.recorded[txn.ActCancel+" "+r.ID] {
		m.bad = append(m.bad, r.ID+" is cancelled by an operator of whom the audit record knows nothing")
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

// operate has an operator do something to one of the requests that are not
// finished, or to a provider.
func (m *model) operate() {
	list := m.vault.unfinished()
	if len(list) == 0 {
		return
	}
	r := list[m.dice.n(len(list))]
	o := txn.Order{ID: r.ID, Who: "budi", Why: "seen at the provider's"}
	ctx := m.t.Context()
	var err error
	act := []string{txn.ActCancel, txn.ActResolve, txn.ActInquire, txn.ActRetry, txn.ActRelease}[m.dice.n(5)]
	switch act {
	case txn.ActCancel:
		r, err = m.engine.Withdraw(ctx, o)
		if err == nil && r.State != txn.Cancelled {
			m.fail("%s is withdrawn and yet %s", o.ID, r.State)
		}
	case txn.ActResolve:
		to, known := m.world.verdict(r.ID)
		if !known {
			return
		}
		m.mu.Lock()
		m.verdicts[r.ID] = to
		m.mu.Unlock()
		r, err = m.engine.Resolve(ctx, o, to)
		if err == nil && (r.State != to || r.NoteBy != o.Who) {
			m.fail("%s is resolved as %s by %q and should be %s", o.ID, r.State, r.NoteBy, to)
		}
	case txn.ActInquire:
		_, err = m.engine.Inquire(ctx, o)
	case txn.ActRetry:
		_, err = m.engine.Retry(ctx, o)
	case txn.ActRelease:
		_, err = m.engine.Release(ctx, []string{"finpay", "prepaid"}[m.dice.n(2)], o.Who, o.Why)
	}
	var oe *txn.OrderError
	switch {
	case err == nil:
		m.mu.Lock()
		m.deeds[act]++
		m.mu.Unlock()
	case !errors.As(err, &oe) || oe.Hint() == "" || oe.Act != act:
		m.fail("%s: %v", act, err)
	}
}

// act does one thing.
func (m *model) act() {
	switch n := m.dice.n(100); {
	case n < 35:
		m.accept()
	case n < 50:
		m.supply()
	case n < 62:
		m.cancel()
	case n < 75:
		m.operate()
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
	m.mu.Lock()
	for act, n := range m.begun {
		if n != 0 {
			m.bad = append(m.bad, fmt.Sprintf("%s has %d audit records of its beginning without one of its end", act, n))
		}
	}
	clear(m.begun)
	m.mu.Unlock()
	for range 20 {
		q := m.ask()
		var cool *txn.CooldownError
		if err := m.engine.Preview(m.t.Context(), q.Operation, q.Fields); errors.As(err, &cool) {
			m.fail("a cooldown of an hour at most goes on after a day: %v", err)
		}
	}
	time.Sleep(70 * time.Hour)
	synctest.Wait()
	for _, r := range m.vault.all() {
		m.fail("%s is %s and still there after its time", r.ID, r.State)
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
			synctest.Wait() // a call that has only just ended may still hold its secret
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

// tally is what all models did together.
type tally struct {
	mu                           sync.Mutex // guards what follows
	steps, calls, reads, repeats int
	acts                         map[string]int
}

func (y *tally) add(m *model) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.steps += m.steps
	y.calls += m.world.calls
	y.reads += m.world.reads
	y.repeats += m.world.again
	for act, n := range m.deeds {
		y.acts[act] += n
	}
}

// modelSeed runs one seed's model to its end or its first findings.
func modelSeed(t *testing.T, seed uint64, steps int, y *tally) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		m.run(steps)
		y.add(m)
		if len(m.bad) > 0 {
			first := strings.Join(m.bad[:min(5, len(m.bad))], "\n")
			t.Fatalf("GARDU_SEED=%d: %d findings, first:\n%s\n\n%s", seed, len(m.bad), first, m.vault.mentioned(first))
		}
	})
}

func TestAnythingInAnyOrder(t *testing.T) {
	const leastSteps, steps, lanes = 100_000, 2500, 4
	first, seeds := uint64(20260504), uint64(leastSteps/steps)
	number := func(name string, n *uint64) bool {
		s := os.Getenv(name)
		if s == "" {
			return false
		}
		var err error
		*n, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return true
	}
	own := number("GARDU_SEED", &first)
	if own {
		seeds = 1
	}
	own = number("GARDU_SEEDS", &seeds) || own
	y := &tally{acts: map[string]int{}}
	t.Run("seeds", func(t *testing.T) {
		for lane := range uint64(lanes) {
			t.Run(strconv.FormatUint(lane, 10), func(t *testing.T) {
				t.Parallel()
				for seed := first + lane; seed < first+seeds && !t.Failed(); seed += lanes {
					modelSeed(t, seed, steps, y)
				}
			})
		}
	})
	fmt.Printf("model: %d steps, %d calls, %d read-backs, %d guarded repeats, operators' acts %v\n", y.steps, y.calls, y.reads, y.repeats, y.acts)
	if own || t.Failed() {
		return
	}
	require.GreaterOrEqual(t, y.steps, leastSteps)
	require.NotZero(t, y.repeats, "no doubt was ever repeated")
	for _, act := range []string{txn.ActCancel, txn.ActResolve, txn.ActInquire, txn.ActRetry, txn.ActRelease} {
		require.NotZero(t, y.acts[act], "no operator's %s was ever carried out", act)
	}
}
