package ui

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// desk is the state machine behind the screen. One goroutine, run, owns the
// session; others reach it through do (a function to be run there) and through
// mail, which keeps only the latest of each thing and so never makes the engine wait.
type desk struct {
	log      *slog.Logger
	brand    string
	staff    StaffVerifier // nil where nobody verifies at this screen
	operator Operator      // nil where there is no operator screen
	times    Timeouts
	board    *board
	clock    agentClock

	inbox   chan func()
	wake    chan struct{}
	stopped chan struct{} // closed when run has ended
	calls   sync.WaitGroup

	mu   sync.Mutex // guards mail
	mail mail

	// What follows belongs to run's goroutine.
	spawn    func(work func(context.Context)) // runs work beside the desk, with the limit of a call
	engine   Engine
	policies []txn.Policy
	links    map[string]txn.Link
	health   Health
	s        session
	call     *call
	posted   map[string]chan<- Result // who waits for the end of a posted command
	screens  int                      // connections in charge: 0, or 1, or 2 while one takes over
	lostAt   time.Time                // since when there is none
	timer    *time.Timer
	relinked bool      // links or policies changed since they were published
	linkedAt time.Time // when they were
	draining bool      // an operator had it take no new requests
	visited  bool      // there was an operator's visit, of which pages may have a document
}

// mail is what came from outside since the desk last looked.
type mail struct {
	engine  *Engine
	health  *Health
	links   map[string]txn.Link
	watched string // the request whose changes are wanted
	request *txn.Request
}

// session is one customer's visit, from a wipe to the next.
type session struct {
	id       string
	lang     Lang
	state    State
	showing  int       // number of the screen shown; a tap on an earlier one is stale
	opened   time.Time // when it was opened
	active   time.Time // when somebody last touched it
	overlay  string
	asked    int       // how often "are you still there?"
	askedAt  time.Time // when it was opened
	notice   string    // text key
	noticeOf *fault    // a field that was refused after the screen was left

	op         txn.Operation
	fields     map[string]string
	verifiedBy string
	staffTries int
	pin        *secret.Value
	key        string // idempotency key of the request to come
	agreed     bool   // the customer agreed that it waits
	unresolved string // the id of an earlier one for the same whose result nobody knows

	reason string    // why, on screens without a request
	until  time.Time // of COOLDOWN and LIMIT
	scope  string    // of LIMIT; of COOLDOWN "refused" where a refusal brought it

	request *txn.Request
	changes int  // how many changes of it have been seen
	patient bool // WORKING may still be shown for it
	earlier bool // it was made in another session: perhaps by somebody else
	from    State
	qr      *qrDoc
	qrOf    string

	operator *operatorSession // while an operator is at the screen
}

// fault is a field and the rule it broke.
type fault struct {
	field string
	rule  txn.Rule
}

// call is the one slow thing under way. Its customer-facing commands wait for it.
type call struct {
	command string // the command id that is answered when it ends; empty for none
	began   time.Time
}

func newDesk(log *slog.Logger, brand string, staff StaffVerifier, operator Operator, times Timeouts) *desk {
	clock := agentClock{time.Now()}
	d := &desk{
		log: log, brand: brand, staff: staff, operator: operator, times: times, clock: clock, board: newBoard(clock.now),
		inbox: make(chan func()), wake: make(chan struct{}, 1), stopped: make(chan struct{}),
		links: map[string]txn.Link{}, health: Health{OK: true},
	}
	d.s = session{id: rand.Text(), lang: Indonesian, state: Boot}
	return d
}

// run serves until ctx ends, then clears what was typed and waits for its calls.
func (d *desk) run(ctx context.Context) {
	d.spawn = func(work func(context.Context)) {
		d.calls.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, d.times.Call)
			defer cancel()
			work(ctx)
		})
	}
	now := time.Now()
	d.timer = time.NewTimer(time.Hour)
	defer d.timer.Stop()
	defer func() {
		close(d.stopped)
		d.s.pin.Wipe()
		d.logout("restart")
		d.calls.Wait()
	}()
	d.lostAt = now
	d.show(Boot)
	d.collect()
	for {
		d.publish()
		d.timer.Reset(max(0, time.Until(d.deadline())))
		select {
		case <-ctx.Done():
			return
		case fn := <-d.inbox:
			// What was posted before a command came is known to it: a tap is not judged
			// by a standing of which better has been heard.
			select {
			case <-d.wake:
				d.collect()
			default:
			}
			fn()
		case <-d.wake:
			d.collect()
		case <-d.timer.C:
			d.onTime(time.Now())
		}
	}
}

// do runs fn on the desk and reports whether it did; after the end it does not.
func (d *desk) do(fn func()) bool {
	done := make(chan struct{})
	select {
	case d.inbox <- func() { defer close(done); fn() }:
	case <-d.stopped:
		return false
	}
	select {
	case <-done:
		return true
	case <-d.stopped:
		return false
	}
}

// post changes the mail and wakes the desk. It never waits.
func (d *desk) post(change func(*mail)) {
	d.mu.Lock()
	change(&d.mail)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// requestChanged keeps the newest version of the request that is shown.
func (d *desk) requestChanged(r *txn.Request) {
	d.mu.Lock()
	wanted := r.ID == d.mail.watched
	d.mu.Unlock()
	if wanted {
		d.post(func(m *mail) {
			if r.ID == m.watched {
				m.request = r
			}
		})
	}
}

// watch says whose changes are wanted from now on.
func (d *desk) watch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mail.watched != id {
		d.mail.watched, d.mail.request = id, nil
	}
}

// collect takes the mail in.
func (d *desk) collect() {
	d.mu.Lock()
	m := d.mail
	d.mail = mail{watched: m.watched}
	d.mu.Unlock()
	if m.engine != nil {
		d.engine = *m.engine
		d.learn()
	}
	if m.health != nil {
		d.health = *m.health
	}
	for name, l := range m.links {
		d.links[name], d.relinked = l, true
	}
	if m.request != nil && d.s.request != nil && m.request.ID == d.s.request.ID {
		d.s.changes++
		d.follow(m.request)
	}
	if m.engine != nil && d.s.request != nil {
		d.refresh(d.s.request.ID) // what became of it while nobody told
	}
	d.settle()
}

// learn asks the engine what there is.
func (d *desk) learn() {
	d.policies, d.links, d.relinked = nil, map[string]txn.Link{}, true
	if d.engine == nil {
		return
	}
	d.policies = d.engine.Policies()
	for _, l := range d.engine.Links() {
		d.links[l.Provider] = l
	}
}

// policy is the policy of an operation that is switched on, or nil.
func (d *desk) policy(op txn.Operation) *txn.Policy {
	for i := range d.policies {
		if p := &d.policies[i]; p.Operation == op {
			return p
		}
	}
	return nil
}

// linkDown reports whether the way to the operation's provider is known to be closed.
func (d *desk) linkDown(p *txn.Policy) bool {
	l, ok := d.links[p.Provider]
	return ok && l.Known && !l.Up
}

// trouble is why the kiosk cannot serve, or empty.
func (d *desk) trouble() string {
	if !d.health.OK {
		if _, ok := textTable[string(OutOfService)+".reason."+d.health.Reason]; ok {
			return d.health.Reason
		}
		return "other"
	}
	if d.engine == nil {
		return "starting"
	}
	if d.draining {
		return "maintenance"
	}
	for i := range d.policies {
		if d.policies[i].Enabled {
			return ""
		}
	}
	return "no_operations"
}

func (d *desk) idle() State {
	if d.trouble() != "" {
		return OutOfService
	}
	return Attract
}

// settle puts the screen right after the kiosk's own standing changed. A request
// that is shown stays: its truth does not depend on the kiosk.
func (d *desk) settle() {
	out := d.trouble() != ""
	switch d.s.state {
	case Boot:
		// A kiosk that is only starting gets the time BOOT has.
		if !out || d.trouble() != "starting" {
			d.show(d.idle())
		}
	case Attract, OutOfService:
		if d.s.state != d.idle() {
			d.show(d.idle())
		}
	case Home, Consent, Ident, Verify, PIN, PINAgain, Review, OfferQueue:
		if out {
			d.wipeSession("out_of_service")
		}
	default:
	}
}

// show opens a screen.
func (d *desk) show(st State) {
	if !screenTable[st].Holds {
		d.dropPIN()
	}
	now := time.Now()
	d.s.state, d.s.opened, d.s.active = st, now, now
	d.s.overlay, d.s.notice, d.s.noticeOf = "", "", nil
	d.s.showing++
}

func (d *desk) dropPIN() {
	d.s.pin.Wipe()
	d.s.pin = nil
}

// wipeSession ends the session: everything typed is cleared, and the new session
// id makes the page load itself anew.
func (d *desk) wipeSession(why string) {
	d.dropPIN()
	d.logout(why)
	d.watch("")
	if d.call != nil {
		d.abandon("stale_session")
	}
	d.log.Info("session ended", "session", d.s.id, "screen", string(d.s.state), "why", why)
	d.s = session{id: rand.Text(), lang: Indonesian, showing: d.s.showing}
	d.learn()
	d.show(d.idle())
}

// deadline is when the desk must look again if nothing happens.
func (d *desk) deadline() time.Time {
	at := d.screenDeadline()
	if d.call != nil {
		at = earlier(at, d.call.began.Add(d.callLimit()))
	}
	if d.deserted() {
		at = earlier(at, d.lostAt.Add(d.times.ScreenLost))
	}
	if next, ok := d.nextLook(); ok {
		at = earlier(at, next)
	}
	return at
}

func (d *desk) screenDeadline() time.Time {
	if d.s.overlay != "" {
		return d.s.askedAt.Add(d.times.StillThere)
	}
	limit := d.times.limit(d.s.state)
	switch row := screenTable[d.s.state]; {
	case row.Idle && d.call != nil:
		return later(d.s.active.Add(limit), d.call.began.Add(d.callLimit()))
	case row.Idle:
		return d.s.active.Add(limit)
	case !row.Ask:
		return d.s.opened.Add(limit)
	}
	at := earlier(d.s.active.Add(limit), d.s.opened.Add(max(limit, d.times.Cap)))
	if d.call != nil {
		// A screen that waits for a call does not run out under the customer's hands.
		return later(at, d.call.began.Add(d.callLimit()))
	}
	return at
}

// callLimit is when a call that does not keep to its context is given up.
func (d *desk) callLimit() time.Duration { return d.times.Call + d.times.Call/3 }

// deserted reports whether a session goes on that no screen shows.
func (d *desk) deserted() bool {
	switch d.s.state {
	case Boot, Attract, OutOfService:
		return false
	default:
		return d.screens == 0
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// onTime does what is due.
func (d *desk) onTime(now time.Time) {
	if d.deserted() && !now.Before(d.lostAt.Add(d.times.ScreenLost)) {
		d.wipeSession("screen_lost")
		return
	}
	if d.call != nil && !now.Before(d.call.began.Add(d.callLimit())) {
		d.log.Error("call took too long and was given up", "screen", string(d.s.state))
		d.abandon("internal")
		switch {
		case d.s.state == Submit:
			d.unsure()
		case d.s.state == Verify && !d.needsStaff():
			d.fail("card_unchecked") // nothing on that screen would lead on
		}
		return
	}
	if next, ok := d.nextLook(); ok && !now.Before(next) {
		d.look()
	}
	if now.Before(d.screenDeadline()) {
		return
	}
	row := screenTable[d.s.state]
	switch {
	case d.s.overlay != "":
		d.wipeSession("nobody_there")
	case row.Ask && d.s.asked < d.times.Asks:
		d.ask(now)
	case d.s.state == Working:
		d.s.patient = false
		d.follow(d.s.request)
	case d.s.state == Submit:
		if d.call != nil {
			d.abandon("internal")
		}
		d.unsure()
	case row.Wipes:
		d.wipeSession("time")
	case row.Then == OutOfService:
		d.show(d.idle())
	default:
		d.show(row.Then)
	}
}

// ask opens the question and clears at this moment, not at its end, what was typed.
func (d *desk) ask(now time.Time) {
	cleared := d.s.pin != nil || d.s.state == PIN
	otp := d.s.state == OTP || d.s.state == OTPBad
	if d.s.pin != nil {
		d.dropPIN()
		d.show(PIN)
	}
	switch {
	case cleared:
		d.s.notice = textKey(PIN, "notice.cleared")
	case otp:
		d.s.notice = textKey(d.s.state, "notice.cleared")
	}
	d.s.overlay, d.s.askedAt = StillThere, now
	d.s.asked++
	d.s.showing++
}

// attach notes that a page is connected. Its language counts while nobody is here.
func (d *desk) attach(lang Lang) {
	d.screens++
	d.operatorGone("reconnect")
	switch d.s.state {
	case Boot, Attract, OutOfService:
		d.s.lang = lang
	default:
	}
}

func (d *desk) detach() {
	d.screens--
	if d.screens == 0 {
		d.operatorGone("screen_lost")
		d.lostAt = time.Now()
	}
}

// touch notes activity. The question needs an answer and not just a touch.
func (d *desk) touch(session string) {
	if session == d.s.id && d.s.overlay == "" {
		d.s.active = time.Now()
	}
}
