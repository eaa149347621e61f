package answers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

// snapCases is the standard's list of cases with what the agreed reading makes of
// each (docs/providers.md, section 1), written down here once more and by hand: the
// table in code is not asked.
const snapCases = `
400 00 rejected refused
400 01 rejected bad_field
400 02 rejected bad_field
401 00 not_sent auth_refused
401 01 not_sent token_invalid
401 02 rejected misconfigured
401 03 not_sent token_invalid
401 04 rejected misconfigured
403 00 unknown unlisted
403 01 rejected not_allowed
403 02 rejected refused
403 03 rejected refused
403 04 rejected too_many
403 05 rejected refused
403 06 not_sent throttled
403 07 rejected blocked
403 08 rejected blocked
403 09 rejected blocked
403 10 rejected refused
403 11 rejected otp_blocked
403 12 rejected otp_expired
403 13 rejected refused
403 14 rejected refused
403 15 rejected not_allowed
403 16 rejected blocked
403 17 rejected refused
403 18 rejected blocked
403 19 rejected misconfigured
403 20 rejected refused
403 21 rejected refused
403 22 rejected refused
403 23 rejected refused
404 00 rejected refused
404 01 rejected not_found
404 02 rejected misconfigured
404 03 rejected not_allowed
404 04 rejected refused
404 05 rejected misconfigured
404 06 rejected otp_wanted
404 07 rejected not_found
404 08 rejected misconfigured
404 09 rejected refused
404 10 rejected refused
404 11 rejected not_found
404 12 rejected refused
404 13 rejected refused
404 14 rejected refused
404 15 rejected otp_wrong
404 16 rejected misconfigured
404 17 rejected misconfigured
404 18 rejected refused
404 19 rejected refused
405 00 rejected misconfigured
405 01 rejected misconfigured
409 00 unknown duplicate_id
409 01 unknown duplicate_ref
429 00 not_sent throttled
500 00 unknown server_error
500 01 unknown server_error
500 02 unknown server_error
504 00 unknown server_error
202 00 pending in_progress
418 77 unknown unlisted
302 00 unknown unlisted
503 00 unknown server_error
`

// prepaidCases are the document's API error codes, those of its sibling pages, and
// its HTTP statuses (docs/providers.md, section 4). A status alone has no code.
const prepaidCases = `
200 1001 rejected not_found
200 1030 rejected misconfigured
200 1031 rejected misconfigured
200 1032 rejected misconfigured
200 1034 rejected bad_field
200 1049 rejected misconfigured
200 1088 rejected bad_field
200 1090 rejected misconfigured
200 1091 rejected misconfigured
200 1092 rejected bad_field
200 1231 rejected not_found
200 1237 rejected refused
200 1262 rejected misconfigured
200 1264 rejected misconfigured
200 1306 rejected not_found
200 1309 rejected refused
200 1310 rejected misconfigured
200 1311 rejected misconfigured
200 9999 unknown unlisted
400 1034 rejected bad_field
400 - unknown *
401 - rejected misconfigured
403 - rejected misconfigured
404 - unknown *
500 - unknown server_error
503 - unknown server_error
`

// documented are the codes that the documents themselves list for each call; every
// one of them must be among what is played.
var documented = map[string]struct{ service, cases string }{
	"finpay.reset_pin":  {"00", "200 00,400 00,400 01,400 02,401 01,401 00,401 02,401 03,401 04,403 01,403 04,403 14,404 08,500 00,500 01,500 02,504 00"},
	"finpay.bind":       {"07", "200 00,400 00,400 01,400 02,401 01,401 00,403 01,403 04,404 08,500 00,504 00"},
	"finpay.unbind.1":   {"09", "200 00,400 00,400 01,400 02,401 01,401 00,403 01,403 04,404 08,500 00,504 00,409 01"},
	"finpay.unbind.2":   {"09", "200 00,400 00,400 01,400 02,401 01,401 00,403 01,403 04,404 08,500 00,504 00,409 01"},
	"finpay.inquiry":    {"08", "200 00"},
	"netzme.forgot_pin": {"00", "200 00"},
	"prepaid.reset_pin": {"", ""},
}

// row is one answer to one call.
type row struct {
	n      int
	call   string
	status int
	code   string // as it is sent; "" for none
	// What the attempt must come to; "" where only the page of words holds it.
	outcome string
	reason  string
}

func (r *row) operation() txn.Operation {
	switch {
	case r.call == "finpay.inquiry":
		return txn.FinpayBind
	case strings.HasPrefix(r.call, "finpay.unbind"):
		return txn.FinpayUnbind
	}
	return txn.Operation(r.call)
}

func (r *row) provider() string { return strings.Split(r.call, ".")[0] }

// parse reads one of the lists above.
func parse(t *testing.T, list, call, service string) (rows []row) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		r := row{call: call}
		var kase string
		n, err := fmt.Sscan(line, &r.status, &kase, &r.outcome, &r.reason)
		require.NoError(t, err, line)
		require.Equal(t, 4, n)
		switch {
		case kase == "-":
		case service == "":
			r.code = kase
		default:
			r.code = fmt.Sprintf("%d%s%s", r.status, service, kase)
		}
		if call == "finpay.unbind.2" && kase == "06" && r.status == 404 {
			r.reason = "otp_expired" // to a call that had one: a new one comes by a new first call
		}
		if call == "finpay.inquiry" {
			r.outcome, r.reason = "", "" // the binding that it stands before was not called
		}
		rows = append(rows, r)
	}
	return rows
}

func allRows(t *testing.T) (rows []row) {
	t.Helper()
	for _, call := range []string{"finpay.reset_pin", "finpay.bind", "finpay.unbind.1", "finpay.unbind.2", "finpay.inquiry", "netzme.forgot_pin"} {
		service := documented[call].service
		rows = append(rows, row{call: call, status: 200, outcome: "succeeded"}) // the platform's own answer
		rows = append(rows, parse(t, snapCases, call, service)...)
	}
	// The document's table and its sample disagree; the sandbox answers as the sample.
	rows = append(rows, row{call: "finpay.reset_pin", status: 200, code: "2000000", outcome: "succeeded"},
		row{call: "prepaid.reset_pin", status: 200, outcome: "succeeded"})
	rows = append(rows, parse(t, prepaidCases, "prepaid.reset_pin", "")...)
	for i := range rows {
		rows[i].n = i
	}
	return rows
}
