package prepaid

import (
	"net/http"
	"time"
)

// dateTime is the layout of requestDateTime: YYYYMMDDHHMMSS.
const dateTime = "20060102150405"

// member is one field of a request. Its value is plain ASCII without anything that
// JSON escapes; the callers have checked that.
type member struct {
	name   string
	value  []byte
	number bool
}

// compact writes the members as one compact JSON object in their order, into a
// buffer with room for the padding: it never grows, since growing would leave a
// copy of the PIN behind.
func compact(members []member) []byte {
	const quotes, colon, comma = 2, 1, 1
	n := len("{}") + (len(members)-1)*comma
	for _, m := range members {
		n += quotes + len(m.name) + colon + len(m.value)
		if !m.number {
			n += quotes
		}
	}
	b := make([]byte, 0, grown(n))
	for i, m := range members {
		if i == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, m.name...)
		b = append(b, '"', ':')
		if !m.number {
			b = append(b, '"')
		}
		b = append(b, m.value...)
		if !m.number {
			b = append(b, '"')
		}
	}
	return append(b, '}')
}

// resetMessage is the text of a Reset PIN request, in the order of the platform's
// sample. The caller clears it.
func (p *Provider) resetMessage(reference string, at time.Time, f map[string]string, pin []byte) []byte {
	return compact([]member{
		{name: fieldMessageCode, value: []byte(p.cfg.MessageCode)},
		{name: "requestDateTime", value: p.stamp(at)},
		{name: fieldTxnID, value: []byte(reference)},
		{name: FieldNewPIN, value: pin},
		{name: FieldURN, value: []byte(f[FieldURN]), number: p.cfg.URNAsNumber},
		{name: FieldLast4, value: []byte(f[FieldLast4])},
		{name: FieldCustomer, value: []byte(f[FieldCustomer])},
	})
}

// verifyMessage is the text of a Verify Cardholder request. Its fields are not in
// the document; it is the Reset PIN request without the PIN.
func (p *Provider) verifyMessage(reference string, at time.Time, f map[string]string) []byte {
	return compact([]member{
		{name: fieldMessageCode, value: []byte(p.cfg.VerifyMessageCode)},
		{name: "requestDateTime", value: p.stamp(at)},
		{name: fieldTxnID, value: []byte(reference)},
		{name: FieldURN, value: []byte(f[FieldURN]), number: p.cfg.URNAsNumber},
		{name: FieldLast4, value: []byte(f[FieldLast4])},
		{name: FieldCustomer, value: []byte(f[FieldCustomer])},
	})
}

func (p *Provider) stamp(at time.Time) []byte {
	return at.In(p.zone).AppendFormat(nil, dateTime)
}

// header is what the document's <WalletHeader /> stands for. The names keep its
// spelling, which http.Header.Set would change: some gateways compare them as they
// are written.
func (p *Provider) header() http.Header {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json"},
		"x-api-key":    {string(p.secrets.APIKey.Bytes())},
		"clientId":     {p.cfg.ClientID},
		"bankId":       {p.cfg.BankID},
		"entityId":     {p.cfg.EntityID},
		"secureCode":   {string(p.secrets.SecureCode.Bytes())},
	}
	if p.cfg.ConsumerCustomID != "" {
		h["X-Consumer-Custom-ID"] = []string{p.cfg.ConsumerCustomID}
	}
	return h
}
