package ui

// State names one screen of the table. The names are spoken on the protocol.
type State string

// The screens. What each one shows, may do and how long it stays is in Screens.
const (
	Boot         State = "BOOT"
	OutOfService State = "OUT_OF_SERVICE"
	Attract      State = "ATTRACT"
	Home         State = "HOME"
	Consent      State = "CONSENT"
	Ident        State = "IDENT"
	Verify       State = "VERIFY"
	PIN          State = "PIN"
	PINAgain     State = "PIN_AGAIN"
	Review       State = "REVIEW"
	OfferQueue   State = "OFFER_QUEUE"
	Submit       State = "SUBMIT"
	Working      State = "WORKING"
	Queued       State = "QUEUED"
	Pending      State = "PENDING"
	BindQR       State = "BIND_QR"
	OTP          State = "OTP"
	OTPBad       State = "OTP_BAD"
	OTPExpired   State = "OTP_EXPIRED"
	OTPLocked    State = "OTP_LOCKED"
	Done         State = "DONE"
	Fail         State = "FAIL"
	Expired      State = "EXPIRED"
	Cancelled    State = "CANCELLED"
	Unresolved   State = "UNRESOLVED"
	Unsure       State = "UNSURE"
	Cooldown     State = "COOLDOWN"
	Limit        State = "LIMIT"
	Full         State = "FULL"
	Receipt      State = "RECEIPT"
	Goodbye      State = "GOODBYE"

	// The operator's; see Operator.
	OpLogin   State = "OP_LOGIN"
	OpHome    State = "OP_HOME"
	OpQueue   State = "OP_QUEUE"
	OpRequest State = "OP_REQUEST"
	OpTest    State = "OP_TEST"
	OpDrain   State = "OP_DRAIN"
	OpExit    State = "OP_EXIT"
)

// Overlays lie over a screen. STILL_THERE is opened by the agent, OFFLINE is
// the banner that goes with the network document, AGENT_LOST is made by the page.
const (
	StillThere = "STILL_THERE"
	Offline    = "OFFLINE"
	AgentLost  = "AGENT_LOST"
)

// Lang is one of the two languages of every text.
type Lang string

// The languages. Indonesian is the default and comes back after each wipe.
const (
	Indonesian Lang = "id"
	English    Lang = "en"
)

// Tone says which of the colours, signs and code letters a screen wears, so that
// "nothing was sent yet", "the result is not known" and "nothing changed" can
// never be taken for each other.
type Tone string

// The tones.
const (
	ToneCalm    Tone = "calm"    // a step on the way
	ToneWorking Tone = "working" // something is going on
	ToneQueued  Tone = "queued"  // nothing was sent yet
	ToneDoubt   Tone = "doubt"   // it was sent; the result is not known
	ToneWaiting Tone = "waiting" // the provider, or the customer, has something left to do
	ToneDone    Tone = "done"    // the provider said yes
	ToneFailed  Tone = "failed"  // somebody said no; nothing changed
	ToneNothing Tone = "nothing" // nobody said no; nothing was sent, or it changed nothing
	ToneHalted  Tone = "halted"  // the kiosk itself cannot serve
)

// letter is the first letter of the code that a screen of this tone shows. Staff
// hear it over the phone, so no two tones that matter share one.
func (t Tone) letter() string {
	switch t {
	case ToneQueued:
		return "Q"
	case ToneDoubt:
		return "D"
	case ToneWaiting, ToneWorking:
		return "P"
	case ToneDone:
		return "S"
	case ToneFailed:
		return "F"
	case ToneNothing:
		return "N"
	case ToneHalted:
		return "X"
	case ToneCalm:
	}
	return ""
}
