package txn

// Reason is our own word for why a request is where it is. Reasons are stored,
// counted and mapped to texts for the customer and the operator; the provider's
// own code stands beside it in Code.
type Reason string

// Reasons of a request that waits to be sent.
const (
	ReasonLinkDown       Reason = "link_down"       // no connection, or TLS did not come about
	ReasonLinkUntrusted  Reason = "link_untrusted"  // the other side's certificate is not trusted
	ReasonThrottled      Reason = "throttled"       // the provider asked us to slow down
	ReasonTokenInvalid   Reason = "token_invalid"   // the access token was refused; a new one is fetched
	ReasonAuthRefused    Reason = "auth_refused"    // signature, client or clock refused; the provider is held
	ReasonClockCorrected Reason = "clock_corrected" // our clock was off; the offset has been learned
	ReasonKeystore       Reason = "keystore"        // the token cannot sign at the moment
	ReasonProviderHeld   Reason = "provider_held"   // an operator or a fault holds this provider
)

// Reasons of a doubt.
const (
	ReasonNoAnswer      Reason = "no_answer"      // the connection broke or timed out after bytes left
	ReasonServerError   Reason = "server_error"   // 5xx
	ReasonUnreadable    Reason = "unreadable"     // the answer could not be understood or trusted
	ReasonUnlisted      Reason = "unlisted"       // a code that no document lists
	ReasonRestart       Reason = "restart"        // the agent stopped between attempt and answer
	ReasonDuplicateID   Reason = "duplicate_id"   // the provider has seen this external id today
	ReasonDuplicateRef  Reason = "duplicate_ref"  // the provider says this reference already succeeded, but we never sent it
	ReasonEchoMismatch  Reason = "echo_mismatch"  // the answer is not to our request
	ReasonInProgress    Reason = "in_progress"    // the provider is still working on it
	ReasonJournalBehind Reason = "journal_behind" // the journal is older than what it once was
)

// Reasons of a request that waits for the customer.
const (
	ReasonOTPWanted Reason = "otp_wanted"
	ReasonOTPWrong  Reason = "otp_wrong"
	ReasonLinkOpen  Reason = "link_open"
	// ReasonCodeWanted: the account is linked, and the code that the customer's page
	// ended with is still to be brought, as long as it lives.
	ReasonCodeWanted Reason = "code_wanted"
)

// Reasons of a no.
const (
	ReasonRefused       Reason = "refused"        // a definite no without a word of our own
	ReasonBadField      Reason = "bad_field"      // the provider refuses the format or content of a field
	ReasonTooMany       Reason = "too_many"       // the customer asked too often
	ReasonNotFound      Reason = "not_found"      // no such customer, card or account
	ReasonBlocked       Reason = "blocked"        // card or account blocked, dormant, suspended, expired
	ReasonNotAllowed    Reason = "not_allowed"    // this feature is not open to this bank or customer
	ReasonMisconfigured Reason = "misconfigured"  // merchant, bank or header not accepted: the branch's settings
	ReasonOTPBlocked    Reason = "otp_blocked"    // by the provider
	ReasonOTPLimit      Reason = "otp_limit"      // wrong as often as we allow
	ReasonOTPExpired    Reason = "otp_expired"    //
	ReasonAlreadyLinked Reason = "already_linked" // nothing to bind
	ReasonNotLinked     Reason = "not_linked"     // nothing to unbind
	ReasonNotProcessed  Reason = "not_processed"  // read-back says that it never took effect
	ReasonBindAgain     Reason = "bind_again"     // the provider wants a customer token, and there is none that it takes
)

// Reasons of an expiry or a cancellation.
const (
	ReasonWaitedTooLong  Reason = "waited_too_long" // no link in time
	ReasonOTPTimeout     Reason = "otp_timeout"     // no one-time password in time
	ReasonLinkTimeout    Reason = "link_timeout"    // the customer did not finish the page in time
	ReasonNothingChanged Reason = "nothing_changed" // sent, but by itself without effect
	ReasonSecretLost     Reason = "secret_lost"     // the PIN's key did not survive a power loss, as designed
	ReasonByCustomer     Reason = "by_customer"     //
	ReasonByOperator     Reason = "by_operator"     //
	ReasonSuperseded     Reason = "superseded"      // a newer request of the same customer took its place
	ReasonOfflineRefused Reason = "offline_refused" // this operation may not wait for the link
)

// Reasons of the other ends.
const (
	ReasonConfirmed  Reason = "confirmed"   // read-back says that it took effect
	ReasonNoReadback Reason = "no_readback" // nothing can settle the doubt but a person
)
