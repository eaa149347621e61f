package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// prepaidTime is YYYYMMDDHHMMSS.
const prepaidTime = "20060102150405"

// prepaidDrift is how far requestDateTime may be off before it counts as the wrong zone. No document has such a rule, so it is noted
// as a violation and not refused.
const prepaidDrift = time.Hour

// prepaid is the prepaid card platform.
type prepaid struct {
	*platform
	conf     PrepaidConfig
	envelope *envelope
	zone     *time.Location

	mu      sync.Mutex // guards what follows
	done    *bounded[string, bool]
	numbers int64
}

// cardRequest is a decrypted request. The PIN is not in it: it becomes a digest as soon as it is read.
type cardRequest struct {
	answerCode  string // messageCode of the answer
	description string
	clientTxnID string
	urn         string
	last4       string
	customerID  string
	pinDigest   string
}

func (s *Server) newPrepaid(conf PrepaidConfig) (*prepaid, error) {
	env, err := newEnvelope(&conf)
	if err != nil {
		return nil, fmt.Errorf("prepaid: %w", err)
	}
	zone, err := time.LoadLocation(conf.Zone)
	if err != nil {
		return nil, fmt.Errorf("prepaid: zone: %w", err)
	}
	p := &prepaid{platform: s.newPlatform(Prepaid), conf: conf, envelope: env, zone: zone}
	p.render = p.renderCode
	p.forget()
	p.ops["/mob1/api/onboarding/v1/resetPin"] = &operation{name: "prepaid.reset_pin", check: p.checkResetPIN}
	if v := conf.VerifyCardholder; v != nil {
		if p.ops[v.Path] != nil {
			return nil, fmt.Errorf("prepaid: the path %s is configured twice", v.Path)
		}
		p.ops[v.Path] = &operation{name: "prepaid.verify_cardholder", check: p.checkVerify}
	}
	return p, nil
}

func (p *prepaid) forget() { p.done = newBounded[string, bool](p.s.cfg.LedgerCap) }

// cardAnswer has the fields of the document's sample in its order, numbers where it has numbers.
type cardAnswer struct {
	URN                 json.Number `json:"urn"`
	CustomerID          string      `json:"customerId"`
	Description         string      `json:"description"`
	ResponseCode        string      `json:"responseCode"`
	MessageCode         string      `json:"messageCode"`
	ClientTxnID         string      `json:"clientTxnId"`
	ClientID            string      `json:"clientId"`
	ResponseDateTime    string      `json:"responseDateTime"`
	AccosaTransactionID int64       `json:"accosaTransactionId"`
	ResponseMessage     string      `json:"responseMessage"`
	AccosaRefNo         string      `json:"accosaRefNo"`
	BankID              json.Number `json:"bankId"`
}

func (p *prepaid) answer(r *cardRequest, code, message string) cardAnswer {
	p.mu.Lock()
	p.numbers++
	n := p.numbers
	p.mu.Unlock()
	return cardAnswer{
		URN: json.Number(r.urn), CustomerID: r.customerID, Description: r.description, ResponseCode: code, MessageCode: r.answerCode,
		ClientTxnID: r.clientTxnID, ClientID: p.conf.ClientID, ResponseDateTime: p.clock().In(p.zone).Format(prepaidTime),
		AccosaTransactionID: 1030 + n, ResponseMessage: message, AccosaRefNo: strconv.FormatInt(6007282+n, 10),
		BankID: json.Number(p.conf.BankID),
	}
}

func (p *prepaid) seal(a cardAnswer) []byte {
	return mustJSON(map[string]string{p.conf.AnswerField: p.envelope.seal(mustJSON(a))})
}

// plainError is an error outside an envelope: where the request could not be read, or where the gateway answers.
type plainError struct {
	ResponseCode    string `json:"responseCode,omitempty"`
	ResponseMessage string `json:"responseMessage"`
}

// renderCode answers a code: in an envelope if the status is 200 and the request could be read, otherwise as plain JSON.
func (p *prepaid) renderCode(x *exchange, status int, code, message string) reply {
	if status == http.StatusOK && x.card != nil && !p.conf.PlainErrors {
		return reply{status: status, code: code, body: p.seal(p.answer(x.card, code, message))}
	}
	return reply{status: status, code: code, body: mustJSON(plainError{code, message})}
}

// refuse answers with one of the platform's codes and records why.
func (p *prepaid) refuse(x *exchange, status int, code, message, why string) *reply {
	x.violate("%s", why)
	a := p.renderCode(x, status, code, message)
	return &a
}

// headers checks the mandatory ones. Which of the "header missing" codes belongs to which header is our reading.
func (p *prepaid) headers(x *exchange) *reply {
	if bad := contentType(x.r); bad != nil {
		return p.refuse(x, http.StatusBadRequest, "1030", "INVALID_MESSAGE", bad.field+": "+bad.why)
	}
	for _, h := range []struct {
		name, want      string
		missing         int
		missingCode     string
		wrong           int
		wrongCode, text string
	}{
		{"x-api-key", p.conf.APIKey, http.StatusUnauthorized, "", http.StatusForbidden, "", "Forbidden"},
		{"clientId", p.conf.ClientID, http.StatusOK, "1310", http.StatusOK, "1032", "INVALID_CLIENT_CHANNEL"},
		{"bankId", p.conf.BankID, http.StatusOK, "1311", http.StatusOK, "1031", "INVALID_BANK_ID"},
		{"entityId", p.conf.EntityID, http.StatusOK, "1262", http.StatusOK, "1030", "INVALID_MESSAGE"},
		{"secureCode", p.conf.SecureCode, http.StatusOK, "1264", http.StatusOK, "1049", "INVALID_SECURE_CODE"},
		{"X-Consumer-Custom-ID", p.conf.ConsumerCustomID, http.StatusUnauthorized, "", http.StatusForbidden, "", "Forbidden"},
	} {
		if h.want == "" {
			continue
		}
		value, bad := header(x.r, h.name, 1, 8192, nil)
		switch {
		case bad != nil && bad.missing:
			return p.refuse(x, h.missing, h.missingCode, "MANDATORY_HEADER_MISSING", "the header "+h.name+" is missing")
		case bad != nil || value != h.want:
			return p.refuse(x, h.wrong, h.wrongCode, h.text, "the header "+h.name+" is not the configured one")
		}
	}
	return nil
}

// read opens the envelope and checks the fields against the names in their documented order.
func (p *prepaid) read(x *exchange, request *cardRequest, messageCode string, names ...string) *reply {
	if refusal := p.headers(x); refusal != nil {
		return refusal
	}
	unreadable := func(why string) *reply { return p.refuse(x, http.StatusBadRequest, "1030", "INVALID_MESSAGE", why) }
	outer, err := parseObject(x.body)
	if err != nil {
		return unreadable("the body cannot be read: " + clip(err.Error()))
	}
	if bad := outer.only("token"); bad != nil {
		return unreadable("the body has a field besides token")
	}
	token, bad := outer.text("token", 1, maxRequest, nil)
	if bad != nil {
		return unreadable("token: " + bad.why)
	}
	plain, err := p.envelope.open(token)
	if err != nil {
		return unreadable("the envelope cannot be opened with the configured key and IV mode")
	}
	body, err := parseObject(plain)
	if err != nil {
		return unreadable("the envelope's content is not one JSON object") // the parser's words could quote the PIN
	}
	if bad := body.only(names...); bad != nil {
		return unreadable("the envelope has a field that the document does not have")
	}
	if !bytes.Equal(plain, minify(plain)) {
		x.violate("the envelope's content is not compact JSON")
	}
	if !slices.Equal(body.keys, names) && len(body.keys) == len(names) {
		x.violate("the envelope's fields are not in the document's order")
	}
	return p.fields(x, request, messageCode, body, slices.Contains(names, "newPIN"))
}

// fields checks what is the same in every call and fills request.
func (p *prepaid) fields(x *exchange, request *cardRequest, messageCode string, body object, withPIN bool) *reply {
	var bad *fieldError
	if request.clientTxnID, bad = body.text("clientTxnId", 1, p.conf.ClientTxnIDMax, alphanumeric); bad != nil {
		return p.badField(x, "1030", "INVALID_MESSAGE", bad)
	}
	x.note(func(e *Exchange) { e.Reference = request.clientTxnID })
	if request.urn, bad = p.urn(body); bad != nil {
		return p.badField(x, "1030", "INVALID_MESSAGE", bad)
	}
	if request.customerID, bad = body.text("customerId", 1, 64, nil); bad != nil {
		return p.badField(x, "1030", "INVALID_MESSAGE", bad)
	}
	x.note(func(e *Exchange) { e.Subject = request.customerID })
	x.card = request // from here on an answer can echo the request
	if _, bad = body.text("messageCode", 4, 4, func(s string) bool { return s == messageCode }); bad != nil {
		return p.badField(x, "1030", "INVALID_MESSAGE", bad)
	}
	if request.last4, bad = body.text("last4Digits", 4, 4, anyDigits); bad != nil {
		return p.badField(x, "1030", "INVALID_MESSAGE", bad)
	}
	if withPIN {
		pin, bad := body.text("newPIN", p.conf.PINMin, p.conf.PINMax, anyDigits)
		if bad != nil {
			return p.badField(x, "1030", "INVALID_MESSAGE", bad)
		}
		request.pinDigest = PINDigest(p.s.cfg.PINSalt, []byte(pin))
	}
	at, bad := body.text("requestDateTime", 14, 14, anyDigits)
	if bad != nil {
		return p.badField(x, "1088", "INVALID_DATE_FORMAT", bad)
	}
	t, err := time.ParseInLocation(prepaidTime, at, p.zone)
	if err != nil {
		return p.badField(x, "1088", "INVALID_DATE_FORMAT", &fieldError{"requestDateTime", false, "it is not YYYYMMDDHHMMSS"})
	}
	if off := t.Sub(p.clock()); off > prepaidDrift || off < -prepaidDrift {
		x.violate("requestDateTime is %s off in the zone %s", off.Round(time.Second), p.zone)
	}
	return nil
}

func (p *prepaid) badField(x *exchange, code, message string, bad *fieldError) *reply {
	return p.refuse(x, http.StatusOK, code, message, bad.field+": "+bad.why)
}

// urn reads the field in the JSON type that was agreed.
func (p *prepaid) urn(body object) (string, *fieldError) {
	if p.conf.URNAs == "string" {
		return body.text("urn", 1, 11, anyDigits)
	}
	value, there := body.values["urn"]
	if !there {
		return "", &fieldError{"urn", true, "it is missing"}
	}
	n, ok := value.(json.Number)
	if !ok || !digits(n.String(), 1, 11) {
		return "", &fieldError{"urn", false, "it must be a number of 1 to 11 digits"}
	}
	return n.String(), nil
}

// checkResetPIN follows the document "Reset PIN API" of the prepaid platform.
func (p *prepaid) checkResetPIN(x *exchange) (carryOut, *reply) {
	request := &cardRequest{answerCode: "1121", description: "Reset Pin"}
	refusal := p.read(x, request, "1120",
		"messageCode", "requestDateTime", "clientTxnId", "newPIN", "urn", "last4Digits", "customerId")
	if refusal != nil {
		return nil, refusal
	}
	return func() reply { return p.resetPIN(x, request) }, nil
}

func (p *prepaid) resetPIN(x *exchange, request *cardRequest) reply {
	if !p.holds(request) {
		return p.renderCode(x, http.StatusOK, "1001", "CARD_NOT_FOUND")
	}
	p.mu.Lock()
	again, _ := p.done.get(request.clientTxnID)
	if again && p.conf.Dedupe != nil && *p.conf.Dedupe {
		p.mu.Unlock()
		return p.renderCode(x, http.StatusOK, p.conf.DuplicateCode, "DUPLICATE_TRANSACTION")
	}
	p.done.put(request.clientTxnID, true)
	p.mu.Unlock()
	x.effect(Effect{Operation: "prepaid.reset_pin", Identity: request.clientTxnID, Subject: request.customerID, PINDigest: request.pinDigest})
	return p.success(request)
}

// success seals the answer, and the same for another customer's request.
func (p *prepaid) success(request *cardRequest) reply {
	answer := p.answer(request, p.conf.SuccessCode, "Success")
	right := p.seal(answer)
	answer.ClientTxnID = "stranger" + answer.AccosaRefNo
	answer.CustomerID = "IN0000STRANGER"
	return reply{status: http.StatusOK, code: p.conf.SuccessCode, done: true, body: right, stranger: p.seal(answer)}
}

// holds reports whether there is a card with all three numbers.
func (p *prepaid) holds(r *cardRequest) bool {
	return p.conf.AnyCard || slices.Contains(p.conf.Cards, Card{URN: r.urn, Last4Digits: r.last4, CustomerID: r.customerID})
}

// checkVerify is the sibling call. It changes nothing.
func (p *prepaid) checkVerify(x *exchange) (carryOut, *reply) {
	v := p.conf.VerifyCardholder
	request := &cardRequest{answerCode: v.AnswerMessageCode, description: "Verify Cardholder"}
	refusal := p.read(x, request, v.MessageCode,
		"messageCode", "requestDateTime", "clientTxnId", "urn", "last4Digits", "customerId")
	if refusal != nil {
		return nil, refusal
	}
	return func() reply {
		if !p.holds(request) {
			return p.renderCode(x, http.StatusOK, "1001", "CARD_NOT_FOUND")
		}
		return p.success(request)
	}, nil
}
