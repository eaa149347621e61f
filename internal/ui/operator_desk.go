package ui

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gardu/internal/txn"
)

// operatorSession is what an operator's visit has besides a session: it begins with a
// code and ends with whatever ends the session, a page that connects anew included.
type operatorSession struct {
	id      string
	login   OperatorLogin
	view    *OperatorView // nil until the first look has ended
	looking bool
	looked  time.Time
	page    int
	row     *OperatorRow // the request on OP_REQUEST
	orders  int          // carried out; a look that began before the last one is old
	says    string       // the hint that came with the last order's refusal
}

// lookEvery is how old a look may be before there is another one.
const lookEvery = 4 * time.Second

// operatorPage is how many requests stand on one page of OP_QUEUE.
const operatorPage = 4

// Result codes of the operator screen.
const (
	codeOperatorRefused = "operator_refused"
	codeOperatorLocked  = "operator_locked"
	codeNotRecorded     = "not_recorded" // nobody is let in whom the record cannot name
	codeOrderRefused    = "order_refused"
)

func (d *desk) doOperator(*command) *Result {
	d.show(OpLogin)
	return &success
}

// doOpLogin lets an operator in. A code that was right and came too late, after the
// session it was typed in, opens nothing, and the record says so.
func (d *desk) doOpLogin(c *command) *Result {
	id, code, op := c.args["id"], c.take(), d.operator
	d.s.notice = ""
	k := &call{command: c.id, began: time.Now()}
	d.call = k
	d.spawn(func(ctx context.Context) {
		defer code.Wipe()
		login, err := op.Login(ctx, id, code)
		taken := false
		d.do(func() {
			if d.call != k {
				return
			}
			taken = true
			d.call = nil
			d.settleAfter(d.loggedIn(id, login, err), k.command)
		})
		if err == nil && !taken {
			op.Logout(ctx, id, "too_late")
		}
	})
	return nil
}

func (d *desk) loggedIn(id string, login OperatorLogin, err error) *Result {
	switch {
	case err == nil:
		d.s.operator = &operatorSession{id: id, login: login}
		d.log.Info("operator screen opened", "session", d.s.id, "operator", id, "method", login.Method)
		d.show(OpHome)
		d.look()
		return &success
	case errors.Is(err, ErrOperatorWrong):
		d.s.notice = textKey(OpLogin, "notice.wrong")
		return refusal(codeOperatorRefused)
	case errors.Is(err, ErrOperatorLocked):
		d.s.notice = textKey(OpLogin, "notice.locked")
		return refusal(codeOperatorLocked)
	}
	d.log.Error("operator not let in", "session", d.s.id, "error", err)
	d.s.notice = textKey(OpLogin, "notice.unrecorded")
	return refusal(codeNotRecorded)
}

// logout ends an operator's visit, whatever ended it.
func (d *desk) logout(why string) {
	o := d.s.operator
	if o == nil {
		return
	}
	d.s.operator = nil
	if why == "time" {
		why = "idle"
	}
	op := d.operator
	d.spawn(func(ctx context.Context) { op.Logout(ctx, o.id, why) })
}

// operatorGone wipes an operator's visit, and a login that has begun, whose page is
// not there any more: whoever comes next has to log in.
func (d *desk) operatorGone(why string) {
	switch d.s.state {
	case OpLogin, OpHome, OpQueue, OpRequest, OpTest, OpDrain, OpExit:
		d.wipeSession(why)
	default:
	}
}

// look has the kiosk looked at beside the desk, one look at a time.
func (d *desk) look() {
	o, op := d.s.operator, d.operator
	if o == nil || o.looking {
		return
	}
	o.looking = true
	orders := o.orders
	d.spawn(func(ctx context.Context) {
		v := op.Look(ctx)
		slices.SortStableFunc(v.Rows, byUrgency)
		d.do(func() {
			o.view, o.looking, o.looked = v, false, time.Now()
			o.page = min(o.page, o.pages()-1)
			if orders != o.orders {
				o.looked = time.Time{}
				return
			}
			for i := range v.Rows {
				if o.row != nil && o.row.ID == v.Rows[i].ID {
					o.row = &v.Rows[i]
				}
			}
		})
	})
}

// byUrgency puts what a person must settle first, and then the oldest.
func byUrgency(a, b OperatorRow) int {
	rank := func(r *OperatorRow) int {
		switch r.State {
		case txn.Unresolved, txn.InDoubt:
			return 0
		case txn.Queued, txn.Sending, txn.Pending:
			return 2
		case txn.Succeeded, txn.Rejected, txn.Expired, txn.Cancelled:
			return 3
		}
		return 1 // a record that does not open
	}
	return cmp.Or(cmp.Compare(rank(&a), rank(&b)), a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

func (o *operatorSession) pages() int {
	if o.view == nil {
		return 1
	}
	return max(1, (len(o.view.Rows)+operatorPage-1)/operatorPage)
}

// nextLook is when the desk must look at the kiosk again.
func (d *desk) nextLook() (time.Time, bool) {
	o := d.s.operator
	if o == nil || o.looking {
		return time.Time{}, false
	}
	return o.looked.Add(lookEvery), true
}

func (d *desk) doOpQueue(*command) *Result {
	d.s.operator.page = 0
	d.show(OpQueue)
	d.look()
	return &success
}

func (d *desk) doOpPage(c *command) *Result {
	o := d.s.operator
	switch c.args["to"] {
	case "next":
		o.page = min(o.page+1, o.pages()-1)
	case "last":
		o.page = max(o.page-1, 0)
	default:
		return &Result{Code: codeBadArgs, Field: "to"}
	}
	return &success
}

func (d *desk) doOpPick(c *command) *Result {
	o := d.s.operator
	if o.view != nil {
		for i := range o.view.Rows {
			if ShortReference(o.view.Rows[i].ID) == c.args["number"] {
				o.row, o.says = &o.view.Rows[i], ""
				d.show(OpRequest)
				return &success
			}
		}
	}
	return &Result{Code: codeBadArgs, Field: "number"}
}

// acts are those that have a chance with the request that is shown.
func (d *desk) acts() []string {
	r := d.s.operator.row
	p := d.policy(r.Operation)
	if d.engine == nil || p == nil {
		return []string{}
	}
	acts := []string{}
	switch r.State {
	case txn.Queued:
		acts = append(acts, "retry")
		if !r.Sent {
			acts = append(acts, "cancel")
		}
	case txn.Pending:
		if !r.Waits && p.Readback {
			acts = append(acts, "inquire")
		}
	case txn.InDoubt, txn.Unresolved:
		if p.Readback {
			acts = append(acts, "inquire")
		}
		if p.Repeats > 0 {
			acts = append(acts, "retry")
		}
		acts = append(acts, "succeeded", "rejected")
	case txn.Sending, txn.Succeeded, txn.Rejected, txn.Expired, txn.Cancelled:
	}
	if d.links[p.Provider].Held {
		acts = append(acts, "release")
	}
	return acts
}

// evidences are what an operator can say with one touch; each is a text
// "evidence.<name>".
var evidences = []string{"portal", "phone", "mail", "customer", "mended"}

func (d *desk) doOpAct(c *command) *Result {
	act, evidence, note := c.args["act"], c.args["evidence"], c.args["note"]
	switch {
	case !slices.Contains(d.acts(), act):
		return &Result{Code: codeBadArgs, Field: "act"}
	case !slices.Contains(evidences, evidence):
		return &Result{Code: codeBadArgs, Field: "evidence"}
	case !noteFits(note):
		return &Result{Code: codeBadArgs, Field: "note"}
	}
	r := d.s.operator.row
	// The record is read by others than who stands here: its language is English.
	o := OperatorOrder{Act: orders[act], Object: r.ID, Why: strings.TrimSuffix(say(English, "evidence."+evidence)+"; "+note, "; ")}
	switch act {
	case "succeeded", "rejected":
		o.As = txn.State(act)
	case "release":
		o.Object = d.policy(r.Operation).Provider
	}
	return d.order(c, o, func(st txn.State) {
		if st != "" && d.s.operator.row == r {
			changed := *r
			changed.State = st
			d.s.operator.row = &changed
		}
		d.s.notice = textKey(d.s.state, "notice.done")
	})
}

// orders are the engine's names of what the screen offers.
var orders = map[string]string{
	"inquire": OrderInquire, "retry": OrderRetry, "cancel": OrderCancel,
	"succeeded": OrderResolve, "rejected": OrderResolve, "release": OrderRelease,
}

// noteFits: letters, digits and what the screen's pad has besides.
func noteFits(note string) bool {
	return note == "" || len(note) <= operatorNoteMax && plain(note, operatorNoteMax)
}

// order has an order carried out, and what follows where it was.
func (d *desk) order(c *command, o OperatorOrder, then func(txn.State)) *Result {
	op, who := d.operator, d.s.operator
	o.Who = who.id
	who.says, d.s.notice = "", ""
	return d.begin(c, func(ctx context.Context) func() *Result {
		st, err := op.Do(ctx, o)
		return func() *Result {
			who.orders++
			d.look()
			if err == nil {
				then(st)
				return &success
			}
			d.log.Warn("operator's order refused", "session", d.s.id, "operator", o.Who, "act", o.Act, "error", err)
			d.s.notice = textKey(d.s.state, "notice.refused")
			var hinted interface{ Hint() string }
			if errors.As(err, &hinted) {
				who.says = hinted.Hint()
			}
			return refusal(codeOrderRefused)
		}
	})
}

func (d *desk) doOpTest(*command) *Result {
	d.show(OpTest)
	return &success
}

func (d *desk) doOpDrain(*command) *Result {
	d.show(OpDrain)
	return &success
}

// The operator screen's own orders have one reason each: that somebody stood there.
const atTheScreen = "at the operator screen"

func (d *desk) doOpClose(c *command) *Result {
	return d.order(c, OperatorOrder{Act: OrderDrain, Why: atTheScreen}, func(txn.State) { d.draining = true })
}

func (d *desk) doOpServe(c *command) *Result {
	return d.order(c, OperatorOrder{Act: OrderServe, Why: atTheScreen}, func(txn.State) { d.draining = false })
}

func (d *desk) doOpRestart(c *command) *Result {
	return d.order(c, OperatorOrder{Act: OrderRestart, Why: atTheScreen}, func(txn.State) {
		d.s.notice = textKey(OpDrain, "notice.restart")
	})
}

func (d *desk) doOpExit(*command) *Result {
	d.logout("operator")
	d.show(OpExit)
	return &success
}

// operatorBack goes up by one from a screen of the operator's.
func (d *desk) operatorBack() {
	switch d.s.state {
	case OpRequest:
		d.s.operator.row, d.s.operator.says = nil, ""
		d.show(OpQueue)
	default:
		d.s.operator.says = ""
		d.show(OpHome)
	}
}

// operatorMay says whether a command of the operator's screens can be given now.
func (d *desk) operatorMay(name string) bool {
	switch name {
	case "operator":
		return d.operator != nil
	case "op_close":
		return !d.draining
	case "op_serve", "op_restart":
		return d.draining
	case "op_act":
		return len(d.acts()) > 0
	}
	return true
}
