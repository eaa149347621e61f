package txn_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// deed is what became of one request at the platform.
type deed struct {
	maybe  map[int]int // step → calls that may have had their effect
	effect time.Time   // when it came, or will have come; zero: never
	onWay  bool        // a call is under way
	last   map[int]call
	till   time.Time // when it is really too late to send it
}

// call is the last call of a step that may have had its effect.
type call struct {
	id string
	at time.Time
}

// world is the platform behind all operations. It remembers what it saw, answers
// as it likes, and knows the truth.
type world struct {
	dice  *dice
	vault *vault
	fail  func(format string, args ...any)
	kind  func() bool // every answer is a good one from now on

	mu      sync.Mutex
	down    bool
	deeds   map[string]*deed
	extIDs  map[string]bool
	inCall  map[string]int        // customer → calls under way
	quiet   map[string]wish       // provider → asked to be left alone
	secrets []*secret.Value       // what was handed to calls that are over
	wanted  func(id string) bool  // an operator wants it sent
	repeats map[txn.Operation]int // how often a doubt may be repeated by itself
	calls   int
	reads   int
	again   int // guarded repeats
}

// wish is what a provider asked for. What was on its way in the same instant does
// not count against it.
type wish struct{ since, until time.Time }

func (w wish) stands(now time.Time) bool { return now.After(w.since) && now.Before(w.until) }

func newWorld(d *dice, v *vault, fail func(string, ...any)) *world {
	return &world{dice: d, vault: v, fail: fail, deeds: map[string]*deed{}, extIDs: map[string]bool{}, inCall: map[string]int{}, quiet: map[string]wish{}}
}

// at is the world as one provider.
type at struct {
	*world
	provider string
}

func (w *world) deedOf(r *txn.Request) *deed {
	d := w.deeds[r.ID]
	if d == nil {
		d = &deed{maybe: map[int]int{}, last: map[int]call{}}
		w.deeds[r.ID] = d
	}
	return d
}

func (w *world) fresh(id string) {
	if w.extIDs[id] {
		w.fail("external id %s is used twice", id)
	}
	w.extIDs[id] = true
}

// tooLate is when it is really too late to send a request.
func (w *world) tooLate(r *txn.Request) time.Time {
	if d := w.deeds[r.ID]; d != nil && !d.till.IsZero() {
		return d.till
	}
	w.vault.mu.Lock()
	defer w.vault.mu.Unlock()
	return w.vault.born[r.ID].Add(waits[r.Operation])
}

// waits is how long requests may wait, by the policies.
var waits = func() map[txn.Operation]time.Duration {
	m := map[txn.Operation]time.Duration{}
	for _, p := range policies() {
		m[p.Operation] = p.Wait
	}
	return m
}()

func (p at) begin(c txn.Call) *deed {
	w, r := p.world, c.Request
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if c.Attempt.Repeat {
		w.extIDs[c.Attempt.ExternalID] = true
	} else {
		w.fresh(c.Attempt.ExternalID)
	}
	disk := w.vault.peek(r.Seq)
	now := time.Now()
	switch {
	case disk == nil:
		w.fail("%s is sent and is not on disk", r.ID)
	case disk.State != txn.Sending || disk.Last().ExternalID != c.Attempt.ExternalID || disk.Last().Outcome != 0:
		w.fail("%s is sent, and its attempt is not on disk: %s", r.ID, disk.State)
	case now.After(w.tooLate(r).Add(blink)) && !(c.Attempt.Repeat && w.wanted(r.ID)):
		w.fail("%s is sent %v after its time, repeat %v: %+v, on disk %+v", r.ID, now.Sub(w.tooLate(r)), c.Attempt.Repeat, r, disk)
	case w.quiet[p.provider].stands(now):
		w.fail("%s is sent to a provider that wants to be left alone", r.ID)
	case len(c.Request.Attempts) > 45:
		w.fail("%s keeps %d attempts", r.ID, len(r.Attempts))
	}
	d := w.deedOf(r)
	if d.onWay || w.inCall[r.Customer] > 0 {
		w.fail("%s: two calls of one customer at a time", r.ID)
	}
	if c.Attempt.Repeat || d.maybe[c.Attempt.Step] > 0 {
		w.guarded(c, d)
	}
	for _, o := range w.vault.before(r) {
		if o.State == txn.Pending && o.Await != "" {
			continue // waits for the customer
		}
		w.fail("%s is sent before %s of the same customer, which is %s: %+v", r.ID, o.ID, o.State, o)
	}
	if needs := r.Operation == txn.PrepaidResetPIN || c.Attempt.Step == 2; needs != (c.Secret.Len() > 0) {
		w.fail("%s: the secret of step %d is there: %v", r.ID, c.Attempt.Step, c.Secret.Len() > 0)
	}
	d.onWay = true
	w.inCall[r.Customer]++
	return d
}

// guarded holds a repeat of a doubt against what makes it safe. w.mu is held.
func (w *world) guarded(c txn.Call, d *deed) {
	r, last, now := c.Request, d.last[c.Attempt.Step], time.Now()
	jakarta := time.FixedZone("WIB", 7*60*60)
	day := func(t time.Time) int { return t.In(jakarta).YearDay() }
	switch {
	case !c.Attempt.Repeat || w.repeats[r.Operation] == 0:
		w.fail("%s is sent again, and an earlier call of step %d may have arrived", r.ID, c.Attempt.Step)
	case last.id == "": // the attempt before died with the machine before it left, which nobody knew
	case c.Attempt.ExternalID != last.id:
		w.fail("%s is repeated as %s and was sent as %s", r.ID, c.Attempt.ExternalID, last.id)
	case day(last.at.Add(blink)) != day(now) && day(last.at.Add(-blink)) != day(now):
		w.fail("%s is repeated on another day: sent at %v", r.ID, last.at)
	}
	w.again++
	for _, o := range w.vault.all() {
		if o.Seq > r.Seq && o.Customer == r.Customer && o.Operation == r.Operation && o.EverSent() {
			w.fail("%s is repeated after %s, which its customer asked for later", r.ID, o.ID)
		}
	}
}

// verdict is what an operator finds out at the platform: whether a request took
// effect. Nobody knows while it may still do so by itself.
func (w *world) verdict(id string) (to txn.State, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.deeds[id]
	switch {
	case d == nil, d.effect.IsZero() && !d.onWay:
		return txn.Rejected, true
	case d.there():
		return txn.Succeeded, true
	}
	return "", false
}

// Submit implements txn.Provider.
func (p at) Submit(ctx context.Context, c txn.Call) txn.Answer {
	w, began := p.world, time.Now() // really, and not by the machine's clock
	d := p.begin(c)
	if w.dice.in(3) {
		select {
		case <-ctx.Done():
		case <-time.After(w.dice.upTo(40 * time.Second)):
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := p.answer(c, d)
	if ctx.Err() != nil && a.Outcome != txn.NotSent {
		a = txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
	}
	switch a.Outcome {
	case txn.NotSent, txn.WasRejected:
	default:
		d.maybe[c.Attempt.Step]++
		d.last[c.Attempt.Step] = call{c.Attempt.ExternalID, began}
	}
	if d.effect.IsZero() && a.Outcome == txn.Unknown && w.dice.in(2) {
		d.effect = time.Now() // it arrived
		if w.dice.in(3) {
			d.effect = d.effect.Add(w.dice.upTo(90 * time.Second)) // and takes effect a little later
		}
		if c.Request.Operation == txn.FinpayUnbind && c.Attempt.Step == 1 {
			d.effect = time.Time{}
		}
	}
	w.wants(p.provider, a)
	d.onWay = false
	w.inCall[c.Request.Customer]--
	w.secrets = append(w.secrets, c.Secret)
	return a
}

func (w *world) wants(provider string, a txn.Answer) {
	now := time.Now()
	until := now
	switch {
	case a.Hold:
		until = now.Add(15 * time.Minute)
	case a.Outcome == txn.NotSent && a.Reason == txn.ReasonThrottled:
		until = now.Add(min(a.RetryAfter, 10*time.Minute))
	}
	if until.After(w.quiet[provider].until) {
		w.quiet[provider] = wish{now, until}
	}
}

// answer makes one of every kind. w.mu is held.
func (p at) answer(c txn.Call, d *deed) txn.Answer {
	w, r := p.world, c.Request
	did := func() {
		if now := time.Now(); d.effect.IsZero() || d.effect.After(now) { // the second time is no second effect
			d.effect = now
		}
	}
	if w.down {
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
	}
	n := w.dice.n(100)
	if w.kind() {
		n = 0
	}
	switch {
	case n < 35:
		switch {
		case r.Operation == txn.FinpayUnbind && c.Attempt.Step == 1:
			d.till = time.Now().Add(5 * time.Minute)
			return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonOTPWanted, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute}
		case r.Operation == txn.FinpayBind:
			return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonLinkOpen, HTTPStatus: 200, Await: txn.AwaitLink, AwaitFor: 5 * time.Minute,
				Data: map[string]string{txn.DataLinkURL: "https://x"}}
		}
		did()
		a := txn.Answer{Outcome: txn.HasSucceeded, HTTPStatus: 200, Code: "2000000"}
		if w.dice.in(4) {
			a.Cooldown = w.dice.upTo(time.Hour)
		}
		return a
	case n < 45:
		a := txn.Answer{Outcome: txn.WasRejected, Reason: txn.ReasonRefused, HTTPStatus: 404, Code: "4040001"}
		if c.Attempt.Step == 2 && w.dice.in(2) {
			a.Await, a.Reason = txn.AwaitOTP, txn.ReasonOTPWrong
		}
		if w.dice.in(4) {
			a.Cooldown = w.dice.upTo(time.Hour)
		}
		return a
	case n < 60:
		return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer, HTTPStatus: []int{0, 500}[w.dice.n(2)]}
	case n < 65:
		return txn.Answer{Outcome: txn.WentPending, Reason: txn.ReasonInProgress, HTTPStatus: 202}
	case n < 70:
		return txn.Answer{Outcome: txn.Outcome([]uint8{0, 9}[w.dice.n(2)]), HTTPStatus: 200}
	case n < 77:
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonTokenInvalid, Again: true, HTTPStatus: 401}
	case n < 80:
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonClockCorrected, Again: true, HTTPStatus: 401}
	case n < 88:
		return throttled(w.dice.upTo(90 * time.Second))
	case n < 90:
		return held()
	case n < 94:
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonKeystore}
	case n < 97:
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkUntrusted}
	}
	return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
}

// there reports whether the effect is there. w.mu is held.
func (d *deed) there() bool { return !d.effect.IsZero() && !time.Now().Before(d.effect) }

// Inquire implements txn.Inquirer.
func (p at) Inquire(ctx context.Context, c txn.Call) txn.Answer {
	w := p.world
	id, err := c.NewExternalID(ctx)
	w.mu.Lock()
	if err == nil {
		w.fresh(id)
	}
	if w.quiet[p.provider].stands(time.Now()) {
		w.fail("%s is asked about at a provider that wants to be left alone", c.Request.ID)
	}
	w.mu.Unlock()
	if w.dice.in(5) {
		select {
		case <-ctx.Done():
			return txn.Answer{Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer}
		case <-time.After(w.dice.upTo(20 * time.Second)):
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	d := w.deedOf(c.Request)
	a := txn.Answer{Outcome: txn.WasRejected, HTTPStatus: 200, Code: "2000800"}
	if d.there() {
		a.Outcome = txn.HasSucceeded
	}
	if c.Request.Operation == txn.FinpayUnbind && c.Request.Step == 1 {
		a.Outcome = txn.WasRejected
	}
	if w.down {
		return txn.Answer{Outcome: txn.NotSent, Reason: txn.ReasonLinkDown}
	}
	if !w.kind() {
		switch w.dice.n(10) {
		case 0:
			a = lost()
		case 1:
			a = throttled(w.dice.upTo(30 * time.Second))
		case 2:
			a = txn.Answer{Outcome: txn.WentPending, HTTPStatus: 202}
		case 3:
			a = txn.Answer{HTTPStatus: 200}
		}
	}
	w.wants(p.provider, a)
	return a
}

// Probe implements txn.Prober.
func (p at) Probe(context.Context) error {
	w := p.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down || !w.kind() && w.dice.in(20) {
		return errors.New("down")
	}
	return nil
}

// shown lets the customer, who has the page before them now, finish it or not.
func (w *world) shown(r *txn.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.deedOf(r); d.effect.IsZero() && w.dice.in(2) {
		d.effect = time.Now().Add(w.dice.upTo(max(1, r.AwaitTill.Sub(r.At.Wall))))
	}
}

// forgetWishes is for a restart: what a provider asked for is not on disk.
func (w *world) forgetWishes() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.quiet)
}

// lift is an operator's word that a provider may be tried again.
func (w *world) lift(provider string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.quiet, provider)
}

// truth holds a finished record against what really happened.
func (w *world) truth(r *txn.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.deedOf(r)
	switch r.State {
	case txn.Succeeded:
		if !d.there() {
			w.fail("%s is told to have succeeded, and nothing happened", r.ID)
		}
	case txn.Rejected, txn.Expired, txn.Cancelled:
		if !d.effect.IsZero() {
			w.fail("%s (%s, step %d) is told to be %s (%s) at %v, and it took effect at %v; attempts %+v", r.ID, r.Operation, r.Step, r.State, r.Reason, r.Closed, d.effect, r.Attempts)
		}
	case txn.Queued, txn.Sending, txn.Pending, txn.InDoubt, txn.Unresolved:
	}
	if early := time.Until(w.tooLate(r)); r.State == txn.Expired && early > blink && !r.EverSent() && r.Reason == txn.ReasonWaitedTooLong {
		w.fail("%s is told to be too old, %v before its time", r.ID, early)
	}
	if r.State == txn.Cancelled && len(d.maybe) > 0 {
		w.fail("%s is cancelled, and a call may have arrived", r.ID)
	}
}

// wiped looks whether the secrets of calls that are over have been cleared.
func (w *world) wiped() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets {
		if s.Len() > 0 {
			w.fail("a secret that was sent is still in memory")
		}
	}
	w.secrets = w.secrets[:0]
}
