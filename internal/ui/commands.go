package ui

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"

	"gardu/internal/txn"
)

// Result codes of the protocol. The screen that follows says the rest.
const (
	codeStaleSession = "stale_session" // the session has ended
	codeStaleScreen  = "stale_screen"  // that screen has passed
	codeUnknown      = "unknown_command"
	codeNotHere      = "not_here" // this screen has no such command, or not now
	codeBusy         = "busy"     // the last command is still under way, or there is no engine for a moment
	codeBadArgs      = "bad_args" // field names the argument
	codeField        = "field"    // field and rule say what to mend
	codePINMismatch  = "pin_mismatch"
	codeStaffRefused = "staff_refused"
	codeStaffLocked  = "staff_locked" // no staff code is taken for a while
	codeVerify       = "not_verified" // the provider did not confirm what was entered; the screen says why
	codeOpen         = "open"         // the customer's earlier request is shown
	codeCooldown     = "cooldown"
	codeLimit        = "limit"
	codeOffline      = "offline"
	codeDisabled     = "disabled"
	codeFull         = "full"
	codeNotStored    = "not_stored" // the journal did not take it
	codeTooLate      = "too_late"
	codeUnsure       = "unsure" // the journal did not say whether it stored it
	codeStopping     = "stopping"
	codeCodeRefused  = "code_refused" // the provider does not take the page's code
	codeCodeUnspent  = "code_unspent" // it did not reach the provider; bring it again
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
	"submit_code":   (*desk).doCode,
	"resend":        (*desk).doResend,
	"receipt":       (*desk).doReceipt,
	"finish":        (*desk).doFinish,
	"operator":      (*desk).doOperator,
	"op_login":      (*desk).doOpLogin,
	"op_queue":      (*desk).doOpQueue,
	"op_page":       (*desk).doOpPage,
	"op_pick":       (*desk).doOpPick,
	"op_act":        (*desk).doOpAct,
	"op_test":       (*desk).doOpTest,
	"op_drain":      (*desk).doOpDrain,
	"op_close":      (*desk).doOpClose,
	"op_serve":      (*desk).doOpServe,
	"op_restart":    (*desk).doOpRestart,
	"op_exit":       (*desk).doOpExit,
}

// asksEngine are the commands about a request that is shown, which goes on where the
// engine went away for a while; whoever only types is sent away then.
var asksEngine = map[string]bool{"cancel": true, "submit_otp": true, "submit_code": true, "resend": true}

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
	if waits := d.posted[id]; waits != nil {
		waits <- r
		delete(d.posted, id)
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
	case d.call != nil && c.name != "lang", d.engine == nil && asksEngine[c.name]:
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
		case c.Name == "submit_code" && d.codeField() == nil:
		case c.Name == "staff_code" && !d.needsStaff():
		case !d.operatorMay(c.Name):
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
	case p == nil, !d.offered(p):
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
	case OpQueue, OpRequest, OpTest, OpDrain:
		d.operatorBack()
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
			if errors.Is(err, ErrStaffLocked) {
				d.log.Warn("staff codes are closed for a while", "session", d.s.id)
				d.fail("staff_locked")
				return refusal(codeStaffLocked)
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

// posts carries out a command that did not come by the websocket, and sends its
// result to whom waits for it.
func (d *desk) posts(c *command, to chan<- Result) {
	r := d.obey(c)
	if r != nil {
		d.publish()
		to <- *r
		return
	}
	if d.posted == nil {
		d.posted = map[string]chan<- Result{}
	}
	d.posted[c.id] = to
}
