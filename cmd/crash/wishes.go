package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// The operations, as docs/providers.md names them.
const (
	opReset   = "finpay.reset_pin"
	opBind    = "finpay.bind"
	opUnbind  = "finpay.unbind"
	opForgot  = "netzme.forgot_pin"
	opPrepaid = "prepaid.reset_pin"
)

var operations = []string{opReset, opBind, opUnbind, opForgot, opPrepaid}

// wishes makes requests of customers who each come once, so that what happened to
// a customer is what became of a request.
type wishes struct {
	dice   *dice
	prefix string // nine digits that every PIN of this round begins with
	n      int
}

// pinDigits is what the campaign's PINs have: so many that finding one somewhere
// is no accident.
const pinDigits = 12

func newWishes(dice *dice) *wishes {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return &wishes{dice: dice, prefix: fmt.Sprintf("%09d", binary.BigEndian.Uint64(b[:])%1_000_000_000)}
}

func (w *wishes) next() *request { return w.of(operations[w.dice.IntN(len(operations))]) }

func (w *wishes) of(op string) *request {
	w.n++
	// The last three digits tell the customers of a round apart where they are masked.
	r := &request{Key: fmt.Sprintf("crash-%s-%06d", w.prefix, w.n), Operation: op}
	switch op {
	case opForgot:
		r.Subject = fmt.Sprintf("M_crash%06d", w.n)
		r.Fields = map[string]string{"custIdMerchant": r.Subject}
	case opPrepaid:
		r.Subject = fmt.Sprintf("IN%014d", w.n)
		r.Fields = map[string]string{"urn": fmt.Sprintf("7%010d", w.n), "last4Digits": "1745", "customerId": r.Subject}
		r.PIN = fmt.Appendf(nil, "%s%03d", w.prefix, w.dice.IntN(1000))
	default:
		r.Subject = fmt.Sprintf("0812%08d", w.n)
		r.Fields = map[string]string{"phoneNo": r.Subject}
	}
	return r
}

// again is a further request of a customer for the same operation, as somebody
// makes who does not believe that the first one waits.
func (w *wishes) again(r *request) *request {
	w.n++
	n := &request{Key: fmt.Sprintf("crash-%s-%06d", w.prefix, w.n), Operation: r.Operation, Subject: r.Subject, Fields: r.Fields}
	if r.PIN != nil {
		n.PIN = fmt.Appendf(nil, "%s%03d", w.prefix, w.dice.IntN(1000))
	}
	return n
}
