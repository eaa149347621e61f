package ui

import (
	"context"
	"errors"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Taker takes requests.
type Taker interface {
	// Accept stores a request and returns it. The same Key with the same content
	// returns the request that is already there. Errors: *txn.FieldError,
	// txn.ErrUnknownOperation, txn.ErrDisabled, *txn.OpenError, *txn.CooldownError,
	// *txn.LimitError, txn.ErrOffline, txn.ErrFull, txn.ErrKeyConflict,
	// txn.ErrStopped: nothing was stored. txn.ErrStoreUnknown: ask again with the
	// same Key. The taker makes its own copy of New.Secret.
	Accept(ctx context.Context, n txn.New) (*txn.Request, error)
	// Preview has the same errors and stores nothing.
	Preview(ctx context.Context, op txn.Operation, fields map[string]string) error
	// Unresolved is the id of the customer's earlier request for the operation whose
	// result nobody could find out, or empty. It must not wait for a disk.
	Unresolved(op txn.Operation, fields map[string]string) string
	// Verify has the provider confirm what was entered, where the policy demands it
	// (CardVerify), and returns the proof for New.VerifiedBy. It has the errors of
	// Preview, and *txn.VerifyError for anything but a yes. It stores nothing.
	Verify(ctx context.Context, op txn.Operation, fields map[string]string) (proof string, err error)
}

// Follower goes on with a request that is there.
type Follower interface {
	// Supply brings the one-time password. Errors: *txn.FieldError, txn.ErrTooLate,
	// txn.ErrStoreUnknown (supply it again). It makes its own copy of otp.
	Supply(ctx context.Context, id string, otp *secret.Value) (*txn.Request, error)
	// Cancel withdraws a request of which nothing was sent, else txn.ErrTooLate.
	Cancel(ctx context.Context, id string, why txn.Reason) (*txn.Request, error)
	// Get reads a request.
	Get(ctx context.Context, id string) (*txn.Request, error)
}

// Finisher brings what a binding or an unbinding still needs.
type Finisher interface {
	// Redeem brings the code that the customer's own page ended with. Errors:
	// *txn.FieldError, txn.ErrTooLate, txn.ErrCodeRefused, txn.ErrCodeUnspent,
	// txn.ErrCodeUnproved, txn.ErrStoreUnknown. code stays the caller's.
	Redeem(ctx context.Context, id string, code *secret.Value) (*txn.Request, error)
	// Renew ends a request that waits for a one-time password, and makes a new one of
	// the same content under key, which brings another password. Errors: txn.ErrTooLate,
	// txn.ErrStoreUnknown, and those of Accept.
	Renew(ctx context.Context, id, key string) (*txn.Request, error)
}

// Teller says what can be asked for and how the links stand. It must not wait
// for a disk or a token.
type Teller interface {
	Policies() []txn.Policy
	Links() []txn.Link
}

// Engine is the agent's engine as the screen sees it. It must call
// Server.RequestChanged for one request in the order of its changes.
type Engine interface {
	Taker
	Follower
	Finisher
	Teller
}

// The bounds of a staff code, in digits.
const (
	StaffCodeMin = 8
	StaffCodeMax = 12
)

// ErrStaffLocked says that no staff code is taken for a while, right or wrong.
var ErrStaffLocked = errors.New("staff codes are closed after too many wrong ones")

// StaffVerifier checks the code by which branch staff confirm a card and a person.
type StaffVerifier interface {
	// VerifyStaff returns the staff id of a code, or an error, of which ErrStaffLocked
	// says that trying on is of no use. The code is the caller's, who wipes it.
	VerifyStaff(ctx context.Context, code *secret.Value) (staffID string, err error)
}

// Health says whether the kiosk can serve, and if not, why.
type Health struct {
	OK     bool
	Reason string // a key below "OUT_OF_SERVICE.reason.": token_absent, token_locked, journal, configuration, …
	Hint   string // one sentence for staff; no secret, no customer data
}

// Errors of New and Serve.
var (
	// ErrNotLoopback: the address is not 127.0.0.1 with a port.
	ErrNotLoopback = errors.New("the screen is served on 127.0.0.1 only; give an address such as 127.0.0.1:8080")
	// ErrBrand: the name shown on the screen is missing or too long.
	ErrBrand = errors.New("the brand must have 1 to 40 characters")
	// ErrPxPerMM: the scale of the screen is out of bounds.
	ErrPxPerMM = errors.New("px_per_mm must be between 1 and 20; measure the screen and divide its width in pixels by its width in millimetres")
)
