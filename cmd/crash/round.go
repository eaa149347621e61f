package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gardu/cmd/crash/booth"
	"gardu/cmd/demo/stage"
	"gardu/internal/audit"
)

// round is some trials of one kind on one journal, from its first booth to the
// verdict.
type round struct {
	g      *ground
	dice   *dice
	wishes *wishes
	book   *book
	state  string // folder of journal and audit record
	keyDir string
	config string // of its booths
	log    string

	wrongClock bool // its requests may be dated by a clock that is set wrong

	reactions sync.WaitGroup
}

func (g *ground) newRound(state string) (*round, error) {
	g.n++
	dice := newDice(g.seed + uint64(g.n)) //nolint:gosec // G115: a count
	r := &round{
		g: g, dice: dice, wishes: newWishes(dice), book: newBook(), state: state,
		keyDir: filepath.Join(g.stage.Run(), fmt.Sprintf("keys-%d", g.n)),
		log:    filepath.Join(g.dir, "log", fmt.Sprintf("booth-%d.log", g.n)),
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the journal: %w", err)
	}
	if err := os.MkdirAll(r.keyDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the keys: %w", err)
	}
	var err error
	r.config, err = g.boothFile(state, r.keyDir)
	return r, err
}

// manner is how one life goes.
type manner struct {
	wrap  []string                     // goes before the booth's command line
	ask   int                          // new requests at most
	twice bool                         // some customers ask again
	least time.Duration                // it lives at least so long after it has read its journal
	most  time.Duration                // and at most so long
	early bool                         // now and then it dies before it has read it
	while func(context.Context)        // what happens meanwhile; ends with its context
	hands func(context.Context, *life) // likewise, of operators
	end   func(*life)                  // in place of a kill
	point bool                         // wrap kills it at a chosen point; least and most are for when that is not reached
	// mayNotStart: its disk fails, so that it may say that it cannot start. The next
	// one must be able to.
	mayNotStart bool
}

// live lets one booth live and die, and reports whether it died by itself: at the
// point that was chosen for it.
func (r *round) live(ctx context.Context, m manner) (byItself bool, err error) {
	l, err := begin(r.book, r.config, r.log, func(l *life, q *request) { r.react(ctx, l, q, false) }, m.wrap...)
	if err != nil {
		return false, err
	}
	defer r.reactions.Wait()
	defer l.kill()
	if m.early && r.dice.oneIn(6) {
		time.Sleep(r.dice.between(0, 80*time.Millisecond))
		return false, nil
	}
	if err := l.waitReady(ctx, 30*time.Second); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if isOver(l) && (l.failed == "" && len(m.wrap) > 0 || l.failed != "" && m.mayNotStart) {
			return l.failed == "", nil // killed at the chosen point, before it had read its journal, or hindered
		}
		r.book.put(&r.book.unopened, err.Error())
		return false, nil
	}
	for _, q := range r.book.pick(waitsForCustomer) {
		r.react(ctx, l, q, false)
	}
	lctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	if m.while != nil {
		work.Go(func() { m.while(lctx) })
	}
	if m.hands != nil {
		work.Go(func() { m.hands(lctx, l) })
	}
	r.load(lctx, &work, l, m)
	select {
	case <-time.After(r.dice.between(m.least, m.most)):
	case <-l.over:
	case <-ctx.Done():
	}
	byItself = isOver(l)
	if m.end != nil {
		m.end(l)
	} else {
		l.kill()
	}
	stop()
	work.Wait()
	return byItself, ctx.Err()
}

func isOver(l *life) bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

func waitsForCustomer(q *request) bool { return q.State == "pending" && q.Await != "" }

// askers is how many customers ask at a time.
const askers = 6

// load asks: first again for half of what was asked for and not answered, then
// for new things.
func (r *round) load(ctx context.Context, work *sync.WaitGroup, l *life, m manner) {
	var queue []*request
	for _, q := range r.book.pick(func(q *request) bool { return q.Waiting && !q.Stored && q.Asked < 3 }) {
		if r.dice.oneIn(2) {
			queue = append(queue, q)
		}
	}
	var earlier []*request
	if m.twice {
		earlier = r.book.pick(func(q *request) bool { return q.Stored && (q.Operation == opReset || q.Operation == opPrepaid) })
	}
	for range m.ask {
		if len(earlier) > 0 && r.dice.oneIn(3) {
			queue = append(queue, r.wishes.again(earlier[r.dice.IntN(len(earlier))]))
			continue
		}
		queue = append(queue, r.wishes.next())
	}
	next := make(chan *request)
	work.Go(func() {
		defer close(next)
		for _, q := range queue {
			select {
			case next <- q:
			case <-ctx.Done():
				return
			case <-l.over:
				return
			}
		}
	})
	for range askers {
		work.Go(func() {
			for q := range next {
				if q.Operation == opUnbind && q.Asked == 0 {
					// Only who is bound can be unbound.
					if err := r.g.up.SetCustomer(ctx, q.Subject, true); err != nil {
						return
					}
				}
				if err := l.ask(q); err != nil {
					return
				}
				sleep(ctx, r.dice.between(0, 40*time.Millisecond))
			}
		})
	}
}

// react does what a customer does: brings the one-time password, finishes the
// page. Unless always, some leave.
func (r *round) react(ctx context.Context, l *life, q *request, always bool) {
	if !waitsForCustomer(q) || !always && q.ID[len(q.ID)-1]%4 == 0 {
		return
	}
	r.reactions.Go(func() {
		if q.Await == "link" {
			_ = r.g.up.Link(ctx, q.Subject) // it may have been done already
			return
		}
		_ = l.send(booth.Command{Do: booth.DoSupply, ID: q.ID, Secret: []byte(fixedOTP)})
	})
}

func ignore(*life, *request) {}

// settleLimit is how long a round may take to bring everything to its end.
const settleLimit = 60 * time.Second

// settle mends everything and lets a last booth bring what is open to its end,
// then reads the journal once more.
func (r *round) settle(ctx context.Context) error {
	if err := r.g.up.Clear(ctx); err != nil {
		return err
	}
	l, err := begin(r.book, r.config, r.log, ignore)
	if err != nil {
		return err
	}
	if err := l.waitReady(ctx, 30*time.Second); err != nil {
		l.kill()
		r.book.put(&r.book.unopened, err.Error())
		return ctx.Err()
	}
	stop := time.After(settleLimit)
	for waiting := true; waiting && r.book.open() > 0 && !isOver(l); {
		for _, q := range r.book.pick(waitsForCustomer) {
			r.react(ctx, l, q, true)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-stop:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	err = l.stop(20 * time.Second)
	r.reactions.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.book.put(&r.book.unopened, "ended badly: "+err.Error())
	}
	if l, err = begin(r.book, r.config, r.log, ignore); err != nil {
		return err
	}
	if err := l.waitReady(ctx, 30*time.Second); err != nil {
		l.kill()
		r.book.put(&r.book.unopened, err.Error())
		return ctx.Err()
	}
	return l.stop(20 * time.Second)
}

// verdict judges the round and looks for secrets in what it left.
func (r *round) verdict(ctx context.Context, t *tally) error {
	all, err := r.g.up.Effects(ctx)
	if err != nil {
		return err
	}
	judge(t, r.book, all, r.g.stage.PINSalt)
	v, err := r.g.up.Violations(ctx)
	if err != nil {
		return err
	}
	if r.wrongClock {
		v = slices.DeleteFunc(v, func(s string) bool { return strings.HasPrefix(s, "requestDateTime is ") })
	}
	if len(v) > 0 {
		t.Wrong++
		t.detail("the platforms saw %d broken rules, the first: %s", len(v), v[0])
	}
	if _, err := audit.Verify(ctx, filepath.Join(r.state, "audit.log")); err != nil {
		t.Audit++
		t.detail("audit record: %v", err)
	}
	r.secretsIn(t, 3, r.state, r.keyDir, r.log)
	keys, err := os.ReadDir(r.keyDir)
	if err != nil {
		return fmt.Errorf("look for keys: %w", err)
	}
	if len(keys) > 0 && r.book.open() == 0 {
		t.Secrets++
		t.detail("every request has ended, and the keys of %d PINs or one-time passwords are still there", len(keys))
	}
	return nil
}

// secretsIn looks for the round's PINs and one-time passwords.
func (r *round) secretsIn(t *tally, atLeast int, places ...string) {
	if err := stage.NewNeedles(r.wishes.prefix, fixedOTP).FindIn(atLeast, places...); err != nil {
		t.Secrets++
		t.detail("%v", err)
	}
}

// clear removes what the round left, for the next one. What failed is kept.
func (r *round) clear(ctx context.Context, t *tally) error {
	if t.failed() {
		kept := fmt.Sprintf("%s-kept-%d", r.state, r.g.n)
		t.detail("kept: %s", kept)
		return errors.Join(r.g.up.Reset(ctx), os.Rename(r.state, kept))
	}
	return errors.Join(r.g.up.Reset(ctx), os.RemoveAll(r.state), os.RemoveAll(r.keyDir))
}
