package ui

import (
	"context"
	"errors"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Operator is what the operator screen works with. Login, Look and Do may wait for a
// disk or a provider: the desk calls them beside its loop.
type Operator interface {
	// Login recognises an operator, uses the code up and has it recorded. Errors:
	// ErrOperatorWrong, ErrOperatorLocked; any other means that it could not be written
	// down, and nobody is let in. The code stays the caller's.
	Login(ctx context.Context, id string, code *secret.Value) (OperatorLogin, error)
	// Look says how the kiosk is. No customer's data is in it.
	Look(ctx context.Context) *OperatorView
	// Do carries an order out and has it recorded, or returns an error, whose Hint,
	// where it has one, the screen shows. It returns the request's state, where the
	// order was about one.
	Do(ctx context.Context, o OperatorOrder) (txn.State, error)
	// Logout records the end of what Login began. It keeps no caller waiting for long,
	// also where ctx has ended.
	Logout(ctx context.Context, id, why string)
}

// Errors of Operator.Login.
var (
	ErrOperatorWrong  = errors.New("this id and code do not belong together")
	ErrOperatorLocked = errors.New("no operator code is taken for a while")
)

// The bounds of what an operator types.
const (
	operatorIDMax   = 32 // digits of an id
	operatorCodeMin = 6  // digits of a one-time password
	operatorCodeMax = 11 // of a recovery code, in two groups
	operatorNoteMax = 40 // letters and digits beside the evidence
)

// OperatorLogin is who was let in.
type OperatorLogin struct {
	Method   string // "totp" or "recovery"
	Recovery int    // recovery codes that are left
}

// OperatorView is how the kiosk is, for those who look after it.
type OperatorView struct {
	Version string
	Kiosk   uint32
	Started time.Time // of the agent
	Token   string    // empty where it works, else a key below "OUT_OF_SERVICE.reason."
	Clock   bool      // a time service keeps the clock
	Free    int64     // bytes on the journal's disk
	Audit   uint64    // sequence number of the newest record; 0 where there is no record
	Serving bool      // the journal is open; else what follows is empty
	Full    bool      // a read of the journal did not come to its end
	Counts  map[txn.State]int
	Rows    []OperatorRow // what is not finished, and what nobody knows the end of
}

// OperatorRow is one request. There is nothing of the customer in it.
type OperatorRow struct {
	ID        string
	Operation txn.Operation // empty where the record does not open
	State     txn.State
	Reason    txn.Reason
	Code      string // the provider's
	Created   time.Time
	NextTry   time.Time
	Sent      bool // the provider may have seen it
	Waits     bool // for the customer
}

// The orders an operator gives at the screen.
const (
	OrderInquire = txn.ActInquire
	OrderRetry   = txn.ActRetry
	OrderCancel  = txn.ActCancel
	OrderResolve = txn.ActResolve
	OrderRelease = txn.ActRelease // of a provider
	OrderDrain   = "operator.drain"
	OrderServe   = "operator.serve"   // the end of a drain
	OrderRestart = "operator.restart" // of the agent
)

// OperatorOrder is one act, with who gives it and why.
type OperatorOrder struct {
	Who, Why string
	Act      string
	Object   string    // the request's id, or the provider
	As       txn.State // with OrderResolve
}
