package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"gardu/internal/txn"
)

// Result codes of the protocol. The screen that follows says the rest.
const (
	codeStaleSession = "stale_session" // the session has ended
	codeStaleScreen  = "stale_screen"  // that screen has passed
	codeUnknown      = "unknown_command"
	codeNotHere      = "not_here" // this screen has no such command, or not now
	codeBusy         = "busy"     // the last command is still under way
	codeBadArgs      = "bad_args" // field names the argument
	codeField        = "field"    // field and rule say what to mend
	codePINMismatch  = "pin_mismatch"
	codeStaffRefused = "staff_refused"
	codeOpen         = "open" // the customer's earlier request is shown
	codeCooldown     = "cooldown"
	codeLimit        = "limit"
	codeOffline      = "offline"
	codeDisabled     = "disabled"
	codeFull         = "full"
	codeTooLate      = "too_late"
	codeUnsure       = "unsure" // the journal did not say whether it stored it
	codeStopping     = "stopping"
	codeInternal     = "internal"
)

// maxStaffTries is how many wrong staff codes end the attempt.
const maxStaffTries = 3

var success = Result{OK: true}

func refusal(code string) *Result { return &Result{Code: code} }

// handlers carry out the commands of the table. One that returns nil has started
// a call, which answers the command when it ends.
var handlers = map[string]func(*desk, *command) *Result{
	"lang":          (*desk).doLang,
	"stay":          (*desk).doStay,
	"start":         (*desk).doStart,
	"choose":        (*desk).doChoose,
	"agree":         (*desk).doAgree,
	"back":          (*desk).doBack,
	"stop":          (*desk).doStop,
	"submit_fields": (*desk).doFields,
	"staff_code":    (*desk).doStaff,
	"submit_pin":    (*desk).doPIN,
	"confirm":       (*desk).doConfirm,
	"edit":          (*desk).doEdit,
	"hold":          (*desk).doHold,
	"decline":       (*desk).doStop,
	"cancel":        (*desk).doCancel,
	"wait":          (*desk).doWait,
	"submit_otp":    (*desk).doOTP,
	"receipt":       (*desk).doReceipt,
	"finish":        (*desk).doFinish,
}

// command carries out one command, once. It reports false where the id was used
// for another command: such a page cannot be trusted to match answers.
func (d *desk) command(c *command) bool {
	defer c.wipe()
	switch d.board.begin(c.id, c.session+" "+c.screen+" "+c.name) {
	case idSame:
		return true
	case idClash:
		return false
	case idNew:
	}
	if r := d.obey(c); r != nil {
		d.answer(c.id, *r)
	}
	return true
}

// answer publishes what a command led to and then its result, in this order, so
// that a page that has the result also has the screen.
func (d *desk) answer(id string, r Result) {
	d.publish()
	if id != "" {
		r.ID = id
		d.board.finish(r)
	}
}

func (d *desk) obey(c *command) *Result {
	switch _, known := commandTable[c.name]; {
	case c.session != d.s.id:
		return refusal(codeStaleSession)
	case c.screen != d.shown():
		return refusal(codeStaleScreen)
	case !known:
		return refusal(codeUnknown)
	case !slices.Contains(d.available(), c.name):
		return refusal(codeNotHere)
	case d.call != nil && c.name != "lang":
		return refusal(codeBusy)
	case c.wrong != "":
		return &Result{Code: codeBadArgs, Field: c.wrong}
	}
	d.touch(c.session)
	return handlers[c.name](d, c)
}

// available lists the commands that would be obeyed now.
func (d *desk) available() []string {
	if d.s.overlay != "" {
		return []string{"stay", "stop", "lang"}
	}
	var names []string
	for _, c := range screenTable[d.s.state].Commands {
		switch {
		case c.Name == "cancel" && !mayCancel(d.s.request):
		case c.Name == "receipt" && d.reference() == "":
		default:
			names = append(names, c.Name)
		}
	}
	return append(names, "lang")
}

func (d *desk) doLang(c *command) *Result {
	switch l := Lang(c.args["lang"]); l {
	case Indonesian, English:
		d.s.lang = l
		return &success
	}
	return &Result{Code: codeBadArgs, Field: "lang"}
}

func (d *desk) doStay(*command) *Result {
	notice := d.s.notice
	d.show(d.s.state)
	d.s.notice = notice
	return &success
}

func (d *desk) doStart(*command) *Result {
	d.log.Info("session started", "session", d.s.id)
	d.show(Home)
	return &success
}

func (d *desk) doChoose(c *command) *Result {
	p := d.policy(txn.Operation(c.args["operation"]))
	switch {
	case p == nil, !p.Enabled:
		return refusal(codeDisabled)
	case d.linkWord(p) == linkStops:
		return refusal(codeOffline) // HOME already says why
	}
	d.s.op = p.Operation
	d.show(Consent)
	return &success
}

func (d *desk) doAgree(*command) *Result {
	d.show(Ident)
	return &success
}

func (d *desk) doBack(*command) *Result {
	switch d.s.state {
	case Consent:
		d.s.op = ""
		d.show(Home)
	case Ident:
		d.s.fields = nil
		d.show(Consent)
	case Verify:
		d.show(Ident)
	case PIN:
		d.s.verifiedBy = ""
		d.show(Ident)
	case PINAgain:
		d.show(PIN)
	case Receipt:
		to := d.s.from
		d.s.from = ""
		d.show(to)
	default:
	}
	return &success
}

func (d *desk) doStop(*command) *Result {
	d.wipeSession("customer")
	return &success
}

func (d *desk) doEdit(*command) *Result {
	d.s.verifiedBy, d.s.key = "", ""
	d.show(Ident)
	return &success
}

// doFields asks the engine whether it would take the request, before a PIN is typed.
func (d *desk) doFields(c *command) *Result {
	fields, engine, op := c.args, d.engine, d.s.op
	if fields == nil {
		fields = map[string]string{}
	}
	return d.begin(c, func(ctx context.Context) func() *Result {
		err := engine.Preview(ctx, op, fields)
		return func() *Result {
			var field *txn.FieldError
			if errors.As(err, &field) {
				return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
			}
			d.s.fields, d.s.verifiedBy, d.s.staffTries = fields, "", 0
			if err != nil {
				return d.refuse(err)
			}
			d.advance()
			return &success
		}
	})
}

// advance goes to the first step that is still missing.
func (d *desk) advance() {
	p := d.policy(d.s.op)
	switch {
	case d.needsStaff() && d.s.verifiedBy == "":
		d.show(Verify)
	case p != nil && p.Secret != nil && d.s.pin == nil:
		d.show(PIN)
	default:
		if d.s.key == "" {
			d.s.key = rand.Text()
		}
		d.show(Review)
	}
}

// needsStaff: the prepaid platform wants the card details validated before a
// reset (Prepaid, Reset PIN); where staff do that, they do it here.
func (d *desk) needsStaff() bool {
	p := d.policy(d.s.op)
	return p != nil && p.StaffVerify
}

func (d *desk) doStaff(c *command) *Result {
	code, staff := c.take(), d.staff
	if staff == nil {
		code.Wipe()
		d.fail("disabled")
		return refusal(codeDisabled)
	}
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer code.Wipe()
		id, err := staff.VerifyStaff(ctx, code)
		return func() *Result {
			if err == nil && id != "" {
				d.s.verifiedBy = id
				d.log.Info("staff confirmed card and person", "session", d.s.id, "staff", id)
				d.advance()
				return &success
			}
			d.s.staffTries++
			d.log.Warn("staff code refused", "session", d.s.id, "tries", d.s.staffTries)
			if d.s.staffTries >= maxStaffTries {
				d.fail("staff_refused")
				return refusal(codeStaffRefused)
			}
			d.s.notice = textKey(Verify, "notice.staff_refused")
			return refusal(codeStaffRefused)
		}
	})
}

func (d *desk) doPIN(c *command) *Result {
	pin := c.take()
	p := d.policy(d.s.op)
	if p == nil || p.Secret == nil {
		pin.Wipe()
		return refusal(codeNotHere)
	}
	var field *txn.FieldError
	if err := p.Secret.Check(pin.Bytes()); errors.As(err, &field) {
		pin.Wipe()
		return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
	}
	if d.s.state == PIN {
		d.s.pin.Wipe()
		d.show(PINAgain)
		d.s.pin = pin
		return &success
	}
	same := pin.Equal(d.s.pin)
	pin.Wipe()
	if !same {
		d.show(PIN)
		d.s.notice = textKey(PIN, "notice.pin_mismatch")
		return refusal(codePINMismatch)
	}
	d.advance()
	return &success
}

// doConfirm offers to wait where the link is known to be down, and else submits.
func (d *desk) doConfirm(c *command) *Result {
	if p := d.policy(d.s.op); p != nil && p.HoldOffline && d.linkDown(p) && !d.s.agreed {
		d.show(OfferQueue)
		return &success
	}
	return d.submit(c)
}

func (d *desk) doHold(c *command) *Result {
	d.s.agreed = true
	return d.submit(c)
}

// submit gives the request to the engine. A journal that does not know whether
// it stored the request is asked again, with the same key, until time is up.
func (d *desk) submit(c *command) *Result {
	pin, engine := d.s.pin, d.engine
	d.s.pin = nil // the call's from here on
	d.show(Submit)
	n := txn.New{Key: d.s.key, Operation: d.s.op, Fields: d.s.fields, Secret: pin, VerifiedBy: d.s.verifiedBy}
	seen := d.s.changes
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer pin.Wipe()
		var r *txn.Request
		err := again(ctx, d.times.StoreAgain, func() (err error) {
			r, err = engine.Accept(ctx, n)
			return err
		})
		return func() *Result {
			if err != nil {
				return d.refuse(err)
			}
			d.log.Info("request accepted", "session", d.s.id, "request", r.ID, "operation", string(r.Operation))
			d.adopt(r, seen)
			return &success
		}
	})
}

// again repeats what the journal did not know the end of.
func again(ctx context.Context, pause time.Duration, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, txn.ErrStoreUnknown) {
			if err != nil && ctx.Err() != nil {
				return txn.ErrStoreUnknown // cut off in the middle: it may be stored
			}
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// refuse shows why the engine did not take a request.
func (d *desk) refuse(err error) *Result {
	var field *txn.FieldError
	var open *txn.OpenError
	var cool *txn.CooldownError
	var limit *txn.LimitError
	switch {
	case errors.As(err, &field):
		d.show(Ident)
		d.s.noticeOf = &fault{field.Field.Name, field.Rule}
		if p := d.policy(d.s.op); p != nil && p.Secret != nil && p.Secret.Name == field.Field.Name {
			d.show(PIN)
			d.s.notice = textKey(PIN, "notice.pin_refused")
		}
		return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
	case errors.As(err, &open):
		d.adopt(open.Request, d.s.changes)
		d.s.notice = textKey(d.s.state, "notice.earlier")
		return refusal(codeOpen)
	case errors.As(err, &cool):
		d.show(Cooldown)
		d.s.until = cool.Until
		return refusal(codeCooldown)
	case errors.As(err, &limit):
		d.show(Limit)
		d.s.until, d.s.scope = limit.Until, limit.Scope
		return refusal(codeLimit)
	case errors.Is(err, txn.ErrOffline):
		d.fail(string(txn.ReasonOfflineRefused))
		return refusal(codeOffline)
	case errors.Is(err, txn.ErrDisabled), errors.Is(err, txn.ErrUnknownOperation):
		d.fail("disabled")
		return refusal(codeDisabled)
	case errors.Is(err, txn.ErrFull):
		d.show(Full)
		return refusal(codeFull)
	case errors.Is(err, txn.ErrStoreUnknown):
		d.unsure()
		return refusal(codeUnsure)
	case errors.Is(err, txn.ErrStopped):
		d.fail("stopping")
		return refusal(codeStopping)
	}
	d.log.Error("request not taken", "session", d.s.id, "operation", string(d.s.op), "error", err)
	d.fail("internal")
	return refusal(codeInternal)
}

func (d *desk) fail(reason string) {
	d.show(Fail)
	d.s.reason = reason
}

func (d *desk) unsure() {
	d.log.Error("journal did not say whether it stored the request", "session", d.s.id, "key", d.s.key)
	d.show(Unsure)
	d.s.reason = "store_unknown"
}

func (d *desk) doOTP(c *command) *Result {
	otp, engine, id, seen := c.take(), d.engine, d.s.request.ID, d.s.changes
	d.s.notice = ""
	return d.begin(c, func(ctx context.Context) func() *Result {
		defer otp.Wipe()
		var r *txn.Request
		err := again(ctx, d.times.StoreAgain, func() (err error) {
			r, err = engine.Supply(ctx, id, otp)
			return err
		})
		return func() *Result {
			var field *txn.FieldError
			switch {
			case err == nil:
				d.s.patient = true
				d.adopt(r, seen)
				return &success
			case errors.As(err, &field):
				return &Result{Code: codeField, Field: field.Field.Name, Rule: string(field.Rule)}
			case errors.Is(err, txn.ErrTooLate):
				d.refresh(id)
				return refusal(codeTooLate)
			}
			d.log.Error("one-time password not stored", "session", d.s.id, "request", id, "error", err)
			if errors.Is(err, txn.ErrStoreUnknown) {
				// It may be stored and go out: to ask for the code again would be a lie.
				d.noteUnsure(id)
				return refusal(codeUnsure)
			}
			if d.s.state == OTP || d.s.state == OTPBad {
				d.s.notice = textKey(d.s.state, "notice.unsaved")
			}
			return refusal(codeInternal)
		}
	})
}

func (d *desk) doCancel(c *command) *Result {
	engine, id, seen := d.engine, d.s.request.ID, d.s.changes
	return d.begin(c, func(ctx context.Context) func() *Result {
		r, err := engine.Cancel(ctx, id, txn.ReasonByCustomer)
		return func() *Result {
			switch {
			case err == nil:
				d.adopt(r, seen)
				return &success
			case errors.Is(err, txn.ErrTooLate):
				d.s.notice = textKey(d.s.state, "notice.too_late")
				d.refresh(id)
				return refusal(codeTooLate)
			}
			d.log.Error("request not cancelled", "session", d.s.id, "request", id, "error", err)
			if errors.Is(err, txn.ErrStoreUnknown) {
				d.noteUnsure(id)
				return refusal(codeUnsure)
			}
			return refusal(codeInternal)
		}
	})
}

// noteUnsure says that the journal does not know, and shows what it says next.
func (d *desk) noteUnsure(id string) {
	if key := textKey(d.s.state, "notice.unsure"); textTable[key].ID != "" {
		d.s.notice = key
	}
	d.refresh(id)
}

func (d *desk) doWait(*command) *Result {
	d.show(d.s.state)
	d.s.notice = textKey(d.s.state, "notice.waiting")
	return &success
}

func (d *desk) doReceipt(*command) *Result {
	from := d.s.state
	d.show(Receipt)
	d.s.from = from
	return &success
}

// doFinish says goodbye. From here on nothing of the request is shown; it goes
// on by itself.
func (d *desk) doFinish(*command) *Result {
	d.watch("")
	d.s.request, d.s.fields, d.s.qr, d.s.op, d.s.key, d.s.reason = nil, nil, nil, "", "", ""
	d.show(Goodbye)
	return &success
}

// begin runs work beside the desk and what work returns on it. Meanwhile the
// session document says busy and other commands are refused.
func (d *desk) begin(c *command, work func(context.Context) func() *Result) *Result {
	k := &call{command: c.id, began: time.Now()}
	d.call = k
	d.spawn(func(ctx context.Context) {
		then := work(ctx)
		d.do(func() {
			if d.call != k {
				return // given up meanwhile
			}
			d.call = nil
			d.settleAfter(then(), k.command)
		})
	})
	return nil
}

func (d *desk) settleAfter(r *Result, id string) {
	d.s.active = time.Now()
	d.settle()
	d.answer(id, *r)
}

// abandon gives the call under way up; its end is not looked at any more.
func (d *desk) abandon(code string) {
	id := d.call.command
	d.call = nil
	d.answer(id, *refusal(code))
}
