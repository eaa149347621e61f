package upstream

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// unbinding is a first call that waits for its OTP.
type unbinding struct {
	reference string
	phone     string
	otp       string
	expires   time.Time
	wrong     int
	replaced  bool
	done      bool
}

type unbindAnswer struct {
	snapBody
	ReferenceNo  string `json:"referenceNo"`
	UnlinkResult string `json:"unlinkResult"`
}

// unbindStep tells the two calls apart by the reference number, as the document's samples do.
func unbindStep(body []byte) int {
	var probe struct {
		ReferenceNo json.RawMessage `json:"referenceNo"`
	}
	if json.Unmarshal(body, &probe) == nil && probe.ReferenceNo != nil {
		return 2
	}
	return 1
}

// checkUnbind follows "Finpay, Account Unbinding": the samples, in which only the second call has a reference and an OTP, and not the
// table, which has the reference mandatory.
func (f *finpay) checkUnbind(x *exchange) (carryOut, *reply) {
	return f.transaction(x, func(body object) (carryOut, *reply) {
		merchant, bad := body.text("merchantId", 1, 64, nil)
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		reference := ""
		if x.step == 2 {
			if reference, bad = body.text("referenceNo", 1, 64, nil); bad != nil {
				return nil, f.badField(x, bad)
			}
			x.note(func(e *Exchange) { e.Reference = clip(reference) })
		}
		info, bad := body.child("additionalInfo")
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		phone, bad := info.text("phoneNo", 1, 16, anyDigits)
		if bad != nil {
			return nil, f.badField(x, inInfo(bad))
		}
		x.note(func(e *Exchange) { e.Subject = phone })
		otp, known := "", []string{"phoneNo"}
		if x.step == 2 {
			if otp, bad = info.text("otp", 1, 8, anyDigits); bad != nil {
				return nil, f.badField(x, inInfo(bad))
			}
			known = append(known, "otp")
		}
		if bad := body.only("merchantId", "referenceNo", "additionalInfo"); bad != nil {
			return nil, f.badField(x, bad)
		}
		if bad := info.only(known...); bad != nil {
			return nil, f.badField(x, inInfo(bad))
		}
		return func() reply {
			f.mu.Lock()
			defer f.mu.Unlock()
			if merchant != f.conf.MerchantID {
				x.violate("merchantId %s is not the configured one", clip(merchant))
				return *f.refuse(x, http.StatusNotFound, "08", "Invalid merchant")
			}
			c, ok := f.customer(phone)
			if !ok {
				return f.unknownCustomer(x)
			}
			if x.step == 2 {
				return f.unbindSecond(x, c, reference, phone, otp)
			}
			return f.unbindFirst(x, c, phone)
		}, nil
	})
}

// unbindFirst sends an OTP. An earlier OTP of the phone is dead from now on (our reading). The lock is held.
func (f *finpay) unbindFirst(x *exchange, c *customer, phone string) reply {
	if !c.linked {
		return *f.refuse(x, http.StatusNotFound, "00", "Invalid Transaction Status")
	}
	if old, ok := f.pending.get(phone); ok {
		old.replaced = true
	}
	u := &unbinding{reference: f.number(137), phone: phone, otp: f.newOTP(), expires: f.s.now().Add(f.otpLife())}
	f.unbinds.put(u.reference, u)
	f.pending.put(phone, u)
	x.effect(Effect{Operation: "finpay.unbind.1", Identity: x.externalID, Subject: phone})
	return f.unbindReply(u.reference, "UNBINDING_PENDING")
}

// unbindSecond checks the OTP and unlinks. The lock is held.
func (f *finpay) unbindSecond(x *exchange, c *customer, reference, phone, otp string) reply {
	u, ok := f.unbinds.get(reference)
	switch {
	case !ok:
		return *f.refuse(x, http.StatusNotFound, "01", "Transaction Not Found")
	case u.phone != phone:
		x.violate("referenceNo %s belongs to another phone", clip(reference))
		return *f.refuse(x, http.StatusNotFound, "18", "Inconsistent Request")
	case u.done && orTrue(f.cfg.Dedupe):
		return *f.refuse(x, http.StatusConflict, "01", "Duplicate partnerRefNo")
	case u.wrong >= f.conf.OTPTries:
		return *f.refuse(x, http.StatusForbidden, "11", "OTP Blocked")
	case u.replaced || !f.s.now().Before(u.expires):
		return *f.refuse(x, http.StatusForbidden, "12", "OTP Expired")
	case subtle.ConstantTimeCompare([]byte(u.otp), []byte(otp)) != 1:
		u.wrong++
		return *f.refuse(x, http.StatusNotFound, "15", "Invalid OTP")
	}
	u.done, c.linked = true, false
	f.tokens.revokeCustomer(phone)
	x.effect(Effect{Operation: "finpay.unbind.2", Identity: reference, Subject: phone})
	// The document does not name the final value; this one is our reading.
	return f.unbindReply(reference, "UNBINDING_SUCCESS")
}

func (f *finpay) unbindReply(reference, result string) reply {
	answer := unbindAnswer{snapBody{"2000900", processed}, reference, result}
	right := mustJSON(answer)
	answer.ReferenceNo = f.number(137)
	return reply{status: http.StatusOK, code: answer.ResponseCode, done: true, body: right, stranger: mustJSON(answer)}
}

func (f *finpay) newOTP() string {
	if f.conf.FixedOTP != "" {
		return f.conf.FixedOTP
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return fmt.Sprintf("%06d", n)
}

// ErrNoOTP is returned by [Server.OTP] for a phone to which none was sent.
var ErrNoOTP = errors.New("no OTP was sent to this phone")

func (f *finpay) lastOTP(phone string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.pending.get(phone)
	if !ok {
		return "", fmt.Errorf("read OTP of %s: %w", phone, ErrNoOTP)
	}
	return u.otp, nil
}
