package snap

import (
	"net/http"
	"strconv"

	"gardu/internal/txn"
)

// act is what has to be mended besides the outcome.
type act string

const (
	actNone     act = ""
	actToken    act = "token"    // get a new access token
	actCustomer act = "customer" // the customer's token was refused or is wanted
	actClock    act = "clock"    // compare the clocks, else hold the provider
	actThrottle act = "throttle" // wait as long as the answer says
	actSeenRef  act = "seen_ref" // compare with our own earlier attempts
	actCooldown act = "cooldown" // the customer has to wait
	actSettings act = "settings" // an operator has to look at the settings
	actOTP      act = "otp"      // the one-time password was wrong or is missing
)

// verdict is what a status and a case mean, before the operation looks at it.
type verdict struct {
	outcome txn.Outcome
	reason  txn.Reason
	act     act
}

// row is one line of the table.
type row struct {
	status int
	kase   string // the last two digits of the response code
	verdict
}

// table is the standard's list of cases with their meaning: docs/providers.md,
// "What an answer means". What is not in it is unknown. 403 00 (transaction
// expired) is left out on purpose: the agreed reading counts it neither as a
// definite no nor as not processed.
var table = []row{
	{200, "00", verdict{txn.HasSucceeded, "", actNone}},
	{202, "00", verdict{txn.WentPending, txn.ReasonInProgress, actNone}},

	{400, "00", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{400, "01", verdict{txn.WasRejected, txn.ReasonBadField, actNone}},
	{400, "02", verdict{txn.WasRejected, txn.ReasonBadField, actNone}},

	{401, "00", verdict{txn.NotSent, txn.ReasonAuthRefused, actClock}},
	{401, "01", verdict{txn.NotSent, txn.ReasonTokenInvalid, actToken}},
	{401, "02", verdict{txn.WasRejected, txn.ReasonMisconfigured, actCustomer}},
	{401, "03", verdict{txn.NotSent, txn.ReasonTokenInvalid, actToken}},
	{401, "04", verdict{txn.WasRejected, txn.ReasonMisconfigured, actCustomer}},

	{403, "01", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}},
	{403, "02", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "03", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "04", verdict{txn.WasRejected, txn.ReasonTooMany, actCooldown}},
	{403, "05", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "06", verdict{txn.NotSent, txn.ReasonThrottled, actThrottle}},
	{403, "07", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}},
	{403, "08", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}},
	{403, "09", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}},
	{403, "10", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "11", verdict{txn.WasRejected, txn.ReasonOTPBlocked, actNone}},
	{403, "12", verdict{txn.WasRejected, txn.ReasonOTPExpired, actNone}},
	{403, "13", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "14", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "15", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}},
	{403, "16", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}},
	{403, "17", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "18", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}},
	{403, "19", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{403, "20", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "21", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "22", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{403, "23", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},

	{404, "00", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "01", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}},
	{404, "02", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{404, "03", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}},
	{404, "04", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "05", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{404, "06", verdict{txn.WasRejected, txn.ReasonOTPWanted, actOTP}},
	{404, "07", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}},
	{404, "08", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{404, "09", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "10", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "11", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}},
	{404, "12", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "13", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "14", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "15", verdict{txn.WasRejected, txn.ReasonOTPWrong, actOTP}},
	{404, "16", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{404, "17", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{404, "18", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},
	{404, "19", verdict{txn.WasRejected, txn.ReasonRefused, actNone}},

	{405, "00", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},
	{405, "01", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}},

	{409, "00", verdict{txn.Unknown, txn.ReasonDuplicateID, actNone}},
	{409, "01", verdict{txn.Unknown, txn.ReasonDuplicateRef, actSeenRef}},

	{429, "00", verdict{txn.NotSent, txn.ReasonThrottled, actThrottle}},

	{500, "00", verdict{txn.Unknown, txn.ReasonServerError, actNone}},
	{500, "01", verdict{txn.Unknown, txn.ReasonServerError, actNone}},
	{500, "02", verdict{txn.Unknown, txn.ReasonServerError, actNone}},
	{504, "00", verdict{txn.Unknown, txn.ReasonServerError, actNone}},
}

// judge says what an answer with this HTTP status and response code means. The
// middle two digits (the service) are ignored: the documents themselves disagree
// about them. code is "" where the answer has none or is not readable.
func judge(status int, code string) verdict {
	codeStatus, kase, ok := splitCode(code)
	if !ok {
		return judgeBare(status, code)
	}
	v := lookup(codeStatus, kase)
	if codeStatus == status {
		return v
	}
	switch v.act {
	case actToken, actClock, actThrottle, actCustomer:
		// One half says "not processed", the other says something else: not certain
		// enough to send it again. A token that may be bad is replaced all the same.
		v.outcome, v.reason = txn.WasRejected, txn.ReasonRefused
		if v.act != actToken {
			v.act = actNone
		}
	case actSeenRef:
		v.reason, v.act = txn.ReasonUnlisted, actNone
	case actNone, actCooldown, actSettings, actOTP:
	}
	if h := byStatus(status); caution(h.outcome) < caution(v.outcome) {
		return h
	}
	return v
}

// judgeBare is judge for an answer without a readable response code. A throttle
// is the one thing that a gateway in front of the platform can say by itself.
func judgeBare(status int, code string) verdict {
	switch {
	case status == http.StatusTooManyRequests && code == "":
		return verdict{txn.NotSent, txn.ReasonThrottled, actThrottle}
	case status >= 500:
		return verdict{txn.Unknown, txn.ReasonServerError, actNone}
	case code != "":
		return verdict{txn.Unknown, txn.ReasonUnlisted, actNone}
	}
	return verdict{txn.Unknown, txn.ReasonUnreadable, actNone}
}

func lookup(status int, kase string) verdict {
	for _, r := range table {
		if r.status == status && r.kase == kase {
			return r.verdict
		}
	}
	if status >= 500 {
		return verdict{txn.Unknown, txn.ReasonServerError, actNone}
	}
	return verdict{txn.Unknown, txn.ReasonUnlisted, actNone}
}

// byStatus is what an HTTP status says alone, for the comparison with a code that
// disagrees.
func byStatus(status int) verdict {
	switch {
	case status == http.StatusOK:
		return verdict{txn.HasSucceeded, "", actNone}
	case status == http.StatusAccepted:
		return verdict{txn.WentPending, txn.ReasonInProgress, actNone}
	case status >= 500:
		return verdict{txn.Unknown, txn.ReasonServerError, actNone}
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status < 400:
		return verdict{txn.Unknown, txn.ReasonUnlisted, actNone}
	}
	return verdict{txn.WasRejected, txn.ReasonRefused, actNone}
}

// caution orders outcomes: unknown before pending before rejected before success.
func caution(o txn.Outcome) int {
	switch o {
	case txn.Unknown:
		return 0
	case txn.WentPending:
		return 1
	case txn.WasRejected, txn.NotSent:
		return 2
	case txn.HasSucceeded:
		return 3
	}
	return 0
}

// splitCode takes a response code apart: HTTP status (3), service (2), case (2).
func splitCode(code string) (status int, kase string, ok bool) {
	if len(code) != 7 {
		return 0, "", false
	}
	for _, c := range []byte(code) {
		if c < '0' || c > '9' {
			return 0, "", false
		}
	}
	status, err := strconv.Atoi(code[:3])
	return status, code[5:], err == nil
}
