package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"gardu/cmd/crash/booth"
	"gardu/cmd/crash/disk"
	"gardu/cmd/demo/stage"
)

// kiosk is a round against the gardu program itself, with its token and over its
// screen. The screen serves one customer at a time, and a new customer only after
// the last one's goodbye, so each life of the agent has one request.
type kiosk struct {
	*round
	stage  *stage.Stage
	procs  *stage.Processes
	screen *stage.Kiosk
	last   *request // of the life that is or was
}

// agentOTP is how long the agent waits for a one-time password: a customer whose
// agent was killed is gone.
const agentOTP = 5 * time.Second

// agents kills the agent at random moments on an ordinary file system.
func agents(ctx context.Context, g *ground, trials int, t *tally) error {
	k, err := g.newKiosk(ctx)
	if err != nil {
		return err
	}
	defer k.leave()
	for range trials {
		if err := k.life(ctx, t, g.procs.KillAgent); err != nil {
			return err
		}
	}
	if err := errors.Join(k.settle(ctx), k.verdict(ctx, t)); err != nil {
		return err
	}
	return k.clear(ctx, t)
}

// agentCuts takes the power away from under the agent.
func agentCuts(ctx context.Context, g *ground, trials int, t *tally) error {
	return g.onPower(volatile, t, func(d disk.Power) (*round, error) {
		k, err := g.newKiosk(ctx)
		if err != nil {
			return nil, err
		}
		defer k.leave()
		for range trials {
			var cut error
			err := k.life(ctx, t, func() {
				cut = d.Cut()
				g.procs.KillAgent()
			})
			if err := errors.Join(err, cut, d.Restore(), emptyKeys(g.stage.KeyDir())); err != nil {
				return nil, err
			}
			t.Cuts++
		}
		return k.round, errors.Join(k.settle(ctx), k.verdict(ctx, t), g.up.Reset(ctx))
	})
}

// newKiosk begins with an empty journal.
func (g *ground) newKiosk(ctx context.Context) (*kiosk, error) {
	r, err := g.newRound(g.journal())
	if err != nil {
		return nil, err
	}
	r.keyDir, r.log = g.stage.KeyDir(), g.stage.Path("log", "gardu.log")
	k := &kiosk{round: r, stage: g.stage, procs: g.procs}
	if err := errors.Join(emptyKeys(r.keyDir), k.procs.StartAgent(ctx)); err != nil {
		return nil, err
	}
	// The cookie survives a restart of the agent, so one ticket is enough.
	if k.screen, err = g.stage.Kiosk(ctx); err != nil {
		g.procs.KillAgent()
		return nil, err
	}
	g.procs.StopAgent()
	return k, nil
}

func (k *kiosk) leave() {
	k.procs.KillAgent()
	k.screen.Leave()
}

// life lets the agent live for one customer and die.
func (k *kiosk) life(ctx context.Context, t *tally, end func()) error {
	if err := errors.Join(k.g.up.Clear(ctx), mixed(ctx, k.round)); err != nil {
		return err
	}
	t.Trials++
	if k.dice.oneIn(6) { // it dies while it starts
		k.dieStarting(ctx, end)
		return ctx.Err()
	}
	if !k.start(ctx) {
		end()
		return ctx.Err()
	}
	if err := k.read(ctx); err != nil {
		return err
	}
	k.last = nil
	wctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.walk(wctx)
	}()
	sleep(ctx, k.dice.between(0, time.Second))
	end()
	<-done
	stop()
	k.heard()
	return ctx.Err()
}

// dieStarting ends the agent at a random moment of its start.
func (k *kiosk) dieStarting(ctx context.Context, end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = k.procs.StartAgent(ctx) // who is killed in the middle does not get ready
	}()
	sleep(ctx, k.dice.between(0, 600*time.Millisecond))
	end()
	for {
		// It may not have been there yet.
		k.procs.KillAgent()
		select {
		case <-done:
			k.procs.KillAgent()
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// start starts the agent; a journal that does not open is noted.
func (k *kiosk) start(ctx context.Context) bool {
	if err := k.procs.StartAgent(ctx); err != nil {
		if ctx.Err() == nil {
			k.book.put(&k.book.unopened, err.Error())
		}
		return false
	}
	return true
}

// read compares the journal, as field operations see it, with what was said.
func (k *kiosk) read(ctx context.Context) error {
	rows, err := k.stage.Queue(ctx)
	if err != nil {
		return err
	}
	var events []booth.Event
	for _, row := range rows {
		e := booth.Event{
			Event: booth.SaidRow, ID: row.ID, Operation: row.Operation, Customer: row.Customer, Reference: row.Reference,
			State: row.State, Reason: row.Reason,
		}
		// The customer is masked but for three characters, by which ours differ.
		for _, q := range k.book.pick(func(q *request) bool {
			who := q.Subject
			return q.Operation == row.Operation && strings.HasSuffix(row.Customer, who[len(who)-3:])
		}) {
			e.Key = q.Key
		}
		events = append(events, e)
	}
	k.book.found(events)
	return nil
}

// walk is one customer at the screen, until the agent dies.
func (k *kiosk) walk(ctx context.Context) {
	q := k.wishes.next()
	if q.Operation == opUnbind {
		if err := k.g.up.SetCustomer(ctx, q.Subject, true); err != nil {
			return
		}
	}
	if err := k.screen.ToReview(ctx, "id", stage.Wish{Operation: q.Operation, Fields: q.Fields, PIN: string(q.PIN)}); err != nil {
		return
	}
	k.book.asking(q)
	k.last = q
	if err := k.screen.Confirm(ctx); err != nil {
		return
	}
	s, err := k.screen.WaitFor(ctx, "OTP", "BIND_QR", "DONE", "PENDING", "QUEUED", "FAIL")
	if err != nil {
		return
	}
	switch s.State {
	case "OTP":
		_ = k.screen.Must(ctx, "submit_otp", map[string]string{"otp": fixedOTP})
	case "BIND_QR":
		_ = k.g.up.Link(ctx, q.Subject)
	}
	_, _ = k.screen.WaitFor(ctx, "DONE")
}

// heard takes in what the dead agent's screen last said of the last customer's
// request: it says only what is on disk.
func (k *kiosk) heard() {
	shown := k.screen.Request()
	if k.last == nil || shown.Reference == "" {
		return
	}
	k.book.change(k.last.Key, func(r *request) {
		r.Stored, r.Waiting, r.Shown = true, false, strings.ReplaceAll(shown.Reference, "-", "")
		if ended(shown.State) {
			r.Told = shown.State
		}
	})
}

// settle mends everything and lets the agent bring what is open to its end.
func (k *kiosk) settle(ctx context.Context) error {
	if err := k.g.up.Clear(ctx); err != nil {
		return err
	}
	if !k.start(ctx) {
		return ctx.Err()
	}
	for stop := time.Now().Add(settleLimit); ; {
		if err := k.read(ctx); err != nil {
			return err
		}
		if k.book.open() == 0 || time.Now().After(stop) || ctx.Err() != nil {
			break
		}
		for _, q := range k.book.pick(func(q *request) bool { return q.Operation == opBind && q.State == "pending" }) {
			_ = k.g.up.Link(ctx, q.Subject) // it may have been done already
		}
		sleep(ctx, 300*time.Millisecond)
	}
	k.procs.StopAgent()
	if !k.start(ctx) {
		return ctx.Err()
	}
	err := k.read(ctx)
	k.procs.StopAgent()
	return err
}

// verdict judges the round, and looks into what the screen was sent, too.
func (k *kiosk) verdict(ctx context.Context, t *tally) error {
	if err := stage.NewNeedles(k.wishes.prefix, fixedOTP).Find("the frames to the screen", k.screen.Frames()); err != nil {
		t.Secrets++
		t.detail("%v", err)
	}
	return k.round.verdict(ctx, t)
}
