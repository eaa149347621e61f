package ui_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
)

// operator goes to one of the operator's screens.
func (p *page) operator(r *rig, to ui.State) {
	p.t.Helper()
	r.operator.Set(func(v *ui.OperatorView) {
		if len(v.Rows) == 0 {
			v.Rows = operatorRows(7)
			v.Counts = map[txn.State]int{txn.Queued: 6, txn.Unresolved: 1}
		}
	})
	p.until("nobody at the screen", func() bool {
		st := p.sessionLocked().State
		return st == ui.Attract || st == ui.OutOfService
	})
	p.do("operator")
	p.at(ui.OpLogin)
	if to == ui.OpLogin {
		return
	}
	p.do("op_login", "id", operatorID, "code", operatorCode)
	p.at(ui.OpHome)
	p.until("the first look", func() bool { return p.operatorLocked().Looked })
	switch to {
	case ui.OpQueue:
		p.do("op_queue")
	case ui.OpRequest:
		p.do("op_queue")
		p.at(ui.OpQueue)
		p.do("op_pick", "number", "CCCC-0006")
	case ui.OpTest:
		p.do("op_test")
	case ui.OpDrain:
		p.do("op_drain")
	case ui.OpExit:
		p.do("op_exit")
	default:
	}
	p.at(to)
}

// operatorRows are requests, the last of which a person must settle.
func operatorRows(n int) (rows []ui.OperatorRow) {
	for i := range n {
		row := ui.OperatorRow{ID: fmt.Sprintf("AAAABBBBCCCC%04d", i), Operation: txn.FinpayUnbind, State: txn.Queued, Created: time.Now().Add(-time.Hour)}
		if i == n-1 {
			row.State, row.Reason = txn.Unresolved, txn.ReasonNoReadback
		}
		rows = append(rows, row)
	}
	return rows
}

// operatorDoc is what the tests read of the operator's document.
type operatorDoc struct {
	Operator string
	Looked   bool
	Draining bool
	Open     int
	Page     int
	Pages    int
	Rows     []struct{ Number, State, Advice string }
	Request  *struct{ Number, State string }
	Acts     []string
	Says     string
}

func (p *page) operatorLocked() (d operatorDoc) {
	if js := p.docs["operator"]; js != nil {
		require.NoError(p.t, json.Unmarshal(js, &d))
	}
	return d
}

func (p *page) operatorDoc() operatorDoc {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.operatorLocked()
}

// logged waits until so much has been recorded: a logout is told beside the screen.
func (r *rig) logged(n int) []string {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return len(r.operator.Log()) >= n }, time.Minute, time.Millisecond)
	return r.operator.Log()
}

func TestOperatorAtWork(t *testing.T) {
	r := newRig(t, brief(ui.OpExit))
	p := r.open()
	p.at(ui.Attract)
	require.Empty(t, p.js("operator"), "no document without an operator")
	before := p.session().Session
	p.operator(r, ui.OpHome)
	d := p.operatorDoc()
	require.Equal(t, operatorID, d.Operator)
	require.Equal(t, 6, d.Open)

	p.do("op_queue")
	p.at(ui.OpQueue)
	d = p.operatorDoc()
	require.Equal(t, 2, d.Pages)
	require.Len(t, d.Rows, 4)
	require.Equal(t, "CCCC-0006", d.Rows[0].Number, "what a person must settle stands first")
	require.Equal(t, "advice.unresolved", d.Rows[0].Advice)
	p.do("op_page", "to", "next")
	require.Len(t, p.operatorDoc().Rows, 3)
	p.do("op_page", "to", "next")
	require.Equal(t, 2, p.operatorDoc().Page, "there is no third")
	require.Equal(t, "bad_args", p.try("op_page", "to", "7").Code)
	require.Equal(t, "number", p.try("op_pick", "number", "NONE-SUCH").Field)
	p.do("op_page", "to", "last")
	p.do("op_pick", "number", "CCCC-0006")
	p.at(ui.OpRequest)
	d = p.operatorDoc()
	require.Equal(t, "unresolved", d.Request.State)
	require.Contains(t, d.Acts, "succeeded")
	require.NotContains(t, d.Acts, "cancel", "what may have been sent is not cancelled")

	for _, c := range []struct{ field, act, evidence, note string }{
		{"act", "cancel", "portal", ""}, {"act", "erase", "portal", ""}, {"evidence", "rejected", "guess", ""}, {"note", "rejected", "portal", "two words"}, {"note", "rejected", "portal", strings.Repeat("4", 41)},
	} {
		f := p.try("op_act", "act", c.act, "evidence", c.evidence, "note", c.note)
		require.Equal(t, []string{"bad_args", c.field}, []string{f.Code, f.Field}, c)
	}
	r.operator.Fail(hinted{})
	require.Equal(t, "order_refused", p.try("op_act", "act", "rejected", "evidence", "portal", "note", "").Code)
	require.Equal(t, "OP_REQUEST.notice.refused", p.session().Notice)
	p.until("the hint", func() bool { return p.operatorLocked().Says == "ask again tomorrow" })
	r.operator.Fail(nil)
	p.do("op_act", "act", "rejected", "evidence", "portal", "note", "T-4711")
	require.Equal(t, "OP_REQUEST.notice.done", p.session().Notice)
	p.until("the request as it is now", func() bool { return p.operatorLocked().Request.State == "rejected" })
	require.Empty(t, p.operatorDoc().Says)
	require.NotNil(t, p.operatorDoc().Acts, "a list without anything in it is a list")
	require.Empty(t, p.operatorDoc().Acts, "what is closed is closed")

	p.do("back")
	p.at(ui.OpQueue)
	r.operator.Set(func(v *ui.OperatorView) { v.Rows = nil })
	p.until("an empty queue", func() bool { d := p.operatorLocked(); return d.Rows != nil && len(d.Rows) == 0 })
	p.do("back")
	p.at(ui.OpHome)
	p.do("op_exit")
	p.until("no document", func() bool { return string(p.docs["operator"]) == "null" })
	require.Equal(t, []string{
		"login " + operatorID, "resolve AAAABBBBCCCC0006 by " + operatorID + ": Seen in the provider's portal; T-4711", "logout " + operatorID + ": operator",
	}, r.logged(3))
	p.at(ui.Attract)
	require.NotEqual(t, before, p.session().Session, "the page is made anew")
}

type hinted struct{}

func (hinted) Error() string { return "no " + canaryPIN }
func (hinted) Hint() string  { return "ask again tomorrow" }

func TestOperatorScreenIsOutOfCustomersReach(t *testing.T) {
	r := newRig(t, nil)
	p := r.open()
	p.at(ui.Attract)
	for _, row := range ui.Screens() {
		for _, c := range row.Commands {
			if c.Name == "operator" {
				require.Contains(t, []ui.State{ui.Attract, ui.OutOfService}, row.State)
			}
		}
	}
	p.do("start")
	p.at(ui.Home)
	for _, name := range []string{"operator", "op_login", "op_queue", "op_act", "op_restart", "op_close"} {
		require.Contains(t, []string{"not_here", "bad_args"}, p.try(name).Code, name)
	}
	p.do("stop")
	p.at(ui.Attract)
	p.do("operator")
	for _, name := range []string{"op_queue", "op_test", "op_drain", "op_restart", "op_exit", "start"} {
		require.Equal(t, "not_here", p.try(name).Code, "%s without a code", name)
	}
	p.do("stop")
	p.at(ui.Attract)
	require.Empty(t, r.operator.Log())

	none := newRig(t, func(o *ui.Options) { o.Operator = nil })
	q := none.open()
	q.at(ui.Attract)
	require.NotContains(t, q.session().Commands, "operator")
	require.Equal(t, "not_here", q.try("operator").Code)
}

func TestWrongOperatorsStayOut(t *testing.T) {
	r := newRig(t, nil)
	r.server.SetHealth(ui.Health{Reason: "token_absent"})
	p := r.open()
	p.at(ui.OutOfService)
	p.operator(r, ui.OpLogin)
	for _, c := range []struct {
		err          error
		code, notice string
	}{
		{nil, "operator_refused", "OP_LOGIN.notice.wrong"},
		{ui.ErrOperatorLocked, "operator_locked", "OP_LOGIN.notice.locked"},
		{errors.New("disk full"), "not_recorded", "OP_LOGIN.notice.unrecorded"},
	} {
		r.operator.Fail(c.err)
		require.Equal(t, c.code, p.try("op_login", "id", operatorID, "code", canaryOTP).Code)
		require.Equal(t, c.notice, p.session().Notice)
		require.Equal(t, ui.OpLogin, p.session().State)
		require.Empty(t, p.js("operator"))
	}
	r.operator.Fail(nil)
	p.do("op_login", "id", operatorID, "code", operatorCode)
	p.at(ui.OpHome)
	seen := p.everything() + r.log.String()
	require.NotContains(t, seen, canaryOTP, "a wrong code is somebody's secret all the same")
	require.NotContains(t, seen, operatorCode)
}

// Whatever takes the page away ends the visit: who comes next has to log in.
func TestOperatorsVisitEnds(t *testing.T) {
	for _, c := range []struct {
		why string
		end func(*testing.T, *rig, *page)
	}{
		{"idle", func(t *testing.T, _ *rig, p *page) {
			began := time.Now()
			for range 5 { // touches prolong it
				time.Sleep(100 * time.Second)
				p.raw(1, []byte(fmt.Sprintf(`{"type":"activity","session":%q}`, p.session().Session)))
				synctest.Wait()
				require.Equal(t, ui.OpQueue, p.session().State)
			}
			p.at(ui.Attract)
			require.Equal(t, 620*time.Second, time.Since(began))
		}},
		{"screen_lost", func(t *testing.T, r *rig, p *page) {
			require.NoError(t, p.ws.Close())
			synctest.Wait()
			r.open().at(ui.Attract)
		}},
		{"reconnect", func(_ *testing.T, r *rig, p *page) {
			next := r.open()
			next.at(ui.Attract)
			require.NotContains(t, next.everything(), operatorID)
		}},
		{"screen_lost", func(_ *testing.T, r *rig, _ *page) { r.stop() }}, // a restart of the agent
	} {
		t.Run(c.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRig(t, nil)
				p := r.open()
				p.operator(r, ui.OpQueue)
				session := p.session().Session
				c.end(t, r, p)
				synctest.Wait()
				said := r.operator.Log()
				if c.why == "reconnect" && len(said) == 2 { // the old page goes, and which is seen first is chance
					said[1] = strings.Replace(said[1], "screen_lost", "reconnect", 1)
				}
				require.Equal(t, []string{"login " + operatorID, "logout " + operatorID + ": " + c.why}, said)
				if c.why == "idle" {
					require.NotEqual(t, session, p.session().Session)
					require.Equal(t, "null", p.js("operator"))
				}
				r.stop()
			})
		})
	}
}

func TestDrainTakesNoNewRequests(t *testing.T) {
	r := newRig(t, brief(ui.OpExit))
	p := r.open()
	p.at(ui.Attract)
	p.operator(r, ui.OpDrain)
	require.NotContains(t, p.session().Commands, "op_restart", "first it is stopped")
	p.do("op_close")
	require.True(t, p.operatorDoc().Draining)
	p.do("op_exit")
	r.logged(3)
	p.at(ui.OutOfService)
	require.Equal(t, "maintenance", p.doc("health")["reason"])
	_, body := r.get("/healthz", "", nil)
	require.Contains(t, body, `"reason":"maintenance"`)
	require.Equal(t, "not_here", p.try("start").Code)
	p.operator(r, ui.OpDrain)
	p.do("op_restart")
	require.Equal(t, "OP_DRAIN.notice.restart", p.session().Notice)
	p.do("op_serve")
	p.do("op_exit")
	p.at(ui.Attract)
	require.Equal(t, []string{
		"login " + operatorID, "operator.drain  by " + operatorID + ": at the operator screen", "logout " + operatorID + ": operator",
		"login " + operatorID, "operator.restart  by " + operatorID + ": at the operator screen", "operator.serve  by " + operatorID + ": at the operator screen", "logout " + operatorID + ": operator",
	}, r.logged(7))
}
