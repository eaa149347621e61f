package upstream

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind names a fault.
type Kind string

// Faults of the connection. They take no operation, and all but KindTLSBroken hold until cleared.
const (
	// KindDown closes the listener and every connection: connection refused.
	KindDown Kind = "down"
	// KindTLSBroken shows a certificate from an unknown authority, for Times handshakes.
	KindTLSBroken Kind = "tls_broken"
	// KindClockSkew puts the platform's clock SkewSeconds ahead (negative: behind).
	KindClockSkew Kind = "clock_skew"
	// KindSingleActiveToken makes each new access token end the client's older ones.
	KindSingleActiveToken Kind = "single_active_token"
	// KindExpireTokens ends every access token issued so far. It is over at once and cannot be cleared.
	KindExpireTokens Kind = "expire_tokens"
	// KindExpireCustomerTokens ends the access tokens of customers (B2B2C) alone. It is over at once too.
	KindExpireCustomerTokens Kind = "expire_customer_tokens"
)

// Faults of an exchange.
const (
	// KindBreakAtByte resets the connection after Byte bytes of the request (counted in the clear, header included).
	KindBreakAtByte Kind = "break_at_byte"
	// KindSlow waits DelayMS before the answer; it goes together with any other fault. With Effect false it waits before it does what
	// was asked, and then does it even if the client has left: that is how a request shows up after an inquiry did not find it.
	KindSlow Kind = "slow"
	// KindHang reads the request and never answers; without effect unless Effect says so.
	KindHang Kind = "hang"
	// KindStatus answers Status and Code instead of doing anything.
	KindStatus Kind = "status"
	// KindAnswerAfterEffect does what was asked and answers Status and Code.
	KindAnswerAfterEffect Kind = "answer_after_effect"
	// KindBreakBeforeEffect reads the whole request and closes the connection (with a TCP reset if RST).
	KindBreakBeforeEffect Kind = "break_before_effect"
	// KindBreakAfterEffect does what was asked and closes the connection (with a TCP reset if RST).
	KindBreakAfterEffect Kind = "break_after_effect"
	// KindGarbage answers 200 with a body that is not JSON; with effect unless Effect says otherwise.
	KindGarbage Kind = "garbage"
	// KindTruncated answers half of the body it announced; with effect unless Effect says otherwise.
	KindTruncated Kind = "truncated"
	// KindHuge answers 200 with a body that does not end; with effect unless Effect says otherwise.
	KindHuge Kind = "huge"
	// KindThrottle answers 429 with Retry-After, without effect.
	KindThrottle Kind = "throttle"
	// KindWrongEcho does what was asked and answers with another request's references, where the operation echoes any.
	KindWrongEcho Kind = "wrong_echo"
	// KindRedirect answers 307 to Location (the same address by default), without effect.
	KindRedirect Kind = "redirect"
)

// Fault is a disturbance to order. Unused fields stay zero.
type Fault struct {
	// Provider is finpay, netzme or prepaid.
	Provider string `json:"provider"`
	// Operation is "" for all transactions but no token exchange, "*" for everything, or a name as in the ledger. A number after the
	// name picks one call of two: "finpay.unbind.2".
	Operation string `json:"operation,omitempty"`
	Kind      Kind   `json:"kind"`
	// Times is how many exchanges (handshakes for tls_broken) are hit; 0 is until cleared.
	Times int `json:"times,omitempty"`
	// Effect says, for hang, garbage, truncated, huge and slow, whether the request is carried out first.
	Effect *bool `json:"effect,omitempty"`
	// Status is an HTTP status, for status and answer_after_effect.
	Status int `json:"status,omitempty"`
	// Code goes with Status: seven digits, or the two of the case, from which a SNAP code is made; a prepaid response code ("": SNAP
	// case 00, prepaid none).
	Code string `json:"code,omitempty"`
	// DelayMS is in milliseconds.
	DelayMS int `json:"delay_ms,omitempty"`
	// Byte counts from 1.
	Byte int `json:"byte,omitempty"`
	// RetryAfterSeconds of throttle; 0 sends no such header.
	RetryAfterSeconds int    `json:"retry_after_seconds,omitempty"`
	Location          string `json:"location,omitempty"`
	RST               bool   `json:"rst,omitempty"`
	SkewSeconds       int    `json:"skew_seconds,omitempty"`

	// released is closed when the platform's faults are cleared.
	released <-chan struct{}
}

// ActiveFault is a fault that still hits.
type ActiveFault struct {
	ID int `json:"id"`
	Fault
	// Left counts down from Times; -1 is until cleared.
	Left int `json:"left"`
}

func (f Fault) ofConnection() bool {
	switch f.Kind {
	case KindDown, KindTLSBroken, KindClockSkew, KindSingleActiveToken, KindExpireTokens, KindExpireCustomerTokens:
		return true
	default:
		return false
	}
}

// afterEffect reports whether the request is checked and carried out before the fault shows.
func (f Fault) afterEffect() bool {
	switch f.Kind {
	case KindAnswerAfterEffect, KindBreakAfterEffect, KindWrongEcho:
		return true
	case KindGarbage, KindTruncated, KindHuge:
		return f.Effect == nil || *f.Effect
	case KindHang:
		return f.Effect != nil && *f.Effect
	default:
		return false
	}
}

// check refuses what could not do what its author means.
func (f Fault) check() error {
	switch f.Kind {
	case KindDown, KindClockSkew, KindSingleActiveToken, KindExpireTokens, KindExpireCustomerTokens:
		if f.Times != 0 {
			return fmt.Errorf("times: %s cannot be counted in exchanges, leave it out and clear the fault", f.Kind)
		}
	case KindSlow:
		if f.DelayMS <= 0 {
			return errors.New("delay_ms: slow needs a number of milliseconds above 0")
		}
	case KindStatus, KindAnswerAfterEffect:
		if f.Status < 200 || f.Status > 599 {
			return fmt.Errorf("status: %d is not an HTTP status from 200 to 599", f.Status)
		}
	case KindBreakAtByte:
		if f.Byte < 1 {
			return errors.New("byte: break_at_byte needs a number of bytes above 0")
		}
		if stepOf(f.Operation) != "" {
			return errors.New("operation: break_at_byte cannot tell two calls to the same path apart")
		}
	case KindTLSBroken, KindHang, KindBreakBeforeEffect, KindBreakAfterEffect, KindGarbage, KindTruncated, KindHuge, KindThrottle,
		KindWrongEcho, KindRedirect:
	default:
		return fmt.Errorf("kind: there is no fault %q", f.Kind)
	}
	if f.Times < 0 {
		return errors.New("times: it must not be negative")
	}
	if f.ofConnection() && f.Operation != "" {
		return fmt.Errorf("operation: %s hits the whole platform, leave it out", f.Kind)
	}
	return nil
}

// stepOf returns "1" or "2" for a name like finpay.unbind.2.
func stepOf(operation string) string {
	parts := strings.Split(operation, ".")
	if len(parts) == 3 {
		return parts[2]
	}
	return ""
}

func (f Fault) hits(operation, step string) bool {
	switch f.Operation {
	case "*":
		return true
	case "":
		return !strings.HasSuffix(operation, "token")
	}
	return f.Operation == operation || step != "" && f.Operation == operation+"."+step
}

// faultSet holds one platform's faults.
type faultSet struct {
	any atomic.Bool // false lets an exchange pass without the lock
	mu  sync.Mutex  // guards everything below
	seq int
	set []*ActiveFault
	// released is closed and replaced when faults are cleared, so that what hangs lets go.
	released chan struct{}
}

func newFaultSet() *faultSet { return &faultSet{released: make(chan struct{})} }

func (s *faultSet) add(f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	left := f.Times
	if left == 0 {
		left = -1
	}
	s.set = append(s.set, &ActiveFault{ID: s.seq, Fault: f, Left: left})
	s.any.Store(true)
	return s.seq
}

// take counts down and returns the oldest fault that match accepts.
func (s *faultSet) take(match func(Fault) bool) (Fault, bool) {
	if !s.any.Load() {
		return Fault{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.set {
		if !match(f.Fault) {
			continue
		}
		if f.Left > 0 {
			f.Left--
		}
		if f.Left == 0 {
			s.set = append(s.set[:i:i], s.set[i+1:]...)
			s.any.Store(len(s.set) > 0)
		}
		taken := f.Fault
		taken.released = s.released
		return taken, true
	}
	return Fault{}, false
}

// clear removes the faults that match accepts and lets everything that hangs go.
func (s *faultSet) clear(match func(ActiveFault) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []*ActiveFault
	for _, f := range s.set {
		if !match(*f) {
			kept = append(kept, f)
		}
	}
	s.set = kept
	s.any.Store(len(kept) > 0)
	close(s.released)
	s.released = make(chan struct{})
}

func (s *faultSet) list() []ActiveFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ActiveFault, 0, len(s.set))
	for _, f := range s.set {
		out = append(out, *f)
	}
	return out
}

// find returns the newest fault of a kind that holds.
func (s *faultSet) find(kind Kind) (Fault, bool) {
	if !s.any.Load() {
		return Fault{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.set) - 1; i >= 0; i-- {
		if s.set[i].Kind == kind {
			return s.set[i].Fault, true
		}
	}
	return Fault{}, false
}
