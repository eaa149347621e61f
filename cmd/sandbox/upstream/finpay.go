package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// finpay is the Finpay platform: reset of a PIN, linkage of an account, and its end.
type finpay struct {
	*snapPlatform
	conf FinpayConfig

	// The SNAP platform's mutex guards what follows.
	customers *bounded[string, *customer]
	resets    *bounded[string, bool]       // partner references that succeeded
	links     *bounded[string, *link]      // by linkage token
	latest    *bounded[string, *link]      // by phone
	unbinds   *bounded[string, *unbinding] // by reference number
	pending   *bounded[string, *unbinding] // by phone
	numbers   int64                        // for reference numbers and link ids
}

type customer struct{ linked bool }

func (s *Server) newFinpay(conf FinpayConfig) (*finpay, error) {
	sp, err := s.newSNAP(Finpay, conf.SNAPConfig)
	if err != nil {
		return nil, err
	}
	sp.unauthorised = "Unauthorised"
	sp.needsOrigin, sp.origin = true, conf.Origin
	sp.externalID = func(v string) bool { return digits(v, 32, 32) }
	sp.externalIDRule = "exactly 32 digits"
	sp.customerOps = map[string]bool{}
	for _, op := range conf.CustomerTokenOperations {
		sp.customerOps[op] = true
	}
	f := &finpay{snapPlatform: sp, conf: conf}
	f.forget()
	for _, op := range []struct {
		path string
		operation
	}{
		{conf.TokenPath, operation{name: "finpay.token", service: "73", check: sp.checkToken}},
		{conf.CustomerTokenPath, operation{name: "finpay.customer_token", service: "74", check: sp.checkCustomerToken}},
		{"/v1.0/pin/reset", operation{name: "finpay.reset_pin", service: "00", check: f.checkResetPIN}},
		{"/v1.0/registration-account-binding", operation{name: "finpay.bind", service: "07", check: f.checkBind}},
		{"/v1.0/registration-account-unbinding", operation{
			name: "finpay.unbind", service: "09", check: f.checkUnbind, step: unbindStep,
		}},
		{"/v1.0/registration-account-inquiry", operation{name: "finpay.inquiry", service: "08", check: f.checkInquiry}},
	} {
		if f.ops[op.path] != nil {
			return nil, fmt.Errorf("finpay: the path %s is configured twice", op.path)
		}
		f.ops[op.path] = &op.operation
	}
	f.pages[pagePath] = f.servePage
	return f, nil
}

// forget puts the customers back as they were configured and forgets everything that happened, except that tokens end.
func (f *finpay) forget() {
	limit := f.s.cfg.LedgerCap
	f.customers = newBounded[string, *customer](max(limit, len(f.conf.Customers)))
	for _, c := range f.conf.Customers {
		f.customers.put(c.Phone, &customer{linked: c.Linked})
	}
	f.resets = newBounded[string, bool](limit)
	f.links, f.latest = newBounded[string, *link](limit), newBounded[string, *link](limit)
	f.unbinds, f.pending = newBounded[string, *unbinding](limit), newBounded[string, *unbinding](limit)
}

// customer finds a phone; with any_customer it is known from now on.
func (f *finpay) customer(phone string) (*customer, bool) {
	c, ok := f.customers.get(phone)
	if !ok && f.conf.AnyCustomer {
		c, ok = &customer{}, true
		f.customers.put(phone, c)
	}
	return c, ok
}

// number makes the next reference number or link id: 18 digits that do not occur twice.
func (f *finpay) number(prefix int64) string {
	f.numbers++
	return fmt.Sprintf("%d%015d", prefix, f.numbers)
}

// unknownCustomer is our reading: the standard's case 11 is for an invalid card, account or customer.
func (f *finpay) unknownCustomer(x *exchange) reply {
	return *f.refuse(x, http.StatusNotFound, "11", "Invalid Card/Account/Customer")
}

func anyDigits(s string) bool { return digits(s, 1, 64) }

// localPhone is the document's "08xx format".
func localPhone(s string) bool { return anyDigits(s) && strings.HasPrefix(s, "08") }

// checkResetPIN follows "Finpay, Reset PIN".
func (f *finpay) checkResetPIN(x *exchange) (carryOut, *reply) {
	return f.transaction(x, func(body object) (carryOut, *reply) {
		ref, bad := body.text("partnerReferenceNo", 1, 64, nil)
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		x.note(func(e *Exchange) { e.Reference = ref })
		phone, bad := body.text("phoneNo", 1, 16, localPhone)
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		x.note(func(e *Exchange) { e.Subject = phone })
		if bad := body.only("partnerReferenceNo", "phoneNo"); bad != nil {
			return nil, f.badField(x, bad)
		}
		return func() reply { return f.resetPIN(x, ref, phone) }, nil
	})
}

func (f *finpay) resetPIN(x *exchange, ref, phone string) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.customer(phone); !ok {
		return f.unknownCustomer(x)
	}
	if again, _ := f.resets.get(ref); again && orTrue(f.cfg.Dedupe) {
		return *f.refuse(x, http.StatusConflict, "01", "Duplicate partnerReferenceNo")
	}
	f.resets.put(ref, true)
	x.effect(Effect{Operation: "finpay.reset_pin", Identity: ref, Subject: phone})
	code := f.conf.ResetPINCode
	return reply{status: http.StatusOK, code: code, done: true, body: mustJSON(snapBody{code, processed})}
}

const processed = "Request has been processed successfully"

type inquiryAnswer struct {
	snapBody
	AdditionalInfo struct {
		AccountStatus string `json:"accountStatus"`
	} `json:"additionalInfo"`
}

// checkInquiry follows the public Finpay documents: LINKED is the only status they name.
func (f *finpay) checkInquiry(x *exchange) (carryOut, *reply) {
	return f.transaction(x, func(body object) (carryOut, *reply) {
		info, bad := body.child("additionalInfo")
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		phone, bad := info.text("phoneNo", 1, 16, anyDigits)
		if bad != nil {
			return nil, f.badField(x, inInfo(bad))
		}
		x.note(func(e *Exchange) { e.Subject = phone })
		if bad := body.only("additionalInfo"); bad != nil {
			return nil, f.badField(x, bad)
		}
		if bad := info.only("phoneNo"); bad != nil {
			return nil, f.badField(x, inInfo(bad))
		}
		return func() reply {
			f.mu.Lock()
			defer f.mu.Unlock()
			c, ok := f.customer(phone)
			if !ok {
				return f.unknownCustomer(x)
			}
			answer := inquiryAnswer{snapBody: snapBody{"2000800", processed}}
			answer.AdditionalInfo.AccountStatus = f.conf.UnlinkedStatus
			if c.linked {
				answer.AdditionalInfo.AccountStatus = "LINKED"
			}
			return reply{status: http.StatusOK, code: answer.ResponseCode, done: true, body: mustJSON(answer)}
		}, nil
	})
}

// inInfo gives a field of additionalInfo its full name.
func inInfo(e *fieldError) *fieldError {
	own := *e
	own.field = "additionalInfo." + e.field
	return &own
}

func (f *finpay) linkLife() time.Duration { return time.Duration(f.conf.LinkLifeSeconds) * time.Second }

func (f *finpay) otpLife() time.Duration { return time.Duration(f.conf.OTPLifeSeconds) * time.Second }
