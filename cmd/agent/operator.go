package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/audit"
	"gardu/internal/operator"
	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// console is what the operator screen works with.
type console struct {
	ag      *agent
	guard   *operator.Guard
	started time.Time
}

// operatorsState is the file of used codes: beside the journal, which is as dear.
func (s *settings) operatorsState() string {
	return filepath.Join(filepath.Dir(s.Journal.Path), "operators.json")
}

// newConsole opens the operators' file. It is nil where none is configured.
func (ag *agent) newConsole() (*console, error) {
	if ag.set.Screen.Operators == "" {
		return nil, nil
	}
	g, err := operator.Open(ag.set.Screen.Operators, ag.set.operatorsState(), ag.log, time.Now)
	if err != nil {
		return nil, err
	}
	if len(g.All()) == 0 {
		ag.log.Warn("nobody can open the operator screen; add somebody with 'gardu ui operator add ID' and reload", "file", ag.set.Screen.Operators)
	}
	return &console{ag: ag, guard: g, started: time.Now()}, nil
}

// trail is the audit record, nil where it is not open yet.
func (ag *agent) trail() *audit.Trail {
	ag.mu.Lock()
	defer ag.mu.Unlock()
	return ag.audit
}

var errNoTrail = errors.New("the audit record is not open yet")

// record writes a line of the operator screen, synced. It outlives a call that is
// given up: what was done is done.
func (c *console) record(ctx context.Context, act, id string, attrs map[string]string) error {
	t := c.ag.trail()
	if t == nil {
		return errNoTrail
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := t.Append(ctx, audit.Entry{Act: act, Object: "screen", Who: operatorName(id), Attrs: attrs, Sync: true})
	c.ag.audited.told(err)
	return err
}

// operatorName is an operator in the audit record.
func operatorName(id string) string { return "operator " + id }

// Login implements ui.Operator.
func (c *console) Login(ctx context.Context, id string, code *secret.Value) (ui.OperatorLogin, error) {
	if c.ag.trail() == nil {
		return ui.OperatorLogin{}, errNoTrail // before a code is used up for nothing
	}
	m, left, err := c.guard.Check(ctx, id, code)
	switch {
	case errors.Is(err, operator.ErrLocked):
		return ui.OperatorLogin{}, ui.ErrOperatorLocked
	case errors.Is(err, operator.ErrWrong):
		// What was typed as an id may be a customer's number: it is not written down.
		if err := c.record(ctx, "operator.refused", "unknown", nil); err != nil {
			c.ag.log.Error("wrong operator code not recorded", "error", err)
		}
		return ui.OperatorLogin{}, ui.ErrOperatorWrong
	case err != nil:
		return ui.OperatorLogin{}, err
	}
	if err := c.record(ctx, "operator.login", id, map[string]string{"method": string(m), "recovery_left": strconv.Itoa(left)}); err != nil {
		return ui.OperatorLogin{}, fmt.Errorf("record the login: %w", err)
	}
	return ui.OperatorLogin{Method: string(m), Recovery: left}, nil
}

// Logout implements ui.Operator.
func (c *console) Logout(ctx context.Context, id, why string) {
	if err := c.record(ctx, "operator.logout", id, map[string]string{"why": why}); err != nil {
		c.ag.log.Error("end of an operator's visit not recorded", "operator", id, "why", why, "error", err)
	}
}

// Look implements ui.Operator.
func (c *console) Look(ctx context.Context) *ui.OperatorView {
	ag := c.ag
	v := &ui.OperatorView{
		Version: version, Kiosk: ag.set.Kiosk.Number, Started: c.started, Clock: txn.MachineClock()().Kept, Counts: map[txn.State]int{},
	}
	ag.mu.Lock()
	h := ag.health
	ag.mu.Unlock()
	if !h.OK && (strings.HasPrefix(h.Reason, "token_") || h.Reason == "keys_missing") {
		v.Token = h.Reason
	}
	if t := ag.trail(); t != nil {
		v.Audit = t.Head().Seq
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(ag.set.Journal.Path), &fs); err == nil {
		v.Free = int64(fs.Bavail) * fs.Bsize //nolint:gosec // G115: bytes of a disk
	}
	e := ag.serving()
	if e == nil {
		return v
	}
	rows, err := engineJournal(e).look(ctx, v.Counts)
	if err != nil {
		ag.log.Warn("journal not read for the operator screen", "error", err)
		return v
	}
	v.Serving, v.Rows = true, rows
	return v
}

// look counts the requests and lists those that are not finished, or of which nobody
// knows the end, without anything of the customer.
func (j *journal) look(ctx context.Context, counts map[txn.State]int) ([]ui.OperatorRow, error) {
	var rows []ui.OperatorRow
	err := j.each(ctx, func(r *txn.Request, err error) error {
		switch {
		case err != nil && !errors.Is(err, txn.ErrSeal):
			return err
		case err != nil:
			counts[stateUnreadable]++
			rows = append(rows, ui.OperatorRow{ID: broken(err).ID, State: stateUnreadable})
			return nil
		}
		counts[r.State]++
		if r.State.Final() && r.State != txn.Unresolved {
			return nil
		}
		o := j.row(r, view{})
		row := ui.OperatorRow{
			ID: r.ID, Operation: r.Operation, State: r.State, Reason: r.Reason, Code: r.Code, Created: r.Created, NextTry: o.NextTry,
			Sent: r.EverSent(), Waits: r.Await != "",
		}
		if o.Line != "" {
			row.Reason = o.Line
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// errRestart ends the program so that the service manager starts it again.
var errRestart = errors.New("an operator restarts the agent")

// restartPause lets the screen say what happens before it is cut off.
const restartPause = 500 * time.Millisecond

// Do implements ui.Operator.
func (c *console) Do(ctx context.Context, o ui.OperatorOrder) (txn.State, error) {
	switch o.Act {
	case ui.OrderDrain, ui.OrderServe, ui.OrderRestart:
		if err := c.record(ctx, o.Act, o.Who, map[string]string{"why": o.Why}); err != nil {
			return "", err
		}
		if o.Act == ui.OrderRestart {
			c.ag.log.Warn("an operator restarts the agent", "operator", o.Who)
			time.AfterFunc(restartPause, func() { c.ag.quit(errRestart) })
		}
		return "", nil
	}
	e, err := c.ag.servingNow()
	if err != nil {
		return "", err
	}
	w := order{Act: o.Act, Name: o.Object, Reason: o.Why, As: o.As}
	if o.Act == ui.OrderRelease {
		if err := w.check(); err != nil {
			return "", err
		}
		_, err := release(ctx, e, &w, operatorName(o.Who))
		return "", err
	}
	r, err := operate(ctx, e, &w, operatorName(o.Who))
	return r.State, err
}

// reload reads the operators' file again, so that they come and go without a restart.
// A file that cannot be used changes nothing.
func (c *console) reload() {
	if err := c.guard.Reload(c.ag.set.Screen.Operators); err != nil {
		c.ag.log.Error("operators' file not taken; the operators of before stay", "error", err)
		return
	}
	c.ag.log.Info("operators' file read again", "operators", len(c.guard.All()))
}

// operators is a line of the preflight.
func (p *preflight) operators(set *settings) {
	path := set.Screen.Operators
	if path == "" {
		return
	}
	g, err := operator.Open(path, set.operatorsState(), discardLog, time.Now)
	switch {
	case err != nil:
		p.failed(exitFailed, "operators_file", err)
	case len(g.All()) == 0:
		p.warn("operators_file", path+" names nobody, so nobody can open the operator screen", "add somebody with 'gardu ui operator add ID'")
	default:
		poor := ""
		for _, o := range g.All() {
			if o.Recovery < 3 {
				poor = o.ID
			}
		}
		if poor != "" {
			p.warn("operators_file", fmt.Sprintf("%s names %d, and %s has few recovery codes left", path, len(g.All()), poor),
				"remove that operator and add them again, which makes new ones")
			return
		}
		p.ok("operators_file", "%s names %d", path, len(g.All()))
	}
}

// auditOwner gives an audit record that root made to whom its folder belongs to, the
// service, which could not write it otherwise.
func auditOwner(path string) error {
	var dir unix.Stat_t
	if os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return err
	}
	return os.Chown(path, int(dir.Uid), int(dir.Gid))
}
