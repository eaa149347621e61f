// Package upstream plays the three platforms that a Gardu kiosk talks to (Finpay, Netzme and the prepaid card platform) on loopback
// over TLS, so that a test can count what really happened on the other side of a broken link.
//
// It is written from the platforms' documents alone and imports nothing of Gardu: if the agent misreads a rule, this package must
// not misread it the same way. Where the documents are silent the choice is marked "our reading" here and in README.md.
//
// # What it checks
//
// Every request is checked completely: headers, time stamp, RSA and HMAC signatures, access token, external id, and each body field.
// What breaks a rule is refused with the code the platform would use and also recorded as a [Violation], so that a test can demand
// that there were none. A refusal that a correct client can meet (an expired token, a wrong OTP, a minimum wait) is no violation.
//
// # What it counts
//
// An [Effect] is something that happened to a customer: a PIN was reset, a link was opened, an OTP was sent. Effects are counted by
// their identity, and with deduplication off a repeated request counts twice, as it would at a platform that does not deduplicate.
// An [Exchange] is one HTTP request and the furthest [Stage] it reached, which is what decides whether a client may repeat it.
//
// # What it never keeps
//
// No PIN, OTP, access token or secret enters the ledger. A PIN leaves only sha256(salt||pin), with the salt given in the
// configuration, so that a test which knows the PIN can check that the right one arrived.
//
// # How it misbehaves
//
// Faults ([Fault]) are set while it runs, per platform and operation. A fault with an effect waits for a request that passes every
// check; a fault without one takes the next matching request, whatever is in it.
//
// HTTP/1.1 only: with one request per connection at a time, "the connection broke at byte N" has one meaning.
package upstream
