package txn

import (
	"maps"
	"slices"
)

// Advice is what an operator reads about a reason.
type Advice struct {
	Means string // what it says about the request, or about the line it waits for
	Do    string // what to do, and where there is nothing to do, that
}

// Meaning is one code of a platform with what is made of it.
type Meaning struct {
	Code    string  // as the platform sends it; a part that does not count is written xx
	Says    string  // the document's own words
	Outcome Outcome //
	Reason  Reason  // "" for a plain success
	Do      string  // what to do, where the code tells more than its reason; may be empty
}

// Explainer is a Provider that knows its platform's codes. ok is false for a code
// that no document lists.
type Explainer interface {
	Explain(code string) (m Meaning, ok bool)
}

// Explanation is everything an operator is told about where a request stands.
type Explanation struct {
	Says  string `json:"says,omitempty"` // the platform's code in the document's words
	Means string `json:"means"`
	Do    string `json:"do"`
}

// Explain says why a request is where it is and what to do. It holds nothing of
// the customer's.
func (e *Engine) Explain(r *Request) Explanation {
	var p Provider
	if of := e.offer(r.Operation); of != nil {
		p = of.Provider
	}
	return explain(p, r)
}

// Explain is the explanation without a provider, who would know its own codes.
func Explain(r *Request) Explanation { return explain(nil, r) }

func explain(p Provider, r *Request) Explanation {
	var x Explanation
	a, known := Advise(r.Reason)
	if known {
		x.Means, x.Do = a.Means, a.Do
	} else {
		x.Means, x.Do = stateAdvice(r.State)
	}
	if r.Code == "" {
		return x
	}
	ex, ok := p.(Explainer)
	if !ok {
		return x
	}
	m, listed := ex.Explain(r.Code)
	switch {
	case !listed:
		x.Says = "a code that no document lists"
	case m.Reason == r.Reason && m.Do != "":
		x.Says, x.Do = m.Says, m.Do
	default:
		x.Says = m.Says
	}
	return x
}

// stateAdvice is for a request without a reason: one that goes its usual way.
func stateAdvice(s State) (means, do string) {
	switch s {
	case Queued:
		return "It is on disk and nothing of it has been sent.", "Nothing: it goes out by itself."
	case Sending:
		return "It is being sent at this moment.", "Nothing: wait for the answer."
	case Pending:
		return "The provider, or the customer, has something left to do.", "Nothing: it is asked about by itself."
	case InDoubt:
		return "It was sent and nobody knows the result yet.", "Do not let the customer repeat it; see the provider's side if it stays so."
	case Succeeded:
		return "The provider accepted it.", "Nothing."
	case Rejected:
		return "The provider said no; nothing changed.", "Nothing: the customer can ask again."
	case Expired:
		return "Its time ran out; nothing changed.", "Nothing: the customer can ask again."
	case Cancelled:
		return "It was withdrawn before anything was sent.", "Nothing."
	case Unresolved:
		return "It was sent, and the result could not be found out.", "Find out from the provider, and close it with 'gardu queue resolve'."
	}
	return "This state is not known to this release.", "Install the release that wrote it."
}

// Advise is what an operator reads about a reason. ok is false for no reason and
// for one of another release.
func Advise(r Reason) (a Advice, ok bool) {
	a, ok = advice[r]
	return a, ok
}

const (
	doNothing  = "Nothing: it is tried again by itself."
	doSettings = "Run 'gardu check', correct the setting that it names, and lift a hold with 'gardu queue release'."
	doFindOut  = "Do not let the customer repeat it. It is asked about by itself where that is possible; else find out from the provider and close it with 'gardu queue resolve'."
	doCustomer = "Nothing at the machine: the customer can mend it and ask again."
)

var advice = map[Reason]Advice{
	ReasonLinkDown:       {"The provider cannot be reached; nothing of this request was sent.", "Check the network: 'gardu check' says at which step it ends. It goes out by itself once the line is back."},
	ReasonLinkUntrusted:  {"The other side's certificate is not the provider's, or cannot be checked; nothing was sent.", "Run 'gardu check'. If the provider changed its certificate, correct tls.ca_file or the pinned key; if not, somebody stands in between: tell security."},
	ReasonThrottled:      {"The provider asked us to slow down and did not process the call.", doNothing},
	ReasonTokenInvalid:   {"The provider refused an access token and did not process the call; a new one is fetched.", "Nothing at first. If it returns, another kiosk may share this client id: ask the provider for one client id per kiosk."},
	ReasonAuthRefused:    {"The provider refused our signature or client, so its line is held; nothing was processed.", doSettings},
	ReasonClockCorrected: {"This machine's clock was off; the provider's time is used.", "Set this machine's time service right."},
	ReasonKeystore:       {"The token cannot sign at the moment; nothing was sent.", "Run 'gardu check' and do what it says of the token."},
	ReasonProviderHeld:   {"The provider's line is held; nothing was sent.", doSettings},

	ReasonNoAnswer:      {"The connection broke or timed out after the request left. It may have had its effect.", doFindOut},
	ReasonServerError:   {"The provider failed while it handled the request. It may have had its effect.", doFindOut},
	ReasonUnreadable:    {"The answer could not be understood or trusted. The request may have had its effect.", doFindOut},
	ReasonUnlisted:      {"The answer carries a code that no document lists. The request may have had its effect.", "Ask the provider what the code means and report it. " + doFindOut},
	ReasonRestart:       {"The machine stopped between sending and the answer. The request may have had its effect.", doFindOut},
	ReasonDuplicateID:   {"The provider has seen this external id today: an earlier copy arrived, with an unknown result.", doFindOut},
	ReasonDuplicateRef:  {"The provider says that this reference already succeeded.", "If we never sent it before, another kiosk has this one's number or the journal was put back from a copy: compare kiosk.number over the kiosks. " + doFindOut},
	ReasonEchoMismatch:  {"The answer was not to this request. The request may have had its effect.", "Report it to the provider. " + doFindOut},
	ReasonInProgress:    {"The provider is still working on it.", "Nothing: it is asked about by itself."},
	ReasonJournalBehind: {"The journal was put back from a copy, so what it calls unsent may have been sent.", doFindOut},

	ReasonOTPWanted:  {"The provider sent the customer a one-time password and waits for it.", "Nothing: without it the request ends by itself, and nothing changes."},
	ReasonOTPWrong:   {"The one-time password was wrong; the customer may try again.", "Nothing."},
	ReasonLinkOpen:   {"The customer is on their own page.", "Nothing: the result is asked for by itself."},
	ReasonCodeWanted: {"The account is linked; the code that the customer's page showed at the end has not been brought yet.", "Type the code at the kiosk, or let it end: the account stays linked, and what needs a customer token has to bind again."},

	ReasonRefused:       {"The provider refused it; nothing changed.", "Read the provider's code beside it; the customer asks the provider for the cause."},
	ReasonBadField:      {"The provider does not accept the form or content of a field; nothing changed.", "The customer checks what was entered. If it was right, report the code: the provider's field rules differ from ours."},
	ReasonTooMany:       {"The customer asked too often; nothing changed.", doCustomer},
	ReasonNotFound:      {"The provider knows no such customer, card or account; nothing changed.", doCustomer},
	ReasonBlocked:       {"The card or account is blocked, dormant, suspended or expired; nothing changed.", "The customer turns to the provider."},
	ReasonNotAllowed:    {"This feature is not open to this bank or this customer; nothing changed.", "If it happens to every customer, ask the provider to open the feature for the bank."},
	ReasonMisconfigured: {"The provider does not accept this branch's settings; nothing changed.", doSettings},
	ReasonOTPBlocked:    {"The one-time password is blocked after too many wrong ones; nothing changed.", "The customer begins again later, or turns to the provider."},
	ReasonOTPLimit:      {"The one-time password was wrong as often as the kiosk allows; nothing changed.", "The customer begins again: the first call sends a new one."},
	ReasonOTPExpired:    {"The one-time password was too old; nothing changed.", "The customer begins again: the first call sends a new one."},
	ReasonAlreadyLinked: {"The account was linked before; there was nothing to do.", "Nothing."},
	ReasonNotLinked:     {"The account is not linked; there was nothing to undo.", "Nothing."},
	ReasonNotProcessed:  {"Asked afterwards, the provider says that it never took effect.", "Nothing: the customer can ask again."},
	ReasonBindAgain:     {"The provider wants this customer's token, and there is none that it takes; nothing changed.", "The customer links the account at the kiosk once more, and brings the code that the page shows at the end."},

	ReasonWaitedTooLong:  {"There was no line in time, so it was dropped unsent.", "Look at the line with 'gardu check'."},
	ReasonOTPTimeout:     {"No one-time password came in time; nothing changed.", "Nothing: the customer can begin again."},
	ReasonLinkTimeout:    {"The customer did not finish their page in time; nothing changed.", "Nothing: the customer can begin again."},
	ReasonNothingChanged: {"It was sent, but by itself it changes nothing.", "Nothing: the customer can begin again."},
	ReasonSecretLost:     {"The key of its PIN did not survive a power loss, as designed; it was not sent.", "Nothing: the customer can begin again."},
	ReasonByCustomer:     {"The customer cancelled it before anything was sent.", "Nothing."},
	ReasonByOperator:     {"An operator cancelled it before anything was sent.", "Nothing."},
	ReasonSuperseded:     {"A newer request of the same customer took its place; it was never sent.", "Nothing."},
	ReasonOfflineRefused: {"It may not wait for the line, and the line was down; nothing was kept.", "Look at the line with 'gardu check'."},

	ReasonConfirmed:  {"Asked afterwards, the provider says that it took effect.", "Nothing."},
	ReasonNoReadback: {"It was sent, and nothing but a person can find out the result.", "Find out from the provider, and close it with 'gardu queue resolve'."},
}

// Reasons are all reasons, in alphabetical order.
func Reasons() []Reason { return slices.Sorted(maps.Keys(advice)) }
