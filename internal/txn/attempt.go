package txn

import (
	"strings"
	"time"
)

// Bounds of what a record keeps, so that it always fits into the journal: one
// that does not could not even be ended.
const (
	maxAttempts  = 40
	maxCode      = 32
	maxText      = 200
	maxDataItem  = 10 << 10
	maxDataItems = 16
)

// note puts what an answer says into the record.
func note(r *Request, a *Answer, now time.Time) {
	a.Code, a.Text = clip(a.Code, maxCode), clip(a.Text, maxText)
	at := r.Last()
	at.Ended, at.Outcome, at.Reason, at.Code = now, a.Outcome, a.Reason, a.Code
	r.Code = a.Code
	for k, v := range a.Data {
		r.keep(k, v)
	}
	if a.Text != "" {
		r.keep(DataAnswerText, a.Text)
	}
	if until := now.Add(a.Cooldown); a.Cooldown > 0 && until.After(r.Cooldown) {
		r.Cooldown = until // a shorter one does not end what an earlier answer began
	}
	r.trim()
}

// clip cuts s to n bytes, whole characters only.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// keep stores a value of an answer, or nothing of it where it is out of bounds.
func (r *Request) keep(key, value string) {
	if r.Data == nil {
		r.Data = map[string]string{}
	}
	if _, there := r.Data[key]; len(value) <= maxDataItem && (there || len(r.Data) < maxDataItems) {
		r.Data[key] = value
	}
}

// trim leaves out the oldest attempts but the first that certainly were not sent.
// Their audit records stay.
func (r *Request) trim() {
	for i := 1; i < len(r.Attempts)-1 && len(r.Attempts) > maxAttempts; {
		if r.Attempts[i].Outcome != NotSent {
			i++
			continue
		}
		r.Attempts = append(r.Attempts[:i], r.Attempts[i+1:]...)
		r.Omitted++
	}
}

// mayHaveArrived reports whether the call may have had its effect. One that has
// not ended may.
func (a *Attempt) mayHaveArrived() bool { return a.Outcome != NotSent && a.Outcome != WasRejected }

// mayHaveArrived reports whether one of the first n attempts, of the present step,
// may have had its effect.
func (r *Request) mayHaveArrived(n int) bool {
	for i := range max(n, 0) {
		if at := &r.Attempts[i]; at.Step == r.Step && at.mayHaveArrived() {
			return true
		}
	}
	return false
}

// MayHaveBeenSent reports whether a call of the present step may have had its
// effect. Such a request is never expired, cancelled or superseded.
func (r *Request) MayHaveBeenSent() bool { return r.mayHaveArrived(len(r.Attempts)) }

// EverSent reports whether the provider may have seen any call of the request.
func (r *Request) EverSent() bool {
	for i := range r.Attempts {
		if r.Attempts[i].Outcome != NotSent {
			return true
		}
	}
	return false
}

// triedAgain reports whether mending has been tried before the last attempt
// already, for the same reason or twice for others: what was mended did not help,
// so this is a failure like any other and not a reason for a loop.
func (r *Request) triedAgain() bool {
	last := r.Last()
	row := 0
	for i := len(r.Attempts) - 2; i >= 0; i-- {
		prev := &r.Attempts[i]
		if prev.Step != last.Step || prev.Outcome != NotSent {
			return false
		}
		if row++; prev.Reason == last.Reason && row == 1 {
			return true
		}
		if prev.Reason != ReasonTokenInvalid && prev.Reason != ReasonClockCorrected {
			return false
		}
		if row == 2 {
			return true
		}
	}
	return false
}

// OTPTriesLeft is how many one-time passwords the customer may still bring, by our
// own limit; the provider may have a lower one.
func (r *Request) OTPTriesLeft() int { return max(0, maxOTPTries-r.otpTries()) }

// otpTries is how many one-time passwords of the present step were refused.
func (r *Request) otpTries() int {
	n := 0
	for i := range r.Attempts {
		if r.Attempts[i].Step == r.Step && r.Attempts[i].Outcome == WasRejected {
			n++
		}
	}
	return n
}
