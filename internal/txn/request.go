package txn

import (
	"time"
)

// Operation names one thing a customer can ask for. The names are stored and
// spoken on the screen's protocol.
type Operation string

// The operations, named as in docs/providers.md.
const (
	FinpayResetPIN  Operation = "finpay.reset_pin"
	FinpayBind      Operation = "finpay.bind"
	FinpayUnbind    Operation = "finpay.unbind"
	NetzmeForgotPIN Operation = "netzme.forgot_pin"
	PrepaidResetPIN Operation = "prepaid.reset_pin"
)

// State is where a request stands. The values are stored and shown.
type State string

// The states. Succeeded, Rejected, Expired and Cancelled are final; Unresolved
// waits for an operator and no longer blocks its customer.
const (
	Queued     State = "queued"     // on disk, nothing sent yet for this step
	Sending    State = "sending"    // an attempt is on disk and may be on the wire
	Pending    State = "pending"    // the provider, or the customer, has something left to do
	InDoubt    State = "in_doubt"   // it was sent; the result is not known
	Succeeded  State = "succeeded"  // the provider says done (or accepted, where nothing more can be known)
	Rejected   State = "rejected"   // the provider says no; nothing changed
	Expired    State = "expired"    // nothing was sent in time, or what was sent changes nothing by itself
	Cancelled  State = "cancelled"  // withdrawn before anything was sent
	Unresolved State = "unresolved" // a doubt that no read-back could settle; an operator closes it
)

// Open reports whether the engine still has something to do for the request.
func (s State) Open() bool {
	switch s {
	case Queued, Sending, Pending, InDoubt:
		return true
	case Succeeded, Rejected, Expired, Cancelled, Unresolved:
		return false
	}
	return false
}

// Final reports whether the state never changes again.
func (s State) Final() bool {
	switch s {
	case Succeeded, Rejected, Expired, Cancelled:
		return true
	case Queued, Sending, Pending, InDoubt, Unresolved:
		return false
	}
	return false
}

// Outcome is what is known of one attempt. The numbers are stored.
type Outcome uint8

// The outcomes. Zero means that the attempt has not ended.
const (
	// NotSent: it certainly had no effect and may be made again: not one byte
	// can have reached the provider, or the provider said that it did not
	// process the call (an invalid access token, a throttle).
	NotSent Outcome = 1
	// Unknown: the provider may have seen it, and nobody knows what it did.
	Unknown Outcome = 2
	// WentPending: the provider took it and has not finished, or waits for the customer.
	WentPending Outcome = 3
	// WasRejected: a definite no.
	WasRejected Outcome = 4
	// HasSucceeded: a definite yes.
	HasSucceeded Outcome = 5
)

// String names the outcome for logs and people.
func (o Outcome) String() string {
	switch o {
	case 0:
		return "unfinished"
	case NotSent:
		return "not_sent"
	case Unknown:
		return "unknown"
	case WentPending:
		return "pending"
	case WasRejected:
		return "rejected"
	case HasSucceeded:
		return "succeeded"
	}
	return "invalid"
}

// Await is what a pending request waits for from the customer.
type Await string

// What can be awaited. The empty value is nothing.
const (
	AwaitOTP  Await = "otp"  // a one-time password, by Engine.Supply
	AwaitLink Await = "link" // the customer's own page, seen by read-back
)

// SecretKind says which kind of secret a request holds. The secret itself is
// never part of a Request.
type SecretKind string

// The kinds. The empty value is none.
const (
	SecretPIN SecretKind = "pin"
	SecretOTP SecretKind = "otp"
)

// Request is one thing one customer asked for, with everything that happened to
// it. It is stored whole, sealed, and rewritten at each transition.
//
// A Request handed out by the Engine or a Store is the caller's own copy.
type Request struct {
	ID        string            `json:"id"`                  // 26 characters, ours, never sent to a provider
	Seq       uint64            `json:"seq"`                 // place in the journal, given by the Store
	Key       string            `json:"key"`                 // the asker's idempotency key
	Content   string            `json:"content"`             // hex SHA-256 of operation and fields, to tell a repeat from a clash
	Operation Operation         `json:"operation"`           //
	Customer  string            `json:"customer"`            // "provider:identifier": order, limits and cooldowns go by it
	Fields    map[string]string `json:"fields"`              // what the customer entered, checked; no secret
	Reference string            `json:"reference"`           // the partner reference; never changes over the request's life
	Created   time.Time         `json:"created"`             //
	Expires   time.Time         `json:"expires"`             // after this it is not sent any more
	State     State             `json:"state"`               //
	Reason    Reason            `json:"reason,omitzero"`     // why it is in this state; may be empty
	Code      string            `json:"code,omitzero"`       // the provider's own code of the last answer; may be empty
	Step      int               `json:"step"`                // the call to make next or under way, from 1
	Await     Await             `json:"await,omitzero"`      // what a pending request waits for
	AwaitTill time.Time         `json:"await_till,omitzero"` // and until when
	NotBefore time.Time         `json:"not_before,omitzero"` // the next attempt or read-back is not due before
	DoubtFrom time.Time         `json:"doubt_from,omitzero"` // when the present doubt (or provider's pending) began
	Tries     int               `json:"tries,omitzero"`      // failures in a row of the present kind, for backoff
	Secret    SecretKind        `json:"secret,omitzero"`     // a secret is held for the next attempt
	Attempts  []Attempt         `json:"attempts,omitzero"`   // in order; all that may have been sent, and some that certainly were not
	Omitted   int               `json:"omitted,omitzero"`    // how many that certainly were not sent are left out
	Data      map[string]string `json:"data,omitzero"`       // what answers gave and later steps or the screen need
	Closed    time.Time         `json:"closed,omitzero"`     // when it reached a state that is not open
	Cooldown  time.Time         `json:"cooldown,omitzero"`   // this customer may not ask for this operation before
	Note      string            `json:"note,omitzero"`       // an operator's reason, when one decided
	NoteBy    string            `json:"note_by,omitzero"`    // and who that was
	Undated   bool              `json:"undated,omitzero"`    // it was written when nobody knew for how long the machine had been off: its times may lie further back
	At        Reading           `json:"at"`                  // the clocks at the last writing; the other times are by its wall clock
}

// Attempt is one call to a provider. It is stored before its first byte leaves.
type Attempt struct {
	Step       int       `json:"step"`        // which call of the operation
	Serial     uint64    `json:"serial"`      // from the journal's counter, never used twice
	ExternalID string    `json:"external_id"` // 32 digits made from kiosk, journal and serial
	Began      time.Time `json:"began"`
	Ended      time.Time `json:"ended,omitzero"` // zero while under way
	Outcome    Outcome   `json:"outcome,omitzero"`
	Reason     Reason    `json:"reason,omitzero"`
	Code       string    `json:"code,omitzero"`    // the provider's code, verbatim but bounded
	Repeat     bool      `json:"repeat,omitempty"` // a guarded repeat: the external id is that of the attempt before
}

// The keys of Request.Data that the engine, providers and the screen share.
const (
	DataReferenceNo = "reference_no" // the provider's reference for a second call
	DataLinkURL     = "link_url"     // the customer's page; shown as a QR code, never logged
	DataLinkDomain  = "link_domain"  // its host, to be shown in words
	DataVerifiedBy  = "verified_by"  // staff id or the number of the provider's confirmation
	DataAnswerText  = "answer_text"  // the provider's message, for operators only
)

// Last returns the newest attempt, or nil.
func (r *Request) Last() *Attempt {
	if len(r.Attempts) == 0 {
		return nil
	}
	return &r.Attempts[len(r.Attempts)-1]
}

// Clone returns a copy that shares nothing with r.
func (r *Request) Clone() *Request {
	c := *r
	c.Fields = cloneMap(r.Fields)
	c.Data = cloneMap(r.Data)
	c.Attempts = append([]Attempt(nil), r.Attempts...)
	return &c
}

func cloneMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	c := make(map[string]string, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
