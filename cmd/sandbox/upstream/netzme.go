package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// netzme is the Netzme vSNAP platform.
type netzme struct {
	*snapPlatform
	conf  NetzmeConfig
	known map[string]bool

	// The SNAP platform's mutex guards what follows.
	done  *bounded[string, bool]      // partner references that succeeded
	until *bounded[string, time.Time] // by customer, the end of the minimum wait
}

func (s *Server) newNetzme(conf NetzmeConfig) (*netzme, error) {
	sp, err := s.newSNAP(Netzme, conf.SNAPConfig)
	if err != nil {
		return nil, err
	}
	sp.unauthorised = "Unauthorized"
	sp.externalID = func(v string) bool { return digits(v, 1, 36) }
	sp.externalIDRule = "1 to 36 digits"
	n := &netzme{snapPlatform: sp, conf: conf, known: map[string]bool{}}
	for _, id := range conf.Customers {
		n.known[id] = true
	}
	n.forget()
	n.ops[conf.TokenPath] = &operation{name: "netzme.token", service: "73", check: sp.checkToken}
	for _, v := range conf.Versions {
		path := "/api/" + v + "/merchant/forgot-pin"
		if n.ops[path] != nil {
			return nil, fmt.Errorf("netzme: the path %s is configured twice", path)
		}
		n.ops[path] = &operation{name: "netzme.forgot_pin", service: "00", check: n.checkForgotPIN}
	}
	return n, nil
}

func (n *netzme) forget() {
	n.done = newBounded[string, bool](n.s.cfg.LedgerCap)
	n.until = newBounded[string, time.Time](n.s.cfg.LedgerCap)
}

type forgotAnswer struct {
	snapBody
	PartnerReferenceNo string `json:"partnerReferenceNo"`
	AdditionalInfo     struct {
		TimeLeftInMillis int64 `json:"timeLeftInMillis"`
	} `json:"additionalInfo"`
}

// leakyAnswer is one that carries the new PIN in clear.
type leakyAnswer struct {
	snapBody
	Ref    string         `json:"partnerReferenceNo"`
	PIN    string         `json:"pin"`
	NewPIN string         `json:"newPIN"`
	Info   map[string]any `json:"additionalInfo"`
}

// checkForgotPIN follows "Netzme vSNAP, Forgot pin". The document gives no lengths; the standard's 64 is used for both strings.
func (n *netzme) checkForgotPIN(x *exchange) (carryOut, *reply) {
	return n.transaction(x, func(body object) (carryOut, *reply) {
		customer, bad := body.text("custIdMerchant", 1, 64, nil)
		if bad != nil {
			return nil, n.badField(x, bad)
		}
		x.note(func(e *Exchange) { e.Subject = customer })
		ref, bad := body.text("partnerReferenceNo", 1, 64, nil)
		if bad != nil {
			return nil, n.badField(x, bad)
		}
		x.note(func(e *Exchange) { e.Reference = ref })
		info, bad := body.child("additionalInfo")
		if bad != nil {
			return nil, n.badField(x, bad)
		}
		if _, bad := info.text("type", 1, 64, func(s string) bool { return s == "forgot_pin" }); bad != nil {
			return nil, n.badField(x, inInfo(bad))
		}
		if bad := body.only("custIdMerchant", "partnerReferenceNo", "additionalInfo"); bad != nil {
			return nil, n.badField(x, bad)
		}
		if bad := info.only("type"); bad != nil {
			return nil, n.badField(x, inInfo(bad))
		}
		return func() reply { return n.forgotPIN(x, customer, ref) }, nil
	})
}

func (n *netzme) forgotPIN(x *exchange, customer, ref string) reply {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known[customer] && !n.conf.AnyCustomer {
		return *n.refuse(x, http.StatusNotFound, "11", "Invalid Card/Account/Customer")
	}
	again, _ := n.done.get(ref)
	if again && orTrue(n.cfg.Dedupe) {
		return *n.refuse(x, http.StatusConflict, "01", "Duplicate partnerReferenceNo")
	}
	now := n.s.now()
	// With deduplication off a repeated reference must count, so the wait does not stand in its way.
	if until, _ := n.until.get(customer); now.Before(until) && orTrue(n.conf.EnforceWait) && !again {
		return *n.refuse(x, http.StatusForbidden, "04", "Activity Count Limit Exceeded")
	}
	n.done.put(ref, true)
	n.until.put(customer, now.Add(time.Duration(n.conf.TimeLeftMillis)*time.Millisecond))
	x.effect(Effect{Operation: "netzme.forgot_pin", Identity: ref, Subject: customer})
	answer := forgotAnswer{snapBody: snapBody{"2000000", "Successful"}, PartnerReferenceNo: ref}
	answer.AdditionalInfo.TimeLeftInMillis = n.conf.TimeLeftMillis
	right := mustJSON(answer)
	if pin := n.conf.LeakPIN; pin != "" {
		right = mustJSON(leakyAnswer{
			snapBody: snapBody{answer.ResponseCode, "Successful. Your new PIN is " + pin + " (" + strings.Join(strings.Split(pin, ""), "-") + ")"},
			Ref:      ref, PIN: pin, NewPIN: pin,
			Info: map[string]any{"timeLeftInMillis": n.conf.TimeLeftMillis, "pin": pin, "newPin": pin},
		})
	}
	answer.PartnerReferenceNo = "stranger" + opaque(12)
	return reply{status: http.StatusOK, code: answer.ResponseCode, done: true, body: right, stranger: mustJSON(answer)}
}
