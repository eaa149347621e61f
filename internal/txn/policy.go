package txn

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Policy is what an operation may and must do, from the configuration. The
// defaults stand in docs/providers.md under "What may wait, and how long".
type Policy struct {
	Operation Operation
	Provider  string // the provider's name, the unit of link state and breaker
	Enabled   bool
	Why       string // where not Enabled: one sentence for the operator, with what to do

	Fields   []Field // what the customer enters, in the order of entry
	Secret   *Field  // the secret of the first step, or nil
	OTP      *Field  // the secret of the second step, or nil
	Code     *Field  // the code that the customer's page ends with, or nil; any visible character
	Identity string  // the field that names the customer
	// StaffVerify: nothing is accepted without the id of the member of staff who
	// confirmed the card and the person (New.VerifiedBy).
	StaffVerify bool
	// CardVerify: nothing is accepted that the provider has not confirmed just before
	// (Engine.Verify).
	CardVerify bool

	Wait          time.Duration // how long a request may wait to be sent
	HoldOffline   bool          // false: without a link it is refused and its secret never stored
	Readback      bool          // the provider can be asked what became of it
	ReadbackEvery time.Duration // between read-backs while the customer finishes a page
	Quiet         time.Duration // "not there" counts only this long after the last call
	Settle        time.Duration // a doubt older than this is unresolved
	// NotThere is where a doubt ends when read-back says, after the quiet time,
	// that the effect is not there: Rejected (reset, second call) or Expired (a
	// first call that changes nothing by itself).
	NotThere State
	// Repeats is how often a doubt that no read-back can settle is repeated by itself,
	// after Quiet, with the same partner reference and external id, on the same WIB
	// day and before it expires. 0, the default: never. Only for a provider that documents that it knows
	// such a repeat. An operator may repeat by hand where it is not 0.
	Repeats  int
	ShortRef bool // the reference has 14 letters and digits instead of 32 digits
}

// Field says what may stand in one field. Every value is ASCII letters, digits
// and at most "_", "-" and ".", so that every JSON minifier agrees on it.
type Field struct {
	Name   string // the provider's field name
	Min    int    // characters
	Max    int
	Digits bool   // digits only
	Prefix string // must begin so; "" for any
}

// Rule names what is wrong with a field.
type Rule string

// The rules a value can break.
const (
	RuleMissing Rule = "missing"
	RuleShort   Rule = "too_short"
	RuleLong    Rule = "too_long"
	RuleDigits  Rule = "digits_only"
	RulePrefix  Rule = "prefix"
	RuleChars   Rule = "characters"
	RuleUnknown Rule = "unknown_field"
)

// FieldError says which field broke which rule. It never holds the value.
type FieldError struct {
	Field Field
	Rule  Rule
}

// Error is one sentence with what to do.
func (e *FieldError) Error() string {
	n := e.Field.Name
	switch e.Rule {
	case RuleMissing:
		return fmt.Sprintf("field %s is missing; enter it", n)
	case RuleShort:
		return fmt.Sprintf("field %s is too short; enter at least %d characters", n, e.Field.Min)
	case RuleLong:
		return fmt.Sprintf("field %s is too long; enter at most %d characters", n, e.Field.Max)
	case RuleDigits:
		return fmt.Sprintf("field %s takes digits only", n)
	case RulePrefix:
		return fmt.Sprintf("field %s must begin with %s", n, e.Field.Prefix)
	case RuleChars:
		return fmt.Sprintf("field %s takes letters, digits, '_', '-' and '.' only", n)
	case RuleUnknown:
		return fmt.Sprintf("field %s does not belong to this operation; leave it out", n)
	}
	return fmt.Sprintf("field %s is not valid", n)
}

// Check holds a value against the field. The error is a *FieldError.
func (f Field) Check(v []byte) error {
	switch {
	case len(v) == 0 && f.Min > 0:
		return &FieldError{f, RuleMissing}
	case f.Digits && !only(v, isDigit):
		return &FieldError{f, RuleDigits}
	case !only(v, isPlain):
		return &FieldError{f, RuleChars}
	case f.Prefix != "" && !strings.HasPrefix(string(v[:min(len(v), len(f.Prefix))]), f.Prefix):
		return &FieldError{f, RulePrefix}
	case len(v) < f.Min:
		return &FieldError{f, RuleShort}
	case len(v) > f.Max:
		return &FieldError{f, RuleLong}
	}
	return nil
}

func only(v []byte, ok func(byte) bool) bool {
	for _, c := range v {
		if !ok(c) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isPlain(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.'
}

// CheckFields holds what was entered against the policy's fields.
func (p *Policy) CheckFields(fields map[string]string) error {
	for _, f := range p.Fields {
		v, ok := fields[f.Name]
		if !ok {
			return &FieldError{f, RuleMissing}
		}
		if err := f.Check([]byte(v)); err != nil {
			return err
		}
	}
	if len(fields) == len(p.Fields) {
		return nil
	}
	for n := range fields {
		if !p.has(n) {
			return &FieldError{Field{Name: n}, RuleUnknown}
		}
	}
	return nil
}

func (p *Policy) has(name string) bool {
	for _, f := range p.Fields {
		if f.Name == name {
			return true
		}
	}
	return false
}

// Customer is who the request is for: the provider's name and the identifying field.
func (p *Policy) Customer(fields map[string]string) string {
	return p.Provider + ":" + fields[p.Identity]
}

// Why a request is not accepted. Nothing was stored in any of these cases.
var (
	ErrUnknownOperation = errors.New("this kiosk does not know that operation")
	ErrDisabled         = errors.New("this operation is switched off")
	ErrOffline          = errors.New("this operation may not wait for the link, and the link is down")
	ErrKeyConflict      = errors.New("this request key was used for something else")
	ErrTooLate          = errors.New("this can no longer be done to the request")
	ErrStopped          = errors.New("the engine is stopping")
	ErrUnverified       = errors.New("nobody has confirmed the card and the person")
	ErrNotStored        = errors.New("the journal did not take the request; nothing was stored")
	ErrNoKey            = errors.New("the request has no key; give each request a key of its own, so that it can be asked for again")
)

// OpenError says that the customer has an open request for this operation that may have
// been sent, or waits for the customer. It is to be shown, not repeated.
type OpenError struct{ Request *Request }

func (e *OpenError) Error() string {
	return "an earlier request of this customer is still open; show that one"
}

// CooldownError says that the customer asked too recently.
type CooldownError struct {
	Until   time.Time
	Refused bool // the provider refused that earlier request
}

func (e *CooldownError) Error() string {
	return "this customer asked too recently; wait until " + e.Until.Format(time.RFC3339)
}

// LimitError says that there were more requests in the last hour than allowed.
type LimitError struct {
	Scope string    // "customer" or "kiosk"
	Until time.Time // when the oldest of them is an hour old
}

func (e *LimitError) Error() string {
	return "too many requests by this " + e.Scope + " in one hour; wait until " + e.Until.Format(time.RFC3339)
}
