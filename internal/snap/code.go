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

// row is one line of the table: class, case, what is made of it, and what an
// operator is to do where that is more than the reason's own advice. The reason is
// also the key of the customer's words, which are the screen's.
type row struct {
	status int
	kase   string // the last two digits of the response code
	says   string // in the standard's words
	verdict
	do string
}

// table is the standard's list of cases with their meaning: docs/providers.md,
// "What an answer means". What is not in it is unknown; so is 403 00, which the
// agreed reading counts neither as a definite no nor as not processed.
var table = []row{
	{200, "00", "Successful", verdict{txn.HasSucceeded, "", actNone}, ""},
	{202, "00", "Request In Progress", verdict{txn.WentPending, txn.ReasonInProgress, actNone}, ""},

	{400, "00", "Bad Request", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, "Report the time and our reference to the provider: it could not read our request."},
	{400, "01", "Invalid Field Format", verdict{txn.WasRejected, txn.ReasonBadField, actNone}, ""},
	{400, "02", "Invalid Mandatory Field", verdict{txn.WasRejected, txn.ReasonBadField, actNone}, "Report the field named in the provider's message: its documents do not demand it of us."},

	{401, "00", "Unauthorized. [Reason]", verdict{txn.NotSent, txn.ReasonAuthRefused, actClock}, ""},
	{401, "01", "Invalid Token (B2B)", verdict{txn.NotSent, txn.ReasonTokenInvalid, actToken}, ""},
	{401, "02", "Invalid Customer Token", verdict{txn.WasRejected, txn.ReasonMisconfigured, actCustomer}, "Ask the provider whether this operation wants a customer token, and set customer_token accordingly."},
	{401, "03", "Token Not Found (B2B)", verdict{txn.NotSent, txn.ReasonTokenInvalid, actToken}, ""},
	{401, "04", "Customer Token Not Found", verdict{txn.WasRejected, txn.ReasonMisconfigured, actCustomer}, "Ask the provider whether this operation wants a customer token, and set customer_token accordingly."},

	{403, "00", "Transaction Expired", verdict{txn.Unknown, txn.ReasonUnlisted, actNone}, "Ask the provider whether this request was processed: the standard lists the code and does not say."},
	{403, "01", "Feature Not Allowed", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}, "Ask the provider to open this feature for the bank's client id."},
	{403, "02", "Exceeds Transaction Amount Limit", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "03", "Suspected Fraud", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, "The customer turns to the provider, which suspects misuse of the account."},
	{403, "04", "Activity Count Limit Exceeded", verdict{txn.WasRejected, txn.ReasonTooMany, actCooldown}, ""},
	{403, "05", "Do Not Honor", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "06", "Feature Not Allowed At This Time", verdict{txn.NotSent, txn.ReasonThrottled, actThrottle}, "Nothing: the provider's cut-off time; it goes out by itself within its time to live."},
	{403, "07", "Card Blocked", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}, ""},
	{403, "08", "Card Expired", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}, ""},
	{403, "09", "Dormant Account", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}, ""},
	{403, "10", "Need To Set Token Limit", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "11", "OTP Blocked", verdict{txn.WasRejected, txn.ReasonOTPBlocked, actNone}, ""},
	{403, "12", "OTP Lifetime Expired", verdict{txn.WasRejected, txn.ReasonOTPExpired, actNone}, ""},
	{403, "13", "OTP Sent To Cardholder", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "14", "Insufficient Funds", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "15", "Transaction Not Permitted", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}, ""},
	{403, "16", "Suspend Transaction", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}, ""},
	{403, "17", "Token Limit Exceeded", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "18", "Inactive Card/Account/Customer", verdict{txn.WasRejected, txn.ReasonBlocked, actNone}, ""},
	{403, "19", "Merchant Blacklisted", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Ask the provider why the bank's merchant id is blacklisted."},
	{403, "20", "Merchant Limit Exceed", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "21", "Set Limit Not Allowed", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "22", "Token Limit Invalid", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{403, "23", "Account Limit Exceed", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},

	{404, "00", "Invalid Transaction Status", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "01", "Transaction Not Found", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}, ""},
	{404, "02", "Invalid Routing", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Ask the provider how calls of this bank are routed; compare partner_id and channel_id."},
	{404, "03", "Bank Not Supported By Switch", verdict{txn.WasRejected, txn.ReasonNotAllowed, actNone}, ""},
	{404, "04", "Transaction Cancelled", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "05", "Merchant Is Not Registered For Card Registration Services", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Ask the provider to register the bank's merchant id for binding."},
	{404, "06", "Need To Request OTP", verdict{txn.WasRejected, txn.ReasonOTPWanted, actOTP}, ""},
	{404, "07", "Journey Not Found", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}, ""},
	{404, "08", "Invalid Merchant", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Compare merchant_id with what the provider gave."},
	{404, "09", "No Issuer", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "10", "Invalid API Transition", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "11", "Invalid Card/Account/Customer", verdict{txn.WasRejected, txn.ReasonNotFound, actNone}, ""},
	{404, "12", "Invalid Bill/Virtual Account", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "13", "Invalid Amount", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "14", "Paid Bill", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "15", "Invalid OTP", verdict{txn.WasRejected, txn.ReasonOTPWrong, actOTP}, ""},
	{404, "16", "Partner Not Found", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Compare partner_id and client_id with what the provider gave."},
	{404, "17", "Invalid Terminal", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Compare channel_id and device_id with what the provider gave."},
	{404, "18", "Inconsistent Request", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},
	{404, "19", "Invalid Bill/Virtual Account (expired)", verdict{txn.WasRejected, txn.ReasonRefused, actNone}, ""},

	{405, "00", "Requested Function Is Not Supported", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Compare the operation's path with the provider's document."},
	{405, "01", "Requested Operation Is Not Allowed", verdict{txn.WasRejected, txn.ReasonMisconfigured, actSettings}, "Compare the operation's path with the provider's document."},

	{409, "00", "Conflict (the same external id on the same day)", verdict{txn.Unknown, txn.ReasonDuplicateID, actNone}, ""},
	{409, "01", "Duplicate partnerReferenceNo", verdict{txn.Unknown, txn.ReasonDuplicateRef, actSeenRef}, ""},

	{429, "00", "Too Many Requests", verdict{txn.NotSent, txn.ReasonThrottled, actThrottle}, ""},

	{500, "00", "General Error", verdict{txn.Unknown, txn.ReasonServerError, actNone}, ""},
	{500, "01", "Internal Server Error", verdict{txn.Unknown, txn.ReasonServerError, actNone}, ""},
	{500, "02", "External Server Error", verdict{txn.Unknown, txn.ReasonServerError, actNone}, ""},
	{504, "00", "Timeout", verdict{txn.Unknown, txn.ReasonServerError, actNone}, ""},
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
