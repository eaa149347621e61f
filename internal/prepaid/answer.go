package prepaid

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"gardu/internal/txn"
)

// Bounds of what an answer may bring into the journal.
const (
	maxCode = 32  // characters of a response code
	maxText = 200 // characters of a message
	maxID   = 64  // characters of one of the platform's own numbers
)

// The keys under which a success puts the platform's own numbers in
// txn.Request.Data. They are what a person quotes to the platform.
const (
	DataRefNo        = "accosa_ref_no"
	DataTxnNumber    = "accosa_transaction_id"
	DataResponseTime = "response_date_time"
)

// reading is what an answer's body says, before anything is concluded from it.
type reading struct {
	fields fields
	sealed bool // it came in an envelope
	spoke  bool // the platform itself answered, not something before it
}

// read takes the fields out of a body: from the envelope, or from the object
// itself, since an error may come as plain JSON. A body that is neither is no
// error but a reading in which nobody spoke. The error is errUnreadable or a
// *cipherError.
func (p *Provider) read(ctx context.Context, body []byte) (reading, error) {
	var token, result []byte
	coded := false
	err := eachMember(body, func(name string, raw []byte) error {
		if name != fieldToken && name != fieldResult {
			coded = coded || name == fieldCode
			return nil
		}
		v, ok, err := scalar(raw)
		if err != nil || !ok || raw[0] != '"' || len(v) == 0 {
			return nil //nolint:nilerr // a result that is no text is no envelope
		}
		if name == fieldToken {
			token = v
		} else {
			result = v
		}
		return nil
	})
	if err != nil {
		return reading{}, nil //nolint:nilerr // not the platform's JSON: a gateway's page, for instance
	}
	first, second := token, result
	if p.cfg.AnswerField == fieldResult {
		first, second = result, token
	}
	switch {
	case first != nil:
	case coded:
		f, err := readFields(body)
		return reading{fields: f, spoke: true}, err
	case second != nil:
		first = second
	default:
		return reading{}, nil
	}
	f, err := p.envelope.open(ctx, first)
	return reading{fields: f, sealed: true, spoke: true}, err
}

// expected is what an answer must repeat.
type expected struct {
	path        string // of the call, for the operator
	messageCode string
	txnID       string
	fields      map[string]string
	// undocumented: the answer's fields are in no document, so those that only
	// confirm the card and the client need not be there.
	undocumented bool
}

// echoes reports whether the answer is to our request.
func (p *Provider) echoes(f fields, want expected) bool {
	if !f.is(fieldTxnID, want.txnID) || !f.is(fieldMessageCode, want.messageCode) {
		return false
	}
	for name, value := range map[string]string{
		FieldURN:      want.fields[FieldURN],
		FieldCustomer: want.fields[FieldCustomer],
		fieldClientID: p.cfg.ClientID,
		fieldBankID:   p.cfg.BankID,
	} {
		if _, there := f[name]; !there && want.undocumented {
			continue
		}
		if !f.is(name, value) {
			return false
		}
	}
	return true
}

// judge says what an answer means. err is read's.
//
// HTTP 401 and 403 mean configuration by the platform's document. Where nothing but
// the status speaks, the gateway has refused the call before the platform saw it.
// That is taken as rejected and not as not sent: both say that nothing changed, but
// "not sent" would send the PIN again by itself, and to a gateway whose settings
// are wrong. Where the platform itself speaks in such an answer, its code decides,
// and the more cautious of the two counts: no code that we know, unknown.
func (p *Provider) judge(status int, r reading, err error, want expected, pin []byte) txn.Answer {
	a := txn.Answer{Outcome: txn.Unknown, HTTPStatus: status}
	code, listed := "", txn.Reason("")
	if err == nil {
		code = string(r.fields[fieldCode])
		listed = p.rejected[code]
		a.Code, a.Text = p.words(r.fields, pin)
	}
	switch {
	case status >= http.StatusInternalServerError:
		a.Reason = txn.ReasonServerError
	case err != nil:
		a.Reason = txn.ReasonUnreadable
		a.Alarm = fmt.Sprintf("prepaid: an answer (HTTP %d) cannot be opened; compare the envelope key and prepaid.iv with the platform, "+
			"with gardu check --provider prepaid --sample and a token of theirs", status)
	case !r.spoke:
		p.judgeStatus(&a, want)
	case p.success[code]:
		p.judgeSuccess(&a, r, want, pin)
	case listed != "":
		judgeRejection(&a, r, listed, want)
	case code == "":
		a.Reason = txn.ReasonUnreadable
	default:
		a.Reason = txn.ReasonUnlisted
	}
	return a
}

// judgeStatus is for answers in which the platform itself did not speak.
func (p *Provider) judgeStatus(a *txn.Answer, want expected) {
	switch a.HTTPStatus {
	case http.StatusOK:
		a.Reason = txn.ReasonUnreadable
	case http.StatusUnauthorized, http.StatusForbidden:
		a.Outcome, a.Reason = txn.WasRejected, txn.ReasonMisconfigured
		a.Alarm = fmt.Sprintf("prepaid: the gateway refuses this kiosk (HTTP %d); check the x-api-key and secureCode credentials, "+
			"prepaid.client_id, bank_id, entity_id and consumer_custom_id", a.HTTPStatus)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
		http.StatusNotFound, http.StatusMethodNotAllowed:
		a.Reason = txn.ReasonUnlisted
		a.Alarm = fmt.Sprintf("prepaid: the platform is not at %s (HTTP %d); check prepaid.base_url and the path", want.path, a.HTTPStatus)
	default:
		a.Reason = txn.ReasonUnlisted
		a.Alarm = fmt.Sprintf("prepaid: HTTP %d without the platform's own answer; ask the platform what its gateway means by it", a.HTTPStatus)
	}
}

func (p *Provider) judgeSuccess(a *txn.Answer, r reading, want expected, pin []byte) {
	switch {
	case !r.sealed, a.HTTPStatus != http.StatusOK:
		// Only errors come in clear, and only 200 goes with a success.
		a.Reason = txn.ReasonUnreadable
	case !p.echoes(r.fields, want):
		a.Reason = txn.ReasonEchoMismatch
	default:
		a.Outcome = txn.HasSucceeded
		a.Data = numbers(r.fields, pin)
	}
}

func judgeRejection(a *txn.Answer, r reading, why txn.Reason, want expected) {
	id, there := r.fields[fieldTxnID]
	switch {
	case there && len(id) > 0 && string(id) != want.txnID:
		a.Reason = txn.ReasonEchoMismatch
	case a.HTTPStatus != http.StatusOK && a.HTTPStatus < http.StatusBadRequest:
		a.Reason = txn.ReasonUnreadable
	default:
		a.Outcome, a.Reason = txn.WasRejected, why
		if why == txn.ReasonMisconfigured {
			a.Alarm = fmt.Sprintf("prepaid: the platform refuses this kiosk's settings (code %s); check prepaid.client_id, bank_id, "+
				"entity_id, message_code and the credentials with the platform", a.Code)
		}
	}
}

// words are the code and the message for operators. An unlisted code or a message
// that repeats the PIN is dropped; a listed code says nothing of it.
func (p *Provider) words(f fields, pin []byte) (code, text string) {
	raw := f[fieldCode]
	switch {
	case p.success[string(raw)], p.rejected[string(raw)] != "":
		code = string(raw)
	case len(raw) <= maxCode && !holds(raw, pin) && plainText(string(raw), maxCode):
		code = string(raw)
	}
	msg := f[fieldMessage]
	if len(msg) == 0 {
		msg = f[fieldDescription]
	}
	if holds(msg, pin) {
		return code, ""
	}
	return code, printable(string(msg))
}

// numbers are the platform's own, as decimal text.
func numbers(f fields, pin []byte) map[string]string {
	data := make(map[string]string, 3)
	for key, name := range map[string]string{DataRefNo: fieldRefNo, DataTxnNumber: fieldTxnNumber, DataResponseTime: fieldResponseTime} {
		v := f[name]
		// Equal and not contained: a short PIN stands in a long number by chance.
		if !bytes.Equal(v, pin) && plainText(string(v), maxID) {
			data[key] = string(v)
		}
	}
	return data
}

func holds(text, pin []byte) bool { return len(pin) > 0 && bytes.Contains(text, pin) }

func printable(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxText {
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}
