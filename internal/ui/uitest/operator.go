package uitest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// Operator is an operator's backend in memory. It takes one id with one code, any
// number of times.
type Operator struct {
	id, code string

	mu   sync.Mutex // guards what follows
	view ui.OperatorView
	fail error
	log  []string
}

// NewOperator makes one that knows one operator.
func NewOperator(id, code string) *Operator {
	return &Operator{id: id, code: code, view: ui.OperatorView{
		Version: "1.2.3", Kiosk: 7, Started: time.Now().Add(-3 * time.Hour), Clock: true, Free: 9 << 30, Audit: 4711, Serving: true,
		Counts: map[txn.State]int{},
	}}
}

// Set changes what a look sees.
func (o *Operator) Set(change func(*ui.OperatorView)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.view)
}

// Fail lets every login and order end with an error from now on; nil ends that.
func (o *Operator) Fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

// Log is what was recorded, one line each.
func (o *Operator) Log() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{}, o.log...)
}

// Login implements ui.Operator.
func (o *Operator) Login(_ context.Context, id string, code *secret.Value) (ui.OperatorLogin, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.fail != nil:
		return ui.OperatorLogin{}, o.fail
	case id != o.id || string(code.Bytes()) != o.code:
		return ui.OperatorLogin{}, ui.ErrOperatorWrong
	}
	o.log = append(o.log, "login "+id)
	return ui.OperatorLogin{Method: "totp", Recovery: 10}, nil
}

// Look implements ui.Operator.
func (o *Operator) Look(context.Context) *ui.OperatorView {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.view
	v.Rows = append([]ui.OperatorRow{}, v.Rows...)
	return &v
}

// Do implements ui.Operator.
func (o *Operator) Do(_ context.Context, d ui.OperatorOrder) (txn.State, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return "", o.fail
	}
	o.log = append(o.log, fmt.Sprintf("%s %s by %s: %s", d.Act, d.Object, d.Who, d.Why))
	if d.As != "" {
		o.view.Rows = slices.DeleteFunc(slices.Clone(o.view.Rows), func(r ui.OperatorRow) bool { return r.ID == d.Object })
	}
	return d.As, nil
}

// Logout implements ui.Operator.
func (o *Operator) Logout(_ context.Context, id, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = append(o.log, "logout "+id+": "+why)
}
