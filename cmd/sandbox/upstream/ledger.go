package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"
)

// Stage is how far an exchange got. The later stages include the earlier ones.
type Stage string

// The stages in their order. Exchange.Effect, not the stage, says whether something happened: a refusal is answered too.
const (
	StageConnected Stage = "connected" // no complete header came
	StageHeaders   Stage = "headers"   // the body has not come whole
	StageBody      Stage = "body"      // nothing was done so far
	StageEffect    Stage = "effect"    // the platform did what was asked and has not answered, or not completely
	StageAnswered  Stage = "answered"
)

// Exchange is one HTTP request as the platform saw it, or a connection on which none arrived.
type Exchange struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Conn      int64     `json:"conn"`
	Provider  string    `json:"provider"`
	Operation string    `json:"operation,omitempty"`
	// Step is 1 or 2 where an operation has two calls.
	Step   int    `json:"step,omitempty"`
	Method string `json:"method,omitempty"`
	// Path is without the query, which may hold a token.
	Path  string `json:"path,omitempty"`
	Stage Stage  `json:"stage"`
	// Effect says whether the platform did what was asked, whatever became of the answer.
	Effect bool `json:"effect"`
	// Status and Code are what was answered; zero and "" if nothing was.
	Status     int    `json:"status,omitempty"`
	Code       string `json:"code,omitempty"`
	Client     string `json:"client,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	// Reference is the partner reference, clientTxnId or reference number in the request.
	Reference string `json:"reference,omitempty"`
	// Subject is the customer: phone, custIdMerchant or customerId.
	Subject string `json:"subject,omitempty"`
	// Fault is the kind of the fault that was applied.
	Fault string `json:"fault,omitempty"`
	Note  string `json:"note,omitempty"`
}

// Effect is something that happened to a customer, counted by its identity.
type Effect struct {
	Provider  string `json:"provider"`
	Operation string `json:"operation"`
	// Identity is the partner reference (finpay.reset_pin, netzme.forgot_pin), the clientTxnId (prepaid.reset_pin), the external id
	// (finpay.bind, finpay.unbind.1), the reference number (finpay.unbind.2) or the link id (finpay.link).
	Identity    string    `json:"identity"`
	Subject     string    `json:"subject"`
	Count       int       `json:"count"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	ExternalIDs []string  `json:"external_ids,omitempty"` // of the first 16
	// PINDigest is lower-case hexadecimal sha256(salt||pin) of the last PIN that was set.
	PINDigest string `json:"pin_digest,omitempty"`
}

// Violation is one rule broken by a client.
type Violation struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Exchange  int64     `json:"exchange"`
	Provider  string    `json:"provider"`
	Operation string    `json:"operation,omitempty"`
	Text      string    `json:"text"`
}

// maxViolations is small because one is already a failure.
const maxViolations = 10_000

type effectKey struct{ operation, identity string }

// ledger remembers what happened.
type ledger struct {
	mu         sync.Mutex // guards everything below
	limit      int
	exchanges  []*Exchange // a ring once it has limit entries
	next       int         // where the ring is written
	seq        int64
	effects    *bounded[effectKey, *Effect]
	violations []Violation
	violated   int64
}

func newLedger(limit int) *ledger {
	return &ledger{limit: limit, effects: newBounded[effectKey, *Effect](limit)}
}

// open adds an exchange and returns the pointer to give to update.
func (l *ledger) open(e Exchange) *Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e.Seq = l.seq
	p := &e
	if len(l.exchanges) < l.limit {
		l.exchanges = append(l.exchanges, p)
	} else {
		l.exchanges[l.next] = p
		l.next = (l.next + 1) % l.limit
	}
	return p
}

func (l *ledger) update(e *Exchange, change func(*Exchange)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(e)
}

func (l *ledger) effect(e Effect, now time.Time, externalID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := effectKey{e.Operation, e.Identity}
	known, ok := l.effects.get(key)
	if !ok {
		e.First = now
		known = &e
		l.effects.put(key, known)
	}
	known.Count++
	known.Last = now
	if e.PINDigest != "" {
		known.PINDigest = e.PINDigest
	}
	if externalID != "" && len(known.ExternalIDs) < 16 {
		known.ExternalIDs = append(known.ExternalIDs, externalID)
	}
}

func (l *ledger) violation(v Violation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violated++
	v.Seq = l.violated
	if len(l.violations) < maxViolations {
		l.violations = append(l.violations, v)
	}
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.exchanges, l.next, l.violations, l.violated = nil, 0, nil, 0
	l.effects = newBounded[effectKey, *Effect](l.limit)
}

// snapshot copies the exchanges with a sequence number above since, oldest first.
func (l *ledger) snapshot(since int64) []Exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Exchange, 0, len(l.exchanges))
	for i := range l.exchanges {
		e := l.exchanges[(l.next+i)%len(l.exchanges)]
		if e.Seq > since {
			out = append(out, *e)
		}
	}
	return out
}

func (l *ledger) effectList() []Effect {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Effect, 0, len(l.effects.values))
	l.effects.each(func(_ effectKey, e *Effect) {
		own := *e
		own.ExternalIDs = append([]string(nil), e.ExternalIDs...)
		out = append(out, own)
	})
	return out
}

func (l *ledger) violationList() []Violation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Violation{}, l.violations...)
}

// PINDigest is what an effect keeps of a PIN: lower-case hexadecimal sha256(salt||pin).
func PINDigest(salt string, pin []byte) string {
	h := sha256.New()
	h.Write([]byte(salt))
	h.Write(pin)
	return hex.EncodeToString(h.Sum(nil))
}
